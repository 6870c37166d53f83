/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/node_memory.h"

#include "pmem/mempolicy.h"
#include "pmem/sysfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Small: threads with the smallest stack come here. What is asked for stands at the beginning. */
#define MEMINFO_MAX 1024

void berth__node_memory_all(struct berth_node_set *ret)
{
    char text[BERTH_NODES_TEXT_MAX];
    char why[BERTH_NODES_WHY_MAX];

    memset(ret, 0, sizeof(*ret));
    if (berth__sysfs_text("devices/system/node/has_memory", text, sizeof(text)) == 0 &&
        berth__node_set_add(ret, text, why, sizeof(why)) == 0 && berth__node_set_end(ret) > 0)
        return;
    memset(ret, 0, sizeof(*ret));
    ret->bits[0] = 1;
}

int berth__node_choose(const char *text, struct berth_node_choice *ret, char *why, size_t why_size)
{
    struct berth_node_set all, allowed;
    bool known = berth__mempolicy_allowed(&allowed) == 0;
    bool some = false;

    memset(ret, 0, sizeof(*ret));
    if (berth__node_set_add(&ret->missing, text, why, why_size) < 0)
        return -EINVAL;
    berth__node_memory_all(&all);
    ret->all = true;
    for (size_t i = 0; i < BERTH_NODE_WORDS; i++) {
        unsigned long there = ret->missing.bits[i] & all.bits[i];

        some |= there != 0;
        ret->nodes.bits[i] = known ? there & allowed.bits[i] : there;
        ret->missing.bits[i] &= ~ret->nodes.bits[i];
        ret->all &= ret->nodes.bits[i] == all.bits[i];
    }
    if (berth__node_set_end(&ret->nodes) > 0)
        return 0;
    snprintf(why, why_size,
             some ? "the process may have no memory on node %.60s (cpuset)"
                  : "no node of %.60s has memory on this machine",
             text);
    return -ENODEV;
}

/* "Node 0 NAME:  123 kB", in bytes; 0 where there is no such line. */
static uint64_t find_line(const char *text, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = text; (at = strstr(at, name)); at += length)
        if (at > text && at[-1] == ' ' && at[length] == ':')
            return (uint64_t)strtoull(at + length + 1, NULL, 10) << 10;
    return 0;
}

static void add_node(unsigned node, struct berth_node_memory *sum)
{
    char path[64];
    char text[MEMINFO_MAX];

    snprintf(path, sizeof(path), "devices/system/node/node%u/meminfo", node);
    if (berth__sysfs_text(path, text, sizeof(text)) < 0)
        return;
    sum->total += find_line(text, "MemTotal");
    sum->available += find_line(text, "MemFree") +
                      (find_line(text, "Active(file)") + find_line(text, "Inactive(file)")) / 2;
}

void berth__node_memory_read(const struct berth_node_set *nodes, struct berth_node_memory *ret)
{
    unsigned end = berth__node_set_end(nodes);

    *ret = (struct berth_node_memory){0};
    for (unsigned node = 0; node < end; node++)
        if (berth__node_set_has(nodes, node))
            add_node(node, ret);
}
