/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: why libvirt does not call the hook, as far as can be seen from outside, and the one
 * command that mends it. Pure. */

typedef struct {
    const char *host;      /* name of this host; borrowed like all strings */
    const char *hook;      /* path of the hook */
    const char *fence_dir; /* where the hook must have answered */
    const char *service;   /* "libvirtd" or "virtqemud" */
    gboolean exists;
    gboolean executable;
    gboolean refused;        /* some hook did refuse the start */
    gint64 hook_changed_us;  /* wall; 0: unknown */
    gint64 service_since_us; /* wall; 0: unknown */
} VrFenceCauseFacts;

/** One sentence naming host, path and cause, and the command to run. Both (transfer full). */
void vr_fence_cause(const VrFenceCauseFacts *facts, char **ret_message, char **ret_action);

G_END_DECLS
