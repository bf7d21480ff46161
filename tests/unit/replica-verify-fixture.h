/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is damaged, looked at and repaired, over the fake source and the real target. */

#include "storage/replica/layer.h"
#include "storage/replica/replica_verify.h"
#include "storage/state/state_rp.h"
#include "tests/unit/replica-fixture.h"

static gboolean
count_pace(gsize bytes, gpointer data, GError **error)
{
    guint64 *sum = data;

    if (sum)
        *sum += bytes;
    return TRUE;
}

static guint64
head_number(Fixture *f)
{
    g_autoptr(VrRecoveryPoint) head = vr_replica_head(f->replica, NULL);

    return head->number;
}

/* Everything of RP @number is read. */
static VrVerifyResult
verify(Fixture *f, guint64 number)
{
    VrVerifyResult result;
    g_autoptr(GError) error = NULL;

    vr_replica_verify(f->replica, number, G_MAXINT64, count_pace, NULL, NULL, &result, &error);
    g_assert_no_error(error);
    return result;
}

static VrRecoveryPoint *
point(Fixture *f, guint64 number)
{
    g_autoptr(GPtrArray) points = vr_replica_list(f->replica, NULL);

    for (guint i = 0; i < points->len; i++) {
        VrRecoveryPoint *rp = points->pdata[i];
        if (rp->number == number)
            return g_ptr_array_steal_index(points, i);
    }
    g_assert_not_reached();
}

static void
assert_damage(Fixture *f, guint64 number, guint64 chunks)
{
    g_autoptr(VrRecoveryPoint) rp = point(f, number);
    g_autoptr(GError) error = NULL;

    g_assert_cmpuint(rp->damaged_chunks, ==, chunks);
    g_assert_true((rp->damaged_disk != NULL) == (chunks > 0));
    g_assert_true(vr_replica_require_sound(f->replica, number, &error) == (chunks == 0));
    if (chunks > 0)
        g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
}

/* By however much. */
static void
assert_damaged(Fixture *f, guint64 number)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(vr_replica_require_sound(f->replica, number, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
}

/* File offset of @chunk in a layer of ours (tables in order, see layer.c); 0: none. */
static guint64
data_offset(const char *path, guint64 chunk)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    guint64 l1, l2 = 0, entry = 0;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, &l1, 8, 40), ==, 8);
    g_assert_cmpint(pread(fd, &l2, 8, (off_t) GUINT64_FROM_BE(l1)), ==, 8);
    l2 = GUINT64_FROM_BE(l2) & G_GUINT64_CONSTANT(0x00fffffffffffe00);
    if (l2)
        g_assert_cmpint(pread(fd, &entry, 8, (off_t) (l2 + chunk * 8)), ==, 8);
    close(fd);
    return GUINT64_FROM_BE(entry) & G_GUINT64_CONSTANT(0x00fffffffffffe00);
}

static void
flip(Fixture *f, const char *disk, guint64 number, guint64 chunk)
{
    g_autofree char *path = at(f, "store/" UUID "/%s/%" G_GUINT64_FORMAT ".qcow2", disk, number);
    guint64 offset = data_offset(path, chunk);
    guint8 byte;
    int fd;

    g_assert_cmpuint(offset, >, 0);
    g_assert_cmpint(chmod(path, 0600), ==, 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pread(fd, &byte, 1, (off_t) offset + 4711), ==, 1);
    byte ^= 1;
    g_assert_cmpint(pwrite(fd, &byte, 1, (off_t) offset + 4711), ==, 1);
    close(fd);
    g_assert_cmpint(chmod(path, 0400), ==, 0);
}

static void
write_chunk(Fixture *f, const char *disk, guint64 chunk)
{
    write_disk(f, disk, chunk * VR_CHUNK_SIZE, VR_CHUNK_SIZE, FALSE);
}

/* The source reads the target's digests and compares everything, as after the head said "damaged".
 */
static void
refetch(Fixture *f)
{
    g_autofree char *sums = at(f, "sums");
    g_autoptr(GPtrArray) disks = source_disks(f);

    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];
        g_autoptr(VrManifest) manifest = vr_manifest_open(sums, disk->name, disk->size_bytes, NULL);
        g_autoptr(GBytes) records = vr_replica_head_sums(f->replica, disk->name, 0, 100000, NULL);
        gsize len;
        const guint8 *raw = g_bytes_get_data(records, &len);

        g_assert_true(vr_manifest_reset(manifest, NULL));
        for (gsize r = 0; r < len / 24; r++) {
            guint64 chunk;
            VrDigest digest;

            memcpy(&chunk, raw + r * 24, 8);
            memcpy(digest.b, raw + r * 24 + 8, VR_DIGEST_LEN);
            g_assert_true(vr_manifest_set(manifest, GUINT64_FROM_LE(chunk), &digest, NULL));
        }
        g_assert_true(vr_manifest_apply(manifest, NULL));
    }
}

static void
repair(Fixture *f)
{
    refetch(f);
    good_cycle(f);
}
