/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/fakes/fake-replica.h"

#include "storage/util/file_util.h"
#include "storage/replica/manifest.h"

#define DISK_BYTES (G_GUINT64_CONSTANT(1) << 20)

static char *
empty_root(void)
{
    g_autofree char *dir = g_dir_make_tmp("vr-fake-root-XXXXXX", NULL);
    g_autoptr(VrManifest) manifest = vr_manifest_open(dir, "vda", DISK_BYTES, NULL);
    g_autoptr(VrRootBuilder) builder = vr_root_builder_new();
    guint8 root[VR_ROOT_LEN];

    vr_manifest_root(manifest, root);
    vr_root_builder_add_disk(builder, "vda", DISK_BYTES, root);
    g_assert_true(vr_remove_tree(dir, NULL));
    return vr_root_builder_finish(builder);
}

VrRecoveryPoint *
fake_replica_commit(VrReplica *replica, const char *xml)
{
    g_autoptr(VrRecoveryPoint) head = vr_replica_head(replica, NULL);
    g_autoptr(VrCycleBegin) begin = g_new0(VrCycleBegin, 1);
    g_autoptr(VrCycleCommit) commit = g_new0(VrCycleCommit, 1);
    g_autoptr(GError) error = NULL;
    VrRecoveryPoint *rp;
    guint64 held = 0;

    begin->cycle = vr_random_id();
    begin->kind = head ? VR_CYCLE_DELTA : VR_CYCLE_INITIAL;
    begin->generation = vr_random_id();
    begin->base_number = head ? head->number : 0;
    begin->base_cycle = head ? g_strdup(head->cycle) : NULL;
    begin->disks = vr_cycle_disks_new();
    vr_cycle_disks_add(begin->disks, "vda", DISK_BYTES);
    (void) vr_replica_begin(replica, begin, &held, &error);
    g_assert_no_error(error);
    commit->cycle = g_strdup(begin->cycle);
    commit->time_us = g_get_real_time();
    commit->consistency = VR_CONSISTENCY_CRASH;
    commit->root = empty_root();
    commit->domain_xml = g_strdup(xml);
    commit->attachments = vr_attachments_new();
    rp = vr_replica_commit(replica, commit, &error);
    g_assert_no_error(error);
    return rp;
}
