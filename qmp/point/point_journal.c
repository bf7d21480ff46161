/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/point/point_journal.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "qmp/point/checkpoint.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/freeze.h"
#include "qmp/point/point_backup.h"
#include "qmp/point/scratch.h"
#include "storage/util/json_util.h"

#define KIND_BACKUP "backup"
#define KIND_OFFLINE "offline"

static void
add_paths(JsonBuilder *builder, const VrPoint *self, gboolean sockets)
{
    json_builder_begin_array(builder);
    for (guint i = 0; i < self->disks->len; i++) {
        const VrPointDiskState *disk = self->disks->pdata[i];
        const char *path = sockets ? disk->socket : disk->scratch;

        if (path)
            json_builder_add_string_value(builder, path);
    }
    json_builder_end_array(builder);
}

char *
vr_point_journal_write(const VrPoint *self)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    g_autoptr(JsonNode) root = NULL;

    json_builder_begin_object(builder);
    json_builder_set_member_name(builder, "kind");
    json_builder_add_string_value(builder,
                                  self->kind == VR_POINT_BACKUP ? KIND_BACKUP : KIND_OFFLINE);
    json_builder_set_member_name(builder, "uuid");
    json_builder_add_string_value(builder, self->uuid);
    if (self->checkpoint) {
        json_builder_set_member_name(builder, "checkpoint");
        json_builder_add_string_value(builder, self->checkpoint);
    }
    json_builder_set_member_name(builder, "sockets");
    add_paths(builder, self, TRUE);
    json_builder_set_member_name(builder, "scratch");
    add_paths(builder, self, FALSE);
    json_builder_end_object(builder);
    root = json_builder_get_root(builder);
    return json_to_string(root, FALSE);
}

/* Recovery. */

static const char *
string_in(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_string(node) : NULL;
}

static GPtrArray *
strings_in(JsonObject *object, const char *name)
{
    GPtrArray *strings = g_ptr_array_new();
    JsonNode *node = json_object_get_member(object, name);
    JsonArray *array = vr_json_as_array(node);

    for (guint i = 0; array && i < json_array_get_length(array); i++) {
        const char *text = json_array_get_string_element(array, i);

        if (text)
            g_ptr_array_add(strings, (gpointer) text);
    }
    return strings;
}

static void
remove_socket(const char *path)
{
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && unlink(path) < 0 && errno != ENOENT)
        g_warning("socket '%s': %s, ignoring", path, g_strerror(errno));
}

static void
remove_files(JsonObject *journal, const char *uuid)
{
    g_autoptr(GPtrArray) sockets = strings_in(journal, "sockets");
    g_autoptr(GPtrArray) scratch = strings_in(journal, "scratch");

    for (guint i = 0; i < sockets->len; i++)
        remove_socket(sockets->pdata[i]);
    for (guint i = 0; i < scratch->len; i++)
        vr_scratch_unlink(scratch->pdata[i], uuid);
}

/* The freeze helper thaws by itself; this is for the case that it was killed as well. */
static void
thaw_again(VrConn *conn, const char *uuid)
{
    g_autoptr(GError) local = NULL;

    if (!vr_freeze_thaw_now(conn, uuid, &local))
        g_debug("domain '%s': %s", uuid, local->message);
}

/* With nobody to guard its scratch the job may have had the guest paused. */
static gboolean
end_orphan(VrConn *conn, const char *uuid, const char *socket, GError **error)
{
    gboolean ended = FALSE;

    if (!vr_point_backup_end_job(conn, uuid, socket, &ended, error))
        return FALSE;
    return !ended || vr_dom_resume_io_error(conn, uuid, NULL, error);
}

/* Scratch is there from before the freeze until after the end: without it guest and job were seen
 * to, and what happens to the guest since then is not ours. */
static gboolean
may_be_open(JsonObject *journal)
{
    g_autoptr(GPtrArray) scratch = strings_in(journal, "scratch");

    for (guint i = 0; i < scratch->len; i++) {
        if (access(scratch->pdata[i], F_OK) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean
recover_domain(VrConn *conn, JsonObject *journal, const char *uuid, gboolean keep_checkpoint,
               GError **error)
{
    g_autoptr(GPtrArray) sockets = strings_in(journal, "sockets");
    const char *checkpoint = string_in(journal, "checkpoint");

    if (g_strcmp0(string_in(journal, "kind"), KIND_BACKUP) == 0) {
        gboolean open = may_be_open(journal);

        if (open)
            thaw_again(conn, uuid);
        if (sockets->len > 0 && !end_orphan(conn, uuid, sockets->pdata[0], error))
            return FALSE;
        /* An earlier attempt may have come no further than the end of the job. */
        if (open && !vr_dom_resume_io_error(conn, uuid, NULL, error))
            return FALSE;
    }
    return !checkpoint || keep_checkpoint || vr_checkpoint_delete(conn, uuid, checkpoint, error);
}

gboolean
vr_point_recover(VrConn *conn, const char *journal, gboolean keep_checkpoint, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) local = NULL;
    JsonNode *root = NULL;
    JsonObject *object;
    const char *uuid;

    if (json_parser_load_from_data(parser, journal, -1, NULL))
        root = json_parser_get_root(parser);
    object = vr_json_as_object(root);
    uuid = object ? string_in(object, "uuid") : NULL;
    if (!vr_uuid_valid(uuid)) {
        vr_set_error(error, VR_ERROR_CORRUPT, "journal-corrupt", NULL,
                     "the journal of a point is not one");
        return FALSE;
    }
    if (!recover_domain(conn, object, uuid, keep_checkpoint, &local) &&
        !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    remove_files(object, uuid);
    return TRUE;
}

/* Sockets of ours in the directories of domains; QEMU of a run that ended leaves them. */
static void
sweep_socket(VrConn *conn, const char *uuid)
{
    g_autoptr(VrDomInfo) info = vr_dom_info(conn, uuid, NULL);
    g_autofree char *dir = info && info->id >= 0 ? vr_point_backup_find_dir(info->id, NULL) : NULL;
    g_autoptr(GDir) open_dir = dir ? g_dir_open(dir, 0, NULL) : NULL;
    const char *name;

    while (open_dir && (name = g_dir_read_name(open_dir))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        if (vr_point_backup_socket_is_ours(path))
            remove_socket(path);
    }
}

static gboolean
sweep_files(VrConn *conn, const char *uuid, const char *scratch_dir, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_dom_disks(conn, uuid, error);

    if (!disks)
        return FALSE;
    if (scratch_dir)
        vr_scratch_sweep(scratch_dir, uuid);
    for (guint i = 0; i < disks->len; i++) {
        const VrDomDisk *disk = disks->pdata[i];
        g_autofree char *dir = disk->path ? g_path_get_dirname(disk->path) : NULL;

        if (dir)
            vr_scratch_sweep(dir, uuid);
    }
    sweep_socket(conn, uuid);
    return TRUE;
}

gboolean
vr_point_sweep(VrConn *conn, const char *uuid, const char *scratch_dir, GError **error)
{
    g_autofree char *socket = NULL;

    if (!vr_point_backup_job_socket(conn, uuid, &socket, error))
        return FALSE;
    if (socket && vr_point_backup_socket_is_ours(socket) && !end_orphan(conn, uuid, socket, error))
        return FALSE;
    return sweep_files(conn, uuid, scratch_dir, error);
}
