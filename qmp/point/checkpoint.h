/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/conn.h"

G_BEGIN_DECLS

/**
 * SECTION: our checkpoints (libvirt) with their bitmaps (QEMU).
 *
 * Names are "virt-replica.<first 8 of the UUID>.<8 random hex>"; the bitmap has the same name. Only
 * names of this form for this domain are ever deleted. All functions block; worker threads.
 */
#define VR_CHECKPOINT_PREFIX "virt-replica."

/** (transfer full) */
char *vr_checkpoint_new_name(const char *uuid);
gboolean vr_checkpoint_is_ours(const char *name, const char *uuid);

/**
 * vr_checkpoint_xml:
 * @tracked: NULL-terminated targets that get a bitmap
 * @others: NULL-terminated targets listed as not tracked
 * @creation_time: seconds since 1970 for a redefinition, 0 for a new one
 */
char *vr_checkpoint_xml(const char *name, const char *const *tracked, const char *const *others,
                        gint64 creation_time);

/** Asks libvirt and QEMU whether the bitmaps of @name are there and recording. The domain must run.
 *  Errors: RESYNC_NEEDED "tracking-lost", also when there is no such checkpoint. */
gboolean vr_checkpoint_validate(VrConn *conn, const char *uuid, const char *name, GError **error);

/** Checkpoint and bitmaps, domain running or shut off. Not there is success; foreign: REFUSED. */
gboolean vr_checkpoint_delete(VrConn *conn, const char *uuid, const char *name, GError **error);

/** Ours of this domain, in creation order, NULL-terminated. (transfer full) */
char **vr_checkpoint_list(VrConn *conn, const char *uuid, GError **error);

/**
 * vr_checkpoint_sweep:
 * @keep: (nullable): this one stays
 *
 * Deletes all others of ours, and bitmaps of ours in the domain's images that no checkpoint names
 * (left by a crash). After sweep(NULL) the domain and its images hold nothing of ours; so call it
 * only when no point of this domain is open. @ret_deleted: (nullable).
 */
gboolean vr_checkpoint_sweep(VrConn *conn, const char *uuid, const char *keep, guint *ret_deleted,
                             GError **error);

/**
 * vr_checkpoint_create_offline:
 * @tracked: NULL-terminated targets, qcow2 v3 files
 *
 * For a shut-off domain: adds an enabled persistent bitmap to each image and the checkpoint to
 * libvirt, so that everything written from the next start on is recorded. All or nothing.
 * Works as well on images that were just defined (a replica before its first boot).
 */
gboolean vr_checkpoint_create_offline(VrConn *conn, const char *uuid, const char *name,
                                      const char *const *tracked, GError **error);

G_END_DECLS
