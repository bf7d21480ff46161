/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/retain_queue.h"

/* Names of replicas begin with the letter of their peer. */
static char *
peer_of(gpointer data, const char *uuid)
{
    g_atomic_int_inc((gint *) data);
    return uuid[0] == '?' ? NULL : g_strndup(uuid, 1);
}

/* The next @n turns, each of which has more to do if @more. */
static char *
turns(VrRetainQueue *queue, guint n, gboolean more)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < n; i++) {
        VrRetainTurn *turn = vr_retain_queue_take(queue);

        g_string_append_printf(text, "%s ", turn->uuid);
        turn->pass.more = more;
        turn->pass.after++;
        vr_retain_queue_done(queue, turn);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* A peer with many replicas that are never done keeps no other peer's waiting. */
static void
test_fair(void)
{
    gint asked = 0;
    g_autoptr(VrRetainQueue) queue = vr_retain_queue_new(peer_of, &asked);
    static const char *const uuids[] = {"a1", "a2", "a3", "b1", "?", "a2"};
    g_autofree char *first = NULL, *rest = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(uuids); i++)
        vr_retain_queue_add(queue, uuids[i]);
    first = turns(queue, 9, TRUE);
    g_assert_cmpstr(first, ==, "a1 b1 ? a2 b1 ? a3 b1 ? ");
    rest = turns(queue, 5, FALSE);
    g_assert_cmpstr(rest, ==, "a1 b1 ? a2 a3 ");
    g_assert_cmpint(asked, ==, 5);
    vr_retain_queue_end(queue);
    g_assert_null(vr_retain_queue_take(queue));
}

/* What is asked for during a pass is another pass, from its beginning; before it, the same. */
static void
test_again(void)
{
    gint asked = 0;
    g_autoptr(VrRetainQueue) queue = vr_retain_queue_new(peer_of, &asked);
    VrRetainTurn *turn;

    vr_retain_queue_add(queue, "a1");
    vr_retain_queue_add(queue, "a1");
    turn = vr_retain_queue_take(queue);
    turn->pass.after = 7;
    turn->pass.more = TRUE;
    vr_retain_queue_done(queue, turn);
    vr_retain_queue_add(queue, "a1");
    turn = vr_retain_queue_take(queue);
    g_assert_cmpuint(turn->pass.after, ==, 7);
    turn->pass.more = FALSE;
    vr_retain_queue_done(queue, turn);
    turn = vr_retain_queue_take(queue);
    g_assert_cmpuint(turn->pass.after, ==, 0);
    vr_retain_queue_done(queue, turn);
    vr_retain_queue_add(queue, "a2");
    turn = vr_retain_queue_take(queue);
    g_assert_cmpstr(turn->uuid, ==, "a2");
    vr_retain_queue_done(queue, turn);
}

/* A peer's one long turn keeps its own others waiting and nobody else's. */
static void
test_apart(void)
{
    gint asked = 0;
    g_autoptr(VrRetainQueue) queue = vr_retain_queue_new(peer_of, &asked);
    VrRetainTurn *turn, *held;

    vr_retain_queue_add(queue, "a1");
    vr_retain_queue_add(queue, "a2");
    vr_retain_queue_add(queue, "b1");
    held = vr_retain_queue_take(queue);
    g_assert_cmpstr(held->uuid, ==, "a1");
    for (guint i = 0; i < 3; i++) {
        turn = vr_retain_queue_take(queue);
        g_assert_cmpstr(turn->uuid, ==, "b1");
        turn->pass.more = i < 2;
        vr_retain_queue_done(queue, turn);
    }
    vr_retain_queue_done(queue, held);
    turn = vr_retain_queue_take(queue);
    g_assert_cmpstr(turn->uuid, ==, "a2");
    vr_retain_queue_done(queue, turn);
}

static gpointer
take(gpointer data)
{
    return vr_retain_queue_take(data);
}

/* Whoever waits for a turn gets one, or hears of the end, whatever waits still. */
static void
test_end(void)
{
    gint asked = 0;
    g_autoptr(VrRetainQueue) queue = vr_retain_queue_new(peer_of, &asked);
    GThread *thread = g_thread_new("take", take, queue);
    VrRetainTurn *turn;

    vr_retain_queue_add(queue, "a1");
    turn = g_thread_join(thread);
    g_assert_cmpstr(turn->uuid, ==, "a1");
    turn->pass.more = TRUE;
    vr_retain_queue_done(queue, turn);
    vr_retain_queue_end(queue);
    g_assert_null(vr_retain_queue_take(queue));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/retain-queue/fair", test_fair);
    g_test_add_func("/retain-queue/again", test_again);
    g_test_add_func("/retain-queue/apart", test_apart);
    g_test_add_func("/retain-queue/end", test_end);
    return g_test_run();
}
