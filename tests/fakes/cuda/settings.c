/* SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include "call.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the drivers in older/, less. */
#ifndef FAKE_DRIVER_VERSION
#define FAKE_DRIVER_VERSION 13000
#endif

struct latency {
    char *call;
    int64_t ns;
};

struct failure {
    char *call;
    unsigned nth;
    bool onwards;   /* every call from the nth on */
    bool is_sticky; /* and every call after it, of whatever function, until the context is reset */
    int result;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool valid = true;
static int devices = 1;
static int driver_version = FAKE_DRIVER_VERSION;
static uint64_t memory_size = 4ULL << 30;
static const char *log_path;
static int private_entries;
static int free_without_wait;
static int record_live;
static char *latency_text, *failure_text;
static struct latency *latencies;
static size_t latencies_count;
static struct failure *failures;
static size_t failures_count;

static void settings_reject(const char *variable, const char *value, const char *expected)
{
    fprintf(stderr, "fake libcuda: %s=%s: expected %s\n", variable, value, expected);
    valid = false;
}

static bool number_read(const char *text, uint64_t limit, uint64_t *ret_value, const char **ret_end)
{
    char *end;
    unsigned long long value;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno || value > limit)
        return false;
    *ret_value = value;
    *ret_end = end;
    return true;
}

static bool size_read(const char *text, uint64_t *ret_size)
{
    static const char units[] = "KMGT";
    const char *end, *unit;
    uint64_t size;
    unsigned shift = 0;

    if (!number_read(text, UINT64_MAX, &size, &end) || size == 0)
        return false;
    if (*end) {
        unit = strchr(units, *end);
        if (!unit || end[1])
            return false;
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (size > (1ULL << 43) >> shift)
        return false;
    *ret_size = size << shift;
    return true;
}

static bool duration_read(const char *text, int64_t *ret_ns)
{
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    const char *end;
    uint64_t value;

    if (!number_read(text, 1000000000, &value, &end))
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        if (strcmp(end, units[i].unit) == 0) {
            *ret_ns = (int64_t)value * units[i].ns;
            return true;
        }
    }
    return false;
}

static bool latency_add(char *entry)
{
    char *equals = strchr(entry, '=');
    struct latency *grown;
    int64_t ns;

    if (!equals || equals == entry || !duration_read(equals + 1, &ns))
        return false;
    *equals = 0;
    if (!call_find(entry))
        return false;
    grown = realloc(latencies, (latencies_count + 1) * sizeof(*grown));
    if (!grown)
        return false;
    latencies = grown;
    latencies[latencies_count++] = (struct latency){entry, ns};
    return true;
}

static bool failure_add(char *entry)
{
    char *colon = strchr(entry, ':'), *equals = strchr(entry, '=');
    struct failure *grown;
    uint64_t nth, result;
    const char *end;
    bool onwards = false, is_sticky;

    if (!colon || colon == entry || !equals || equals < colon)
        return false;
    if (!number_read(colon + 1, UINT32_MAX, &nth, &end) || nth == 0)
        return false;
    if (*end == '+') {
        onwards = true;
        end++;
    }
    if (end != equals || !number_read(equals + 1, 999, &result, &end) || result == 0)
        return false;
    is_sticky = *end == '!';
    if (end[is_sticky])
        return false;
    *colon = 0;
    if (!call_find(entry))
        return false;
    grown = realloc(failures, (failures_count + 1) * sizeof(*grown));
    if (!grown)
        return false;
    failures = grown;
    failures[failures_count++] =
        (struct failure){entry, (unsigned)nth, onwards, is_sticky, (int)result};
    return true;
}

/* The entries point into the copy of the variable's text, which stays. */
static void list_read(const char *variable, char **ret_text, bool (*add)(char *entry),
                      const char *expected)
{
    const char *value = getenv(variable);
    char *copy, *entry, *rest;

    if (!value || !*value)
        return;
    copy = *ret_text = strdup(value);
    for (entry = copy ? strtok_r(copy, ",", &rest) : NULL; entry;
         entry = strtok_r(NULL, ",", &rest))
        if (!add(entry)) {
            settings_reject(variable, value, expected);
            return;
        }
}

static void integer_read(const char *variable, uint64_t limit, int *ret_value, const char *expected)
{
    const char *text = getenv(variable), *end;
    uint64_t number;

    if (!text || !*text)
        return;
    if (number_read(text, limit, &number, &end) && !*end)
        *ret_value = (int)number;
    else
        settings_reject(variable, text, expected);
}

static void settings_read(void)
{
    const char *memory = getenv("BERTH_FAKE_MEMORY");

    integer_read("BERTH_FAKE_DEVICES", SETTINGS_DEVICES_MAX, &devices, "a number from 0 to 64");
    integer_read("BERTH_FAKE_DRIVER", 99999, &driver_version, "1000 * major + 10 * minor");
    if (memory && *memory && !size_read(memory, &memory_size))
        settings_reject("BERTH_FAKE_MEMORY", memory, "a size such as 512M, at most 8T");
    list_read("BERTH_FAKE_LATENCY", &latency_text, latency_add,
              "cuMemAlloc_v2=50us,… (an exported name; ns, us, ms, s)");
    list_read("BERTH_FAKE_FAIL", &failure_text, failure_add,
              "cuMemAlloc_v2:3=2,… (an exported name; N from 1, or N+; 1 to 999, or 700!)");
    integer_read("BERTH_FAKE_PRIVATE", 1, &private_entries, "0 or 1");
    integer_read("BERTH_FAKE_FREE_WITHOUT_WAIT", INT32_MAX, &free_without_wait, "bytes");
    integer_read("BERTH_FAKE_RECORD_LIVE", 1, &record_live, "0 or 1");
    log_path = getenv("BERTH_FAKE_LOG");
}

bool settings_are_valid(void)
{
    pthread_once(&once, settings_read);
    return valid;
}

int settings_devices(void)
{
    return settings_are_valid() ? devices : 0;
}

/* As NVIDIA documents it: what names no device ends the list, and one that is named twice leaves
 * the program none. */
int settings_visible(int ret[SETTINGS_DEVICES_MAX])
{
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    int all = settings_devices(), count = 0;

    for (int i = 0; !text && i < all; i++)
        ret[count++] = i;
    while (text && count < all) {
        uint64_t number;

        if (!number_read(text, (uint64_t)all - 1, &number, &text))
            break;
        for (int i = 0; i < count; i++)
            if (ret[i] == (int)number)
                return 0;
        ret[count++] = (int)number;
        if (*text++ != ',')
            break;
    }
    return count;
}

uint64_t settings_memory_size(void)
{
    return memory_size;
}

int settings_driver_version(void)
{
    settings_are_valid();
    return driver_version;
}

const char *settings_log_path(void)
{
    settings_are_valid();
    return log_path && *log_path ? log_path : NULL;
}

bool settings_private_entries(void)
{
    settings_are_valid();
    return private_entries != 0;
}

size_t settings_free_without_wait(void)
{
    settings_are_valid();
    return (size_t)free_without_wait;
}

bool settings_record_live(void)
{
    settings_are_valid();
    return record_live != 0;
}

bool settings_name(const char *call)
{
    settings_are_valid();
    for (size_t i = 0; i < failures_count; i++)
        if (strcmp(failures[i].call, call) == 0)
            return true;
    return settings_latency_ns(call) > 0;
}

int64_t settings_latency_ns(const char *call)
{
    for (size_t i = 0; i < latencies_count; i++)
        if (strcmp(latencies[i].call, call) == 0)
            return latencies[i].ns;
    return 0;
}

int settings_failure(const char *call, unsigned nth, bool *ret_is_sticky)
{
    for (size_t i = 0; i < failures_count; i++) {
        const struct failure *failure = &failures[i];

        if (strcmp(failure->call, call) == 0 &&
            (nth == failure->nth || (failure->onwards && nth > failure->nth))) {
            *ret_is_sticky = failure->is_sticky;
            return failure->result;
        }
    }
    return 0;
}
