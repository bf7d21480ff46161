/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every message between hosts with every field of every wrong type, in both directions: an error or
 * what is meant, never an assertion (they are fatal here). */
#include <string.h>

#include "plugin/http/http_server.h"
#include "plugin/job/remote_job.h"
#include "plugin/ownership_compare.h"
#include "policies/error.h"
#include "storage/wire/cycle.h"
#include "storage/wire/error_json.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/wire/peer_client.h"

#define ID "0123456789abcdef0123456789abcdef"
#define SHA256 ID ID
#define UUID "0f6a9c1e-1111-4222-8333-444455556666"
#define LINE "1 " ID " " SHA256 " -"
#define SAID "\"generation\":\"" LINE "\""
#define RP "{" RP_MEMBERS "}"
#define RP_MEMBERS                                                                                 \
    "\"number\":1,\"time\":\"x\",\"consistency\":\"crash\",\"root\":\"" SHA256                     \
    "\",\"bytes\":1,\"pinned\":false,\"cycle\":\"" ID "\",\"time_us\":1,\"stored_us\":1"

static const char *const wrong[] = {
    "null", "true", "0",   "-1",     "1.5",  "9223372036854775807", "\"\"", "\"x\"",
    "[]",   "{}",   "[1]", "[null]", "[[]]", "{\"a\":1}",
};

static JsonNode *
parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    JsonNode *node = vr_json_parse(text, strlen(text), VR_JSON_MAX_BYTES, &error);

    g_assert_no_error(error);
    return node;
}

typedef void (*Feed)(JsonNode *message, gpointer data);

/* @node inside of @root is replaced by each wrong value in turn; what is in it as well. */
static void
mutate(JsonNode *root, JsonNode *node, Feed feed, gpointer data)
{
    g_autoptr(GList) names = NULL;

    if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);

        for (guint i = 0; i < json_array_get_length(array); i++)
            mutate(root, json_array_get_element(array, i), feed, data);
        return;
    }
    if (!JSON_NODE_HOLDS_OBJECT(node))
        return;
    names = json_object_get_members(json_node_get_object(node));
    for (GList *l = names; l; l = l->next) {
        JsonObject *object = json_node_get_object(node);
        g_autofree char *name =
            g_strdup(l->data); /* the object frees its own when it is replaced */
        JsonNode *right = json_object_dup_member(object, name);

        mutate(root, json_object_get_member(object, name), feed, data);
        for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
            json_object_set_member(object, name, parse(wrong[i]));
            feed(root, data);
        }
        json_object_remove_member(object, name);
        feed(root, data);
        json_object_set_member(object, name, right);
    }
}

/* The message itself, mutated, and each wrong value in its place. @text is copied to be changed. */
static void
feed_all(const char *text, Feed feed, gpointer data)
{
    g_autoptr(JsonNode) immutable = parse(text);
    g_autofree char *copy = vr_json_to_text(immutable);
    g_autoptr(JsonNode) root = json_from_string(copy, NULL);

    feed(root, data);
    mutate(root, root, feed, data);
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(JsonNode) node = json_from_string(wrong[i], NULL);

        feed(node, data);
    }
}

static void
check(gboolean ok, GError **error)
{
    g_assert_true(ok == (*error == NULL));
    g_clear_error(error);
}

static void
feed_begin(JsonNode *message, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrCycleBegin) begin = vr_cycle_begin_from_json(message, &error);

    check(begin != NULL, &error);
}

static void
feed_commit(JsonNode *message, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrCycleCommit) commit = vr_cycle_commit_from_json(message, &error);

    check(commit != NULL, &error);
}

static void
feed_error(JsonNode *message, gpointer data)
{
    JsonObject *object = vr_json_as_object(message);
    g_autoptr(GError) error = object ? vr_error_from_json_object(object) : NULL;

    g_assert_true(!object || (error->domain == VR_ERROR && error->message));
}

static void
test_parsers(void)
{
    feed_all("{\"cycle\":\"" ID "\",\"kind\":\"delta\",\"generation\":\"" ID
             "\",\"base_number\":1,\"base_cycle\":\"" ID
             "\",\"disks\":[{\"name\":\"vda\",\"size\":65536}]}",
             feed_begin, NULL);
    feed_all("{\"cycle\":\"" ID "\",\"time_us\":1,\"consistency\":\"crash\",\"root\":\"" SHA256
             "\",\"domain_xml\":\"<domain/>\",\"attachments\":[{\"name\":\"nvram\",\"size\":1,"
             "\"sha256\":\"" SHA256 "\"}]}",
             feed_commit, NULL);
    feed_all("{\"code\":\"a-b\",\"kind\":\"refused\",\"message\":\"m\",\"action\":\"a\"}",
             feed_error, NULL);
}

/* A target that answers whatever it is told to. */
typedef struct {
    char *dir;
    VrIdentity *id;
    VrHttpServer *server;
    VrPeerClient *client;
    char *answer; /* JSON */
    guint status; /* 0: 200 */
    gboolean (*call)(VrPeerClient *client, GError **error);
} Target;

static gboolean
on_any(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    const Target *target = data;

    vr_http_reply_bytes(reply, target->status ? target->status : 200, "application/json",
                        g_bytes_new(target->answer, strlen(target->answer)));
    return TRUE;
}

#define P "/v1/peer/protections/{uuid}"
static const VrHttpRoute routes[] = {
    {"GET", "/v1/peer/hello", on_any, VR_HTTP_BODY_NONE, 0, FALSE},
    {"POST", "/v1/peer/check", on_any, VR_HTTP_BODY_JSON, 0, FALSE},
    {"PUT", P, on_any, VR_HTTP_BODY_JSON, 0, FALSE},
    {"DELETE", P, on_any, VR_HTTP_BODY_NONE, 0, FALSE},
    {"POST", P "/action/{action}", on_any, VR_HTTP_BODY_JSON, 0, FALSE},
    {"GET", "/v1/peer/jobs/{id}", on_any, VR_HTTP_BODY_NONE, 0, FALSE},
    {"GET", P "/head", on_any, VR_HTTP_BODY_NONE, 0, FALSE},
    {"GET", P "/rps", on_any, VR_HTTP_BODY_NONE, 0, FALSE},
    {"GET", P "/attachments/{sha256}", on_any, VR_HTTP_BODY_NONE, 0, FALSE},
    {"POST", P "/cycles", on_any, VR_HTTP_BODY_JSON, 0, FALSE},
    {"GET", P "/cycles/{cycle}", on_any, VR_HTTP_BODY_NONE, 0, FALSE},
    {"POST", P "/cycles/{cycle}/commit", on_any, VR_HTTP_BODY_JSON, 0, FALSE},
};

static gboolean
call_head(VrPeerClient *client, GError **error)
{
    VrRecoveryPoint *rp = NULL;
    gboolean ok = vr_peer_client_head(client, UUID, &rp, NULL, error);

    vr_recovery_point_free(rp);
    return ok;
}

static gboolean
call_rps(VrPeerClient *client, GError **error)
{
    g_autoptr(GPtrArray) rps = vr_peer_client_rps(client, UUID, NULL, error);

    return rps != NULL;
}

static gboolean
call_begin(VrPeerClient *client, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_cycle_disks_new();
    VrCycleBegin begin = {.cycle = (char *) ID, .generation = (char *) ID, .disks = disks};
    guint64 held;

    vr_cycle_disks_add(disks, "vda", 65536);
    return vr_peer_client_begin(client, UUID, &begin, &held, NULL, error);
}

static gboolean
call_status(VrPeerClient *client, GError **error)
{
    VrRecoveryPoint *rp = NULL;
    VrCycleStatus status;
    gboolean ok = vr_peer_client_cycle_status(client, UUID, ID, &status, &rp, NULL, error);

    vr_recovery_point_free(rp);
    return ok;
}

static gboolean
call_attachment(VrPeerClient *client, GError **error)
{
    gboolean has;

    return vr_peer_client_has_attachment(client, UUID, SHA256, &has, NULL, error);
}

static gboolean
call_commit(VrPeerClient *client, GError **error)
{
    g_autoptr(GPtrArray) attachments = vr_attachments_new();
    VrCycleCommit commit = {.cycle = (char *) ID,
                            .root = (char *) SHA256,
                            .domain_xml = (char *) "<domain/>",
                            .attachments = attachments};
    VrRecoveryPoint *rp = vr_peer_client_commit(client, UUID, &commit, NULL, error);
    gboolean ok = rp != NULL;

    vr_recovery_point_free(rp);
    return ok;
}

static gboolean
call_check(VrPeerClient *client, GError **error)
{
    g_autoptr(JsonNode) answer = vr_peer_client_check(client, NULL, NULL, error);

    return answer != NULL;
}

static gboolean
call_job(VrPeerClient *client, GError **error)
{
    g_autoptr(JsonNode) answer = vr_peer_client_job(client, 1, NULL, error);

    return answer != NULL;
}

static gboolean
call_hello(VrPeerClient *client, GError **error)
{
    return vr_peer_client_hello(client, NULL, NULL, error);
}

static void
feed_answer(JsonNode *message, gpointer data)
{
    Target *target = data;
    g_autoptr(GError) error = NULL;

    g_free(target->answer);
    target->answer = vr_json_to_text(message);
    check(target->call(target->client, &error), &error);
}

static void
target_start(Target *target)
{
    g_autofree char *pki = NULL;
    g_autofree char *address = NULL;
    g_autoptr(GError) error = NULL;

    target->dir = g_dir_make_tmp("vr-types-XXXXXX", NULL);
    pki = g_build_filename(target->dir, "pki", NULL);
    target->id = vr_identity_load(pki, "b", &error);
    g_assert_no_error(error);
    target->server = vr_http_server_new_tls("127.0.0.1:0", target->id, &error);
    g_assert_no_error(error);
    vr_http_server_add_routes(target->server, routes, G_N_ELEMENTS(routes), target);
    g_assert_true(vr_http_server_start(target->server, &error));
    address = g_strdup_printf("127.0.0.1:%u", vr_http_server_port(target->server));
    target->client = vr_peer_client_new("b", address, vr_identity_fingerprint(target->id),
                                        vr_identity_cert_path(target->id),
                                        vr_identity_key_path(target->id), &error);
    g_assert_no_error(error);
}

static void
target_stop(Target *target)
{
    vr_peer_client_free(target->client);
    vr_http_server_free(target->server);
    vr_identity_free(target->id);
    g_assert_true(vr_remove_tree(target->dir, NULL));
    g_free(target->dir);
    g_free(target->answer);
}

static void
test_answers(void)
{
    static const struct {
        gboolean (*call)(VrPeerClient *client, GError **error);
        const char *answer;
    } cases[] = {
        {call_hello, "{\"name\":\"b\",\"version\":\"1\",\"time_us\":1}"},
        {call_check, "{\"ok\":true,\"findings\":[{\"severity\":\"error\",\"code\":\"a\"}]}"},
        {call_job, "{\"id\":1,\"state\":\"running\",\"steps\":[{\"name\":\"a\",\"state\":\"b\"}]}"},
        {call_head, "{\"rp\":" RP "}"},
        {call_rps, "{\"rps\":[" RP "]}"},
        {call_begin, "{\"held\":0}"},
        {call_status, "{\"status\":\"committed\",\"rp\":" RP "}"},
        {call_attachment, "{\"stored\":true}"},
        {call_commit, RP},
    };
    Target target = {0};

    target_start(&target);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        target.call = cases[i].call;
        g_free(target.answer);
        target.answer = g_strdup(cases[i].answer);
        g_assert_true(target.call(target.client, &error));
        g_assert_no_error(error);
        feed_all(cases[i].answer, feed_answer, &target);
    }
    target_stop(&target);
}

static gboolean
call_compare(VrPeerClient *client, GError **error)
{
    const VrProtection row = {.uuid = (char *) UUID, .generation = (char *) LINE};
    g_auto(VrOwnershipSide) side = {0};

    return vr_ownership_side_there(client, &row, NULL, &side, error);
}

static gboolean
run_follow(VrJob *job, gpointer data, GError **error)
{
    Target *target = data;
    g_autoptr(JsonNode) answer = NULL;

    return vr_remote_job_follow(job, target->client, 1, vr_remote_job_show_progress, NULL, &answer,
                                error);
}

static const VrJobStepDef follow_steps[] = {{"follow"}, {NULL}};
static const VrJobKind follow_kind = {"verify", follow_steps, run_follow};
static Target *followed; /* of the test that runs */

/* The error of a job that follows one of the peer's. */
static gboolean
call_follow(VrPeerClient *client, GError **error)
{
    g_autofree char *path = g_build_filename(followed->dir, "follow.db", NULL);
    g_autoptr(VrState) state = vr_state_open(path, NULL);
    VrJobs *jobs = vr_jobs_new(state, &follow_kind, 1, followed);
    g_autoptr(JsonNode) seen = NULL;
    JsonObject *cause;
    gint64 id = 0;

    g_assert_true(vr_jobs_start(jobs, "verify", UUID, "vm", NULL, &id, NULL));
    vr_jobs_wait(jobs, id, 20);
    seen = vr_jobs_get(jobs, id, NULL);
    vr_jobs_stop(jobs);
    vr_jobs_free(jobs);
    cause = vr_json_object_in(json_node_get_object(seen), "error");
    if (cause)
        g_propagate_error(error, vr_error_from_json_object(cause));
    return cause == NULL;
}

/* Each of @key's wrong types is an error, and not what is not there or null. */
static void
expect_types(Target *target, const char *answer, const char *key, const char *right)
{
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        gboolean same = strcmp(wrong[i], "null") == 0 || strstr(right, wrong[i]) != NULL;
        g_autoptr(GError) error = NULL;

        g_free(target->answer);
        target->answer = g_strdup_printf("{%s,\"%s\":%s}", answer, key, wrong[i]);
        g_test_message("%s", target->answer);
        g_assert_cmpint(target->call(target->client, &error), ==, same);
        if (!same)
            g_assert_cmpstr(vr_error_slug(error), ==, "bad-message");
    }
}

/* What would be believed instead is the worst of all: that a guest does not run, that nothing was
 * found. */
static void
test_wrong_is_an_error(void)
{
    static const struct {
        gboolean (*call)(VrPeerClient *client, GError **error);
        const char *answer, *key, *right;
    } cases[] = {
        {call_compare, SAID, "active", "true"},
        {call_compare, SAID, "running", "true"},
        {call_compare, SAID, "moving", "true"},
        {call_compare, SAID, "idle", "true"},
        {call_compare, SAID, "store_percent", "0"},
        {call_compare, SAID, "room_bytes", "0 9223372036854775807"},
        {call_follow, "\"state\":\"completed\"", "progress", "0 -1 1.5 9223372036854775807"},
        {call_follow, "\"state\":\"completed\"", "bytes_read", "0 9223372036854775807"},
        {call_follow, "\"state\":\"completed\"", "error", "{} {\"a\":1}"},
        {call_follow, "\"state\":\"completed\"", "result", "{} {\"a\":1}"},
        {call_commit, RP_MEMBERS, "damaged_disk", "none"},
        {call_commit, RP_MEMBERS, "damaged_chunks", "0 9223372036854775807"},
        {call_commit, RP_MEMBERS, "verified_us", "0 9223372036854775807"},
    };
    Target target = {0};

    target_start(&target);
    followed = &target;
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK); /* a job that fails warns */
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        target.call = cases[i].call;
        expect_types(&target, cases[i].answer, cases[i].key, cases[i].right);
    }
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING | G_LOG_FATAL_MASK);
    target_stop(&target);
}

/* What a peer tells of itself is nothing that this host asked for or has lost. */
static void
test_kinds(void)
{
    static const struct {
        const char *kind;
        VrError code;
    } kinds[] = {{"cancelled", VR_ERROR_TRANSIENT},
                 {"resync-needed", VR_ERROR_TRANSIENT},
                 {"timeout", VR_ERROR_TRANSIENT},
                 {"unreachable", VR_ERROR_TRANSIENT},
                 {"auth", VR_ERROR_AUTH},
                 {"refused", VR_ERROR_REFUSED},
                 {"corrupt", VR_ERROR_CORRUPT},
                 {"internal", VR_ERROR_INTERNAL},
                 {"no kind of ours", VR_ERROR_INTERNAL}};
    Target target = {.status = 500};

    target_start(&target);
    followed = &target;
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK); /* a job that fails warns */
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *cause =
            g_strdup_printf("{\"code\":\"a-b\",\"kind\":\"%s\",\"message\":\"m\"}", kinds[i].kind);
        g_autoptr(GError) error = NULL;
        g_autoptr(GError) ended = NULL;

        g_free(target.answer);
        target.answer = g_strdup_printf("{\"error\":%s}", cause);
        target.status = 500;
        g_assert_false(call_head(target.client, &error));
        g_assert_error(error, VR_ERROR, (gint) kinds[i].code);
        g_assert_cmpstr(vr_error_slug(error), ==, "a-b");
        g_free(target.answer);
        target.answer = g_strdup_printf("{\"state\":\"failed\",\"error\":%s}", cause);
        target.status = 200;
        g_assert_false(call_follow(target.client, &ended));
        g_assert_error(ended, VR_ERROR, (gint) kinds[i].code);
    }
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING | G_LOG_FATAL_MASK);
    target_stop(&target);
}

/* Whose words they are is said, also of those that name another host. */
static void
test_whose(void)
{
    static const struct {
        const char *message;
        gboolean names_it;
    } cases[] = {{"m", FALSE}, {"host 'a': m", FALSE}, {"m of host 'b'", TRUE}};
    Target target = {0};

    target_start(&target);
    followed = &target;
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK); /* a job that fails warns */
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *cause = g_strdup_printf(
            "{\"code\":\"a-b\",\"kind\":\"refused\",\"message\":\"%s\"}", cases[i].message);
        g_autoptr(GError) error = NULL;
        g_autoptr(GError) ended = NULL;

        g_free(target.answer);
        target.answer = g_strdup_printf("{\"error\":%s}", cause);
        target.status = 409;
        g_assert_false(call_head(target.client, &error));
        g_assert_true(g_str_has_suffix(error->message, cases[i].message));
        g_assert_true(g_str_has_prefix(error->message, "peer 'b' (") != cases[i].names_it);
        g_free(target.answer);
        target.answer = g_strdup_printf("{\"state\":\"failed\",\"error\":%s}", cause);
        target.status = 200;
        g_assert_false(call_follow(target.client, &ended));
        g_assert_true(g_str_has_suffix(ended->message, cases[i].message));
        g_assert_true(g_str_has_prefix(ended->message, "peer 'b': ") != cases[i].names_it);
    }
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING | G_LOG_FATAL_MASK);
    target_stop(&target);
}

/* What a hostile target may answer costs what a right answer costs: it is refused before it is
 * parsed. */
static void
test_large_answers(void)
{
    Target target = {.call = call_rps};
    g_autoptr(GError) error = NULL;
    GString *many = g_string_new("{\"rps\":[0");

    target_start(&target);
    for (guint i = 0; i < VR_JSON_MAX_VALUES; i++)
        g_string_append(many, ",0");
    g_string_append(many, "]}");
    target.answer = g_string_free(many, FALSE);
    g_assert_false(target.call(target.client, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "bad-json");
    g_clear_error(&error);
    g_free(target.answer);
    target.answer = g_strnfill(VR_JSON_MAX_BYTES + 1, ' ');
    g_assert_false(target.call(target.client, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "answer-too-large");
    target_stop(&target);
}

/* Points that never end, or go back, end the list. */
static void
test_endless_list(void)
{
    Target target = {.call = call_rps};
    g_autoptr(GError) error = NULL;
    GString *page = g_string_new("{\"rps\":[");

    target_start(&target);
    for (guint i = 0; i < VR_PEER_RPS_PAGE; i++)
        g_string_append_printf(page, "%s" RP, i ? "," : "");
    g_string_append(page, "]}");
    target.answer = g_string_free(page, FALSE);
    g_assert_false(target.call(target.client, &error));
    g_assert_cmpstr(vr_error_slug(error), ==, "bad-message");
    target_stop(&target);
}

/* As people write them; the same number, and nothing of a string, is changed. */
static void
test_numbers(void)
{
    static const char text[] = "{\"a\":4.2000000000000002,\"b\":[-1,0,9007199254740993,0.5],"
                               "\"4.2000000000000002 \\\" 1.10000000000000009\":true,\"c\":1e300,"
                               "\"d\":0.30000000000000004,\"e\":null,\"f\":\"-0.10\"}";
    g_autoptr(JsonNode) node = json_from_string(text, NULL);
    g_autofree char *out = vr_json_to_text(node);
    g_autoptr(JsonNode) again = json_from_string(out, NULL);

    g_assert_nonnull(strstr(out, "\"a\":4.2,"));
    g_assert_nonnull(strstr(out, "[-1,0,9007199254740993,0.5]"));
    g_assert_nonnull(strstr(out, "\"4.2000000000000002 \\\" 1.10000000000000009\":true"));
    g_assert_nonnull(strstr(out, "\"f\":\"-0.10\""));
    g_assert_true(json_node_equal(node, again));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING | G_LOG_FATAL_MASK);
    vr_http_global_init();
    g_test_add_func("/peer-types/numbers", test_numbers);
    g_test_add_func("/peer-types/parsers", test_parsers);
    g_test_add_func("/peer-types/answers", test_answers);
    g_test_add_func("/peer-types/wrong-is-an-error", test_wrong_is_an_error);
    g_test_add_func("/peer-types/kinds", test_kinds);
    g_test_add_func("/peer-types/whose", test_whose);
    g_test_add_func("/peer-types/large-answers", test_large_answers);
    g_test_add_func("/peer-types/endless-list", test_endless_list);
    return g_test_run();
}
