/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_ops.h"

#include <libxml/parser.h>
#include <string.h>
#include <sys/stat.h>

#include "policies/error.h"
#include "qmp/virerr.h"

#define XML_MAX (4 * 1024 * 1024)

static void
disk_free(gpointer data)
{
    VrDomDisk *disk = data;

    g_free(disk->target);
    g_free(disk->path);
    g_free(disk->format);
    g_free(disk->device);
    g_free(disk);
}

static xmlNode *
child(const xmlNode *node, const char *name)
{
    for (xmlNode *at = node ? node->children : NULL; at; at = at->next) {
        if (at->type == XML_ELEMENT_NODE && strcmp((const char *) at->name, name) == 0)
            return at;
    }
    return NULL;
}

static char *
attribute(const xmlNode *node, const char *name)
{
    xmlChar *value = node ? xmlGetProp(node, (const xmlChar *) name) : NULL;
    char *copy = g_strdup((const char *) value);

    xmlFree(value);
    return copy;
}

/* Whether the SCSI controller number @index has an iothread. */
static gboolean
controller_has_iothread(const xmlNode *devices, const char *index)
{
    for (xmlNode *at = devices->children; at; at = at->next) {
        g_autofree char *type = NULL, *number = NULL, *iothread = NULL;

        if (at->type != XML_ELEMENT_NODE || strcmp((const char *) at->name, "controller") != 0)
            continue;
        type = attribute(at, "type");
        number = attribute(at, "index");
        iothread = attribute(child(at, "driver"), "iothread");
        if (iothread && g_strcmp0(type, "scsi") == 0 && g_strcmp0(number, index) == 0)
            return TRUE;
    }
    return FALSE;
}

static VrDomDisk *
read_disk(const xmlNode *devices, const xmlNode *node)
{
    const xmlNode *source = child(node, "source");
    const xmlNode *driver = child(node, "driver");
    g_autofree char *type = attribute(node, "type");
    g_autofree char *bus = attribute(child(node, "target"), "bus");
    g_autofree char *controller = attribute(child(node, "address"), "controller");
    g_autofree char *iothread = attribute(driver, "iothread");
    VrDomDisk *disk = g_new0(VrDomDisk, 1);

    disk->target = attribute(child(node, "target"), "dev");
    disk->format = attribute(driver, "type");
    disk->device = attribute(node, "device");
    if (!disk->device)
        disk->device = g_strdup("disk");
    if (g_strcmp0(type, "file") == 0)
        disk->path = attribute(source, "file");
    else if (g_strcmp0(type, "block") == 0)
        disk->path = attribute(source, "dev");
    disk->readonly = child(node, "readonly") != NULL;
    disk->shareable = child(node, "shareable") != NULL;
    disk->transient = child(node, "transient") != NULL;
    disk->iothread = iothread != NULL || child(driver, "iothreads") != NULL ||
                     (g_strcmp0(bus, "scsi") == 0 && controller_has_iothread(devices, controller));
    return disk;
}

GPtrArray *
vr_dom_disks_from_xml(const char *xml, GError **error)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(disk_free);
    gsize len = strlen(xml);
    xmlDoc *doc = len <= XML_MAX
                      ? xmlReadMemory(xml, (int) len, "domain.xml", NULL,
                                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING)
                      : NULL;
    const xmlNode *devices = doc ? child(xmlDocGetRootElement(doc), "devices") : NULL;

    if (!devices) {
        vr_set_error(error, VR_ERROR_INTERNAL, "domain-xml", NULL,
                     "the domain's definition has no devices that can be read");
        xmlFreeDoc(doc);
        return NULL;
    }
    for (const xmlNode *at = devices->children; at; at = at->next) {
        VrDomDisk *disk;

        if (at->type != XML_ELEMENT_NODE || strcmp((const char *) at->name, "disk") != 0)
            continue;
        disk = read_disk(devices, at);
        if (disk->target)
            g_ptr_array_add(disks, disk);
        else
            disk_free(disk);
    }
    xmlFreeDoc(doc);
    return g_steal_pointer(&disks);
}

static void
add_facts(VrDom *dom, VrDomDisk *disk)
{
    virDomainBlockInfo block;
    struct stat st;

    if (!disk->path)
        return;
    if (virDomainGetBlockInfo(dom->dom, disk->target, &block, 0) == 0)
        disk->size_bytes = block.capacity;
    else
        vr_virerr_ignore();
    if (stat(disk->path, &st) == 0) {
        disk->device_id = st.st_dev;
        disk->inode = st.st_ino;
    }
}

GPtrArray *
vr_dom_disks(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(VrDom) dom = vr_dom_open(conn, domain, error);
    g_autoptr(GPtrArray) disks = NULL;
    char *xml = dom ? virDomainGetXMLDesc(dom->dom, 0) : NULL;

    if (!dom)
        return NULL;
    if (!xml) {
        vr_virerr_set(error, "domain '%s': cannot read its definition", dom->name);
        return NULL;
    }
    disks = vr_dom_disks_from_xml(xml, error);
    free(xml);
    for (guint i = 0; disks && i < disks->len; i++)
        add_facts(dom, disks->pdata[i]);
    return g_steal_pointer(&disks);
}

const VrDomDisk *
vr_dom_disk_find(const GPtrArray *disks, const char *target)
{
    for (guint i = 0; i < disks->len; i++) {
        const VrDomDisk *disk = disks->pdata[i];

        if (strcmp(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}
