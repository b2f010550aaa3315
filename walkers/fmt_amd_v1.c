/* SPDX-License-Identifier: MIT */
/* The AMD v1 format, compiled. */
#define FMT amd_v1
#define SN_FORMAT_NAME "amd-v1"
#define SN_LEVEL_NAMES "L1", "L2", "L3", "L4", "L5", "L6"
#include "walkers/fmt_amd_v1.h"
#include "walkers/compile.h"
