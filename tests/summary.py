#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up the test logs of several build folders.

usage: tests/summary.py BUILD...

Prints each failed and each skipped test with what it said, then one closing line,
"N passed, N failed, N skipped". Exits 1 if a test failed or none ran.
"""

import json
import pathlib
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


def results(build):
    """The newest result of each test of a build folder."""
    log = pathlib.Path(build) / "meson-logs" / "testlog.json"
    if not log.exists():
        return []
    with log.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def reason(result):
    """What a skipped test printed last."""
    text = (result.get("stdout") or "") + (result.get("stderr") or "")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"


def main(builds):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for build in builds:
        for result in results(build):
            name = f"{pathlib.Path(build).name}: {result['name']}"
            if result["result"] in PASSED:
                counts["passed"] += 1
            elif result["result"] in SKIPPED:
                counts["skipped"] += 1
                print(f"skipped  {name}: {reason(result)}")
            else:
                counts["failed"] += 1
                print(f"FAILED   {name}: {result['result']}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
