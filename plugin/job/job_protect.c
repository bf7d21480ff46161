/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/check.h"
#include "plugin/cycle/protection_push.h"
#include "plugin/cycle/replicate.h"
#include "plugin/exclusive.h"
#include "plugin/job/jobs.h"
#include "policies/error.h"
#include "policies/generation.h"
#include "policies/retry.h"
#include "qmp/domain/domain_ops.h"
#include "storage/util/file_util.h"

/*
 * check changes nothing. create makes the rows on both hosts; from there an error that retrying
 * cannot mend, or cancelling, takes everything away again. initial replication resumes with what
 * the target holds. What cannot be taken away leaves the protection disabling, for unprotect; one
 * that the target never confirmed is forgotten here, and removed there with unprotect. The target
 * removes what has no recovery point yet; a replica of before, which this protect was to
 * take back, it keeps without end.
 */
#define PROBE_US (5 * G_TIME_SPAN_SECOND)
#define UNDO_US (15 * G_TIME_SPAN_SECOND)

typedef struct {
    VrJob *job;
    VrApp *app;
    VrCheckFacts facts; /* of a domain that has no row yet */
} Protect;

static const char *
arg(const Protect *self, const char *name)
{
    return json_object_get_string_member_with_default(vr_job_args(self->job), name, "");
}

static char **
excluded(const Protect *self)
{
    const char *text = arg(self, "exclude");

    return text[0] != '\0' ? g_strsplit(text, ",", -1) : g_new0(char *, 1);
}

/* The row that an earlier run of this job made; NULL without error if there is none. */
static gboolean
own_row(const Protect *self, VrProtection **ret_row, GError **error)
{
    g_autoptr(VrProtection) row = NULL;

    if (!vr_state_protection_find(self->app->state, vr_job_uuid(self->job), &row, error))
        return FALSE;
    if (row != NULL && (!vr_job_resumed(self->job) || row->role != VR_ROLE_SOURCE)) {
        vr_set_error(error, VR_ERROR_REFUSED, "already-protected", "See 'virt-replica info'.",
                     "domain '%s' is protected already, state '%s'", row->name,
                     vr_protection_state_name(row->state));
        return FALSE;
    }
    *ret_row = g_steal_pointer(&row);
    return TRUE;
}

static gboolean
check(Protect *self, GError **error)
{
    g_auto(GStrv) exclude = excluded(self);
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autoptr(VrPolicy) policy = NULL;
    VrCheckWanted wanted = {
        .domain = vr_job_uuid(self->job),
        .peer = arg(self, "peer"),
        .store = arg(self, "store"),
        .exclude = (const char *const *) exclude,
    };

    policy = vr_policy_files_get(self->app->policies, arg(self, "policy"), error);
    return policy != NULL &&
           vr_check_source(self->app, &wanted, findings, &self->facts,
                           vr_job_cancellable(self->job), error) &&
           vr_check_passed(findings, self->facts.name, error);
}

static gboolean
step_check(gpointer data, GError **error)
{
    Protect *self = data;
    g_autoptr(VrProtection) row = NULL;

    return own_row(self, &row, error) && (row != NULL || check(self, error));
}

static gboolean
insert_row(const Protect *self, GError **error)
{
    const VrCheckFacts *facts = &self->facts;
    g_autoptr(VrProtection) row = g_new0(VrProtection, 1);
    g_autofree char *id = vr_random_id();
    g_autoptr(VrGeneration) generation =
        vr_generation_new(id, vr_identity_fingerprint(self->app->identity));

    row->uuid = g_strdup(facts->uuid);
    row->name = g_strdup(facts->name);
    row->role = VR_ROLE_SOURCE;
    row->peer = g_strdup(facts->peer);
    row->store = g_strdup(arg(self, "store"));
    row->policy = g_strdup(arg(self, "policy"));
    row->policy_text = g_strdup("");
    row->state = VR_PROTECTION_ENABLING;
    row->generation = vr_generation_to_line(generation);
    row->exclude = g_strdup(arg(self, "exclude"));
    row->created_us = g_get_real_time();
    row->autostart = facts->autostart;
    return vr_state_protection_insert(self->app->state, row, error);
}

/* TRUE if the peer that could not be reached, or was restarted under a cycle, answers again. */
static gboolean
cause_is_gone(const Protect *self, const GError *reason)
{
    VrPeerClient *peer = vr_peer_pool_get(self->app->peers, arg(self, "peer"), NULL);

    return vr_error_is_peer_away(reason) && peer != NULL &&
           vr_peer_client_hello(peer, NULL, vr_job_cancellable(self->job), NULL);
}

/* Sleeps in small pieces; FALSE when cancelled. */
static gboolean
wait_retry(const Protect *self, const GError *reason, const VrRetry *retry, GError **error)
{
    GCancellable *cancel = vr_job_cancellable(self->job);
    gint64 until = g_get_monotonic_time() + retry->due_us;
    gint64 probe = g_get_monotonic_time() + PROBE_US;

    vr_job_waiting_retry(self->job, reason, retry->failures, g_get_real_time() + retry->due_us);
    while (g_get_monotonic_time() < until && !g_cancellable_is_cancelled(cancel)) {
        g_usleep(G_TIME_SPAN_MILLISECOND * 200);
        if (g_get_monotonic_time() < probe)
            continue;
        if (cause_is_gone(self, reason))
            break;
        probe = g_get_monotonic_time() + PROBE_US;
    }
    vr_job_waiting(self->job, NULL);
    if (!g_cancellable_is_cancelled(cancel))
        return TRUE;
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                 "job %" G_GINT64_FORMAT " was cancelled", vr_job_id(self->job));
    return FALSE;
}

typedef gboolean (*Attempt)(const Protect *self, const VrProtection *row, GError **error);

/* FALSE also if it was cancelled. @retry: its time is counted from now. */
static gboolean
may_succeed(VrRetry *retry, const GError *error)
{
    guint before = retry->failures;

    vr_retry_failed(retry, error, 0, 0);
    return retry->failures > before && !retry->blocked;
}

/* With the row as it is at each attempt. */
static gboolean
try_until_done(const Protect *self, Attempt attempt, GError **error)
{
    VrRetry retry = {0};

    for (;;) {
        g_autoptr(GError) local = NULL;
        g_autoptr(VrProtection) row =
            vr_state_protection_get(self->app->state, vr_job_uuid(self->job), &local);

        if (row != NULL && attempt(self, row, &local))
            return TRUE;
        if (!may_succeed(&retry, local)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        if (!wait_retry(self, local, &retry, error))
            return FALSE;
    }
}

static gboolean
create(const Protect *self, const VrProtection *row, GError **error)
{
    g_autofree char *xml = vr_dom_xml_inactive(self->app->conn, row->uuid, error);

    if (xml == NULL)
        return FALSE;
    vr_protection_push_forget(row->uuid);
    return vr_protection_push(self->app, row, xml, vr_job_cancellable(self->job), error) &&
           (row->state != VR_PROTECTION_ENABLING ||
            vr_app_set_state(self->app, row->uuid, VR_EVENT_CREATED, NULL, error));
}

static gboolean
step_create(gpointer data, GError **error)
{
    Protect *self = data;
    g_autoptr(VrProtection) row = NULL;

    return own_row(self, &row, error) && (row != NULL || insert_row(self, error)) &&
           try_until_done(self, create, error);
}

/* A target that was away may have lost what it was told. */
static gboolean
replicate(const Protect *self, const VrProtection *row, GError **error)
{
    VrCycleWanted wanted = {.slot = VR_SLOT_SYNC};

    if (vr_replicate(self->app, row->uuid, &wanted, vr_job_progress(self->job),
                     vr_job_cancellable(self->job), NULL, error))
        return TRUE;
    vr_protection_push_forget(row->uuid);
    return FALSE;
}

static gboolean
step_replicate(gpointer data, GError **error)
{
    return try_until_done(data, replicate, error);
}

static gboolean
finalize(const Protect *self, const VrProtection *row, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(self->app->peers, row->peer, error);
    g_autoptr(JsonNode) answer = peer ? vr_peer_client_action(peer, row->uuid, "finalize", NULL,
                                                              vr_job_cancellable(self->job), error)
                                      : NULL;

    return answer != NULL;
}

static gboolean
step_finalize(gpointer data, GError **error)
{
    return try_until_done(data, finalize, error);
}

/* Until the target is known to have accepted our generation, a replica there may be an older one:
 * it refuses ours. */
static gboolean
is_our_replica(VrApp *app, const VrProtection *row, gboolean *ret_ours, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *xml = NULL;

    *ret_ours = row->state != VR_PROTECTION_ENABLING;
    if (*ret_ours)
        return TRUE;
    xml = vr_dom_xml_inactive(app->conn, row->uuid, &local);
    *ret_ours = xml != NULL && vr_protection_push(app, row, xml, NULL, &local);
    if (*ret_ours || !vr_error_is_transient(local))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* Recovery points that this protect did not make: it took back, or revived, a replica of before,
 * which does not go with it whatever the grace. */
static gboolean
has_history(VrPeerClient *peer, const VrProtection *row, gboolean *ret_has, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) points = vr_peer_client_rps(peer, row->uuid, NULL, &local);
    guint ours = row->base_number == 0 ? 0 : 1;

    *ret_has = points != NULL && points->len > ours;
    if (points != NULL || g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
remove_replica(VrApp *app, const VrProtection *row, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, row->peer, error);
    g_autoptr(JsonNode) answer = NULL;
    gboolean ours, keep;

    if (peer == NULL || !is_our_replica(app, row, &ours, error))
        return FALSE;
    if (!ours)
        return TRUE;
    if (!has_history(peer, row, &keep, error))
        return FALSE;
    answer = vr_peer_client_protection_delete(peer, row->uuid, keep, NULL, error);
    return answer != NULL;
}

static gboolean
take_away(VrApp *app, const VrProtection *row, GError **error)
{
    vr_protection_push_forget(row->uuid);
    return vr_source_leave(app, row->uuid, error) && remove_replica(app, row, error) &&
           vr_state_protection_delete(app->state, row->uuid, error);
}

static void
leave_to_unprotect(VrApp *app, const VrProtection *row, const GError *reason)
{
    g_autoptr(GError) error = NULL;

    g_warning("domain '%s': not everything of the protection that failed could be removed: %s",
              row->name, reason->message);
    if (row->state == VR_PROTECTION_ENABLING)
        (void) vr_state_protection_delete(app->state, row->uuid, &error);
    else
        (void) vr_app_set_state(app, row->uuid, VR_EVENT_UNPROTECT_STARTED, NULL, &error);
    if (error != NULL)
        g_warning("domain '%s': %s", row->name, error->message);
}

/* @ret_row: what is still there of it. */
static gboolean
undo_once(Protect *self, VrProtection **ret_row, GError **error)
{
    if (!vr_state_protection_find(self->app->state, vr_job_uuid(self->job), ret_row, error))
        return FALSE;
    return *ret_row == NULL || (*ret_row)->role != VR_ROLE_SOURCE ||
           take_away(self->app, *ret_row, error);
}

/* A daemon that is stopping repeats it at its next start. */
static gboolean
undo_create(gpointer data, GError **error)
{
    Protect *self = data;
    gint64 until = g_get_monotonic_time() + UNDO_US;

    for (;;) {
        g_autoptr(VrProtection) row = NULL;
        g_autoptr(GError) local = NULL;
        gboolean late;

        if (undo_once(self, &row, &local))
            return TRUE;
        late = g_get_monotonic_time() >= until;
        if (!vr_job_stopping(self->job) && row != NULL && (late || !vr_error_is_transient(local))) {
            leave_to_unprotect(self->app, row, local);
            return TRUE;
        }
        if (vr_job_stopping(self->job) || late) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        g_usleep(G_TIME_SPAN_MILLISECOND * 500);
    }
}

const VrJobStepDef vr_job_protect_steps[] = {
    {"check", step_check, NULL, VR_JOB_STEP_LOOKS},
    {"create", step_create, undo_create},
    {"initial replication", step_replicate},
    {"finalize", step_finalize},
    {NULL},
};

/* Whether it is ours is asked before anything of it is stopped, and again when nobody else can
 * change it. */
gboolean
vr_job_protect_run(VrJob *job, gpointer app, GError **error)
{
    Protect self = {.job = job, .app = app};
    g_autoptr(VrProtection) row = NULL;
    gboolean ok;

    if ((!vr_job_is_undoing(job) && !own_row(&self, &row, error)) ||
        !vr_job_take_exclusive(job, app, error))
        return FALSE;
    ok = vr_job_run_steps(job, &self, error);
    vr_check_facts_clear(&self.facts);
    vr_exclusive_end(app, vr_job_uuid(job)); /* from here on it is replicated */
    return ok;
}
