/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/libc_state.h"

#include <dlfcn.h>
#include <link.h>

struct berth_libc_code berth__libc_code;

/* dl_iterate_phdr()'s callback: the module that has fclose(), and in it the segment with it. */
static int visit(struct dl_phdr_info *info, size_t size, void *context)
{
    uintptr_t wanted = (uintptr_t)context;

    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t start = (uintptr_t)(info->dlpi_addr + p->p_vaddr);

        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && wanted - start < p->p_memsz) {
            berth__libc_code.start = start;
            berth__libc_code.size = (size_t)p->p_memsz;
            return 1;
        }
    }
    return 0;
}

void berth__libc_state_learn(void)
{
    /* Not its address here: in a program that is not position-independent that may be a stub. */
    void *function = dlsym(RTLD_NEXT, "fclose");

    if (function)
        dl_iterate_phdr(visit, function);
}
