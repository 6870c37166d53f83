/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

_Static_assert(sizeof(struct berth_persist_super) == 152, "the superblock has no gaps");
_Static_assert(sizeof(struct berth_persist_head) == 56, "a directory's head has no gaps");
_Static_assert(sizeof(struct berth_persist_record) == 48, "a record has no gaps");

/* One directory is this part of what the blocks may take, within its limits. */
#define DIRECTORY_SHARE 8192
/* Of a file, whose directories take space on its filesystem. */
#define DIRECTORY_FILE_MAX ((uint64_t)8 << 20)
#define DIRECTORY_USUAL ((uint64_t)1 << 20)

#define refuse(...) (snprintf(why, why_size, __VA_ARGS__), -EINVAL)

static uint64_t round_up(uint64_t value, uint64_t step)
{
    return (value + step - 1) & ~(step - 1);
}

static bool is_zero(const unsigned char *at, size_t size)
{
    return size == 0 || (at[0] == 0 && memcmp(at, at + 1, size - 1) == 0);
}

static uint64_t choose_directory(uint64_t capacity, uint64_t device_size)
{
    uint64_t most = device_size ? BERTH_PERSIST_DIRECTORY_MAX : DIRECTORY_FILE_MAX;
    uint64_t size = round_up(capacity / DIRECTORY_SHARE + 1, BERTH_PERSIST_PAGE);

    if (size < DIRECTORY_USUAL - BERTH_PERSIST_PAGE)
        size = DIRECTORY_USUAL - BERTH_PERSIST_PAGE;
    /* A small device or file gives no more than a sixteenth to each directory. */
    while (capacity > 0 && size > capacity / 16 && size > BERTH_PERSIST_DIRECTORY_MIN)
        size = round_up(size / 2, BERTH_PERSIST_PAGE);
    return size > most ? most : size;
}

static void make_uuid(unsigned char uuid[BERTH_PERSIST_UUID_SIZE])
{
    struct timespec now;

    if (getrandom(uuid, BERTH_PERSIST_UUID_SIZE, GRND_NONBLOCK) == BERTH_PERSIST_UUID_SIZE)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    memcpy(uuid, &now,
           sizeof(now) < BERTH_PERSIST_UUID_SIZE ? sizeof(now) : BERTH_PERSIST_UUID_SIZE);
}

static uint32_t super_crc(const struct berth_persist_super *super)
{
    static const unsigned char zeros[BERTH_PERSIST_PAGE - sizeof(*super)];
    struct berth_persist_super copy = *super;

    copy.crc = 0;
    return berth__persist_crc(berth__persist_crc(0, &copy, sizeof(copy)), zeros, sizeof(zeros));
}

void berth__persist_super_make(struct berth_persist_super *super, const char *name,
                               uint64_t granule, uint64_t capacity, uint64_t device_size)
{
    memset(super, 0, sizeof(*super));
    super->magic = BERTH_PERSIST_MAGIC;
    super->version = BERTH_PERSIST_VERSION;
    super->granule = granule;
    super->directory_size = choose_directory(capacity, device_size);
    super->directory_offset[0] = 2 * BERTH_PERSIST_PAGE;
    super->directory_offset[1] = super->directory_offset[0] + super->directory_size;
    super->data_offset = round_up(super->directory_offset[1] + super->directory_size, granule);
    super->size = device_size;
    super->created = (int64_t)time(NULL);
    make_uuid(super->uuid);
    snprintf(super->name, sizeof(super->name), "%s", name);
    super->crc = super_crc(super);
}

static int check_layout(const struct berth_persist_super *super, uint64_t medium_size, char *why,
                        size_t why_size)
{
    uint64_t first = super->directory_offset[0], second = super->directory_offset[1];
    uint64_t size = super->directory_size;

    if (super->granule < BERTH_PERSIST_PAGE || (super->granule & (super->granule - 1)) != 0)
        return refuse("its superblock has a granule of %" PRIu64 "; expected a power of two of at "
                      "least 4096",
                      super->granule);
    if (size < BERTH_PERSIST_DIRECTORY_MIN || size > BERTH_PERSIST_DIRECTORY_MAX ||
        (size | first | second) % BERTH_PERSIST_PAGE != 0 || first < 2 * BERTH_PERSIST_PAGE ||
        first > UINT32_MAX || second > UINT32_MAX || second < first + size ||
        super->data_offset < second + size || super->data_offset % super->granule != 0)
        return refuse("its superblock places the directories where they cannot be");
    if (super->data_offset > medium_size || super->size > medium_size)
        return refuse("it has %" PRIu64 " bytes; expected at least %" PRIu64
                      ": it was cut off, or is another device",
                      medium_size,
                      super->size > super->data_offset ? super->size : super->data_offset);
    if (!memchr(super->name, '\0', sizeof(super->name)))
        return refuse("its superblock has a name without an end");
    return 0;
}

int berth__persist_super_read(const void *page, uint64_t medium_size,
                              struct berth_persist_super *ret, char *why, size_t why_size)
{
    struct berth_persist_super super;
    int r;

    memcpy(&super, page, sizeof(super));
    if (super.magic == __builtin_bswap64(BERTH_PERSIST_MAGIC))
        return refuse("it was made on a machine of the other byte order");
    if (super.magic != BERTH_PERSIST_MAGIC)
        return refuse("it is no store of persistent blocks: its first 8 bytes are 0x%016" PRIx64
                      "; expected 0x%016" PRIx64,
                      super.magic, BERTH_PERSIST_MAGIC);
    if (super.version != BERTH_PERSIST_VERSION)
        return refuse("it has version %u of the format; expected %u, which this %s", super.version,
                      BERTH_PERSIST_VERSION,
                      super.version > BERTH_PERSIST_VERSION ? "older Berth knows"
                                                            : "Berth reads only");
    if (super.crc != super_crc(&super) ||
        !is_zero((const unsigned char *)page + sizeof(super), BERTH_PERSIST_PAGE - sizeof(super)))
        return refuse("its superblock is damaged: the checksum does not match");
    r = check_layout(&super, medium_size, why, why_size);
    if (r == 0)
        *ret = super;
    return r;
}

bool berth__persist_is_blank(const void *start)
{
    const unsigned char *commit_page = (const unsigned char *)start + BERTH_PERSIST_PAGE;
    struct berth_persist_super super;

    memcpy(&super, start, sizeof(super));
    if (super.magic != 0 && (super.magic != BERTH_PERSIST_MAGIC || super.crc != super_crc(&super)))
        return false;
    /* A store that was in use has a commit record, and has or had a directory in the first place.
     */
    return is_zero(commit_page, BERTH_PERSIST_PAGE) &&
           is_zero(commit_page + BERTH_PERSIST_PAGE, sizeof(struct berth_persist_head));
}

uint64_t berth__persist_commit_word(const struct berth_persist_super *super, uint64_t generation)
{
    uint32_t number = (uint32_t)generation;
    uint32_t crc = berth__persist_crc(0, super->uuid, sizeof(super->uuid));

    return (uint64_t)berth__persist_crc(crc, &number, sizeof(number)) << 32 | number;
}

int berth__persist_commit_read(const struct berth_persist_super *super, const void *page,
                               uint64_t *ret_generation, char *why, size_t why_size)
{
    uint64_t word = __atomic_load_n((const uint64_t *)page, __ATOMIC_ACQUIRE);
    uint64_t generation = (uint32_t)word;

    if (generation == 0 || word != berth__persist_commit_word(super, generation) ||
        !is_zero((const unsigned char *)page + sizeof(word), BERTH_PERSIST_PAGE - sizeof(word)))
        return refuse("its commit record is damaged: the checksum does not match");
    *ret_generation = generation;
    return 0;
}

static uint32_t head_crc(const struct berth_persist_head *head)
{
    struct berth_persist_head copy = *head;

    copy.crc = 0;
    return berth__persist_crc(0, &copy, sizeof(copy));
}

void berth__persist_head_make(struct berth_persist_head *head,
                              const struct berth_persist_super *super, uint64_t generation,
                              uint64_t record_count, const void *body, uint64_t body_size)
{
    *head = (struct berth_persist_head){
        .magic = BERTH_PERSIST_DIRECTORY_MAGIC,
        .generation = generation,
        .record_count = record_count,
        .body_size = body_size,
        .body_crc = berth__persist_crc(0, body, body_size),
    };
    memcpy(head->uuid, super->uuid, sizeof(head->uuid));
    head->crc = head_crc(head);
}

int berth__persist_head_read(const void *directory, const struct berth_persist_super *super,
                             uint64_t generation, struct berth_persist_head *ret, char *why,
                             size_t why_size)
{
    struct berth_persist_head head;

    memcpy(&head, directory, sizeof(head));
    if (head.magic != BERTH_PERSIST_DIRECTORY_MAGIC || head.crc != head_crc(&head) ||
        head.body_size > super->directory_size - sizeof(head) ||
        memcmp(head.uuid, super->uuid, sizeof(head.uuid)) != 0)
        return refuse("the head of its directory %" PRIu64 " is damaged: the checksum does not "
                      "match",
                      generation);
    if (head.generation != generation)
        return refuse("its commit record names directory %" PRIu64 "; its place holds %" PRIu64,
                      generation, head.generation);
    if (head.body_crc !=
        berth__persist_crc(0, (const char *)directory + sizeof(head), head.body_size))
        return refuse("its directory %" PRIu64 " is damaged: the checksum does not match",
                      generation);
    *ret = head;
    return 0;
}

size_t berth__persist_name_bytes(size_t length)
{
    return (length + 8) & ~(size_t)7;
}
