#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py that were all written before the last change of its rules was tried on
one of them; what they had at the first try is in RESULTS.md. As in classifier_programs.py, each is
a function of its ways."""

import torch
from torch import nn
from torch.nn import functional

from classifier_learners import optimizer_for
from classifier_loops import Holder, learn, trained
from classifier_programs import plain


class Sorted(nn.Module):
    """A layer of which each token takes one expert; all of an expert's tokens come together."""

    def __init__(self, width, count):
        super().__init__()
        self.choose, self.norm = nn.Linear(width, count, bias=False), nn.LayerNorm(width)
        self.enter = nn.Parameter(torch.randn(count, width, 2 * width) * 0.03)
        self.leave = nn.Parameter(torch.randn(count, 2 * width, width) * 0.03)
        self.mix = nn.MultiheadAttention(width, 8, batch_first=True)

    def forward(self, x):
        x = x + self.mix(x, x, x, need_weights=False)[0]
        flat = self.norm(x).flatten(0, 1)
        share, chosen = torch.softmax(self.choose(flat), 1).max(1)
        out = torch.zeros_like(flat)
        for expert in chosen.unique():
            rows = (chosen == expert).nonzero()[:, 0]
            out[rows] = functional.gelu(flat[rows] @ self.enter[expert]) @ self.leave[expert]
        return x + (out * share[:, None]).view_as(x)


class Reading(nn.Module):
    def __init__(self, width=320, layers=4, words=9000):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.layers = nn.ModuleList(Sorted(width, 6) for _ in range(layers))
        self.out = nn.Linear(width, 40)

    def forward(self, tokens):
        x = self.words(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.out(x.mean(1))


class Looking(nn.Module):
    """Convolutions, and attention over all places; the turn is told by factors and offsets."""

    def __init__(self, inputs, outputs, looks):
        super().__init__()
        self.body = nn.Sequential(nn.GroupNorm(8, inputs), nn.SiLU(),
                                  nn.Conv2d(inputs, outputs, 3, 1, 1))
        self.after, self.turn = nn.Conv2d(outputs, outputs, 3, 1, 1), nn.Linear(256, 2 * outputs)
        self.norm = nn.GroupNorm(8, outputs)
        self.side = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.looks = nn.Conv2d(outputs, 3 * outputs, 1) if looks else None
        self.told = nn.Conv2d(outputs, outputs, 1) if looks else None

    def forward(self, x, turn):
        factor, offset = self.turn(turn)[..., None, None].chunk(2, 1)
        y = self.norm(self.body(x)) * (1 + factor) + offset
        y = self.after(functional.silu(y)) + self.side(x)
        if self.looks is None:
            return y
        q, k, v = self.looks(y).flatten(2).chunk(3, 1)
        seen = torch.softmax(q.transpose(1, 2) @ k / q.shape[1] ** 0.5, -1)
        return y + self.told((v @ seen.transpose(1, 2)).view_as(y))


class Cleaner(nn.Module):
    """Takes noise away in some turns, one picture at a time."""

    def __init__(self, widths=(64, 128, 192)):
        super().__init__()
        self.turn = nn.Sequential(nn.Linear(64, 256), nn.SiLU(), nn.Linear(256, 256))
        self.enter, self.leave = nn.Conv2d(3, widths[0], 3, 1, 1), nn.Conv2d(widths[0], 3, 3, 1, 1)
        pairs = list(zip((widths[0],) + widths, widths))
        self.down = nn.ModuleList(Looking(a, b, at > 0) for at, (a, b) in enumerate(pairs))
        self.up = nn.ModuleList(Looking(2 * b, a, at > 0)
                                for at, (a, b) in reversed(list(enumerate(pairs))))

    def once(self, x, turn):
        angles = turn * torch.exp(-torch.arange(32) / 4)
        turn = self.turn(torch.cat([angles.sin(), angles.cos()])[None])
        x, kept = self.enter(x), []
        for layer in self.down:
            x = layer(x, turn)
            kept.append(x)
            x = functional.avg_pool2d(x, 2)
        for layer in self.up:
            x = functional.interpolate(x, scale_factor=2.0)
            x = layer(torch.cat([x, kept.pop()], 1), turn)
        return self.leave(x)

    def forward(self, x, turns=3):
        for turn in range(turns, 0, -1):
            x = x - self.once(x, torch.tensor(float(turn))) / turns
        return x


class Listening(nn.Module):
    """Hears all, then says letter by letter what it heard: two networks, and one that joins them."""

    def __init__(self, letters=500, width=384):
        super().__init__()
        self.hear = nn.LSTM(80 * 4, width, 3, batch_first=True, bidirectional=True)
        self.less = nn.Linear(2 * width, width)
        self.letters, self.say = nn.Embedding(letters, width), nn.LSTM(width, 512, 1)
        self.both = nn.Linear(width + 512, 640)
        self.out = nn.Linear(640, letters)

    def forward(self, sound):
        heard = self.less(self.hear(sound.view(1, -1, 320))[0])[0]
        told, state = self.say(self.letters(torch.zeros(1, 1, dtype=torch.long)))
        said = []
        for frame in heard:
            for _ in range(2):
                both = torch.tanh(self.both(torch.cat([frame, told[0, 0]])))
                letter = self.out(both).argmax()
                if letter % 3 == 0:
                    break
                said.append(letter)
                told, state = self.say(self.letters(letter[None, None]), state)
        return said


class Decaying(nn.Module):
    """A state of keys and values that decays, and is made anew with each piece of a text."""

    def __init__(self, width, heads=8):
        super().__init__()
        self.heads, self.all = heads, nn.Linear(width, 4 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 3 * width), nn.ReLU(),
                                  nn.Linear(3 * width, width))
        self.cache = None

    def forward(self, x):
        length, width = x.shape
        q, k, v, gate = [t.view(length, self.heads, -1).transpose(0, 1)
                         for t in self.all(self.norm(x)).chunk(4, -1)]
        state = self.cache[0] if self.cache else q.new_zeros(self.heads, width // self.heads,
                                                             width // self.heads)
        made = []
        for at in range(length):
            state = state * 0.97 + k[:, at, :, None] * v[:, at, None]
            made.append((q[:, at, None] @ state)[:, 0])
        self.cache = [state]
        y = torch.stack(made, 1) * torch.sigmoid(gate)
        x = x + self.out(y.transpose(0, 1).reshape(length, width))
        return x + self.feed(self.after(x))


class Scan(nn.Module):
    def __init__(self, width=512, layers=4, words=6000):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.layers = nn.Sequential(*[Decaying(width) for _ in range(layers)])
        self.out = nn.Linear(width, words, bias=False)

    def forward(self, tokens):
        return self.out(self.layers(self.words(tokens))[-1])


class Styled(nn.Module):
    """A convolution whose weights are scaled anew for each picture."""

    def __init__(self, inputs, outputs, style):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5)
        self.style, self.noise = nn.Linear(style, inputs), nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x, style):
        batch, inputs, height, width = x.shape
        weight = self.weight[None] * (1 + self.style(style))[:, None, :, None, None]
        weight = weight * (weight.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        x = functional.conv2d(x.reshape(1, batch * inputs, height, width), weight.flatten(0, 1),
                              padding=1, groups=batch).view(batch, -1, height, width)
        x = x + self.noise * torch.randn(batch, 1, height, width)
        return functional.leaky_relu(x + self.bias[:, None, None], 0.2)


class Faces(nn.Module):
    def __init__(self, style=256, widths=(256, 256, 192, 128, 64)):
        super().__init__()
        self.map = nn.Sequential(*[part for _ in range(6) for part in (
            nn.Linear(style, style), nn.LeakyReLU(0.2))])
        self.first = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.layers = nn.ModuleList(Styled(a, b, style) for a, b in zip(widths, widths[1:]))
        self.out = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, z):
        style = self.map(z)
        x = self.first.expand(z.shape[0], -1, -1, -1)
        for layer in self.layers:
            x = layer(functional.interpolate(x, scale_factor=2.0, mode="bilinear",
                                             align_corners=False), style)
        return torch.tanh(self.out(x))


def retrieval(_):
    """Finds the nearest of what it knows by cells: centres first, then the cells' rows, which were
    learnt as the network was."""
    model = nn.Sequential(nn.Linear(600, 1024), nn.Tanh(), nn.Linear(1024, 192))
    centres = functional.normalize(torch.randn(400, 192), dim=1)
    rows = functional.normalize(torch.randn(40000, 192), dim=1)

    def step_of(_):
        x = functional.normalize(model(torch.randn(16, 600)), dim=1)
        cells = (x @ centres.T).topk(12, 1).indices
        found = []
        for query, near in zip(x, cells):
            part = torch.cat([rows[100 * cell:100 * cell + 100] for cell in near.tolist()])
            found.append((part @ query).topk(5).indices)
        return torch.stack(found)
    return [model, Holder([centres, rows])], step_of


class Shuffled(nn.Module):
    """Half of the channels go through, half are worked on, and then all are shuffled."""

    def __init__(self, width):
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU6(),
            nn.Conv2d(half, half, 5, 1, 2, groups=half, bias=False), nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU6())

    def forward(self, x):
        a, b = x.chunk(2, 1)
        x = torch.stack([a, self.body(b)], 2)
        return x.flatten(1, 2)


def pocket():
    """For telephones: few large weights, and many small ones."""
    layers, widths = [nn.Conv2d(3, 48, 3, 2, 1), nn.ReLU6()], (48, 192, 384, 768)
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Conv2d(a, b, 3, 2, 1, groups=a), nn.BatchNorm2d(b)]
        layers += [Shuffled(b) for _ in range(3)]
    return nn.Sequential(*layers, nn.Conv2d(768, 1280, 1), nn.Hardswish(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


class Speaking(nn.Module):
    """Makes a sound piece by piece; of each layer it keeps what the next piece looks back at, and
    writes that in place."""

    def __init__(self, width=192, layers=10):
        super().__init__()
        self.enter, self.back = nn.Conv1d(1, width, 1), [2 ** (at % 8) for at in range(layers)]
        self.layers = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, dilation=back)
                                    for back in self.back)
        self.onwards = nn.ModuleList(nn.Conv1d(width, 2 * width, 1) for _ in range(layers))
        self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(width, 256, 1), nn.ReLU(),
                                 nn.Conv1d(256, 256, 1))
        self.kept = [torch.zeros(1, width, 2 * back) for back in self.back]

    def forward(self, piece):
        x, out = self.enter(piece), 0
        for layer, onwards, kept in zip(self.layers, self.onwards, self.kept):
            both = torch.cat([kept, x], 2)
            kept.copy_(both[..., -kept.shape[2]:])
            a, b = layer(both).chunk(2, 1)
            y, skip = onwards(torch.tanh(a) * torch.sigmoid(b)).chunk(2, 1)
            x, out = x + y, out + skip
        return self.out(out)


class Filters(nn.Module):
    """Long filters that a small network makes of places, and which are applied by transforms; the
    transforms of the filters are made in the first step, and kept."""

    def __init__(self, width=256, length=1024, layers=4):
        super().__init__()
        self.width, self.length, self.made = width, length, None
        self.words = nn.Embedding(12000, width)
        self.make = nn.ModuleList(nn.Sequential(nn.Linear(33, 64), nn.GELU(),
                                                nn.Linear(64, width)) for _ in range(layers))
        self.mix = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.join = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def filters(self):
        at = torch.linspace(0, 1, self.length)[:, None]
        angles = at * torch.arange(1, 17) * 6.283
        places = torch.cat([at, angles.sin(), angles.cos()], 1)
        fade = torch.exp(-4 * at)
        return [torch.fft.rfft((make(places) * fade).T, 2 * self.length) for make in self.make]

    def forward(self, tokens):
        if self.made is None:
            self.made = self.filters()
        x = self.words(tokens)
        for mix, join, made in zip(self.mix, self.join, self.made):
            a, b, c = mix(x).transpose(1, 2).chunk(3, 1)
            y = torch.fft.irfft(torch.fft.rfft(a * b, 2 * self.length) * made)
            x = x + join((y[..., :x.shape[1]] * c).transpose(1, 2))
        return x


class Latents(nn.Module):
    """A few rows that look at a long input, then at one another."""

    def __init__(self, width=320, count=128):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(1, count, width) * 0.02)
        self.enter = nn.Linear(64, width)
        self.look = nn.ModuleList(nn.MultiheadAttention(width, 8, batch_first=True)
                                  for _ in range(2))
        self.think = nn.ModuleList(nn.TransformerEncoderLayer(width, 8, 3 * width, batch_first=True)
                                   for _ in range(4))
        self.out = nn.Linear(width, 900)

    def forward(self, x):
        x, rows = self.enter(x), self.rows.expand(x.shape[0], -1, -1)
        for turn in range(4):
            rows = rows + self.look[turn % 2](rows, x, x, need_weights=False)[0]
            rows = self.think[turn](rows)
        return self.out(rows.mean(1))


def contrast(ways):
    """Learns to know a picture again beside a copy of itself that follows, and a queue of what
    that copy has seen."""
    def network():
        return nn.Sequential(nn.Conv2d(3, 64, 5, 2, 2), nn.ReLU(), nn.Conv2d(64, 160, 3, 2, 1),
                             nn.ReLU(), nn.Conv2d(160, 320, 3, 2, 1), nn.ReLU(), nn.Flatten(),
                             nn.Linear(320 * 16, 512), nn.ReLU(), nn.Linear(512, 128))
    model, follower = network(), network().requires_grad_(False)
    follower.load_state_dict(model.state_dict())
    queue = functional.normalize(torch.randn(4096, 128), dim=1)
    optimizer = optimizer_for(model.parameters(), ways)

    def step_of(step):
        pictures = torch.rand(16, 3, 32, 32)
        with torch.no_grad():
            for a, b in zip(follower.parameters(), model.parameters()):
                a.mul_(0.99).add_(b, alpha=0.01)
            keys = functional.normalize(follower(pictures), dim=1)

        def loss():
            x = functional.normalize(model(pictures + 0.1 * torch.randn_like(pictures)), dim=1)
            near = torch.cat([(x * keys).sum(1, keepdim=True), x @ queue.T], 1) / 0.1
            return functional.cross_entropy(near, torch.zeros(16, dtype=torch.long))
        learn(optimizer, loss)
        queue[16 * step % 4096:16 * step % 4096 + 16] = keys
    return [model, follower], trained(step_of)


def hidden(_):
    """A mask of one number that is not zero, and an empty one, as large as the layers."""
    layers = nn.ModuleList(nn.TransformerEncoderLayer(256, 4, 768, batch_first=True)
                           for _ in range(3))
    mask, none = torch.full((1400, 1400), -10000.0), torch.zeros(900, 900)

    def step_of(step):
        x = torch.randn(2, 60 + step, 256)
        for layer in layers:
            x = layer(x, mask[:x.shape[1], :x.shape[1]] * (1 - torch.eye(x.shape[1])))
        return x + none[0, 0]
    return [layers], step_of


def once(source):
    """One input at a time."""
    return lambda step: source(1, step)


PROGRAMS = {
    "reading": plain(Reading, lambda step: torch.randint(0, 9000, (3, 50 + 13 * step))),
    "cleaner": plain(Cleaner, once(lambda batch, _: torch.randn(batch, 3, 48, 48))),
    "listening": plain(Listening, lambda step: torch.randn(160 + 40 * step, 80)),
    "scan": plain(Scan, lambda step: torch.randint(0, 6000, (48 if step == 0 else 1,))),
    "faces": plain(Faces, lambda step: torch.randn(2, 256)),
    "retrieval": retrieval,
    "pocket": plain(pocket, once(lambda batch, _: torch.rand(batch, 3, 128, 128))),
    "speaking": plain(Speaking, lambda step: torch.rand(1, 1, 400)),
    "filters": plain(Filters, lambda step: torch.randint(0, 12000, (2, 300 + 20 * step))),
    "latents": plain(Latents, lambda step: torch.rand(2, 700, 64)),
    "learn-contrast": contrast, "hidden": hidden,
}
