/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/domain/domain_xml.h"

#include <string.h>

#include "policies/error.h"
#include "qmp/domain/domain_parse.h"
#include "qmp/domain/domain_xml_impl.h"

/* Since then a format can be given for the firmware's variables, and is chosen if it is not. */
#define LIBVIRT_NVRAM_FORMAT 9002000

static gboolean
bad_target(const char *what, const char *value, GError **error)
{
    vr_set_error(error, VR_ERROR_INVALID, "target-invalid", "Report this as a bug.",
                 "replica's %s '%s' is not accepted", what, value);
    return FALSE;
}

static gboolean
check_target_paths(const VrDomainTarget *target, GError **error)
{
    const char *const paths[] = {target->nvram_path, target->kernel_path, target->initrd_path,
                                 target->dtb_path, target->console_log_dir};
    GHashTableIter iter;
    gpointer path;

    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        if (paths[i] && !g_path_is_absolute(paths[i]))
            return bad_target("path", paths[i], error);
    }
    g_hash_table_iter_init(&iter, target->disk_paths);
    while (g_hash_table_iter_next(&iter, NULL, &path)) {
        if (!g_path_is_absolute(path))
            return bad_target("disk path", path, error);
    }
    return TRUE;
}

static gboolean
check_target(const VrDomainTarget *target, GError **error)
{
    const char *name = target->name;

    if (name &&
        (!*name || strlen(name) > VR_DOMAIN_NAME_MAX || strchr(name, '/') || name[0] == '-' ||
         !g_utf8_validate(name, -1, NULL) || !vr_parse_is_printable(name, "")))
        return bad_target("name", name, error);
    if (target->uuid && !g_uuid_string_is_valid(target->uuid))
        return bad_target("UUID", target->uuid, error);
    if (target->genid && !g_uuid_string_is_valid(target->genid))
        return bad_target("generation id", target->genid, error);
    if (!vr_parse_is_token(target->role, VR_PARSE_TOKEN_MAX))
        return bad_target("role", target->role, error);
    if (!vr_parse_is_token(target->generation, VR_PARSE_TOKEN_MAX))
        return bad_target("generation", target->generation, error);
    return check_target_paths(target, error);
}

static gboolean
need_attachment(const char *source, const char *ours, const char *what, GError **error)
{
    if (!source || ours)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "attachment-missing", "Replicate the domain again.",
                 "the replica lacks the %s that the domain is started with", what);
    return FALSE;
}

static gboolean
check_complete(const VrDomainModel *model, const VrDomainTarget *target, VrFindings *findings,
               GError **error)
{
    if (!vr_host_caps_check_machine(target->caps, model, findings)) {
        gboolean arch = vr_host_caps_emulator(target->caps, model->arch) != NULL;

        vr_set_error(error, VR_ERROR_REFUSED, arch ? "machine-type-missing" : "arch-missing",
                     "Install a QEMU on this host that has it.",
                     "this host's QEMU does not have machine type '%s' of %s", model->machine,
                     model->arch);
        return FALSE;
    }
    for (guint i = 0; i < model->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(model->disks, i);

        if (vr_domain_disk_is_data(disk) && g_hash_table_contains(target->disk_paths, disk->target))
            return need_attachment(model->source_kernel, target->kernel_path, "kernel", error) &&
                   need_attachment(model->source_initrd, target->initrd_path, "initrd", error) &&
                   need_attachment(model->source_dtb, target->dtb_path, "device tree", error);
    }
    vr_set_error(error, VR_ERROR_REFUSED, "no-disks", "Replicate at least one disk.",
                 "the replica has no image for any disk of domain '%s'", model->name);
    return FALSE;
}

static void
write_metadata(VrDomainWriter *self)
{
    vr_xml_open(self->out, "metadata");
    vr_xml_open(self->out, "vr:domain");
    vr_xml_attr(self->out, "xmlns:vr", VR_DOMAIN_XMLNS);
    vr_xml_attr(self->out, "role", self->target->role);
    vr_xml_attr(self->out, "generation", self->target->generation);
    vr_xml_close(self->out);
    vr_xml_close(self->out);
}

static void
write_size(VrDomainWriter *self, const char *name, guint64 bytes)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, bytes / 1024);

    vr_xml_open(self->out, name);
    vr_xml_attr(self->out, "unit", "KiB");
    vr_xml_close_text(self->out, text);
}

static void
write_identity(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;
    const VrDomainTarget *target = self->target;

    vr_xml_text(self->out, "name", target->name ? target->name : model->name);
    vr_xml_text(self->out, "uuid", target->uuid ? target->uuid : model->uuid);
    if (model->genid)
        vr_xml_text(self->out, "genid", target->genid ? target->genid : model->genid);
    vr_xml_text(self->out, "title", model->title);
    vr_xml_text(self->out, "description", model->description);
    write_metadata(self);
}

static void
write_resources(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;
    g_autofree char *vcpus = g_strdup_printf("%u", model->vcpus);
    g_autofree char *iothreads = g_strdup_printf("%u", model->iothreads);

    write_size(self, "memory", model->memory);
    write_size(self, "currentMemory", model->current_memory);
    vr_xml_open(self->out, "vcpu");
    if (model->current_vcpus != model->vcpus)
        vr_xml_attr_number(self->out, "current", model->current_vcpus);
    vr_xml_close_text(self->out, vcpus);
    if (model->iothreads)
        vr_xml_text(self->out, "iothreads", iothreads);
}

static void
write_firmware_feature(VrDomainWriter *self, const char *name, const char *enabled)
{
    if (!enabled)
        return;
    vr_xml_open(self->out, "feature");
    vr_xml_attr(self->out, "enabled", enabled);
    vr_xml_attr(self->out, "name", name);
    vr_xml_close(self->out);
}

/* libvirt picks an image with these properties. */
static void
write_chosen_firmware(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;

    if (model->source_loader)
        vr_findings_add(self->findings, VR_FINDING_WARNING, "firmware-chosen-here",
                        "Install the same firmware package on both hosts, or test the failover.",
                        "this host lacks the domain's firmware image; libvirt chooses another one");
    if (model->secure_boot || model->enrolled_keys) {
        vr_xml_open(self->out, "firmware");
        write_firmware_feature(self, "enrolled-keys", model->enrolled_keys);
        write_firmware_feature(self, "secure-boot", model->secure_boot);
        vr_xml_close(self->out);
    }
    if (model->loader_secure) {
        vr_xml_open(self->out, "loader");
        vr_xml_attr(self->out, "secure", "yes");
        vr_xml_close(self->out);
    }
}

static void
write_loader(VrDomainWriter *self, const char *loader)
{
    vr_xml_open(self->out, "loader");
    vr_xml_attr(self->out, "readonly", "yes");
    vr_xml_attr(self->out, "secure", self->model->loader_secure ? "yes" : NULL);
    vr_xml_attr(self->out, "type", "pflash");
    vr_xml_close_text(self->out, loader);
}

static void
write_nvram(VrDomainWriter *self)
{
    if (!self->model->nvram)
        return;
    if (!self->target->nvram_path) {
        vr_findings_add(self->findings, VR_FINDING_WARNING, "nvram-new",
                        "Check that the guest finds its boot loader.",
                        "the replica starts with new firmware variables (boot entries, keys)");
        return;
    }
    vr_xml_open(self->out, "nvram");
    /* the content came from a peer: nobody may look for an image header in it */
    if (self->target->libvirt_version >= LIBVIRT_NVRAM_FORMAT)
        vr_xml_attr(self->out, "format", "raw");
    vr_xml_close_text(self->out, self->target->nvram_path);
}

static void
write_boot(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;
    const VrDomainTarget *target = self->target;

    if (model->source_kernel)
        vr_xml_text(self->out, "kernel", target->kernel_path);
    if (model->source_initrd)
        vr_xml_text(self->out, "initrd", target->initrd_path);
    vr_xml_text(self->out, "cmdline", model->cmdline);
    if (model->source_dtb)
        vr_xml_text(self->out, "dtb", target->dtb_path);
    for (gsize i = 0; i < G_N_ELEMENTS(model->boot) && model->boot[i]; i++) {
        vr_xml_open(self->out, "boot");
        vr_xml_attr(self->out, "dev", model->boot[i]);
        vr_xml_close(self->out);
    }
    if (model->boot_menu) {
        vr_xml_open(self->out, "bootmenu");
        vr_xml_attr(self->out, "enable", model->boot_menu);
        vr_xml_attr_number(self->out, "timeout", model->boot_menu_timeout);
        vr_xml_close(self->out);
    }
}

static void
write_os(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;
    const VrHostCaps *caps = self->target->caps;
    const char *loader = vr_host_caps_loader(caps, model);
    gboolean efi = model->firmware == VR_DOMAIN_FIRMWARE_EFI;

    vr_xml_open(self->out, "os");
    vr_xml_attr(self->out, "firmware", efi && !loader ? "efi" : NULL);
    vr_xml_open(self->out, "type");
    vr_xml_attr(self->out, "arch", model->arch);
    vr_xml_attr(self->out, "machine", vr_host_caps_machine(caps, model->arch, model->machine));
    vr_xml_close_text(self->out, "hvm");
    if (efi && loader)
        write_loader(self, loader);
    else if (efi)
        write_chosen_firmware(self);
    write_nvram(self);
    write_boot(self);
    vr_xml_close(self->out);
}

static void
write_feature(VrDomainWriter *self, const VrDomainFeature *feature)
{
    vr_xml_open(self->out, feature->name);
    vr_xml_attr(self->out, "state", feature->state);
    for (gsize i = 0; feature->value && vr_feature_words[i].name; i++) {
        if (g_str_equal(vr_feature_words[i].name, feature->name) &&
            g_strcmp0(vr_feature_words[i].group, feature->group) == 0)
            vr_xml_attr(self->out, vr_feature_words[i].attribute, feature->value);
    }
    if (feature->direct) {
        vr_xml_open(self->out, "direct");
        vr_xml_attr(self->out, "state", "on");
        vr_xml_close(self->out);
    }
    vr_xml_close(self->out);
}

static void
write_feature_group(VrDomainWriter *self, const char *group)
{
    const GPtrArray *features = self->model->features;
    gboolean opened = FALSE;

    for (guint i = 0; i < features->len; i++) {
        const VrDomainFeature *feature = g_ptr_array_index(features, i);

        if (g_strcmp0(feature->group, group) != 0)
            continue;
        if (group && !opened) {
            vr_xml_open(self->out, group);
            if (g_str_equal(group, "hyperv"))
                vr_xml_attr(self->out, "mode", self->model->hyperv_mode);
            opened = TRUE;
        }
        write_feature(self, feature);
    }
    if (opened)
        vr_xml_close(self->out);
}

static void
write_features(VrDomainWriter *self)
{
    if (self->model->features->len == 0)
        return;
    vr_xml_open(self->out, "features");
    write_feature_group(self, NULL);
    write_feature_group(self, "hyperv");
    write_feature_group(self, "kvm");
    vr_xml_close(self->out);
}

static void
write_cpu_details(VrDomainWriter *self)
{
    const VrDomainCpu *cpu = &self->model->cpu;

    if (cpu->sockets > 0) {
        vr_xml_open(self->out, "topology");
        vr_xml_attr_number(self->out, "sockets", cpu->sockets);
        vr_xml_attr_number(self->out, "dies", cpu->dies);
        vr_xml_attr_number(self->out, "cores", cpu->cores);
        vr_xml_attr_number(self->out, "threads", cpu->threads);
        vr_xml_close(self->out);
    }
    if (cpu->cache_mode) {
        vr_xml_open(self->out, "cache");
        vr_xml_attr_number(self->out, "level", cpu->cache_level);
        vr_xml_attr(self->out, "mode", cpu->cache_mode);
        vr_xml_close(self->out);
    }
    for (guint i = 0; i < cpu->features->len; i++) {
        const VrDomainCpuFeature *feature = g_ptr_array_index(cpu->features, i);

        vr_xml_open(self->out, "feature");
        vr_xml_attr(self->out, "policy", feature->policy);
        vr_xml_attr(self->out, "name", feature->name);
        vr_xml_close(self->out);
    }
}

static void
write_cpu(VrDomainWriter *self)
{
    const VrDomainCpu *cpu = &self->model->cpu;
    gboolean named = cpu->model != NULL;
    gboolean by_mode = cpu->mode && !g_str_equal(cpu->mode, "custom");

    if (!named && !by_mode && cpu->sockets < 0)
        return;
    vr_xml_open(self->out, "cpu");
    if (named || by_mode) {
        vr_xml_attr(self->out, "mode", cpu->mode);
        vr_xml_attr(self->out, "match", cpu->match);
        vr_xml_attr(self->out, "check", cpu->check);
        vr_xml_attr(self->out, "migratable", cpu->migratable);
    }
    if (named) {
        vr_xml_open(self->out, "model");
        vr_xml_attr(self->out, "fallback", cpu->fallback);
        vr_xml_close_text(self->out, cpu->model);
        vr_xml_text(self->out, "vendor", cpu->vendor);
    }
    write_cpu_details(self);
    vr_xml_close(self->out);
}

static void
write_clock(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;

    if (!model->clock_offset)
        return;
    vr_xml_open(self->out, "clock");
    vr_xml_attr(self->out, "offset", model->clock_offset);
    vr_xml_attr(self->out, "timezone", model->timezone);
    vr_xml_attr(self->out, "adjustment", model->clock_adjustment);
    vr_xml_attr(self->out, "basis", model->clock_basis);
    for (guint i = 0; i < model->timers->len; i++) {
        const VrDomainTimer *timer = g_ptr_array_index(model->timers, i);

        vr_xml_open(self->out, "timer");
        vr_xml_attr(self->out, "name", timer->name);
        vr_xml_attr(self->out, "present", timer->present);
        vr_xml_attr(self->out, "tickpolicy", timer->tickpolicy);
        vr_xml_attr(self->out, "track", timer->track);
        vr_xml_attr(self->out, "mode", timer->mode);
        vr_xml_attr_number(self->out, "frequency", timer->frequency);
        vr_xml_close(self->out);
    }
    vr_xml_close(self->out);
}

static void
write_suspend(VrDomainWriter *self, const char *name, const char *enabled)
{
    if (!enabled)
        return;
    vr_xml_open(self->out, name);
    vr_xml_attr(self->out, "enabled", enabled);
    vr_xml_close(self->out);
}

static void
write_lifecycle(VrDomainWriter *self)
{
    const VrDomainModel *model = self->model;

    vr_xml_text(self->out, "on_poweroff", model->on_poweroff);
    vr_xml_text(self->out, "on_reboot", model->on_reboot);
    vr_xml_text(self->out, "on_crash", model->on_crash);
    if (model->suspend_to_mem || model->suspend_to_disk) {
        vr_xml_open(self->out, "pm");
        write_suspend(self, "suspend-to-mem", model->suspend_to_mem);
        write_suspend(self, "suspend-to-disk", model->suspend_to_disk);
        vr_xml_close(self->out);
    }
}

char *
vr_domain_xml_console_log(const VrDomainModel *model, const VrDomainTarget *target,
                          const char *element, guint i)
{
    if (!target->console_log_dir)
        return NULL;
    return g_strdup_printf("%s/%s-%s%u.log", target->console_log_dir,
                           target->uuid ? target->uuid : model->uuid, element, i);
}

char *
vr_domain_xml_for_target(const VrDomainModel *model, const VrDomainTarget *target,
                         VrFindings *findings, GError **error)
{
    g_autoptr(VrXmlOut) out = NULL;
    VrDomainWriter writer = {model, target, findings, NULL};

    if (!check_target(target, error) || !check_complete(model, target, findings, error))
        return NULL;
    out = vr_xml_out_new();
    writer.out = out;
    vr_xml_open(out, "domain");
    vr_xml_attr(out, "type", vr_host_caps_virt_type(target->caps, model));
    write_identity(&writer);
    write_resources(&writer);
    write_os(&writer);
    write_features(&writer);
    write_cpu(&writer);
    write_clock(&writer);
    write_lifecycle(&writer);
    vr_domain_write_devices(&writer);
    vr_xml_close(out);
    return vr_xml_out_steal(out);
}
