# SPDX-License-Identifier: Apache-2.0
"""Made-up programs and what they allocate, for device_waste.py: training, inference and data
processing of many shapes, each with more than 1 GiB alive at its fullest moment.

    device_programs.py FOLDER [--seed N] [NAME...]

writes the traces as CSV files.
"""
import argparse
import csv
import os
import random

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Program:
    """Events of a made-up program."""

    def __init__(self, seed):
        self.chance, self.events, self.next = random.Random(seed), [], 1

    def take(self, size):
        self.next += 1
        self.events.append((self.next << 12, max(512, int(size))))
        return self.next << 12

    def give(self, *pointers):
        self.events += [(pointer, 0) for pointer in pointers]

    def touch(self, size):
        """What lives for one operation."""
        self.give(self.take(size))

    def log_uniform(self, least, most):
        return int(least * (most / least) ** self.chance.random())


def weights(program, layers, width):
    for _ in range(layers):
        for part in (3, 1, 4, 4):
            program.take(part * width * width * 2)


def inference_growing_kv(seed=1):
    """Sequences come and go; each one's keys and values grow by reallocation in each layer."""
    program, layers, width = Program(seed), 24, 1536
    weights(program, layers, width)
    running = []
    for _ in range(240):
        while len(running) < 6 or program.chance.random() < 0.2:
            running.append([program.chance.randrange(64, 900), []])
        for sequence in running:
            work = program.take(sequence[0] * width * 8)
            old, sequence[0] = sequence[1], sequence[0] + 16
            sequence[1] = [program.take(sequence[0] * width * 4) for _ in range(layers)]
            program.give(*old, work)
        running = [s for s in running if s[0] < 1200 or program.give(*s[1])]
    return program.events


def training_varying_batch(seed=1):
    """Forward and backward passes whose batch and length differ from step to step."""
    program, layers, width = Program(seed), 24, 1024
    weights(program, layers, width)
    for _ in range(30):
        tokens = program.chance.randrange(8, 33) * program.chance.randrange(64, 513)
        kept = []
        for _ in range(layers):
            extra = [program.take(tokens * width * 2 * part) for part in (3, 1, 4)]
            kept.append(program.take(tokens * width * 2))
            kept.append(extra.pop())
            program.give(*extra)
        for pointer in reversed(kept):
            gradient = program.take(tokens * width * 4)
            program.give(pointer, gradient)
    return program.events


def mix(parts, seed):
    """Programs of steps, their calls mixed at random: what the others do comes in between."""
    chance, at, mixed = random.Random(seed), [0] * len(parts), []
    while any(at[i] < len(part) for i, part in enumerate(parts)):
        i = chance.randrange(len(parts))
        mixed += [(pointer | i << 50, size) for pointer, size in parts[i][at[i]:at[i] + 8]]
        at[i] += 8
    return mixed


def two_streams(seed=1):
    """A training and a service at once."""
    return mix([training_varying_batch(seed), inference_growing_kv(seed + 1)], seed)


def training_same_steps(seed=1):
    """Every step the same, as most trainings are: what a plan is for."""
    program, layers, width = Program(seed), 24, 1024
    weights(program, layers, width)
    sizes = [program.chance.randrange(1, 65) * 256 * KIB for _ in range(layers * 6)]
    for _ in range(12):
        kept = []
        for i, size in enumerate(sizes):
            kept.append(program.take(size))
            if i % 3 == 2:
                program.give(kept.pop(-2))
        for pointer in reversed(kept):
            gradient = program.take(sizes[len(kept) % len(sizes)])
            program.give(pointer, gradient)
    return program.events


def training_varying_length(seed=4):
    """A transformer's steps with sequences of any length, attention, logits and an optimizer."""
    program, layers, width = Program(seed), 20, 1280
    weights(program, layers, width)
    parts, optimizer = (3, 1, 4, 4), []
    for _ in range(24):
        batch, length = program.chance.choice((4, 8, 8, 8)), program.chance.randrange(128, 1024)
        tokens, kept = batch * length, []
        for _ in range(layers):
            kept.append(program.take(tokens * width * 6))
            scores = program.take(batch * 16 * length * length * 2)
            kept.append(program.take(batch * 16 * length * length * 2))
            program.give(scores)
            kept += [program.take(tokens * width * 2), program.take(tokens * width * 8)]
            program.touch(tokens * width * 8)
            kept += [program.take(tokens * width * 2), program.take(tokens * 4)]
        logits = program.take(tokens * 32000 * 2)
        program.touch(tokens * 32000 * 4)
        for pointer in reversed(kept + [logits]):
            gradient = program.take(tokens * width * 2)
            program.give(pointer, gradient)
        gradients = [program.take(part * width * width * 2) for part in parts * layers]
        if not optimizer:
            optimizer = [program.take(part * width * width * 4) for part in parts * layers * 2]
        program.give(*gradients)
    return program.events


def serving_small_blocks(seed=3):
    """Keys and values that grow by a token at a time: most blocks are no larger than a GPU page."""
    program, layers, width, running = Program(seed), 16, 1024, []
    weights(program, layers, width)
    for _ in range(300):
        while len(running) < 8 or program.chance.random() < 0.2:
            running.append([program.chance.randrange(32, 500), []])
        for sequence in running:
            work = program.take(sequence[0] * width * 6)
            old, sequence[0] = sequence[1], sequence[0] + program.chance.choice((1, 1, 1, 16))
            sequence[1] = [program.take(sequence[0] * width * 4) for _ in range(layers)]
            program.give(*old, work)
        running = [s for s in running if (s[0] < 900 and program.chance.random() > 0.01)
                   or program.give(*s[1])]
    return program.events


def convolutions(stages, base):
    """(channels in, channels out, side, filter) of a residual network."""
    layers, before = [], 3
    for stage, count in enumerate(stages):
        width, side = base << stage, 56 >> stage
        for _ in range(count):
            layers += [(before, width, side, 1), (width, width, side, 3),
                       (width, 4 * width, side, 1)]
            before = 4 * width
    return layers


def training_cnn(seed=5):
    """A residual network: workspaces as the library likes, momentum with the first step, and a last
    batch and evaluations of other sizes."""
    program, layers = Program(seed), convolutions((3, 4, 23, 3), 64)
    sizes = [a * b * k * k * 4 for a, b, _, k in layers]
    for size in sizes:
        program.take(size)
        for _ in range(4):
            program.take(size // 256)
    momentum = []
    for step in range(14):
        batch = 24 if step % 7 else 9
        image = program.take(batch * 3 * 224 * 224 * 4)
        is_training, kept = step % 5 != 4, []
        for a, b, side, k in layers:
            out = program.take(batch * b * side * side * 4)
            if k == 3 or program.chance.random() < 0.2:
                program.touch(program.log_uniform(64 * KIB, 96 * MIB))
            kept += [out, program.take(batch * b * side * side * 4), program.take(b * 8)]
            if not is_training:
                program.give(*kept[:-3])
                kept = kept[-3:]
        gradients = []
        for i, (a, b, side, k) in reversed(list(enumerate(layers))):
            if not is_training:
                break
            through = program.take(batch * a * side * side * 4)
            gradients.append(program.take(sizes[i]))
            program.touch(program.log_uniform(64 * KIB, 96 * MIB))
            program.give(*kept[3 * i:3 * i + 3], through)
        program.give(image)
        if is_training:
            momentum = momentum or [program.take(size) for size in sizes]
            program.give(*gradients)
        else:
            program.give(*kept)
    return program.events


def training_moe(seed=6):
    """A mixture of experts: how many tokens an expert gets, nobody knows before."""
    program, layers, width, experts = Program(seed), 8, 1024, 8
    for _ in range(layers):
        program.take(4 * width * width * 2)
        for _ in range(experts):
            program.take(8 * width * width * 2)
    for _ in range(16):
        tokens, kept = 4096, []
        for _ in range(layers):
            kept += [program.take(tokens * width * 2 * part) for part in (3, 1, 1)]
            share = [program.chance.expovariate(1) for _ in range(experts)]
            for part in share:
                routed = int(2 * tokens * part / sum(share)) + 1
                kept += [program.take(routed * width * 2), program.take(routed * width * 8)]
                program.touch(routed * width * 8)
                kept.append(program.take(routed * width * 2))
        while kept:
            gradient = program.take(program.chance.randrange(1, tokens) * width * 2)
            program.give(kept.pop(), gradient)
    return program.events


def training_gan(seed=7):
    """Two networks in turn, of which the second sees twice what the first made."""
    program = Program(seed)
    maker = [(512 >> i // 2, 8 << i) for i in range(6)]
    judge = [(32 << i, 256 >> i) for i in range(6)]
    for channels, _ in maker + judge:
        for _ in range(3):
            program.take(channels * channels * 36)
    for _ in range(12):
        batch = 8

        def forward(layers, count, batch=batch):
            kept = []
            for channels, side in layers:
                size = batch * count * channels * side * side * 4
                program.touch(program.log_uniform(MIB, 64 * MIB))
                kept += [program.take(size), program.take(size)]
            return kept

        def backward(kept):
            while kept:
                program.touch(program.log_uniform(256 * KIB, 48 * MIB))
                program.give(kept.pop())

        made = forward(maker, 1)
        image = program.take(batch * 3 * 256 * 256 * 4)
        seen = forward(judge, 2)
        backward(seen)
        backward(forward(judge, 1))
        backward(made)
        program.give(image)
    return program.events


def training_checkpointed(seed=8):
    """Activations are computed again in the backward pass; gradients add up over some steps."""
    program, layers, width = Program(seed), 24, 1536
    weights(program, layers, width)
    gradients, states = [], []
    for step in range(20):
        tokens = 64 * program.chance.randrange(32, 128)

        def layer(tokens=tokens):
            return [program.take(tokens * width * 2 * part) for part in (1, 3, 1, 4, 4)]

        kept = []
        for _ in range(layers):
            inner = layer()
            kept.append(inner.pop(0))
            program.give(*reversed(inner))
        for _ in range(layers):
            inner = layer()
            while inner:
                program.touch(tokens * width * 2)
                program.give(inner.pop())
            program.give(kept.pop())
            if len(gradients) < layers * 4:
                gradients += [program.take(part * width * width * 2) for part in (3, 1, 4, 4)]
        if step % 4 == 3:
            if not states:
                states = [program.take(part * width * width * 4)
                          for part in (3, 1, 4, 4) * layers for _ in (0, 1)]
            program.give(*gradients)
            gradients = []
    return program.events


def training_pipeline(seed=9):
    """A stage of a pipeline: the backward pass of one batch between the forward passes of others,
    and buffers for what the neighbours send."""
    program, layers, width, flying = Program(seed), 8, 2048, []
    weights(program, layers, width)
    for step in range(64):
        tokens = 256 * program.chance.randrange(4, 9)
        received = program.take(tokens * width * 2)
        kept = [received] + [program.take(tokens * width * 2 * part)
                             for _ in range(layers) for part in (3, 1, 4, 1)]
        flying.append((tokens, kept))
        while len(flying) >= (4 if step % 16 < 12 else 1):
            tokens, kept = flying.pop(0)
            sent = program.take(tokens * width * 2)
            while kept:
                program.touch(tokens * width * 2)
                program.give(kept.pop())
            program.give(sent)
    return program.events


def serving_paged(seed=10):
    """Keys and values in pages that are all alike, prompts in pieces, and tensors of a batch whose
    length changes with every token."""
    program, layers, width = Program(seed), 32, 2048
    weights(program, 12, width)
    page, running = 16 * width * 4 * layers, []
    for _ in range(500):
        if len(running) < 48 and program.chance.random() < 0.4:
            tokens = program.log_uniform(16, 2048)
            for start in range(0, tokens, 512):
                part = min(512, tokens - start)
                work = [program.take(part * width * 2 * k) for k in (1, 3, 4)]
                program.touch(part * 32000 * 2)
                program.give(*work)
            running.append([tokens, [program.take(page) for _ in range(tokens // 16 + 1)]])
        batch = len(running)
        work = [program.take(batch * width * 2 * k) for k in (1, 3, 4)]
        program.touch(batch * 32000 * 4)
        for sequence in running:
            sequence[0] += 1
            if sequence[0] % 16 == 0:
                sequence[1].append(program.take(page))
        program.give(*work)
        running = [s for s in running if program.chance.random() > 0.008 or program.give(*s[1])]
    return program.events


def serving_mixed_images(seed=11):
    """Batches of pictures of any size, through a detector with pyramids and proposals."""
    program, layers = Program(seed), convolutions((3, 4, 6, 3), 64)
    for a, b, _, k in layers:
        program.take(a * b * k * k * 4)
    results = []
    for _ in range(60):
        batch = program.chance.choice((2, 4, 8, 8, 16))
        scale = program.chance.randrange(200, 900) / 224
        size = [int(batch * b * (side * scale) ** 2 * 4) for _, b, side, _ in layers]
        last, pyramid = program.take(batch * 3 * (224 * scale) ** 2 * 4), []
        for i, bytes_out in enumerate(size):
            program.touch(program.log_uniform(64 * KIB, 64 * MIB))
            out = program.take(bytes_out)
            if i % 9 == 8:
                pyramid.append(program.take(bytes_out // 8))
            program.give(last)
            last = out
        for _ in range(program.chance.randrange(10, 200)):
            results.append(program.take(program.log_uniform(KIB, 512 * KIB)))
        program.give(last, *pyramid)
        if len(results) > 1500:
            program.give(*results[:1000])
            results = results[1000:]
    return program.events


def training_replay(seed=12):
    """Reinforcement learning: a memory of what was seen that grows and is overwritten, short games
    and training in between."""
    program = Program(seed)
    for _ in range(12):
        program.take(4 * MIB)
    memory = []
    for step in range(300):
        game = [program.take(program.log_uniform(16 * KIB, MIB))
                for _ in range(program.chance.randrange(8, 40))]
        episode = program.take(program.chance.randrange(2, 96) * 64 * KIB * 4)
        memory.append(episode)
        program.give(*game)
        if len(memory) > 120:
            program.give(memory.pop(program.chance.randrange(60)))
        if step % 4 == 3:
            kept = [program.take(32 * 512 * KIB // (1 + i % 4)) for i in range(24)]
            while kept:
                program.touch(8 * MIB)
                program.give(kept.pop())
    return program.events


def diffusion(seed=13):
    """Pictures by steps of a network with skips, in a few resolutions, and a decoder at the end."""
    program, channels = Program(seed), (320, 640, 1280, 1280)
    for width in channels:
        for _ in range(10):
            program.take(width * width * 9 * 2 // 4)
    for _ in range(10):
        side = program.chance.choice((64, 96, 128, 80))
        batch = 2 * program.chance.choice((1, 2, 4))
        latent = program.take(batch * 4 * side * side * 4)
        for _ in range(8):
            skips = []
            for level, width in enumerate(channels):
                area = (side >> level) ** 2
                for _ in range(2):
                    skips.append(program.take(batch * width * area * 2))
                    program.touch(batch * 8 * min(area, 2048) * area)
                    program.touch(batch * width * area * 16)
            for level, width in reversed(list(enumerate(channels))):
                area = (side >> level) ** 2
                for _ in range(2):
                    joined = program.take(batch * width * area * 4)
                    program.touch(batch * width * area * 16)
                    program.give(skips.pop(), joined)
        last = program.take(batch * 512 * side * side * 2)
        for level, width in enumerate((512, 512, 256, 128)):
            out = program.take(batch // 2 * width * (side << level) ** 2 * 2)
            program.touch(batch // 2 * width * (side << level) ** 2)
            program.give(last)
            last = out
        program.give(last, latent)
    return program.events


def data_frames(seed=14):
    """Joins and groups of tables: columns of all sizes, and no order in which they end."""
    program, tables = Program(seed), []
    for _ in range(260):
        rows = program.log_uniform(20000, 12000000)
        columns = [program.take(rows * program.chance.choice((1, 4, 8, 8)))
                   for _ in range(program.chance.randrange(2, 9))]
        columns += [program.take(rows // 8 + 1) for _ in columns]
        work = [program.take(program.log_uniform(4 * KIB, rows * 16)) for _ in range(3)]
        program.chance.shuffle(work)
        program.give(*work)
        tables.append((rows, columns))
        while sum(rows for rows, _ in tables) > 40000000:
            _, columns = tables.pop(program.chance.randrange(len(tables)))
            program.give(*columns)
    return program.events


def graph_sampling(seed=15):
    """A graph's network on samples of neighbours: features stay, everything else varies."""
    program = Program(seed)
    program.take(600 * MIB)
    program.take(180 * MIB)
    for _ in range(160):
        nodes, kept = program.chance.randrange(800, 1200), []
        for _ in range(3):
            nodes = int(nodes * program.chance.uniform(3, 9))
            kept += [program.take(nodes * 8), program.take(nodes * 16)]
        for width in (256, 256, 64):
            nodes = max(1000, int(nodes / program.chance.uniform(3, 9)))
            kept += [program.take(nodes * width * 4) for _ in range(3)]
            program.touch(nodes * width * 16)
        while kept:
            program.touch(program.log_uniform(64 * KIB, 24 * MIB))
            program.give(kept.pop())
    return program.events


def recommender(seed=16):
    """Tables of embeddings, and thousands of small blocks around them."""
    program = Program(seed)
    for _ in range(40):
        program.take(program.log_uniform(MIB, 160 * MIB))
    cached = []
    for _ in range(120):
        batch, kept = program.chance.choice((2048, 2048, 2048, 1500)), []
        for _ in range(26):
            lookups = batch * program.chance.randrange(1, 12)
            kept += [program.take(lookups * 8), program.take(batch * 8), program.take(batch * 256)]
        for width in (512, 256, 128, 1024, 1024, 512, 1):
            kept += [program.take(batch * width * 4), program.take(batch * width)]
        cached += [program.take(program.log_uniform(512, 256 * KIB)) for _ in range(40)]
        program.give(*reversed(kept))
        while len(cached) > 1200:
            program.give(cached.pop(program.chance.randrange(len(cached))))
    return program.events


def speech_beams(seed=17):
    """Recordings of any length: an encoder for each batch, then many steps of small blocks."""
    program, layers, width = Program(seed), 16, 1024
    weights(program, layers, width)
    for _ in range(24):
        frames = program.chance.randrange(400, 3000)
        encoded, last = [], program.take(24 * frames * 80 * 4)
        for _ in range(layers):
            program.touch(24 * 8 * frames * frames // 8)
            encoded.append(program.take(24 * frames * width * 2 // 4))
            out = program.take(24 * frames * width * 4 // 4)
            program.give(last)
            last = out
        states = []
        for step in range(program.chance.randrange(20, 60)):
            new = [program.take(24 * 5 * (step + 1) * width * 2) for _ in range(layers)]
            program.touch(24 * 5 * 10000 * 4)
            program.give(*states)
            states = new
        program.give(*states, *encoded, last)
    return program.events


def four_streams(seed=18):
    """Four services at once, none knowing of the others."""
    return mix([diffusion(seed), serving_mixed_images(seed), graph_sampling(seed),
                speech_beams(seed)], seed)


def fine_tuning(seed=19):
    """Large weights that stay, small ones that learn, and evaluations by generation in between."""
    program, layers, width = Program(seed), 24, 2048
    weights(program, layers, width)
    for _ in range(layers):
        program.take(16 * width * 4 * 2)
    states = []
    for step in range(24):
        tokens, kept = 32 * program.chance.randrange(16, 96), []
        for _ in range(layers):
            kept += [program.take(tokens * width * 2), program.take(tokens * width * 2)]
            program.touch(tokens * width * 8)
            kept += [program.take(tokens * 16 * 2), program.take(tokens * 16 * 2)]
        program.touch(tokens * 32000 * 4)
        while kept:
            program.touch(tokens * width * 2)
            program.give(kept.pop())
        if not states:
            states = [program.take(16 * width * 4) for _ in range(layers * 4)]
        if step % 6 == 5:
            keys = []
            for length in range(64, 64 + 16 * 8, 16):
                new = [program.take(8 * length * width * 4) for _ in range(layers)]
                program.give(*keys)
                keys = new
            program.give(*keys)
    return program.events


def multigrid(seed=31):
    """A solver on grids of halving sides, refined anew every few cycles."""
    program = Program(seed)
    for _ in range(30):
        side = program.chance.randrange(180, 330)
        levels = []
        while side > 8:
            levels.append([program.take(side ** 3 * 4) for _ in range(4)])
            side //= 2
        for _ in range(6):
            for level, grids in enumerate(levels):
                program.touch(program.chance.randrange(1, 5) * 2 ** 20 >> level)
        for grids in levels:
            program.give(*grids)
    return program.events


def model_switching(seed=32):
    """A few models of different sizes, of which as many are loaded as fit."""
    program, loaded = Program(seed), []
    models = [(program.chance.randrange(8, 40), program.chance.choice((768, 1024, 1536, 2048)))
              for _ in range(9)]
    for _ in range(80):
        layers, width = program.chance.choice(models)
        parts = [program.take(k * width * width * 2) for k in (3, 1, 4, 4) * layers]
        loaded.append(parts)
        for _ in range(6):
            tokens = program.chance.randrange(16, 4096)
            program.touch(tokens * width * 8)
            program.touch(tokens * 32000 * 2)
        while len(loaded) > 3:
            program.give(*loaded.pop(program.chance.randrange(len(loaded) - 1)))
    return program.events


def video(seed=33):
    """Streams of frames in rings, whose resolutions change when a new one begins."""
    program, streams = Program(seed), []
    for _ in range(900):
        if len(streams) < 12:
            width, height = program.chance.choice(((3840, 2160), (1920, 1080), (1280, 720)))
            ring = [program.take(width * height * 3 // 2) for _ in range(16)]
            streams.append([program.chance.randrange(20, 400), width * height, ring])
        for stream in streams:
            stream[0] -= 1
            decoded = program.take(stream[1] * 12)
            program.touch(stream[1] * 3 + program.chance.randrange(stream[1]))
            program.give(decoded)
        for stream in [s for s in streams if s[0] <= 0]:
            streams.remove(stream)
            program.give(*stream[2])
    return program.events


def segmentation_volumes(seed=34):
    """Volumes of any shape through a network that goes down and up again, a batch of one."""
    program = Program(seed)
    for _ in range(20):
        program.take(program.log_uniform(256 * KIB, 24 * MIB))
    for _ in range(40):
        voxels = program.chance.randrange(96, 200) ** 2 * program.chance.randrange(48, 160)
        skips = []
        for level in range(5):
            size = voxels * 16 * 2 ** level // 8 ** level
            out = [program.take(size * 2), program.take(size * 2)]
            program.give(out.pop(0))
            skips += out
        for level in reversed(range(5)):
            joined = program.take(voxels * 32 * 2 ** level // 8 ** level * 2)
            program.give(skips.pop(), joined)
    return program.events


def training_growing(seed=35):
    """Steps that are all alike until the batch is doubled, four times."""
    program, layers, width = Program(seed), 16, 1024
    weights(program, layers, width)
    for doubled in range(4):
        tokens = 2048 << doubled
        for _ in range(10):
            kept = [program.take(tokens * width * 2 * k)
                    for _ in range(layers) for k in (3, 1, 4, 1)]
            while kept:
                gradient = program.take(tokens * width * 2)
                program.give(kept.pop(), gradient)
    return program.events


def joins(seed=36):
    """Hash joins: a table built, probed in pieces, results of any length that are kept a while."""
    program, results = Program(seed), []
    for _ in range(200):
        rows = program.log_uniform(100000, 20000000)
        table = program.take(rows * 16)
        for _ in range(program.chance.randrange(2, 12)):
            keys = program.take(4000000 * 8)
            found = program.take(program.log_uniform(1000, 4000000) * 12)
            program.give(keys)
            results.append(found)
        program.give(table)
        while len(results) > 60:
            program.give(results.pop(program.chance.randrange(len(results))))
    return program.events


def adapters(seed=41):
    """One model, and small adapters that come and go with those who ask."""
    program, layers, width, loaded = Program(seed), 28, 1536, []
    weights(program, layers, width)
    for _ in range(400):
        if len(loaded) < 40 or program.chance.random() < 0.3:
            rank = program.chance.choice((8, 16, 32, 64, 128))
            loaded.append([program.take(rank * width * 2 * k) for k in (4, 2, 5, 5) * layers])
        if len(loaded) > 60:
            program.give(*loaded.pop(program.chance.randrange(len(loaded))))
        tokens = program.chance.randrange(16, 3000)
        work = [program.take(tokens * width * 2 * k) for k in (1, 3, 4)]
        program.touch(tokens * 32000 * 2)
        program.give(*work)
    return program.events


def speculation(seed=42):
    """A small model guesses and a large one checks; both keep keys and values, by doubling."""
    program, running = Program(seed), []
    weights(program, 24, 1536)
    weights(program, 8, 768)
    for _ in range(700):
        while len(running) < 10:
            tokens = program.chance.randrange(32, 800)
            running.append([tokens, 0, []])
        for sequence in running:
            sequence[0] += program.chance.randrange(1, 6)
            if sequence[0] > sequence[1]:
                old, sequence[1] = sequence[2], max(128, sequence[1] * 2)
                sequence[2] = [program.take(sequence[1] * w * 4) for w in [1536] * 24 + [768] * 8]
                program.give(*old)
            program.touch(program.chance.randrange(1, 6) * 32000 * 4)
        running = [s for s in running if (s[0] < 1800 and program.chance.random() > 0.01)
                   or program.give(*s[2])]
    return program.events


def particles(seed=43):
    """Particles in cells: lists of neighbours made anew, each a little larger or smaller."""
    program, count = Program(seed), 6000000
    for parts in (3, 3, 3, 1, 1):
        program.take(count * 4 * parts)
    neighbours = program.take(count * 4 * 30)
    for _ in range(150):
        keys = [program.take(count * 4), program.take(count * 4)]
        program.touch(count * 8 + program.chance.randrange(1 << 22))
        program.give(*keys)
        for _ in range(program.chance.randrange(3, 9)):
            program.touch(program.chance.randrange(1, 64) * 65536)
        new = program.take(int(count * 4 * program.chance.uniform(28, 34)))
        program.give(neighbours)
        neighbours = new
    return program.events


def upscaling(seed=44):
    """Pictures cut into tiles, whose results are put together at the end."""
    program = Program(seed)
    for _ in range(180):
        program.take(program.log_uniform(64 * KIB, 12 * MIB))
    for _ in range(24):
        wide, high = program.chance.randrange(2, 9), program.chance.randrange(2, 7)
        whole = program.take(wide * high * 512 * 512 * 3 * 16 * 2)
        parts = []
        for _ in range(wide * high):
            last = program.take(512 * 512 * 64 * 2)
            for _ in range(8):
                out = program.take(512 * 512 * 64 * 2)
                program.touch(program.chance.choice((8, 16, 24)) * MIB)
                program.give(last)
                last = out
            large = program.take(2048 * 2048 * 64 * 2 // 4)
            program.give(last)
            parts.append(program.take(2048 * 2048 * 3 * 2))
            program.give(large)
        program.give(*parts, whole)
    return program.events


def boosting(seed=45):
    """Trees grown level by level: histograms of each node, rows moved from one to its children."""
    program, rows = Program(seed), 13000000
    program.take(rows * 64)
    program.take(rows * 8)
    for _ in range(60):
        nodes, histograms = [rows], []
        gradients = program.take(rows * 8)
        for level in range(7):
            now = [program.take(64 * 256 * 16) for _ in nodes]
            lists = [program.take(max(1, count) * 4) for count in nodes]
            nodes = [int(part) for count in nodes
                     for share in [program.chance.uniform(0.1, 0.9)]
                     for part in (count * share, count * (1 - share))]
            program.touch(rows * 4 + level)
            program.give(*lists, *histograms)
            histograms = now
        program.give(gradients, *histograms)
    return program.events


def reinforcement(seed=46):
    """Games played by one network and learned by another, with a memory that is full soon."""
    program, memory = Program(seed), []
    weights(program, 8, 1024)
    weights(program, 8, 1024)
    for step in range(160):
        length = program.chance.randrange(40, 600)
        for _ in range(12):
            program.touch(256 * 84 * 84 * 4 * 4)
        memory.append([program.take(length * 84 * 84 * 4), program.take(length * 64 * 4)])
        if len(memory) > 60:
            program.give(*memory.pop(program.chance.randrange(len(memory))))
        if step % 4 == 3:
            batch, kept = program.chance.choice((512, 1024)), []
            for channels, side in ((32, 41), (64, 19), (64, 17), (512, 1)):
                kept += [program.take(batch * channels * side * side * 4) for _ in (0, 1)]
            while kept:
                program.touch(program.log_uniform(MIB, 32 * MIB))
                program.give(kept.pop())
    return program.events


def retrieval(seed=51):
    """Shards of an index come and go; queries in batches of all sizes search those that are there."""
    program, shards = Program(seed), []
    for step in range(420):
        if len(shards) < 9 or step % 12 == 0:
            rows = program.chance.randrange(100, 400) * 1024
            raw = program.take(rows * 768 * 2)
            shards.append([program.take(rows * 96), program.take(rows * 8),
                           program.take(program.chance.randrange(1, 5) * MIB)])
            program.give(raw)
        while len(shards) > 14:
            program.give(*shards.pop(program.chance.randrange(len(shards))))
        queries = program.chance.choice((1, 8, 32, 256, 1024))
        asked, best = program.take(queries * 768 * 4), []
        for _ in shards:
            scores = program.take(queries * program.chance.randrange(16, 96) * 1024)
            best.append(program.take(queries * 100 * 8))
            program.give(scores)
        program.touch(len(best) * queries * 100 * 8)
        program.give(asked, *best)
    return program.events


def adaptive_mesh(seed=52):
    """Patches of a mesh are refined and made coarse again; a few times all are put together anew."""
    program = Program(seed)
    patches = [[program.take(program.chance.randrange(4, 12) * MIB), 0] for _ in range(60)]
    for step in range(240):
        ghosts = [program.take(program.log_uniform(16 * KIB, MIB)) for _ in patches]
        for _ in range(3):
            program.touch(program.log_uniform(8 * MIB, 48 * MIB))
        program.give(*ghosts)
        for _ in range(program.chance.randrange(1, 6)):
            n = program.chance.randrange(len(patches))
            pointer, level = patches.pop(n)
            if level < 3 and len(patches) < 150 and program.chance.random() < 0.6:
                patches += [[program.take(program.chance.randrange(2, 9) * MIB + 64 * KIB),
                             level + 1] for _ in range(4)]
            program.give(pointer)
        while len(patches) < 50:
            patches.append([program.take(program.chance.randrange(4, 24) * MIB), 0])
        if step % 60 == 59:
            fresh = [[program.take(program.chance.randrange(4, 24) * MIB), 0] for _ in patches]
            program.give(*[pointer for pointer, _ in patches])
            patches = fresh
    return program.events


def serving_chunked(seed=53):
    """Prompts in chunks of 512 tokens beside decoding, in one batch; pages of keys are fixed."""
    program, width, layers = Program(seed), 4096, 8
    weights(program, layers, 2048)
    program.take(512 * MIB)
    waiting, decoding = 0, 0
    for _ in range(500):
        if waiting == 0 and program.chance.random() < 0.3:
            waiting = program.chance.randrange(20, 3000)
        chunk = min(waiting, 512)
        waiting -= chunk
        if chunk and not waiting:
            decoding += 1
        if decoding and program.chance.random() < 0.1:
            decoding -= 1
        tokens = chunk + decoding
        if not tokens:
            continue
        hidden = program.take(tokens * width * 2)
        for _ in range(layers):
            qkv = program.take(tokens * width * 3 * 2)
            out = program.take(tokens * width * 2)
            program.give(qkv)
            gate = program.take(tokens * width * 7)
            up = program.take(tokens * width * 7)
            program.give(out, gate, up, hidden)
            hidden = program.take(tokens * width * 2)
        logits = program.take((decoding + 1) * 128256 * 4)
        program.give(hidden, logits)
    return program.events


def rendering(seed=54):
    """Frames of a film: geometry and textures of each shot, an acceleration structure per frame."""
    program = Program(seed)
    frame_buffers = [program.take(3840 * 2160 * 16) for _ in range(3)]
    textures = []
    for _ in range(9):
        program.give(*textures[:len(textures) * 2 // 3])
        textures = textures[len(textures) * 2 // 3:]
        while len(textures) < 90:
            side = 1 << program.chance.randrange(9, 13)
            textures.append(program.take(side * side * 4 * 4 // 3))
        meshes = [program.take(program.log_uniform(256 * KIB, 40 * MIB)) for _ in range(50)]
        for _ in range(14):
            size = program.chance.randrange(80, 200) * MIB
            scratch, built = program.take(size // 3), program.take(size)
            compact = program.take(size * program.chance.randrange(40, 70) // 100)
            program.give(scratch, built)
            rays = [program.take(1920 * 1080 * part) for part in (32, 16, 8, 8)]
            for _ in range(6):
                program.touch(program.log_uniform(64 * KIB, 16 * MIB))
            program.give(compact, *rays)
        program.give(*meshes)
    program.give(*frame_buffers)
    return program.events


def distillation(seed=55):
    """A large teacher looks at crops of two sizes, a small student learns from several of them."""
    program = Program(seed)
    weights(program, 24, 1024)
    weights(program, 12, 768)
    for step in range(70):
        batch = 48 if step % 10 else program.chance.randrange(8, 48)
        targets = []
        for crops, tokens in ((2, 256), (program.chance.randrange(4, 9), 49)):
            hidden = program.take(batch * crops * tokens * 1024 * 2)
            for _ in range(12):
                wide = program.take(batch * crops * tokens * 4096 * 2)
                program.give(wide, hidden)
                hidden = program.take(batch * crops * tokens * 1024 * 2)
            targets.append(program.take(batch * crops * 8192 * 4))
            program.give(hidden)
            kept = [program.take(batch * crops * tokens * 768 * part)
                    for _ in range(12) for part in (2, 6, 8)]
            while kept:
                gradient = program.take(batch * crops * tokens * 768 * 2)
                program.give(kept.pop(), gradient)
        program.give(*targets)
    return program.events


def genomes(seed=56):
    """Reads of all lengths are sorted by length, aligned in batches and thrown away; seeds grow."""
    program = Program(seed)
    program.take(420 * MIB)
    table = program.take(40 * MIB)
    for step in range(150):
        reads = [program.take(program.log_uniform(64 * KIB, 6 * MIB)) for _ in range(40)]
        if step % 15 == 14:
            larger = program.take((40 + step * 2) * MIB)
            program.give(table)
            table = larger
        keys = [program.take(24 * MIB), program.take(24 * MIB)]
        program.touch(program.chance.randrange(1, 9) * MIB)
        program.give(keys[0])
        for first in range(0, 40, 8):
            cells = program.take(program.log_uniform(32 * MIB, 320 * MIB))
            paths = program.take(program.log_uniform(MIB, 16 * MIB))
            program.give(cells, *reads[first:first + 8])
            program.give(paths)
        program.give(keys[1])
    return program.events


GENERATED = [inference_growing_kv, training_varying_batch, training_same_steps, two_streams,
             training_varying_length, serving_small_blocks, training_cnn, training_moe,
             training_gan, training_checkpointed, training_pipeline, serving_paged,
             serving_mixed_images, training_replay, diffusion, data_frames, graph_sampling,
             recommender, speech_beams, four_streams, fine_tuning]

# Not looked at while the pool was made: what it does with them is no result of trying.
HELD_OUT = [multigrid, model_switching, video, segmentation_volumes, training_growing, joins,
            adapters, speculation, particles, upscaling, boosting, reinforcement, retrieval, adaptive_mesh, serving_chunked, rendering,
            distillation, genomes]


def write(path, events):
    sizes = {}
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["Thread", "Time", "Action", "Pointer", "Size", "Stream"])
        for n, (pointer, size) in enumerate(events):
            sizes[pointer] = size or sizes[pointer]
            rows.writerow([0, f"{n / 1e6:.6f}", "allocate" if size else "free", hex(pointer),
                           sizes[pointer], 0])


def main():
    parser = argparse.ArgumentParser(description="write the traces of made-up programs")
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    for generate in GENERATED + HELD_OUT:
        name = generate.__name__
        if not arguments.names or name in arguments.names:
            events = generate() if arguments.seed is None else generate(arguments.seed)
            write(os.path.join(arguments.folder, name + ".csv"), events)


if __name__ == "__main__":
    main()
