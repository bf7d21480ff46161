/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/state_lost.h"

#include <sys/stat.h>

#include "plugin/store_find.h"
#include "policies/units.h"

/* The key is made within the first start, right behind the database. */
#define SAME_START_US (2 * G_TIME_SPAN_SECOND)

/* When the database was made; 0 if the host is not older. */
static gint64
made_anew_us(VrApp *app)
{
    g_autofree char *made = vr_state_get(app->state, VR_STATE_MADE_KEY, NULL);
    gint64 made_us = made ? g_ascii_strtoll(made, NULL, 10) : 0;
    struct stat st;

    if (stat(vr_identity_key_path(app->identity), &st) < 0)
        return 0;
    return (gint64) st.st_mtime * G_USEC_PER_SEC + SAME_START_US < made_us ? made_us : 0;
}

static void G_GNUC_PRINTF(4, 5)
    add(JsonArray *notices, const char *code, const char *action, const char *format, ...)
{
    JsonObject *object = json_object_new();
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    json_object_set_string_member(object, "code", code);
    json_object_set_string_member(object, "message", message);
    json_object_set_string_member(object, "action", action);
    json_array_add_object_element(notices, object);
}

static void
add_made_anew(VrApp *app, gint64 made_us, JsonArray *notices)
{
    g_autofree char *when = vr_time_format(made_us);

    add(notices, "state-made-anew",
        "Stop the daemon and put state.db back from a backup; or pair with peer-invite and "
        "peer-join, then get the replicas back with 'virt-replica store-scan' and protect again "
        "what this host protected.",
        "the state database '%s/state.db' was gone and was made anew at %s: host '%s' does not "
        "know its peers, protections and replicas of before",
        app->config->state_dir, when, app->config->name);
}

static void
add_orphans(VrApp *app, guint orphans, const char *store, JsonArray *notices)
{
    g_autofree char *action = g_strdup_printf("Run 'virt-replica store-scan %s'; --adopt-all gets "
                                              "them back, --drop removes one.",
                                              store);

    add(notices, "replicas-orphaned", action,
        "the stores of host '%s' hold %u replica%s that its database does not know",
        app->config->name, orphans, orphans == 1 ? "" : "s");
}

JsonArray *
vr_state_lost_notices(VrApp *app)
{
    g_autoptr(GPtrArray) peers = vr_state_peer_list(app->state, NULL);
    g_autofree char *store = NULL;
    guint orphans = vr_store_count_orphans(app, &store);
    JsonArray *notices = json_array_new();
    gint64 made_us = made_anew_us(app);

    if (made_us != 0 && (orphans > 0 || peers == NULL || peers->len == 0))
        add_made_anew(app, made_us, notices);
    if (orphans > 0)
        add_orphans(app, orphans, store, notices);
    return notices;
}

void
vr_state_lost_log(VrApp *app)
{
    g_autoptr(JsonArray) notices = vr_state_lost_notices(app);

    for (guint i = 0; i < json_array_get_length(notices); i++) {
        JsonObject *notice = json_array_get_object_element(notices, i);

        g_warning("%s. %s", json_object_get_string_member(notice, "message"),
                  json_object_get_string_member(notice, "action"));
    }
}
