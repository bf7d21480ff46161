/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whole cycles of the engine. What the target holds is compared with what the guest had, byte for
 * byte; each call that the engine makes is made to fail, and to be the last one before a kill. */
#include "engine-fixture.h"

typedef struct {
    const char *name;
    void (*prepare)(Fixture *f);
    gboolean tracked; /* what changed is known: nothing else may be read */
} Scenario;

/* A few chunks, some of zeros, some written before. */
static void
guest_works(Fixture *f)
{
    g_autofree char *kernel = at(f, "kernel");
    g_autofree char *text = g_strdup_printf("kernel %u", g_random_int());
    g_autoptr(VrProtection) row = row_of(f);

    fake_guest->written = fake_guest_dirty(row->checkpoint);
    for (guint i = 0; i < 3; i++)
        fake_guest_write(0, (guint64) g_random_int_range(0, FAKE_CHUNKS), i == 0);
    fake_guest_write(1, 3, FALSE);
    if (g_random_boolean())
        g_assert_true(g_file_set_contents(kernel, text, -1, NULL));
}

/* The base may have no checkpoint. */
static void
guest_works_untracked(void)
{
    for (guint i = 0; i < 3; i++)
        fake_guest_write(0, (guint64) g_random_int_range(0, FAKE_CHUNKS), FALSE);
}

/* Some of it is as it was at the newest point, or before there was one. */
static void
guest_undoes(Fixture *f)
{
    static const Content nothing;
    const Content *content = f->points->len > 0 ? f->points->pdata[f->points->len - 1] : &nothing;

    for (guint64 chunk = 0; chunk < FAKE_CHUNKS; chunk += 4)
        fake_guest_put_back(0, chunk, content->data[0]);
}

static void
prepare_initial(Fixture *f)
{
    start_anew(f);
}

static void
prepare_delta(Fixture *f)
{
    if (f->points->len == 0 || f->points->len > RPS_MAX)
        start_anew(f);
    guest_dom(f)->state = VR_DOM_RUNNING;
    f->wanted.final = FALSE;
    if (f->points->len == 0)
        good_run(f);
    guest_works(f);
}

static void
prepare_resync(Fixture *f)
{
    prepare_delta(f);
    fake_guest_qemu_died();
}

/* It is not seen before the point begins. */
static void
prepare_late_resync(Fixture *f)
{
    prepare_delta(f);
    fake_guest->loses = TRUE;
}

static void
prepare_final(Fixture *f)
{
    prepare_delta(f);
    guest_dom(f)->state = VR_DOM_SHUTOFF;
    f->wanted.final = TRUE;
}

static const Scenario scenarios[] = {
    {"initial", prepare_initial, FALSE}, {"delta", prepare_delta, TRUE},
    {"resync", prepare_resync, FALSE},   {"late-resync", prepare_late_resync, FALSE},
    {"final", prepare_final, TRUE},
};

static void
start_counting(void)
{
    fake_guest->chunks_read = 0;
    fake_target.bytes = 0;
}

/* About what changed was read, or with tracking lost at least no more was sent. */
static void
assert_cheap(const Scenario *scenario, Fixture *f)
{
    guint64 sent = fake_target.bytes / VR_CHUNK_SIZE;

    if (scenario->tracked)
        g_assert_cmpint(fake_guest->chunks_read, <=, (gint) fake_guest->written);
    g_assert_cmpuint(sent, <=, fake_guest->written);
}

static void
assert_in_order(Fixture *f, const Scenario *scenario, guint64 number)
{
    g_autoptr(VrProtection) row = row_of(f);
    const Content *newest = f->points->pdata[f->points->len - 1];

    g_assert_cmpint(row->state, ==, VR_PROTECTION_PROTECTED);
    g_assert_cmpuint(row->base_number, ==, f->points->len);
    g_assert_cmpuint(f->points->len, >=, number);
    g_assert_true(memcmp(newest->data, fake_guest->view, sizeof newest->data) == 0);
    g_assert_false(row->manifest_unsure);
    fake_guest_assert_clean(row->checkpoint);
    g_assert_nonnull(row->checkpoint);
}

static void
test_scenario(Fixture *f, gconstpointer data)
{
    const Scenario *scenario = data;

    for (guint workers = 1; workers <= 2; workers++) {
        guint64 before;

        scenario->prepare(f);
        f->config.workers = workers;
        before = f->points->len;
        start_counting();
        good_run(f);
        assert_cheap(scenario, f);
        assert_in_order(f, scenario, before + 1);
        g_assert_cmpuint(f->points->len, ==, before + 1);
        good_run(f);
    }
    judge_all(f);
}

/* After what went wrong: the daemon, or the one that is started next, has an RP with its next
 * cycle. */
static void
go_on(Fixture *f, const Scenario *scenario, guint64 number, gboolean restarted)
{
    g_autoptr(GError) error = NULL;

    judge(f);
    if (!f->wanted.final)
        guest_undoes(f);
    if (g_random_int_range(0, 4) == 0)
        target_forgets(f);
    start_counting();
    (void) (restarted ? vr_cycle_clean : vr_cycle_recover)(&f->app, UUID, NULL, &error);
    g_assert_no_error(error);
    g_assert_false(has_journal(f));
    judge(f);
    good_run(f);
    assert_cheap(scenario, f);
    assert_in_order(f, scenario, number);
}

typedef struct {
    const Scenario *scenario;
    FakeChannel channel; /* FAKE_CHANNELS: libvirt's, of fake-dom.h */
    FakeAction action;
    VrError code;
    guint away; /* FAKE_AWAY…: calls that fail then; 0: all */
} Loop;

static void
arm(const Loop *loop, guint nth)
{
    if (loop->channel == FAKE_CHANNELS)
        fake_dom_fail_with(nth, loop->code);
    else
        fake_fault_arm(loop->channel, nth, loop->action, loop->code);
    fake_fault_back_after(loop->away);
}

/* FALSE: there is no such call. */
static gboolean
run_armed(Fixture *f, const Loop *loop, guint nth)
{
    gboolean was_killed = FALSE;
    gboolean was_fired;

    arm(loop, nth);
    if (loop->action == FAKE_KILL || loop->action == FAKE_KILL_AFTER) {
        g_assert_true(run_in_child(f, &was_killed) || was_killed);
        return was_killed;
    }
    (void) run(f, NULL);
    was_fired = loop->channel == FAKE_CHANNELS ? fake_dom_fired() : fake_fault_fired();
    fake_fault_disarm();
    fake_dom_fail_at(0);
    return was_fired;
}

static void
test_loop(Fixture *f, gconstpointer data)
{
    const Loop *loop = data;
    guint nth;

    for (nth = 1;; nth++) {
        gboolean met;
        guint64 number;

        loop->scenario->prepare(f);
        number = f->points->len + 1;
        start_counting();
        met = run_armed(f, loop, nth);
        g_test_message("call %u of the run", nth);
        assert_cheap(loop->scenario, f);
        go_on(f, loop->scenario, number, loop->action >= FAKE_KILL);
        if (!met)
            break;
    }
    g_assert_cmpuint(nth, >, 3);
    judge_all(f);
}

static void
test_kill_at_step(Fixture *f, gconstpointer data)
{
    const Scenario *scenario = data;

    for (VrStep step = VR_STEP_S1; step <= VR_STEP_T7; step++) {
        g_autofree char *spec = g_strdup_printf("%s:kill", vr_step_name(step));
        gboolean was_killed = FALSE;
        guint64 number;

        scenario->prepare(f);
        number = f->points->len + 1;
        start_counting();
        g_assert_true(vr_fault_init(spec, NULL));
        g_test_message("killed at %s", vr_step_name(step));
        g_assert_false(run_in_child(f, &was_killed));
        g_assert_true(was_killed);
        go_on(f, scenario, number, TRUE);
    }
    judge_all(f);
}

/* Several faults behind each other, also while what the one before left is cleared away. */
static void
test_thrash(Fixture *f, gconstpointer data)
{
    static const FakeAction actions[] = {FAKE_FAIL,       FAKE_FAIL_AFTER, FAKE_AWAY,
                                         FAKE_AWAY_AFTER, FAKE_KILL,       FAKE_KILL_AFTER};
    guint rounds = g_test_slow() ? 2000 : 25;

    for (guint i = 0; i < rounds; i++) {
        const Scenario *scenario = &scenarios[g_test_rand_int_range(1, G_N_ELEMENTS(scenarios))];
        guint64 number;

        scenario->prepare(f);
        number = f->points->len + 1;
        for (gint left = g_test_rand_int_range(1, 4); left > 0; left--) {
            Loop loop = {scenario, (FakeChannel) g_test_rand_int_range(0, FAKE_CHANNELS),
                         actions[g_test_rand_int_range(0, has_journal(f) ? 4 : 6)],
                         VR_ERROR_TRANSIENT, (guint) g_test_rand_int_range(0, 6)};
            guint nth = (guint) g_test_rand_int_range(1, loop.channel == FAKE_TARGET ? 8 : 20);

            g_test_message("%s: channel %d, action %d, call %u", scenario->name, loop.channel,
                           loop.action, nth);
            start_counting();
            (void) run_armed(f, &loop, nth);
            judge(f);
            assert_cheap(scenario, f);
        }
        go_on(f, scenario, number, g_test_rand_int_range(0, 2) != 0);
    }
    judge_all(f);
}

/* A recovery point is there with everything sent, and its answer says something else. */
static void
test_commit_lies(Fixture *f, gconstpointer data)
{
    FakeLie lie = (FakeLie) GPOINTER_TO_INT(data);

    prepare_delta(f);
    for (guint i = 0; i < 3; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(VrProtection) row = NULL;

        fake_target.commit = lie;
        g_assert_false(run(f, &error));
        g_assert_cmpstr(vr_error_slug(error), ==,
                        lie == FAKE_LIE_ROOT ? "root-differs" : "bad-message");
        judge(f);
        row = row_of(f);
        g_assert_cmpuint(row->base_number, <, f->points->len);
        g_assert_cmpstr(fake_guest->job, ==, "");
        if (lie == FAKE_LIE_ROOT)
            g_assert_true(row->manifest_unsure);
        guest_works_untracked();
    }
    fake_target.commit = FAKE_LIE_NONE;
    good_run(f);
    assert_in_order(f, NULL, 1);
    guest_works(f);
    start_counting();
    good_run(f);
    assert_cheap(&scenarios[1], f);
    judge_all(f);
}

/* The newest point there is said to be one that is not. */
static void
test_head_lies(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) before = NULL;
    g_autoptr(VrProtection) row = NULL;
    g_autoptr(GError) error = NULL;

    prepare_delta(f);
    before = row_of(f);
    fake_target.head = FAKE_LIE_CYCLE;
    g_assert_false(run(f, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    judge(f);
    row = row_of(f);
    g_assert_cmpuint(row->base_number, ==, before->base_number);
    g_assert_cmpstr(row->base_cycle, ==, before->base_cycle);
    fake_target.head = FAKE_LIE_NONE;
    start_counting();
    good_run(f);
    assert_cheap(&scenarios[2], f);
    assert_in_order(f, NULL, 1);
    judge_all(f);
}

/* What the base shows is what the guest was at between @begun_us and now. */
static void
assert_shows_ours(Fixture *f, gint64 begun_us)
{
    g_autoptr(VrProtection) row = row_of(f);

    g_assert_cmpuint(row->base_number, ==, f->points->len);
    g_assert_cmpint(row->base_time_us, >=, begun_us);
    g_assert_cmpint(row->base_time_us, <=, g_get_real_time());
    g_assert_cmpint(row->base_consistency, ==, VR_CONSISTENCY_CRASH);
}

/* When its point was and how consistent it is the source knows itself. */
static void
test_shown_lies(Fixture *f, gconstpointer data)
{
    gint64 begun_us, monotonic_us = g_get_monotonic_time();
    g_autoptr(GError) error = NULL;
    VrCycleDone done;

    prepare_delta(f);
    fake_target.commit = fake_target.head = FAKE_LIE_SHOWN;
    f->wanted.quiesce = FALSE;
    begun_us = g_get_real_time();
    g_assert_true(vr_cycle_run(&f->app, UUID, &f->wanted, &f->progress, NULL, &done, &error));
    g_assert_no_error(error);
    judge(f);
    assert_shows_ours(f, begun_us);
    g_assert_cmpint(done.consistency, ==, VR_CONSISTENCY_CRASH);
    g_assert_cmpint(done.point_us, >=, monotonic_us);
    g_assert_cmpint(done.point_us, <=, g_get_monotonic_time());

    /* The same of one whose end is asked for. */
    guest_works(f);
    begun_us = g_get_real_time();
    g_assert_true(vr_fault_init("S10:errno=EIO", NULL));
    g_assert_false(run(f, NULL));
    g_assert_true(vr_fault_init(NULL, NULL));
    g_assert_false(has_journal(f));
    judge(f);
    assert_shows_ours(f, begun_us);
}

/* A base that is taken over from there: ours is what it shows if it is ours, else nothing to come.
 */
static void
test_shown_head_lies(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) before = NULL;
    g_autoptr(VrProtection) row = NULL;

    f->wanted.quiesce = FALSE;
    good_run(f);
    guest_works(f);
    before = row_of(f);
    fake_target.head = FAKE_LIE_SHOWN;
    g_assert_true(vr_state_protection_distrust_manifest(f->app.state, UUID, NULL));
    g_assert_true(vr_fault_init("S1:errno=EIO", NULL));
    g_assert_false(run(f, NULL));
    row = row_of(f);
    g_assert_false(row->manifest_unsure);
    g_assert_cmpint(row->base_time_us, ==, before->base_time_us);
    g_assert_cmpint(row->base_consistency, ==, VR_CONSISTENCY_CRASH);

    g_free(row->base_cycle);
    row->base_cycle = vr_random_id();
    g_assert_true(vr_state_protection_set_base(f->app.state, row, NULL));
    g_assert_true(vr_fault_init("S1:errno=EIO", NULL));
    g_assert_false(run(f, NULL));
    g_assert_true(vr_fault_init(NULL, NULL));
    vr_protection_free(g_steal_pointer(&row));
    row = row_of(f);
    g_assert_cmpstr(row->base_cycle, ==, before->base_cycle);
    g_assert_cmpint(row->base_time_us, >, before->base_time_us);
    g_assert_cmpint(row->base_time_us, <=, g_get_real_time());
    good_run(f);
}

/* The other side was told of a newer owner. */
static void
test_generation_behind(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) before = NULL;
    g_autoptr(VrProtection) row = NULL;

    prepare_delta(f);
    before = row_of(f);
    start_counting();
    fake_target.generation = "0123456789abcdef0123456789abcdef";
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(run(f, &error));
        g_assert_cmpstr(vr_error_slug(error), ==, "generation-behind");
        judge(f);
    }
    row = row_of(f);
    g_assert_cmpstr(row->checkpoint, ==, before->checkpoint);
    g_assert_cmpuint(row->base_number, ==, before->base_number);
    g_assert_cmpuint(fake_guest->begun, ==, 1);
    fake_target.generation = f->generation;
    good_run(f);
    assert_cheap(&scenarios[1], f);
}

static const struct {
    const char *name;
    FakeChannel channel;
    FakeAction action;
    VrError code;
    gboolean always; /* FALSE: with a delta; with the others if there is time (-m slow) */
    guint away;      /* as in Loop */
} faults[] = {
    {"target-refuses", FAKE_TARGET, FAKE_FAIL, VR_ERROR_AUTH, TRUE, 0},
    {"target-away", FAKE_TARGET, FAKE_FAIL, VR_ERROR_TRANSIENT, FALSE, 0},
    {"target-answer-lost", FAKE_TARGET, FAKE_FAIL_AFTER, VR_ERROR_TRANSIENT, TRUE, 0},
    {"target-answer-bad", FAKE_TARGET, FAKE_FAIL_AFTER, VR_ERROR_INVALID, FALSE, 0},
    {"target-cut-off", FAKE_TARGET, FAKE_AWAY, VR_ERROR_TRANSIENT, TRUE, 0},
    {"target-answers-last", FAKE_TARGET, FAKE_AWAY_AFTER, VR_ERROR_TRANSIENT, FALSE, 0},
    {"target-kill", FAKE_TARGET, FAKE_KILL, VR_ERROR_INTERNAL, FALSE, 0},
    {"target-kill-after", FAKE_TARGET, FAKE_KILL_AFTER, VR_ERROR_INTERNAL, TRUE, 0},
    {"guest-busy", FAKE_GUEST, FAKE_FAIL, VR_ERROR_TRANSIENT, FALSE, 0},
    {"guest-fails", FAKE_GUEST, FAKE_FAIL, VR_ERROR_INTERNAL, TRUE, 0},
    {"guest-answer-lost", FAKE_GUEST, FAKE_FAIL_AFTER, VR_ERROR_TRANSIENT, TRUE, 0},
    {"guest-away-for-a-while", FAKE_GUEST, FAKE_AWAY, VR_ERROR_TRANSIENT, TRUE, 2},
    {"guest-away", FAKE_GUEST, FAKE_AWAY, VR_ERROR_TRANSIENT, FALSE, 0},
    {"guest-answers-last", FAKE_GUEST, FAKE_AWAY_AFTER, VR_ERROR_TRANSIENT, FALSE, 0},
    {"guest-kill", FAKE_GUEST, FAKE_KILL, VR_ERROR_INTERNAL, FALSE, 0},
    {"guest-kill-after", FAKE_GUEST, FAKE_KILL_AFTER, VR_ERROR_INTERNAL, FALSE, 0},
    {"libvirt-away", FAKE_CHANNELS, FAKE_FAIL, VR_ERROR_TRANSIENT, FALSE, 0},
    {"libvirt-fails", FAKE_CHANNELS, FAKE_FAIL, VR_ERROR_INTERNAL, TRUE, 0},
};

static void
add_loops(const Scenario *scenario)
{
    static Loop loops[G_N_ELEMENTS(scenarios) * G_N_ELEMENTS(faults)];
    static guint n;

    for (guint i = 0; i < G_N_ELEMENTS(faults); i++) {
        g_autofree char *path = g_strdup_printf("/engine/%s/%s", scenario->name, faults[i].name);

        if (!faults[i].always && strcmp(scenario->name, "delta") != 0 && !g_test_slow())
            continue;
        loops[n] =
            (Loop){scenario, faults[i].channel, faults[i].action, faults[i].code, faults[i].away};
        g_test_add(path, Fixture, &loops[n++], set_up, test_loop, tear_down);
    }
}

int
main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
    for (guint i = 0; i < G_N_ELEMENTS(scenarios); i++) {
        g_autofree char *plain = g_strdup_printf("/engine/%s/plain", scenarios[i].name);
        g_autofree char *kill = g_strdup_printf("/engine/%s/kill-at-step", scenarios[i].name);

        g_test_add(plain, Fixture, &scenarios[i], set_up, test_scenario, tear_down);
        g_test_add(kill, Fixture, &scenarios[i], set_up, test_kill_at_step, tear_down);
        add_loops(&scenarios[i]);
    }
    g_test_add("/engine/lies/root", Fixture, GINT_TO_POINTER(FAKE_LIE_ROOT), set_up,
               test_commit_lies, tear_down);
    g_test_add("/engine/lies/cycle", Fixture, GINT_TO_POINTER(FAKE_LIE_CYCLE), set_up,
               test_commit_lies, tear_down);
    g_test_add("/engine/lies/number", Fixture, GINT_TO_POINTER(FAKE_LIE_NUMBER), set_up,
               test_commit_lies, tear_down);
    g_test_add("/engine/lies/shown", Fixture, NULL, set_up, test_shown_lies, tear_down);
    g_test_add("/engine/lies/shown-head", Fixture, NULL, set_up, test_shown_head_lies, tear_down);
    g_test_add("/engine/lies/head", Fixture, NULL, set_up, test_head_lies, tear_down);
    g_test_add("/engine/thrash", Fixture, NULL, set_up, test_thrash, tear_down);
    g_test_add("/engine/generation-behind", Fixture, NULL, set_up, test_generation_behind,
               tear_down);
    return g_test_run();
}
