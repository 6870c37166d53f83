/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses up the memory that it may have, then starts threads that allocate as there is some, and
 * is none. Ends with 0 where each answer was a block with its bytes kept, or NULL with ENOMEM.
 *
 * usage: used_up SEED THREADS LARGEST ROUNDS
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCKS = 400, THREADS_MAX = 64, GIVEN_BACK = 3 };

struct block {
    char *p;
    size_t size;
};

static unsigned seed;
static int rounds;

static unsigned draw(unsigned *state)
{
    *state = *state * 1103515245 + 12345;
    return *state >> 8;
}

static void mark(struct block *block, char *p, size_t size, char value)
{
    if (!p) {
        if (errno != ENOMEM)
            _exit(8);
        return;
    }
    p[0] = p[size - 1] = value;
    *block = (struct block){p, size};
}

static size_t draw_size(unsigned *state)
{
    return draw(state) % (draw(state) % 8 ? 3000 : 400000) + 1;
}

static void turn(struct block *block, char value, unsigned *state)
{
    size_t size = draw_size(state);

    errno = 0;
    if (!block->p) {
        mark(block, draw(state) % 2 ? calloc(1, size) : malloc(size), size, value);
        return;
    }
    if (block->p[0] != value || block->p[block->size - 1] != value)
        _exit(9);
    if (draw(state) % 2) {
        mark(block, realloc(block->p, size), size, value);
        return;
    }
    free(block->p);
    block->p = NULL;
}

static void *churn(void *argument)
{
    struct block blocks[BLOCKS] = {{NULL, 0}};
    unsigned state = (unsigned)(size_t)argument * 7919 + seed;

    for (int i = 0; i < rounds; i++) {
        unsigned at = draw(&state) % BLOCKS;

        turn(&blocks[at], (char)at, &state);
    }
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i].p);
    return NULL;
}

static void *use_up(size_t largest)
{
    void *list = NULL;

    for (size_t size = largest; size >= sizeof(void *); size /= 2) {
        void **p;

        while ((p = malloc(size))) {
            *p = list;
            list = p;
        }
    }
    return list;
}

static void give_back(void *list, int count)
{
    for (void *next; list && count > 0; list = next, count--) {
        next = *(void **)list;
        free(list);
    }
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS_MAX];
    pthread_attr_t attributes;
    int count = 0, wanted;
    void *list;

    if (argc != 5 || (wanted = atoi(argv[2])) > THREADS_MAX)
        return 2;
    seed = (unsigned)atoi(argv[1]);
    rounds = atoi(argv[4]);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, (size_t)128 << 10);
    list = use_up(strtoul(argv[3], NULL, 10));
    for (int i = 0; i < wanted; i++)
        if (pthread_create(&threads[count], &attributes, churn, (void *)(size_t)i) == 0)
            count++;
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    give_back(list, GIVEN_BACK);
    puts("done");
    return 0;
}
