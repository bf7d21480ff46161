/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cli/cli.h"
#include "plugin/cli/cli_args.h"

G_BEGIN_DECLS

/** SECTION: what the rows of the command table run; cli_<noun>.c defines them. */

/* cli_host.c */
gboolean vr_cli_status(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_peer.c */
gboolean vr_cli_peer_invite(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_peer_join(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_peer_list(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_peer_info(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_peer_set(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_peer_remove(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_store.c */
gboolean vr_cli_store_list(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_store_define(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_store_info(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_store_scan(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_store_undefine(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_policy.c */
gboolean vr_cli_policy_list(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_policy_define(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_policy_set(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_disk_exclude(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_disk_include(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_policy_dump(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_policy_undefine(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_netmap.c */
gboolean vr_cli_netmap_list(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_netmap_set(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_netmap_unset(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_check.c */
gboolean vr_cli_check(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_protection.c */
gboolean vr_cli_protect(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_list(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_info(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_sync(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_pause(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_resume(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_unprotect(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_rp.c */
gboolean vr_cli_rp_list(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_rp_info(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_verify.c */
gboolean vr_cli_verify(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_failover.c */
gboolean vr_cli_failover(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_job.c */
gboolean vr_cli_job_list(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_job_info(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_job_wait(VrCli *cli, const VrCliArgs *args, GError **error);
gboolean vr_cli_job_cancel(VrCli *cli, const VrCliArgs *args, GError **error);

/* cli_help.c */
gboolean vr_cli_help(VrCli *cli, const VrCliArgs *args, GError **error);

G_END_DECLS
