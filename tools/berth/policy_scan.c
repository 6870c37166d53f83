/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const berth__section_names[BERTH_SECTION_COUNT] = {"options", "tier", "site", "rule"};

#define ANY_SECTION "expected a section: tier, site, rule or options"

/* Reading one file. `failed` is -ENOMEM once memory has run out. */
struct scan {
    struct berth_policy_text text;
    struct berth_complaints *complaints;
    struct berth_policy_document *document;
    int failed;
};

/* A token's text for a message; long ones are cut. */
#define SHOWN(token) (int)((token).length > 60 ? 60 : (token).length), (token).text

static int section_kind(const struct berth_token *token)
{
    for (int i = 0; i < BERTH_SECTION_COUNT; i++)
        if (token->kind == BERTH_TOKEN_WORD && berth__token_is(token, berth__section_names[i]))
            return i;
    return -1;
}

static bool is_value(const struct berth_token *token)
{
    return token->kind == BERTH_TOKEN_WORD || token->kind == BERTH_TOKEN_STRING ||
           token->kind == BERTH_TOKEN_WRONG;
}

/* Whether a section begins here: a section's word, a title unless it needs none, and '{'. */
static bool at_section(const struct scan *scan)
{
    struct berth_policy_text ahead = scan->text;
    struct berth_token token;

    ahead.quiet = true;
    token = berth__policy_next(&ahead);
    if (section_kind(&token) < 0)
        return false;
    token = berth__policy_next(&ahead);
    if (is_value(&token))
        token = berth__policy_next(&ahead);
    return berth__token_is(&token, "{");
}

/* Whether NAME = stands here. */
static bool at_statement(const struct scan *scan)
{
    struct berth_policy_text ahead = scan->text;
    struct berth_token name, equals;

    ahead.quiet = true;
    name = berth__policy_next(&ahead);
    equals = berth__policy_next(&ahead);
    return name.kind == BERTH_TOKEN_WORD &&
           (berth__token_is(&equals, "=") || berth__token_is(&equals, "+="));
}

static struct berth_policy_section *add_section(struct scan *scan, enum berth_section_kind kind,
                                                unsigned line)
{
    struct berth_policy_document *document = scan->document;

    if (document->count == document->room) {
        size_t room = document->room ? document->room * 2 : 8;
        void *sections = realloc(document->sections, room * sizeof(*document->sections));

        if (!sections) {
            scan->failed = -ENOMEM;
            return NULL;
        }
        document->sections = sections;
        document->room = room;
    }
    document->sections[document->count] = (struct berth_policy_section){.kind = kind, .line = line};
    return &document->sections[document->count++];
}

static struct berth_policy_statement *add_statement(struct scan *scan,
                                                    struct berth_policy_section *section,
                                                    const struct berth_token *name)
{
    struct berth_policy_statement *statement;

    if (section->statement_count == section->statement_room) {
        size_t room = section->statement_room ? section->statement_room * 2 : 8;
        void *list = realloc(section->statements, room * sizeof(*section->statements));

        if (!list) {
            scan->failed = -ENOMEM;
            return NULL;
        }
        section->statements = list;
        section->statement_room = room;
    }
    statement = &section->statements[section->statement_count];
    *statement = (struct berth_policy_statement){.line = name->line,
                                                 .name = strndup(name->text, name->length)};
    if (!statement->name) {
        scan->failed = -ENOMEM;
        return NULL;
    }
    section->statement_count++;
    return statement;
}

/* A statement's text for libconfuse. Lines count from the statement's own. */
struct source {
    FILE *to;
    unsigned line;
};

static void put_token(struct source *source, const struct berth_token *token)
{
    for (; source->line < token->line; source->line++)
        fputc('\n', source->to);
    fwrite(token->text, 1, token->length, source->to);
    fputc(' ', source->to);
}

/* Behind a list's '{'. False when the list is broken; it was complained about. */
static bool read_list(struct scan *scan, const struct berth_token *name, struct source *source)
{
    bool right = true;
    bool value_expected = true;

    for (;;) {
        struct berth_token token = berth__policy_peek(&scan->text);

        if (token.kind == BERTH_TOKEN_END || at_section(scan) || at_statement(scan)) {
            berth__complain(scan->complaints, name->line,
                            "the list of '%.*s' is not closed; expected '}'", SHOWN(*name));
            return false;
        }
        token = berth__policy_next(&scan->text);
        if (berth__token_is(&token, "}")) {
            put_token(source, &token);
            return right;
        }
        if (token.kind == BERTH_TOKEN_WRONG) {
            right = false;
        } else if (is_value(&token) != value_expected ||
                   (!is_value(&token) && !berth__token_is(&token, ","))) {
            if (right)
                berth__complain(
                    scan->complaints, token.line,
                    "'%.*s' is not expected in the list of '%.*s'; expected values with "
                    "commas between them",
                    SHOWN(token), SHOWN(*name));
            right = false;
            value_expected = is_value(&token);
        }
        value_expected = !value_expected;
        put_token(source, &token);
    }
}

/* Passes over the rest of a line that has a mistake. */
static void cut_line(struct scan *scan, struct berth_policy_section *section)
{
    struct berth_token token = berth__policy_peek(&scan->text);

    section->cut |= token.kind != BERTH_TOKEN_END && token.line == scan->text.line;
    berth__policy_skip_line(&scan->text);
}

/* Whether it is known where a wrong value ends, so that what follows it can be read. */
static bool is_closed_string(const struct berth_token *token)
{
    char quote = token->text[0];

    return token->length >= 2 && (quote == '"' || quote == '\'') &&
           token->text[token->length - 1] == quote;
}

/* Behind NAME =. False when there is no usable value. */
static bool read_value(struct scan *scan, struct berth_policy_section *section,
                       const struct berth_token *name, struct source *source)
{
    struct berth_token token = berth__policy_peek(&scan->text);

    if ((!is_value(&token) && !berth__token_is(&token, "{")) || token.line != name->line) {
        berth__complain(scan->complaints, name->line,
                        "'%.*s' has no value; expected one on the same line", SHOWN(*name));
        return false;
    }
    token = berth__policy_next(&scan->text);
    put_token(source, &token);
    if (berth__token_is(&token, "{"))
        return read_list(scan, name, source);
    if (token.kind == BERTH_TOKEN_WRONG) {
        if (!is_closed_string(&token))
            cut_line(scan, section);
        return false;
    }
    return true;
}

/* What follows a value on its line is the next statement, or the section's end, or a mistake. */
static void check_rest(struct scan *scan, struct berth_policy_section *section,
                       const struct berth_token *name)
{
    struct berth_token token = berth__policy_peek(&scan->text);

    if (token.kind == BERTH_TOKEN_END || token.line != scan->text.line ||
        berth__token_is(&token, "}") || at_statement(scan) || at_section(scan))
        return;
    if (token.kind == BERTH_TOKEN_WRONG)
        berth__policy_next(&scan->text);
    else if (berth__token_is(&token, ","))
        berth__complain(scan->complaints, token.line,
                        "',' stands behind the value of '%.*s'; expected a list in braces: "
                        "%.*s = { a, b }",
                        SHOWN(*name), SHOWN(*name));
    else
        berth__complain(scan->complaints, token.line,
                        "'%.*s' stands behind the value of '%.*s'; expected the end of the line",
                        SHOWN(token), SHOWN(*name));
    cut_line(scan, section);
}

/* At NAME = ... in a known section. */
static void read_statement(struct scan *scan, struct berth_policy_section *section)
{
    struct berth_token name = berth__policy_next(&scan->text);
    struct berth_token equals = berth__policy_next(&scan->text);
    struct berth_policy_statement *statement = add_statement(scan, section, &name);
    struct source source = {.line = name.line};
    size_t size;

    if (!statement)
        return;
    source.to = open_memstream(&statement->source, &size);
    if (!source.to) {
        scan->failed = -ENOMEM;
        return;
    }
    put_token(&source, &name);
    fputs("= ", source.to);
    if (berth__token_is(&equals, "+=")) {
        berth__complain(scan->complaints, equals.line,
                        "'+=' stands behind '%.*s'; expected '=', and all values in one list",
                        SHOWN(name));
        statement->broken = true;
    }
    if (!read_value(scan, section, &name, &source))
        statement->broken = true;
    else
        check_rest(scan, section, &name);
    if (fclose(source.to) != 0)
        scan->failed = -ENOMEM;
}

/* Behind the '{' of something that is passed over: goes behind its '}'. */
static void skip_braces(struct scan *scan)
{
    unsigned depth = 1;

    while (depth > 0) {
        struct berth_token token = berth__policy_peek(&scan->text);

        if (token.kind == BERTH_TOKEN_END || (depth == 1 && at_section(scan)))
            return;
        token = berth__policy_next(&scan->text);
        if (berth__token_is(&token, "{"))
            depth++;
        else if (berth__token_is(&token, "}"))
            depth--;
    }
}

/* Something in a section that is neither a statement nor its end. */
static void read_stray(struct scan *scan, struct berth_policy_section *section)
{
    struct berth_token token = berth__policy_next(&scan->text);
    struct berth_token next = berth__policy_peek(&scan->text);
    struct berth_policy_text ahead = scan->text;

    if (berth__token_is(&token, "{")) {
        berth__complain(scan->complaints, token.line,
                        "'{' opens nothing here; expected NAME = VALUE or '}'");
        section->cut = true;
        skip_braces(scan);
        return;
    }
    ahead.quiet = true;
    if (is_value(&next) && next.line == token.line)
        berth__policy_next(&ahead), next = berth__policy_next(&ahead);
    if (is_value(&token) && berth__token_is(&next, "{") && next.line == token.line) {
        berth__complain(scan->complaints, token.line,
                        "'%.*s {' opens a section inside a section; expected NAME = VALUE or '}'",
                        SHOWN(token));
        while (scan->text.at <= next.text)
            berth__policy_next(&scan->text);
        section->cut = true;
        skip_braces(scan);
        return;
    }
    if (token.kind == BERTH_TOKEN_WORD)
        berth__complain(scan->complaints, token.line,
                        "'=' is missing behind '%.*s'; expected NAME "
                        "= VALUE or '}'",
                        SHOWN(token));
    else if (token.kind != BERTH_TOKEN_WRONG)
        berth__complain(scan->complaints, token.line,
                        "'%.*s' is not expected here; expected NAME = VALUE or '}'", SHOWN(token));
    cut_line(scan, section);
}

/* `next` is what stands where the section should have ended before. */
static void complain_open(struct scan *scan, const struct berth_policy_section *section,
                          const struct berth_token *next)
{
    const char *kind = berth__section_names[section->kind];
    const char *title = section->title ? section->title : "";

    if (next->kind == BERTH_TOKEN_END)
        berth__complain(scan->complaints, section->line,
                        "section %s %s is not closed; expected '}' before the end of the file",
                        kind, title);
    else
        berth__complain(scan->complaints, section->line,
                        "section %s %s is not closed; expected '}' before line %u", kind, title,
                        next->line);
}

/* Behind a section's '{'. */
static void read_body(struct scan *scan, struct berth_policy_section *section)
{
    while (scan->failed == 0) {
        struct berth_token token = berth__policy_peek(&scan->text);

        if (token.kind == BERTH_TOKEN_END || at_section(scan)) {
            complain_open(scan, section, &token);
            return;
        }
        if (berth__token_is(&token, "}")) {
            berth__policy_next(&scan->text);
            return;
        }
        if (at_statement(scan))
            read_statement(scan, section);
        else
            read_stray(scan, section);
    }
}

/* The title of a section, if its kind has one. */
static void read_title(struct scan *scan, struct berth_policy_section *section)
{
    const char *kind = berth__section_names[section->kind];
    struct berth_token token = berth__policy_peek(&scan->text);

    if (is_value(&token)) {
        token = berth__policy_next(&scan->text);
        if (section->kind == BERTH_SECTION_OPTIONS)
            berth__complain(scan->complaints, token.line,
                            "the options section has a name; expected options { ... }");
        else if (token.kind != BERTH_TOKEN_WRONG) {
            section->title = strndup(token.text, token.length);
            if (!section->title)
                scan->failed = -ENOMEM;
        }
    } else if (section->kind != BERTH_SECTION_OPTIONS) {
        berth__complain(scan->complaints, section->line,
                        "this %s section has no name; expected %s NAME { ... }", kind, kind);
    }
}

/* Something at the top of the file that opens no known section. */
static void read_unknown(struct scan *scan, const struct berth_token *word)
{
    struct berth_token token = berth__policy_peek(&scan->text);

    if (berth__token_is(word, "include")) {
        berth__complain(scan->complaints, word->line,
                        "'include' is not supported; expected one file with all sections");
        berth__policy_skip_line(&scan->text);
        return;
    }
    if (berth__token_is(&token, "=")) {
        berth__complain(scan->complaints, word->line,
                        "'%.*s' is set outside a section; " ANY_SECTION, SHOWN(*word));
        berth__policy_next(&scan->text);
        token = berth__policy_peek(&scan->text);
        if (!berth__token_is(&token, "{")) {
            berth__policy_skip_line(&scan->text);
            return;
        }
    } else {
        berth__complain(scan->complaints, word->line, "'%.*s' is no section; " ANY_SECTION,
                        SHOWN(*word));
        if (is_value(&token) && token.line == word->line) {
            berth__policy_next(&scan->text);
            token = berth__policy_peek(&scan->text);
        }
    }
    if (berth__token_is(&token, "{")) {
        berth__policy_next(&scan->text);
        skip_braces(scan);
    } else if (token.line == word->line) {
        berth__policy_skip_line(&scan->text);
    }
}

/* Goes behind the section's '{'. False when there is none, and no body either. */
static bool open_body(struct scan *scan, const struct berth_policy_section *section)
{
    struct berth_policy_text ahead = scan->text;
    struct berth_token token = berth__policy_peek(&scan->text);

    if (berth__token_is(&token, "{")) {
        berth__policy_next(&scan->text);
        return true;
    }
    if (token.kind == BERTH_TOKEN_WRONG && berth__text_is_control(*token.text))
        berth__policy_next(&scan->text); /* which complains */
    else
        berth__complain(scan->complaints, section->line,
                        "'{' does not follow the name of %s %s; expected one name, and then '{'",
                        berth__section_names[section->kind], section->title ? section->title : "");
    /* It may still come on this line, behind something that does not belong there. */
    ahead.quiet = true;
    do
        token = berth__policy_next(&ahead);
    while (token.kind != BERTH_TOKEN_END && token.line == section->line &&
           !berth__token_is(&token, "{"));
    if (!berth__token_is(&token, "{") || token.line != section->line)
        return at_statement(scan);
    ahead.quiet = false;
    scan->text = ahead;
    return true;
}

static void read_section(struct scan *scan)
{
    struct berth_token word = berth__policy_next(&scan->text);
    struct berth_policy_section *section;

    if (section_kind(&word) < 0) {
        read_unknown(scan, &word);
        return;
    }
    section = add_section(scan, (enum berth_section_kind)section_kind(&word), word.line);
    if (!section)
        return;
    read_title(scan, section);
    if (open_body(scan, section))
        read_body(scan, section);
}

static void read_top(struct scan *scan)
{
    for (;;) {
        struct berth_token token = berth__policy_peek(&scan->text);

        if (token.kind == BERTH_TOKEN_END || scan->failed < 0)
            break;
        if (token.kind == BERTH_TOKEN_WORD) {
            read_section(scan);
            continue;
        }
        token = berth__policy_next(&scan->text);
        if (berth__token_is(&token, "}"))
            berth__complain(scan->complaints, token.line,
                            "'}' closes nothing; " ANY_SECTION " or the end of the file");
        else if (token.kind != BERTH_TOKEN_WRONG)
            berth__complain(scan->complaints, token.line, "'%.*s' is no section; " ANY_SECTION,
                            SHOWN(token));
        if (!berth__token_is(&token, "}"))
            berth__policy_skip_line(&scan->text);
    }
    /* A comment that is not closed reaches to the end: said here, not while looking ahead. */
    berth__policy_next(&scan->text);
}

int berth__policy_scan(const char *bytes, size_t size, struct berth_complaints *complaints,
                       struct berth_policy_document *ret)
{
    struct scan scan = {
        .text = {.at = bytes, .end = bytes + size, .line = 1, .complaints = complaints},
        .complaints = complaints,
        .document = ret,
    };

    *ret = (struct berth_policy_document){0};
    /* Some editors begin UTF-8 with a byte order mark. */
    if (size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
        scan.text.at += 3;
    read_top(&scan);
    if (scan.failed < 0)
        berth__policy_document_done(ret);
    return scan.failed;
}

static void section_done(struct berth_policy_section *section)
{
    for (size_t i = 0; i < section->statement_count; i++) {
        struct berth_policy_statement *statement = &section->statements[i];

        for (size_t j = 0; j < statement->value_count; j++)
            free(statement->values[j].text);
        free(statement->values);
        free(statement->name);
        free(statement->source);
    }
    free(section->statements);
    free(section->title);
    free(section->name);
}

void berth__policy_document_done(struct berth_policy_document *document)
{
    for (size_t i = 0; i < document->count; i++)
        section_done(&document->sections[i]);
    free(document->sections);
    *document = (struct berth_policy_document){0};
}
