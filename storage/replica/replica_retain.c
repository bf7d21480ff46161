/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "policies/error.h"
#include "policies/fault.h"
#include "storage/replica/replica_merge.h"

/* Which RPs go, and the turns in which they go: a merge gives way to whoever wants the layers. */

#define REDO_ALONE 20 /* passes */

static int
find_row(GPtrArray *rows, guint64 number, VrRpState state)
{
    for (guint i = 0; i + 1 < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];

        if (row->rp.number == number && row->state == state)
            return (int) i;
    }
    return -1;
}

static gboolean
redo_merge(VrReplica *self, guint64 number, GCancellable *cancel, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    int found = rows ? find_row(rows, number, VR_RP_RETIRING) : -1;

    return rows && (found < 0 || vr_merge_row(self, rows, (guint) found, cancel, error));
}

/* One that fails keeps none of the others waiting. */
gboolean
vr_replica_redo_merges(VrReplica *self, GCancellable *cancel, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    g_autoptr(GError) first = NULL;

    for (guint i = 0; rows && i + 1 < rows->len; i++) {
        const VrRpRow *row = rows->pdata[i];

        if (row->state == VR_RP_RETIRING && !g_cancellable_is_cancelled(cancel))
            (void) redo_merge(self, row->rp.number, cancel, first ? NULL : &first);
    }
    if (!first)
        return rows != NULL;
    g_propagate_error(error, g_steal_pointer(&first));
    return FALSE;
}

/* Never next to a merge that began and could not be finished. */
static gboolean
is_free(GPtrArray *rows, guint index)
{
    return ((const VrRpRow *) rows->pdata[index + 1])->state == VR_RP_LISTED &&
           (index == 0 || ((const VrRpRow *) rows->pdata[index - 1])->state == VR_RP_LISTED);
}

/* One RP, if it is still listed. */
static gboolean
drop_point(VrReplica *self, guint64 number, GCancellable *cancel, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;
    int found;

    if (g_cancellable_is_cancelled(cancel))
        return TRUE;
    rows = vr_state_rp_list(self->state, self->uuid, error);
    if (!rows)
        return FALSE;
    found = find_row(rows, number, VR_RP_LISTED);
    return found < 0 || !is_free(rows, (guint) found) ||
           vr_merge_row(self, rows, (guint) found, cancel, error);
}

static gint64
boot_clock_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (gint64) ts.tv_sec * G_USEC_PER_SEC + ts.tv_nsec / 1000;
}

/* As it is where the pass begins to drop: it judges by one clock. */
static void
read_clock(VrReplica *self, gint64 now_us, VrRetentionClock *ret_clock)
{
    *ret_clock = (VrRetentionClock){
        .have_last = self->clock_known,
        .last_wall_us = self->pass_wall_us,
        .last_boot_us = self->pass_boot_us,
        .now_wall_us = now_us,
        .now_boot_us = boot_clock_us(),
    };
    self->clock_known = TRUE;
    self->pass_wall_us = ret_clock->now_wall_us;
    self->pass_boot_us = ret_clock->now_boot_us;
}

static gboolean
select_points(VrReplica *self, const VrPolicy *policy, const VrRetentionClock *clock,
              VrRetentionResult *ret_result, GError **error)
{
    g_autoptr(GPtrArray) points = vr_replica_list(self, error);
    g_autofree VrRetentionPoint *given = points ? g_new0(VrRetentionPoint, points->len + 1) : NULL;

    if (!points)
        return FALSE;
    for (guint i = 0; i < points->len; i++) {
        const VrRecoveryPoint *rp = points->pdata[i];
        given[i] = (VrRetentionPoint){
            .number = rp->number, .time_us = rp->stored_us, .pinned = rp->pinned};
    }
    vr_retention_select(given, points->len, &policy->keep, clock, VR_REPLICA_LAYERS_MAX,
                        ret_result);
    return TRUE;
}

/* A merge that may have to give way to a user of the layers. */
typedef struct {
    GCancellable *cancel; /* owned */
    GCancellable *outer;  /* borrowed, nullable */
    gulong along;
} Turn;

static void
cancel_along(GCancellable *outer G_GNUC_UNUSED, gpointer inner)
{
    g_cancellable_cancel(inner);
}

static void
turn_begin(VrReplica *self, Turn *turn, GCancellable *outer)
{
    turn->outer = outer;
    turn->cancel = g_cancellable_new();
    turn->along =
        outer ? g_cancellable_connect(outer, G_CALLBACK(cancel_along), turn->cancel, NULL) : 0;
    vr_layer_gate_enter_merge(&self->layers, turn->cancel);
}

/* That it gave way is no error: it is done again at the next occasion. */
static gboolean
turn_end(VrReplica *self, Turn *turn, gboolean ok, GError *local, GError **error)
{
    gboolean gave_way =
        g_cancellable_is_cancelled(turn->cancel) && !g_cancellable_is_cancelled(turn->outer);

    vr_layer_gate_leave(&self->layers);
    if (turn->along)
        g_cancellable_disconnect(turn->outer, turn->along);
    g_object_unref(turn->cancel);
    if (ok)
        return TRUE;
    if (gave_way && g_error_matches(local, VR_ERROR, VR_ERROR_CANCELLED)) {
        g_atomic_int_set(&self->left_out, 1);
        g_error_free(local);
        return TRUE;
    }
    g_propagate_error(error, local);
    return FALSE;
}

gboolean
vr_replica_merges_left_out(VrReplica *self)
{
    return g_atomic_int_compare_and_exchange(&self->left_out, 1, 0);
}

gboolean
vr_replica_finish_merges(VrReplica *self, GCancellable *cancel, GError **error)
{
    GError *local = NULL;
    Turn turn;
    gboolean ok;

    turn_begin(self, &turn, cancel);
    ok = vr_replica_redo_merges(self, turn.cancel, &local);
    return turn_end(self, &turn, ok, local, error);
}

static gboolean
retain_select(VrReplica *self, const VrPolicy *policy, const VrRetentionClock *clock,
              GCancellable *cancel, VrRetentionResult *result, GError **error)
{
    GError *local = NULL;
    Turn turn;
    gboolean ok;

    turn_begin(self, &turn, cancel);
    ok = select_points(self, policy, clock, result, &local);
    return turn_end(self, &turn, ok, local, error);
}

static gboolean
retain_drop(VrReplica *self, guint64 number, GCancellable *cancel, GError **error)
{
    GError *local = NULL;
    Turn turn;
    gboolean ok;

    turn_begin(self, &turn, cancel);
    ok = drop_point(self, number, turn.cancel, &local);
    return turn_end(self, &turn, ok, local, error);
}

static gboolean
was_ended(VrReplica *self, GCancellable *cancel, GError **error)
{
    if (!g_cancellable_is_cancelled(cancel))
        return FALSE;
    g_clear_error(error);
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "retention of %s was ended",
                 self->uuid);
    return TRUE;
}

/* The first that began before, behind @after; 0: none. */
static gboolean
next_begun(VrReplica *self, guint64 after, guint64 *ret_number, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);

    *ret_number = 0;
    for (guint i = 0; rows && i + 1 < rows->len && *ret_number == 0; i++) {
        const VrRpRow *row = rows->pdata[i];

        if (row->state == VR_RP_RETIRING && row->rp.number > after)
            *ret_number = row->rp.number;
    }
    return rows != NULL;
}

static gboolean
retain_redo(VrReplica *self, guint64 number, GCancellable *cancel, GError **error)
{
    GError *local = NULL;
    Turn turn;
    gboolean ok;

    turn_begin(self, &turn, cancel);
    ok = redo_merge(self, number, turn.cancel, &local);
    return turn_end(self, &turn, ok, local, error);
}

/* One that fails keeps none of the others waiting. */
static gboolean
redo_next(VrReplica *self, guint64 number, VrRetainPass *pass, GCancellable *cancel, GError **error)
{
    pass->after = number;
    pass->more = TRUE;
    if (retain_redo(self, number, cancel, error))
        return TRUE;
    pass->failed = TRUE;
    if (was_ended(self, cancel, error))
        pass->more = FALSE;
    return FALSE;
}

/* The cause may be of all of them, as a full file system: for some passes nothing else is begun. */
static gboolean
may_drop(VrReplica *self, const VrRetainPass *pass)
{
    if (!pass->failed)
        self->redo_failures = 0;
    return !pass->failed || ++self->redo_failures > REDO_ALONE;
}

static gboolean
drop_next(VrReplica *self, const GArray *drop, VrRetainPass *pass, GCancellable *cancel,
          GError **error)
{
    guint i = 0;

    while (drop && i < drop->len && g_array_index(drop, guint64, i) <= pass->after)
        i++;
    if (!drop || i == drop->len)
        return vr_fault_point(VR_STEP_T8, error);
    pass->after = g_array_index(drop, guint64, i);
    if (!retain_drop(self, pass->after, cancel, error))
        return FALSE;
    pass->more = i + 1 < drop->len;
    return pass->more || vr_fault_point(VR_STEP_T8, error);
}

gboolean
vr_replica_retain(VrReplica *self, const VrPolicy *policy, gint64 now_us, VrRetainPass *pass,
                  GCancellable *cancel, GError **error)
{
    g_auto(VrRetentionResult) result = {0};
    guint64 begun = 0;

    pass->more = FALSE;
    if (was_ended(self, cancel, error) ||
        (!pass->dropping && !next_begun(self, pass->after, &begun, error)))
        return FALSE;
    if (begun > 0)
        return redo_next(self, begun, pass, cancel, error);
    if (!pass->dropping) {
        if (!may_drop(self, pass))
            return TRUE; /* each of those that failed has said why */
        pass->dropping = TRUE;
        pass->after = 0;
        read_clock(self, now_us, &pass->clock);
    }
    return retain_select(self, policy, &pass->clock, cancel, &result, error) &&
           drop_next(self, result.drop, pass, cancel, error);
}
