/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/hook/hook_rule.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "policies/fence_record.h"
#include "policies/ids.h"

#define FENCE_SIZE_MAX (16 * 1024)
#define NONCE_MAX 128

static gboolean
is_one_of(const char *word, const char *const *words)
{
    for (guint i = 0; words[i]; i++) {
        if (strcmp(word, words[i]) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean
may_refuse(const char *op)
{
    static const char *const ops[] = {"prepare", "restore", NULL};

    return is_one_of(op, ops);
}

static gboolean
is_reported(const char *op)
{
    static const char *const ops[] = {"prepare", "started", "stopped", "release", NULL};

    return is_one_of(op, ops);
}

gboolean
vr_hook_needs_xml(const char *op)
{
    return may_refuse(op) || is_reported(op);
}

/* --- the <uuid> of the domain ------------------------------------------------------------------
 */

typedef struct {
    const char *at;
    const char *end;
} Cursor;

static gboolean
looking_at(const Cursor *c, const char *text)
{
    gsize length = strlen(text);

    return (gsize) (c->end - c->at) >= length && memcmp(c->at, text, length) == 0;
}

/* Moves behind the next @text. */
static gboolean
skip_past(Cursor *c, const char *text)
{
    const char *found = memmem(c->at, (gsize) (c->end - c->at), text, strlen(text));

    if (!found)
        return FALSE;
    c->at = found + strlen(text);
    return TRUE;
}

/* From behind the name of a tag to behind its '>', past quoted attribute values. */
static gboolean
skip_attributes(Cursor *c, gboolean *ret_empty)
{
    for (; c->at < c->end && *c->at != '>'; c->at++) {
        if (*c->at == '"' || *c->at == '\'') {
            c->at = memchr(c->at + 1, *c->at, (gsize) (c->end - c->at - 1));
            if (!c->at)
                return FALSE;
        }
    }
    if (c->at >= c->end)
        return FALSE;
    *ret_empty = c->at[-1] == '/';
    c->at++;
    return TRUE;
}

static gboolean
name_is(const char *name, gsize length, const char *wanted)
{
    return length == strlen(wanted) && memcmp(name, wanted, length) == 0;
}

static gboolean
take_uuid(const Cursor *c, char *ret_uuid)
{
    const char *end = memchr(c->at, '<', (gsize) (c->end - c->at));
    g_autofree char *text = NULL;

    if (!end || end - c->at > 128)
        return FALSE;
    text = g_ascii_strdown(c->at, end - c->at);
    g_strstrip(text);
    if (!vr_uuid_valid(text))
        return FALSE;
    memcpy(ret_uuid, text, VR_UUID_LENGTH + 1);
    return TRUE;
}

/* An element's start tag. -1: senseless, 1: the uuid was found, 0: go on. */
static int
start_tag(Cursor *c, guint *depth, char *ret_uuid)
{
    const char *name = c->at;
    gsize length;
    gboolean empty;

    while (c->at < c->end && !strchr(" \t\r\n/>", *c->at))
        c->at++;
    length = (gsize) (c->at - name);
    if (!skip_attributes(c, &empty) || (*depth == 0 && !name_is(name, length, "domain")))
        return -1;
    if (*depth == 1 && !empty && name_is(name, length, "uuid"))
        return take_uuid(c, ret_uuid) ? 1 : -1;
    if (!empty)
        (*depth)++;
    return 0;
}

gboolean
vr_hook_find_uuid(const char *xml, gsize length, char *ret_uuid)
{
    Cursor c = {xml, NULL};
    guint depth = 0;

    if (!xml)
        return FALSE;
    c.end = xml + MIN(length, VR_HOOK_XML_MAX);
    while (c.at < c.end && skip_past(&c, "<")) {
        gboolean ok = TRUE;
        int found = 0;

        if (looking_at(&c, "!--")) {
            c.at += strlen("!--");
            ok = skip_past(&c, "-->");
        } else if (looking_at(&c, "![CDATA[")) {
            ok = skip_past(&c, "]]>");
        } else if (looking_at(&c, "?")) {
            ok = skip_past(&c, "?>");
        } else if (looking_at(&c, "!")) {
            ok = FALSE; /* a DTD: libvirt writes none */
        } else if (looking_at(&c, "/")) {
            ok = depth-- > 1 && skip_past(&c, ">");
        } else {
            found = start_tag(&c, &depth, ret_uuid);
            ok = found >= 0;
        }
        if (!ok)
            return FALSE;
        if (found == 1)
            return TRUE;
    }
    return FALSE;
}

/* --- small files -------------------------------------------------------------------------------
 */

/* Whole file of at most @max bytes. NULL with errno set otherwise. */
static char *
read_small(int dir, const char *name, gsize max, gsize *ret_length)
{
    /* O_NONBLOCK: a FIFO put there must not hang libvirt. */
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    g_autofree char *buffer = NULL;
    struct stat st;
    gsize got = 0;
    ssize_t n = 0;
    int cause;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (guint64) st.st_size > max) {
        close(fd);
        errno = EFBIG;
        return NULL;
    }
    buffer = g_malloc(max + 1);
    while (got <= max && (n = read(fd, buffer + got, max + 1 - got)) > 0)
        got += (gsize) n;
    cause = n < 0 ? errno : EFBIG;
    close(fd);
    if (n < 0 || got > max) {
        errno = cause;
        return NULL;
    }
    *ret_length = got;
    return g_steal_pointer(&buffer);
}

static gboolean
write_all(int fd, const char *data, gsize length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);

        if (n <= 0)
            return FALSE;
        data += n;
        length -= (gsize) n;
    }
    return TRUE;
}

/* The daemon reads the answer within seconds, so it need not survive a power cut: no fsync. */
static void
answer_canary(int dir)
{
    gsize length = 0;
    g_autofree char *nonce = read_small(dir, VR_HOOK_CANARY_REQUEST, NONCE_MAX, &length);
    g_autofree char *temporary = NULL;
    gboolean written;
    int fd;

    if (!nonce)
        return;
    temporary = g_strdup_printf(".%s.%d", VR_HOOK_CANARY_ANSWER, (int) getpid());
    (void) unlinkat(dir, temporary, 0);
    fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    written = write_all(fd, nonce, length);
    close(fd);
    if (!written || renameat(dir, temporary, dir, VR_HOOK_CANARY_ANSWER) < 0)
        (void) unlinkat(dir, temporary, 0);
}

/* --- the rule ----------------------------------------------------------------------------------
 */

/* A fence file that cannot be used fences all the same, but only its own domain. */
static int
refuse_unusable(const VrHookPaths *paths, const char *domain, const char *uuid, const char *cause,
                char **ret_message)
{
    g_autofree char *name = vr_display_name(domain, 64);

    if (ret_message)
        *ret_message = g_strdup_printf("domain '%s' must not start: its fence file %s/%s cannot be "
                                       "used (%s); read it, then restart virt-replicad",
                                       name, paths->fence_dir, uuid, cause);
    return 1;
}

static int
judge(const VrHookPaths *paths, int dir, const char *domain, const char *uuid, char **ret_message)
{
    g_autoptr(VrFenceRecord) record = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    struct stat st;
    gsize length = 0;
    int cause;

    text = read_small(dir, uuid, FENCE_SIZE_MAX, &length);
    cause = errno;
    if (!text) {
        if (fstatat(dir, uuid, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return 0;
        return refuse_unusable(paths, domain, uuid, g_strerror(cause), ret_message);
    }
    record = vr_fence_record_parse("fence", text, length, &error);
    if (!record)
        return refuse_unusable(paths, domain, uuid, error->message, ret_message);
    if (ret_message)
        *ret_message = vr_fence_record_sentence(record, domain);
    return 1;
}

static void
report(const char *socket_path, const char *domain, const char *uuid, const char *op)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *name = vr_display_name(domain, 255);
    g_autofree char *line = g_strdup_printf("%s %s %s", uuid, op, name);
    int fd;

    if (strlen(socket_path) >= sizeof(address.sun_path))
        return;
    strcpy(address.sun_path, socket_path);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void) sendto(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *) &address,
                  sizeof(address));
    close(fd);
}

int
vr_hook_run(const VrHookPaths *paths, int argc, const char *const *argv, const char *xml,
            gsize length, char **ret_message)
{
    const char *name = argc > 2 ? argv[1] : NULL;
    const char *op = argc > 2 ? argv[2] : NULL;
    gboolean canary = name && strcmp(name, VR_HOOK_CANARY_NAME) == 0;
    char uuid[VR_UUID_LENGTH + 1];
    int answer;
    int dir;

    if (!op || !vr_hook_needs_xml(op))
        return 0;
    if (!may_refuse(op)) {
        if (!canary && vr_hook_find_uuid(xml, length, uuid))
            report(paths->event_socket, name, uuid, op);
        return 0;
    }
    dir = open(paths->fence_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (canary && strcmp(op, "prepare") == 0) {
        if (dir >= 0) {
            answer_canary(dir);
            close(dir);
        }
        if (ret_message)
            *ret_message = g_strdup("the virt-replica hook is active");
        return 1;
    }
    if (!vr_hook_find_uuid(xml, length, uuid)) {
        if (dir >= 0)
            close(dir);
        return 0;
    }
    answer = dir >= 0 ? judge(paths, dir, name, uuid, ret_message) : 0;
    if (dir >= 0)
        close(dir);
    /* A start that is refused reads no image: nobody need give way to it. */
    if (answer == 0 && is_reported(op))
        report(paths->event_socket, name, uuid, op);
    return answer;
}
