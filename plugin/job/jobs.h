/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/** SECTION: the kinds of jobs, one file each (job_*.c). Every step may be repeated after a restart.
 */

extern const VrJobKind vr_job_kinds[];
extern const guint vr_n_job_kinds;

extern const VrJobStepDef vr_job_protect_steps[];
extern const VrJobStepDef vr_job_sync_steps[];
extern const VrJobStepDef vr_job_unprotect_steps[];
extern const VrJobStepDef vr_job_failover_steps[];
extern const VrJobStepDef vr_job_activate_steps[];
extern const VrJobStepDef vr_job_verify_steps[];

/** args: peer, store, policy, exclude. */
gboolean vr_job_protect_run(VrJob *job, gpointer app, GError **error);
/** args: quiesce. */
gboolean vr_job_sync_run(VrJob *job, gpointer app, GError **error);
/** args: keep_replica, force. */
gboolean vr_job_unprotect_run(VrJob *job, gpointer app, GError **error);
/** args: number (0: the newest RP). On the target it reads, on the source it asks the target and
 * follows. Fails with "replica-damaged" if the RP is not what was proven. */
gboolean vr_job_verify_run(VrJob *job, gpointer app, GError **error);
/** args: force, no_verify. On the source it does the work, on the target it asks the source and
 * follows. */
gboolean vr_job_failover_run(VrJob *job, gpointer app, GError **error);

/** The target's half of a planned failover. args: generation, number, root, autostart. */
gboolean vr_job_activate_run(VrJob *job, gpointer app, GError **error);

/** Takes the protection's guard for @job, waiting for a cycle under way. */
gboolean vr_job_take_guard(VrJob *job, VrApp *app, GError **error);

/** vr_exclusive_begin() for @job; vr_exclusive_end() ends it. Cancelling ends the wait of a job
 * that begins; one that goes on after a restart must get to where it can be taken back. */
gboolean vr_job_take_exclusive(VrJob *job, VrApp *app, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Removes what this host, the source, holds for a protection: jobs, checkpoints, bitmaps, scratch,
 * manifests. A domain that is gone is fine. */
gboolean vr_source_leave(VrApp *app, const char *uuid, GError **error);

G_END_DECLS
