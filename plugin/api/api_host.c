/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/api/api.h"
#include "plugin/local_address.h"
#include "plugin/state_lost.h"
#include "policies/error.h"

#define FENCE_FRESH_US (3 * G_TIME_SPAN_SECOND)
#define FENCE_WAIT_MS 15000 /* one that is not active starts a QEMU, on a busy host */

static char *
version_text(gulong version)
{
    return g_strdup_printf("%lu.%lu.%lu", version / 1000000, version / 1000 % 1000, version % 1000);
}

static JsonObject *
libvirt_json(VrApp *app)
{
    g_autofree char *libvirt = version_text(vr_conn_libvirt_version(app->conn));
    g_autofree char *qemu = version_text(vr_conn_qemu_version(app->conn));
    g_autoptr(GError) error = NULL;
    virConnectPtr vir = vr_conn_ref(app->conn, &error);
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "uri", vr_conn_uri(app->conn));
    json_object_set_boolean_member(object, "connected", vir != NULL);
    json_object_set_string_member(object, "version", libvirt);
    json_object_set_string_member(object, "qemu_version", qemu);
    if (vir != NULL)
        vr_conn_unref(app->conn, vir);
    return object;
}

static void
add_finding(JsonArray *findings, const char *code, const char *message, const char *action)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "code", code);
    json_object_set_string_member(object, "message", message);
    json_object_set_string_member(object, "action", action);
    json_array_add_object_element(findings, object);
}

/* Proven now, unless somebody has asked just before. A libvirt that hangs does not hold this up. */
static void
set_fence(VrApp *app, JsonObject *object, JsonArray *findings)
{
    g_auto(VrFenceStatus) fence = {0};
    g_autoptr(GPtrArray) notes = vr_fence_notes(app->fence);

    vr_fence_prove(app->fence, app->conn, FENCE_FRESH_US, FENCE_WAIT_MS);
    vr_fence_status(app->fence, &fence);
    json_object_set_string_member(object, "fence", vr_fence_state_name(fence.state));
    vr_api_set_time(object, "fence_checked", fence.checked_us);
    if (fence.message != NULL)
        add_finding(findings, fence.state == VR_FENCE_INACTIVE ? "fence-inactive" : "fence-unknown",
                    fence.message, fence.action);
    for (guint i = 0; i < notes->len; i++) {
        const VrFenceNote *note = g_ptr_array_index(notes, i);

        add_finding(findings, "fence-record", note->message, note->action);
    }
}

static void
add_overload(VrApp *app, JsonArray *findings)
{
    gint64 late_us = vr_scheduler_late_us(app->scheduler);
    g_autofree char *message = NULL;

    if (late_us == 0)
        return;
    message = g_strdup_printf("host '%s' is overloaded: replication cycles begin up to %d s late",
                              app->config->name, (int) (late_us / G_USEC_PER_SEC));
    add_finding(findings, "host-overloaded", message,
                "Lengthen the intervals of the policies, or protect fewer domains on this host.");
}

static gboolean
status(const VrHttpRequest *request G_GNUC_UNUSED, VrHttpReply *reply, gpointer data,
       GError **error)
{
    VrApp *app = data;
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, error);
    g_autofree char *address = vr_local_address(app->config, NULL);
    JsonArray *findings;
    JsonObject *object;

    if (rows == NULL)
        return FALSE;
    findings = vr_state_lost_notices(app);
    object = json_object_new();
    json_object_set_string_member(object, "version", VR_VERSION);
    json_object_set_string_member(object, "name", app->config->name);
    json_object_set_string_member(object, "fingerprint", vr_identity_fingerprint(app->identity));
    json_object_set_string_member(object, "address", address ? address : app->config->listen);
    json_object_set_object_member(object, "libvirt", libvirt_json(app));
    set_fence(app, object, findings);
    add_overload(app, findings);
    json_object_set_int_member(object, "protections", rows->len);
    json_object_set_int_member(object, "jobs_running", vr_jobs_count(app->jobs));
    json_object_set_double_member(object, "uptime_seconds",
                                  (double) (g_get_monotonic_time() - app->started_us) /
                                      G_USEC_PER_SEC);
    json_object_set_array_member(object, "findings", findings);
    vr_api_reply(reply, 200, object);
    return TRUE;
}

const VrHttpRoute vr_api_host_routes[] = {
    {"GET", "/v1/status", status, VR_HTTP_BODY_NONE},
};
const guint vr_n_api_host_routes = G_N_ELEMENTS(vr_api_host_routes);
