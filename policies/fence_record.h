/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/** SECTION: the record that keeps a domain from starting on this host: file fence/UUID, written by
 *  the daemon, read by the libvirt hook. Text only here; no I/O. */

typedef enum {
    VR_FENCE_RECORD_FAILED_OVER, /* this host was the source; the peer owns the workload */
    VR_FENCE_RECORD_REPLICA,     /* this host holds the replica; only a failover may start it */
} VrFenceRecordState;

typedef struct {
    guint state;      /* VrFenceRecordState */
    char *peer;       /* name of the other host */
    gint64 since_us;  /* wall clock */
    char *generation; /* id */
    char *message;    /* nullable: one sentence for the person who tries to start it */
} VrFenceRecord;

/** Reads back to an equal record: line breaks and comment signs in the message become blanks.
 *  (transfer full) */
char *vr_fence_record_to_text(const VrFenceRecord *self);

/** @file: for messages. Everything but message must be there. Errors: INVALID. */
VrFenceRecord *vr_fence_record_parse(const char *file, const char *text, gsize length,
                                     GError **error);

void vr_fence_record_free(VrFenceRecord *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrFenceRecord, vr_fence_record_free)

/** Why and where to, ending in a command to run next. (transfer full) */
char *vr_fence_record_sentence(const VrFenceRecord *self, const char *domain);

G_END_DECLS
