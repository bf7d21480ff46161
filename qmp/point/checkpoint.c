/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A checkpoint is libvirt's metadata plus one bitmap of the same name in each tracked image. After
 * a crash of QEMU either half can be there alone: deleting tries the pair, then what is left of it.
 */
#include "qmp/point/checkpoint.h"

#include <libvirt/virterror.h>
#include <string.h>

#include "policies/error.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/image_bitmap.h"
#include "qmp/virerr.h"

#define SHORT_LEN 8

static char *
prefix_of(const char *uuid)
{
    return g_strdup_printf(VR_CHECKPOINT_PREFIX "%.*s.", SHORT_LEN, uuid);
}

char *
vr_checkpoint_new_name(const char *uuid)
{
    g_autofree char *prefix = prefix_of(uuid);

    return g_strdup_printf("%s%08x", prefix, g_random_int());
}

gboolean
vr_checkpoint_is_ours(const char *name, const char *uuid)
{
    g_autofree char *prefix = prefix_of(uuid);
    const char *random = name + strlen(prefix);

    return g_str_has_prefix(name, prefix) && strlen(random) == 8 &&
           strspn(random, "0123456789abcdef") == 8;
}

char *
vr_checkpoint_xml(const char *name, const char *const *tracked, const char *const *others,
                  gint64 creation_time)
{
    g_autoptr(GString) xml = g_string_new("<domaincheckpoint>\n");
    g_autofree char *safe = g_markup_escape_text(name, -1);

    g_string_append_printf(xml, "  <name>%s</name>\n", safe);
    if (creation_time > 0)
        g_string_append_printf(xml, "  <creationTime>%" G_GINT64_FORMAT "</creationTime>\n",
                               creation_time);
    g_string_append(xml, "  <disks>\n");
    for (guint i = 0; tracked && tracked[i]; i++) {
        g_autofree char *target = g_markup_escape_text(tracked[i], -1);

        g_string_append_printf(xml, "    <disk name='%s' checkpoint='bitmap' bitmap='%s'/>\n",
                               target, safe);
    }
    for (guint i = 0; others && others[i]; i++) {
        g_autofree char *target = g_markup_escape_text(others[i], -1);

        g_string_append_printf(xml, "    <disk name='%s' checkpoint='no'/>\n", target);
    }
    g_string_append(xml, "  </disks>\n</domaincheckpoint>\n");
    return g_strdup(xml->str);
}

gboolean
vr_checkpoint_validate(VrConn *conn, const char *uuid, const char *name, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, uuid, error);
    virDomainCheckpointPtr found, again = NULL;
    char *xml = NULL;

    if (!dom)
        return FALSE;
    found = virDomainCheckpointLookupByName(dom->dom, name, 0);
    if (!found && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_CHECKPOINT) {
        vr_virerr_ignore();
        vr_set_error(error, VR_ERROR_RESYNC_NEEDED, "tracking-lost",
                     "Nothing to do: a resync runs by itself.",
                     "domain '%s': checkpoint '%s' is gone", dom->name, name);
        return FALSE;
    }
    if (found)
        xml = virDomainCheckpointGetXMLDesc(found, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN);
    if (xml)
        again = virDomainCheckpointCreateXML(dom->dom, xml,
                                             VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE |
                                                 VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE);
    if (!again)
        vr_virerr_set(error, "domain '%s': checkpoint '%s'", dom->name, name);
    free(xml);
    if (found)
        virDomainCheckpointFree(found);
    if (again)
        virDomainCheckpointFree(again);
    return again != NULL;
}

/* Running: libvirt removes the bitmaps, all or none; where one is missing only the metadata goes
 * (*@ret_broken). */
static gboolean
delete_whole(VrDom *dom, virDomainCheckpointPtr checkpoint, const char *name, gboolean *ret_broken,
             GError **error)
{
    g_autoptr(GError) local = NULL;

    if (virDomainCheckpointDelete(checkpoint, 0) == 0 ||
        virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_CHECKPOINT)
        return TRUE;
    vr_virerr_set(&local, "domain '%s': cannot delete checkpoint '%s'", dom->name, name);
    *ret_broken = TRUE;
    if (g_error_matches(local, VR_ERROR, VR_ERROR_RESYNC_NEEDED) &&
        virDomainCheckpointDelete(checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) == 0)
        return TRUE;
    vr_virerr_ignore();
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
is_off(VrDom *dom)
{
    return virDomainIsActive(dom->dom) == 0;
}

/* The image of @disk as one that can hold bitmaps of ours. */
static gboolean
can_hold(const VrDomDisk *disk)
{
    return disk->path && g_strcmp0(disk->format, "qcow2") == 0 && !disk->readonly;
}

/* libvirt deletes a bitmap of a running domain only through a checkpoint: give it one, disk by
 * disk. */
static gboolean
delete_by_disk(VrConn *conn, const char *uuid, const char *name, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_dom_disks(conn, uuid, error);
    g_autoptr(VrDom) dom = disks ? vr_dom_open(conn, uuid, error) : NULL;

    if (!dom)
        return FALSE;
    for (guint i = 0; i < disks->len; i++) {
        const VrDomDisk *disk = disks->pdata[i];
        const char *tracked[] = {disk->target, NULL};
        g_autofree char *xml =
            vr_checkpoint_xml(name, tracked, NULL, g_get_real_time() / G_USEC_PER_SEC);
        virDomainCheckpointPtr made;
        gboolean ok, broken = FALSE;

        if (!can_hold(disk))
            continue;
        made = virDomainCheckpointCreateXML(dom->dom, xml, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE);
        if (!made) {
            vr_virerr_set(error, "domain '%s': cannot name stray bitmap '%s'", uuid, name);
            return FALSE;
        }
        ok = delete_whole(dom, made, name, &broken, error);
        virDomainCheckpointFree(made);
        if (!ok)
            return FALSE;
    }
    return TRUE;
}

static gboolean
is_in_images(VrConn *conn, const char *uuid, const char *name, gboolean *ret_found, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_dom_disks(conn, uuid, error);

    *ret_found = FALSE;
    for (guint i = 0; disks && i < disks->len && !*ret_found; i++) {
        const VrDomDisk *disk = disks->pdata[i];
        g_auto(GStrv) names = NULL;

        if (!can_hold(disk))
            continue;
        names = vr_image_bitmap_list(disk->path, error);
        if (!names)
            return FALSE;
        *ret_found = g_strv_contains((const char *const *) names, name);
    }
    return disks != NULL;
}

/* @checkpoint: (nullable): without one there may be bitmaps that were added while it was shut off.
 */
static gboolean
delete_running(VrDom *dom, const char *uuid, virDomainCheckpointPtr checkpoint, const char *name,
               GError **error)
{
    gboolean rest = FALSE;

    if (checkpoint ? !delete_whole(dom, checkpoint, name, &rest, error)
                   : !is_in_images(dom->conn, uuid, name, &rest, error))
        return FALSE;
    return !rest || delete_by_disk(dom->conn, uuid, name, error);
}

/* Shut off: the bitmaps first, so that a crash in between leaves the metadata to find them by. */
static gboolean
delete_off(VrConn *conn, const char *uuid, virDomainCheckpointPtr checkpoint, const char *name,
           GError **error)
{
    g_autoptr(GPtrArray) disks = vr_dom_disks(conn, uuid, error);

    if (!disks)
        return FALSE;
    for (guint i = 0; i < disks->len; i++) {
        const VrDomDisk *disk = disks->pdata[i];

        if (can_hold(disk) && !vr_image_bitmap_remove(disk->path, name, error))
            return FALSE;
    }
    if (!checkpoint ||
        virDomainCheckpointDelete(checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) == 0 ||
        virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_CHECKPOINT)
        return TRUE;
    vr_virerr_set(error, "domain '%s': cannot delete checkpoint '%s'", uuid, name);
    return FALSE;
}

gboolean
vr_checkpoint_delete(VrConn *conn, const char *uuid, const char *name, GError **error)
{
    g_autoptr(VrDom) dom = NULL;
    virDomainCheckpointPtr checkpoint;
    gboolean ok = TRUE;

    if (!vr_checkpoint_is_ours(name, uuid)) {
        vr_set_error(error, VR_ERROR_REFUSED, "foreign-checkpoint", NULL,
                     "checkpoint '%s' is not one of ours: left alone", name);
        return FALSE;
    }
    dom = vr_dom_open(conn, uuid, error);
    if (!dom)
        return FALSE;
    checkpoint = virDomainCheckpointLookupByName(dom->dom, name, 0);
    if (!checkpoint && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN_CHECKPOINT) {
        vr_virerr_set(error, "domain '%s': checkpoint '%s'", dom->name, name);
        return FALSE;
    }
    vr_virerr_ignore();
    if (is_off(dom))
        ok = delete_off(conn, uuid, checkpoint, name, error);
    else
        ok = delete_running(dom, uuid, checkpoint, name, error);
    if (checkpoint)
        virDomainCheckpointFree(checkpoint);
    return ok;
}

char **
vr_checkpoint_list(VrConn *conn, const char *uuid, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, uuid, error);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    virDomainCheckpointPtr *list = NULL;
    int n;

    if (!dom)
        return NULL;
    n = virDomainListAllCheckpoints(dom->dom, &list, VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL);
    if (n < 0) {
        vr_virerr_set(error, "domain '%s': cannot list its checkpoints", dom->name);
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        const char *name = virDomainCheckpointGetName(list[i]);

        if (vr_checkpoint_is_ours(name, uuid))
            g_ptr_array_add(names, g_strdup(name));
        virDomainCheckpointFree(list[i]);
    }
    free(list);
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

/* (target -> names) of bitmaps of ours in the images, whatever libvirt knows of them. */
static gboolean
stray_bitmaps(VrConn *conn, const char *uuid, const char *keep, GPtrArray *ret_names,
              GError **error)
{
    g_autoptr(GPtrArray) disks = vr_dom_disks(conn, uuid, error);

    if (!disks)
        return FALSE;
    for (guint i = 0; i < disks->len; i++) {
        const VrDomDisk *disk = disks->pdata[i];
        g_auto(GStrv) found = NULL;

        if (!can_hold(disk))
            continue;
        found = vr_image_bitmap_list(disk->path, error);
        if (!found)
            return FALSE;
        for (guint j = 0; found[j]; j++) {
            if (vr_checkpoint_is_ours(found[j], uuid) && g_strcmp0(found[j], keep) != 0 &&
                !g_ptr_array_find_with_equal_func(ret_names, found[j], g_str_equal, NULL))
                g_ptr_array_add(ret_names, g_strdup(found[j]));
        }
    }
    return TRUE;
}

static gboolean
sweep_bitmaps(VrConn *conn, const char *uuid, const char *keep, guint *deleted, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, uuid, error);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    gboolean off = dom && is_off(dom);

    if (!dom || !stray_bitmaps(conn, uuid, keep, names, error))
        return FALSE;
    for (guint i = 0; i < names->len; i++) {
        gboolean ok = off ? delete_off(conn, uuid, NULL, names->pdata[i], error)
                          : delete_by_disk(conn, uuid, names->pdata[i], error);

        if (!ok)
            return FALSE;
        (*deleted)++;
    }
    return TRUE;
}

gboolean
vr_checkpoint_sweep(VrConn *conn, const char *uuid, const char *keep, guint *ret_deleted,
                    GError **error)
{
    g_auto(GStrv) names = vr_checkpoint_list(conn, uuid, error);
    guint deleted = 0;

    if (!names)
        return FALSE;
    for (guint i = 0; names[i]; i++) {
        if (g_strcmp0(names[i], keep) == 0)
            continue;
        if (!vr_checkpoint_delete(conn, uuid, names[i], error))
            return FALSE;
        deleted++;
    }
    if (!sweep_bitmaps(conn, uuid, keep, &deleted, error))
        return FALSE;
    if (ret_deleted)
        *ret_deleted = deleted;
    return TRUE;
}

static gboolean
add_bitmaps(const GPtrArray *disks, const char *name, const char *const *tracked, GError **error)
{
    for (guint i = 0; tracked[i]; i++) {
        const VrDomDisk *disk = vr_dom_disk_find(disks, tracked[i]);

        if (!disk || !can_hold(disk)) {
            vr_set_error(error, VR_ERROR_REFUSED, "disk-not-supported", NULL,
                         "disk '%s' has no qcow2 file that can hold a bitmap", tracked[i]);
            return FALSE;
        }
        if (!vr_image_bitmap_add(disk->path, name, error))
            return FALSE;
    }
    return TRUE;
}

/* The disks of @disks that @tracked does not name. */
static GPtrArray *
others_of(const GPtrArray *disks, const char *const *tracked)
{
    GPtrArray *others = g_ptr_array_new();

    for (guint i = 0; i < disks->len; i++) {
        const VrDomDisk *disk = disks->pdata[i];

        if (!g_strv_contains(tracked, disk->target))
            g_ptr_array_add(others, disk->target);
    }
    g_ptr_array_add(others, NULL);
    return others;
}

static gboolean
redefine(VrDom *dom, const char *xml, const char *name, GError **error)
{
    virDomainCheckpointPtr made =
        virDomainCheckpointCreateXML(dom->dom, xml, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE);

    if (!made) {
        vr_virerr_set(error, "domain '%s': cannot create checkpoint '%s'", dom->name, name);
        return FALSE;
    }
    virDomainCheckpointFree(made);
    return TRUE;
}

gboolean
vr_checkpoint_create_offline(VrConn *conn, const char *uuid, const char *name,
                             const char *const *tracked, GError **error)
{
    g_autoptr(GPtrArray) disks = vr_dom_disks(conn, uuid, error);
    g_autoptr(VrDom) dom = disks ? vr_dom_open(conn, uuid, error) : NULL;
    g_autoptr(GPtrArray) others = NULL;
    g_autofree char *xml = NULL;

    if (!dom)
        return FALSE;
    if (!is_off(dom)) {
        vr_set_error(error, VR_ERROR_REFUSED, "domain-running", NULL, "domain '%s' is running",
                     dom->name);
        return FALSE;
    }
    others = others_of(disks, tracked);
    xml = vr_checkpoint_xml(name, tracked, (const char *const *) others->pdata,
                            g_get_real_time() / G_USEC_PER_SEC);
    if (add_bitmaps(disks, name, tracked, error) && redefine(dom, xml, name, error))
        return TRUE;
    if (!vr_checkpoint_delete(conn, uuid, name, NULL))
        g_warning("checkpoint '%s' could not be undone, ignoring", name);
    return FALSE;
}
