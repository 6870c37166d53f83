#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a cached device allocation and its free cost through the exported hooks; *simulated*.

usage: device_pair.py LIBBERTH FAKE_FOLDER CLIENT [--instructions] [ROUNDS]

Variants take turns; told are medians of the rounds: ns per pair, the 99.9th percentile of single
pairs, and what two threads get done together, over one; by the clock, which other work on the
machine spoils, and by processor time. The simulated driver has one lock for all calls, taken for each
event and each question about one; it spins, as a real driver's locks for short work do. `driver` is
the cuCtxSynchronize that a pair with free = sync contains and that the driver's own cuMemFree makes
too. With --instructions, the instructions per pair of the client and all libraries under callgrind,
driver included and apart.
"""

import statistics
import subprocess
import sys

import interleave as il

SIZES = (512, 64 << 10, 1 << 20, 8 << 20)
LARGE_SIZES = (16 << 20, 64 << 20, 256 << 20)  # a batch of lazy frees has few of them
MODES = {"native": None, "sync": "free=sync", "lazy": "free=lazy"}
# Where blocks of all sizes are neighbours, threads keep less, and less may wait.
TIGHT_MODES = {"lazy shared": "free=lazy,segments=shared",
               "lazy expandable": "free=lazy,segments=expandable"}


def environment(libberth, fake, mode):
    options = {**MODES, **TIGHT_MODES}[mode]
    if options is None:
        return il.preload(LD_LIBRARY_PATH=fake)
    return il.preload(libberth, LD_LIBRARY_PATH=fake, BERTH_OPTIONS=options, BERTH_CONTROL="never")


def ask(client, env, *arguments):
    """One run of the client: (median ns, p99.9 ns, pairs per microsecond, CPU ns per pair)."""
    output = subprocess.run([client, *map(str, arguments)], env=env, check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    return tuple(float(word) for word in output.split())


def few(mode):
    """The driver's own cuMemAlloc is too slow for as many pairs as the pool's."""
    return (1, 1000) if mode == "native" else ()


def variants():
    """(name, mode, arguments of the client)."""
    for size in SIZES:
        yield f"driver's synchronisation {size}", "native", ("driver", size)
        for mode in MODES:
            yield f"pair {mode} {size}", mode, ("pair", size, *few(mode))
        for mode in ("native", "lazy"):
            yield f"stream-ordered {mode} {size}", mode, ("async", size)
        for mode in TIGHT_MODES:
            yield f"pair {mode} {size}", mode, ("pair", size, 1, 200000)
        for mode in ("sync", "lazy"):
            yield f"32 at a time {mode} {size}", mode, ("many", size)
    for mode in ("native", "sync", "lazy"):
        yield f"freed by another thread {mode} 65536", mode, ("cross", 65536, *few(mode))
        yield f"two threads {mode} 65536", mode, ("pair", 65536, 2, *few(mode)[1:])
    yield "two threads stream-ordered 65536", "lazy", ("async", 65536, 2)
    yield "two threads driver's synchronisation 65536", "native", ("driver", 65536, 2)
    for size in LARGE_SIZES:
        for mode in ("sync", "lazy"):
            yield f"pair {mode} {size}", mode, ("pair", size, 1, 200000)
    for mode in ("native", "sync"):
        yield f"forwarded call {mode}", mode, ("forward", 1)


def tell(samples):
    print(f"{'':44} {'median':>10} {'p99.9':>10} {'pairs/us':>9} {'CPU':>10}   (simulated)")
    middle = {name: [statistics.median(column) for column in zip(*rows)]
              for name, rows in samples.items()}
    for name, (median, late, rate, cpu) in middle.items():
        print(f"{name:44} {median:7.1f} ns {late:7.0f} ns {rate:9.2f} {cpu:7.1f} ns")
    print()
    for size in SIZES:
        wait = middle[f"driver's synchronisation {size}"][0]
        print(f"Berth's own share of a pair, free = sync, {size} bytes: "
              f"{middle[f'pair sync {size}'][0] - wait:.1f} ns")
    for name, one in (("two threads driver's synchronisation 65536",
                       "driver's synchronisation 65536"),
                      ("two threads sync 65536", "pair sync 65536"),
                      ("two threads lazy 65536", "pair lazy 65536"),
                      ("two threads stream-ordered 65536", "stream-ordered lazy 65536")):
        print(f"{name}: {middle[name][2] / middle[one][2]:.2f} x one thread (goal: 1.8); by processor "
              f"time {2 * middle[one][3] / middle[name][3]:.2f}")
    print("a forwarded call costs "
          f"{middle['forwarded call sync'][0] - middle['forwarded call native'][0]:.1f} ns more "
          "(goal: 10)")


def count_instructions(libberth, fake, client):
    """The difference of two numbers of pairs: what is common to both goes out."""
    def per_pair(what, mode, size):
        env = environment(libberth, fake, mode)
        few, more = 20000, 60000
        return (il.instructions([client, what, str(size), "1", str(more)], env)
                - il.instructions([client, what, str(size), "1", str(few)], env)) / (more - few)
    for size in (512, 65536):
        wait = per_pair("driver", "native", size)
        for what, mode in (("pair", "sync"), ("pair", "lazy"), ("async", "sync")):
            whole = per_pair(what, mode, size)
            rest = f", without the synchronisation {whole - wait:.0f}" if mode == "sync" else ""
            print(f"{what} {mode} {size}: {whole:.0f} instructions{rest if what == 'pair' else ''}")
    for size in (8 << 20,) + LARGE_SIZES:
        print(f"pair lazy {size}: {per_pair('pair', 'lazy', size):.0f} instructions")
    for size in SIZES:
        for mode in TIGHT_MODES:
            print(f"pair {mode} {size}: {per_pair('pair', mode, size):.0f} instructions")


def main(libberth, fake, client, *rest):
    if "--instructions" in rest:
        il.need("valgrind", "valgrind")
        count_instructions(libberth, fake, client)
        return
    samples = {}
    for _ in range(int(rest[0]) if rest else 5):
        for name, mode, arguments in variants():
            samples.setdefault(name, []).append(
                ask(client, environment(libberth, fake, mode), *arguments))
    tell(samples)


if __name__ == "__main__":
    main(*sys.argv[1:])
