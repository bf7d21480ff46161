/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/checked_definitions.h"

#include "storage/util/file_util.h"

struct _VrCheckedDefinitions {
    GMutex lock;
    GHashTable *good; /* owned: UUID (owned) -> digest (owned) */
};

VrCheckedDefinitions *
vr_checked_definitions_new(void)
{
    VrCheckedDefinitions *self = g_new0(VrCheckedDefinitions, 1);

    g_mutex_init(&self->lock);
    self->good = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
vr_checked_definitions_free(VrCheckedDefinitions *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->good);
    g_mutex_clear(&self->lock);
    g_free(self);
}

/* (transfer full) */
static char *
digest(const char *xml, const char *const *disks, const char *const *attachments)
{
    g_autofree char *first = g_strjoinv("\n", (char **) disks);
    g_autofree char *second = g_strjoinv("\n", (char **) attachments);
    g_autoptr(GString) all = g_string_new(xml);

    g_string_append_c(all, '\0');
    g_string_append(all, first);
    g_string_append_c(all, '\0');
    g_string_append(all, second);
    return vr_sha256_hex(all->str, all->len);
}

gboolean
vr_checked_definitions_has(VrCheckedDefinitions *self, const char *uuid, const char *xml,
                           const char *const *disks, const char *const *attachments)
{
    g_autofree char *wanted = digest(xml, disks, attachments);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    return g_strcmp0(g_hash_table_lookup(self->good, uuid), wanted) == 0;
}

void
vr_checked_definitions_put(VrCheckedDefinitions *self, const char *uuid, const char *xml,
                           const char *const *disks, const char *const *attachments)
{
    char *found = digest(xml, disks, attachments);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    g_hash_table_replace(self->good, g_strdup(uuid), found);
}

void
vr_checked_definitions_forget(VrCheckedDefinitions *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    g_hash_table_remove(self->good, uuid);
}
