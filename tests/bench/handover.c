/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For programs.py: a server's threads, as larson has them. Each owns a set of small blocks, drops
 * one at random and makes another in its place; after some steps it ends, and its blocks go to a
 * thread that is started then, which frees what others made.
 *
 * usage: handover THREADS ROUNDS
 *
 * Every thread makes the same number of steps, whatever their number: with processor time that is
 * twice as much for two threads as for one, they scale.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCKS 1000
#define STEPS 20000

struct seat {
    pthread_t thread;
    uint64_t seed;
    char *block[BLOCKS];
};

static void fail(const char *what)
{
    fprintf(stderr, "handover: %s\n", what);
    exit(1);
}

static uint64_t next(struct seat *seat)
{
    seat->seed ^= seat->seed << 13;
    seat->seed ^= seat->seed >> 7;
    seat->seed ^= seat->seed << 17;
    return seat->seed;
}

static void *serve(void *argument)
{
    struct seat *seat = argument;

    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t random = next(seat);
        char **slot = &seat->block[random % BLOCKS];

        free(*slot);
        *slot = malloc(8 + (random >> 32) % 1000);
        if (!*slot)
            fail("no memory");
        **slot = (char)i;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned threads = argc == 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    unsigned rounds = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    struct seat *seats = calloc(threads + 1, sizeof(*seats));

    if (threads == 0 || rounds == 0 || !seats)
        fail("usage: handover THREADS ROUNDS");
    for (unsigned i = 0; i < threads; i++)
        seats[i].seed = 88172645463325252u + i;
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < threads; i++)
            if (pthread_create(&seats[i].thread, NULL, serve, &seats[i]) != 0)
                fail("no thread");
        for (unsigned i = 0; i < threads; i++)
            pthread_join(seats[i].thread, NULL);
    }
    for (unsigned i = 0; i < threads; i++)
        for (unsigned k = 0; k < BLOCKS; k++)
            free(seats[i].block[k]);
    free(seats);
    return 0;
}
