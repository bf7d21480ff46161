/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "storage/state_transfer.h"

G_BEGIN_DECLS

/** SECTION: a planned failover on its source, and its two ends. In the job's thread, its guard
 * held. */

#define VR_FAILOVER_ASK_AGAIN_US (G_TIME_SPAN_MILLISECOND * 500)

typedef struct {
    VrJob *job;
    VrApp *app;
    VrProtection *row;    /* owned */
    VrTransfer *transfer; /* owned, nullable: as it was when the job began */
    VrPeerClient *peer;   /* borrowed */
    char *line;           /* owned: the generation that was or is to be sent, nullable */
    gboolean ran;         /* the domain ran when the failover began */
    gboolean asked;    /* its guest may have been asked to power off and is perhaps still at it */
    gboolean owned;    /* the target has said that it is the owner */
    gint64 not_yet_us; /* monotonic: first answer of the target that it cannot take over, 0: none */
} VrFailover;

/** TRUE with CANCELLED if the job is cancelled or the daemon is stopping. */
gboolean vr_failover_cancelled(VrFailover *self, GError **error);

/** The target is the owner: whatever it takes, that is recorded. Errors: CANCELLED, the daemon is
 * stopping. */
gboolean vr_failover_finish(VrFailover *self, GError **error);

/** All as before: unfenced, started if it ran, replicated again. FALSE with CANCELLED when the
 * daemon is stopping before that is done. */
gboolean vr_failover_undo(VrFailover *self, GError **error);

G_END_DECLS
