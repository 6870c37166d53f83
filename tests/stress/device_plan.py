#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Has device_plan follow a plan of its own undisturbed calls.

With --preload it runs under that library, and is meanwhile bounded, looked at and made to give
memory back from outside; then its plan must have been met, which the program without one says
itself. Options are those of Berth.

Usage: device_plan.py [--preload LIBBERTH] BERTH DRIVER_DIR PROGRAM SEED STEPS THREADS OPTIONS
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

DEADLINE_S = 280
CHANGES = 12  # from outside
LIMIT = str(12 << 20)


def make_plan(berth, program, folder):
    trace, plan = (os.path.join(folder, name) for name in ("run.csv", "run.plan"))
    with open(trace, "wb") as file:
        subprocess.run([*program, "--trace"], stdout=file, check=True, timeout=DEADLINE_S)
    subprocess.run([berth, "trace", "plan", trace, "-o", plan, "--effort", "0.05"],
                   check=True, timeout=DEADLINE_S, stdout=subprocess.DEVNULL)
    return plan


def checksum(plan):
    """As berth__plan_file_checksum(), of a plan with 0 in the place of its checksum."""
    total = len(plan)
    for (word,) in struct.iter_unpack("=Q", plan):
        total = (total ^ word) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
        total ^= total >> 29
    return total


def repetitions(plan):
    """Where each lane's are told. See alloc/plan_file.h: a header, then lanes, which end with where
    their steps begin and end."""
    (lanes,) = struct.unpack_from("=I", plan, 28)
    return [56 + 16 * lane + 8 for lane in range(lanes)]


def repeats(path):
    with open(path, "rb") as file:
        plan = file.read()
    return any(begin != end for begin, end in (struct.unpack_from("=II", plan, place)
                                               for place in repetitions(plan)))


def forget_repetitions(path):
    with open(path, "rb") as file:
        plan = bytearray(file.read())
    for place in repetitions(plan):
        struct.pack_into("=II", plan, place, 0, 0)
    struct.pack_into("=Q", plan, 16, 0)
    struct.pack_into("=Q", plan, 16, checksum(plan))
    with open(path, "wb") as file:
        file.write(plan)


def tell(berth, env, *command):
    return subprocess.run([berth, *command], env=env, capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False)


def steer(berth, env, process):
    """Until the program ends by itself, or all was done to it; what was read of its plan last."""
    pid = str(process.pid)
    plan, done = {}, 0
    until = time.monotonic() + DEADLINE_S
    while done < CHANGES and process.poll() is None and time.monotonic() < until:
        change = ("trim", pid) if done % 2 else ("limit", pid, LIMIT if done % 4 == 0 else "none")
        # It may not be listening yet.
        if tell(berth, env, *change).returncode == 0:
            done += 1
        state = tell(berth, env, "stat", pid, "--json")
        plan = json.loads(state.stdout).get("plan") or plan if state.returncode == 0 else plan
    return plan, done


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--preload")
    parser.add_argument("--once", action="store_true")
    for name in ("berth", "driver_dir", "program", "seed", "steps", "threads", "options"):
        parser.add_argument(name)
    options = parser.parse_args()
    program = [options.program, options.seed, options.steps, options.threads]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.environ["LD_LIBRARY_PATH"] = options.driver_dir
        plan = make_plan(options.berth, program, folder)
        if options.once:
            forget_repetitions(plan)
        # One whose steps repeat to the end is never over. Any other may be soon, as threads go now.
        is_once = not repeats(plan)
        if is_once:
            os.environ["BERTH_PLAN_ONCE"] = "1"
        env = {**os.environ, "BERTH_OPTIONS": options.options, "BERTH_PLAN": plan,
               "XDG_RUNTIME_DIR": folder}
        if not options.preload:
            return subprocess.run(program, env=env, timeout=DEADLINE_S, check=False).returncode
        env["LD_PRELOAD"] = options.preload
        with subprocess.Popen([*program, "wait"], env=env, stdin=subprocess.PIPE) as process:
            figures, done = steer(options.berth, {**env, "LD_PRELOAD": ""}, process)
            process.stdin.close()
            status = process.wait(timeout=DEADLINE_S)
    calls = sum(figures.get(name, 0) for name in ("hits", "unknown", "occupied"))
    print(f"{done} changes from outside; plan: {figures}")
    was_followed = figures.get("lent", 0) > 0 if is_once else 16 * figures.get("hits", 0) >= calls
    if status == 0 and (done < CHANGES or not was_followed or calls == 0):
        print("the plan was not followed, or nothing was done from outside", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
