/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/trace_sink.h"

#include "alloc/file_call.h"
#include "alloc/types.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE_BYTES (BERTH_TRACE_PIECE * sizeof(struct berth_trace_record))
#define DIRECTORY_BYTES (BERTH_TRACE_PIECES_MAX * sizeof(_Atomic(struct berth_trace_record *)))
/* The lowest descriptor that is used: programs count on getting low ones themselves. */
#define DESCRIPTOR_MIN 100

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void header_init(struct berth_trace_header *header, uint64_t room)
{
    memcpy(header->magic, BERTH_TRACE_MAGIC, sizeof(BERTH_TRACE_MAGIC));
    header->header_size = BERTH_TRACE_HEADER_SIZE;
    header->record_size = sizeof(struct berth_trace_record);
    header->pid = (uint32_t)getpid();
    header->room = room;
    header->started_ns = clock_ns(CLOCK_MONOTONIC);
    header->started_real_ns = clock_ns(CLOCK_REALTIME);
}

/* The program may have closed the descriptor, and opened something else there. */
static bool is_own(const struct berth_trace_sink *sink)
{
    struct stat st;

    return berth__fstat(sink->fd, &st) == 0 && st.st_dev == sink->device &&
           st.st_ino == sink->inode;
}

/* Beyond the program's limit of file sizes a signal would come along with the error. */
static bool is_allowed(uint64_t end)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
           end <= limit.rlim_cur;
}

/*
 * Allocates and maps a part of the file. Where the filesystem cannot allocate, the C library reads
 * and writes, which are cancellation points: the lock that the caller has would stay taken.
 */
static int map_part(const struct berth_trace_sink *sink, uint64_t offset, size_t size, void **ret)
{
    void *part;
    int cancel_state, r;

    if (!is_own(sink))
        return -EBADF;
    if (!is_allowed(offset + size))
        return -EFBIG;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    do {
        r = posix_fallocate(sink->fd, (off_t)offset, (off_t)size);
    } while (r == EINTR);
    pthread_setcancelstate(cancel_state, NULL);
    if (r != 0)
        return -r;
    part = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, sink->fd, (off_t)offset);
    if (part == MAP_FAILED)
        return -errno;
    *ret = part;
    return 0;
}

int berth__trace_sink_ring(struct berth_trace_sink *sink, uint64_t records)
{
    size_t size = BERTH_TRACE_HEADER_SIZE + records * sizeof(struct berth_trace_record);
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return -errno;
    memset(sink, 0, sizeof(*sink));
    sink->fd = -1;
    sink->pid = getpid();
    sink->header = (struct berth_trace_header *)(void *)memory;
    sink->ring = (struct berth_trace_record *)(void *)(memory + BERTH_TRACE_HEADER_SIZE);
    sink->ring_room = records;
    header_init(sink->header, records);
    return 0;
}

uint64_t berth__trace_sink_take(struct berth_trace_sink *sink)
{
    return atomic_fetch_add_explicit(&sink->header->next, 1, memory_order_relaxed);
}

static void end(struct berth_trace_sink *sink, int error)
{
    sink->error = error;
    atomic_store_explicit(&sink->header->is_truncated, 1, memory_order_relaxed);
    atomic_store_explicit(&sink->ended, 1, memory_order_release);
}

/* Makes all pieces up to this one. */
static struct berth_trace_record *make_piece(struct berth_trace_sink *sink, uint64_t index)
{
    struct berth_trace_record *found;
    int r = 0;

    pthread_mutex_lock(&sink->lock);
    while (!sink->ended && sink->header->room <= index << BERTH_TRACE_PIECE_SHIFT) {
        uint64_t next = sink->header->room >> BERTH_TRACE_PIECE_SHIFT;
        void *part = NULL;

        r = map_part(sink, BERTH_TRACE_HEADER_SIZE + next * PIECE_BYTES, PIECE_BYTES, &part);
        if (r < 0) {
            end(sink, r);
            break;
        }
        atomic_store_explicit(&sink->piece[next], part, memory_order_release);
        sink->header->room = (next + 1) << BERTH_TRACE_PIECE_SHIFT;
    }
    found = atomic_load_explicit(&sink->piece[index], memory_order_relaxed);
    pthread_mutex_unlock(&sink->lock);
    return found;
}

int berth__trace_sink_open(struct berth_trace_sink *sink, int fd)
{
    void *directory, *header = NULL;
    struct stat st;
    int r;

    memset(sink, 0, sizeof(*sink));
    if (berth__fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size != 0)
        return -EINVAL;
    sink->fd = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR_MIN);
    if (sink->fd < 0 && (errno == EINVAL || errno == EMFILE))
        sink->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (sink->fd < 0)
        return -errno;
    /* Two processes that were told the same name: the lock stays with the open file. */
    if (flock(sink->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        r = -EINVAL;
        goto close;
    }
    sink->device = st.st_dev;
    sink->inode = st.st_ino;
    sink->pid = getpid();
    r = map_part(sink, 0, BERTH_TRACE_HEADER_SIZE, &header);
    if (r < 0)
        goto close;
    directory = mmap(NULL, DIRECTORY_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (directory == MAP_FAILED) {
        r = -errno;
        goto unmap;
    }
    sink->header = header;
    sink->piece = directory;
    pthread_mutex_init(&sink->lock, NULL);
    header_init(sink->header, 0);
    /* Whatever happens to the descriptor from now on, there is room for a beginning. */
    if (make_piece(sink, 0))
        return 0;
    r = sink->error;
    munmap(directory, DIRECTORY_BYTES);

unmap:
    munmap(header, BERTH_TRACE_HEADER_SIZE);
close:
    close(sink->fd);
    return r;
}

struct berth_trace_record *berth__trace_sink_place(struct berth_trace_sink *sink, uint64_t number)
{
    uint64_t index = number >> BERTH_TRACE_PIECE_SHIFT;
    struct berth_trace_record *piece;

    if (sink->ring)
        return &sink->ring[number % sink->ring_room];
    if (index >= BERTH_TRACE_PIECES_MAX) {
        end(sink, -EFBIG);
        return NULL;
    }
    piece = atomic_load_explicit(&sink->piece[index], memory_order_acquire);
    if (BERTH_UNLIKELY(!piece) && !atomic_load_explicit(&sink->ended, memory_order_acquire))
        piece = make_piece(sink, index);
    return piece ? &piece[number & (BERTH_TRACE_PIECE - 1)] : NULL;
}

/*
 * Puts memory of nobody's behind the addresses of a part of the file: a writer that is late writes
 * there, and the file can go.
 */
static void detach(void *part, size_t size)
{
    mmap(part, size, PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

void berth__trace_sink_close(struct berth_trace_sink *sink, uint64_t *ret_records,
                             bool *ret_truncated)
{
    uint64_t pieces;

    pthread_mutex_lock(&sink->lock);
    if (!sink->ended)
        atomic_store_explicit(&sink->ended, 1, memory_order_release);
    *ret_records = sink->header->next;
    if (*ret_records > sink->header->room)
        sink->header->is_truncated = 1;
    *ret_truncated = sink->header->is_truncated;
    if (is_own(sink))
        close(sink->fd);
    sink->fd = -1;
    pieces = sink->header->room >> BERTH_TRACE_PIECE_SHIFT;
    for (uint64_t i = 0; i < pieces; i++)
        detach(atomic_load_explicit(&sink->piece[i], memory_order_relaxed), PIECE_BYTES);
    detach(sink->header, BERTH_TRACE_HEADER_SIZE);
    pthread_mutex_unlock(&sink->lock);
}
