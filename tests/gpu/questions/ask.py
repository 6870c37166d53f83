#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks the driver the questions, and shows where it answers otherwise than is written down.

What is written down is what the simulated driver answers; exit status 1 where the answers differ.
Usage: ask.py PROGRAM ANSWERS [QUESTION...]     a question: 7, question_07 or its whole name
"""
import difflib
import re
import subprocess
import sys

# For one question; a driver that waits for ever is an answer as well.
TIMEOUT_S = 60


def by_question(text):
    """{name: lines}"""
    found, name = {}, None
    for line in text.splitlines():
        if line.startswith("question_"):
            name = line
            found[name] = []
        elif name:
            found[name].append(line)
    return found


def full_name(names, wanted):
    number = re.sub(r"\D", "", wanted.split("_")[1] if "_" in wanted else wanted)
    for name in names:
        if name == wanted or name.startswith(f"question_{int(number or 0):02}_"):
            return name
    raise SystemExit(f"no question is named {wanted}")


def ask(program, name):
    """(what the question printed, what it said on standard error)"""
    try:
        done = subprocess.run([program, name], capture_output=True, text=True, timeout=TIMEOUT_S,
                              check=False)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace"), f"ended after {TIMEOUT_S} seconds"
    return done.stdout, done.stderr


def main():
    program, answers = sys.argv[1:3]
    with open(answers, encoding="utf-8") as file:
        written = by_question(file.read())
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True,
                           timeout=60).stdout.split()
    wanted = [full_name(names, text) for text in sys.argv[3:]] or names
    otherwise = 0
    for name in wanted:
        said, errors = ask(program, name)
        seen = by_question(said).get(name, [])
        lines = list(difflib.unified_diff(written.get(name, []), seen, lineterm="", n=0))[2:]
        otherwise += bool(lines or errors)
        print(f"{name}: {'OTHERWISE' if lines else 'as written'}")
        for line in lines or (seen if len(sys.argv) > 3 else []):
            print("   ", line)
        if errors:
            print("    standard error:", errors.strip())
        sys.stdout.flush()
    missing = sorted(set(written) ^ set(names))
    if missing:
        print("in one list only:", *missing)
    print(f"{len(wanted)} questions, {otherwise} answered otherwise")
    return 1 if otherwise or missing else 0


if __name__ == "__main__":
    sys.exit(main())
