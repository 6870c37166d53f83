# SPDX-License-Identifier: Apache-2.0
# After the power was cut: what was committed is there, byte by byte, and more can be made.
. /vm/persist.sh
dax=/dev/dax$(region 3).0
check "the file system is there again" mount_dax "/dev/pmem$(region 4)" /mnt/kept
make_policies

for kind in dax fsdax; do
    store=$(store_of $kind)
    check "$kind: every block is whole" "$BERTH" pmem check "$store"
    check "$kind: what was committed is there" client $kind-full get a 3000001 2
    check "$kind: what was not is not" fails 2 client $kind-commit get b 1000000 1
    cut_work $kind-commit 10 /tmp/work-$kind
    check "$kind: a program finds its blocks, and goes on" grep '^done' /tmp/work-$kind
    check "$kind: a block is removed" "$BERTH" pmem rm "$store" a
    check "$kind: and gone" fails 2 client $kind-commit get a 3000001 2
    check "$kind: every block is whole still" "$BERTH" pmem check "$store"
done
# To the guest the model's file is a new one.
if [ -n "${INFER:-}" ]; then
    check "dax: berth-infer reads its weights anew" answers dax-commit /tmp/kept
    check "dax: and answers as before" \
        test "$(md5sum </tmp/kept | cut -d ' ' -f 1)" = "$VM_answer"
fi
