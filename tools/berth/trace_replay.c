/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth trace replay: re-runs a trace against the driver's own allocator, the pool, or both.
 *
 * Each target has a process of its own (trace_worker.h), because the pool is there by LD_PRELOAD.
 * They take turns, one repetition each, so that what else the machine does falls on both.
 */
#include "alloc/options.h"
#include "alloc/quantity.h"
#include "tools/berth/grid.h"
#include "tools/berth/library.h"
#include "tools/berth/tool.h"
#include "tools/berth/trace.h"
#include "tools/berth/trace_driver.h"
#include "tools/berth/trace_file.h"
#include "tools/berth/trace_peak.h"
#include "tools/berth/trace_worker.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define REPEAT_MAX 1000000

struct arguments {
    const char *file;
    char held[BERTH_TRACE_HELD_MAX]; /* its copy, where it can be read but once; else empty */
    const char *against;             /* "driver", "pool" or "both" */
    const char *threads;             /* "1" or "recorded" */
    const char *calls;               /* "recorded", "alloc" or "async" */
    const char *left;                /* "freed" or "kept" */
    const char *peak;                /* "peak", or "no" */
    const char *driver;              /* a path, or "virtual" */
    char *options;                   /* "k=v,k=v" of all --option, or NULL */
    unsigned long repeat;
    uint64_t device_memory; /* of the virtual driver; 0 = its default */
    int json;
    char driver_path[PATH_MAX];
};

/* A process that replays. */
struct worker {
    const char *target;
    pid_t pid;
    int go;       /* a byte starts a repetition */
    FILE *answer; /* a line of JSON for each */
};

static int one_of(const char *option, const char *value, const char *const *choices,
                  const char *expected)
{
    for (; *choices; choices++)
        if (strcmp(value, *choices) == 0)
            return 0;
    return berth__tool_misuse("trace replay: %s '%s' is not known; expected %s", option, value,
                              expected);
}

static int add_option(struct arguments *arguments, const char *text)
{
    const char *equals = strchr(text, '=');
    char why[BERTH_OPTION_WHY_MAX];
    char *longer;

    if (!equals)
        return berth__tool_misuse("trace replay: --option '%s' has no value; expected "
                                  "OPTION=VALUE",
                                  text);
    if (berth__option_set(text, (size_t)(equals - text), equals + 1, strlen(equals + 1),
                          BERTH_ORIGIN_DEFAULT, why) < 0)
        return berth__tool_misuse("trace replay: %s", why);
    longer = arguments->options ? berth__tool_format("%s,%s", arguments->options, text)
                                : berth__tool_strdup(text);
    free(arguments->options);
    arguments->options = longer;
    return 0;
}

static int parse_repeat(struct arguments *arguments, const char *text)
{
    char *end = NULL;

    arguments->repeat = strtoul(text, &end, 10);
    if (end == text || *end || *text == '-' || arguments->repeat < 1 ||
        arguments->repeat > REPEAT_MAX)
        return berth__tool_misuse("trace replay: --repeat '%s' is no count; expected 1 to %d", text,
                                  REPEAT_MAX);
    return 0;
}

static int parse_option(struct arguments *arguments, int c)
{
    static const char *const against[] = {"driver", "pool", "both", NULL};
    static const char *const threads[] = {"1", "recorded", NULL};
    static const char *const calls[] = {"recorded", "alloc", "async", NULL};

    switch (c) {
    case 'a':
        arguments->against = optarg;
        return one_of("--against", optarg, against, "driver, pool or both");
    case 't':
        arguments->threads = optarg;
        return one_of("--threads", optarg, threads, "1 or recorded");
    case 'c':
        arguments->calls = optarg;
        return one_of("--calls", optarg, calls, "recorded, alloc or async");
    case 'k':
        arguments->left = "kept";
        return 0;
    case 'n':
        return parse_repeat(arguments, optarg);
    case 'o':
        return add_option(arguments, optarg);
    case 'd':
        arguments->driver = optarg;
        return 0;
    case 'm':
        if (berth__quantity_parse(optarg, strlen(optarg), &arguments->device_memory) < 0 ||
            arguments->device_memory < 2 * BERTH_MIB)
            return berth__tool_misuse("trace replay: --device-memory '%s' is no size; expected at "
                                      "least 2M",
                                      optarg);
        return 0;
    case 'p':
        arguments->peak = "peak";
        return 0;
    case 'j':
        arguments->json = 1;
        return 0;
    default:
        return BERTH_EXIT_MISUSE;
    }
}

static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {{"against", required_argument, NULL, 'a'},
                                            {"repeat", required_argument, NULL, 'n'},
                                            {"option", required_argument, NULL, 'o'},
                                            {"keep", no_argument, NULL, 'k'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"calls", required_argument, NULL, 'c'},
                                            {"driver", required_argument, NULL, 'd'},
                                            {"device-memory", required_argument, NULL, 'm'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"peak", no_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    int c, r;

    while ((c = getopt_long(argc, argv, "n:o:", options, NULL)) != -1) {
        r = parse_option(arguments, c);
        if (r != 0)
            return r;
    }
    if (argc - optind != 1)
        return berth__tool_misuse("trace replay: expected one file: berth trace replay FILE "
                                  "[OPTION]...");
    arguments->file = argv[optind];
    return 0;
}

/* Where nobody says which driver, it is the machine's, or the virtual one where there is none. */
static int choose_driver(struct arguments *arguments)
{
    void *handle;

    if (!arguments->driver) {
        handle = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
        arguments->driver = handle ? "libcuda.so.1" : "virtual";
    }
    if (strcmp(arguments->driver, "virtual") != 0) {
        /* Each worker would say it. */
        handle = dlopen(arguments->driver, RTLD_LAZY | RTLD_LOCAL);
        if (!handle)
            return berth__tool_fail("trace replay: the driver cannot be loaded: %s", dlerror());
        if (!dlsym(handle, "cuInit"))
            return berth__tool_fail("trace replay: %s has no cuInit; expected a CUDA driver",
                                    arguments->driver);
        /* No other counts as it goes, so that nobody knows when the most is reserved. */
        if (strcmp(arguments->peak, "peak") == 0)
            return berth__tool_misuse("trace replay: --peak is of the virtual driver; expected "
                                      "--driver virtual beside it");
        snprintf(arguments->driver_path, sizeof(arguments->driver_path), "%s", arguments->driver);
        return 0;
    }
    if (berth__library_find(BERTH_VIRTUAL_LIBRARY, arguments->driver_path) < 0)
        return berth__tool_fail("trace replay: %s does not exist; expected the virtual driver "
                                "there",
                                arguments->driver_path);
    return 0;
}

/* What the worker of a target finds in its environment. In the child, before exec. */
static int prepare_environment(const struct arguments *arguments, const struct worker *worker,
                               unsigned devices)
{
    const char *before = getenv("BERTH_OPTIONS");
    char text[32];

    snprintf(text, sizeof(text), "%u", devices);
    setenv("BERTH_VIRTUAL_DEVICES", text, 1);
    snprintf(text, sizeof(text), "%" PRIu64, arguments->device_memory);
    if (arguments->device_memory > 0)
        setenv("BERTH_VIRTUAL_MEMORY", text, 1);
    if (strcmp(worker->target, "pool") != 0)
        return 0;
    if (arguments->options && before && *before)
        setenv("BERTH_OPTIONS", berth__tool_format("%s,%s", before, arguments->options), 1);
    else if (arguments->options)
        setenv("BERTH_OPTIONS", arguments->options, 1);
    return berth__library_preload("trace replay", BERTH_LIBRARY_CUDA);
}

static const char *source_of(const struct arguments *arguments)
{
    return arguments->held[0] ? arguments->held : arguments->file;
}

static void become_worker(const struct arguments *arguments, const struct worker *worker,
                          unsigned devices, int in, int out)
{
    char *argv[] = {(char *)"berth",
                    (char *)"trace",
                    (char *)"replay-worker",
                    (char *)source_of(arguments),
                    (char *)arguments->driver_path,
                    (char *)arguments->threads,
                    (char *)arguments->calls,
                    (char *)arguments->left,
                    (char *)arguments->peak,
                    NULL};

    /* A tool that is killed leaves nobody at work. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (prepare_environment(arguments, worker, devices) < 0 || dup2(in, STDIN_FILENO) < 0 ||
        dup2(out, STDOUT_FILENO) < 0)
        _exit(BERTH_EXIT_FAILURE);
    execv("/proc/self/exe", argv);
    berth__tool_fail("trace replay: /proc/self/exe: %s", strerror(errno));
    _exit(BERTH_EXIT_FAILURE);
}

static int start_worker(const struct arguments *arguments, struct worker *worker, unsigned devices)
{
    int in[2], out[2];

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        return berth__tool_fail("trace replay: a pipe cannot be made: %s", strerror(errno));
    worker->pid = fork();
    if (worker->pid < 0)
        return berth__tool_fail("trace replay: no process could be started: %s", strerror(errno));
    if (worker->pid == 0)
        become_worker(arguments, worker, devices, in[0], out[1]);
    close(in[0]);
    close(out[1]);
    worker->go = in[1];
    worker->answer = fdopen(out[0], "r");
    return 0;
}

/* One repetition's result, or NULL: the worker has said why on stderr, or died. */
static json_t *repeat(struct worker *worker)
{
    char *line = NULL;
    size_t size = 0;
    json_t *result = NULL;

    if (write(worker->go, "g", 1) == 1 && getline(&line, &size, worker->answer) > 0)
        result = json_loads(line, 0, NULL);
    free(line);
    return result;
}

/* 0, or BERTH_EXIT_FAILURE after a line where the worker could not say one itself. */
static int stop_worker(struct worker *worker)
{
    int status = 0;

    close(worker->go);
    fclose(worker->answer);
    while (waitpid(worker->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFSIGNALED(status))
        return berth__tool_fail("trace replay: the process that replays against the %s was ended "
                                "by signal %d",
                                worker->target, WTERMSIG(status));
    return WEXITSTATUS(status);
}

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void times_cells(struct berth_grid *grid, const json_t *times)
{
    berth__grid_number(grid, number(times, "p50"));
    berth__grid_number(grid, number(times, "p99"));
    berth__grid_number(grid, number(times, "p999"));
}

/* Both kinds together: memory that moves costs one of each. */
static void maps_cell(struct berth_grid *grid, const json_t *result)
{
    if (json_object_get(result, "driver_maps"))
        berth__grid_number(grid, number(result, "driver_maps") + number(result, "driver_unmaps"));
    else
        berth__grid_text(grid, "-");
}

static void result_row(struct berth_grid *grid, const json_t *result)
{
    char ratio[32];

    berth__grid_text(grid, json_string_value(json_object_get(result, "target")));
    berth__grid_number(grid, number(result, "repetition"));
    times_cells(grid, json_object_get(result, "alloc"));
    times_cells(grid, json_object_get(result, "free"));
    berth__grid_number(grid, number(result, "driver_allocs"));
    berth__grid_number(grid, number(result, "driver_frees"));
    maps_cell(grid, result);
    berth__grid_size(grid, number(result, "reserved_peak"));
    snprintf(ratio, sizeof(ratio), "%.4f", json_number_value(json_object_get(result, "ratio")));
    berth__grid_text(grid, ratio);
}

static void print_notes(const struct berth_trace_log *log, const json_t *results)
{
    const json_t *first = json_array_get(results, 0);
    uint64_t failures = 0;
    size_t i;
    json_t *result;

    json_array_foreach(results, i, result) failures += number(result, "failures");
    if (failures > 0)
        printf("%" PRIu64 " calls were refused; their frees were left out\n", failures);
    if (number(first, "skipped") > 0)
        printf("%" PRIu64 " events cannot be replayed, and were left out\n",
               number(first, "skipped"));
    if (log->is_truncated)
        puts("the trace is truncated: the recorder could not write all there was");
}

/* What the pool's memory is in the repetition in which most is reserved. */
static void print_peak(const json_t *results)
{
    const json_t *most = NULL;
    size_t i;
    json_t *result;

    json_array_foreach(results, i, result) if (json_object_get(result, "peak") &&
                                               (!most || number(result, "reserved_peak") >
                                                             number(most, "reserved_peak"))) most =
        result;
    if (!most)
        return;
    printf("\nof the pool's %" PRIu64 " bytes in repetition %" PRIu64
           ", when it has most, in per cent of max-live:\n",
           number(most, "reserved_peak"), number(most, "repetition"));
#define X(name, what)                                                                              \
    printf("  %6.2f  %s\n",                                                                        \
           100.0 * (double)number(json_object_get(most, "peak"), #name) /                          \
               (double)number(most, "max_live"),                                                   \
           what);
    BERTH_TRACE_PEAK_PARTS(X)
#undef X
}

static void print_table(const struct arguments *arguments, const struct berth_trace_log *log,
                        const json_t *results)
{
    static const char *const heads[] = {
        "TARGET", "REP",           "ALLOC p50", "p99",  "p99.9",    "FREE p50", "p99",
        "p99.9",  "DRIVER ALLOCS", "FREES",     "MAPS", "RESERVED", "/MAX-LIVE"};
    const json_t *first = json_array_get(results, 0);
    struct berth_grid grid;
    size_t i;
    json_t *result;

    printf("%s: %u allocations, %u never freed, max-live %" PRIu64 " bytes\n", arguments->file,
           log->allocations, log->leftovers, number(first, "max_live"));
    if (json_is_true(json_object_get(first, "virtual")))
        puts("driver: virtual; there is no memory behind it, and its own times mean nothing");
    else
        printf("driver: %s\n", arguments->driver_path);
    printf("times in ns, less %" PRIu64 " ns that reading the clock costs\n\n",
           number(first, "clock_ns"));
    berth__grid_init(&grid, "lrrrrrrrrrrrr", heads);
    json_array_foreach(results, i, result) result_row(&grid, result);
    berth__grid_finish(&grid, stdout);
    print_peak(results);
    print_notes(log, results);
}

static void print_json(const struct arguments *arguments, const struct berth_trace_log *log,
                       json_t *results)
{
    json_t *all =
        json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:b,s:o}", "file", arguments->file, "driver",
                  arguments->driver, "events", (json_int_t)log->count, "allocations",
                  (json_int_t)log->allocations, "leftovers", (json_int_t)log->leftovers,
                  "strange_frees", (json_int_t)log->strange_frees, "recorded_max_live",
                  (json_int_t)log->max_live, "truncated", log->is_truncated, "results", results);

    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

static unsigned devices_of(const struct berth_trace_log *log)
{
    unsigned most = 0;

    for (uint32_t i = 0; i < log->count; i++)
        if (log->event[i].device > most)
            most = log->event[i].device;
    return most + 1;
}

/* All repetitions, target by target in turn. */
static int run_workers(const struct arguments *arguments, const struct berth_trace_log *log,
                       struct worker *workers, unsigned count, json_t *results)
{
    int r = 0;
    unsigned started = 0;

    for (; r == 0 && started < count; started++)
        r = start_worker(arguments, &workers[started], devices_of(log));
    for (unsigned long i = 0; r == 0 && i < arguments->repeat * count; i++) {
        json_t *result = repeat(&workers[i % count]);

        if (!result)
            break;
        json_object_set_new(result, "repetition", json_integer((json_int_t)(i / count + 1)));
        json_array_append_new(results, result);
    }
    for (unsigned i = 0; i < started; i++)
        if (workers[i].answer && stop_worker(&workers[i]) != 0)
            r = BERTH_EXIT_FAILURE;
    return r;
}

/* The trace, if there is something in it to replay. */
static int read_trace(struct arguments *arguments, struct berth_trace_log *log)
{
    int r = berth__trace_file_hold(arguments->file, arguments->held);

    if (r == 0)
        r = berth__trace_file_read_as(arguments->file, source_of(arguments), log);
    if (r != 0)
        return r;
    if (log->allocations == 0)
        return berth__tool_fail("trace replay: %s has no allocations; expected at least one",
                                arguments->file);
    if (devices_of(log) > BERTH_TRACE_DEVICES_MAX)
        return berth__tool_fail("trace replay: %s has device %u; expected at most %d",
                                arguments->file, devices_of(log) - 1, BERTH_TRACE_DEVICES_MAX - 1);
    return 0;
}

int berth__trace_replay(int argc, char **argv)
{
    struct arguments arguments = {.against = "both",
                                  .threads = "1",
                                  .calls = "recorded",
                                  .left = "freed",
                                  .peak = "no",
                                  .repeat = 3};
    struct worker workers[2] = {{.target = "driver"}, {.target = "pool"}};
    struct berth_trace_log log;
    json_t *results = json_array();
    int r = parse_arguments(argc, argv, &arguments);
    unsigned first, count;

    if (r == 0)
        r = read_trace(&arguments, &log);
    if (r == 0)
        r = choose_driver(&arguments);
    if (r != 0)
        return r;
    /* A worker that ended is told by its answer. */
    signal(SIGPIPE, SIG_IGN);
    first = strcmp(arguments.against, "pool") == 0;
    count = strcmp(arguments.against, "both") == 0 ? 2 : 1;
    r = run_workers(&arguments, &log, workers + first, count, results);
    if (r == 0 && arguments.json)
        print_json(&arguments, &log, results);
    else if (r == 0)
        print_table(&arguments, &log, results);
    if (r != 0 || !arguments.json)
        json_decref(results);
    free(arguments.options);
    berth__trace_log_done(&log);
    return berth__tool_finish(r);
}
