/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: the one error domain.
 *
 * A code names the reaction a caller can have; exit status (CLI), HTTP status and retry derive
 * from it, each in one table. Every error also carries a stable slug ("no-such-domain") for
 * programs and one next action for people. The message names the object and the cause.
 */
#define VR_ERROR (vr_error_quark())

typedef enum {
    VR_ERROR_INVALID,   /* bad input: argument, file, message. Exit 2 */
    VR_ERROR_NOT_FOUND, /* no such domain, RP, peer, policy, job. Exit 4 */
    VR_ERROR_REFUSED,   /* state or safety rule says no; nothing changed. Exit 5 */
    VR_ERROR_CONFLICT,  /* somebody else holds it now: job, lock, foreign backup. Exit 5, retry */
    VR_ERROR_TRANSIENT, /* network, timeout, busy: retry. Exit 1 */
    VR_ERROR_AUTH,      /* peer unknown, certificate or token wrong. Exit 7 */
    VR_ERROR_NO_SPACE,  /* store, scratch or state directory full. Exit 1 */
    VR_ERROR_RESYNC_NEEDED, /* tracking lost: compare everything. Exit 1, handled by the engine */
    VR_ERROR_CORRUPT,       /* stored data is not what was written. Exit 1, never retried */
    VR_ERROR_TIMEOUT,       /* waited long enough; the job goes on. Exit 3 */
    VR_ERROR_UNREACHABLE,   /* the daemon cannot be reached. Exit 6 */
    VR_ERROR_CANCELLED,     /* asked to stop. Exit 1 */
    VR_ERROR_INTERNAL,      /* a bug or an impossible answer. Exit 1 */
} VrError;

GQuark vr_error_quark(void);

/**
 * vr_set_error:
 * @error: (nullable) (out): as for g_set_error()
 * @slug: static string, lower-case words and dashes, never renamed once released
 * @action: (nullable): static or caller's string, copied: one imperative sentence
 */
void vr_set_error(GError **error, VrError code, const char *slug, const char *action,
                  const char *format, ...) G_GNUC_PRINTF(5, 6);

/** Like vr_set_error() for a value; (transfer full). */
GError *vr_error_new(VrError code, const char *slug, const char *action, const char *message);

/** The slug, or for an error of another domain "internal". Never NULL; valid while @error lives. */
const char *vr_error_slug(const GError *error);

/** The next action, or NULL. Valid while @error lives. */
const char *vr_error_action(const GError *error);

/** @errnum translated once, where the call was made: ENOSPC and EDQUOT are NO_SPACE, ENOENT is
 *  NOT_FOUND, no descriptors or memory TRANSIENT, the rest INTERNAL. The text of strerror() is
 * appended to the message. */
void vr_set_error_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

/** "invalid", "not-found", ... for the wire; and back (INTERNAL for an unknown name). */
const char *vr_error_code_name(VrError code);
VrError vr_error_code_from_name(const char *name);

int vr_error_exit_status(const GError *error);
int vr_error_http_status(const GError *error);

/** TRUE if the peer could not be reached, did not answer or was restarted meanwhile: when it
 * answers, try again at once. */
gboolean vr_error_is_peer_away(const GError *error);

typedef enum {
    VR_RETRY_AGAIN,   /* trying again later, unchanged, can succeed */
    VR_RETRY_UNSURE,  /* nobody knows: what is harmless to repeat, as a cycle, is repeated */
    VR_RETRY_BLOCKED, /* not before somebody acts, or the cause is seen to be gone */
    VR_RETRY_IGNORED, /* no failure: cancelled, or the engine resyncs by itself */
} VrRetryClass;

/** What the error means for another try (design.md section 6); the one table of it. An error of
 * another domain is UNSURE. */
VrRetryClass vr_error_retry_class(const GError *error);

/** vr_error_retry_class() is AGAIN. */
gboolean vr_error_is_transient(const GError *error);

G_END_DECLS
