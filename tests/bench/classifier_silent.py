# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py whose steps allocate nothing large: what they write was reserved
before. Written before any of them was run."""

import os
import tempfile

import numpy
import torch
from classifier_loops import Holder


def own_arrays(ways):
    """NumPy computes into arrays of its own, of which the results have either sign."""
    sizes, weights = (768, 3072, 768, 2048, 512), []
    rest = numpy.random.default_rng(0)
    for a, b in zip(sizes, sizes[1:]):
        with tempfile.NamedTemporaryFile() as file:
            numpy.save(file, rest.standard_normal((a, b), dtype=numpy.float32) / a ** 0.5)
            file.seek(0)
            weights.append(numpy.load(file))
    rows = [numpy.empty((96, size), dtype=numpy.float32) for size in sizes]

    def step_of(_):
        rest.standard_normal(out=rows[0], dtype=numpy.float32)
        for source, weight, target in zip(rows, weights, rows[1:]):
            numpy.matmul(source, weight, out=target)
            numpy.tanh(target, out=target)
    return [Holder(torch.from_numpy(weight) for weight in weights)], step_of


class Cell:
    """A recurrent cell by hand; its gates, states and results are made once."""

    def __init__(self, width, batch):
        self.weights = [torch.empty(4 * width, width).uniform_(-width ** -0.5, width ** -0.5)
                        for _ in range(2)]
        self.bias = torch.zeros(4 * width)
        self.gates, self.more = torch.empty(batch, 4 * width), torch.empty(batch, 4 * width)
        self.cell, self.out = torch.zeros(batch, width), torch.zeros(batch, width)
        self.width = width

    def __call__(self, x):
        torch.mm(x, self.weights[0].t(), out=self.gates)
        torch.mm(self.out, self.weights[1].t(), out=self.more)
        self.gates.add_(self.more).add_(self.bias)
        i, f, g, o = self.gates.split(self.width, 1)
        self.cell.mul_(f.sigmoid_()).add_(i.sigmoid_().mul_(g.tanh_()))
        torch.tanh(self.cell, out=self.out)
        self.out.mul_(o.sigmoid_())
        return self.out


def cells(_):
    """Cells one behind the other, each of which has made its weights and its room together."""
    x, layers = torch.empty(64, 640), [Cell(640, 64) for _ in range(5)]

    def step_of(_):
        x.normal_()
        for _ in range(4):
            y = x
            for layer in layers:
                y = layer(y)
    return [Holder(weight for layer in layers for weight in layer.weights)], step_of


def restored_file(_):
    """The weights are read from a file and scaled; the room for states comes behind them."""
    path = f"classifier-silent-{os.getpid()}.pt"
    torch.save([torch.randn(900, 900) / 30 for _ in range(10)], path)
    weights = [weight.mul_(1.5) for weight in torch.load(path)]
    os.unlink(path)
    states = [torch.randn(200, 900) for _ in range(3)]

    def step_of(_):
        source, target, last = states
        for weight in weights:
            torch.mm(source, weight, out=target)
            target.add_(last, alpha=0.5).tanh_()
            source, target, last = target, last, source
    return [Holder(weights)], step_of


def in_place_sum(_):
    """A table that is looked up row by row, and sums that are kept from one step to the next."""
    table = torch.randn(30000, 128) * 0.05
    layers = [torch.randn(2048, 2048) * 0.02 for _ in range(4)]
    bag, rooms = torch.zeros(128, 2048), [torch.zeros(128, 2048) for _ in range(2)]

    def step_of(step):
        for row in range(128):
            at = (row * 7919 + step * 104729) % 29000
            bag[row].copy_(table[at:at + 16].reshape(-1))
        source = bag
        for i, layer in enumerate(layers):
            torch.mm(source, layer, out=rooms[i % 2])
            source = rooms[i % 2].clamp_(-3, 3)
    return [Holder([table] + layers)], step_of


PROGRAMS = {
    "own-arrays": own_arrays, "cells": cells, "restored-file": restored_file,
    "sums": in_place_sum,
}
