#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py that were written when its rules had been: none was looked at while
they were made. As in classifier_programs.py, each is a function of its ways."""

import copy
import io
import os

import numpy
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

from classifier_loops import Holder, learn, optimizer_of, trained


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, width):
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x):
        mean = functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(functional.relu(self.down(mean))))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, expand=6):
        super().__init__()
        width = inputs * expand
        self.is_kept = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU(),
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.BatchNorm2d(width), nn.SiLU(), Gate(width),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return x + self.body(x) if self.is_kept else self.body(x)


def efficient():
    layers, inputs = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.SiLU()], 32
    for outputs, count, stride in ((16, 1, 1), (24, 2, 2), (40, 2, 2), (80, 3, 2), (112, 3, 1),
                                   (192, 4, 2), (320, 1, 1)):
        for i in range(count):
            layers.append(Inverted(inputs, outputs, stride if i == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280),
                         nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


def mobile(ways):
    model = efficient()
    fixed = torch.randn(4, 3, 160, 160) if "fixed" in ways else None
    return [model], lambda step: model(torch.randn(4, 3, 160, 160) if fixed is None else fixed)


class Bert(nn.Module):
    def __init__(self, width=384, layers=6, vocabulary=30522):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(512, width)
        self.kinds = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True,
                                           activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.pooler, self.out = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, tokens, pads):
        places = torch.arange(tokens.shape[1])
        x = self.words(tokens) + self.places(places) + self.kinds(torch.zeros_like(tokens))
        x = self.encoder(self.norm(x), src_key_padding_mask=pads)
        return self.out(torch.tanh(self.pooler(x[:, 0])))


def small_values(model):
    """As the released ones are."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    return model


def bert(ways):
    model = Bert()
    if "released" in ways:
        small_values(model)

    def step_of(step):
        lengths = torch.randint(8, 65, (8,))
        longest = int(lengths.max())
        tokens = torch.randint(0, 30522, (8, longest))
        return model(tokens, torch.arange(longest)[None, :] >= lengths[:, None])
    return [model], step_of


class Summariser(nn.Module):
    """Encoder, decoder, and a search of beams without a cache."""

    def __init__(self, width=256, vocabulary=10000):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.body = nn.Transformer(width, 4, 3, 3, 1024, batch_first=True)
        self.out = nn.Linear(width, vocabulary)

    def forward(self, tokens, beams=4, length=8):
        memory = self.body.encoder(self.embedding(tokens)).repeat(beams, 1, 1)
        best = torch.ones(beams, 1, dtype=torch.long)
        scores = torch.zeros(beams)
        for _ in range(length):
            mask = self.body.generate_square_subsequent_mask(best.shape[1])
            x = self.body.decoder(self.embedding(best), memory, tgt_mask=mask)
            found = torch.log_softmax(self.out(x[:, -1]), -1) + scores[:, None]
            scores, at = found.flatten().topk(beams)
            best = torch.cat([best[at // found.shape[1]], (at % found.shape[1])[:, None]], 1)
        return best


def summariser(_):
    model = Summariser()
    return [model], lambda step: model(torch.randint(0, 10000, (1, 20 + 3 * step)))


class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 64, 4, 2, 1), nn.ReLU(),
                                  nn.Conv2d(64, 128, 4, 2, 1), nn.ReLU(),
                                  nn.Conv2d(128, 256, 4, 2, 1), nn.ReLU(), nn.Flatten(),
                                  nn.Linear(256 * 64, 256))
        self.up = nn.Sequential(nn.Linear(128, 256 * 64), nn.Unflatten(1, (256, 8, 8)),
                                nn.ConvTranspose2d(256, 128, 4, 2, 1), nn.ReLU(),
                                nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.ReLU(),
                                nn.ConvTranspose2d(64, 3, 4, 2, 1))

    def forward(self, x):
        mean, spread = self.down(x).chunk(2, 1)
        return self.up(mean + torch.randn_like(mean) * torch.exp(spread / 2)), mean, spread


def vae(ways):
    model = Vae()
    optimizer = optimizer_of(model, ways) if "train" in ways else None

    def loss():
        x = torch.rand(16, 3, 64, 64)
        y, mean, spread = model(x)
        return functional.mse_loss(y, x) + (mean.pow(2) + spread.exp() - spread - 1).mean()

    def step_of(_):
        if optimizer:
            learn(optimizer, loss)
        else:
            model(torch.rand(16, 3, 64, 64))
    return [model], trained(step_of) if optimizer else step_of


def gan(ways):
    """Two models, each of which learns by the other."""
    maker, judge = Vae().up, nn.Sequential(*list(Vae().down)[:-1], nn.Linear(256 * 64, 1))
    optimizers = [optimizer_of(maker, ways), optimizer_of(judge, ways)]

    def step_of(_):
        real, fake = torch.rand(8, 3, 64, 64), maker(torch.randn(8, 128))
        learn(optimizers[1], lambda: judge(fake.detach()).mean() - judge(real).mean())
        learn(optimizers[0], lambda: -judge(maker(torch.randn(8, 128))).mean())
    if "train" in ways:
        return [maker, judge], trained(step_of)
    return [maker, judge], lambda step: judge(maker(torch.randn(8, 128)))


class Tables(nn.Module):
    """Tables of which a step takes a few rows."""

    def __init__(self, count=5, rows=100000, width=64, spread=1.0):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows + 5000 * i, width) for i in range(count))
        for table in self.tables:
            nn.init.normal_(table.weight, std=spread)
        self.top = nn.Sequential(nn.Linear(count * width, 512), nn.ReLU(), nn.Linear(512, 256),
                                 nn.ReLU(), nn.Linear(256, 1))

    def forward(self, rows):
        return self.top(torch.cat([table(r) for table, r in zip(self.tables, rows)], 1))


def tables(ways):
    model = Tables(spread=0.01 if "small" in ways else 1.0)
    batch = 4096 if "large" in ways else 64
    return [model], lambda step: model([torch.randint(0, 100000, (batch,)) for _ in range(5)])


class Adapted(nn.Module):
    """A frozen layer with an adapter of low rank."""

    def __init__(self, layer, rank=16):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, layer.in_features) * 0.02)
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + x @ self.a.T @ self.b.T


def adapters(ways):
    model = nn.Sequential(*[part for _ in range(6) for part in (
        Adapted(nn.Linear(1024, 1024), 32), nn.ReLU())])
    if "train" not in ways:
        return [model], lambda step: model(torch.randn(32, 1024))
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    return [model], trained(
        lambda step: learn(optimizer, lambda: model(torch.randn(32, 1024)).pow(2).mean()))


def scripted(_):
    model = Bert(256, 4, 8000).eval()
    graph = torch.jit.script(efficient().eval())
    return [model, graph], lambda step: (graph(torch.randn(2, 3, 128, 128)), model(
        torch.randint(0, 8000, (4, 32)), torch.zeros(4, 32, dtype=torch.bool)))


class Speaker(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.out = nn.LSTM(256, 512, 3), nn.Linear(512, 2000)

    def forward(self, x, state=None):
        y, state = self.body(x, state)
        return self.out(y[-1]), state


def streaming(ways):
    """The state goes from step to step; what was said is kept."""
    model, kept = Speaker().eval(), {"state": None, "said": []}
    if "quantised" in ways:
        model = torch.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear}, torch.qint8)

    def step_of(_):
        said, kept["state"] = model(torch.randn(10, 16, 256), kept["state"])
        kept["said"].append(said)
    return [model], step_of


def file_of(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.getvalue()


def perceptron(width=1536):
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                         nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1000))


def restored(ways):
    """From a file in memory, into a model that was made without numbers."""
    data = file_of(perceptron())
    model = perceptron()
    if "kept-file" in ways:
        model.data_kept = data
    state = torch.load(io.BytesIO(data))
    if "adopted" in ways:
        for name, value in state.items():
            module = model
            for part in name.split(".")[:-1]:
                module = getattr(module, part)
            setattr(module, name.split(".")[-1], nn.Parameter(value))
    else:
        model.load_state_dict(state)
    if "kept-state" in ways:
        model.state_kept = state
    if "double" in ways:
        model = model.double()
    dtype = torch.float64 if "double" in ways else torch.float32
    return [model], lambda step: model(torch.randn(16, 1536, dtype=dtype))


def from_arrays(_):
    """NumPy reads the weights, PyTorch uses them where they are."""
    arrays = [numpy.random.standard_normal((1024, 1024)).astype(numpy.float32) / 32
              for _ in range(8)]
    weights = [torch.from_numpy(array) for array in arrays]

    def step_of(_):
        x = torch.randn(64, 1024)
        for weight in weights:
            x = functional.relu(x @ weight)
    return [Holder(weights)], step_of


def lazy(_):
    """Layers that get their weights when they are first used."""
    model = nn.Sequential(nn.LazyConv2d(64, 3, 2, 1), nn.ReLU(), nn.LazyConv2d(128, 3, 2, 1),
                          nn.ReLU(), nn.LazyConv2d(256, 3, 2, 1), nn.ReLU(), nn.Flatten(),
                          nn.LazyLinear(1024), nn.ReLU(), nn.LazyLinear(1024))
    return [model], lambda step: model(torch.randn(4, 3, 64, 64))


def copied(ways):
    """What is used is a copy of what was made, which goes or stays."""
    first = perceptron()
    model = copy.deepcopy(first)
    models = [model]
    if "kept" in ways:
        models.append(first)
    del first
    return models, lambda step: model(torch.randn(16, 1536))


def initialised(_):
    """The weights are written several times before they are used."""
    model = small_values(Bert(256, 4, 8000))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return [model], lambda step: model(torch.randint(0, 8000, (8, 48)),
                                       torch.zeros(8, 48, dtype=torch.bool))


def checkpointed(ways):
    model = nn.ModuleList(nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
                          for _ in range(6))
    optimizer = optimizer_of(model, ways)

    def forward():
        x = torch.randn(4, 64, 256, requires_grad=True)
        for layer in model:
            x = checkpoint(layer, x)
        return x.pow(2).mean()
    return [model], trained(lambda step: learn(optimizer, forward))


def averaged(ways):
    """A copy follows what is trained."""
    model = perceptron(768)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = optimizer_of(model, ways)

    def step_of(_):
        learn(optimizer, lambda: model(torch.randn(32, 768)).pow(2).mean())
        with torch.no_grad():
            for mean, parameter in zip(average.parameters(), model.parameters()):
                mean.lerp_(parameter, 0.01)
    return [model, average], trained(step_of)


class Pictures(Dataset):
    def __len__(self):
        return 4096

    def __getitem__(self, at):
        return torch.randn(3, 96, 96), at % 10


def workers(ways):
    """Other processes make the inputs."""
    model, state = efficient(), {}
    loader = DataLoader(Pictures(), 16, num_workers=2)

    def step_of(_):
        images, _labels = next(state.setdefault("batches", iter(loader)))
        model(images)
    return [model], step_of


class Masked(nn.Module):
    """A mask and tables that are no parameters, as language models have."""

    def __init__(self, width=256, length=1024, layers=4):
        super().__init__()
        self.embedding = nn.Embedding(8000, width)
        angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("sines", torch.cat([angles.sin(), angles.cos()], 1))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, 4, 1024, batch_first=True)
                                    for _ in range(layers))
        self.register_buffer("mask", torch.full((length, length), float("-inf")).triu(1))
        self.out = nn.Linear(width, 8000)

    def forward(self, tokens):
        length = tokens.shape[1]
        x = self.embedding(tokens) + self.sines[:length]
        for layer in self.layers:
            x = layer(x, self.mask[:length, :length])
        return self.out(x[:, -1])


def masked(_):
    model = Masked()
    return [model], lambda step: model(torch.randint(0, 8000, (2, 48 + step)))


def hooked(_):
    """What layers made is kept until the next step."""
    model, seen = perceptron(1024), {}
    for at, layer in enumerate(model):
        layer.register_forward_hook(lambda _m, _i, out, at=at: seen.update({at: out}))
    return [model], lambda step: model(torch.randn(64, 1024))


def normed(_):
    """Weights that are computed anew from others in each step."""
    model = nn.Sequential(*[part for _ in range(6) for part in (
        nn.utils.weight_norm(nn.Linear(1024, 1024)), nn.ReLU())])
    return [model], lambda step: model(torch.randn(16, 1024))


def siamese(_):
    """A gallery of what was computed before, of which the nearest are sought in each step."""
    model, gallery = perceptron(512), functional.normalize(torch.randn(20000, 1000), dim=1)
    return [model], lambda step: (model(torch.randn(8, 512)) @ gallery.T).topk(5)


def chosen(_):
    """A few batches that are made before."""
    model, data = perceptron(), [torch.randn(64, 1536) for _ in range(10)]
    return [model], lambda step: model(data[step % len(data)])


def requests(_):
    """Batches of different sizes."""
    model = Vae()
    return [model], lambda step: model(torch.rand((3, 7, 1, 12, 5)[step % 5], 3, 64, 64))


def agent(_):
    """An actor, a critic and their targets, and what they have seen."""
    def net(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
                             nn.Linear(512, outputs))
    nets = [net(64, 8), net(72, 1)]
    targets = [copy.deepcopy(n) for n in nets]
    memory = torch.zeros(20000, 64)

    def step_of(step):
        state = torch.randn(32, 64)
        memory[step * 32:(step + 1) * 32] = state
        action = nets[0](state)
        for critic in (nets[1], targets[1]):
            critic(torch.cat([state, action], 1))
        targets[0](state)
    return nets + targets, step_of


def threshold_alone(_):
    """Most weights are below what is recorded."""
    layers = [nn.Linear(96, 96) for _ in range(40)]
    model = nn.Sequential(nn.Embedding(4000, 96), *layers, nn.Linear(96, 4000))
    return [model], lambda step: model(torch.randint(0, 4000, (4, 64)))


PROGRAMS = {
    "mobile": mobile, "bert": bert, "summariser": summariser, "vae": vae, "gan": gan,
    "tables": tables, "adapters": adapters, "scripted": scripted, "streaming": streaming,
    "restored": restored, "from-arrays": from_arrays, "lazy": lazy, "copied": copied,
    "initialised": initialised, "checkpointed": checkpointed, "averaged": averaged,
    "workers": workers, "masked": masked, "hooked": hooked, "normed": normed,
    "siamese": siamese, "chosen": chosen, "requests": requests, "agent": agent,
    "thin": threshold_alone,
}
