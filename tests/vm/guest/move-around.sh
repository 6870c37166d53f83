# SPDX-License-Identifier: Apache-2.0
# Blocks of a program that writes to them all the time go from each kind of place to each other one:
# ordinary memory, a node, tmpfs, a device-dax device and a file on it. Every byte is looked at.

dax=$(make_devdax 2 -a 4K)
device=$(make_fsdax 3) && make_plain_ext4 "$device"
check "there are a dax device and a file system" mount_dax "$device" /mnt/pmem
tiers="tier node {
  kind = numa
  nodes = 1
}
tier shm {
  kind = file
  path = /dev/shm
}
tier dax {
  kind = dax
  path = $dax
}
tier file {
  kind = file
  path = /mnt/pmem
}"
for place in dram node shm dax file; do
    large $place $place
done
blocks=6

mkfifo /tmp/commands /tmp/answers
(LD_PRELOAD=$BERTH_CUDA:$BERTH_MALLOC BERTH_POLICY=/tmp/dram.table BERTH_CONTROL=always \
    exec "$MOVE_CLIENT" $blocks 1100000 1) </tmp/commands >/tmp/answers 2>/tmp/errors &
program=$!
exec 7>/tmp/commands 8</tmp/answers
read -r answer <&8

# told COMMAND ANSWER: what the program answers to the command.
told() {
    echo "$1" >&7
    read -r answer <&8
    echo "$1: $answer"
    [ "$answer" = "$2" ]
}

# goes FROM TO: by the command alone, or, where nobody holds back who writes to a device, at the
# program's next quiescent step.
goes() {
    local status=0 steps=0
    case $1 in
    dax | file) status=1 steps=$blocks ;;
    esac
    ends $status "$BERTH" policy apply --move "$program" "/tmp/$2.policy" &&
        told step $steps && told where "$2 $blocks" || return 1
    told address ""
    "$BERTH" explain "$program" "$answer" >/tmp/explained
    cat /tmp/explained
    grep -q "\\b$2\\b" /tmp/explained
}

# Each of the ways between two of them, once.
from=dram
for to in node dram shm dram dax dram file node shm node dax node file shm dax shm file dax file dram; do
    check "from $from to $to, while it is written to" goes $from $to
    from=$to
done

# The kernel asks nobody before it takes a node from a program.
leave_node() {
    mkdir -p /tmp/groups
    mount -t cgroup2 none /tmp/groups && echo +cpuset >/tmp/groups/cgroup.subtree_control &&
        mkdir /tmp/groups/near && echo 0 >/tmp/groups/near/cpuset.mems &&
        echo "$program" >/tmp/groups/near/cgroup.procs
}
check "the program may have memory of node 0 alone" leave_node
check "to the other node: berth policy apply --move" \
    ends 1 "$BERTH" policy apply --move "$program" /tmp/node.policy
cp "$output" /tmp/applied
check "is refused, with the reason" grep 'no memory on node 1 (cpuset)' /tmp/applied
check "and the blocks are where they were" told where "dram $blocks"
check "a child has what its parent had" told child "child right"
check "every byte was right" told end right
exec 7>&- 8<&-
wait $program
check "and nothing was said" test ! -s /tmp/errors
rm /tmp/commands /tmp/answers
umount /mnt/pmem
