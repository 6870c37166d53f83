#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A judgement of the classifier costs in proportion to the blocks that are alive, and somewhat more
because they are sorted: counted in instructions, by callgrind. Where blocks are compared with each
other, a pair costs little.

usage: classifier_work.py PROGRAM

Exits 77 where valgrind is not installed, or cannot run the program.
"""

import re
import shutil
import subprocess
import sys
import tempfile

FEW, TIMES = 400, 4
# So much more for so many times as many blocks; it was 6.2 when each was compared to all.
MOST = 1.4 * TIMES
# For each pair that is compared, with all else; it was 1200 when their words were.
PAIR = 250


def count(program, way, blocks, function="berth__classifier_refresh"):
    """Instructions of the function, by default of the judgements that were asked for; None where
    nothing can be counted."""
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out.name,
             "--toggle-collect=" + function, program, way, str(blocks)],
            capture_output=True, text=True, timeout=240, check=False)
        if done.returncode != 0:
            print(done.stderr)
            return None
        with open(out.name, encoding="utf-8") as file:
            return int(re.search(r"^(?:summary|totals): (\d+)", file.read(), re.M)[1])


def main(program):
    if not shutil.which("valgrind"):
        print("valgrind is not installed")
        return 77
    for way in ("steps", "quiet"):
        few = count(program, way, FEW)
        if few is None:
            print("valgrind does not run the program")
            return 77
        many = count(program, way, FEW * TIMES)
        print(f"{way}: {few} for {FEW} blocks, {many} for {FEW * TIMES}")
        assert few > 0 and many <= few * MOST, way
    compared = count(program, "folded", FEW * TIMES, "berth__class_verdict")
    pairs = (FEW * TIMES // 2) ** 2
    print(f"folded: {compared} for {pairs} pairs")
    assert 0 < compared <= PAIR * pairs
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
