#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the classifier takes a program's device blocks for, and what `berth explain` says of them.

Usage: classifier.py DRIVER_DIR BERTH CLIENT
"""
import json
import os
import subprocess
import sys
import tempfile
import time

TAGS = {0: "untagged", 1: "weight", 2: "activation", 3: "kv", 4: "workspace"}
EXPECTED = {"weight": "weight", "cache": "kv", "input": "activation", "arena": "untagged",
            "activation": "activation", "workspace": "workspace"}


def ask(berth, env, *arguments):
    """The control thread opens its socket while the program goes on: asks until it answers."""
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run([berth, *arguments], env=env, capture_output=True, text=True,
                              timeout=60)
        if done.returncode == 0 or time.monotonic() > deadline:
            return done.stdout


def check_outside(berth, env, pid, blocks):
    """`berth explain` gives the reason, and `berth stat` counts the blocks by their tags."""
    wrong = []
    for what, tag, reason in (("weight", "weight", "filled from the host"),
                              ("input", "activation", "again and again"),
                              ("cache", "kv", "larger blocks")):
        text = ask(berth, env, "explain", str(pid), blocks[what][0])
        if f"tag      {tag}, by the classifier" not in text or reason not in text:
            wrong.append(f"berth explain of {what}: {text}")
    answer = json.loads(ask(berth, env, "stat", "--json", str(pid)))
    device = [tier for tier in answer["tiers"] if tier["name"] == "device"][0]
    counts = {tag["tag"]: tag["blocks"] for tag in device["tags"] if tag["blocks"]}
    if counts.get("weight") != len(blocks["weight"]) or counts.get("kv") != len(blocks["cache"]):
        wrong.append(f"berth stat: {counts}")
    if device["held"] + device["cached"] + device["overhead"] != device["reserved"]:
        wrong.append(f"device does not add up: {device}")
    return wrong


def run(driver_dir, berth, client, options, *arguments):
    with tempfile.TemporaryDirectory() as directory:
        env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        env.update(LD_LIBRARY_PATH=driver_dir, XDG_RUNTIME_DIR=directory, BERTH_OPTIONS=options)
        with subprocess.Popen([berth, "run", "--", client, *arguments], env=env,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            wrong, blocks = [], {}
            for line in process.stdout:
                if line == "ready\n":
                    break
                what, tag, address = line.split()
                blocks.setdefault(what, []).append(address)
                expected = EXPECTED[what] if "classifier=on" in options else "untagged"
                if TAGS[int(tag)] != expected:
                    wrong.append(f"{what} is {TAGS[int(tag)]}, expected {expected}")
            if "classifier=on" in options and not wrong:
                wrong += check_outside(berth, env, process.pid, blocks)
            said = process.communicate("\n", timeout=60)[1]
    if said:
        wrong.append(f"said: {said}")
    if process.returncode != 0 or len(blocks) != len(EXPECTED):
        wrong.append(f"status {process.returncode}, blocks {blocks}")
    for text in wrong:
        print("FAIL", options, *arguments, text)
    return not wrong


def main():
    good = True
    for options in ("classifier=on", "classifier=on,free=lazy", "classifier=on,segments=expandable",
                    "classifier=off"):
        good &= run(*sys.argv[1:4], options)
        good &= run(*sys.argv[1:4], options, "declare")
        good &= run(*sys.argv[1:4], options, "ordered")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
