/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program whose memory is many small blocks: nodes by malloc(), texts by calloc(), half of which
 * it frees again, lines that grow by realloc(), and names of a few threads that live shortly.
 *
 *   many NUMBER  says "nodes", "texts" and "lines" with their bytes, and "ready"; frees all on the
 *                first line of input, says "freed", and ends with its input
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIET __attribute__((noinline))
#define THREADS 64
#define HERE(p) __asm__ volatile("" ::"r"(p) : "memory")

static QUIET void *new_node(void)
{
    void *p = malloc(48);

    HERE(p);
    return p;
}

static QUIET void *new_text(void)
{
    void *p = calloc(3, 16);

    HERE(p);
    return p;
}

static QUIET void *new_line(void)
{
    void *p = malloc(20);

    HERE(p);
    return p;
}

static QUIET void *longer_line(void *line)
{
    void *p = realloc(line, 90);

    HERE(p);
    return p;
}

struct names {
    void **name;
    long count;
};

static QUIET void *new_names(void *context)
{
    struct names *names = context;

    for (long i = 0; i < names->count; i++)
        names->name[i] = malloc(100);
    HERE(names);
    return NULL;
}

static void **keep(long count, void *(*make)(void))
{
    void **kept = malloc((size_t)count * sizeof(*kept));

    for (long i = 0; kept && i < count; i++)
        kept[i] = make();
    return kept;
}

static void drop(void **kept, long count)
{
    for (long i = 0; i < count; i++)
        free(kept[i]);
    free(kept);
}

/* The threads follow one another, each with its share. */
static void **keep_names(long count)
{
    void **kept = malloc((size_t)count * sizeof(*kept));

    for (long i = 0; kept && i < THREADS; i++) {
        struct names names = {kept + count / THREADS * i, count / THREADS};
        pthread_t thread;

        if (pthread_create(&thread, NULL, new_names, &names) != 0)
            exit(1);
        pthread_join(thread, NULL);
    }
    return kept;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) / THREADS * THREADS : THREADS;
    void **nodes = keep(count, new_node), **texts = keep(count, new_text);
    void **lines = keep(count, new_line), **names = keep_names(count);

    for (long i = 0; i < count; i += 2) {
        free(texts[i]);
        texts[i] = NULL;
        lines[i] = longer_line(lines[i]);
    }
    printf("nodes %ld\ntexts %ld\nlines %ld\nnames %ld\nready\n", count * 48, count / 2 * 48,
           count / 2 * 90, count * 100);
    fflush(stdout);
    if (getchar() == EOF)
        return 0;
    drop(nodes, count);
    drop(texts, count);
    drop(lines, count);
    drop(names, count);
    printf("freed\n");
    fflush(stdout);
    return getchar() == EOF ? 0 : 1;
}
