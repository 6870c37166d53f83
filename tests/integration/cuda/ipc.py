#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Legacy IPC between processes with and without Berth: the importer sees the exporter's block.

Usage: ipc.py DRIVER_DIR LIBBERTH CLIENT
"""
import os
import subprocess
import sys


# The driver rounds up to whole pieces of 2 MiB. Where segments are shared, a large block of a new
# program is alone in its own if that costs no rounding.
WHOLE = 6 << 20
SIZES = (5 << 20, WHOLE)


def start(client, arguments, driver_dir, preload, options=""):
    env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
    env.update(LD_LIBRARY_PATH=driver_dir, XDG_RUNTIME_DIR="/nonexistent")
    if preload:
        env.update(LD_PRELOAD=preload, BERTH_OPTIONS=options)
    return subprocess.Popen([client, *arguments], env=env, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)


def share(client, driver_dir, size, exporter_preload=None, importer_preload=None, options=""):
    exporter = start(client, ["export", str(size)], driver_dir, exporter_preload, options)
    first = exporter.stdout.readline().split()
    output = first[:2]
    if len(first) == 3:
        importer = start(client, ["import", str(size), first[2]], driver_dir, importer_preload)
        output += importer.communicate(timeout=60)[0].splitlines() + [importer.returncode]
    output += exporter.communicate("\n", timeout=60)[0].splitlines() + [exporter.returncode]
    return output


def main():
    driver_dir, libberth, client = sys.argv[1:]
    libberth = os.path.abspath(libberth)
    wrong = 0
    for size in SIZES:
        native = share(client, driver_dir, size)
        print(size, native)
        wrong += native[-1] != 0 or "importer's bytes: 1" not in native
        for exporter, importer, options, sizes in (
                (libberth, None, "", SIZES), (None, libberth, "", SIZES),
                (libberth, libberth, "", SIZES), (libberth, None, "segments=shared", (WHOLE,))):
            if size not in sizes:
                continue
            berth = share(client, driver_dir, size, exporter, importer, options)
            if berth != native:
                print("FAIL", "exporter" if exporter else "", "importer" if importer else "",
                      options, berth)
                wrong += 1
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
