/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-replicad: options, start-up and shutdown order, signals. */
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <glib-unix.h>

#include "plugin/api/api.h"
#include "plugin/cycle/replicate.h"
#include "plugin/fence_restore.h"
#include "plugin/health_watch.h"
#include "plugin/hook_events.h"
#include "plugin/job/jobs.h"
#include "plugin/log.h"
#include "plugin/maintain.h"
#include "plugin/notify.h"
#include "plugin/ownership_watch.h"
#include "plugin/peer/peer_ops.h"
#include "plugin/policy_watch.h"
#include "plugin/probe.h"
#include "plugin/scrub.h"
#include "plugin/state_lost.h"
#include "policies/error.h"
#include "policies/fault.h"
#include "qmp/point/freeze.h"
#include "qmp/virerr.h"
#include "storage/replica/store_room.h"
#include "storage/util/file_util.h"
#include "storage/wire/http.h"

#define DEFAULT_STORE "default"
#define DEFAULT_STORE_PATH "/var/lib/libvirt/images/virt-replica"
#define SOCKET_GROUP "libvirt"

typedef struct {
    char *config, *state_dir, *runtime_dir, *libvirt_uri, *listen;
    gboolean version, list_faults, check_config;
} Options;

typedef struct {
    VrApp app;
    GMainLoop *loop;
    VrMaintain *maintain;
    VrProbe *probe;
    VrScrub *scrub;
    VrHealthWatch *health;
    VrPolicyWatch *policy_watch;
    VrPeerServer *peer_server;
    VrHttpServer *local;
    VrHookEvents *hook_events;
} Daemon;

static int
list_faults(void)
{
    for (guint step = 0; step < VR_STEP_LAST; step++)
        g_print("%s\t%s\n", vr_step_name(step), vr_step_title(step));
    return 0;
}

static gboolean
parse_options(int *argc, char ***argv, Options *options, GError **error)
{
    const GOptionEntry entries[] = {
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &options->config, "Configuration file", "FILE"},
        {"state-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->state_dir, "Directory of the state",
         "DIR"},
        {"runtime-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->runtime_dir,
         "Directory of the socket", "DIR"},
        {"libvirt-uri", 0, 0, G_OPTION_ARG_STRING, &options->libvirt_uri, "Hypervisor", "URI"},
        {"listen", 0, 0, G_OPTION_ARG_STRING, &options->listen, "Address for peers", "ADDR:PORT"},
        {"check-config", 0, 0, G_OPTION_ARG_NONE, &options->check_config,
         "Check the configuration and exit", NULL},
        {"list-faults", 0, 0, G_OPTION_ARG_NONE, &options->list_faults,
         "List the fault points (VR_FAULT)", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &options->version, "Print the version", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context =
        g_option_context_new("- replicates libvirt domains to other hosts");
    g_autoptr(GError) local = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &local)) {
        vr_set_error(error, VR_ERROR_INVALID, "usage", "See --help.", "%s", local->message);
        return FALSE;
    }
    if (*argc > 1) {
        vr_set_error(error, VR_ERROR_INVALID, "usage", "See --help.", "unexpected argument '%s'",
                     (*argv)[1]);
        return FALSE;
    }
    return TRUE;
}

static void
override(char **field, const char *value)
{
    if (value == NULL)
        return;
    g_free(*field);
    *field = g_strdup(value);
}

/* Another directory may be the current one later. */
static void
override_dir(char **field, const char *value)
{
    g_autofree char *path = value ? g_canonicalize_filename(value, NULL) : NULL;

    override(field, path);
}

static VrConfig *
load_config(const Options *options, GError **error)
{
    VrConfig *config =
        vr_config_load(options->config ? options->config : VR_CONFIG_DEFAULT_FILE, error);

    if (config == NULL)
        return NULL;
    override_dir(&config->state_dir, options->state_dir);
    override_dir(&config->runtime_dir, options->runtime_dir);
    override(&config->libvirt_uri, options->libvirt_uri);
    override(&config->listen, options->listen);
    return config;
}

static gboolean
ensure_default_store(VrApp *app, GError **error)
{
    VrStoreRow *known = vr_state_store_get(app->state, DEFAULT_STORE, NULL);
    VrStoreRow row = {(char *) DEFAULT_STORE, (char *) DEFAULT_STORE_PATH};

    if (known != NULL) {
        vr_store_row_free(known);
        return TRUE;
    }
    return vr_make_dir(DEFAULT_STORE_PATH, 0711, error) &&
           vr_state_store_put(app->state, &row, error);
}

static void
on_reconnected(gpointer data)
{
    Daemon *self = data;

    vr_fence_doubt(self->app.fence);
    if (self->maintain != NULL)
        vr_maintain_wake(self->maintain);
    vr_ownership_watch_wake(self->app.ownership);
    vr_scheduler_kick(self->app.scheduler, NULL);
}

static void
on_lifecycle(const char *uuid, int event, int detail G_GNUC_UNUSED, gpointer data)
{
    Daemon *self = data;

    /* one that is shut off and replicated may have been edited, or be gone, or back */
    if (event == VIR_DOMAIN_EVENT_STARTED || event == VIR_DOMAIN_EVENT_STOPPED ||
        event == VIR_DOMAIN_EVENT_DEFINED || event == VIR_DOMAIN_EVENT_UNDEFINED)
        vr_scheduler_kick(self->app.scheduler, uuid);
    if (event == VIR_DOMAIN_EVENT_STARTED)
        vr_ownership_watch_wake(self->app.ownership);
}

static gboolean
open_state(VrApp *app, GError **error)
{
    g_autofree char *pki = g_build_filename(app->config->config_dir, "pki", NULL);

    app->started_us = g_get_monotonic_time();
    app->state = vr_state_open(app->config->state_dir, error);
    if (app->state == NULL || !vr_make_dir(app->config->runtime_dir, 0755, error))
        return FALSE;
    app->identity = vr_identity_load(pki, app->config->name, error);
    return app->identity != NULL && ensure_default_store(app, error);
}

static void
make_objects(Daemon *self)
{
    VrApp *app = &self->app;
    g_autofree char *manifests = g_build_filename(app->config->state_dir, "manifests", NULL);
    const VrConnOps ops = {.reconnected = on_reconnected, .lifecycle = on_lifecycle};

    vr_store_room_set_reserve(app->config->store_reserve_percent);
    app->policies = vr_policy_files_new(app->config->config_dir);
    app->fence = vr_fence_new(app->config->state_dir, app->config->name);
    app->guards = vr_guards_new();
    app->peers = vr_peer_pool_new(app->state, app->identity);
    app->contact = vr_peer_contact_new();
    app->checked = vr_checked_definitions_new();
    app->quota = vr_peer_quota_new(app->state, app->config->name, vr_peer_ops_room, app);
    app->reading = vr_peer_reading_new(app->config->verify_rate);
    app->replicas = vr_replicas_new(app->state, manifests);
    app->cycles = vr_cycle_log_new();
    app->scheduler = vr_scheduler_new(app->config->max_transfers, vr_replicate_scheduled, app);
    app->jobs = vr_jobs_new(app->state, vr_job_kinds, vr_n_job_kinds, app);
    app->ownership = vr_ownership_watch_new(app);
    app->conn = vr_conn_new(app->config->libvirt_uri, &ops, self);
}

static gboolean
start_servers(Daemon *self, GError **error)
{
    VrApp *app = &self->app;
    g_autofree char *socket = vr_config_socket_path(app->config);

    self->hook_events = vr_hook_events_new(app->config->runtime_dir, error);
    if (self->hook_events == NULL)
        return FALSE;
    self->peer_server =
        vr_peer_server_new(app->state, app->identity, app->config->name, &vr_peer_ops, app);
    if (!vr_peer_server_start(self->peer_server, app->config->listen, app->config->peer_connections,
                              error))
        return FALSE;
    self->local = vr_http_server_new_unix(socket, SOCKET_GROUP, error);
    if (self->local == NULL)
        return FALSE;
    vr_http_server_add_routes(self->local, vr_api_host_routes, vr_n_api_host_routes, app);
    vr_http_server_add_routes(self->local, vr_api_peer_routes, vr_n_api_peer_routes, app);
    vr_http_server_add_routes(self->local, vr_api_settings_routes, vr_n_api_settings_routes, app);
    vr_http_server_add_routes(self->local, vr_api_protection_routes, vr_n_api_protection_routes,
                              app);
    vr_http_server_add_routes(self->local, vr_api_change_routes, vr_n_api_change_routes, app);
    vr_http_server_add_routes(self->local, vr_api_job_routes, vr_n_api_job_routes, app);
    return vr_http_server_start(self->local, error);
}

static gboolean
quit(gpointer data)
{
    g_main_loop_quit(((Daemon *) data)->loop);
    return G_SOURCE_REMOVE;
}

/* Policies and maps are read when used, so a reload only says that causes of failure may be gone.
 */
static gboolean
reload(gpointer data)
{
    vr_scheduler_kick(((Daemon *) data)->app.scheduler, NULL);
    return G_SOURCE_CONTINUE;
}

static gboolean
watchdog(gpointer data G_GNUC_UNUSED)
{
    vr_notify("WATCHDOG=1");
    return G_SOURCE_CONTINUE;
}

static void
run(Daemon *self)
{
    gint64 watchdog_us = vr_notify_watchdog_us();

    (void) g_unix_signal_add(SIGTERM, quit, self);
    (void) g_unix_signal_add(SIGINT, quit, self);
    (void) g_unix_signal_add(SIGHUP, reload, self);
    if (watchdog_us > 0)
        (void) g_timeout_add((guint) (watchdog_us / 1000), watchdog, NULL);
    vr_scheduler_start(self->app.scheduler);
    self->maintain = vr_maintain_start(&self->app);
    self->probe = vr_probe_start(&self->app);
    vr_ownership_watch_start(self->app.ownership);
    self->scrub = vr_scrub_start(&self->app);
    self->policy_watch = vr_policy_watch_start(&self->app);
    self->health = vr_health_watch_start(&self->app);
    vr_notify("READY=1");
    g_message("virt-replicad %s: host '%s', peers on port %u", VR_VERSION, self->app.config->name,
              vr_peer_server_port(self->peer_server));
    g_main_loop_run(self->loop);
    vr_notify("STOPPING=1");
}

/* Nobody may begin anything new, then what runs ends, then what it used goes. */
static void
shut_down(Daemon *self)
{
    VrApp *app = &self->app;

    vr_http_server_free(self->local);
    if (app->replicas != NULL)
        vr_replicas_stop(app->replicas);
    vr_scrub_stop(self->scrub);
    vr_health_watch_stop(self->health);
    vr_policy_watch_stop(self->policy_watch);
    vr_probe_stop(self->probe);
    vr_maintain_stop(self->maintain);
    vr_ownership_watch_stop(app->ownership);
    if (app->scheduler != NULL)
        vr_scheduler_stop(app->scheduler);
    if (app->jobs != NULL)
        vr_jobs_stop(app->jobs);
    vr_peer_server_free(self->peer_server);
    vr_hook_events_free(self->hook_events);
    vr_scheduler_free(app->scheduler);
    vr_jobs_free(app->jobs);
    vr_cycle_log_free(app->cycles);
    vr_fence_free(app->fence);
    vr_conn_free(app->conn);
    vr_replicas_free(app->replicas);
    vr_peer_reading_free(app->reading);
    vr_peer_quota_free(app->quota);
    vr_checked_definitions_free(app->checked);
    vr_peer_pool_free(app->peers);
    vr_peer_contact_free(app->contact);
    vr_ownership_watch_free(app->ownership);
    vr_guards_free(app->guards);
    vr_policy_files_free(app->policies);
    vr_identity_free(app->identity);
    vr_state_close(app->state);
    vr_config_free(app->config);
    g_main_loop_unref(self->loop);
}

static gboolean
serve(const Options *options, GError **error)
{
    Daemon self = {.loop = g_main_loop_new(NULL, FALSE)};
    gboolean ok;

    self.app.config = load_config(options, error);
    ok = self.app.config != NULL;
    if (ok && !options->check_config) {
        vr_log_init(self.app.config->log_level);
        ok = open_state(&self.app, error);
        if (ok) {
            vr_state_lost_log(&self.app);
            make_objects(&self);
            vr_fence_restore(&self.app);
            ok = start_servers(&self, error);
        }
        if (ok)
            run(&self);
    }
    shut_down(&self);
    return ok;
}

/* The soft limit is for programs that use select(). */
static void
raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* There is a thread a connection: each with a heap of its own would keep what it once used, and
 * bodies that were freed would stay in between. */
static void
limit_heap(void)
{
    (void) mallopt(M_ARENA_MAX, 2);
    (void) mallopt(M_MMAP_THRESHOLD, 256 * 1024);
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    Options options = {0};

    if (argc > 1 && strcmp(argv[1], VR_FREEZE_HELPER_ARG) == 0)
        return vr_freeze_helper_main(argc, argv);
    (void) setlocale(LC_ALL, "");
    (void) umask(077);
    (void) signal(SIGPIPE, SIG_IGN); /* a peer that goes away is an error of a write */
    (void) prctl(PR_SET_DUMPABLE, 0);
    if (!parse_options(&argc, &argv, &options, &error) ||
        !vr_fault_init(g_getenv("VR_FAULT"), &error))
        goto fail;
    if (options.version) {
        g_print("virt-replicad %s\n", VR_VERSION);
        return 0;
    }
    if (options.list_faults)
        return list_faults();
    raise_file_limit();
    limit_heap();
    vr_http_global_init();
    vr_virerr_init();
    if (serve(&options, &error))
        return 0;

fail:
    g_printerr("virt-replicad: %s\n", error->message);
    if (vr_error_action(error) != NULL)
        g_printerr("  %s\n", vr_error_action(error));
    return vr_error_exit_status(error);
}
