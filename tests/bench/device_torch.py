#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch programs whose tensors device_waste.py --torch records: trainings, samplers and servers
as people write them, run to their end on the CPU.

    device_torch.py [NAME]

Without a name, lists them.

The models are small, and of the programs for the classifier where these have one; what they do
with them is what matters: batches and lengths that vary, caches that grow, a last batch that is
smaller, an evaluation in between, an optimiser whose state comes with the first step.
"""
import argparse
import os
import random

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from classifier_guests import Messages, residual
from classifier_guests import molecules as some_molecules
from classifier_models import Gpt, Lstm, UNet, resnet50, vgg
from classifier_programs import Denoiser, Detector, Language, Recommender, Vit
from classifier_strangers import Vae


def learn(optimizer, loss, clip=None):
    optimizer.zero_grad(set_to_none=True)
    loss().backward()
    if clip:
        nn.utils.clip_grad_norm_(clip, 1.0)
    optimizer.step()


def classify(model, x, classes=1000):
    return functional.cross_entropy(model(x), torch.randint(0, classes, (len(x),)))


def next_tokens(scores, tokens):
    return functional.cross_entropy(scores[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def resnet_training(_):
    """Two epochs of batches of which the last is smaller, each with an evaluation after it."""
    model = resnet50()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        model.train()
        for batch in (10,) * 6 + (5,):
            learn(optimizer, lambda b=batch: classify(model, torch.randn(b, 3, 64, 64)))
        model.eval()
        with torch.no_grad():
            for batch in (20, 20, 7):
                classify(model, torch.randn(batch, 3, 64, 64))


class Reader(nn.Module):
    """An encoder of PyTorch's own layers, of which each position tells a word."""

    def __init__(self, width=192, layers=6, words=6000):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(
            width, 4, 4 * width, batch_first=True, norm_first=True) for _ in range(layers))
        self.head = nn.Linear(width, words)

    def forward(self, tokens, is_checkpointed=False):
        x = self.words(tokens)
        for layer in self.layers:
            x = checkpoint(layer, x) if is_checkpointed else layer(x)
        return self.head(x)


def transformer_varying_length(chance):
    """Batches padded to their longest sentence, whichever that is."""
    model = Reader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    for _ in range(24):
        tokens = torch.randint(0, 6000, (8, chance.randrange(24, 128)))
        learn(optimizer, lambda t=tokens: next_tokens(model(t), t), model.parameters())


def transformer_checkpointed(chance):
    """What is between layers alone is kept for the way back."""
    model = Reader(192, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, foreach=True)
    for _ in range(10):
        tokens = torch.randint(0, 6000, (8, chance.choice((72, 96, 96, 96))))
        learn(optimizer, lambda t=tokens: next_tokens(model(t, True), t))


def lstm_bucketed(chance):
    """Sentences of like lengths together, a few lengths in turn as chance has them."""
    model = Lstm()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(14):
        length = chance.choice((10, 20, 30, 40))
        tokens = torch.randint(0, 8000, (240 // length, length))
        learn(optimizer, lambda t=tokens: next_tokens(model(t), t), model.parameters())


def unet_segmentation(chance):
    """Pictures of a size that differs in each step, and now and then one looked at as a whole."""
    model = UNet((32, 64, 128, 256))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(14):
        side = 8 * chance.randrange(6, 14)
        x, y = torch.randn(4, 3, side, side), torch.randint(0, 2, (4, side, side))
        learn(optimizer, lambda x=x, y=y: functional.cross_entropy(model(x), y))
        if step % 5 == 4:
            with torch.no_grad():
                model(torch.randn(1, 3, 192, 160))


def adversarial(_):
    """Two models with an optimiser each; the real ones' gradient has a price of its own."""
    maker = Vae().up
    judge = nn.Sequential(*list(Vae().down)[:-1], nn.Linear(256 * 64, 1))
    by_judge, by_maker = [torch.optim.Adam(m.parameters(), lr=2e-4) for m in (judge, maker)]
    for step in range(12):
        real = torch.rand(12, 3, 64, 64)

        def judged():
            fake = maker(torch.randn(12, 128)).detach()
            share = torch.rand(12, 1, 1, 1)
            between = (share * real + (1 - share) * fake).requires_grad_()
            slope, = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
            price = (slope.flatten(1).norm(2, 1) - 1).pow(2).mean()
            return judge(fake).mean() - judge(real).mean() + 10 * price
        learn(by_judge, judged)
        if step % 2 == 1:
            learn(by_maker, lambda: -judge(maker(torch.randn(12, 128))).mean())


def diffusion_training(_):
    """A denoiser, an average of its weights over time, and samples drawn from that in between."""
    model, average = Denoiser(64), Denoiser(64)
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    for step in range(16):
        clean, noise = torch.randn(8, 4, 32, 32), torch.randn(8, 4, 32, 32)
        learn(optimizer, lambda: functional.mse_loss(model(clean + noise, float(step)), noise))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 0.01) \
                if hasattr(torch, "_foreach_lerp_") else \
                [a.lerp_(b, 0.01) for a, b in zip(average.parameters(), model.parameters())]
            if step % 8 == 7:
                x = torch.randn(16, 4, 32, 32)
                for at in range(6):
                    x = x - 0.1 * average(x, float(at))


def diffusion_sampling(chance):
    """Requests for pictures of several shapes, with and without guidance, decoded at the end."""
    model = Denoiser(64)
    decoder = nn.Sequential(nn.Conv2d(4, 128, 3, 1, 1), nn.Upsample(scale_factor=2), nn.SiLU(),
                            nn.Conv2d(128, 64, 3, 1, 1), nn.Upsample(scale_factor=2), nn.SiLU(),
                            nn.Conv2d(64, 3, 3, 1, 1))
    with torch.no_grad():
        for _ in range(14):
            height, width = [chance.choice((24, 32, 32, 40, 48)) for _ in range(2)]
            count = chance.choice((1, 1, 2, 4))
            x = torch.randn(count, 4, height, width)
            for at in range(8):
                both = model(torch.cat([x, x]), float(at))
                plain, guided = both.chunk(2)
                x = x - 0.1 * (plain + 7.5 * (guided - plain))
            decoder(x)


def gpt_decoding(chance):
    """Batches of prompts, answered one after the other; caches grow by a token at a time."""
    model = Gpt(192, 5).eval()
    with torch.no_grad():
        for _ in range(8):
            batch, tokens = chance.choice((4, 8, 16)), chance.randrange(32, 200)
            scores = model(torch.randint(0, 8000, (batch, tokens)))
            for _ in range(chance.randrange(16, 64)):
                scores = model(scores.argmax(-1, keepdim=True))
            model.cache = None


def gpt_serving(chance):
    """Sessions of one's own that come, grow in turns and go."""
    model, sessions = Gpt(192, 4).eval(), []
    with torch.no_grad():
        for _ in range(300):
            if len(sessions) < 12 or chance.random() < 0.04:
                model.cache = None
                model(torch.randint(0, 8000, (1, chance.randrange(40, 600))))
                sessions.append(model.cache)
            at = chance.randrange(len(sessions))
            model.cache = sessions[at]
            sessions[at] = None
            for _ in range(4):
                model(torch.randint(0, 8000, (1, 1)))
            sessions[at], model.cache = model.cache, None
            if len(sessions) > 8 and chance.random() < 0.06:
                sessions.pop(at)


def beam_search(chance):
    """The caches of the best beginnings are picked out of all in each step."""
    model, beams = Gpt(192, 5).eval(), 5
    with torch.no_grad():
        for _ in range(6):
            count = chance.choice((2, 4, 6))
            tokens = torch.randint(0, 8000, (count, chance.randrange(20, 160)))
            scores = model(tokens)
            model.cache = [tuple(t.repeat_interleave(beams, 0) for t in pair)
                           for pair in model.cache]
            total = torch.zeros(count * beams, 1)
            scores = scores.repeat_interleave(beams, 0)
            for _ in range(chance.randrange(12, 40)):
                found = (functional.log_softmax(scores, -1) + total).view(count, -1)
                best, at = found.topk(beams)
                rows = (at // 8000 + torch.arange(count)[:, None] * beams).flatten()
                total = best.reshape(-1, 1)
                model.cache = [tuple(t.index_select(0, rows) for t in pair)
                               for pair in model.cache]
                scores = model((at % 8000).reshape(-1, 1))
            model.cache = None


def vgg_varying_batch(chance):
    """A training on what has come in by then."""
    model = vgg()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, foreach=True)
    for _ in range(14):
        x = torch.randn(chance.randrange(1, 13), 3, 64, 64)
        learn(optimizer, lambda x=x: classify(model, x))


def vit_gathered(_):
    """Gradients of four batches, computed in half of the weights' width, and an evaluation."""
    model = Vit(192, 8, 128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    for step in range(6):
        optimizer.zero_grad(set_to_none=True)
        for _ in range(4):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = classify(model, torch.randn(8, 3, 128, 128))
            loss.backward()
        optimizer.step()
        if step % 3 == 2:
            model.eval()
            with torch.no_grad():
                for batch in (24, 24, 10):
                    classify(model, torch.randn(batch, 3, 128, 128))
            model.train()


def graph_sampling(chance):
    """A neighbourhood of some nodes in each step, whose edges are as many as they are."""
    features = torch.randn(60000, 128)
    layers = nn.ModuleList([nn.Linear(128, 256), nn.Linear(256, 256), nn.Linear(256, 40)])
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3)
    for _ in range(30):
        nodes = torch.randperm(60000)[:chance.randrange(1000, 6000)]
        edges = torch.randint(0, len(nodes), (2, len(nodes) * chance.randrange(3, 9)))
        x, labels = features[nodes], torch.randint(0, 40, (len(nodes),))

        def loss():
            y = x
            for i, layer in enumerate(layers):
                near = torch.zeros_like(y).index_add(0, edges[0], y[edges[1]])
                y = layer(y + near)
                y = functional.relu(y) if i < 2 else y
            return functional.cross_entropy(y, labels)
        learn(optimizer, loss)


def molecules(chance):
    """Messages along the bonds of some molecules at once."""
    model = Messages()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(14):
        step = chance.randrange(16)
        learn(optimizer, lambda s=step: model(some_molecules(s)).pow(2).mean())


def detection(chance):
    """Pictures of many shapes, and as many boxes as are found."""
    model = Detector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    for _ in range(12):
        height, width = [32 * chance.randrange(4, 9) for _ in range(2)]
        x = torch.randn(2, 3, height, width)
        learn(optimizer, lambda x=x: model(x).pow(2).mean())


def recommender(chance):
    """Tables, a batch of requests with as many entries as there are, gradients of whole tables."""
    model = Recommender()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    for _ in range(12):
        entries = chance.randrange(8, 40)
        batch = (torch.randn(1024, 64),
                 [torch.randint(0, 50000, (1024, entries)) for _ in range(6)])
        learn(optimizer, lambda b=batch: model(b).pow(2).mean())


def play_and_learn(chance):
    """A memory of what was seen grows; batches are drawn from it."""
    def network():
        return nn.Sequential(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
                             nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten(),
                             nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 6))
    actor, target, memory = network(), network(), []
    optimizer = torch.optim.RMSprop(actor.parameters(), lr=1e-4)
    for step in range(400):
        with torch.no_grad():
            frame = torch.rand(4, 84, 84)
            memory.append((frame, int(actor(frame[None]).argmax())))
        if step % 4 == 3:
            some = chance.sample(memory, min(len(memory), 32))
            x = torch.stack([f for f, _ in some])
            with torch.no_grad():
                best = target(x).max(1).values
            chosen = torch.tensor([a for _, a in some])[:, None]
            learn(optimizer, lambda: functional.smooth_l1_loss(actor(x).gather(1, chosen)[:, 0],
                                                               best))
        if step % 100 == 99:
            target.load_state_dict(actor.state_dict())


def distillation(_):
    """A large model teaches a small one, which alone is trained."""
    teacher, student = residual((3, 4, 6, 3)).requires_grad_(False), residual((1, 1, 1, 1))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9)
    for step in range(12):
        x = torch.randn(12 if step % 6 else 7, 3, 64, 64)
        learn(optimizer, lambda x=x: functional.mse_loss(student(x), teacher(x)))


def mixture_of_experts(chance):
    """Each expert has as many tokens as are sent to it."""
    model = Language(256, 3, 8000, experts=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, foreach=True)
    for _ in range(12):
        tokens = torch.randint(0, 8000, (8, chance.randrange(24, 72)))
        learn(optimizer, lambda t=tokens: functional.cross_entropy(model(t), t[:, -1]))


def hub():
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers
    transformers.logging.set_verbosity_error()
    return transformers


def hub_gpt2_training(chance):
    """GPT-2 of the library transformers."""
    library = hub()
    model = library.GPT2LMHeadModel(library.GPT2Config(vocab_size=8000, n_embd=256, n_layer=6,
                                                       n_head=4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    for _ in range(12):
        tokens = torch.randint(0, 8000, (chance.choice((3, 6, 6)), chance.randrange(32, 128)))
        learn(optimizer, lambda t=tokens: model(t, labels=t).loss, model.parameters())


def hub_bert_tuning(chance):
    """BERT with a head, tuned on sentences of all lengths, and looked at in between."""
    library = hub()
    model = library.BertForSequenceClassification(library.BertConfig(
        vocab_size=12000, hidden_size=256, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=1024, num_labels=3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=True)
    for step in range(14):
        tokens = torch.randint(0, 12000, (8, chance.randrange(16, 96)))
        labels = torch.randint(0, 3, (8,))
        learn(optimizer, lambda t=tokens: model(t, labels=labels).loss, model.parameters())
        if step % 7 == 6:
            model.eval()
            with torch.no_grad():
                for _ in range(4):
                    model(torch.randint(0, 12000, (20, chance.randrange(16, 96))))
            model.train()


PROGRAMS = {program.__name__: program for program in (
    resnet_training, transformer_varying_length, transformer_checkpointed, lstm_bucketed,
    unet_segmentation, adversarial, diffusion_training, diffusion_sampling, gpt_decoding,
    gpt_serving, beam_search, vgg_varying_batch, vit_gathered, graph_sampling, molecules,
    detection, recommender, play_and_learn, distillation, mixture_of_experts, hub_gpt2_training,
    hub_bert_tuning)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("name", nargs="?", choices=PROGRAMS)
    arguments = parser.parse_args()
    if not arguments.name:
        print("\n".join(PROGRAMS))
        return
    torch.set_num_threads(1)
    torch.manual_seed(1)
    PROGRAMS[arguments.name](random.Random(1))


if __name__ == "__main__":
    main()
