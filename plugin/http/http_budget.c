/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/http/http_budget.h"

#include "policies/error.h"

/* Bodies of one transfer; more are freed when their request is over. */
#define BUFFERS_KEPT 4
/* Of a request of a peer that has no other: it waits for nobody, however much the others take. */
#define FIRST_MAX ((guint64) 12 << 20)

struct _VrHttpBudget {
    guint64 peer_max, all_max; /* bytes */
    gint64 wait_us;
    GMutex lock; /* guards the rest */
    GCond given;
    gboolean closed;
    guint64 all;        /* bytes taken */
    GHashTable *taken;  /* owned; peer -> bytes taken (guint64 *), of those that took some */
    GPtrArray *buffers; /* owned; GByteArray */
};

VrHttpBudget *
vr_http_budget_new(guint64 peer_max, guint64 all_max, gint64 wait_us)
{
    VrHttpBudget *self = g_new0(VrHttpBudget, 1);

    self->peer_max = peer_max;
    self->all_max = all_max;
    self->wait_us = wait_us;
    g_mutex_init(&self->lock);
    g_cond_init(&self->given);
    self->taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->buffers = g_ptr_array_new_with_free_func((GDestroyNotify) g_byte_array_unref);
    return self;
}

void
vr_http_budget_free(VrHttpBudget *self)
{
    if (!self)
        return;
    g_hash_table_unref(self->taken);
    g_ptr_array_unref(self->buffers);
    g_cond_clear(&self->given);
    g_mutex_clear(&self->lock);
    g_free(self);
}

static gboolean
fits(VrHttpBudget *self, const char *peer, guint64 bytes)
{
    const guint64 *taken = g_hash_table_lookup(self->taken, peer);

    if ((taken ? *taken : 0) + bytes > self->peer_max)
        return FALSE;
    return self->all + bytes <= self->all_max || (!taken && *peer && bytes <= FIRST_MAX);
}

static void
add(VrHttpBudget *self, const char *peer, guint64 bytes)
{
    guint64 *taken = g_hash_table_lookup(self->taken, peer);

    if (!taken) {
        taken = g_new0(guint64, 1);
        g_hash_table_insert(self->taken, g_strdup(peer), taken);
    }
    *taken += bytes;
    self->all += bytes;
}

gboolean
vr_http_budget_take(VrHttpBudget *self, const char *peer, guint64 bytes, guint64 *ret_taken,
                    GError **error)
{
    gint64 until_us = g_get_monotonic_time() + self->wait_us;
    gboolean ok;

    bytes = MIN(bytes, MIN(self->peer_max, self->all_max));
    g_mutex_lock(&self->lock);
    while (!(ok = fits(self, peer, bytes)) && !self->closed) {
        if (!g_cond_wait_until(&self->given, &self->lock, until_us))
            break;
    }
    ok = ok && !self->closed;
    if (ok)
        add(self, peer, bytes);
    g_mutex_unlock(&self->lock);
    if (ok)
        *ret_taken = bytes;
    else
        vr_set_error(error, VR_ERROR_TRANSIENT, "busy", "Try again, with fewer requests at once.",
                     "more requests are under way than there is memory for");
    return ok;
}

void
vr_http_budget_give(VrHttpBudget *self, const char *peer, guint64 bytes)
{
    guint64 *taken;

    if (bytes == 0)
        return;
    g_mutex_lock(&self->lock);
    taken = g_hash_table_lookup(self->taken, peer);
    self->all -= bytes;
    *taken -= bytes;
    if (*taken == 0)
        g_hash_table_remove(self->taken, peer);
    g_cond_broadcast(&self->given);
    g_mutex_unlock(&self->lock);
}

void
vr_http_budget_close(VrHttpBudget *self)
{
    g_mutex_lock(&self->lock);
    self->closed = TRUE;
    g_cond_broadcast(&self->given);
    g_mutex_unlock(&self->lock);
}

GByteArray *
vr_http_budget_buffer(VrHttpBudget *self)
{
    GByteArray *buffer = NULL;

    g_mutex_lock(&self->lock);
    if (self->buffers->len > 0)
        buffer = g_ptr_array_steal_index(self->buffers, self->buffers->len - 1);
    g_mutex_unlock(&self->lock);
    return buffer ? buffer : g_byte_array_new();
}

void
vr_http_budget_buffer_done(VrHttpBudget *self, GByteArray *buffer)
{
    g_byte_array_set_size(buffer, 0);
    g_mutex_lock(&self->lock);
    if (self->buffers->len < BUFFERS_KEPT)
        g_ptr_array_add(self->buffers, g_steal_pointer(&buffer));
    g_mutex_unlock(&self->lock);
    if (buffer)
        g_byte_array_unref(buffer);
}

void
vr_http_budget_trim(VrHttpBudget *self)
{
    g_mutex_lock(&self->lock);
    g_ptr_array_set_size(self->buffers, 0);
    g_mutex_unlock(&self->lock);
}
