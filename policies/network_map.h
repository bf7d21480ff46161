/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: which network of the target a network of the source becomes, and which networks a host
 * offers to a peer: what may stand in the map and in such a list. */

#define VR_NETWORK_LIST_MAX 256

/** 1 to 255 bytes of printable UTF-8 without '/', not beginning with '.' or '-'. */
gboolean vr_network_name_valid(const char *name);

/** The names of one entry; @test: (nullable). Errors: INVALID "bad-network-name" naming the bad
 * one. */
gboolean vr_network_map_check(const char *source, const char *target, const char *test,
                              GError **error);

/**
 * vr_network_list_parse:
 * @text: names with commas between, a backslash before a comma or backslash that is part of a name;
 * "-" is the empty list
 *
 * Sorted, each name once, at most VR_NETWORK_LIST_MAX. (transfer full)
 * Errors: INVALID "bad-network-name" naming the bad one, INVALID "too-many-networks".
 */
char **vr_network_list_parse(const char *text, GError **error);
/** The text that vr_network_list_parse() reads back to a list of the same names. (transfer full) */
char *vr_network_list_format(const char *const *names);
/** Are these a list that vr_network_list_parse() could have given but for order? Same errors. */
gboolean vr_network_list_check(const char *const *names, GError **error);

G_END_DECLS
