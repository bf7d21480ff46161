/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/policy_watch.h"

#include <string.h>

#include "plugin/cycle/replicate.h"
#include "plugin/loop.h"

#define LOOK_US (G_TIME_SPAN_SECOND / 2)

struct _VrPolicyWatch {
    VrApp *app;   /* borrowed */
    VrLoop *loop; /* owned */
};

void
vr_policy_take_up(VrApp *app, const char *policy)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, NULL);

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);
        VrScheduleInfo info;

        vr_scheduler_info(app->scheduler, row->uuid, &info);
        if (row->role != VR_ROLE_SOURCE || !info.known || strcmp(row->policy, policy) != 0)
            continue;
        (void) vr_replicate_schedule(app, row, NULL);
        if (info.blocked)
            vr_scheduler_kick(app->scheduler, row->uuid);
    }
}

static void
look_at(VrApp *app, const char *policy)
{
    g_autoptr(GError) problem = NULL;

    if (!vr_policy_files_changed(app->policies, policy))
        return;
    problem = vr_policy_files_problem(app->policies, policy);
    vr_policy_take_up(app, policy);
    if (problem != NULL)
        g_warning("policy '%s': the change of its file is refused, what was in force stays so: %s",
                  policy, problem->message);
    else
        g_message("policy '%s': its file was changed and has taken hold", policy);
}

static void
watch(VrLoop *loop, gpointer data)
{
    VrPolicyWatch *self = data;

    while (!vr_loop_ends(loop)) {
        g_autoptr(GPtrArray) names = vr_state_protection_policies(self->app->state);

        for (guint i = 0; names != NULL && i < names->len; i++)
            look_at(self->app, g_ptr_array_index(names, i));
        (void) vr_loop_wait(loop, g_get_monotonic_time() + LOOK_US);
    }
}

VrPolicyWatch *
vr_policy_watch_start(VrApp *app)
{
    VrPolicyWatch *self = g_new0(VrPolicyWatch, 1);

    self->app = app;
    self->loop = vr_loop_start("policies", watch, self);
    return self;
}

void
vr_policy_watch_stop(VrPolicyWatch *self)
{
    if (self == NULL)
        return;
    vr_loop_stop(self->loop);
    g_free(self);
}
