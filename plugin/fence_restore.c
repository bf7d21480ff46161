/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/fence_restore.h"

#include <string.h>

#include "plugin/ownership.h"
#include "policies/error.h"
#include "storage/replica/store_scan.h"
#include "policies/units.h"

/* Said in the log when it is new. */
static void
note(VrApp *app, const char *uuid, const char *message, const char *action)
{
    g_autoptr(GPtrArray) notes = vr_fence_notes(app->fence);
    gboolean known = FALSE;

    for (guint i = 0; i < notes->len; i++) {
        const VrFenceNote *before = g_ptr_array_index(notes, i);

        known |= strcmp(before->uuid, uuid) == 0 && strcmp(before->message, message) == 0;
    }
    if (!known)
        g_warning("%s", message);
    vr_fence_note(app->fence, uuid, message, action);
}

static VrFenceStep
step_of(VrApp *app, const VrProtection *row, const VrGeneration *mine, VrFenceFacts *ret_facts,
        VrFenceRecord **ret_record)
{
    gboolean stands;

    *ret_facts = (VrFenceFacts){
        .target = row->role == VR_ROLE_TARGET,
        .owner = strcmp(vr_generation_owner(mine), vr_identity_fingerprint(app->identity)) == 0,
        .state = row->state,
    };
    vr_fence_look(app->fence, row->uuid, &stands, ret_record);
    return vr_fence_step(ret_facts, mine, stands, *ret_record);
}

static void
contradicts(VrApp *app, const VrProtection *row, const VrFenceRecord *record)
{
    g_autofree char *says = record ? vr_fence_record_sentence(record, row->name)
                                   : g_strdup("its fence file cannot be read");
    g_autofree char *message = g_strdup_printf(
        "domain '%s' cannot be started on host '%s': the database says that this host owns it, "
        "but %s",
        row->name, app->config->name, says);
    g_autofree char *action = g_strdup_printf(
        "Wait until the other host can be asked: it decides which of the two is old. If it is "
        "gone for good and the data here counts, remove the record: rm %s/fence/%s",
        app->config->state_dir, row->uuid);

    note(app, row->uuid, message, action);
}

static void
write_record(VrApp *app, const VrProtection *row)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *message = NULL;

    if (vr_ownership_fence(app, row, &error)) {
        g_message("domain '%s': its fence record is written again", row->name);
        vr_fence_note(app->fence, row->uuid, NULL, NULL);
        return;
    }
    message = g_strdup_printf("domain '%s' must not run on host '%s', and nothing keeps it from "
                              "that: its fence record cannot be written: %s",
                              row->name, app->config->name, error->message);
    note(app, row->uuid, message,
         "Make room in the state directory's file system, or make it writable; it is tried again "
         "by itself.");
}

/* Nobody else is at the row. */
static void
restore(VrApp *app, const VrProtection *row)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrGeneration) mine = vr_generation_from_line(row->generation, &error);
    g_autoptr(VrFenceRecord) record = NULL;
    VrFenceFacts facts;

    if (mine == NULL) {
        g_autofree char *message = g_strdup_printf(
            "domain '%s': the database does not say who owns it: %s", row->name, error->message);

        note(app, row->uuid, message, "Look at it on the other host.");
        return;
    }
    switch (step_of(app, row, mine, &facts, &record)) {
    case VR_FENCE_RIGHT:
        vr_fence_note(app->fence, row->uuid, NULL, NULL);
        return;
    case VR_FENCE_WRITE:
        write_record(app, row);
        return;
    case VR_FENCE_CONTRADICTS:
        contradicts(app, row, record);
        return;
    }
}

static gboolean
has_row(const GPtrArray *rows, const char *uuid)
{
    for (guint i = 0; i < rows->len; i++) {
        if (strcmp(((const VrProtection *) g_ptr_array_index(rows, i))->uuid, uuid) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean
in_a_store(VrApp *app, const char *uuid)
{
    g_autoptr(GPtrArray) stores = vr_state_store_list(app->state, NULL);

    for (guint i = 0; stores != NULL && i < stores->len; i++) {
        if (vr_store_holds(((const VrStoreRow *) g_ptr_array_index(stores, i))->path, uuid))
            return TRUE;
    }
    return FALSE;
}

static void
note_strangers(VrApp *app, const GPtrArray *rows)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) uuids = vr_fence_list(app->fence, &error);

    if (uuids == NULL) {
        g_warning("%s", error->message);
        return;
    }
    for (guint i = 0; i < uuids->len; i++) {
        const char *uuid = g_ptr_array_index(uuids, i);
        g_autofree char *message = NULL;
        g_autofree char *action = NULL;

        if (has_row(rows, uuid) || in_a_store(app, uuid)) /* that is said, with the way out */
            continue;
        message = g_strdup_printf("domain %s is fenced on host '%s', but the database does not "
                                  "know it; it may be older than the record, which stays",
                                  uuid, app->config->name);
        action = g_strdup_printf("If no other host runs that domain, remove the record: rm "
                                 "%s/fence/%s",
                                 app->config->state_dir, uuid);
        note(app, uuid, message, action);
    }
}

void
vr_fence_restore(VrApp *app)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, &error);

    if (rows == NULL) {
        g_warning("the fence records cannot be compared with the database: %s", error->message);
        return;
    }
    for (guint i = 0; i < rows->len; i++)
        restore(app, g_ptr_array_index(rows, i));
    note_strangers(app, rows);
}

void
vr_fence_restore_row(VrApp *app, const char *uuid)
{
    g_autoptr(VrProtection) row = vr_state_protection_get(app->state, uuid, NULL);

    if (row != NULL)
        restore(app, row);
}

/* Without the guard first: nobody is to be refused for a look. */
static gboolean
is_right(VrApp *app, const VrProtection *row)
{
    g_autoptr(VrGeneration) mine = vr_generation_from_line(row->generation, NULL);
    g_autoptr(VrFenceRecord) record = NULL;
    VrFenceFacts facts;

    return mine != NULL && step_of(app, row, mine, &facts, &record) == VR_FENCE_RIGHT;
}

static void
restore_guarded(VrApp *app, const VrProtection *row)
{
    g_autoptr(VrProtection) now = NULL;

    if (is_right(app, row)) {
        vr_fence_note(app->fence, row->uuid, NULL, NULL);
        return;
    }
    if (!vr_guard_take(app->guards, row->uuid, "its fence record", 0, NULL, NULL))
        return;
    now = vr_state_protection_get(app->state, row->uuid, NULL);
    if (now != NULL)
        restore(app, now);
    vr_guard_release(app->guards, row->uuid);
}

/* Notes of domains that have neither a row nor a record any more. */
static void
forget_gone(VrApp *app, const GPtrArray *rows)
{
    g_autoptr(GPtrArray) notes = vr_fence_notes(app->fence);

    for (guint i = 0; i < notes->len; i++) {
        const VrFenceNote *before = g_ptr_array_index(notes, i);
        g_autoptr(VrFenceRecord) record = NULL;
        gboolean stands;

        vr_fence_look(app->fence, before->uuid, &stands, &record);
        if (!stands && !has_row(rows, before->uuid))
            vr_fence_note(app->fence, before->uuid, NULL, NULL);
    }
}

void
vr_fence_restore_again(VrApp *app, const GPtrArray *rows)
{
    for (guint i = 0; i < rows->len; i++)
        restore_guarded(app, g_ptr_array_index(rows, i));
    forget_gone(app, rows);
}

static gboolean
may_release(VrApp *app, const VrProtection *row)
{
    g_autoptr(VrGeneration) mine = vr_generation_from_line(row->generation, NULL);
    g_autoptr(VrFenceRecord) record = NULL;
    VrFenceFacts facts;

    return mine != NULL && step_of(app, row, mine, &facts, &record) == VR_FENCE_CONTRADICTS;
}

void
vr_fence_release_row(VrApp *app, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrProtection) row = NULL;

    if (!vr_guard_take(app->guards, uuid, "its fence record", 0, NULL, NULL))
        return;
    row = vr_state_protection_get(app->state, uuid, NULL);
    if (row != NULL && may_release(app, row)) {
        if (vr_ownership_unfence(app, uuid, &error))
            g_message("domain '%s': both hosts agree that this one owns it; its fence record of "
                      "before is removed",
                      row->name);
        else
            g_warning("domain '%s': %s", row->name, error->message);
        if (error == NULL)
            vr_fence_note(app->fence, uuid, NULL, NULL);
    }
    vr_guard_release(app->guards, uuid);
}
