/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/peer/peer_quota.h"
#include "plugin/peer/peer_room.h"
#include "policies/error.h"
#include "storage/replica/layer.h"
#include "storage/replica/manifest.h"
#include "storage/util/file_util.h"
#include "storage/util/sha256.h"
#include "storage/state/state_peer.h"
#include "storage/state/state_protection.h"
#include "storage/state/state_rp.h"

#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define WEB "11111111-1111-4111-8111-111111111111"
#define DB "22222222-2222-4222-8222-222222222222"
#define MIB (G_GUINT64_CONSTANT(1) << 20)

typedef struct {
    char *dir;
    VrState *state;
    VrPeerQuota *quota;
    guint64 room; /* of each replica */
    gint accepted;
    gint looking;  /* atomic; 1: room() is to wait, 2: it does, 0: no more */
    gint slow;     /* atomic; room() has waited in vain */
    GError *error; /* owned: of a thread */
} Fixture;

static guint64
room(gpointer data, const VrProtection *row)
{
    Fixture *f = data;

    if (g_atomic_int_compare_and_exchange(&f->looking, 1, 2)) {
        gint64 end = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;

        while (g_atomic_int_get(&f->looking) == 2 && g_get_monotonic_time() < end)
            g_usleep(1000);
        g_atomic_int_set(&f->slow, g_atomic_int_get(&f->looking) == 2);
    }
    return f->room;
}

static void
add_peer(Fixture *f, const char *fingerprint, const char *name)
{
    VrPeer peer = {
        .fingerprint = (char *) fingerprint,
        .name = (char *) name,
        .address = (char *) "10.0.0.1:16540",
    };

    g_assert_true(vr_state_peer_put(f->state, &peer, NULL));
}

static gboolean
add_replica(Fixture *f, const char *uuid, const char *peer, VrRole role)
{
    g_autofree char *text = g_strdup("");
    VrProtection row = {
        .uuid = (char *) uuid,
        .name = (char *) "n",
        .role = role,
        .peer = (char *) peer,
        .store = (char *) "default",
        .policy = (char *) "default",
        .policy_text = text,
        .generation = (char *) "g",
        .exclude = text,
        .state = VR_PROTECTION_PROTECTED,
    };

    return vr_state_protection_insert(f->state, &row, NULL);
}

static void
add_point(Fixture *f, const char *uuid, guint64 number, const char *cycle, guint64 bytes)
{
    VrRpRow row = {
        .uuid = (char *) uuid,
        .rp = {.number = number, .cycle = (char *) cycle, .root = (char *) "r", .bytes = bytes},
        .disks = (char *) "[]",
        .attachments = (char *) "[]",
    };

    g_assert_true(vr_state_rp_commit(f->state, &row, NULL));
}

static void
setup(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("vr-quota-XXXXXX", NULL);
    f->state = vr_state_open(f->dir, NULL);
    add_peer(f, PEER, "kvm1");
    add_peer(f, OTHER, "kvm3");
    f->quota = vr_peer_quota_new(f->state, "kvm2", room, f);
}

static void
teardown(Fixture *f, gconstpointer data)
{
    vr_peer_quota_free(f->quota);
    vr_state_close(f->state);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
}

static void
assert_over(Fixture *f, const char *uuid, const char *cycle, guint64 bytes)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(vr_peer_quota_take(f->quota, PEER, uuid, cycle, bytes, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NO_SPACE);
    g_assert_cmpstr(vr_error_slug(error), ==, "quota-exceeded");
    g_assert_nonnull(strstr(error->message, "kvm1"));
    g_assert_nonnull(
        strstr(vr_error_action(error), "On host 'kvm2': virt-replica peer-set kvm1 --quota"));
}

static gboolean
take(Fixture *f, const char *uuid, const char *cycle, guint64 bytes)
{
    return vr_peer_quota_take(f->quota, PEER, uuid, cycle, bytes, NULL);
}

static void
test_bytes(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    guint number = 0;
    guint64 used = 0;

    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(add_replica(f, DB, PEER, VR_ROLE_TARGET));
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c1", 0, NULL));
    g_assert_true(take(f, WEB, "c1", 1000 * MIB)); /* no limit */
    g_assert_true(vr_state_peer_set_quota(f->state, PEER, 10 * MIB, NULL));

    /* The limit counts from the next cycle on; what it holds already too. */
    g_assert_false(vr_peer_quota_begin(f->quota, PEER, WEB, "c2", 11 * MIB, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "quota-exceeded");
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c3", 4 * MIB, NULL));
    g_assert_true(take(f, WEB, "c3", 4 * MIB));
    assert_over(f, DB, "d1", 3 * MIB);
    g_assert_true(take(f, DB, "d1", 2 * MIB));
    assert_over(f, WEB, "c3", 1);

    /* Nobody frees it by ending another cycle, nor by repeating the end of an old one. */
    vr_peer_quota_end(f->quota, PEER, WEB, "c2");
    assert_over(f, WEB, "c3", 1);
    add_point(f, WEB, 1, "c3", 6 * MIB); /* what was sent twice is stored once */
    vr_peer_quota_end(f->quota, PEER, WEB, "c3");
    g_assert_true(vr_peer_quota_usage(f->quota, PEER, &number, &used, NULL));
    g_assert_cmpuint(number, ==, 2);
    g_assert_cmpuint(used, ==, 8 * MIB);
    g_assert_true(take(f, DB, "d1", 2 * MIB));
    assert_over(f, DB, "d1", 1);

    /* Raised: at once. A replica that is gone has no open cycle. */
    g_assert_true(vr_state_peer_set_quota(f->state, PEER, 11 * MIB, NULL));
    g_assert_true(take(f, DB, "d1", MIB));
    g_assert_true(vr_state_protection_delete(f->state, DB, NULL));
    g_assert_true(take(f, WEB, "c4", 5 * MIB));
}

static void
test_peers_apart(Fixture *f, gconstpointer data)
{
    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(add_replica(f, DB, OTHER, VR_ROLE_TARGET));
    g_assert_true(vr_state_peer_set_quota(f->state, PEER, MIB, NULL));
    add_point(f, DB, 1, "d1", 100 * MIB);
    g_assert_true(vr_peer_quota_begin(f->quota, OTHER, DB, "d2", 100 * MIB, NULL));
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c1", 0, NULL));
    g_assert_true(take(f, WEB, "c1", MIB));
}

static void
test_replicas(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_state_peer_set_max_protections(f->state, PEER, 1, NULL));
    g_assert_true(add_replica(f, DB, PEER, VR_ROLE_SOURCE)); /* ours, not a replica of it */
    g_assert_true(vr_peer_quota_check_new(f->quota, PEER, &error));
    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_false(vr_peer_quota_check_new(f->quota, PEER, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    g_assert_cmpstr(vr_error_slug(error), ==, "too-many-protections");
    g_assert_nonnull(strstr(vr_error_action(error), "peer-set kvm1 --max-protections"));
    g_assert_true(vr_peer_quota_check_new(f->quota, OTHER, NULL));
}

/* What lies beside the recovery points counts, as it was where a cycle began or ended. */
static void
test_room(Fixture *f, gconstpointer data)
{
    guint number;
    guint64 used;

    f->room = 3 * MIB;
    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(add_replica(f, DB, PEER, VR_ROLE_TARGET));
    g_assert_true(vr_state_peer_set_quota(f->state, PEER, 10 * MIB, NULL));
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c1", 0, NULL));
    g_assert_true(take(f, WEB, "c1", 4 * MIB));
    assert_over(f, WEB, "c1", 1);
    f->room = 0;
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c2", 0, NULL));
    g_assert_true(take(f, WEB, "c2", 7 * MIB));
    assert_over(f, WEB, "c2", 1);
    g_assert_true(vr_peer_quota_usage(f->quota, PEER, &number, &used, NULL));
    g_assert_cmpuint(used, ==, 10 * MIB);
    g_assert_true(vr_state_protection_delete(f->state, DB, NULL));
    g_assert_true(take(f, WEB, "c2", 3 * MIB));
}

/* A cycle of large disks has room for what it makes before its first chunk. */
static void
test_begin_room(Fixture *f, gconstpointer data)
{
    g_autoptr(VrCycleBegin) begin = g_new0(VrCycleBegin, 1);
    guint64 groups = MIB * MIB * 64 / VR_CHUNK_SIZE / VR_MANIFEST_GROUP_CHUNKS * VR_SHA256_LEN;

    begin->disks = vr_cycle_disks_new();
    vr_cycle_disks_add(begin->disks, "vda", 64 * MIB * MIB);
    vr_cycle_disks_add(begin->disks, "vdb", 64 * MIB * MIB);
    g_assert_cmpuint(vr_peer_room_of_begin(begin), >,
                     2 * (groups + vr_layer_empty_bytes(64 * MIB * MIB)));
}

/* A cycle that takes the place of another one is not kept away by that one's bytes, others are. */
static void
test_replaced(Fixture *f, gconstpointer data)
{
    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(add_replica(f, DB, PEER, VR_ROLE_TARGET));
    g_assert_true(vr_state_peer_set_quota(f->state, PEER, 10 * MIB, NULL));
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c1", 8 * MIB, NULL));
    g_assert_false(vr_peer_quota_prepare(f->quota, PEER, DB, 1, 3 * MIB, NULL));
    g_assert_false(vr_peer_quota_prepare(f->quota, PEER, WEB, 1, 11 * MIB, NULL));
    g_assert_true(vr_peer_quota_prepare(f->quota, PEER, WEB, 1, 3 * MIB, NULL));
    vr_peer_quota_release(f->quota, PEER, 3 * MIB);
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c2", 3 * MIB, NULL));
    g_assert_true(vr_peer_quota_prepare(f->quota, PEER, DB, 1, 3 * MIB, NULL));
}

/* What is gone takes no room, whoever asks first. */
static void
test_dropped(Fixture *f, gconstpointer data)
{
    guint number;
    guint64 used;

    f->room = 3 * MIB;
    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(vr_peer_quota_usage(f->quota, PEER, &number, &used, NULL));
    g_assert_cmpuint(used, ==, 3 * MIB);
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c1", MIB, NULL));
    g_assert_true(vr_state_protection_delete(f->state, WEB, NULL));
    g_assert_true(vr_peer_quota_usage(f->quota, PEER, &number, &used, NULL));
    g_assert_cmpuint(number, ==, 0);
    g_assert_cmpuint(used, ==, 0);
}

/* What is reserved is nobody else's, whatever becomes of the cycle, until it is given back. */
static void
test_reserved(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(vr_state_peer_set_quota(f->state, PEER, 10 * MIB, NULL));
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c1", 0, NULL));
    g_assert_true(vr_peer_quota_reserve(f->quota, PEER, 6 * MIB, NULL));
    g_assert_false(vr_peer_quota_reserve(f->quota, PEER, 6 * MIB, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "quota-exceeded");
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c2", 0, NULL));
    assert_over(f, WEB, "c2", 5 * MIB);
    vr_peer_quota_charge(f->quota, PEER, WEB, "c2", 2 * MIB);
    assert_over(f, WEB, "c2", 5 * MIB);
    vr_peer_quota_release(f->quota, PEER, 4 * MIB);
    assert_over(f, WEB, "c2", 9 * MIB);
    g_assert_true(take(f, WEB, "c2", 8 * MIB));
}

static gpointer
reserve_many(gpointer data)
{
    Fixture *f = data;

    for (guint i = 0; i < 50; i++) {
        if (vr_peer_quota_reserve(f->quota, PEER, MIB, NULL))
            g_atomic_int_inc(&f->accepted);
    }
    return NULL;
}

/* Parallel requests share the one quota. */
static void
test_parallel(Fixture *f, gconstpointer data)
{
    GThread *threads[8];

    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(vr_state_peer_set_quota(f->state, PEER, 100 * MIB, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("reserve", reserve_many, f);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(f->accepted, ==, 100);
}

static gpointer
begin_or_end(gpointer data)
{
    Fixture *f = data;

    if (f->accepted)
        vr_peer_quota_end(f->quota, PEER, WEB, "c1");
    else
        vr_peer_quota_begin(f->quota, PEER, WEB, "c1", MIB, &f->error);
    return NULL;
}

/* Looking at the files of a replica takes long, and nobody waits for it: neither another peer nor
 * the same one. What was looked at then counts as it is. */
static void
test_slow_room(Fixture *f, gconstpointer data)
{
    guint number;
    guint64 used;

    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(add_replica(f, DB, OTHER, VR_ROLE_TARGET));
    g_assert_true(vr_state_peer_set_quota(f->state, PEER, 10 * MIB, NULL));
    g_assert_true(vr_peer_quota_usage(f->quota, PEER, &number, &used, NULL));
    g_assert_true(vr_peer_quota_begin(f->quota, OTHER, DB, "d1", 0, NULL));
    f->room = 3 * MIB;
    for (f->accepted = 0; f->accepted < 2; f->accepted++) {
        GThread *thread;

        if (f->accepted)
            add_point(f, WEB, 1, "c1", MIB);
        g_atomic_int_set(&f->looking, 1);
        thread = g_thread_new("slow", begin_or_end, f);
        while (g_atomic_int_get(&f->looking) == 1)
            g_usleep(1000);
        g_assert_true(vr_peer_quota_take(f->quota, OTHER, DB, "d1", MIB, NULL));
        g_assert_true(take(f, WEB, "c1", MIB));
        g_atomic_int_set(&f->looking, 0);
        g_thread_join(thread);
        g_assert_no_error(f->error);
        g_assert_false(f->slow);
    }
    g_assert_true(vr_peer_quota_usage(f->quota, PEER, &number, &used, NULL));
    g_assert_cmpuint(used, ==, 4 * MIB);
}

/* What was asked before a cycle ended, and comes back after that, does not undo what was counted
 * then. */
static void
test_late_answer(Fixture *f, gconstpointer data)
{
    GThread *thread;
    guint number;
    guint64 used;

    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(add_replica(f, DB, PEER, VR_ROLE_TARGET));
    g_assert_true(vr_state_peer_set_quota(f->state, PEER, 11 * MIB, NULL));
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, DB, "d1", 8 * MIB, NULL));
    g_atomic_int_set(&f->looking, 1);
    thread = g_thread_new("late", begin_or_end, f);
    while (g_atomic_int_get(&f->looking) == 1)
        g_usleep(1000);
    add_point(f, DB, 1, "d1", 6 * MIB);
    f->room = 2 * MIB;
    vr_peer_quota_end(f->quota, PEER, DB, "d1");
    g_atomic_int_set(&f->looking, 0);
    g_thread_join(thread);
    g_assert_no_error(f->error);
    assert_over(f, WEB, "c1", 1); /* 6 stored, two rooms of 2, and 1 held */
    g_assert_true(vr_peer_quota_usage(f->quota, PEER, &number, &used, NULL));
    g_assert_cmpuint(used, ==, 11 * MIB);
}

/* Many domains with many disks each: at BEGIN, and also while the others' first cycles are open. */
static void
test_disks(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(add_replica(f, WEB, PEER, VR_ROLE_TARGET));
    g_assert_true(add_replica(f, DB, PEER, VR_ROLE_TARGET));
    g_assert_true(vr_state_peer_set_max_protections(f->state, PEER, 2, NULL));
    g_assert_true(vr_peer_quota_prepare(f->quota, PEER, WEB, 60, 0, NULL));
    g_assert_true(vr_peer_quota_begin(f->quota, PEER, WEB, "c1", 0, NULL));
    g_assert_true(vr_peer_quota_prepare(f->quota, PEER, WEB, 60, 0, NULL));
    g_assert_true(vr_peer_quota_prepare(f->quota, PEER, DB, 4, 0, NULL));
    g_assert_false(vr_peer_quota_prepare(f->quota, PEER, DB, 5, 0, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    g_assert_cmpstr(vr_error_slug(error), ==, "too-many-disks");
    g_assert_nonnull(strstr(error->message, "60 disks"));
    g_assert_nonnull(strstr(vr_error_action(error), "On host 'kvm2': virt-replica peer-set kvm1"));
    add_point(f, WEB, 1, "c1", MIB); /* of no disk, as this test makes it */
    vr_peer_quota_end(f->quota, PEER, WEB, "c1");
    g_assert_true(vr_peer_quota_prepare(f->quota, PEER, DB, 5, 0, NULL));
    g_assert_true(vr_peer_quota_prepare(f->quota, OTHER, DB, 64, 0, NULL));
}

static void
test_host(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_state_begin(f->state, NULL));
    for (guint i = 0; i < VR_HOST_PROTECTIONS_MAX; i++) {
        g_autofree char *uuid = g_strdup_printf("33333333-3333-4333-8333-%012u", i);

        g_assert_true(vr_peer_quota_check_new(f->quota, OTHER, NULL));
        g_assert_true(add_replica(f, uuid, PEER, i % 2 ? VR_ROLE_SOURCE : VR_ROLE_TARGET));
    }
    g_assert_true(vr_state_commit(f->state, NULL));
    g_assert_false(vr_peer_quota_check_new(f->quota, OTHER, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "too-many-protections");
    g_assert_nonnull(strstr(error->message, "500"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/peer-quota/" name, Fixture, NULL, setup, func, teardown)
    ADD("bytes", test_bytes);
    ADD("peers-apart", test_peers_apart);
    ADD("replicas", test_replicas);
    ADD("host", test_host);
    ADD("room", test_room);
    ADD("begin-room", test_begin_room);
    ADD("replaced", test_replaced);
    ADD("dropped", test_dropped);
    ADD("reserved", test_reserved);
    ADD("parallel", test_parallel);
    ADD("slow-room", test_slow_room);
    ADD("late-answer", test_late_answer);
    ADD("disks", test_disks);
    return g_test_run();
}
