/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth trace record: the allocations of a program that is started, or of one that runs.
 *
 * The program writes a recording (alloc/trace_record.h) into a file beside the output; when it has
 * ended, or the time is over, the tool makes text of it. A program that is killed leaves a
 * recording that is good up to that moment.
 */
#include "tools/berth/library.h"
#include "tools/berth/process.h"
#include "tools/berth/tool.h"
#include "tools/berth/trace.h"
#include "tools/berth/trace_file.h"
#include "tools/berth/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_DEFAULT "berth-trace.csv"
#define SECONDS_MAX 31536000.0 /* a year */

struct arguments {
    const char *output;
    const char *pid;
    double seconds; /* 0 = until a signal */
    int call_paths;
    char **command;
};

/* A recording on its way to text. */
struct recording {
    char *path; /* NULL: it has no name */
    int fd;
};

static volatile sig_atomic_t is_interrupted;

static void interrupt(int number)
{
    (void)number;
    is_interrupted = 1;
}

/* The folder that the output goes to; nothing is made beside what is no regular file. */
static char *folder_of(const char *output)
{
    const char *slash = strrchr(output, '/');
    struct stat st;

    if (strcmp(output, "-") == 0 || (stat(output, &st) == 0 && !S_ISREG(st.st_mode)))
        return berth__tool_strdup("/tmp");
    return slash ? berth__tool_format("%.*s", (int)(slash - output + 1), output)
                 : berth__tool_strdup(".");
}

/* `is_named`: another process opens it by its path. */
static int open_recording(const struct arguments *arguments, int is_named,
                          struct recording *recording)
{
    char *folder, *absolute;
    struct stat st;

    recording->path = NULL;
    recording->fd = -1;
    /* Said before anything is recorded, which would be lost. */
    if (stat(arguments->output, &st) == 0 && S_ISDIR(st.st_mode))
        return berth__tool_fail("trace record: %s is a folder; expected a file's name",
                                arguments->output);
    folder = folder_of(arguments->output);
    absolute = realpath(folder, NULL);
    if (!absolute) {
        berth__tool_fail("trace record: %s: %s", folder, strerror(errno));
        free(folder);
        return BERTH_EXIT_FAILURE;
    }
    free(folder);
    if (!is_named)
        recording->fd = open(absolute, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (recording->fd < 0) {
        recording->path = berth__tool_format("%s/.berth-trace.XXXXXX", absolute);
        recording->fd = mkostemp(recording->path, O_CLOEXEC);
    }
    if (recording->fd < 0)
        berth__tool_fail("trace record: %s: %s", absolute, strerror(errno));
    free(absolute);
    return recording->fd < 0 ? BERTH_EXIT_FAILURE : 0;
}

static bool has_recording(const struct recording *recording)
{
    struct stat st;

    return fstat(recording->fd, &st) == 0 && st.st_size > 0;
}

/* What could not be made text of is kept, if there is something: the run may have been long. */
static void keep_recording(struct recording *recording)
{
    if (!recording->path || !has_recording(recording))
        return;
    fprintf(stderr,
            "berth: trace record: the recording stays in %s; `berth trace export` makes text of "
            "it\n",
            recording->path);
    free(recording->path);
    recording->path = NULL;
}

static void close_recording(struct recording *recording)
{
    if (recording->path)
        unlink(recording->path);
    free(recording->path);
    close(recording->fd);
}

static int write_text(const char *output, const struct berth_trace_log *log, uint64_t started)
{
    struct berth_whole_file file;
    int r;

    if (strcmp(output, "-") == 0) {
        berth__trace_csv_write(log, started, stdout);
        return berth__tool_finish(0);
    }
    r = berth__whole_file_open(&file, output);
    if (r == 0) {
        berth__trace_csv_write(log, started, file.stream);
        r = berth__whole_file_close(&file);
    }
    return r < 0 ? berth__tool_fail("trace: %s: %s", output, strerror(-r)) : 0;
}

static void tell(const char *output, const struct berth_trace_log *log)
{
    fprintf(stderr, "berth: trace: %s: %u allocations, %u never freed\n", output, log->allocations,
            log->leftovers);
    if (log->is_truncated)
        fprintf(stderr, "berth: trace: the trace is truncated: its file could not grow\n");
}

/* Makes text of a recording that is there, and is called `name`. */
static int convert(const char *name, const char *output, int fd)
{
    char why[BERTH_TRACE_WHY_MAX] = "";
    struct berth_trace_log log;
    uint64_t started = 0;
    char path[64];
    int r;

    /* Output that cannot be written is told, and what was recorded does not go with the tool. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (berth__trace_file_read_recording(name, path, &log, &started, why) < 0)
        return berth__tool_fail("%s", why);
    r = write_text(output, &log, started);
    if (r == 0)
        tell(output, &log);
    berth__trace_log_done(&log);
    return r;
}

/* Makes text of what a process has recorded. */
static int finish(const char *output, const struct recording *recording)
{
    if (!has_recording(recording))
        return berth__tool_fail("trace record: nothing was recorded: the program has not "
                                "initialised CUDA");
    return convert("trace record: the recording", output, recording->fd);
}

static void add_option(const char *text)
{
    const char *before = getenv("BERTH_OPTIONS");
    char *list =
        before && *before ? berth__tool_format("%s,%s", before, text) : berth__tool_strdup(text);

    setenv("BERTH_OPTIONS", list, 1);
    free(list);
}

static void become_command(const struct arguments *arguments, const struct recording *recording)
{
    int error;

    signal(SIGINT, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    setenv("BERTH_TRACE", recording->path, 1);
    if (arguments->call_paths)
        add_option("trace-paths=on");
    if (berth__library_preload("trace record", BERTH_LIBRARY_CUDA) < 0)
        _exit(BERTH_EXIT_RUN_REFUSED);
    execvp(arguments->command[0], arguments->command);
    error = errno;
    berth__tool_fail("trace record: %s: %s", arguments->command[0], strerror(error));
    _exit(error == ENOENT ? BERTH_EXIT_NOT_FOUND : BERTH_EXIT_NOT_EXECUTABLE);
}

/* The program's end: its exit status, or as a shell says it of a signal. */
static int run_command(const struct arguments *arguments, const struct recording *recording)
{
    int status = 0;
    pid_t pid;

    /* They are for the program; what it has done until then is still made text of. */
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    pid = fork();
    if (pid < 0)
        return berth__tool_fail("trace record: no process could be started: %s", strerror(errno));
    if (pid == 0)
        become_command(arguments, recording);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int record_command(const struct arguments *arguments)
{
    struct recording recording;
    int r = open_recording(arguments, 1, &recording);
    int status;

    if (r != 0)
        return BERTH_EXIT_RUN_REFUSED;
    status = run_command(arguments, &recording);
    /* A program that did not start has been told of; one that did may end with the same numbers. */
    if (has_recording(&recording) ||
        (status != BERTH_EXIT_RUN_REFUSED && status != BERTH_EXIT_NOT_FOUND &&
         status != BERTH_EXIT_NOT_EXECUTABLE))
        r = finish(arguments->output, &recording);
    if (r != 0)
        keep_recording(&recording);
    close_recording(&recording);
    return status != 0 ? status : r;
}

/*
 * From here on SIGINT and SIGTERM end the recording and not the tool. They are blocked but while
 * the tool waits for them, so that none comes between a question and the wait.
 */
static void catch_interrupts(sigset_t *ret_waiting)
{
    struct sigaction action = {.sa_handler = interrupt};
    sigset_t blocked;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, ret_waiting);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigdelset(ret_waiting, SIGINT);
    sigdelset(ret_waiting, SIGTERM);
}

/* Until the time is over, somebody interrupts, or the process has ended. */
static void wait_for_end(pid_t pid, double seconds, const sigset_t *waiting)
{
    struct timespec left = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    struct pollfd entry = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};

    if (!is_interrupted)
        ppoll(&entry, entry.fd >= 0, seconds > 0 ? &left : NULL, waiting);
    if (entry.fd >= 0)
        close(entry.fd);
}

/*
 * A process that ends the recording where the tool is killed, which could not: the program would
 * write its trace for nobody, for ever. The descriptor to write a byte to once it is not needed, or
 * -1.
 */
static int start_guard(const struct berth_process *process)
{
    int watched[2], null;
    char byte;
    pid_t pid;

    if (pipe2(watched, O_CLOEXEC) < 0)
        return -1;
    signal(SIGPIPE, SIG_IGN); /* somebody may end the guard first */
    pid = fork();
    if (pid != 0) {
        close(watched[0]);
        if (pid < 0)
            close(watched[1]);
        return pid < 0 ? -1 : watched[1];
    }
    /* What is sent to the tool's group is not for it, and it holds nothing open of the tool's. */
    setsid();
    close(watched[1]);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        dup2(null, fd);
    if (read(watched[0], &byte, 1) == 0)
        json_decref(berth__session_ask(process, json_pack("{s:s}", "op", "trace.stop"), -1, 1));
    _exit(0);
}

static int record_process_into(const struct arguments *arguments,
                               const struct berth_process *process,
                               const struct recording *recording)
{
    const char *why;
    sigset_t waiting;
    struct stat st;
    char path[64];
    json_t *reply;
    int guard;

    /* Root's file must be one that the process may open. */
    snprintf(path, sizeof(path), "/proc/%d", (int)process->pid);
    if (geteuid() == 0 && stat(path, &st) == 0 && st.st_uid != 0 &&
        fchown(recording->fd, st.st_uid, (gid_t)-1) < 0)
        return berth__tool_fail("trace record: the file cannot be given to the process's user: %s",
                                strerror(errno));
    catch_interrupts(&waiting);
    reply = berth__session_ask(
        process, json_pack("{s:s,s:b}", "op", "trace.start", "call_paths", arguments->call_paths),
        recording->fd, 0);
    if (!reply)
        return BERTH_EXIT_FAILURE;
    guard = start_guard(process);
    why = json_string_value(json_object_get(reply, "why"));
    if (why)
        fprintf(stderr, "berth: trace record: %s; call paths are return addresses alone\n", why);
    json_decref(reply);
    fprintf(stderr, "berth: trace record: recording process %d%s\n", (int)process->pid,
            arguments->seconds > 0 ? "" : "; Ctrl-C ends it");
    wait_for_end(process->pid, arguments->seconds, &waiting);
    /* A process that has ended needs no stop. */
    json_decref(berth__session_ask(process, json_pack("{s:s}", "op", "trace.stop"), -1, 1));
    if (guard >= 0 && write(guard, "", 1) == 1)
        close(guard);
    return finish(arguments->output, recording);
}

static int record_process(const struct arguments *arguments)
{
    struct berth_process process;
    struct recording recording;
    int r;

    if (berth__process_find(arguments->pid, &process) != 0)
        return BERTH_EXIT_FAILURE;
    r = open_recording(arguments, 0, &recording);
    if (r == 0) {
        r = record_process_into(arguments, &process, &recording);
        close_recording(&recording);
    }
    berth__process_done(&process);
    return r;
}

static int parse_seconds(const char *text, double *ret)
{
    char *end = NULL;

    *ret = strtod(text, &end);
    if (end == text || *end || !(*ret > 0) || *ret > SECONDS_MAX)
        return berth__tool_misuse("trace record: --seconds '%s' is no duration; expected a "
                                  "positive number",
                                  text);
    return 0;
}

static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                            {"pid", required_argument, NULL, 'p'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"call-paths", no_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "+o:p:", options, NULL)) != -1) {
        if (c == 'o')
            arguments->output = optarg;
        else if (c == 'p')
            arguments->pid = optarg;
        else if (c == 'c')
            arguments->call_paths = 1;
        else if (c != 's' || parse_seconds(optarg, &arguments->seconds) != 0)
            return BERTH_EXIT_MISUSE;
    }
    arguments->command = argv + optind;
    if (!arguments->pid == (optind == argc))
        return berth__tool_misuse("trace record: expected either a program to start or -p PID");
    if (!arguments->pid && arguments->seconds > 0)
        return berth__tool_misuse("trace record: --seconds is for -p PID; a program that is "
                                  "started is recorded until it ends");
    return 0;
}

int berth__trace_record_command(int argc, char **argv)
{
    struct arguments arguments = {.output = OUTPUT_DEFAULT};
    int r = parse_arguments(argc, argv, &arguments);

    if (r != 0)
        return r;
    return arguments.pid ? record_process(&arguments) : record_command(&arguments);
}

/* berth trace export: makes text of a recording that a program left by itself (BERTH_TRACE). */
int berth__trace_export(int argc, char **argv)
{
    static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    const char *output = "-";
    int c, fd, r;

    while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
        if (c != 'o')
            return BERTH_EXIT_MISUSE;
        output = optarg;
    }
    if (argc - optind != 1)
        return berth__tool_misuse("trace export: expected one file: berth trace export FILE "
                                  "[-o OUT]");
    fd = open(argv[optind], O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return berth__tool_fail("trace export: %s: %s", argv[optind], strerror(errno));
    r = convert(argv[optind], output, fd);
    close(fd);
    return r;
}
