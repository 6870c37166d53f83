#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stream captures that begin and end in every way, the odd ones too: afterwards none counts as open.

While one does, each allocation is a call of the driver. So the program allocates often at its end,
and the driver's log tells. Natively each is one, which shows that they are counted.
Usage: capture.py DRIVER_DIR LIBBERTH CLIENT
"""
import os
import subprocess
import sys
import tempfile

PAIRS = 2000


def run(driver_dir, client, way, **extra):
    """(status, what was said, allocations that the driver saw)"""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        env = dict(os.environ, LD_LIBRARY_PATH=driver_dir, BERTH_FAKE_LOG=log,
                   XDG_RUNTIME_DIR="/nonexistent", BERTH_CONTROL="never", **extra)
        end = subprocess.run([client, way], env=env, capture_output=True, text=True, timeout=120)
        with open(log, encoding="utf-8") as lines:
            allocations = sum("cuMemAlloc_v2(" in line for line in lines)
    return end.returncode, end.stderr.strip(), allocations


def main(driver_dir, libberth, client):
    wrong = 0
    ways = subprocess.run([client], env=dict(os.environ, LD_LIBRARY_PATH=driver_dir), check=True,
                          capture_output=True, text=True).stdout.split()
    for way in ways:
        status, said, allocations = run(driver_dir, client, way)
        if status or allocations < PAIRS:
            wrong += 1
            print(f"{way}, natively: status {status}, {allocations} allocations; {said}")
        for options in ("free=sync", "free=lazy"):
            status, said, allocations = run(driver_dir, client, way, LD_PRELOAD=libberth,
                                            BERTH_OPTIONS=options)
            if status or said or allocations > PAIRS / 10:
                wrong += 1
                print(f"{way}, {options}: status {status}, {allocations} allocations by the driver; "
                      f"{said}")
    print(f"{len(ways)} ways, {wrong} wrong")
    return 1 if wrong or not ways else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
