/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_parse.h"

#include <string.h>

#include "policies/error.h"

#define FACT_MAX 64 /* bytes of a source type or format */

static gboolean
is_disk_target(const char *text)
{
    static const char *const prefixes[] = {"xvd", "vd", "sd", "hd", "fd"};

    for (gsize i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        const char *rest = text + strlen(prefixes[i]);
        gsize n;

        if (!g_str_has_prefix(text, prefixes[i]))
            continue;
        n = strspn(rest, G_CSET_a_2_z);
        return n >= 1 && n <= 3 && rest[n] == 0;
    }
    return FALSE;
}

static gboolean
parse_disk_target(VrDomainModel *model, VrDomainDisk *disk, xmlNode *node, GError **error)
{
    xmlNode *target = vr_node_child(node, "target");
    const char *dev = target ? vr_node_attr(target, "dev") : NULL;
    const char *bus = target ? vr_node_attr(target, "bus") : NULL;
    g_autofree char *shown = vr_node_printable(dev ? dev : "");

    if (!dev || !is_disk_target(dev)) {
        vr_set_error(error, VR_ERROR_INVALID, "disk-target-invalid",
                     "Give the disk a target as vda or sdb.",
                     "domain '%s': '%s' is no target of a disk", model->name, shown);
        return FALSE;
    }
    if (vr_domain_model_disk(model, dev)) {
        vr_set_error(error, VR_ERROR_INVALID, "disk-target-duplicate",
                     "Give each disk its own target.", "domain '%s' has two disks '%s'",
                     model->name, dev);
        return FALSE;
    }
    disk->bus = vr_word(vr_words_disk_bus, bus);
    if (!disk->bus)
        return vr_parse_refuse(target, bus ? bus : "disk without a bus", error);
    vr_node_ignore_attr(target, "tray");
    vr_node_ignore_attr(target, "removable");
    disk->rotation_rate = vr_parse_number(model, target, "rotation_rate", 65535);
    disk->target = g_strdup(dev);
    return TRUE;
}

static char *
fact(const char *text)
{
    return text ? g_strndup(text, FACT_MAX) : NULL;
}

static void
parse_disk_source(VrDomainDisk *disk, xmlNode *node)
{
    xmlNode *source = vr_node_child(node, "source");
    const char *type = vr_node_attr(node, "type");
    const char *path = NULL;

    disk->source_type = fact(type);
    disk->encrypted = vr_node_child(node, "encryption") != NULL;
    if (!source)
        return;
    if (g_strcmp0(type, "file") == 0)
        path = vr_node_attr(source, "file");
    else if (g_strcmp0(type, "block") == 0)
        path = vr_node_attr(source, "dev");
    if (path && path[0] == '/')
        disk->source_path = g_strdup(path);
    disk->encrypted |= vr_node_child(source, "encryption") != NULL;
    vr_node_ignore(source);
}

static void
parse_disk_driver(VrDomainModel *model, VrDomainDisk *disk, xmlNode *node)
{
    xmlNode *driver = vr_node_child(node, "driver");

    if (!driver)
        return;
    vr_node_ignore_attr(driver, "name");
    disk->source_format = fact(vr_node_attr(driver, "type"));
    disk->cache = vr_parse_word(model, driver, "cache", vr_words_disk_cache);
    disk->discard = vr_parse_word(model, driver, "discard", vr_words_disk_discard);
    disk->io = vr_parse_word(model, driver, "io", vr_words_disk_io);
    disk->detect_zeroes =
        vr_parse_word(model, driver, "detect_zeroes", vr_words_disk_detect_zeroes);
    disk->error_policy = vr_parse_word(model, driver, "error_policy", vr_words_disk_error_policy);
    disk->rerror_policy =
        vr_parse_word(model, driver, "rerror_policy", vr_words_disk_rerror_policy);
    disk->queues = vr_parse_number(model, driver, "queues", 256);
    disk->iothread = vr_parse_number(model, driver, "iothread", 65535);
}

static gint64
parse_block_size(VrDomainModel *model, xmlNode *node, const char *name)
{
    gint64 bytes = vr_parse_number(model, node, name, 2 * 1024 * 1024);

    return bytes >= 512 && (bytes & (bytes - 1)) == 0 ? bytes : -1;
}

/* What the guest may know the disk by: nothing that could be a path or another option. */
static char *
parse_label(VrDomainModel *model, xmlNode *disk, const char *name, gsize max_bytes)
{
    xmlNode *node = vr_node_child(disk, name);
    g_autofree char *text = vr_parse_text(model, node, max_bytes, "");

    if (!text || strspn(text, G_CSET_a_2_z G_CSET_A_2_Z "0123456789 ._+:-") == strlen(text))
        return g_steal_pointer(&text);
    vr_parse_list_unknown(model, node, NULL, text);
    return NULL;
}

static void
parse_disk_identity(VrDomainModel *model, VrDomainDisk *disk, xmlNode *node)
{
    xmlNode *io = vr_node_child(node, "blockio");

    disk->serial = parse_label(model, node, "serial", 36);
    disk->vendor = parse_label(model, node, "vendor", 8);
    disk->product = parse_label(model, node, "product", 16);
    disk->wwn = parse_label(model, node, "wwn", 16);
    if (!io)
        return;
    disk->logical_block_size = parse_block_size(model, io, "logical_block_size");
    disk->physical_block_size = parse_block_size(model, io, "physical_block_size");
    disk->discard_granularity =
        vr_parse_number(model, io, "discard_granularity", 1024 * 1024 * 1024);
}

gboolean
vr_domain_parse_disk(VrDomainModel *model, xmlNode *node, GError **error)
{
    VrDomainDisk *disk;
    const char *device = vr_node_attr(node, "device");

    if (model->disks->len >= VR_DOMAIN_DISKS_MAX)
        return vr_parse_too_many(model, "disk", VR_DOMAIN_DISKS_MAX, error);
    disk = g_new0(VrDomainDisk, 1);
    disk->queues = disk->iothread = disk->rotation_rate = -1;
    disk->logical_block_size = disk->physical_block_size = disk->discard_granularity = -1;
    if (!parse_disk_target(model, disk, node, error)) {
        g_free(disk);
        return FALSE;
    }
    g_ptr_array_add(model->disks, disk);
    disk->device = vr_word(vr_words_disk_device, device ? device : "disk");
    if (!disk->device)
        return vr_parse_refuse(node, device, error);
    disk->model = vr_parse_word(model, node, "model", vr_words_virtio_model);
    disk->read_only = vr_node_child(node, "readonly") != NULL;
    disk->shareable = vr_node_child(node, "shareable") != NULL;
    disk->transient = vr_node_child(node, "transient") != NULL;
    disk->boot_order = vr_parse_boot_order(model, node);
    vr_node_ignore_attr(node, "snapshot");
    parse_disk_source(disk, node);
    parse_disk_driver(model, disk, node);
    parse_disk_identity(model, disk, node);
    vr_parse_address(model, node, &disk->address);
    if (vr_node_child(node, "backingStore") && !vr_node_child(node, "backingStore")->children)
        vr_node_ignore_child(node, "backingStore");
    else if (vr_node_child(node, "backingStore"))
        vr_node_child(node, "backingStore")->_private = NULL;
    return TRUE;
}
