/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_quota.h"

#include "policies/error.h"
#include "storage/state/state_peer.h"
#include "storage/state/state_protection.h"

typedef struct {
    char *cycle; /* owned */
    guint64 bytes;
    guint disks;
} Open;

typedef struct {
    guint64 entered; /* which of the questions was entered last */
    char *name;      /* owned; of the peer, like the next two as it was asked last */
    guint max_protections;
    guint protections;
    guint64 limit;      /* 0: none */
    guint64 stored;     /* of the recovery points when the database was asked last */
    guint64 held;       /* sum of rooms */
    guint64 open;       /* sum of cycles */
    guint64 reserved;   /* for bodies and cycles that are about to come */
    GHashTable *rooms;  /* owned: uuid -> guint64, what its replica takes beside the points */
    GHashTable *cycles; /* owned: uuid -> Open */
    GHashTable *disks;  /* owned: uuid -> guint, of its newest recovery point; as PREPARE asked */
} Account;

/* What the database and the stores say: asked without the lock, as it takes long, and entered with
 * it. What was asked later is newer, so what was asked before that is not entered any more. */
typedef struct {
    guint64 serial;
    char *name; /* owned */
    guint max_protections;
    guint protections;
    guint64 limit;
    guint64 stored;
    GHashTable *there; /* owned: uuids of all protections */
    GHashTable *rooms; /* owned: uuid -> guint64, those that were looked at */
    GHashTable *disks; /* owned, nullable: uuid -> guint */
} Facts;

/* What is to be asked. */
typedef struct {
    const char *peer;
    const char *look; /* nullable: this replica's room, even if it was looked at before */
    gboolean disks;
} Question;

struct _VrPeerQuota {
    VrState *state;       /* borrowed */
    char *host;           /* owned */
    VrPeerQuotaRoom room; /* nullable */
    gpointer data;        /* borrowed: of room */
    GMutex lock;          /* guards what follows; nothing is asked while it is held */
    guint64 asked;        /* questions */
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
    g_hash_table_unref(account->rooms);
    g_hash_table_unref(account->disks);
    g_free(account->name);
    g_free(account);
}

static void
facts_free(Facts *facts)
{
    g_free(facts->name);
    g_hash_table_unref(facts->there);
    g_hash_table_unref(facts->rooms);
    g_clear_pointer(&facts->disks, g_hash_table_unref);
    g_free(facts);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Facts, facts_free)

VrPeerQuota *
vr_peer_quota_new(VrState *state, const char *host, VrPeerQuotaRoom room, gpointer data)
{
    VrPeerQuota *self = g_new0(VrPeerQuota, 1);

    self->state = state;
    self->host = g_strdup(host);
    self->room = room;
    self->data = data;
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

static void
drop_room(Account *account, const char *uuid)
{
    const guint64 *room = g_hash_table_lookup(account->rooms, uuid);

    if (room == NULL)
        return;
    account->held -= *room;
    g_hash_table_remove(account->rooms, uuid);
}

/* Replicas of the peer whose room is known. (transfer full) */
static GHashTable *
begin_question(VrPeerQuota *self, const char *peer, guint64 *ret_serial)
{
    GHashTable *known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const Account *account;
    GHashTableIter iter;
    gpointer uuid;

    g_mutex_lock(&self->lock);
    *ret_serial = ++self->asked;
    account = g_hash_table_lookup(self->accounts, peer);
    if (account != NULL) {
        g_hash_table_iter_init(&iter, account->rooms);
        while (g_hash_table_iter_next(&iter, &uuid, NULL))
            g_hash_table_add(known, g_strdup(uuid));
    }
    g_mutex_unlock(&self->lock);
    return known;
}

/* At the files of the replica that is asked for, and of those that nobody has looked at yet. */
static gboolean
look_at_rooms(VrPeerQuota *self, const Question *question, GHashTable *known, Facts *facts,
              GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->state, error);

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);
        guint64 bytes;

        g_hash_table_add(facts->there, g_strdup(row->uuid));
        if (row->role != VR_ROLE_TARGET || !g_str_equal(row->peer, question->peer) ||
            (g_hash_table_contains(known, row->uuid) && g_strcmp0(row->uuid, question->look) != 0))
            continue;
        bytes = self->room ? self->room(self->data, row) : 0;
        g_hash_table_insert(facts->rooms, g_strdup(row->uuid), g_memdup2(&bytes, sizeof(bytes)));
    }
    return rows != NULL;
}

/* Without the lock. */
static Facts *
ask(VrPeerQuota *self, const Question *question, GError **error)
{
    g_autoptr(Facts) facts = g_new0(Facts, 1);
    g_autoptr(GHashTable) known = begin_question(self, question->peer, &facts->serial);
    g_autoptr(VrPeer) row = vr_state_peer_get(self->state, question->peer, error);

    facts->there = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    facts->rooms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (row == NULL || !vr_state_peer_usage(self->state, question->peer, &facts->protections,
                                            &facts->stored, error))
        return NULL;
    facts->name = g_strdup(row->name);
    facts->max_protections = row->max_protections;
    facts->limit = row->quota_bytes;
    if (question->disks &&
        (facts->disks = vr_state_peer_disks(self->state, question->peer, error)) == NULL)
        return NULL;
    return look_at_rooms(self, question, known, facts, error) ? g_steal_pointer(&facts) : NULL;
}

static Account *
account_new(void)
{
    Account *account = g_new0(Account, 1);

    account->cycles = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, open_free);
    account->rooms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    account->disks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return account;
}

static void
enter_rooms(Account *account, GHashTable *rooms)
{
    GHashTableIter iter;
    gpointer uuid, bytes;

    g_hash_table_iter_init(&iter, rooms);
    while (g_hash_table_iter_next(&iter, &uuid, &bytes)) {
        drop_room(account, uuid);
        account->held += *(const guint64 *) bytes;
        g_hash_table_insert(account->rooms, g_strdup(uuid), g_memdup2(bytes, sizeof(guint64)));
    }
}

/* Cycles and rooms of replicas that are gone. */
static void
forget_deleted(Account *account, GHashTable *there)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer uuid;

    g_hash_table_iter_init(&iter, account->rooms);
    while (g_hash_table_iter_next(&iter, &uuid, NULL)) {
        if (!g_hash_table_contains(there, uuid))
            g_ptr_array_add(gone, g_strdup(uuid));
    }
    for (guint i = 0; i < gone->len; i++) {
        drop_cycle(account, g_ptr_array_index(gone, i));
        drop_room(account, g_ptr_array_index(gone, i));
    }
}

/* NULL: what is entered already was asked later. Lock held. */
static Account *
enter(VrPeerQuota *self, const char *peer, Facts *facts)
{
    Account *account = g_hash_table_lookup(self->accounts, peer);

    if (account == NULL) {
        account = account_new();
        g_hash_table_insert(self->accounts, g_strdup(peer), account);
    }
    if (facts->serial < account->entered)
        return NULL;
    account->entered = facts->serial;
    g_free(account->name);
    account->name = g_steal_pointer(&facts->name);
    account->max_protections = facts->max_protections;
    account->protections = facts->protections;
    account->limit = facts->limit;
    account->stored = facts->stored;
    if (facts->disks) {
        g_hash_table_unref(account->disks);
        account->disks = g_steal_pointer(&facts->disks);
    }
    enter_rooms(account, facts->rooms);
    forget_deleted(account, facts->there);
    return account;
}

/* Asks, and comes back with the lock held, after an error as well. */
static Account *
refresh(VrPeerQuota *self, const Question *question, GError **error)
{
    for (;;) {
        g_autoptr(Facts) facts = ask(self, question, error);
        Account *account;

        g_mutex_lock(&self->lock);
        account = facts != NULL ? enter(self, question->peer, facts) : NULL;
        if (facts == NULL || account != NULL)
            return account;
        g_mutex_unlock(&self->lock);
    }
}

static guint64
used(const Account *account)
{
    return account->stored + account->held + account->open + account->reserved;
}

/* @replaced: bytes of what is used that are about to go. */
static gboolean
fits_instead(const Account *account, guint64 replaced, guint64 bytes)
{
    guint64 left = used(account) - replaced;

    return account->limit == 0 || (left <= account->limit && bytes <= account->limit - left);
}

static gboolean
fits(const Account *account, guint64 bytes)
{
    return fits_instead(account, 0, bytes);
}

static void
refuse(VrPeerQuota *self, const Account *account, GError **error)
{
    g_autofree char *taken = g_format_size_full(used(account), G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *limit = g_format_size_full(account->limit, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *action =
        g_strdup_printf("On host '%s': virt-replica peer-set %s --quota SIZE; or keep fewer "
                        "recovery points.",
                        self->host, account->name);

    vr_set_error(error, VR_ERROR_NO_SPACE, "quota-exceeded", action,
                 "the replicas of host '%s' take %s on host '%s', and may take %s", account->name,
                 taken, self->host, limit);
}

/* The account, in which there is room for @bytes after it was asked. Comes back with the lock held,
 * after an error as well. */
static Account *
find_room_anew(VrPeerQuota *self, const Question *question, guint64 bytes, GError **error)
{
    Account *account = refresh(self, question, error);

    if (account == NULL || fits(account, bytes))
        return account;
    refuse(self, account, error);
    return NULL;
}

/* The same; nothing is asked if there is room as far as anybody knows. */
static Account *
find_room(VrPeerQuota *self, const char *peer, guint64 bytes, GError **error)
{
    const Question question = {.peer = peer};
    Account *account;

    g_mutex_lock(&self->lock);
    account = g_hash_table_lookup(self->accounts, peer);
    if (account != NULL && fits(account, bytes))
        return account;
    g_mutex_unlock(&self->lock);
    return find_room_anew(self, &question, bytes, error);
}

gboolean
vr_peer_quota_take(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle,
                   guint64 bytes, GError **error)
{
    Account *account = find_room(self, peer, bytes, error);

    if (account != NULL)
        add_bytes(account, uuid, cycle, bytes);
    g_mutex_unlock(&self->lock);
    return account != NULL;
}

gboolean
vr_peer_quota_reserve(VrPeerQuota *self, const char *peer, guint64 bytes, GError **error)
{
    const Question question = {.peer = peer};
    Account *account = find_room_anew(self, &question, bytes, error);

    if (account != NULL)
        account->reserved += bytes;
    g_mutex_unlock(&self->lock);
    return account != NULL;
}

void
vr_peer_quota_release(VrPeerQuota *self, const char *peer, guint64 bytes)
{
    Account *account;

    g_mutex_lock(&self->lock);
    account = g_hash_table_lookup(self->accounts, peer);
    if (account != NULL)
        account->reserved -= MIN(bytes, account->reserved);
    g_mutex_unlock(&self->lock);
}

void
vr_peer_quota_charge(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle,
                     guint64 bytes)
{
    Account *account;

    g_mutex_lock(&self->lock);
    account = g_hash_table_lookup(self->accounts, peer);
    if (account != NULL) {
        account->reserved -= MIN(bytes, account->reserved);
        add_bytes(account, uuid, cycle, bytes);
    }
    g_mutex_unlock(&self->lock);
}

static guint
disks_of(const Account *account, const char *uuid)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(account->disks, uuid));
}

/* Of the peer's other replicas, those of cycles under way included. */
static guint
count_disks(const Account *account, const char *uuid)
{
    GHashTableIter iter;
    gpointer other, value;
    guint disks = 0;

    g_hash_table_iter_init(&iter, account->disks);
    while (g_hash_table_iter_next(&iter, &other, &value))
        disks += g_str_equal(other, uuid) ? 0 : GPOINTER_TO_UINT(value);
    g_hash_table_iter_init(&iter, account->cycles);
    while (g_hash_table_iter_next(&iter, &other, &value)) {
        guint open = ((const Open *) value)->disks;

        if (!g_str_equal(other, uuid))
            disks += open - MIN(open, disks_of(account, other));
    }
    return disks;
}

static gboolean
check_disks(const VrPeerQuota *self, const Account *account, const char *uuid, guint disks,
            GError **error)
{
    guint max = MAX(account->max_protections * VR_PEER_DISKS_EACH, VR_PEER_DISKS_LEAST);
    guint others = count_disks(account, uuid);
    g_autofree char *action = NULL;

    if (others + disks <= max)
        return TRUE;
    action = g_strdup_printf("On host '%s': virt-replica peer-set %s --max-protections N; or "
                             "exclude disks.",
                             self->host, account->name);
    vr_set_error(error, VR_ERROR_REFUSED, "too-many-disks", action,
                 "the replicas of host '%s' have %u disks on host '%s' and may have %u: %u more "
                 "cannot come",
                 account->name, others, self->host, max, disks);
    return FALSE;
}

gboolean
vr_peer_quota_prepare(VrPeerQuota *self, const char *peer, const char *uuid, guint disks,
                      guint64 bytes, GError **error)
{
    const Question question = {.peer = peer, .disks = TRUE};
    Account *account = refresh(self, &question, error);
    Open *open = account ? g_hash_table_lookup(account->cycles, uuid) : NULL;

    /* the cycle before is dropped, or continued: then BEGIN says what it holds */
    if (account != NULL && !fits_instead(account, open ? open->bytes : 0, bytes)) {
        refuse(self, account, error);
        account = NULL;
    }
    if (account != NULL && !check_disks(self, account, uuid, disks, error))
        account = NULL;
    if (account != NULL) {
        add_bytes(account, uuid, "", 0);
        open = g_hash_table_lookup(account->cycles, uuid);
        open->disks = MAX(open->disks, disks);
        account->reserved += bytes;
    }
    g_mutex_unlock(&self->lock);
    return account != NULL;
}

gboolean
vr_peer_quota_begin(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle,
                    guint64 held, GError **error)
{
    const Question question = {.peer = peer, .look = uuid};
    Account *account = refresh(self, &question, error);
    gboolean ok;

    if (account != NULL) {
        const Open *before = g_hash_table_lookup(account->cycles, uuid);
        guint disks = before ? before->disks : 0;

        drop_cycle(account, uuid);
        add_bytes(account, uuid, cycle, held);
        ((Open *) g_hash_table_lookup(account->cycles, uuid))->disks = disks;
    }
    ok = account != NULL && fits(account, 0);
    if (account != NULL && !ok)
        refuse(self, account, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

static gboolean
is_open(const Account *account, const char *uuid, const char *cycle)
{
    const Open *open = account ? g_hash_table_lookup(account->cycles, uuid) : NULL;

    return open != NULL && g_str_equal(open->cycle, cycle);
}

/* Its bytes are those of a recovery point at the moment when they are no cycle's any more. */
void
vr_peer_quota_end(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle)
{
    const Question question = {.peer = peer, .look = uuid};
    Account *account;
    gboolean open;

    g_mutex_lock(&self->lock);
    open = is_open(g_hash_table_lookup(self->accounts, peer), uuid, cycle);
    g_mutex_unlock(&self->lock);
    if (!open)
        return;
    (void) refresh(self, &question, NULL);
    account = g_hash_table_lookup(self->accounts, peer);
    if (is_open(account, uuid, cycle))
        drop_cycle(account, uuid);
    g_mutex_unlock(&self->lock);
}

gboolean
vr_peer_quota_usage(VrPeerQuota *self, const char *peer, guint *ret_protections, guint64 *ret_bytes,
                    GError **error)
{
    const Question question = {.peer = peer};
    const Account *account = refresh(self, &question, error);

    if (account != NULL) {
        *ret_protections = account->protections;
        *ret_bytes = account->stored + account->held + account->open;
    }
    g_mutex_unlock(&self->lock);
    return account != NULL;
}
