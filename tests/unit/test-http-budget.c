/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/http/http_budget.h"
#include "policies/error.h"

#define MIB ((guint64) 1 << 20)

static gboolean
take(VrHttpBudget *budget, const char *peer, guint64 bytes)
{
    g_autoptr(GError) error = NULL;
    guint64 taken = 0;
    gboolean ok = vr_http_budget_take(budget, peer, bytes, &taken, &error);

    if (ok)
        g_assert_cmpuint(taken, ==, bytes);
    else
        g_assert_cmpstr(vr_error_slug(error), ==, "busy");
    return ok;
}

static void
test_of_each(void)
{
    VrHttpBudget *budget = vr_http_budget_new(40 * MIB, 128 * MIB, 1000);

    for (guint i = 0; i < 5; i++)
        g_assert_true(take(budget, "a", 8 * MIB));
    g_assert_false(take(budget, "a", 1));
    g_assert_true(take(budget, "b", 40 * MIB));
    vr_http_budget_give(budget, "a", 8 * MIB);
    g_assert_true(take(budget, "a", 8 * MIB));
    vr_http_budget_give(budget, "a", 40 * MIB);
    vr_http_budget_give(budget, "b", 40 * MIB);
    vr_http_budget_free(budget);
}

/* Whatever the others take together, a peer that has nothing gets on; nobody else does. */
static void
test_first(void)
{
    VrHttpBudget *budget = vr_http_budget_new(40 * MIB, 100 * MIB, 1000);

    g_assert_true(take(budget, "a", 40 * MIB));
    g_assert_true(take(budget, "b", 40 * MIB));
    g_assert_true(take(budget, "c", 20 * MIB));
    g_assert_true(take(budget, "d", 9 * MIB));
    g_assert_false(take(budget, "d", 9 * MIB));
    g_assert_false(take(budget, "c", 9 * MIB));
    g_assert_false(take(budget, "e", 20 * MIB));
    g_assert_false(take(budget, "", 1 * MIB)); /* nobody's */
    g_assert_true(take(budget, "e", 9 * MIB));
    vr_http_budget_free(budget);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http-budget/of-each", test_of_each);
    g_test_add_func("/http-budget/first", test_first);
    return g_test_run();
}
