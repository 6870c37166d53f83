/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The symbol table in a module's file, which names static functions, and those of a program: most
 * of them are not in the dynamic symbol table.
 *
 * A file counts only if it is what was loaded: its build id must be the module's. The program is
 * read through /proc/self/exe, which is the very file, also without a build id. Files are read and
 * never mapped: of one that somebody shortens meanwhile, the program would get SIGBUS. Each is
 * opened for as long as it takes; nothing is held open.
 *
 * Called without any lock, of the loader's either: a filesystem may take its time. Never calls
 * malloc.
 */
#ifndef BERTH_ALLOC_MODULE_FILE_H
#define BERTH_ALLOC_MODULE_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct berth_module_file;

/*
 * The functions in the file of the module that was loaded from `path` ("" is the program) and has
 * this build (alloc/build_hash.h; 0: no build id). NULL where there is no such file any more, it
 * has no symbol table, or there is no memory. The caller owns it.
 */
struct berth_module_file *berth__module_file_read(const char *path, uint64_t build);
/* Whether there is such a file, with a symbol table, which is not read for this. */
bool berth__module_file_exists(const char *path, uint64_t build);
void berth__module_file_free(struct berth_module_file *file);

/*
 * The name of the function that contains `value`, an address as the file counts them; NULL where
 * none does, or the file is another one by now. Of a name, 4095 bytes are told. It lives as long as
 * the process.
 */
const char *berth__module_file_name(struct berth_module_file *file, uint64_t value,
                                    uint64_t *ret_start);

#endif
