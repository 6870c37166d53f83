#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program on the simulated driver, natively and under libberth.so, and compares.

Output and exit status must be the same. What goes to stderr under Berth is shown; with --quiet it
must be empty. The native run must succeed, unless --any-status is given.
Usage: compare.py [--quiet] [--any-status] [-e NAME=VALUE] [--timeout SECONDS] DRIVER_DIR LIBBERTH PROGRAM [ARGUMENT...]
"""
import argparse
import difflib
import os
import subprocess
import sys


def run(command, driver_dir, preload, extra, timeout):
    """What ran; one that takes too long is ended, and is a difference, too."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
    env["LD_LIBRARY_PATH"] = driver_dir
    env["XDG_RUNTIME_DIR"] = "/nonexistent"
    env.update(extra)
    if preload:
        env["LD_PRELOAD"] = preload
    try:
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout,
                              check=False)
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode(errors="replace")
        where = "under Berth" if preload else "natively"
        return subprocess.CompletedProcess(command, f"ended after {timeout} seconds, {where}", said,
                                           "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--any-status", action="store_true")
    parser.add_argument("-e", action="append", default=[])
    parser.add_argument("--timeout", type=int, default=240)
    parser.add_argument("driver_dir")
    parser.add_argument("libberth")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    extra = dict(pair.split("=", 1) for pair in options.e)
    native = run(options.command, options.driver_dir, None, extra, options.timeout)
    berth = run(options.command, options.driver_dir, options.libberth, extra, options.timeout)
    sys.stdout.write(native.stdout)
    sys.stderr.write(berth.stderr)
    same = native.stdout == berth.stdout and native.returncode == berth.returncode
    if not same:
        sys.stdout.writelines(difflib.unified_diff(
            native.stdout.splitlines(True), berth.stdout.splitlines(True), "native", "berth"))
        print("status: native", native.returncode, "berth", berth.returncode)
    if native.returncode != 0 and not options.any_status:
        same = False
        print("the native run failed:", native.returncode, native.stderr)
    if options.quiet and berth.stderr:
        print("stderr is not empty under Berth")
        same = False
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
