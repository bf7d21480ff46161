/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/attachment.h"
#include "policies/finding.h"

G_BEGIN_DECLS

/**
 * SECTION: the small checked model of a domain.
 *
 * Made from XML that may come from a hostile peer; the only way from a peer's XML to XML that
 * libvirt sees. A field marked "word" is NULL or points into our own tables of known words, so
 * writing it back cannot carry anything of the input. A field marked "token" is NULL or made of
 * letters, digits and . _ + - only, at most 64 bytes, not starting with '-'. A field marked "text"
 * is NULL or printable UTF-8. Paths are kept only as facts about the host the XML comes from and
 * are never written into new XML. Everything else of the input is dropped and has a finding.
 *
 * Plain data without locks: any thread, one at a time; const use from several is fine.
 */

#define VR_DOMAIN_XML_MAX (256 * 1024) /* bytes */
#define VR_DOMAIN_XML_DEPTH_MAX 32     /* nested elements */
#define VR_DOMAIN_DISKS_MAX 64
#define VR_DOMAIN_NAME_MAX 255                            /* bytes */
#define VR_DOMAIN_XMLNS "https://virt-replica.org/ns/1.0" /* of our element in <metadata> */

typedef enum {
    VR_DOMAIN_ADDRESS_NONE, /* libvirt chooses */
    VR_DOMAIN_ADDRESS_PCI,
    VR_DOMAIN_ADDRESS_DRIVE,
    VR_DOMAIN_ADDRESS_VIRTIO_SERIAL,
    VR_DOMAIN_ADDRESS_USB,
    VR_DOMAIN_ADDRESS_CCW,
} VrDomainAddressKind;

/* Where the guest sees the device. part[] in the order of the kind's attributes, as in
 * vr_domain_address_layout(); -1: not given. */
typedef struct {
    VrDomainAddressKind kind;
    gint64 part[4];
    gboolean multifunction;
} VrDomainAddress;

typedef struct {
    char *target;       /* "vda": two to six letters, a known prefix; unique in the domain */
    const char *bus;    /* word, never NULL */
    const char *device; /* word: disk, cdrom, floppy, lun */
    const char *model;  /* word */
    const char *cache, *discard, *io, *detect_zeroes, *error_policy, *rerror_policy; /* words */
    char *serial, *wwn, *vendor, *product;              /* text, at most 36, 16, 8, 16 bytes */
    gint64 queues, iothread, boot_order, rotation_rate; /* or -1 */
    gint64 logical_block_size, physical_block_size, discard_granularity; /* or -1 */
    gboolean read_only, shareable, transient, encrypted;
    VrDomainAddress address;
    /* facts about the host the XML comes from */
    char *source_type;   /* "file", "block", "network", ...: as given, at most 64 bytes */
    char *source_format; /* "qcow2", "raw", ...: as given; NULL: not said */
    char *source_path;   /* file or block device; NULL if none */
} VrDomainDisk;

typedef struct {
    const char *type;      /* word, never NULL */
    const char *model;     /* word */
    const char *pci_model; /* word: <model name=> of a PCI controller */
    gint64 index, ports, vectors, queues, iothread, master_startport;                 /* or -1 */
    gint64 chassis, chassis_nr, port, bus_nr, target_index, max_sectors, cmd_per_lun; /* or -1 */
    const char *hotplug;                                                              /* word */
    VrDomainAddress address;
} VrDomainController;

typedef struct {
    char *mac;         /* "52:54:00:01:02:03"; NULL: libvirt makes one */
    const char *model; /* word */
    char *network;     /* text: key for the network map: the network's name, or "bridge:br0",
                        * "direct:eth0", "user", ... for what is no libvirt network; not NULL */
    gboolean link_down;
    gint64 boot_order, mtu, queues, acpi_index; /* or -1 */
    VrDomainAddress address;
} VrDomainInterface;

/* <serial>, <console> or <channel> */
typedef struct {
    const char *target;       /* word: target type; not NULL */
    const char *target_model; /* word: <target><model name=> */
    const char *channel;      /* word: the channel's name; NULL for serial and console */
    gint64 port;              /* or -1 */
    gboolean logged;          /* its output went to a file */
    VrDomainAddress address;
} VrDomainCharDevice;

typedef struct {
    const char *group; /* word: "hyperv", "kvm"; NULL: directly below <features> */
    const char *name;  /* word */
    const char *state; /* word: on, off; NULL: not said */
    char *value;       /* token: spinlocks' retries, vendor_id, gic version, ...; or NULL */
    gboolean direct;   /* stimer's */
} VrDomainFeature;

typedef struct {
    char *name;         /* token */
    const char *policy; /* word */
} VrDomainCpuFeature;

typedef struct {
    const char *mode;                       /* word; NULL: no <cpu> mode given */
    const char *match, *check, *migratable; /* words */
    const char *fallback;                   /* word */
    char *model, *vendor;                   /* tokens */
    gint64 sockets, dies, cores, threads;   /* or -1 */
    const char *cache_mode;                 /* word */
    gint64 cache_level;                     /* or -1 */
    GPtrArray *features;                    /* VrDomainCpuFeature, owned */
} VrDomainCpu;

typedef struct {
    const char *name;                                /* word */
    const char *present, *tickpolicy, *track, *mode; /* words */
    gint64 frequency;                                /* Hz, or -1 */
} VrDomainTimer;

typedef enum {
    VR_DOMAIN_FIRMWARE_BIOS,
    VR_DOMAIN_FIRMWARE_EFI,
} VrDomainFirmware;

/* Video, sound, input, RNG, balloon, watchdog, panic: a model and an address. */
typedef struct {
    const char *kind;  /* word: the element's name */
    const char *model; /* word; an input's type */
    const char *bus;   /* word: an input's bus, a watchdog's action */
    gint64 heads, ram, vram, vgamem, rate_bytes, rate_period, stats_period; /* KiB, ms, s; or -1 */
    gboolean primary;
    const char *autodeflate, *free_page_reporting; /* words */
    VrDomainAddress address;
} VrDomainDevice;

typedef struct _VrDomainModel {
    const char *virt_type;     /* word: kvm, qemu */
    char *name;                /* printable UTF-8 without '/', not "." or "..", no leading '-' */
    char *uuid;                /* lower case, with dashes */
    char *genid;               /* the same form, or NULL */
    char *title, *description; /* text */
    guint64 memory, current_memory; /* bytes */
    guint vcpus, current_vcpus;
    guint iothreads;
    char *arch, *machine; /* tokens, not NULL */

    VrDomainFirmware firmware;
    const char *secure_boot, *enrolled_keys; /* words: yes, no; NULL: not said */
    gboolean loader_secure;
    gboolean nvram;              /* the firmware keeps variables in a file */
    gboolean nvram_raw;          /* that file has no image format of its own */
    gboolean nvram_path_assumed; /* the XML does not say where; libvirt's default was taken */
    const char *boot[4];         /* words: hd, cdrom, network, fd; NULL-terminated if shorter */
    const char *boot_menu;       /* word */
    gint64 boot_menu_timeout;    /* ms, or -1 */
    char *cmdline;               /* text: kernel command line */

    VrDomainCpu cpu;
    GPtrArray *features;                            /* VrDomainFeature */
    const char *hyperv_mode;                        /* word */
    const char *clock_offset;                       /* word */
    const char *clock_basis;                        /* word */
    char *timezone;                                 /* "Europe/Berlin" */
    char *clock_adjustment;                         /* token: seconds, or "reset" */
    GPtrArray *timers;                              /* VrDomainTimer */
    const char *on_poweroff, *on_reboot, *on_crash; /* words */
    const char *suspend_to_mem, *suspend_to_disk;   /* words */

    GPtrArray *disks;                    /* VrDomainDisk */
    GPtrArray *controllers;              /* VrDomainController */
    GPtrArray *interfaces;               /* VrDomainInterface */
    GPtrArray *serials;                  /* VrDomainCharDevice */
    GPtrArray *consoles;                 /* VrDomainCharDevice */
    GPtrArray *channels;                 /* VrDomainCharDevice */
    GPtrArray *devices;                  /* VrDomainDevice */
    const char *graphics[4];             /* words: vnc, spice; NULL-terminated if shorter */
    const char *tpm_model, *tpm_version; /* words; NULL: no TPM, or one that is bound to the host */

    /* facts about the host the XML comes from: paths there, or NULL */
    char *source_loader, *source_nvram, *source_kernel, *source_initrd, *source_dtb;

    VrFindings *findings; /* what was dropped */
} VrDomainModel;

/**
 * vr_domain_model_parse:
 * @xml: @len bytes of UTF-8; no NUL needed behind them
 *
 * Never reads a file, a network or an external entity. What is not known or is bound to the host
 * is left out and has a finding in the model's findings.
 *
 * Errors: INVALID, nothing else; the slug says why: "domain-xml-too-large", "domain-xml-too-deep",
 * "domain-xml-doctype", "domain-xml-syntax", "domain-xml-unsupported" (no QEMU virtual machine),
 * "domain-name-invalid", "domain-uuid-invalid", "domain-value-invalid", "disk-target-invalid",
 * "disk-target-duplicate", "too-many-disks", "too-many-devices".
 *
 * Returns: (transfer full)
 */
VrDomainModel *vr_domain_model_parse(const char *xml, gsize len, GError **error);
void vr_domain_model_free(VrDomainModel *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrDomainModel, vr_domain_model_free)

/** The disk with @target, or NULL. */
const VrDomainDisk *vr_domain_model_disk(const VrDomainModel *self, const char *target);

/** TRUE for a hard disk; FALSE for cdrom, floppy and lun. */
gboolean vr_domain_disk_is_data(const VrDomainDisk *disk);

/** TRUE if QEMU serves the disk in an I/O thread, its own or its virtio-scsi controller's. */
gboolean vr_domain_model_disk_uses_iothread(const VrDomainModel *self, const VrDomainDisk *disk);

typedef struct {
    VrAttachmentKind kind;
    const char *source_path; /* absolute; borrowed from the model */
    gboolean optional;       /* need not exist: NVRAM that libvirt makes at the first start */
} VrDomainAttachment;

/**
 * vr_domain_model_attachments:
 *
 * The files besides the disks that the domain needs. The paths are those of the host the XML comes
 * from: to be opened only there, never for a model made from a peer's XML.
 *
 * Returns: (transfer full): array of VrDomainAttachment in the order of VrAttachmentKind; valid
 * while @self is.
 */
GArray *vr_domain_model_attachments(const VrDomainModel *self);

G_END_DECLS
