/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that are loaded while the program runs, C++ among them. */
#include "check.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static void *symbol(void *library, const char *name)
{
    void *p = dlsym(library, name);

    CHECK(p);
    return p;
}

static void *load(const char *name, int flags)
{
    void *library = dlopen(check_file(name), flags);

    if (!library)
        dprintf(2, "%s\n", dlerror());
    CHECK(library);
    return library;
}

static void blocks_of_a_deeply_bound_library_can_be_freed(void)
{
    void *library = load("libconform_plugin.so", RTLD_NOW | RTLD_DEEPBIND);
    void *(*get)(size_t);
    void (*put)(void *);

    *(void **)&get = symbol(library, "plugin_get");
    *(void **)&put = symbol(library, "plugin_put");
    for (size_t size = 10; size < 1000000; size *= 3) {
        void *p = get(size);

        CHECK(p);
        check_fill(p, size, 1);
        free(p);
        p = check_hide(malloc(size));
        check_fill(p, size, 2);
        put(p);
    }
}

/* libconform_plugin.so finds libconform_inner.so by its own RUNPATH, when its code asks for it. */
static void a_library_finds_its_own_dependencies(void)
{
    void *library = load("libconform_plugin.so", RTLD_NOW);
    int (*load_inner)(const char *name);

    *(void **)&load_inner = symbol(library, "plugin_load_inner");
    CHECK(dlopen("libconform_inner.so", RTLD_NOW) == NULL);
    CHECK(load_inner("libconform_inner.so") == 42);
}

static void a_library_may_look_behind_itself(void)
{
    void *library = load("libconform_plugin.so", RTLD_NOW | RTLD_GLOBAL);
    const char *(*next_strdup_owner)(void);
    const char *owner;

    *(void **)&next_strdup_owner = symbol(library, "plugin_next_strdup_owner");
    owner = next_strdup_owner();
    CHECK(owner && strstr(owner, "libc.so"));
}

/* Nobody but who opened the library would reach it. */
static void a_library_may_have_an_allocator_of_its_own(void)
{
    void *library = load("libconform_plugin.so", RTLD_NOW | RTLD_LOCAL);
    int (*control)(const char *name);

    *(void **)&control = symbol(library, "mallctl");
    CHECK(control("thread.arena") == 42);
}

static void a_library_may_live_in_another_namespace(void)
{
    void *library = dlmopen(LM_ID_NEWLM, check_file("libconform_plugin.so"), RTLD_NOW);
    void *(*get)(size_t);
    void (*put)(void *);

    CHECK(library);
    *(void **)&get = symbol(library, "plugin_get");
    *(void **)&put = symbol(library, "plugin_put");
    for (size_t size = 10; size < 300000; size *= 3)
        put(get(size));
}

static void dlopen_of_nothing_says_why(void)
{
    CHECK(dlopen("/nonexistent/library.so", RTLD_NOW) == NULL);
    CHECK(dlerror() != NULL);
    CHECK(dlopen(NULL, RTLD_NOW) != NULL);
}

/* In a C program `operator new` must not bind to another allocator than this one. */
static void finding_7_a_c_program_loads_a_cplusplus_library(void)
{
    void *library = load("libconform_cpp.so", RTLD_NOW);
    void *(*get)(size_t);
    void (*put)(void *);
    int (*all)(void);

    *(void **)&get = symbol(library, "cpp_get");
    *(void **)&put = symbol(library, "cpp_put");
    *(void **)&all = symbol(library, "cpp_all_forms");
    for (size_t size = 10; size < 1000000; size *= 3) {
        void *p = get(size);

        CHECK(p);
        check_fill(p, size, 3);
        free(p); /* both must be one heap */
        put(check_hide(malloc(size)));
    }
    CHECK(all() == 0);
}

static void run_program(const char *name)
{
    pid_t pid = fork();

    if (pid == 0) {
        execl(check_file(name), name, (char *)NULL);
        _exit(127);
    }
    check_child(pid);
}

static void a_cplusplus_program_runs(void)
{
    run_program("conform_cpp");
}

/* The forms of operator new and delete that it does not replace are calls of those that it does. */
static void a_cplusplus_program_may_replace_some_operators(void)
{
    run_program("conform_replaced");
}

static void a_library_may_replace_some_operators(void)
{
    run_program("conform_replaced_in_library");
    run_program("conform_zeroed");
    run_program("conform_zeroed_arrays");
}

static void run_preloaded(const char *first, const char *second)
{
    pid_t pid = fork();
    char value[4096];

    if (pid == 0) {
        if (snprintf(value, sizeof(value), "%s:%s", first, second) >= (int)sizeof(value))
            _exit(126);
        setenv("LD_PRELOAD", value, 1);
        execl(check_file("conform_cpp"), "conform_cpp", (char *)NULL);
        _exit(127);
    }
    check_child(pid);
}

static void preloaded_operators_may_call_the_next_ones(void)
{
    const char *set = getenv("LD_PRELOAD"), *others = set ? set : "";

    run_preloaded(check_file("libconform_wrapping.so"), others);
    run_preloaded(others, check_file("libconform_wrapping.so"));
}

/* A constructor of a library that is initialised before any preload library. */
static void early_blocks_live_on(void)
{
    extern void *early_block[4];
    extern size_t early_size(int i);

    for (int i = 0; i < 4; i++) {
        CHECK(early_block[i] && check_filled(early_block[i], early_size(i), (unsigned)i));
        early_block[i] = check_hide(realloc(early_block[i], 2 << 20));
        CHECK(early_block[i] && check_filled(early_block[i], early_size(i), (unsigned)i));
        free(early_block[i]);
    }
}

static void a_constructor_may_fork_without_handlers(void)
{
    extern int early_child;

    CHECK(WIFEXITED(early_child) && WEXITSTATUS(early_child) == 3);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check load_checks[] = {
    ENTRY(blocks_of_a_deeply_bound_library_can_be_freed),
    ENTRY(a_library_finds_its_own_dependencies),
    ENTRY(a_library_may_look_behind_itself),
    ENTRY(a_library_may_have_an_allocator_of_its_own),
    ENTRY(a_library_may_live_in_another_namespace),
    ENTRY(dlopen_of_nothing_says_why),
    ENTRY(finding_7_a_c_program_loads_a_cplusplus_library),
    ENTRY(a_cplusplus_program_runs),
    ENTRY(a_cplusplus_program_may_replace_some_operators),
    ENTRY(a_library_may_replace_some_operators),
    ENTRY(preloaded_operators_may_call_the_next_ones),
    ENTRY(early_blocks_live_on),
    ENTRY(a_constructor_may_fork_without_handlers),
    {NULL, NULL},
};
