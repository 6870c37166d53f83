/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include "mem.h"
#include "settings.h"
#include "state.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int log_fd = -1;

static void log_open(void)
{
    const char *path = settings_log_path();

    if (!path)
        return;
    log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_fd < 0)
        fprintf(stderr, "fake libcuda: BERTH_FAKE_LOG=%s: cannot be opened\n", path);
}

bool log_is_open(void)
{
    pthread_once(&once, log_open);
    return log_fd >= 0;
}

void log_line(const char *name, const char *arguments, int result, const char *note)
{
    char line[320];
    int length = snprintf(line, sizeof(line), "%s(%s) = %d%s%s\n", name, arguments, result,
                          *note ? " -> " : "", note);

    /* One write per line: lines of several threads and processes do not mix. */
    if (length > 0 && (size_t)length < sizeof(line))
        (void)!write(log_fd, line, (size_t)length);
}

const char *log_pointer(uint64_t address)
{
    static __thread char texts[4][32];
    static __thread unsigned turn;
    char *text = texts[turn++ % 4];
    const struct mem *mem;

    if (!address)
        return "0";
    if (state_check() != CUDA_SUCCESS)
        return "host";
    state_lock();
    mem = mem_find(address);
    if (!mem)
        snprintf(text, sizeof(texts[0]), "host");
    else if (address == mem->base)
        snprintf(text, sizeof(texts[0]), "m%u", mem->serial);
    else
        snprintf(text, sizeof(texts[0]), "m%u+%llu", mem->serial,
                 (unsigned long long)(address - mem->base));
    state_unlock();
    return text;
}
