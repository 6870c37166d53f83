/* SPDX-License-Identifier: Apache-2.0 */
/* berth explain: why a block, or what a call site asks for, is where it is. */
#include "alloc/quantity.h"
#include "alloc/types.h"
#include "tools/berth/process.h"
#include "tools/berth/site_path.h"
#include "tools/berth/site_search.h"
#include "tools/berth/tool.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

struct explain_arguments {
    const char *pid, *address, *path, *tag, *side;
    uint64_t site, size;
    int has_size, json;
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

static json_t *request_of(const struct explain_arguments *arguments, size_t sections, size_t rules)
{
    json_t *request = json_pack("{s:s,s:I,s:I}", "op", "explain", "first_section",
                                (json_int_t)sections, "first_rule", (json_int_t)rules);

    if (arguments->address)
        json_object_set_new(request, "address", json_string(arguments->address));
    else
        json_object_set_new(request, "site", json_integer((json_int_t)arguments->site));
    if (arguments->has_size)
        json_object_set_new(request, "size", json_integer((json_int_t)arguments->size));
    if (arguments->tag)
        json_object_set_new(request, "tag", json_string(arguments->tag));
    if (arguments->side)
        json_object_set_new(request, "side", json_string(arguments->side));
    return request;
}

/* The whole answer, all pages of the table's sections and rules in it; NULL after one line. */
static json_t *fetch(struct berth_session *session, const struct explain_arguments *arguments)
{
    json_t *all = NULL;

    for (;;) {
        json_t *sections = json_object_get(all, "sections");
        json_t *rules = json_object_get(all, "rules");
        size_t had = json_array_size(sections) + json_array_size(rules);
        json_t *reply = berth__session_request(
            session, request_of(arguments, json_array_size(sections), json_array_size(rules)), -1,
            0);

        if (!reply) {
            json_decref(all);
            return NULL;
        }
        if (!all) {
            all = reply;
        } else {
            json_array_extend(sections, json_object_get(reply, "sections"));
            json_array_extend(rules, json_object_get(reply, "rules"));
            json_decref(reply);
        }
        sections = json_object_get(all, "sections");
        rules = json_object_get(all, "rules");
        /* A page may be empty where the table was replaced meanwhile: that is the end. */
        if ((json_array_size(sections) >= number(all, "section_count") &&
             json_array_size(rules) >= number(all, "rule_count")) ||
            json_array_size(sections) + json_array_size(rules) == had)
            return all;
    }
}

static void print_bytes(uint64_t bytes)
{
    char text[BERTH_QUANTITY_TEXT_MAX];

    fputs(berth__quantity_format(bytes, text), stdout);
}

static void print_text(const char *text)
{
    berth__tool_print(text, strlen(text), stdout);
}

/* Nothing is known of most blocks of a program that has just begun: that is said, too. */
static void print_class(const json_t *class)
{
    if (!class)
        return;
    printf("class    %s, %s: %s\n", string(class, "tag"), string(class, "certainty"),
           string(class, "why"));
    if (json_object_get(class, "program"))
        printf("program  %s, which is noted and not heeded\n", string(class, "program"));
}

static void print_tag(const json_t *block)
{
    const char *by = string(block, "tagged_by");

    printf("tag      %s", string(block, "tag"));
    if (strcmp(by, "program") == 0)
        puts(", by the program itself (berth_tag_push)");
    else if (strcmp(by, "site") == 0)
        puts(", by a `site` section of the policy");
    else if (strcmp(by, "classifier") == 0)
        puts(", by the classifier");
    else
        puts(": nobody has tagged it");
    print_class(json_object_get(block, "class"));
}

static void print_place(const json_t *block)
{
    const json_t *node = json_object_get(block, "node");
    const json_t *offset = json_object_get(block, "offset");
    const json_t *device = json_object_get(block, "device");

    fputs("place    tier ", stdout);
    print_text(string(block, "tier"));
    printf(" (%s)", string(block, "kind"));
    if (json_is_integer(device))
        printf(", device %lld", (long long)json_integer_value(device));
    if (json_object_get(block, "segment"))
        printf(", %s segment", string(block, "segment"));
    if (json_is_integer(offset))
        printf(", offset 0x%llx of its file", (unsigned long long)json_integer_value(offset));
    if (json_is_integer(node))
        printf(", NUMA node %lld", (long long)json_integer_value(node));
    else if (node)
        fputs(", its first page not touched yet", stdout);
    putchar('\n');
}

static void print_block(const json_t *block, const json_t *table)
{
    uint64_t version = number(block, "version");

    printf("block    %s on the %s: ", string(block, "base"), string(block, "side"));
    print_bytes(number(block, "requested"));
    fputs(" requested, ", stdout);
    print_bytes(number(block, "held"));
    fputs(" held", stdout);
    if (json_is_integer(json_object_get(block, "age_ns")))
        printf(", for %.2f s", (double)number(block, "age_ns") / 1e9);
    putchar('\n');
    if (number(block, "stands_for") > 0)
        printf("sample   it stands for about %llu blocks of its kind\n",
               (unsigned long long)number(block, "stands_for"));
    print_tag(block);
    print_place(block);
    fputs("decided  ", stdout);
    if (json_is_string(json_object_get(block, "rule"))) {
        const char *rule = string(block, "rule");

        if (*rule) {
            fputs("by rule ", stdout);
            print_text(rule);
        } else {
            printf("by rule number %llu", (unsigned long long)number(block, "rule_index") + 1);
        }
    } else {
        fputs(version ? "by no rule" : "without a policy", stdout);
    }
    if (version)
        printf(", in table version %llu", (unsigned long long)version);
    if (version != number(table, "version"))
        printf("; version %llu is in force now", (unsigned long long)number(table, "version"));
    putchar('\n');
}

static void print_account(const json_t *site)
{
    size_t i;
    json_t *cell;

    json_array_foreach(json_object_get(site, "cells"), i, cell)
    {
        fputs("         ", stdout);
        print_bytes(number(cell, "held"));
        printf(" in %llu blocks, %s, tier ", (unsigned long long)number(cell, "blocks"),
               string(cell, "tag"));
        print_text(string(cell, "tier"));
        if (number(cell, "samples") > 0)
            printf(", estimated from %llu samples", (unsigned long long)number(cell, "samples"));
        printf("; %llu allocated, %llu freed", (unsigned long long)number(cell, "allocs"),
               (unsigned long long)number(cell, "frees"));
        if (number(cell, "frees") > 0)
            printf(" after %.3f s on average",
                   (double)number(cell, "lifetime_ns") / 1e9 / (double)number(cell, "frees"));
        putchar('\n');
    }
}

static void print_site(const json_t *answer)
{
    const json_t *site = json_object_get(answer, "site");

    if (!json_is_object(site)) {
        puts("site     not read");
        return;
    }
    printf("site     #%llu, ", (unsigned long long)number(site, "site"));
    print_bytes(number(site, "peak"));
    puts(" at most at once");
    print_account(site);
    berth__site_path_print(json_object_get(answer, "frames"), stdout);
}

/* A bound of sizes beside what was asked about, if that is known. */
static void print_size_verdict(const json_t *entry, const json_t *block, int is_small)
{
    printf("%s is ", is_small ? "min-size" : "max-size");
    print_bytes(number(entry, is_small ? "min_size" : "max_size"));
    if (block) {
        fputs(", the block has ", stdout);
        print_bytes(number(block, "requested"));
    }
}

static void print_tags(const json_t *tags)
{
    size_t i;
    json_t *tag;

    json_array_foreach(tags, i, tag) printf("%s%s", i ? ", " : "", json_string_value(tag));
}

static void print_pattern(const json_t *entry)
{
    fputs("site is \"", stdout);
    print_text(string(entry, "pattern"));
    fputs("\", ", stdout);
}

static void print_verdict(const json_t *entry, const json_t *answer)
{
    const json_t *block = json_object_get(answer, "block");
    const char *verdict = string(entry, "verdict");

    if (strcmp(verdict, "matches") == 0)
        fputs("matches", stdout);
    else if (strcmp(verdict, "side") == 0)
        printf("does not speak of the %s side", string(answer, "side"));
    else if (strcmp(verdict, "too-small") == 0 || strcmp(verdict, "too-large") == 0)
        print_size_verdict(entry, block, strcmp(verdict, "too-small") == 0);
    else if (strcmp(verdict, "tag") == 0) {
        fputs("speaks of ", stdout);
        print_tags(json_object_get(entry, "tags"));
        printf("; the tag is %s", string(answer, "tag"));
    } else if (strcmp(verdict, "no-site") == 0) {
        print_pattern(entry);
        fputs("the call path was not read", stdout);
    } else if (strcmp(verdict, "site") == 0) {
        print_pattern(entry);
        fputs("the call path is another", stdout);
    } else if (strcmp(verdict, "thread") == 0) {
        fputs("matches if the thread is called \"", stdout);
        print_text(string(entry, "thread"));
        fputs("\", which is not known any more", stdout);
    } else if (strcmp(verdict, "sequence") == 0) {
        fputs("matches if the sequence number fits, which is not known any more", stdout);
    } else {
        print_text(verdict);
    }
}

/* In turn, up to the one that decides: those behind it were not asked. */
static void print_list(const json_t *list, const char *what, const json_t *answer)
{
    size_t i;
    json_t *entry;

    json_array_foreach(list, i, entry)
    {
        const char *name = string(entry, "name");

        printf("%-8s ", what);
        if (*name)
            print_text(name);
        else
            printf("number %zu", i + 1);
        fputs(": ", stdout);
        print_verdict(entry, answer);
        if (strcmp(string(entry, "verdict"), "matches") == 0 && json_object_get(entry, "places")) {
            fputs("; places ", stdout);
            print_tags(json_object_get(entry, "places"));
        }
        if (strcmp(string(entry, "verdict"), "matches") == 0 && !json_object_get(entry, "places"))
            printf("; tag %s", string(entry, "tag"));
        putchar('\n');
        /* Without a size a later one may decide for other sizes. */
        if (strcmp(string(entry, "verdict"), "matches") == 0 && json_object_get(answer, "block"))
            return;
    }
}

static void print_answer(const json_t *answer)
{
    const json_t *block = json_object_get(answer, "block");
    const json_t *table = json_object_get(answer, "table");

    if (block)
        print_block(block, table);
    print_site(answer);
    if (number(table, "version") == 0) {
        puts("table    no policy is in force");
        return;
    }
    printf("table    version %llu (", (unsigned long long)number(table, "version"));
    print_text(string(table, "origin"));
    puts(block ? ") says of it now:" : ") says of it:");
    print_list(json_object_get(answer, "sections"), "section", answer);
    print_list(json_object_get(answer, "rules"), "rule", answer);
}

static int explain(const struct berth_process *process, struct explain_arguments *arguments)
{
    struct berth_source_lines *lines;
    struct berth_session session;
    json_t *answer = NULL;

    if (berth__session_open(&session, process, 0) < 0)
        return BERTH_EXIT_FAILURE;
    if (!arguments->path || berth__site_search(&session, arguments->path, &arguments->site) == 0)
        answer = fetch(&session, arguments);
    berth__session_close(&session);
    if (!answer)
        return BERTH_EXIT_FAILURE;
    lines = berth__source_lines_open(process->pid);
    berth__site_path_read(json_object_get(answer, "frames"), SIZE_MAX, lines);
    berth__source_lines_close(lines);
    if (arguments->json) {
        json_dumpf(answer, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_answer(answer);
    }
    json_decref(answer);
    return 0;
}

/* An address, as 0x7f..., or a site, as #12 or 12, or by its path. */
static int read_subject(const char *text, struct explain_arguments *ret)
{
    const char *digits = text + (*text == '#');
    char *end;

    if (strncmp(text, "0x", 2) == 0) {
        ret->address = text;
        return 0;
    }
    ret->site = strtoull(digits, &end, 10);
    if (*digits >= '0' && *digits <= '9' && !*end)
        return 0;
    if (!berth__site_search_is_path(text))
        return berth__tool_misuse("explain: '%s' is neither an address nor a site; expected as "
                                  "0x7f0012345000, or as #12 or app!load of `berth sites`",
                                  text);
    ret->path = text;
    return 0;
}

static int read_options(int argc, char **argv, struct explain_arguments *ret)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},      {"size", required_argument, NULL, 's'},
        {"tag", required_argument, NULL, 't'}, {"host", no_argument, NULL, 'h'},
        {"device", no_argument, NULL, 'd'},    {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == '?')
            return BERTH_EXIT_MISUSE;
        if (c == 'j')
            ret->json = 1;
        else if (c == 't')
            ret->tag = optarg;
        else if (c == 'h')
            ret->side = "host";
        else if (c == 'd')
            ret->side = "device";
        else if (berth__quantity_parse(optarg, strlen(optarg), &ret->size) < 0)
            return berth__tool_misuse("explain: --size '%s' is no size; expected as 64K", optarg);
        else
            ret->has_size = 1;
    }
    if (ret->tag && berth__tag_from_name(ret->tag) < 0)
        return berth__tool_misuse("explain: --tag '%s' is no tag; expected weight, activation, kv, "
                                  "workspace or untagged",
                                  ret->tag);
    return 0;
}

int berth__command_explain(int argc, char **argv)
{
    struct explain_arguments arguments = {0};
    struct berth_process process;
    int r = read_options(argc, argv, &arguments);

    if (r != 0)
        return r;
    if (argc - optind != 2)
        return berth__tool_misuse("explain: expected berth explain PID ADDRESS|SITE");
    r = read_subject(argv[optind + 1], &arguments);
    if (r != 0)
        return r;
    if (arguments.address && (arguments.has_size || arguments.tag || arguments.side))
        return berth__tool_misuse("explain: --size, --tag, --host and --device are for sites; a "
                                  "block has its own");
    if (berth__process_find(argv[optind], &process) != 0)
        return BERTH_EXIT_FAILURE;
    r = explain(&process, &arguments);
    berth__process_done(&process);
    return berth__tool_finish(r);
}
