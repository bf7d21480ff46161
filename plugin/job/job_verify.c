/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/cycle/cycle_base.h"
#include "plugin/job/jobs.h"
#include "plugin/job/remote_job.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "policies/units.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_verify.h"
#include "storage/state/state_rp.h"

/*
 * Reads the layers of a recovery point back, on the host that stores them; on the source this job
 * asks the target for one and follows it. No guard is taken: cycles go on. Layers that were found
 * good since the job began are not read again after a restart.
 */
static guint64
wanted_number(VrJob *job)
{
    return (guint64) json_object_get_int_member_with_default(vr_job_args(job), "number", 0);
}

/* --- where the replica is --- */

typedef struct {
    VrJob *job;
    VrPeerReading *reading; /* NULL: somebody of this host wants it, it may be as fast as it can */
    VrReplicas *replicas;
    VrReplica *replica; /* what is read */
} Pace;

static gboolean
say_cancelled(VrJob *job, GError **error)
{
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                 "domain '%s': the reading of its replica was cancelled", vr_job_domain(job));
    return FALSE;
}

static gboolean
pace(gsize bytes, gpointer data, GError **error)
{
    const Pace *self = data;
    GCancellable *cancel = vr_job_cancellable(self->job);
    VrCopyProgress *progress = vr_job_progress(self->job);

    __atomic_add_fetch(&progress->read, bytes, __ATOMIC_RELAXED);
    __atomic_add_fetch(&progress->done, bytes, __ATOMIC_RELAXED);
    if ((self->reading == NULL || vr_peer_reading_take(self->reading, bytes, cancel)) &&
        !g_cancellable_is_cancelled(cancel) &&
        !vr_replicas_is_closing(self->replicas, self->replica))
        return TRUE;
    return say_cancelled(self->job, error);
}

static VrRecoveryPoint *
find_point(VrJob *job, VrReplica *replica, guint64 number, GError **error)
{
    g_autoptr(GPtrArray) points = vr_replica_list(replica, error);

    if (points == NULL)
        return NULL;
    for (guint i = points->len; i > 0; i--) {
        VrRecoveryPoint *rp = points->pdata[i - 1];

        if (number == 0 || rp->number == number)
            return g_ptr_array_steal_index(points, i - 1);
    }
    if (number == 0)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-rp", "Run sync first.",
                     "domain '%s' has no recovery point yet", vr_job_domain(job));
    else
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-rp", "See 'virt-replica rp-list'.",
                     "domain '%s' has no recovery point %" G_GUINT64_FORMAT, vr_job_domain(job),
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
    vr_job_result_int(job, "attachments_bad", found->attachments_bad);
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
    g_autoptr(VrRecoveryPoint) rp = find_point(job, replica, number, error);
    g_autoptr(VrRecoveryPoint) head = NULL;
    g_autoptr(GError) local = NULL;

    if (rp == NULL)
        return FALSE;
    set_result(job, rp, found);
    if (vr_replica_check_chain(replica, number, &local) &&
        vr_replica_require_sound(replica, number, &local))
        return TRUE;
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_CORRUPT)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                   "domain '%s': ", vr_job_domain(job));
        return FALSE;
    }
    /* a file that is missing or cut, a header: the same for whoever asked */
    head = vr_replica_head(replica, NULL);
    vr_set_error(error, VR_ERROR_REFUSED, "replica-damaged",
                 head != NULL && head->number == number
                     ? "Run sync on the source: what is damaged is sent again. Then try again."
                     : "Choose another recovery point: see rp-list.",
                 "domain '%s': recovery point %" G_GUINT64_FORMAT " is damaged: %s",
                 vr_job_domain(job), number, local->message);
    return FALSE;
}

static gboolean
read_replica(VrJob *job, VrReplica *replica, gint64 good_since_us, Pace *paced, GError **error)
{
    g_autoptr(VrRecoveryPoint) rp = find_point(job, replica, wanted_number(job), error);
    VrVerifyResult found;

    if (rp == NULL)
        return FALSE;
    __atomic_store_n(&vr_job_progress(job)->total, bytes_up_to(replica, rp->number),
                     __ATOMIC_RELAXED);
    return vr_replica_verify(replica, rp->number, good_since_us, pace, paced,
                             vr_job_cancellable(job), &found, error) &&
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
run_target(VrJob *job, VrApp *app, Pace *paced, GError **error)
{
    VrReplica *replica = vr_replicas_get(app->replicas, vr_job_uuid(job), error);
    gboolean ok;

    if (replica == NULL)
        return FALSE;
    paced->replica = replica;
    ok = read_replica(job, replica, good_since(job), paced, error);
    vr_replicas_put(app->replicas, replica);
    return ok;
}

/* On a peer's word one after the other, at the rate of the background reading. */
static gboolean
run_target_for(VrJob *job, VrApp *app, const char *peer, GError **error)
{
    gboolean proof = json_object_has_member(vr_job_args(job), "good_since_us");
    Pace paced = {job, peer ? app->reading : NULL, app->replicas, NULL};
    gboolean ok;

    if (peer == NULL)
        return run_target(job, app, &paced, error);
    if (!vr_peer_reading_begin(app->reading, peer, vr_job_cancellable(job)))
        return say_cancelled(job, error);
    if (proof && vr_peer_reading_may_hurry(app->reading, vr_job_uuid(job)))
        paced.reading = NULL;
    ok = run_target(job, app, &paced, error);
    vr_peer_reading_end(app->reading, peer);
    return ok;
}

/* --- where it is not --- */

#define TEXT_MAX 2048

static const char *const taken_numbers[] = {"rp",
                                            "layers",
                                            "layers_read",
                                            "layers_bad",
                                            "layers_unreadable",
                                            "attachments_bad",
                                            "bytes_compared",
                                            "bad_chunks",
                                            "unreadable_chunks",
                                            "damaged_chunks"};
static const char *const taken_texts[] = {"damaged_disk", "verified", "problem"};

static gboolean
take_result(VrJob *job, JsonObject *result, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(taken_numbers); i++) {
        guint64 number;

        if (!vr_json_uint_opt(result, taken_numbers[i], G_MAXINT64, G_MAXUINT64, &number, error))
            return FALSE;
        if (number != G_MAXUINT64)
            vr_job_result_int(job, taken_numbers[i], (gint64) number);
    }
    for (guint i = 0; i < G_N_ELEMENTS(taken_texts); i++) {
        const char *text;

        if (!vr_json_string_opt(result, taken_texts[i], TEXT_MAX, &text, error))
            return FALSE;
        if (text != NULL)
            vr_job_result_string(job, taken_texts[i], text);
    }
    vr_job_save(job);
    return TRUE;
}

static gboolean
is_wanted(VrJob *job, const VrPeerClient *peer, JsonObject *result, GError **error)
{
    guint64 read;

    if (!vr_json_uint_opt(result, "rp", G_MAXINT64, 0, &read, error))
        return FALSE;
    if (wanted_number(job) == 0 || read == wanted_number(job))
        return TRUE;
    vr_set_error(error, VR_ERROR_INTERNAL, "bad-message", "Run verify again.",
                 "domain '%s': host '%s' has read recovery point %" G_GUINT64_FORMAT
                 ", not %" G_GUINT64_FORMAT,
                 vr_job_domain(job), vr_peer_client_name(peer), read, wanted_number(job));
    return FALSE;
}

/* What was read may be below the newest RP too; what that means for it is shown here as well, until
 * a cycle has mended it. */
static void
note_damage(VrApp *app, VrPeerClient *peer, const VrProtection *row)
{
    g_autoptr(VrRecoveryPoint) head = NULL;
    g_autoptr(GError) error = NULL;

    if (!vr_peer_client_head(peer, row->uuid, &head, NULL, &error) ||
        (head != NULL && !vr_cycle_note_damage(app, row, head, &error)))
        g_warning("domain '%s': what was found of its newest recovery point is not known here: %s",
                  row->name, error->message);
}

static gboolean
run_source(VrJob *job, VrApp *app, const VrProtection *row, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, row->peer, error);
    g_autoptr(JsonNode) request = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(JsonNode) started = NULL;
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GError) wrong = NULL;
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
    if (result == NULL)
        return ok;
    if (take_result(job, result, &wrong) && is_wanted(job, peer, result, &wrong)) {
        note_damage(app, peer, row);
        return ok;
    }
    if (ok)
        g_propagate_error(error, g_steal_pointer(&wrong));
    return FALSE;
}

typedef struct {
    VrJob *job;
    VrApp *app;
} Verify;

static gboolean
step_read(gpointer data, GError **error)
{
    const Verify *self = data;
    VrJob *job = self->job;
    g_autoptr(VrProtection) row =
        vr_state_protection_get(self->app->state, vr_job_uuid(job), error);

    if (row == NULL)
        return FALSE;
    return row->role == VR_ROLE_TARGET ? run_target_for(job, self->app, vr_job_origin(job), error)
                                       : run_source(job, self->app, row, error);
}

const VrJobStepDef vr_job_verify_steps[] = {{"read", step_read}, {NULL}};

gboolean
vr_job_verify_run(VrJob *job, gpointer app, GError **error)
{
    Verify self = {job, app};

    return vr_job_run_steps(job, &self, error);
}
