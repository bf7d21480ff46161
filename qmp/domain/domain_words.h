/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/domain/domain_model.h"

G_BEGIN_DECLS

/** SECTION: the words of libvirt's domain XML that we know; all else is not carried over. */

typedef const char *const VrWords[];

extern VrWords vr_words_yes_no;
extern VrWords vr_words_on_off;
extern VrWords vr_words_virt_type;
extern VrWords vr_words_boot;
extern VrWords vr_words_cpu_mode;
extern VrWords vr_words_cpu_match;
extern VrWords vr_words_cpu_check;
extern VrWords vr_words_cpu_fallback;
extern VrWords vr_words_cpu_policy;
extern VrWords vr_words_cpu_cache;
extern VrWords vr_words_hyperv_mode;
extern VrWords vr_words_clock_offset;
extern VrWords vr_words_clock_basis;
extern VrWords vr_words_timer;
extern VrWords vr_words_timer_tickpolicy;
extern VrWords vr_words_timer_track;
extern VrWords vr_words_timer_mode;
extern VrWords vr_words_lifecycle;
extern VrWords vr_words_disk_bus;
extern VrWords vr_words_disk_device;
extern VrWords vr_words_virtio_model;
extern VrWords vr_words_disk_cache;
extern VrWords vr_words_disk_discard;
extern VrWords vr_words_disk_io;
extern VrWords vr_words_disk_detect_zeroes;
extern VrWords vr_words_disk_error_policy;
extern VrWords vr_words_disk_rerror_policy;
extern VrWords vr_words_controller;
extern VrWords vr_words_controller_model;
extern VrWords vr_words_pci_model;
extern VrWords vr_words_nic;
extern VrWords vr_words_serial_target;
extern VrWords vr_words_serial_model;
extern VrWords vr_words_console_target;
extern VrWords vr_words_channel_agent;
extern VrWords vr_words_channel_spice;
extern VrWords vr_words_graphics;
extern VrWords vr_words_tpm_model;
extern VrWords vr_words_tpm_version;

/** The table's own string equal to @value, or NULL. */
const char *vr_word(VrWords words, const char *value);

typedef enum {
    VR_FEATURE_VALUE_NONE,
    VR_FEATURE_VALUE_NUMBER,
    VR_FEATURE_VALUE_TOKEN,
} VrFeatureValue;

typedef struct {
    const char *group; /* as in VrDomainFeature */
    const char *name;
    const char *attribute; /* that carries the value */
    VrFeatureValue value;
} VrFeatureWord;

/* Ordered by group; ends with a NULL name. */
extern const VrFeatureWord vr_feature_words[];

typedef struct {
    const char *kind;      /* element's name */
    const char *attribute; /* that carries VrDomainDevice.model */
    const char *const *models;
    const char *bus_attribute; /* that carries VrDomainDevice.bus; NULL: none */
    const char *const *buses;
} VrDeviceWord;

/* The simple devices; ends with a NULL kind. */
extern const VrDeviceWord vr_device_words[];

typedef struct {
    const char *type;          /* <address type=> */
    const char *attributes[4]; /* of VrDomainAddress.part[], NULL-terminated if shorter */
    gint64 limits[4];          /* greatest value */
    gboolean hex;
} VrAddressLayout;

/** Of @kind, which must not be NONE. */
const VrAddressLayout *vr_domain_address_layout(VrDomainAddressKind kind);

G_END_DECLS
