/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/api/api.h"
#include "plugin/check.h"
#include "plugin/exclusive.h"
#include "plugin/ownership.h"
#include "plugin/protection_view.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "qmp/domain/domain_ops.h"
#include "storage/util/json_util.h"

#define DEFAULT_STORE "default"
#define DEFAULT_POLICY "default"
#define FAILOVER_ENDS_SECONDS 20.0

/* "exclude": ["vdb", ...] as comma-separated text. */
static char *
read_exclude(JsonObject *object, GError **error)
{
    JsonNode *node = json_object_get_member(object, "exclude");
    JsonArray *array = vr_json_as_array(node);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; array != NULL && i < json_array_get_length(array); i++) {
        const char *disk = json_array_get_string_element(array, i);

        if (!vr_disk_name_valid(disk)) {
            g_autofree char *shown = vr_display_name(disk ? disk : "", 32);

            vr_set_error(error, VR_ERROR_INVALID, "bad-disk-name", "Use target names such as vdb.",
                         "'%s' cannot be the target of a disk", shown);
            return NULL;
        }
        g_string_append_printf(text, "%s%s", text->len ? "," : "", disk);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

typedef struct {
    const char *domain, *peer, *store, *policy;
    char *exclude; /* owned */
} Wanted;

static gboolean
read_wanted(const VrHttpRequest *request, Wanted *wanted, GError **error)
{
    JsonObject *object = vr_http_request_object(request, error);

    if (object == NULL ||
        (wanted->domain = vr_json_string(object, "domain", VR_API_NAME_MAX, error)) == NULL ||
        (wanted->peer = vr_json_string(object, "peer", VR_API_NAME_MAX, error)) == NULL ||
        !vr_json_string_opt(object, "store", VR_API_NAME_MAX, &wanted->store, error) ||
        !vr_json_string_opt(object, "policy", VR_API_NAME_MAX, &wanted->policy, error))
        return FALSE;
    if (wanted->store != NULL && !vr_name_valid(wanted->store)) {
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-store",
                     "See 'virt-replica store-list' on the peer.",
                     "'%s' is not the name of a store", wanted->store);
        return FALSE;
    }
    if (wanted->store == NULL)
        wanted->store = DEFAULT_STORE;
    if (wanted->policy == NULL)
        wanted->policy = DEFAULT_POLICY;
    wanted->exclude = read_exclude(object, error);
    return wanted->exclude != NULL;
}

/* What the target has of that domain is then the domain itself: none of the advice of a check fits.
 */
static gboolean
was_failed_over(VrApp *app, const char *domain, VrFindings *findings)
{
    g_autoptr(VrProtection) row = vr_app_find_protection(app, domain, NULL);

    if (row == NULL || row->state != VR_PROTECTION_FAILED_OVER)
        return FALSE;
    vr_findings_add(findings, VR_FINDING_ERROR, "already-protected", "See 'virt-replica info'.",
                    "domain '%s' is protected already (state failed-over)", row->name);
    return TRUE;
}

static gboolean
check(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    Wanted wanted = {0};
    g_auto(GStrv) exclude = NULL;
    g_autoptr(VrFindings) findings = vr_findings_new();
    JsonObject *object;

    if (!read_wanted(request, &wanted, error))
        return FALSE;
    exclude = wanted.exclude[0] ? g_strsplit(wanted.exclude, ",", -1) : g_new0(char *, 1);
    g_free(wanted.exclude);
    if (!was_failed_over(data, wanted.domain, findings) &&
        !vr_check_source(data,
                         &(VrCheckWanted){wanted.domain, wanted.peer, wanted.store,
                                          (const char *const *) exclude},
                         findings, NULL, vr_http_request_cancel(request), error))
        return FALSE;
    object = json_object_new();
    json_object_set_boolean_member(object, "ok", vr_findings_errors(findings) == 0);
    json_object_set_array_member(object, "findings", vr_findings_to_json(findings));
    vr_api_reply(reply, 200, object);
    return TRUE;
}

static gboolean
not_protected(VrApp *app, const VrDomInfo *info, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, info->uuid, NULL);

    if (row == NULL)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "already-protected", "See 'virt-replica info'.",
                 "domain '%s' is protected already (state %s)", info->name,
                 vr_protection_state_name(row->state));
    return FALSE;
}

static gboolean
protect(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    Wanted wanted = {0};
    g_autoptr(VrPeer) peer = NULL;
    g_autoptr(VrDomInfo) info = NULL;
    g_autoptr(VrPolicy) policy = NULL;
    g_autofree char *exclude = NULL;
    JsonObject *args;
    gint64 id;

    if (!read_wanted(request, &wanted, error))
        return FALSE;
    exclude = wanted.exclude;
    peer = vr_state_peer_get(app->state, wanted.peer, error);
    policy = peer ? vr_policy_files_get(app->policies, wanted.policy, error) : NULL;
    info = policy ? vr_dom_info(app->conn, wanted.domain, error) : NULL;
    if (info == NULL || !not_protected(app, info, error) ||
        !vr_peer_quota_check_host(app->quota, error))
        return FALSE;
    args = json_object_new();
    json_object_set_string_member(args, "peer", peer->fingerprint);
    json_object_set_string_member(args, "store", wanted.store);
    json_object_set_string_member(args, "policy", wanted.policy);
    json_object_set_string_member(args, "exclude", exclude);
    if (!vr_jobs_start(app->jobs, "protect", info->uuid, info->name, args, &id, error))
        return FALSE;
    vr_api_reply_job(reply, id);
    return TRUE;
}

static gboolean
list(const VrHttpRequest *request G_GNUC_UNUSED, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, error);
    JsonArray *array;

    if (rows == NULL)
        return FALSE;
    array = json_array_new();
    for (guint i = 0; i < rows->len; i++)
        json_array_add_element(array, vr_protection_view(app, g_ptr_array_index(rows, i)));
    vr_api_reply_array(reply, array);
    return TRUE;
}

static VrProtection *
find(const VrHttpRequest *request, VrApp *app, GError **error)
{
    return vr_app_find_protection(app, vr_http_request_param(request, "domain"), error);
}

static VrProtection *
find_source(const VrHttpRequest *request, VrApp *app, GError **error)
{
    return vr_app_find_source(app, vr_http_request_param(request, "domain"), error);
}

static gboolean
info(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_autoptr(VrProtection) row = find(request, data, error);

    if (row == NULL)
        return FALSE;
    vr_http_reply_json(reply, 200, vr_protection_view(data, row));
    return TRUE;
}

static gboolean
admits(const VrProtection *row, VrOperation operation, GError **error)
{
    if (vr_protection_admits(row->state, operation, error))
        return TRUE;
    g_prefix_error(error, "domain '%s': ", row->name);
    return FALSE;
}

/* @args: (transfer full) */
static gboolean
start_job(VrApp *app, const char *kind, const VrProtection *row, JsonObject *args,
          VrHttpReply *reply, GError **error)
{
    gint64 id;

    if (!vr_jobs_start(app->jobs, kind, row->uuid, row->name, args, &id, error))
        return FALSE;
    vr_api_reply_job(reply, id);
    return TRUE;
}

/* NULL with @error. */
static JsonObject *
flag_args(const VrHttpRequest *request, const char *flag, GError **error)
{
    JsonObject *args;
    gboolean value;

    if (!vr_json_bool_opt(vr_json_as_object(vr_http_request_json(request)), flag, FALSE, &value,
                          error))
        return NULL;
    args = json_object_new();
    json_object_set_boolean_member(args, flag, value);
    return args;
}

static gboolean
sync_now(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_autoptr(VrProtection) row = find_source(request, data, error);

    JsonObject *args = row != NULL && admits(row, VR_OPERATION_SYNC, error)
                           ? flag_args(request, "quiesce", error)
                           : NULL;

    return args != NULL && start_job(data, "sync", row, args, reply, error);
}

/* One that was not offered to the target yet is undone now, one that waits for the target's word
 * goes on until it hears of the decision. */
static void
cancel_failover(VrApp *app, const VrProtection *row, gint64 failover)
{
    g_autoptr(VrTransfer) transfer = NULL;

    if (failover == 0 || !vr_jobs_cancel(app->jobs, failover, NULL))
        return;
    if (vr_state_transfer_get(app->state, row->uuid, &transfer, NULL) && transfer != NULL &&
        transfer->phase != VR_TRANSFER_LEAVING)
        return;
    vr_jobs_wait(app->jobs, failover, FAILOVER_ENDS_SECONDS);
}

/* The decision is recorded first; a failover that waits for the peer hears of it and ends. */
static gboolean
decide_by_force(VrApp *app, const VrProtection *row, GError **error)
{
    gint64 failover = vr_jobs_find(app->jobs, row->uuid, "failover");
    gboolean contested = FALSE;

    if (row->role == VR_ROLE_TARGET)
        return TRUE;
    if (!vr_jobs_check_free(app->jobs, failover, "unprotect", row->uuid, row->name, error))
        return FALSE;
    cancel_failover(app, row, failover);
    if (!vr_ownership_abandon(app, row->uuid, &contested, error))
        return FALSE;
    if (failover != 0)
        vr_jobs_wait(app->jobs, failover, FAILOVER_ENDS_SECONDS);
    return TRUE;
}

static gboolean
unprotect(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_autoptr(VrProtection) row = find(request, data, error);
    g_autoptr(JsonObject) args = row != NULL ? flag_args(request, "keep_replica", error) : NULL;
    g_autoptr(JsonObject) forced = args != NULL ? flag_args(request, "force", error) : NULL;
    gboolean force;

    if (forced == NULL)
        return FALSE;
    force = json_object_get_boolean_member(forced, "force");
    json_object_set_boolean_member(args, "force", force);
    if (force ? !decide_by_force(data, row, error) : !admits(row, VR_OPERATION_UNPROTECT, error))
        return FALSE;
    return start_job(data, "unprotect", row, g_steal_pointer(&args), reply, error);
}

static gboolean
failover(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_autoptr(VrProtection) row = find(request, data, error);
    JsonObject *object = row ? vr_http_request_object(request, error) : NULL;
    const char *mode = object ? vr_json_string(object, "mode", 16, error) : NULL;
    gboolean no_verify;
    JsonObject *args;

    if (mode == NULL)
        return FALSE;
    if (strcmp(mode, "planned") != 0) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-mode", "Use --planned.",
                     "'%s' is not a kind of failover", mode);
        return FALSE;
    }
    if (!admits(row, VR_OPERATION_PLANNED_FAILOVER, error))
        return FALSE;
    if (!vr_json_bool_opt(object, "no_verify", FALSE, &no_verify, error))
        return FALSE;
    args = flag_args(request, "force", error);
    if (args == NULL)
        return FALSE;
    json_object_set_boolean_member(args, "no_verify", no_verify);
    return start_job(data, "failover", row, args, reply, error);
}

static gboolean
verify(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_autoptr(VrProtection) row = find(request, data, error);
    JsonObject *object = row ? vr_http_request_object(request, error) : NULL;
    guint64 number = 0;
    JsonObject *args;

    if (object == NULL || (json_object_has_member(object, "number") &&
                           !vr_json_uint(object, "number", G_MAXINT64, &number, error)))
        return FALSE;
    args = json_object_new();
    json_object_set_int_member(args, "number", (gint64) number);
    return start_job(data, "verify", row, args, reply, error);
}

static gboolean
set_state(const VrHttpRequest *request, VrApp *app, VrProtection *row, VrOperation operation,
          VrProtectionEvent event, GError **error)
{
    gboolean ok;

    if (!vr_exclusive_begin(app, row->uuid, vr_operation_name(operation), -1,
                            vr_http_request_cancel(request), error))
        return FALSE;
    ok = vr_app_set_state(app, row->uuid, event, row, error);
    vr_exclusive_end(app, row->uuid);
    return ok;
}

/* A cycle under way is given up; what it sent stays at the target for the next one. */
static gboolean
pause_protection(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    g_autoptr(VrProtection) row = find_source(request, app, error);

    if (row == NULL || !admits(row, VR_OPERATION_PAUSE, error) ||
        !vr_jobs_check_free(app->jobs, 0, NULL, row->uuid, row->name, error) ||
        !set_state(request, app, row, VR_OPERATION_PAUSE, VR_EVENT_PAUSED, error))
        return FALSE;
    vr_http_reply_json(reply, 200, vr_protection_view(app, row));
    return TRUE;
}

static gboolean
resume_protection(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    g_autoptr(VrProtection) row = find_source(request, app, error);

    if (row == NULL || !admits(row, VR_OPERATION_RESUME, error) ||
        !vr_jobs_check_free(app->jobs, 0, NULL, row->uuid, row->name, error) ||
        !set_state(request, app, row, VR_OPERATION_RESUME,
                   row->base_number ? VR_EVENT_RESUMED : VR_EVENT_RESUMED_INITIAL, error))
        return FALSE;
    vr_http_reply_json(reply, 200, vr_protection_view(app, row));
    return TRUE;
}

static gboolean
points(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_autoptr(VrProtection) row = find(request, data, error);
    JsonNode *node =
        row ? vr_recovery_points_view(data, row, vr_http_request_cancel(request), error) : NULL;

    if (node == NULL)
        return FALSE;
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

static gboolean
point(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    g_autoptr(VrProtection) row = find(request, data, error);
    g_autoptr(JsonNode) node =
        row ? vr_recovery_points_view(data, row, vr_http_request_cancel(request), error) : NULL;
    const char *number = vr_http_request_param(request, "number");
    JsonArray *array = node ? json_node_get_array(node) : NULL;

    if (array == NULL)
        return FALSE;
    for (guint i = 0; i < json_array_get_length(array); i++) {
        JsonNode *element = json_array_get_element(array, i);
        g_autofree char *text =
            g_strdup_printf("%" G_GINT64_FORMAT,
                            json_object_get_int_member(json_node_get_object(element), "number"));

        if (strcmp(text, number) == 0) {
            vr_http_reply_json(reply, 200, json_node_copy(element));
            return TRUE;
        }
    }
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-rp", "See 'virt-replica rp-list'.",
                 "domain '%s' has no recovery point %s", row->name, number);
    return FALSE;
}

#define PROTECTION "/v1/protections/{domain}"

const VrHttpRoute vr_api_protection_routes[] = {
    {"POST", "/v1/check", check, VR_HTTP_BODY_JSON},
    {"GET", "/v1/protections", list, VR_HTTP_BODY_NONE},
    {"POST", "/v1/protections", protect, VR_HTTP_BODY_JSON},
    {"GET", PROTECTION, info, VR_HTTP_BODY_NONE},
    {"POST", PROTECTION "/sync", sync_now, VR_HTTP_BODY_JSON},
    {"POST", PROTECTION "/pause", pause_protection, VR_HTTP_BODY_JSON},
    {"POST", PROTECTION "/resume", resume_protection, VR_HTTP_BODY_JSON},
    {"POST", PROTECTION "/unprotect", unprotect, VR_HTTP_BODY_JSON},
    {"POST", PROTECTION "/failover", failover, VR_HTTP_BODY_JSON},
    {"POST", PROTECTION "/verify", verify, VR_HTTP_BODY_JSON},
    {"GET", PROTECTION "/recovery-points", points, VR_HTTP_BODY_NONE},
    {"GET", PROTECTION "/recovery-points/{number}", point, VR_HTTP_BODY_NONE},
};
const guint vr_n_api_protection_routes = G_N_ELEMENTS(vr_api_protection_routes);
