/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a library that Berth opens for itself is nobody else's, whether the program has it already
 * or opens it later, and leaves nothing behind that the program could notice. Method: jansson,
 * which this program is linked to, and whose functions for memory are one pair for all who share
 * it; and a library of the test's own, which the program opens later.
 */
#include "alloc/private_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned long calls;
static const char *late_library;

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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_program_sets_of_its_own_is_its_own),
        cmocka_unit_test(what_it_opens_later_is_another),
        cmocka_unit_test(no_descriptor_stays_open),
        cmocka_unit_test(what_is_not_there_is_told),
        cmocka_unit_test(without_room_for_a_copy_the_programs_stays_its_own),
    };

    if (argc < 2)
        return EXIT_FAILURE;
    late_library = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
