/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "policies/generation.h"
#include "storage/state/state_transfer.h"

G_BEGIN_DECLS

/**
 * SECTION: who owns a workload, as far as this host decides it.
 *
 * The only place that advances a generation, writes and removes fence records, and takes a
 * protection through its failover states. What is on its way from one host to the other is the row
 * of table transfer; it is deleted when that is over. Whatever a function decides is read in the
 * transaction that writes it, so that nothing can come between the two. Worker threads; the caller
 * holds the protection's guard, except where it is said.
 */

/* The source. */

/** A failover begins: state failing-over. @ran: the domain runs now, so it is started again if the
 * failover is given up. Repeatable; then @ran is what it was the first time. Errors: REFUSED
 * "wrong-state". */
gboolean vr_ownership_leave(VrApp *app, VrProtection *row, gboolean ran, GError **error);

/** The generation that makes the peer the owner, durable before it is sent: from here on only the
 * peer knows who owns the workload. The same one when repeated. (transfer full) Errors: REFUSED
 * "wrong-state". */
char *vr_ownership_offer(VrApp *app, const char *uuid, GError **error);

/** The peer has taken over: our generation is the one offered, state failed-over. */
gboolean vr_ownership_handed_over(VrApp *app, const char *uuid, GError **error);

/** The failover is over without a new owner: all as before. Only when the peer can never take what
 * was offered. */
gboolean vr_ownership_stay(VrApp *app, const char *uuid, GError **error);

/**
 * vr_ownership_abandon:
 * @ret_contested: the peer may own the workload, or may think so
 *
 * An operator of this host decides that it ends, without the peer: state disabling. If the peer may
 * own the workload the generation advances to one of ours, so that the two never take themselves
 * for in step again; what was on its way is given up (VR_TRANSFER_GIVEN_UP). Needs no guard: a
 * failover that waits for the peer notices. Repeatable, with the same answer. Errors: REFUSED
 * "not-source".
 */
gboolean vr_ownership_abandon(VrApp *app, const char *uuid, gboolean *ret_contested,
                              GError **error);

/** The domain of a failover that was given up before the peer heard of it is as it was before; or
 * there was nothing to restore. */
gboolean vr_ownership_restored(VrApp *app, const char *uuid, GError **error);

/** The peer owns the workload, and this host has evidence of its own for that
 * (policies/ownership_verdict.h): fenced, then generation and state together. Repeatable. */
gboolean vr_ownership_learn(VrApp *app, const VrProtection *row, const VrGeneration *theirs,
                            GError **error);

/* The target. */

typedef struct {
    const char *line; /* generation that makes this host the owner */
    guint64 number;   /* RP that it boots from */
    gboolean autostart;
} VrTakeOver;

/**
 * vr_ownership_prepare:
 *
 * Notes that what follows makes files and a domain for @wanted. Refused unless this host is the
 * target, replication is under way, and the generation is the direct child of ours, owned by us,
 * and not refused before: whoever owns the workload already never gets here. Errors: REFUSED
 * "not-target", "generation-mismatch", "activation-refused", "replica-kept", "wrong-state".
 */
gboolean vr_ownership_prepare(VrApp *app, const char *uuid, const VrTakeOver *wanted,
                              GError **error);

/** The commit point of ownership: this host is the owner, state failed-over. What
 * vr_ownership_prepare() asked is asked again. */
gboolean vr_ownership_take(VrApp *app, const char *uuid, GError **error);

/** The domain was seen running: nothing is on its way any more. */
gboolean vr_ownership_arrived(VrApp *app, const char *uuid, GError **error);

/** What was made for a take-over that did not happen is gone. */
gboolean vr_ownership_given_back(VrApp *app, const char *uuid, GError **error);

/** Promises, durably, never to take the generation @line; *ret_refused is FALSE if it was taken
 * already. Needs no guard: a take-over under way notices at its commit point. Errors: REFUSED
 * "too-many-refusals". */
gboolean vr_ownership_refuse(VrApp *app, const char *uuid, const char *line, gboolean *ret_refused,
                             GError **error);

/** A replica that was kept is its source's again, which says @line: fenced. In the caller's
 * transaction. */
gboolean vr_ownership_revive(VrApp *app, const VrProtection *row, const char *line, GError **error);

/** TRUE if this host, the target, is the owner and has seen the domain running. */
gboolean vr_ownership_settled(VrApp *app, const VrProtection *row);

/* Both. */

/** The fence stands: on a target a replica, on a source a workload that is the peer's. Durable,
 * repeatable. */
gboolean vr_ownership_fence(VrApp *app, const VrProtection *row, GError **error);
gboolean vr_ownership_unfence(VrApp *app, const char *uuid, GError **error);

G_END_DECLS
