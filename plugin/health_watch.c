/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/health_watch.h"

#include <string.h>

#include "plugin/loop.h"
#include "plugin/protection_view.h"
#include "storage/util/json_util.h"

#define LOOK_US (10 * G_TIME_SPAN_SECOND)

struct _VrHealthWatch {
    VrApp *app;       /* borrowed */
    VrLoop *loop;     /* owned */
    GHashTable *said; /* owned: "uuid code" (owned), of the loop's thread */
};

/* What holds now is moved from @before to @now, and said if it is new. */
static void
say_new(const char *uuid, JsonObject *reason, GHashTable *before, GHashTable *now)
{
    const char *code = json_object_get_string_member(reason, "code");
    const char *severity = json_object_get_string_member(reason, "severity");
    char *key = g_strdup_printf("%s %s", uuid, code);

    if (!g_hash_table_remove(before, key))
        g_log(G_LOG_DOMAIN, strcmp(severity, "ok") == 0 ? G_LOG_LEVEL_MESSAGE : G_LOG_LEVEL_WARNING,
              "health: %s (%s, %s)", json_object_get_string_member(reason, "message"), severity,
              code);
    (void) g_hash_table_add(now, key);
}

static void
look_at(VrHealthWatch *self, const VrProtection *row, GHashTable *now)
{
    g_autoptr(JsonNode) view = vr_protection_view(self->app, row);
    JsonArray *reasons = json_object_get_array_member(json_node_get_object(view), "reasons");

    for (guint i = 0; i < json_array_get_length(reasons); i++)
        say_new(row->uuid, json_array_get_object_element(reasons, i), self->said, now);
}

static const char *
name_of(const GPtrArray *rows, const char *key)
{
    for (guint i = 0; i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        if (g_str_has_prefix(key, row->uuid))
            return row->name;
    }
    return NULL;
}

static void
say_over(const GPtrArray *rows, GHashTable *left)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, left);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const char *name = name_of(rows, key);

        if (name != NULL)
            g_message("health: domain '%s': over: %s", name, strchr(key, ' ') + 1);
    }
}

static void
look(VrHealthWatch *self, VrLoop *loop)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);
    GHashTable *now;

    if (rows == NULL)
        return;
    now = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < rows->len && !vr_loop_ends(loop); i++)
        look_at(self, g_ptr_array_index(rows, i), now);
    if (!vr_loop_ends(loop))
        say_over(rows, self->said);
    g_hash_table_unref(self->said);
    self->said = now;
}

static void
watch(VrLoop *loop, gpointer data)
{
    VrHealthWatch *self = data;

    while (!vr_loop_ends(loop)) {
        (void) vr_loop_wait(loop, g_get_monotonic_time() + LOOK_US);
        if (!vr_loop_ends(loop))
            look(self, loop);
    }
}

VrHealthWatch *
vr_health_watch_start(VrApp *app)
{
    VrHealthWatch *self = g_new0(VrHealthWatch, 1);

    self->app = app;
    self->said = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->loop = vr_loop_start("health", watch, self);
    return self;
}

void
vr_health_watch_stop(VrHealthWatch *self)
{
    if (self == NULL)
        return;
    vr_loop_stop(self->loop);
    g_hash_table_unref(self->said);
    g_free(self);
}
