/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/point/image_bitmap.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "policies/error.h"
#include "storage/util/json_util.h"
#include "storage/util/run_program.h"

/* The parsed answer of qemu-img info; *@ret_bitmaps lives as long, NULL: none. */
static JsonParser *
image_info(const char *image, gboolean shared, JsonArray **ret_bitmaps, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autofree char *out = NULL;
    const char *alone[] = {"qemu-img", "info", "-f", "qcow2", "--output=json", "--", image, NULL};
    const char *beside[] = {"qemu-img",      "info", "-f",  "qcow2", "-U",
                            "--output=json", "--",   image, NULL};
    JsonNode *root;

    if (!vr_run_program(shared ? beside : alone, NULL, &out, error)) {
        g_prefix_error(error, "image '%s': ", image);
        return NULL;
    }
    if (!json_parser_load_from_data(parser, out, -1, NULL) ||
        !(root = json_parser_get_root(parser)) || !JSON_NODE_HOLDS_OBJECT(root)) {
        vr_set_error(error, VR_ERROR_INTERNAL, "program-failed", NULL,
                     "image '%s': qemu-img info gave no JSON", image);
        return NULL;
    }
    *ret_bitmaps = vr_json_array_in(
        vr_json_object_in(vr_json_object_in(json_node_get_object(root), "format-specific"), "data"),
        "bitmaps");
    return g_steal_pointer(&parser);
}

static const char *
name_of(JsonObject *bitmap)
{
    return bitmap ? json_object_get_string_member_with_default(bitmap, "name", NULL) : NULL;
}

char **
vr_image_bitmap_list(const char *image, GError **error)
{
    JsonArray *bitmaps = NULL;
    g_autoptr(JsonParser) parser = image_info(image, TRUE, &bitmaps, error);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    if (!parser)
        return NULL;
    for (guint i = 0; bitmaps && i < json_array_get_length(bitmaps); i++) {
        const char *name = name_of(vr_json_object_at(bitmaps, i));

        if (name)
            g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

static gboolean
has_flag(JsonObject *bitmap, const char *flag)
{
    JsonArray *flags = vr_json_array_in(bitmap, "flags");

    for (guint i = 0; flags && i < json_array_get_length(flags); i++) {
        if (g_strcmp0(json_array_get_string_element(flags, i), flag) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean
check(const char *image, const char *name, gboolean shared, GError **error)
{
    JsonArray *bitmaps = NULL;
    g_autoptr(JsonParser) parser = image_info(image, shared, &bitmaps, error);
    const char *why = "is missing";

    if (!parser)
        return FALSE;
    for (guint i = 0; bitmaps && i < json_array_get_length(bitmaps); i++) {
        JsonObject *bitmap = vr_json_object_at(bitmaps, i);

        if (g_strcmp0(name_of(bitmap), name) != 0)
            continue;
        if (!has_flag(bitmap, "in-use") && has_flag(bitmap, "auto"))
            return TRUE;
        why = "was not saved cleanly";
    }
    vr_set_error(error, VR_ERROR_RESYNC_NEEDED, "tracking-lost",
                 "Nothing to do: a resync runs by itself.", "image '%s': bitmap '%s' %s", image,
                 name, why);
    return FALSE;
}

/* While qemu-img holds the image's lock a domain cannot start, so it does only to find out whether
 * a bitmap that looks bad is in use right now. */
gboolean
vr_image_bitmap_check(const char *image, const char *name, GError **error)
{
    return check(image, name, TRUE, NULL) || check(image, name, FALSE, error);
}

gboolean
vr_image_bitmap_add(const char *image, const char *name, GError **error)
{
    const char *argv[] = {"qemu-img", "bitmap",   "--add", "-f",  "qcow2", "-g",
                          "65536",    "--enable", "--",    image, name,    NULL};
    g_autoptr(GError) local = NULL;

    if (vr_run_program(argv, NULL, NULL, &local))
        return TRUE;
    if (strstr(local->message, "qcow2 v2"))
        vr_set_error(
            error, VR_ERROR_REFUSED, "qcow2-v2",
            "Run 'qemu-img amend -o compat=1.1' on the image while the domain is shut off.",
            "image '%s': %s", image, local->message);
    else
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "image '%s': ", image);
    return FALSE;
}

gboolean
vr_image_bitmap_remove(const char *image, const char *name, GError **error)
{
    const char *argv[] = {"qemu-img", "bitmap", "--remove", "-f", "qcow2", "--", image, name, NULL};
    g_auto(GStrv) names = vr_image_bitmap_list(image, error);

    if (!names)
        return FALSE;
    if (!g_strv_contains((const char *const *) names, name))
        return TRUE;
    if (vr_run_program(argv, NULL, NULL, error))
        return TRUE;
    g_prefix_error(error, "image '%s': ", image);
    return FALSE;
}
