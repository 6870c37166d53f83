/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/libc_state.h"

#include <dlfcn.h>
#include <link.h>

struct berth_libc_code berth__libc_code;

struct search {
    uintptr_t address;
    struct berth_code *code;
};

/* dl_iterate_phdr()'s callback: the module that has the address, and in it the segment with it. */
static int visit(struct dl_phdr_info *info, size_t size, void *context)
{
    const struct search *search = context;

    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t start = (uintptr_t)(info->dlpi_addr + p->p_vaddr);

        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && search->address - start < p->p_memsz) {
            search->code->start = start;
            search->code->size = (size_t)p->p_memsz;
            return 1;
        }
    }
    return 0;
}

static void find_code(const void *address, struct berth_code *code)
{
    struct search search = {(uintptr_t)address, code};

    if (address)
        dl_iterate_phdr(visit, &search);
}

/* Its size is what its symbol says. */
static void find_stream_buffer(void)
{
    const ElfW(Sym) *symbol = NULL;
    void *function = dlsym(RTLD_NEXT, "_IO_file_doallocate");
    Dl_info info;

    if (!function || dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || !symbol)
        return;
    berth__libc_code.stream_buffer.start = (uintptr_t)info.dli_saddr;
    berth__libc_code.stream_buffer.size = (size_t)symbol->st_size;
}

void berth__libc_state_learn(void)
{
    /* Not the first of that name: a program may have a variable of its own. */
    const struct r_debug *debug = dlsym(RTLD_NEXT, "_r_debug");

    /* Not its address here: in a program of fixed addresses that may be a PLT entry. */
    find_code(dlsym(RTLD_NEXT, "fclose"), &berth__libc_code.libc);
    /* Where debuggers have their breakpoint: the loader has said so from the beginning on. */
    if (debug)
        find_code((const void *)debug->r_brk, &berth__libc_code.loader);
    find_stream_buffer();
}
