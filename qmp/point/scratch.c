/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/point/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/run_program.h"

#define SUFFIX ".scratch.qcow2"
#define SHORT_LEN 8

typedef struct {
    char *path; /* owned */
    int fd;     /* held from creation to free; -1: not made */
} File;

struct _VrScratch {
    GMutex lock; /* guards files: the guard thread samples while the cycle's thread adds or syncs */
    GArray *files; /* owned, File */
};

char *
vr_scratch_path(const char *dir, const char *image, const char *uuid, const char *disk)
{
    g_autofree char *beside = g_path_get_dirname(image);
    g_autofree char *name =
        g_strdup_printf(".virt-replica-%.*s-%s-%08x" SUFFIX, SHORT_LEN, uuid, disk, g_random_int());

    return g_build_filename(dir ? dir : beside, name, NULL);
}

static void
file_clear(gpointer data)
{
    File *file = data;

    if (file->fd >= 0)
        close(file->fd);
    g_free(file->path);
}

VrScratch *
vr_scratch_new(void)
{
    VrScratch *self = g_new0(VrScratch, 1);

    g_mutex_init(&self->lock);
    self->files = g_array_new(FALSE, FALSE, sizeof(File));
    g_array_set_clear_func(self->files, file_clear);
    return self;
}

void
vr_scratch_free(VrScratch *self)
{
    if (!self)
        return;
    g_array_unref(self->files);
    g_mutex_clear(&self->lock);
    g_free(self);
}

gboolean
vr_scratch_add(VrScratch *self, const char *path, const char *image, const char *image_format,
               guint64 size_bytes, GError **error)
{
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, size_bytes);
    const char *argv[] = {"qemu-img", "create", "-q",         "-f", "qcow2", "-u", "-b",
                          image,      "-F",     image_format, "--", path,    size, NULL};
    File file = {NULL, open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};

    if (file.fd < 0 && errno == EEXIST) {
        vr_set_error(error, VR_ERROR_CONFLICT, "scratch-exists", NULL,
                     "scratch file '%s' is there already", path);
        return FALSE;
    }
    if (file.fd < 0) {
        vr_set_error_errno(error, errno, "cannot create scratch file '%s'", path);
        return FALSE;
    }
    file.path = g_strdup(path);
    g_mutex_lock(&self->lock);
    g_array_append_val(self->files, file);
    g_mutex_unlock(&self->lock);
    if (!vr_run_program(argv, NULL, NULL, error)) {
        g_prefix_error(error, "scratch file '%s': ", path);
        return FALSE;
    }
    return TRUE;
}

static gboolean
sample_one(const File *file, guint64 *used, guint64 *least_free, GError **error)
{
    struct stat st;
    struct statvfs fs;

    if (fstat(file->fd, &st) < 0 || fstatvfs(file->fd, &fs) < 0) {
        vr_set_error_errno(error, errno, "cannot look at scratch file '%s'", file->path);
        return FALSE;
    }
    *used += (guint64) st.st_blocks * 512;
    *least_free = MIN(*least_free, (guint64) fs.f_bavail * fs.f_frsize);
    return TRUE;
}

gboolean
vr_scratch_sample(VrScratch *self, guint64 *ret_used_bytes, guint64 *ret_free_bytes, GError **error)
{
    guint64 used = 0, least_free = G_MAXUINT64;
    gboolean ok = TRUE;

    g_mutex_lock(&self->lock);
    for (guint i = 0; ok && i < self->files->len; i++)
        ok = sample_one(&g_array_index(self->files, File, i), &used, &least_free, error);
    g_mutex_unlock(&self->lock);
    if (!ok)
        return FALSE;
    *ret_used_bytes = used;
    *ret_free_bytes = least_free;
    return TRUE;
}

gboolean
vr_scratch_sync(VrScratch *self, GError **error)
{
    gboolean ok = TRUE;

    for (guint i = 0; ok && i < self->files->len; i++) {
        const File *file = &g_array_index(self->files, File, i);

        if (fsync(file->fd) == 0)
            continue;
        ok = FALSE;
        if (errno == ENOSPC || errno == EDQUOT)
            vr_set_error_errno(error, errno, "scratch file '%s'", file->path);
        else
            vr_set_error(error, VR_ERROR_INTERNAL, "scratch-write-failed",
                         "Check the disk that holds the scratch file.", "scratch file '%s': %s",
                         file->path, g_strerror(errno));
    }
    return ok;
}

void
vr_scratch_remove(VrScratch *self)
{
    for (guint i = 0; i < self->files->len; i++) {
        const File *file = &g_array_index(self->files, File, i);

        if (unlink(file->path) < 0 && errno != ENOENT)
            g_warning("scratch file '%s': %s, ignoring", file->path, g_strerror(errno));
    }
}

gboolean
vr_scratch_is_ours(const char *path, const char *uuid)
{
    g_autofree char *name = g_path_get_basename(path);
    g_autofree char *prefix = g_strdup_printf(".virt-replica-%.*s-", SHORT_LEN, uuid);

    return g_path_is_absolute(path) && g_str_has_prefix(name, prefix) &&
           g_str_has_suffix(name, SUFFIX);
}

gboolean
vr_scratch_unlink(const char *path, const char *uuid)
{
    struct stat st;

    return vr_scratch_is_ours(path, uuid) && lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           unlink(path) == 0;
}

guint
vr_scratch_sweep(const char *dir, const char *uuid)
{
    g_autoptr(GDir) open_dir = g_dir_open(dir, 0, NULL);
    const char *name;
    guint removed = 0;

    while (open_dir && (name = g_dir_read_name(open_dir))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        if (vr_scratch_unlink(path, uuid))
            removed++;
    }
    return removed;
}
