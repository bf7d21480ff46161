/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/step.h"

G_BEGIN_DECLS

/**
 * SECTION: named failure points.
 *
 * VR_FAULT="T5:kill,S7:delay=500,T2:errno=ENOSPC#3": comma-separated, one action a step:
 *   kill       SIGKILL to ourselves
 *   stop       SIGSTOP to ourselves, every time the step is passed
 *   delay=MS   sleep, every time
 *   errno=NAME the step fails with that errno (EIO, ENOSPC, ENOMEM, ECONNRESET, ETIMEDOUT)
 * "#N" fires on the Nth pass only (default for kill and errno: the first); "#*" on each one.
 */

/**
 * vr_fault_init:
 * @spec: (nullable): value of VR_FAULT
 *
 * Call once before threads start; tests may call it again between runs.
 * Errors: INVALID, naming the part not understood.
 */
gboolean vr_fault_init(const char *spec, GError **error);

/** The step is done: act if armed. FALSE with @error set only for errno faults. Any thread. */
gboolean vr_fault_point(VrStep step, GError **error);

/** How often an armed action has fired since vr_fault_init(). */
guint vr_fault_fired(void);

G_END_DECLS
