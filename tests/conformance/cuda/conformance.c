/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a program cannot tell Berth from the driver. Method: see item.h. Usage:
 *   conformance [ITEM]    all items, or one: item_17, item_17_address_range
 *   conformance --list    their names
 */
#include "item.h"

#include <string.h>

static const struct check checks[] = {
#define X(name) CHECK(name),
    ITEMS(X)
#undef X
};

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--peer") == 0) {
        int r = item_ipc_peer(argv[2], argv[3]);

        return r >= 0 ? r : item_process_peer(argv[2], argv[3]);
    }
    return checks_run(checks, COUNT(checks), argc, argv);
}
