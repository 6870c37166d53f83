# SPDX-License-Identifier: Apache-2.0
# What the guest's scripts have in common. Each case is told as a line "ok NAME", "not ok NAME" or
# "skip NAME: REASON"; lines that begin with # are said about the next one.

output=/tmp/output

say() {
    printf '%s\n' "$*" >/dev/ttyS1
}

tell_output() {
    tail -n 40 "$output" | sed 's/^/# /' >/dev/ttyS1
}

# check NAME COMMAND...: one case. Status 77 skips it; the reason is the last line of the output.
check() {
    local name=$1 status
    shift
    "$@" >"$output" 2>&1
    status=$?
    case $status in
    0) say "ok $name" ;;
    77) say "skip $name: $(tail -n 1 "$output")" ;;
    *)
        tell_output
        say "# status $status of: $*"
        say "not ok $name"
        ;;
    esac
    return $status
}

# checks PREFIX LEAST COMMAND...: a program that prints "ok NAME", "FAILED NAME" or "skipped NAME:
# REASON" for each of at least so many cases of its own.
checks() {
    local prefix=$1 least=$2 status count
    shift 2
    "$@" >"$output" 2>"$output.errors"
    status=$?
    count=$(grep -c -E '^(ok|FAILED|skipped) ' "$output")
    sed -n -e "s/^ok \([^ ]*\).*/ok $prefix \1/p" -e "s/^skipped /skip $prefix /p" \
        -e "s/^FAILED \([^ ]*\)\(.*\)/#\2\nnot ok $prefix \1/p" "$output" >/tmp/cases
    if grep -q '^not ok' /tmp/cases; then
        tail -n 40 "$output.errors" | sed 's/^/# /' >/dev/ttyS1
    fi
    cat /tmp/cases >/dev/ttyS1
    if [ "$count" -lt "$least" ] || { [ $status -ne 0 ] && ! grep -q '^not ok' /tmp/cases; }; then
        tail -n 20 "$output.errors" | sed 's/^/# /' >/dev/ttyS1
        say "not ok $prefix came to its end (status $status after $count cases)"
    fi
}

# conform TABLE SKIPPED: the checks of the malloc family, but those whose names are skipped. A device
# has one user, and no forked child is it: they run in processes that nobody has forked under Berth.
conform() {
    local table=$1 skipped=$2 names name status
    "$CONFORM" --groups >/tmp/groups.of.checks
    while read -r names; do
        set --
        for name in $names; do
            case " $skipped " in
            *" $name "*) ;;
            *) set -- "$@" "$name" ;;
            esac
        done
        while [ $# -gt 0 ]; do
            under "$table" "$CONFORM" --alone "$@" >/tmp/told </dev/null
            status=$?
            cat /tmp/told
            [ $status -ne 0 ] || break
            # The first that was not told has failed; those behind it have another process.
            shift "$(grep -c '^ok ' /tmp/told)"
            echo "FAILED ${1:-the_end} (status $status)"
            [ $# -eq 0 ] || shift
        done
    done </tmp/groups.of.checks
}

# What a list of these checks says is well without a look at it: check_limit.c.
tell_limits() {
    say "# not here: $1 addresses_that_were_freed_can_be_had_in_other_sizes and _by_any_function," \
        "data_that_were_freed_can_be_had_in_other_sizes and _by_any_function: fill 128 MiB with" \
        "blocks of 1000 bytes and more, some ten times each, which takes an emulated processor long"
}

# region NODE: the number of the region that the NVDIMM of this node is. They are not numbered in
# the order in which they are plugged in.
region() {
    local directory
    for directory in /sys/bus/nd/devices/region*; do
        [ "$(cat "$directory/target_node")" = "$1" ] && echo "${directory##*/region}" && return 0
    done
    return 1
}

# make_fsdax NODE, make_devdax NODE OPTION...: the NVDIMM of this node as a block device, /dev/pmemR,
# or as a character device, /dev/daxR.0; what it had in it is lost. Prints the path.
make_fsdax() {
    local r
    r=$(region "$1") || return 1
    ndctl create-namespace -f -e "namespace$r.0" -m fsdax -M mem >/dev/null || return 1
    echo "/dev/pmem$r"
}

make_devdax() {
    local r
    r=$(region "$1") || return 1
    shift
    ndctl create-namespace -f -e "namespace$r.0" -m devdax -M mem "$@" >/dev/null || return 1
    echo "/dev/dax$r.0"
}

# make_ext4 DEVICE OPTION...: blocks of an OS page are what dax needs.
make_ext4() {
    mkfs.ext4 -q -b 4096 "$@"
}

# The same without a journal: with one, each first touch of a page that is mapped with MAP_SYNC is a
# commit of it. And without checksums, which the file system computes anew for each block that it gives:
# a tenth of all that a guest's kernel did. Where the power is cut it has both.
make_plain_ext4() {
    make_ext4 -O ^has_journal,^metadata_csum "$@"
}

mount_dax() {
    mkdir -p "$2" && mount -t ext4 -o "dax=${3:-always}" "$1" "$2"
}

# policy NAME <TEXT: compiles a policy; the table is /tmp/NAME.table.
policy() {
    cat >"/tmp/$1.policy"
    "$BERTH" policy compile "/tmp/$1.policy" -o "/tmp/$1.table"
}

# under TABLE COMMAND...: runs it with the malloc side preloaded and this table in force.
under() {
    local table=$1
    shift
    LD_PRELOAD=$BERTH_MALLOC BERTH_POLICY=$table BERTH_CONTROL=never "$@"
}

# far NAME MORE...: everything goes to a file tier in $folder; MORE are statements of the tier.
far() {
    local name=$1
    shift
    policy "$name" <<END
tier far {
  kind = file
  path = $folder
$(printf '  %s\n' "$@")
}
rule everything {
  side = host
  min-size = 0
  place = { far, dram }
}
END
}

# large NAME PLACE: of the tiers in $tiers, large blocks are in this one, and may move.
large() {
    policy "$1" <<END
$tiers
rule large {
  side = host
  min-size = 1M
  place = $2
  movable = yes
}
END
}

# await_socket PID: a thread of the program's opens it, which has to run first.
await_socket() {
    local i
    for i in $(seq 100); do
        ! "$BERTH" stat "$1" >/dev/null 2>&1 || break
        sleep 0.1
    done
}

# sent FROM TO STATUS LEAST SUBJECT ARGUMENT...: a program starts under the policy FROM and is sent
# to TO while it runs, by a command that ends with this status; then it tells its cases.
sent() {
    local from=$1 to=$2 status=$3 least=$4 program
    shift 4
    mkfifo /tmp/told /tmp/wait
    (LD_PRELOAD=$BERTH_CUDA:$BERTH_MALLOC BERTH_POLICY=/tmp/$from.table BERTH_CONTROL=always \
        exec "$VM_CASES" "$@" /tmp/told /tmp/wait) >/tmp/moved 2>/tmp/moved.errors &
    program=$!
    head -c 1 /tmp/told >/dev/null
    await_socket $program
    check "from $from to $to: berth policy apply --move" ends "$status" \
        "$BERTH" policy apply --move "$program" "/tmp/$to.policy"
    sed 's/^/# /' "$output" >/dev/ttyS1
    cp "$output" /tmp/applied
    printf x >/tmp/wait
    wait $program
    rm /tmp/told /tmp/wait
    checks "from $from to $to:" "$least" cat /tmp/moved
    [ ! -s /tmp/moved.errors ] || sed 's/^/# /' /tmp/moved.errors >/dev/ttyS1
}

# asked POLICY KIND WHAT: while a program keeps blocks in the tier "far" of this kind, the tool is asked
# about it. WHAT is what the tier says of itself, as a regular expression.
asked() {
    local policy=$1 kind=$2 what=$3 program
    mkfifo /tmp/held /tmp/release
    (LD_PRELOAD=$BERTH_CUDA:$BERTH_MALLOC BERTH_POLICY=/tmp/$policy.table BERTH_CONTROL=always \
        exec "$VM_CASES" hold far /tmp/held /tmp/release) >/tmp/holder 2>&1 &
    program=$!
    head -c 1 /tmp/held >/dev/null
    await_socket $program
    check "$kind: berth doctor PID says what became of the tier" says \
        "^ok +tier far +$kind: $what; decay = 10s; [3-9][0-9]\.[0-9] MiB in use\$" \
        "$BERTH" doctor "$program"
    # So much vm_cases asks for; a rule that sends all there has spilled none of it.
    "$BERTH" stat "$program" >/tmp/stat
    check "$kind: berth stat counts its blocks" says \
        "^untagged +far +30\.5 MiB +[3-9][0-9]\.[0-9] MiB +25 " cat /tmp/stat
    check "$kind: and says that all had room" says "^far +$kind .* 0 +0 B\$" cat /tmp/stat
    check "$kind: berth stat --json says the same of the tier" says \
        "^ *\"description\": \"$what\",\$" "$BERTH" stat "$program" --json
    printf x >/tmp/release
    wait $program
    rm /tmp/held /tmp/release
    check "$kind: the program noticed nothing" sh -c 'cat /tmp/holder; [ "$(grep -c ^ok /tmp/holder)" = 2 ]'
}

# says EXPRESSION COMMAND...: one line of what the command prints is like this.
says() {
    local expression=$1
    shift
    "$@" >/tmp/saying
    cat /tmp/saying
    [ "$(grep -c -E "$expression" /tmp/saying)" = 1 ]
}

# leave NODE MIB: so much of a node's memory is left for programs; the rest is kept as huge pages that
# nobody has. To fill all of a node takes seconds. give NODE: all of it is there again.
leave() {
    local node=/sys/devices/system/node/node$1 free
    free=$(awk '/MemFree/ { print int($4 / 1024) }' "$node/meminfo")
    echo $(((free - $2) / 2)) >"$node/hugepages/hugepages-2048kB/nr_hugepages"
}

give() {
    echo 0 >"/sys/devices/system/node/node$1/hugepages/hugepages-2048kB/nr_hugepages"
}

# ends STATUS COMMAND...: the command ends with this status.
ends() {
    local status=$1
    shift
    "$@"
    [ $? -eq "$status" ]
}

# programs PLAN: tests of tests/integration, by guest/programs.py, which tells their cases.
programs() {
    check "$1: the programs came to their end" python3 /vm/programs.py "$1" /dev/ttyS1
}
