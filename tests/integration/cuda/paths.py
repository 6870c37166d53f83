#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every way to the driver, natively and under Berth, on the simulated driver.

Output and status must be the same, Berth must know each block (the client asks it), and the
driver's own log must show fewer allocations: as many as blocks natively, a handful under Berth.
Usage: paths.py DRIVER_DIR LIBBERTH SECOND_DLSYM CLIENT CLIENT_LINKED RUNTIME RUNTIME_STATIC
"""
import os
import subprocess
import sys
import tempfile

UNLINKED = ["absent", "dlsym", "dlvsym", "proc-v1", "proc-v2", "proc-ptsz", "proc-of-itself",
            "deepbind"]
LINKED = ["link", "default", "next", "own-next", "order"]
NO_WORK = ["absent", "order"]
RUNTIME = ["runtime", "entry-point", "entry-point-ptsz", "entry-point-by-version",
           "entry-point-by-version-ptsz"]
BLOCKS = 240  # path_work.c: rounds times blocks


def run(command, driver_dir, preload, **extra):
    with tempfile.NamedTemporaryFile(mode="r") as log:
        env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        env.update(LD_LIBRARY_PATH=driver_dir + ":" + os.environ.get("PATH_PLUGIN_DIR", ""), BERTH_FAKE_LOG=log.name,
                   XDG_RUNTIME_DIR="/nonexistent", **extra)
        if preload:
            env["LD_PRELOAD"] = preload
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        lines = log.read().splitlines()
    allocations = sum(line.startswith("cuMemAlloc_v2(") and " = 0" in line for line in lines)
    return done, allocations


def compare(way, command, driver_dir, libberth, preload, **extra):
    native, native_allocations = run(command, driver_dir, None)
    berth, allocations = run(command, driver_dir, preload, **extra)
    wrong = []
    if native.returncode != 0:
        wrong.append(f"native status {native.returncode}: {native.stdout[-500:]}")
    if (native.stdout, native.returncode) != (berth.stdout, berth.returncode):
        wrong.append(f"differs: {berth.returncode}\n{native.stdout}---\n{berth.stdout}")
    if way not in NO_WORK and native_allocations != BLOCKS:
        wrong.append(f"{native_allocations} driver allocations natively, expected {BLOCKS}")
    if allocations > BLOCKS // 4:
        wrong.append(f"{allocations} driver allocations under Berth")
    print(f"{way}: {native_allocations} driver allocations natively, {allocations} under Berth")
    for text in wrong:
        print("  FAIL", text)
    return not wrong, berth


def main():
    driver_dir, libberth, second, client, linked, runtime, static = sys.argv[1:]
    good = True
    for way in UNLINKED:
        ok, _ = compare(way, [client, way], driver_dir, libberth, libberth)
        good &= ok
    for way in LINKED:
        ok, _ = compare(way, [linked, way], driver_dir, libberth, libberth)
        good &= ok
    for form, program in (("shared", runtime), ("static", static)):
        for way in RUNTIME:
            ok, _ = compare(f"{way}, {form} runtime", [program, way], driver_dir, libberth, libberth)
            good &= ok
    for order in (f"{libberth} {second}", f"{second} {libberth}"):
        ok, done = compare("second dlsym, " + ("after" if order.startswith(libberth) else "before"),
                           [client, "dlsym"], driver_dir, libberth, order,
                           SECOND_DLSYM_REPORT="1")
        good &= ok
        if "called: yes" not in done.stderr:
            print("  FAIL the other dlsym was passed over:", done.stderr)
            good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
