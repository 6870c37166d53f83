/* SPDX-License-Identifier: Apache-2.0 */
/* The settings: what the environment asks the simulator to be. Read once, at
 * the first call; a wrong value is named on stderr and makes cuInit fail.
 *
 *   BERTH_FAKE_DEVICES=2                     number of devices (1)
 *   CUDA_VISIBLE_DEVICES=1,0                 which of them the program sees, and in which order
 *   BERTH_FAKE_MEMORY=512M                   bytes per device (4G); K, M, G, T
 *   BERTH_FAKE_DRIVER=12040                  driver version (13000)
 *   BERTH_FAKE_LATENCY=cuMemAlloc_v2=50us,…  time added to each call (ns, us, ms, s)
 *   BERTH_FAKE_FAIL=cuMemAlloc_v2:3=2,…      the 3rd call answers 2; ":3+" from the 3rd on
 *   BERTH_FAKE_FREE_WITHOUT_WAIT=512         cuMemFree of so many bytes waits for nothing (0)
 *   BERTH_FAKE_RECORD_LIVE=1                 cuCtxRecordEvent waits for no destroyed stream (0)
 *   BERTH_FAKE_LOG=path                      one line per call, appended
 */
#ifndef BERTH_FAKE_SETTINGS_H
#define BERTH_FAKE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool settings_are_valid(void);
int settings_devices(void);
/* The numbers of those devices that CUDA_VISIBLE_DEVICES lets the program see, in its order. */
#define SETTINGS_DEVICES_MAX 64
int settings_visible(int ret[SETTINGS_DEVICES_MAX]);
uint64_t settings_memory_size(void);
int settings_driver_version(void);
const char *settings_log_path(void);
/* Whether cuGetProcAddress answers with entries to cuMemAlloc and cuMemFree that are no exports. */
bool settings_private_entries(void);
/* How large an allocation may be that cuMemFree takes back without waiting for the context. */
size_t settings_free_without_wait(void);
bool settings_record_live(void);
/* Whether any latency or failure names this call. */
bool settings_name(const char *call);
int64_t settings_latency_ns(const char *call);
/* The result code with which the nth call fails; 0 where it does not. */
int settings_failure(const char *call, unsigned nth, bool *ret_is_sticky);

#endif
