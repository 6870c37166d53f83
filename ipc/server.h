/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of the socket: who may connect, whose bytes arrive, who gets which answer.
 *
 * One thread, one loop over epoll (poll refuses to work where a program has lowered its limit of
 * descriptors below their number), nothing that blocks: a client that is slow, silent or hostile
 * costs bounded memory and delays nobody. A client whose answers pile up is not read from until it
 * has taken them. What a frame means is the `answer` function's business.
 *
 * Limits: BERTH_SERVER_CLIENTS_MAX clients at once; frames as in wire.h; answers waiting per client
 * BERTH_SERVER_QUEUE_MAX plus one answer; one descriptor waiting per client and direction.
 */
#ifndef BERTH_IPC_SERVER_H
#define BERTH_IPC_SERVER_H

#include "ipc/address.h"
#include "ipc/doorbell.h"
#include "ipc/handover.h"
#include "ipc/wire.h"

#include <stdint.h>
#include <sys/types.h>

#define BERTH_SERVER_CLIENTS_MAX 32
/* A client with this many bytes of answers waiting is not read from. */
#define BERTH_SERVER_QUEUE_MAX ((size_t)1 << 20) /* 1 MiB */
/* When all places are taken, a client that was silent for this long makes room for a new one. */
#define BERTH_SERVER_IDLE_MS 10000
/* Largest memory file that a client may pass. */
#define BERTH_SERVER_PASSED_MAX ((size_t)16 << 20) /* 16 MiB */
/* Room for the line that every client is greeted with. */
#define BERTH_SERVER_HELLO_MAX 1024

enum berth_passed_state {
    BERTH_PASSED_NONE,   /* no descriptor came */
    BERTH_PASSED_UNREAD, /* one came and was not looked at yet */
    BERTH_PASSED_READ,   /* `bytes` are its contents */
    BERTH_PASSED_BAD,    /* it cannot be taken: `why` */
};

/* A descriptor that a client sent along, and what is in it. */
struct berth_passed {
    enum berth_passed_state state;
    int fd;
    const void *bytes; /* a mapping of a sealed memory file: its size and contents cannot change */
    size_t size;
    char path[64]; /* UNREAD: by which any thread of this process can open the same file */
    char why[128];
};

/* A frame, and the answer to it. */
struct berth_exchange {
    const char *frame; /* valid during the call */
    size_t length;
    const struct berth_passed *passed;
    /*
     * Out: set when the frame takes the passed descriptor. If its state was UNREAD, the server
     * reads it and asks again; else it is closed after the call.
     */
    bool takes_passed;
    /* Out: the frame has taken the passed descriptor unread, by its path. Closed after the call. */
    bool opens_passed;
    /*
     * Out: set when a descriptor goes along with the answer. If `handover` is NULL, the server
     * makes one and asks again; else the descriptor was given to it.
     */
    bool gives_descriptor;
    const struct berth_handover *handover;
    /* Out: a buffer of `reply_length` bytes that ends in a newline; NULL when memory is exhausted.
     */
    char *reply;
    size_t reply_length;
};

struct berth_server_config {
    const char *directory; /* the caller's, as all strings here; valid while the server is open */
    const char *name;
    const char *hello; /* ends in a newline; shorter than BERTH_SERVER_HELLO_MAX */
    void (*answer)(void *context, struct berth_exchange *exchange);
    void *context;
};

struct berth_client_slot {
    int fd; /* -1 = free */
    struct berth_wire in;
    struct berth_passed passed;
    char *out;
    size_t out_size, out_start, out_used;
    int out_fd;           /* goes along with a byte that waits; -1 = none */
    size_t out_fd_before; /* how many of the waiting bytes come before that one */
    bool ended;           /* it sends no more; closed once it has its answers */
    bool doomed;          /* closed once it has what is queued, or cannot take it */
    uint64_t heard_ms;    /* when its last bytes came */
    uint32_t watched;     /* what epoll watches for it */
};

/* Owned by the thread that steps it. */
struct berth_server {
    struct berth_server_config config;
    int listener;
    int epoll;
    struct berth_doorbell bell; /* ends a wait; fd -1 where none can be had */
    bool listening;             /* what epoll watches for the listener */
    bool starved; /* accept found no descriptor or memory; tried again after a while */
    dev_t device; /* of the socket's name in the file system */
    ino_t inode;
    struct berth_client_slot client[BERTH_SERVER_CLIENTS_MAX];
};

/*
 * Opens the socket, which has its name from when it listens, at once. A name that is left over from
 * the process image before an exec is replaced; -EADDRINUSE when somebody answers there.
 */
int berth__server_open(struct berth_server *server, const struct berth_server_config *config);

/*
 * Waits until something happens, its doorbell rings, or `timeout_ms` (-1: never) have passed, and
 * deals with it. 0, or negative errno when the socket is of no use any more.
 */
int berth__server_step(struct berth_server *server, int timeout_ms);

/* Closes everything; the name stays. */
void berth__server_close(struct berth_server *server);

#endif
