/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "policies/slots.h"

G_BEGIN_DECLS

/** SECTION: who has which slot, and how many each peer's cycles have (policies/slots.h says who may
 * have one more). One thread at a time: the scheduler's lock guards it. */
typedef struct _VrSlotTable VrSlotTable;
/** Whom cycles go to; stays, once it was asked for, as long as the table. */
typedef struct _VrSlotPeer VrSlotPeer;

/** @max: at least 1. */
VrSlotTable *vr_slot_table_new(guint max);
void vr_slot_table_free(VrSlotTable *self);
const VrSlots *vr_slot_table_slots(const VrSlotTable *self);

/** @fingerprint: (nullable): not known. */
VrSlotPeer *vr_slot_table_peer(VrSlotTable *self, const char *fingerprint);
/** A protection goes from *@place (nullable) to @peer (nullable), and is counted there. */
void vr_slot_table_move(VrSlotTable *self, VrSlotPeer **place, VrSlotPeer *peer);
/** As one that waits for a slot now. */
VrSlotWaiter vr_slot_table_waiter(const VrSlotTable *self, const VrSlotPeer *peer,
                                  VrSlotClass class, gint64 since_us);

void vr_slot_table_use(VrSlotTable *self, VrSlotPeer *peer, VrSlotClass class);
void vr_slot_table_free_one(VrSlotTable *self, VrSlotPeer *peer, VrSlotClass class);

/* The same under the UUID of a protection, which has one at most. */
void vr_slot_table_take(VrSlotTable *self, const char *uuid, VrSlotPeer *peer, VrSlotClass class);
gboolean vr_slot_table_has(const VrSlotTable *self, const char *uuid);
/** FALSE: it has none. */
gboolean vr_slot_table_give_back(VrSlotTable *self, const char *uuid);

G_END_DECLS
