/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/layer_verify.h"
#include "storage/replica/replica.h"

G_BEGIN_DECLS

/** SECTION: is what a replica stores what was proven at its commit? Two questions: the cheap one
 * about files and headers, and the one that reads every chunk. All calls block. */

typedef struct {
    guint layers;            /* of the RP, all disks */
    guint layers_read;       /* now; the others were found good lately enough */
    guint layers_bad;        /* of all */
    guint layers_unreadable; /* not there, or no layers any more */
    guint layers_left_out;   /* being merged under a hold: not to be read now */
    guint attachments_bad; /* of the RP: NVRAM, its definition and so on; not there or differing */
    guint64 bytes;         /* read and compared */
    guint64 bad_chunks;    /* found in the layers read, whether newer ones hide them or not */
    guint64 unreadable_chunks;
    char problem[256]; /* what the first unreadable layer or chunk said; "" if none */
} VrVerifyResult;

/**
 * vr_replica_verify:
 * @number: the RP; all layers that it consists of
 * @good_since_us: wall time; layers found good since are not read again
 * @pace: called after each read; FALSE with an error ends it
 *
 * Reads layers and attachments and records what it finds of each. No layer of that RP is merged
 * meanwhile. What of the newest RP is bad is sent again by the next cycle: chunks, or all of a disk
 * whose layers cannot be read. TRUE also if something bad was found: see damaged_disk of the RP.
 * Errors: NOT_FOUND "no-such-rp"; those of @pace, of the database and of a full file system.
 */
gboolean vr_replica_verify(VrReplica *self, guint64 number, gint64 good_since_us, VrLayerPace pace,
                           gpointer data, GCancellable *cancel, VrVerifyResult *ret_result,
                           GError **error);

/**
 * vr_replica_scrub:
 * @due_us: wall time; layers not read since are due
 * @ret_any: one was due and was read
 *
 * The one layer that has waited longest. Errors like vr_replica_verify().
 */
gboolean vr_replica_scrub(VrReplica *self, gint64 due_us, VrLayerPace pace, gpointer data,
                          gboolean *ret_any, GError **error);

/** Every layer's file, header, size and place in its chain, and every attachment. What is not there
 * or not whole is recorded, and taken back when it is found whole; what reading found stands. */
gboolean vr_replica_look(VrReplica *self, GError **error);

/** One RP: its layers and their digests, its domain XML and its attachments. A look at
 * all of them goes before it. CORRUPT naming the file. */
gboolean vr_replica_check_chain(VrReplica *self, guint64 number, GError **error);

/** REFUSED "replica-damaged" if RP @number is known to show bad chunks. */
gboolean vr_replica_require_sound(VrReplica *self, guint64 number, GError **error);

G_END_DECLS
