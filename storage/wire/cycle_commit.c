/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/attachment.h"
#include "storage/wire/cycle.h"
#include "storage/wire/cycle_field.h"
#include "storage/util/json_util.h"

#define DOMAIN_XML_MAX (256 * 1024)
#define ATTACHMENT_MAX_BYTES ((guint64) 512 * 1024 * 1024)
#define NAME_MAX_BYTES 64

static void
attachment_free(gpointer data)
{
    VrAttachment *attachment = data;

    g_free(attachment->name);
    g_free(attachment->sha256);
    g_free(attachment);
}

GPtrArray *
vr_attachments_new(void)
{
    return g_ptr_array_new_with_free_func(attachment_free);
}

void
vr_attachments_add(GPtrArray *attachments, const char *name, guint64 size_bytes,
                   const char *sha256_hex)
{
    VrAttachment *attachment = g_new(VrAttachment, 1);

    attachment->name = g_strdup(name);
    attachment->size_bytes = size_bytes;
    attachment->sha256 = g_strdup(sha256_hex);
    g_ptr_array_add(attachments, attachment);
}

void
vr_cycle_commit_free(VrCycleCommit *self)
{
    if (!self)
        return;
    g_free(self->cycle);
    g_free(self->root);
    g_free(self->domain_xml);
    if (self->attachments)
        g_ptr_array_unref(self->attachments);
    g_free(self);
}

static JsonArray *
attachments_to_json(const GPtrArray *attachments)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < attachments->len; i++) {
        const VrAttachment *attachment = g_ptr_array_index(attachments, i);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", attachment->name);
        json_object_set_int_member(object, "size", (gint64) attachment->size_bytes);
        json_object_set_string_member(object, "sha256", attachment->sha256);
        json_array_add_object_element(array, object);
    }
    return array;
}

JsonNode *
vr_cycle_commit_to_json(const VrCycleCommit *self)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "cycle", self->cycle);
    json_object_set_int_member(object, "time_us", self->time_us);
    json_object_set_string_member(object, "consistency", vr_consistency_name(self->consistency));
    json_object_set_string_member(object, "root", self->root);
    json_object_set_string_member(object, "domain_xml", self->domain_xml);
    json_object_set_array_member(object, "attachments", attachments_to_json(self->attachments));
    return vr_json_node(object);
}

static gboolean
has_attachment(const GPtrArray *attachments, const char *name)
{
    for (guint i = 0; i < attachments->len; i++) {
        const VrAttachment *attachment = g_ptr_array_index(attachments, i);

        if (strcmp(attachment->name, name) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean
parse_attachment(GPtrArray *attachments, JsonNode *node, GError **error)
{
    JsonObject *object = vr_json_object(node, "attachment", error);
    g_autofree char *sha256 = NULL;
    const char *name;
    guint64 size;

    if (!object)
        return FALSE;
    name = vr_json_string(object, "name", NAME_MAX_BYTES, error);
    if (!name || !vr_json_uint(object, "size", ATTACHMENT_MAX_BYTES, &size, error))
        return FALSE;
    if (!vr_attachment_name_known(name))
        return vr_field_bad(error, "name", "not an attachment of a domain");
    if (has_attachment(attachments, name))
        return vr_field_bad(error, "attachments", "one is there twice");
    sha256 = vr_field_sha256(object, "sha256", error);
    if (!sha256)
        return FALSE;
    vr_attachments_add(attachments, name, size, sha256);
    return TRUE;
}

GPtrArray *
vr_attachments_from_json(JsonObject *object, GError **error)
{
    JsonArray *array = vr_field_array(object, "attachments", VR_ATTACHMENT_LAST, error);
    g_autoptr(GPtrArray) attachments = vr_attachments_new();

    if (!array)
        return NULL;
    for (guint i = 0; i < json_array_get_length(array); i++) {
        if (!parse_attachment(attachments, json_array_get_element(array, i), error))
            return NULL;
    }
    return g_steal_pointer(&attachments);
}

static char *
parse_domain_xml(JsonObject *object, GError **error)
{
    const char *xml = vr_json_string(object, "domain_xml", DOMAIN_XML_MAX, error);

    if (!xml)
        return NULL;
    if (*xml == '\0') {
        vr_field_bad(error, "domain_xml", "is empty");
        return NULL;
    }
    return g_strdup(xml);
}

VrCycleCommit *
vr_cycle_commit_from_json(JsonNode *node, GError **error)
{
    g_autoptr(VrCycleCommit) self = g_new0(VrCycleCommit, 1);
    JsonObject *object = vr_json_object(node, "commit of a cycle", error);

    if (!object || !(self->cycle = vr_field_id(object, "cycle", error)) ||
        !vr_field_time(object, "time_us", &self->time_us, error) ||
        !vr_field_consistency(object, &self->consistency, error) ||
        !(self->root = vr_field_sha256(object, "root", error)) ||
        !(self->domain_xml = parse_domain_xml(object, error)) ||
        !(self->attachments = vr_attachments_from_json(object, error)))
        return NULL;
    return g_steal_pointer(&self);
}
