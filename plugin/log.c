/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/log.h"

#include <stdio.h>
#include <unistd.h>

#include "policies/display.h"
#include "policies/log_limit.h"

static GLogLevelFlags shown;
static gboolean journal;
static GMutex limit_lock; /* guards limit */
static VrLogLimit *limit;
static GPrivate peer_key = G_PRIVATE_INIT(g_free); /* whom this thread works for; none: us */

static const char *
field(const GLogField *fields, gsize n, const char *key)
{
    for (gsize i = 0; i < n; i++) {
        if (g_str_equal(fields[i].key, key))
            return fields[i].value;
    }
    return "";
}

static const char *
level_name(GLogLevelFlags level)
{
    if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
        return "error";
    if (level & G_LOG_LEVEL_WARNING)
        return "warning";
    if (level & G_LOG_LEVEL_MESSAGE)
        return "message";
    return level & G_LOG_LEVEL_INFO ? "info" : "debug";
}

void
vr_log_of_peer(const char *fingerprint)
{
    if (g_strcmp0(g_private_get(&peer_key), fingerprint) != 0)
        g_private_replace(&peer_key, g_strdup(fingerprint));
}

const char *
vr_log_peer(void)
{
    return g_private_get(&peer_key);
}

/* (transfer full): what is written for @message, NULL: nothing, its peer has caused enough. */
static char *
line_of(const char *message)
{
    const char *peer = vr_log_peer();
    g_autofree char *text = vr_display_text(message);
    guint suppressed = 0;
    gboolean may = TRUE;

    if (peer) {
        g_mutex_lock(&limit_lock);
        may = vr_log_limit_take(limit, peer, g_get_monotonic_time(), &suppressed);
        g_mutex_unlock(&limit_lock);
    }
    if (!may)
        return NULL;
    if (suppressed == 0)
        return g_steal_pointer(&text);
    return g_strdup_printf("%s (%u lines caused by peer %.16s were not written)", text, suppressed,
                           peer);
}

static void
write_journal(GLogLevelFlags level, const GLogField *fields, gsize n, const char *line)
{
    g_autofree GLogField *copy = g_memdup2(fields, n * sizeof(*fields));

    for (gsize i = 0; i < n; i++) {
        if (g_str_equal(copy[i].key, "MESSAGE")) {
            copy[i].value = line;
            copy[i].length = -1;
        }
    }
    (void) g_log_writer_journald(level, copy, n, NULL);
}

static void
write_line(GLogLevelFlags level, const GLogField *fields, gsize n, const char *line)
{
    g_autoptr(GDateTime) now = NULL;
    g_autofree char *when = NULL;

    if (journal) {
        write_journal(level, fields, n, line);
        return;
    }
    now = g_date_time_new_now_utc();
    when = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S.%fZ");
    (void) fprintf(stderr, "%s %s: %s\n", when, level_name(level), line);
}

static GLogWriterOutput
write_log(GLogLevelFlags level, const GLogField *fields, gsize n, gpointer user_data G_GNUC_UNUSED)
{
    g_autofree char *line = NULL;

    if ((level & shown) == 0)
        return G_LOG_WRITER_HANDLED;
    line = line_of(field(fields, n, "MESSAGE"));
    if (!line)
        return G_LOG_WRITER_HANDLED;
    write_line(level, fields, n, line);
    return G_LOG_WRITER_HANDLED;
}

void
vr_log_say_left_out(void)
{
    g_autofree char *peer = NULL;
    guint lines;

    g_mutex_lock(&limit_lock);
    lines = limit ? vr_log_limit_left_out(limit, g_get_monotonic_time(), &peer) : 0;
    g_mutex_unlock(&limit_lock);
    if (lines > 0)
        g_message("%u lines caused by peer %.16s were not written", lines, peer);
}

void
vr_log_init(guint level)
{
    static const GLogLevelFlags levels[] = {
        G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL,
        G_LOG_LEVEL_WARNING,
        G_LOG_LEVEL_MESSAGE,
        G_LOG_LEVEL_INFO,
        G_LOG_LEVEL_DEBUG,
    };

    shown = 0;
    for (guint i = 0; i <= level && i < G_N_ELEMENTS(levels); i++)
        shown |= levels[i];
    limit = vr_log_limit_new();
    journal = g_log_writer_is_journald(STDERR_FILENO);
    g_log_set_writer_func(write_log, NULL, NULL);
}
