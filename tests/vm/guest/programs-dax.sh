# SPDX-License-Identifier: Apache-2.0
# Programs of tests/integration with a device-dax device.
DEVICE=$(make_devdax 4)
export DEVICE
programs dax
