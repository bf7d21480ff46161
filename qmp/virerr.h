/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * vr_virerr_set:
 * @format: what was tried on which object: "domain 'x': cannot start"
 *
 * Translates this thread's last libvirt error, once, where the call was made:
 * NOT_FOUND "no-such-domain" / "no-such-checkpoint" / "no-such-network", CONFLICT "domain-busy"
 * (job lock, job or block job active), RESYNC_NEEDED "tracking-lost" (checkpoint inconsistent,
 * bitmap missing, broken or of another size), TRANSIENT "libvirt-unreachable" (connection broken),
 * REFUSED "hook-refused", "domain-state" and "libvirt-refused", AUTH "libvirt-denied", NO_SPACE
 * "host-no-space", otherwise INTERNAL "libvirt-error".
 */
void vr_virerr_set(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/** Resets the thread's last error; for failures that are looked at and ignored. */
void vr_virerr_ignore(void);

/** Makes libvirt quiet: errors are ours to log. Once, before threads start. */
void vr_virerr_init(void);

G_END_DECLS
