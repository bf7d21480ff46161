/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/cycle_plan.h"
#include "plugin/cycle/cycle_run.h"
#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/state/state_peer.h"

#define GIB ((guint64) 1 << 30)

/* vda and vdb as they were at the base, and a domain that still has them. */
#define BASE                                                                                       \
    "[{\"name\":\"vda\",\"path\":\"/i/a\",\"device\":1,\"inode\":10,\"size\":1073741824},"         \
    "{\"name\":\"vdb\",\"path\":\"/i/b\",\"device\":1,\"inode\":11,\"size\":2147483648}]"

typedef struct {
    VrProtection row;
    VrDomInfo info;
    VrDomDisk vda, vdb, third;
    gboolean has_third;
} Case;

static void
set_up(Case *c)
{
    *c = (Case){
        .row = {.name = (char *) "web1",
                .exclude = (char *) "",
                .base_number = 5,
                .checkpoint = (char *) "cp",
                .disks = (char *) BASE},
        .info = {.name = (char *) "web1", .state = VR_DOM_RUNNING},
        .vda = {.target = (char *) "vda",
                .path = (char *) "/i/a",
                .device = (char *) "disk",
                .size_bytes = GIB,
                .device_id = 1,
                .inode = 10},
        .vdb = {.target = (char *) "vdb",
                .path = (char *) "/i/b",
                .device = (char *) "disk",
                .size_bytes = 2 * GIB,
                .device_id = 1,
                .inode = 11},
        .third = {.target = (char *) "vdc",
                  .path = (char *) "/i/c",
                  .device = (char *) "disk",
                  .size_bytes = GIB,
                  .device_id = 1,
                  .inode = 12},
    };
}

static VrCyclePlan *
decide(Case *c, gboolean final, GError **error)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();

    g_ptr_array_add(disks, &c->vda);
    g_ptr_array_add(disks, &c->vdb);
    if (c->has_third)
        g_ptr_array_add(disks, &c->third);
    return vr_cycle_plan_decide(&c->row, &c->info, disks, final, error);
}

static const VrPlanDisk *
disk(const VrCyclePlan *plan, guint i)
{
    return g_ptr_array_index(plan->disks, i);
}

static void
test_delta(void)
{
    Case c;
    g_autoptr(VrCyclePlan) plan = NULL;
    g_autofree char *again = NULL;

    set_up(&c);
    plan = decide(&c, FALSE, NULL);
    again = vr_cycle_plan_disks_text(plan);
    g_assert_cmpint(plan->kind, ==, VR_CYCLE_DELTA);
    g_assert_cmpint(plan->point, ==, VR_POINT_BACKUP);
    g_assert_cmpuint(plan->disks->len, ==, 2);
    g_assert_true(disk(plan, 0)->tracked && disk(plan, 1)->tracked);
    g_assert_false(disk(plan, 0)->fresh || disk(plan, 1)->fresh);
    g_assert_cmpstr(again, ==, BASE);
}

static void
test_initial(void)
{
    Case c;
    g_autoptr(VrCyclePlan) plan = NULL;

    set_up(&c);
    c.row.base_number = 0;
    c.row.checkpoint = c.row.disks = NULL;
    plan = decide(&c, FALSE, NULL);
    g_assert_cmpint(plan->kind, ==, VR_CYCLE_INITIAL);
    g_assert_true(disk(plan, 0)->fresh && disk(plan, 1)->fresh);
    g_assert_false(disk(plan, 0)->tracked || disk(plan, 1)->tracked);
}

/* Each of these makes what changed on vda unknown; vdb is still tracked where the checkpoint is. */
static void
test_tracking_lost(void)
{
    static const char *const why[] = {"checkpoint", "path", "inode", "device", "size"};

    for (guint i = 0; i < G_N_ELEMENTS(why); i++) {
        Case c;
        g_autoptr(VrCyclePlan) plan = NULL;

        set_up(&c);
        if (i == 0)
            c.row.checkpoint = NULL;
        if (i == 1)
            c.vda.path = (char *) "/i/snapshot";
        if (i == 2)
            c.vda.inode++;
        if (i == 3)
            c.vda.device_id++;
        if (i == 4)
            c.vda.size_bytes += GIB;
        plan = decide(&c, FALSE, NULL);
        g_test_message("%s", why[i]);
        g_assert_cmpint(plan->kind, ==, VR_CYCLE_RESYNC);
        g_assert_false(disk(plan, 0)->tracked);
        g_assert_false(disk(plan, 0)->fresh);
        g_assert_cmpint(disk(plan, 1)->tracked, ==, i != 0);
    }
}

/* A disk the base does not have is sent in full; the others stay a delta. */
static void
test_added_and_removed(void)
{
    Case c;
    g_autoptr(VrCyclePlan) added = NULL;
    g_autoptr(VrCyclePlan) removed = NULL;

    set_up(&c);
    c.has_third = TRUE;
    added = decide(&c, FALSE, NULL);
    g_assert_cmpint(added->kind, ==, VR_CYCLE_DELTA);
    g_assert_cmpuint(added->disks->len, ==, 3);
    g_assert_true(disk(added, 2)->fresh);
    g_assert_false(disk(added, 2)->tracked);

    c.has_third = FALSE;
    c.vdb.path = NULL;
    removed = decide(&c, FALSE, NULL);
    g_assert_cmpint(removed->kind, ==, VR_CYCLE_DELTA);
    g_assert_cmpuint(removed->disks->len, ==, 1);
}

static void
test_left_out(void)
{
    Case c;
    g_autoptr(VrCyclePlan) plan = NULL;
    g_autoptr(GError) error = NULL;

    set_up(&c);
    c.has_third = TRUE;
    c.third.device = (char *) "cdrom";
    c.row.exclude = (char *) "vdx,vdb";
    plan = decide(&c, FALSE, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(plan->disks->len, ==, 1);
    g_assert_cmpstr(disk(plan, 0)->name, ==, "vda");

    c.vda.readonly = TRUE;
    g_assert_null(decide(&c, FALSE, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    g_assert_cmpstr(vr_error_slug(error), ==, "no-disks");
}

static void
test_states(void)
{
    static const struct {
        VrDomState state;
        gboolean final;
        const char *slug; /* NULL: it goes */
        VrPointKind point;
    } cases[] = {
        {VR_DOM_RUNNING, FALSE, NULL, VR_POINT_BACKUP},
        {VR_DOM_PAUSED, FALSE, NULL, VR_POINT_BACKUP},
        {VR_DOM_IO_ERROR, FALSE, NULL, VR_POINT_BACKUP},
        {VR_DOM_CRASHED, FALSE, NULL, VR_POINT_BACKUP},
        {VR_DOM_SHUTOFF, FALSE, NULL, VR_POINT_OFFLINE},
        {VR_DOM_SHUTOFF, TRUE, NULL, VR_POINT_OFFLINE},
        {VR_DOM_RUNNING, TRUE, "domain-running", VR_POINT_BACKUP},
        {VR_DOM_PAUSED, TRUE, "domain-running", VR_POINT_BACKUP},
        {VR_DOM_STOPPING, FALSE, "domain-stopping", VR_POINT_BACKUP},
        {VR_DOM_STOPPING, TRUE, "domain-stopping", VR_POINT_BACKUP},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Case c;
        g_autoptr(VrCyclePlan) plan = NULL;
        g_autoptr(GError) error = NULL;

        set_up(&c);
        c.info.state = cases[i].state;
        plan = decide(&c, cases[i].final, &error);
        if (cases[i].slug == NULL) {
            g_assert_no_error(error);
            g_assert_cmpint(plan->point, ==, cases[i].point);
            g_assert_cmpint(plan->kind, ==, cases[i].final ? VR_CYCLE_FINAL : VR_CYCLE_DELTA);
        } else {
            g_assert_null(plan);
            g_assert_cmpstr(vr_error_slug(error), ==, cases[i].slug);
        }
    }
}

/* The base's list comes from our database, but a damaged one must not crash us: all is compared or
 * sent. */
static void
test_odd_base(void)
{
    static const char *const odd[] = {"", "{}", "[]", "[1,2]", "[{\"name\":7}]", "not json"};

    for (guint i = 0; i < G_N_ELEMENTS(odd); i++) {
        Case c;
        g_autoptr(VrCyclePlan) plan = NULL;

        set_up(&c);
        c.row.disks = (char *) odd[i];
        plan = decide(&c, FALSE, NULL);
        g_assert_nonnull(plan);
        g_assert_false(disk(plan, 0)->tracked);
    }
}

static void
test_unreadable_disk(void)
{
    Case c;
    g_autoptr(GError) error = NULL;

    set_up(&c);
    c.vdb.size_bytes = 0;
    g_assert_null(decide(&c, FALSE, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
    g_assert_cmpstr(vr_error_slug(error), ==, "disk-not-readable");
}

#define UUID "11111111-2222-3333-4444-555555555555"
#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* Unprotect changes the state while a cycle holds the row as it was. */
static void
test_record_keeps_state(void)
{
    g_autofree char *dir = g_dir_make_tmp("vr-record-XXXXXX", NULL);
    VrApp app = {.state = vr_state_open(dir, NULL)};
    VrPeer peer = {(char *) PEER, (char *) "kvm2", (char *) "10.0.0.2:16540", 5, 0};
    VrProtection row = {
        .uuid = (char *) UUID,
        .name = (char *) "web1",
        .role = VR_ROLE_SOURCE,
        .peer = (char *) PEER,
        .state = VR_PROTECTION_PROTECTED,
    };
    VrCycleJournal journal = {.checkpoint = (char *) "cp2", .disks = (char *) BASE};
    VrRecoveryPoint rp = {
        .number = 7, .cycle = (char *) "c7", .root = (char *) "r7", .time_us = 70};
    g_autoptr(VrProtection) stale = NULL;
    g_autoptr(VrProtection) stored = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_state_peer_put(app.state, &peer, NULL));
    g_assert_true(vr_state_protection_insert(app.state, &row, NULL));
    stale = vr_state_protection_get(app.state, UUID, NULL);
    g_assert_true(vr_app_set_state(&app, UUID, VR_EVENT_UNPROTECT_STARTED, NULL, &error));
    g_assert_true(vr_cycle_record(&app, stale, &journal, &rp, &error));
    g_assert_no_error(error);
    stored = vr_state_protection_get(app.state, UUID, NULL);
    g_assert_cmpuint(stored->base_number, ==, 7);
    g_assert_cmpstr(stored->checkpoint, ==, "cp2");
    g_assert_cmpint(stored->state, ==, VR_PROTECTION_DISABLING);

    g_assert_true(vr_state_protection_delete(app.state, UUID, NULL));
    g_assert_false(vr_cycle_record(&app, stale, &journal, &rp, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
    vr_state_close(app.state);
    g_assert_true(vr_remove_tree(dir, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cycle-plan/delta", test_delta);
    g_test_add_func("/cycle-plan/initial", test_initial);
    g_test_add_func("/cycle-plan/tracking-lost", test_tracking_lost);
    g_test_add_func("/cycle-plan/added-and-removed", test_added_and_removed);
    g_test_add_func("/cycle-plan/left-out", test_left_out);
    g_test_add_func("/cycle-plan/states", test_states);
    g_test_add_func("/cycle-plan/odd-base", test_odd_base);
    g_test_add_func("/cycle-plan/unreadable-disk", test_unreadable_disk);
    g_test_add_func("/cycle-plan/record-keeps-state", test_record_keeps_state);
    return g_test_run();
}
