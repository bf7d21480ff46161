/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_words.h"

VrWords vr_words_yes_no = {"yes", "no", NULL};
VrWords vr_words_on_off = {"on", "off", NULL};
VrWords vr_words_virt_type = {"kvm", "qemu", NULL};
VrWords vr_words_boot = {"hd", "cdrom", "network", "fd", NULL};

VrWords vr_words_cpu_mode = {"custom", "host-model", "host-passthrough", "maximum", NULL};
VrWords vr_words_cpu_match = {"exact", "minimum", "strict", NULL};
VrWords vr_words_cpu_check = {"none", "partial", "full", NULL};
VrWords vr_words_cpu_fallback = {"allow", "forbid", NULL};
VrWords vr_words_cpu_policy = {"force", "require", "optional", "disable", "forbid", NULL};
VrWords vr_words_cpu_cache = {"emulate", "passthrough", "disable", NULL};

VrWords vr_words_hyperv_mode = {"custom", "passthrough", NULL};
VrWords vr_words_clock_offset = {"utc", "localtime", "timezone", "variable", NULL};
VrWords vr_words_clock_basis = {"utc", "localtime", NULL};
VrWords vr_words_timer = {"platform", "hpet", "kvmclock",  "hypervclock", "pit",
                          "rtc",      "tsc",  "armvtimer", NULL};
VrWords vr_words_timer_tickpolicy = {"delay", "catchup", "merge", "discard", NULL};
VrWords vr_words_timer_track = {"boot", "guest", "wall", "realtime", NULL};
VrWords vr_words_timer_mode = {"auto", "native", "emulate", "paravirt", "smpsafe", NULL};
VrWords vr_words_lifecycle = {"destroy", "restart", "preserve", NULL};

VrWords vr_words_disk_bus = {"virtio", "scsi", "sata", "ide", "usb", "fdc", NULL};
VrWords vr_words_disk_device = {"disk", "cdrom", "floppy", "lun", NULL};
VrWords vr_words_virtio_model = {"virtio", "virtio-transitional", "virtio-non-transitional", NULL};
VrWords vr_words_disk_cache = {"default", "none", "writethrough", "writeback", "directsync",
                               "unsafe",  NULL};
VrWords vr_words_disk_discard = {"ignore", "unmap", NULL};
VrWords vr_words_disk_io = {"threads", "native", "io_uring", NULL};
VrWords vr_words_disk_detect_zeroes = {"off", "on", "unmap", NULL};
VrWords vr_words_disk_error_policy = {"stop", "report", "ignore", "enospace", NULL};
VrWords vr_words_disk_rerror_policy = {"stop", "report", "ignore", NULL};

VrWords vr_words_controller = {"pci", "usb", "ide", "scsi", "sata", "fdc", "virtio-serial", NULL};
VrWords vr_words_controller_model = {
    /* pci */
    "pci-root", "pcie-root", "pci-bridge", "dmi-to-pci-bridge", "pcie-to-pci-bridge",
    "pcie-root-port", "pcie-switch-upstream-port", "pcie-switch-downstream-port",
    "pci-expander-bus", "pcie-expander-bus",
    /* usb */
    "none", "piix3-uhci", "piix4-uhci", "ehci", "ich9-ehci1", "ich9-uhci1", "ich9-uhci2",
    "ich9-uhci3", "vt82c686b-uhci", "pci-ohci", "nec-xhci", "qemu-xhci",
    /* ide */
    "piix3", "piix4", "ich6",
    /* scsi and virtio-serial */
    "auto", "buslogic", "lsilogic", "lsisas1068", "lsisas1078", "vmpvscsi", "virtio-scsi",
    "am53c974", "dc390", "ibmvscsi", "virtio", "virtio-transitional", "virtio-non-transitional",
    NULL};
VrWords vr_words_pci_model = {"pcie-root-port",     "ioh3420",
                              "i82801b11-bridge",   "pci-bridge",
                              "pcie-pci-bridge",    "x3130-upstream",
                              "xio3130-downstream", "pxb",
                              "pxb-pcie",           NULL};

VrWords vr_words_nic = {"virtio",
                        "virtio-transitional",
                        "virtio-non-transitional",
                        "e1000",
                        "e1000e",
                        "e1000-82544gc",
                        "e1000-82545em",
                        "rtl8139",
                        "pcnet",
                        "ne2k_pci",
                        "ne2k_isa",
                        "vmxnet3",
                        "igb",
                        "i82550",
                        "i82557b",
                        "i82559er",
                        "i82562",
                        "tulip",
                        "usb-net",
                        "spapr-vlan",
                        NULL};

VrWords vr_words_serial_target = {"isa-serial",       "usb-serial",  "pci-serial", "system-serial",
                                  "spapr-vio-serial", "sclp-serial", NULL};
VrWords vr_words_serial_model = {"isa-serial",   "usb-serial", "pci-serial",  "pl011",
                                 "16550a",       "spapr-vty",  "sclpconsole", "sclplmconsole",
                                 "isa-debugcon", NULL};
VrWords vr_words_console_target = {"serial", "virtio", "sclp", "sclplm", NULL};
VrWords vr_words_channel_agent = {"org.qemu.guest_agent.0", NULL};
VrWords vr_words_channel_spice = {"com.redhat.spice.0", NULL};
VrWords vr_words_graphics = {"vnc", "spice", NULL};
VrWords vr_words_tpm_model = {"tpm-tis", "tpm-crb", "tpm-spapr", NULL};
VrWords vr_words_tpm_version = {"1.2", "2.0", NULL};

static VrWords words_video = {"vga",   "cirrus", "qxl",  "virtio", "bochs",
                              "vmvga", "ramfb",  "none", NULL};
static VrWords words_sound = {"ich6", "ich9", "ac97", "es1370", "sb16", "usb", "pcspk", NULL};
static VrWords words_input = {"mouse", "tablet", "keyboard", NULL};
static VrWords words_input_bus = {"ps2", "usb", "virtio", NULL};
static VrWords words_balloon = {"virtio", "virtio-transitional", "virtio-non-transitional", "none",
                                NULL};
static VrWords words_watchdog = {"i6300esb", "ib700", "diag288", "itco", NULL};
static VrWords words_watchdog_action = {"reset", "shutdown",   "poweroff", "pause",
                                        "none",  "inject-nmi", NULL};
static VrWords words_panic = {"isa", "pvpanic", "hyperv", "pseries", "s390", NULL};

const VrDeviceWord vr_device_words[] = {
    {"video", "type", words_video, NULL, NULL},
    {"sound", "model", words_sound, NULL, NULL},
    {"input", "type", words_input, "bus", words_input_bus},
    {"rng", "model", vr_words_virtio_model, NULL, NULL},
    {"memballoon", "model", words_balloon, NULL, NULL},
    {"watchdog", "model", words_watchdog, "action", words_watchdog_action},
    {"panic", "model", words_panic, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

const VrFeatureWord vr_feature_words[] = {
    {NULL, "acpi", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, "apic", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, "pae", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, "hap", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, "pvspinlock", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, "pmu", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, "vmport", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, "smm", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, "vmcoreinfo", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, "ioapic", "driver", VR_FEATURE_VALUE_TOKEN},
    {NULL, "gic", "version", VR_FEATURE_VALUE_TOKEN},
    {"hyperv", "relaxed", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "vapic", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "spinlocks", "retries", VR_FEATURE_VALUE_NUMBER},
    {"hyperv", "vpindex", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "runtime", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "synic", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "stimer", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "reset", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "vendor_id", "value", VR_FEATURE_VALUE_TOKEN},
    {"hyperv", "frequencies", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "reenlightenment", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "tlbflush", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "ipi", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "evmcs", NULL, VR_FEATURE_VALUE_NONE},
    {"hyperv", "avic", NULL, VR_FEATURE_VALUE_NONE},
    {"kvm", "hidden", NULL, VR_FEATURE_VALUE_NONE},
    {"kvm", "hint-dedicated", NULL, VR_FEATURE_VALUE_NONE},
    {"kvm", "poll-control", NULL, VR_FEATURE_VALUE_NONE},
    {"kvm", "pv-ipi", NULL, VR_FEATURE_VALUE_NONE},
    {NULL, NULL, NULL, VR_FEATURE_VALUE_NONE},
};

static const VrAddressLayout layouts[] = {
    [VR_DOMAIN_ADDRESS_PCI] = {"pci",
                               {"domain", "bus", "slot", "function"},
                               {0xffff, 0xff, 0x1f, 7},
                               TRUE},
    [VR_DOMAIN_ADDRESS_DRIVE] = {"drive",
                                 {"controller", "bus", "target", "unit"},
                                 {255, 255, 16383, 16383},
                                 FALSE},
    [VR_DOMAIN_ADDRESS_VIRTIO_SERIAL] = {"virtio-serial",
                                         {"controller", "bus", "port", NULL},
                                         {255, 255, 511, 0},
                                         FALSE},
    [VR_DOMAIN_ADDRESS_USB] = {"usb", {"bus", "port", NULL, NULL}, {255, 255, 0, 0}, FALSE},
    [VR_DOMAIN_ADDRESS_CCW] = {"ccw", {"cssid", "ssid", "devno", NULL}, {0xfe, 3, 0xffff, 0}, TRUE},
};

const char *
vr_word(VrWords words, const char *value)
{
    for (gsize i = 0; value && words[i]; i++) {
        if (g_str_equal(words[i], value))
            return words[i];
    }
    return NULL;
}

const VrAddressLayout *
vr_domain_address_layout(VrDomainAddressKind kind)
{
    return &layouts[kind];
}
