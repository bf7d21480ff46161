/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/**
 * SECTION: strict INI: `[group]`, `key = value`, comments only on lines of their own (# or ;).
 *
 * GKeyFile merges duplicates silently, takes "1 # one" as a value and knows no line numbers, so
 * this reads the text itself. Every error is INVALID, slug "bad-key-file", and its message begins
 * with FILE:LINE. Refused: unknown and repeated groups and keys, a comment behind a value, text
 * that is not UTF-8, more than 64 KiB, lines over 1000 bytes.
 */

#define VR_KEYFILE_SIZE_MAX (64 * 1024)

typedef enum {
    VR_KEY_STRING,   /* char *, owned by the struct; the old value is freed */
    VR_KEY_BOOL,     /* gboolean: yes, no */
    VR_KEY_UINT,     /* guint */
    VR_KEY_DURATION, /* gint64, microseconds */
    VR_KEY_SIZE,     /* guint64, bytes */
    VR_KEY_RATE,     /* guint64, bytes per second */
    VR_KEY_PERCENT,  /* guint */
    VR_KEY_ENUM,     /* guint, index into names */
    VR_KEY_CUSTOM,   /* parse and print */
} VrKeyType;

typedef struct {
    const char *group;
    const char *key;
    VrKeyType type;
    gsize offset; /* of the field in the struct */

    /* Numbers: accepted from min to max, in the field's unit; max 0: no upper limit. */
    gint64 min;
    gint64 max;
    const char *zero_word; /* nullable: "off" or "never", stands for 0 and bypasses min */

    const char *const *names; /* VR_KEY_ENUM, NULL-terminated */

    /* VR_KEY_CUSTOM. @field is the struct's field; print appends whole lines. */
    gboolean (*parse)(const char *value, gpointer field, GError **error);
    void (*print)(const char *key, gconstpointer field, GString *out);

    gboolean repeatable; /* VR_KEY_CUSTOM only: the key may come several times */
} VrKeySpec;

/**
 * vr_keyfile_parse:
 * @file: name for messages only
 * @text: @length bytes, not necessarily terminated
 * @target: struct the offsets refer to, holding the defaults
 *
 * On failure @target may hold some of the new values; give it a fresh one.
 */
gboolean vr_keyfile_parse(const char *file, const char *text, gsize length, const VrKeySpec *specs,
                          guint n_specs, gpointer target, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Every key with its value, in the order of @specs; strings that are NULL are left out. Reads back
 *  to the same struct. (transfer full) */
char *vr_keyfile_print(const VrKeySpec *specs, guint n_specs, gconstpointer source);

typedef struct {
    char *group;
    char *key;
    char *value;
    guint line; /* from 1 */
} VrKeyfileEntry;

/** The entries in order, keys and groups unchecked and repeated keys allowed: for files whose
 *  groups are not known beforehand. (transfer full) (element-type VrKeyfileEntry) */
GPtrArray *vr_keyfile_scan(const char *file, const char *text, gsize length, GError **error);

G_END_DECLS
