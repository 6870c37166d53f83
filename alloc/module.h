/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded modules: which file and which function an address belongs to.
 *
 * Read by dl_iterate_phdr(), which takes only the lock of the loader's list, not the one that is
 * held while constructors run. Symbols are read inside its callback, where no module can be
 * unmapped. What is found is kept for ever, also when the module is closed: a name once given
 * stays. When dlpi_adds or dlpi_subs say that the list has changed, modules that are no longer in
 * it are marked as gone, so that an address is named anew once another module is mapped there; one
 * that was gone is back when the same build is loaded at the same address.
 *
 * Lock-free but for the loader's own lock (and see alloc/module_walk.h); never calls malloc.
 */
#ifndef BERTH_ALLOC_MODULE_H
#define BERTH_ALLOC_MODULE_H

#include "alloc/site.h"

#include <stdbool.h>
#include <stddef.h>

struct berth_module;

/* The name of one return address. Equal addresses of one module share it. */
struct berth_module_frame {
    struct berth_site_frame name;
    const struct berth_module *module; /* NULL: the address was in no module */
};

/*
 * Names `count` (at most BERTH_SITE_FRAMES_MAX) return addresses. Each is looked up one byte
 * earlier, in the call instruction: the call of a function that does not return may be its
 * caller's last instruction. 0, or -ENOMEM with `ret` undefined.
 */
int berth__module_name(const void *const *addresses, unsigned count,
                       const struct berth_module_frame **ret);

/*
 * The name of the module that `address` returns to, without reading its symbols; NULL where there
 * is none, or no memory for it.
 */
const char *berth__module_name_at(const void *address);

/* Finds out what the program is called, for when its file can no longer be asked for. */
void berth__module_know_program(void);

/* Looks whether modules are gone or back, which naming does by itself. */
void berth__module_refresh(void);

/* How many modules were seen to be gone so far. */
uint64_t berth__module_gone_count(void);
/*
 * Notes which modules these return addresses belong to, without naming anything: a number for each,
 * by which what was noted before a module was closed is told apart from what is loaded there later.
 * 0 = in none.
 */
void berth__module_note(const void *const *addresses, unsigned count, uint16_t *ret);
/* Whether the module of this number is gone. One that was opened again where it was is not. */
bool berth__module_is_gone(uint16_t number);
/* Whether a frame was named by this module, or there is none that could have named it. */
bool berth__module_has_named(uint16_t number, const struct berth_module_frame *frame);
/* What the module of this number is called; NULL where there is no such module. */
const char *berth__module_name_of(uint16_t number);
/*
 * Whether a function of this module may have this name: false only where none has, as the hash
 * table in a module tells whose file names no more. Asked before names are found, which takes the
 * reading of all symbols.
 */
bool berth__module_may_have(uint16_t number, const char *symbol, size_t length);
/*
 * The name of `address` in the module of this number, which may be gone: without the symbol where
 * there is no file to tell it. NULL: there is no such module, or no memory.
 */
const struct berth_module_frame *berth__module_name_in(uint16_t number, const void *address);

#endif
