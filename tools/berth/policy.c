/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy.h"

#include "pmem/table_format.h"
#include "tools/berth/policy_file.h"
#include "tools/berth/policy_show.h"
#include "tools/berth/tool.h"
#include "tools/berth/whole_file.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_USAGE 2

static const char usage_text[] =
    "usage: berth policy check FILE\n"
    "       berth policy compile FILE [-o OUT]\n"
    "       berth policy show [--text | --json] FILE|TABLE|PID\n"
    "       berth policy apply [--move] PID FILE\n"
    "\n"
    "  check    says everything that is wrong with a policy, as FILE:LINE: what; what was "
    "expected\n"
    "  compile  checks it and writes the table that a process loads (to OUT, else to stdout)\n"
    "  show     prints a policy, or the table that it was compiled to; --text as a policy again\n"
    "  apply    makes a policy the one in force in a process that runs; --move also moves blocks\n"
    "           that it has already, where their rules say movable = yes\n"
    "\n"
    "Exit code: 0; 1 when the policy is wrong or a file cannot be had; 2 for wrong usage.\n"
    "The format of a policy file is in berth-policy(5).\n";

__attribute__((format(printf, 1, 2))) static int usage_error(const char *format, ...)
{
    va_list arguments;

    fputs("berth policy: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("; expected a command as in `berth policy --help`\n", stderr);
    return EXIT_USAGE;
}

/* Loads, and says what is wrong or strange. The exit code. */
static int load(const char *path, bool warnings, struct berth_policy_file *ret)
{
    struct berth_complaints complaints = {0};
    int r = berth__policy_load(path, &complaints, ret);

    berth__complaints_print(&complaints, path, warnings, stderr);
    berth__complaints_done(&complaints);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void open_loaded(const struct berth_policy_file *file, struct berth_table_view *view)
{
    char why[8];

    /* It was opened before: this cannot fail. */
    if (berth__table_open(file->bytes, file->size, view, why, sizeof(why)) < 0)
        abort();
}

static const char *plural(uint32_t count)
{
    return count == 1 ? "" : "s";
}

static int check(const char *path)
{
    struct berth_policy_file file;
    struct berth_table_view view;
    int code = load(path, true, &file);

    if (code != EXIT_SUCCESS)
        return code;
    open_loaded(&file, &view);
    printf("%s: ok: %u tier%s, %u site%s, %u rule%s, %u option%s\n", path, view.header->tiers.count,
           plural(view.header->tiers.count), view.header->sites.count,
           plural(view.header->sites.count), view.header->rules.count,
           plural(view.header->rules.count), view.header->options.count,
           plural(view.header->options.count));
    free(file.bytes);
    return berth__tool_finish(code);
}

static int compile(const char *path, const char *out)
{
    struct berth_policy_file file;
    int code, r;

    if (!out && isatty(STDOUT_FILENO))
        return usage_error("a table is not for a terminal: give -o OUT, or redirect stdout");
    code = load(path, true, &file);
    if (code != EXIT_SUCCESS)
        return code;
    r = out ? berth__whole_file_output(out, file.bytes, file.size)
            : berth__whole_file_write(STDOUT_FILENO, file.bytes, file.size);
    free(file.bytes);
    if (r == 0)
        return EXIT_SUCCESS;
    fprintf(stderr, "%s: it cannot be written: %s\n", out ? out : "stdout", strerror(-r));
    return EXIT_FAILURE;
}

enum shape { SHAPE_TABLE, SHAPE_TEXT, SHAPE_JSON };

static int show(const char *path, enum shape shape)
{
    struct berth_policy_file file;
    struct berth_table_view view;
    int code = load(path, false, &file);
    int r = 0;

    if (code != EXIT_SUCCESS)
        return code;
    open_loaded(&file, &view);
    if (shape == SHAPE_JSON)
        r = berth__policy_show_json(&view, stdout);
    else if (shape == SHAPE_TEXT)
        berth__policy_show_text(&view, stdout);
    else
        berth__policy_show_table(&view, stdout);
    free(file.bytes);
    if (r == 0 && fflush(stdout) == 0)
        return EXIT_SUCCESS;
    fprintf(stderr, "%s: it cannot be shown: %s\n", path, strerror(r < 0 ? -r : errno));
    return EXIT_FAILURE;
}

/* What follows the command's name. */
struct arguments {
    const char *file;
    const char *out;
    enum shape shape;
    bool shape_given;
    bool help;
};

static int parse(int argc, char **argv, struct arguments *ret)
{
    static const struct option long_options[] = {
        {"output", required_argument, NULL, 'o'},
        {"json", no_argument, NULL, 'j'},
        {"text", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;

    opterr = 0;
    optind = 0; /* also starts afresh where the caller has used getopt */
    while ((c = getopt_long(argc, argv, ":o:h", long_options, NULL)) != -1) {
        if (c == 'o')
            ret->out = optarg;
        else if (c == 'h')
            ret->help = true;
        else if (c == ':')
            return usage_error("'%s' needs a value", argv[optind - 1]);
        else if (c == '?')
            return usage_error("'%s' is no option", argv[optind - 1]);
        else if (ret->shape_given && ret->shape != (c == 'j' ? SHAPE_JSON : SHAPE_TEXT))
            return usage_error("--text and --json exclude each other");
        else
            ret->shape_given = true, ret->shape = c == 'j' ? SHAPE_JSON : SHAPE_TEXT;
    }
    if (ret->help)
        return 0;
    if (optind == argc)
        return usage_error("%s: no file is given", argv[0]);
    if (argc - optind > 1)
        return usage_error("'%s' is one file too many", argv[optind + 1]);
    ret->file = argv[optind];
    return 0;
}

static int run(const char *command, const struct arguments *arguments)
{
    bool checks = strcmp(command, "check") == 0;
    bool compiles = strcmp(command, "compile") == 0;

    if (arguments->help) {
        fputs(usage_text, stdout);
        return berth__tool_finish(EXIT_SUCCESS);
    }
    if (arguments->out && !compiles)
        return usage_error("-o has no meaning for '%s'", command);
    if (arguments->shape_given && (checks || compiles))
        return usage_error("--text and --json have no meaning for '%s'", command);
    if (checks)
        return check(arguments->file);
    return compiles ? compile(arguments->file, arguments->out)
                    : show(arguments->file, arguments->shape);
}

int berth__command_policy(int argc, char **argv)
{
    struct arguments arguments = {0};
    const char *command = argc > 1 ? argv[1] : NULL;
    int code;

    if (!command)
        return usage_error("no command is given");
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0) {
        fputs(usage_text, stdout);
        return berth__tool_finish(EXIT_SUCCESS);
    }
    if (strcmp(command, "check") != 0 && strcmp(command, "compile") != 0 &&
        strcmp(command, "show") != 0)
        return usage_error("'%s' is no command", command);
    code = parse(argc - 1, argv + 1, &arguments);
    return code != 0 ? code : run(command, &arguments);
}
