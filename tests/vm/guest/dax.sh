# SPDX-License-Identifier: Apache-2.0
# Tiers of kind dax: a device-dax device, in pages of 2 MiB and of 4 KiB, and what becomes of a tier
# whose device is smaller than it should be, in use, somebody else's, or not there.
device=$(make_devdax 4)
check "an NVDIMM becomes a device" test -c "$device"

# dev NAME MORE...: everything goes to the device.
dev() {
    local name=$1
    shift
    policy "$name" <<END
tier far {
  kind = dax
  path = $device
$(printf '  %s\n' "$@")
}
rule everything {
  side = host
  min-size = 0
  place = { far, dram }
}
END
}

dev default
dev small "capacity = 16M" "decay = 0"
dev beyond "capacity = 64G" "decay = 0"
dev share "fork = share"
dev limited "fork-copy-max = 1M"

checks "dax:" 9 under /tmp/default.table "$VM_CASES" dax far "$device"
checks "dax, fork = copy:" 3 under /tmp/default.table "$VM_CASES" fork-copies far
checks "dax, fork = share:" 3 under /tmp/share.table "$VM_CASES" fork-shares far
checks "dax, fork-copy-max:" 3 under /tmp/limited.table "$VM_CASES" fork-refused far
checks "dax, capacity = 16M:" 4 under /tmp/small.table "$VM_CASES" more far dram 64
checks "dax, more than the device has:" 4 under /tmp/beyond.table "$VM_CASES" more far dram 320
check "berth doctor names the device" sh -c '"$BERTH" doctor | grep "device-dax.*/dev/dax"'

# is_said POLICY WHAT: in one line; blocks go to the next place.
is_said() {
    under "/tmp/$1.table" "$VM_CASES" next dram >/tmp/cases 2>/tmp/said
    cat /tmp/cases /tmp/said
    ! grep -q FAILED /tmp/cases && [ "$(wc -l </tmp/said)" = 1 ] && grep -q "$2" /tmp/said
}

# device_like ALIGNMENT: what a tier says of the device, its size as the kernel tells it.
device_like() {
    local sys=/sys/bus/dax/devices/${device##*/}
    echo "device-dax $device: $(($(cat "$sys/size") >> 20))\.0 MiB, aligned to $1, node 4, mapped" \
        "shared in pieces of [0-9.]+ MiB; [0-9.]+ MiB free; fork = copy"
}
asked default dax "$(device_like '2\.00 MiB')"

# A device has one user.
mkfifo /tmp/held /tmp/release
under /tmp/default.table "$VM_CASES" hold far /tmp/held /tmp/release >/tmp/holder &
head -c 1 /tmp/held >/dev/null
check "a device in use is said, and is not used" is_said default "$device"
printf x >/tmp/release
wait
check "its first user noticed nothing" sh -c 'cat /tmp/holder; [ "$(grep -c ^ok /tmp/holder)" = 2 ]'

(
    device=/dev/dax9.0
    dev gone
    device=/dev/dax8.0
    dev wrong
)
# The policy was made before there was something else of that name.
mknod /dev/dax8.0 c 1 3
check "a device that is not there is said" is_said gone /dev/dax9.0
check "a device of another kind is said" is_said wrong "no device-dax device"

check "an NVDIMM becomes a device of small pages" make_devdax 4 -a 4K
checks "dax in small pages:" 9 under /tmp/default.table "$VM_CASES" dax far "$device"
asked default dax "$(device_like '4\.00 KiB')"
checks "dax in small pages, more than it has:" 4 under /tmp/beyond.table "$VM_CASES" more far dram 320

# Blocks that may move, at first in ordinary memory or on the device.
tiers="tier far {
  kind = dax
  path = $device
}"
large near dram
large away far
# Without a word of the program's, nothing can hold back who writes to a device.
sent near away 0 6 stepped dram far 0
sent away near 1 6 stepped far dram 5
check "an NVDIMM becomes a device of large pages" make_devdax 4
sent away near 1 6 stepped far dram 5
