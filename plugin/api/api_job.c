/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/api/api.h"

#include "policies/error.h"

#define WAIT_MAX_SECONDS 60

static gboolean
job_id(const VrHttpRequest *request, gint64 *ret_id, GError **error)
{
    const char *text = vr_http_request_param(request, "id");
    guint64 id;

    if (g_ascii_string_to_unsigned(text, 10, 1, G_MAXINT64, &id, NULL)) {
        *ret_id = (gint64) id;
        return TRUE;
    }
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-job", "See 'virt-replica job-list --all'.",
                 "'%s' is not the number of a job", text);
    return FALSE;
}

static gboolean
list(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    const char *domain = vr_http_request_query(request, "domain");
    g_autoptr(VrProtection) row = domain ? vr_app_find_protection(app, domain, error) : NULL;
    JsonNode *node;

    if (domain != NULL && row == NULL)
        return FALSE;
    node = vr_jobs_list(app->jobs, row ? row->uuid : NULL,
                        vr_http_request_query_flag(request, "all"), error);
    if (node == NULL)
        return FALSE;
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

static gboolean
info(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    guint64 seconds;
    JsonNode *node;
    gint64 id;

    if (!job_id(request, &id, error) ||
        !vr_http_request_query_uint(request, "wait", 0, WAIT_MAX_SECONDS, &seconds, error))
        return FALSE;
    vr_jobs_wait(app->jobs, id, (double) seconds);
    node = vr_jobs_get(app->jobs, id, error);
    if (node == NULL)
        return FALSE;
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

static gboolean
cancel(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
       GError **error)
{
    VrApp *app = data;
    gint64 id;

    return job_id(request, &id, error) && vr_jobs_cancel(app->jobs, id, error);
}

const VrHttpRoute vr_api_job_routes[] = {
    {"GET", "/v1/jobs", list, VR_HTTP_BODY_NONE},
    {"GET", "/v1/jobs/{id}", info, VR_HTTP_BODY_NONE},
    {"POST", "/v1/jobs/{id}/cancel", cancel, VR_HTTP_BODY_JSON},
};
const guint vr_n_api_job_routes = G_N_ELEMENTS(vr_api_job_routes);
