/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/replica/replica_private.h"

/*
 * From bad layers to damaged recovery points. DISK/<n>.bad lists the chunks of layer n that are not
 * what was proven; a chunk shows in every RP from n on until a layer above has it too or the disk
 * was cut below it. A layer that cannot be read at all takes every RP above with it.
 */

typedef struct {
    guint64 chunks;
    char disk[20]; /* the first one */
} Damage;

const VrLayerCheck *
vr_replica_find_check(GPtrArray *checks, guint64 number, const char *disk)
{
    for (guint i = 0; i < checks->len; i++) {
        const VrLayerCheck *check = checks->pdata[i];
        if (check->number == number && strcmp(check->disk, disk) == 0)
            return check;
    }
    return NULL;
}

/* Index behind the last row whose chain of @disk goes through layer @j. */
static guint
chain_end(GPtrArray *rows, guint j, const char *disk)
{
    guint end = j + 1;

    while (end < rows->len && vr_replica_row_disk_floor(rows, end, disk) > 0)
        end++;
    return end;
}

gboolean
vr_replica_is_unreadable(const VrLayerCheck *check)
{
    return check && (check->state == VR_LAYER_UNREADABLE || check->state == VR_LAYER_AWAY);
}

static gboolean
put_check(VrReplica *self, guint64 number, const char *disk, VrLayerState state, gint64 when_us,
          GError **error)
{
    VrLayerCheck check = {number, (char *) disk, state, when_us};
    gboolean ok = vr_state_layer_check_put(self->state, self->uuid, &check, error);

    vr_replica_forget_damage(self);
    return ok;
}

gboolean
vr_replica_put_check(VrReplica *self, guint64 number, const char *disk, VrLayerState state,
                     GError **error)
{
    return put_check(self, number, disk, state, g_get_real_time(), error);
}

gboolean
vr_replica_put_listed_bad(VrReplica *self, guint64 number, const char *disk, GError **error)
{
    return put_check(self, number, disk, VR_LAYER_BAD, 0, error);
}

/* Rows [layer, end) show the bad chunk. */
typedef gboolean (*BadChunk)(guint64 chunk, guint end, gpointer data, GError **error);

typedef struct {
    guint first, n;
    VrSumsReader *readers; /* owned; of the layers from @first on */
    guint64 *floors;       /* owned; in chunks */
} Above;

static void
above_clear(Above *self)
{
    for (guint i = 0; i < self->n; i++)
        vr_sums_reader_close(&self->readers[i]);
    g_free(self->readers);
    g_free(self->floors);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Above, above_clear)

/* Digests that are gone (of a row whose merge is ending) hide nothing. */
static void
above_open(Above *self, VrReplica *replica, GPtrArray *rows, guint j, const char *disk)
{
    self->first = j + 1;
    self->n = chain_end(rows, j, disk) - self->first;
    self->readers = g_new0(VrSumsReader, self->n + 1);
    self->floors = g_new0(guint64, self->n + 1);
    for (guint i = 0; i < self->n; i++) {
        const VrRpRow *row = rows->pdata[self->first + i];
        g_autofree char *path =
            vr_replica_path(replica, "%s/%" G_GUINT64_FORMAT ".sums", disk, row->rp.number);

        self->floors[i] = vr_chunk_count(vr_replica_row_disk_floor(rows, self->first + i, disk));
        if (!vr_sums_reader_open(&self->readers[i], path, NULL))
            self->readers[i].chunk = G_MAXUINT64;
    }
}

/* Index of the first row that does not show @chunk any more. */
static guint
above_hides(Above *self, guint64 chunk)
{
    for (guint i = 0; i < self->n; i++) {
        if (chunk >= self->floors[i])
            return self->first + i;
        if (!vr_sums_reader_seek(&self->readers[i], chunk, NULL))
            self->readers[i].chunk = G_MAXUINT64;
        if (self->readers[i].chunk == chunk)
            return self->first + i;
    }
    return self->first + self->n;
}

static gboolean
walk_bad(VrReplica *self, GPtrArray *rows, guint j, const char *disk, BadChunk func, gpointer data,
         GError **error)
{
    const VrRpRow *row = rows->pdata[j];
    g_autofree char *path =
        vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".bad", disk, row->rp.number);
    FILE *file = fopen(path, "re");
    g_auto(Above) above = {0};
    gboolean ok = TRUE;
    guint64 raw;

    if (!file && errno == ENOENT) /* a merge has taken it away */
        return TRUE;
    if (!file) {
        vr_set_error_errno(error, errno, "cannot read '%s'", path);
        return FALSE;
    }
    above_open(&above, self, rows, j, disk);
    while (ok && fread(&raw, sizeof raw, 1, file) == 1) {
        guint64 chunk = GUINT64_FROM_LE(raw);
        ok = func(chunk, above_hides(&above, chunk), data, error);
    }
    if (ok && ferror(file)) {
        vr_set_error_errno(error, EIO, "cannot read '%s'", path);
        ok = FALSE;
    }
    fclose(file);
    return ok;
}

typedef struct {
    Damage *damage; /* of each row */
    guint layer;
    const char *disk;
} Count;

static gboolean
count_chunk(guint64 chunk G_GNUC_UNUSED, guint end, gpointer data, GError **error G_GNUC_UNUSED)
{
    Count *count = data;

    for (guint i = count->layer; i < end; i++) {
        Damage *damage = &count->damage[i];
        if (damage->chunks++ == 0)
            g_strlcpy(damage->disk, count->disk, sizeof damage->disk);
    }
    return TRUE;
}

/* All of the layer's chunks. */
static void
count_layer(VrReplica *self, GPtrArray *rows, Count *count)
{
    const VrRpRow *row = rows->pdata[count->layer];
    g_autofree char *path =
        vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".sums", count->disk, row->rp.number);
    guint end = chain_end(rows, count->layer, count->disk);
    guint64 chunks = 0;

    (void) vr_sums_count(path, &chunks, NULL);
    for (guint i = count->layer; i < end; i++) {
        Damage *damage = &count->damage[i];
        if (damage->chunks == 0)
            g_strlcpy(damage->disk, count->disk, sizeof damage->disk);
        damage->chunks += MAX(chunks, 1);
    }
}

static int
row_index(GPtrArray *rows, guint64 number)
{
    for (guint i = 0; i < rows->len; i++) {
        if (((const VrRpRow *) rows->pdata[i])->rp.number == number)
            return (int) i;
    }
    return -1;
}

static GHashTable *
compute(VrReplica *self, GPtrArray *rows, GPtrArray *checks)
{
    g_autofree Damage *damage = g_new0(Damage, rows->len + 1);
    GHashTable *found = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);

    for (guint i = 0; i < checks->len; i++) {
        const VrLayerCheck *check = checks->pdata[i];
        int j = row_index(rows, check->number);
        Count count = {damage, (guint) j, check->disk};

        if (j < 0)
            continue;
        /* A list that cannot be read may name any chunk. */
        if (vr_replica_is_unreadable(check) ||
            (check->state == VR_LAYER_BAD &&
             !walk_bad(self, rows, (guint) j, check->disk, count_chunk, &count, NULL)))
            count_layer(self, rows, &count);
    }
    for (guint i = 0; i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        if (damage[i].chunks > 0)
            g_hash_table_insert(found, g_memdup2(&row->rp.number, sizeof row->rp.number),
                                g_memdup2(&damage[i], sizeof damage[i]));
    }
    return found;
}

void
vr_replica_forget_damage(VrReplica *self)
{
    g_mutex_lock(&self->damage_lock);
    g_clear_pointer(&self->damage, g_hash_table_unref);
    self->damage_serial++;
    g_mutex_unlock(&self->damage_lock);
}

/* Computed anew only after something has changed. (transfer full) */
static GHashTable *
damage_of(VrReplica *self, GPtrArray *rows, GPtrArray *checks)
{
    GHashTable *damage;
    guint serial;

    g_mutex_lock(&self->damage_lock);
    damage = self->damage ? g_hash_table_ref(self->damage) : NULL;
    serial = self->damage_serial;
    g_mutex_unlock(&self->damage_lock);
    if (damage)
        return damage;
    damage = compute(self, rows, checks);
    g_mutex_lock(&self->damage_lock);
    if (!self->damage && serial == self->damage_serial)
        self->damage = g_hash_table_ref(damage);
    g_mutex_unlock(&self->damage_lock);
    return damage;
}

/* When all of the disk's chain up to row @i was read back; 0: not all of it. A layer with bad
 * chunks was read as well: whether the row shows one is another question. */
static gint64
disk_verified(GPtrArray *rows, guint i, const char *disk, GPtrArray *checks, GHashTable *below)
{
    const VrRpRow *row = rows->pdata[i];
    const VrLayerCheck *check = vr_replica_find_check(checks, row->rp.number, disk);
    gboolean was_read = check && (check->state == VR_LAYER_GOOD || check->state == VR_LAYER_BAD);
    gint64 when = was_read ? check->checked_us : 0;
    const gint64 *before = g_hash_table_lookup(below, disk);

    if (vr_replica_row_disk_floor(rows, i, disk) > 0)
        when = MIN(when, before ? *before : 0);
    g_hash_table_insert(below, g_strdup(disk), g_memdup2(&when, sizeof when));
    return when;
}

static void
set_verified(GPtrArray *rows, GPtrArray *checks)
{
    g_autoptr(GHashTable) below = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    for (guint i = 0; i < rows->len; i++) {
        VrRpRow *row = rows->pdata[i];
        g_autoptr(GPtrArray) disks = vr_replica_row_disks(row, NULL);
        gint64 when = disks && disks->len > 0 ? G_MAXINT64 : 0;

        for (guint d = 0; disks && d < disks->len; d++) {
            const VrCycleDisk *disk = disks->pdata[d];
            when = MIN(when, disk_verified(rows, i, disk->name, checks, below));
        }
        row->rp.verified_us = when;
    }
}

gboolean
vr_replica_judge_rows(VrReplica *self, GPtrArray *rows, GError **error)
{
    g_autoptr(GPtrArray) checks = vr_state_layer_checks(self->state, self->uuid, error);
    g_autoptr(GHashTable) damage = NULL;

    if (!checks || checks->len == 0)
        return checks != NULL;
    set_verified(rows, checks);
    damage = damage_of(self, rows, checks);
    for (guint i = 0; i < rows->len; i++) {
        VrRpRow *row = rows->pdata[i];
        const Damage *found = g_hash_table_lookup(damage, &row->rp.number);

        if (!found)
            continue;
        row->rp.damaged_chunks = found->chunks;
        row->rp.damaged_disk = g_strdup(found->disk);
        row->rp.verified_us = 0;
    }
    return TRUE;
}

/* No content has this digest: whatever the source has there, it sends. */
static const VrDigest not_held = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0xff}};

typedef struct {
    VrManifest *head;
    guint rows;
} Mark;

static gboolean
mark_chunk(guint64 chunk, guint end, gpointer data, GError **error)
{
    Mark *mark = data;

    return end < mark->rows || chunk >= vr_manifest_chunks(mark->head) ||
           vr_manifest_set(mark->head, chunk, &not_held, error);
}

static gboolean
mark_disk(VrReplica *self, GPtrArray *rows, GPtrArray *checks, const VrCycleDisk *disk,
          GError **error)
{
    g_autoptr(VrManifest) head = NULL;

    for (guint i = 0; i < checks->len; i++) {
        const VrLayerCheck *check = checks->pdata[i];
        int j = row_index(rows, check->number);
        Mark mark = {.rows = rows->len};

        if (j < 0 || check->state != VR_LAYER_BAD || strcmp(check->disk, disk->name) != 0)
            continue;
        if (!head) {
            head = vr_manifest_open(self->manifest_dir, disk->name, disk->size_bytes, error);
            if (!head || !vr_manifest_discard(head, error))
                return FALSE;
        }
        mark.head = head;
        if (!walk_bad(self, rows, (guint) j, disk->name, mark_chunk, &mark, error))
            return FALSE;
    }
    return !head || (vr_manifest_flush(head, error) && vr_manifest_apply(head, error));
}

gboolean
vr_replica_mark_not_held(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    g_autoptr(GPtrArray) checks =
        rows ? vr_state_layer_checks(self->state, self->uuid, error) : NULL;
    const VrRpRow *head = checks ? vr_replica_last_row(rows) : NULL;
    g_autoptr(GPtrArray) disks = head ? vr_replica_row_disks(head, error) : NULL;

    if (!checks || (head && !disks))
        return FALSE;
    for (guint i = 0; disks && i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];

        if (!vr_replica_is_lost(self, head, disk->name) &&
            !mark_disk(self, rows, checks, disk, error))
            return FALSE;
    }
    return TRUE;
}

typedef struct {
    int sums_fd; /* of the head; -1: none */
    guint rows;
    gboolean unmarked;
} News;

static gboolean
is_news(guint64 chunk, guint end, gpointer data, GError **error G_GNUC_UNUSED)
{
    News *news = data;
    VrDigest digest;

    if (end == news->rows && !news->unmarked)
        news->unmarked = pread(news->sums_fd, digest.b, VR_DIGEST_LEN,
                               (off_t) (chunk * VR_DIGEST_LEN)) == VR_DIGEST_LEN &&
                         !vr_digest_equal(&digest, &not_held);
    return TRUE;
}

/* Reads the file: the manifest itself may be open. */
static gboolean
any_unmarked(VrReplica *self, GPtrArray *rows, GPtrArray *checks, gboolean *ret_any, GError **error)
{
    News news = {.rows = rows->len};

    for (guint i = 0; i < checks->len && !news.unmarked; i++) {
        const VrLayerCheck *check = checks->pdata[i];
        int j = row_index(rows, check->number);
        g_autofree char *name = g_strconcat(check->disk, ".sums", NULL);
        g_autofree char *path = g_build_filename(self->manifest_dir, name, NULL);
        gboolean ok;

        if (j < 0 || check->state != VR_LAYER_BAD ||
            vr_replica_is_lost(self, vr_replica_last_row(rows), check->disk))
            continue;
        news.sums_fd = open(path, O_RDONLY | O_CLOEXEC);
        if (news.sums_fd < 0)
            continue; /* the disk is gone since */
        ok = walk_bad(self, rows, (guint) j, check->disk, is_news, &news, error);
        close(news.sums_fd);
        if (!ok)
            return FALSE;
    }
    *ret_any = news.unmarked;
    return TRUE;
}

gboolean
vr_replica_note_damage(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GPtrArray) checks = NULL;
    gboolean any = FALSE;

    if (!vr_replica_finish_head(self, error))
        return FALSE;
    rows = vr_state_rp_list(self->state, self->uuid, error);
    checks = rows ? vr_state_layer_checks(self->state, self->uuid, error) : NULL;
    if (!checks || !vr_replica_note_lost(self, rows, checks, error) ||
        !any_unmarked(self, rows, checks, &any, error))
        return FALSE;
    return !any || (vr_replica_drop_incoming(self, error) && vr_replica_mark_not_held(self, error));
}

gboolean
vr_replica_take_note(VrReplica *self, GError **error)
{
    gboolean ok;

    g_mutex_lock(&self->lock);
    g_rw_lock_writer_lock(&self->io);
    ok = vr_replica_note_damage(self, error);
    g_rw_lock_writer_unlock(&self->io);
    g_mutex_unlock(&self->lock);
    return ok;
}

/* Layer @number of @disk has a list of bad chunks: that is known even if nobody recorded it, or
 * what was recorded is gone. */
static gboolean
know_list(VrReplica *self, GPtrArray *checks, guint64 number, const char *disk, GError **error)
{
    const VrLayerCheck *check = vr_replica_find_check(checks, number, disk);
    g_autofree char *bad = vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".bad", disk, number);

    return !g_file_test(bad, G_FILE_TEST_EXISTS) || vr_replica_is_unreadable(check) ||
           (check && check->state == VR_LAYER_BAD) ||
           vr_replica_put_listed_bad(self, number, disk, error);
}

gboolean
vr_replica_know_lists(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    g_autoptr(GPtrArray) checks =
        rows ? vr_state_layer_checks(self->state, self->uuid, error) : NULL;

    for (guint i = 0; checks && i < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];
        g_autoptr(GPtrArray) disks = vr_replica_row_disks(row, error);

        for (guint d = 0; disks && d < disks->len; d++) {
            const VrCycleDisk *disk = disks->pdata[d];

            if (!know_list(self, checks, row->rp.number, disk->name, error))
                return FALSE;
        }
        if (!disks)
            return FALSE;
    }
    return checks != NULL;
}
