/* SPDX-License-Identifier: Apache-2.0 */
#include "mem.h"

#include "range.h"
#include "window.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct range_map mems;
static uint32_t next_serial = 1;

struct mem *mem_add(const struct mem *mem)
{
    struct mem *copy = malloc(sizeof(*copy));

    if (!copy)
        return NULL;
    *copy = *mem;
    if (range_add(&mems, mem->base, mem->size, copy) < 0) {
        free(copy);
        return NULL;
    }
    copy->serial = next_serial++;
    return copy;
}

void mem_remove(struct mem *mem)
{
    range_remove(&mems, mem->base);
    if (mem->shared_size > 0)
        close(mem->shared_fd);
    free(mem);
}

struct mem *mem_find(uint64_t address)
{
    const struct range *range = range_find(&mems, address);

    return range ? range->owner : NULL;
}

bool mem_overlaps(uint64_t address, uint64_t size)
{
    return range_overlaps(&mems, address, size);
}

bool mem_is_accessible(uint64_t address, uint64_t size)
{
    uint64_t end = address + size;
    const struct mem *mem;

    if (end < address)
        return false;
    if (!window_contains(address))
        return true;
    for (;;) {
        mem = mem_find(address);
        if (!mem)
            return false;
        if (mem->base + mem->size >= end)
            return true;
        if (mem->kind != MEM_VMM)
            return false;
        address = mem->base + mem->size;
    }
}

struct mem *mem_find_ipc(int exporter, uint64_t serial)
{
    for (size_t i = 0; i < mems.count; i++) {
        struct mem *mem = mems.ranges[i].owner;

        if (mem->kind == MEM_IPC && mem->exporter == exporter && mem->exporter_serial == serial &&
            mem->references > 0)
            return mem;
    }
    return NULL;
}

void mem_release_host(struct mem *mem)
{
    if (mem->kind == MEM_HOST)
        munmap((void *)mem->base, mem->extent);
    mem_remove(mem);
}

void mem_forget_context(struct context *context)
{
    size_t i = 0;

    /* Removal shifts the ranges behind; the index then names the next one. */
    while (i < mems.count) {
        struct mem *mem = mems.ranges[i].owner;

        if (mem->context != context) {
            i++;
        } else if (mem->kind == MEM_IPC || mem->kind == MEM_EXTERNAL) {
            window_unmap(mem->base, mem->extent);
            window_release(mem->base);
            mem_remove(mem);
        } else {
            mem_release_host(mem);
        }
    }
}
