/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two programs for classifier_device.py, which allocate and copy as real ones do. Usage:
 * class_programs server|vision [declare].
 *
 *  server  a language model's: weights in chunks from pinned buffers, a paged cache that is
 *          reserved early and written by kernels alone, activations in the order of a stream, a
 *          kernel library's workspace that is never filled.
 *  vision  weights and activations from a caching allocator of the program's own, which takes
 *          segments of 20 MiB; input blocks that are filled in turn.
 *
 * In the midst of the last step it prints "ready", waits for a line, and prints for each pair of
 * what bytes are and what Berth takes their block for, how many there are.
 */
#include "alloc/berth.h"
#include "cuda_api.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define STEPS 16

static CUstream compute, copy;
static bool is_declared;

static void must(CUresult result, const char *what)
{
    if (result != 0) {
        fprintf(stderr, "class_programs: %s: error %d\n", what, (int)result);
        exit(1);
    }
}
#define MUST(call) must(call, #call)

/* What is alive: the truth. */
struct piece {
    CUdeviceptr address;
    size_t size;
    enum berth_tag tag;
};
static struct piece *pieces;
static size_t piece_count, piece_room;

static void piece_add(CUdeviceptr address, size_t size, enum berth_tag tag)
{
    if (piece_count == piece_room) {
        piece_room = 2 * piece_room + 64;
        pieces = realloc(pieces, piece_room * sizeof(*pieces));
        if (!pieces)
            exit(1);
    }
    pieces[piece_count++] = (struct piece){address, size, tag};
}

static void piece_remove(CUdeviceptr address)
{
    size_t i = 0;

    while (i < piece_count && pieces[i].address != address)
        i++;
    if (i < piece_count)
        pieces[i] = pieces[--piece_count];
}

static void measure(void)
{
    size_t bytes[BERTH_TAG_WORKSPACE + 1][BERTH_TAG_WORKSPACE + 1] = {{0}};

    printf("ready\n");
    fflush(stdout);
    getchar();
    for (size_t i = 0; i < piece_count; i++) {
        struct berth_block_info info;

        if (berth_describe((const void *)(uintptr_t)pieces[i].address, &info, sizeof(info)) == 0)
            bytes[pieces[i].tag][info.tag] += pieces[i].size;
    }
    for (unsigned truth = 0; truth <= BERTH_TAG_WORKSPACE; truth++)
        for (unsigned tag = 0; tag <= BERTH_TAG_WORKSPACE; tag++)
            printf("%u %u %zu\n", truth, tag, bytes[truth][tag]);
}

static void next_step(void)
{
    if (is_declared)
        berth_step();
}

static CUdeviceptr take(size_t size, enum berth_tag tag)
{
    CUdeviceptr p = 0;

    MUST(cuMemAlloc_v2(&p, size));
    piece_add(p, size, tag);
    return p;
}

/* Server: tensors of a step. */
static CUdeviceptr tensor(size_t size, enum berth_tag tag)
{
    CUdeviceptr p = 0;

    MUST(cuMemAllocAsync(&p, size, compute));
    piece_add(p, size, tag);
    return p;
}

static void drop(CUdeviceptr p)
{
    piece_remove(p);
    MUST(cuMemFreeAsync(p, compute));
}

/* From two pinned buffers in turn, each of which is used again when its copy is done. */
static void upload(CUdeviceptr to, size_t size)
{
    static void *staging[2];
    static CUevent done[2];
    static unsigned turn;

    for (size_t at = 0, length; at < size; at += length, turn = !turn) {
        if (!staging[turn]) {
            MUST(cuMemAllocHost_v2(&staging[turn], MIB(1)));
            MUST(cuEventCreate(&done[turn], 0));
        }
        MUST(cuEventSynchronize(done[turn]));
        length = size - at < MIB(1) ? size - at : MIB(1);
        memset(staging[turn], (int)at + 1, length);
        MUST(cuMemcpyHtoDAsync_v2(to + at, staging[turn], length, copy));
        MUST(cuEventRecord(done[turn], copy));
    }
}

enum { LAYERS = 12 };

static void server_layer(CUdeviceptr *x, size_t batch, CUdeviceptr pages, unsigned step,
                         unsigned layer)
{
    CUdeviceptr qkv = tensor(batch * KIB(96), BERTH_TAG_ACTIVATION);
    CUdeviceptr scratch = tensor(MIB(2), BERTH_TAG_WORKSPACE);
    CUdeviceptr up, y;

    /* The kernel that writes a page of the cache. */
    MUST(cuMemcpyDtoDAsync_v2(pages + (step * LAYERS + layer) * KIB(64), qkv, KIB(64), compute));
    drop(scratch);
    up = tensor(batch * KIB(128), BERTH_TAG_ACTIVATION);
    drop(qkv);
    y = tensor(batch * KIB(32), BERTH_TAG_ACTIVATION);
    drop(up);
    drop(*x);
    *x = y;
}

static void server(void)
{
    static const size_t sizes[] = {KIB(768), KIB(256), MIB(1), MIB(1), KIB(4)};
    CUdeviceptr pages, tokens, x;
    static char rows[KIB(128)];

    take(MIB(8), BERTH_TAG_WORKSPACE);
    upload(take(MIB(8), BERTH_TAG_WEIGHT), MIB(8));
    for (unsigned i = 0; i < LAYERS * 5; i++)
        upload(take(sizes[i % 5], BERTH_TAG_WEIGHT), sizes[i % 5]);
    MUST(cuStreamSynchronize(copy));
    pages = take(MIB(24), BERTH_TAG_KV);
    MUST(cuMemsetD8Async(pages, 0, MIB(24), compute));
    tokens = take(sizeof(rows), BERTH_TAG_ACTIVATION);
    for (unsigned step = 0; step < STEPS; step++) {
        size_t batch = 4 + step % 3;

        next_step();
        MUST(cuMemcpyHtoDAsync_v2(tokens, rows, sizeof(rows), compute));
        x = tensor(batch * KIB(32), BERTH_TAG_ACTIVATION);
        for (unsigned layer = 0; layer < LAYERS; layer++) {
            server_layer(&x, batch, pages, step, layer);
            if (step == STEPS - 1 && layer == LAYERS / 2)
                measure();
        }
        MUST(cuMemcpyDtoH_v2(rows, x, 64));
        drop(x);
        MUST(cuStreamSynchronize(compute));
    }
}

/* Vision: the program's own allocator. Chunks lie in a list by segment and address. */
#define SEGMENT MIB(20)

struct chunk {
    struct chunk *next;
    CUdeviceptr address;
    size_t size;
    bool is_used, is_first; /* is_first: of its segment */
};
static struct chunk *chunks;

static struct chunk *chunk_new(CUdeviceptr address, size_t size, bool is_first, struct chunk *next)
{
    struct chunk *chunk = malloc(sizeof(*chunk));

    if (!chunk)
        exit(1);
    *chunk = (struct chunk){next, address, size, false, is_first};
    return chunk;
}

/* The smallest chunk that fits, of a new segment where there is none. */
static CUdeviceptr own_alloc(size_t size, enum berth_tag tag)
{
    struct chunk *best = NULL;

    for (struct chunk *chunk = chunks; chunk; chunk = chunk->next)
        if (!chunk->is_used && chunk->size >= size && (!best || chunk->size < best->size))
            best = chunk;
    if (!best) {
        CUdeviceptr segment = 0;

        MUST(cuMemAlloc_v2(&segment, SEGMENT));
        best = chunks = chunk_new(segment, SEGMENT, true, chunks);
    }
    if (best->size - size >= KIB(1)) {
        best->next = chunk_new(best->address + size, best->size - size, false, best->next);
        best->size = size;
    }
    best->is_used = true;
    piece_add(best->address, size, tag);
    return best->address;
}

static void own_free(CUdeviceptr p)
{
    struct chunk *before = NULL, *chunk = chunks;

    for (; chunk->address != p; before = chunk, chunk = chunk->next)
        ;
    chunk->is_used = false;
    piece_remove(p);
    if (chunk->next && !chunk->next->is_first && !chunk->next->is_used) {
        struct chunk *next = chunk->next;

        chunk->size += next->size;
        chunk->next = next->next;
        free(next);
    }
    if (before && !chunk->is_first && !before->is_used) {
        before->size += chunk->size;
        before->next = chunk->next;
        free(chunk);
    }
}

/* What the allocator holds and nobody uses is nothing. */
static void add_free_chunks(void)
{
    for (struct chunk *chunk = chunks; chunk; chunk = chunk->next)
        if (!chunk->is_used)
            piece_add(chunk->address, chunk->size, BERTH_TAG_UNTAGGED);
}

static void vision(void)
{
    static char host[MIB(5)];
    CUdeviceptr inputs[2], kept[8];

    for (unsigned i = 0; i < 40; i++) {
        size_t size = KIB(36) << i / 6;

        memset(host, (int)i + 1, size);
        MUST(cuMemcpyHtoD_v2(own_alloc(size, BERTH_TAG_WEIGHT), host, size));
    }
    for (unsigned i = 0; i < 2; i++)
        inputs[i] = take(KIB(786), BERTH_TAG_ACTIVATION);
    for (unsigned step = 0; step < STEPS; step++) {
        CUdeviceptr labels;

        next_step();
        MUST(cuMemcpyHtoDAsync_v2(inputs[step % 2], host, KIB(786), copy));
        labels = own_alloc(KIB(64), BERTH_TAG_ACTIVATION);
        MUST(cuMemcpyHtoD_v2(labels, host, KIB(64)));
        for (unsigned i = 0; i < 8; i++)
            kept[i] = own_alloc(MIB(6) >> i / 2, BERTH_TAG_ACTIVATION);
        if (step == STEPS - 1) {
            add_free_chunks();
            measure();
        }
        for (unsigned i = 8; i-- > 0;)
            own_free(kept[i]);
        own_free(labels);
        MUST(cuStreamSynchronize(copy));
    }
}

int main(int argc, char **argv)
{
    bool is_server = argc > 1 && strcmp(argv[1], "server") == 0;
    CUcontext context;

    if (argc < 2 || (!is_server && strcmp(argv[1], "vision") != 0)) {
        fprintf(stderr, "usage: class_programs server|vision [declare]\n");
        return 1;
    }
    is_declared = argc > 2 && strcmp(argv[2], "declare") == 0;
    MUST(cuInit(0));
    MUST(cuDevicePrimaryCtxRetain(&context, 0));
    MUST(cuCtxSetCurrent(context));
    MUST(cuStreamCreate(&compute, 0));
    MUST(cuStreamCreate(&copy, 0));
    if (is_server)
        server();
    else
        vision();
    return 0;
}
