/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "plugin/peer/peer_server.h"

G_BEGIN_DECLS

/** SECTION: what this daemon does for its peers; the functions get the VrApp as data. */
extern const VrPeerServerOps vr_peer_ops;

/** A VrPeerQuotaRoom. @data: the VrApp */
guint64 vr_peer_ops_room(gpointer data, const VrProtection *row);

G_END_DECLS
