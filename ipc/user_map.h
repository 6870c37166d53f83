/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a user of this user namespace is called outside it: user_namespaces(7), uid_map.
 *
 * "Outside" is the namespace around this one, which is as far as the kernel tells. Nothing here
 * allocates.
 */
#ifndef BERTH_IPC_USER_MAP_H
#define BERTH_IPC_USER_MAP_H

#include <sys/types.h>

/* The user by `fd`, open on a uid_map; `uid` itself where that does not tell. */
uid_t berth__user_map_outside(int fd, uid_t uid);

/* The same by this process's own map. */
uid_t berth__user_map_outer(uid_t uid);

#endif
