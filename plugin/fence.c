/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/fence.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "plugin/hook/hook_rule.h"
#include "policies/error.h"
#include "policies/fence_cause.h"
#include "policies/ids.h"
#include "qmp/virerr.h"
#include "storage/util/file_util.h"

#define HOOK_FILE "/etc/libvirt/hooks/qemu.d/virt-replica"
#define RECORD_MAX (16 * 1024)
#define NEVER G_MININT64

struct _VrFence {
    char *dir;
    char *host;

    GMutex lock; /* guards what follows */
    GCond proven;
    gboolean proving;     /* a thread is at it */
    gint64 proof_us;      /* monotonic: when the last proof that ended began; NEVER */
    gint64 doubted_us;    /* monotonic: what began before says nothing; NEVER */
    VrFenceStatus status; /* owned */
    struct stat hook;     /* at the last proof */
    GHashTable *notes;    /* owned: uuid (borrowed from its value) -> VrFenceNote */
};

static void
note_free(gpointer data)
{
    VrFenceNote *note = data;

    g_free(note->uuid);
    g_free(note->message);
    g_free(note->action);
    g_free(note);
}

VrFence *
vr_fence_new(const char *state_dir, const char *host)
{
    VrFence *self = g_new0(VrFence, 1);

    self->dir = g_build_filename(state_dir, "fence", NULL);
    self->host = g_strdup(host);
    self->proof_us = NEVER;
    self->doubted_us = NEVER;
    self->notes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, note_free);
    g_mutex_init(&self->lock);
    g_cond_init(&self->proven);
    return self;
}

void
vr_fence_free(VrFence *self)
{
    if (self == NULL)
        return;
    g_mutex_lock(&self->lock);
    while (self->proving)
        g_cond_wait(&self->proven, &self->lock);
    g_mutex_unlock(&self->lock);
    vr_fence_status_clear(&self->status);
    g_hash_table_unref(self->notes);
    g_cond_clear(&self->proven);
    g_mutex_clear(&self->lock);
    g_free(self->host);
    g_free(self->dir);
    g_free(self);
}

/* --- records -----------------------------------------------------------------------------------
 */

static char *
path_of(VrFence *self, const char *uuid)
{
    g_return_val_if_fail(vr_uuid_valid(uuid), NULL);
    return g_build_filename(self->dir, uuid, NULL);
}

gboolean
vr_fence_put(VrFence *self, const char *uuid, VrFenceRecordState state, const char *peer,
             const char *generation, GError **error)
{
    g_autofree char *path = path_of(self, uuid);
    VrFenceRecord record = {
        .state = state,
        .peer = (char *) peer,
        .since_us = g_get_real_time(),
        .generation = (char *) generation,
    };
    g_autofree char *text = vr_fence_record_to_text(&record);

    return vr_make_dir(self->dir, 0700, error) &&
           vr_write_file_atomic(path, text, strlen(text), 0600, error);
}

gboolean
vr_fence_remove(VrFence *self, const char *uuid, GError **error)
{
    g_autofree char *path = path_of(self, uuid);

    if (unlink(path) == 0)
        return vr_fsync_dir(self->dir, error);
    if (errno == ENOENT)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot remove the fence file %s", path);
    return FALSE;
}

void
vr_fence_look(VrFence *self, const char *uuid, gboolean *ret_stands, VrFenceRecord **ret_record)
{
    g_autofree char *path = path_of(self, uuid);
    g_autofree char *text = NULL;
    struct stat st;
    gsize length = 0;

    text = vr_read_file(path, RECORD_MAX, &length, NULL);
    *ret_stands = text != NULL || lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
    *ret_record = text ? vr_fence_record_parse(path, text, length, NULL) : NULL;
}

GPtrArray *
vr_fence_list(VrFence *self, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GDir) dir = g_dir_open(self->dir, 0, &local);
    GPtrArray *uuids;
    const char *name;

    if (dir == NULL && !g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        vr_set_error(error, VR_ERROR_INTERNAL, "fence-unreadable", NULL,
                     "the fence directory %s cannot be read: %s", self->dir, local->message);
        return NULL;
    }
    uuids = g_ptr_array_new_with_free_func(g_free);
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        if (vr_uuid_valid(name))
            g_ptr_array_add(uuids, g_strdup(name));
    }
    return uuids;
}

/* --- the proof ---------------------------------------------------------------------------------
 */

typedef enum { CANARY_REFUSED, CANARY_STARTED, CANARY_FAILED } Canary;

/* Small enough that a hook that is not called costs next to nothing: it is destroyed at once. */
static const char canary_xml[] = "<domain type='%s'><name>" VR_HOOK_CANARY_NAME
                                 "</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>"
                                 "<os><type>hvm</type></os></domain>";

/* CANARY_FAILED with @error: libvirt did not get as far as the hook. */
static Canary
start_canary(virConnectPtr vir, GError **error)
{
    static const char *const types[] = {"kvm", "qemu"};

    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autofree char *xml = g_strdup_printf(canary_xml, types[i]);
        virDomainPtr dom =
            virDomainCreateXML(vir, xml, VIR_DOMAIN_START_PAUSED | VIR_DOMAIN_START_AUTODESTROY);

        if (dom != NULL) {
            (void) virDomainDestroy(dom);
            virDomainFree(dom);
            return CANARY_STARTED;
        }
        if (virGetLastErrorCode() == VIR_ERR_HOOK_SCRIPT_FAILED)
            return CANARY_REFUSED;
    }
    vr_virerr_set(error, "cannot start the domain that proves the hook");
    return CANARY_FAILED;
}

static gint64
changed_us(const struct stat *st)
{
    return (gint64) st->st_ctim.tv_sec * G_USEC_PER_SEC + st->st_ctim.tv_nsec / 1000;
}

/* By its pid file: which of libvirt's daemons is used here, and since when it runs. */
static const char *
service(gint64 *ret_since_us)
{
    static const char *const names[][2] = {{"virtqemud", "/run/virtqemud.pid"},
                                           {"libvirtd", "/run/libvirtd.pid"}};
    struct stat st;

    *ret_since_us = 0;
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        if (stat(names[i][1], &st) < 0)
            continue;
        *ret_since_us = changed_us(&st);
        return names[i][0];
    }
    return "libvirtd";
}

static void
find_cause(VrFence *self, gboolean refused, const struct stat *hook, VrFenceStatus *status)
{
    VrFenceCauseFacts facts = {
        .host = self->host,
        .hook = HOOK_FILE,
        .fence_dir = self->dir,
        .exists = hook->st_ino != 0,
        .executable = (hook->st_mode & 0111) != 0,
        .refused = refused,
        .hook_changed_us = changed_us(hook),
    };

    facts.service = service(&facts.service_since_us);
    vr_fence_cause(&facts, &status->message, &status->action);
}

static void
cannot_tell(VrFence *self, const GError *error, const char *action, VrFenceStatus *status)
{
    status->state = VR_FENCE_UNKNOWN;
    status->message = g_strdup_printf("host '%s': it cannot be told whether libvirt calls the "
                                      "virt-replica hook: %s",
                                      self->host, error->message);
    status->action = g_strdup(vr_error_action(error) ? vr_error_action(error) : action);
}

static void
prove(VrFence *self, VrConn *conn, const struct stat *hook, VrFenceStatus *status)
{
    g_autofree char *nonce = vr_random_id();
    g_autofree char *request = g_build_filename(self->dir, VR_HOOK_CANARY_REQUEST, NULL);
    g_autofree char *answer = g_build_filename(self->dir, VR_HOOK_CANARY_ANSWER, NULL);
    g_autofree char *got = NULL;
    g_autoptr(GError) error = NULL;
    virConnectPtr vir = NULL;
    Canary canary = CANARY_FAILED;
    gsize len;

    status->unwritable = !vr_make_dir(self->dir, 0700, &error) ||
                         !vr_write_file_atomic(request, nonce, strlen(nonce), 0600, &error);
    if (status->unwritable) {
        cannot_tell(self, error, "Make the directory writable, or room in its file system.",
                    status);
        return;
    }
    vir = vr_conn_ref(conn, &error);
    if (vir != NULL) {
        canary = start_canary(vir, &error);
        vr_conn_unref(conn, vir);
    }
    got = vr_read_file(answer, 4096, &len, NULL);
    (void) unlink(request);
    (void) unlink(answer);
    status->state = g_strcmp0(got, nonce) == 0 ? VR_FENCE_ACTIVE : VR_FENCE_INACTIVE;
    if (status->state == VR_FENCE_ACTIVE)
        return;
    if (canary == CANARY_FAILED)
        cannot_tell(self, error, "See the log of libvirt.", status);
    else
        find_cause(self, canary == CANARY_REFUSED, hook, status);
}

typedef struct {
    VrFence *fence; /* borrowed; waits for us when it is freed */
    VrConn *conn;   /* borrowed */
} Proof;

static gpointer
proof_thread(gpointer data)
{
    g_autofree Proof *proof = data;
    VrFence *self = proof->fence;
    VrFenceStatus status = {0};
    gint64 began_us = g_get_monotonic_time();
    struct stat hook = {0};

    if (stat(HOOK_FILE, &hook) < 0)
        hook = (struct stat){0};
    prove(self, proof->conn, &hook, &status);
    status.checked_us = g_get_real_time();

    g_mutex_lock(&self->lock);
    if (began_us > self->doubted_us) {
        vr_fence_status_clear(&self->status);
        self->status = status;
        self->hook = hook;
        self->proof_us = began_us;
    } else {
        vr_fence_status_clear(&status);
    }
    self->proving = FALSE;
    g_cond_broadcast(&self->proven);
    g_mutex_unlock(&self->lock);
    return NULL;
}

/* Locked. */
static void
start_proof(VrFence *self, VrConn *conn)
{
    Proof *proof = g_new0(Proof, 1);

    proof->fence = self;
    proof->conn = conn;
    self->proving = TRUE;
    g_thread_unref(g_thread_new("fence", proof_thread, proof));
}

void
vr_fence_prove(VrFence *self, VrConn *conn, gint64 max_age_us, guint wait_ms)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    gint64 now_us = g_get_monotonic_time();
    gint64 until_us = now_us + (gint64) wait_ms * 1000;

    while (self->proof_us < MAX(now_us - max_age_us, self->doubted_us)) {
        if (!self->proving)
            start_proof(self, conn);
        if (g_cond_wait_until(&self->proven, &self->lock, until_us))
            continue;
        vr_fence_status_clear(&self->status);
        self->status.message = g_strdup_printf(
            "host '%s': it cannot be told whether libvirt calls the virt-replica hook: libvirt "
            "has not answered for %u s",
            self->host, wait_ms / 1000);
        self->status.action = g_strdup("See whether 'virsh list' answers on that host.");
        return;
    }
}

void
vr_fence_doubt(VrFence *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    self->doubted_us = g_get_monotonic_time();
    vr_fence_status_clear(&self->status);
}

gboolean
vr_fence_hook_changed(VrFence *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    struct stat now = {0};

    if (stat(HOOK_FILE, &now) < 0)
        now = (struct stat){0};
    return now.st_ino != self->hook.st_ino || changed_us(&now) != changed_us(&self->hook);
}

void
vr_fence_status(VrFence *self, VrFenceStatus *ret_status)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);

    *ret_status = self->status;
    ret_status->message = g_strdup(self->status.message);
    ret_status->action = g_strdup(self->status.action);
}

void
vr_fence_status_clear(VrFenceStatus *status)
{
    g_free(status->message);
    g_free(status->action);
    *status = (VrFenceStatus){0};
}

/* --- notes -------------------------------------------------------------------------------------
 */

void
vr_fence_note(VrFence *self, const char *uuid, const char *message, const char *action)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    VrFenceNote *note;

    if (message == NULL) {
        g_hash_table_remove(self->notes, uuid);
        return;
    }
    note = g_new0(VrFenceNote, 1);
    note->uuid = g_strdup(uuid);
    note->message = g_strdup(message);
    note->action = g_strdup(action);
    g_hash_table_replace(self->notes, note->uuid, note);
}

GPtrArray *
vr_fence_notes(VrFence *self)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->lock);
    GPtrArray *notes = g_ptr_array_new_with_free_func(note_free);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->notes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const VrFenceNote *note = value;
        VrFenceNote *copy = g_new0(VrFenceNote, 1);

        copy->uuid = g_strdup(note->uuid);
        copy->message = g_strdup(note->message);
        copy->action = g_strdup(note->action);
        g_ptr_array_add(notes, copy);
    }
    return notes;
}
