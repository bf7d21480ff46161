/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"

G_BEGIN_DECLS

/**
 * vr_remote_job_follow:
 * @job: ours; shows the progress of the other one, and cancelled ends the other one too
 * @id: of a job of kind "verify" at @peer
 * @ret_answer: (transfer full): the other job as it ended
 *
 * Waits for its end in the job's thread; a peer that cannot be reached for a while is asked again.
 * TRUE if it completed. Errors: those of the other job; CANCELLED; those of the peer that repeating
 * does not mend. @ret_answer is set after an error of the other job as well.
 */
gboolean vr_remote_job_follow(VrJob *job, VrPeerClient *peer, gint64 id, JsonNode **ret_answer,
                              GError **error);

/** {"job": N} of an answer of @peer; 0 with @error. */
gint64 vr_remote_job_id(JsonNode *answer, const VrPeerClient *peer, GError **error);

G_END_DECLS
