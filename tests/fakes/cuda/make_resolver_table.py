#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes resolver_table.inc: which export answers for (name, version).

usage: make_resolver_table.py cudaTypedefs.h LIBCUDA > resolver_table.inc

A typedef PFN_<name>_v<version> says that <name> got a new ABI with that
version; the exports say how it is called: the nth ABI of a name is the nth of
<name>, <name>_v2, <name>_v3 ... that exist. Only these facts are kept.
"""
import collections
import re
import subprocess
import sys


def exports(path):
    text = subprocess.run(["nm", "-D", "--defined-only", path], check=True,
                          capture_output=True, text=True).stdout
    return {line.split()[2] for line in text.splitlines() if len(line.split()) == 3}


def main():
    header, library = sys.argv[1:3]
    names = exports(library)
    versions = collections.defaultdict(set)
    pattern = r"PFN_(cu\w+?)_v(\d+)(_pt[sd][sz])?\)\("
    for name, version, suffix in re.findall(pattern, open(header).read()):
        versions[name, suffix].add(int(version))
    rows = []
    for (name, suffix), found in versions.items():
        symbols = [name + nth + suffix for nth in ("", "_v2", "_v3", "_v4", "_v5")
                   if name + nth + suffix in names]
        if len(symbols) != len(found):
            sys.exit(f"{name}{suffix}: versions {sorted(found)} but exports {symbols}")
        rows += [(name, version, bool(suffix), symbol)
                 for version, symbol in zip(sorted(found), symbols)]
    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* Made by make_resolver_table.py; do not edit.")
    print(" * RESOLVE(name, version, per_thread, symbol), sorted by name, kind, version. */")
    for name, version, per_thread, symbol in sorted(rows):
        print(f"RESOLVE({name}, {version}, {int(per_thread)}, {symbol})")


main()
