# SPDX-License-Identifier: Apache-2.0
# Blocks are made on a dax device and on fsdax, by a client that is killed in the middle of it.
. /vm/persist.sh
dax=$(make_devdax 3)
device=$(make_fsdax 4) && make_ext4 "$device"
check "there are a dax device and a file system" mount_dax "$device" /mnt/kept
make_policies

for kind in dax fsdax; do
    store=$(store_of $kind)
    check "$kind: the contract of the calls" client $kind-commit contract keep
    check "$kind: a block is put" client $kind-commit put a 5000000 1
    check "$kind: it is replaced" client $kind-commit put a 3000001 2
    check "$kind: and found" client $kind-full get a 3000001 2
    check "$kind: what was not committed" client $kind-commit half b 1000000
    check "$kind: is not found" fails 2 client $kind-commit get b 1000000 1
    check "$kind: berth pmem check" "$BERTH" pmem check "$store"
    check "$kind: berth pmem ls" sh -c "'$BERTH' pmem ls '$store' | grep '^a .*MiB'"
    for i in 1 2 3; do
        cut_work $kind-commit $i /tmp/work-$i
    done
    check "$kind: after three kills every block is whole" "$BERTH" pmem check "$store"
    check "$kind: blocks were made meanwhile" \
        sh -c "grep '^done' /tmp/work-1 && grep '^done' /tmp/work-3"
done
check "dax: another tier does not overwrite what is on the device" sh -c "
    printf 'tier far {\n kind = dax\n path = %s\n}\nrule r {\n place = far\n}\n' '$dax' \
        >/tmp/other.policy
    '$BERTH' run --policy /tmp/other.policy -- '$PERSIST_CLIENT' rm x 2>&1 | tee /dev/stderr |
        grep -q 'holds a persistent store'"
if [ -n "${INFER:-}" ]; then
    check "dax: berth-infer keeps its weights" answers dax-commit /tmp/kept
    check "dax: and finds them" answers dax-commit /tmp/found
    check "dax: and says the same" cmp /tmp/kept /tmp/found
    say "value answer $(md5sum </tmp/kept | cut -d ' ' -f 1)"
fi
