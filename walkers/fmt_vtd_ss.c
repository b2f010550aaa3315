/* SPDX-License-Identifier: MIT */
/* The VT-d second-stage format, compiled. */
#define FMT vtd_ss
#define SN_FORMAT_NAME "vtd-ss"
#define SN_LEVEL_NAMES "SL1E", "SL2E", "SL3E", "SL4E", "SL5E"
#include "walkers/fmt_vtd_ss.h"
#include "walkers/compile.h"
