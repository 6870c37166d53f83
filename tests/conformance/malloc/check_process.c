/* SPDX-License-Identifier: Apache-2.0 */
/* What a program may do with processes: forks of all kinds, ends of all kinds, limits, and less
 * rights than it began with. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MIB ((size_t)1 << 20)
/* Nobody's, everywhere. */
#define OTHER_USER 65534

extern char **environ;

static const size_t sizes[] = {5, 100, 3000, 20000, 70000, MIB};
#define SIZE_COUNT (sizeof(sizes) / sizeof(sizes[0]))

static char *block[SIZE_COUNT];

static void get_blocks(unsigned seed)
{
    for (unsigned i = 0; i < SIZE_COUNT; i++) {
        block[i] = check_hide(malloc(sizes[i]));
        CHECK(block[i]);
        check_fill(block[i], sizes[i], seed + i);
    }
}

static bool blocks_hold(unsigned seed)
{
    for (unsigned i = 0; i < SIZE_COUNT; i++)
        if (!check_filled(block[i], sizes[i], seed + i))
            return false;
    return true;
}

static void free_blocks(void)
{
    for (unsigned i = 0; i < SIZE_COUNT; i++)
        free(block[i]);
}

/* What a child does: it finds its parent's blocks, and makes them its own. */
static void be_child(unsigned seed)
{
    CHECK(blocks_hold(seed));
    free_blocks();
    get_blocks(seed + 100);
    CHECK(blocks_hold(seed + 100));
}

/* A fork here works, and leaves the parent's blocks alone. */
static void expect_fork(unsigned seed)
{
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        be_child(seed);
        _exit(0);
    }
    check_child(pid);
    CHECK(blocks_hold(seed));
}

static atomic_bool stop;

static void *churn(void *argument)
{
    void *kept[16] = {NULL};

    for (unsigned i = (unsigned)(uintptr_t)argument; !atomic_load(&stop); i++) {
        free(kept[i % 16]);
        kept[i % 16] = check_hide(malloc(sizes[i % (SIZE_COUNT - 1)]));
        CHECK(kept[i % 16]);
        memset(kept[i % 16], 1, 5);
    }
    for (int i = 0; i < 16; i++)
        free(kept[i]);
    return NULL;
}

static void start_churn(pthread_t thread[2])
{
    for (uintptr_t i = 0; i < 2; i++)
        CHECK(pthread_create(&thread[i], NULL, churn, (void *)i) == 0);
}

static void nest(int depth, unsigned seed)
{
    pid_t pid;

    if (depth == 0)
        return;
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        be_child(seed);
        nest(depth - 1, seed + 100);
        _exit(0);
    }
    check_child(pid);
    CHECK(blocks_hold(seed));
}

static void forks_nest_deeply(void)
{
    get_blocks(1);
    nest(20, 1);
}

static int handler_calls;

static void allocate_in_fork_handler(void)
{
    char *p = check_hide(malloc(100000));
    char *q = check_hide(malloc(50));

    CHECK(p && q);
    check_fill(p, 100000, 1);
    free(p);
    free(q);
    handler_calls++;
}

static void fork_handlers_may_allocate(void)
{
    pthread_t thread[2];

    CHECK(pthread_atfork(allocate_in_fork_handler, allocate_in_fork_handler,
                         allocate_in_fork_handler) == 0);
    get_blocks(2);
    start_churn(thread);
    for (int i = 0; i < check_rounds(10); i++)
        expect_fork(2);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    CHECK(handler_calls == 2 * check_rounds(10));
}

static void *short_life(void *argument)
{
    free(check_hide(malloc(sizes[(uintptr_t)argument % SIZE_COUNT])));
    return NULL;
}

static void *begin_and_end(void *argument)
{
    (void)argument;
    for (uintptr_t i = 0; !atomic_load(&stop); i++) {
        pthread_t thread;

        CHECK(pthread_create(&thread, NULL, short_life, (void *)i) == 0);
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void threads_end_while_others_fork(void)
{
    pthread_t thread;

    get_blocks(3);
    CHECK(pthread_create(&thread, NULL, begin_and_end, NULL) == 0);
    for (int i = 0; i < check_rounds(30); i++) {
        pid_t pid = fork();

        if (pid == 0) {
            pthread_t own;

            be_child(3);
            CHECK(pthread_create(&own, NULL, short_life, (void *)4) == 0);
            pthread_join(own, NULL);
            _exit(0);
        }
        check_child(pid);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    CHECK(blocks_hold(3));
}

/* Without the C library: what it would have done for the child is the program's matter. */
static void system_calls_may_fork(void)
{
    get_blocks(4);
    for (int i = 0; i < 4; i++) {
        long pid = i % 2 ? syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L)
#ifdef SYS_fork
                         : syscall(SYS_fork);
#else
                         : syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
#endif

        CHECK(pid >= 0);
        if (pid == 0) {
            bool held = blocks_hold(4);

            memset(block[5], 0, sizes[5]);
            memset(block[1], 0, sizes[1]);
            syscall(SYS_exit_group, held ? 0L : 1L);
        }
        check_child((int)pid);
        CHECK(blocks_hold(4));
    }
    errno = 0;
    CHECK(syscall(SYS_close, -1L) == -1 && errno == EBADF);
    CHECK(syscall(SYS_getpid) == getpid());
}

/* daemon() forks inside the C library. */
static void a_daemon_has_memory_of_its_own(void)
{
    int fd[2];
    char c = 0;
    pid_t pid;

    CHECK(pipe(fd) == 0);
    get_blocks(5);
    pid = fork();
    if (pid == 0) {
        CHECK(daemon(1, 1) == 0);
        be_child(5);
        CHECK(write(fd[1], "x", 1) == 1);
        _exit(0);
    }
    close(fd[1]);
    check_child(pid);
    CHECK(read(fd[0], &c, 1) == 1 && c == 'x');
    CHECK(blocks_hold(5));
}

static void *exit_in_thread(void *argument)
{
    (void)argument;
    free(check_hide(malloc(100000)));
    exit(7);
}

static void allocate_at_exit(void)
{
    free(check_hide(malloc(200000)));
    free(check_hide(malloc(20)));
}

/* The other threads go on while destructors run. */
static void a_program_may_end_while_threads_allocate(void)
{
    for (int i = 0; i < check_rounds(20); i++) {
        pid_t pid = fork();
        int status = -1;

        if (pid == 0) {
            pthread_t thread[3];

            atexit(allocate_at_exit);
            start_churn(thread);
            if (i % 2)
                exit(7);
            CHECK(pthread_create(&thread[2], NULL, exit_in_thread, NULL) == 0);
            pthread_exit(NULL); /* of the first thread only */
        }
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
}

static void *exec_in_thread(void *argument)
{
    (void)argument;
    execl("/bin/sh", "sh", "-c", "exit 5", (char *)NULL);
    _exit(127);
}

static void programs_start_while_threads_allocate(void)
{
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)"exit 5", NULL};
    pthread_t thread[2], last;
    int status = -1;
    pid_t pid;

    start_churn(thread);
    for (int i = 0; i < check_rounds(10); i++) {
        CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0);
        CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
        pid = vfork();
        if (pid == 0) {
            execv("/bin/sh", argv);
            _exit(127);
        }
        CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
        CHECK(system("exit 5") == 5 << 8);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    atomic_store(&stop, false);
    pid = fork();
    if (pid == 0) {
        start_churn(thread);
        CHECK(pthread_create(&last, NULL, exec_in_thread, NULL) == 0);
        pthread_join(last, NULL);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void set_limit(int resource, rlim_t value)
{
    struct rlimit limit = {value, value};

    CHECK(setrlimit((__rlimit_resource_t)resource, &limit) == 0);
}

/* A larger file would be the end by SIGXFSZ; blocks are no files. */
static void a_limit_for_files_is_none_for_blocks(void)
{
    unsigned rounds;

    get_blocks(6);
    set_limit(RLIMIT_FSIZE, 64 << 10);
    expect_fork(6);
    free_blocks();
    rounds = (unsigned)check_rounds(30);
    for (unsigned i = 0; i < rounds; i++) {
        get_blocks(i);
        CHECK(blocks_hold(i));
    }
    expect_fork(rounds - 1);
}

static void no_descriptor_is_needed(void)
{
    get_blocks(7);
    set_limit(RLIMIT_NOFILE, 3);
    expect_fork(7);
    free_blocks();
    get_blocks(8);
    expect_fork(8);
    set_limit(RLIMIT_NOFILE, 0);
    expect_fork(8);
    free_blocks();
    get_blocks(9);
    CHECK(blocks_hold(9));
}

static void all_descriptors_may_be_in_use(void)
{
    struct rlimit limit;

    get_blocks(10);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur > 2000)
        limit.rlim_cur = 2000;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (dup(0) >= 0 || errno == EINTR)
        ;
    CHECK(errno == EMFILE);
    expect_fork(10);
    nest(3, 10);
    free_blocks();
    get_blocks(11);
    expect_fork(11);
}

static void all_descriptors_may_be_closed_at_once(void)
{
    get_blocks(12);
    if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
        return; /* before Linux 5.9 */
    expect_fork(12);
    free_blocks();
    get_blocks(13);
    expect_fork(13);
}

static void a_limit_for_data_is_kept(void)
{
    void *p;

    get_blocks(14);
    set_limit(RLIMIT_DATA, 256 * MIB);
    p = check_hide(malloc(1024 * MIB));
    CHECK(p || errno == ENOMEM);
    free(p);
    free_blocks();
    get_blocks(15);
    expect_fork(15);
}

/* Addresses that are only reserved count, when all memory is to be locked. */
static void memory_may_be_locked_under_a_limit(void)
{
    struct rlimit limit = {1024 * MIB, 1024 * MIB};

    get_blocks(16);
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return; /* the limit here is lower, and less than a program needs */
    if (geteuid() == 0)
        CHECK(setgid(OTHER_USER) == 0 && setuid(OTHER_USER) == 0);
    CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
    CHECK(blocks_hold(16));
    free_blocks();
    get_blocks(17);
    CHECK(blocks_hold(17));
    CHECK(munlockall() == 0);
    expect_fork(17);
}

/* Servers give up the file system and their rights, and go on. */
static void a_program_may_give_up_its_rights(void)
{
    char directory[] = "/tmp/check-XXXXXX";
    pid_t pid;

    if (geteuid() != 0)
        return;
    get_blocks(18);
    CHECK(mkdtemp(directory) && chmod(directory, 0555) == 0);
    pid = fork();
    if (pid == 0) {
        CHECK(chdir(directory) == 0 && chroot(".") == 0);
        CHECK(setgid(OTHER_USER) == 0 && setuid(OTHER_USER) == 0);
        umask(0777);
        expect_fork(18);
        be_child(18);
        expect_fork(118);
        _exit(0);
    }
    check_child(pid);
    CHECK(rmdir(directory) == 0 && blocks_hold(18));
}

/* Runs one check in a new program. */
static void expect_exec(void)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    dup2(fd, 1);
    execl("/proc/self/exe", "conform", "blocks_do_not_overlap", (char *)NULL);
    _exit(127);
}

/* Without a limit for the stack, and without randomisation, addresses are laid out otherwise. */
static void addresses_may_be_laid_out_otherwise(void)
{
    struct rlimit limit;
    pid_t pid = fork();

    if (pid == 0) {
        personality(ADDR_NO_RANDOMIZE);
        expect_exec();
    }
    check_child(pid);
    CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    pid = fork();
    if (pid == 0) {
        CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
        expect_exec();
    }
    check_child(pid);
}

/* Of a block of pages: the second for nobody, the third to be read, the fourth to be run. */
static const int page_protections[] = {PROT_READ | PROT_WRITE, PROT_NONE, PROT_READ,
                                       PROT_READ | PROT_EXEC};
#define PAGES (sizeof(page_protections) / sizeof(page_protections[0]))

/* False where the kernel cannot have that: a device maps no less than its own pages. */
static bool protect_pages(char *p, size_t page)
{
#ifdef __x86_64__
    static const char code[] = {(char)0xb8, 42, 0, 0, 0, (char)0xc3}; /* mov $42, %eax; ret */

    memcpy(p + 3 * page, code, sizeof(code));
#endif
    for (size_t i = 0; i < PAGES; i++) {
        int r = mprotect(p + i * page, page, page_protections[i]);

        CHECK(r == 0 || errno == EINVAL || errno == EACCES);
        if (r < 0)
            return false;
    }
    return true;
}

/* The kernel answers instead of a signal. */
static bool pages_are_protected(char *p, size_t page)
{
    static char byte = 'x';
    bool held = true;
    int fd[2];

    CHECK(pipe(fd) == 0);
    for (size_t i = 0; i < PAGES; i++) {
        bool can_read = write(fd[1], p + i * page, 1) == 1;
        bool can_write = write(fd[1], &byte, 1) == 1;

        can_write = (!can_read || read(fd[0], &byte, 1) == 1) &&
                    read(fd[0], p + i * page + page / 2, 1) == 1 && can_write;
        held &= can_read == ((page_protections[i] & PROT_READ) != 0);
        held &= can_write == ((page_protections[i] & PROT_WRITE) != 0);
        close(fd[0]);
        close(fd[1]);
        CHECK(pipe(fd) == 0);
    }
    close(fd[0]);
    close(fd[1]);
#ifdef __x86_64__
    held &= ((int (*)(void))(uintptr_t)(p + 3 * page))() == 42;
#endif
    return held;
}

static void what_is_protected_is_so_in_a_child(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *p = check_hide(aligned_alloc(page, PAGES * page));
    bool can_protect;

    CHECK(p);
    check_fill(p, page / 2, 50);
    can_protect = protect_pages(p, page);
    /* The second time without a file, and the child has a child. */
    for (int i = 0; can_protect && i < 2; i++) {
        pid_t pid = i == 0 ? fork() : check_fork_without_files();

        CHECK(pid >= 0);
        if (pid == 0) {
            CHECK(pages_are_protected(p, page) && check_filled(p, page / 2, 50));
            pid = fork();
            if (pid == 0)
                _exit(pages_are_protected(p, page) ? 0 : 1);
            check_child(pid);
            _exit(0);
        }
        check_child(pid);
    }
    CHECK(mprotect(p, PAGES * page, PROT_READ | PROT_WRITE) == 0);
    free(p);
}

/* What the C library's malloc needs in one thread, and this file's checks. */
static const int sandbox_calls[] = {
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_brk,
    SYS_futex,
    SYS_clock_gettime,
    SYS_getrandom,
    SYS_sched_yield,
    SYS_exit_group,
    SYS_write,
    /* of fork() and waitpid() */
    SYS_clone,
    SYS_wait4,
    SYS_gettid,
    SYS_getpid,
    SYS_set_robust_list,
    SYS_rt_sigprocmask,
};
#define SANDBOX_CALLS (sizeof(sandbox_calls) / sizeof(sandbox_calls[0]))

/* From here on, any other call ends the process. False where the kernel cannot have that. */
static bool enter_sandbox(bool by_prctl)
{
    struct sock_filter code[2 * SANDBOX_CALLS + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    struct sock_fprog program = {.len = 1, .filter = code};

    for (size_t i = 0; i < SANDBOX_CALLS; i++) {
        code[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                           (unsigned)sandbox_calls[i], 0, 1);
        code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return false;
    if (by_prctl)
        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

static bool is_zeroed(const char *p, size_t size)
{
    return p[0] == 0 && memcmp(p, p + 1, size - 1) == 0;
}

/* So many bytes that an allocator may well give some back: some 100 MB where the machine is
 * emulated, which is slow at first touches of pages. */
static void use_large_blocks(void)
{
    size_t count = getenv("CHECK_EMULATED") ? 48 : 160;
    char *p[16] = {NULL};

    for (int round = 0; round < check_rounds(10); round++) {
        for (size_t i = 0; i < count; i++) {
            size_t size = (i * 7919 % 64 + 1) << 16;

            free(p[i % 16]);
            p[i % 16] = check_hide(i % 3 ? malloc(size) : calloc(1, size));
            CHECK(p[i % 16] && (i % 3 || is_zeroed(p[i % 16], size)));
            check_fill(p[i % 16], size, 1);
        }
        for (size_t i = 0; i < 16; i++) {
            free(p[i]);
            p[i] = NULL;
        }
    }
}

static void be_sandboxed(bool by_prctl)
{
    if (!enter_sandbox(by_prctl))
        _exit(0);
    /* Blocks from before, and new ones of calls that were never met. */
    be_child(800);
    for (unsigned round = 0; round < 50; round++) {
        free_blocks();
        get_blocks(round);
        block[0] = check_hide(realloc(block[0], 100000 + round * 10000));
        CHECK(block[0]);
        check_fill(block[0], sizes[0], round);
        CHECK(blocks_hold(round));
    }
    expect_fork(49);
    nest(3, 49);
    use_large_blocks();
    _exit(0);
}

/* In memory that is there already: blocks as a program of this kind has had before. */
static void be_strict(void)
{
    static void *p[100];
    unsigned state = 1;

    for (int i = 0; i < 10000; i++) {
        if (i == 5000 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) < 0)
            _exit(0);
        state = state * 1103515245 + 12345;
        free(p[state >> 8 & 63]);
        p[state >> 8 & 63] = check_hide(malloc((state >> 16) % 600));
    }
    /* Not by a call of this place: one that was never met. */
    for (int i = 0; i < 64; i++)
        p[i] = check_hide(realloc(p[i], 40));
    syscall(SYS_exit, 0);
}

static void a_program_may_give_up_all_calls_but_reading_and_writing(void)
{
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0)
        be_strict();
    check_child(pid);
}

static void a_program_may_limit_its_system_calls(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *guarded;

    get_blocks(800);
    /* A page that its forks may not read. */
    guarded = check_hide(aligned_alloc(page, 3 * page));
    CHECK(guarded && (mprotect(guarded + page, page, PROT_NONE) == 0 || errno == EINVAL));
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0)
            be_sandboxed(i == 0);
        check_child(pid);
    }
    CHECK(mprotect(guarded + page, page, PROT_READ | PROT_WRITE) == 0 || errno == EINVAL);
    free(guarded);
    free_blocks();
    /* What is refused leaves the program as it was. */
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) < 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) < 0);
    CHECK(prctl(PR_GET_DUMPABLE) >= 0 && syscall(SYS_prctl, PR_GET_DUMPABLE) >= 0);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check process_checks[] = {
    ENTRY(forks_nest_deeply),
    ENTRY(fork_handlers_may_allocate),
    ENTRY(threads_end_while_others_fork),
    ENTRY(system_calls_may_fork),
    ENTRY(a_daemon_has_memory_of_its_own),
    ENTRY(a_program_may_end_while_threads_allocate),
    ENTRY(programs_start_while_threads_allocate),
    ENTRY(a_limit_for_files_is_none_for_blocks),
    ENTRY(no_descriptor_is_needed),
    ENTRY(all_descriptors_may_be_in_use),
    ENTRY(all_descriptors_may_be_closed_at_once),
    ENTRY(a_limit_for_data_is_kept),
    ENTRY(memory_may_be_locked_under_a_limit),
    ENTRY(a_program_may_give_up_its_rights),
    ENTRY(what_is_protected_is_so_in_a_child),
    ENTRY(a_program_may_limit_its_system_calls),
    ENTRY(a_program_may_give_up_all_calls_but_reading_and_writing),
    ENTRY(addresses_may_be_laid_out_otherwise),
    {NULL, NULL},
};
