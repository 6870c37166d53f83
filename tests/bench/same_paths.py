#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How often call paths by frame rules are those that libunwind tells, in programs of every kind.

usage: same_paths.py LIBRARY

Runs those of the programs below that are installed under same_paths.c's library, and prints for
each the stacks that were read, the paths that were equal and unequal, and those that were left to
libunwind: of frames without tables, which just-in-time compilers make, and of signals. Unequal
paths are a failure.
"""
import collections
import os
import shutil
import subprocess
import sys
import tempfile

CPP = """
#include <map>
#include <regex>
#include <string>
#include <vector>
int main()
{
    std::map<std::string, std::vector<int>> m;
    int thrown = 0;
    for (int i = 0; i < 50000; i++)
        m[std::to_string(i % 997)].push_back(i);
    for (int i = 0; i < 2000; i++)
        try { std::regex r(i % 2 ? "(" : "a+b*"); } catch (const std::exception &) { thrown++; }
    return thrown != 1000;
}
"""

JAVA = """
public class T {
    public static void main(String[] a) {
        var list = new java.util.ArrayList<Object>();
        for (int i = 0; i < 500000; i++) list.add(new int[i % 50]);
        var d = new java.util.zip.Deflater();
        d.setInput(new byte[100000]);
    }
}
"""

PYTHON = """
import json, re, sqlite3
data = [{str(i): [i] * 3} for i in range(20000)]
assert json.loads(json.dumps(data)) == data
db = sqlite3.connect(":memory:")
db.execute("create table t(a)")
db.executemany("insert into t values(?)", ((i,) for i in range(20000)))
"""

NODE = """
const zlib = require("zlib");
let kept = [];
for (let i = 0; i < 100000; i++) kept.push(Buffer.alloc(100).toString("hex"));
for (let i = 0; i < 200; i++) zlib.gzipSync(Buffer.alloc(100000, i));
"""

SQL = ("with recursive c(x) as (select 1 union all select x + 1 from c where x < 200000) "
       "select count(*), sum(length(hex(x))) from c;")

PROGRAMS = [
    ["perl", "-e", 'my %h; $h{$_} = "x$_" for 1..200000;'],
    ["python3", "-c", PYTHON],
    ["ruby", "-e", 'a = (1..100000).map { |i| "s#{i}" * 20 }'],
    ["php", "-r", '$a = []; for ($i = 0; $i < 100000; $i++) $a[] = str_repeat("x", $i % 9000);'],
    ["node", "-e", NODE],
    ["java", "T.java"],
    ["Rscript", "-e", "x <- lapply(1:20000, function(i) rnorm(i %% 500)); lm(mpg ~ ., mtcars)"],
    ["sqlite3", ":memory:", SQL],
    ["gdb", "-batch", "-ex", "info functions main", sys.executable],
    ["g++", "-O2", "-o", "thrower", "t.cpp"],
    ["./thrower"],
]


def main(library):
    counts = collections.defaultdict(lambda: [0] * 4)
    with tempfile.TemporaryDirectory() as folder:
        told = os.path.join(folder, "told")
        for name, text in (("t.cpp", CPP), ("T.java", JAVA)):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        for argv in PROGRAMS:
            if not shutil.which(os.path.join(folder, argv[0])) and not shutil.which(argv[0]):
                print(f"not run, because it is not installed: {argv[0]}")
                continue
            subprocess.run(argv, cwd=folder, timeout=300, check=True, stdout=subprocess.DEVNULL,
                           env=dict(os.environ, LD_PRELOAD=os.path.abspath(library),
                                    SAME_PATHS=told))
        with open(told, encoding="utf-8") as file:
            for line in file:
                program, *numbers = line.rstrip("\n").split("\t")
                row = counts[os.path.basename(program)]
                row[:] = [a + int(b) for a, b in zip(row, numbers)]
    print(f"{'program':24}{'stacks':>10}{'equal':>10}{'unequal':>10}{'left':>10}")
    for program, row in counts.items():
        if row[0] >= 100:
            print(f"{program:24}" + "".join(f"{n:10}" for n in row))
    total = [sum(column) for column in zip(*counts.values())]
    print(f"{'all':24}" + "".join(f"{n:10}" for n in total))
    print(f"equal: {total[1] / max(total[0] - total[3], 1):.6f} of those that frame rules told, "
          f"which were {1 - total[3] / max(total[0], 1):.3f} of all")
    return 1 if total[2] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
