/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/table.h"

#include "alloc/describe.h"
#include "alloc/fork_turn.h"
#include "alloc/log.h"
#include "alloc/options.h"
#include "alloc/tier_ops.h"
#include "pmem/gate.h"
#include "pmem/table_epoch.h"
#include "pmem/table_load.h"
#include "pmem/table_match.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/*
 * `current` is the one pointer that readers follow. The rest is the installer's, under `lock`.
 * Constant-initialised: malloc asks for decisions before any constructor.
 */
struct table_state {
    _Atomic(struct berth_loaded_table *) current;
    _Atomic uint64_t version; /* of `current`, and of the latest table; written under `lock` */
    struct berth_epoch readers;
    pthread_mutex_t lock;
    bool fork_handled;
    /* Replaced tables that some reader may still see; freed by the next successful wait. */
    struct berth_loaded_table *retired;
};

extern BERTH_SHARED struct table_state berth__table_state;
struct table_state berth__table_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

void (*berth__table_plain)(size_t threshold, bool is_wanted, uint64_t sample_interval);

/* A reader runs for microseconds; one that takes this long will never come back. */
#define READER_TIMEOUT_MS 1000

static void decide(struct berth_loaded_table *table, const struct berth_request *request,
                   struct berth_decision *ret)
{
    struct berth_rule_state *rule;

    ret->version = table->version;
    berth__table_match(table, request, ret);
    if (ret->rule == BERTH_RULE_NONE)
        return;
    rule = &table->rules[ret->rule];
    atomic_fetch_add_explicit(&rule->matched_blocks, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&rule->matched_bytes, request->size, memory_order_relaxed);
}

/* Enters, and returns the table in force, which stays until the reader leaves. */
static struct berth_loaded_table *enter(struct berth_epoch_token *ret_token)
{
    *ret_token = berth__epoch_enter(&berth__table_state.readers);
    return atomic_load(&berth__table_state.current);
}

static void start_decision(const struct berth_request *request, struct berth_decision *ret)
{
    ret->version = 0;
    ret->rule = BERTH_RULE_NONE;
    ret->tag = request->tag;
    ret->tagged_by = request->tag == BERTH_TAG_UNTAGGED ? BERTH_TAGGED_NONE : BERTH_TAGGED_API;
    ret->place_count = 0;
    ret->movable = false;
}

void berth__table_decide(const struct berth_request *request, struct berth_decision *ret)
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table;

    ret->version = 0;
    ret->rule = BERTH_RULE_NONE;
    ret->tag = request->tag;
    ret->tagged_by = request->tag == BERTH_TAG_UNTAGGED ? BERTH_TAGGED_NONE : BERTH_TAGGED_API;
    ret->movable = false;
    ret->place_count = 0;
    if (!atomic_load_explicit(&berth__table_state.current, memory_order_relaxed)) {
        berth__table_take_guess(request, ret);
        return;
    }
    table = enter(&token);
    if (table)
        decide(table, request, ret);
    berth__epoch_leave(token);
}

void berth__table_consider(const struct berth_request *request, struct berth_decision *ret)
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table;

    start_decision(request, ret);
    table = enter(&token);
    if (table) {
        ret->version = table->version;
        berth__table_match(table, request, ret);
    }
    berth__epoch_leave(token);
}

void berth__table_count_spill(const struct berth_decision *decision, berth_tier_id tier,
                              size_t size)
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table = enter(&token);

    if (table && table->version == decision->version &&
        decision->rule < table->view.header->rules.count) {
        struct berth_rule_state *rule = &table->rules[decision->rule];

        atomic_fetch_add_explicit(&rule->spilled_blocks, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&rule->spilled_bytes, size, memory_order_relaxed);
    }
    berth__epoch_leave(token);
}

/* Called under the lock. A table that cannot be freed yet is kept for the next time. */
static void retire(struct berth_loaded_table *old)
{
    struct table_state *state = &berth__table_state;

    if (old) {
        old->next_retired = state->retired;
        state->retired = old;
    }
    if (!state->retired || !berth__epoch_wait(&state->readers, READER_TIMEOUT_MS))
        return;
    while (state->retired) {
        struct berth_loaded_table *next = state->retired->next_retired;

        berth__table_unload(state->retired);
        state->retired = next;
    }
}

/* Of forks that this thread is amid; see alloc/fork_turn.h. */
static __thread unsigned forks;

/* No install is under way while the process is copied. */
static void fork_prepare(void)
{
    struct berth_fork_turn turn;

    if (berth__fork_turn_prepare(&turn, &forks))
        berth__fork_turn_lock(&turn, &forks, &berth__table_state.lock);
    berth__fork_turn_over(&turn);
}

static void fork_parent(void)
{
    struct berth_fork_turn turn;

    if (berth__fork_turn_parent(&turn, &forks))
        pthread_mutex_unlock(&berth__table_state.lock);
    berth__fork_turn_over(&turn);
}

/* The child has one thread, which reads nothing: it forgets the readers of the others. */
static void fork_child(void)
{
    struct berth_fork_turn turn;
    bool has_lock = berth__fork_turn_child(&turn, &forks);

    berth__epoch_reset(&berth__table_state.readers);
    if (has_lock)
        pthread_mutex_unlock(&berth__table_state.lock);
    berth__fork_turn_over(&turn);
}

/*
 * Handlers run in the reverse order before a fork. An installer holds our lock while it makes
 * tiers, which takes the allocator's locks, so a fork must take ours first too: the allocator has
 * to have registered its handlers before (berth__host_register()).
 */
static void register_fork_handlers(void)
{
    struct table_state *state = &berth__table_state;

    if (pthread_atfork(fork_prepare, fork_parent, fork_child) != 0)
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_FORK,
                   "there is no memory to register for forks; a forked child keeps its table");
    state->fork_handled = true;
}

/* Called under the lock. */
static void update_gate(const struct berth_loaded_table *table)
{
    size_t record = berth__option(BERTH_OPTION_RECORD_THRESHOLD);
    size_t least = table && table->host_min_size < record ? table->host_min_size : record;
    unsigned sides = table ? table->site_sides : 0;
    uint64_t interval = 0;

    if (berth__option(BERTH_OPTION_SITES) == BERTH_SITES_ALWAYS) {
        sides = BERTH_SIDE_BOTH;
        interval = berth__option(BERTH_OPTION_SITE_SAMPLE);
    }
    atomic_store_explicit(&berth__gate.site_threshold, sides & BERTH_SIDE_HOST ? record : SIZE_MAX,
                          memory_order_relaxed);
    atomic_store_explicit(&berth__gate.device_site_threshold,
                          sides & BERTH_SIDE_DEVICE ? record : SIZE_MAX, memory_order_relaxed);
    /* A size that the malloc side finds not to be plain is then compared with the threshold. */
    atomic_store_explicit(&berth__gate.threshold, least, memory_order_relaxed);
    if (berth__table_plain)
        berth__table_plain(least, least < record, interval);
}

void berth__table_update_gate(void)
{
    struct table_state *state = &berth__table_state;

    pthread_mutex_lock(&state->lock);
    update_gate(atomic_load(&state->current));
    pthread_mutex_unlock(&state->lock);
}

bool berth__table_reads_sites(void)
{
    return atomic_load_explicit(&berth__gate.site_threshold, memory_order_relaxed) != SIZE_MAX ||
           atomic_load_explicit(&berth__gate.device_site_threshold, memory_order_relaxed) !=
               SIZE_MAX;
}

int berth__table_install(const void *bytes, size_t size, const char *origin, char *why,
                         size_t why_size)
{
    struct table_state *state = &berth__table_state;
    struct berth_loaded_table *old, *table;
    int r;

    pthread_mutex_lock(&state->lock);
    if (!state->fork_handled)
        register_fork_handlers();
    old = atomic_load(&state->current);
    r = berth__table_load(bytes, size, origin, old, &table, why, why_size);
    if (r == 0) {
        table->version = berth__table_version() + 1;
        atomic_exchange(&state->current, table);
        atomic_store_explicit(&state->version, table->version, memory_order_relaxed);
        update_gate(table);
        berth__log(BERTH_LOG_INFO, BERTH_TOPIC_POLICY,
                   "table %llu from %s is in force, with %u rules",
                   (unsigned long long)table->version, origin, table->view.header->rules.count);
        retire(old);
    }
    pthread_mutex_unlock(&state->lock);
    return r;
}

uint64_t berth__table_version(void)
{
    return atomic_load_explicit(&berth__table_state.version, memory_order_relaxed);
}

const char *berth__table_rule_name(uint64_t version, uint32_t rule, char buffer[BERTH_NAME_MAX])
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table = enter(&token);

    buffer[0] = '\0';
    if (table && table->version == version && rule < table->view.header->rules.count)
        strcpy(buffer, berth__table_string(&table->view, table->view.rules[rule].name));
    berth__epoch_leave(token);
    return buffer;
}

void berth__table_describe(const struct berth_block_detail *detail, struct berth_block_info *ret)
{
    static __thread char rule_name[BERTH_NAME_MAX];

    ret->base = (const void *)detail->base;
    ret->requested = detail->requested;
    ret->held = detail->held;
    ret->tag = detail->tag;
    ret->tier = berth__tier(detail->tier)->name;
    ret->rule = detail->rule == BERTH_RULE_NONE
                    ? ""
                    : berth__table_rule_name(detail->version, detail->rule, rule_name);
}

const char *berth__table_missing_why(uint64_t version, uint32_t tier,
                                     char buffer[BERTH_TABLE_WHY_MAX])
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table = enter(&token);

    buffer[0] = '\0';
    if (table && table->version == version && tier < table->view.header->tiers.count)
        strcpy(buffer, table->missing_why[tier]);
    berth__epoch_leave(token);
    return buffer;
}

size_t berth__table_least_size(const void *return_address, size_t most)
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table = enter(&token);
    size_t least = table ? berth__table_match_least(table, return_address, most) : most;

    berth__epoch_leave(token);
    return least;
}

int berth__table_judge_section(uint64_t version, uint32_t index,
                               const struct berth_request *request, enum berth_verdict *ret)
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table = enter(&token);
    int r = -ESTALE;

    if (table && table->version == version) {
        r = index < table->view.header->sites.count ? 0 : -ENOENT;
        if (r == 0)
            *ret = berth__table_match_section(table, index, request);
    }
    berth__epoch_leave(token);
    return r;
}

int berth__table_judge_rule(uint64_t version, uint32_t index, const struct berth_request *request,
                            enum berth_verdict *ret)
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table = enter(&token);
    int r = -ESTALE;

    if (table && table->version == version) {
        r = index < table->view.header->rules.count ? 0 : -ENOENT;
        if (r == 0)
            *ret = berth__table_match_rule(table, index, request);
    }
    berth__epoch_leave(token);
    return r;
}

int berth__table_rule_counts(uint64_t version, uint32_t rule, struct berth_rule_counts *ret)
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table = enter(&token);
    int r = -ESTALE;

    if (table && table->version == version && rule < table->view.header->rules.count) {
        struct berth_rule_state *state = &table->rules[rule];

        ret->matched_blocks = atomic_load_explicit(&state->matched_blocks, memory_order_relaxed);
        ret->matched_bytes = atomic_load_explicit(&state->matched_bytes, memory_order_relaxed);
        ret->spilled_blocks = atomic_load_explicit(&state->spilled_blocks, memory_order_relaxed);
        ret->spilled_bytes = atomic_load_explicit(&state->spilled_bytes, memory_order_relaxed);
        r = 0;
    }
    berth__epoch_leave(token);
    return r;
}

int berth__table_copy(void *bytes, size_t room, size_t *ret_size, uint64_t *ret_version)
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table = enter(&token);
    int r = -ENOENT;

    if (table) {
        r = -ENOSPC;
        *ret_size = table->bytes_size;
        if (room >= table->bytes_size) {
            memcpy(bytes, table->view.header, table->bytes_size);
            *ret_version = table->version;
            r = 0;
        }
    }
    berth__epoch_leave(token);
    return r;
}

int berth__table_origin(uint64_t version, char *text, size_t room)
{
    struct berth_epoch_token token;
    struct berth_loaded_table *table = enter(&token);
    int r = -ESTALE;

    if (table && table->version == version && room > 0) {
        size_t length = strnlen(table->origin, room - 1);

        memcpy(text, table->origin, length);
        text[length] = '\0';
        r = 0;
    }
    berth__epoch_leave(token);
    return r;
}
