#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up the test logs of several build folders.

usage: tests/summary.py BUILD...

Prints how long the tests in virtual machines took, each failed and each skipped test with what it
said, then one closing line, "N passed, N failed, N skipped". Exits 1 if a test failed or none ran. A test that tells its cases
in the Test Anything Protocol counts as that many tests.
"""

import json
import pathlib
import re
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
    return PLAN.sub("", lines[-1].strip()) if lines else "no reason given"


CASE = re.compile(r"(not )?ok\s+\d+\s+-\s+(.*?)(?:\s+#\s*SKIP\s*(.*))?$", re.I)
PLAN = re.compile(r"^1\.\.\d+(?:\s+#\s*SKIP\s*)?", re.M | re.I)


def verdict(result):
    """passed, failed or skipped, by what meson says of the whole test."""
    if result["result"] in PASSED:
        return "passed"
    return "skipped" if result["result"] in SKIPPED else "failed"


def cases(result):
    """(kind, name, text) of each case of a test; of the test itself where it tells none, or failed
    without a case that did."""
    told = result.get("stdout") or ""
    found = [CASE.match(line) for line in told.splitlines()] if PLAN.search(told) else []
    kinds = set()
    for case in filter(None, found):
        failed, name, skipped = case.groups()
        kind = "failed" if failed else "passed" if skipped is None else "skipped"
        kinds.add(kind)
        yield kind, f"{result['name']}: {name}", skipped or "not ok"
    kind = verdict(result)
    if not kinds or (kind == "failed" and "failed" not in kinds):
        yield kind, result["name"], reason(result) if kind == "skipped" else result["result"]


def machines_took(tests):
    """From the start of the first test in a virtual machine to the end of the last one."""
    spans = [(test["starttime"], test["starttime"] + test["duration"]) for test in tests
             if re.search(r"(^|/ |:)vm-", test["name"]) and verdict(test) != "skipped"]
    return max(end for _, end in spans) - min(start for start, _ in spans) if spans else 0


def main(builds):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for build in builds:
        tests = results(build)
        if machines_took(tests):
            print(f"tests in virtual machines took {machines_took(tests):.0f} s")
        for result in tests:
            for kind, name, text in cases(result):
                counts[kind] += 1
                if kind == "skipped":
                    print(f"skipped  {pathlib.Path(build).name}: {name}: {text}")
                elif kind == "failed":
                    print(f"FAILED   {pathlib.Path(build).name}: {name}: {text}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
