/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that move while the kernel, another process or a debugger reads and writes them: every
 * byte is right afterwards, or the move was refused.
 *
 * Each case is tried with what holds writers back here: from ordinary memory as this kernel does
 * it and as kernels before Linux 6.8 do, and from a file on tmpfs.
 */
#include "pmem/move.h"

#include "alloc/tier_ops.h"
#include "pmem/arena.h"
#include "pmem/host.h"
#include "pmem/move_fault.h"
#include "tests/unit/pmem/move_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (1 * MIB)
#define PAGE (4 * KIB)
#define ROUNDS 30

/* From where blocks move, and how. */
static const struct way {
    const char *name;
    bool in_file, old_kernel;
} ways[] = {
    {"from dram", false, false},
    {"from dram, before Linux 6.8", false, true},
    {"from tmpfs", true, false},
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static int inject_old_kernel(enum berth_move_call call)
{
    return call == BERTH_CALL_UFFD_OFFER ? -ENOSYS : 0;
}

static unsigned char *get(const struct way *way)
{
    unsigned char *p = fixture_get(SIZE);

    fixture_fill(p, SIZE, 1);
    if (way->in_file)
        assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
    return p;
}

static enum berth_move_result move(const struct way *way, void *p)
{
    enum berth_move_result result;

    berth__move_inject = way->old_kernel ? inject_old_kernel : NULL;
    result = fixture_move(p, way->in_file ? BERTH_TIER_DRAM : tier_shm, false);
    berth__move_inject = NULL;
    return result;
}

/* Held for writing, nobody writes to a block. */
static pthread_rwlock_t quiet = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static void move_home(const struct way *way, void *p)
{
    pthread_rwlock_wrlock(&quiet);
    fixture_move(p, way->in_file ? tier_shm : BERTH_TIER_DRAM, true);
    pthread_rwlock_unlock(&quiet);
}

/* An io_uring with room for one request at a time. */
struct ring {
    int fd;
    struct io_uring_params parameters;
    unsigned char *rings;
    struct io_uring_sqe *entries;
};

static bool ring_open(struct ring *ring)
{
    memset(ring, 0, sizeof(*ring));
    ring->fd = (int)syscall(SYS_io_uring_setup, 4, &ring->parameters);
    if (ring->fd < 0)
        return false;
    ring->rings =
        mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
    ring->entries = mmap(NULL, 4 * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED,
                         ring->fd, IORING_OFF_SQES);
    return ring->rings != MAP_FAILED && ring->entries != MAP_FAILED;
}

static void ring_close(struct ring *ring)
{
    munmap(ring->rings, 16 * PAGE);
    munmap(ring->entries, 4 * sizeof(struct io_uring_sqe));
    close(ring->fd);
}

static unsigned *ring_word(const struct ring *ring, unsigned offset)
{
    return (unsigned *)(void *)(ring->rings + offset);
}

static void ring_read(struct ring *ring, int opcode, int from, void *to, unsigned size)
{
    const struct io_sqring_offsets *at = &ring->parameters.sq_off;
    unsigned tail = *ring_word(ring, at->tail);
    unsigned index = tail & *ring_word(ring, at->ring_mask);

    ring->entries[index] = (struct io_uring_sqe){.opcode = (uint8_t)opcode,
                                                 .fd = from,
                                                 .off = (uint64_t)-1,
                                                 .addr = (uintptr_t)to,
                                                 .len = size};
    ring_word(ring, at->array)[index] = index;
    __atomic_store_n(ring_word(ring, at->tail), tail + 1, __ATOMIC_RELEASE);
    assert_int_equal(syscall(SYS_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0), 1);
}

/* Waits for the request's end, and returns what came of it. */
static int ring_wait(struct ring *ring)
{
    const struct io_cqring_offsets *at = &ring->parameters.cq_off;
    unsigned head = *ring_word(ring, at->head);
    const struct io_uring_cqe *entries =
        (const struct io_uring_cqe *)(const void *)(ring->rings + at->cqes);
    int answer;

    while (__atomic_load_n(ring_word(ring, at->tail), __ATOMIC_ACQUIRE) == head)
        syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    answer = entries[head & *ring_word(ring, at->ring_mask)].res;
    __atomic_store_n(ring_word(ring, at->head), head + 1, __ATOMIC_RELEASE);
    return answer;
}

/* A read of a page that ends after the move. */
static void read_across_a_move(const struct way *way, bool registered)
{
    unsigned char *p = get(way);
    struct iovec range = {p + 8 * PAGE, 4 * PAGE};
    unsigned char bytes[PAGE];
    enum berth_move_result result;
    struct ring ring;
    int ends[2];

    if (!ring_open(&ring)) {
        print_message("no io_uring here: %s\n", strerror(errno));
        skip();
    }
    assert_int_equal(pipe(ends), 0);
    if (registered)
        assert_int_equal(
            syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &range, 1), 0);
    ring_read(&ring, registered ? IORING_OP_READ_FIXED : IORING_OP_READ, ends[0], range.iov_base,
              PAGE);
    result = move(way, p);
    print_message("%s: %s\n", way->name, berth__move_result_info[result].code);
    memset(bytes, 0x77, sizeof(bytes));
    assert_int_equal(write(ends[1], bytes, sizeof(bytes)), sizeof(bytes));
    assert_int_equal(ring_wait(&ring), PAGE);
    assert_memory_equal(range.iov_base, bytes, PAGE);
    if (registered)
        assert_int_equal(result, BERTH_MOVE_PINNED);
    close(ends[0]);
    close(ends[1]);
    ring_close(&ring);
    /* The kernel lets go of what was registered some time after the ring is closed. */
    while (move(way, p) == BERTH_MOVE_PINNED)
        sched_yield();
    assert_memory_equal(range.iov_base, bytes, PAGE);
    berth__host_free(p);
}

static void a_read_by_io_uring_arrives(void **state)
{
    (void)state;
    fixture_needs_live();
    for (size_t i = 0; i < WAYS; i++)
        read_across_a_move(&ways[i], false);
}

static void a_read_into_registered_memory_arrives(void **state)
{
    (void)state;
    fixture_needs_live();
    for (size_t i = 0; i < WAYS; i++)
        read_across_a_move(&ways[i], true);
}

/* Somebody who writes to the block all the time, a page at a time. */
static struct writer {
    unsigned char *p;
    atomic_bool stop;
    uint64_t writes, refusals;
    int file; /* O_DIRECT */
} writer;

static bool is_all(const unsigned char *p, size_t size, unsigned char value)
{
    return p[0] == value && memcmp(p, p + 1, size - 1) == 0;
}

typedef bool (*write_function)(unsigned char *to, const unsigned char *from);
static write_function write_page;

static void *write_pages(void *unused)
{
    const char *wrong = unused;
    static _Alignas(4096) unsigned char from[PAGE];
    unsigned round = 0;

    while (!atomic_load(&writer.stop)) {
        unsigned char *to = writer.p + round % (SIZE / PAGE) * PAGE;

        memset(from, (int)(++round % 251), PAGE);
        pthread_rwlock_rdlock(&quiet);
        while (!write_page(to, from) && !atomic_load(&writer.stop))
            writer.refusals++;
        if (!atomic_load(&writer.stop) && !is_all(to, PAGE, from[0]))
            wrong = "a byte is not what was written";
        pthread_rwlock_unlock(&quiet);
        if (wrong)
            break;
        writer.writes++;
    }
    return (void *)wrong;
}

static void move_under(write_function function)
{
    for (size_t i = 0; i < WAYS; i++) {
        unsigned results[BERTH_MOVE_RESULT_COUNT] = {0};
        pthread_t thread;
        void *answer;

        writer.p = get(&ways[i]);
        writer.writes = writer.refusals = 0;
        atomic_store(&writer.stop, false);
        write_page = function;
        assert_int_equal(pthread_create(&thread, NULL, write_pages, NULL), 0);
        for (int j = 0; j < ROUNDS; j++) {
            results[move(&ways[i], writer.p)]++;
            move_home(&ways[i], writer.p);
        }
        atomic_store(&writer.stop, true);
        assert_int_equal(pthread_join(thread, &answer), 0);
        print_message("%s: moved %u times, pinned %u, busy %u; %llu writes, %llu refused\n",
                      ways[i].name, results[BERTH_MOVE_MOVED], results[BERTH_MOVE_PINNED],
                      results[BERTH_MOVE_BUSY], (unsigned long long)writer.writes,
                      (unsigned long long)writer.refusals);
        if (answer)
            print_message("%s\n", (const char *)answer);
        assert_null(answer);
        berth__host_free(writer.p);
    }
}

/* As a debugger writes. While pages are on their way it may be told that it cannot. */
static bool write_by_proc(unsigned char *to, const unsigned char *from)
{
    return pwrite(writer.file, from, PAGE, (off_t)(uintptr_t)to) == (ssize_t)PAGE;
}

static void what_is_written_by_proc_mem_is_there(void **state)
{
    (void)state;
    fixture_needs_live();
    writer.file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (writer.file < 0)
        skip();
    move_under(write_by_proc);
    close(writer.file);
}

static bool write_by_vm(unsigned char *to, const unsigned char *from)
{
    struct iovec local = {(void *)from, PAGE}, remote = {to, PAGE};

    return process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)PAGE;
}

static void what_is_written_by_process_vm_writev_is_there(void **state)
{
    (void)state;
    fixture_needs_live();
    move_under(write_by_vm);
}

static aio_context_t aio_context;

/* Asynchronous, past the page cache: the device writes to the pages themselves. */
static bool write_by_aio(unsigned char *to, const unsigned char *from)
{
    struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD,
                           .aio_fildes = (uint32_t)writer.file,
                           .aio_buf = (uintptr_t)to,
                           .aio_nbytes = PAGE};
    struct iocb *requests[] = {&request};
    struct io_event event;

    if (aio_context == 0 && syscall(SYS_io_setup, 1, &aio_context) < 0)
        return false;
    if (pwrite(writer.file, from, PAGE, 0) != (ssize_t)PAGE ||
        syscall(SYS_io_submit, aio_context, 1, requests) != 1)
        return false;
    while (syscall(SYS_io_getevents, aio_context, 1, 1, &event, NULL) != 1)
        ;
    return event.res == (int64_t)PAGE;
}

static void what_a_disk_writes_is_there(void **state)
{
    (void)state;
    fixture_needs_live();
    writer.file = fixture_disk() ? open(fixture_disk(), O_TMPFILE | O_RDWR | O_DIRECT, 0600) : -1;
    if (writer.file < 0) {
        print_message("no file can be read past the page cache here\n");
        skip();
    }
    move_under(write_by_aio);
    close(writer.file);
    syscall(SYS_io_destroy, aio_context);
    aio_context = 0;
}

/* What was asked for goes on when the descriptor is closed, by which the kernel does not see it. */
static void io_without_a_descriptor_may_write_unseen(void **state)
{
    struct ring ring;

    (void)state;
    fixture_needs_live();
    for (size_t i = 0; i < WAYS; i++) {
        bool is_seen = !ways[i].in_file && !ways[i].old_kernel && fixture_sees_pins;
        unsigned char *p = get(&ways[i]);

        if (syscall(SYS_io_setup, 1, &aio_context) == 0) {
            assert_int_equal(move(&ways[i], p), is_seen ? BERTH_MOVE_MOVED : BERTH_MOVE_PINNED);
            move_home(&ways[i], p);
            syscall(SYS_io_destroy, aio_context);
            aio_context = 0;
        }
        if (ring_open(&ring)) {
            close(ring.fd);
            assert_int_equal(move(&ways[i], p), is_seen ? BERTH_MOVE_MOVED : BERTH_MOVE_PINNED);
            move_home(&ways[i], p);
            ring_close(&ring);
        }
        assert_int_equal(move(&ways[i], p), BERTH_MOVE_MOVED);
        assert_true(fixture_is_filled(p, SIZE, 1));
        berth__host_free(p);
    }
}

/* Whose I/O holds pages in a way that no kernel tells: a file system that has no device. */
static void files_without_a_device_may_write_unseen(void **state)
{
    unsigned char *p = get(&ways[0]);
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    int ends[2];

    (void)state;
    fixture_needs_live();
    if (fd < 0) {
        print_message("no file of tmpfs can be read past the page cache (Linux 6.6)\n");
        skip();
    }
    assert_int_equal(move(&ways[0], p), BERTH_MOVE_PINNED);
    assert_int_equal(move(&ways[1], p), BERTH_MOVE_PINNED);
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    /* Of a pipe the flag says something else. */
    assert_int_equal(pipe2(ends, O_DIRECT), 0);
    assert_int_equal(move(&ways[0], p), BERTH_MOVE_MOVED);
    assert_true(fixture_is_filled(p, SIZE, 1));
    close(fd);
    close(ends[0]);
    close(ends[1]);
    berth__host_free(p);
}

/* A thread with descriptors of its own, which has a file open with O_DIRECT. */
static struct {
    pthread_t thread;
    pthread_barrier_t step;
    int file;
} apart;

static void *open_apart(void *context)
{
    apart.file =
        unshare(CLONE_FILES) == 0 ? open(context, O_TMPFILE | O_RDWR | O_DIRECT, 0600) : -1;
    pthread_barrier_wait(&apart.step);
    pthread_barrier_wait(&apart.step);
    return NULL;
}

static void files_of_a_thread_with_its_own_table_are_seen(void **state)
{
    bool is_open;

    (void)state;
    fixture_needs_live();
    if (!fixture_disk())
        skip();
    for (size_t i = 0; i < WAYS; i++) {
        bool is_seen = !ways[i].in_file && !ways[i].old_kernel && fixture_sees_pins;
        unsigned char *p = get(&ways[i]);

        pthread_barrier_init(&apart.step, NULL, 2);
        assert_int_equal(pthread_create(&apart.thread, NULL, open_apart, (void *)fixture_disk()),
                         0);
        pthread_barrier_wait(&apart.step);
        is_open = apart.file >= 0;
        if (is_open)
            assert_int_equal(move(&ways[i], p), is_seen ? BERTH_MOVE_MOVED : BERTH_MOVE_PINNED);
        pthread_barrier_wait(&apart.step);
        pthread_join(apart.thread, NULL);
        pthread_barrier_destroy(&apart.step);
        if (is_open && is_seen)
            move_home(&ways[i], p);
        assert_int_equal(move(&ways[i], p), BERTH_MOVE_MOVED);
        assert_true(fixture_is_filled(p, SIZE, 1));
        berth__host_free(p);
    }
}

/* Nobody writes at a quiescent step; but what is registered is written to later. */
static void registered_memory_stays_at_quiescent_steps(void **state)
{
    unsigned char *p = fixture_get(SIZE), *q = fixture_get(SIZE);
    struct iovec ranges[] = {{q + 12, 5}, {p + 8 * PAGE, 4 * PAGE}};
    struct ring ring;

    (void)state;
    fixture_needs_live();
    if (!ring_open(&ring))
        skip();
    fixture_fill(p, SIZE, 2);
    assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_MOVED);
    assert_int_equal(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, ranges, 2),
                     0);
    assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, true), BERTH_MOVE_PINNED);
    assert_int_equal(fixture_move(q, tier_shm, true), BERTH_MOVE_PINNED);
    assert_int_equal(syscall(SYS_io_uring_register, ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0),
                     0);
    assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, true), BERTH_MOVE_MOVED);
    assert_true(fixture_is_filled(p, SIZE, 2));
    ring_close(&ring);
    berth__host_free(p);
    berth__host_free(q);
}

#define NEXT 16

/* A pipe has the pages that were given to it, wherever the block is. */
static void pages_in_a_pipe_keep_their_bytes(void **state)
{
    (void)state;
    fixture_needs_live();
    for (size_t i = 0; i < WAYS; i++) {
        unsigned char *p = get(&ways[i]), *next[NEXT];
        struct iovec range = {p + 16 * PAGE, 4 * PAGE};
        unsigned char bytes[4 * PAGE];
        int ends[2];

        assert_int_equal(pipe(ends), 0);
        assert_int_equal(vmsplice(ends[1], &range, 1, i == 1 ? SPLICE_F_GIFT : 0), 4 * PAGE);
        assert_int_equal(move(&ways[i], p), BERTH_MOVE_MOVED);
        /* One of the next blocks gets the room of this one. */
        for (int j = 0; j < NEXT; j++) {
            next[j] = get(&ways[i]);
            fixture_fill(next[j], SIZE, 3);
        }
        assert_int_equal(read(ends[0], bytes, sizeof(bytes)), sizeof(bytes));
        assert_memory_equal(bytes, range.iov_base, sizeof(bytes));
        assert_true(fixture_is_filled(p, SIZE, 1));
        close(ends[0]);
        close(ends[1]);
        berth__host_free(p);
        for (int j = 0; j < NEXT; j++)
            berth__host_free(next[j]);
    }
}

/* The same of a block that leaves a disk, when nobody writes. */
static void pages_of_a_disk_in_a_pipe_keep_their_bytes(void **state)
{
    unsigned char *p, *next[NEXT];
    unsigned char bytes[4 * PAGE];
    struct iovec range;
    int ends[2];

    (void)state;
    if (!fixture_disk())
        skip();
    fixture_policy("disk");
    p = fixture_get(SIZE);
    fixture_fill(p, SIZE, 1);
    range = (struct iovec){p + 16 * PAGE, sizeof(bytes)};
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(vmsplice(ends[1], &range, 1, 0), sizeof(bytes));
    assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, true), BERTH_MOVE_MOVED);
    for (int i = 0; i < NEXT; i++) {
        next[i] = fixture_get(SIZE);
        fixture_fill(next[i], SIZE, 3);
    }
    assert_int_equal(read(ends[0], bytes, sizeof(bytes)), sizeof(bytes));
    assert_memory_equal(bytes, range.iov_base, sizeof(bytes));
    close(ends[0]);
    close(ends[1]);
    berth__host_free(p);
    for (int i = 0; i < NEXT; i++)
        berth__host_free(next[i]);
    fixture_policy("dram");
}

/* Pages that are missing are the program's to give, and it gives none. */
static void what_the_program_watches_itself_stays(void **state)
{
    (void)state;
    fixture_needs_live();
    for (size_t i = 0; i < WAYS; i++) {
        unsigned char *p = get(&ways[i]);
        struct uffdio_api api = {.api = UFFD_API};
        struct uffdio_register request = {.range = {(uintptr_t)p, SIZE},
                                          .mode = UFFDIO_REGISTER_MODE_MISSING};
        int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

        assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
        assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &request), 0);
        assert_int_equal(madvise(p + PAGE, PAGE, ways[i].in_file ? MADV_REMOVE : MADV_DONTNEED), 0);
        assert_int_equal(move(&ways[i], p), BERTH_MOVE_WATCHED);
        close(fd);
        fixture_fill(p, SIZE, 4);
        assert_int_equal(move(&ways[i], p), BERTH_MOVE_MOVED);
        assert_true(fixture_is_filled(p, SIZE, 4));
        berth__host_free(p);
    }
}

/* A child of this process moves a block; what it exits with is the result. */
static int move_in_child(const struct way *way, void (*before)(void))
{
    unsigned char *p = get(way);
    pid_t child = fork();
    int status;

    if (child == 0) {
        before();
        _exit(move(way, p));
    }
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status))
        ptrace(PTRACE_CONT, child, NULL, NULL);
    berth__host_free(p);
    return status;
}

static void be_traced(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(BERTH_MOVE_RESULT_COUNT);
}

static void a_traced_process_is_let_alone(void **state)
{
    (void)state;
    fixture_needs_live();
    for (size_t i = 0; i < WAYS; i++) {
        int status;

        if (ways[i].in_file) /* of which a child that was forked like this has no copy */
            continue;
        status = move_in_child(&ways[i], be_traced);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == BERTH_MOVE_RESULT_COUNT)
            skip();
        assert_string_equal(berth__move_result_info[WEXITSTATUS(status)].code, "traced");
    }
}

/* At which call of the mover's the process ends, and how. */
static enum berth_move_call last_call;
static void (*end_process)(void);
static bool end_before_68;

static int end_at_call(enum berth_move_call call)
{
    if (call == last_call)
        end_process();
    return end_before_68 ? inject_old_kernel(call) : 0;
}

/* Threads that read and write the block wait for the mover; they end with the process. */
__attribute__((no_sanitize("thread"))) static void *use_block(void *context)
{
    volatile unsigned char *p = context;

    for (size_t i = 0;; i = (i + PAGE) % SIZE)
        p[i] = (unsigned char)(p[i + 1] + 1);
    return NULL;
}

static void end_while_moving(void)
{
    unsigned char *p = fixture_get(SIZE);
    pthread_t threads[4];

    memset(p, 1, SIZE);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, use_block, p);
    berth__move_inject = end_at_call;
    fixture_move(p, tier_shm, false);
    _exit(1); /* it never came to that call */
}

static void dump_core(void)
{
    abort();
}

static void leave_by_exit(void)
{
    exit(77);
}

static void be_killed(void)
{
    raise(SIGKILL);
}

/* The kernel looks at all of the sanitizers' terabytes before it has written a core file. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define CORE_PATTERN ""
#else
#define CORE_PATTERN "/proc/sys/kernel/core_pattern"
#endif

/* A folder for core files; "" where they go elsewhere, as to a program that collects them. */
static void make_folder(char *name, size_t size)
{
    int fd = open(CORE_PATTERN, O_RDONLY | O_CLOEXEC);
    char first = '|';

    if (fd >= 0 && read(fd, &first, 1) != 1)
        first = '|';
    if (fd >= 0)
        close(fd);
    snprintf(name, size, "%s/berth-core-XXXXXX", fixture_disk() ? fixture_disk() : "/tmp");
    if (first == '|' || first == '/' || !mkdtemp(name))
        name[0] = '\0';
}

static void remove_folder(const char *name)
{
    DIR *list = name[0] ? opendir(name) : NULL;
    struct dirent *entry;

    while (list && (entry = readdir(list)))
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(list), entry->d_name, 0);
    if (list)
        closedir(list);
    if (name[0])
        rmdir(name);
}

static pid_t start_process_that_ends(const char *folder)
{
    const struct rlimit limit = {folder[0] ? 16 * MIB : 0, folder[0] ? 16 * MIB : 0};
    pid_t child = fork();

    if (child != 0)
        return child;
    if (folder[0] && chdir(folder) < 0)
        _exit(1);
    setrlimit(RLIMIT_CORE, &limit);
    end_while_moving();
    return 0;
}

/* However a process ends while a block is on its way, it ends; a core file may be written. */
static void a_process_ends_amid_a_move(void **state)
{
    static const enum berth_move_call calls[] = {BERTH_CALL_READ, BERTH_CALL_UFFD_PROTECT,
                                                 BERTH_CALL_UFFD_TAKE, BERTH_CALL_UFFD_READ,
                                                 BERTH_CALL_SWAP};
    static void (*const ends[])(void) = {dump_core, leave_by_exit, be_killed};
    char folder[64];

    (void)state;
    fixture_needs_live();
    make_folder(folder, sizeof(folder));
    for (size_t i = 0; i < 2 * sizeof(calls) / sizeof(calls[0]); i++)
        for (size_t j = 0; j < sizeof(ends) / sizeof(ends[0]); j++) {
            pid_t child;
            int status;

            last_call = calls[i / 2];
            end_before_68 = i % 2;
            end_process = ends[j];
            if (last_call == (end_before_68 ? BERTH_CALL_UFFD_TAKE : BERTH_CALL_UFFD_PROTECT))
                continue;
            child = start_process_that_ends(folder);
            assert_int_equal(waitpid(child, &status, 0), child);
            assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 77);
        }
    remove_folder(folder);
}

/* What is freed keeps its pages, as it does by default. */
static int start(void **state)
{
    int r = fixture_start(state);

    berth__arena_set_decay(tier_shm, BERTH_DECAY_DEFAULT);
    return r;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_by_io_uring_arrives),
        cmocka_unit_test(a_read_into_registered_memory_arrives),
        cmocka_unit_test(what_is_written_by_proc_mem_is_there),
        cmocka_unit_test(what_is_written_by_process_vm_writev_is_there),
        cmocka_unit_test(what_a_disk_writes_is_there),
        cmocka_unit_test(io_without_a_descriptor_may_write_unseen),
        cmocka_unit_test(files_without_a_device_may_write_unseen),
        cmocka_unit_test(files_of_a_thread_with_its_own_table_are_seen),
        cmocka_unit_test(registered_memory_stays_at_quiescent_steps),
        cmocka_unit_test(pages_in_a_pipe_keep_their_bytes),
        cmocka_unit_test(pages_of_a_disk_in_a_pipe_keep_their_bytes),
        cmocka_unit_test(what_the_program_watches_itself_stays),
        cmocka_unit_test(a_traced_process_is_let_alone),
        cmocka_unit_test(a_process_ends_amid_a_move),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
