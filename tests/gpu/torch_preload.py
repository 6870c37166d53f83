# SPDX-License-Identifier: Apache-2.0
"""Goal: PyTorch under its own allocator computes the same, bit for bit, with Berth preloaded.

usage: torch_preload.py LIBBERTH BERTH

Each kind of free, of segment, and PyTorch's allocator over cuMemAllocAsync, natively and preloaded.
"""
import sys

from torch_compare import compare, need_cuda, run

OPTIONS = ("free=sync", "free=lazy", "segments=shared", "segments=expandable")
ASYNC = {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}


def main():
    library, tool = sys.argv[1:3]
    need_cuda()
    native = run("native", {})
    differs = False
    for options in OPTIONS:
        under = run("native", {"LD_PRELOAD": library, "BERTH_OPTIONS": options,
                               "BERTH_TOOL": tool})
        differs |= compare(native, under, options)
    ordered = run("native", ASYNC)
    under = run("native", {**ASYNC, "LD_PRELOAD": library, "BERTH_TOOL": tool})
    differs |= compare(ordered, under, "cuMemAllocAsync under Berth")
    raise SystemExit(differs)


if __name__ == "__main__":
    main()
