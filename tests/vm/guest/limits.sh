# SPDX-License-Identifier: Apache-2.0
# Little memory: a kernel that promises no more than it has (vm.overcommit_memory = 2), and a control
# group that may have little. Programs do there what they do natively, which is looked at first.
policy shm <<'EOF'
tier far {
  kind = file
  path = /dev/shm
}
rule everything {
  side = host
  min-size = 0
  place = { far, dram }
}
EOF
policy node <<'EOF'
tier far {
  kind = numa
  nodes = 0
}
rule everything {
  side = host
  min-size = 0
  place = { far, dram }
}
EOF
policy movable <<'EOF'
tier far {
  kind = file
  path = /dev/shm
}
rule large {
  side = host
  min-size = 64K
  place = { far, dram }
  movable = yes
}
rule small {
  side = host
  min-size = 0
  place = dram
}
EOF
policy near <<'EOF'
rule large {
  side = host
  min-size = 64K
  place = dram
  movable = yes
}
rule small {
  side = host
  min-size = 0
  place = dram
}
EOF
python3 "$CONFORM_RUN" random --print-policy --seed 4 --tier numa:0 --tier file:/dev/shm >/tmp/drawn &&
    policy random </tmp/drawn
tables="near node shm movable random"

# in_group COMMAND...: by a process of the small group.
in_group() {
    (echo 0 >/sys/fs/cgroup/small/cgroup.procs && "$@")
}
freely() {
    "$@"
}

# some COMMAND-PREFIX: what Debian's programs print, who need not much memory for it.
some() {
    "$@" sort -S 8M /tmp/numbers | md5sum
    "$@" perl -e 'my %h; $h{$_ * 7919 % 6007} .= chr(65 + $_ % 26) for 1 .. 20000;
        my $s = 0; $s = ($s * 31 + length $h{$_}) % 1000003 for sort keys %h;
        my @big = map { "a" x (100000 + $_) } 1 .. 20; my $pid = fork();
        if (!$pid) { $big[3] = "z"; exit 3; }
        waitpid($pid, 0); print $s, " ", $? >> 8, " ", length(join "", @big), "\n";
        print `echo from a command`;'
    "$@" python3 -S -c '
import os, sys
sys.stdout.reconfigure(line_buffering=True)
held = [bytes([i % 256]) * (i * 997) for i in range(100)]
child = os.fork()
if child == 0:
    os._exit(0 if all(b == bytes([i % 256]) * (i * 997) for i, b in enumerate(held)) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sum(map(len, held)))
try:
    bytearray(1 << 38)
except MemoryError:
    print("none")
'
}
do_same() {
    cmp /tmp/natively /tmp/placed && ! grep -v 'gave no more space' /tmp/errors
}
seq 20000 | awk '{ print $1 * 7919 % 20011 }' >/tmp/numbers

# commits MIB: the kernel promises so much beyond what it has by now.
commits() {
    local kib
    echo 2 >/proc/sys/vm/overcommit_memory
    kib=$(awk '/Committed_AS/ { print $2 }' /proc/meminfo)
    echo $((kib + $1 * 1024)) >/proc/sys/vm/overcommit_kbytes
}
commits 192
checks "192 MiB may be promised, natively:" 8 "$VM_CASES" commit 150
for table in $tables; do
    checks "192 MiB may be promised, $table:" 8 under /tmp/$table.table "$VM_CASES" commit 100
done
some freely >/tmp/natively 2>&1
for table in near movable random; do
    some under /tmp/$table.table >/tmp/placed 2>/tmp/errors
    check "programs do the same there, $table" do_same
done
echo 0 >/proc/sys/vm/overcommit_memory

# A huge page is resident as a whole: with those, jemalloc's tables alone have 2 MiB for each place.
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/small
echo 64M >/sys/fs/cgroup/small/memory.max
nobody_is_killed() {
    grep '^oom' /sys/fs/cgroup/small/memory.events
    grep -q '^oom_kill 0' /sys/fs/cgroup/small/memory.events
}
checks "in a group of 64 MiB, natively:" 3 in_group "$VM_CASES" group 16 child
for table in near node; do
    checks "in a group of 64 MiB, $table:" 3 in_group under /tmp/$table.table "$VM_CASES" group 16 child
done
# A child has a copy of what is in files, of which the group has the memory.
for table in shm movable random; do
    checks "in a group of 64 MiB, $table:" 3 in_group under /tmp/$table.table "$VM_CASES" group 12 child
done
checks "in a group of 64 MiB, more than that:" 3 \
    in_group under /tmp/shm.table "$VM_CASES" group 40 refused
for table in shm random; do
    some in_group under /tmp/$table.table >/tmp/placed 2>/tmp/errors
    check "programs do the same there, $table" do_same
done

swap=$(make_fsdax 4) && mkswap "$swap" >/dev/null
check "there is swap" swapon "$swap"
# more_swap: whether pages have gone there since the last time that it was asked.
swapped=0
more_swap() {
    local before=$swapped
    swapped=$(awk '/^pswpout / { print $2 }' /proc/vmstat)
    echo "$before pages, then $swapped"
    [ "$swapped" -gt $((before + 1000)) ]
}
# A program and its child have more than the group may, each less: so much is enough.
checks "with swap, natively:" 3 in_group "$VM_CASES" group 40 child
check "pages went there, natively" more_swap
checks "with swap, near:" 3 in_group under /tmp/near.table "$VM_CASES" group 40 child
check "pages went there, near" more_swap
checks "with swap, random:" 3 in_group under /tmp/random.table "$VM_CASES" group 40 either
check "pages went there, random" more_swap
checks "with swap, shm:" 3 in_group under /tmp/shm.table "$VM_CASES" group 56 either
swapoff "$swap"
check "no process of the group was killed" nobody_is_killed
echo always >/sys/kernel/mm/transparent_hugepage/enabled
