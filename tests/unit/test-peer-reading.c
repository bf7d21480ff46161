/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_reading.h"

#define RATE ((guint64) 10 << 20)

typedef struct {
    VrPeerReading *reading;
    const char *peer;
    GCancellable *cancel;
    gint inside, most; /* atomic */
    gint read;         /* atomic; MiB */
    gint64 until_us;
} Readers;

static gpointer
read_for_peer(gpointer data)
{
    Readers *r = data;

    while (g_get_monotonic_time() < r->until_us) {
        gint inside;

        g_assert_true(vr_peer_reading_begin(r->reading, r->peer, r->cancel));
        inside = g_atomic_int_add(&r->inside, 1) + 1;
        if (inside > g_atomic_int_get(&r->most))
            g_atomic_int_set(&r->most, inside);
        g_assert_true(vr_peer_reading_take(r->reading, 1 << 20, r->cancel));
        g_atomic_int_inc(&r->read);
        g_atomic_int_add(&r->inside, -1);
        vr_peer_reading_end(r->reading, r->peer);
    }
    return NULL;
}

/* Four orders of one peer are one after the other, and with those of another keep the rate. */
static void
test_one_at_a_time(void)
{
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    VrPeerReading *reading = vr_peer_reading_new(RATE);
    gint64 until_us = g_get_monotonic_time() + 2 * G_USEC_PER_SEC;
    Readers a = {.reading = reading, .peer = "a", .cancel = cancel, .until_us = until_us};
    Readers b = {.reading = reading, .peer = "b", .cancel = cancel, .until_us = until_us};
    GThread *threads[5];

    for (guint i = 0; i < 5; i++)
        threads[i] = g_thread_new("read", read_for_peer, i < 4 ? &a : &b);
    for (guint i = 0; i < 5; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(a.most, ==, 1);
    g_assert_cmpint(b.read, >, 0);
    g_assert_cmpint(a.read + b.read, <=, 20 + 8); /* each may be a MiB ahead */
    vr_peer_reading_free(reading);
}

static gpointer
wait_for_turn(gpointer data)
{
    Readers *r = data;

    return GINT_TO_POINTER(vr_peer_reading_begin(r->reading, r->peer, r->cancel));
}

static void
test_cancel(void)
{
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    VrPeerReading *reading = vr_peer_reading_new(0);
    Readers a = {.reading = reading, .peer = "a", .cancel = cancel};
    GThread *thread;

    g_assert_true(vr_peer_reading_begin(reading, "a", cancel));
    g_assert_true(vr_peer_reading_begin(reading, "b", cancel));
    g_assert_true(vr_peer_reading_take(reading, (guint64) 1 << 40, cancel));
    thread = g_thread_new("wait", wait_for_turn, &a);
    g_cancellable_cancel(cancel);
    g_assert_false(GPOINTER_TO_INT(g_thread_join(thread)));
    vr_peer_reading_free(reading);
}

static void
test_hurry(void)
{
    VrPeerReading *reading = vr_peer_reading_new(RATE);

    g_assert_true(vr_peer_reading_may_hurry(reading, "one"));
    g_assert_false(vr_peer_reading_may_hurry(reading, "one"));
    g_assert_true(vr_peer_reading_may_hurry(reading, "two"));
    vr_peer_reading_free(reading);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-reading/one-at-a-time", test_one_at_a_time);
    g_test_add_func("/peer-reading/cancel", test_cancel);
    g_test_add_func("/peer-reading/hurry", test_hurry);
    return g_test_run();
}
