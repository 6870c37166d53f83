# SPDX-License-Identifier: Apache-2.0
# A CXL memory device: as a device-dax device, and as a node of its own. The kernel knows the device
# as persistent memory, the one kind that QEMU 7.2 has. Each access to it is emulated, and slow.
make_region() {
    local decoder
    decoder=$(ls /sys/bus/cxl/devices | grep -m 1 '^decoder0') || return 1
    cxl create-region -m -d "$decoder" -w 1 -t pmem mem0 || return 1
    ndctl create-namespace -m devdax -M mem -r region0
}
# Devices are found some time after their drivers are there.
for i in $(seq 100); do
    [ ! -e /sys/bus/cxl/devices/mem0 ] || [ ! -e /sys/bus/cxl/devices/endpoint2 ] || break
    sleep 0.2
done
check "a CXL device becomes a region and a device" make_region
device=/dev/dax0.0
policy device <<END
tier far {
  kind = dax
  path = $device
  capacity = 8M
}
rule everything {
  side = host
  min-size = 0
  place = { far, dram }
}
END
checks "CXL memory by its device:" 4 under /tmp/device.table "$VM_CASES" more far dram 10

tiers="tier far {
  kind = dax
  path = $device
}"
large near dram
large away far
sent away near 1 6 stepped far dram 5

give_to_kernel() {
    load_kmem && daxctl reconfigure-device --mode=system-ram dax0.0
}
check "CXL memory becomes memory of node 1" give_to_kernel

tiers="tier far {
  kind = numa
  nodes = 1
}"
large near dram
large node far
sent near node 0 4 moved 0 1 2
sent node near 0 4 moved 1 0 2
