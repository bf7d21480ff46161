/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people are told while a failover cannot go on and the guest is off: the protection's error,
 * which health shows (policies/health.c has these codes), and the log. */
#include "plugin/job/failover.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "storage/wire/error_json.h"

#define UNANSWERED_TRIES 5 /* after 12 s, and what it takes to find that nobody answers */
#define WAITS_TRIES 10     /* after half a minute, and what the answers take */

/* @reason: (nullable) */
static void
say(VrFailover *self, const GError *reason)
{
    g_autofree char *text = reason ? vr_error_to_json_text(reason) : NULL;

    if (reason != NULL)
        g_warning("%s. %s", reason->message, vr_error_action(reason));
    (void) vr_state_protection_set_last_error(self->app->state, self->row->uuid, text,
                                              reason ? g_get_real_time() : 0, NULL);
}

void
vr_failover_say_not_undone(VrFailover *self, const GError *reason)
{
    g_autoptr(GError) said = NULL;
    g_autofree char *word = vr_shell_word(self->row->name);
    g_autofree char *action = g_strdup_printf(
        "Remove the cause: it is tried every 10 seconds. Or 'virsh start %s' by hand.", word);

    vr_set_error(&said, VR_ERROR_REFUSED, "failover-not-undone", action,
                 "domain '%s': its failover was given up, and host '%s' cannot %s: %s",
                 self->row->name, self->app->config->name,
                 self->ran ? "start it again" : "put it back as it was", reason->message);
    say(self, said);
}

void
vr_failover_say_undone(VrFailover *self)
{
    say(self, NULL);
}

/* The code for what holds the hand-over up; NULL: it may just take its time. Without an answer the
 * target has lost what it knew, does not know us any more, or has been away for some time; with one
 * it cannot run the domain, which it says it does not give back. */
static const char *
stuck_code(const VrFailover *self, guint tries, const GError *reason)
{
    if (reason == NULL)
        return NULL;
    if (self->answered)
        return tries >= WAITS_TRIES ? "hand-over-waits" : NULL;
    if (g_error_matches(reason, VR_ERROR, VR_ERROR_NOT_FOUND) ||
        g_error_matches(reason, VR_ERROR, VR_ERROR_AUTH) ||
        (vr_error_is_peer_away(reason) && tries >= UNANSWERED_TRIES))
        return "hand-over-unanswered";
    return NULL;
}

static GError *
stuck_error(const VrFailover *self, const char *code, const GError *reason)
{
    const char *peer = vr_peer_client_name(self->peer);
    g_autofree char *word = vr_shell_word(self->row->name);
    g_autofree char *action = NULL;
    GError *said = NULL;

    if (self->answered) {
        action =
            g_strdup_printf("Remove the cause on host '%s': it is tried again by itself.", peer);
        vr_set_error(&said, VR_ERROR_REFUSED, code, action,
                     "domain '%s' is off: it is handed over to host '%s', which cannot run it yet: "
                     "%s",
                     self->row->name, peer, reason->message);
        return said;
    }
    action = g_strdup_printf("Get host '%s' to answer, with its data (state.db, pairing): it is "
                             "asked on. If it is lost for good, or does not run the domain: "
                             "'virt-replica unprotect %s --force' here, then 'virsh start %s'.",
                             peer, word, word);
    vr_set_error(&said, VR_ERROR_REFUSED, code, action,
                 "domain '%s' is off: it was to be handed over to host '%s', which does not say "
                 "whether it took it: %s",
                 self->row->name, peer, reason->message);
    return said;
}

void
vr_failover_note_stuck(VrFailover *self, guint tries, const GError *reason)
{
    const char *code = stuck_code(self, tries, reason);
    g_autoptr(GError) said = code != NULL ? stuck_error(self, code, reason) : NULL;

    if (g_strcmp0(code, self->stuck) == 0)
        return;
    self->stuck = code;
    say(self, said);
}
