# SPDX-License-Identifier: Apache-2.0
# What persist-write and persist-read have in common: a dax device on node 3 and an ext4 with
# dax=always on node 4, each with a tier that has a name, and a client that keeps blocks in them.
tier_of() {
    case $1 in
    dax) printf 'kind = dax\n  path = %s\n' "$dax" ;;
    fsdax) printf 'kind = file\n  path = /mnt/kept\n' ;;
    esac
}

store_of() {
    case $1 in
    dax) echo "$dax" ;;
    fsdax) echo /mnt/kept/kept ;;
    esac
}

# make_policies: a table for each kind, and one that verifies contents.
make_policies() {
    local kind verify
    for kind in dax fsdax; do
        for verify in commit full; do
            policy "$kind-$verify" <<END
tier keep {
  $(tier_of "$kind")
  name = kept
  verify = $verify
}
END
        done
    done
}

client() {
    local table=$1
    shift
    under "/tmp/$table.table" "$PERSIST_CLIENT" "$@"
}

# fails STATUS COMMAND...: the command ends with this status.
fails() {
    local status=$1
    shift
    "$@"
    [ $? -eq "$status" ]
}

# cut_work TABLE SEED FILE: a client makes, replaces and removes blocks, and is killed in the middle
# of it after some.
cut_work() {
    local pid line done=0
    mkfifo /tmp/work
    # Not by a function: its process would be a shell's.
    LD_PRELOAD=$BERTH_MALLOC BERTH_POLICY=/tmp/$1.table BERTH_CONTROL=never \
        "$PERSIST_CLIENT" work "$2" 4 600000 >/tmp/work 2>&1 &
    pid=$!
    while read -r line; do
        echo "$line"
        [ "${line%% *}" != done ] || done=$((done + 1))
        # It has gone on meanwhile, by how much nobody knows.
        [ $done -ne $((12 + $2)) ] || kill -9 $pid
    done </tmp/work >"$3"
    wait $pid 2>/dev/null
    rm /tmp/work
}

# answers TABLE FILE: what berth-infer says, its weights kept or found.
answers() {
    under "/tmp/$1.table" "$INFER" --model "$MODEL" --prompt "And the king said" --max-tokens 8 \
        --persist >"$2" 2>/tmp/errors
    cat /tmp/errors
    [ ! -s /tmp/errors ] && [ -s "$2" ]
}
