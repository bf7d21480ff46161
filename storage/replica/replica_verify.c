/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/replica/replica_verify.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policies/error.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/replica/replica_private.h"

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
    return vr_replica_put_check(self, layer->number, layer->disk, VR_LAYER_GOOD, error);
}

/* What was found to be unreadable stays so while it is away. */
static gboolean
record_unreadable(VrReplica *self, const Layer *layer, const VrLayerCheck *before, GError **error)
{
    g_autofree char *path = file_of(self, layer, "qcow2");
    g_autofree char *sums = file_of(self, layer, "sums");
    g_autofree char *backing =
        layer->below ? g_strdup_printf("%" G_GUINT64_FORMAT ".qcow2", layer->below) : NULL;
    gboolean is_there = vr_qcow2_check_header(path, layer->size_bytes, backing, NULL) &&
                        vr_replica_check_file(sums, 0, TRUE, NULL);
    gboolean stays = before && before->state == VR_LAYER_UNREADABLE;

    return vr_replica_put_check(self, layer->number, layer->disk,
                                is_there || stays ? VR_LAYER_UNREADABLE : VR_LAYER_AWAY, error);
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
    return publish_list(list, temporary, bad, error) &&
           vr_replica_put_check(self, layer->number, layer->disk, VR_LAYER_BAD, error);
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
    g_autoptr(GPtrArray) checks = vr_state_layer_checks(self->state, self->uuid, error);
    const VrLayerCheck *before =
        checks ? vr_replica_find_check(checks, layer->number, layer->disk) : NULL;
    gboolean was_good = !before || before->state == VR_LAYER_GOOD;
    guint wrong_before = result->layers_bad + result->layers_unreadable;
    g_autoptr(GError) local = NULL;
    VrLayerVerdict verdict;
    FILE *list = checks ? fopen(temporary, "we") : NULL;
    gboolean ok, is_good;

    if (!checks)
        return FALSE;
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
        ok = record_unreadable(self, layer, before, error);
    }
    if (list)
        fclose(list);
    (void) unlink(temporary);
    is_good = result->layers_bad + result->layers_unreadable == wrong_before;
    return ok && ((was_good && is_good) || vr_replica_take_note(self, error));
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

static gboolean
read_attachments(VrReplica *self, const VrRpRow *row, VrVerifyResult *result, GError **error)
{
    g_autoptr(GPtrArray) checks = vr_state_layer_checks(self->state, self->uuid, error);
    gboolean changed = FALSE;

    return checks &&
           vr_replica_look_at_attachments(self, row, checks, TRUE, &result->attachments_bad,
                                          &changed, error) &&
           (!changed || vr_replica_take_note(self, error));
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
    ok = layers && read_layers(self, layers, good_since_us, pace, data, &result, error) &&
         read_attachments(self, rows->pdata[index], &result, error);
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
    if (check && check->state == VR_LAYER_AWAY)
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

static gboolean
read_attachments_of(VrReplica *self, guint64 number, VrVerifyResult *result, GError **error)
{
    g_autoptr(GPtrArray) rows = vr_state_rp_list(self->state, self->uuid, error);
    int index = rows ? vr_replica_find_listed(self, rows, number, NULL) : -1;

    return rows && (index < 0 || read_attachments(self, rows->pdata[index], result, error));
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
    ok = read_layer(self, layer, pace, data, &result, error) &&
         read_attachments_of(self, layer->number, &result, error);
    vr_layer_gate_end_reading(&self->layers, layer->number);
    layer_free(layer);
    return ok;
}
