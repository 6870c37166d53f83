# SPDX-License-Identifier: Apache-2.0
# The malloc family, with every block on a device-dax device.
device=$(make_devdax 4)
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
checks "malloc on dax:" 40 conform /tmp/device.table ""
tell_limits "malloc on dax:"
