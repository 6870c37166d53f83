/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/types.h"

#include <errno.h>
#include <string.h>

static const char *const tag_names[BERTH_TAG_COUNT] = {
    [BERTH_TAG_UNTAGGED] = "untagged",     [BERTH_TAG_WEIGHT] = "weight",
    [BERTH_TAG_ACTIVATION] = "activation", [BERTH_TAG_KV] = "kv",
    [BERTH_TAG_WORKSPACE] = "workspace",
};

static const char *const kind_names[BERTH_KIND_COUNT] = {
    [BERTH_KIND_NONE] = "none",     [BERTH_KIND_DEVICE] = "device", [BERTH_KIND_SHARED] = "shared",
    [BERTH_KIND_PINNED] = "pinned", [BERTH_KIND_DRAM] = "dram",     [BERTH_KIND_FILE] = "file",
    [BERTH_KIND_DAX] = "dax",       [BERTH_KIND_NUMA] = "numa",
};

static const char *const tag_source_names[BERTH_TAGGED_COUNT] = {
    [BERTH_TAGGED_NONE] = "none",
    [BERTH_TAGGED_API] = "program",
    [BERTH_TAGGED_SITE] = "site",
    [BERTH_TAGGED_CLASSIFIER] = "classifier",
};

static const char *const numa_names[BERTH_NUMA_COUNT] = {
    [BERTH_NUMA_BIND] = "bind",
    [BERTH_NUMA_PREFERRED] = "preferred",
};

static const char *const huge_names[BERTH_HUGE_COUNT] = {
    [BERTH_HUGE_NEVER] = "never",
    [BERTH_HUGE_ADVISE] = "advise",
    [BERTH_HUGE_ALWAYS] = "always",
};

static const char *const verify_names[BERTH_VERIFY_COUNT] = {
    [BERTH_VERIFY_COMMIT] = "commit",
    [BERTH_VERIFY_FULL] = "full",
};

const char *berth__tag_name(unsigned tag)
{
    return tag < BERTH_TAG_COUNT ? tag_names[tag] : NULL;
}

const char *berth__kind_name(unsigned kind)
{
    return kind < BERTH_KIND_COUNT ? kind_names[kind] : NULL;
}

const char *berth__tag_source_name(unsigned source)
{
    return source < BERTH_TAGGED_COUNT ? tag_source_names[source] : NULL;
}

static int index_of(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -ENOENT;
}

int berth__tag_from_name(const char *name)
{
    return index_of(tag_names, BERTH_TAG_COUNT, name);
}

int berth__kind_from_name(const char *name)
{
    return index_of(kind_names, BERTH_KIND_COUNT, name);
}

const char *berth__numa_mode_name(unsigned mode)
{
    return mode < BERTH_NUMA_COUNT ? numa_names[mode] : NULL;
}

const char *berth__huge_pages_name(unsigned pages)
{
    return pages < BERTH_HUGE_COUNT ? huge_names[pages] : NULL;
}

const char *berth__verify_name(unsigned verify)
{
    return verify < BERTH_VERIFY_COUNT ? verify_names[verify] : NULL;
}

int berth__numa_mode_from_name(const char *name)
{
    return index_of(numa_names, BERTH_NUMA_COUNT, name);
}

int berth__huge_pages_from_name(const char *name)
{
    return index_of(huge_names, BERTH_HUGE_COUNT, name);
}

int berth__verify_from_name(const char *name)
{
    return index_of(verify_names, BERTH_VERIFY_COUNT, name);
}
