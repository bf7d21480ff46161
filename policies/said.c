/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/said.h"

struct _VrSaid {
    GHashTable *texts; /* owned; key -> text, both owned */
};

VrSaid *
vr_said_new(void)
{
    VrSaid *self = g_new0(VrSaid, 1);

    self->texts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
vr_said_free(VrSaid *self)
{
    if (!self)
        return;
    g_hash_table_unref(self->texts);
    g_free(self);
}

gboolean
vr_said_changed(VrSaid *self, const char *key, const char *text)
{
    if (g_strcmp0(g_hash_table_lookup(self->texts, key), text) == 0)
        return FALSE;
    if (text)
        g_hash_table_insert(self->texts, g_strdup(key), g_strdup(text));
    else
        g_hash_table_remove(self->texts, key);
    return TRUE;
}
