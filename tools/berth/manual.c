/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a manual page from its template: the line @OPTIONS@ becomes the table of options, so that
 * page and library cannot differ. Runs when Berth is built; is not installed.
 */
#include "alloc/options.h"
#include "alloc/quantity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Text in roff: hyphens that are typed, and no line that begins as a request does. */
static void put_text(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text; text++) {
        if (*text == '-' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
}

static void put_range(const struct berth_option_info *info)
{
    char least[BERTH_QUANTITY_TEXT_MAX], most[BERTH_QUANTITY_TEXT_MAX];

    if (info->type == BERTH_OPTION_CHOICE) {
        fputs("One of ", stdout);
        put_text(info->choices);
    } else if (info->type == BERTH_OPTION_SIZE) {
        printf("%s to %s", berth__quantity_format(info->least, least),
               berth__quantity_format(info->most, most));
    } else {
        printf("%" PRIu64 " to %" PRIu64 " %s", info->least, info->most, info->unit);
    }
}

static void put_options(void)
{
    for (unsigned i = 0; i < BERTH_OPTION_COUNT; i++) {
        char text[BERTH_OPTION_TEXT_MAX];

        fputs(".TP\n.B ", stdout);
        put_text(berth__option_info[i].name);
        putchar('\n');
        put_text(berth__option_info[i].help);
        putchar('\n');
        put_range(&berth__option_info[i]);
        fputs("; default ", stdout);
        put_text(berth__option_text((enum berth_option)i, text));
        fputs(".\n", stdout);
    }
}

int main(int argc, char **argv)
{
    FILE *page = argc == 2 ? fopen(argv[1], "re") : NULL;
    char line[4096];

    if (!page) {
        fprintf(stderr, "usage: berth-manual TEMPLATE\n");
        return 2;
    }
    while (fgets(line, sizeof(line), page)) {
        if (strcmp(line, "@OPTIONS@\n") == 0)
            put_options();
        else
            fputs(line, stdout);
    }
    fclose(page);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
