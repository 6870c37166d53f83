#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the churn under libberth-malloc.so: on a file tier with room, on one without, and mixed.

usage: run.py MODE SEED PROGRAM LIBRARY BERTH
"""
import os
import subprocess
import sys
import tempfile

MIN_SIZE = {"far": "0", "narrow": "0", "mixed": "16K"}
CAPACITY = {"far": "4G", "narrow": "8M", "mixed": "4G"}

mode, seed, program, library, berth = sys.argv[1:6]
place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
with tempfile.TemporaryDirectory() as scratch:
    source = os.path.join(scratch, "policy")
    with open(source, "w") as f:
        f.write(f"""tier far {{
  kind = file
  path = {place}
  capacity = {CAPACITY[mode]}
}}
rule everything {{
  side = host
  min-size = {MIN_SIZE[mode]}
  place = {{ far, dram }}
}}
""")
    table = os.path.join(scratch, "table")
    subprocess.run([berth, "policy", "compile", source, "-o", table], check=True)
    env = dict(os.environ, LD_PRELOAD=os.path.abspath(library), BERTH_POLICY=table,
               BERTH_CONTROL="never")
    sys.exit(subprocess.run([program, seed, "1000000"], env=env).returncode)
