/* SPDX-License-Identifier: Apache-2.0 */
/* The facts of abi_facts.inc as a table, in the eyes of the headers that the
 * including file has included before. */
#include <stddef.h>

struct abi_fact {
    const char *name;
    long long value;
};

#define SIZE(type) {"sizeof(" #type ")", (long long)sizeof(type)},
#define OFFSET(type, field) {"offsetof(" #type ", " #field ")", (long long)offsetof(type, field)},
#define VALUE(name) {#name, (long long)(name)},

extern const struct abi_fact abi_ours[], abi_theirs[];
extern const size_t abi_ours_count, abi_theirs_count;
