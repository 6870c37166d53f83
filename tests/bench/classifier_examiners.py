#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py as somebody writes them who examines it: plain models of the usual
kinds with the usual loops around them, all written before one of them was run; what they had at the
first try is in RESULTS.md. Each is a function of its ways."""

import concurrent.futures
import copy
import io
import math
import os

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune, rnn
from torch.utils.data import DataLoader, Dataset

from classifier_loops import trained


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                            nn.BatchNorm2d(outputs))

    def forward(self, x):
        short = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + short)


class ResNet18(nn.Module):
    def __init__(self, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(*[
            nn.Sequential(BasicBlock(a, b, 1 if a == b else 2), BasicBlock(b, b))
            for a, b in ((64, 64), (64, 128), (128, 256), (256, 512))])
        self.fc = nn.Linear(512, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.pool(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layers(x).mean((2, 3)))


def checkpoint(ways):
    """A ResNet-18 whose weights were saved before: a second model reads them, warms up with a batch
    of one, and then answers batches of 32."""
    path = f"classifier-{os.getpid()}.pt"
    torch.save(ResNet18().state_dict(), path)
    model = ResNet18()
    model.load_state_dict(torch.load(path, map_location="cpu"))
    os.unlink(path)
    if "channels-last" in ways:
        model = model.to(memory_format=torch.channels_last)
    if "bfloat16" in ways:
        model = model.to(torch.bfloat16)
    model.eval()
    layout = torch.channels_last if "channels-last" in ways else torch.contiguous_format
    kind = torch.bfloat16 if "bfloat16" in ways else torch.float32

    def step_of(step):
        with torch.inference_mode():
            x = torch.randn(1 if step == 0 else 32, 3, 64, 64)
            return model(x.to(dtype=kind, memory_format=layout)).argmax(1)
    return [model], step_of


class PositionalEncoding(nn.Module):
    def __init__(self, width, dropout=0.1, longest=5000):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        position = torch.arange(longest).unsqueeze(1)
        scale = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        table = torch.zeros(1, longest, width)
        table[0, :, 0::2] = torch.sin(position * scale)
        table[0, :, 1::2] = torch.cos(position * scale)
        self.register_buffer("table", table)

    def forward(self, x):
        return self.dropout(x + self.table[:, :x.shape[1]])


class Sentiment(nn.Module):
    """An encoder with a mask for what is padded; the mean of what is not is classified."""

    def __init__(self, words=20000, width=256, layers=4):
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.position = PositionalEncoding(width)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, 0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(width, 2)

    def forward(self, tokens):
        padding = tokens == 0
        x = self.position(self.embedding(tokens) * math.sqrt(self.width))
        x = self.encoder(x, src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(-1).float()
        return self.head((x * kept).sum(1) / kept.sum(1))


def sentences(words, batch, longest):
    lengths = torch.randint(5, longest + 1, (batch,))
    return rnn.pad_sequence([torch.randint(1, words, (int(n),)) for n in lengths],
                            batch_first=True)


def sentiment(ways):
    """Inference with the gradient's graph, as who forgets no_grad() does it; or training."""
    model = Sentiment()
    kind = torch.optim.Adam if "adam" in ways else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=1e-3)

    def learn(step):
        model.train()
        tokens = sentences(20000, 16, 40 + 5 * step)
        loss = functional.cross_entropy(model(tokens), torch.randint(0, 2, (16,)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def answer(step):
        return model(sentences(20000, 8, 30 + 20 * step)).softmax(-1)
    return [model], trained(learn if "train" in ways else answer)


class Translator(nn.Module):
    def __init__(self, words=10000, width=256):
        super().__init__()
        self.source, self.target = nn.Embedding(words, width), nn.Embedding(words, width)
        self.position = PositionalEncoding(width, longest=512)
        self.transformer = nn.Transformer(width, 8, 3, 3, 1024, batch_first=True)
        self.generator = nn.Linear(width, words)

    def encode(self, tokens):
        return self.transformer.encoder(self.position(self.source(tokens)))

    def decode(self, tokens, memory):
        mask = self.transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.transformer.decoder(self.position(self.target(tokens)), memory, tgt_mask=mask)


def translator(ways):
    """A sentence a step, word by word, the likeliest each time; or training with teacher forcing
    and a rate that warms up."""
    model = Translator()
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda at: 256 ** -0.5 * min((at + 1) ** -0.5, (at + 1) * 4000 ** -1.5))

    def greedy(step):
        memory = model.encode(torch.randint(0, 10000, (1, 12 + 3 * step)))
        found = torch.ones(1, 1, dtype=torch.long)
        for _ in range(15):
            out = model.generator(model.decode(found, memory)[:, -1])
            found = torch.cat([found, out.argmax(-1, keepdim=True)], 1)
        return found

    def learn(step):
        model.train()
        source = torch.randint(0, 10000, (8, 20 + step))
        target = torch.randint(0, 10000, (8, 18 + step))
        out = model.generator(model.decode(target[:, :-1], model.encode(source)))
        optimizer.zero_grad()
        functional.cross_entropy(out.flatten(0, 1), target[:, 1:].flatten()).backward()
        optimizer.step()
        schedule.step()
    return [model], trained(learn) if "train" in ways else greedy


class Tagger(nn.Module):
    def __init__(self, words=15000, width=200, tags=20):
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.lstm = nn.LSTM(width, 256, num_layers=2, batch_first=True, bidirectional=True,
                            dropout=0.3)
        self.head = nn.Linear(512, tags)

    def forward(self, tokens, lengths):
        packed = rnn.pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True,
                                          enforce_sorted=False)
        out, _ = rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(out)


def tagger(ways):
    """A bidirectional LSTM over packed sentences; every second step of training is followed by an
    evaluation."""
    model = Tagger()
    kinds = {"adagrad": torch.optim.Adagrad, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    kind = next((kinds[way] for way in ways if way in kinds), torch.optim.SGD)
    optimizer = kind(model.parameters(), lr=0.01)

    def batch_of(step):
        tokens = sentences(15000, 32, 25 + step)
        lengths = (tokens != 0).sum(1)
        return tokens, lengths, torch.randint(0, 20, (32, int(lengths.max())))

    def evaluate(step):
        model.eval()
        with torch.no_grad():
            tokens, lengths, tags = batch_of(step)
            return float((model(tokens, lengths).argmax(-1) == tags).float().mean())

    def learn(step):
        model.train()
        tokens, lengths, tags = batch_of(step)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(tokens, lengths).transpose(1, 2), tags)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 2 == 1:
            evaluate(step)
    return [model], trained(learn) if "train" in ways else evaluate


class Pictures(Dataset):
    """Pictures made when they are asked for, as a test's data set does."""

    def __len__(self):
        return 4096

    def __getitem__(self, at):
        return torch.randn(3, 96, 96), at % 100


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expand):
        super().__init__()
        inner = inputs * expand
        self.is_residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(inplace=True),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return x + self.body(x) if self.is_residual else self.body(x)


class MobileNet(nn.Module):
    def __init__(self, classes=100):
        super().__init__()
        layers, inputs = [nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU6()], 32
        for expand, width, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2),
                                             (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                                             (6, 320, 1, 1)):
            for i in range(count):
                layers.append(InvertedResidual(inputs, width, stride if i == 0 else 1, expand))
                inputs = width
        layers += [nn.Conv2d(inputs, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def epochs(ways):
    """A MobileNet or a ResNet-18 trained with momentum from a loader, with a checkpoint after each
    second batch and a rate that falls."""
    model = ResNet18(100) if "resnet" in ways else MobileNet()
    loader = DataLoader(Pictures(), batch_size=32, shuffle=True,
                        num_workers=2 if "workers" in ways else 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
    batches = iter(loader)

    def learn(step):
        model.train()
        pictures, labels = next(batches)
        loss = functional.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 2 == 1:
            file = io.BytesIO()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
            schedule.step()
    return [model], trained(learn)


class Recurrent(nn.Module):
    def __init__(self, kind=nn.GRU, words=12000, width=400, layers=2):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.rnn = kind(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, words)

    def forward(self, tokens, state=None):
        out, state = self.rnn(self.embedding(tokens), state)
        return self.head(out), state


def typist(ways):
    """A language model with GRU or LSTM that is trained with truncated backpropagation; or that
    writes, a word a step, its state handed on, perhaps quantised."""
    model = Recurrent(nn.LSTM if "lstm" in ways else nn.GRU)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    given = {"state": None, "token": torch.zeros(1, 1, dtype=torch.long)}

    def learn(step):
        model.train()
        tokens = torch.randint(0, 12000, (20, 36))
        state = given["state"]
        if state is not None:
            state = tuple(s.detach() for s in state) if "lstm" in ways else state.detach()
        out, given["state"] = model(tokens[:, :-1], state)
        loss = functional.cross_entropy(out.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none="kept" not in ways)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()

    if "train" in ways:
        return [model], trained(learn)
    if "quantised" in ways:
        model = torch.quantization.quantize_dynamic(model.eval(), {nn.LSTM, nn.GRU, nn.Linear},
                                                    dtype=torch.qint8)

    def write(_):
        out, given["state"] = model(given["token"], given["state"])
        given["token"] = torch.multinomial(out[:, -1].softmax(-1), 1)
    return [model], write


class SqueezeExcite(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 24, 1), nn.Conv2d(width // 24, width, 1)

    def forward(self, x):
        scale = functional.silu(self.down(functional.adaptive_avg_pool2d(x, 1)))
        return x * torch.sigmoid(self.up(scale))


class MbConv(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        inner = 6 * inputs
        self.is_residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.SiLU(),
            nn.Conv2d(inner, inner, 5, stride, 2, groups=inner, bias=False),
            nn.BatchNorm2d(inner), nn.SiLU(), SqueezeExcite(inner),
            nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return x + self.body(x) if self.is_residual else self.body(x)


def efficient(classes):
    layers, inputs = [nn.Conv2d(3, 32, 3, 2, 1), nn.SiLU()], 32
    for width, count, stride in ((40, 2, 2), (80, 3, 2), (160, 4, 2), (256, 3, 1)):
        for i in range(count):
            layers.append(MbConv(inputs, width, stride if i == 0 else 1))
            inputs = width
    return nn.Sequential(*layers, nn.Conv2d(inputs, 1024, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(1024, classes))


def pool(ways):
    """Three networks whose answers are averaged; four threads answer requests, with the modules as
    they are, traced, or scripted."""
    models = [efficient(1000).eval(), efficient(1000).eval(), ResNet18().eval()]
    runs = models
    if "traced" in ways:
        runs = [torch.jit.trace(model, torch.randn(1, 3, 96, 96)) for model in models]
    if "scripted" in ways:
        runs = [torch.jit.script(model) for model in models]
    threads = concurrent.futures.ThreadPoolExecutor(4)

    def answer(picture):
        with torch.no_grad():
            return torch.stack([run(picture).softmax(-1) for run in runs]).mean(0).argmax()

    def step_of(_):
        pictures = [torch.randn(1, 3, 96, 96) for _ in range(8)]
        return [int(found) for found in threads.map(answer, pictures)]
    return models, step_of


class PatchVit(nn.Module):
    def __init__(self, width=256, layers=6, side=64, patch=8, classes=200):
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, 0.1, "gelu", batch_first=True,
                                           norm_first=True)
        self.encoder, self.norm = nn.TransformerEncoder(layer, layers), nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.encoder(x))[:, 0])


def average(ways):
    """A ViT that gathers the gradients of two batches a step, beside a copy that follows it slowly
    and is evaluated after each second step."""
    model = PatchVit()
    mean = copy.deepcopy(model).eval().requires_grad_(False)
    kind = torch.optim.SGD if "sgd" in ways else torch.optim.AdamW
    optimizer = kind(model.parameters(), lr=3e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)

    def learn(step):
        model.train()
        for _ in range(2):
            pictures, labels = torch.randn(16, 3, 64, 64), torch.randint(0, 200, (16,))
            (functional.cross_entropy(model(pictures), labels, label_smoothing=0.1) / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        with torch.no_grad():
            for a, b in zip(mean.parameters(), model.parameters()):
                a.mul_(0.99).add_(b, alpha=0.01)
            if step % 2 == 1:
                mean(torch.randn(16, 3, 64, 64)).argmax(1)
    return [model, mean], trained(learn)


def successor(ways):
    """A first model answers twice and is deleted; then another is made, of another kind, or of the
    same."""
    def make(is_first):
        if is_first or "again" in ways:
            return ResNet18().eval(), lambda: torch.randn(8, 3, 96, 96)
        return Recurrent(nn.LSTM).eval(), lambda: torch.randint(0, 12000, (8, 24))

    with torch.no_grad():
        model, input_of = make(True)
        for _ in range(2):
            model(input_of())
        del model
        model, input_of = make(False)
    return [model], lambda _: model(input_of())


class Vocoder(nn.Module):
    """Convolutions with normalised weights, as what speaks has them."""

    def __init__(self, width=384):
        super().__init__()
        norm = nn.utils.weight_norm
        self.enter, inputs, layers = norm(nn.Conv1d(80, width, 7, padding=3)), width, []
        for _ in range(3):
            layers += [nn.LeakyReLU(0.1),
                       norm(nn.ConvTranspose1d(inputs, inputs // 2, 8, 4, 2))]
            inputs //= 2
            layers += [part for space in (1, 3, 5) for part in (
                nn.LeakyReLU(0.1), norm(nn.Conv1d(inputs, inputs, 7, dilation=space,
                                                  padding=3 * space)))]
        self.body, self.out = nn.Sequential(*layers), norm(nn.Conv1d(inputs, 1, 7, padding=3))

    def forward(self, x):
        return torch.tanh(self.out(functional.leaky_relu(self.body(self.enter(x)))))


def vocoder(ways):
    """Weights that are computed of a norm and a direction in each step; or, once these are taken
    away as for use, weights that were computed once. Or trained."""
    model = Vocoder()
    if "removed" in ways:
        for module in model.modules():
            if hasattr(module, "weight_g"):
                nn.utils.remove_weight_norm(module)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, betas=(0.8, 0.99))

    def learn(step):
        model.train()
        sound = model(torch.randn(4, 80, 30 + step))
        optimizer.zero_grad()
        functional.l1_loss(sound, torch.randn_like(sound)).backward()
        optimizer.step()
    return [model], (trained(learn) if "train" in ways else
                     lambda step: model(torch.randn(1, 80, 60 + 10 * step)))


def pruned(ways):
    """A multilayer perceptron with a fifth of its weights struck out, by masks or for good; or a
    dense one trained by L-BFGS."""
    model = nn.Sequential(nn.Linear(784, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(),
                          nn.Linear(2048, 512), nn.ReLU(), nn.Linear(512, 10))
    if "lbfgs" not in ways:
        for module in model:
            if isinstance(module, nn.Linear):
                prune.l1_unstructured(module, "weight", 0.2)
                if "masked" not in ways:
                    prune.remove(module, "weight")
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4, history_size=5)

    def learn(_):
        x, labels = torch.randn(64, 784), torch.randint(0, 10, (64,))

        def closure():
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), labels)
            loss.backward()
            return loss
        optimizer.step(closure)
    return [model], trained(learn) if "lbfgs" in ways else lambda _: model(torch.randn(32, 784))


PROGRAMS = {
    "checkpoint": checkpoint, "sentiment": sentiment, "translator": translator, "tagger": tagger,
    "epochs": epochs, "typist": typist, "pool": pool, "average": average, "successor": successor,
    "vocoder": vocoder, "pruned": pruned,
}
