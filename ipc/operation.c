/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/operation.h"

#include "alloc/classifier.h"
#include "alloc/log.h"
#include "alloc/options.h"
#include "ipc/account.h"
#include "ipc/buffer.h"
#include "ipc/control.h"
#include "ipc/entry_path_json.h"
#include "ipc/explain_json.h"
#include "ipc/failure.h"
#include "ipc/json.h"
#include "ipc/limit_json.h"
#include "ipc/move_json.h"
#include "ipc/plan_json.h"
#include "ipc/shared_json.h"
#include "ipc/shared_tier.h"
#include "ipc/site_json.h"
#include "ipc/snapshot.h"
#include "ipc/table_json.h"
#include "ipc/trace_json.h"
#include "ipc/unseen_json.h"
#include "pmem/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One request on its way to an answer. */
struct call {
    const struct berth_identity *identity;
    struct berth_exchange *exchange;
    json_t *request;
    json_t *reply; /* filled in by the operation; "id" and "ok" are there already */
    struct berth_failure failure;
};

/* An operation: 0; -EINVAL after berth__failure_set(); -ENOMEM. */
struct operation {
    const char *name;
    int (*run)(struct call *call);
};

static int add(struct call *call, const char *key, json_t *value)
{
    return json_object_set_new(call->reply, key, value) < 0 ? -ENOMEM : 0;
}

static int run_ping(struct call *call)
{
    return 0;
}

static int run_stat(struct call *call)
{
    int r;

    berth__classifier_refresh();
    r = add(call, "pid", json_integer(call->identity->pid));

    if (r == 0)
        r = add(call, "start", json_integer((json_int_t)call->identity->start));
    if (r == 0)
        r = add(call, "program", json_string(call->identity->program));
    if (r == 0)
        r = berth__table_json_identity(call->reply);
    if (r == 0)
        r = berth__account_add(call->reply);
    if (r == 0)
        r = berth__entry_path_json_add(call->reply);
    if (r == 0)
        r = berth__limit_json_add(call->reply);
    if (r == 0)
        r = berth__unseen_json_add(call->reply);
    if (r == 0)
        r = berth__plan_json_add(call->reply);
    if (r == 0)
        r = berth__table_json_counts(call->reply, 0);
    return r;
}

/* What is seen of the program's calls, and what is not: looked at anew. */
static int run_doctor(struct call *call)
{
    int r;

    if (berth__control_look)
        berth__control_look();
    r = berth__entry_path_json_add(call->reply);
    if (r == 0)
        r = berth__move_json_probe(call->reply);
    return r == 0 ? berth__unseen_json_add(call->reply) : r;
}

static const char *const type_names[] = {
    [BERTH_OPTION_SIZE] = "size",
    [BERTH_OPTION_COUNT_TYPE] = "count",
    [BERTH_OPTION_CHOICE] = "choice",
};

static int run_options(struct call *call)
{
    json_t *array = json_array();

    for (unsigned i = 0; array && i < BERTH_OPTION_COUNT; i++) {
        enum berth_option option = (enum berth_option)i;
        const struct berth_option_info *info = &berth__option_info[option];
        char text[BERTH_OPTION_TEXT_MAX];
        json_t *object = json_pack("{s:s,s:s,s:s,s:I,s:s,s:s,s:s,s:s}", "name", info->name, "type",
                                   type_names[info->type], "text", berth__option_text(option, text),
                                   "value", (json_int_t)berth__option(option), "origin",
                                   berth__origin_name(berth__option_origin(option)), "choices",
                                   info->choices, "unit", info->unit, "help", info->help);

        if (json_array_append_new(array, object) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return add(call, "options", array);
}

/* Reads an optional number of the request; -EINVAL when it is something else. */
static int read_number(struct call *call, const char *key, int64_t fallback, int64_t *ret)
{
    const json_t *value = json_object_get(call->request, key);

    *ret = fallback;
    if (!value)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return berth__failure_set(&call->failure, "bad-request",
                                  "\"%s\" is no index; expected 0 or more", key);
    *ret = json_integer_value(value);
    return 0;
}

static int run_rules(struct call *call)
{
    int64_t first;
    int r = read_number(call, "first", 0, &first);

    if (r == 0)
        r = berth__table_json_identity(call->reply);
    return r == 0 ? berth__table_json_counts(call->reply, (uint64_t)first) : r;
}

static int run_policy_show(struct call *call)
{
    int64_t first_site, first_rule = 0;
    int r = read_number(call, "first_site", 0, &first_site);

    if (r == 0)
        r = read_number(call, "first_rule", 0, &first_rule);
    if (r == 0)
        r = berth__table_json_show(call->reply, (uint64_t)first_site, (uint64_t)first_rule);
    return r;
}

static int run_policy_table(struct call *call)
{
    int64_t first;
    int r = read_number(call, "first", 0, &first);

    return r == 0 ? berth__table_json_bytes(call->reply, (uint64_t)first) : r;
}

/* What the request says of a table's origin: "agent" unless it names one. */
static const char *origin_of(const struct call *call)
{
    const char *origin = json_string_value(json_object_get(call->request, "origin"));

    return origin && *origin ? origin : "agent";
}

/* Before the answer, so that blocks that come after it find the tier as the policy says. */
static void attach_wanted(void)
{
    berth__shared_tier_want();
    berth__shared_tier_run();
}

static int run_policy_apply(struct call *call)
{
    const struct berth_passed *passed = call->exchange->passed;
    int64_t expected;
    int r = read_number(call, "if_version", -1, &expected);

    call->exchange->takes_passed = true;
    if (r < 0)
        return r;
    if (passed->state == BERTH_PASSED_UNREAD)
        return 0; /* the server reads it and asks again */
    if (passed->state == BERTH_PASSED_NONE)
        return berth__failure_set(&call->failure, "no-descriptor",
                                  "no descriptor came with the request; expected a sealed memfd "
                                  "with a compiled table");
    if (passed->state == BERTH_PASSED_BAD)
        return berth__failure_set(&call->failure, "bad-descriptor", "%s", passed->why);
    r = berth__table_json_apply(passed->bytes, passed->size, origin_of(call), expected,
                                &call->failure);
    if (r == 0)
        attach_wanted();
    return r == 0 ? add(call, "version", json_integer((json_int_t)berth__table_version())) : r;
}

static int run_policy_patch(struct call *call)
{
    int64_t expected;
    int r = read_number(call, "if_version", -1, &expected);

    if (r == 0)
        r = berth__table_json_patch(json_object_get(call->request, "changes"), origin_of(call),
                                    expected, &call->failure);
    return r == 0 ? add(call, "version", json_integer((json_int_t)berth__table_version())) : r;
}

static int run_shared_create(struct call *call)
{
    return berth__shared_json_create(call->request, call->reply, &call->failure);
}

static int run_shared_drop(struct call *call)
{
    return berth__shared_json_drop(call->request, &call->failure);
}

static int run_shared_list(struct call *call)
{
    return berth__shared_json_list(call->reply);
}

static int run_shared_open(struct call *call)
{
    return berth__shared_json_open(call->request, call->exchange, call->reply, &call->failure);
}

static int run_shared_attach(struct call *call)
{
    return berth__shared_json_attach(call->request, &call->failure);
}

static int run_shared_detach(struct call *call)
{
    return berth__shared_json_detach(call->request, &call->failure);
}

/* Takes the descriptor by itself: what is in the file is not read. */
static int run_trace_start(struct call *call)
{
    const json_t *paths = json_object_get(call->request, "call_paths");

    call->exchange->opens_passed = true;
    if (paths && !json_is_true(paths) && !json_is_false(paths))
        return berth__failure_set(&call->failure, "bad-request",
                                  "\"call_paths\" is neither true nor false");
    return berth__trace_json_start(call->exchange->passed, json_is_true(paths), call->reply,
                                   &call->failure);
}

static int run_trace_stop(struct call *call)
{
    return berth__trace_json_stop(call->reply, &call->failure);
}

static int run_trace_state(struct call *call)
{
    return berth__trace_json_state(call->reply);
}

/* The snapshot is taken once the server has the means to carry it. */
static int run_snapshot(struct call *call)
{
    struct berth_snapshot_counts counts;
    int fd, r;

    if (!call->exchange->handover) {
        call->exchange->gives_descriptor = true;
        return 0;
    }
    r = berth__snapshot_take(&fd, &counts);
    if (r == -ENOMEM)
        return r;
    if (r < 0)
        return berth__failure_set(&call->failure, "no-snapshot",
                                  "the snapshot cannot be written: %s", strerrordesc_np(-r));
    r = berth__handover_give(call->exchange->handover, fd);
    close(fd);
    if (r < 0)
        return berth__failure_set(&call->failure, "no-handover",
                                  "the snapshot cannot be handed over: %s", strerrordesc_np(-r));
    call->exchange->gives_descriptor = true;
    r = add(call, "segments", json_integer((json_int_t)counts.segments));
    if (r == 0)
        r = add(call, "blocks", json_integer((json_int_t)counts.blocks));
    if (r == 0)
        r = add(call, "records", json_integer((json_int_t)counts.records));
    return r == 0 ? add(call, "sites", json_integer((json_int_t)counts.sites)) : r;
}

static int run_limit(struct call *call)
{
    return berth__limit_json_set(call->request, call->reply, &call->failure);
}

static int run_trim(struct call *call)
{
    return berth__limit_json_trim(call->request, call->reply, &call->failure);
}

static int run_sites(struct call *call)
{
    int64_t first;
    int r = read_number(call, "first", 0, &first);

    return r == 0 ? berth__site_json_accounts(call->reply, (uint64_t)first) : r;
}

static int run_sites_paths(struct call *call)
{
    return berth__site_json_paths(call->request, call->reply, &call->failure);
}

static int run_sites_read(struct call *call)
{
    return berth__site_json_read(call->request, call->reply, &call->failure);
}

static int run_explain(struct call *call)
{
    return berth__explain_json(call->request, call->reply, &call->failure);
}

static int run_move(struct call *call)
{
    return berth__move_json_start(call->request, call->reply, &call->failure);
}

static int run_move_state(struct call *call)
{
    return berth__move_json_state(call->reply, &call->failure);
}

static int run_move_cancel(struct call *call)
{
    return berth__move_json_cancel(call->reply, &call->failure);
}

static const struct operation operations[] = {
    {"ping", run_ping},
    {"stat", run_stat},
    {"doctor", run_doctor},
    {"rules", run_rules},
    {"options", run_options},
    {"policy.show", run_policy_show},
    {"policy.table", run_policy_table},
    {"policy.apply", run_policy_apply},
    {"policy.patch", run_policy_patch},
    {"shared.create", run_shared_create},
    {"shared.drop", run_shared_drop},
    {"shared.list", run_shared_list},
    {"shared.open", run_shared_open},
    {"shared.attach", run_shared_attach},
    {"shared.detach", run_shared_detach},
    {"trace.start", run_trace_start},
    {"trace.stop", run_trace_stop},
    {"trace.state", run_trace_state},
    {"snapshot", run_snapshot},
    {"sites", run_sites},
    {"sites.paths", run_sites_paths},
    {"sites.read", run_sites_read},
    {"explain", run_explain},
    {"limit", run_limit},
    {"move", run_move},
    {"move.state", run_move_state},
    {"move.cancel", run_move_cancel},
    {"trim", run_trim},
};

static const struct operation *find_operation(const char *name)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
        if (strcmp(operations[i].name, name) == 0)
            return &operations[i];
    return NULL;
}

static int parse(struct call *call)
{
    json_error_t error;

    call->request = json_loadb(call->exchange->frame, call->exchange->length,
                               JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!call->request)
        return berth__failure_set(&call->failure, "bad-json", "byte %d: %s", error.position,
                                  error.text);
    if (!json_is_object(call->request))
        return berth__failure_set(&call->failure, "bad-request",
                                  "the frame is no object; expected {\"op\":...}");
    return 0;
}

/* The request's own id, or null: any string or integer. */
static json_t *id_of(const struct call *call)
{
    json_t *id = call->request ? json_object_get(call->request, "id") : NULL;

    return json_is_string(id) || json_is_integer(id) ? json_incref(id) : json_null();
}

static int run(struct call *call)
{
    const char *name = json_string_value(json_object_get(call->request, "op"));
    const struct operation *operation = name ? find_operation(name) : NULL;

    if (!name)
        return berth__failure_set(&call->failure, "bad-request",
                                  "there is no \"op\"; expected a string");
    if (!operation)
        return berth__failure_set(&call->failure, "unknown-op",
                                  "op '%.64s' is not known; expected one of berth-protocol(7)",
                                  name);
    call->reply = json_pack("{s:o,s:b}", "id", id_of(call), "ok", 1);
    return call->reply ? operation->run(call) : -ENOMEM;
}

static json_t *failure_reply(const struct call *call)
{
    return json_pack("{s:o,s:b,s:{s:s,s:o}}", "id", id_of(call), "ok", 0, "error", "code",
                     call->failure.code, "message", berth__json_text(call->failure.message));
}

/* Puts a reply into the exchange, with the newline that ends its frame. */
static void finish(struct berth_exchange *exchange, const json_t *reply)
{
    char *text = json_dumps(reply, JSON_COMPACT);
    size_t length = text ? strlen(text) : 0;

    if (!text)
        return;
    /* What ends the text makes room for what ends the frame. */
    exchange->reply = berth__buffer_make(text, length + 1);
    exchange->reply_length = length + 1;
    if (exchange->reply)
        exchange->reply[length] = '\n';
    free(text);
}

/* What is answered to everything where jansson is missing. */
static void answer_without_json(struct berth_exchange *exchange, const char *why)
{
    static _Atomic int said;
    char quoted[512];
    char line[1024];

    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_IPC,
                    "%s; clients of the control socket get no answers", why);
    snprintf(line, sizeof(line),
             "{\"id\":null,\"ok\":false,\"error\":{\"code\":\"no-jansson\",\"message\":%s}}\n",
             berth__json_quote(why, quoted, sizeof(quoted)));
    exchange->reply = berth__buffer_make(line, strlen(line));
    exchange->reply_length = strlen(line);
}

void berth__operation_answer(const struct berth_identity *identity, struct berth_exchange *exchange)
{
    struct call call = {.identity = identity, .exchange = exchange};
    char why[256];
    int r;

    if (berth__json_load(why, sizeof(why)) < 0) {
        answer_without_json(exchange, why);
        return;
    }
    r = parse(&call);
    if (r == 0)
        r = run(&call);
    if (r == -ENOMEM)
        berth__failure_set(&call.failure, "no-memory", "there is no memory for the answer");
    if (r == 0)
        finish(exchange, call.reply);
    if (r == 0 && exchange->reply_length > BERTH_WIRE_FRAME_MAX) {
        berth__buffer_free(exchange->reply, exchange->reply_length);
        exchange->reply = NULL;
        r = berth__failure_set(&call.failure, "reply-too-long",
                               "the answer is longer than a frame may be");
    }
    json_decref(call.reply);
    call.reply = NULL;
    if (r < 0) {
        call.reply = failure_reply(&call);
        if (call.reply)
            finish(exchange, call.reply);
        json_decref(call.reply);
    }
    json_decref(call.request);
}
