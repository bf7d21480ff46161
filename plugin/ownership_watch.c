/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/ownership_watch.h"

#include <string.h>

#include "plugin/fence_restore.h"
#include "plugin/ownership.h"
#include "plugin/ownership_compare.h"
#include "plugin/peer/peer_askers.h"
#include "policies/error.h"
#include "policies/ownership_verdict.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/domain/domain_run.h"

#define TURN_US (30 * G_TIME_SPAN_SECOND)
#define PAUSE_US (2 * G_TIME_SPAN_SECOND) /* between two turns, whoever asks for them */
#define GUARD_WAIT_MS 10000

typedef struct {
    char *message;
    char *action;
} Reason;

struct _VrOwnershipWatch {
    VrApp *app;           /* borrowed */
    GThread *thread;      /* owned, NULL before start and after stop */
    VrPeerAskers *askers; /* owned: ask_peer() */
    GCancellable *cancel; /* owned */
    GMutex lock;          /* guards what follows */
    GCond woken;
    gboolean wake;
    GHashTable *reasons;   /* owned: UUID (owned) -> Reason */
    GHashTable *suspended; /* owned: UUID (owned) -> id of the domain's run that we suspended */
};

static void
reason_free(gpointer data)
{
    Reason *reason = data;

    g_free(reason->message);
    g_free(reason->action);
    g_free(reason);
}

/* @message, @action: (transfer full) (nullable). Said in the log when it is new. */
static void
set_reason(VrOwnershipWatch *self, const char *uuid, char *message, char *action)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    const Reason *before = g_hash_table_lookup(self->reasons, uuid);
    Reason *reason;

    if (message == NULL) {
        g_hash_table_remove(self->reasons, uuid);
        return;
    }
    if (before == NULL || strcmp(before->message, message) != 0)
        g_warning("%s", message);
    reason = g_new0(Reason, 1);
    reason->message = message;
    reason->action = action;
    g_hash_table_replace(self->reasons, g_strdup(uuid), reason);
}

gboolean
vr_ownership_watch_get(VrOwnershipWatch *self, const char *uuid, char **ret_message,
                       char **ret_action)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    const Reason *reason = g_hash_table_lookup(self->reasons, uuid);

    if (reason == NULL)
        return FALSE;
    *ret_message = g_strdup(reason->message);
    *ret_action = g_strdup(reason->action);
    return TRUE;
}

static gboolean
was_suspended(VrOwnershipWatch *self, const char *uuid, int id)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gpointer known;

    return g_hash_table_lookup_extended(self->suspended, uuid, NULL, &known) &&
           GPOINTER_TO_INT(known) == id;
}

/* TRUE if the domain stands still because of us. */
static gboolean
suspend_stale(VrOwnershipWatch *self, const VrProtection *row)
{
    VrApp *app = self->app;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrDomInfo) info = vr_dom_info(app->conn, row->uuid, &error);

    if (info == NULL || info->state == VR_DOM_SHUTOFF)
        return FALSE;
    if (was_suspended(self, row->uuid, info->id))
        return info->state == VR_DOM_PAUSED;
    if (!vr_dom_set_autostart(app->conn, row->uuid, FALSE, &error)) {
        g_warning("domain '%s': %s", row->name, error->message);
        g_clear_error(&error);
    }
    if (!vr_dom_suspend(app->conn, row->uuid, &error)) {
        g_warning("domain '%s' runs on two hosts and cannot be suspended here: %s", row->name,
                  error->message);
        return FALSE;
    }
    g_mutex_lock(&self->lock);
    g_hash_table_replace(self->suspended, g_strdup(row->uuid), GINT_TO_POINTER(info->id));
    g_mutex_unlock(&self->lock);
    return TRUE;
}

static VrOwnershipVerdict
judge(VrApp *app, const VrProtection *row, const VrOwnershipSide *here,
      const VrOwnershipSide *there, VrOwnershipFacts *facts)
{
    const char *own = vr_identity_fingerprint(app->identity);
    g_autoptr(VrFenceRecord) record = NULL;
    gboolean stands;

    vr_fence_look(app->fence, row->uuid, &stands, &record);
    *facts = (VrOwnershipFacts){
        .target = row->role == VR_ROLE_TARGET,
        .relation = vr_generation_compare(here->generation, there->generation),
        .mine_here = strcmp(vr_generation_owner(here->generation), own) == 0,
        .theirs_there = strcmp(vr_generation_owner(there->generation), row->peer) == 0,
        .active_here = here->active,
        .active_there = there->active,
        .runs_there = there->running,
        .moving = here->moving || there->moving,
        .gave_up = vr_ownership_gave_up(row->role == VR_ROLE_TARGET, row->state, record,
                                        there->generation),
    };
    return vr_ownership_judge(facts);
}

static void
explain(VrOwnershipWatch *self, VrPeerClient *peer, const VrProtection *row,
        const VrOwnershipFacts *facts, VrOwnershipVerdict verdict, gboolean suspended)
{
    char *message;
    char *action;

    vr_ownership_explain(facts, verdict, row->name, self->app->config->name,
                         vr_peer_client_name(peer), suspended, &message, &action);
    set_reason(self, row->uuid, message, action);
}

/* LEARN or STALE. The guard is held, and @row is what it was when the other host was asked. */
static void
give_up(VrOwnershipWatch *self, VrPeerClient *peer, const VrProtection *row,
        const VrOwnershipFacts *facts, VrOwnershipVerdict verdict, const VrGeneration *theirs)
{
    g_autoptr(GError) error = NULL;

    if (verdict == VR_OWNERSHIP_LEARN) {
        if (vr_ownership_learn(self->app, row, theirs, &error))
            g_warning("domain '%s' was failed over to host '%s', which the database did not know: "
                      "recorded",
                      row->name, vr_peer_client_name(peer));
        else
            g_warning("domain '%s' is owned by host '%s', which cannot be recorded: %s", row->name,
                      vr_peer_client_name(peer), error->message);
    }
    if (facts->active_here)
        explain(self, peer, row, facts, verdict, suspend_stale(self, row));
    else
        set_reason(self, row->uuid, NULL, NULL);
}

static gboolean
unchanged(VrApp *app, const VrProtection *row)
{
    g_autoptr(VrProtection) now = vr_state_protection_get(app->state, row->uuid, NULL);

    return now != NULL && now->state == row->state && strcmp(now->generation, row->generation) == 0;
}

/* What the verdict asks for. A cycle or a job that is at the row comes first: the next turn looks
 * again. */
static void
act(VrOwnershipWatch *self, VrPeerClient *peer, const VrProtection *row,
    const VrOwnershipSide *here, const VrOwnershipSide *there)
{
    VrApp *app = self->app;
    VrOwnershipFacts facts;
    VrOwnershipVerdict verdict = judge(app, row, here, there, &facts);

    switch (verdict) {
    case VR_OWNERSHIP_MOVING:
        return;
    case VR_OWNERSHIP_AGREED:
        set_reason(self, row->uuid, NULL, NULL);
        if (facts.mine_here)
            vr_fence_release_row(app, row->uuid);
        return;
    case VR_OWNERSHIP_DISPUTED:
        explain(self, peer, row, &facts, verdict, FALSE);
        return;
    case VR_OWNERSHIP_LEARN:
    case VR_OWNERSHIP_STALE:
        if (!vr_guard_take(app->guards, row->uuid, "the comparison of owners", GUARD_WAIT_MS,
                           self->cancel, NULL))
            return;
        if (unchanged(app, row))
            give_up(self, peer, row, &facts, verdict, there->generation);
        vr_guard_release(app->guards, row->uuid);
        return;
    }
}

/* FALSE if the peer cannot be asked now. What it disputed stands if it says that it knows nothing
 * of the domain any more. */
static gboolean
compare(VrOwnershipWatch *self, VrPeerClient *peer, const VrProtection *row)
{
    VrApp *app = self->app;
    g_auto(VrOwnershipSide) here = {0};
    g_auto(VrOwnershipSide) there = {0};
    g_autoptr(GError) error = NULL;

    if (!vr_ownership_side_here(app, row, &here, NULL))
        return TRUE;
    if (!vr_ownership_side_there(peer, row, self->cancel, &there, &error))
        return !vr_error_is_transient(error);
    vr_peer_contact_word(app->contact, row->uuid, &there.word);
    if (unchanged(app, row))
        act(self, peer, row, &here, &there);
    return TRUE;
}

static void
ask_peer(const char *fingerprint, GCancellable *cancel, gpointer data)
{
    VrOwnershipWatch *self = data;
    VrPeerClient *peer = vr_peer_pool_get(self->app->peers, fingerprint, NULL);
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);
    gboolean answers =
        peer != NULL && rows != NULL && vr_peer_client_hello(peer, NULL, cancel, NULL);

    for (guint i = 0; answers && i < rows->len && !g_cancellable_is_cancelled(cancel); i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        if (strcmp(row->peer, fingerprint) == 0)
            answers = compare(self, peer, row);
    }
}

/* Of domains that are not protected any more. */
static gboolean
is_gone(gpointer key, gpointer value G_GNUC_UNUSED, gpointer data)
{
    const GPtrArray *rows = data;

    for (guint i = 0; i < rows->len; i++) {
        if (strcmp(((const VrProtection *) g_ptr_array_index(rows, i))->uuid, key) == 0)
            return FALSE;
    }
    return TRUE;
}

static void
turn(VrOwnershipWatch *self)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);

    if (rows == NULL)
        return;
    vr_fence_restore_again(self->app, rows);
    g_mutex_lock(&self->lock);
    (void) g_hash_table_foreach_remove(self->reasons, is_gone, rows);
    (void) g_hash_table_foreach_remove(self->suspended, is_gone, rows);
    g_mutex_unlock(&self->lock);
    for (guint i = 0; i < rows->len; i++)
        (void) vr_peer_askers_ask(self->askers,
                                  ((const VrProtection *) g_ptr_array_index(rows, i))->peer);
}

static void
wait_until(VrOwnershipWatch *self, gint64 until_us, gboolean until_woken)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    while (!g_cancellable_is_cancelled(self->cancel) && !(until_woken && self->wake) &&
           g_cond_wait_until(&self->woken, &self->lock, until_us))
        ;
    if (until_woken)
        self->wake = FALSE;
}

static gpointer
watch_thread(gpointer data)
{
    VrOwnershipWatch *self = data;

    while (!g_cancellable_is_cancelled(self->cancel)) {
        gint64 began_us = g_get_monotonic_time();

        turn(self);
        wait_until(self, began_us + PAUSE_US, FALSE);
        wait_until(self, began_us + TURN_US, TRUE);
    }
    return NULL;
}

VrOwnershipWatch *
vr_ownership_watch_new(VrApp *app)
{
    VrOwnershipWatch *self = g_new0(VrOwnershipWatch, 1);

    self->app = app;
    self->cancel = g_cancellable_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->woken);
    self->reasons = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, reason_free);
    self->suspended = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->askers = vr_peer_askers_new(ask_peer, self);
    return self;
}

void
vr_ownership_watch_start(VrOwnershipWatch *self)
{
    self->thread = g_thread_new("ownership", watch_thread, self);
}

void
vr_ownership_watch_wake(VrOwnershipWatch *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    self->wake = TRUE;
    g_cond_broadcast(&self->woken);
}

void
vr_ownership_watch_stop(VrOwnershipWatch *self)
{
    if (self == NULL || self->askers == NULL)
        return;
    g_cancellable_cancel(self->cancel);
    g_mutex_lock(&self->lock);
    g_cond_broadcast(&self->woken);
    g_mutex_unlock(&self->lock);
    if (self->thread != NULL)
        g_thread_join(self->thread);
    self->thread = NULL;
    g_clear_pointer(&self->askers, vr_peer_askers_free);
}

void
vr_ownership_watch_free(VrOwnershipWatch *self)
{
    if (self == NULL)
        return;
    vr_ownership_watch_stop(self);
    g_hash_table_unref(self->suspended);
    g_hash_table_unref(self->reasons);
    g_object_unref(self->cancel);
    g_cond_clear(&self->woken);
    g_mutex_clear(&self->lock);
    g_free(self);
}
