#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How soon berth-infer's weights are there: read from files, and found in persistent memory.

usage: infer_persist.py BERTH BERTH-INFER [--place DIRECTORY | --place /dev/daxN.M]
                        [--megabytes N] [--rounds N]

A model with random weights is written to a temporary folder. Starts without --persist, and starts
that find the weights, take turns; files are in the page cache for both. The first start, which
reads and keeps them, is told by itself. Every run must answer the same.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import infer_decode


def start(options, policy, folder, persist):
    """Seconds until the weights were there, where they came from, and the answer."""
    command = [options.berth, "run", "--policy", policy, "--", options.infer, "--model", folder,
               "--prompt-ids", "1,2,3", "--ids", "--max-tokens", "1", "--stats"]
    done = subprocess.run(command + ["--persist"] * persist, capture_output=True, text=True)
    if done.returncode != 0 or "--persist" in done.stderr:
        sys.exit(done.stderr)
    told = dict(line.split(": ", 1) for line in done.stderr.splitlines() if ": " in line)
    seconds, where = told["weights"].split(" s, ")
    return float(seconds), where, done.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("berth")
    parser.add_argument("infer")
    parser.add_argument("--place", default="")
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BERTH_TIER_DIR")) as folder:
        root = pathlib.Path(folder)
        model = root / "model"
        model.mkdir()
        infer_decode.model_write(model, options.megabytes)
        where = f"kind = dax\n path = {options.place}" if options.place.startswith("/dev/dax") \
            else f'kind = file\n path = "{options.place or folder}"'
        policy = root / "policy"
        policy.write_text(f"tier keep {{\n {where}\n name = benchmark\n}}\n")
        first, how, answer = start(options, policy, model, True)
        if how != "read from files, and kept":
            sys.exit(f"the first start: {how}")
        read, found = [], []
        for _ in range(options.rounds):
            for persist, seconds in ((False, read), (True, found)):
                took, how, said = start(options, policy, model, persist)
                if said != answer or persist and how != "found in persistent memory":
                    sys.exit(f"{how}: {said!r} instead of {answer!r}")
                seconds.append(took)
    read, found = statistics.median(read), statistics.median(found)
    print(f"{options.megabytes} MB of weights, medians of {options.rounds} turns:")
    print(f"read from files            {read:9.4f} s")
    print(f"read from files, and kept  {first:9.4f} s  (once)  {first / read:9.2f}")
    print(f"found                      {found:9.4f} s          {found / read:9.4f}")


if __name__ == "__main__":
    main()
