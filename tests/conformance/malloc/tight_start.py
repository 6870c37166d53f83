#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program that may have little memory from its start on runs under Berth as without it.

jemalloc's start takes no refusal. So where there is no room for it the program runs without Berth's
malloc, which is said in one line: at every limit from the least at which the loader could map the
libraries, too. A script is among them, which its interpreter's kernel started by another name, and a
long environment.

usage: tight_start.py BERTH-MALLOC
"""
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile

MIB = 1 << 20
LIBRARY = os.path.abspath(sys.argv[1])
# What the library's own segments may take, and those that it needs.
LIBRARY_MIB = {resource.RLIMIT_DATA: 4, resource.RLIMIT_AS: 10}
HIGHEST_MIB = 80
SAID = re.compile(r"berth\[\d+\]: malloc: the process may not have the \d+ MiB that a heap begins with:"
                  r" it runs without Berth's malloc side\n")
SCRIPT = '#!/bin/sh\nread line < "$0"; echo "$line $1 ${#LONG}"\n'


def run(command, what, limit, preloaded, more=None):
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", **(more or {})}
    if preloaded:
        env["LD_PRELOAD"] = LIBRARY
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False,
                          preexec_fn=lambda: resource.setrlimit(what, (limit * MIB, limit * MIB)))
    return done.returncode, done.stdout, done.stderr


def least(command, what):
    """The MiB from which on the program runs natively."""
    for limit in range(1, HIGHEST_MIB):
        if run(command, what, limit, False)[0] == 0:
            return limit
    raise AssertionError(f"{command} does not run in {HIGHEST_MIB} MiB")


def check(command, what, name, more=None):
    """How many limits it does not run at as natively."""
    first = least(command, what) + LIBRARY_MIB[what]
    wrong, without, last = 0, 0, ""
    for limit in range(first, HIGHEST_MIB):
        native = run(command, what, limit, False, more)
        code, output, said = run(command, what, limit, True, more)
        if (code, output) != native[:2] or (said and not SAID.fullmatch(said)):
            print("FAILED", command, name, limit, "MiB:", (code, output[:200], said), "natively", native)
            wrong += 1
        without += bool(said)
        last = said
    # With much it has its heap; otherwise all of this would be in vain.
    if without == 0 or last:
        print("FAILED", command, name, "ran without Berth", without, "times, at last", repr(last))
        wrong += 1
    print(" ".join(command), f"from {first} MiB of {name}: {without} limits without Berth, {wrong} wrong")
    return wrong


def check_insisting(folder):
    """A script that starts itself anew until it has the library comes to its end."""
    script = os.path.join(folder, "insisting")
    with open(script, "w", encoding="ascii") as file:
        file.write(f'#!/bin/sh\ncase $LD_PRELOAD in *malloc*) ;; *) LD_PRELOAD={LIBRARY} exec "$0" ;; esac\n'
                   "echo has it\n")
    os.chmod(script, 0o755)
    said = run([script], resource.RLIMIT_AS, 30, True)
    if said[0] != 0 or said[1] != "has it\n":
        print("FAILED", script, said)
        return 1
    return 0


def check_unreadable(folder):
    """One that its user may run, and not read."""
    program = os.path.join(folder, "unreadable")
    shutil.copy(shutil.which("sort"), program)
    os.chmod(program, 0o711)
    os.chmod(folder, 0o711)
    user = ["setpriv", "--reuid", "65534", "--clear-groups"]
    if run([*user, program, "/dev/null"], resource.RLIMIT_AS, 30, False)[0] != 0:
        print("not run as another user, because it fails without Berth too")
        return 0
    preloaded = [*user, "env", f"LD_PRELOAD={LIBRARY}", program, "/dev/null"]
    said = run(preloaded, resource.RLIMIT_AS, 20, False)
    if said[0] != 0 or not SAID.fullmatch(said[2]):
        print("FAILED", preloaded, said)
        return 1
    return 0


def main():
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "script")
        with open(script, "w", encoding="ascii") as file:
            file.write(SCRIPT)
        os.chmod(script, 0o755)
        wrong += check_insisting(folder) + check_unreadable(folder)
        long = {"LONG": "x" * 100000}
        for what, name in ((resource.RLIMIT_DATA, "RLIMIT_DATA"), (resource.RLIMIT_AS, "RLIMIT_AS")):
            for command, more in ((["sort", script], None), ([script, "a word"], None),
                                  ([script, ""], long), (["perl", "-e", "print 1"], None)):
                wrong += check(command, what, name, more)
    return 1 if wrong else 0


sys.exit(main())
