#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program in valgrind, with the call path of every block read: valgrind finds no fault with it.

usage: valgrind.py LIBRARY [LINES]

LINES is what the program has to sort, by default 3000: less where processors are emulated.
Exits 77 where valgrind is not installed, or cannot run the program alone.
"""

import os
import shutil
import subprocess
import sys


LINES = b"one\ntwo\nthree\n" * (int(sys.argv[2]) // 3 if len(sys.argv) > 2 else 1000)
SORTED = b"".join(sorted(LINES.splitlines(keepends=True), reverse=True))


def run(environment):
    """The program's end: valgrind's status for an error is 9."""
    command = ["valgrind", "-q", "--error-exitcode=9", "sort", "--parallel=1", "-r"]
    done = subprocess.run(command, input=LINES, capture_output=True,
                          env={**os.environ, "LC_ALL": "C", **environment}, timeout=240, check=False)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def main():
    if not shutil.which("valgrind"):
        print("valgrind is not installed")
        sys.exit(77)
    under = run({"LD_PRELOAD": sys.argv[1], "BERTH_CONTROL": "never",
                 "BERTH_OPTIONS": "sites=always,record-threshold=1"})
    if under == (0, SORTED, ""):
        return
    # Whether that is as it should be, or valgrind's own doing, the same without Berth tells.
    native = run({})
    if native[0] != 0:
        print("valgrind does not run the program alone:", native[2])
        sys.exit(77)
    assert under == native, (under[0], under[2])


main()
