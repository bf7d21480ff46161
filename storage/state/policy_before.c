/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/state/policy_before.h"

#include <string.h>

#include "policies/policy.h"

gboolean
vr_policy_before_get(const VrProtection *row, VrRetentionBefore *ret_before, GError **error)
{
    g_autoptr(VrPolicy) policy = NULL;

    *ret_before = (VrRetentionBefore){.until_us = 0};
    if (row->policy_before == NULL)
        return TRUE;
    policy = vr_policy_parse("before", "longer policy of before", row->policy_before,
                             strlen(row->policy_before), error);
    if (policy == NULL)
        return FALSE;
    *ret_before =
        (VrRetentionBefore){.keep = policy->keep, .until_us = row->policy_before_until_us};
    return TRUE;
}

void
vr_policy_before_set(VrProtection *row, const VrRetentionBefore *before)
{
    g_autoptr(VrPolicy) policy = vr_policy_default();

    g_clear_pointer(&row->policy_before, g_free);
    row->policy_before_until_us = before->until_us;
    if (before->until_us == 0)
        return;
    policy->keep = before->keep;
    row->policy_before = vr_policy_to_text(policy);
}
