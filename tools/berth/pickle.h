/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Python's pickle, protocol 2, written: dictionaries, lists, text, numbers. Only operations that
 * the readers of PyTorch's snapshots know, among them the one in a browser, are used; lists and
 * dictionaries are filled in parts, because that one has limits.
 *
 * Texts, and lists that are to be shared, are written once and then named by their number.
 */
#ifndef BERTH_TOOLS_PICKLE_H
#define BERTH_TOOLS_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct berth_pickle {
    FILE *out;                      /* errors are for the caller to ask it */
    uint32_t memo;                  /* numbers given out */
    struct berth_pickle_text *text; /* texts by hash; see pickle.c */
    uint32_t text_room, text_count;
};

void berth__pickle_begin(struct berth_pickle *pickle, FILE *out);
void berth__pickle_end(struct berth_pickle *pickle);

void berth__pickle_text(struct berth_pickle *pickle, const char *text, size_t length);
/* A text that is the program's own. */
void berth__pickle_word(struct berth_pickle *pickle, const char *word);
void berth__pickle_integer(struct berth_pickle *pickle, int64_t value);
void berth__pickle_real(struct berth_pickle *pickle, double value);
void berth__pickle_bool(struct berth_pickle *pickle, bool value);

/* An empty one; what is written next goes nowhere until it is opened. */
void berth__pickle_dict(struct berth_pickle *pickle);
void berth__pickle_list(struct berth_pickle *pickle);
/* After it come keys with their values, until berth__pickle_close_dict(); or elements. */
void berth__pickle_open(struct berth_pickle *pickle);
void berth__pickle_close_dict(struct berth_pickle *pickle);
void berth__pickle_close_list(struct berth_pickle *pickle);
/* Of the two values before it. */
void berth__pickle_pair(struct berth_pickle *pickle);

/* Gives the value that was written last a number, and writes the value of that number again. */
uint32_t berth__pickle_keep(struct berth_pickle *pickle);
void berth__pickle_kept(struct berth_pickle *pickle, uint32_t number);

/* Closes a list and opens it again after each so many elements. */
#define BERTH_PICKLE_PART 1000
void berth__pickle_next(struct berth_pickle *pickle, uint64_t index);

#endif
