/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/probe.h"

#include <string.h>
#include <sys/statvfs.h>

#include "plugin/cycle/replicate.h"
#include "plugin/loop.h"
#include "plugin/ownership_compare.h"
#include "plugin/peer/peer_askers.h"
#include "policies/error.h"
#include "qmp/domain/block_job.h"
#include "qmp/domain/domain_ops.h"
#include "qmp/point/point_backup.h"
#include "storage/wire/error_json.h"

#define PROBE_US (3 * G_TIME_SPAN_SECOND)
#define KICK_US (30 * G_TIME_SPAN_SECOND) /* not more often for a peer that answers as before */
#define ROOM_STEP ((guint64) 16 * 1024 * 1024) /* more room than before by that much: try again */

struct _VrProbe {
    VrApp *app;           /* borrowed */
    VrPeerAskers *askers; /* owned: ask_peer() */
    VrLoop *loop;         /* owned: probe() */
    GMutex lock;          /* guards what follows */
    GHashTable *kicked;   /* owned: UUID (owned) -> when (owned; monotonic), peer was away */
    GHashTable *rooms; /* owned: UUID (owned) -> guint64 (owned): room there was when it failed */
};

/* What the last cycle of a domain failed for, and where to look whether that is over. */
typedef enum {
    CAUSE_NONE,
    CAUSE_AWAY,     /* the peer does not answer */
    CAUSE_UNKNOWN,  /* the peer does not know it */
    CAUSE_UNUSABLE, /* the peer's replica cannot be used */
    CAUSE_FULL,     /* the peer's store, or what we may have of it */
    CAUSE_HERE_FULL,
    CAUSE_BUSY, /* another program's job */
} Cause;

static const struct {
    const char *slug;
    Cause cause;
} causes[] = {
    /* It had lost its database, and may have the pairing and the replica back. */
    {"peer-unknown", CAUSE_UNKNOWN},
    {"no-such-protection", CAUSE_UNKNOWN},
    {"state-older-than-store", CAUSE_UNUSABLE},
    {"replica-missing", CAUSE_UNUSABLE},
    {"store-full", CAUSE_FULL},
    {"quota-exceeded", CAUSE_FULL},
    {"no-space", CAUSE_FULL}, /* wherever: more room on either side is worth a try */
    {"host-no-space", CAUSE_HERE_FULL},
    {"scratch-no-space", CAUSE_HERE_FULL},
    {"state-full", CAUSE_HERE_FULL},
    {"domain-busy", CAUSE_BUSY},
    {"block-job-running", CAUSE_BUSY},
    {"backup-job-running", CAUSE_BUSY},
};

static Cause
cause_of(const VrProtection *row)
{
    g_autoptr(GError) last = row->last_error ? vr_error_from_json_text(row->last_error) : NULL;

    if (last == NULL || !vr_replicate_admitted(row))
        return CAUSE_NONE;
    if (vr_error_is_peer_away(last))
        return CAUSE_AWAY;
    for (guint i = 0; i < G_N_ELEMENTS(causes); i++) {
        if (strcmp(causes[i].slug, vr_error_slug(last)) == 0)
            return causes[i].cause;
    }
    return CAUSE_NONE;
}

/* TRUE if there is more room than before, and once at first: room may have been made since the
 * failure. */
static gboolean
has_grown(VrProbe *self, const char *uuid, guint64 room)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    const guint64 *before = g_hash_table_lookup(self->rooms, uuid);
    gboolean grown = before == NULL || room >= *before + ROOM_STEP;

    if (grown || room < *before)
        g_hash_table_replace(self->rooms, g_strdup(uuid), g_memdup2(&room, sizeof room));
    return grown;
}

/* A peer that answers this question and no cycle must not have one after the other made for it. */
static gboolean
may_kick(VrProbe *self, const char *uuid, gboolean is_back)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    const gint64 *last = g_hash_table_lookup(self->kicked, uuid);
    gint64 now = g_get_monotonic_time();

    if (!is_back && last != NULL && now - *last < KICK_US)
        return FALSE;
    g_hash_table_replace(self->kicked, g_strdup(uuid), g_memdup2(&now, sizeof now));
    return TRUE;
}

static void
forget_room(VrProbe *self, const char *uuid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    g_hash_table_remove(self->rooms, uuid);
}

static gboolean
has_room_there(VrProbe *self, VrPeerClient *peer, const VrProtection *row, GCancellable *cancel,
               GError **error)
{
    g_auto(VrOwnershipSide) there = {0};

    if (!vr_ownership_side_there(peer, row, cancel, &there, error))
        return FALSE;
    vr_peer_contact_word(self->app->contact, row->uuid, &there.word);
    return there.word.room_bytes != VR_PEER_ROOM_UNKNOWN &&
           has_grown(self, row->uuid, there.word.room_bytes);
}

/* @is_back: it did not answer before. @error: it could not be asked. */
static gboolean
is_over_there(VrProbe *self, VrPeerClient *peer, const VrProtection *row, Cause cause,
              gboolean is_back, GCancellable *cancel, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(VrRecoveryPoint) head = NULL;

    switch (cause) {
    case CAUSE_AWAY:
        return may_kick(self, row->uuid, is_back); /* it has just answered */
    case CAUSE_UNKNOWN:
        answer = vr_peer_client_action(peer, row->uuid, "known", NULL, cancel, error);
        return answer != NULL;
    case CAUSE_UNUSABLE:
        return vr_peer_client_head(peer, row->uuid, &head, cancel, error) && head != NULL;
    case CAUSE_FULL:
        return has_room_there(self, peer, row, cancel, error);
    case CAUSE_NONE:
    case CAUSE_HERE_FULL:
    case CAUSE_BUSY:
        return FALSE;
    }
    return FALSE;
}

/* FALSE if it does not answer. */
static gboolean
is_there(VrProbe *self, VrPeerClient *peer, const char *fingerprint, GCancellable *cancel)
{
    g_autoptr(GError) error = NULL;

    if (vr_peer_client_hello(peer, NULL, cancel, &error)) {
        if (vr_peer_contact_heard(self->app->contact, fingerprint))
            (void) vr_state_peer_seen(self->app->state, fingerprint, g_get_real_time(), NULL);
        return TRUE;
    }
    if (!g_cancellable_is_cancelled(cancel))
        vr_peer_contact_silent(self->app->contact, fingerprint, error);
    return FALSE;
}

static void
ask_peer(const char *fingerprint, GCancellable *cancel, gpointer data)
{
    VrProbe *self = data;
    g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);
    VrPeerClient *peer = vr_peer_pool_get(self->app->peers, fingerprint, NULL);
    gint64 since_us;
    g_autofree char *silent =
        vr_peer_contact_why_silent(self->app->contact, fingerprint, &since_us);
    gboolean there = peer != NULL && is_there(self, peer, fingerprint, cancel);

    for (guint i = 0; rows != NULL && there && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);
        Cause cause = g_str_equal(row->peer, fingerprint) ? cause_of(row) : CAUSE_NONE;
        g_autoptr(GError) error = NULL;

        if (cause != CAUSE_NONE &&
            is_over_there(self, peer, row, cause, silent != NULL, cancel, &error))
            vr_scheduler_kick(self->app->scheduler, row->uuid);
        there = error == NULL || !vr_error_is_peer_away(error);
    }
}

static guint64
free_bytes(const char *path)
{
    struct statvfs fs;

    return statvfs(path, &fs) == 0 ? (guint64) fs.f_bavail * fs.f_frsize : 0;
}

/* Where the daemon's own files and, beside the images, the scratch files lie. */
static gboolean
has_room_here(VrProbe *self, const VrProtection *row)
{
    g_autoptr(GPtrArray) disks = vr_dom_disks(self->app->conn, row->uuid, NULL);
    guint64 room = free_bytes(self->app->config->state_dir);

    if (disks == NULL)
        return FALSE;
    for (guint i = 0; i < disks->len; i++) {
        const char *path = ((const VrDomDisk *) g_ptr_array_index(disks, i))->path;

        room += path != NULL ? free_bytes(path) : 0;
    }
    return has_grown(self, row->uuid, room);
}

static gboolean
is_over_here(VrProbe *self, const VrProtection *row, Cause cause)
{
    if (cause == CAUSE_HERE_FULL)
        return has_room_here(self, row);
    return cause == CAUSE_BUSY && vr_point_backup_check_idle(self->app->conn, row->uuid, NULL) &&
           vr_dom_check_no_block_job(self->app->conn, row->uuid, NULL);
}

static void
look_at(VrProbe *self, const VrProtection *row)
{
    Cause cause = cause_of(row);

    if (cause != CAUSE_FULL && cause != CAUSE_HERE_FULL)
        forget_room(self, row->uuid);
    if (is_over_here(self, row, cause))
        vr_scheduler_kick(self->app->scheduler, row->uuid);
}

/* The peers first: libvirt may hold this thread up. */
static void
look(VrProbe *self, VrLoop *loop, const GPtrArray *rows)
{
    for (guint i = 0; i < rows->len; i++)
        (void) vr_peer_askers_ask(self->askers,
                                  ((const VrProtection *) g_ptr_array_index(rows, i))->peer);
    for (guint i = 0; i < rows->len && !vr_loop_ends(loop); i++)
        look_at(self, g_ptr_array_index(rows, i));
}

static void
probe(VrLoop *loop, gpointer data)
{
    VrProbe *self = data;

    while (!vr_loop_ends(loop)) {
        g_autoptr(GPtrArray) rows = vr_state_protection_list(self->app->state, NULL);

        if (rows != NULL)
            look(self, loop, rows);
        (void) vr_loop_wait(loop, g_get_monotonic_time() + PROBE_US);
    }
}

VrProbe *
vr_probe_start(VrApp *app)
{
    VrProbe *self = g_new0(VrProbe, 1);

    self->app = app;
    g_mutex_init(&self->lock);
    self->kicked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->rooms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->askers = vr_peer_askers_new(ask_peer, self);
    self->loop = vr_loop_start("probe", probe, self);
    return self;
}

void
vr_probe_stop(VrProbe *self)
{
    if (self == NULL)
        return;
    vr_loop_stop(self->loop);
    vr_peer_askers_free(self->askers);
    g_hash_table_unref(self->kicked);
    g_hash_table_unref(self->rooms);
    g_mutex_clear(&self->lock);
    g_free(self);
}
