/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/api/api.h"

#include "policies/units.h"
#include "storage/util/json_util.h"

void
vr_api_reply(VrHttpReply *reply, guint status, JsonObject *object)
{
    vr_http_reply_json(reply, status, vr_json_node(object));
}

void
vr_api_reply_array(VrHttpReply *reply, JsonArray *array)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);

    json_node_take_array(node, array);
    vr_http_reply_json(reply, 200, node);
}

void
vr_api_reply_job(VrHttpReply *reply, gint64 id)
{
    JsonObject *object = json_object_new();

    json_object_set_int_member(object, "job", id);
    vr_api_reply(reply, 202, object);
}

void
vr_api_set_time(JsonObject *object, const char *key, gint64 time_us)
{
    g_autofree char *text = time_us ? vr_time_format(time_us) : NULL;

    if (text != NULL)
        json_object_set_string_member(object, key, text);
    else
        json_object_set_null_member(object, key);
}
