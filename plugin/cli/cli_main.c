/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli.h"
#include "storage/wire/http.h"

#include <locale.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
    (void) argc;
    setlocale(LC_ALL, "");
    setlocale(LC_NUMERIC, "C"); /* "41.7 GiB" whatever the language */
    vr_http_global_init();
    return vr_cli_run(argv, g_getenv("VIRT_REPLICA_SOCKET"), stdin, stdout, stderr,
                      isatty(STDERR_FILENO) == 1);
}
