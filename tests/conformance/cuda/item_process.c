/* SPDX-License-Identifier: Apache-2.0 */
/* Checklist items 37 and 45 to 50: a process's beginning, end and relatives. See item.h. */
#include "item.h"

#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static CUdeviceptr exit_blocks[3];
static bool is_destructor_armed;

/* What a program's last functions do; whatever the driver answers then, it is the same. */
static void use_at_exit(const char *where)
{
    size_t free_size, total;
    CUresult is_up = cuMemGetInfo_v2(&free_size, &total);
    CUdeviceptr p = 0;

    SEEN("%s: free %d", where, check_lazy(cuMemFree_v2(exit_blocks[0]), is_up));
    printf(" large %d", check_lazy(cuMemFree_v2(exit_blocks[1]), is_up));
    printf(" in stream order %d", check_lazy(cuMemFreeAsync(exit_blocks[2], NULL), is_up));
    printf(" alloc %d %d", cuMemAlloc_v2(&p, KIB(4)), cuMemAlloc_v2(&p, MIB(3)));
    printf(" alloc async %d", cuMemAllocAsync(&p, KIB(4), NULL));
    printf(" room %d", is_up);
    printf(" idle %d\n", cuCtxSynchronize());
    fflush(stdout);
}

static void at_exit_before(void)
{
    use_at_exit("registered before cuInit");
}

static void at_exit_after(void)
{
    use_at_exit("registered after cuInit");
}

__attribute__((destructor)) static void last_destructor(void)
{
    if (is_destructor_armed)
        use_at_exit("destructor");
}

static void make_exit_blocks(void)
{
    exit_blocks[0] = check_alloc(KIB(4));
    exit_blocks[1] = check_alloc(MIB(3));
    exit_blocks[2] = check_alloc(KIB(4));
    /* Something is cached, from which a late request could be served. */
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0 && cuMemFree_v2(check_alloc(MIB(3))) == 0);
}

static void exit_with_handlers(void)
{
    atexit(at_exit_before);
    check_up();
    make_exit_blocks();
    exit(3);
}

static void exit_with_later_handlers(void)
{
    check_up();
    atexit(at_exit_after);
    make_exit_blocks();
    exit(4);
}

static void exit_with_destructor(void)
{
    check_up();
    is_destructor_armed = true;
    make_exit_blocks();
    exit(5);
}

static void exit_with_all_live(void)
{
    CUstream stream;

    check_up();
    stream = check_stream();
    for (int i = 0; i < 200; i++)
        EXPECT(cuMemsetD8Async(check_alloc(KIB(1) << (i % 13)), 1, KIB(1), stream) == 0);
    exit(6);
}

static _Atomic int rounds;

/* Until the process ends under it; what it sees then is not said. */
static void *allocate_for_ever(void *user)
{
    CUdeviceptr p = 0;

    cuCtxSetCurrent(check_context);
    for (unsigned i = 0;; i++) {
        if (cuMemAlloc_v2(&p, KIB(4) << (i % 11)) == 0)
            cuMemFree_v2(p);
        rounds++;
    }
    return NULL;
}

static void start_threads(void)
{
    pthread_t thread;

    check_up();
    for (int i = 0; i < 3; i++)
        EXPECT(pthread_create(&thread, NULL, allocate_for_ever, NULL) == 0);
    while (rounds < 300)
        sched_yield();
}

static void exit_while_allocating(void)
{
    start_threads();
    exit(7);
}

static void quick_exit_while_allocating(void)
{
    start_threads();
    quick_exit(8);
}

static void abort_while_allocating(void)
{
    start_threads();
    abort();
}

static void *exit_from_thread(void *user)
{
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    exit(cuMemFree_v2(check_alloc(KIB(4))) == 0 ? 9 : 99);
}

static void thread_exits(void)
{
    pthread_t thread;

    check_up();
    make_exit_blocks();
    EXPECT(pthread_create(&thread, NULL, exit_from_thread, NULL) == 0);
    pthread_join(thread, NULL);
}

void item_37_exit(void)
{
    check_in_child("handlers made before cuInit", exit_with_handlers);
    check_in_child("handlers made after cuInit", exit_with_later_handlers);
    check_in_child("destructor", exit_with_destructor);
    check_in_child("everything live", exit_with_all_live);
    for (int i = 0; i < 5; i++)
        check_in_child("while threads allocate", exit_while_allocating);
    check_in_child("quick_exit while threads allocate", quick_exit_while_allocating);
    check_in_child("abort while threads allocate", abort_while_allocating);
    check_in_child("from a thread", thread_exits);
}

static CUdeviceptr parents[2];

static void use_in_child(void)
{
    size_t size = 0, total;
    CUdeviceptr q = 0;
    unsigned long long id;
    CUipcMemHandle handle;

    SEEN("init %d\n", cuInit(0));
    SEEN("alloc %d %d\n", cuMemAlloc_v2(&q, KIB(8)), cuMemAlloc_v2(&q, MIB(8)));
    SEEN("free %d %d\n", cuMemFree_v2(parents[0]), cuMemFree_v2(parents[1]));
    SEEN("range %d\n", cuMemGetAddressRange_v2(&q, &size, parents[0]));
    SEEN("attribute %d\n", cuPointerGetAttribute(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID, parents[0]));
    SEEN("room %d\n", cuMemGetInfo_v2(&size, &total));
    SEEN("stream-ordered %d %d\n", cuMemAllocAsync(&q, KIB(4), NULL), cuMemFreeAsync(q, NULL));
    SEEN("handle %d\n", cuIpcGetMemHandle(&handle, parents[1]));
    SEEN("idle %d\n", cuCtxSynchronize());
}

static void use_and_exit(void)
{
    use_in_child();
    exit(11);
}

static void use_cuda(void)
{
    CUdeviceptr p;

    check_up();
    p = check_alloc(KIB(4));
    check_pattern(p, KIB(4), 45);
    SEEN("works: %d", check_has_pattern(p, KIB(4), 45));
    printf(" free %d\n", cuMemFree_v2(p));
    SEEN("large: %d\n", cuMemFree_v2(check_alloc(MIB(5))));
}

static void fork_twice(void)
{
    check_in_child("grandchild", use_cuda);
    use_cuda();
}

/* A thread allocates while others fork: each child must come up, whatever the thread held. */
static void fork_while_allocating(void)
{
    start_threads();
    for (int i = 0; i < 20; i++) {
        int status = -1;
        pid_t pid = fork();

        if (pid == 0) {
            CUdeviceptr p = 0;

            free(malloc(100));
            _exit(cuMemAlloc_v2(&p, KIB(4)) == 0 ? 1 : 0);
        }
        EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    _exit(0);
}

void item_45_fork(void)
{
    check_in_child("child of a process without CUDA", use_cuda);
    check_in_child("two generations", fork_twice);
    check_in_child("while threads allocate", fork_while_allocating);
    check_up();
    parents[0] = check_alloc(KIB(4));
    parents[1] = check_alloc(MIB(4));
    check_pattern(parents[1], MIB(4), 4);
    EXPECT(cuMemFree_v2(check_alloc(KIB(8))) == 0 && cuMemFree_v2(check_alloc(MIB(8))) == 0);
    check_in_child("child", use_in_child);
    check_in_child("child that exits", use_and_exit);
    SEEN("parent: %d", check_has_pattern(parents[1], MIB(4), 4));
    printf(" frees %d %d\n", cuMemFree_v2(parents[0]), cuMemFree_v2(parents[1]));
}

static int count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    EXPECT(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static void run_command(const char *const *arguments)
{
    pid_t pid;
    int status = -1;

    fflush(stdout);
    pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
        dup2(1, 2);
        execv(arguments[0], (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    EXPECT(waitpid(pid, &status, 0) == pid);
    SEEN("%s: status %#x\n", arguments[0], (unsigned)status);
}

void item_46_exec(void)
{
    const char *const shell[] = {
        "/bin/sh", "-c", "echo '  said by a shell'; ls /nonexistent 2>/dev/null; exit 3", NULL};
    const char *const descriptors[] = {"/bin/sh", "-c", "ls /proc/self/fd | wc -l", NULL};
    const char *const again[] = {"/proc/self/exe", "--peer", "use", "", NULL};
    const char *const count[] = {"/proc/self/exe", "--peer", "descriptors", "", NULL};

    run_command(shell);
    run_command(count);
    check_up();
    make_exit_blocks();
    run_command(shell);
    run_command(descriptors);
    run_command(count);
    run_command(again);
    SEEN("and here: %d %d\n", cuMemFree_v2(exit_blocks[0]), cuMemFree_v2(exit_blocks[1]));
    /* exec in place of the process itself, with memory live and threads at work. */
    fflush(stdout);
    execv(again[0], (char *const *)(uintptr_t)again);
}

#define DEATH_SIZE MIB(4)

/* A peer that exports or imports a block, says so, and then waits to be killed. */
static int live_until_killed(const char *mode)
{
    CUipcMemHandle handle;
    CUdeviceptr p = 0;
    int c;

    check_up();
    if (strcmp(mode, "export") == 0) {
        p = check_alloc(DEATH_SIZE);
        check_fill(p, DEATH_SIZE, 0x19);
        EXPECT(cuIpcGetMemHandle(&handle, p) == 0);
        fwrite(&handle, sizeof(handle), 1, stdout);
    } else {
        EXPECT(fread(&handle, sizeof(handle), 1, stdin) == 1);
        EXPECT(cuIpcOpenMemHandle_v2(&p, handle, 1) == 0);
        check_fill(p, DEATH_SIZE, 0x28);
        putchar('!');
    }
    fflush(stdout);
    while ((c = getchar()) != EOF)
        continue;
    return 0;
}

int item_process_peer(const char *mode, const char *argument)
{
    if (strcmp(mode, "use") == 0)
        use_cuda();
    else if (strcmp(mode, "descriptors") == 0)
        SEEN("descriptors: %d\n", count_descriptors());
    else
        return live_until_killed(mode);
    return 0;
}

static void kill_peer(struct check_peer *peer)
{
    EXPECT(kill(peer->pid, SIGKILL) == 0);
    check_peer_finish(peer);
}

void item_47_peer_death(void)
{
    struct check_peer peer = check_peer_start("export", NULL, true);
    CUipcMemHandle handle;
    CUdeviceptr p = 0;

    check_up();
    EXPECT(fread(&handle, sizeof(handle), 1, peer.from) == 1);
    SEEN("open: %d", cuIpcOpenMemHandle_v2(&p, handle, 1));
    printf(" holds %d\n", check_holds(p, DEATH_SIZE, 0x19));
    kill_peer(&peer);
    SEEN("close: %d\n", cuIpcCloseMemHandle(p));
    p = check_alloc(DEATH_SIZE);
    check_fill(p, DEATH_SIZE, 0);
    EXPECT(cuIpcGetMemHandle(&handle, p) == 0);
    peer = check_peer_start("import", NULL, true);
    fwrite(&handle, sizeof(handle), 1, peer.to);
    fflush(peer.to);
    EXPECT(fgetc(peer.from) == '!');
    kill_peer(&peer);
    SEEN("what the importer wrote: %d", check_holds(p, DEATH_SIZE, 0x28));
    printf(" free %d\n", cuMemFree_v2(p));
    SEEN("alloc and free: %d\n", cuMemFree_v2(check_alloc(DEATH_SIZE)));
}

struct resolver {
    CUresult (*v1)(const char *, void **, int, cuuint64_t);
    CUresult (*v2)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);
};

static void ask_wrongly(void)
{
    CUdriverProcAddressQueryResult status = 9;
    void *found = &status;
    CUresult result = cuGetProcAddress_v2("cuMemAlloc", &found, 99000, 0, &status);

    SEEN("newer than the driver: %d %d\n", result, found == NULL);
    found = &status;
    result = cuGetProcAddress_v2("cuNoSuchThing", &found, 12000, 0, &status);
    SEEN("missing: %d %d %d\n", result, found == NULL, status);
    result = cuGetProcAddress_v2("", &found, 12000, 0, &status);
    SEEN("empty: %d %d\n", result, status);
    result = cuGetProcAddress_v2("cuMemAlloc", &found, 1000, 0, &status);
    SEEN("too old: %d %d %d\n", result, found == NULL, status);
    SEEN("no name: %d\n", cuGetProcAddress_v2(NULL, &found, 12000, 0, &status));
    SEEN("no out argument: %d\n", cuGetProcAddress_v2("cuMemAlloc", NULL, 12000, 0, &status));
    SEEN("both flags: %d\n", cuGetProcAddress_v2("cuMemAllocAsync", &found, 12000, 3, &status));
    SEEN("an unknown flag: %d\n", cuGetProcAddress_v2("cuMemAlloc", &found, 12000, 64, &status));
    SEEN("the name of an export: %d",
         cuGetProcAddress_v2("cuMemAlloc_v2", &found, 12000, 0, &status));
    printf(" %d\n", status);
}

/*
 * Each way to a function leads to one. Under Berth the address may tell the ways apart, which is
 * counted; so it is not compared.
 */
static void compare_ways(const struct resolver *by)
{
    static const struct {
        const char *name, *export;
        int version;
        cuuint64_t flags;
    } list[] = {
        {"cuMemAlloc", "cuMemAlloc_v2", 3020, 0},
        {"cuMemFree", "cuMemFree_v2", 3020, 0},
        {"cuMemGetInfo", "cuMemGetInfo_v2", 3020, 0},
        {"cuMemAllocAsync", "cuMemAllocAsync", 11020, 0},
        {"cuMemAllocAsync", "cuMemAllocAsync_ptsz", 11020, 2},
        {"cuMemFreeAsync", "cuMemFreeAsync_ptsz", 11020, 2},
        {"cuCtxDestroy", "cuCtxDestroy_v2", 4000, 0},
        {"cuPointerGetAttributes", "cuPointerGetAttributes", 7000, 0},
        {"cuInit", "cuInit", 2000, 0},
    };
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);

    EXPECT(driver);
    for (size_t i = 0; i < COUNT(list); i++) {
        CUdriverProcAddressQueryResult status = 9;
        void *first = NULL, *second = NULL;
        CUresult result = by->v2(list[i].name, &second, list[i].version, list[i].flags, &status);

        SEEN("%s: %d %d", list[i].export, result, status);
        printf(" v1 %d", by->v1(list[i].name, &first, list[i].version, list[i].flags));
        printf(" found %d %d", first != NULL, second != NULL);
        printf(" by dlsym %d", dlsym(driver, list[i].export) != NULL);
        printf(" by a version that is not there %d\n",
               dlvsym(driver, list[i].export, "libcuda.so.1") != NULL);
    }
}

void item_48_proc_address(void)
{
    CUresult (*allocate)(CUdeviceptr *, size_t) = NULL;
    CUresult (*table)(const void **, const CUuuid *);
    struct resolver by = {NULL, NULL};
    CUuuid nobody = {{1, 2, 3}};
    const void *found = NULL;
    CUdeviceptr p;

    ask_wrongly();
    check_up();
    ask_wrongly();
    EXPECT(cuGetProcAddress_v2("cuGetProcAddress", (void **)&by.v1, 11030, 0, NULL) == 0 && by.v1);
    EXPECT(cuGetProcAddress_v2("cuGetProcAddress", (void **)&by.v2, 12000, 0, NULL) == 0 && by.v2);
    SEEN("of itself: %d\n", (void *)by.v1 != (void *)by.v2);
    EXPECT(by.v1("cuMemAlloc", (void **)&allocate, 3020, 0) == 0 && allocate(&p, KIB(4)) == 0);
    SEEN("free of what it gave: %d\n", cuMemFree_v2(p));
    EXPECT(by.v2("cuMemAlloc", (void **)&allocate, 3020, 0, NULL) == 0);
    EXPECT(allocate(&p, KIB(4)) == 0 && cuMemFree_v2(p) == 0);
    compare_ways(&by);
    *(void **)&table = check_driver_function("cuGetExportTable", 3000);
    if (table)
        SEEN("a private table that is nobody's: %d\n", table(&found, &nobody));
}

static void *malloc_hard(void *user)
{
    size_t wrong = 0;

    for (int i = 0; i < 2000; i++) {
        size_t size = (size_t)1 << (i % 20);
        unsigned char *p = malloc(size), *q;

        memset(p, i, size);
        q = realloc(p, size * 2);
        wrong += q[0] != (unsigned char)i || q[size - 1] != (unsigned char)i;
        free(q);
    }
    return (void *)(uintptr_t)wrong;
}

static void aligned_kinds(void)
{
    for (size_t alignment = 16; alignment <= 65536; alignment *= 4) {
        void *all[4] = {NULL};

        EXPECT(posix_memalign(&all[0], alignment, 1000) == 0);
        all[1] = aligned_alloc(alignment, alignment * 2);
        all[2] = memalign(alignment, 77);
        all[3] = calloc(alignment, 3);
        SEEN("%zu:", alignment);
        for (size_t i = 0; i < COUNT(all); i++) {
            printf(" %d", all[i] && (i == 3 || (uintptr_t)all[i] % alignment == 0));
            printf(" %d", malloc_usable_size(all[i]) >= 77);
            free(all[i]);
        }
        printf("\n");
    }
}

static void malloc_in_callback(void *user)
{
    void **kept = user;

    free(kept[0]);
    kept[1] = malloc(100000);
    malloc_hard(NULL);
}

void item_50_host_memory(void)
{
    void *kept[2] = {malloc(300000), NULL}, *wrong = NULL, *host = NULL;
    pthread_t threads[3];

    malloc_hard(NULL);
    SEEN("no driver was started: %d\n", cuCtxSynchronize());
    check_up();
    aligned_kinds();
    for (size_t i = 0; i < COUNT(threads); i++)
        EXPECT(pthread_create(&threads[i], NULL, malloc_hard, NULL) == 0);
    EXPECT(cuLaunchHostFunc(check_stream(), malloc_in_callback, kept) == 0);
    for (int i = 0; i < 200; i++)
        EXPECT(cuMemFree_v2(check_alloc(KIB(1) << (i % 12))) == 0);
    for (size_t i = 0; i < COUNT(threads); i++) {
        pthread_join(threads[i], &wrong);
        SEEN("wrong contents: %zu\n", (size_t)(uintptr_t)wrong);
    }
    EXPECT(cuCtxSynchronize() == 0);
    free(kept[1]);
    /* The heap's own memory can be registered, and goes on as before. */
    host = malloc(MIB(1));
    memset(host, 3, MIB(1));
    SEEN("register: %d", cuMemHostRegister_v2(host, MIB(1), 0));
    printf(" unregister %d", cuMemHostUnregister(host));
    printf(" holds %d\n", ((unsigned char *)host)[MIB(1) - 1] == 3);
    free(host);
}
