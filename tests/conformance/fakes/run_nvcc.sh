#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles saxpy.cu with nvcc and runs it on the simulated driver.
# usage: run_nvcc.sh shared|static|per-thread SOURCE FAKE-DIR KERNELS.so STATIC-ARCHIVE
set -eu
form=$1 source=$2 fake=$3 kernels=$4 archive=$5

nvcc=$(command -v "${NVCC:-nvcc}" || true)
if [ -z "$nvcc" ] && [ -x /usr/local/cuda/bin/nvcc ]; then
    nvcc=/usr/local/cuda/bin/nvcc
fi
if [ -z "$nvcc" ]; then
    echo "skipped: nvcc is not installed"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# With per-thread default streams the program imports other names (_ptsz, _ptds).
launch=cuLaunchKernel
case $form in
shared) "$nvcc" -cudart shared -o "$work/saxpy" "$source" ;;
static) "$nvcc" -cudart none -o "$work/saxpy" "$source" "$archive" -lpthread -ldl ;;
per-thread)
    "$nvcc" -default-stream per-thread -cudart shared -o "$work/saxpy" "$source"
    launch=cuLaunchKernel_ptsz
    ;;
esac
output=$(LD_PRELOAD="$kernels" LD_LIBRARY_PATH="$fake" BERTH_FAKE_LOG="$work/log" "$work/saxpy")
if [ "$output" != correct ]; then
    echo "the program says: $output"
    exit 1
fi
# Two saxpy, one shift, and the shift that is refused.
launches=$(grep -c "^$launch(" "$work/log")
if [ "$launches" != 4 ]; then
    echo "the call log shows $launches launches; expected 4"
    exit 1
fi
