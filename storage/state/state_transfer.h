/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/state/state.h"

G_BEGIN_DECLS

/** SECTION: rows of transfers: ownership that is on its way from one host to the other. At most one
 * a protection, gone with it; what is over is deleted. */

typedef enum {
    VR_TRANSFER_LEAVING,      /* source: a failover is under way, the workload is ours */
    VR_TRANSFER_HANDING_OVER, /* source: the generation may have been sent: only the target knows */
    VR_TRANSFER_PREPARING, /* target: files and domain are being made, the workload is not ours */
    VR_TRANSFER_STARTING,  /* target: the workload is ours, it was not seen running yet */
    VR_TRANSFER_REFUSED,   /* target: nothing is under way, see refused */
    VR_TRANSFER_GIVEN_UP,  /* source: an operator ended the protection under it; without generation
                              the peer never heard of it, and a domain that ran is to be started */
} VrTransferPhase;

typedef struct {
    char *uuid;
    VrTransferPhase phase;
    gboolean ran;       /* source: the domain ran when the failover began */
    gboolean autostart; /* target: as the source's domain had it */
    char *generation;   /* line on its way: vr_generation_to_line(); nullable */
    guint64 number;     /* target: RP that it boots from, 0: none */
    char *refused; /* target: ids of generations promised never to be taken, ",a,b,"; nullable */
} VrTransfer;

void vr_transfer_free(VrTransfer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrTransfer, vr_transfer_free)

/** @ret_row: NULL if there is none. FALSE if the database cannot be read. */
gboolean vr_state_transfer_get(VrState *self, const char *uuid, VrTransfer **ret_row,
                               GError **error);
/** Inserts or replaces the row. */
gboolean vr_state_transfer_put(VrState *self, const VrTransfer *row, GError **error);
gboolean vr_state_transfer_delete(VrState *self, const char *uuid, GError **error);

G_END_DECLS
