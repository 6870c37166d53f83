/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/unseen.h"

#include "alloc/log.h"

#include <string.h>

atomic_bool berth__unseen_frees;

static struct {
    _Atomic uint64_t cases;
    atomic_int has_example; /* 0, 1 while it is written, 2 */
    char example[BERTH_UNSEEN_EXAMPLE_MAX];
} seen[BERTH_UNSEEN_COUNT];

static const struct {
    const char *name;
    bool may_free; /* by a way that Berth does not see */
} kinds[BERTH_UNSEEN_COUNT] = {
    [BERTH_UNSEEN_DRIVER] = {"driver-copy", false}, [BERTH_UNSEEN_ENTRY] = {"entry", true},
    [BERTH_UNSEEN_BINDING] = {"binding", true},     [BERTH_UNSEEN_FRONT] = {"front", false},
    [BERTH_UNSEEN_FREE] = {"free", true},           [BERTH_UNSEEN_BLOCK] = {"block", false},
};

static void say(const char *example)
{
    static atomic_int said;

    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_CUDA,
                    "%s: the process is half-hooked, so new device memory is the driver's own from "
                    "now on; berth doctor PID tells more",
                    example);
}

void berth__unseen_add(enum berth_unseen what, const char *example)
{
    int none = 0;

    atomic_fetch_add_explicit(&seen[what].cases, 1, memory_order_relaxed);
    if (atomic_compare_exchange_strong(&seen[what].has_example, &none, 1)) {
        size_t length = strnlen(example, BERTH_UNSEEN_EXAMPLE_MAX - 1);

        memcpy(seen[what].example, example, length);
        atomic_store_explicit(&seen[what].has_example, 2, memory_order_release);
    }
    if (kinds[what].may_free && !atomic_exchange(&berth__unseen_frees, true))
        say(example);
}

const char *berth__unseen_name(enum berth_unseen what)
{
    return kinds[what].name;
}

uint64_t berth__unseen_cases(enum berth_unseen what)
{
    return atomic_load_explicit(&seen[what].cases, memory_order_relaxed);
}

const char *berth__unseen_example(enum berth_unseen what)
{
    return atomic_load_explicit(&seen[what].has_example, memory_order_acquire) == 2
               ? seen[what].example
               : "";
}
