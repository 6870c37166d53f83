#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program that has jansson allocate by functions of its own is asked how it stands: Berth, which
answers by jansson, calls none of them.

usage: own_json.py BERTH PROGRAM
"""
import json
import os
import subprocess
import sys

berth, program = map(os.path.abspath, sys.argv[1:3])
with subprocess.Popen([berth, "run", "-o", "control=always", "--", program], text=True,
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    pid = process.stdout.readline().strip()
    for _ in range(3):
        done = subprocess.run([berth, "stat", "--json", pid], capture_output=True, text=True,
                              timeout=100, check=False)
        if done.returncode != 0 or not json.loads(done.stdout):
            sys.exit(f"berth stat: {done}")
    said, _ = process.communicate("\n", timeout=100)
if process.returncode != 0 or said != "0 calls by others, its own right\n":
    sys.exit(f"status {process.returncode}: {said}")
