/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What dlsym() and dlvsym() say of a library's handle, as programs see it under libberth-malloc.so.
 *
 * Foreign function interfaces call the C library by a handle of it: CDLL("libc.so.6").free of
 * Python's ctypes. There the loader finds the C library's own free(), which knows nothing of blocks
 * that the program or the C library itself had from this library's malloc(). So where a look-up
 * finds what a call from the program would have reached without Berth, it is answered with what
 * such a call does reach. What it finds in other libraries is theirs: a second allocator, another
 * namespace, a wrapper that comes first.
 */
#include "hooks/dlsym_next.h"
#include "hooks/elf_table.h"

#include <dlfcn.h>
#include <stdint.h>

/*
 * The function that this library exports by that name, or NULL: it is no such name, or this library
 * itself asks, to whom operator new of the C++ library is a way to throw. No lock, no other
 * library.
 */
static void *find_own(const char *name, const void *caller)
{
    const ElfW(Ehdr) *header = (const void *)__ehdr_start;
    const struct dl_phdr_info info = {
        .dlpi_addr = (uintptr_t)header,
        .dlpi_name = "",
        .dlpi_phdr = (const void *)(__ehdr_start + header->e_phoff),
        .dlpi_phnum = header->e_phnum,
    };
    const ElfW(Sym) * symbol;
    struct berth_elf tables;

    if (!berth__elf_read(&info, &tables))
        return NULL;
    symbol = berth__elf_find(&tables, name);
    if (!symbol || berth__elf_contains(&info, (uintptr_t)caller))
        return NULL;
    return (void *)(info.dlpi_addr + symbol->st_value);
}

/*
 * What a call from the program would have reached without this library is what the loader finds
 * after it: no library that was opened for its opener alone (RTLD_LOCAL). It is asked for first, so
 * that dlerror() tells of the program's own look-up.
 */
int berth__dlsym_answer(void *handle, const char *name, const char *version, void **ret,
                        const void *caller)
{
    void *own = find_own(name, caller);
    void *next, *found;

    if (!own)
        return 0;
    if (version) {
        next = berth__real_dlvsym(RTLD_NEXT, name, version);
        found = berth__real_dlvsym(handle, name, version);
    } else {
        next = berth__real_dlsym(RTLD_NEXT, name);
        found = berth__real_dlsym(handle, name);
    }
    *ret = found && found == next ? own : found;
    return 1;
}
