/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/guard.h"
#include "policies/error.h"

#define UUID "11111111-2222-3333-4444-555555555555"
#define OTHER "11111111-2222-3333-4444-666666666666"

static void
test_one_holder(void)
{
    VrGuards *guards = vr_guards_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_guard_take(guards, UUID, "job 17 (failover)", 0, NULL, &error));
    g_assert_false(vr_guard_take(guards, UUID, "a cycle", 0, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CONFLICT);
    g_assert_cmpstr(vr_error_slug(error), ==, "busy");
    g_assert_nonnull(strstr(error->message, "job 17 (failover)"));
    g_clear_error(&error);

    g_assert_true(vr_guard_take(guards, OTHER, "a cycle", 0, NULL, &error));
    vr_guard_release(guards, UUID);
    g_assert_true(vr_guard_take(guards, UUID, "a cycle", 0, NULL, &error));
    g_assert_no_error(error);
    vr_guards_free(guards);
}

static void
test_limited_wait(void)
{
    VrGuards *guards = vr_guards_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_guard_take(guards, UUID, "a cycle", 0, NULL, &error));
    g_assert_false(vr_guard_take(guards, UUID, "job 1", 5, NULL, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CONFLICT);
    vr_guards_free(guards);
}

static void
test_cancelled(void)
{
    VrGuards *guards = vr_guards_new();
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_guard_take(guards, UUID, "a cycle", 0, NULL, &error));
    g_cancellable_cancel(cancel);
    g_assert_false(vr_guard_take(guards, UUID, "job 1", -1, cancel, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_CANCELLED);
    vr_guards_free(guards);
}

#define ROUNDS 200

typedef struct {
    VrGuards *guards;
    int inside; /* atomic */
    guint done;
} Race;

static gpointer
race(gpointer data)
{
    Race *self = data;

    for (guint i = 0; i < ROUNDS; i++) {
        g_assert_true(vr_guard_take(self->guards, UUID, "thread", -1, NULL, NULL));
        g_assert_cmpint(g_atomic_int_add(&self->inside, 1), ==, 0);
        self->done++;
        g_atomic_int_add(&self->inside, -1);
        vr_guard_release(self->guards, UUID);
    }
    return NULL;
}

/* Waiters go on when it is released, one at a time. */
static void
test_threads(void)
{
    Race self = {.guards = vr_guards_new()};
    GThread *threads[3];

    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("race", race, &self);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(self.done, ==, G_N_ELEMENTS(threads) * ROUNDS);
    vr_guards_free(self.guards);
}

typedef struct {
    VrGuards *guards;
    const char *name;
    GString *order; /* guarded by the guard itself */
} Queued;

static gpointer
queue_up(gpointer data)
{
    Queued *self = data;

    g_assert_true(vr_guard_take(self->guards, UUID, self->name, -1, NULL, NULL));
    g_string_append(self->order, self->name);
    vr_guard_release(self->guards, UUID);
    return NULL;
}

/* Who came first is served first; who does not wait does not get in between. */
static void
test_order(void)
{
    VrGuards *guards = vr_guards_new();
    g_autoptr(GString) order = g_string_new(NULL);
    Queued queued[] = {{guards, "a", order}, {guards, "b", order}, {guards, "c", order}};
    GThread *threads[G_N_ELEMENTS(queued)];

    g_assert_true(vr_guard_take(guards, UUID, "first", 0, NULL, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(queued); i++) {
        threads[i] = g_thread_new("queue", queue_up, &queued[i]);
        g_usleep(G_USEC_PER_SEC / 5);
    }
    vr_guard_release(guards, UUID);
    for (guint i = 0; i < G_N_ELEMENTS(queued); i++)
        g_thread_join(threads[i]);
    g_assert_cmpstr(order->str, ==, "abc");
    g_assert_true(vr_guard_take(guards, UUID, "last", 0, NULL, NULL));
    vr_guards_free(guards);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guard/one-holder", test_one_holder);
    g_test_add_func("/guard/limited-wait", test_limited_wait);
    g_test_add_func("/guard/cancelled", test_cancelled);
    g_test_add_func("/guard/threads", test_threads);
    g_test_add_func("/guard/order", test_order);
    return g_test_run();
}
