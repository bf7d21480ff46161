/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <sys/stat.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_private.h"

/* What libvirt gives as names of disks itself. */
static const char *const disk_prefixes[] = {"vd", "sd", "hd", "xvd", "ubd", "fd"};

char *
vr_replica_path(VrReplica *self, const char *format, ...)
{
    g_autofree char *rest = NULL;
    va_list args;

    va_start(args, format);
    rest = g_strdup_vprintf(format, args);
    va_end(args);
    return g_build_filename(self->dir, rest, NULL);
}

/* QEMU, which runs as another user, passes through to layers and attachments but lists nothing. */
gboolean
vr_replica_make_dirs(VrReplica *self, GError **error)
{
    g_autofree char *rp = vr_replica_path(self, "rp");
    g_autofree char *incoming = vr_replica_path(self, "incoming");
    g_autofree char *attachments = vr_replica_path(self, "attachments");

    return vr_make_dir(self->dir, 0711, error) && vr_make_dir(rp, 0711, error) &&
           vr_make_dir(incoming, 0700, error) && vr_make_dir(attachments, 0700, error) &&
           vr_make_dir(self->manifest_dir, 0700, error);
}

/* "vda", "sdaa1": nothing else is a directory of a disk, so that no directory of ours, whatever it
 * is called, can be one: none begins like that. */
gboolean
vr_replica_disk_name_ok(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(disk_prefixes); i++) {
        gsize len = strlen(disk_prefixes[i]);
        gsize letters, digits;

        if (strncmp(name, disk_prefixes[i], len) != 0)
            continue;
        letters = strspn(name + len, "abcdefghijklmnopqrstuvwxyz");
        digits = strspn(name + len + letters, "0123456789");
        return letters > 0 && name[len + letters + digits] == '\0' && vr_disk_name_valid(name);
    }
    return FALSE;
}

gboolean
vr_replica_parse_layer_name(const char *name, guint64 *ret_number, const char **ret_suffix)
{
    const char *dot = strchr(name, '.');
    g_autofree char *digits = dot ? g_strndup(name, (gsize) (dot - name)) : NULL;

    if (!digits || !g_ascii_string_to_unsigned(digits, 10, 1, G_MAXINT64, ret_number, NULL))
        return FALSE;
    *ret_suffix = dot + 1;
    return TRUE;
}

static gboolean
parse_row_disk(JsonNode *node, GPtrArray *disks)
{
    JsonObject *object = vr_json_object(node, "disk", NULL);
    const char *name = object ? vr_json_string(object, "name", VR_NAME_MAX, NULL) : NULL;
    guint64 size;

    if (!name || !vr_replica_disk_name_ok(name) ||
        !vr_json_uint(object, "size", VR_MAX_DISK_BYTES, &size, NULL))
        return FALSE;
    vr_cycle_disks_add(disks, name, size);
    return TRUE;
}

GPtrArray *
vr_replica_row_disks(const VrRpRow *row, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_cycle_disks_new();
    g_autoptr(JsonNode) node =
        vr_json_parse(row->disks, strlen(row->disks), VR_JSON_MAX_BYTES, NULL);
    gboolean ok = node && JSON_NODE_HOLDS_ARRAY(node);

    for (guint i = 0; ok && i < json_array_get_length(json_node_get_array(node)); i++)
        ok = parse_row_disk(json_array_get_element(json_node_get_array(node), i), disks);
    if (!ok) {
        vr_set_error(error, VR_ERROR_CORRUPT, "state-damaged", NULL,
                     "disks of recovery point %" G_GUINT64_FORMAT
                     " of %s cannot be read in the database",
                     row->rp.number, row->uuid);
        return NULL;
    }
    return g_steal_pointer(&disks);
}

guint64
vr_replica_row_disk_size(const VrRpRow *row, const char *name)
{
    g_autoptr(GPtrArray) disks = row ? vr_replica_row_disks(row, NULL) : NULL;

    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        if (strcmp(disk->name, name) == 0)
            return disk->size_bytes;
    }
    return 0;
}

static guint64
noted_floor(const VrRpRow *row, const char *name)
{
    g_autoptr(JsonNode) node =
        vr_json_parse(row->disks, strlen(row->disks), VR_JSON_MAX_BYTES, NULL);
    JsonArray *disks = vr_json_as_array(node);
    guint64 floor;

    for (guint i = 0; disks && i < json_array_get_length(disks); i++) {
        JsonObject *disk = vr_json_object_at(disks, i);
        if (disk && g_strcmp0(vr_json_string(disk, "name", VR_NAME_MAX, NULL), name) == 0 &&
            vr_json_uint(disk, "floor", VR_MAX_DISK_BYTES, &floor, NULL))
            return floor;
    }
    return G_MAXUINT64;
}

guint64
vr_replica_row_disk_floor(GPtrArray *rows, guint index, const char *name)
{
    guint64 size = vr_replica_row_disk_size(rows->pdata[index], name);
    guint64 before = index > 0 ? vr_replica_row_disk_size(rows->pdata[index - 1], name) : 0;

    return size > 0 && before > 0 ? MIN(MIN(size, before), noted_floor(rows->pdata[index], name))
                                  : 0;
}

const VrRpRow *
vr_replica_last_row(GPtrArray *rows)
{
    return rows->len > 0 ? rows->pdata[rows->len - 1] : NULL;
}

VrRecoveryPoint *
vr_replica_copy_rp(const VrRecoveryPoint *rp)
{
    VrRecoveryPoint *copy = g_new0(VrRecoveryPoint, 1);

    *copy = *rp;
    copy->cycle = g_strdup(rp->cycle);
    copy->root = g_strdup(rp->root);
    copy->damaged_disk = g_strdup(rp->damaged_disk);
    return copy;
}

guint64
vr_replica_allocated_file(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 ? (guint64) st.st_blocks * 512 : 0;
}

guint64
vr_replica_allocated(VrReplica *self, guint64 number, const char *disk)
{
    static const char *const suffixes[] = {"qcow2", "sums", "bad"};
    guint64 bytes = 0;

    for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *path =
            vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".%s", disk, number, suffixes[i]);

        bytes += vr_replica_allocated_file(path);
    }
    return bytes;
}
