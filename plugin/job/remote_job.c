/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/remote_job.h"

#include <string.h>

#include "policies/error.h"
#include "storage/wire/error_json.h"
#include "storage/util/json_util.h"

#define STATE_MAX 32
#define ASK_AGAIN_US (G_TIME_SPAN_MILLISECOND * 300)

gint64
vr_remote_job_id(JsonNode *answer, const VrPeerClient *peer, GError **error)
{
    JsonObject *object = vr_json_as_object(answer);
    guint64 id = 0;

    if (object != NULL && vr_json_uint(object, "job", G_MAXINT64, &id, NULL) && id > 0)
        return (gint64) id;
    vr_set_error(error, VR_ERROR_INTERNAL, "bad-message", "Use the same version on both hosts.",
                 "peer '%s' did not name its job", vr_peer_client_name(peer));
    return 0;
}

gboolean
vr_remote_job_show_progress(VrJob *job, JsonObject *object, GError **error)
{
    VrCopyProgress *progress = vr_job_progress(job);
    double fraction;
    guint64 read, total;

    if (!vr_json_double_opt(object, "progress", 0, &fraction, error) ||
        !vr_json_uint_opt(object, "bytes_read", G_MAXINT64, 0, &read, error) ||
        !vr_json_uint_opt(object, "bytes_total", G_MAXINT64, read, &total, error))
        return FALSE;
    __atomic_store_n(&progress->total, total, __ATOMIC_RELAXED);
    __atomic_store_n(&progress->done, (guint64) (CLAMP(fraction, 0, 1) * (double) total),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&progress->read, read, __ATOMIC_RELAXED);
    return TRUE;
}

/* TRUE when it has ended, or the peer does not say what it does; @error set unless it completed. */
static gboolean
has_ended(JsonObject *object, const VrPeerClient *peer, GError **error)
{
    const char *name = vr_peer_client_name(peer);
    g_autofree char *shown = g_strdup_printf("peer '%s'", name);
    JsonObject *cause, *result;
    const char *state = vr_json_string(object, "state", STATE_MAX, error);

    if (state == NULL || !vr_json_object_opt(object, "error", &cause, error) ||
        !vr_json_object_opt(object, "result", &result, error))
        return TRUE;
    if (strcmp(state, "completed") == 0)
        return TRUE;
    if (strcmp(state, "failed") != 0 && strcmp(state, "cancelled") != 0)
        return FALSE;
    g_propagate_error(error, cause != NULL
                                 ? vr_error_from_peer(cause, name, shown)
                                 : vr_error_new(VR_ERROR_INTERNAL, "bad-message", NULL,
                                                "the job failed on the peer without an error"));
    return TRUE;
}

/* Nobody waits for it any more. After a stop of the daemon this job asks for it again. */
static void
give_up(VrJob *job, VrPeerClient *peer, gint64 id, const char *action)
{
    g_autoptr(JsonNode) request = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GError) error = NULL;
    JsonObject *object = json_object_new();

    json_object_set_int_member(object, "job", id);
    json_node_take_object(request, object);
    answer = vr_peer_client_action(peer, vr_job_uuid(job), action, request, NULL, &error);
    if (answer == NULL)
        g_message("domain '%s': job %" G_GINT64_FORMAT " of peer '%s' goes on: %s",
                  vr_job_domain(job), id, vr_peer_client_name(peer), error->message);
}

gboolean
vr_remote_job_follow(VrJob *job, VrPeerClient *peer, gint64 id, VrRemoteJobLook look,
                     const char *cancel_action, JsonNode **ret_answer, GError **error)
{
    GCancellable *cancel = vr_job_cancellable(job);

    for (;;) {
        g_autoptr(GError) local = NULL;
        g_autoptr(JsonNode) node = vr_peer_client_job(peer, id, cancel, &local);
        JsonObject *object = vr_json_as_object(node);

        if (object != NULL && (!look(job, object, &local) || has_ended(object, peer, &local))) {
            *ret_answer = g_steal_pointer(&node);
            if (local == NULL)
                return TRUE;
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        if (g_cancellable_is_cancelled(cancel)) {
            if (cancel_action != NULL)
                give_up(job, peer, id, cancel_action);
            vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                         "domain '%s': what host '%s' does for it is not awaited any more",
                         vr_job_domain(job), vr_peer_client_name(peer));
            return FALSE;
        }
        if (local != NULL && !vr_error_is_transient(local)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        g_usleep(ASK_AGAIN_US);
    }
}
