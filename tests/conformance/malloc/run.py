#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the malloc checks in one mode.

native    without Berth: shows that the expectations are the C library's
plain     preloaded, nothing is looked at one by one
dram      preloaded, every block is recorded, in DRAM
file      preloaded, every block goes to a file tier on tmpfs
disk      preloaded, every block goes to a file tier in the directory for temporary files
mixed     preloaded, blocks from 4 KiB on go to a file tier, the others stay
tagged    preloaded, every block tagged weight goes to a file tier
capacity  preloaded, every block is meant for a file tier of 1 MiB, so most spill

usage: run.py MODE PROGRAM [LIBRARY [BERTH]]
"""
import os
import subprocess
import sys
import tempfile

MIN_SIZE = {"file": "0", "disk": "0", "mixed": "4K", "tagged": "0", "capacity": "0"}
CAPACITY = {"file": "8G", "disk": "8G", "mixed": "8G", "tagged": "8G", "capacity": "1M"}


def policy(mode, directory):
    tag = "tag = weight" if mode == "tagged" else ""
    return f"""tier far {{
  kind = file
  path = {tempfile.gettempdir() if mode == 'disk' else directory}
  capacity = {CAPACITY[mode]}
}}
rule everything {{
  side = host
  {tag}
  min-size = {MIN_SIZE[mode]}
  place = {{ far, dram }}
}}
"""


def far_directory():
    for place in ("/dev/shm", os.environ.get("TMPDIR", "/tmp")):
        if os.path.isdir(place) and os.access(place, os.W_OK):
            return place
    print("no directory for a file tier")
    sys.exit(77)


def environment(mode, library, berth, scratch):
    env = dict(os.environ)
    # meson names the folders of all libraries; which ones are found without is part of the checks.
    env.pop("LD_LIBRARY_PATH", None)
    if mode == "native":
        return env
    env["LD_PRELOAD"] = library
    env["BERTH_CONTROL"] = "never"
    if mode == "plain":
        env["BERTH_OPTIONS"] = "record-threshold=1G"
    elif mode == "dram":
        env["BERTH_OPTIONS"] = "record-threshold=0"
    else:
        if not berth:
            print("the policy compiler is not there")
            sys.exit(77)
        source = os.path.join(scratch, "policy")
        with open(source, "w") as f:
            f.write(policy(mode, far_directory()))
        table = os.path.join(scratch, "table")
        subprocess.run([berth, "policy", "compile", source, "-o", table], check=True)
        env["BERTH_POLICY"] = table
    return env


def main():
    mode, program = sys.argv[1], sys.argv[2]
    library = os.path.abspath(sys.argv[3]) if len(sys.argv) > 3 else None
    berth = sys.argv[4] if len(sys.argv) > 4 else None
    with tempfile.TemporaryDirectory() as scratch:
        env = environment(mode, library, berth, scratch)
        result = subprocess.run([program], env=env, stdout=subprocess.PIPE, text=True)
    print(result.stdout, end="")
    checks = [line for line in result.stdout.splitlines() if line.startswith(("ok ", "FAILED "))]
    failed = [line for line in checks if line.startswith("FAILED ")]
    print(f"{mode}: {len(checks)} checks, {len(failed)} failed")
    # A program that dies early must not pass for one that checked everything.
    return 1 if failed or result.returncode != 0 or len(checks) < 40 else 0


sys.exit(main())
