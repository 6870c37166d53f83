# SPDX-License-Identifier: Apache-2.0
"""More programs for classifier_models.py, of eighteen that were written before the classifier had
seen any: those of which it did not know all at first sight."""

import io

import torch
from torch import nn
from torch.nn import functional

from classifier_loops import Holder


def blob(model):
    """As safetensors: one stretch of bytes, and where in it each tensor is."""
    at, table, parts = 0, {}, []
    for name, tensor in model.state_dict().items():
        data = tensor.numpy().tobytes()
        table[name] = (at, len(data), tensor.shape)
        at += len(data)
        parts.append(data)
    return b"".join(parts), table


def block_reader(inputs=512):
    return nn.Sequential(nn.Linear(inputs, 2048), nn.GELU(), nn.Linear(2048, 1024), nn.GELU(),
                         nn.Linear(1024, 1024), nn.GELU(), nn.Linear(1024, 1000))


def one_blob(ways):
    """The weights are views of one stretch of bytes that a file was read into; or are copied."""
    data, table = blob(block_reader())
    file = io.BytesIO(data)
    held = bytearray(len(data))
    file.readinto(held)
    file.close()
    del data, file
    model = block_reader()
    state = {name: torch.frombuffer(held, dtype=torch.float32, count=size // 4, offset=at)
             .view(shape) for name, (at, size, shape) in table.items()}
    if "copied" in ways:
        model.load_state_dict(state)
    else:
        for name, parameter in model.named_parameters():
            parameter.data = state[name]
    del state

    def step_of(step):
        model(torch.randn(40 + step, 512))
    return [model], step_of


class Windows(nn.Module):
    """Attention in windows that are shifted; relative places and masks are kept beside the
    weights."""

    def __init__(self, width=256, side=8):
        super().__init__()
        self.side, self.heads = side, 8
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(4))
        self.join = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.ModuleList(nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                               nn.Linear(4 * width, width)) for _ in range(4))
        self.bias = nn.ParameterList(nn.Parameter(torch.randn((2 * side - 1) ** 2, 8) * 0.02)
                                     for _ in range(4))
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        places = torch.stack([y.flatten(), x.flatten()])
        relative = places[:, :, None] - places[:, None] + side - 1
        for i in range(4):
            self.register_buffer(f"index{i}", (relative[0] * (2 * side - 1) + relative[1]).clone())
        region = torch.zeros(32, 32)
        region[-4:] += 1
        region[:, -4:] += 2
        region = self.cut(region[None, None])[..., 0]
        self.register_buffer("mask", torch.where(region[:, :, None] == region[:, None], 0., -100.))

    def cut(self, x):
        b, c, h, w = x.shape
        s = self.side
        return x.view(b, c, h // s, s, w // s, s).permute(0, 2, 4, 3, 5, 1).reshape(-1, s * s, c)

    def forward(self, picture):
        x = self.patch(picture)
        b, c, h, w = x.shape
        for i in range(4):
            shifted = torch.roll(x, (-4 * (i % 2), -4 * (i % 2)), (2, 3))
            y = self.cut(shifted)
            q, k, v = self.qkv[i](y).view(len(y), 64, 3, 8, -1).permute(2, 0, 3, 1, 4)
            index = getattr(self, f"index{i}")
            score = q @ k.transpose(2, 3) / 6 + self.bias[i][index].permute(2, 0, 1)
            if i % 2:
                score = (score.view(b, -1, 8, 64, 64) + self.mask[:, None]).view_as(score)
            y = y + self.join[i]((score.softmax(-1) @ v).transpose(1, 2).reshape(len(y), 64, c))
            y = y + self.mlp[i](y)
            y = y.view(b, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
            x = torch.roll(y, (4 * (i % 2), 4 * (i % 2)), (2, 3))
        return x.mean((2, 3))


class Complex(nn.Module):
    """State spaces of complex numbers, applied as long convolutions."""

    def __init__(self, width=384, states=64, layers=4):
        super().__init__()
        self.words = nn.Embedding(6000, width)
        self.a = nn.ParameterList(nn.Parameter(torch.complex(-torch.rand(width, states),
                                                             torch.randn(width, states)))
                                  for _ in range(layers))
        self.c = nn.ParameterList(nn.Parameter(torch.randn(width, states, dtype=torch.cfloat))
                                  for _ in range(layers))
        self.mix = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(layers))

    def forward(self, tokens):
        x = self.words(tokens)
        length = x.shape[1]
        for a, c, mix in zip(self.a, self.c, self.mix):
            powers = torch.exp(a[..., None] * 0.01 * torch.arange(length))
            kernel = torch.einsum("ws,wsl->wl", c, powers).real / 64
            y = torch.fft.irfft(torch.fft.rfft(x.transpose(1, 2), 2 * length)
                                * torch.fft.rfft(kernel, 2 * length))[..., :length]
            a, b = mix(functional.gelu(y).transpose(1, 2)).chunk(2, -1)
            x = x + a * b.sigmoid()
        return x


def forest(_):
    """Trees: where each node looks, how far, and what its leaves say; none is a number below 0 but
    some of the last."""
    count, nodes = 200, 4095
    feature = torch.randint(0, 60, (count, nodes))
    limit = torch.randn(count, nodes)
    leaves = torch.randn(count, nodes + 1, 4)
    holder = Holder([feature, limit, leaves])

    def step_of(step):
        x = torch.randn(300 + 20 * step, 60)
        at = torch.zeros(count, len(x), dtype=torch.long)
        for _ in range(12):
            where = feature.gather(1, at)
            right = torch.stack([x.gather(1, w[:, None])[:, 0] for w in where]) \
                > limit.gather(1, at)
            at = 2 * at + 1 + right
            if int(at.max()) >= nodes:
                break
        leaves.gather(1, (at - nodes).clamp_min(0)[..., None].expand(-1, -1, 4)).sum(0)
    return [holder], step_of


def plain(make, source):
    def program(_):
        model = make()

        def step_of(step):
            x = source(step)
            model(*x) if isinstance(x, tuple) else model(x)
        return [model], step_of
    return program


PROGRAMS = {
    "one-blob": one_blob, "forest": forest,
    "windows": plain(Windows, lambda step: torch.rand(2, 3, 128, 128)),
    "complex": plain(Complex, lambda step: torch.randint(0, 6000, (1, 200 + 30 * step))),
}
