/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/target/boot.h"

#include <string.h>

#include "plugin/check.h"
#include "plugin/target_domain.h"
#include "policies/attachment.h"
#include "policies/error.h"
#include "qmp/domain/domain_mark.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/domain/domain_run.h"
#include "storage/util/file_util.h"

#define RUNNING_TIMEOUT_MS 60000

static GHashTable *
new_paths(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

char *
vr_boot_active_dir(VrApp *app, const VrProtection *row, GError **error)
{
    VrStoreRow *store = vr_state_store_get(app->state, row->store, error);
    char *dir;

    if (store == NULL)
        return NULL;
    dir = g_build_filename(store->path, row->uuid, "active", NULL);
    vr_store_row_free(store);
    return dir;
}

/* @ret_ours: there is one, and it was made for this boot. FALSE with REFUSED for one of somebody
 * else. */
static gboolean
look_at_domain(VrApp *app, const VrBoot *boot, gboolean *ret_ours, GError **error)
{
    g_auto(VrDomMark) mark = {0};

    if (!vr_dom_mark_read(app->conn, boot->uuid, &mark, error))
        return FALSE;
    *ret_ours =
        g_strcmp0(mark.role, boot->role) == 0 && g_strcmp0(mark.generation, boot->generation) == 0;
    if (!mark.exists || *ret_ours)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "domain-exists-uuid",
                 "Undefine it there; the replica has the same UUID.",
                 "host '%s' has a domain with UUID %s that virt-replica did not make for this",
                 app->config->name, boot->uuid);
    return FALSE;
}

static gboolean
no_domain_yet(VrApp *app, const VrBoot *boot, GError **error)
{
    gboolean ours = FALSE;

    if (!look_at_domain(app, boot, &ours, error))
        return FALSE;
    if (ours)
        vr_set_error(error, VR_ERROR_CONFLICT, "boot-left-over", "Try again in a moment.",
                     "domain '%s': what an earlier start made is not removed yet", boot->name);
    return !ours;
}

static gboolean
name_is_free(VrApp *app, const VrBoot *boot, GError **error)
{
    g_autoptr(VrFindings) findings = vr_findings_new();

    return vr_target_check_taken(app, boot->uuid, boot->name, findings, error) &&
           vr_check_passed(findings, boot->name, error);
}

static gboolean
is_ours(VrApp *app, const VrBoot *boot, GError **error)
{
    gboolean ours = FALSE;

    if (!look_at_domain(app, boot, &ours, error))
        return FALSE;
    if (!ours)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-domain", "Start a new failover.",
                     "domain '%s' was undefined on host '%s' by somebody else", boot->name,
                     app->config->name);
    return ours;
}

static gboolean
copy_attachment(const VrBoot *boot, VrReplica *replica, const char *name, GHashTable *paths,
                GError **error)
{
    g_autofree char *from = vr_replica_attachment(replica, boot->number, name);
    g_autofree char *to = g_build_filename(boot->dir, name, NULL);

    if (from == NULL)
        return TRUE;
    if (!vr_replica_copy_attachment(replica, boot->number, name, to, error))
        return FALSE;
    g_hash_table_insert(paths, g_strdup(name), g_steal_pointer(&to));
    return TRUE;
}

static gboolean
make_overlays(const VrBoot *boot, VrReplica *replica, GHashTable *paths, GError **error)
{
    g_autoptr(GPtrArray) layers = vr_replica_disks(replica, boot->number, error);

    for (guint i = 0; layers != NULL && i < layers->len; i++) {
        const VrReplicaDisk *layer = g_ptr_array_index(layers, i);
        char *path = g_strdup_printf("%s/%s.qcow2", boot->dir, layer->name);

        g_hash_table_insert(paths, g_strdup(layer->name), path);
        if (!vr_replica_make_overlay(replica, boot->number, layer->name, path, error))
            return FALSE;
    }
    return layers != NULL;
}

/* The hold comes first: from then on no merge begins that would rewrite what is about to be opened.
 */
static gboolean
make_files(const VrBoot *boot, VrReplica *replica, VrTargetFiles *files, GError **error)
{
    if (!vr_replica_hold(replica, boot->number, boot->hold, error) ||
        !vr_make_dir(boot->dir, 0711, error) ||
        !make_overlays(boot, replica, files->disk_paths, error))
        return FALSE;
    for (guint kind = 0; kind < VR_ATTACHMENT_LAST; kind++) {
        if (!copy_attachment(boot, replica, vr_attachment_kind_name(kind), files->attachments,
                             error))
            return FALSE;
    }
    return vr_fsync_dir(boot->dir, error);
}

static gboolean
define(VrApp *app, const VrBoot *boot, VrReplica *replica, const VrTargetFiles *files,
       GError **error)
{
    g_autofree char *sent = vr_replica_domain_xml(replica, boot->number, error);
    g_autoptr(VrDomainModel) model = sent ? vr_domain_model_parse(sent, strlen(sent), error) : NULL;
    g_autofree char *xml =
        model ? vr_target_domain_xml(app, model, boot->networks, files, NULL, error) : NULL;

    return xml != NULL && vr_dom_define(app->conn, xml, NULL, error);
}

/* What an earlier vr_boot_prepare() has made; the guest has written there since. */
static gboolean
find_files(const VrBoot *boot, VrReplica *replica, VrTargetFiles *files, GError **error)
{
    g_autoptr(GPtrArray) layers = vr_replica_disks(replica, boot->number, error);

    for (guint i = 0; layers != NULL && i < layers->len; i++) {
        const VrReplicaDisk *layer = g_ptr_array_index(layers, i);
        char *path = g_strdup_printf("%s/%s.qcow2", boot->dir, layer->name);

        g_hash_table_insert(files->disk_paths, g_strdup(layer->name), path);
        if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
            continue;
        vr_set_error(error, VR_ERROR_CORRUPT, "replica-damaged", "Put the file back.",
                     "domain '%s': '%s', where disk '%s' of its running replica is, is not there",
                     boot->name, path, layer->name);
        return FALSE;
    }
    for (guint kind = 0; layers != NULL && kind < VR_ATTACHMENT_LAST; kind++) {
        const char *name = vr_attachment_kind_name(kind);
        g_autofree char *path = g_build_filename(boot->dir, name, NULL);

        if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
            g_hash_table_insert(files->attachments, g_strdup(name), g_steal_pointer(&path));
    }
    return layers != NULL;
}

typedef gboolean (*GetFiles)(const VrBoot *boot, VrReplica *replica, VrTargetFiles *files,
                             GError **error);

static gboolean
define_with(VrApp *app, const VrBoot *boot, GetFiles get, GError **error)
{
    g_autoptr(GHashTable) disks = new_paths();
    g_autoptr(GHashTable) attachments = new_paths();
    VrTargetFiles files = {
        .disk_paths = disks,
        .attachments = attachments,
        .role = boot->role,
        .generation = boot->generation,
        .name = boot->name,
        .uuid = boot->uuid,
    };
    VrReplica *replica = vr_replicas_get(app->replicas, boot->row->uuid, error);
    gboolean ok;

    if (replica == NULL)
        return FALSE;
    ok = get(boot, replica, &files, error) && define(app, boot, replica, &files, error);
    vr_replicas_put(app->replicas, replica);
    return ok;
}

gboolean
vr_boot_prepare(VrApp *app, const VrBoot *boot, GError **error)
{
    return no_domain_yet(app, boot, error) && name_is_free(app, boot, error) &&
           define_with(app, boot, make_files, error);
}

gboolean
vr_boot_start(VrApp *app, const VrBoot *boot, GError **error)
{
    return is_ours(app, boot, error) && vr_dom_start_paused(app->conn, boot->uuid, error);
}

/* One that somebody has undefined since is defined again: its files are what counts. */
static gboolean
is_defined(VrApp *app, const VrBoot *boot, GError **error)
{
    gboolean ours = FALSE;

    return look_at_domain(app, boot, &ours, error) &&
           (ours || define_with(app, boot, find_files, error));
}

gboolean
vr_boot_run(VrApp *app, const VrBoot *boot, GCancellable *cancel, GError **error)
{
    return is_defined(app, boot, error) && vr_boot_start(app, boot, error) &&
           vr_dom_resume(app->conn, boot->uuid, error) &&
           vr_dom_wait_running(app->conn, boot->uuid, RUNNING_TIMEOUT_MS, cancel, error);
}

static gboolean
release(VrApp *app, const VrBoot *boot, GError **error)
{
    VrReplica *replica = vr_replicas_get(app->replicas, boot->row->uuid, error);
    gboolean ok;

    if (replica == NULL)
        return FALSE;
    ok = vr_replica_release(replica, boot->number, boot->hold, error);
    vr_replicas_put(app->replicas, replica);
    return ok;
}

/* A domain that somebody else has put in the place of ours is left alone, and so are its files:
 * they are not in
 * @dir. */
static gboolean
remove_domain(VrApp *app, const VrBoot *boot, GError **error)
{
    g_autoptr(GError) local = NULL;
    gboolean ours = FALSE;

    if (!look_at_domain(app, boot, &ours, &local)) {
        if (g_error_matches(local, VR_ERROR, VR_ERROR_REFUSED))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return !ours || (vr_dom_destroy(app->conn, boot->uuid, error) &&
                     vr_dom_undefine(app->conn, boot->uuid, TRUE, error));
}

gboolean
vr_boot_take_back(VrApp *app, const VrBoot *boot, GError **error)
{
    return remove_domain(app, boot, error) && vr_remove_tree(boot->dir, error) &&
           release(app, boot, error);
}

/* The names alone decide; where the files will lie is not known yet. */
static GHashTable *
trial_paths(const char *const *names)
{
    GHashTable *paths = new_paths();

    for (guint i = 0; names[i] != NULL; i++)
        g_hash_table_insert(paths, g_strdup(names[i]), g_strdup_printf("/trial/%s", names[i]));
    return paths;
}

gboolean
vr_boot_check_definition(VrApp *app, const VrProtection *row, const char *xml,
                         const char *const *disks, const char *const *attachments, GError **error)
{
    g_autoptr(VrDomainModel) model = vr_domain_model_parse(xml, strlen(xml), error);
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autoptr(GHashTable) disk_paths = trial_paths(disks);
    g_autoptr(GHashTable) attachment_paths = trial_paths(attachments);
    g_autofree char *made = NULL;
    VrTargetFiles files = {
        .disk_paths = disk_paths,
        .attachments = attachment_paths,
        .role = "replica",
        .generation = "trial",
        .name = row->name,
        .uuid = row->uuid,
    };

    if (model == NULL)
        return FALSE;
    if (strcmp(model->uuid, row->uuid) != 0) {
        vr_set_error(error, VR_ERROR_INVALID, "uuid-differs", NULL,
                     "domain '%s': the definition is of another domain, its UUID is not %s",
                     row->name, row->uuid);
        return FALSE;
    }
    if (!vr_target_check_host(app, model, findings, error) ||
        !vr_check_passed(findings, row->name, error))
        return FALSE;
    made = vr_target_domain_xml(app, model, NULL, &files, NULL, error);
    return made != NULL;
}
