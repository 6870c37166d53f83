# SPDX-License-Identifier: Apache-2.0
# Programs of tests/integration, whose folders are on ext4 that is mounted with dax=always.
device=$(make_fsdax 2) && make_plain_ext4 "$device"
check "ext4 is mounted with dax=always" mount_dax "$device" /mnt/pmem
TMPDIR=/mnt/pmem programs fsdax
umount /mnt/pmem
