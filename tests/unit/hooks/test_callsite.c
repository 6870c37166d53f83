/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a capture yields the program's own frames from the call outwards, and costs the program
 * nothing that it could notice: no malloc, no descriptor, no symbol of libunwind's, no lock that
 * is held when the loader's is. Method: functions that are never inlined call one another; malloc
 * is counted by this file's own. With BESIDE the program has a libunwind of its own: all the same.
 */
#include "alloc/options.h"
#include "hooks/callsite.h"
#include "hooks/unwind_probe.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#define SKIPPED 77

static _Atomic unsigned long allocations;

/* A sanitizer's malloc must be the only one; nothing is counted then. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);

void *malloc(size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, size);
}
#endif

/* What stands for a hook: its caller's frame is where the path begins. */
__attribute__((noinline)) static berth_site_id hook(void)
{
    berth_site_id site = berth__callsite_capture(__builtin_return_address(0));

    __asm__ volatile("" ::: "memory");
    return site;
}

#define LEVEL(name, inner)                                                                         \
    __attribute__((noinline)) static berth_site_id name(void)                                      \
    {                                                                                              \
        berth_site_id site = inner();                                                              \
                                                                                                   \
        __asm__ volatile("" ::: "memory");                                                         \
        return site;                                                                               \
    }
LEVEL(inner, hook)
LEVEL(middle, inner)
LEVEL(outer, middle)
LEVEL(other, middle)

__attribute__((noinline)) static berth_site_id recurse(unsigned n)
{
    berth_site_id site = n == 0 ? hook() : recurse(n - 1);

    __asm__ volatile("" ::: "memory");
    return site;
}

static void set_depth(const char *depth)
{
    char why[BERTH_OPTION_WHY_MAX];

    assert_int_equal(
        berth__option_set("site-depth", 10, depth, strlen(depth), BERTH_ORIGIN_ENVIRONMENT, why),
        0);
}

/* dl_iterate_phdr()'s callback: the program comes first. */
static int take_base(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    *(uint64_t *)context = (uint64_t)info->dlpi_addr;
    return 1;
}

/* The function's address as the program's file counts it. */
static uint64_t address_in_program(const void *function)
{
    uint64_t base = 0;

    dl_iterate_phdr(take_base, &base);
    return (uint64_t)(uintptr_t)function - base;
}

/* Whether frame `index` lies in the first bytes of `function`, which is one of this file's. */
static void check_frame_of(berth_site_id site, unsigned index, const void *function, size_t size)
{
    struct berth_site_frame frame;

    assert_int_equal(berth__site_frame(site, index, &frame), 0);
    assert_string_equal(frame.module, program_invocation_short_name);
    assert_in_range(frame.address, address_in_program(function),
                    address_in_program(function) + size);
}

static void check_frame(berth_site_id site, unsigned index, const void *function)
{
    check_frame_of(site, index, function, 100);
}

static void before_the_unwinder_a_site_is_the_return_address(void **state)
{
    berth_site_id site = outer();

    (void)state;
    assert_int_equal(berth__site_depth(site), 1);
    check_frame(site, 0, (const void *)inner);
}

static unsigned count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* The first test that uses the unwinder; without one, the others have nothing to say. */
static void loading_shows_nothing_to_the_program(void **state)
{
    unsigned descriptors = count_descriptors();
    /* Found by names that a program may look up, and that libunwind has, too. */
    void *raise_exception = dlsym(RTLD_DEFAULT, "_Unwind_RaiseException");
    void *backtrace = dlsym(RTLD_DEFAULT, "unw_backtrace");
    char why[256] = "";

    (void)state;
    errno = 4242;
    if (berth__callsite_load(why, sizeof(why)) < 0)
        fail_msg("%s", why);
    assert_int_equal(errno, 4242);
    assert_int_equal(berth__callsite_load(why, sizeof(why)), 0);
    assert_int_equal(count_descriptors(), descriptors);
    assert_ptr_equal(dlsym(RTLD_DEFAULT, "unw_backtrace"), backtrace);
    assert_ptr_equal(dlsym(RTLD_DEFAULT, "_Unwind_RaiseException"), raise_exception);
#ifdef BESIDE
    assert_non_null(backtrace);
#else
    assert_null(backtrace);
#endif
}

static void a_path_goes_from_the_call_outwards(void **state)
{
    berth_site_id site = outer();

    (void)state;
    assert_true(berth__site_depth(site) > 4);
    check_frame(site, 0, (const void *)inner);
    check_frame(site, 1, (const void *)middle);
    check_frame(site, 2, (const void *)outer);
    check_frame(site, 3, (const void *)a_path_goes_from_the_call_outwards);
}

/* Keeps a compiler from making two calls out of the one in a loop. */
static volatile int two = 2;

static void equal_paths_are_one_site_and_others_are_not(void **state)
{
    berth_site_id sites[2];

    (void)state;
    for (int i = 0; i < two; i++)
        sites[i] = outer();
    assert_int_equal(sites[0], sites[1]);
    assert_int_not_equal(outer(), sites[0]);
    assert_int_not_equal(other(), sites[0]);
}

static void the_option_limits_the_depth(void **state)
{
    (void)state;
    set_depth("3");
    assert_int_equal(berth__site_depth(outer()), 3);
    set_depth("1");
    assert_int_equal(berth__site_depth(outer()), 1);
    check_frame(outer(), 0, (const void *)inner);
    set_depth("128");
    assert_int_equal(berth__site_depth(recurse(1000)), 128);
    check_frame(recurse(1000), 127, (const void *)recurse);
    set_depth("32");
    assert_int_equal(berth__site_depth(recurse(1000)), 32);
}

static void an_address_that_is_not_in_the_trace_still_begins_it(void **state)
{
    struct berth_site_frame frame;
    berth_site_id site = berth__callsite_capture((const void *)0x1234);

    (void)state;
    assert_true(berth__site_depth(site) >= 1);
    assert_int_equal(berth__site_frame(site, 0, &frame), 0);
    assert_string_equal(frame.module, "?");
    assert_int_equal(frame.offset, 0x1234);
}

static void captures_allocate_nothing_and_keep_errno(void **state)
{
    unsigned long before;

    (void)state;
    outer();
    before = allocations;
    for (int i = 0; i < 1000; i++) {
        errno = 4242;
        outer();
        recurse((unsigned)i % 50);
        assert_int_equal(errno, 4242);
    }
    assert_int_equal(allocations, before);
}

/* A frame that no unwind table describes is where libunwind would use its pipe. */
__asm__(".text\n"
        ".type tableless, @function\n"
        "tableless:\n"
        "    push %rbp\n"
        "    mov %rsp, %rbp\n"
        "    call *%rdi\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size tableless, . - tableless\n");
extern berth_site_id tableless(berth_site_id (*call)(void));

static void no_descriptor_is_opened_written_or_closed(void **state)
{
    unsigned descriptors = count_descriptors();
    int ends[2];
    char byte = 0;

    (void)state;
    /* They get the numbers that libunwind's would have had. */
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < 100; i++) {
        outer();
        tableless(outer);
    }
    assert_int_equal(count_descriptors(), descriptors + 2);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    close(ends[0]);
    close(ends[1]);
    check_frame(tableless(outer), 2, (const void *)outer);
}

#ifdef __x86_64__
/* Calls its first argument with its second in the base pointer; can lie anywhere. */
static const unsigned char busy_code[] = {
    0x55,             /* push %rbp */
    0x48, 0x89, 0xf5, /* mov %rsi, %rbp */
    0xff, 0xd7,       /* call *%rdi */
    0x5d,             /* pop %rbp */
    0xc3,             /* ret */
};
typedef berth_site_id (*busy_fn)(berth_site_id (*call)(void), void *own);

static busy_fn place_busy(char *at)
{
    memcpy(at, busy_code, sizeof(busy_code));
    return (busy_fn)(uintptr_t)at;
}

/* As a just-in-time compiler makes code: without tables, the base pointer for what it likes. */
static void memory_that_is_gone_is_not_read(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *code = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *own = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (code == MAP_FAILED)
        skip();
    assert_ptr_not_equal(own, MAP_FAILED);
    assert_int_not_equal(place_busy(code)(outer, own), 0);
    assert_int_equal(munmap(own, page), 0);
    assert_int_not_equal(place_busy(code + 64)(outer, own), 0);
    /* A word from there on goes beyond the page, which is known to be readable. */
    assert_int_equal(munmap(code + page, page), 0);
    assert_int_not_equal(place_busy(code + page - sizeof(busy_code))(outer, NULL), 0);
    munmap(code, page);
}

/* What the base pointer leads to is text, or addresses of the stack: no part of a path. */
static void words_that_are_no_code_end_a_path(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *code =
        mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const uint64_t here = (uintptr_t)__builtin_frame_address(0);
    const uint64_t words[] = {0x33006f732e316c2f, here, here + 4096};
    uint64_t frame[2] = {0};

    (void)state;
    if (code == MAP_FAILED)
        skip();
    /* A function's address is taken for a part of it. */
    frame[1] = (uintptr_t)other + 1;
    assert_true(berth__site_depth(place_busy(code)(outer, frame)) > 4);
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        frame[1] = words[i];
        assert_int_equal(berth__site_depth(place_busy(code)(outer, frame)), 4);
    }
    munmap(code, page);
}
#endif

#define THREADS 8

static void *thread_main(void *context)
{
    berth_site_id *sites = context;

    for (int i = 0; i < 200; i++)
        sites[i] = i % 2 ? recurse((unsigned)i % 40) : outer();
    return NULL;
}

static void threads_capture_the_same_sites(void **state)
{
    static berth_site_id sites[THREADS][200];
    pthread_t threads[THREADS];

    (void)state;
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, thread_main, sites[t]), 0);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (int t = 1; t < THREADS; t++)
        assert_memory_equal(sites[t], sites[0], sizeof(sites[0]));
    assert_int_not_equal(sites[0][1], sites[0][3]);
}

/*
 * One thread captures new paths with the loader's list lock in hand, others without it: a lock that
 * is held around a walk would have them wait for each other.
 */
static _Atomic bool stop;

static int capture_in_callback(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)info;
    (void)size;
    recurse(*(unsigned *)context % 60);
    *(unsigned *)context += 1;
    return 0;
}

static void *capture_until_stopped(void *context)
{
    pthread_t thread;

    (void)context;
    /* A thread's first captures are the ones that walk the list. */
    while (!atomic_load(&stop)) {
        static berth_site_id sites[200];

        if (pthread_create(&thread, NULL, thread_main, sites) == 0)
            pthread_join(thread, NULL);
    }
    return NULL;
}

static void *walk_the_list(void *context)
{
    unsigned count = 0;

    (void)context;
    dl_iterate_phdr(capture_in_callback, &count);
    return NULL;
}

static void a_capture_under_the_loaders_lock_does_not_hang(void **state)
{
    pthread_t capturing, walking;

    (void)state;
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&capturing, NULL, capture_until_stopped, NULL), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(pthread_create(&walking, NULL, walk_the_list, NULL), 0);
        pthread_join(walking, NULL);
    }
    atomic_store(&stop, true);
    pthread_join(capturing, NULL);
}

static void a_child_captures_what_its_parent_did(void **state)
{
    berth_site_id sites[2];
    pid_t child = -1;
    int status;

    (void)state;
    for (int i = 0; i < two; i++) {
        sites[i] = outer();
        if (i == 0)
            child = fork();
    }
    if (child == 0)
        _exit(sites[0] == sites[1] ? 0 : 1);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Of a child that does next to nothing, and which may stand still with all of its machine. */
#define PATIENCE_S 30

/*
 * Threads that capture new paths all the time, and forks: each child walks the loader's list, and
 * hangs there (until its alarm) if a walk of Berth's was under way when it was made.
 */
static int visit_nothing(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)info;
    (void)size;
    (void)context;
    return 0;
}

static void *name_until_stopped(void *context)
{
    uintptr_t address = (uintptr_t)context;
    struct berth_site_frame frame;

    while (!atomic_load(&stop)) {
        const void *unknown = (const void *)(address += 16);

        berth__site_frame(berth__site_intern(&unknown, 1), 0, &frame);
    }
    return NULL;
}

static void a_fork_never_happens_in_a_walk(void **state)
{
    pthread_t threads[2];

    (void)state;
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&threads[0], NULL, name_until_stopped, (void *)0x700000), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, capture_until_stopped, NULL), 0);
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        int status = -1;

        if (child == 0) {
            alarm(PATIENCE_S);
            dl_iterate_phdr(visit_nothing, NULL);
            outer();
            _exit(0);
        }
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    atomic_store(&stop, true);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
}

/* A thread of the program's own that has the loader's list for longer than a fork waits. */
static _Atomic int holding;

static int hold(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)info;
    (void)size;
    (void)context;
    atomic_store(&holding, 1);
    while (!atomic_load(&stop))
        sched_yield();
    return 1;
}

static void *hold_the_list(void *context)
{
    dl_iterate_phdr(hold, context);
    return NULL;
}

static void a_child_without_the_list_still_allocates(void **state)
{
    pthread_t thread;
    pid_t child;
    int status = -1;

    (void)state;
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&thread, NULL, hold_the_list, NULL), 0);
    while (!atomic_load(&holding))
        sched_yield();
    child = fork();
    if (child == 0) {
        struct berth_site_frame frame;
        const void *unknown = (const void *)0x900000;

        alarm(PATIENCE_S);
        /* libunwind must not be asked; frame rules need no list. */
        if (berth__site_depth(recurse(17)) == 0)
            _exit(1);
        if (berth__site_frame(berth__site_intern(&unknown, 1), 0, &frame) != 0)
            _exit(2);
        _exit(strcmp(frame.module, "?") == 0 ? 0 : 3);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_true(berth__site_depth(recurse(17)) > 1);
}

#define SMALL_STACK ((size_t)64 << 10)
#define MARK 0x5a

static char *small_stack;
static ucontext_t before_small, on_small;
static volatile berth_site_id small_site;
/* The lowest byte of the small stack that was in use when the capture was asked for. */
static char *volatile small_here;

static void capture_on_small(void)
{
    small_here = __builtin_frame_address(0);
    small_site = outer();
}

static void handle(int number)
{
    (void)number;
    capture_on_small();
}

#ifndef __SANITIZE_ADDRESS__
/* What a capture takes of a stack, of which it does not know how much there is. */
static size_t small_use(void)
{
    size_t unused = 0;

    while (small_stack[unused] == MARK)
        unused++;
    return (size_t)(small_here - small_stack) - unused;
}
#endif

static void check_small(void)
{
#ifndef __SANITIZE_ADDRESS__
    assert_in_range(small_use(), 1, 1024);
#endif
    assert_true(berth__site_depth(small_site) > 3);
    check_frame(small_site, 2, (const void *)outer);
    check_frame(small_site, 3, (const void *)capture_on_small);
}

static void capture_on(char *stack_low)
{
    small_stack = stack_low;
    memset(small_stack, MARK, SMALL_STACK);
    assert_int_equal(getcontext(&on_small), 0);
    on_small.uc_stack = (stack_t){.ss_sp = small_stack, .ss_size = SMALL_STACK};
    on_small.uc_link = &before_small;
    makecontext(&on_small, capture_on_small, 0);
    assert_int_equal(swapcontext(&before_small, &on_small), 0);
    check_small();
}

static void a_stack_that_may_be_small_is_spared(void **state)
{
    static char memory[SMALL_STACK] __attribute__((aligned(16)));
    stack_t alternate = {.ss_sp = memory, .ss_size = SMALL_STACK}, none = {.ss_flags = SS_DISABLE};
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};

    (void)state;
    for (int i = 0; i < 3; i++)
        capture_on(memory);
    memset(small_stack, MARK, SMALL_STACK);
    assert_int_equal(sigaltstack(&alternate, NULL), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    check_small();
    /* Through the signal's frame, to where it came. */
    assert_true(berth__site_depth(small_site) > 6);
    assert_int_equal(sigaltstack(&none, NULL), 0);
}

/* Before the first capture: so much is the stack's limit raised. */
static const uintptr_t raised_to = (uintptr_t)800 << 20;
static bool is_raised;

static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= raised_to / 2)
        return;
    limit.rlim_cur = raised_to;
    is_raised = setrlimit(RLIMIT_STACK, &limit) == 0;
}

/* What a program has mapped there is not the first stack, whatever the limit came to be. */
static void a_stack_below_the_first_one_is_not_taken_for_it(void **state)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    char *wanted = (char *)((here - raised_to / 2) & ~(uintptr_t)0xffff);
    char *memory;

    (void)state;
    if (!is_raised)
        skip();
    memory = mmap(wanted, SMALL_STACK, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_equal(memory, wanted);
    capture_on(memory);
    munmap(memory, SMALL_STACK);
}

static char **plugins;
static int plugin_count;
static berth_site_id plugin_site;

static void ask_for_site(void)
{
    plugin_site = inner();
}

/* Has a plug-in call back, and closes it again; where its function was. */
static __attribute__((noinline)) void *use_plugin(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void (*call)(void (*function)(void)) = NULL;

    assert_non_null(library);
    *(void **)&call = dlsym(library, "plugin_call");
    assert_non_null(call);
    call(ask_for_site);
    assert_int_equal(dlclose(library), 0);
    return *(void **)&call;
}

/*
 * What libunwind keeps of one plug-in's code does not hold for the next one's at its address. Its
 * function is between two of this file's: hook's caller, ask_for_site, bare, plugin_call, we.
 */
static void plugins_at_one_address_are_read_as_they_are(void **state)
{
    void *last = NULL;
    unsigned again = 0;

    (void)state;
    if (plugin_count != 2)
        skip();
    for (int i = 0; i < 8; i++) {
        void *at = use_plugin(plugins[i % 2]);

        again += at == last;
        last = at;
        assert_true(berth__site_depth(plugin_site) > 5);
        /* With a sanitizer's checks it is long. */
        check_frame_of(plugin_site, 4, (const void *)use_plugin, 2000);
    }
    assert_true(again > 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_the_unwinder_a_site_is_the_return_address),
        cmocka_unit_test(loading_shows_nothing_to_the_program),
        cmocka_unit_test(a_path_goes_from_the_call_outwards),
        cmocka_unit_test(equal_paths_are_one_site_and_others_are_not),
        cmocka_unit_test(the_option_limits_the_depth),
        cmocka_unit_test(an_address_that_is_not_in_the_trace_still_begins_it),
        cmocka_unit_test(captures_allocate_nothing_and_keep_errno),
        cmocka_unit_test(no_descriptor_is_opened_written_or_closed),
#ifdef __x86_64__
        cmocka_unit_test(memory_that_is_gone_is_not_read),
        cmocka_unit_test(words_that_are_no_code_end_a_path),
#endif
        cmocka_unit_test(threads_capture_the_same_sites),
        cmocka_unit_test(a_capture_under_the_loaders_lock_does_not_hang),
        cmocka_unit_test(a_child_captures_what_its_parent_did),
        cmocka_unit_test(a_stack_that_may_be_small_is_spared),
        cmocka_unit_test(a_stack_below_the_first_one_is_not_taken_for_it),
        cmocka_unit_test(a_fork_never_happens_in_a_walk),
        cmocka_unit_test(plugins_at_one_address_are_read_as_they_are),
        cmocka_unit_test(a_child_without_the_list_still_allocates),
    };
    void *library = dlopen("libunwind.so.8", RTLD_LAZY | RTLD_LOCAL);

#ifdef __SANITIZE_THREAD__
    printf("skipped: libunwind's own thread-exit handler runs after TSan has left the thread\n");
    return SKIPPED;
#endif
    if (!library) {
        printf("skipped: libunwind.so.8 is not installed\n");
        return SKIPPED;
    }
    dlclose(library);
    raise_limit();
    plugins = argv + 1;
    plugin_count = argc - 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
