/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_value.h"

#include "alloc/options.h"

#include <confuse.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int take_value(cfg_t *cfg, cfg_opt_t *option, const char *value, void *result);

#define VALUE(name) CFG_STR_CB(name, NULL, CFGF_NODEFAULT, take_value)
#define VALUES(name) CFG_STR_LIST_CB(name, NULL, CFGF_NODEFAULT, take_value)

static cfg_opt_t tier_options[] = {
    VALUE("kind"),   VALUE("path"), VALUE("capacity"),   VALUE("fork"),   VALUE("fork-copy-max"),
    VALUE("decay"),  VALUE("from"), VALUE("name"),       VALUE("offset"), VALUE("size"),
    VALUES("nodes"), VALUE("numa"), VALUE("huge-pages"), VALUE("verify"), CFG_END(),
};
static cfg_opt_t site_options[] = {
    VALUE("path"), VALUE("tag"), VALUE("side"), VALUE("min-size"), VALUE("max-size"), CFG_END(),
};
static cfg_opt_t rule_options[] = {
    VALUES("tag"),   VALUE("side"),     VALUE("min-size"), VALUE("max-size"), VALUE("site"),
    VALUE("thread"), VALUE("sequence"), VALUES("place"),   VALUE("movable"),  CFG_END(),
};
#define X(identifier, name, ...) VALUE(name),
static cfg_opt_t option_options[] = {BERTH_OPTIONS(X) CFG_END()};
#undef X

static cfg_opt_t *const options_of[BERTH_SECTION_COUNT] = {
    [BERTH_SECTION_OPTIONS] = option_options,
    [BERTH_SECTION_TIER] = tier_options,
    [BERTH_SECTION_SITE] = site_options,
    [BERTH_SECTION_RULE] = rule_options,
};

/*
 * The statement that libconfuse reads now. Its callbacks get no pointer of ours, and its scanner is
 * global, so the tools read one policy at a time.
 */
static struct {
    const struct berth_policy_section *section;
    struct berth_policy_statement *statement;
    struct berth_complaints *complaints;
    int failed;
} reading;

static int take_value(cfg_t *cfg, cfg_opt_t *option, const char *value, void *result)
{
    struct berth_policy_statement *statement = reading.statement;
    size_t count = statement->value_count;
    void *values;
    char *text;

    for (const char *p = value; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127) {
            /* The file itself has none in a string: it came from a variable. */
            cfg_error(cfg, "a variable in it has a control character");
            return -1;
        }
    values = realloc(statement->values, (count + 1) * sizeof(*statement->values));
    text = strdup(value);
    if (values)
        statement->values = values;
    if (!values || !text) {
        free(text);
        reading.failed = -ENOMEM;
        return -1;
    }
    statement->values[count].text = text;
    statement->values[count].line = statement->line + (unsigned)cfg->line - 1;
    statement->value_count++;
    *(const char **)result = value;
    return 0;
}

static bool section_has(enum berth_section_kind kind, const char *name)
{
    for (const cfg_opt_t *option = options_of[kind]; option->name; option++)
        if (strcmp(option->name, name) == 0)
            return true;
    return false;
}

static void complain_unknown(const struct berth_policy_statement *statement,
                             enum berth_section_kind kind)
{
    char *list = NULL;
    size_t size;
    FILE *to = open_memstream(&list, &size);

    if (!to) {
        reading.failed = -ENOMEM;
        return;
    }
    for (const cfg_opt_t *option = options_of[kind]; option->name; option++)
        fprintf(to, "%s%s",
                option == options_of[kind] ? ""
                : option[1].name           ? ", "
                                           : " or ",
                option->name);
    if (fclose(to) == 0)
        berth__complain(reading.complaints, statement->line,
                        "'%.60s' is no option of a section '%s'; expected %s", statement->name,
                        berth__section_names[kind], list);
    free(list);
}

__attribute__((format(printf, 2, 0))) static void take_error(cfg_t *cfg, const char *format,
                                                             va_list arguments)
{
    struct berth_policy_statement *statement = reading.statement;
    char text[256];

    statement->broken = true;
    if (!section_has(reading.section->kind, statement->name)) {
        complain_unknown(statement, reading.section->kind);
        return;
    }
    vsnprintf(text, sizeof(text), format, arguments);
    if (strcmp(text, "unexpected token '{'") == 0)
        berth__complain(reading.complaints, statement->line,
                        "'%s' has a list; expected one value without braces", statement->name);
    else
        berth__complain(reading.complaints, statement->line + (unsigned)cfg->line - 1,
                        "'%s' cannot be read: %s; expected %s = VALUE", statement->name, text,
                        statement->name);
}

/* Gives libconfuse `NAME TITLE { STATEMENT }`, all on the statement's lines. */
static void read_statement(struct berth_policy_section *section,
                           struct berth_policy_statement *statement)
{
    enum berth_section_kind kind = section->kind;
    cfg_flag_t flags = kind == BERTH_SECTION_OPTIONS ? CFGF_NONE : CFGF_TITLE | CFGF_MULTI;
    cfg_opt_t root[] = {
        CFG_SEC(berth__section_names[kind], options_of[kind], flags),
        CFG_END(),
    };
    cfg_t *cfg = cfg_init(root, CFGF_NONE);
    char *text = NULL;

    if (!cfg || asprintf(&text, "%s %s { %s }", berth__section_names[kind],
                         kind == BERTH_SECTION_OPTIONS ? "" : "_", statement->source) < 0) {
        reading.failed = -ENOMEM;
        text = NULL;
    } else {
        reading.section = section;
        reading.statement = statement;
        cfg_set_error_function(cfg, take_error);
        if (cfg_parse_buf(cfg, text) != CFG_SUCCESS && !statement->broken)
            reading.failed = -ENOMEM;
    }
    free(text);
    if (cfg)
        cfg_free(cfg);
}

/* A title is a value like any other, so that it may be quoted. */
static void read_title(struct berth_policy_section *section)
{
    cfg_opt_t none[] = {CFG_END()};
    cfg_opt_t root[] = {CFG_SEC("section", none, CFGF_TITLE | CFGF_MULTI), CFG_END()};
    cfg_t *cfg = cfg_init(root, CFGF_NONE);
    char *text = NULL;

    if (cfg && asprintf(&text, "section %s { }", section->title) >= 0 &&
        cfg_parse_buf(cfg, text) == CFG_SUCCESS)
        section->name = strdup(cfg_title(cfg_getsec(cfg, "section")));
    if (!section->name)
        reading.failed = -ENOMEM;
    free(text);
    if (cfg)
        cfg_free(cfg);
}

int berth__policy_read_values(struct berth_policy_document *document,
                              struct berth_complaints *complaints)
{
    reading.complaints = complaints;
    reading.failed = 0;
    for (size_t i = 0; i < document->count && reading.failed == 0; i++) {
        struct berth_policy_section *section = &document->sections[i];

        if (section->title)
            read_title(section);
        for (size_t j = 0; j < section->statement_count && reading.failed == 0; j++) {
            if (!section->statements[j].broken)
                read_statement(section, &section->statements[j]);
            else if (!section_has(section->kind, section->statements[j].name))
                complain_unknown(&section->statements[j], section->kind);
        }
    }
    return reading.failed;
}
