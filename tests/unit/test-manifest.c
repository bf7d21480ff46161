/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/replica/manifest.h"
#include "storage/replica/manifest_priv.h"

#define GROUP VR_MANIFEST_GROUP_CHUNKS
#define MAX_CHUNKS (4 * GROUP)

typedef struct {
    char *dir;
    VrManifest *manifest;
    guint64 size;
    guint64 chunks;
    VrDigest head[MAX_CHUNKS];
    VrDigest overlay[MAX_CHUNKS];
    gboolean held[MAX_CHUNKS]; /* by the overlay */
} Fixture;

static VrDigest
random_digest(void)
{
    VrDigest digest;

    for (guint i = 0; i < VR_DIGEST_LEN; i++)
        digest.b[i] = (guint8) g_test_rand_int_range(0, 256);
    return digest;
}

static void
open_manifest(Fixture *f, guint64 size)
{
    g_autoptr(GError) error = NULL;

    f->manifest = vr_manifest_open(f->dir, "vda", size, &error);
    g_assert_no_error(error);
    g_assert_nonnull(f->manifest);
    f->size = size;
    f->chunks = vr_chunk_count(size);
    g_assert_cmpuint(vr_manifest_chunks(f->manifest), ==, f->chunks);
    g_assert_cmpuint(vr_manifest_size(f->manifest), ==, size);
}

static void
reopen(Fixture *f)
{
    vr_manifest_close(f->manifest);
    open_manifest(f, f->size);
}

static void
set_up(Fixture *f, gconstpointer unused)
{
    f->dir = g_dir_make_tmp("vr-manifest-XXXXXX", NULL);
    open_manifest(f, (3 * GROUP + 77) * VR_CHUNK_SIZE - 512);
}

static void
tear_down(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    vr_manifest_close(f->manifest);
    g_assert_true(vr_manifest_remove(f->dir, "vda", &error));
    g_assert_true(vr_manifest_remove(f->dir, "vda", &error));
    g_assert_cmpint(rmdir(f->dir), ==, 0);
    g_free(f->dir);
}

static const VrDigest *
effective(const Fixture *f, guint64 chunk)
{
    return f->held[chunk] ? &f->overlay[chunk] : &f->head[chunk];
}

static void
set(Fixture *f, guint64 chunk, VrDigest digest)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_manifest_set(f->manifest, chunk, &digest, &error));
    f->overlay[chunk] = digest;
    f->held[chunk] = TRUE;
}

static void
set_zero(Fixture *f, guint64 first, guint64 count)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_manifest_set_zero(f->manifest, first, count, &error));
    for (guint64 c = first; c < first + count; c++) {
        memset(&f->overlay[c], 0, sizeof(VrDigest));
        f->held[c] = TRUE;
    }
}

static void
random_sets(Fixture *f, guint n)
{
    for (guint i = 0; i < n; i++) {
        guint64 chunk = (guint64) g_test_rand_int_range(0, (gint32) f->chunks);
        guint64 run = (guint64) g_test_rand_int_range(1, 300);

        if (run > 75)
            set(f, chunk, random_digest());
        else
            set_zero(f, chunk, MIN(f->chunks - chunk, 4 * run));
    }
}

static void
model_apply(Fixture *f)
{
    for (guint64 c = 0; c < f->chunks; c++)
        f->head[c] = *effective(f, c);
    memset(f->held, 0, sizeof(f->held));
}

/* The root from its definition, with another SHA-256. */
static void
model_root(const Fixture *f, guint8 root[VR_ROOT_LEN])
{
    g_autoptr(GChecksum) whole = g_checksum_new(G_CHECKSUM_SHA256);
    gsize len = VR_ROOT_LEN;

    for (guint64 g = 0; g * GROUP < f->chunks; g++) {
        g_autoptr(GChecksum) group = g_checksum_new(G_CHECKSUM_SHA256);
        static const VrDigest zero;
        guint64 number = GUINT64_TO_LE(g);
        guint8 sum[VR_ROOT_LEN];
        gboolean any = FALSE;

        for (guint64 c = g * GROUP; c < (g + 1) * GROUP; c++) {
            const VrDigest *digest = c < f->chunks ? effective(f, c) : &zero;

            any |= !vr_digest_is_zero(digest);
            g_checksum_update(group, digest->b, VR_DIGEST_LEN);
        }
        if (!any)
            continue;
        g_checksum_get_digest(group, sum, &len);
        g_checksum_update(whole, (guint8 *) &number, sizeof(number));
        g_checksum_update(whole, sum, VR_ROOT_LEN);
    }
    g_checksum_get_digest(whole, root, &len);
}

static void
check_extents(const Fixture *f, VrExtents *extents, gboolean overlay)
{
    g_autofree gboolean *listed = g_new0(gboolean, f->chunks);

    for (guint i = 0; i < vr_extents_count(extents); i++) {
        const VrExtent *e = vr_extents_get(extents, i);

        g_assert_cmpuint(e->offset % VR_CHUNK_SIZE, ==, 0);
        g_assert_cmpuint(e->offset + e->length, <=, f->size);
        g_assert_true((e->offset + e->length) % VR_CHUNK_SIZE == 0 ||
                      e->offset + e->length == f->size);
        for (guint64 at = e->offset; at < e->offset + e->length; at += VR_CHUNK_SIZE)
            listed[at / VR_CHUNK_SIZE] = TRUE;
    }
    for (guint64 c = 0; c < f->chunks; c++)
        g_assert_cmpint(listed[c], ==, overlay ? f->held[c] : !vr_digest_is_zero(effective(f, c)));
    vr_extents_free(extents);
}

static void
check(const Fixture *f)
{
    guint8 expected[VR_ROOT_LEN];
    guint8 root[VR_ROOT_LEN];
    VrDigest digest;

    for (guint64 c = 0; c < f->chunks; c++) {
        vr_manifest_get(f->manifest, c, &digest);
        g_assert_cmpmem(digest.b, VR_DIGEST_LEN, effective(f, c)->b, VR_DIGEST_LEN);
        g_assert_cmpint(vr_manifest_in_overlay(f->manifest, c), ==, f->held[c]);
    }
    check_extents(f, vr_manifest_nonzero(f->manifest), FALSE);
    check_extents(f, vr_manifest_overlay_extents(f->manifest), TRUE);
    model_root(f, expected);
    vr_manifest_root(f->manifest, root);
    g_assert_cmpmem(root, sizeof(root), expected, sizeof(expected));
}

static void
flush(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_manifest_flush(f->manifest, &error));
    g_assert_no_error(error);
}

static void
apply(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_manifest_apply(f->manifest, &error));
    g_assert_no_error(error);
    model_apply(f);
}

static void
test_empty(Fixture *f, gconstpointer unused)
{
    static const char *const names[] = {"vda.sums", "vda.groups", "vda.next", "vda.map"};

    check(f);
    flush(f);
    apply(f);
    check(f);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(f->dir, names[i], NULL);
        struct stat st;

        g_assert_cmpint(stat(path, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
        g_assert_cmpint(st.st_blocks, <=, 8);
    }
}

static void
test_cycles(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    for (guint round = 0; round < 12; round++) {
        random_sets(f, (guint) g_test_rand_int_range(0, 120));
        check(f);
        if (round % 3 == 1)
            reopen(f);
        check(f);
        if (round % 4 == 3) {
            g_assert_true(vr_manifest_discard(f->manifest, &error));
            memset(f->held, 0, sizeof(f->held));
        } else {
            flush(f);
            apply(f);
        }
        check(f);
        if (round % 3 == 2)
            reopen(f);
        check(f);
    }
}

/* Applying stops after the head is durable, and after some bits are out of the map. */
static void
test_crash_in_apply(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    random_sets(f, 100);
    flush(f);
    apply(f);
    for (guint bits = 0; bits < 3; bits++) {
        random_sets(f, 100);
        flush(f);
        g_assert_true(vr_manifest_apply_head(f->manifest, &error));
        check(f);
        if (bits > 0)
            memset(f->manifest->map.data + (bits - 1) * MAP_GROUP_BYTES, 0, MAP_GROUP_BYTES);
        reopen(f);
        apply(f);
        check(f);
    }
}

/* Half of the head's chunks copied, group digests old: applying again mends it. */
static void
test_crash_in_head(Fixture *f, gconstpointer unused)
{
    random_sets(f, 100);
    flush(f);
    apply(f);
    random_sets(f, 100);
    flush(f);
    for (guint64 c = 0; c < f->chunks; c += 2) {
        if (f->held[c])
            ((VrDigest *) f->manifest->sums.data)[c] = f->overlay[c];
    }
    reopen(f);
    check(f);
    apply(f);
    check(f);
    reopen(f);
    check(f);
}

static void
resize(Fixture *f, guint64 size)
{
    guint64 chunks = vr_chunk_count(size);

    vr_manifest_close(f->manifest);
    for (guint64 c = chunks; c < MAX_CHUNKS; c++) {
        memset(&f->head[c], 0, sizeof(VrDigest));
        f->held[c] = FALSE;
    }
    open_manifest(f, size);
}

static void
test_resize(Fixture *f, gconstpointer unused)
{
    static const guint64 chunks[] = {
        3 * GROUP + 500, 3 * GROUP + 10, 4 * GROUP, GROUP, 2 * GROUP + 1, 2 * GROUP, 1, GROUP + 3,
    };

    for (guint i = 0; i < G_N_ELEMENTS(chunks); i++) {
        random_sets(f, 60);
        flush(f);
        apply(f);
        random_sets(f, 60);
        resize(f, chunks[i] * VR_CHUNK_SIZE - 1024);
        check(f);
        reopen(f);
        check(f);
    }
}

/* Group digests that are not those of the head, as a resize or reset that was cut short leaves
 * them, are made anew. */
static void
test_rebuild(Fixture *f, gconstpointer unused)
{
    random_sets(f, 100);
    apply(f);
    memset(f->manifest->group_sums.data, 0x55, f->manifest->group_sums.len);
    g_assert_cmpint(ftruncate(f->manifest->group_sums.fd, (off_t) f->manifest->group_sums.len + 1),
                    ==, 0);
    reopen(f);
    check(f);
    reopen(f);
    check(f);
}

static void
test_reset(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    random_sets(f, 100);
    apply(f);
    random_sets(f, 20);
    g_assert_true(vr_manifest_reset(f->manifest, &error));
    memset(f->head, 0, sizeof(f->head));
    memset(f->held, 0, sizeof(f->held));
    check(f);
    reopen(f);
    check(f);
    random_sets(f, 20);
    apply(f);
    check(f);
}

typedef struct {
    VrManifest *manifest;
    guint64 first;
} Setter;

/* Every third chunk, so that the threads share bytes of the map. */
static gpointer
set_thirds(gpointer data)
{
    Setter *setter = data;

    for (guint64 c = setter->first; c < vr_manifest_chunks(setter->manifest); c += 3) {
        VrDigest digest = {.b = {1, (guint8) c, (guint8) (c >> 8)}};

        g_assert_true(vr_manifest_set(setter->manifest, c, &digest, NULL));
    }
    return NULL;
}

static void
test_threads(Fixture *f, gconstpointer unused)
{
    Setter setters[3];
    GThread *threads[3];

    for (guint i = 0; i < 3; i++) {
        setters[i] = (Setter){f->manifest, i};
        threads[i] = g_thread_new("set", set_thirds, &setters[i]);
    }
    for (guint i = 0; i < 3; i++)
        g_thread_join(threads[i]);
    for (guint64 c = 0; c < f->chunks; c++) {
        f->overlay[c] = (VrDigest){.b = {1, (guint8) c, (guint8) (c >> 8)}};
        f->held[c] = TRUE;
    }
    check(f);
}

static void
test_next_nonzero(Fixture *f, gconstpointer unused)
{
    set(f, 5, random_digest());
    set(f, 3 * GROUP, random_digest());
    apply(f);
    set_zero(f, 5, 1);
    g_assert_cmpuint(vr_manifest_next_nonzero(f->manifest, 0, 5), ==, 5);
    g_assert_cmpuint(vr_manifest_next_nonzero(f->manifest, 0, f->chunks), ==, 3 * GROUP);
    g_assert_cmpuint(vr_manifest_next_nonzero(f->manifest, 0, 3 * GROUP - 7), ==, 3 * GROUP - 7);
    g_assert_cmpuint(vr_manifest_next_nonzero(f->manifest, 3 * GROUP + 1, f->chunks), ==,
                     f->chunks);
}

static guint64
disk_usage(const char *dir)
{
    guint64 blocks = 0;
    g_autoptr(GDir) handle = g_dir_open(dir, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(handle))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        struct stat st;

        g_assert_cmpint(stat(path, &st), ==, 0);
        blocks += (guint64) st.st_blocks;
    }
    return blocks * 512;
}

/* 64 TiB: files stay sparse, and an overlay of many groups gives its room back. */
static void
test_huge(void)
{
    g_autofree char *dir = g_dir_make_tmp("vr-manifest-XXXXXX", NULL);
    g_autoptr(GError) error = NULL;
    VrManifest *manifest = vr_manifest_open(dir, "sda", G_GUINT64_CONSTANT(64) << 40, &error);
    guint64 chunks = G_GUINT64_CONSTANT(1) << 30;
    guint64 step = chunks / 300;
    VrDigest digest = {.b = {7}};
    VrExtents *extents;

    g_assert_no_error(error);
    for (guint64 c = 0; c < 300; c++)
        g_assert_true(vr_manifest_set(manifest, c * step, &digest, &error));
    g_assert_true(vr_manifest_set(manifest, chunks - 1, &digest, &error));
    g_assert_true(vr_manifest_flush(manifest, &error));
    g_assert_true(vr_manifest_apply(manifest, &error));
    g_assert_cmpuint(disk_usage(dir), <, 32 << 20);
    vr_manifest_close(manifest);
    manifest = vr_manifest_open(dir, "sda", G_GUINT64_CONSTANT(64) << 40, &error);
    extents = vr_manifest_nonzero(manifest);
    g_assert_cmpuint(vr_extents_count(extents), ==, 301);
    g_assert_cmpuint(vr_extents_get(extents, 300)->offset, ==,
                     (G_GUINT64_CONSTANT(64) << 40) - VR_CHUNK_SIZE);
    vr_extents_free(extents);
    g_assert_true(vr_manifest_reset(manifest, &error));
    g_assert_cmpuint(vr_manifest_next_nonzero(manifest, 0, chunks), ==, chunks);
    vr_manifest_close(manifest);
    g_assert_true(vr_manifest_remove(dir, "sda", &error));
    g_assert_cmpint(rmdir(dir), ==, 0);
}

/* A full file system is an error, never a signal, and nothing that was there is lost. */
static void
test_full(void)
{
    g_autofree char *dir = g_dir_make_tmp("vr-manifest-XXXXXX", NULL);
    g_autoptr(VrManifest) manifest = NULL;
    g_autoptr(GError) error = NULL;
    guint64 chunks = 64 * GROUP;
    guint64 done = 0;
    VrDigest digest = {.b = {9}};
    VrDigest got;
    guint8 root[VR_ROOT_LEN];

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("vr-test", dir, "tmpfs", 0, "size=1m") < 0) {
        g_test_skip("cannot mount a tmpfs");
        (void) rmdir(dir);
        return;
    }
    manifest = vr_manifest_open(dir, "vda", chunks * VR_CHUNK_SIZE, &error);
    g_assert_no_error(error);
    while (done < chunks && vr_manifest_set(manifest, done, &digest, &error))
        done += GROUP;
    g_assert_error(error, VR_ERROR, VR_ERROR_NO_SPACE);
    g_assert_false(vr_manifest_in_overlay(manifest, done));
    g_clear_error(&error);
    vr_manifest_root(manifest, root); /* reads the head, which is one hole */
    g_assert_cmpuint(vr_manifest_next_nonzero(manifest, 1, chunks), ==, GROUP);
    g_assert_true(vr_manifest_flush(manifest, &error));
    g_assert_false(vr_manifest_apply(manifest, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NO_SPACE);
    vr_manifest_get(manifest, done - GROUP, &got);
    g_assert_true(vr_digest_equal(&digest, &got));
    g_assert_cmpint(mount("vr-test", dir, "tmpfs", MS_REMOUNT, "size=16m"), ==, 0);
    g_clear_error(&error);
    g_assert_true(vr_manifest_apply(manifest, &error));
    g_assert_false(vr_manifest_in_overlay(manifest, 0));
    vr_manifest_get(manifest, done - GROUP, &got);
    g_assert_true(vr_digest_equal(&digest, &got));
    g_clear_pointer(&manifest, vr_manifest_close);
    g_assert_cmpint(umount(dir), ==, 0);
    g_assert_cmpint(rmdir(dir), ==, 0);
}

static void
test_bad_directory(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(vr_manifest_open("/nonexistent", "vda", 512, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "/nonexistent/vda.map"));
}

static char *
root_of(gboolean swap, const char *name, guint64 size, guint8 first, const char *attachment)
{
    g_autoptr(VrRootBuilder) builder = vr_root_builder_new();
    guint8 one[VR_ROOT_LEN] = {first};
    guint8 two[VR_ROOT_LEN] = {2};

    if (swap)
        vr_root_builder_add_disk(builder, "vdb", 512, two);
    vr_root_builder_add_disk(builder, name, size, one);
    if (!swap)
        vr_root_builder_add_disk(builder, "vdb", 512, two);
    if (attachment)
        vr_root_builder_add_attachment(builder, "nvram", 10, attachment);
    return vr_root_builder_finish(builder);
}

/* Order does not matter, everything else does. */
static void
test_root_builder(void)
{
    g_autofree char *base = root_of(FALSE, "vda", 1024, 1, NULL);
    g_autofree char *swapped = root_of(TRUE, "vda", 1024, 1, NULL);
    char *others[] = {
        root_of(FALSE, "vdc", 1024, 1, NULL), root_of(FALSE, "vda", 2048, 1, NULL),
        root_of(FALSE, "vda", 1024, 3, NULL), root_of(FALSE, "vda", 1024, 1, "00"),
        root_of(FALSE, "vda", 1024, 1, "01"),
    };

    g_assert_cmpuint(strlen(base), ==, 64);
    g_assert_cmpstr(base, ==, swapped);
    for (guint i = 0; i < G_N_ELEMENTS(others); i++) {
        g_assert_cmpstr(base, !=, others[i]);
        for (guint k = 0; k < i; k++)
            g_assert_cmpstr(others[k], !=, others[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        g_free(others[i]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)
    ADD("/manifest/empty", test_empty);
    ADD("/manifest/cycles", test_cycles);
    ADD("/manifest/crash-in-apply", test_crash_in_apply);
    ADD("/manifest/crash-in-head", test_crash_in_head);
    ADD("/manifest/resize", test_resize);
    ADD("/manifest/rebuild", test_rebuild);
    ADD("/manifest/reset", test_reset);
    ADD("/manifest/threads", test_threads);
    ADD("/manifest/next-nonzero", test_next_nonzero);
    g_test_add_func("/manifest/huge", test_huge);
    g_test_add_func("/manifest/full", test_full);
    g_test_add_func("/manifest/bad-directory", test_bad_directory);
    g_test_add_func("/root/builder", test_root_builder);
    return g_test_run();
}
