/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/finding.h"

static void
test_add(void)
{
    g_autoptr(VrFindings) findings = vr_findings_new();

    vr_findings_add(findings, VR_FINDING_WARNING, "w", "Do.", "disk '%s'", "vda");
    vr_findings_add(findings, VR_FINDING_WARNING, "w", "Do.", "disk '%s'", "vda");
    vr_findings_add(findings, VR_FINDING_ERROR, "e", "Do.", "disk '%s'", "vda");
    vr_findings_add(NULL, VR_FINDING_ERROR, "e", "Do.", "nobody");
    g_assert_cmpuint(vr_findings_count(findings), ==, 2);
    g_assert_cmpuint(vr_findings_errors(findings), ==, 1);
    g_assert_cmpstr(vr_findings_get(findings, 0)->message, ==, "disk 'vda'");
    g_assert_cmpstr(vr_findings_get(findings, 1)->code, ==, "e");
    g_assert_cmpstr(vr_findings_get(findings, 1)->action, ==, "Do.");
    g_assert_cmpstr(vr_finding_severity_name(VR_FINDING_WARNING), ==, "warning");
    g_assert_cmpstr(vr_finding_severity_name(VR_FINDING_ERROR), ==, "error");
}

/* A flood of warnings must not hide an error. */
static void
test_limit(void)
{
    g_autoptr(VrFindings) findings = vr_findings_new();
    g_autoptr(VrFindings) all = vr_findings_new();

    for (guint i = 0; i < VR_FINDINGS_MAX + 50; i++)
        vr_findings_add(findings, VR_FINDING_WARNING, "w", "Do.", "number %u", i);
    vr_findings_add(findings, VR_FINDING_ERROR, "e", "Do.", "last");
    g_assert_cmpuint(vr_findings_count(findings), ==, VR_FINDINGS_MAX + 1);
    g_assert_cmpstr(vr_findings_get(findings, VR_FINDINGS_MAX)->code, ==, "e");

    vr_findings_merge(all, findings);
    g_assert_cmpuint(vr_findings_count(all), ==, VR_FINDINGS_MAX + 1);
    g_assert_cmpuint(vr_findings_errors(all), ==, 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/finding/add", test_add);
    g_test_add_func("/finding/limit", test_limit);
    return g_test_run();
}
