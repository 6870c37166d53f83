/* SPDX-License-Identifier: Apache-2.0 */
/* berth pool: segments that processes keep for others, and who borrows from them. */
#include "tools/berth/grid.h"
#include "tools/berth/process.h"
#include "tools/berth/tool.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* What follows the command's name. */
struct arguments {
    const char *pid;
    const char *word[2]; /* a name, or a tier; and a size */
    const char *from, *name, *offset, *size, *device;
    int json;
};

struct action {
    const char *name;
    const char *operation;
    int words;           /* how many follow the PID; all are needed */
    const char *usage;   /* after "berth pool NAME " */
    const char *letters; /* of the options that it takes */
    json_t *(*request)(const char *operation, const struct arguments *arguments);
    void (*print)(const json_t *reply, const struct arguments *arguments);
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "?";
}

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void set_text(json_t *request, const char *key, const char *text)
{
    if (text)
        json_object_set_new(request, key, json_string(text));
}

static json_t *request_list(const char *operation, const struct arguments *arguments)
{
    return json_pack("{s:s}", "op", operation);
}

/* A device is a number where it looks like one, else the process decides what it is. */
static json_t *device_json(const char *text)
{
    if (text[strspn(text, "0123456789")] == '\0' && strlen(text) < 10)
        return json_integer(atoi(text));
    return json_string(text);
}

static json_t *request_create(const char *operation, const struct arguments *arguments)
{
    json_t *request = json_pack("{s:s,s:s,s:s}", "op", operation, "name", arguments->word[0],
                                "size", arguments->word[1]);

    if (arguments->device)
        json_object_set_new(request, "device", device_json(arguments->device));
    return request;
}

static json_t *request_drop(const char *operation, const struct arguments *arguments)
{
    return json_pack("{s:s,s:s}", "op", operation, "name", arguments->word[0]);
}

static json_t *request_attach(const char *operation, const struct arguments *arguments)
{
    json_t *request = json_pack("{s:s,s:s}", "op", operation, "tier", arguments->word[0]);

    set_text(request, "from", arguments->from);
    set_text(request, "name", arguments->name);
    set_text(request, "offset", arguments->offset);
    set_text(request, "size", arguments->size);
    return request;
}

static void print_created(const json_t *reply, const struct arguments *arguments)
{
    const json_t *segment = json_object_get(reply, "segment");

    printf("%s: %llu bytes on device %llu (%s), shared by %s\n", text_of(segment, "name"),
           (unsigned long long)number_of(segment, "size"),
           (unsigned long long)number_of(segment, "device"), text_of(segment, "uuid"),
           text_of(segment, "kind"));
}

static void cell(struct berth_grid *grid, const char *text)
{
    char *copy = berth__tool_strdup(text);

    berth__tool_clean(copy);
    berth__grid_text(grid, copy);
    free(copy);
}

static void print_segments(const json_t *segments)
{
    static const char *const heads[] = {"SEGMENT", "SIZE", "DEVICE", "UUID", "SHARED BY", "OPENED"};
    struct berth_grid grid;
    const json_t *segment;
    size_t i;

    berth__grid_init(&grid, "lrrllr", heads);
    json_array_foreach(segments, i, segment)
    {
        cell(&grid, text_of(segment, "name"));
        berth__grid_size(&grid, number_of(segment, "size"));
        berth__grid_number(&grid, number_of(segment, "device"));
        cell(&grid, text_of(segment, "uuid"));
        cell(&grid, text_of(segment, "kind"));
        berth__grid_number(&grid, number_of(segment, "opens"));
    }
    berth__grid_finish(&grid, stdout);
}

/* Whose segment it is; "-" where nobody is named. */
static void keeper_cell(struct berth_grid *grid, const json_t *tier)
{
    const char *from = text_of(tier, "from");
    char *text = NULL;

    if (json_is_integer(json_object_get(tier, "keeper")))
        text = berth__tool_format("%llu%s", (unsigned long long)number_of(tier, "keeper"),
                                  json_is_true(json_object_get(tier, "keeper_lives")) ? ""
                                                                                      : " (ended)");
    cell(grid, text ? text : *from ? from : "-");
    free(text);
}

static void print_tiers(const json_t *tiers)
{
    static const char *const heads[] = {"TIER",   "STATE", "FROM", "SEGMENT",
                                        "OFFSET", "SIZE",  "WHY"};
    struct berth_grid grid;
    const json_t *tier;
    size_t i;

    berth__grid_init(&grid, "llllrrl", heads);
    json_array_foreach(tiers, i, tier)
    {
        cell(&grid, text_of(tier, "tier"));
        cell(&grid, text_of(tier, "state"));
        keeper_cell(&grid, tier);
        cell(&grid, text_of(tier, "name"));
        berth__grid_size(&grid, number_of(tier, "offset"));
        if (number_of(tier, "size") > 0)
            berth__grid_size(&grid, number_of(tier, "size"));
        else
            berth__grid_text(&grid, "rest");
        cell(&grid, text_of(tier, "why"));
    }
    berth__grid_finish(&grid, stdout);
}

static void print_list(const json_t *reply, const struct arguments *arguments)
{
    const json_t *segments = json_object_get(reply, "segments");
    const json_t *tiers = json_object_get(reply, "tiers");

    if (arguments->json) {
        json_dumpf(reply, stdout, JSON_INDENT(2));
        putchar('\n');
        return;
    }
    if (json_array_size(segments) > 0)
        print_segments(segments);
    if (json_array_size(segments) > 0 && json_array_size(tiers) > 0)
        putchar('\n');
    if (json_array_size(tiers) > 0)
        print_tiers(tiers);
    if (json_array_size(segments) + json_array_size(tiers) == 0)
        puts("it keeps no segment and borrows none");
}

static const struct action actions[] = {
    {"list", "shared.list", 0, "[PID] [--json]", "j", request_list, print_list},
    {"create", "shared.create", 2, "PID NAME SIZE [--device NUMBER|UUID]", "d", request_create,
     print_created},
    {"drop", "shared.drop", 1, "PID NAME", "", request_drop, NULL},
    {"attach", "shared.attach", 1,
     "PID TIER [--from PID|SOCKET] [--name NAME] [--offset SIZE] [--size SIZE]", "fnos",
     request_attach, NULL},
    {"detach", "shared.detach", 1, "PID TIER", "", request_attach, NULL},
};

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; name && i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

/* Where an option's value goes; NULL for one without a value. */
static const char **slot_of(struct arguments *arguments, int letter)
{
    switch (letter) {
    case 'f':
        return &arguments->from;
    case 'n':
        return &arguments->name;
    case 'o':
        return &arguments->offset;
    case 's':
        return &arguments->size;
    case 'd':
        return &arguments->device;
    default:
        return NULL;
    }
}

static int misuse(const struct action *action)
{
    return berth__tool_misuse("pool %s: expected berth pool %s %s", action->name, action->name,
                              action->usage);
}

static int parse_arguments(const struct action *action, int argc, char **argv,
                           struct arguments *ret)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"device", required_argument, NULL, 'd'},
                                            {"from", required_argument, NULL, 'f'},
                                            {"name", required_argument, NULL, 'n'},
                                            {"offset", required_argument, NULL, 'o'},
                                            {"size", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    int c, words;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        const char **slot = slot_of(ret, c);

        if (c == '?')
            return BERTH_EXIT_MISUSE;
        if (!strchr(action->letters, c))
            return misuse(action);
        if (slot)
            *slot = optarg;
        else
            ret->json = 1;
    }
    words = argc - optind;
    /* Only a list may leave the process out. */
    if (words > action->words + 1 || words < action->words + (action->words > 0))
        return misuse(action);
    if (words > 0)
        ret->pid = argv[optind];
    for (int i = 0; i < action->words; i++)
        ret->word[i] = argv[optind + 1 + i];
    return 0;
}

static int run(const struct action *action, const struct arguments *arguments)
{
    struct berth_process process;
    struct berth_session session;
    json_t *reply = NULL;

    if (berth__process_find(arguments->pid, &process) != 0)
        return BERTH_EXIT_FAILURE;
    if (berth__session_open(&session, &process, 0) == 0) {
        json_t *request = action->request(action->operation, arguments);

        if (request)
            reply = berth__session_request(&session, request, -1, 0);
        else
            berth__tool_fail("pool %s: what was given is no UTF-8 text", action->name);
        berth__session_close(&session);
    }
    berth__process_done(&process);
    if (!reply)
        return BERTH_EXIT_FAILURE;
    if (action->print)
        action->print(reply, arguments);
    json_decref(reply);
    return 0;
}

int berth__command_pool(int argc, char **argv)
{
    const struct action *action = find_action(argc > 1 ? argv[1] : NULL);
    struct arguments arguments = {0};
    char title[64];
    int status;

    if (!action)
        return berth__tool_misuse("pool: expected berth pool list, create, drop, attach or detach");
    /* getopt() begins its messages with it. */
    snprintf(title, sizeof(title), "berth: pool %s", action->name);
    argv[1] = title;
    status = parse_arguments(action, argc - 1, argv + 1, &arguments);
    if (status == 0)
        status = run(action, &arguments);
    return berth__tool_finish(status);
}
