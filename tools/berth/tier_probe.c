/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/tier_probe.h"

#include "pmem/dax_device.h"
#include "pmem/huge_pool.h"
#include "pmem/node_memory.h"
#include "pmem/table.h"
#include "pmem/table_build.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Says it where only some of the nodes are there; whether any is. */
static bool nodes_serve(const struct berth_tier_config *config, bool *ret_said, char *why,
                        size_t why_size)
{
    static struct berth_node_choice choice;
    char nodes[64], missing[64];

    if (berth__node_choose(config->nodes, &choice, why, why_size) < 0)
        return false;
    if (berth__node_set_text(&choice.missing, missing, sizeof(missing)) == 0)
        return true;
    berth__node_set_text(&choice.nodes, nodes, sizeof(nodes));
    fprintf(stderr,
            "berth: tier %s: node %s has no memory for this process; the tier is on node %s\n",
            config->name, missing, nodes);
    *ret_said = true;
    return true;
}

/* Whether it is a device that can be opened. Whether others use it shows when it is needed. */
static bool device_serves(const char *path, char *why, size_t why_size)
{
    struct berth_dax_device device;

    if (berth__dax_device_find(path, &device, why, why_size) < 0)
        return false;
    if (access(path, R_OK | W_OK) == 0)
        return true;
    snprintf(why, why_size, "%s cannot be opened: %s", path, strerror(errno));
    return false;
}

/* Whether the persistent blocks of the tier are there to be read: it takes no others, if need be.
 */
static bool is_readable_store(const struct berth_tier_config *config)
{
    char *path = berth__tool_format("%s/%s", config->path, config->segment);
    bool readable = access(path, R_OK) == 0;

    free(path);
    return readable;
}

/* Whether the tier can have the reserved huge pages that its policy asks for. */
static bool has_huge_pages(const struct berth_tier_config *config, char *why, size_t why_size)
{
    const char *path = config->path;
    uint64_t page;
    int64_t pages;
    int fd;

    if (path[0] && !berth__huge_pool_is_directory(path)) {
        snprintf(why, why_size, "its directory is no hugetlbfs");
        return false;
    }
    fd = path[0] ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                 : berth__huge_pool_open(why, why_size);
    if (fd < 0)
        return path[0]; /* others may not read it, and yet make files there */
    pages = berth__huge_pool_pages(fd, &page, why, why_size);
    close(fd);
    return pages >= 0;
}

/* Says it where a tier that there is goes without. */
static void look_for_huge_pages(const struct berth_tier_config *config, bool *ret_said)
{
    char why[BERTH_TABLE_WHY_MAX];

    if (config->huge_pages != BERTH_HUGE_ALWAYS || has_huge_pages(config, why, sizeof(why)))
        return;
    fprintf(stderr,
            "berth: tier %s: no huge pages can be had: %s; transparent ones are asked for\n",
            config->name, why);
    *ret_said = true;
}

/* Whether files can be made in the directory. Says it where there is no room for them now. */
static bool directory_serves(const struct berth_tier_config *config, bool *ret_said, char *why,
                             size_t why_size)
{
    const char *path = config->path;
    struct statvfs fs;
    struct stat st;

    if (stat(path, &st) < 0)
        snprintf(why, why_size, "%s cannot be used: %s", path, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        snprintf(why, why_size, "%s is not a directory", path);
    else if (config->segment[0] && is_readable_store(config))
        return true;
    else if (access(path, W_OK | X_OK) < 0)
        snprintf(why, why_size, "no file can be made in %s: %s", path, strerror(errno));
    else if (berth__huge_pool_is_directory(path))
        return has_huge_pages(config, why, why_size);
    else if (statvfs(path, &fs) < 0 || fs.f_blocks == 0 || fs.f_bavail > 0)
        return true;
    else {
        fprintf(stderr,
                "berth: tier %s: %s has no room; rules go on to their next place while that is "
                "so\n",
                config->name, path);
        *ret_said = true;
        return true;
    }
    return false;
}

static bool tier_serves(const struct berth_tier_config *config, bool *ret_said, char *why,
                        size_t why_size)
{
    switch (config->kind) {
    case BERTH_KIND_DRAM:
    case BERTH_KIND_DEVICE:
    case BERTH_KIND_SHARED: /* whether there is such a segment shows when it is asked for */
        return true;
    case BERTH_KIND_PINNED:
        snprintf(why, why_size, "kind %s is served by the built-in tier '%s' only",
                 berth__kind_name(config->kind), berth__kind_name(config->kind));
        return false;
    case BERTH_KIND_FILE:
        return directory_serves(config, ret_said, why, why_size);
    case BERTH_KIND_DAX:
        return device_serves(config->path, why, why_size);
    case BERTH_KIND_NUMA:
        return nodes_serve(config, ret_said, why, why_size);
    default:
        snprintf(why, why_size, "this version does not serve kind %s",
                 berth__kind_name(config->kind));
        return false;
    }
}

void berth__tier_probe(const void *table, size_t size)
{
    struct berth_table_view view;
    char why[BERTH_TABLE_WHY_MAX];
    char *told = NULL;

    unsetenv("BERTH_TOLD");
    if (berth__table_open(table, size, &view, why, sizeof(why)) < 0)
        return;
    for (uint32_t i = 0; i < view.header->tiers.count; i++) {
        struct berth_tier_config config;
        bool said = false;
        char *longer;

        berth__table_tier_info(&view, i, &config, NULL);
        if (!tier_serves(&config, &said, why, sizeof(why))) {
            fprintf(stderr, "berth: tier %s cannot be had: %s; rules go on to their next place\n",
                    config.name, why);
            said = true;
        } else {
            look_for_huge_pages(&config, &said);
        }
        if (!said)
            continue;
        longer =
            told ? berth__tool_format("%s,%s", told, config.name) : berth__tool_strdup(config.name);
        free(told);
        told = longer;
    }
    if (told)
        setenv("BERTH_TOLD", told, 1);
    free(told);
}
