/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a program that asks for the driver's functions gets Berth's.
 *
 * The driver, or the loader, is asked first, with the program's own arguments: it alone knows which
 * version of a function a name and a CUDA version stand for. What it answers is compared with the
 * addresses of its own exports, and only the very function that a wrapper stands for is replaced.
 * So no entry point is invented, and no caller gets a version that it did not ask for.
 *
 * cudaGetDriverEntryPoint and its variants need no wrapper: each copy of the CUDA runtime, static
 * or shared, asks the driver through the pointer that it was given for cuGetProcAddress_v2 (in an
 * initialisation by dlsym), and that pointer is Berth's. A wrapper would have to guess which of the
 * runtimes in the process its caller means.
 */
#include "alloc/log.h"
#include "alloc/unseen.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/dlsym_next.h"
#include "hooks/real_module.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

EXPORT(cuGetProcAddress);
EXPORT(cuGetProcAddress_v2);
EXPORT(cuGetProcAddress_v2_ptsz);

/* One name: where the driver's own function is kept, and the wrapper that stands for it. */
struct entry {
    const char *name;
    size_t offset; /* in struct berth_driver */
    void *wrapper;
};

static const struct entry entries[] = {
#define X(name, parameters)                                                                        \
    {#name, offsetof(struct berth_driver, name), (void *)berth__hook_##name},
    BERTH_DRIVER_HOOKED(X)
#undef X
};
#define ENTRY_COUNT (sizeof(entries) / sizeof(entries[0]))

#if defined(__x86_64__) || defined(__aarch64__)
/* cuda_entry_*.S: the entries that count, path by path. */
extern __attribute__((visibility(
    "hidden"))) void *const berth__cuda_entries[BERTH_ENTRY_PATHS][BERTH_ENTRY_NAME_COUNT];

static void *const counted_wrappers[] = {
#define X(name) (void *)berth__hook_##name,
    BERTH_ENTRY_NAMES(X)
#undef X
};

/* The path's own entry to a wrapper, or the wrapper where its calls are not counted. */
static void *entry_of_path(void *wrapper, enum berth_entry_path path)
{
    for (unsigned i = 0; i < BERTH_ENTRY_NAME_COUNT; i++)
        if (counted_wrappers[i] == wrapper)
            return berth__cuda_entries[path][i];
    return wrapper;
}

/* The wrapper to which `address` is an entry, else the address itself. */
static void *wrapper_of_entry(void *address)
{
    for (unsigned i = 0; i < BERTH_ENTRY_PATHS * BERTH_ENTRY_NAME_COUNT; i++)
        if (berth__cuda_entries[i / BERTH_ENTRY_NAME_COUNT][i % BERTH_ENTRY_NAME_COUNT] == address)
            return counted_wrappers[i % BERTH_ENTRY_NAME_COUNT];
    return address;
}
#else
static void *entry_of_path(void *wrapper, enum berth_entry_path path)
{
    return wrapper;
}

static void *wrapper_of_entry(void *address)
{
    return address;
}
#endif

static void *entry_real(const struct entry *entry)
{
    void *real;

    memcpy(&real, (const char *)&berth__driver + entry->offset, sizeof(real));
    return real;
}

/* Whether the name is exactly that of a wrapper. */
static bool is_hooked(const char *name)
{
    /* Every dlsym() of the program comes through here. */
    if (name[0] != 'c' || name[1] != 'u')
        return false;
    for (size_t i = 0; i < ENTRY_COUNT; i++)
        if (strcmp(entries[i].name, name) == 0)
            return true;
    return false;
}

void *berth__cuda_original(const char *name)
{
    for (size_t i = 0; berth__real_ready() && i < ENTRY_COUNT; i++)
        if (strcmp(entries[i].name, name) == 0)
            return entry_real(&entries[i]);
    return NULL;
}

static bool is_plain_wrapper(const void *address)
{
    for (size_t i = 0; i < ENTRY_COUNT; i++)
        if (entries[i].wrapper == address)
            return true;
    return false;
}

bool berth__cuda_is_wrapper(const void *address)
{
    return is_plain_wrapper(wrapper_of_entry((void *)address));
}

void *berth__cuda_replace(const char *name, void *address, enum berth_entry_path path)
{
    const struct entry *found = NULL;
    size_t length = strlen(name);
    void *wrapper;

    if (!address || !berth__real_ready())
        return address;
    wrapper = wrapper_of_entry(address);
    if (wrapper != address)
        return entry_of_path(wrapper, path);
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        if (entry_real(&entries[i]) != address)
            continue;
        /* Where the driver has one address for two names, the name that was asked for decides. */
        if (!found || strncmp(entries[i].name, name, length) == 0)
            found = &entries[i];
    }
    return found ? entry_of_path(found->wrapper, path) : address;
}

/* A driver's function by one of our names, but not the driver that is bound: another namespace. */
static void say_unseen(const char *name)
{
    static atomic_int said;

    berth__unseen_add(BERTH_UNSEEN_DRIVER, name);
    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_CUDA,
                    "%s was looked up in a second copy of the driver; its memory is not seen",
                    name);
}

/* Whether a look-up found Berth's export of a function that the driver, if there is one, lacks. */
static bool is_only_ours(const char *name, const void *address)
{
    return berth__cuda_is_wrapper(address) && !berth__cuda_original(name);
}

/*
 * RTLD_NEXT is counted from the caller's library, so only a jump can ask for it. When the answer
 * will be the driver's own function, the caller gets the wrapper; anything else, another wrapper
 * library for example, is left to the loader.
 */
static int answer_next(const char *name, const void *caller, enum berth_entry_path path, void **ret)
{
    void *address = berth__real_module_next(name, caller);
    void *replaced = berth__cuda_replace(name, address, path);

    if (is_only_ours(name, address)) {
        *ret = berth__real_dlsym(RTLD_NEXT, name);
        return 1;
    }
    if (replaced == address)
        return 0;
    *ret = replaced;
    return 1;
}

/*
 * RTLD_DEFAULT finds Berth's own export, unless another library comes before. Without a driver that
 * has it there is no such name: the search then goes on behind Berth.
 */
static int answer_default(const char *name, const char *version, void **ret)
{
    void *address;

    if (berth__cuda_original(name))
        return 0;
    address = version ? berth__real_dlvsym(RTLD_DEFAULT, name, version)
                      : berth__real_dlsym(RTLD_DEFAULT, name);
    if (!is_only_ours(name, address))
        return 0;
    *ret =
        version ? berth__real_dlvsym(RTLD_NEXT, name, version) : berth__real_dlsym(RTLD_NEXT, name);
    return 1;
}

/* See dlsym_next.h: a look-up of a driver's name. */
int berth__dlsym_answer(void *handle, const char *name, const char *version, void **ret,
                        const void *caller)
{
    enum berth_entry_path path = version ? BERTH_ENTRY_DLVSYM : BERTH_ENTRY_DLSYM;
    void *address;
    Dl_info info;

    if (!is_hooked(name))
        return 0;
    if (handle == RTLD_NEXT)
        return answer_next(name, caller, path, ret);
    if (handle == RTLD_DEFAULT)
        return answer_default(name, version, ret);
    address = version ? berth__real_dlvsym(handle, name, version) : berth__real_dlsym(handle, name);
    if (is_only_ours(name, address))
        address = berth__real_dlsym(RTLD_NEXT, name); /* the global scope */
    berth__real_keep(address);
    *ret = berth__cuda_replace(name, address, path);
    if (address && *ret == address && !berth__cuda_is_wrapper(address) && dladdr(address, &info) &&
        info.dli_fname && strstr(info.dli_fname, "/libcuda.so"))
        say_unseen(name);
    return 1;
}

/*
 * The driver answers with its own exports. If one ever hands out another entry to a function that
 * has a wrapper, that path is not seen, which must not stay unsaid.
 */
static void check_seen(const char *symbol, void *address)
{
    char example[BERTH_UNSEEN_EXAMPLE_MAX];
    size_t length = strlen(symbol);
    Dl_info info;

    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        if (length < 4 || strncmp(entries[i].name, symbol, length) != 0)
            continue;
        if (dladdr(address, &info) && info.dli_saddr != address) {
            snprintf(example, sizeof(example),
                     "the driver has an entry to %s that Berth does not know", symbol);
            berth__unseen_add(BERTH_UNSEEN_ENTRY, example);
        }
        return;
    }
}

/* The driver's answer to a question for `symbol`, as the program gets it. */
static void *answer_proc(const char *symbol, void *address, enum berth_entry_path path)
{
    void *replaced = berth__cuda_replace(symbol, address, path);

    if (address && replaced == address && !berth__cuda_is_wrapper(address))
        check_seen(symbol, address);
    return replaced;
}

/*
 * cuGetProcAddress(symbol, function, version, flags): the driver's answer, with Berth's wrapper in
 * place of a function that has one. Any thread. Errors and *function otherwise as the driver leaves
 * them; *function may be NULL with success. Semantics: cuda.h, cuGetProcAddress of CUDA 11.3;
 * checklist item 48.
 */
berth_cu_result berth__hook_cuGetProcAddress(const char *symbol, void **function, int version,
                                             uint64_t flags)
{
    berth_cu_result result;

    if (!berth__real_ready() || !berth__driver.cuGetProcAddress)
        return BERTH_CU_NOT_INITIALIZED;
    result = berth__driver.cuGetProcAddress(symbol, function, version, flags);
    if (result == BERTH_CU_SUCCESS && symbol && function)
        *function = answer_proc(symbol, *function, BERTH_ENTRY_PROC_V1);
    return result;
}

/*
 * cuGetProcAddress_v2: the same with a fifth argument, *status (may be NULL), which the driver
 * fills: 0 found, 1 no such symbol, 2 not in that version. Only what was found is replaced.
 */
berth_cu_result berth__hook_cuGetProcAddress_v2(const char *symbol, void **function, int version,
                                                uint64_t flags, int *status)
{
    berth_cu_result result;

    if (!berth__real_ready() || !berth__driver.cuGetProcAddress_v2)
        return BERTH_CU_NOT_INITIALIZED;
    result = berth__driver.cuGetProcAddress_v2(symbol, function, version, flags, status);
    if (result == BERTH_CU_SUCCESS && symbol && function && (!status || *status == 0))
        *function = answer_proc(symbol, *function, BERTH_ENTRY_PROC_V2);
    return result;
}

/* The same where the driver has it: neither stream flag then means per-thread default streams. */
berth_cu_result berth__hook_cuGetProcAddress_v2_ptsz(const char *symbol, void **function,
                                                     int version, uint64_t flags, int *status)
{
    berth_cu_result result;

    if (!berth__real_ready() || !berth__driver.cuGetProcAddress_v2_ptsz)
        return BERTH_CU_NOT_INITIALIZED;
    result = berth__driver.cuGetProcAddress_v2_ptsz(symbol, function, version, flags, status);
    if (result == BERTH_CU_SUCCESS && symbol && function && (!status || *status == 0))
        *function = answer_proc(symbol, *function, BERTH_ENTRY_PROC_PTSZ);
    return result;
}
