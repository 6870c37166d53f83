# SPDX-License-Identifier: Apache-2.0
"""Goal: `site` sections of a policy tag blocks by the path of calls that asked for them.

Method: a program allocates through the wrappers of a stripped library, called from two functions of
another one; it prints what berth_describe() tells, which is compared with each policy's meaning.
Arguments: berth, the program.
"""
import ctypes.util
import subprocess
import sys
import tempfile

SKIPPED = 77

TIER = 'tier far {{\n  kind = file\n  path = "{dir}"\n}}\n'
RULE = "rule cold {\n  tag = weight\n  min-size = 64K\n  place = { far, dram }\n}\n"


def site(name, path, tag):
    return f'site {name} {{\n  path = "{path}"\n  tag = {tag}\n  min-size = 64K\n}}\n'


BOTH = {"load": "weight far cold", "forward": "activation dram", "direct": "untagged dram",
        "wrapper": "untagged dram", "small load": "not described", "pushed load": "kv dram",
        "untagged load": "weight far cold", "thread load": "weight far cold",
        "thread forward": "activation dram", "child load": "weight far cold",
        "child forward": "activation dram"}
NEITHER = {"load": "untagged dram", "forward": "untagged dram", "thread load": "untagged dram",
           "child forward": "untagged dram"}

CASES = [
    ("functions by name, through a stripped library",
     site("w", "libsite_buffer.so > ** > libsite_model.so!model_load", "weight")
     + site("a", "libsite_buffer.so > ** > libsite_model.so!model_forward", "activation"), BOTH),
    ("stars within names",
     site("w", "libsite_b*.so > ** > *_model.so!*_load", "weight")
     + site("a", "** > *!model_forw* > **", "activation"), BOTH),
    ("the first section that matches decides",
     site("w", "** > *!model_load", "weight") + site("a", "** > libsite_model.so", "activation"),
     BOTH),
    ("every frame, counted",
     site("w", "libsite_buffer.so > libsite_buffer.so > libsite_buffer.so!buffer_new > "
               "libsite_model.so > libsite_model.so!model_load > site_program > **", "weight")
     + site("a", "* > * > * > * > *!model_forward", "activation"), BOTH),
    ("one frame too few",
     site("w", "libsite_buffer.so > libsite_buffer.so!buffer_new > ** > *!model_load", "weight"),
     NEITHER),
    ("a name that the stripped library does not have",
     site("w", "libsite_buffer.so!buffer_raw > **", "weight"), NEITHER),
    ("the innermost frame alone", site("w", "site_program", "weight"),
     {**NEITHER, "direct": "weight far cold"}),
    # Of a small block the path is its return address alone.
    ("small blocks by their innermost frame",
     'site s {\n  path = "libsite_buffer.so"\n  tag = weight\n  max-size = 4K\n}\n'
     "rule small {\n  tag = weight\n  max-size = 4K\n  place = { far, dram }\n}\n",
     {**NEITHER, "small load": "weight far small", "tiny load": "weight far small"}),
    ("small blocks of a tagged thread, by a call that none was placed of before",
     site("w", "no_such_module", "weight").replace("64K", "1")
     + "rule small {\n  tag = kv\n  max-size = 4K\n  place = { far, dram }\n}\n",
     {**NEITHER, "small load": "not described", "small pushed load": "kv far small",
      "tiny pushed load": "kv far small", "small popped load": "not described"}),
    ("small blocks of other modules, and paths of more frames, are not looked at",
     'site s {\n  path = "site_program"\n  tag = weight\n  max-size = 4K\n}\n'
     + 'site t {\n  path = "** > *!model_load"\n  tag = weight\n  max-size = 4K\n}\n'
     "rule small {\n  tag = weight\n  max-size = 4K\n  place = { far, dram }\n}\n",
     {**NEITHER, "small load": "not described"}),
    ("a depth that ends before the telling frame",
     site("w", "** > *!model_load", "weight") + "options {\n  site-depth = 3\n}\n", NEITHER),
]


def run(berth, program, policy, directory):
    path = f"{directory}/site.policy"
    with open(path, "w", encoding="ascii") as file:
        file.write(policy)
    done = subprocess.run([berth, "run", "--policy", path, "--", program], capture_output=True,
                          text=True, timeout=60, check=False)
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    return done, lines


def main(berth, program):
    if not ctypes.util.find_library("unwind"):
        print("skipped: libunwind.so.8 is not installed")
        return SKIPPED
    failures = 0
    for what, sites, expected in CASES:
        with tempfile.TemporaryDirectory() as directory:
            done, lines = run(berth, program, TIER.format(dir=directory) + sites + RULE, directory)
        wrong = [f"{key}: '{lines.get(key, '').strip()}' instead of '{value}'"
                 for key, value in expected.items() if lines.get(key, "").strip() != value]
        if done.returncode != 0 or done.stderr:
            wrong.append(f"exit {done.returncode}, {done.stderr.strip()}")
        print("ok" if not wrong else "FAILED", "-", what)
        for line in wrong:
            print("   ", line)
        failures += bool(wrong)
    return 1 if failures else 0


sys.exit(main(*sys.argv[1:]))
