/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/replicas.h"
#include "storage/state/state_peer.h"
#include "tests/unit/replica-fixture.h"

/* Whoever wants to close a replica does not wait for a long merge, and keeps nobody else waiting.
 */

#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define UUID_B "22222222-2222-3333-4444-555555555555"

static void
add_protection(Fixture *f, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    VrProtection row = {
        .uuid = (char *) uuid,
        .name = (char *) "web1",
        .role = VR_ROLE_TARGET,
        .peer = (char *) PEER,
        .store = (char *) "default",
        .policy = (char *) "default",
        .policy_text = (char *) "[policy]\nkeep-all=1s\nkeep-hourly=0\nkeep-daily=0\n",
        .state = VR_PROTECTION_PROTECTED,
        .generation = (char *) "g",
        .exclude = (char *) "",
    };

    vr_state_protection_insert(f->state, &row, &error);
    g_assert_no_error(error);
}

static void
three_points(Fixture *f)
{
    g_autofree char *store = at(f, "store");
    VrPeer peer = {(char *) PEER, (char *) "kvm1", (char *) "10.0.0.1:16540", 5, 0};

    g_assert_true(vr_state_peer_put(f->state, &peer, NULL));
    g_assert_true(vr_state_store_put(f->state, &(VrStoreRow){(char *) "default", store}, NULL));
    add_protection(f, UUID);
    add_protection(f, UUID_B);
    two_disks(f);
    for (guint i = 0; i < 3; i++) {
        if (i == 2)
            g_usleep(1100000); /* the others are older than what is kept */
        write_randomly(f, "vda", 2);
        good_cycle(f);
    }
    g_clear_pointer(&f->replica, vr_replica_close);
}

/* From here on a commit of qemu-img takes a minute. */
static void
slow_down(Fixture *f)
{
    g_autofree char *real = g_find_program_in_path("qemu-img");
    g_autofree char *program = at(f, "qemu-img");
    g_autofree char *path = g_strconcat(f->dir, ":", g_getenv("PATH"), NULL);
    g_autofree char *script = g_strdup_printf("#!/bin/sh\n[ \"$1\" = commit ] || exec %s \"$@\"\n"
                                              "touch %s/begun\nexec sleep 60\n",
                                              real, f->dir);

    g_assert_true(
        g_file_set_contents_full(program, script, -1, G_FILE_SET_CONTENTS_NONE, 0700, NULL));
    g_setenv("PATH", path, TRUE);
}

typedef struct {
    VrReplicas *replicas;
    gboolean destroy;
} Closer;

static gpointer
close_it(gpointer data)
{
    const Closer *self = data;
    g_autoptr(GError) error = NULL;

    if (self->destroy)
        vr_replicas_destroy(self->replicas, UUID, &error);
    else
        vr_replicas_close(self->replicas, UUID);
    g_assert_no_error(error);
    return NULL;
}

static void
test_gives_way(Fixture *f, gconstpointer destroy)
{
    g_autofree char *manifests = at(f, "heads");
    g_autofree char *begun = at(f, "begun");
    g_autofree char *index = at(f, "store/" UUID "/manifest.json");
    gint64 start;
    Closer job = {.destroy = destroy != NULL};
    GThread *thread;

    three_points(f);
    slow_down(f);
    job.replicas = vr_replicas_new(f->state, manifests);
    vr_replicas_retain(job.replicas, UUID);
    while (!g_file_test(begun, G_FILE_TEST_EXISTS))
        g_usleep(10000);
    start = g_get_monotonic_time();
    thread = g_thread_new("closer", close_it, &job);
    vr_replicas_put(job.replicas, vr_replicas_get(job.replicas, UUID_B, NULL));
    g_thread_join(thread);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 30 * G_USEC_PER_SEC);
    g_assert_true(g_file_test(index, G_FILE_TEST_EXISTS) == (destroy == NULL));
    vr_replicas_free(job.replicas);
}

/* Two at once: when a call comes back the data are gone. */
static void
test_destroyed_twice(Fixture *f, gconstpointer data)
{
    g_autofree char *manifests = at(f, "heads");
    g_autofree char *index = at(f, "store/" UUID "/manifest.json");
    Closer job = {.destroy = TRUE};
    GThread *threads[4];

    three_points(f);
    job.replicas = vr_replicas_new(f->state, manifests);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("closer", close_it, &job);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_thread_join(threads[i]);
        g_assert_false(g_file_test(index, G_FILE_TEST_EXISTS));
    }
    vr_replicas_free(job.replicas);
}

/* A merge that a restart has interrupted is not in the way of whoever opens the replica. */
static void
test_opened_at_once(Fixture *f, gconstpointer data)
{
    g_autofree char *manifests = at(f, "heads");
    g_autofree char *begun = at(f, "begun");
    g_autoptr(GError) error = NULL;
    VrReplicas *replicas;
    VrReplica *replica;
    gint64 start;

    three_points(f);
    slow_down(f);
    replicas = vr_replicas_new(f->state, manifests);
    vr_replicas_retain(replicas, UUID);
    while (!g_file_test(begun, G_FILE_TEST_EXISTS))
        g_usleep(10000);
    vr_replicas_free(replicas);
    g_assert_cmpint(g_unlink(begun), ==, 0);
    start = g_get_monotonic_time();
    replicas = vr_replicas_new(f->state, manifests);
    replica = vr_replicas_get(replicas, UUID, &error);
    g_assert_no_error(error);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 30 * G_USEC_PER_SEC);
    vr_replicas_put(replicas, replica);
    while (!g_file_test(begun, G_FILE_TEST_EXISTS)) /* it is taken up by itself */
        g_usleep(10000);
    vr_replicas_free(replicas);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, data, function)                                                                  \
    g_test_add("/replicas-merge/" name, Fixture, data, set_up, function, tear_down)
    ADD("close", NULL, test_gives_way);
    ADD("destroy", "x", test_gives_way);
    ADD("destroy-twice", NULL, test_destroyed_twice);
    ADD("open", NULL, test_opened_at_once);
    return g_test_run();
}
