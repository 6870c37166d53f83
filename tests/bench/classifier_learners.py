#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py that train, compute without modules, or have their models from a
library; written as classifier_guests.py was. As in classifier_programs.py, each is a function of
its ways."""

import gc
import importlib
import os
import sys
import types

import numpy
import torch
from torch import nn
from torch.nn import functional

from classifier_guests import Flow, Mamba, Messages, Noise, Reader, molecules, residual
from classifier_loops import Holder, learn, trained
from classifier_programs import Language, Vit, refuse


def optimizer_for(parameters, ways):
    some = list(parameters)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "adagrad": torch.optim.Adagrad,
             "rmsprop": torch.optim.RMSprop}
    for way in ways:
        if way in kinds:
            return kinds[way](some, lr=0.001)
    return torch.optim.SGD(some, lr=0.01, momentum=0.9 if "momentum" in ways else 0,
                           nesterov="momentum" in ways)


def training(make, loss):
    """Steps of a model, whose loss is a function of it and the step."""
    def make_it(ways):
        model = make()
        optimizer = optimizer_for(model.parameters(), ways)

        def step_of(step):
            model.train()
            learn(optimizer, lambda: loss(model, step))
        return [model], trained(step_of)
    return make_it


def classes(model, source, count=1000):
    x = source
    return functional.cross_entropy(model(x), torch.randint(0, count, (len(x),)))


def text_loss(model, _):
    tokens = torch.randint(0, 8000, (4, 48))
    return functional.cross_entropy(model(tokens), torch.randint(0, 8000, (4,)))


def reader_loss(model, step):
    found = model(torch.randn(4, 1, 32, 100 + 8 * step)).transpose(0, 1)
    return functional.ctc_loss(found, torch.randint(1, 6000, (4, 6)),
                               torch.full((4,), found.shape[0]), torch.full((4,), 6))


def teaching(ways):
    """A large model teaches a small one, which alone is trained."""
    teacher, student = residual((2, 2, 2, 2)).requires_grad_(False), residual((1, 1, 1, 1))
    optimizer = optimizer_for(student.parameters(), ways)

    def step_of(_):
        x = torch.randn(4, 3, 64, 64)
        learn(optimizer, lambda: functional.mse_loss(student(x), teacher(x)))
    return [teacher, student], trained(step_of)


def head_alone(ways):
    """A frozen body, and a head that is trained."""
    body, head = Vit().requires_grad_(False), nn.Sequential(nn.Linear(1000, 512), nn.ReLU(),
                                                            nn.Linear(512, 200))
    optimizer = optimizer_for(head.parameters(), ways)
    return [body, head], trained(lambda step: learn(
        optimizer, lambda: classes(head, body(torch.randn(4, 3, 128, 128)), 200)))


def gathered(ways):
    """A step of four batches, whose gradients are gathered and clipped."""
    model = Language(256, 4, 8000)
    optimizer = optimizer_for(model.parameters(), ways)

    def step_of(step):
        optimizer.zero_grad(set_to_none=True)
        for _ in range(4):
            text_loss(model, step).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return [model], trained(step_of)


def mixed(ways):
    """Computed in half of the width that the weights have."""
    model = residual()
    optimizer = optimizer_for(model.parameters(), ways)

    def loss():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return classes(model, torch.randn(4, 3, 64, 64))
    return [model], trained(lambda step: learn(optimizer, loss))


def words(ways):
    """Two tables, of which a step trains some rows."""
    model = nn.ModuleList(nn.Embedding(30000, 100, sparse="sparse" in ways) for _ in range(2))
    optimizer = (torch.optim.SparseAdam(list(model.parameters())) if "sparse" in ways else
                 optimizer_for(model.parameters(), ways))

    def loss():
        a, b = [table(torch.randint(0, 30000, (512,))) for table in model]
        return -functional.logsigmoid((a * b).sum(-1)).mean()
    return [model], trained(lambda step: learn(optimizer, loss))


def noise_loss(model, step):
    x = torch.randn(2, 4, 32, 32)
    return functional.mse_loss(model(x, torch.tensor(float(step))), torch.randn_like(x))


def policy(ways):
    """A policy that plays, keeps what it saw, and learns from that."""
    actor, critic = [nn.Sequential(nn.Linear(128, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(),
                                   nn.Linear(512, outputs)) for outputs in (16, 1)]
    optimizer = optimizer_for(list(actor.parameters()) + list(critic.parameters()), ways)
    seen = torch.zeros(256, 64, 128)

    def step_of(_):
        state = torch.randn(64, 128)
        for at in range(256):
            with torch.no_grad():
                seen[at] = state
                state = torch.tanh(state + 0.1 * actor(state).sum(-1, keepdim=True))
        for part in seen.split(64):
            x = part.flatten(0, 1)
            learn(optimizer, lambda x=x: (actor(x).logsumexp(-1) - critic(x)[:, 0]).pow(2).mean())
    return [actor, critic], trained(step_of)


def numpy_language(_):
    """A language model of arrays, with a cache that grows by joining."""
    make = numpy.random.default_rng(0)

    def matrix(a, b):
        return (make.standard_normal((a, b)) * 0.03).astype(numpy.float32)
    width, table = 256, matrix(8000, 256)
    layers = [[matrix(width, 3 * width), matrix(width, width), matrix(width, 4 * width),
               matrix(4 * width, width)] for _ in range(6)]
    caches = [None] * len(layers)

    def step_of(step):
        x = table[make.integers(0, 8000, 96 if step == 0 else 1)]
        for at, (qkv, out, up, down) in enumerate(layers):
            q, k, v = numpy.split(x @ qkv, 3, axis=1)
            if caches[at]:
                k, v = [numpy.concatenate(pair) for pair in zip(caches[at], (k, v))]
            caches[at] = (k, v)
            scores = numpy.exp(q @ k.T / 16)
            x = x + scores / scores.sum(1, keepdims=True) @ v @ out
            x = x + numpy.maximum(x @ up, 0) @ down
        return x @ table.T
    weights = [table] + [w for layer in layers for w in layer]
    return [Holder(torch.from_numpy(w) for w in weights)], step_of


def functions(_):
    """A model without modules: a dictionary of tensors that a function is given."""
    some = {f"{kind}{i}": torch.randn(768, 768) * 0.03 for i in range(6) for kind in "ab"}

    def step_of(_):
        x = torch.randn(32, 768)
        for i in range(6):
            x = x + torch.tanh(x @ some[f"a{i}"]) @ some[f"b{i}"]
    return [Holder(some.values())], step_of


def small_bytes(model):
    return torch.quantization.quantize_dynamic(model.eval(), {nn.Linear}, torch.qint8)


def quantised_layers(_):
    """Equal layers of bytes, and nothing else."""
    model = small_bytes(nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(12)]))
    gc.collect()  # the modules refer to one another
    return [model], lambda step: model(torch.randn(16, 1024))


def quantised_text(_):
    """A language model whose layers are of bytes, and its tables are not."""
    model = small_bytes(Language(512, 6, 8000))
    gc.collect()
    return [model], lambda step: model(torch.randint(0, 8000, (4, 32 + step)))


def import_library():
    """Its generate() asks whether a model is spread over processes, by a part of PyTorch 1.13 that
    does not load under Python 3.11 and later."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        hub = importlib.import_module("transformers")
    except ImportError:
        refuse("is there without transformers")
    try:
        importlib.import_module("torch.distributed.fsdp")
    except (ImportError, ValueError):
        absent = types.ModuleType("torch.distributed.fsdp")
        absent.FullyShardedDataParallel = type("Absent", (), {})
        sys.modules[absent.__name__] = torch.distributed.fsdp = absent
    if not hasattr(torch, "_dynamo"):  # its caches tell a compiler that they stay
        torch._dynamo = types.SimpleNamespace(mark_static_address=lambda *_: None)
    return hub


def library(make):
    """A model of the library transformers, with first values; the library may not be there."""
    def make_it(ways):
        model, step_of = make(import_library(), ways)
        return [model.eval()], step_of
    return make_it


def generate(model, length):
    def step_of(step):
        tokens = torch.randint(5, 4000, (2, length + step))
        return model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=8,
                              min_new_tokens=8, do_sample=False, pad_token_id=0)
    return step_of


def hub_gpt(hub, _):
    model = hub.GPT2LMHeadModel(hub.GPT2Config(vocab_size=8000, n_embd=256, n_layer=6, n_head=4))
    return model, generate(model, 40)


def hub_llama(hub, _):
    model = hub.LlamaForCausalLM(hub.LlamaConfig(
        vocab_size=8000, hidden_size=256, intermediate_size=688, num_hidden_layers=6,
        num_attention_heads=8, num_key_value_heads=4))
    return model, generate(model, 40)


def hub_t5(hub, _):
    model = hub.T5ForConditionalGeneration(hub.T5Config(
        vocab_size=8000, d_model=256, d_kv=32, d_ff=1024, num_layers=4, num_heads=8,
        decoder_start_token_id=0))
    return model, generate(model, 24)


def hub_bert(hub, _):
    model = hub.BertModel(hub.BertConfig(vocab_size=12000, hidden_size=256, num_hidden_layers=6,
                                         num_attention_heads=4, intermediate_size=1024))
    return model, lambda step: model(torch.randint(0, 12000, (4, 32 + step)))


def hub_vit(hub, _):
    model = hub.ViTForImageClassification(hub.ViTConfig(
        hidden_size=256, num_hidden_layers=6, num_attention_heads=4, intermediate_size=1024,
        image_size=128))
    return model, lambda step: model(torch.randn(4, 3, 128, 128))


def hub_whisper(hub, _):
    model = hub.WhisperForConditionalGeneration(hub.WhisperConfig(
        vocab_size=8000, d_model=256, encoder_layers=4, decoder_layers=4,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=1024,
        decoder_ffn_dim=1024, max_source_positions=300, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, begin_suppress_tokens=None))
    return model, lambda step: model(torch.randn(1, 80, 600), decoder_input_ids=torch.randint(
        5, 8000, (1, 12 + step)))


def hub_mamba(hub, _):
    model = hub.MambaForCausalLM(hub.MambaConfig(vocab_size=8000, hidden_size=256,
                                                 num_hidden_layers=6))
    return model, lambda step: model(torch.randint(5, 8000, (2, 16 + step)), use_cache=False)


def hub_clip(hub, _):
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
             "num_attention_heads": 4}
    model = hub.CLIPModel(hub.CLIPConfig(
        text_config=dict(sizes, vocab_size=8000, eos_token_id=2, bos_token_id=1),
        vision_config=dict(sizes, image_size=128, patch_size=16)))
    return model, lambda step: model(input_ids=torch.randint(3, 8000, (4, 16)),
                                     pixel_values=torch.randn(4, 3, 128, 128))


PROGRAMS = {
    "learn-residual": training(residual, lambda m, _: classes(m, torch.randn(4, 3, 64, 64))),
    "learn-mamba": training(Mamba, lambda m, _: functional.cross_entropy(
        m(torch.randint(0, 10000, (2, 10))), torch.randint(0, 10000, (2,)))),
    "learn-messages": training(Messages, lambda m, step: m(molecules(step)).pow(2)),
    "learn-reader": training(Reader, reader_loss), "learn-noise": training(Noise, noise_loss),
    "learn-flow": training(Flow, lambda m, _: m(torch.randn(64, 512)).pow(2).mean()),
    "teaching": teaching, "head-alone": head_alone, "gathered": gathered, "mixed": mixed,
    "words": words, "policy": policy, "numpy-language": numpy_language, "functions": functions,
    "quantised-layers": quantised_layers, "quantised-text": quantised_text,
    "hub-gpt": library(hub_gpt), "hub-llama": library(hub_llama), "hub-t5": library(hub_t5),
    "hub-bert": library(hub_bert), "hub-vit": library(hub_vit),
    "hub-whisper": library(hub_whisper), "hub-mamba": library(hub_mamba),
    "hub-clip": library(hub_clip),
}
