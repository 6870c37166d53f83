#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Calls that fail, or end a program, once it has a second thread: as without Berth, which has two.
And a program whose root has no /proc, as while a sandbox is built: nothing is said of the socket
that it cannot have, unless that was asked for.

usage: alone.py BERTH PROGRAM
"""
import os
import subprocess
import sys
import tempfile

berth, program = map(os.path.abspath, sys.argv[1:3])
CHROOTED = """
import ctypes, os, sys, time
CLONE_NEWUSER = 0x10000000
if os.geteuid() != 0 and ctypes.CDLL(None).unshare(CLONE_NEWUSER) != 0:
    sys.exit(77)
os.chroot(sys.argv[1])
child = os.fork()
if child == 0:
    block = bytearray(1 << 20)
    end = time.monotonic() + 0.3  # for the thread to say what it must not; no answer rests on it
    while time.monotonic() < end:
        pass
    print(len(block), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
POLICY = """
tier far { kind = file  path = "@DIR@" }
rule all { side = host  min-size = 64K  place = { far, dram } }
"""


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout, done.stderr


with tempfile.TemporaryDirectory() as scratch:
    os.chmod(scratch, 0o755)
    path = os.path.join(scratch, "policy")
    with open(path, "w", encoding="utf-8") as f:
        f.write(POLICY.replace("@DIR@", scratch))
    wrong = 0
    for what in ("rights", "forked", "cloned", "copied", "beside", "user", "mounts", "count", "watch",
                 "limits"):
        native = run([program, what])
        under = run([berth, "run", "--policy", path, "--", program, "-t", what])
        same = native[:2] == under[:2] and under[2] == "3 threads\n"
        wrong += not same
        print(what, "as without Berth:" if same else "FAILED:", under, "" if same else native)
    bare = os.path.join(scratch, "bare")
    os.mkdir(bare)
    native = run([sys.executable, "-c", CHROOTED, bare])
    under = run([berth, "run", "--policy", path, "--", sys.executable, "-c", CHROOTED, bare])
    same = native[:2] == under[:2] and "socket" not in under[2]
    wrong += not same
    print("chroot", "as without Berth" if same else ("FAILED:", under, native))
    sys.exit(1 if wrong else 0)
