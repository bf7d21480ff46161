/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/cycle/protection_push.h"
#include "plugin/exclusive.h"
#include "plugin/job/failover.h"
#include "plugin/job/jobs.h"
#include "plugin/ownership.h"
#include "plugin/peer/peer_replica.h"
#include "plugin/target/boot.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "policies/units.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/checkpoint.h"
#include "storage/util/json_util.h"

/*
 * Three ways with the same steps: asked for on the source, forced there, and on the target, where a
 * replica goes whose source is not in charge any more. Nothing is undone: one that fails leaves the
 * protection disabling, and the next unprotect goes on.
 */
typedef struct _Unprotect Unprotect;

typedef gboolean (*Step)(Unprotect *self, GError **error);

typedef struct {
    Step check, source, target, verify; /* nullable: nothing to do */
} Way;

struct _Unprotect {
    VrJob *job;
    VrApp *app;
    VrProtection *row; /* owned */
    const Way *way;
    gboolean contested; /* by force: the target may own the workload */
};

static gboolean
is_asked(const Unprotect *self, const char *arg)
{
    return json_object_get_boolean_member_with_default(vr_job_args(self->job), arg, FALSE);
}

/* What this job leaves behind, for the operator; durable before the row is gone. */
static void note_left(VrJob *job, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void
note_left(VrJob *job, const char *format, ...)
{
    const char *before = vr_job_result_get(job, "left");
    g_autofree char *text = NULL;
    g_autofree char *all = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    if (before != NULL && strstr(before, text) != NULL)
        return;
    g_warning("unprotect --force of '%s': %s", vr_job_domain(job), text);
    all = before != NULL ? g_strdup_printf("%s. %s", before, text) : g_strdup(text);
    vr_job_result_string(job, "left", all);
    vr_job_save(job);
}

/* The way out of a host that is gone for good is named where it is met. */
static gboolean
is_there(VrJob *job, VrPeerClient *peer, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *word = vr_shell_word(vr_job_domain(job));
    g_autofree char *action = NULL;

    if (vr_peer_client_hello(peer, NULL, vr_job_cancellable(job), &local))
        return TRUE;
    if (!vr_error_is_peer_away(local)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    action = g_strdup_printf("Get it to answer. If that host is gone for good: 'virt-replica "
                             "unprotect %s --force'.",
                             word);
    g_propagate_error(
        error, vr_error_new(VR_ERROR_TRANSIENT, vr_error_slug(local), action, local->message));
    return FALSE;
}

/* A target that cannot be reached would keep a replica that nobody knows of. */
static gboolean
check_source(Unprotect *self, GError **error)
{
    VrProtection *row = self->row;
    VrPeerClient *peer;

    if (!vr_protection_admits(row->state, VR_OPERATION_UNPROTECT, error)) {
        g_prefix_error(error, "domain '%s': ", row->name);
        return FALSE;
    }
    peer = vr_peer_pool_get(self->app->peers, row->peer, error);
    if (peer == NULL)
        return FALSE;
    if (row->state == VR_PROTECTION_FAILED_OVER) {
        g_autofree char *word = vr_shell_word(row->name);
        g_autofree char *action =
            g_strdup_printf("Keep the protection while the domain runs there. To end it all the "
                            "same: 'virt-replica unprotect %s --force' on both hosts.",
                            word);

        vr_set_error(error, VR_ERROR_REFUSED, "replica-in-use", action,
                     "domain '%s' runs on host '%s' from its replica, and must stay fenced here",
                     row->name, vr_peer_client_name(peer));
        return FALSE;
    }
    if (!is_there(self->job, peer, error))
        return FALSE;
    return row->state == VR_PROTECTION_DISABLING ||
           vr_app_set_state(self->app, row->uuid, VR_EVENT_UNPROTECT_STARTED, row, error);
}

static gboolean
leave_source(Unprotect *self, GError **error)
{
    return vr_source_leave(self->app, self->row->uuid, error);
}

/* "kept_until": a time, or "forever"; nothing if the replica is gone. */
static void
note_kept(VrJob *job, JsonNode *answer)
{
    JsonObject *object = vr_json_as_object(answer);
    g_autofree char *when = NULL;
    guint64 until_us;

    if (object == NULL || !json_object_has_member(object, "kept_until_us") ||
        !vr_json_uint(object, "kept_until_us", G_MAXINT64, &until_us, NULL) || until_us == 0)
        return;
    when = vr_time_format((gint64) until_us);
    vr_job_result_string(job, "kept_until", when ? when : "forever");
}

static gboolean
end_at_target(Unprotect *self, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(self->app->peers, self->row->peer, error);
    g_autoptr(JsonNode) answer = peer ? vr_peer_client_protection_delete(
                                            peer, self->row->uuid, is_asked(self, "keep_replica"),
                                            vr_job_cancellable(self->job), error)
                                      : NULL;

    if (answer == NULL)
        return FALSE;
    note_kept(self->job, answer);
    return TRUE;
}

static gboolean
end_source(Unprotect *self, GError **error)
{
    return vr_ownership_unfence(self->app, self->row->uuid, error) &&
           vr_state_protection_delete(self->app->state, self->row->uuid, error);
}

static gboolean
verify_source(Unprotect *self, GError **error)
{
    g_autoptr(GError) local = NULL;
    guint left = 0;

    if (!vr_checkpoint_sweep(self->app->conn, self->row->uuid, NULL, &left, &local) &&
        !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (left > 0) {
        vr_set_error(error, VR_ERROR_INTERNAL, "leftovers", "Run unprotect again.",
                     "domain '%s': %u checkpoints or bitmaps were still there after their removal",
                     self->row->name, left);
        return FALSE;
    }
    return end_source(self, error);
}

static const Way on_source = {check_source, leave_source, end_at_target, verify_source};

/* --- by force, on the source --- */

/* The operator's decision was recorded before the job began; again, with the guard. */
static gboolean
abandon(Unprotect *self, GError **error)
{
    return vr_ownership_abandon(self->app, self->row->uuid, &self->contested, error);
}

/* Not what a domain or its QEMU that hangs says: force is the way out of that. */
static gboolean
is_libvirt_away(const GError *error)
{
    return strcmp(vr_error_slug(error), "libvirt-unreachable") == 0;
}

/* A failover that the target never heard of is undone by now, unless it could not be. */
static gboolean
restore_given_up(Unprotect *self, GError **error)
{
    g_autoptr(VrTransfer) transfer = NULL;
    g_autoptr(GError) local = NULL;

    if (!vr_state_transfer_get(self->app->state, self->row->uuid, &transfer, error))
        return FALSE;
    if (transfer == NULL || transfer->phase != VR_TRANSFER_GIVEN_UP || self->contested)
        return TRUE;
    if (vr_failover_restore(self->app, self->row, transfer->ran, &local))
        return vr_ownership_restored(self->app, self->row->uuid, error);
    if (is_libvirt_away(local)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    note_left(self->job,
              "domain '%s' was %s before its failover on host '%s' and could not be put back: %s. "
              "Look at it, and at its autostart",
              self->row->name, transfer->ran ? "running" : "shut off", self->app->config->name,
              local->message);
    return TRUE;
}

/* What cannot be removed stays: the protection ends all the same. Not while libvirt is away: with
 * the row goes what is known of a backup job that nobody would guard. */
static gboolean
leave_source_by_force(Unprotect *self, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!restore_given_up(self, error))
        return FALSE;
    if (leave_source(self, &local))
        return TRUE;
    if (is_libvirt_away(local)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    note_left(self->job,
              "checkpoints or bitmaps of the protection of domain '%s' are left on host '%s': %s",
              self->row->name, self->app->config->name, local->message);
    return TRUE;
}

static void
note_autostart(Unprotect *self, gboolean wanted)
{
    g_autofree char *word = vr_shell_word(self->row->name);

    if (wanted)
        note_left(self->job,
                  "Before its failover domain '%s' was started with the host, and is not here: "
                  "'virsh autostart %s' where it is to run",
                  self->row->name, word);
}

/* A replica that may be the running domain is not touched. */
static gboolean
leave_target(Unprotect *self, GError **error)
{
    const VrProtection *row = self->row;
    VrPeerClient *peer = vr_peer_pool_get(self->app->peers, row->peer, NULL);
    const char *name = peer ? vr_peer_client_name(peer) : row->peer;
    g_autoptr(GError) local = NULL;

    if (self->contested) {
        note_left(self->job,
                  "domain '%s' may run on host '%s', or start there: look, and let it run on one "
                  "host only. Its replica is left there; 'virt-replica unprotect' there removes it",
                  row->name, name);
        note_autostart(self, row->autostart);
        return TRUE;
    }
    if (end_at_target(self, &local))
        return TRUE;
    if (vr_job_stopping(self->job)) { /* asked again at the next start */
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    note_left(self->job,
              "the replica of domain '%s' may be left on host '%s', which could not be told: %s. "
              "'virt-replica unprotect' there removes it",
              row->name, name, local->message);
    return TRUE;
}

static const Way by_force = {abandon, leave_source_by_force, leave_target, end_source};

/* --- on the target --- */

/* The source decides; a replica whose source does not know it any more can only be removed here. */
static gboolean
source_forgot(Unprotect *self, GError **error)
{
    const VrProtection *row = self->row;
    VrPeerClient *peer = vr_peer_pool_get(self->app->peers, row->peer, error);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GError) local = NULL;
    g_autofree char *action = NULL;

    if (peer == NULL)
        return FALSE;
    answer = vr_peer_client_action(peer, row->uuid, "known", NULL, vr_job_cancellable(self->job),
                                   &local);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    if (answer == NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    action =
        g_strdup_printf("Run it on host '%s'; with --force there and here if the protection is "
                        "to end in any case.",
                        vr_peer_client_name(peer));
    if (row->state == VR_PROTECTION_FAILED_OVER)
        vr_set_error(error, VR_ERROR_REFUSED, "not-source", action,
                     "domain '%s' was failed over to this host, and its old host '%s' is still to "
                     "be kept from running it",
                     row->name, vr_peer_client_name(peer));
    else
        vr_set_error(error, VR_ERROR_REFUSED, "not-source", action,
                     "domain '%s': this host holds its replica; its source decides", row->name);
    return FALSE;
}

/* "goes on here" of a domain that is not there any more would be a lie. */
static const char *
what_is_here(VrApp *app, const VrProtection *row)
{
    g_autoptr(GError) error = NULL;
    VrDomState state;

    if (vr_dom_state(app->conn, row->uuid, &state, &error))
        return state == VR_DOM_SHUTOFF ? "is shut off here" : "goes on here";
    return g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND) ? "is not defined here any more"
                                                                : "was here";
}

/* The domain stays as it is, on its disks, which lie in the store. */
static gboolean
let_go(Unprotect *self, GError **error)
{
    VrApp *app = self->app;
    const VrProtection *row = self->row;
    g_autofree char *active = vr_boot_active_dir(app, row, error);
    g_autoptr(VrPeer) peer = vr_state_peer_get(app->state, row->peer, NULL);
    g_autoptr(VrTransfer) transfer = NULL;

    if (active == NULL || !vr_state_transfer_get(app->state, row->uuid, &transfer, error))
        return FALSE;
    note_left(self->job,
              "domain '%s' %s; its disks are in %s and the layers below them: keep them. "
              "Its old host '%s' was not asked: it must not run there",
              row->name, what_is_here(app, row), active, peer ? peer->name : row->peer);
    note_autostart(self, transfer != NULL && transfer->autostart);
    return vr_peer_replica_let_go(app, row->uuid, error);
}

static gboolean
check_replica(Unprotect *self, GError **error)
{
    return is_asked(self, "force") || self->row->kept_until_us != 0 || source_forgot(self, error);
}

/* One whose source ended replication goes at once; one whose source has lost it goes or, if that is
 * asked for, is kept for whoever protects the domain again. */
static gboolean
remove_replica(Unprotect *self, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;

    if (is_asked(self, "force") && self->row->state == VR_PROTECTION_FAILED_OVER)
        return let_go(self, error);
    if (!is_asked(self, "keep_replica"))
        return vr_peer_replica_drop(self->app, self->row->uuid, error);
    answer = vr_peer_replica_end(self->app, self->row->uuid, TRUE, error);
    if (answer == NULL)
        return FALSE;
    note_kept(self->job, answer);
    return TRUE;
}

static const Way on_target = {check_replica, NULL, remove_replica, NULL};

/* --- */

static gboolean
take(Step step, gpointer data, GError **error)
{
    return step == NULL || step(data, error);
}

static gboolean
step_check(gpointer data, GError **error)
{
    const Unprotect *self = data;

    return take(self->way->check, data, error);
}

static gboolean
step_source(gpointer data, GError **error)
{
    const Unprotect *self = data;

    return take(self->way->source, data, error);
}

static gboolean
step_target(gpointer data, GError **error)
{
    const Unprotect *self = data;

    return take(self->way->target, data, error);
}

static gboolean
step_verify(gpointer data, GError **error)
{
    const Unprotect *self = data;

    return take(self->way->verify, data, error);
}

const VrJobStepDef vr_job_unprotect_steps[] = {
    {"check", step_check, NULL, VR_JOB_STEP_LOOKS},
    {"source", step_source},
    {"target", step_target},
    {"verify", step_verify},
    {NULL},
};

/* No cycle writes the row while its state changes; a replica's has its own guard. */
static gboolean
run_on_source(Unprotect *self, GError **error)
{
    gboolean ok;

    if (!vr_job_take_exclusive(self->job, self->app, error))
        return FALSE;
    g_clear_pointer(&self->row, vr_protection_free);
    self->row = vr_state_protection_get(self->app->state, vr_job_uuid(self->job), error);
    ok = self->row != NULL && vr_job_run_steps(self->job, self, error);
    vr_protection_push_forget(vr_job_uuid(self->job));
    vr_exclusive_end(self->app, vr_job_uuid(self->job)); /* one that was refused goes on */
    return ok;
}

static gboolean
run_steps(Unprotect *self, GError **error)
{
    if (self->row->role == VR_ROLE_TARGET) {
        self->way = &on_target;
        return vr_job_run_steps(self->job, self, error);
    }
    self->way = is_asked(self, "force") ? &by_force : &on_source;
    return run_on_source(self, error);
}

gboolean
vr_job_unprotect_run(VrJob *job, gpointer data, GError **error)
{
    VrApp *app = data;
    g_autoptr(GError) local = NULL;
    Unprotect self = {
        .job = job,
        .app = app,
        .row = vr_state_protection_get(app->state, vr_job_uuid(job), &local),
    };
    gboolean ok;

    if (self.row == NULL) {
        if (vr_job_resumed(job) && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    ok = run_steps(&self, error);
    g_clear_pointer(&self.row, vr_protection_free);
    return ok;
}
