/* SPDX-License-Identifier: MIT */
/*
 * One list of stages for tests that must hold for every format: each format,
 * number of levels, granule, start level and feature flag is in it at least
 * once. All are stages that snest_stage_check accepts; their roots are 0 and
 * are the test's to fill in. For tests, fuzz targets and `snest difffuzz`.
 */
#ifndef CONFIGS_H
#define CONFIGS_H

#include <snest/stage.h>

struct test_config {
	const char *name;
	struct snest_stage stage;
};

extern const struct test_config test_configs[];
extern const size_t test_configs_count;

/* Of the same stage, bits of the widest output address that an entry can hold. */
unsigned test_config_output_bits(const struct snest_stage *stage);

/* Bytes of an entry, lg2: 3 or 2. */
unsigned test_config_entry_lg2(const struct snest_stage *stage);

/* Bytes of the smallest page of a half, lg2. */
unsigned test_config_granule_lg2(const struct snest_stage *stage, unsigned half);

#endif
