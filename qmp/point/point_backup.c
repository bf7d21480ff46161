/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guard thread runs while the job does. At the scratch limit it cancels the cycle; if the job is
 * then not ended within GRACE_US, or space runs out, or QEMU has paused the guest over a write
 * error, it ends the job itself: the gate is shut first, so that no connection is half open (that
 * would hang QEMU). The lock "ending" keeps the guard and the cycle from ending the job at once.
 */
#include "qmp/point/point_backup.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <string.h>
#include <unistd.h>

#include "policies/error.h"
#include "qmp/domain/block_job.h"
#include "qmp/point/checkpoint.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/point_impl.h"
#include "qmp/point/scratch.h"
#include "qmp/virerr.h"

#define SAMPLE_US (G_USEC_PER_SEC / 10)
#define STATE_EVERY 5
#define GRACE_US (5 * G_USEC_PER_SEC)
/* What must be free beyond the reserve for a job to be worth starting. */
#define HEADROOM (G_GUINT64_CONSTANT(64) << 20)

typedef struct {
    VrScratch *scratch; /* owned */
    GThread *guard;     /* owned, NULL when not running */
    GMutex ending;      /* held while the job is being ended */
    GMutex lock;        /* guards stop */
    GCond cond;
    gboolean stop;
    gboolean guard_ended; /* guarded by ending */
} Backup;

static gpointer
backup_new(VrPoint *self G_GNUC_UNUSED)
{
    Backup *backup = g_new0(Backup, 1);

    backup->scratch = vr_scratch_new();
    g_mutex_init(&backup->ending);
    g_mutex_init(&backup->lock);
    g_cond_init(&backup->cond);
    return backup;
}

static void
stop_guard(Backup *backup)
{
    if (!backup->guard)
        return;
    g_mutex_lock(&backup->lock);
    backup->stop = TRUE;
    g_cond_broadcast(&backup->cond);
    g_mutex_unlock(&backup->lock);
    g_thread_join(g_steal_pointer(&backup->guard));
}

static void
backup_free(gpointer data)
{
    Backup *backup = data;

    stop_guard(backup);
    vr_scratch_free(backup->scratch);
    g_mutex_clear(&backup->ending);
    g_mutex_clear(&backup->lock);
    g_cond_clear(&backup->cond);
    g_free(backup);
}

/* Preparing. */

/* So that begin rarely fails: it would with the guest frozen, and old libvirt is fragile there.
 * Only what says that tracking is lost counts; anything else begin itself will say better. */
static gboolean
check_bases(VrPoint *self, GError **error)
{
    const char *checked = NULL;

    for (guint i = 0; i < self->disks->len; i++) {
        const char *base = vr_point_disk_state(self, i)->base;
        g_autoptr(GError) local = NULL;

        if (!base || g_strcmp0(base, checked) == 0)
            continue;
        checked = base;
        if (!vr_checkpoint_validate(self->conn, self->uuid, base, &local) &&
            g_error_matches(local, VR_ERROR, VR_ERROR_RESYNC_NEEDED)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
check_space(VrPoint *self, Backup *backup, GError **error)
{
    guint64 used = 0, free_bytes = 0;

    if (!vr_scratch_sample(backup->scratch, &used, &free_bytes, error))
        return FALSE;
    if (free_bytes >= self->scratch_reserve + HEADROOM)
        return TRUE;
    vr_set_error(error, VR_ERROR_NO_SPACE, "scratch-no-space",
                 "Free space beside the domain's images, or set another scratch directory.",
                 "domain '%s': %" G_GUINT64_FORMAT " MiB free for scratch files, %" G_GUINT64_FORMAT
                 " MiB needed",
                 self->uuid, free_bytes >> 20, (self->scratch_reserve + HEADROOM) >> 20);
    return FALSE;
}

static gboolean
backup_prepare(VrPoint *self, GError **error)
{
    Backup *backup = self->impl;

    if (!vr_point_backup_check_idle(self->conn, self->uuid, error) || !check_bases(self, error))
        return FALSE;
    for (guint i = 0; i < self->disks->len; i++) {
        const VrPointDiskState *disk = vr_point_disk_state(self, i);

        if (!vr_scratch_add(backup->scratch, disk->scratch, disk->path, disk->format,
                            disk->image_size, error))
            return FALSE;
    }
    return check_space(self, backup, error);
}

/* Beginning. */

static void
append_disk(GString *xml, const VrPointDiskState *disk)
{
    g_autofree char *line = NULL;

    if (disk->base)
        line = g_markup_printf_escaped(
            "    <disk name='%s' backup='yes' type='file' backupmode='incremental'"
            " incremental='%s' exportname='%s' exportbitmap='%s'>\n"
            "      <scratch file='%s'/>\n    </disk>\n",
            disk->target, disk->base, disk->target, disk->bitmap, disk->scratch);
    else
        line =
            g_markup_printf_escaped("    <disk name='%s' backup='yes' type='file' backupmode='full'"
                                    " exportname='%s'>\n"
                                    "      <scratch file='%s'/>\n    </disk>\n",
                                    disk->target, disk->target, disk->scratch);
    g_string_append(xml, line);
}

static char *
backup_xml(VrPoint *self)
{
    g_autoptr(GString) xml = g_string_new("<domainbackup mode='pull'>\n");
    g_autofree char *server = g_markup_printf_escaped("  <server transport='unix' socket='%s'/>\n",
                                                      vr_point_disk_state(self, 0)->socket);

    g_string_append(xml, server);
    g_string_append(xml, "  <disks>\n");
    for (guint i = 0; i < self->disks->len; i++)
        append_disk(xml, vr_point_disk_state(self, i));
    for (guint i = 0; self->others[i]; i++) {
        g_autofree char *line =
            g_markup_printf_escaped("    <disk name='%s' backup='no'/>\n", self->others[i]);

        g_string_append(xml, line);
    }
    g_string_append(xml, "  </disks>\n</domainbackup>\n");
    return g_strdup(xml->str);
}

static char *
checkpoint_xml(VrPoint *self)
{
    g_autoptr(GPtrArray) tracked = g_ptr_array_new();

    for (guint i = 0; i < self->disks->len; i++)
        g_ptr_array_add(tracked, vr_point_disk_state(self, i)->target);
    g_ptr_array_add(tracked, NULL);
    return vr_checkpoint_xml(self->checkpoint, (const char *const *) tracked->pdata,
                             (const char *const *) self->others, 0);
}

static void
fail_scratch(VrPoint *self, const char *why, guint64 used)
{
    GError *failure = NULL;

    vr_set_error(&failure, VR_ERROR_NO_SPACE, "scratch-full",
                 "Raise the scratch limit, free space, or let the copy run faster.",
                 "domain '%s': %s (scratch files hold %" G_GUINT64_FORMAT " MiB)", self->uuid, why,
                 used >> 20);
    vr_point_fail(self, failure);
}

/* By the guard, readers may still be connected: QEMU closes finished connections itself. */
static void
end_by_guard(VrPoint *self, Backup *backup)
{
    g_autoptr(GError) local = NULL;
    gboolean ended = FALSE;

    vr_nbd_gate_close(self->gate);
    g_mutex_lock(&backup->ending);
    if (!self->ended &&
        !vr_point_backup_end_job(self->conn, self->uuid, vr_point_disk_state(self, 0)->socket,
                                 &ended, &local))
        g_warning("domain '%s': scratch is full and the job cannot be ended: %s", self->uuid,
                  local->message);
    backup->guard_ended = backup->guard_ended || ended;
    g_mutex_unlock(&backup->ending);
}

/* A point is never made of a guest that is paused so, thus it happened during our job. */
static void
resume_guest(VrPoint *self)
{
    g_autoptr(GError) local = NULL;
    gboolean resumed = FALSE;

    if (!vr_dom_resume_io_error(self->conn, self->uuid, &resumed, &local))
        g_warning("domain '%s': %s", self->uuid, local->message);
    else if (resumed)
        g_warning("domain '%s' was paused by a write error during a backup and has been resumed",
                  self->uuid);
}

/* QEMU paused the guest because a write failed. */
static void
rescue_guest(VrPoint *self, Backup *backup, guint64 used)
{
    fail_scratch(self, "the guest was paused by a write error during the backup", used);
    end_by_guard(self, backup);
    resume_guest(self);
}

static gboolean
guest_is_paused(VrPoint *self)
{
    VrDomState state = VR_DOM_RUNNING;

    return vr_dom_state(self->conn, self->uuid, &state, NULL) && state == VR_DOM_IO_ERROR;
}

/* FALSE when told to stop. */
static gboolean
guard_sleep(Backup *backup)
{
    gint64 until = g_get_monotonic_time() + SAMPLE_US;
    gboolean go_on;

    g_mutex_lock(&backup->lock);
    while (!backup->stop && g_cond_wait_until(&backup->cond, &backup->lock, until))
        ;
    go_on = !backup->stop;
    g_mutex_unlock(&backup->lock);
    return go_on;
}

static gpointer
guard_main(gpointer data)
{
    VrPoint *self = data;
    Backup *backup = self->impl;
    gint64 full_since = 0;

    for (guint turn = 0; guard_sleep(backup); turn++) {
        guint64 used = 0, free_bytes = G_MAXUINT64;
        gboolean full;

        if (!vr_scratch_sample(backup->scratch, &used, &free_bytes, NULL))
            continue;
        full = (self->scratch_limit > 0 && used > self->scratch_limit) ||
               free_bytes < self->scratch_reserve;
        if (full && full_since == 0) {
            full_since = g_get_monotonic_time();
            fail_scratch(self, "scratch limit reached", used);
        }
        if (turn % STATE_EVERY == 0 && guest_is_paused(self))
            rescue_guest(self, backup, used);
        else if (full_since > 0 && (free_bytes < self->scratch_reserve / 2 ||
                                    g_get_monotonic_time() - full_since > GRACE_US))
            end_by_guard(self, backup);
    }
    return NULL;
}

static gboolean
call_begin(VrPoint *self, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(self->conn, self->uuid, error);
    g_autofree char *backup = backup_xml(self);
    g_autofree char *checkpoint = checkpoint_xml(self);

    if (!dom)
        return FALSE;
    if (virDomainBackupBegin(dom->dom, backup, checkpoint,
                             VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL) == 0)
        return TRUE;
    vr_virerr_set(error, "domain '%s': cannot begin the backup", dom->name);
    return FALSE;
}

/* The only checkpoints that it names beside the new one are the bases. What else is in the way is
 * found by looking: libvirt's words are translated. */
static void
explain_begin(VrPoint *self, GError **failure, GError **error)
{
    if (g_error_matches(*failure, VR_ERROR, VR_ERROR_NOT_FOUND) &&
        strcmp(vr_error_slug(*failure), "no-such-checkpoint") == 0)
        vr_set_error(error, VR_ERROR_RESYNC_NEEDED, "tracking-lost",
                     "Nothing to do: a resync runs by itself.", "%s", (*failure)->message);
    else if (g_error_matches(*failure, VR_ERROR, VR_ERROR_RESYNC_NEEDED) ||
             vr_dom_check_no_block_job(self->conn, self->uuid, error))
        g_propagate_error(error, g_steal_pointer(failure));
    else if (error && !g_error_matches(*error, VR_ERROR, VR_ERROR_CONFLICT)) {
        g_clear_error(error);
        g_propagate_error(error, g_steal_pointer(failure));
    }
}

static gboolean
backup_begin(VrPoint *self, GError **error)
{
    Backup *backup = self->impl;
    g_autoptr(GError) local = NULL;

    if (!call_begin(self, &local)) {
        explain_begin(self, &local, error);
        return FALSE;
    }
    for (guint i = 0; i < self->disks->len; i++) {
        VrPointDiskState *disk = vr_point_disk_state(self, i);

        disk->source = vr_nbd_source_new(disk->socket, disk->target, self->gate);
    }
    self->serving = TRUE;
    backup->guard = g_thread_new("scratch-guard", guard_main, self);
    return TRUE;
}

static gboolean
backup_release(VrPoint *self, GError **error)
{
    Backup *backup = self->impl;

    return vr_scratch_sync(backup->scratch, error);
}

static gboolean
backup_end(VrPoint *self, GError **error)
{
    Backup *backup = self->impl;
    g_autoptr(GError) local = NULL;
    gboolean ended = FALSE, lost = FALSE, ok;

    g_mutex_lock(&backup->ending);
    ok = vr_point_backup_end_job(self->conn, self->uuid, vr_point_disk_state(self, 0)->socket,
                                 &ended, &local);
    /* A domain that is gone has no job. */
    self->ended = ok || g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND);
    lost = self->serving && self->ended && !ended;
    g_mutex_unlock(&backup->ending);
    if (!self->ended) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    stop_guard(backup);
    if (self->serving && guest_is_paused(self))
        resume_guest(self);
    if (!lost)
        return TRUE;
    if (!vr_point_failure(self, error))
        vr_set_error(error, VR_ERROR_CONFLICT, "backup-job-lost",
                     "Check whether another program ends backup jobs or the domain was stopped.",
                     "domain '%s': the backup job was ended by somebody else", self->uuid);
    return FALSE;
}

static void
backup_cleanup(VrPoint *self)
{
    Backup *backup = self->impl;

    vr_scratch_remove(backup->scratch);
    for (guint i = 0; i < self->disks->len; i++) {
        const char *socket = vr_point_disk_state(self, i)->socket;

        if (unlink(socket) < 0 && errno != ENOENT)
            g_warning("socket '%s': %s, ignoring", socket, g_strerror(errno));
    }
}

/* A running domain has nothing to give way to. */
static void
backup_give_way(VrPoint *self G_GNUC_UNUSED)
{
}

const VrPointOps vr_point_backup_ops = {
    .prepare = backup_prepare,
    .begin = backup_begin,
    .release = backup_release,
    .end = backup_end,
    .cleanup = backup_cleanup,
    .give_way = backup_give_way,
    .impl_new = backup_new,
    .impl_free = backup_free,
};
