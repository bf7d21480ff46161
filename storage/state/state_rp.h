/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/wire/cycle.h"
#include "storage/state/state.h"

G_BEGIN_DECLS

/** SECTION: rows of recovery points and holds on the target. Inserting one is the commit point of a
 * cycle (T6). */

typedef enum {
    VR_RP_LISTED,   /* a recovery point */
    VR_RP_RETIRING, /* unlisted: its merge may have begun */
} VrRpState;

typedef struct {
    char *uuid;
    VrRecoveryPoint rp; /* strings owned by this row */
    VrRpState state;
    char *disks; /* JSON text [{"name","size"}], order of BEGIN; "floor" where a merge noted it */
    char *attachments; /* JSON text [{"name","size","sha256"}] */
} VrRpRow;

void vr_rp_row_free(VrRpRow *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrRpRow, vr_rp_row_free)

/** Inserts the row and sets head_pending (manifest not applied yet) in one transaction, in which it
 * is looked whether it is a replica still. Errors: REFUSED "failed-over". */
gboolean vr_state_rp_commit(VrState *self, const VrRpRow *row, GError **error);
/** Only the row, of an RP that is in the store already. */
gboolean vr_state_rp_insert(VrState *self, const VrRpRow *row, GError **error);
gboolean vr_state_rp_head_applied(VrState *self, const char *uuid, GError **error);
gboolean vr_state_rp_head_pending(VrState *self, const char *uuid, gboolean *ret_pending,
                                  GError **error);

/** All rows, oldest first, RETIRING ones included. (element-type VrRpRow) */
GPtrArray *vr_state_rp_list(VrState *self, const char *uuid, GError **error);
/** NULL without error if unknown. */
VrRpRow *vr_state_rp_by_cycle(VrState *self, const char *uuid, const char *cycle, GError **error);
gboolean vr_state_rp_set_state(VrState *self, const char *uuid, guint64 number, VrRpState state,
                               GError **error);
gboolean vr_state_rp_set_stored(VrState *self, const char *uuid, guint64 number, guint64 bytes,
                                const char *disks, GError **error);
gboolean vr_state_rp_delete(VrState *self, const char *uuid, guint64 number, GError **error);
gboolean vr_state_rp_delete_all(VrState *self, const char *uuid, GError **error);

gboolean vr_state_hold_add(VrState *self, const char *uuid, guint64 number, const char *reason,
                           GError **error);
gboolean vr_state_hold_remove(VrState *self, const char *uuid, guint64 number, const char *reason,
                              GError **error);
/** How many RPs there are above the last one that is held. */
gboolean vr_state_rp_count_free(VrState *self, const char *uuid, guint *ret_number, GError **error);
/** Reasons why RP @number is held, sorted. (element-type utf8) (transfer full) */
GPtrArray *vr_state_hold_list(VrState *self, const char *uuid, guint64 number, GError **error);
/** Is @number or a later RP held? The layers of a held RP are its own and all below. */
gboolean vr_state_hold_above(VrState *self, const char *uuid, guint64 number, gboolean *ret_held,
                             GError **error);

/** What looking at a layer, or reading it back, has found. */
typedef enum {
    VR_LAYER_GOOD,       /* every chunk is what its digest says */
    VR_LAYER_BAD,        /* some are not; DISK/<n>.bad lists them */
    VR_LAYER_UNREADABLE, /* its tables or digests cannot be read; only reading it takes that back */
    VR_LAYER_AWAY,       /* not there or not whole: a look that finds it whole takes that back */
    VR_LAYER_MERGED, /* rewritten by a merge since: not known; checked_us is the oldest part's */
} VrLayerState;

typedef struct {
    guint64 number;
    char *disk; /* owned; or the name of an attachment */
    VrLayerState state;
    gint64 checked_us; /* wall time */
} VrLayerCheck;

void vr_layer_check_free(VrLayerCheck *self);
/** All of a replica; one that was never checked has no row. (element-type VrLayerCheck) */
GPtrArray *vr_state_layer_checks(VrState *self, const char *uuid, GError **error);
gboolean vr_state_layer_check_put(VrState *self, const char *uuid, const VrLayerCheck *check,
                                  GError **error);
gboolean vr_state_layer_check_delete(VrState *self, const char *uuid, guint64 number,
                                     const char *disk, GError **error);

/** What a source was told of its replica: chunks of @disk of RP @number are not what was sent. */
typedef struct {
    guint64 number;
    char *disk; /* owned */
    guint64 chunks;
} VrReplicaDamage;

void vr_replica_damage_free(VrReplicaDamage *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrReplicaDamage, vr_replica_damage_free)
/** NULL without error if nothing is known to be damaged. (transfer full) */
VrReplicaDamage *vr_state_damage_get(VrState *self, const char *uuid, GError **error);
/** @damage: NULL forgets it. */
gboolean vr_state_damage_set(VrState *self, const char *uuid, const VrReplicaDamage *damage,
                             GError **error);

G_END_DECLS
