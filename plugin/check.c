/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/check.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "plugin/cycle/protection_push.h"
#include "plugin/target_domain.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "qmp/domain/block_job.h"
#include "qmp/domain/domain_check.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/point.h"
#include "qmp/point/point_backup.h"
#include "storage/replica/store_scan.h"
#include "storage/replica/store_room.h"
#include "storage/util/json_util.h"
#include "storage/util/run_program.h"

#define FENCE_FRESH_US (3 * G_TIME_SPAN_SECOND)
#define FENCE_WAIT_MS 30000
#define FINDINGS_MAX 500u
#define TEXT_MAX 4096
#define STORE_MIN_FREE (G_GUINT64_CONSTANT(128) << 20) /* beside what the images take */

void
vr_check_facts_clear(VrCheckFacts *facts)
{
    g_clear_pointer(&facts->uuid, g_free);
    g_clear_pointer(&facts->name, g_free);
    g_clear_pointer(&facts->peer, g_free);
}

JsonArray *
vr_findings_to_json(const VrFindings *findings)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < vr_findings_count(findings); i++) {
        const VrFinding *finding = vr_findings_get(findings, i);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "severity",
                                      vr_finding_severity_name(finding->severity));
        json_object_set_string_member(object, "code", finding->code);
        json_object_set_string_member(object, "message", finding->message);
        json_object_set_string_member(object, "action", finding->action);
        json_array_add_object_element(array, object);
    }
    return array;
}

static const VrFinding *
first_error(const VrFindings *findings)
{
    for (guint i = 0; i < vr_findings_count(findings); i++) {
        const VrFinding *finding = vr_findings_get(findings, i);

        if (finding->severity == VR_FINDING_ERROR)
            return finding;
    }
    return NULL;
}

gboolean
vr_check_passed(const VrFindings *findings, const char *domain, GError **error)
{
    const VrFinding *finding = first_error(findings);
    guint errors = vr_findings_errors(findings);

    if (finding == NULL)
        return TRUE;
    if (errors == 1)
        vr_set_error(error, VR_ERROR_REFUSED, finding->code, finding->action, "domain '%s': %s",
                     domain, finding->message);
    else
        vr_set_error(error, VR_ERROR_REFUSED, finding->code,
                     "See all of them with 'virt-replica check'.", "domain '%s': %s (and %u more)",
                     domain, finding->message, errors - 1);
    return FALSE;
}

/* Bitmaps need version 3 of the format; libvirt says so only when the backup begins. */
static void
check_format_version(const VrDomDisk *disk, VrFindings *findings)
{
    const char *argv[] = {"qemu-img", "info",          "-U",       "-f",
                          "qcow2",    "--output=json", disk->path, NULL};
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *action = NULL;

    if (!vr_run_program(argv, NULL, &text, &error)) {
        vr_findings_add(findings, VR_FINDING_ERROR, "disk-not-readable",
                        "Check the image and its path.", "disk '%s' (%s) cannot be read: %s",
                        disk->target, disk->path, error->message);
        return;
    }
    if (strstr(text, "\"compat\": \"0.10\"") == NULL)
        return;
    action = g_strdup_printf(
        "Shut the domain off and run: qemu-img amend -f qcow2 -o compat=1.1 '%s'", disk->path);
    vr_findings_add(findings, VR_FINDING_ERROR, "disk-qcow2-v2", action,
                    "disk '%s' (%s) is qcow2 version 2, which cannot hold a bitmap", disk->target,
                    disk->path);
}

/* For the scratch files of a backup, which lie beside the images of a domain that runs. */
static void
check_scratch(const VrDomDisk *disk, VrFindings *findings)
{
    struct statvfs fs;

    if (statvfs(disk->path, &fs) == 0 &&
        (guint64) fs.f_bavail * fs.f_frsize < VR_POINT_SCRATCH_LEAST)
        vr_findings_add(findings, VR_FINDING_ERROR, "scratch-no-space",
                        "Free space on the file system of that image.",
                        "disk '%s' (%s): %" G_GUINT64_FORMAT
                        " MiB are free beside it, a recovery point needs %" G_GUINT64_FORMAT
                        " MiB there while it is made",
                        disk->target, disk->path, ((guint64) fs.f_bavail * fs.f_frsize) >> 20,
                        VR_POINT_SCRATCH_LEAST >> 20);
}

/* Of the image itself: what lies below it comes on top, but may be covered by it. */
static gint64
allocated(const VrDomDisk *disk)
{
    struct stat st;

    return stat(disk->path, &st) == 0 && S_ISREG(st.st_mode)
               ? (gint64) MIN((guint64) st.st_blocks * 512, disk->size_bytes)
               : 0;
}

static gboolean
check_disks(VrApp *app, const VrDomInfo *info, const VrDomainModel *model,
            const char *const *exclude, VrFindings *findings, JsonArray *ret_disks, GError **error)
{
    g_autoptr(GPtrArray) wanted = vr_domain_replicated_disks(model, exclude);
    g_autoptr(GPtrArray) disks = vr_dom_disks(app->conn, model->uuid, error);

    if (disks == NULL)
        return FALSE;
    vr_domain_check_protectable(model, exclude, vr_conn_qemu_version(app->conn), findings);
    for (guint i = 0; i < wanted->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(wanted, i);
        const VrDomDisk *fact = vr_dom_disk_find(disks, disk->target);
        JsonObject *object;

        if (fact == NULL || fact->path == NULL)
            continue;
        if (g_strcmp0(fact->format, "qcow2") == 0)
            check_format_version(fact, findings);
        if (info->state != VR_DOM_SHUTOFF)
            check_scratch(fact, findings);
        object = json_object_new();
        json_object_set_string_member(object, "name", fact->target);
        json_object_set_int_member(object, "size", (gint64) fact->size_bytes);
        json_object_set_int_member(object, "allocated", allocated(fact));
        json_array_add_object_element(ret_disks, object);
    }
    return TRUE;
}

/* Any job of the domain stops a backup from beginning; one with a socket of ours is ours. */
static gboolean
check_foreign_job(VrApp *app, const VrDomInfo *info, VrFindings *findings, GError **error)
{
    g_autofree char *socket = NULL;
    g_autoptr(GError) busy = NULL;

    if (info->state == VR_DOM_SHUTOFF)
        return TRUE;
    if (!vr_point_backup_job_socket(app->conn, info->uuid, &socket, error))
        return FALSE;
    if ((socket != NULL && vr_point_backup_socket_is_ours(socket)) ||
        (vr_point_backup_check_idle(app->conn, info->uuid, &busy) &&
         vr_dom_check_no_block_job(app->conn, info->uuid, &busy)))
        return TRUE;
    if (!g_error_matches(busy, VR_ERROR, VR_ERROR_CONFLICT)) {
        g_propagate_error(error, g_steal_pointer(&busy));
        return FALSE;
    }
    vr_findings_add(findings, VR_FINDING_ERROR, vr_error_slug(busy), vr_error_action(busy), "%s",
                    busy->message);
    return TRUE;
}

/* Proven now. Without a fence the domain could be started twice, so nothing is protected or failed
 * over with it; what cannot be told (libvirt could not start the domain that proves it) is said. */
static void
check_fence(VrApp *app, VrFindings *findings)
{
    g_auto(VrFenceStatus) status = {0};

    vr_fence_prove(app->fence, app->conn, FENCE_FRESH_US, FENCE_WAIT_MS);
    vr_fence_status(app->fence, &status);
    if (status.unwritable)
        vr_findings_add(findings, VR_FINDING_ERROR, "fence-not-writable", status.action, "%s",
                        status.message);
    else if (status.state == VR_FENCE_INACTIVE)
        vr_findings_add(findings, VR_FINDING_ERROR, "fence-inactive", status.action, "%s",
                        status.message);
    else if (status.message != NULL)
        vr_findings_add(findings, VR_FINDING_WARNING, "fence-unknown", status.action, "%s",
                        status.message);
}

static void
check_state(const VrDomInfo *info, VrFindings *findings)
{
    if (!info->persistent)
        vr_findings_add(findings, VR_FINDING_ERROR, "domain-transient", "Define it: virsh define.",
                        "domain '%s' is transient and would vanish when shut off", info->name);
    if (info->managed_save)
        vr_findings_add(findings, VR_FINDING_WARNING, "managed-save",
                        "Start it, or remove the image: virsh managedsave-remove.",
                        "domain '%s' has a managed save image; a replica boots its disks only",
                        info->name);
    if (info->internal_snapshots > 0)
        vr_findings_add(
            findings, VR_FINDING_WARNING, "internal-snapshots",
            "Do not revert to one while the domain is protected: unprotect it before.",
            "domain '%s' has %u snapshots; reverting a running domain with bitmaps stops it",
            info->name, info->internal_snapshots);
}

static JsonNode *
target_request(VrApp *app, const VrCheckWanted *wanted, const VrPeerClient *peer, const char *xml,
               JsonArray *disks, GError **error)
{
    JsonArray *networks = vr_netmap_json(app, vr_peer_client_fingerprint(peer), error);
    JsonObject *object;

    if (networks == NULL)
        return NULL;
    object = json_object_new();
    json_object_set_string_member(object, "xml", xml);
    json_object_set_string_member(object, "store", wanted->store);
    json_object_set_array_member(object, "disks", json_array_ref(disks));
    json_object_set_array_member(object, "networks", networks);
    return vr_json_node(object);
}

static gboolean
merge_answer(JsonNode *answer, VrFindings *findings, GError **error)
{
    JsonArray *array = NULL;

    if (!vr_json_array_opt(json_node_get_object(answer), "findings", FINDINGS_MAX, &array, error))
        return FALSE;
    for (guint i = 0; array != NULL && i < json_array_get_length(array); i++) {
        JsonObject *entry = vr_json_object(json_array_get_element(array, i), "a finding", error);
        const char *severity = entry ? vr_json_string(entry, "severity", TEXT_MAX, error) : NULL;
        const char *code = severity ? vr_json_string(entry, "code", TEXT_MAX, error) : NULL;
        const char *message = code ? vr_json_string(entry, "message", TEXT_MAX, error) : NULL;
        const char *action;

        if (message == NULL || !vr_json_string_opt(entry, "action", TEXT_MAX, &action, error))
            return FALSE;
        vr_findings_add(findings,
                        strcmp(severity, "warning") == 0 ? VR_FINDING_WARNING : VR_FINDING_ERROR,
                        code, action, "%s", message);
    }
    return TRUE;
}

static gboolean
ask_peer(VrApp *app, const VrCheckWanted *wanted, VrPeerClient *peer, const char *xml,
         JsonArray *disks, VrFindings *findings, GCancellable *cancel, GError **error)
{
    g_autoptr(JsonNode) request = target_request(app, wanted, peer, xml, disks, error);
    g_autoptr(JsonNode) answer =
        request ? vr_peer_client_check(peer, request, cancel, error) : NULL;

    return answer != NULL && merge_answer(answer, findings, error);
}

gboolean
vr_check_source(VrApp *app, const VrCheckWanted *wanted, VrFindings *findings,
                VrCheckFacts *ret_facts, GCancellable *cancel, GError **error)
{
    VrPeerClient *peer = vr_peer_pool_get(app->peers, wanted->peer, error);
    g_autoptr(VrDomInfo) info = peer ? vr_dom_info(app->conn, wanted->domain, error) : NULL;
    g_autofree char *xml = info ? vr_dom_xml_inactive(app->conn, info->uuid, error) : NULL;
    g_autoptr(VrDomainModel) model = xml ? vr_domain_model_parse(xml, strlen(xml), error) : NULL;
    g_autoptr(JsonArray) disks = json_array_new();

    if (model == NULL)
        return FALSE;
    check_state(info, findings);
    check_fence(app, findings);
    if (!check_foreign_job(app, info, findings, error) ||
        !check_disks(app, info, model, wanted->exclude, findings, disks, error) ||
        !ask_peer(app, wanted, peer, xml, disks, findings, cancel, error))
        return FALSE;
    if (ret_facts != NULL) {
        ret_facts->uuid = g_strdup(info->uuid);
        ret_facts->name = g_strdup(info->name);
        ret_facts->peer = g_strdup(vr_peer_client_fingerprint(peer));
        ret_facts->autostart = info->autostart;
    }
    return TRUE;
}

/* What the images of a domain that has no replica here take at its source; one that has is told
 * when its cycles do not fit. */
static gboolean
read_needed(VrApp *app, const char *uuid, JsonObject *request, guint64 *ret_bytes, GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, NULL);
    JsonArray *disks = NULL;

    *ret_bytes = row == NULL ? STORE_MIN_FREE : 0;
    if (!vr_json_array_opt(request, "disks", VR_MAX_DISKS, &disks, error))
        return FALSE;
    for (guint i = 0; row == NULL && disks != NULL && i < json_array_get_length(disks); i++) {
        JsonObject *disk = vr_json_object(json_array_get_element(disks, i), "a disk", error);
        guint64 bytes;

        if (disk == NULL ||
            !vr_json_uint_opt(disk, "allocated", VR_MAX_DISK_BYTES, 0, &bytes, error))
            return FALSE;
        *ret_bytes += bytes;
    }
    return TRUE;
}

static void
check_room(VrApp *app, const VrStoreRow *store, guint64 needed, VrFindings *findings)
{
    g_autoptr(GError) error = NULL;

    if (!vr_store_room_check(store->path, store->name, needed, &error))
        vr_findings_add(findings, VR_FINDING_ERROR, vr_error_slug(error),
                        "Make room there, or use another store.", "host '%s': %s",
                        app->config->name, error->message);
}

static void
check_store(VrApp *app, const char *name, guint64 needed, VrFindings *findings)
{
    g_autoptr(GError) error = NULL;
    VrStoreRow *store = vr_state_store_get(app->state, name, &error);
    struct statvfs fs;

    if (store == NULL) {
        vr_findings_add(findings, VR_FINDING_ERROR, "no-such-store",
                        "See 'virt-replica store-list' there, or define it with store-define.",
                        "host '%s' has no store '%s'", app->config->name, name);
        return;
    }
    if (access(store->path, W_OK | X_OK) < 0 || statvfs(store->path, &fs) < 0 ||
        (fs.f_flag & ST_RDONLY) != 0)
        vr_findings_add(findings, VR_FINDING_ERROR, "store-not-writable",
                        "Create the directory or mount its file system.",
                        "store '%s' of host '%s' (%s) is not writable", name, app->config->name,
                        store->path);
    else
        check_room(app, store, needed, findings);
    vr_store_row_free(store);
}

static gboolean
check_taken(VrApp *app, const char *peer, const VrDomainModel *model, VrFindings *findings,
            GError **error)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, model->uuid, NULL);

    if (row != NULL && row->role == VR_ROLE_TARGET && row->state == VR_PROTECTION_FAILED_OVER) {
        vr_findings_add(findings, VR_FINDING_ERROR, "failed-over",
                        "It is the domain that counts: leave it. Protect it from there; if the one "
                        "on your host counts instead, end the protection there with unprotect "
                        "--force first.",
                        "host '%s' owns domain '%s': it was failed over there", app->config->name,
                        row->name);
        return TRUE;
    }
    if (row != NULL && strcmp(row->peer, peer) != 0)
        vr_findings_add(findings, VR_FINDING_ERROR, "protected-elsewhere",
                        "Unprotect it there first.",
                        "host '%s' holds a protection of domain '%s' with another peer",
                        app->config->name, row->name);
    return vr_target_check_taken(app, model->uuid, model->name, findings, error);
}

/* A new replica never begins over the recovery points of one that the database does not know. */
static void
check_place(VrApp *app, const char *name, const VrDomainModel *model, VrFindings *findings)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, model->uuid, NULL);
    VrStoreRow *store = vr_state_store_get(app->state, name, NULL);

    if (row == NULL && store != NULL && vr_store_holds(store->path, model->uuid)) {
        g_autofree char *action =
            g_strdup_printf("On host '%s': virt-replica store-scan %s --adopt %s, or --drop %s.",
                            app->config->name, store->name, model->uuid, model->uuid);

        vr_findings_add(findings, VR_FINDING_ERROR, "replica-orphaned", action,
                        "store '%s' of host '%s' holds a replica of it that the host's database "
                        "does not know",
                        store->name, app->config->name);
    }
    vr_store_row_free(store);
}

/* Only a new replica is one more. */
static void
check_quota(VrApp *app, const char *peer, const char *uuid, VrFindings *findings)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, NULL);
    g_autoptr(GError) error = NULL;

    if (row == NULL && !vr_peer_quota_check_new(app->quota, peer, &error))
        vr_findings_add(findings, VR_FINDING_ERROR, vr_error_slug(error), vr_error_action(error),
                        "%s", error->message);
}

static JsonNode *
findings_answer(const VrFindings *findings)
{
    JsonObject *object = json_object_new();

    json_object_set_array_member(object, "findings", vr_findings_to_json(findings));
    return vr_json_node(object);
}

JsonNode *
vr_check_target(VrApp *app, const char *peer, JsonNode *request, GError **error)
{
    JsonObject *object = vr_json_object(request, "check", error);
    const char *xml = object ? vr_json_string(object, "xml", VR_DOMAIN_XML_MAX, error) : NULL;
    const char *store = xml ? vr_json_string(object, "store", VR_NAME_MAX, error) : NULL;
    g_autoptr(VrDomainModel) model = store ? vr_domain_model_parse(xml, strlen(xml), error) : NULL;
    JsonArray *sent = NULL;
    guint64 needed = 0;
    g_autoptr(VrTargetNetworks) networks = model && vr_target_networks_read(object, &sent, error)
                                               ? vr_target_networks(app, peer, sent, error)
                                               : NULL;
    g_autoptr(VrFindings) findings = vr_findings_new();

    if (networks == NULL || !vr_target_check_domain(app, model, networks, findings, error) ||
        !check_taken(app, peer, model, findings, error) ||
        !read_needed(app, model->uuid, object, &needed, error))
        return NULL;
    check_store(app, store, needed, findings);
    check_place(app, store, model, findings);
    check_quota(app, peer, model->uuid, findings);
    check_fence(app, findings);
    vr_findings_merge(findings, model->findings);
    return findings_answer(findings);
}
