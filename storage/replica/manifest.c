/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/manifest.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/replica/manifest_priv.h"
#include "storage/util/sha256.h"

/* Every file is a whole number of groups long; what lies behind the last chunk is kept zero, so a
 * group's digest does not depend on where the disk ends.
 *
 * Crash behaviour. A bit in DISK.map follows its digest in DISK.next: both are durable after flush.
 * apply makes head and group digests durable while the overlay is still whole, then takes bits out
 * of the map, and only then, if at all, room from DISK.next. At every instant of it the effective
 * view is the same, and whatever bits survive repeat what the head has. */

/* Up to so many groups an emptied overlay keeps its room in DISK.next for the next cycle. */
#define KEEP_ROOM_GROUPS 256

static const guint8 zero_sha256[VR_SHA256_LEN];

static gboolean
bit_get(const guint8 *bits, guint64 i)
{
    return (__atomic_load_n(&bits[i / 8], __ATOMIC_ACQUIRE) >> (i % 8)) & 1;
}

static void
bit_set(guint8 *bits, guint64 i)
{
    __atomic_fetch_or(&bits[i / 8], (guint8) (1 << (i % 8)), __ATOMIC_RELEASE);
}

static VrDigest *
digest_at(const VrMappedFile *file, guint64 chunk)
{
    return (VrDigest *) file->data + chunk;
}

static guint8 *
group_sum(const VrManifest *self, guint64 group)
{
    return self->group_sums.data + group * VR_SHA256_LEN;
}

static gboolean
group_is_zero(const VrManifest *self, guint64 group)
{
    return memcmp(group_sum(self, group), zero_sha256, VR_SHA256_LEN) == 0;
}

/* Bytes of the map that belong to one group. */
static guint8 *
group_map(const VrManifest *self, guint64 group)
{
    return self->map.data + group * MAP_GROUP_BYTES;
}

guint64
vr_manifest_next_touched(const VrManifest *self, guint64 group)
{
    while (group < self->groups && !bit_get(self->touched, group))
        group++;
    return group;
}

static guint64
count_touched(const VrManifest *self)
{
    guint64 count = 0;

    for (guint64 g = vr_manifest_next_touched(self, 0); g < self->groups;
         g = vr_manifest_next_touched(self, g + 1))
        count++;
    return count;
}

/* Digest of @group's 64 KiB of @digests; zeros for zeros. */
static void
digest_group(const guint8 *digests, guint8 *ret_sum)
{
    if (vr_chunk_is_zero(digests, SUMS_GROUP_BYTES))
        memset(ret_sum, 0, VR_SHA256_LEN);
    else
        vr_sha256(digests, SUMS_GROUP_BYTES, ret_sum);
}

static void
overlay_onto(const VrManifest *self, guint64 group, VrDigest *digests)
{
    const guint8 *map = group_map(self, group);
    guint64 first = group * VR_MANIFEST_GROUP_CHUNKS;

    for (guint64 i = 0; i < VR_MANIFEST_GROUP_CHUNKS; i++) {
        if (bit_get(map, i))
            digests[i] = *digest_at(&self->next, first + i);
    }
}

/* --- opening --- */

static void
store_group_sum(VrManifest *self, guint64 group)
{
    guint8 sum[VR_SHA256_LEN];

    digest_group(self->sums.data + group * SUMS_GROUP_BYTES, sum);
    if (memcmp(sum, group_sum(self, group), VR_SHA256_LEN) != 0)
        memcpy(group_sum(self, group), sum, VR_SHA256_LEN);
}

/* They are read for every group, so all of their file has room (at most 8 MiB) and keeps it. */
static gboolean
clear_group_sums(VrManifest *self, GError **error)
{
    memset(self->group_sums.data, 0, self->group_sums.len);
    return vr_mapped_file_sync(&self->group_sums, error);
}

/* After a change of size nothing is known of the group digests, whatever was interrupted. */
static gboolean
rebuild_group_sums(VrManifest *self, GError **error)
{
    guint64 start;
    guint64 end;

    if (!clear_group_sums(self, error))
        return FALSE;
    for (guint64 at = 0; vr_mapped_file_next_data(&self->sums, at, &start, &end); at = end) {
        for (guint64 g = start / SUMS_GROUP_BYTES; g * SUMS_GROUP_BYTES < end; g++) {
            if (!vr_mapped_file_reserve(&self->sums, g * SUMS_GROUP_BYTES, SUMS_GROUP_BYTES, error))
                return FALSE;
            store_group_sum(self, g);
        }
    }
    return TRUE;
}

/* Otherwise it is a hole, and reading it through the mapping could need room. */
static gboolean
has_data(const VrMappedFile *file, guint64 offset, guint64 len)
{
    guint64 start;
    guint64 end;

    return vr_mapped_file_next_data(file, offset, &start, &end) && start < offset + len;
}

/* The last group may hold chunks of a larger disk that end here now. */
static gboolean
forget_tail(VrManifest *self, GError **error)
{
    guint64 last = self->groups - 1;
    guint64 end = self->groups * VR_MANIFEST_GROUP_CHUNKS;

    if (has_data(&self->map, last * MAP_GROUP_BYTES, MAP_GROUP_BYTES)) {
        if (!vr_mapped_file_reserve(&self->map, last * MAP_GROUP_BYTES, MAP_GROUP_BYTES, error))
            return FALSE;
        for (guint64 c = self->chunks; c < end; c++) {
            if (bit_get(self->map.data, c))
                self->map.data[c / 8] &= (guint8) ~(1 << (c % 8));
        }
    }
    if (!has_data(&self->sums, last * SUMS_GROUP_BYTES, SUMS_GROUP_BYTES)) {
        memset(group_sum(self, last), 0, VR_SHA256_LEN);
        return TRUE;
    }
    if (!vr_mapped_file_reserve(&self->sums, last * SUMS_GROUP_BYTES, SUMS_GROUP_BYTES, error))
        return FALSE;
    for (guint64 c = self->chunks; c < end; c++) {
        if (!vr_digest_is_zero(digest_at(&self->sums, c)))
            memset(digest_at(&self->sums, c), 0, sizeof(VrDigest));
    }
    store_group_sum(self, last);
    return TRUE;
}

static void
find_touched(VrManifest *self)
{
    guint64 start;
    guint64 end;

    for (guint64 at = 0; vr_mapped_file_next_data(&self->map, at, &start, &end); at = end) {
        for (guint64 g = start / MAP_GROUP_BYTES; g * MAP_GROUP_BYTES < end; g++) {
            if (!vr_chunk_is_zero(group_map(self, g), MAP_GROUP_BYTES))
                bit_set(self->touched, g);
        }
    }
}

static char *
file_path(const char *dir, const char *disk, const char *suffix)
{
    g_autofree char *name = g_strconcat(disk, ".", suffix, NULL);

    return g_build_filename(dir, name, NULL);
}

static gboolean
open_file(VrMappedFile *file, const char *dir, const char *disk, const char *suffix, guint64 len,
          gboolean *any_resized, GError **error)
{
    g_autofree char *path = file_path(dir, disk, suffix);
    gboolean resized = FALSE;

    if (!vr_mapped_file_open(file, path, len, &resized, error))
        return FALSE;
    *any_resized |= resized;
    return TRUE;
}

/* The map is cut first: its bits never outlive the digests they stand for. */
static gboolean
open_files(VrManifest *self, const char *dir, const char *disk, GError **error)
{
    guint64 n = self->groups;
    gboolean resized = FALSE;

    if (!open_file(&self->map, dir, disk, "map", n * MAP_GROUP_BYTES, &resized, error) ||
        !open_file(&self->next, dir, disk, "next", n * SUMS_GROUP_BYTES, &resized, error) ||
        !open_file(&self->group_sums, dir, disk, "groups", n * VR_SHA256_LEN, &resized, error) ||
        !open_file(&self->sums, dir, disk, "sums", n * SUMS_GROUP_BYTES, &resized, error))
        return FALSE;
    if (!vr_mapped_file_reserve(&self->group_sums, 0, self->group_sums.len, error))
        return FALSE;
    if (!resized)
        return TRUE;
    return vr_fsync_dir(dir, error) && rebuild_group_sums(self, error);
}

VrManifest *
vr_manifest_open(const char *dir, const char *disk, guint64 size_bytes, GError **error)
{
    g_autoptr(VrManifest) self = g_new0(VrManifest, 1);
    guint64 chunks = vr_chunk_count(size_bytes);

    g_mutex_init(&self->lock);
    self->size_bytes = size_bytes;
    self->chunks = chunks;
    self->groups =
        MAX((chunks + VR_MANIFEST_GROUP_CHUNKS - 1) / VR_MANIFEST_GROUP_CHUNKS, (guint64) 1);
    self->touched = g_malloc0(self->groups / 8 + 1);
    self->reserved = g_malloc0(self->groups / 8 + 1);
    if (!open_files(self, dir, disk, error) || !forget_tail(self, error)) {
        g_prefix_error(error, "manifest of disk '%s': ", disk);
        return NULL;
    }
    find_touched(self);
    self->unflushed = TRUE;
    return g_steal_pointer(&self);
}

void
vr_manifest_close(VrManifest *self)
{
    if (!self)
        return;
    vr_mapped_file_close(&self->sums);
    vr_mapped_file_close(&self->group_sums);
    vr_mapped_file_close(&self->next);
    vr_mapped_file_close(&self->map);
    g_mutex_clear(&self->lock);
    g_free(self->touched);
    g_free(self->reserved);
    g_free(self);
}

gboolean
vr_manifest_remove(const char *dir, const char *disk, GError **error)
{
    static const char *const suffixes[] = {"map", "next", "groups", "sums"};

    for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *path = file_path(dir, disk, suffixes[i]);

        if (unlink(path) < 0 && errno != ENOENT) {
            vr_set_error_errno(error, errno, "cannot remove '%s'", path);
            return FALSE;
        }
    }
    return TRUE;
}

/* --- reading --- */

guint64
vr_manifest_chunks(const VrManifest *self)
{
    return self->chunks;
}

guint64
vr_manifest_size(const VrManifest *self)
{
    return self->size_bytes;
}

gboolean
vr_manifest_in_overlay(const VrManifest *self, guint64 chunk)
{
    g_return_val_if_fail(chunk < self->chunks, FALSE);
    return bit_get(self->touched, chunk / VR_MANIFEST_GROUP_CHUNKS) &&
           bit_get(self->map.data, chunk);
}

void
vr_manifest_get(const VrManifest *self, guint64 chunk, VrDigest *ret_digest)
{
    g_return_if_fail(chunk < self->chunks);
    if (vr_manifest_in_overlay(self, chunk))
        *ret_digest = *digest_at(&self->next, chunk);
    else if (group_is_zero(self, chunk / VR_MANIFEST_GROUP_CHUNKS))
        memset(ret_digest, 0, sizeof(*ret_digest));
    else
        *ret_digest = *digest_at(&self->sums, chunk);
}

static gboolean
chunk_is_zero(const VrManifest *self, guint64 chunk)
{
    VrDigest digest;

    vr_manifest_get(self, chunk, &digest);
    return vr_digest_is_zero(&digest);
}

guint64
vr_manifest_next_nonzero(const VrManifest *self, guint64 from, guint64 end)
{
    guint64 chunk = from;

    g_return_val_if_fail(end <= self->chunks, end);
    while (chunk < end) {
        guint64 group = chunk / VR_MANIFEST_GROUP_CHUNKS;

        if (!bit_get(self->touched, group) && group_is_zero(self, group))
            chunk = (group + 1) * VR_MANIFEST_GROUP_CHUNKS;
        else if (chunk_is_zero(self, chunk))
            chunk++;
        else
            return chunk;
    }
    return end;
}

static void
append_chunks(const VrManifest *self, VrExtents *extents, guint64 first, guint64 end)
{
    guint64 offset = first * VR_CHUNK_SIZE;

    (void) vr_extents_append(extents, offset, MIN(end * VR_CHUNK_SIZE, self->size_bytes) - offset,
                             VR_EXTENT_DATA);
}

VrExtents *
vr_manifest_nonzero(const VrManifest *self)
{
    VrExtents *extents = vr_extents_new();
    guint64 end;

    for (guint64 chunk = vr_manifest_next_nonzero(self, 0, self->chunks); chunk < self->chunks;
         chunk = vr_manifest_next_nonzero(self, end, self->chunks)) {
        for (end = chunk + 1; end < self->chunks && !chunk_is_zero(self, end);)
            end++;
        append_chunks(self, extents, chunk, end);
    }
    return extents;
}

VrExtents *
vr_manifest_overlay_extents(const VrManifest *self)
{
    VrExtents *extents = vr_extents_new();

    for (guint64 g = vr_manifest_next_touched(self, 0); g < self->groups;
         g = vr_manifest_next_touched(self, g + 1)) {
        guint64 first = g * VR_MANIFEST_GROUP_CHUNKS;
        guint64 end = MIN(first + VR_MANIFEST_GROUP_CHUNKS, self->chunks);

        for (guint64 chunk = first; chunk < end; chunk++) {
            if (bit_get(self->map.data, chunk))
                append_chunks(self, extents, chunk, chunk + 1);
        }
    }
    return extents;
}

void
vr_manifest_root(const VrManifest *self, guint8 ret_root[VR_ROOT_LEN])
{
    g_autoptr(VrSha256) sha256 = vr_sha256_new();
    g_autofree guint8 *digests = g_malloc(SUMS_GROUP_BYTES);

    for (guint64 g = 0; g < self->groups; g++) {
        guint64 number = GUINT64_TO_LE(g);
        guint8 sum[VR_SHA256_LEN];

        if (bit_get(self->touched, g)) {
            if (group_is_zero(self, g)) /* and may be a hole */
                memset(digests, 0, SUMS_GROUP_BYTES);
            else
                memcpy(digests, self->sums.data + g * SUMS_GROUP_BYTES, SUMS_GROUP_BYTES);
            overlay_onto(self, g, (VrDigest *) digests);
            digest_group(digests, sum);
        } else {
            memcpy(sum, group_sum(self, g), VR_SHA256_LEN);
        }
        if (memcmp(sum, zero_sha256, VR_SHA256_LEN) == 0)
            continue;
        vr_sha256_update(sha256, &number, sizeof(number));
        vr_sha256_update(sha256, sum, sizeof(sum));
    }
    vr_sha256_finish(sha256, ret_root);
}

/* --- the overlay --- */

/* Room for the group's part of next and map, once. */
static gboolean
reserve_group(VrManifest *self, guint64 group, GError **error)
{
    gboolean ok = TRUE;

    if (bit_get(self->reserved, group))
        return TRUE;
    g_mutex_lock(&self->lock);
    if (!bit_get(self->reserved, group)) {
        ok = vr_mapped_file_reserve(&self->next, group * SUMS_GROUP_BYTES, SUMS_GROUP_BYTES,
                                    error) &&
             vr_mapped_file_reserve(&self->map, group * MAP_GROUP_BYTES, MAP_GROUP_BYTES, error);
        if (ok)
            bit_set(self->reserved, group);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

static void
put(VrManifest *self, guint64 chunk, const VrDigest *digest)
{
    *digest_at(&self->next, chunk) = *digest;
    bit_set(self->map.data, chunk);
}

gboolean
vr_manifest_set(VrManifest *self, guint64 chunk, const VrDigest *digest, GError **error)
{
    guint64 group = chunk / VR_MANIFEST_GROUP_CHUNKS;

    g_return_val_if_fail(chunk < self->chunks, FALSE);
    if (!reserve_group(self, group, error))
        return FALSE;
    g_atomic_int_set(&self->unflushed, TRUE);
    put(self, chunk, digest);
    bit_set(self->touched, group);
    return TRUE;
}

gboolean
vr_manifest_set_zero(VrManifest *self, guint64 first, guint64 count, GError **error)
{
    static const VrDigest zero;

    g_return_val_if_fail(first <= self->chunks && count <= self->chunks - first, FALSE);
    for (guint64 chunk = first; chunk < first + count; chunk++) {
        if (!vr_manifest_set(self, chunk, &zero, error))
            return FALSE;
    }
    return TRUE;
}

/* --- commit --- */

gboolean
vr_manifest_flush(VrManifest *self, GError **error)
{
    if (!g_atomic_int_get(&self->unflushed) || vr_manifest_next_touched(self, 0) == self->groups)
        return TRUE;
    if (!vr_mapped_file_sync(&self->next, error) || !vr_mapped_file_sync(&self->map, error))
        return FALSE;
    g_atomic_int_set(&self->unflushed, FALSE);
    return TRUE;
}

/* Bits first and durably, then room. */
static gboolean
empty_overlay(VrManifest *self, GError **error)
{
    guint64 touched = count_touched(self);

    if (touched == 0)
        return TRUE;
    if (touched > KEEP_ROOM_GROUPS) {
        if (!vr_mapped_file_clear(&self->map, error) || !vr_mapped_file_clear(&self->next, error))
            return FALSE;
        memset(self->reserved, 0, self->groups / 8 + 1);
    } else {
        for (guint64 g = vr_manifest_next_touched(self, 0); g < self->groups;
             g = vr_manifest_next_touched(self, g + 1))
            memset(group_map(self, g), 0, MAP_GROUP_BYTES);
        if (!vr_mapped_file_sync(&self->map, error))
            return FALSE;
    }
    memset(self->touched, 0, self->groups / 8 + 1);
    return TRUE;
}

static gboolean
apply_group(VrManifest *self, guint64 group, GError **error)
{
    if (!vr_mapped_file_reserve(&self->sums, group * SUMS_GROUP_BYTES, SUMS_GROUP_BYTES, error))
        return FALSE;
    overlay_onto(self, group, digest_at(&self->sums, group * VR_MANIFEST_GROUP_CHUNKS));
    store_group_sum(self, group);
    return TRUE;
}

gboolean
vr_manifest_apply_head(VrManifest *self, GError **error)
{
    for (guint64 g = vr_manifest_next_touched(self, 0); g < self->groups;
         g = vr_manifest_next_touched(self, g + 1)) {
        if (!apply_group(self, g, error))
            return FALSE;
    }
    return vr_mapped_file_sync(&self->sums, error) && vr_mapped_file_sync(&self->group_sums, error);
}

gboolean
vr_manifest_apply(VrManifest *self, GError **error)
{
    if (vr_manifest_next_touched(self, 0) == self->groups)
        return TRUE;
    return vr_manifest_apply_head(self, error) && empty_overlay(self, error);
}

gboolean
vr_manifest_discard(VrManifest *self, GError **error)
{
    return empty_overlay(self, error);
}

static gboolean
set_groups_length(VrManifest *self, guint64 len, GError **error)
{
    if (ftruncate(self->group_sums.fd, (off_t) len) == 0 && fsync(self->group_sums.fd) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot resize '%s'", self->group_sums.path);
    return FALSE;
}

/* The odd length of the file of group digests makes the next open rebuild them, should we not come
 * to the end. */
gboolean
vr_manifest_reset(VrManifest *self, GError **error)
{
    return empty_overlay(self, error) && set_groups_length(self, self->group_sums.len + 1, error) &&
           vr_mapped_file_clear(&self->sums, error) && clear_group_sums(self, error) &&
           set_groups_length(self, self->group_sums.len, error);
}
