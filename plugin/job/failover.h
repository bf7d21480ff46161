/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "storage/state/state_transfer.h"

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
    const char *stuck; /* static, nullable: code of what holds the hand-over up, recorded as the
                          protection's error */
    gboolean answered; /* the target did, when it was asked last to take it over */
    gint64 not_yet_us; /* monotonic: first answer of the target that it cannot take over, 0: none */
} VrFailover;

/** TRUE with CANCELLED if the job is cancelled or the daemon is stopping. */
gboolean vr_failover_cancelled(VrFailover *self, GError **error);

/** TRUE with CANCELLED if an operator has ended the protection meanwhile (unprotect --force):
 * nothing is to be done, or undone, any more. */
gboolean vr_failover_abandoned(VrFailover *self, GError **error);

/** The same question. What was never offered to the target is put back as well as that is possible
 * now, and vr_ownership_restored(); otherwise the guest may run there. */
gboolean vr_failover_ended_by_force(VrFailover *self);

/** Unfenced, started if it @ran (one that was paused, or whose guest crashed, stays so), autostart
 * as @row says. A domain that an operator has undefined meanwhile needs nothing. */
gboolean vr_failover_restore(VrApp *app, const VrProtection *row, gboolean ran, GError **error);

/** The record of the shutdown names the generation of before; the one of after is what the peer
 * will show. Failure is logged. */
void vr_failover_fence_anew(VrFailover *self);

/** The target is the owner: whatever it takes, that is recorded. Errors: CANCELLED, the daemon is
 * stopping. */
gboolean vr_failover_finish(VrFailover *self, GError **error);

/** All as before: unfenced, started if it ran, replicated again. For as long as that is not
 * possible (said as "failover-not-undone"), or until an operator ends it (unprotect --force): a
 * guest is not left off in silence. FALSE with CANCELLED when the daemon is stopping before that is
 * done. */
gboolean vr_failover_undo(VrFailover *self, GError **error);

/* failover_say.c */

/** Nobody else would start the guest: until that is possible the failover has not ended. */
void vr_failover_say_not_undone(VrFailover *self, const GError *reason);
void vr_failover_say_undone(VrFailover *self);
/** After question number @tries about the hand-over was not answered with "it runs": the target is
 * asked on. @reason NULL: it has ended. Said when it is new. */
void vr_failover_note_stuck(VrFailover *self, guint tries, const GError *reason);

G_END_DECLS
