/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: what the libvirt hook answers.
 *
 * It says no (1) only to `prepare` and `restore` of a domain that has a fence file, whatever the
 * state of that file, and to `prepare` of the canary. Everything else, above all `reconnect`, gets
 * 0: a failing `reconnect` kills a running guest. Nothing is ever printed on stdout, which libvirt
 * takes for new XML. No libvirt, no network; a few small files.
 */

/** A domain of this name exists only for a moment, to prove that libvirt calls the hook: the hook
 *  copies fence/canary.request to fence/canary.answer and refuses the start. */
#define VR_HOOK_CANARY_NAME "virt-replica-canary"
#define VR_HOOK_CANARY_REQUEST "canary.request"
#define VR_HOOK_CANARY_ANSWER "canary.answer"

/** So much of the domain's XML is looked at. */
#define VR_HOOK_XML_MAX (64 * 1024)

typedef struct {
    const char *fence_dir;
    const char *event_socket; /* datagrams "UUID OP NAME"; nobody there is fine */
} VrHookPaths;

/** @xml may be NULL. The text of the <uuid> that is a direct child of the root <domain>, in
 * canonical form, into
 *  @ret_uuid (37 bytes). FALSE if there is none before the XML ends or stops making sense. */
gboolean vr_hook_find_uuid(const char *xml, gsize length, char *ret_uuid);

/**
 * vr_hook_run:
 * @argv: @argc words: program, NAME, OP, SUBOP, EXTRA
 * @ret_message: (nullable): set to the sentence for stderr when the answer is 1
 *
 * Returns the exit status, 0 or 1.
 */
int vr_hook_run(const VrHookPaths *paths, int argc, const char *const *argv, const char *xml,
                gsize length, char **ret_message);

/** TRUE if the answer to @op can depend on the XML; otherwise stdin need not be read. */
gboolean vr_hook_needs_xml(const char *op);

G_END_DECLS
