/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_private.h"
#include "storage/util/sha256.h"

/*
 * NVRAM, vTPM state and the like of an RP: rp/<n>/NAME, a link to attachments/<sha256>, which other
 * RPs have as well. What is wrong with one is recorded as if it were a layer of that name, which no
 * disk can have, so that the RP counts as damaged. Content that is not what its digest says is not
 * offered to the next RP: the source sends it again.
 */

typedef struct {
    const char *name; /* borrowed, like the next two; what it is recorded as */
    const char *file;
    const char *sha256; /* NULL: it has neither digest nor size of its own */
    guint64 size_bytes;
} Attachment;

typedef gboolean (*EachAttachment)(VrReplica *self, const VrRpRow *row, const Attachment *found,
                                   gpointer data, GError **error);

static gboolean
each_attachment(VrReplica *self, const VrRpRow *row, EachAttachment func, gpointer data,
                GError **error)
{
    const char *text = row->attachments ? row->attachments : "[]";
    g_autoptr(JsonNode) node = vr_json_parse(text, strlen(text), VR_JSON_MAX_BYTES, error);
    JsonArray *array = vr_json_as_array(node);
    const Attachment xml = {.name = "definition", .file = "domain.xml"};

    if (!node || !func(self, row, &xml, data, error))
        return FALSE;
    for (guint i = 0; array && i < json_array_get_length(array); i++) {
        JsonObject *object = vr_json_object_at(array, i);
        Attachment found = {0};

        if (!object)
            continue;
        found.name = vr_json_string(object, "name", VR_NAME_MAX, error);
        found.file = found.name;
        found.sha256 = found.name ? vr_json_string(object, "sha256", 64, error) : NULL;
        if (!found.sha256 || !vr_json_uint(object, "size", G_MAXINT64, &found.size_bytes, error) ||
            !func(self, row, &found, data, error))
            return FALSE;
    }
    return TRUE;
}

static char *
path_of(VrReplica *self, const VrRpRow *row, const Attachment *attachment)
{
    return vr_replica_path(self, "rp/%" G_GUINT64_FORMAT "/%s", row->rp.number, attachment->file);
}

static gboolean
check_present(VrReplica *self, const VrRpRow *row, const Attachment *attachment,
              gpointer data G_GNUC_UNUSED, GError **error)
{
    g_autofree char *path = path_of(self, row, attachment);

    return vr_replica_check_file(path, attachment->size_bytes, !attachment->sha256, error);
}

gboolean
vr_replica_check_attachments(VrReplica *self, const VrRpRow *row, GError **error)
{
    return each_attachment(self, row, check_present, NULL, error);
}

typedef struct {
    GPtrArray *checks; /* borrowed */
    gboolean read;
    guint bad;
    gboolean changed;
} Look;

/* FALSE without error: it is not what its digest says. */
static gboolean
is_as_named(const char *path, const Attachment *attachment, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    g_autofree char *found = fd >= 0 ? vr_sha256_fd(fd, error) : NULL;

    if (fd < 0)
        vr_set_error_errno(error, errno, "cannot read '%s'", path);
    else
        close(fd);
    return found && strcmp(found, attachment->sha256) == 0;
}

/* Of no use to any RP to come. */
static void
drop_shared(VrReplica *self, const Attachment *attachment)
{
    g_autofree char *path = vr_replica_path(self, "attachments/%s", attachment->sha256);

    (void) unlink(path);
}

/* What is found of it now; what was found before stands if nothing new is known. */
static VrLayerState
judge(VrReplica *self, const VrRpRow *row, const Attachment *attachment, const Look *look,
      VrLayerState before)
{
    g_autofree char *path = path_of(self, row, attachment);
    g_autoptr(GError) local = NULL;

    if (!check_present(self, row, attachment, NULL, NULL))
        return before == VR_LAYER_UNREADABLE ? before : VR_LAYER_AWAY;
    if (!look->read || !attachment->sha256)
        return before == VR_LAYER_AWAY ? VR_LAYER_GOOD : before;
    if (is_as_named(path, attachment, &local))
        return VR_LAYER_GOOD;
    drop_shared(self, attachment);
    g_debug("replica of %s: attachment '%s' is not what its digest says: %s", self->uuid, path,
            local ? local->message : "it reads differently");
    return VR_LAYER_UNREADABLE;
}

typedef struct {
    const VrRpRow *row;
    const Attachment *bad;
} Shared;

static gboolean
same_file(VrReplica *self, const VrRpRow *a, const Attachment *of_a, const VrRpRow *b,
          const Attachment *of_b)
{
    g_autofree char *path_a = path_of(self, a, of_a);
    g_autofree char *path_b = path_of(self, b, of_b);
    struct stat st_a, st_b;

    return lstat(path_a, &st_a) == 0 && lstat(path_b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
           st_a.st_ino == st_b.st_ino;
}

static gboolean
record_shared(VrReplica *self, const VrRpRow *row, const Attachment *attachment, gpointer data,
              GError **error)
{
    const Shared *shared = data;

    if (g_strcmp0(attachment->sha256, shared->bad->sha256) != 0 ||
        !same_file(self, row, attachment, shared->row, shared->bad))
        return TRUE;
    return vr_replica_put_check(self, row->rp.number, attachment->name, VR_LAYER_UNREADABLE, error);
}

/* The content that was read is that of other recovery points as well. */
static gboolean
record_bad(VrReplica *self, const VrRpRow *row, const Attachment *attachment, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    Shared shared = {row, attachment};

    for (guint i = 0; rows && i < rows->len; i++) {
        if (!each_attachment(self, rows->pdata[i], record_shared, &shared, error))
            return FALSE;
    }
    return rows &&
           vr_replica_put_check(self, row->rp.number, attachment->name, VR_LAYER_UNREADABLE, error);
}

/* One that is good has no row. */
static gboolean
look_at(VrReplica *self, const VrRpRow *row, const Attachment *attachment, gpointer data,
        GError **error)
{
    Look *look = data;
    const VrLayerCheck *check =
        vr_replica_find_check(look->checks, row->rp.number, attachment->name);
    VrLayerState before = check ? check->state : VR_LAYER_GOOD;
    VrLayerState now = judge(self, row, attachment, look, before);

    look->bad += now != VR_LAYER_GOOD;
    if (now == before)
        return TRUE;
    look->changed = TRUE;
    if (now == VR_LAYER_UNREADABLE && attachment->sha256)
        return record_bad(self, row, attachment, error);
    if (now != VR_LAYER_GOOD)
        return vr_replica_put_check(self, row->rp.number, attachment->name, now, error);
    vr_replica_forget_damage(self);
    return vr_state_layer_check_delete(self->state, self->uuid, row->rp.number, attachment->name,
                                       error);
}

gboolean
vr_replica_look_at_attachments(VrReplica *self, const VrRpRow *row, GPtrArray *checks,
                               gboolean read, guint *ret_bad, gboolean *ret_changed, GError **error)
{
    Look look = {.checks = checks, .read = read};
    gboolean ok = each_attachment(self, row, look_at, &look, error);

    *ret_bad += look.bad;
    *ret_changed |= look.changed;
    return ok;
}

/* In place of a file of that digest that is gone or bad: the right one, in one step. */
static gboolean
link_anew(VrReplica *self, const VrRpRow *row, const Attachment *attachment)
{
    g_autofree char *shared = vr_replica_path(self, "attachments/%s", attachment->sha256);
    g_autofree char *path = path_of(self, row, attachment);
    g_autofree char *temporary = g_strconcat(path, ".new", NULL);

    (void) unlink(temporary);
    if (link(shared, temporary) == 0 && rename(temporary, path) == 0)
        return TRUE;
    g_debug("replica of %s: cannot mend '%s': %s", self->uuid, path, g_strerror(errno));
    (void) unlink(temporary);
    return FALSE;
}

typedef struct {
    const char *sha256;
    GPtrArray *checks; /* borrowed */
} Mend;

static gboolean
mend(VrReplica *self, const VrRpRow *row, const Attachment *attachment, gpointer data,
     GError **error)
{
    const Mend *mending = data;

    if (g_strcmp0(attachment->sha256, mending->sha256) != 0 ||
        !vr_replica_is_unreadable(
            vr_replica_find_check(mending->checks, row->rp.number, attachment->name)) ||
        !link_anew(self, row, attachment))
        return TRUE;
    vr_replica_forget_damage(self);
    return vr_state_layer_check_delete(self->state, self->uuid, row->rp.number, attachment->name,
                                       error);
}

void
vr_replica_mend_attachment(VrReplica *self, const char *sha256)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, &error);
    g_autoptr(GPtrArray) checks =
        rows ? vr_state_layer_checks(self->state, self->uuid, &error) : NULL;
    Mend mending = {sha256, checks};

    for (guint i = 0; checks && checks->len > 0 && i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];

        if (row->state == VR_RP_LISTED && !each_attachment(self, row, mend, &mending, &error))
            break;
    }
    if (error)
        g_debug("replica of %s: %s", self->uuid, error->message);
}

typedef struct {
    const char *name, *to;
    gboolean found;
} Copy;

static gboolean
write_all(int fd, const guint8 *data, gsize len)
{
    while (len > 0) {
        gssize n = write(fd, data, len);

        if (n < 0 && errno != EINTR)
            return FALSE;
        data += MAX(n, 0);
        len -= (gsize) MAX(n, 0);
    }
    return TRUE;
}

/* From @in to @out; the digest of what was written. (transfer full) */
static char *
copy_hashing(int in, int out, GError **error)
{
    g_autoptr(VrSha256) sha = vr_sha256_new();
    g_autofree guint8 *buf = g_malloc(VR_CHUNK_SIZE);
    guint8 digest[VR_SHA256_LEN];
    gssize n;

    while ((n = read(in, buf, VR_CHUNK_SIZE)) > 0 && write_all(out, buf, (gsize) n))
        vr_sha256_update(sha, buf, (gsize) n);
    if (n != 0 || fsync(out) < 0) {
        vr_set_error_errno(error, errno, "cannot copy an attachment");
        return NULL;
    }
    vr_sha256_finish(sha, digest);
    return vr_hex_encode(digest, sizeof digest);
}

static gboolean
copy_file(const char *from, const char *to, const Attachment *attachment, GError **error)
{
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int out = in >= 0 ? open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    g_autofree char *found = out >= 0 ? copy_hashing(in, out, error) : NULL;
    gboolean ok = found && strcmp(found, attachment->sha256) == 0;

    if (out < 0)
        vr_set_error_errno(error, errno, "cannot copy '%s' to '%s'", from, to);
    else if (found && !ok)
        vr_set_error(error, VR_ERROR_CORRUPT, "replica-damaged",
                     "Run sync on the source: what is damaged is sent again. Then try again.",
                     "attachment '%s' in the store is not what was proven", from);
    if (out >= 0 && !ok)
        (void) unlink(to);
    if (out >= 0)
        close(out);
    if (in >= 0)
        close(in);
    return ok;
}

static gboolean
copy_one(VrReplica *self, const VrRpRow *row, const Attachment *attachment, gpointer data,
         GError **error)
{
    Copy *copy = data;
    g_autofree char *from = path_of(self, row, attachment);

    if (!attachment->sha256 || strcmp(attachment->name, copy->name) != 0)
        return TRUE;
    copy->found = TRUE;
    return copy_file(from, copy->to, attachment, error);
}

gboolean
vr_replica_copy_attachment(VrReplica *self, guint64 number, const char *name, const char *to,
                           GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    int index = rows ? vr_replica_find_listed(self, rows, number, error) : -1;
    Copy copy = {.name = name, .to = to};

    if (index < 0 || !each_attachment(self, rows->pdata[index], copy_one, &copy, error))
        return FALSE;
    if (!copy.found)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-attachment", NULL,
                     "recovery point %" G_GUINT64_FORMAT " of %s has no attachment '%s'", number,
                     self->uuid, name);
    return copy.found;
}
