/* SPDX-License-Identifier: Apache-2.0 */
/* berth sites: who asked for the memory that a process has, by call path. */
#include "alloc/quantity.h"
#include "alloc/types.h"
#include "tools/berth/process.h"
#include "tools/berth/site_path.h"
#include "tools/berth/tool.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define TOP_DEFAULT 20
#define FRAMES_DEFAULT 3
/* Sites whose paths one request asks for; the answer may hold fewer. */
#define PATHS_AT_ONCE 256

enum order { BY_LIVE, BY_REQUESTED, BY_PEAK, BY_COUNT, BY_ALLOCS, BY_LIFETIME };
static const char *const order_names[] = {"live",  "requested", "peak",
                                          "count", "allocs",    "lifetime"};
#define ORDER_COUNT (sizeof(order_names) / sizeof(order_names[0]))

struct sites_arguments {
    const char *pid;
    enum order by;
    size_t top;    /* 0 = all */
    size_t frames; /* SIZE_MAX = all */
    const char *tag, *tier, *side;
    int json;
    const char *read; /* "always" or "policy": how sites are read from now on */
};

/* One site, summed over those of its cells that are asked for. */
struct site {
    json_t *json; /* as the process told it; "frames" is added */
    uint64_t id, requested, held, blocks, allocs, frees, lifetime_ns, peak;
    uint64_t estimated; /* of what it holds, so much is known from samples */
    int is_estimate;    /* some of its blocks are */
    char *tags, *tiers;
};

struct sites {
    struct site *site;
    size_t count, room;
    uint64_t held;      /* of all of them, by exact count */
    uint64_t estimated; /* the same by samples */
    uint64_t interval, small_held;
    json_t *tiers; /* what the process has, also without a site */
    char reading[16];
};

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "?";
}

static int is_device_kind(const char *kind)
{
    return strcmp(kind, "device") == 0 || strcmp(kind, "shared") == 0;
}

static int is_on_side(const char *kind, const char *side)
{
    return !side || is_device_kind(kind) == (strcmp(side, "device") == 0);
}

static int is_wanted(const json_t *cell, const struct sites_arguments *arguments)
{
    return (!arguments->tag || strcmp(string(cell, "tag"), arguments->tag) == 0) &&
           (!arguments->tier || strcmp(string(cell, "tier"), arguments->tier) == 0) &&
           is_on_side(string(cell, "kind"), arguments->side);
}

/* Adds a name to a list of different ones. */
static void add_name(char **list, const char *name)
{
    size_t length = strlen(name);
    char *longer;

    for (const char *at = *list; at && *at; at += strcspn(at, ","), at += *at == ',')
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return;
    longer = *list ? berth__tool_format("%s,%s", *list, name) : berth__tool_strdup(name);
    free(*list);
    *list = longer;
}

/* Only what is alive says where a site's memory is; of one that has none, what was. */
static void name_cells(struct site *site, const struct sites_arguments *arguments)
{
    for (int pass = 0; pass < 2 && !site->tags; pass++) {
        size_t i;
        json_t *cell;

        json_array_foreach(json_object_get(site->json, "cells"), i, cell)
        {
            if (!is_wanted(cell, arguments) || (pass == 0 && number(cell, "blocks") == 0))
                continue;
            add_name(&site->tags, string(cell, "tag"));
            add_name(&site->tiers, string(cell, "tier"));
        }
    }
}

static void add_site(struct sites *sites, json_t *json, const struct sites_arguments *arguments)
{
    struct site site = {.json = json, .id = number(json, "site"), .peak = number(json, "peak")};
    size_t i;
    json_t *cell;

    json_array_foreach(json_object_get(json, "cells"), i, cell)
    {
        if (!is_wanted(cell, arguments))
            continue;
        if (number(cell, "samples") > 0) {
            site.is_estimate = 1;
            site.estimated += number(cell, "held");
        }
        site.requested += number(cell, "requested");
        site.held += number(cell, "held");
        site.blocks += number(cell, "blocks");
        site.allocs += number(cell, "allocs");
        site.frees += number(cell, "frees");
        site.lifetime_ns += number(cell, "lifetime_ns");
    }
    if (site.allocs + site.blocks == 0)
        return;
    name_cells(&site, arguments);
    json_incref(json);
    if (sites->count == sites->room) {
        sites->room = sites->room ? 2 * sites->room : 256;
        sites->site = berth__tool_realloc(sites->site, sites->room * sizeof(site));
    }
    sites->site[sites->count++] = site;
    sites->held += site.held - site.estimated;
    sites->estimated += site.estimated;
}

/* All pages of the account. 0, or BERTH_EXIT_FAILURE after one line. */
static int fetch(struct berth_session *session, const struct sites_arguments *arguments,
                 struct sites *ret)
{
    uint64_t first = 0;

    for (;;) {
        json_t *reply = berth__session_request(
            session, json_pack("{s:s,s:I}", "op", "sites", "first", (json_int_t)first), -1, 0);
        const json_t *next;
        size_t i;
        json_t *site;

        if (!reply)
            return BERTH_EXIT_FAILURE;
        json_array_foreach(json_object_get(reply, "sites"), i, site) add_site(ret, site, arguments);
        json_decref(ret->tiers);
        ret->tiers = json_incref(json_object_get(reply, "tiers"));
        ret->interval = number(reply, "sample_interval");
        ret->small_held = number(reply, "small_held");
        snprintf(ret->reading, sizeof(ret->reading), "%s", string(reply, "reading"));
        next = json_object_get(reply, "next");
        first = (uint64_t)json_integer_value(next);
        json_decref(reply);
        if (first == 0)
            return 0;
    }
}

static uint64_t mean_lifetime(const struct site *site)
{
    return site->frees ? site->lifetime_ns / site->frees : 0;
}

static uint64_t key_of(const struct site *site, enum order by)
{
    switch (by) {
    case BY_REQUESTED:
        return site->requested;
    case BY_PEAK:
        return site->peak;
    case BY_COUNT:
        return site->blocks;
    case BY_ALLOCS:
        return site->allocs;
    case BY_LIFETIME:
        return mean_lifetime(site);
    default:
        return site->held;
    }
}

static enum order sorted_by; /* for qsort(), which has no context */

static int compare(const void *a, const void *b)
{
    const struct site *x = a, *y = b;
    uint64_t key_x = key_of(x, sorted_by), key_y = key_of(y, sorted_by);

    if (key_x != key_y)
        return key_x < key_y ? 1 : -1;
    if (x->peak != y->peak)
        return x->peak < y->peak ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Asks for the paths of `count` sites from `first` on; how many came, 0 after one line. */
static size_t fetch_some(struct berth_session *session, struct sites *sites, size_t first,
                         size_t count, size_t frames)
{
    json_t *ids = json_array();
    json_t *request, *reply;
    size_t i, got = 0;
    json_t *path;

    for (i = first; i < first + count; i++)
        json_array_append_new(ids, json_integer((json_int_t)sites->site[i].id));
    request = json_pack("{s:s,s:o}", "op", "sites.paths", "sites", ids);
    if (frames >= 1 && frames != SIZE_MAX)
        json_object_set_new(request, "frames", json_integer((json_int_t)frames));
    reply = berth__session_request(session, request, -1, 0);
    json_array_foreach(json_object_get(reply, "paths"), i, path)
    {
        if (i < count)
            json_object_set(sites->site[first + i].json, "frames", json_object_get(path, "frames"));
        got++;
    }
    json_decref(reply);
    return got < count ? got : count;
}

static int fetch_paths(struct berth_session *session, struct sites *sites,
                       const struct sites_arguments *arguments)
{
    struct berth_source_lines *lines = berth__source_lines_open(session->pid);
    size_t got = 0;

    while (got < sites->count) {
        size_t rest = sites->count - got;
        size_t more = fetch_some(session, sites, got, rest < PATHS_AT_ONCE ? rest : PATHS_AT_ONCE,
                                 arguments->frames);

        if (more == 0)
            break;
        for (size_t i = got; i < got + more; i++)
            berth__site_path_read(json_object_get(sites->site[i].json, "frames"), arguments->frames,
                                  lines);
        got += more;
    }
    berth__source_lines_close(lines);
    return got < sites->count ? BERTH_EXIT_FAILURE : 0;
}

/* Of blocks that were freed; births are told by a clock of few milliseconds. */
static void print_lifetime(const struct site *site)
{
    double s = (double)mean_lifetime(site) / 1e9;

    if (site->frees == 0)
        printf(" %9s", "-");
    else if (s < 0.001)
        printf(" %9s", "< 1 ms");
    else if (s < 1)
        printf(" %6.0f ms", s * 1000);
    else if (s < 600)
        printf(" %7.1f s", s);
    else
        printf(" %5.0f min", s / 60);
}

/* A number of bytes or blocks, in a column; of an estimate, with its mark. */
static void print_amount(const struct site *site, uint64_t amount, int is_bytes, int width)
{
    char bytes[BERTH_QUANTITY_TEXT_MAX], text[BERTH_QUANTITY_TEXT_MAX + 24];

    if (is_bytes)
        snprintf(text, sizeof(text), "%s%s", site->is_estimate ? "~" : "",
                 berth__quantity_format(amount, bytes));
    else
        snprintf(text, sizeof(text), "%s%llu", site->is_estimate ? "~" : "",
                 (unsigned long long)amount);
    printf(" %*s", width, text);
}

static void print_site(const struct site *site)
{
    char id[24];

    snprintf(id, sizeof(id), "#%llu", (unsigned long long)site->id);
    printf("%-7s", id);
    print_amount(site, site->held, 1, 10);
    print_amount(site, site->requested, 1, 10);
    print_amount(site, site->blocks, 0, 8);
    print_amount(site, site->peak, 1, 10);
    print_amount(site, site->allocs, 0, 9);
    print_lifetime(site);
    printf("  %-10s %s\n", site->tags ? site->tags : "-", site->tiers ? site->tiers : "-");
    berth__site_path_print(json_object_get(site->json, "frames"), stdout);
}

/* What of the memory that is accounted block by block has no site; and why. */
static void print_rest(const struct sites *sites, const struct sites_arguments *arguments,
                       size_t all)
{
    char with[BERTH_QUANTITY_TEXT_MAX], held[BERTH_QUANTITY_TEXT_MAX],
        estimated[BERTH_QUANTITY_TEXT_MAX];
    uint64_t total = 0;
    size_t i;
    json_t *tier;

    json_array_foreach(sites->tiers, i, tier)
    {
        if (is_on_side(string(tier, "kind"), arguments->side) &&
            (!arguments->tier || strcmp(string(tier, "name"), arguments->tier) == 0))
            total += number(tier, "held");
    }
    printf("%zu of %zu sites; with a site %s of %s that are accounted block by block\n",
           sites->count, all, berth__quantity_format(sites->held, with),
           berth__quantity_format(total, held));
    if (sites->interval > 0 && !arguments->tier &&
        (!arguments->side || strcmp(arguments->side, "host") == 0))
        printf("smaller blocks are known from samples, one in %s (~): ~%s of %s\n",
               berth__quantity_format(sites->interval, with),
               berth__quantity_format(sites->estimated, estimated),
               berth__quantity_format(sites->small_held, held));
    if (strcmp(sites->reading, "none") == 0)
        puts("call sites are not read: say `berth sites PID --read always`, or start the program "
             "with -o sites=always");
    else if (strcmp(sites->reading, "both") != 0)
        printf("call sites are read on the %s side only\n", sites->reading);
}

static void print_sites(const struct sites *sites, const struct sites_arguments *arguments,
                        size_t all)
{
    if (sites->count > 0)
        printf("%-7s %10s %10s %8s %10s %9s %9s  %-10s %s\n", "SITE", "HELD", "REQUESTED", "BLOCKS",
               "PEAK", "ALLOCS", "LIFETIME", "TAG", "TIER");
    for (size_t i = 0; i < sites->count; i++)
        print_site(&sites->site[i]);
    print_rest(sites, arguments, all);
}

static void print_json(const struct sites *sites, size_t all)
{
    json_t *array = json_array();
    json_t *object;

    for (size_t i = 0; i < sites->count; i++) {
        const struct site *site = &sites->site[i];

        json_object_set_new(site->json, "requested", json_integer((json_int_t)site->requested));
        json_object_set_new(site->json, "held", json_integer((json_int_t)site->held));
        json_object_set_new(site->json, "blocks", json_integer((json_int_t)site->blocks));
        json_object_set_new(site->json, "allocs", json_integer((json_int_t)site->allocs));
        json_object_set_new(site->json, "frees", json_integer((json_int_t)site->frees));
        json_object_set_new(site->json, "estimate", json_boolean(site->is_estimate));
        json_object_set_new(site->json, "mean_lifetime_ns",
                            site->frees ? json_integer((json_int_t)mean_lifetime(site))
                                        : json_null());
        json_array_append(array, site->json);
    }
    object = json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:O,s:o}", "reading", sites->reading, "count",
                       (json_int_t)all, "held", (json_int_t)sites->held, "estimated",
                       (json_int_t)sites->estimated, "sample_interval", (json_int_t)sites->interval,
                       "small_held", (json_int_t)sites->small_held, "tiers", sites->tiers, "sites",
                       array);
    json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(object);
}

static void sites_free(struct sites *sites)
{
    for (size_t i = 0; i < sites->count; i++) {
        json_decref(sites->site[i].json);
        free(sites->site[i].tags);
        free(sites->site[i].tiers);
    }
    free(sites->site);
    json_decref(sites->tiers);
}

static int show(struct berth_session *session, const struct sites_arguments *arguments)
{
    struct sites sites = {.reading = "none"};
    size_t all;
    int r = fetch(session, arguments, &sites);

    all = sites.count;
    sorted_by = arguments->by;
    if (sites.count > 0)
        qsort(sites.site, sites.count, sizeof(*sites.site), compare);
    while (arguments->top > 0 && sites.count > arguments->top) {
        struct site *last = &sites.site[--sites.count];

        json_decref(last->json);
        free(last->tags);
        free(last->tiers);
    }
    if (r == 0)
        r = fetch_paths(session, &sites, arguments);
    if (r == 0 && arguments->json)
        print_json(&sites, all);
    else if (r == 0)
        print_sites(&sites, arguments, all);
    sites_free(&sites);
    return r;
}

/* Has the process read sites, or not any more. */
static int change(struct berth_session *session, const char *read)
{
    json_t *reply = berth__session_request(
        session, json_pack("{s:s,s:b}", "op", "sites.read", "always", strcmp(read, "always") == 0),
        -1, 0);
    const json_t *why = json_object_get(reply, "why");

    if (!reply)
        return BERTH_EXIT_FAILURE;
    if (json_is_string(why))
        fprintf(stderr, "berth: sites: %s; call paths are return addresses alone\n",
                json_string_value(why));
    if (strcmp(string(reply, "reading"), "none") == 0)
        puts("call sites are not read any more");
    else
        printf("call sites are read from now on (%s)\n", string(reply, "reading"));
    json_decref(reply);
    return 0;
}

static int read_count(const char *text, const char *option, size_t *ret)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || value > 1000000)
        return berth__tool_misuse("sites: %s '%s' is no number; expected 0 to 1000000", option,
                                  text);
    *ret = (size_t)value;
    return 0;
}

static int read_order(const char *text, enum order *ret)
{
    for (size_t i = 0; i < ORDER_COUNT; i++)
        if (strcmp(text, order_names[i]) == 0) {
            *ret = (enum order)i;
            return 0;
        }
    return berth__tool_misuse("sites: --by '%s' is no order; expected live, requested, peak, "
                              "count, allocs or lifetime",
                              text);
}

static int read_option(int option, struct sites_arguments *ret)
{
    switch (option) {
    case 'b':
        return read_order(optarg, &ret->by);
    case 'n':
        return read_count(optarg, "--top", &ret->top);
    case 'f':
        return read_count(optarg, "--frames", &ret->frames);
    case 'F':
        ret->frames = SIZE_MAX;
        return 0;
    case 'j':
        ret->json = 1;
        return 0;
    case 't':
        ret->tag = optarg;
        if (berth__tag_from_name(optarg) < 0)
            return berth__tool_misuse("sites: --tag '%s' is no tag; expected weight, activation, "
                                      "kv, workspace or untagged",
                                      optarg);
        return 0;
    case 'T':
        ret->tier = optarg;
        return 0;
    case 'h':
        ret->side = "host";
        return 0;
    case 'd':
        ret->side = "device";
        return 0;
    case 'r':
        ret->read = optarg;
        if (strcmp(optarg, "always") != 0 && strcmp(optarg, "policy") != 0)
            return berth__tool_misuse("sites: --read '%s' is unknown; expected always or policy",
                                      optarg);
        return 0;
    default:
        return BERTH_EXIT_MISUSE;
    }
}

static int read_arguments(int argc, char **argv, struct sites_arguments *ret)
{
    static const struct option options[] = {{"by", required_argument, NULL, 'b'},
                                            {"top", required_argument, NULL, 'n'},
                                            {"frames", required_argument, NULL, 'f'},
                                            {"full", no_argument, NULL, 'F'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"tag", required_argument, NULL, 't'},
                                            {"tier", required_argument, NULL, 'T'},
                                            {"host", no_argument, NULL, 'h'},
                                            {"device", no_argument, NULL, 'd'},
                                            {"read", required_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    int c, r;

    *ret = (struct sites_arguments){.top = TOP_DEFAULT, .frames = FRAMES_DEFAULT};
    while ((c = getopt_long(argc, argv, "n:", options, NULL)) != -1) {
        r = read_option(c, ret);
        if (r != 0)
            return r;
    }
    if (argc - optind > 1)
        return berth__tool_misuse("sites: '%s' is not expected; expected berth sites [PID]",
                                  argv[optind + 1]);
    ret->pid = argv[optind];
    return 0;
}

int berth__command_sites(int argc, char **argv)
{
    struct sites_arguments arguments;
    struct berth_process process;
    struct berth_session session;
    int r = read_arguments(argc, argv, &arguments);

    if (r != 0)
        return r;
    if (berth__process_find(arguments.pid, &process) != 0)
        return BERTH_EXIT_FAILURE;
    r = berth__session_open(&session, &process, 0) < 0 ? BERTH_EXIT_FAILURE : 0;
    if (r == 0) {
        r = arguments.read ? change(&session, arguments.read) : show(&session, &arguments);
        berth__session_close(&session);
    }
    berth__process_done(&process);
    return berth__tool_finish(r);
}
