/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a debugger that writes a core of a program writes what it has, not what Berth has reserved:
 * gdb reads whatever mapping does not ask to be left out, readable or not.
 * Method: the process's own mappings, once a block that may move was placed.
 */
#include "alloc/tier_ops.h"
#include "pmem/host.h"
#include "pmem/movable.h"
#include "tests/unit/pmem/child_fixture.h"
#include "tests/unit/pmem/table_fixture.h"

#include <stdio.h>
#include <string.h>

#define MIB ((size_t)1 << 20)
/* What of a machine's size is reserved comes to much more. */
#define DUMPED_MAX (32 * MIB)

static void place_block(void)
{
    struct berth_host_request request = {.size = MIB, .alignment = 1};
    struct berth_table_draft *draft = berth__draft_new();
    bool placed;
    void *p;

    draft_rule(draft, RULE(.name = "all", .side = BERTH_SIDE_HOST, .movable = true), "dram", NULL);
    draft_install(draft);
    p = berth__host_alloc(&request, &placed);
    CHECK(p && placed && berth__is_movable(p));
}

/* What nobody can read, and is not left out of a dump. */
static size_t reserved_and_dumped(void)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    size_t total = 0, size = 0;
    bool is_reserved = false;
    char line[512];

    CHECK(file);
    while (fgets(line, sizeof(line), file)) {
        char rights[5];

        if (sscanf(line, "%*x-%*x %4s", rights) == 1)
            is_reserved = strcmp(rights, "---p") == 0;
        else if (sscanf(line, "Size: %zu kB", &size) != 1 && strncmp(line, "VmFlags:", 8) == 0 &&
                 is_reserved && !strstr(line, " dd"))
            total += size << 10;
    }
    fclose(file);
    return total;
}

static void check_reserved(void)
{
    size_t before = reserved_and_dumped();

    place_block();
    CHECK(reserved_and_dumped() - before < DUMPED_MAX);
}

static void reservations_are_in_no_core_dump(void **state)
{
    (void)state;
    in_host_child(check_reserved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reservations_are_in_no_core_dump),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
