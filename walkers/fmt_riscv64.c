/* SPDX-License-Identifier: MIT */
/* The 64-bit RISC-V format, compiled. */
#define FMT riscv64
#define SN_FORMAT_NAME "riscv64"
#define SN_LEVEL_NAMES "L0", "L1", "L2", "L3", "L4"
#include "walkers/fmt_riscv64.h"
#include "walkers/compile.h"
