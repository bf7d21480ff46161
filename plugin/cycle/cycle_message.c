/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cycle/cycle_message.h"

#include "policies/error.h"
#include "policies/generation.h"
#include "storage/replica/manifest.h"

VrCycleBegin *
vr_cycle_begin_message(const char *cycle, const VrCyclePlan *plan, const VrProtection *row,
                       GError **error)
{
    g_autoptr(VrGeneration) generation = vr_generation_from_line(row->generation, NULL);
    VrCycleBegin *begin;

    if (generation == NULL) {
        vr_set_error(error, VR_ERROR_CORRUPT, "bad-generation",
                     "Unprotect the domain and protect it again.",
                     "domain '%s': the generation in the database cannot be read", row->name);
        return NULL;
    }
    begin = g_new0(VrCycleBegin, 1);
    begin->cycle = g_strdup(cycle);
    begin->kind = plan->kind;
    begin->generation = g_strdup(vr_generation_id(generation));
    begin->base_number = row->base_number;
    begin->base_cycle = g_strdup(row->base_cycle);
    begin->disks = vr_cycle_disks_new();
    for (guint i = 0; i < plan->disks->len; i++) {
        const VrPlanDisk *disk = g_ptr_array_index(plan->disks, i);

        vr_cycle_disks_add(begin->disks, disk->name, disk->size_bytes);
    }
    return begin;
}

static char *
root_of(const VrCyclePlan *plan, GPtrArray *manifests, GPtrArray *attachments)
{
    g_autoptr(VrRootBuilder) builder = vr_root_builder_new();

    for (guint i = 0; i < manifests->len; i++) {
        const VrPlanDisk *disk = g_ptr_array_index(plan->disks, i);
        guint8 root[VR_ROOT_LEN];

        vr_manifest_root(g_ptr_array_index(manifests, i), root);
        vr_root_builder_add_disk(builder, disk->name, disk->size_bytes, root);
    }
    for (guint i = 0; i < attachments->len; i++) {
        const VrAttachment *attachment = g_ptr_array_index(attachments, i);

        vr_root_builder_add_attachment(builder, attachment->name, attachment->size_bytes,
                                       attachment->sha256);
    }
    return vr_root_builder_finish(builder);
}

VrCycleCommit *
vr_cycle_commit_message(const char *cycle, const VrCyclePlan *plan, GPtrArray *manifests,
                        GPtrArray *attachments, gint64 time_us, VrConsistency consistency)
{
    VrCycleCommit *commit = g_new0(VrCycleCommit, 1);

    commit->cycle = g_strdup(cycle);
    commit->time_us = time_us;
    commit->consistency = consistency;
    commit->root = root_of(plan, manifests, attachments);
    commit->domain_xml = g_strdup(plan->xml);
    commit->attachments = attachments;
    return commit;
}
