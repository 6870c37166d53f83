# SPDX-License-Identifier: Apache-2.0
# Tiers of kind numa: node 1 has memory and no processor; node 2 is an NVDIMM, which is no memory of
# the system until the kernel is told to take it (dax-kmem).

# Huge pages where they are asked for alone.
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled

# on NAME NODES MORE...: everything goes to these nodes.
on() {
    local name=$1 nodes=$2
    shift 2
    policy "$name" <<END
tier far {
  kind = numa
  nodes = "$nodes"
$(printf '  %s\n' "$@")
}
rule everything {
  side = host
  min-size = 0
  place = { far, dram }
}
END
}

on one 1
on two 2
on both "1-2"
on some "1,7"
on none 9
on preferred 1 "numa = preferred"
on small 1 "capacity = 16M" "decay = 0"
on advised 1 "huge-pages = advise"
on reserved 1 "huge-pages = always"

checks "node 1:" 8 under /tmp/one.table "$VM_CASES" numa far 1 bind=static:1
asked one numa "private memory of node 1, bound: [0-9.]+ MiB, [0-9.]+ MiB left"
checks "node 1, preferred:" 8 under /tmp/preferred.table "$VM_CASES" numa far 1 prefer=static:1
checks "node 1, capacity = 16M:" 4 under /tmp/small.table "$VM_CASES" more far dram 64
leave 1 120
checks "more than node 1 has:" 4 under /tmp/one.table "$VM_CASES" more far dram 150
give 1
checks "fork on node 1:" 3 under /tmp/one.table "$VM_CASES" fork-copies far

checks "node 2 before it has memory:" 2 under /tmp/two.table "$VM_CASES" next dram
# is_said POLICY WHAT TIER: in one line; blocks go to the tier.
is_said() {
    under "/tmp/$1.table" "$VM_CASES" next "$3" >/tmp/cases 2>/tmp/said
    cat /tmp/said
    [ "$(wc -l </tmp/said)" = 1 ] && grep -q "$2" /tmp/said
}
check "which is said in one line" is_said two "node of 2" dram
check "as is a node that no machine has" is_said none "node of 9" dram
checks "such a node:" 2 under /tmp/none.table "$VM_CASES" next dram
check "one of two that is missing is said" is_said some "node 7" far
checks "the other one:" 8 under /tmp/some.table "$VM_CASES" numa far 1 bind=static:1

give_to_kernel() {
    local device
    device=$(make_devdax 2) && load_kmem &&
        daxctl reconfigure-device --mode=system-ram "${device##*/}"
}
check "an NVDIMM becomes memory of node 2" give_to_kernel
checks "node 2, dax-kmem:" 8 under /tmp/two.table "$VM_CASES" numa far 2 bind=static:2
asked two numa "private memory of node 2, bound: [0-9.]+ MiB, [0-9.]+ MiB left"
leave 2 120
checks "more than node 2 has:" 4 under /tmp/two.table "$VM_CASES" more far dram 150
give 2
checks "fork on node 2:" 3 under /tmp/two.table "$VM_CASES" fork-copies far
checks "nodes 1 and 2:" 8 under /tmp/both.table "$VM_CASES" numa far 1,2 bind=static:1-2
check "berth doctor names the nodes" sh -c '"$BERTH" doctor | grep "NUMA nodes.*memory: 0-2, processors: 0"'

checks "huge-pages = advise:" 8 under /tmp/advised.table "$VM_CASES" numa far 1 bind=static:1 huge
echo 120 >/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages
checks "huge-pages = always:" 8 under /tmp/reserved.table "$VM_CASES" numa far 1 bind=static:1 huge
