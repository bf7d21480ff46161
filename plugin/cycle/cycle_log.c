/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/cycle_log.h"

#include "policies/error.h"
#include "policies/units.h"
#include "storage/wire/error_json.h"

typedef enum { WAITING, RUNNING, COMPLETED, FAILED, CANCELLED } State;

typedef struct {
    State state;
    gboolean planned; /* kind is known */
    VrCycleKind kind;
    gint64 started_us; /* wall */
    gint64 began_us;   /* monotonic */
    gint64 ended_us;   /* monotonic */
    VrCopyProgress progress;
    GError *error; /* owned, nullable */
    guint64 number;
} Cycle;

typedef struct {
    gboolean has_current, has_last;
    const VrCopyProgress *watched; /* borrowed: of the current one */
    Cycle current, last;
} Entry;

struct _VrCycleLog {
    GMutex lock;         /* guards what follows */
    GHashTable *entries; /* owned: uuid (owned) -> Entry (owned) */
};

static void
entry_free(gpointer data)
{
    Entry *entry = data;

    g_clear_error(&entry->current.error);
    g_clear_error(&entry->last.error);
    g_free(entry);
}

VrCycleLog *
vr_cycle_log_new(void)
{
    VrCycleLog *self = g_new0(VrCycleLog, 1);

    g_mutex_init(&self->lock);
    self->entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, entry_free);
    return self;
}

void
vr_cycle_log_free(VrCycleLog *self)
{
    if (self == NULL)
        return;
    g_hash_table_unref(self->entries);
    g_mutex_clear(&self->lock);
    g_free(self);
}

/* Lock held. NULL if no cycle of it is under way. */
static Entry *
under_way(VrCycleLog *self, const char *uuid)
{
    Entry *entry = g_hash_table_lookup(self->entries, uuid);

    return entry != NULL && entry->has_current ? entry : NULL;
}

static void
start_clock(Cycle *cycle)
{
    cycle->started_us = g_get_real_time();
    cycle->began_us = g_get_monotonic_time();
}

void
vr_cycle_log_begin(VrCycleLog *self, const char *uuid, const VrCopyProgress *progress)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = g_hash_table_lookup(self->entries, uuid);

    if (entry == NULL) {
        entry = g_new0(Entry, 1);
        g_hash_table_insert(self->entries, g_strdup(uuid), entry);
    }
    entry->current = (Cycle){.state = WAITING};
    entry->has_current = TRUE;
    entry->watched = progress;
    start_clock(&entry->current);
}

void
vr_cycle_log_running(VrCycleLog *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = under_way(self, uuid);

    if (entry == NULL)
        return;
    entry->current.state = RUNNING;
    start_clock(&entry->current);
}

void
vr_cycle_log_kind(VrCycleLog *self, const char *uuid, VrCycleKind kind)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = under_way(self, uuid);

    if (entry == NULL)
        return;
    entry->current.planned = TRUE;
    entry->current.kind = kind;
}

static void
look(const VrCopyProgress *from, VrCopyProgress *to)
{
    to->total = __atomic_load_n(&from->total, __ATOMIC_RELAXED);
    to->done = __atomic_load_n(&from->done, __ATOMIC_RELAXED);
    to->read = __atomic_load_n(&from->read, __ATOMIC_RELAXED);
    to->sent = __atomic_load_n(&from->sent, __ATOMIC_RELAXED);
}

static State
state_of(const GError *error)
{
    if (error == NULL)
        return COMPLETED;
    return g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED) ? CANCELLED : FAILED;
}

void
vr_cycle_log_end(VrCycleLog *self, const char *uuid, const GError *error, guint64 number)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = under_way(self, uuid);

    if (entry == NULL)
        return;
    look(entry->watched, &entry->current.progress);
    entry->watched = NULL;
    entry->current.state = state_of(error);
    entry->current.ended_us = g_get_monotonic_time();
    entry->current.error = error != NULL ? g_error_copy(error) : NULL;
    entry->current.number = number;
    g_clear_error(&entry->last.error);
    entry->last = entry->current;
    entry->current = (Cycle){.state = WAITING};
    entry->has_last = TRUE;
    entry->has_current = FALSE;
}

void
vr_cycle_log_forget(VrCycleLog *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    g_hash_table_remove(self->entries, uuid);
}

static const char *
state_name(State state)
{
    switch (state) {
    case WAITING:
        return "waiting";
    case RUNNING:
        return "running";
    case COMPLETED:
        return "completed";
    case FAILED:
        return "failed";
    case CANCELLED:
        return "cancelled";
    }
    return "?";
}

static double
progress_of(const Cycle *cycle)
{
    if (cycle->state == COMPLETED)
        return 1;
    if (cycle->progress.total == 0)
        return 0;
    return (double) cycle->progress.done / (double) cycle->progress.total;
}

static JsonObject *
to_json(const Cycle *cycle)
{
    JsonObject *object = json_object_new();
    g_autofree char *started = vr_time_format(cycle->started_us);
    gint64 until = cycle->ended_us != 0 ? cycle->ended_us : g_get_monotonic_time();

    if (cycle->planned)
        json_object_set_string_member(object, "kind", vr_cycle_kind_name(cycle->kind));
    else
        json_object_set_null_member(object, "kind");
    json_object_set_string_member(object, "state", state_name(cycle->state));
    json_object_set_string_member(object, "started", started);
    json_object_set_double_member(object, "seconds",
                                  (double) (until - cycle->began_us) / G_USEC_PER_SEC);
    json_object_set_int_member(object, "bytes_read", (gint64) cycle->progress.read);
    json_object_set_int_member(object, "bytes_sent", (gint64) cycle->progress.sent);
    json_object_set_double_member(object, "progress", progress_of(cycle));
    if (cycle->error != NULL)
        json_object_set_object_member(object, "error", vr_error_to_json_object(cycle->error));
    else
        json_object_set_null_member(object, "error");
    if (cycle->number != 0)
        json_object_set_int_member(object, "rp", (gint64) cycle->number);
    else
        json_object_set_null_member(object, "rp");
    return object;
}

JsonObject *
vr_cycle_log_current(VrCycleLog *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = under_way(self, uuid);

    if (entry == NULL)
        return NULL;
    look(entry->watched, &entry->current.progress);
    return to_json(&entry->current);
}

JsonObject *
vr_cycle_log_last(VrCycleLog *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    Entry *entry = g_hash_table_lookup(self->entries, uuid);

    return entry != NULL && entry->has_last ? to_json(&entry->last) : NULL;
}
