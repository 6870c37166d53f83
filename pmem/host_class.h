/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side's classifier: what connects it (alloc/classifier.h) to recorded blocks.
 *
 * It follows blocks that reach the record threshold and an OS page; their number in the classifier
 * is the state in their record. Off, it costs one predicted branch for each recorded block.
 */
#ifndef BERTH_PMEM_HOST_CLASS_H
#define BERTH_PMEM_HOST_CLASS_H

#include "pmem/host.h"
#include "pmem/record.h"

struct berth_request;

/* If the option `classifier` says so. At bootstrap, before threads exist. */
void berth__host_class_start(void);

/* What the thread's tag stack says, unless the classifier is to work without. */
enum berth_tag berth__host_class_told(void);

/* Fills what the classifier thinks the block will be, for the table to go by. */
void berth__host_class_guess(const struct berth_host_request *request, struct berth_request *ret);

/* A block is about to be recorded: fills record->state. */
void berth__host_class_born(const struct berth_host_request *request, const void *p, size_t held,
                            struct berth_record *record);
void berth__host_class_died(const struct berth_record *record);
void berth__host_class_resized(const struct berth_record *record, size_t requested, size_t held);

/* After a block was handed out: judges if that is due. */
void berth__host_class_tend(void);

#endif
