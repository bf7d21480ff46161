/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/state/state_peer.h"
#include "storage/replica/store_age.h"
#include "storage/replica/store_scan.h"

#define UUID "11111111-2222-3333-4444-555555555555"
#define OTHER "22222222-2222-3333-4444-555555555555"
#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID "0123456789abcdef0123456789abcde"
#define OTHER_ID "fedcba9876543210fedcba9876543210"
#define GENERATION "1 " ID "0 " PEER " -"
#define ROOT "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

typedef struct {
    char *dir;
    char *store;
    VrState *state;
    char *text; /* the index of what set_up() made */
} Fixture;

static void
add_point(Fixture *f, guint64 number, VrRpState state)
{
    g_autofree char *cycle = g_strdup_printf(ID "%d", (int) number);
    VrRpRow row = {
        .uuid = (char *) UUID,
        .rp = {number, cycle, 1000 + (gint64) number, 2000 + (gint64) number, VR_CONSISTENCY_APP,
               (char *) ROOT, 4096, FALSE},
        .state = state,
        .disks = (char *) "[{\"name\":\"vda\",\"size\":65536,\"floor\":4096}]",
        .attachments = (char *) "[{\"name\":\"nvram\",\"size\":3,\"sha256\":\"" ROOT "\"}]",
    };

    g_assert_true(vr_state_rp_insert(f->state, &row, NULL));
}

static void
add_protection(Fixture *f)
{
    VrPeer peer = {.fingerprint = (char *) PEER,
                   .name = (char *) "kvm1",
                   .address = (char *) "10.0.0.1:16540",
                   .added_us = 5};
    VrProtection row = {
        .uuid = (char *) UUID,
        .name = (char *) "web1",
        .role = VR_ROLE_TARGET,
        .peer = (char *) PEER,
        .store = (char *) "default",
        .policy = (char *) "fast",
        .policy_text = (char *) "[policy]\ninterval=5s\n",
        .state = VR_PROTECTION_PAUSED,
        .generation = (char *) GENERATION,
        .exclude = (char *) "vdb,vdc",
        .created_us = 77,
        .networks = (char *) "[{\"source\":\"prod\",\"target\":\"dr\"}]",
        .kept_until_us = G_MAXINT64,
        .policy_before = (char *) "[policy]\nkeep-all=2h\n",
        .policy_before_until_us = 99,
    };

    g_assert_true(vr_state_peer_put(f->state, &peer, NULL));
    g_assert_true(vr_state_protection_insert(f->state, &row, NULL));
}

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->dir = g_dir_make_tmp("vr-scan-XXXXXX", NULL);
    f->store = g_build_filename(f->dir, "store", NULL);
    g_assert_true(vr_make_dir(f->store, 0700, NULL));
    f->state = vr_state_open(f->dir, &error);
    g_assert_no_error(error);
    add_protection(f);
    add_point(f, 3, VR_RP_LISTED);
    add_point(f, 4, VR_RP_RETIRING);
    add_point(f, 7, VR_RP_LISTED);
    g_assert_true(vr_state_hold_add(f->state, UUID, 3, "failed-over", NULL));
    f->text = vr_store_index_text(f->state, UUID, &error);
    g_assert_no_error(error);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    vr_state_close(f->state);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->text);
    g_free(f->store);
    g_free(f->dir);
}

/* What is read back from the index makes the same index again, in an empty database. */
static void
test_round_trip(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrStoreIndex) index = vr_store_index_parse(f->text, strlen(f->text), UUID, &error);
    g_autofree char *again = NULL;

    g_assert_no_error(error);
    g_assert_cmpstr(index->peer_name, ==, "kvm1");
    g_assert_cmpuint(index->rps->len, ==, 3);
    g_assert_true(vr_state_rp_delete_all(f->state, UUID, NULL));
    g_assert_true(vr_state_protection_delete(f->state, UUID, NULL));
    g_assert_true(vr_state_protection_insert(f->state, index->row, &error));
    g_assert_no_error(error);
    for (guint i = 0; i < index->rps->len; i++)
        g_assert_true(vr_state_rp_insert(f->state, index->rps->pdata[i], NULL));
    for (guint i = 0; i < index->holds->len; i++) {
        const VrStoreHold *hold = index->holds->pdata[i];
        g_assert_true(vr_state_hold_add(f->state, UUID, hold->number, hold->reason, NULL));
    }
    again = vr_store_index_text(f->state, UUID, NULL);
    g_assert_cmpstr(again, ==, f->text);
    g_assert_cmpuint(vr_store_index_newest(f->text, strlen(f->text)), ==, 7);
}

/* A database against what was written of a later one, or of another one. */
static void
test_age(Fixture *f, gconstpointer data)
{
    static const char *const child = "1 " OTHER_ID " " PEER " " ID "0";
    static const char *const other = "1 " OTHER_ID " " PEER " -";
    static const struct {
        const char *database, *store; /* generations */
        guint points;                 /* of the index that the database has, oldest first */
        gboolean replaced;            /* its newest one is another one */
        VrStoreAge age;
    } rows[] = {
        {GENERATION, GENERATION, 3, FALSE, VR_STORE_AGE_CURRENT},
        {GENERATION, GENERATION, 1, FALSE, VR_STORE_AGE_NEWER},
        {GENERATION, GENERATION, 0, FALSE, VR_STORE_AGE_NEWER},
        {GENERATION, GENERATION, 1, TRUE, VR_STORE_AGE_DIVERGED},
        {GENERATION, child, 3, FALSE, VR_STORE_AGE_NEWER},
        {GENERATION, child, 1, FALSE, VR_STORE_AGE_NEWER},
        {GENERATION, child, 4, FALSE, VR_STORE_AGE_DIVERGED},
        {child, GENERATION, 3, FALSE, VR_STORE_AGE_CURRENT},
        {child, GENERATION, 1, FALSE, VR_STORE_AGE_DIVERGED},
        {GENERATION, other, 1, FALSE, VR_STORE_AGE_DIVERGED},
        {GENERATION, other, 3, FALSE, VR_STORE_AGE_CURRENT},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(VrStoreIndex) index = vr_store_index_parse(f->text, strlen(f->text), UUID, NULL);
        g_autoptr(GPtrArray) mine = g_ptr_array_new();
        VrProtection row = {.generation = (char *) rows[i].database};
        VrRpRow more = {.rp = {.number = 9, .cycle = (char *) "later"}, .state = VR_RP_LISTED};
        VrRpRow replaced = {.rp = {.number = 3, .cycle = (char *) "other"}, .state = VR_RP_LISTED};

        g_free(index->row->generation);
        index->row->generation = g_strdup(rows[i].store);
        for (guint k = 0; k < MIN(rows[i].points, index->rps->len); k++)
            g_ptr_array_add(mine, index->rps->pdata[k]);
        if (rows[i].points > index->rps->len)
            g_ptr_array_add(mine, &more);
        if (rows[i].replaced)
            mine->pdata[mine->len - 1] = &replaced;
        g_test_message("row %u", i);
        g_assert_cmpint(vr_store_age(index, &row, mine), ==, rows[i].age);
    }
    g_assert_true(vr_store_age_is_ahead(f->text, strlen(f->text), NULL, 6));
    g_assert_false(vr_store_age_is_ahead(f->text, strlen(f->text), NULL, 7));
    g_assert_false(vr_store_age_is_ahead("{", 1, NULL, 0));
}

static void
test_refused(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"\"version\":2", "\"version\":1"},
        {"\"version\":2", "\"version\":3"},
        {UUID, OTHER},
        {"\"name\":\"web1\",\"peer\"", "\"name\":\"\",\"peer\""},
        {"\"peer\":\"aa", "\"peer\":\"zz"},
        {"\"store\":\"default\"", "\"store\":\"../x\""},
        {"\"policy\":\"fast\"", "\"policy\":\"/\""},
        {"interval=5s", "interval=no"},
        {"\"state\":\"paused\"", "\"state\":\"odd\""},
        {GENERATION, "2 x y z"},
        {"vdb,vdc", "vdb,../c"},
        {"\"networks\":\"[", "\"networks\":\"{"},
        {"\"kept_until_us\":9223372036854775807", "\"kept_until_us\":-1"},
        {"\"number\":3", "\"number\":7"},
        {"\"number\":3", "\"number\":0"},
        {"\"number\":4", "\"number\":9"},
        {ID "3", ID "7"},
        {"\"name\":\"vda\"", "\"name\":\"..\""},
        {"\"name\":\"vda\"", "\"name\":\"rp\""},
        {"\"size\":65536", "\"size\":\"x\""},
        {"\"name\":\"nvram\"", "\"name\":\"passwd\""},
        {"[\"failed-over\"]", "[7]"},
        {"\"retiring\":[", "\"retired\":["},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        char *found = strstr(f->text, cases[i].from);
        g_autoptr(GString) text = g_string_new(f->text);
        g_autoptr(GError) error = NULL;

        g_assert_nonnull(found);
        g_string_erase(text, found - f->text, (gssize) strlen(cases[i].from));
        g_string_insert(text, found - f->text, cases[i].to);
        g_assert_null(vr_store_index_parse(text->str, text->len, UUID, &error));
        g_assert_true(error->domain == VR_ERROR);
    }
    /* No end of it, and no part of it, is an index. */
    for (gsize len = 0; len < strlen(f->text); len += 7) {
        g_autoptr(GError) error = NULL;
        g_assert_null(vr_store_index_parse(f->text, len, UUID, &error));
    }
}

static char *
put(Fixture *f, const char *name, const char *content)
{
    g_autofree char *path = g_build_filename(f->store, UUID, name, NULL);
    g_autofree char *dir = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, content, -1, NULL));
    return g_steal_pointer(&path);
}

static void
put_replica(Fixture *f)
{
    static const char *const names[] = {"vda/3.qcow2", "vda/3.sums",      "vda/7.qcow2",
                                        "vda/7.sums",  "rp/3/domain.xml", "rp/7/domain.xml"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        g_free(put(f, names[i], "content"));
    g_free(put(f, VR_STORE_INDEX_NAME, f->text));
}

/* The damage that the scan sees in the one replica; NULL for none. */
static char *
damage(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) entries = vr_store_scan(f->store, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(entries->len, ==, 1);
    g_assert_cmpstr(((VrStoreEntry *) entries->pdata[0])->uuid, ==, UUID);
    return g_strdup(((VrStoreEntry *) entries->pdata[0])->damage);
}

static void
assert_damage(Fixture *f, const char *names)
{
    g_autofree char *found = damage(f);

    g_assert_nonnull(found);
    g_assert_nonnull(strstr(found, names));
}

static void
test_scan(Fixture *f, gconstpointer data)
{
    static const char *const needed[] = {"vda/3.qcow2", "vda/7.sums", "rp/7/domain.xml"};
    g_autofree char *odd = g_build_filename(f->store, "not-a-uuid", NULL);
    g_autofree char *link = g_build_filename(f->store, OTHER, NULL);
    g_autofree char *index = NULL;
    g_autofree char *none = NULL;

    put_replica(f);
    g_assert_true(vr_store_holds(f->store, UUID));
    g_assert_cmpint(g_mkdir(odd, 0700), ==, 0);
    g_assert_cmpint(symlink(UUID, link), ==, 0); /* not followed */
    none = damage(f);
    g_assert_null(none);
    g_assert_null(vr_store_scan_one(f->store, OTHER, NULL));
    g_assert_null(vr_store_scan_one(f->store, "../state", NULL));
    for (guint i = 0; i < G_N_ELEMENTS(needed); i++) {
        g_autofree char *path = g_build_filename(f->store, UUID, needed[i], NULL);

        g_assert_cmpint(g_unlink(path), ==, 0);
        assert_damage(f, needed[i]);
        g_assert_cmpint(symlink("/etc/passwd", path), ==, 0);
        assert_damage(f, needed[i]);
        g_assert_cmpint(g_unlink(path), ==, 0);
        put_replica(f);
    }
    index = put(f, VR_STORE_INDEX_NAME, "{\"version\":2");
    assert_damage(f, "index");
    g_assert_true(vr_store_holds(f->store, UUID));
    g_assert_cmpint(g_unlink(index), ==, 0);
    assert_damage(f, "index");
    g_assert_false(vr_store_holds(f->store, UUID));
}

#define ADD(name, function)                                                                        \
    g_test_add("/store-scan/" name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("round-trip", test_round_trip);
    ADD("refused", test_refused);
    ADD("scan", test_scan);
    ADD("age", test_age);
    return g_test_run();
}
