# SPDX-License-Identifier: Apache-2.0
"""Side-by-side measurement: variants take turns in one run, and only ratios of medians are told.

Absolute times on a shared machine drift by a factor of two; what is run in turn drifts together.
"""

import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"


def need(path, what):
    """Leaves with the reason where something to measure with is missing."""
    found = shutil.which(path) or (path if os.path.exists(path) else None)
    if not found:
        print(f"skipped: {what} ({path}) is not here")
        sys.exit(77)
    return found


def preload(*libraries, **environment):
    """An environment with these libraries preloaded."""
    result = {**os.environ, **environment}
    result.pop("LD_PRELOAD", None)
    if libraries:
        result["LD_PRELOAD"] = ":".join(libraries)
    return result


def once(command, environment, stdin=None):
    """Runs a command: (user seconds, wall seconds, peak resident KiB)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE if stdin else None,
                               stdout=subprocess.DEVNULL)
    process.communicate(stdin)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != 0:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return after.ru_utime - before.ru_utime, wall


def measured(measure, command, environment, stdin=None):
    """
    Runs a command by the program `measure`, and tells of it alone: user seconds, processor seconds
    with those of the kernel, peak resident KiB, page faults.
    """
    with tempfile.NamedTemporaryFile("r") as told:
        # What is preloaded is so into the command, not into `measure`.
        library = environment.get("LD_PRELOAD")
        wrapped = [measure, told.name] + (["env", "LD_PRELOAD=" + library] if library else [])
        outer = {name: value for name, value in environment.items() if name != "LD_PRELOAD"}
        process = subprocess.Popen(wrapped + command, env=outer, stdout=subprocess.DEVNULL,
                                   stdin=subprocess.PIPE if stdin else None)
        process.communicate(stdin)
        if process.returncode != 0:
            raise RuntimeError(f"{command} ended with {process.returncode}")
        user, system, peak, faults = told.read().split()
        return float(user), float(user) + float(system), int(peak), int(faults)


def interleaved(variants, rounds):
    """variants: {name: function() -> number}. Medians of `rounds` turns, in random-free order."""
    samples = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            samples[name].append(measure())
    return {name: statistics.median(values) for name, values in samples.items()}


def interval(values, draws=2000):
    """
    The median, and between which two values it lies with 95 % (a bootstrap: medians of samples drawn
    from the values, with replacement). The draws are the same in each run.
    """
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(draws))
    return statistics.median(values), medians[draws // 40], medians[-1 - draws // 40]


def alone():
    """
    Keeps this process and its children on the last of its cores, before all ordinary work; tells
    what of that was allowed.
    """
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return f"core {core}, with other work"
    return f"core {core}, before other work"


def instructions(command, environment, stdin=None):
    """Instructions of a program and its libraries under callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        full = ["valgrind", "--tool=callgrind", "--log-file=" + folder + "/log",
                "--callgrind-out-file=" + folder + "/out", *command]
        subprocess.run(full, env=environment, input=stdin, stdout=subprocess.DEVNULL, check=True)
        with open(folder + "/log", encoding="utf-8") as log:
            for line in log:
                if "Collected" in line:
                    return int(line.rsplit(":", 1)[1])
    raise RuntimeError("callgrind told no count")


def table(title, medians, base, unit):
    """Prints the medians and their ratios to one of them."""
    print(title)
    for name, value in medians.items():
        print(f"  {name:34} {value:14.6g} {unit:12} {value / medians[base]:7.3f} x {base}")
