#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program compiled by nvcc, kernels included, natively and under Berth: the same output.

Usage: nvcc.py shared|static SOURCE DRIVER_DIR LIBBERTH KERNELS STATIC_ARCHIVE
"""
import os
import shutil
import subprocess
import sys
import tempfile


def run(program, driver_dir, preload, log):
    env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
    env.update(LD_LIBRARY_PATH=driver_dir, LD_PRELOAD=preload, BERTH_FAKE_LOG=log,
               XDG_RUNTIME_DIR="/nonexistent")
    done = subprocess.run([program], env=env, capture_output=True, text=True, timeout=120)
    with open(log, encoding="ascii") as file:
        allocations = sum(line.startswith("cuMemAlloc_v2(") for line in file)
    return done.stdout, done.returncode, allocations, done.stderr


def main():
    form, source, driver_dir, libberth, kernels, archive = sys.argv[1:]
    nvcc = shutil.which(os.environ.get("NVCC", "nvcc")) or shutil.which("/usr/local/cuda/bin/nvcc")
    if not nvcc:
        print("skipped: nvcc is not installed")
        return 77
    libberth, kernels = os.path.abspath(libberth), os.path.abspath(kernels)
    with tempfile.TemporaryDirectory() as work:
        program = os.path.join(work, "program")
        link = ["-cudart", "shared", source] if form == "shared" else [
            "-cudart", "none", source, archive, "-lpthread", "-ldl"]
        subprocess.run([nvcc, "-o", program, *link], check=True)
        native = run(program, driver_dir, kernels, os.path.join(work, "native"))
        berth = run(program, driver_dir, f"{libberth} {kernels}", os.path.join(work, "berth"))
    print(f"{native[2]} driver allocations natively, {berth[2]} under Berth")
    good = native[:2] == berth[:2] and native[1] == 0 and not berth[3] and berth[2] < native[2] / 4
    if not good:
        print("FAIL", native, berth)
    return not good


if __name__ == "__main__":
    sys.exit(main())
