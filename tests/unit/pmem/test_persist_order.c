/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of stores and flushes. A medium that keeps a log stands in for libpmem. Then power is
 * cut, in thought, after each entry of the log: what was flushed and drained is there; of every
 * other 8-byte word that was stored, any of the values since its last drain may be. All these
 * media (or a seeded choice, where they are too many) are opened, contents verified: each must hold
 * the state before the call or the state after it, and the state after it once the call came back.
 *
 * That the test can fail is tested too: with one kind of flush, or all drains, left out of the log
 * some medium must hold neither.
 */
#include "persist_fixture.h"

#include "pmem/sysfs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CAPACITY ((uint64_t)64 << 10)
#define IMAGE_SIZE ((size_t)96 << 10)
#define LINE ((uint64_t)64)
/* So many media of one instant are all tried; else so many are drawn. */
#define CHOICES_ALL 9
#define CHOICES_DRAWN 60
/* Where whole pages are open: the first words of each, and so many of the others. */
#define PAGE_WORDS 16
#define SINGLES_DRAWN 16

enum entry_kind { STORE, FLUSH, DRAIN };
/* What a flush is for; what may be left out. */
enum { DATA = 1, DIRECTORY = 2, COMMIT = 4, DRAINS = 8, LAST_PAGES = 16 };

struct entry {
    enum entry_kind kind;
    uint64_t offset, size;
    unsigned char *data;
};

static struct {
    struct berth_persist_store *store;
    const char *head;
    struct entry *entries;
    size_t count;
    unsigned left_out;
    unsigned char start[IMAGE_SIZE]; /* what is durable before the first entry */
} log_;

static char crash_path[80];
static uint64_t seed;

static unsigned draw(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(seed >> 33);
}

static void add(enum entry_kind kind, uint64_t offset, const void *data, uint64_t size)
{
    struct entry *entry;

    log_.entries = realloc(log_.entries, (log_.count + 1) * sizeof(log_.entries[0]));
    assert_non_null(log_.entries);
    entry = &log_.entries[log_.count++];
    *entry = (struct entry){kind, offset, size, NULL};
    if (data) {
        entry->data = malloc(size);
        assert_non_null(entry->data);
        memcpy(entry->data, data, size);
    }
}

/* Where on the medium a mapped address is, and how many of `size` bytes lie there in one piece. */
static uint64_t piece_at(const void *p, uint64_t size, uint64_t *ret_piece)
{
    struct berth_persist_block *block =
        log_.store ? berth__persist_store_block_at(log_.store, p) : NULL;
    const struct berth_persist_extent *extent;
    uint64_t at;

    *ret_piece = size;
    if (!block)
        return (uint64_t)((const char *)p - log_.head);
    at = (uint64_t)((const char *)p - (const char *)block->p);
    for (extent = block->extents; at >= extent->size; extent++)
        at -= extent->size;
    if (size > extent->size - at)
        *ret_piece = extent->size - at;
    return extent->offset + at;
}

static void log_store(void *context, void *to, const void *from, size_t size)
{
    (void)context;
    if (!log_.head)
        log_.head = to; /* the first store of all is to the superblock's magic number */
    add(STORE, (uint64_t)((char *)to - log_.head), from, size);
    memcpy(to, from, size);
}

static unsigned purpose(uint64_t offset)
{
    if (offset < BERTH_PERSIST_PAGE)
        return 0;
    if (offset < 2 * BERTH_PERSIST_PAGE)
        return COMMIT;
    return offset < 4 * BERTH_PERSIST_PAGE ? DIRECTORY : DATA;
}

static int log_flush(void *context, const void *p, size_t size)
{
    const char *at = p;
    uint64_t left = size;

    (void)context;
    if ((log_.left_out & LAST_PAGES) && left > BERTH_PERSIST_PAGE)
        left -= BERTH_PERSIST_PAGE;
    for (uint64_t piece; left > 0; left -= piece, at += piece) {
        uint64_t offset = piece_at(at, left, &piece);

        if (!(log_.left_out & purpose(offset)))
            add(FLUSH, offset, NULL, piece);
    }
    return 0;
}

static void log_drain(void *context)
{
    (void)context;
    if (!(log_.left_out & DRAINS))
        add(DRAIN, 0, NULL, 0);
}

static const struct berth_persist_media log_media = {
    .name = "log", .store = log_store, .flush = log_flush, .drain = log_drain};

int __real_fallocate64(int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size);

/* Space that is given back reads as zero, from that moment or after the next start. */
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size)
{
    if ((mode & FALLOC_FL_PUNCH_HOLE) && log_.head && (uint64_t)offset < IMAGE_SIZE) {
        uint64_t known = IMAGE_SIZE - (uint64_t)offset;
        void *zeros = calloc(1, (size_t)size);

        assert_non_null(zeros);
        add(STORE, (uint64_t)offset, zeros, (uint64_t)size < known ? (uint64_t)size : known);
        free(zeros);
    }
    return __real_fallocate64(fd, mode, offset, size);
}

static void log_clear(void)
{
    for (size_t i = 0; i < log_.count; i++)
        free(log_.entries[i].data);
    free(log_.entries);
    log_.entries = NULL;
    log_.count = 0;
}

/* A word of the medium whose value is open: each entry that stored it since it was durable. */
struct choice {
    uint64_t offset;
    size_t count; /* of values beyond the durable one, which is value 0 */
    uint64_t value[32];
};

static struct choice choices[IMAGE_SIZE / 8];
static size_t choice_count;
static unsigned char durable[IMAGE_SIZE];

/* The first drain after the first flush of this line after entry `at`, before `end`; or `end`. */
static size_t durable_at(uint64_t offset, size_t at, size_t end)
{
    bool flushed = false;

    for (size_t i = at + 1; i < end; i++) {
        const struct entry *entry = &log_.entries[i];
        uint64_t line = offset & ~(LINE - 1);

        if (entry->kind == FLUSH && line + LINE > entry->offset &&
            line < entry->offset + entry->size)
            flushed = true;
        if (entry->kind == DRAIN && flushed)
            return i;
    }
    return end;
}

static struct choice *choice_for(uint64_t offset)
{
    for (size_t i = 0; i < choice_count; i++)
        if (choices[i].offset == offset)
            return &choices[i];
    choices[choice_count] = (struct choice){.offset = offset};
    return &choices[choice_count++];
}

static void take_word(uint64_t offset, const unsigned char *bytes, size_t at, size_t end)
{
    struct choice *choice;

    if (durable_at(offset, at, end) < end) {
        memcpy(durable + offset, bytes, 8);
        /* Values from before are overwritten; the choice begins anew. */
        choice_for(offset)->count = 0;
        return;
    }
    choice = choice_for(offset);
    assert_true(choice->count < 32);
    memcpy(&choice->value[choice->count++], bytes, 8);
}

/* What the medium may hold after the first `end` entries. */
static void find_choices(size_t end)
{
    unsigned char whole[IMAGE_SIZE];
    size_t kept = 0;

    memcpy(durable, log_.start, sizeof(durable));
    memcpy(whole, log_.start, sizeof(whole));
    choice_count = 0;
    for (size_t i = 0; i < end; i++) {
        const struct entry *entry = &log_.entries[i];

        if (entry->kind != STORE)
            continue;
        memcpy(whole + entry->offset, entry->data, entry->size);
        for (uint64_t at = entry->offset & ~(uint64_t)7; at < entry->offset + entry->size; at += 8)
            take_word(at, whole + at, i, end);
    }
    for (size_t i = 0; i < choice_count; i++)
        if (choices[i].count > 0)
            choices[kept++] = choices[i];
    choice_count = kept;
}

static void write_image(const size_t *picks)
{
    unsigned char image[IMAGE_SIZE];
    int fd;

    memcpy(image, durable, sizeof(image));
    for (size_t i = 0; i < choice_count; i++)
        if (picks[i] > 0)
            memcpy(image + choices[i].offset, &choices[i].value[picks[i] - 1], 8);
    fd = open(crash_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, image, sizeof(image), 0), sizeof(image));
    close(fd);
}

/* A state: which blocks there are, and of which contents. Seed 0 = there is none. */
#define NAMES 3
static const char *const names[NAMES] = {"a", "b", "c"};

struct state {
    uint64_t seed[NAMES];
};

static uint64_t size_of(uint64_t contents)
{
    return 96 + 40 * contents;
}

static bool is_state(struct berth_persist_store *store, const struct state *state)
{
    for (int i = 0; i < NAMES; i++) {
        struct berth_persist_block *block = NULL;
        int r = berth__persist_store_find(store, names[i], true, &block);
        bool same = state->seed[i] == 0
                        ? r == -ENOENT
                        : r == 0 && fixture_holds(block, size_of(state->seed[i]), state->seed[i]);

        if (r == 0)
            berth__persist_store_detach(store, block);
        if (!same)
            return false;
    }
    return true;
}

/* Before a store is complete its medium must be one that may be formatted. */
static bool is_blank(void)
{
    unsigned char start[3 * BERTH_PERSIST_PAGE];
    int fd = open(crash_path, O_RDONLY | O_CLOEXEC);
    bool blank;

    assert_int_equal(pread(fd, start, sizeof(start), 0), sizeof(start));
    blank = berth__persist_is_blank(start);
    close(fd);
    return blank;
}

static bool recovers(const struct state *before, const struct state *after)
{
    const struct berth_persist_options options = {
        .path = crash_path, .name = "weights", .read_only = true};
    struct berth_persist_store *store = NULL;
    bool good;

    if (berth__persist_store_open(&options, &store, fixture_why, sizeof(fixture_why)) < 0)
        return !before && is_blank();
    good = is_state(store, after) || (before && is_state(store, before));
    berth__persist_store_close(store);
    return good;
}

/* The words of which each is tried alone, and left out alone: all, or those that say most. */
static size_t singles[IMAGE_SIZE / 8];
static size_t single_count;

static void find_singles(void)
{
    size_t others = 0;

    single_count = 0;
    for (size_t i = 0; i < choice_count; i++)
        others += choices[i].offset % BERTH_PERSIST_PAGE >= PAGE_WORDS * 8;
    for (size_t i = 0; i < choice_count; i++) {
        bool is_first = choices[i].offset % BERTH_PERSIST_PAGE < PAGE_WORDS * 8;

        if (is_first || others <= 4 * SINGLES_DRAWN || draw() % others < SINGLES_DRAWN)
            singles[single_count++] = i;
    }
}

/* Of the head's four pages, those in `pages` as they were stored, the others as they were. */
static size_t pick_page(const struct choice *choice, size_t pages)
{
    uint64_t page = choice->offset / BERTH_PERSIST_PAGE;

    return pages >> (page < 4 ? page : 4) & 1 ? choice->count : 0;
}
#define PAGE_ROUNDS ((size_t)1 << 5)

static size_t rounds_of_instant(void)
{
    find_singles();
    return choice_count <= CHOICES_ALL ? (size_t)1 << choice_count
                                       : 2 * single_count + PAGE_ROUNDS + CHOICES_DRAWN;
}

/* What is only flushed may be what it might have been before; it takes a drain. */
static bool is_new_instant(size_t end)
{
    return end == 0 || end == log_.count || log_.entries[end - 1].kind != FLUSH;
}

/* The media of one instant: all, or none, each alone, each left out, by pages, some at random. */
static void pick(size_t round, size_t *picks)
{
    for (size_t i = 0; i < choice_count; i++) {
        size_t all = choices[i].count;

        if (choice_count <= CHOICES_ALL)
            picks[i] = round >> i & 1 ? all : 0;
        else if (round < single_count)
            picks[i] = i == singles[round] ? all : 0;
        else if (round < 2 * single_count)
            picks[i] = i == singles[round - single_count] ? 0 : all;
        else if (round < 2 * single_count + PAGE_ROUNDS)
            picks[i] = pick_page(&choices[i], round - 2 * single_count);
        else
            picks[i] = draw() % (all + 1);
    }
}

static size_t try_instant(size_t end, const struct state *before, const struct state *after)
{
    static size_t picks[IMAGE_SIZE / 8];
    size_t bad = 0, rounds;

    find_choices(end);
    rounds = rounds_of_instant();
    for (size_t round = 0; round < rounds; round++) {
        pick(round, picks);
        write_image(picks);
        bad += !recovers(before, after);
    }
    return bad;
}

/* Every instant of a call; at the last one it has come back, and nothing is open any more. */
static size_t try_call(const struct state *before, const struct state *after)
{
    size_t bad = 0;

    for (size_t end = 0; end < log_.count; end++)
        if (is_new_instant(end))
            bad += try_instant(end, before, after);
    return bad + try_instant(log_.count, before ? after : NULL, after);
}

/* What the file holds now is durable. */
static void begin_call(void)
{
    size_t size;
    unsigned char *data = fixture_read(fixture_path, &size);

    log_clear();
    assert_true(size <= IMAGE_SIZE);
    memset(log_.start, 0, sizeof(log_.start));
    memcpy(log_.start, data, size);
    free(data);
}

static void fill_logged(struct berth_persist_block *block, uint64_t contents)
{
    const char *at = block->p;
    uint64_t left = block->size;

    fixture_fill(block, contents);
    for (uint64_t piece; left > 0; left -= piece, at += piece) {
        uint64_t offset = piece_at(at, left, &piece);

        add(STORE, offset, at, piece);
    }
}

/* In how many pieces the block lies. */
static size_t put_untried(int name, uint64_t contents, struct state *state)
{
    struct berth_persist_block *block = NULL;
    size_t pieces;

    assert_int_equal(
        berth__persist_store_create(log_.store, names[name], size_of(contents), true, &block), 0);
    pieces = block->extent_count;
    begin_call();
    fill_logged(block, contents);
    assert_int_equal(berth__persist_store_commit(log_.store, block), 0);
    berth__persist_store_detach(log_.store, block);
    state->seed[name] = contents;
    return pieces;
}

static size_t put(int name, uint64_t contents, struct state *state)
{
    const struct state before = *state;

    put_untried(name, contents, state);
    return try_call(&before, state);
}

static size_t take_away(int name, struct state *state)
{
    const struct state before = *state;

    begin_call();
    assert_int_equal(berth__persist_store_remove(log_.store, names[name]), 0);
    state->seed[name] = 0;
    return try_call(&before, state);
}

static void open_logged(void)
{
    const struct berth_persist_options options = {.path = fixture_path,
                                                  .name = "weights",
                                                  .create = true,
                                                  .capacity = CAPACITY,
                                                  .media = &log_media};

    snprintf(crash_path, sizeof(crash_path), "%s.crash", fixture_path);
    seed = 1;
    log_clear();
    log_.head = NULL;
    log_.store = NULL;
    memset(log_.start, 0, sizeof(log_.start));
    if (berth__persist_store_open(&options, &log_.store, fixture_why, sizeof(fixture_why)) < 0)
        fail_msg("%s", fixture_why);
}

static void close_logged(void)
{
    berth__persist_store_close(log_.store);
    log_.store = NULL;
    log_clear();
    unlink(fixture_path);
    unlink(crash_path);
}

/* All that a store can be asked to change. */
static const struct change {
    int name;
    uint64_t contents; /* 0 = taken away */
} changes[] = {{0, 1}, {1, 2}, {0, 3}, {1, 0}, {2, 4}, {1, 5}};

/* How many media held neither state. One is enough where something is left out. */
static size_t run(unsigned left_out)
{
    struct state state = {{0}};
    size_t bad = 0;

    log_.left_out = 0;
    open_logged();
    log_.left_out = left_out;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]) && (!left_out || bad == 0); i++)
        bad += changes[i].contents ? put(changes[i].name, changes[i].contents, &state)
                                   : take_away(changes[i].name, &state);
    close_logged();
    return bad;
}

static void at_every_instant_the_old_or_the_new_state_is_there(void **state)
{
    (void)state;
    assert_int_equal(run(0), 0);
}

static void a_store_that_is_being_made_is_blank_or_whole(void **state)
{
    const struct state empty = {{0}};

    (void)state;
    log_.left_out = 0;
    open_logged();
    assert_true(log_.count > 6);
    assert_int_equal(try_call(NULL, &empty), 0);
    close_logged();
}

/* The store's file says it is a dax device, of which /sys is a directory beside it. */
static bool is_plugged;

int __real_berth__fstat(int fd, struct stat *st);
int __wrap_berth__fstat(int fd, struct stat *st);

int __wrap_berth__fstat(int fd, struct stat *st)
{
    struct stat device;
    int r = __real_berth__fstat(fd, st);

    if (r == 0 && is_plugged && stat(fixture_path, &device) == 0 && device.st_ino == st->st_ino)
        st->st_mode = S_IFCHR | 0600;
    return r;
}

static char sys[128];

static void write_attribute(const char *name, size_t value)
{
    char path[256];
    FILE *to;

    snprintf(path, sizeof(path), "%s/dev/char/0:0/%s", sys, name);
    to = fopen(path, "we");
    assert_non_null(to);
    fprintf(to, "%zu\n", value);
    fclose(to);
}

static void plug(void)
{
    static const char *const folders[] = {"", "/dev", "/dev/char", "/dev/char/0:0"};
    char path[256];

    snprintf(sys, sizeof(sys), "%s.sys", fixture_path);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s%s", sys, folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    snprintf(path, sizeof(path), "%s/dev/char/0:0/subsystem", sys);
    assert_int_equal(symlink("../../../bus/dax", path), 0);
    write_attribute("size", IMAGE_SIZE);
    write_attribute("align", 4096);
    berth__sysfs_root = sys;
    is_plugged = true;
}

static void unplug(void)
{
    static const char *const things[] = {"/dev/char/0:0/subsystem",
                                         "/dev/char/0:0/size",
                                         "/dev/char/0:0/align",
                                         "/dev/char/0:0",
                                         "/dev/char",
                                         "/dev",
                                         ""};
    char path[256];

    berth__sysfs_root = "/sys";
    is_plugged = false;
    for (size_t i = 0; i < sizeof(things) / sizeof(things[0]); i++) {
        snprintf(path, sizeof(path), "%s%s", sys, things[i]);
        assert_int_equal(remove(path), 0);
    }
}

/*
 * Whether the medium is no store: what is neither the old one nor the new one has no magic number,
 * or is blank behind a whole superblock, so that it can be made a store, or is what it was before
 * all. Anything else would be taken for a store that is damaged.
 */
static bool is_no_store(void)
{
    unsigned char start[3 * BERTH_PERSIST_PAGE];
    uint64_t magic;
    int fd = open(crash_path, O_RDONLY | O_CLOEXEC);

    assert_int_equal(pread(fd, start, sizeof(start), 0), sizeof(start));
    close(fd);
    memcpy(&magic, start, sizeof(magic));
    return fixture_try(crash_path, false, true) < 0 &&
           (magic != BERTH_PERSIST_MAGIC || berth__persist_is_blank(start) ||
            memcmp(start, log_.start, sizeof(start)) == 0);
}

/* At each instant the old store is whole, or the new one, or the device is no store. */
static size_t try_overwriting(const struct state *before)
{
    const struct state empty = {{0}};
    size_t bad = 0;

    for (size_t end = 0; end <= log_.count; end++) {
        static size_t picks[IMAGE_SIZE / 8];
        size_t rounds;

        if (!is_new_instant(end))
            continue;
        find_choices(end);
        rounds = rounds_of_instant();
        for (size_t round = 0; round < rounds; round++) {
            pick(round, picks);
            write_image(picks);
            bad += !(end < log_.count && is_no_store()) &&
                   !recovers(end < log_.count ? before : &empty, &empty);
        }
    }
    return bad;
}

static void make_device(const void *contents)
{
    int fd = open(fixture_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0 && ftruncate(fd, IMAGE_SIZE) == 0);
    if (contents)
        assert_int_equal(pwrite(fd, contents, IMAGE_SIZE, 0), IMAGE_SIZE);
    close(fd);
}

/* Makes the device a store, whatever it holds; every step is in the log. */
static void overwrite(void)
{
    const struct berth_persist_options over = {.path = fixture_path,
                                               .name = "weights",
                                               .create = true,
                                               .overwrite = true,
                                               .media = &log_media};

    log_.store = NULL;
    log_.head = NULL;
    begin_call();
    if (berth__persist_store_open(&over, &log_.store, fixture_why, sizeof(fixture_why)) < 0)
        fail_msg("%s", fixture_why);
}

static void a_store_that_is_made_over_another_is_one_or_none(void **state)
{
    struct state before = {{0}};

    (void)state;
    log_.left_out = 0;
    plug();
    make_device(NULL);
    open_logged();
    put(0, 1, &before);
    put(1, 2, &before);
    berth__persist_store_close(log_.store);
    overwrite();
    is_plugged = false; /* what is recovered is a file */
    assert_int_equal(try_overwriting(&before), 0);
    close_logged();
    unplug();
}

/* What a device may hold that was never a store, or one of another kind. */
enum garbage { NOISE, ONES, SUPER_OF_OTHERS, COMMIT_OF_OTHERS, GARBAGE_COUNT };

static void fill_garbage(enum garbage kind, unsigned char image[IMAGE_SIZE])
{
    struct berth_persist_super super;
    uint64_t word;

    for (size_t i = 0; i < IMAGE_SIZE; i++)
        image[i] = kind == ONES ? 0xff : (unsigned char)(draw() | 1);
    berth__persist_super_make(&super, "others", BERTH_PERSIST_PAGE, 0, IMAGE_SIZE);
    word = berth__persist_commit_word(&super, 3);
    if (kind == SUPER_OF_OTHERS) /* which is damaged: there is more in its page */
        memcpy(image, &super, sizeof(super));
    if (kind == COMMIT_OF_OTHERS) {
        memset(image + BERTH_PERSIST_PAGE, 0, BERTH_PERSIST_PAGE);
        memcpy(image + BERTH_PERSIST_PAGE, &word, sizeof(word));
    }
}

/* New blocks are zero, whatever was there, and what is committed of them is what is found. */
static size_t use_over_garbage(void)
{
    struct state now = {{0}};
    struct berth_persist_block *block = NULL;
    size_t bad;

    assert_int_equal(berth__persist_store_create(log_.store, "zero", 9000, true, &block), 0);
    for (size_t i = 0; i < block->held; i++)
        assert_int_equal(((const unsigned char *)block->p)[i], 0);
    berth__persist_store_detach(log_.store, block);
    bad = put(0, 1, &now);
    bad += put(0, 3, &now);
    return bad + take_away(0, &now);
}

static void a_store_that_is_made_over_anything_is_whole_or_none(void **state)
{
    static unsigned char image[IMAGE_SIZE];
    const struct state empty = {{0}};

    (void)state;
    for (enum garbage kind = NOISE; kind < GARBAGE_COUNT; kind++) {
        log_.left_out = 0;
        seed = 7 + kind;
        snprintf(crash_path, sizeof(crash_path), "%s.crash", fixture_path);
        fill_garbage(kind, image);
        plug();
        make_device(image);
        overwrite();
        is_plugged = false;
        assert_int_equal(try_overwriting(&empty), 0);
        assert_int_equal(use_over_garbage(), 0);
        close_logged();
        unplug();
    }
}

/* Of sixteen pages six are free in one place and three in another. */
#define SIX_PAGES ((uint64_t)600)
#define SEVEN_PAGES ((uint64_t)700)

/* A block of many pages, in two pieces: how many media held neither state. */
static size_t put_in_pieces(unsigned left_out)
{
    struct state state = {{0}}, before;
    size_t bad;

    log_.left_out = 0;
    open_logged();
    put_untried(0, SIX_PAGES, &state);
    put_untried(1, 1, &state);
    put_untried(2, SIX_PAGES, &state);
    assert_int_equal(berth__persist_store_remove(log_.store, names[0]), 0);
    state.seed[0] = 0;
    before = state;
    log_.left_out = left_out;
    assert_int_equal(put_untried(0, SEVEN_PAGES, &state), 2);
    bad = try_call(&before, &state);
    close_logged();
    return bad;
}

static void every_page_of_a_block_is_durable_before_it_is_listed(void **state)
{
    (void)state;
    assert_int_equal(put_in_pieces(0), 0);
    assert_true(put_in_pieces(LAST_PAGES) > 0);
}

static void a_missing_flush_or_drain_is_seen(void **state)
{
    (void)state;
    assert_true(run(DATA) > 0);
    assert_true(run(DIRECTORY) > 0);
    assert_true(run(COMMIT) > 0);
    assert_true(run(DRAINS) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(at_every_instant_the_old_or_the_new_state_is_there,
                                  fixture_clear),
        cmocka_unit_test_teardown(a_store_that_is_being_made_is_blank_or_whole, fixture_clear),
        cmocka_unit_test_teardown(a_store_that_is_made_over_another_is_one_or_none, fixture_clear),
        cmocka_unit_test_teardown(a_store_that_is_made_over_anything_is_whole_or_none,
                                  fixture_clear),
        cmocka_unit_test_teardown(every_page_of_a_block_is_durable_before_it_is_listed,
                                  fixture_clear),
        cmocka_unit_test_teardown(a_missing_flush_or_drain_is_seen, fixture_clear),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_finish);
}
