/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boot, ownership and planned failover on two hosts in one process: libvirt is
 * tests/fakes/fake-dom.c, what one host asks of the other is called directly, and each call of
 * either can be made to fail. */
#include <glib/gstdio.h>
#include <string.h>

#include "plugin/check.h"
#include "plugin/cycle/replicate.h"
#include "plugin/job/jobs.h"
#include "plugin/log.h"
#include "plugin/ownership.h"
#include "plugin/peer/peer_ops.h"
#include "plugin/store_find.h"
#include "plugin/target/activation.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/state/state_rp.h"
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
    gboolean not_yet;         /* the target says so to each "activate" */
    const char *known_said;   /* the source knows it no longer: the code, nullable */
    const char *cannot_leave; /* nullable: code of what keeps the source from removing its traces */
    const VrError *forgotten; /* the target knows nothing of it any more: what it answers */
    void (*spoil)(TestHost *target, guint64 number); /* nullable: behind the final cycle */
    const char *job_said; /* the source says so of the job that the target ordered, nullable: all */
    const char *root_said; /* and so of the root that it heard from the target, nullable: that */
} Fixture;

static const VrError forgotten[] = {VR_ERROR_NOT_FOUND, VR_ERROR_AUTH};
static const char *const ended[] = {"no-such-protection", "peer-unknown", "not-your-protection"};
static Fixture *now; /* for the wrapped functions */
static VrIdentity *identities[2];
static char *identity_dir;

/* Wrapped: see meson.build. */
gboolean __wrap_vr_check_source(VrApp *app, const VrCheckWanted *wanted, VrFindings *findings,
                                VrCheckFacts *ret_facts, GCancellable *cancel, GError **error);
JsonNode *__wrap_vr_peer_client_action(VrPeerClient *self, const char *uuid, const char *action,
                                       JsonNode *request, GCancellable *cancel, GError **error);
JsonNode *__wrap_vr_peer_client_job(VrPeerClient *self, gint64 id, GCancellable *cancel,
                                    GError **error);
gboolean __wrap_vr_replicate(VrApp *app, const char *uuid, const VrCycleWanted *wanted,
                             VrCopyProgress *progress, GCancellable *cancel, VrCycleDone *ret_done,
                             GError **error);
gboolean __wrap_vr_source_leave(VrApp *app, const char *uuid, GError **error);
void __wrap_g_usleep(gulong microseconds);
void __real_g_usleep(gulong microseconds);
gint64 __wrap_g_get_monotonic_time(void);
gint64 __real_g_get_monotonic_time(void);

static gint64 slept_us; /* atomic enough: what was not slept */

gint64
__wrap_g_get_monotonic_time(void)
{
    return __real_g_get_monotonic_time() + __atomic_load_n(&slept_us, __ATOMIC_RELAXED);
}

void
__wrap_g_usleep(gulong microseconds)
{
    __atomic_add_fetch(&slept_us, (gint64) microseconds, __ATOMIC_RELAXED);
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
    if (now->spoil != NULL && wanted->final)
        now->spoil(&now->target, rp->number);
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

/* The source's consent is a policy's. */
static JsonNode *
ordered(TestHost *source, JsonNode *request)
{
    gint64 id = 1;

    if (now->job_said == NULL)
        g_assert_true(vr_jobs_start(source->app.jobs, "failover", UUID, "guest1",
                                    json_object_ref(json_node_get_object(request)), &id, NULL));
    return json_from_string(id == 1 ? "{\"job\":1}" : "{}", NULL);
}

/* The target asks the source. */
static JsonNode *
known(GError **error)
{
    const char *said = g_atomic_pointer_get(&now->known_said);
    gboolean missing = g_strcmp0(said, "no-such-protection") == 0;

    if (said == NULL)
        return vr_peer_ops.action(&now->source.app,
                                  vr_identity_fingerprint(now->target.app.identity), UUID, "known",
                                  NULL, error);
    vr_set_error(error, missing ? VR_ERROR_NOT_FOUND : VR_ERROR_AUTH, said, NULL,
                 "as it was ended");
    return NULL;
}

JsonNode *
__wrap_vr_peer_client_action(VrPeerClient *self, const char *uuid, const char *action,
                             JsonNode *request, GCancellable *cancel, GError **error)
{
    TestHost *source = &now->source, *target = &now->target;
    gboolean hit = now->fail_action != 0 && --now->fail_action == 0;
    g_autoptr(JsonNode) answer = NULL;

    if (g_str_equal(action, "planned-failover")) {
        vr_log_of_peer(vr_identity_fingerprint(target->app.identity)); /* as its server does */
        answer = ordered(source, request);
        vr_log_of_peer(NULL);
        return g_steal_pointer(&answer);
    }
    now->fired = now->fired || hit;
    if (g_str_equal(action, "known"))
        return known(error);
    if (now->not_yet && g_str_equal(action, "activate"))
        return json_from_string(
            "{\"owner\":false,\"running\":false,\"error\":{\"kind\":"
            "\"transient\",\"code\":\"peer-unreachable\",\"message\":\"soon\"}}",
            NULL);
    if (now->forgotten != NULL && !g_str_equal(action, "prove")) {
        g_set_error_literal(error, VR_ERROR, now->forgotten[0], "armed");
        return NULL;
    }
    vr_log_of_peer(vr_identity_fingerprint(source->app.identity));
    if (!hit || now->after_it)
        answer = vr_peer_ops.action(&target->app, vr_identity_fingerprint(source->app.identity),
                                    uuid, action, request, hit ? NULL : error);
    vr_log_of_peer(NULL);
    if (hit) {
        vr_set_error(error, VR_ERROR_TRANSIENT, "peer-unreachable", NULL, "armed to fail");
        return NULL;
    }
    return g_steal_pointer(&answer);
}

JsonNode *
__wrap_vr_peer_client_job(VrPeerClient *self, gint64 id, GCancellable *cancel, GError **error)
{
    JsonNode *node =
        now->job_said != NULL
            ? json_from_string(now->job_said, NULL)
            : vr_peer_ops.job(&now->source.app, vr_identity_fingerprint(now->target.app.identity),
                              id, error);
    JsonObject *result = node ? vr_json_object_in(json_node_get_object(node), "result") : NULL;

    if (now->root_said != NULL && result != NULL)
        json_object_set_string_member(result, "root_target", now->root_said);
    return node;
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
    app->checked = vr_checked_definitions_new();
    app->peers = vr_peer_pool_new(app->state, app->identity);
    app->contact = vr_peer_contact_new();
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
    vr_peer_contact_free(app->contact);
    vr_guards_free(app->guards);
    vr_checked_definitions_free(app->checked);
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

static gint64
begin_failover(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    JsonObject *args = json_object_new();
    gint64 id;

    json_object_set_boolean_member(args, "no_verify", TRUE); /* its layers are fresh */
    g_assert_true(vr_jobs_start(f->source.app.jobs, "failover", UUID, "guest1", args, &id, &error));
    g_assert_no_error(error);
    return id;
}

static VrJobRow *
end_failover(Fixture *f, gint64 id)
{
    g_autoptr(GError) error = NULL;
    VrJobRow *row;

    vr_jobs_wait(f->source.app.jobs, id, JOB_SECONDS);
    row = vr_state_job_get(f->source.app.state, id, &error);
    g_assert_no_error(error);
    g_assert_cmpint(row->ended_us, !=, 0);
    return row;
}

static VrJobRow *
fail_over(Fixture *f)
{
    return end_failover(f, begin_failover(f));
}

/* Until that is the protection's error. (transfer full) */
static VrProtection *
wait_error(TestHost *host, const char *slug)
{
    for (;;) {
        g_autoptr(VrProtection) row = row_of(host);

        if (row->last_error != NULL && strstr(row->last_error, slug))
            return g_steal_pointer(&row);
        __real_g_usleep(10000);
    }
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

/* Ordered on the target. (transfer full) */
static VrJobRow *
order_there(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    JsonObject *args = json_object_new();
    VrJobRow *row;
    gint64 id;

    json_object_set_boolean_member(args, "no_verify", TRUE);
    g_assert_true(vr_jobs_start(f->target.app.jobs, "failover", UUID, "guest1", args, &id, &error));
    g_assert_no_error(error);
    vr_jobs_wait(f->target.app.jobs, id, JOB_SECONDS);
    row = vr_state_job_get(f->target.app.state, id, &error);
    g_assert_no_error(error);
    g_assert_cmpint(row->ended_us, !=, 0);
    return row;
}

static void
test_ordered_there(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) source = row_of(&f->source);
    g_autoptr(VrJobRow) job = NULL;

    f->root_said = "none that it can be";
    job = order_there(f);
    g_assert_cmpstr(job->error, ==, NULL);
    g_assert_cmpint(job->state, ==, VR_JOB_COMPLETED);
    assert_moved(f);
    vr_protection_free(g_steal_pointer(&source));
    source = row_of(&f->source);
    g_assert_nonnull(strstr(job->result, source->base_root));
    g_assert_null(strstr(job->result, f->root_said));
}

/* The source says that it is done, and does nothing. */
static void
test_ordered_there_lied(Fixture *f, gconstpointer data)
{
    g_autoptr(VrJobRow) job = NULL;

    f->job_said = "{\"state\":\"completed\",\"steps\":[],\"result\":{\"number\":1}}";
    job = order_there(f);
    g_assert_cmpint(job->state, ==, VR_JOB_FAILED);
    g_assert_nonnull(strstr(job->error, "failover-unconfirmed"));
    g_assert_nonnull(strstr(job->error, "'kvm1'"));
    g_assert_nonnull(strstr(job->error, "'kvm2'"));
    g_assert_null(fake_dom_find(f->target.app.conn, UUID));
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
    static const char *const before[] = {"F1", "F2", "F3", "B1", "B2"};

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
    g_assert_true(json_object_get_boolean_member(json_node_get_object(same), "running"));
    g_assert_cmpuint(there->starts, ==, 1);
}

/* It is the target's and cannot be started yet; meanwhile an operator has ended it at the source
 * and runs it there again. Nothing starts it any more, whatever has become of the pairing. */
static void
test_ended_before_it_runs(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = row_of(&f->target);
    g_autoptr(VrProtection) source = row_of(&f->source);
    g_autofree char *child = child_of(f, row->generation);
    g_autoptr(GError) error = NULL;
    JsonObject *args = json_object_new();
    guint resumes = fake_dom_resumes();
    gint64 id;

    json_object_set_string_member(args, "generation", child);
    json_object_set_int_member(args, "number", (gint64) source->base_number);
    json_object_set_string_member(args, "root", source->base_root);
    json_object_set_boolean_member(args, "autostart", FALSE);
    fake_dom_cannot_resume(TRUE);
    g_assert_true(vr_jobs_start(f->target.app.jobs, "activate", UUID, "guest1", args, &id, &error));
    while (fake_dom_resumes() == resumes)
        __real_g_usleep(1000);
    g_atomic_pointer_set(&f->known_said, data);
    resumes = fake_dom_resumes();
    while (vr_jobs_running(f->target.app.jobs, UUID) != 0 && fake_dom_resumes() < resumes + 3)
        __real_g_usleep(10000);
    fake_dom_cannot_resume(FALSE);
    vr_jobs_wait(f->target.app.jobs, id, JOB_SECONDS);
    g_assert_cmpint(fake_dom_find(f->target.app.conn, UUID)->state, ==, VR_DOM_PAUSED);
    vr_protection_free(row);
    row = wait_error(&f->target, "source-gave-up");
    g_assert_false(vr_activation_recover(&f->target.app, row, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "source-gave-up");
    g_assert_cmpint(fake_dom_find(f->target.app.conn, UUID)->state, ==, VR_DOM_PAUSED);
}

/* While it is being ended by force the source does not say any more that it knows it. */
static void
test_not_known_any_more(Fixture *f, gconstpointer data)
{
    VrApp *app = &f->source.app;
    g_autoptr(VrProtection) row = row_of(&f->source);
    g_autoptr(JsonNode) before = known(NULL);
    g_autofree char *line = NULL;
    g_autoptr(GError) error = NULL;
    gboolean contested = FALSE;

    g_assert_nonnull(before);
    g_assert_true(vr_ownership_leave(app, row, TRUE, &error));
    line = vr_ownership_offer(app, UUID, &error);
    g_assert_nonnull(line);
    g_assert_true(vr_ownership_abandon(app, UUID, &contested, &error) && contested);
    g_assert_null(known(&error));
    g_assert_error(error, VR_ERROR, VR_ERROR_NOT_FOUND);
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

/* What was taken is not refused after the next failover from there either, and no promise is
 * forgotten because of many others. */
static void
test_promises(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) before = row_of(&f->target);
    g_autoptr(VrProtection) source = row_of(&f->source);
    g_autofree char *first = child_of(f, before->generation);
    g_autofree char *taken = NULL;
    g_autofree char *next = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(VrJobRow) job = NULL;
    gboolean refused = FALSE;

    g_assert_true(vr_ownership_refuse(&f->target.app, UUID, first, &refused, NULL) && refused);
    for (guint i = 0; i < 100; i++) {
        g_autofree char *other = child_of(f, before->generation);

        g_assert_true(vr_ownership_refuse(&f->target.app, UUID, other, &refused, &error));
    }
    assert_refused(say_activate(f, first, source->base_number, source->base_root, &error), &error,
                   "activation-refused");
    job = fail_over(f);
    g_assert_cmpint(job->state, ==, VR_JOB_COMPLETED);
    vr_protection_free(source);
    source = row_of(&f->source);
    taken = g_strdup(source->generation);
    next = child_of(f, taken);
    g_assert_true(vr_state_protection_set_generation(f->target.app.state, UUID, next, NULL));
    g_assert_true(vr_ownership_refuse(&f->target.app, UUID, taken, &refused, NULL));
    g_assert_false(refused);
    g_assert_true(vr_ownership_refuse(&f->target.app, UUID, next, &refused, NULL));
    g_assert_false(refused);
}

/* A job of the target's operator, which does nothing. */
static gint64
add_job(Fixture *f, const char *kind, const char *args)
{
    VrJobRow row = {.kind = (char *) kind,
                    .uuid = (char *) UUID,
                    .domain = (char *) "guest1",
                    .args = (char *) args,
                    .state = VR_JOB_RUNNING};

    g_assert_true(vr_state_job_insert(f->target.app.state, &row, NULL));
    return row.id;
}

/* What would keep the target from taking over is met before the guest is shut down. */
static void
test_target_is_busy(Fixture *f, gconstpointer data)
{
    FakeDom *dom = fake_dom_find(f->source.app.conn, UUID);
    g_autoptr(VrJobRow) job = NULL;
    g_autofree char *number = NULL;

    number = g_strdup_printf("job %" G_GINT64_FORMAT, add_job(f, "unprotect", NULL));
    dom->cannot_start = TRUE; /* it would show */
    job = fail_over(f);
    g_assert_cmpint(job->state, ==, VR_JOB_FAILED);
    g_assert_nonnull(strstr(job->error, "job-running"));
    g_assert_nonnull(strstr(job->error, number));
    dom->cannot_start = FALSE;
    assert_as_before(f);
}

static gint64
ask_verify(Fixture *f, const char *request)
{
    const char *peer = vr_identity_fingerprint(f->source.app.identity);
    g_autoptr(JsonNode) node = json_from_string(request, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) answer =
        vr_peer_ops.action(&f->target.app, peer, UUID, "verify", node, &error);

    if (answer != NULL)
        return json_object_get_int_member(json_node_get_object(answer), "job");
    g_assert_cmpstr(vr_error_slug(error), ==, "job-running");
    return 0;
}

/* A verify under way stands for another one only if it reads the same, and no less; and a peer ends
 * none of this host. */
static void
test_another_verify(Fixture *f, gconstpointer data)
{
    const char *peer = vr_identity_fingerprint(f->source.app.identity);
    VrApp *target = &f->target.app;
    gint64 id = add_job(f, "verify", "{\"number\":3}");
    g_autofree char *text = g_strdup_printf("{\"job\":%" G_GINT64_FORMAT "}", id);
    g_autoptr(JsonNode) cancel = json_from_string(text, NULL);
    g_autoptr(JsonNode) done = NULL;
    g_autoptr(VrJobRow) row = NULL;

    g_assert_cmpint(ask_verify(f, "{\"number\":3}"), ==, id);
    g_assert_cmpint(ask_verify(f, "{\"number\":7}"), ==, 0);
    g_assert_cmpint(ask_verify(f, "{}"), ==, 0);
    done = vr_peer_ops.action(target, peer, UUID, "verify-cancel", cancel, NULL);
    g_assert_nonnull(done);
    row = vr_state_job_get(target->state, id, NULL);
    g_assert_null(row->result);
    row->state = VR_JOB_COMPLETED;
    row->ended_us = 1;
    g_assert_true(vr_state_job_update(target->state, row, NULL));
    id = add_job(f, "verify", "{\"number\":3,\"good_since_us\":5}");
    g_assert_cmpint(ask_verify(f, "{\"number\":3}"), ==, 0);
}

/* Only a target activates, whoever orders it. */
static void
test_source_activates_nothing(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = row_of(&f->source);
    g_autofree char *text = g_strdup_printf(
        "{\"generation\":\"%s\",\"root\":\"%064d\",\"number\":1}", row->generation, 0);
    g_autoptr(JsonNode) request = json_from_string(text, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_null(vr_activate(&f->source.app, UUID, request, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "not-target");
    g_assert_cmpint(vr_jobs_running(f->source.app.jobs, UUID), ==, 0);
}

gboolean
__wrap_vr_source_leave(VrApp *app, const char *uuid, GError **error)
{
    if (now->cannot_leave != NULL)
        vr_set_error(error, VR_ERROR_TRANSIENT, now->cannot_leave, NULL, "armed to fail");
    return now->cannot_leave == NULL;
}

static gboolean
run_force(Fixture *f, TestHost *host, char **ret_result)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrJobRow) row = NULL;
    JsonObject *args = json_object_new();
    gint64 id;

    json_object_set_boolean_member(args, "force", TRUE);
    g_assert_true(vr_jobs_start(host->app.jobs, "unprotect", UUID, "guest1", args, &id, &error));
    vr_jobs_wait(host->app.jobs, id, JOB_SECONDS);
    row = vr_state_job_get(host->app.state, id, &error);
    *ret_result = g_strdup(row->result);
    return row->state == VR_JOB_COMPLETED;
}

/* While libvirt is away nobody could guard the backup job that may be left: the protection stays
 * until it is back. What cannot be removed for another reason is said. */
static void
test_force_without_libvirt(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = NULL;
    g_autofree char *failed = NULL;
    g_autofree char *result = NULL;
    gboolean contested = TRUE;

    g_assert_true(vr_ownership_abandon(&f->source.app, UUID, &contested, NULL) && !contested);
    f->cannot_leave = "libvirt-unreachable";
    g_assert_false(run_force(f, &f->source, &failed));
    row = row_of(&f->source);
    g_assert_cmpint(row->state, ==, VR_PROTECTION_DISABLING);
    f->cannot_leave = "libvirt-busy";
    g_assert_true(run_force(f, &f->source, &result));
    g_assert_nonnull(strstr(result, "are left on host 'kvm1': armed to fail"));
    g_assert_null(vr_state_protection_get(f->source.app.state, UUID, NULL));
}

/* The target has lost what it knew (or does not know us any more) while it was to take over: that
 * is said, an operator ends it, the guest can be started by hand, and the two are never in step
 * again. */
static void
test_forgotten(Fixture *f, gconstpointer data)
{
    VrApp *app = &f->source.app;
    g_autoptr(VrTransfer) offered = NULL;
    g_autoptr(VrGeneration) theirs = NULL;
    g_autoptr(VrGeneration) mine = NULL;
    g_autoptr(VrProtection) row = NULL;
    g_autoptr(VrJobRow) failover = NULL;
    g_autofree char *result = NULL;
    g_autoptr(GError) error = NULL;
    gboolean contested = FALSE;
    gint64 id;

    f->forgotten = data;
    fake_dom_find(app->conn, UUID)->autostart = TRUE;
    id = begin_failover(f);
    row = wait_error(&f->source, "hand-over-unanswered");
    g_assert_nonnull(strstr(row->last_error, "unprotect guest1 --force"));
    g_assert_true(vr_state_transfer_get(app->state, UUID, &offered, &error));
    theirs = vr_generation_from_line(offered->generation, &error);
    g_assert_true(vr_ownership_abandon(app, UUID, &contested, &error) && contested);
    failover = end_failover(f, id);
    g_assert_nonnull(strstr(failover->error, "unprotect --force"));
    g_assert_cmpint(fake_dom_find(app->conn, UUID)->state, ==, VR_DOM_SHUTOFF);
    g_assert_true(fenced(&f->source));
    g_clear_pointer(&row, vr_protection_free);
    row = row_of(&f->source);
    mine = vr_generation_from_line(row->generation, &error);
    g_assert_cmpint(vr_generation_compare(mine, theirs), ==, VR_GENERATION_SPLIT_BRAIN);
    g_assert_cmpstr(vr_generation_owner(mine), ==, vr_identity_fingerprint(app->identity));
    g_assert_true(vr_ownership_abandon(app, UUID, &contested, &error) && contested); /* again */
    g_assert_true(run_force(f, &f->source, &result));
    g_assert_nonnull(strstr(result, "may run on host 'kvm2'"));
    g_assert_nonnull(strstr(result, "virsh autostart guest1"));
    g_assert_null(vr_state_protection_get(app->state, UUID, NULL));
    g_assert_false(fenced(&f->source));
}

/* The failover fails and the source cannot start the guest again either: that is said, it is tried
 * until it is possible, and only then the failover has ended. */
static void
test_not_undone(Fixture *f, gconstpointer data)
{
    VrApp *app = &f->source.app;
    FakeDom *dom = fake_dom_find(app->conn, UUID);
    g_autoptr(VrProtection) row = NULL;
    g_autoptr(VrJobRow) job = NULL;
    gint64 id;

    g_assert_true(vr_fault_init("F2:errno=EIO", NULL));
    dom->cannot_start = TRUE;
    id = begin_failover(f);
    row = wait_error(&f->source, "failover-not-undone");
    g_assert_nonnull(strstr(row->last_error, "network is not active"));
    g_assert_cmpint(row->state, ==, VR_PROTECTION_FAILING_OVER);
    g_assert_cmpint(vr_jobs_running(app->jobs, UUID), ==, id);
    dom->cannot_start = FALSE;
    job = end_failover(f, id);
    g_assert_cmpint(job->state, ==, VR_JOB_FAILED);
    assert_as_before(f);
    g_clear_pointer(&row, vr_protection_free);
    row = row_of(&f->source);
    g_assert_null(row->last_error);
}

/* The same, and an operator ends it while the daemon cannot: unprotect puts the guest back, now or
 * later. */
static void
test_given_up_unheard(Fixture *f, gconstpointer data)
{
    VrApp *app = &f->source.app;
    FakeDom *dom = fake_dom_find(app->conn, UUID);
    g_autoptr(VrProtection) row = NULL;
    g_autoptr(VrTransfer) left = NULL;
    g_autofree char *result = NULL;
    gboolean contested = TRUE;
    gint64 id;

    g_assert_true(vr_fault_init("F2:errno=EIO", NULL));
    dom->cannot_start = TRUE;
    id = begin_failover(f);
    row = wait_error(&f->source, "failover-not-undone");
    g_assert_true(vr_ownership_abandon(app, UUID, &contested, NULL) && !contested);
    vr_job_row_free(end_failover(f, id));
    g_assert_cmpint(dom->state, ==, VR_DOM_SHUTOFF);
    contested = TRUE;
    g_assert_true(vr_ownership_abandon(app, UUID, &contested, NULL) && !contested);
    g_assert_true(vr_state_transfer_get(app->state, UUID, &left, NULL));
    g_assert_true(left->phase == VR_TRANSFER_GIVEN_UP && left->ran && left->generation == NULL);
    dom->cannot_start = data != NULL;
    g_assert_true(run_force(f, &f->source, &result));
    g_assert_cmpint(dom->state, ==, data != NULL ? VR_DOM_SHUTOFF : VR_DOM_RUNNING);
    g_assert_true((strstr(result, "was running before its failover") != NULL) == (data != NULL));
    g_assert_null(vr_state_protection_get(app->state, UUID, NULL));
    g_assert_false(fenced(&f->source));
}

/* A target that says "not yet" for ever does not keep the guest off for ever. */
static void
test_not_yet(Fixture *f, gconstpointer data)
{
    g_autoptr(VrJobRow) job = NULL;
    gboolean waits = FALSE;
    gint64 id;

    f->not_yet = TRUE;
    id = begin_failover(f);
    while (vr_jobs_running(f->source.app.jobs, UUID) == id) {
        g_autoptr(VrProtection) row = row_of(&f->source);

        /* it answers, whatever it says: nobody is to end it by force */
        g_assert_true(row->last_error == NULL || !strstr(row->last_error, "--force"));
        waits |= row->last_error != NULL && strstr(row->last_error, "hand-over-waits");
        __real_g_usleep(1000);
    }
    g_assert_true(waits);
    job = end_failover(f, id);
    g_assert_cmpint(job->state, ==, VR_JOB_FAILED);
    g_assert_nonnull(strstr(job->error, "could not take it over"));
    assert_as_before(f);
}

/* It runs here, its old host is gone: the protection ends, the domain and its files stay. */
static void
test_let_go(Fixture *f, gconstpointer data)
{
    g_autoptr(VrJobRow) job G_GNUC_UNUSED = fail_over(f);
    FakeDom *there = fake_dom_find(f->target.app.conn, UUID);
    g_autofree char *result = NULL;
    g_autofree char *store = NULL;

    g_assert_true(run_force(f, &f->target, &result));
    g_assert_nonnull(strstr(result, "/active"));
    g_assert_null(vr_state_protection_get(f->target.app.state, UUID, NULL));
    g_assert_cmpint(there->state, ==, VR_DOM_RUNNING);
    g_assert_true(has_overlay(f));
    g_assert_false(fenced(&f->target));
    g_assert_cmpuint(vr_store_count_orphans(&f->target.app, &store), ==, 0);
    g_assert_null(store);
}

static void
remove_layer(TestHost *host, guint64 number)
{
    g_autofree char *path =
        g_strdup_printf("%s/store/" UUID "/vda/%" G_GUINT64_FORMAT ".qcow2", host->dir, number);

    g_assert_cmpint(g_unlink(path), ==, 0);
}

static void
mark_bad(TestHost *host, guint64 number)
{
    VrLayerCheck check = {number, (char *) "vda", VR_LAYER_UNREADABLE, 7};

    g_assert_true(vr_state_layer_check_put(host->app.state, UUID, &check, NULL));
}

/* Lost between the proof and the hand over, when the guest is off already: it runs on at its
 * source. */
static void
test_spoilt(Fixture *f, gconstpointer data)
{
    g_autoptr(VrJobRow) job = NULL;

    f->spoil = data ? mark_bad : remove_layer;
    job = fail_over(f);
    g_assert_cmpint(job->state, ==, VR_JOB_FAILED);
    g_assert_nonnull(strstr(job->error, "vda"));
    assert_as_before(f);
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

/* The domain that this host owns was undefined before it was seen running: what its guest may have
 * written is in the overlay. */
static void
test_undefined(Fixture *f, gconstpointer data)
{
    g_autoptr(VrProtection) row = row_of(&f->target);
    g_autofree char *child = child_of(f, row->generation);
    g_autofree char *path =
        g_build_filename(f->target.dir, "store", UUID, "active", "vda.qcow2", NULL);
    g_autoptr(VrTargetNetworks) networks = NULL;
    g_autoptr(VrTransfer) transfer = NULL;
    g_autofree char *dir = NULL;
    g_autofree char *generation = NULL;
    VrApp *app = &f->target.app;
    VrTakeOver wanted = {child, 1, FALSE};
    g_autoptr(GError) error = NULL;
    struct stat before, after;
    VrBoot boot;

    g_assert_false(vr_activation_is_left(app, row));
    g_assert_true(vr_ownership_prepare(app, UUID, &wanted, &error));
    g_assert_true(vr_activation_is_left(app, row));
    g_assert_true(vr_state_transfer_get(app->state, UUID, &transfer, &error));
    networks = vr_activation_networks(app, row, &error);
    g_assert_true(vr_activation_boot(app, row, transfer, &boot, &dir, &generation, &error));
    boot.networks = networks;
    vr_boot_prepare(app, &boot, &error);
    g_assert_no_error(error);
    g_assert_true(vr_ownership_take(app, UUID, &error));
    g_assert_true(vr_dom_undefine(app->conn, UUID, TRUE, &error));
    g_assert_cmpint(stat(path, &before), ==, 0);
    vr_protection_free(row);
    row = row_of(&f->target);
    g_assert_true(vr_activation_is_left(app, row));
    vr_activation_recover(app, row, &error);
    g_assert_no_error(error);
    g_assert_false(vr_activation_is_left(app, row));
    g_assert_cmpint(fake_dom_find(app->conn, UUID)->state, ==, VR_DOM_RUNNING);
    g_assert_cmpint(stat(path, &after), ==, 0);
    g_assert_cmpuint(before.st_ino, ==, after.st_ino);
}

/* Names are a peer's to give: two of one name are told apart by UUID only, and a name that is the
 * UUID of another stands for nothing. */
static void
test_names(Fixture *f, gconstpointer data)
{
    VrApp *app = &f->target.app;
    g_autoptr(VrProtection) row = row_of(&f->target);
    g_autoptr(VrProtection) found = NULL;
    g_autoptr(GError) error = NULL;

    g_free(row->uuid);
    row->uuid = g_strdup(OTHER_UUID);
    g_assert_true(vr_state_protection_insert(app->state, row, &error));
    g_assert_null(vr_app_find_protection(app, "guest1", &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_INVALID);
    g_assert_cmpstr(vr_error_slug(error), ==, "ambiguous-name");
    g_assert_true(strstr(error->message, UUID) && strstr(error->message, OTHER_UUID));
    g_clear_error(&error);
    found = vr_app_find_protection(app, OTHER_UUID, &error);
    g_assert_cmpstr(found->uuid, ==, OTHER_UUID);
    g_clear_pointer(&found, vr_protection_free);
    g_assert_true(vr_state_protection_set_name(app->state, OTHER_UUID, UUID, &error));
    found = vr_app_find_protection(app, UUID, &error);
    g_assert_cmpstr(found->uuid, ==, UUID);
    g_assert_true(vr_state_protection_delete(app->state, OTHER_UUID, &error));
}

/* A COMMIT that was let in before the take-over and comes to its transaction behind it. */
static void
test_late_commit(Fixture *f, gconstpointer data)
{
    VrApp *app = &f->target.app;
    g_autoptr(VrJobRow) job = data != NULL ? NULL : fail_over(f);
    g_autoptr(GPtrArray) rows = vr_state_rp_list(app->state, UUID, NULL);
    g_autoptr(VrRpRow) late = g_ptr_array_steal_index(rows, rows->len - 1);
    g_autoptr(GError) error = NULL;

    late->rp.number++;
    g_free(late->rp.cycle);
    late->rp.cycle = vr_random_id();
    if (data != NULL)
        g_assert_true(vr_state_protection_set_kept_until(app->state, UUID, 1, NULL));
    g_assert_false(vr_state_rp_commit(app->state, late, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_REFUSED);
    g_assert_cmpstr(vr_error_slug(error), ==, data != NULL ? "replica-kept" : "failed-over");
    if (job != NULL)
        assert_moved(f);
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
    g_autofree char *large = g_strdup(good);
    g_autoptr(GError) error = NULL;

    g_assert_true(vr_boot_check_definition(&f->target.app, row, good, disks, none, &error));
    g_assert_no_error(error);
    g_assert_false(vr_boot_check_definition(&f->target.app, row, foreign, disks, none, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "uuid-differs");
    g_clear_error(&error);
    g_assert_false(vr_boot_check_definition(&f->target.app, row, good, none, none, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "no-disks");
    g_clear_error(&error);
    memcpy(strstr(large, "MiB"), "GiB", 3);
    g_assert_false(vr_boot_check_definition(&f->target.app, row, large, disks, none, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "memory-too-large");
    g_clear_error(&error);
    memcpy(strstr(machine, "q35-7.2"), "q35-9.9", 7);
    g_assert_false(vr_boot_check_definition(&f->target.app, row, machine, disks, none, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "machine-type-missing");
}

static void
begin_cycle(VrReplica *replica, VrCycleCommit *commit)
{
    g_autoptr(VrRecoveryPoint) head = vr_replica_head(replica, NULL);
    g_autoptr(VrCycleBegin) begin = g_new0(VrCycleBegin, 1);
    g_autoptr(GError) error = NULL;
    guint64 held;

    begin->cycle = vr_random_id();
    begin->kind = VR_CYCLE_DELTA;
    begin->generation = vr_random_id();
    begin->base_number = head->number;
    begin->base_cycle = g_strdup(head->cycle);
    begin->disks = vr_cycle_disks_new();
    vr_cycle_disks_add(begin->disks, "vda", 1 << 20);
    vr_replica_begin(replica, begin, &held, &error);
    g_assert_no_error(error);
    g_free(commit->cycle);
    commit->cycle = g_strdup(begin->cycle);
}

/* One that could not be judged because libvirt was away is judged with the next recovery point. */
static void
test_definition_unjudged(Fixture *f, gconstpointer data)
{
    VrApp *app = &f->target.app;
    VrReplica *replica = vr_replicas_get(app->replicas, UUID, NULL);
    g_autoptr(VrCycleCommit) commit = g_new0(VrCycleCommit, 1);
    g_autoptr(VrRecoveryPoint) unjudged = NULL;
    g_autoptr(GError) error = NULL;

    commit->attachments = vr_attachments_new();
    commit->domain_xml = guest_xml(UUID, "guest1");
    begin_cycle(replica, commit);
    g_assert_true(vr_peer_ops.may_commit(app, UUID, replica, commit, &error));
    fake_dom_fail_at(1);
    g_assert_true(vr_peer_ops.may_commit(app, UUID, replica, commit, &error)); /* known */
    g_assert_false(fake_dom_fired());
    memcpy(strstr(commit->domain_xml, "q35-7.2"), "q35-9.9", 7);
    g_assert_true(vr_peer_ops.may_commit(app, UUID, replica, commit, &error)); /* away */
    g_assert_true(fake_dom_fired());
    fake_dom_fail_at(0);
    unjudged = fake_replica_commit(replica, commit->domain_xml);
    begin_cycle(replica, commit);
    g_assert_false(vr_peer_ops.may_commit(app, UUID, replica, commit, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "machine-type-missing");
    vr_replicas_put(app->replicas, replica);
}

/* A cycle that is not open yet may be so a moment later: its definition is not let through. */
static void
test_definition_of_none(Fixture *f, gconstpointer data)
{
    VrApp *app = &f->target.app;
    VrReplica *replica = vr_replicas_get(app->replicas, UUID, NULL);
    g_autoptr(VrRecoveryPoint) head = vr_replica_head(replica, NULL);
    g_autoptr(VrCycleCommit) commit = g_new0(VrCycleCommit, 1);
    g_autoptr(GError) error = NULL;

    commit->attachments = vr_attachments_new();
    commit->domain_xml = guest_xml(UUID, "guest1");
    commit->cycle = vr_random_id();
    g_assert_false(vr_peer_ops.may_commit(app, UUID, replica, commit, &error));
    g_assert_error(error, VR_ERROR, VR_ERROR_TRANSIENT);
    g_assert_cmpstr(vr_error_slug(error), ==, "cycle-unknown");
    g_free(commit->cycle);
    commit->cycle = g_strdup(head->cycle); /* nothing of it is stored again */
    g_assert_true(vr_peer_ops.may_commit(app, UUID, replica, commit, NULL));
    vr_replicas_put(app->replicas, replica);
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
    ADD("ordered-there", test_ordered_there);
    ADD("ordered-there-lied", test_ordered_there_lied);
    g_test_add_data_func("/failover/nth-libvirt-call", "libvirt", test_nth_failure);
    g_test_add_data_func("/failover/nth-request-lost", "request", test_nth_failure);
    g_test_add_data_func("/failover/nth-answer-lost", "answer", test_nth_failure);
    g_test_add_func("/failover/fault-points", test_fault_points);
    ADD("activate-again", test_activate_again);
    ADD("given-up", test_given_up);
    for (guint i = 0; i < G_N_ELEMENTS(ended); i++) {
        g_autofree char *path = g_strdup_printf("/failover/ended-before-it-runs/%s", ended[i]);

        g_test_add(path, Fixture, ended[i], set_up, test_ended_before_it_runs, tear_down);
    }
    ADD("not-known-any-more", test_not_known_any_more);
    ADD("promises", test_promises);
    g_test_add("/failover/forgotten/not-found", Fixture, &forgotten[0], set_up, test_forgotten,
               tear_down);
    g_test_add("/failover/forgotten/auth", Fixture, &forgotten[1], set_up, test_forgotten,
               tear_down);
    ADD("let-go", test_let_go);
    ADD("force-without-libvirt", test_force_without_libvirt);
    ADD("target-is-busy", test_target_is_busy);
    ADD("another-verify", test_another_verify);
    ADD("source-activates-nothing", test_source_activates_nothing);
    ADD("not-yet", test_not_yet);
    ADD("not-undone", test_not_undone);
    g_test_add("/failover/given-up-unheard/runs", Fixture, NULL, set_up, test_given_up_unheard,
               tear_down);
    g_test_add("/failover/given-up-unheard/stays-off", Fixture, "off", set_up,
               test_given_up_unheard, tear_down);
    g_test_add("/failover/spoilt/gone", Fixture, NULL, set_up, test_spoilt, tear_down);
    g_test_add("/failover/spoilt/bad", Fixture, "bad", set_up, test_spoilt, tear_down);
    ADD("given-up-while-preparing", test_given_up_while_preparing);
    ADD("undefined", test_undefined);
    ADD("late-commit/failed-over", test_late_commit);
    g_test_add("/failover/late-commit/kept", Fixture, "kept", set_up, test_late_commit, tear_down);
    ADD("names", test_names);
    ADD("foreign-domain", test_foreign_domain);
    ADD("definition", test_definition);
    ADD("definition-unjudged", test_definition_unjudged);
    ADD("definition-of-none", test_definition_of_none);
    ADD("name-from-row", test_name_from_row);
    status = g_test_run();
    for (guint i = 0; i < G_N_ELEMENTS(identities); i++)
        vr_identity_free(identities[i]);
    g_assert_true(vr_remove_tree(identity_dir, NULL));
    g_free(identity_dir);
    return status;
}
