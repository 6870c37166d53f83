#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that a sanitizer is in run under Berth as without it.

One that is a shared library bears no other malloc before it: the program must run without Berth's,
which is said in one line, whether it is started by berth, by a shell that runs under it, or out of
memory.

usage: sanitized.py BERTH PROGRAM...
"""
import os
import re
import subprocess
import sys
import tempfile

berth = os.path.abspath(sys.argv[1])
POLICY = """
tier far { kind = file  path = "@DIR@" }
rule all { side = host  place = { far, dram } }
"""


# Starts a program whose file has no name.
NAMELESS = """
import os, sys
program = os.memfd_create("program")
with open(sys.argv[1], "rb") as f:
    os.write(program, f.read())
os.execve(program, sys.argv[1:], os.environ)
"""


# Where it may be taken away; the leak checker, for one, fails without it.
WITHOUT_PROC = ["unshare", "-m", "sh", "-c", 'umount -l /proc && exec "$0" "$@"']


def run(command):
    # Leaks are looked for by tracing, which not every machine allows.
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0", LSAN_OPTIONS="detect_leaks=0")
    env.pop("LD_LIBRARY_PATH", None)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout, done.stderr


def check(program, policy):
    """How many of the ways to start the program it does not run in as without Berth."""
    needed = re.findall(r"NEEDED.*\[(.*)\]", subprocess.run(
        ["readelf", "-d", program], capture_output=True, text=True, check=True).stdout)
    shared = [name for name in needed if re.match(r"lib([atl]san\.|clang_rt\.)", name)]
    under = [berth, "run", "--policy", policy, "-o", "host=on", "--"]
    arguments = [program, "", "one argument", "x"]
    native = run(arguments)
    if native[0] or native[2]:
        print("not run, because it fails without Berth too:", program, native)
        return 0
    wrong = 0
    for how, command in (("directly", under + arguments),
                         ("by a shell", under + ["/bin/sh", "-c", '"$0" "$@"; exit $?'] + arguments),
                         ("without a file", under + [sys.executable, "-c", NAMELESS] + arguments),
                         ("by the loader", ["env", "BERTH_DEBUG=none"] + under +
                          ["/lib64/ld-linux-x86-64.so.2"] + arguments)):
        code, output, said = run(command)
        lines = len(shared) if how != "by the loader" else 0
        if (code, output) != native[:2] or said.count("\n") != lines or \
                any(name not in said for name in shared[:lines]):
            print("FAILED", how, program, (code, output, said), "natively", native)
            wrong += 1
    native = run(WITHOUT_PROC + arguments)
    if native[0] == 0:
        code, output, said = run(under + WITHOUT_PROC + arguments)
        if (code, output) != native[:2]:
            print("FAILED without /proc", program, (code, output, said), "natively", native)
            wrong += 1
    else:
        print("not run without /proc, because it fails without Berth too:", native[2][-200:])
    print(program, "with", shared or "no shared sanitizer", "wrong:", wrong)
    return wrong


with tempfile.TemporaryDirectory() as scratch:
    path = os.path.join(scratch, "policy")
    with open(path, "w", encoding="utf-8") as f:
        f.write(POLICY.replace("@DIR@", scratch))
    sys.exit(1 if sum(check(os.path.abspath(p), path) for p in sys.argv[2:]) else 0)
