/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/attachments.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib/gstdio.h>

#include "policies/error.h"
#include "storage/util/file_util.h"

/* Digests of files by identity, and what went along with which cycle: the target keeps what its
 * newest RP has. */
static GMutex cache_lock;
static GHashTable *digests; /* identity -> sha256 */
static GHashTable *known;   /* set of "uuid cycle sha256" */

#define CACHE_MAX 10000

static GHashTable *
cache(GHashTable **table, GDestroyNotify value_free)
{
    if (*table == NULL || g_hash_table_size(*table) > CACHE_MAX) {
        g_clear_pointer(table, g_hash_table_unref);
        *table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, value_free);
    }
    return *table;
}

static char *
cached_digest(int fd, const struct stat *st, GError **error)
{
    g_autofree char *identity = g_strdup_printf(
        "%llu %llu %lld %lld.%09ld %lld.%09ld", (unsigned long long) st->st_dev,
        (unsigned long long) st->st_ino, (long long) st->st_size, (long long) st->st_mtim.tv_sec,
        st->st_mtim.tv_nsec, (long long) st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
    char *sha256;

    g_mutex_lock(&cache_lock);
    sha256 = g_strdup(g_hash_table_lookup(cache(&digests, g_free), identity));
    g_mutex_unlock(&cache_lock);
    if (sha256 != NULL)
        return sha256;
    sha256 = vr_sha256_fd(fd, error);
    if (sha256 == NULL)
        return NULL;
    g_mutex_lock(&cache_lock);
    g_hash_table_insert(cache(&digests, g_free), g_steal_pointer(&identity), g_strdup(sha256));
    g_mutex_unlock(&cache_lock);
    return sha256;
}

static gboolean
is_known(const char *uuid, const char *cycle, const char *sha256)
{
    g_autofree char *key = g_strdup_printf("%s %s %s", uuid, cycle ? cycle : "", sha256);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&cache_lock);

    return g_hash_table_contains(cache(&known, NULL), key);
}

static void
remember(const char *uuid, const char *cycle, const char *sha256)
{
    char *key = g_strdup_printf("%s %s %s", uuid, cycle, sha256);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&cache_lock);

    g_hash_table_add(cache(&known, NULL), key);
}

/* The guest writes its firmware variables when it likes. */
static gboolean
put_content(VrPeerClient *peer, const char *uuid, const char *cycle, const char *sha256, int fd,
            guint64 size, GCancellable *cancel, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_peer_client_put_attachment(peer, uuid, cycle, sha256, fd, size, cancel, &local))
        return TRUE;
    if (g_str_equal(vr_error_slug(local), "attachment-differs"))
        vr_set_error(error, VR_ERROR_TRANSIENT, "attachment-changed",
                     "Nothing to do: it is tried again.", "changed while it was sent");
    else
        g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
send_content(VrPeerClient *peer, const char *uuid, const char *base, const char *cycle,
             const char *sha256, int fd, guint64 size, GCancellable *cancel, GError **error)
{
    gboolean has = is_known(uuid, base, sha256);

    if (!has && !vr_peer_client_has_attachment(peer, uuid, sha256, &has, cancel, error))
        return FALSE;
    if (!has && !put_content(peer, uuid, cycle, sha256, fd, size, cancel, error))
        return FALSE;
    remember(uuid, cycle, sha256);
    return TRUE;
}

static gboolean
send_one(VrPeerClient *peer, const char *uuid, const char *base, const char *cycle,
         const VrDomainAttachment *what, int fd, GPtrArray *sent, GCancellable *cancel,
         GError **error)
{
    const char *name = vr_attachment_kind_name(what->kind);
    g_autofree char *sha256 = NULL;
    struct stat st;

    if (fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot read the domain's %s %s", name, what->source_path);
        return FALSE;
    }
    if (!S_ISREG(st.st_mode) || (guint64) st.st_size > VR_ATTACHMENT_MAX) {
        vr_set_error(
            error, VR_ERROR_INVALID, "attachment-too-large", "Use a file of at most 512 MiB.",
            "the domain's %s %s is not a regular file of at most 512 MiB", name, what->source_path);
        return FALSE;
    }
    sha256 = cached_digest(fd, &st, error);
    if (sha256 == NULL)
        return FALSE;
    if (!send_content(peer, uuid, base, cycle, sha256, fd, (guint64) st.st_size, cancel, error)) {
        g_prefix_error(error, "%s %s: ", name, what->source_path);
        return FALSE;
    }
    vr_attachments_add(sent, name, (guint64) st.st_size, sha256);
    return TRUE;
}

GPtrArray *
vr_attachments_send(VrPeerClient *peer, const char *uuid, const char *base, const char *cycle,
                    const VrDomainModel *model, GCancellable *cancel, GError **error)
{
    g_autoptr(GArray) wanted = vr_domain_model_attachments(model);
    g_autoptr(GPtrArray) sent = vr_attachments_new();

    for (guint i = 0; i < wanted->len; i++) {
        const VrDomainAttachment *what = &g_array_index(wanted, VrDomainAttachment, i);
        int fd = g_open(what->source_path, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
        gboolean ok;

        if (fd < 0 && errno == ENOENT && what->optional)
            continue;
        if (fd < 0) {
            vr_set_error(error, VR_ERROR_NOT_FOUND, "attachment-missing",
                         "Put the file back, or change the domain's definition.",
                         "the domain's %s %s cannot be opened: %s",
                         vr_attachment_kind_name(what->kind), what->source_path, g_strerror(errno));
            return NULL;
        }
        ok = send_one(peer, uuid, base, cycle, what, fd, sent, cancel, error);
        (void) close(fd);
        if (!ok)
            return NULL;
    }
    return g_steal_pointer(&sent);
}

void
vr_attachments_forget(void)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&cache_lock);

    g_clear_pointer(&known, g_hash_table_unref);
}
