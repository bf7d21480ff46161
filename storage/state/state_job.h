/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/state/state.h"

G_BEGIN_DECLS

/** SECTION: rows of jobs. */

typedef enum {
    VR_JOB_QUEUED,
    VR_JOB_RUNNING,
    VR_JOB_WAITING,
    VR_JOB_COMPLETED,
    VR_JOB_FAILED,
    VR_JOB_CANCELLED,
} VrJobState;
const char *vr_job_state_name(VrJobState state);

typedef struct {
    gint64 id;     /* 0: not inserted yet */
    gint64 parent; /* the job that waits for it, 0: none */
    char *origin;  /* fingerprint of the peer that ordered it, NULL: somebody of this host */
    char *kind;    /* "protect", "sync", "failover", ... */
    char *uuid;    /* protection, nullable */
    char *domain;  /* name, for people */
    VrJobState state;
    char *args;  /* JSON text, nullable */
    char *steps; /* JSON text [{"name","state","seconds"}] */
    guint64 bytes_read;
    guint64 bytes_sent;
    double progress;             /* 0..1 */
    gint64 started_us, ended_us; /* wall, 0: not yet */
    char *error;                 /* JSON text {"code","message","action"}, nullable */
    char *result;                /* JSON object with kind-specific keys, nullable */
} VrJobRow;

void vr_job_row_free(VrJobRow *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrJobRow, vr_job_row_free)

/** Sets row->id. */
gboolean vr_state_job_insert(VrState *self, VrJobRow *row, GError **error);
gboolean vr_state_job_update(VrState *self, const VrJobRow *row, GError **error);
VrJobRow *vr_state_job_get(VrState *self, gint64 id, GError **error); /* NOT_FOUND "no-such-job" */
/** @uuid nullable: all; @active_only: not ended. Newest first, at most @max of this host's own and
 * as many that peers ordered. */
GPtrArray *vr_state_job_list(VrState *self, const char *uuid, gboolean active_only, guint max,
                             GError **error);
/** The newest one of @uuid of either kind, or NULL, also if that cannot be read. */
VrJobRow *vr_state_job_last(VrState *self, const char *uuid, const char *kind,
                            const char *other_kind);
/** Keeps the newest @keep ended ones of this host's own, and the newest @keep_of_peer that each
 * peer ordered. */
gboolean vr_state_job_prune(VrState *self, guint keep, guint keep_of_peer, GError **error);

G_END_DECLS
