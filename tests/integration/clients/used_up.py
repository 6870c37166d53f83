#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that go to their limit of data with threads: NULL is their answer, and not an end.

Where blocks may move, jemalloc's own tables are larger, and so is what a thread's start needs.

usage: used_up.py BERTH PROGRAM [ROUNDS [SEED...]]

Fewer rounds and seeds are for emulated processors.
"""
import os
import resource
import subprocess
import sys
import tempfile

berth, program = map(os.path.abspath, sys.argv[1:3])
rounds = sys.argv[3] if len(sys.argv) > 3 else "10000"
POLICIES = ("", "rule large { side = host  min-size = 64K  movable = yes  place = { dram } }\n")
LIMITS_MB = (44, 52, 60, 90)
SEEDS = [int(seed) for seed in sys.argv[4:]] or range(1, 5)


def run(limit_mb, command):
    def limit():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (limit_mb * 1000 * 1024,) * 2)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False,
                          preexec_fn=limit)
    return done.returncode, done.stdout, done.stderr


wrong = 0
with tempfile.TemporaryDirectory() as scratch:
    for number, policy in enumerate(POLICIES):
        path = os.path.join(scratch, f"policy{number}")
        with open(path, "w", encoding="utf-8") as f:
            f.write(policy)
        for limit_mb in LIMITS_MB:
            for seed in SEEDS:
                command = [program, str(seed), str(3 * seed), str(16 << 20), rounds]
                native = run(limit_mb, command)
                under = run(limit_mb, [berth, "run", "--policy", path, "--", *command])
                if native[:2] != under[:2]:
                    wrong += 1
                    print("FAILED:", limit_mb, "MB, policy", number, command, under, native)
sys.exit(1 if wrong else 0)
