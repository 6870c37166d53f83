/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "alloc/berth.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/wait.h>

const char *check_file(const char *name)
{
    static char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) / 2);

    CHECK(length > 0);
    path[length] = '\0';
    *(strrchr(path, '/') + 1) = '\0';
    CHECK(strlen(path) + strlen(name) < sizeof(path));
    return strcat(path, name);
}

void check_child(int pid)
{
    int status = -1;

    CHECK(pid > 0);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* After so many bytes what is written begins anew, and is something else in each OS page. */
#define ROW 256
#define OS_PAGE 4096

static void fill_row(unsigned char *row, size_t size, size_t at, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        row[i] = (unsigned char)(seed * 31 + i * 7 + at / OS_PAGE);
}

static size_t row_size(size_t size, size_t at)
{
    return size - at < ROW ? size - at : ROW;
}

void check_fill(void *p, size_t size, unsigned seed)
{
    unsigned char *bytes = p;
    unsigned char row[ROW];

    for (size_t at = 0; at < size; at += ROW) {
        if (at % OS_PAGE == 0)
            fill_row(row, row_size(size, at), at, seed);
        memcpy(bytes + at, row, row_size(size, at));
    }
}

bool check_filled(const void *p, size_t size, unsigned seed)
{
    const unsigned char *bytes = p;
    unsigned char row[ROW];

    for (size_t at = 0; at < size; at += ROW) {
        if (at % OS_PAGE == 0)
            fill_row(row, row_size(size, at), at, seed);
        if (memcmp(bytes + at, row, row_size(size, at)) != 0)
            return false;
    }
    return true;
}

int check_rounds(int rounds)
{
    return getenv("CHECK_EMULATED") ? (rounds + 9) / 10 : rounds;
}

void *check_hide(void *p)
{
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

const char *check_tier(const void *p)
{
    int (*describe)(const void *, struct berth_block_info *, size_t);
    struct berth_block_info info;

    *(void **)&describe = dlsym(RTLD_DEFAULT, "berth_describe");
    if (!describe)
        return NULL;
    if (describe(p, &info, sizeof(info)) != 0)
        return "";
    /* Where samples are taken, some of the blocks that no rule places lie beside the others. */
    return getenv("CHECK_SAMPLES") && strcmp(info.tier, "dram") == 0 ? "" : info.tier;
}
