/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program whose blocks are moved while its threads write to them and check every byte. It reads
 * commands, one per line, and answers each by a line:
 *
 *   where  how many blocks are in which tier
 *   address  of the first block
 *   churn  frees and allocates half of the blocks anew
 *   step   has the threads pause and calls berth_step_quiescent(): how many were moved
 *   child  forks; the child checks every byte, writes to all of them, and ends
 *   heir   forks; the child, whose id is the answer, goes on as the program does, its threads too,
 *          and takes the commands until it ends; the parent then tells whether it was right
 *   limit  limits its system calls: those of a move end the process from now on
 *   leave  exits amid all that happens
 *   become becomes a program that says "became"
 *   end    "right" when every byte has been what it should be
 *
 * usage: move_client BLOCKS SIZE THREADS
 */
#include "alloc/berth.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The nice value of a thread that runs for a tenth of the time where another one wants to. */
#define MODEST 10

/* A block, written to by one thread at a time: under its lock. */
struct block {
    pthread_mutex_t lock;
    unsigned char *bytes;
    unsigned seed;
};

static struct block *blocks;
static size_t count, size;
static atomic_bool stop, wrong;
/* Threads hold it for reading while they write to blocks; who wants it for writing comes first. */
static pthread_rwlock_t quiet = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

/* Each byte of an OS page is 13 more than the one before it, and each page begins with 1 more than
 * the one before it, which is as far on as 13 * 197, or 1 + 10 * 256. */
#define OS_PAGE 4096
#define PERIOD 256
#define NEXT_PAGE 197

/* What any page may hold, from somewhere in the first PERIOD on. */
static unsigned char pattern[OS_PAGE + PERIOD];

static void make_pattern(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (unsigned char)(i * 13);
}

static const unsigned char *page_at(size_t at, unsigned seed)
{
    return pattern + (at / OS_PAGE + seed) * NEXT_PAGE % PERIOD;
}

static size_t left_of_page(size_t at)
{
    return size - at < OS_PAGE ? size - at : OS_PAGE;
}

static void fill(struct block *block, unsigned seed)
{
    block->seed = seed;
    for (size_t at = 0; at < size; at += OS_PAGE)
        memcpy(block->bytes + at, page_at(at, seed), left_of_page(at));
}

static bool is_right(const struct block *block)
{
    for (size_t at = 0; at < size; at += OS_PAGE)
        if (memcmp(block->bytes + at, page_at(at, block->seed), left_of_page(at)) != 0)
            return false;
    return true;
}

/* An emulated machine has one processor: threads that only write leave most of it to who moves. */
static void be_modest(void)
{
    if (getenv("CHECK_EMULATED"))
        setpriority(PRIO_PROCESS, 0, MODEST);
}

static void *write_blocks(void *context)
{
    unsigned seed = (unsigned)(uintptr_t)context * 7919;

    be_modest();
    while (!atomic_load(&stop)) {
        struct block *block = &blocks[rand_r(&seed) % count];

        pthread_rwlock_rdlock(&quiet);
        pthread_mutex_lock(&block->lock);
        if (!is_right(block))
            atomic_store(&wrong, true);
        fill(block, seed);
        pthread_mutex_unlock(&block->lock);
        pthread_rwlock_unlock(&quiet);
    }
    return NULL;
}

static unsigned char *allocate(void)
{
    unsigned char *p;

    berth_tag_push(BERTH_TAG_WEIGHT);
    p = malloc(size);
    berth_tag_pop();
    if (!p)
        abort();
    return p;
}

static void where(void)
{
    struct {
        char name[64];
        size_t count;
    } seen[8] = {0};

    for (size_t i = 0; i < count; i++) {
        struct berth_block_info info;
        const char *name =
            berth_describe(blocks[i].bytes, &info, sizeof(info)) == 0 ? info.tier : "?";

        for (int j = 0; j < 8; j++)
            if (!seen[j].count || strcmp(seen[j].name, name) == 0) {
                snprintf(seen[j].name, sizeof(seen[j].name), "%s", name);
                seen[j].count++;
                break;
            }
    }
    for (int j = 0; j < 8 && seen[j].count; j++)
        printf("%s%s %zu", j ? ", " : "", seen[j].name, seen[j].count);
    puts("");
}

static void churn(void)
{
    for (size_t i = 0; i < count; i += 2) {
        pthread_mutex_lock(&blocks[i].lock);
        if (!is_right(&blocks[i]))
            atomic_store(&wrong, true);
        free(blocks[i].bytes);
        blocks[i].bytes = allocate();
        fill(&blocks[i], (unsigned)i);
        pthread_mutex_unlock(&blocks[i].lock);
    }
    puts("churned");
}

static void step(void)
{
    int moved;

    pthread_rwlock_wrlock(&quiet);
    moved = berth_step_quiescent();
    pthread_rwlock_unlock(&quiet);
    printf("%d\n", moved);
}

static void child(void)
{
    int status = -1;
    pid_t pid;

    pthread_rwlock_wrlock(&quiet);
    pid = fork();
    pthread_rwlock_unlock(&quiet);
    if (pid == 0) {
        bool right = true;

        for (size_t i = 0; i < count; i++) {
            right &= is_right(&blocks[i]);
            fill(&blocks[i], 99);
        }
        _exit(right ? 0 : 1);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        status = -1;
    puts(status == 0 ? "child right" : "child wrong");
}

static pthread_t *threads;
static int thread_count;

static void start_threads(void)
{
    for (int i = 0; i < thread_count; i++)
        if (pthread_create(&threads[i], NULL, write_blocks, (void *)(uintptr_t)(i + 1)) != 0)
            abort();
}

/* A copy of the program, in which the writing threads are started anew. */
static pid_t heir(void)
{
    pid_t pid;

    pthread_rwlock_wrlock(&quiet);
    for (size_t i = 0; i < count; i++)
        pthread_mutex_lock(&blocks[i].lock);
    pid = fork();
    if (pid == 0)
        pthread_rwlock_init(&quiet, NULL);
    for (size_t i = 0; i < count; i++)
        pthread_mutex_unlock(&blocks[i].lock);
    if (pid != 0) {
        pthread_rwlock_unlock(&quiet);
        return pid;
    }
    start_threads();
    return 0;
}

/* All of its threads are ended by these. */
static void limit(void)
{
    static const uint32_t calls[] = {SYS_userfaultfd, SYS_unshare, SYS_process_vm_readv, SYS_mbind,
                                     SYS_mremap};
    enum { CALLS = sizeof(calls) / sizeof(calls[0]) };
    struct sock_filter filter[CALLS + 3] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    struct sock_fprog program = {CALLS + 3, filter};

    for (unsigned i = 0; i < CALLS; i++)
        filter[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i],
                                                     (uint8_t)(CALLS - i), 0);
    filter[CALLS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[CALLS + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    puts(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                 syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
                         &program) == 0
             ? "limited"
             : "not limited");
}

static void end(void)
{
    bool right = !atomic_load(&wrong);

    for (size_t i = 0; i < count; i++)
        right &= is_right(&blocks[i]);
    atomic_store(&wrong, !right);
    puts(right ? "right" : "wrong");
}

static void obey(const char *line)
{
    if (strcmp(line, "where\n") == 0)
        where();
    else if (strcmp(line, "address\n") == 0)
        printf("%p\n", (void *)blocks[0].bytes);
    else if (strcmp(line, "churn\n") == 0)
        churn();
    else if (strcmp(line, "step\n") == 0)
        step();
    else if (strcmp(line, "child\n") == 0)
        child();
    else if (strcmp(line, "limit\n") == 0)
        limit();
    else if (strcmp(line, "leave\n") == 0)
        exit(0);
    else if (strcmp(line, "become\n") == 0)
        execlp("echo", "echo", "became", NULL);
}

/* Whether every byte was right, whoever took the commands at last. */
static bool listen_to_commands(void)
{
    char line[64];
    int status = 0;
    pid_t pid = 0;

    while (pid == 0 && fgets(line, sizeof(line), stdin) && strcmp(line, "end\n") != 0) {
        if (strcmp(line, "heir\n") != 0)
            obey(line);
        else if ((pid = heir()) == 0)
            printf("%d\n", (int)getpid());
    }
    if (pid != 0 && (waitpid(pid, &status, 0) != pid || status != 0))
        atomic_store(&wrong, true);
    atomic_store(&stop, true);
    for (int i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    if (pid == 0)
        end();
    return !atomic_load(&wrong);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    count = strtoul(argv[1], NULL, 0);
    size = strtoul(argv[2], NULL, 0);
    thread_count = atoi(argv[3]);
    blocks = calloc(count, sizeof(*blocks));
    threads = calloc((size_t)thread_count, sizeof(*threads));
    if (!blocks || !threads)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    make_pattern();
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_init(&blocks[i].lock, NULL);
        blocks[i].bytes = allocate();
        fill(&blocks[i], (unsigned)i);
    }
    start_threads();
    printf("ready %d\n", (int)getpid());
    return listen_to_commands() ? 0 : 1;
}
