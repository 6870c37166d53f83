/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process that replays a trace, repetition by repetition, as its parent tells it: a byte on
 * standard input starts one, a line of JSON on standard output is its result. Where libberth.so is
 * preloaded the pool is measured, else the driver.
 */
#ifndef BERTH_TOOLS_TRACE_WORKER_H
#define BERTH_TOOLS_TRACE_WORKER_H

/* No machine has as many. */
#define BERTH_TRACE_DEVICES_MAX 64

/* The hidden command `berth trace replay-worker FILE DRIVER THREADS CALLS LEFT`; LEFT is what
 * becomes of blocks that the trace never frees when a repetition is over: `freed` or `kept`. */
int berth__trace_worker(int argc, char **argv);

#endif
