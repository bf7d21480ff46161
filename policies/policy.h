/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "policies/retention.h"
#include "policies/window.h"

G_BEGIN_DECLS

/** SECTION: a replication policy: one file, one group [policy]. Immutable once parsed. */

typedef enum {
    VR_COMPRESSION_AUTO, /* only while the link, not the CPU, is the limit */
    VR_COMPRESSION_ZSTD,
    VR_COMPRESSION_OFF,
} VrCompression;

typedef enum {
    VR_START_GUARD_NORMAL, /* peer cannot be asked: the domain may start */
    VR_START_GUARD_STRICT, /* after a host boot: only when ownership was confirmed */
} VrStartGuard;

typedef struct {
    VrWindow window;
    guint64 rate; /* bytes per second, 0 no limit */
} VrBandwidthWindow;

typedef struct {
    char *name;
    gint64 interval_us;
    gint64 rpo_target_us; /* when the file does not say: the larger of 2min and twice interval */
    VrRetentionRule keep;
    gint64 app_consistent_us; /* 0 off */
    gint64 freeze_timeout_us;
    guint compression;         /* VrCompression */
    guint64 bandwidth;         /* bytes per second, 0 no limit; outside of all windows */
    GArray *bandwidth_windows; /* VrBandwidthWindow, in the order of the file */
    VrWindow resync_window;
    gint64 initial_start_us;        /* wall clock; 0 now */
    guint start_guard;              /* VrStartGuard */
    gint64 commit_after_us;         /* 0 never */
    gboolean allow_remote_failover; /* the target may order a planned failover */
    gint64 verify_interval_us;      /* a stored layer is read back when it was not for so long */
    gint64 test_cleanup_after_us;
    guint scratch_limit_percent; /* of the disks' virtual size */
    gint64 shutdown_timeout_us;
} VrPolicy;

/** The built-in policy "default". */
VrPolicy *vr_policy_default(void);

/**
 * vr_policy_parse:
 * @name: a vr_name_valid() name
 * @file: for messages
 *
 * Errors: INVALID, with FILE:LINE where a line is to blame.
 */
VrPolicy *vr_policy_parse(const char *name, const char *file, const char *text, gsize length,
                          GError **error);

/** Every key with its effective value; parses back to an equal policy. (transfer full) */
char *vr_policy_to_text(const VrPolicy *self);

void vr_policy_free(VrPolicy *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPolicy, vr_policy_free)

/** The limit at this moment: of the first window that holds @local, else bandwidth. Bytes per
 *  second, 0 no limit. */
guint64 vr_policy_bandwidth_at(const VrPolicy *self, GDateTime *local);

G_END_DECLS
