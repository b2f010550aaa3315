/* SPDX-License-Identifier: MIT */
/* The format of tests alone, compiled; empty in a library that is installed. */
#include "walkers/pt.h"

#ifdef SNEST_WITH_MOCK
#define FMT mock
#define SN_FORMAT_NAME "mock"
#define SN_LEVEL_NAMES "M0", "M1", "M2", "M3"
#include "walkers/fmt_mock.h"
#include "walkers/compile.h"
#endif
