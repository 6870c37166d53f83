#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""malloc-heavy programs under libberth-malloc.so and its peers, against LD_PRELOAD=libjemalloc.so.2.

usage: programs.py BERTH LIBBERTH_MALLOC NUMBER_CHURN HANDOVER SHORT_THREADS MEASURE [ROUNDS]
                   [PROGRAM]... [--ways NAME,...] [--seconds S] [--alone] [--no-instructions]

Berth runs in four ways: with a policy of which no rule can match a small block (goal: within 1.03);
with one that has every call looked at by its return address, of which none is placed (1.05); with
the first and call paths read from 64 KiB on (1.10); and with that and samples of small blocks, one
in 512 KiB (1.10). The peers: the C library; mimalloc; memtier
with DRAM alone, and with half of its blocks in DRAM and half on a file. Those that are not installed
are left out. Tells user time, processor time (the kernel's with it: which of the two a tick falls
on is chance, the sum is not) and the peak of resident memory (interleaved turns; ROUNDS 0: none;
goal for memory: 1.05 and 4 MiB), page faults, and instructions (callgrind, one run each), with
ratios. Those of time and faults are medians of each turn's own ratio, with the two values between
which the median lies with 95 %; Berth and its peers are over the mean of the turn's two runs of
jemalloc. Its second run is over its first: by how much that differs from 1 is what noise does.
Of programs that do the same again and again, the instructions are those of a longer run less those
of a shorter one, so that the start is not among them.

--ways has only ways that begin so, and jemalloc; --seconds ends a program's turns by then; --alone
keeps all on one core, before other work where that is allowed.
"""

import argparse
import concurrent.futures
import glob
import os
import statistics
import subprocess
import sys
import tempfile
import time

import interleave as il

BASE = "libjemalloc.so.2"
AGAIN = BASE + ", again"
LIBRARIES = "/usr/lib/*-linux-gnu/"

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
    data = [{{"k%d" % i: list(range(i % 50)), "s": "x" * (i % 300)}} for i in range({items})]
    assert json.loads(json.dumps(data)) == data
    d = {{}}
    for i in range({items} * 7):
        d[str(i)] = (i, str(i * 7))
    del d
"""


def python_program(n):
    """`n` fifths of a loop: callgrind is slow."""
    return PYTHON.format(loops=max(1, n // 5), items=1200 * min(n, 5))


# The expansion that cfrac factors by, of a number of 44 digits: thousands of small numbers a step.
CALC = """
define expand(n, steps) {{
  local m, root, a, d, i, before, now, next, found;
  root = isqrt(n); m = 0; d = 1; a = root; before = 1; now = root; found = 0;
  for (i = 0; i < steps; i++) {{
    m = d * a - m; d = (n - m^2) // d; a = (root + m) // d;
    next = (a * now + before) % n; before = now; now = next;
    if (gcd(d, 223092870) > 1) found++;
  }}
  return found;
}}
print expand(70180746082029268225484555345309935171158113, {steps});
"""

# What callgrind sees, which takes minutes for the standard library's headers; and what is timed.
SMALL_CPP = """
template<class T> struct Node { T value; Node *left = 0, *right = 0; Node(T v) : value(v) {} };
template<class T> struct Tree {
  Node<T> *root = 0;
  bool add(T v) {
    Node<T> **at = &root;
    while (*at) {
      if (v < (*at)->value) at = &(*at)->left;
      else if ((*at)->value < v) at = &(*at)->right;
      else return false;
    }
    *at = new Node<T>(v);
    return true;
  }
  template<class F> void walk(Node<T> *n, F f) {
    if (n) { walk(n->left, f); f(n->value); walk(n->right, f); }
  }
};
template<int N> struct Fib { static constexpr long value = Fib<N - 1>::value + Fib<N - 2>::value; };
template<> struct Fib<1> { static constexpr long value = 1; };
template<> struct Fib<0> { static constexpr long value = 0; };
template<int... I> struct Sequence {};
template<int N, int... I> struct Make : Make<N - 1, N - 1, I...> {};
template<int... I> struct Make<0, I...> { typedef Sequence<I...> type; };
template<int... I> long sum(Sequence<I...>) {
  long s = 0;
  int all[] = {I...};
  for (int i : all) s += i;
  return s;
}
int main() {
  Tree<int> t; Tree<double> d; Tree<long> g;
  long s = 0;
  for (int i = 0; i < 100; i++) { t.add(i * 7 % 31); d.add(i / 3.0); g.add(i); }
  t.walk(t.root, [&](int v) { s += v; });
  d.walk(d.root, [&](double v) { s += v; });
  g.walk(g.root, [&](long v) { s += v; });
  return s + Fib<40>::value % 7 + sum(Make<60>::type());
}
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


class Program:
    """command(n): how to run `n` times as much of it; how much for time, and for callgrind."""

    def __init__(self, command, stdin=None, timed=1, counted=1, without_start=False):
        self.command = command
        self.stdin = stdin or (lambda n: None)
        self.timed = timed
        self.counted = counted
        self.without_start = without_start

    def cost(self, measure, environment):
        return il.measured(measure, self.command(self.timed), environment, self.stdin(self.timed))

    def instructions(self, environment):
        counts = [il.instructions(self.command(n), environment, self.stdin(n))
                  for n in ((self.counted, 2 * self.counted) if self.without_start
                            else (self.counted,))]
        return counts[-1] - counts[0] if self.without_start else counts[0]


def compiler(folder):
    """The compiler proper on a preprocessed file, without the driver: callgrind follows no child."""
    gxx = il.shutil.which("g++")
    if not gxx:
        return {}
    for name, text in (("1", SMALL_CPP), ("2", CPP)):
        with open(f"{folder}/{name}.cpp", "w", encoding="utf-8") as source:
            source.write(text)
        subprocess.run([gxx, "-E", f"{folder}/{name}.cpp", "-o", f"{folder}/{name}.ii"],
                       check=True)
    proper = subprocess.run([gxx, "-print-prog-name=cc1plus"], check=True, stdout=subprocess.PIPE,
                            text=True).stdout.strip()
    return {"g++ -O1": Program(lambda n: [proper, "-quiet", "-O1", "-fpreprocessed",
                                          f"{folder}/{n}.ii", "-o", "/dev/null"],
                               timed=2)}


def history(folder):
    """git on a repository made for it."""
    git = il.shutil.which("git")
    repository = folder + "/repository"
    if not git:
        return {}
    subprocess.run([git, "init", "-q", repository], check=True)
    quiet = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "gc.auto=0"]
    for commit in range(5):
        for i in range(60 * commit, 60 * commit + 120):
            with open(f"{repository}/file{i}", "a", encoding="utf-8") as file:
                file.write(f"line {i} of {commit}\n" * (i + 1))
        subprocess.run([git, "-C", repository, "add", "."], check=True)
        subprocess.run([git, "-C", repository, *quiet, "commit", "-qm", "x"], check=True)
    return {"git log -p": Program(lambda n: [git, "-C", repository, "log", "-p"])}


def calculation(folder, n):
    with open(f"{folder}/{n}.cal", "w", encoding="utf-8") as file:
        file.write(CALC.format(steps=n * 2000))
    return f"{folder}/{n}.cal"


def programs(churn, handover, short_threads, folder):
    result = {
        "churn": Program(lambda n: [churn, str(n * 1000), "96"], timed=20, without_start=True),
        "churn-alone": Program(lambda n: [churn, str(n * 1000), "8"], timed=100,
                               without_start=True),
        "handover 1": Program(lambda n: [handover, "1", str(n * 10)], timed=100, without_start=True),
        "handover 2": Program(lambda n: [handover, "2", str(n * 10)], timed=100, without_start=True),
        "threads of ten calls": Program(lambda n: [short_threads, str(n * 500)], timed=20,
                                        without_start=True),
        "python3 PYTHONMALLOC=malloc": Program(
            lambda n: [sys.executable, "-c", python_program(n)], timed=15, without_start=True),
    }
    calc = il.shutil.which("calc")
    if calc:
        result["calc: a continued fraction"] = Program(
            lambda n: [calc, "-q", "-f", calculation(folder, n)], timed=40, without_start=True)
    sqlite = il.shutil.which("sqlite3")
    if sqlite:
        result["sqlite3 :memory:"] = Program(
            lambda n: [sqlite, ":memory:"], lambda n: SQL.format(rows=n * 4000).encode(), timed=25)
    return {**result, **compiler(folder), **history(folder)}


def environments(berth, library, folder):
    jemalloc = il.need(il.JEMALLOC, "jemalloc")
    fixed = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}
    for name, text in (("p", POLICY), ("looked", LOOKED_AT)):
        with open(f"{folder}/{name}.policy", "w", encoding="utf-8") as policy:
            policy.write(text.replace("@DIR@", folder))
        subprocess.run([berth, "policy", "compile", f"{folder}/{name}.policy", "-o",
                        f"{folder}/{name}.table"], check=True, stdout=subprocess.DEVNULL)
    found = {
        BASE: il.preload(jemalloc, **fixed),
        "Berth: no rule can match": il.preload(library, BERTH_POLICY=folder + "/p.table", **fixed),
        "Berth: return addresses looked at": il.preload(
            library, BERTH_POLICY=folder + "/looked.table", **fixed),
        "Berth: call paths from 64 KiB": il.preload(
            library, BERTH_POLICY=folder + "/p.table",
            BERTH_OPTIONS="sites=always,site-sample=0", **fixed),
        "Berth: and samples of small blocks": il.preload(
            library, BERTH_POLICY=folder + "/p.table", BERTH_OPTIONS="sites=always", **fixed),
        AGAIN: il.preload(jemalloc, **fixed),
        "C library": il.preload(**fixed),
    }
    tiers = {"memtier, DRAM alone": "KIND:DRAM,RATIO:1;POLICY:STATIC_RATIO",
             "memtier, two tiers": f"KIND:DRAM,RATIO:1;KIND:FS_DAX,PATH:{folder},RATIO:1;"
                                   "POLICY:STATIC_RATIO"}
    for name, file, more in [("mimalloc", "libmimalloc.so.2", {})] + [
            (name, "libmemtier.so.0", {"MEMKIND_MEM_TIERS": text}) for name, text in tiers.items()]:
        there = glob.glob(LIBRARIES + file)
        if there:
            found[name] = il.preload(there[0], **fixed, **more)
        else:
            print(f"{name} is left out: {file} is not here")
    return found


def surviving(name, program, variants):
    """The variants under which the program runs to its end; the others are told, and why."""
    found = {}
    for v, environment in variants.items():
        n = program.counted
        done = subprocess.run(program.command(n), env=environment, input=program.stdin(n),
                              stdin=None if program.stdin(n) else subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if done.returncode == 0:
            found[v] = environment
        else:
            print(f"{name}: {v} is left out: the program ends with {done.returncode}")
    return found


def counted(program, environment):
    """Instructions; None where the program does not end well: memtier's files go before stdio."""
    try:
        return program.instructions(environment)
    except subprocess.CalledProcessError:
        return None


def take_turns(program, variants, measure, rounds, seconds):
    """A row of costs for each turn of each variant."""
    samples = {v: [] for v in variants}
    names = list(variants)
    end = time.monotonic() + seconds
    for turn in range(rounds):
        # Each goes first as often as the others, and every other turn runs backwards: of three, the
        # one between the two of jemalloc pays no more than they for a machine that becomes slower.
        first = turn // 2 % len(names)
        order = names[first:] + names[:first]
        for v in reversed(order) if turn % 2 else order:
            samples[v].append(program.cost(measure, variants[v]))
        if time.monotonic() > end:
            break
    return samples


def ratios(samples, v, column):
    """By turns: over jemalloc's first run for its second, and over the mean of both for others."""
    if v == AGAIN:
        return [row[column] / base[column] for row, base in zip(samples[v], samples[BASE])]
    return [2 * row[column] / (base[column] + again[column])
            for row, base, again in zip(samples[v], samples[BASE], samples[AGAIN])]


def shown(samples, v, column):
    middle, low, high = il.interval(ratios(samples, v, column))
    return f" {middle:5.3f} [{low:5.3f} {high:5.3f}]"


def count_all(program, variants):
    """Nothing is timed here: as many at once as there are processors."""
    names = [v for v in variants if v != AGAIN]
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(names, pool.map(lambda v: counted(program, variants[v]), names)))


def compare(name, program, variants, measure, args):
    variants = surviving(name, program, variants)
    samples = take_turns(program, variants, measure, args.rounds, args.seconds)
    turns = len(samples[BASE])
    medians = {v: [statistics.median(column) for column in zip(*rows)]
               for v, rows in samples.items() if rows}
    counts = count_all(program, variants) if args.instructions else {}
    print(f"{name:36}" + (f"user s ratio, {turns:3} turns    processor time       "
                          "peak MiB ratio  page faults" if medians else "") +
          ("          M instructions ratio" if counts else ""))
    for v in variants:
        line = f"  {v:34}"
        if medians:
            user, _processor, peak, _faults = medians[v]
            line += (f"{user:6.2f}{shown(samples, v, 0)}{shown(samples, v, 1)}{peak / 1024:9.1f} "
                     f"{peak / medians[BASE][2]:5.2f} {shown(samples, v, 3)}")
        if v in counts:
            line += (f"{counts[v] / 1e6:16.1f} {counts[v] / counts[BASE]:5.3f}" if counts[v]
                     else "   ends before its time")
        print(line, flush=True)
    return medians


def options():
    parser = argparse.ArgumentParser()
    for name in ("berth", "library", "churn", "handover", "short_threads", "measure"):
        parser.add_argument(name)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("programs", nargs="*")
    parser.add_argument("--ways", default="")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--no-instructions", action="store_false", dest="instructions")
    return parser.parse_intermixed_args()


def main():
    args = options()
    if args.instructions and not il.shutil.which("valgrind"):
        args.instructions = False
        print("instructions are not told: valgrind is not here")
    if args.alone:
        print("measured on " + il.alone())
    with tempfile.TemporaryDirectory() as folder:
        variants = {v: environment
                    for v, environment in environments(args.berth, args.library, folder).items()
                    if v in (BASE, AGAIN) or v.startswith(tuple(args.ways.split(",")))}
        told = {}
        for name, program in programs(args.churn, args.handover, args.short_threads,
                                      folder).items():
            if args.programs and name.split()[0] not in args.programs:
                continue
            told[name] = compare(name, program, variants, args.measure, args)
        if told.get("handover 2"):
            print("handover: processor time of a step, two threads over one")
            for v in told["handover 2"]:
                print(f"  {v:34}{told['handover 2'][v][1] / told['handover 1'][v][1] / 2:6.2f}")


if __name__ == "__main__":
    main()
