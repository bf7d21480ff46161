/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_files.h"

#include <libvirt/libvirt.h>
#include <libxml/parser.h>
#include <stdlib.h>
#include <string.h>

#include "policies/error.h"
#include "qmp/domain/domain_node.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/virerr.h"

#define XML_MAX ((gsize) 4 * 1024 * 1024)
/* From libvirt itself. Each image of a chain is one level deeper: 200 at most. */
#define XML_OPTIONS (XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_HUGE)

static void
file_free(gpointer data)
{
    VrDomFile *file = data;

    g_free(file->disk);
    g_free(file->path);
    g_free(file->format);
    g_free(file->pool);
    g_free(file->volume);
    g_free(file);
}

static VrDomFile *
add(GPtrArray *files, const char *disk, const char *path, const char *format)
{
    VrDomFile *file = g_new0(VrDomFile, 1);

    file->disk = g_strdup(disk);
    file->path = g_strdup(path);
    file->format = g_strdup(format);
    g_ptr_array_add(files, file);
    return file;
}

/* The format of the image whose <source> is in @node. */
static const char *
format_in(xmlNode *node)
{
    xmlNode *said = vr_node_child(node, vr_node_is(node, "disk") ? "driver" : "format");

    return said ? vr_node_attr(said, "type") : NULL;
}

static void
add_source(GPtrArray *files, const char *disk, xmlNode *source)
{
    const char *format = format_in(source->parent);
    const char *path = vr_node_attr(source, "file");
    const char *pool = vr_node_attr(source, "pool");

    if (path == NULL)
        path = vr_node_attr(source, "dev");
    if (path != NULL && path[0] == '/') {
        add(files, disk, path, format);
    } else if (pool != NULL && vr_node_attr(source, "volume") != NULL) {
        VrDomFile *file = add(files, disk, NULL, format);

        file->pool = g_strdup(pool);
        file->volume = g_strdup(vr_node_attr(source, "volume"));
    }
}

static void
add_texts(GPtrArray *files, const char *disk, xmlNode *node)
{
    g_autofree char *text = vr_node_text(node);

    if (text[0] == '/')
        add(files, disk, text, NULL);
    for (xmlAttr *attr = node->properties; attr != NULL; attr = attr->next) {
        const char *value = attr->children ? (const char *) attr->children->content : NULL;

        if (value != NULL && value[0] == '/')
            add(files, disk, value, NULL);
    }
}

static void
walk(GPtrArray *files, const char *disk, xmlNode *node)
{
    if (vr_node_is(node, "disk")) {
        xmlNode *target = vr_node_child(node, "target");

        disk = target ? vr_node_attr(target, "dev") : NULL;
    }
    if (disk != NULL && vr_node_is(node, "source"))
        add_source(files, disk, node);
    else
        add_texts(files, disk, node);
    for (xmlNode *child = vr_node_first(node); child != NULL; child = vr_node_after(child))
        walk(files, disk, child);
}

GPtrArray *
vr_dom_files_from_xml(const char *xml, GError **error)
{
    gsize len = strlen(xml);
    g_autoptr(xmlDoc) doc =
        len <= XML_MAX ? xmlReadMemory(xml, (int) len, "domain.xml", NULL, XML_OPTIONS) : NULL;
    xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    GPtrArray *files;

    if (root == NULL) {
        vr_set_error(error, VR_ERROR_INTERNAL, "domain-xml", NULL,
                     "the domain's definition cannot be read");
        return NULL;
    }
    files = g_ptr_array_new_with_free_func(file_free);
    walk(files, NULL, root);
    return files;
}

/* A pool that is not there, or not active, leaves it unknown. */
static gboolean
find_volume(VrConn *conn, VrDomFile *file, GError **error)
{
    virConnectPtr vir = vr_conn_ref(conn, error);
    virStoragePoolPtr pool = vir ? virStoragePoolLookupByName(vir, file->pool) : NULL;
    virStorageVolPtr volume = pool ? virStorageVolLookupByName(pool, file->volume) : NULL;
    char *path = volume ? virStorageVolGetPath(volume) : NULL;

    if (vir == NULL)
        return FALSE;
    file->path = g_strdup(path);
    free(path);
    if (volume != NULL)
        virStorageVolFree(volume);
    if (pool != NULL)
        virStoragePoolFree(pool);
    vr_virerr_ignore();
    vr_conn_unref(conn, vir);
    return TRUE;
}

/* Takes @xml. */
static gboolean
add_from(VrConn *conn, char *xml, GPtrArray *files, GError **error)
{
    g_autofree char *owned = xml;
    g_autoptr(GPtrArray) found = owned ? vr_dom_files_from_xml(owned, error) : NULL;

    for (guint i = 0; found != NULL && i < found->len; i++) {
        VrDomFile *file = g_ptr_array_index(found, i);

        if (file->volume != NULL && !find_volume(conn, file, error))
            return FALSE;
    }
    if (found == NULL)
        return FALSE;
    g_ptr_array_extend_and_steal(files, g_steal_pointer(&found));
    return TRUE;
}

GPtrArray *
vr_dom_files(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(file_free);

    if (!add_from(conn, vr_dom_xml_live(conn, domain, error), files, error) ||
        !add_from(conn, vr_dom_xml_inactive(conn, domain, error), files, error))
        return NULL;
    return g_steal_pointer(&files);
}
