/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/fence_record.h"

#include "policies/error.h"
#include "policies/ids.h"
#include "policies/keyfile.h"
#include "policies/units.h"

#define MESSAGE_MAX_CHARS 200

static const char *const state_names[] = {"failed-over", "replica", NULL};

static gboolean
parse_time(const char *value, gpointer field, GError **error)
{
    return vr_time_parse(value, field, error);
}

static void
print_time(const char *key, gconstpointer field, GString *out)
{
    g_autofree char *time = vr_time_format(*(const gint64 *) field);

    g_string_append_printf(out, "%s = %s\n", key, time ? time : "");
}

#define KEY(name, kind, member)                                                                    \
    .group = "fence", .key = name, .type = VR_KEY_##kind,                                          \
    .offset = G_STRUCT_OFFSET(VrFenceRecord, member)

static const VrKeySpec specs[] = {
    {KEY("state", ENUM, state), .names = state_names},
    {KEY("peer", STRING, peer)},
    {KEY("since", CUSTOM, since_us), .parse = parse_time, .print = print_time},
    {KEY("generation", STRING, generation)},
    {KEY("message", STRING, message)},
};

static char *
one_line(const char *text)
{
    g_autofree char *flat = g_strdelimit(g_strdup(text), "#;\n\r\t", ' ');

    return g_strstrip(vr_display_name(flat, MESSAGE_MAX_CHARS));
}

char *
vr_fence_record_to_text(const VrFenceRecord *self)
{
    g_autofree char *message = self->message ? one_line(self->message) : NULL;
    VrFenceRecord clean = *self;

    clean.message = message;
    return vr_keyfile_print(specs, G_N_ELEMENTS(specs), &clean);
}

VrFenceRecord *
vr_fence_record_parse(const char *file, const char *text, gsize length, GError **error)
{
    g_autoptr(VrFenceRecord) self = g_new0(VrFenceRecord, 1);

    self->state = G_N_ELEMENTS(state_names);
    self->since_us = G_MININT64;
    if (!vr_keyfile_parse(file, text, length, specs, G_N_ELEMENTS(specs), self, error))
        return NULL;
    if (self->state == G_N_ELEMENTS(state_names) || !vr_name_valid(self->peer) ||
        self->since_us == G_MININT64 || !vr_cycle_id_valid(self->generation)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-fence", NULL,
                     "%s: state, peer, since or generation is missing or not valid", file);
        return NULL;
    }
    return g_steal_pointer(&self);
}

void
vr_fence_record_free(VrFenceRecord *self)
{
    if (!self)
        return;
    g_free(self->peer);
    g_free(self->generation);
    g_free(self->message);
    g_free(self);
}

char *
vr_fence_record_sentence(const VrFenceRecord *self, const char *domain)
{
    g_autofree char *name = vr_display_name(domain, 64);
    g_autofree char *since = vr_time_format(self->since_us);
    g_autofree char *message = self->message ? one_line(self->message) : NULL;
    const char *gap = message && *message ? " " : "";

    if (self->state == VR_FENCE_RECORD_REPLICA)
        return g_strdup_printf(
            "domain '%s' is the replica of the one on '%s' (since %s) and starts "
            "only by failover;%s%s run 'virt-replica info %s'",
            name, self->peer, since, gap, message ? message : "", name);
    return g_strdup_printf("domain '%s' was failed over to '%s' (at %s) and must not run here;%s%s "
                           "run 'virt-replica info %s'",
                           name, self->peer, since, gap, message ? message : "", name);
}
