/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth run: prepares the environment of a program under Berth, and becomes that program.
 *
 * The tool exec's the command, so exit status, signals, terminal and process id are the command's
 * own. Until then a failure ends it with BERTH_EXIT_RUN_REFUSED, so that it cannot be taken for the
 * command's answer.
 */
#include "alloc/log.h"
#include "alloc/options.h"
#include "alloc/plan_file.h"
#include "ipc/address.h"
#include "pmem/table_build.h"
#include "tools/berth/library.h"
#include "tools/berth/options.h"
#include "tools/berth/policy_file.h"
#include "tools/berth/program.h"
#include "tools/berth/table_file.h"
#include "tools/berth/tier_probe.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATIC_TLS "glibc.rtld.optional_static_tls"

/* What is to be run, and how. */
struct run {
    const char *policy; /* a policy file, or NULL */
    const char *plan;   /* a file of `berth trace plan`, or NULL */
    char *options;      /* "k=v,k=v" of all -o, or NULL */
    char **command;
    void *table; /* the compiled policy, or NULL */
    size_t table_size;
};

/* Checks one -o and appends it. */
static int add_option(struct run *run, const char *text)
{
    const char *equals = strchr(text, '=');
    char why[BERTH_OPTION_WHY_MAX];
    char *longer;

    if (!equals)
        return berth__tool_fail("run: -o '%s' has no value; expected -o OPTION=VALUE", text);
    if (berth__option_set(text, (size_t)(equals - text), equals + 1, strlen(equals + 1),
                          BERTH_ORIGIN_ENVIRONMENT, why) < 0)
        return berth__tool_fail("run: %s", why);
    longer =
        run->options ? berth__tool_format("%s,%s", run->options, text) : berth__tool_strdup(text);
    free(run->options);
    run->options = longer;
    return 0;
}

static int parse_arguments(int argc, char **argv, struct run *run)
{
    static const struct option options[] = {{"policy", required_argument, NULL, 'p'},
                                            {"plan", required_argument, NULL, 'P'},
                                            {"option", required_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    int c;

    /* "+": what follows the command is the command's. */
    while ((c = getopt_long(argc, argv, "+p:o:", options, NULL)) != -1) {
        if (c == 'p')
            run->policy = optarg;
        else if (c == 'P')
            run->plan = optarg;
        else if (c != 'o' || add_option(run, optarg) != 0)
            return BERTH_EXIT_RUN_REFUSED;
    }
    run->command = argv + optind;
    if (optind == argc) {
        berth__tool_fail("run: there is no command; expected berth run [--policy FILE] "
                         "[--plan FILE] [-o OPTION=VALUE]... -- COMMAND");
        return BERTH_EXIT_RUN_REFUSED;
    }
    return 0;
}

/* People know the file that they wrote, and not what is kept of it. */
static void tell_source(const char *policy, const char *kept)
{
    char *file = realpath(policy, NULL);
    char *source = berth__tool_format("%s=%s", kept, file ? file : policy);

    setenv("BERTH_POLICY_SOURCE", source, 1);
    free(source);
    free(file);
}

/* The table that the command will find: of --policy, or of the BERTH_POLICY that is set already. */
static int load_policy(struct run *run)
{
    const char *inherited = getenv("BERTH_POLICY");
    char *path;
    int status;

    if (!run->policy) {
        if (inherited && *inherited)
            berth__table_file_read(inherited, &run->table, &run->table_size);
        return 0;
    }
    if (berth__policy_compile_file(run->policy, stderr, &run->table, &run->table_size) != 0)
        return BERTH_EXIT_RUN_REFUSED;
    status = berth__table_file_keep(run->table, run->table_size, &path);
    if (status != 0 || !path) {
        free(run->table);
        run->table = NULL;
        return status;
    }
    setenv("BERTH_POLICY", path, 1);
    tell_source(run->policy, path);
    free(path);
    return 0;
}

/* Refuses here what the program would run without. A relative path is relative to this folder. */
static int check_plan(const struct run *run)
{
    char why[BERTH_PLAN_WHY_MAX];
    struct berth_plan_view view;
    void *bytes = NULL;
    size_t size = 0;
    char *path;
    int r;

    if (!run->plan)
        return 0;
    path = realpath(run->plan, NULL);
    r = path ? berth__table_file_read(path, &bytes, &size) : -errno;
    if (r < 0) {
        berth__tool_fail("run: %s: %s; expected a file that `berth trace plan` wrote", run->plan,
                         r == -EINVAL ? "it is empty, or no regular file" : strerror(-r));
    } else {
        r = berth__plan_file_open(bytes, size, &view, why, sizeof(why));
        if (r < 0)
            berth__tool_fail("run: %s: %s", run->plan, why);
        else
            setenv("BERTH_PLAN", path, 1);
    }
    free(bytes);
    free(path);
    return r < 0 ? BERTH_EXIT_RUN_REFUSED : 0;
}

/* A table's options count less than those of the environment, which are set already. */
static void adopt_options(const struct run *run)
{
    struct berth_table_view view;
    char why[BERTH_OPTION_WHY_MAX];

    if (!run->table || berth__table_open(run->table, run->table_size, &view, why, sizeof(why)) < 0)
        return;
    for (uint32_t i = 0; i < view.header->options.count; i++) {
        const char *name = berth__table_string(&view, view.options[i].name);
        const char *value = berth__table_string(&view, view.options[i].value);

        berth__option_set(name, strlen(name), value, strlen(value), BERTH_ORIGIN_POLICY, why);
    }
}

static int wants_malloc_side(const struct run *run)
{
    switch ((enum berth_host)berth__option(BERTH_OPTION_HOST)) {
    case BERTH_HOST_ON:
        return 1;
    case BERTH_HOST_OFF:
        return 0;
    default:
        return run->table && berth__table_bytes_host_rule(run->table, run->table_size);
    }
}

static int preload(const char *name)
{
    return berth__library_preload("run", name) < 0 ? BERTH_EXIT_RUN_REFUSED : 0;
}

/*
 * With an auditing library the loader lays out thread-local storage before it preloads, and keeps
 * less for what comes then than an allocator takes (rtld.optional_static_tls in ld.so(8)).
 */
static void make_room_beside_auditors(void)
{
    const char *auditors = getenv("LD_AUDIT");
    const char *before = getenv("GLIBC_TUNABLES");
    char *tunables;

    if (!auditors || !*auditors || (before && strstr(before, STATIC_TLS)))
        return;
    tunables = before && *before ? berth__tool_format("%s:" STATIC_TLS "=8192", before)
                                 : berth__tool_strdup(STATIC_TLS "=8192");
    setenv("GLIBC_TUNABLES", tunables, 1);
    free(tunables);
}

/* A program that cannot have them runs without, which is said: the loader would say more. */
static int preload_libraries(const struct run *run)
{
    const char *why;
    int status = 0;

    if (!berth__program_bears_libraries(run->command[0], &why)) {
        berth__tool_fail("run: %s: %s; it runs without Berth", run->command[0], why);
        return 0;
    }
    make_room_beside_auditors();
    if (wants_malloc_side(run))
        status = preload(BERTH_LIBRARY_MALLOC);
    return status == 0 ? preload(BERTH_LIBRARY_CUDA) : status;
}

static void set_options(const struct run *run)
{
    const char *before = getenv("BERTH_OPTIONS");
    char *list;

    if (!run->options)
        return;
    list = before && *before ? berth__tool_format("%s,%s", before, run->options)
                             : berth__tool_strdup(run->options);
    setenv("BERTH_OPTIONS", list, 1);
    free(list);
}

/* Whether a folder of PATH that may be looked into has a file of this name. */
static int is_in_path(const char *name)
{
    const char *path = getenv("PATH");

    while (path && *path) {
        size_t n = strcspn(path, ":");
        char *candidate = berth__tool_format("%.*s/%s", n ? (int)n : 1, n ? path : ".", name);
        int found = access(candidate, F_OK) == 0;

        free(candidate);
        if (found)
            return 1;
        path += n;
        path += *path == ':';
    }
    return 0;
}

static int execute(char **command)
{
    int error;

    execvp(command[0], command);
    error = errno;
    /* One folder of PATH that is closed to this user does not make a command that is nowhere one
     * that may not be executed. */
    if (error == EACCES && !strchr(command[0], '/') && !is_in_path(command[0]))
        error = ENOENT;
    berth__tool_fail("run: %s: %s", command[0], strerror(error));
    return error == ENOENT || error == ENOTDIR ? BERTH_EXIT_NOT_FOUND : BERTH_EXIT_NOT_EXECUTABLE;
}

int berth__command_run(int argc, char **argv)
{
    struct run run = {0};
    int status;

    /* Wrong parts of the environment are the program's to complain about, as without the tool. */
    berth__log_configure("none");
    berth__options_parse(getenv("BERTH_OPTIONS"), BERTH_ORIGIN_ENVIRONMENT, NULL, NULL);
    status = parse_arguments(argc, argv, &run);
    if (status == 0)
        status = load_policy(&run);
    if (status == 0)
        status = check_plan(&run);
    if (status == 0) {
        adopt_options(&run);
        set_options(&run);
        if (run.table)
            berth__tier_probe(run.table, run.table_size);
    }
    if (status == 0)
        status = preload_libraries(&run);
    free(run.table);
    if (status == 0)
        status = execute(run.command);
    free(run.options);
    return status;
}
