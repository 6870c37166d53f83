/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/unwind_probe.h"

#include "alloc/readable.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* The ends of the pipe that there is not: no process can have so many descriptors. */
#define READ_END (INT_MAX - 1)
#define WRITE_END INT_MAX

static ssize_t probe(const void *address)
{
    if (berth__is_readable(address))
        return 1;
    errno = EFAULT;
    return -1;
}

static int probe_pipe(int ends[2])
{
    ends[0] = READ_END;
    ends[1] = WRITE_END;
    return 0;
}

static int probe_pipe2(int ends[2], int flags)
{
    (void)flags;
    return probe_pipe(ends);
}

/* An empty pipe that does not block. */
static ssize_t probe_read(int fd, void *buffer, size_t size)
{
    if (fd != READ_END)
        return read(fd, buffer, size);
    errno = EAGAIN;
    return -1;
}

static ssize_t probe_write(int fd, const void *buffer, size_t size)
{
    return fd == WRITE_END ? probe(buffer) : write(fd, buffer, size);
}

/* libunwind makes its write() past the C library, so as to be no cancellation point. */
static long probe_syscall(long number, ...)
{
    long a[6];
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_write && (int)a[0] == WRITE_END)
        return probe((const void *)a[1]);
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Reads, or writes, a word of memory for libunwind: 0, or negative. */
typedef int (*access_fn)(void *space, uintptr_t address, uintptr_t *value, int is_write,
                         void *context);
/* Which of its functions this is (unw_accessors_t), and the one that it had. */
#define ACCESS_MEMORY 3
static access_fn own_access;

static int probe_access(void *space, uintptr_t address, uintptr_t *value, int is_write,
                        void *context)
{
    if (!berth__is_readable((const void *)address))
        return -1;
    /* A word that is not aligned lies in two, and the second may be another page's. */
    if (address % sizeof(*value) != 0 &&
        !berth__is_readable((const void *)(address + sizeof(*value))))
        return -1;
    return own_access(space, address, value, is_write, context);
}

void berth__unwind_probe_bind_reads(void **accessors)
{
    if (accessors[ACCESS_MEMORY] == (void *)probe_access)
        return;
    own_access = *(access_fn *)&accessors[ACCESS_MEMORY];
    *(access_fn *)&accessors[ACCESS_MEMORY] = probe_access;
}

struct import {
    const char *name;
    void *function;
};

static const struct import imports[] = {
    {"pipe", (void *)probe_pipe},       {"pipe2", (void *)probe_pipe2},
    {"read", (void *)probe_read},       {"write", (void *)probe_write},
    {"syscall", (void *)probe_syscall},
};
#define IMPORT_COUNT (sizeof(imports) / sizeof(imports[0]))

/* What the library's dynamic section says of its imports. */
struct relocations {
    uintptr_t base;
    const ElfW(Sym) * symbols;
    const char *names;
    const ElfW(Rela) * table[2]; /* of data, and of calls */
    size_t count[2];
};

static void relocations_read(const struct link_map *map, struct relocations *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->base = (uintptr_t)map->l_addr;
    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_SYMTAB)
            ret->symbols = (const ElfW(Sym) *)d->d_un.d_ptr;
        else if (d->d_tag == DT_STRTAB)
            ret->names = (const char *)d->d_un.d_ptr;
        else if (d->d_tag == DT_RELA)
            ret->table[0] = (const ElfW(Rela) *)d->d_un.d_ptr;
        else if (d->d_tag == DT_RELASZ)
            ret->count[0] = (size_t)d->d_un.d_val / sizeof(ElfW(Rela));
        else if (d->d_tag == DT_JMPREL)
            ret->table[1] = (const ElfW(Rela) *)d->d_un.d_ptr;
        else if (d->d_tag == DT_PLTRELSZ)
            ret->count[1] = (size_t)d->d_un.d_val / sizeof(ElfW(Rela));
    }
}

/* Stores into a slot that the loader may have made read-only, and leaves it writable. */
static int slot_bind(uintptr_t slot, void *function)
{
    uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t page = slot & ~(page_size - 1);

    if (mprotect((void *)page, page_size, PROT_READ | PROT_WRITE) < 0)
        return -ENOTSUP;
    atomic_store_explicit((_Atomic(void *) *)slot, function, memory_order_release);
    return 0;
}

static int relocation_bind(const struct relocations *r, const ElfW(Rela) * rela)
{
    const ElfW(Sym) *symbol = &r->symbols[ELF64_R_SYM(rela->r_info)];

    if (ELF64_R_SYM(rela->r_info) == 0 || symbol->st_shndx != SHN_UNDEF)
        return 0;
    for (size_t i = 0; i < IMPORT_COUNT; i++)
        if (strcmp(r->names + symbol->st_name, imports[i].name) == 0)
            return slot_bind(r->base + (uintptr_t)rela->r_offset, imports[i].function);
    return 0;
}

int berth__unwind_probe_bind(void *library)
{
    struct link_map *map;
    struct relocations r;

    if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0)
        return -ENOTSUP;
    relocations_read(map, &r);
    if (!r.symbols || !r.names)
        return -ENOTSUP;
    for (int t = 0; t < 2; t++)
        for (size_t i = 0; i < r.count[t]; i++)
            if (relocation_bind(&r, &r.table[t][i]) < 0)
                return -ENOTSUP;
    return 0;
}
