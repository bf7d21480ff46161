/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/wire/cycle.h"

#include <string.h>

#include "policies/ids.h"
#include "storage/wire/cycle_field.h"
#include "storage/util/json_util.h"

#define SECTOR 512
#define NAME_MAX_BYTES 64

static const char *const kinds[] = {
    [VR_CYCLE_INITIAL] = "initial",
    [VR_CYCLE_DELTA] = "delta",
    [VR_CYCLE_RESYNC] = "resync",
    [VR_CYCLE_FINAL] = "final",
};

static const char *const consistencies[] = {
    [VR_CONSISTENCY_CRASH] = "crash",
    [VR_CONSISTENCY_APP] = "app",
};

static gboolean
find_name(const char *const *names, guint n, const char *name, guint *ret_index)
{
    for (guint i = 0; i < n; i++) {
        if (g_strcmp0(names[i], name) == 0) {
            *ret_index = i;
            return TRUE;
        }
    }
    return FALSE;
}

const char *
vr_cycle_kind_name(VrCycleKind kind)
{
    g_return_val_if_fail((guint) kind < G_N_ELEMENTS(kinds), NULL);
    return kinds[kind];
}

gboolean
vr_cycle_kind_from_name(const char *name, VrCycleKind *ret_kind)
{
    guint i;

    if (!find_name(kinds, G_N_ELEMENTS(kinds), name, &i))
        return FALSE;
    *ret_kind = (VrCycleKind) i;
    return TRUE;
}

const char *
vr_consistency_name(VrConsistency consistency)
{
    g_return_val_if_fail((guint) consistency < G_N_ELEMENTS(consistencies), NULL);
    return consistencies[consistency];
}

gboolean
vr_consistency_from_name(const char *name, VrConsistency *ret_consistency)
{
    guint i;

    if (!find_name(consistencies, G_N_ELEMENTS(consistencies), name, &i))
        return FALSE;
    *ret_consistency = (VrConsistency) i;
    return TRUE;
}

static void
disk_free(gpointer data)
{
    VrCycleDisk *disk = data;

    g_free(disk->name);
    g_free(disk);
}

void
vr_cycle_begin_free(VrCycleBegin *self)
{
    if (!self)
        return;
    g_free(self->cycle);
    g_free(self->generation);
    g_free(self->base_cycle);
    if (self->disks)
        g_ptr_array_unref(self->disks);
    g_free(self);
}

GPtrArray *
vr_cycle_disks_new(void)
{
    return g_ptr_array_new_with_free_func(disk_free);
}

void
vr_cycle_disks_add(GPtrArray *disks, const char *name, guint64 size_bytes)
{
    VrCycleDisk *disk = g_new(VrCycleDisk, 1);

    disk->name = g_strdup(name);
    disk->size_bytes = size_bytes;
    g_ptr_array_add(disks, disk);
}

static JsonArray *
disks_to_json(const GPtrArray *disks)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = g_ptr_array_index(disks, i);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", disk->name);
        json_object_set_int_member(object, "size", (gint64) disk->size_bytes);
        json_array_add_object_element(array, object);
    }
    return array;
}

JsonNode *
vr_cycle_begin_to_json(const VrCycleBegin *self)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "cycle", self->cycle);
    json_object_set_string_member(object, "kind", vr_cycle_kind_name(self->kind));
    json_object_set_string_member(object, "generation", self->generation);
    json_object_set_int_member(object, "base_number", (gint64) self->base_number);
    if (self->base_cycle)
        json_object_set_string_member(object, "base_cycle", self->base_cycle);
    json_object_set_array_member(object, "disks", disks_to_json(self->disks));
    return vr_json_node(object);
}

static gboolean
has_disk(const GPtrArray *disks, const char *name)
{
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = g_ptr_array_index(disks, i);

        if (strcmp(disk->name, name) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean
parse_disk(GPtrArray *disks, JsonNode *node, GError **error)
{
    JsonObject *object = vr_json_object(node, "disk", error);
    const char *name;
    guint64 size;

    if (!object)
        return FALSE;
    name = vr_json_string(object, "name", NAME_MAX_BYTES, error);
    if (!name || !vr_json_uint(object, "size", VR_MAX_DISK_BYTES, &size, error))
        return FALSE;
    if (!vr_disk_name_valid(name))
        return vr_field_bad(error, "name", "not the name of a disk");
    if (has_disk(disks, name))
        return vr_field_bad(error, "disks", "a disk is there twice");
    if (size == 0 || size % SECTOR != 0)
        return vr_field_bad(error, "size", "expected a multiple of 512 bytes, not 0");
    vr_cycle_disks_add(disks, name, size);
    return TRUE;
}

static GPtrArray *
parse_disks(JsonObject *object, GError **error)
{
    JsonArray *array = vr_field_array(object, "disks", VR_MAX_DISKS, error);
    g_autoptr(GPtrArray) disks = vr_cycle_disks_new();

    if (!array)
        return NULL;
    for (guint i = 0; i < json_array_get_length(array); i++) {
        if (!parse_disk(disks, json_array_get_element(array, i), error))
            return NULL;
    }
    if (disks->len == 0) {
        vr_field_bad(error, "disks", "there is none");
        return NULL;
    }
    return g_steal_pointer(&disks);
}

static gboolean
parse_kind(JsonObject *object, VrCycleKind *ret_kind, GError **error)
{
    const char *name = vr_json_string(object, "kind", NAME_MAX_BYTES, error);

    if (!name)
        return FALSE;
    return vr_cycle_kind_from_name(name, ret_kind) ||
           vr_field_bad(error, "kind", "not a kind of cycle");
}

/* A base has number and cycle; none has number 0 and no cycle. */
static gboolean
parse_base(JsonObject *object, VrCycleBegin *begin, GError **error)
{
    const char *cycle = NULL;

    if (!vr_json_uint(object, "base_number", G_MAXINT64, &begin->base_number, error) ||
        !vr_json_string_opt(object, "base_cycle", VR_ID_LENGTH, &cycle, error))
        return FALSE;
    if ((cycle != NULL) != (begin->base_number > 0))
        return vr_field_bad(error, "base_cycle", "does not go with base_number");
    if (!cycle)
        return TRUE;
    begin->base_cycle = vr_field_id(object, "base_cycle", error);
    return begin->base_cycle != NULL;
}

VrCycleBegin *
vr_cycle_begin_from_json(JsonNode *node, GError **error)
{
    g_autoptr(VrCycleBegin) self = g_new0(VrCycleBegin, 1);
    JsonObject *object = vr_json_object(node, "begin of a cycle", error);

    if (!object || !(self->cycle = vr_field_id(object, "cycle", error)) ||
        !(self->generation = vr_field_id(object, "generation", error)) ||
        !parse_kind(object, &self->kind, error) || !parse_base(object, self, error) ||
        !(self->disks = parse_disks(object, error)))
        return NULL;
    return g_steal_pointer(&self);
}
