/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/fault.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "policies/error.h"

#define DELAY_MAX_MS (10 * 60 * 1000)

typedef enum {
    ACTION_NONE,
    ACTION_KILL,
    ACTION_STOP,
    ACTION_DELAY,
    ACTION_ERRNO,
} Action;

/* Everything but the pass count is written by vr_fault_init() only, before threads start. */
typedef struct {
    Action action;
    guint delay_ms;
    int errnum;
    guint on_pass; /* 0: every pass */
    gint passes;   /* atomic */
} Fault;

static Fault faults[VR_STEP_LAST];
static gint fired; /* atomic */

static const struct {
    const char *name;
    int errnum;
    VrError code;
} errnos[] = {
    {"EIO", EIO, VR_ERROR_INTERNAL},
    {"ENOSPC", ENOSPC, VR_ERROR_NO_SPACE},
    {"ENOMEM", ENOMEM, VR_ERROR_TRANSIENT},
    {"ECONNRESET", ECONNRESET, VR_ERROR_TRANSIENT},
    {"ETIMEDOUT", ETIMEDOUT, VR_ERROR_TRANSIENT},
};

static gboolean
parse_errno(const char *name, int *ret_errnum)
{
    for (gsize i = 0; i < G_N_ELEMENTS(errnos); i++) {
        if (strcmp(errnos[i].name, name) == 0) {
            *ret_errnum = errnos[i].errnum;
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean
parse_action(const char *text, Fault *fault)
{
    guint64 ms;

    if (strcmp(text, "kill") == 0) {
        fault->action = ACTION_KILL;
        fault->on_pass = 1;
        return TRUE;
    }
    if (strcmp(text, "stop") == 0) {
        fault->action = ACTION_STOP;
        return TRUE;
    }
    if (g_str_has_prefix(text, "delay=")) {
        if (!g_ascii_string_to_unsigned(text + strlen("delay="), 10, 0, DELAY_MAX_MS, &ms, NULL))
            return FALSE;
        fault->action = ACTION_DELAY;
        fault->delay_ms = (guint) ms;
        return TRUE;
    }
    if (g_str_has_prefix(text, "errno=")) {
        fault->action = ACTION_ERRNO;
        fault->on_pass = 1;
        return parse_errno(text + strlen("errno="), &fault->errnum);
    }
    return FALSE;
}

/* "#N" or "#*" behind the action. */
static gboolean
parse_pass(const char *text, Fault *fault)
{
    guint64 pass;

    if (strcmp(text, "*") == 0) {
        fault->on_pass = 0;
        return TRUE;
    }
    if (!g_ascii_string_to_unsigned(text, 10, 1, G_MAXINT, &pass, NULL))
        return FALSE;
    fault->on_pass = (guint) pass;
    return TRUE;
}

/* STEP:ACTION[#N] into @table. */
static gboolean
parse_part(const char *part, Fault *table)
{
    g_auto(GStrv) pass = g_strsplit(part, "#", 2);
    g_auto(GStrv) halves = pass[0] ? g_strsplit(pass[0], ":", 2) : NULL;
    Fault fault = {.action = ACTION_NONE};
    VrStep step;

    if (!halves || !halves[0] || !halves[1] || !vr_step_from_name(halves[0], &step))
        return FALSE;
    if (table[step].action != ACTION_NONE)
        return FALSE;
    if (!parse_action(halves[1], &fault))
        return FALSE;
    if (pass[1] && !parse_pass(pass[1], &fault))
        return FALSE;
    table[step] = fault;
    return TRUE;
}

gboolean
vr_fault_init(const char *spec, GError **error)
{
    Fault table[VR_STEP_LAST] = {{.action = ACTION_NONE}};
    g_auto(GStrv) parts = g_strsplit(spec ? spec : "", ",", -1);

    for (guint i = 0; parts[i]; i++) {
        if (!parse_part(parts[i], table)) {
            vr_set_error(error, VR_ERROR_INVALID, "bad-fault-spec",
                         "Write it as STEP:kill, STEP:stop, STEP:delay=MS or STEP:errno=NAME, "
                         "each step once, with #N or #* behind it.",
                         "VR_FAULT: '%s' is not understood", parts[i]);
            return FALSE;
        }
    }
    memcpy(faults, table, sizeof(faults));
    g_atomic_int_set(&fired, 0);
    return TRUE;
}

static gboolean
fail_with(VrStep step, int errnum, GError **error)
{
    VrError code = VR_ERROR_INTERNAL;

    for (gsize i = 0; i < G_N_ELEMENTS(errnos); i++) {
        if (errnos[i].errnum == errnum)
            code = errnos[i].code;
    }
    vr_set_error(error, code, "injected-fault", "Start without VR_FAULT.",
                 "step %s (%s): %s (injected)", vr_step_name(step), vr_step_title(step),
                 g_strerror(errnum));
    return FALSE;
}

gboolean
vr_fault_point(VrStep step, GError **error)
{
    Fault *fault;
    guint pass;

    g_return_val_if_fail(step < VR_STEP_LAST, TRUE);
    fault = &faults[step];
    if (fault->action == ACTION_NONE)
        return TRUE;
    pass = (guint) g_atomic_int_add(&fault->passes, 1) + 1;
    if (fault->on_pass != 0 && fault->on_pass != pass)
        return TRUE;
    g_atomic_int_inc(&fired);
    switch (fault->action) {
    case ACTION_NONE:
        return TRUE;
    case ACTION_KILL:
        kill(getpid(), SIGKILL);
        return TRUE;
    case ACTION_STOP:
        kill(getpid(), SIGSTOP);
        return TRUE;
    case ACTION_DELAY:
        g_usleep((gulong) fault->delay_ms * 1000);
        return TRUE;
    case ACTION_ERRNO:
        return fail_with(step, fault->errnum, error);
    }
    return TRUE;
}

guint
vr_fault_fired(void)
{
    return (guint) g_atomic_int_get(&fired);
}
