# SPDX-License-Identifier: Apache-2.0
# The malloc family, with every block on a device-dax device. A device has one user, and no forked
# child is it: each check is a process that nobody has forked under Berth.
device=$(make_devdax 1)
policy device <<END
tier far {
  kind = dax
  path = $device
}
rule everything {
  side = host
  min-size = 0
  place = { far, dram }
}
END
each() {
    local name
    for name in $("$CONFORM" --list); do
        under /tmp/device.table "$CONFORM" --alone "$name" || echo "FAILED $name (status $?)"
    done
}
checks "malloc on dax:" 40 each
