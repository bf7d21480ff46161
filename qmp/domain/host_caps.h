/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "qmp/domain/domain_model.h"

G_BEGIN_DECLS

/**
 * SECTION: what this host can run, and whether a domain fits.
 *
 * Made from the XML of virConnectGetCapabilities() and virConnectGetDomainCapabilities(); the
 * caller makes those calls, the second one with vr_host_caps_emulator(), the model's architecture
 * and machine type and vr_host_caps_virt_type(). Immutable after that: any thread.
 */
typedef struct _VrHostCaps VrHostCaps;

/**
 * vr_host_caps_parse:
 * @capabilities: virConnectGetCapabilities()
 * @domain_capabilities: (nullable): virConnectGetDomainCapabilities(); NULL (that call refuses an
 *   unknown machine type): only architecture, machine type, emulator and domain type are known
 *
 * Errors: INVALID: not XML of that kind.
 */
VrHostCaps *vr_host_caps_parse(const char *capabilities, const char *domain_capabilities,
                               GError **error);
void vr_host_caps_free(VrHostCaps *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrHostCaps, vr_host_caps_free)

/** The emulator for full virtual machines of @arch, or NULL. */
const char *vr_host_caps_emulator(const VrHostCaps *self, const char *arch);

/** "kvm" if both sides can, else "qemu"; NULL if the model's architecture cannot run here. */
const char *vr_host_caps_virt_type(const VrHostCaps *self, const VrDomainModel *model);

/** @machine, or what it is short for here ("q35": "pc-q35-7.2"); NULL: not known here. */
const char *vr_host_caps_machine(const VrHostCaps *self, const char *arch, const char *machine);

/** This host's firmware image for the model's: the same path, else the same file name; NULL if
 *  there is none, or if the model leaves the choice to libvirt. */
const char *vr_host_caps_loader(const VrHostCaps *self, const VrDomainModel *model);

/** FALSE only if the host says that @device (as "graphics") has values for @property (as "type")
 *  and @value is not among them. */
gboolean vr_host_caps_allows(const VrHostCaps *self, const char *device, const char *property,
                             const char *value);

/**
 * vr_host_caps_check:
 * @memory: bytes that the host has; 0: not known
 * @free_memory: bytes; 0: not known
 *
 * Errors: "arch-missing", "machine-type-missing", "too-many-vcpus", "cpu-mode-missing",
 * "cpu-model-missing", "cpu-model-unusable", "firmware-missing", "tpm-missing",
 * "disk-bus-missing", "memory-too-large". Warnings: "kvm-missing", "cpu-host-passthrough",
 * "cpu-host-model", "cpu-model-unusable" (not checked by libvirt or emulated), "memory-short".
 */
void vr_host_caps_check(const VrHostCaps *self, const VrDomainModel *model, guint64 memory,
                        guint64 free_memory, VrFindings *findings);

/** Only its first two; FALSE if one of them was added. */
gboolean vr_host_caps_check_machine(const VrHostCaps *self, const VrDomainModel *model,
                                    VrFindings *findings);

G_END_DECLS
