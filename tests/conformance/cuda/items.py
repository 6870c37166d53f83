#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs one item of the checklist natively and under Berth, in each of its variants, and compares.

Output, exit status and standard error must be the same; a line of Berth's own on standard error is
accepted where libberth(7) promises it. One line for each variant is printed.

Usage: items.py [--berth BERTH] [--malloc LIBBERTH_MALLOC] [-e NAME=VALUE]... [--jobs N] \
[--timeout SECONDS] [--older] [--variant NAME]... DRIVER_DIR LIBBERTH PROGRAM ITEM...
       with no ITEM: all that the program lists

With --jobs, items run at the same time, but for those that look at or need all of the device's
memory; what is not the same then is run again by itself, and that counts. A process that takes
longer than the timeout is ended, and is a difference. With --older, an item for which the program
needs functions that the driver lacks is left out, and one may fail, as natively.
"""
import argparse
import concurrent.futures
import difflib
import os
import re
import subprocess
import sys
import tempfile

# Two tiers of device memory, one of them small, tags by size, and a rule that a request can leave.
POLICY = """
tier few {
  kind = device
  capacity = 12M
}
rule small {
  tag = activation
  side = device
  max-size = 512K
  place = device
}
rule weights {
  tag = weight
  side = device
  min-size = 512K
  place = { few, device }
}
"""

# name: (options, with a policy, with the malloc side)
VARIANTS = {
    "default": ("", False, False),
    "own segments": ("ipc-min=0", False, False),
    "small segments": ("ipc-min=64K,segment-size=2M", False, False),
    "lazy": ("free=lazy", False, False),
    "shared segments": ("segments=shared", False, False),
    "expandable segments": ("segments=expandable", False, False),
    "expandable, lazy, policy": ("segments=expandable,free=lazy", True, False),
    "policy": ("", True, False),
    "lazy, own segments, policy": ("free=lazy,ipc-min=0", True, False),
    "both libraries": ("", False, True),
}

# What one line on standard error may say, by item.
SAID = {
    "item_22": re.compile(r"^berth.*an IPC handle of a block .* was asked for and refused"),
}


# What libberth(7) says to differ altogether under an option, by item.
STATED = {
    "item_11": ("free=lazy",),
    # No block that shares a segment has a legacy IPC handle.
    "item_22": ("segments=",),
    "item_23": ("segments=",),
    "item_24": ("segments=",),
    "item_25": ("segments=",),
    "item_26": ("segments=",),
    "item_43": ("segments=",),
    "item_47": ("segments=",),
}


# What looks at the device's free memory, or takes all of it: other processes would be in its way.
ALONE = ("item_04", "item_05", "item_20", "item_28", "item_29", "item_31", "item_35", "item_37",
         "item_44", "item_47")


class Runner:
    def __init__(self, options, directory):
        self.options = options
        self.policy = None
        if options.berth:
            text = os.path.join(directory, "policy")
            self.policy = os.path.join(directory, "table")
            with open(text, "w", encoding="ascii") as file:
                file.write(POLICY)
            subprocess.run([options.berth, "policy", "compile", text, "-o", self.policy],
                           check=True, capture_output=True, timeout=60)

    def run(self, item, variant):
        """(stdout, stderr, status); `variant` None: natively."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
        env["LD_LIBRARY_PATH"] = self.options.driver_dir
        env["XDG_RUNTIME_DIR"] = "/nonexistent"
        env.update(pair.split("=", 1) for pair in self.options.e)
        if variant:
            options, policy, both = VARIANTS[variant]
            preload = [os.path.abspath(self.options.libberth)]
            if both:
                preload.insert(0, os.path.abspath(self.options.malloc))
            env["LD_PRELOAD"] = " ".join(preload)
            env["BERTH_OPTIONS"] = options
            if policy:
                env["BERTH_POLICY"] = self.policy
        try:
            done = subprocess.run([self.options.program, item], env=env, capture_output=True,
                                  text=True, timeout=self.options.timeout, check=False)
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"").decode(errors="replace")
            return said, f"ended after {self.options.timeout} seconds", -1
        return done.stdout, done.stderr, done.returncode

    def variants(self, item):
        stated = STATED.get(item[:7], ())
        return [name for name, (options, policy, both) in VARIANTS.items()
                if name in (self.options.variant or VARIANTS)
                and (not policy or self.policy) and (not both or self.options.malloc)
                and not any(word in options for word in stated)]


def differences(item, native, berth):
    wrong = list(difflib.unified_diff(native[0].splitlines(), berth[0].splitlines(),
                                      "native", "berth", lineterm=""))
    if native[2] != berth[2]:
        wrong.append(f"status: native {native[2]}, berth {berth[2]}")
    accepted = SAID.get(item[:7])
    said = [line for line in berth[1].splitlines() if not (accepted and accepted.search(line))]
    if said != native[1].splitlines():
        wrong += ["standard error: native:", native[1], "berth:", *said]
    return wrong


def check(runner, item):
    """The variants in which the item was not as natively, and the lines that say so.

    None instead of the variants: it was left out."""
    native = runner.run(item, None)
    bad, lines = [], []
    if runner.options.older and "symbol lookup error" in native[1]:
        return None, [f"{item}: left out: " + native[1].strip().split("\n")[-1]]
    if native[2] != 0 and not runner.options.older:
        lines.append(f"{item}: FAIL natively: status {native[2]}\n{native[0]}{native[1]}")
        bad.append("native")
    for variant in runner.variants(item):
        wrong = differences(item, native, runner.run(item, variant))
        lines.append(f"{item}: {'DIFFERENT' if wrong else 'same'}: {variant}")
        lines += ["    " + line for line in wrong]
        if wrong:
            bad.append(variant)
    return bad, lines


def check_all(runner, items, jobs):
    """{item: the variants in which it was not as natively}, and how many items were left out"""
    bad, alone, left_out = {}, items, 0
    if jobs > 1:
        together = [item for item in items if item[:7] not in ALONE]
        alone = [item for item in items if item[:7] in ALONE]
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            running = {pool.submit(check, runner, item): item for item in together}
            # As they end: one that hangs keeps nobody from seeing the others.
            for done in concurrent.futures.as_completed(running):
                wrong, lines = done.result()
                left_out += wrong is None
                if wrong:
                    alone.append(running[done])
                else:
                    print("\n".join(lines), flush=True)
    for item in alone:
        wrong, lines = check(runner, item)
        left_out += wrong is None
        print("\n".join(lines), flush=True)
        if wrong:
            bad[item] = wrong
    return bad, left_out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--berth")
    parser.add_argument("--malloc")
    parser.add_argument("-e", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=int, default=240)
    parser.add_argument("--older", action="store_true")
    parser.add_argument("--variant", action="append", choices=VARIANTS)
    parser.add_argument("driver_dir")
    parser.add_argument("libberth")
    parser.add_argument("program")
    parser.add_argument("items", nargs="*")
    options = parser.parse_args()
    items = options.items
    if not items:
        items = subprocess.run([options.program, "--list"], capture_output=True, text=True,
                               check=True, timeout=60,
                               env=dict(os.environ, LD_LIBRARY_PATH=options.driver_dir)
                               ).stdout.split()
    with tempfile.TemporaryDirectory() as directory:
        runner = Runner(options, directory)
        bad, left_out = check_all(runner, items, options.jobs)
    if len(items) > 1:
        print(f"{len(items) - len(bad) - left_out} items as natively, {left_out} left out, "
              f"{len(bad)} not", *sorted(bad))
    # A program of which no item can run on the driver shows nothing.
    return 1 if bad or left_out * 2 > len(items) else 0


if __name__ == "__main__":
    sys.exit(main())
