/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/replicas.h"
#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/state/state_peer.h"
#include "storage/state/state_rp.h"

#define UUID "11111111-2222-3333-4444-555555555555"
#define UUID_B "22222222-2222-3333-4444-555555555555"
#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

typedef struct {
    char *dir;
    VrState *state;
    VrReplicas *replicas;
} Fixture;

static void
add_protection_of(Fixture *f, const char *uuid, VrRole role)
{
    g_autoptr(GError) error = NULL;
    VrProtection row = {
        .uuid = (char *) uuid,
        .name = (char *) "web1",
        .role = role,
        .peer = (char *) PEER,
        .store = (char *) "default",
        .policy = (char *) "default",
        .policy_text = (char *) "[policy]\ninterval=30s\n",
        .state = VR_PROTECTION_PROTECTED,
        .generation = (char *) "g",
        .exclude = (char *) "",
    };

    g_assert_true(vr_state_protection_insert(f->state, &row, &error));
    g_assert_no_error(error);
}

static void
add_protection(Fixture *f, VrRole role)
{
    add_protection_of(f, UUID, role);
}

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autofree char *store = NULL;
    g_autofree char *manifests = NULL;
    g_autoptr(GError) error = NULL;
    VrPeer peer = {(char *) PEER, (char *) "kvm1", (char *) "10.0.0.1:16540", 5, 0};

    f->dir = g_dir_make_tmp("vr-replicas-XXXXXX", NULL);
    store = g_build_filename(f->dir, "store", NULL);
    manifests = g_build_filename(f->dir, "manifests", NULL);
    g_assert_true(vr_make_dir(store, 0700, &error) && vr_make_dir(manifests, 0700, &error));
    f->state = vr_state_open(f->dir, &error);
    g_assert_no_error(error);
    g_assert_true(vr_state_peer_put(f->state, &peer, &error));
    g_assert_true(vr_state_store_put(f->state, &(VrStoreRow){(char *) "default", store}, &error));
    f->replicas = vr_replicas_new(f->state, manifests);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    vr_replicas_free(f->replicas);
    vr_state_close(f->state);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
}

static void
test_opened_once(Fixture *f, gconstpointer data)
{
    VrReplica *first, *second;
    g_autoptr(GError) error = NULL;

    add_protection(f, VR_ROLE_TARGET);
    first = vr_replicas_get(f->replicas, UUID, &error);
    g_assert_no_error(error);
    second = vr_replicas_get(f->replicas, UUID, &error);
    g_assert_true(first == second);
    g_assert_null(vr_replica_head(first, &error));
    g_assert_no_error(error);
    vr_replicas_put(f->replicas, first);
    vr_replicas_put(f->replicas, second);
    vr_replicas_retain(f->replicas, UUID);
}

static void
test_not_ours(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(vr_replicas_get(f->replicas, UUID, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
    g_clear_error(&error);
    add_protection(f, VR_ROLE_SOURCE);
    g_assert_null(vr_replicas_get(f->replicas, UUID, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    g_assert_cmpstr(vr_error_slug(error), ==, "not-target");
    g_clear_error(&error);
    g_assert_false(vr_replicas_destroy(f->replicas, UUID, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
}

static gpointer
closer(gpointer data)
{
    Fixture *f = data;

    vr_replicas_close(f->replicas, UUID);
    return NULL;
}

/* From the moment somebody closes it nobody new gets it; it is closed when the last user has put it
 * back. */
static void
test_close_waits(Fixture *f, gconstpointer data)
{
    VrReplica *held;
    GThread *thread;
    g_autoptr(GError) error = NULL;

    add_protection(f, VR_ROLE_TARGET);
    held = vr_replicas_get(f->replicas, UUID, &error);
    g_assert_no_error(error);
    thread = g_thread_new("closer", closer, f);
    for (;;) {
        VrReplica *again = vr_replicas_get(f->replicas, UUID, &error);

        if (again == NULL)
            break;
        vr_replicas_put(f->replicas, again);
        g_thread_yield();
    }
    g_assert_error(error, VR_ERROR, VR_ERROR_CONFLICT);
    g_assert_cmpstr(vr_error_slug(error), ==, "replica-closing");
    g_clear_error(&error);
    vr_replicas_put(f->replicas, held);
    g_thread_join(thread);

    held = vr_replicas_get(f->replicas, UUID, &error);
    g_assert_no_error(error);
    vr_replicas_put(f->replicas, held);
}

typedef struct {
    Fixture *f;
    gint begun; /* atomic */
} Opener;

static gpointer
opener(gpointer data)
{
    Opener *self = data;
    g_autoptr(GError) error = NULL;
    VrReplica *replica;

    g_atomic_int_inc(&self->begun);
    replica = vr_replicas_get(self->f->replicas, UUID_B, &error);
    g_assert_no_error(error);
    return replica;
}

/* One that takes long to open (here: it waits for the database) does not hold up the others, and
 * two that ask for it get the same. */
static void
test_slow_open(Fixture *f, gconstpointer data)
{
    Opener job = {.f = f};
    g_autoptr(GError) error = NULL;
    VrReplica *first, *second;
    GThread *one, *two;

    add_protection(f, VR_ROLE_TARGET);
    add_protection_of(f, UUID_B, VR_ROLE_TARGET);
    vr_replicas_put(f->replicas, vr_replicas_get(f->replicas, UUID, NULL));
    g_assert_true(vr_state_begin(f->state, &error));
    one = g_thread_new("opener-1", opener, &job);
    two = g_thread_new("opener-2", opener, &job);
    for (guint i = 0; i < 2000 || g_atomic_int_get(&job.begun) < 2; i++) {
        VrReplica *other = vr_replicas_get(f->replicas, UUID, &error);

        g_assert_no_error(error);
        vr_replicas_put(f->replicas, other);
        g_thread_yield();
    }
    g_assert_true(vr_state_commit(f->state, &error));
    first = g_thread_join(one);
    second = g_thread_join(two);
    g_assert_true(first == second);
    vr_replicas_put(f->replicas, first);
    vr_replicas_put(f->replicas, second);
}

static void
test_destroy(Fixture *f, gconstpointer data)
{
    g_autofree char *dir = g_build_filename(f->dir, "store", UUID, NULL);
    VrReplica *replica;
    g_autoptr(GError) error = NULL;

    add_protection(f, VR_ROLE_TARGET);
    replica = vr_replicas_get(f->replicas, UUID, &error);
    g_assert_no_error(error);
    g_assert_true(g_file_test(dir, G_FILE_TEST_IS_DIR));
    vr_replicas_put(f->replicas, replica);
    g_assert_true(vr_replicas_destroy(f->replicas, UUID, &error));
    g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));
    g_assert_true(vr_replicas_destroy(f->replicas, UUID, &error));
    g_assert_no_error(error);
}

static guint
descriptors(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir) != NULL)
        n++;
    return n;
}

static char *
begin_many_disks(Fixture *f, guint i)
{
    g_autofree char *uuid = g_strdup_printf("33333333-2222-3333-4444-%012u", i);
    g_autoptr(VrCycleBegin) begin = g_new0(VrCycleBegin, 1);
    g_autoptr(GError) error = NULL;
    VrReplica *replica;
    guint64 held;

    add_protection_of(f, uuid, VR_ROLE_TARGET);
    replica = vr_replicas_get(f->replicas, uuid, &error);
    g_assert_no_error(error);
    begin->cycle = vr_random_id();
    begin->kind = VR_CYCLE_INITIAL;
    begin->generation = vr_random_id();
    begin->disks = vr_cycle_disks_new();
    for (guint d = 0; d < 64; d++) {
        g_autofree char *name = g_strdup_printf("vd%c%c", 'a' + d / 26, 'a' + d % 26);

        vr_cycle_disks_add(begin->disks, name, 1 << 20);
    }
    vr_replica_begin(replica, begin, &held, &error);
    g_assert_no_error(error);
    vr_replicas_put(f->replicas, replica);
    return g_steal_pointer(&uuid);
}

/* A peer that begins many cycles and lets them lie takes so many descriptors and no more. */
static void
test_rest(Fixture *f, gconstpointer data)
{
    guint before = descriptors();
    g_autofree char *first = begin_many_disks(f, 0);
    guint each = descriptors() - before;
    g_autofree char *last = NULL;
    VrReplica *oldest, *newest;

    g_assert_cmpuint(each, >=, 64);
    for (guint i = 1; i < 20; i++) {
        g_free(last);
        last = begin_many_disks(f, i);
    }
    g_assert_cmpuint(descriptors(), <=, before + 9 * each);
    oldest = vr_replicas_get(f->replicas, first, NULL);
    newest = vr_replicas_get(f->replicas, last, NULL);
    g_assert_cmpuint(vr_replica_open_disks(oldest), ==, 0);
    g_assert_cmpuint(vr_replica_open_disks(newest), ==, 64);
    vr_replicas_put(f->replicas, oldest);
    vr_replicas_put(f->replicas, newest);
}

/* What is not merged in time keeps new recovery points away, but not what somebody holds. */
static void
test_behind(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    add_protection(f, VR_ROLE_TARGET);
    g_assert_true(vr_state_protection_set_state(f->state, UUID, VR_PROTECTION_FAILED_OVER, NULL));
    g_assert_true(vr_state_begin(f->state, NULL));
    for (guint i = 1; i <= 2 * VR_REPLICA_LAYERS_MAX + 1; i++) {
        g_autofree char *cycle = g_strdup_printf("c%u", i);
        VrRpRow row = {
            .uuid = (char *) UUID,
            .rp = {.number = i, .cycle = cycle, .root = (char *) "r"},
            .disks = (char *) "[]",
            .attachments = (char *) "[]",
        };

        g_assert_true(vr_replicas_check_behind(f->replicas, UUID, "kvm2", FALSE, &error));
        g_assert_true(vr_state_rp_insert(f->state, &row, NULL));
    }
    g_assert_true(vr_state_commit(f->state, NULL));
    g_assert_false(vr_replicas_check_behind(f->replicas, UUID, "kvm2", FALSE, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
    g_assert_cmpstr(vr_error_slug(error), ==, "retention-behind");
    g_assert_nonnull(strstr(error->message, "host 'kvm2'"));
    g_assert_nonnull(strstr(error->message, "domain 'web1'"));
    g_assert_true(vr_replicas_check_behind(f->replicas, UUID, "kvm2", TRUE, NULL));
    g_assert_true(vr_state_hold_add(f->state, UUID, 1, "test", NULL));
    g_assert_true(vr_replicas_check_behind(f->replicas, UUID, "kvm2", FALSE, NULL));
}

#define ADD(name, function)                                                                        \
    g_test_add("/replicas/" name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("opened-once", test_opened_once);
    ADD("not-ours", test_not_ours);
    ADD("close-waits", test_close_waits);
    ADD("slow-open", test_slow_open);
    ADD("destroy", test_destroy);
    ADD("rest", test_rest);
    ADD("behind", test_behind);
    return g_test_run();
}
