# SPDX-License-Identifier: Apache-2.0
# The power is cut while more is written to the blocks of persist-write and of power-first.
for kind in dax fsdax; do
    client $kind-commit work 9 4 600000 >/tmp/work-$kind 2>&1 &
done
done_by() {
    grep -c '^done' "/tmp/work-$1"
}
for i in $(seq 200); do
    [ "$(done_by dax)" -lt 12 ] || [ "$(done_by fsdax)" -lt 12 ] || break
    sleep 0.3
done
check "both are at it when the power is cut" \
    sh -c "grep '^done' /tmp/work-dax && grep '^done' /tmp/work-fsdax"

at=$(cat /tmp/reached.file)
say "cut FILE $((at + 6)) DAX $(($(cat /tmp/reached.dax) + 6))"
write_on file FILE $((at + 1)) 0 >/dev/ttyS1 2>/dev/ttyS1 &
write_on dax DAX $(($(cat /tmp/reached.dax) + 1)) 0 >/dev/ttyS1 2>/dev/ttyS1
wait
