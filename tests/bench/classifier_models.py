#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One PyTorch model under Berth: prints what the classifier thinks of its memory.

Run by classifier.py, once per model, way of use and number of steps. The truth is PyTorch's own:
the addresses of a model's parameters, and those of the tensors that a step hands to the next.
BERTH_CLASSIFIER_SHIFT=N makes and drops N large blocks first, so that judgements fall elsewhere:
what is found must not depend on that.
"""

import ctypes
import gc
import json
import os
import sys

import classifier
import classifier_arrivals
import classifier_companions
import classifier_courses
import classifier_examiners
import classifier_guests
import classifier_learners
import classifier_lodgers
import classifier_loops
import classifier_newcomers
import classifier_outside
import classifier_pilgrims
import classifier_programs
import classifier_settlers
import classifier_silent
import classifier_strangers
import classifier_tenants
import classifier_travellers
import classifier_types
import classifier_visitors
import torch
from torch import nn
from torch.nn import functional

WEIGHT, ACTIVATION, KV, WORKSPACE = 1, 2, 3, 4

KEEP = []  # what the program holds until it is measured


class BlockInfo(ctypes.Structure):
    """struct berth_block_info of berth.h."""
    _fields_ = [("base", ctypes.c_void_p), ("requested", ctypes.c_size_t),
                ("held", ctypes.c_size_t), ("tag", ctypes.c_int), ("tier", ctypes.c_char_p),
                ("rule", ctypes.c_char_p)]


class Api(ctypes.Structure):
    """struct berth_api of berth.h."""
    _fields_ = [("size", ctypes.c_size_t), ("push", ctypes.c_void_p), ("pop", ctypes.c_void_p),
                ("step", ctypes.CFUNCTYPE(ctypes.c_int)),
                ("describe", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p,
                                              ctypes.POINTER(BlockInfo), ctypes.c_size_t))]


def berth_api():
    get = ctypes.CDLL(None).berth_api_v1
    get.restype = ctypes.POINTER(Api)
    return get().contents


def describe(api, address):
    """The block that holds the address, or None for one that is not recorded."""
    info = BlockInfo()
    if api.describe(address, ctypes.byref(info), ctypes.sizeof(info)) != 0:
        return None
    return info


def convolution(inputs, outputs, size=3, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
                         nn.BatchNorm2d(outputs), nn.ReLU())


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(convolution(inputs, width, 1),
                                  convolution(width, width, 3, stride),
                                  nn.Conv2d(width, outputs, 1, bias=False),
                                  nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        return functional.relu(self.body(x) + self.shortcut(x))


def resnet50():
    layers = [convolution(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(blocks):
            layers.append(Bottleneck(inputs, width, stride if i == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


def transformer():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True), 6)


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(8000, 256)
        self.lstm = nn.LSTM(256, 512, 2, batch_first=True)
        self.head = nn.Linear(512, 8000)

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0])


def mlp():
    return nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(),
                         nn.Linear(4096, 10))


def vgg():
    layers, inputs = [], 3
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0):
        if width == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512 * 16, 4096), nn.ReLU(),
                         nn.Linear(4096, 1000))


class UNet(nn.Module):
    def __init__(self, widths=(32, 64, 128, 256)):
        super().__init__()
        pairs = list(zip((3,) + widths[:-1], widths))
        self.down = nn.ModuleList(convolution(a, b) for a, b in pairs)
        self.up = nn.ModuleList(convolution(a + b, a) for a, b in reversed(pairs[1:]))
        self.head = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x):
        kept = []
        for layer in self.down[:-1]:
            x = layer(x)
            kept.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for layer in self.up:
            x = layer(torch.cat([functional.interpolate(x, scale_factor=2.0), kept.pop()], 1))
        return self.head(x)


class Decoder(nn.Module):
    """A GPT block whose cache of keys and values is made anew in each step."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                  nn.Linear(4 * width, width))

    def forward(self, x, cache):
        batch, length, width = x.shape
        q, k, v = [t.view(batch, length, self.heads, -1).transpose(1, 2)
                   for t in self.qkv(self.norm1(x)).chunk(3, -1)]
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        mixed = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(mixed)
        return x + self.feed(self.norm2(x)), (k, v)


class Gpt(nn.Module):
    """The embedding and the head are one tensor, as in GPT-2."""

    def __init__(self, width=256, layers=6, vocabulary=8000):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Decoder(width, 4) for _ in range(layers))
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        self.cache = None

    def forward(self, tokens):
        x, cache = self.embedding(tokens), []
        for layer, old in zip(self.layers, self.cache or [None] * len(self.layers)):
            x, new = layer(x, old)
            cache.append(new)
        self.cache = None if self.training else cache
        return self.head(x[:, -1])


class StaticGpt(Gpt):
    """The same with a cache that is reserved once and filled step by step."""

    def __init__(self, room=512):
        super().__init__()
        self.room, self.at = room, 0

    def forward(self, tokens):
        if self.cache is None:
            shape = (tokens.shape[0], 4, self.room, 64)
            self.cache = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.layers]
        end = self.at + tokens.shape[1]
        x = self.embedding(tokens)
        for layer, (keys, values) in zip(self.layers, self.cache):
            x, (new_k, new_v) = layer(x, None if self.at == 0 else
                                      (keys[:, :, :self.at], values[:, :, :self.at]))
            keys[:, :, :end].copy_(new_k)
            values[:, :, :end].copy_(new_v)
        self.at = end
        return self.head(x[:, -1])


MODELS = {"resnet50": resnet50, "transformer": transformer, "lstm": Lstm, "mlp": mlp, "vgg": vgg,
          "unet": UNet, "gpt": Gpt, "gpt-static": StaticGpt}


def make_input(name, step, ways):
    batch = 2 + step % 3 if "dynamic" in ways else 1 if "single" in ways else 4
    length = 64 + (7 * step if "dynamic" in ways else 0)
    if name in ("resnet50", "vgg", "unet"):
        side = 64 if name != "resnet50" else 96
        return torch.randn(batch, 3, side, side)
    if name == "transformer":
        return torch.randn(batch, length, 256)
    if name == "lstm":
        return torch.randint(0, 8000, (batch, length // 2))
    if name.startswith("gpt"):
        tokens = 64 if step == 0 or "train" in ways else 1
        return torch.randint(0, 8000, (4 * batch, tokens))
    return torch.randn(1 if "single" in ways else 8 * batch, 1024)


def make_model(name, ways):
    return classifier_programs.moved(MODELS[name](), ways)


def train(model, name, steps, ways):
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    kind = next((kinds[way] for way in ways if way in kinds), None)
    optimizer = (kind(model.parameters()) if kind else
                 torch.optim.SGD(model.parameters(), lr=0.01))
    fixed = make_input(name, 0, ways)
    for step in range(steps):
        x = fixed if "fixed" in ways else make_input(name, step, ways)
        optimizer.zero_grad(set_to_none="keep-gradients" not in ways)
        model(x).float().pow(2).mean().backward()
        optimizer.step()
    return []


def infer(model, name, steps, ways, given):
    model.eval()
    fixed = make_input(name, 0, ways) if given is None else given
    with torch.no_grad():
        for step in range(steps):
            x = make_input(name, step, ways) if "fixed" not in ways and given is None else fixed
            y = model(classifier_programs.as_type(x, next(model.parameters()).dtype))
    del y
    return [t for pair in getattr(model, "cache", None) or [] for t in pair]


def run_program(name, steps, ways):
    """One of classifier_programs.py's or classifier_loops.py's."""
    programs = {**classifier_programs.PROGRAMS, **classifier_loops.PROGRAMS,
                **classifier_strangers.PROGRAMS, **classifier_guests.PROGRAMS,
                **classifier_learners.PROGRAMS, **classifier_visitors.PROGRAMS,
                **classifier_arrivals.PROGRAMS, **classifier_newcomers.PROGRAMS,
                **classifier_travellers.PROGRAMS, **classifier_pilgrims.PROGRAMS,
                **classifier_tenants.PROGRAMS, **classifier_silent.PROGRAMS,
                **classifier_settlers.PROGRAMS, **classifier_examiners.PROGRAMS,
                **classifier_companions.PROGRAMS, **classifier_lodgers.PROGRAMS,
                **classifier_outside.PROGRAMS, **classifier_courses.PROGRAMS}
    if name.startswith("type-"):
        models, step_of = classifier_types.of_type(name[len("type-"):])(ways)
    else:
        models, step_of = programs[name](ways)
    for model in models:
        model.eval()
    with torch.no_grad():
        for step in range(steps):
            step_of(step)
    KEEP.append(step_of)
    return models, classifier_programs.caches(models)


def all_parameters(models):
    """Of these models, and of others that are alive: copies whose modules refer to one another are
    weights until Python collects them."""
    found = [t for model in models for t in model.parameters()]
    return found + [t for t in gc.get_objects() if type(t) is nn.Parameter]


def quantised_layer(module):
    """The weights of a quantised layer, as it tells them."""
    if hasattr(module, "_all_weight_values"):  # recurrent
        return list(module.get_weight().values())
    if hasattr(module, "_packed_params") and hasattr(module, "weight"):
        return [module.weight()]
    return []


def quantised_weights(models):
    """Of quantised layers: the tensors that some engines keep, and how many bytes are packed, whose
    address PyTorch does not tell."""
    kept, packed = [], 0
    for model in models:
        for module in model.modules():
            for once, again in zip(quantised_layer(module), quantised_layer(module)):
                packed += once.numel()
                if once.data_ptr() == again.data_ptr():
                    kept.append(once)
    return kept, packed


def blocks_of(api, tensors):
    """The recorded blocks behind the tensors, each once."""
    blocks = {}
    for tensor in tensors:
        info = describe(api, tensor.data_ptr())
        if info:
            blocks[info.base] = (info.requested, info.tag)
    return list(blocks.values())


def shift():
    for i in range(int(os.environ.get("BERTH_CLASSIFIER_SHIFT", "0"))):
        bytearray((400 + i) << 10)


def main():
    shift()
    berth, name, steps, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    ways = sys.argv[5:]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    api = berth_api()
    keep = [torch.zeros(1)]
    if "dataset" in ways:
        import numpy
        keep.append(numpy.random.rand(16 << 20))
    if name in MODELS:
        given = make_input(name, 0, ways) if "before" in ways else None
        model = make_model(name, ways)
        cache = (train(model, name, steps, ways) if "train" in ways else
                 infer(model, name, steps, ways, given))
        models = [model]
    else:
        models, cache = run_program(name, steps, ways)
    kept, packed = quantised_weights(models)
    parameters = all_parameters(models) + kept
    # Nothing large is made between these, so that all tell of one judgement.
    by_tag = classifier.tagged_bytes(berth, os.getpid())
    weights, caches = blocks_of(api, parameters), blocks_of(api, cache)
    found = sum(size for size, tag in weights if tag == WEIGHT)
    print(json.dumps({
        "weights": sum(size for size, _ in weights) + packed,
        "weights_found": found + min(packed, by_tag.get("weight", 0) - found),
        "cache": sum(size for size, _ in caches),
        "cache_found": sum(size for size, tag in caches if tag == KV),
        "by_tag": by_tag,
    }))


if __name__ == "__main__":
    main()
