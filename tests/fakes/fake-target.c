/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/fakes/fake-target.h"

#include <string.h>

#include "plugin/peer/peer_pool.h"
#include "storage/wire/peer_client.h"
#include "tests/fakes/fake-fault.h"

#define RECORD_LEN 24
#define PAGE 7 /* records, so that there are pages */
#define OTHER_CYCLE "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

FakeTarget fake_target;

static gboolean
before(GError **error)
{
    return fake_fault_before(FAKE_TARGET, error);
}

/* Of a call that was carried out: what its caller is told. */
static gboolean
answer(gboolean ok, GError **error)
{
    GError *lost = NULL;

    if (!fake_fault_after(&lost))
        return ok;
    g_clear_error(error);
    g_propagate_error(error, lost);
    return FALSE;
}

static VrRecoveryPoint *
told(VrRecoveryPoint *rp, FakeLie lie)
{
    if (rp != NULL && lie == FAKE_LIE_ROOT)
        rp->root[0] = rp->root[0] == '0' ? '1' : '0';
    if (rp != NULL && lie == FAKE_LIE_CYCLE) {
        strcpy(rp->cycle, OTHER_CYCLE);
        rp->number += 7;
    }
    if (rp != NULL && lie == FAKE_LIE_NUMBER)
        rp->number = 1;
    if (rp != NULL && lie == FAKE_LIE_SHOWN) {
        rp->time_us += G_TIME_SPAN_DAY * 365 * 1000;
        rp->consistency = VR_CONSISTENCY_APP;
    }
    return rp;
}

VrPeerClient *
vr_peer_pool_get(VrPeerPool *self, const char *peer, GError **error)
{
    return (VrPeerClient *) &fake_target;
}

const char *
vr_peer_client_name(const VrPeerClient *self)
{
    return "kvm2";
}

JsonNode *
vr_peer_client_protection_put(VrPeerClient *self, const char *uuid, JsonNode *request,
                              GCancellable *cancel, GError **error)
{
    g_autoptr(JsonNode) node = NULL;

    if (before(error))
        return NULL;
    node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, json_object_new());
    return answer(TRUE, error) ? g_steal_pointer(&node) : NULL;
}

gboolean
vr_peer_client_head(VrPeerClient *self, const char *uuid, VrRecoveryPoint **ret_rp,
                    GCancellable *cancel, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRecoveryPoint) rp = NULL;

    if (before(error))
        return FALSE;
    rp = vr_replica_head(fake_target.replica, &local);
    g_assert_no_error(local);
    if (!answer(TRUE, error))
        return FALSE;
    *ret_rp = told(g_steal_pointer(&rp), fake_target.head);
    return TRUE;
}

gboolean
vr_peer_client_begin(VrPeerClient *self, const char *uuid, const VrCycleBegin *begin,
                     guint64 *ret_held, GCancellable *cancel, GError **error)
{
    if (before(error))
        return FALSE;
    if (strcmp(begin->generation, fake_target.generation) != 0) {
        vr_set_error(error, VR_ERROR_REFUSED, "generation-behind", NULL, "another generation");
        return FALSE;
    }
    return answer(vr_replica_begin(fake_target.replica, begin, ret_held, error), error);
}

gboolean
vr_peer_client_cycle_status(VrPeerClient *self, const char *uuid, const char *cycle,
                            VrCycleStatus *ret_status, VrRecoveryPoint **ret_rp,
                            GCancellable *cancel, GError **error)
{
    g_autoptr(VrRecoveryPoint) rp = NULL;

    if (before(error))
        return FALSE;
    *ret_status = vr_replica_cycle_status(fake_target.replica, cycle, &rp);
    if (!answer(TRUE, error))
        return FALSE;
    *ret_rp = told(g_steal_pointer(&rp), fake_target.commit);
    return TRUE;
}

/* Returns how many records @page has; @ret_next: behind the last one's chunk. */
static gsize
feed(GBytes *page, guint64 *ret_next, VrDigestFunc func, gpointer data)
{
    gsize len = 0;
    const guint8 *p = g_bytes_get_data(page, &len);

    for (gsize i = 0; i < len; i += RECORD_LEN) {
        guint64 chunk;
        VrDigest digest;

        memcpy(&chunk, p + i, sizeof chunk);
        memcpy(digest.b, p + i + sizeof chunk, VR_DIGEST_LEN);
        func(GUINT64_FROM_LE(chunk), &digest, data);
        *ret_next = GUINT64_FROM_LE(chunk) + 1;
    }
    return len / RECORD_LEN;
}

gboolean
vr_peer_client_held(VrPeerClient *self, const char *uuid, const char *cycle, const char *disk,
                    guint64 chunks, VrDigestFunc func, gpointer data, GCancellable *cancel,
                    GError **error)
{
    guint64 first = 0, next;
    gsize n;

    do {
        g_autoptr(GBytes) page = NULL;

        if (before(error))
            return FALSE;
        page = vr_replica_held(fake_target.replica, cycle, disk, first, PAGE, error);
        if (page == NULL || !answer(TRUE, error))
            return FALSE;
        n = feed(page, &next, func, data);
        first += n;
    } while (n > 0);
    return TRUE;
}

gboolean
vr_peer_client_sums(VrPeerClient *self, const char *uuid, const char *disk, guint64 chunks,
                    VrDigestFunc func, gpointer data, GCancellable *cancel, GError **error)
{
    guint64 from = 0;
    gsize n;

    do {
        g_autoptr(GBytes) page = NULL;

        if (before(error))
            return FALSE;
        page = vr_replica_head_sums(fake_target.replica, disk, from, PAGE, error);
        if (page == NULL || !answer(TRUE, error))
            return FALSE;
        n = feed(page, &from, func, data);
    } while (n > 0);
    return TRUE;
}

gboolean
vr_peer_client_has_attachment(VrPeerClient *self, const char *uuid, const char *sha256,
                              gboolean *ret_has, GCancellable *cancel, GError **error)
{
    if (before(error))
        return FALSE;
    *ret_has = vr_replica_has_attachment(fake_target.replica, sha256);
    return answer(TRUE, error);
}

gboolean
vr_peer_client_put_attachment(VrPeerClient *self, const char *uuid, const char *cycle,
                              const char *sha256, int fd, guint64 size, GCancellable *cancel,
                              GError **error)
{
    if (before(error))
        return FALSE;
    return answer(vr_replica_put_attachment(fake_target.replica, cycle, sha256, fd, error), error);
}

VrRecoveryPoint *
vr_peer_client_commit(VrPeerClient *self, const char *uuid, const VrCycleCommit *commit,
                      GCancellable *cancel, GError **error)
{
    g_autoptr(VrRecoveryPoint) rp = NULL;

    if (before(error))
        return NULL;
    if (fake_target.commits != NULL)
        fake_target.commits();
    rp = vr_replica_commit(fake_target.replica, commit, error);
    if (!answer(rp != NULL, error))
        return NULL;
    return told(g_steal_pointer(&rp), fake_target.commit);
}

typedef struct {
    VrSink sink; /* first */
    char *cycle; /* owned */
} FakeSink;

static gboolean
sink_send(VrSink *sink, guint worker, const guint8 *body, gsize len, GCancellable *cancel,
          GError **error)
{
    FakeSink *self = (FakeSink *) sink;

    if (before(error))
        return FALSE;
    __atomic_add_fetch(&fake_target.bytes, len, __ATOMIC_RELAXED);
    return answer(vr_replica_write(fake_target.replica, self->cycle, body, len, error), error);
}

VrSink *
vr_peer_sink_new(VrPeerClient *client, const char *uuid, const char *cycle)
{
    FakeSink *self = g_new0(FakeSink, 1);

    self->sink.send = sink_send;
    self->cycle = g_strdup(cycle);
    return &self->sink;
}

void
vr_peer_sink_free(VrSink *sink)
{
    g_free(((FakeSink *) sink)->cycle);
    g_free(sink);
}
