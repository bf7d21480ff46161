/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_quota.h"

#include "policies/error.h"
#include "storage/state_peer.h"
#include "storage/state_protection.h"

typedef struct {
    char *cycle; /* owned */
    guint64 bytes;
} Open;

typedef struct {
    guint64 limit;      /* 0: none */
    guint64 stored;     /* of the recovery points when the database was asked last */
    guint64 open;       /* sum of cycles */
    GHashTable *cycles; /* owned: uuid -> Open */
} Account;

struct _VrPeerQuota {
    VrState *state;       /* borrowed */
    char *host;           /* owned */
    GMutex lock;          /* guards what follows; taken before the database's */
    GHashTable *accounts; /* owned: fingerprint -> Account */
};

static void
open_free(gpointer data)
{
    Open *open = data;

    g_free(open->cycle);
    g_free(open);
}

static void
account_free(gpointer data)
{
    Account *account = data;

    g_hash_table_unref(account->cycles);
    g_free(account);
}

VrPeerQuota *
vr_peer_quota_new(VrState *state, const char *host)
{
    VrPeerQuota *self = g_new0(VrPeerQuota, 1);

    self->state = state;
    self->host = g_strdup(host);
    g_mutex_init(&self->lock);
    self->accounts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, account_free);
    return self;
}

void
vr_peer_quota_free(VrPeerQuota *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->accounts);
    g_mutex_clear(&self->lock);
    g_free(self->host);
    g_free(self);
}

gboolean
vr_peer_quota_check_host(VrPeerQuota *self, GError **error)
{
    guint number = 0;

    if (!vr_state_protection_count(self->state, &number, error))
        return FALSE;
    if (number < VR_HOST_PROTECTIONS_MAX)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "too-many-protections",
                 "End another protection of that host first.",
                 "host '%s' has %u protections, and can have no more", self->host, number);
    return FALSE;
}

gboolean
vr_peer_quota_check_new(VrPeerQuota *self, const char *peer, GError **error)
{
    g_autoptr(VrPeer) row = vr_state_peer_get(self->state, peer, error);
    g_autofree char *action = NULL;
    guint number = 0;
    guint64 bytes = 0;

    if (row == NULL || !vr_peer_quota_check_host(self, error) ||
        !vr_state_peer_usage(self->state, peer, &number, &bytes, error))
        return FALSE;
    if (number < row->max_protections)
        return TRUE;
    action = g_strdup_printf("On host '%s': virt-replica peer-set %s --max-protections N",
                             self->host, row->name);
    vr_set_error(error, VR_ERROR_REFUSED, "too-many-protections", action,
                 "host '%s' holds %u replicas of host '%s', which may have %u", self->host, number,
                 row->name, row->max_protections);
    return FALSE;
}

static void
drop_cycle(Account *account, const char *uuid)
{
    const Open *open = g_hash_table_lookup(account->cycles, uuid);

    if (open == NULL)
        return;
    account->open -= open->bytes;
    g_hash_table_remove(account->cycles, uuid);
}

static void
add_bytes(Account *account, const char *uuid, const char *cycle, guint64 bytes)
{
    Open *open = g_hash_table_lookup(account->cycles, uuid);

    if (open == NULL) {
        open = g_new0(Open, 1);
        open->cycle = g_strdup(cycle);
        g_hash_table_insert(account->cycles, g_strdup(uuid), open);
    }
    open->bytes += bytes;
    account->open += bytes;
}

/* Cycles of replicas that are gone. Lock held. */
static void
forget_deleted(VrPeerQuota *self, Account *account)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer uuid;

    g_hash_table_iter_init(&iter, account->cycles);
    while (g_hash_table_iter_next(&iter, &uuid, NULL)) {
        g_autoptr(GError) local = NULL;
        g_autoptr(VrProtection) row = vr_state_protection_get(self->state, uuid, &local);

        if (row == NULL && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
            g_ptr_array_add(gone, g_strdup(uuid));
    }
    for (guint i = 0; i < gone->len; i++)
        drop_cycle(account, g_ptr_array_index(gone, i));
}

/* Asks the database. Lock held. */
static Account *
refresh(VrPeerQuota *self, const char *peer, GError **error)
{
    g_autoptr(VrPeer) row = vr_state_peer_get(self->state, peer, error);
    Account *account = g_hash_table_lookup(self->accounts, peer);
    guint number = 0;
    guint64 stored = 0;

    if (row == NULL || !vr_state_peer_usage(self->state, peer, &number, &stored, error))
        return NULL;
    if (account == NULL) {
        account = g_new0(Account, 1);
        account->cycles = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, open_free);
        g_hash_table_insert(self->accounts, g_strdup(peer), account);
    }
    account->limit = row->quota_bytes;
    account->stored = stored;
    forget_deleted(self, account);
    return account;
}

static gboolean
fits(const Account *account, guint64 bytes)
{
    return account->limit == 0 || (account->stored + account->open <= account->limit &&
                                   bytes <= account->limit - account->stored - account->open);
}

static void
refuse(VrPeerQuota *self, const char *peer, const Account *account, GError **error)
{
    g_autoptr(VrPeer) row = vr_state_peer_get(self->state, peer, NULL);
    g_autofree char *used =
        g_format_size_full(account->stored + account->open, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *limit = g_format_size_full(account->limit, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *action =
        g_strdup_printf("On host '%s': virt-replica peer-set %s --quota SIZE; or keep fewer "
                        "recovery points.",
                        self->host, row ? row->name : peer);

    vr_set_error(error, VR_ERROR_NO_SPACE, "quota-exceeded", action,
                 "the replicas of host '%s' take %s on host '%s', and may take %s",
                 row ? row->name : peer, used, self->host, limit);
}

/* Lock held. */
static gboolean
take(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle, guint64 bytes,
     GError **error)
{
    Account *account = g_hash_table_lookup(self->accounts, peer);

    if (account == NULL || !fits(account, bytes))
        account = refresh(self, peer, error);
    if (account == NULL)
        return FALSE;
    if (!fits(account, bytes)) {
        refuse(self, peer, account, error);
        return FALSE;
    }
    add_bytes(account, uuid, cycle, bytes);
    return TRUE;
}

gboolean
vr_peer_quota_take(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle,
                   guint64 bytes, GError **error)
{
    gboolean ok;

    g_mutex_lock(&self->lock);
    ok = take(self, peer, uuid, cycle, bytes, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

gboolean
vr_peer_quota_begin(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle,
                    guint64 held, GError **error)
{
    Account *account;
    gboolean ok;

    g_mutex_lock(&self->lock);
    account = refresh(self, peer, error);
    if (account != NULL) {
        drop_cycle(account, uuid);
        add_bytes(account, uuid, cycle, held);
    }
    ok = account != NULL && fits(account, 0);
    if (account != NULL && !ok)
        refuse(self, peer, account, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

void
vr_peer_quota_end(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle)
{
    Account *account;
    const Open *open;

    g_mutex_lock(&self->lock);
    account = g_hash_table_lookup(self->accounts, peer);
    open = account ? g_hash_table_lookup(account->cycles, uuid) : NULL;
    if (open != NULL && g_str_equal(open->cycle, cycle)) {
        drop_cycle(account, uuid);
        (void) refresh(self, peer, NULL);
    }
    g_mutex_unlock(&self->lock);
}

gboolean
vr_peer_quota_usage(VrPeerQuota *self, const char *peer, guint *ret_protections, guint64 *ret_bytes,
                    GError **error)
{
    guint64 stored = 0;
    Account *account;

    if (!vr_state_peer_usage(self->state, peer, ret_protections, &stored, error))
        return FALSE;
    g_mutex_lock(&self->lock);
    account = g_hash_table_lookup(self->accounts, peer);
    *ret_bytes = stored + (account ? account->open : 0);
    g_mutex_unlock(&self->lock);
    return TRUE;
}
