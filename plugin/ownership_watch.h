/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * SECTION: two owners are seen (policies/ownership_verdict.h).
 *
 * A thread asks the other host of each protection every 30 s, at start at once and when a domain
 * has been started, compares, and acts on the verdict: it remembers what `info` shows, records what
 * this host has to learn, and suspends a stale domain - once a run of it, so that an operator who
 * resumes it is obeyed. It also writes again what the fence has lost.
 */

VrOwnershipWatch *vr_ownership_watch_new(VrApp *app);
void vr_ownership_watch_start(VrOwnershipWatch *self);
/** Look again now. Does not block; any thread. */
void vr_ownership_watch_wake(VrOwnershipWatch *self);
/** Waits for what is under way. */
void vr_ownership_watch_stop(VrOwnershipWatch *self);
/** Stops it first. */
void vr_ownership_watch_free(VrOwnershipWatch *self);

/** TRUE if the hosts do not agree on the owner of the domain, or it runs on both: a sentence and
 * what to do. Both (transfer full). Any thread. */
gboolean vr_ownership_watch_get(VrOwnershipWatch *self, const char *uuid, char **ret_message,
                                char **ret_action);

G_END_DECLS
