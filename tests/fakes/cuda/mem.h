/* SPDX-License-Identifier: Apache-2.0 */
/* A mem: one allocation that the program can name by a pointer. Every lookup
 * by address (free, attributes, address range, IPC) goes through this table.
 * Synchronization: the state lock. */
#ifndef BERTH_FAKE_MEM_H
#define BERTH_FAKE_MEM_H

#include "cuda_abi.h"

#include <stdbool.h>

enum mem_kind {
    MEM_DEVICE,     /* cuMemAlloc, cuMemAllocPitch */
    MEM_MANAGED,    /* cuMemAllocManaged */
    MEM_HOST,       /* cuMemAllocHost, cuMemHostAlloc */
    MEM_REGISTERED, /* cuMemHostRegister: the program's own pages */
    MEM_POOL,       /* cuMemAllocAsync */
    MEM_GRAPH,      /* cuMemAllocAsync in a capture: the graph owns the memory */
    MEM_VMM,        /* cuMemMap */
    MEM_IPC,        /* cuIpcOpenMemHandle */
    MEM_EXTERNAL,   /* cuExternalMemoryGetMappedBuffer */
    MEM_GLOBAL,     /* a __device__ variable: the host variable that stands for it */
};

struct mem {
    uint64_t base;
    uint64_t size;   /* as the program asked */
    uint32_t serial; /* counts allocations of the process; also the buffer id */
    enum mem_kind kind;
    unsigned flags;          /* of host memory */
    struct context *context; /* NULL for pool and VMM memory */
    struct device *device;
    struct segment *segment; /* device, managed, pool */
    struct pool *pool;
    struct backing *backing;         /* VMM */
    struct graph_block *graph_block; /* graph */
    uint64_t extent;                 /* bytes mapped, where that is more than size */
    unsigned references;             /* IPC: opens that were not closed yet */
    int exporter;                    /* IPC: the process whose memory it is */
    uint64_t exporter_serial;        /* IPC: its segment */
    uint64_t readers, writers;       /* VMM: bit n: device n may */
    bool is_freeing;                 /* a thread waits for the device in order to free it */
    int sync_memops;
    uint64_t shared_start, shared_size; /* device: the pages that a dma-buf has; size 0: none */
    int shared_fd;
};

/* The table keeps a copy. NULL when memory is out or the range is taken. */
struct mem *mem_add(const struct mem *mem);
/* Takes it out of the table and frees the structure. */
void mem_remove(struct mem *mem);
/* The allocation that contains the address; NULL for unknown memory. */
struct mem *mem_find(uint64_t address);
/* Whether [address, address + size) may be touched: it lies in one live
 * allocation, or outside the window (the program's own memory). Adjacent VMM
 * mappings count as one. */
bool mem_is_accessible(uint64_t address, uint64_t size);
bool mem_overlaps(uint64_t address, uint64_t size);
/* Removes what the context owns, host memory included. */
void mem_forget_context(struct context *context);
/* The open mapping of another process's segment, or NULL. */
struct mem *mem_find_ipc(int exporter, uint64_t serial);
void mem_release_host(struct mem *mem);

#endif
