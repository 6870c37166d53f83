# SPDX-License-Identifier: Apache-2.0
# Blocks of a running program that are moved to other nodes: node 1 has memory and no processor.

tiers="tier far {
  kind = numa
  nodes = 1
}
tier shm {
  kind = file
  path = /dev/shm
}"
large near dram
large node far
large file shm

sent near node 0 4 moved 0 1 6
sent node near 0 4 moved 1 0 6
sent file node 0 4 moved 0 1 6

# Of what is left, some stays free.
leave 1 120
sent near node 1 2 overfilled dram far 20
give 1
check "what does not fit is said to have no room" grep "the tier has no room" /tmp/applied

# Huge pages have pieces of several blocks, not all of which go.
echo always >/sys/kernel/mm/transparent_hugepage/enabled
weights() {
    policy "$1" <<END
$tiers
rule weights {
  tag = weight
  side = host
  place = $2
  movable = yes
}
rule large {
  side = host
  min-size = 1M
  place = dram
  movable = yes
}
END
}
weights weights-near dram
weights weights-far far
sent weights-near weights-far 0 5 parted 0 1
