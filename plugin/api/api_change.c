/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a protection follows and of which disks it consists: changed while it goes on, from the next
 * cycle on. Columns are written, not rows: a cycle under way does not touch them. */
#include <string.h>

#include "plugin/api/api.h"
#include "plugin/check.h"
#include "plugin/cycle/protection_push.h"
#include "plugin/cycle/replicate.h"
#include "policies/error.h"
#include "qmp/domain/domain_check.h"
#include "qmp/domain/domain_ops.h"
#include "storage/util/json_util.h"

#define DISK_MAX 64

static VrProtection *
find(const VrHttpRequest *request, VrApp *app, GError **error)
{
    const char *domain = vr_http_request_param(request, "domain");
    g_autoptr(VrProtection) row = vr_app_find_source(app, domain, error);

    if (row == NULL)
        return NULL;
    if (vr_protection_admits(row->state, VR_OPERATION_CHANGE, error))
        return g_steal_pointer(&row);
    g_prefix_error(error, "domain '%s': ", row->name);
    return NULL;
}

/* The target is told with the next cycle, which one that is shut off has now. */
static gboolean
take_up(VrApp *app, const char *uuid, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, error);

    if (row == NULL)
        return FALSE;
    vr_protection_push_forget(uuid);
    if (!vr_replicate_admitted(row))
        return TRUE;
    if (!vr_replicate_schedule(app, row, error))
        return FALSE;
    vr_scheduler_kick(app->scheduler, uuid);
    return TRUE;
}

static gboolean
policy_set(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
           GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    const char *name = body ? vr_json_string(body, "policy", VR_API_NAME_MAX, error) : NULL;
    g_autoptr(VrProtection) row = name ? find(request, app, error) : NULL;
    g_autoptr(VrPolicy) policy = row ? vr_policy_files_get(app->policies, name, error) : NULL;

    return policy != NULL && vr_state_protection_set_policy(app->state, row->uuid, name, error) &&
           take_up(app, row->uuid, error);
}

/* @exclude without or with @disk. NULL-terminated. (transfer full) */
static char **
with_disk(const char *exclude, const char *disk, gboolean excluded)
{
    g_auto(GStrv) names = exclude[0] != '\0' ? g_strsplit(exclude, ",", -1) : g_new0(char *, 1);
    GPtrArray *result = g_ptr_array_new();

    for (guint i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], disk) != 0)
            g_ptr_array_add(result, g_strdup(names[i]));
    }
    if (excluded)
        g_ptr_array_add(result, g_strdup(disk));
    g_ptr_array_add(result, NULL);
    return (char **) g_ptr_array_free(result, FALSE);
}

static gboolean
check_there(const VrDomainModel *model, const VrProtection *row, const char *disk, GError **error)
{
    g_autoptr(GPtrArray) all = vr_domain_replicated_disks(model, NULL);

    for (guint i = 0; i < all->len; i++) {
        if (strcmp(((const VrDomainDisk *) g_ptr_array_index(all, i))->target, disk) == 0)
            return TRUE;
    }
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-disk", "See 'virsh domblklist'.",
                 "domain '%s' has no disk '%s' that could be replicated", row->name, disk);
    return FALSE;
}

/* What protect would refuse is refused here as well. */
static gboolean
check_disks(VrApp *app, const VrProtection *row, const char *disk, char **exclude, GError **error)
{
    g_autofree char *xml = vr_dom_xml_inactive(app->conn, row->uuid, error);
    g_autoptr(VrDomainModel) model = xml ? vr_domain_model_parse(xml, strlen(xml), error) : NULL;
    g_autoptr(VrFindings) findings = vr_findings_new();

    if (model == NULL || !check_there(model, row, disk, error))
        return FALSE;
    vr_domain_check_protectable(model, (const char *const *) exclude,
                                vr_conn_qemu_version(app->conn), findings);
    return vr_check_passed(findings, row->name, error);
}

static gboolean
disk_set(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    const char *disk = body ? vr_json_string(body, "disk", DISK_MAX, error) : NULL;
    g_autoptr(VrProtection) row = disk ? find(request, app, error) : NULL;
    g_auto(GStrv) exclude = NULL;
    g_autofree char *text = NULL;
    JsonObject *object;
    gboolean excluded;

    if (row == NULL || !vr_json_bool_opt(body, "excluded", FALSE, &excluded, error))
        return FALSE;
    exclude = with_disk(row->exclude, disk, excluded);
    text = g_strjoinv(",", exclude);
    if (!check_disks(app, row, disk, exclude, error) ||
        !vr_state_protection_set_exclude(app->state, row->uuid, text, error) ||
        !take_up(app, row->uuid, error))
        return FALSE;
    object = json_object_new();
    json_object_set_string_member(object, "excluded", text);
    vr_api_reply(reply, 200, object);
    return TRUE;
}

const VrHttpRoute vr_api_change_routes[] = {
    {"POST", "/v1/protections/{domain}/policy", policy_set, VR_HTTP_BODY_JSON},
    {"POST", "/v1/protections/{domain}/disks", disk_set, VR_HTTP_BODY_JSON},
};
const guint vr_n_api_change_routes = G_N_ELEMENTS(vr_api_change_routes);
