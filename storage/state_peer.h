/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/state.h"

G_BEGIN_DECLS

/** SECTION: rows of peers, invitations, network maps and stores. */

typedef struct {
    char *fingerprint; /* 64 hex: SHA-256 of the SubjectPublicKeyInfo; the key of the row */
    char *name;        /* unique, vr_name_valid() */
    char *address;     /* HOST:PORT */
    gint64 added_us;
    gint64 last_seen_us; /* 0: never */
} VrPeer;

void vr_peer_free(VrPeer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPeer, vr_peer_free)
gboolean vr_state_peer_put(VrState *self, const VrPeer *row,
                           GError **error); /* CONFLICT: name taken by another key */
VrPeer *vr_state_peer_get(VrState *self, const char *fingerprint_or_name,
                          GError **error); /* NOT_FOUND "no-such-peer" */
GPtrArray *vr_state_peer_list(VrState *self, GError **error);
gboolean vr_state_peer_seen(VrState *self, const char *fingerprint, gint64 now_us, GError **error);
/** How long what this peer ends or shortens stays nevertheless; 0: not at all. NOT_FOUND
 * "no-such-peer". */
gboolean vr_state_peer_delete_grace(VrState *self, const char *fingerprint, gint64 *ret_us,
                                    GError **error);
gboolean vr_state_peer_delete(VrState *self, const char *fingerprint,
                              GError **error); /* REFUSED while protections use it */

/** Only a hash of the secret is stored. */
gboolean vr_state_invite_add(VrState *self, const char *secret_sha256, const char *name,
                             gint64 expires_us, GError **error);
/** One use: consumes it in the same transaction. AUTH "token-unknown" | "token-used" |
 * "token-expired". @ret_name nullable */
gboolean vr_state_invite_use(VrState *self, const char *secret_sha256, gint64 now_us,
                             char **ret_name, GError **error);

typedef struct {
    char *peer;   /* fingerprint */
    char *source; /* network on the source host */
    char *target; /* network on the target host */
    char *test;   /* nullable */
} VrNetmapRow;
gboolean vr_state_netmap_put(VrState *self, const VrNetmapRow *row, GError **error);
gboolean vr_state_netmap_delete(VrState *self, const char *peer, const char *source,
                                GError **error); /* NOT_FOUND */
GPtrArray *vr_state_netmap_list(VrState *self, const char *peer_or_null, GError **error);

typedef struct {
    char *name;
    char *path; /* absolute */
} VrStoreRow;
void vr_store_row_free(VrStoreRow *self);
gboolean vr_state_store_put(VrState *self, const VrStoreRow *row, GError **error);
VrStoreRow *vr_state_store_get(VrState *self, const char *name,
                               GError **error); /* NOT_FOUND "no-such-store" */
GPtrArray *vr_state_store_list(VrState *self, GError **error);
gboolean vr_state_store_delete(VrState *self, const char *name,
                               GError **error); /* REFUSED while protections use it */

G_END_DECLS
