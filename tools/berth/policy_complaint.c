/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_complaint.h"

#include "tools/berth/tool.h"

#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 4, 0))) static void add(struct berth_complaints *complaints,
                                                      unsigned line, bool warning,
                                                      const char *format, va_list arguments)
{
    char *text = NULL;

    if (complaints->count == complaints->room) {
        size_t room = complaints->room ? complaints->room * 2 : 16;
        void *list = realloc(complaints->list, room * sizeof(*complaints->list));

        if (!list)
            goto err;
        complaints->list = list;
        complaints->room = room;
    }
    if (vasprintf(&text, format, arguments) < 0)
        goto err;
    complaints->list[complaints->count++] = (struct berth_complaint){line, warning, text};
    if (warning)
        complaints->warnings++;
    else
        complaints->errors++;
    return;
err:
    complaints->out_of_memory = true;
    complaints->errors++;
}

void berth__complain(struct berth_complaints *complaints, unsigned line, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(complaints, line, false, format, arguments);
    va_end(arguments);
}

void berth__warn(struct berth_complaints *complaints, unsigned line, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(complaints, line, true, format, arguments);
    va_end(arguments);
}

/* By line; complaints about one line stay in the order in which they were found. */
static int compare(const void *a, const void *b)
{
    const struct berth_complaint *const *left = a, *const *right = b;

    if ((*left)->line != (*right)->line)
        return (*left)->line < (*right)->line ? -1 : 1;
    return *left < *right ? -1 : *left > *right;
}

/* A value may have any length; what was expected stands behind it and is to be seen. */
static void print_text(const char *text, FILE *to)
{
    size_t length = strlen(text);

    if (length <= BERTH_COMPLAINT_TEXT_MAX) {
        berth__tool_print(text, length, to);
        return;
    }
    berth__tool_print(text, BERTH_COMPLAINT_TEXT_MAX / 2, to);
    fputs(" ... ", to);
    berth__tool_print(text + length - BERTH_COMPLAINT_TEXT_MAX / 2, BERTH_COMPLAINT_TEXT_MAX / 2,
                      to);
}

static void print_one(const struct berth_complaint *complaint, const char *path, FILE *to)
{
    berth__tool_print(path, strlen(path), to);
    if (complaint->line > 0)
        fprintf(to, ":%u", complaint->line);
    fputs(complaint->warning ? ": warning: " : ": ", to);
    print_text(complaint->text, to);
    fputc('\n', to);
}

void berth__complaints_print(struct berth_complaints *complaints, const char *path, bool warnings,
                             FILE *to)
{
    const struct berth_complaint **order = calloc(complaints->count + 1, sizeof(*order));
    char *text = NULL;
    size_t size;
    /* stderr has no buffer: character by character it would be slow, and mix with other output. */
    FILE *memory = open_memstream(&text, &size);
    FILE *out = memory ? memory : to;

    if (!order || complaints->out_of_memory)
        fprintf(out, "%s: there is no memory for all that is wrong; what follows is a part\n",
                path);
    for (size_t i = 0; order && i < complaints->count; i++)
        order[i] = &complaints->list[i];
    if (order)
        qsort(order, complaints->count, sizeof(*order), compare);
    for (size_t i = 0; i < complaints->count; i++) {
        const struct berth_complaint *complaint = order ? order[i] : &complaints->list[i];

        if (warnings || !complaint->warning)
            print_one(complaint, path, out);
    }
    if (memory && fclose(memory) == 0)
        fwrite(text, 1, size, to);
    free(text);
    free(order);
}

void berth__complaints_done(struct berth_complaints *complaints)
{
    for (size_t i = 0; i < complaints->count; i++)
        free(complaints->list[i].text);
    free(complaints->list);
    *complaints = (struct berth_complaints){0};
}
