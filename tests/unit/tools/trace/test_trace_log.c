/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: traces are read as RMM and Berth write them, and what is no trace is refused by its line.
 * Method: texts in both spellings, a table of mistakes with the line that each is told for, and
 * recordings built record by record, cut short and overwritten.
 */
#include "tools/berth/trace_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void parse(const char *text, struct berth_trace_log *log)
{
    char why[BERTH_TRACE_WHY_MAX] = "";

    if (berth__trace_csv_parse("t", text, strlen(text), log, why) != 0)
        fail_msg("%s", why);
}

static void rmm_columns_are_read(void **state)
{
    struct berth_trace_log log;

    (void)state;
    parse("Thread,Time,Action,Pointer,Size,Stream\n"
          "140573312345856,12:30:01.5,allocate,0x7f8a40000000,1024,0x7f8a38001020\n"
          "7,12:30:01:500001,allocate,0x7f8a40000400,2048,0x0\n"
          "7,12:30:02,allocate failure,0x0,1099511627776,0x0\n"
          "140573312345856,12:30:03,deallocate,0x7f8a40000000,1024,0x7f8a38001020\n",
          &log);
    assert_int_equal(log.count, 4);
    assert_int_equal(log.event[0].thread, 140573312345856);
    assert_int_equal(log.event[0].stream, 0x7f8a38001020);
    assert_int_equal(log.event[1].time_ns, 1000);
    assert_int_equal(log.event[2].action, BERTH_TRACE_FAILURE);
    assert_int_equal(log.event[3].time_ns, 1500000000);
    assert_int_equal(log.event[3].match, 0);
    assert_int_equal(log.event[0].match, 3);
    assert_int_equal(log.max_live, 3072);
    assert_int_equal(log.max_live_event, 1);
    assert_int_equal(log.leftovers, 1);
    berth__trace_log_done(&log);
}

static void lower_case_in_any_order_is_read(void **state)
{
    struct berth_trace_log log;

    (void)state;
    parse("size,action,color,pointer,time_us,kind,tag,site,device\r\n"
          "512,allocate,red,0x200,10,async,weight,\"a,b\"\"c\",3\r\n"
          "\r\n"
          "512,free,red,512,10.5,,,,3\r\n",
          &log);
    assert_int_equal(log.count, 2);
    assert_int_equal(log.event[0].address, 512);
    assert_int_equal(log.event[0].kind, BERTH_TRACE_ASYNC);
    assert_int_equal(log.event[0].device, 3);
    assert_string_equal(log.site[log.event[0].site], "a,b\"c");
    assert_int_equal(log.event[1].match, 0);
    assert_int_equal(log.event[1].time_ns, 500);
    assert_string_equal(log.site[log.event[1].site], "");
    berth__trace_log_done(&log);
}

static void what_does_not_pair_is_counted(void **state)
{
    struct berth_trace_log log;

    (void)state;
    parse("Action,Pointer,Size\n"
          "free,0x1000,1\n"
          "allocate,0x1000,100\n"
          "allocate,0x1000,50\n"
          "free,0x1000,0\n"
          "free,0x1000,0\n"
          "allocate,0x1000,70\n",
          &log);
    assert_int_equal(log.strange_frees, 2);
    assert_int_equal(log.replaced, 1);
    assert_int_equal(log.leftovers, 1);
    assert_int_equal(log.allocations, 3);
    assert_int_equal(log.max_live, 100);
    assert_int_equal(log.event[3].size, 50);
    berth__trace_log_done(&log);
}

static void mistakes_are_told_by_line(void **state)
{
    static const struct {
        const char *text, *why;
    } wrong[] = {
        {"", "t:1: there is no column 'Action'"},
        {"Action,Pointer\n", "t:1: there is no column 'Size'"},
        {"Action,Pointer,Size,size\n", "t:1: column 'size' is there twice"},
        {"Action,Pointer,Size\nalloc,0x1,1\n", "t:2: action 'alloc' is not known"},
        {"Action,Pointer,Size\n\nallocate,0x1,1\nallocate,x,1\n", "t:4: 'x' is no pointer"},
        {"Action,Pointer,Size\nallocate,0x1,-1\n", "t:2: '-1' is no size"},
        {"Action,Pointer,Size\nallocate,0x1,99999999999999999999\n", "t:2: '999"},
        {"Action,Pointer,Size\nallocate,0x1,9999999999999999\n", "t:2: size 9999999999999999 is"},
        {"Action,Pointer,Size\nallocate,0x1\n", "t:2: there are 2 fields; expected 3"},
        {"Action,Pointer,Size\nallocate,0x1,1,1\n", "t:2: there are more fields"},
        {"Action,Pointer,Size\nallocate,0x1,0\n", "t:2: an allocation has no size"},
        {"Action,Pointer,Size\nallocate,0,1\n", "t:2: there is no pointer"},
        {"Action,Pointer,Size\nallocate,\"0x1,1\n", "t:2: a quote is not closed"},
        {"Time,Action,Pointer,Size\n1:2,allocate,0x1,1\n", "t:2: '1:2' is no time"},
        {"Tag,Action,Pointer,Size\nlead,allocate,0x1,1\n", "t:2: tag 'lead' is not known"},
        {"Kind,Action,Pointer,Size\nodd,allocate,0x1,1\n", "t:2: kind 'odd' is not known"},
        {"Device,Action,Pointer,Size\n65536,allocate,0x1,1\n", "t:2: device 65536 is too high"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char why[BERTH_TRACE_WHY_MAX] = "";
        struct berth_trace_log log;

        assert_int_equal(
            berth__trace_csv_parse("t", wrong[i].text, strlen(wrong[i].text), &log, why), -EINVAL);
        if (strncmp(why, wrong[i].why, strlen(wrong[i].why)) != 0)
            fail_msg("got '%s', expected '%s'", why, wrong[i].why);
        berth__trace_log_done(&log);
    }
}

static void what_is_written_is_read_again(void **state)
{
    struct berth_trace_log log, again;
    char *text = NULL;
    size_t size = 0;
    FILE *out;

    (void)state;
    parse("Thread,Time,Action,Pointer,Size,Stream,Tag,Site,Device,Kind\n"
          "9,5,allocate,0x700,12,0x3,kv,\"m!f+0x1>m,+0x2\",1,pitch\n"
          "9,6.000000001,free,0x700,12,0x3,kv,x,1,pitch\n",
          &log);
    out = open_memstream(&text, &size);
    berth__trace_csv_write(&log, UINT64_C(1700000000000000007), out);
    fclose(out);
    assert_non_null(strstr(text, "9,1700000000.000000007,allocate,0x700,12,0x3,kv,"
                                 "\"m!f+0x1>m,+0x2\",1,pitch\n"));
    parse(text, &again);
    assert_int_equal(again.count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_string_equal(again.site[again.event[i].site], log.site[log.event[i].site]);
        again.event[i].site = log.event[i].site;
        assert_memory_equal(&again.event[i], &log.event[i], sizeof(log.event[i]));
    }
    free(text);
    berth__trace_log_done(&log);
    berth__trace_log_done(&again);
}

/* A recording in memory, `places` records long. */
static unsigned char *recording_new(size_t places, size_t *ret_size)
{
    struct berth_trace_header header = {.magic = BERTH_TRACE_MAGIC,
                                        .header_size = BERTH_TRACE_HEADER_SIZE,
                                        .record_size = sizeof(struct berth_trace_record),
                                        .started_ns = 100,
                                        .started_real_ns = 5};
    unsigned char *bytes;

    *ret_size = BERTH_TRACE_HEADER_SIZE + places * sizeof(struct berth_trace_record);
    bytes = calloc(1, *ret_size);
    memcpy(bytes, &header, sizeof(header));
    return bytes;
}

static void record(unsigned char *bytes, size_t places, uint64_t number, unsigned action,
                   uint64_t address, uint64_t size, uint32_t site)
{
    struct berth_trace_record record = {.stamp = number + 1,
                                        .time_ns = 100 + number,
                                        .address = address,
                                        .requested = size,
                                        .site = site,
                                        .action = (uint8_t)action};

    memcpy(bytes + BERTH_TRACE_HEADER_SIZE + number % places * sizeof(record), &record,
           sizeof(record));
}

static void piece(unsigned char *bytes, uint64_t number, uint32_t site, uint64_t at,
                  const char *text)
{
    struct berth_trace_record record = {
        .stamp = number + 1, .address = at, .site = site, .action = BERTH_TRACE_SITE};

    memcpy(record.text, text, strnlen(text, BERTH_TRACE_TEXT));
    memcpy(bytes + BERTH_TRACE_HEADER_SIZE + number * sizeof(record), &record, sizeof(record));
}

static void read_recording(const unsigned char *bytes, size_t size, struct berth_trace_log *log)
{
    char why[BERTH_TRACE_WHY_MAX] = "";
    uint64_t real = 0;

    assert_true(berth__trace_is_recording(bytes, size));
    if (berth__trace_recording_parse("t", bytes, size, log, &real, why) != 0)
        fail_msg("%s", why);
    assert_int_equal(real, 5);
}

static void recordings_are_read_with_their_names(void **state)
{
    struct berth_trace_log log;
    size_t size;
    unsigned char *bytes = recording_new(8, &size);

    (void)state;
    record(bytes, 8, 0, BERTH_TRACE_ALLOCATE, 0x1000, 10, 3);
    piece(bytes, 1, 3, 24, "!inner+0x1");
    record(bytes, 8, 2, BERTH_TRACE_EXISTING, 0x1000, 10, 0);
    record(bytes, 8, 3, BERTH_TRACE_EXISTING, 0x2000, 20, 9);
    piece(bytes, 4, 3, 0, "a-library-with-long-name");
    record(bytes, 8, 6, BERTH_TRACE_FREE, 0x2000, 0, 0);
    read_recording(bytes, size, &log);
    assert_string_equal(log.site[log.event[0].site], "a-library-with-long-name!inner+0x1");
    assert_int_equal(log.event[1].action, BERTH_TRACE_NOTHING);
    assert_string_equal(log.site[log.event[2].site], "site-9");
    assert_int_equal(log.event[3].size, 20);
    assert_int_equal(log.max_live, 30);
    berth__trace_log_done(&log);
    free(bytes);
}

static void a_ring_is_read_from_its_oldest_record(void **state)
{
    struct berth_trace_log log;
    size_t size;
    unsigned char *bytes = recording_new(4, &size);

    (void)state;
    for (uint64_t i = 0; i < 7; i++)
        record(bytes, 4, i, BERTH_TRACE_ALLOCATE, 0x1000 * (i + 1), i + 1, 0);
    read_recording(bytes, size, &log);
    assert_int_equal(log.count, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(log.event[i].size, 4 + i);
    berth__trace_log_done(&log);
    free(bytes);
}

static void every_cut_of_a_recording_is_read_or_refused(void **state)
{
    size_t size;
    unsigned char *bytes = recording_new(16, &size);

    (void)state;
    for (uint64_t i = 0; i < 16; i++)
        record(bytes, 16, i, BERTH_TRACE_ALLOCATE, 0x1000 * (i + 1), 1, 0);
    for (size_t cut = sizeof(BERTH_TRACE_MAGIC); cut <= size; cut += 8) {
        char why[BERTH_TRACE_WHY_MAX] = "";
        unsigned char *copy = malloc(cut);
        struct berth_trace_log log;
        uint64_t real;

        memcpy(copy, bytes, cut);
        if (berth__trace_recording_parse("t", copy, cut, &log, &real, why) == 0)
            assert_int_equal(log.count, (cut - BERTH_TRACE_HEADER_SIZE) / 64);
        else
            assert_true(cut < BERTH_TRACE_HEADER_SIZE && strlen(why) > 0);
        berth__trace_log_done(&log);
        free(copy);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmm_columns_are_read),
        cmocka_unit_test(lower_case_in_any_order_is_read),
        cmocka_unit_test(what_does_not_pair_is_counted),
        cmocka_unit_test(mistakes_are_told_by_line),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(recordings_are_read_with_their_names),
        cmocka_unit_test(a_ring_is_read_from_its_oldest_record),
        cmocka_unit_test(every_cut_of_a_recording_is_read_or_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
