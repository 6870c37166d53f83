#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the version script of a driver of the given version: what came later is not exported.

usage: make_map.py VERSION resolver_table.inc libcuda.so.1 > libcuda.map

The table says which version brought an entry point, the driver which ones there are. One that the
table does not name is a mistake, but for those that no header has a type for.
"""
import re
import subprocess
import sys

# Not in cudaTypedefs.h; it came with cuGetProcAddress_v2.
UNLISTED = {"cuGetProcAddress_v2_ptsz": 12000}


def exports(library):
    text = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True,
                          text=True).stdout
    return sorted(line.split()[2] for line in text.splitlines())


def main():
    version, table, library = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    with open(table, encoding="utf-8") as file:
        brought = {symbol: int(since) for since, symbol in
                   re.findall(r"^RESOLVE\(\w+, (\d+), \d, (\w+)\)", file.read(), re.MULTILINE)}
    brought.update(UNLISTED)
    names = exports(library)
    unknown = [name for name in names if name not in brought]
    if unknown:
        sys.exit("no version is known of " + ", ".join(unknown))
    print("{\n  global:")
    for name in names:
        if brought[name] <= version:
            print(f"    {name};")
    print("  local: *;\n};")


main()
