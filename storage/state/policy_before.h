/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/retention.h"
#include "storage/state/state_protection.h"

G_BEGIN_DECLS

/** SECTION: the longer policy of before (policies/retention.h) in the columns of a protection. */

/** Errors: INVALID, the text in the row cannot be read. */
gboolean vr_policy_before_get(const VrProtection *row, VrRetentionBefore *ret_before,
                              GError **error);

/** Into the struct; the caller writes the row. */
void vr_policy_before_set(VrProtection *row, const VrRetentionBefore *before);

G_END_DECLS
