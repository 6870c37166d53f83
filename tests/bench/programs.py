#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""malloc-heavy programs under libberth-malloc.so, against LD_PRELOAD=libjemalloc.so.2.

usage: programs.py BERTH LIBBERTH_MALLOC NUMBER_CHURN [ROUNDS] [PROGRAM]...

Berth runs in three ways: with a policy of which no rule can match a small block (goal: within 1.03);
with one that has every call looked at by its return address, of which none is placed (1.05); and
with the first and call paths read from 64 KiB on (1.10). Tells user time (medians of interleaved
turns; ROUNDS 0: none) and instructions (callgrind, one run each), with ratios.
"""

import subprocess
import sys
import tempfile

import interleave as il

POLICY = """
tier far { kind = file  path = "@DIR@" }
rule weights { tag = weight  min-size = 64K  place = { far, dram } }
rule kv { tag = kv  min-size = 64K  place = { dram } }
"""

# Names every function that allocates, and matches none.
LOOKED_AT = POLICY + """
site none { path = "*!no_such_function" tag = activation }
rule none { tag = activation place = { dram } }
"""

SQL = """
create table t(a integer primary key, b text, c blob);
with recursive n(i) as (select 1 union all select i+1 from n where i < {rows})
insert into t select i, printf('row-%08d-%s', (i*7919)%60013, hex(zeroblob(i%40))), zeroblob(i%700) from n;
create index tb on t(b);
select count(*), min(b), max(b) from t;
select length(group_concat(b, ',')) from (select b from t order by b desc);
delete from t where a % 3 = 0;
select sum(a), count(distinct b) from t;
"""

PYTHON = """
import json
for _ in range({loops}):
    data = [{{"k%d" % i: list(range(i % 50)), "s": "x" * (i % 300)}} for i in range(6000)]
    assert json.loads(json.dumps(data)) == data
    d = {{}}
    for i in range(40000):
        d[str(i)] = (i, str(i * 7))
    del d
"""


CPP = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <unordered_map>
#include <vector>
int main() { std::map<std::string, std::vector<int>> m; std::regex r("a*b"); m["x"].push_back(1);
  std::cout << m.size() << std::regex_match("ab", r); }
"""


def programs(churn, folder):
    """Each program: how to run `n` times as much of it, and the counts for time and callgrind."""
    repository = folder + "/repository"
    git = il.shutil.which("git")
    gxx = il.shutil.which("g++")
    result = {
        "number churn": (lambda n: ([churn, str(n * 20000)], None), 5, 1),
        "sqlite3 :memory:": (lambda n: ([il.need("sqlite3", "sqlite"), ":memory:"],
                                        SQL.format(rows=n * 20000).encode()), 5, 1),
        "python3 PYTHONMALLOC=malloc": (lambda n: ([il.need("python3", "python"), "-c",
                                                    PYTHON.format(loops=n)], None), 5, 1),
    }
    if gxx:
        with open(folder + "/program.cpp", "w", encoding="utf-8") as source:
            source.write(CPP)
        # The compiler proper, without the driver: callgrind follows no children.
        subprocess.run([gxx, "-E", folder + "/program.cpp", "-o", folder + "/program.ii"],
                       check=True)
        compiler = subprocess.run([gxx, "-print-prog-name=cc1plus"], check=True,
                                  stdout=subprocess.PIPE, text=True).stdout.strip()
        result["g++ (cc1plus)"] = (lambda n: ([compiler, "-quiet", "-fpreprocessed",
                                               folder + "/program.ii", "-o", "/dev/null"], None), 1, 1)
    if git:
        subprocess.run([git, "init", "-q", repository], check=True)
        for i in range(300):
            with open(f"{repository}/file{i}", "w", encoding="utf-8") as file:
                file.write(f"line {i}\n" * (i + 1))
        quiet = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "gc.auto=0"]
        subprocess.run([git, "-C", repository, "add", "."], check=True)
        subprocess.run([git, "-C", repository, *quiet, "commit", "-qm", "x"], check=True)
        result["git"] = (lambda n: ([git, "-C", repository, "log", "-p"], None), 1, 1)
    return result


def main(berth, library, churn, rounds="9", *chosen):
    jemalloc = il.need(il.JEMALLOC, "jemalloc")
    valgrind = bool(il.shutil.which("valgrind"))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("p", POLICY), ("looked", LOOKED_AT)):
            with open(f"{folder}/{name}.policy", "w", encoding="utf-8") as policy:
                policy.write(text.replace("@DIR@", folder))
            subprocess.run([berth, "policy", "compile", f"{folder}/{name}.policy", "-o",
                            f"{folder}/{name}.table"], check=True, stdout=subprocess.DEVNULL)
        variants = {
            "libjemalloc.so.2": il.preload(jemalloc, PYTHONMALLOC="malloc", PYTHONHASHSEED="0"),
            "no rule can match": il.preload(library, PYTHONMALLOC="malloc", PYTHONHASHSEED="0",
                                            BERTH_POLICY=folder + "/p.table"),
            "return addresses looked at": il.preload(library, PYTHONMALLOC="malloc", PYTHONHASHSEED="0",
                                                     BERTH_POLICY=folder + "/looked.table"),
            "call paths from 64 KiB": il.preload(library, PYTHONMALLOC="malloc", PYTHONHASHSEED="0",
                                                 BERTH_POLICY=folder + "/p.table",
                                                 BERTH_OPTIONS="sites=always"),
        }
        for name, (make, more, less) in programs(churn, folder).items():
            if chosen and name.split()[0] not in chosen:
                continue
            if int(rounds) > 0:
                command, stdin = make(more)
                medians = il.interleaved(
                    {v: (lambda e=e: il.once(command, e, stdin)[0]) for v, e in variants.items()},
                    int(rounds))
                il.table(f"{name}, user time", medians, "libjemalloc.so.2", "s")
            if valgrind:
                command, stdin = make(less)
                counts = {v: il.instructions(command, e, stdin) for v, e in variants.items()}
                il.table(f"{name}, instructions", counts, "libjemalloc.so.2", "instructions")
            else:
                print("instructions are not told: valgrind is not here")


if __name__ == "__main__":
    main(*sys.argv[1:])
