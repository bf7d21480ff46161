/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of the replica share; not each uses all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "policies/fault.h"
#include "storage/util/file_util.h"
#include "storage/replica/manifest.h"
#include "storage/replica/replica.h"
#include "storage/util/run_program.h"

/*
 * The whole target with a fake source. Everything lives in files below one directory, so that a
 * second process can be killed in the middle of a step and this one can look at what it left:
 * src/DISK is the source's disk, sums/ its manifests, points/N/DISK what RP N must hold.
 */

#define UUID "11111111-2222-3333-4444-555555555555"
#define KiB ((guint64) 1024)
#define MiB (KiB * KiB)
#define MAX_SIZE (12 * MiB)

typedef struct {
    char *dir;
    VrState *state;
    VrReplica *replica;
} Fixture;

static char *at(Fixture *f, const char *format, ...) G_GNUC_PRINTF(2, 3);

static char *
at(Fixture *f, const char *format, ...)
{
    g_autofree char *rest = NULL;
    va_list args;

    va_start(args, format);
    rest = g_strdup_vprintf(format, args);
    va_end(args);
    return g_build_filename(f->dir, rest, NULL);
}

static void
open_target(Fixture *f)
{
    g_autofree char *state = at(f, "state");
    g_autofree char *store = at(f, "store");
    g_autofree char *manifests = at(f, "manifests");
    g_autoptr(GError) error = NULL;

    f->state = vr_state_open(state, &error);
    g_assert_no_error(error);
    f->replica = vr_replica_open(f->state, store, UUID, manifests, &error);
    g_assert_no_error(error);
}

static void
close_target(Fixture *f)
{
    g_clear_pointer(&f->replica, vr_replica_close);
    g_clear_pointer(&f->state, vr_state_close);
}

static void
reopen_target(Fixture *f)
{
    close_target(f);
    open_target(f);
}

static void
set_up(Fixture *f, gconstpointer data)
{
    static const char *const dirs[] = {"src", "sums", "points"};

    f->dir = g_dir_make_tmp("vr-replica-XXXXXX", NULL);
    for (guint i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = at(f, "%s", dirs[i]);
        g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    }
    vr_fault_init(NULL, NULL);
    open_target(f);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    close_target(f);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
}

/* The source's disks. */

static void
set_disk_size(Fixture *f, const char *disk, guint64 size)
{
    g_autofree char *path = at(f, "src/%s", disk);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    g_assert_cmpint(ftruncate(fd, (off_t) size), ==, 0);
    close(fd);
}

static void
fill(guint8 *data, gsize len)
{
    guint32 seed = (guint32) g_test_rand_int();

    for (gsize i = 0; i < len / 4; i++) {
        seed = seed * 1664525 + 1013904223;
        memcpy(data + i * 4, &seed, 4);
    }
}

static void
write_disk(Fixture *f, const char *disk, guint64 offset, gsize len, gboolean zero)
{
    g_autofree char *path = at(f, "src/%s", disk);
    g_autofree guint8 *data = g_malloc0(len);
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (!zero)
        fill(data, len);
    g_assert_cmpint(pwrite(fd, data, len, (off_t) offset), ==, (gssize) len);
    close(fd);
}

static guint64
disk_size(Fixture *f, const char *disk)
{
    g_autofree char *path = at(f, "src/%s", disk);
    struct stat st;

    return stat(path, &st) == 0 ? (guint64) st.st_size : 0;
}

static void
write_randomly(Fixture *f, const char *disk, guint writes)
{
    guint64 sectors = disk_size(f, disk) / 512;

    for (guint i = 0; i < writes; i++) {
        guint64 first = (guint64) g_test_rand_int_range(0, (gint32) sectors);
        guint64 wanted = (guint64) g_test_rand_int_range(1, 1500);
        guint64 n = MIN(wanted, sectors - first);

        write_disk(f, disk, first * 512, n * 512, g_test_rand_int_range(0, 4) == 0);
    }
}

static GPtrArray *
source_disks(Fixture *f)
{
    static const char *const names[] = {"vda", "vdb", "vdc"};
    GPtrArray *disks = vr_cycle_disks_new();

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        if (disk_size(f, names[i]) > 0)
            vr_cycle_disks_add(disks, names[i], disk_size(f, names[i]));
    }
    return disks;
}

/* One cycle, in the parts that a test may want to repeat. */

typedef struct {
    Fixture *f;
    VrCycleBegin *begin;
    GPtrArray *manifests; /* VrManifest of the source, order of begin->disks */
    char *nvram_sha256;   /* nullable */
    guint64 nvram_size;
    guint64 held;
    guint64 sent;
} Source;

static void
source_free(Source *s)
{
    vr_cycle_begin_free(s->begin);
    g_ptr_array_unref(s->manifests);
    g_free(s->nvram_sha256);
    g_free(s);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Source, source_free)

static Source *
source_new(Fixture *f, const char *cycle)
{
    Source *s = g_new0(Source, 1);
    g_autoptr(VrRecoveryPoint) head = vr_replica_head(f->replica, NULL);
    g_autofree char *sums = at(f, "sums");

    s->f = f;
    s->manifests = g_ptr_array_new_with_free_func((GDestroyNotify) vr_manifest_close);
    s->begin = g_new0(VrCycleBegin, 1);
    s->begin->cycle = cycle ? g_strdup(cycle) : vr_random_id();
    s->begin->kind = head ? VR_CYCLE_DELTA : VR_CYCLE_INITIAL;
    s->begin->generation = g_strdup("0123456789abcdef0123456789abcdef");
    s->begin->base_number = head ? head->number : 0;
    s->begin->base_cycle = head ? g_strdup(head->cycle) : NULL;
    s->begin->disks = source_disks(f);
    for (guint i = 0; i < s->begin->disks->len; i++) {
        const VrCycleDisk *disk = s->begin->disks->pdata[i];
        VrManifest *manifest = vr_manifest_open(sums, disk->name, disk->size_bytes, NULL);

        g_assert_nonnull(manifest);
        g_assert_true(vr_manifest_discard(manifest, NULL));
        g_ptr_array_add(s->manifests, manifest);
    }
    return s;
}

static gboolean
source_begin(Source *s, GError **error)
{
    if (!vr_replica_begin(s->f->replica, s->begin, &s->held, error))
        return FALSE;
    for (guint i = 0; s->held > 0 && i < s->begin->disks->len; i++) {
        const VrCycleDisk *disk = s->begin->disks->pdata[i];
        guint64 first = 0;

        for (;;) {
            g_autoptr(GBytes) records =
                vr_replica_held(s->f->replica, s->begin->cycle, disk->name, first, 7, error);
            gsize len = 0;
            const guint8 *raw = records ? g_bytes_get_data(records, &len) : NULL;

            g_assert_nonnull(records);
            if (len == 0)
                break;
            for (gsize r = 0; r < len / 24; r++) {
                guint64 chunk;
                VrDigest digest;

                memcpy(&chunk, raw + r * 24, 8);
                memcpy(digest.b, raw + r * 24 + 8, VR_DIGEST_LEN);
                g_assert_true(
                    vr_manifest_set(s->manifests->pdata[i], GUINT64_FROM_LE(chunk), &digest, NULL));
            }
            first += len / 24;
        }
    }
    return TRUE;
}

/* @bodies: stop after so many (0: all). */
static gboolean
source_send(Source *s, guint bodies, GError **error)
{
    g_autofree guint8 *data = g_malloc(VR_CHUNK_SIZE);
    guint sent = 0;

    for (guint i = 0; i < s->begin->disks->len; i++) {
        const VrCycleDisk *disk = s->begin->disks->pdata[i];
        g_autofree char *path = at(s->f, "src/%s", disk->name);
        g_autoptr(GByteArray) body = g_byte_array_new();
        VrManifest *manifest = s->manifests->pdata[i];
        guint64 chunks = vr_chunk_count(disk->size_bytes);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        guint64 from = 0;

        for (guint64 c = 0; c < chunks; c++) {
            VrDigest digest, known;

            memset(data, 0, VR_CHUNK_SIZE);
            g_assert_cmpint(pread(fd, data, VR_CHUNK_SIZE, (off_t) (c * VR_CHUNK_SIZE)), >, 0);
            vr_chunk_digest(data, &digest);
            vr_manifest_get(manifest, c, &known);
            if (!vr_digest_equal(&digest, &known)) {
                if (vr_digest_is_zero(&digest))
                    vr_frame_append_zero(body, (guint16) i, c, 1);
                else
                    vr_frame_append_chunk(body, (guint16) i, c, data, &digest, c % 2);
                s->sent++;
            }
            if (body->len > 600 * KiB || (c + 1 == chunks && body->len > 0)) {
                if (bodies > 0 && sent++ == bodies) {
                    close(fd);
                    return TRUE;
                }
                if (!vr_replica_write(s->f->replica, s->begin->cycle, body->data, body->len,
                                      error)) {
                    close(fd);
                    return FALSE;
                }
                g_byte_array_set_size(body, 0);
                for (guint64 k = from; k <= c; k++) {
                    memset(data, 0, VR_CHUNK_SIZE);
                    g_assert_cmpint(pread(fd, data, VR_CHUNK_SIZE, (off_t) (k * VR_CHUNK_SIZE)), >,
                                    0);
                    vr_chunk_digest(data, &digest);
                    vr_manifest_get(manifest, k, &known);
                    if (!vr_digest_equal(&digest, &known))
                        g_assert_true(vr_manifest_set(manifest, k, &digest, NULL));
                }
                from = c + 1;
            }
        }
        close(fd);
    }
    return TRUE;
}

static gboolean
source_put_nvram(Source *s, const char *text, GError **error)
{
    g_autofree char *path = at(s->f, "nvram");
    gboolean ok;
    int fd;

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    s->nvram_sha256 = vr_sha256_hex(text, strlen(text));
    s->nvram_size = strlen(text);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ok = vr_replica_put_attachment(s->f->replica, s->begin->cycle, s->nvram_sha256, fd, error);
    close(fd);
    return ok;
}

static VrCycleCommit *
source_commit_message(Source *s)
{
    VrCycleCommit *commit = g_new0(VrCycleCommit, 1);
    g_autoptr(VrRootBuilder) builder = vr_root_builder_new();

    for (guint i = 0; i < s->begin->disks->len; i++) {
        const VrCycleDisk *disk = s->begin->disks->pdata[i];
        guint8 root[VR_ROOT_LEN];

        vr_manifest_root(s->manifests->pdata[i], root);
        vr_root_builder_add_disk(builder, disk->name, disk->size_bytes, root);
    }
    commit->cycle = g_strdup(s->begin->cycle);
    commit->time_us = g_get_real_time();
    commit->domain_xml = g_strdup_printf("<domain><name>%s</name></domain>", s->begin->cycle);
    commit->attachments = vr_attachments_new();
    if (s->nvram_sha256) {
        vr_attachments_add(commit->attachments, "nvram", s->nvram_size, s->nvram_sha256);
        vr_root_builder_add_attachment(builder, "nvram", s->nvram_size, s->nvram_sha256);
    }
    commit->root = vr_root_builder_finish(builder);
    return commit;
}

/* S11 of the source, and what the RP must hold from now on. */
static void
source_committed(Source *s, guint64 number)
{
    g_autofree char *dir = at(s->f, "points/%" G_GUINT64_FORMAT, number);

    g_assert_cmpint(g_mkdir(dir, 0700), ==, 0);
    for (guint i = 0; i < s->begin->disks->len; i++) {
        const VrCycleDisk *disk = s->begin->disks->pdata[i];
        g_autofree char *from = at(s->f, "src/%s", disk->name);
        g_autofree char *to = g_build_filename(dir, disk->name, NULL);
        g_autofree char *data = NULL;
        gsize len;

        g_assert_true(vr_manifest_flush(s->manifests->pdata[i], NULL));
        g_assert_true(vr_manifest_apply(s->manifests->pdata[i], NULL));
        g_assert_true(g_file_get_contents(from, &data, &len, NULL));
        g_assert_true(g_file_set_contents(to, data, (gssize) len, NULL));
    }
}

static gboolean
source_commit(Source *s, GError **error)
{
    g_autoptr(VrCycleCommit) commit = source_commit_message(s);
    g_autoptr(VrRecoveryPoint) rp = vr_replica_commit(s->f->replica, commit, error);

    if (!rp)
        return FALSE;
    g_assert_cmpstr(rp->root, ==, commit->root);
    source_committed(s, rp->number);
    return TRUE;
}

static gboolean
run_cycle(Fixture *f, const char *cycle, GError **error)
{
    g_autoptr(Source) s = source_new(f, cycle);

    return source_begin(s, error) && source_send(s, 0, error) &&
           source_put_nvram(s, "variables", error) && source_commit(s, error);
}

static void
good_cycle(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    run_cycle(f, NULL, &error);
    g_assert_no_error(error);
}

/* The judge: QEMU reads every listed RP. */

static void
judge_disk(Fixture *f, guint64 number, const VrReplicaDisk *disk)
{
    g_autofree char *model = at(f, "points/%" G_GUINT64_FORMAT "/%s", number, disk->name);
    const char *compare[] = {"qemu-img", "compare", "-f",       "raw", "-F",
                             "qcow2",    model,     disk->path, NULL};
    const char *check[] = {"qemu-img", "check", "-f", "qcow2", disk->path, NULL};
    g_autofree char *size = NULL;
    g_autoptr(GError) error = NULL;
    struct stat st;

    vr_run_program(check, NULL, NULL, &error);
    g_assert_no_error(error);
    vr_run_program(compare, NULL, &size, &error);
    if (error)
        g_error("RP %d, disk %s: %s %s", (int) number, disk->name, error->message,
                size ? size : "");
    g_assert_cmpint(stat(model, &st), ==, 0);
    g_assert_cmpuint(disk->size_bytes, ==, (guint64) st.st_size);
}

static guint
judge(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = vr_replica_list(f->replica, &error);

    g_assert_no_error(error);
    for (guint i = 0; i < points->len; i++) {
        const VrRecoveryPoint *rp = points->pdata[i];
        g_autoptr(GPtrArray) disks = vr_replica_disks(f->replica, rp->number, &error);
        g_autofree char *xml = vr_replica_domain_xml(f->replica, rp->number, NULL);
        g_autofree char *nvram = vr_replica_attachment(f->replica, rp->number, "nvram");

        g_assert_no_error(error);
        g_assert_nonnull(xml);
        g_assert_nonnull(nvram);
        for (guint d = 0; d < disks->len; d++)
            judge_disk(f, rp->number, disks->pdata[d]);
    }
    return points->len;
}

/* No file in the store that belongs to no RP. */
static void
judge_leftovers(Fixture *f, gboolean open)
{
    g_autofree char *incoming = at(f, "store/" UUID "/incoming");
    g_autoptr(GDir) dir = g_dir_open(incoming, 0, NULL);
    g_autoptr(GPtrArray) points = vr_replica_list(f->replica, NULL);
    guint n = 0;

    while (dir && g_dir_read_name(dir))
        n++;
    g_assert_cmpuint(n, <=, open ? 1 : 0);
    for (guint i = 0; i < 3; i++) {
        static const char *const names[] = {"vda", "vdb", "rp"};
        g_autofree char *path = at(f, "store/" UUID "/%s", names[i]);
        g_autoptr(GDir) files = g_dir_open(path, 0, NULL);
        guint found = 0;

        while (files && g_dir_read_name(files))
            found++;
        g_assert_cmpuint(found, <=, points->len * (i == 2 ? 1 : 2));
    }
}

static void
two_disks(Fixture *f)
{
    set_disk_size(f, "vda", 4 * MiB);
    set_disk_size(f, "vdb", MiB + 512 * 5);
    write_randomly(f, "vda", 8);
    write_randomly(f, "vdb", 4);
}

static gboolean
retain_pass(Fixture *f, const VrPolicy *policy, GError **error)
{
    VrRetainPass pass = {0};
    gboolean ok = TRUE;

    do {
        ok = vr_replica_retain(f->replica, policy, g_get_real_time(), &pass, NULL,
                               ok ? error : NULL) &&
             ok;
    } while (pass.more);
    return ok;
}

/* Keeps nothing but the newest and what is held. */
static gboolean
retain(Fixture *f, GError **error)
{
    g_autoptr(VrPolicy) policy = vr_policy_default();

    policy->keep = (VrRetentionRule){0};
    return retain_pass(f, policy, error) && retain_pass(f, policy, error);
}

static void
assert_refused(gboolean ok, GError **error, VrError code, const char *slug)
{
    g_assert_false(ok);
    g_assert_error(*error, VR_ERROR, (int) code);
    g_assert_cmpstr(vr_error_slug(*error), ==, slug);
    g_clear_error(error);
}

/* Three chunks of the open cycle read wrong. */
static void
damage_incoming(Fixture *f, const char *cycle)
{
    g_autofree char *path = at(f, "store/" UUID "/incoming/%s/vda.qcow2", cycle);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    guint8 byte;

    /* header, L1, one L2, then data */
    for (guint i = 0; i < 3; i++) {
        off_t offset = (off_t) ((3 + 4 * i) * VR_CHUNK_SIZE + 77);
        g_assert_cmpint(pread(fd, &byte, 1, offset), ==, 1);
        byte ^= 1;
        g_assert_cmpint(pwrite(fd, &byte, 1, offset), ==, 1);
    }
    close(fd);
}
