#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program for classifier.py, written before it was run: latent diffusion as it is served. A
function of its ways."""

import io

import torch
from torch import nn
from torch.nn import functional


class Timed(nn.Module):
    """A residual block that is told the time."""

    def __init__(self, inputs, outputs, told=512):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(16, inputs), nn.GroupNorm(16, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(told, outputs)
        self.short = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, time):
        y = self.conv1(functional.silu(self.norm1(x)))
        y = y + self.time(functional.silu(time))[:, :, None, None]
        return self.short(x) + self.conv2(functional.silu(self.norm2(y)))


class Asking(nn.Module):
    """Each place asks the others, and then the words."""

    def __init__(self, width, words=256):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.places = nn.MultiheadAttention(width, 4, batch_first=True)
        self.words = nn.MultiheadAttention(width, 4, kdim=words, vdim=words, batch_first=True)
        self.enter, self.leave = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x, words):
        y = x.flatten(2).transpose(1, 2)
        z = self.norms[0](y)
        y = y + self.places(z, z, z, need_weights=False)[0]
        y = y + self.words(self.norms[1](y), words, words, need_weights=False)[0]
        value, gate = self.enter(self.norms[2](y)).chunk(2, -1)
        y = y + self.leave(value * functional.gelu(gate))
        return y.transpose(1, 2).reshape(x.shape)


class Denoiser(nn.Module):
    def __init__(self, widths=(96, 192, 320)):
        super().__init__()
        self.enter, self.time = nn.Conv2d(4, widths[0], 3, padding=1), nn.Sequential(
            nn.Linear(96, 512), nn.SiLU(), nn.Linear(512, 512))
        pairs = list(zip((widths[0],) + widths[:-1], widths))
        self.down = nn.ModuleList(Timed(a, b) for a, b in pairs)
        self.asks = nn.ModuleList(Asking(b) for _, b in pairs)
        self.shrink = nn.ModuleList(nn.Conv2d(b, b, 3, 2, 1) for _, b in pairs)
        self.middle = Timed(widths[-1], widths[-1])
        self.up = nn.ModuleList(Timed(2 * b, a) for a, b in reversed(pairs))
        self.out = nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, x, at, words):
        angles = at[:, None] * torch.exp(-torch.arange(48) / 5.2)
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        x, kept = self.enter(x), []
        for down, ask, shrink in zip(self.down, self.asks, self.shrink):
            x = ask(down(x, time), words)
            kept.append(x)
            x = shrink(x)
        x = self.middle(x, time)
        for up in self.up:
            x = functional.interpolate(x, scale_factor=2.0)
            x = up(torch.cat([x, kept.pop()], 1), time)
        return self.out(x)


class Latent(nn.Module):
    """What reads the words, what takes noise away, and what makes a picture of what is left."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(12000, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
        self.read, self.denoise = nn.TransformerEncoder(layer, 4), Denoiser()
        self.paint = nn.Sequential(nn.Conv2d(4, 128, 3, padding=1), nn.SiLU(),
                                   nn.Upsample(scale_factor=2), nn.Conv2d(128, 64, 3, padding=1),
                                   nn.SiLU(), nn.Conv2d(64, 3, 3, padding=1))


def latent(ways):
    """A step takes a text and makes a picture in four turns, each with and without the words; the
    weights come from a file, and are cast ("half") where they are served so."""
    saved = io.BytesIO()
    torch.save(Latent().state_dict(), saved)
    saved.seek(0)
    model = Latent().eval()
    model.load_state_dict(torch.load(saved))
    saved.close()
    kind = torch.bfloat16 if "half" in ways else torch.float32
    model.to(kind)
    model.denoise.to(torch.float32)

    def step_of(step):
        tokens = torch.cat([torch.randint(1, 12000, (1, 24)), torch.zeros(1, 24).long()])
        words = model.read(model.words(tokens)).float()
        x = torch.randn(1, 4, 32, 32)
        for turn in range(4):
            told, free = model.denoise(torch.cat([x, x]), torch.full((2,), 900.0 - 200 * turn),
                                       words).chunk(2)
            x = x - 0.1 * (free + 5 * (told - free))
        return model.paint(x.to(kind))
    return [model], step_of


PROGRAMS = {"latent": latent}
