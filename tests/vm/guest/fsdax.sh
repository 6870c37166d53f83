# SPDX-License-Identifier: Apache-2.0
# Tiers of kind file on ext4 that is mounted with dax=always: stores reach the memory without the
# page cache, and without msync() where the mapping says so (MAP_SYNC).
device=$(make_fsdax 1) && make_plain_ext4 "$device"
check "ext4 is mounted with dax=always" mount_dax "$device" /mnt/pmem

folder=/mnt/pmem
far default
far prompt "decay = 0"
far small "capacity = 16M" "decay = 0"
far beyond "capacity = 64G" "decay = 0"
far share "fork = share"
far limited "fork-copy-max = 1M"

checks "fsdax:" 8 under /tmp/prompt.table "$VM_CASES" file far /mnt/pmem/ sync
checks "fsdax, fork = copy:" 3 under /tmp/default.table "$VM_CASES" fork-copies far
checks "fsdax, fork = share:" 3 under /tmp/share.table "$VM_CASES" fork-shares far
checks "fsdax, fork-copy-max:" 3 under /tmp/limited.table "$VM_CASES" fork-refused far
checks "fsdax, capacity = 16M:" 4 under /tmp/small.table "$VM_CASES" more far dram 64
checks "fsdax, more than the device has:" 4 under /tmp/beyond.table "$VM_CASES" more far dram 160

# Tiers' files have no names, and their space ends with the process.
check "no process leaves a file behind" test "$(ls /mnt/pmem)" = lost+found
check "nor the space of one" test "$(df -k /mnt/pmem | awk 'END { print $3 }')" -lt 1000

check "berth doctor names the file system" sh -c '"$BERTH" doctor | grep "fsdax.*/mnt/pmem"'

asked default file "an unnamed file in /mnt/pmem, mapped shared with MAP_SYNC; fork = copy"

# An unmodified program, started as a person does.
run_sqlite() {
    "$BERTH" run --policy /tmp/default.policy -- "$SQLITE" :memory: "
        create table t(a integer primary key, b text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
            insert into t select i, printf('%064d', i * 7919 % 10007) from n;
        select count(*), sum(length(b)), max(b) from t;" >/tmp/rows 2>/tmp/errors
    cat /tmp/rows /tmp/errors
    [ "$(cat /tmp/rows)" = "20000|1280000|$(printf '%064d' 10006)" ] && [ ! -s /tmp/errors ]
}
if [ -n "${SQLITE:-}" ]; then
    check "sqlite3 runs on it" run_sqlite
else
    say "skip sqlite3 runs on it: it is not installed on the host"
fi

# Blocks that may move, at first in ordinary memory or in a file there.
tiers="tier far {
  kind = file
  path = /mnt/pmem
}"
large near dram
large away far
# Without a word of the program's, nothing can hold back who writes to a device's file.
sent near away 0 6 stepped dram far 0
sent away near 1 6 stepped far dram 5

# Where the mount says that nothing is mapped directly, there is no MAP_SYNC, and the tier works.
umount /mnt/pmem
check "ext4 is mounted with dax=never" mount_dax "$device" /mnt/pmem never
checks "dax=never:" 8 under /tmp/prompt.table "$VM_CASES" file far /mnt/pmem/ nosync
asked default file "an unnamed file in /mnt/pmem, mapped shared; fork = copy"
check "berth doctor does not call it fsdax" \
    sh -c '"$BERTH" doctor | grep "fsdax.*no file system is mounted with dax"'

# An ordinary file system on the same kernel.
folder=/dev/shm
far tmpfs "decay = 0"
checks "tmpfs:" 8 under /tmp/tmpfs.table "$VM_CASES" file far / nosync
