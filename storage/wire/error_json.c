/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/wire/error_json.h"

#include <string.h>

#include "storage/util/json_util.h"

#define TEXT_MAX 4096

JsonObject *
vr_error_to_json_object(const GError *error)
{
    JsonObject *object = json_object_new();
    const char *action = vr_error_action(error);

    json_object_set_string_member(object, "code", vr_error_slug(error));
    json_object_set_string_member(
        object, "kind",
        vr_error_code_name(error->domain == VR_ERROR ? (VrError) error->code : VR_ERROR_INTERNAL));
    json_object_set_string_member(object, "message", error->message);
    if (action != NULL)
        json_object_set_string_member(object, "action", action);
    else
        json_object_set_null_member(object, "action");
    return object;
}

static char *
member_text(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) ||
        json_node_get_value_type(node) != G_TYPE_STRING)
        return NULL;
    return g_utf8_substring(json_node_get_string(node), 0,
                            MIN(g_utf8_strlen(json_node_get_string(node), -1), TEXT_MAX));
}

GError *
vr_error_from_json_object(JsonObject *object)
{
    g_autofree char *slug = member_text(object, "code");
    g_autofree char *kind = member_text(object, "kind");
    g_autofree char *message = member_text(object, "message");
    g_autofree char *action = member_text(object, "action");

    return vr_error_new(kind ? vr_error_code_from_name(kind) : VR_ERROR_INTERNAL,
                        slug ? slug : "internal", action,
                        message ? message : "an error without a message");
}

static VrError
kind_here(VrError kind)
{
    switch (kind) {
    case VR_ERROR_INVALID:
    case VR_ERROR_NOT_FOUND:
    case VR_ERROR_REFUSED:
    case VR_ERROR_CONFLICT:
    case VR_ERROR_TRANSIENT:
    case VR_ERROR_AUTH:
    case VR_ERROR_NO_SPACE:
    case VR_ERROR_CORRUPT:
    case VR_ERROR_INTERNAL:
        return kind;
    case VR_ERROR_RESYNC_NEEDED:
    case VR_ERROR_TIMEOUT:
    case VR_ERROR_UNREACHABLE:
    case VR_ERROR_CANCELLED:
        return VR_ERROR_TRANSIENT;
    }
    return VR_ERROR_INTERNAL;
}

GError *
vr_error_from_peer(JsonObject *object, const char *name, const char *shown)
{
    GError *error = vr_error_from_json_object(object);
    g_autofree char *own = g_strdup_printf("host '%s'", name);

    error->code = kind_here((VrError) error->code);
    if (strcmp(vr_error_slug(error), "no-such-file") == 0)
        error->code = VR_ERROR_TRANSIENT;
    if (strstr(error->message, own) == NULL)
        g_prefix_error(&error, "%s: ", shown);
    return error;
}

char *
vr_error_to_json_text(const GError *error)
{
    g_autoptr(JsonObject) object = vr_error_to_json_object(error);

    return vr_json_object_to_text(object);
}

GError *
vr_error_from_json_text(const char *text)
{
    g_autoptr(JsonNode) node = text ? json_from_string(text, NULL) : NULL;

    if (node == NULL || !JSON_NODE_HOLDS_OBJECT(node))
        return NULL;
    return vr_error_from_json_object(json_node_get_object(node));
}
