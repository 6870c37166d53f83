# SPDX-License-Identifier: Apache-2.0
"""A program that makes, replaces and removes persistent blocks is killed, again and again.

usage: persist_kill.py BERTH LIBBERTH-MALLOC CLIENT [--kills N] [--seed N] [--place PATH]

Workload: persist_client puts blocks of random sizes under eight names and now and then removes
one, telling each step before and after. kill -9 comes after a random number of steps and a random
moment more, also while the store is being made or the process starts. The next start reads every
byte of every block: each must be what it was before the step that was cut, or after it. PATH is a
directory, or a dax device. The seed is printed.
"""
import argparse
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

BLOCKS = 8
SIZE_MAX = 300_000
STEPS_MAX = 60
# A moment between steps, and one in which a start may be cut.
MOMENT = 0.002
START = 0.05


class Run:
    """One life of the client."""

    def __init__(self, options, env, seed):
        self.errors = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen([options.client, "work", str(seed), str(BLOCKS),
                                       str(SIZE_MAX)], env=env, stdout=subprocess.PIPE,
                                      stderr=self.errors, text=True)

    def lines_until_killed(self, chance):
        """Every line that was told. Some are killed while they start, others after some steps."""
        lines = []
        if chance.random() < 0.15:
            time.sleep(chance.random() * START)
        else:
            for _ in range(chance.randrange(STEPS_MAX) + BLOCKS):
                line = self.child.stdout.readline()
                if not line:
                    break
                lines.append(line)
            time.sleep(chance.random() * MOMENT)
        self.child.send_signal(signal.SIGKILL)
        lines += self.child.stdout.readlines()
        self.child.stdout.close()
        status = self.child.wait()
        self.errors.seek(0)
        with self.errors:
            # The last line may be cut.
            return [line for line in lines if line.endswith("\n")], self.errors.read(), status


def follow(lines, states):
    """Takes what a life told into what each block may be now. What was wrong, or None."""
    for line in lines:
        event, block, number = line.split()
        block, number = int(block), int(number)
        if event in ("have", "none"):
            if number not in states[block]:
                return f"w{block} is {number}; expected one of {sorted(states[block])}"
            states[block] = {number}
        elif event == "begin":
            states[block].add(number)
        elif event == "done":
            states[block] = {number}
    return None


def run(options, folder):
    chance = random.Random(options.seed)
    dax = options.place.startswith("/dev/dax")
    policy, table = folder / "policy", folder / "table"
    where = f"kind = dax\n path = {options.place}" if dax else \
        f'kind = file\n path = "{options.place or folder}"'
    policy.write_text(f"tier keep {{\n {where}\n name = kept\n}}\n")
    subprocess.run([options.berth, "policy", "compile", policy, "-o", table], check=True)
    env = dict(os.environ, LD_PRELOAD=os.path.abspath(options.library), BERTH_POLICY=str(table),
               BERTH_CONTROL="never")
    store = options.place if dax else str(pathlib.Path(options.place or folder) / "kept")
    states = [{0} for _ in range(BLOCKS)]
    steps = verified = 0
    for kill in range(options.kills):
        # A store that is made anew each time is cut while it is made, too.
        if not dax and chance.random() < 0.05:
            pathlib.Path(store).unlink(missing_ok=True)
            states = [{0} for _ in range(BLOCKS)]
        life = Run(options, env, chance.randrange(1 << 60))
        lines, errors, status = life.lines_until_killed(chance)
        wrong = follow(lines, states)
        if status != -signal.SIGKILL:
            wrong = wrong or f"the client ended by itself: {status}"
        if wrong or errors:
            print(f"kill {kill}: {wrong or 'there were messages'}\n{errors}{''.join(lines[-20:])}")
            return 1
        steps += sum(line.startswith("done") for line in lines)
        verified += sum(line.startswith(("have", "none")) for line in lines)
    print(f"{options.kills} kills, {steps} steps, {verified} blocks verified")
    return subprocess.run([options.berth, "pmem", "check", store],
                          stdout=subprocess.DEVNULL).returncode


def main():
    parser = argparse.ArgumentParser()
    for name in "berth", "library", "client":
        parser.add_argument(name)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--place", default="")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="berth-kill-") as folder:
        return run(options, pathlib.Path(folder))


sys.exit(main())
