/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/identity.h"
#include "storage/wire/peer_client.h"
#include "storage/state/state_peer.h"

G_BEGIN_DECLS

/** SECTION: one client a peer, made when first asked for. Any thread. */
typedef struct _VrPeerPool VrPeerPool;

VrPeerPool *vr_peer_pool_new(VrState *state, const VrIdentity *identity);
void vr_peer_pool_free(VrPeerPool *self);

/** Client of the peer with that name or fingerprint; valid until the pool is freed. NOT_FOUND
 * "no-such-peer". */
VrPeerClient *vr_peer_pool_get(VrPeerPool *self, const char *peer, GError **error);

G_END_DECLS
