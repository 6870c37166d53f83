# SPDX-License-Identifier: Apache-2.0
# The malloc family, with every block on a file of ext4 that is mounted with dax=always.
umount /mnt/pmem
# Where files lie in pieces of 2 MiB, huge pages of them are mapped; fsdax.sh has the small ones.
device=$(make_fsdax 2) && make_ext4 -O ^has_journal,^metadata_csum,bigalloc -C 2097152 "$device"
check "ext4 is mounted with dax=always" mount_dax "$device" /mnt/pmem
folder=/mnt/pmem
far default
checks "one large block on fsdax:" 3 under /tmp/default.table "$VM_CASES" whole far
checks "malloc on fsdax:" 40 under /tmp/default.table "$CONFORM"
tell_limits "malloc on fsdax:"
check "no process leaves a file behind" test "$(ls /mnt/pmem)" = lost+found
