/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <string.h>

#include "qmp/domain/domain_model.h"
#include "qmp/domain/host_caps.h"

/* VR_TEST_DATA is the absolute path of tests/data. */

static inline char *
read_data(const char *name)
{
    g_autofree char *path = g_build_filename(VR_TEST_DATA, "domain", name, NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    return text;
}

static inline VrDomainModel *
parse_text(const char *xml)
{
    g_autoptr(GError) error = NULL;
    VrDomainModel *model = vr_domain_model_parse(xml, strlen(xml), &error);

    g_assert_no_error(error);
    g_assert_nonnull(model);
    return model;
}

static inline VrDomainModel *
parse_data(const char *name)
{
    g_autofree char *xml = read_data(name);

    return parse_text(xml);
}

/* A domain with @os inside <os>, @devices inside <devices> and @more at the top level. */
static inline char *
small_domain(const char *os, const char *devices, const char *more)
{
    return g_strdup_printf("<domain type='qemu'><name>small</name>"
                           "<uuid>6a3f0d5e-8f5b-4f0e-9c55-3b1e6d0c9a09</uuid>"
                           "<memory unit='MiB'>64</memory><vcpu>1</vcpu>"
                           "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>%s</os>"
                           "<devices><disk type='file' device='disk'>"
                           "<driver name='qemu' type='qcow2'/><source file='/evil/vda.qcow2'/>"
                           "<target dev='vda' bus='virtio'/></disk>%s</devices>%s</domain>",
                           os, devices, more);
}

/* @details: "kvm", "qemu", or NULL for none */
static inline VrHostCaps *
load_caps(const char *details)
{
    g_autofree char *host = read_data("capabilities.xml");
    g_autofree char *name = details ? g_strdup_printf("domain-capabilities-%s.xml", details) : NULL;
    g_autofree char *domain = name ? read_data(name) : NULL;
    g_autoptr(GError) error = NULL;
    VrHostCaps *caps = vr_host_caps_parse(host, domain, &error);

    g_assert_no_error(error);
    return caps;
}

/* The first finding with @code, or NULL. */
static inline const VrFinding *
find_finding(const VrFindings *findings, const char *code)
{
    for (guint i = 0; i < vr_findings_count(findings); i++) {
        if (g_str_equal(vr_findings_get(findings, i)->code, code))
            return vr_findings_get(findings, i);
    }
    return NULL;
}

static inline void
assert_finding(const VrFindings *findings, const char *code, VrFindingSeverity severity)
{
    const VrFinding *finding = find_finding(findings, code);

    if (!finding)
        g_test_message("no finding '%s'", code);
    g_assert_nonnull(finding);
    g_assert_cmpint(finding->severity, ==, severity);
    g_assert_true(*finding->message && *finding->action);
}
