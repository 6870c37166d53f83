# SPDX-License-Identifier: Apache-2.0
"""What torch_pluggable.py and torch_preload.py have in common: runs of torch_models.py, compared."""
import json
import os
import subprocess
import sys

SKIPPED = 77
TIMEOUT_S = 240
MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_models.py")


def need_cuda():
    """Ends the test where this Python's PyTorch has no GPU."""
    found = subprocess.run([sys.executable, "-c",
                            "import torch; raise SystemExit(not torch.cuda.is_available())"],
                           capture_output=True, check=False)
    if found.returncode != 0:
        print("skipped: no PyTorch with a CUDA device here")
        raise SystemExit(SKIPPED)


def run(mode, environment, *arguments):
    """What the models say; None, and why on standard output, where they end otherwise."""
    try:
        done = subprocess.run([sys.executable, MODELS, mode, "cuda:0", *arguments], text=True,
                              capture_output=True, timeout=TIMEOUT_S, check=False,
                              env={**os.environ, **environment})
    except subprocess.TimeoutExpired:
        print(f"{mode} {environment}: ended after {TIMEOUT_S} seconds", flush=True)
        return None
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        print(f"{mode} {environment}: exit code {done.returncode}\n{done.stdout}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def compare(native, other, name):
    """Whether anything differs. Digests must be the same; memory and time are only said."""
    if not native or not other:
        print(f"DIFFERENT: {name}: it did not run to its end", flush=True)
        return True
    wrong = [f"{key}: native {value}, {name} {other.get(key)}" for key, value in native.items()
             if key.endswith(("train", "ask", "replay")) and other.get(key) != value]
    for part, seconds in native["seconds"].items():
        print(f"{part:16} {seconds:8.3f} s native, {other['seconds'][part]:8.3f} s {name}")
    for key in ("torch peak reserved", "torch peak allocated", "torch segments"):
        print(f"{key}: {native.get(key)} native, {other.get(key)} {name}")
    print(f"berth: {other['berth']}")
    for line in wrong:
        print(f"DIFFERENT: {line}", flush=True)
    return bool(wrong)
