# SPDX-License-Identifier: Apache-2.0
"""Programs for classifier.py as somebody writes them who judges it from outside: kinds of models,
ways of loading them and loops that no other file here has, all written before one was run and
before the classifier was looked at. Each is a function of its ways."""

import copy
import json
import os
import queue
import struct
import threading

import numpy
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import rnn
from torch.utils.data import DataLoader, Dataset

from classifier_loops import Holder


class DenseBlock(nn.Module):
    """Five convolutions, of which each sees all before it, as super-resolution has them."""

    def __init__(self, width, growth):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(width + i * growth, growth if i < 4 else width, 3, 1, 1) for i in range(5))

    def forward(self, x):
        seen = [x]
        for layer in self.layers[:-1]:
            seen.append(functional.leaky_relu(layer(torch.cat(seen, 1)), 0.2, inplace=True))
        return x + 0.2 * self.layers[-1](torch.cat(seen, 1))


def upscaler(_):
    """A picture is made four times as large, tile by tile."""
    body = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1), *[DenseBlock(64, 32) for _ in range(8)])
    tail = nn.Sequential(nn.Conv2d(64, 256, 3, 1, 1), nn.PixelShuffle(2), nn.LeakyReLU(0.2),
                         nn.Conv2d(64, 256, 3, 1, 1), nn.PixelShuffle(2), nn.LeakyReLU(0.2),
                         nn.Conv2d(64, 3, 3, 1, 1))
    model = nn.Sequential(body, tail)

    def step_of(_):
        picture = torch.rand(1, 3, 96, 128)
        large = torch.zeros(1, 3, 384, 512)
        for y in range(0, 96, 32):
            for x in range(0, 128, 32):
                tile = functional.pad(picture, (4, 4, 4, 4), "reflect")[:, :, y:y + 40, x:x + 40]
                large[:, :, 4 * y:4 * y + 128, 4 * x:4 * x + 128] = \
                    model(tile)[:, :, 16:-16, 16:-16]
        return large.clamp(0, 1).mul(255).to(torch.uint8).numpy()
    return [model], step_of


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v, self.o = nn.Linear(width, width), nn.Linear(width, width)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, k, v, mask=None):
        scores = self.split(self.q(x)) @ k.transpose(2, 3) / k.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(mask, -1e9)
        mixed = scores.softmax(-1) @ v
        return self.o(mixed.transpose(1, 2).reshape(x.shape))


class SeqLayer(nn.Module):
    """Of an encoder, or with `cross` of a decoder."""

    def __init__(self, width, heads, cross):
        super().__init__()
        self.own, self.norm1 = Attention(width, heads), nn.LayerNorm(width)
        self.cross = Attention(width, heads) if cross else None
        self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, cache=None, memory=None):
        y = self.norm1(x)
        k, v = self.own.split(self.own.k(y)), self.own.split(self.own.v(y))
        if cache is not None:
            if cache:
                k, v = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
            cache["k"], cache["v"] = k, v
        x = x + self.own(y, k, v)
        if self.cross is not None:
            x = x + self.cross(self.norm2(x), *memory)
        return x + self.down(functional.gelu(self.up(self.norm3(x))))


class Seq2Seq(nn.Module):
    """Embedding, decoder's embedding and head are one tensor."""

    def __init__(self, words=12000, width=384, layers=4):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.randn(256, width) * 0.02)
        self.encoder = nn.ModuleList(SeqLayer(width, 6, False) for _ in range(layers))
        self.decoder = nn.ModuleList(SeqLayer(width, 6, True) for _ in range(layers))
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def encode(self, tokens):
        x = self.words(tokens) + self.places[:tokens.shape[1]]
        for layer in self.encoder:
            x = layer(x)
        return [(layer.cross.split(layer.cross.k(x)), layer.cross.split(layer.cross.v(x)))
                for layer in self.decoder]

    def decode(self, tokens, at, caches, memory):
        x = self.words(tokens) + self.places[at]
        for layer, cache, some in zip(self.decoder, caches, memory):
            x = layer(x, cache, some)
        return self.head(x[:, -1]).log_softmax(-1)


def beams(ways):
    """Sentences are answered by a search with four beams; the weights come from a file of
    torch.save(), which a plain open() reads."""
    path = f"classifier-{os.getpid()}.pt"
    with open(path, "wb") as file:
        torch.save({"model": Seq2Seq().state_dict(), "epoch": 3}, file)
    model = Seq2Seq()
    with open(path, "rb") as file:
        model.load_state_dict(torch.load(file)["model"], strict=True)
    os.unlink(path)
    wide = 4

    def step_of(step):
        memory = model.encode(torch.randint(0, 12000, (1, 20 + 9 * step)))
        memory = [(k.expand(wide, -1, -1, -1), v.expand(wide, -1, -1, -1)) for k, v in memory]
        tokens, scores = torch.zeros(wide, 1, dtype=torch.long), torch.zeros(wide, 1)
        caches = [{} for _ in model.decoder]
        for at in range(24):
            told = scores + model.decode(tokens[:, -1:], at, caches, memory)
            scores, best = told.view(-1).topk(wide)
            scores, rows = scores.view(-1, 1), best // 12000
            tokens = torch.cat([tokens[rows], (best % 12000).view(-1, 1)], 1)
            for cache in caches:
                for name in cache:
                    cache[name] = cache[name].index_select(0, rows)
        return tokens[0].tolist()
    return [model], step_of


class Rotary(nn.Module):
    """A decoder's layer with rotary places, fewer keys than queries and a gate."""

    def __init__(self, width=512, heads=8, groups=2, inner=1408):
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.norm1, self.norm2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.qkv = nn.Linear(width, width + 2 * groups * self.size, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    @staticmethod
    def normed(x, weight):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * weight

    @staticmethod
    def turned(x, angles):
        a, b = x.chunk(2, -1)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    def forward(self, x, angles, keep):
        batch, length, width = x.shape
        qkv = self.qkv(self.normed(x, self.norm1)).view(batch, length, -1, self.size)
        q, k, v = qkv.transpose(1, 2).split([self.heads, self.groups, self.groups], 1)
        q, (k, v) = self.turned(q, angles), keep(self.turned(k, angles), v)
        k, v = [t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v)]
        mixed = functional.softmax(q @ k.transpose(2, 3) / self.size ** 0.5, -1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        y = self.normed(x, self.norm2)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Chat(nn.Module):
    def __init__(self, words=16000, width=512, layers=6):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.layers = nn.ModuleList(Rotary(width) for _ in range(layers))
        self.head = nn.Linear(width, words, bias=False)
        self.register_buffer("turns", 1e4 ** (-torch.arange(32) / 32.0), persistent=False)

    def forward(self, tokens, at, keeps):
        x = self.words(tokens)
        angles = torch.arange(at, at + tokens.shape[1])[:, None] * self.turns
        for layer, keep in zip(self.layers, keeps):
            x = layer(x, angles, keep)
        return self.head(x[:, -1]).argmax(-1)


class Growing:
    """Keys and values of a layer: joined anew each time, or with a `room` a ring of that many."""

    def __init__(self, room=0):
        self.room, self.at, self.pair = room, 0, None

    def __call__(self, k, v):
        if not self.room:
            if self.pair:
                k, v = torch.cat([self.pair[0], k], 2), torch.cat([self.pair[1], v], 2)
            self.pair = k, v
            return k, v
        if self.pair is None:
            shape = k.shape[:2] + (self.room,) + k.shape[3:]
            self.pair = torch.zeros(shape, dtype=k.dtype), torch.zeros(shape, dtype=k.dtype)
        places = torch.arange(self.at, self.at + k.shape[2]) % self.room
        self.pair[0][:, :, places], self.pair[1][:, :, places] = k, v
        self.at += k.shape[2]
        end = min(self.at, self.room)
        return self.pair[0][:, :, :end], self.pair[1][:, :, :end]


def write_raw(model, path):
    """A header of JSON and all tensors behind it, as the usual format without pickles has it."""
    header, body = {}, bytearray()
    for name, tensor in model.state_dict().items():
        data = tensor.detach().view(torch.int16 if tensor.dtype == torch.bfloat16 else
                                    tensor.dtype).numpy().tobytes()
        header[name] = [list(tensor.shape), len(body), len(body) + len(data)]
        body += data
    head = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + body)


def pour(model, path):
    """Reads such a file into the memory that the parameters have."""
    tensors = model.state_dict()
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name in header:
            target = tensors[name]
            view = target.view(torch.int16) if target.dtype == torch.bfloat16 else target
            file.readinto(memoryview(view.numpy()).cast("B"))


def chat(ways):
    """A text of one token per step behind a prompt: the cache grows by joining, or is a `ring`. The
    file is read into empty parameters, in bfloat16."""
    kind = torch.float32 if "float" in ways else torch.bfloat16
    path = f"classifier-{os.getpid()}.raw"
    write_raw(Chat().to(kind), path)
    torch.set_default_dtype(kind)
    model = Chat()
    torch.set_default_dtype(torch.float32)
    pour(model, path)
    os.unlink(path)
    keeps = [Growing(96 if "ring" in ways else 0) for _ in model.layers]
    model.kept, state = keeps, {"at": 0}

    def step_of(step):
        tokens = torch.randint(0, 16000, (4, 64)) if step == 0 else state["said"][:, None]
        state["said"] = model(tokens, state["at"], keeps)
        state["at"] += tokens.shape[1]
        model.cache = [t for keep in keeps for t in keep.pair]
    return [model], step_of


class Modulated(nn.Module):
    """A convolution whose weights are scaled for each picture of the batch."""

    def __init__(self, inputs, outputs, style):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.style, self.noise = nn.Linear(style, inputs), nn.Parameter(torch.zeros(1))

    def forward(self, x, w):
        batch, inputs, height, width = x.shape
        weight = self.weight[None] * self.style(w)[:, None, :, None, None]
        weight = weight * torch.rsqrt(weight.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8)
        x = functional.conv2d(x.reshape(1, -1, height, width), weight.flatten(0, 1), padding=1,
                              groups=batch).view(batch, -1, height, width)
        return functional.leaky_relu(x + self.noise * torch.randn(batch, 1, height, width), 0.2)


class Stylist(nn.Module):
    def __init__(self, style=512, widths=(512, 512, 256, 128, 64)):
        super().__init__()
        self.mapping = nn.Sequential(*[part for _ in range(8) for part in (
            nn.Linear(style, style), nn.LeakyReLU(0.2))])
        self.start = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.layers = nn.ModuleList(Modulated(a, b, style)
                                    for a, b in zip((widths[0],) + widths[:-1], widths))
        self.colour = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, z, mean):
        w = mean + 0.7 * (self.mapping(functional.normalize(z)) - mean)
        x = self.start.expand(z.shape[0], -1, -1, -1)
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else functional.interpolate(x, scale_factor=2.0), w)
        return torch.tanh(self.colour(x))


def stylist(ways):
    """Pictures are sampled from the average of a generator, whose middle style is found first."""
    model = Stylist()
    average = copy.deepcopy(model).requires_grad_(False)
    with torch.no_grad():
        for mine, its in zip(average.parameters(), model.parameters()):
            mine.lerp_(its, 0.001)
        mean = average.mapping(torch.randn(2048, 512)).mean(0, keepdim=True)
    del model
    batches = (4, 1, 6) if "varied" in ways else (4,)
    return [average], lambda step: average(torch.randn(batches[step % len(batches)], 512), mean)


class TimeBlock(nn.Module):
    def __init__(self, inputs, outputs, time):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.time, self.short = nn.Linear(time, outputs), nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, t):
        y = self.conv1(functional.silu(self.norm1(x))) + self.time(t)[:, :, None, None]
        return self.short(x) + self.conv2(functional.silu(self.norm2(y)))


class Denoiser(nn.Module):
    def __init__(self, widths=(64, 128, 256), time=256):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(128, time), nn.SiLU(), nn.Linear(time, time))
        self.kinds = nn.Embedding(11, time)
        self.first, self.last = nn.Conv2d(3, 64, 3, 1, 1), nn.Conv2d(64, 3, 3, 1, 1)
        self.down = nn.ModuleList(TimeBlock(a, b, time) for a, b in zip((64,) + widths, widths))
        self.middle = nn.MultiheadAttention(widths[-1], 4, batch_first=True)
        self.up = nn.ModuleList(TimeBlock(2 * b, a, time) for a, b in
                                zip(((64,) + widths)[:-1][::-1], widths[::-1]))

    def forward(self, x, t, kind):
        angles = t[:, None] * 1e4 ** (-torch.arange(64) / 64.0)
        t = self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.kinds(kind)
        x, kept = self.first(x), []
        for block in self.down:
            x = block(x, t)
            kept.append(x)
            x = functional.avg_pool2d(x, 2)
        flat = x.flatten(2).transpose(1, 2)
        x = x + self.middle(flat, flat, flat, need_weights=False)[0].transpose(1, 2).view(x.shape)
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, kept.pop()], 1), t)
        return self.last(x)


def schedule(ways):
    """Pictures from noise: a step is one of a loop of fifty, guided by a class; or with `whole` a
    loop of eight."""
    model = Denoiser()
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    state = {}

    def denoise(now, then):
        x, kinds = state["x"], state["kinds"]
        both = torch.cat([x, x])
        known, free = model(both, torch.full((len(both),), float(now)),
                            torch.cat([kinds, torch.full_like(kinds, 10)])).chunk(2)
        noise = free + 3.0 * (known - free)
        start = (x - (1 - kept[now]).sqrt() * noise) / kept[now].sqrt()
        state["x"] = kept[then].sqrt() * start.clamp(-1, 1) + (1 - kept[then]).sqrt() * noise

    def step_of(step):
        if step == 0 or "whole" in ways:
            state["x"] = torch.randn(4, 3, 64, 64)
            state["kinds"] = torch.randint(0, 10, (4,))
        for i in range(8 if "whole" in ways else 1):
            now = 999 - 20 * (i if "whole" in ways else step)
            denoise(now, now - 20)
    return [model], step_of


class NormedCell(torch.jit.ScriptModule):
    """A cell of an LSTM with norms, which PyTorch compiles."""

    def __init__(self, inputs, size):
        super().__init__()
        self.wx = nn.Parameter(torch.randn(4 * size, inputs) * 0.05)
        self.wh = nn.Parameter(torch.randn(4 * size, size) * 0.05)
        self.norm_x, self.norm_h = nn.LayerNorm(4 * size), nn.LayerNorm(4 * size)
        self.norm_c = nn.LayerNorm(size)

    @torch.jit.script_method
    def forward(self, x, h, c):
        gates = self.norm_x(torch.mm(x, self.wx.t())) + self.norm_h(torch.mm(h, self.wh.t()))
        i, f, g, o = gates.chunk(4, 1)
        c = self.norm_c(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))
        return torch.sigmoid(o) * torch.tanh(c), c


def normed_cells(ways):
    """Two layers of such cells over a sentence; the state goes on to the next one."""
    embedding, head = nn.Embedding(10000, 256), nn.Linear(512, 10000)
    cells = nn.ModuleList([NormedCell(256, 512), NormedCell(512, 512)])
    state = [(torch.zeros(16, 512), torch.zeros(16, 512)) for _ in cells]

    def step_of(step):
        x, told = embedding(torch.randint(0, 10000, (16, 24))), []
        for t in range(24):
            y = x[:, t]
            for i, cell in enumerate(cells):
                state[i] = cell(y, *state[i])
                y = state[i][0]
            told.append(head(y))
        return torch.stack(told, 1).log_softmax(-1)
    return [embedding, head, cells], step_of


def projections(ways):
    """Sentences of different lengths, packed, through an LSTM with projections, both ways."""
    model = nn.ModuleDict({"words": nn.Embedding(15000, 200), "out": nn.Linear(512, 30),
                           "body": nn.LSTM(200, 768, 2, batch_first=True, bidirectional=True,
                                           proj_size=256)})

    def step_of(step):
        lengths = torch.randint(6, 40 + 4 * step, (12,))
        tokens = rnn.pad_sequence([torch.randint(0, 15000, (int(n),)) for n in lengths],
                                  batch_first=True)
        packed = rnn.pack_padded_sequence(model["words"](tokens), lengths, batch_first=True,
                                          enforce_sorted=False)
        x = rnn.pad_packed_sequence(model["body"](packed)[0], batch_first=True)[0]
        return model["out"](x).argmax(-1)
    return [model], step_of


def clicks(ways):
    """Who will buy what: eight tables of which a step reads few rows, and two small networks."""
    tables = nn.ModuleList(nn.EmbeddingBag(rows, 64, mode="sum", sparse=True)
                           for rows in (200000, 100000, 60000, 30000, 9000, 4000, 1500, 600))
    bottom = nn.Sequential(nn.Linear(13, 512), nn.ReLU(), nn.Linear(512, 64), nn.ReLU())
    top = nn.Sequential(nn.Linear(64 + 36, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(),
                        nn.Linear(512, 1))
    pairs = torch.triu_indices(9, 9, 1)

    def step_of(step):
        batch = 128 + 64 * (step % 2)
        x = [bottom(torch.rand(batch, 13))]
        for table in tables:
            some = torch.randint(0, table.num_embeddings, (batch, 3))
            x.append(table(some))
        x = torch.stack(x, 1)
        both = (x @ x.transpose(1, 2))[:, pairs[0], pairs[1]]
        return top(torch.cat([x[:, 0], both], 1)).sigmoid()
    return [tables, bottom, top], step_of


def seeing():
    layers, inputs = [], 3
    for width, stride in ((48, 2), (96, 2), (192, 2), (384, 2), (768, 1)):
        layers += [nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width),
                   nn.Hardswish(), nn.Conv2d(width, width, 3, 1, 1, groups=width),
                   nn.Conv2d(width, width, 1), nn.Hardswish()]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(768, 1000))


def reading():
    layer = nn.TransformerEncoderLayer(320, 5, 1280, activation="gelu", norm_first=True,
                                       batch_first=True)
    return nn.Sequential(nn.Embedding(9000, 320), nn.TransformerEncoder(layer, 5),
                         nn.Linear(320, 9000))


def pair(_):
    """Two threads that live on, each with a model of its own; a step asks both and waits."""
    models = [seeing().eval(), reading().eval()]
    asked, told = [queue.Queue(), queue.Queue()], queue.Queue()

    def work(index):
        while True:
            x = asked[index].get()
            with torch.inference_mode():
                told.put(models[index](x).argmax(-1).shape)

    for index in range(2):
        threading.Thread(target=work, args=(index,), daemon=True).start()

    def step_of(step):
        asked[0].put(torch.rand(4 + step, 3, 112, 112))
        asked[1].put(torch.randint(0, 9000, (3, 64 + 16 * step)))
        return told.get(), told.get()
    return models, step_of


class Pictures(Dataset):
    """Bytes in one array, which workers have from their parent."""

    def __init__(self, count):
        self.bytes = numpy.random.randint(0, 256, (count, 72, 72, 3), dtype=numpy.uint8)

    def __len__(self):
        return len(self.bytes)

    def __getitem__(self, index):
        y, x = numpy.random.randint(0, 8, 2)
        part = self.bytes[index, y:y + 64, x:x + 64].astype(numpy.float32)
        return torch.from_numpy(part).permute(2, 0, 1).div(255).sub(0.45).div(0.22), index % 10


def fed(_):
    """Two workers that are forked from the program load, and cut out, what the model sees."""
    model = seeing()
    loader = DataLoader(Pictures(800), 16, shuffle=True, num_workers=2, prefetch_factor=2)
    state = {}

    def step_of(step):
        if "batches" not in state or step % 40 == 0:
            state["batches"] = iter(loader)
        x, labels = next(state["batches"])
        return (model(x).argmax(1) == labels).float().mean().item()
    return [model], step_of


def numpy_cells(_):
    """A gated recurrent network in NumPy alone, whose arrays come out of a file of savez()."""
    path, rng = f"classifier-{os.getpid()}.npz", numpy.random.default_rng(1)
    words, width, size = 8000, 192, 512
    numpy.savez(path, **{name: rng.normal(0, 0.05, shape).astype(numpy.float32)
                         for name, shape in (("words", (words, width)), ("x", (width, 3 * size)),
                                             ("h", (size, 3 * size)), ("bias", (3 * size,)),
                                             ("out", (size, words)))})
    with numpy.load(path) as file:
        held = {name: file[name] for name in file.files}
    os.unlink(path)

    def sigmoid(x):
        return 1 / (1 + numpy.exp(-x))

    def step_of(_):
        h = numpy.zeros((32, size), numpy.float32)
        for _ in range(20):
            x = held["words"][rng.integers(0, words, 32)] @ held["x"] + held["bias"]
            g = h @ held["h"]
            r = sigmoid(x[:, :size] + g[:, :size])
            z = sigmoid(x[:, size:2 * size] + g[:, size:2 * size])
            n = numpy.tanh(x[:, 2 * size:] + r * g[:, 2 * size:])
            h = (1 - z) * n + z * h
        return (h @ held["out"]).argmax(1)
    return [Holder(torch.from_numpy(array) for array in held.values())], step_of


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3, self.relu = nn.BatchNorm2d(4 * width), nn.ReLU(inplace=True)
        self.short = nn.Identity()
        if stride != 1 or inputs != 4 * width:
            self.short = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False),
                                       nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + self.short(x))


def wide_residual(depths=(3, 4, 6, 3)):
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
              nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for i, depth in enumerate(depths):
        for j in range(depth):
            layers.append(Bottleneck(inputs, 64 << i, 2 if i and j == 0 else 1))
            inputs = 256 << i
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(2048, 1000))


def fuse(module):
    """Convolutions with the norms behind them in one, as what serves models does it."""
    for part in module.modules():
        if isinstance(part, Bottleneck):
            for index in "123":
                conv, norm = getattr(part, "conv" + index), getattr(part, "bn" + index)
                setattr(part, "conv" + index, nn.utils.fusion.fuse_conv_bn_eval(conv, norm))
                setattr(part, "bn" + index, nn.Identity())
    return module


def street(ways):
    """A network of fifty layers and pictures of 224: eight of them, then one at a time. `traced`,
    `scripted`, `fused`, `half` of the precision, `channels-last`."""
    model, kind = wide_residual().eval(), torch.bfloat16 if "half" in ways else torch.float32
    with torch.no_grad():
        model = fuse(model) if "fused" in ways else model
    model = model.to(kind)
    layout = torch.channels_last if "channels-last" in ways else torch.contiguous_format
    model = model.to(memory_format=layout)
    call = model
    with torch.no_grad():
        if "traced" in ways:
            call = torch.jit.trace(model, torch.rand(1, 3, 224, 224, dtype=kind))
        if "scripted" in ways:
            call = torch.jit.script(model)

    def step_of(step):
        x = torch.rand(8 if step < 1 else 1, 3, 224, 224)
        return call(x.to(dtype=kind, memory_format=layout)).softmax(1)
    return [model], step_of


def committee(ways):
    """Five perceptrons of one form that vote; with `stacked` as one set of larger matrices."""
    members = [nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(),
                             nn.Linear(1024, 100)) for _ in range(5)]
    if "stacked" not in ways:
        def vote(_):
            x = torch.rand(64, 784)
            return torch.stack([member(x).softmax(1) for member in members]).mean(0)
        return members, vote
    with torch.no_grad():
        weights = [torch.stack([m[i].weight.t() for m in members]) for i in (0, 2, 4)]
        biases = [torch.stack([m[i].bias for m in members])[:, None] for i in (0, 2, 4)]
    members.clear()

    def step_of(_):
        x = torch.rand(64, 784).expand(5, -1, -1)
        for i, (weight, bias) in enumerate(zip(weights, biases)):
            x = torch.baddbmm(bias, x, weight)
            x = x.relu() if i < 2 else x
        return x.softmax(-1).mean(0)
    return [Holder(weights + biases)], step_of


class Experts(nn.Module):
    """One of eight for each word, by its name: some are never asked."""

    def __init__(self, width):
        super().__init__()
        self.router = nn.Linear(width, 8)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(),
                                                   nn.Linear(3 * width, width))
                                     for _ in range(8))

    def forward(self, x):
        flat, out = x.reshape(-1, x.shape[-1]), torch.zeros(x.shape[0] * x.shape[1], x.shape[2])
        share, chosen = self.router(flat).softmax(-1).max(-1)
        for index in chosen.unique().tolist():
            rows = (chosen == index).nonzero()[:, 0]
            out.index_add_(0, rows, share[rows, None] * self.experts[index](flat[rows]))
        return x + out.view(x.shape)


def experts(_):
    """Four layers of attention and of experts; few words, so that many experts rest."""
    model = nn.ModuleDict({"words": nn.Embedding(9000, 256), "out": nn.Linear(256, 9000)})
    model["attention"] = nn.ModuleList(nn.MultiheadAttention(256, 4, batch_first=True)
                                       for _ in range(4))
    model["experts"] = nn.ModuleList(Experts(256) for _ in range(4))
    model["norms"] = nn.ModuleList(nn.LayerNorm(256) for _ in range(8))

    def step_of(step):
        x = model["words"](torch.randint(0, 9000, (1, 12 + step)))
        for i in range(4):
            y = model["norms"][2 * i](x)
            x = x + model["attention"][i](y, y, y, need_weights=False)[0]
            x = model["experts"][i](model["norms"][2 * i + 1](x))
        return model["out"](x)
    return [model], step_of


class Regards(nn.Module):
    """Attention along the edges of a graph."""

    def __init__(self, inputs, size, heads):
        super().__init__()
        self.form = nn.Linear(inputs, heads * size, bias=False)
        self.giver, self.taker = [nn.Parameter(torch.randn(heads, size) * 0.1) for _ in range(2)]
        self.heads, self.size = heads, size

    def forward(self, x, edges):
        y = self.form(x).view(-1, self.heads, self.size)
        a, b = (y * self.giver).sum(-1), (y * self.taker).sum(-1)
        scores = functional.leaky_relu(a[edges[0]] + b[edges[1]], 0.2).exp()
        total = torch.zeros_like(a).index_add_(0, edges[1], scores)
        share = scores / total[edges[1]].clamp_min(1e-9)
        out = torch.zeros_like(y).index_add_(0, edges[1], y[edges[0]] * share[..., None])
        return functional.elu(out.flatten(1))


def citations(_):
    """Papers that cite each other, all of which each step reads."""
    nodes = 3000
    features, edges = (torch.rand(nodes, 1433) < 0.01).float(), torch.randint(0, nodes, (2, 9000))
    model = nn.ModuleList([Regards(1433, 64, 8), Regards(512, 64, 8), Regards(512, 7, 1)])

    def step_of(_):
        x = features
        for layer in model:
            x = layer(x, edges)
        return x.argmax(1)
    return [model], step_of


PROGRAMS = {
    "upscaler": upscaler, "beams": beams, "chat": chat, "stylist": stylist, "schedule": schedule,
    "normed-cells": normed_cells, "projections": projections, "clicks": clicks, "pair": pair,
    "fed": fed, "numpy-cells": numpy_cells, "street": street, "committee": committee,
    "experts": experts, "citations": citations,
}
