/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/prove.h"

#include "plugin/cycle/cycle_base.h"
#include "plugin/job/remote_job.h"
#include "policies/error.h"
#include "storage/util/json_util.h"

#define TIME_MAX 64

static JsonNode *
ask(VrJob *job, VrPeerClient *peer, gboolean verify, GError **error)
{
    g_autoptr(JsonNode) request = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *object = json_object_new();
    const char *verified;

    json_object_set_boolean_member(object, "verify", verify);
    json_node_take_object(request, object);
    answer = vr_peer_client_action(peer, vr_job_uuid(job), "prove", request,
                                   vr_job_cancellable(job), error);
    if (answer == NULL)
        return NULL;
    if (!vr_json_string_opt(json_node_get_object(answer), "verified", TIME_MAX, &verified, error))
        return NULL;
    if (verified != NULL)
        vr_job_result_string(job, "verified", verified);
    return g_steal_pointer(&answer);
}

/* What the target found is shown here, and mended by the next cycle. */
static void
note_damage(VrJob *job, VrApp *app, const VrProtection *row, VrPeerClient *peer)
{
    g_autoptr(VrRecoveryPoint) head = NULL;
    g_autoptr(GError) error = NULL;

    if (!vr_peer_client_head(peer, row->uuid, &head, vr_job_cancellable(job), &error) ||
        (head != NULL && !vr_cycle_note_damage(app, row, head, &error)))
        g_debug("domain '%s': %s", row->name, error->message);
}

/* Reading may have made the replica damaged, and cycles may have added to it meanwhile: what they
 * sent is looked at, but not read. */
static gboolean
prove(VrJob *job, VrPeerClient *peer, gboolean verify, GError **error)
{
    g_autoptr(JsonNode) answer = ask(job, peer, verify, error);
    g_autoptr(JsonNode) read = NULL;
    g_autoptr(JsonNode) again = NULL;
    gint64 id;

    if (answer == NULL)
        return FALSE;
    if (!json_object_has_member(json_node_get_object(answer), "job"))
        return TRUE;
    id = vr_remote_job_id(answer, peer, error);
    if (id == 0 || !vr_remote_job_follow(job, peer, id, vr_remote_job_show_progress,
                                         "verify-cancel", &read, error))
        return FALSE;
    again = ask(job, peer, FALSE, error);
    return again != NULL;
}

gboolean
vr_prove_replica(VrJob *job, VrApp *app, const VrProtection *row, gboolean verify, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, row->peer, error);
    gboolean ok = peer != NULL && prove(job, peer, verify, error);

    if (peer != NULL && !ok)
        note_damage(job, app, row, peer);
    return ok;
}
