/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/replicas.h"

#include "plugin/retain_queue.h"
#include "policies/error.h"
#include "storage/state/policy_before.h"
#include "storage/state/source_policy.h"
#include "storage/state/state_peer.h"
#include "storage/state/state_rp.h"

#define RETENTION_THREADS 3 /* a peer has one of them at most */
#define FINAL_ROOM 64       /* recovery points more for the final cycles of failovers */
#define OPEN_DISKS_EACH 512 /* of the cycles of one peer that are open at once */

typedef struct {
    char *uuid;
    char *peer;           /* owned, nullable */
    gint64 used_us;       /* monotonic; when it was put back last */
    VrReplica *replica;   /* owned; NULL while it is being opened */
    GCancellable *closed; /* owned; cancelled when it is to be closed, or all are */
    GCancellable *all;    /* borrowed: of all */
    gulong along;
    guint users;
    gboolean retaining; /* one of them is the retention */
    gboolean open;
} Entry;

struct _VrReplicas {
    VrState *state; /* borrowed */
    char *manifests;
    GThread *threads[RETENTION_THREADS]; /* owned */
    VrRetainQueue *due;                  /* owned */
    GCancellable *cancel;                /* owned */

    GMutex lock; /* guards what follows */
    GCond idle;
    GHashTable *entries; /* owned: uuid -> Entry */
    GHashTable *failed;  /* owned: uuid -> why its last turn of retention failed */
    gboolean stopping;
};

static void
entry_free(gpointer data)
{
    Entry *entry = data;

    vr_replica_close(entry->replica);
    g_cancellable_disconnect(entry->all, entry->along);
    g_object_unref(entry->closed);
    g_free(entry->peer);
    g_free(entry->uuid);
    g_free(entry);
}

static VrReplica *
open_replica(VrReplicas *self, const char *uuid, char **ret_peer, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(self->state, uuid, error);
    VrStoreRow *store;
    g_autofree char *dir = NULL;
    VrReplica *replica;

    if (row == NULL)
        return NULL;
    if (row->role != VR_ROLE_TARGET) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-target", "Ask the other host.",
                     "domain '%s': this host is its source, not its target", row->name);
        return NULL;
    }
    *ret_peer = g_strdup(row->peer);
    store = vr_state_store_get(self->state, row->store, error);
    if (store == NULL)
        return NULL;
    dir = g_build_filename(self->manifests, uuid, NULL);
    replica = vr_replica_open(self->state, store->path, uuid, dir, error);
    vr_store_row_free(store);
    return replica;
}

static void
cancel_along(GCancellable *all G_GNUC_UNUSED, gpointer closed)
{
    g_cancellable_cancel(closed);
}

static Entry *
entry_new(VrReplicas *self, const char *uuid)
{
    Entry *entry = g_new0(Entry, 1);

    entry->uuid = g_strdup(uuid);
    entry->closed = g_cancellable_new();
    entry->all = self->cancel;
    entry->along =
        g_cancellable_connect(self->cancel, G_CALLBACK(cancel_along), entry->closed, NULL);
    return entry;
}

static gboolean
is_closing(const Entry *entry)
{
    return g_cancellable_is_cancelled(entry->closed);
}

/* Lock held, but not while the replica is opened, which looks at all of its layers. Retention ends
 * what a restart has interrupted. */
static Entry *
open_entry(VrReplicas *self, const char *uuid, GError **error)
{
    Entry *entry = entry_new(self, uuid);
    char *peer = NULL;
    VrReplica *replica;

    g_hash_table_insert(self->entries, entry->uuid, entry);
    g_mutex_unlock(&self->lock);
    replica = open_replica(self, uuid, &peer, error);
    g_mutex_lock(&self->lock);
    entry->replica = replica;
    entry->peer = peer;
    entry->open = TRUE;
    g_cond_broadcast(&self->idle);
    if (entry->replica != NULL && self->stopping)
        vr_replica_interrupt(entry->replica);
    if (entry->replica != NULL) {
        vr_replicas_retain(self, uuid);
        return entry;
    }
    g_hash_table_remove(self->entries, uuid);
    return NULL;
}

/* The entry as it is when nobody opens it any more. Lock held. */
static Entry *
find_entry(VrReplicas *self, const char *uuid)
{
    Entry *entry;

    while ((entry = g_hash_table_lookup(self->entries, uuid)) != NULL && !entry->open)
        g_cond_wait(&self->idle, &self->lock);
    return entry;
}

static Entry *
use_entry(VrReplicas *self, const char *uuid, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = find_entry(self, uuid);

    if (entry == NULL)
        entry = open_entry(self, uuid, error);
    if (entry == NULL)
        return NULL;
    if (is_closing(entry)) {
        vr_set_error(error, VR_ERROR_CONFLICT, "replica-closing", "Try again in a moment.",
                     "the replica of %s is being closed", uuid);
        return NULL;
    }
    entry->users++;
    return entry;
}

VrReplica *
vr_replicas_get(VrReplicas *self, const char *uuid, GError **error)
{
    Entry *entry = use_entry(self, uuid, error);

    return entry != NULL ? entry->replica : NULL;
}

/* Lock held. */
static Entry *
entry_of(VrReplicas *self, const VrReplica *replica)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (((Entry *) value)->replica == replica)
            return value;
    }
    g_assert_not_reached();
}

/* The one of @peer that has waited longest with a cycle open; @ret_disks: of all that are open.
 * Lock held. */
static Entry *
longest_idle(VrReplicas *self, const char *peer, guint *ret_disks)
{
    Entry *found = NULL;
    GHashTableIter iter;
    gpointer value;

    *ret_disks = 0;
    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Entry *entry = value;
        guint disks = entry->open && g_strcmp0(entry->peer, peer) == 0
                          ? vr_replica_open_disks(entry->replica)
                          : 0;

        *ret_disks += disks;
        if (disks > 0 && entry->users == 0 && (found == NULL || entry->used_us < found->used_us))
            found = entry;
    }
    return found;
}

/* A peer that begins cycles and lets them lie does not take the descriptors of all. Lock held:
 * nobody else is at such a replica. */
static void
rest_idle(VrReplicas *self, const char *peer)
{
    Entry *entry;
    guint disks;

    while ((entry = longest_idle(self, peer, &disks)) != NULL && disks > OPEN_DISKS_EACH)
        vr_replica_rest(entry->replica);
}

/* Whoever read or held layers may have kept a merge from them: the last one to go asks for it. */
void
vr_replicas_put(VrReplicas *self, VrReplica *replica)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = entry_of(self, replica);

    entry->users--;
    if (entry->users == (entry->retaining ? 1 : 0) && vr_replica_merges_left_out(replica))
        vr_replicas_retain(self, entry->uuid);
    entry->used_us = g_get_monotonic_time();
    rest_idle(self, entry->peer);
    g_cond_broadcast(&self->idle);
}

gboolean
vr_replicas_is_closing(VrReplicas *self, const VrReplica *replica)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    return is_closing(entry_of(self, replica));
}

/* The entry, used by nobody and marked so that nobody begins; NULL if there is none. Lock held, but
 * not while others are waited for. */
static Entry *
take_alone(VrReplicas *self, const char *uuid)
{
    Entry *entry;

    while ((entry = find_entry(self, uuid)) != NULL && is_closing(entry))
        g_cond_wait(&self->idle, &self->lock);
    if (entry == NULL)
        return NULL;
    g_cancellable_cancel(entry->closed);
    vr_replica_interrupt(entry->replica);
    while (entry->users > 0)
        g_cond_wait(&self->idle, &self->lock);
    return entry;
}

static void
remove_entry(VrReplicas *self, const char *uuid)
{
    g_hash_table_remove(self->entries, uuid);
    g_cond_broadcast(&self->idle);
}

gboolean
vr_replicas_destroy(VrReplicas *self, const char *uuid, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry;
    gboolean ok;

    while ((entry = take_alone(self, uuid)) == NULL) {
        if (open_entry(self, uuid, error) == NULL)
            return FALSE;
    }
    g_mutex_unlock(&self->lock);
    ok = vr_replica_destroy(entry->replica, error);
    g_mutex_lock(&self->lock);
    remove_entry(self, uuid);
    return ok;
}

void
vr_replicas_close(VrReplicas *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    if (take_alone(self, uuid) != NULL)
        remove_entry(self, uuid);
}

void
vr_replicas_retain(VrReplicas *self, const char *uuid)
{
    vr_retain_queue_add(self->due, uuid);
}

void
vr_replicas_refresh_index(VrReplicas *self, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    VrReplica *replica = vr_replicas_get(self, uuid, &error);

    if (replica == NULL || !vr_replica_refresh_index(replica, &error))
        g_warning("replica of %s: what its store says of it is not up to date: %s", uuid,
                  error->message);
    if (replica != NULL)
        vr_replicas_put(self, replica);
}

/* What the source says now, and for a while what it said before, unless the operator wants no
 * grace. */
static VrPolicy *
retention_policy(VrReplicas *self, const VrProtection *row, GError **error)
{
    g_autoptr(VrPolicy) policy = vr_source_policy(row, error);
    g_autoptr(VrPeer) peer = policy ? vr_state_peer_get(self->state, row->peer, error) : NULL;
    VrRetentionBefore before;

    if (peer == NULL || !vr_policy_before_get(row, &before, error))
        return NULL;
    if (peer->delete_grace_us > 0)
        policy->keep = vr_retention_rule_with(&policy->keep, &before, g_get_real_time());
    return g_steal_pointer(&policy);
}

/* A pass that goes on does not open what was closed since: who opens it asks for another one. */
static gboolean
was_closed(VrReplicas *self, const VrRetainTurn *turn, GError **error)
{
    gboolean closed;

    if (!turn->pass.more)
        return FALSE;
    g_mutex_lock(&self->lock);
    closed = g_hash_table_lookup(self->entries, turn->uuid) == NULL;
    g_mutex_unlock(&self->lock);
    if (closed)
        vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "retention of %s was ended",
                     turn->uuid);
    return closed;
}

/* One merge at most. */
static gboolean
retain(VrReplicas *self, VrRetainTurn *turn, GError **error)
{
    gboolean closed = was_closed(self, turn, error);
    g_autoptr(VrProtection) row =
        closed ? NULL : vr_state_protection_get(self->state, turn->uuid, error);
    g_autoptr(VrPolicy) policy = NULL;
    gboolean ok;
    Entry *entry;

    turn->pass.more = FALSE;
    if (row == NULL)
        return FALSE;
    if (row->state == VR_PROTECTION_FAILED_OVER || row->kept_until_us != 0)
        return TRUE;
    policy = retention_policy(self, row, error);
    if (policy == NULL)
        return FALSE;
    entry = use_entry(self, turn->uuid, error);
    if (entry == NULL)
        return FALSE;
    g_mutex_lock(&self->lock);
    entry->retaining = TRUE;
    g_mutex_unlock(&self->lock);
    ok = vr_replica_retain(entry->replica, policy, g_get_real_time(), &turn->pass, entry->closed,
                           error);
    /* not as vr_replicas_put(): what a reader still keeps is due when that one has ended */
    g_mutex_lock(&self->lock);
    entry->retaining = FALSE;
    entry->users--;
    g_cond_broadcast(&self->idle);
    g_mutex_unlock(&self->lock);
    return ok;
}

/* What ended a turn for a while only leaves what was said of the turns before. */
static void
note_turn(VrReplicas *self, const char *uuid, gboolean ok, const GError *error)
{
    gboolean known = !ok && (g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED) ||
                             g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    gboolean gone = !ok && g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    if (ok || gone) {
        g_hash_table_remove(self->failed, uuid);
    } else if (!known) {
        g_warning("retention of %s: %s, ignoring until its next recovery point", uuid,
                  error->message);
        g_hash_table_replace(self->failed, g_strdup(uuid), g_strdup(error->message));
    }
}

static gpointer
retain_thread(gpointer data)
{
    VrReplicas *self = data;
    VrRetainTurn *turn;

    while ((turn = vr_retain_queue_take(self->due)) != NULL) {
        g_autoptr(GError) error = NULL;
        gboolean ok = retain(self, turn, &error);

        note_turn(self, turn->uuid, ok, error);
        vr_retain_queue_done(self->due, turn);
    }
    return NULL;
}

static char *
peer_of(gpointer data, const char *uuid)
{
    const VrReplicas *self = data;
    g_autoptr(VrProtection) row = vr_state_protection_get(self->state, uuid, NULL);

    return row != NULL ? g_strdup(row->peer) : NULL;
}

static void
say_behind(VrReplicas *self, const VrProtection *row, const char *host, guint number,
           GError **error)
{
    g_autofree char *cause = NULL;
    g_autofree char *action = NULL;

    g_mutex_lock(&self->lock);
    cause = g_strdup(g_hash_table_lookup(self->failed, row->uuid));
    g_mutex_unlock(&self->lock);
    action = cause != NULL
                 ? g_strdup_printf("Mend on host '%s' what its retention says; it is tried again "
                                   "whenever a cycle is.",
                                   host)
                 : g_strdup("Nothing to do: it goes on by itself as soon as there are fewer.");
    vr_set_error(error, VR_ERROR_TRANSIENT, "retention-behind", action,
                 "domain '%s': host '%s' has %u recovery points of it, and drops those that are "
                 "not kept before it takes another one%s%s",
                 row->name, host, number, cause != NULL ? "; dropping them failed: " : "",
                 cause != NULL ? cause : "");
}

/* Only what can be merged: what somebody holds, and what is below that, waits for its operator. */
gboolean
vr_replicas_check_behind(VrReplicas *self, const char *uuid, const char *host, gboolean final,
                         GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(self->state, uuid, error);
    guint max = 2 * VR_REPLICA_LAYERS_MAX + (final ? FINAL_ROOM : 0);
    guint number = 0;

    if (row == NULL || !vr_state_rp_count_free(self->state, uuid, &number, error))
        return FALSE;
    if (number <= max)
        return TRUE;
    vr_replicas_retain(self, uuid);
    say_behind(self, row, host, number, error);
    return FALSE;
}

void
vr_replicas_stop(VrReplicas *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    GHashTableIter iter;
    gpointer value;

    self->stopping = TRUE;
    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Entry *entry = value;

        if (entry->replica != NULL)
            vr_replica_interrupt(entry->replica);
    }
}

VrReplicas *
vr_replicas_new(VrState *state, const char *manifests)
{
    VrReplicas *self = g_new0(VrReplicas, 1);

    self->state = state;
    self->manifests = g_strdup(manifests);
    self->due = vr_retain_queue_new(peer_of, self);
    self->cancel = g_cancellable_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->idle);
    self->entries = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, entry_free);
    self->failed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; i < RETENTION_THREADS; i++)
        self->threads[i] = g_thread_new("retention", retain_thread, self);
    return self;
}

void
vr_replicas_free(VrReplicas *self)
{
    if (self == NULL)
        return;
    g_cancellable_cancel(self->cancel);
    vr_retain_queue_end(self->due);
    for (guint i = 0; i < RETENTION_THREADS; i++)
        g_thread_join(self->threads[i]);
    vr_retain_queue_free(self->due);
    g_hash_table_unref(self->entries);
    g_hash_table_unref(self->failed);
    g_object_unref(self->cancel);
    g_cond_clear(&self->idle);
    g_mutex_clear(&self->lock);
    g_free(self->manifests);
    g_free(self);
}
