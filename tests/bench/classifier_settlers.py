#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py that come with their own ways of loading and keeping, all written
before one of them was run (as were those of class_settlers.c); what they had at the first try is in
RESULTS.md. Each is a function of its ways."""

import copy
import os

import numpy
import torch
from torch import nn
from torch.nn import functional

from classifier_guests import norm_conv
from classifier_loops import Holder


def state_space(_):
    """A selective state-space model in NumPy; its weights are read from one compressed file, and
    its states go from step to step."""
    width, inner, state, layers, words = 384, 768, 16, 6, 12000
    rest = numpy.random.default_rng(1)
    path = f"classifier-{os.getpid()}.npz"
    made = {"words": rest.standard_normal((words, width), dtype=numpy.float32) * 0.02}
    for i in range(layers):
        for name, shape in (("in", (width, 2 * inner)), ("wave", (4, inner)),
                            ("select", (inner, 24 + 2 * state)), ("time", (24, inner)),
                            ("decay", (inner, state)), ("out", (inner, width))):
            made[f"{name}{i}"] = (rest.standard_normal(shape, dtype=numpy.float32)
                                  / numpy.float32(shape[0] ** 0.5))
    numpy.savez_compressed(path, **made)
    del made
    with numpy.load(path) as file:
        w = {name: file[name] for name in file.files}
    os.unlink(path)
    states = [numpy.zeros((8, inner, state), dtype=numpy.float32) for _ in range(layers)]

    def step_of(_):
        x = w["words"][rest.integers(0, words, (8, 32))]
        for i in range(layers):
            u, gate = numpy.split(x @ w[f"in{i}"], 2, -1)
            u = sum(numpy.roll(u, at, 1) * w[f"wave{i}"][at] for at in range(4))
            u = u / (1 + numpy.exp(-u))
            picked = u @ w[f"select{i}"]
            delta = numpy.log1p(numpy.exp(picked[..., :24] @ w[f"time{i}"]))
            decay, out = -numpy.exp(w[f"decay{i}"]), numpy.empty_like(u)
            for t in range(u.shape[1]):
                states[i] *= numpy.exp(delta[:, t, :, None] * decay)
                states[i] += (delta[:, t] * u[:, t])[..., None] * picked[:, t, None, 24:24 + state]
                out[:, t] = (states[i] * picked[:, t, None, 24 + state:]).sum(-1)
            x = x + (out * gate / (1 + numpy.exp(-gate))) @ w[f"out{i}"]
        return x[:, -1] @ w["words"].T
    return [Holder(torch.from_numpy(weight) for weight in w.values())], step_of


class Painter(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(256, 512), nn.SiLU(), nn.Linear(512, 512))
        self.down = nn.ModuleList([norm_conv(4, width), norm_conv(width, 2 * width),
                                   norm_conv(2 * width, 4 * width)])
        self.shift = nn.Linear(512, 4 * width)
        self.mid = nn.MultiheadAttention(4 * width, 4, batch_first=True)
        self.up = nn.ModuleList([norm_conv(6 * width, 2 * width), norm_conv(3 * width, width)])
        self.out = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, x, time):
        waves = time[:, None] * torch.exp(torch.arange(128) * -0.07)
        seen = self.time(torch.cat([waves.sin(), waves.cos()], -1))
        a = self.down[0](x)
        b = self.down[1](functional.avg_pool2d(a, 2))
        c = self.down[2](functional.avg_pool2d(b, 2)) + self.shift(seen)[:, :, None, None]
        flat = c.flatten(2).transpose(1, 2)
        c = c + self.mid(flat, flat, flat)[0].transpose(1, 2).reshape(c.shape)
        x = self.up[0](torch.cat([functional.interpolate(c, scale_factor=2.0), b], 1))
        return self.out(self.up[1](torch.cat([functional.interpolate(x, scale_factor=2.0), a], 1)))


def averages(_):
    """A diffusion model whose averaged copy draws; its noise schedule is a table, and the model
    that was averaged stays."""
    model = Painter()
    mean = copy.deepcopy(model)
    with torch.no_grad():
        for a, b in zip(mean.parameters(), model.parameters()):
            a.mul_(0.99).add_(b, alpha=0.01)
    schedule = torch.linspace(1e-4, 0.02, 20000).double().cumsum(0)

    def step_of(step):
        x = torch.randn(2 + step, 4, 32, 32)
        for at in (19000, 9000, 100):
            noise = mean(x, torch.full((x.shape[0],), float(at)))
            x = x - noise * schedule[at].float() + 0.1 * torch.randn_like(x)
        return x
    return [model, mean], step_of


class Hearing(nn.Module):
    """Sound in chunks: each layer keeps the end of what it has seen, and joins it to what comes."""

    def __init__(self, width=320, layers=6):
        super().__init__()
        self.register_buffer("window", torch.hann_window(400))
        self.register_buffer("bands", torch.rand(201, 80) / 20)
        self.enter = nn.Conv1d(80, width, 5, 2)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, 8, 4 * width, 0.0,
                                                               batch_first=True)
                                    for _ in range(layers))
        self.out = nn.Linear(width, 5000)
        self.past, self.sound = [None] * layers, torch.zeros(4, 400)

    def forward(self, chunk):
        sound = torch.cat([self.sound, chunk], 1)
        self.sound = sound[:, -400:]
        power = torch.stft(sound, 400, 160, window=self.window, return_complex=True).abs() ** 2
        x = self.enter(torch.log(power.transpose(1, 2) @ self.bands + 1e-6).transpose(1, 2))
        x = x.transpose(1, 2)
        for i, layer in enumerate(self.layers):
            both = x if self.past[i] is None else torch.cat([self.past[i], x], 1)
            self.past[i] = both[:, -96:].clone()
            x = layer(both)[:, -x.shape[1]:]
        return self.out(x).log_softmax(-1).argmax(-1)


def hearing(_):
    model = Hearing()
    return [model], lambda _: model(torch.randn(4, 16000))


class Pages(nn.Module):
    """Keys and values of all layers in pages of one block; a request has a list of pages."""

    def __init__(self, width=256, layers=6, words=8000, pages=256):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.leave = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.feed = nn.ModuleList(nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                                nn.Linear(4 * width, width))
                                  for _ in range(layers))
        self.out = nn.Linear(width, words)
        self.pages = torch.zeros(layers, 2, pages, 16, width)
        self.cache, self.free = [self.pages], list(torch.randperm(pages).tolist())
        self.held, self.ends = {}, {}

    def forward(self, request, tokens):
        at = self.ends.get(request, 0)
        end = self.ends[request] = at + len(tokens)
        held = self.held.setdefault(request, [])
        while len(held) * 16 < end:
            held.append(self.free.pop())
        x = self.words(tokens)
        for i, qkv in enumerate(self.qkv):
            q, k, v = qkv(x).chunk(3, -1)
            for t in range(at, end):
                self.pages[i, 0, held[t // 16], t % 16] = k[t - at]
                self.pages[i, 1, held[t // 16], t % 16] = v[t - at]
            keys, values = [self.pages[i, j, held].flatten(0, 1)[:end] for j in range(2)]
            x = x + self.leave[i](torch.softmax(q @ keys.T / 16, -1) @ values)
            x = x + self.feed[i](x)
        return self.out(x[-1]).argmax()


def pages(_):
    model = Pages()

    def step_of(step):
        for request in range(4):
            model(request, torch.randint(0, 8000, (40 if step == 0 else 1,)))
    return [model], step_of


def ensemble(_):
    """Five networks as one: their weights are stacked, and the networks are dropped."""
    shapes = ((1024, 600), (1536, 1024), (1536, 1536), (64, 1536))
    nets = [[torch.randn(shape) / shape[1] ** 0.5 for shape in shapes] for _ in range(5)]
    stacked = [torch.stack(layers).transpose(1, 2).contiguous() for layers in zip(*nets)]
    del nets

    def step_of(_):
        x = torch.rand(96, 600).expand(5, 96, 600)
        for weight in stacked:
            x = functional.gelu(torch.bmm(x, weight))
        return x.mean(0), x.var(0)
    return [Holder(stacked)], step_of


def tensors_cast(ways):
    """Weights of 16 bits in a safetensors file, made 32 bits one by one, and put into layers that
    were made empty."""
    from safetensors.torch import load_file, save_file

    path = f"classifier-{os.getpid()}.safetensors"
    layers = nn.Sequential(nn.Embedding(9000, 384), *[
        nn.TransformerEncoderLayer(384, 6, 1536, 0.0, batch_first=True) for _ in range(5)],
        nn.Linear(384, 9000))
    save_file({name: p.detach().half().contiguous() for name, p in layers.named_parameters()}, path)
    for name, part in load_file(path).items():
        *where, last = name.split(".")
        module = layers.get_submodule(".".join(where))
        delattr(module, last)
        setattr(module, last, nn.Parameter(part.float(), requires_grad=False))
    os.unlink(path)
    return [layers], lambda step: layers(torch.randint(0, 9000, (3, 40 + 8 * step)))


def personas(_):
    """Many small adapters beside one frozen model; each request of a batch has its own."""
    width, rank, layers, count = 512, 16, 6, 24
    bases = [torch.randn(width, width) / width ** 0.5 for _ in range(layers)]
    ups = [torch.randn(count, width, rank) * 0.03 for _ in range(layers)]
    downs = [torch.randn(count, rank, width) * 0.02 for _ in range(layers)]
    head = torch.randn(width, 6000) * 0.04

    def step_of(_):
        who = torch.randint(0, count, (6,))
        x = torch.randn(6, 24, width)
        for base, up, down in zip(bases, ups, downs):
            x = torch.tanh(x @ base + (x @ up[who]) @ down[who])
        return (x[:, -1] @ head).argmax(-1)
    return [Holder(bases + ups + downs + [head])], step_of


PROGRAMS = {
    "state-space": state_space, "averages": averages, "hearing": hearing, "pages": pages,
    "ensemble": ensemble, "tensors-cast": tensors_cast, "personas": personas,
}
