#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A simulated driver of an earlier version says which it is, and lacks what came later; so does
whatever the process has beside it, which is Berth where that is preloaded.

usage: check.py VERSION libcuda.so.1
"""
import ctypes
import sys

# An entry point and the version that brought it, by cudaTypedefs.h.
BROUGHT = {"cuMemAlloc_v2": 3020, "cuMemAllocAsync": 11020, "cuGetProcAddress": 11030,
           "cuGetProcAddress_v2": 12000, "cuGreenCtxCreate": 12040, "cuCtxRecordEvent": 12050,
           "cuStreamGetGreenCtx": 12040, "cuStreamGetCtx_v2": 12050, "cuMemGetMemPool": 13000}


def main():
    version, driver = int(sys.argv[1]), ctypes.CDLL(sys.argv[2], mode=ctypes.RTLD_GLOBAL)
    answer = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(answer)) != 0 or answer.value != version:
        sys.exit(f"it says that it is {answer.value}")
    wrong = [name for name, since in BROUGHT.items() for place in (driver, ctypes.CDLL(None))
             if hasattr(place, name) != (since <= version)]
    if wrong:
        sys.exit("there, or not there, by mistake: " + ", ".join(wrong))


main()
