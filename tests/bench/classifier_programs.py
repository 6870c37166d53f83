#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""More models for classifier.py, which look like programs that people run: each is a function of
its ways that returns the models whose parameters are the truth, and a function that does a step."""

import gc
import inspect
import os
import sys

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention whose caches, where it has some, are reserved at once."""

    def __init__(self, width, heads, room=0):
        super().__init__()
        self.heads, self.room, self.cache = heads, room, None
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x, at=0):
        batch, length, width = x.shape
        q, k, v = [layer(x).view(batch, length, self.heads, -1).transpose(1, 2)
                   for layer in (self.query, self.key, self.value)]
        if self.room:
            if self.cache is None:
                shape = (batch, self.heads, self.room, width // self.heads)
                self.cache = [torch.zeros(shape, dtype=k.dtype) for _ in range(2)]
            self.cache[0][:, :, at:at + length] = k
            self.cache[1][:, :, at:at + length] = v
            k, v = [t[:, :, :at + length] for t in self.cache]
        scores = torch.softmax(q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5, -1)
        return self.out((scores @ v).transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width, room=0, feed=None):
        super().__init__()
        self.attention = Attention(width, 8, room)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = feed or nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(),
                                          nn.Linear(4 * width, width))

    def forward(self, x, at=0):
        x = x + self.attention(self.norm1(x), at)
        return x + self.feed(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, width=384, layers=8, side=128, patch=16):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.position = nn.Parameter(torch.randn(1, (side // patch) ** 2, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.head = nn.Linear(width, 1000)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class Experts(nn.Module):
    """A mixture: each token goes to two of the experts."""

    def __init__(self, width, count=8):
        super().__init__()
        self.gate = nn.Linear(width, count)
        self.up = nn.Parameter(torch.randn(count, width, 4 * width) * 0.02)
        self.down = nn.Parameter(torch.randn(count, 4 * width, width) * 0.02)

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        chosen = self.gate(tokens).topk(2, -1)
        out = torch.zeros_like(tokens)
        for expert in range(self.up.shape[0]):
            rows, _ = (chosen.indices == expert).nonzero(as_tuple=True)
            if len(rows):
                out[rows] += functional.silu(tokens[rows] @ self.up[expert]) @ self.down[expert]
        return out.view_as(x)


class Language(nn.Module):
    def __init__(self, width=256, layers=4, vocabulary=16000, room=0, experts=False, tied=False):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, room, Experts(width) if experts else None)
                                    for _ in range(layers))
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens, at=0):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, at)
        return self.head(x[:, -1])


class Mixer(nn.Module):
    def __init__(self, width=256, tokens=196, layers=8):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList([
            nn.LayerNorm(width), nn.Linear(tokens, 512), nn.Linear(512, tokens),
            nn.LayerNorm(width), nn.Linear(width, 1024), nn.Linear(1024, width)])
            for _ in range(layers))
        self.stem = nn.Conv2d(3, width, 16, 16)

    def forward(self, images):
        x = self.stem(images).flatten(2).transpose(1, 2)
        for norm1, a, b, norm2, c, d in self.layers:
            x = x + b(functional.gelu(a(norm1(x).transpose(1, 2)))).transpose(1, 2)
            x = x + d(functional.gelu(c(norm2(x))))
        return x.mean(1)


class Detector(nn.Module):
    """A pyramid of features, and boxes of which a few are kept: sizes differ in each step."""

    def __init__(self):
        super().__init__()
        widths = (3, 32, 64, 128, 256, 512)
        self.body = nn.ModuleList(nn.Sequential(
            nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
            nn.Conv2d(b, b, 3, 1, 1), nn.ReLU()) for a, b in zip(widths, widths[1:]))
        self.lateral = nn.ModuleList(nn.Conv2d(width, 128, 1) for width in widths[3:])
        self.score = nn.Conv2d(128, 9 * 5, 3, 1, 1)
        self.classify = nn.Sequential(nn.Linear(128 * 49, 1024), nn.ReLU(), nn.Linear(1024, 91))

    def forward(self, images):
        features = []
        for layer in self.body:
            images = layer(images)
            features.append(images)
        out, top = [], None
        for lateral, feature in zip(reversed(self.lateral), reversed(features[2:])):
            top = lateral(feature) + (0 if top is None else functional.interpolate(
                top, size=feature.shape[-2:]))
            out.append(self.score(top))
        scores = torch.cat([s.flatten(1) for s in out], 1)
        kept = int((scores > scores.mean()).sum()) % 200 + 50
        crops = functional.adaptive_avg_pool2d(top, 7).flatten(1).repeat(kept, 1)
        return self.classify(crops)


class Recommender(nn.Module):
    def __init__(self, tables=6, rows=50000, width=32):
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(rows + 1000 * i, width, mode="sum")
                                    for i in range(tables))
        self.bottom = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, width))
        self.top = nn.Sequential(nn.Linear((tables + 1) * width, 1024), nn.ReLU(),
                                 nn.Linear(1024, 1))

    def forward(self, batch):
        dense, bags = batch
        parts = [self.bottom(dense)] + [table(bag) for table, bag in zip(self.tables, bags)]
        return self.top(torch.cat(parts, 1))


class Transducer(nn.Module):
    """An RNN-T: an encoder of frames, a predictor of tokens, and what joins them."""

    def __init__(self, width=384):
        super().__init__()
        self.encoder = nn.LSTM(80, width, 3, batch_first=True)
        self.embedding = nn.Embedding(1024, width)
        self.predictor = nn.LSTM(width, width, 1, batch_first=True)
        self.join = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1024))

    def forward(self, frames):
        encoded, _ = self.encoder(frames)
        token, state = torch.zeros(frames.shape[0], 1, dtype=torch.long), None
        for at in range(0, encoded.shape[1], 8):
            predicted, state = self.predictor(self.embedding(token), state)
            token = self.join(encoded[:, at:at + 1] + predicted).argmax(-1)
        return token


class Denoiser(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(),
                                  nn.Linear(4 * width, width))
        self.enter = nn.Conv2d(4, width, 3, 1, 1)
        self.down = nn.ModuleList(nn.Conv2d(width << i, width << (i + 1), 3, 2, 1)
                                  for i in range(3))
        self.middle = nn.Conv2d(width << 3, width << 3, 3, 1, 1)
        self.up = nn.ModuleList(nn.ConvTranspose2d(width << (i + 1), width << i, 4, 2, 1)
                                for i in reversed(range(3)))
        self.leave = nn.Conv2d(width, 4, 3, 1, 1)
        self.width = width

    def forward(self, noisy, time):
        x = self.enter(noisy) + self.time(torch.full((1, self.width), time))[..., None, None]
        kept = [x]
        for layer in self.down:
            x = functional.silu(layer(x))
            kept.append(x)
        x = self.middle(x)
        for layer in self.up:
            x = functional.silu(layer(x + kept.pop()))
        return self.leave(x)


def images(side, batch=4):
    return lambda step: torch.randn(batch, 3, side, side)


def tokens(length, vocabulary=16000, batch=4):
    return lambda step: torch.randint(0, vocabulary, (batch, length))


def bags(step):
    return (torch.randn(512, 64), [torch.randint(0, 50000, (512, 20)) for _ in range(6)])


def as_type(inputs, dtype):
    """The inputs in the model's type, as far as they are numbers with a point."""
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(as_type(part, dtype) for part in inputs)
    return inputs.to(dtype) if inputs.is_floating_point() else inputs


def from_model(model, source):
    dtype = next(model.parameters()).dtype
    return [model], lambda step: model(as_type(source(step), dtype))


def decode(model, prompt=64):
    """The prompt at first, then a token at a time."""
    def step_of(step):
        length = prompt if step == 0 else 1
        return model(torch.randint(0, 16000, (4, length)), 0 if step == 0 else prompt + step - 1)
    return [model], step_of


def denoise(ways):
    model, state = Denoiser(), {"x": torch.randn(2, 4, 64, 64)}

    def step_of(step):
        state["x"] = state["x"] - 0.1 * model(state["x"], float(step))
    return [model], step_of


def sliced(make, shape, count, batch, kind="normal"):
    """The inputs are kept in tensors, of which each step takes a slice."""
    def make_it(ways):
        parts = next((int(way[5:]) for way in ways if way.startswith("parts")), 1)
        random = torch.rand if "uniform" in ways else torch.randn
        data = [random(count // parts, *shape) for _ in range(parts)]
        if "tokens" in ways:
            data = [torch.randint(0, 16000, (count, *shape))]
        model = make()

        def step_of(step):
            part = data[step % len(data)]
            at = step * batch % (len(part) - batch)
            x = part[at:at + batch]
            if "shuffled" in ways:
                x = part[torch.randperm(len(part))[:batch]]
            return model(x if "views" in ways else x.clone())
        return [model], step_of
    return make_it


def batches(ways):
    """The inputs are kept as a list of what steps take."""
    data, model = [torch.randn(8, 3, 128, 128) for _ in range(40)], Vit()
    return [model], lambda step: model(data[step % len(data)])


def quantised(ways):
    model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(),
                          nn.Linear(4096, 1024)).eval()
    small = torch.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    if "alone" in ways:
        del model
        gc.collect()  # the modules refer to one another
        return [small], lambda step: small(torch.randn(16, 1024))
    return [model, small], lambda step: small(torch.randn(16, 1024))


def traced(ways):
    model = Mixer().eval()
    with torch.no_grad():
        graph = torch.jit.trace(model, torch.randn(4, 3, 224, 224))
    if "frozen" in ways:
        graph = torch.jit.freeze(graph)
    return [model], lambda step: graph(torch.randn(4, 3, 224, 224))


def several(ways):
    first, second = Vit(), Language()
    both = [(first, images(128)), (second, tokens(64))]

    def step_of(step):
        model, source = both[step % 2]
        model(source(step))
    return [first, second], step_of


def swapped(ways):
    """Another model takes the place of the first in the fourth step."""
    models = [Vit()]

    def step_of(step):
        if step == 4:
            models[0] = Vit(width=512, layers=6)
        models[0](torch.randn(4, 3, 128, 128))
    return models, step_of


def refuse(why):
    print(f"PyTorch {torch.__version__} {why}", file=sys.stderr)
    sys.exit(77)


def check_ways(ways):
    """Older versions cannot do all: mmap came with 2.1, and half precision on the CPU with 2.2."""
    if "mapped" in ways and "mmap" not in inspect.signature(torch.load).parameters:
        refuse("does not map files that it loads")
    if "half" in ways:
        try:
            nn.Linear(8, 8).half()(torch.zeros(1, 8).half())
        except RuntimeError:
            refuse("does not compute in half precision on the CPU")


def moved(model, ways):
    check_ways(ways)
    if "loaded" in ways or "mapped" in ways:
        path = f"classifier-{os.getpid()}.pt"
        torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path, mmap=True) if "mapped" in ways
                              else torch.load(path))
        os.unlink(path)
    if "bfloat16" in ways:
        model = model.to(torch.bfloat16)
    if "half" in ways:
        model = model.half()
    if "channels-last" in ways:
        model = model.to(memory_format=torch.channels_last)
    if "compiled" in ways:
        return torch.compile(model)
    return model


def plain(make, source):
    return lambda ways: from_model(moved(make(), ways), source)


PROGRAMS = {
    "vit": plain(Vit, images(128)),
    "llama": lambda ways: decode(moved(Language(room=256), ways)),
    "gpt-tied": plain(lambda: Language(128, 4, 50000, tied=True), tokens(64)),
    "moe": plain(lambda: Language(experts=True), tokens(32)),
    "mixer": plain(Mixer, images(224)),
    "detector": plain(Detector, images(256, 2)),
    "recommender": plain(Recommender, bags),
    "transducer": plain(Transducer, lambda step: torch.randn(8, 160, 80)),
    "diffusion": denoise,
    "quantised": quantised,
    "traced": traced,
    "several": several,
    "swapped": swapped,
    "vit-data": sliced(Vit, (3, 128, 128), 1000, 4),
    "vit-batches": batches,
    "mlp-data": sliced(lambda: nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(),
                                             nn.Linear(2048, 2048), nn.ReLU(),
                                             nn.Linear(2048, 10)), (1024,), 40000, 64),
    "gpt-data": sliced(lambda: Language(width=128), (64,), 100000, 8),
}


def caches(models):
    return [t for model in models for module in model.modules()
            for t in getattr(module, "cache", None) or []]
