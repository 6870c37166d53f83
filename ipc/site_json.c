/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/site_json.h"

#include "alloc/options.h"
#include "alloc/site_account.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "ipc/control.h"
#include "ipc/json.h"
#include "pmem/gate.h"
#include "pmem/table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A page of accounts: some 400 KiB of text at most, and a site has at most 320 cells. */
#define PAGE_CELLS_MAX 2048
/* A page of paths ends behind the site that reaches this. */
#define PAGE_PATHS_TEXT_MAX ((size_t)256 << 10)
/* Of a longer symbol only the beginning is told: 128 of them fit into a frame. */
#define SYMBOL_TEXT_MAX ((size_t)4 << 10)
/* Most sites that one request for paths may name. */
#define PATHS_MAX 1024

static int set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

static json_int_t number(uint64_t value)
{
    return (json_int_t)value;
}

/* On which sides call sites are read. */
static const char *reading(void)
{
    bool host = atomic_load_explicit(&berth__gate.site_threshold, memory_order_relaxed) != SIZE_MAX;
    bool device =
        atomic_load_explicit(&berth__gate.device_site_threshold, memory_order_relaxed) != SIZE_MAX;

    if (host)
        return device ? "both" : "host";
    return device ? "device" : "none";
}

static json_t *cell_json(const struct berth_site_reading *cell)
{
    const struct berth_tier *tier = berth__tier(cell->tier);

    return json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "tier", tier->name, "kind",
                     berth__kind_name(tier->kind), "tag", berth__tag_name(cell->tag), "requested",
                     number(cell->requested), "held", number(cell->held), "blocks",
                     number(cell->blocks), "allocs", number(cell->allocs), "frees",
                     number(cell->frees), "lifetime_ns", number(cell->lifetime_ns), "samples",
                     number(cell->samples));
}

json_t *berth__site_json_account(berth_site_id site)
{
    struct berth_site_total total = {0};
    struct berth_site_reading cell;
    json_t *array = json_array();

    berth__site_account_total(site, &total);
    for (unsigned i = 0; array && berth__site_account_cell(site, i, &cell); i++)
        if (json_array_append_new(array, cell_json(&cell)) < 0) {
            json_decref(array);
            return NULL;
        }
    return json_pack("{s:I,s:I,s:o}", "site", number(site), "peak", number(total.peak_held),
                     "cells", array);
}

/* What each tier has alive, all blocks that are accounted one by one. */
static json_t *tiers_json(void)
{
    json_t *array = json_array();

    for (unsigned id = 0; array && id < berth__tier_count(); id++) {
        const struct berth_tier *tier = berth__tier((berth_tier_id)id);
        uint64_t requested = 0, held = 0, blocks = 0;

        for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++) {
            struct berth_cell_reading cell;

            berth__stats_read((berth_tier_id)id, (enum berth_tag)tag, &cell);
            requested += cell.requested;
            held += cell.held;
            blocks += cell.blocks;
        }
        if (json_array_append_new(array, json_pack("{s:s,s:s,s:I,s:I,s:I}", "name", tier->name,
                                                   "kind", berth__kind_name(tier->kind),
                                                   "requested", number(requested), "held",
                                                   number(held), "blocks", number(blocks))) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* What is told of small blocks, which are not accounted one by one. */
static int add_small(json_t *object)
{
    uint64_t interval = berth__option(BERTH_OPTION_SITES) == BERTH_SITES_ALWAYS
                            ? berth__option(BERTH_OPTION_SITE_SAMPLE)
                            : 0;
    struct berth_host_totals totals = {0};

    if (!berth__host_totals)
        interval = 0;
    else
        berth__host_totals(&totals);
    if (set(object, "sample_interval", json_integer(number(interval))) < 0)
        return -ENOMEM;
    return set(object, "small_held", json_integer(number(totals.small_held)));
}

int berth__site_json_accounts(json_t *object, uint64_t first)
{
    berth_site_id count = berth__site_count();
    json_t *array = json_array();
    struct berth_site_total total;
    uint64_t site = first > 0 ? first : 1;
    size_t cells = 0;

    for (; array && site < count && cells < PAGE_CELLS_MAX; site++) {
        json_t *account;

        if (!berth__site_account_total((berth_site_id)site, &total))
            continue;
        account = berth__site_json_account((berth_site_id)site);
        cells += 1 + json_array_size(json_object_get(account, "cells"));
        if (json_array_append_new(array, account) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    if (set(object, "sites", array) < 0 || set(object, "reading", json_string(reading())) < 0 ||
        set(object, "count", json_integer(number(count))) < 0 ||
        set(object, "next", site < count ? json_integer(number(site)) : json_null()) < 0)
        return -ENOMEM;
    /* Once: reading what small blocks hold costs more than a page. */
    if (site >= count && add_small(object) < 0)
        return -ENOMEM;
    return set(object, "tiers", tiers_json());
}

/* A symbol as JSON, or null. */
static json_t *symbol_json(const char *symbol)
{
    char text[SYMBOL_TEXT_MAX];

    if (!symbol)
        return json_null();
    snprintf(text, sizeof(text), "%s", symbol);
    return berth__json_text(text);
}

static json_t *frame_json(const struct berth_site_frame *frame)
{
    char build[20];

    snprintf(build, sizeof(build), "%016llx", (unsigned long long)frame->build);
    return json_pack("{s:o,s:o,s:I,s:o,s:I,s:o}", "module", berth__json_text(frame->module),
                     "symbol", symbol_json(frame->symbol), "offset", number(frame->offset), "path",
                     frame->path ? berth__json_text(frame->path) : json_null(), "address",
                     number(frame->address), "build",
                     frame->build ? json_string(build) : json_null());
}

json_t *berth__site_json_frames(berth_site_id site, unsigned most)
{
    struct berth_site_frame frame;
    json_t *array = json_array();

    for (unsigned i = 0; array && i < most && berth__site_frame(site, i, &frame) == 0; i++)
        if (json_array_append_new(array, frame_json(&frame)) < 0) {
            json_decref(array);
            array = NULL;
        }
    return array;
}

/* About how long the text of an array of frames is. */
static size_t frames_length(const json_t *frames)
{
    size_t length = 0;
    size_t i;
    json_t *frame;

    json_array_foreach(frames, i, frame)
    {
        length += 128;
        length += json_string_length(json_object_get(frame, "module"));
        length += json_string_length(json_object_get(frame, "path"));
        length += json_string_length(json_object_get(frame, "symbol"));
    }
    return length;
}

static bool is_site(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
           json_integer_value(value) < (json_int_t)BERTH_SITE_MAX;
}

int berth__site_json_paths(const json_t *request, json_t *object, struct berth_failure *failure)
{
    const json_t *sites = json_object_get(request, "sites");
    const json_t *frames_wanted = json_object_get(request, "frames");
    json_int_t most = frames_wanted ? json_integer_value(frames_wanted) : BERTH_SITE_FRAMES_MAX;
    json_t *array;
    size_t length = 0;

    if (most < 1)
        return berth__failure_set(failure, "bad-request",
                                  "\"frames\" is no number of frames; expected 1 or more");
    if (most > BERTH_SITE_FRAMES_MAX)
        most = BERTH_SITE_FRAMES_MAX;

    if (!json_is_array(sites) || json_array_size(sites) == 0 || json_array_size(sites) > PATHS_MAX)
        return berth__failure_set(failure, "bad-request",
                                  "\"sites\" is no list; expected 1 to %d numbers of sites",
                                  PATHS_MAX);
    for (size_t i = 0; i < json_array_size(sites); i++)
        if (!is_site(json_array_get(sites, i)))
            return berth__failure_set(failure, "bad-request",
                                      "\"sites\" has something that is no site's number");
    array = json_array();
    for (size_t i = 0; array && i < json_array_size(sites) && length < PAGE_PATHS_TEXT_MAX; i++) {
        berth_site_id site = (berth_site_id)json_integer_value(json_array_get(sites, i));
        json_t *frames = berth__site_json_frames(site, (unsigned)most);

        length += frames_length(frames);
        if (json_array_append_new(
                array, json_pack("{s:I,s:o}", "site", number(site), "frames", frames)) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return set(object, "paths", array);
}

int berth__site_json_read(const json_t *request, json_t *object, struct berth_failure *failure)
{
    const json_t *always = json_object_get(request, "always");
    const char *value = json_is_true(always) ? "always" : "policy";
    char why[BERTH_OPTION_WHY_MAX] = "";
    int r = 0;

    if (!json_is_boolean(always))
        return berth__failure_set(failure, "bad-request", "\"always\" is neither true nor false");
    /* Before the first block whose path is wanted. */
    if (json_is_true(always) && berth__control_load_callsite)
        r = berth__control_load_callsite(why, sizeof(why));
    if (r < 0 && set(object, "why", berth__json_text(why)) < 0)
        return -ENOMEM;
    if (berth__option_set("sites", 5, value, strlen(value), BERTH_ORIGIN_COMMAND, why) < 0)
        return berth__failure_set(failure, "bad-request", "%s", why);
    berth__table_update_gate();
    return set(object, "reading", json_string(reading()));
}
