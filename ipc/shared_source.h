/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking whoever keeps a segment for it: a process under Berth by its id, or anything that answers
 * the operation shared.open of berth-protocol(7) on a socket (a broker, one day).
 *
 * What comes back is a stranger's word until the driver has taken it: all of it is checked, and the
 * peer must be this process's own user or root. Control thread only; waits for at most
 * BERTH_SHARED_PATIENCE_MS for each step.
 */
#ifndef BERTH_IPC_SHARED_SOURCE_H
#define BERTH_IPC_SHARED_SOURCE_H

#include "alloc/device_vmm.h"
#include "ipc/failure.h"

#include <sys/types.h>

#define BERTH_SHARED_PATIENCE_MS 2000

/* A segment that somebody gives. */
struct berth_shared_offer {
    pid_t pid; /* who keeps it, and since when that process runs */
    uint64_t start;
    uint64_t size;
    unsigned char uuid[BERTH_DEVICE_UUID_SIZE];
    bool is_legacy;
    int fd;                            /* the caller's; -1 when legacy */
    struct berth_cu_ipc_handle handle; /* legacy only */
};

/*
 * `from` is a process id in digits, or the absolute path of a socket. 0, -ENOMEM, or -EINVAL with
 * the reason in `failure`.
 */
int berth__shared_ask(const char *from, const char *name, struct berth_shared_offer *ret,
                      struct berth_failure *failure);

/* "GPU-00112233-4455-6677-8899-aabbccddeeff", as nvidia-smi writes it; and the reverse. */
#define BERTH_SHARED_UUID_TEXT_MAX 48
const char *berth__shared_uuid_text(const unsigned char uuid[BERTH_DEVICE_UUID_SIZE],
                                    char text[BERTH_SHARED_UUID_TEXT_MAX]);
int berth__shared_uuid_parse(const char *text, unsigned char ret[BERTH_DEVICE_UUID_SIZE]);

#endif
