/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/cycle_plan.h"

#include "policies/error.h"
#include "storage/util/json_util.h"

static void
plan_disk_free(gpointer data)
{
    VrPlanDisk *disk = data;

    g_free(disk->name);
    g_free(disk->path);
    g_free(disk);
}

void
vr_cycle_plan_free(VrCyclePlan *self)
{
    if (self == NULL)
        return;
    g_clear_pointer(&self->disks, g_ptr_array_unref);
    g_free(self->name);
    g_free(self->xml);
    g_free(self);
}

static gboolean
point_kind(const VrDomInfo *info, gboolean final, VrPointKind *ret_kind, GError **error)
{
    switch (info->state) {
    case VR_DOM_SHUTOFF:
        *ret_kind = VR_POINT_OFFLINE;
        return TRUE;
    case VR_DOM_RUNNING:
    case VR_DOM_PAUSED:
    case VR_DOM_IO_ERROR:
    case VR_DOM_CRASHED:
        if (!final) {
            *ret_kind = VR_POINT_BACKUP;
            return TRUE;
        }
        vr_set_error(error, VR_ERROR_REFUSED, "domain-running", "Shut it down first.",
                     "domain '%s' is %s; the final cycle needs it shut off", info->name,
                     vr_dom_state_name(info->state));
        return FALSE;
    case VR_DOM_STOPPING:
        break;
    }
    vr_set_error(error, VR_ERROR_TRANSIENT, "domain-stopping",
                 "It is tried again when it is shut off.", "domain '%s' is shutting down",
                 info->name);
    return FALSE;
}

/* The entry of @name in the base's list of disks, or NULL. */
static JsonObject *
base_disk(JsonNode *base, const char *name)
{
    JsonArray *array = vr_json_as_array(base);

    for (guint i = 0; array != NULL && i < json_array_get_length(array); i++) {
        JsonObject *object = vr_json_object_at(array, i);

        if (object != NULL &&
            g_strcmp0(json_object_get_string_member_with_default(object, "name", NULL), name) == 0)
            return object;
    }
    return NULL;
}

static gboolean
same_image(JsonObject *base, const VrDomDisk *disk)
{
    return g_strcmp0(json_object_get_string_member_with_default(base, "path", NULL), disk->path) ==
               0 &&
           (guint64) json_object_get_int_member_with_default(base, "inode", 0) == disk->inode &&
           (guint64) json_object_get_int_member_with_default(base, "device", 0) ==
               disk->device_id &&
           (guint64) json_object_get_int_member_with_default(base, "size", 0) == disk->size_bytes;
}

static gboolean
is_replicated(const VrProtection *row, const VrDomDisk *disk)
{
    g_auto(GStrv) excluded = g_strsplit(row->exclude, ",", -1);

    return g_strcmp0(disk->device, "disk") == 0 && !disk->readonly && disk->path != NULL &&
           !g_strv_contains((const char *const *) excluded, disk->target);
}

static VrPlanDisk *
plan_disk(const VrProtection *row, JsonNode *base, const VrDomDisk *disk)
{
    VrPlanDisk *plan = g_new0(VrPlanDisk, 1);
    JsonObject *before = base_disk(base, disk->target);

    plan->name = g_strdup(disk->target);
    plan->path = g_strdup(disk->path);
    plan->size_bytes = disk->size_bytes;
    plan->device_id = disk->device_id;
    plan->inode = disk->inode;
    plan->fresh = before == NULL;
    plan->tracked = before != NULL && row->checkpoint != NULL && same_image(before, disk);
    return plan;
}

static VrCycleKind
cycle_kind(const VrCyclePlan *plan, const VrProtection *row, gboolean final)
{
    if (row->base_number == 0)
        return VR_CYCLE_INITIAL;
    if (final)
        return VR_CYCLE_FINAL;
    for (guint i = 0; i < plan->disks->len; i++) {
        const VrPlanDisk *disk = g_ptr_array_index(plan->disks, i);

        if (!disk->tracked && !disk->fresh)
            return VR_CYCLE_RESYNC;
    }
    return VR_CYCLE_DELTA;
}

static gboolean
add_disks(VrCyclePlan *plan, const VrProtection *row, const GPtrArray *disks, GError **error)
{
    g_autoptr(JsonNode) base = row->disks ? json_from_string(row->disks, NULL) : NULL;

    for (guint i = 0; i < disks->len; i++) {
        const VrDomDisk *disk = g_ptr_array_index(disks, i);

        if (!is_replicated(row, disk))
            continue;
        if (disk->size_bytes == 0) {
            vr_set_error(error, VR_ERROR_TRANSIENT, "disk-not-readable",
                         "Check that the image is there.",
                         "domain '%s': size of disk '%s' (%s) cannot be read", row->name,
                         disk->target, disk->path);
            return FALSE;
        }
        g_ptr_array_add(plan->disks, plan_disk(row, base, disk));
    }
    if (plan->disks->len > 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "no-disks", "Give it a disk, or unprotect it.",
                 "domain '%s' has no disk to replicate", row->name);
    return FALSE;
}

VrCyclePlan *
vr_cycle_plan_decide(const VrProtection *row, const VrDomInfo *info, const GPtrArray *disks,
                     gboolean final, GError **error)
{
    g_autoptr(VrCyclePlan) plan = g_new0(VrCyclePlan, 1);

    plan->disks = g_ptr_array_new_with_free_func(plan_disk_free);
    plan->name = g_strdup(info->name);
    if (!point_kind(info, final, &plan->point, error) || !add_disks(plan, row, disks, error))
        return NULL;
    plan->kind = cycle_kind(plan, row, final);
    return g_steal_pointer(&plan);
}

VrCyclePlan *
vr_cycle_plan_new(VrApp *app, const VrProtection *row, gboolean final, GError **error)
{
    g_autoptr(VrDomInfo) info = vr_dom_info(app->conn, row->uuid, error);
    g_autofree char *xml = info ? vr_dom_xml_inactive(app->conn, row->uuid, error) : NULL;
    g_autoptr(GPtrArray) disks = xml ? vr_dom_disks(app->conn, row->uuid, error) : NULL;
    VrCyclePlan *plan = disks ? vr_cycle_plan_decide(row, info, disks, final, error) : NULL;

    if (plan != NULL)
        plan->xml = g_steal_pointer(&xml);
    return plan;
}

char *
vr_cycle_plan_disks_text(const VrCyclePlan *self)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_ARRAY);
    JsonArray *array = json_array_new();

    for (guint i = 0; i < self->disks->len; i++) {
        const VrPlanDisk *disk = g_ptr_array_index(self->disks, i);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", disk->name);
        json_object_set_string_member(object, "path", disk->path);
        json_object_set_int_member(object, "device", (gint64) disk->device_id);
        json_object_set_int_member(object, "inode", (gint64) disk->inode);
        json_object_set_int_member(object, "size", (gint64) disk->size_bytes);
        json_array_add_object_element(array, object);
    }
    json_node_take_array(node, array);
    return vr_json_to_text(node);
}
