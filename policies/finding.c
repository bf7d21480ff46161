/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/finding.h"

struct _VrFindings {
    GPtrArray *list; /* VrFinding, owned */
    guint kept[VR_FINDING_ERROR + 1];
    guint omitted[VR_FINDING_ERROR + 1];
};

static void
finding_free(gpointer data)
{
    VrFinding *finding = data;

    g_free(finding->code);
    g_free(finding->message);
    g_free(finding->action);
    g_free(finding);
}

VrFindings *
vr_findings_new(void)
{
    VrFindings *self = g_new0(VrFindings, 1);

    self->list = g_ptr_array_new_with_free_func(finding_free);
    return self;
}

void
vr_findings_free(VrFindings *self)
{
    if (!self)
        return;
    g_ptr_array_unref(self->list);
    g_free(self);
}

static gboolean
already_there(const VrFindings *self, const VrFinding *wanted)
{
    for (guint i = 0; i < self->list->len; i++) {
        const VrFinding *finding = vr_findings_get(self, i);

        if (finding->severity == wanted->severity && g_str_equal(finding->code, wanted->code) &&
            g_str_equal(finding->message, wanted->message))
            return TRUE;
    }
    return FALSE;
}

static void
take(VrFindings *self, VrFinding *finding)
{
    if (already_there(self, finding)) {
        finding_free(finding);
        return;
    }
    if (self->kept[finding->severity] >= VR_FINDINGS_MAX) {
        self->omitted[finding->severity]++;
        finding_free(finding);
        return;
    }
    self->kept[finding->severity]++;
    g_ptr_array_add(self->list, finding);
}

void
vr_findings_add(VrFindings *self, VrFindingSeverity severity, const char *code, const char *action,
                const char *format, ...)
{
    VrFinding *finding;
    va_list args;

    if (!self)
        return;
    finding = g_new0(VrFinding, 1);
    finding->severity = severity;
    finding->code = g_strdup(code);
    finding->action = g_strdup(action);
    va_start(args, format);
    finding->message = g_strdup_vprintf(format, args);
    va_end(args);
    take(self, finding);
}

void
vr_findings_merge(VrFindings *self, const VrFindings *other)
{
    for (guint i = 0; i < vr_findings_count(other); i++) {
        const VrFinding *from = vr_findings_get(other, i);

        vr_findings_add(self, from->severity, from->code, from->action, "%s", from->message);
    }
    for (guint i = 0; i < G_N_ELEMENTS(self->omitted); i++)
        self->omitted[i] += other->omitted[i];
}

guint
vr_findings_count(const VrFindings *self)
{
    return self->list->len;
}

const VrFinding *
vr_findings_get(const VrFindings *self, guint i)
{
    return g_ptr_array_index(self->list, i);
}

guint
vr_findings_errors(const VrFindings *self)
{
    return self->kept[VR_FINDING_ERROR] + self->omitted[VR_FINDING_ERROR];
}

const char *
vr_finding_severity_name(VrFindingSeverity severity)
{
    switch (severity) {
    case VR_FINDING_WARNING:
        return "warning";
    case VR_FINDING_ERROR:
        return "error";
    }
    return "error";
}
