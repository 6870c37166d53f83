# SPDX-License-Identifier: Apache-2.0
# Tests of tests/integration with the host's root under them, whose folders are on ext4 that is mounted
# with dax=always. What they write elsewhere is in memory, and nobody's once the guest has ended.
device=$(make_fsdax 2) && make_plain_ext4 "$device"

mount_root() {
    mkdir -p /mnt/host /mnt/above /mnt/whole
    mount -t virtiofs -o ro root /mnt/host && mount -t tmpfs tmpfs /mnt/above || return 1
    mkdir /mnt/above/upper /mnt/above/work
    mount -t overlay overlay /mnt/whole \
        -o lowerdir=/mnt/host,upperdir=/mnt/above/upper,workdir=/mnt/above/work || return 1
    for folder in proc sys dev dev/pts dev/shm; do
        mount --bind /$folder /mnt/whole/$folder || return 1
    done
    mount -t tmpfs tmpfs /mnt/whole/run && cp -r /vm /mnt/whole/vm
}

check "the host's root is there" mount_root
check "ext4 is mounted with dax=always" mount_dax "$device" /mnt/whole/mnt/pmem
ip link set lo up
check "the programs came to their end" env TMPDIR=/mnt/pmem PATH="$PATH:/usr/games" \
    chroot /mnt/whole "$PYTHON" /vm/programs.py whole /dev/ttyS1
