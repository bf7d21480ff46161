/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/protection_state.h"

#include "policies/error.h"

#define OP(name) (1u << VR_OPERATION_##name)
#define OPS_REPLICATING                                                                            \
    (OP(CYCLE) | OP(SYNC) | OP(PAUSE) | OP(CHANGE) | OP(PLANNED_FAILOVER) | OP(UNPROTECT))

static const struct {
    const char *name;
    guint operations;
} states[VR_PROTECTION_STATE_LAST] = {
    [VR_PROTECTION_ENABLING] = {"enabling", OP(UNPROTECT)},
    [VR_PROTECTION_INITIAL] = {"initial",
                               OP(CYCLE) | OP(SYNC) | OP(PAUSE) | OP(CHANGE) | OP(UNPROTECT)},
    [VR_PROTECTION_PROTECTED] = {"protected", OPS_REPLICATING},
    [VR_PROTECTION_RESYNC_NEEDED] = {"resync-needed", OPS_REPLICATING},
    [VR_PROTECTION_RESYNC] = {"resync", OP(CYCLE) | OP(PAUSE) | OP(CHANGE) | OP(UNPROTECT)},
    [VR_PROTECTION_PAUSED] = {"paused", OP(RESUME) | OP(CHANGE) | OP(UNPROTECT)},
    /* One that did not end can be asked for again; it goes on where it was. */
    [VR_PROTECTION_FAILING_OVER] = {"failing-over", OP(PLANNED_FAILOVER)},
    [VR_PROTECTION_FAILED_OVER] = {"failed-over", OP(UNPROTECT)},
    [VR_PROTECTION_COMMITTED] = {"committed", OP(UNPROTECT)},
    [VR_PROTECTION_REVERSING] = {"reversing", 0},
    [VR_PROTECTION_DISABLING] = {"disabling", OP(UNPROTECT)},
};

static const char *const event_names[VR_EVENT_LAST] = {
    [VR_EVENT_CREATED] = "created",
    [VR_EVENT_INITIAL_DONE] = "initial-done",
    [VR_EVENT_TRACKING_LOST] = "tracking-lost",
    [VR_EVENT_RESYNC_STARTED] = "resync-started",
    [VR_EVENT_RESYNC_DONE] = "resync-done",
    [VR_EVENT_RESYNC_STOPPED] = "resync-stopped",
    [VR_EVENT_PAUSED] = "paused",
    [VR_EVENT_RESUMED] = "resumed",
    [VR_EVENT_RESUMED_INITIAL] = "resumed-initial",
    [VR_EVENT_FAILOVER_STARTED] = "failover-started",
    [VR_EVENT_FAILOVER_UNDONE] = "failover-undone",
    [VR_EVENT_FAILOVER_DONE] = "failover-done",
    [VR_EVENT_UNPROTECT_STARTED] = "unprotect-started",
    [VR_EVENT_FOUND_BEHIND] = "found-behind",
    [VR_EVENT_ABANDONED] = "abandoned",
};

static const char *const operation_names[VR_OPERATION_LAST] = {
    [VR_OPERATION_CYCLE] = "scheduled cycle",
    [VR_OPERATION_SYNC] = "sync",
    [VR_OPERATION_PAUSE] = "pause",
    [VR_OPERATION_RESUME] = "resume",
    [VR_OPERATION_CHANGE] = "change of policy or disks",
    [VR_OPERATION_PLANNED_FAILOVER] = "failover --planned",
    [VR_OPERATION_UNPROTECT] = "unprotect",
};

#define ROW(from, event, to)                                                                       \
    {                                                                                              \
        VR_PROTECTION_##from, VR_EVENT_##event, VR_PROTECTION_##to                                 \
    }

/* Rows of committed and reversing belong behind those of failed-over; until reversal exists nothing
 * leads into them. */
static const struct {
    VrProtectionState from;
    VrProtectionEvent event;
    VrProtectionState to;
} transitions[] = {
    ROW(ENABLING, CREATED, INITIAL),
    ROW(ENABLING, UNPROTECT_STARTED, DISABLING),

    ROW(INITIAL, INITIAL_DONE, PROTECTED),
    ROW(INITIAL, TRACKING_LOST, INITIAL),
    ROW(INITIAL, PAUSED, PAUSED),
    ROW(INITIAL, UNPROTECT_STARTED, DISABLING),

    ROW(PROTECTED, TRACKING_LOST, RESYNC_NEEDED),
    ROW(PROTECTED, PAUSED, PAUSED),
    ROW(PROTECTED, FAILOVER_STARTED, FAILING_OVER),
    ROW(PROTECTED, UNPROTECT_STARTED, DISABLING),

    ROW(RESYNC_NEEDED, TRACKING_LOST, RESYNC_NEEDED),
    ROW(RESYNC_NEEDED, RESYNC_STARTED, RESYNC),
    ROW(RESYNC_NEEDED, PAUSED, PAUSED),
    ROW(RESYNC_NEEDED, FAILOVER_STARTED, FAILING_OVER),
    ROW(RESYNC_NEEDED, UNPROTECT_STARTED, DISABLING),

    ROW(RESYNC, RESYNC_DONE, PROTECTED),
    ROW(RESYNC, RESYNC_STOPPED, RESYNC_NEEDED),
    ROW(RESYNC, TRACKING_LOST, RESYNC_NEEDED),
    ROW(RESYNC, PAUSED, PAUSED),
    ROW(RESYNC, UNPROTECT_STARTED, DISABLING),

    ROW(PAUSED, RESUMED, PROTECTED),
    ROW(PAUSED, RESUMED_INITIAL, INITIAL),
    ROW(PAUSED, TRACKING_LOST, PAUSED),
    ROW(PAUSED, UNPROTECT_STARTED, DISABLING),

    ROW(FAILING_OVER, FAILOVER_STARTED, FAILING_OVER),
    ROW(FAILING_OVER, FAILOVER_UNDONE, PROTECTED),
    ROW(FAILING_OVER, FAILOVER_DONE, FAILED_OVER),

    ROW(FAILED_OVER, UNPROTECT_STARTED, DISABLING),

    ROW(DISABLING, UNPROTECT_STARTED, DISABLING),

    /* A database from before the failover; one that fails over just now asks its own job. */
    ROW(ENABLING, FOUND_BEHIND, FAILED_OVER),
    ROW(INITIAL, FOUND_BEHIND, FAILED_OVER),
    ROW(PROTECTED, FOUND_BEHIND, FAILED_OVER),
    ROW(RESYNC_NEEDED, FOUND_BEHIND, FAILED_OVER),
    ROW(RESYNC, FOUND_BEHIND, FAILED_OVER),
    ROW(PAUSED, FOUND_BEHIND, FAILED_OVER),
    ROW(FAILED_OVER, FOUND_BEHIND, FAILED_OVER),

    ROW(ENABLING, ABANDONED, DISABLING),
    ROW(INITIAL, ABANDONED, DISABLING),
    ROW(PROTECTED, ABANDONED, DISABLING),
    ROW(RESYNC_NEEDED, ABANDONED, DISABLING),
    ROW(RESYNC, ABANDONED, DISABLING),
    ROW(PAUSED, ABANDONED, DISABLING),
    ROW(FAILING_OVER, ABANDONED, DISABLING),
    ROW(FAILED_OVER, ABANDONED, DISABLING),
    ROW(COMMITTED, ABANDONED, DISABLING),
    ROW(DISABLING, ABANDONED, DISABLING),
};

const char *
vr_protection_state_name(VrProtectionState state)
{
    g_return_val_if_fail(state < VR_PROTECTION_STATE_LAST, "?");
    return states[state].name;
}

gboolean
vr_protection_state_from_name(const char *name, VrProtectionState *ret_state)
{
    for (guint i = 0; i < VR_PROTECTION_STATE_LAST; i++) {
        if (g_strcmp0(states[i].name, name) == 0) {
            *ret_state = (VrProtectionState) i;
            return TRUE;
        }
    }
    return FALSE;
}

const char *
vr_protection_event_name(VrProtectionEvent event)
{
    g_return_val_if_fail(event < VR_EVENT_LAST, "?");
    return event_names[event];
}

const char *
vr_operation_name(VrOperation operation)
{
    g_return_val_if_fail(operation < VR_OPERATION_LAST, "?");
    return operation_names[operation];
}

static void
append_name(GString *list, const char *name)
{
    g_string_append_printf(list, "%s%s", list->len > 0 ? ", " : "", name);
}

gboolean
vr_protection_next(VrProtectionState state, VrProtectionEvent event, VrProtectionState *ret_state,
                   GError **error)
{
    g_autoptr(GString) legal = g_string_new(NULL);

    for (gsize i = 0; i < G_N_ELEMENTS(transitions); i++) {
        if (transitions[i].from != state)
            continue;
        if (transitions[i].event == event) {
            *ret_state = transitions[i].to;
            return TRUE;
        }
        append_name(legal, vr_protection_event_name(transitions[i].event));
    }
    vr_set_error(error, VR_ERROR_REFUSED, "wrong-state", NULL,
                 "'%s' cannot happen in state '%s'; it knows: %s", vr_protection_event_name(event),
                 vr_protection_state_name(state), legal->len > 0 ? legal->str : "nothing");
    return FALSE;
}

gboolean
vr_protection_admits(VrProtectionState state, VrOperation operation, GError **error)
{
    g_autoptr(GString) admitted = g_string_new(NULL);

    g_return_val_if_fail(state < VR_PROTECTION_STATE_LAST, FALSE);
    if (states[state].operations & (1u << operation))
        return TRUE;
    for (guint i = VR_OPERATION_SYNC; i < VR_OPERATION_LAST; i++) {
        if (states[state].operations & (1u << i))
            append_name(admitted, operation_names[i]);
    }
    vr_set_error(error, VR_ERROR_REFUSED, "wrong-state",
                 admitted->len > 0 ? "Choose one of the possible operations."
                                   : "Wait for the running job to end.",
                 "'%s' is not possible in state '%s'; possible: %s", vr_operation_name(operation),
                 states[state].name, admitted->len > 0 ? admitted->str : "nothing");
    return FALSE;
}
