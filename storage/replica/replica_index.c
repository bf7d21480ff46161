/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/replica/replica_private.h"
#include "storage/replica/store_age.h"

static char *
read_index(VrReplica *self, gsize *ret_len)
{
    g_autofree char *path = vr_replica_path(self, VR_STORE_INDEX_NAME);

    return vr_read_file(path, VR_STORE_INDEX_MAX_BYTES, ret_len, NULL);
}

gboolean
vr_replica_write_index(VrReplica *self, GError **error)
{
    g_autofree char *path = vr_replica_path(self, VR_STORE_INDEX_NAME);
    g_autofree char *text = vr_store_index_text(self->state, self->uuid, error);
    g_autofree char *before = NULL;
    gsize len = 0;

    if (!text)
        return FALSE;
    before = read_index(self, &len);
    return (before && strlen(text) == len && memcmp(before, text, len) == 0) ||
           vr_write_file_atomic(path, text, strlen(text), 0600, error);
}

void
vr_replica_try_index(VrReplica *self)
{
    g_autoptr(GError) local = NULL;

    if (!vr_replica_write_index(self, &local))
        g_debug("replica of %s: %s", self->uuid, local->message);
}

gboolean
vr_replica_refresh_index(VrReplica *self, GError **error)
{
    gboolean ok;

    g_mutex_lock(&self->lock);
    ok = vr_replica_write_index(self, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

gboolean
vr_replica_check_index(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    const VrRpRow *last = rows ? vr_replica_last_row(rows) : NULL;
    g_autoptr(VrProtection) protection = NULL;
    gsize len = 0;
    g_autofree char *text = read_index(self, &len);
    g_autofree char *action = NULL;

    if (!rows || !vr_state_protection_find(self->state, self->uuid, &protection, error))
        return FALSE;
    if (!text || !vr_store_age_is_ahead(text, len, protection, last ? last->rp.number : 0))
        return TRUE;
    action = g_strdup_printf(
        "On the host of that store: 'virt-replica store-scan %s --adopt %s' takes over what the "
        "store says; or put the current state database back.",
        protection ? protection->store : "STORE", self->uuid);
    vr_set_error(error, VR_ERROR_CORRUPT, "state-older-than-store", action,
                 "the state database is older than the replica in '%s': it ends at recovery point "
                 "%" G_GUINT64_FORMAT ", the store at %" G_GUINT64_FORMAT
                 "; nothing was changed there",
                 self->dir, last ? last->rp.number : 0, vr_store_index_newest(text, len));
    return FALSE;
}
