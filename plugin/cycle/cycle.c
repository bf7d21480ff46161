/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/cycle.h"

#include <string.h>

#include "plugin/cycle/attachments.h"
#include "plugin/cycle/cycle_base.h"
#include "plugin/cycle/cycle_message.h"
#include "plugin/cycle/cycle_run.h"
#include "plugin/cycle/protection_push.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "qmp/point/checkpoint.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/state/state_rp.h"

/*
 * One attempt. What the guest's side holds (backup job, checkpoint, scratch, freeze) is in `point`
 * and, for a crash, in `journal`; until the COMMIT may have reached the target an error undoes it
 * all, afterwards vr_cycle_recover() asks the target what became of it.
 */
typedef struct {
    VrApp *app;
    const VrCycleWanted *wanted;
    VrCopyProgress *progress;
    GCancellable *cancel;    /* owned: the caller's, or the point's own reasons */
    VrProtection *row;       /* owned */
    VrPolicy *policy;        /* owned */
    VrPeerClient *peer;      /* borrowed */
    VrCyclePlan *plan;       /* owned */
    char *cycle;             /* owned */
    GPtrArray *manifests;    /* owned */
    VrPoint *point;          /* owned */
    VrCycleJournal *journal; /* owned */
    char *old_checkpoint;    /* owned, nullable */
    char *root;              /* owned: of what was read here */
    gboolean
        was_unsure; /* the digests are read from the target in this cycle, ours were wrong before */
    char *not_frozen;          /* owned, nullable: why the guest could not be frozen */
    gint64 point_us;           /* wall: what the RP is told to show */
    gint64 point_monotonic_us; /* the same instant */
} Run;

static GMutex points_lock;
static GHashTable *open_points; /* uuid (borrowed from the run) -> VrPoint */

static void
register_point(const char *uuid, VrPoint *point)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&points_lock);

    if (open_points == NULL)
        open_points = g_hash_table_new(g_str_hash, g_str_equal);
    if (point != NULL)
        g_hash_table_insert(open_points, (gpointer) uuid, point);
    else
        g_hash_table_remove(open_points, uuid);
}

void
vr_cycle_give_way(const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&points_lock);
    VrPoint *point = open_points ? g_hash_table_lookup(open_points, uuid) : NULL;

    if (point != NULL)
        vr_point_give_way(point);
}

static void
cancel_along(GCancellable *outer G_GNUC_UNUSED, gpointer inner)
{
    g_cancellable_cancel(inner);
}

static void
drop_point(Run *run)
{
    if (run->point == NULL)
        return;
    register_point(run->row->uuid, NULL);
    g_clear_pointer(&run->point, vr_point_free);
}

static void
run_clear(Run *run)
{
    drop_point(run);
    g_clear_pointer(&run->manifests, g_ptr_array_unref);
    g_clear_pointer(&run->plan, vr_cycle_plan_free);
    g_clear_pointer(&run->policy, vr_policy_free);
    g_clear_pointer(&run->journal, vr_cycle_journal_free);
    g_clear_pointer(&run->row, vr_protection_free);
    g_clear_object(&run->cancel);
    g_clear_pointer(&run->cycle, g_free);
    g_clear_pointer(&run->old_checkpoint, g_free);
    g_clear_pointer(&run->root, g_free);
    g_clear_pointer(&run->not_frozen, g_free);
}

/* Disks the base does not have start from nothing, on both ends. */
static gboolean
prepare_manifests(Run *run, GError **error)
{
    run->manifests = vr_cycle_manifests_open(run->app, run->row->uuid, run->plan->disks, error);
    if (run->manifests == NULL)
        return FALSE;
    for (guint i = 0; i < run->manifests->len; i++) {
        const VrPlanDisk *disk = g_ptr_array_index(run->plan->disks, i);
        VrManifest *manifest = g_ptr_array_index(run->manifests, i);

        if (!(disk->fresh ? vr_manifest_reset(manifest, error)
                          : vr_manifest_discard(manifest, error)))
            return FALSE;
    }
    return TRUE;
}

/* S1, second half: BEGIN, and what an earlier attempt left there counts as sent. */
static gboolean
begin_at_target(Run *run, GError **error)
{
    g_autoptr(VrCycleBegin) begin = vr_cycle_begin_message(run->cycle, run->plan, run->row, error);
    guint64 held = 0;

    if (begin == NULL)
        return FALSE;
    if (!vr_peer_client_begin(run->peer, run->row->uuid, begin, &held, run->cancel, error)) {
        g_prefix_error(error, "domain '%s': ", run->row->name);
        return FALSE;
    }
    for (guint i = 0; held > 0 && i < run->manifests->len; i++) {
        const VrPlanDisk *disk = g_ptr_array_index(run->plan->disks, i);

        if (!vr_cycle_take_held(run->peer, run->row->uuid, run->cycle, disk->name,
                                g_ptr_array_index(run->manifests, i), run->cancel, error))
            return FALSE;
    }
    return TRUE;
}

/* The UUID is the key; the name is for people and follows the domain's. */
static gboolean
follow_rename(Run *run, GError **error)
{
    if (strcmp(run->plan->name, run->row->name) == 0)
        return TRUE;
    g_free(run->row->name);
    run->row->name = g_strdup(run->plan->name);
    return vr_state_protection_set_name(run->app->state, run->row->uuid, run->row->name, error);
}

static gboolean
step_plan(Run *run, GError **error)
{
    gboolean new_base = FALSE;

    run->plan = vr_cycle_plan_new(run->app, run->row, run->wanted->final, error);
    if (run->plan == NULL || !follow_rename(run, error) || !prepare_manifests(run, error) ||
        !vr_cycle_agree_on_base(run->app, run->peer, run->row, run->plan, run->manifests, &new_base,
                                run->cancel, error) ||
        !vr_protection_push(run->app, run->row, run->plan->xml, run->cancel, error))
        return FALSE;
    vr_cycle_log_kind(run->app->cycles, run->row->uuid, run->plan->kind);
    return begin_at_target(run, error) &&
           (!new_base || vr_state_protection_set_base(run->app->state, run->row, error)) &&
           vr_fault_point(VR_STEP_S1, error);
}

static guint64
scratch_limit(const Run *run)
{
    guint64 sum = 0;

    for (guint i = 0; i < run->plan->disks->len; i++)
        sum += ((VrPlanDisk *) g_ptr_array_index(run->plan->disks, i))->size_bytes;
    return MAX(sum / 100 * run->policy->scratch_limit_percent, G_GUINT64_CONSTANT(64) << 20);
}

static gboolean
new_point(Run *run, GError **error)
{
    g_autofree VrPointDiskWanted *disks = g_new0(VrPointDiskWanted, run->plan->disks->len);
    VrPointWanted wanted = {
        .kind = run->plan->point,
        .uuid = run->row->uuid,
        .disks = disks,
        .n_disks = run->plan->disks->len,
        .checkpoint = run->journal->checkpoint,
        .runtime_dir = run->app->config->runtime_dir,
        .scratch_limit = scratch_limit(run),
    };

    for (guint i = 0; i < run->plan->disks->len; i++) {
        const VrPlanDisk *disk = g_ptr_array_index(run->plan->disks, i);

        disks[i].target = disk->name;
        disks[i].base = disk->tracked ? run->row->checkpoint : NULL;
    }
    run->point = vr_point_new(run->app->conn, &wanted, run->cancel, error);
    if (run->point == NULL)
        return FALSE;
    register_point(run->row->uuid, run->point);
    return TRUE;
}

static gboolean
write_journal(Run *run, GError **error)
{
    g_free(run->journal->point);
    run->journal->point = g_strdup(vr_point_journal(run->point));
    return vr_state_cycle_put(run->app->state, run->journal, error);
}

/* Nothing is tracked: what the guest still has of ours is of a base before, and whoever forgot that
 * one may have come no further. */
static gboolean
drop_forgotten(Run *run, GError **error)
{
    return run->row->checkpoint != NULL ||
           vr_checkpoint_sweep(run->app->conn, run->row->uuid, NULL, NULL, error);
}

static gboolean
step_reserve(Run *run, GError **error)
{
    VrCycleJournal *journal;

    if (!drop_forgotten(run, error))
        return FALSE;
    journal = g_new0(VrCycleJournal, 1);
    run->journal = journal;
    journal->uuid = g_strdup(run->row->uuid);
    journal->cycle = g_strdup(run->cycle);
    journal->kind = run->plan->kind;
    journal->checkpoint = vr_checkpoint_new_name(run->row->uuid);
    journal->disks = vr_cycle_plan_disks_text(run->plan);
    return new_point(run, error) && write_journal(run, error) &&
           vr_point_prepare(run->point, error) && vr_fault_point(VR_STEP_S2, error);
}

/* A freeze that fails costs the consistency level, not the recovery point. */
static gboolean
step_freeze(Run *run, GError **error)
{
    g_autoptr(GError) refused = NULL;

    if (run->wanted->quiesce &&
        !vr_point_freeze(run->point, (guint) (run->policy->freeze_timeout_us / 1000), &refused)) {
        g_warning("domain '%s': the next recovery point is crash-consistent only: %s",
                  run->row->name, refused->message);
        g_free(run->not_frozen);
        run->not_frozen = g_strdup(refused->message);
    }
    return vr_fault_point(VR_STEP_S3, error);
}

static gboolean
step_begin(Run *run, GError **error)
{
    run->point_us = g_get_real_time();
    run->point_monotonic_us = g_get_monotonic_time();
    return vr_point_begin(run->point, error) && vr_fault_point(VR_STEP_S4, error);
}

static gboolean
step_thaw(Run *run, GError **error)
{
    vr_point_thaw(run->point);
    return vr_fault_point(VR_STEP_S5, error);
}

/* Everything that may differ from what the replica holds, in whole chunks. */
static VrExtents *
candidates(const VrPointDisk *disk, VrManifest *manifest)
{
    g_autoptr(VrExtents) aligned =
        vr_extents_align(disk->candidates, VR_CHUNK_SIZE, disk->size_bytes);
    g_autoptr(VrExtents) held =
        disk->incremental ? vr_manifest_overlay_extents(manifest) : vr_manifest_nonzero(manifest);

    return vr_extents_union(aligned, held);
}

static gboolean
sizes_as_planned(Run *run, GError **error)
{
    for (guint i = 0; i < vr_point_n_disks(run->point); i++) {
        const VrPlanDisk *plan = g_ptr_array_index(run->plan->disks, i);
        const VrPointDisk *disk = vr_point_disk(run->point, i);

        if (disk->size_bytes == plan->size_bytes)
            continue;
        vr_set_error(
            error, VR_ERROR_TRANSIENT, "disk-resized", "It is tried again with the new size.",
            "domain '%s': disk '%s' was resized while the cycle began", run->row->name, plan->name);
        return FALSE;
    }
    return TRUE;
}

static gboolean
copy_disks(Run *run, VrCopyDisk *disks, GError **error)
{
    guint n = vr_point_n_disks(run->point);
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    VrCopyOptions options = {
        .workers = run->app->config->workers,
        .compress = run->policy->compression == VR_COMPRESSION_ZSTD,
        .rate_bytes = vr_policy_bandwidth_at(run->policy, now),
    };
    VrSink *sink = vr_peer_sink_new(run->peer, run->row->uuid, run->cycle);
    gboolean ok = vr_copy_run(disks, n, sink, &options, run->progress, run->cancel, error);

    vr_peer_sink_free(sink);
    return ok;
}

static gboolean
step_copy(Run *run, GError **error)
{
    guint n = vr_point_n_disks(run->point);
    g_autofree VrCopyDisk *disks = g_new0(VrCopyDisk, n);
    gboolean ok;

    if (!vr_point_connect(run->point, error) || !sizes_as_planned(run, error) ||
        !vr_fault_point(VR_STEP_S6, error))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        const VrPointDisk *disk = vr_point_disk(run->point, i);

        disks[i].index = (guint16) i;
        disks[i].name = disk->target;
        disks[i].source = disk->source;
        disks[i].manifest = g_ptr_array_index(run->manifests, i);
        disks[i].candidates = candidates(disk, disks[i].manifest);
    }
    ok = copy_disks(run, disks, error);
    for (guint i = 0; i < n; i++)
        vr_extents_free(disks[i].candidates);
    return ok;
}

static gboolean
step_free_guest(Run *run, GError **error)
{
    return vr_point_release(run->point, error) && vr_fault_point(VR_STEP_S8, error) &&
           vr_point_end(run->point, error) && vr_fault_point(VR_STEP_S9, error);
}

/* Sends the attachments. */
static VrCycleCommit *
commit_message(Run *run, GError **error)
{
    g_autoptr(VrDomainModel) model =
        vr_domain_model_parse(run->plan->xml, strlen(run->plan->xml), error);
    GPtrArray *attachments;
    VrCycleCommit *commit;

    if (model == NULL)
        return NULL;
    attachments = vr_attachments_send(run->peer, run->row->uuid, run->row->base_cycle, run->cycle,
                                      model, run->cancel, error);
    if (attachments == NULL)
        return NULL;
    commit = vr_cycle_commit_message(run->cycle, run->plan, run->manifests, attachments,
                                     run->point_us, vr_point_consistency(run->point));
    run->root = g_strdup(commit->root);
    return commit;
}

static gboolean
flush_manifests(Run *run, GError **error)
{
    for (guint i = 0; i < run->manifests->len; i++) {
        if (!vr_manifest_flush(g_ptr_array_index(run->manifests, i), error))
            return FALSE;
    }
    return TRUE;
}

/* The target compares before it commits; that it says so is checked as well. From the moment the
 * journal says "sent" only the target knows how the cycle ends. */
static VrRecoveryPoint *
step_commit(Run *run, GError **error)
{
    g_autoptr(VrCycleCommit) commit = commit_message(run, error);
    g_autoptr(JsonNode) node = NULL;
    VrRecoveryPoint *rp;

    if (commit == NULL || !flush_manifests(run, error))
        return NULL;
    node = vr_cycle_commit_to_json(commit);
    run->journal->commit = vr_json_to_text(node);
    run->journal->sent = TRUE;
    if (!vr_state_cycle_put(run->app->state, run->journal, error)) {
        run->journal->sent = FALSE;
        return NULL;
    }
    rp = vr_peer_client_commit(run->peer, run->row->uuid, commit, run->cancel, error);
    if (rp != NULL &&
        (!vr_cycle_accept_rp(run->row, commit, rp, error) || !vr_fault_point(VR_STEP_S10, error)))
        g_clear_pointer(&rp, vr_recovery_point_free);
    return rp;
}

static gboolean
step_record(Run *run, const VrRecoveryPoint *rp, GError **error)
{
    run->old_checkpoint = g_strdup(run->row->checkpoint);
    if (!vr_cycle_record(run->app, run->row, run->journal, rp, error) ||
        !vr_cycle_manifests_apply(run->manifests, error) || !vr_fault_point(VR_STEP_S11, error))
        return FALSE;
    if (run->old_checkpoint != NULL &&
        !vr_checkpoint_delete(run->app->conn, run->row->uuid, run->old_checkpoint, error))
        return FALSE;
    if (!vr_fault_point(VR_STEP_S12, error))
        return FALSE;
    vr_point_cleanup(run->point);
    return vr_state_cycle_delete(run->app->state, run->row->uuid, error) &&
           vr_fault_point(VR_STEP_S13, error);
}

/* The bitmaps cannot be used: forget the checkpoint, compare everything. Durable, so that it stays
 * known; the checkpoint itself goes before the next point. */
static gboolean
tracking_lost(Run *run, GError **error)
{
    g_message("domain '%s': changes since RP %" G_GUINT64_FORMAT
              " are not tracked, everything is compared",
              run->row->name, run->row->base_number);
    g_clear_pointer(&run->row->checkpoint, g_free);
    if (!vr_state_protection_drop_checkpoint(run->app->state, run->row->uuid, error))
        return FALSE;
    if (run->row->state == VR_PROTECTION_PROTECTED)
        return vr_app_set_state(run->app, run->row->uuid, VR_EVENT_TRACKING_LOST, run->row, error);
    return TRUE;
}

static gboolean
enter_resync(Run *run, GError **error)
{
    if (run->row->state == VR_PROTECTION_RESYNC_NEEDED)
        return vr_app_set_state(run->app, run->row->uuid, VR_EVENT_RESYNC_STARTED, run->row, error);
    return TRUE;
}

static gboolean
leave_resync(Run *run, GError **error)
{
    if (run->row->state == VR_PROTECTION_RESYNC)
        return vr_app_set_state(run->app, run->row->uuid, VR_EVENT_RESYNC_DONE, run->row, error);
    if (run->row->state == VR_PROTECTION_INITIAL)
        return vr_app_set_state(run->app, run->row->uuid, VR_EVENT_INITIAL_DONE, run->row, error);
    return TRUE;
}

static gboolean
take_point(Run *run, GError **error)
{
    return step_plan(run, error) && step_reserve(run, error) && step_freeze(run, error) &&
           step_begin(run, error) && step_thaw(run, error);
}

/* Undoes the guest's side; the journal goes only when nothing is left. */
static gboolean
give_up_point(Run *run, GError **error)
{
    gboolean ok;

    if (run->point == NULL)
        return TRUE;
    ok = vr_point_abort(run->point, error) &&
         vr_state_cycle_delete(run->app->state, run->row->uuid, error);
    drop_point(run);
    g_clear_pointer(&run->journal, vr_cycle_journal_free);
    return ok;
}

/* A second point would take the place of the first one in the journal: not while that is needed. */
static gboolean
reset_for_retry(Run *run, GError **error)
{
    g_clear_pointer(&run->manifests, g_ptr_array_unref);
    g_clear_pointer(&run->plan, vr_cycle_plan_free);
    return give_up_point(run, error);
}

static gboolean
run_once(Run *run, VrRecoveryPoint **ret_rp, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!take_point(run, &local)) {
        if (!g_error_matches(local, VR_ERROR, VR_ERROR_RESYNC_NEEDED) ||
            run->row->checkpoint == NULL) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        if (!reset_for_retry(run, error) || !tracking_lost(run, error) || !take_point(run, error))
            return FALSE;
    }
    if (!enter_resync(run, error) || !step_copy(run, error) || !step_free_guest(run, error))
        return FALSE;
    *ret_rp = step_commit(run, error);
    return *ret_rp != NULL && step_record(run, *ret_rp, error) &&
           vr_cycle_note_damage(run->app, run->row, *ret_rp, error);
}

/* A point that cancelled the cycle by itself knows the cause better than "cancelled". */
static void
prefer_point_failure(Run *run, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (run->point == NULL || !vr_point_failure(run->point, &cause))
        return;
    g_clear_error(error);
    g_propagate_error(error, g_steal_pointer(&cause));
}

/* The next cycle reads the target's digests instead of ours, which mends it without an operator; if
 * they were read in this one, it does not. */
static void
distrust_manifests(Run *run, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (!g_error_matches(*error, VR_ERROR, VR_ERROR_CORRUPT) ||
        strcmp(vr_error_slug(*error), "root-differs") != 0)
        return;
    run->row->manifest_unsure = TRUE;
    if (!vr_state_protection_distrust_manifest(run->app->state, run->row->uuid, NULL) ||
        run->was_unsure)
        return;
    cause = g_steal_pointer(error);
    vr_set_error(error, VR_ERROR_TRANSIENT, "root-differs",
                 "Nothing to do: the next cycle compares everything with the target.", "%s",
                 cause->message);
}

static void
clean_up_failure(Run *run)
{
    g_autoptr(GError) error = NULL;

    vr_attachments_forget();
    if (run->journal == NULL || !run->journal->sent) {
        if (!give_up_point(run, &error))
            g_warning("domain '%s': the failed cycle is not cleaned up yet: %s, tried again before "
                      "the next one",
                      run->row->name, error->message);
    } else {
        if (run->point != NULL)
            vr_point_cleanup(run->point);
        drop_point(run);
        g_clear_pointer(&run->manifests, g_ptr_array_unref);
        if (!vr_cycle_recover(run->app, run->row->uuid, NULL, &error))
            g_message("domain '%s': %s; the next cycle asks again", run->row->name, error->message);
    }
    if (run->row->state == VR_PROTECTION_RESYNC)
        (void) vr_app_set_state(run->app, run->row->uuid, VR_EVENT_RESYNC_STOPPED, NULL, NULL);
}

static void
fill_done(const Run *run, const VrRecoveryPoint *rp, VrCycleDone *ret_done)
{
    if (ret_done == NULL)
        return;
    ret_done->number = rp->number;
    ret_done->point_us = run->point_monotonic_us;
    ret_done->consistency = rp->consistency;
    g_strlcpy(ret_done->root, run->root, sizeof ret_done->root);
    if (run->wanted->quiesce && rp->consistency != VR_CONSISTENCY_APP)
        g_strlcpy(ret_done->not_frozen,
                  run->not_frozen ? run->not_frozen : "the guest thawed before the point was taken",
                  sizeof ret_done->not_frozen);
    ret_done->changed_bytes = __atomic_load_n(&run->progress->changed, __ATOMIC_RELAXED);
    ret_done->domain_off = run->plan->point == VR_POINT_OFFLINE;
}

static gboolean
run_load(Run *run, const char *uuid, GError **error)
{
    run->row = vr_state_protection_get(run->app->state, uuid, error);
    if (run->row == NULL)
        return FALSE;
    run->was_unsure = run->row->manifest_unsure;
    run->policy = vr_policy_files_in_force(run->app->policies, run->row->policy, error);
    if (run->policy == NULL)
        return FALSE;
    run->peer = vr_peer_pool_get(run->app->peers, run->row->peer, error);
    return run->peer != NULL;
}

gboolean
vr_cycle_run(VrApp *app, const char *uuid, const VrCycleWanted *wanted, VrCopyProgress *progress,
             GCancellable *cancel, VrCycleDone *ret_done, GError **error)
{
    Run run = {.app = app, .wanted = wanted, .progress = progress};
    g_autoptr(VrRecoveryPoint) rp = NULL;
    g_autoptr(GError) local = NULL;
    gulong along;
    gboolean ok;

    if (!vr_cycle_recover(app, uuid, cancel, error))
        return FALSE;
    run.cancel = g_cancellable_new();
    run.cycle = vr_random_id();
    along = cancel ? g_cancellable_connect(cancel, G_CALLBACK(cancel_along), run.cancel, NULL) : 0;
    ok = run_load(&run, uuid, &local) && run_once(&run, &rp, &local) && leave_resync(&run, &local);
    if (ok) {
        fill_done(&run, rp, ret_done);
    } else if (run.row != NULL) {
        prefer_point_failure(&run, &local);
        distrust_manifests(&run, &local);
        clean_up_failure(&run);
    }
    if (along != 0)
        g_cancellable_disconnect(cancel, along);
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&local));
    run_clear(&run);
    return ok;
}
