/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workload: one thread opens and closes libraries, one prints to a stream, others allocate and
 * free, and the first forks children amid all that. What a child finds must be as at the fork: each
 * thread says, in the program's own data, when it is within the library's functions; where it was
 * not, the child may use what that thread has used, as it may without Berth.
 *
 * usage: fork_storm FORKS SEED LIBRARY...
 */
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHURNERS 2
#define STILL 64
#define SLOTS 64

static atomic_bool stop;
static atomic_bool opening, printing;
static atomic_ulong libraries_opened, blocks;
static char **libraries;
static int library_count;
static FILE *stream;
static unsigned long printed; /* bytes; changed while `printing` */

static unsigned next(unsigned *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void fail(const char *what)
{
    dprintf(2, "%s\n", what);
    _exit(1);
}

/* A library that allocates, has thread-local storage, and needs others. */
static void use_library(unsigned number)
{
    void *library = dlopen(libraries[number % (unsigned)library_count], RTLD_NOW);

    if (!library)
        fail(dlerror());
    if (dlsym(library, "fork_storm_has_no_such_name") || !dlerror())
        fail("a name that no library has was found");
    if (dlclose(library) != 0)
        fail("a library cannot be closed");
}

static void *open_and_close(void *context)
{
    unsigned seed = *(unsigned *)context;

    while (!atomic_load(&stop)) {
        atomic_store(&opening, true);
        use_library(next(&seed));
        atomic_store(&opening, false);
        atomic_fetch_add(&libraries_opened, 1);
        for (unsigned wait = next(&seed) % 2000; wait > 0; wait--)
            __asm__ volatile("");
    }
    return NULL;
}

/* The byte that the stream has at this position. */
static char byte_at(unsigned long position)
{
    return (char)('!' + position % 89);
}

static void print_some(unsigned count)
{
    char text[200];

    for (unsigned i = 0; i < count; i++)
        text[i] = byte_at(printed + i);
    if (fwrite(text, 1, count, stream) != count)
        fail("the stream takes no bytes");
    printed += count;
}

static void *print(void *context)
{
    unsigned seed = *(unsigned *)context;

    while (!atomic_load(&stop)) {
        atomic_store(&printing, true);
        print_some(1 + next(&seed) % 199);
        atomic_store(&printing, false);
        for (unsigned wait = next(&seed) % 2000; wait > 0; wait--)
            __asm__ volatile("");
    }
    return NULL;
}

/* What is in the stream's buffer is the end of what was printed. */
static bool stream_holds(void)
{
    size_t pending = __fpending(stream);
    const char *buffered = stream->_IO_write_ptr - pending;

    for (size_t i = 0; i < pending; i++)
        if (buffered[i] != byte_at(printed - pending + i))
            return false;
    return true;
}

static void fill(unsigned char *p, size_t size, unsigned mark)
{
    memset(p, (int)(mark & 0xff), size);
}

static bool holds(const unsigned char *p, size_t size, unsigned mark)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != (mark & 0xff))
            return false;
    return true;
}

static size_t draw_size(unsigned *seed)
{
    unsigned kind = next(seed) % 100;

    return 1 + next(seed) % (kind == 0 ? 1u << 20 : kind < 10 ? 1u << 16 : 1u << 9);
}

static void *churn(void *context)
{
    unsigned seed = *(unsigned *)context;
    unsigned char *slot[SLOTS] = {NULL};
    size_t size[SLOTS] = {0};

    while (!atomic_load(&stop)) {
        unsigned i = next(&seed) % SLOTS;

        if (slot[i] && !holds(slot[i], size[i], i))
            fail("a block was changed");
        free(slot[i]);
        size[i] = draw_size(&seed);
        slot[i] = malloc(size[i]);
        if (!slot[i])
            fail("no block");
        fill(slot[i], size[i], i);
        atomic_fetch_add(&blocks, 1);
    }
    for (int i = 0; i < SLOTS; i++)
        free(slot[i]);
    return NULL;
}

/* The deeper, the less often was the path met. */
static __attribute__((noinline)) void *allocate_by(unsigned depth, size_t size)
{
    void *p = depth == 0 ? malloc(size) : allocate_by(depth - 1, size);

    __asm__ volatile("" : "+r"(p));
    return p;
}

static int look_at_module(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    *(unsigned *)context += info->dlpi_phnum > 0 && strlen(info->dlpi_name) < 4096;
    return 0;
}

static unsigned char *still[STILL];

static int run_child(unsigned *seed)
{
    unsigned modules = 0;

    alarm(60);
    for (unsigned i = 0; i < STILL; i++)
        if (!holds(still[i], i * 97 + 1, i))
            fail("a child's block differs");
    if (!atomic_load(&printing) && !stream_holds())
        fail("a child's stream has other bytes");
    for (int i = 0; i < 10; i++)
        free(allocate_by(next(seed) % 200, draw_size(seed)));
    for (unsigned i = 0; i < STILL; i++)
        free(still[i]);
    if (!atomic_load(&opening)) {
        if (dl_iterate_phdr(look_at_module, &modules) != 0 || modules < 2)
            fail("a child's modules are not there");
        for (unsigned i = 0; i < 3; i++)
            use_library(i);
    }
    return 0;
}

static bool fork_once(unsigned *seed)
{
    pid_t child = fork();
    int status = -1;

    if (child == 0)
        _exit(run_child(seed));
    if (child > 0 && waitpid(child, &status, 0) == child && status == 0)
        return true;
    dprintf(2, "a child (%d) ended with status %#x\n", (int)child, (unsigned)status);
    return false;
}

int main(int argc, char **argv)
{
    unsigned seeds[CHURNERS + 3];
    pthread_t threads[CHURNERS + 2];
    unsigned long failures = 0;

    if (argc < 4)
        return 2;
    libraries = argv + 3;
    library_count = argc - 3;
    printf("seed %s\n", argv[2]);
    fflush(stdout);
    for (unsigned i = 0; i < CHURNERS + 3; i++)
        seeds[i] = (unsigned)strtoul(argv[2], NULL, 10) * 100 + i;
    for (unsigned i = 0; i < STILL; i++) {
        still[i] = malloc(i * 97 + 1);
        fill(still[i], i * 97 + 1, i);
    }
    stream = fopen("/dev/null", "w");
    if (!stream)
        return 2;
    for (unsigned i = 0; i < CHURNERS + 2; i++)
        if (pthread_create(&threads[i], NULL,
                           i == 0   ? open_and_close
                           : i == 1 ? print
                                    : churn,
                           &seeds[i]) != 0)
            return 2;
    for (unsigned long i = strtoul(argv[1], NULL, 10); i > 0; i--)
        failures += !fork_once(&seeds[CHURNERS + 2]);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < CHURNERS + 2; i++)
        pthread_join(threads[i], NULL);
    printf("%lu libraries, %lu blocks, %lu failures\n", atomic_load(&libraries_opened),
           atomic_load(&blocks), failures);
    return failures != 0;
}
