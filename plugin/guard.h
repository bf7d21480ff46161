/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/** SECTION: one mutating holder a protection: a scheduled cycle or a job. Any thread. */
typedef struct _VrGuards VrGuards;

VrGuards *vr_guards_new(void);
void vr_guards_free(VrGuards *self);

/**
 * vr_guard_take:
 * @holder: who takes it, for people: "job 17 (failover)"
 * @wait_ms: how long to wait for the present holder; 0 not at all, -1 without limit
 *
 * Who came first is served first, so that nobody keeps others out by asking often.
 * Errors: CONFLICT "busy" naming the holder, CANCELLED.
 */
gboolean vr_guard_take(VrGuards *self, const char *uuid, const char *holder, gint64 wait_ms,
                       GCancellable *cancel, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vr_guard_release(VrGuards *self, const char *uuid);

G_END_DECLS
