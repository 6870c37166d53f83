/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/server.h"

#include "alloc/clock.h"
#include "alloc/file_call.h"
#include "ipc/buffer.h"
#include "ipc/passed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* How much is read from a client at once: no client has more of a turn than this. */
#define READ_SIZE ((size_t)16 << 10)
/* How long a listener rests that found no descriptor or memory for a client. */
#define STARVED_MS 1000
/* What epoll calls the doorbell, and how many things it watches: clients, listener, doorbell. */
#define EVENT_BELL (BERTH_SERVER_CLIENTS_MAX + 1)
#define EVENT_COUNT (BERTH_SERVER_CLIENTS_MAX + 2)

static const char too_long[] =
    "{\"id\":null,\"ok\":false,\"error\":{\"code\":\"frame-too-long\",\"message\":"
    "\"a frame is longer than 1048576 bytes; it was skipped\"}}\n";
static const char busy[] = "{\"id\":null,\"ok\":false,\"error\":{\"code\":\"busy\",\"message\":"
                           "\"32 clients are connected already, the most there can be\"}}\n";
static const char not_permitted[] =
    "{\"id\":null,\"ok\":false,\"error\":{\"code\":\"not-permitted\",\"message\":"
    "\"this socket is for the process's own user and for root\"}}\n";
static const char no_handover[] =
    "{\"id\":null,\"ok\":false,\"error\":{\"code\":\"no-handover\",\"message\":"
    "\"the descriptor could not be brought to the socket\"}}\n";
static const char no_memory[] =
    "{\"id\":null,\"ok\":false,\"error\":{\"code\":\"no-memory\",\"message\":"
    "\"there is no memory for the answer\"}}\n";

_Static_assert(BERTH_SERVER_CLIENTS_MAX == 32, "the text of `busy` names the limit");
_Static_assert(BERTH_WIRE_FRAME_MAX == 1048576, "the text of `too_long` names the limit");

static void client_close(struct berth_client_slot *client)
{
    close(client->fd);
    berth__wire_done(&client->in);
    berth__passed_close(&client->passed);
    berth__buffer_free(client->out, client->out_size);
    if (client->out_fd >= 0)
        close(client->out_fd);
    memset(client, 0, sizeof(*client));
    client->fd = client->out_fd = -1;
}

static size_t client_waiting(const struct berth_client_slot *client)
{
    return client->out_used - client->out_start;
}

/* Queues bytes for a client. A client for whose answer there is no memory is closed. */
static void client_queue(struct berth_client_slot *client, const char *bytes, size_t length)
{
    size_t waiting = client_waiting(client);
    size_t size = client->out_size ? client->out_size : 4096;
    char *out;

    if (client->out_start > 0) {
        memmove(client->out, client->out + client->out_start, waiting);
        client->out_start = 0;
        client->out_used = waiting;
    }
    while (size < waiting + length)
        size *= 2;
    if (size != client->out_size) {
        out = berth__buffer_resize(client->out, client->out_size, size);
        if (!out) {
            client->doomed = true;
            return;
        }
        client->out = out;
        client->out_size = size;
    }
    memcpy(client->out + client->out_used, bytes, length);
    client->out_used += length;
}

/* Sends bytes, the first of them with the waiting descriptor. */
static ssize_t send_with_descriptor(struct berth_client_slot *client, void *bytes, size_t length)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec vector = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    ssize_t n;

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &client->out_fd, sizeof(int));
    n = sendmsg(client->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
        close(client->out_fd);
        client->out_fd = -1;
    }
    return n;
}

static ssize_t client_send(struct berth_client_slot *client)
{
    char *bytes = client->out + client->out_start;
    size_t length = client_waiting(client);
    ssize_t n;

    if (client->out_fd >= 0 && client->out_fd_before == 0)
        return send_with_descriptor(client, bytes, length);
    if (client->out_fd >= 0)
        length = client->out_fd_before;
    n = send(client->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0 && client->out_fd >= 0)
        client->out_fd_before -= (size_t)n;
    return n;
}

/* Sends what the client takes now. False: it is gone. */
static bool client_flush(struct berth_client_slot *client)
{
    while (client_waiting(client) > 0) {
        ssize_t n = client_send(client);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        client->out_start += (size_t)n;
    }
    berth__buffer_free(client->out, client->out_size); /* an idle client holds no memory */
    client->out = NULL;
    client->out_size = client->out_start = client->out_used = 0;
    return true;
}

/* Reads once. False: the connection is broken. */
static bool client_read(struct berth_client_slot *client, char *buffer)
{
    int r;
    ssize_t n = berth__passed_receive(client->fd, buffer, READ_SIZE, &client->passed);

    if (n < 0)
        return n == -EAGAIN || n == -EINTR;
    client->heard_ms = (uint64_t)berth__clock_ms();
    if (n == 0)
        client->ended = true;
    r = berth__wire_feed(&client->in, buffer, (size_t)n);
    return r == 0;
}

static void drop_reply(struct berth_exchange *exchange)
{
    berth__buffer_free(exchange->reply, exchange->reply_length);
    exchange->reply = NULL;
}

/* Asks again, with the means to carry a descriptor; it is then the client's `out_fd`. */
static void serve_descriptor(struct berth_server *server, struct berth_client_slot *client,
                             struct berth_exchange *exchange)
{
    struct berth_handover handover;
    int r;

    drop_reply(exchange);
    exchange->gives_descriptor = false;
    r = berth__handover_open(&handover);
    if (r == 0) {
        exchange->handover = &handover;
        server->config.answer(server->config.context, exchange);
        exchange->handover = NULL;
        if (exchange->gives_descriptor) {
            client->out_fd_before = client_waiting(client);
            r = berth__handover_take(&handover, &client->out_fd);
        }
        berth__handover_close(&handover);
    }
    if (r < 0) {
        drop_reply(exchange);
        exchange->reply = berth__buffer_make(no_handover, sizeof(no_handover) - 1);
        exchange->reply_length = sizeof(no_handover) - 1;
    }
}

/* One frame's answer. */
static void client_serve(struct berth_server *server, struct berth_client_slot *client)
{
    struct berth_exchange exchange = {.passed = &client->passed};
    int r = berth__wire_next(&client->in, &exchange.frame, &exchange.length);

    if (r == -EMSGSIZE)
        client_queue(client, too_long, sizeof(too_long) - 1);
    if (r <= 0 || exchange.length == 0)
        return;
    server->config.answer(server->config.context, &exchange);
    if (exchange.takes_passed && client->passed.state == BERTH_PASSED_UNREAD) {
        drop_reply(&exchange);
        berth__passed_read(&client->passed);
        server->config.answer(server->config.context, &exchange);
    }
    if (exchange.takes_passed || exchange.opens_passed)
        berth__passed_close(&client->passed);
    if (exchange.gives_descriptor)
        serve_descriptor(server, client, &exchange);
    if (exchange.reply)
        client_queue(client, exchange.reply, exchange.reply_length);
    else
        client_queue(client, no_memory, sizeof(no_memory) - 1);
    drop_reply(&exchange);
}

/* Whether a frame is complete and its answer may be queued. */
static bool client_has_work(struct berth_client_slot *client)
{
    return !client->doomed && client_waiting(client) < BERTH_SERVER_QUEUE_MAX &&
           client->out_fd < 0 && berth__wire_ready(&client->in);
}

/* One client's turn: at most one read and one frame, so that none can keep the others waiting. */
static void client_turn(struct berth_server *server, struct berth_client_slot *client, short events,
                        char *buffer)
{
    bool alive = true;

    /* Nothing can be delivered to it, and it has nothing more to say. */
    if ((events & (EPOLLHUP | EPOLLERR)) && !(events & EPOLLIN))
        alive = false;
    if (alive && (events & EPOLLIN))
        alive = client_read(client, buffer);
    if (alive && client_has_work(client))
        client_serve(server, client);
    if (alive)
        alive = client_flush(client);
    if (!alive)
        client_close(client);
    else if (client_waiting(client) == 0 &&
             (client->doomed || (client->ended && !berth__wire_ready(&client->in))))
        client_close(client);
}

/* A free place; else that of the client that was silent longest, if that was long enough. */
static struct berth_client_slot *find_place(struct berth_server *server)
{
    struct berth_client_slot *oldest = NULL;

    for (int i = 0; i < BERTH_SERVER_CLIENTS_MAX; i++) {
        struct berth_client_slot *client = &server->client[i];

        if (client->fd < 0)
            return client;
        if (!oldest || client->heard_ms < oldest->heard_ms)
            oldest = client;
    }
    if ((uint64_t)berth__clock_ms() - oldest->heard_ms < BERTH_SERVER_IDLE_MS)
        return NULL;
    client_close(oldest);
    return oldest;
}

/* Sends a line to somebody who is turned away; whether it arrives is not important. */
static void turn_away(int fd, const char *line, size_t length)
{
    if (send(fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        shutdown(fd, SHUT_WR);
    close(fd);
}

static bool peer_is_permitted(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return false;
    return peer.uid == 0 || peer.uid == berth__geteuid();
}

static void accept_one(struct berth_server *server)
{
    int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    struct berth_client_slot *client;

    if (fd < 0) {
        server->starved = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
        return;
    }
    if (!peer_is_permitted(fd)) {
        turn_away(fd, not_permitted, sizeof(not_permitted) - 1);
        return;
    }
    client = find_place(server);
    if (!client) {
        turn_away(fd, busy, sizeof(busy) - 1);
        return;
    }
    event.data.u32 = (uint32_t)(client - server->client);
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        close(fd);
        return;
    }
    client->fd = fd;
    client->watched = event.events;
    client->heard_ms = (uint64_t)berth__clock_ms();
    client_queue(client, server->config.hello, strlen(server->config.hello));
    if (!client_flush(client))
        client_close(client);
}

/* What is to be waited for from a client. */
static uint32_t wanted_events(struct berth_client_slot *client)
{
    uint32_t events = 0;

    if (client_waiting(client) > 0)
        events |= EPOLLOUT;
    if (!client->ended && !client->doomed && client_waiting(client) < BERTH_SERVER_QUEUE_MAX &&
        !berth__wire_ready(&client->in))
        events |= EPOLLIN;
    return events;
}

/* Tells epoll what is waited for; returns whether some client's turn need not be waited for. */
static bool prepare_wait(struct berth_server *server)
{
    bool work = false;

    for (int i = 0; i < BERTH_SERVER_CLIENTS_MAX; i++) {
        struct berth_client_slot *client = &server->client[i];
        struct epoll_event event = {.data.u32 = (uint32_t)i};

        if (client->fd < 0)
            continue;
        work = work || client_has_work(client);
        event.events = wanted_events(client);
        if (event.events != client->watched &&
            epoll_ctl(server->epoll, EPOLL_CTL_MOD, client->fd, &event) == 0)
            client->watched = event.events;
    }
    if (server->listening == server->starved) {
        struct epoll_event event = {.events = server->starved ? 0 : EPOLLIN,
                                    .data.u32 = BERTH_SERVER_CLIENTS_MAX};

        epoll_ctl(server->epoll, EPOLL_CTL_MOD, server->listener, &event);
        server->listening = !server->starved;
    }
    return work;
}

int berth__server_step(struct berth_server *server, int timeout_ms)
{
    struct epoll_event ready[EVENT_COUNT];
    uint32_t events[EVENT_COUNT] = {0};
    char buffer[READ_SIZE];
    int count;

    if (prepare_wait(server))
        timeout_ms = 0;
    else if (server->starved && (timeout_ms < 0 || timeout_ms > STARVED_MS))
        timeout_ms = STARVED_MS;
    count = epoll_wait(server->epoll, ready, EVENT_COUNT, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    server->starved = false;
    for (int i = 0; i < count; i++)
        events[ready[i].data.u32] = ready[i].events;
    for (int i = 0; i < BERTH_SERVER_CLIENTS_MAX; i++) {
        struct berth_client_slot *client = &server->client[i];

        if (client->fd >= 0 && (events[i] || client_has_work(client)))
            client_turn(server, client, events[i], buffer);
    }
    if (events[BERTH_SERVER_CLIENTS_MAX])
        accept_one(server);
    return 0;
}

/* What the socket is called until it listens. */
static int name_unseen(const struct berth_server_config *config, struct sockaddr_un *ret,
                       int *ret_directory_fd)
{
    char name[BERTH_ADDRESS_NAME_MAX];
    int n = snprintf(name, sizeof(name), "%s" BERTH_ADDRESS_UNSEEN, config->name);

    if (n >= (int)sizeof(name))
        return -ENAMETOOLONG;
    return berth__address_make(config->directory, name, ret, ret_directory_fd);
}

static int bind_unseen(int fd, const struct sockaddr_un *address)
{
    /* The name takes its mode from the socket, so that it is never open to others, not even for
     * a moment; the process's umask belongs to the program. */
    if (berth__fchmod(fd, 0600) < 0)
        return -errno;
    /* Of the process image before an exec, which came at the wrong moment. */
    if (berth__unlink(address->sun_path) < 0 && errno != ENOENT)
        return -errno;
    if (berth__bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return -errno;
    /* A umask that takes the owner's own bits away would lock the owner out. */
    if (berth__chmod(address->sun_path, 0600) < 0 || listen(fd, BERTH_SERVER_CLIENTS_MAX) < 0)
        return -errno;
    return 0;
}

static int listen_at(struct berth_server *server, const struct sockaddr_un *unseen)
{
    struct stat st;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return -errno;
    r = bind_unseen(fd, unseen);
    if (r == 0 && berth__lstat(unseen->sun_path, &st) < 0)
        r = -errno;
    if (r < 0) {
        berth__unlink(unseen->sun_path);
        close(fd);
        return r;
    }
    server->listener = fd;
    server->device = st.st_dev;
    server->inode = st.st_ino;
    return 0;
}

/* Gives the socket its name, by which clients find it: whoever finds it is not turned away. */
static int show(const struct sockaddr_un *unseen, const struct sockaddr_un *address)
{
    struct stat st;

    if (berth__lstat(address->sun_path, &st) == 0 && berth__address_answers(address))
        return -EADDRINUSE;
    return berth__rename(unseen->sun_path, address->sun_path) < 0 ? -errno : 0;
}

/* Makes the descriptor to wait with. */
static int watch_listener(struct berth_server *server)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = BERTH_SERVER_CLIENTS_MAX};
    int r;

    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll < 0)
        return -errno;
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->listener, &event) < 0) {
        r = -errno;
        close(server->epoll);
        return r;
    }
    server->listening = true;
    /* Without one, whoever rings waits longer. */
    event.data.u32 = EVENT_BELL;
    event.events = BERTH_DOORBELL_EVENTS;
    if (berth__doorbell_open(&server->bell) == 0 &&
        epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->bell.fd, &event) < 0)
        berth__doorbell_close(&server->bell);
    return 0;
}

static void close_open(struct berth_server *server)
{
    berth__doorbell_close(&server->bell);
    close(server->epoll);
    close(server->listener);
    server->epoll = server->listener = -1;
}

static int open_as(struct berth_server *server, const struct sockaddr_un *unseen,
                   const struct sockaddr_un *address)
{
    int r = listen_at(server, unseen);

    if (r < 0)
        return r;
    r = watch_listener(server);
    if (r < 0) {
        close(server->listener);
    } else {
        r = show(unseen, address);
        if (r < 0)
            close_open(server);
    }
    if (r < 0)
        berth__unlink(unseen->sun_path);
    return r;
}

int berth__server_open(struct berth_server *server, const struct berth_server_config *config)
{
    struct sockaddr_un address, unseen;
    int directory_fd = -1, unseen_fd = -1;
    int r = berth__address_make(config->directory, config->name, &address, &directory_fd);

    if (r < 0)
        return r;
    memset(server, 0, sizeof(*server));
    server->config = *config;
    for (int i = 0; i < BERTH_SERVER_CLIENTS_MAX; i++)
        server->client[i].fd = server->client[i].out_fd = -1;
    r = name_unseen(config, &unseen, &unseen_fd);
    if (r == 0)
        r = open_as(server, &unseen, &address);
    if (unseen_fd >= 0)
        close(unseen_fd);
    if (directory_fd >= 0)
        close(directory_fd);
    return r;
}

void berth__server_close(struct berth_server *server)
{
    for (int i = 0; i < BERTH_SERVER_CLIENTS_MAX; i++)
        if (server->client[i].fd >= 0)
            client_close(&server->client[i]);
    close_open(server);
}
