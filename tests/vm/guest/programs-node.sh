# SPDX-License-Identifier: Apache-2.0
# Programs of tests/integration with their memory on node 1, which has no processor.
programs node
