/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/state/state_job.h"
#include "storage/state/state_peer.h"
#include "storage/state/state_protection.h"
#include "storage/state/state_rp.h"

#define UUID "11111111-2222-3333-4444-555555555555"
#define CYCLE "0123456789abcdef0123456789abcdef"
#define FPR "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define FPR2 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

typedef struct {
    char *dir;
    VrState *state;
} Fixture;

static void
setup(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->dir = g_dir_make_tmp("vr-state-XXXXXX", NULL);
    f->state = vr_state_open(f->dir, &error);
    g_assert_no_error(error);
}

static void
teardown(Fixture *f, gconstpointer data)
{
    vr_state_close(f->state);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->dir);
}

static void
reopen(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    vr_state_close(f->state);
    f->state = vr_state_open(f->dir, &error);
    g_assert_no_error(error);
}

/* The smallest thing that is stored: a name and a text. */
static gboolean
set(Fixture *f, const char *key, const char *value, GError **error)
{
    return value ? vr_state_store_put(f->state, &(VrStoreRow){(char *) key, (char *) value}, error)
                 : vr_state_store_delete(f->state, key, error);
}

/* NULL: there is none. */
static char *
get(Fixture *f, const char *key)
{
    g_autoptr(GError) error = NULL;
    VrStoreRow *row = vr_state_store_get(f->state, key, &error);
    char *value = row ? g_strdup(row->path) : NULL;

    g_assert_true(row || g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND));
    vr_store_row_free(row);
    return value;
}

static void
assert_slug(GError **error, VrError code, const char *slug)
{
    g_assert_error(*error, VR_ERROR, (int) code);
    g_assert_cmpstr(vr_error_slug(*error), ==, slug);
    g_clear_error(error);
}

static void
add_peer(Fixture *f, const char *fingerprint, const char *name)
{
    VrPeer peer = {
        .fingerprint = (char *) fingerprint,
        .name = (char *) name,
        .address = (char *) "10.0.0.1:16540",
        .added_us = 5,
    };

    g_assert_true(vr_state_peer_put(f->state, &peer, NULL));
}

static void
test_open(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "state.db", NULL);
    g_autofree char *pid = g_strdup_printf("process %d", (int) getpid());
    g_autofree char *value = NULL;
    g_autoptr(GError) error = NULL;
    struct stat st;

    g_assert_null(vr_state_open(f->dir, &error));
    g_assert_nonnull(strstr(error->message, f->dir));
    g_assert_nonnull(strstr(error->message, pid));
    assert_slug(&error, VR_ERROR_CONFLICT, "state-in-use");

    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);

    g_assert_true(set(f, "k", "v1", NULL));
    g_assert_true(set(f, "k", "v2", NULL));
    reopen(f);
    value = get(f, "k");
    g_assert_cmpstr(value, ==, "v2");
    g_assert_true(set(f, "k", NULL, NULL));
    g_assert_null(get(f, "k"));
    g_assert_no_error(error);
}

static void
test_refused_files(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "state.db", NULL);
    g_autoptr(GError) error = NULL;
    sqlite3 *db;

    g_clear_pointer(&f->state, vr_state_close);
    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
    g_assert_null(vr_state_open(f->dir, &error));
    assert_slug(&error, VR_ERROR_REFUSED, "state-too-new");

    g_assert_true(vr_write_file_atomic(path, "this is no database at all, whatever its name says",
                                       50, 0600, NULL));
    g_assert_null(vr_state_open(f->dir, &error));
    assert_slug(&error, VR_ERROR_CORRUPT, "state-corrupt");
}

static void
test_damaged(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "state.db", NULL);
    g_autoptr(GError) error = NULL;
    struct stat st;
    char junk[4096];
    int fd;

    for (int i = 0; i < 400; i++) {
        g_autofree char *key = g_strdup_printf("key-%d-with-some-length-to-fill-pages", i);
        g_assert_true(vr_state_begin(f->state, NULL));
        g_assert_true(set(f, key, key, NULL));
        g_assert_true(vr_state_commit(f->state, NULL));
        if (i % 50 == 0)
            g_assert_true(set(f, "x", key, NULL));
    }
    g_clear_pointer(&f->state, vr_state_close);
    memset(junk, 0x5a, sizeof(junk));
    fd = open(path, O_WRONLY);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    for (off_t page = 4096; page < st.st_size; page += 4096)
        g_assert_cmpint(pwrite(fd, junk, sizeof(junk), page), ==, sizeof(junk));
    close(fd);
    g_assert_null(vr_state_open(f->dir, &error));
    assert_slug(&error, VR_ERROR_CORRUPT, "state-corrupt");
}

static void
fill_pages(Fixture *f)
{
    g_assert_true(vr_state_begin(f->state, NULL));
    for (int i = 0; i < 300; i++) {
        g_autofree char *key = g_strdup_printf("key-%d-with-some-length-to-fill-pages", i);
        g_assert_true(set(f, key, key, NULL));
    }
    g_assert_true(vr_state_commit(f->state, NULL));
}

static void
assert_refused(Fixture *f, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrState) state = vr_state_open(f->dir, &error);

    g_assert_null(state);
    g_assert_nonnull(strstr(error->message, path));
    g_assert_nonnull(strstr(vr_error_action(error), "backup"));
    g_assert_nonnull(strstr(vr_error_action(error), "store-scan"));
    assert_slug(&error, VR_ERROR_CORRUPT, "state-corrupt");
}

/* A database that ends early is never taken for a new one. */
static void
test_cut(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "state.db", NULL);
    g_autofree char *whole = NULL;
    gsize len;

    fill_pages(f);
    g_clear_pointer(&f->state, vr_state_close);
    g_assert_true(g_file_get_contents(path, &whole, &len, NULL));
    for (gsize size = 0; size < len; size += size % 4096 == 0 ? 1111 : 2985) {
        g_assert_true(vr_write_file_atomic(path, whole, size, 0600, NULL));
        assert_refused(f, path);
    }
    g_assert_true(vr_write_file_atomic(path, whole, len, 0600, NULL));
    f->state = vr_state_open(f->dir, NULL);
    g_assert_nonnull(f->state);
}

static char *
contents(VrState *state)
{
    GString *text = g_string_new(NULL);

    for (int i = 0; i < 300; i++) {
        g_autofree char *key = g_strdup_printf("key-%d-with-some-length-to-fill-pages", i);
        g_autofree char *value = vr_state_get(state, key, NULL);
        g_string_append_printf(text, "%s\n", value);
    }
    return g_string_free(text, FALSE);
}

/* Whichever page holds garbage: it is found at the start, or nothing was in it. */
static void
test_garbage_page(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "state.db", NULL);
    g_autofree char *before = NULL;
    g_autofree char *whole = NULL;
    gsize len;
    guint refused = 0;

    fill_pages(f);
    before = contents(f->state);
    g_clear_pointer(&f->state, vr_state_close);
    g_assert_true(g_file_get_contents(path, &whole, &len, NULL));
    for (gsize page = 0; page < len; page += 4096) {
        g_autofree char *copy = g_memdup2(whole, len);
        g_autoptr(VrState) state = NULL;

        vr_random_bytes((guint8 *) copy + page, 4096);
        g_assert_true(vr_write_file_atomic(path, copy, len, 0600, NULL));
        state = vr_state_open(f->dir, NULL);
        if (state) {
            g_autofree char *after = contents(state);
            g_assert_cmpstr(after, ==, before);
        } else {
            refused++;
            assert_refused(f, path);
        }
    }
    g_assert_cmpuint(refused, >, len / 4096 / 2);
    g_assert_true(vr_write_file_atomic(path, whole, len, 0600, NULL));
    f->state = vr_state_open(f->dir, NULL);
}

static void
test_lost_reference(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "state.db", NULL);
    sqlite3 *db;

    g_clear_pointer(&f->state, vr_state_close);
    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, "INSERT INTO hold VALUES ('u', 1, 'r')", NULL, NULL, NULL), ==,
                    SQLITE_OK);
    sqlite3_close(db);
    assert_refused(f, path);
}

/* One that is gone is made anew, says when, and nothing that is left of the old one gets into it.
 */
static void
test_gone(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->dir, "state.db", NULL);
    g_autofree char *journal = g_strconcat(path, "-journal", NULL);
    g_autofree char *half = g_strconcat(path, ".new", NULL);
    g_autofree char *made = NULL;
    gint64 begun = g_get_real_time();
    struct stat st;

    g_clear_pointer(&f->state, vr_state_close);
    g_assert_cmpint(unlink(path), ==, 0);
    g_assert_true(g_file_set_contents(journal, "\xd9\xd5\x05\xf9 what was not done", -1, NULL));
    g_assert_true(g_file_set_contents(half, "half of one", -1, NULL));
    f->state = vr_state_open(f->dir, NULL);
    g_assert_nonnull(f->state);
    made = vr_state_get(f->state, VR_STATE_MADE_KEY, NULL);
    g_assert_cmpint(g_ascii_strtoll(made, NULL, 10), >=, begun);
    g_assert_true(stat(journal, &st) < 0 || st.st_size == 0);
    g_assert_cmpint(stat(half, &st), <, 0);
    reopen(f);
}

static void
test_transactions(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *value = NULL;

    g_assert_true(vr_state_begin(f->state, NULL));
    g_assert_true(set(f, "a", "1", NULL));
    g_assert_true(vr_state_begin(f->state, NULL));
    g_assert_true(set(f, "b", "1", NULL));
    g_assert_true(vr_state_commit(f->state, NULL));
    vr_state_rollback(f->state);
    g_assert_null(get(f, "a"));
    g_assert_null(get(f, "b"));

    /* An inner rollback takes the outer one along. */
    g_assert_true(vr_state_begin(f->state, NULL));
    g_assert_true(vr_state_begin(f->state, NULL));
    g_assert_true(set(f, "a", "1", NULL));
    vr_state_rollback(f->state);
    g_assert_false(set(f, "c", "1", &error));
    assert_slug(&error, VR_ERROR_INTERNAL, "transaction-rolled-back");
    g_assert_false(vr_state_commit(f->state, &error));
    assert_slug(&error, VR_ERROR_INTERNAL, "transaction-rolled-back");
    g_assert_null(get(f, "c"));

    g_assert_true(vr_state_begin(f->state, NULL));
    g_assert_true(set(f, "d", "1", NULL));
    g_assert_true(vr_state_commit(f->state, NULL));
    reopen(f);
    value = get(f, "d");
    g_assert_cmpstr(value, ==, "1");
}

static gpointer
writer(gpointer data)
{
    Fixture *f = data;

    for (int i = 0; i < 20; i++) {
        g_autofree char *text = NULL;
        g_autofree char *next = NULL;

        g_assert_true(vr_state_begin(f->state, NULL));
        text = get(f, "n");
        next = g_strdup_printf("%d", (text ? atoi(text) : 0) + 1);
        g_assert_true(set(f, "n", next, NULL));
        g_assert_true(vr_state_commit(f->state, NULL));
    }
    return NULL;
}

static void
test_threads(Fixture *f, gconstpointer data)
{
    GThread *threads[4];
    g_autofree char *value = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("writer", writer, f);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    value = get(f, "n");
    g_assert_cmpstr(value, ==, "80");
}

static VrProtection *
sample_protection(void)
{
    VrProtection *row = g_new0(VrProtection, 1);

    row->uuid = g_strdup(UUID);
    row->name = g_strdup("web 'quoted'");
    row->role = VR_ROLE_TARGET;
    row->peer = g_strdup(FPR);
    row->store = g_strdup("default");
    row->policy = g_strdup("gold");
    row->policy_text = g_strdup("[policy]\ninterval=1s\n");
    row->state = VR_PROTECTION_RESYNC_NEEDED;
    row->generation = g_strdup("gen");
    row->exclude = g_strdup("vdb");
    row->created_us = 11;
    row->base_number = 12;
    row->base_cycle = g_strdup(CYCLE);
    row->base_root = g_strdup("root");
    row->base_time_us = 13;
    row->base_consistency = VR_CONSISTENCY_APP;
    row->checkpoint = g_strdup("cp");
    row->disks = g_strdup("[]");
    row->manifest_unsure = FALSE;
    row->last_error = g_strdup("{}");
    row->last_error_us = 15;
    row->autostart = TRUE;
    return row;
}

static void
test_protection(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = sample_protection();
    g_autoptr(VrProtection) back = NULL;
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_null(vr_state_protection_get(f->state, UUID, &error));
    assert_slug(&error, VR_ERROR_NOT_FOUND, "no-such-protection");
    g_assert_false(vr_state_protection_insert(f->state, row, &error));
    assert_slug(&error, VR_ERROR_REFUSED, "no-such-peer");

    add_peer(f, FPR, "b");
    g_assert_true(vr_state_protection_insert(f->state, row, &error));
    back = vr_state_protection_get(f->state, UUID, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(back->name, ==, row->name);
    g_assert_cmpint(back->role, ==, VR_ROLE_TARGET);
    g_assert_cmpstr(back->peer, ==, FPR);
    g_assert_cmpstr(back->store, ==, "default");
    g_assert_cmpstr(back->policy, ==, "gold");
    g_assert_cmpstr(back->policy_text, ==, row->policy_text);
    g_assert_cmpint(back->state, ==, VR_PROTECTION_RESYNC_NEEDED);
    g_assert_cmpstr(back->generation, ==, "gen");
    g_assert_cmpstr(back->exclude, ==, "vdb");
    g_assert_cmpint(back->created_us, ==, 11);
    g_assert_cmpuint(back->base_number, ==, 12);
    g_assert_cmpstr(back->base_cycle, ==, CYCLE);
    g_assert_cmpstr(back->base_root, ==, "root");
    g_assert_cmpint(back->base_time_us, ==, 13);
    g_assert_cmpint(back->base_consistency, ==, VR_CONSISTENCY_APP);
    g_assert_cmpstr(back->checkpoint, ==, "cp");
    g_assert_cmpstr(back->disks, ==, "[]");
    g_assert_false(back->manifest_unsure);
    g_assert_cmpstr(back->last_error, ==, "{}");
    g_assert_cmpint(back->last_error_us, ==, 15);
    g_assert_true(back->autostart);

    g_assert_false(vr_state_protection_insert(f->state, row, &error));
    assert_slug(&error, VR_ERROR_CONFLICT, "protection-exists");
    g_assert_true(vr_state_protection_drop_checkpoint(f->state, UUID, &error));
    g_assert_true(vr_state_protection_set_state(f->state, UUID, VR_PROTECTION_PROTECTED, &error));
    list = vr_state_protection_list(f->state, &error);
    g_assert_cmpuint(list->len, ==, 1);
    g_assert_null(((VrProtection *) list->pdata[0])->checkpoint);
    g_assert_cmpint(((VrProtection *) list->pdata[0])->state, ==, VR_PROTECTION_PROTECTED);

    g_assert_false(vr_state_peer_delete(f->state, FPR, &error));
    assert_slug(&error, VR_ERROR_REFUSED, "peer-in-use");
    g_assert_true(vr_state_protection_delete(f->state, UUID, &error));
    g_assert_true(vr_state_peer_delete(f->state, FPR, &error));
}

static void
test_cycle(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = sample_protection();
    VrCycleJournal cycle = {
        .uuid = (char *) UUID,
        .cycle = (char *) CYCLE,
        .kind = VR_CYCLE_FINAL,
        .point = (char *) "{\"a\":1}",
    };
    g_autoptr(VrCycleJournal) back = NULL;
    g_autoptr(GError) error = NULL;

    add_peer(f, FPR, "b");
    g_assert_true(vr_state_protection_insert(f->state, row, &error));
    g_assert_null(vr_state_cycle_get(f->state, UUID, &error));
    g_assert_no_error(error);
    g_assert_true(vr_state_cycle_put(f->state, &cycle, &error));
    cycle.sent = TRUE;
    cycle.commit = (char *) "{\"x\":1}";
    g_assert_true(vr_state_cycle_put(f->state, &cycle, &error));
    back = vr_state_cycle_get(f->state, UUID, &error);
    g_assert_cmpstr(back->cycle, ==, CYCLE);
    g_assert_cmpint(back->kind, ==, VR_CYCLE_FINAL);
    g_assert_cmpstr(back->point, ==, "{\"a\":1}");
    g_assert_null(back->checkpoint);
    g_assert_true(back->sent);
    g_assert_cmpstr(back->commit, ==, "{\"x\":1}");
    /* Writing the protection again must not take its cycle along. */
    g_assert_true(vr_state_protection_set_base(f->state, row, &error));
    vr_cycle_journal_free(g_steal_pointer(&back));
    back = vr_state_cycle_get(f->state, UUID, &error);
    g_assert_nonnull(back);
    g_assert_true(vr_state_cycle_delete(f->state, UUID, &error));
    g_assert_null(vr_state_cycle_get(f->state, UUID, &error));
    g_assert_no_error(error);
}

static gboolean
commit_rp(Fixture *f, guint64 number, const char *cycle, GError **error)
{
    VrRpRow row = {
        .uuid = (char *) UUID,
        .rp = {number, (char *) cycle, 100, 200, VR_CONSISTENCY_CRASH, (char *) "root", 4096,
               FALSE},
        .state = VR_RP_LISTED,
        .disks = (char *) "[]",
        .attachments = (char *) "[]",
    };

    return vr_state_rp_commit(f->state, &row, error);
}

static void
test_rp(Fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(VrRpRow) row = NULL;
    g_autoptr(GError) error = NULL;
    gboolean flag = TRUE;

    g_assert_true(vr_state_rp_head_pending(f->state, UUID, &flag, &error));
    g_assert_false(flag);
    g_assert_true(commit_rp(f, 1, CYCLE, &error));
    g_assert_true(vr_state_rp_head_pending(f->state, UUID, &flag, &error));
    g_assert_true(flag);
    g_assert_true(vr_state_rp_head_applied(f->state, UUID, &error));
    g_assert_true(vr_state_rp_head_pending(f->state, UUID, &flag, &error));
    g_assert_false(flag);
    /* The same cycle or number cannot be committed twice, and a refusal changes nothing. */
    g_assert_false(commit_rp(f, 2, CYCLE, &error));
    g_clear_error(&error);
    g_assert_false(commit_rp(f, 1, "ff23456789abcdef0123456789abcdef", &error));
    g_clear_error(&error);
    g_assert_true(vr_state_rp_head_pending(f->state, UUID, &flag, &error));
    g_assert_false(flag);
    g_assert_true(commit_rp(f, 2, "ff23456789abcdef0123456789abcdef", &error));

    g_assert_null(vr_state_rp_by_cycle(f->state, UUID, "00", &error));
    g_assert_no_error(error);
    row = vr_state_rp_by_cycle(f->state, UUID, CYCLE, &error);
    g_assert_cmpuint(row->rp.number, ==, 1);
    g_assert_cmpint(row->rp.stored_us, ==, 200);
    g_assert_false(row->rp.pinned);

    g_assert_false(vr_state_hold_add(f->state, UUID, 9, "test", &error));
    assert_slug(&error, VR_ERROR_NOT_FOUND, "no-such-rp");
    g_assert_true(vr_state_hold_add(f->state, UUID, 1, "test", &error));
    g_assert_true(vr_state_hold_add(f->state, UUID, 1, "test", &error));
    g_assert_true(vr_state_hold_above(f->state, UUID, 1, &flag, &error));
    g_assert_true(flag);
    g_assert_true(vr_state_rp_set_state(f->state, UUID, 1, VR_RP_RETIRING, &error));
    g_assert_true(vr_state_rp_set_stored(f->state, UUID, 2, 77, "[]", &error));
    list = vr_state_rp_list(f->state, UUID, &error);
    g_assert_cmpuint(list->len, ==, 2);
    g_assert_cmpint(((VrRpRow *) list->pdata[0])->state, ==, VR_RP_RETIRING);
    g_assert_true(((VrRpRow *) list->pdata[0])->rp.pinned);
    g_assert_cmpuint(((VrRpRow *) list->pdata[1])->rp.bytes, ==, 77);
    g_assert_cmpstr(((VrRpRow *) list->pdata[1])->disks, ==, "[]");
    g_assert_true(vr_state_hold_remove(f->state, UUID, 1, "test", &error));
    g_assert_true(vr_state_hold_above(f->state, UUID, 1, &flag, &error));
    g_assert_false(flag);
    g_assert_true(vr_state_hold_add(f->state, UUID, 2, "pin", &error));
    g_assert_true(vr_state_rp_delete(f->state, UUID, 2, &error));
    g_assert_true(vr_state_hold_above(f->state, UUID, 2, &flag, &error));
    g_assert_false(flag);
    g_assert_true(vr_state_rp_delete_all(f->state, UUID, &error));
    g_ptr_array_unref(list);
    list = vr_state_rp_list(f->state, UUID, &error);
    g_assert_cmpuint(list->len, ==, 0);
}

static void
test_job(Fixture *f, gconstpointer data)
{
    VrJobRow job = {
        .kind = (char *) "sync", .uuid = (char *) UUID, .domain = (char *) "web", .progress = 0.5};
    g_autoptr(VrJobRow) back = NULL;
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(GPtrArray) active = NULL;
    g_autoptr(GPtrArray) left = NULL;
    g_autoptr(GError) error = NULL;
    gint64 first;

    g_assert_true(vr_state_job_insert(f->state, &job, &error));
    first = job.id;
    job.state = VR_JOB_COMPLETED;
    job.ended_us = 9;
    job.result = (char *) "{\"downtime_seconds\":1.5}";
    g_assert_true(vr_state_job_update(f->state, &job, &error));
    back = vr_state_job_get(f->state, first, &error);
    g_assert_cmpstr(back->kind, ==, "sync");
    g_assert_cmpint(back->state, ==, VR_JOB_COMPLETED);
    g_assert_cmpfloat(back->progress, ==, 0.5);
    g_assert_cmpstr(back->result, ==, job.result);
    for (int i = 0; i < 5; i++) {
        job.state = i == 0 ? VR_JOB_RUNNING : VR_JOB_FAILED;
        job.id = 0;
        g_assert_true(vr_state_job_insert(f->state, &job, &error));
    }
    list = vr_state_job_list(f->state, NULL, FALSE, 3, &error);
    g_assert_cmpuint(list->len, ==, 3);
    g_assert_cmpint(((VrJobRow *) list->pdata[0])->id, ==, job.id);
    active = vr_state_job_list(f->state, UUID, TRUE, 100, &error);
    g_assert_cmpuint(active->len, ==, 1);
    g_assert_true(vr_state_job_prune(f->state, 2, 1, &error));
    left = vr_state_job_list(f->state, NULL, FALSE, 100, &error);
    g_assert_cmpuint(left->len, ==, 3);
    g_assert_null(vr_state_job_get(f->state, first, &error));
    assert_slug(&error, VR_ERROR_NOT_FOUND, "no-such-job");
    job.id = first;
    g_assert_false(vr_state_job_update(f->state, &job, &error));
    assert_slug(&error, VR_ERROR_NOT_FOUND, "no-such-job");
}

/* However many a peer orders: what this host's own people did stays, and is seen. */
static void
test_jobs_of_peers(Fixture *f, gconstpointer data)
{
    VrJobRow job = {.kind = (char *) "verify", .domain = (char *) "web", .state = VR_JOB_FAILED};
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(GPtrArray) left = NULL;
    g_autoptr(VrJobRow) back = NULL;
    g_autoptr(GError) error = NULL;
    gint64 own[3];

    for (guint i = 0; i < 3; i++) {
        job.id = 0;
        g_assert_true(vr_state_job_insert(f->state, &job, &error));
        own[i] = job.id;
    }
    for (guint i = 0; i < 20; i++) {
        job.id = 0;
        job.origin = (char *) (i % 2 ? FPR : FPR2);
        g_assert_true(vr_state_job_insert(f->state, &job, &error));
    }
    list = vr_state_job_list(f->state, NULL, FALSE, 4, &error);
    g_assert_cmpuint(list->len, ==, 3 + 4);
    g_assert_cmpint(((VrJobRow *) list->pdata[0])->id, ==, job.id);
    g_assert_cmpint(((VrJobRow *) list->pdata[6])->id, ==, own[0]);
    g_assert_true(vr_state_job_prune(f->state, 3, 2, &error));
    left = vr_state_job_list(f->state, NULL, FALSE, 100, &error);
    g_assert_cmpuint(left->len, ==, 3 + 2 + 2);
    back = vr_state_job_get(f->state, job.id, &error);
    g_assert_cmpstr(back->origin, ==, FPR);
    g_assert_cmpint(((VrJobRow *) left->pdata[6])->id, ==, own[0]);
    g_assert_null(((VrJobRow *) left->pdata[6])->origin);
}

static void
test_peer(Fixture *f, gconstpointer data)
{
    VrPeer peer = {
        .fingerprint = (char *) FPR2,
        .name = (char *) "b",
        .address = (char *) "10.0.0.2:1",
        .added_us = 5,
    };
    VrNetmapRow map = {(char *) FPR, (char *) "prod", (char *) "dr", NULL};
    g_autoptr(VrPeer) back = NULL;
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(GPtrArray) maps = NULL;
    g_autoptr(GPtrArray) none = NULL;
    g_autoptr(GError) error = NULL;

    add_peer(f, FPR, "b");
    g_assert_false(vr_state_peer_put(f->state, &peer, &error));
    assert_slug(&error, VR_ERROR_CONFLICT, "peer-name-taken");
    peer.name = (char *) "c";
    g_assert_true(vr_state_peer_put(f->state, &peer, &error));
    g_assert_true(vr_state_peer_seen(f->state, FPR2, 77, &error));
    back = vr_state_peer_get(f->state, "c", &error);
    g_assert_cmpstr(back->fingerprint, ==, FPR2);
    g_assert_cmpint(back->last_seen_us, ==, 77);
    g_assert_null(vr_state_peer_get(f->state, "nobody", &error));
    assert_slug(&error, VR_ERROR_NOT_FOUND, "no-such-peer");
    list = vr_state_peer_list(f->state, &error);
    g_assert_cmpuint(list->len, ==, 2);

    g_assert_true(vr_state_netmap_put(f->state, &map, &error));
    map.target = (char *) "dr2";
    map.test = (char *) "t";
    g_assert_true(vr_state_netmap_put(f->state, &map, &error));
    maps = vr_state_netmap_list(f->state, FPR, &error);
    g_assert_cmpuint(maps->len, ==, 1);
    g_assert_cmpstr(((VrNetmapRow *) maps->pdata[0])->target, ==, "dr2");
    map.peer = (char *) "unknown";
    g_assert_false(vr_state_netmap_put(f->state, &map, &error));
    assert_slug(&error, VR_ERROR_NOT_FOUND, "no-such-peer");
    g_assert_false(vr_state_netmap_delete(f->state, FPR, "other", &error));
    assert_slug(&error, VR_ERROR_NOT_FOUND, "no-such-netmap");
    /* A removed peer takes its maps along. */
    g_assert_true(vr_state_peer_delete(f->state, FPR, &error));
    none = vr_state_netmap_list(f->state, NULL, &error);
    g_assert_cmpuint(none->len, ==, 0);
}

static void
test_peer_limits(Fixture *f, gconstpointer data)
{
    static const char *const offered[] = {"prod", "dr", "dr", NULL};
    static const char *const none[] = {NULL};
    g_autoptr(VrPeer) fresh = NULL;
    g_autoptr(VrPeer) set = NULL;
    g_auto(GStrv) names = NULL;
    g_auto(GStrv) left = NULL;
    g_autoptr(GError) error = NULL;

    add_peer(f, FPR, "b");
    fresh = vr_state_peer_get(f->state, "b", &error);
    g_assert_cmpuint(fresh->quota_bytes, ==, 0);
    g_assert_cmpuint(fresh->max_protections, ==, VR_PEER_PROTECTIONS_MAX);
    g_assert_cmpint(fresh->delete_grace_us, ==, 7 * G_TIME_SPAN_DAY);
    left = vr_state_peer_networks(f->state, FPR, &error);
    g_assert_cmpuint(g_strv_length(left), ==, 0);
    g_clear_pointer(&left, g_strfreev);

    g_assert_true(vr_state_peer_set_quota(f->state, FPR, G_GUINT64_CONSTANT(5) << 40, &error));
    g_assert_true(vr_state_peer_set_max_protections(f->state, FPR, 3, &error));
    g_assert_true(vr_state_peer_set_delete_grace(f->state, FPR, G_TIME_SPAN_HOUR, &error));
    g_assert_true(vr_state_peer_set_networks(f->state, FPR, offered, &error));
    /* Pairing anew keeps what the operator has said. */
    add_peer(f, FPR, "c");
    reopen(f);
    set = vr_state_peer_get(f->state, "c", &error);
    g_assert_cmpuint(set->quota_bytes, ==, G_GUINT64_CONSTANT(5) << 40);
    g_assert_cmpuint(set->max_protections, ==, 3);
    g_assert_cmpint(set->delete_grace_us, ==, G_TIME_SPAN_HOUR);
    names = vr_state_peer_networks(f->state, FPR, &error);
    g_assert_cmpuint(g_strv_length(names), ==, 2);
    g_assert_cmpstr(names[0], ==, "dr");
    g_assert_cmpstr(names[1], ==, "prod");
    g_assert_true(vr_state_peer_set_networks(f->state, FPR, none, &error));
    left = vr_state_peer_networks(f->state, FPR, &error);
    g_assert_cmpuint(g_strv_length(left), ==, 0);
}

static void
test_invite_networks(Fixture *f, gconstpointer data)
{
    static const char *const offered[] = {"dr", "a,b", NULL};
    static const char *const none[] = {NULL};
    g_auto(GStrv) names = NULL;
    g_auto(GStrv) empty = NULL;
    g_auto(GStrv) unsaid = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_state_invite_add(f->state, "h1", NULL, offered, 1000, &error));
    g_assert_true(vr_state_invite_add(f->state, "h2", NULL, none, 1000, &error));
    g_assert_true(vr_state_invite_add(f->state, "h3", NULL, NULL, 1000, &error));
    reopen(f);
    g_assert_true(vr_state_invite_use(f->state, "h1", 10, NULL, &names, &error));
    g_assert_cmpstr(names[0], ==, "a,b");
    g_assert_cmpstr(names[1], ==, "dr");
    g_assert_null(names[2]);
    g_assert_true(vr_state_invite_use(f->state, "h2", 10, NULL, &empty, &error));
    g_assert_cmpuint(g_strv_length(empty), ==, 0);
    g_assert_true(vr_state_invite_use(f->state, "h3", 10, NULL, &unsaid, &error));
    g_assert_null(unsaid);
}

static void
test_invite(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = NULL;

    g_assert_true(vr_state_invite_add(f->state, "h1", "kvm1", NULL, 1000, &error));
    g_assert_true(vr_state_invite_add(f->state, "h2", NULL, NULL, 1000, &error));
    g_assert_false(vr_state_invite_use(f->state, "h3", 10, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_AUTH, "token-unknown");
    g_assert_false(vr_state_invite_use(f->state, "h2", 1000, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_AUTH, "token-expired");
    g_assert_true(vr_state_invite_use(f->state, "h1", 10, &name, NULL, &error));
    g_assert_cmpstr(name, ==, "kvm1");
    g_assert_false(vr_state_invite_use(f->state, "h1", 10, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_AUTH, "token-used");
    reopen(f);
    g_assert_false(vr_state_invite_use(f->state, "h1", 10, NULL, NULL, &error));
    assert_slug(&error, VR_ERROR_AUTH, "token-used");
}

static void
test_store(Fixture *f, gconstpointer data)
{
    VrStoreRow store = {(char *) "default", (char *) "/srv"};
    g_autoptr(VrProtection) row = sample_protection();
    g_autoptr(GError) error = NULL;
    VrStoreRow *back;

    g_assert_null(vr_state_store_get(f->state, "default", &error));
    assert_slug(&error, VR_ERROR_NOT_FOUND, "no-such-store");
    g_assert_true(vr_state_store_put(f->state, &store, &error));
    back = vr_state_store_get(f->state, "default", &error);
    g_assert_cmpstr(back->path, ==, "/srv");
    vr_store_row_free(back);
    add_peer(f, FPR, "b");
    g_assert_true(vr_state_protection_insert(f->state, row, &error));
    g_assert_false(vr_state_store_delete(f->state, "default", &error));
    assert_slug(&error, VR_ERROR_REFUSED, "store-in-use");
    g_assert_true(vr_state_protection_delete(f->state, row->uuid, &error));
    row->role = VR_ROLE_SOURCE; /* then the store's name means the peer's store */
    g_assert_true(vr_state_protection_insert(f->state, row, &error));
    g_assert_true(vr_state_store_delete(f->state, "default", &error));
}

static void
test_layer_checks(Fixture *f, gconstpointer unused)
{
    VrReplicaDamage damage = {4, (char *) "vda", 17};
    g_autoptr(GPtrArray) checks = NULL;
    g_autoptr(GError) error = NULL;

    checks = vr_state_layer_checks(f->state, UUID, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(checks->len, ==, 0);
    /* Rows of what does not exist are refused. */
    g_assert_false(vr_state_damage_set(f->state, UUID, &damage, NULL));
    g_assert_null(vr_state_damage_get(f->state, UUID, &error));
    g_assert_no_error(error);
    {
        VrLayerCheck check = {1, (char *) "vda", VR_LAYER_GOOD, 7};

        g_assert_false(vr_state_layer_check_put(f->state, UUID, &check, NULL));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/state/" name, Fixture, NULL, setup, func, teardown)
    ADD("open", test_open);
    ADD("refused-files", test_refused_files);
    ADD("damaged", test_damaged);
    ADD("cut", test_cut);
    ADD("garbage-page", test_garbage_page);
    ADD("lost-reference", test_lost_reference);
    ADD("gone", test_gone);
    ADD("transactions", test_transactions);
    ADD("threads", test_threads);
    ADD("protection", test_protection);
    ADD("cycle", test_cycle);
    ADD("rp", test_rp);
    ADD("job", test_job);
    ADD("jobs-of-peers", test_jobs_of_peers);
    ADD("peer", test_peer);
    ADD("peer-limits", test_peer_limits);
    ADD("invite", test_invite);
    ADD("invite-networks", test_invite_networks);
    ADD("store", test_store);
    ADD("layer-checks", test_layer_checks);
    return g_test_run();
}
