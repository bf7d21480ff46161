/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/ids.h"
#include "policies/units.h"
#include "storage/wire/cycle.h"
#include "storage/wire/cycle_field.h"
#include "storage/util/json_util.h"

#define AGE_MAX_US (30 * G_TIME_SPAN_DAY)
#define DISK_NAME_MAX 16

gint64
vr_recovery_point_time(gint64 claimed_us, gint64 stored_us)
{
    return CLAMP(claimed_us, stored_us - AGE_MAX_US, stored_us);
}

void
vr_recovery_point_free(VrRecoveryPoint *self)
{
    if (!self)
        return;
    g_free(self->cycle);
    g_free(self->root);
    g_free(self->damaged_disk);
    g_free(self);
}

static void
set_soundness(JsonObject *object, const VrRecoveryPoint *self)
{
    g_autofree char *verified = self->verified_us ? vr_time_format(self->verified_us) : NULL;

    if (verified)
        json_object_set_string_member(object, "verified", verified);
    else
        json_object_set_null_member(object, "verified");
    json_object_set_int_member(object, "verified_us", self->verified_us);
    json_object_set_boolean_member(object, "damaged", self->damaged_disk != NULL);
    if (!self->damaged_disk)
        return;
    json_object_set_string_member(object, "damaged_disk", self->damaged_disk);
    json_object_set_int_member(object, "damaged_chunks", (gint64) self->damaged_chunks);
}

/* "time" is for people and other programs; "time_us" and "stored_us" are exact. */
JsonNode *
vr_recovery_point_to_json(const VrRecoveryPoint *self)
{
    JsonObject *object = json_object_new();
    g_autofree char *time = vr_time_format(self->time_us);

    json_object_set_int_member(object, "number", (gint64) self->number);
    json_object_set_string_member(object, "time", time);
    json_object_set_string_member(object, "consistency", vr_consistency_name(self->consistency));
    json_object_set_string_member(object, "root", self->root);
    json_object_set_int_member(object, "bytes", (gint64) self->bytes);
    json_object_set_boolean_member(object, "pinned", self->pinned);
    json_object_set_string_member(object, "cycle", self->cycle);
    json_object_set_int_member(object, "time_us", self->time_us);
    json_object_set_int_member(object, "stored_us", self->stored_us);
    set_soundness(object, self);
    return vr_json_node(object);
}

static gboolean
parse_number(JsonObject *object, guint64 *ret_number, GError **error)
{
    guint64 number;

    if (!vr_json_uint(object, "number", G_MAXINT64, &number, error))
        return FALSE;
    if (number == 0)
        return vr_field_bad(error, "number", "recovery points count from 1");
    *ret_number = number;
    return TRUE;
}

static gboolean
parse_pinned(JsonObject *object, gboolean *ret_pinned, GError **error)
{
    JsonNode *node = json_object_get_member(object, "pinned");

    if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_BOOLEAN)
        return vr_field_bad(error, "pinned", "expected true or false");
    *ret_pinned = json_node_get_boolean(node);
    return TRUE;
}

/* A version of before does not say. */
static gboolean
parse_soundness(JsonObject *object, VrRecoveryPoint *self, GError **error)
{
    const char *disk;
    guint64 verified, chunks;

    if (!vr_json_string_opt(object, "damaged_disk", DISK_NAME_MAX, &disk, error) ||
        !vr_json_uint_opt(object, "verified_us", G_MAXINT64, 0, &verified, error) ||
        !vr_json_uint_opt(object, "damaged_chunks", G_MAXINT64, 1, &chunks, error))
        return FALSE;
    if (disk && !vr_disk_name_valid(disk))
        return vr_field_bad(error, "damaged_disk", "expected the name of a disk");
    self->verified_us = (gint64) verified;
    self->damaged_disk = g_strdup(disk);
    self->damaged_chunks = disk ? chunks : 0;
    return TRUE;
}

VrRecoveryPoint *
vr_recovery_point_from_json(JsonNode *node, GError **error)
{
    g_autoptr(VrRecoveryPoint) self = g_new0(VrRecoveryPoint, 1);
    JsonObject *object = vr_json_object(node, "recovery point", error);

    if (!object || !parse_number(object, &self->number, error) ||
        !(self->cycle = vr_field_id(object, "cycle", error)) ||
        !vr_field_time(object, "time_us", &self->time_us, error) ||
        !vr_field_time(object, "stored_us", &self->stored_us, error) ||
        !vr_field_consistency(object, &self->consistency, error) ||
        !(self->root = vr_field_sha256(object, "root", error)) ||
        !vr_json_uint(object, "bytes", G_MAXINT64, &self->bytes, error) ||
        !parse_pinned(object, &self->pinned, error) || !parse_soundness(object, self, error))
        return NULL;
    return g_steal_pointer(&self);
}
