/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "policies/finding.h"

G_BEGIN_DECLS

/** SECTION: may this domain be protected (and failed over)? All findings of both hosts at once;
 * changes nothing. */

typedef struct {
    const char *domain; /* name or UUID */
    const char *peer;
    const char *store;          /* on the peer */
    const char *const *exclude; /* disk targets, NULL-terminated */
} VrCheckWanted;

typedef struct {
    char *uuid, *name;
    char *peer; /* fingerprint */
    gboolean autostart;
} VrCheckFacts;
void vr_check_facts_clear(VrCheckFacts *facts);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrCheckFacts, vr_check_facts_clear)

/**
 * vr_check_source:
 * @ret_facts: (nullable)
 *
 * Errors: NOT_FOUND (domain, peer), TRANSIENT (libvirt or peer not reachable): the check could not
 * be made.
 */
gboolean vr_check_source(VrApp *app, const VrCheckWanted *wanted, VrFindings *findings,
                         VrCheckFacts *ret_facts, GCancellable *cancel, GError **error);

/** The target's part, for a peer's request; its answer {"findings"}. */
JsonNode *vr_check_target(VrApp *app, const char *peer, JsonNode *request, GError **error);

/** [{"severity","code","message","action"}]. (transfer full) */
JsonArray *vr_findings_to_json(const VrFindings *findings);

/** The findings' errors as one error: REFUSED with the first one's code, message and action. FALSE
 * if there are any. */
gboolean vr_check_passed(const VrFindings *findings, const char *domain, GError **error);

G_END_DECLS
