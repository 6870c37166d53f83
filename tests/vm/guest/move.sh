# SPDX-License-Identifier: Apache-2.0
# Blocks of a running program that are moved to other nodes: node 1 has memory and no processor.

# at NAME PLACE: large blocks are there, and may move.
at() {
    policy "$1" <<END
tier far {
  kind = numa
  nodes = 1
}
tier shm {
  kind = file
  path = /dev/shm
}
rule large {
  side = host
  min-size = 1M
  place = $2
  movable = yes
}
END
}
at near dram
at node far
at file shm

# move FROM FROM-NODES TO TO-NODES: a program starts under one policy and gets the other.
move() {
    local program
    mkfifo /tmp/told /tmp/wait
    (LD_PRELOAD=$BERTH_CUDA:$BERTH_MALLOC BERTH_POLICY=/tmp/$1.table BERTH_CONTROL=always \
        exec "$VM_CASES" moved "$2" "$4" /tmp/told /tmp/wait) >/tmp/moved 2>/tmp/moved.errors &
    program=$!
    head -c 1 /tmp/told >/dev/null
    check "from $1 to $3: berth policy apply --move" \
        "$BERTH" policy apply --move "$program" "/tmp/$3.policy"
    sed 's/^/# /' "$output" >/dev/ttyS1
    printf x >/tmp/wait
    wait $program
    rm /tmp/told /tmp/wait
    checks "from $1 to $3:" 4 cat /tmp/moved
    [ ! -s /tmp/moved.errors ] || sed 's/^/# /' /tmp/moved.errors >/dev/ttyS1
}
move near 0 node 1
move node 1 near 0
move file 0 node 1
