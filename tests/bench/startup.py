#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What preloading adds to a process that allocates next to nothing: /bin/true.

usage: startup.py LIBBERTH LIBBERTH_MALLOC [ROUNDS]
"""

import os
import sys
import time

import interleave as il


def burst(environment, count=40):
    """Milliseconds per start of /bin/true, over a burst."""
    def measure():
        start = time.perf_counter()
        for _ in range(count):
            pid = os.posix_spawn("/bin/true", ["true"], environment)
            os.waitpid(pid, 0)
        return (time.perf_counter() - start) * 1000 / count
    return measure


def main(cuda_side, malloc_side, rounds="25"):
    jemalloc = il.need(il.JEMALLOC, "jemalloc")
    medians = il.interleaved({
        "nothing preloaded": burst(il.preload()),
        "libberth.so": burst(il.preload(cuda_side)),
        "libjemalloc.so.2": burst(il.preload(jemalloc)),
        "libberth-malloc.so": burst(il.preload(malloc_side)),
        "both": burst(il.preload(malloc_side, cuda_side)),
    }, int(rounds))
    il.table("start of /bin/true, wall", medians, "nothing preloaded", "ms")
    bare = medians["nothing preloaded"]
    print(f"libberth.so adds {medians['libberth.so'] - bare:.3f} ms (goal: 0.3)")
    print(f"libberth-malloc.so adds {medians['libberth-malloc.so'] - medians['libjemalloc.so.2']:+.3f}"
          " ms to what libjemalloc.so.2 adds (goal: 0.2)")


if __name__ == "__main__":
    main(*sys.argv[1:])
