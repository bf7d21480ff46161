/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/config.h"
#include "plugin/cycle/cycle_log.h"
#include "plugin/cycle/scheduler.h"
#include "plugin/fence.h"
#include "plugin/guard.h"
#include "plugin/identity.h"
#include "plugin/job/job.h"
#include "plugin/peer/checked_definitions.h"
#include "plugin/peer/peer_contact.h"
#include "plugin/peer/peer_pool.h"
#include "plugin/peer/peer_quota.h"
#include "plugin/peer/peer_reading.h"
#include "plugin/policy_files.h"
#include "plugin/replicas.h"
#include "qmp/conn.h"
#include "storage/state/state.h"

G_BEGIN_DECLS

typedef struct _VrOwnershipWatch VrOwnershipWatch; /* plugin/ownership_watch.h */

/** SECTION: the daemon's long-lived objects. Made and freed by main.c in this order; the pointers
 * do not change while any thread runs, each object has locks of its own. */
typedef struct {
    VrConfig *config;
    VrState *state;
    VrIdentity *identity;
    VrPolicyFiles *policies;
    VrFence *fence;
    VrGuards *guards;
    VrPeerPool *peers;
    VrPeerContact *contact;
    VrPeerQuota *quota;
    VrCheckedDefinitions *checked;
    VrPeerReading *reading;
    VrReplicas *replicas;
    VrConn *conn;
    VrCycleLog *cycles;
    VrScheduler *scheduler;
    VrJobs *jobs;
    VrOwnershipWatch *ownership;
    gint64 started_us; /* monotonic */
} VrApp;

/** STATE/manifests/<uuid>, not necessarily there. (transfer full) */
char *vr_app_manifest_dir(const VrApp *app, const char *uuid);

/** The protection of a domain given by UUID or name. Errors: NOT_FOUND "not-protected", INVALID
 * "ambiguous-name" with the UUIDs. */
VrProtection *vr_app_find_protection(VrApp *app, const char *domain, GError **error);

/** The same for what only the source can do: REFUSED "not-source" for a replica. After a failover
 * the state tells what is possible, on either side. */
VrProtection *vr_app_find_source(VrApp *app, const char *domain, GError **error);

/**
 * vr_app_set_state:
 *
 * The one place where a protection changes state: the transition table is asked, the row is read
 * again and written. REFUSED naming the present state. @row: (nullable): its state is updated as
 * well.
 */
gboolean vr_app_set_state(VrApp *app, const char *uuid, VrProtectionEvent event, VrProtection *row,
                          GError **error);

G_END_DECLS
