/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/conn.h"

G_BEGIN_DECLS

/**
 * SECTION: freezing the guest's file systems around the instant of a point.
 *
 * The freeze is held by a process of its own that thaws when told, when we die, or at the
 * deadline, whichever comes first. Blocks; worker threads.
 */
typedef struct _VrFreeze VrFreeze;

#define VR_FREEZE_DEADLINE_MS 5000

/**
 * vr_freeze_begin:
 * @deadline_ms: from the request to the latest thaw, 1000 to 9000
 *
 * Returns when the guest is frozen. On error it is not; where the agent did not answer in time the
 * helper goes on asking it to thaw for a minute. Errors: TRANSIENT "freeze-failed" with the agent's
 * words; CANCELLED.
 */
VrFreeze *vr_freeze_begin(const char *uri, const char *uuid, guint deadline_ms,
                          GCancellable *cancel, GError **error);

/**
 * vr_freeze_end:
 *
 * Thaws and waits for it. FALSE "freeze-too-long" (TRANSIENT) if the helper had thawed before it
 * was told to, so that a point made meanwhile is crash-consistent only. Call once.
 */
gboolean vr_freeze_end(VrFreeze *self, GError **error);

/** Thaws if vr_freeze_end() was not called. */
void vr_freeze_free(VrFreeze *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrFreeze, vr_freeze_free)

/** At start-up, for a domain whose journal says that a freeze was under way. A guest that is not
 *  frozen is success. Errors: TRANSIENT "thaw-failed". */
gboolean vr_freeze_thaw_now(VrConn *conn, const char *uuid, GError **error);

/** main() of the helper: argv is PROGRAM "--freeze-helper" URI UUID DEADLINE_MS. The program that
 *  calls vr_freeze_begin() must come here first thing when argv[1] is VR_FREEZE_HELPER_ARG. */
#define VR_FREEZE_HELPER_ARG "--freeze-helper"
int vr_freeze_helper_main(int argc, char **argv);

G_END_DECLS
