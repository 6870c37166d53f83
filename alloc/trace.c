/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/trace.h"

#include "alloc/log.h"
#include "alloc/options.h"
#include "alloc/site.h"
#include "alloc/thread.h"
#include "alloc/trace_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NO_NUMBER UINT64_MAX
#define SEEN_WORDS (BERTH_SITE_MAX / 64)

_Atomic unsigned berth__trace_state;

/*
 * A trace to a file. Made by berth__trace_start() and never freed, because a writer may be late;
 * there are as many in a process as it was traced times.
 */
struct trace_file {
    struct berth_trace_sink sink;
    _Atomic uint64_t seen[SEEN_WORDS]; /* sites whose name was written */
};

static _Atomic(struct trace_file *) current_file;
static struct berth_trace_sink history;
static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;
static char wanted_path[PATH_MAX];

/* The kernel's id of this thread; 0 = not asked yet. */
static __thread uint32_t own_thread __attribute__((tls_model("initial-exec")));

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint32_t thread_id(void)
{
    if (BERTH_UNLIKELY(own_thread == 0))
        own_thread = (uint32_t)gettid();
    return own_thread;
}

void berth__trace_take(struct berth_trace_place *ret)
{
    unsigned state = atomic_load_explicit(&berth__trace_state, memory_order_acquire);
    struct trace_file *file = atomic_load_explicit(&current_file, memory_order_acquire);
    pid_t self = getpid();

    ret->trace = NULL;
    ret->file = NO_NUMBER;
    ret->history = NO_NUMBER;
    ret->time_ns = now_ns();
    if ((state & BERTH_TRACE_TO_FILE) && file && file->sink.pid == self) {
        ret->trace = file;
        ret->file = berth__trace_sink_take(&file->sink);
    }
    if ((state & BERTH_TRACE_TO_HISTORY) && history.pid == self)
        ret->history = berth__trace_sink_take(&history);
}

#define RECORD_WORDS (sizeof(struct berth_trace_record) / sizeof(uint64_t))

/* A piece of a record, whatever its fields are. */
typedef uint64_t __attribute__((may_alias)) record_word;

/*
 * A record is read by others while it is written: all but the stamp, word by word. Which of the
 * words belong together the stamps tell. The orders are those of a fence between the stamp and the
 * words, which ThreadSanitizer would not see: a mark on the stamp comes before every word stored
 * after it, and the stamp that is looked at last comes after every word loaded before.
 */
static void copy_words(struct berth_trace_record *to, const struct berth_trace_record *from)
{
    record_word *target = (record_word *)to;
    const record_word *source = (const record_word *)from;

    for (size_t i = 1; i < RECORD_WORDS; i++)
        __atomic_store_n(&target[i], __atomic_load_n(&source[i], __ATOMIC_ACQUIRE),
                         __ATOMIC_RELEASE);
}

static void fill(struct berth_trace_record *record, uint64_t number, uint64_t time_ns,
                 const struct berth_trace_call *call)
{
    const struct berth_trace_record fresh = {
        .time_ns = time_ns,
        .address = call->address,
        .requested = call->requested,
        .held = call->held,
        .stream = call->stream,
        .site = call->site,
        .thread = thread_id(),
        .device = (uint16_t)call->device,
        .action = (uint8_t)call->action,
        .tag = (uint8_t)call->tag,
        .kind = (uint8_t)call->kind,
    };

    copy_words(record, &fresh);
    atomic_store_explicit(&record->stamp, number + 1, memory_order_release);
}

#define STAMP_BUSY ((uint64_t)1 << 63)

/*
 * A place of the ring has one writer at a time, who has put a mark on the stamp. Who comes while
 * another is at it, or after a newer record, was overtaken by the whole ring: his record is lost.
 */
static void fill_ring(uint64_t number, uint64_t time_ns, const struct berth_trace_call *call)
{
    struct berth_trace_record *record = berth__trace_sink_place(&history, number);
    uint64_t stamp = atomic_load_explicit(&record->stamp, memory_order_relaxed);

    if ((stamp & STAMP_BUSY) || stamp > number ||
        !atomic_compare_exchange_strong_explicit(&record->stamp, &stamp, STAMP_BUSY,
                                                 memory_order_acquire, memory_order_relaxed))
        return;
    fill(record, number, time_ns, call);
}

/* No further record fits: said once per trace, and it is over. */
static void say_ended(struct trace_file *file)
{
    unsigned before;

    /* One that was stopped meanwhile has been told of. */
    if (atomic_load(&current_file) != file || file->sink.fd < 0)
        return;
    before = atomic_fetch_and(&berth__trace_state, ~(unsigned)BERTH_TRACE_TO_FILE);
    if (before & BERTH_TRACE_TO_FILE)
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_POOL,
                   "the trace ends here: its file cannot grow: %s",
                   strerrordesc_np(-file->sink.error));
}

/* A piece of a site's name, at its place in the name. */
static void write_text(struct trace_file *file, berth_site_id site, size_t at, const char *text,
                       size_t length)
{
    uint64_t number = berth__trace_sink_take(&file->sink);
    struct berth_trace_record *record = berth__trace_sink_place(&file->sink, number);

    if (!record)
        return;
    record->address = at;
    memcpy(record->text, text, length);
    record->site = site;
    record->action = BERTH_TRACE_SITE;
    atomic_store_explicit(&record->stamp, number + 1, memory_order_release);
}

/* Text on its way into records, as many as it takes. */
struct name_writer {
    struct trace_file *file;
    berth_site_id site;
    size_t at; /* of `text` in the name */
    size_t length;
    char text[BERTH_TRACE_TEXT];
};

static void put(struct name_writer *writer, const char *text)
{
    for (; *text; text++) {
        if (writer->length == sizeof(writer->text)) {
            write_text(writer->file, writer->site, writer->at, writer->text, writer->length);
            writer->at += writer->length;
            writer->length = 0;
        }
        writer->text[writer->length++] = *text;
    }
}

/* The name as berth__site_text() makes it, without room for all of it on the stack. */
static void write_name(struct trace_file *file, berth_site_id site)
{
    struct name_writer writer = {.file = file, .site = site};
    struct berth_site_frame frame;
    char offset[32];

    for (unsigned i = 0; berth__site_frame(site, i, &frame) == 0; i++) {
        if (i > 0)
            put(&writer, ">");
        put(&writer, frame.module);
        if (frame.symbol) {
            put(&writer, "!");
            put(&writer, frame.symbol);
        }
        snprintf(offset, sizeof(offset), "+0x%llx", (unsigned long long)frame.offset);
        put(&writer, offset);
    }
    if (writer.length > 0)
        write_text(file, site, writer.at, writer.text, writer.length);
}

static void name_once(struct trace_file *file, berth_site_id site)
{
    uint64_t bit = (uint64_t)1 << site % 64;

    if (site == 0 || site >= BERTH_SITE_MAX ||
        (atomic_fetch_or_explicit(&file->seen[site / 64], bit, memory_order_relaxed) & bit))
        return;
    berth__thread.inside++;
    write_name(file, site);
    berth__thread.inside--;
}

void berth__trace_write(const struct berth_trace_place *place, const struct berth_trace_call *call)
{
    struct trace_file *file = place->trace;
    struct berth_trace_record *record;
    int saved_errno = errno;

    if (place->history != NO_NUMBER)
        fill_ring(place->history, place->time_ns, call);
    if (file) {
        record = berth__trace_sink_place(&file->sink, place->file);
        if (BERTH_LIKELY(record != NULL)) {
            fill(record, place->file, place->time_ns, call);
            name_once(file, call->site);
        } else {
            say_ended(file);
        }
    }
    errno = saved_errno;
}

void berth__trace_record(const struct berth_trace_call *call)
{
    struct berth_trace_place place;

    berth__trace_take(&place);
    berth__trace_write(&place, call);
}

static int start(int fd, bool with_paths)
{
    struct trace_file *file = mmap(NULL, sizeof(*file), PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int r;

    if (file == MAP_FAILED)
        return -errno;
    r = berth__trace_sink_open(&file->sink, fd);
    if (r < 0) {
        munmap(file, sizeof(*file));
        return r;
    }
    atomic_store_explicit(&current_file, file, memory_order_release);
    atomic_fetch_or(&berth__trace_state,
                    BERTH_TRACE_TO_FILE | (with_paths ? BERTH_TRACE_PATHS : 0));
    berth__trace_existing();
    return 0;
}

int berth__trace_start(int fd, bool with_paths, char *why, size_t why_size)
{
    int r = -EBUSY;

    pthread_mutex_lock(&start_lock);
    if (!(atomic_load(&berth__trace_state) & BERTH_TRACE_TO_FILE))
        r = start(fd, with_paths);
    pthread_mutex_unlock(&start_lock);
    if (r == -EBUSY)
        snprintf(why, why_size, "a trace is going on already");
    else if (r == -EINVAL)
        snprintf(why, why_size, "the descriptor is of no empty regular file");
    else if (r < 0)
        snprintf(why, why_size, "the trace's file cannot be used: %s", strerrordesc_np(-r));
    return r;
}

int berth__trace_stop(uint64_t *ret_records, bool *ret_truncated)
{
    struct trace_file *file;
    int r = -ENOENT;

    pthread_mutex_lock(&start_lock);
    file = atomic_load(&current_file);
    if (file && file->sink.pid == getpid() && file->sink.fd >= 0) {
        unsigned keep = atomic_load(&berth__trace_state) & BERTH_TRACE_TO_HISTORY &&
                                berth__option(BERTH_OPTION_TRACE_PATHS)
                            ? BERTH_TRACE_PATHS
                            : 0;

        atomic_fetch_and(&berth__trace_state, BERTH_TRACE_TO_HISTORY | keep);
        berth__trace_sink_close(&file->sink, ret_records, ret_truncated);
        r = 0;
    }
    pthread_mutex_unlock(&start_lock);
    return r;
}

uint64_t berth__trace_count(void)
{
    const struct trace_file *file = atomic_load(&current_file);

    return file && (atomic_load(&berth__trace_state) & BERTH_TRACE_TO_FILE)
               ? file->sink.header->next
               : 0;
}

int berth__trace_keep_history(uint64_t records)
{
    int r = 0;

    pthread_mutex_lock(&start_lock);
    if (records > 0 && !(atomic_load(&berth__trace_state) & BERTH_TRACE_TO_HISTORY)) {
        r = berth__trace_sink_ring(&history, records);
        if (r == 0)
            atomic_fetch_or(&berth__trace_state,
                            BERTH_TRACE_TO_HISTORY |
                                (berth__option(BERTH_OPTION_TRACE_PATHS) ? BERTH_TRACE_PATHS : 0));
    }
    pthread_mutex_unlock(&start_lock);
    return r;
}

size_t berth__trace_history_room(void)
{
    return (atomic_load(&berth__trace_state) & BERTH_TRACE_TO_HISTORY) && history.pid == getpid()
               ? history.ring_room
               : 0;
}

size_t berth__trace_history(struct berth_trace_record *ret, size_t most)
{
    uint64_t room = berth__trace_history_room();
    uint64_t next =
        room > 0 ? atomic_load_explicit(&history.header->next, memory_order_acquire) : 0;
    uint64_t count = next < room ? next : room;
    size_t copied = 0;

    if (count > most)
        count = most;
    for (uint64_t number = next - count; number < next; number++) {
        const struct berth_trace_record *record = &history.ring[number % room];

        if (atomic_load_explicit(&record->stamp, memory_order_acquire) != number + 1)
            continue;
        copy_words(&ret[copied], record);
        if (atomic_load_explicit(&record->stamp, memory_order_relaxed) != number + 1)
            continue;
        atomic_store_explicit(&ret[copied++].stamp, number + 1, memory_order_relaxed);
    }
    return copied;
}

void berth__trace_want(const char *path)
{
    if (path && *path && strlen(path) < sizeof(wanted_path))
        strcpy(wanted_path, path);
}

bool berth__trace_is_wanted(void)
{
    return wanted_path[0] != '\0';
}

/*
 * The file is made by whoever set BERTH_TRACE, and empty: the first process that uses CUDA has it.
 * Others of the same family find it in use, and are not traced.
 */
static void begin_file(const char *path)
{
    enum berth_level level = BERTH_LOG_WARNING;
    int r;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    char why[128];

    if (fd < 0) {
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_POOL, "%s: %s; nothing is traced", path,
                   strerrordesc_np(errno));
        return;
    }
    r = berth__trace_start(fd, berth__option(BERTH_OPTION_TRACE_PATHS) != 0, why, sizeof(why));
    if (r == -EINVAL)
        level = BERTH_LOG_INFO;
    if (r < 0)
        berth__log(level, BERTH_TOPIC_POOL, "%s: %s; nothing is traced", path, why);
    close(fd);
}

/* cuInit() is no cancellation point, as open() is. */
void berth__trace_begin_wanted(void)
{
    static atomic_flag begun = ATOMIC_FLAG_INIT;
    int saved_errno = errno;
    int cancel_state, r;

    if (atomic_flag_test_and_set(&begun))
        return;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    if (wanted_path[0])
        begin_file(wanted_path);
    pthread_setcancelstate(cancel_state, NULL);
    r = berth__trace_keep_history(berth__option(BERTH_OPTION_HISTORY));
    if (r < 0)
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_POOL, "no history is kept: %s",
                   strerrordesc_np(-r));
    errno = saved_errno;
}
