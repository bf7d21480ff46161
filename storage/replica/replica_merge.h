/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/replica/replica_private.h"

G_BEGIN_DECLS

/** Two neighbours, of which the lower one goes. All calls: inside layers. */
typedef struct {
    VrReplica *replica;
    GPtrArray *rows;      /* borrowed, like the next three */
    guint index;          /* of lower */
    const VrRpRow *lower; /* k */
    const VrRpRow *upper; /* n */
    const VrRpRow *below; /* the one before k, nullable */
    gboolean redo;        /* it began earlier: lower is RETIRING */
    guint64 bytes;        /* what n takes after the merge, all disks */
    GHashTable *given_up; /* owned, nullable: names of disks whose data nobody can merge any more */
} VrMerge;

/** The merge of the row at @index, which is LISTED or, when a merge is redone, RETIRING, with the
 * one above. One that is not possible now, or that damage forbids, is left out. */
gboolean vr_merge_row(VrReplica *self, GPtrArray *rows, guint index, GCancellable *cancel,
                      GError **error);

/* replica_merge_check.c. Strings are (transfer full). */

char *vr_merge_file(const VrMerge *m, const VrRpRow *row, const char *disk, const char *suffix);
/** Name of the layer that the lower one is backed by, or NULL. */
char *vr_merge_below(const VrMerge *m, const char *disk);
gboolean vr_merge_is_given_up(const VrMerge *m, const char *disk);
/** Also where n has nothing of k's: no such disk, one that was away in between, one that stands
 * alone, or one that is given up. */
gboolean vr_merge_is_done(const VrMerge *m, const char *disk);
gboolean vr_merge_check_headers(const VrMerge *m, const char *disk, const char *lower,
                                const char *upper, GError **error);
/** @ret_may: nobody has the layers open, and all that is to be merged can be read. Of a merge that
 * began, a disk that cannot be read is given up once the newest RP does without it. Errors: the
 * database's. */
gboolean vr_merge_may(VrMerge *m, GPtrArray *disks, gboolean *ret_may, GError **error);

G_END_DECLS
