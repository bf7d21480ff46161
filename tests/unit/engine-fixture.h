/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib/gstdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin/cycle/attachments.h"
#include "plugin/cycle/cycle.h"
#include "plugin/cycle/protection_push.h"
#include "policies/fault.h"
#include "policies/generation.h"
#include "policies/ids.h"
#include "storage/util/file_util.h"
#include "tests/fakes/fake-dom.h"
#include "tests/fakes/fake-fault.h"
#include "tests/fakes/fake-guest.h"
#include "tests/fakes/fake-target.h"
#include "tests/fakes/qcow2-read.h"

/*
 * A source with a real database and real manifests, a target with a real store, and between them
 * and libvirt the fakes. A cycle runs in this process, or in a child that a fault kills: then both
 * are opened anew.
 */
#define UUID "6a3f0d5e-8f5b-4f0e-9c55-3b1e6d0c9a03"
#define PEER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define RPS_MAX 6 /* then a new store: chains are read as a whole */

typedef struct {
    guint8 data[FAKE_DISKS][FAKE_DISK_BYTES];
    char *kernel; /* owned */
} Content;

typedef struct {
    VrApp app;
    VrConfig config;
    VrState *target_state;
    char *dir;
    char *generation;  /* id, owned */
    GPtrArray *points; /* Content of RP number index + 1, as the guest had it */
    guint64 judged;    /* points up to this number were read when they were new */
    VrCycleWanted wanted;
    VrCopyProgress progress;
} Fixture;

static Fixture *now; /* for fake_guest_deletes */

static char *at(const Fixture *f, const char *name);
static void open_all(Fixture *f);
static void close_all(Fixture *f);
static void look_before_point(void);

static void
content_free(gpointer data)
{
    g_free(((Content *) data)->kernel);
    g_free(data);
}

static char *
at(const Fixture *f, const char *name)
{
    return g_build_filename(f->dir, name, NULL);
}

static VrProtection *
row_of(Fixture *f)
{
    VrProtection *row = vr_state_protection_get(f->app.state, UUID, NULL);

    g_assert_nonnull(row);
    return row;
}

static gboolean
has_journal(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrCycleJournal) journal = vr_state_cycle_get(f->app.state, UUID, &error);

    g_assert_no_error(error);
    return journal != NULL;
}

/* The checkpoint of the base that is recorded stays, whatever is wrong. */
static void
assert_not_base(const char *checkpoint)
{
    g_autoptr(VrProtection) row = row_of(now);

    g_assert_cmpstr(row->checkpoint, !=, checkpoint);
}

/* Nobody waits for the target with the guest in hand. */
static void
assert_guest_free(void)
{
    g_assert_cmpstr(fake_guest->job, ==, "");
    g_assert_false(fake_guest->frozen);
    g_assert_cmpuint(fake_guest->servers, ==, 0);
}

static void
open_all(Fixture *f)
{
    g_autofree char *source = at(f, "source");
    g_autofree char *target = at(f, "target");
    g_autofree char *store = at(f, "store");
    g_autofree char *manifests = at(f, "target/manifests");
    g_autoptr(GError) error = NULL;

    f->app.state = vr_state_open(source, &error);
    g_assert_no_error(error);
    f->target_state = vr_state_open(target, &error);
    g_assert_no_error(error);
    fake_target.replica = vr_replica_open(f->target_state, store, UUID, manifests, &error);
    g_assert_no_error(error);
    f->app.cycles = vr_cycle_log_new();
    f->app.policies = vr_policy_files_new(source);
    vr_attachments_forget();
    vr_protection_push_forget(UUID);
}

static void
close_all(Fixture *f)
{
    g_clear_pointer(&fake_target.replica, vr_replica_close);
    g_clear_pointer(&f->target_state, vr_state_close);
    g_clear_pointer(&f->app.policies, vr_policy_files_free);
    g_clear_pointer(&f->app.cycles, vr_cycle_log_free);
    g_clear_pointer(&f->app.state, vr_state_close);
}

/* What came of a cycle that is not committed is gone there. */
static void
target_forgets(Fixture *f)
{
    g_autofree char *incoming = at(f, "store/" UUID "/incoming");

    close_all(f);
    g_assert_true(vr_remove_tree(incoming, NULL));
    open_all(f);
}

static void
insert_row(Fixture *f)
{
    g_autofree char *id = vr_random_id();
    g_autoptr(VrGeneration) generation = vr_generation_new(id, PEER);
    g_autofree char *line = vr_generation_to_line(generation);
    VrPeer peer = {(char *) PEER, (char *) "kvm2", (char *) "127.0.0.1:1", 5, 0};
    VrProtection row = {
        .uuid = (char *) UUID,
        .name = (char *) "guest1",
        .role = VR_ROLE_SOURCE,
        .peer = (char *) PEER,
        .store = (char *) "default",
        .policy = (char *) "default",
        .policy_text = (char *) "[policy]\ninterval=30s\n",
        .state = VR_PROTECTION_INITIAL,
        .generation = line,
        .exclude = (char *) "",
    };

    f->generation = g_strdup(vr_generation_id(generation));
    g_assert_true(vr_state_peer_put(f->app.state, &peer, NULL));
    g_assert_true(vr_state_protection_insert(f->app.state, &row, NULL));
}

static void
define_guest(Fixture *f)
{
    FakeDom *dom = fake_dom_add(f->app.conn, UUID, "guest1", VR_DOM_RUNNING);
    g_autofree char *kernel = at(f, "kernel");

    dom->xml = g_strdup_printf(
        "<domain type='qemu'><name>guest1</name><uuid>" UUID "</uuid>"
        "<memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><kernel>%s</kernel></os><devices>"
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source file='/srv/vda.qcow2'/><target dev='vda' bus='virtio'/></disk>"
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source file='/srv/vdb.qcow2'/><target dev='vdb' bus='virtio'/></disk>"
        "</devices></domain>",
        kernel);
    g_assert_true(g_file_set_contents(kernel, "kernel 0", -1, NULL));
}

static FakeDom *
guest_dom(Fixture *f)
{
    return fake_dom_find(f->app.conn, UUID);
}

static void
set_up(Fixture *f, gconstpointer data)
{
    static const char *const dirs[] = {"source", "target", "store", "guest"};
    const char *base = g_access("/dev/shm", W_OK) == 0 ? "/dev/shm" : g_get_tmp_dir();
    g_autofree char *template = g_build_filename(base, "vr-engine-XXXXXX", NULL);
    g_autofree char *guest = NULL;

    *f = (Fixture){0};
    now = f;
    g_random_set_seed((guint32) g_test_rand_int());
    f->dir = g_strdup(g_mkdtemp(template));
    g_assert_nonnull(f->dir);
    for (guint i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = at(f, dirs[i]);

        g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    }
    guest = at(f, "guest");
    f->config = (VrConfig){
        .name = (char *) "kvm1",
        .state_dir = at(f, "source"),
        .runtime_dir = at(f, "guest"),
        .workers = 1,
    };
    f->app.config = &f->config;
    f->app.conn = GUINT_TO_POINTER(1);
    f->points = g_ptr_array_new_with_free_func(content_free);
    f->wanted.quiesce = TRUE;
    g_assert_true(vr_fault_init(NULL, NULL));
    fake_fault_disarm();
    fake_dom_reset();
    fake_guest_reset(guest);
    fake_guest->busy = TRUE;
    fake_target = (FakeTarget){0};
    open_all(f);
    insert_row(f);
    fake_target.generation = f->generation;
    fake_target.commits = assert_guest_free;
    define_guest(f);
    fake_guest_deletes = assert_not_base;
    fake_guest_begins = look_before_point;
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    fake_guest_deletes = NULL;
    fake_guest_begins = NULL;
    close_all(f);
    g_assert_true(vr_remove_tree(f->dir, NULL));
    g_ptr_array_unref(f->points);
    g_free(f->config.state_dir);
    g_free(f->config.runtime_dir);
    g_free(f->generation);
    g_free(f->dir);
}

static void
start_anew(Fixture *f)
{
    tear_down(f, NULL);
    set_up(f, NULL);
}

/* What is true at each moment. */

static void
judge_disk(const Content *expected, const VrReplicaDisk *disk)
{
    guint index = strcmp(disk->name, "vda") == 0 ? 0 : 1;
    g_autofree guint8 *stored = g_malloc(FAKE_DISK_BYTES);

    g_assert_cmpuint(disk->size_bytes, ==, fake_guest->size[index]);
    qcow2_read(disk->path, stored, disk->size_bytes);
    g_assert_true(memcmp(stored, expected->data[index], disk->size_bytes) == 0);
}

static void
judge_point(Fixture *f, guint64 number)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) disks = vr_replica_disks(fake_target.replica, number, &error);
    g_autofree char *path = vr_replica_attachment(fake_target.replica, number, "kernel");
    const Content *expected = f->points->pdata[number - 1];
    g_autofree char *kernel = NULL;

    g_assert_no_error(error);
    g_assert_cmpuint(disks->len, ==, FAKE_DISKS);
    for (guint i = 0; i < disks->len; i++)
        judge_disk(expected, disks->pdata[i]);
    g_assert_true(g_file_get_contents(path, &kernel, NULL, NULL));
    g_assert_cmpstr(kernel, ==, expected->kernel);
}

/* A point that is listed for the first time is what the guest was frozen at last. */
static void
remember_point(Fixture *f)
{
    Content *content = g_new0(Content, 1);
    g_autofree char *kernel = at(f, "kernel");

    memcpy(content->data, fake_guest->view, sizeof content->data);
    g_assert_true(g_file_get_contents(kernel, &content->kernel, NULL, NULL));
    g_ptr_array_add(f->points, content);
}

/* The points that are listed; a new one is remembered. */
static GPtrArray *
look(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *rps = vr_replica_list(fake_target.replica, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(rps->len, <=, f->points->len + 1);
    if (rps->len > f->points->len)
        remember_point(f);
    g_assert_cmpuint(rps->len, ==, f->points->len);
    return rps;
}

static void
look_before_point(void)
{
    g_ptr_array_unref(look(now));
}

/* Old or new, never a mix; and the base is one of them. */
static void
judge(Fixture *f)
{
    g_autoptr(GPtrArray) rps = look(f);
    g_autoptr(VrProtection) row = row_of(f);

    for (guint64 number = MIN(f->judged + 1, rps->len); number > 0 && number <= rps->len; number++)
        judge_point(f, number);
    f->judged = rps->len;
    if (row->base_number != 0) {
        const VrRecoveryPoint *base;

        g_assert_cmpuint(row->base_number, <=, rps->len);
        base = rps->pdata[row->base_number - 1];
        g_assert_cmpstr(base->cycle, ==, row->base_cycle);
        g_assert_cmpstr(base->root, ==, row->base_root);
    }
    /* A checkpoint that no base has any more goes before the next point is made. */
    if (!has_journal(f) && row->checkpoint != NULL)
        fake_guest_assert_clean(row->checkpoint);
}

static void
judge_all(Fixture *f)
{
    judge(f);
    for (guint64 number = 1; number <= f->points->len; number++)
        judge_point(f, number);
}

/* One run. */

static gboolean
run(Fixture *f, GError **error)
{
    return vr_cycle_run(&f->app, UUID, &f->wanted, &f->progress, NULL, NULL, error);
}

/* In a child, as a daemon that begins: FALSE if it was killed or failed. */
static gboolean
run_in_child(Fixture *f, gboolean *ret_killed)
{
    guint32 seed = g_random_int(); /* or it would choose the names that we choose later */
    int status = 0;
    pid_t pid;

    close_all(f);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        g_random_set_seed(seed);
        open_all(f);
        _exit(vr_cycle_clean(&f->app, UUID, NULL, NULL) && run(f, NULL) ? 0 : 1);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    *ret_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    g_assert_true(*ret_killed || WIFEXITED(status));
    fake_fault_disarm();
    g_assert_true(vr_fault_init(NULL, NULL));
    fake_guest_daemon_died();
    open_all(f);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void
good_run(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    run(f, &error);
    g_assert_no_error(error);
    g_assert_false(has_journal(f));
    judge(f);
}
