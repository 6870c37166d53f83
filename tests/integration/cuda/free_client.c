/* SPDX-License-Identifier: Apache-2.0 */
/*
 * free_client FIRST ROUNDS LITTLE SMALL LARGE: what cuMemGetInfo says, against what can be had.
 *
 * A round of a seed draws a mix of sizes and kinds of memory, frees some of it or all, asks, and
 * then allocates blocks of one size until memory is out; in some, a stream is captured meanwhile.
 * Natively what is told can be had to the last whole piece of 2 MiB, by blocks of any size that
 * fill such pieces. It ends with 1
 *
 *  - where more was told than could be had: of blocks up to 1 MiB, by more than SMALL MiB, as they
 *    share the driver's pieces with what lies there; of larger ones by more than LARGE MiB, as what
 *    is cut from an idle segment may leave a rest
 *  - where more than LITTLE MiB could be had that were not told, by blocks that fill pieces, after
 * a synchronisation: before it the driver's own pools have memory that it does not tell. -1: any
 *  - where all is not told to be free when all was freed and waited for
 *
 * One process plays all rounds: a seed that fails may need those before it.
 */
#include "../../random_numbers.h"
#include "cuda_api.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB (1024.0 * 1024)
#define PIECE ((size_t)2 << 20)
#define MIX_MAX 120
#define HAD_MAX 1100 /* of at least 256 KiB in 256 MiB */

struct block {
    CUdeviceptr address;
    bool is_ordered;
};

static struct block mix[MIX_MAX];
static unsigned count;
static CUdeviceptr had[HAD_MAX];
static size_t total;
static long little_max, small_max, large_max; /* MiB */

static void expect(bool is_right, const char *what)
{
    if (is_right)
        return;
    printf("%s\n", what);
    exit(1);
}

/* From 1 byte to 16 MiB, each octave as often as another. */
static size_t draw_size(void)
{
    return (size_t)1 + random_below((uint64_t)1 << (4 + random_below(21)));
}

static CUresult make(struct block *block)
{
    size_t size = draw_size(), pitch;

    block->is_ordered = false;
    switch (random_below(8)) {
    case 0:
        block->is_ordered = true;
        return cuMemAllocAsync(&block->address, size, NULL);
    case 1:
        return cuMemAllocPitch_v2(&block->address, &pitch, size / 16 + 1, 16, 4);
    case 2:
        return cuMemAllocManaged(&block->address, size, CU_MEM_ATTACH_GLOBAL);
    default:
        return cuMemAlloc_v2(&block->address, size);
    }
}

static void drop(unsigned i)
{
    if (mix[i].is_ordered)
        expect(cuMemFreeAsync(mix[i].address, NULL) == 0, "cuMemFreeAsync");
    else
        expect(cuMemFree_v2(mix[i].address) == 0, "cuMemFree");
    mix[i] = mix[--count];
}

/* What lives at the end, if not all was freed, is a mix of what came at different times. */
static void churn(void)
{
    unsigned steps = 20 + (unsigned)random_below(300), most = 10 + (unsigned)random_below(100);

    for (unsigned i = 0; i < steps; i++) {
        if (count > 0 && (count >= most || random_below(3) == 0))
            drop((unsigned)random_below(count));
        if (count < most && make(&mix[count]) == 0)
            count++;
    }
    for (unsigned i = count, keep = (unsigned)random_below(5); i-- > 0;)
        if (random_below(4) >= keep)
            drop(i);
}

/* A stream is captured that waits for none; what lives changes a little more. Returns the stream.
 */
static CUstream capture(void)
{
    CUstream stream;

    expect(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0 &&
               cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0,
           "no capture");
    for (unsigned i = 0; i < 60; i++) {
        if (count > 0 && random_below(2) == 0)
            drop((unsigned)random_below(count));
        if (count < MIX_MAX && make(&mix[count]) == 0)
            count++;
    }
    return stream;
}

static void end_capture(CUstream stream)
{
    CUgraph graph;

    expect(cuStreamEndCapture(stream, &graph) == 0 && cuGraphDestroy(graph) == 0 &&
               cuStreamDestroy_v2(stream) == 0,
           "the capture does not end");
}

static size_t draw_block(void)
{
    static const size_t sizes[] = {PIECE / 8, PIECE / 2,         PIECE,
                                   PIECE + 1, PIECE + PIECE / 2, PIECE + PIECE,
                                   4 * PIECE, 5 * PIECE,         16 * PIECE};

    return sizes[random_below(sizeof(sizes) / sizeof(sizes[0]))];
}

static size_t told_now(void)
{
    size_t told;

    expect(cuMemGetInfo_v2(&told, &total) == 0, "cuMemGetInfo");
    expect(told <= total, "more than all is free");
    return told;
}

/* How many blocks of `size` the driver has in `told` bytes that are free. */
static size_t native_count(size_t told, size_t size)
{
    if (size <= PIECE / 2)
        return told / PIECE * (PIECE / size);
    return told / ((size + PIECE - 1) / PIECE * PIECE);
}

static size_t fill(size_t size)
{
    size_t n = 0;

    while (n < HAD_MAX && cuMemAlloc_v2(&had[n], size) == 0)
        n++;
    expect(n < HAD_MAX, "there is no end to it");
    return n;
}

struct round {
    unsigned seed;
    bool is_waited;
    size_t told, size, had;
};

/* In MiB, less than 0: too much was told. */
static double beyond(const struct round *round)
{
    return ((double)round->had - (double)native_count(round->told, round->size)) *
           (double)round->size / MIB;
}

static bool is_right(const struct round *round)
{
    double bytes = beyond(round), got = (double)round->had * (double)round->size;

    if (bytes < -(double)(round->size <= PIECE / 2 ? small_max : large_max))
        return false;
    if (!round->is_waited)
        return true;
    return round->size % PIECE != 0 || little_max < 0 ||
           (got - (double)round->told) / MIB <= (double)little_max;
}

static void say(const struct round *round)
{
    double bytes = beyond(round);

    printf("seed %u: %u live%s, told %.2f MiB, had %zu of %.2f MiB: %.2f MiB too %s\n", round->seed,
           count, round->is_waited ? " and waited" : "", (double)round->told / MIB, round->had,
           (double)round->size / MIB, bytes < 0 ? -bytes : bytes,
           bytes < 0 ? "much was told" : "little");
}

static bool play(unsigned seed)
{
    struct round round = {.seed = seed};
    CUstream captured = NULL;
    bool was_right;

    random_start(seed * UINT64_C(2654435761) + 1);
    for (unsigned i = 0; i < 10; i++)
        random_next();
    churn();
    round.size = draw_block();
    round.is_waited = random_below(2) == 0;
    if (random_below(4) == 0)
        captured = capture();
    round.is_waited &= !captured;
    if (round.is_waited)
        expect(cuCtxSynchronize() == 0, "cuCtxSynchronize");
    round.told = told_now();
    round.had = fill(round.size);
    was_right = is_right(&round);
    if (!was_right)
        say(&round);
    if (captured)
        end_capture(captured);
    for (size_t i = 0; i < round.had; i++)
        expect(cuMemFree_v2(had[i]) == 0, "cuMemFree");
    while (count > 0)
        drop(count - 1);
    expect(cuCtxSynchronize() == 0, "cuCtxSynchronize");
    if (told_now() == total)
        return was_right;
    printf("seed %u: all was freed, and %.2f of %.2f MiB are free\n", seed,
           (double)told_now() / MIB, (double)total / MIB);
    return false;
}

int main(int argc, char **argv)
{
    unsigned first, rounds, failed = 0;
    CUcontext context;

    if (argc != 6)
        return 2;
    first = (unsigned)strtoul(argv[1], NULL, 10);
    rounds = (unsigned)strtoul(argv[2], NULL, 10);
    little_max = strtol(argv[3], NULL, 10);
    small_max = strtol(argv[4], NULL, 10);
    large_max = strtol(argv[5], NULL, 10);
    expect(cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, 0) == 0 &&
               cuCtxSetCurrent(context) == 0,
           "no context");
    for (unsigned i = 0; i < rounds; i++)
        failed += !play(first + i);
    printf("%u of %u rounds were not right\n", failed, rounds);
    return failed > 0;
}
