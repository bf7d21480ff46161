/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a store holds beside what the database says, on a host whose libvirt is
 * tests/fakes/fake-dom.c; the replica and its files are real. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

#include "plugin/job/jobs.h"
#include "plugin/ownership.h"
#include "plugin/ownership_watch.h"
#include "plugin/peer/peer_replica.h"
#include "plugin/protection_view.h"
#include "plugin/store_adopt.h"
#include "plugin/store_use.h"
#include "policies/error.h"
#include "qmp/domain/domain_model.h"
#include "storage/util/file_util.h"
#include "storage/util/image_chain.h"
#include "tests/fakes/fake-dom.h"
#include "tests/fakes/fake-replica.h"

#define UUID "6a3f0d5e-8f5b-4f0e-9c55-3b1e6d0c9a03"
#define OTHER_UUID "6a3f0d5e-8f5b-4f0e-9c55-3b1e6d0c9a04"
#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

typedef struct {
    VrApp app;
    VrConfig config;
    VrStoreRow store;
    char *dir;
    char *replica; /* STORE/UUID */
    VrGeneration *generation;
} Fixture;

static VrIdentity *identity;
static guint warnings;

static void
no_cycle(gpointer app, const char *uuid, GCancellable *cancel)
{
}

static void
open_state(Fixture *f)
{
    g_autofree char *manifests = g_build_filename(f->dir, "manifests", NULL);
    g_autoptr(GError) error = NULL;

    f->app.state = vr_state_open(f->dir, &error);
    g_assert_no_error(error);
    f->app.replicas = vr_replicas_new(f->app.state, manifests);
    f->app.jobs = vr_jobs_new(f->app.state, vr_job_kinds, vr_n_job_kinds, &f->app);
}

static void
close_state(Fixture *f)
{
    vr_jobs_stop(f->app.jobs);
    g_clear_pointer(&f->app.jobs, vr_jobs_free);
    g_clear_pointer(&f->app.replicas, vr_replicas_free);
    g_clear_pointer(&f->app.state, vr_state_close);
}

static void
insert_row(Fixture *f)
{
    VrPeer peer = {(char *) PEER, (char *) "kvm1", (char *) "127.0.0.1:1", 5, 0};
    g_autofree char *line = vr_generation_to_line(f->generation);
    VrProtection row = {
        .uuid = (char *) UUID,
        .name = (char *) "guest1",
        .role = VR_ROLE_TARGET,
        .peer = (char *) PEER,
        .store = (char *) "default",
        .policy = (char *) "default",
        .policy_text = (char *) "[policy]\ninterval=30s\n",
        .state = VR_PROTECTION_PROTECTED,
        .generation = line,
        .exclude = (char *) "",
    };

    g_assert_true(vr_state_peer_put(f->app.state, &peer, NULL));
    g_assert_true(vr_state_protection_insert(f->app.state, &row, NULL));
    g_assert_true(vr_ownership_fence(&f->app, &row, NULL));
}

static void
commit(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    VrReplica *replica = vr_replicas_get(f->app.replicas, UUID, &error);

    g_assert_no_error(error);
    vr_recovery_point_free(fake_replica_commit(replica, "<domain/>"));
    vr_replicas_put(f->app.replicas, replica);
}

static guint
points(Fixture *f)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(f->app.state, UUID, NULL);

    return rows->len;
}

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autofree char *id = vr_random_id();

    fake_dom_reset();
    f->dir = g_dir_make_tmp("vr-adopt-XXXXXX", NULL);
    f->store = (VrStoreRow){(char *) "default", g_build_filename(f->dir, "store", NULL)};
    f->replica = g_build_filename(f->store.path, UUID, NULL);
    g_assert_true(vr_make_dir(f->store.path, 0711, NULL));
    f->config = (VrConfig){.name = (char *) "kvm2", .state_dir = f->dir};
    f->app.config = &f->config;
    f->app.conn = GUINT_TO_POINTER(1);
    f->app.identity = identity;
    f->app.fence = vr_fence_new(f->dir, "kvm2");
    f->app.guards = vr_guards_new();
    f->app.checked = vr_checked_definitions_new();
    f->app.contact = vr_peer_contact_new();
    f->app.policies = vr_policy_files_new(f->dir);
    f->app.cycles = vr_cycle_log_new();
    f->app.scheduler = vr_scheduler_new(1, no_cycle, &f->app);
    f->app.ownership = vr_ownership_watch_new(&f->app);
    f->generation = vr_generation_new(id, PEER);
    open_state(f);
    g_assert_true(vr_state_store_put(f->app.state, &f->store, NULL));
    insert_row(f);
    commit(f);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    close_state(f);
    vr_ownership_watch_free(f->app.ownership);
    vr_scheduler_free(f->app.scheduler);
    vr_cycle_log_free(f->app.cycles);
    vr_policy_files_free(f->app.policies);
    vr_guards_free(f->app.guards);
    vr_checked_definitions_free(f->app.checked);
    vr_peer_contact_free(f->app.contact);
    vr_fence_free(f->app.fence);
    vr_generation_free(f->generation);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_free(f->store.path);
    g_free(f->replica);
    g_free(f->dir);
}

/* The database knows nothing of it any more. */
static void
orphan(Fixture *f)
{
    vr_replicas_close(f->app.replicas, UUID);
    g_assert_true(vr_state_rp_delete_all(f->app.state, UUID, NULL));
    g_assert_true(vr_state_protection_delete(f->app.state, UUID, NULL));
}

static char *
db_path(Fixture *f)
{
    return g_build_filename(f->dir, "state.db", NULL);
}

/* The file as a backup would have it. */
static GBytes *
back_up(Fixture *f)
{
    g_autofree char *path = db_path(f);
    char *content;
    gsize len;

    close_state(f);
    g_assert_true(g_file_get_contents(path, &content, &len, NULL));
    open_state(f);
    return g_bytes_new_take(content, len);
}

static void
put_back(Fixture *f, GBytes *backup)
{
    g_autofree char *path = db_path(f);

    close_state(f);
    g_assert_true(g_file_set_contents(path, g_bytes_get_data(backup, NULL),
                                      (gssize) g_bytes_get_size(backup), NULL));
    open_state(f);
}

static void
assert_finding(Fixture *f, const char *state)
{
    g_autoptr(JsonArray) found = vr_store_findings(&f->app, &f->store, NULL);
    JsonObject *entry;

    g_assert_cmpuint(json_array_get_length(found), ==, 1);
    entry = json_array_get_object_element(found, 0);
    g_assert_cmpstr(json_object_get_string_member(entry, "state"), ==, state);
}

static void
adopt(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_store_adopt(&f->app, &f->store, "guest1", NULL, &error));
    g_assert_no_error(error);
}

static void
assert_adopt_refused(Fixture *f, const char *slug)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(vr_store_adopt(&f->app, &f->store, UUID, NULL, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, slug);
    g_assert_nonnull(vr_error_action(error));
}

static gboolean
fenced(Fixture *f)
{
    g_autoptr(VrFenceRecord) record = NULL;
    gboolean stands;

    vr_fence_look(f->app.fence, UUID, &stands, &record);
    return stands;
}

/* A layer of it is wanted in some way. */

static char *
layer(Fixture *f)
{
    return g_build_filename(f->replica, "vda", "1.qcow2", NULL);
}

static char *
disk_xml(const char *format, const char *path, const char *below)
{
    return g_strdup_printf("<domain><devices><disk type='file' device='disk'>"
                           "<driver name='qemu' type='%s'/><source file='%s'/>%s%s%s"
                           "<target dev='vdb' bus='virtio'/></disk></devices></domain>",
                           format, path,
                           below ? "<backingStore type='file'><format type='qcow2'/>"
                                   "<source file='"
                                 : "",
                           below ? below : "", below ? "'/><backingStore/></backingStore>" : "");
}

static void
make_overlay(const char *path, const char *backing)
{
    g_autofree char *command =
        g_strdup_printf("qemu-img create -q -f qcow2 -F qcow2 -b '%s' '%s'", backing, path);
    int status;

    g_assert_true(g_spawn_command_line_sync(command, NULL, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
}

/* @xml: (nullable): of the only domain beside it */
static void
assert_drop(Fixture *f, const char *what, const char *uuid, const char *xml, gboolean in_use)
{
    g_autoptr(GError) error = NULL;
    FakeDom *dom = fake_dom_add(f->app.conn, uuid, "tester", VR_DOM_SHUTOFF);
    gboolean ok;

    dom->xml = g_strdup(xml);
    ok = vr_store_check_unused(&f->app, f->replica, UUID, &error);
    g_test_message("%s: %s", what, error ? error->message : "unused");
    g_assert_cmpint(ok, ==, !in_use);
    if (!in_use)
        return;
    g_assert_cmpstr(vr_error_slug(error), ==, "replica-in-use");
    g_assert_nonnull(strstr(error->message, "'tester'"));
    g_assert_nonnull(strstr(error->message, "'vdb'"));
    g_clear_error(&error);
    g_assert_false(vr_store_drop(&f->app, &f->store, UUID, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "replica-in-use");
    g_assert_true(g_file_test(f->replica, G_FILE_TEST_IS_DIR));
}

static void
test_drop_in_use(Fixture *f, gconstpointer data)
{
    g_autofree char *bottom = layer(f);
    g_autofree char *middle = g_build_filename(f->dir, "middle.qcow2", NULL);
    g_autofree char *top = g_build_filename(f->dir, "top.qcow2", NULL);
    g_autofree char *link = g_build_filename(f->dir, "by-link", NULL);
    g_autofree char *linked = g_build_filename(link, UUID, "vda", "1.qcow2", NULL);
    g_autofree char *twin = g_build_filename(f->dir, "twin.qcow2", NULL);
    g_autofree char *gone = g_build_filename(f->dir, "gone.qcow2", NULL);
    g_autofree char *by_name = disk_xml("qcow2", bottom, NULL);
    g_autofree char *by_link = disk_xml("qcow2", linked, NULL);
    g_autofree char *by_twin = disk_xml("qcow2", twin, NULL);
    g_autofree char *by_chain = disk_xml("qcow2", top, NULL);
    g_autofree char *by_words = disk_xml("qcow2", gone, bottom);
    g_autofree char *as_raw = disk_xml("raw", top, NULL);
    g_autofree char *missing = disk_xml("qcow2", gone, NULL);
    g_autoptr(GError) error = NULL;

    orphan(f);
    make_overlay(middle, bottom);
    make_overlay(top, middle);
    g_assert_cmpint(symlink(f->store.path, link), ==, 0);
    g_assert_cmpint(linkat(AT_FDCWD, bottom, AT_FDCWD, twin, 0), ==, 0);
    assert_drop(f, "its name", OTHER_UUID, by_name, TRUE);
    assert_drop(f, "a link on the way", OTHER_UUID, by_link, TRUE);
    assert_drop(f, "another name of the file", OTHER_UUID, by_twin, TRUE);
    assert_drop(f, "two images above", OTHER_UUID, by_chain, TRUE);
    assert_drop(f, "libvirt says so", OTHER_UUID, by_words, TRUE);
    assert_drop(f, "a guest's own words", OTHER_UUID, as_raw, FALSE);
    assert_drop(f, "somebody's missing image", OTHER_UUID, missing, FALSE);
    assert_drop(f, "its own missing image", UUID, missing, TRUE);
    fake_dom_reset();
    g_assert_true(vr_store_drop(&f->app, &f->store, UUID, &error));
    g_assert_no_error(error);
    g_assert_false(g_file_test(f->replica, G_FILE_TEST_EXISTS));
}

static void
test_drop_open(Fixture *f, gconstpointer data)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
    g_autofree char *path = layer(f);
    g_autoptr(GError) error = NULL;
    int fd;

    orphan(f);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
    g_assert_false(vr_store_drop(&f->app, &f->store, UUID, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "replica-in-use");
    g_assert_nonnull(strstr(error->message, path));
    close(fd);
    g_clear_error(&error);
    g_assert_true(vr_store_drop(&f->app, &f->store, UUID, &error));
}

static void
test_chain(Fixture *f, gconstpointer data)
{
    g_autofree char *bottom = layer(f);
    g_autofree char *top = g_build_filename(f->dir, "top.qcow2", NULL);
    g_autofree char *words =
        g_strdup_printf("json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
                        "\"filename\":\"%s\"}}",
                        bottom);
    g_autoptr(GPtrArray) chain = NULL;
    gboolean complete;

    make_overlay(top, words);
    chain = vr_image_chain(top, "qcow2", &complete);
    g_assert_true(complete);
    g_assert_cmpuint(chain->len, ==, 2);
    g_assert_cmpstr(g_ptr_array_index(chain, 1), ==, bottom);
    g_ptr_array_unref(chain);
    g_unlink(bottom);
    chain = vr_image_chain(top, "qcow2", &complete);
    g_assert_false(complete);
    g_assert_cmpuint(chain->len, ==, 2);
}

/* A database that was put back from a backup. */

char *__wrap_vr_conn_why_away(VrConn *conn, gint64 *ret_since_us);

/* Wrapped: libvirt answers. */
char *
__wrap_vr_conn_why_away(VrConn *conn, gint64 *ret_since_us)
{
    *ret_since_us = 0;
    return NULL;
}

static void
assert_reason(Fixture *f, gboolean holds)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(f->app.state, UUID, NULL);
    g_autoptr(JsonNode) node = vr_protection_view(&f->app, row);
    JsonObject *info = json_node_get_object(node);
    JsonArray *reasons = json_object_get_array_member(info, "reasons");
    gboolean found = FALSE;

    for (guint i = 0; i < json_array_get_length(reasons); i++) {
        JsonObject *reason = json_array_get_object_element(reasons, i);

        if (strcmp(json_object_get_string_member(reason, "code"), "replica-unusable") != 0)
            continue;
        found = TRUE;
        g_assert_nonnull(strstr(json_object_get_string_member(reason, "action"),
                                "store-scan default --adopt " UUID));
        g_assert_cmpstr(json_object_get_string_member(info, "health"), ==, "critical");
    }
    g_assert_cmpint(found, ==, holds);
}

static void
test_older_database(Fixture *f, gconstpointer data)
{
    g_autoptr(GBytes) backup = back_up(f);
    g_autoptr(GError) error = NULL;

    commit(f);
    commit(f);
    put_back(f, backup);
    g_assert_null(vr_replicas_get(f->app.replicas, UUID, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "state-older-than-store");
    g_assert_nonnull(strstr(vr_error_action(error), "store-scan default --adopt " UUID));
    assert_finding(f, "newer");
    assert_reason(f, TRUE);
    adopt(f);
    assert_finding(f, "known");
    assert_reason(f, FALSE);
    g_assert_cmpuint(points(f), ==, 3);
    g_assert_true(fenced(f));
    commit(f);
    adopt(f);
    g_assert_cmpuint(points(f), ==, 4);
}

/* The older database says that the time of the kept replica is over; the store knows better. */
static void
test_not_dropped(Fixture *f, gconstpointer data)
{
    VrSaid *said = vr_said_new();
    g_autoptr(GBytes) backup = NULL;

    g_assert_true(vr_state_protection_set_kept_until(f->app.state, UUID, 5, NULL));
    backup = back_up(f);
    g_assert_true(vr_state_protection_set_kept_until(f->app.state, UUID, 0, NULL));
    commit(f);
    put_back(f, backup);
    warnings = 0;
    for (guint i = 0; i < 3; i++)
        vr_peer_replica_drop_due(&f->app, said, g_get_real_time());
    g_assert_cmpuint(warnings, ==, 1);
    adopt(f);
    vr_peer_replica_drop_due(&f->app, said, g_get_real_time());
    g_assert_cmpuint(points(f), ==, 2);
    vr_said_free(said);
}

/* A generation that this host got after the backup. */
static void
move_generation(Fixture *f, const char *owner, VrProtectionState state)
{
    g_autofree char *id = vr_random_id();
    g_autoptr(VrGeneration) next = vr_generation_advance(f->generation, id, owner);
    g_autofree char *line = vr_generation_to_line(next);

    g_assert_true(vr_state_protection_set_generation(f->app.state, UUID, line, NULL));
    g_assert_true(vr_state_protection_set_state(f->app.state, UUID, state, NULL));
    vr_replicas_refresh_index(f->app.replicas, UUID);
}

/* No recovery point more, but this host owns the domain since. */
static void
test_older_generation(Fixture *f, gconstpointer data)
{
    g_autoptr(GBytes) backup = back_up(f);
    g_autoptr(VrProtection) row = NULL;
    g_autoptr(GError) error = NULL;

    move_generation(f, vr_identity_fingerprint(identity), VR_PROTECTION_FAILED_OVER);
    put_back(f, backup);
    g_assert_null(vr_replicas_get(f->app.replicas, UUID, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "state-older-than-store");
    assert_finding(f, "newer");
    adopt(f);
    row = vr_state_protection_get(f->app.state, UUID, NULL);
    g_assert_cmpint(row->state, ==, VR_PROTECTION_FAILED_OVER);
    g_assert_cmpuint(points(f), ==, 1);
    g_assert_true(fenced(f)); /* the record contradicts: the other host is asked first */
}

static void
test_diverged(Fixture *f, gconstpointer data)
{
    g_autoptr(GBytes) backup = back_up(f);
    g_autofree char *id = vr_random_id();
    g_autofree char *line = NULL;
    g_autoptr(VrProtection) row = NULL;
    g_autoptr(GError) error = NULL;

    vr_generation_free(f->generation);
    f->generation = vr_generation_new(id, PEER);
    line = vr_generation_to_line(f->generation);
    g_assert_true(vr_state_protection_set_generation(f->app.state, UUID, line, NULL));
    commit(f);
    put_back(f, backup);
    assert_finding(f, "diverged");
    assert_adopt_refused(f, "replica-diverged");
    g_assert_cmpuint(points(f), ==, 1);
    g_assert_true(fenced(f));
    g_assert_true(vr_store_drop(&f->app, &f->store, UUID, &error));
    g_assert_no_error(error);
    g_assert_true(vr_state_protection_find(f->app.state, UUID, &row, NULL) && row == NULL);
    g_assert_false(fenced(f));
    g_assert_false(g_file_test(f->replica, G_FILE_TEST_EXISTS));
}

static void
test_drop_known(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(vr_store_drop(&f->app, &f->store, UUID, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "replica-known");
    assert_finding(f, "known");
}

/* The fence and the database. */

static void
sql(Fixture *f, const char *text)
{
    g_autofree char *path = db_path(f);
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, text, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
}

/* COMMIT itself fails: the record is as it was, whatever the index says. */
static void
test_commit_fails(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = NULL;
    g_autoptr(GError) error = NULL;

    move_generation(f, vr_identity_fingerprint(identity), VR_PROTECTION_FAILED_OVER);
    orphan(f);
    sql(f, "CREATE TABLE above (x INTEGER PRIMARY KEY);"
           "CREATE TABLE below (x REFERENCES above DEFERRABLE INITIALLY DEFERRED);"
           "CREATE TRIGGER t AFTER INSERT ON protection BEGIN INSERT INTO below VALUES (1); END;");
    g_assert_true(fenced(f));
    g_assert_false(vr_store_adopt(&f->app, &f->store, UUID, NULL, &error));
    g_assert_nonnull(error);
    g_assert_true(vr_state_protection_find(f->app.state, UUID, &row, NULL) && row == NULL);
    g_assert_true(fenced(f));
}

static void
test_fence_follows(Fixture *f, gconstpointer data)
{
    orphan(f);
    g_assert_true(vr_fence_remove(f->app.fence, UUID, NULL));
    adopt(f);
    g_assert_true(fenced(f));
}

/* Only our own mark says that a domain is ours. */
static void
test_whose_domain(Fixture *f, gconstpointer data)
{
    FakeDom *dom = fake_dom_add(f->app.conn, UUID, "guest1", VR_DOM_SHUTOFF);

    orphan(f);
    dom->xml = g_strdup("<domain><description>" VR_DOMAIN_XMLNS "</description></domain>");
    assert_adopt_refused(f, "domain-exists-uuid");
    dom->role = g_strdup("test");
    assert_adopt_refused(f, "domain-exists-uuid");
    g_free(dom->role);
    dom->role = g_strdup("replica");
    dom->state = VR_DOM_RUNNING;
    assert_adopt_refused(f, "domain-exists-uuid");
    dom->state = VR_DOM_SHUTOFF;
    adopt(f);
}

static void
quiet(const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
    warnings += (level & G_LOG_LEVEL_WARNING) != 0;
    if (level & (G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR))
        g_log_default_handler(domain, level, message, data);
}

#define ADD(path, func) g_test_add("/store-adopt/" path, Fixture, NULL, set_up, func, tear_down)

int
main(int argc, char **argv)
{
    g_autofree char *dir = NULL;
    int status;

    g_test_init(&argc, &argv, NULL);
    g_log_set_default_handler(quiet, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR);
    dir = g_dir_make_tmp("vr-adopt-id-XXXXXX", NULL);
    identity = vr_identity_load(dir, "kvm2", NULL);
    g_assert_nonnull(identity);
    ADD("drop-in-use", test_drop_in_use);
    ADD("drop-open", test_drop_open);
    ADD("drop-known", test_drop_known);
    ADD("chain", test_chain);
    ADD("older-database", test_older_database);
    ADD("older-generation", test_older_generation);
    ADD("not-dropped", test_not_dropped);
    ADD("diverged", test_diverged);
    ADD("commit-fails", test_commit_fails);
    ADD("fence-follows", test_fence_follows);
    ADD("whose-domain", test_whose_domain);
    status = g_test_run();
    vr_identity_free(identity);
    g_assert_true(vr_remove_tree(dir, NULL));
    return status;
}
