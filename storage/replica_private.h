/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>

#include "storage/layer.h"
#include "storage/layer_gate.h"
#include "storage/manifest.h"
#include "storage/replica.h"
#include "storage/state_rp.h"

G_BEGIN_DECLS

/**
 * SECTION: what the files of the replica share.
 *
 * Locks, in taking order: layers (a merge, and whoever hands out paths of layers), lock (rows,
 * directories, the open cycle's life), io (read: frames are stored; write: the open cycle changes).
 */

/** One disk of the open cycle. */
typedef struct {
    const char *name; /* borrowed from begin */
    guint64 size_bytes;
    guint64 chunks;
    guint64 below;        /* RP whose layer is the backing file; 0: none */
    VrLayer *layer;       /* owned */
    VrManifest *manifest; /* owned */
} VrIncomingDisk;

typedef struct {
    VrCycleBegin *begin; /* owned */
    guint64 number;      /* of the RP it becomes */
    GPtrArray *disks;    /* owned; VrIncomingDisk */
    gint unproven;       /* atomic; layer and overlay may disagree */
    gint attachments;    /* atomic; how many were put */
} VrIncoming;

struct _VrReplica {
    VrState *state; /* borrowed, see vr_replica_open() */
    char *uuid;     /* owned, like the next three */
    char *store;
    char *dir; /* STORE/<uuid> */
    char *manifest_dir;
    VrLayerGate layers;
    GMutex lock;
    GRWLock io;
    VrIncoming *open;   /* owned, nullable; changes under lock and io (write) */
    GMutex damage_lock; /* guards the next two */
    GHashTable *damage; /* owned, nullable: not computed since the last change */
    guint damage_serial;
    gboolean clock_known; /* this and the next two inside layers */
    gint64 pass_wall_us;
    gint64 pass_boot_us;
    gint left_out; /* atomic; a merge that was due gave way to a reader */
};

/* replica_path.c: paths and rows. Strings are (transfer full). */

char *vr_replica_path(VrReplica *self, const char *format, ...) G_GNUC_PRINTF(2, 3);
gboolean vr_replica_make_dirs(VrReplica *self, GError **error);
/** A disk name as libvirt makes them; none of our own names in the directory of the protection. */
gboolean vr_replica_disk_name_ok(const char *name);
/** "12.qcow2" -> 12 and "qcow2". */
gboolean vr_replica_parse_layer_name(const char *name, guint64 *ret_number,
                                     const char **ret_suffix);
/** Disks of a row; (element-type VrCycleDisk). Errors: CORRUPT. */
GPtrArray *vr_replica_row_disks(const VrRpRow *row, GError **error);
/** Size of disk @name in @row, 0 if it has none. */
guint64 vr_replica_row_disk_size(const VrRpRow *row, const char *name);
/** Smallest size that disk @name of row @index has had since the row before; 0: it was not there,
 * its layer has no backing file. A merge notes it in the row as "floor" where the sizes of the two
 * rows do not say it. */
guint64 vr_replica_row_disk_floor(GPtrArray *rows, guint index, const char *name);
/** Last of @rows (element-type VrRpRow) or NULL; borrowed. */
const VrRpRow *vr_replica_last_row(GPtrArray *rows);
VrRecoveryPoint *vr_replica_copy_rp(const VrRecoveryPoint *rp);

/* replica_index.c */

/** STORE/<uuid>/manifest.json as store_index.h describes it, unless it is so already. Caller holds
 * lock. */
gboolean vr_replica_write_index(VrReplica *self, GError **error);
/** The same where what the database says holds whether or not the index can be written: the next
 * one who writes it writes all. */
void vr_replica_try_index(VrReplica *self);
/** Refuses rows older than the index: the database was put back to an earlier time. */
gboolean vr_replica_check_index(VrReplica *self, GError **error);

/* replica.c: the chain of layers of an RP. Caller is inside layers. */

/** Index of the listed RP @number in @rows, or -1 with NOT_FOUND. */
int vr_replica_find_listed(VrReplica *self, GPtrArray *rows, guint64 number, GError **error);
/** Row of the layer below that of row *@i, which becomes its index; NULL if there is none. */
const VrRpRow *vr_replica_row_below(VrReplica *self, GPtrArray *rows, guint *i, const char *disk);
/** Headers from row @index down to the layer without a backing file. */
gboolean vr_replica_check_disk_chain(VrReplica *self, GPtrArray *rows, guint index,
                                     const char *disk, GError **error);

/* replica_damage.c */

/** Sets verified_us and damage in each of @rows. */
gboolean vr_replica_judge_rows(VrReplica *self, GPtrArray *rows, GError **error);
/** Layers or what is known of them have changed. */
void vr_replica_forget_damage(VrReplica *self);
/** Of (element-type VrLayerCheck) @checks; borrowed, nullable. */
const VrLayerCheck *vr_replica_find_check(GPtrArray *checks, guint64 number, const char *disk);
/** Bad chunks that the newest RP shows become chunks that are not held, in the head's manifests, so
 * that the source sends them. Repeatable. No cycle is open; caller holds lock and io (write). */
gboolean vr_replica_mark_not_held(VrReplica *self, GError **error);

/* replica_damage.c: what is known to be bad is sent again by the next cycle; one that is open ends
 * if that is news. Repeatable. Caller holds lock and io (write), or is alone. */
gboolean vr_replica_note_damage(VrReplica *self, GError **error);

/* replica_incoming.c: the open cycle in memory and in incoming/. Caller holds lock and io (write).
 */

void vr_incoming_free(VrIncoming *self);
VrIncomingDisk *vr_incoming_find(VrIncoming *self, const char *name);
/** A new cycle: directory, empty layers, empty overlays. */
VrIncoming *vr_incoming_create(VrReplica *replica, const VrCycleBegin *begin, const VrRpRow *head,
                               GError **error);
/** What incoming/<cycle>/ holds, unproven; NULL without error if it is not a cycle on @head. */
VrIncoming *vr_incoming_load(VrReplica *replica, const char *cycle, const VrRpRow *head);
/** The cycle goes on as @begin's: directory renamed. */
gboolean vr_incoming_adopt(VrReplica *replica, VrIncoming *self, const VrCycleBegin *begin,
                           GError **error);
/** After this layer and overlay agree: what cannot be proven is as in the head again. */
gboolean vr_incoming_prove(VrReplica *replica, VrIncoming *self, GError **error);
guint64 vr_incoming_held(VrIncoming *self);

/* replica_recover.c: caller holds lock and io (write). */

/** Refuses to go on above layers that are not there. @head: nullable. */
gboolean vr_replica_check_layers(VrReplica *self, const VrRpRow *head, GError **error);
/** Layers and directories without a row go back to the cycle that published them, or away. */
gboolean vr_replica_unpublish(VrReplica *self, GError **error);
/** Keeps at most one cycle that can go on. */
gboolean vr_replica_sweep_incoming(VrReplica *self, GError **error);
/** If the last commit is not in the manifests yet: apply, index, remove leftovers. */
gboolean vr_replica_finish_head(VrReplica *self, GError **error);
/** Attachments that no RP links. */
void vr_replica_sweep_attachments(VrReplica *self);
/** Head manifests may differ from the layers until they are rebuilt. */
gboolean vr_replica_mark_rebuild(VrReplica *self, GError **error);
gboolean vr_replica_is_marked(VrReplica *self);
/** Head manifests from the layers' digests, if marked. */
gboolean vr_replica_rebuild_if_marked(VrReplica *self, GError **error);

/* replica_commit.c: for the open cycle; caller holds lock and io (write). */

/** First half of T3. Changes nothing. @ret_wrong: the content is not what the source says. */
gboolean vr_replica_check_commit(VrReplica *self, const VrCycleCommit *commit, gboolean *ret_wrong,
                                 GError **error);
/** T3 to T6. After an error layers may be sealed or published: see vr_replica_unpublish(). */
gboolean vr_replica_run_commit(VrReplica *self, const VrCycleCommit *commit, GError **error);

/* replica_cycle.c: forgets the open cycle and what is in incoming/; overlays are emptied by the
 * next one that begins anew. Caller holds lock and io (write). */
gboolean vr_replica_drop_incoming(VrReplica *self, GError **error);

/* replica_merge.c: merges that began and were not finished. Caller is inside layers and holds
 * nothing else. */
gboolean vr_replica_redo_merges(VrReplica *self, GCancellable *cancel, GError **error);

/** The same from outside: one that was interrupted is finished if nothing keeps it. */
gboolean vr_replica_finish_merges(VrReplica *self, GCancellable *cancel, GError **error);

/* replica_sums.c: DISK/<n>.sums, records of u64 LE chunk and digest, ascending. */

#define VR_SUMS_RECORD_LEN (8 + VR_DIGEST_LEN)

typedef struct {
    guint64 chunk; /* G_MAXUINT64: none */
    VrDigest digest;
} VrSumsRecord;

void vr_sums_append(GByteArray *records, guint64 chunk, const VrDigest *digest);
/** The overlay of @manifest, durable. */
gboolean vr_sums_write(const char *path, VrManifest *manifest, GError **error);
/** @upper over @lower without its chunks from @end on, and @extra if neither has its chunk, to
 * @out, durable. */
gboolean vr_sums_merge(const char *lower, const char *upper, const char *out, guint64 end,
                       const VrSumsRecord *extra, GError **error);
/** Chunks that are not zero. */
gboolean vr_sums_count(const char *path, guint64 *ret_data, GError **error);
/** DISK/<n>.bad, u64 LE chunks, ascending: those of @upper, and those of @lower that are below @end
 * and not in the digests @upper_sums. Missing files are empty; @out is made only if it has any,
 * durable. */
gboolean vr_bad_merge(const char *lower, const char *upper, const char *upper_sums, guint64 end,
                      const char *out, GError **error);

/* replica_merge_edge.c */

/** The chunk that file @lower, the layer of row @index, has got by the merge with the row above
 * though neither has its digest. */
gboolean vr_merge_edge(VrReplica *self, GPtrArray *rows, guint index, const char *disk,
                       const char *lower, VrSumsRecord *ret_edge, GError **error);

/** Record after record. */
typedef struct {
    FILE *file;    /* owned */
    char *path;    /* owned */
    guint64 chunk; /* G_MAXUINT64 behind the last record */
    VrDigest digest;
} VrSumsReader;
/** On the first record. @self is to be closed also after an error. */
gboolean vr_sums_reader_open(VrSumsReader *self, const char *path, GError **error);
gboolean vr_sums_reader_next(VrSumsReader *self, GError **error);
/** To the first record at or behind @chunk. */
gboolean vr_sums_reader_seek(VrSumsReader *self, guint64 chunk, GError **error);
/** Memory of zeros is fine. */
void vr_sums_reader_close(VrSumsReader *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrSumsReader, vr_sums_reader_close)

/** Into the overlay of @manifest; records beyond its end are skipped. */
gboolean vr_sums_load(const char *path, VrManifest *manifest, GError **error);

G_END_DECLS
