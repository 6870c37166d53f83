# SPDX-License-Identifier: Apache-2.0
# What the scripts about persistent blocks have in common: node 1 is for a file system, node 2 for a
# device. Stores reach the host's page cache, flushed or not: a cut shows what is recovered, and in
# which state the file system's own metadata is; not that each store was flushed.

# stores PMEM DAX: a policy with a persistent tier on each.
stores() {
    pmem=$1 dax=$2
    policy kept <<END
tier file {
  kind = file
  path = /mnt/pmem
  name = kept
  verify = full
}
tier dax {
  kind = dax
  path = $dax
  name = kept
  verify = full
}
END
}

# verify PREFIX FILE-ROUND DAX-ROUND: looks at what is there after so many rounds.
verify() {
    checks "$1, fsdax:" 5 under /tmp/kept.table "$VM_CASES" persist-verify file "$2"
    checks "$1, dax:" 5 under /tmp/kept.table "$VM_CASES" persist-verify dax "$3"
    check "$1, fsdax: berth pmem check" "$BERTH" pmem check /mnt/pmem/kept
    check "$1, dax: berth pmem check" "$BERTH" pmem check "$dax"
}

# write_on TIER VALUE FIRST ROUNDS: writes, without end if ROUNDS is 0.
write_on() {
    under /tmp/kept.table "$VM_CASES" persist-write "$@"
}

# A process that is killed while it writes. The round that it has come to is in the last line.
killed_writer() {
    local tier=$1 first=$2 rounds=$3 line writer
    mkfifo /tmp/rounds
    # The shell that starts it becomes it, so that it is the one that is killed.
    (LD_PRELOAD=$BERTH_MALLOC BERTH_POLICY=/tmp/kept.table BERTH_CONTROL=never \
        exec "$VM_CASES" persist-write "$tier" X "$first" 0) >/tmp/rounds 2>/dev/null &
    writer=$!
    while read -r line; do
        echo "${line##* }" >"/tmp/reached.$tier"
        [ "${line##* }" -ne $((first + rounds)) ] || kill -9 $writer
    done </tmp/rounds
    wait $writer
    rm /tmp/rounds
}
