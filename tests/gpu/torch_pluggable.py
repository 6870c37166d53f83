# SPDX-License-Identifier: Apache-2.0
"""Goal: PyTorch computes with Berth plugged in, bit for bit, what it computes with its own allocator.

usage: torch_pluggable.py LIBBERTH BERTH

Models are trained, asked in two streams, and replayed from graphs (torch_models.py): natively; with
the library plugged in; and with it preloaded as well, which is how it is meant to be used.
"""
import sys

from torch_compare import compare, need_cuda, run


def main():
    library, tool = sys.argv[1:3]
    need_cuda()
    native = run("native", {})
    opened = run("pluggable", {"BERTH_TOOL": tool}, library)
    both = run("pluggable", {"BERTH_TOOL": tool, "LD_PRELOAD": library}, library)
    differs = compare(native, opened, "plugged in")
    differs |= compare(native, both, "preloaded and plugged in")
    raise SystemExit(differs)


if __name__ == "__main__":
    main()
