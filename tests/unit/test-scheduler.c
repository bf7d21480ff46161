/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/replicate.h"
#include "plugin/cycle/scheduler.h"
#include "policies/error.h"
#include "storage/util/file_util.h"

#define A "11111111-2222-3333-4444-aaaaaaaaaaaa"
#define B "11111111-2222-3333-4444-bbbbbbbbbbbb"
#define PEER "one"
#define OTHER_PEER "two"
#define INTERVAL_US (2 * G_TIME_SPAN_MILLISECOND)

typedef enum {
    SUCCEED,
    SUCCEED_OFF,
    FAIL_FOR_NOW,
    FAIL_FOR_GOOD,
    HANG,
    WAIT,
    CANCEL,
    SAY_NOTHING
} Behaviour;

typedef struct {
    VrScheduler *scheduler;
    VrPolicy *policy;
    GMutex lock; /* guards what follows */
    GCond changed;
    Behaviour behaviour;
    guint begun, ended;
    guint inside, most_inside;
    guint begun_b;
} Fixture;

static void
report(Fixture *f, const char *uuid, Behaviour behaviour)
{
    g_autoptr(GError) error = NULL;

    if (behaviour == FAIL_FOR_NOW)
        vr_set_error(&error, VR_ERROR_TRANSIENT, "peer-down", NULL, "the peer is down");
    if (behaviour == FAIL_FOR_GOOD)
        vr_set_error(&error, VR_ERROR_AUTH, "unknown-peer", NULL, "the peer does not know us");
    if (behaviour == SAY_NOTHING)
        return;
    if (behaviour == HANG || behaviour == CANCEL)
        vr_set_error(&error, VR_ERROR_CANCELLED, "cancelled", NULL, "cancelled");
    vr_scheduler_report(f->scheduler, uuid,
                        &(VrCycleReport){.error = error,
                                         .point_us = g_get_monotonic_time(),
                                         .scheduled = TRUE,
                                         .idle = behaviour == SUCCEED_OFF});
}

static void
wake(GCancellable *cancel, gpointer data)
{
    Fixture *f = data;

    g_mutex_lock(&f->lock);
    g_cond_broadcast(&f->changed);
    g_mutex_unlock(&f->lock);
}

static void
cycle(gpointer app, const char *uuid, GCancellable *cancel)
{
    Fixture *f = app;
    gulong handler = g_cancellable_connect(cancel, G_CALLBACK(wake), f, NULL);
    Behaviour behaviour;

    g_mutex_lock(&f->lock);
    behaviour = f->behaviour;
    f->begun++;
    f->begun_b += g_str_equal(uuid, B) ? 1 : 0;
    f->inside++;
    f->most_inside = MAX(f->most_inside, f->inside);
    g_cond_broadcast(&f->changed);
    while (behaviour == HANG && !g_cancellable_is_cancelled(cancel))
        g_cond_wait(&f->changed, &f->lock);
    while (f->behaviour == WAIT)
        g_cond_wait(&f->changed, &f->lock);
    if (behaviour == WAIT)
        behaviour = f->behaviour;
    f->inside--;
    g_mutex_unlock(&f->lock);

    g_cancellable_disconnect(cancel, handler);
    report(f, uuid, behaviour);
    g_mutex_lock(&f->lock);
    f->ended++;
    g_cond_broadcast(&f->changed);
    g_mutex_unlock(&f->lock);
}

static void
set_up(Fixture *f, gconstpointer data)
{
    f->policy = vr_policy_default();
    f->policy->interval_us = INTERVAL_US;
    f->scheduler = vr_scheduler_new(1, cycle, f);
    vr_scheduler_start(f->scheduler);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    vr_scheduler_stop(f->scheduler);
    vr_scheduler_free(f->scheduler);
    vr_policy_free(f->policy);
}

static void
wait_for(Fixture *f, const guint *counter, guint value)
{
    g_mutex_lock(&f->lock);
    while (*counter < value)
        g_cond_wait(&f->changed, &f->lock);
    g_mutex_unlock(&f->lock);
}

static guint
count(Fixture *f, const guint *counter)
{
    guint value;

    g_mutex_lock(&f->lock);
    value = *counter;
    g_mutex_unlock(&f->lock);
    return value;
}

static void
test_again_and_again(Fixture *f, gconstpointer data)
{
    gint64 began = g_get_monotonic_time();
    VrScheduleInfo info;

    vr_scheduler_info(f->scheduler, A, &info);
    g_assert_false(info.known);
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->ended, 4);
    g_assert_cmpint(g_get_monotonic_time() - began, >=, 3 * INTERVAL_US);
    vr_scheduler_info(f->scheduler, A, &info);
    g_assert_true(info.known);
    g_assert_false(info.idle);
    g_assert_cmpuint(info.due_hour, >=, 4);
    g_assert_cmpuint(info.missed_hour, ==, 0);
}

static void
test_one_at_a_time(Fixture *f, gconstpointer data)
{
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    vr_scheduler_add(f->scheduler, B, PEER, f->policy);
    wait_for(f, &f->ended, 10);
    wait_for(f, &f->begun_b, 2);
    g_assert_cmpuint(count(f, &f->most_inside), ==, 1);
}

/* Shut off and replicated: nothing is due until somebody says that it may have started. */
static void
test_idle(Fixture *f, gconstpointer data)
{
    VrScheduleInfo info;

    f->behaviour = SUCCEED_OFF;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->ended, 1);
    vr_scheduler_info(f->scheduler, A, &info);
    g_assert_true(info.idle);
    g_assert_cmpint(info.next_due_us, ==, 0);
    g_assert_cmpuint(count(f, &f->begun), ==, 1);
    vr_scheduler_kick(f->scheduler, A);
    wait_for(f, &f->ended, 2);
}

static void
test_failure_waits(Fixture *f, gconstpointer data)
{
    VrScheduleInfo info;
    gint64 wait_us;

    f->behaviour = FAIL_FOR_NOW;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->ended, 1);
    do /* nothing is due until its thread has left it */
        vr_scheduler_info(f->scheduler, A, &info);
    while (info.next_due_us == 0);
    wait_us = info.next_due_us - g_get_real_time();
    g_assert_cmpint(wait_us, >, 50 * G_TIME_SPAN_SECOND);
    g_assert_cmpint(wait_us, <=, 67 * G_TIME_SPAN_SECOND);
    g_assert_cmpuint(info.missed_hour, ==, 1);
    g_assert_false(info.blocked);
    vr_scheduler_kick(f->scheduler, NULL);
    wait_for(f, &f->ended, 2);
}

static void
test_failure_blocks(Fixture *f, gconstpointer data)
{
    VrScheduleInfo info;

    f->behaviour = FAIL_FOR_GOOD;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->ended, 1);
    vr_scheduler_info(f->scheduler, A, &info);
    g_assert_true(info.blocked);
    g_assert_cmpint(info.next_due_us, ==, 0);

    g_mutex_lock(&f->lock);
    f->behaviour = SUCCEED;
    g_mutex_unlock(&f->lock);
    vr_scheduler_kick(f->scheduler, A);
    wait_for(f, &f->ended, 3);
    vr_scheduler_info(f->scheduler, A, &info);
    g_assert_false(info.blocked);
}

static void
go_on_as(Fixture *f, Behaviour behaviour)
{
    g_mutex_lock(&f->lock);
    f->behaviour = behaviour;
    g_cond_broadcast(&f->changed);
    g_mutex_unlock(&f->lock);
}

/* The domain starts while the cycle of the shut-off domain ends: that cycle does not know. */
static void
test_kick_before_idle(Fixture *f, gconstpointer data)
{
    VrScheduleInfo info;

    f->behaviour = WAIT;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->begun, 1);
    vr_scheduler_kick(f->scheduler, A);
    go_on_as(f, SUCCEED_OFF);
    wait_for(f, &f->ended, 2);
    do
        vr_scheduler_info(f->scheduler, A, &info);
    while (!info.idle);
    g_assert_cmpuint(count(f, &f->begun), ==, 2);
}

/* The cause goes away between a failure and its report. */
static void
test_kick_before_failure(Fixture *f, gconstpointer data)
{
    f->behaviour = WAIT;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->begun, 1);
    vr_scheduler_kick(f->scheduler, A);
    go_on_as(f, FAIL_FOR_GOOD);
    wait_for(f, &f->ended, 2);
}

/* A retry that was cancelled, or whose turn it was not, is not due again at once. */
static void
test_undecided_retry(Fixture *f, gconstpointer data)
{
    static const Behaviour undecided[] = {CANCEL, SAY_NOTHING};
    VrScheduleInfo info;
    guint begun;

    f->policy->interval_us = G_TIME_SPAN_HOUR;
    f->policy->rpo_target_us = 2 * G_TIME_SPAN_HOUR;
    f->behaviour = FAIL_FOR_NOW;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->ended, 1);
    for (guint i = 0; i < G_N_ELEMENTS(undecided); i++) {
        go_on_as(f, undecided[i]);
        vr_scheduler_kick(f->scheduler, A);
        begun = i + 2;
        wait_for(f, &f->ended, begun);
        do { /* due now until its thread has left it */
            vr_scheduler_info(f->scheduler, A, &info);
            g_assert_cmpuint(count(f, &f->begun), ==, begun);
        } while (info.next_due_us - g_get_real_time() < G_TIME_SPAN_MINUTE);
    }
}

static void
test_remove_cancels(Fixture *f, gconstpointer data)
{
    VrScheduleInfo info;

    f->behaviour = HANG;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->begun, 1);
    vr_scheduler_remove(f->scheduler, A);
    g_assert_cmpuint(count(f, &f->ended), ==, 1);
    vr_scheduler_info(f->scheduler, A, &info);
    g_assert_false(info.known);
    vr_scheduler_remove(f->scheduler, A);
}

static void
test_stop_cancels(Fixture *f, gconstpointer data)
{
    f->behaviour = HANG;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->begun, 1);
    vr_scheduler_stop(f->scheduler);
    g_assert_cmpuint(count(f, &f->ended), ==, 1);
}

static void
test_app_consistent(Fixture *f, gconstpointer data)
{
    VrScheduleInfo info;

    f->policy->app_consistent_us = G_TIME_SPAN_HOUR;
    f->policy->interval_us = G_TIME_SPAN_HOUR;
    f->policy->rpo_target_us = 2 * G_TIME_SPAN_HOUR;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->ended, 1);
    vr_scheduler_info(f->scheduler, A, &info);
    g_assert_true(info.quiesce_due);
    g_assert_cmpint(info.app_age_us, ==, -1);
    vr_scheduler_report(
        f->scheduler, A,
        &(VrCycleReport){.point_us = g_get_monotonic_time(), .app_consistent = TRUE});
    vr_scheduler_info(f->scheduler, A, &info);
    g_assert_false(info.quiesce_due);
    g_assert_cmpint(info.app_age_us, >=, 0);
}

/* A policy that cannot be read must not end in a domain that nobody replicates and nobody hears of.
 */
static void
test_broken_policy(Fixture *f, gconstpointer data)
{
    g_autofree char *dir = g_dir_make_tmp("vr-scheduler-XXXXXX", NULL);
    VrApp app = {.scheduler = f->scheduler, .policies = vr_policy_files_new(dir)};
    VrProtection row = {.uuid = (char *) A, .policy = (char *) "gone"};
    g_autoptr(GError) error = NULL;

    f->behaviour = FAIL_FOR_GOOD;
    g_assert_false(vr_replicate_schedule(&app, &row, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
    wait_for(f, &f->ended, 1);
    g_assert_false(vr_replicate_schedule(&app, &row, NULL));
    vr_policy_files_free(app.policies);
    g_assert_true(vr_remove_tree(dir, NULL));
}

/* A long job on one domain must not take a thread that others wait for. */
static void
test_guarded(Fixture *f, gconstpointer data)
{
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    VrApp app = {.scheduler = f->scheduler, .guards = vr_guards_new()};

    g_assert_true(vr_guard_take(app.guards, A, "job 1", 0, NULL, NULL));
    vr_replicate_scheduled(&app, A, cancel);
    vr_guard_release(app.guards, A);
    vr_guards_free(app.guards);
}

/* A job's cycle, in a thread of its own. */
typedef struct {
    Fixture *f;
    const char *uuid, *peer;
    VrSlotClass class;
    GCancellable *cancel;
    gint done; /* atomic: 1 has the slot, -1 was cancelled */
    GThread *thread;
} Taker;

static gpointer
take(gpointer data)
{
    Taker *taker = data;
    g_autoptr(GError) error = NULL;

    if (vr_scheduler_slot_take(taker->f->scheduler, taker->uuid, taker->peer, taker->class,
                               taker->cancel, &error)) {
        g_atomic_int_set(&taker->done, 1);
    } else {
        g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
        g_atomic_int_set(&taker->done, -1);
    }
    return NULL;
}

static Taker *
taker_to(Fixture *f, const char *peer, const char *uuid, VrSlotClass class)
{
    Taker *taker = g_new0(Taker, 1);

    *taker =
        (Taker){.f = f, .uuid = uuid, .peer = peer, .class = class, .cancel = g_cancellable_new()};
    taker->thread = g_thread_new("taker", take, taker);
    return taker;
}

static Taker *
taker_new(Fixture *f, const char *uuid, VrSlotClass class)
{
    return taker_to(f, PEER, uuid, class);
}

static gint
taker_wait(Taker *taker)
{
    gint done;

    g_thread_join(taker->thread);
    done = taker->done;
    g_object_unref(taker->cancel);
    g_free(taker);
    return done;
}

static void
slow_policy(Fixture *f)
{
    f->policy->interval_us = G_TIME_SPAN_HOUR;
    f->policy->rpo_target_us = 2 * G_TIME_SPAN_HOUR;
}

static void
reset_scheduler(Fixture *f, guint slots, VrCycleFunc func)
{
    vr_scheduler_stop(f->scheduler);
    vr_scheduler_free(f->scheduler);
    f->scheduler = vr_scheduler_new(slots, func, f);
    vr_scheduler_start(f->scheduler);
}

/* A job's cycle counts: with one slot no scheduled one runs beside it, and the other way round. */
static void
test_jobs_count(Fixture *f, gconstpointer data)
{
    Taker *taker;

    slow_policy(f);
    g_assert_cmpint(taker_wait(taker_new(f, A, VR_SLOT_SYNC)), ==, 1);
    g_assert_cmpint(taker_wait(taker_new(f, A, VR_SLOT_SYNC)), ==, 1); /* the same slot */
    vr_scheduler_add(f->scheduler, B, PEER, f->policy);
    g_usleep(50 * G_TIME_SPAN_MILLISECOND);
    g_assert_cmpuint(count(f, &f->begun), ==, 0);
    go_on_as(f, WAIT);
    vr_scheduler_slot_release(f->scheduler, A);
    vr_scheduler_slot_release(f->scheduler, A);
    wait_for(f, &f->begun, 1);
    taker = taker_new(f, A, VR_SLOT_FAILOVER);
    g_usleep(50 * G_TIME_SPAN_MILLISECOND);
    g_assert_cmpint(g_atomic_int_get(&taker->done), ==, 0);
    go_on_as(f, SUCCEED);
    g_assert_cmpint(taker_wait(taker), ==, 1);
}

static void
test_slot_cancel(Fixture *f, gconstpointer data)
{
    Taker *taker;

    g_assert_cmpint(taker_wait(taker_new(f, A, VR_SLOT_LONG)), ==, 1);
    taker = taker_new(f, B, VR_SLOT_FAILOVER);
    g_cancellable_cancel(taker->cancel);
    g_assert_cmpint(taker_wait(taker), ==, -1);
    vr_scheduler_slot_release(f->scheduler, A);
    g_assert_cmpint(taker_wait(taker_new(f, B, VR_SLOT_LONG)), ==, 1); /* nothing was lost */
}

/* Initial replications take all slots but one; deltas go on in that. */
static void
test_long_starves_nobody(Fixture *f, gconstpointer data)
{
    Taker *second;

    reset_scheduler(f, 2, cycle);
    g_assert_cmpint(taker_wait(taker_new(f, A, VR_SLOT_LONG)), ==, 1);
    second = taker_new(f, "c", VR_SLOT_LONG);
    vr_scheduler_add(f->scheduler, B, PEER, f->policy);
    wait_for(f, &f->ended, 5);
    g_assert_cmpint(g_atomic_int_get(&second->done), ==, 0);
    vr_scheduler_slot_release(f->scheduler, A);
    g_assert_cmpint(taker_wait(second), ==, 1);
    wait_for(f, &f->ended, 10);
}

/* One peer hangs with all that it gets, in cycles and in a job's: the other's go on. */
static void
test_hung_peer(Fixture *f, gconstpointer data)
{
    Taker *third;

    reset_scheduler(f, 3, cycle);
    vr_scheduler_add(f->scheduler, B, OTHER_PEER, f->policy);
    wait_for(f, &f->ended, 3);
    g_assert_cmpint(taker_wait(taker_new(f, "c", VR_SLOT_SYNC)), ==, 1);
    g_assert_cmpint(taker_wait(taker_new(f, "d", VR_SLOT_LONG)), ==, 1);
    third = taker_new(f, "e", VR_SLOT_FAILOVER);
    wait_for(f, &f->ended, count(f, &f->ended) + 5);
    g_assert_cmpint(g_atomic_int_get(&third->done), ==, 0);
    vr_scheduler_remove(f->scheduler, B); /* the other peer has none any more */
    g_assert_cmpint(taker_wait(third), ==, 1);
}

/* Waiting for one slot: the failover goes first, then the sync, the scheduled one, the long one. */
static void
test_slot_order(Fixture *f, gconstpointer data)
{
    Taker *takers[3];

    slow_policy(f);
    g_assert_cmpint(taker_wait(taker_new(f, "x", VR_SLOT_SYNC)), ==, 1);
    takers[0] = taker_new(f, "long", VR_SLOT_LONG);
    g_usleep(20 * G_TIME_SPAN_MILLISECOND);
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    takers[1] = taker_new(f, "sync", VR_SLOT_SYNC);
    g_usleep(20 * G_TIME_SPAN_MILLISECOND);
    takers[2] = taker_new(f, "failover", VR_SLOT_FAILOVER);
    g_usleep(20 * G_TIME_SPAN_MILLISECOND);
    vr_scheduler_slot_release(f->scheduler, "x");
    g_assert_cmpint(taker_wait(takers[2]), ==, 1);
    g_assert_cmpint(g_atomic_int_get(&takers[1]->done), ==, 0);
    vr_scheduler_slot_release(f->scheduler, "failover");
    g_assert_cmpint(taker_wait(takers[1]), ==, 1);
    g_assert_cmpuint(count(f, &f->begun), ==, 0);
    g_assert_cmpint(g_atomic_int_get(&takers[0]->done), ==, 0);
    vr_scheduler_slot_release(f->scheduler, "sync");
    g_assert_cmpint(taker_wait(takers[0]), ==, 1);
    g_assert_cmpuint(count(f, &f->begun), ==, 1);
}

/* A scheduled cycle that finds out that it has to compare whole disks. */
static void
long_cycle(gpointer app, const char *uuid, GCancellable *cancel)
{
    Fixture *f = app;

    if (vr_scheduler_slot_long(f->scheduler, uuid))
        cycle(app, uuid, cancel);
}

static void
test_scheduled_turns_long(Fixture *f, gconstpointer data)
{
    reset_scheduler(f, 2, long_cycle);
    slow_policy(f);
    g_assert_cmpint(taker_wait(taker_new(f, B, VR_SLOT_LONG)), ==, 1);
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    g_usleep(50 * G_TIME_SPAN_MILLISECOND);
    g_assert_cmpuint(count(f, &f->begun), ==, 0);
    g_assert_cmpint(taker_wait(taker_new(f, "sync", VR_SLOT_SYNC)), ==, 1); /* it holds no slot */
    vr_scheduler_slot_release(f->scheduler, "sync");
    vr_scheduler_slot_release(f->scheduler, B);
    wait_for(f, &f->ended, 1);
}

/* The cycle of a job is an attempt: none is started beside it, or just for the time it took. */
static void
test_job_is_attempt(Fixture *f, gconstpointer data)
{
    reset_scheduler(f, 2, cycle);
    slow_policy(f);
    g_assert_cmpint(taker_wait(taker_new(f, A, VR_SLOT_SYNC)), ==, 1);
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    g_usleep(50 * G_TIME_SPAN_MILLISECOND);
    g_assert_cmpuint(count(f, &f->begun), ==, 0);
    vr_scheduler_slot_release(f->scheduler, A);
    wait_for(f, &f->ended, 1);
    g_assert_cmpint(taker_wait(taker_new(f, A, VR_SLOT_SYNC)), ==, 1);
    vr_scheduler_slot_release(f->scheduler, A);
    g_usleep(50 * G_TIME_SPAN_MILLISECOND);
    g_assert_cmpuint(count(f, &f->begun), ==, 1);
}

/* An operator's sync that fails delays nothing, and is known as a failure. */
static void
test_job_fails(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = vr_error_new(VR_ERROR_TRANSIENT, "peer-down", NULL, "it is down");
    g_autoptr(GError) found = NULL;
    VrScheduleInfo before, after;

    slow_policy(f);
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->ended, 1);
    vr_scheduler_info(f->scheduler, A, &before);
    g_usleep(1500 * G_TIME_SPAN_MILLISECOND);
    g_assert_cmpint(taker_wait(taker_new(f, A, VR_SLOT_SYNC)), ==, 1);
    vr_scheduler_report(f->scheduler, A, &(VrCycleReport){.error = error});
    vr_scheduler_slot_release(f->scheduler, A);
    vr_scheduler_info(f->scheduler, A, &after);
    g_assert_cmpint(ABS(after.next_due_us - before.next_due_us), <, G_TIME_SPAN_SECOND);
    g_assert_cmpuint(after.attempts, ==, 0);
    g_assert_cmpuint(after.missed_hour, ==, 1);
    found = vr_scheduler_last_failure(f->scheduler, A);
    g_assert_cmpstr(found->message, ==, "it is down");
    vr_scheduler_kick(f->scheduler, A);
    wait_for(f, &f->ended, 2);
}

/* One waits for the only slot longer than 5 s. */
static void
test_late(Fixture *f, gconstpointer data)
{
    g_assert_cmpint(vr_scheduler_late_us(f->scheduler), ==, 0);
    f->behaviour = WAIT;
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    wait_for(f, &f->begun, 1);
    vr_scheduler_add(f->scheduler, B, PEER, f->policy);
    g_usleep(5500 * G_TIME_SPAN_MILLISECOND);
    g_assert_cmpint(vr_scheduler_late_us(f->scheduler), ==, 0);
    g_mutex_lock(&f->lock);
    f->behaviour = SUCCEED;
    g_cond_broadcast(&f->changed);
    g_mutex_unlock(&f->lock);
    wait_for(f, &f->begun_b, 1);
    g_assert_cmpint(vr_scheduler_late_us(f->scheduler), >, 5 * G_TIME_SPAN_SECOND);
}

#define ADD(name, function)                                                                        \
    g_test_add("/scheduler/" name, Fixture, NULL, set_up, function, tear_down)

/* Whoever wants no cycle of it gets none, also of one that becomes known only then. */
static void
test_suspended(Fixture *f, gconstpointer data)
{
    vr_scheduler_suspend(f->scheduler, A);
    vr_scheduler_add(f->scheduler, A, PEER, f->policy);
    vr_scheduler_suspend(f->scheduler, A);
    vr_scheduler_resume(f->scheduler, A);
    g_usleep(50 * INTERVAL_US);
    g_assert_cmpuint(count(f, &f->begun), ==, 0);
    vr_scheduler_resume(f->scheduler, A);
    wait_for(f, &f->ended, 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("again-and-again", test_again_and_again);
    ADD("one-at-a-time", test_one_at_a_time);
    ADD("idle", test_idle);
    ADD("failure-waits", test_failure_waits);
    ADD("failure-blocks", test_failure_blocks);
    ADD("kick-before-idle", test_kick_before_idle);
    ADD("kick-before-failure", test_kick_before_failure);
    ADD("undecided-retry", test_undecided_retry);
    ADD("broken-policy", test_broken_policy);
    ADD("guarded", test_guarded);
    ADD("suspended", test_suspended);
    ADD("remove-cancels", test_remove_cancels);
    ADD("stop-cancels", test_stop_cancels);
    ADD("app-consistent", test_app_consistent);
    ADD("jobs-count", test_jobs_count);
    ADD("slot-cancel", test_slot_cancel);
    ADD("long-starves-nobody", test_long_starves_nobody);
    ADD("slot-order", test_slot_order);
    ADD("hung-peer", test_hung_peer);
    ADD("scheduled-turns-long", test_scheduled_turns_long);
    ADD("job-is-attempt", test_job_is_attempt);
    ADD("job-fails", test_job_fails);
    ADD("late", test_late);
    return g_test_run();
}
