#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How well the classifier knows device blocks, on the simulated driver: precision and recall in
bytes, by tag, of the programs of class_programs.c, which know the truth.

Usage: classifier_device.py DRIVER_DIR BERTH CLIENT
"""

import os
import subprocess
import sys
import tempfile

TAGS = ["untagged", "weight", "activation", "kv", "workspace"]


def run(driver_dir, berth, client, *arguments):
    """Bytes by what they are and what they are taken for."""
    with tempfile.TemporaryDirectory() as directory:
        env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        env.update(LD_LIBRARY_PATH=driver_dir, XDG_RUNTIME_DIR=directory,
                   BERTH_OPTIONS="classifier=on", BERTH_CONTROL="always")
        with subprocess.Popen([berth, "run", "--", client, *arguments], env=env, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            if process.stdout.readline() != "ready\n":
                sys.exit(f"{client} {' '.join(arguments)} has failed")
            # Who asks makes the classifier judge.
            subprocess.run([berth, "stat", str(process.pid)], env=env, check=True,
                           stdout=subprocess.DEVNULL)
            lines = process.communicate("\n")[0].split("\n")
    if process.returncode != 0:
        sys.exit(f"{client} {' '.join(arguments)}: status {process.returncode}")
    return {tuple(map(int, line.split()[:2])): int(line.split()[2]) for line in lines if line}


def ratio(part, whole):
    return "-" if whole == 0 else f"{part / whole:.4f}"


def main():
    print("simulated driver")
    print(f"{'program':16} {'tag':>12} {'MB':>8} {'precision':>9} {'recall':>9}")
    for arguments in (("server",), ("server", "declare"), ("vision",), ("vision", "declare")):
        found = run(*sys.argv[1:4], *arguments)
        for tag, name in enumerate(TAGS[1:], 1):
            there = sum(n for (truth, _), n in found.items() if truth == tag)
            claimed = sum(n for (_, taken), n in found.items() if taken == tag)
            good = found.get((tag, tag), 0)
            print(f"{' '.join(arguments):16} {name:>12} {there / 1e6:8.1f} "
                  f"{ratio(good, claimed):>9} {ratio(good, there):>9}")


if __name__ == "__main__":
    main()
