/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/replica.h"

G_BEGIN_DECLS

/**
 * SECTION: whose turn it is with retention. Peers take turns, and the replicas of one peer take
 * turns among themselves: one peer's many merges keep no other peer's waiting. Any number of
 * threads may take turns, but at most one turn of a peer is under way: its one long merge takes one
 * of them.
 */
typedef struct _VrRetainQueue VrRetainQueue;

/** Who sends that replica. (transfer full) (nullable). Blocks; called by a thread that takes. */
typedef char *(*VrRetainPeerOf)(gpointer data, const char *uuid);

/** One replica's turn. */
typedef struct {
    char *uuid;        /* owned */
    char *peer;        /* owned, nullable: not asked yet */
    VrRetainPass pass; /* of the one who has the turn */
    gboolean again;    /* asked for since the pass began */
    gboolean begun;
} VrRetainTurn;

VrRetainQueue *vr_retain_queue_new(VrRetainPeerOf peer_of, gpointer data);
void vr_retain_queue_free(VrRetainQueue *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrRetainQueue, vr_retain_queue_free)

/** A pass of @uuid is due; once, if it waits for its first turn already. */
void vr_retain_queue_add(VrRetainQueue *self, const char *uuid);
/** No more turns. */
void vr_retain_queue_end(VrRetainQueue *self);

/** Waits for a turn; NULL: there are no more. It is the caller's until it is done. */
VrRetainTurn *vr_retain_queue_take(VrRetainQueue *self);
/** If its pass has more to do the next turn comes after those of the other peers. */
void vr_retain_queue_done(VrRetainQueue *self, VrRetainTurn *turn);

G_END_DECLS
