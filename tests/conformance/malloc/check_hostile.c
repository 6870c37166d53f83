/* SPDX-License-Identifier: Apache-2.0 */
/* What a program may do to itself: signals, jumps, stacks of all kinds, libraries that come and go,
 * and blocks of extreme sizes. */
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static const size_t sizes[] = {5, 100, 3000, 20000, 70000, MIB};
#define SIZE_COUNT (sizeof(sizes) / sizeof(sizes[0]))

/* A few blocks of every size, filled, checked, resized and freed. */
static void use_blocks(unsigned seed)
{
    char *p[SIZE_COUNT];

    for (unsigned i = 0; i < SIZE_COUNT; i++) {
        p[i] = check_hide(malloc(sizes[i]));
        CHECK(p[i]);
        check_fill(p[i], sizes[i], seed + i);
    }
    for (unsigned i = 0; i < SIZE_COUNT; i++) {
        p[i] = check_hide(realloc(p[i], sizes[i] + 3000));
        CHECK(p[i] && check_filled(p[i], sizes[i], seed + i));
    }
    for (unsigned i = 0; i < SIZE_COUNT; i++)
        free(p[i]);
}

static volatile sig_atomic_t signals;
static int handler_fork_failures;

/* _Fork() is what a handler may call, also when it has interrupted malloc(). */
static void on_alarm(int signal)
{
    int saved_errno = errno;

    (void)signal;
    if (++signals % 16 == 0) {
        pid_t pid = _Fork();

        if (pid == 0)
            _exit(0);
        if (pid < 0 || waitpid(pid, NULL, 0) != pid)
            handler_fork_failures++;
    }
    errno = saved_errno;
}

static void start_alarms(long us)
{
    struct itimerval timer = {{0, us}, {0, us}};
    struct sigaction action = {.sa_handler = on_alarm};

    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void stop_alarms(void)
{
    CHECK(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL) == 0);
}

static void signals_may_interrupt_malloc(void)
{
    start_alarms(2000);
    for (unsigned i = 0; signals < check_rounds(100); i++) {
        errno = 4711;
        use_blocks(i);
        CHECK(errno == 4711);
    }
    stop_alarms();
    CHECK(handler_fork_failures == 0);
}

static sigjmp_buf outside;

static void on_fault(int signal)
{
    (void)signal;
    siglongjmp(outside, 1);
}

static void handlers_may_jump_out(void)
{
    struct sigaction action = {.sa_handler = on_fault};
    volatile unsigned jumps = 0;
    char *forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(forbidden != MAP_FAILED && sigaction(SIGSEGV, &action, NULL) == 0);
    for (unsigned i = 0; i < 300; i++) {
        char *p = check_hide(malloc(sizes[i % SIZE_COUNT]));

        if (sigsetjmp(outside, 1) == 0) {
            memcpy(forbidden, p, 1);
            CHECK(!"reached");
        }
        jumps++;
        free(p);
    }
    CHECK(jumps == 300);
    use_blocks(1);
}

static void *on_small_stack(void *argument)
{
    for (unsigned i = 0; i < 10; i++)
        use_blocks((unsigned)(uintptr_t)argument + i);
    return NULL;
}

/* The least stack that the C library lets a thread have. */
static void the_smallest_stack_is_enough(void)
{
    pthread_attr_t attributes;
    pthread_t thread;

    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN) == 0);
    CHECK(pthread_attr_setguardsize(&attributes, 4096) == 0);
    for (int i = 0; i < check_rounds(20); i++) {
        CHECK(pthread_create(&thread, &attributes, on_small_stack, (void *)(uintptr_t)i) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

static volatile sig_atomic_t handled;

static void allocate_in_handler(int signal)
{
    (void)signal;
    use_blocks(3);
    handled++;
}

/* The signal stack is a block itself; nothing is interrupted but raise(). */
static void handlers_may_run_on_a_block(void)
{
    stack_t stack = {.ss_size = (size_t)SIGSTKSZ * 4};
    struct sigaction action = {.sa_handler = allocate_in_handler, .sa_flags = SA_ONSTACK};

    stack.ss_sp = check_hide(malloc(stack.ss_size));
    CHECK(stack.ss_sp && sigaltstack(&stack, NULL) == 0);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int i = 0; i < check_rounds(50); i++)
        CHECK(raise(SIGUSR1) == 0);
    CHECK(handled == check_rounds(50));
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, NULL) == 0);
    free(stack.ss_sp);
}

static bool in_handler_too;

static void allocate_if_asked(int signal)
{
    (void)signal;
    if (in_handler_too)
        use_blocks(4);
}

#define PAINT 0xa5

/* How much of a painted stack was ever written to. */
static size_t depth_of(const unsigned char *stack, size_t size)
{
    size_t left = 0;

    while (left < size && stack[left] == PAINT)
        left++;
    return size - left;
}

/*
 * The signal stack is larger than it need be, and shows how deep the calls went: this thread's
 * first, which open and fill what later ones find there.
 */
static void *allocate_on_a_painted_stack(void *unused)
{
    stack_t stack = {.ss_size = 256 * KIB};
    size_t frame;

    stack.ss_sp =
        mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack.ss_sp != MAP_FAILED && sigaltstack(&stack, NULL) == 0);
    memset(stack.ss_sp, PAINT, stack.ss_size);
    in_handler_too = false;
    CHECK(raise(SIGUSR2) == 0);
    frame = depth_of(stack.ss_sp, stack.ss_size);
    in_handler_too = true;
    for (int i = 0; i < 3; i++)
        CHECK(raise(SIGUSR2) == 0);
    /* What SIGSTKSZ, of 8 KiB, leaves beside the frame of a processor with wide registers. */
    CHECK(depth_of(stack.ss_sp, stack.ss_size) - frame <= 4 * KIB + KIB / 2);
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, NULL) == 0 && munmap(stack.ss_sp, stack.ss_size) == 0);
    return unused;
}

static void a_small_signal_stack_is_enough(void)
{
    struct sigaction action = {.sa_handler = allocate_if_asked, .sa_flags = SA_ONSTACK};
    pthread_t thread;

    use_blocks(5);
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, allocate_on_a_painted_stack, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static ucontext_t main_context, coroutine;

static void run_coroutine(void)
{
    for (int i = 0; i < check_rounds(20); i++) {
        use_blocks((unsigned)i);
        CHECK(swapcontext(&coroutine, &main_context) == 0);
    }
}

static void coroutines_may_run_on_a_block(void)
{
    size_t size = 64 * KIB;
    void *stack = check_hide(malloc(size));

    CHECK(stack && getcontext(&coroutine) == 0);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = size;
    coroutine.uc_link = &main_context;
    makecontext(&coroutine, run_coroutine, 0);
    for (int i = 0; i < check_rounds(20); i++) {
        CHECK(swapcontext(&main_context, &coroutine) == 0);
        use_blocks(100 + (unsigned)i);
    }
    CHECK(swapcontext(&main_context, &coroutine) == 0);
    free(stack);
}

static void *cleaned;

static void clean(void *p)
{
    use_blocks(7);
    free(p);
}

static void *wait_for_cancel(void *argument)
{
    int fd = *(int *)argument;
    char c;

    cleaned = check_hide(malloc(100000));
    pthread_cleanup_push(clean, cleaned);
    CHECK(read(fd, &c, 1) == 0);
    pthread_cleanup_pop(1);
    return NULL;
}

static void *spin(void *argument)
{
    atomic_int *spinning = argument;

    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (;;)
        atomic_store(spinning, 1);
    return NULL;
}

static void cancelled_threads_leave_nothing_behind(void)
{
    static atomic_int spinning;
    pthread_t thread;
    void *result;
    int fd[2];

    CHECK(pipe(fd) == 0);
    for (int i = 0; i < check_rounds(100); i++) {
        CHECK(pthread_create(&thread, NULL, wait_for_cancel, &fd[0]) == 0);
        pthread_cancel(thread);
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        atomic_store(&spinning, 0);
        CHECK(pthread_create(&thread, NULL, spin, &spinning) == 0);
        while (!atomic_load(&spinning))
            sched_yield();
        pthread_cancel(thread);
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        use_blocks((unsigned)i);
    }
}

/* Blocks outlive the library that asked for them, and its addresses become another's. */
static void libraries_may_come_and_go(void)
{
    void *kept[100];

    for (int i = 0; i < 100; i++) {
        void *library = dlopen(check_file(i % 3 ? "libconform_plugin.so" : "libconform_tls.so"),
                               RTLD_NOW | RTLD_LOCAL);
        void *(*get)(size_t);

        CHECK(library);
        *(void **)&get = dlsym(library, i % 3 ? "plugin_get" : "tls_get");
        CHECK(get);
        kept[i] = get(sizes[(size_t)i % SIZE_COUNT]);
        CHECK(kept[i]);
        check_fill(kept[i], sizes[(size_t)i % SIZE_COUNT], (unsigned)i);
        dlclose(library);
    }
    for (int i = 0; i < 100; i++) {
        CHECK(check_filled(kept[i], sizes[(size_t)i % SIZE_COUNT], (unsigned)i));
        free(kept[i]);
    }
}

/*
 * A library whose thread-local storage must be in the static block: the C library keeps a little
 * room there for those that come late, and Berth must not have used it.
 */
static void late_libraries_find_room_for_thread_local_storage(void)
{
    void *library = dlopen(check_file("libconform_tls.so"), RTLD_NOW);
    char *(*storage)(void);

    if (!library)
        dprintf(2, "%s\n", dlerror());
    CHECK(library);
    *(void **)&storage = dlsym(library, "tls_storage");
    CHECK(storage && storage()[0] == 'x');
}

static void blocks_may_exceed_four_gib(void)
{
    size_t size = 5 * GIB;
    char *p = check_hide(malloc(size));

    if (!p) { /* the kernel may refuse it */
        CHECK(errno == ENOMEM);
        return;
    }
    CHECK(malloc_usable_size(p) >= size);
    for (size_t at = 0; at < size; at += GIB / 2 + 12345)
        p[at] = (char)(at >> 20);
    p[size - 1] = 77;
    for (size_t at = 0; at < size; at += GIB / 2 + 12345)
        CHECK(p[at] == (char)(at >> 20));
    CHECK(p[size - 1] == 77);
    p = check_hide(realloc(p, 4 * GIB + 12345));
    CHECK(p && p[GIB / 2 + 12345] == (char)((GIB / 2 + 12345) >> 20));
    free(p);
    p = check_hide(calloc(4 * GIB / 1000 + 1, 1000));
    CHECK(!p || (p[0] == 0 && p[4 * GIB - 1] == 0));
    free(p);
}

static void alignments_may_be_huge(void)
{
    for (size_t alignment = MIB; alignment <= GIB; alignment <<= 2) {
        for (size_t i = 0; i < SIZE_COUNT; i++) {
            void *p = NULL;
            int r = posix_memalign(&p, alignment, sizes[i]);

            CHECK(r == 0 || r == ENOMEM);
            if (r != 0)
                continue;
            CHECK(((uintptr_t)p & (alignment - 1)) == 0);
            check_fill(p, sizes[i], 1);
            p = check_hide(realloc(p, sizes[i] * 2));
            CHECK(p && check_filled(p, sizes[i], 1));
            free(p);
        }
    }
}

/*
 * Twice what the machine has, and more than any tier of these checks. Where the administrator lets
 * programs have it (overcommit_memory = 1), it may be had.
 */
static void more_than_the_machine_has_is_refused(void)
{
    FILE *file = fopen("/proc/sys/vm/overcommit_memory", "r");
    int mode = 1, shift = 36;
    struct sysinfo info;

    if (file) {
        CHECK(fscanf(file, "%d", &mode) == 1);
        fclose(file);
    }
    CHECK(sysinfo(&info) == 0);
    while (((size_t)1 << shift) / 2 / info.mem_unit <= info.totalram + info.totalswap)
        shift++;
    for (; shift < 47 && mode == 0; shift++) {
        size_t size = (size_t)1 << shift;
        void *p = check_hide(malloc(100));

        errno = 0;
        CHECK(check_hide(malloc(size)) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(check_hide(calloc(size / 8, 8)) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(check_hide(realloc(p, size)) == NULL && errno == ENOMEM);
        free(p);
        /* Some address is a multiple of as much, by chance one that can be had. */
        errno = 0;
        p = check_hide(memalign(size, 1));
        CHECK(p ? ((uintptr_t)p & (size - 1)) == 0 : errno == ENOMEM);
        free(p);
    }
}

/* The kernel reads and writes blocks of every size, at any offset. */
static void the_kernel_uses_blocks(void)
{
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    int fd[2];

    CHECK(zero >= 0 && pipe(fd) == 0);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        char *p = check_hide(malloc(sizes[i]));
        char *q = check_hide(malloc(sizes[i]));
        struct iovec from = {p, sizes[i]}, to = {q, sizes[i]};
        size_t piece = sizes[i] < 4096 ? sizes[i] : 4096;
        ssize_t n;

        check_fill(p, sizes[i], 9);
        CHECK(write(fd[1], p + sizes[i] - piece, piece) == (ssize_t)piece);
        CHECK(read(fd[0], q, piece) == (ssize_t)piece);
        CHECK(memcmp(p + sizes[i] - piece, q, piece) == 0);
        n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
        CHECK(n < 0 || (n == (ssize_t)sizes[i] && check_filled(q, sizes[i], 9)));
        CHECK(read(zero, p, sizes[i]) == (ssize_t)sizes[i] && p[0] == 0);
        free(p);
        free(q);
    }
}

/* The program's own break is not malloc's. */
static void the_break_is_the_programs(void)
{
    unsigned char *mine = sbrk((intptr_t)MIB);

    CHECK(mine != (void *)-1);
    check_fill(mine, MIB, 5);
    for (int i = 0; i < check_rounds(100); i++)
        use_blocks((unsigned)i);
    CHECK(check_filled(mine, MIB, 5));
}

/* jemalloc's users make arenas of their own. */
static void many_arenas_may_exist(void)
{
    int (*control)(const char *, void *, size_t *, void *, size_t);

    *(void **)&control = dlsym(RTLD_DEFAULT, "mallctl");
    for (int i = 0; control && i < check_rounds(300); i++) {
        unsigned arena;
        size_t size = sizeof(arena);

        CHECK(control("arenas.create", &arena, &size, NULL, 0) == 0);
    }
    use_blocks(1);
}

/* The descriptor of the file without a name that has the block's pages; -1: they have none. */
static int file_of(const void *p, struct stat *ret_st)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long start, end, inode, of_block = 0;
    unsigned major, minor;
    dev_t device = 0;
    char line[512];

    CHECK(maps);
    while (fgets(line, sizeof(line), maps))
        if (sscanf(line, "%lx-%lx %*s %*s %x:%x %lu", &start, &end, &major, &minor, &inode) == 5 &&
            (uintptr_t)p >= start && (uintptr_t)p < end) {
            device = makedev(major, minor);
            of_block = inode;
        }
    fclose(maps);
    for (int fd = 3; of_block && fd < (int)sysconf(_SC_OPEN_MAX); fd++)
        if (fstat(fd, ret_st) == 0 && ret_st->st_ino == of_block && ret_st->st_dev == device &&
            S_ISREG(ret_st->st_mode))
            return fd;
    return -1;
}

/* By its name, which it has not, or by this process's descriptor, which is this user's. */
static void no_other_user_has_a_tiers_file(void)
{
    char *p = check_hide(malloc(300000));
    struct stat st;
    char path[64];
    int fd = file_of(p, &st);
    pid_t pid;

    if (fd < 0)
        return;
    CHECK(st.st_nlink == 0 && (st.st_mode & 0177) == 0);
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
    pid = geteuid() == 0 ? fork() : 0;
    if (geteuid() == 0 && pid == 0) {
        if (syscall(SYS_setgroups, 0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
            _exit(0); /* where there is no other user */
        CHECK(truncate(path, 0) < 0 && open(path, O_RDONLY | O_CLOEXEC) < 0);
        _exit(0);
    }
    if (pid > 0)
        check_child(pid);
    free(p);
}

static void lose_pages(char *p)
{
    struct sigaction action = {.sa_handler = on_fault}, old;
    struct stat st;
    int fd = file_of(p, &st);

    /* Where a child's copy is in memory, nobody can take its pages away. */
    if (fd < 0 || ftruncate(fd, 0) < 0)
        _exit(0);
    CHECK(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}) == 0);
    CHECK(sigaction(SIGBUS, &action, &old) == 0 && old.sa_handler == SIG_DFL);
    if (sigsetjmp(outside, 1) == 0) {
        *(volatile char *)(p + 100000) = 1;
        _exit(1);
    }
    CHECK(signal(SIGBUS, SIG_DFL) == on_fault);
    *(volatile char *)(p + 200000) = 1;
    _exit(2);
}

/* Pages that the kernel has lost: the program's handler is called, or the program ends. */
static void lost_pages_are_a_signal_to_the_program(void)
{
    char *p = check_hide(malloc(300000));
    int status = -1;
    pid_t pid;

    check_fill(p, 300000, 1);
    pid = fork();
    if (pid == 0)
        lose_pages(p);
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) || status == 0);
    CHECK(check_filled(p, 300000, 1));
    free(p);
}

/* Larger mappings than any tier makes at once: a sanitizer's own. */
#define SCANNED_MAX (256 * MIB)

static void write_back(unsigned long start, unsigned long end)
{
    for (unsigned long at = start; at < end && end - start <= SCANNED_MAX; at += 4096)
        atomic_fetch_or((_Atomic char *)at, 0);
}

/* As checkpoints and conservative collectors do. What is read of the file is on this stack. */
static void write_all_back(void)
{
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    char line[512];
    size_t length = 0;

    CHECK(fd >= 0);
    while (read(fd, &line[length], 1) == 1) {
        unsigned long start, end;

        if (line[length] != '\n' && length < sizeof(line) - 2) {
            length++;
            continue;
        }
        line[length] = '\0';
        length = 0;
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && strstr(line, " rw"))
            write_back(start, end);
    }
    close(fd);
}

static void all_that_can_be_written_is_written_back(void)
{
    char *p = check_hide(malloc(300000));
    pid_t pid;

    /* Thousands of pages of no use to anybody. */
    if (getenv("CHECK_EMULATED"))
        return;
    check_fill(p, 300000, 1);
    write_all_back();
    CHECK(check_filled(p, 300000, 1));
    use_blocks(2);
    pid = fork();
    if (pid == 0) {
        write_all_back();
        use_blocks(3);
        CHECK(check_filled(p, 300000, 1));
        _exit(0);
    }
    check_child(pid);
    CHECK(check_filled(p, 300000, 1));
    p = check_hide(realloc(p, 3 * MIB));
    CHECK(p && check_filled(p, 300000, 1));
    free(p);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check hostile_checks[] = {
    ENTRY(signals_may_interrupt_malloc),
    ENTRY(handlers_may_jump_out),
    ENTRY(the_smallest_stack_is_enough),
    ENTRY(handlers_may_run_on_a_block),
    ENTRY(a_small_signal_stack_is_enough),
    ENTRY(coroutines_may_run_on_a_block),
    ENTRY(cancelled_threads_leave_nothing_behind),
    ENTRY(libraries_may_come_and_go),
    ENTRY(late_libraries_find_room_for_thread_local_storage),
    ENTRY(blocks_may_exceed_four_gib),
    ENTRY(alignments_may_be_huge),
    ENTRY(more_than_the_machine_has_is_refused),
    ENTRY(the_kernel_uses_blocks),
    ENTRY(the_break_is_the_programs),
    ENTRY(many_arenas_may_exist),
    ENTRY(no_other_user_has_a_tiers_file),
    ENTRY(lost_pages_are_a_signal_to_the_program),
    ENTRY(all_that_can_be_written_is_written_back),
    {NULL, NULL},
};
