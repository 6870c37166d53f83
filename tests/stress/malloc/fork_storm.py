#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Forks amid dlopen(), printing and malloc(), with every block on a file tier.

usage: fork_storm.py BERTH PROGRAM LIBRARY... [--forks N] [--seed N]
"""
import argparse
import os
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("berth")
parser.add_argument("program")
parser.add_argument("libraries", nargs="+")
parser.add_argument("--forks", default="60")
parser.add_argument("--seed", default="1")
args = parser.parse_intermixed_args()

place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
with tempfile.NamedTemporaryFile("w", suffix=".policy", encoding="utf-8") as policy:
    # The path in it has every block's call path taken, which walks over the loader's list.
    policy.write(f"""options {{
  site-depth = 40
}}
tier far {{
  kind = file
  path = "{place}"
}}
site deep {{
  path = "*!allocate_by > **"
  tag = weight
  min-size = 64K
}}
rule everything {{
  side = host
  place = {{ far, dram }}
}}
""")
    policy.flush()
    sys.exit(subprocess.run([args.berth, "run", "--policy", policy.name, "--", args.program,
                             args.forks, args.seed, *args.libraries], check=False).returncode)
