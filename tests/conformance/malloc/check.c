/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "alloc/berth.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
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

pid_t check_fork_without_files(void)
{
    struct rlimit usual, none;
    int saved_errno;
    pid_t pid;

    CHECK(getrlimit(RLIMIT_FSIZE, &usual) == 0);
    none = usual;
    none.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
    pid = fork();
    saved_errno = errno;
    /* What a check has to say may go to a file. */
    CHECK(setrlimit(RLIMIT_FSIZE, &usual) == 0);
    errno = saved_errno;
    return pid;
}

#define OS_PAGE 4096
/* Each byte of a page is 7 more than the one before it, so that after so many they begin anew; each
 * page begins with 1 more than the one before it, which is as far on as 7 * 183, or 1 + 5 * 256. */
#define PERIOD 256
#define NEXT_PAGE 183

/* What any page may hold, from somewhere in the first PERIOD on. Few calls and no loop over bytes:
 * on an emulated processor it is these that cost. */
static unsigned char pattern[OS_PAGE + PERIOD];

__attribute__((constructor)) static void make_pattern(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (unsigned char)(i * 7);
}

static const unsigned char *page_pattern(size_t page, unsigned seed)
{
    return pattern + (seed * 31 + page) * NEXT_PAGE % PERIOD;
}

static size_t page_size(size_t size, size_t at)
{
    return size - at < OS_PAGE ? size - at : OS_PAGE;
}

void check_fill(void *p, size_t size, unsigned seed)
{
    unsigned char *bytes = p;

    for (size_t at = 0; at < size; at += OS_PAGE)
        memcpy(bytes + at, page_pattern(at / OS_PAGE, seed), page_size(size, at));
}

bool check_filled(const void *p, size_t size, unsigned seed)
{
    const unsigned char *bytes = p;

    for (size_t at = 0; at < size; at += OS_PAGE)
        if (memcmp(bytes + at, page_pattern(at / OS_PAGE, seed), page_size(size, at)) != 0)
            return false;
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

/* The whole of a file, for as long as the process lives. */
static char *read_text(const char *path)
{
    FILE *file = fopen(path, "r");
    long size;
    char *text;

    CHECK(file && fseek(file, 0, SEEK_END) == 0);
    size = ftell(file);
    CHECK(size > 0);
    rewind(file);
    text = malloc((size_t)size + 1);
    CHECK(text && fread(text, 1, (size_t)size, file) == (size_t)size);
    text[size] = '\0';
    fclose(file);
    return text;
}

/* What is between the braces of "rule NAME { ... place = { ... } }", each name between spaces. */
static bool rule_has(const char *policy, const char *rule, const char *tier)
{
    char head[80], name[80];
    const char *at, *end;

    CHECK(snprintf(head, sizeof(head), "rule %s {\n", rule) < (int)sizeof(head));
    at = strstr(policy, head);
    CHECK(at && (at = strstr(at, "place = {")) && (end = strchr(at, '}')));
    for (at += strlen("place = {"); at < end; at += strcspn(at, " ,}")) {
        at += strspn(at, " ,");
        CHECK(snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, " ,}"), at) <
              (int)sizeof(name));
        if (strcmp(name, tier) == 0)
            return true;
    }
    return false;
}

/* Of all places only "narrow" is full now and then; after the last one comes ordinary memory. */
static bool may_be_in(const char *policy, const char *rule, const char *tier)
{
    if (!*rule)
        return strcmp(tier, "dram") == 0;
    if (rule_has(policy, rule, tier))
        return true;
    return strcmp(tier, "dram") == 0 && strstr(policy, "tier narrow") &&
           rule_has(policy, rule, "narrow");
}

bool check_is_placed(const void *p, const char *tier)
{
    static char *policy;
    const char *path = getenv("CHECK_RANDOM");
    int (*describe)(const void *, struct berth_block_info *, size_t);
    struct berth_block_info info;

    if (!path)
        return strcmp(check_tier(p), tier) == 0;
    if (!policy)
        policy = read_text(path);
    *(void **)&describe = dlsym(RTLD_DEFAULT, "berth_describe");
    return describe(p, &info, sizeof(info)) == 0 && may_be_in(policy, info.rule, info.tier);
}
