#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each of the fifty items of the checklist is the name of a check, or stated in libberth(7).

The statements are the entries `.TP` / `.B NUMBER...` of the section WHERE BERTH DIFFERS FROM THE
DRIVER. Usage: checklist.py PROGRAM PAGE
"""
import re
import subprocess
import sys

ITEMS = range(1, 51)
SECTION = ".SH WHERE BERTH DIFFERS FROM THE DRIVER"


def stated(page):
    with open(page, encoding="utf-8") as file:
        text = file.read()
    if SECTION not in text:
        raise SystemExit(f"{page}: no section {SECTION!r}")
    section = text.split(SECTION, 1)[1].split("\n.SH ", 1)[0]
    numbers = set()
    for heading in re.findall(r"^\.TP\n\.B \"?((?:\d+(?:, | and )?)+)", section, re.MULTILINE):
        numbers.update(int(number) for number in re.findall(r"\d+", heading))
    return numbers


def main():
    program, page = sys.argv[1:]
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True,
                           timeout=60).stdout.split()
    checked = {int(match[1]) for name in names if (match := re.match(r"item_(\d\d)_", name))}
    said = stated(page)
    missing = [item for item in ITEMS if item not in checked | said]
    unknown = sorted((checked | said) - set(ITEMS))
    print(f"{len(checked)} items have a check, {len(said)} are stated, missing: {missing}, "
          f"unknown: {unknown}, only stated: {sorted(said - checked)}")
    return 1 if missing or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
