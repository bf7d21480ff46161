/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/util/mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"

static gboolean
fail(const VrMappedFile *self, const char *what, GError **error)
{
    vr_set_error_errno(error, errno, "cannot %s '%s'", what, self->path);
    return FALSE;
}

/* Cutting is made durable at once: what was behind the end must not come back when the file grows
 * again after a power loss. */
static gboolean
set_length(VrMappedFile *self, gboolean *ret_resized, GError **error)
{
    struct stat st;

    if (fstat(self->fd, &st) < 0)
        return fail(self, "stat", error);
    *ret_resized = (guint64) st.st_size != self->len;
    if (!*ret_resized)
        return TRUE;
    if (ftruncate(self->fd, (off_t) self->len) < 0)
        return fail(self, "resize", error);
    if ((guint64) st.st_size > self->len && fsync(self->fd) < 0)
        return fail(self, "sync", error);
    return TRUE;
}

gboolean
vr_mapped_file_open(VrMappedFile *self, const char *path, guint64 len, gboolean *ret_resized,
                    GError **error)
{
    gboolean resized = FALSE;
    void *data;

    self->len = len;
    self->path = g_strdup(path);
    self->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (self->fd < 0)
        return fail(self, "open", error);
    if (!set_length(self, &resized, error))
        return FALSE;
    data = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
    if (data == MAP_FAILED)
        return fail(self, "map", error);
    self->data = data;
    /* Read-around would fill memory with pages of zeros at each access to a hole. */
    (void) madvise(data, len, MADV_RANDOM);
    if (ret_resized)
        *ret_resized = resized;
    return TRUE;
}

void
vr_mapped_file_close(VrMappedFile *self)
{
    if (!self->path)
        return;
    if (self->data)
        munmap(self->data, self->len);
    if (self->fd >= 0)
        close(self->fd);
    g_free(self->path);
    memset(self, 0, sizeof(*self));
}

static int
retry_fallocate(int fd, int mode, guint64 offset, guint64 len)
{
    int result;

    do {
        result = fallocate(fd, mode, (off_t) offset, (off_t) len);
    } while (result < 0 && errno == EINTR);
    return result;
}

gboolean
vr_mapped_file_reserve(const VrMappedFile *self, guint64 offset, guint64 len, GError **error)
{
    if (retry_fallocate(self->fd, FALLOC_FL_KEEP_SIZE, offset, len) == 0)
        return TRUE;
    /* Where it cannot be asked for, the C library writes to each block, which is room as well. */
    if (errno == EOPNOTSUPP)
        errno = posix_fallocate(self->fd, (off_t) offset, (off_t) len);
    return errno == 0 ? TRUE : fail(self, "allocate room in", error);
}

gboolean
vr_mapped_file_sync(const VrMappedFile *self, GError **error)
{
    if (msync(self->data, self->len, MS_SYNC) < 0)
        return fail(self, "sync", error);
    return TRUE;
}

gboolean
vr_mapped_file_next_data(const VrMappedFile *self, guint64 offset, guint64 *ret_start,
                         guint64 *ret_end)
{
    off_t start;
    off_t end;

    if (offset >= self->len)
        return FALSE;
    start = lseek(self->fd, (off_t) offset, SEEK_DATA);
    if (start < 0 && errno == ENXIO)
        return FALSE;
    end = start < 0 ? -1 : lseek(self->fd, start, SEEK_HOLE);
    *ret_start = start < 0 ? offset : (guint64) start;
    *ret_end = end < 0 ? self->len : MIN((guint64) end, self->len);
    return TRUE;
}

/* Where holes cannot be punched: zeros over what is data. Written, since storing to a hole of a
 * mapping kills us where the file system is full. */
static gboolean
zero_data(VrMappedFile *self, GError **error)
{
    static const guint8 zeros[64 * 1024];
    guint64 start, end;

    for (guint64 at = 0; vr_mapped_file_next_data(self, at, &start, &end); at = end) {
        while (start < end) {
            gssize n = pwrite(self->fd, zeros, MIN(end - start, sizeof zeros), (off_t) start);

            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                return fail(self, "empty", error);
            start += (guint64) n;
        }
    }
    return TRUE;
}

gboolean
vr_mapped_file_clear(VrMappedFile *self, GError **error)
{
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

    if (retry_fallocate(self->fd, mode, 0, self->len) < 0) {
        if (errno != EOPNOTSUPP)
            return fail(self, "empty", error);
        if (!zero_data(self, error))
            return FALSE;
    }
    if (!vr_mapped_file_sync(self, error))
        return FALSE;
    if (fsync(self->fd) < 0)
        return fail(self, "sync", error);
    return TRUE;
}
