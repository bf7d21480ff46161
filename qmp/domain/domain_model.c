/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_model.h"

#include "qmp/domain/domain_parse.h"

/* Where libvirt's system daemon keeps the variables of a domain that does not say where. */
#define DEFAULT_NVRAM "/var/lib/libvirt/qemu/nvram/%s_VARS.fd"

static void
disk_free(gpointer data)
{
    VrDomainDisk *disk = data;

    g_free(disk->target);
    g_free(disk->serial);
    g_free(disk->wwn);
    g_free(disk->vendor);
    g_free(disk->product);
    g_free(disk->source_type);
    g_free(disk->source_format);
    g_free(disk->source_path);
    g_free(disk);
}

static void
interface_free(gpointer data)
{
    VrDomainInterface *interface = data;

    g_free(interface->mac);
    g_free(interface->network);
    g_free(interface);
}

static void
feature_free(gpointer data)
{
    VrDomainFeature *feature = data;

    g_free(feature->value);
    g_free(feature);
}

static void
cpu_feature_free(gpointer data)
{
    VrDomainCpuFeature *feature = data;

    g_free(feature->name);
    g_free(feature);
}

VrDomainModel *
vr_domain_model_new(void)
{
    VrDomainModel *self = g_new0(VrDomainModel, 1);

    self->boot_menu_timeout = -1;
    self->cpu.sockets = self->cpu.dies = self->cpu.cores = self->cpu.threads = -1;
    self->cpu.cache_level = -1;
    self->cpu.features = g_ptr_array_new_with_free_func(cpu_feature_free);
    self->features = g_ptr_array_new_with_free_func(feature_free);
    self->timers = g_ptr_array_new_with_free_func(g_free);
    self->disks = g_ptr_array_new_with_free_func(disk_free);
    self->controllers = g_ptr_array_new_with_free_func(g_free);
    self->interfaces = g_ptr_array_new_with_free_func(interface_free);
    self->serials = g_ptr_array_new_with_free_func(g_free);
    self->consoles = g_ptr_array_new_with_free_func(g_free);
    self->channels = g_ptr_array_new_with_free_func(g_free);
    self->devices = g_ptr_array_new_with_free_func(g_free);
    self->findings = vr_findings_new();
    return self;
}

void
vr_domain_model_free(VrDomainModel *self)
{
    if (!self)
        return;
    g_free(self->name);
    g_free(self->uuid);
    g_free(self->genid);
    g_free(self->title);
    g_free(self->description);
    g_free(self->arch);
    g_free(self->machine);
    g_free(self->cmdline);
    g_free(self->cpu.model);
    g_free(self->cpu.vendor);
    g_free(self->timezone);
    g_free(self->clock_adjustment);
    g_free(self->source_loader);
    g_free(self->source_nvram);
    g_free(self->source_kernel);
    g_free(self->source_initrd);
    g_free(self->source_dtb);
    g_ptr_array_unref(self->cpu.features);
    g_ptr_array_unref(self->features);
    g_ptr_array_unref(self->timers);
    g_ptr_array_unref(self->disks);
    g_ptr_array_unref(self->controllers);
    g_ptr_array_unref(self->interfaces);
    g_ptr_array_unref(self->serials);
    g_ptr_array_unref(self->consoles);
    g_ptr_array_unref(self->channels);
    g_ptr_array_unref(self->devices);
    vr_findings_free(self->findings);
    g_free(self);
}

void
vr_domain_model_set_default_nvram(VrDomainModel *self)
{
    self->source_nvram = g_strdup_printf(DEFAULT_NVRAM, self->name);
    self->nvram_path_assumed = TRUE;
}

const VrDomainDisk *
vr_domain_model_disk(const VrDomainModel *self, const char *target)
{
    for (guint i = 0; i < self->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(self->disks, i);

        if (g_str_equal(disk->target, target))
            return disk;
    }
    return NULL;
}

gboolean
vr_domain_disk_is_data(const VrDomainDisk *disk)
{
    return g_str_equal(disk->device, "disk");
}

gboolean
vr_domain_model_disk_uses_iothread(const VrDomainModel *self, const VrDomainDisk *disk)
{
    gint64 index = disk->address.kind == VR_DOMAIN_ADDRESS_DRIVE ? disk->address.part[0] : 0;

    if (disk->iothread > 0)
        return TRUE;
    if (!g_str_equal(disk->bus, "scsi"))
        return FALSE;
    for (guint i = 0; i < self->controllers->len; i++) {
        const VrDomainController *controller = g_ptr_array_index(self->controllers, i);

        if (g_str_equal(controller->type, "scsi") && controller->iothread > 0 &&
            controller->index == index)
            return TRUE;
    }
    return FALSE;
}

static void
add_attachment(GArray *list, VrAttachmentKind kind, const char *path, gboolean optional)
{
    const VrDomainAttachment attachment = {kind, path, optional};

    if (path)
        g_array_append_val(list, attachment);
}

GArray *
vr_domain_model_attachments(const VrDomainModel *self)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(VrDomainAttachment));

    add_attachment(list, VR_ATTACHMENT_KERNEL, self->source_kernel, FALSE);
    add_attachment(list, VR_ATTACHMENT_INITRD, self->source_initrd, FALSE);
    add_attachment(list, VR_ATTACHMENT_DTB, self->source_dtb, FALSE);
    add_attachment(list, VR_ATTACHMENT_NVRAM, self->source_nvram, TRUE);
    return list;
}
