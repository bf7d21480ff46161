/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/fault.h"
#include "storage/wire/copy.h"
#include "storage/wire/frame.h"

#define MAX_DISKS 3
#define NEVER G_MAXINT

/* Fails the call that takes the countdown to 0, and all later ones. */
static gboolean
count_down(gint *left, GError **error)
{
    if (g_atomic_int_add(left, -1) > 1)
        return TRUE;
    vr_set_error(error, VR_ERROR_TRANSIENT, "made-to-fail", NULL, "made to fail");
    return FALSE;
}

typedef struct {
    VrSource base;
    guint8 *data;        /* owned: the disk */
    guint8 *may_be_read; /* owned: a byte a chunk */
    gint *reads_left;    /* borrowed, shared by all disks */
    gint opened;         /* atomic */
    gint closed;         /* atomic */
} FakeSource;

struct _VrSourceReader {
    FakeSource *source;
};

static VrSourceReader *
fake_open(VrSource *source, GError **error)
{
    VrSourceReader *reader = g_new(VrSourceReader, 1);

    reader->source = (FakeSource *) source;
    g_atomic_int_inc(&reader->source->opened);
    return reader;
}

static gboolean
fake_read(VrSourceReader *reader, guint64 offset, gsize len, guint8 *buf, GError **error)
{
    FakeSource *source = reader->source;

    g_assert_cmpuint(len, <=, VR_SOURCE_READ_MAX);
    g_assert_cmpuint(len % 512, ==, 0);
    g_assert_cmpuint(offset + len, <=, source->base.size_bytes);
    g_assert_cmpuint((gsize) buf % 4096, ==, 0);
    for (guint64 c = offset / VR_CHUNK_SIZE; c < vr_chunk_count(offset + len); c++)
        g_assert_true(source->may_be_read[c]);
    if (!count_down(source->reads_left, error))
        return FALSE;
    memcpy(buf, source->data + offset, len);
    return TRUE;
}

static void
fake_close(VrSourceReader *reader)
{
    if (!reader)
        return;
    g_atomic_int_inc(&reader->source->closed);
    g_free(reader);
}

static const VrSourceOps fake_ops = {fake_open, fake_read, fake_close};

typedef struct {
    FakeSource source;
    guint64 chunks;
    guint8 *replica;       /* owned: what the target holds, whole chunks; under Fixture.lock */
    guint8 *acknowledged;  /* owned: a byte a chunk, of this run; under Fixture.lock */
    VrManifest *manifest;  /* owned */
    VrExtents *candidates; /* owned */
    char name[4];
} Disk;

typedef struct {
    VrSink sink;
    char *dir;
    Disk disks[MAX_DISKS];
    guint n_disks;
    GMutex lock;
    gint reads_left;
    gint sends_left;
    gint cancel_at; /* sends after which *cancel is pulled */
    GCancellable *cancel;
    guint64 bytes_sent;
    guint busy[4]; /* worker is inside send */
    VrCopyOptions options;
    VrCopyProgress progress;
} Fixture;

/* Index on the wire: far from the position in the array, so that a mix-up shows. */
static guint16
wire_index(guint disk)
{
    return (guint16) (40 - 7 * disk);
}

static void
store_frame(Fixture *f, const VrFrameHeader *header, const guint8 *payload)
{
    g_autoptr(GError) error = NULL;
    Disk *disk = NULL;

    for (guint d = 0; d < f->n_disks; d++) {
        if (wire_index(d) == header->disk)
            disk = &f->disks[d];
    }
    g_assert_nonnull(disk);
    g_assert_cmpuint(header->chunk + header->count, <=, disk->chunks);
    for (guint64 c = header->chunk; c < header->chunk + header->count; c++) {
        g_assert_false(disk->acknowledged[c]);
        disk->acknowledged[c] = TRUE;
    }
    if (header->kind == VR_FRAME_ZERO) {
        memset(disk->replica + header->chunk * VR_CHUNK_SIZE, 0,
               (gsize) header->count * VR_CHUNK_SIZE);
        return;
    }
    g_assert_true(
        vr_frame_decode(header, payload, disk->replica + header->chunk * VR_CHUNK_SIZE, &error));
}

static void
store_body(Fixture *f, const guint8 *body, gsize len)
{
    g_autoptr(GError) error = NULL;

    while (len > 0) {
        VrFrameHeader header;
        const guint8 *payload;

        g_assert_true(vr_frame_next(&body, &len, &header, &payload, &error));
        store_frame(f, &header, payload);
    }
}

static gboolean
fake_send(VrSink *sink, guint worker, const guint8 *body, gsize len, GCancellable *cancel,
          GError **error)
{
    Fixture *f = (Fixture *) sink;

    g_assert_cmpuint(worker, <, f->options.workers);
    g_assert_cmpuint(len, >, 0);
    g_assert_cmpuint(len, <=, VR_BODY_MAX);
    if (!count_down(&f->sends_left, error))
        return FALSE;
    if (g_atomic_int_add(&f->cancel_at, -1) == 1)
        g_cancellable_cancel(f->cancel);
    if (g_cancellable_set_error_if_cancelled(cancel, error))
        return FALSE;
    g_mutex_lock(&f->lock);
    g_assert_cmpuint(f->busy[worker]++, ==, 0);
    store_body(f, body, len);
    f->bytes_sent += len;
    f->busy[worker]--;
    g_mutex_unlock(&f->lock);
    return TRUE;
}

static void
fill_chunk(guint8 *data)
{
    switch (g_test_rand_int_range(0, 3)) {
    case 0:
        memset(data, 0, VR_CHUNK_SIZE);
        return;
    case 1:
        memset(data, g_test_rand_int_range(1, 256), VR_CHUNK_SIZE);
        return;
    default:
        for (guint i = 0; i < VR_CHUNK_SIZE; i += 4) {
            guint32 word = (guint32) g_test_rand_int();

            memcpy(data + i, &word, sizeof(word));
        }
    }
}

static void
add_disk(Fixture *f, guint64 size)
{
    Disk *disk = &f->disks[f->n_disks];
    g_autoptr(GError) error = NULL;

    g_snprintf(disk->name, sizeof(disk->name), "vd%c", 'a' + (char) f->n_disks);
    disk->chunks = vr_chunk_count(size);
    disk->source.base.ops = &fake_ops;
    disk->source.base.size_bytes = size;
    disk->source.data = g_malloc0(disk->chunks * VR_CHUNK_SIZE);
    disk->source.may_be_read = g_malloc0(disk->chunks);
    disk->source.reads_left = &f->reads_left;
    disk->replica = g_malloc0(disk->chunks * VR_CHUNK_SIZE);
    disk->acknowledged = g_malloc0(disk->chunks);
    disk->candidates = vr_extents_new();
    disk->manifest = vr_manifest_open(f->dir, disk->name, size, &error);
    g_assert_no_error(error);
    f->n_disks++;
}

static void
set_up(Fixture *f, gconstpointer unused)
{
    f->dir = g_dir_make_tmp("vr-copy-XXXXXX", NULL);
    f->sink.send = fake_send;
    f->cancel = g_cancellable_new();
    f->options = (VrCopyOptions){.workers = 2};
    f->reads_left = f->sends_left = f->cancel_at = NEVER;
    g_mutex_init(&f->lock);
    g_assert_true(vr_fault_init(NULL, NULL));
}

static void
tear_down(Fixture *f, gconstpointer unused)
{
    for (guint d = 0; d < f->n_disks; d++) {
        Disk *disk = &f->disks[d];

        g_assert_cmpint(disk->source.opened, ==, disk->source.closed);
        vr_manifest_close(disk->manifest);
        g_assert_true(vr_manifest_remove(f->dir, disk->name, NULL));
        vr_extents_free(disk->candidates);
        g_free(disk->source.data);
        g_free(disk->source.may_be_read);
        g_free(disk->replica);
        g_free(disk->acknowledged);
    }
    g_assert_cmpint(rmdir(f->dir), ==, 0);
    g_free(f->dir);
    g_object_unref(f->cancel);
    g_mutex_clear(&f->lock);
}

/* Some chunks of the disk change. Candidates are these and some that did not; chunks of zeros are
 * sometimes known to be. */
static void
change_disk(Disk *disk, guint one_in)
{
    VrExtents *extents = vr_extents_new();

    memset(disk->source.may_be_read, 0, disk->chunks);
    for (guint64 c = 0; c < disk->chunks; c++) {
        guint8 *data = disk->source.data + c * VR_CHUNK_SIZE;
        guint64 end = MIN((c + 1) * VR_CHUNK_SIZE, disk->source.base.size_bytes);
        gboolean changes = g_test_rand_int_range(0, (gint32) one_in) == 0;
        gboolean zero;

        if (changes) {
            fill_chunk(data);
            memset(disk->source.data + end, 0, (c + 1) * VR_CHUNK_SIZE - end);
        } else if (g_test_rand_int_range(0, 2)) {
            continue;
        }
        zero = vr_chunk_is_zero(data, VR_CHUNK_SIZE) && g_test_rand_int_range(0, 2);
        disk->source.may_be_read[c] = !zero;
        g_assert_true(vr_extents_append(extents, c * VR_CHUNK_SIZE, end - c * VR_CHUNK_SIZE,
                                        zero ? VR_EXTENT_ZERO : VR_EXTENT_DATA));
    }
    vr_extents_free(disk->candidates);
    disk->candidates = extents;
}

static gboolean
run(Fixture *f, GError **error)
{
    VrCopyDisk disks[MAX_DISKS];
    guint64 total = 0;
    gboolean ok;

    f->bytes_sent = 0;
    for (guint d = 0; d < f->n_disks; d++) {
        Disk *disk = &f->disks[d];

        disks[d] = (VrCopyDisk){wire_index(d), disk->name, &disk->source.base, disk->candidates,
                                disk->manifest};
        memset(disk->acknowledged, 0, disk->chunks);
        total += vr_extents_bytes(disk->candidates, VR_EXTENT_DATA);
    }
    ok = vr_copy_run(disks, f->n_disks, &f->sink, &f->options, &f->progress, f->cancel, error);
    g_assert_cmpuint(f->progress.total, ==, total);
    g_assert_cmpuint(f->progress.done, <=, total);
    g_assert_cmpuint(f->progress.sent, ==, f->bytes_sent);
    for (guint d = 0; d < f->n_disks; d++)
        g_assert_cmpint(f->disks[d].source.opened, ==, f->disks[d].source.closed);
    return ok;
}

/* The manifest says of every chunk what the replica holds. */
static void
check_manifest(const Fixture *f)
{
    for (guint d = 0; d < f->n_disks; d++) {
        const Disk *disk = &f->disks[d];

        for (guint64 c = 0; c < disk->chunks; c++) {
            VrDigest held;
            VrDigest real;

            vr_manifest_get(disk->manifest, c, &held);
            vr_chunk_digest(disk->replica + c * VR_CHUNK_SIZE, &real);
            g_assert_cmpmem(held.b, VR_DIGEST_LEN, real.b, VR_DIGEST_LEN);
            if (disk->acknowledged[c])
                g_assert_true(vr_manifest_in_overlay(disk->manifest, c));
        }
    }
}

static void
check_done(const Fixture *f)
{
    check_manifest(f);
    g_assert_cmpuint(f->progress.done, ==, f->progress.total);
    g_assert_cmpuint(f->progress.read, ==, f->progress.total);
    for (guint d = 0; d < f->n_disks; d++) {
        const Disk *disk = &f->disks[d];

        g_assert_true(memcmp(disk->replica, disk->source.data, disk->chunks * VR_CHUNK_SIZE) == 0);
    }
}

static void
apply(Fixture *f)
{
    for (guint d = 0; d < f->n_disks; d++)
        g_assert_true(vr_manifest_apply(f->disks[d].manifest, NULL));
}

static void
test_cycles(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    add_disk(f, 17 * 1024 * 1024 + 512);
    add_disk(f, 512);
    add_disk(f, 9 * 1024 * 1024);
    for (guint round = 0; round < 6; round++) {
        guint64 changed = 0;

        f->options.workers = 1 + round % 4;
        f->options.compress = round % 2 == 1;
        for (guint d = 0; d < f->n_disks; d++)
            change_disk(&f->disks[d], round == 0 ? 1 : 1 + round * 2);
        g_assert_true(run(f, &error));
        g_assert_no_error(error);
        check_done(f);
        for (guint d = 0; d < f->n_disks; d++) {
            for (guint64 c = 0; c < f->disks[d].chunks; c++)
                changed += f->disks[d].acknowledged[c];
        }
        g_assert_cmpuint(f->progress.changed, ==, changed * VR_CHUNK_SIZE);
        g_assert_true(run(f, &error));
        g_assert_cmpuint(f->progress.sent, ==, 0);
        if (round % 2 == 0)
            apply(f);
        check_done(f);
    }
}

/* Fails the nth read or send for every n: the manifest is right at once, and the run after it sends
 * only what is missing. */
static void
fail_each(Fixture *f, gint *countdown)
{
    gboolean failed = TRUE;

    add_disk(f, 20 * 1024 * 1024);
    add_disk(f, 12 * 1024 * 1024 - 512);
    for (gint n = 1; failed; n++) {
        g_autoptr(GError) error = NULL;

        for (guint d = 0; d < f->n_disks; d++)
            change_disk(&f->disks[d], 1);
        *countdown = n;
        failed = !run(f, &error);
        if (failed) {
            g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
            g_assert_cmpstr(vr_error_slug(error), ==, "made-to-fail");
        }
        check_manifest(f);
        *countdown = NEVER;
        g_clear_error(&error);
        g_assert_true(run(f, &error));
        check_done(f);
        g_assert_true(failed || f->progress.sent == 0);
    }
}

static void
test_read_fails(Fixture *f, gconstpointer unused)
{
    fail_each(f, &f->reads_left);
}

static void
test_send_fails(Fixture *f, gconstpointer unused)
{
    fail_each(f, &f->sends_left);
}

static void
test_cancel(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    add_disk(f, 32 * 1024 * 1024);
    change_disk(&f->disks[0], 1);
    f->cancel_at = 2;
    g_assert_false(run(f, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
    g_clear_error(&error);
    check_manifest(f);
    g_assert_false(run(f, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
    g_assert_cmpuint(f->progress.read, ==, 0);
    g_cancellable_reset(f->cancel);
    g_clear_error(&error);
    g_assert_true(run(f, &error));
    check_done(f);
}

/* A disk that is all zeros now and was not: one frame, nothing read. */
static void
test_trimmed(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    Disk *disk = &f->disks[0];

    add_disk(f, 8 * 1024 * 1024);
    change_disk(disk, 1);
    memset(disk->source.data, 1, 8 * 1024 * 1024);
    vr_extents_free(disk->candidates);
    disk->candidates = vr_extents_new();
    memset(disk->source.may_be_read, 1, disk->chunks);
    g_assert_true(vr_extents_append(disk->candidates, 0, 8 * 1024 * 1024, VR_EXTENT_DATA));
    g_assert_true(run(f, &error));
    apply(f);
    memset(disk->source.data, 0, 8 * 1024 * 1024);
    vr_extents_free(disk->candidates);
    disk->candidates = vr_extents_new();
    g_assert_true(vr_extents_append(disk->candidates, 0, 8 * 1024 * 1024, VR_EXTENT_ZERO));
    g_assert_true(run(f, &error));
    check_done(f);
    g_assert_cmpuint(f->progress.read, ==, 0);
    g_assert_cmpuint(f->progress.sent, ==, VR_FRAME_HEADER_LEN);
}

/* 64 TiB of zeros that the replica holds cost nothing. */
static void
test_huge_zeros(Fixture *f, gconstpointer unused)
{
    guint64 size = G_GUINT64_CONSTANT(64) << 40;
    g_autoptr(VrManifest) manifest = vr_manifest_open(f->dir, "sda", size, NULL);
    g_autoptr(VrExtents) candidates = vr_extents_new();
    g_autoptr(GError) error = NULL;
    VrSource source = {&fake_ops, size};
    VrCopyDisk disk = {0, "sda", &source, candidates, manifest};

    g_assert_true(vr_extents_append(candidates, 0, size, VR_EXTENT_ZERO));
    g_assert_true(vr_copy_run(&disk, 1, &f->sink, &f->options, &f->progress, NULL, &error));
    g_assert_cmpuint(f->progress.sent, ==, 0);
    g_assert_true(vr_manifest_remove(f->dir, "sda", NULL));
}

static void
test_nothing(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    add_disk(f, 1024 * 1024);
    g_assert_true(run(f, &error));
    check_done(f);
    g_assert_cmpint(f->disks[0].source.opened, ==, 0);
}

static void
test_fault_points(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    add_disk(f, 16 * 1024 * 1024);
    g_assert_true(vr_fault_init("S7:errno=EIO", NULL));
    g_assert_false(run(f, &error));
    g_assert_cmpuint(vr_fault_fired(), ==, 1);
    g_clear_error(&error);
    g_assert_true(vr_fault_init("S7:errno=EIO", NULL));
    change_disk(&f->disks[0], 1);
    g_assert_false(run(f, &error));
    g_assert_cmpuint(f->bytes_sent, >, 0);
    g_clear_error(&error);
    check_manifest(f);
    g_assert_true(vr_fault_init("S7:errno=EIO#2", NULL));
    change_disk(&f->disks[0], 1);
    g_assert_false(run(f, &error));
    check_done(f);
    g_assert_true(vr_fault_init(NULL, NULL));
}

static void
test_rate(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    gint64 start_us = g_get_monotonic_time();
    double seconds;

    add_disk(f, 16 * 1024 * 1024);
    change_disk(&f->disks[0], 1);
    f->options.rate_bytes = 16 * 1024 * 1024;
    g_assert_true(run(f, &error));
    check_done(f);
    seconds = (double) (g_get_monotonic_time() - start_us) / G_USEC_PER_SEC;
    g_assert_cmpfloat(seconds + 0.1, >=,
                      (double) f->progress.sent / (double) f->options.rate_bytes);
}

static void
test_bad_input(Fixture *f, gconstpointer unused)
{
    static const struct {
        guint64 source_size, offset, length;
    } rows[] = {
        {1049088, 512, 65536},
        {1049088, 0, 512},
        {1049088, 983040, 131072},
        {1048576, 0, 65536},
    };
    Disk *disk = &f->disks[0];

    add_disk(f, 1049088);
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(VrExtents) candidates = vr_extents_new();
        g_autoptr(GError) error = NULL;
        VrSource source = {&fake_ops, rows[i].source_size};
        VrCopyDisk row = {0, "vda", &source, candidates, disk->manifest};

        g_assert_true(
            vr_extents_append(candidates, rows[i].offset, rows[i].length, VR_EXTENT_DATA));
        g_assert_false(vr_copy_run(&row, 1, &f->sink, &f->options, &f->progress, NULL, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INTERNAL);
        g_assert_nonnull(strstr(error->message, "vda"));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)
    ADD("/copy/cycles", test_cycles);
    ADD("/copy/read-fails", test_read_fails);
    ADD("/copy/send-fails", test_send_fails);
    ADD("/copy/cancel", test_cancel);
    ADD("/copy/trimmed", test_trimmed);
    ADD("/copy/huge-zeros", test_huge_zeros);
    ADD("/copy/nothing", test_nothing);
    ADD("/copy/fault-points", test_fault_points);
    ADD("/copy/rate", test_rate);
    ADD("/copy/bad-input", test_bad_input);
    return g_test_run();
}
