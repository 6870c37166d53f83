/* SPDX-License-Identifier: Apache-2.0 */
/* Symbols as people know them: C++ names without the linker's coding. */
#ifndef BERTH_TOOLS_SYMBOL_NAME_H
#define BERTH_TOOLS_SYMBOL_NAME_H

/*
 * The name in the language of the source, or a copy of `symbol` where it is not coded, or where
 * there is no libstdc++ (which is loaded when it is first needed). The caller frees it.
 */
char *berth__symbol_name(const char *symbol);

#endif
