#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py that differ from all in its lists, written before one of them was run;
what they had at the first try is in RESULTS.md. Each is a function of its ways."""

import numpy
import torch
from torch import nn
from torch.nn import functional

from classifier_loops import Holder
from classifier_newcomers import plain
from classifier_travellers import CrossLayer


class Reordered(nn.Module):
    """Reads a text, and writes another with the best few beginnings; after each token the caches of
    all layers are put in the order of those that go on."""

    def __init__(self, width=384, words=14000, layers=4):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.read = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True), layers)
        self.layers = nn.ModuleList(CrossLayer(width, 8) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, words)

    def forward(self, text, beams=5, length=20):
        said = self.read(self.words(text)).repeat_interleave(beams, 0)
        heard = [layer.heard(said) for layer in self.layers]
        before = [None] * len(self.layers)
        score = torch.full((len(text), beams), -1e9)
        score[:, 0] = 0
        tokens = torch.zeros(len(said), 1, dtype=torch.long)
        for _ in range(length):
            x = self.words(tokens[:, -1:])
            for at, layer in enumerate(self.layers):
                x, before[at] = layer(x, heard[at], before[at])
            likely = self.out(self.norm(x[:, -1])).log_softmax(-1).view(len(text), beams, -1)
            score, best = (score[..., None] + likely).flatten(1).topk(beams)
            order = (best // likely.shape[-1] + beams * torch.arange(len(text))[:, None]).flatten()
            tokens = torch.cat([tokens[order], (best % likely.shape[-1]).view(-1, 1)], 1)
            before = [tuple(part.index_select(0, order) for part in pair) for pair in before]
        return tokens.view(len(text), beams, -1)[:, 0]


class Gathered(nn.Module):
    """Layers that join a node and the mean of some of those beside it."""

    def __init__(self, width=512, hidden=1024, classes=200):
        super().__init__()
        sizes = [width, hidden, hidden, classes]
        self.own = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.near = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(sizes, sizes[1:]))

    def forward(self, rows, fan):
        for at, (own, near) in enumerate(zip(self.own, self.near)):
            made = [own(here) + near(around.view(len(here), fan, -1).mean(1))
                    for here, around in zip(rows, rows[1:])]
            rows = [functional.relu(row) for row in made] if at < 2 else made
        return rows[0]


def neighbours(_):
    """A network for the nodes of a large graph: each step samples some, and who is beside them; the
    graph and what is known of its nodes lie beside the model."""
    nodes, degree, fan = 20000, 12, 5
    edges = torch.randint(0, nodes, (nodes * degree,))
    starts = torch.arange(0, nodes * degree + 1, degree)
    features = torch.randn(nodes, 512)
    model = Gathered()

    def step_of(step):
        hops = [torch.randint(0, nodes, (32 + step,))]
        for _ in range(3):
            some = torch.randint(0, degree, (len(hops[-1]), fan))
            hops.append(edges[starts[hops[-1]][:, None] + some].flatten())
        return model([features[hop] for hop in hops], fan)
    return [model], step_of


class Ranking(nn.Module):
    """Large tables of which a request reads a few rows, bags among them, crossed with one another
    and a few numbers."""

    def __init__(self, width=32):
        super().__init__()
        sizes = (400000, 150000, 60000, 60000, 20000, 8000, 3000, 900)
        self.tables = nn.ModuleList(nn.EmbeddingBag(size, width, mode="sum") for size in sizes)
        for table in self.tables:
            nn.init.uniform_(table.weight, -table.num_embeddings ** -0.5,
                             table.num_embeddings ** -0.5)
        self.low = nn.Sequential(nn.Linear(13, 256), nn.ReLU(), nn.Linear(256, width), nn.ReLU())
        pairs = (len(sizes) + 1) * len(sizes) // 2
        self.high = nn.Sequential(nn.Linear(pairs + width, 768), nn.ReLU(), nn.Linear(768, 512),
                                  nn.ReLU(), nn.Linear(512, 1))

    def forward(self, numbers, bags):
        low = self.low(numbers)
        rows = [low] + [table(*bag) for table, bag in zip(self.tables, bags)]
        rows = torch.stack(rows, 1)
        crossed = rows @ rows.transpose(1, 2)
        a, b = torch.tril_indices(rows.shape[1], rows.shape[1], -1)
        return self.high(torch.cat([low, crossed[:, a, b]], 1)).sigmoid()


def requests_of(step):
    count, bags = 24 + 8 * step, []
    for size in (400000, 150000, 60000, 60000, 20000, 8000, 3000, 900):
        lengths = torch.randint(1, 6, (count,))
        skewed = (torch.rand(int(lengths.sum())) ** 4 * size).long()
        bags.append((skewed, torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)[:-1]])))
    return torch.randn(count, 13), bags


class Looking(nn.Module):
    """One level of a U-Net: a convolution that is told the time, and a look at a text."""

    def __init__(self, inputs, width, told=512):
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, 1, 1)
        self.second = nn.Conv2d(width, width, 3, 1, 1)
        self.time, self.norm = nn.Linear(512, 2 * width), nn.GroupNorm(8, width)
        self.ask, self.text = nn.Linear(width, width), nn.Linear(told, 2 * width)
        self.join = nn.Linear(width, width)

    def forward(self, x, time, text):
        x = self.first(x)
        scale, shift = self.time(time)[..., None, None].chunk(2, 1)
        x = x + self.second(functional.silu(self.norm(x) * (1 + scale) + shift))
        flat = x.flatten(2).transpose(1, 2)
        k, v = self.text(text).chunk(2, -1)
        y = torch.softmax(self.ask(flat) @ k.transpose(1, 2) / x.shape[1] ** 0.5, -1) @ v
        return x + self.join(y).transpose(1, 2).reshape(x.shape)


class Sampler(nn.Module):
    def __init__(self, widths=(64, 128, 256)):
        super().__init__()
        self.words = nn.Embedding(12000, 512)
        self.read = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True), 2)
        pairs = list(zip((4,) + widths, widths))
        self.down = nn.ModuleList(Looking(a, b) for a, b in pairs)
        self.up = nn.ModuleList(Looking(b + b, a) for a, b in reversed(list(zip(
            (64,) + widths, widths))))
        self.out = nn.Conv2d(64, 4, 3, 1, 1)

    def forward(self, x, at, text):
        angles = at * torch.exp(-torch.arange(256) / 256 * 9.2)
        time = torch.cat([angles.sin(), angles.cos()])[None].expand(len(x), -1)
        kept = []
        for layer in self.down:
            x = layer(x, time, text)
            kept.append(x)
            x = functional.avg_pool2d(x, 2)
        for layer in self.up:
            x = layer(torch.cat([functional.interpolate(x, scale_factor=2.0), kept.pop()], 1),
                      time, text)
        return self.out(x)


def sampler(_):
    """A loop that takes noise away: a step is one turn of it. What was read of the text is kept for
    the whole loop, and so is a table of how much noise there is at which time."""
    model = Sampler()
    alphas = torch.linspace(0.9999, 0.98, 1000).cumprod(0)
    state = {}

    def step_of(step):
        if step % 20 == 0:
            state["text"] = model.read(model.words(torch.randint(0, 12000, (4, 77))))
            state["x"] = torch.randn(4, 4, 48, 48)
        at = 950 - 47 * (step % 20)
        here, then = alphas[at], alphas[max(at - 47, 0)]
        noise = model(state["x"], float(at), state["text"])
        clean = (state["x"] - (1 - here).sqrt() * noise) / here.sqrt()
        state["x"] = then.sqrt() * clean + (1 - then).sqrt() * noise
    return [model], step_of


def bytes_alone(_):
    """Weights of eight bits with a factor for each row, without a framework: sums of whole
    numbers."""
    random = numpy.random.default_rng(3)
    sizes = (768, 1536, 1536, 1536, 640, 100)
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        weight = random.standard_normal((b, a)) / a ** 0.5
        scale = numpy.abs(weight).max(1) / 127
        layers.append(((weight / scale[:, None]).round().astype(numpy.int8),
                       scale.astype(numpy.float32)))
    holder = Holder([torch.from_numpy(part) for layer in layers for part in layer])

    def step_of(step):
        x = random.standard_normal((6 + step, 768)).astype(numpy.float32)
        for weight, scale in layers:
            unit = numpy.abs(x).max() / 127
            low = (x / unit).round().astype(numpy.int8)
            total = numpy.einsum("ik,jk->ij", low, weight, dtype=numpy.int32)
            x = numpy.maximum(total * (unit * scale), 0)
        return x.argmax(1)
    return [holder], step_of


class Base(nn.Module):
    def __init__(self, width=512, layers=5, words=9000):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.body = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True), layers)
        self.out = nn.Linear(width, words)

    def forward(self, tokens):
        return self.out(self.body(self.words(tokens))[:, -1])


def borrowed(_):
    """One model for several customers: between requests the adapter of the last is taken out of the
    weights, and that of the next is added, in place."""
    model = Base()
    targets = [layer.linear1 for layer in model.body.layers]
    customers = [[(torch.randn(2048, 64) * 0.02, torch.randn(64, 512) * 0.02) for _ in targets]
                 for _ in range(3)]
    state = {"last": None}

    def step_of(step):
        if state["last"] is not None:
            for layer, (up, down) in zip(targets, state["last"]):
                layer.weight.data.sub_(up @ down)
        state["last"] = customers[step % 3]
        for layer, (up, down) in zip(targets, state["last"]):
            layer.weight.data.add_(up @ down)
        model(torch.randint(0, 9000, (4, 24 + step)))
    return [model, Holder([part for customer in customers for pair in customer
                           for part in pair])], step_of


class Planner(nn.Module):
    """Plays by looking ahead: what it sees becomes a state, and a tree of states that might follow
    is kept until the move is made."""

    def __init__(self, width=128):
        super().__init__()
        self.see = nn.Sequential(*[part for i in range(5) for part in (
            nn.Conv2d(17 if i == 0 else width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU())])
        self.go = nn.Sequential(*[part for i in range(5) for part in (
            nn.Conv2d(width + (1 if i == 0 else 0), width, 3, 1, 1), nn.BatchNorm2d(width),
            nn.ReLU())])
        self.choose = nn.Sequential(nn.Conv2d(width, 32, 1), nn.ReLU(), nn.Flatten(),
                                    nn.Linear(32 * 64, 1024))
        self.judge = nn.Sequential(nn.Conv2d(width, 16, 1), nn.ReLU(), nn.Flatten(),
                                   nn.Linear(16 * 64, 512), nn.ReLU(), nn.Linear(512, 1))

    def forward(self, board, turns=24):
        root = self.see(board)
        tree = [(root, self.choose(root)[0].softmax(0), 0.0)]
        for turn in range(turns):
            state, policy, _ = tree[turn // 2]
            move = int((policy + torch.rand(len(policy)) * 0.01).argmax())
            plane = torch.full((1, 1, 8, 8), move / len(policy))
            state = self.go(torch.cat([state, plane], 1))
            tree.append((state, self.choose(state)[0].softmax(0), float(self.judge(state))))
        self.tree = tree
        return max(value for _, _, value in tree)


PROGRAMS = {
    "reordered": plain(Reordered, lambda step: torch.randint(0, 14000, (2, 18 + step))),
    "neighbours": neighbours, "ranking": plain(Ranking, requests_of), "sampler": sampler,
    "bytes-alone": bytes_alone, "borrowed": borrowed,
    "planner": plain(Planner, lambda step: torch.randn(1, 17, 8, 8)),
}
