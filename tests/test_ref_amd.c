/* SPDX-License-Identifier: MIT */
/*
 * The reference walker against hand-made tables: AMD-Vi v1 (host)
 * tables. Every expected value was worked out from the manual's rules by hand.
 * Nothing of the library is involved.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/tablebuf.h"

#define R SNEST_READ
#define W SNEST_WRITE
#define X SNEST_EXEC
#define BIT(n) ((uint64_t)1 << (n))

/* Index 1, 1, 2, 3 at the levels from 4 down, then the offset. */
#define VA 0x8040403abcu
#define IRIW (BIT(61) | BIT(62))
#define NEXT(n) ((uint64_t)(n) << 9)

static const struct snest_stage amd = {
	.size = sizeof(struct snest_stage),
	.format = SNEST_FORMAT_AMD_V1,
	.levels = 4,
	.root = 0x1000,
};

static void amd_tables(struct tablebuf *b)
{
	tablebuf_init(b, 0xffff);
	tablebuf_put(b, 0x1008, 0x2001 | NEXT(3) | IRIW);
	tablebuf_put(b, 0x2008, 0x3001 | NEXT(2) | IRIW);
	tablebuf_put(b, 0x3010, 0x4001 | NEXT(1) | IRIW);
	tablebuf_put(b, 0x4018, 0x98765001 | IRIW);
}

static void amd_modes(void **state)
{
	struct snest_stage stage = amd;
	struct tablebuf b;

	(void)state;
	amd_tables(&b);
	expect_ok(&b, &stage, VA, R | W | X, 0x98765abc, 12, R | W | X);
	expect_fault(&b, &stage, BIT(48), R, SNEST_FAULT_INPUT_RANGE, 3);
	stage.levels = 1;
	stage.root = 0x4000;
	expect_ok(&b, &stage, 0x3abc, R, 0x98765abc, 12, R | W | X);
	expect_fault(&b, &stage, BIT(21), R, SNEST_FAULT_INPUT_RANGE, 0);
	/* Mode 6 has 128 entries, and no leaves. */
	stage.levels = 6;
	stage.root = 0x5000;
	tablebuf_put(&b, 0x53f8, 0x6001 | NEXT(5) | IRIW);
	tablebuf_put(&b, 0x6000, 0x1001 | NEXT(4) | IRIW);
	expect_ok(&b, &stage, 0xfe00000000000000 | VA, R, 0x98765abc, 12, R | W | X);
	tablebuf_put(&b, 0x53f8, 0x6001 | IRIW);
	expect_fault(&b, &stage, 0xfe00000000000000 | VA, R, SNEST_FAULT_LEVEL, 5);
}

static void amd_default_sizes(void **state)
{
	struct tablebuf b;

	(void)state;
	/* Address bits below the page are masked, not checked. */
	amd_tables(&b);
	tablebuf_put(&b, 0x3010, 0x40345001 | IRIW);
	expect_ok(&b, &amd, VA, R, 0x40203abc, 21, R | W | X);
	tablebuf_put(&b, 0x2008, 0x7abcd001 | IRIW);
	expect_ok(&b, &amd, VA, R, 0x40403abc, 30, R | W | X);
	tablebuf_put(&b, 0x1008, 0x18000000001 | IRIW);
	expect_ok(&b, &amd, VA, R, 0x18040403abc, 39, R | W | X);
}

static void amd_coded_sizes(void **state)
{
	struct tablebuf b;

	(void)state;
	/* The lowest 0 from bit 12 on, at n, means 2^(n+1). */
	for (unsigned lg2 = 13; lg2 <= 52; lg2++) {
		uint64_t ones = (BIT(lg2 - 1) - 1) & ~(uint64_t)0xfff;
		bool last = lg2 > 12 && lg2 < 21;
		bool middle = lg2 > 21 && lg2 < 30;

		amd_tables(&b);
		tablebuf_put(&b, 0x4018, ones | 1 | NEXT(7) | IRIW);
		if (last)
			expect_ok(&b, &amd, VA, R, VA & (BIT(lg2) - 1), lg2, R | W | X);
		else
			expect_fault(&b, &amd, VA, R, SNEST_FAULT_LEVEL, 0);
		tablebuf_put(&b, 0x3010, ones | 1 | NEXT(7) | IRIW);
		if (middle)
			expect_ok(&b, &amd, VA, R, VA & (BIT(lg2) - 1), lg2, R | W | X);
		else
			expect_fault(&b, &amd, VA, R, SNEST_FAULT_LEVEL, 1);
	}
	/* 64 KiB at 0xabcd0000. */
	amd_tables(&b);
	tablebuf_put(&b, 0x4018, 0xabcd7001 | NEXT(7) | IRIW);
	expect_ok(&b, &amd, VA, R, 0xabcd3abc, 16, R | W | X);
	/* No 0 at all. */
	tablebuf_put(&b, 0x4018, 0x000ffffffffff001 | NEXT(7) | IRIW);
	expect_fault(&b, &amd, VA, R, SNEST_FAULT_LEVEL, 0);
}

static void amd_level_skipping(void **state)
{
	struct tablebuf b;

	(void)state;
	amd_tables(&b);
	/* From level 4 to level 1: bits 38:21 must be 0. */
	tablebuf_put(&b, 0x1008, 0x4001 | NEXT(1) | IRIW);
	expect_ok(&b, &amd, BIT(39) | 0x3abc, R, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_walk(&b, &amd, BIT(39) | 0x3abc, R).steps, 2);
	for (unsigned bit = 21; bit <= 38; bit++)
		expect_fault(&b, &amd, BIT(39) | BIT(bit) | 0x3abc, R, SNEST_FAULT_LEVEL, 3);
	/* Never up, nor to the same level. */
	for (unsigned next = 4; next <= 6; next++) {
		tablebuf_put(&b, 0x1008, 0x1001 | NEXT(next) | IRIW);
		expect_fault(&b, &amd, VA, R, SNEST_FAULT_LEVEL, 3);
	}
}

static void amd_reserved_bits(void **state)
{
	struct tablebuf b;

	(void)state;
	for (unsigned bit = 52; bit <= 60; bit++) {
		amd_tables(&b);
		tablebuf_put(&b, 0x2008, 0x3001 | NEXT(2) | BIT(bit)); /* before IR = IW = 0 */
		expect_fault(&b, &amd, VA, R, SNEST_FAULT_RESERVED, 2);
		amd_tables(&b);
		tablebuf_put(&b, 0x4018, 0x98765001 | IRIW | BIT(bit));
		if (bit <= 58)
			expect_fault(&b, &amd, VA, R, SNEST_FAULT_RESERVED, 0);
		else
			expect_ok(&b, &amd, VA, R, 0x98765abc, 12, R | W | X);
	}
	assert_int_equal(tablebuf_walk(&b, &amd, VA, R).attr, SNEST_ATTR_SNOOP);
	tablebuf_put(&b, 0x4018, ~BIT(0));
	expect_fault(&b, &amd, VA, R, SNEST_FAULT_NOT_PRESENT, 0);
}

static void amd_rights(void **state)
{
	struct snest_stage stage = amd;
	struct tablebuf b;

	(void)state;
	amd_tables(&b);
	tablebuf_put(&b, 0x2008, 0x3001 | NEXT(2) | BIT(61));
	expect_ok(&b, &stage, VA, R, 0x98765abc, 12, R | X);
	expect_fault(&b, &stage, VA, W, SNEST_FAULT_WRITE, 2);
	/* IR = IW = 0 is present, and kills the subtree. */
	tablebuf_put(&b, 0x2008, 0x3001 | NEXT(2));
	expect_fault(&b, &stage, VA, R | W, SNEST_FAULT_READ, 2);
	expect_ok(&b, &stage, VA, 0, 0x98765abc, 12, 0);
	/* The device table entry's IR and IW come before any table. */
	stage.rights = W;
	tablebuf_init(&b, 0);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_READ, 3);
	expect_fault(&b, &stage, VA, W, SNEST_FAULT_TABLE_ACCESS, 3);
}

static void amd_accessed_and_dirty(void **state)
{
	struct snest_stage stage = amd;
	struct tablebuf b;

	(void)state;
	stage.flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	amd_tables(&b);
	expect_ok(&b, &stage, VA, W, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_get(&b, 0x1008), 0x2021 | NEXT(3) | IRIW);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765061 | IRIW);

	stage.flags = SNEST_STAGE_HW_A;
	amd_tables(&b);
	expect_ok(&b, &stage, VA, W, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765021 | IRIW);
	stage.flags = 0;
	amd_tables(&b);
	expect_ok(&b, &stage, VA, W, 0x98765abc, 12, R | W | X);
	assert_int_equal(b.writes, 0);
}

static void amd_attributes(void **state)
{
	struct snest_stage stage = amd;
	struct tablebuf b;

	(void)state;
	amd_tables(&b);
	struct ref_result r = tablebuf_walk(&b, &stage, VA, R);
	assert_int_equal(r.attr, 0);
	assert_int_equal(r.level, 0);
	assert_int_equal(r.entry_addr, 0x4018);
	tablebuf_put(&b, 0x4018, 0x98765021 | IRIW);
	assert_int_equal(tablebuf_walk(&b, &stage, VA, R).attr, SNEST_ATTR_ACCESSED);
	tablebuf_put(&b, 0x4018, 0x98765041 | IRIW);
	assert_int_equal(tablebuf_walk(&b, &stage, VA, R).attr, SNEST_ATTR_DIRTY);
	tablebuf_put(&b, 0x4018, 0x98760001 | NEXT(7) | IRIW);
	assert_int_equal(tablebuf_walk(&b, &stage, VA, R).attr, SNEST_ATTR_CONTIGUOUS);
	stage.flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	assert_int_equal(tablebuf_walk(&b, &stage, VA, 0).attr,
	                 SNEST_ATTR_CONTIGUOUS | SNEST_ATTR_DIRTIABLE);
}

static void amd_output_width(void **state)
{
	struct snest_stage stage = amd;
	struct tablebuf b;

	(void)state;
	stage.oa_bits = 40;
	amd_tables(&b);
	tablebuf_put(&b, 0x4018, 0x98765001 | BIT(40) | IRIW);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_ADDRESS_SIZE, 0);
	tablebuf_put(&b, 0x4018, 0x98765001 | BIT(39) | IRIW);
	expect_ok(&b, &stage, VA, R, 0x8098765abc, 12, R | W | X);
	tablebuf_put(&b, 0x2008, 0x3001 | BIT(51) | NEXT(2) | IRIW);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_ADDRESS_SIZE, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(amd_modes),
		cmocka_unit_test(amd_default_sizes),
		cmocka_unit_test(amd_coded_sizes),
		cmocka_unit_test(amd_level_skipping),
		cmocka_unit_test(amd_reserved_bits),
		cmocka_unit_test(amd_rights),
		cmocka_unit_test(amd_accessed_and_dirty),
		cmocka_unit_test(amd_attributes),
		cmocka_unit_test(amd_output_width),
	};

	return cmocka_run_group_tests_name("ref_amd", tests, NULL, NULL);
}
