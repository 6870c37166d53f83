# SPDX-License-Identifier: Apache-2.0
# The programs of tests/integration that move blocks, from and to ext4 that is mounted with
# dax=always, and those that fill a file system up, which is one of that kind here.
umount /mnt/pmem
device=$(make_fsdax 2) && make_plain_ext4 "$device"
check "ext4 is mounted with dax=always" mount_dax "$device" /mnt/pmem
BERTH_TEST_DEVICE=$(make_fsdax 3)
export BERTH_TEST_DEVICE
TMPDIR=/mnt/pmem programs moves
