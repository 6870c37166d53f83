# SPDX-License-Identifier: Apache-2.0
"""Training for classifier.py as somebody writes it who judges it from outside: the three core kinds
of models at other sizes, and the usual loops. Ways of all: an optimiser (`sgd` with momentum, which
is the default, `adam`, `adamw`), `gathered` gradients of several batches, `recomputed` activations,
`zeroed` gradients that stay where they are, `clipped`, `averaged`, `scheduled`."""

import copy

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from classifier_loops import trained
from classifier_outside import Bottleneck, wide_residual


class Encoder(nn.Module):
    """Words that are hidden are guessed."""

    def __init__(self, words=10000, width=384, layers=6):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(128, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 6, 4 * width, 0.1, "gelu", batch_first=True)
            for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words)

    def forward(self, tokens, again):
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = checkpoint(layer, x) if again else layer(x)
        return self.head(self.norm(x))


class Language(nn.Module):
    def __init__(self, words=10000, width=300, size=650):
        super().__init__()
        self.words, self.drop = nn.Embedding(words, width), nn.Dropout(0.3)
        self.body = nn.LSTM(width, size, 2, dropout=0.3)
        self.head = nn.Linear(size, words)

    def forward(self, tokens, state):
        x, state = self.body(self.drop(self.words(tokens)), state)
        return self.head(self.drop(x)), state


def seen(ways):
    """ResNet-50 and pictures of 96."""
    model = wide_residual()

    def loss_of(step):
        x, labels = torch.randn(8, 3, 96, 96), torch.randint(0, 1000, (8,))
        if "recomputed" in ways:
            for part in model:
                x = checkpoint(part, x) if isinstance(part, Bottleneck) else part(x)
            return functional.cross_entropy(x, labels)
        return functional.cross_entropy(model(x), labels, label_smoothing=0.1)
    return model, loss_of


def read(ways):
    model = Encoder()

    def loss_of(step):
        tokens = torch.randint(1, 10000, (8, 48 + 8 * (step % 3)))
        hidden = torch.rand(tokens.shape) < 0.15
        told = model(tokens.masked_fill(hidden, 0), "recomputed" in ways)
        return functional.cross_entropy(told[hidden], tokens[hidden])
    return model, loss_of


def said(ways):
    """A text goes on from step to step, and the state with it."""
    model, state = Language(), {}

    def loss_of(_):
        tokens = torch.randint(0, 10000, (31, 20))
        old = state.get("old")
        told, new = model(tokens[:-1], old and tuple(t.detach() for t in old))
        state["old"] = new
        return functional.cross_entropy(told.flatten(0, 1), tokens[1:].flatten())
    return model, loss_of


def optimizer_of(model, ways):
    if "adam" in ways:
        return torch.optim.Adam(model.parameters(), lr=3e-4)
    if "adamw" in ways:
        bare = [t for t in model.parameters() if t.dim() < 2]
        full = [t for t in model.parameters() if t.dim() >= 2]
        return torch.optim.AdamW([{"params": full, "weight_decay": 0.01},
                                  {"params": bare, "weight_decay": 0.0}], lr=3e-4)
    return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4,
                           nesterov="nesterov" in ways)


def course(make):
    def program(ways):
        model, loss_of = make(ways)
        average = copy.deepcopy(model).requires_grad_(False) if "averaged" in ways else None
        optimizer = optimizer_of(model, ways)
        plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=1000)

        def step_of(step):
            model.train()
            parts = 3 if "gathered" in ways else 1
            for _ in range(parts):
                (loss_of(step) / parts).backward()
            if "clipped" in ways:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none="zeroed" not in ways)
            if "scheduled" in ways:
                plan.step()
            if average:
                with torch.no_grad():
                    for mine, its in zip(average.parameters(), model.parameters()):
                        mine.mul_(0.999).add_(its, alpha=0.001)
        return [model] + ([average] if average else []), trained(step_of)
    return program


PROGRAMS = {"seen": course(seen), "read": course(read), "said": course(said)}
