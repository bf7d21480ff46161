/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/wire/cycle_field.h"

#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/json_util.h"
#include "storage/util/sha256.h"

#define CONSISTENCY_MAX_BYTES 16

gboolean
vr_field_bad(GError **error, const char *key, const char *what)
{
    vr_set_error(error, VR_ERROR_INVALID, "bad-message", "Run the same version on both hosts.",
                 "message: \"%s\": %s", key, what);
    return FALSE;
}

char *
vr_field_id(JsonObject *object, const char *key, GError **error)
{
    const char *text = vr_json_string(object, key, VR_ID_LENGTH, error);

    if (!text)
        return NULL;
    if (vr_cycle_id_valid(text))
        return g_strdup(text);
    vr_field_bad(error, key, "expected 32 lower-case hex digits");
    return NULL;
}

char *
vr_field_sha256(JsonObject *object, const char *key, GError **error)
{
    const char *text = vr_json_string(object, key, 2 * VR_SHA256_LEN, error);

    if (!text)
        return NULL;
    if (strlen(text) == 2 * VR_SHA256_LEN && strspn(text, "0123456789abcdef") == 2 * VR_SHA256_LEN)
        return g_strdup(text);
    vr_field_bad(error, key, "expected 64 lower-case hex digits");
    return NULL;
}

gboolean
vr_field_time(JsonObject *object, const char *key, gint64 *ret_us, GError **error)
{
    guint64 us;

    if (!vr_json_uint(object, key, VR_FIELD_TIME_MAX_US, &us, error))
        return FALSE;
    *ret_us = (gint64) us;
    return TRUE;
}

gboolean
vr_field_consistency(JsonObject *object, VrConsistency *ret_consistency, GError **error)
{
    const char *name = vr_json_string(object, "consistency", CONSISTENCY_MAX_BYTES, error);

    if (!name)
        return FALSE;
    return vr_consistency_from_name(name, ret_consistency) ||
           vr_field_bad(error, "consistency", "expected crash or app");
}

JsonArray *
vr_field_array(JsonObject *object, const char *key, guint max, GError **error)
{
    JsonNode *node = json_object_get_member(object, key);

    if (!node || !JSON_NODE_HOLDS_ARRAY(node)) {
        vr_field_bad(error, key, "expected an array");
        return NULL;
    }
    if (json_array_get_length(json_node_get_array(node)) > max) {
        vr_field_bad(error, key, "too many elements");
        return NULL;
    }
    return json_node_get_array(node);
}
