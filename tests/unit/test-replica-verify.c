/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/replica-verify-fixture.h"

#define ROUNDS 8 /* of a race; the seed is another one each time */

/* Up to MAX_SIZE, now and then inside of a chunk. */
static void
resize_randomly(Fixture *f, const char *disk)
{
    guint64 sectors = (guint64) g_test_rand_int_range(1, (gint32) (MAX_SIZE / 512));

    if (g_test_rand_int_range(0, 2) == 0)
        sectors = MAX(sectors / 128, 1) * 128;
    set_disk_size(f, disk, sectors * 512);
}

/* A disk ended inside of a chunk that only lower layers had, then became longer: QEMU gives the
 * merged layer that chunk. @shown: it holds data. */
static void
test_edge(Fixture *f, gconstpointer shown)
{
    g_autoptr(GError) error = NULL;
    VrVerifyResult result;

    set_disk_size(f, "vda", 8 * MiB);
    write_chunk(f, "vda", 0);
    if (shown)
        write_disk(f, "vda", 6 * MiB, 512 * 9, FALSE);
    good_cycle(f); /* 1 */
    g_assert_true(vr_replica_hold(f->replica, 1, "failed-over", &error));
    set_disk_size(f, "vda", 6 * MiB + 512 * 9);
    write_chunk(f, "vda", 1);
    good_cycle(f); /* 2 */
    set_disk_size(f, "vda", 9 * MiB);
    write_chunk(f, "vda", 2);
    good_cycle(f); /* 3 */
    retain(f, &error);
    g_assert_no_error(error);
    judge(f);
    result = verify(f, 3);
    g_assert_cmpuint(result.layers_bad + result.layers_unreadable, ==, 0);
    if (shown)
        flip(f, "vda", 3, 96);
    result = verify(f, 3);
    g_assert_cmpuint(result.bad_chunks, ==, shown ? 1 : 0);
}

/* Whatever cycles and merges leave is found good, chunk for chunk. */
static void
test_good(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    VrVerifyResult result;
    guint64 sum = 0;

    two_disks(f);
    for (guint i = 0; i < 15; i++) {
        g_autoptr(VrRecoveryPoint) rp = NULL;

        if (g_test_rand_int_range(0, 2) == 0)
            resize_randomly(f, "vda");
        write_randomly(f, "vda", 6);
        write_randomly(f, "vdb", 3);
        good_cycle(f);
        result = verify(f, head_number(f));
        g_assert_cmpuint(result.layers_bad + result.layers_unreadable, ==, 0);
        g_assert_cmpuint(result.layers_read, ==, result.layers);
        rp = vr_replica_head(f->replica, NULL);
        g_assert_cmpint(rp->verified_us, >, 0);
        if (i % 3 == 2) {
            retain(f, &error);
            g_assert_no_error(error);
            vr_recovery_point_free(rp);
            rp = vr_replica_head(f->replica, NULL);
            g_assert_cmpint(rp->verified_us, ==, 0);
            g_assert_true(vr_replica_check_chain(f->replica, rp->number, &error));
        }
    }
    result = verify(f, head_number(f));
    g_assert_cmpuint(result.layers_bad + result.layers_unreadable, ==, 0);
    vr_replica_verify(f->replica, head_number(f), g_get_real_time() - G_TIME_SPAN_HOUR, count_pace,
                      &sum, NULL, &result, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(result.layers_read, ==, 0);
    g_assert_cmpuint(sum, ==, 0);
    judge(f);
    judge_leftovers(f, FALSE);
}

static void
assert_verified(Fixture *f, guint64 number, gboolean verified)
{
    g_autoptr(VrRecoveryPoint) rp = point(f, number);

    g_assert_true((rp->verified_us != 0) == verified);
}

static void
test_flipped(Fixture *f, gconstpointer data)
{
    VrVerifyResult result;
    g_autoptr(GError) error = NULL;

    set_disk_size(f, "vda", 4 * MiB);
    for (guint64 c = 0; c < 64; c++)
        write_chunk(f, "vda", c);
    good_cycle(f); /* 1: all */
    write_chunk(f, "vda", 3);
    good_cycle(f); /* 2 hides chunk 3 of 1 */
    write_chunk(f, "vda", 9);
    good_cycle(f); /* 3 */
    flip(f, "vda", 1, 3);
    result = verify(f, 3);
    g_assert_cmpuint(result.layers_bad, ==, 1);
    g_assert_cmpuint(result.bad_chunks, ==, 1);
    assert_damage(f, 1, 1);
    assert_damage(f, 2, 0);
    assert_damage(f, 3, 0);
    assert_verified(f, 1, FALSE);
    assert_verified(f, 3, TRUE); /* all below it was read, and what is bad it does not show */
    flip(f, "vda", 1, 20);
    flip(f, "vda", 3, 9);
    reopen_target(f);
    result = verify(f, 3);
    g_assert_cmpuint(result.layers_bad, ==, 2);
    g_assert_cmpuint(result.bad_chunks, ==, 3);
    assert_damage(f, 1, 2);
    assert_damage(f, 2, 1);
    assert_damage(f, 3, 2);
    repair(f);
    assert_damage(f, 3, 2);
    assert_damage(f, 4, 0);
    result = verify(f, 4);
    g_assert_cmpuint(result.bad_chunks, ==, 3); /* below */
    assert_damage(f, 4, 0);
    write_chunk(f, "vda", 1);
    good_cycle(f);
    assert_damage(f, 5, 0);
    retain(f, &error);
    g_assert_no_error(error);
    assert_damage(f, 5, 0);
    result = verify(f, 5);
    g_assert_cmpuint(result.bad_chunks, ==, 0);
    g_assert_cmpuint(judge(f), ==, 1);
    judge_leftovers(f, FALSE);
}

/* A layer with bad chunks is merged: they stay bad, wherever the merge was interrupted. */
static void
test_merged_bad(Fixture *f, gconstpointer data)
{
    static const char *const steps[] = {"M1:errno=EIO", "M2:errno=EIO", "M3:errno=EIO"};
    g_autoptr(GError) error = NULL;

    set_disk_size(f, "vda", 4 * MiB);
    for (guint64 c = 0; c < 64; c++)
        write_chunk(f, "vda", c);
    good_cycle(f);
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        guint64 number = head_number(f);
        g_autofree char *sums = at(f, "manifests/vda.sums");
        VrDigest digest;
        int fd;

        write_chunk(f, "vda", 10);
        good_cycle(f);
        flip(f, "vda", number, 10); /* hidden */
        flip(f, "vda", number, 30);
        flip(f, "vda", number, 31);
        verify(f, number + 1);
        assert_damage(f, number, 3);
        assert_damage(f, number + 1, 2);
        g_assert_true(vr_fault_init(steps[i], NULL));
        g_assert_false(retain(f, &error));
        g_clear_error(&error);
        g_assert_true(vr_fault_init(NULL, NULL));
        reopen_target(f);
        retain(f, &error);
        g_assert_no_error(error);
        assert_damage(f, number + 1, 2);
        verify(f, number + 1);
        assert_damage(f, number + 1, 2);
        fd = open(sums, O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(pread(fd, &digest, sizeof digest, 30 * VR_DIGEST_LEN), ==, 16);
        g_assert_cmpuint(digest.b[0] & digest.b[15], ==, 0xff);
        close(fd);
        repair(f);
        assert_damage(f, number + 1, 2);
        assert_damage(f, number + 2, 0);
        retain(f, &error);
        g_assert_no_error(error);
        assert_damage(f, number + 2, 0);
        g_assert_cmpuint(verify(f, number + 2).bad_chunks, ==, 0);
        g_assert_cmpuint(judge(f), ==, 1);
        judge_leftovers(f, FALSE);
    }
}

/* A source that was not told: its next commit is refused, nothing wrong is listed. */
static void
test_not_told(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    two_disks(f);
    write_chunk(f, "vda", 5);
    good_cycle(f);
    flip(f, "vda", 1, 5);
    verify(f, 1);
    write_chunk(f, "vda", 6);
    g_assert_false(run_cycle(f, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CORRUPT);
    g_assert_cmpuint(head_number(f), ==, 1);
    repair(f);
    assert_damage(f, 2, 0);
}

/* A restored file is found good, and the head is what it was. */
static void
test_restored(Fixture *f, gconstpointer data)
{
    two_disks(f);
    write_chunk(f, "vda", 5);
    good_cycle(f);
    flip(f, "vda", 1, 5);
    verify(f, 1);
    assert_damage(f, 1, 1);
    flip(f, "vda", 1, 5);
    verify(f, 1);
    assert_damage(f, 1, 0);
    write_chunk(f, "vda", 6);
    good_cycle(f);
    judge(f);
}

static void
assert_not_sound(Fixture *f, guint64 number)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(vr_replica_check_chain(f->replica, number, &error));
    g_assert_nonnull(error);
}

/* Nothing is merged over a layer that is away: put back, all is as it was. */
static void
test_missing_kept(Fixture *f, gconstpointer data)
{
    g_autofree char *path = at(f, "store/" UUID "/vda/2.qcow2");
    g_autofree char *away = at(f, "away");
    g_autoptr(GError) error = NULL;

    two_disks(f);
    for (guint i = 0; i < 3; i++) {
        write_randomly(f, "vda", 2);
        good_cycle(f);
    }
    g_assert_true(vr_replica_hold(f->replica, 1, "failed-over", &error));
    g_assert_cmpint(g_rename(path, away), ==, 0);
    retain(f, &error);
    g_assert_no_error(error);
    assert_damaged(f, 3);
    g_assert_cmpint(g_rename(away, path), ==, 0);
    g_assert_true(vr_replica_look(f->replica, &error));
    assert_damage(f, 3, 0);
    judge(f);
    reopen_target(f);
    retain(f, &error);
    g_assert_no_error(error);
    judge(f);
    judge_leftovers(f, FALSE);
}

static void
test_missing(Fixture *f, gconstpointer data)
{
    static const char *const files[] = {"vda/1.qcow2", "vda/1.sums", "rp/2/domain.xml",
                                        "rp/2/nvram"};
    g_autoptr(GError) error = NULL;
    VrVerifyResult result;

    two_disks(f);
    good_cycle(f);
    write_randomly(f, "vda", 2);
    good_cycle(f);
    g_assert_true(vr_replica_check_chain(f->replica, 2, &error));
    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = at(f, "store/" UUID "/%s", files[i]);
        g_autofree char *away = at(f, "away");

        g_assert_cmpint(g_rename(path, away), ==, 0);
        assert_not_sound(f, 2);
        g_assert_true(vr_replica_look(f->replica, &error));
        if (i < 2) {
            g_assert_false(vr_replica_require_sound(f->replica, 2, NULL));
            result = verify(f, 2);
            g_assert_cmpuint(result.layers_unreadable, ==, 1);
            g_assert_cmpstr(result.problem, !=, "");
        }
        g_assert_cmpint(g_rename(away, path), ==, 0);
        g_assert_true(vr_replica_look(f->replica, &error));
        assert_damage(f, 2, 0);
        g_assert_true(vr_replica_check_chain(f->replica, 2, &error));
    }
    judge(f);
}

/* Cut anywhere: seen without reading it, by its length alone. Layers that QEMU has merged too. */
static void
test_truncated(Fixture *f, gconstpointer data)
{
    for (guint round = 0; round < 2; round++) {
        g_autofree char *path = NULL;
        g_autoptr(GError) error = NULL;
        struct stat st;

        set_disk_size(f, "vda", 8 * MiB);
        write_disk(f, "vda", 0, 8 * MiB, FALSE);
        good_cycle(f);
        write_disk(f, "vda", MiB, 3 * MiB, FALSE);
        good_cycle(f);
        retain(f, &error);
        g_assert_no_error(error);
        path = at(f, "store/" UUID "/vda/%" G_GUINT64_FORMAT ".qcow2", head_number(f));
        g_assert_cmpint(stat(path, &st), ==, 0);
        for (guint k = 1; k < 16; k++) {
            const char *copy[] = {"cp", path, NULL, NULL};
            g_autofree char *kept = at(f, "kept");

            copy[2] = kept;
            g_assert_true(vr_run_program(copy, NULL, NULL, &error));
            g_assert_cmpint(chmod(path, 0600), ==, 0);
            g_assert_cmpint(truncate(path, st.st_size * k / 16), ==, 0);
            assert_not_sound(f, head_number(f));
            g_assert_cmpint(g_rename(kept, path), ==, 0);
        }
        g_assert_true(vr_replica_check_chain(f->replica, head_number(f), &error));
    }
}

/* An entry that nobody proved is as bad as a wrong chunk. */
static void
test_extra_entry(Fixture *f, gconstpointer data)
{
    g_autofree char *path = at(f, "store/" UUID "/vda/2.qcow2");
    const char *write[] = {"qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", path, NULL};
    VrVerifyResult result;

    set_disk_size(f, "vda", 4 * MiB);
    write_chunk(f, "vda", 0);
    good_cycle(f);
    write_chunk(f, "vda", 7);
    good_cycle(f);
    g_assert_cmpint(chmod(path, 0600), ==, 0);
    g_assert_true(vr_run_program(write, NULL, NULL, NULL));
    result = verify(f, 2);
    g_assert_cmpuint(result.bad_chunks, ==, 1);
    assert_damage(f, 1, 0);
    assert_damage(f, 2, 1);
}

typedef struct {
    Fixture *f;
    gint stop; /* atomic */
    guint passes;
} Merger;

static gpointer
merge_all_the_time(gpointer data)
{
    Merger *merger = data;

    while (!g_atomic_int_get(&merger->stop)) {
        g_autoptr(GError) error = NULL;

        retain(merger->f, &error);
        g_assert_no_error(error);
        merger->passes++;
    }
    return NULL;
}

/* A failover wants the newest RP while everything below it is being merged: it has it soon, and
 * what it has stands still, in each of the rounds. */
static void
test_hold_against_merge(Fixture *f, gconstpointer data)
{
    set_disk_size(f, "vda", 12 * MiB);
    set_disk_size(f, "vdb", MiB);
    write_disk(f, "vdb", 0, MiB, FALSE);
    for (guint round = 0; round < ROUNDS; round++) {
        Merger merger = {.f = f};
        g_autofree char *overlay = at(f, "overlay-%u.qcow2", round);
        const char *check[] = {"qemu-img", "check", "-f", "qcow2", overlay, NULL};
        g_autofree char *model = NULL;
        const char *compare[] = {"qemu-img", "compare", "-f",    "raw", "-F",
                                 "qcow2",    NULL,      overlay, NULL};
        g_autoptr(GError) error = NULL;
        guint64 number;
        GThread *thread;

        for (guint i = 0; i < 4; i++) {
            write_disk(f, "vda", i * 2 * MiB, 4 * MiB, FALSE);
            good_cycle(f);
        }
        number = head_number(f);
        thread = g_thread_new("merge", merge_all_the_time, &merger);
        g_usleep((gulong) g_test_rand_int_range(0, 150000));
        g_assert_true(vr_replica_hold(f->replica, number, "failed-over", &error));
        g_assert_true(vr_replica_check_chain(f->replica, number, &error));
        g_assert_true(vr_replica_make_overlay(f->replica, number, "vda", overlay, &error));
        g_assert_no_error(error);
        for (guint i = 0; i < 3; i++) {
            vr_run_program(check, NULL, NULL, &error);
            g_assert_no_error(error);
        }
        model = at(f, "points/%" G_GUINT64_FORMAT "/vda", number);
        compare[6] = model;
        vr_run_program(compare, NULL, NULL, &error);
        g_assert_no_error(error);
        g_atomic_int_set(&merger.stop, TRUE);
        g_thread_join(thread);
        g_assert_cmpint(g_unlink(overlay), ==, 0);
        g_assert_true(vr_replica_release(f->replica, number, "failed-over", &error));
    }
}

/* What is read is not rewritten meanwhile, and is not found bad for it. */
static void
test_verify_against_merge(Fixture *f, gconstpointer data)
{
    set_disk_size(f, "vda", 12 * MiB);
    write_disk(f, "vda", 0, 12 * MiB, FALSE);
    good_cycle(f);
    for (guint round = 0; round < ROUNDS; round++) {
        Merger merger = {.f = f};
        VrVerifyResult result;
        GThread *thread;

        for (guint i = 0; i < 3; i++) {
            write_disk(f, "vda", i * 2 * MiB, 4 * MiB, FALSE);
            good_cycle(f);
        }
        thread = g_thread_new("merge", merge_all_the_time, &merger);
        g_usleep((gulong) g_test_rand_int_range(0, 60000));
        for (guint i = 0; i < 4; i++) {
            g_autoptr(GError) error = NULL;
            gboolean any;

            result = verify(f, head_number(f));
            g_assert_cmpuint(result.layers_bad + result.layers_unreadable, ==, 0);
            g_assert_true(vr_replica_scrub(f->replica, G_MAXINT64, count_pace, NULL, &any, &error));
            g_assert_true(vr_replica_look(f->replica, &error));
            assert_damage(f, head_number(f), 0);
        }
        g_atomic_int_set(&merger.stop, TRUE);
        g_thread_join(thread);
    }
    g_assert_cmpuint(judge(f), >=, 1);
}

static gboolean
refuse_pace(gsize bytes, gpointer data, GError **error)
{
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "no more");
    return FALSE;
}

static void
test_scrub(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    gint64 now = g_get_real_time();
    gboolean any = TRUE;
    guint read = 0;

    two_disks(f);
    good_cycle(f);
    write_chunk(f, "vda", 2);
    good_cycle(f);
    g_assert_true(vr_replica_scrub(f->replica, now, count_pace, NULL, &any, &error));
    g_assert_false(any); /* just committed */
    g_assert_false(vr_replica_scrub(f->replica, G_MAXINT64 - 1, refuse_pace, NULL, &any, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
    g_clear_error(&error);
    flip(f, "vda", 2, 2);
    now = g_get_real_time();
    while (vr_replica_scrub(f->replica, now, count_pace, NULL, &any, &error) && any)
        g_assert_cmpuint(++read, <, 5);
    g_assert_no_error(error);
    g_assert_cmpuint(read, ==, 4);
    assert_damage(f, 1, 0);
    assert_damage(f, 2, 1);
}

typedef struct {
    Fixture *f;
    const char *cycle;
} Sender;

static gpointer
send_chunks(gpointer data)
{
    const Sender *self = data;
    g_autofree guint8 *chunk = g_malloc(VR_CHUNK_SIZE);
    g_autoptr(GRand) random = g_rand_new();

    for (guint round = 0; round < 8; round++) {
        g_autoptr(GByteArray) body = g_byte_array_new();
        g_autoptr(GError) error = NULL;

        for (guint64 c = 0; c < 64; c++) {
            VrDigest digest;

            for (gsize i = 0; i < VR_CHUNK_SIZE; i += 512)
                chunk[i] = (guint8) g_rand_int_range(random, 1, 256);
            vr_chunk_digest(chunk, &digest);
            vr_frame_append_chunk(body, 0, c, chunk, &digest, FALSE);
        }
        vr_replica_write(self->f->replica, self->cycle, body->data, body->len, &error);
        g_assert_no_error(error);
    }
    return NULL;
}

/* Bodies with other content for the same chunks, all at once, as a source of bad will sends them:
 * what is stored is what the manifest says, and takes no more room than it has chunks. */
static void
test_same_chunks(Fixture *f, gconstpointer data)
{
    g_autofree char *path = at(f, "store/" UUID "/vda/1.qcow2");
    g_autoptr(Source) s = NULL;
    g_autoptr(GError) error = NULL;
    Sender sender = {.f = f};
    GThread *threads[6];
    struct stat st;

    set_disk_size(f, "vda", 4 * MiB);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    sender.cycle = s->begin->cycle;
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("sender", send_chunks, &sender);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_true(source_begin(s, &error)); /* what is held */
    g_assert_true(source_put_nvram(s, "variables", &error) && source_commit(s, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(verify(f, 1).bad_chunks, ==, 0);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <, (64 + 16) * (gint64) VR_CHUNK_SIZE);
}

static void
flip_file(const char *path)
{
    guint8 byte;
    int fd;

    g_assert_cmpint(chmod(path, 0600), ==, 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pread(fd, &byte, 1, 2), ==, 1);
    byte ^= 1;
    g_assert_cmpint(pwrite(fd, &byte, 1, 2), ==, 1);
    close(fd);
}

/* One file of several recovery points: bad for all, and mended for all, also where an attempt of
 * before was killed. */
static void
test_shared_attachment(Fixture *f, gconstpointer data)
{
    g_autofree char *shared = NULL;
    g_autofree char *left = at(f, "store/" UUID "/rp/2/nvram.new");
    g_autoptr(GError) error = NULL;

    set_disk_size(f, "vda", MiB);
    for (guint i = 0; i < 3; i++)
        good_cycle(f);
    shared = vr_replica_attachment(f->replica, 1, "nvram");
    flip_file(shared);
    g_assert_cmpuint(verify(f, 3).attachments_bad, ==, 1);
    for (guint64 number = 1; number <= 3; number++)
        assert_damaged(f, number);
    g_assert_true(g_file_set_contents(left, "half", -1, &error));
    good_cycle(f);
    for (guint64 number = 1; number <= 4; number++) {
        g_assert_cmpuint(verify(f, number).attachments_bad, ==, 0);
        assert_damage(f, number, 0);
    }
    g_assert_false(g_file_test(left, G_FILE_TEST_EXISTS));
}

/* No directory of ours can be taken for a disk's. */
static void
test_names(Fixture *f, gconstpointer data)
{
    static const char *const bad[] = {"active", "rp", "incoming", "attachments", "test1",   "test",
                                      "export", "vd", "vda.x",    "vda1a",       "sources", "bad"};
    static const char *const good[] = {"vda", "vdaz", "sdb1", "hdc", "xvda", "fda"};

    for (guint i = 0; i < G_N_ELEMENTS(bad) + G_N_ELEMENTS(good); i++) {
        gboolean is_good = i >= G_N_ELEMENTS(bad);
        g_autoptr(Source) s = NULL;
        g_autoptr(GError) error = NULL;

        set_disk_size(f, "vda", MiB);
        s = source_new(f, NULL);
        g_clear_pointer(&s->begin->disks, g_ptr_array_unref);
        s->begin->disks = vr_cycle_disks_new();
        vr_cycle_disks_add(s->begin->disks, is_good ? good[i - G_N_ELEMENTS(bad)] : bad[i], MiB);
        g_assert_true(vr_replica_begin(f->replica, s->begin, &s->held, &error) == is_good);
        if (!is_good)
            g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)
    ADD("/replica-verify/good", test_good);
    ADD("/replica-verify/flipped", test_flipped);
    ADD("/replica-verify/shared-attachment", test_shared_attachment);
    g_test_add("/replica-verify/edge/zeros", Fixture, NULL, set_up, test_edge, tear_down);
    g_test_add("/replica-verify/edge/data", Fixture, "data", set_up, test_edge, tear_down);
    ADD("/replica-verify/merged-bad", test_merged_bad);
    ADD("/replica-verify/not-told", test_not_told);
    ADD("/replica-verify/restored", test_restored);
    ADD("/replica-verify/missing", test_missing);
    ADD("/replica-verify/missing-kept", test_missing_kept);
    ADD("/replica-verify/truncated", test_truncated);
    ADD("/replica-verify/extra-entry", test_extra_entry);
    ADD("/replica-verify/hold-against-merge", test_hold_against_merge);
    ADD("/replica-verify/verify-against-merge", test_verify_against_merge);
    ADD("/replica-verify/scrub", test_scrub);
    ADD("/replica-verify/same-chunks", test_same_chunks);
    ADD("/replica-verify/names", test_names);
    return g_test_run();
}
