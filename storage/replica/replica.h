/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/policy.h"
#include "storage/wire/cycle.h"
#include "storage/wire/frame.h"
#include "storage/state/state.h"

G_BEGIN_DECLS

/**
 * SECTION: the replica of one protection in a qcow2 store: target steps T1 to T8.
 *
 * Layout in STORE/<uuid>/ (design.md section 4): manifest.json, rp/<n>/…, <disk>/<n>.qcow2,
 * <disk>/<n>.sums, incoming/<cycle>/. Paths are made from our uuid, checked disk names and integers
 * only. All calls block and may come from any thread; one cycle is open at a time, a lock inside
 * serialises everything but vr_replica_write(), which several threads may call at once for the open
 * cycle.
 */
typedef struct _VrReplica VrReplica;

/**
 * vr_replica_open:
 * @state: borrowed, outlives the replica
 * @manifest_dir: where the head manifests of this protection are kept; created
 *
 * Recovers: finishes a commit whose transaction is in the database (manifest apply, manifest.json),
 * removes layers without a row, keeps one incoming cycle for resumption. A merge that began is
 * finished by vr_replica_retain(); every RP is whole without that.
 */
VrReplica *vr_replica_open(VrState *state, const char *store_path, const char *uuid,
                           const char *manifest_dir, GError **error);
void vr_replica_close(VrReplica *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrReplica, vr_replica_close)

/**
 * vr_replica_begin: (T1)
 * @ret_held: chunks already held from an earlier attempt on the same base (0: none); the sender
 * fetches them with vr_replica_held() and treats them as acknowledged
 *
 * base must equal the head. Repeating with the same cycle id is harmless. An older open cycle is
 * closed and, if base, disk names and sizes agree, its data adopted; data from before a restart of
 * ours, and what a body that failed may have changed, is first read back and compared with its
 * digests, what does not match is dropped. Errors:
 * REFUSED "base-mismatch", REFUSED "cycle-committed" (same id already committed), NO_SPACE,
 * INVALID, CORRUPT "replica-missing" (the store is not mounted), TRANSIENT "replica-damaged" (a
 * layer of the head turned out to be gone: ask for the head and begin again).
 */
gboolean vr_replica_begin(VrReplica *self, const VrCycleBegin *begin, guint64 *ret_held,
                          GError **error);

/** Records of 24 bytes (u64 LE chunk, digest) of chunks held in the open cycle, from record @first
 * on, at most @max. */
GBytes *vr_replica_held(VrReplica *self, const char *cycle, const char *disk, guint64 first,
                        guint max, GError **error);

/** @cycle met NO_SPACE: what it wrote is removed, so that others have that room; whoever still
 * sends to it is told @why. The next one begins from nothing and, if the store was full, not before
 * there is more room than it had. Nothing if it is not open. */
void vr_replica_give_back(VrReplica *self, const char *cycle, const GError *why);

/** The same for the head: non-zero chunks of the newest RP from chunk @from on; for a source that
 * lost its manifest. */
GBytes *vr_replica_head_sums(VrReplica *self, const char *disk, guint64 from, guint max,
                             GError **error);

/** NO_SPACE "store-full" if its store has no room for @bytes more, see store_room.h. */
gboolean vr_replica_has_room(VrReplica *self, guint64 bytes, GError **error);

/** (T2) One body of frames. All or error; frames before a bad one may be stored, which is harmless.
 * Errors: INVALID, CORRUPT, NO_SPACE, TRANSIENT ("cycle-unknown": it is not open, begin again;
 * "no-memory"). */
gboolean vr_replica_write(VrReplica *self, const char *cycle, const guint8 *body, gsize len,
                          GError **error);

/** Content of an attachment (vr_attachment_kind_name()), at most 512 MiB, named by its
 * digest; stored once. */
gboolean vr_replica_has_attachment(VrReplica *self, const char *sha256);
gboolean vr_replica_put_attachment(VrReplica *self, const char *cycle, const char *sha256, int fd,
                                   GError **error);
/** Directory in the store for temporary files of the open cycle @cycle. (transfer full) Errors:
 * TRANSIENT "cycle-unknown" (it is not open). */
char *vr_replica_cycle_dir(VrReplica *self, const char *cycle, GError **error);

/**
 * vr_replica_commit: (T3 .. T7)
 *
 * Repeating after success gives the same answer. Errors: CORRUPT "root-differs" (cycle dropped,
 * nothing listed), TRANSIENT "cycle-unknown" (it is not open: begin again), NO_SPACE.
 */
VrRecoveryPoint *vr_replica_commit(VrReplica *self, const VrCycleCommit *commit, GError **error);

/** How many disks the open cycle has: some six descriptors and mappings each. */
guint vr_replica_open_disks(VrReplica *self);
/** Closes the files of the open cycle; what was received stays. The next BEGIN or COMMIT of it
 * opens them again; until then bodies are refused with "cycle-unknown". */
void vr_replica_rest(VrReplica *self);

/** It is about to be closed: a BEGIN or COMMIT that reads back what is there ends soon, with
 * CONFLICT "replica-closing", and so does each one from here on. Any thread. */
void vr_replica_interrupt(VrReplica *self);

/** What the files of the open cycle take, in bytes; 0 if none is open. */
guint64 vr_replica_incoming_bytes(VrReplica *self);

typedef enum { VR_CYCLE_UNKNOWN, VR_CYCLE_OPEN, VR_CYCLE_COMMITTED } VrCycleStatus;
/** @ret_rp: (nullable): the RP when committed. */
VrCycleStatus vr_replica_cycle_status(VrReplica *self, const char *cycle, VrRecoveryPoint **ret_rp);

/** @ret_disks: names of the disks of a cycle that is open, NULL-terminated; NULL if it is
 * committed. (transfer full) Errors: TRANSIENT "cycle-unknown" (it is neither). */
gboolean vr_replica_cycle_disks(VrReplica *self, const char *cycle, char ***ret_disks,
                                GError **error);

/** Newest RP or NULL (none yet). (transfer full) */
VrRecoveryPoint *vr_replica_head(VrReplica *self, GError **error);
/** FALSE with CORRUPT "replica-missing" if nothing of what it must have is in its directory: the
 * store's file system is not mounted. */
gboolean vr_replica_check_there(VrReplica *self, GError **error);
/** Oldest first; (element-type VrRecoveryPoint) (transfer full) */
GPtrArray *vr_replica_list(VrReplica *self, GError **error);

/** Layers that a disk may have: retention drops what is more. */
#define VR_REPLICA_LAYERS_MAX 128u

/** How far a pass of retention has come; zeros: it begins. */
typedef struct {
    gboolean more;          /* it is not over */
    gboolean dropping;      /* what had begun before has been finished */
    gboolean failed;        /* or some of it could not be */
    guint64 after;          /* the RP that was looked at last */
    VrRetentionClock clock; /* once dropping */
} VrRetainPass;

/**
 * vr_replica_retain: (T8)
 * @pass: of the caller, for all calls of the pass; the pass goes on, after an error as well, if it
 *   says so then
 *
 * Drops what @policy no longer keeps, at most one merge a call; safe to kill at any point. A merge
 * gives way to whoever wants the layers and is done again by a later pass. Never keeps an open
 * cycle waiting for long. Runs in the background thread of the caller.
 */
gboolean vr_replica_retain(VrReplica *self, const VrPolicy *policy, gint64 now_us,
                           VrRetainPass *pass, GCancellable *cancel, GError **error);

/** manifest.json says what the database says; written only if it did not. For those who change the
 * row of the protection: settings, generation, state, kept until. The replica does the same for all
 * that it changes itself. */
gboolean vr_replica_refresh_index(VrReplica *self, GError **error);

/** TRUE once after a merge that was due gave way to somebody who reads or holds layers: retention
 * is due again. Any thread. */
gboolean vr_replica_merges_left_out(VrReplica *self);

/** RP @number is in use (test, running replica): from the return on no merge touches its layers or
 * any below them; one that was at work there has been ended. Durable. */
gboolean vr_replica_hold(VrReplica *self, guint64 number, const char *reason, GError **error);
gboolean vr_replica_release(VrReplica *self, guint64 number, const char *reason, GError **error);

typedef struct {
    char *name; /* owned */
    char *path; /* owned; the RP's layer, qcow2, read-only */
    guint64 size_bytes;
} VrReplicaDisk;
/** Disks of an RP, headers of the whole chain checked. (element-type VrReplicaDisk) (transfer full)
 */
GPtrArray *vr_replica_disks(VrReplica *self, guint64 number, GError **error);

/** Domain XML as sent with RP @number. (transfer full) */
char *vr_replica_domain_xml(VrReplica *self, guint64 number, GError **error);
/** Path of the attachment of RP @number, or NULL. (transfer full) */
char *vr_replica_attachment(VrReplica *self, guint64 number, const char *name);

/** Content of that attachment to the new file @to, mode 0600, durable but for its directory; it is
 * compared with its digest on the way. Errors: NOT_FOUND "no-such-rp", "no-such-attachment";
 * CORRUPT "replica-damaged"; files'. */
gboolean vr_replica_copy_attachment(VrReplica *self, guint64 number, const char *name,
                                    const char *to, GError **error);

/** New qcow2 overlay at @path on the RP's layer (qemu-img create with explicit formats), so that it
 * can boot and nothing writes the layer. It stays readable while the caller holds the RP. */
gboolean vr_replica_make_overlay(VrReplica *self, guint64 number, const char *disk,
                                 const char *path, GError **error);

/** Deletes everything of the protection in the store and its rows of RPs. The handle stays valid,
 * empty. */
gboolean vr_replica_destroy(VrReplica *self, GError **error);

G_END_DECLS
