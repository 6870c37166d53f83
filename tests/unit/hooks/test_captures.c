/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: each call that begins a capture has Berth ask nothing of the driver until its end is seen.
 * Method: wrappers of calls that came after the simulated driver's version, over a driver of the
 * test's own.
 */
#include "../alloc/pool_fixture.h"
#include "alloc/order.h"
#include "hooks/cuda_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define STREAM ((berth_cu_stream)0x5000)
#define MODE 2

static berth_cu_result answer;
static int is_capturing, user_data;

#define WAYS 4

static berth_cu_result driver_status(berth_cu_stream stream, int *status)
{
    assert_ptr_equal(stream, STREAM);
    *status = is_capturing;
    return BERTH_CU_SUCCESS;
}

static berth_cu_result driver_begin(void)
{
    /* Whoever is about to ask something stays outside from now on. */
    assert_false(berth__order_enter());
    is_capturing = answer == BERTH_CU_SUCCESS;
    return answer;
}

static berth_cu_result driver_recapture(berth_cu_stream stream, int mode, berth_cu_graph graph,
                                        void *callback, void *user)
{
    assert_ptr_equal(stream, STREAM);
    assert_int_equal(mode, MODE);
    assert_ptr_equal(graph, &answer);
    assert_ptr_equal(callback, &is_capturing);
    assert_ptr_equal(user, &user_data);
    return driver_begin();
}

static berth_cu_result driver_begin_cig(berth_cu_stream stream, void *parameters)
{
    assert_ptr_equal(stream, STREAM);
    assert_ptr_equal(parameters, &answer);
    return driver_begin();
}

static berth_cu_result driver_end(berth_cu_stream stream, berth_cu_graph *graph)
{
    is_capturing = 0;
    return BERTH_CU_SUCCESS;
}

static berth_cu_result driver_end_cig(berth_cu_stream stream)
{
    return driver_end(stream, NULL);
}

static void driver_up(void)
{
    berth__driver.cuStreamIsCapturing = berth__driver.cuStreamIsCapturing_ptsz = driver_status;
    berth__driver.cuStreamBeginRecaptureToGraph = driver_recapture;
    berth__driver.cuStreamBeginRecaptureToGraph_ptsz = driver_recapture;
    berth__driver.cuStreamBeginCaptureToCig = driver_begin_cig;
    berth__driver.cuStreamBeginCaptureToCig_ptsz = driver_begin_cig;
    berth__driver.cuStreamEndCapture = berth__driver.cuStreamEndCapture_ptsz = driver_end;
    berth__driver.cuStreamEndCaptureToCig = driver_end_cig;
    berth__driver.cuStreamEndCaptureToCig_ptsz = driver_end_cig;
}

static berth_cu_result begin(unsigned way)
{
    void *graph = &answer;

    switch (way) {
    case 0:
        return berth__hook_cuStreamBeginRecaptureToGraph(STREAM, MODE, graph, &is_capturing,
                                                         &user_data);
    case 1:
        return berth__hook_cuStreamBeginRecaptureToGraph_ptsz(STREAM, MODE, graph, &is_capturing,
                                                              &user_data);
    case 2:
        return berth__hook_cuStreamBeginCaptureToCig(STREAM, graph);
    default:
        return berth__hook_cuStreamBeginCaptureToCig_ptsz(STREAM, graph);
    }
}

static berth_cu_result end(unsigned way)
{
    berth_cu_graph graph = NULL;

    switch (way) {
    case 0:
        return berth__hook_cuStreamEndCapture(STREAM, &graph);
    case 1:
        return berth__hook_cuStreamEndCapture_ptsz(STREAM, &graph);
    case 2:
        return berth__hook_cuStreamEndCaptureToCig(STREAM);
    default:
        return berth__hook_cuStreamEndCaptureToCig_ptsz(STREAM);
    }
}

static bool may_ask(void)
{
    bool may = berth__order_enter();

    if (may)
        berth__order_leave();
    return may;
}

static void nothing_is_asked_until_the_end(void **state)
{
    driver_up();
    for (unsigned way = 0; way < WAYS; way++) {
        answer = BERTH_CU_SUCCESS;
        assert_int_equal(begin(way), answer);
        assert_int_equal(berth__device_captures, 1);
        assert_false(may_ask());
        assert_int_equal(end(way), BERTH_CU_SUCCESS);
        assert_int_equal(berth__device_captures, 0);
        assert_true(may_ask());
    }
}

static void what_the_driver_refuses_is_no_capture(void **state)
{
    driver_up();
    for (unsigned way = 0; way < WAYS; way++) {
        answer = BERTH_CU_INVALID_VALUE;
        assert_int_equal(begin(way), answer);
        assert_int_equal(berth__device_captures, 0);
        assert_true(may_ask());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_asked_until_the_end),
        TEST(what_the_driver_refuses_is_no_capture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
