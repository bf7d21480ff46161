/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sqlite3.h>

#include "storage/state/state.h"

G_BEGIN_DECLS

/**
 * SECTION: for storage/state/state*.c and schema.c only.
 *
 * @sql is a literal, prepared once per database. @types has one letter for each ?N in order: s
 * const char * (NULL is SQL NULL), i gint64, d double. All take the mutex themselves.
 */

/** Makes a struct of the row that @stmt stands on; NULL with @error if a column is not understood.
 */
typedef gpointer (*VrStateRowFunc)(sqlite3_stmt *stmt, GError **error);

/** A statement without rows. @ret_changes nullable. */
gboolean vr_state_run(VrState *self, int *ret_changes, GError **error, const char *sql,
                      const char *types, ...);
/** First row; NULL without error if there is none. */
gpointer vr_state_row(VrState *self, VrStateRowFunc func, GError **error, const char *sql,
                      const char *types, ...);
/** All rows. */
GPtrArray *vr_state_rows(VrState *self, VrStateRowFunc func, GDestroyNotify free_func,
                         GError **error, const char *sql, const char *types, ...);
/** First column of the first row as a number, @fallback if there is no row. */
gboolean vr_state_number(VrState *self, gint64 fallback, gint64 *ret, GError **error,
                         const char *sql, const char *types, ...);

gint64 vr_state_last_id(VrState *self);

/** Text of a column, NULL for SQL NULL. (transfer full) */
char *vr_column_text(sqlite3_stmt *stmt, int column);
/** CORRUPT: the column has a word that this version does not know. */
void vr_set_error_column(GError **error, sqlite3_stmt *stmt, int column);

/** The statement failed: SQLite's code translated. */
void vr_set_error_sqlite(GError **error, sqlite3 *db, const char *what);

/** schema.c: brings the database to the newest version. Errors: REFUSED "state-too-new". */
gboolean vr_schema_migrate(sqlite3 *db, GError **error);

G_END_DECLS
