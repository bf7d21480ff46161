/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Statements are prepared once and kept in a table keyed by their text. The mutex is recursive, so
 * that the functions of state_*.h work inside vr_state_begin() .. vr_state_commit() of the same
 * thread. An inner rollback, or SQLite rolling back by itself (disk full), dooms the whole
 * transaction: nothing after it is written, the outer commit fails. */
#include "storage/state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/state/state_private.h"

#define VR_STATE_WAYS_OUT                                                                          \
    "Put state.db back from a backup; or move it away, start again, pair the hosts anew and get "  \
    "the replicas back with 'virt-replica store-scan default'."

struct _VrState {
    GRecMutex lock; /* guards all below, and the database */
    sqlite3 *db;
    GHashTable *statements; /* const char * literal -> sqlite3_stmt *, owned */
    guint depth;
    gboolean doomed;
    int lock_fd;
    char *path; /* owned */
};

void
vr_set_error_sqlite(GError **error, sqlite3 *db, const char *what)
{
    int extended = sqlite3_extended_errcode(db);
    int code = extended & 0xff;
    int errnum = sqlite3_system_errno(db);
    g_autofree char *message = g_strdup_printf("cannot %s: %s", what, sqlite3_errmsg(db));

    if (code == SQLITE_FULL ||
        ((code == SQLITE_IOERR || code == SQLITE_CANTOPEN) && errnum == ENOSPC))
        vr_set_error(error, VR_ERROR_NO_SPACE, "state-full",
                     "Free space on the file system of the state directory.", "%s", message);
    else if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        vr_set_error(error, VR_ERROR_CORRUPT, "state-corrupt", VR_STATE_WAYS_OUT, "%s", message);
    else if (code == SQLITE_BUSY)
        vr_set_error(error, VR_ERROR_CONFLICT, "state-busy",
                     "Close the other program that has state.db open.", "%s", message);
    else if (extended == SQLITE_CONSTRAINT_FOREIGNKEY || extended == SQLITE_CONSTRAINT_UNIQUE ||
             extended == SQLITE_CONSTRAINT_PRIMARYKEY || extended == SQLITE_CONSTRAINT_TRIGGER)
        vr_set_error(error, VR_ERROR_CONFLICT, "state-constraint", NULL, "%s", message);
    else
        vr_set_error(error, VR_ERROR_INTERNAL, "state-failed", NULL, "%s", message);
}

char *
vr_column_text(sqlite3_stmt *stmt, int column)
{
    return g_strdup((const char *) sqlite3_column_text(stmt, column));
}

void
vr_set_error_column(GError **error, sqlite3_stmt *stmt, int column)
{
    vr_set_error(error, VR_ERROR_CORRUPT, "state-unknown-word",
                 "Restore state.db from a backup, or install the version that wrote it.",
                 "column '%s' of the state database holds '%s', which is unknown",
                 sqlite3_column_name(stmt, column),
                 (const char *) sqlite3_column_text(stmt, column));
}

/* Another process that holds the lock has written its pid into the file. */
static gboolean
take_lock(VrState *self, const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "state.lock", NULL);
    char pid[24] = "";

    self->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (self->lock_fd < 0) {
        vr_set_error_errno(error, errno, "cannot open '%s'", path);
        return FALSE;
    }
    if (flock(self->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK) {
            vr_set_error_errno(error, errno, "cannot lock '%s'", path);
            return FALSE;
        }
        if (pread(self->lock_fd, pid, sizeof(pid) - 1, 0) <= 0)
            g_strlcpy(pid, "unknown", sizeof(pid));
        vr_set_error(error, VR_ERROR_CONFLICT, "state-in-use",
                     "Stop the other virt-replicad, or give this one another --state-dir.",
                     "state directory '%s' is in use by process %s", dir, g_strstrip(pid));
        return FALSE;
    }
    g_snprintf(pid, sizeof(pid), "%d\n", (int) getpid());
    if (ftruncate(self->lock_fd, 0) < 0 || pwrite(self->lock_fd, pid, strlen(pid), 0) < 0) {
        vr_set_error_errno(error, errno, "cannot write '%s'", path);
        return FALSE;
    }
    return TRUE;
}

/* First row of @sql as text, its columns joined by blanks; NULL without error if there is none. */
static gboolean
first_row(VrState *self, const char *sql, char **ret_text, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(self->db, sql, -1, &stmt, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    for (int i = 0; rc == SQLITE_ROW && i < sqlite3_column_count(stmt); i++) {
        const char *column = (const char *) sqlite3_column_text(stmt, i);

        g_string_append_printf(text, "%s%s", i > 0 ? " " : "", column ? column : "");
    }
    if (rc == SQLITE_ROW)
        *ret_text = g_string_free(g_steal_pointer(&text), FALSE);
    else if (rc != SQLITE_DONE) {
        vr_set_error_sqlite(error, self->db, "check the state database");
        g_prefix_error(error, "'%s': ", self->path);
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static gboolean
damaged(VrState *self, const char *what, GError **error)
{
    vr_set_error(error, VR_ERROR_CORRUPT, "state-corrupt", VR_STATE_WAYS_OUT,
                 "the state database '%s' is damaged: %s", self->path, what);
    return FALSE;
}

/* Every page, every index against its table, every reference: a page of garbage is found here and
 * not by the job that reads it in a month. With 10,000 recovery points 0.12 s, no more than
 * quick_check, which does not look at indexes. */
static gboolean
check_database(VrState *self, GError **error)
{
    g_autofree char *answer = NULL;
    g_autofree char *orphan = NULL;

    if (!first_row(self, "PRAGMA integrity_check(1)", &answer, error))
        return FALSE;
    if (g_strcmp0(answer, "ok") != 0)
        return damaged(self, answer ? g_strdelimit(answer, "\n", ' ') : "it cannot be checked",
                       error);
    if (!first_row(self, "PRAGMA foreign_key_check", &orphan, error))
        return FALSE;
    if (orphan) {
        g_autofree char *what = g_strdup_printf("a row refers to one that is gone (%s)", orphan);

        return damaged(self, what, error);
    }
    return TRUE;
}

static gboolean
prepare(sqlite3 *db, GError **error)
{
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, 10000);
    if (sqlite3_exec(
            db,
            "PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = EXTRA; PRAGMA foreign_keys = ON;"
            "PRAGMA trusted_schema = OFF",
            NULL, NULL, NULL) == SQLITE_OK)
        return TRUE;
    vr_set_error_sqlite(error, db, "prepare the state database");
    return FALSE;
}

/* Tables, and when they were made: what the host was paired with and protected before is not in
 * them. */
static gboolean
fill_database(sqlite3 *db, GError **error)
{
    g_autofree char *sql =
        g_strdup_printf("INSERT INTO host VALUES ('" VR_STATE_MADE_KEY "', '%" G_GINT64_FORMAT "')",
                        g_get_real_time());

    if (!prepare(db, error) || !vr_schema_migrate(db, error))
        return FALSE;
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return TRUE;
    vr_set_error_sqlite(error, db, "make the state database");
    return FALSE;
}

/* What is left of a database that is gone would be rolled back into the new one. */
static void
remove_leftovers(const char *path)
{
    static const char *const suffixes[] = {"-journal", "-wal", "-shm"};

    for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *left = g_strconcat(path, suffixes[i], NULL);

        (void) unlink(left);
    }
}

/* Made under another name and renamed when it is complete: so an empty state.db is one that was
 * cut, and never half of a new one. */
static gboolean
make_database(VrState *self, const char *dir, GError **error)
{
    g_autofree char *path = g_strconcat(self->path, ".new", NULL);
    sqlite3 *db = NULL;
    gboolean ok;

    remove_leftovers(self->path);
    remove_leftovers(path);
    if (unlink(path) < 0 && errno != ENOENT) {
        vr_set_error_errno(error, errno, "cannot remove '%s'", path);
        return FALSE;
    }
    ok = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) == SQLITE_OK;
    if (!ok)
        vr_set_error_sqlite(error, db, "make the state database");
    ok = ok && fill_database(db, error);
    sqlite3_close(db);
    remove_leftovers(path);
    if (ok && (chmod(path, 0600) < 0 || rename(path, self->path) < 0)) {
        vr_set_error_errno(error, errno, "cannot rename '%s'", path);
        return FALSE;
    }
    return ok && vr_fsync_dir(dir, error);
}

static gboolean
file_is_there(VrState *self, const char *dir, GError **error)
{
    struct stat st;

    if (lstat(self->path, &st) < 0) {
        if (errno == ENOENT)
            return make_database(self, dir, error);
        vr_set_error_errno(error, errno, "cannot look at '%s'", self->path);
        return FALSE;
    }
    if (!S_ISREG(st.st_mode)) {
        vr_set_error(error, VR_ERROR_INVALID, "not-a-file", "Put the database there as a file.",
                     "'%s' is not a regular file", self->path);
        return FALSE;
    }
    return st.st_size > 0 || damaged(self, "it is empty, somebody cut it", error);
}

static gboolean
open_database(VrState *self, const char *dir, GError **error)
{
    if (!file_is_there(self, dir, error))
        return FALSE;
    if (sqlite3_open_v2(self->path, &self->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX,
                        NULL) != SQLITE_OK)
        vr_set_error_sqlite(error, self->db, "open the state database");
    else if (prepare(self->db, error))
        return TRUE;
    g_prefix_error(error, "'%s': ", self->path);
    return FALSE;
}

static void
finalize(gpointer stmt)
{
    sqlite3_finalize(stmt);
}

VrState *
vr_state_open(const char *dir, GError **error)
{
    g_autoptr(VrState) self = g_new0(VrState, 1);

    self->lock_fd = -1;
    g_rec_mutex_init(&self->lock);
    self->path = g_build_filename(dir, "state.db", NULL);
    self->statements = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, finalize);
    if (!vr_make_dir(dir, 0700, error) || !take_lock(self, dir, error) ||
        !open_database(self, dir, error) || !check_database(self, error) ||
        !vr_schema_migrate(self->db, error) || !vr_fsync_dir(dir, error)) {
        g_prefix_error(error, "state directory '%s': ", dir);
        return NULL;
    }
    return g_steal_pointer(&self);
}

void
vr_state_close(VrState *self)
{
    if (!self)
        return;
    g_hash_table_destroy(self->statements);
    sqlite3_close(self->db);
    if (self->lock_fd >= 0)
        close(self->lock_fd);
    g_rec_mutex_clear(&self->lock);
    g_free(self->path);
    g_free(self);
}

static gboolean
refuse_doomed(VrState *self, GError **error)
{
    if (self->depth > 0 && (self->doomed || sqlite3_get_autocommit(self->db))) {
        vr_set_error(error, VR_ERROR_INTERNAL, "transaction-rolled-back", NULL,
                     "the transaction was rolled back already");
        return TRUE;
    }
    return FALSE;
}

static sqlite3_stmt *
statement(VrState *self, const char *sql, GError **error)
{
    sqlite3_stmt *stmt = g_hash_table_lookup(self->statements, sql);

    if (stmt)
        return stmt;
    if (sqlite3_prepare_v3(self->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) !=
        SQLITE_OK) {
        vr_set_error_sqlite(error, self->db, sql);
        return NULL;
    }
    g_hash_table_insert(self->statements, (gpointer) sql, stmt);
    return stmt;
}

/* Texts are bound without a copy: they live until the statement is reset, inside the same call. */
static sqlite3_stmt *
bind(VrState *self, const char *sql, const char *types, va_list args, GError **error)
{
    sqlite3_stmt *stmt;

    if (refuse_doomed(self, error))
        return NULL;
    stmt = statement(self, sql, error);
    if (!stmt)
        return NULL;
    for (int i = 0; types[i]; i++) {
        int rc;

        if (types[i] == 's')
            rc = sqlite3_bind_text(stmt, i + 1, va_arg(args, const char *), -1, SQLITE_STATIC);
        else if (types[i] == 'i')
            rc = sqlite3_bind_int64(stmt, i + 1, va_arg(args, gint64));
        else
            rc = sqlite3_bind_double(stmt, i + 1, va_arg(args, double));
        if (rc != SQLITE_OK) {
            vr_set_error_sqlite(error, self->db, sql);
            return NULL;
        }
    }
    return stmt;
}

static void
reset(sqlite3_stmt *stmt)
{
    if (!stmt)
        return;
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
}

gboolean
vr_state_run(VrState *self, int *ret_changes, GError **error, const char *sql, const char *types,
             ...)
{
    G_GNUC_UNUSED g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&self->lock);
    sqlite3_stmt *stmt;
    gboolean ok = FALSE;
    va_list args;

    va_start(args, types);
    stmt = bind(self, sql, types, args, error);
    va_end(args);
    if (stmt && sqlite3_step(stmt) == SQLITE_DONE)
        ok = TRUE;
    else if (stmt)
        vr_set_error_sqlite(error, self->db, "write the state database");
    if (ok && ret_changes)
        *ret_changes = sqlite3_changes(self->db);
    reset(stmt);
    return ok;
}

gpointer
vr_state_row(VrState *self, VrStateRowFunc func, GError **error, const char *sql, const char *types,
             ...)
{
    G_GNUC_UNUSED g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&self->lock);
    sqlite3_stmt *stmt;
    gpointer row = NULL;
    va_list args;
    int rc;

    va_start(args, types);
    stmt = bind(self, sql, types, args, error);
    va_end(args);
    if (!stmt)
        return NULL;
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        row = func(stmt, error);
    else if (rc != SQLITE_DONE)
        vr_set_error_sqlite(error, self->db, "read the state database");
    reset(stmt);
    return row;
}

GPtrArray *
vr_state_rows(VrState *self, VrStateRowFunc func, GDestroyNotify free_func, GError **error,
              const char *sql, const char *types, ...)
{
    G_GNUC_UNUSED g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&self->lock);
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(free_func);
    sqlite3_stmt *stmt;
    gboolean ok = TRUE;
    va_list args;
    int rc = SQLITE_ROW;

    va_start(args, types);
    stmt = bind(self, sql, types, args, error);
    va_end(args);
    if (!stmt)
        return NULL;
    while (ok && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        gpointer row = func(stmt, error);

        if (row)
            g_ptr_array_add(rows, row);
        ok = row != NULL;
    }
    if (ok && rc != SQLITE_DONE) {
        vr_set_error_sqlite(error, self->db, "read the state database");
        ok = FALSE;
    }
    reset(stmt);
    return ok ? g_steal_pointer(&rows) : NULL;
}

gboolean
vr_state_number(VrState *self, gint64 fallback, gint64 *ret, GError **error, const char *sql,
                const char *types, ...)
{
    G_GNUC_UNUSED g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&self->lock);
    sqlite3_stmt *stmt;
    va_list args;
    int rc;

    va_start(args, types);
    stmt = bind(self, sql, types, args, error);
    va_end(args);
    if (!stmt)
        return FALSE;
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        *ret = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : fallback;
    else
        vr_set_error_sqlite(error, self->db, "read the state database");
    reset(stmt);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

gint64
vr_state_last_id(VrState *self)
{
    return sqlite3_last_insert_rowid(self->db);
}

gboolean
vr_state_begin(VrState *self, GError **error)
{
    g_rec_mutex_lock(&self->lock);
    if (self->depth == 0) {
        self->doomed = FALSE;
        if (!vr_state_run(self, NULL, error, "BEGIN IMMEDIATE", "")) {
            g_rec_mutex_unlock(&self->lock);
            return FALSE;
        }
    }
    self->depth++;
    return TRUE;
}

gboolean
vr_state_commit(VrState *self, GError **error)
{
    gboolean ok;

    g_return_val_if_fail(self->depth > 0, FALSE);
    ok = !refuse_doomed(self, error);
    if (self->depth == 1) {
        ok = ok && vr_state_run(self, NULL, error, "COMMIT", "");
        if (!ok && !sqlite3_get_autocommit(self->db))
            sqlite3_exec(self->db, "ROLLBACK", NULL, NULL, NULL);
    }
    self->depth--;
    g_rec_mutex_unlock(&self->lock);
    return ok;
}

void
vr_state_rollback(VrState *self)
{
    g_return_if_fail(self->depth > 0);
    self->doomed = TRUE;
    if (!sqlite3_get_autocommit(self->db))
        sqlite3_exec(self->db, "ROLLBACK", NULL, NULL, NULL);
    self->depth--;
    g_rec_mutex_unlock(&self->lock);
}

static gpointer
text_row(sqlite3_stmt *stmt, GError **error G_GNUC_UNUSED)
{
    return vr_column_text(stmt, 0);
}

char *
vr_state_get(VrState *self, const char *key, GError **error)
{
    return vr_state_row(self, text_row, error, "SELECT value FROM host WHERE key = ?1", "s", key);
}
