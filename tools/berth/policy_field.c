/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_field.h"

#include "alloc/quantity.h"
#include "alloc/site_pattern.h"
#include "pmem/node_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The kernel keeps 15 characters of a thread's name (TASK_COMM_LEN). */
#define THREAD_NAME_LENGTH 15

#define ANY_SIZE "expected a number of bytes, or one with K, M, G or T, as in 64K"
#define ANY_TAG "expected weight, activation, kv, workspace or untagged"

const struct berth_policy_statement *berth__field_find(const struct berth_policy_field *field,
                                                       const char *name)
{
    for (size_t i = 0; i < field->section->statement_count; i++)
        if (strcmp(field->section->statements[i].name, name) == 0)
            return &field->section->statements[i];
    return NULL;
}

unsigned berth__field_line(const struct berth_policy_field *field, const char *name)
{
    const struct berth_policy_statement *statement = berth__field_find(field, name);

    return statement ? statement->line : field->section->line;
}

const struct berth_policy_value *berth__field_value(const struct berth_policy_field *field,
                                                    const char *name)
{
    const struct berth_policy_statement *statement = berth__field_find(field, name);

    return statement && !statement->broken && statement->value_count == 1 ? statement->values
                                                                          : NULL;
}

bool berth__field_size(const struct berth_policy_field *field, const char *name, uint64_t *ret)
{
    const struct berth_policy_value *value = berth__field_value(field, name);
    const char *text;
    int r;

    if (!value)
        return !berth__field_find(field, name);
    text = value->text;
    r = berth__quantity_parse(text, strlen(text), ret);
    if (r == 0)
        return true;
    if (text[0] == '\0')
        berth__complain(field->complaints, value->line, "%s is empty; " ANY_SIZE, name);
    else if (text[0] == '-')
        berth__complain(field->complaints, value->line, "%s is negative: '%s'; " ANY_SIZE, name,
                        text);
    else if (r == -ERANGE)
        berth__complain(field->complaints, value->line,
                        "%s is too large: '%s'; expected at most 2^64 - 1 bytes", name, text);
    else
        berth__complain(field->complaints, value->line, "%s: '%s' is not a size; " ANY_SIZE, name,
                        text);
    return false;
}

bool berth__field_side(const struct berth_policy_field *field, enum berth_side *ret)
{
    static const char *const names[] = {
        [BERTH_SIDE_HOST] = "host", [BERTH_SIDE_DEVICE] = "device", [BERTH_SIDE_BOTH] = "both"};
    const struct berth_policy_value *value = berth__field_value(field, "side");

    if (!value)
        return !berth__field_find(field, "side");
    for (int i = BERTH_SIDE_HOST; i <= BERTH_SIDE_BOTH; i++)
        if (strcmp(value->text, names[i]) == 0) {
            *ret = (enum berth_side)i;
            return true;
        }
    berth__complain(field->complaints, value->line,
                    "'%s' is no side; expected host, device or both", value->text);
    return false;
}

bool berth__field_tags(const struct berth_policy_field *field, unsigned *ret)
{
    const struct berth_policy_statement *statement = berth__field_find(field, "tag");
    unsigned tags = 0;
    bool right = true;

    if (!statement)
        return true;
    if (statement->broken)
        return false;
    if (statement->value_count == 0) {
        berth__complain(field->complaints, statement->line, "the list of tags is empty; " ANY_TAG);
        return false;
    }
    for (size_t i = 0; i < statement->value_count; i++) {
        const struct berth_policy_value *value = &statement->values[i];
        int tag = berth__tag_from_name(value->text);

        if (tag < 0)
            berth__complain(field->complaints, value->line, "'%s' is no tag; " ANY_TAG,
                            value->text);
        else if (tags & (1u << tag))
            berth__complain(field->complaints, value->line,
                            "tag '%s' is named twice; expected it once", value->text);
        else
            tags |= 1u << tag;
        right = right && tag >= 0;
    }
    if (right)
        *ret = tags;
    return right;
}

bool berth__field_fork(const struct berth_policy_field *field, enum berth_fork_rule *ret)
{
    const struct berth_policy_value *value = berth__field_value(field, "fork");

    if (!value)
        return !berth__field_find(field, "fork");
    if (strcmp(value->text, "copy") == 0) {
        *ret = BERTH_FORK_COPY;
    } else if (strcmp(value->text, "share") == 0) {
        *ret = BERTH_FORK_SHARE;
    } else {
        berth__complain(field->complaints, value->line,
                        "'%s' is no fork rule; expected copy or share", value->text);
        return false;
    }
    return true;
}

bool berth__field_choice(const struct berth_policy_field *field, const char *name,
                         int (*from_name)(const char *), const char *what, const char *expected,
                         int *ret)
{
    const struct berth_policy_value *value = berth__field_value(field, name);
    int choice;

    if (!value)
        return !berth__field_find(field, name);
    choice = from_name(value->text);
    if (choice < 0) {
        berth__complain(field->complaints, value->line, "'%s' is no %s; expected %s", value->text,
                        what, expected);
        return false;
    }
    *ret = choice;
    return true;
}

bool berth__field_nodes(const struct berth_policy_field *field, char **ret)
{
    const struct berth_policy_statement *statement = berth__field_find(field, "nodes");
    struct berth_node_set set = {0};
    char why[BERTH_NODES_WHY_MAX];
    size_t length;
    char *text;

    if (!statement)
        return true;
    if (statement->broken)
        return false;
    for (size_t i = 0; i < statement->value_count; i++) {
        const struct berth_policy_value *value = &statement->values[i];

        if (berth__node_set_add(&set, value->text, why, sizeof(why)) < 0) {
            berth__complain(field->complaints, value->line, "nodes: %s", why);
            return false;
        }
    }
    length = berth__node_set_text(&set, NULL, 0);
    if (length == 0) {
        berth__complain(field->complaints, statement->line,
                        "nodes has no node in it; expected numbers or ranges, as in 1 or 0-2,5");
        return false;
    }
    text = malloc(length + 1);
    if (!text)
        return false;
    berth__node_set_text(&set, text, length + 1);
    *ret = text;
    return true;
}

/* Digits at *text, which is moved behind them. */
static int read_number(const char **text, uint64_t *ret)
{
    const char *p = *text;
    uint64_t n = 0;

    if (*p < '0' || *p > '9')
        return -EINVAL;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return -ERANGE;
    *text = p;
    *ret = n;
    return 0;
}

static int read_decay(const char *text, int64_t *ret_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}};
    uint64_t number;
    int64_t ms;
    int r;

    if (strcmp(text, "never") == 0) {
        *ret_ms = -1;
        return 0;
    }
    r = read_number(&text, &number);
    if (r < 0)
        return r;
    if (number == 0 && *text == '\0') {
        *ret_ms = 0;
        return 0;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(text, units[i].unit) == 0) {
            if (number > INT64_MAX || __builtin_mul_overflow((int64_t)number, units[i].ms, &ms))
                return -ERANGE;
            *ret_ms = ms;
            return 0;
        }
    return -EINVAL;
}

bool berth__field_decay(const struct berth_policy_field *field, int64_t *ret_ms)
{
    const struct berth_policy_value *value = berth__field_value(field, "decay");
    int r;

    if (!value)
        return !berth__field_find(field, "decay");
    r = read_decay(value->text, ret_ms);
    if (r == 0)
        return true;
    if (r == -ERANGE)
        berth__complain(field->complaints, value->line,
                        "decay '%s' is too long; expected never, or a time that fits in 63 bits of "
                        "milliseconds",
                        value->text);
    else
        berth__complain(field->complaints, value->line,
                        "decay '%s' is no time; expected 0, never, or a number with ms, s, m or h, "
                        "as in 10s",
                        value->text);
    return false;
}

bool berth__field_sequence(const struct berth_policy_field *field, uint64_t *ret_first,
                           uint64_t *ret_last)
{
    const struct berth_policy_value *value = berth__field_value(field, "sequence");
    uint64_t first = 0;
    uint64_t last = 0;
    const char *text;
    int r;

    if (!value)
        return !berth__field_find(field, "sequence");
    text = value->text;
    r = read_number(&text, &first);
    last = first;
    if (r == 0 && *text == '-') {
        text++;
        last = UINT64_MAX;
        if (*text != '\0')
            r = read_number(&text, &last);
    }
    if (r < 0 || *text != '\0') {
        berth__complain(field->complaints, value->line,
                        "'%s' is no sequence range; expected FIRST-LAST, FIRST- or one number, as "
                        "in 0-99",
                        value->text);
        return false;
    }
    if (first > last) {
        berth__complain(field->complaints, value->line,
                        "the sequence range '%s' begins above its end; expected FIRST <= LAST",
                        value->text);
        return false;
    }
    *ret_first = first;
    *ret_last = last;
    return true;
}

bool berth__field_pattern(const struct berth_policy_field *field, const char *name,
                          const char **ret)
{
    const struct berth_policy_value *value = berth__field_value(field, name);
    char why[512];

    if (!value)
        return !berth__field_find(field, name);
    if (berth__site_pattern_check(value->text, why, sizeof(why)) < 0) {
        berth__complain(field->complaints, value->line, "%s: %s", name, why);
        return false;
    }
    *ret = value->text;
    return true;
}

bool berth__field_thread(const struct berth_policy_field *field, const char **ret)
{
    const struct berth_policy_value *value = berth__field_value(field, "thread");
    size_t literal = 0;

    if (!value)
        return !berth__field_find(field, "thread");
    for (const char *p = value->text; *p; p++)
        literal += *p != '*';
    if (value->text[0] == '\0') {
        berth__complain(field->complaints, value->line,
                        "the thread name is empty; expected a name, '*' and '?' allowed");
        return false;
    }
    if (literal > THREAD_NAME_LENGTH) {
        berth__complain(field->complaints, value->line,
                        "the thread name '%s' can match no thread; expected at most %d characters "
                        "beside '*', because the kernel keeps no more",
                        value->text, THREAD_NAME_LENGTH);
        return false;
    }
    *ret = value->text;
    return true;
}

bool berth__field_sizes(const struct berth_policy_field *field, uint64_t *ret_min,
                        uint64_t *ret_max)
{
    bool min_right = berth__field_size(field, "min-size", ret_min);
    bool max_right = berth__field_size(field, "max-size", ret_max);

    if (!min_right || !max_right)
        return false;
    if (*ret_min > *ret_max) {
        berth__complain(field->complaints, berth__field_line(field, "max-size"),
                        "max-size %s is below min-size %s; expected min-size <= max-size",
                        berth__field_value(field, "max-size")->text,
                        berth__field_value(field, "min-size")->text);
        return false;
    }
    return true;
}
