/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/fakes/fake-fault.h"

#include <signal.h>
#include <unistd.h>

#define AWAY (-1)

static struct {
    FakeChannel channel;
    FakeAction action;
    VrError code;
    gint countdown; /* atomic; 0: none, AWAY */
    gint fired;     /* atomic */
    gint away;      /* atomic; calls that fail before it is back; 0: all */
} armed;

static __thread gboolean pending; /* the call of this thread is the one, behind its work */

void
fake_fault_arm(FakeChannel channel, guint nth, FakeAction action, VrError code)
{
    armed.channel = channel;
    armed.action = action;
    armed.code = code;
    g_atomic_int_set(&armed.fired, 0);
    g_atomic_int_set(&armed.away, 0);
    g_atomic_int_set(&armed.countdown, (gint) nth);
    pending = FALSE;
}

void
fake_fault_back_after(guint calls)
{
    g_atomic_int_set(&armed.away, (gint) calls);
}

void
fake_fault_disarm(void)
{
    g_atomic_int_set(&armed.countdown, 0);
}

gboolean
fake_fault_fired(void)
{
    return g_atomic_int_get(&armed.fired) != 0;
}

static gboolean
is_away(void)
{
    return g_atomic_int_get(&armed.countdown) == AWAY;
}

static gboolean
act(GError **error)
{
    if (armed.action == FAKE_KILL || armed.action == FAKE_KILL_AFTER)
        kill(getpid(), SIGKILL);
    vr_set_error(error, armed.code, "armed", NULL, "armed to fail");
    return TRUE;
}

gboolean
fake_fault_before(FakeChannel channel, GError **error)
{
    pending = FALSE;
    if (channel != armed.channel || g_atomic_int_get(&armed.countdown) == 0)
        return FALSE;
    if (is_away()) {
        if (g_atomic_int_get(&armed.away) > 0 && g_atomic_int_dec_and_test(&armed.away))
            g_atomic_int_set(&armed.countdown, 0);
        return act(error);
    }
    if (!g_atomic_int_dec_and_test(&armed.countdown))
        return FALSE;
    g_atomic_int_set(&armed.fired, 1);
    if (armed.action == FAKE_AWAY || armed.action == FAKE_AWAY_AFTER)
        g_atomic_int_set(&armed.countdown, AWAY);
    pending = armed.action == FAKE_FAIL_AFTER || armed.action == FAKE_AWAY_AFTER ||
              armed.action == FAKE_KILL_AFTER;
    return !pending && act(error);
}

gboolean
fake_fault_after(GError **error)
{
    if (!pending)
        return FALSE;
    pending = FALSE;
    return act(error);
}
