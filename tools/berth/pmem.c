/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth pmem: the persistent blocks of a named tier, looked at and removed on the file or device
 * itself. A process that uses it may go on: nothing is removed under its feet.
 */
#include "alloc/quantity.h"
#include "pmem/persist_store.h"
#include "pmem/table_format.h"
#include "tools/berth/grid.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A part's arguments: what is left of argv. */
struct arguments {
    char **names;
    int count;
    bool json, force;
};

static struct berth_persist_store *open_store(const char *path, bool read_only)
{
    const struct berth_persist_options options = {.path = path, .name = "", .read_only = read_only};
    struct berth_persist_store *store = NULL;
    char why[BERTH_PERSIST_WHY_MAX];

    if (berth__persist_store_open(&options, &store, why, sizeof(why)) < 0)
        berth__tool_fail("pmem: %s", why);
    return store;
}

/* What an error of the store means to a person. */
static const char *meaning(const struct berth_persist_store *store, int r)
{
    switch (r) {
    case -EBADMSG:
        return "the contents are not what was committed";
    case -EBUSY:
        return "another process uses the store";
    case -ENOENT:
        return "there is no block of this name";
    case -EINVAL:
        return berth__persist_store_why(store);
    default:
        return strerror(-r);
    }
}

static const struct berth_persist_directory *list(struct berth_persist_store *store,
                                                  const char *path)
{
    const struct berth_persist_directory *directory = NULL;
    int r = berth__persist_store_list(store, &directory);

    if (r < 0)
        berth__tool_fail("pmem: %s: %s", path, meaning(store, r));
    return directory;
}

static void format_time(int64_t seconds, char text[32])
{
    time_t when = (time_t)seconds;
    struct tm parts;

    if (!localtime_r(&when, &parts) || strftime(text, 32, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        snprintf(text, 32, "%" PRId64, seconds);
}

static void format_hex(const void *bytes, size_t size, char *text)
{
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", ((const unsigned char *)bytes)[i]);
}

/* Names are bytes of the program's choice; JSON is UTF-8. */
static json_t *text_json(const char *text)
{
    json_t *json = json_string(text);
    char hex[2 * BERTH_PERSIST_NAME_MAX + 1];

    if (json)
        return json;
    format_hex(text, strlen(text), hex);
    return json_pack("{s:s}", "hex", hex);
}

static json_t *entry_json(const struct berth_persist_entry *entry, uint64_t granule)
{
    json_t *extents = json_array();
    char sum[2 * sizeof(entry->sum) + 1];

    for (size_t i = 0; i < entry->extent_count; i++)
        json_array_append_new(extents, json_pack("[I,I]", (json_int_t)entry->extents[i].offset,
                                                 (json_int_t)entry->extents[i].size));
    format_hex(&entry->sum, sizeof(entry->sum), sum);
    return json_pack("{s:o,s:I,s:I,s:I,s:I,s:s,s:o}", "name", text_json(entry->name), "size",
                     (json_int_t)entry->size, "held",
                     (json_int_t)berth__persist_held(entry->size, granule), "committed",
                     (json_int_t)entry->created, "generation", (json_int_t)entry->generation,
                     "checksum", sum, "extents", extents);
}

static json_t *store_json(const struct berth_persist_store *store)
{
    struct berth_persist_store_info info;
    char uuid[2 * BERTH_PERSIST_UUID_SIZE + 1];

    berth__persist_store_info(store, &info);
    format_hex(info.super->uuid, sizeof(info.super->uuid), uuid);
    return json_pack("{s:o,s:s,s:s,s:i,s:s,s:I,s:I,s:I,s:I,s:o}", "path", text_json(info.path),
                     "name", info.super->name, "kind", info.is_device ? "dax" : "file", "version",
                     (int)info.super->version, "uuid", uuid, "created",
                     (json_int_t)info.super->created, "granule", (json_int_t)info.super->granule,
                     "generation", (json_int_t)info.generation, "used", (json_int_t)info.used,
                     "free", info.grows ? json_null() : json_integer((json_int_t)info.free));
}

static int print_json(json_t *object)
{
    int r = json_dumpf(object, stdout, JSON_INDENT(2));

    json_decref(object);
    putchar('\n');
    return r < 0 ? berth__tool_fail("pmem: the answer cannot be written") : 0;
}

static void print_head(const struct berth_persist_store *store, size_t count)
{
    char used[BERTH_QUANTITY_TEXT_MAX], spare[BERTH_QUANTITY_TEXT_MAX], created[32];
    struct berth_persist_store_info info;

    berth__persist_store_info(store, &info);
    format_time(info.super->created, created);
    berth__tool_print(info.path, strlen(info.path), stdout);
    printf(": store '%s' on a %s, made %s; %zu block%s, %s", info.super->name,
           info.is_device ? "dax device" : "file", created, count, count == 1 ? "" : "s",
           berth__quantity_format(info.used, used));
    if (!info.grows)
        printf(", %s free", berth__quantity_format(info.free, spare));
    putchar('\n');
}

static void print_blocks(const struct berth_persist_directory *directory)
{
    static const char *const heads[] = {"NAME", "SIZE", "EXTENTS", "COMMITTED"};
    struct berth_grid grid;

    berth__grid_init(&grid, "lrrl", heads);
    for (size_t i = 0; i < directory->count; i++) {
        const struct berth_persist_entry *entry = &directory->entries[i];
        char *name = berth__tool_strdup(entry->name);
        char committed[32];

        berth__tool_clean(name);
        format_time(entry->created, committed);
        berth__grid_text(&grid, name);
        berth__grid_size(&grid, entry->size);
        berth__grid_number(&grid, entry->extent_count);
        berth__grid_text(&grid, committed);
        free(name);
    }
    berth__grid_finish(&grid, stdout);
}

static int print_blocks_json(const struct berth_persist_store *store,
                             const struct berth_persist_directory *directory)
{
    struct berth_persist_store_info info;
    json_t *object = store_json(store), *blocks = json_array();

    berth__persist_store_info(store, &info);
    for (size_t i = 0; i < directory->count; i++)
        json_array_append_new(blocks, entry_json(&directory->entries[i], info.super->granule));
    json_object_set_new(object, "blocks", blocks);
    return print_json(object);
}

static int run_ls(const char *path, const struct arguments *arguments)
{
    struct berth_persist_store *store = open_store(path, true);
    const struct berth_persist_directory *directory = store ? list(store, path) : NULL;
    int status = directory ? 0 : BERTH_EXIT_FAILURE;

    if (directory && arguments->json) {
        status = print_blocks_json(store, directory);
    } else if (directory) {
        print_head(store, directory->count);
        if (directory->count > 0)
            print_blocks(directory);
    }
    if (store)
        berth__persist_store_close(store);
    return status;
}

static bool is_asked(const struct arguments *arguments, const char *name)
{
    for (int i = 0; i < arguments->count; i++)
        if (strcmp(arguments->names[i], name) == 0)
            return true;
    return arguments->count == 0;
}

/* Every name that was asked for is there. */
static int find_missing(const struct berth_persist_directory *directory, const char *path,
                        const struct arguments *arguments)
{
    int status = 0;

    for (int i = 0; i < arguments->count; i++)
        if (!berth__persist_directory_find(directory, arguments->names[i]))
            status = berth__tool_fail("pmem: %s: %s: there is no block of this name", path,
                                      arguments->names[i]);
    return status;
}

static int check_block(struct berth_persist_store *store, const struct berth_persist_entry *entry,
                       const char *path, bool json, json_t *blocks)
{
    int r = berth__persist_store_check(store, entry);

    json_array_append_new(blocks, json_pack("{s:o,s:b,s:s}", "name", text_json(entry->name), "good",
                                            r == 0, "why", r < 0 ? meaning(store, r) : ""));
    if (r < 0)
        return berth__tool_fail("pmem: %s: %s: %s", path, entry->name, meaning(store, r));
    if (!json) {
        berth__tool_print(entry->name, strlen(entry->name), stdout);
        puts(": good");
    }
    return 0;
}

/* The directory was checked when the store was opened; here, every byte of the blocks. */
static int run_check(const char *path, const struct arguments *arguments)
{
    struct berth_persist_store *store = open_store(path, true);
    const struct berth_persist_directory *directory = store ? list(store, path) : NULL;
    json_t *blocks = json_array(), *object;
    int status = BERTH_EXIT_FAILURE;

    if (directory) {
        status = find_missing(directory, path, arguments);
        for (size_t i = 0; i < directory->count; i++) {
            const struct berth_persist_entry *entry = &directory->entries[i];

            if (is_asked(arguments, entry->name) &&
                check_block(store, entry, path, arguments->json, blocks) != 0)
                status = BERTH_EXIT_FAILURE;
        }
        object = store_json(store);
        json_object_set_new(object, "good", json_boolean(status == 0));
        json_object_set(object, "blocks", blocks);
        if (!arguments->json)
            json_decref(object);
        else if (print_json(object) != 0)
            status = BERTH_EXIT_FAILURE;
        if (!arguments->json && arguments->count == 0 && directory->count == 0)
            puts("the directory is good; there are no blocks");
    }
    json_decref(blocks);
    if (store)
        berth__persist_store_close(store);
    return status;
}

static int run_rm(const char *path, const struct arguments *arguments)
{
    struct berth_persist_store *store;
    int status = 0;

    if (arguments->count == 0)
        return berth__tool_misuse("pmem rm: expected berth pmem rm PATH NAME...");
    store = open_store(path, false);
    if (!store)
        return BERTH_EXIT_FAILURE;
    for (int i = 0; i < arguments->count; i++) {
        int r = berth__persist_store_remove(store, arguments->names[i]);

        if (r < 0)
            status =
                berth__tool_fail("pmem: %s: %s: %s", path, arguments->names[i], meaning(store, r));
    }
    berth__persist_store_close(store);
    return status;
}

static int run_init(const char *path, const struct arguments *arguments)
{
    struct berth_persist_options options = {.path = path, .create = true};
    struct berth_persist_store *store = NULL;
    char why[BERTH_PERSIST_WHY_MAX];
    int r;

    if (arguments->count != 1)
        return berth__tool_misuse("pmem init: expected berth pmem init PATH NAME");
    options.name = arguments->names[0];
    options.overwrite = arguments->force;
    if (berth__name_check(options.name, why, sizeof(why)) < 0)
        return berth__tool_misuse("pmem init: %s", why);
    r = berth__persist_store_open(&options, &store, why, sizeof(why));
    if (r < 0)
        return berth__tool_fail("pmem: %s", why);
    berth__persist_store_close(store);
    return 0;
}

int berth__command_pmem(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"force", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
    static const struct {
        const char *name;
        int (*run)(const char *path, const struct arguments *arguments);
        bool json, force;
    } parts[] = {{"ls", run_ls, true, false},
                 {"check", run_check, true, false},
                 {"rm", run_rm, false, false},
                 {"init", run_init, false, true}};
    const size_t count = sizeof(parts) / sizeof(parts[0]);
    struct arguments arguments = {0};
    size_t part = 0;
    int c;

    while (argc > 1 && part < count && strcmp(parts[part].name, argv[1]) != 0)
        part++;
    if (argc < 2 || part == count)
        return berth__tool_misuse("pmem: expected berth pmem ls|check|rm|init PATH ...");
    argv[1] = argv[0];
    while ((c = getopt_long(argc - 1, argv + 1, "", options, NULL)) != -1) {
        if (c == '?')
            return BERTH_EXIT_MISUSE;
        if (!(c == 'j' ? parts[part].json : parts[part].force))
            return berth__tool_misuse("pmem %s: --%s is not expected", parts[part].name,
                                      c == 'j' ? "json" : "force");
        *(c == 'j' ? &arguments.json : &arguments.force) = true;
    }
    argc -= 1 + optind;
    argv += 1 + optind;
    if (argc < 1)
        return berth__tool_misuse("pmem %s: expected PATH: the file or dax device of a named tier",
                                  parts[part].name);
    arguments.names = argv + 1;
    arguments.count = argc - 1;
    if (part == 0 && arguments.count > 0)
        return berth__tool_misuse("pmem ls: '%s' is not expected", arguments.names[0]);
    return berth__tool_finish(parts[part].run(argv[0], &arguments));
}
