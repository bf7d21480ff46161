/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/probe.h"

#include "plugin/cycle/replicate.h"
#include "plugin/loop.h"
#include "plugin/peer/peer_askers.h"
#include "policies/error.h"
#include "storage/wire/error_json.h"

#define PROBE_US (5 * G_TIME_SPAN_SECOND)

struct _VrProbe {
    VrApp *app;           /* borrowed */
    VrPeerAskers *askers; /* owned: ask_peer() */
    VrLoop *loop;         /* owned */
};

/* What to ask the peer for one of its domains. */
typedef enum { CAUSE_NONE, CAUSE_AWAY, CAUSE_UNKNOWN, CAUSE_UNUSABLE } Cause;

static Cause
cause_of(const VrProtection *row)
{
    g_autoptr(GError) last = row->last_error ? vr_error_from_json_text(row->last_error) : NULL;
    const char *slug;

    if (last == NULL || !vr_replicate_admitted(row))
        return CAUSE_NONE;
    slug = vr_error_slug(last);
    if (vr_error_is_peer_away(last))
        return CAUSE_AWAY;
    /* It had lost its database, and may have the pairing and the replica back. */
    if (g_str_equal(slug, "peer-unknown") || g_str_equal(slug, "no-such-protection"))
        return CAUSE_UNKNOWN;
    return g_str_equal(slug, "state-older-than-store") || g_str_equal(slug, "replica-missing")
               ? CAUSE_UNUSABLE
               : CAUSE_NONE;
}

/* FALSE also if it cannot be reached: @ret_away. */
static gboolean
is_over(VrPeerClient *peer, const VrProtection *row, Cause cause, GCancellable *cancel,
        gboolean *ret_away)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(VrRecoveryPoint) head = NULL;
    gboolean usable = FALSE;

    if (cause == CAUSE_AWAY)
        (void) vr_peer_client_hello(peer, &answer, cancel, &error);
    else if (cause == CAUSE_UNKNOWN)
        answer = vr_peer_client_action(peer, row->uuid, "known", NULL, cancel, &error);
    else
        usable = vr_peer_client_head(peer, row->uuid, &head, cancel, &error) && head != NULL;
    *ret_away = error != NULL && vr_error_is_peer_away(error);
    return answer != NULL || usable;
}

static void
ask_peer(const char *fingerprint, GCancellable *cancel, gpointer data)
{
    VrProbe *self = data;
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);
    VrPeerClient *peer = vr_peer_pool_get(self->app->peers, fingerprint, NULL);
    gboolean away = peer == NULL;

    for (guint i = 0; rows != NULL && !away && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);
        Cause cause = g_str_equal(row->peer, fingerprint) ? cause_of(row) : CAUSE_NONE;

        if (cause != CAUSE_NONE && is_over(peer, row, cause, cancel, &away))
            vr_scheduler_kick(self->app->scheduler, row->uuid);
    }
}

static void
probe(VrLoop *loop, gpointer data)
{
    VrProbe *self = data;

    while (!vr_loop_ends(loop)) {
        g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);

        for (guint i = 0; rows != NULL && i < rows->len; i++) {
            const VrProtection *row = g_ptr_array_index(rows, i);

            if (cause_of(row) != CAUSE_NONE)
                (void) vr_peer_askers_ask(self->askers, row->peer);
        }
        (void) vr_loop_wait(loop, g_get_monotonic_time() + PROBE_US);
    }
}

VrProbe *
vr_probe_start(VrApp *app)
{
    VrProbe *self = g_new0(VrProbe, 1);

    self->app = app;
    self->askers = vr_peer_askers_new(ask_peer, self);
    self->loop = vr_loop_start("probe", probe, self);
    return self;
}

void
vr_probe_stop(VrProbe *self)
{
    if (self == NULL)
        return;
    vr_loop_stop(self->loop);
    vr_peer_askers_free(self->askers);
    g_free(self);
}
