/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin: its blocks are freed by the program, and it loads a library of its own. */
#include <dlfcn.h>
#include <stdlib.h>

void *plugin_get(size_t size);
void plugin_put(void *p);
int plugin_load_inner(const char *name);
const char *plugin_next_strdup_owner(void);
char *strdup(const char *text);
int mallctl(const char *name);

void *plugin_get(size_t size)
{
    return malloc(size);
}

void plugin_put(void *p)
{
    free(p);
}

int plugin_load_inner(const char *name)
{
    void *inner = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    int (*answer)(void);

    if (!inner)
        return -1;
    *(void **)&answer = dlsym(inner, "inner_answer");
    return answer ? answer() : -2;
}

/* Only the caller's place in the search order tells which function comes next. */
char *strdup(const char *text)
{
    (void)text;
    return NULL;
}

const char *plugin_next_strdup_owner(void)
{
    void *function = dlsym(RTLD_NEXT, "strdup");
    Dl_info info;

    return function && dladdr(function, &info) ? info.dli_fname : NULL;
}

/* A name of jemalloc's, as a library has that brings one of its own. */
int mallctl(const char *name)
{
    (void)name;
    return 42;
}
