/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/options.h"

#include "alloc/quantity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct berth_option_info berth__option_info[BERTH_OPTION_COUNT] = {
#define X(identifier, name, type, fallback, least, most, choices, unit, help)                      \
    [BERTH_OPTION_##                                                                               \
        identifier] = {name, BERTH_OPTION_##type, fallback, least, most, choices, unit, help},
    BERTH_OPTIONS(X)
#undef X
};

_Atomic uint64_t berth__option_values[BERTH_OPTION_COUNT] = {
#define X(identifier, name, type, fallback, ...) [BERTH_OPTION_##identifier] = fallback,
    BERTH_OPTIONS(X)
#undef X
};
/* Who said so. */
extern BERTH_SHARED _Atomic unsigned char berth__option_origins[BERTH_OPTION_COUNT];
_Atomic unsigned char berth__option_origins[BERTH_OPTION_COUNT];
_Atomic unsigned berth__option_limit_bits;

enum berth_origin berth__option_origin(enum berth_option option)
{
    return (enum berth_origin)atomic_load_explicit(&berth__option_origins[option],
                                                   memory_order_acquire);
}

/* Options change one at a time, before threads exist or on the control thread. */
static void update_limits(void)
{
    unsigned bits = 0;

    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
        if (berth__option((enum berth_option)(BERTH_OPTION_DEVICE_LIMIT_UNTAGGED + tag)) != 0)
            bits |= 1u << tag;
    if (berth__option(BERTH_OPTION_DEVICE_LIMIT) != 0)
        bits |= 1u << BERTH_TAG_COUNT;
    atomic_store_explicit(&berth__option_limit_bits, bits, memory_order_relaxed);
}

static int find_option(const char *name, size_t length)
{
    for (int i = 0; i < BERTH_OPTION_COUNT; i++)
        if (strlen(berth__option_info[i].name) == length &&
            memcmp(berth__option_info[i].name, name, length) == 0)
            return i;
    return -ENOENT;
}

/* The index of `value` in the `|`-joined `choices`, or -EINVAL. */
static int find_choice(const char *choices, const char *value, size_t length)
{
    for (int index = 0;; index++) {
        size_t n = strcspn(choices, "|");

        if (n == length && memcmp(choices, value, length) == 0)
            return index;
        if (choices[n] == '\0')
            return -EINVAL;
        choices += n + 1;
    }
}

static int parse_count(const char *value, size_t length, uint64_t *ret)
{
    uint64_t n = 0;

    if (length == 0)
        return -EINVAL;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(value[i] - '0'), &n))
            return -ERANGE;
    }
    *ret = n;
    return 0;
}

static int parse_value(const struct berth_option_info *info, const char *value, size_t length,
                       uint64_t *ret)
{
    int r;

    switch (info->type) {
    case BERTH_OPTION_CHOICE:
        r = find_choice(info->choices, value, length);
        if (r < 0)
            return r;
        *ret = (uint64_t)r;
        return 0;
    case BERTH_OPTION_SIZE:
        r = berth__quantity_parse(value, length, ret);
        break;
    default:
        r = parse_count(value, length, ret);
        break;
    }
    if (r < 0)
        return r;
    return *ret < info->least || *ret > info->most ? -ERANGE : 0;
}

static void explain(const struct berth_option_info *info, const char *value, size_t length,
                    char why[BERTH_OPTION_WHY_MAX])
{
    char least[BERTH_QUANTITY_TEXT_MAX];
    char most[BERTH_QUANTITY_TEXT_MAX];
    int shown = length > 64 ? 64 : (int)length;

    if (info->type == BERTH_OPTION_CHOICE) {
        snprintf(why, BERTH_OPTION_WHY_MAX, "option %s: '%.*s' is not a choice; expected %s",
                 info->name, shown, value, info->choices);
    } else if (info->type == BERTH_OPTION_SIZE) {
        snprintf(why, BERTH_OPTION_WHY_MAX,
                 "option %s: '%.*s' is not a size in range; expected %s to %s, as in 64K or 2G",
                 info->name, shown, value, berth__quantity_format(info->least, least),
                 berth__quantity_format(info->most, most));
    } else {
        snprintf(why, BERTH_OPTION_WHY_MAX,
                 "option %s: '%.*s' is not a number in range; expected %llu to %llu", info->name,
                 shown, value, (unsigned long long)info->least, (unsigned long long)info->most);
    }
}

int berth__option_set(const char *name, size_t name_length, const char *value, size_t value_length,
                      enum berth_origin origin, char why[BERTH_OPTION_WHY_MAX])
{
    int option = find_option(name, name_length);
    uint64_t parsed = 0;
    int r;

    if (option < 0) {
        snprintf(why, BERTH_OPTION_WHY_MAX,
                 "option '%.*s' is not known; expected one of those in libberth(7)",
                 name_length > 64 ? 64 : (int)name_length, name);
        return option;
    }
    r = parse_value(&berth__option_info[option], value, value_length, &parsed);
    if (r < 0) {
        explain(&berth__option_info[option], value, value_length, why);
        return r;
    }
    if (origin == BERTH_ORIGIN_DEFAULT ||
        atomic_load_explicit(&berth__option_origins[option], memory_order_relaxed) > origin)
        return 0;
    atomic_store_explicit(&berth__option_values[option], parsed, memory_order_relaxed);
    atomic_store_explicit(&berth__option_origins[option], (unsigned char)origin,
                          memory_order_release);
    update_limits();
    return 0;
}

void berth__option_unset(enum berth_option option, enum berth_origin origin)
{
    unsigned char set = (unsigned char)origin;

    if (!atomic_compare_exchange_strong_explicit(&berth__option_origins[option], &set,
                                                 BERTH_ORIGIN_DEFAULT, memory_order_release,
                                                 memory_order_relaxed))
        return;
    atomic_store_explicit(&berth__option_values[option], berth__option_info[option].fallback,
                          memory_order_relaxed);
    update_limits();
}

static int parse_part(const char *part, size_t length, enum berth_origin origin,
                      char why[BERTH_OPTION_WHY_MAX])
{
    const char *equals = memchr(part, '=', length);

    if (!equals) {
        snprintf(why, BERTH_OPTION_WHY_MAX, "option '%.*s' has no value; expected name=value",
                 length > 64 ? 64 : (int)length, part);
        return -EINVAL;
    }
    return berth__option_set(part, (size_t)(equals - part), equals + 1,
                             (size_t)(part + length - equals - 1), origin, why);
}

int berth__options_parse(const char *list, enum berth_origin origin,
                         void (*complain)(const char *why, void *context), void *context)
{
    int wrong = 0;

    while (list && *list) {
        char why[BERTH_OPTION_WHY_MAX];
        size_t length = strcspn(list, ",");

        if (length > 0 && parse_part(list, length, origin, why) < 0) {
            wrong++;
            if (complain)
                complain(why, context);
        }
        list += length;
        if (*list == ',')
            list++;
    }
    return wrong;
}

const char *berth__option_text(enum berth_option option, char buffer[BERTH_OPTION_TEXT_MAX])
{
    const struct berth_option_info *info = &berth__option_info[option];
    uint64_t value = berth__option(option);
    char size[BERTH_QUANTITY_TEXT_MAX];
    const char *word = info->choices;

    switch (info->type) {
    case BERTH_OPTION_SIZE:
        snprintf(buffer, BERTH_OPTION_TEXT_MAX, "%s", berth__quantity_format(value, size));
        break;
    case BERTH_OPTION_CHOICE:
        while (value-- > 0)
            word += strcspn(word, "|") + 1;
        snprintf(buffer, BERTH_OPTION_TEXT_MAX, "%.*s", (int)strcspn(word, "|"), word);
        break;
    default:
        snprintf(buffer, BERTH_OPTION_TEXT_MAX, "%llu", (unsigned long long)value);
        break;
    }
    return buffer;
}

const char *berth__origin_name(enum berth_origin origin)
{
    static const char *const names[] = {"default", "policy", "environment", "command"};

    return (unsigned)origin < 4 ? names[origin] : "unknown";
}
