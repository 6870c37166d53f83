#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every call of the driver fails in turn: the program sees what CUDA would say, and nothing is lost.

fault_client runs on the simulated driver, natively and under Berth. First without a failure, with
the driver's call log: it says which functions are reached, and how often. Then, for each function
and N, the Nth call fails: with "out of memory", with an error that passes, and with one that sticks
to the context. Then pairs of failures, drawn from a seed.
 - What goes through Berth unchanged answers as natively, line for line.
 - Elsewhere each failure is seen at most once, with its own code, and the same call then works.
 - At each checkpoint Berth's account is what the program has; at the end it is empty, and the
   driver has its memory back, as natively.
Usage: fault.py [--options OPTIONS] [--calls N] [--pairs N] [--seed N] DRIVER_DIR LIBBERTH CLIENT
"""
import argparse
import collections
import concurrent.futures
import glob
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time

MEMORY, PASSING, STICKING = "2", "719", "700!"
# Meson runs as many tests at once as there are processors: each need not start as many again.
WORKERS_MAX = 8
# Called by Berth on its own account too: their Nth call is another one than natively.
OWN = {"cuMemAlloc_v2", "cuMemFree_v2", "cuCtxSynchronize", "cuStreamSynchronize",
       "cuCtxGetCurrent", "cuCtxGetDevice", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2",
       "cuMemAllocAsync", "cuMemFreeAsync", "cuMemGetInfo_v2", "cuPointerSetAttribute",
       "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2", "cuStreamIsCapturing",
       "cuThreadExchangeStreamCaptureMode", "cuDevicePrimaryCtxGetState"}
# What a lost context does not refuse cannot lose it.
SURVIVING = ("cuDevice", "cuInit", "cuDriver", "cuGet", "cuCtxGet", "cuCtxSetCurrent", "cuCtxPush",
             "cuCtxPop", "cuCtxDestroy")
# What Berth can answer without the driver, and so before it knows that the context is lost.
FROM_CACHE = {"small again", "whole again", "small", "whole", "goes", "stays", "range", "attributes",
              "attribute", "small after capture", "async in capture", "in capture", "no sync copies",
              "async", "async 0", "free async", "free async 0", "free async in capture",
              "free after capture", "free goes", "free small after capture",
              "pop", "destroy", "set current", "free small", "free whole", "free large", "free small in capture"}

# And where frees do not wait, what it has not heard of yet.
FROM_LAZY = {"free after capture", "free goes"}


def account(pid, runtime):
    """What Berth says of tier device and tier pinned."""
    deadline = time.monotonic() + 20
    while True:
        try:
            name, = glob.glob(f"{runtime}/berth/{pid}-*.sock")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(20)
                connection.connect(name)
                with connection.makefile("rw") as stream:
                    stream.readline()
                    stream.write('{"id":1,"op":"stat"}\n')
                    stream.flush()
                    tiers = json.loads(stream.readline())["tiers"]
            return {tier["name"]: tier for tier in tiers}
        except (ValueError, OSError, KeyError):
            # The control thread is on its way.
            if time.monotonic() > deadline:
                return {}
            time.sleep(0.001)


class Run:
    """One run: its lines without those of checkpoints, which are pairs (line, account)."""

    def __init__(self, setup, preload, plan, log=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        env.update(LD_LIBRARY_PATH=setup.driver_dir, XDG_RUNTIME_DIR=setup.runtime,
                   BERTH_FAKE_MEMORY="1G", BERTH_FAKE_FAIL=",".join(plan))
        if log:
            env["BERTH_FAKE_LOG"] = log
        if preload:
            env.update(LD_PRELOAD=setup.libberth, BERTH_OPTIONS=setup.options)
        self.lines, self.checkpoints = [], []
        # A block that shares a segment has no handle for other processes, which the program is told.
        arguments = ["no-ipc"] if "segments=" in setup.options else []
        program = subprocess.Popen([setup.client] + arguments, env=env, stdin=subprocess.PIPE, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for line in program.stdout:
            if line.startswith("="):
                self.checkpoints.append((line, account(program.pid, setup.runtime) if preload
                                         else None))
                program.stdin.write("\n")
                program.stdin.flush()
            else:
                self.lines.append(line.rstrip("\n"))
        self.errors = program.stderr.read()
        self.status = program.wait(timeout=60)


def split(line):
    """("small", ["2", "0"]); other lines have no answers."""
    what, colon, answers = line.partition(": ")
    return (what, answers.split()) if colon else (line, None)


def check_account(run):
    wrong = []
    for line, tiers in run.checkpoints:
        words = line.split()
        for name in ("device", "pinned"):
            at = words.index(name)
            expected = [int(words[at + 1]), int(words[at + 2])]
            tier = tiers.get(name)
            if not tier:
                wrong.append(f"{words[1]}: Berth did not answer")
                continue
            if [tier["blocks"], tier["requested"]] != expected:
                wrong.append(f"{words[1]}: {name}: the program has {expected} blocks and bytes, "
                             f"Berth says {[tier['blocks'], tier['requested']]}")
            if tier["reserved"] != tier["held"] + tier["cached"] + tier["overhead"]:
                wrong.append(f"{words[1]}: {name}: does not add up")
            if words[1] == "end" and tier["reserved"] != 0:
                wrong.append(f"end: {name}: {tier['reserved']} bytes are still reserved")
    return wrong


def compare_lines(usual, lines, codes, failures):
    """Each failure is met at most once; afterwards the same call works."""
    wrong = []
    seen = 0
    if [split(line)[0] for line in usual] != [split(line)[0] for line in lines]:
        return ["other calls were made: " + "; ".join(set(usual) ^ set(lines))]
    for before, now in zip(usual, lines):
        _, expected = split(before)
        _, answers = split(now)
        if expected is None or before == now:
            continue
        strange = [code for code in answers if code != expected[-1]]
        seen += len(strange)
        # A call that is refused anyway may have ended with the planned refusal.
        if (answers[-1] != expected[-1] and expected[-1] == "0") or set(strange) - codes:
            wrong.append(f"'{now}', without the failure '{before}'")
    if seen > failures:
        wrong.append(f"{failures} failures were seen {seen} times")
    return wrong


def is_asked_again(usual, natively, answer):
    """Whether the lines differ only in refusals for want of memory that the program did not see."""
    if answer == usual and MEMORY in split(natively)[1]:
        return True
    what, before = split(natively)
    other, now = split(answer)
    if what != other or not before or not now:
        return False
    rest = [[code for code in codes if code != MEMORY] for codes in (before, now)]
    return rest[0] == rest[1] and now.count(MEMORY) < before.count(MEMORY)


def check_passing(setup, plan, native, run, is_forwarded):
    codes = {failure.rpartition("=")[2] for failure in plan}
    wrong = compare_lines(setup.usual, run.lines, codes, len(plan)) + check_account(run)
    if is_forwarded:
        # What was refused for want of memory is asked for again, once the cache was given back.
        wrong += [f"natively '{a}', under Berth '{b}'"
                  for usual, a, b in zip(setup.usual, native.lines, run.lines)
                  if a != b and not is_asked_again(usual, a, b)]
    return wrong


def check_sticking(native, run, options):
    """From the error on until the reset, only what the driver is not needed for still works."""
    wrong = []
    lost = False
    from_cache = FROM_CACHE | (FROM_LAZY if "free=lazy" in options else set())
    for natively, answer in zip(native.lines, run.lines):
        what, answers = split(answer)
        if answers and set(answers) - {"0", "1", "2", "700"}:
            wrong.append(f"'{answer}'")
        if what == "reset":
            break
        if (lost and answers and answers[-1] == "0" and what not in from_cache and
                "700" in (split(natively)[1] or [])):
            wrong.append(f"'{answer}' in a context that is lost")
        lost = lost or bool(answers and "700" in answers)
    resets = [next(i for i, line in enumerate(lines) if line.startswith("reset:"))
              for lines in (native.lines, run.lines)]
    # Berth's Nth call may be the program's first ones after the reset, or natively it may.
    early = all(any("700" in (split(line)[1] or []) for line in lines[:reset + 1])
                for lines, reset in zip((native.lines, run.lines), resets))
    if early and native.lines[resets[0]:] != run.lines[resets[1]:]:
        wrong.append(f"after the reset: {run.lines[resets[1]:]}, "
                     f"natively {native.lines[resets[0]:]}")
    return wrong


def check(setup, plan):
    """None, or what is wrong with the runs in which these calls fail."""
    native = Run(setup, False, plan)
    run = Run(setup, True, plan)
    functions = {failure.partition(":")[0] for failure in plan}
    wrong = []
    if native.status != 0 or run.status != 0:
        wrong.append(f"status {run.status}, natively {native.status}")
    elif any(failure.endswith("!") for failure in plan):
        wrong += check_sticking(native, run, setup.options)
    else:
        is_forwarded = all(setup.native_counts[f] == setup.counts[f] and f not in OWN
                           for f in functions)
        wrong += check_passing(setup, plan, native, run, is_forwarded)
    # Where expanding does not work, the one line that says so is as it should be.
    if run.errors and ("segments = expandable" not in run.errors or run.errors.count("\n") > 1):
        wrong.append("on stderr: " + run.errors.strip())
    return wrong


def baseline(setup, preload):
    log = os.path.join(setup.runtime, "log")
    run = Run(setup, preload, [], log)
    with open(log) as lines:
        counts = collections.Counter(line.partition("(")[0] for line in lines)
    os.unlink(log)
    return run, counts


def plans(setup, options):
    draw = random.Random(options.seed)
    single = []
    for function in sorted(setup.counts):
        count = setup.counts[function]
        numbers = list(range(1, count + 1))
        if count > options.calls:
            numbers = sorted(draw.sample(numbers, options.calls))
        single += [f"{function}:{n}=" for n in numbers]
    pairs = [[draw.choice(single) + draw.choice([MEMORY, PASSING]) for _ in range(2)]
             for _ in range(options.pairs)]
    sticking = [one for one in single if not one.startswith(SURVIVING)]
    return ([[one + MEMORY] for one in single] + [[one + PASSING] for one in single] +
            [[one + STICKING] for one in sticking] + pairs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", default="")
    parser.add_argument("--calls", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plan", help="only this: FUNCTION:N=CODE,...")
    parser.add_argument("driver_dir")
    parser.add_argument("libberth")
    parser.add_argument("client")
    setup = parser.parse_args()
    with tempfile.TemporaryDirectory() as setup.runtime:
        native, setup.native_counts = baseline(setup, False)
        run, setup.counts = baseline(setup, True)
        setup.usual = native.lines
        if "options" in run.errors:
            print("skipped, this library does not have the option:", run.errors)
            return 77
        wrong = check_account(run) + (["on stderr: " + run.errors] if run.errors else [])
        if native.lines != run.lines or native.status != 0:
            wrong += [f"natively '{a}', under Berth '{b}'"
                      for a, b in zip(native.lines, run.lines) if a != b]
        if wrong:
            print("FAIL without a failure:", *wrong, sep="\n  ")
            return 1
        every = [setup.plan.split(",")] if setup.plan else plans(setup, setup)
        failed = 0
        with concurrent.futures.ThreadPoolExecutor(min(os.cpu_count(), WORKERS_MAX)) as workers:
            for plan, wrong in zip(every, workers.map(lambda plan: check(setup, plan), every)):
                if wrong:
                    failed += 1
                    print("FAIL", ",".join(plan), *wrong, sep="\n  ")
        print(f"seed {setup.seed}: {len(setup.counts)} functions, {len(every)} plans, "
              f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
