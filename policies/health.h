/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "policies/fence_rule.h"
#include "policies/protection_state.h"

G_BEGIN_DECLS

/** SECTION: the health of one protection: every reason that holds now, and the worst of them. Pure;
 *  the caller remembers since when each code has held. */

typedef enum {
    VR_HEALTH_OK,
    VR_HEALTH_WARNING,
    VR_HEALTH_CRITICAL,
} VrHealth;

#define VR_HEALTH_UNKNOWN (-1)

typedef struct {
    const char *domain; /* names for the sentences; borrowed during the call */
    const char *peer;
    const char *host;   /* this one */
    const char *store;  /* nullable */
    gboolean is_target; /* this host stores it; otherwise the peer does */

    VrProtectionState state;
    gint64 rpo_target_us;
    gint64 rpo_us;              /* age of the newest RP; UNKNOWN without one */
    guint cycles_due_hour;      /* in the last hour */
    guint cycles_missed_hour;   /* of these */
    gint64 app_interval_us;     /* 0: not asked for */
    gint64 app_age_us;          /* age of the newest app-consistent RP; UNKNOWN: none yet */
    gint64 protected_us;        /* time since the first RP */
    const GError *last_error;   /* nullable: of the last cycle, NULL after a success */
    guint attempts;             /* cycles that failed in a row */
    gint64 next_attempt_us;     /* wall; 0: none is planned */
    gboolean blocked;           /* no retries until somebody acts */
    const GError *past_failure; /* nullable: the last one within the hour, also before a success */
    gboolean at_work;           /* a job of it runs or waits */
    const GError *job_waits;    /* nullable: what that job waits for */
    const char *job_kind;       /* of that; static */
    const GError *policy_problem; /* nullable: why the file of its policy is not what holds */
    const GError *failover;       /* nullable: why the last failover failed, of the last day */
    gint64 failover_job;
    const char *libvirt_away; /* nullable: why this host's libvirt cannot be asked */
    const char *peer_silent;  /* nullable: why the other host cannot be asked */
    gint64 late_us;           /* by how much cycles of this host begin late; 0: they do not */
    gboolean resync_running;
    VrFenceState fence;        /* of this host */
    const char *fence_message; /* why it is not active; NULL: it is, or was not looked at yet */
    const char *fence_action;
    const char *record_message; /* nullable: what is wrong with this domain's fence record */
    const char *record_action;
    gint store_percent;     /* used, wherever the store is; UNKNOWN */
    gint cert_days;         /* until the first of both certificates expires; G_MAXINT: never */
    const char *two_owners; /* nullable: what the hosts say of each other, a sentence */
    const char *two_owners_action;
    gboolean idle_replicated; /* the domain is shut off and its last state is on the replica */
    gint64 kept_until_us;     /* wall; its source ended replication, it is dropped then; 0: no */

    const GError *replica_error; /* nullable: this host stores it and cannot use it */

    /* What is known of the stored replica not being what was proven. */
    const char *damaged_disk; /* nullable: the newest RP is fine as far as is known */
    guint64 damaged_rp;       /* number of the newest RP */
    guint64 damaged_chunks;   /* of that disk in it */
    guint damaged_older;      /* older RPs that are damaged */
} VrHealthInput;

typedef struct {
    VrHealth severity;
    const char *code; /* static, never renamed */
    char *message;    /* names object, host and cause */
    char *action;
    char *cause;            /* nullable: code of the error behind it */
    guint attempts;         /* what failed in a row; 0: nothing is tried */
    gint64 next_attempt_us; /* wall; 0: none is planned */
} VrHealthReason;

/** Whether a reason of that code holds since the last error was recorded. */
gboolean vr_health_since_error(const char *code);

/** "ok", "warning", "critical"; static. */
const char *vr_health_name(VrHealth health);

/** The worst severity. *ret_reasons: (transfer full) (element-type VrHealthReason), worst first,
 *  empty for OK; may be NULL. */
VrHealth vr_health_evaluate(const VrHealthInput *input, GPtrArray **ret_reasons);

G_END_DECLS
