/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbered migrations. One is never changed once released: append the next. Enums are stored as the
 * words of their string tables. Recovery points have no foreign key to a protection: they outlive
 * it when the replica is kept. */
#include "storage/state_private.h"

#include "policies/error.h"

static const char *const migrations[] = {
    /* 1 */
    "CREATE TABLE host ("
    "  key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
    "CREATE TABLE peer ("
    "  fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, address TEXT NOT NULL,"
    "  added_us INTEGER NOT NULL, last_seen_us INTEGER NOT NULL) STRICT;"
    "CREATE TABLE invite ("
    "  secret_sha256 TEXT PRIMARY KEY, name TEXT, expires_us INTEGER NOT NULL,"
    "  used INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE TABLE netmap ("
    "  peer TEXT NOT NULL REFERENCES peer ON DELETE CASCADE, source TEXT NOT NULL, target TEXT NOT "
    "NULL,"
    "  test TEXT, PRIMARY KEY (peer, source)) STRICT;"
    "CREATE TABLE store ("
    "  name TEXT PRIMARY KEY, path TEXT NOT NULL) STRICT;"
    "CREATE TABLE protection ("
    "  uuid TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,"
    "  peer TEXT NOT NULL REFERENCES peer ON DELETE RESTRICT,"
    "  store TEXT, policy TEXT, policy_text TEXT, state TEXT NOT NULL, generation TEXT, exclude "
    "TEXT,"
    "  created_us INTEGER NOT NULL, base_number INTEGER NOT NULL, base_cycle TEXT, base_root TEXT,"
    "  base_time_us INTEGER NOT NULL, base_consistency TEXT NOT NULL, checkpoint TEXT, disks TEXT,"
    "  manifest_unsure INTEGER NOT NULL,"
    "  last_error TEXT, last_error_us INTEGER NOT NULL,"
    "  autostart INTEGER NOT NULL) STRICT;"
    "CREATE INDEX protection_peer ON protection (peer);"
    "CREATE TABLE cycle ("
    "  uuid TEXT PRIMARY KEY REFERENCES protection ON DELETE CASCADE, cycle TEXT NOT NULL,"
    "  kind TEXT NOT NULL, checkpoint TEXT, point TEXT,"
    "  sent INTEGER NOT NULL, commit_json TEXT, disks TEXT) STRICT;"
    "CREATE TABLE rp ("
    "  uuid TEXT NOT NULL, number INTEGER NOT NULL, cycle TEXT NOT NULL, time_us INTEGER NOT NULL,"
    "  stored_us INTEGER NOT NULL, consistency TEXT NOT NULL, root TEXT NOT NULL, bytes INTEGER "
    "NOT NULL,"
    "  state TEXT NOT NULL, disks TEXT, attachments TEXT,"
    "  PRIMARY KEY (uuid, number), UNIQUE (uuid, cycle)) STRICT;"
    "CREATE TABLE rp_head ("
    "  uuid TEXT PRIMARY KEY, pending INTEGER NOT NULL) STRICT;"
    "CREATE TABLE hold ("
    "  uuid TEXT NOT NULL, number INTEGER NOT NULL, reason TEXT NOT NULL,"
    "  PRIMARY KEY (uuid, number, reason),"
    "  FOREIGN KEY (uuid, number) REFERENCES rp ON DELETE CASCADE) STRICT;"
    "CREATE TABLE job ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, uuid TEXT, domain TEXT,"
    "  state TEXT NOT NULL, args TEXT, steps TEXT, bytes_read INTEGER NOT NULL,"
    "  bytes_sent INTEGER NOT NULL, progress REAL NOT NULL, started_us INTEGER NOT NULL,"
    "  ended_us INTEGER NOT NULL, error TEXT, result TEXT) STRICT;"
    "CREATE INDEX job_uuid ON job (uuid, id);"
    "CREATE INDEX job_ended ON job (ended_us);",
};

static gboolean
read_version(sqlite3 *db, int *ret_version, GError **error)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW) {
        vr_set_error_sqlite(error, db, "read the version of the state database");
        sqlite3_finalize(stmt);
        return FALSE;
    }
    *ret_version = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return TRUE;
}

gboolean
vr_schema_migrate(sqlite3 *db, GError **error)
{
    int newest = (int) G_N_ELEMENTS(migrations);
    int version;

    if (!read_version(db, &version, error))
        return FALSE;
    if (version < 0 || version > newest) {
        vr_set_error(
            error, VR_ERROR_REFUSED, "state-too-new", "Install the newer version of virt-replica.",
            "the state database has version %d, this program knows up to %d", version, newest);
        return FALSE;
    }
    for (int i = version; i < newest; i++) {
        g_autofree char *sql = g_strdup_printf(
            "BEGIN IMMEDIATE; %s PRAGMA user_version = %d; COMMIT", migrations[i], i + 1);

        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
            vr_set_error_sqlite(error, db, "migrate the state database");
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            return FALSE;
        }
    }
    return TRUE;
}
