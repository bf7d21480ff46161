/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/log.h"

#include <stdio.h>
#include <unistd.h>

static GLogLevelFlags shown;
static gboolean journal;

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

static GLogWriterOutput
write_log(GLogLevelFlags level, const GLogField *fields, gsize n, gpointer user_data)
{
    g_autoptr(GDateTime) now = NULL;
    g_autofree char *when = NULL;

    if ((level & shown) == 0)
        return G_LOG_WRITER_HANDLED;
    if (journal)
        return g_log_writer_journald(level, fields, n, user_data);
    now = g_date_time_new_now_utc();
    when = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S.%fZ");
    (void) fprintf(stderr, "%s %s: %s\n", when, level_name(level), field(fields, n, "MESSAGE"));
    return G_LOG_WRITER_HANDLED;
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
    journal = g_log_writer_is_journald(STDERR_FILENO);
    g_log_set_writer_func(write_log, NULL, NULL);
}
