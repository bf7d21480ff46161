/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/app.h"

#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"

char *
vr_app_manifest_dir(const VrApp *app, const char *uuid)
{
    return g_build_filename(app->config->state_dir, "manifests", uuid, NULL);
}

VrProtection *
vr_app_find_protection(VrApp *app, const char *domain, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, error);
    g_autofree char *shown = NULL;

    if (rows == NULL)
        return NULL;
    for (guint pass = 0; pass < 2; pass++) {
        for (guint i = 0; i < rows->len; i++) {
            VrProtection *row = g_ptr_array_index(rows, i);

            if (strcmp(pass == 0 ? row->name : row->uuid, domain) == 0) {
                g_ptr_array_set_free_func(rows, NULL);
                g_ptr_array_remove_index(rows, i);
                g_ptr_array_set_free_func(rows, (GDestroyNotify) vr_protection_free);
                return row;
            }
        }
    }
    shown = vr_display_name(domain, 255);
    vr_set_error(error, VR_ERROR_NOT_FOUND, "not-protected",
                 "See 'virt-replica list --all'; protect it with 'virt-replica protect'.",
                 "domain '%s' is not protected by or replicated to this host", shown);
    return NULL;
}

gboolean
vr_app_set_state(VrApp *app, const char *uuid, VrProtectionEvent event, VrProtection *row,
                 GError **error)
{
    g_autoptr(VrProtection) now = NULL;
    VrProtectionState before;

    if (!vr_state_begin(app->state, error))
        return FALSE;
    now = vr_state_protection_get(app->state, uuid, error);
    if (now == NULL)
        goto undo;
    before = now->state;
    if (!vr_protection_next(before, event, &now->state, error)) {
        g_prefix_error(error, "domain '%s': ", now->name);
        goto undo;
    }
    if (!vr_state_protection_set_state(app->state, uuid, now->state, error))
        goto undo;
    if (!vr_state_commit(app->state, error))
        return FALSE;
    if (row != NULL)
        row->state = now->state;
    if (before != now->state)
        g_message("domain '%s': %s -> %s", now->name, vr_protection_state_name(before),
                  vr_protection_state_name(now->state));
    return TRUE;

undo:
    vr_state_rollback(app->state);
    return FALSE;
}
