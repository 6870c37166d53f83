#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the headers of the rooms, a line each, as seen from the root that is given.

A new header is tested without being named anywhere.
"""
import pathlib
import sys

ROOMS = ["alloc", "hooks", "ipc", "pmem", "tools"]
# Included once for each kind of vector, which the includer defines.
TEMPLATES = {"tools/infer/kernels_vector.h"}


def main():
    root = pathlib.Path(sys.argv[1])
    for room in ROOMS:
        for header in sorted((root / room).rglob("*.h")):
            name = header.relative_to(root).as_posix()
            if name not in TEMPLATES:
                print(name)


if __name__ == "__main__":
    main()
