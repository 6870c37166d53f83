# SPDX-License-Identifier: Apache-2.0
# After the power was cut: what was committed is there, and more is written until it is cut again.
. /vm/power.sh
device=/dev/pmem$(region 1)
check "the file system is mounted without repair" mount_dax "$device" /mnt/pmem
stores "$device" "/dev/dax$(region 2).0"
verify "after the power was cut" "$VM_FILE" "$VM_DAX"
# 13 blocks of 200 KiB, one under way, the journal and what the store needs.
check "the space of files without a name came back" \
    test "$(df -k /mnt/pmem | awk 'END { print $3 }')" -lt 40000

say "cut FILE $((VM_FILE + 6)) DAX $((VM_DAX + 6))"
write_on dax DAX $((VM_DAX + 1)) 0 >/dev/ttyS1 2>/dev/ttyS1 &
write_on file FILE $((VM_FILE + 1)) 0 >/dev/ttyS1 2>/dev/ttyS1
wait
