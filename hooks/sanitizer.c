/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sanitizers in shared libraries (libasan, libtsan, liblsan, libhwasan). Each is an allocator that
 * must come before any other: behind Berth's malloc the program crashes while it is loaded, and
 * AddressSanitizer ends it behind any preloaded library. So such a program is started anew without
 * what it cannot have, before anything of it has run, which is said in one line. Its children
 * inherit that.
 *
 * This happens while the loader relocates this library, in the resolver of a function that nobody
 * calls: constructors are too late, because the sanitizers' come first. There is no C library yet
 * that could be called: its names are the sanitizer's, which is not initialised.
 */
#include "alloc/types.h"
#include "hooks/elf_table.h"

#ifdef __x86_64__

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* More than the kernel lets any program have of arguments and environment (a quarter of a stack
 * of 8 MiB by default, 6 MiB at most). */
#define TEXT_MAX ((size_t)8 << 20)
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

static long kernel_call(long number, long a, long b, long c, long d, long e)
{
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = e;
    register long sixth __asm__("r9") = 0;
    long r;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return r;
}

static void *map_memory(size_t size)
{
    long p = kernel_call(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

    return p < 0 && p >= -4095 ? NULL : (void *)p;
}

/* The compiler must not make a call of the C library's of these loops. */
#define NO_IDIOM() __asm__ volatile("" ::: "memory")

static size_t length_of(const char *s)
{
    size_t n = 0;

    for (; s[n]; n++)
        NO_IDIOM();
    return n;
}

static bool begins_with(const char *s, const char *prefix)
{
    for (; *prefix; s++, prefix++)
        if (*s != *prefix)
            return false;
    return true;
}

static const char *base_name(const char *path)
{
    const char *base = path;

    for (; *path; path++)
        if (*path == '/')
            base = path + 1;
    return base;
}

#ifdef BERTH_MALLOC_SIDE
#define OFFENCE DEMANDS_ITS_MALLOC
#else
#define OFFENCE DEMANDS_TO_BE_FIRST
#endif

/* What a sanitizer cannot come behind. */
enum demand { DEMANDS_NOTHING, DEMANDS_ITS_MALLOC, DEMANDS_TO_BE_FIRST };

static enum demand demand_of(const char *path)
{
    static const struct {
        char name[24];
        enum demand demand;
    } sanitizers[] = {
        {"libasan.so", DEMANDS_TO_BE_FIRST},       {"libhwasan.so", DEMANDS_TO_BE_FIRST},
        {"libclang_rt.asan", DEMANDS_TO_BE_FIRST}, {"libclang_rt.hwasan", DEMANDS_TO_BE_FIRST},
        {"libtsan.so", DEMANDS_ITS_MALLOC},        {"liblsan.so", DEMANDS_ITS_MALLOC},
    };
    const char *name = base_name(path);

    for (size_t i = 0; i < sizeof(sanitizers) / sizeof(sanitizers[0]); i++)
        if (begins_with(name, sanitizers[i].name))
            return sanitizers[i].demand;
    return DEMANDS_NOTHING;
}

/* The sanitizer that the loader has put behind this library, and that demands more; or NULL. */
static const char *find_sanitizer(enum demand *ret_demand)
{
    const struct link_map *map = berth__elf_first_map();
    bool behind = false;

    for (; map; map = map->l_next) {
        enum demand demand = behind && map->l_name ? demand_of(map->l_name) : DEMANDS_NOTHING;

        if (demand >= OFFENCE) {
            *ret_demand = demand;
            return map->l_name;
        }
        behind = behind || map->l_addr == (ElfW(Addr))__ehdr_start;
    }
    return NULL;
}

static bool read_text(const char *path, struct text *ret)
{
    struct text text = {.bytes = map_memory(TEXT_MAX)};
    long fd = kernel_call(SYS_open, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    long n = text.bytes && fd >= 0 ? 1 : 0;

    while (n > 0) {
        n = kernel_call(SYS_read, fd, (long)(text.bytes + text.size),
                        (long)(TEXT_MAX - 1 - text.size), 0, 0);
        if (n > 0)
            text.size += (size_t)n;
    }
    if (fd >= 0)
        kernel_call(SYS_close, fd, 0, 0, 0, 0);
    *ret = text;
    return n == 0 && text.size > 0 && text.size < TEXT_MAX - 1 && text.bytes[text.size - 1] == '\0';
}

/* The strings' addresses and a NULL, as execve() takes them; there is room for one more. */
static char **list_of(struct text text)
{
    size_t count = 2;
    char **list;

    for (size_t i = 0; i < text.size; i++)
        count += text.bytes[i] == '\0';
    list = map_memory(count * sizeof(*list));
    count = 0;
    for (size_t i = 0; list && i < text.size; i += length_of(text.bytes + i) + 1)
        list[count++] = text.bytes + i;
    return list;
}

/* Whether these bytes are the path of a library that is in the way. */
static bool is_in_the_way(const char *path, size_t size, enum demand demand)
{
    static const char names[][24] = {"libberth-malloc.so", "libberth.so"};
    size_t count = demand == DEMANDS_TO_BE_FIRST ? 2 : 1;

    for (size_t i = 0; i < count; i++) {
        size_t length = length_of(names[i]);

        if (size >= length && begins_with(path + size - length, names[i]) &&
            (size == length || path[size - length - 1] == '/'))
            return true;
    }
    return false;
}

/* Takes what is in the way out of a value of LD_PRELOAD, in place; whether anything was. */
static bool clear_way(char *value, enum demand demand)
{
    const char *from = value;
    char *to = value;
    bool found = false;

    while (*from) {
        size_t size = 0;

        while (from[size] && from[size] != ':' && from[size] != ' ') {
            size++;
            NO_IDIOM();
        }
        if (size > 0 && is_in_the_way(from, size, demand)) {
            found = true;
        } else if (size > 0) {
            if (to > value)
                *to++ = ':';
            for (size_t i = 0; i < size; i++) {
                *to++ = from[i];
                NO_IDIOM();
            }
        }
        from += size;
        from += *from != '\0';
    }
    *to = '\0';
    return found;
}

/*
 * The program's environment without what is in the way; whether anything was. That tiers of the
 * host cannot be had in it goes without saying.
 */
static bool clear_environment(char **list, enum demand demand)
{
    static char told[] = "BERTH_TOLD=*";
    bool found = false;
    size_t kept = 0;

    for (size_t i = 0; list[i]; i++) {
        bool cleared =
            begins_with(list[i], "LD_PRELOAD=") && clear_way(list[i] + PRELOAD_LENGTH, demand);

        found = found || cleared;
        if ((!cleared || list[i][PRELOAD_LENGTH]) && !begins_with(list[i], "BERTH_TOLD="))
            list[kept++] = list[i];
    }
    list[kept++] = told;
    list[kept] = NULL;
    return found;
}

/* Whether the user has told AddressSanitizer to bear others before it. */
static bool bears_others(char *const *environment)
{
    for (; *environment; environment++)
        if (begins_with(*environment, "ASAN_OPTIONS="))
            for (const char *s = *environment; *s; s++)
                if (begins_with(s, "verify_asan_link_order=0"))
                    return true;
    return false;
}

static bool is_silent(char *const *environment)
{
    for (; *environment; environment++)
        if (begins_with(*environment, "BERTH_DEBUG=none") ||
            begins_with(*environment, "BERTH_DEBUG=error"))
            return true;
    return false;
}

static void add(struct line *line, const char *s)
{
    while (*s && line->size < sizeof(line->text) - 1) {
        line->text[line->size++] = (unsigned char)*s < ' ' ? '?' : *s;
        s++;
        NO_IDIOM();
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

static void say(const char *sanitizer, enum demand demand)
{
    uint64_t raised = UINT64_C(1) << (SIGPIPE - 1) | UINT64_C(1) << (SIGXFSZ - 1);
    const struct timespec none = {0, 0};
    struct pollfd out = {STDERR_FILENO, POLLOUT, 0};
    struct line line;
    uint64_t before, pending = 0;
    long r;

    line.size = 0;
    add(&line, "berth[");
    add_number(&line, kernel_call(SYS_getpid, 0, 0, 0, 0, 0));
    add(&line, "]: malloc: the program is built with ");
    add(&line, base_name(sanitizer));
    add(&line, demand == DEMANDS_TO_BE_FIRST
                   ? ", which bears no library before it: it runs without Berth"
                   : ", whose malloc must be the only one: it runs without Berth's malloc side");
    line.text[line.size++] = '\n';
    /* As alloc/log_output.c does, of which nothing can be called yet. */
    if (kernel_call(SYS_poll, (long)&out, 1, 0, 0, 0) != 1 || out.revents != POLLOUT)
        return;
    kernel_call(SYS_rt_sigpending, (long)&pending, sizeof(pending), 0, 0, 0);
    kernel_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&raised, (long)&before, sizeof(raised), 0);
    r = kernel_call(SYS_write, STDERR_FILENO, (long)line.text, (long)line.size, 0, 0);
    raised &= ~pending;
    if (r == -EPIPE || r == -EFBIG)
        kernel_call(SYS_rt_sigtimedwait, (long)&raised, 0, (long)&none, sizeof(raised), 0);
    kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof(before), 0);
}

/* What the program is started anew with. */
struct start {
    const char *program;
    char **argv;
    char **envp; /* with room for one more */
};

static bool ask_proc(struct start *ret)
{
    struct text arguments = {NULL, 0};
    struct text environment = {NULL, 0};
    char *program = map_memory(PATH_MAX); /* zeroed */
    long n = -1;

    if (program)
        n = kernel_call(SYS_readlink, (long)"/proc/self/exe", (long)program, PATH_MAX - 1, 0, 0);
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

/* A script was started by its own name, with other arguments than its interpreter has. */
static bool is_program(const char *path)
{
    static const char magic[SELFMAG + 1] = ELFMAG;
    char first[SELFMAG + 1] = "";
    long fd = kernel_call(SYS_open, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);

    if (fd < 0)
        return false;
    kernel_call(SYS_read, fd, (long)first, SELFMAG, 0, 0);
    kernel_call(SYS_close, fd, 0, 0, 0, 0);
    return begins_with(first, magic);
}

/*
 * Without /proc: what the kernel has put on the stack, argc, argv, envp and the auxiliary vector.
 * There is no loader in the latter where the loader itself was the program.
 */
static bool ask_stack(struct start *ret)
{
    char **at = &__libc_stack_end ? __libc_stack_end : NULL;
    size_t count = 2;
    bool has_loader = false;

    if (!at)
        return false;
    ret->argv = at + 1;
    at += 1 + (size_t)at[0] + 1;
    for (size_t i = 0; at[i]; i++)
        count++;
    ret->program = NULL;
    ret->envp = map_memory(count * sizeof(*ret->envp));
    for (size_t i = 0; ret->envp && i < count - 1; i++) {
        ret->envp[i] = at[i];
        NO_IDIOM();
    }
    for (const ElfW(auxv_t) *v = (const void *)(at + count - 1); v->a_type != AT_NULL; v++) {
        if (v->a_type == AT_EXECFN)
            ret->program = (const char *)v->a_un.a_val;
        has_loader = has_loader || (v->a_type == AT_BASE && v->a_un.a_val != 0);
    }
    return ret->envp && ret->program && has_loader && is_program(ret->program);
}

/*
 * Comes back where the program cannot be started anew. That its LD_PRELOAD has changed sees to it
 * that this is tried once.
 */
static void start_anew(const char *sanitizer, enum demand demand)
{
    struct start start;

    if (!ask_proc(&start) && !ask_stack(&start))
        return;
    if (demand == DEMANDS_TO_BE_FIRST && bears_others(start.envp))
        demand = DEMANDS_ITS_MALLOC;
    if (demand < OFFENCE || !clear_environment(start.envp, demand))
        return;
    if (!is_silent(start.envp))
        say(sanitizer, demand);
    kernel_call(SYS_execve, (long)start.program, (long)start.argv, (long)start.envp, 0, 0);
    /* Its file has no name any more. */
    kernel_call(SYS_execve, (long)"/proc/self/exe", (long)start.argv, (long)start.envp, 0, 0);
}

static void do_nothing(void)
{
}

/* Only the name of the attribute below leads here, which clang does not count as a use. */
__attribute__((used)) static void (*look_for_sanitizers(void))(void)
{
    enum demand demand = DEMANDS_NOTHING;
    const char *sanitizer = find_sanitizer(&demand);

    if (sanitizer)
        start_anew(sanitizer, demand);
    return do_nothing;
}

/*
 * Not static: clang gives such a function a name for all libraries, and the loader then has each
 * library complain of the other's.
 */
void resolved_early(void) __attribute__((ifunc("look_for_sanitizers"), visibility("hidden")));
__attribute__((used)) static void (*const relocated)(void) = resolved_early;

#endif
