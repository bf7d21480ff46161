/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdio.h>

G_BEGIN_DECLS

/**
 * SECTION: tables and key/value lines as virsh prints them.
 *
 * Cells are escaped (vr_cli_escape()); NULL and "" are shown as "-".
 */
typedef struct VrCliTable VrCliTable;

/** Headings, ended by NULL. */
VrCliTable *vr_cli_table_new(const char *first, ...) G_GNUC_NULL_TERMINATED;
void vr_cli_table_free(VrCliTable *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCliTable, vr_cli_table_free)

/** Adds a cell; a row is full when it has as many cells as there are headings. */
void vr_cli_table_add(VrCliTable *self, const char *cell);
/** The same; frees @cell. */
void vr_cli_table_take(VrCliTable *self, char *cell);

/** @bare: the rows only, without headings, rule and the empty line at the end. */
void vr_cli_table_print(const VrCliTable *self, FILE *out, gboolean bare);

/** "Name:           value". */
void vr_cli_print_pair(FILE *out, const char *key, const char *value);
/** The same; frees @value. */
void vr_cli_take_pair(FILE *out, const char *key, char *value);

G_END_DECLS
