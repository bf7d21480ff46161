/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/policy.h"
#include "storage/state/state_protection.h"

G_BEGIN_DECLS

/** SECTION: the policy that a source sent along, as it stands in the row of its target. */

/** (transfer full) Errors: INVALID, the text in the row cannot be read. */
VrPolicy *vr_source_policy(const VrProtection *row, GError **error);

/** Its verify-interval; that of the default policy where the text cannot be read. */
gint64 vr_source_policy_verify_us(const VrProtection *row);

G_END_DECLS
