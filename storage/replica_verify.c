/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica_verify.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/file_util.h"
#include "storage/json_util.h"
#include "storage/replica_private.h"

/*
 * Layers are read outside of every lock; that nobody rewrites them is what the gate's readers are
 * for. A verdict is recorded after its list of bad chunks (DISK/<n>.bad) is durable.
 */

/* One layer, independent of rows that may go. */
typedef struct {
    guint64 number;
    char *disk; /* owned */
    guint64 size_bytes;
    guint64 below; /* number; 0: none */
    guint64 below_size;
    guint64 floor; /* bytes of it that show */
} Layer;

static void
layer_free(gpointer data)
{
    Layer *layer = data;

    g_free(layer->disk);
    g_free(layer);
}

static Layer *
layer_new(VrReplica *self, GPtrArray *rows, guint index, const char *disk)
{
    const VrRpRow *row = rows->pdata[index];
    guint64 floor = vr_replica_row_disk_floor(rows, index, disk);
    const VrRpRow *below = vr_replica_row_below(self, rows, &index, disk);
    Layer *layer = g_new0(Layer, 1);

    layer->number = row->rp.number;
    layer->disk = g_strdup(disk);
    layer->size_bytes = vr_replica_row_disk_size(row, disk);
    layer->below = below ? below->rp.number : 0;
    layer->below_size = below ? vr_replica_row_disk_size(below, disk) : 0;
    layer->floor = floor;
    return layer;
}

static char *
file_of(VrReplica *self, const Layer *layer, const char *suffix)
{
    return vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".%s", layer->disk, layer->number, suffix);
}

/* --- one layer --- */

static gboolean
put_check(VrReplica *self, const Layer *layer, VrLayerState state, GError **error)
{
    VrLayerCheck check = {layer->number, layer->disk, state, g_get_real_time()};
    gboolean ok = vr_state_layer_check_put(self->state, self->uuid, &check, error);

    vr_replica_forget_damage(self);
    return ok;
}

/* Chunks that were bad are held again; what the head's manifests say of them is not so any more. */
static gboolean
record_good(VrReplica *self, const Layer *layer, GError **error)
{
    g_autofree char *bad = file_of(self, layer, "bad");

    if (g_file_test(bad, G_FILE_TEST_EXISTS) &&
        (!vr_replica_mark_rebuild(self, error) || unlink(bad) < 0)) {
        if (error && !*error)
            vr_set_error_errno(error, errno, "cannot remove '%s'", bad);
        return FALSE;
    }
    return put_check(self, layer, VR_LAYER_GOOD, error);
}

static gboolean
record_bad(VrReplica *self, const Layer *layer, GError **error)
{
    gboolean ok;

    if (!put_check(self, layer, VR_LAYER_BAD, error))
        return FALSE;
    g_mutex_lock(&self->lock);
    g_rw_lock_writer_lock(&self->io);
    ok = vr_replica_note_damage(self, error);
    g_rw_lock_writer_unlock(&self->io);
    g_mutex_unlock(&self->lock);
    return ok;
}

static gboolean
publish_list(FILE *file, const char *from, const char *to, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(to);

    if (fflush(file) == 0 && fsync(fileno(file)) == 0 && rename(from, to) == 0)
        return vr_fsync_dir(dir, error);
    vr_set_error_errno(error, errno, "cannot write '%s'", to);
    return FALSE;
}

/* The reasons to stop are not the layer's. */
static gboolean
is_ours(const GError *error)
{
    return g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED) ||
           g_error_matches(error, VR_ERROR, VR_ERROR_NO_SPACE) ||
           g_error_matches(error, VR_ERROR, VR_ERROR_TRANSIENT);
}

static void
note_problem(VrVerifyResult *result, const char *problem)
{
    if (result->problem[0] == '\0')
        g_strlcpy(result->problem, problem, sizeof result->problem);
}

static gboolean
conclude(VrReplica *self, const Layer *layer, FILE *list, const VrLayerVerdict *verdict,
         VrVerifyResult *result, GError **error)
{
    g_autofree char *temporary = file_of(self, layer, "bad.tmp");
    g_autofree char *bad = file_of(self, layer, "bad");

    result->layers_read++;
    result->bytes += verdict->bytes;
    result->bad_chunks += verdict->bad;
    result->unreadable_chunks += verdict->unreadable;
    if (verdict->unreadable > 0) {
        g_autofree char *text =
            g_strdup_printf("layer %" G_GUINT64_FORMAT " of disk '%s': %s", layer->number,
                            layer->disk, g_strerror(verdict->last_errno));
        note_problem(result, text);
    }
    if (verdict->bad == 0)
        return record_good(self, layer, error);
    result->layers_bad++;
    return publish_list(list, temporary, bad, error) && record_bad(self, layer, error);
}

/* The caller has made itself a reader of the layer. */
static gboolean
read_layer(VrReplica *self, const Layer *layer, VrLayerPace pace, gpointer data,
           VrVerifyResult *result, GError **error)
{
    g_autofree char *path = file_of(self, layer, "qcow2");
    g_autofree char *sums = file_of(self, layer, "sums");
    g_autofree char *temporary = file_of(self, layer, "bad.tmp");
    g_autofree char *backing =
        layer->below ? g_strdup_printf("%" G_GUINT64_FORMAT ".qcow2", layer->below) : NULL;
    VrLayerToVerify wanted = {path,
                              sums,
                              layer->size_bytes,
                              backing,
                              vr_chunk_count(layer->below_size),
                              vr_chunk_count(layer->floor)};
    g_autoptr(GError) local = NULL;
    VrLayerVerdict verdict;
    FILE *list = fopen(temporary, "we");
    gboolean ok;

    if (!list && errno != ENOENT) {
        vr_set_error_errno(error, errno, "cannot write '%s'", temporary);
        return FALSE;
    }
    ok = list && vr_layer_verify(&wanted, list, pace, data, &verdict, &local);
    if (ok)
        ok = conclude(self, layer, list, &verdict, result, error);
    else if (local && is_ours(local))
        g_propagate_error(error, g_steal_pointer(&local));
    else {
        note_problem(result, local ? local->message : "the directory of the disk is not there");
        result->layers_unreadable++;
        ok = put_check(self, layer, VR_LAYER_UNREADABLE, error);
    }
    if (list)
        fclose(list);
    (void) unlink(temporary);
    return ok;
}

/* --- one recovery point --- */

/* Rows of the RP and below are read until end_reading(). (element-type VrRpRow) */
static GPtrArray *
begin_reading(VrReplica *self, guint64 number, guint *ret_index, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;
    int index;

    vr_layer_gate_enter(&self->layers, FALSE);
    rows = vr_state_rp_list(self->state, self->uuid, error);
    index = rows ? vr_replica_find_listed(self, rows, number, error) : -1;
    for (int i = 0; i <= index; i++)
        vr_layer_gate_begin_reading(&self->layers, ((VrRpRow *) rows->pdata[i])->rp.number);
    vr_layer_gate_leave(&self->layers);
    *ret_index = (guint) index;
    return index >= 0 ? g_steal_pointer(&rows) : NULL;
}

static void
end_reading(VrReplica *self, GPtrArray *rows, guint index)
{
    for (guint i = 0; i <= index; i++)
        vr_layer_gate_end_reading(&self->layers, ((VrRpRow *) rows->pdata[i])->rp.number);
}

static gboolean
is_half_merged(GPtrArray *rows, guint index)
{
    return ((const VrRpRow *) rows->pdata[index])->state == VR_RP_RETIRING;
}

/* Layers of the RP at @index, lowest last. (element-type Layer) */
static GPtrArray *
layers_of(VrReplica *self, GPtrArray *rows, guint index, VrVerifyResult *result, GError **error)
{
    g_autoptr(GPtrArray) layers = g_ptr_array_new_with_free_func(layer_free);
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(rows->pdata[index], error);

    for (guint d = 0; disks && d < disks->len; d++) {
        const VrCycleDisk *disk = disks->pdata[d];
        guint i = index;

        do {
            result->layers++;
            if (is_half_merged(rows, i))
                result->layers_left_out++;
            else
                g_ptr_array_add(layers, layer_new(self, rows, i, disk->name));
        } while (vr_replica_row_below(self, rows, &i, disk->name));
    }
    return disks ? g_steal_pointer(&layers) : NULL;
}

static gboolean
read_layers(VrReplica *self, GPtrArray *layers, gint64 good_since_us, VrLayerPace pace,
            gpointer data, VrVerifyResult *result, GError **error)
{
    g_autoptr(GPtrArray) checks = vr_state_layer_checks(self->state, self->uuid, error);

    for (guint i = 0; checks && i < layers->len; i++) {
        const Layer *layer = layers->pdata[i];
        const VrLayerCheck *check = vr_replica_find_check(checks, layer->number, layer->disk);

        if (check && check->state == VR_LAYER_GOOD && check->checked_us >= good_since_us)
            continue;
        if (!read_layer(self, layer, pace, data, result, error))
            return FALSE;
    }
    return checks != NULL;
}

gboolean
vr_replica_verify(VrReplica *self, guint64 number, gint64 good_since_us, VrLayerPace pace,
                  gpointer data, GCancellable *cancel, VrVerifyResult *ret_result, GError **error)
{
    VrVerifyResult result = {0};
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GPtrArray) layers = NULL;
    g_autoptr(GError) local = NULL;
    guint index = 0;
    gboolean ok;

    if (!vr_replica_finish_merges(self, cancel, &local))
        g_debug("replica of %s: %s", self->uuid, local->message);
    rows = begin_reading(self, number, &index, error);
    if (!rows)
        return FALSE;
    layers = layers_of(self, rows, index, &result, error);
    ok = layers && read_layers(self, layers, good_since_us, pace, data, &result, error);
    end_reading(self, rows, index);
    if (ok)
        *ret_result = result;
    return ok;
}

/* --- the scrub --- */

/* When the layer was last known to be what was proven. Reading a layer would keep a merge that was
 * interrupted from being finished: those wait. */
static gint64
layer_age(GPtrArray *rows, guint index, GPtrArray *checks, const char *disk)
{
    const VrRpRow *row = rows->pdata[index];
    const VrLayerCheck *check = vr_replica_find_check(checks, row->rp.number, disk);

    if (is_half_merged(rows, index) || (index > 0 && is_half_merged(rows, index - 1)))
        return G_MAXINT64;
    if (check && check->state == VR_LAYER_UNREADABLE)
        return G_MAXINT64;
    return check ? check->checked_us : row->rp.stored_us;
}

/* (transfer full) NULL without error if none is due. */
static Layer *
oldest_layer(VrReplica *self, gint64 due_us, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    g_autoptr(GPtrArray) checks =
        rows ? vr_state_layer_checks(self->state, self->uuid, error) : NULL;
    g_autofree char *found = NULL;
    gint64 oldest = due_us;
    guint index = 0;

    for (guint i = 0; checks && i < rows->len; i++) {
        g_autoptr(GPtrArray) disks = vr_replica_row_disks(rows->pdata[i], NULL);

        for (guint d = 0; disks && d < disks->len; d++) {
            const VrCycleDisk *disk = disks->pdata[d];
            gint64 age = layer_age(rows, i, checks, disk->name);

            if (age >= oldest)
                continue;
            oldest = age;
            index = i;
            g_free(found);
            found = g_strdup(disk->name);
        }
    }
    return found ? layer_new(self, rows, index, found) : NULL;
}

gboolean
vr_replica_scrub(VrReplica *self, gint64 due_us, VrLayerPace pace, gpointer data, gboolean *ret_any,
                 GError **error)
{
    VrVerifyResult result = {0};
    g_autoptr(GError) local = NULL;
    Layer *layer;
    gboolean ok;

    vr_layer_gate_enter(&self->layers, FALSE);
    layer = oldest_layer(self, due_us, &local);
    if (layer)
        vr_layer_gate_begin_reading(&self->layers, layer->number);
    vr_layer_gate_leave(&self->layers);
    *ret_any = layer != NULL;
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!layer)
        return TRUE;
    ok = read_layer(self, layer, pace, data, &result, error);
    vr_layer_gate_end_reading(&self->layers, layer->number);
    layer_free(layer);
    return ok;
}

/* --- the cheap look --- */

static gboolean
check_file(const char *path, guint64 size, gboolean any_size, GError **error)
{
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (any_size || (guint64) st.st_size == size))
        return TRUE;
    vr_set_error(error, VR_ERROR_CORRUPT, "replica-damaged",
                 "Restore the file from a backup of the store, or start replication anew.",
                 "'%s' of a recovery point is not there or not whole", path);
    return FALSE;
}

static gboolean
check_attachments(VrReplica *self, const VrRpRow *row, GError **error)
{
    g_autoptr(JsonNode) node =
        row->attachments
            ? vr_json_parse(row->attachments, strlen(row->attachments), VR_JSON_MAX_BYTES, NULL)
            : NULL;
    JsonArray *array = vr_json_as_array(node);

    for (guint i = 0; array && i < json_array_get_length(array); i++) {
        JsonObject *object = vr_json_object_at(array, i);
        const char *name = object ? vr_json_text_in(object, "name", "") : "";
        g_autofree char *path =
            vr_replica_path(self, "rp/%" G_GUINT64_FORMAT "/%s", row->rp.number, name);
        guint64 size = 0;

        if (!object || !vr_json_uint(object, "size", G_MAXINT64, &size, error) ||
            !check_file(path, size, FALSE, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
check_digests(VrReplica *self, GPtrArray *rows, guint index, const char *disk, GError **error)
{
    do {
        const VrRpRow *row = rows->pdata[index];
        g_autofree char *sums =
            vr_replica_path(self, "%s/%" G_GUINT64_FORMAT ".sums", disk, row->rp.number);

        if (row->state == VR_RP_LISTED && !check_file(sums, 0, TRUE, error))
            return FALSE;
    } while (vr_replica_row_below(self, rows, &index, disk));
    return TRUE;
}

static gboolean
check_point(VrReplica *self, GPtrArray *rows, guint index, GError **error)
{
    const VrRpRow *row = rows->pdata[index];
    g_autoptr(GPtrArray) disks = vr_replica_row_disks(row, error);
    g_autofree char *xml =
        vr_replica_path(self, "rp/%" G_GUINT64_FORMAT "/domain.xml", row->rp.number);

    if (!disks || !check_file(xml, 0, TRUE, error) || !check_attachments(self, row, error))
        return FALSE;
    for (guint i = 0; i < disks->len; i++) {
        const VrCycleDisk *disk = disks->pdata[i];

        if (!vr_replica_check_disk_chain(self, rows, index, disk->name, error) ||
            !check_digests(self, rows, index, disk->name, error))
            return FALSE;
    }
    return TRUE;
}

/* Whoever asks is about to use it: a merge gives way. */
gboolean
vr_replica_check_chain(VrReplica *self, guint64 number, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;
    int index;
    gboolean ok;

    vr_layer_gate_enter(&self->layers, TRUE);
    rows = vr_state_rp_list(self->state, self->uuid, error);
    index = rows ? vr_replica_find_listed(self, rows, number, error) : -1;
    ok = index >= 0 && check_point(self, rows, (guint) index, error);
    vr_layer_gate_leave(&self->layers);
    return ok;
}

static gboolean
look_at(VrReplica *self, GPtrArray *rows, guint index, const char *disk, GPtrArray *checks,
        GError **error)
{
    Layer *layer = layer_new(self, rows, index, disk);
    const VrLayerCheck *check = vr_replica_find_check(checks, layer->number, disk);
    gboolean was_away = check && check->state == VR_LAYER_UNREADABLE;
    g_autofree char *path = file_of(self, layer, "qcow2");
    g_autofree char *sums = file_of(self, layer, "sums");
    g_autofree char *backing =
        layer->below ? g_strdup_printf("%" G_GUINT64_FORMAT ".qcow2", layer->below) : NULL;
    g_autoptr(GError) wrong = NULL;
    gboolean ok = TRUE;

    if (!vr_qcow2_check_header(path, layer->size_bytes, backing, &wrong) ||
        !check_file(sums, 0, TRUE, &wrong)) {
        if (!was_away)
            g_debug("replica of %s: %s", self->uuid, wrong->message);
        ok = put_check(self, layer, VR_LAYER_UNREADABLE, error);
    } else if (was_away) {
        ok = vr_state_layer_check_delete(self->state, self->uuid, layer->number, disk, error);
        vr_replica_forget_damage(self);
    }
    layer_free(layer);
    return ok;
}

static gboolean
look_inside(VrReplica *self, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    g_autoptr(GPtrArray) checks =
        rows ? vr_state_layer_checks(self->state, self->uuid, error) : NULL;

    for (guint i = 0; checks && i < rows->len; i++) {
        g_autoptr(GPtrArray) disks = vr_replica_row_disks(rows->pdata[i], error);

        if (!disks)
            return FALSE;
        for (guint d = 0; d < disks->len && !is_half_merged(rows, i); d++) {
            const VrCycleDisk *disk = disks->pdata[d];
            if (!look_at(self, rows, i, disk->name, checks, error))
                return FALSE;
        }
    }
    return checks != NULL;
}

gboolean
vr_replica_look(VrReplica *self, GError **error)
{
    gboolean ok;

    vr_layer_gate_enter(&self->layers, FALSE);
    ok = look_inside(self, error);
    vr_layer_gate_leave(&self->layers);
    return ok;
}

gboolean
vr_replica_require_sound(VrReplica *self, guint64 number, GError **error)
{
    g_autoptr(GPtrArray) points = vr_replica_list(self, error);

    for (guint i = 0; points && i < points->len; i++) {
        const VrRecoveryPoint *rp = points->pdata[i];

        if (rp->number != number || !rp->damaged_disk)
            continue;
        vr_set_error(error, VR_ERROR_REFUSED, "replica-damaged",
                     i + 1 == points->len
                         ? "Run sync: what is damaged is sent again. Then try again."
                         : "Choose another recovery point: see rp-list.",
                     "recovery point %" G_GUINT64_FORMAT " is damaged: %" G_GUINT64_FORMAT
                     " chunks of disk '%s' in the store are not what was proven",
                     number, rp->damaged_chunks, rp->damaged_disk);
        return FALSE;
    }
    return points != NULL;
}
