/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include <glib/gstdio.h>

#include <stdio.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/replica/replica_private.h"

typedef VrSumsRecord Record;

static void
encode(guint8 raw[VR_SUMS_RECORD_LEN], guint64 chunk, const VrDigest *digest)
{
    guint64 le = GUINT64_TO_LE(chunk);

    memcpy(raw, &le, 8);
    memcpy(raw + 8, digest->b, VR_DIGEST_LEN);
}

void
vr_sums_append(GByteArray *records, guint64 chunk, const VrDigest *digest)
{
    guint8 raw[VR_SUMS_RECORD_LEN];

    encode(raw, chunk, digest);
    g_byte_array_append(records, raw, sizeof raw);
}

static FILE *
open_file(const char *path, const char *mode, GError **error)
{
    FILE *file = g_fopen(path, mode);

    if (!file)
        vr_set_error_errno(error, errno, "cannot open '%s'", path);
    return file;
}

/* FALSE with @error on damage; at the end @record->chunk is G_MAXUINT64. Ascending order is
 * enforced. */
static gboolean
next(FILE *file, const char *path, Record *record, gboolean first, GError **error)
{
    guint8 raw[VR_SUMS_RECORD_LEN];
    gsize n = fread(raw, 1, sizeof raw, file);
    guint64 chunk;

    if (n == 0 && !ferror(file)) {
        record->chunk = G_MAXUINT64;
        return TRUE;
    }
    memcpy(&chunk, raw, 8);
    chunk = GUINT64_FROM_LE(chunk);
    if (n != sizeof raw || chunk == G_MAXUINT64 || (!first && chunk <= record->chunk)) {
        vr_set_error(error, VR_ERROR_CORRUPT, "sums-damaged", NULL,
                     "file of digests '%s' is damaged", path);
        return FALSE;
    }
    record->chunk = chunk;
    memcpy(record->digest.b, raw + 8, VR_DIGEST_LEN);
    return TRUE;
}

static gboolean
put(FILE *file, const Record *record)
{
    guint8 raw[VR_SUMS_RECORD_LEN];

    encode(raw, record->chunk, &record->digest);
    return fwrite(raw, sizeof raw, 1, file) == 1;
}

/* Flushes, syncs, closes. @ok: everything so far went well. */
static gboolean
finish(FILE *file, const char *path, gboolean ok, GError **error)
{
    gboolean done = ok && fflush(file) == 0 && fsync(fileno(file)) == 0;

    if (!done)
        vr_set_error_errno(error, errno, "cannot write '%s'", path);
    fclose(file);
    return done;
}

gboolean
vr_sums_write(const char *path, VrManifest *manifest, GError **error)
{
    g_autoptr(VrExtents) extents = vr_manifest_overlay_extents(manifest);
    FILE *file = open_file(path, "we", error);
    gboolean ok = TRUE;

    if (!file)
        return FALSE;
    for (guint i = 0; ok && i < vr_extents_count(extents); i++) {
        const VrExtent *e = vr_extents_get(extents, i);
        guint64 end = vr_chunk_count(e->offset + e->length);

        for (guint64 c = e->offset / VR_CHUNK_SIZE; ok && c < end; c++) {
            Record record = {.chunk = c};
            vr_manifest_get(manifest, c, &record.digest);
            ok = put(file, &record);
        }
    }
    return finish(file, path, ok, error);
}

/* @extra comes before the first record behind it, and not if there is one of its chunk. */
static gboolean
put_with(FILE *file, const Record *record, Record *extra)
{
    Record now = *extra;

    if (record->chunk < now.chunk)
        return put(file, record);
    extra->chunk = G_MAXUINT64;
    return (now.chunk == record->chunk || put(file, &now)) &&
           (record->chunk == G_MAXUINT64 || put(file, record));
}

static gboolean
merge_files(FILE *lower, const char *lower_path, FILE *upper, const char *upper_path, FILE *out,
            guint64 end, Record extra, gboolean *ret_io_ok, GError **error)
{
    Record a, b;

    if (!next(lower, lower_path, &a, TRUE, error) || !next(upper, upper_path, &b, TRUE, error))
        return FALSE;
    for (;;) {
        const Record *record = b.chunk <= a.chunk ? &b : &a;
        gboolean skip_lower = a.chunk <= b.chunk;
        gboolean skip_upper = b.chunk <= a.chunk;

        if (skip_lower && !skip_upper && a.chunk >= end) {
            a.chunk = G_MAXUINT64; /* and all behind it */
            continue;
        }
        *ret_io_ok = put_with(out, record, &extra);
        if (record->chunk == G_MAXUINT64 || !*ret_io_ok)
            return TRUE;
        if (skip_lower && !next(lower, lower_path, &a, FALSE, error))
            return FALSE;
        if (skip_upper && !next(upper, upper_path, &b, FALSE, error))
            return FALSE;
    }
}

gboolean
vr_sums_merge(const char *lower, const char *upper, const char *out, guint64 end,
              const VrSumsRecord *extra, GError **error)
{
    FILE *a = open_file(lower, "re", error);
    FILE *b = a ? open_file(upper, "re", error) : NULL;
    FILE *o = b ? open_file(out, "we", error) : NULL;
    gboolean io_ok = TRUE, ok = FALSE;

    if (o) {
        ok = merge_files(a, lower, b, upper, o, end, *extra, &io_ok, error);
        if (ok)
            ok = finish(o, out, io_ok, error);
        else
            fclose(o);
    }
    if (b)
        fclose(b);
    if (a)
        fclose(a);
    return ok;
}

gboolean
vr_sums_count(const char *path, guint64 *ret_data, GError **error)
{
    FILE *file = open_file(path, "re", error);
    Record record;
    guint64 data = 0;
    gboolean ok;

    if (!file)
        return FALSE;
    for (ok = next(file, path, &record, TRUE, error); ok && record.chunk != G_MAXUINT64;
         ok = next(file, path, &record, FALSE, error))
        data += !vr_digest_is_zero(&record.digest);
    fclose(file);
    if (ok)
        *ret_data = data;
    return ok;
}

gboolean
vr_sums_load(const char *path, VrManifest *manifest, GError **error)
{
    FILE *file = open_file(path, "re", error);
    Record record;
    gboolean ok;

    if (!file)
        return FALSE;
    ok = next(file, path, &record, TRUE, error);
    while (ok && record.chunk < vr_manifest_chunks(manifest)) {
        ok = vr_manifest_set(manifest, record.chunk, &record.digest, error) &&
             next(file, path, &record, FALSE, error);
    }
    fclose(file);
    return ok;
}

gboolean
vr_sums_reader_open(VrSumsReader *self, const char *path, GError **error)
{
    Record record;

    self->path = g_strdup(path);
    self->file = open_file(path, "re", error);
    if (!self->file || !next(self->file, path, &record, TRUE, error))
        return FALSE;
    self->chunk = record.chunk;
    self->digest = record.digest;
    return TRUE;
}

gboolean
vr_sums_reader_next(VrSumsReader *self, GError **error)
{
    Record record = {.chunk = self->chunk};

    if (self->chunk == G_MAXUINT64)
        return TRUE;
    if (!next(self->file, self->path, &record, FALSE, error))
        return FALSE;
    self->chunk = record.chunk;
    self->digest = record.digest;
    return TRUE;
}

gboolean
vr_sums_reader_seek(VrSumsReader *self, guint64 chunk, GError **error)
{
    while (self->chunk < chunk) {
        if (!vr_sums_reader_next(self, error))
            return FALSE;
    }
    return TRUE;
}

void
vr_sums_reader_close(VrSumsReader *self)
{
    if (self->file)
        fclose(self->file);
    g_free(self->path);
    memset(self, 0, sizeof *self);
}

/* G_MAXUINT64 at the end, and for no file. */
static guint64
next_bad(FILE *file)
{
    guint64 raw;

    return file && fread(&raw, sizeof raw, 1, file) == 1 ? GUINT64_FROM_LE(raw) : G_MAXUINT64;
}

static gboolean
merge_bad_files(FILE *lower, FILE *upper, VrSumsReader *sums, guint64 end, FILE *out,
                guint64 *ret_count, GError **error)
{
    guint64 a = next_bad(lower), b = next_bad(upper);

    while (a != G_MAXUINT64 || b != G_MAXUINT64) {
        guint64 chunk = MIN(a, b), raw = GUINT64_TO_LE(chunk);
        gboolean keep = b == chunk;

        if (!keep) {
            if (!vr_sums_reader_seek(sums, chunk, error))
                return FALSE;
            keep = sums->chunk != chunk && chunk < end;
        }
        if (keep && fwrite(&raw, sizeof raw, 1, out) != 1) {
            vr_set_error_errno(error, errno, "cannot write a list of bad chunks");
            return FALSE;
        }
        *ret_count += keep;
        if (b == chunk)
            b = next_bad(upper);
        if (a == chunk)
            a = next_bad(lower);
    }
    if ((!lower || !ferror(lower)) && (!upper || !ferror(upper)))
        return TRUE;
    vr_set_error_errno(error, EIO, "cannot read a list of bad chunks");
    return FALSE;
}

/* No file is no list; anything else that keeps it from being read is an error. */
static gboolean
open_list(const char *path, FILE **ret_file, GError **error)
{
    *ret_file = g_fopen(path, "re");
    if (*ret_file || errno == ENOENT)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot open '%s'", path);
    return FALSE;
}

gboolean
vr_bad_merge(const char *lower, const char *upper, const char *upper_sums, guint64 end,
             const char *out, GError **error)
{
    FILE *a = NULL, *b = NULL, *o = NULL;
    g_auto(VrSumsReader) sums = {0};
    guint64 count = 0;
    gboolean known = open_list(lower, &a, error) && open_list(upper, &b, error);
    gboolean ok = known && !a && !b;

    if (known && !ok && vr_sums_reader_open(&sums, upper_sums, error) &&
        (o = open_file(out, "we", error))) {
        ok = merge_bad_files(a, b, &sums, end, o, &count, error);
        if (ok)
            ok = finish(o, out, TRUE, error);
        else
            fclose(o);
        if (count == 0)
            (void) unlink(out);
    }
    if (b)
        fclose(b);
    if (a)
        fclose(a);
    return ok;
}
