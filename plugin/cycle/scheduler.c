/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/scheduler.h"

#include "plugin/cycle/slot_table.h"
#include "policies/error.h"
#include "policies/hour.h"
#include "policies/retry.h"
#include "policies/schedule.h"
#include "storage/util/file_util.h"

#define CANCEL_POLL_US (100 * G_TIME_SPAN_MILLISECOND)
#define LATE_US (5 * G_TIME_SPAN_SECOND)     /* later than that, and than its interval: overload */
#define OVERLOAD_US (1 * G_TIME_SPAN_MINUTE) /* that long after the last late cycle */

typedef struct {
    char *uuid;       /* owned */
    VrSlotPeer *peer; /* borrowed: the table's */
    VrScheduleInput input;
    VrRetry retry;
    gint64 app_interval_us, app_last_us; /* monotonic, 0: never */
    gboolean idle, removed;
    gboolean is_long;       /* its next cycle was found to be one of class LONG */
    gboolean job_failed;    /* the last cycle was a job's and failed */
    gboolean kicked;        /* since its last cycle was started: what that cycle saw may be over */
    GCancellable *cancel;   /* owned; of the cycle under way */
    gint64 start_before_us; /* input.last_start_us before a job's cycle changed it */
    gint64 free_us;         /* since when nothing but the slots kept it from being started */
    GError *failure;        /* owned, nullable: the last one; also before a success */
    gboolean has_slot;      /* of class `slot`: that cycle's */
    VrSlotClass slot;
    VrHour history;
} Entry;

/* Somebody in vr_scheduler_slot_take(). */
typedef struct {
    const char *uuid; /* borrowed */
    VrSlotPeer *peer; /* borrowed */
    VrSlotClass class;
    gint64 since_us;
    gboolean granted;
} Waiter;

/*
 * Only the scheduler's thread gives slots away: to waiters, or to a scheduled cycle that it starts
 * with one. Whatever may change its choice broadcasts `changed`.
 */
struct _VrScheduler {
    VrCycleFunc func;
    gpointer app;      /* borrowed */
    GThread *thread;   /* owned */
    GThreadPool *pool; /* owned */

    GMutex lock; /* guards what follows and every Entry */
    GCond changed;
    GPtrArray *entries;    /* owned: Entry */
    GPtrArray *waiters;    /* owned, of borrowed Waiter */
    GHashTable *suspended; /* owned: uuid -> how many want no cycle of it now, known here or not */
    VrSlotTable *slots;    /* owned */
    guint running;         /* scheduled cycles */
    gint64 late_us;        /* by how much a cycle was late that had to wait for a slot */
    gint64 late_at_us;     /* when that was */
    gboolean stopping;
};

static void
entry_free(gpointer data)
{
    Entry *entry = data;

    g_clear_object(&entry->cancel);
    g_clear_error(&entry->failure);
    g_free(entry->uuid);
    g_free(entry);
}

static Entry *
find(VrScheduler *self, const char *uuid)
{
    for (guint i = 0; i < self->entries->len; i++) {
        Entry *entry = g_ptr_array_index(self->entries, i);

        if (g_str_equal(entry->uuid, uuid))
            return entry;
    }
    return NULL;
}

static guint32
random32(void)
{
    guint32 value;

    vr_random_bytes((guint8 *) &value, sizeof value);
    return value;
}

/* A cycle that neither succeeded nor failed (cancelled, or not its turn) leaves a retry that is due
 * as it was. */
static void
keep_distance(Entry *entry)
{
    gint64 now = g_get_monotonic_time();

    if (entry->kicked || entry->retry.failures == 0 || entry->retry.blocked ||
        entry->retry.due_us > now)
        return;
    entry->retry.due_us = now + entry->input.interval_us;
    entry->input.retry_at_us = vr_retry_due(&entry->retry);
}

static void
remove_entry(VrScheduler *self, Entry *entry)
{
    vr_slot_table_move(self->slots, &entry->peer, NULL);
    g_ptr_array_remove_fast(self->entries, entry);
    g_cond_broadcast(&self->changed);
}

static VrSlotWaiter
entry_waiter(VrScheduler *self, const Entry *entry, gint64 now)
{
    return vr_slot_table_waiter(self->slots, entry->peer,
                                entry->is_long ? VR_SLOT_LONG : VR_SLOT_SCHEDULED, now);
}

static void
take_entry_slot(VrScheduler *self, Entry *entry, VrSlotClass class)
{
    vr_slot_table_use(self->slots, entry->peer, class);
    entry->slot = class;
    entry->has_slot = TRUE;
}

static void
free_entry_slot(VrScheduler *self, Entry *entry)
{
    if (entry->has_slot)
        vr_slot_table_free_one(self->slots, entry->peer, entry->slot);
    entry->has_slot = FALSE;
    g_cond_broadcast(&self->changed);
}

static void
run_cycle(gpointer data, gpointer user_data)
{
    VrScheduler *self = user_data;
    Entry *entry = data; /* stays until input.running is FALSE again */

    self->func(self->app, entry->uuid, entry->cancel);

    g_mutex_lock(&self->lock);
    keep_distance(entry);
    entry->free_us = g_get_monotonic_time();
    entry->input.running = FALSE;
    free_entry_slot(self, entry);
    self->running--;
    g_clear_object(&entry->cancel);
    if (entry->removed)
        remove_entry(self, entry);
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

VrScheduler *
vr_scheduler_new(guint max_transfers, VrCycleFunc func, gpointer app)
{
    VrScheduler *self = g_new0(VrScheduler, 1);

    self->func = func;
    self->app = app;
    self->slots = vr_slot_table_new(max_transfers);
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->entries = g_ptr_array_new_with_free_func(entry_free);
    self->waiters = g_ptr_array_new();
    self->suspended = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->pool = g_thread_pool_new(run_cycle, self, (gint) max_transfers, FALSE, NULL);
    return self;
}

/* A job's cycle of it runs, or is about to. */
static gboolean
has_or_awaits_slot(VrScheduler *self, const char *uuid)
{
    for (guint i = 0; i < self->waiters->len; i++) {
        if (g_str_equal(((Waiter *) g_ptr_array_index(self->waiters, i))->uuid, uuid))
            return TRUE;
    }
    return vr_slot_table_has(self->slots, uuid);
}

static gboolean
is_suspended(VrScheduler *self, const char *uuid)
{
    return g_hash_table_contains(self->suspended, uuid);
}

/* NULL if none is due, and when one will be. */
static Entry *
next_due(VrScheduler *self, gint64 now, gint64 *ret_wake)
{
    g_autofree VrScheduleInput *inputs = g_new0(VrScheduleInput, self->entries->len);
    guint picked;

    for (guint i = 0; i < self->entries->len; i++) {
        Entry *entry = g_ptr_array_index(self->entries, i);
        VrSlotWaiter waiter = entry_waiter(self, entry, now);

        inputs[i] = entry->input;
        inputs[i].paused = entry->idle || entry->removed || is_suspended(self, entry->uuid) ||
                           !vr_slots_admit(vr_slot_table_slots(self->slots), &waiter);
        if (!inputs[i].running)
            inputs[i].running = has_or_awaits_slot(self, entry->uuid);
    }
    *ret_wake = VR_SCHEDULE_NEVER;
    if (!vr_schedule_pick(inputs, self->entries->len, now, &picked, ret_wake))
        return NULL;
    return g_ptr_array_index(self->entries, picked);
}

/* Only what waited for a slot tells of load: not what was paused, held, or waited for its retry. */
static void
note_late(VrScheduler *self, const Entry *entry, gint64 now)
{
    gint64 since = MAX(vr_schedule_next_due(&entry->input, now), entry->free_us);

    if (now - since <= MAX(LATE_US, entry->input.interval_us))
        return;
    self->late_us = now - since;
    self->late_at_us = now;
}

static void
start_cycle(VrScheduler *self, Entry *entry, gint64 now)
{
    note_late(self, entry, now);
    take_entry_slot(self, entry, entry->is_long ? VR_SLOT_LONG : VR_SLOT_SCHEDULED);
    entry->input.running = TRUE;
    entry->input.last_start_us = now;
    entry->kicked = FALSE;
    entry->cancel = g_cancellable_new();
    self->running++;
    g_thread_pool_push(self->pool, entry, NULL);
}

static void
grant(VrScheduler *self, guint index, gint64 now)
{
    Waiter *waiter = g_ptr_array_index(self->waiters, index);
    Entry *entry = find(self, waiter->uuid);

    vr_slot_table_take(self->slots, waiter->uuid, waiter->peer, waiter->class);
    waiter->granted = TRUE;
    g_ptr_array_remove_index(self->waiters, index); /* the others stay in order */
    if (entry != NULL) {
        entry->start_before_us = entry->input.last_start_us;
        entry->input.last_start_us = now;
    }
    g_cond_broadcast(&self->changed);
}

/* Lock held. Gives one slot away; FALSE if nobody may have one, and when to look again. */
static gboolean
give_one(VrScheduler *self, gint64 *ret_wake)
{
    guint n = self->waiters->len;
    g_autofree VrSlotWaiter *waiters = g_new(VrSlotWaiter, n + 1);
    gint64 now = g_get_monotonic_time();
    Entry *due = next_due(self, now, ret_wake);
    guint picked;

    for (guint i = 0; i < n; i++) {
        const Waiter *waiter = g_ptr_array_index(self->waiters, i);

        waiters[i] =
            vr_slot_table_waiter(self->slots, waiter->peer, waiter->class, waiter->since_us);
    }
    if (due != NULL)
        waiters[n] = entry_waiter(self, due, vr_schedule_next_due(&due->input, now));
    if (!vr_slots_pick(vr_slot_table_slots(self->slots), waiters, due != NULL ? n + 1 : n, now,
                       &picked))
        return FALSE;
    if (picked < n)
        grant(self, picked, now);
    else if (due != NULL)
        start_cycle(self, due, now);
    return TRUE;
}

static gpointer
scheduler_thread(gpointer data)
{
    VrScheduler *self = data;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    while (!self->stopping) {
        gint64 wake;

        if (give_one(self, &wake))
            continue;
        if (wake == VR_SCHEDULE_NEVER)
            g_cond_wait(&self->changed, &self->lock);
        else
            (void) g_cond_wait_until(&self->changed, &self->lock, wake);
    }
    return NULL;
}

void
vr_scheduler_start(VrScheduler *self)
{
    self->thread = g_thread_new("scheduler", scheduler_thread, self);
}

void
vr_scheduler_stop(VrScheduler *self)
{
    g_mutex_lock(&self->lock);
    self->stopping = TRUE;
    for (guint i = 0; i < self->entries->len; i++) {
        Entry *entry = g_ptr_array_index(self->entries, i);

        if (entry->cancel != NULL)
            g_cancellable_cancel(entry->cancel);
    }
    g_cond_broadcast(&self->changed);
    while (self->running > 0)
        g_cond_wait(&self->changed, &self->lock);
    g_mutex_unlock(&self->lock);
    g_clear_pointer(&self->thread, g_thread_join);
}

void
vr_scheduler_free(VrScheduler *self)
{
    if (self == NULL)
        return;
    g_thread_pool_free(self->pool, FALSE, TRUE);
    g_ptr_array_unref(self->entries);
    g_ptr_array_unref(self->waiters);
    g_hash_table_unref(self->suspended);
    vr_slot_table_free(self->slots);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_free(self);
}

void
vr_scheduler_add(VrScheduler *self, const char *uuid, const char *peer, const VrPolicy *policy)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = find(self, uuid);

    if (entry == NULL) {
        entry = g_new0(Entry, 1);
        entry->uuid = g_strdup(uuid);
        entry->input.known_us = entry->free_us = g_get_monotonic_time();
        entry->input.last_start_us = entry->start_before_us = VR_SCHEDULE_UNKNOWN;
        entry->input.last_point_us = VR_SCHEDULE_UNKNOWN;
        entry->input.retry_at_us = VR_SCHEDULE_UNKNOWN;
        g_ptr_array_add(self->entries, entry);
    }
    if (entry->peer == NULL || (peer != NULL && !entry->has_slot))
        vr_slot_table_move(self->slots, &entry->peer, vr_slot_table_peer(self->slots, peer));
    entry->removed = FALSE;
    entry->input.interval_us = policy->interval_us;
    entry->input.rpo_target_us = policy->rpo_target_us;
    entry->app_interval_us = policy->app_consistent_us;
    g_cond_broadcast(&self->changed);
}

void
vr_scheduler_remove(VrScheduler *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = find(self, uuid);

    if (entry == NULL)
        return;
    entry->removed = TRUE;
    if (entry->cancel != NULL)
        g_cancellable_cancel(entry->cancel);
    if (!entry->input.running)
        remove_entry(self, entry);
    while (find(self, uuid) != NULL && find(self, uuid)->removed)
        g_cond_wait(&self->changed, &self->lock);
}

/* What is changed meanwhile may be what it was found idle for. */
void
vr_scheduler_suspend(VrScheduler *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = find(self, uuid);
    guint count = GPOINTER_TO_UINT(g_hash_table_lookup(self->suspended, uuid));

    g_hash_table_insert(self->suspended, g_strdup(uuid), GUINT_TO_POINTER(count + 1));
    if (entry == NULL)
        return;
    entry->idle = FALSE;
    if (entry->cancel != NULL)
        g_cancellable_cancel(entry->cancel);
    while ((entry = find(self, uuid)) != NULL && entry->input.running)
        g_cond_wait(&self->changed, &self->lock);
}

void
vr_scheduler_resume(VrScheduler *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    guint count = GPOINTER_TO_UINT(g_hash_table_lookup(self->suspended, uuid));
    Entry *entry = find(self, uuid);

    g_return_if_fail(count > 0);
    if (count > 1)
        g_hash_table_insert(self->suspended, g_strdup(uuid), GUINT_TO_POINTER(count - 1));
    else
        g_hash_table_remove(self->suspended, uuid);
    if (entry != NULL)
        entry->free_us = g_get_monotonic_time();
    g_cond_broadcast(&self->changed);
}

void
vr_scheduler_leave(VrScheduler *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = find(self, uuid);

    if (entry != NULL)
        entry->removed = TRUE;
}

void
vr_scheduler_kick(VrScheduler *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gint64 now = g_get_monotonic_time();

    for (guint i = 0; i < self->entries->len; i++) {
        Entry *entry = g_ptr_array_index(self->entries, i);

        if (uuid != NULL && !g_str_equal(entry->uuid, uuid))
            continue;
        entry->idle = FALSE;
        entry->kicked = TRUE;
        entry->free_us = now;
        if (entry->retry.failures > 0)
            vr_retry_cause_gone(&entry->retry, now);
        if (entry->retry.failures > 0 || entry->job_failed)
            entry->input.retry_at_us = now;
    }
    g_cond_broadcast(&self->changed);
}

gboolean
vr_scheduler_slot_take(VrScheduler *self, const char *uuid, const char *peer, VrSlotClass class,
                       GCancellable *cancel, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Waiter waiter = {uuid, vr_slot_table_peer(self->slots, peer), class, g_get_monotonic_time(),
                     FALSE};

    if (vr_slot_table_has(self->slots, uuid))
        return TRUE;
    g_ptr_array_add(self->waiters, &waiter);
    g_cond_broadcast(&self->changed);
    while (!waiter.granted && !g_cancellable_is_cancelled(cancel))
        (void) g_cond_wait_until(&self->changed, &self->lock,
                                 g_get_monotonic_time() + CANCEL_POLL_US);
    if (waiter.granted)
        return TRUE;
    g_ptr_array_remove(self->waiters, &waiter);
    g_cond_broadcast(&self->changed);
    vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL,
                 "cancelled while it waited for other transfers (max-transfers is %u)",
                 vr_slot_table_slots(self->slots)->max);
    return FALSE;
}

void
vr_scheduler_slot_release(VrScheduler *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    if (vr_slot_table_give_back(self->slots, uuid))
        g_cond_broadcast(&self->changed);
}

gboolean
vr_scheduler_slot_long(VrScheduler *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = find(self, uuid);
    VrSlotWaiter waiter;

    if (entry == NULL || !entry->has_slot)
        return FALSE;
    if (entry->slot == VR_SLOT_LONG)
        return TRUE;
    free_entry_slot(self, entry);
    waiter = vr_slot_table_waiter(self->slots, entry->peer, VR_SLOT_LONG, 0);
    if (vr_slots_admit(vr_slot_table_slots(self->slots), &waiter)) {
        take_entry_slot(self, entry, VR_SLOT_LONG);
        return TRUE;
    }
    entry->is_long = TRUE;
    entry->input.known_us = g_get_monotonic_time();
    entry->input.last_start_us = VR_SCHEDULE_UNKNOWN;
    return FALSE;
}

static void
report_success(Entry *entry, const VrCycleReport *report, gint64 now)
{
    vr_retry_reset(&entry->retry);
    entry->input.last_point_us = MIN(report->point_us, now);
    entry->input.last_duration_us = now - entry->input.last_point_us;
    if (report->app_consistent)
        entry->app_last_us = now;
}

/* Of a job's cycle the schedule learns nothing: its next cycle comes when it would have come. */
static void
report_failure(Entry *entry, const VrCycleReport *report, gint64 now)
{
    if (!g_error_matches(report->error, VR_ERROR, VR_ERROR_CANCELLED)) {
        g_clear_error(&entry->failure);
        entry->failure = g_error_copy(report->error);
    }
    if (!report->scheduled) {
        entry->input.last_start_us = entry->start_before_us;
        entry->job_failed = TRUE;
        return;
    }
    vr_retry_failed(&entry->retry, report->error, now, random32());
    if (entry->kicked && entry->retry.failures > 0)
        vr_retry_cause_gone(&entry->retry, now);
}

void
vr_scheduler_report(VrScheduler *self, const char *uuid, const VrCycleReport *report)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = find(self, uuid);
    gint64 now = g_get_monotonic_time();

    if (entry == NULL)
        return;
    entry->is_long = entry->job_failed = FALSE;
    vr_hour_count(&entry->history, now, report->error != NULL);
    if (report->error == NULL)
        report_success(entry, report, now);
    else
        report_failure(entry, report, now);
    entry->input.retry_at_us = vr_retry_due(&entry->retry);
    entry->idle = report->idle && !entry->kicked;
    g_cond_broadcast(&self->changed);
}

static gint64
to_wall(gint64 monotonic_us)
{
    return g_get_real_time() + (monotonic_us - g_get_monotonic_time());
}

void
vr_scheduler_info(VrScheduler *self, const char *uuid, VrScheduleInfo *ret_info)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gint64 now = g_get_monotonic_time();
    Entry *entry = find(self, uuid);
    VrScheduleInput input;
    gint64 due;

    *ret_info = (VrScheduleInfo){.app_age_us = -1};
    if (entry == NULL)
        return;
    input = entry->input;
    input.running = FALSE; /* the one after the cycle that runs */
    due = entry->idle || is_suspended(self, uuid) ? VR_SCHEDULE_NEVER
                                                  : vr_schedule_next_due(&input, now);
    ret_info->known = TRUE;
    ret_info->next_due_us = due == VR_SCHEDULE_NEVER ? 0 : to_wall(MAX(due, now));
    ret_info->idle = entry->idle;
    ret_info->blocked = entry->retry.blocked;
    ret_info->attempts = entry->retry.failures;
    if (entry->app_last_us != 0)
        ret_info->app_age_us = now - entry->app_last_us;
    ret_info->quiesce_due =
        entry->app_interval_us > 0 &&
        (entry->app_last_us == 0 || now - entry->app_last_us >= entry->app_interval_us);
    vr_hour_sum(&entry->history, now, &ret_info->due_hour, &ret_info->missed_hour);
}

GError *
vr_scheduler_last_failure(VrScheduler *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    const Entry *entry = find(self, uuid);

    return entry != NULL && entry->failure != NULL ? g_error_copy(entry->failure) : NULL;
}

gint64
vr_scheduler_late_us(VrScheduler *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    return self->late_us > 0 && g_get_monotonic_time() - self->late_at_us < OVERLOAD_US
               ? self->late_us
               : 0;
}
