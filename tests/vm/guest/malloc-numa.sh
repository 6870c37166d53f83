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
tell_limits "malloc on a node:"

# The same, mixed at random: the node, a device-dax device, a file on tmpfs, a little of the node, and
# ordinary memory.
device=$(make_devdax 3)
drawn() {
    python3 "$CONFORM_RUN" random --print-policy --seed 4 --tier numa:1 --tier "dax:$device" \
        --tier file:/dev/shm >/tmp/drawn && policy mixed </tmp/drawn
}
# What takes longest, and has been seen above; whose operator new it is, does not depend on the place.
long="two_hundred_threads_live_at_once finding_4_ten_thousand_threads_leak_nothing
  a_program_may_use_up_its_mappings a_program_may_limit_its_addresses realloc_keeps_contents
  a_library_may_replace_some_operators preloaded_operators_may_call_the_next_ones"
check "a policy is drawn" drawn
export CHECK_RANDOM=/tmp/drawn
checks "malloc on a node, a device, a file and in memory:" 40 conform /tmp/mixed.table "$(echo $long)"
unset CHECK_RANDOM
