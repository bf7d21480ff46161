/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/fakes/fake-dom.h"

#include <string.h>

#include "policies/error.h"
#include "qmp/domain/domain_mark.h"
#include "qmp/domain/domain_model.h"
#include "qmp/domain/domain_run.h"

static GHashTable *hosts; /* connection -> (uuid -> FakeDom) */
static guint countdown;
static VrError fail_code;
static gboolean fired;
static gint cannot_resume, resumes; /* atomic */

static void
fake_free(gpointer data)
{
    FakeDom *dom = data;

    g_free(dom->name);
    g_free(dom->uuid);
    g_free(dom->xml);
    g_free(dom->role);
    g_free(dom->generation);
    g_free(dom);
}

void
fake_dom_reset(void)
{
    g_clear_pointer(&hosts, g_hash_table_unref);
    hosts = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify) g_hash_table_unref);
    countdown = 0;
    fired = FALSE;
    g_atomic_int_set(&cannot_resume, FALSE);
}

static GHashTable *
doms_of(VrConn *conn)
{
    GHashTable *doms = g_hash_table_lookup(hosts, conn);

    if (doms == NULL) {
        doms = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, fake_free);
        g_hash_table_insert(hosts, conn, doms);
    }
    return doms;
}

FakeDom *
fake_dom_add(VrConn *conn, const char *uuid, const char *name, VrDomState state)
{
    FakeDom *dom = g_new0(FakeDom, 1);

    dom->uuid = g_strdup(uuid);
    dom->name = g_strdup(name);
    dom->state = state;
    g_hash_table_replace(doms_of(conn), dom->uuid, dom);
    return dom;
}

FakeDom *
fake_dom_find(VrConn *conn, const char *uuid)
{
    return g_hash_table_lookup(doms_of(conn), uuid);
}

void
fake_dom_fail_at(guint nth)
{
    fake_dom_fail_with(nth, VR_ERROR_TRANSIENT);
}

void
fake_dom_fail_with(guint nth, VrError code)
{
    countdown = nth;
    fail_code = code;
    fired = FALSE;
}

void
fake_dom_cannot_resume(gboolean cannot)
{
    g_atomic_int_set(&cannot_resume, cannot);
}

guint
fake_dom_resumes(void)
{
    return (guint) g_atomic_int_get(&resumes);
}

gboolean
fake_dom_fired(void)
{
    return fired;
}

static gboolean
fails(GError **error)
{
    if (countdown == 0 || --countdown > 0)
        return FALSE;
    fired = TRUE;
    vr_set_error(error, fail_code, "libvirt-unreachable", NULL, "armed to fail");
    return TRUE;
}

static FakeDom *
open_dom(VrConn *conn, const char *domain, GError **error)
{
    GHashTableIter iter;
    gpointer value;

    if (fails(error))
        return NULL;
    g_hash_table_iter_init(&iter, doms_of(conn));
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        FakeDom *dom = value;

        if (strcmp(dom->uuid, domain) == 0 || strcmp(dom->name, domain) == 0)
            return dom;
    }
    vr_set_error(error, VR_ERROR_NOT_FOUND, "no-such-domain", NULL, "no domain '%s'", domain);
    return NULL;
}

const char *
vr_dom_state_name(VrDomState state)
{
    return state == VR_DOM_RUNNING ? "running" : "not running";
}

gboolean
vr_dom_state(VrConn *conn, const char *domain, VrDomState *ret_state, GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);

    if (dom != NULL)
        *ret_state = dom->state;
    return dom != NULL;
}

VrDomInfo *
vr_dom_info(VrConn *conn, const char *domain, GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);
    VrDomInfo *info;

    if (dom == NULL)
        return NULL;
    info = g_new0(VrDomInfo, 1);
    info->name = g_strdup(dom->name);
    info->uuid = g_strdup(dom->uuid);
    info->state = dom->state;
    info->persistent = TRUE;
    info->autostart = dom->autostart;
    return info;
}

void
vr_dom_info_free(VrDomInfo *info)
{
    if (info == NULL)
        return;
    g_free(info->name);
    g_free(info->uuid);
    g_free(info);
}

static void
info_free(gpointer info)
{
    vr_dom_info_free(info);
}

GPtrArray *
vr_dom_list(VrConn *conn, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(info_free);
    GHashTableIter iter;
    gpointer value;

    if (fails(error))
        return NULL;
    g_hash_table_iter_init(&iter, doms_of(conn));
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(list, vr_dom_info(conn, ((FakeDom *) value)->uuid, NULL));
    return g_steal_pointer(&list);
}

char *
vr_dom_xml_inactive(VrConn *conn, const char *domain, GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);

    return dom ? g_strdup(dom->xml) : NULL;
}

char *
vr_dom_xml_live(VrConn *conn, const char *domain, GError **error)
{
    return vr_dom_xml_inactive(conn, domain, error);
}

gboolean
vr_dom_set_autostart(VrConn *conn, const char *domain, gboolean autostart, GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);

    if (dom != NULL)
        dom->autostart = autostart;
    return dom != NULL;
}

static char *
attribute(const char *xml, const char *name)
{
    g_autofree char *pattern = g_strdup_printf("<vr:domain[^>]* %s=['\"]([^'\"]*)['\"]", name);
    g_autoptr(GRegex) regex = g_regex_new(pattern, 0, 0, NULL);
    g_autoptr(GMatchInfo) match = NULL;

    return g_regex_match(regex, xml, 0, &match) ? g_match_info_fetch(match, 1) : NULL;
}

/* As libvirt: another domain of that name is in the way, one of that UUID is defined over. */
gboolean
vr_dom_define(VrConn *conn, const char *xml, char **ret_uuid, GError **error)
{
    g_autoptr(VrDomainModel) model = vr_domain_model_parse(xml, strlen(xml), error);
    GHashTableIter iter;
    gpointer value;
    FakeDom *dom;

    if (model == NULL || fails(error))
        return FALSE;
    g_hash_table_iter_init(&iter, doms_of(conn));
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        dom = value;
        if (strcmp(dom->name, model->name) == 0 && strcmp(dom->uuid, model->uuid) != 0) {
            vr_set_error(error, VR_ERROR_REFUSED, "libvirt-refused", NULL, "name taken");
            return FALSE;
        }
    }
    dom = fake_dom_add(conn, model->uuid, model->name, VR_DOM_SHUTOFF);
    dom->xml = g_strdup(xml);
    dom->role = attribute(xml, "role");
    dom->generation = attribute(xml, "generation");
    if (ret_uuid != NULL)
        *ret_uuid = g_strdup(model->uuid);
    return TRUE;
}

gboolean
vr_dom_undefine(VrConn *conn, const char *domain, gboolean drop_nvram G_GNUC_UNUSED, GError **error)
{
    g_autoptr(GError) local = NULL;
    FakeDom *dom = open_dom(conn, domain, &local);

    if (dom != NULL)
        return g_hash_table_remove(doms_of(conn), dom->uuid);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
vr_dom_start(VrConn *conn, const char *domain, GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);

    if (dom == NULL)
        return FALSE;
    if (dom->cannot_start) {
        vr_set_error(error, VR_ERROR_INTERNAL, "libvirt-error", NULL, "network is not active");
        return FALSE;
    }
    if (dom->state == VR_DOM_SHUTOFF)
        dom->starts++;
    dom->state = VR_DOM_RUNNING;
    dom->executed_us = 1;
    return TRUE;
}

gboolean
vr_dom_start_paused(VrConn *conn, const char *domain, GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);

    if (dom == NULL)
        return FALSE;
    if (dom->state == VR_DOM_SHUTOFF) {
        dom->starts++;
        dom->state = VR_DOM_PAUSED;
    }
    return TRUE;
}

gboolean
vr_dom_resume(VrConn *conn, const char *domain, GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);

    if (dom == NULL)
        return FALSE;
    g_atomic_int_inc(&resumes);
    if (g_atomic_int_get(&cannot_resume)) {
        vr_set_error(error, VR_ERROR_INTERNAL, "libvirt-error", NULL, "no memory for it");
        return FALSE;
    }
    dom->state = VR_DOM_RUNNING;
    dom->executed_us = 1;
    return TRUE;
}

gboolean
vr_dom_suspend(VrConn *conn, const char *domain, GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);

    if (dom != NULL && dom->state == VR_DOM_RUNNING)
        dom->state = VR_DOM_PAUSED;
    return dom != NULL;
}

gboolean
vr_dom_destroy(VrConn *conn, const char *domain, GError **error)
{
    g_autoptr(GError) local = NULL;
    FakeDom *dom = open_dom(conn, domain, &local);

    if (dom != NULL)
        dom->state = VR_DOM_SHUTOFF;
    if (dom != NULL || g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
vr_dom_wait_running(VrConn *conn, const char *domain, guint timeout_ms G_GNUC_UNUSED,
                    GCancellable *cancel G_GNUC_UNUSED, GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);

    if (dom == NULL || dom->state == VR_DOM_RUNNING)
        return dom != NULL;
    vr_set_error(error, VR_ERROR_TRANSIENT, "domain-not-running", NULL, "it does not run");
    return FALSE;
}

gboolean
vr_dom_shutdown(VrConn *conn, const char *domain, guint timeout_ms G_GNUC_UNUSED,
                gboolean force G_GNUC_UNUSED, gboolean *ret_forced, GCancellable *cancel,
                GError **error)
{
    FakeDom *dom = open_dom(conn, domain, error);

    if (dom == NULL)
        return FALSE;
    if (g_cancellable_is_cancelled(cancel)) {
        vr_set_error(error, VR_ERROR_CANCELLED, "cancelled", NULL, "cancelled");
        return FALSE;
    }
    dom->state = VR_DOM_SHUTOFF;
    if (ret_forced != NULL)
        *ret_forced = FALSE;
    return TRUE;
}

gboolean
vr_dom_resume_io_error(VrConn *conn, const char *domain, gboolean *ret_resumed, GError **error)
{
    if (ret_resumed != NULL)
        *ret_resumed = FALSE;
    return open_dom(conn, domain, error) != NULL;
}

gboolean
vr_dom_network_exists(VrConn *conn G_GNUC_UNUSED, const char *network G_GNUC_UNUSED,
                      gboolean *ret_exists, gboolean *ret_active, GError **error)
{
    *ret_exists = TRUE;
    if (ret_active != NULL)
        *ret_active = TRUE;
    return !fails(error);
}

static char *
read_data(const char *name)
{
    g_autofree char *path = g_build_filename(VR_TEST_DATA, "domain", name, NULL);
    char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

char *
vr_dom_capabilities(VrConn *conn G_GNUC_UNUSED, GError **error)
{
    return fails(error) ? NULL : read_data("capabilities.xml");
}

char *
vr_dom_domain_capabilities(VrConn *conn G_GNUC_UNUSED, const char *emulator G_GNUC_UNUSED,
                           const char *arch G_GNUC_UNUSED, const char *machine G_GNUC_UNUSED,
                           const char *virt_type G_GNUC_UNUSED, GError **error)
{
    return fails(error) ? NULL : read_data("domain-capabilities-qemu.xml");
}

gboolean
vr_dom_host_free_memory(VrConn *conn G_GNUC_UNUSED, guint64 *ret_bytes, GError **error)
{
    *ret_bytes = G_GUINT64_CONSTANT(8) << 30;
    return !fails(error);
}

gboolean
vr_dom_host_memory(VrConn *conn G_GNUC_UNUSED, guint64 *ret_bytes, GError **error)
{
    *ret_bytes = G_GUINT64_CONSTANT(16) << 30;
    return !fails(error);
}

void
vr_dom_mark_clear(VrDomMark *mark)
{
    g_clear_pointer(&mark->role, g_free);
    g_clear_pointer(&mark->generation, g_free);
}

gboolean
vr_dom_mark_read(VrConn *conn, const char *uuid, VrDomMark *ret_mark, GError **error)
{
    FakeDom *dom = fake_dom_find(conn, uuid);

    *ret_mark = (VrDomMark){0};
    if (fails(error))
        return FALSE;
    ret_mark->exists = dom != NULL;
    if (dom != NULL) {
        ret_mark->role = g_strdup(dom->role);
        ret_mark->generation = g_strdup(dom->generation);
    }
    return TRUE;
}

/* Wrapped: see tests/unit/meson.build. */
gulong __wrap_vr_conn_libvirt_version(VrConn *self);

gulong
__wrap_vr_conn_libvirt_version(VrConn *self G_GNUC_UNUSED)
{
    return 9000000;
}
