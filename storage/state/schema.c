/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbered migrations. One is never changed once released: append the next. Enums are stored as the
 * words of their string tables. Recovery points have no foreign key to a protection: they outlive
 * it when the replica is kept. */
#include "storage/state/state_private.h"

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
    /* 2 */
    "CREATE TABLE peer_network ("
    "  peer TEXT NOT NULL REFERENCES peer ON DELETE CASCADE, network TEXT NOT NULL,"
    "  PRIMARY KEY (peer, network)) STRICT;"
    "ALTER TABLE peer ADD COLUMN quota_bytes INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE peer ADD COLUMN max_protections INTEGER NOT NULL DEFAULT 500;"
    "ALTER TABLE peer ADD COLUMN delete_grace_us INTEGER NOT NULL DEFAULT 604800000000;"
    "ALTER TABLE invite ADD COLUMN networks TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE protection ADD COLUMN networks TEXT;"
    "ALTER TABLE protection ADD COLUMN kept_until_us INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE protection ADD COLUMN policy_before TEXT;"
    "ALTER TABLE protection ADD COLUMN policy_before_until_us INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE transfer ("
    "  uuid TEXT PRIMARY KEY REFERENCES protection ON DELETE CASCADE, phase TEXT NOT NULL,"
    "  ran INTEGER NOT NULL DEFAULT 0, autostart INTEGER NOT NULL DEFAULT 0,"
    "  generation TEXT, number INTEGER NOT NULL DEFAULT 0, refused TEXT) STRICT;"
    "CREATE TABLE layer_check ("
    "  uuid TEXT NOT NULL, number INTEGER NOT NULL, disk TEXT NOT NULL, state TEXT NOT NULL,"
    "  checked_us INTEGER NOT NULL, PRIMARY KEY (uuid, number, disk),"
    "  FOREIGN KEY (uuid, number) REFERENCES rp ON DELETE CASCADE) STRICT;"
    "CREATE TABLE replica_damage ("
    "  uuid TEXT PRIMARY KEY REFERENCES protection ON DELETE CASCADE, number INTEGER NOT NULL,"
    "  disk TEXT NOT NULL, chunks INTEGER NOT NULL) STRICT;"
    "UPDATE protection SET networks ="
    "  (SELECT value FROM host WHERE key = 'networks:' || protection.uuid);"
    "INSERT INTO transfer (uuid, phase, ran, generation)"
    "  SELECT uuid, CASE WHEN g.value IS NULL THEN 'leaving' ELSE 'handing-over' END,"
    "    r.value = 'yes', g.value FROM protection JOIN host r ON r.key = 'failover-ran:' || uuid"
    "    LEFT JOIN host g ON g.key = 'failover-generation:' || uuid;"
    "INSERT INTO transfer (uuid, phase, number, autostart, refused)"
    "  SELECT uuid, CASE WHEN s.value IS NOT NULL THEN 'starting'"
    "    WHEN a.value IS NOT NULL THEN 'preparing' ELSE 'refused' END,"
    "    coalesce(CAST(a.value AS INTEGER), 0), coalesce(s.value = 'autostart', 0), f.value"
    "    FROM protection LEFT JOIN host s ON s.key = 'starting:' || uuid"
    "    LEFT JOIN host a ON a.key = 'activation:' || uuid"
    "    LEFT JOIN host f ON f.key = 'refused:' || uuid"
    "    WHERE coalesce(s.value, a.value, f.value) IS NOT NULL;"
    "ALTER TABLE job ADD COLUMN parent INTEGER NOT NULL DEFAULT 0;"
    "DELETE FROM host WHERE key GLOB 'networks:*' OR key GLOB 'failover-*:*'"
    "  OR key GLOB 'activation:*' OR key GLOB 'starting:*' OR key GLOB 'refused:*';",

    "ALTER TABLE job ADD COLUMN origin TEXT;",
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
