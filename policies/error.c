/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policies/error.h"

#include <errno.h>
#include <string.h>

/* gcc cannot see that the accessor made by G_DEFINE_EXTENDED_ERROR() answers NULL for an error of
 * another domain only. */
#pragma GCC diagnostic ignored "-Wnull-dereference"

/* Slug and action travel inside the GError (GLib's extended errors), so prefixing, propagating
 * and copying it keep them. */
typedef struct {
    char *slug;   /* owned */
    char *action; /* owned, nullable */
} VrErrorPrivate;

static void
vr_error_private_init(VrErrorPrivate *priv)
{
    priv->slug = NULL;
    priv->action = NULL;
}

static void
vr_error_private_copy(const VrErrorPrivate *src, VrErrorPrivate *dest)
{
    dest->slug = g_strdup(src->slug);
    dest->action = g_strdup(src->action);
}

static void
vr_error_private_clear(VrErrorPrivate *priv)
{
    g_free(priv->slug);
    g_free(priv->action);
}

G_DEFINE_EXTENDED_ERROR(VrError, vr_error)

static const struct {
    const char *name;
    int exit_status;
    int http_status;
    VrRetryClass retry;
} codes[] = {
    [VR_ERROR_INVALID] = {"invalid", 2, 400, VR_RETRY_BLOCKED},
    [VR_ERROR_NOT_FOUND] = {"not-found", 4, 404, VR_RETRY_BLOCKED},
    [VR_ERROR_REFUSED] = {"refused", 5, 409, VR_RETRY_BLOCKED},
    [VR_ERROR_CONFLICT] = {"conflict", 5, 409, VR_RETRY_AGAIN},
    [VR_ERROR_TRANSIENT] = {"transient", 1, 503, VR_RETRY_AGAIN},
    [VR_ERROR_AUTH] = {"auth", 7, 403, VR_RETRY_BLOCKED},
    [VR_ERROR_NO_SPACE] = {"no-space", 1, 507, VR_RETRY_AGAIN},
    [VR_ERROR_RESYNC_NEEDED] = {"resync-needed", 1, 409, VR_RETRY_IGNORED},
    [VR_ERROR_CORRUPT] = {"corrupt", 1, 500, VR_RETRY_BLOCKED},
    [VR_ERROR_TIMEOUT] = {"timeout", 3, 504, VR_RETRY_AGAIN},
    [VR_ERROR_UNREACHABLE] = {"unreachable", 6, 502, VR_RETRY_AGAIN},
    [VR_ERROR_CANCELLED] = {"cancelled", 1, 409, VR_RETRY_IGNORED},
    [VR_ERROR_INTERNAL] = {"internal", 1, 500, VR_RETRY_UNSURE},
};

static VrError
code_of(const GError *error)
{
    if (error->domain != VR_ERROR || error->code < 0 || (gsize) error->code >= G_N_ELEMENTS(codes))
        return VR_ERROR_INTERNAL;
    return (VrError) error->code;
}

GError *
vr_error_new(VrError code, const char *slug, const char *action, const char *message)
{
    GError *error = g_error_new_literal(VR_ERROR, (int) code, message);
    VrErrorPrivate *priv = vr_error_get_private(error);

    priv->slug = g_strdup(slug);
    priv->action = g_strdup(action);
    return error;
}

void
vr_set_error(GError **error, VrError code, const char *slug, const char *action, const char *format,
             ...)
{
    g_autofree char *message = NULL;
    va_list args;

    if (!error)
        return;
    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    g_propagate_error(error, vr_error_new(code, slug, action, message));
}

const char *
vr_error_slug(const GError *error)
{
    VrErrorPrivate *priv = NULL;

    if (error->domain == VR_ERROR)
        priv = vr_error_get_private(error);
    return priv && priv->slug ? priv->slug : "internal";
}

const char *
vr_error_action(const GError *error)
{
    if (error->domain != VR_ERROR)
        return NULL;
    return vr_error_get_private(error)->action;
}

void
vr_set_error_errno(GError **error, int errnum, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    if (errnum == ENOSPC || errnum == EDQUOT)
        vr_set_error(error, VR_ERROR_NO_SPACE, "no-space", "Free space on that file system.",
                     "%s: %s", message, g_strerror(errnum));
    else if (errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM || errnum == EAGAIN)
        vr_set_error(error, VR_ERROR_TRANSIENT, "no-resources",
                     "Nothing to do if it passes: raise the limits of the service otherwise.",
                     "%s: %s", message, g_strerror(errnum));
    else if (errnum == ENOENT)
        vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-file", NULL, "%s: %s", message,
                     g_strerror(errnum));
    else
        vr_set_error(error, VR_ERROR_INTERNAL, "system-call-failed", NULL, "%s: %s", message,
                     g_strerror(errnum));
}

const char *
vr_error_code_name(VrError code)
{
    return (gsize) code < G_N_ELEMENTS(codes) ? codes[code].name : "internal";
}

VrError
vr_error_code_from_name(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(codes); i++) {
        if (g_strcmp0(codes[i].name, name) == 0)
            return (VrError) i;
    }
    return VR_ERROR_INTERNAL;
}

int
vr_error_exit_status(const GError *error)
{
    return codes[code_of(error)].exit_status;
}

int
vr_error_http_status(const GError *error)
{
    return codes[code_of(error)].http_status;
}

VrRetryClass
vr_error_retry_class(const GError *error)
{
    return codes[code_of(error)].retry;
}

gboolean
vr_error_is_transient(const GError *error)
{
    return vr_error_retry_class(error) == VR_RETRY_AGAIN;
}

gboolean
vr_error_is_peer_away(const GError *error)
{
    const char *slug = vr_error_slug(error);

    return strcmp(slug, "peer-unreachable") == 0 || strcmp(slug, "peer-timeout") == 0 ||
           strcmp(slug, "cycle-unknown") == 0;
}
