/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/app.h"
#include "plugin/http/http_server.h"

G_BEGIN_DECLS

/** Bytes of a name in a request: what is longer than any name can be is not looked up. */
#define VR_API_NAME_MAX 255

/** SECTION: the API for people and programs of this host, on the UNIX socket: one table of routes a
 * noun. The handlers' data is the VrApp. */
extern const VrHttpRoute vr_api_host_routes[];
extern const guint vr_n_api_host_routes;
extern const VrHttpRoute vr_api_peer_routes[];
extern const guint vr_n_api_peer_routes;
extern const VrHttpRoute vr_api_settings_routes[];
extern const guint vr_n_api_settings_routes;
extern const VrHttpRoute vr_api_protection_routes[];
extern const guint vr_n_api_protection_routes;
extern const VrHttpRoute vr_api_change_routes[];
extern const guint vr_n_api_change_routes;
extern const VrHttpRoute vr_api_job_routes[];
extern const guint vr_n_api_job_routes;

/** @object: (transfer full) */
void vr_api_reply(VrHttpReply *reply, guint status, JsonObject *object);
/** @array: (transfer full) */
void vr_api_reply_array(VrHttpReply *reply, JsonArray *array);
/** 202 {"job": id} */
void vr_api_reply_job(VrHttpReply *reply, gint64 id);

/** A time, or null for 0. */
void vr_api_set_time(JsonObject *object, const char *key, gint64 time_us);

G_END_DECLS
