#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs in inference for classifier.py that were written when the rules of the programs before
them had been; none was run before all were there. As in classifier_programs.py, each is a function
of its ways."""

import gc
import io
import os

import torch
from torch import nn
from torch.nn import functional

from classifier_loops import Holder
from classifier_programs import check_ways, images, plain, refuse


def norm_conv(inputs, outputs, size=3, stride=1, groups=1, act=nn.ReLU):
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups,
                                   bias=False), nn.BatchNorm2d(outputs), act())


class Basic(nn.Module):
    """ResNet-18's and -34's, and with groups ResNeXt's."""

    def __init__(self, inputs, outputs, stride, groups=1):
        super().__init__()
        self.body = nn.Sequential(norm_conv(inputs, outputs, 3, stride, groups),
                                  nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
                                  nn.BatchNorm2d(outputs))
        self.side = (nn.Identity() if stride == 1 and inputs == outputs else
                     nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                   nn.BatchNorm2d(outputs)))

    def forward(self, x):
        return functional.relu(self.body(x) + self.side(x))


def residual(counts=(2, 2, 2, 2), groups=1):
    layers, inputs = [norm_conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
    for at, count in enumerate(counts):
        for i in range(count):
            layers.append(Basic(inputs, 64 << at, 2 if at > 0 and i == 0 else 1, groups))
            inputs = 64 << at
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


class Dense(nn.Module):
    """DenseNet: each layer sees all before it."""

    def __init__(self, growth=32, counts=(6, 12, 16)):
        super().__init__()
        width = 64
        self.stem = nn.Sequential(norm_conv(3, width, 7, 2), nn.MaxPool2d(3, 2, 1))
        self.blocks, self.between = nn.ModuleList(), nn.ModuleList()
        for count in counts:
            block = nn.ModuleList()
            for _ in range(count):
                block.append(nn.Sequential(
                    nn.BatchNorm2d(width), nn.ReLU(), norm_conv(width, 4 * growth, 1),
                    nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)))
                width += growth
            self.blocks.append(block)
            self.between.append(nn.Sequential(nn.Conv2d(width, width // 2, 1), nn.AvgPool2d(2)))
            width //= 2
        self.head = nn.Linear(width, 1000)

    def forward(self, x):
        x = self.stem(x)
        for block, between in zip(self.blocks, self.between):
            for layer in block:
                x = torch.cat([x, layer(x)], 1)
            x = between(x)
        return self.head(x.mean((2, 3)))


class Convnext(nn.Module):
    def __init__(self, widths=(64, 128, 256), counts=(2, 2, 4)):
        super().__init__()
        self.downs, self.stages = nn.ModuleList(), nn.ModuleList()
        for a, b, count in zip((3,) + widths, widths, counts):
            self.downs.append(nn.Conv2d(a, b, 4 if a == 3 else 2, 4 if a == 3 else 2))
            self.stages.append(nn.ModuleList(nn.ModuleList([
                nn.Conv2d(b, b, 7, 1, 3, groups=b), nn.LayerNorm(b), nn.Linear(b, 4 * b),
                nn.Linear(4 * b, b)]) for _ in range(count)))
        self.head = nn.Linear(widths[-1], 1000)

    def forward(self, x):
        for down, stage in zip(self.downs, self.stages):
            x = down(x)
            for depth, norm, up, low in stage:
                y = norm(depth(x).permute(0, 2, 3, 1))
                x = x + low(functional.gelu(up(y))).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale


class Attend(nn.Module):
    """Attention to itself or to something else, with a cache that grows by joining."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = [nn.Linear(width, width, bias=False) for _ in range(4)]

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, other=None, cache=None, bias=0):
        q = self.split(self.q(x))
        if other is not None and cache:
            k, v = cache
        else:
            source = x if other is None else other
            k, v = self.split(self.k(source)), self.split(self.v(source))
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        scores = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias, -1)
        return self.o((scores @ v).transpose(1, 2).reshape(x.shape)), (k, v)


class Layer(nn.Module):
    def __init__(self, width, heads, crosses=False, norm=RmsNorm):
        super().__init__()
        self.own, self.norms = Attend(width, heads), nn.ModuleList(norm(width) for _ in range(3))
        self.cross = Attend(width, heads) if crosses else None
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, memory=None, cache=(None, None), bias=0):
        y, own = self.own(self.norms[0](x), None, cache[0], bias)
        x, cross = x + y, None
        if self.cross:
            y, cross = self.cross(self.norms[1](x), memory, cache[1])
            x = x + y
        return x + self.down(functional.gelu(self.up(self.norms[2](x)))), (own, cross)


class Translate(nn.Module):
    """As T5: large numbers in the embedding, tied to the head; relative places."""

    def __init__(self, width=256, layers=4, vocabulary=12000):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(32, 8)
        self.encoder = nn.ModuleList(Layer(width, 8) for _ in range(layers))
        self.decoder = nn.ModuleList(Layer(width, 8, True) for _ in range(layers))
        self.norm = RmsNorm(width)

    def decode(self, memory, length):
        token = torch.zeros(memory.shape[0], 1, dtype=torch.long)
        caches = [(None, None)] * len(self.decoder)
        for _ in range(length):
            x = self.embedding(token)
            for at, layer in enumerate(self.decoder):
                x, caches[at] = layer(x, memory, caches[at])
            token = (self.norm(x) @ self.embedding.weight.T).argmax(-1)
        return token

    def forward(self, tokens, length=10):
        x, at = self.embedding(tokens), torch.arange(tokens.shape[1])
        bias = self.places((at[:, None] - at).clamp(-16, 15) + 16).permute(2, 0, 1)
        for layer in self.encoder:
            x, _ = layer(x, bias=bias)
        return self.decode(x, length)


class Listen(Translate):
    """As Whisper: sound goes in."""

    def __init__(self):
        super().__init__(256, 4, 10000)
        self.stem = nn.Sequential(nn.Conv1d(80, 256, 3, 1, 1), nn.GELU(),
                                  nn.Conv1d(256, 256, 3, 2, 1), nn.GELU())
        self.positions = nn.Parameter(torch.randn(400, 256) * 0.01)

    def forward(self, sound, length=8):
        x = self.stem(sound).transpose(1, 2)
        x = x + self.positions[:x.shape[1]]
        for layer in self.encoder:
            x, _ = layer(x)
        return self.decode(x, length)


class Selective(nn.Module):
    """A state space whose steps depend on the input, as Mamba's."""

    def __init__(self, width=256, inner=512, states=16):
        super().__init__()
        self.norm, self.enter = RmsNorm(width), nn.Linear(width, 2 * inner, bias=False)
        self.mix = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.pick = nn.Linear(inner, 2 * states + 16, bias=False)
        self.step, self.leave = nn.Linear(16, inner), nn.Linear(inner, width, bias=False)
        self.decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.through = nn.Parameter(torch.ones(inner))

    def forward(self, x):
        y, gate = self.enter(self.norm(x)).chunk(2, -1)
        y = functional.silu(self.mix(y.transpose(1, 2))[..., :x.shape[1]].transpose(1, 2))
        states = self.decay.shape[1]
        inside, outside, rate = self.pick(y).split([states, states, 16], -1)
        rate = functional.softplus(self.step(rate))
        held, out = torch.zeros(x.shape[0], *self.decay.shape), []
        for at in range(x.shape[1]):
            keep = torch.exp(-rate[:, at, :, None] * self.decay.exp())
            held = held * keep + (rate[:, at] * y[:, at])[..., None] * inside[:, at, None]
            out.append((held * outside[:, at, None]).sum(-1))
        y = torch.stack(out, 1) + y * self.through
        return x + self.leave(y * functional.silu(gate))


class Mamba(nn.Module):
    def __init__(self, vocabulary=10000):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 256)
        self.layers = nn.Sequential(*[Selective() for _ in range(6)])
        self.head = nn.Linear(256, vocabulary, bias=False)

    def forward(self, tokens):
        return self.head(self.layers(self.embedding(tokens))[:, -1])


class Messages(nn.Module):
    """A graph per step, as of molecules."""

    def __init__(self, width=256, layers=5):
        super().__init__()
        self.atoms, self.bonds = nn.Embedding(120, width), nn.Embedding(12, width)
        self.say = nn.ModuleList(nn.Sequential(nn.Linear(3 * width, 2 * width), nn.SiLU(),
                                               nn.Linear(2 * width, width))
                                 for _ in range(layers))
        self.hear = nn.ModuleList(nn.GRUCell(width, width) for _ in range(layers))
        self.out = nn.Linear(width, 1)

    def forward(self, graph):
        atoms, (a, b), kinds = graph
        x, bonds = self.atoms(atoms), self.bonds(kinds)
        for say, hear in zip(self.say, self.hear):
            said = say(torch.cat([x[a], x[b], bonds], 1))
            x = hear(torch.zeros_like(x).index_add_(0, b, said), x)
        return self.out(x).sum()


def molecules(step):
    count = 600 + 40 * step
    return (torch.randint(0, 120, (count,)), torch.randint(0, count, (2, 3 * count)),
            torch.randint(0, 12, (3 * count,)))


class Reader(nn.Module):
    """Text in images: columns to a recurrent network."""

    def __init__(self):
        super().__init__()
        widths = (1, 64, 128, 256, 512)
        self.look = nn.Sequential(*[part for a, b in zip(widths, widths[1:])
                                    for part in (norm_conv(a, b), nn.MaxPool2d(2, (2, 1), (0, 1)
                                                 if a > 64 else 0, 1))])
        self.read = nn.LSTM(1024, 256, 2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(512, 6000)

    def forward(self, x):
        x = self.look(x)
        return self.out(self.read(x.flatten(1, 2).transpose(1, 2))[0]).log_softmax(-1)


class Towers(nn.Module):
    """Images and texts in one space."""

    def __init__(self, width=256):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.mark = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.places = nn.Parameter(torch.randn(65, width) * 0.02)
        self.words = nn.Embedding(16000, width)
        self.seen, self.said = [nn.ModuleList(Layer(width, 4, norm=nn.LayerNorm)
                                              for _ in range(4)) for _ in range(2)]
        self.scale = nn.Parameter(torch.tensor(2.6))

    def forward(self, pictures, texts):
        x = self.patches(pictures).flatten(2).transpose(1, 2)
        x = torch.cat([self.mark.expand(len(x), -1, -1), x], 1) + self.places
        y = self.words(texts)
        for layer in self.seen:
            x, _ = layer(x)
        for layer in self.said:
            y, _ = layer(y)
        x, y = functional.normalize(x[:, 0], dim=-1), functional.normalize(y[:, -1], dim=-1)
        return self.scale.exp() * x @ y.T


def towers(_):
    model = Towers()
    texts = torch.randint(0, 16000, (20, 16))
    return [model], lambda step: model(torch.randn(2 + step, 3, 128, 128), texts)


class Timed(nn.Module):
    def __init__(self, inputs, outputs, time):
        super().__init__()
        self.first, self.second = [nn.Conv2d(a, outputs, 3, 1, 1) for a in (inputs, outputs)]
        self.norms = nn.ModuleList([nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)])
        self.time = nn.Linear(time, outputs)
        self.side = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, time):
        y = self.first(functional.silu(self.norms[0](x))) + self.time(time)[..., None, None]
        return self.side(x) + self.second(functional.silu(self.norms[1](y)))


class Noise(nn.Module):
    """A U-Net that is told the time, with attention in the middle."""

    def __init__(self, width=64):
        super().__init__()
        self.width, sizes = width, (width, 2 * width, 4 * width)
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(),
                                  nn.Linear(4 * width, 4 * width))
        self.enter, self.leave = nn.Conv2d(4, width, 3, 1, 1), nn.Conv2d(width, 4, 3, 1, 1)
        self.down = nn.ModuleList(Timed(a, b, 4 * width)
                                  for a, b in zip((width,) + sizes, sizes))
        self.middle = nn.MultiheadAttention(4 * width, 4, batch_first=True)
        self.up = nn.ModuleList(Timed(2 * b, a, 4 * width) for a, b in
                                reversed(list(zip((width,) + sizes, sizes))))

    def forward(self, x, at):
        angles = at * torch.exp(-torch.arange(0, self.width, 2) / self.width * 9.2)
        time = self.time(torch.cat([angles.sin(), angles.cos()])[None])
        x, kept = self.enter(x), []
        for layer in self.down:
            x = layer(x, time)
            kept.append(x)
            x = functional.avg_pool2d(x, 2)
        flat = x.flatten(2).transpose(1, 2)
        x = x + self.middle(flat, flat, flat)[0].transpose(1, 2).reshape(x.shape)
        for layer in self.up:
            x = layer(torch.cat([functional.interpolate(x, scale_factor=2.0), kept.pop()], 1),
                      time)
        return self.leave(x)


def noise(ways):
    """One call is a step; or a whole picture of some is, with a guide beside it."""
    model, state = Noise(), {"x": torch.randn(2, 4, 32, 32)}

    def once(at):
        pair = model(state["x"].repeat(2, 1, 1, 1), torch.tensor(float(at)))
        wanted, free = pair.chunk(2)
        state["x"] = state["x"] - 0.1 * (free + 3 * (wanted - free))

    def picture(_):
        state["x"] = torch.randn(2, 4, 32, 32)
        for at in range(5):
            once(at)
    return [model], picture if "pictures" in ways else once


def merged(_):
    """Adapters that are added to the weights and go."""
    model = nn.Sequential(*[part for _ in range(8) for part in (nn.Linear(896, 896), nn.GELU())])
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                a, b = torch.randn(896, 32) * 0.02, torch.randn(32, 896) * 0.02
                layer.weight += a @ b
    return [model], lambda step: model(torch.randn(24, 896))


class Constants(Holder):
    """Of a graph that was frozen, what it has as constants."""

    def __init__(self, graph):
        found = [node.t("value") for node in graph.graph.findAllNodes("prim::Constant")
                 if node.hasAttribute("value") and node.kindOf("value") == "t"]
        super().__init__(found)


def frozen(ways):
    """The module is traced, frozen, and goes; its normalisations are new, or as training leaves
    them."""
    model = residual().eval()
    with torch.no_grad():
        for norm in model.modules() if "trained" in ways else ():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.normal_(0.6, 0.3)
                norm.running_var.uniform_(0.2, 2)
        graph = torch.jit.freeze(torch.jit.trace(model, torch.randn(2, 3, 96, 96)))
    del model
    if "alone" in ways:
        gc.collect()  # the modules refer to one another
    return [Constants(graph)], lambda step: graph(torch.randn(2, 3, 96, 96))


def saved(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return file


def mapped(_):
    """The file is mapped, and copied into a model that was made without numbers."""
    check_ways(["mapped"])
    path = f"classifier-{os.getpid()}.pt"
    torch.save(Mamba().state_dict(), path)
    model = Mamba()
    for parameter in model.parameters():
        parameter.data = torch.empty_like(parameter)
    model.load_state_dict(torch.load(path, mmap=True))
    os.unlink(path)
    return [model], lambda step: model(torch.randint(0, 10000, (2, 12)))


def server(_):
    """Three models that answer in turn, with batches of any size."""
    models = [residual(), Towers(192), Reader()]
    for model in models:
        model.load_state_dict(torch.load(saved(model)))

    def step_of(step):
        models[0](torch.randn(1 + step % 4, 3, 96, 96))
        models[1](torch.randn(1 + step % 3, 3, 128, 128), torch.randint(0, 16000, (5, 12 + step)))
        models[2](torch.randn(1, 1, 32, 120 + 16 * step))
    return models, step_of


class Finder(nn.Module):
    """Boxes at three sizes, as YOLO's."""

    def __init__(self):
        super().__init__()
        widths = (3, 32, 64, 128, 256, 512)
        self.body = nn.ModuleList(nn.Sequential(
            norm_conv(a, b, 3, 2, 1, nn.SiLU), norm_conv(b, b // 2, 1, act=nn.SiLU),
            norm_conv(b // 2, b, 3, act=nn.SiLU)) for a, b in zip(widths, widths[1:]))
        self.join = nn.ModuleList(norm_conv(a + a // 2, a // 2, act=nn.SiLU) for a in (512, 256))
        self.heads = nn.ModuleList(nn.Conv2d(a, 3 * 85, 1) for a in (512, 256, 128))

    def forward(self, x):
        kept = []
        for layer in self.body:
            x = layer(x)
            kept.append(x)
        out = [self.heads[0](x)]
        for at, join in enumerate(self.join):
            x = join(torch.cat([functional.interpolate(x, scale_factor=2.0), kept[-2 - at]], 1))
            out.append(self.heads[at + 1](x))
        boxes = torch.cat([o.view(o.shape[0], 85, -1) for o in out], 2).sigmoid()
        best = boxes[:, 4].topk(100).indices
        return boxes.gather(2, best[:, None].expand(-1, 85, -1))


class Rays(nn.Module):
    """A field of light, asked in pieces: little weights and much that goes."""

    def __init__(self, width=256):
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(63 if i == 0 else width + (63 if i == 4 else 0), width)
                                   for i in range(8))
        self.out = nn.Linear(width, 4)

    def forward(self, points):
        scaled = [points] + [f(points * 2.0 ** i) for i in range(10) for f in
                             (torch.sin, torch.cos)]
        inside = torch.cat(scaled, -1)
        x = inside
        for i, layer in enumerate(self.first):
            x = functional.relu(layer(torch.cat([x, inside], -1) if i == 4 else x))
        return self.out(x)


def rays(_):
    model = Rays()
    return [model], lambda step: [model(torch.rand(8192, 3)) for _ in range(4)]


class Conformer(nn.Module):
    def __init__(self, width=256, layers=5):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, width, 10, 5), nn.GELU(),
                                  nn.Conv1d(width, width, 8, 4), nn.GELU(),
                                  nn.Conv1d(width, width, 4, 4), nn.GELU())
        self.layers = nn.ModuleList(nn.ModuleList([
            Layer(width, 4, norm=nn.LayerNorm), nn.LayerNorm(width),
            nn.Conv1d(width, 2 * width, 1), nn.Conv1d(width, width, 15, 1, 7, groups=width),
            nn.BatchNorm1d(width), nn.Conv1d(width, width, 1)]) for _ in range(layers))
        self.out = nn.Linear(width, 5000)

    def forward(self, wave):
        x = self.stem(wave[:, None]).transpose(1, 2)
        for layer, norm, enter, deep, batch, leave in self.layers:
            x, _ = layer(x)
            y = functional.glu(enter(norm(x).transpose(1, 2)), 1)
            x = x + leave(functional.silu(batch(deep(y)))).transpose(1, 2)
        return self.out(x)


class Flow(nn.Module):
    """Couplings, one behind the other, equal in all sizes."""

    def __init__(self, width=512, layers=10):
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(width // 2, 512), nn.ReLU(),
                                                nn.Linear(512, 512), nn.ReLU(),
                                                nn.Linear(512, width)) for _ in range(layers))

    def forward(self, x):
        for net in self.nets:
            a, b = x.chunk(2, 1)
            scale, shift = net(a).chunk(2, 1)
            x = torch.cat([b * torch.exp(torch.tanh(scale)) + shift, a], 1)
        return x


class Bigger(nn.Module):
    """Super-resolution: many equal layers below what is recorded, and some above."""

    def __init__(self, width=64, layers=12):
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, 1, 1)
        self.body = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.PReLU(),
                                                nn.Conv2d(width, width, 3, 1, 1))
                                  for _ in range(layers))
        self.up = nn.Sequential(nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2),
                                nn.PReLU(), nn.Conv2d(width, 3, 3, 1, 1))

    def forward(self, x):
        x = y = self.enter(x)
        for layer in self.body:
            y = y + 0.2 * layer(y)
        return self.up(x + y)


class Codes(nn.Module):
    """A book of codes, of which the nearest are taken."""

    def __init__(self, width=256, count=2048):
        super().__init__()
        self.down = nn.Sequential(norm_conv(3, 128, 3, 2), norm_conv(128, width, 3, 2),
                                  nn.Conv2d(width, width, 3, 1, 1))
        self.book = nn.Embedding(count, width)
        nn.init.uniform_(self.book.weight, -1 / count, 1 / count)
        self.up = nn.Sequential(nn.ConvTranspose2d(width, 128, 4, 2, 1), nn.ReLU(),
                                nn.ConvTranspose2d(128, 3, 4, 2, 1))

    def forward(self, x):
        x = self.down(x)
        near = torch.cdist(x.flatten(2).transpose(1, 2), self.book.weight[None]).argmin(-1)
        y = self.book(near).transpose(1, 2).reshape(x.shape)
        return self.up(x + (y - x))


def compiled(ways):
    """Graphs that are taken, run by PyTorch's own operators."""
    if not hasattr(torch, "compile"):
        refuse("does not compile")
    model = Convnext()
    run = torch.compile(model, backend="aot_eager" if "ahead" in ways else "eager")
    return [model], lambda step: run(torch.randn(4, 3, 128, 128))


def text(vocabulary, length, batch=4):
    return lambda step: torch.randint(0, vocabulary, (batch, length + step))


PROGRAMS = {
    "residual": plain(residual, images(96)),
    "resnext": plain(lambda: residual((3, 4, 6, 3), 4), images(96, 2)),
    "dense": plain(Dense, images(128, 2)), "convnext": plain(Convnext, images(128)),
    "translate": plain(Translate, text(12000, 20)),
    "listen": plain(Listen, lambda step: torch.randn(1, 80, 400)),
    "mamba": plain(Mamba, text(10000, 16, 2)), "messages": plain(Messages, molecules),
    "reader": plain(Reader, lambda step: torch.randn(2, 1, 32, 160 + 24 * step)),
    "towers": towers, "noise": noise, "merged": merged, "frozen": frozen, "mapped": mapped,
    "server": server, "finder": plain(Finder, images(192, 2)), "rays": rays,
    "conformer": plain(Conformer, lambda step: torch.randn(2, 16000 + 1600 * step)),
    "flow": plain(Flow, lambda step: torch.randn(64, 512)),
    "bigger": plain(Bigger, images(64, 2)), "codes": plain(Codes, images(64)),
    "compiled": compiled,
}
