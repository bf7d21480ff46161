/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/policy.h"

#include <string.h>

#include "policies/error.h"
#include "policies/ids.h"
#include "policies/keyfile.h"
#include "policies/units.h"

#define SECOND ((gint64) G_USEC_PER_SEC)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

#define BANDWIDTH_WINDOWS_MAX 32

static void
refuse_bandwidth_window(const char *value, GError **error)
{
    vr_set_error(error, VR_ERROR_INVALID, "bad-value", NULL,
                 "'%s' is not a window and a rate such as Mon-Fri 08:00-18:00 20MiB/s", value);
}

static gboolean
parse_bandwidth_window(const char *value, gpointer field, GError **error)
{
    GArray *windows = *(GArray **) field;
    const char *blank = strrchr(value, ' ');
    g_autofree char *times = blank ? g_strndup(value, (gsize) (blank - value)) : NULL;
    VrBandwidthWindow entry;

    if (!times) {
        refuse_bandwidth_window(value, error);
        return FALSE;
    }
    if (windows->len >= BANDWIDTH_WINDOWS_MAX) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-value", NULL, "more than %d windows",
                     BANDWIDTH_WINDOWS_MAX);
        return FALSE;
    }
    if (!vr_rate_parse(blank + 1, &entry.rate, NULL)) {
        refuse_bandwidth_window(value, error);
        return FALSE;
    }
    if (!vr_window_parse(g_strchomp(times), &entry.window, error))
        return FALSE;
    g_array_append_val(windows, entry);
    return TRUE;
}

static void
print_bandwidth_windows(const char *key, gconstpointer field, GString *out)
{
    const GArray *windows = *(GArray *const *) field;

    for (guint i = 0; i < windows->len; i++) {
        const VrBandwidthWindow *entry = &g_array_index(windows, VrBandwidthWindow, i);
        g_autofree char *times = vr_window_format(&entry->window);
        g_autofree char *rate = vr_rate_format(entry->rate);

        g_string_append_printf(out, "%s = %s %s\n", key, times, rate);
    }
}

static gboolean
parse_resync_window(const char *value, gpointer field, GError **error)
{
    return vr_window_parse_or_always(value, field, error);
}

static void
print_resync_window(const char *key, gconstpointer field, GString *out)
{
    const VrWindow *window = field;
    const VrWindow always = VR_WINDOW_ALWAYS;
    g_autofree char *times = vr_window_format(window);
    gboolean is_always =
        window->days == always.days && window->start == always.start && window->end == always.end;

    g_string_append_printf(out, "%s = %s\n", key, is_always ? "always" : times);
}

static gboolean
parse_initial_start(const char *value, gpointer field, GError **error)
{
    if (strcmp(value, "now") != 0)
        return vr_time_parse(value, field, error);
    *(gint64 *) field = 0;
    return TRUE;
}

static void
print_initial_start(const char *key, gconstpointer field, GString *out)
{
    gint64 wall_us = *(const gint64 *) field;
    g_autofree char *time = vr_time_format(wall_us);

    g_string_append_printf(out, "%s = %s\n", key, wall_us == 0 ? "now" : time);
}

static const char *const compression_names[] = {"auto", "zstd", "off", NULL};
static const char *const start_guard_names[] = {"normal", "strict", NULL};

#define KEY(name, kind, member)                                                                    \
    .group = "policy", .key = name, .type = VR_KEY_##kind,                                         \
    .offset = G_STRUCT_OFFSET(VrPolicy, member)

static const VrKeySpec specs[] = {
    {KEY("interval", DURATION, interval_us), .min = SECOND, .max = DAY},
    {KEY("rpo-target", DURATION, rpo_target_us), .min = SECOND, .max = 7 * DAY},
    {KEY("keep-all", DURATION, keep.all_us), .max = 365 * DAY},
    {KEY("keep-hourly", UINT, keep.hourly), .max = 10000},
    {KEY("keep-daily", UINT, keep.daily), .max = 10000},
    {KEY("app-consistent", DURATION, app_consistent_us), .min = MINUTE, .max = 7 * DAY,
     .zero_word = "off"},
    {KEY("freeze-timeout", DURATION, freeze_timeout_us), .min = SECOND, .max = MINUTE},
    {KEY("compression", ENUM, compression), .names = compression_names},
    {KEY("bandwidth", RATE, bandwidth)},
    {KEY("bandwidth-window", CUSTOM, bandwidth_windows), .parse = parse_bandwidth_window,
     .print = print_bandwidth_windows, .repeatable = TRUE},
    {KEY("resync-window", CUSTOM, resync_window), .parse = parse_resync_window,
     .print = print_resync_window},
    {KEY("initial-start", CUSTOM, initial_start_us), .parse = parse_initial_start,
     .print = print_initial_start},
    {KEY("start-guard", ENUM, start_guard), .names = start_guard_names},
    {KEY("commit-after", DURATION, commit_after_us), .min = MINUTE, .max = 365 * DAY,
     .zero_word = "never"},
    {KEY("allow-remote-failover", BOOL, allow_remote_failover)},
    {KEY("verify-interval", DURATION, verify_interval_us), .min = MINUTE, .max = 365 * DAY},
    {KEY("test-cleanup-after", DURATION, test_cleanup_after_us), .min = MINUTE, .max = 365 * DAY},
    {KEY("scratch-limit", PERCENT, scratch_limit_percent), .min = 1, .max = 100},
    {KEY("shutdown-timeout", DURATION, shutdown_timeout_us), .min = SECOND, .max = DAY},
};

VrPolicy *
vr_policy_default(void)
{
    VrPolicy *self = g_new0(VrPolicy, 1);

    self->name = g_strdup("default");
    self->interval_us = 30 * SECOND;
    self->rpo_target_us = 2 * MINUTE;
    self->keep = (VrRetentionRule){.all_us = HOUR, .hourly = 24, .daily = 7};
    self->freeze_timeout_us = 5 * SECOND;
    self->compression = VR_COMPRESSION_AUTO;
    self->bandwidth_windows = g_array_new(FALSE, FALSE, sizeof(VrBandwidthWindow));
    self->resync_window = VR_WINDOW_ALWAYS;
    self->start_guard = VR_START_GUARD_NORMAL;
    self->verify_interval_us = 7 * DAY;
    self->test_cleanup_after_us = 14 * DAY;
    self->scratch_limit_percent = 10;
    self->shutdown_timeout_us = 5 * MINUTE;
    return self;
}

/* The line that sets @key in a text that was parsed before; 0 if none does. */
static guint
line_of(const char *key, const char *text, gsize length)
{
    g_autoptr(GPtrArray) entries = vr_keyfile_scan("", text, length, NULL);

    for (guint i = 0; entries && i < entries->len; i++) {
        const VrKeyfileEntry *entry = g_ptr_array_index(entries, i);

        if (strcmp(entry->key, key) == 0)
            return entry->line;
    }
    return 0;
}

static gboolean
settle_rpo_target(VrPolicy *self, const char *file, const char *text, gsize length, GError **error)
{
    g_autofree char *interval = NULL;
    g_autofree char *target = NULL;

    if (self->rpo_target_us == 0)
        self->rpo_target_us = MAX(2 * MINUTE, 2 * self->interval_us);
    if (self->rpo_target_us >= self->interval_us)
        return TRUE;
    interval = vr_duration_format(self->interval_us);
    target = vr_duration_format(self->rpo_target_us);
    vr_set_error(error, VR_ERROR_INVALID, "rpo-below-interval",
                 "Raise rpo-target or lower interval.",
                 "%s:%u: rpo-target (%s) is shorter than interval (%s), so it could never be held",
                 file, line_of("rpo-target", text, length), target, interval);
    return FALSE;
}

VrPolicy *
vr_policy_parse(const char *name, const char *file, const char *text, gsize length, GError **error)
{
    g_autoptr(VrPolicy) self = NULL;

    if (!vr_name_valid(name)) {
        g_autofree char *shown = vr_display_name(name, VR_NAME_MAX);

        vr_set_error(error, VR_ERROR_INVALID, "bad-policy-name",
                     "Use letters, digits, '.', '_' and '-', at most 63.",
                     "'%s' is not a policy name", shown);
        return NULL;
    }
    self = vr_policy_default();
    self->rpo_target_us = 0;
    g_free(self->name);
    self->name = g_strdup(name);
    if (!vr_keyfile_parse(file, text, length, specs, G_N_ELEMENTS(specs), self, error) ||
        !settle_rpo_target(self, file, text, length, error))
        return NULL;
    return g_steal_pointer(&self);
}

char *
vr_policy_to_text(const VrPolicy *self)
{
    return vr_keyfile_print(specs, G_N_ELEMENTS(specs), self);
}

void
vr_policy_free(VrPolicy *self)
{
    if (!self)
        return;
    g_free(self->name);
    g_array_unref(self->bandwidth_windows);
    g_free(self);
}

guint64
vr_policy_bandwidth_at(const VrPolicy *self, GDateTime *local)
{
    for (guint i = 0; i < self->bandwidth_windows->len; i++) {
        const VrBandwidthWindow *entry =
            &g_array_index(self->bandwidth_windows, VrBandwidthWindow, i);

        if (vr_window_contains(&entry->window, local))
            return entry->rate;
    }
    return self->bandwidth;
}
