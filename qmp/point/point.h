/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/extent.h"
#include "qmp/conn.h"
#include "storage/wire/cycle.h"
#include "storage/wire/source.h"

G_BEGIN_DECLS

/**
 * SECTION: a frozen view of a domain's disks, all at one instant.
 *
 * The calls follow the steps of a cycle, so that the engine can journal and fault between them:
 *
 *   vr_point_new        names chosen, nothing touched; journal vr_point_journal() durably now
 *   vr_point_prepare    S2   scratch made, refusals
 *   vr_point_freeze     S3   optional
 *   vr_point_begin      S4   backup job + checkpoint in one call (offline: bitmaps, readers)
 *   vr_point_thaw       S5
 *   vr_point_connect    S6   sizes and candidates
 *   ... read through vr_point_disk()->source, one reader a thread, all closed ...
 *   vr_point_release    S8   scratch synced, no handle open
 *   vr_point_end        S9   job gone
 *   ... COMMIT, record, vr_checkpoint_delete(old) ...
 *   vr_point_cleanup    S13  scratch and socket removed
 *
 * Anything going wrong: vr_point_abort(). thaw, release, end, cleanup and abort may be called in
 * any state and repeatedly. One worker thread uses a point from prepare to end (qemu-nbd dies with
 * it), except where noted.
 */
typedef struct _VrPoint VrPoint;

typedef enum {
    VR_POINT_BACKUP,  /* domain running or paused: libvirt pull backup */
    VR_POINT_OFFLINE, /* domain shut off: its images through qemu-nbd */
} VrPointKind;

/** Free on the file system of a domain's images, for the scratch files of a point, at least. */
#define VR_POINT_SCRATCH_LEAST (G_GUINT64_CONSTANT(320) << 20)

typedef struct {
    const char *target; /* "vda" */
    const char *base;   /* (nullable): checkpoint since when changes are wanted; NULL: all of it */
} VrPointDiskWanted;

typedef struct {
    VrPointKind kind;
    const char *uuid;
    const VrPointDiskWanted *disks;
    guint n_disks;
    const char *checkpoint;  /* new one, vr_checkpoint_new_name(); NULL (offline only): none */
    const char *runtime_dir; /* our own 0700 directory, for the offline sockets */
    const char *scratch_dir; /* (nullable): NULL: beside each image */
    guint64 scratch_limit;   /* bytes over all disks; 0: only @scratch_reserve limits */
    guint64 scratch_reserve; /* bytes that stay free on the file system; 0: 256 MiB */
} VrPointWanted;

/**
 * vr_point_new:
 * @wanted: copied
 * @cycle: (nullable): cancelled by us when the point cannot go on (scratch limit, guest paused by
 * an I/O error, domain starting); vr_point_failure() then says why
 *
 * Errors: NOT_FOUND (domain, disk), TRANSIENT "domain-not-running", "domain-running" (it has
 * changed its state since @wanted was made), REFUSED "disk-raw", "disk-iothread",
 * "disk-not-supported".
 */
VrPoint *vr_point_new(VrConn *conn, const VrPointWanted *wanted, GCancellable *cycle,
                      GError **error);

/** Ends what is open as vr_point_abort() does, but leaves the new checkpoint alone. */
void vr_point_free(VrPoint *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPoint, vr_point_free)

/** One line of JSON for vr_point_recover(); complete from vr_point_new() on. (transfer none) */
const char *vr_point_journal(const VrPoint *self);

/** Errors: CONFLICT "backup-job-running" naming the job, "domain-busy", TRANSIENT "domain-changing"
 * (the domain has stopped), NO_SPACE "scratch-no-space", RESYNC_NEEDED "tracking-lost" (a base
 * cannot be used: ask again with base NULL for every disk). */
gboolean vr_point_prepare(VrPoint *self, GError **error);

/** On failure the guest is not frozen, and the caller may go on to a crash-consistent point.
 * Offline: nothing to do. */
gboolean vr_point_freeze(VrPoint *self, guint deadline_ms, GError **error);

/** Errors: RESYNC_NEEDED and TRANSIENT as for prepare, CONFLICT. On failure the guest is thawed,
 * and job, readers, new checkpoint and files are gone as by vr_point_abort() (call that to be
 * sure). */
gboolean vr_point_begin(VrPoint *self, GError **error);

/** Thaws, waits. Never fails: what went wrong shows in vr_point_consistency(). */
void vr_point_thaw(VrPoint *self);

/** APP if the guest was frozen from before to after begin. A shut-off domain is APP as well, if
 *  libvirt says that the guest shut itself down. Valid after thaw. */
VrConsistency vr_point_consistency(const VrPoint *self);

gboolean vr_point_connect(VrPoint *self, GError **error);

typedef struct {
    const char *target;
    const char *path;            /* of the image, on this host */
    guint64 size_bytes;          /* virtual */
    gboolean incremental;        /* candidates are what changed since the base */
    VrSource *source;            /* borrowed from the point */
    const VrExtents *candidates; /* borrowed; not yet aligned to chunks */
} VrPointDisk;

guint vr_point_n_disks(const VrPoint *self);
/** Valid from connect to free; in the order wanted. */
const VrPointDisk *vr_point_disk(const VrPoint *self, guint i);

/** Waits for the readers to be closed (60 s at most), syncs scratch. An error here means that what
 * was read cannot be trusted. Errors: that of vr_point_failure() first; INTERNAL, NO_SPACE. */
gboolean vr_point_release(VrPoint *self, GError **error);

/** Ends the job and waits until it is gone. "Gone already" is an error the first time (somebody
 * ended our job, CONFLICT "backup-job-lost"): what was read after that is not trusted. */
gboolean vr_point_end(VrPoint *self, GError **error);

/** Removes scratch files and socket. Failures are logged only: the next sweep takes them. */
void vr_point_cleanup(VrPoint *self);

/** Thaw, close, end, delete the new checkpoint, cleanup; as far as it goes. FALSE if something is
 * left: keep the journal and call vr_point_recover() later. */
gboolean vr_point_abort(VrPoint *self, GError **error);

/** Why we cancelled the cycle: TRUE with @error set; FALSE if we did not. Any thread. */
gboolean vr_point_failure(VrPoint *self, GError **error);

/** The domain wants to start: readers of its images end now (offline); reads fail from here on.
 *  Any thread, does not block. Nothing for a backup point. */
void vr_point_give_way(VrPoint *self);

/**
 * vr_point_recover:
 * @journal: vr_point_journal() of a process that died
 * @keep_checkpoint: TRUE once the target has committed: it is the new base
 *
 * Thaws, ends the job if it is that one, deletes the checkpoint unless kept, removes files. Never
 * touches anybody else's job. A domain that is gone is success. Repeatable. Errors: TRANSIENT,
 * CONFLICT: call again.
 */
gboolean vr_point_recover(VrConn *conn, const char *journal, gboolean keep_checkpoint,
                          GError **error);

/** Without a journal: ends a backup job with a socket of ours, removes stray scratch and sockets of
 * this domain. For start-up, unprotect and after a lost database. Checkpoints:
 * vr_checkpoint_sweep(). */
gboolean vr_point_sweep(VrConn *conn, const char *uuid, const char *scratch_dir, GError **error);

G_END_DECLS
