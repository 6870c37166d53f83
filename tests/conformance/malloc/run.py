#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the malloc checks in one mode.

native    without Berth: shows that the expectations are the C library's
plain     preloaded, nothing is looked at one by one
dram      preloaded, every block is recorded, in DRAM
sites     preloaded, the call path of every block from 1 KiB on is taken; some have a rule
sampled   preloaded, every block is a sample, or recorded
far       preloaded, every block goes to the first tier that is given
movable   the same, and those that are large enough may move
mixed     preloaded, blocks from 4 KiB on go to that tier, the others stay
tagged    preloaded, every block tagged weight goes to that tier
capacity  preloaded, every block is meant for that tier, which holds 1 MiB, so most spill
random    preloaded, rules drawn at random send blocks to all tiers that are given, to one of little
          capacity, and to DRAM, by their size and by their number in the thread's sequence

A tier is file:DIRECTORY, numa:NODES, dax:DEVICE or dram:, and then +KEY=VALUE for what else its
section says; without one, it is a file on tmpfs. A tier that this machine does not serve makes the
run exit 77.

With --sample N, of what is neither placed nor recorded one block in N bytes is a sample.

usage: run.py MODE PROGRAM [LIBRARY [BERTH]] [--tier TIER]... [--seed N] [--sample N]
              [--print-policy]
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile

WITHOUT_POLICY = {"native", "plain", "dram", "sampled"}


def far_directory():
    for place in ("/dev/shm", tempfile.gettempdir()):
        if os.path.isdir(place) and os.access(place, os.W_OK):
            return place
    print("no directory for a file tier")
    sys.exit(77)


def tier_section(name, tier, capacity):
    kind, _, rest = tier.partition(":")
    where, *more = rest.split("+")
    if where == "TMP":
        where = tempfile.gettempdir()
    key = {"file": "path", "dax": "path", "numa": "nodes"}.get(kind)
    lines = [f"kind = {kind}"] + ([f'{key} = "{where}"'] if key else [])
    lines += [word.replace("=", " = ") for word in more]
    lines += [f"capacity = {capacity}"] if capacity else []
    return f"tier {name} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def file_capacity(tier):
    """A file has its space allocated; on tmpfs that is memory, which others need too."""
    kind, _, rest = tier.partition(":")
    where = rest.split("+")[0]
    if kind != "file":
        return ""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return "8G" if where == "TMP" and free > 32 << 30 else "2G"


def random_rules(seed, names):
    """Rules for pieces of the sizes and of the threads' sequences; no two runs of a seed differ."""
    draw = random.Random(seed)
    text = "options {\n  record-threshold = 0\n}\n"

    def places():
        count = draw.randint(1, 3)
        return "{ " + ", ".join(draw.sample(names, min(count, len(names)))) + " }"

    first = 0
    for i in range(12):
        last = first + draw.choice((1, 3, 10, 100, 1000))
        text += f"rule turn{i} {{\n  side = host\n  sequence = {first}-{last}\n"
        if draw.random() < 0.5:
            text += f"  min-size = {draw.choice((0, 16, 100, 4096, 65536))}\n"
        text += f"  place = {places()}\n}}\n"
        first = last + draw.randint(1, 50)
    cuts = sorted({0} | {int(2 ** draw.uniform(3, 24)) for _ in range(16)})
    for i, (low, high) in enumerate(zip(cuts, cuts[1:])):
        text += (f"rule size{i} {{\n  side = host\n  min-size = {low}\n  max-size = {high - 1}\n"
                 f"  place = {places()}\n}}\n")
    return text


def policy(mode, tiers, seed):
    if mode == "random":
        names = [f"far{i}" for i in range(len(tiers))]
        text = "".join(tier_section(n, t, file_capacity(t))
                       for n, t in zip(names, tiers))
        narrow = next((t for t in tiers if not t.startswith("dax")), None)
        if narrow:
            text += tier_section("narrow", narrow, "3M")
            names.append("narrow")
        return text + random_rules(seed, names + ["dram"])
    capacity = "1M" if mode == "capacity" else file_capacity(tiers[0])
    text = tier_section("far", tiers[0], capacity)
    if mode == "sites":
        text += ('options {\n  record-threshold = 1K\n}\n'
                 'site check {\n  path = "** > conform!main > **"\n  tag = weight\n}\n'
                 'site library {\n  path = "libconform_* > **"\n  tag = kv\n}\n')
    wants = {"tagged": "tag = weight", "sites": "tag = { weight, kv }",
             "movable": "movable = yes"}.get(mode, "")
    least = {"mixed": "4K", "sites": "1K"}.get(mode, "0")
    return text + (f"rule everything {{\n  side = host\n  {wants}\n  min-size = {least}\n"
                   f"  place = {{ far, dram }}\n}}\n")


def check_tiers(berth, table, library):
    """Exits 77 where one of the tiers cannot be had: its blocks would be in DRAM unnoticed."""
    done = subprocess.run(["/bin/true"], capture_output=True, text=True, check=False,
                          env=dict(os.environ, LD_PRELOAD=library, BERTH_POLICY=table,
                                   BERTH_CONTROL="never"))
    if done.stderr:
        print("a tier cannot be had:", done.stderr, end="")
        sys.exit(77)


def environment(args, scratch):
    env = dict(os.environ)
    # meson names the folders of all libraries; which ones are found without is part of the checks.
    env.pop("LD_LIBRARY_PATH", None)
    if args.mode == "native":
        return env
    library = os.path.abspath(args.library)
    env.update(LD_PRELOAD=library, BERTH_CONTROL="never")
    if args.sample:
        env["BERTH_OPTIONS"] = f"sites=always,site-sample={args.sample}"
        env["CHECK_SAMPLES"] = "1"
    elif args.mode in WITHOUT_POLICY:
        env["BERTH_OPTIONS"] = "record-threshold=" + ("1G" if args.mode == "plain" else "0")
    if args.mode in WITHOUT_POLICY:
        return env
    if not args.berth:
        print("the policy compiler is not there")
        sys.exit(77)
    source = os.path.join(scratch, "policy")
    with open(source, "w", encoding="utf-8") as f:
        f.write(policy(args.mode, args.tier, args.seed))
    table = os.path.join(scratch, "table")
    subprocess.run([args.berth, "policy", "compile", source, "-o", table], check=True)
    check_tiers(args.berth, table, library)
    env["BERTH_POLICY"] = table
    if args.mode == "random":
        env["CHECK_RANDOM"] = source
    if args.mode == "capacity":
        env["CHECK_SPILLS"] = "1"
    return env


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode")
    parser.add_argument("program", nargs="?")
    parser.add_argument("library", nargs="?")
    parser.add_argument("berth", nargs="?")
    parser.add_argument("--tier", action="append", default=[])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--print-policy", action="store_true")
    args = parser.parse_intermixed_args()
    args.tier = args.tier or ["file:" + far_directory()]
    if args.print_policy:
        print(policy(args.mode, args.tier, args.seed), end="")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        env = environment(args, scratch)
        result = subprocess.run([args.program], env=env, stdout=subprocess.PIPE, text=True,
                                check=False)
    print(result.stdout, end="")
    lines = result.stdout.splitlines()
    failed = [line for line in lines if line.startswith("FAILED ")]
    shown = args.mode + (f" (seed {args.seed})" if args.mode == "random" else "")
    print(f"{shown}: {len(failed)} failed")
    # A program that dies early must not pass for one that checked everything.
    ran = bool(lines) and lines[-1].endswith(" checks ran")
    return 1 if failed or result.returncode != 0 or not ran else 0


sys.exit(main())
