/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "storage/file_util.h"
#include "storage/replica_private.h"
#include "storage/store_index.h"

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
    gsize len = 0;
    g_autofree char *text = read_index(self, &len);
    guint64 newest = text ? vr_store_index_newest(text, len) : 0;

    if (!rows)
        return FALSE;
    if (newest <= (last ? last->rp.number : 0))
        return TRUE;
    vr_set_error(error, VR_ERROR_CORRUPT, "state-older-than-store",
                 "Put the current state database back; nothing in the store was changed.",
                 "store '%s' holds recovery point %" G_GUINT64_FORMAT
                 " but the database ends at %" G_GUINT64_FORMAT,
                 self->dir, newest, last ? last->rp.number : 0);
    return FALSE;
}
