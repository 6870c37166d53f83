/* SPDX-License-Identifier: Apache-2.0 */
/* `berth policy ...`: what can be done with a policy without a running program. berth-policy(1). */
#ifndef BERTH_TOOLS_POLICY_H
#define BERTH_TOOLS_POLICY_H

/*
 * Runs `berth policy` with argv[0] = "policy". Returns the exit code: 0; 1 when the policy is wrong
 * or something failed; 2 for wrong usage.
 */
int berth__command_policy(int argc, char **argv);

#endif
