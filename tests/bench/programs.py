#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""malloc-heavy programs under libberth-malloc.so, against LD_PRELOAD=libjemalloc.so.2.

usage: programs.py BERTH LIBBERTH_MALLOC [ROUNDS]

Berth runs with a policy whose rules start at 64 KiB. Tells user time (medians of interleaved turns)
and instructions (callgrind, one run each), with ratios. Goal: both within 1.05.
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


def main(berth, library, rounds="9"):
    jemalloc = il.need(il.JEMALLOC, "jemalloc")
    valgrind = bool(il.shutil.which("valgrind"))
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/p.policy", "w", encoding="utf-8") as policy:
            policy.write(POLICY.replace("@DIR@", folder))
        subprocess.run([berth, "policy", "compile", folder + "/p.policy", "-o", folder + "/table"],
                       check=True, stdout=subprocess.DEVNULL)
        variants = {
            "libjemalloc.so.2": il.preload(jemalloc, PYTHONMALLOC="malloc"),
            "libberth-malloc.so": il.preload(library, PYTHONMALLOC="malloc",
                                             BERTH_POLICY=folder + "/table"),
        }
        programs = {
            "sqlite3 :memory:": lambda n: ([il.need("sqlite3", "sqlite"), ":memory:"],
                                           SQL.format(rows=n * 20000).encode()),
            "python3 PYTHONMALLOC=malloc": lambda n: ([il.need("python3", "python"), "-c",
                                                       PYTHON.format(loops=n)], None),
        }
        for name, make in programs.items():
            command, stdin = make(5)
            medians = il.interleaved(
                {v: (lambda e=e: il.once(command, e, stdin)[0]) for v, e in variants.items()},
                int(rounds))
            il.table(f"{name}, user time", medians, "libjemalloc.so.2", "s")
            if valgrind:
                command, stdin = make(1)
                counts = {v: il.instructions(command, e, stdin) for v, e in variants.items()}
                il.table(f"{name}, instructions", counts, "libjemalloc.so.2", "instructions")
            else:
                print("instructions are not told: valgrind is not here")


if __name__ == "__main__":
    main(*sys.argv[1:])
