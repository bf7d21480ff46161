/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/peer/peer_quota.h"
#include "policies/error.h"
#include "storage/file_util.h"
#include "storage/state_peer.h"
#include "storage/state_protection.h"
#include "storage/state_rp.h"

#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define WEB "11111111-1111-4111-8111-111111111111"
#define DB "22222222-2222-4222-8222-222222222222"
#define MIB (G_GUINT64_CONSTANT(1) << 20)

typedef struct {
    char *dir;
    VrState *state;
    VrPeerQuota *quota;
} Fixture;

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
    f->quota = vr_peer_quota_new(f->state, "kvm2");
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
    return g_test_run();
}
