/* SPDX-License-Identifier: Apache-2.0 */
/* fork and its relatives: what one process writes, no other sees; and what happens at exit. */
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wchar.h>

extern char **environ;

#define BLOCKS_MAX 64

static const size_t sizes[] = {40, 5000, 70000, 1 << 20};

static void *block[BLOCKS_MAX];

static int block_count = BLOCKS_MAX;

/* Each of their pages is touched in each process: fewer of each where the machine is emulated. */
__attribute__((constructor)) static void count_blocks(void)
{
    if (getenv("CHECK_EMULATED"))
        block_count = BLOCKS_MAX / 4;
}

static size_t size_of(int i)
{
    return sizes[i % 4];
}

static void allocate_blocks(unsigned seed)
{
    for (int i = 0; i < block_count; i++) {
        block[i] = check_hide(malloc(size_of(i)));
        CHECK(block[i]);
        check_fill(block[i], size_of(i), seed + (unsigned)i);
    }
}

static bool blocks_hold(unsigned seed)
{
    for (int i = 0; i < block_count; i++)
        if (!check_filled(block[i], size_of(i), seed + (unsigned)i))
            return false;
    return true;
}

static void write_blocks(unsigned seed)
{
    for (int i = 0; i < block_count; i++)
        check_fill(block[i], size_of(i), seed + (unsigned)i);
}

static void wait_for(int fd)
{
    char c;

    CHECK(read(fd, &c, 1) == 1);
}

static void tell(int fd)
{
    CHECK(write(fd, "x", 1) == 1);
}

#ifdef __x86_64__
/* By the program's own instruction: no library can see it. */
static long fork_unseen(void)
{
    long r = SYS_fork;

    __asm__ volatile("syscall" : "+a"(r) : : "rcx", "r11", "memory");
    return r;
}

/* Both use what was free before, again and again. */
static bool use_memory(unsigned seed)
{
    bool held = true;

    for (int round = 0; round < check_rounds(20); round++) {
        allocate_blocks(seed);
        sched_yield();
        held = held && blocks_hold(seed);
        for (int i = 0; i < block_count; i++)
            free(block[i]);
    }
    return held;
}

static void a_child_of_an_unseen_fork_has_memory_of_its_own(void)
{
    char *old = check_hide(malloc(300000));
    int status;
    long pid;

    CHECK(old);
    check_fill(old, 300000, 5);
    allocate_blocks(6);
    for (int i = 0; i < block_count; i++)
        free(block[i]);
    pid = fork_unseen();
    CHECK(pid >= 0);
    if (pid == 0) {
        bool held = use_memory(70) && check_filled(old, 300000, 5);

        check_fill(old, 300000, 80);
        _exit(held && use_memory(90) ? 0 : 1);
    }
    CHECK(use_memory(170));
    CHECK(waitpid((pid_t)pid, &status, 0) == pid && status == 0);
    CHECK(check_filled(old, 300000, 5));
}
#endif

static void a_child_has_memory_of_its_own(void)
{
    int to_child[2], to_parent[2];
    pid_t pid;

    allocate_blocks(10);
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(blocks_hold(10));
        wait_for(to_child[0]); /* the parent has written */
        CHECK(blocks_hold(10));
        write_blocks(30);
        tell(to_parent[1]);
        wait_for(to_child[0]);
        CHECK(blocks_hold(30));
        _exit(0);
    }
    write_blocks(20);
    tell(to_child[1]);
    wait_for(to_parent[0]); /* the child has written */
    CHECK(blocks_hold(20));
    tell(to_child[1]);
    check_child(pid);
}

/* Pages of the program's, each a mapping of its own: as many as the kernel allows, but `left`. */
static int take_mappings(char **page, int max, int left)
{
    int count = 0;

    for (; count < max; count++) {
        page[count] = mmap(NULL, 4096, count % 2 ? PROT_READ : PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page[count] == MAP_FAILED)
            break;
    }
    while (left-- > 0 && count > 0)
        munmap(page[--count], 4096);
    return count;
}

enum { MAPPINGS_MAX = 200000 }; /* three times as many as kernels allow by default */

/* False: fork() was refused for want of memory. */
static bool fork_without_mappings(char **page, int left, const char *guarded, bool has_files)
{
    int count = take_mappings(page, MAPPINGS_MAX, left);
    pid_t pid = has_files ? fork() : check_fork_without_files();
    bool is_refused = pid < 0 && errno == ENOMEM;
    int status;

    if (pid == 0) {
        bool held = blocks_hold(3) && guarded[0] == 'a' && guarded[8192] == 'b';

        write_blocks(4);
        _exit(held && blocks_hold(4) ? 0 : 1);
    }
    while (count > 0)
        munmap(page[--count], 4096);
    CHECK(is_refused || (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0));
    CHECK(blocks_hold(3));
    return !is_refused;
}

static void a_program_may_use_up_its_mappings(void)
{
    char **page = malloc(MAPPINGS_MAX * sizeof(*page));
    char *guarded;

    CHECK(page);
    allocate_blocks(3);
    /* The second page may not be read, as a guard's. */
    guarded = check_hide(aligned_alloc(4096, 12288));
    CHECK(guarded && (mprotect(guarded + 4096, 4096, PROT_NONE) == 0 || errno == EINVAL));
    guarded[0] = 'a';
    guarded[8192] = 'b';
    for (int left = 0; left < 9; left += check_rounds(20) < 20 ? 4 : 2)
        CHECK(fork_without_mappings(page, left, guarded, true));
    /* Nor can a file be had for a copy, which then takes a mapping: one for each tier's. */
    CHECK(fork_without_mappings(page, 2, guarded, false) ||
          fork_without_mappings(page, 16, guarded, false));
    CHECK(mprotect(guarded + 4096, 4096, PROT_READ | PROT_WRITE) == 0 || errno == EINVAL);
    free(guarded);
    for (int i = 0; i < block_count; i++)
        free(block[i]);
    free(page);
}

static void a_child_can_allocate_and_free(void)
{
    pid_t pid;

    allocate_blocks(11);
    pid = fork();
    if (pid == 0) {
        for (int round = 0; round < check_rounds(20); round++) {
            for (int i = 0; i < block_count; i++)
                free(block[i]);
            allocate_blocks((unsigned)round);
            CHECK(blocks_hold((unsigned)round));
        }
        _exit(0);
    }
    check_child(pid);
    CHECK(blocks_hold(11));
    for (int i = 0; i < block_count; i++)
        free(block[i]);
}

static void forks_nest(void)
{
    pid_t pid;

    allocate_blocks(12);
    pid = fork();
    if (pid == 0) {
        pid_t grandchild;

        write_blocks(13);
        grandchild = fork();
        if (grandchild == 0) {
            CHECK(blocks_hold(13));
            write_blocks(14);
            for (int i = 0; i < block_count; i++)
                free(block[i]);
            allocate_blocks(15);
            CHECK(blocks_hold(15));
            _exit(0);
        }
        check_child(grandchild);
        CHECK(blocks_hold(13));
        _exit(0);
    }
    check_child(pid);
    CHECK(blocks_hold(12));
}

static atomic_bool stop;

static void *churn(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    void *kept[32] = {NULL};

    for (unsigned i = 0; !atomic_load(&stop); i++) {
        size_t size = sizes[i % 3];
        unsigned slot = (i * 7) % 32;

        free(kept[slot]);
        kept[slot] = check_hide(malloc(size));
        CHECK(kept[slot]);
        check_fill(kept[slot], 40, seed + slot);
    }
    for (int i = 0; i < 32; i++)
        free(kept[i]);
    return NULL;
}

static void finding_5_fork_while_other_threads_allocate(void)
{
    pthread_t thread[3];

    allocate_blocks(16);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)i) == 0);
    for (int round = 0; round < check_rounds(10); round++) {
        pid_t pid = fork();

        if (pid == 0) {
            CHECK(blocks_hold(16));
            write_blocks(17);
            for (int i = 0; i < block_count; i++)
                free(block[i]);
            allocate_blocks(18);
            _exit(blocks_hold(18) ? 0 : 1);
        }
        check_child(pid);
        CHECK(blocks_hold(16));
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
}

static void *forking(void *argument)
{
    (void)argument;
    for (int round = 0; round < 10; round++) {
        void *mine = check_hide(malloc(100000));
        pid_t pid;

        check_fill(mine, 100000, 19);
        pid = fork();
        if (pid == 0)
            _exit(check_filled(mine, 100000, 19) ? 0 : 1);
        check_child(pid);
        free(mine);
    }
    return NULL;
}

static void threads_fork_at_the_same_time(void)
{
    pthread_t thread[4];

    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, forking, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
}

static void a_child_can_exec(void)
{
    pid_t pid;

    allocate_blocks(20);
    pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "exit 0", (char *)NULL);
        _exit(127);
    }
    check_child(pid);
    CHECK(blocks_hold(20));
}

static void spawned_programs_run(void)
{
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)"exit 0", NULL};
    pid_t pid;

    allocate_blocks(21);
    CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0);
    check_child(pid);
    pid = vfork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "exit 0", (char *)NULL);
        _exit(127);
    }
    check_child(pid);
    CHECK(system("exit 3") == 3 << 8);
    CHECK(blocks_hold(21));
}

static void a_pipe_to_a_command_works(void)
{
    char line[64] = "";
    FILE *command = popen("echo from the command", "r");

    CHECK(command && fgets(line, sizeof(line), command));
    CHECK(strcmp(line, "from the command\n") == 0);
    CHECK(pclose(command) == 0);
}

/* A child that writes through stdio and returns from main: nothing may be lost at exit. */
static void finding_6_exit_flushes_what_was_printed(void)
{
    int fd[2];
    size_t total = 0;
    char buffer[4096];
    ssize_t n;
    pid_t pid;

    CHECK(pipe(fd) == 0);
    pid = fork();
    if (pid == 0) {
        dup2(fd[1], 1);
        close(fd[0]);
        close(fd[1]);
        execl(check_file("printing"), "printing", (char *)NULL);
        _exit(127);
    }
    close(fd[1]);
    while ((n = read(fd[0], buffer, sizeof(buffer))) > 0)
        total += (size_t)n;
    check_child(pid);
    CHECK(total == 200000);
}

/* Daemons close every descriptor that they do not know, the one of a tier's file included. */
static void a_program_may_close_every_descriptor(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        allocate_blocks(22);
        for (int fd = 3; fd < 4096; fd++)
            close(fd);
        /* Their numbers now belong to the program's own file, which must not be touched. */
        for (int i = 0; i < 1000; i++) {
            FILE *file = i == 0 ? tmpfile() : NULL;

            if (file) {
                for (int fd = 3; fd < 1000; fd++)
                    dup2(fileno(file), fd);
                CHECK(fputs("untouched", file) >= 0 && fflush(file) == 0);
            }
        }
        for (int round = 0; round < 5; round++) {
            for (int i = 0; i < block_count; i++)
                free(block[i]);
            allocate_blocks(23);
            CHECK(blocks_hold(23));
        }
        for (int i = 0; i < 40; i++) {
            char *p = check_hide(malloc(1 << 20));

            CHECK(p);
            check_fill(p, 1 << 20, 24);
        }
        CHECK(lseek(3, 0, SEEK_END) == 9);
        _exit(0);
    }
    check_child(pid);
}

static int write_as_child(void *argument)
{
    (void)argument;
    if (!blocks_hold(41))
        return 1;
    write_blocks(42);
    return blocks_hold(42) ? 0 : 1;
}

/* The ways that run no handlers. */
static void raw_forks_have_memory_of_their_own(void)
{
    static char stack[256 << 10];
    char *allocated = check_hide(malloc(sizeof(stack)));
    int pid;

    CHECK(allocated);
    allocate_blocks(41);
    pid = _Fork();
    CHECK(pid >= 0);
    if (pid == 0)
        _exit(write_as_child(NULL));
    check_child(pid);
    CHECK(blocks_hold(41));
    pid = clone(write_as_child, stack + sizeof(stack), SIGCHLD, NULL);
    CHECK(pid > 0);
    check_child(pid);
    CHECK(blocks_hold(41));
    pid = clone(write_as_child, allocated + sizeof(stack), SIGCHLD, NULL);
    CHECK(pid > 0);
    check_fill(allocated, sizeof(stack), 42); /* no child's any more */
    check_child(pid);
    CHECK(blocks_hold(41) && check_filled(allocated, sizeof(stack), 42));
    free(allocated);
    for (int i = 0; i < block_count; i++)
        free(block[i]);
    allocate_blocks(43);
    CHECK(blocks_hold(43));
}

static void *fork_here(void *argument)
{
    char local[4096];
    int pid;

    (void)argument;
    for (int i = 0; i < 20; i++) {
        check_fill(local, sizeof(local), (unsigned)i);
        pid = fork();
        if (pid == 0) {
            check_fill(local, sizeof(local), 99);
            _exit(0);
        }
        if (pid > 0)
            check_child(pid);
        else
            CHECK(errno == ENOMEM);
        CHECK(check_filled(local, sizeof(local), (unsigned)i));
    }
    return NULL;
}

static int write_with_descriptors(void *argument)
{
    int *pipe_end = argument;

    if (write_as_child(NULL) != 0)
        return 1;
    allocate_blocks(43);
    if (!blocks_hold(43))
        return 1;
    return dup2(pipe_end[1], pipe_end[0]) < 0; /* the parent's, too */
}

/* More than all that may be free in a tier: it must grow. */
#define GROWTH_SIZE ((size_t)8 << 20)

/* What a child by clone() does to its copies of tiers, it does not do to its parent's descriptors.
 */
static void a_child_may_share_descriptors(void)
{
    static char stack[256 << 10];
    int ends[2];
    const char *tier;
    char *p;

    CHECK(pipe(ends) == 0);
    allocate_blocks(41);
    tier = check_tier(block[3]);
    check_child(clone(write_with_descriptors, stack + sizeof(stack), CLONE_FILES | SIGCHLD, ends));
    CHECK(blocks_hold(41));
    CHECK((fcntl(ends[0], F_GETFL) & O_ACCMODE) == O_WRONLY);
#ifdef __x86_64__
    for (int i = 0; i < 2; i++) {
        uint64_t clone3[8] = {CLONE_FILES, [4] = SIGCHLD};
        long pid = i == 0 ? syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0)
                          : syscall(SYS_clone3, clone3, sizeof(clone3));

        CHECK(pid >= 0);
        if (pid == 0)
            _exit(write_with_descriptors(ends));
        check_child((int)pid);
        CHECK(blocks_hold(41));
    }
#endif
    p = check_hide(malloc(GROWTH_SIZE));
    CHECK(p);
    CHECK(!tier || strcmp(tier, "far") != 0 || getenv("CHECK_SPILLS") || check_is_placed(p, tier));
    check_fill(p, GROWTH_SIZE, 44);
    free(p);
}

/* As fork() within the C library: the child has memory of its own, or there is none. */
static void *fork_terminal_here(void *argument)
{
    volatile char local = 1;
    int master = -1;
    int pid = forkpty(&master, NULL, NULL, NULL);

    (void)argument;
    if (pid == 0) {
        local = 2;
        _exit(0);
    }
    if (pid > 0) {
        check_child(pid);
        close(master);
    } else {
        CHECK(errno == ENOMEM && master == -1);
    }
    CHECK(local == 1);
    return NULL;
}

static void run_on(void *stack, size_t size, void *(*run)(void *))
{
    pthread_attr_t attributes;
    pthread_t thread;

    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstack(&attributes, stack, size) == 0);
    CHECK(pthread_create(&thread, &attributes, run, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* Where the stack would be shared with the child, fork() fails. */
static void a_thread_may_run_on_memory_of_malloc(void)
{
    const size_t size = 1 << 20;
    void *stack;

    CHECK(posix_memalign(&stack, 4096, size) == 0);
    run_on(stack, size, fork_here);
    run_on(stack, size, fork_terminal_here);
    free(stack);
}

/* What the program has mapped itself is what counts. */
static void a_program_may_limit_its_addresses(void)
{
    struct rlimit limit = {1 << 30, 1 << 30};
    int pid;

    allocate_blocks(31);
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    for (int i = 0; i < check_rounds(200); i++) {
        char *p = check_hide(malloc(1 << 20));

        CHECK(p);
        check_fill(p, 1 << 20, 32);
    }
    CHECK(check_hide(malloc((size_t)2 << 30)) == NULL);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(blocks_hold(31));
        write_blocks(33);
        for (int i = 0; i < block_count; i++)
            free(block[i]);
        allocate_blocks(34);
        _exit(blocks_hold(34) ? 0 : 1);
    }
    check_child(pid);
    CHECK(blocks_hold(31));
}

static bool on_no_tier(const void *p)
{
    const char *tier = check_tier(p);

    return p && (!tier || *tier == '\0');
}

/*
 * fork() touches all streams before the child has memory of its own; and their buffers must hold
 * what the streams, at the fork itself, say of them.
 */
static void a_stream_is_on_no_tier(void)
{
    FILE *stream = fopen("/dev/null", "w");
    FILE *command = popen("true", "r");
    FILE *wide = fopen("/dev/null", "w");

    CHECK(stream && command && wide);
    CHECK(fputc('x', stream) == 'x' && fputwc(L'x', wide) == L'x');
    CHECK(on_no_tier(stream) && on_no_tier(command) && on_no_tier(wide));
    CHECK(on_no_tier(stream->_IO_buf_base) && on_no_tier(wide->_IO_buf_base));
    /* What the pointers to the wide buffer are in is the C library's matter: begin and end. */
    CHECK(wide->_wide_data && on_no_tier(wide->_wide_data));
    CHECK(on_no_tier(*(void **)wide->_wide_data));
    fclose(stream);
    fclose(wide);
    CHECK(pclose(command) == 0);
}

/* The loader keeps some of its lists in its own data, some in blocks: both as at the fork. */
static void what_the_loader_keeps_is_on_no_tier(void)
{
    struct link_map *map = dlopen(check_file("libconform_plugin.so"), RTLD_NOW);

    CHECK(map);
    CHECK(on_no_tier(map) && on_no_tier(map->l_name));
    for (struct link_map *other = map->l_prev; other; other = other->l_prev)
        CHECK(on_no_tier(other));
    CHECK(dlclose(map) == 0);
}

/*
 * The addresses that were asked for are more together than the machine has memory, but all were
 * given back: a fork need not be granted them again. (The C library gives back whatever is large;
 * where MALLOC_PERTURB_ is set, as by meson, it would first write to all of it.)
 */
static void a_program_may_fork_after_large_alignments(void)
{
    size_t memory = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    size_t alignment = (size_t)1 << 20;
    int pid;

    if (!check_tier(block))
        return;
    while (alignment < memory / 16)
        alignment *= 2;
    for (size_t i = 0; i < 64; i++)
        free(check_hide(memalign(alignment, 1000 + i * 900)));
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        _exit(0);
    check_child(pid);
}

static FILE *held_stream;
static _Atomic pid_t flusher, forker;

static void *flush_all(void *unused)
{
    flusher = gettid();
    CHECK(fflush(NULL) == 0);
    return unused;
}

static void *fork_once(void *unused)
{
    int pid;

    forker = gettid();
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        free(check_hide(malloc(70000)));
        CHECK(fclose(fopen("/dev/null", "w")) == 0);
        _exit(0);
    }
    check_child(pid);
    return unused;
}

/* Until the thread waits for a lock; no stream is used, for their list is locked here. */
static void wait_until_it_waits(_Atomic pid_t *thread)
{
    char name[64], futex[16], call[16] = "";
    int size = snprintf(futex, sizeof(futex), "%d ", SYS_futex);
    int file;

    while (*thread == 0)
        sched_yield();
    snprintf(name, sizeof(name), "/proc/self/task/%d/syscall", (int)*thread);
    file = open(name, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    while (strcmp(call, futex) != 0) {
        sched_yield();
        CHECK(pread(file, call, (size_t)size, 0) > 0);
    }
    close(file);
}

/*
 * One thread has a stream, another has the list of all streams and waits for that one, a third
 * forks and waits for the list. The first may allocate for all that, and so lets the others go on.
 */
static void who_has_a_stream_may_allocate_while_others_flush_and_fork(void)
{
    pthread_t flushing, forking;

    held_stream = fopen("/dev/null", "w");
    CHECK(held_stream);
    flockfile(held_stream);
    CHECK(pthread_create(&flushing, NULL, flush_all, NULL) == 0);
    wait_until_it_waits(&flusher);
    CHECK(pthread_create(&forking, NULL, fork_once, NULL) == 0);
    wait_until_it_waits(&forker);
    allocate_blocks(7);
    for (int i = 0; i < block_count; i++)
        free(block[i]);
    CHECK(mallinfo2().uordblks > 0);
    funlockfile(held_stream);
    CHECK(pthread_join(flushing, NULL) == 0 && pthread_join(forking, NULL) == 0);
    CHECK(fclose(held_stream) == 0);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check fork_checks[] = {
    ENTRY(a_child_has_memory_of_its_own),
#ifdef __x86_64__
    ENTRY(a_child_of_an_unseen_fork_has_memory_of_its_own),
#endif
    ENTRY(a_program_may_use_up_its_mappings),
    ENTRY(a_child_can_allocate_and_free),
    ENTRY(forks_nest),
    ENTRY(finding_5_fork_while_other_threads_allocate),
    ENTRY(threads_fork_at_the_same_time),
    ENTRY(a_child_can_exec),
    ENTRY(spawned_programs_run),
    ENTRY(a_pipe_to_a_command_works),
    ENTRY(finding_6_exit_flushes_what_was_printed),
    ENTRY(a_program_may_close_every_descriptor),
    ENTRY(raw_forks_have_memory_of_their_own),
    ENTRY(a_child_may_share_descriptors),
    ENTRY(a_program_may_limit_its_addresses),
    ENTRY(a_thread_may_run_on_memory_of_malloc),
    ENTRY(a_program_may_fork_after_large_alignments),
    ENTRY(who_has_a_stream_may_allocate_while_others_flush_and_fork),
    ENTRY(a_stream_is_on_no_tier),
    ENTRY(what_the_loader_keeps_is_on_no_tier),
    {NULL, NULL},
};
