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

/* "UUID (source, with host 'x')". (transfer full) */
static char *
describe(VrApp *app, const VrProtection *row)
{
    g_autoptr(VrPeer) peer = vr_state_peer_get(app->state, row->peer, NULL);

    return g_strdup_printf("%s (%s, with host '%s')", row->uuid, vr_role_name(row->role),
                           peer ? peer->name : row->peer);
}

static void
refuse_ambiguous(VrApp *app, const char *name, const VrProtection *one, const VrProtection *other,
                 GError **error)
{
    g_autofree char *shown = vr_display_name(name, 255);
    g_autofree char *first = describe(app, one);
    g_autofree char *second = describe(app, other);

    vr_set_error(error, VR_ERROR_INVALID, "ambiguous-name", "Name it by its UUID.",
                 "two protections on this host are called '%s': %s and %s", shown, first, second);
}

/* A UUID before names: a peer gives names, and may give one that is another's UUID. NULL with or
 * without error. Borrowed. */
static VrProtection *
find_row(VrApp *app, GPtrArray *rows, const char *domain, GError **error)
{
    VrProtection *found = NULL;

    for (guint i = 0; i < rows->len; i++) {
        VrProtection *row = g_ptr_array_index(rows, i);

        if (strcmp(row->uuid, domain) == 0)
            return row;
    }
    for (guint i = 0; i < rows->len; i++) {
        VrProtection *row = g_ptr_array_index(rows, i);

        if (strcmp(row->name, domain) != 0)
            continue;
        if (found != NULL) {
            refuse_ambiguous(app, domain, found, row, error);
            return NULL;
        }
        found = row;
    }
    return found;
}

VrProtection *
vr_app_find_protection(VrApp *app, const char *domain, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, error);
    g_autoptr(GError) ambiguous = NULL;
    g_autofree char *shown = NULL;
    VrProtection *found = rows ? find_row(app, rows, domain, &ambiguous) : NULL;

    if (rows == NULL)
        return NULL;
    if (found != NULL)
        return vr_state_protection_get(app->state, found->uuid, error);
    if (ambiguous != NULL) {
        g_propagate_error(error, g_steal_pointer(&ambiguous));
        return NULL;
    }
    shown = vr_display_name(domain, 255);
    vr_set_error(error, VR_ERROR_NOT_FOUND, "not-protected",
                 "See 'virt-replica list --all'; protect it with 'virt-replica protect'.",
                 "domain '%s' is not protected by or replicated to this host", shown);
    return NULL;
}

VrProtection *
vr_app_find_source(VrApp *app, const char *domain, GError **error)
{
    g_autoptr(VrProtection) row = vr_app_find_protection(app, domain, error);
    g_autoptr(VrPeer) peer = row ? vr_state_peer_get(app->state, row->peer, NULL) : NULL;
    g_autofree char *action = NULL;

    if (row == NULL || row->role == VR_ROLE_SOURCE || row->state == VR_PROTECTION_FAILED_OVER)
        return g_steal_pointer(&row);
    action = g_strdup_printf("Run it on host '%s'.", peer ? peer->name : row->peer);
    vr_set_error(error, VR_ERROR_REFUSED, "not-source", action,
                 "domain '%s': this host holds its replica; its source decides", row->name);
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
