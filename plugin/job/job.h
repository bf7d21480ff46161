/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>

#include "policies/step.h"
#include "storage/wire/copy.h"
#include "storage/state/state_job.h"

G_BEGIN_DECLS

/**
 * SECTION: jobs: long operations with named steps, each in its own thread, recorded in the
 * database.
 *
 * A job survives a restart of the daemon: its row stays unfinished and vr_jobs_resume() runs it
 * again, so every step of every kind must be safe to repeat. One job a protection at a time, but
 * that a job may wait for a child of its own.
 */
typedef struct _VrJobs VrJobs;
typedef struct _VrJob VrJob;

/** Blocks in the job's thread until done. @app: what vr_jobs_new() got. */
typedef gboolean (*VrJobRun)(VrJob *job, gpointer app, GError **error);

/** Part of a step in a table; @context: of vr_job_run_steps(). */
typedef gboolean (*VrJobStepFunc)(gpointer context, GError **error);

typedef enum {
    VR_JOB_STEP_NO_RETURN = 1, /* once it has succeeded nothing is undone any more */
    VR_JOB_STEP_LOOKS = 2,     /* what it saw may be old after a restart: it is run again */
} VrJobStepFlags;

typedef struct {
    const char *name; /* as shown; static */
    VrJobStepFunc run;
    VrJobStepFunc undo; /* nullable: nothing to take back */
    guint flags;        /* VrJobStepFlags */
    guint fault;        /* VR_JOB_FAULT() of the point behind it; 0: none */
} VrJobStepDef;

#define VR_JOB_FAULT(step) ((guint) (step) + 1)

typedef enum {
    /* It only looks: it is cancelled for one that must not wait, and, if a peer ordered it, for
     * whatever this host wants. */
    VR_JOB_KIND_YIELDS = 1,
    VR_JOB_KIND_URGENT = 2, /* it does not wait for one that yields */
} VrJobKindFlags;

typedef struct {
    const char *name;          /* "protect"; static */
    const VrJobStepDef *steps; /* ends with a NULL name; static */
    VrJobRun run;
    guint flags; /* VrJobKindFlags */
} VrJobKind;

/** @kinds: (array length=n_kinds): static. @state: borrowed, outlives the registry. */
VrJobs *vr_jobs_new(VrState *state, const VrJobKind *kinds, guint n_kinds, gpointer app);

/** Cancels every job and joins the threads; unfinished rows stay, to be resumed. */
void vr_jobs_stop(VrJobs *self);
void vr_jobs_free(VrJobs *self);

/** Unfinished jobs of the last run of the daemon go on. */
gboolean vr_jobs_resume(VrJobs *self, GError **error);

/**
 * vr_jobs_start:
 * @uuid: the protection it works on
 * @args: (transfer full) (nullable)
 * @ret_id: the job's number
 *
 * One that yields to it is cancelled and awaited, some seconds at most. Errors: CONFLICT
 * "job-running" naming the job that holds the protection.
 */
gboolean vr_jobs_start(VrJobs *self, const char *kind, const char *uuid, const char *domain,
                       JsonObject *args, gint64 *ret_id, GError **error);

/** The same for a job that @parent waits for, which may hold the protection; 0: none. */
gboolean vr_jobs_start_child(VrJobs *self, gint64 parent, const char *kind, const char *uuid,
                             const char *domain, JsonObject *args, gint64 *ret_id, GError **error);

/** The job as the API shows it. NOT_FOUND "no-such-job". (transfer full) */
JsonNode *vr_jobs_get(VrJobs *self, gint64 id, GError **error);
/** Array, newest first. @uuid nullable. (transfer full) */
JsonNode *vr_jobs_list(VrJobs *self, const char *uuid, gboolean all, GError **error);
/** Number of the running job of a protection that has no parent, also of one of before that is not
 * resumed yet; 0 if none. */
gint64 vr_jobs_running(VrJobs *self, const char *uuid);
typedef struct {
    GError *error;          /* owned: what it waits for; NULL: it does not wait */
    const char *kind;       /* static: of the job */
    guint attempts;         /* that failed; 0: not counted */
    gint64 next_attempt_us; /* wall; 0: not known */
} VrJobWait;
void vr_job_wait_clear(VrJobWait *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrJobWait, vr_job_wait_clear)

/** What the running job of the protection waits for. */
void vr_jobs_get_wait(VrJobs *self, const char *uuid, VrJobWait *ret_wait);
/** FALSE with CONFLICT "job-running", naming it, if a job other than @parent (0: any) holds the
 * protection: one that runs, or one of before that is not resumed yet. @kind: (nullable): not for
 * one that yields to that. */
gboolean vr_jobs_check_free(VrJobs *self, gint64 parent, const char *kind, const char *uuid,
                            const char *domain, GError **error);
/** Number of the job of that kind that has not ended, also one of before that is not resumed yet; 0
 * if there is none, -1 if that cannot be read. */
gint64 vr_jobs_find(VrJobs *self, const char *uuid, const char *kind);
guint vr_jobs_count(VrJobs *self);
/** Blocks until the job has ended or @seconds passed; an unknown or ended one returns at once. */
void vr_jobs_wait(VrJobs *self, gint64 id, double seconds);
/** Durable, unless the database cannot be written for one that runs: one that is not resumed yet,
 * or goes on after a restart, is cancelled then. REFUSED "job-ended" if it has ended. */
gboolean vr_jobs_cancel(VrJobs *self, gint64 id, GError **error);

/* For the job's own thread. */

/** Fingerprint of the peer that ordered it, NULL: somebody of this host. */
const char *vr_job_origin(const VrJob *job);
const char *vr_job_uuid(VrJob *job);
const char *vr_job_domain(VrJob *job);
gint64 vr_job_id(VrJob *job);
JsonObject *vr_job_args(VrJob *job);
/**
 * vr_job_run_steps:
 *
 * Runs the steps of the job's kind in order: those that an earlier run of the daemon completed are
 * skipped, unless they only look; the one it was in is run again. After an error that one and all
 * before are undone, backwards, unless one without return succeeded; also if that needs another
 * start of the daemon. When the daemon is stopping nothing is undone, the next start goes on, also
 * behind the step without return. An undo that fails is warned about, unless the daemon is
 * stopping: then it is repeated.
 */
gboolean vr_job_run_steps(VrJob *job, gpointer context, GError **error);

/** TRUE if an earlier run of the daemon began it. */
gboolean vr_job_resumed(VrJob *job);
GCancellable *vr_job_cancellable(VrJob *job);
VrCopyProgress *vr_job_progress(VrJob *job);
/**
 * vr_job_undoing:
 * @cause: why the job fails
 *
 * From here on the job only takes back what it did, also when it is run again after a restart: then
 * vr_job_undo_cause() tells why. Durable, unless the database cannot be written.
 */
void vr_job_undoing(VrJob *job, const GError *cause);
/** NULL if no earlier run began to undo. (transfer full) */
GError *vr_job_undo_cause(VrJob *job);
/** TRUE if an earlier run began to undo, or this one has. */
gboolean vr_job_is_undoing(VrJob *job);
/** All is undone: the job ends with its error, also when the daemon is stopping. */
void vr_job_undone(VrJob *job);
/** TRUE when the daemon is stopping: leave things so that the job can be run again. */
gboolean vr_job_stopping(VrJob *job);
/** Ends the step before and begins @name, durably. A name that is none of the kind's does nothing.
 */
void vr_job_step(VrJob *job, const char *name);
/** Of the step under way, NULL: none; static. */
const char *vr_job_running_step(VrJob *job);
/** "waiting" (with the reason as the job's error) and back to "running". */
void vr_job_waiting(VrJob *job, const GError *reason);
/** The same, for people: how many attempts have failed and when the next one is, wall time. */
void vr_job_waiting_retry(VrJob *job, const GError *reason, guint attempts, gint64 next_us);
/** A key of the job's result. Durable with the next step, or with vr_job_save(). */
void vr_job_result_string(VrJob *job, const char *key, const char *value);
void vr_job_result_double(VrJob *job, const char *key, double value);
void vr_job_result_int(VrJob *job, const char *key, gint64 value);
/** Records the job as it is now. */
void vr_job_save(VrJob *job);
/** NULL if not set. */
const char *vr_job_result_get(VrJob *job, const char *key);

G_END_DECLS
