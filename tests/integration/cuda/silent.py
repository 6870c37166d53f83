#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A process that never uses CUDA does not notice libberth.so, nor does one that only loads the driver.

No output, no thread, no file, the same exit code. Programs with a sanitizer inside do not notice it
either: these replace functions of the C library's before any constructor has run.
Usage: silent.py DRIVER_DIR LIBBERTH [SANITIZED_PROGRAM...]
"""
import os
import subprocess
import sys
import tempfile

LOAD = ("import ctypes, os; {load} print(len(os.listdir('/proc/self/task')), "
        "len(os.listdir('/proc/self/fd')), [m for m in open('/proc/self/maps') if 'jemalloc' in m])")
COMMANDS = {
    "true": (["/bin/true"], 0),
    "false": (["/bin/false"], 1),
    "shell": (["/bin/sh", "-c", "echo $0 | cat; ls /nonexistent 2>/dev/null; exit 3"], 3),
    "threads": ([sys.executable, "-c", LOAD.format(load="")], 0),
    "driver loaded": ([sys.executable, "-c", LOAD.format(
        load="ctypes.CDLL('libcuda.so.1').cuGetErrorName;")], 0),
    "fork": ([sys.executable, "-c", "import os; pid = os.fork(); os._exit(os.waitpid(pid, 0)[1] "
              "if pid else 0)"], 0),
}


def run(command, driver_dir, runtime_dir, preload):
    env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
    env.update(LD_LIBRARY_PATH=driver_dir, XDG_RUNTIME_DIR=runtime_dir)
    if preload:
        env["LD_PRELOAD"] = preload
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr, done.returncode


def main():
    driver_dir, libberth = sys.argv[1:3]
    for program in sys.argv[3:]:
        # Leaks are looked for by tracing, which not every machine allows.
        command = ["env", "ASAN_OPTIONS=detect_leaks=0", os.path.abspath(program)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            print("not run, because it fails without Berth too:", program)
        else:
            COMMANDS[os.path.basename(program)] = (command, 0)
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        for name, (command, code) in COMMANDS.items():
            native = run(command, driver_dir, directory, None)
            berth = run(command, driver_dir, directory, os.path.abspath(libberth))
            if native != berth or berth[1] or berth[2] != code:
                print("FAIL", name, native, berth)
                wrong += 1
        if os.listdir(directory):
            print("FAIL files were left:", os.listdir(directory))
            wrong += 1
    print(f"{len(COMMANDS)} commands, {wrong} wrong")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
