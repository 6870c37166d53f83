#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Finding 8 in figures: what a C++ exception costs is unchanged, the first one and all others.

Counted are instructions, by callgrind, of the program's throwing alone; natively and under Berth:
without call paths, with those of large blocks, which were read before, and with those of all
blocks, the exceptions' own among them. What the unwinder of exceptions (libgcc_s) does has to
be the same to the instruction, and the C++ library must not do more; besides there is only the
allocator, and the dynamic linker, which has one library more to look for names in.

usage: throw_cost.py LIBRARY PROGRAM

Exits 77 where valgrind is not installed, or cannot run the program alone.
"""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile

THROWS = 50
SETTINGS = {"no call paths": {},
            "call paths of large blocks": {"BERTH_OPTIONS": "sites=always"},
            "call paths of all": {"BERTH_OPTIONS": "sites=always,record-threshold=1"}}
# Those read paths; whatever unwinds by them must not be asked by an exception.
OWN_UNWINDING = re.compile(r"_Unwind|unw_|unwind|frame_walk|frame_rule|berth__callsite")
NAME = re.compile(r"\((\d+)\)(?: (.*))?$")
COST = re.compile(r"[+*\-\d][\d+\-*]* (\d+)$")


def costs(path):
    """Instructions by (library's name, function)."""
    names = {"ob": {}, "fn": {}}
    found = collections.Counter()
    where = {"ob": "", "fn": ""}
    is_call = False
    with open(path, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.rstrip("\n").partition("=")
            if key in ("ob", "cob", "fn", "cfn"):
                kind = key[-2:]
                number, name = NAME.match(value).groups()
                if name is not None:
                    names[kind][number] = name
                if key in where:
                    where[key] = names[kind][number]
            elif key == "calls":
                is_call = True  # the next line's cost is what was called
            elif COST.match(line):
                if not is_call:
                    found[os.path.basename(where["ob"]), where["fn"]] += \
                        int(COST.match(line)[1])
                is_call = False
    return found


def count(program, function, times, environment):
    """What the program prints, and costs() of one of its functions; None where that cannot be."""
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out.name,
             "--toggle-collect=" + function, program, str(times)], capture_output=True, text=True,
            env={**os.environ, **environment}, timeout=240, check=False)
        if done.returncode != 0:
            print(done.stderr)
            return None
        return done.stdout.split(), costs(out.name)


def in_library(cost, part):
    return sum(n for (library, _), n in cost.items() if part in library)


def in_function(cost, name):
    return sum(n for (_, function), n in cost.items() if function.split("'")[0] == name)


def check(what, one, other, more):
    """`other` is not above `one` by more than that share."""
    print(f"  {what}: {one} natively, {other} under Berth")
    assert 0 < one and other <= one * (1 + more), what


def compare(native, under, times):
    for library in ("libgcc_s", "libstdc++"):
        one, other = in_library(native, library), in_library(under, library)
        check(f"{library}, {times} thrown", one, other, 0)
        # The C++ library's own operator new is not asked.
        assert one == other or library == "libstdc++", library
    check("finding a function's rules (_Unwind_Find_FDE)", in_function(native, "_Unwind_Find_FDE"),
          in_function(under, "_Unwind_Find_FDE"), 0)


def compare_all(native, under):
    """Without call paths: the allocator's part included."""
    one = (sum(native[THROWS].values()) - sum(native[1].values())) // (THROWS - 1)
    other = (sum(under[THROWS].values()) - sum(under[1].values())) // (THROWS - 1)
    check("one of many", one, other, 0.01)
    # The first one has to find names, for which a library more is searched, and the first blocks.
    check("the first", sum(native[1].values()), sum(under[1].values()), 0.2)
    # One library more to find it among: a step of a binary search.
    check("finding its library (_dl_find_object)", in_function(native[THROWS], "_dl_find_object"),
          in_function(under[THROWS], "_dl_find_object"), 0.1)
    for times in (1, THROWS):
        for library, function in under[times]:
            assert "libunwind" not in library, library
            assert not ("berth" in library and OWN_UNWINDING.search(function)), function


def compare_walk(native, under):
    """The list of modules, by dl_iterate_phdr(): as much for each."""
    (one_said, one), (other_said, other) = native, under
    check("dl_iterate_phdr(), for each module", sum(one.values()) // int(one_said[1]),
          sum(other.values()) // int(other_said[1]), 0)


def main(library, program):
    if not shutil.which("valgrind"):
        print("valgrind is not installed")
        sys.exit(77)
    if count(program, "main", 1, {}) is None:
        print("valgrind does not run the program alone")
        sys.exit(77)
    native = {times: count(program, "throw_some", times, {})[1] for times in (1, THROWS)}
    walk = count(program, "visit_modules", THROWS, {})
    for name, settings in SETTINGS.items():
        print(name)
        environment = {"LD_PRELOAD": library, "BERTH_CONTROL": "never", **settings}
        under = {times: count(program, "throw_some", times, environment)[1]
                 for times in (1, THROWS)}
        for times in (1, THROWS):
            compare(native[times], under[times], times)
        if "record-threshold" not in settings.get("BERTH_OPTIONS", ""):
            compare_all(native, under)
            compare_walk(walk, count(program, "visit_modules", THROWS, environment))


main(*sys.argv[1:])
