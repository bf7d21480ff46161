/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_word.h"

#include "storage/replica/store_room.h"
#include "storage/util/json_util.h"

#define UNKNOWN G_MAXUINT64

static gboolean
look_at_store(VrApp *app, const VrProtection *row, VrStoreRoom *ret_room)
{
    VrStoreRow *store = vr_state_store_get(app->state, row->store, NULL);
    gboolean ok = store != NULL && vr_store_room(store->path, ret_room, NULL);

    vr_store_row_free(store);
    return ok;
}

gint
vr_peer_word_store_percent(VrApp *app, const VrProtection *row)
{
    VrStoreRoom room;

    return look_at_store(app, row, &room) ? (gint) room.used_percent : -1;
}

/* Of the store, and of what the protection's source may have here. */
static guint64
room_for(VrApp *app, const VrProtection *row, const VrStoreRoom *store)
{
    g_autoptr(VrPeer) peer = vr_state_peer_get(app->state, row->peer, NULL);
    guint64 left = store->free_bytes;
    guint protections;
    guint64 used;

    if (peer != NULL && peer->quota_bytes != 0 &&
        vr_peer_quota_usage(app->quota, row->peer, &protections, &used, NULL))
        left = MIN(left, peer->quota_bytes > used ? peer->quota_bytes - used : 0);
    return left;
}

void
vr_peer_word_add(VrApp *app, const VrProtection *row, JsonObject *answer)
{
    VrScheduleInfo schedule;
    VrStoreRoom room;

    if (row->role == VR_ROLE_SOURCE) {
        vr_scheduler_info(app->scheduler, row->uuid, &schedule);
        json_object_set_boolean_member(answer, "idle", schedule.idle);
    } else if (look_at_store(app, row, &room)) {
        json_object_set_int_member(answer, "store_percent", room.used_percent);
        json_object_set_int_member(answer, "room_bytes",
                                   (gint64) MIN(room_for(app, row, &room), G_MAXINT64));
    }
}

gboolean
vr_peer_word_read(JsonObject *answer, VrPeerWord *ret_word, GError **error)
{
    guint64 percent;

    *ret_word = (VrPeerWord){.store_percent = -1};
    if (!vr_json_bool_opt(answer, "idle", FALSE, &ret_word->idle, error) ||
        !vr_json_uint_opt(answer, "store_percent", 100, UNKNOWN, &percent, error) ||
        !vr_json_uint_opt(answer, "room_bytes", G_MAXINT64, VR_PEER_ROOM_UNKNOWN,
                          &ret_word->room_bytes, error))
        return FALSE;
    if (percent != UNKNOWN)
        ret_word->store_percent = (gint) percent;
    return TRUE;
}
