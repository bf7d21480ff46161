/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a protection follows and of which disks it consists: changed while it goes on, from the next
 * cycle on. Columns are written, not rows. */
#include <string.h>

#include "plugin/api/api.h"
#include "plugin/check.h"
#include "plugin/cycle/protection_push.h"
#include "plugin/policy_watch.h"
#include "policies/error.h"
#include "qmp/domain/domain_check.h"
#include "qmp/domain/domain_ops.h"
#include "storage/util/json_util.h"

#define DISK_MAX 64
#define GUARD_WAIT_MS 20000

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
static void
take_up(VrApp *app, const char *uuid, const char *policy)
{
    vr_protection_push_forget(uuid);
    vr_policy_take_up(app, policy);
    vr_scheduler_kick(app->scheduler, uuid);
}

/* In one transaction with what admits it. */
static VrProtection *
write_policy(const VrHttpRequest *request, VrApp *app, const char *name, GError **error)
{
    g_autoptr(VrProtection) row = NULL;

    if (!vr_state_begin(app->state, error))
        return NULL;
    row = find(request, app, error);
    if (row != NULL && vr_state_protection_set_policy(app->state, row->uuid, name, error))
        return vr_state_commit(app->state, error) ? g_steal_pointer(&row) : NULL;
    vr_state_rollback(app->state);
    return NULL;
}

static gboolean
policy_set(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
           GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    const char *name = body ? vr_json_string(body, "policy", VR_API_NAME_MAX, error) : NULL;
    g_autoptr(VrProtection) before = name ? find(request, app, error) : NULL;
    g_autoptr(VrPolicy) policy = before ? vr_policy_files_get(app->policies, name, error) : NULL;
    g_autoptr(VrProtection) row = policy ? write_policy(request, app, name, error) : NULL;

    if (row == NULL)
        return FALSE;
    take_up(app, row->uuid, name);
    return TRUE;
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

/* The guard is held: no cycle and no failover is between reading the disks and its recovery point.
 * (transfer full) the list as it is now. */
static char *
change_disks(const VrHttpRequest *request, VrApp *app, const char *disk, gboolean excluded,
             GError **error)
{
    g_autoptr(VrProtection) row = find(request, app, error);
    g_auto(GStrv) exclude = row ? with_disk(row->exclude, disk, excluded) : NULL;
    g_autofree char *text = exclude ? g_strjoinv(",", exclude) : NULL;

    if (text == NULL || !check_disks(app, row, disk, exclude, error) ||
        !vr_state_protection_set_exclude(app->state, row->uuid, text, error))
        return NULL;
    take_up(app, row->uuid, row->policy);
    return g_steal_pointer(&text);
}

static gboolean
disk_set(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    const char *disk = body ? vr_json_string(body, "disk", DISK_MAX, error) : NULL;
    g_autoptr(VrProtection) row = disk ? find(request, app, error) : NULL;
    g_autofree char *text = NULL;
    JsonObject *object;
    gboolean excluded;

    if (row == NULL || !vr_json_bool_opt(body, "excluded", FALSE, &excluded, error) ||
        !vr_guard_take(app->guards, row->uuid, "a change of its disks", GUARD_WAIT_MS, NULL, error))
        return FALSE;
    text = change_disks(request, app, disk, excluded, error);
    vr_guard_release(app->guards, row->uuid);
    if (text == NULL)
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
