/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/** Shows in @job how the other one, @theirs as its host answers, is getting on. Errors: INVALID
 * "bad-message". */
typedef gboolean (*VrRemoteJobLook)(VrJob *job, JsonObject *theirs, GError **error);

/**
 * vr_remote_job_follow:
 * @job: ours
 * @id: of the job at @peer
 * @cancel_action: (nullable): what the peer is asked for when @job is cancelled, with {"job": @id};
 *   NULL: the other job goes on
 * @ret_answer: (transfer full): the other job as it ended; also after an error of it
 *
 * Waits for its end in the job's thread; a peer that cannot be reached for a while is asked again.
 * TRUE if it completed. Errors: those of the other job (vr_error_from_peer()); CANCELLED: ours is;
 * those of the peer that repeating does not mend, among them INVALID "bad-message".
 */
gboolean vr_remote_job_follow(VrJob *job, VrPeerClient *peer, gint64 id, VrRemoteJobLook look,
                              const char *cancel_action, JsonNode **ret_answer, GError **error);

/** A look for jobs that read or send: progress and bytes read. */
gboolean vr_remote_job_show_progress(VrJob *job, JsonObject *theirs, GError **error);

/** {"job": N} of an answer of @peer; 0 with @error. */
gint64 vr_remote_job_id(JsonNode *answer, const VrPeerClient *peer, GError **error);

G_END_DECLS
