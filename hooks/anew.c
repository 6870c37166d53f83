/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/anew.h"

#ifdef __x86_64__

#include "hooks/early_call.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

/*
 * More than the kernel lets any program have of arguments and environment (a quarter of a stack of
 * 8 MiB by default, 6 MiB at most). Where there is no room for that, what is shorter may fit in
 * less.
 */
#define TEXT_MAX ((size_t)8 << 20)
#define TEXT_LEAST ((size_t)64 << 10)
#define MESSAGE_MAX 512
#define PRELOAD_LENGTH (sizeof("LD_PRELOAD=") - 1)

/* Bytes that strings follow one another in, each with its NUL. */
struct text {
    char *bytes;
    size_t size;
};

/* A line for stderr. */
struct line {
    char text[MESSAGE_MAX];
    size_t size;
};

/* As much of a file as there is room for. */
static long fill_text(const char *path, size_t room, struct text *ret)
{
    long fd = berth__early_call(SYS_open, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    long n = fd >= 0 ? 1 : fd;

    ret->size = 0;
    while (n > 0 && ret->size < room) {
        n = berth__early_call(SYS_read, fd, (long)(ret->bytes + ret->size),
                              (long)(room - ret->size), 0, 0);
        if (n > 0)
            ret->size += (size_t)n;
    }
    if (fd >= 0)
        berth__early_call(SYS_close, fd, 0, 0, 0, 0);
    return n;
}

/* Takes no more room than it must: there may be little, and none that is lost comes back. */
static bool read_text(const char *path, struct text *ret)
{
    for (size_t room = TEXT_LEAST; room <= TEXT_MAX; room *= 2) {
        long n;

        ret->bytes = berth__early_map(room);
        if (!ret->bytes)
            return false;
        n = fill_text(path, room, ret);
        if (n == 0 && ret->size > 0 && ret->bytes[ret->size - 1] == '\0')
            return true;
        berth__early_call(SYS_munmap, (long)ret->bytes, (long)room, 0, 0, 0);
        if (n <= 0)
            return false;
    }
    return false;
}

/* The strings' addresses and a NULL, as execve() takes them; there is room for two more. */
static char **list_of(struct text text)
{
    size_t count = 3;
    char **list;

    for (size_t i = 0; i < text.size; i++)
        count += text.bytes[i] == '\0';
    list = berth__early_map(count * sizeof(*list));
    count = 0;
    for (size_t i = 0; list && i < text.size; i += berth__early_length(text.bytes + i) + 1)
        list[count++] = text.bytes + i;
    return list;
}

/* Whether these bytes are the path of a library that is in the way. */
static bool is_in_the_way(const char *path, size_t size, enum berth_anew_without without)
{
    static const char names[][24] = {"libberth-malloc.so", "libberth.so"};
    size_t count = without == BERTH_ANEW_WITHOUT_ALL ? 2 : 1;

    for (size_t i = 0; i < count; i++) {
        size_t length = berth__early_length(names[i]);

        if (size >= length && berth__early_begins(path + size - length, names[i]) &&
            (size == length || path[size - length - 1] == '/'))
            return true;
    }
    return false;
}

/* Takes what is in the way out of a value of LD_PRELOAD, in place; whether anything was. */
static bool clear_way(char *value, enum berth_anew_without without)
{
    const char *from = value;
    char *to = value;
    bool found = false;

    while (*from) {
        size_t size = 0;

        while (from[size] && from[size] != ':' && from[size] != ' ') {
            size++;
            BERTH_NO_IDIOM();
        }
        if (size > 0 && is_in_the_way(from, size, without)) {
            found = true;
        } else if (size > 0) {
            if (to > value)
                *to++ = ':';
            for (size_t i = 0; i < size; i++) {
                *to++ = from[i];
                BERTH_NO_IDIOM();
            }
        }
        from += size;
        from += *from != '\0';
    }
    *to = '\0';
    return found;
}

static void add(struct line *line, const char *s)
{
    while (*s && line->size < sizeof(line->text) - 1) {
        line->text[line->size++] = (unsigned char)*s < ' ' ? '?' : *s;
        s++;
        BERTH_NO_IDIOM();
    }
}

static void add_number(struct line *line, long number)
{
    char digits[24];
    size_t at = sizeof(digits) - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0 && at > 0);
    add(line, digits + at);
}

/* What a process that was started anew is told by: its own number. */
static void compose_mark(struct line *mark)
{
    mark->size = 0;
    add(mark, "BERTH_ANEW=");
    add_number(mark, berth__early_call(SYS_getpid, 0, 0, 0, 0, 0));
    mark->text[mark->size] = '\0';
}

/*
 * The program's environment without what is in the way; whether anything was. That tiers of the
 * host cannot be had in it goes without saying.
 */
static bool clear_environment(char **list, enum berth_anew_without without, char *mark)
{
    static char told[] = "BERTH_TOLD=*";
    bool found = false;
    size_t kept = 0;

    for (size_t i = 0; list[i]; i++) {
        bool cleared = berth__early_begins(list[i], "LD_PRELOAD=") &&
                       clear_way(list[i] + PRELOAD_LENGTH, without);

        found = found || cleared;
        if ((!cleared || list[i][PRELOAD_LENGTH]) && !berth__early_begins(list[i], "BERTH_TOLD=") &&
            !berth__early_begins(list[i], "BERTH_ANEW="))
            list[kept++] = list[i];
    }
    list[kept++] = told;
    list[kept++] = mark;
    list[kept] = NULL;
    return found;
}

static bool is_silent(char *const *environment)
{
    for (; *environment; environment++)
        if (berth__early_begins(*environment, "BERTH_DEBUG=none") ||
            berth__early_begins(*environment, "BERTH_DEBUG=error"))
            return true;
    return false;
}

static void compose(struct line *line, const struct berth_anew_why *why,
                    enum berth_anew_without without)
{
    line->size = 0;
    add(line, "berth[");
    add_number(line, berth__early_call(SYS_getpid, 0, 0, 0, 0, 0));
    add(line, "]: malloc: ");
    add(line, why->before);
    add(line, why->name);
    add(line, why->behind);
    add(line, without == BERTH_ANEW_WITHOUT_ALL ? ": it runs without Berth"
                                                : ": it runs without Berth's malloc side");
    line->text[line->size++] = '\n';
}

static void say(const struct berth_anew_why *why, enum berth_anew_without without)
{
    uint64_t raised = UINT64_C(1) << (SIGPIPE - 1) | UINT64_C(1) << (SIGXFSZ - 1);
    const struct timespec none = {0, 0};
    struct pollfd out = {STDERR_FILENO, POLLOUT, 0};
    struct line line;
    uint64_t before, pending = 0;
    long r;

    compose(&line, why, without);
    /* As alloc/log_output.c does, of which nothing can be called yet. */
    if (berth__early_call(SYS_poll, (long)&out, 1, 0, 0, 0) != 1 || out.revents != POLLOUT)
        return;
    berth__early_call(SYS_rt_sigpending, (long)&pending, sizeof(pending), 0, 0, 0);
    berth__early_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&raised, (long)&before, sizeof(raised),
                      0);
    r = berth__early_call(SYS_write, STDERR_FILENO, (long)line.text, (long)line.size, 0, 0);
    raised &= ~pending;
    if (r == -EPIPE || r == -EFBIG)
        berth__early_call(SYS_rt_sigtimedwait, (long)&raised, 0, (long)&none, sizeof(raised), 0);
    berth__early_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof(before), 0);
}

static bool ask_proc(struct berth_anew_start *ret)
{
    struct text arguments = {NULL, 0};
    struct text environment = {NULL, 0};
    char *program = berth__early_map(PATH_MAX); /* zeroed */
    long n = -1;

    if (program)
        n = berth__early_call(SYS_readlink, (long)"/proc/self/exe", (long)program, PATH_MAX - 1, 0,
                              0);
    if (n <= 0 || !read_text("/proc/self/cmdline", &arguments) ||
        !read_text("/proc/self/environ", &environment))
        return false;
    ret->program = program;
    ret->argv = list_of(arguments);
    ret->envp = list_of(environment);
    return ret->argv && ret->envp;
}

/* Not among the libraries that this one needs: the loader has it, under whatever name. */
#pragma weak __libc_stack_end
extern void *__libc_stack_end;

/*
 * A script was started by its own name, with other arguments than its interpreter has. What this
 * user may run and not read is none: its interpreter could not have read it either.
 */
static bool is_program(const char *path)
{
    static const char magic[SELFMAG + 1] = ELFMAG;
    char first[SELFMAG + 1] = "";
    long fd = berth__early_call(SYS_open, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);

    if (fd < 0)
        return fd == -EACCES;
    berth__early_call(SYS_read, fd, (long)first, SELFMAG, 0, 0);
    berth__early_call(SYS_close, fd, 0, 0, 0, 0);
    return berth__early_begins(first, magic);
}

/*
 * Without /proc: what the kernel has put on the stack, argc, argv, envp and the auxiliary vector.
 * There is no loader in the latter where the loader itself was the program.
 */
static bool ask_stack(struct berth_anew_start *ret)
{
    char **at = &__libc_stack_end ? __libc_stack_end : NULL;
    size_t count = 3;
    bool has_loader = false;

    if (!at)
        return false;
    ret->argv = at + 1;
    at += 1 + (size_t)at[0] + 1;
    for (size_t i = 0; at[i]; i++)
        count++;
    ret->program = NULL;
    ret->envp = berth__early_map(count * sizeof(*ret->envp));
    for (size_t i = 0; ret->envp && i < count - 2; i++) {
        ret->envp[i] = at[i];
        BERTH_NO_IDIOM();
    }
    for (const ElfW(auxv_t) *v = (const void *)(at + count - 2); v->a_type != AT_NULL; v++) {
        if (v->a_type == AT_EXECFN)
            ret->program = (const char *)v->a_un.a_val;
        has_loader = has_loader || (v->a_type == AT_BASE && v->a_un.a_val != 0);
    }
    return ret->envp && ret->program && has_loader && is_program(ret->program);
}

bool berth__anew_ask(struct berth_anew_start *ret)
{
    return ask_proc(ret) || ask_stack(ret);
}

bool berth__anew_was_started(const struct berth_anew_start *start)
{
    struct line mark;

    compose_mark(&mark);
    for (char *const *variable = start->envp; *variable; variable++)
        if (berth__early_begins(*variable, mark.text) && !(*variable)[mark.size])
            return true;
    return false;
}

void berth__anew_start(struct berth_anew_start *start, enum berth_anew_without without,
                       const struct berth_anew_why *why)
{
    struct line mark;

    compose_mark(&mark);
    if (!clear_environment(start->envp, without, mark.text))
        return;
    if (!is_silent(start->envp))
        say(why, without);
    berth__early_call(SYS_execve, (long)start->program, (long)start->argv, (long)start->envp, 0, 0);
    /* Its file has no name any more. */
    berth__early_call(SYS_execve, (long)"/proc/self/exe", (long)start->argv, (long)start->envp, 0,
                      0);
}

#endif
