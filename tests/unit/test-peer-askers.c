/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_askers.h"

typedef struct {
    gint hung, others; /* atomic: began */
    gint ended;        /* atomic */
} Asked;

static void
ask(const char *fingerprint, GCancellable *cancel, gpointer data)
{
    Asked *asked = data;
    gboolean hangs = g_str_equal(fingerprint, "hung");

    g_atomic_int_inc(hangs ? &asked->hung : &asked->others);
    while (hangs && !g_cancellable_is_cancelled(cancel))
        g_usleep(1000);
    g_atomic_int_inc(&asked->ended);
}

static void
wait_for(gint *counter, gint value)
{
    while (g_atomic_int_get(counter) < value)
        g_usleep(1000);
}

/* One that hangs is not asked again, and holds up no other; the end does not wait for its answer.
 */
static void
test_hung(void)
{
    Asked asked = {0};
    VrPeerAskers *askers = vr_peer_askers_new(ask, &asked);

    g_assert_true(vr_peer_askers_ask(askers, "hung"));
    wait_for(&asked.hung, 1);
    g_assert_false(vr_peer_askers_ask(askers, "hung"));
    for (gint i = 1; i <= 10; i++) {
        while (!vr_peer_askers_ask(askers, "other"))
            g_usleep(1000);
        wait_for(&asked.others, i);
    }
    vr_peer_askers_free(askers);
    g_assert_cmpint(asked.hung, ==, 1);
    g_assert_cmpint(asked.ended, ==, 11);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-askers/hung", test_hung);
    return g_test_run();
}
