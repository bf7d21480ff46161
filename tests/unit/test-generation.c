/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/error.h"
#include "policies/generation.h"
#include "policies/ids.h"

typedef char Id[VR_ID_LENGTH + 1];

static void
random_id(Id id)
{
    for (guint i = 0; i < VR_ID_LENGTH; i++)
        id[i] = "0123456789abcdef"[g_test_rand_int_range(0, 16)];
    id[VR_ID_LENGTH] = '\0';
}

static VrGeneration *
fresh(const char *owner)
{
    Id id;

    random_id(id);
    return vr_generation_new(id, owner);
}

static VrGeneration *
next_of(const VrGeneration *generation, const char *owner)
{
    Id id;

    random_id(id);
    return vr_generation_advance(generation, id, owner);
}

static VrGenerationRelation
mirror(VrGenerationRelation relation)
{
    if (relation == VR_GENERATION_BEHIND)
        return VR_GENERATION_AHEAD;
    return relation == VR_GENERATION_AHEAD ? VR_GENERATION_BEHIND : relation;
}

static void
assert_relation(const VrGeneration *a, const VrGeneration *b, VrGenerationRelation want)
{
    g_assert_cmpstr(vr_generation_relation_name(vr_generation_compare(a, b)), ==,
                    vr_generation_relation_name(want));
    g_assert_cmpint(vr_generation_compare(b, a), ==, mirror(want));
}

static void
test_relations(void)
{
    g_autoptr(VrGeneration) root = fresh("hostA");
    g_autoptr(VrGeneration) left = next_of(root, "hostA");
    g_autoptr(VrGeneration) right = next_of(root, "hostB");
    g_autoptr(VrGeneration) left2 = next_of(left, "hostB");
    g_autoptr(VrGeneration) other = fresh("hostA");
    g_autoptr(VrGeneration) stolen = vr_generation_new(vr_generation_id(root), "hostB");

    assert_relation(root, root, VR_GENERATION_SAME);
    assert_relation(root, left, VR_GENERATION_BEHIND);
    assert_relation(root, left2, VR_GENERATION_BEHIND);
    assert_relation(left, right, VR_GENERATION_SPLIT_BRAIN);
    assert_relation(left2, right, VR_GENERATION_SPLIT_BRAIN);
    assert_relation(root, other, VR_GENERATION_UNRELATED);
    assert_relation(left2, other, VR_GENERATION_UNRELATED);
    assert_relation(root, stolen, VR_GENERATION_SPLIT_BRAIN);
}

static void
test_impossible_history(void)
{
    Id a, b;
    g_autofree char *line_a = NULL;
    g_autofree char *line_b = NULL;
    g_autoptr(VrGeneration) x = NULL;
    g_autoptr(VrGeneration) y = NULL;

    random_id(a);
    random_id(b);
    line_a = g_strdup_printf("1 %s h %s", a, b);
    line_b = g_strdup_printf("1 %s h %s", b, a);
    x = vr_generation_from_line(line_a, NULL);
    y = vr_generation_from_line(line_b, NULL);
    assert_relation(x, y, VR_GENERATION_SPLIT_BRAIN);
}

static void
test_arguments(void)
{
    g_autofree char *long_owner = g_strnfill(VR_GENERATION_OWNER_MAX + 1, 'a');
    g_autoptr(VrGeneration) generation = fresh("SHA256:ab+/=");
    g_autoptr(VrGeneration) next = next_of(generation, "b");
    Id id;

    random_id(id);
    g_assert_nonnull(generation);
    g_assert_null(vr_generation_new("short", "a"));
    g_assert_null(vr_generation_new(id, ""));
    g_assert_null(vr_generation_new(id, "a b"));
    g_assert_null(vr_generation_new(id, NULL));
    g_assert_null(vr_generation_new(id, long_owner));
    g_assert_null(vr_generation_advance(next, vr_generation_id(next), "a"));
    g_assert_null(vr_generation_advance(next, vr_generation_id(generation), "a"));
}

static void
test_ancestors_kept(void)
{
    g_autoptr(VrGeneration) first = fresh("a");
    g_autoptr(VrGeneration) generation = next_of(first, "a");

    for (guint i = 2; i <= 64; i++) {
        VrGeneration *next = next_of(generation, i % 2 ? "a" : "b");

        vr_generation_free(generation);
        generation = next;
        g_assert_cmpuint(vr_generation_ancestors(generation), ==, i);
    }
    assert_relation(first, generation, VR_GENERATION_BEHIND);
    for (guint i = 0; i < 3; i++) {
        VrGeneration *next = next_of(generation, "a");
        g_autofree char *line = vr_generation_to_line(next);

        vr_generation_free(generation);
        generation = next;
        g_assert_cmpuint(strlen(line), <, 2300);
    }
    g_assert_cmpuint(vr_generation_ancestors(generation), ==, 64);
    assert_relation(first, generation, VR_GENERATION_UNRELATED);
}

static void
test_bad_lines(void)
{
    static const char id[] = "0123456789abcdef0123456789abcdef";
    static const char other[] = "1123456789abcdef0123456789abcdef";
    g_autoptr(GString) many = g_string_new(NULL);
    char *lines[] = {
        g_strdup(""),
        g_strdup("1"),
        g_strdup_printf("1 %s h", id),
        g_strdup_printf("2 %s h -", id),
        g_strdup_printf("1 %s h ", id),
        g_strdup_printf("1 %s h - x", id),
        g_strdup_printf("1 %s h %s", id, id),
        g_strdup_printf("1 %s h %s,%s", id, other, other),
        g_strdup_printf("1 %s h %s,", id, other),
        g_strdup_printf("1 %s h -\n", id),
        g_strdup_printf("1  %s h -", id),
        g_strnfill(5000, 'a'),
        NULL,
    };

    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(vr_generation_from_line(lines[i], &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++)
        g_free(lines[i]);
    g_string_append_printf(many, "1 %s h ", id);
    for (guint i = 0; i < 65; i++) {
        Id ancestor;

        random_id(ancestor);
        g_string_append_printf(many, "%s%s", i > 0 ? "," : "", ancestor);
    }
    g_assert_null(vr_generation_from_line(many->str, NULL));
}

/* Random trees of history; the truth is known from the parents. Compare must agree, both ways, and
 * survive the trip through text. */
static void
test_random_histories(void)
{
    enum { NODES = 24 };

    for (guint run = 0; run < 150; run++) {
        VrGeneration *nodes[NODES];
        int parent[NODES];

        for (int i = 0; i < NODES; i++) {
            parent[i] = i == 0 ? -1 : g_test_rand_int_range(i > 6 ? -1 : 0, i);
            nodes[i] = parent[i] < 0 ? fresh("a") : next_of(nodes[parent[i]], i % 2 ? "a" : "b");
        }
        for (int i = 0; i < NODES; i++) {
            g_autofree char *line = vr_generation_to_line(nodes[i]);
            g_autoptr(VrGeneration) copy = vr_generation_from_line(line, NULL);
            gboolean above_i[NODES] = {FALSE};

            g_assert_nonnull(copy);
            for (int k = i; k >= 0; k = parent[k])
                above_i[k] = TRUE;
            for (int j = 0; j < NODES; j++) {
                VrGenerationRelation want = VR_GENERATION_UNRELATED;
                int meet = j;

                while (meet >= 0 && !above_i[meet])
                    meet = parent[meet];
                if (meet >= 0)
                    want = i == j      ? VR_GENERATION_SAME
                           : meet == i ? VR_GENERATION_BEHIND
                           : meet == j ? VR_GENERATION_AHEAD
                                       : VR_GENERATION_SPLIT_BRAIN;
                assert_relation(copy, nodes[j], want);
            }
        }
        for (int i = 0; i < NODES; i++)
            vr_generation_free(nodes[i]);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/generation/relations", test_relations);
    g_test_add_func("/generation/impossible-history", test_impossible_history);
    g_test_add_func("/generation/arguments", test_arguments);
    g_test_add_func("/generation/ancestors-kept", test_ancestors_kept);
    g_test_add_func("/generation/bad-lines", test_bad_lines);
    g_test_add_func("/generation/random-histories", test_random_histories);
    return g_test_run();
}
