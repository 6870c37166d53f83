/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of a recorded trace: what alloc/trace.c writes to memory that it is given, and what
 * the tools read from a file.
 *
 * A header, then records of 64 bytes. A record belongs to whoever took its number;
 * its stamp, the number plus one, is written last, so that a reader sees a record whole or not at
 * all, also where the writer was killed in the middle. In an append trace record n is at place n;
 * in a ring it is at place n modulo the ring's room, and the newest are there.
 *
 * A free takes its number before the memory is given back and an allocation after it was had, so
 * that for each address the numbers follow the order of events.
 *
 * The name of a call site is written when the first record of that site is: records of the action
 * SITE with the same `site`, each with a piece of the name in `text` and its place in `address`.
 */
#ifndef BERTH_ALLOC_TRACE_RECORD_H
#define BERTH_ALLOC_TRACE_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BERTH_TRACE_MAGIC "berth trace 1\n"
#define BERTH_TRACE_HEADER_SIZE 65536 /* at least an OS page of any machine */

enum berth_trace_action {
    BERTH_TRACE_NOTHING, /* a number that was taken and not used */
    BERTH_TRACE_ALLOCATE,
    BERTH_TRACE_FREE,
    BERTH_TRACE_FAILURE,  /* an allocation that was refused; `address` is 0, `held` what the device
                             has */
    BERTH_TRACE_EXISTING, /* a block that was live already when the trace began */
    BERTH_TRACE_SITE,     /* a piece of a site's name */
    BERTH_TRACE_ACTION_COUNT
};

/* X(identifier, name in files): the kind of call that a record is of. */
#define BERTH_TRACE_KINDS(X)                                                                       \
    X(DEVICE, "device")         /* cuMemAlloc */                                                   \
    X(PITCH, "pitch")           /* cuMemAllocPitch */                                              \
    X(MANAGED, "managed")       /* cuMemAllocManaged */                                            \
    X(HOST, "host")             /* cuMemAllocHost, cuMemHostAlloc */                               \
    X(REGISTERED, "registered") /* cuMemHostRegister */                                            \
    X(ASYNC, "async")           /* cuMemAllocAsync */                                              \
    X(FROM_POOL, "from-pool")   /* cuMemAllocFromPoolAsync */                                      \
    X(ARRAY, "array")           /* cuArrayCreate and its relatives */                              \
    X(VMM, "vmm")               /* cuMemCreate */

enum berth_trace_kind {
#define X(identifier, name) BERTH_TRACE_##identifier,
    BERTH_TRACE_KINDS(X)
#undef X
        BERTH_TRACE_KIND_COUNT
};

/* Bytes of a site's name in one record. */
#define BERTH_TRACE_TEXT 24

struct berth_trace_record {
    _Atomic uint64_t stamp; /* the record's number plus one; 0 = not written */
    uint64_t time_ns;       /* CLOCK_MONOTONIC */
    uint64_t address;
    union {
        struct {
            uint64_t requested, held, stream;
        };
        char text[BERTH_TRACE_TEXT]; /* SITE; not terminated when full */
    };
    uint32_t site;
    uint32_t thread; /* the kernel's id */
    uint16_t device;
    uint8_t action, tag, kind;
    uint8_t unused[3];
};
_Static_assert(sizeof(struct berth_trace_record) == 64, "part of the file's layout");

/* The first bytes of the file. */
struct berth_trace_header {
    char magic[16];
    uint32_t header_size, record_size;
    _Atomic uint32_t pid;          /* the process that writes; 0 = none yet */
    _Atomic uint32_t is_truncated; /* the disk was full, or the trace's limit was reached */
    _Atomic uint64_t next;         /* numbers taken so far */
    _Atomic uint64_t room;         /* records that the file has room for */
    uint64_t started_ns;           /* CLOCK_MONOTONIC */
    uint64_t started_real_ns;      /* CLOCK_REALTIME at the same moment */
};

#endif
