/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/util/image_chain.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/util/json_util.h"
#include "storage/util/qcow2_format.h"

#define DEPTH_MAX 512
#define NAME_MAX_BYTES 1023 /* of a backing file, as QEMU has it */
#define EXTENSIONS_MAX 64

typedef struct {
    char *name;   /* owned; as it stands in the header, nullable: none */
    char *format; /* owned; nullable: not said, then QEMU looks at the file */
} Backing;

static void
backing_clear(Backing *backing)
{
    g_clear_pointer(&backing->name, g_free);
    g_clear_pointer(&backing->format, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Backing, backing_clear)

static char *
read_text(int fd, guint64 offset, guint32 len)
{
    g_autofree char *text = g_malloc0(len + 1);

    return pread(fd, text, len, (off_t) offset) == (gssize) len ? g_steal_pointer(&text) : NULL;
}

static char *
backing_format(int fd, guint64 offset)
{
    for (guint i = 0; i < EXTENSIONS_MAX; i++) {
        guint32 head[2];

        if (pread(fd, head, sizeof head, (off_t) offset) != (gssize) sizeof head)
            return NULL;
        head[0] = GUINT32_FROM_BE(head[0]);
        head[1] = GUINT32_FROM_BE(head[1]);
        if (head[0] == QCOW2_EXT_END || head[1] > NAME_MAX_BYTES * 64)
            return NULL;
        if (head[0] == QCOW2_EXT_BACKING_FORMAT)
            return read_text(fd, offset + sizeof head, head[1]);
        offset += sizeof head + ((guint64) head[1] + 7) / 8 * 8;
    }
    return NULL;
}

/* An image of version 2 ends where the header length would stand. */
static gboolean
read_backing(int fd, gboolean must_be, Backing *backing)
{
    Qcow2Header header = {0};
    gssize n = pread(fd, &header, sizeof header, 0);
    guint32 len = GUINT32_FROM_BE(header.backing_len);
    guint32 version = GUINT32_FROM_BE(header.version);

    if (n < 72 || GUINT32_FROM_BE(header.magic) != QCOW2_MAGIC)
        return n >= 0 && !must_be;
    if (header.backing_offset == 0 || len == 0)
        return TRUE;
    if (len > NAME_MAX_BYTES)
        return FALSE;
    backing->name = read_text(fd, GUINT64_FROM_BE(header.backing_offset), len);
    backing->format =
        backing_format(fd, version >= QCOW2_VERSION ? GUINT32_FROM_BE(header.header_len) : 72);
    return backing->name != NULL;
}

static gboolean
look_inside(const char *path, const char *format, Backing *backing)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    gboolean ok = fd >= 0 && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) &&
                  read_backing(fd, format != NULL, backing);

    if (fd >= 0)
        close(fd);
    return ok;
}

/* The "filename" of {"driver": …, "file": {"filename": …}}, flat or not. (nullable) */
static const char *
filename_in(JsonObject *object, guint depth)
{
    const char *flat = vr_json_text_in(object, "file.filename", NULL);
    JsonNode *file = json_object_get_member(object, "file");

    if (flat != NULL)
        return flat;
    if (depth > 0 && file != NULL && JSON_NODE_HOLDS_OBJECT(file))
        return filename_in(json_node_get_object(file), depth - 1);
    return vr_json_text_in(object, "filename", NULL);
}

/* NULL: it is not a file of this host. */
static char *
resolve(const char *name, const char *above)
{
    g_autoptr(JsonNode) node = NULL;
    g_autofree char *dir = g_path_get_dirname(above);
    const char *colon;

    if (g_str_has_prefix(name, "json:")) {
        node = vr_json_parse(name + 5, strlen(name + 5), NAME_MAX_BYTES, NULL);
        name = node && JSON_NODE_HOLDS_OBJECT(node) ? filename_in(json_node_get_object(node), 8)
                                                    : NULL;
    }
    if (name == NULL)
        return NULL;
    if (g_str_has_prefix(name, "file:"))
        name += strlen("file:");
    colon = strchr(name, ':');
    if (colon != NULL && (gsize) (colon - name) < strcspn(name, "/"))
        return NULL;
    return g_canonicalize_filename(name, dir);
}

GPtrArray *
vr_image_chain(const char *path, const char *format, gboolean *ret_complete)
{
    GPtrArray *chain = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *known = g_strdup(format ? format : "raw");

    g_ptr_array_add(chain, g_strdup(path));
    *ret_complete = TRUE;
    while (known == NULL || strcmp(known, "qcow2") == 0) {
        const char *top = g_ptr_array_index(chain, chain->len - 1);
        g_auto(Backing) backing = {0};
        char *next;

        if (chain->len >= DEPTH_MAX || !look_inside(top, known, &backing)) {
            *ret_complete = FALSE;
            break;
        }
        next = backing.name ? resolve(backing.name, top) : NULL;
        if (next == NULL)
            break;
        g_ptr_array_add(chain, next);
        g_free(known);
        known = g_steal_pointer(&backing.format);
    }
    return chain;
}

/* QEMU marks an image that is open by locks on bytes 100 to 299. */
gboolean
vr_image_in_use(const char *path)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 200};
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    gboolean used;

    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return FALSE;
    used = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return used;
}
