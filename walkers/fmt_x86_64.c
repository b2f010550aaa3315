/* SPDX-License-Identifier: MIT */
/* The x86-64 format, compiled. */
#define FMT x86_64
#define SN_FORMAT_NAME "x86-64"
#define SN_LEVEL_NAMES "PTE", "PDE", "PDPTE", "PML4E", "PML5E"
#include "walkers/fmt_x86_64.h"
#include "walkers/compile.h"
