/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The values of a policy file, read by libconfuse: which options a section has, which of them are
 * lists, quoting, escapes and environment variables.
 *
 * libconfuse stops at the first mistake, so it is given one statement at a time, in its section.
 */
#ifndef BERTH_TOOLS_POLICY_VALUE_H
#define BERTH_TOOLS_POLICY_VALUE_H

#include "tools/berth/policy_scan.h"

/* Fills in the names and values of all sections. 0 or -ENOMEM; mistakes go to `complaints`. */
int berth__policy_read_values(struct berth_policy_document *document,
                              struct berth_complaints *complaints);

#endif
