/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with a control thread, to be talked to and mistreated: a fork of the test that does
 * what it is told over a pipe.
 */
#ifndef BERTH_TESTS_SUBJECT_H
#define BERTH_TESTS_SUBJECT_H

#include "ipc/address.h"
#include "ipc/client.h"

#include <stdbool.h>

struct subject {
    pid_t pid;
    uint64_t start;
    int commands; /* the test's end; closing it makes the subject exit */
    int answers;
    char directory[PATH_MAX];
    char name[BERTH_ADDRESS_NAME_MAX];
};

/*
 * What the subject does on command. Each is answered with one byte, 'y' or 'n', when done.
 *   'b'  ends its control threads and begins them anew, all descriptors in use, as they stay
 *   'd'  closes every descriptor above 2 but its two pipes
 *   'f'  forks a child that finds nothing started; starts its own control thread; is talked to by
 *        the subject; and exits. 'y' if all of that was so
 *   'F'  forks 200 children one after the other that exit at once
 *   'o'  whether a new descriptor gets the lowest number, and none of its own is a socket
 *   'r'  chroots to an empty directory
 *   'u'  sends itself every signal, which it waits for, and gets them all
 *   'x'  calls exit(0) (no answer)
 *   'z'  ends its control threads, all descriptors in use, is alone then, and starts them again
 *   'Z'  does so 30 times from two threads at once, while a third one starts and wakes them
 *   'p'  its first thread ends, while another still waits for commands
 *   'l'  tells whether it links a far descriptor limit: sets RLIMIT_NOFILE to 8
 */
void subject_start(struct subject *subject, const char *directory);
/* As above, but does not wait for the socket. */
void subject_start_quietly(struct subject *subject, const char *directory);
bool subject_tell(struct subject *subject, char command);
/* Waits for its end; the status as waitpid gives it. */
int subject_wait(struct subject *subject);
/* Kills it if it lives. */
void subject_stop(struct subject *subject);

/* Removes a runtime directory with all that is in it. */
void subject_remove_directory(const char *directory);

/* Whether its socket's name is there. */
bool subject_has_name(const struct subject *subject);

/* Connects to it and reads the greeting, which must be one. */
void subject_connect(const struct subject *subject, struct berth_client *client);
/* The same, but waits until it has a socket. */
void subject_connect_later(const struct subject *subject, struct berth_client *client);
/* A plain connection, without reading: the descriptor, or -1. */
int subject_connect_plainly(const struct subject *subject);
/* Asks and compares: the answer contains `expected`. */
void subject_expect(struct berth_client *client, const char *request, const char *expected);
/* The same with a descriptor. */
void subject_expect_with(struct berth_client *client, int fd, const char *request,
                         const char *expected);

#endif
