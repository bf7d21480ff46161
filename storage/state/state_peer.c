/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/state/state_peer.h"

#include "policies/error.h"
#include "policies/network_map.h"
#include "storage/state/state_private.h"

/* Invitations are kept this long behind their expiry, to say "used" or "expired" instead of
 * "unknown". */
#define INVITE_KEEP_US (7 * 24 * G_TIME_SPAN_HOUR)

void
vr_peer_free(VrPeer *self)
{
    if (!self)
        return;
    g_free(self->fingerprint);
    g_free(self->name);
    g_free(self->address);
    g_free(self);
}

static gpointer
peer_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    VrPeer *self = g_new0(VrPeer, 1);

    self->fingerprint = vr_column_text(stmt, 0);
    self->name = vr_column_text(stmt, 1);
    self->address = vr_column_text(stmt, 2);
    self->added_us = sqlite3_column_int64(stmt, 3);
    self->last_seen_us = sqlite3_column_int64(stmt, 4);
    self->quota_bytes = (guint64) sqlite3_column_int64(stmt, 5);
    self->max_protections = (guint) sqlite3_column_int64(stmt, 6);
    self->delete_grace_us = sqlite3_column_int64(stmt, 7);
    return self;
}

#define PEER_COLUMNS                                                                               \
    "fingerprint, name, address, added_us, last_seen_us, quota_bytes, max_protections, "           \
    "delete_grace_us"

static gboolean
is_constraint(const GError *error)
{
    return g_str_equal(vr_error_slug(error), "state-constraint");
}

gboolean
vr_state_peer_put(VrState *self, const VrPeer *row, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_state_run(self, NULL, &local,
                     "INSERT INTO peer (fingerprint, name, address, added_us, last_seen_us) VALUES "
                     "(?1, ?2, ?3, ?4, ?5) ON CONFLICT (fingerprint) DO UPDATE SET"
                     " name = ?2, address = ?3, added_us = ?4, last_seen_us = ?5",
                     "sssii", row->fingerprint, row->name, row->address, row->added_us,
                     row->last_seen_us))
        return TRUE;
    if (is_constraint(local))
        vr_set_error(error, VR_ERROR_CONFLICT, "peer-name-taken",
                     "Choose another name with --name, or remove the old peer.",
                     "another peer with another key has the name '%s'", row->name);
    else
        g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

VrPeer *
vr_state_peer_get(VrState *self, const char *fingerprint_or_name, GError **error)
{
    g_autoptr(GError) local = NULL;
    VrPeer *row =
        vr_state_row(self, peer_row, &local,
                     "SELECT " PEER_COLUMNS " FROM peer WHERE fingerprint = ?1 OR name = ?1", "s",
                     fingerprint_or_name);

    if (!row && !local)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-peer",
                     "See 'virt-replica peer-list' for the peers.", "no peer '%s'",
                     fingerprint_or_name);
    else if (!row)
        g_propagate_error(error, g_steal_pointer(&local));
    return row;
}

GPtrArray *
vr_state_peer_list(VrState *self, GError **error)
{
    return vr_state_rows(self, peer_row, (GDestroyNotify) vr_peer_free, error,
                         "SELECT " PEER_COLUMNS " FROM peer ORDER BY name", "");
}

gboolean
vr_state_peer_seen(VrState *self, const char *fingerprint, gint64 now_us, GError **error)
{
    return vr_state_run(self, NULL, error,
                        "UPDATE peer SET last_seen_us = ?2 WHERE fingerprint = ?1", "si",
                        fingerprint, now_us);
}

gboolean
vr_state_peer_set_quota(VrState *self, const char *fingerprint, guint64 bytes, GError **error)
{
    return vr_state_run(self, NULL, error,
                        "UPDATE peer SET quota_bytes = ?2 WHERE fingerprint = ?1", "si",
                        fingerprint, (gint64) bytes);
}

gboolean
vr_state_peer_set_max_protections(VrState *self, const char *fingerprint, guint number,
                                  GError **error)
{
    return vr_state_run(self, NULL, error,
                        "UPDATE peer SET max_protections = ?2 WHERE fingerprint = ?1", "si",
                        fingerprint, (gint64) number);
}

gboolean
vr_state_peer_set_delete_grace(VrState *self, const char *fingerprint, gint64 grace_us,
                               GError **error)
{
    return vr_state_run(self, NULL, error,
                        "UPDATE peer SET delete_grace_us = ?2 WHERE fingerprint = ?1", "si",
                        fingerprint, grace_us);
}

static gboolean
replace_networks(VrState *self, const char *fingerprint, const char *const *names, GError **error)
{
    if (!vr_state_run(self, NULL, error, "DELETE FROM peer_network WHERE peer = ?1", "s",
                      fingerprint))
        return FALSE;
    for (; *names; names++) {
        if (!vr_state_run(self, NULL, error, "INSERT OR IGNORE INTO peer_network VALUES (?1, ?2)",
                          "ss", fingerprint, *names))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_state_peer_set_networks(VrState *self, const char *fingerprint, const char *const *names,
                           GError **error)
{
    if (!vr_state_begin(self, error))
        return FALSE;
    if (replace_networks(self, fingerprint, names, error))
        return vr_state_commit(self, error);
    vr_state_rollback(self);
    return FALSE;
}

static gpointer
network_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    return vr_column_text(stmt, 0);
}

char **
vr_state_peer_networks(VrState *self, const char *fingerprint, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rows(
        self, network_row, g_free, error,
        "SELECT network FROM peer_network WHERE peer = ?1 ORDER BY network", "s", fingerprint);

    if (!rows)
        return NULL;
    g_ptr_array_add(rows, NULL);
    return (char **) g_ptr_array_steal(rows, NULL);
}

gboolean
vr_state_peer_usage(VrState *self, const char *fingerprint, guint *ret_protections,
                    guint64 *ret_bytes, GError **error)
{
    gint64 number, bytes;

    if (!vr_state_number(self, 0, &number, error,
                         "SELECT count(*) FROM protection WHERE peer = ?1 AND role = 'target'", "s",
                         fingerprint) ||
        !vr_state_number(self, 0, &bytes, error,
                         "SELECT coalesce(sum(rp.bytes), 0) FROM protection JOIN rp USING (uuid)"
                         " WHERE peer = ?1 AND role = 'target'",
                         "s", fingerprint))
        return FALSE;
    *ret_protections = (guint) number;
    *ret_bytes = (guint64) bytes;
    return TRUE;
}

typedef struct {
    char *uuid; /* owned */
    guint disks;
} ReplicaDisks;

static void
replica_disks_free(gpointer data)
{
    ReplicaDisks *self = data;

    g_free(self->uuid);
    g_free(self);
}

static gpointer
replica_disks_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    ReplicaDisks *self = g_new0(ReplicaDisks, 1);

    self->uuid = vr_column_text(stmt, 0);
    self->disks = (guint) sqlite3_column_int64(stmt, 1);
    return self;
}

GHashTable *
vr_state_peer_disks(VrState *self, const char *fingerprint, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rows(
        self, replica_disks_row, replica_disks_free, error,
        "SELECT uuid, json_array_length(rp.disks) FROM protection JOIN rp USING (uuid)"
        " WHERE peer = ?1 AND role = 'target'"
        " AND number = (SELECT max(number) FROM rp r WHERE r.uuid = rp.uuid)",
        "s", fingerprint);
    GHashTable *disks;

    if (!rows)
        return NULL;
    disks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < rows->len; i++) {
        ReplicaDisks *row = rows->pdata[i];

        g_hash_table_insert(disks, g_steal_pointer(&row->uuid), GUINT_TO_POINTER(row->disks));
    }
    return disks;
}

gboolean
vr_state_peer_delete(VrState *self, const char *fingerprint, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_state_run(self, NULL, &local, "DELETE FROM peer WHERE fingerprint = ?1", "s",
                     fingerprint))
        return TRUE;
    if (is_constraint(local))
        vr_set_error(error, VR_ERROR_REFUSED, "peer-in-use",
                     "Unprotect the domains of this peer first.", "peer %s still has protections",
                     fingerprint);
    else
        g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
vr_state_invite_add(VrState *self, const char *secret_sha256, const char *name,
                    const char *const *networks, gint64 expires_us, GError **error)
{
    g_autofree char *list = networks ? vr_network_list_format(networks) : g_strdup("");

    return vr_state_run(self, NULL, error,
                        "INSERT INTO invite (secret_sha256, name, networks, expires_us)"
                        " VALUES (?1, ?2, ?3, ?4)",
                        "sssi", secret_sha256, name, list, expires_us);
}

typedef struct {
    char *name;     /* owned */
    char *networks; /* owned: a list, or "" */
    gint64 expires_us;
    gboolean used;
} Invite;

static gpointer
invite_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    Invite *self = g_new0(Invite, 1);

    self->name = vr_column_text(stmt, 0);
    self->expires_us = sqlite3_column_int64(stmt, 1);
    self->used = sqlite3_column_int(stmt, 2) != 0;
    self->networks = vr_column_text(stmt, 3);
    return self;
}

static void
invite_free(Invite *self)
{
    g_free(self->name);
    g_free(self->networks);
    g_free(self);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Invite, invite_free)

/* The invitation with that hash if it can be used now. */
static Invite *
usable_invite(VrState *self, const char *secret_sha256, gint64 now_us, GError **error)
{
    static const char *action =
        "Make a new token with 'virt-replica peer-invite' on the other host.";
    g_autoptr(GError) local = NULL;
    g_autoptr(Invite) invite =
        vr_state_row(self, invite_row, &local,
                     "SELECT name, expires_us, used, networks FROM invite WHERE secret_sha256 = ?1",
                     "s", secret_sha256);

    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (!invite)
        vr_set_error(error, VR_ERROR_AUTH, "token-unknown", action, "the token is not known here");
    else if (invite->used)
        vr_set_error(error, VR_ERROR_AUTH, "token-used", action, "the token was used already");
    else if (invite->expires_us <= now_us)
        vr_set_error(error, VR_ERROR_AUTH, "token-expired", action, "the token has expired");
    else
        return g_steal_pointer(&invite);
    return NULL;
}

gboolean
vr_state_invite_check(VrState *self, const char *secret_sha256, gint64 now_us, GError **error)
{
    g_autoptr(Invite) invite = usable_invite(self, secret_sha256, now_us, error);

    return invite != NULL;
}

static Invite *
use_invite(VrState *self, const char *secret_sha256, gint64 now_us, GError **error)
{
    g_autoptr(Invite) invite = usable_invite(self, secret_sha256, now_us, error);

    if (invite &&
        vr_state_run(self, NULL, error, "UPDATE invite SET used = 1 WHERE secret_sha256 = ?1", "s",
                     secret_sha256) &&
        vr_state_run(self, NULL, error, "DELETE FROM invite WHERE expires_us < ?1", "i",
                     now_us - INVITE_KEEP_US))
        return g_steal_pointer(&invite);
    return NULL;
}

gboolean
vr_state_invite_use(VrState *self, const char *secret_sha256, gint64 now_us, char **ret_name,
                    char ***ret_networks, GError **error)
{
    g_autoptr(Invite) invite = NULL;
    g_auto(GStrv) networks = NULL;

    if (!vr_state_begin(self, error))
        return FALSE;
    invite = use_invite(self, secret_sha256, now_us, error);
    if (!invite ||
        (*invite->networks && !(networks = vr_network_list_parse(invite->networks, error)))) {
        vr_state_rollback(self);
        return FALSE;
    }
    if (!vr_state_commit(self, error))
        return FALSE;
    if (ret_name)
        *ret_name = g_steal_pointer(&invite->name);
    if (ret_networks)
        *ret_networks = g_steal_pointer(&networks);
    return TRUE;
}

static void
netmap_row_free(VrNetmapRow *self)
{
    if (!self)
        return;
    g_free(self->peer);
    g_free(self->source);
    g_free(self->target);
    g_free(self->test);
    g_free(self);
}

static gpointer
netmap_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    VrNetmapRow *self = g_new0(VrNetmapRow, 1);

    self->peer = vr_column_text(stmt, 0);
    self->source = vr_column_text(stmt, 1);
    self->target = vr_column_text(stmt, 2);
    self->test = vr_column_text(stmt, 3);
    return self;
}

gboolean
vr_state_netmap_put(VrState *self, const VrNetmapRow *row, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_state_run(self, NULL, &local,
                     "INSERT INTO netmap VALUES (?1, ?2, ?3, ?4)"
                     " ON CONFLICT (peer, source) DO UPDATE SET target = ?3, test = ?4",
                     "ssss", row->peer, row->source, row->target, row->test))
        return TRUE;
    if (is_constraint(local))
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-peer",
                     "See 'virt-replica peer-list' for the peers.", "no peer %s", row->peer);
    else
        g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
vr_state_netmap_delete(VrState *self, const char *peer, const char *source, GError **error)
{
    int changes = 0;

    if (!vr_state_run(self, &changes, error, "DELETE FROM netmap WHERE peer = ?1 AND source = ?2",
                      "ss", peer, source))
        return FALSE;
    if (changes == 0)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-netmap",
                     "See 'virt-replica netmap-list' for the mapped networks.",
                     "network '%s' is not mapped for that peer", source);
    return changes != 0;
}

GPtrArray *
vr_state_netmap_list(VrState *self, const char *peer_or_null, GError **error)
{
    return vr_state_rows(self, netmap_row, (GDestroyNotify) netmap_row_free, error,
                         "SELECT * FROM netmap WHERE ?1 IS NULL OR peer = ?1 ORDER BY peer, source",
                         "s", peer_or_null);
}
