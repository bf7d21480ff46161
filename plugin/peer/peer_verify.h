/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/** SECTION: what the source of a protection may ask about the replica that this host stores. Each
 * is short: what takes long is a job here, whose number is answered ("job"). */

/** The newest RP of the replica of @row. REFUSED "no-recovery-point". (transfer full) */
VrRecoveryPoint *vr_peer_head(const VrApp *app, const VrProtection *row, VrReplica *replica,
                              GError **error);

/** {"number"}: a job that reads the RP (0: the newest). One that is at it already is answered. */
JsonNode *vr_peer_verify(VrApp *app, const char *uuid, JsonNode *request, GError **error);

/** {"job"}: a job of kind verify of that protection. Harmless when it has ended. */
JsonNode *vr_peer_verify_cancel(VrApp *app, const char *uuid, JsonNode *request, GError **error);

/**
 * vr_peer_prove:
 * @request: {"verify"}: whether it must have been read within verify-interval
 *
 * Could the newest RP be failed over to? Files, headers and what is known of its content are
 * checked now. {"number", "verified"} (time or null), with "job" if it must be read first: ask
 * again when that has ended. Errors: CORRUPT and REFUSED "replica-damaged" naming what is wrong.
 */
JsonNode *vr_peer_prove(VrApp *app, const char *uuid, JsonNode *request, GError **error);

G_END_DECLS
