# SPDX-License-Identifier: Apache-2.0
# Persistent blocks on new devices, and processes that are killed.
. /vm/power.sh
device=$(make_fsdax 1) && make_ext4 "$device"
check "ext4 is mounted with dax=always" mount_dax "$device" /mnt/pmem
stores "$device" "$(make_devdax 2)"

for tier in file dax; do
    check "$tier: blocks are committed" write_on $tier X 0 16
    echo 15 >/tmp/reached.$tier
done
verify "another process" 15 15
for turn in 1 2; do
    for tier in file dax; do
        killed_writer $tier $(($(cat /tmp/reached.$tier) + 1)) $((turn * 3))
    done
    verify "after kill -9, turn $turn" "$(cat /tmp/reached.file)" "$(cat /tmp/reached.dax)"
done

# A tier without a name beside it: its file is lost with the power, and its space is not.
folder=/mnt/pmem
far unnamed
mkfifo /tmp/held /tmp/release
under /tmp/unnamed.table "$VM_CASES" hold far /tmp/held /tmp/release >/dev/null &
head -c 1 /tmp/held >/dev/null
