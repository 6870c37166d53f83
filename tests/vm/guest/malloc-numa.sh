# SPDX-License-Identifier: Apache-2.0
# The malloc family, with every block on a node that has memory and no processor.
policy node <<'END'
tier far {
  kind = numa
  nodes = 1
}
rule everything {
  side = host
  min-size = 0
  place = { far, dram }
}
END
checks "malloc on a node:" 40 under /tmp/node.table "$CONFORM"

# The same, mixed at random.
check "a policy is drawn" mixed 4 numa:1
export CHECK_RANDOM=1
checks "malloc on a node and elsewhere:" 40 under /tmp/mixed.table "$CONFORM"
unset CHECK_RANDOM
