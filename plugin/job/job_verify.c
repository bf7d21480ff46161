/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/job/jobs.h"
#include "plugin/job/remote_job.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "policies/units.h"
#include "storage/json_util.h"
#include "storage/replica_verify.h"
#include "storage/state_rp.h"

/*
 * Reads the layers of a recovery point back, on the host that stores them; on the source this job
 * asks the target for one and follows it. No guard is taken: cycles go on. Layers that were found
 * good since the job began are not read again after a restart.
 */
const VrJobStepDef vr_job_verify_steps[] = {{"read"}, {NULL}};

static guint64
wanted_number(VrJob *job)
{
    return (guint64) json_object_get_int_member_with_default(vr_job_args(job), "number", 0);
}

/* --- where the replica is --- */

static gboolean
pace(gsize bytes, gpointer data, GError **error)
{
    VrJob *job = data;
    VrCopyProgress *progress = vr_job_progress(job);

    __atomic_add_fetch(&progress->read, bytes, __ATOMIC_RELAXED);
    __atomic_add_fetch(&progress->done, bytes, __ATOMIC_RELAXED);
    if (!g_cancellable_is_cancelled(vr_job_cancellable(job)))
        return TRUE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                 "domain '%s': the reading of its replica was cancelled", vr_job_domain(job));
    return FALSE;
}

static VrRecoveryPoint *
find_point(VrReplica *replica, guint64 number, GError **error)
{
    g_autoptr(GPtrArray) points = vr_replica_list(replica, error);

    if (points == NULL)
        return NULL;
    for (guint i = points->len; i > 0; i--) {
        VrRecoveryPoint *rp = points->pdata[i - 1];

        if (number == 0 || rp->number == number)
            return g_ptr_array_steal_index(points, i - 1);
    }
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-rp", "See 'virt-replica rp-list'.",
                 number == 0 ? "there is no recovery point yet"
                             : "there is no recovery point %" G_GUINT64_FORMAT,
                 number);
    return NULL;
}

/* An upper bound of what is to be read, for the progress. */
static guint64
bytes_up_to(VrReplica *replica, guint64 number)
{
    g_autoptr(GPtrArray) points = vr_replica_list(replica, NULL);
    guint64 sum = 0;

    for (guint i = 0; points != NULL && i < points->len; i++) {
        const VrRecoveryPoint *rp = points->pdata[i];

        if (rp->number <= number)
            sum += rp->bytes;
    }
    return sum;
}

static void
set_result(VrJob *job, const VrRecoveryPoint *rp, const VrVerifyResult *found)
{
    g_autofree char *verified = rp->verified_us ? vr_time_format(rp->verified_us) : NULL;

    vr_job_result_int(job, "rp", (gint64) rp->number);
    vr_job_result_int(job, "layers", found->layers);
    vr_job_result_int(job, "layers_read", found->layers_read);
    vr_job_result_int(job, "layers_bad", found->layers_bad);
    vr_job_result_int(job, "layers_unreadable", found->layers_unreadable);
    vr_job_result_int(job, "bytes_compared", (gint64) found->bytes);
    vr_job_result_int(job, "bad_chunks", (gint64) found->bad_chunks);
    vr_job_result_int(job, "unreadable_chunks", (gint64) found->unreadable_chunks);
    vr_job_result_int(job, "damaged_chunks", (gint64) rp->damaged_chunks);
    if (rp->damaged_disk != NULL)
        vr_job_result_string(job, "damaged_disk", rp->damaged_disk);
    if (verified != NULL)
        vr_job_result_string(job, "verified", verified);
    if (found->problem[0] != '\0')
        vr_job_result_string(job, "problem", found->problem);
    vr_job_save(job);
}

/* Layers of older RPs that the RP does not show may be bad without harm to it. */
static gboolean
judge(VrJob *job, VrReplica *replica, guint64 number, const VrVerifyResult *found, GError **error)
{
    g_autoptr(VrRecoveryPoint) rp = find_point(replica, number, error);

    if (rp == NULL)
        return FALSE;
    set_result(job, rp, found);
    return vr_replica_check_chain(replica, number, error) &&
           vr_replica_require_sound(replica, number, error);
}

static gboolean
read_replica(VrJob *job, VrReplica *replica, gint64 good_since_us, GError **error)
{
    g_autoptr(VrRecoveryPoint) rp = find_point(replica, wanted_number(job), error);
    VrVerifyResult found;

    if (rp == NULL)
        return FALSE;
    __atomic_store_n(&vr_job_progress(job)->total, bytes_up_to(replica, rp->number),
                     __ATOMIC_RELAXED);
    return vr_replica_verify(replica, rp->number, good_since_us, pace, job, vr_job_cancellable(job),
                             &found, error) &&
           judge(job, replica, rp->number, &found, error);
}

/* Without "recent" everything is read that was not since this job was asked for. */
static gint64
good_since(VrJob *job)
{
    const char *asked = vr_job_result_get(job, "good_since_us");
    g_autofree char *text = NULL;

    if (asked != NULL)
        return g_ascii_strtoll(asked, NULL, 10);
    text = g_strdup_printf("%" G_GINT64_FORMAT,
                           json_object_get_int_member_with_default(
                               vr_job_args(job), "good_since_us", g_get_real_time()));
    vr_job_result_string(job, "good_since_us", text);
    vr_job_save(job);
    return g_ascii_strtoll(text, NULL, 10);
}

static gboolean
run_target(VrJob *job, VrApp *app, GError **error)
{
    VrReplica *replica = vr_replicas_get(app->replicas, vr_job_uuid(job), error);
    gboolean ok;

    if (replica == NULL)
        return FALSE;
    ok = read_replica(job, replica, good_since(job), error);
    if (vr_replica_merges_left_out(replica))
        vr_replicas_retain(app->replicas, vr_job_uuid(job));
    vr_replicas_put(app->replicas, replica);
    return ok;
}

/* --- where it is not --- */

static const char *const taken_numbers[] = {"rp",
                                            "layers",
                                            "layers_read",
                                            "layers_bad",
                                            "layers_unreadable",
                                            "bytes_compared",
                                            "bad_chunks",
                                            "unreadable_chunks",
                                            "damaged_chunks"};
static const char *const taken_texts[] = {"damaged_disk", "verified", "problem"};

static void
take_result(VrJob *job, JsonObject *result)
{
    for (guint i = 0; i < G_N_ELEMENTS(taken_numbers); i++) {
        guint64 number;

        if (vr_json_uint(result, taken_numbers[i], G_MAXINT64, &number, NULL))
            vr_job_result_int(job, taken_numbers[i], (gint64) number);
    }
    for (guint i = 0; i < G_N_ELEMENTS(taken_texts); i++) {
        const char *text = vr_json_text_in(result, taken_texts[i], NULL);

        if (text != NULL && g_utf8_strlen(text, -1) < 512)
            vr_job_result_string(job, taken_texts[i], text);
    }
    vr_job_save(job);
}

/* What was found of the newest RP is shown here as well, until a cycle has mended it. */
static void
note_damage(VrApp *app, const VrProtection *row, JsonObject *result)
{
    const char *disk = vr_json_text_in(result, "damaged_disk", NULL);
    VrReplicaDamage damage = {.disk = (char *) disk};
    g_autoptr(GError) error = NULL;

    if (!vr_json_uint(result, "rp", G_MAXINT64, &damage.number, NULL) ||
        damage.number != row->base_number)
        return;
    (void) vr_json_uint(result, "damaged_chunks", G_MAXINT64, &damage.chunks, NULL);
    if (!vr_state_damage_set(app->state, row->uuid, vr_disk_name_valid(disk) ? &damage : NULL,
                             &error))
        g_warning("domain '%s': %s", row->name, error->message);
}

static gboolean
run_source(VrJob *job, VrApp *app, const VrProtection *row, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, row->peer, error);
    g_autoptr(JsonNode) request = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(JsonNode) started = NULL;
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *result;
    gint64 id;
    gboolean ok;

    if (peer == NULL)
        return FALSE;
    json_node_set_object(request, vr_job_args(job));
    started =
        vr_peer_client_action(peer, row->uuid, "verify", request, vr_job_cancellable(job), error);
    id = started != NULL ? vr_remote_job_id(started, peer, error) : 0;
    if (id == 0)
        return FALSE;
    ok = vr_remote_job_follow(job, peer, id, vr_remote_job_show_progress, "verify-cancel", &answer,
                              error);
    result = answer != NULL ? vr_json_object_in(json_node_get_object(answer), "result") : NULL;
    if (result != NULL) {
        take_result(job, result);
        note_damage(app, row, result);
    }
    return ok;
}

gboolean
vr_job_verify_run(VrJob *job, gpointer data, GError **error)
{
    VrApp *app = data;
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, vr_job_uuid(job), error);

    if (row == NULL)
        return FALSE;
    vr_job_step(job, "read");
    return row->role == VR_ROLE_TARGET ? run_target(job, app, error)
                                       : run_source(job, app, row, error);
}
