/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/move_door.h"

#include "alloc/thread.h"

const struct berth_move_door *berth__move_door;

#define BERTH_MOVE_RESULT_INFO(id, code, text) {code, text},
const struct berth_move_result_info berth__move_result_info[BERTH_MOVE_RESULT_COUNT] = {
    BERTH_MOVE_RESULTS(BERTH_MOVE_RESULT_INFO)};

int berth__step_quiescent(void)
{
    berth__step();
    return berth__move_door ? berth__move_door->quiet() : 0;
}
