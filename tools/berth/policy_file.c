/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_file.h"

#include "tools/berth/policy_check.h"
#include "tools/berth/policy_value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHY_MAX 512

static bool is_table(const char *bytes, size_t size)
{
    const uint64_t magic = BERTH_TABLE_MAGIC;

    return size >= sizeof(magic) && memcmp(bytes, &magic, sizeof(magic)) == 0;
}

static void load_text(const char *text, size_t size, struct berth_complaints *complaints,
                      struct berth_policy_file *ret)
{
    struct berth_policy_document document = {0};
    struct berth_policy policy = {0};
    char why[WHY_MAX];
    int r = berth__policy_scan(text, size, complaints, &document);

    if (r == 0)
        r = berth__policy_read_values(&document, complaints);
    if (r == 0)
        r = berth__policy_understand(&document, complaints, &policy);
    if (r < 0)
        berth__complain(complaints, 0, "there is no memory to read it");
    else if (complaints->errors == 0 &&
             berth__policy_encode(&policy, &ret->bytes, &ret->size, why, sizeof(why)) < 0)
        berth__complain(complaints, 0, "%s", why);
    berth__policy_done(&policy);
    berth__policy_document_done(&document);
}

static void load_table(const char *bytes, size_t size, struct berth_complaints *complaints,
                       struct berth_policy_file *ret)
{
    struct berth_table_view view;
    char why[WHY_MAX];

    ret->was_compiled = true;
    if (berth__table_open(bytes, size, &view, why, sizeof(why)) < 0) {
        berth__complain(complaints, 0, "%s", why);
        return;
    }
    ret->bytes = malloc(size);
    ret->size = size;
    if (ret->bytes)
        memcpy(ret->bytes, bytes, size);
    else
        berth__complain(complaints, 0, "there is no memory to read it");
}

int berth__policy_load_bytes(const char *bytes, size_t size, struct berth_complaints *complaints,
                             struct berth_policy_file *ret)
{
    struct berth_policy_file file = {0};

    if (is_table(bytes, size))
        load_table(bytes, size, complaints, &file);
    else
        load_text(bytes, size, complaints, &file);
    if (complaints->errors > 0) {
        free(file.bytes);
        return -EINVAL;
    }
    *ret = file;
    return 0;
}

int berth__policy_load(const char *path, struct berth_complaints *complaints,
                       struct berth_policy_file *ret)
{
    char *bytes;
    size_t size;
    int r = berth__policy_read(path, &bytes, &size);

    if (r == -EFBIG) {
        berth__complain(complaints, 0, "it is larger than %zu MiB; expected a policy file",
                        BERTH_POLICY_SIZE_MAX >> 20);
        return -EINVAL;
    }
    if (r < 0) {
        berth__complain(complaints, 0, "it cannot be read: %s; expected a policy file",
                        strerror(-r));
        return -EINVAL;
    }
    r = berth__policy_load_bytes(bytes, size, complaints, ret);
    free(bytes);
    return r;
}

int berth__policy_compile_file(const char *path, FILE *errors, void **ret_bytes, size_t *ret_size)
{
    struct berth_complaints complaints = {0};
    struct berth_policy_file file;
    int r = berth__policy_load(path, &complaints, &file);

    if (r == 0) {
        *ret_bytes = file.bytes;
        *ret_size = file.size;
    } else {
        berth__complaints_print(&complaints, path, true, errors);
    }
    berth__complaints_done(&complaints);
    return r;
}
