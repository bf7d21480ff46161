/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/replicas.h"

#include "policies/error.h"
#include "storage/policy_before.h"
#include "storage/source_policy.h"
#include "storage/state_peer.h"

typedef struct {
    char *uuid;
    VrReplica *replica; /* owned; NULL while it is being opened */
    guint users;
    gboolean open, closing;
} Entry;

struct _VrReplicas {
    VrState *state; /* borrowed */
    char *manifests;
    GThread *thread;      /* owned */
    GAsyncQueue *due;     /* owned: uuid (owned), each once; "" ends the thread */
    GHashTable *queued;   /* owned: what is in it, under its lock */
    GCancellable *cancel; /* owned */

    GMutex lock; /* guards what follows */
    GCond idle;
    GHashTable *entries; /* owned: uuid -> Entry */
};

static void
entry_free(gpointer data)
{
    Entry *entry = data;

    vr_replica_close(entry->replica);
    g_free(entry->uuid);
    g_free(entry);
}

static VrReplica *
open_replica(VrReplicas *self, const char *uuid, GError **error)
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
    store = vr_state_store_get(self->state, row->store, error);
    if (store == NULL)
        return NULL;
    dir = g_build_filename(self->manifests, uuid, NULL);
    replica = vr_replica_open(self->state, store->path, uuid, dir, error);
    vr_store_row_free(store);
    return replica;
}

/* Lock held, but not while the replica is opened, which may have to end a long merge. */
static Entry *
open_entry(VrReplicas *self, const char *uuid, GError **error)
{
    Entry *entry = g_new0(Entry, 1);
    VrReplica *replica;

    entry->uuid = g_strdup(uuid);
    g_hash_table_insert(self->entries, entry->uuid, entry);
    g_mutex_unlock(&self->lock);
    replica = open_replica(self, uuid, error);
    g_mutex_lock(&self->lock);
    entry->replica = replica;
    entry->open = TRUE;
    g_cond_broadcast(&self->idle);
    if (entry->replica != NULL)
        return entry;
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

VrReplica *
vr_replicas_get(VrReplicas *self, const char *uuid, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = find_entry(self, uuid);

    if (entry == NULL)
        entry = open_entry(self, uuid, error);
    if (entry == NULL)
        return NULL;
    if (entry->closing) {
        vr_set_error(error, VR_ERROR_CONFLICT, "replica-closing", "Try again in a moment.",
                     "the replica of %s is being closed", uuid);
        return NULL;
    }
    entry->users++;
    return entry->replica;
}

void
vr_replicas_put(VrReplicas *self, VrReplica *replica)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Entry *entry = value;

        if (entry->replica == replica)
            entry->users--;
    }
    g_cond_broadcast(&self->idle);
}

gboolean
vr_replicas_is_closing(VrReplicas *self, const VrReplica *replica)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Entry *entry = value;

        if (entry->replica == replica)
            return entry->closing;
    }
    return FALSE;
}

/* The entry, used by nobody and marked so that nobody begins; NULL if it is not open. Lock held. */
static Entry *
take_alone(VrReplicas *self, const char *uuid)
{
    Entry *entry = find_entry(self, uuid);

    if (entry == NULL || entry->closing)
        return NULL;
    entry->closing = TRUE;
    while (entry->users > 0)
        g_cond_wait(&self->idle, &self->lock);
    return entry;
}

gboolean
vr_replicas_destroy(VrReplicas *self, const char *uuid, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = find_entry(self, uuid);
    gboolean ok;

    if (entry == NULL && open_entry(self, uuid, error) == NULL)
        return FALSE;
    entry = take_alone(self, uuid);
    if (entry == NULL)
        return TRUE;
    ok = vr_replica_destroy(entry->replica, error);
    g_hash_table_remove(self->entries, uuid);
    return ok;
}

void
vr_replicas_close(VrReplicas *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    if (take_alone(self, uuid) != NULL)
        g_hash_table_remove(self->entries, uuid);
}

void
vr_replicas_retain(VrReplicas *self, const char *uuid)
{
    g_async_queue_lock(self->due);
    if (g_hash_table_add(self->queued, g_strdup(uuid)))
        g_async_queue_push_unlocked(self->due, g_strdup(uuid));
    g_async_queue_unlock(self->due);
}

/* The next one; what is asked for from here on is another pass. (transfer full) */
static char *
next_due(VrReplicas *self)
{
    char *uuid;

    g_async_queue_lock(self->due);
    uuid = g_async_queue_pop_unlocked(self->due);
    (void) g_hash_table_remove(self->queued, uuid);
    g_async_queue_unlock(self->due);
    return uuid;
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

static gboolean
retain(VrReplicas *self, const char *uuid, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(self->state, uuid, error);
    g_autoptr(VrPolicy) policy = NULL;
    VrReplica *replica;
    gboolean ok;

    if (row == NULL)
        return FALSE;
    if (row->state == VR_PROTECTION_FAILED_OVER || row->kept_until_us != 0)
        return TRUE;
    policy = retention_policy(self, row, error);
    if (policy == NULL)
        return FALSE;
    replica = vr_replicas_get(self, uuid, error);
    if (replica == NULL)
        return FALSE;
    ok = vr_replica_retain(replica, policy, g_get_real_time(), self->cancel, error);
    vr_replicas_put(self, replica);
    return ok;
}

static gpointer
retain_thread(gpointer data)
{
    VrReplicas *self = data;

    for (;;) {
        g_autofree char *uuid = next_due(self);
        g_autoptr(GError) error = NULL;

        if (uuid[0] == '\0')
            return NULL;
        if (!retain(self, uuid, &error) && !g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND) &&
            !g_cancellable_is_cancelled(self->cancel))
            g_warning("retention of %s: %s, ignoring until its next recovery point", uuid,
                      error->message);
    }
}

VrReplicas *
vr_replicas_new(VrState *state, const char *manifests)
{
    VrReplicas *self = g_new0(VrReplicas, 1);

    self->state = state;
    self->manifests = g_strdup(manifests);
    self->due = g_async_queue_new_full(g_free);
    self->queued = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->cancel = g_cancellable_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->idle);
    self->entries = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, entry_free);
    self->thread = g_thread_new("retention", retain_thread, self);
    return self;
}

void
vr_replicas_free(VrReplicas *self)
{
    if (self == NULL)
        return;
    g_cancellable_cancel(self->cancel);
    g_async_queue_push(self->due, g_strdup(""));
    g_thread_join(self->thread);
    g_async_queue_unref(self->due);
    g_hash_table_unref(self->queued);
    g_object_unref(self->cancel);
    g_hash_table_unref(self->entries);
    g_cond_clear(&self->idle);
    g_mutex_clear(&self->lock);
    g_free(self->manifests);
    g_free(self);
}
