/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/job/jobs.h"
#include "plugin/ownership.h"
#include "plugin/target/activation.h"
#include "plugin/target_domain.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "qmp/domain/domain_ops.h"
#include "storage/replica/replica_verify.h"

#include <string.h>

#define RUN_AGAIN_US (2 * G_TIME_SPAN_SECOND)

/* The generation advances between "take over" and "run": up to there all is taken back, from there
 * on the domain is this host's to run. A source that gives up meanwhile is heard at "take over". */
typedef struct {
    VrJob *job;
    VrApp *app;
    VrProtection *row;    /* owned */
    VrTransfer *transfer; /* owned, nullable */
    VrTakeOver wanted;    /* borrowed from the job's arguments */
    const char *root;     /* the same */
} Activation;

static gboolean
reload(Activation *self, GError **error)
{
    VrState *state = self->app->state;

    g_clear_pointer(&self->row, vr_protection_free);
    g_clear_pointer(&self->transfer, vr_transfer_free);
    self->row = vr_state_protection_get(state, vr_job_uuid(self->job), error);
    return self->row != NULL &&
           vr_state_transfer_get(state, vr_job_uuid(self->job), &self->transfer, error);
}

static gboolean
is_owner(const Activation *self)
{
    return strcmp(self->row->generation, self->wanted.line) == 0;
}

static gboolean
is_sound(Activation *self, VrReplica *replica, GError **error)
{
    if (vr_replica_check_chain(replica, self->wanted.number, error) &&
        vr_replica_require_sound(replica, self->wanted.number, error))
        return TRUE;
    g_prefix_error(error, "domain '%s', replica on host '%s': ", self->row->name,
                   self->app->config->name);
    return FALSE;
}

/* Layers may have gone since the source asked for the proof, and its guest is off. */
static gboolean
check_head(Activation *self, GError **error)
{
    VrReplicas *replicas = self->app->replicas;
    VrReplica *replica = vr_replicas_get(replicas, self->row->uuid, error);
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRecoveryPoint) head = replica ? vr_replica_head(replica, &local) : NULL;
    gboolean ok = FALSE;

    if (replica == NULL)
        return FALSE;
    if (local != NULL)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (head != NULL && head->number == self->wanted.number &&
             strcmp(head->root, self->root) == 0)
        ok = is_sound(self, replica, error);
    else
        vr_set_error(error, VR_ERROR_REFUSED, "root-differs", "Start the failover again.",
                     "domain '%s': the newest recovery point here is not number %" G_GUINT64_FORMAT
                     " with the root of the source",
                     self->row->name, self->wanted.number);
    vr_replicas_put(replicas, replica);
    return ok;
}

/* What an earlier failover left goes first. */
static gboolean
step_check(gpointer data, GError **error)
{
    Activation *self = data;

    if (is_owner(self))
        return TRUE;
    if (self->transfer != NULL && self->transfer->phase == VR_TRANSFER_PREPARING &&
        (!vr_activation_take_back(self->app, self->row, self->transfer, error) ||
         !reload(self, error)))
        return FALSE;
    return check_head(self, error) &&
           vr_ownership_prepare(self->app, self->row->uuid, &self->wanted, error) &&
           reload(self, error);
}

static gboolean
with_boot(Activation *self, gboolean (*what)(VrApp *, const VrBoot *, GError **), GError **error)
{
    g_autoptr(VrTargetNetworks) networks = vr_activation_networks(self->app, self->row, error);
    g_autofree char *dir = NULL;
    g_autofree char *generation = NULL;
    VrBoot boot;

    if (networks == NULL ||
        !vr_activation_boot(self->app, self->row, self->transfer, &boot, &dir, &generation, error))
        return FALSE;
    boot.networks = networks;
    return what(self->app, &boot, error);
}

/* Run again after a restart it finds what it made before. */
static gboolean
step_prepare(gpointer data, GError **error)
{
    Activation *self = data;

    if (is_owner(self))
        return TRUE;
    return with_boot(self, vr_boot_take_back, error) && with_boot(self, vr_boot_prepare, error);
}

static gboolean
step_start(gpointer data, GError **error)
{
    Activation *self = data;

    return is_owner(self) || (vr_ownership_unfence(self->app, self->row->uuid, error) &&
                              with_boot(self, vr_boot_start, error));
}

static gboolean
step_take_over(gpointer data, GError **error)
{
    Activation *self = data;

    if (is_owner(self))
        return TRUE;
    if (vr_job_resumed(self->job) && !check_head(self, error)) /* it may be long ago */
        return FALSE;
    if (!vr_ownership_take(self->app, self->row->uuid, error) || !reload(self, error))
        return FALSE;
    vr_replicas_refresh_index(self->app->replicas, self->row->uuid);
    return TRUE;
}

static gboolean
undo_prepare(gpointer data, GError **error)
{
    Activation *self = data;

    if (!reload(self, error))
        return FALSE;
    return is_owner(self) || self->transfer == NULL ||
           self->transfer->phase != VR_TRANSFER_PREPARING ||
           vr_activation_take_back(self->app, self->row, self->transfer, error);
}

/* Whatever it takes; a daemon that stops goes on later. */
static gboolean
step_run(gpointer data, GError **error)
{
    Activation *self = data;
    GCancellable *cancel = vr_job_cancellable(self->job);
    gboolean again = vr_job_resumed(self->job);

    for (; self->transfer != NULL && self->transfer->phase == VR_TRANSFER_STARTING; again = TRUE) {
        g_autoptr(GError) local = NULL;

        if (again && !vr_activation_confirmed(self->app, self->row, cancel, error))
            return FALSE;
        if (vr_activation_run(self->app, self->row, self->transfer, cancel, &local))
            return TRUE;
        if (g_cancellable_is_cancelled(cancel)) {
            vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                         "domain '%s': its start was cancelled; this host owns it, so it is tried "
                         "again",
                         self->row->name);
            return FALSE;
        }
        vr_job_waiting(self->job, local);
        g_usleep(RUN_AGAIN_US);
        if (!reload(self, error))
            return FALSE;
    }
    return TRUE;
}

const VrJobStepDef vr_job_activate_steps[] = {
    {"check", step_check, undo_prepare},
    {"prepare", step_prepare, NULL, .fault = VR_JOB_FAULT(VR_STEP_B1)},
    {"start paused", step_start, NULL, .fault = VR_JOB_FAULT(VR_STEP_B2)},
    {"take over", step_take_over, NULL, VR_JOB_STEP_NO_RETURN, VR_JOB_FAULT(VR_STEP_F4)},
    {"run", step_run},
    {NULL},
};

static gboolean
load(Activation *self, GError **error)
{
    JsonObject *args = vr_job_args(self->job);

    self->wanted = (VrTakeOver){
        .line = json_object_get_string_member(args, "generation"),
        .number = (guint64) json_object_get_int_member(args, "number"),
        .autostart = json_object_get_boolean_member(args, "autostart"),
    };
    self->root = json_object_get_string_member(args, "root");
    return reload(self, error);
}

gboolean
vr_job_activate_run(VrJob *job, gpointer app, GError **error)
{
    Activation self = {.job = job, .app = app};
    gboolean ok;

    if (!vr_job_take_guard(job, app, error))
        return FALSE;
    ok = load(&self, error) && vr_job_run_steps(job, &self, error);
    vr_guard_release(self.app->guards, vr_job_uuid(job));
    g_clear_pointer(&self.row, vr_protection_free);
    g_clear_pointer(&self.transfer, vr_transfer_free);
    return ok;
}
