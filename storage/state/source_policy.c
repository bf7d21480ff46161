/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/state/source_policy.h"

#include <string.h>

VrPolicy *
vr_source_policy(const VrProtection *row, GError **error)
{
    return vr_policy_parse(row->policy, "policy of the source", row->policy_text,
                           strlen(row->policy_text), error);
}

gint64
vr_source_policy_verify_us(const VrProtection *row)
{
    g_autoptr(VrPolicy) policy = vr_source_policy(row, NULL);

    if (policy == NULL)
        policy = vr_policy_default();
    return policy->verify_interval_us;
}
