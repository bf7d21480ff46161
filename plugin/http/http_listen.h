/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: listening sockets for http_server.c. Both return a descriptor, -1 with @error. */

/** A socket that somebody answers behind is left alone. Errors: CONFLICT "socket-in-use", INVALID,
 * INTERNAL. */
int vr_listen_unix(const char *path, const char *group, GError **error);

/** @ret_port: the port bound. Errors: CONFLICT "address-in-use", INVALID "bad-address", INTERNAL.
 */
int vr_listen_tcp(const char *listen, guint16 *ret_port, GError **error);

G_END_DECLS
