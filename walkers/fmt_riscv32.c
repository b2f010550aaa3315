/* SPDX-License-Identifier: MIT */
/* The 32-bit RISC-V format, compiled. */
#define FMT riscv32
#define SN_FORMAT_NAME "riscv32"
#define SN_LEVEL_NAMES "L0", "L1"
#include "walkers/fmt_riscv32.h"
#include "walkers/compile.h"
