/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "policies/said.h"

G_BEGIN_DECLS

/**
 * SECTION: the life of a replica on its target, as its source and the target's operator order it.
 *
 * A source may make a replica and change its settings; it may end replication, but it may not
 * destroy. What it ends or shortens stays for the grace that the operator of this host gave that
 * peer (peer-set --delete-grace): a replica whose source ended it is *kept*, paused and with
 * kept_until_us set, gets no recovery points and loses none, stays fenced, and is revived by the
 * same peer's next PUT. Grace 0 lets everything take hold at once. The operator alone can have a
 * kept replica dropped before its time.
 *
 * All block and take the guard of the protection: CONFLICT "busy" if somebody else holds it.
 */

/**
 * vr_peer_replica_put:
 * @peer: fingerprint of the asking host
 * @request: {"protection": {name, store, policy, policy_text, generation, exclude, xml, networks}}
 *
 * Makes the replica's row, changes its settings or revives it. What allows it is checked again in
 * the transaction that writes. Errors: INVALID, AUTH "not-your-protection", REFUSED "not-target",
 * "failed-over", "generation-owner" (not the sender's), "generation-mismatch", "replica-orphaned"
 * (the store holds one whose row is gone), "store-differs", and the findings of a check.
 */
JsonNode *vr_peer_replica_put(VrApp *app, const char *peer, const char *uuid, JsonNode *request,
                              GError **error);

/** Whether it is a replica that this host does not run, nor is about to. Otherwise REFUSED
 * "not-target", or @slug for one that was failed over. */
gboolean vr_peer_replica_check_role(VrApp *app, const VrProtection *row, const char *slug,
                                    GError **error);

/** FALSE with REFUSED "replica-kept" if its replication was ended and it is kept. */
gboolean vr_peer_replica_check_going(VrApp *app, const VrProtection *row, GError **error);

/**
 * vr_peer_replica_end:
 * @keep: without end
 *
 * The source ends replication. Without a recovery point, or without a grace, nothing stays. Answer
 * {"kept_until_us": 0 if it is gone}. Errors: REFUSED "not-target", "replica-in-use" (it was failed
 * over).
 */
JsonNode *vr_peer_replica_end(VrApp *app, const char *uuid, gboolean keep, GError **error);

/** The operator's word: row, fence, recovery points and files go now. Errors as of
 * vr_peer_replica_end(). */
gboolean vr_peer_replica_drop(VrApp *app, const char *uuid, GError **error);

/** The operator's word, for a domain that was failed over to this host and whose old host is gone:
 * its protection ends, domain and files stay as they are. Errors: REFUSED "not-failed-over". */
gboolean vr_peer_replica_let_go(VrApp *app, const char *uuid, GError **error);

/** Drops the kept replicas whose time is over. Errors are logged when they are new to @said, and
 * the next call tries again. */
void vr_peer_replica_drop_due(VrApp *app, VrSaid *said, gint64 now_us);

G_END_DECLS
