/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/error.h"

G_BEGIN_DECLS

/**
 * SECTION: makes the n-th call of a fake go wrong.
 *
 * A fake's function begins with fake_fault_before() and, once it has done its work, asks
 * fake_fault_after(). Any thread.
 */
typedef enum { FAKE_TARGET, FAKE_GUEST, FAKE_CHANNELS } FakeChannel;

typedef enum {
    FAKE_FAIL,       /* not done, error */
    FAKE_FAIL_AFTER, /* done, the answer is lost */
    FAKE_AWAY,       /* as FAKE_FAIL, and so is every call after it */
    FAKE_AWAY_AFTER, /* as FAKE_FAIL_AFTER, and none after it is done */
    FAKE_KILL,       /* not done, our process is killed */
    FAKE_KILL_AFTER, /* done, then killed */
} FakeAction;

/** Counting begins anew. @nth: 1 first, 0: none goes wrong. @code: of the error. */
void fake_fault_arm(FakeChannel channel, guint nth, FakeAction action, VrError code);
/** FAKE_AWAY and FAKE_AWAY_AFTER, armed: it is back after @calls that failed. */
void fake_fault_back_after(guint calls);
void fake_fault_disarm(void);
/** TRUE once the armed call came. */
gboolean fake_fault_fired(void);

/** TRUE with @error: fail now. */
gboolean fake_fault_before(FakeChannel channel, GError **error);
/** TRUE with @error: what was done is reported as failed. */
gboolean fake_fault_after(GError **error);

G_END_DECLS
