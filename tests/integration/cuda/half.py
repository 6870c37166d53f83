#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Processes of which Berth sees only a part: served as by the driver alone, and said.

Each way runs natively and under Berth: output and status must be the same, at most one line may be
on stderr, and `berth doctor PID` must tell what is missed. `berth doctor -- PROGRAM` tells it
beforehand where nothing could be seen.
Usage: half.py DRIVER_DIR LIBBERTH BERTH CLIENT LIBRARY_DIR FRONT [STATIC_PROGRAM]
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

# way: (extra environment, on stderr, rows of doctor that must be there, or with a ! not, its status)
WAYS = {
    "deepbind": ({}, "half-hooked", ["unseen library", "calls the driver's own cuMem",
                                     "half-hooked", "unseen block"], 1),
    "entry": ({"BERTH_FAKE_PRIVATE": "1"}, "half-hooked",
              ["unknown entry", "an entry to cuMemFree", "half-hooked"], 1),
    "second-driver": ({}, "second copy of the driver",
                      ["2 copies are loaded", "another driver"], 1),
    "front": ({}, "", ["other wrapper", "comes before Berth's", "1 that allocate"], 0),
    "whole": ({}, "", ["!unseen", "!half-hooked"], 0),
}


def run(command, env, doctor):
    """(stdout, stderr, status) of the program, and what doctor said of it meanwhile."""
    program = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, told = [], None
    for line in program.stdout:
        out.append(line)
        if line == "= ready\n":
            told = doctor(program.pid)
            program.stdin.write("go on\n")
            program.stdin.flush()
    return ("".join(out), program.stderr.read(), program.wait(timeout=60)), told


def check_way(way, setup, folder):
    extra, said, rows, status = WAYS[way]
    env = dict(setup["env"], XDG_RUNTIME_DIR=folder, **extra)
    libraries = ([setup["front"]] if way == "front" else [])
    command = [setup["client"], way]

    def ask(pid):
        return subprocess.run([setup["berth"], "doctor", str(pid)], env=setup["env"] |
                              {"XDG_RUNTIME_DIR": folder}, capture_output=True, text=True,
                              timeout=60)

    def doctor(pid):
        # The socket opens on a thread of its own, which may come later than the program's answer.
        told, end = ask(pid), time.monotonic() + 20
        while (re.search(r"^ok +libberth\.so", told.stdout, re.M) and time.monotonic() < end
               and re.search(r"^- +socket +none", told.stdout, re.M)):
            told = ask(pid)
        return told

    native, plain = run(command, dict(env, LD_PRELOAD=" ".join(libraries)), doctor)
    berth, told = run(command, dict(env, LD_PRELOAD=" ".join(libraries + [setup["libberth"]])),
                      doctor)
    wrong = []
    if native[2] != 0 or native[0] != berth[0] or native[2] != berth[2]:
        wrong.append(f"differs: {native}\n{berth}")
    if plain is None or plain.returncode != 1 or "not loaded" not in plain.stdout:
        wrong.append(f"without Berth doctor said {plain}")
    if told is None or told.returncode != status:
        wrong.append(f"doctor: {told}")
    elif not all((row.lstrip("!") in told.stdout) != row.startswith("!") for row in rows):
        wrong.append(f"doctor did not say {rows}:\n{told.stdout}")
    if berth[1].count("\n") > 1 or said not in berth[1] or (berth[1] and not said):
        wrong.append(f"on stderr: {berth[1]}")
    print(f"{way}:\n{told.stdout if told else ''}", end="")
    return wrong


def check_program(setup, program, status, text):
    done = subprocess.run([setup["berth"], "doctor", "--", program], env=setup["env"], text=True,
                          capture_output=True, timeout=60)
    if done.returncode != status or text not in done.stdout:
        return [f"doctor -- {program}: {done}"]
    return []


def main():
    driver_dir, libberth, berth, client, library_dir, front, *static = sys.argv[1:]
    env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
    env["LD_LIBRARY_PATH"] = driver_dir + ":" + library_dir
    setup = {"env": env, "libberth": libberth, "berth": berth, "client": client, "front": front}
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            wrong += check_way(way, setup, folder)
        wrong += check_program(setup, client, 0, "dynamically")
        wrong += check_program(setup, "no-such-program", 1, "not found")
        script = os.path.join(folder, "script")
        with open(script, "w") as out:
            out.write(f"#! {client} way\n")
        os.chmod(script, 0o755)
        wrong += check_program(setup, script, 0, "run by " + client)
        for program in static:
            wrong += check_program(setup, program, 1, "statically")
        if os.geteuid() == 0:
            other = shutil.copy(client, os.path.join(folder, "other"))
            os.chown(other, 65534, 65534)
            os.chmod(other, 0o4755)
            wrong += check_program(setup, other, 1, "set-user-ID")
    for text in wrong:
        print("FAIL", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
