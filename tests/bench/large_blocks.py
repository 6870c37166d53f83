#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Blocks beyond the record threshold (64 KiB): Berth against jemalloc and the C library.

usage: large_blocks.py BERTH LIBBERTH_MALLOC LARGE_BLOCKS [ROUNDS [PATTERN...]]

For each pattern of large_blocks.c, on one thread and on two: CPU time (user and system), minor page
faults, the peak of resident memory, what is resident after everything was freed, and what is a
second later, in which the program went on with small blocks; medians of interleaved turns, and
their ratios to LD_PRELOAD=libjemalloc.so.2. Where a Python with PyTorch is found, the step of a
small Transformer too. Goals with all-in-dram.policy: CPU time within 1.05 of jemalloc, 1.10 with
call sites (pytorch.policy); peak within 1.05 and 4 MiB.

File tiers lie in /dev/shm: what they cost is the kernel's shared mappings, not a disk.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import interleave as il

POLICIES = pathlib.Path(__file__).resolve().parents[2] / "tools/policies"
CLIENTS = pathlib.Path(__file__).resolve().parents[1] / "integration/clients"
ROUNDS_INSIDE = {"pairs": 16, "churn": 8, "steps": 8, "huge": 8, "doubling": 6, "eighths": 3,
                 "zeroed": 8, "phases": 1, "same": 16, "mixed": 6}
COLUMNS = ("CPU ms", "faults", "peak KiB", "left KiB", "later KiB")

STEP = """
import resource, sys, time
sys.path.insert(0, {clients!r})
import torch, torch_model
torch.manual_seed(7)
torch.set_num_threads(1)
model, batch = torch_model.transformer()
model.eval()
with torch.no_grad():
    for step in range(3):
        model(batch(step)[:2])
    before = resource.getrusage(resource.RUSAGE_SELF)
    for step in range(20):
        model(batch(step)[:2])
    after = resource.getrusage(resource.RUSAGE_SELF)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3,
      after.ru_minflt - before.ru_minflt, status["VmHWM"].split()[0], status["VmRSS"].split()[0])
"""


def run(command, environment):
    """One process: what it tells of itself, in the order of COLUMNS."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"{command} ended with {done.returncode}")
    return tuple(map(float, done.stdout.split()))


def compiled(berth, name, folder):
    table = f"{folder}/{name}.table"
    subprocess.run([berth, "policy", "compile", POLICIES / f"{name}.policy", "-o", table],
                   check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "BERTH_TIER_DIR": "/dev/shm"})
    return table


def environments(berth, library, folder):
    jemalloc = il.need(il.JEMALLOC, "jemalloc")
    found = {"C library": il.preload(), "libjemalloc.so.2": il.preload(jemalloc),
             "Berth, no policy": il.preload(library)}
    for name in ("all-in-dram", "pytorch", "weights-on-file", "everything-on-file"):
        found[f"Berth, {name}"] = il.preload(library,
                                             BERTH_POLICY=compiled(berth, name, folder))
    return found


def compare(title, command, variants, rounds):
    samples = {name: [] for name in variants}
    for turn in range(rounds):
        # Each goes first as often as the others.
        names = list(variants)
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            samples[name].append(run(command, variants[name]))
    medians = {name: [statistics.median(column) for column in zip(*rows)]
               for name, rows in samples.items()}
    base = medians["libjemalloc.so.2"]
    print(title)
    print(" " * 28 + "".join(f"{column:>12} {'ratio':>6}" for column in COLUMNS[:len(base)]))
    for name, row in medians.items():
        print(f"  {name:26}" + "".join(f"{value:12.5g} {value / one if one else 1:6.2f}"
                                       for value, one in zip(row, base)), flush=True)


def torch_python():
    """A Python that has PyTorch, or None."""
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import torch"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0:
            return python
    return None


def main(berth, library, program, rounds="7", *patterns):
    with tempfile.TemporaryDirectory() as folder:
        variants = environments(berth, library, folder)
        file_tiers = [name for name in variants if name.endswith("-on-file")]
        in_memory = {name: e for name, e in variants.items() if name not in file_tiers[:1]}
        for name in patterns or ROUNDS_INSIDE:
            for threads in () if name == "transformer" else (1, 2):
                compare(f"{name}, {threads} thread(s)",
                        [program, name, str(ROUNDS_INSIDE[name]), str(threads)], in_memory,
                        int(rounds))
        if patterns and "transformer" not in patterns:
            return
        python = torch_python()
        if python:
            compare("20 steps of a Transformer (PyTorch)",
                    [python, "-c", STEP.format(clients=str(CLIENTS))], variants, int(rounds))
        else:
            print("the Transformer is not measured: no Python here has PyTorch")


if __name__ == "__main__":
    main(*sys.argv[1:])
