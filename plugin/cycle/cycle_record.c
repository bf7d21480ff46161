/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/cycle_run.h"

#include <string.h>

#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/replica/manifest.h"

#define DISK_NAME_MAX 64

static VrManifest *
open_one(const char *dir, const char *name, guint64 size_bytes, GError **error)
{
    return vr_make_dir(dir, 0700, error) ? vr_manifest_open(dir, name, size_bytes, error) : NULL;
}

GPtrArray *
vr_cycle_manifests_open(VrApp *app, const char *uuid, GPtrArray *disks, GError **error)
{
    g_autofree char *dir = vr_app_manifest_dir(app, uuid);
    g_autoptr(GPtrArray) manifests =
        g_ptr_array_new_with_free_func((GDestroyNotify) vr_manifest_close);

    for (guint i = 0; i < disks->len; i++) {
        const VrPlanDisk *disk = g_ptr_array_index(disks, i);
        VrManifest *manifest = open_one(dir, disk->name, disk->size_bytes, error);

        if (manifest == NULL)
            return NULL;
        g_ptr_array_add(manifests, manifest);
    }
    return g_steal_pointer(&manifests);
}

GPtrArray *
vr_cycle_manifests_open_base(VrApp *app, const VrProtection *row, GError **error)
{
    g_autofree char *dir = vr_app_manifest_dir(app, row->uuid);
    g_autoptr(GPtrArray) manifests =
        g_ptr_array_new_with_free_func((GDestroyNotify) vr_manifest_close);
    g_autoptr(JsonNode) base = row->disks ? json_from_string(row->disks, NULL) : NULL;
    JsonArray *array = vr_json_as_array(base);

    for (guint i = 0; array != NULL && i < json_array_get_length(array); i++) {
        JsonObject *object =
            vr_json_object(json_array_get_element(array, i), "a disk of the base", error);
        const char *name = object ? vr_json_string(object, "name", DISK_NAME_MAX, error) : NULL;
        guint64 size_bytes;
        VrManifest *manifest;

        if (name == NULL || !vr_json_uint(object, "size", VR_MAX_DISK_BYTES, &size_bytes, error))
            return NULL;
        manifest = open_one(dir, name, size_bytes, error);
        if (manifest == NULL)
            return NULL;
        g_ptr_array_add(manifests, manifest);
    }
    return g_steal_pointer(&manifests);
}

gboolean
vr_cycle_manifests_apply(GPtrArray *manifests, GError **error)
{
    for (guint i = 0; i < manifests->len; i++) {
        if (!vr_manifest_apply(g_ptr_array_index(manifests, i), error))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_cycle_manifests_discard(GPtrArray *manifests, GError **error)
{
    for (guint i = 0; i < manifests->len; i++) {
        if (!vr_manifest_discard(g_ptr_array_index(manifests, i), error))
            return FALSE;
    }
    return TRUE;
}

static void
replace(char **field, const char *value)
{
    g_free(*field);
    *field = g_strdup(value);
}

gboolean
vr_cycle_accept_rp(const VrProtection *row, const VrCycleCommit *commit, VrRecoveryPoint *rp,
                   GError **error)
{
    if (strcmp(commit->cycle, rp->cycle) != 0)
        vr_set_error(error, VR_ERROR_INVALID, "bad-message",
                     "Use the same version on both hosts; look at the log of the target.",
                     "domain '%s': the target answered for cycle %s with the recovery point of "
                     "cycle %s",
                     row->name, commit->cycle, rp->cycle);
    else if (rp->number <= row->base_number)
        vr_set_error(error, VR_ERROR_INVALID, "bad-message",
                     "Use the same version on both hosts; look at the log of the target.",
                     "domain '%s': the target calls what it committed RP %" G_GUINT64_FORMAT
                     ", which is not above RP %" G_GUINT64_FORMAT " that it is made on",
                     row->name, rp->number, row->base_number);
    else if (strcmp(commit->root, rp->root) != 0)
        vr_set_error(error, VR_ERROR_CORRUPT, "root-differs", "Look at the log of the target.",
                     "domain '%s': RP %" G_GUINT64_FORMAT
                     " was committed with another root than that of the source",
                     row->name, rp->number);
    else {
        rp->time_us = commit->time_us;
        rp->consistency = commit->consistency;
        return TRUE;
    }
    return FALSE;
}

void
vr_cycle_set_base(VrProtection *row, const VrCycleJournal *journal, const VrRecoveryPoint *rp)
{
    row->base_number = rp->number;
    replace(&row->base_cycle, rp->cycle);
    replace(&row->base_root, rp->root);
    row->base_time_us = rp->time_us;
    row->base_consistency = rp->consistency;
    replace(&row->checkpoint, journal->checkpoint);
    replace(&row->disks, journal->disks);
    row->manifest_unsure = FALSE;
    g_clear_pointer(&row->last_error, g_free);
}

gboolean
vr_cycle_record(VrApp *app, VrProtection *row, const VrCycleJournal *journal,
                const VrRecoveryPoint *rp, GError **error)
{
    vr_cycle_set_base(row, journal, rp);
    return vr_state_protection_set_base(app->state, row, error);
}

gboolean
vr_cycle_finish(VrApp *app, VrProtection *row, GError **error)
{
    g_autoptr(GPtrArray) manifests = vr_cycle_manifests_open_base(app, row, error);

    return manifests != NULL && vr_cycle_manifests_apply(manifests, error);
}
