/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <sys/resource.h>

#include "tests/unit/replica-fixture.h"

/* What a sender can have done, and what keeps others waiting for it. */

static guint
count_points(Fixture *f)
{
    g_autoptr(GPtrArray) points = vr_replica_list(f->replica, NULL);

    return points->len;
}

/* A call is one merge, so that others have their turn in between; what is settled at the beginning
 * of the pass holds for all of it. */
static void
test_retain_turns(Fixture *f, gconstpointer data)
{
    g_autoptr(VrPolicy) policy = vr_policy_default();
    g_autoptr(GError) error = NULL;
    VrRetainPass pass = {0};

    two_disks(f);
    for (guint i = 0; i < 4; i++) {
        write_randomly(f, "vda", 2);
        good_cycle(f);
    }
    policy->keep = (VrRetentionRule){0};
    g_assert_true(retain_pass(f, policy, &error)); /* the first one takes the time only */
    for (guint left = 3; left > 0; left--) {
        g_assert_true(vr_replica_retain(f->replica, policy, g_get_real_time(), &pass, NULL, NULL));
        g_assert_cmpuint(count_points(f), ==, left);
        g_assert_cmpint(pass.more, ==, left > 1);
    }
    g_assert_cmpuint(judge(f), ==, 1);
}

/* A body names each chunk of its disks once at most. */
static void
test_too_many(Fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) s = NULL;
    guint32 all[2];

    two_disks(f);
    good_cycle(f);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    for (guint i = 0; i < 2; i++) {
        all[i] = (guint32) vr_chunk_count(((VrCycleDisk *) s->begin->disks->pdata[i])->size_bytes);
        vr_frame_append_zero(body, (guint16) i, 0, all[i] - 1);
        vr_frame_append_zero(body, (guint16) i, all[i] - 1, 1);
    }
    g_assert_true(vr_replica_write(f->replica, s->begin->cycle, body->data, body->len, &error));
    vr_frame_append_zero(body, 0, 0, 1);
    assert_refused(vr_replica_write(f->replica, s->begin->cycle, body->data, body->len, &error),
                   &error, VR_ERROR_INVALID, "bad-frame");
}

static guint64
held_digests(Fixture *f, const char *cycle, GHashTable *ret_digests)
{
    g_autoptr(GBytes) records = vr_replica_held(f->replica, cycle, "vda", 0, 1000, NULL);
    gsize len;
    const guint8 *raw = g_bytes_get_data(records, &len);

    for (gsize at = 0; at < len; at += 24) {
        guint64 chunk;

        memcpy(&chunk, raw + at, 8);
        g_hash_table_insert(ret_digests, GUINT_TO_POINTER((guint) GUINT64_FROM_LE(chunk)),
                            vr_sha256_hex(raw + at + 8, 16));
    }
    return len / 24;
}

/* How many of the chunks that are held have another digest than in @before. */
static guint
count_changed(Fixture *f, const char *cycle, GHashTable *before)
{
    g_autoptr(GHashTable) now = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    GHashTableIter iter;
    gpointer chunk, digest;
    guint changed = 0;

    g_assert_cmpuint(held_digests(f, cycle, now), ==, g_hash_table_size(before));
    g_hash_table_iter_init(&iter, now);
    while (g_hash_table_iter_next(&iter, &chunk, &digest))
        changed += g_strcmp0(digest, g_hash_table_lookup(before, chunk)) != 0;
    return changed;
}

/* What a body that is none has not touched is not read back, nor what was proven when its files
 * were closed; where something fails to be written, that alone is. That nothing else is read shows
 * in damage that is not seen. @data: how the body goes wrong. */
static void
test_proven(Fixture *f, gconstpointer data)
{
    g_autoptr(GHashTable) before = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree guint8 *chunk = g_malloc0(VR_CHUNK_SIZE);
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) s = NULL;
    gboolean fails = g_strcmp0(data, "write") == 0;
    VrDigest digest;

    set_disk_size(f, "vda", 8 * MiB);
    write_disk(f, "vda", 0, 6 * MiB, FALSE); /* 96 chunks */
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error) && source_send(s, 0, &error));
    g_assert_cmpuint(held_digests(f, s->begin->cycle, before), ==, 96);
    damage_incoming(f, s->begin->cycle);
    fill(chunk, VR_CHUNK_SIZE);
    vr_chunk_digest(chunk, &digest);
    vr_frame_append_chunk(body, 0, 50, chunk, &digest, FALSE);
    if (fails) {
        struct rlimit old, limit;

        /* The chunk that is there is overwritten, the new one finds no room. */
        vr_frame_append_chunk(body, 0, 120, chunk, &digest, FALSE);
        g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
        limit = old;
        limit.rlim_cur = (3 + 96) * VR_CHUNK_SIZE;
        signal(SIGXFSZ, SIG_IGN);
        g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
        g_assert_false(
            vr_replica_write(f->replica, s->begin->cycle, body->data, body->len, &error));
        g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
    } else if (g_strcmp0(data, "rest") == 0) {
        vr_replica_rest(f->replica);
    } else {
        g_byte_array_append(body, (const guint8 *) "none", 4);
        g_assert_false(
            vr_replica_write(f->replica, s->begin->cycle, body->data, body->len, &error));
        g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    }
    g_clear_error(&error);
    g_clear_pointer(&s, source_free);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    g_assert_cmpuint(s->held, ==, 96);
    g_assert_cmpuint(count_changed(f, s->begin->cycle, before), ==, fails ? 1 : 0);

    /* After a restart everything is. */
    reopen_target(f);
    g_clear_pointer(&s, source_free);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    g_assert_cmpuint(count_changed(f, s->begin->cycle, before), ==, fails ? 4 : 3);
    g_assert_true(source_send(s, 0, &error) && source_put_nvram(s, "x", &error));
    g_assert_true(source_commit(s, &error));
    g_assert_cmpuint(judge(f), ==, 1);
}

/* Whoever closes the replica does not wait until all of the open cycle has been read. */
static void
test_interrupted(Fixture *f, gconstpointer data)
{
    g_autoptr(VrCycleCommit) commit = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(Source) s = NULL;

    set_disk_size(f, "vda", 8 * MiB);
    write_disk(f, "vda", 0, 6 * MiB, FALSE);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error) && source_send(s, 0, &error));
    commit = source_commit_message(s);
    reopen_target(f);
    vr_replica_interrupt(f->replica);
    assert_refused(source_begin(s, &error), &error, VR_ERROR_CONFLICT, "replica-closing");
    assert_refused(vr_replica_commit(f->replica, commit, &error) != NULL, &error, VR_ERROR_CONFLICT,
                   "replica-closing");
    reopen_target(f);
    g_clear_pointer(&s, source_free);
    s = source_new(f, NULL);
    g_assert_true(source_begin(s, &error));
    g_assert_cmpuint(s->held, ==, 96);
    g_assert_true(source_send(s, 0, &error) && source_put_nvram(s, "x", &error));
    g_assert_true(source_commit(s, &error));
    g_assert_cmpuint(judge(f), ==, 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, data, function)                                                                  \
    g_test_add("/replica-bounds/" name, Fixture, data, set_up, function, tear_down)
    ADD("retain-turns", NULL, test_retain_turns);
    ADD("too-many", NULL, test_too_many);
    ADD("proven-body", "body", test_proven);
    ADD("proven-write", "write", test_proven);
    ADD("proven-rest", "rest", test_proven);
    ADD("interrupted", NULL, test_interrupted);
    return g_test_run();
}
