/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/fault.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_private.h"

/* T3: everything is there and is what the source says. */

static gboolean
check_attachment(VrReplica *self, const VrAttachment *attachment, GError **error)
{
    g_autofree char *path = vr_replica_path(self, "attachments/%s", attachment->sha256);
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
        (guint64) st.st_size == attachment->size_bytes)
        return TRUE;
    vr_set_error(error, VR_ERROR_CONFLICT, "attachment-missing",
                 "Nothing to do: the next cycle sends it.", "attachment '%s' (%s) is not held here",
                 attachment->name, attachment->sha256);
    return FALSE;
}

static gboolean
check_root(VrReplica *self, VrIncoming *open, const VrCycleCommit *commit, gboolean *ret_wrong,
           GError **error)
{
    g_autoptr(VrRootBuilder) builder = vr_root_builder_new();
    g_autofree char *root = NULL;

    for (guint i = 0; i < open->disks->len; i++) {
        VrIncomingDisk *disk = open->disks->pdata[i];
        guint8 disk_root[VR_ROOT_LEN];

        vr_manifest_root(disk->manifest, disk_root);
        vr_root_builder_add_disk(builder, disk->name, disk->size_bytes, disk_root);
    }
    for (guint i = 0; i < commit->attachments->len; i++) {
        const VrAttachment *attachment = commit->attachments->pdata[i];

        if (!check_attachment(self, attachment, error))
            return FALSE;
        vr_root_builder_add_attachment(builder, attachment->name, attachment->size_bytes,
                                       attachment->sha256);
    }
    root = vr_root_builder_finish(builder);
    if (strcmp(root, commit->root) == 0)
        return TRUE;
    *ret_wrong = TRUE;
    vr_set_error(error, VR_ERROR_CORRUPT, "root-differs", "Run a resync.",
                 "cycle %s of %s: stored content has root %s, the source says %s", commit->cycle,
                 self->uuid, root, commit->root);
    return FALSE;
}

/* From here on a repeated COMMIT can go on after a crash. */
static gboolean
note_commit(VrReplica *self, const VrCycleCommit *commit, GError **error)
{
    g_autoptr(JsonNode) node = vr_cycle_commit_to_json(commit);
    g_autofree char *text = vr_json_to_text(node);
    g_autofree char *path = vr_replica_path(self, "incoming/%s/commit.json", commit->cycle);

    return vr_write_file_atomic(path, text, strlen(text), 0600, error);
}

/* T4: layers, digests and the RP's own directory are complete and durable. */

static gboolean
link_attachment(VrReplica *self, const char *dir, const VrAttachment *attachment, GError **error)
{
    g_autofree char *from = vr_replica_path(self, "attachments/%s", attachment->sha256);
    g_autofree char *to = g_build_filename(dir, attachment->name, NULL);

    if (link(from, to) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot link attachment '%s'", to);
    return FALSE;
}

static gboolean
make_point_dir(VrReplica *self, const VrCycleCommit *commit, GError **error)
{
    g_autofree char *dir = vr_replica_path(self, "incoming/%s/rp", commit->cycle);
    g_autofree char *xml = g_build_filename(dir, "domain.xml", NULL);

    if (!vr_remove_tree(dir, error))
        return FALSE;
    if (mkdir(dir, 0711) < 0) {
        vr_set_error_errno(error, errno, "cannot create '%s'", dir);
        return FALSE;
    }
    for (guint i = 0; i < commit->attachments->len; i++) {
        if (!link_attachment(self, dir, commit->attachments->pdata[i], error))
            return FALSE;
    }
    return vr_write_file_atomic(xml, commit->domain_xml, strlen(commit->domain_xml), 0600, error);
}

static gboolean
seal_disk(VrReplica *self, const char *cycle, VrIncomingDisk *disk, GError **error)
{
    g_autofree char *sums = vr_replica_path(self, "incoming/%s/%s.sums", cycle, disk->name);
    g_autofree char *backing =
        disk->below ? g_strdup_printf("%" G_GUINT64_FORMAT ".qcow2", disk->below) : NULL;

    return vr_sums_write(sums, disk->manifest, error) &&
           vr_layer_seal(disk->layer, backing, error) && vr_manifest_flush(disk->manifest, error);
}

static gboolean
seal(VrReplica *self, VrIncoming *open, const VrCycleCommit *commit, GError **error)
{
    for (guint i = 0; i < open->disks->len; i++) {
        if (!seal_disk(self, commit->cycle, open->disks->pdata[i], error))
            return FALSE;
    }
    return make_point_dir(self, commit, error);
}

/* T5: into place. */

static gboolean
move(const char *from, const char *to, GError **error)
{
    if (rename(from, to) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot rename '%s'", from);
    return FALSE;
}

static gboolean
publish_disk(VrReplica *self, VrIncoming *open, const char *disk, GError **error)
{
    static const char *const suffixes[] = {"sums", "qcow2"};
    g_autofree char *dir = vr_replica_path(self, "%s", disk);

    if (!vr_make_dir(dir, 0711, error))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *from =
            vr_replica_path(self, "incoming/%s/%s.%s", open->begin->cycle, disk, suffixes[i]);
        g_autofree char *to =
            vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".%s", disk, open->number, suffixes[i]);
        if (!move(from, to, error))
            return FALSE;
    }
    return vr_fsync_dir(dir, error);
}

static gboolean
publish(VrReplica *self, VrIncoming *open, GError **error)
{
    g_autofree char *from = vr_replica_path(self, "incoming/%s/rp", open->begin->cycle);
    g_autofree char *to = vr_replica_path(self, "rp/%" G_GUINT64_FORMAT, open->number);
    g_autofree char *points = vr_replica_path(self, "rp");

    for (guint i = 0; i < open->disks->len; i++) {
        const VrIncomingDisk *disk = open->disks->pdata[i];
        if (!publish_disk(self, open, disk->name, error))
            return FALSE;
    }
    return move(from, to, error) && vr_fsync_dir(points, error);
}

/* T6: the row. */

static char *
member_text(JsonNode *node, const char *key)
{
    return vr_json_to_text(json_object_get_member(json_node_get_object(node), key));
}

/* Those of the cycle; what stands alone has no floor. (transfer full) */
static char *
disks_text(VrIncoming *open)
{
    g_autoptr(JsonNode) node = vr_cycle_begin_to_json(open->begin);
    JsonArray *array = json_object_get_array_member(json_node_get_object(node), "disks");

    for (guint i = 0; i < open->disks->len; i++) {
        const VrIncomingDisk *disk = open->disks->pdata[i];

        if (disk->alone)
            json_object_set_int_member(json_array_get_object_element(array, i), "floor", 0);
    }
    return member_text(node, "disks");
}

static gboolean
insert_row(VrReplica *self, VrIncoming *open, const VrCycleCommit *commit, GError **error)
{
    g_autoptr(JsonNode) commit_json = vr_cycle_commit_to_json(commit);
    g_autoptr(VrRpRow) row = g_new0(VrRpRow, 1);

    row->uuid = g_strdup(self->uuid);
    row->rp.number = open->number;
    row->rp.cycle = g_strdup(commit->cycle);
    row->rp.stored_us = g_get_real_time();
    row->rp.time_us = vr_recovery_point_time(commit->time_us, row->rp.stored_us);
    row->rp.consistency = commit->consistency;
    row->rp.root = g_strdup(commit->root);
    for (guint i = 0; i < open->disks->len; i++) {
        const VrIncomingDisk *disk = open->disks->pdata[i];
        row->rp.bytes += vr_replica_allocated(self, open->number, disk->name);
    }
    row->state = VR_RP_LISTED;
    row->disks = disks_text(open);
    row->attachments = member_text(commit_json, "attachments");
    if (!vr_state_rp_commit(self->state, row, error))
        return FALSE;
    vr_replica_forget_damage(self);
    return TRUE;
}

gboolean
vr_replica_check_commit(VrReplica *self, const VrCycleCommit *commit, gboolean *ret_wrong,
                        GError **error)
{
    *ret_wrong = FALSE;
    return vr_incoming_prove(self, self->open, error) &&
           check_root(self, self->open, commit, ret_wrong, error);
}

gboolean
vr_replica_run_commit(VrReplica *self, const VrCycleCommit *commit, GError **error)
{
    VrIncoming *open = self->open;

    return note_commit(self, commit, error) && vr_fault_point(VR_STEP_T3, error) &&
           seal(self, open, commit, error) && vr_fault_point(VR_STEP_T4, error) &&
           publish(self, open, error) && vr_fault_point(VR_STEP_T5, error) &&
           insert_row(self, open, commit, error) && vr_fault_point(VR_STEP_T6, error);
}
