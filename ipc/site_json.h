/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Call sites as JSON: what each has alive, and its path.
 *
 * The account comes without paths, in pages, because there may be very many sites; the paths of
 * those that the client wants to show are asked for by number.
 */
#ifndef BERTH_IPC_SITE_JSON_H
#define BERTH_IPC_SITE_JSON_H

#include "alloc/site.h"
#include "ipc/failure.h"

#include <jansson.h>

/*
 * Adds "reading", "count" (one more than the highest number), the page "sites" of those from
 * `first` on that have an account, "next" (where the next page begins; null after the last), and
 * "tiers", by which the client sees what has no site. 0 or -ENOMEM.
 */
int berth__site_json_accounts(json_t *object, uint64_t first);

/* The cells of one site's account, with its peak: an object, or NULL without memory. */
json_t *berth__site_json_account(berth_site_id site);

/* At most so many frames of one site, innermost first: an array, or NULL without memory. */
json_t *berth__site_json_frames(berth_site_id site, unsigned most);

/*
 * Adds "paths": of the sites in the request's array "sites", from the first on as many as one
 * answer holds, at least one. 0, -EINVAL after saying why, or -ENOMEM.
 */
int berth__site_json_paths(const json_t *request, json_t *object, struct berth_failure *failure);

/*
 * From now on call sites are always read, or only where the policy names some. Adds "reading", and
 * "why" where there is no unwinder. 0, -EINVAL after saying why, or -ENOMEM.
 */
int berth__site_json_read(const json_t *request, json_t *object, struct berth_failure *failure);

#endif
