/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gio/gio.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "storage/replica/replica_private.h"

/* What a crash leaves is told apart by the rows alone: with a row it is part of a recovery point,
 * without one it belongs to the open cycle (its commit.json says that publishing may have begun) or
 * to nothing. */

static GPtrArray *
list_dir(const char *path)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)))
        g_ptr_array_add(names, g_strdup(name));
    return names;
}

static gboolean
has_row(GPtrArray *rows, guint64 number)
{
    for (guint i = 0; i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        if (row->rp.number == number)
            return TRUE;
    }
    return FALSE;
}

static gboolean
row_has_cycle(GPtrArray *rows, const char *cycle)
{
    for (guint i = 0; i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        if (strcmp(row->rp.cycle, cycle) == 0)
            return TRUE;
    }
    return FALSE;
}

/* The cycle that may have been publishing; NULL if none. */
static char *
publishing_cycle(VrReplica *self, GPtrArray *rows)
{
    g_autofree char *dir = vr_replica_path(self, "incoming");
    g_autoptr(GPtrArray) names = list_dir(dir);

    for (guint i = 0; i < names->len; i++) {
        const char *cycle = names->pdata[i];
        g_autofree char *commit = vr_replica_path(self, "incoming/%s/commit.json", cycle);

        if (vr_cycle_id_valid(cycle) && !row_has_cycle(rows, cycle) &&
            g_file_test(commit, G_FILE_TEST_IS_REGULAR))
            return g_strdup(cycle);
    }
    return NULL;
}

static gboolean
take_back(const char *from, const char *to, GError **error)
{
    if (to && (rename(from, to) == 0 || errno == ENOENT))
        return TRUE;
    if (!to)
        return vr_remove_tree(from, error);
    vr_set_error_errno(error, errno, "cannot move '%s' back", from);
    return FALSE;
}

static gboolean
unpublish_disk(VrReplica *self, const char *disk, GPtrArray *rows, guint64 next, const char *cycle,
               GError **error)
{
    g_autofree char *dir = vr_replica_path(self, "%s", disk);
    g_autoptr(GPtrArray) names = list_dir(dir);

    for (guint i = 0; i < names->len; i++) {
        g_autofree char *from = g_build_filename(dir, names->pdata[i], NULL);
        g_autofree char *to = NULL;
        const char *suffix;
        guint64 number;

        if (!vr_replica_parse_layer_name(names->pdata[i], &number, &suffix) ||
            has_row(rows, number))
            continue;
        if (cycle && number == next)
            to = vr_replica_path(self, "incoming/%s/%s.%s", cycle, disk, suffix);
        if (!take_back(from, to, error))
            return FALSE;
    }
    (void) rmdir(dir); /* succeeds only when nothing is left of the disk */
    return TRUE;
}

static gboolean
unpublish_points(VrReplica *self, GPtrArray *rows, guint64 next, const char *cycle, GError **error)
{
    g_autofree char *dir = vr_replica_path(self, "rp");
    g_autoptr(GPtrArray) names = list_dir(dir);

    for (guint i = 0; i < names->len; i++) {
        g_autofree char *from = g_build_filename(dir, names->pdata[i], NULL);
        g_autofree char *to = NULL;
        guint64 number;

        if (g_ascii_string_to_unsigned(names->pdata[i], 10, 1, G_MAXINT64, &number, NULL) &&
            has_row(rows, number))
            continue;
        if (cycle && number == next)
            to = vr_replica_path(self, "incoming/%s/rp", cycle);
        if ((to && !vr_remove_tree(to, error)) || !take_back(from, to, error))
            return FALSE;
    }
    return TRUE;
}

/* The first disk of the head whose layer is gone without anybody having noted it. (transfer full)
 */
static char *
missing_disk(VrReplica *self, const VrRpRow *head, GPtrArray *disks)
{
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *path =
            vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".qcow2", disk->name, head->rp.number);

        if (!g_file_test(path, G_FILE_TEST_IS_REGULAR) &&
            !vr_replica_is_lost(self, head, disk->name))
            return g_strdup(disk->name);
    }
    return NULL;
}

gboolean
vr_replica_check_layers(VrReplica *self, GPtrArray *rows, GError **error)
{
    const VrRpRow *head = vr_replica_last_row(rows);
    g_autoptr(GPtrArray) disks = head ? vr_replica_row_disks(head, error) : NULL;
    g_autofree char *missing = disks ? missing_disk(self, head, disks) : NULL;

    if (!missing)
        return !head || disks;
    if (!vr_replica_require_store(self, rows, error))
        return FALSE;
    if (!vr_replica_put_check(self, head->rp.number, missing, VR_LAYER_AWAY, error) ||
        !vr_replica_note_damage(self, error))
        return FALSE;
    vr_set_error(error, VR_ERROR_TRANSIENT, "replica-damaged",
                 "Begin again: all of the disk is sent.",
                 "layer %" G_GUINT64_FORMAT " of disk '%s' in '%s' is not there", head->rp.number,
                 missing, self->dir);
    return FALSE;
}

/* Half an index: its writer was killed. */
static gboolean
is_half_index(const char *name)
{
    return g_str_has_prefix(name, "manifest.json.") && g_str_has_suffix(name, ".tmp");
}

gboolean
vr_replica_unpublish(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    const VrRpRow *head = rows ? vr_replica_last_row(rows) : NULL;
    g_autofree char *cycle = rows ? publishing_cycle(self, rows) : NULL;
    guint64 next = (head ? head->rp.number : 0) + 1;
    g_autoptr(GPtrArray) names = list_dir(self->dir);

    if (!rows || !unpublish_points(self, rows, next, cycle, error))
        return FALSE;
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = g_build_filename(self->dir, names->pdata[i], NULL);

        if (is_half_index(names->pdata[i]))
            (void) unlink(path);
        if (vr_replica_disk_name_ok(names->pdata[i]) &&
            !unpublish_disk(self, names->pdata[i], rows, next, cycle, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_replica_sweep_incoming(VrReplica *self, GError **error)
{
    g_autofree char *dir = vr_replica_path(self, "incoming");
    g_autoptr(GPtrArray) names = list_dir(dir);
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    const char *keep = NULL;
    struct stat st;
    time_t newest = 0;

    if (!rows)
        return FALSE;
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *begin =
            vr_replica_path(self, "incoming/%s/begin.json", (char *) names->pdata[i]);

        if (!vr_cycle_id_valid(names->pdata[i]) || row_has_cycle(rows, names->pdata[i]) ||
            stat(begin, &st) < 0 || (keep && st.st_mtime < newest))
            continue;
        keep = names->pdata[i];
        newest = st.st_mtime;
    }
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = g_build_filename(dir, names->pdata[i], NULL);
        if (names->pdata[i] != keep && !vr_remove_tree(path, error))
            return FALSE;
    }
    return TRUE;
}

void
vr_replica_sweep_attachments(VrReplica *self)
{
    g_autofree char *dir = vr_replica_path(self, "attachments");
    g_autoptr(GPtrArray) names = list_dir(dir);
    struct stat st;

    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = g_build_filename(dir, names->pdata[i], NULL);
        if (lstat(path, &st) == 0 && st.st_nlink == 1)
            (void) unlink(path);
    }
}

static char *
marker_path(VrReplica *self)
{
    return g_build_filename(self->manifest_dir, "rebuild", NULL);
}

gboolean
vr_replica_is_marked(VrReplica *self)
{
    g_autofree char *marker = marker_path(self);

    return g_file_test(marker, G_FILE_TEST_EXISTS);
}

gboolean
vr_replica_mark_rebuild(VrReplica *self, GError **error)
{
    g_autofree char *marker = marker_path(self);

    return vr_write_file_atomic(marker, "", 0, 0600, error);
}

/* The digests of row @index over what is there. */
static gboolean
load_row(VrReplica *self, GPtrArray *rows, guint index, const char *name, GError **error)
{
    const VrRpRow *row = rows->pdata[index];
    guint64 size = vr_replica_row_disk_size(row, name);
    guint64 floor = vr_replica_row_disk_floor(rows, index, name);
    g_autofree char *sums =
        vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".sums", name, row->rp.number);
    g_autoptr(VrManifest) manifest = NULL;

    if (floor > 0 && floor < size) {
        manifest = vr_manifest_open(self->manifest_dir, name, floor, error);
        if (!manifest)
            return FALSE;
        g_clear_pointer(&manifest, vr_manifest_close);
    }
    manifest = vr_manifest_open(self->manifest_dir, name, size, error);
    if (!manifest || !vr_manifest_discard(manifest, error) ||
        (floor == 0 && !vr_manifest_reset(manifest, error)))
        return FALSE;
    /* While a merge is under way the lower file may be gone already: the upper one has it all. */
    if (row->state == VR_RP_RETIRING && !g_file_test(sums, G_FILE_TEST_EXISTS))
        return TRUE;
    return vr_sums_load(sums, manifest, error) && vr_manifest_apply(manifest, error);
}

/* Nothing is held of a disk that is lost. */
static gboolean
empty_disk(VrReplica *self, const VrRpRow *head, const char *name, GError **error)
{
    g_autoptr(VrManifest) manifest =
        vr_manifest_open(self->manifest_dir, name, vr_replica_row_disk_size(head, name), error);

    return manifest && vr_manifest_discard(manifest, error) && vr_manifest_reset(manifest, error);
}

/* The layers of one disk in order, each with the sizes it had, so that what a smaller one cut is
 * gone. */
static gboolean
rebuild_disk(VrReplica *self, GPtrArray *rows, const char *name, GError **error)
{
    guint first = rows->len - 1;

    while (vr_replica_row_disk_floor(rows, first, name) > 0)
        first--;
    for (guint i = first; i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        g_autoptr(GError) local = NULL;

        if (load_row(self, rows, i, name, &local))
            continue;
        if (!g_error_matches(local, VR_ERROR, VR_ERROR_CORRUPT) &&
            !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        g_debug("replica of %s: %s", self->uuid, local->message);
        if (!vr_replica_put_check(self, row->rp.number, name, VR_LAYER_UNREADABLE, error) ||
            !vr_replica_note_damage(self, error))
            return FALSE;
        if (vr_replica_is_lost(self, vr_replica_last_row(rows), name))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return TRUE;
}

gboolean
vr_replica_rebuild_if_marked(VrReplica *self, GError **error)
{
    g_autofree char *marker = marker_path(self);
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GPtrArray) disks = NULL;
    const VrRpRow *head;

    if (!vr_replica_is_marked(self))
        return TRUE;
    rows = vr_state_rp_list(self->state, self->uuid, error);
    if (!rows)
        return FALSE;
    head = vr_replica_last_row(rows);
    disks = head ? vr_replica_row_disks(head, error) : NULL;
    if (head && !disks)
        return FALSE;
    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];

        if (!vr_replica_is_lost(self, head, disk->name) &&
            !rebuild_disk(self, rows, disk->name, error))
            return FALSE;
        if (vr_replica_is_lost(self, head, disk->name) &&
            !empty_disk(self, head, disk->name, error))
            return FALSE;
    }
    if (!vr_replica_mark_not_held(self, error))
        return FALSE;
    (void) unlink(marker);
    return vr_fsync_dir(self->manifest_dir, error);
}

static gboolean
apply_manifests(VrReplica *self, const VrRpRow *head, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(head, error);

    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autoptr(VrManifest) manifest =
            vr_manifest_open(self->manifest_dir, disk->name, disk->size_bytes, error);
        if (!manifest || !vr_manifest_apply(manifest, error))
            return FALSE;
    }
    return disks != NULL;
}

static gboolean
forget_vanished(VrReplica *self, const VrRpRow *before, const VrRpRow *head, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(before, error);

    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        if (vr_replica_row_disk_size(head, disk->name) == 0 &&
            !vr_manifest_remove(self->manifest_dir, disk->name, error))
            return FALSE;
    }
    return disks != NULL;
}

gboolean
vr_replica_finish_head(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;
    gboolean pending;
    const VrRpRow *head;

    if (!vr_state_rp_head_pending(self->state, self->uuid, &pending, error))
        return FALSE;
    if (!pending)
        return TRUE;
    rows = vr_state_rp_list(self->state, self->uuid, error);
    if (!rows)
        return FALSE;
    head = vr_replica_last_row(rows);
    if (head && !apply_manifests(self, head, error))
        return FALSE;
    if (rows->len > 1 && !forget_vanished(self, rows->pdata[rows->len - 2], head, error))
        return FALSE;
    if (!vr_replica_write_index(self, error) ||
        !vr_state_rp_head_applied(self->state, self->uuid, error) ||
        !vr_replica_sweep_incoming(self, error))
        return FALSE;
    vr_replica_sweep_attachments(self);
    vr_replica_forget_lost(self, head);
    return TRUE;
}
