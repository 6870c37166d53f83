#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py of kinds that were in none of its lists, all written before one of them
was run; what they had at the first try is in RESULTS.md. As in classifier_programs.py, each is a
function of its ways."""

import numpy
import torch
from torch import nn
from torch.nn import functional

from classifier_learners import training
from classifier_loops import Holder
from classifier_newcomers import plain


class Packed(nn.Module):
    """Sentences of different lengths, one behind the other without padding."""

    def __init__(self, words=12000, width=300, hidden=512):
        super().__init__()
        self.words = nn.Embedding(words, width, padding_idx=0)
        self.body = nn.GRU(width, hidden, 2, bidirectional=True, batch_first=True)
        self.look, self.out = nn.Linear(2 * hidden, 1), nn.Linear(2 * hidden, 20)

    def forward(self, tokens, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(self.words(tokens), lengths, batch_first=True,
                                                   enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.body(packed)[0], batch_first=True)
        score = self.look(states)[..., 0]
        held = torch.arange(states.shape[1])[None] >= lengths[:, None]
        share = torch.softmax(score.masked_fill(held, -1e9), 1)
        return self.out((share[..., None] * states).sum(1))


def sentences(step, count=12, longest=60, words=12000):
    lengths = torch.randint(5, longest + 1, (count,))
    lengths[0] = longest - step % 5
    tokens = torch.randint(1, words, (count, int(lengths.max())))
    return tokens, lengths


class Meaning(nn.Module):
    """A vector for each sentence, with a mask for what is padded."""

    def __init__(self, words=16000, width=384, layers=5):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(256, width)
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)
        self.norm = nn.LayerNorm(width)
        self.body = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 12, 4 * width, batch_first=True), layers)

    def forward(self, tokens, lengths):
        held = torch.arange(tokens.shape[1])[None] >= lengths[:, None]
        x = self.norm(self.words(tokens) + self.places(torch.arange(tokens.shape[1])))
        x = self.body(x, src_key_padding_mask=held)
        x = functional.pad(x, (0, 0, 0, tokens.shape[1] - x.shape[1]))
        share = (~held).float()[..., None]
        return functional.normalize((x * share).sum(1) / share.sum(1), dim=1)


class CrossLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.own, self.own_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ask, self.told = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.cross_out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                  nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def cut(self, x):
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def mix(self, q, k, v):
        x = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v
        return x.transpose(1, 2).flatten(2)

    def heard(self, sound):
        return [self.cut(part) for part in self.told(sound).chunk(2, -1)]

    def forward(self, x, heard, before):
        q, k, v = [self.cut(part) for part in self.own(self.norms[0](x)).chunk(3, -1)]
        if before is not None:
            k, v = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
        x = x + self.own_out(self.mix(q, k, v))
        x = x + self.cross_out(self.mix(self.cut(self.ask(self.norms[1](x))), *heard))
        return x + self.feed(self.norms[2](x)), (k, v)


class Dictation(nn.Module):
    """Hears half a minute at once, keeps what each layer has heard of it, and writes it down token
    by token; a step is a recording."""

    def __init__(self, width=320, words=9000, layers=4):
        super().__init__()
        self.enter = nn.Sequential(nn.Conv1d(80, width, 3, 1, 1), nn.GELU(),
                                   nn.Conv1d(width, width, 3, 2, 1), nn.GELU())
        self.places = nn.Parameter(torch.randn(750, width) * 0.02)
        self.hear = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True), layers)
        self.words = nn.Embedding(words, width)
        self.layers = nn.ModuleList(CrossLayer(width, 8) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, sound, count=16):
        x = self.enter(sound).transpose(1, 2)
        x = self.hear(x + self.places[:x.shape[1]])
        heard = [layer.heard(x) for layer in self.layers]
        before, said = [None] * len(self.layers), torch.zeros(len(sound), 1, dtype=torch.long)
        out = [said]
        for _ in range(count):
            y = self.words(said)
            for at, layer in enumerate(self.layers):
                y, before[at] = layer(y, heard[at], before[at])
            said = (self.norm(y[:, -1:]) @ self.words.weight.T).argmax(-1)
            out.append(said)
        return torch.cat(out, 1)


class Styled(nn.Module):
    """A convolution whose filters are turned by a style for each picture."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.filters = nn.Parameter(torch.randn(1, outputs, inputs, 3, 3))
        self.style = nn.Linear(256, inputs)
        self.strength, self.bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x, style):
        b, c, h, w = x.shape
        filters = self.filters / (9 * c) ** 0.5 * (1 + self.style(style)).view(b, 1, c, 1, 1)
        filters = filters / filters.pow(2).sum((2, 3, 4), keepdim=True).add(1e-8).sqrt()
        x = functional.conv2d(x.reshape(1, b * c, h, w), filters.flatten(0, 1), padding=1, groups=b)
        x = x.view(b, -1, h, w) + self.strength * torch.randn(b, 1, h, w)
        return functional.leaky_relu(x + self.bias[:, None, None], 0.2)


class Artist(nn.Module):
    """Makes pictures of noise: a network for the style, and filters that it turns."""

    def __init__(self, widths=(256, 256, 256, 192, 128)):
        super().__init__()
        self.style = nn.Sequential(*[part for _ in range(6)
                                     for part in (nn.Linear(256, 256), nn.LeakyReLU(0.2))])
        self.start = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.layers = nn.ModuleList(Styled(a, b) for a, b in zip((widths[0],) + widths, widths))
        self.out = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, noise):
        style = self.style(noise)
        x = self.start.expand(len(noise), -1, -1, -1)
        for at, layer in enumerate(self.layers):
            x = layer(functional.interpolate(x, scale_factor=2.0) if at else x, style)
        return self.out(x).tanh()


class Grids(nn.Module):
    """What is at a place, from tables of hashes at several scales, and a small network."""

    def __init__(self, scales=8, rows=1 << 17):
        super().__init__()
        self.rows = rows
        self.tables = nn.ParameterList(nn.Parameter(torch.empty(rows, 2).uniform_(-1e-4, 1e-4))
                                       for _ in range(scales))
        self.net = nn.Sequential(nn.Linear(2 * scales, 64), nn.ReLU(), nn.Linear(64, 64),
                                 nn.ReLU(), nn.Linear(64, 4))

    def forward(self, places):
        found = []
        for at, table in enumerate(self.tables):
            scaled = places * 16 * 1.6 ** at
            corner, within = scaled.floor().long(), scaled - scaled.floor()
            value = 0
            for bits in range(8):
                side = torch.tensor([bits & 1, bits >> 1 & 1, bits >> 2])
                x, y, z = (corner + side).unbind(1)
                row = (x ^ y * 2654435761 ^ z * 805459861) % self.rows
                share = torch.where(side.bool(), within, 1 - within).prod(1, keepdim=True)
                value = value + share * table[row]
            found.append(value)
        return self.net(torch.cat(found, 1))


class Recurrent(nn.Module):
    """A language model that keeps one state for each layer and no cache: each token fades what was
    there."""

    def __init__(self, width=512, layers=5, words=10000):
        super().__init__()
        self.words, self.out = nn.Embedding(words, width), nn.Linear(width, words, bias=False)
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(nn.ModuleDict({
                "norm": nn.LayerNorm(width), "all": nn.Linear(width, 3 * width, bias=False),
                "join": nn.Linear(width, width, bias=False), "norm2": nn.LayerNorm(width),
                "enter": nn.Linear(width, 4 * width, bias=False),
                "leave": nn.Linear(4 * width, width, bias=False)}))
        self.fade = nn.Parameter(torch.rand(layers, 8, 64, 1) * 0.1 + 0.9)
        self.states = None

    def forward(self, tokens):
        if self.states is None:
            self.states = [torch.zeros(len(tokens), 8, 64, 64) for _ in self.layers]
        last = None
        for token in tokens.unbind(1):
            x = self.words(token)
            for at, layer in enumerate(self.layers):
                r, k, v = layer["all"](layer["norm"](x)).view(len(x), 3, 8, 64).unbind(1)
                self.states[at] = self.states[at] * self.fade[at] + k[..., None] * v[..., None, :]
                y = (r[..., None, :] @ self.states[at])[..., 0, :].flatten(1)
                x = x + layer["join"](y)
                x = x + layer["leave"](functional.relu(layer["enter"](layer["norm2"](x))).square())
            last = self.out(x)
        return last.argmax(1)


class Few(nn.Module):
    """A layer of four bits for each weight, two in a byte, with a factor and an offset for each 64;
    each call makes numbers of them again."""

    def __init__(self, inputs, outputs):
        super().__init__()
        weight = (torch.randn(outputs, inputs // 64, 64) / inputs ** 0.5)
        low = weight.amin(2, keepdim=True)
        scale = (weight.amax(2, keepdim=True) - low) / 15
        bits = ((weight - low) / scale).round().to(torch.uint8).flatten(1)
        self.register_buffer("bits", bits[:, ::2] | bits[:, 1::2] << 4)
        self.register_buffer("scale", scale.half())
        self.register_buffer("low", low.half())

    def forward(self, x):
        bits = torch.stack([self.bits & 15, self.bits >> 4], 2).flatten(1)
        weight = bits.view(len(bits), -1, 64).float() * self.scale.float() + self.low.float()
        return functional.linear(x, weight.flatten(1))


class FewBits(nn.Module):
    def __init__(self, width=512, layers=4, words=8000):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.layers = nn.ModuleList(nn.ModuleList([
            nn.LayerNorm(width), Few(width, 3 * width), Few(width, width), nn.LayerNorm(width),
            Few(width, 4 * width), Few(4 * width, width)]) for _ in range(layers))
        self.out = nn.Linear(width, words, bias=False)

    def forward(self, tokens):
        x = self.words(tokens)
        for norm, qkv, join, norm2, enter, leave in self.layers:
            q, k, v = qkv(norm(x)).unflatten(-1, (3, 8, 64)).permute(2, 0, 3, 1, 4)
            y = torch.softmax(q @ k.transpose(-1, -2) / 8, -1) @ v
            x = x + join(y.transpose(1, 2).flatten(2))
            x = x + leave(functional.gelu(enter(norm2(x))))
        return self.out(x[:, -1])


def few_bits(_):
    model = FewBits()
    bits = [t for name, t in model.named_buffers()]
    return [model, Holder(bits)], lambda step: model(torch.randint(0, 8000, (2, 24 + step)))


def estimator(_):
    """What a library of statistics has learnt, in arrays: components, neighbours' places, a kernel
    machine; each call is a batch of rows."""
    random = numpy.random.default_rng(1)
    mean, parts = random.normal(size=2048), random.normal(size=(256, 2048)) / 45
    support, dual = random.normal(size=(6000, 256)) * 0.05, random.normal(size=(9, 6000)) * 0.01
    offsets = random.normal(size=9)
    holder = Holder([torch.from_numpy(part) for part in (mean, parts, support, dual, offsets)])

    def step_of(step):
        rows = random.normal(size=(64 + 16 * step, 2048))
        low = (rows - mean) @ parts.T
        far = (low ** 2).sum(1)[:, None] + (support ** 2).sum(1) - 2 * low @ support.T
        return (numpy.exp(-far) @ dual.T + offsets).argmax(1)
    return [holder], step_of


def classifier_of_arrays(_):
    """A perceptron without any framework, of single numbers; each step is a batch of a table that
    was there before."""
    random = numpy.random.default_rng(2)
    sizes = (784, 1024, 1024, 512, 10)
    table = random.random((10000, 784), dtype=numpy.float32)
    layers = [((random.standard_normal((a, b)) / a ** 0.5).astype(numpy.float32),
               numpy.zeros(b, numpy.float32)) for a, b in zip(sizes, sizes[1:])]
    holder = Holder([torch.from_numpy(part) for layer in layers for part in layer])

    def step_of(step):
        x = table[256 * step:256 * step + 256]
        for weight, bias in layers:
            x = numpy.maximum(x @ weight + bias, 0)
        return x.argmax(1)
    return [holder], step_of


class Leaning(nn.Module):
    """Attention over all patches with a bias for how far apart two are, which each call looks up."""

    def __init__(self, width=320, layers=5, side=14):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.join = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.feed = nn.ModuleList(nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                                nn.Linear(4 * width, width)) for _ in range(layers))
        self.scale = nn.ParameterList(nn.Parameter(0.1 * torch.ones(width)) for _ in range(layers))
        self.bias = nn.ParameterList(nn.Parameter(torch.randn((2 * side - 1) ** 2 + 3, 8) * 0.02)
                                     for _ in range(layers))
        at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side),
                                        indexing="ij")).flatten(1)
        apart = at[:, :, None] - at[:, None] + side - 1
        index = torch.full((side * side + 1,) * 2, (2 * side - 1) ** 2)
        index[1:, 1:] = apart[0] * (2 * side - 1) + apart[1]
        self.register_buffer("index", index)
        self.out = nn.Linear(width, 1000)

    def forward(self, pictures):
        x = self.patch(pictures).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        for at, (qkv, join, feed) in enumerate(zip(self.qkv, self.join, self.feed)):
            q, k, v = qkv(self.norms[2 * at](x)).unflatten(-1, (3, 8, -1)).permute(2, 0, 3, 1, 4)
            bias = self.bias[at][self.index.flatten()].view(*self.index.shape, 8).permute(2, 0, 1)
            y = torch.softmax(q @ k.transpose(-1, -2) / 6.3 + bias, -1) @ v
            x = x + self.scale[at] * join(y.transpose(1, 2).flatten(2))
            x = x + self.scale[at] * feed(self.norms[2 * at + 1](x))
        return self.out(x[:, 1:].mean(1))


def steady_input(_):
    """One batch that was made behind the model, and is all that it ever sees."""
    model = Leaning()
    pictures = torch.randn(16, 3, 224, 224)
    return [model], lambda step: model(pictures)


class Cloud(nn.Module):
    """Points in space, each with its nearest ones; what is around them is joined twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(6, 64, 1), nn.BatchNorm2d(64), nn.ReLU(),
                                   nn.Conv2d(64, 128, 1))
        self.second = nn.Sequential(nn.Conv2d(256, 256, 1), nn.BatchNorm2d(256), nn.ReLU(),
                                    nn.Conv2d(256, 512, 1))
        self.all = nn.Sequential(nn.Linear(640, 1024), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 40))

    @staticmethod
    def around(x, near=16):
        found = torch.cdist(x, x).topk(near, largest=False).indices
        other = torch.stack([part[some] for part, some in zip(x, found)])
        return torch.cat([other - x[:, :, None], other], -1).permute(0, 3, 1, 2)

    def forward(self, points):
        x = self.first(self.around(points)).amax(3).transpose(1, 2)
        y = self.second(self.around(x)).amax(3).transpose(1, 2)
        return self.out(self.all(torch.cat([x, y], 2)).amax(1))


class Behind(nn.Module):
    """A model that makes its table of words last."""

    def __init__(self, words=12000, width=256):
        super().__init__()
        self.body = nn.LSTM(width, 512, 2, batch_first=True)
        self.out = nn.Linear(512, 20)
        self.words = nn.Embedding(words, width)

    def forward(self, tokens):
        return self.out(self.body(self.words(tokens))[0][:, -1])


def packed_loss(model, step):
    tokens, lengths = sentences(step)
    return functional.cross_entropy(model(tokens, lengths), torch.randint(0, 20, (len(tokens),)))


def leaning_loss(model, _):
    return functional.cross_entropy(model(torch.randn(4, 3, 224, 224)), torch.randint(0, 1000, (4,)))


def grids_loss(model, _):
    return functional.mse_loss(model(torch.rand(4096, 3)), torch.rand(4096, 4))


PROGRAMS = {
    "packed": plain(Packed, sentences),
    "meaning": plain(Meaning, lambda step: sentences(step, 8 + step, 80, 16000)),
    "dictation": plain(Dictation, lambda step: torch.randn(1, 80, 1200)),
    "artist": plain(Artist, lambda step: torch.randn(2, 256)),
    "grids": plain(Grids, lambda step: torch.rand(8192, 3)),
    "recurrent": plain(Recurrent, lambda step: torch.randint(0, 10000, (4, 16 if step == 0 else 1))),
    "few-bits": few_bits, "estimator": estimator, "arrays-alone": classifier_of_arrays,
    "leaning": plain(Leaning, lambda step: torch.randn(3, 3, 224, 224)),
    "steady-input": steady_input,
    "behind": plain(Behind, lambda step: torch.randint(0, 12000, (16, 40))),
    "cloud": plain(Cloud, lambda step: torch.randn(4, 512, 3)),
    "learn-packed": training(Packed, packed_loss),
    "learn-leaning": training(Leaning, leaning_loss),
    "learn-grids": training(Grids, grids_loss),
}
