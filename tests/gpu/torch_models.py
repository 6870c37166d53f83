# SPDX-License-Identifier: Apache-2.0
"""A small ResNet and a Transformer encoder, trained and asked, under the allocator of one's choice.

usage: torch_models.py native|pluggable DEVICE [LIBBERTH]

Prints one JSON object: digests of losses, parameters and outputs, seconds per part, the peak of what
PyTorch's own allocator held (native only), and what Berth says of itself where it is preloaded or
plugged in. Everything random is seeded, and only algorithms are used that give the same bits each
time: two runs differ only where memory was wrong.
"""
import ctypes
import hashlib
import json
import os
import subprocess
import sys
import time

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from torch import nn

STEPS = 6
# Of CUDAPluggableAllocator: what it calls the setter, and the function that goes there.
OPTIONAL = {"set_init_fn": "berth_torch_init", "set_reset_fn": "berth_torch_reset",
            "set_memory_fraction_fn": "berth_torch_memory_fraction",
            "set_base_alloc_fn": "berth_torch_base_alloc",
            "set_record_stream_fn": "berth_torch_record_stream",
            "set_begin_allocate_to_pool": "berth_torch_begin_allocate_to_pool",
            "set_end_allocate_to_pool_fn": "berth_torch_end_allocate_to_pool",
            "set_release_pool": "berth_torch_release_pool"}


def plug_in(library):
    """Makes Berth the allocator, with those optional functions that this PyTorch knows."""
    allocator = torch.cuda.memory.CUDAPluggableAllocator(library, "berth_torch_alloc",
                                                         "berth_torch_free")
    functions = ctypes.CDLL(library)
    inner = getattr(allocator, "_allocator", None)
    for setter, function in OPTIONAL.items():
        if hasattr(inner, setter):
            getattr(inner, setter)(ctypes.cast(getattr(functions, function),
                                               ctypes.c_void_p).value)
    torch.cuda.memory.change_current_allocator(allocator)


class Residual(nn.Module):
    def __init__(self, width, stride=1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width * stride, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width * stride), nn.ReLU(),
            nn.Conv2d(width * stride, width * stride, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width * stride))
        self.short = (nn.Identity() if stride == 1 else
                      nn.Conv2d(width, width * stride, 1, stride, bias=False))

    def forward(self, x):
        return torch.relu(self.body(x) + self.short(x))


def small_resnet():
    return nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
                         Residual(32), Residual(32, 2), Residual(64), Residual(64, 2),
                         Residual(128), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


class Encoder(nn.Module):
    def __init__(self, width=256, layers=3, words=1000):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.layers(self.embed(x)).mean(1))


def digest(*tensors):
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def train(model, batches, device):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for x, y in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return digest(torch.stack(losses), *model.parameters())


def ask(model, x, device):
    """Answers, with the second half of the batch in a stream of its own."""
    model.eval()
    with torch.no_grad():
        whole = model(x.to(device))
        if device.type != "cuda":
            return digest(whole)
        side = torch.cuda.Stream()
        half = x[len(x) // 2:].to(device)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            part = model(half)
        half.record_stream(side)
        del half
        busy = model(x.to(device))
        torch.cuda.current_stream().wait_stream(side)
        part.record_stream(torch.cuda.current_stream())
    return digest(whole, part, busy)


def replay(model, x, device):
    """The same answers out of a captured graph, before and after other memory was used."""
    if device.type != "cuda":
        return None
    model.eval()
    still = x.to(device).clone()
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                model(still)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = model(still)
        graph.replay()
        first = out.clone()
        junk = [torch.full((1 << 20,), float(i), device=device) for i in range(16)]
        graph.replay()
        del junk
    return digest(first, out)


def berth_says(library):
    """The account of this process, by the control socket."""
    if not library and "libberth" not in os.environ.get("LD_PRELOAD", ""):
        return None
    tool = os.environ.get("BERTH_TOOL", "berth")
    told = subprocess.run([tool, "stat", "--json", str(os.getpid())], capture_output=True,
                          text=True, check=False, env={**os.environ, "LD_PRELOAD": ""})
    if told.returncode != 0:
        return told.stderr.strip()
    stat = json.loads(told.stdout)
    tier = next(tier for tier in stat["tiers"] if tier["name"] == "device")
    return {"reserved": tier["reserved"], "peak_held": sum(t["peak"] for t in tier["tags"]),
            "backend_allocs": tier["backend_allocs"], "order": stat.get("order")}


def main():
    mode, device = sys.argv[1], torch.device(sys.argv[2])
    library = sys.argv[3] if len(sys.argv) > 3 else None
    if mode == "pluggable":
        plug_in(library)
    torch.manual_seed(7)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    generator = torch.Generator().manual_seed(11)
    pictures = [(torch.randn(16, 3, 32, 32, generator=generator),
                 torch.randint(10, (16,), generator=generator)) for _ in range(STEPS)]
    texts = [(torch.randint(1000, (8, 64), generator=generator),
              torch.randint(10, (8,), generator=generator)) for _ in range(STEPS)]
    result = {"torch": torch.__version__, "seconds": {}}
    for name, make, batches in (("resnet", small_resnet, pictures), ("encoder", Encoder, texts)):
        model = make().to(device)
        for part, work in (("train", lambda: train(model, batches, device)),
                           ("ask", lambda: ask(model, batches[0][0], device)),
                           ("replay", lambda: replay(model, batches[0][0], device))):
            synchronize(device)
            start = time.perf_counter()
            result[f"{name} {part}"] = work()
            synchronize(device)
            result["seconds"][f"{name} {part}"] = round(time.perf_counter() - start, 4)
    if mode == "native" and device.type == "cuda":
        result["torch peak reserved"] = torch.cuda.max_memory_reserved()
        result["torch peak allocated"] = torch.cuda.max_memory_allocated()
        result["torch segments"] = len(torch.cuda.memory_snapshot())
    result["berth"] = berth_says(library)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
