/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_xml_impl.h"

static void
write_address(VrDomainWriter *self, const VrDomainAddress *address)
{
    const VrAddressLayout *layout;

    if (address->kind == VR_DOMAIN_ADDRESS_NONE)
        return;
    layout = vr_domain_address_layout(address->kind);
    vr_xml_open(self->out, "address");
    vr_xml_attr(self->out, "type", layout->type);
    for (gsize i = 0; i < G_N_ELEMENTS(layout->attributes) && layout->attributes[i]; i++) {
        g_autofree char *hex = g_strdup_printf("0x%x", (guint) address->part[i]);

        if (layout->hex)
            vr_xml_attr(self->out, layout->attributes[i], address->part[i] < 0 ? NULL : hex);
        else
            vr_xml_attr_number(self->out, layout->attributes[i], address->part[i]);
    }
    vr_xml_attr(self->out, "multifunction", address->multifunction ? "on" : NULL);
    vr_xml_close(self->out);
}

static void
write_boot_order(VrDomainWriter *self, gint64 order)
{
    if (order <= 0)
        return;
    vr_xml_open(self->out, "boot");
    vr_xml_attr_number(self->out, "order", order);
    vr_xml_close(self->out);
}

/* -1 if the replica does not have that I/O thread. */
static gint64
known_iothread(const VrDomainWriter *self, gint64 iothread)
{
    return iothread > self->model->iothreads ? -1 : iothread;
}

static void
write_disk_driver(VrDomainWriter *self, const VrDomainDisk *disk)
{
    vr_xml_open(self->out, "driver");
    vr_xml_attr(self->out, "name", "qemu");
    vr_xml_attr(self->out, "type", "qcow2");
    vr_xml_attr(self->out, "cache", disk->cache);
    vr_xml_attr(self->out, "error_policy", disk->error_policy);
    vr_xml_attr(self->out, "rerror_policy", disk->rerror_policy);
    vr_xml_attr(self->out, "io", disk->io);
    vr_xml_attr(self->out, "discard", disk->discard);
    vr_xml_attr_number(self->out, "iothread", known_iothread(self, disk->iothread));
    vr_xml_attr(self->out, "detect_zeroes", disk->detect_zeroes);
    vr_xml_attr_number(self->out, "queues", disk->queues);
    vr_xml_close(self->out);
}

static void
write_disk_identity(VrDomainWriter *self, const VrDomainDisk *disk)
{
    if (disk->logical_block_size > 0 || disk->physical_block_size > 0 ||
        disk->discard_granularity >= 0) {
        vr_xml_open(self->out, "blockio");
        vr_xml_attr_number(self->out, "logical_block_size", disk->logical_block_size);
        vr_xml_attr_number(self->out, "physical_block_size", disk->physical_block_size);
        vr_xml_attr_number(self->out, "discard_granularity", disk->discard_granularity);
        vr_xml_close(self->out);
    }
    vr_xml_text(self->out, "serial", disk->serial);
    vr_xml_text(self->out, "wwn", disk->wwn);
    vr_xml_text(self->out, "vendor", disk->vendor);
    vr_xml_text(self->out, "product", disk->product);
}

static void
write_disk(VrDomainWriter *self, const VrDomainDisk *disk, const char *path)
{
    vr_xml_open(self->out, "disk");
    vr_xml_attr(self->out, "type", "file");
    vr_xml_attr(self->out, "device", disk->device);
    vr_xml_attr(self->out, "model", disk->model);
    if (path) {
        write_disk_driver(self, disk);
        vr_xml_open(self->out, "source");
        vr_xml_attr(self->out, "file", path);
        vr_xml_close(self->out);
    }
    vr_xml_open(self->out, "target");
    vr_xml_attr(self->out, "dev", disk->target);
    vr_xml_attr(self->out, "bus", disk->bus);
    vr_xml_attr_number(self->out, "rotation_rate", disk->rotation_rate);
    vr_xml_close(self->out);
    if (disk->read_only || g_str_equal(disk->device, "cdrom"))
        vr_xml_empty(self->out, "readonly");
    write_disk_identity(self, disk);
    write_boot_order(self, disk->boot_order);
    write_address(self, &disk->address);
    vr_xml_close(self->out);
}

static void
write_disks(VrDomainWriter *self)
{
    for (guint i = 0; i < self->model->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(self->model->disks, i);
        const char *path = g_hash_table_lookup(self->target->disk_paths, disk->target);

        if (g_str_equal(disk->device, "lun"))
            vr_findings_add(self->findings, VR_FINDING_WARNING, "lun-dropped",
                            "Attach a device of this host after a failover if the guest needs it.",
                            "disk '%s' is a SCSI device of the source host and is left out",
                            disk->target);
        else if (vr_domain_disk_is_data(disk) && !path)
            vr_findings_add(self->findings, VR_FINDING_WARNING, "disk-not-replicated",
                            "Check that the guest boots without it.",
                            "disk '%s' is not replicated and is left out", disk->target);
        else
            write_disk(self, disk, vr_domain_disk_is_data(disk) ? path : NULL);
    }
}

static void
write_controller_driver(VrDomainWriter *self, const VrDomainController *controller)
{
    gint64 iothread = known_iothread(self, controller->iothread);

    if (controller->queues < 0 && iothread < 0 && controller->cmd_per_lun < 0 &&
        controller->max_sectors < 0)
        return;
    vr_xml_open(self->out, "driver");
    vr_xml_attr_number(self->out, "queues", controller->queues);
    vr_xml_attr_number(self->out, "cmd_per_lun", controller->cmd_per_lun);
    vr_xml_attr_number(self->out, "max_sectors", controller->max_sectors);
    vr_xml_attr_number(self->out, "iothread", iothread);
    vr_xml_close(self->out);
}

static void
write_pci_controller(VrDomainWriter *self, const VrDomainController *controller)
{
    if (controller->pci_model) {
        vr_xml_open(self->out, "model");
        vr_xml_attr(self->out, "name", controller->pci_model);
        vr_xml_close(self->out);
    }
    if (controller->chassis < 0 && controller->chassis_nr < 0 && controller->port < 0 &&
        controller->bus_nr < 0 && controller->target_index < 0 && !controller->hotplug)
        return;
    vr_xml_open(self->out, "target");
    vr_xml_attr_number(self->out, "chassisNr", controller->chassis_nr);
    vr_xml_attr_number(self->out, "chassis", controller->chassis);
    vr_xml_attr_number(self->out, "port", controller->port);
    vr_xml_attr_number(self->out, "busNr", controller->bus_nr);
    vr_xml_attr_number(self->out, "index", controller->target_index);
    vr_xml_attr(self->out, "hotplug", controller->hotplug);
    vr_xml_close(self->out);
}

static void
write_controllers(VrDomainWriter *self)
{
    for (guint i = 0; i < self->model->controllers->len; i++) {
        const VrDomainController *controller = g_ptr_array_index(self->model->controllers, i);

        vr_xml_open(self->out, "controller");
        vr_xml_attr(self->out, "type", controller->type);
        vr_xml_attr_number(self->out, "index", controller->index);
        vr_xml_attr(self->out, "model", controller->model);
        vr_xml_attr_number(self->out, "ports", controller->ports);
        vr_xml_attr_number(self->out, "vectors", controller->vectors);
        write_pci_controller(self, controller);
        if (controller->master_startport >= 0) {
            vr_xml_open(self->out, "master");
            vr_xml_attr_number(self->out, "startport", controller->master_startport);
            vr_xml_close(self->out);
        }
        write_controller_driver(self, controller);
        write_address(self, &controller->address);
        vr_xml_close(self->out);
    }
}

/* In the range QEMU uses; depends only on the domain's new UUID and the old address. */
static char *
derive_mac(const char *uuid, const char *mac)
{
    g_autofree char *seed = g_strdup_printf("%s %s", uuid, mac);
    g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, seed, -1);

    return g_strdup_printf("52:54:00:%.2s:%.2s:%.2s", digest, digest + 2, digest + 4);
}

static void
write_mac(VrDomainWriter *self, const char *mac)
{
    const char *uuid = self->target->uuid ? self->target->uuid : self->model->uuid;
    g_autofree char *derived = mac && self->target->new_macs ? derive_mac(uuid, mac) : NULL;

    if (!mac)
        return;
    vr_xml_open(self->out, "mac");
    vr_xml_attr(self->out, "address", derived ? derived : mac);
    vr_xml_close(self->out);
}

static void
write_number_element(VrDomainWriter *self, const char *name, const char *attribute, gint64 value)
{
    if (value < 0)
        return;
    vr_xml_open(self->out, name);
    vr_xml_attr_number(self->out, attribute, value);
    vr_xml_close(self->out);
}

static void
write_interface(VrDomainWriter *self, const VrDomainInterface *interface, const char *network)
{
    vr_xml_open(self->out, "interface");
    vr_xml_attr(self->out, "type", "network");
    write_mac(self, interface->mac);
    vr_xml_open(self->out, "source");
    vr_xml_attr(self->out, "network", network);
    vr_xml_close(self->out);
    if (interface->model) {
        vr_xml_open(self->out, "model");
        vr_xml_attr(self->out, "type", interface->model);
        vr_xml_close(self->out);
    }
    write_number_element(self, "driver", "queues", interface->queues);
    if (interface->link_down) {
        vr_xml_open(self->out, "link");
        vr_xml_attr(self->out, "state", "down");
        vr_xml_close(self->out);
    }
    write_number_element(self, "mtu", "size", interface->mtu);
    write_boot_order(self, interface->boot_order);
    write_number_element(self, "acpi", "index", interface->acpi_index);
    write_address(self, &interface->address);
    vr_xml_close(self->out);
}

static void
write_interfaces(VrDomainWriter *self)
{
    GHashTable *networks = self->target->networks;

    for (guint i = 0; i < self->model->interfaces->len; i++) {
        const VrDomainInterface *interface = g_ptr_array_index(self->model->interfaces, i);
        const char *network = networks ? g_hash_table_lookup(networks, interface->network) : NULL;

        if (network)
            write_interface(self, interface, network);
        else
            vr_findings_add(self->findings, VR_FINDING_WARNING, "network-not-mapped",
                            "Map the network (virt-replica netmap-set).",
                            "network '%s' is mapped to none of this host; interface %u (%s) is "
                            "left out",
                            interface->network, i + 1,
                            interface->mac ? interface->mac : "no address");
    }
}

static void
write_char(VrDomainWriter *self, const char *element, const VrDomainCharDevice *device, guint i)
{
    g_autofree char *log =
        device->logged ? vr_domain_xml_console_log(self->model, self->target, element, i) : NULL;

    vr_xml_open(self->out, element);
    vr_xml_attr(self->out, "type", "pty");
    if (log) {
        vr_xml_open(self->out, "log");
        vr_xml_attr(self->out, "file", log);
        vr_xml_attr(self->out, "append", "on");
        vr_xml_close(self->out);
    }
    vr_xml_open(self->out, "target");
    vr_xml_attr(self->out, "type", device->target);
    vr_xml_attr_number(self->out, "port", device->port);
    if (device->target_model) {
        vr_xml_open(self->out, "model");
        vr_xml_attr(self->out, "name", device->target_model);
        vr_xml_close(self->out);
    }
    vr_xml_close(self->out);
    write_address(self, &device->address);
    vr_xml_close(self->out);
}

/* libvirt shows a domain's first serial port as its first console once more. */
static void
write_consoles(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;

    for (guint i = 0; i < model->serials->len; i++)
        write_char(self, "serial", g_ptr_array_index(model->serials, i), i);
    for (guint i = 0; i < model->consoles->len; i++) {
        VrDomainCharDevice console = *(VrDomainCharDevice *) g_ptr_array_index(model->consoles, i);

        if (g_str_equal(console.target, "serial") && model->serials->len > 0)
            console.logged = FALSE;
        write_char(self, "console", &console, i);
    }
}

static gboolean
has_graphics(const VrDomainWriter *self, const char *type)
{
    const char *const *graphics = self->model->graphics;

    for (gsize i = 0; i < G_N_ELEMENTS(self->model->graphics) && graphics[i]; i++) {
        if (g_str_equal(graphics[i], type))
            return vr_host_caps_allows(self->target->caps, "graphics", "type", type);
    }
    return FALSE;
}

static void
write_channels(VrDomainWriter *self)
{
    for (guint i = 0; i < self->model->channels->len; i++) {
        const VrDomainCharDevice *channel = g_ptr_array_index(self->model->channels, i);
        gboolean spice = vr_word(vr_words_channel_spice, channel->channel) != NULL;

        if (spice && !has_graphics(self, "spice"))
            continue;
        vr_xml_open(self->out, "channel");
        vr_xml_attr(self->out, "type", spice ? "spicevmc" : "unix");
        vr_xml_open(self->out, "target");
        vr_xml_attr(self->out, "type", channel->target);
        vr_xml_attr(self->out, "name", channel->channel);
        vr_xml_close(self->out);
        write_address(self, &channel->address);
        vr_xml_close(self->out);
    }
}

static void
write_display(VrDomainWriter *self, const char *type)
{
    vr_xml_open(self->out, "graphics");
    vr_xml_attr(self->out, "type", type);
    vr_xml_attr(self->out, "autoport", "yes");
    vr_xml_close(self->out);
}

static void
write_graphics(VrDomainWriter *self)
{
    const char *const *graphics = self->model->graphics;
    gboolean vnc = has_graphics(self, "vnc");
    gboolean spice = has_graphics(self, "spice");

    if (spice)
        write_display(self, "spice");
    if (vnc)
        write_display(self, "vnc");
    if (!graphics[0] || vnc || spice)
        return;
    vr_findings_add(self->findings, VR_FINDING_WARNING, "graphics-replaced",
                    "Connect with a VNC viewer on this host.", "this host's QEMU cannot serve %s",
                    graphics[0]);
    if (vr_host_caps_allows(self->target->caps, "graphics", "type", "vnc"))
        write_display(self, "vnc");
}

static void
write_video(VrDomainWriter *self, const VrDomainDevice *device)
{
    gboolean known = vr_host_caps_allows(self->target->caps, "video", "modelType", device->model);

    if (!known)
        vr_findings_add(self->findings, VR_FINDING_WARNING, "video-replaced",
                        "Give the domain a video model that both hosts have.",
                        "this host's QEMU does not have video model '%s'; the guest gets 'vga'",
                        device->model);
    vr_xml_open(self->out, "model");
    vr_xml_attr(self->out, "type", known ? device->model : "vga");
    if (known) {
        vr_xml_attr_number(self->out, "ram", device->ram);
        vr_xml_attr_number(self->out, "vram", device->vram);
        vr_xml_attr_number(self->out, "vgamem", device->vgamem);
        vr_xml_attr_number(self->out, "heads", device->heads);
    }
    vr_xml_attr(self->out, "primary", device->primary ? "yes" : NULL);
    vr_xml_close(self->out);
}

static void
write_rng(VrDomainWriter *self, const VrDomainDevice *device)
{
    if (device->rate_bytes > 0) {
        vr_xml_open(self->out, "rate");
        vr_xml_attr_number(self->out, "bytes", device->rate_bytes);
        vr_xml_attr_number(self->out, "period", device->rate_period);
        vr_xml_close(self->out);
    }
    vr_xml_open(self->out, "backend");
    vr_xml_attr(self->out, "model", "random");
    vr_xml_close_text(self->out, "/dev/urandom");
}

static void
write_device(VrDomainWriter *self, const VrDomainDevice *device)
{
    const VrDeviceWord *known = vr_device_words;

    while (!g_str_equal(known->kind, device->kind))
        known++;
    vr_xml_open(self->out, device->kind);
    if (g_str_equal(device->kind, "video")) {
        write_video(self, device);
    } else {
        vr_xml_attr(self->out, known->attribute, device->model);
        if (known->bus_attribute)
            vr_xml_attr(self->out, known->bus_attribute, device->bus);
        vr_xml_attr(self->out, "autodeflate", device->autodeflate);
        vr_xml_attr(self->out, "freePageReporting", device->free_page_reporting);
        write_number_element(self, "stats", "period", device->stats_period);
    }
    if (g_str_equal(device->kind, "rng"))
        write_rng(self, device);
    write_address(self, &device->address);
    vr_xml_close(self->out);
}

static void
write_tpm(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;

    if (!model->tpm_model)
        return;
    vr_xml_open(self->out, "tpm");
    vr_xml_attr(self->out, "model", model->tpm_model);
    vr_xml_open(self->out, "backend");
    vr_xml_attr(self->out, "type", "emulator");
    vr_xml_attr(self->out, "version", model->tpm_version);
    vr_xml_close(self->out);
    vr_xml_close(self->out);
}

void
vr_domain_write_devices(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;

    vr_xml_open(self->out, "devices");
    vr_xml_text(self->out, "emulator", vr_host_caps_emulator(self->target->caps, model->arch));
    write_disks(self);
    write_controllers(self);
    write_interfaces(self);
    write_consoles(self);
    write_channels(self);
    write_graphics(self);
    write_tpm(self);
    for (guint i = 0; i < model->devices->len; i++)
        write_device(self, g_ptr_array_index(model->devices, i));
    vr_xml_close(self->out);
}
