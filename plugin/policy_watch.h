/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/** SECTION: policy files that somebody edits take hold within a second, or the log says why not. */
typedef struct _VrPolicyWatch VrPolicyWatch;

/** @app: borrowed until vr_policy_watch_stop(). */
VrPolicyWatch *vr_policy_watch_start(VrApp *app);
/** NULL is fine. */
void vr_policy_watch_stop(VrPolicyWatch *self);

/** Domains that have the policy get its new times at once, and go on if it was what held them up;
 * the target learns of it with the next cycle. */
void vr_policy_take_up(VrApp *app, const char *policy);

G_END_DECLS
