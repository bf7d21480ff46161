/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>

#include "storage/replica/layer.h"
#include "storage/replica/layer_gate.h"
#include "storage/replica/manifest.h"
#include "storage/replica/range_gate.h"
#include "storage/replica/replica.h"
#include "storage/state/state_rp.h"

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
    gboolean alone;       /* none though the RP before has the disk: see replica_lost.c */
    VrLayer *layer;       /* owned */
    VrManifest *manifest; /* owned */
    VrRangeGate writing;  /* chunks that bodies are being written to */
    GMutex doubt_lock;    /* guards the next one */
    GArray *doubts;       /* owned; VrChunkRange: where layer and overlay may disagree */
} VrIncomingDisk;

typedef struct {
    guint64 first, end;
} VrChunkRange;

typedef struct {
    VrCycleBegin *begin; /* owned */
    guint64 number;      /* of the RP it becomes */
    GPtrArray *disks;    /* owned; VrIncomingDisk */
    gint unproven;       /* atomic; layer and overlay may disagree anywhere */
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
    VrIncoming *open;    /* owned, nullable; changes under lock and io (write) */
    gint open_disks;     /* atomic; of it */
    char *given_back;    /* owned, nullable; the cycle that was, like the next */
    GError *no_room;     /* owned; why */
    guint64 room_needed; /* for the next one; 0: no more than usual */
    char *rested;        /* owned, nullable; the cycle that was closed while all of it was proven */
    gint interrupted;    /* atomic; nothing long is to be begun */
    GMutex damage_lock;  /* guards the next two */
    GHashTable *damage;  /* owned, nullable: not computed since the last change */
    guint damage_serial;
    gboolean clock_known; /* this and the next three: of the thread that applies retention */
    gint64 pass_wall_us;
    gint64 pass_boot_us;
    guint redo_failures; /* passes of retention, one after the other */
    gint left_out;       /* atomic; a merge that was due gave way to a reader */
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
/** Smallest size that disk @name of row @index has had since the row before; 0: its layer has no
 * backing file, since the disk was not there or was lost there. Noted in the row as "floor" where
 * the sizes of the two rows do not say it. */
guint64 vr_replica_row_disk_floor(GPtrArray *rows, guint index, const char *name);
/** Last of @rows (element-type VrRpRow) or NULL; borrowed. */
const VrRpRow *vr_replica_last_row(GPtrArray *rows);
VrRecoveryPoint *vr_replica_copy_rp(const VrRecoveryPoint *rp);
/** What a file takes of its file system, in bytes; 0 if there is none. */
guint64 vr_replica_allocated_file(const char *path);
/** Bytes that the layer of RP @number and what lies beside it take of the store, what is empty in
 * it included: rp.bytes is the sum over its disks. */
guint64 vr_replica_allocated(VrReplica *self, guint64 number, const char *disk);

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

/** It has a list of bad chunks, which nobody has compared now. */
gboolean vr_replica_put_listed_bad(VrReplica *self, guint64 number, const char *disk,
                                   GError **error);
/** Records what was found of layer @number of @disk, or of an attachment of that RP, now. */
gboolean vr_replica_put_check(VrReplica *self, guint64 number, const char *disk, VrLayerState state,
                              GError **error);
/** Not there, or cannot be read: @check is nullable. */
gboolean vr_replica_is_unreadable(const VrLayerCheck *check);
/** What is known to be bad or lost is sent again by the next cycle; one that is open ends if that
 * is news. Repeatable. Caller holds lock and io (write), or is alone. */
gboolean vr_replica_note_damage(VrReplica *self, GError **error);
/** The same for who holds neither. */
gboolean vr_replica_take_note(VrReplica *self, GError **error);
/** Layers with a list of bad chunks are recorded as bad, whoever wrote the list. */
gboolean vr_replica_know_lists(VrReplica *self, GError **error);

/* replica_lost.c */

/** Of RPs that there are, neither index nor layers: its file system is not mounted, and nothing is
 * to be made in its place. */
gboolean vr_replica_store_is_there(VrReplica *self, GPtrArray *rows);
/** The same with the words for it: CORRUPT "replica-missing". */
gboolean vr_replica_require_store(VrReplica *self, GPtrArray *rows, GError **error);

/** The newest RP's disk is lost: its next layer stands alone. @head: nullable. */
gboolean vr_replica_is_lost(VrReplica *self, const VrRpRow *head, const char *disk);
/** Of the newest RP: which disks are lost, by @checks. If that has
 * changed, the open cycle is dropped. Caller holds lock and io (write), or is alone. */
gboolean vr_replica_note_lost(VrReplica *self, GPtrArray *rows, GPtrArray *checks, GError **error);
/** What was lost before @head is not any more. */
void vr_replica_forget_lost(VrReplica *self, const VrRpRow *head);

/* replica_look.c */

/** Is @path a file, of @size bytes unless @any_size? CORRUPT naming it. */
gboolean vr_replica_check_file(const char *path, guint64 size, gboolean any_size, GError **error);
/** Header, size and place in the chain of the layer of row @index, and that its digests are there.
 * CORRUPT naming the file. */
gboolean vr_replica_check_layer(VrReplica *self, GPtrArray *rows, guint index, const char *disk,
                                GError **error);

/* replica_attachments.c */

/** Are the attachments and the domain XML of @row there, with @read what their digests say? Records
 * what it finds. @ret_bad: how many are not. @ret_changed: set if that is news. */
gboolean vr_replica_look_at_attachments(VrReplica *self, const VrRpRow *row, GPtrArray *checks,
                                        gboolean read, guint *ret_bad, gboolean *ret_changed,
                                        GError **error);
/** Content of that digest was stored anew: recovery points whose own is bad or gone get it. */
void vr_replica_mend_attachment(VrReplica *self, const char *sha256);
/** As far as existence and size tell. CORRUPT naming the file. */
gboolean vr_replica_check_attachments(VrReplica *self, const VrRpRow *row, GError **error);

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
/** What was to be written to chunks [@first, @end) may have come to the layer and not to the
 * overlay. Any thread. */
void vr_incoming_doubt(VrIncoming *self, VrIncomingDisk *disk, guint64 first, guint64 end);
/** Layer and overlay agree, as far as anybody knows. */
gboolean vr_incoming_is_proven(VrIncoming *self);
/** After this layer and overlay agree: what cannot be proven is as in the head again. CONFLICT
 * "replica-closing" if it was interrupted. */
gboolean vr_incoming_prove(VrReplica *replica, VrIncoming *self, GError **error);
guint64 vr_incoming_held(VrIncoming *self);

/* replica_recover.c: caller holds lock and io (write). */

/** Refuses to go on above layers that are not there, and notes which are lost. Errors: see
 * vr_replica_begin(). */
gboolean vr_replica_check_layers(VrReplica *self, GPtrArray *rows, GError **error);
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

/* replica_cycle.c: @open becomes the open cycle, the one before is closed; NULL: none is open.
 * Caller holds lock and io (write), or is alone. */
void vr_replica_set_open(VrReplica *self, VrIncoming *open);

/* replica_cycle.c: forgets the open cycle and what is in incoming/; overlays are emptied by the
 * next one that begins anew. Caller holds lock and io (write). */
gboolean vr_replica_drop_incoming(VrReplica *self, GError **error);
/** TRANSIENT "cycle-unknown", or why the cycle was given back. Caller holds lock or io (read). */
void vr_replica_set_not_open(VrReplica *self, const char *cycle, GError **error);

/* replica_retain.c: merges that began and were not finished. Caller is inside layers and holds
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
