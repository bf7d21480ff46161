/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/config.h"

#include <stddef.h>
#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "policies/keyfile.h"
#include "storage/util/file_util.h"
#include "storage/wire/http.h"

static const char *const log_levels[] = {"error", "warning", "message", "info", "debug", NULL};

static gboolean
take(const char *value, gboolean fits, const char *wanted, gpointer field, GError **error)
{
    if (!fits) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-value", NULL, "'%s' is not %s", value, wanted);
        return FALSE;
    }
    g_free(*(char **) field);
    *(char **) field = g_strdup(value);
    return TRUE;
}

static gboolean
parse_name(const char *value, gpointer field, GError **error)
{
    return take(value, vr_name_valid(value),
                "a name of letters, digits, dots and dashes, at most 63", field, error);
}

static gboolean
parse_listen(const char *value, gpointer field, GError **error)
{
    g_autofree char *host = NULL;
    guint16 port = 0;

    return take(value, vr_address_parse(value, TRUE, &host, &port, NULL),
                "an address and a port such as 0.0.0.0:16540 or [::]:16540", field, error);
}

static gboolean
parse_address(const char *value, gpointer field, GError **error)
{
    g_autofree char *host = NULL;
    guint16 port = 0;

    return take(value, vr_address_parse(value, FALSE, &host, &port, NULL),
                "a host and a port such as host1.example.org:16540", field, error);
}

static gboolean
parse_directory(const char *value, gpointer field, GError **error)
{
    return take(value, value[0] == '/', "an absolute path", field, error);
}

static gboolean
parse_uri(const char *value, gpointer field, GError **error)
{
    return take(value, strchr(value, ':') != NULL, "a libvirt URI such as qemu:///system", field,
                error);
}

static gboolean
parse_window(const char *value, gpointer field, GError **error)
{
    return vr_window_parse_or_always(value, field, error);
}

#define TEXT(name, member, function)                                                               \
    .group = "daemon", .key = name, .type = VR_KEY_CUSTOM, .offset = offsetof(VrConfig, member),   \
    .parse = function

static const VrKeySpec specs[] = {
    {TEXT("name", name, parse_name)},
    {TEXT("listen", listen, parse_listen)},
    {TEXT("address", address, parse_address)},
    {TEXT("libvirt-uri", libvirt_uri, parse_uri)},
    {TEXT("state-dir", state_dir, parse_directory)},
    {TEXT("runtime-dir", runtime_dir, parse_directory)},
    {"daemon", "workers", VR_KEY_UINT, offsetof(VrConfig, workers), .min = 1, .max = 4},
    {"daemon", "max-transfers", VR_KEY_UINT, offsetof(VrConfig, max_transfers), .min = 1,
     .max = 64},
    {"daemon", "peer-connections", VR_KEY_UINT, offsetof(VrConfig, peer_connections), .min = 8,
     .max = 1024},
    {"daemon", "verify-rate", VR_KEY_RATE, offsetof(VrConfig, verify_rate)},
    {"daemon", "store-reserve", VR_KEY_PERCENT, offsetof(VrConfig, store_reserve_percent)},
    {TEXT("scrub-window", scrub_window, parse_window)},
    {"daemon", "look-interval", VR_KEY_DURATION, offsetof(VrConfig, look_interval_us),
     .min = G_TIME_SPAN_SECOND, .max = G_TIME_SPAN_DAY},
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
    self->max_transfers = 3;
    self->peer_connections = 32;
    self->verify_rate = 32 << 20;
    self->store_reserve_percent = 5;
    self->scrub_window = VR_WINDOW_ALWAYS;
    self->look_interval_us = G_TIME_SPAN_HOUR;
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
    return g_steal_pointer(&self);
}

char *
vr_config_socket_path(const VrConfig *self)
{
    return g_build_filename(self->runtime_dir, "virt-replica.sock", NULL);
}
