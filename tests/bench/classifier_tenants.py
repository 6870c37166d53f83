#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py as models are served, all written before one of them was run; what
they had at the first try is in RESULTS.md. Each is a function of its ways."""

import io
import mmap
import os

import numpy
import torch
from torch import nn
from torch.nn import functional

from classifier_guests import Constants, norm_conv
from classifier_loops import Holder
from classifier_newcomers import blob, plain


class Gate(nn.Module):
    """What is kept of the way down, as far as the way up asks for it."""

    def __init__(self, width):
        super().__init__()
        self.kept, self.asked = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width, width // 2, 1)
        self.out = nn.Conv2d(width // 2, 1, 1)

    def forward(self, kept, asked):
        return kept * torch.sigmoid(self.out(functional.relu(self.kept(kept) + self.asked(asked))))


class Organs(nn.Module):
    """A U-Net whose ways across are gated."""

    def __init__(self):
        super().__init__()
        w1, w2, w3, w4 = 32, 64, 128, 256
        self.d1, self.d2, self.d3, self.d4 = [
            nn.Sequential(norm_conv(a, b), norm_conv(b, b))
            for a, b in ((1, w1), (w1, w2), (w2, w3), (w3, w4))]
        self.u3, self.u2, self.u1 = [nn.ConvTranspose2d(a, b, 2, 2)
                                     for a, b in ((w4, w3), (w3, w2), (w2, w1))]
        self.g3, self.g2, self.g1 = Gate(w3), Gate(w2), Gate(w1)
        self.j3, self.j2, self.j1 = [nn.Sequential(norm_conv(2 * w, w), norm_conv(w, w))
                                     for w in (w3, w2, w1)]
        self.out = nn.Conv2d(w1, 5, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(functional.max_pool2d(a, 2))
        c = self.d3(functional.max_pool2d(b, 2))
        x = self.u3(self.d4(functional.max_pool2d(c, 2)))
        x = self.u2(self.j3(torch.cat([self.g3(c, x), x], 1)))
        x = self.u1(self.j2(torch.cat([self.g2(b, x), x], 1)))
        return self.out(self.j1(torch.cat([self.g1(a, x), x], 1))).argmax(1)


def shipped(ways):
    """What is served is what was scripted, frozen and saved: by another process, or by this one,
    of which PyTorch keeps what it has frozen once."""
    path = f"classifier-{os.getpid()}.pt"
    child = 0 if "here" in ways else os.fork()
    if child == 0:
        torch.jit.save(torch.jit.freeze(torch.jit.script(Organs().eval())), path)
        if "here" not in ways:
            os._exit(0)
    else:
        os.waitpid(child, 0)
    graph = torch.jit.load(path)
    os.unlink(path)
    return [Constants(graph)], lambda step: graph(torch.rand(1 + step % 2, 1, 128, 128))


class Transcriber(nn.Module):
    """Hears frames with a state that goes on, and says tokens by what it said before."""

    def __init__(self, width=512, words=4000):
        super().__init__()
        self.hear = nn.LSTM(240, width, 3, batch_first=True)
        self.words, self.before = nn.Embedding(words, 320), nn.LSTMCell(320, width)
        self.heard, self.said = nn.Linear(width, 640), nn.Linear(width, 640)
        self.join = nn.Linear(640, words)
        self.state, self.last, self.token = None, None, torch.zeros(3, dtype=torch.long)

    def forward(self, frames):
        heard, self.state = self.hear(frames, self.state)
        if self.last is None:
            self.last = self.before(self.words(self.token))
        said = []
        for at in range(heard.shape[1]):
            for _ in range(2):
                score = self.join(torch.tanh(self.heard(heard[:, at]) + self.said(self.last[0])))
                token = score.argmax(1)
                new = self.before(self.words(token), self.last)
                is_said = (token > 1300)[:, None]
                self.last = tuple(torch.where(is_said, a, b) for a, b in zip(new, self.last))
                said.append(token)
        return said


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.enter, self.leave = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, length, width = x.shape
        parts = self.qkv(self.first(x)).view(b, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        score = torch.softmax(q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5, -1)
        x = x + self.out((score @ v).transpose(1, 2).reshape(b, length, width))
        return x + self.leave(functional.gelu(self.enter(self.second(x))))


class Viewer(nn.Module):
    def __init__(self, width: int = 320, layers: int = 6):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 16, 16)
        self.mark = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.places = nn.Parameter(torch.randn(1, 197, width) * 0.02)
        self.layers = nn.ModuleList([Block(width, 5) for _ in range(layers)])
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 1000)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("range", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, pictures):
        x = self.patch((pictures.float() / 255 - self.mean) / self.range)
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.mark.expand(x.shape[0], -1, -1), x], 1) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm(x[:, 0])).softmax(-1).topk(5).indices


def viewer(_):
    """Scripted as it is; pictures come as bytes."""
    graph = torch.jit.script(Viewer().eval())
    return [graph], lambda step: graph(torch.randint(0, 256, (1 + step, 3, 224, 224),
                                                     dtype=torch.uint8))


class Experts(nn.Module):
    """Each token goes to two of sixteen, whose matrices lie in one tensor each."""

    def __init__(self, width=320, hidden=512, count=16):
        super().__init__()
        self.route = nn.Linear(width, count, bias=False)
        self.enter = nn.Parameter(torch.randn(count, width, 2 * hidden) * 0.03)
        self.leave = nn.Parameter(torch.randn(count, hidden, width) * 0.03)

    def forward(self, x):
        share, chosen = self.route(x).softmax(-1).topk(2, -1)
        share, out = share / share.sum(-1, keepdim=True), torch.zeros_like(x)
        for expert in range(len(self.enter)):
            token, place = torch.where(chosen == expert)
            if len(token) == 0:
                continue
            a, b = (x[token] @ self.enter[expert]).chunk(2, -1)
            y = (a * functional.silu(b)) @ self.leave[expert]
            out.index_add_(0, token, y * share[token, place, None])
        return out


class Routed(nn.Module):
    """A language model of experts that keeps what it has read: room for it is made with the first
    text."""

    def __init__(self, width=320, layers=3, words=10000, room=192):
        super().__init__()
        self.words, self.room, self.heads = nn.Embedding(words, width), room, 5
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width, bias=False) for _ in range(layers))
        self.join = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.experts = nn.ModuleList(Experts(width) for _ in range(layers))
        self.out = nn.Linear(width, words, bias=False)
        self.cache, self.at = None, 0

    def forward(self, tokens):
        x, (b, length) = self.words(tokens), tokens.shape
        if self.cache is None:
            self.cache = [torch.zeros(b, self.heads, self.room, 64)
                          for _ in range(2 * len(self.qkv))]
        end = self.at + length
        later = torch.arange(end)[None] > torch.arange(self.at, end)[:, None]
        for i, (qkv, join, experts) in enumerate(zip(self.qkv, self.join, self.experts)):
            q, k, v = [t.view(b, length, self.heads, 64).transpose(1, 2)
                       for t in qkv(self.norms[2 * i](x)).chunk(3, -1)]
            keys, values = self.cache[2 * i:2 * i + 2]
            keys[:, :, self.at:end], values[:, :, self.at:end] = k, v
            score = q @ keys[:, :, :end].transpose(2, 3) / 8
            y = score.masked_fill(later, -1e9).softmax(-1) @ values[:, :, :end]
            x = x + join(y.transpose(1, 2).reshape(x.shape))
            x = x + experts(self.norms[2 * i + 1](x).flatten(0, 1)).view(x.shape)
        self.at = end
        return self.out(x[:, -1]).argmax(-1, keepdim=True)


def routed(_):
    model, state = Routed(), {}

    def step_of(step):
        state["token"] = model(state["token"] if step else torch.randint(0, 10000, (4, 40)))
    return [model], step_of


def columns(x, side, stride):
    """What each place of a convolution sees, as rows."""
    edge = side // 2
    x = numpy.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    seen = numpy.lib.stride_tricks.sliding_window_view(x, (side, side), (2, 3))
    seen = seen[:, :, ::stride, ::stride]
    return seen.transpose(0, 2, 3, 1, 4, 5).reshape(*seen.shape[:1], *seen.shape[2:4], -1)


def convolve(x, weight, bias, stride):
    y = columns(x, weight.shape[2], stride) @ weight.reshape(len(weight), -1).T + bias
    return y.transpose(0, 3, 1, 2)


OPERATORS = {
    "conv": convolve, "gemm": lambda x, weight, bias: x @ weight + bias,
    "relu": lambda x: numpy.maximum(x, 0), "add": lambda x, y: x + y,
    "mean": lambda x: x.mean((2, 3)),
    "softmax": lambda x: (lambda e: e / e.sum(1, keepdims=True))(numpy.exp(x - x.max())),
}


def drawn_graph(random):
    """A residual network: nodes (operator, inputs, output, attributes), and their weights."""
    nodes, values, last, width, count = [], {}, "x", 3, 0

    def convolution(source, a, b, side, stride):
        nonlocal count
        name = f"c{count}"
        count += 1
        values[name + "w"] = (random.standard_normal((b, a, side, side)) /
                              (a * side * side) ** 0.5).astype(numpy.float32)
        values[name + "b"] = numpy.zeros(b, numpy.float32)
        nodes.append(("conv", [source, name + "w", name + "b"], name, {"stride": stride}))
        return name

    for wide in (32, 64, 128, 256):
        down = convolution(last, width, wide, 3, 2)
        nodes.append(("relu", [down], down + "r", {}))
        inner = convolution(down + "r", wide, wide, 3, 1)
        nodes.append(("add", [inner, down + "r"], inner + "a", {}))
        nodes.append(("relu", [inner + "a"], inner + "r", {}))
        last, width = inner + "r", wide
    values["w"] = (random.standard_normal((width, 400)) / 16).astype(numpy.float32)
    values["b"] = numpy.zeros(400, numpy.float32)
    nodes += [("mean", [last], "m", {}), ("gemm", ["m", "w", "b"], "g", {}),
              ("softmax", ["g"], "out", {})]
    return nodes, values


def interpreter(_):
    """A graph from a file, worked off node by node; what nobody needs any more is dropped."""
    nodes, values = drawn_graph(numpy.random.default_rng(7))
    file = io.BytesIO()
    numpy.savez(file, **values)
    file.seek(0)
    with numpy.load(file) as archive:
        values = {name: archive[name] for name in archive.files}
    del file
    needed = {name: at for at, node in enumerate(nodes) for name in node[1]}

    def step_of(step):
        held = {"x": numpy.random.default_rng(step).random((2 + step, 3, 96, 96), numpy.float32)}
        for at, (operator, inputs, output, attributes) in enumerate(nodes):
            given = [values[name] if name in values else held[name] for name in inputs]
            held[output] = OPERATORS[operator](*given, **attributes)
            for name in inputs:
                if name in held and needed[name] == at:
                    del held[name]
        return held["out"].argmax(1)
    return [Holder([torch.from_numpy(value) for value in values.values()])], step_of


def cast(_):
    """As safetensors: the file is mapped, and of each tensor in it, of 16 bits, one of 32 is made
    while the model is built."""
    def build():
        return nn.Sequential(nn.Embedding(9000, 384), *[
            nn.TransformerEncoderLayer(384, 6, 1536, batch_first=True) for _ in range(4)],
            nn.Linear(384, 9000))
    data, table = blob(build().half())
    path = f"classifier-{os.getpid()}.bin"
    with open(path, "wb") as file:
        file.write(data)
    del data
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    os.unlink(path)
    model = build()
    for name, parameter in model.named_parameters():
        at, size, shape = table[name]
        part = torch.frombuffer(mapped, dtype=torch.half, count=size // 2, offset=at)
        parameter.data = part.view(shape).float()
    return [model], lambda step: model(torch.randint(0, 9000, (3, 20 + 4 * step)))


PROGRAMS = {
    "shipped": shipped, "viewer": viewer, "routed": routed, "interpreter": interpreter,
    "transcriber": plain(Transcriber, lambda step: torch.randn(3, 12, 240)), "cast": cast,
}
