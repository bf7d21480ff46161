/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/replica-verify-fixture.h"

/* Layers that are gone, cut or cannot be read, and do not come back: the source sends what is
 * needed, and the newest RP is whole again within a cycle. */

static void
look(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    vr_replica_look(f->replica, &error);
    g_assert_no_error(error);
}

static void
keep_everything(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_replica_hold(f->replica, 1, "failed-over", &error));
}

/* Three RPs of two disks, each with something of its own. */
static void
three_points(Fixture *f)
{
    two_disks(f);
    for (guint i = 0; i < 3; i++) {
        write_chunk(f, "vda", i);
        write_randomly(f, "vda", 3);
        write_randomly(f, "vdb", 2);
        good_cycle(f);
    }
}

/* QEMU reads the same from RP @number as the source had. */
static void
assert_content(Fixture *f, guint64 number)
{
    static const char *const names[] = {"vda", "vdb"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *model = at(f, "points/%" G_GUINT64_FORMAT "/%s", number, names[i]);
        g_autofree char *layer =
            at(f, "store/" UUID "/%s/%" G_GUINT64_FORMAT ".qcow2", names[i], number);
        const char *compare[] = {"qemu-img", "compare", "-f",  "raw", "-F",
                                 "qcow2",    model,     layer, NULL};
        g_autoptr(GError) error = NULL;

        vr_run_program(compare, NULL, NULL, &error);
        g_assert_no_error(error);
    }
}

static void
cut(Fixture *f, const char *file, off_t by)
{
    g_autofree char *path = at(f, "store/" UUID "/%s", file);
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(chmod(path, 0600), ==, 0);
    g_assert_cmpint(truncate(path, st.st_size - by), ==, 0);
}

typedef struct {
    const char *file;
    off_t by; /* cut off its end; 0: it is removed */
    gboolean read;
} Loss;

static const Loss losses[] = {
    {"vda/1.qcow2", 0, FALSE},     {"vda/2.qcow2", 0, FALSE},     {"vda/3.qcow2", 0, FALSE},
    {"vda/2.qcow2", 70000, FALSE}, {"vda/2.sums", 0, FALSE},      {"vda/2.sums", 7, TRUE},
    {"vda/3.qcow2", 0, TRUE},      {"vda/1.qcow2", 70000, FALSE},
};

static void
lose(Fixture *f, const Loss *loss)
{
    g_autofree char *path = at(f, "store/" UUID "/%s", loss->file);

    if (loss->by > 0)
        cut(f, loss->file, loss->by);
    else
        g_assert_cmpint(g_unlink(path), ==, 0);
    if (loss->read)
        verify(f, 3);
    else
        look(f);
}

/* All of the disk is sent for the next RP, which needs nothing that was before; the other disk's
 * layers go on. Also across a restart, and merges afterwards. */
static void
test_repaired(Fixture *f, gconstpointer data)
{
    const Loss *loss = data;
    g_autofree char *layer = at(f, "store/" UUID "/vda/4.qcow2");
    g_autoptr(GError) error = NULL;
    VrVerifyResult result;

    three_points(f);
    lose(f, loss);
    assert_damaged(f, 3);
    if (g_test_rand_int_range(0, 2) == 0)
        reopen_target(f);
    write_chunk(f, "vda", 9);
    repair(f);
    assert_damage(f, 4, 0);
    g_assert_true(vr_replica_check_chain(f->replica, 4, &error));
    g_assert_true(vr_qcow2_check_header(layer, disk_size(f, "vda"), NULL, &error));
    assert_content(f, 4);
    result = verify(f, 4);
    g_assert_cmpuint(result.layers_bad + result.layers_unreadable, ==, 0);
    reopen_target(f);
    write_randomly(f, "vda", 4);
    good_cycle(f); /* on the new base */
    assert_content(f, 5);
    for (guint i = 0; i < 5; i++) {
        retain(f, &error);
        g_assert_no_error(error);
    }
    assert_content(f, 5);
    result = verify(f, 5);
    g_assert_cmpuint(result.layers_bad + result.layers_unreadable, ==, 0);
    g_assert_cmpuint(judge(f), ==, 1);
    judge_leftovers(f, FALSE);
}

/* The cycle that sends all of it fails at each step, and is begun again, after a restart or not. */
static void
test_repair_fails(Fixture *f, gconstpointer data)
{
    static const char *const steps[] = {"T1", "T2", "T3", "T4", "T5", "T6", "T7"};

    three_points(f);
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree char *spec = g_strdup_printf("%s:errno=EIO", steps[i]);
        guint64 number = head_number(f);
        g_autofree char *path =
            at(f, "store/" UUID "/vda/%" G_GUINT64_FORMAT ".qcow2", number - i % 2);
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(g_unlink(path), ==, 0);
        look(f);
        assert_damaged(f, number);
        write_randomly(f, "vda", 2);
        refetch(f);
        g_assert_true(vr_fault_init(spec, NULL));
        g_assert_false(run_cycle(f, NULL, &error));
        g_assert_true(vr_fault_init(NULL, NULL));
        if (data)
            reopen_target(f);
        if (head_number(f) == number)
            assert_damaged(f, number);
        repair(f);
        write_randomly(f, "vda", 1);
        good_cycle(f);
        assert_damage(f, head_number(f), 0);
        assert_content(f, head_number(f));
    }
}

/* Whoever wants to use the RP finds it, and then it is known. */
static void
test_noticed_at_use(Fixture *f, gconstpointer data)
{
    g_autofree char *path = at(f, "store/" UUID "/vda/2.qcow2");
    g_autoptr(GError) error = NULL;

    three_points(f);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_false(vr_replica_check_chain(f->replica, 3, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CORRUPT);
    assert_damaged(f, 3);
    repair(f);
    assert_damage(f, 4, 0);
    assert_content(f, 4);
}

/* A cycle that begins before anybody has looked. */
static void
test_noticed_at_begin(Fixture *f, gconstpointer data)
{
    g_autofree char *path = at(f, "store/" UUID "/vda/3.qcow2");
    g_autoptr(GError) error = NULL;

    three_points(f);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_false(run_cycle(f, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
    g_assert_cmpstr(vr_error_slug(error), ==, "replica-damaged");
    assert_damaged(f, 3);
    repair(f);
    assert_damage(f, 4, 0);
    assert_content(f, 4);
}

/* Where not even the index is, the store is not mounted, and nothing is begun in its place. */
static void
test_not_mounted(Fixture *f, gconstpointer data)
{
    g_autofree char *dir = at(f, "store/" UUID);
    g_autofree char *away = at(f, "away");
    g_autoptr(GError) error = NULL;

    three_points(f);
    g_assert_cmpint(g_rename(dir, away), ==, 0);
    look(f);
    assert_damaged(f, 3);
    g_assert_false(run_cycle(f, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CORRUPT);
    g_assert_cmpstr(vr_error_slug(error), ==, "replica-missing");
    g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));
    g_assert_cmpint(g_rename(away, dir), ==, 0);
    look(f);
    assert_damage(f, 3, 0);
    write_chunk(f, "vda", 9);
    good_cycle(f);
    assert_content(f, 4);
    g_assert_cmpuint(judge(f), ==, 4);
}

/* It comes back before or while it is sent again: nothing is lost, nothing is mixed. */
static void
test_back_again(Fixture *f, gconstpointer data)
{
    g_autofree char *path = at(f, "store/" UUID "/vda/2.qcow2");
    g_autofree char *away = at(f, "away");
    g_autoptr(Source) source = NULL;
    g_autoptr(GError) error = NULL;

    three_points(f);
    g_assert_cmpint(g_rename(path, away), ==, 0);
    look(f);
    write_chunk(f, "vda", 9);
    if (data) {
        source = source_new(f, NULL);
        g_assert_true(source_begin(source, &error));
        g_assert_true(source_send(source, 1, &error));
    }
    g_assert_cmpint(g_rename(away, path), ==, 0);
    look(f);
    if (data) {
        g_assert_false(source_commit(source, &error));
        g_clear_error(&error);
    }
    assert_damage(f, 3, 0);
    g_assert_cmpuint(judge(f), ==, 3);
    repair(f);
    g_assert_cmpuint(judge(f), ==, 4);
    judge_leftovers(f, FALSE);
}

/* What was found by reading is not forgotten by looking. */
static void
test_look_takes_back_its_own(Fixture *f, gconstpointer data)
{
    g_autofree char *path = at(f, "store/" UUID "/vda/2.qcow2");
    g_autofree char *away = at(f, "away");

    three_points(f);
    keep_everything(f);
    cut(f, "vda/2.sums", 7);
    look(f);
    assert_damage(f, 2, 0);
    verify(f, 2);
    assert_damaged(f, 2);
    look(f);
    assert_damaged(f, 2);
    g_assert_cmpint(g_rename(path, away), ==, 0);
    look(f);
    verify(f, 2);
    g_assert_cmpint(g_rename(away, path), ==, 0);
    look(f);
    assert_damaged(f, 2);
}

static void
test_bad_stays_bad(Fixture *f, gconstpointer data)
{
    g_autofree char *away = at(f, "away");

    three_points(f);
    write_chunk(f, "vda", 9);
    good_cycle(f);
    flip(f, "vda", 4, 9);
    verify(f, 4);
    assert_damage(f, 4, 1);
    for (guint i = 0; i < 2; i++) {
        g_autofree char *file = at(f, "store/" UUID "/vda/%s", i == 0 ? "4.qcow2" : "4.sums");

        g_assert_cmpint(g_rename(file, away), ==, 0);
        look(f);
        assert_damaged(f, 4);
        g_assert_cmpint(g_rename(away, file), ==, 0);
        look(f);
        assert_damage(f, 4, 1);
    }
    repair(f);
    assert_damage(f, 5, 0);
    assert_content(f, 5);
}

/* The list of bad chunks counts though the database does not know of it: it was put back to an
 * earlier time, or the store alone was adopted. */
static void
test_list_is_known(Fixture *f, gconstpointer data)
{
    g_autofree char *manifests = at(f, "manifests");
    g_autoptr(GError) error = NULL;

    two_disks(f);
    write_chunk(f, "vda", 5);
    good_cycle(f);
    flip(f, "vda", 1, 5);
    verify(f, 1);
    assert_damage(f, 1, 1);
    g_assert_true(vr_state_layer_check_delete(f->state, UUID, 1, "vda", &error));
    if (data) {
        g_clear_pointer(&f->replica, vr_replica_close);
        g_assert_true(vr_remove_tree(manifests, &error));
    }
    reopen_target(f);
    assert_damage(f, 1, 1);
    repair(f);
    assert_damage(f, 2, 0);
    assert_content(f, 2);
}

/* A list that cannot be read may name any chunk. */
static void
test_list_unreadable(Fixture *f, gconstpointer data)
{
    g_autofree char *list = at(f, "store/" UUID "/vda/1.bad");

    two_disks(f);
    write_chunk(f, "vda", 5);
    good_cycle(f);
    flip(f, "vda", 1, 5);
    verify(f, 1);
    g_assert_cmpint(g_unlink(list), ==, 0);
    g_assert_cmpint(g_mkdir(list, 0700), ==, 0);
    reopen_target(f);
    assert_damaged(f, 1);
}

/* Digests that are damaged are met before a merge has moved any data, and other RPs go on. */
static void
test_merge_reads_digests_first(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = NULL;

    three_points(f);
    cut(f, data, 7);
    retain(f, &error);
    g_assert_no_error(error);
    assert_damaged(f, 3);
    rows = vr_state_rp_list(f->state, UUID, &error);
    for (guint i = 0; i < rows->len; i++)
        g_assert_cmpint(((VrRpRow *) rows->pdata[i])->state, ==, VR_RP_LISTED);
    assert_content(f, 3);
    repair(f);
    for (guint i = 0; i < 3; i++) {
        retain(f, &error);
        g_assert_no_error(error);
    }
    assert_content(f, 4);
    g_assert_cmpuint(judge(f), ==, 1);
}

typedef struct {
    const char *step, *file;
    off_t by; /* cut off its end; 0: it is removed */
} Interrupted;

static const Interrupted interrupted[] = {
    {"M1", "vda/1.qcow2", 0}, {"M1", "vda/2.qcow2", 0}, {"M1", "vda/2.sums", 7},
    {"M1", "vda/1.sums", 7},  {"M2", "vda/1.qcow2", 0}, {"M2", "vda/2.qcow2", 0},
    {"M2", "vda/2.sums", 7},  {"M3", "vda/2.qcow2", 0}, {"M3", "vda/2.sums", 0},
};

/* A merge that began meets a loss: it neither blocks the others for ever nor harms the newest
 * point, and it ends when nothing needs what is lost any more. */
static void
test_merge_interrupted(Fixture *f, gconstpointer data)
{
    const Interrupted *what = data;
    g_autofree char *path = at(f, "store/" UUID "/%s", what->file);
    g_autofree char *spec = g_strdup_printf("%s:errno=EIO", what->step);
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GError) error = NULL;

    three_points(f);
    g_assert_true(vr_fault_init(spec, NULL));
    g_assert_false(retain(f, &error));
    g_clear_error(&error);
    g_assert_true(vr_fault_init(NULL, NULL));
    if (what->by > 0)
        cut(f, what->file, what->by);
    else
        g_assert_cmpint(g_unlink(path), ==, 0);
    verify(f, 3);
    retain(f, NULL);
    look(f);
    assert_damaged(f, 3);
    reopen_target(f);
    write_chunk(f, "vda", 9);
    repair(f);
    for (guint i = 0; i < 4; i++) {
        write_randomly(f, "vdb", 1);
        good_cycle(f);
        retain(f, &error);
        g_assert_no_error(error);
    }
    rows = vr_state_rp_list(f->state, UUID, &error);
    g_assert_cmpuint(rows->len, ==, 1);
    assert_damage(f, 8, 0);
    assert_content(f, 8);
    judge_leftovers(f, FALSE);
}

static void
damage_nvram(Fixture *f, guint64 number)
{
    g_autofree char *path = at(f, "store/" UUID "/rp/%" G_GUINT64_FORMAT "/nvram", number);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0) {
        g_assert_cmpint(chmod(path, 0600), ==, 0);
        fd = open(path, O_WRONLY | O_CLOEXEC);
    }
    g_assert_cmpint(pwrite(fd, "V", 1, 0), ==, 1);
    close(fd);
}

/* NVRAM whose content is not what was proven: found by reading, and sent again. */
static void
test_attachment(Fixture *f, gconstpointer data)
{
    g_autofree char *xml = at(f, "store/" UUID "/rp/3/domain.xml");
    g_autofree char *away = at(f, "away");
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL, *text = NULL;
    gboolean any = FALSE;

    three_points(f);
    g_assert_cmpint(g_rename(xml, away), ==, 0);
    look(f);
    assert_damage(f, 3, 1);
    g_assert_cmpint(g_rename(away, xml), ==, 0);
    look(f);
    assert_damage(f, 3, 0);
    damage_nvram(f, 3);
    look(f);
    assert_damage(f, 3, 0);
    if (data) {
        while (vr_replica_scrub(f->replica, G_MAXINT64 - 1, count_pace, NULL, &any, &error) &&
               any && vr_replica_require_sound(f->replica, 3, NULL))
            ;
        g_assert_no_error(error);
    } else {
        g_assert_cmpuint(verify(f, 3).attachments_bad, ==, 1);
    }
    assert_damage(f, 3, 1);
    look(f);
    assert_damage(f, 3, 1);
    repair(f);
    assert_damage(f, 4, 0);
    g_assert_cmpuint(verify(f, 4).attachments_bad, ==, 0);
    path = vr_replica_attachment(f->replica, 4, "nvram");
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "variables");
}

/* What a domain is to boot with is what was proven, or it does not boot. */
static void
test_copy(Fixture *f, gconstpointer data)
{
    g_autofree char *to = at(f, "copy");
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    three_points(f);
    g_assert_true(vr_replica_copy_attachment(f->replica, 3, "nvram", to, &error));
    g_assert_true(g_file_get_contents(to, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "variables");
    g_assert_false(vr_replica_copy_attachment(f->replica, 3, "kernel", to, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_cmpint(g_unlink(to), ==, 0);
    damage_nvram(f, 3);
    g_assert_false(vr_replica_copy_attachment(f->replica, 3, "nvram", to, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CORRUPT);
    g_assert_false(g_file_test(to, G_FILE_TEST_EXISTS));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, data, function) g_test_add(name, Fixture, data, set_up, function, tear_down)
    for (guint i = 0; i < G_N_ELEMENTS(losses); i++) {
        g_autofree char *name = g_strdup_printf("/replica-lost/repaired/%u", i);
        ADD(name, &losses[i], test_repaired);
    }
    ADD("/replica-lost/repair-fails", NULL, test_repair_fails);
    ADD("/replica-lost/repair-fails/restarted", "x", test_repair_fails);
    ADD("/replica-lost/noticed-at-use", NULL, test_noticed_at_use);
    ADD("/replica-lost/noticed-at-begin", NULL, test_noticed_at_begin);
    ADD("/replica-lost/not-mounted", NULL, test_not_mounted);
    ADD("/replica-lost/back-again", NULL, test_back_again);
    ADD("/replica-lost/back-again/while-sent", "x", test_back_again);
    ADD("/replica-lost/look", NULL, test_look_takes_back_its_own);
    ADD("/replica-lost/bad-stays-bad", NULL, test_bad_stays_bad);
    ADD("/replica-lost/list/row-gone", NULL, test_list_is_known);
    ADD("/replica-lost/list/all-gone", "x", test_list_is_known);
    ADD("/replica-lost/list/unreadable", NULL, test_list_unreadable);
    ADD("/replica-lost/merge/lower", "vda/1.sums", test_merge_reads_digests_first);
    ADD("/replica-lost/merge/upper", "vda/2.sums", test_merge_reads_digests_first);
    for (guint i = 0; i < G_N_ELEMENTS(interrupted); i++) {
        g_autofree char *name = g_strdup_printf("/replica-lost/merge-interrupted/%u", i);
        ADD(name, &interrupted[i], test_merge_interrupted);
    }
    ADD("/replica-lost/attachment/copy", NULL, test_copy);
    ADD("/replica-lost/attachment/verify", NULL, test_attachment);
    ADD("/replica-lost/attachment/scrub", "x", test_attachment);
    return g_test_run();
}
