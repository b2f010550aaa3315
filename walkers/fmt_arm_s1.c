/* SPDX-License-Identifier: MIT */
/* The Armv8 stage 1 format, compiled. */
#define FMT arm_s1
#define SN_FORMAT_NAME "arm-s1"
#define SN_LEVEL_NAMES "L3", "L2", "L1", "L0", "L-1"
#include "walkers/fmt_arm_s1.h"
#include "walkers/compile.h"
