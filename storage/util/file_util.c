/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/util/file_util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"

void
vr_random_bytes(guint8 *buf, gsize len)
{
    while (len > 0) {
        ssize_t n = getrandom(buf, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            g_error("getrandom: %s", g_strerror(errno));
        buf += n;
        len -= (gsize) n;
    }
}

char *
vr_hex_encode(const guint8 *data, gsize len)
{
    static const char digits[] = "0123456789abcdef";
    char *text = g_malloc(len * 2 + 1);

    for (gsize i = 0; i < len; i++) {
        text[i * 2] = digits[data[i] >> 4];
        text[i * 2 + 1] = digits[data[i] & 15];
    }
    text[len * 2] = '\0';
    return text;
}

char *
vr_random_id(void)
{
    guint8 bytes[16];

    vr_random_bytes(bytes, sizeof(bytes));
    return vr_hex_encode(bytes, sizeof(bytes));
}

char *
vr_sha256_hex(const void *data, gsize len)
{
    guint8 digest[EVP_MAX_MD_SIZE];
    unsigned int digest_len = 0;

    if (EVP_Digest(data, len, digest, &digest_len, EVP_sha256(), NULL) != 1)
        g_error("SHA-256 is not available");
    return vr_hex_encode(digest, digest_len);
}

char *
vr_sha256_fd(int fd, GError **error)
{
    g_autofree guint8 *buf = g_malloc(256 * 1024);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    guint8 digest[EVP_MAX_MD_SIZE];
    unsigned int digest_len = 0;
    off_t offset = 0;
    ssize_t n;

    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        g_error("SHA-256 is not available");
    while ((n = pread(fd, buf, 256 * 1024, offset)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            vr_set_error_errno(error, errno, "cannot read a file to digest it");
            EVP_MD_CTX_free(md);
            return NULL;
        }
        EVP_DigestUpdate(md, buf, (gsize) n);
        offset += n;
    }
    EVP_DigestFinal_ex(md, digest, &digest_len);
    EVP_MD_CTX_free(md);
    return vr_hex_encode(digest, digest_len);
}

static gboolean
write_all(int fd, const char *data, gsize len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return FALSE;
        data += n;
        len -= (gsize) n;
    }
    return TRUE;
}

gboolean
vr_fsync_dir(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int saved;

    if (fd < 0 || fsync(fd) < 0) {
        saved = errno;
        if (fd >= 0)
            close(fd);
        vr_set_error_errno(error, saved, "cannot sync directory '%s'", path);
        return FALSE;
    }
    close(fd);
    return TRUE;
}

gboolean
vr_write_file_atomic(const char *path, const void *data, gsize len, guint mode, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *id = vr_random_id();
    g_autofree char *temp = g_strdup_printf("%s.%.8s.tmp", path, id);
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int saved;

    if (fd < 0) {
        vr_set_error_errno(error, errno, "cannot create '%s'", temp);
        return FALSE;
    }
    if (!write_all(fd, data, len) || fchmod(fd, (mode_t) mode) < 0 || fsync(fd) < 0) {
        saved = errno;
        close(fd);
        unlink(temp);
        vr_set_error_errno(error, saved, "cannot write '%s'", temp);
        return FALSE;
    }
    close(fd);
    if (rename(temp, path) < 0) {
        saved = errno;
        unlink(temp);
        vr_set_error_errno(error, saved, "cannot rename '%s' to '%s'", temp, path);
        return FALSE;
    }
    return vr_fsync_dir(dir, error);
}

char *
vr_read_file(const char *path, gsize max, gsize *ret_len, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    g_autofree char *data = NULL;
    struct stat st;
    gsize len = 0;
    int saved = 0;

    if (fd < 0) {
        vr_set_error_errno(error, errno, "cannot open '%s'", path);
        return NULL;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        vr_set_error(error, VR_ERROR_INVALID, "not-a-file", NULL, "'%s' is not a regular file",
                     path);
        return NULL;
    }
    data = g_malloc(MIN((guint64) st.st_size, max) + 2);
    while (len <= MIN((guint64) st.st_size, max)) {
        ssize_t n = pread(fd, data + len, MIN((guint64) st.st_size, max) + 1 - len, (off_t) len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            saved = errno;
        if (n <= 0)
            break;
        len += (gsize) n;
    }
    close(fd);
    if (saved) {
        vr_set_error_errno(error, saved, "cannot read '%s'", path);
        return NULL;
    }
    if (len > max) {
        vr_set_error(error, VR_ERROR_INVALID, "file-too-large", NULL,
                     "'%s' is larger than %" G_GSIZE_FORMAT " bytes", path, max);
        return NULL;
    }
    data[len] = '\0';
    if (ret_len)
        *ret_len = len;
    return g_steal_pointer(&data);
}

gboolean
vr_make_dir(const char *path, guint mode, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);

    if (g_file_test(path, G_FILE_TEST_IS_DIR))
        return TRUE;
    if (strcmp(parent, path) != 0 && !vr_make_dir(parent, mode, error))
        return FALSE;
    if (mkdir(path, (mode_t) mode) < 0) {
        if (errno == EEXIST && g_file_test(path, G_FILE_TEST_IS_DIR))
            return TRUE;
        vr_set_error_errno(error, errno, "cannot create directory '%s'", path);
        return FALSE;
    }
    if (chmod(path, (mode_t) mode) < 0) { /* whatever the umask says */
        vr_set_error_errno(error, errno, "cannot set the mode of directory '%s'", path);
        return FALSE;
    }
    return vr_fsync_dir(parent, error);
}

static gboolean
remove_at(int dir_fd, const char *name, const char *top, GError **error)
{
    int fd;
    DIR *dir;
    struct dirent *entry;
    gboolean ok = TRUE;

    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return TRUE;
    if (errno != EISDIR && errno != EPERM) {
        vr_set_error_errno(error, errno, "cannot remove '%s' under '%s'", name, top);
        return FALSE;
    }
    fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        vr_set_error_errno(error, errno, "cannot open '%s' under '%s'", name, top);
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    while (ok && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = remove_at(fd, entry->d_name, top, error);
    }
    closedir(dir);
    if (ok && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        vr_set_error_errno(error, errno, "cannot remove directory '%s' under '%s'", name, top);
        ok = FALSE;
    }
    return ok;
}

gboolean
vr_remove_tree(const char *path, GError **error)
{
    return remove_at(AT_FDCWD, path, path, error);
}
