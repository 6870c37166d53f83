/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/bootstrap.h"

#include "alloc/file_call.h"
#include "alloc/log.h"
#include "alloc/log_output.h"
#include "alloc/options.h"
#include "alloc/private_library.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"
#include "hooks/callsite.h"
#include "hooks/shadow.h"
#include "ipc/control.h"
#include "pmem/gate.h"
#include "pmem/table.h"
#ifdef BERTH_MALLOC_SIDE
#include "hooks/libc_state.h"
#include "pmem/host.h"
#include "pmem/host_class.h"
#endif
#ifdef BERTH_CUDA_SIDE
#include "alloc/device.h"
#include "alloc/pool.h"
#include "alloc/pool_class.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_handle.h"
#include "alloc/pool_plan.h"
#include "alloc/trace.h"
#include "hooks/binding.h"
#include "ipc/shared_tier.h"
#endif

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The two libraries share data by symbol name (types.h), which is sound only if they agree on its
 * layout. Each compares what it was compiled with to what it is bound to.
 */
struct shared_layout {
    const char *version;
    size_t sizes; /* of what is shared, mixed; 0 until the first library has set it */
};

extern BERTH_SHARED struct shared_layout berth__shared_layout;
struct shared_layout berth__shared_layout;

static const struct shared_layout own_layout = {
    BERTH_VERSION, (((sizeof(struct berth_thread) * 31 + sizeof(struct berth_tier)) * 31 +
                     sizeof(struct berth_tier_stats)) *
                        31 +
                    sizeof(struct berth_gate)) *
                           31 +
                       BERTH_OPTION_COUNT};

/* Whether the common part was done; only constructors touch it, one after the other. */
extern BERTH_SHARED int berth__bootstrap_done;
int berth__bootstrap_done;

static void complain_option(const char *why, void *context)
{
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_OPTIONS, "%s: %s", (const char *)context, why);
}

static void dump_options(void)
{
    if (!berth__log_enabled(BERTH_LOG_INFO, BERTH_TOPIC_OPTIONS))
        return;
    for (int i = 0; i < BERTH_OPTION_COUNT; i++) {
        char text[BERTH_OPTION_TEXT_MAX];
        enum berth_option option = (enum berth_option)i;

        berth__log(BERTH_LOG_INFO, BERTH_TOPIC_OPTIONS, "%s = %s (%s)", berth__option_info[i].name,
                   berth__option_text(option, text),
                   berth__origin_name(berth__option_origin(option)));
    }
}

static void read_environment(void)
{
    static char options_variable[] = "BERTH_OPTIONS";
    static char control_variable[] = "BERTH_CONTROL";
    const char *control = secure_getenv("BERTH_CONTROL");
    char why[BERTH_OPTION_WHY_MAX];

    berth__log_output_remember();
    berth__log_configure(secure_getenv("BERTH_DEBUG"));
    if (control && berth__option_set("control", 7, control, strlen(control),
                                     BERTH_ORIGIN_ENVIRONMENT, why) < 0)
        complain_option(why, control_variable);
    berth__options_parse(secure_getenv("BERTH_OPTIONS"), BERTH_ORIGIN_ENVIRONMENT, complain_option,
                         options_variable);
}

/*
 * Reads it into memory of our own: of a mapped file that somebody shortens meanwhile, the program
 * would get SIGBUS. 0 or negative errno; -ENODATA: it has become shorter.
 */
static int read_bytes(int fd, size_t size, void **ret)
{
    char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t done = 0;

    if (bytes == MAP_FAILED)
        return -errno;
    while (done < size) {
        ssize_t n = read(fd, bytes + done, size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int r = n < 0 ? -errno : -ENODATA;

            munmap(bytes, size);
            return r;
        }
        done += (size_t)n;
    }
    *ret = bytes;
    return 0;
}

/* The file's bytes, to be unmapped. 0 or negative errno; for some of them see why_unread(). */
static int read_file(const char *path, void **ret, size_t *ret_size)
{
    /* A named pipe that nobody writes to must not hold the program up. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    int r = 0;

    if (fd < 0)
        return -errno;
    if (berth__fstat(fd, &st) < 0)
        r = -errno;
    else if (!S_ISREG(st.st_mode))
        r = -ENOTSUP;
    else if (st.st_size > UINT32_MAX)
        r = -EFBIG;
    else
        r = st.st_size == 0 ? -ENODATA : read_bytes(fd, (size_t)st.st_size, ret);
    *ret_size = r == 0 ? (size_t)st.st_size : 0;
    close(fd);
    return r;
}

static const char *why_unread(int error)
{
    if (error == ENOTSUP)
        return "it is no file";
    if (error == EFBIG)
        return "it is larger than 4 GiB, more than it can be";
    if (error == ENODATA)
        return "it is empty, or was cut while it was read";
    return strerrordesc_np(error);
}

/* What the table was made of, if `berth run` has said so of this very table: "TABLE=FILE". */
static const char *policy_source(const char *path)
{
    const char *source = secure_getenv("BERTH_POLICY_SOURCE");
    size_t length = strlen(path);

    if (!source || strncmp(source, path, length) != 0 || source[length] != '=' ||
        source[length + 1] == '\0')
        return path;
    return source + length + 1;
}

/*
 * The table that `berth run` keeps is its user's alone. A program that changes its user, as su(1)
 * does, starts others with the same environment, whose policy this is not.
 */
static enum berth_level level_of_unread(const char *path, int error)
{
    return error == EACCES && policy_source(path) != path ? BERTH_LOG_INFO : BERTH_LOG_ERROR;
}

/* A string of putenv() is the program's, and may lie where nobody may write. */
static bool is_of_kernel(const char *text)
{
    uintptr_t low = getauxval(AT_RANDOM);

    return low != 0 && (uintptr_t)text > low && (uintptr_t)text < getauxval(AT_EXECFN);
}

/*
 * Whether those that this process starts would find the same, as in a mount namespace that has
 * another /tmp. Without descriptors or memory it is this moment's trouble, and a file that is empty
 * or becomes shorter is being written.
 */
static bool is_lasting(int error)
{
    return error == ENOENT || error == ENOTDIR || error == EACCES || error == EPERM ||
           error == ELOOP || error == ENAMETOOLONG || error == ENOTSUP || error == EFBIG;
}

/*
 * A policy that cannot be had never stops the program: it runs without one, which is said. Once,
 * where that lasts: what it starts gets an empty name. The kernel has put the environment where it
 * can be written.
 */
static void say_unread(char *path, int error)
{
    enum berth_level level = level_of_unread(path, error);

    berth__log(level, BERTH_TOPIC_POLICY, "%s: cannot be read: %s; no policy is in force", path,
               why_unread(error));
    if (level == BERTH_LOG_ERROR && is_lasting(error) && is_of_kernel(path))
        path[0] = '\0';
}

static void install_policy(void)
{
    char *path = secure_getenv("BERTH_POLICY");
    char why[BERTH_TABLE_WHY_MAX];
    void *bytes = NULL;
    size_t size;
    int r;

    if (!path || !*path)
        return;
    r = read_file(path, &bytes, &size);
    if (r < 0) {
        say_unread(path, -r);
        return;
    }
    berth__table_set_told(secure_getenv("BERTH_TOLD"));
    if (berth__table_install(bytes, size, policy_source(path), why, sizeof(why)) < 0)
        berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_POLICY, "%s: %s; no policy is in force", path, why);
    berth__table_set_told(NULL);
    munmap(bytes, size);
}

/* The policy, or what holds without one; and what call sites are read with, where they are. */
static void install(void)
{
    char why[BERTH_TABLE_WHY_MAX];

    install_policy();
    if (berth__table_version() == 0)
        berth__table_update_gate();
    if (berth__table_reads_sites() && berth__callsite_load(why, sizeof(why)) < 0)
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_SITE, "%s; call paths are return addresses alone",
                   why);
}

/* What both sides need, once per process. False: the libraries do not belong together. */
static bool bootstrap_common(void)
{
    struct shared_layout *bound = &berth__shared_layout;

    berth__private_library_lift = berth__shadow_lift;
    if (bound->sizes == 0)
        *bound = own_layout;
    if (bound->sizes != own_layout.sizes || strcmp(bound->version, own_layout.version) != 0) {
        berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_OPTIONS,
                   "libberth.so and libberth-malloc.so are of different builds (%s, %s); "
                   "the second one stays off",
                   bound->version, own_layout.version);
        return false;
    }
    if (!berth__bootstrap_done) {
        berth__bootstrap_done = 1;
        read_environment();
        dump_options();
    }
    return true;
}

#ifdef BERTH_MALLOC_SIDE
/* Defined by libberth.so, when that is preloaded too. */
#pragma weak berth__bootstrap_device

BERTH_EXPORT __attribute__((constructor)) void berth__bootstrap_malloc(void)
{
    static bool done;
    int saved_errno = errno;

    if (done)
        return;
    done = true;
    berth__thread.inside++;
    berth__plain_start();
    if (bootstrap_common()) {
        berth__host_register();
        berth__libc_state_learn();
        if (berth__bootstrap_device)
            berth__bootstrap_device();
        install();
        berth__host_class_start();
    }
    berth__thread.inside--;
    errno = saved_errno;
}
#endif

#ifdef BERTH_CUDA_SIDE
/* Defined by libberth-malloc.so, when that is preloaded too. */
extern void berth__bootstrap_malloc(void) __attribute__((weak));

static int (*program_main)(int, char **, char **);

static int main_begins(int argc, char **argv, char **envp)
{
    berth__control_main_begun();
    return program_main(argc, argv, envp);
}

/*
 * The C library's entry, called by every program's _start (System V ABI): here Berth learns that
 * main begins, because its thread must not exist while constructors run.
 */
BERTH_EXPORT int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
                                   void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
                                   void *stack_end);

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    __typeof__(__libc_start_main) *real;

    *(void **)&real = dlsym(RTLD_NEXT, "__libc_start_main");
    program_main = main;
    return real(main_begins, argc, argv, init, fini, rtld_fini, stack_end);
}

void berth__bootstrap_device(void)
{
    berth__device_register();
    berth__shared_tier_register();
}

/* What is to be traced once the driver is initialised; call paths need the unwinder by then. */
static void want_trace(void)
{
    char why[256];

    berth__trace_want(secure_getenv("BERTH_TRACE"));
    if (berth__option(BERTH_OPTION_TRACE_PATHS) == 0 ||
        (!berth__trace_is_wanted() && berth__option(BERTH_OPTION_HISTORY) == 0))
        return;
    if (berth__callsite_load(why, sizeof(why)) < 0)
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_SITE, "%s; call paths are return addresses alone",
                   why);
}

/* A plan that cannot be had never stops the program: it runs without one, which is said. */
static void install_plan(void)
{
    const char *path = secure_getenv("BERTH_PLAN");
    char why[256];
    void *bytes = NULL;
    size_t size;
    int r;

    if (!path || !*path)
        return;
    r = read_file(path, &bytes, &size);
    if (r < 0) {
        berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_POOL, "%s: cannot be read: %s; no plan is followed",
                   path, why_unread(-r));
        return;
    }
    if (berth__pool_plan_load(bytes, size, why, sizeof(why)) < 0)
        berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_POOL, "%s: %s; no plan is followed", path, why);
    munmap(bytes, size);
}

__attribute__((constructor)) static void bootstrap_cuda(void)
{
    int saved_errno = errno;

    if (berth__bootstrap_malloc)
        berth__bootstrap_malloc();
    berth__thread.inside++;
    if (bootstrap_common()) {
        berth__bootstrap_device();
        if (!berth__bootstrap_malloc)
            install();
        berth__pool_class_start();
        install_plan();
        want_trace();
        berth__control_load_callsite = berth__callsite_load;
        berth__control_look = berth__binding_check;
        berth__control_wanted = berth__control_start;
        berth__control_unwanted = berth__control_pause;
        berth__control_impossible = berth__control_stay_off;
    } else {
        berth__pool_disable();
        berth__foreign_disable();
        berth__handle_disable();
    }
    berth__thread.inside--;
    errno = saved_errno;
}
#endif
