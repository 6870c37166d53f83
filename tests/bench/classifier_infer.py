#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How well the classifier knows what berth-infer is made of: precision and recall in bytes. The
truth is berth-infer's own tags, which `classifier = blind` notes and does not heed.

Usage: classifier_infer.py BERTH BERTH-INFER MODEL [ROW], a row by its name; default: all.

A step is a prompt, or a token after a prompt's first. Counted are live blocks from 64 KiB on that
the classifier follows; the last columns are, over all of them: how often the tag of one changed at
most, and how many took a tag back that they had before.
"""
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration",
                                "infer"))
from classifier import count_changes, ratio
from conversation import Conversation
from live_blocks import live_blocks, shares

SHORT = "In the beginning"
CHAT = [SHORT, "And the king said unto his servants,", "And it came to pass " * 30,
        "Blessed be", "And the LORD spake unto Moses, saying, " * 60]
KEPT = ["--keep-sessions"]
POLICY = 'tier keep {{ kind = file path = "{folder}" name = weights }}\n'

# Its name; tokens for each prompt, prompts, options; how often the program is started.
ROWS = [
    ("2 steps", 2, [SHORT], KEPT, 1), ("3 steps", 3, [SHORT], KEPT, 1),
    ("40 steps", 40, [SHORT], KEPT, 1),
    ("chat of 2 prompts, 2 tokens each", 2, CHAT[:2], KEPT, 1),
    ("chat of 5 prompts, 24 tokens each", 24, CHAT, KEPT, 1),
    ("the same, each answer forgotten", 24, CHAT, [], 1),
    ("40 steps, 1 thread", 40, [SHORT], KEPT + ["--threads", "1"], 1),
    ("40 steps, --stats", 40, [SHORT], KEPT + ["--stats"], 1),
    ("3 steps, --persist, read and kept", 3, [SHORT], KEPT + ["--persist"], 1),
    ("3 steps, --persist, found", 3, [SHORT], KEPT + ["--persist"], 2),
    ("40 steps, --persist, read and kept", 40, [SHORT], KEPT + ["--persist"], 1),
    ("40 steps, --persist, found", 40, [SHORT], KEPT + ["--persist"], 2),
]


def talk(command, env, prompts):
    """The live blocks after the last answer, and the log."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        conversation = Conversation(command, env, log)
        try:
            for prompt in prompts:
                conversation.answer(prompt)
            blocks = live_blocks(conversation.pid, env["XDG_RUNTIME_DIR"])
        finally:
            status = conversation.close()
        log.seek(0)
        said = log.read()
    if status != 0:
        sys.exit(f"{' '.join(command)}: status {status}\n{said[-2000:]}")
    return blocks, said


def run(berth, infer, model, tokens, prompts, options, starts):
    with tempfile.TemporaryDirectory() as folder:
        policy = pathlib.Path(folder, "policy")
        policy.write_text(POLICY.format(folder=folder), "utf-8")
        env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        env.update(XDG_RUNTIME_DIR=folder, BERTH_CONTROL="always",
                   BERTH_DEBUG="classifier:debug", BERTH_OPTIONS="classifier=blind,host=on")
        command = [berth, "run", *(["--policy", str(policy)] if "--persist" in options else []),
                   "--", infer, "--model", model, "--max-tokens", str(tokens), "--ignore-eos",
                   *options]
        for _ in range(starts):
            blocks, said = talk(command, env, prompts)
    return blocks, count_changes(said)


def show(name, blocks, changes):
    columns = []
    for tag in "weight", "kv":
        there, taken, both = shares(blocks, tag)
        columns += [f"{there / 1e6:7.2f} {ratio(both, taken):>9} {ratio(both, there):>9}"]
    print(f"{name:36} {columns[0]} {columns[1]} {changes[0]:>7} {changes[1]:>5}", flush=True)


def main():
    berth, infer, model, *chosen = sys.argv[1:]
    print(f"{'':36} {'weights':>7} {'precision':>9} {'recall':>9} {'cache':>7} {'precision':>9} "
          f"{'recall':>9} {'changes':>7} {'back':>5}")
    print(f"{'':36} {'MB':>7} {'':>9} {'':>9} {'MB':>7}")
    for name, *row in ROWS:
        if not chosen or name in chosen:
            show(name, *run(berth, infer, model, *row))


if __name__ == "__main__":
    main()
