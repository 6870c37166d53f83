/* SPDX-License-Identifier: Apache-2.0 */
/* A folder: a temporary directory in which a test writes the files of a model. */
#ifndef BERTH_TEST_INFER_FOLDER_H
#define BERTH_TEST_INFER_FOLDER_H

#include <stddef.h>
#include <stdint.h>

/* The caller gives it to folder_free(), which removes what lies in it. Aborts the test where the
 * file system does not play along. */
char *folder_new(void);
void folder_free(char *dir);

void folder_write(const char *dir, const char *name, const void *bytes, size_t size);
void folder_write_text(const char *dir, const char *name, const char *text);

/* A safetensors file: the header's length, the header, then `data_size` bytes of zero. */
void folder_write_safetensors(const char *dir, const char *name, const char *header,
                              size_t data_size);

#endif
