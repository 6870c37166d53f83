# SPDX-License-Identifier: Apache-2.0
# After the second cut: everything is there, and stays usable.
. /vm/power.sh
device=/dev/pmem$(region 1)
check "the file system is mounted without repair" mount_dax "$device" /mnt/pmem
stores "$device" "/dev/dax$(region 2).0"
verify "after the second cut" "$VM_FILE" "$VM_DAX"
check "fsdax: more blocks are committed" write_on file X $((VM_FILE + 1)) 5
check "dax: more blocks are committed" write_on dax X $((VM_DAX + 1)) 5
verify "at the end" $((VM_FILE + 5)) $((VM_DAX + 5))
umount /mnt/pmem
check "the file system has no mistakes" fsck.ext4 -f -n "$device"
