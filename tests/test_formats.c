/* SPDX-License-Identifier: MIT */
/*
 * The format headers, each by itself: what they write they read back, their
 * sizes, levels, reserved bits and input ranges are those of the manuals
 * (support/facts.h), and a stage is accepted exactly if it is legal. Walks of
 * whole tables are compared in test_formats_ref.c.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "support/configs.h"
#include "support/facts.h"
#include "walkers/fmt_amd_v1.h"
#include "walkers/fmt_arm_s1.h"
#include "walkers/fmt_arm_s2.h"
#include "walkers/fmt_mock.h"
#include "walkers/fmt_riscv32.h"
#include "walkers/fmt_riscv64.h"
#include "walkers/fmt_vtd_ss.h"
#include "walkers/fmt_x86_64.h"

#define expect(config, condition)                                                          \
	do {                                                                               \
		if (!(condition))                                                          \
			fail_msg("%s: line %d: %s", (config)->name, __LINE__, #condition); \
	} while (0)

static uint64_t ones(unsigned n)
{
	return n >= 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1;
}

/* The n-th of a fixed sequence of random numbers. */
static uint64_t noise(uint64_t n)
{
	n *= 0x9e3779b97f4a7c15ull;
	n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9ull;
	n = (n ^ n >> 27) * 0x94d049bb133111ebull;
	return n ^ n >> 31;
}

/* Attributes by 6 bits. */
static uint32_t attributes(unsigned n)
{
	return (n & 1 ? SNEST_ATTR_ACCESSED : 0) | (n & 2 ? SNEST_ATTR_DIRTY : 0) |
	       (n & 4 ? SNEST_ATTR_GLOBAL : 0) | (n & 8 ? SNEST_ATTR_USER : 0) |
	       (n & 16 ? SNEST_ATTR_SNOOP : 0) | (n & 32 ? 0xa : 0x5);
}

/* The granules of the halves of an Arm stage 1 may differ, and so may what their entries hold. */
static unsigned half_output_bits(const struct snest_stage *stage, unsigned half)
{
	struct snest_stage one = *stage;

	if (half)
		one.granule_lg2 = one.granule_high_lg2;
	return test_config_output_bits(&one);
}

#define FMT x86_64
#include "support/format_suite.h"
#undef FMT
#define FMT vtd_ss
#include "support/format_suite.h"
#undef FMT
#define FMT amd_v1
#include "support/format_suite.h"
#undef FMT
#define FMT arm_s1
#include "support/format_suite.h"
#undef FMT
#define FMT arm_s2
#include "support/format_suite.h"
#undef FMT
#define FMT riscv32
#include "support/format_suite.h"
#undef FMT
#define FMT riscv64
#include "support/format_suite.h"
#undef FMT
#define FMT mock
#include "support/format_suite.h"
#undef FMT

static void every_format(void **state)
{
	static void (*const suite[])(const struct test_config *config) = {
		[SNEST_FORMAT_X86_64] = x86_64_suite,   [SNEST_FORMAT_VTD_SS] = vtd_ss_suite,
		[SNEST_FORMAT_AMD_V1] = amd_v1_suite,   [SNEST_FORMAT_AMD_V2] = x86_64_suite,
		[SNEST_FORMAT_ARM_S1] = arm_s1_suite,   [SNEST_FORMAT_ARM_S2] = arm_s2_suite,
		[SNEST_FORMAT_RISCV32] = riscv32_suite, [SNEST_FORMAT_RISCV64] = riscv64_suite,
		[SN_FORMAT_MOCK] = mock_suite,
	};
	unsigned seen = 0;

	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		unsigned format = test_configs[i].stage.format;

		suite[format](&test_configs[i]);
		seen |= format < SNEST_FORMAT_COUNT ? 1u << format : 1;
	}
	assert_int_equal(seen, (1u << SNEST_FORMAT_COUNT) - 1);
}

/* ---- Which stages are legal ------------------------------------------------- */

static int check(struct snest_stage stage)
{
	const char *why = NULL;
	int ret;

	stage.size = sizeof(stage);
	ret = snest_stage_check(&stage, &why);
	/* A refusal says why. */
	assert_true(ret == 0 || (why && *why));
	return ret;
}

static void levels_and_widths(void **state)
{
	static const struct {
		uint16_t format;
		uint8_t first, last; /* levels */
	} levels[] = {
		{SNEST_FORMAT_X86_64, 4, 5},  {SNEST_FORMAT_VTD_SS, 3, 5},
		{SNEST_FORMAT_AMD_V1, 1, 6},  {SNEST_FORMAT_AMD_V2, 4, 5},
		{SNEST_FORMAT_RISCV32, 2, 2}, {SNEST_FORMAT_RISCV64, 3, 5},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		struct snest_stage stage = {.format = levels[i].format};

		for (unsigned n = 0; n < 256; n++) {
			bool legal = n >= levels[i].first && n <= levels[i].last;

			stage.levels = (uint8_t)n;
			stage.ia_bits = 0;
			assert_int_equal(check(stage), legal ? 0 : -EINVAL);
			if (!legal)
				continue;
			for (unsigned bits = 1; bits < 256; bits++) {
				unsigned width = fact_input_bits(&stage, 0);
				bool vtd = stage.format == SNEST_FORMAT_VTD_SS;
				struct snest_stage narrow = stage;

				narrow.ia_bits = (uint8_t)bits;
				assert_int_equal(check(narrow),
				                 bits == width || (vtd && bits > 12 && bits < width)
				                         ? 0
				                         : -EINVAL);
			}
		}
		stage.levels = levels[i].first;
		for (unsigned bits = 1; bits < 256; bits++) {
			struct snest_stage wide = stage;
			unsigned most;

			wide.oa_bits = 0;
			most = test_config_output_bits(&wide);
			wide.oa_bits = (uint8_t)bits;
			assert_int_equal(check(wide), bits >= 32 && bits <= most ? 0 : -EINVAL);
		}
	}
}

/* Every granule, width, number of levels and feature, against the manuals' tables. */
static void arm_shapes(void **state)
{
	unsigned legal = 0;

	(void)state;
	for (unsigned n = 0; n < 2 * 4 * 20 * 8 * 65; n++) {
		unsigned stage2 = n & 1, features = n >> 1 & 3, granule = (n >> 3) % 20;
		unsigned levels = (n >> 3) / 20 % 8, bits = (n >> 3) / 20 / 8;
		bool ds = features & 1, lpa = features & 2, expected = false;
		struct snest_stage stage = {
			.format = stage2 ? SNEST_FORMAT_ARM_S2 : SNEST_FORMAT_ARM_S1,
			.granule_lg2 = (uint8_t)granule,
			.ia_bits = (uint8_t)bits,
			.levels = (uint8_t)levels,
			.flags = (ds ? SNEST_STAGE_ARM_DS : 0) | (lpa ? SNEST_STAGE_ARM_LPA : 0),
		};

		if (bits == 0)
			continue;
		for (int start = -1; start <= 3; start++) {
			if (levels == 0 || (int)levels == 4 - start)
				expected |= fact_arm_start(stage2, granule, bits, start, ds, lpa);
		}
		if ((check(stage) == 0) != expected)
			fail_msg("stage %u, granule %u, %u bits, %u levels, ds %u, lpa %u",
			         1 + stage2, granule, bits, levels, ds, lpa);
		legal += expected;
	}
	/* The tables are not empty. */
	assert_in_range(legal, 1000, 4000);
}

/* Without a number of levels a stage 2 concatenates nothing, except where it must. */
static void arm_levels_derived(void **state)
{
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = SNEST_FORMAT_ARM_S2,
		.granule_lg2 = 12,
		.ia_bits = 40,
	};
	struct sn_pt pt;

	(void)state;
	assert_int_equal(sn_pt_prepare(&pt, &stage, NULL), 0);
	assert_int_equal(pt.top[0], 3);
	stage.granule_lg2 = 14;
	stage.ia_bits = 48;
	assert_int_equal(sn_pt_prepare(&pt, &stage, NULL), 0);
	assert_int_equal(pt.top[0], 2);
	stage.flags = SNEST_STAGE_ARM_DS;
	assert_int_equal(sn_pt_prepare(&pt, &stage, NULL), 0);
	assert_int_equal(pt.top[0], 3);
}

static void arm_halves(void **state)
{
	struct snest_stage stage = {.format = SNEST_FORMAT_ARM_S1};

	(void)state;
	/* No half at all. */
	assert_int_equal(check(stage), -EINVAL);
	/* The upper half alone. */
	stage.granule_high_lg2 = 12;
	stage.ia_bits_high = 39;
	assert_int_equal(check(stage), 0);
	stage.granule_high_lg2 = 13;
	assert_int_equal(check(stage), -EINVAL);
	/* Nothing about a disabled half is checked, whatever it is. */
	stage.flags = SNEST_STAGE_ARM_EPD1;
	assert_int_equal(check(stage), 0);
	stage.ia_bits = 200;
	assert_int_equal(check(stage), -EINVAL);
	stage.flags |= SNEST_STAGE_ARM_EPD0;
	assert_int_equal(check(stage), 0);
	/* One privilege level, one half. */
	stage = (struct snest_stage){
		.format = SNEST_FORMAT_ARM_S1,
		.granule_lg2 = 12,
		.ia_bits = 39,
		.granule_high_lg2 = 12,
		.ia_bits_high = 39,
		.flags = SNEST_STAGE_ARM_EL2,
	};
	assert_int_equal(check(stage), -EINVAL);
	stage.granule_high_lg2 = stage.ia_bits_high = 0;
	assert_int_equal(check(stage), 0);
	/* A stage 2 has one. */
	stage.flags = 0;
	stage.format = SNEST_FORMAT_ARM_S2;
	stage.ia_bits_high = 39;
	assert_int_equal(check(stage), -EINVAL);
}

static void flags(void **state)
{
	struct snest_stage stage = {.format = SNEST_FORMAT_RISCV64, .levels = 3};

	(void)state;
	/* One control bit of the architecture for both. */
	stage.flags = SNEST_STAGE_HW_A;
	assert_int_equal(check(stage), -EINVAL);
	stage.flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	assert_int_equal(check(stage), 0);
	/* The dirty flag without the accessed flag, anywhere. */
	for (size_t i = 0; i < test_configs_count; i++) {
		stage = test_configs[i].stage;
		stage.flags = (stage.flags & ~SNEST_STAGE_HW_A) | SNEST_STAGE_HW_D;
		assert_int_equal(check(stage), -EINVAL);
	}
	/* Svnapot and Svpbmt need room for their bits. */
	stage = (struct snest_stage){.format = SNEST_FORMAT_RISCV32, .levels = 2};
	stage.flags = SNEST_STAGE_RISCV_SVNAPOT;
	assert_int_equal(check(stage), -EOPNOTSUPP);
	stage.flags = SNEST_STAGE_RISCV_SVPBMT;
	assert_int_equal(check(stage), -EOPNOTSUPP);
	/* AMD v2 has no extended accessed flag. */
	stage = (struct snest_stage){.format = SNEST_FORMAT_AMD_V2, .levels = 4};
	stage.flags = SNEST_STAGE_X86_EAF;
	assert_int_equal(check(stage), -EOPNOTSUPP);
}

/* ---- Inputs at the edges of an Arm stage 1 ------------------------------------ */

static unsigned start(const struct snest_stage *stage, uint64_t in, unsigned *half)
{
	struct sn_pt pt;

	assert_int_equal(sn_pt_prepare(&pt, stage, NULL), 0);
	return arm_s1_start(&pt, in, half);
}

static void arm_half_selection(void **state)
{
	struct snest_stage s = {
		.size = sizeof(s),
		.format = SNEST_FORMAT_ARM_S1,
		.granule_lg2 = 12,
		.ia_bits = 39,
		.granule_high_lg2 = 16,
		.ia_bits_high = 48,
	};
	unsigned half;

	(void)state;
	assert_int_equal(start(&s, 0x0000007fffffffffull, &half), 0);
	assert_int_equal(half, 0);
	assert_int_equal(start(&s, 0x0000008000000000ull, &half), SNEST_FAULT_INPUT_RANGE);
	assert_int_equal(start(&s, 0xffff000000000000ull, &half), 0);
	assert_int_equal(half, 1);
	assert_int_equal(start(&s, 0xfffeffffffffffffull, &half), SNEST_FAULT_INPUT_RANGE);
	/* A tag only where the top byte is ignored, by the half that bit 55 selects. */
	assert_int_equal(start(&s, 0xa500000000000000ull, &half), SNEST_FAULT_INPUT_RANGE);
	s.flags = SNEST_STAGE_ARM_TBI0;
	assert_int_equal(start(&s, 0xa500000000000000ull, &half), 0);
	assert_int_equal(half, 0);
	assert_int_equal(start(&s, 0x5aff000000000000ull, &half), SNEST_FAULT_INPUT_RANGE);
	s.flags = SNEST_STAGE_ARM_TBI1;
	assert_int_equal(start(&s, 0x5aff000000000000ull, &half), 0);
	assert_int_equal(half, 1);
	assert_int_equal(start(&s, 0x5a7f000000000000ull, &half), SNEST_FAULT_INPUT_RANGE);
	assert_int_equal(start(&s, 0x0100000000000000ull, &half), SNEST_FAULT_INPUT_RANGE);
	/* Disabled halves, also one without any width. */
	s.flags = SNEST_STAGE_ARM_EPD0;
	assert_int_equal(start(&s, 0, &half), SNEST_FAULT_DISABLED);
	assert_int_equal(start(&s, UINT64_MAX, &half), 0);
	s.ia_bits = 0;
	assert_int_equal(start(&s, 0x007fffffffffffffull, &half), SNEST_FAULT_DISABLED);
	assert_int_equal(start(&s, 0x0080000000000000ull, &half), SNEST_FAULT_INPUT_RANGE);
	assert_int_equal(start(&s, UINT64_MAX, &half), 0);
	/* No upper half. */
	s.flags = 0;
	s.ia_bits = 48;
	s.ia_bits_high = 0;
	assert_int_equal(start(&s, UINT64_MAX, &half), SNEST_FAULT_INPUT_RANGE);
}

/* ---- Sizes coded in addresses -------------------------------------------------- */

static void amd_sizes(void **state)
{
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = SNEST_FORMAT_AMD_V1,
		.levels = 6,
	};
	const uint64_t leaf = 1 | 7ull << 9 | 1ull << 61;
	struct sn_pt pt;

	(void)state;
	assert_int_equal(sn_pt_prepare(&pt, &stage, NULL), 0);
	for (unsigned n = 12; n <= 52; n++) {
		/* Ones from bit 12 up to n - 1, zero at n: 2^(n + 1) bytes. */
		uint64_t raw = leaf | (ones(n) & ~ones(12));

		for (unsigned level = 0; level < 6; level++) {
			unsigned own = 12 + 9 * level;
			bool legal = level < 5 && n < 52 && n + 1 > own && n + 1 < own + 9;
			struct sn_entry e = amd_v1_decode(&pt, 0, level, raw);

			assert_int_equal(e.early, 0);
			assert_int_equal(e.late, legal ? 0 : SNEST_FAULT_LEVEL);
			if (legal)
				assert_int_equal(e.lg2, n + 1);
		}
	}
}

static void names(void **state)
{
	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		const struct snest_stage *stage = &test_configs[i].stage;
		const char *name = snest_format_name(stage->format);

		assert_non_null(name);
		/* The names of stages here begin with it. */
		assert_int_equal(strncmp(name, test_configs[i].name, strlen(name)), 0);
		if (stage->format != SN_FORMAT_MOCK)
			assert_int_equal(snest_format_by_name(name), stage->format);
		for (unsigned level = 0; level < fact_levels(stage, 0); level++)
			assert_string_not_equal(snest_format_level_name(stage, level), "?");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_format),
		cmocka_unit_test(levels_and_widths),
		cmocka_unit_test(arm_shapes),
		cmocka_unit_test(arm_levels_derived),
		cmocka_unit_test(arm_halves),
		cmocka_unit_test(flags),
		cmocka_unit_test(arm_half_selection),
		cmocka_unit_test(amd_sizes),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
