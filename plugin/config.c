/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/config.h"

#include <stddef.h>
#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "policies/keyfile.h"
#include "storage/file_util.h"

static const char *const log_levels[] = {"error", "warning", "message", "info", "debug", NULL};

static const VrKeySpec specs[] = {
    {"daemon", "name", VR_KEY_STRING, offsetof(VrConfig, name)},
    {"daemon", "listen", VR_KEY_STRING, offsetof(VrConfig, listen)},
    {"daemon", "address", VR_KEY_STRING, offsetof(VrConfig, address)},
    {"daemon", "libvirt-uri", VR_KEY_STRING, offsetof(VrConfig, libvirt_uri)},
    {"daemon", "state-dir", VR_KEY_STRING, offsetof(VrConfig, state_dir)},
    {"daemon", "runtime-dir", VR_KEY_STRING, offsetof(VrConfig, runtime_dir)},
    {"daemon", "workers", VR_KEY_UINT, offsetof(VrConfig, workers), .min = 1, .max = 4},
    {"daemon", "max-transfers", VR_KEY_UINT, offsetof(VrConfig, max_transfers), .min = 1, .max = 64},
    {"daemon", "log-level", VR_KEY_ENUM, offsetof(VrConfig, log_level), .names = log_levels},
};

void
vr_config_free(VrConfig *self)
{
    if (self == NULL)
        return;
    g_free(self->config_dir);
    g_free(self->state_dir);
    g_free(self->runtime_dir);
    g_free(self->libvirt_uri);
    g_free(self->listen);
    g_free(self->address);
    g_free(self->name);
    g_free(self);
}

static char *
default_name(void)
{
    g_auto(GStrv) parts = g_strsplit(g_get_host_name(), ".", 2);

    return g_strdup(vr_name_valid(parts[0]) ? parts[0] : "host");
}

static VrConfig *
defaults(const char *file)
{
    VrConfig *self = g_new0(VrConfig, 1);

    self->config_dir = g_path_get_dirname(file);
    self->state_dir = g_strdup("/var/lib/virt-replica");
    self->runtime_dir = g_strdup("/run/virt-replica");
    self->libvirt_uri = g_strdup("qemu:///system");
    self->listen = g_strdup("0.0.0.0:16540");
    self->name = default_name();
    self->workers = 2;
    self->max_transfers = 2;
    self->log_level = 2;
    return self;
}

VrConfig *
vr_config_load(const char *file, GError **error)
{
    g_autoptr(VrConfig) self = defaults(file);
    g_autoptr(GError) local = NULL;
    gsize len;
    g_autofree char *text = vr_read_file(file, VR_KEYFILE_SIZE_MAX, &len, &local);

    if (text == NULL) {
        if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND) &&
            strcmp(file, VR_CONFIG_DEFAULT_FILE) == 0)
            return g_steal_pointer(&self);
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    if (!vr_keyfile_parse(file, text, len, specs, G_N_ELEMENTS(specs), self, error))
        return NULL;
    if (!vr_name_valid(self->name)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-name", "Use letters, digits, dots and dashes.",
                     "%s: name '%s' is no host name for peers", file, self->name);
        return NULL;
    }
    return g_steal_pointer(&self);
}

char *
vr_config_socket_path(const VrConfig *self)
{
    return g_build_filename(self->runtime_dir, "virt-replica.sock", NULL);
}
