/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a library that Berth opens for itself is nobody else's, whether the program has it already
 * or opens it later, and leaves nothing behind that the program could notice. Method: jansson,
 * which this program is linked to, and whose functions for memory are one pair for all who share
 * it; and a library of the test's own, which the program opens later.
 */
#include "alloc/private_library.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned long calls;
static const char *late_library, *unbound_library;

static void *counted_malloc(size_t size)
{
    calls++;
    return malloc(size);
}

static void counted_free(void *p)
{
    calls++;
    free(p);
}

static void *open_private(const char *name)
{
    char why[256] = "";
    void *library = berth__private_library_open(name, 0, why, sizeof(why));

    if (!library)
        fail_msg("%s", why);
    return library;
}

typedef json_t *(*load_fn)(const char *text, size_t flags, json_error_t *error);
typedef void (*delete_fn)(json_t *json);

/* What calls itself by exported names, the most of it. */
static void use_jansson(void *library)
{
    load_fn load = (load_fn)dlsym(library, "json_loads");
    delete_fn delete = (delete_fn)dlsym(library, "json_delete");
    json_error_t error;
    json_t *json;

    assert_non_null(load);
    assert_non_null(delete);
    json = load("{\"a\": [1, 2, {\"b\": \"text\"}], \"c\": null}", 0, &error);
    assert_non_null(json);
    delete (json);
}

static void what_the_program_sets_of_its_own_is_its_own(void **state)
{
    void *library;

    (void)state;
    json_set_alloc_funcs(counted_malloc, counted_free);
    library = open_private("libjansson.so.4");
    calls = 0;
    use_jansson(library);
    assert_int_equal(calls, 0);
    json_delete(json_loads("[1]", 0, NULL));
    assert_true(calls > 0);
    json_set_alloc_funcs(malloc, free);
    dlclose(library);
}

static void what_it_opens_later_is_another(void **state)
{
    void *library = open_private(late_library), *later, *again;
    int *value = dlsym(library, "late_value");
    int (*read_value)(void) = (int (*)(void))dlsym(library, "late_read");

    (void)state;
    assert_non_null(value);
    *value = 7;
    later = dlopen("liblate.so.1", RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
    assert_null(later);
    later = dlopen(late_library, RTLD_NOW | RTLD_GLOBAL);
    assert_non_null(later);
    assert_int_equal(*(int *)dlsym(later, "late_value"), 1);
    assert_int_equal(*(int *)dlsym(RTLD_DEFAULT, "late_value"), 1);
    assert_int_equal(read_value(), 7);
    /* And one that is opened when the names are the program's calls itself all the same. */
    again = open_private(late_library);
    assert_ptr_not_equal(again, library);
    *(int *)dlsym(again, "late_value") = 9;
    assert_int_equal(((int (*)(void))dlsym(again, "late_read"))(), 9);
    assert_int_equal(((int (*)(void))dlsym(later, "late_read"))(), 1);
    dlclose(again);
    dlclose(later);
    dlclose(library);
}

static int next_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    close(fd);
    return fd;
}

static unsigned count_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void no_descriptor_stays_open(void **state)
{
    unsigned before = count_descriptors();

    (void)state;
    for (int i = 0; i < 3; i++)
        dlclose(open_private("libjansson.so.4"));
    assert_int_equal(count_descriptors(), before);
}

/* Whoever reads the loader's list may open what has the number by then. */
static void its_number_is_one_that_few_programs_come_to(void **state)
{
    struct link_map *map = NULL;
    struct rlimit limit;
    void *library = open_private("libjansson.so.4");

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(dlinfo(library, RTLD_DI_LINKMAP, &map), 0);
    assert_non_null(strstr(map->l_name, "/fd/"));
    assert_true(atoi(strrchr(map->l_name, '/') + 1) >= (limit.rlim_cur < 1024 ? 16 : 1000));
    dlclose(library);
}

static void what_is_not_there_is_told(void **state)
{
    char why[256] = "";

    (void)state;
    assert_null(berth__private_library_open("libnobody_has_this.so.1", 0, why, sizeof(why)));
    assert_non_null(strstr(why, "libnobody_has_this.so.1"));
    /* Nothing is left for the program to be told. */
    assert_null(dlerror());
}

/* The program's own is never taken in its place. */
static void without_room_for_a_copy_the_programs_stays_its_own(void **state)
{
    struct rlimit limit, none;
    char why[256] = "";
    void *library;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = (rlim_t)next_descriptor();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    library = berth__private_library_open("libjansson.so.4", 0, why, sizeof(why));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_null(library);
    assert_string_not_equal(why, "");
}

/* The kernel would end the program, by SIGXFSZ, for a file that is as small as these. */
static void where_no_file_may_be_as_large_there_is_no_copy(void **state)
{
    struct rlimit limit, small;
    char why[256] = "";
    void *theirs, *other;
    bool is_itself;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 100;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    theirs = berth__private_library_open("libjansson.so.4", 0, why, sizeof(why));
    other = open_private(late_library);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_null(theirs);
    assert_non_null(strstr(why, "libjansson.so.4"));
    is_itself = dlopen(late_library, RTLD_NOW | RTLD_NOLOAD) == other;
    assert_true(is_itself);
    dlclose(other);
    dlclose(other);
}

/* The call of a function that nobody has would end the program when it is made. */
static void what_cannot_be_bound_is_not_there(void **state)
{
    char why[256] = "";

    (void)state;
    assert_null(berth__private_library_open(unbound_library, 0, why, sizeof(why)));
    assert_non_null(strstr(why, "nobody_has_this"));
    assert_null(dlerror());
}

/* A copy of the file that the program makes for itself, and loads by its descriptor's path. */
static void *load_by_descriptor(int *fd)
{
    char path[64];
    struct stat st;
    void *library;
    int from = open(late_library, O_RDONLY | O_CLOEXEC);

    *fd = memfd_create("programs", MFD_CLOEXEC);
    assert_int_equal(fstat(from, &st), 0);
    assert_int_equal(sendfile(*fd, from, NULL, (size_t)st.st_size), st.st_size);
    close(from);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
    library = dlopen(path, RTLD_NOW);
    assert_non_null(library);
    return library;
}

static int open_fifo(void)
{
    char path[] = "/tmp/berth-private-XXXXXX", name[64];
    int fd;

    assert_non_null(mkdtemp(path));
    snprintf(name, sizeof(name), "%s/fifo", path);
    assert_int_equal(mkfifo(name, 0600), 0);
    fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    unlink(name);
    rmdir(path);
    assert_true(fd >= 0);
    return fd;
}

/* What it was loaded by is now a pipe that nobody writes: to open that would wait for good. */
static void what_has_become_of_its_path_is_not_waited_for(void **state)
{
    char why[256] = "";
    int fd, fifo;
    void *library = load_by_descriptor(&fd);

    (void)state;
    fifo = open_fifo();
    assert_int_equal(dup2(fifo, fd), fd);
    close(fifo);
    alarm(60);
    assert_null(berth__private_library_open("liblate.so.1", 0, why, sizeof(why)));
    alarm(0);
    assert_non_null(strstr(why, "liblate.so.1"));
    close(fd);
    dlclose(library);
}

static void *open_after_first_thread(void *unused)
{
    char why[256];
    DIR *list;

    /* The process has no descriptors any more, this thread has. */
    while ((list = opendir("/proc/self/fd")) != NULL) {
        bool is_empty = !readdir(list) || !readdir(list) || !readdir(list);

        closedir(list);
        if (is_empty)
            break;
        sched_yield();
    }
    _exit(berth__private_library_open("libjansson.so.4", 0, why, sizeof(why)) ? 0 : 1);
    return unused;
}

static void a_process_whose_first_thread_has_ended_has_it_too(void **state)
{
    pid_t child = fork();
    int status;

    (void)state;
    if (child == 0) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, open_after_first_thread, NULL) != 0)
            _exit(2);
        /* Not pthread_exit(), which unwinds through cmocka. */
        syscall(SYS_exit, 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        /* The first two: the loader keeps the test's own library once it was asked for its names.
         */
        cmocka_unit_test(where_no_file_may_be_as_large_there_is_no_copy),
        cmocka_unit_test(what_has_become_of_its_path_is_not_waited_for),
        cmocka_unit_test(what_the_program_sets_of_its_own_is_its_own),
        cmocka_unit_test(what_it_opens_later_is_another),
        cmocka_unit_test(no_descriptor_stays_open),
        cmocka_unit_test(its_number_is_one_that_few_programs_come_to),
        cmocka_unit_test(what_is_not_there_is_told),
        cmocka_unit_test(what_cannot_be_bound_is_not_there),
        cmocka_unit_test(without_room_for_a_copy_the_programs_stays_its_own),
        cmocka_unit_test(a_process_whose_first_thread_has_ended_has_it_too),
    };

    if (argc < 3)
        return EXIT_FAILURE;
    late_library = argv[1];
    unbound_library = argv[2];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
