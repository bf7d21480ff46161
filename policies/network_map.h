/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: which network of the target a network of the source becomes: what may stand in that
 * map. */

/** 1 to 255 bytes of printable UTF-8 without '/', not beginning with '.' or '-'. */
gboolean vr_network_name_valid(const char *name);

/** The names of one entry; @test: (nullable). Errors: INVALID "bad-network-name" naming the bad
 * one. */
gboolean vr_network_map_check(const char *source, const char *target, const char *test,
                              GError **error);

G_END_DECLS
