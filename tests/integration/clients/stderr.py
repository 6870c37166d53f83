#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program whose stderr takes no line ends as it does without Berth, which has one to say.

usage: stderr.py BERTH LIBBERTH_MALLOC

Berth says that a tier cannot be had. Stderr is a pipe that nobody reads, one that is full, or a file
that may not grow.
"""

import os
import subprocess
import sys
import tempfile

POLICY = """
tier gone { kind = file  path = "/nonexistent" }
rule all { side = host  min-size = 64K  place = { gone, dram } }
"""
# A program that hangs has failed.
BOUND_SECONDS = 60

failures = []


def expect(what, is_so):
    print(("ok" if is_so else "NOT SO") + ": " + what, flush=True)
    if not is_so:
        failures.append(what)


def run(script, environment, stderr):
    try:
        return subprocess.run(["bash", "-c", script], env=environment, stderr=stderr,
                              stdin=subprocess.DEVNULL, timeout=BOUND_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        return "hangs"


def without_reader(environment):
    reader, writer = os.pipe()
    os.close(reader)
    status = run("exit 7", environment, writer)
    os.close(writer)
    expect(f"a pipe without a reader: {status}", status == 7)


def full(environment):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    status = run("exit 7", environment, writer)
    os.close(writer)
    os.close(reader)
    expect(f"a full pipe: {status}", status == 7)


def limited(environment, folder):
    with open(folder + "/limited", "wb") as file:
        status = run("ulimit -f 0; LD_PRELOAD=$LIBRARY exec true",
                     {**environment, "LIBRARY": environment["LD_PRELOAD"], "LD_PRELOAD": ""}, file)
    expect(f"a file that may not grow: {status}", status == 0)


def said(environment):
    told = subprocess.run(["bash", "-c", "exit 7"], env=environment, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, timeout=BOUND_SECONDS, check=False)
    expect("there is something to say", told.returncode == 7 and b"berth[" in told.stderr)


def main(berth, library):
    library = os.path.abspath(library)
    with tempfile.TemporaryDirectory() as folder:
        policy = folder + "/gone.policy"
        with open(policy, "w", encoding="utf-8") as file:
            file.write(POLICY)
        subprocess.run([berth, "policy", "compile", policy, "-o", folder + "/gone.table"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        environment = {**os.environ, "LD_PRELOAD": library, "BERTH_CONTROL": "never",
                       "BERTH_POLICY": folder + "/gone.table"}
        said(environment)
        without_reader(environment)
        full(environment)
        limited(environment, folder)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
