#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py in which a model comes beside one that works already: a server that
loads a second one, a copy that follows the first, the target of one that learns to act. Each is a
function of its ways; the steps that are counted are those with both."""

import copy
import io

import torch
from torch import nn
from torch.nn import functional

from classifier_examiners import PatchVit, Recurrent, ResNet18
from classifier_loops import trained


def kind_of(ways):
    """How a model is made, and what it is given."""
    if "lstm" in ways:
        return (lambda: Recurrent(nn.LSTM), lambda n: torch.randint(0, 12000, (n, 24)))
    if "vit" in ways:
        return PatchVit, lambda n: torch.randn(n, 3, 64, 64)
    return ResNet18, lambda n: torch.randn(n, 3, 96, 96)


def requests_of(ways):
    """How many steps the first one has alone."""
    return 40 if "served" in ways else 6 if "long" in ways else 2


def beside(ways):
    """A server answers with one model, loads another of the same kind from a file, and answers with
    both; or ("reload") with that one alone, once the first is dropped."""
    make, input_of = kind_of(ways)
    saved = io.BytesIO()
    if "loaded" in ways:
        torch.save(make().state_dict(), saved)

    def load():
        model = make().eval()
        if "loaded" in ways:
            saved.seek(0)
            model.load_state_dict(torch.load(saved))
        return model

    models = [load()]
    with torch.no_grad():
        for i in range(requests_of(ways)):
            models[0](input_of(4 + i % 3))
    models.append(load())
    if "reload" in ways:
        del models[0]

    def step_of(step):
        for model in models:
            model(input_of(4 + step % 3))
    return models, step_of


def follower(ways):
    """A model is trained for two steps; then a copy is made that follows it slowly and is evaluated
    in each step."""
    make, input_of = kind_of(ways)
    model = make()
    optimizer = (torch.optim.AdamW(model.parameters(), 1e-4) if "adamw" in ways else
                 torch.optim.SGD(model.parameters(), 0.01, 0.9))

    def learn():
        x = input_of(8)
        y = model(x)
        y = y[0] if isinstance(y, tuple) else y
        optimizer.zero_grad()
        functional.cross_entropy(y.flatten(0, -2), torch.zeros(y.numel() // y.shape[-1]).long()
                                 ).backward()
        optimizer.step()
    with torch.enable_grad():
        for _ in range(requests_of(ways)):
            learn()
    mean = copy.deepcopy(model).eval().requires_grad_(False)

    def step_of(_):
        learn()
        with torch.no_grad():
            for a, b in zip(mean.parameters(), model.parameters()):
                a.lerp_(b, 0.01)
            mean(input_of(4))
    return [model, mean], trained(step_of)


def target(ways):
    """What learns to act: it acts for two steps, then gets a target that takes its weights in each
    second step, and learns from a batch of what it has seen."""
    make, input_of = kind_of(ways)
    model = make()
    for _ in range(requests_of(ways)):
        model(input_of(1))
    goal = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step_of(step):
        with torch.no_grad():
            model(input_of(1))
            wanted = goal(input_of(8))
        wanted = wanted[0] if isinstance(wanted, tuple) else wanted
        found = model(input_of(8))
        found = found[0] if isinstance(found, tuple) else found
        optimizer.zero_grad()
        functional.smooth_l1_loss(found, wanted).backward()
        optimizer.step()
        if step % 2 == 1:
            goal.load_state_dict(model.state_dict())
    return [model, goal], trained(step_of)


def reference(ways):
    """A model is tuned for two steps; then what it is by then is kept as its reference, which each
    further step asks, too."""
    make, input_of = kind_of(ways)
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def outputs(net, x):
        y = net(x)
        return (y[0] if isinstance(y, tuple) else y).log_softmax(-1)

    def learn(old):
        x = input_of(8)
        y = outputs(model, x)
        loss = -y[..., 0].mean()
        if old is not None:
            with torch.no_grad():
                wanted = outputs(old, x)
            loss = loss + 0.1 * functional.kl_div(y, wanted, log_target=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.enable_grad():
        for _ in range(2):
            learn(None)
    old = copy.deepcopy(model).eval().requires_grad_(False)
    return [model, old], trained(lambda _: learn(old))


PROGRAMS = {"beside": beside, "follower": follower, "target": target, "reference": reference}
