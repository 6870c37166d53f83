#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py that were all written before one of them was run, when the rules of
the others had been made; what they had at the first try is in RESULTS.md. As in
classifier_programs.py, each is a function of its ways."""

import numpy
import torch
from torch import nn
from torch.nn import functional

from classifier_learners import library, optimizer_for
from classifier_loops import Holder, learn, trained
from classifier_programs import Language, plain


class Volumes(nn.Module):
    """Segments a volume window by window, and joins what it finds."""

    def __init__(self, widths=(24, 48, 96, 192)):
        super().__init__()
        self.down = nn.ModuleList(self.double(a, b) for a, b in zip((1,) + widths, widths))
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, 2)
                                for a, b in reversed(list(zip(widths, widths[1:]))))
        self.join = nn.ModuleList(self.double(2 * a, a) for a in reversed(widths[:-1]))
        self.head = nn.Conv3d(widths[0], 3, 1)

    @staticmethod
    def double(inputs, outputs):
        return nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, 1, 1), nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(), nn.Conv3d(outputs, outputs, 3, 1, 1),
            nn.InstanceNorm3d(outputs, affine=True), nn.LeakyReLU())

    def window(self, x):
        kept = []
        for at, layer in enumerate(self.down):
            x = layer(functional.max_pool3d(x, 2) if at else x)
            kept.append(x)
        kept.pop()
        for up, join in zip(self.up, self.join):
            x = join(torch.cat([up(x), kept.pop()], 1))
        return self.head(x)

    def forward(self, volume, side=32):
        out = volume.new_zeros(3, *volume.shape)
        for at in range(0, volume.shape[0] - side + 1, side):
            for across in range(0, volume.shape[1] - side + 1, side):
                place = (slice(at, at + side), slice(across, across + side), slice(side))
                out[(slice(None), *place)] += self.window(volume[place][None, None])[0]
        return out.argmax(0)


class Voice(nn.Module):
    """Speaks frame by frame: attention to the text, cells, and what was said so far."""

    def __init__(self, width=512, frames=80):
        super().__init__()
        self.embedding, self.frames = nn.Embedding(200, width), frames
        self.convolve = nn.Sequential(*[part for _ in range(3) for part in (
            nn.Conv1d(width, width, 5, 1, 2), nn.BatchNorm1d(width), nn.ReLU())])
        self.encoder = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.before = nn.Sequential(nn.Linear(frames, 256), nn.ReLU(), nn.Linear(256, 256),
                                    nn.ReLU())
        self.listen, self.speak = nn.LSTMCell(256 + width, 768), nn.LSTMCell(768 + width, 768)
        self.query, self.memory = nn.Linear(768, 128), nn.Linear(width, 128)
        self.out = nn.Linear(768 + width, frames)
        self.after = nn.Sequential(nn.Conv1d(frames, 384, 5, 1, 2), nn.Tanh(),
                                   nn.Conv1d(384, frames, 5, 1, 2))

    def forward(self, text):
        x = self.convolve(self.embedding(text).transpose(1, 2)).transpose(1, 2)
        x = self.encoder(x)[0]
        memory, batch = self.memory(x), x.shape[0]
        mixed, frame = x.new_zeros(batch, x.shape[2]), x.new_zeros(batch, self.frames)
        first = second = None
        said = []
        for _ in range(30):
            first = self.listen(torch.cat([self.before(frame), mixed], 1), first)
            scores = torch.tanh(memory + self.query(first[0])[:, None]).sum(-1)
            mixed = (torch.softmax(scores, 1)[..., None] * x).sum(1)
            second = self.speak(torch.cat([first[0], mixed], 1), second)
            frame = self.out(torch.cat([second[0], mixed], 1))
            said.append(frame)
        frames = torch.stack(said, 2)
        return frames + self.after(frames)


class Crossing(nn.Module):
    """A layer of convolutions that looks at a text."""

    def __init__(self, inputs, outputs, text):
        super().__init__()
        self.first, self.second = [nn.Conv2d(a, outputs, 3, 1, 1) for a in (inputs, outputs)]
        self.norm = nn.GroupNorm(8, outputs)
        self.side = nn.Conv2d(inputs, outputs, 1)
        self.attention = nn.MultiheadAttention(outputs, 8, kdim=text, vdim=text, batch_first=True)

    def forward(self, x, text):
        y = self.norm(self.second(functional.silu(self.first(x)))) + self.side(x)
        flat = y.flatten(2).transpose(1, 2)
        flat = flat + self.attention(flat, text, text, need_weights=False)[0]
        return flat.transpose(1, 2).reshape(y.shape)


class Painter(nn.Module):
    """Three models: one reads a text, one takes noise away, one makes a picture of what is left."""

    def __init__(self, text=256, width=96):
        super().__init__()
        self.words, self.text = nn.Embedding(10000, text), nn.TransformerEncoder(
            nn.TransformerEncoderLayer(text, 4, 4 * text, batch_first=True), 4)
        widths = [width, 2 * width, 4 * width]
        self.enter = nn.Conv2d(4, width, 3, 1, 1)
        self.down = nn.ModuleList(Crossing(a, b, text) for a, b in zip([width] + widths, widths))
        self.up = nn.ModuleList(Crossing(a + b, b, text) for a, b in
                                zip([widths[2], widths[2], widths[1]], reversed(widths)))
        self.leave = nn.Conv2d(width, 4, 3, 1, 1)
        sizes = ((4, 256), (256, 128), (128, 64))
        self.decode = nn.Sequential(*[part for a, b in sizes for part in (
            nn.Conv2d(a, b, 3, 1, 1), nn.SiLU(), nn.Upsample(scale_factor=2.0))],
            nn.Conv2d(64, 3, 3, 1, 1))

    def noise(self, x, text):
        x, kept = self.enter(x), []
        for layer in self.down:
            x = layer(x, text)
            kept.append(x)
            x = functional.avg_pool2d(x, 2)
        for layer in self.up:
            x = layer(torch.cat([functional.interpolate(x, scale_factor=2.0), kept.pop()], 1), text)
        return self.leave(x)

    def forward(self, tokens, turns=4):
        text = self.text(self.words(tokens))
        both = torch.cat([text, torch.zeros_like(text)])
        x = torch.randn(1, 4, 32, 32)
        for turn in range(turns):
            found, none = self.noise(torch.cat([x, x]), both).chunk(2)
            x = x - (none + 5 * (found - none)) / (turns + turn)
        return self.decode(x)


class Tracker(nn.Module):
    """Compares all of one picture to all of another, and follows what moves, turn by turn."""

    def __init__(self, width=128):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(),
                                      nn.Conv2d(64, 96, 3, 2, 1), nn.ReLU(),
                                      nn.Conv2d(96, 2 * width, 3, 2, 1))
        self.context = nn.Conv2d(2 * width, 2 * width, 3, 1, 1)
        self.look = nn.Conv2d(2 + 81, width, 3, 1, 1)
        self.gates = nn.ModuleList(nn.Conv2d(2 * width, width, 3, 1, 1) for _ in range(3))
        self.move = nn.Sequential(nn.Conv2d(width, 256, 3, 1, 1), nn.ReLU(),
                                  nn.Conv2d(256, 2, 3, 1, 1))

    def forward(self, first, second):
        a, b = self.features(first), self.features(second)
        batch, _, height, width = a.shape
        pairs = torch.einsum("bchw,bcxy->bhwxy", a, b)
        pairs = pairs.reshape(batch * height * width, 1, height, width)
        state, flow = self.context(a).tanh().chunk(2, 1)[0], a.new_zeros(batch, 2, height, width)
        for _ in range(4):
            near = functional.adaptive_avg_pool2d(pairs, 9).reshape(batch, height, width, 81)
            x = functional.relu(self.look(torch.cat([flow, near.permute(0, 3, 1, 2)], 1)))
            both = torch.cat([state, x], 1)
            keep, reset = [torch.sigmoid(gate(both)) for gate in self.gates[:2]]
            new = torch.tanh(self.gates[2](torch.cat([reset * state, x], 1)))
            state = (1 - keep) * state + keep * new
            flow = flow + self.move(state)
        return flow


def tracker(_):
    model, kept = Tracker(), [torch.rand(1, 3, 256, 256)]

    def step_of(_):
        kept.append(torch.rand(1, 3, 256, 256))
        return model(kept.pop(0), kept[0])
    return [model], step_of


def kernels(_):
    """No network: what a support vector machine and a mixture of normal distributions have learnt,
    in NumPy."""
    make = numpy.random.default_rng(0)
    vectors, factors = make.standard_normal((6000, 256)), make.standard_normal(6000)
    means = make.standard_normal((64, 256)).astype(numpy.float32)
    roots = (make.standard_normal((64, 256, 256)) / 16).astype(numpy.float32)

    def step_of(_):
        x = make.standard_normal((128, 256))
        near = (x ** 2).sum(1)[:, None] + (vectors ** 2).sum(1) - 2 * x @ vectors.T
        found = numpy.exp(-near / 256) @ factors
        away = [((x - mean) @ root) ** 2 for mean, root in zip(means, roots)]
        return found, numpy.stack([a.sum(1) for a in away]).argmin(0)
    return [Holder(torch.from_numpy(w) for w in (vectors, factors, means, roots))], step_of


def hub_deberta(hub, _):
    model = hub.DebertaV2ForSequenceClassification(hub.DebertaV2Config(
        vocab_size=12000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=1024, relative_attention=True, max_relative_positions=128,
        pos_att_type=["p2c", "c2p"], position_biased_input=False))
    return model, lambda step: model(torch.randint(0, 12000, (4, 40 + step)))


def hub_segments(hub, _):
    model = hub.SegformerForSemanticSegmentation(hub.SegformerConfig(num_labels=100))
    return model, lambda step: model(torch.randn(2, 3, 128, 128))


def words_of(make):
    """Batches of another length in each step."""
    def make_it(ways):
        model = make()
        optimizer = optimizer_for(model.parameters(), ways)

        def step_of(step):
            x = torch.randint(0, 8000, (4, 40 + 11 * (step * 7 % 5)))
            learn(optimizer, lambda: functional.cross_entropy(
                model(x), torch.randint(0, 8000, (4,))))
        return [model], trained(step_of)
    return make_it


PROGRAMS = {
    "volumes": plain(Volumes, lambda step: torch.randn(64, 64, 32)),
    "voice": plain(Voice, lambda step: torch.randint(0, 200, (4, 60 + 9 * step))),
    "painter": plain(Painter, lambda step: torch.randint(0, 10000, (1, 24))),
    "tracker": tracker, "kernels": kernels,
    "hub-deberta": library(hub_deberta), "hub-segments": library(hub_segments),
    "learn-text": words_of(lambda: Language(256, 4, 8000)),
}
