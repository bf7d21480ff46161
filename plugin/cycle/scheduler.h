/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

#include "policies/policy.h"
#include "policies/slots.h"

G_BEGIN_DECLS

/**
 * SECTION: when the next cycle of each protected domain is due, the threads that run them, and the
 * slots that every cycle needs, scheduled or of a job (policies/slots.h says who is next).
 *
 * Keeps, on a monotonic clock, what is not worth a database row. Any thread.
 */
typedef struct _VrScheduler VrScheduler;

/** Runs one scheduled cycle of @uuid and reports it; blocks, in a thread of the scheduler. */
typedef void (*VrCycleFunc)(gpointer app, const char *uuid, GCancellable *cancel);

/** @max_transfers: cycles at once, at least 1. */
VrScheduler *vr_scheduler_new(guint max_transfers, VrCycleFunc func, gpointer app);
void vr_scheduler_start(VrScheduler *self);
/** Cancels cycles under way and waits for them. */
void vr_scheduler_stop(VrScheduler *self);
void vr_scheduler_free(VrScheduler *self);

/** @peer: fingerprint of whom it is replicated to; NULL: not known now. Known already: only the
 * policy's times and the peer change. The first cycle is due at once. */
void vr_scheduler_add(VrScheduler *self, const char *uuid, const char *peer,
                      const VrPolicy *policy);
/** A cycle under way is cancelled; returns when it has ended. */
void vr_scheduler_remove(VrScheduler *self, const char *uuid);
/** The same, but what is known of it stays, its retries and its last hour as well; none is started
 * until each suspend has got its resume, also one that becomes known meanwhile. */
void vr_scheduler_suspend(VrScheduler *self, const char *uuid);
void vr_scheduler_resume(VrScheduler *self, const char *uuid);
/** For a cycle under way: its protection leaves the schedule when it ends. Not known is fine. */
void vr_scheduler_leave(VrScheduler *self, const char *uuid);
/** The cause of a failure may be gone, a domain that was shut off may have started: looked at
 * again, also if a cycle is under way that may not have seen it. @uuid NULL: all. */
void vr_scheduler_kick(VrScheduler *self, const char *uuid);

typedef struct {
    const GError *error;     /* nullable: why it failed */
    gint64 point_us;         /* monotonic time of the RP's instant */
    gboolean scheduled;      /* not a job's: what a job's cycle fails with delays no other */
    gboolean app_consistent; /* the RP */
    gboolean idle;           /* shut off with its last state on the replica: nothing is due until a
                                kick */
} VrCycleReport;

/** Every cycle that ends says so. */
void vr_scheduler_report(VrScheduler *self, const char *uuid, const VrCycleReport *report);

/**
 * vr_scheduler_slot_take:
 *
 * For a job's cycle of @uuid to @peer (a fingerprint); waits for its turn, also before
 * vr_scheduler_start() and behind vr_scheduler_stop(), when nobody gets one. Taken before and not
 * released is fine, it is the same slot. A scheduled cycle is started with a slot of its own.
 * Errors: CANCELLED.
 */
gboolean vr_scheduler_slot_take(VrScheduler *self, const char *uuid, const char *peer,
                                VrSlotClass class, GCancellable *cancel,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;
/** Having none is fine. */
void vr_scheduler_slot_release(VrScheduler *self, const char *uuid);
/** A scheduled cycle, in its thread, before it begins: what it has to do turns out to be of class
 * LONG. FALSE if too many of those run: it must return without a report, and is started again when
 * one may. (One that loses its tracking later goes on in the slot that it has.) */
gboolean vr_scheduler_slot_long(VrScheduler *self, const char *uuid) G_GNUC_WARN_UNUSED_RESULT;

typedef struct {
    gboolean known;
    gint64 next_due_us; /* wall, for people; 0: none */
    guint due_hour;     /* cycles that ended within the last hour */
    guint missed_hour;  /* of these, failed */
    gboolean idle, blocked;
    guint attempts;       /* scheduled cycles that failed in a row */
    gboolean quiesce_due; /* the policy's app-consistent interval has passed */
    gint64 app_age_us;    /* since the last app-consistent RP of this process; -1: none */
} VrScheduleInfo;
void vr_scheduler_info(VrScheduler *self, const char *uuid, VrScheduleInfo *ret_info);

/** The last cycle of this process that failed, also if one succeeded since. NULL: none.
 * (transfer full) */
GError *vr_scheduler_last_failure(VrScheduler *self, const char *uuid);

/** How late a scheduled cycle of the last minute began because others had all slots, by more than
 * its interval; 0: none. The host is overloaded then. */
gint64 vr_scheduler_late_us(VrScheduler *self);

G_END_DECLS
