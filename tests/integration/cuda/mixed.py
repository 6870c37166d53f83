#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One program that reaches the driver in every way: Berth sees every call that allocates.

Natively the driver's own log says how often each function was called. Under Berth, `berth stat`
says it per path: the sum over all paths must be the same number, function by function, and each way
must be counted under its own path. Prints the count per way.
Usage: mixed.py DRIVER_DIR LIBBERTH BERTH CLIENT LIBRARY_DIR
"""
import collections
import json
import os
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 60

# The paths that each way is counted under; all others by what their name says.
V2, SYMBOL = "cuGetProcAddress_v2", "symbol"
PATHS = {
    "-lcuda": {SYMBOL}, "RTLD_DEFAULT": {SYMBOL}, "RTLD_NEXT": {"dlsym"},
    "cuGetProcAddress_v2, per-thread default stream": {V2},
    "cudaGetDriverEntryPoint": {V2}, "cudaGetDriverEntryPoint_ptsz": {V2},
    "cudaGetDriverEntryPointByVersion": {V2}, "cudaGetDriverEntryPointByVersion_ptsz": {V2},
    "shared cudart": {V2}, "static cudart in an opened library": {V2},
    "opened library, -lcuda": {SYMBOL}, "opened library, dlsym": {"dlsym"},
    "thread, -lcuda and dlsym": {SYMBOL, "dlsym"},
}
PER_THREAD = {"cuGetProcAddress_v2, per-thread default stream", "cuGetProcAddress_v2_ptsz",
              "cudaGetDriverEntryPoint_ptsz", "cudaGetDriverEntryPointByVersion_ptsz"}
ALLOCATES = ["cuMemAlloc_v2", "cuMemAllocPitch_v2", "cuMemAllocManaged", "cuMemAllocHost_v2",
             "cuMemHostAlloc", "cuMemHostRegister", "cuMemHostRegister_v2", "cuMemAllocAsync",
             "cuMemAllocAsync_ptsz", "cuMemAllocFromPoolAsync", "cuMemAllocFromPoolAsync_ptsz",
             "cuMemCreate", "cuArrayCreate_v2", "cuArray3DCreate_v2", "cuMipmappedArrayCreate"]


def environment(driver_dir, library_dir, runtime, log):
    env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
    env.update(LD_LIBRARY_PATH=driver_dir + ":" + library_dir, XDG_RUNTIME_DIR=runtime,
               BERTH_FAKE_LOG=log)
    return env


def log_counts(path):
    with open(path) as log:
        names = collections.Counter(line.partition("(")[0] for line in log)
    return {name: names[name] for name in ALLOCATES if names[name]}


def seen(berth, pid, env):
    """Calls by (path, function), once the program's socket is there."""
    end = time.monotonic() + PATIENCE_S
    while True:
        done = subprocess.run([berth, "stat", "--json", str(pid)], env=env, capture_output=True,
                              text=True, timeout=PATIENCE_S)
        if done.returncode == 0:
            break
        if time.monotonic() > end:
            return None
        time.sleep(0.01)
    return collections.Counter({(path["path"], function): calls
                                for path in json.loads(done.stdout)["paths"]
                                for function, calls in path["functions"].items()})


def run(command, env, ask):
    """Answers each line of the program after asking; its lines with what was answered."""
    program = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)
    ways = []
    for line in program.stdout:
        way, _, status = line.rstrip("\n").rpartition(" ")
        ways.append((way, status, ask(program.pid)))
        program.stdin.write("go on\n")
        program.stdin.flush()
    return program.wait(timeout=60), ways


def check_ways(ways):
    wrong = []
    before = collections.Counter()
    print(f"{'way':48} {'calls':>5}  counted as")
    for way, status, now in ways:
        calls = now - before
        before = now
        if way == "begin":
            if calls:
                wrong.append(f"calls before the first: {calls}")
            continue
        paths = {path for path, _ in calls}
        if status != "0":
            wrong.append(f"{way}: {status}")
        if paths != PATHS.get(way, {way}):
            wrong.append(f"{way} was counted as {sorted(paths)}")
        if (way in PER_THREAD) != any(function.endswith("_ptsz") for _, function in calls):
            wrong.append(f"{way}: {sorted(function for _, function in calls)}")
        print(f"{way:48} {sum(calls.values()):5}  {', '.join(sorted(paths))}")
    return wrong, before


def main():
    driver_dir, libberth, berth, client, library_dir = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "calls")
        env = environment(driver_dir, library_dir, folder, log)
        status, native = run([client], env, lambda pid: None)
        counts = log_counts(log)
        os.unlink(log)
        preloaded = dict(env, LD_PRELOAD=libberth)
        tables = []

        def ask(pid):
            table = subprocess.run([berth, "stat", "--paths", str(pid)], env=env, text=True,
                                   capture_output=True, timeout=60).stdout
            tables.append(table)
            return seen(berth, pid, env)

        berth_status, ways = run([client], preloaded, ask)
        served = log_counts(log)
    wrong = []
    if status != 0 or berth_status != 0:
        wrong.append(f"status {status} natively, {berth_status} under Berth")
    if [way[:2] for way in native] != [way[:2] for way in ways]:
        wrong.append(f"differs:\n{native}\n{ways}")
    if not ways or any(now is None for _, _, now in ways):
        print("FAIL berth stat did not answer:", ways)
        return 1
    more, total = check_ways(ways)
    wrong += more
    sums = collections.Counter()
    for (_, function), calls in total.items():
        sums[function] += calls
    if dict(sums) != counts:
        wrong.append(f"the driver was called {counts} natively, Berth saw {dict(sums)}")
    if served.get("cuMemAlloc_v2", 0) > counts.get("cuMemAlloc_v2", 0) // 2:
        wrong.append(f"under Berth the driver was called {served}")
    print(tables[-1], end="")
    if tables[-1].splitlines()[-1].split() != ["total", str(sum(counts.values()))]:
        wrong.append("the total of `berth stat --paths` is another one")
    for text in wrong:
        print("FAIL", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
