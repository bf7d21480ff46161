/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/replica/layer.h"
#include "storage/util/run_program.h"

#define MiB ((guint64) 1024 * 1024)
#define TiB (MiB * MiB)

typedef struct {
    char *dir;
    gboolean qemu;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autofree char *program = g_find_program_in_path("qemu-img");

    f->dir = g_dir_make_tmp("vr-layer-XXXXXX", NULL);
    g_assert_nonnull(f->dir);
    f->qemu = program != NULL;
    if (!f->qemu)
        g_test_message("qemu-img is not installed: images are not judged");
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    GDir *dir = g_dir_open(f->dir, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(f->dir, name, NULL);
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    g_dir_close(dir);
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->dir);
}

static guint8 *
aligned(gsize chunks)
{
    void *p = NULL;

    g_assert_cmpint(posix_memalign(&p, 4096, chunks * VR_CHUNK_SIZE), ==, 0);
    return p;
}

static void
fill(guint8 *data, gsize len, guint32 seed)
{
    guint32 *words = (guint32 *) data;

    for (gsize i = 0; i < len / 4; i++) {
        seed = seed * 1664525 + 1013904223;
        words[i] = seed;
    }
}

static void
check_image(Fixture *f, const char *path)
{
    const char *argv[] = {"qemu-img", "check", "-f", "qcow2", path, NULL};
    g_autoptr(GError) error = NULL;

    if (!f->qemu)
        return;
    vr_run_program(argv, NULL, NULL, &error);
    g_assert_no_error(error);
}

/* The image read by QEMU equals @model. */
static void
compare_image(Fixture *f, const char *path, const guint8 *model, gsize len)
{
    g_autofree char *raw = g_build_filename(f->dir, "model.raw", NULL);
    const char *argv[] = {"qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, path, NULL};
    g_autoptr(GError) error = NULL;

    if (!f->qemu)
        return;
    g_file_set_contents(raw, (const char *) model, (gssize) len, &error);
    g_assert_no_error(error);
    vr_run_program(argv, NULL, NULL, &error);
    g_assert_no_error(error);
    g_unlink(raw);
}

typedef struct {
    VrLayer *layer;
    guint8 *model;
    guint64 chunks;
    guint parity; /* this thread's chunks: number % 2 */
    guint32 seed;
} Writer;

static gpointer
write_randomly(gpointer data)
{
    Writer *w = data;
    GRand *rand = g_rand_new_with_seed(w->seed);
    guint8 *buf = aligned(32);

    for (guint round = 0; round < 60; round++) {
        guint n = (guint) g_rand_int_range(rand, 1, 33);
        guint64 start = (guint64) g_rand_int_range(rand, 0, (gint32) w->chunks);
        guint64 chunks[32];
        guint used = 0;
        g_autoptr(GError) error = NULL;

        for (guint64 c = start; c < w->chunks && used < n; c++) {
            if (c / 4 % 2 == w->parity)
                chunks[used++] = c;
        }
        if (used == 0)
            continue;
        if (g_rand_int_range(rand, 0, 5) == 0) {
            g_assert_true(vr_layer_zero(w->layer, chunks[0], 1, &error));
            g_assert_no_error(error);
            memset(w->model + chunks[0] * VR_CHUNK_SIZE, 0, VR_CHUNK_SIZE);
            continue;
        }
        fill(buf, (gsize) used * VR_CHUNK_SIZE, g_rand_int(rand));
        g_assert_true(vr_layer_write(w->layer, chunks, used, buf, &error));
        g_assert_no_error(error);
        for (guint i = 0; i < used; i++)
            memcpy(w->model + chunks[i] * VR_CHUNK_SIZE, buf + (gsize) i * VR_CHUNK_SIZE,
                   VR_CHUNK_SIZE);
    }
    free(buf);
    g_rand_free(rand);
    return NULL;
}

static guint64
next_entry(VrLayer *layer, guint64 from)
{
    guint64 chunk = 0;

    g_assert_true(vr_layer_next(layer, from, &chunk, NULL));
    return chunk;
}

static void
write_by_two(VrLayer *layer, guint8 *model, guint64 chunks)
{
    Writer a = {layer, model, chunks, 0, (guint32) g_test_rand_int()};
    Writer b = {layer, model, chunks, 1, (guint32) g_test_rand_int()};
    GThread *thread = g_thread_new("writer", write_randomly, &a);

    write_randomly(&b);
    g_thread_join(thread);
}

static void
test_random(Fixture *f, gconstpointer data)
{
    const guint64 size = 48 * MiB + 512 * 3; /* the last chunk is partial */
    guint64 chunks = (size + VR_CHUNK_SIZE - 1) / VR_CHUNK_SIZE;
    g_autofree guint8 *model = g_malloc0(chunks * VR_CHUNK_SIZE);
    g_autofree char *path = g_build_filename(f->dir, "1.qcow2", NULL);
    g_autofree guint8 *back = g_malloc(VR_CHUNK_SIZE);
    g_autoptr(GError) error = NULL;
    VrLayer *layer = vr_layer_create(path, size, &error);

    g_assert_no_error(error);
    write_by_two(layer, model, chunks);
    g_assert_cmpint(vr_qcow2_check_header(path, size, NULL, NULL), ==, FALSE);
    for (guint64 c = 0; c < chunks; c++) {
        if (vr_layer_read(layer, c, back, &error)) {
            g_assert_cmpmem(back, VR_CHUNK_SIZE, model + c * VR_CHUNK_SIZE, VR_CHUNK_SIZE);
        } else {
            g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
            g_clear_error(&error);
            g_assert_true(vr_chunk_is_zero(model + c * VR_CHUNK_SIZE, VR_CHUNK_SIZE));
        }
    }
    for (guint64 c = next_entry(layer, 0); c < chunks; c = next_entry(layer, c + 3)) {
        g_assert_true(vr_layer_drop(layer, c, NULL));
        g_assert_false(vr_layer_read(layer, c, back, NULL));
        memset(model + c * VR_CHUNK_SIZE, 0, VR_CHUNK_SIZE);
    }
    memset(model + size, 0, chunks * VR_CHUNK_SIZE - size);
    g_assert_true(vr_layer_seal(layer, NULL, &error));
    g_assert_no_error(error);
    vr_layer_close(layer);
    check_image(f, path);
    compare_image(f, path, model, size);
    vr_qcow2_check_header(path, size, NULL, &error);
    g_assert_no_error(error);
}

static void
test_chain(Fixture *f, gconstpointer data)
{
    const guint64 sizes[] = {20 * MiB, 20 * MiB, 33 * MiB, 33 * MiB, 25 * MiB, 40 * MiB};
    g_autofree guint8 *model = g_malloc0(40 * MiB);
    g_autofree char *below = NULL;
    guint64 before = 0;

    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *name = g_strdup_printf("%u.qcow2", i + 1);
        g_autofree char *path = g_build_filename(f->dir, name, NULL);
        g_autoptr(GError) error = NULL;
        g_autoptr(VrLayer) layer = vr_layer_create(path, sizes[i], &error);

        g_assert_no_error(error);
        if (sizes[i] < before)
            memset(model + sizes[i], 0, before - sizes[i]);
        if (i != 3) /* one layer without entries */
            write_by_two(layer, model, sizes[i] / VR_CHUNK_SIZE);
        if (i == 4) {
            g_assert_true(vr_layer_zero(layer, 7, 300, &error));
            g_assert_no_error(error);
            memset(model + 7 * VR_CHUNK_SIZE, 0, (gsize) 300 * VR_CHUNK_SIZE);
        }
        g_assert_true(vr_layer_seal(layer, below, &error));
        check_image(f, path);
        compare_image(f, path, model, sizes[i]);
        vr_qcow2_check_header(path, sizes[i], below, &error);
        g_assert_no_error(error);
        before = sizes[i];
        g_free(below);
        below = g_steal_pointer(&name);
    }
}

static void
test_reopen(Fixture *f, gconstpointer data)
{
    const guint64 size = 32 * MiB;
    g_autofree guint8 *model = g_malloc0(size);
    g_autofree char *path = g_build_filename(f->dir, "1.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    VrLayer *layer = vr_layer_create(path, size, &error);

    g_assert_no_error(error);
    write_by_two(layer, model, size / VR_CHUNK_SIZE);
    for (guint pass = 0; pass < 4; pass++) {
        if (pass % 2 == 1) {
            g_assert_true(vr_layer_seal(layer, NULL, &error));
            compare_image(f, path, model, size);
        }
        vr_layer_close(layer);
        layer = vr_layer_reopen(path, size, &error);
        g_assert_no_error(error);
        g_assert_false(vr_qcow2_check_header(path, size, NULL, NULL));
        write_by_two(layer, model, size / VR_CHUNK_SIZE);
    }
    g_assert_true(vr_layer_seal(layer, NULL, &error));
    vr_layer_close(layer);
    check_image(f, path);
    compare_image(f, path, model, size);
}

/* Tables as a power loss can leave them. */
static void
test_reopen_damaged(Fixture *f, gconstpointer data)
{
    const guint64 entries[] = {G_MAXUINT64, VR_CHUNK_SIZE, GUINT64_TO_BE((guint64) 1 << 50), 2};
    g_autofree char *path = g_build_filename(f->dir, "1.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    guint64 chunk = 9;
    guint8 *buf = aligned(1);
    VrLayer *layer = vr_layer_create(path, 4 * MiB, &error);
    int fd;

    fill(buf, VR_CHUNK_SIZE, 5);
    g_assert_true(vr_layer_write(layer, &chunk, 1, buf, &error));
    vr_layer_close(layer);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, entries, sizeof entries, 2 * VR_CHUNK_SIZE), ==, sizeof entries);
    layer = vr_layer_reopen(path, 4 * MiB, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(next_entry(layer, 0), ==, chunk);
    g_assert_cmpuint(next_entry(layer, chunk + 1), ==, 64);
    g_assert_true(vr_layer_seal(layer, NULL, &error));
    vr_layer_close(layer);
    check_image(f, path);
    g_assert_cmpint(ftruncate(fd, VR_CHUNK_SIZE), ==, 0);
    close(fd);
    g_assert_null(vr_layer_reopen(path, 4 * MiB, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CORRUPT);
    free(buf);
}

static glong
resident_kib(void)
{
    g_autofree char *text = NULL;
    const char *p;

    g_assert_true(g_file_get_contents("/proc/self/status", &text, NULL, NULL));
    p = strstr(text, "RssAnon:");
    g_assert_nonnull(p);
    return (glong) g_ascii_strtoll(p + strlen("RssAnon:"), NULL, 10);
}

static void
test_large(Fixture *f, gconstpointer data)
{
    guint64 size = *(const guint64 *) data;
    guint64 last = size / VR_CHUNK_SIZE - 1;
    guint64 chunks[] = {0, last / 3, last / 2, last};
    g_autofree char *path = g_build_filename(f->dir, "1.qcow2", NULL);
    g_autofree guint8 *back = g_malloc(VR_CHUNK_SIZE);
    g_autoptr(GError) error = NULL;
    guint8 *buf = aligned(4);
    glong before = resident_kib();
    VrLayer *layer = vr_layer_create(path, size, &error);
    struct stat st;

    g_assert_no_error(error);
    fill(buf, (gsize) 4 * VR_CHUNK_SIZE, 77);
    g_assert_true(vr_layer_write(layer, chunks, 4, buf, &error));
    vr_layer_close(layer);
    layer = vr_layer_reopen(path, size, &error);
    g_assert_no_error(error);
    for (guint i = 0; i < 4; i++) {
        g_assert_true(vr_layer_read(layer, chunks[i], back, NULL));
        g_assert_cmpmem(back, VR_CHUNK_SIZE, buf + (gsize) i * VR_CHUNK_SIZE, VR_CHUNK_SIZE);
    }
    g_assert_true(vr_layer_seal(layer, NULL, &error));
    vr_layer_close(layer);
    g_assert_cmpint(resident_kib() - before, <, 8 * 1024);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <, 16 * (gint64) MiB);
    check_image(f, path);
    free(buf);
}

static void
flip(const char *path, goffset offset)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    guint8 byte;

    g_assert_cmpint(pread(fd, &byte, 1, offset), ==, 1);
    byte ^= 0x55;
    g_assert_cmpint(pwrite(fd, &byte, 1, offset), ==, 1);
    close(fd);
}

/* A flip in any field that a reader depends on is seen; the ranges left out have no influence on
 * content. */
static void
test_header(Fixture *f, gconstpointer data)
{
    static const struct {
        goffset from, to;
    } checked[] = {{0, 36},  {36, 38}, {40, 46},  {48, 54},
                   {60, 64}, {72, 80}, {88, 104}, {104, 124}};
    g_autofree char *path = g_build_filename(f->dir, "2.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(VrLayer) layer = vr_layer_create(path, MiB, &error);

    g_assert_true(vr_layer_seal(layer, "1.qcow2", &error));
    g_assert_true(vr_qcow2_check_header(path, MiB, "1.qcow2", &error));
    for (guint i = 0; i < G_N_ELEMENTS(checked); i++) {
        for (goffset at = checked[i].from; at < checked[i].to; at++) {
            if (at >= 117 && at < 120)
                continue; /* padding */
            flip(path, at);
            if (vr_qcow2_check_header(path, MiB, "1.qcow2", NULL))
                g_error("byte %d of the header is not checked", (int) at);
            flip(path, at);
        }
    }
    g_assert_true(vr_qcow2_check_header(path, MiB, "1.qcow2", &error));
    g_assert_false(vr_qcow2_check_header(path, MiB, NULL, NULL));
    g_assert_false(vr_qcow2_check_header(path, MiB, "3.qcow2", NULL));
    g_assert_false(vr_qcow2_check_header(path, 2 * MiB, "1.qcow2", NULL));
    g_assert_cmpint(truncate(path, 2 * VR_CHUNK_SIZE), ==, 0);
    g_assert_false(vr_qcow2_check_header(path, MiB, "1.qcow2", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CORRUPT);
}

static void
test_refused(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "1.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    VrLayer *layer;

    g_assert_null(vr_layer_create(path, 0, NULL));
    g_assert_null(vr_layer_create(path, 1000, NULL));
    g_assert_null(vr_layer_create(path, 64 * TiB + 512, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    g_clear_error(&error);
    layer = vr_layer_create(path, 512, &error);
    g_assert_no_error(error);
    g_assert_null(vr_layer_create(path, 512, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CONFLICT);
    g_assert_true(vr_layer_seal(layer, NULL, NULL));
    vr_layer_close(layer);
    check_image(f, path);
}

/* What a layer takes before it has a chunk is known before it is made. */
static void
test_empty(Fixture *f, gconstpointer data)
{
    static const guint64 sizes[] = {512, 700 * MiB, TiB, 64 * TiB};

    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *path = g_strdup_printf("%s/empty-%u.qcow2", f->dir, i);
        g_autoptr(VrLayer) layer = vr_layer_create(path, sizes[i], NULL);
        guint64 bytes = vr_layer_empty_bytes(sizes[i]);
        struct stat st;

        g_assert_true(vr_layer_seal(layer, NULL, NULL));
        g_assert_cmpint(stat(path, &st), ==, 0);
        g_assert_cmpuint((guint64) st.st_blocks * 512, <=, bytes);
        g_assert_cmpuint((guint64) st.st_blocks * 512, >, bytes / 4);
    }
}

/* After a power loss the table may still have an entry whose cluster was given to another chunk
 * since. */
static void
test_stale_entry(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "stale.qcow2", NULL);
    g_autoptr(VrLayer) layer = vr_layer_create(path, MiB, NULL);
    guint8 *buf = aligned(2);
    guint64 chunk = 3, entry;
    off_t table = 2 * VR_CHUNK_SIZE;
    int fd;

    fill(buf, VR_CHUNK_SIZE, 7);
    g_assert_true(vr_layer_write(layer, &chunk, 1, buf, NULL));
    g_clear_pointer(&layer, vr_layer_close);
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pread(fd, &entry, 8, table + 8 * 3), ==, 8);
    g_assert_cmpint(pwrite(fd, &entry, 8, table + 8 * 5), ==, 8);
    close(fd);
    layer = vr_layer_reopen(path, MiB, NULL);
    g_assert_true(vr_layer_drop(layer, 5, NULL));
    g_assert_true(vr_layer_read(layer, 3, buf + VR_CHUNK_SIZE, NULL));
    g_assert_cmpmem(buf, VR_CHUNK_SIZE, buf + VR_CHUNK_SIZE, VR_CHUNK_SIZE);
    g_assert_true(vr_layer_seal(layer, NULL, NULL));
    check_image(f, path);
    free(buf);
}

/* A file of zeros that takes all the room there is. */
static void
fill_up(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "filler", NULL);
    g_autofree guint8 *zeros = g_malloc0(4096);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    while (write(fd, zeros, 4096) > 0)
        ;
    close(fd);
}

/* On a full tmpfs reading a hole of a mapping kills the process. */
static void
test_full_tmpfs(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "full.qcow2", NULL);
    g_autoptr(VrLayer) layer = NULL;
    g_autoptr(GError) error = NULL;
    guint8 *buf = aligned(1);
    guint64 chunk = 9000; /* of the second table, which is a hole */

    if (mount("tmpfs", f->dir, "tmpfs", 0, "size=1m,mode=0700") != 0) {
        g_test_skip("full-tmpfs: needs the right to mount");
        free(buf);
        return;
    }
    layer = vr_layer_create(path, 2048 * MiB, &error);
    g_assert_no_error(error);
    fill_up(f->dir);
    fill(buf, VR_CHUNK_SIZE, 3);
    g_assert_false(vr_layer_read(layer, chunk, buf, NULL));
    g_assert_false(vr_layer_write(layer, &chunk, 1, buf, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NO_SPACE);
    g_clear_error(&error);
    g_assert_false(vr_layer_zero(layer, 12000, 10, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NO_SPACE);
    g_assert_cmpuint(next_entry(layer, 0), ==, 32768);
    g_clear_error(&error);
    g_assert_false(vr_layer_seal(layer, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NO_SPACE);
    g_clear_pointer(&layer, vr_layer_close);
    layer = vr_layer_reopen(path, 2048 * MiB, NULL);
    g_clear_pointer(&layer, vr_layer_close);
    g_assert_cmpint(umount(f->dir), ==, 0);
    free(buf);
}

int
main(int argc, char **argv)
{
    static const guint64 large[] = {TiB, 64 * TiB};

    g_test_init(&argc, &argv, NULL);
    g_test_add("/layer/random", Fixture, NULL, set_up, test_random, tear_down);
    g_test_add("/layer/chain", Fixture, NULL, set_up, test_chain, tear_down);
    g_test_add("/layer/reopen", Fixture, NULL, set_up, test_reopen, tear_down);
    g_test_add("/layer/reopen-damaged", Fixture, NULL, set_up, test_reopen_damaged, tear_down);
    g_test_add("/layer/empty", Fixture, NULL, set_up, test_empty, tear_down);
    g_test_add("/layer/1-TiB", Fixture, &large[0], set_up, test_large, tear_down);
    g_test_add("/layer/64-TiB", Fixture, &large[1], set_up, test_large, tear_down);
    g_test_add("/layer/header", Fixture, NULL, set_up, test_header, tear_down);
    g_test_add("/layer/refused", Fixture, NULL, set_up, test_refused, tear_down);
    g_test_add("/layer/stale-entry", Fixture, NULL, set_up, test_stale_entry, tear_down);
    g_test_add("/layer/full-tmpfs", Fixture, NULL, set_up, test_full_tmpfs, tear_down);
    return g_test_run();
}
