/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/**
 * SECTION: what the freeze helper prints, a line each: "frozen" or a sentence why not; then
 * "thawed MS told|deadline|orphan". It thaws at a byte or the end of its standard input.
 */
#define VR_FREEZE_FROZEN "frozen"
#define VR_FREEZE_THAWED "thawed"
#define VR_FREEZE_TOLD "told"
#define VR_FREEZE_DEADLINE "deadline"
#define VR_FREEZE_ORPHAN "orphan"

#define VR_FREEZE_AGENT_TIMEOUT_S 5
