/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_input.h"

#include "policies/error.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static gboolean
read_all(int fd, char *buffer, gsize max, gsize *ret_length, const char *path, GError **error)
{
    gsize length = 0;

    while (length < max) {
        ssize_t n = read(fd, buffer + length, max - length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            vr_set_error(error, VR_ERROR_INVALID, "bad-file", NULL, "cannot read '%s': %s", path,
                         g_strerror(errno));
            return FALSE;
        }
        if (n == 0)
            break;
        length += (gsize) n;
    }
    *ret_length = length;
    return TRUE;
}

char *
vr_cli_read_file(const char *path, gsize max, GError **error)
{
    gboolean standard = g_str_equal(path, "-");
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    g_autofree char *buffer = NULL;
    const char *bad = NULL;
    gsize length = 0;
    gboolean ok = FALSE;

    if (fd < 0) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-file", NULL, "cannot open '%s': %s", path,
                     g_strerror(errno));
        return NULL;
    }
    buffer = g_malloc(max + 2);
    ok = read_all(fd, buffer, max + 1, &length, path, error);
    if (!standard)
        close(fd);
    if (!ok)
        return NULL;
    if (length > max) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-file", NULL,
                     "'%s' is larger than %" G_GSIZE_FORMAT " bytes", path, max);
        return NULL;
    }
    if (!g_utf8_validate_len(buffer, length, &bad)) {
        guint line = 1;

        for (const char *c = buffer; c < bad; c++)
            line += *c == '\n';
        vr_set_error(error, VR_ERROR_INVALID, "bad-file", NULL, "%s:%u: not UTF-8 text", path,
                     line);
        return NULL;
    }
    buffer[length] = '\0';
    return g_steal_pointer(&buffer);
}
