/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "policies/generation.h"

G_BEGIN_DECLS

/** SECTION: the action `compare` between two hosts of a protection: each says its generation and
 * whether the domain runs there. It changes nothing on either side; what is made of it is
 * plugin/ownership_watch.h's. Worker threads. */

typedef struct {
    VrGeneration *generation; /* owned */
    gboolean active;          /* there is a QEMU of the domain */
    gboolean running;         /* and its processors run */
    gboolean moving;          /* a failover is under way there */
    VrPeerWord word;          /* of the other host only */
} VrOwnershipSide;

void vr_ownership_side_clear(VrOwnershipSide *side);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrOwnershipSide, vr_ownership_side_clear)

/** Of this host. Errors: those of libvirt, INVALID "bad-generation". */
gboolean vr_ownership_side_here(VrApp *app, const VrProtection *row, VrOwnershipSide *ret_side,
                                GError **error);

/** Asks the other host. Errors: those of vr_peer_client_action(), INVALID. */
gboolean vr_ownership_side_there(VrPeerClient *peer, const VrProtection *row, GCancellable *cancel,
                                 VrOwnershipSide *ret_side, GError **error);

/** The answer to the other host: {"generation", "relation" (theirs to ours), "active", "running",
 * "moving"}; the two about the domain are left out while libvirt cannot be asked. */
JsonNode *vr_ownership_answer(VrApp *app, const char *uuid, JsonNode *request, GError **error);

G_END_DECLS
