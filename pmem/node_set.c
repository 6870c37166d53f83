/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/node_set.h"

#include <errno.h>
#include <stdio.h>

#define WORD_BITS (8 * sizeof(unsigned long))

#define refuse(...) (snprintf(why, why_size, __VA_ARGS__), -EINVAL)

/* Digits at *text, which is moved behind them; -ERANGE from the largest number on. */
static int read_node(const char **text, unsigned *ret)
{
    const char *p = *text;
    unsigned node = 0;

    if (*p < '0' || *p > '9')
        return -EINVAL;
    for (; *p >= '0' && *p <= '9'; p++) {
        node = node * 10 + (unsigned)(*p - '0');
        if (node >= BERTH_NODES_MAX)
            return -ERANGE;
    }
    *text = p;
    *ret = node;
    return 0;
}

int berth__node_set_add(struct berth_node_set *set, const char *text, char *why, size_t why_size)
{
    const char *at = text;

    while (*at) {
        unsigned first, last;
        int r = read_node(&at, &first);

        last = first;
        if (r == 0 && *at == '-') {
            at++;
            r = read_node(&at, &last);
        }
        if (r == -ERANGE)
            return refuse("'%.60s' has a node above %d; expected one that the kernel can have",
                          text, BERTH_NODES_MAX - 1);
        if (r < 0 || (*at != '\0' && (*at != ',' || at[1] == '\0')))
            return refuse("'%.60s' names no nodes; expected numbers or ranges, as in 1 or 0-2,5",
                          text);
        if (first > last)
            return refuse("the range of nodes '%.60s' begins above its end; expected FIRST <= LAST",
                          text);
        for (unsigned node = first; node <= last; node++)
            set->bits[node / WORD_BITS] |= 1UL << (node % WORD_BITS);
        at += *at == ',';
    }
    return 0;
}

bool berth__node_set_has(const struct berth_node_set *set, unsigned node)
{
    return node < BERTH_NODES_MAX && ((set->bits[node / WORD_BITS] >> (node % WORD_BITS)) & 1);
}

unsigned berth__node_set_end(const struct berth_node_set *set)
{
    for (size_t word = BERTH_NODE_WORDS; word-- > 0;)
        if (set->bits[word] != 0)
            return (unsigned)((word + 1) * WORD_BITS) - (unsigned)__builtin_clzl(set->bits[word]);
    return 0;
}

unsigned berth__node_set_count(const struct berth_node_set *set)
{
    unsigned count = 0;

    for (size_t word = 0; word < BERTH_NODE_WORDS; word++)
        count += (unsigned)__builtin_popcountl(set->bits[word]);
    return count;
}

size_t berth__node_set_text(const struct berth_node_set *set, char *text, size_t size)
{
    unsigned end = berth__node_set_end(set);
    size_t used = 0;

    if (size > 0)
        text[0] = '\0';
    for (unsigned node = 0; node < end; node++) {
        unsigned first = node;
        size_t room = used < size ? size - used : 0;
        char *to = room > 0 ? text + used : NULL;
        int n;

        if (!berth__node_set_has(set, node))
            continue;
        while (node + 1 < end && berth__node_set_has(set, node + 1))
            node++;
        n = first == node ? snprintf(to, room, "%s%u", used ? "," : "", first)
                          : snprintf(to, room, "%s%u-%u", used ? "," : "", first, node);
        used += (size_t)n;
    }
    return used;
}
