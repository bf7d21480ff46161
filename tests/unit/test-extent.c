/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "policies/extent.h"

#define SIZE 64
#define NONE 9

/* One byte of the map per byte of the disk: NONE or the flags. The model the lists are judged by.
 */
typedef guint8 Map[SIZE];

static void
map_of(const VrExtents *extents, Map map)
{
    memset(map, NONE, SIZE);
    for (guint i = 0; i < vr_extents_count(extents); i++) {
        const VrExtent *e = vr_extents_get(extents, i);

        g_assert_cmpuint(e->length, >, 0);
        g_assert_cmpuint(e->offset + e->length, <=, SIZE);
        if (i > 0) {
            const VrExtent *before = vr_extents_get(extents, i - 1);

            g_assert_cmpuint(before->offset + before->length, <=, e->offset);
            if (before->offset + before->length == e->offset)
                g_assert_cmpuint(before->flags, !=, e->flags);
        }
        memset(map + e->offset, (int) e->flags, e->length);
    }
}

static VrExtents *
random_extents(void)
{
    VrExtents *extents = vr_extents_new();
    guint64 position = 0;

    while (position < SIZE) {
        guint64 length = (guint64) g_test_rand_int_range(1, 9);
        int kind = g_test_rand_int_range(0, 3);

        length = MIN(length, SIZE - position);
        if (kind < 2)
            g_assert_true(vr_extents_append(extents, position, length, (guint32) kind));
        position += length;
    }
    return extents;
}

static void
test_append(void)
{
    g_autoptr(VrExtents) extents = vr_extents_new();

    g_assert_true(vr_extents_append(extents, 0, 0, VR_EXTENT_DATA));
    g_assert_cmpuint(vr_extents_count(extents), ==, 0);
    g_assert_true(vr_extents_append(extents, 10, 5, VR_EXTENT_DATA));
    g_assert_true(vr_extents_append(extents, 15, 5, VR_EXTENT_DATA));
    g_assert_true(vr_extents_append(extents, 20, 5, VR_EXTENT_ZERO));
    g_assert_true(vr_extents_append(extents, 30, 5, VR_EXTENT_ZERO));
    g_assert_false(vr_extents_append(extents, 34, 1, VR_EXTENT_ZERO));
    g_assert_false(vr_extents_append(extents, 0, 1, VR_EXTENT_ZERO));
    g_assert_false(vr_extents_append(extents, G_MAXUINT64, 2, VR_EXTENT_ZERO));
    g_assert_cmpuint(vr_extents_count(extents), ==, 3);
    g_assert_cmpuint(vr_extents_get(extents, 0)->length, ==, 10);
    g_assert_cmpuint(vr_extents_bytes(extents, VR_EXTENT_DATA), ==, 10);
    g_assert_cmpuint(vr_extents_bytes(extents, VR_EXTENT_ZERO), ==, 10);
}

static void
test_align_huge(void)
{
    g_autoptr(VrExtents) extents = vr_extents_new();
    g_autoptr(VrExtents) aligned = NULL;

    g_assert_true(vr_extents_append(extents, G_MAXUINT64 - 10, 5, VR_EXTENT_DATA));
    aligned = vr_extents_align(extents, 65536, G_MAXUINT64);
    g_assert_cmpuint(vr_extents_count(aligned), ==, 1);
    g_assert_cmpuint(vr_extents_get(aligned, 0)->offset, ==, G_MAXUINT64 - 65535);
    g_assert_cmpuint(vr_extents_get(aligned, 0)->length, ==, 65535);
}

static void
test_align_random(void)
{
    static const guint aligns[] = {1, 2, 3, 8, 16, 64, 100};

    for (guint run = 0; run < 3000; run++) {
        g_autoptr(VrExtents) extents = random_extents();
        g_autoptr(VrExtents) aligned = NULL;
        guint align = aligns[run % G_N_ELEMENTS(aligns)];
        guint size = (guint) g_test_rand_int_range(0, SIZE + 1);
        Map in, out, want;

        aligned = vr_extents_align(extents, align, size);
        map_of(extents, in);
        map_of(aligned, out);
        memset(want, NONE, SIZE);
        for (guint i = 0; i < size; i++) {
            guint start = i - i % align;

            for (guint k = start; k < MIN(start + align, size); k++)
                want[i] = MIN(want[i], in[k]);
        }
        g_assert_cmpmem(out, SIZE, want, SIZE);
    }
}

static void
test_set_operations_random(void)
{
    for (guint run = 0; run < 3000; run++) {
        g_autoptr(VrExtents) a = random_extents();
        g_autoptr(VrExtents) b = random_extents();
        g_autoptr(VrExtents) both = vr_extents_intersect(a, b);
        g_autoptr(VrExtents) either = vr_extents_union(a, b);
        Map map_a, map_b, map_both, map_either;

        map_of(a, map_a);
        map_of(b, map_b);
        map_of(both, map_both);
        map_of(either, map_either);
        for (guint i = 0; i < SIZE; i++) {
            g_assert_cmpuint(map_either[i], ==, MIN(map_a[i], map_b[i]));
            g_assert_cmpuint(map_both[i], ==, map_b[i] == NONE ? NONE : map_a[i]);
        }
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/extent/append", test_append);
    g_test_add_func("/extent/align-huge", test_align_huge);
    g_test_add_func("/extent/align-random", test_align_random);
    g_test_add_func("/extent/set-operations-random", test_set_operations_random);
    return g_test_run();
}
