/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/move_live.h"

#include "pmem/mapping.h"
#include "pmem/move_fault.h"
#include "pmem/pin_source.h"
#include "pmem/window.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* So much is copied before it is looked who waits. */
#define CHUNK ((size_t)256 << 10)
/* What a writer is let go on at once: writers go on to the next page soon. */
#define PIECE_SHIFT 16 /* 64 KiB */
#define PIECE ((size_t)1 << PIECE_SHIFT)
#define WORD_BITS (8 * sizeof(unsigned long))
/* So much is copied while writers wait; more of it is tried to be copied before, this many times.
 */
#define LAST_MAX ((size_t)4 << 20)
#define ROUNDS_MAX 16
/* One part in so many. */
#define LOOK_SHARE 20
/* A page that a forked child shares becomes the block's own when it is read anew. */
#define TAKES_MAX 3

/* Where a filter of system calls, as that of a container, forbids process_vm_readv(). */
static ssize_t read_by_file(void *to, const void *from, size_t size)
{
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -1;
    n = pread(fd, to, size, (off_t)(uintptr_t)from);
    if (n < 0 && errno == EIO)
        errno = EFAULT;
    close(fd);
    return n;
}

int berth__move_read(void *to, const void *from, size_t size)
{
    int r = berth__move_fault(BERTH_CALL_READ);

    while (r == 0 && size > 0) {
        struct iovec local = {to, size};
        struct iovec remote = {(void *)from, size};
        ssize_t n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

        if (n < 0 && (errno == EPERM || errno == ENOSYS))
            n = read_by_file(to, from, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EFAULT;
        to = (char *)to + n;
        from = (const char *)from + n;
        size -= (size_t)n;
    }
    return r;
}

static enum berth_move_result system_failed(struct berth_mover *mover, const char *call, int error)
{
    snprintf(mover->why, sizeof(mover->why), "%s: %s", call, strerrordesc_np(-error));
    return BERTH_MOVE_SYSTEM;
}

/* A part that cannot be read is one that the program has mapped otherwise. */
static enum berth_move_result read_failed(struct berth_mover *mover, int error)
{
    return error == -EFAULT ? BERTH_MOVE_MAPPING : system_failed(mover, "process_vm_readv", error);
}

static bool is_cancelled(const struct berth_mover *mover)
{
    return mover->is_cancelled && mover->is_cancelled(mover->context);
}

/* Whether I/O may write to the block where it was, whoever is held back. */
static enum berth_move_result check_pins(struct berth_mover *mover, const void *from, size_t size,
                                         enum berth_pins pins)
{
    int r = berth__pin_source_find(mover->thread, from, size, pins, mover->why, sizeof(mover->why));

    if (r < 0)
        return system_failed(mover, "/proc/self/task", r);
    return r > 0 ? BERTH_MOVE_PINNED : BERTH_MOVE_MOVED;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* The same for I/O that has no descriptor. To look for it may take long, and has LOOK_SHARE of the
 * time: in between, what was found last counts. */
static enum berth_move_result check_mapped_pins(struct berth_mover *mover)
{
    struct berth_mover_look *look = &mover->look;
    int64_t start = now_ns();
    int r = 0;

    if (look->end_ns == 0 || start - look->end_ns >= look->took_ns * LOOK_SHARE) {
        look->found = NULL;
        r = berth__pin_source_find_mapped(&look->found);
        look->end_ns = now_ns();
        look->took_ns = look->end_ns - start;
    }
    if (r < 0)
        return system_failed(mover, "/proc/self/maps", r);
    if (!look->found)
        return BERTH_MOVE_MOVED;
    snprintf(mover->why, sizeof(mover->why), "%s", look->found);
    return BERTH_MOVE_PINNED;
}

static void tell_copied(const struct berth_mover *mover, size_t bytes)
{
    if (mover->copied)
        atomic_store_explicit(mover->copied, bytes, memory_order_relaxed);
}

static enum berth_move_result copy_plain(struct berth_mover *mover, void *to, const void *from,
                                         size_t size)
{
    for (size_t done = 0; done < size; done += CHUNK) {
        size_t now = size - done < CHUNK ? size - done : CHUNK;
        int r = berth__move_read((char *)to + done, (const char *)from + done, now);

        if (r < 0)
            return read_failed(mover, r);
        tell_copied(mover, done + now);
        if (is_cancelled(mover))
            return BERTH_MOVE_CANCELLED;
    }
    return BERTH_MOVE_MOVED;
}

enum berth_move_result berth__move_copy_quiet(struct berth_mover *mover, void *to, const void *from,
                                              size_t size)
{
    enum berth_move_result result = check_pins(mover, from, size, BERTH_PINS_REGISTERED);

    return result == BERTH_MOVE_MOVED ? copy_plain(mover, to, from, size) : result;
}

/* A child that is forked from here on would find a block that is not whole, or writers that wait
 * for a mover whom it has not; and a thread that forks may itself need a page that was taken. */
static void hold_forks(struct berth_move_live *live)
{
    if (!live->holds_forks)
        berth__move_hold_for_fork();
    live->holds_forks = true;
}

static void let_forks_go(struct berth_move_live *live)
{
    if (live->holds_forks)
        berth__move_after_fork(false);
    live->holds_forks = false;
}

/* Whether what is told is of this block; the descriptor may have been another one's before. */
static bool is_of_block(const struct berth_move_live *live, const struct berth_uffd_where *where)
{
    uintptr_t base = (uintptr_t)live->from;

    return where->start < base + live->size && where->end > base;
}

/*
 * Reads what is told, so that whoever gives pages back goes on. Of the pages that were taken out
 * those are made zero: the kernel empties the block itself, but they may come back later. Whether
 * there were any.
 */
static bool was_emptied(struct berth_move_live *live)
{
    uintptr_t base = (uintptr_t)live->from;
    struct berth_uffd_where where;
    bool some = false;
    int event;

    while ((event = berth__uffd_read(&live->uffd, &where)) > BERTH_UFFD_NOTHING) {
        if (event != BERTH_UFFD_REMOVED || !is_of_block(live, &where))
            continue;
        some = true;
        if (where.start < base)
            where.start = base;
        if (where.end > base + live->size)
            where.end = base + live->size;
        if (where.start < where.end)
            memset(live->parked + (where.start - base), 0, where.end - where.start);
    }
    return some || event < 0;
}

/* Puts the pages that were taken out back into the block, where everybody waits for them. */
static void put_back(struct berth_move_live *live, size_t size)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    size_t start = 0;

    while (start < size) {
        size_t done;
        int r = berth__uffd_take_pages(&live->uffd, live->from + start, live->parked + start,
                                       size - start, &done);

        start += done;
        if (r == 0 || start >= size || (r == -EAGAIN && was_emptied(live)))
            continue;
        /* One page as a copy; when there is no memory for it now, there will be. */
        struct uffdio_copy copy = {.dst = (uintptr_t)live->from + start,
                                   .src = (uintptr_t)live->parked + start,
                                   .len = BERTH_OS_PAGE};

        if (ioctl(live->uffd.fd, UFFDIO_COPY, &copy) == 0 || errno == EEXIST) {
            start += BERTH_OS_PAGE;
        } else if (errno == ENOMEM || errno == EAGAIN) {
            nanosleep(&pause, NULL);
        } else { /* the descriptor is gone, and nobody waits */
            memcpy(live->from + start, live->parked + start, BERTH_OS_PAGE);
            start += BERTH_OS_PAGE;
        }
    }
}

static void unpark(struct berth_move_live *live)
{
    if (!live->parked)
        return;
    berth__uffd_unwatch(&live->uffd, live->parked, live->size);
    munmap(live->parked, live->size);
    live->parked = NULL;
}

static enum berth_move_result map_park(struct berth_move_live *live)
{
    int r = berth__move_fault(BERTH_CALL_SCRATCH);
    void *p = MAP_FAILED;

    if (r == 0) {
        p = mmap(NULL, live->size, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        r = p == MAP_FAILED ? -errno : 0;
    }
    if (r < 0)
        return system_failed(live->mover, "mmap", r);
    r = berth__uffd_watch(&live->uffd, p, live->size, BERTH_UFFD_FOR_WRITES);
    if (r < 0) {
        munmap(p, live->size);
        return system_failed(live->mover, "UFFDIO_REGISTER", r);
    }
    live->parked = p;
    return BERTH_MOVE_MOVED;
}

static enum berth_move_result watch(struct berth_move_live *live, int mode)
{
    int r = berth__uffd_watch(&live->uffd, live->from, live->size, mode);

    if (r == -EBUSY || r == -ENOSPC)
        return BERTH_MOVE_WATCHED;
    if (r < 0)
        return system_failed(live->mover, "UFFDIO_REGISTER", r);
    live->is_watched = true;
    return BERTH_MOVE_MOVED;
}

static void unwatch(struct berth_move_live *live)
{
    if (live->is_watched)
        berth__uffd_unwatch(&live->uffd, live->from, live->size);
    live->is_watched = false;
}

/* One attempt to take all pages out. Undone, unless it is MOVED. */
static enum berth_move_result take_once(struct berth_move_live *live)
{
    enum berth_move_result result = map_park(live);
    size_t done = 0;
    int r;

    if (result != BERTH_MOVE_MOVED)
        return result;
    result = watch(live, BERTH_UFFD_FOR_MISSING);
    if (result != BERTH_MOVE_MOVED) {
        unpark(live);
        return result;
    }
    hold_forks(live);
    r = berth__uffd_take_pages(&live->uffd, live->parked, live->from, live->size, &done);
    if (was_emptied(live) && r == 0)
        r = -EAGAIN;
    if (r == 0)
        return BERTH_MOVE_MOVED;
    put_back(live, done);
    unwatch(live);
    unpark(live);
    let_forks_go(live);
    if (r == -EAGAIN)
        return BERTH_MOVE_BUSY;
    /* The kernel's word for pages of a mapping that is protected, or locked, by now. */
    if (r == -EINVAL && berth__mapping_check(live->from, live->size, false) < 0)
        return BERTH_MOVE_MAPPING;
    return r == -EBUSY ? BERTH_MOVE_PINNED : system_failed(live->mover, "UFFDIO_MOVE", r);
}

/*
 * Who writes to a page by ptrace() or /proc/PID/mem looks it up and then writes to it, whatever its
 * protection is by then; the kernel lets nobody change what is mapped meanwhile. After this, it has
 * written, or will find the page protected.
 */
static void wait_for_remote_writers(void)
{
    void *p = mmap(NULL, BERTH_OS_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p != MAP_FAILED)
        munmap(p, BERTH_OS_PAGE);
}

/* Brings what has changed since the copy. */
static void copy_differences(struct berth_move_live *live)
{
    for (size_t i = 0; i < live->size; i += BERTH_OS_PAGE)
        if (memcmp(live->to + i, live->parked + i, BERTH_OS_PAGE) != 0)
            memcpy(live->to + i, live->parked + i, BERTH_OS_PAGE);
}

static enum berth_move_result copy_and_take(struct berth_move_live *live)
{
    enum berth_move_result result = BERTH_MOVE_BUSY;

    for (int i = 0; i < TAKES_MAX && (result == BERTH_MOVE_BUSY || result == BERTH_MOVE_PINNED);
         i++) {
        result = copy_plain(live->mover, live->to, live->from, live->size);
        if (result == BERTH_MOVE_MOVED)
            result = take_once(live);
    }
    if (result == BERTH_MOVE_MOVED)
        result = check_pins(live->mover, live->from, live->size, BERTH_PINS_UNSEEN);
    if (result == BERTH_MOVE_MOVED) {
        wait_for_remote_writers();
        copy_differences(live);
    }
    return result;
}

/* The program gives pages back this very moment: then it goes on using the block as it is. */
static enum berth_move_result protect_failed(struct berth_move_live *live, int error)
{
    return error == -EAGAIN ? BERTH_MOVE_BUSY
                            : system_failed(live->mover, "UFFDIO_WRITEPROTECT", error);
}

static size_t piece_count(const struct berth_move_live *live)
{
    return (live->size + PIECE - 1) >> PIECE_SHIFT;
}

static size_t dirty_bytes(const struct berth_move_live *live)
{
    return (piece_count(live) + WORD_BITS - 1) / WORD_BITS * sizeof(unsigned long);
}

static size_t piece_size(const struct berth_move_live *live, size_t piece)
{
    size_t left = live->size - (piece << PIECE_SHIFT);

    return left < PIECE ? left : PIECE;
}

static bool is_dirty(const struct berth_move_live *live, size_t piece)
{
    return live->dirty[piece / WORD_BITS] >> piece % WORD_BITS & 1;
}

static size_t count_dirty(const struct berth_move_live *live)
{
    size_t count = 0;

    for (size_t i = 0; i < dirty_bytes(live) / sizeof(unsigned long); i++)
        count += (size_t)__builtin_popcountl(live->dirty[i]);
    return count;
}

/* Lets the writers go who wait, each on the piece that it writes to. */
static enum berth_move_result answer_writers(struct berth_move_live *live)
{
    for (;;) {
        struct berth_uffd_where where;
        int event = berth__uffd_read(&live->uffd, &where);
        size_t piece;
        int r;

        if (event == BERTH_UFFD_NOTHING)
            return BERTH_MOVE_MOVED;
        if (event < 0)
            return system_failed(live->mover, "userfaultfd", event);
        if (event == BERTH_UFFD_OTHER || !is_of_block(live, &where))
            continue;
        if (event == BERTH_UFFD_REMOVED)
            return BERTH_MOVE_BUSY;
        piece = (where.start - (uintptr_t)live->from) >> PIECE_SHIFT;
        live->dirty[piece / WORD_BITS] |= 1ul << piece % WORD_BITS;
        r = berth__uffd_protect(&live->uffd, live->from + (piece << PIECE_SHIFT),
                                piece_size(live, piece), false);
        if (r < 0)
            return protect_failed(live, r);
    }
}

static enum berth_move_result copy_piece(struct berth_move_live *live, size_t piece)
{
    size_t offset = piece << PIECE_SHIFT;
    int r = berth__move_read(live->to + offset, live->from + offset, piece_size(live, piece));

    return r < 0 ? read_failed(live->mover, r) : BERTH_MOVE_MOVED;
}

/* The first pass: all of it. */
static enum berth_move_result copy_all(struct berth_move_live *live)
{
    enum berth_move_result result = BERTH_MOVE_MOVED;
    size_t count = piece_count(live);

    for (size_t piece = 0; piece < count && result == BERTH_MOVE_MOVED; piece++) {
        result = copy_piece(live, piece);
        tell_copied(live->mover, (piece << PIECE_SHIFT) + piece_size(live, piece));
        if (result == BERTH_MOVE_MOVED && piece % (CHUNK / PIECE) == 0)
            result = answer_writers(live);
        if (result == BERTH_MOVE_MOVED && is_cancelled(live->mover))
            result = BERTH_MOVE_CANCELLED;
    }
    return result;
}

static enum berth_move_result protect_piece(struct berth_move_live *live, size_t piece)
{
    int r = berth__uffd_protect(&live->uffd, live->from + (piece << PIECE_SHIFT),
                                piece_size(live, piece), true);

    return r < 0 ? protect_failed(live, r) : BERTH_MOVE_MOVED;
}

/* Copies again what was written to meanwhile; who waits is let go. */
static enum berth_move_result copy_dirty(struct berth_move_live *live)
{
    enum berth_move_result result = BERTH_MOVE_MOVED;
    size_t count = piece_count(live);

    for (size_t piece = 0; piece < count && result == BERTH_MOVE_MOVED; piece++) {
        if (!is_dirty(live, piece))
            continue;
        result = protect_piece(live, piece);
        if (result != BERTH_MOVE_MOVED)
            break;
        live->dirty[piece / WORD_BITS] &= ~(1ul << piece % WORD_BITS);
        result = copy_piece(live, piece);
        if (result == BERTH_MOVE_MOVED)
            result = answer_writers(live);
    }
    return result;
}

/* The same for the last time: nobody is let go any more. */
static enum berth_move_result copy_last(struct berth_move_live *live)
{
    enum berth_move_result result = BERTH_MOVE_MOVED;
    size_t count = piece_count(live);

    for (size_t piece = 0; piece < count && result == BERTH_MOVE_MOVED; piece++)
        if (is_dirty(live, piece))
            result = protect_piece(live, piece);
    wait_for_remote_writers();
    for (size_t piece = 0; piece < count && result == BERTH_MOVE_MOVED; piece++)
        if (is_dirty(live, piece))
            result = copy_piece(live, piece);
    return result;
}

/*
 * Pages that were never touched cannot be protected in ordinary memory before Linux 6.4: a read
 * makes the kernel enter one.
 */
static enum berth_move_result touch_all(struct berth_move_live *live)
{
#ifdef MADV_POPULATE_READ
    if (madvise(live->from, live->size, MADV_POPULATE_READ) == 0)
        return BERTH_MOVE_MOVED;
#endif
    return copy_plain(live->mover, live->to, live->from, live->size);
}

static enum berth_move_result protect_all(struct berth_move_live *live, bool is_shared)
{
    enum berth_move_result result = BERTH_MOVE_MOVED;
    int r;

    if (!is_shared && !live->uffd.untouched)
        result = touch_all(live);
    if (result == BERTH_MOVE_MOVED)
        result = watch(live, BERTH_UFFD_FOR_WRITES);
    if (result != BERTH_MOVE_MOVED)
        return result;
    r = berth__uffd_protect(&live->uffd, live->from, live->size, true);
    wait_for_remote_writers();
    return r < 0 ? protect_failed(live, r) : BERTH_MOVE_MOVED;
}

static enum berth_move_result copy_rounds(struct berth_move_live *live)
{
    enum berth_move_result result = copy_all(live);
    struct berth_uffd_where where;

    for (int i = 0; i < ROUNDS_MAX && result == BERTH_MOVE_MOVED; i++) {
        result = answer_writers(live);
        if (count_dirty(live) << PIECE_SHIFT <= LAST_MAX)
            break;
        if (result == BERTH_MOVE_MOVED)
            result = copy_dirty(live);
    }
    /* From here on nobody is let go. */
    hold_forks(live);
    if (result == BERTH_MOVE_MOVED)
        result = copy_last(live);
    /* What is read now is of writers who wait; that pages were given back is told, too. */
    while (result == BERTH_MOVE_MOVED) {
        int event = berth__uffd_read(&live->uffd, &where);

        if (event == BERTH_UFFD_NOTHING)
            break;
        if (event == BERTH_UFFD_REMOVED && is_of_block(live, &where))
            result = BERTH_MOVE_BUSY;
        else if (event < 0)
            result = system_failed(live->mover, "userfaultfd", event);
    }
    return result;
}

static enum berth_move_result copy_protected(struct berth_move_live *live, bool is_shared)
{
    enum berth_move_result result;
    void *dirty =
        mmap(NULL, dirty_bytes(live), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (dirty == MAP_FAILED)
        return system_failed(live->mover, "mmap", -errno);
    live->dirty = dirty;
    /* Once before all is copied in vain, and again when nothing new can be held any more. */
    result = check_pins(live->mover, live->from, live->size, BERTH_PINS_ALL);
    if (result == BERTH_MOVE_MOVED)
        result = check_mapped_pins(live->mover);
    if (result == BERTH_MOVE_MOVED)
        result = protect_all(live, is_shared);
    if (result == BERTH_MOVE_MOVED)
        result = copy_rounds(live);
    if (result == BERTH_MOVE_MOVED)
        result = check_pins(live->mover, live->from, live->size, BERTH_PINS_ALL);
    if (result == BERTH_MOVE_MOVED)
        result = check_mapped_pins(live->mover);
    munmap(dirty, dirty_bytes(live));
    live->dirty = NULL;
    return result;
}

/* The descriptor may be the program's to close: what it holds back is then held no more. */
static enum berth_move_result check_still_held(struct berth_move_live *live)
{
    int r;

    if (live->parked)
        return BERTH_MOVE_MOVED;
    r = berth__uffd_protect(&live->uffd, live->from, live->size, true);
    return r < 0 ? protect_failed(live, r) : BERTH_MOVE_MOVED;
}

/*
 * A tracer that stops this thread at its system calls and reads, meanwhile, memory that is taken
 * out waits for this thread, which waits for the tracer. And a debugger that stops all threads
 * would find memory that it can neither read nor write.
 */
static bool is_traced(void)
{
    static const char name[] = "TracerPid:";
    int fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
    char text[1024];
    const char *line;
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    line = strstr(text, name);
    return line && strtol(line + sizeof(name) - 1, NULL, 10) != 0;
}

/* Opens what holds writers back, unless it is open. */
static enum berth_move_result open_watch(struct berth_move_live *live)
{
    struct berth_uffd *kept = live->mover->kept;
    int r;

    live->uffd.fd = -1;
    if (is_traced())
        return BERTH_MOVE_TRACED;
    if (kept && kept->fd >= 0) {
        live->uffd = *kept;
        return BERTH_MOVE_MOVED;
    }
    r = berth__uffd_open(&live->uffd, live->mover->why, sizeof(live->mover->why));
    if (r == -EPERM)
        return BERTH_MOVE_PRIVILEGE;
    if (r == -ENOSYS || r == -ENOTSUP)
        return BERTH_MOVE_KERNEL;
    if (r < 0)
        return BERTH_MOVE_SYSTEM;
    if (kept)
        *kept = live->uffd;
    return BERTH_MOVE_MOVED;
}

/* Nobody may be left who waits until what happened to the block is read. */
static void close_watch(struct berth_move_live *live)
{
    struct berth_uffd *kept = live->mover->kept;
    struct berth_uffd_where where;
    int event = -EBADF;

    if (kept)
        while ((event = berth__uffd_read(&live->uffd, &where)) > BERTH_UFFD_NOTHING)
            ;
    if (event == BERTH_UFFD_NOTHING)
        return;
    berth__uffd_close(&live->uffd);
    if (kept)
        kept->fd = -1;
}

/* What the program watches by a userfaultfd of its own may have pages that nobody can read before
 * it gives them. */
static enum berth_move_result check_watched(struct berth_move_live *live)
{
    enum berth_move_result result = watch(live, BERTH_UFFD_FOR_WRITES);

    unwatch(live);
    return result;
}

enum berth_move_result berth__move_live_copy(struct berth_move_live *live, bool is_shared)
{
    enum berth_move_result result = open_watch(live);

    live->is_watched = false;
    live->holds_forks = false;
    live->parked = NULL;
    live->dirty = NULL;
    if (result != BERTH_MOVE_MOVED)
        return result;
    if (is_shared && !live->uffd.shared_memory)
        result = BERTH_MOVE_KERNEL;
    else
        result = check_watched(live);
    if (result == BERTH_MOVE_MOVED)
        result = !is_shared && live->uffd.takes_pages ? copy_and_take(live)
                                                      : copy_protected(live, is_shared);
    if (result == BERTH_MOVE_MOVED)
        result = check_still_held(live);
    if (result != BERTH_MOVE_MOVED)
        berth__move_live_end(live, false);
    return result;
}

void berth__move_live_end(struct berth_move_live *live, bool swapped)
{
    if (live->parked && !swapped)
        put_back(live, live->size);
    unwatch(live);
    unpark(live);
    let_forks_go(live);
    close_watch(live);
}
