/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: which definition of each replica was found good since this daemon started, so that one
 * that does not change is judged once and not at each recovery point. One that could not be judged
 * (libvirt was away) is not in it, and is judged with the next. Any thread.
 */
typedef struct _VrCheckedDefinitions VrCheckedDefinitions;

VrCheckedDefinitions *vr_checked_definitions_new(void);
void vr_checked_definitions_free(VrCheckedDefinitions *self);

/** @disks, @attachments: names, NULL-terminated; they are judged with @xml. */
gboolean vr_checked_definitions_has(VrCheckedDefinitions *self, const char *uuid, const char *xml,
                                    const char *const *disks, const char *const *attachments);
/** It was found good; what was known of @uuid before is forgotten. */
void vr_checked_definitions_put(VrCheckedDefinitions *self, const char *uuid, const char *xml,
                                const char *const *disks, const char *const *attachments);
/** Its replica is gone. */
void vr_checked_definitions_forget(VrCheckedDefinitions *self, const char *uuid);

G_END_DECLS
