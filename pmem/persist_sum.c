/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist_sum.h"

#include <pthread.h>
#include <string.h>

/* Castagnoli's polynomial, its bits reversed. */
#define POLYNOMIAL UINT32_C(0x82f63b78)

static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        table[0][i] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int i = 0; i < 256; i++)
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
}

static uint64_t load_word(const unsigned char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static inline uint32_t plain_word(uint32_t crc, uint64_t word)
{
    word ^= crc;
    crc = 0;
    for (int k = 0; k < 8; k++)
        crc ^= table[7 - k][word >> 8 * k & 0xff];
    return crc;
}

static inline uint32_t plain_byte(uint32_t crc, unsigned char byte)
{
    return crc >> 8 ^ table[0][(crc ^ byte) & 0xff];
}

uint32_t berth__persist_crc_plain(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *at = data;

    pthread_once(&table_once, make_table);
    crc = ~crc;
    for (; size >= 8; size -= 8, at += 8)
        crc = plain_word(crc, load_word(at));
    for (; size > 0; size--, at++)
        crc = plain_byte(crc, *at);
    return ~crc;
}

static void lanes_plain(uint32_t lane[BERTH_PERSIST_SUM_LANES], const unsigned char *at,
                        size_t steps)
{
    pthread_once(&table_once, make_table);
    for (; steps > 0; steps--, at += BERTH_PERSIST_SUM_STEP)
        for (int i = 0; i < BERTH_PERSIST_SUM_LANES; i++)
            lane[i] = plain_word(lane[i], load_word(at + 8 * i));
}

#ifdef __x86_64__
static bool has_instruction(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t crc_fast(uint32_t crc, const unsigned char *at,
                                                           size_t size)
{
    uint64_t wide = ~crc;

    for (; size >= 8; size -= 8, at += 8)
        wide = __builtin_ia32_crc32di(wide, load_word(at));
    crc = (uint32_t)wide;
    for (; size > 0; size--, at++)
        crc = __builtin_ia32_crc32qi(crc, *at);
    return ~crc;
}

__attribute__((target("sse4.2"))) static void lanes_fast(uint32_t lane[BERTH_PERSIST_SUM_LANES],
                                                         const unsigned char *at, size_t steps)
{
    uint64_t a = lane[0], b = lane[1], c = lane[2], d = lane[3];

    for (; steps > 0; steps--, at += BERTH_PERSIST_SUM_STEP) {
        a = __builtin_ia32_crc32di(a, load_word(at));
        b = __builtin_ia32_crc32di(b, load_word(at + 8));
        c = __builtin_ia32_crc32di(c, load_word(at + 16));
        d = __builtin_ia32_crc32di(d, load_word(at + 24));
    }
    lane[0] = (uint32_t)a;
    lane[1] = (uint32_t)b;
    lane[2] = (uint32_t)c;
    lane[3] = (uint32_t)d;
}
#else
static bool has_instruction(void)
{
    return false;
}

static uint32_t crc_fast(uint32_t crc, const unsigned char *at, size_t size)
{
    return berth__persist_crc_plain(crc, at, size);
}

static void lanes_fast(uint32_t lane[BERTH_PERSIST_SUM_LANES], const unsigned char *at,
                       size_t steps)
{
    lanes_plain(lane, at, steps);
}
#endif

uint32_t berth__persist_crc(uint32_t crc, const void *data, size_t size)
{
    return has_instruction() ? crc_fast(crc, data, size)
                             : berth__persist_crc_plain(crc, data, size);
}

struct berth_persist_sum berth__persist_sum_start(void)
{
    /* Different in each lane: contents of zeros do not sum to zero, nor do swapped lanes agree. */
    return (struct berth_persist_sum){{1, 2, 3, 4}};
}

void berth__persist_sum_add(struct berth_persist_sum *sum, const void *data, size_t size)
{
    size_t steps = size / BERTH_PERSIST_SUM_STEP;
    size_t rest = size % BERTH_PERSIST_SUM_STEP;
    const unsigned char *tail = (const unsigned char *)data + (size - rest);

    if (has_instruction())
        lanes_fast(sum->lane, data, steps);
    else
        lanes_plain(sum->lane, data, steps);
    if (rest > 0)
        sum->lane[0] = berth__persist_crc(sum->lane[0], tail, rest);
}

bool berth__persist_sum_equal(const struct berth_persist_sum *a, const struct berth_persist_sum *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}
