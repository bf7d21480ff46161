/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boot, ownership and planned failover on two hosts in one process: libvirt is
 * tests/fakes/fake-dom.c, what one host asks of the other is called directly, and each call of
 * either can be made to fail. */
#include <glib/gstdio.h>
#include <string.h>

#include "plugin/check.h"
#include "plugin/cycle/replicate.h"
#include "plugin/job/jobs.h"
#include "plugin/ownership.h"
#include "plugin/peer/peer_ops.h"
#include "plugin/target/activation.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "storage/file_util.h"
#include "storage/json_util.h"
#include "tests/fakes/fake-dom.h"
#include "tests/fakes/fake-replica.h"

#define UUID "6a3f0d5e-8f5b-4f0e-9c55-3b1e6d0c9a03"
#define OTHER_UUID "6a3f0d5e-8f5b-4f0e-9c55-3b1e6d0c9a04"
#define JOB_SECONDS 60.0

typedef struct {
    VrApp app;
    VrConfig config;
    char *dir;
} TestHost;

typedef struct {
    TestHost source, target;
    guint fail_action; /* the nth request to the target fails; 0: none */
    gboolean after_it; /* it was carried out, the answer is lost */
    gboolean fired;
} Fixture;

static Fixture *now; /* for the wrapped functions */
static VrIdentity *identities[2];
static char *identity_dir;

/* Wrapped: see meson.build. */
gboolean __wrap_vr_check_source(VrApp *app, const VrCheckWanted *wanted, VrFindings *findings,
                                VrCheckFacts *ret_facts, GCancellable *cancel, GError **error);
JsonNode *__wrap_vr_peer_client_action(VrPeerClient *self, const char *uuid, const char *action,
                                       JsonNode *request, GCancellable *cancel, GError **error);
gboolean __wrap_vr_replicate(VrApp *app, const char *uuid, const VrCycleWanted *wanted,
                             VrCopyProgress *progress, GCancellable *cancel, VrCycleDone *ret_done,
                             GError **error);
void __wrap_g_usleep(gulong microseconds);
void __real_g_usleep(gulong microseconds);

void
__wrap_g_usleep(gulong microseconds)
{
    __real_g_usleep(microseconds / 200);
}

gboolean
__wrap_vr_check_source(VrApp *app, const VrCheckWanted *wanted, VrFindings *findings,
                       VrCheckFacts *ret_facts, GCancellable *cancel, GError **error)
{
    return TRUE;
}

static char *
guest_xml(const char *uuid, const char *name)
{
    return g_strdup_printf(
        "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>64</memory>"
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>"
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source file='/srv/vda.qcow2'/><target dev='vda' bus='virtio'/></disk>"
        "</devices></domain>",
        name, uuid);
}

/* A cycle is a commit at the target and a new base here. */
gboolean
__wrap_vr_replicate(VrApp *app, const char *uuid, const VrCycleWanted *wanted,
                    VrCopyProgress *progress, GCancellable *cancel, VrCycleDone *ret_done,
                    GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);
    g_autoptr(VrRecoveryPoint) rp = NULL;
    g_autofree char *xml = guest_xml(UUID, "guest1");
    VrReplica *replica = vr_replicas_get(now->target.app.replicas, uuid, error);

    g_assert_nonnull(row);
    g_assert_nonnull(replica);
    rp = fake_replica_commit(replica, xml);
    vr_replicas_put(now->target.app.replicas, replica);
    row->base_number = rp->number;
    g_free(row->base_root);
    row->base_root = g_strdup(rp->root);
    g_free(row->base_cycle);
    row->base_cycle = g_strdup(rp->cycle);
    g_assert_true(vr_state_protection_set_base(app->state, row, error));
    *ret_done = (VrCycleDone){.number = rp->number};
    g_strlcpy(ret_done->root, rp->root, sizeof ret_done->root);
    return TRUE;
}

JsonNode *
__wrap_vr_peer_client_action(VrPeerClient *self, const char *uuid, const char *action,
                             JsonNode *request, GCancellable *cancel, GError **error)
{
    TestHost *source = &now->source, *target = &now->target;
    gboolean hit = now->fail_action != 0 && --now->fail_action == 0;
    g_autoptr(JsonNode) answer = NULL;

    now->fired = now->fired || hit;
    if (!hit || now->after_it)
        answer = vr_peer_ops.action(&target->app, vr_identity_fingerprint(source->app.identity),
                                    uuid, action, request, hit ? NULL : error);
    if (hit) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "peer-unreachable", NULL, "armed to fail");
        return NULL;
    }
    return g_steal_pointer(&answer);
}

static void
no_cycle(gpointer app, const char *uuid, GCancellable *cancel)
{
}

static void
host_set_up(TestHost *host, guint index, const char *name)
{
    g_autofree char *manifests = NULL;
    g_autofree char *store = NULL;
    VrApp *app = &host->app;

    host->dir = g_dir_make_tmp("vr-failover-XXXXXX", NULL);
    manifests = g_build_filename(host->dir, "manifests", NULL);
    store = g_build_filename(host->dir, "store", NULL);
    host->config = (VrConfig){.name = (char *) name, .state_dir = host->dir};
    app->config = &host->config;
    app->conn = GUINT_TO_POINTER(index + 1);
    app->identity = identities[index];
    app->state = vr_state_open(host->dir, NULL);
    g_assert_nonnull(app->state);
    g_assert_true(vr_make_dir(store, 0711, NULL) && vr_make_dir(manifests, 0700, NULL));
    g_assert_true(vr_state_store_put(app->state, &(VrStoreRow){(char *) "default", store}, NULL));
    app->policies = vr_policy_files_new(host->dir);
    app->fence = vr_fence_new(host->dir, name);
    app->guards = vr_guards_new();
    app->peers = vr_peer_pool_new(app->state, app->identity);
    app->replicas = vr_replicas_new(app->state, manifests);
    app->scheduler = vr_scheduler_new(1, no_cycle, app);
    app->jobs = vr_jobs_new(app->state, vr_job_kinds, vr_n_job_kinds, app);
}

static void
host_tear_down(TestHost *host)
{
    VrApp *app = &host->app;

    vr_jobs_stop(app->jobs);
    vr_jobs_free(app->jobs);
    vr_scheduler_free(app->scheduler);
    vr_replicas_free(app->replicas);
    vr_peer_pool_free(app->peers);
    vr_guards_free(app->guards);
    vr_fence_free(app->fence);
    vr_policy_files_free(app->policies);
    vr_state_close(app->state);
    g_assert_true(vr_remove_tree(host->dir, NULL));
    g_clear_pointer(&host->dir, g_free);
}

static void
add_row(TestHost *host, const TestHost *other, VrRole role, const char *generation)
{
    VrPeer peer = {(char *) vr_identity_fingerprint(other->app.identity), other->config.name,
                   (char *) "127.0.0.1:1", 5, 0};
    VrProtection row = {
        .uuid = (char *) UUID,
        .name = (char *) "guest1",
        .role = role,
        .peer = peer.fingerprint,
        .store = (char *) "default",
        .policy = (char *) "default",
        .policy_text = (char *) "[policy]\ninterval=30s\n",
        .state = VR_PROTECTION_PROTECTED,
        .generation = (char *) generation,
        .exclude = (char *) "",
    };

    g_assert_true(vr_state_peer_put(host->app.state, &peer, NULL));
    g_assert_true(vr_state_protection_insert(host->app.state, &row, NULL));
    if (role == VR_ROLE_TARGET)
        g_assert_true(vr_ownership_fence(&host->app, &row, NULL));
}

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(VrGeneration) generation = NULL;
    g_autofree char *id = vr_random_id();
    g_autofree char *line = NULL;
    VrCycleDone done;

    *f = (Fixture){0};
    now = f;
    fake_dom_reset();
    g_assert_true(vr_fault_init(NULL, NULL));
    host_set_up(&f->source, 0, "kvm1");
    host_set_up(&f->target, 1, "kvm2");
    generation = vr_generation_new(id, vr_identity_fingerprint(f->source.app.identity));
    line = vr_generation_to_line(generation);
    add_row(&f->source, &f->target, VR_ROLE_SOURCE, line);
    add_row(&f->target, &f->source, VR_ROLE_TARGET, line);
    fake_dom_add(f->source.app.conn, UUID, "guest1", VR_DOM_RUNNING);
    g_assert_true(vr_replicate(&f->source.app, UUID, &(VrCycleWanted){0}, NULL, NULL, &done, NULL));
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    g_assert_true(vr_fault_init(NULL, NULL));
    fake_dom_fail_at(0);
    host_tear_down(&f->source);
    host_tear_down(&f->target);
}

static VrProtection *
row_of(TestHost *host)
{
    VrProtection *row = vr_state_protection_get(host->app.state, UUID, NULL);

    g_assert_nonnull(row);
    return row;
}

static gboolean
fenced(TestHost *host)
{
    g_autofree char *path = g_build_filename(host->dir, "fence", UUID, NULL);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void
assert_no_transfer(TestHost *host)
{
    g_autoptr(VrTransfer) transfer = NULL;

    g_assert_true(vr_state_transfer_get(host->app.state, UUID, &transfer, NULL));
    g_assert_true(transfer == NULL || transfer->phase == VR_TRANSFER_REFUSED);
}

static gboolean
has_overlay(Fixture *f)
{
    g_autofree char *path =
        g_build_filename(f->target.dir, "store", UUID, "active", "vda.qcow2", NULL);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* Runs a planned failover to its end. */
static VrJobRow *
fail_over(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    JsonObject *args = json_object_new();
    VrJobRow *row;
    gint64 id;

    json_object_set_boolean_member(args, "no_verify", TRUE); /* its layers are fresh */
    g_assert_true(vr_jobs_start(f->source.app.jobs, "failover", UUID, "guest1", args, &id, &error));
    g_assert_no_error(error);
    vr_jobs_wait(f->source.app.jobs, id, JOB_SECONDS);
    row = vr_state_job_get(f->source.app.state, id, &error);
    g_assert_no_error(error);
    g_assert_cmpint(row->ended_us, !=, 0);
    return row;
}

static void
assert_moved(Fixture *f)
{
    FakeDom *there = fake_dom_find(f->target.app.conn, UUID);
    g_autoptr(VrProtection) source = row_of(&f->source);
    g_autoptr(VrProtection) target = row_of(&f->target);

    g_assert_cmpint(fake_dom_find(f->source.app.conn, UUID)->state, ==, VR_DOM_SHUTOFF);
    g_assert_cmpint(there->state, ==, VR_DOM_RUNNING);
    g_assert_cmpstr(there->role, ==, "replica");
    g_assert_cmpstr(source->generation, ==, target->generation);
    g_assert_cmpint(source->state, ==, VR_PROTECTION_FAILED_OVER);
    g_assert_cmpint(target->state, ==, VR_PROTECTION_FAILED_OVER);
    g_assert_true(fenced(&f->source));
    g_assert_false(fenced(&f->target));
    g_assert_true(has_overlay(f));
    assert_no_transfer(&f->source);
    assert_no_transfer(&f->target);
}

static void
assert_as_before(Fixture *f)
{
    g_autoptr(VrProtection) source = row_of(&f->source);
    g_autoptr(VrProtection) target = row_of(&f->target);

    g_assert_cmpint(fake_dom_find(f->source.app.conn, UUID)->state, ==, VR_DOM_RUNNING);
    g_assert_null(fake_dom_find(f->target.app.conn, UUID));
    g_assert_cmpstr(source->generation, ==, target->generation);
    g_assert_cmpint(source->state, ==, VR_PROTECTION_PROTECTED);
    g_assert_cmpint(target->state, ==, VR_PROTECTION_PROTECTED);
    g_assert_false(fenced(&f->source));
    g_assert_true(fenced(&f->target));
    g_assert_false(has_overlay(f));
    assert_no_transfer(&f->source);
    assert_no_transfer(&f->target);
}

/* The target takes back what it could not when it was asked to. */
static void
recover_target(Fixture *f)
{
    g_autoptr(VrProtection) row = row_of(&f->target);
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_activation_recover(&f->target.app, row, &error));
    g_assert_no_error(error);
}

static void
test_moves(Fixture *f, gconstpointer data)
{
    g_autoptr(VrJobRow) job = NULL;

    fake_dom_find(f->source.app.conn, UUID)->autostart = TRUE;
    job = fail_over(f);
    g_assert_cmpint(job->state, ==, VR_JOB_COMPLETED);
    assert_moved(f);
    g_assert_true(fake_dom_find(f->target.app.conn, UUID)->autostart);
    g_assert_false(fake_dom_find(f->source.app.conn, UUID)->autostart);
}

/* Whatever the @n-th thing that fails is: never two guests, and either all is as before or all is
 * moved. */
static gboolean
run_with_fault(const char *what, guint n)
{
    Fixture f;
    g_autoptr(VrJobRow) job = NULL;
    gboolean fired;

    set_up(&f, NULL);
    if (strcmp(what, "libvirt") == 0) {
        fake_dom_fail_at(n);
    } else {
        f.fail_action = n;
        f.after_it = strcmp(what, "answer") == 0;
    }
    job = fail_over(&f);
    fired = fake_dom_fired() || f.fired;
    fake_dom_fail_at(0);
    recover_target(&f);
    if (job->state == VR_JOB_COMPLETED)
        assert_moved(&f);
    else
        assert_as_before(&f);
    tear_down(&f, NULL);
    return fired;
}

static void
test_nth_failure(gconstpointer what)
{
    guint n = 1;

    while (run_with_fault(what, n))
        n++;
    g_test_message("%u failures of %s", n - 1, (const char *) what);
    g_assert_cmpuint(n, >, 1);
}

static void
test_fault_points(void)
{
    static const char *const before[] = {"F1", "F2", "F3"};

    for (guint i = 0; i < G_N_ELEMENTS(before); i++) {
        g_autofree char *spec = g_strdup_printf("%s:errno=EIO", before[i]);
        g_autoptr(VrJobRow) job = NULL;
        Fixture f;

        set_up(&f, NULL);
        g_assert_true(vr_fault_init(spec, NULL));
        job = fail_over(&f);
        g_assert_cmpint(job->state, ==, VR_JOB_FAILED);
        assert_as_before(&f);
        tear_down(&f, NULL);
    }
}

/* What the target's peer may say by hand. */
static JsonNode *
say_activate(Fixture *f, const char *line, guint64 number, const char *root, GError **error)
{
    g_autoptr(JsonNode) request = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "generation", line);
    json_object_set_int_member(object, "number", (gint64) number);
    json_object_set_string_member(object, "root", root);
    json_node_take_object(request, object);
    return vr_activate(&f->target.app, UUID, request, error);
}

static char *
child_of(Fixture *f, const char *line)
{
    g_autoptr(VrGeneration) parent = vr_generation_from_line(line, NULL);
    g_autofree char *id = vr_random_id();
    g_autoptr(VrGeneration) child =
        vr_generation_advance(parent, id, vr_identity_fingerprint(f->target.app.identity));

    return vr_generation_to_line(child);
}

static void
assert_refused(JsonNode *answer, GError **error, const char *slug)
{
    g_assert_null(answer);
    g_assert_error(*error, VR_ERROR, VR_ERROR_REFUSED);
    g_assert_cmpstr(vr_error_slug(*error), ==, slug);
    g_clear_error(error);
}

/* A domain that runs here is not ended by whatever its old host says next. */
static void
test_activate_again(Fixture *f, gconstpointer data)
{
    g_autoptr(VrJobRow) job G_GNUC_UNUSED = fail_over(f);
    g_autoptr(VrProtection) row = row_of(&f->target);
    g_autoptr(VrProtection) source = row_of(&f->source);
    g_autofree char *child = child_of(f, row->generation);
    g_autofree char *grandchild = child_of(f, child);
    FakeDom *there = fake_dom_find(f->target.app.conn, UUID);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) same = NULL;

    assert_refused(say_activate(f, child, source->base_number, source->base_root, &error), &error,
                   "wrong-state");
    assert_refused(say_activate(f, grandchild, source->base_number, source->base_root, &error),
                   &error, "generation-mismatch");
    g_assert_true(fake_dom_find(f->target.app.conn, UUID) == there);
    g_assert_cmpuint(there->starts, ==, 1);
    assert_moved(f);
    same = say_activate(f, row->generation, source->base_number, source->base_root, &error);
    g_assert_no_error(error);
    g_assert_true(vr_json_true_in(json_node_get_object(same), "running"));
    g_assert_cmpuint(there->starts, ==, 1);
}

static void
test_given_up(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = row_of(&f->target);
    g_autoptr(VrProtection) source = row_of(&f->source);
    g_autofree char *child = child_of(f, row->generation);
    g_autofree char *other = child_of(f, row->generation);
    g_autoptr(GError) error = NULL;
    gboolean refused = FALSE;

    g_assert_true(vr_ownership_refuse(&f->target.app, UUID, other, &refused, NULL) && refused);
    g_assert_true(vr_ownership_refuse(&f->target.app, UUID, child, &refused, NULL) && refused);
    assert_refused(say_activate(f, child, source->base_number, source->base_root, &error), &error,
                   "activation-refused");
    assert_refused(say_activate(f, other, source->base_number, source->base_root, &error), &error,
                   "activation-refused");
    assert_as_before(f);
    g_assert_true(vr_ownership_refuse(&f->target.app, UUID, row->generation, &refused, NULL));
    g_assert_false(refused);
}

/* The promise is heard at the commit point, also when everything was made already. */
static void
test_given_up_while_preparing(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = row_of(&f->target);
    g_autofree char *child = child_of(f, row->generation);
    VrTakeOver wanted = {child, row->base_number, FALSE};
    g_autoptr(GError) error = NULL;
    gboolean refused = FALSE;

    g_assert_true(vr_ownership_prepare(&f->target.app, UUID, &wanted, &error));
    g_assert_false(vr_ownership_prepare(&f->target.app, UUID, &wanted, NULL));
    g_assert_true(vr_ownership_refuse(&f->target.app, UUID, child, &refused, NULL) && refused);
    g_assert_false(vr_ownership_take(&f->target.app, UUID, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "activation-refused");
    g_assert_true(vr_ownership_given_back(&f->target.app, UUID, NULL));
    assert_as_before(f);
}

/* Whoever sits in the replica's place is left as he is. */
static void
test_foreign_domain(Fixture *f, gconstpointer data)
{
    FakeDom *foreign = fake_dom_add(f->target.app.conn, UUID, "somebody", VR_DOM_RUNNING);
    g_autoptr(VrJobRow) job = fail_over(f);

    g_assert_cmpint(job->state, ==, VR_JOB_FAILED);
    g_assert_nonnull(strstr(job->error, "did not make"));
    g_assert_true(fake_dom_find(f->target.app.conn, UUID) == foreign);
    g_assert_cmpint(foreign->state, ==, VR_DOM_RUNNING);
    g_assert_cmpint(fake_dom_find(f->source.app.conn, UUID)->state, ==, VR_DOM_RUNNING);
    g_assert_false(has_overlay(f));
    g_assert_true(fenced(&f->target));
}

static void
test_definition(Fixture *f, gconstpointer data)
{
    static const char *const disks[] = {"vda", NULL}, *const none[] = {NULL};
    g_autoptr(VrProtection) row = row_of(&f->target);
    g_autofree char *good = guest_xml(UUID, "anything");
    g_autofree char *foreign = guest_xml(OTHER_UUID, "guest1");
    g_autofree char *machine = g_strdup(good);
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_boot_check_definition(&f->target.app, row, good, disks, none, &error));
    g_assert_no_error(error);
    g_assert_false(vr_boot_check_definition(&f->target.app, row, foreign, disks, none, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "uuid-differs");
    g_clear_error(&error);
    g_assert_false(vr_boot_check_definition(&f->target.app, row, good, none, none, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "no-disks");
    g_clear_error(&error);
    memcpy(strstr(machine, "q35-7.2"), "q35-9.9", 7);
    g_assert_false(vr_boot_check_definition(&f->target.app, row, machine, disks, none, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "machine-type-missing");
}

/* The names in the RP's definition do not decide what is defined. */
static void
test_name_from_row(Fixture *f, gconstpointer data)
{
    g_autoptr(VrJobRow) job = NULL;

    g_assert_true(vr_state_protection_set_name(f->target.app.state, UUID, "renamed", NULL));
    job = fail_over(f);
    g_assert_cmpint(job->state, ==, VR_JOB_COMPLETED);
    g_assert_cmpstr(fake_dom_find(f->target.app.conn, UUID)->name, ==, "renamed");
}

static void
make_identities(void)
{
    identity_dir = g_dir_make_tmp("vr-identity-XXXXXX", NULL);
    for (guint i = 0; i < G_N_ELEMENTS(identities); i++) {
        g_autofree char *name = g_strdup_printf("host%u", i);
        g_autofree char *dir = g_build_filename(identity_dir, name, NULL);

        identities[i] = vr_identity_load(dir, name, NULL);
        g_assert_nonnull(identities[i]);
    }
}

static void
quiet(const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
    if (level & (G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR))
        g_log_default_handler(domain, level, message, data);
}

#define ADD(path, func) g_test_add("/failover/" path, Fixture, NULL, set_up, func, tear_down)

int
main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL);
    g_log_set_default_handler(quiet, NULL);
    make_identities();
    ADD("moves", test_moves);
    g_test_add_data_func("/failover/nth-libvirt-call", "libvirt", test_nth_failure);
    g_test_add_data_func("/failover/nth-request-lost", "request", test_nth_failure);
    g_test_add_data_func("/failover/nth-answer-lost", "answer", test_nth_failure);
    g_test_add_func("/failover/fault-points", test_fault_points);
    ADD("activate-again", test_activate_again);
    ADD("given-up", test_given_up);
    ADD("given-up-while-preparing", test_given_up_while_preparing);
    ADD("foreign-domain", test_foreign_domain);
    ADD("definition", test_definition);
    ADD("name-from-row", test_name_from_row);
    status = g_test_run();
    for (guint i = 0; i < G_N_ELEMENTS(identities); i++)
        vr_identity_free(identities[i]);
    g_assert_true(vr_remove_tree(identity_dir, NULL));
    g_free(identity_dir);
    return status;
}
