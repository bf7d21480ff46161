/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: what a check found, for an operator to read.
 *
 * A warning says that something will differ on the other host; an error says that the operation
 * must not go on. Not an error of a call: a check that ran well can have many findings.
 */

typedef enum {
    VR_FINDING_WARNING,
    VR_FINDING_ERROR,
} VrFindingSeverity;

typedef struct {
    VrFindingSeverity severity;
    char *code;    /* "disk-is-raw": lower-case words and dashes, never renamed once released */
    char *message; /* one sentence naming object and cause */
    char *action;  /* one imperative sentence */
} VrFinding;

/* Kept of each severity; more are only counted, so that hostile input cannot fill memory. */
#define VR_FINDINGS_MAX 200

typedef struct _VrFindings VrFindings;

/** Not thread-safe: one thread at a time. */
VrFindings *vr_findings_new(void);
void vr_findings_free(VrFindings *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrFindings, vr_findings_free)

/**
 * vr_findings_add:
 * @self: (nullable): NULL drops the finding
 * @code: copied, as the other strings
 *
 * A finding with the same severity, code and message as an earlier one is not added again.
 */
void vr_findings_add(VrFindings *self, VrFindingSeverity severity, const char *code,
                     const char *action, const char *format, ...) G_GNUC_PRINTF(5, 6);

/** Adds copies of all of @other's findings. */
void vr_findings_merge(VrFindings *self, const VrFindings *other);

/** Number that can be read with vr_findings_get(), in the order in which they were added. */
guint vr_findings_count(const VrFindings *self);
const VrFinding *vr_findings_get(const VrFindings *self, guint i);

/** How many errors were added, those beyond VR_FINDINGS_MAX included. */
guint vr_findings_errors(const VrFindings *self);

/** "warning" or "error"; static. */
const char *vr_finding_severity_name(VrFindingSeverity severity);

G_END_DECLS
