/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/mount.h>
#include <sys/wait.h>

#include "tests/unit/replica-fixture.h"

/* First in PATH: a test puts its own qemu-img there. */
static char *bin_dir;

static guint64
allocated(Fixture *f, const VrRecoveryPoint *rp, const char *disk)
{
    static const char *const suffixes[] = {"qcow2", "sums", "bad"};
    guint64 bytes = 0;

    for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *path =
            at(f, "store/" UUID "/%s/%" G_GUINT64_FORMAT ".%s", disk, rp->number, suffixes[i]);
        struct stat st;

        bytes += stat(path, &st) == 0 ? (guint64) st.st_blocks * 512 : 0;
    }
    return bytes;
}

/* An RP counts what it takes, tables and digests included. */
static void
judge_bytes(Fixture *f)
{
    g_autoptr(GPtrArray) points = vr_replica_list(f->replica, NULL);

    for (guint i = 0; i < points->len; i++) {
        const VrRecoveryPoint *rp = points->pdata[i];

        g_assert_cmpuint(rp->bytes, >, 0);
        g_assert_cmpuint(rp->bytes, ==, allocated(f, rp, "vda") + allocated(f, rp, "vdb"));
    }
}

static void
test_cycles(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    two_disks(f);
    for (guint i = 0; i < 12; i++) {
        good_cycle(f);
        if (i == 3)
            set_disk_size(f, "vda", MAX_SIZE);
        if (i == 4)
            set_disk_size(f, "vdb", 0);
        if (i == 5)
            set_disk_size(f, "vda", 4 * MiB - 512 * 9);
        if (i == 6)
            set_disk_size(f, "vda", 10 * MiB);
        if (i == 7)
            set_disk_size(f, "vdb", 2 * MiB);
        if (i != 9) /* one idle cycle */
            write_randomly(f, "vda", 4);
        if (disk_size(f, "vdb") > 0)
            write_randomly(f, "vdb", 2);
        if (i == 8)
            reopen_target(f);
    }
    g_assert_cmpuint(judge(f), ==, 12);
    judge_bytes(f);
    judge_leftovers(f, FALSE);
    g_assert_true(vr_replica_hold(f->replica, 5, "test", NULL));
    g_assert_true(vr_replica_hold(f->replica, 9, "test", NULL));
    retain(f, &error);
    g_assert_no_error(error);
    /* Those below 9 are part of its chain; 10 and 11 went. */
    g_assert_cmpuint(judge(f), ==, 10);
    judge_bytes(f);
    g_assert_true(vr_replica_release(f->replica, 5, "test", NULL));
    g_assert_true(vr_replica_release(f->replica, 9, "test", NULL));
    good_cycle(f);
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(judge(f), ==, 1);
    judge_bytes(f);
    judge_leftovers(f, FALSE);
    g_assert_true(vr_replica_destroy(f->replica, &error));
    g_assert_cmpuint(judge(f), ==, 0);
    reopen_target(f);
    g_assert_null(vr_replica_head(f->replica, NULL));
}

/* A cycle without a chunk of a large disk is not for nothing. */
static void
test_empty(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    set_disk_size(f, "vda", 4096 * KiB * MiB);
    for (guint i = 0; i < 3; i++) {
        g_autoptr(Source) s = source_new(f, NULL);
        g_autoptr(VrCycleCommit) commit = source_commit_message(s);
        g_autoptr(VrRecoveryPoint) rp = NULL;

        g_assert_true(source_begin(s, &error));
        rp = vr_replica_commit(f->replica, commit, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(rp->bytes, >=, 64 * KiB); /* its L1 */
    }
    judge_bytes(f);
    retain(f, &error);
    g_assert_no_error(error);
    judge_bytes(f);
}

/* A merge that fails ends the pass, or lets it go on to the next one, but is not tried again in
 * it. */
static void
test_retain_fails(Fixture *f, gconstpointer data)
{
    g_autofree char *program = g_build_filename(bin_dir, "qemu-img", NULL);
    g_autoptr(VrPolicy) policy = vr_policy_default();
    VrRetainPass pass = {0};

    two_disks(f);
    for (guint i = 0; i < 3; i++) {
        write_randomly(f, "vda", 2);
        good_cycle(f);
    }
    policy->keep = (VrRetentionRule){0};
    g_assert_true(retain_pass(f, policy, NULL));
    g_assert_true(g_file_set_contents_full(program, "#!/bin/sh\nexit 1\n", -1, 0, 0700, NULL));
    for (guint i = 0; i < 3; i++) {
        pass = (VrRetainPass){0};
        g_assert_false(vr_replica_retain(f->replica, policy, g_get_real_time(), &pass, NULL, NULL));
        g_assert_cmpint(pass.more, ==, i > 0); /* the first one began it, the others redo it */
        if (!pass.more)
            continue;
        g_assert_true(vr_replica_retain(f->replica, policy, g_get_real_time(), &pass, NULL, NULL));
        g_assert_false(pass.more);
    }
    g_assert_cmpint(g_unlink(program), ==, 0);
    g_assert_true(retain_pass(f, policy, NULL));
    g_assert_cmpuint(judge(f), ==, 1);
}

/* A second process that runs one action under a fault; returns its status. */
static int
run_other(Fixture *f, const char *fault, const char *action, const char *cycle)
{
    char *argv[] = {(char *) "/proc/self/exe", (char *) "--child", f->dir, (char *) fault,
                    (char *) action,           (char *) cycle,     NULL};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autoptr(GError) error = NULL;
    int status = 0;

    argv[0] = self;
    close_target(f);
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, NULL, &status,
                 &error);
    g_assert_no_error(error);
    return status;
}

static int
child(char **argv)
{
    Fixture f = {.dir = argv[2]};
    g_autoptr(GError) error = NULL;
    gboolean ok;

    if (!vr_fault_init(argv[3], &error))
        return 2;
    open_target(&f);
    ok = strcmp(argv[4], "retain") == 0 ? retain(&f, &error) : run_cycle(&f, argv[5], &error);
    close_target(&f);
    return ok ? 0 : 1;
}

/* As if every chunk had been sent and acknowledged. */
static void
source_know_all(Source *s)
{
    for (guint i = 0; i < s->begin->disks->len; i++) {
        const VrCycleDisk *disk = s->begin->disks->pdata[i];
        g_autofree char *path = at(s->f, "src/%s", disk->name);
        g_autofree char *data = NULL;
        g_autofree guint8 *chunk = g_malloc(VR_CHUNK_SIZE);
        gsize len;

        g_assert_true(g_file_get_contents(path, &data, &len, NULL));
        for (guint64 c = 0; c < vr_chunk_count(len); c++) {
            VrDigest digest;

            memset(chunk, 0, VR_CHUNK_SIZE);
            memcpy(chunk, data + c * VR_CHUNK_SIZE, MIN(VR_CHUNK_SIZE, len - c * VR_CHUNK_SIZE));
            vr_chunk_digest(chunk, &digest);
            g_assert_true(vr_manifest_set(s->manifests->pdata[i], c, &digest, NULL));
        }
    }
}

/* The source after an answer that never came. */
static void
source_recover(Fixture *f, const char *cycle)
{
    g_autoptr(VrRecoveryPoint) rp = NULL;
    VrCycleStatus status = vr_replica_cycle_status(f->replica, cycle, &rp);

    if (status == VR_CYCLE_COMMITTED) {
        g_autoptr(Source) s = source_new(f, cycle);
        g_autofree char *done = at(f, "points/%" G_GUINT64_FORMAT, rp->number);

        g_assert_nonnull(rp);
        if (g_file_test(done, G_FILE_TEST_EXISTS))
            return;
        source_know_all(s);
        source_committed(s, rp->number);
    }
}

typedef enum { AGAIN_SAME, AGAIN_NEW, AGAIN_COMMIT } Again;

static void
try_again(Fixture *f, const char *cycle, Again again)
{
    g_autoptr(GError) error = NULL;

    switch (again) {
    case AGAIN_SAME:
        run_cycle(f, cycle, &error);
        break;
    case AGAIN_COMMIT: {
        g_autoptr(Source) s = source_new(f, cycle);

        source_know_all(s);
        s->nvram_sha256 = vr_sha256_hex("variables", 9);
        s->nvram_size = 9;
        source_commit(s, &error);
        break;
    }
    case AGAIN_NEW:
        write_randomly(f, "vda", 2);
        write_randomly(f, "vdb", 1);
        run_cycle(f, NULL, &error);
        break;
    }
    g_assert_no_error(error);
}

static void
fault_once(Fixture *f, const char *step, const char *action, Again again)
{
    g_autofree char *spec = g_strdup_printf("%s:%s", step, action);
    g_autofree char *cycle = vr_random_id();
    g_autoptr(VrRecoveryPoint) before = vr_replica_head(f->replica, NULL);
    g_autoptr(VrRecoveryPoint) after = NULL;
    int status;

    write_randomly(f, "vda", 3);
    write_randomly(f, "vdb", 1);
    status = run_other(f, spec, "cycle", cycle);
    g_assert_true(strcmp(action, "kill") == 0 ? WIFSIGNALED(status) : WEXITSTATUS(status) == 1);
    open_target(f);
    source_recover(f, cycle);
    after = vr_replica_head(f->replica, NULL);
    g_assert_true(after->number == before->number || strcmp(after->cycle, cycle) == 0);
    g_assert_cmpint(after->number == before->number, ==, strcmp(step, "T6") < 0);
    judge(f);
    judge_leftovers(f, TRUE);
    if (after->number == before->number)
        try_again(f, cycle, again);
    judge(f);
    judge_leftovers(f, FALSE);
}

static void
test_faults(Fixture *f, gconstpointer data)
{
    static const char *const steps[] = {"T1", "T2", "T3", "T4", "T5", "T6", "T7"};
    const char *action = data;
    g_autoptr(GError) error = NULL;

    two_disks(f);
    good_cycle(f);
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        for (Again again = AGAIN_SAME; again <= AGAIN_COMMIT; again++) {
            if (again == AGAIN_COMMIT && i < 2)
                continue;
            if (i > 4 && again != AGAIN_SAME)
                continue;
            fault_once(f, steps[i], action, again);
        }
        retain(f, &error);
        g_assert_no_error(error);
    }
    g_assert_cmpuint(judge(f), ==, 1);
}

static void
test_merge_faults(Fixture *f, gconstpointer data)
{
    static const char *const steps[] = {"M1", "M2", "M3", "M4", "T8"};
    g_autoptr(GError) error = NULL;

    two_disks(f);
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree char *spec = g_strdup_printf("%s:%s", steps[i], (const char *) data);

        set_disk_size(f, "vda", (6 + i) * MiB);
        for (guint n = 0; n < 3; n++) {
            write_randomly(f, "vda", 3);
            write_randomly(f, "vdb", 1);
            good_cycle(f);
            if (n == 1 && i % 2 == 1)
                set_disk_size(f, "vdb", MiB * (2 + i));
        }
        run_other(f, spec, "retain", "");
        open_target(f);
        judge(f);
        if (i % 2 == 1) {
            write_randomly(f, "vda", 1);
            good_cycle(f); /* above what a merge has left */
        }
        retain(f, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(judge(f), ==, 1);
        judge_bytes(f);
        judge_leftovers(f, FALSE);
    }
}

/* A disk that ends within a cluster and grows again has zeros there, not what it had before. */
static void
test_merge_shrunk(Fixture *f, gconstpointer data)
{
    static const guint64 sizes[] = {3 * MiB + 64000, 3 * MiB + 512, 3 * MiB + 32768, 3 * MiB,
                                    5 * MiB};
    g_autoptr(GError) error = NULL;

    set_disk_size(f, "vdb", MiB);
    set_disk_size(f, "vda", sizes[0]);
    write_disk(f, "vda", 2 * MiB, MiB + 64000, FALSE);
    good_cycle(f);
    for (guint i = 1; i < G_N_ELEMENTS(sizes); i++) {
        set_disk_size(f, "vda", sizes[i]);
        good_cycle(f);
        g_assert_cmpuint(judge(f), ==, 2);
        retain(f, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(judge(f), ==, 1);
    }
}

/* qemu-img is killed in the middle of a merge, again and again: as soon as it has changed the layer
 * below, and later and later. What is above reads right all the time. */
static void
test_merge_killed(Fixture *f, gconstpointer data)
{
    const char *real = data;
    g_autofree char *program = g_build_filename(bin_dir, "qemu-img", NULL);
    g_autofree char *copy = g_strconcat(program, ".before", NULL);
    g_autofree char *layer = at(f, "store/" UUID "/vda/1.qcow2");
    g_autoptr(GError) error = NULL;
    guint changed = 0;

    set_disk_size(f, "vda", MAX_SIZE);
    set_disk_size(f, "vdb", MiB);
    for (guint i = 0; i < 4; i++) {
        write_disk(f, "vda", i * MiB, 8 * MiB, FALSE);
        good_cycle(f);
    }
    for (guint i = 0; i < 12; i++) {
        g_autofree char *script =
            g_strdup_printf("#!/bin/sh\n[ \"$1\" = commit ] || exec %s \"$@\"\n"
                            "cp %s %s.before\n%s \"$@\" &\n"
                            "while cmp -s %s %s.before && kill -0 $!; do :; done\n"
                            "sleep 0.%03u\nkill -9 $!\nwait $!\nexit 1\n",
                            real, layer, program, real, layer, program, i * 4);
        g_autofree char *before = NULL;
        g_autofree char *after = NULL;
        gsize len_before, len_after;

        g_assert_true(g_file_get_contents(layer, &before, &len_before, NULL));
        g_assert_true(
            g_file_set_contents_full(program, script, -1, G_FILE_SET_CONTENTS_NONE, 0700, NULL));
        g_assert_false(retain(f, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INTERNAL);
        g_clear_error(&error);
        g_assert_cmpint(g_unlink(program), ==, 0);
        g_assert_cmpuint(judge(f), ==, 3);
        g_assert_true(g_file_get_contents(layer, &after, &len_after, NULL));
        changed += len_before != len_after || memcmp(before, after, len_after) != 0;
    }
    g_assert_cmpuint(changed, >, 0);
    g_assert_cmpint(g_unlink(copy), ==, 0);
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(judge(f), ==, 1);
}

/* An RP that a guest runs on is not merged. */
static void
test_in_use(Fixture *f, gconstpointer data)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 201, .l_len = 1};
    g_autofree char *layer = at(f, "store/" UUID "/vda/1.qcow2");
    g_autofree char *overlay = at(f, "overlay.qcow2");
    const char *check[] = {"qemu-img", "check", "-f", "qcow2", overlay, NULL};
    g_autoptr(GError) error = NULL;
    int fd;

    two_disks(f);
    good_cycle(f);
    good_cycle(f);
    g_assert_true(vr_replica_make_overlay(f->replica, 2, "vda", overlay, &error));
    g_assert_true(vr_run_program(check, NULL, NULL, &error));
    g_assert_false(vr_replica_make_overlay(f->replica, 2, "vda", overlay, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CONFLICT);
    g_clear_error(&error);
    fd = open(layer, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(judge(f), ==, 2);
    close(fd);
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(judge(f), ==, 1);
}

static void
test_refused(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) s = NULL;
    g_autoptr(Source) wrong = NULL;
    g_autoptr(VrRecoveryPoint) rp = NULL;
    g_autoptr(VrCycleCommit) commit = NULL;
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree guint8 *chunk = g_malloc0(VR_CHUNK_SIZE);
    VrDigest digest;

    two_disks(f);
    good_cycle(f);
    good_cycle(f);
    rp = vr_replica_head(f->replica, NULL);

    wrong = source_new(f, NULL);
    wrong->begin->base_number = 1;
    assert_refused(source_begin(wrong, &error), &error, VR_ERROR_REFUSED, "base-mismatch");
    wrong->begin->base_number = 2;
    g_free(wrong->begin->base_cycle);
    wrong->begin->base_cycle = vr_random_id();
    assert_refused(source_begin(wrong, &error), &error, VR_ERROR_REFUSED, "base-mismatch");
    g_free(wrong->begin->base_cycle);
    wrong->begin->base_cycle = g_strdup(rp->cycle);
    g_free(wrong->begin->cycle);
    wrong->begin->cycle = g_strdup(rp->cycle);
    assert_refused(source_begin(wrong, &error), &error, VR_ERROR_REFUSED, "cycle-committed");
    g_free(wrong->begin->cycle);
    wrong->begin->cycle = vr_random_id();
    vr_cycle_disks_add(wrong->begin->disks, "rp", MiB);
    assert_refused(source_begin(wrong, &error), &error, VR_ERROR_INVALID, "bad-disk");

    write_randomly(f, "vda", 3);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    g_assert_true(source_begin(s, &error)); /* again */
    fill(chunk, VR_CHUNK_SIZE);
    vr_chunk_digest(chunk, &digest);
    vr_frame_append_chunk(body, 0, 5, chunk, &digest, FALSE);
    body->data[1000] ^= 1;
    assert_refused(vr_replica_write(f->replica, s->begin->cycle, body->data, body->len, &error),
                   &error, VR_ERROR_CORRUPT, "digest-differs");
    g_byte_array_set_size(body, 0);
    vr_frame_append_chunk(body, 7, 5, chunk, &digest, FALSE);
    assert_refused(vr_replica_write(f->replica, s->begin->cycle, body->data, body->len, &error),
                   &error, VR_ERROR_INVALID, "bad-frame");
    g_byte_array_set_size(body, 0);
    vr_frame_append_chunk(body, 0, 4 * MiB / VR_CHUNK_SIZE, chunk, &digest, FALSE);
    assert_refused(vr_replica_write(f->replica, s->begin->cycle, body->data, body->len, &error),
                   &error, VR_ERROR_INVALID, "bad-frame");
    g_byte_array_set_size(body, 0);
    vr_frame_append_zero(body, 0, 4 * MiB / VR_CHUNK_SIZE - 1, 2);
    assert_refused(vr_replica_write(f->replica, s->begin->cycle, body->data, body->len, &error),
                   &error, VR_ERROR_INVALID, "bad-frame");
    assert_refused(vr_replica_write(f->replica, rp->cycle, body->data, body->len, &error), &error,
                   VR_ERROR_TRANSIENT, "cycle-unknown");
    g_assert_true(source_send(s, 0, &error));

    commit = source_commit_message(s);
    vr_attachments_add(commit->attachments, "kernel", 5, commit->root);
    g_assert_null(vr_replica_commit(f->replica, commit, &error));
    assert_refused(FALSE, &error, VR_ERROR_CONFLICT, "attachment-missing");
    g_assert_true(source_put_nvram(s, "other variables", &error));
    g_assert_true(vr_replica_has_attachment(f->replica, s->nvram_sha256));
    g_assert_false(vr_replica_has_attachment(f->replica, "../../state/state.db"));
    g_assert_true(source_commit(s, &error));
    g_assert_cmpuint(judge(f), ==, 3);

    /* The same COMMIT again, then one with a wrong root. */
    g_clear_pointer(&commit, vr_cycle_commit_free);
    commit = source_commit_message(s);
    g_clear_pointer(&rp, vr_recovery_point_free);
    rp = vr_replica_commit(f->replica, commit, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rp->number, ==, 3);
    g_clear_pointer(&s, source_free);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    g_clear_pointer(&commit, vr_cycle_commit_free);
    commit = source_commit_message(s);
    commit->root[0] = commit->root[0] == '0' ? '1' : '0';
    g_assert_null(vr_replica_commit(f->replica, commit, &error));
    assert_refused(FALSE, &error, VR_ERROR_CORRUPT, "root-differs");
    g_assert_cmpint(vr_replica_cycle_status(f->replica, s->begin->cycle, NULL), ==,
                    VR_CYCLE_UNKNOWN);
    judge_leftovers(f, FALSE);
    g_clear_pointer(&s, source_free);
    good_cycle(f);
    g_assert_cmpuint(judge(f), ==, 4);
}

static void
test_resume(Fixture *f, gconstpointer data)
{
    g_autofree char *first = vr_random_id();
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) a = NULL;
    guint64 held;

    set_disk_size(f, "vda", 8 * MiB);
    write_disk(f, "vda", 0, 8 * MiB, FALSE);
    a = source_new(f, first);
    g_assert_true(source_begin(a, &error));
    g_assert_cmpuint(a->held, ==, 0);
    g_assert_true(source_send(a, 6, &error));
    g_clear_pointer(&a, source_free);
    a = source_new(f, NULL); /* adopted while it is open */
    g_assert_true(source_begin(a, &error));
    held = a->held;
    g_assert_cmpuint(held, >=, 50);
    close_target(f);
    damage_incoming(f, a->begin->cycle);
    open_target(f);
    g_assert_cmpint(vr_replica_cycle_status(f->replica, a->begin->cycle, NULL), ==, VR_CYCLE_OPEN);
    g_assert_cmpint(vr_replica_cycle_status(f->replica, first, NULL), ==, VR_CYCLE_UNKNOWN);
    g_clear_pointer(&a, source_free);
    a = source_new(f, NULL);
    g_assert_true(source_begin(a, &error));
    g_assert_cmpuint(a->held, ==, held); /* the three are held as zeros again, as in the head */
    g_assert_true(source_send(a, 0, &error));
    g_assert_cmpuint(a->sent, ==, 128 - held + 3);
    g_assert_true(source_put_nvram(a, "x", &error));
    g_assert_true(source_commit(a, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(judge(f), ==, 1);
    g_clear_pointer(&a, source_free);
}

/* A guest that trims a disk: what an interrupted cycle holds are zeros, which take no room. */
static void
test_resume_zeros(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) s = NULL;

    set_disk_size(f, "vda", 8 * MiB);
    write_disk(f, "vda", 0, 8 * MiB, FALSE);
    good_cycle(f);
    g_assert_cmpuint(vr_replica_incoming_bytes(f->replica), ==, 0);
    write_disk(f, "vda", 0, 8 * MiB, TRUE);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    g_assert_true(source_send(s, 0, &error));
    g_clear_pointer(&s, source_free);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    g_assert_cmpuint(s->held, ==, 8 * MiB / VR_CHUNK_SIZE);
    g_assert_cmpuint(vr_replica_incoming_bytes(f->replica), >, 0);
    g_assert_cmpuint(vr_replica_incoming_bytes(f->replica), <, MiB);
}

/* Chunks that were sent and are as in the head again by the next cycle must not stay in the layer,
 * also when a power loss took the digests (@data: "lost") of what is there. */
static void
test_reverted(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) s = NULL;
    g_autofree char *from = at(f, "points/1/vda");
    g_autofree char *to = at(f, "src/vda");
    g_autofree char *content = NULL;
    gsize len;

    set_disk_size(f, "vda", 4 * MiB);
    write_disk(f, "vda", 0, 3 * MiB, FALSE);
    good_cycle(f);
    write_disk(f, "vda", 0, MiB, FALSE);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error) && source_send(s, 0, &error));
    g_clear_pointer(&s, source_free);
    g_assert_true(g_file_get_contents(from, &content, &len, NULL));
    g_assert_true(g_file_set_contents(to, content, (gssize) len, NULL));
    close_target(f);
    if (g_strcmp0(data, "lost") == 0) {
        g_autofree char *manifests = at(f, "manifests");
        g_autoptr(VrManifest) manifest = vr_manifest_open(manifests, "vda", 4 * MiB, &error);

        g_assert_true(vr_manifest_discard(manifest, &error));
    }
    open_target(f);
    good_cycle(f);
    g_assert_cmpuint(judge(f), ==, 2);
}

/* A cycle with a smaller disk that comes to nothing leaves the head as it was. */
static void
test_shrink_aborted(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) s = NULL;
    g_autofree char *sums = at(f, "manifests/vda.sums");
    g_autofree char *content = NULL;
    g_autoptr(VrCycleCommit) commit = NULL;
    g_autoptr(GBytes) head = NULL;
    g_autoptr(GBytes) again = NULL;
    gsize len;

    set_disk_size(f, "vda", 8 * MiB);
    write_disk(f, "vda", 0, 8 * MiB, FALSE);
    good_cycle(f);
    write_randomly(f, "vda", 3);
    good_cycle(f);
    head = vr_replica_head_sums(f->replica, "vda", 0, 1000, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(g_bytes_get_size(head) / 24, >, 64);
    set_disk_size(f, "vda", 2 * MiB);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    commit = source_commit_message(s);
    commit->root[0] = commit->root[0] == '0' ? '1' : '0';
    assert_refused(vr_replica_commit(f->replica, commit, &error) != NULL, &error, VR_ERROR_CORRUPT,
                   "root-differs");
    g_clear_pointer(&s, source_free);
    again = vr_replica_head_sums(f->replica, "vda", 0, 1000, &error);
    g_assert_true(g_bytes_equal(head, again));

    /* Digests of the head that were lost come from the layers. */
    close_target(f);
    g_assert_cmpint(g_unlink(sums), ==, 0);
    open_target(f);
    g_clear_pointer(&again, g_bytes_unref);
    again = vr_replica_head_sums(f->replica, "vda", 0, 1000, &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(head, again));
    g_clear_pointer(&again, g_bytes_unref);
    again = vr_replica_head_sums(f->replica, "vda", 20, 3, &error);
    g_assert_cmpuint(g_bytes_get_size(again), ==, 3 * 24);
    g_assert_null(vr_replica_head_sums(f->replica, "vdz", 0, 1, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);

    g_assert_true(g_file_get_contents(sums, &content, &len, NULL));
    good_cycle(f);
    g_assert_cmpuint(judge(f), ==, 3);
}

static void
test_old_state(Fixture *f, gconstpointer data)
{
    g_autofree char *state = at(f, "state");
    g_autofree char *store = at(f, "store");
    g_autofree char *manifests = at(f, "manifests");
    g_autoptr(GError) error = NULL;

    two_disks(f);
    good_cycle(f);
    close_target(f);
    g_assert_true(vr_remove_tree(state, NULL));
    f->state = vr_state_open(state, &error);
    g_assert_null(vr_replica_open(f->state, store, UUID, manifests, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CORRUPT);
    g_assert_cmpstr(vr_error_slug(error), ==, "state-older-than-store");
}

typedef struct {
    Fixture *f;
    const char *cycle;
    const guint8 *data;
    guint parity;
} Sender;

static gpointer
send_half(gpointer data)
{
    Sender *sender = data;

    for (guint64 c = sender->parity; c < 128; c += 16) {
        g_autoptr(GByteArray) body = g_byte_array_new();
        g_autoptr(GError) error = NULL;

        for (guint64 k = c; k < MIN(c + 16, 128); k += 2) {
            VrDigest digest;
            vr_chunk_digest(sender->data + k * VR_CHUNK_SIZE, &digest);
            vr_frame_append_chunk(body, 0, k, sender->data + k * VR_CHUNK_SIZE, &digest, FALSE);
        }
        vr_replica_write(sender->f->replica, sender->cycle, body->data, body->len, &error);
        g_assert_no_error(error);
    }
    return NULL;
}

static void
test_two_senders(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) s = NULL;
    g_autofree char *path = at(f, "src/vda");
    g_autofree char *content = NULL;
    GThread *thread;
    gsize len;

    set_disk_size(f, "vda", 8 * MiB);
    write_disk(f, "vda", 0, 8 * MiB, FALSE);
    g_assert_true(g_file_get_contents(path, &content, &len, NULL));
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    {
        Sender a = {f, s->begin->cycle, (const guint8 *) content, 0};
        Sender b = {f, s->begin->cycle, (const guint8 *) content, 1};

        thread = g_thread_new("sender", send_half, &a);
        send_half(&b);
        g_thread_join(thread);
    }
    g_assert_true(source_begin(s, &error));
    g_assert_cmpuint(s->held, ==, 128);
    g_assert_true(source_send(s, 0, &error));
    g_assert_cmpuint(s->sent, ==, 0);
    g_assert_true(source_put_nvram(s, "x", &error) && source_commit(s, &error));
    g_assert_cmpuint(judge(f), ==, 1);
}

static gpointer
retain_often(gpointer data)
{
    Fixture *f = data;

    for (guint i = 0; i < 6; i++) {
        g_autoptr(GError) error = NULL;

        retain(f, &error);
        g_assert_no_error(error);
    }
    return NULL;
}

/* Merges go on while cycles come in. */
static void
test_retain_meanwhile(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    GThread *thread;

    two_disks(f);
    good_cycle(f);
    thread = g_thread_new("retain", retain_often, f);
    for (guint i = 0; i < 15; i++) {
        write_randomly(f, "vda", 2);
        write_randomly(f, "vdb", 1);
        good_cycle(f);
    }
    g_thread_join(thread);
    judge(f);
    judge_leftovers(f, FALSE);
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(judge(f), ==, 1);
}

static void
test_no_space(Fixture *f, gconstpointer data)
{
    g_autofree char *store = at(f, "store");
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) s = NULL;

    close_target(f);
    if (mount("none", store, "tmpfs", 0, "size=70m") < 0) {
        g_test_skip("no right to mount a small file system");
        return;
    }
    open_target(f);
    set_disk_size(f, "vda", 8 * MiB);
    write_disk(f, "vda", 0, 2 * MiB, FALSE);
    good_cycle(f);
    set_disk_size(f, "vda", 100 * MiB);
    for (guint i = 0; i < 100; i++)
        write_disk(f, "vda", i * MiB, MiB, FALSE);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    g_assert_false(source_send(s, 0, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NO_SPACE);
    g_clear_error(&error);
    g_clear_pointer(&s, source_free);
    g_assert_cmpuint(judge(f), ==, 1);
    reopen_target(f);
    g_assert_cmpuint(judge(f), ==, 1);
    set_disk_size(f, "vda", 12 * MiB);
    s = source_new(f, NULL);
    if (!source_begin(s, &error))
        g_assert_error(error, VR_ERROR, VR_ERROR_NO_SPACE);
    close_target(f);
    g_assert_cmpint(umount(store), ==, 0);
}

/* The points can be used although the end of the last commit finds no room for the index. */
static void
test_open_full(Fixture *f, gconstpointer data)
{
    g_autofree char *store = at(f, "store");
    g_autofree char *ballast = at(f, "store/ballast");
    g_autofree char *cycle = vr_random_id();
    g_autofree char *block = g_malloc0(MiB);
    gsize n = MiB;
    int fd;

    close_target(f);
    if (mount("none", store, "tmpfs", 0, "size=80m") < 0) {
        g_test_skip("no right to mount a small file system");
        return;
    }
    open_target(f);
    two_disks(f);
    good_cycle(f);
    write_randomly(f, "vda", 2);
    g_assert_true(WIFSIGNALED(run_other(f, "T6:kill", "cycle", cycle)));
    fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (n >= 4096) {
        if (write(fd, block, n) != (gssize) n)
            n /= 2;
    }
    close(fd);
    open_target(f);
    source_recover(f, cycle);
    g_assert_cmpuint(judge(f), ==, 2);
    g_assert_cmpint(g_unlink(ballast), ==, 0);
    good_cycle(f);
    g_assert_cmpuint(judge(f), ==, 3);
    close_target(f);
    g_assert_cmpint(umount(store), ==, 0);
}

static GBytes *
head_sums(Fixture *f, const char *disk)
{
    g_autoptr(GError) error = NULL;
    GBytes *sums = vr_replica_head_sums(f->replica, disk, 0, 1000, &error);

    g_assert_no_error(error);
    return sums;
}

/* Digests of the head that come from the layers are what they were. */
static void
judge_rebuilt(Fixture *f, const char *disk)
{
    g_autofree char *sums = at(f, "manifests/%s.sums", disk);
    g_autoptr(GBytes) before = head_sums(f, disk);
    g_autoptr(GBytes) after = NULL;

    close_target(f);
    g_assert_cmpint(g_unlink(sums), ==, 0);
    open_target(f);
    after = head_sums(f, disk);
    g_assert_cmpuint(g_bytes_get_size(before), ==, g_bytes_get_size(after));
    g_assert_true(g_bytes_equal(before, after));
}

/* A disk is away, or smaller, in a point between two that stay. @data: the step at which the merge
 * of that point is killed. */
static void
test_gap(Fixture *f, gconstpointer data)
{
    g_autofree char *spec = g_strdup_printf("%s:kill", (const char *) data);
    g_autoptr(GError) error = NULL;

    set_disk_size(f, "vda", 8 * MiB);
    set_disk_size(f, "vdb", 2 * MiB);
    write_disk(f, "vda", 0, 8 * MiB, FALSE);
    write_disk(f, "vdb", 0, 2 * MiB, FALSE);
    good_cycle(f);
    g_assert_true(vr_replica_hold(f->replica, 1, "test", NULL));
    set_disk_size(f, "vda", 3 * MiB + 512);
    set_disk_size(f, "vdb", 0);
    good_cycle(f);
    set_disk_size(f, "vda", 8 * MiB);
    set_disk_size(f, "vdb", 2 * MiB);
    write_disk(f, "vda", 5 * MiB, MiB, FALSE);
    write_disk(f, "vdb", 0, MiB, FALSE);
    good_cycle(f);
    write_disk(f, "vdb", MiB / 2, MiB / 4, FALSE);
    good_cycle(f);
    g_assert_cmpint(run_other(f, spec, "retain", ""), !=, 0);
    open_target(f);
    judge(f);
    judge_rebuilt(f, "vda");
    judge_rebuilt(f, "vdb");
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(judge(f), ==, 2);
    judge_rebuilt(f, "vda");
    judge_rebuilt(f, "vdb");
    good_cycle(f);
    g_assert_cmpuint(judge(f), ==, 3);
    g_assert_true(vr_replica_release(f->replica, 1, "test", NULL));
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(judge(f), ==, 1);
    judge_rebuilt(f, "vda");
    judge_rebuilt(f, "vdb");
    judge_leftovers(f, FALSE);
}

/* Nothing is stored above layers that are not there: the store's file system is not mounted. */
static void
test_store_away(Fixture *f, gconstpointer data)
{
    g_autofree char *store = at(f, "store");
    g_autofree char *away = at(f, "away");
    g_autoptr(GError) error = NULL;

    two_disks(f);
    good_cycle(f);
    for (guint i = 0; i < 2; i++) {
        g_autoptr(Source) s = NULL;

        g_assert_cmpint(rename(store, away), ==, 0);
        g_assert_cmpint(g_mkdir(store, 0700), ==, 0);
        if (i == 1)
            reopen_target(f);
        s = source_new(f, NULL);
        g_assert_false(source_begin(s, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_CORRUPT);
        g_assert_cmpstr(vr_error_slug(error), ==, "replica-missing");
        g_clear_error(&error);
        g_assert_true(vr_remove_tree(store, NULL));
        g_assert_cmpint(rename(away, store), ==, 0);
        if (i == 1)
            reopen_target(f);
        write_randomly(f, "vda", 2);
        g_clear_pointer(&s, source_free);
        good_cycle(f);
        g_assert_cmpuint(judge(f), ==, 2 + i);
    }
}

/* What a failed COMMIT could not take back does not stand in the way of the next one, nor of a
 * start. */
static void
test_left_published(Fixture *f, gconstpointer data)
{
    g_autofree char *point = at(f, "store/" UUID "/rp/2");
    g_autofree char *xml = at(f, "store/" UUID "/rp/2/domain.xml");
    g_autofree char *next = at(f, "store/" UUID "/rp/3");
    g_autofree char *next_xml = at(f, "store/" UUID "/rp/3/domain.xml");
    g_autoptr(Source) s = NULL;

    two_disks(f);
    good_cycle(f);
    g_assert_cmpint(g_mkdir(point, 0700), ==, 0);
    g_assert_true(g_file_set_contents(xml, "left", -1, NULL));
    write_randomly(f, "vda", 2);
    good_cycle(f);
    g_assert_cmpuint(judge(f), ==, 2);

    /* Killed in T5, with the point's directory in both places. */
    s = source_new(f, NULL);
    run_other(f, "T4:kill", "cycle", s->begin->cycle);
    g_assert_cmpint(g_mkdir(next, 0700), ==, 0);
    g_assert_true(g_file_set_contents(next_xml, "left", -1, NULL));
    open_target(f);
    g_clear_pointer(&s, source_free);
    good_cycle(f);
    g_assert_cmpuint(judge(f), ==, 3);
    judge_leftovers(f, FALSE);
}

/* The index never lists a point whose merge has begun. */
static void
test_index_first(Fixture *f, gconstpointer data)
{
    g_autofree char *index = at(f, "store/" UUID "/manifest.json");
    g_autofree char *text = NULL;
    g_autofree char *after = NULL;
    g_auto(GStrv) listed = NULL;
    g_autoptr(GError) error = NULL;

    two_disks(f);
    good_cycle(f);
    write_randomly(f, "vda", 2);
    good_cycle(f);
    g_assert_true(g_file_get_contents(index, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "\"number\":1,"));
    g_assert_cmpint(g_unlink(index), ==, 0);
    g_assert_cmpint(g_mkdir(index, 0700), ==, 0);
    g_assert_false(retain(f, &error)); /* unlisted, but the index could not be written */
    g_clear_error(&error);
    g_assert_cmpint(g_rmdir(index), ==, 0);
    g_assert_true(g_file_set_contents(index, text, -1, NULL));
    g_assert_true(vr_fault_init("M2:errno=EIO", NULL));
    g_assert_false(retain(f, &error));
    g_clear_error(&error);
    g_assert_true(vr_fault_init(NULL, NULL));
    g_assert_true(g_file_get_contents(index, &after, NULL, NULL));
    listed = g_strsplit(after, "\"retiring\":", 2);
    g_assert_null(strstr(listed[0], "\"number\":1,"));
    g_assert_nonnull(strstr(listed[1], "\"number\":1,"));
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(judge(f), ==, 1);
}

/* A merge that was interrupted does not go on under a point that is held since. */
static void
test_held_since(Fixture *f, gconstpointer data)
{
    g_autofree char *layer = at(f, "store/" UUID "/vda/1.qcow2");
    g_autoptr(GError) error = NULL;

    two_disks(f);
    good_cycle(f);
    write_randomly(f, "vda", 2);
    good_cycle(f);
    g_assert_true(vr_fault_init("M2:errno=EIO", NULL));
    g_assert_false(retain(f, &error));
    g_clear_error(&error);
    g_assert_true(vr_fault_init(NULL, NULL));
    g_assert_true(vr_replica_hold(f->replica, 2, "test", NULL));
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_true(g_file_test(layer, G_FILE_TEST_EXISTS));
    g_assert_cmpuint(judge(f), ==, 1);
    g_assert_true(vr_replica_release(f->replica, 2, "test", NULL));
    retain(f, &error);
    g_assert_no_error(error);
    g_assert_false(g_file_test(layer, G_FILE_TEST_EXISTS));
    g_assert_cmpuint(judge(f), ==, 1);
}

/* Half-written copies of the index go away. */
static void
test_temporary(Fixture *f, gconstpointer data)
{
    g_autofree char *half = at(f, "store/" UUID "/manifest.json.01234567.tmp");

    two_disks(f);
    good_cycle(f);
    g_assert_true(g_file_set_contents(half, "{", -1, NULL));
    reopen_target(f);
    g_assert_false(g_file_test(half, G_FILE_TEST_EXISTS));
    g_assert_cmpuint(judge(f), ==, 1);
}

int
main(int argc, char **argv)
{
    g_autofree char *qemu_img = g_find_program_in_path("qemu-img");

    g_autofree char *path = NULL;
    int status;

    if (argc == 6 && strcmp(argv[1], "--child") == 0)
        return child(argv);
    g_test_init(&argc, &argv, NULL);
    if (!qemu_img) {
        g_printerr("qemu-img is not installed\n");
        return 77;
    }
    bin_dir = g_dir_make_tmp("vr-replica-bin-XXXXXX", NULL);
    path = g_strconcat(bin_dir, ":", g_getenv("PATH"), NULL);
    g_setenv("PATH", path, TRUE);
    g_test_add("/replica/cycles", Fixture, NULL, set_up, test_cycles, tear_down);
    g_test_add("/replica/empty", Fixture, NULL, set_up, test_empty, tear_down);
    g_test_add("/replica/retain-fails", Fixture, NULL, set_up, test_retain_fails, tear_down);
    g_test_add("/replica/refused", Fixture, NULL, set_up, test_refused, tear_down);
    g_test_add("/replica/resume", Fixture, NULL, set_up, test_resume, tear_down);
    g_test_add("/replica/resume-zeros", Fixture, NULL, set_up, test_resume_zeros, tear_down);
    g_test_add("/replica/reverted", Fixture, NULL, set_up, test_reverted, tear_down);
    g_test_add("/replica/reverted-lost", Fixture, "lost", set_up, test_reverted, tear_down);
    g_test_add("/replica/two-senders", Fixture, NULL, set_up, test_two_senders, tear_down);
    g_test_add("/replica/shrink-aborted", Fixture, NULL, set_up, test_shrink_aborted, tear_down);
    g_test_add("/replica/old-state", Fixture, NULL, set_up, test_old_state, tear_down);
    for (guint i = 0; i < 4; i++) {
        static const char *const steps[] = {"M1", "M2", "M3", "M4"};
        g_autofree char *name = g_strdup_printf("/replica/gap-%s", steps[i]);

        g_test_add(name, Fixture, steps[i], set_up, test_gap, tear_down);
    }
    g_test_add("/replica/store-away", Fixture, NULL, set_up, test_store_away, tear_down);
    g_test_add("/replica/left-published", Fixture, NULL, set_up, test_left_published, tear_down);
    g_test_add("/replica/index-first", Fixture, NULL, set_up, test_index_first, tear_down);
    g_test_add("/replica/held-since", Fixture, NULL, set_up, test_held_since, tear_down);
    g_test_add("/replica/temporary", Fixture, NULL, set_up, test_temporary, tear_down);
    g_test_add("/replica/in-use", Fixture, NULL, set_up, test_in_use, tear_down);
    g_test_add("/replica/retain-meanwhile", Fixture, NULL, set_up, test_retain_meanwhile,
               tear_down);
    g_test_add("/replica/no-space", Fixture, NULL, set_up, test_no_space, tear_down);
    g_test_add("/replica/open-full", Fixture, NULL, set_up, test_open_full, tear_down);
    g_test_add("/replica/kill", Fixture, "kill", set_up, test_faults, tear_down);
    g_test_add("/replica/error", Fixture, "errno=EIO", set_up, test_faults, tear_down);
    g_test_add("/replica/merge-kill", Fixture, "kill", set_up, test_merge_faults, tear_down);
    g_test_add("/replica/merge-error", Fixture, "errno=EIO", set_up, test_merge_faults, tear_down);
    g_test_add("/replica/merge-shrunk", Fixture, NULL, set_up, test_merge_shrunk, tear_down);
    g_test_add("/replica/merge-killed", Fixture, qemu_img, set_up, test_merge_killed, tear_down);
    status = g_test_run();
    g_rmdir(bin_dir);
    g_free(bin_dir);
    return status;
}
