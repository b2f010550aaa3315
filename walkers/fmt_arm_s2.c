/* SPDX-License-Identifier: MIT */
/* The Armv8 stage 2 format, compiled. */
#define FMT arm_s2
#define SN_FORMAT_NAME "arm-s2"
#define SN_LEVEL_NAMES "L3", "L2", "L1", "L0", "L-1"
#include "walkers/fmt_arm_s2.h"
#include "walkers/compile.h"
