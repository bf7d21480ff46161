/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_parse.h"

#include <string.h>

#define DEVICES_MAX 512 /* of each kind but disks */
#define MTU_MIN 68      /* of IPv4 */
#define MTU_TAKEN_MIN 1500
#define INDEX_MAX 65535
#define NETWORK_MAX 255 /* bytes of a network's name */

static void
parse_pci_controller(VrDomainModel *model, VrDomainController *controller, xmlNode *node)
{
    xmlNode *name = vr_node_child(node, "model");
    xmlNode *target = vr_node_child(node, "target");

    if (name)
        controller->pci_model = vr_parse_word(model, name, "name", vr_words_pci_model);
    if (!target)
        return;
    controller->chassis = vr_parse_number(model, target, "chassis", 255);
    controller->chassis_nr = vr_parse_number(model, target, "chassisNr", 255);
    controller->port = vr_parse_number(model, target, "port", 255);
    controller->bus_nr = vr_parse_number(model, target, "busNr", 254);
    controller->target_index = vr_parse_number(model, target, "index", 30);
    controller->hotplug = vr_parse_word(model, target, "hotplug", vr_words_on_off);
}

static gboolean
parse_controller(VrDomainModel *model, xmlNode *node, GError **error)
{
    const char *type = vr_word(vr_words_controller, vr_node_attr(node, "type"));
    xmlNode *driver = vr_node_child(node, "driver");
    xmlNode *master = vr_node_child(node, "master");
    VrDomainController *controller;
    const char *name;
    gint64 index;

    if (model->controllers->len >= DEVICES_MAX)
        return vr_parse_too_many(model, "controller", DEVICES_MAX, error);
    index = vr_parse_number(model, node, "index", 255);
    name = vr_parse_word(model, node, "model", vr_words_controller_model);
    if (!type || (vr_node_attr(node, "index") && index < 0) ||
        (vr_node_attr(node, "model") && !name) || (g_str_equal(type, "pci") && !name)) {
        node->_private = NULL; /* listed as an element */
        return TRUE;
    }
    controller = g_new0(VrDomainController, 1);
    g_ptr_array_add(model->controllers, controller);
    controller->type = type;
    controller->model = name;
    controller->index = index;
    controller->ports = vr_parse_number(model, node, "ports", 511);
    controller->vectors = vr_parse_number(model, node, "vectors", INDEX_MAX);
    controller->queues = driver ? vr_parse_number(model, driver, "queues", 256) : -1;
    controller->iothread = driver ? vr_parse_number(model, driver, "iothread", INDEX_MAX) : -1;
    controller->cmd_per_lun =
        driver ? vr_parse_number(model, driver, "cmd_per_lun", INDEX_MAX) : -1;
    controller->max_sectors =
        driver ? vr_parse_number(model, driver, "max_sectors", INDEX_MAX) : -1;
    controller->master_startport = master ? vr_parse_number(model, master, "startport", 255) : -1;
    controller->chassis = controller->chassis_nr = controller->port = -1;
    controller->bus_nr = controller->target_index = -1;
    parse_pci_controller(model, controller, node);
    vr_parse_address(model, node, &controller->address);
    return TRUE;
}

static char *
parse_mac(VrDomainModel *model, xmlNode *node)
{
    xmlNode *mac = vr_node_child(node, "mac");
    const char *text = mac ? vr_node_attr(mac, "address") : NULL;
    static const char pattern[] = "xx:xx:xx:xx:xx:xx";
    gsize i;

    if (!text)
        return NULL;
    for (i = 0; pattern[i] && text[i]; i++) {
        if (pattern[i] == 'x' ? !g_ascii_isxdigit(text[i]) : text[i] != ':')
            break;
    }
    /* an odd first byte is a group address, which no interface may have */
    if (pattern[i] || text[i] || (g_ascii_xdigit_value(text[1]) & 1)) {
        vr_parse_list_unknown(model, mac, "address", text);
        return NULL;
    }
    return g_ascii_strdown(text, -1);
}

/* The key that an operator maps to a network of the other host. */
static char *
parse_network(xmlNode *node)
{
    xmlNode *source = vr_node_child(node, "source");
    const char *type = vr_node_attr(node, "type");
    const char *name = NULL;
    g_autofree char *key = NULL;

    if (source) {
        vr_node_ignore_attr(source, "portid");
        vr_node_ignore_attr(source, "mode");
        if (g_strcmp0(type, "network") == 0)
            name = vr_node_attr(source, "network");
        else
            name = vr_node_attr(source, g_strcmp0(type, "direct") == 0 ? "dev" : "bridge");
        vr_node_ignore_attr(source, "bridge");
    }
    if (g_strcmp0(type, "network") == 0)
        key = g_strdup(name ? name : "");
    else if (name)
        key = g_strdup_printf("%s:%s", type ? type : "", name);
    else
        key = g_strdup(type ? type : "");
    if (strlen(key) > NETWORK_MAX || !vr_parse_is_printable(key, ""))
        return g_strdup("");
    return g_steal_pointer(&key);
}

/* The other host's tap has it before it joins a bridge, and a bridge takes the least of its ports':
 * a small one would be that of everybody there. */
static gint64
parse_mtu(VrDomainModel *model, xmlNode *node)
{
    gint64 mtu = vr_parse_number(model, node, "size", 65535);

    if (mtu < 0 || mtu >= MTU_TAKEN_MIN)
        return mtu;
    if (mtu < MTU_MIN)
        vr_parse_list_unknown(model, node, "size", vr_node_attr(node, "size"));
    else
        vr_findings_add(model->findings, VR_FINDING_WARNING, "mtu-dropped",
                        "Set it for the network of the other host if its guests need it.",
                        "an interface's MTU of %d is left out: the replica's would lower that of "
                        "the other host's network",
                        (int) mtu);
    return -1;
}

static gboolean
parse_interface(VrDomainModel *model, xmlNode *node, GError **error)
{
    VrDomainInterface *interface;
    xmlNode *name, *link, *mtu, *driver, *acpi;

    if (model->interfaces->len >= DEVICES_MAX)
        return vr_parse_too_many(model, "interface", DEVICES_MAX, error);
    interface = g_new0(VrDomainInterface, 1);
    g_ptr_array_add(model->interfaces, interface);
    interface->mac = parse_mac(model, node);
    interface->network = parse_network(node);
    name = vr_node_child(node, "model");
    interface->model = name ? vr_parse_word(model, name, "type", vr_words_nic) : NULL;
    link = vr_node_child(node, "link");
    interface->link_down = link && g_strcmp0(vr_node_attr(link, "state"), "down") == 0;
    mtu = vr_node_child(node, "mtu");
    interface->mtu = mtu ? parse_mtu(model, mtu) : -1;
    acpi = vr_node_child(node, "acpi");
    interface->acpi_index = acpi ? vr_parse_number(model, acpi, "index", G_MAXINT16) : -1;
    driver = vr_node_child(node, "driver");
    interface->queues = driver ? vr_parse_number(model, driver, "queues", 256) : -1;
    if (driver)
        vr_node_ignore_attr(driver, "name");
    interface->boot_order = vr_parse_boot_order(model, node);
    vr_parse_address(model, node, &interface->address);
    vr_node_ignore_child(node, "target");
    return TRUE;
}

/* What leaves through a host's file, socket or pipe gets the other host's default place. */
static gboolean
parse_char_source(VrDomainModel *model, xmlNode *node)
{
    const char *type = vr_node_attr(node, "type");
    gboolean logged = g_strcmp0(type, "file") == 0 || vr_node_child(node, "log");

    vr_node_ignore_attr(node, "tty");
    vr_node_ignore_child(node, "source");
    vr_node_ignore_child(node, "protocol");
    vr_node_ignore_child(node, "log");
    if (logged || (g_strcmp0(type, "pty") != 0 && g_strcmp0(type, "null") != 0))
        vr_findings_add(model->findings, VR_FINDING_WARNING, "console-redirected",
                        "Connect with virsh console on the other host.",
                        "<%s> goes to a file or socket of this one host; the replica's goes to "
                        "the other host's default place",
                        (const char *) node->name);
    return logged;
}

static gboolean
parse_char(VrDomainModel *model, xmlNode *node, GPtrArray *list, VrWords targets, GError **error)
{
    xmlNode *target = vr_node_child(node, "target");
    xmlNode *name = target ? vr_node_child(target, "model") : NULL;
    const char *type = target ? vr_node_attr(target, "type") : NULL;
    VrDomainCharDevice *device;

    if (list->len >= DEVICES_MAX)
        return vr_parse_too_many(model, (const char *) node->name, DEVICES_MAX, error);
    if (!vr_word(targets, type ? type : targets[0])) {
        node->_private = NULL; /* listed as an element */
        return TRUE;
    }
    device = g_new0(VrDomainCharDevice, 1);
    g_ptr_array_add(list, device);
    device->target = vr_word(targets, type ? type : targets[0]);
    device->port = target ? vr_parse_number(model, target, "port", 255) : -1;
    device->target_model = name ? vr_parse_word(model, name, "name", vr_words_serial_model) : NULL;
    device->logged = parse_char_source(model, node);
    vr_parse_address(model, node, &device->address);
    return TRUE;
}

static gboolean
parse_channel(VrDomainModel *model, xmlNode *node, GError **error)
{
    xmlNode *target = vr_node_child(node, "target");
    const char *type = vr_node_attr(node, "type");
    const char *name = target ? vr_node_attr(target, "name") : NULL;
    const char *known;
    VrDomainCharDevice *device;

    if (model->channels->len >= DEVICES_MAX)
        return vr_parse_too_many(model, "channel", DEVICES_MAX, error);
    known = vr_word(
        g_strcmp0(type, "spicevmc") == 0 ? vr_words_channel_spice : vr_words_channel_agent, name);
    if (!known || g_strcmp0(vr_node_attr(target, "type"), "virtio") != 0) {
        g_autofree char *shown = vr_node_printable(name ? name : "");

        vr_findings_add(model->findings, VR_FINDING_WARNING, "channel-dropped",
                        "Set it up again on the replica after a failover if the guest needs it.",
                        "channel '%s' ends in a program of this one host and is left out", shown);
        vr_node_ignore(node);
        return TRUE;
    }
    vr_node_ignore_attr(target, "state");
    vr_node_ignore_child(node, "source");
    device = g_new0(VrDomainCharDevice, 1);
    g_ptr_array_add(model->channels, device);
    device->target = "virtio";
    device->channel = known;
    device->port = -1;
    vr_parse_address(model, node, &device->address);
    return TRUE;
}

static void
parse_graphics(VrDomainModel *model, xmlNode *node)
{
    const char *type = vr_word(vr_words_graphics, vr_node_attr(node, "type"));
    gsize n = 0;

    if (vr_node_attr(node, "passwd"))
        vr_findings_add(model->findings, VR_FINDING_WARNING, "graphics-password-dropped",
                        "Set a password on the replica if it must have one.",
                        "the password of the domain's graphics is not carried over");
    while (n < G_N_ELEMENTS(model->graphics) && model->graphics[n])
        n++;
    if (!type || n == G_N_ELEMENTS(model->graphics)) {
        node->_private = NULL; /* listed as an element */
        return;
    }
    model->graphics[n] = type;
    vr_node_ignore(node); /* addresses, ports and tuning are the other host's defaults */
}

static void
parse_tpm(VrDomainModel *model, xmlNode *node)
{
    xmlNode *backend = vr_node_child(node, "backend");
    const char *type = backend ? vr_node_attr(backend, "type") : NULL;

    if (g_strcmp0(type, "emulator") != 0) {
        vr_node_ignore(node);
        vr_findings_add(model->findings, VR_FINDING_ERROR, "tpm-host-bound",
                        "Give the domain an emulated TPM.",
                        "the domain uses a TPM that only this one host has");
        return;
    }
    model->tpm_model = vr_parse_word(model, node, "model", vr_words_tpm_model);
    model->tpm_version = vr_parse_word(model, backend, "version", vr_words_tpm_version);
    if (!model->tpm_model)
        model->tpm_model = vr_word(vr_words_tpm_model, "tpm-tis");
    vr_node_ignore_attr(backend, "persistent_state");
    if (vr_node_child(backend, "encryption")) {
        vr_node_ignore_child(backend, "encryption");
        vr_findings_add(model->findings, VR_FINDING_ERROR, "tpm-encrypted",
                        "Use a TPM whose state is not encrypted with a secret of this host.",
                        "the state of the domain's TPM is encrypted with a secret of this host");
    }
}

static void
parse_rng(VrDomainModel *model, VrDomainDevice *device, xmlNode *node)
{
    xmlNode *backend = vr_node_child(node, "backend");
    xmlNode *rate = vr_node_child(node, "rate");
    g_autofree char *text = backend ? vr_node_text(backend) : g_strdup("");
    const char *kind = backend ? vr_node_attr(backend, "model") : NULL;

    if (rate) {
        device->rate_bytes = vr_parse_number(model, rate, "bytes", G_MAXINT32);
        device->rate_period = vr_parse_number(model, rate, "period", G_MAXINT32);
    }
    if (!backend)
        return;
    vr_node_ignore(backend);
    if (g_strcmp0(kind, "random") != 0 || (*text && !g_str_equal(text, "/dev/urandom")))
        vr_findings_add(model->findings, VR_FINDING_WARNING, "rng-source-replaced",
                        "No action is needed: the guest gets the same kind of numbers.",
                        "the random number device reads /dev/urandom on the other host");
}

static void
parse_video(VrDomainModel *model, VrDomainDevice *device, xmlNode *video)
{
    xmlNode *node = vr_node_child(video, "model");

    device->heads = vr_parse_number(model, node, "heads", 16);
    device->ram = vr_parse_number(model, node, "ram", G_MAXINT32);
    device->vram = vr_parse_number(model, node, "vram", G_MAXINT32);
    device->vgamem = vr_parse_number(model, node, "vgamem", G_MAXINT32);
    device->primary = g_strcmp0(vr_node_attr(node, "primary"), "yes") == 0;
}

static void
parse_balloon(VrDomainModel *model, VrDomainDevice *device, xmlNode *node)
{
    xmlNode *stats = vr_node_child(node, "stats");

    device->autodeflate = vr_parse_word(model, node, "autodeflate", vr_words_on_off);
    device->free_page_reporting = vr_parse_word(model, node, "freePageReporting", vr_words_on_off);
    device->stats_period = stats ? vr_parse_number(model, stats, "period", INDEX_MAX) : -1;
}

/* Video keeps its model in a child element, the others in an attribute. */
static gboolean
parse_device(VrDomainModel *model, xmlNode *node, const VrDeviceWord *known, GError **error)
{
    gboolean is_video = g_str_equal(known->kind, "video");
    xmlNode *holder = is_video ? vr_node_child(node, "model") : node;
    const char *value = holder ? vr_node_attr(holder, known->attribute) : NULL;
    const char *word = vr_word(known->models, value);
    VrDomainDevice *device;

    if (model->devices->len >= DEVICES_MAX)
        return vr_parse_too_many(model, known->kind, DEVICES_MAX, error);
    if (!holder || (value && !word) || (!value && !g_str_equal(known->kind, "panic"))) {
        node->_private = NULL; /* listed as an element */
        return TRUE;
    }
    device = g_new0(VrDomainDevice, 1);
    g_ptr_array_add(model->devices, device);
    device->kind = known->kind;
    device->model = word;
    device->heads = device->ram = device->vram = device->vgamem = -1;
    device->rate_bytes = device->rate_period = device->stats_period = -1;
    vr_node_ignore_child(node, "alias");
    if (known->bus_attribute)
        device->bus = vr_parse_word(model, node, known->bus_attribute, known->buses);
    vr_parse_address(model, node, &device->address);
    if (is_video)
        parse_video(model, device, node);
    else if (g_str_equal(known->kind, "rng"))
        parse_rng(model, device, node);
    else if (g_str_equal(known->kind, "memballoon"))
        parse_balloon(model, device, node);
    return TRUE;
}

static gboolean
parse_simple_devices(VrDomainModel *model, xmlNode *devices, GError **error)
{
    for (gsize i = 0; vr_device_words[i].kind; i++) {
        const VrDeviceWord *known = &vr_device_words[i];
        xmlNode *node = vr_node_child(devices, known->kind);

        for (; node; node = vr_node_next(node, known->kind)) {
            if (!parse_device(model, node, known, error))
                return FALSE;
        }
    }
    return TRUE;
}

/* The audio backend is the other host's default. */
static void
parse_audio(xmlNode *devices)
{
    xmlNode *node = vr_node_child(devices, "audio");

    for (; node; node = vr_node_next(node, "audio")) {
        const char *type = vr_node_attr(node, "type");

        if (g_strcmp0(type, "none") == 0 || g_strcmp0(type, "spice") == 0)
            vr_node_ignore(node);
        else
            node->_private = NULL; /* listed as an element */
    }
}

static void
parse_emulator(xmlNode *devices)
{
    xmlNode *node = vr_node_child(devices, "emulator");
    g_autofree char *path = node ? vr_node_text(node) : NULL;

    if (path && (!g_str_has_prefix(path, "/usr/bin/qemu-") || strchr(path + 9, '/')) &&
        !g_str_equal(path, "/usr/libexec/qemu-kvm") && !g_str_equal(path, "/usr/bin/kvm"))
        node->_private = NULL; /* no usual one: listed */
}

/* A disk may name only an I/O thread that the replica will have. */
static void
check_iothreads(VrDomainModel *model)
{
    for (guint i = 0; i < model->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(model->disks, i);

        if (disk->iothread > model->iothreads)
            vr_findings_add(model->findings, VR_FINDING_WARNING, "iothread-dropped",
                            "Number the domain's I/O threads from 1 on.",
                            "disk '%s' uses I/O thread %" G_GINT64_FORMAT
                            ", the replica has only %u",
                            disk->target, disk->iothread, model->iothreads);
    }
}

static gboolean
parse_device_node(VrDomainModel *model, xmlNode *node, GError **error)
{
    vr_node_ignore_child(node, "alias");
    if (vr_node_is(node, "disk"))
        return vr_domain_parse_disk(model, node, error);
    if (vr_node_is(node, "controller"))
        return parse_controller(model, node, error);
    if (vr_node_is(node, "interface"))
        return parse_interface(model, node, error);
    if (vr_node_is(node, "serial"))
        return parse_char(model, node, model->serials, vr_words_serial_target, error);
    if (vr_node_is(node, "console"))
        return parse_char(model, node, model->consoles, vr_words_console_target, error);
    if (vr_node_is(node, "channel"))
        return parse_channel(model, node, error);
    if (vr_node_is(node, "graphics"))
        parse_graphics(model, node);
    else if (vr_node_is(node, "tpm"))
        parse_tpm(model, node);
    return TRUE;
}

gboolean
vr_domain_parse_devices(VrDomainModel *model, xmlNode *devices, GError **error)
{
    static const char *const kinds[] = {"disk",    "controller", "interface", "serial",
                                        "console", "channel",    "graphics",  "tpm"};

    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        xmlNode *node = vr_node_child(devices, kinds[i]);

        for (; node; node = vr_node_next(node, kinds[i])) {
            if (!parse_device_node(model, node, error))
                return FALSE;
        }
    }
    if (!parse_simple_devices(model, devices, error))
        return FALSE;
    parse_audio(devices);
    parse_emulator(devices);
    check_iothreads(model);
    return TRUE;
}
