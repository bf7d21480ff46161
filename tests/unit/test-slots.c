/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/slots.h"

#define NONE G_MAXUINT

static guint
pick(guint max, guint used, guint used_long, const VrSlotWaiter *waiters, guint n, gint64 now)
{
    VrSlots slots = {max, {used, used_long}};
    guint index = NONE;

    if (!vr_slots_pick(&slots, waiters, n, now, &index))
        g_assert_cmpuint(index, ==, NONE);
    return index;
}

static void
test_order(void)
{
    VrSlotWaiter waiters[] = {{VR_SLOT_LONG, 1}, {VR_SLOT_SCHEDULED, 2}, {VR_SLOT_SYNC, 5},
                              {VR_SLOT_SYNC, 4}, {VR_SLOT_FAILOVER, 9},  {VR_SLOT_FAILOVER, 8}};

    g_assert_cmpuint(pick(2, 0, 0, waiters, 6, 10), ==, 5);
    g_assert_cmpuint(pick(2, 0, 0, waiters, 5, 10), ==, 4);
    g_assert_cmpuint(pick(2, 0, 0, waiters, 4, 10), ==, 3);
    g_assert_cmpuint(pick(2, 0, 0, waiters, 3, 10), ==, 2);
    g_assert_cmpuint(pick(2, 0, 0, waiters, 2, 10), ==, 1);
    g_assert_cmpuint(pick(2, 0, 0, waiters, 1, 10), ==, 0);
    g_assert_cmpuint(pick(2, 0, 0, waiters, 0, 10), ==, NONE);
    g_assert_cmpuint(pick(2, 2, 0, waiters, 6, 10), ==, NONE);
}

/* However many whole disks are to be transferred, one slot is left. */
static void
test_long_leaves_one(void)
{
    VrSlotWaiter waiters[] = {{VR_SLOT_LONG, 1}, {VR_SLOT_SCHEDULED, 2}};

    for (guint max = 2; max <= 4; max++) {
        g_assert_cmpuint(pick(max, max - 2, max - 2, waiters, 1, 10), ==, 0);
        g_assert_cmpuint(pick(max, max - 1, max - 1, waiters, 1, 10), ==, NONE);
        g_assert_cmpuint(pick(max, max - 1, max - 1, waiters, 2, 10), ==, 1);
    }
    g_assert_cmpuint(pick(1, 0, 0, waiters, 1, 10), ==, 0);
    g_assert_cmpuint(pick(1, 1, 1, waiters, 2, 10), ==, NONE);
}

static void
test_patience(void)
{
    VrSlotWaiter waiters[] = {
        {VR_SLOT_SCHEDULED, 5}, {VR_SLOT_LONG, 10}, {VR_SLOT_SYNC, VR_SLOT_PATIENCE_US}};
    gint64 late = 10 + VR_SLOT_PATIENCE_US;

    g_assert_cmpuint(pick(1, 0, 0, waiters, 2, late - 1), ==, 0);
    g_assert_cmpuint(pick(1, 0, 0, waiters, 2, late), ==, 1);
    g_assert_cmpuint(pick(1, 0, 0, waiters, 3, late), ==, 2);
    g_assert_cmpuint(pick(3, 2, 2, waiters, 2, late), ==, 0);
}

/* A peer that holds what it gets leaves one slot to the others, and one of its own to its deltas.
 */
static void
test_peers_share(void)
{
    VrSlotWaiter waiters[] = {{VR_SLOT_FAILOVER, 1, {2, 0}, TRUE},
                              {VR_SLOT_SCHEDULED, 2, {0, 0}, TRUE}};
    VrSlotWaiter second_long = {VR_SLOT_LONG, 1, {1, 1}, TRUE};
    VrSlots slots = {3, {1, 1}};

    g_assert_cmpuint(pick(3, 2, 0, waiters, 1, 10), ==, NONE);
    g_assert_cmpuint(pick(3, 2, 0, waiters, 2, 10), ==, 1);
    g_assert_cmpuint(pick(4, 2, 0, waiters, 2, 10), ==, 0);
    g_assert_false(vr_slots_admit(&slots, &second_long));
    second_long.rivals = waiters[0].rivals = FALSE;
    g_assert_true(vr_slots_admit(&slots, &second_long));
    g_assert_cmpuint(pick(3, 2, 0, waiters, 2, 10), ==, 0);
    /* with fewer there is none to leave */
    waiters[0].rivals = TRUE;
    waiters[0].peer.used = 1;
    g_assert_cmpuint(pick(2, 1, 0, waiters, 1, 10), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/slots/order", test_order);
    g_test_add_func("/slots/long-leaves-one", test_long_leaves_one);
    g_test_add_func("/slots/patience", test_patience);
    g_test_add_func("/slots/peers-share", test_peers_share);
    return g_test_run();
}
