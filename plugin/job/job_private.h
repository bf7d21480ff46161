/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/job/job.h"

G_BEGIN_DECLS

/** SECTION: one job, as its registry sees it. Lock order: that of VrJobs, then VrJob.lock, then the
 * database. */

typedef struct _VrJobStep VrJobStep;

struct _VrJob {
    gatomicrefcount refs;
    VrJobs *jobs;          /* borrowed: joins the thread before it goes */
    VrState *state;        /* borrowed */
    const VrJobKind *kind; /* static */
    GCancellable *cancel;  /* owned */
    GThread *thread;       /* owned by the registry, joined there */
    VrCopyProgress progress;
    gboolean resumed;
    JsonObject *args; /* owned; read-only once the thread runs */

    GMutex
        lock; /* guards what follows; held while the row is written, so that states stay in order */
    VrJobRow *row;    /* owned; its id, kind, uuid and domain never change */
    VrJobStep *steps; /* owned */
    guint n_steps;
    JsonObject *result; /* owned */
    gboolean ended;
    gboolean undone;
    gboolean begun; /* this run of the daemon has come to a step */
    VrJobWait wait; /* but for its error, which is the row's */
};

/** @row: (transfer full). One reference, for the caller. */
VrJob *vr_job_new(VrJobs *jobs, VrState *state, const VrJobKind *kind, VrJobRow *row,
                  gboolean resumed);
VrJob *vr_job_ref(VrJob *job);
void vr_job_unref(VrJob *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrJob, vr_job_unref)

/** How many steps, from the first on, were completed once; one that looks may be at it again. */
guint vr_job_steps_done(VrJob *job);

/** Records how it ended. @error: NULL if @ok. FALSE if the database does not take it: repeat it, or
 * the job runs again after a restart. */
gboolean vr_job_finish(VrJob *job, gboolean ok, const GError *error);

/** TRUE if the daemon's stop is what ended it, so that it goes on at the next start. */
gboolean vr_job_goes_on(VrJob *job, const GError *error);

/** The job as the API shows it: of a running one, and of a row. (transfer full) */
JsonNode *vr_job_live_json(VrJob *job);
JsonNode *vr_job_row_json(const VrJobRow *row);

G_END_DECLS
