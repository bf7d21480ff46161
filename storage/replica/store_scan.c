/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/store_scan.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "storage/replica/replica_private.h"

#define LET_GO_NAME "let-go"

void
vr_store_entry_free(VrStoreEntry *self)
{
    if (!self)
        return;
    vr_store_index_free(self->index);
    g_free(self->uuid);
    g_free(self->damage);
    g_free(self);
}

static gboolean
is_kind(const char *path, mode_t kind, struct stat *ret_st)
{
    return lstat(path, ret_st) == 0 && (ret_st->st_mode & S_IFMT) == kind;
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

GPtrArray *
vr_store_uuids(const char *path, GError **error)
{
    g_autoptr(GPtrArray) uuids = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) local = NULL;
    g_autoptr(GDir) dir = g_dir_open(path, 0, &local);
    const char *name;

    if (!dir) {
        vr_set_error(error, VR_ERROR_NOT_FOUND, "store-not-readable",
                     "Mount the file system of the store.", "cannot read the store: %s",
                     local->message);
        return NULL;
    }
    while ((name = g_dir_read_name(dir)) && uuids->len < VR_STORE_SCAN_MAX) {
        g_autofree char *full = g_build_filename(path, name, NULL);
        struct stat st;

        if (vr_uuid_valid(name) && is_kind(full, S_IFDIR, &st))
            g_ptr_array_add(uuids, g_strdup(name));
    }
    g_ptr_array_sort(uuids, by_text);
    return g_steal_pointer(&uuids);
}

gboolean
vr_store_holds(const char *path, const char *uuid)
{
    g_autofree char *index = g_build_filename(path, uuid, VR_STORE_INDEX_NAME, NULL);
    struct stat st;

    return vr_uuid_valid(uuid) && lstat(index, &st) == 0;
}

static char *
let_go_mark(const char *path, const char *uuid)
{
    return g_build_filename(path, uuid, LET_GO_NAME, NULL);
}

gboolean
vr_store_is_let_go(const char *path, const char *uuid)
{
    g_autofree char *mark = let_go_mark(path, uuid);
    struct stat st;

    return is_kind(mark, S_IFREG, &st);
}

gboolean
vr_store_let_go(const char *path, const char *uuid, GError **error)
{
    g_autofree char *mark = let_go_mark(path, uuid);

    return vr_write_file_atomic(mark, "", 0, 0600, error);
}

gboolean
vr_store_take_back(const char *path, const char *uuid, GError **error)
{
    g_autofree char *mark = let_go_mark(path, uuid);
    g_autofree char *dir = g_build_filename(path, uuid, NULL);

    if (unlink(mark) == 0 || errno == ENOENT)
        return vr_fsync_dir(dir, error);
    vr_set_error_errno(error, errno, "cannot remove '%s'", mark);
    return FALSE;
}

/* The first thing that is missing. */
static void
note_missing(VrStoreEntry *entry, const char *name)
{
    if (!entry->damage)
        entry->damage = g_strdup_printf("'%s' is missing", name);
}

/* One file of a layer; adds its size, or notes what is wrong with it. */
static void
look_at(VrStoreEntry *entry, const char *dir, const char *disk, guint64 number, const char *suffix)
{
    g_autofree char *name = g_strdup_printf("%s/%" G_GUINT64_FORMAT ".%s", disk, number, suffix);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    struct stat st;

    if (is_kind(path, S_IFREG, &st)) {
        entry->bytes += (guint64) st.st_blocks * 512;
        return;
    }
    note_missing(entry, name);
}

static void
look_at_point(VrStoreEntry *entry, const char *dir, const VrRpRow *row)
{
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(row, NULL);
    g_autofree char *name = g_strdup_printf("rp/%" G_GUINT64_FORMAT "/domain.xml", row->rp.number);
    g_autofree char *xml = g_build_filename(dir, name, NULL);
    struct stat st;

    if (!is_kind(xml, S_IFREG, &st))
        note_missing(entry, name);
    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autofree char *disk_dir = g_build_filename(dir, disk->name, NULL);

        if (!is_kind(disk_dir, S_IFDIR, &st))
            note_missing(entry, disk->name);
        look_at(entry, dir, disk->name, row->rp.number, "qcow2");
        look_at(entry, dir, disk->name, row->rp.number, "sums");
    }
}

static void
look_at_points(VrStoreEntry *entry, const char *dir)
{
    for (guint i = 0; i < entry->index->rps->len; i++) {
        const VrRpRow *row = entry->index->rps->pdata[i];

        /* Of a retiring one anything may be gone: its merge is redone. */
        if (row->state == VR_RP_LISTED)
            look_at_point(entry, dir, row);
    }
}

static VrStoreEntry *
scan_dir(const char *dir, const char *uuid)
{
    g_autoptr(VrStoreEntry) entry = g_new0(VrStoreEntry, 1);
    g_autofree char *path = g_build_filename(dir, VR_STORE_INDEX_NAME, NULL);
    g_autoptr(GError) local = NULL;
    gsize len = 0;
    g_autofree char *text = vr_read_file(path, VR_STORE_INDEX_MAX_BYTES, &len, &local);

    entry->uuid = g_strdup(uuid);
    if (text)
        entry->index = vr_store_index_parse(text, len, uuid, &local);
    if (entry->index)
        look_at_points(entry, dir);
    else
        entry->damage = g_strdup_printf("its index cannot be read: %s", local->message);
    return g_steal_pointer(&entry);
}

VrStoreEntry *
vr_store_scan_one(const char *path, const char *uuid, GError **error)
{
    g_autofree char *dir = vr_uuid_valid(uuid) ? g_build_filename(path, uuid, NULL) : NULL;
    struct stat st;

    if (dir && is_kind(dir, S_IFDIR, &st)) {
        VrStoreEntry *entry = scan_dir(dir, uuid);

        entry->let_go = vr_store_is_let_go(path, uuid);
        return entry;
    }
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-replica",
                 "See 'virt-replica store-scan' for what the store holds.",
                 "the store in '%s' holds no replica '%s'", path, uuid);
    return NULL;
}

GPtrArray *
vr_store_scan(const char *path, GError **error)
{
    g_autoptr(GPtrArray) uuids = vr_store_uuids(path, error);
    GPtrArray *entries;

    if (!uuids)
        return NULL;
    entries = g_ptr_array_new_with_free_func((GDestroyNotify) vr_store_entry_free);
    for (guint i = 0; i < uuids->len; i++) {
        VrStoreEntry *entry = vr_store_scan_one(path, uuids->pdata[i], NULL);

        if (entry)
            g_ptr_array_add(entries, entry);
    }
    return entries;
}
