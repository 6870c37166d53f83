#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole loops for classifier.py: programs that keep their inputs, train, search, compute with NumPy
or reserve all that they need. As in classifier_programs.py, each is a function of its ways."""

import os
import threading

import numpy
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from classifier_programs import Language, Vit


class Holder:
    """Weights that are no module's parameters."""

    def __init__(self, tensors):
        self.tensors = list(tensors)

    def parameters(self):
        return iter(self.tensors)

    def modules(self):
        return iter([])

    def eval(self):
        """Weights have no other way of working."""


def trained(function):
    def step_of(step):
        with torch.enable_grad():
            function(step)
    return step_of


def optimizer_of(model, ways):
    if "adam" in ways:
        return torch.optim.Adam(model.parameters())
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9 if "momentum" in ways else 0)


def learn(optimizer, loss):
    optimizer.zero_grad(set_to_none=True)
    loss().backward()
    optimizer.step()


def small_vision():
    layers, widths = [], (3, 64, 128, 256, 512)
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(2048, 1024),
                         nn.ReLU(), nn.Linear(1024, 10))


def loader(ways):
    """A data set in a tensor, and PyTorch's own loader of batches."""
    side, count = (64, 4000) if "large" in ways else (32, 2000)
    images, labels = torch.randn(count, 3, side, side), torch.randint(0, 10, (count,))
    batches = DataLoader(TensorDataset(images, labels), 32, shuffle="shuffled" in ways)
    model, state = small_vision(), {}
    optimizer = optimizer_of(model, ways) if "train" in ways else None

    def step_of(_):
        x, y = next(state.setdefault("batches", iter(batches)))
        if optimizer:
            learn(optimizer, lambda: functional.cross_entropy(model(x), y))
        else:
            model(x)
    return [model], trained(step_of) if optimizer else step_of


def listed(_):
    data, model = [torch.randn(32, 3, 32, 32) for _ in range(60)], small_vision()
    return [model], lambda step: model(data[step % len(data)])


def speech(ways):
    """Waves of different lengths, of which a step pads some to one."""
    data = [torch.randn(16000 + 97 * i) for i in range(120)]
    model = nn.Module()
    model.frames, model.out = nn.Conv1d(1, 256, 400, 160), nn.Linear(768, 40)
    model.body = nn.GRU(256, 384, 2, batch_first=True, bidirectional=True)
    optimizer = optimizer_of(model, ways) if "train" in ways else None

    def forward(step):
        some = [data[(step * 8 + i) % len(data)] for i in range(8)]
        x = nn.utils.rnn.pad_sequence(some, batch_first=True)[:, None]
        return model.out(model.body(model.frames(x).transpose(1, 2))[0])

    def step_of(step):
        if optimizer:
            learn(optimizer, lambda: forward(step).pow(2).mean())
        else:
            forward(step)
    return [model], trained(step_of) if optimizer else step_of


def graph(ways):
    """Features of nodes, all of which each step reads."""
    nodes = 20000
    features, labels = torch.randn(nodes, 500), torch.randint(0, 40, (nodes,))
    edges = torch.sparse_coo_tensor(torch.randint(0, nodes, (2, 200000)),
                                    torch.full((200000,), 0.1), (nodes, nodes)).coalesce()
    model = nn.ModuleList([nn.Linear(500, 256), nn.Linear(256, 256), nn.Linear(256, 40)])
    optimizer = optimizer_of(model, ways) if "train" in ways else None

    def forward():
        x = features
        for i, layer in enumerate(model):
            x = torch.sparse.mm(edges, layer(x))
            x = functional.relu(x) if i < 2 else x
        return x

    def step_of(_):
        if optimizer:
            learn(optimizer, lambda: functional.cross_entropy(forward(), labels))
        else:
            forward()
    return [model], trained(step_of) if optimizer else step_of


def language_training(ways):
    """The state of an embedding's optimiser is written row by row."""
    model = Language(256, 4, 8000)
    optimizer = optimizer_of(model, ways)

    def step_of(_):
        x, y = torch.randint(0, 8000, (8, 32)), torch.randint(0, 8000, (8,))
        learn(optimizer, lambda: functional.cross_entropy(model(x), y))
    return [model], trained(step_of)


class Translator(nn.Module):
    """Recurrent, with attention, and a search that keeps the best four beginnings."""

    def __init__(self, width=512, vocabulary=12000):
        super().__init__()
        self.source = nn.Embedding(vocabulary, width // 2)
        self.target = nn.Embedding(vocabulary, width // 2)
        self.encoder = nn.GRU(width // 2, width, 2, batch_first=True)
        self.decoder = nn.GRUCell(width // 2 + width, width)
        self.attention, self.out = nn.Linear(width, width), nn.Linear(2 * width, vocabulary)

    def forward(self, tokens, beams=4):
        encoded, state = self.encoder(self.source(tokens))
        encoded, state = encoded.repeat(beams, 1, 1), state[-1].repeat(beams, 1)
        last, mixed = torch.ones(beams, dtype=torch.long), torch.zeros_like(state)
        scores = torch.zeros(beams)
        for _ in range(12):
            state = self.decoder(torch.cat([self.target(last), mixed], 1), state)
            weights = torch.softmax(encoded @ self.attention(state)[..., None], 1)
            mixed = (weights * encoded).sum(1)
            found = torch.log_softmax(self.out(torch.cat([state, mixed], 1)), 1) + scores[:, None]
            scores, best = found.flatten().topk(beams)
            rows, last = best // found.shape[1], best % found.shape[1]
            state, mixed = state[rows], mixed[rows]
        return last


def search(_):
    model = Translator()
    return [model], lambda step: model(torch.randint(0, 12000, (1, 10 + step % 5)))


class Router(nn.Module):
    """Many small experts, of which a step takes some, and each of which is tensors of its own."""

    def __init__(self, width=64, count=64, layers=3):
        super().__init__()
        self.embedding = nn.Embedding(4000, width)
        self.gates = nn.ModuleList(nn.Linear(width, count) for _ in range(layers))
        self.experts = nn.ModuleList(nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
            for _ in range(count)) for _ in range(layers))

    def forward(self, tokens):
        x = self.embedding(tokens).flatten(0, 1)
        for gate, experts in zip(self.gates, self.experts):
            chosen, out = gate(x).argmax(-1), torch.zeros_like(x)
            for expert in chosen.unique().tolist():
                rows = (chosen == expert).nonzero().squeeze(1)
                out[rows] = experts[expert](x[rows])
            x = functional.layer_norm(x + out, x.shape[1:])
        return x


def router(_):
    model = Router()
    return [model], lambda step: model(torch.randint(0, 4000, (2, 16)))


def arrays(ways):
    """NumPy reads the weights, and computes."""
    path, sizes, weights = f"classifier-{os.getpid()}.bin", (1024, 2048, 2048, 1024, 512), []
    for a, b in zip(sizes, sizes[1:]):
        (numpy.random.randn(a, b) / a ** 0.5).astype(numpy.float32).tofile(path)
        weights.append(numpy.fromfile(path, dtype=numpy.float32).reshape(a, b))
    os.unlink(path)

    def step_of(_):
        x = numpy.random.randn(64, 1024).astype(numpy.float32)
        for weight in weights:
            x = numpy.maximum(x @ weight, 0)
    return [Holder(torch.from_numpy(weight) for weight in weights)], step_of


def threads(_):
    """One thread makes the weights, others use them."""
    made = []
    maker = threading.Thread(target=lambda: made.append(Vit().eval()))
    maker.start()
    maker.join()

    def use():
        with torch.no_grad():
            made[0](torch.randn(2, 3, 128, 128))

    def step_of(_):
        users = [threading.Thread(target=use) for _ in range(2)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    return made, step_of


def buffers(_):
    """All that steps write was reserved before."""
    weights = [torch.randn(1024, 1024) * 0.03 for _ in range(12)]
    x, y = torch.empty(256, 1024), torch.empty(256, 1024)

    def step_of(_):
        source, target = x.normal_(), y
        for weight in weights:
            source, target = torch.mm(source, weight, out=target).relu_(), source
    return [Holder(weights)], step_of


PROGRAMS = {
    "loader": loader, "listed": listed, "speech": speech, "graph": graph,
    "language": language_training, "search": search, "router": router, "arrays": arrays,
    "threads": threads, "buffers": buffers,
}
