/* SPDX-License-Identifier: MIT */
/*
 * The reference walker against hand-made Armv8 tables, stage 1 and 2: granules,
 * start levels, concatenation, 52-bit addresses, the two halves, permissions
 * and the accessed and dirty rules. Every expected value was worked out from
 * the manual's rules by hand. Nothing of the library is involved.
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
#define PRIV SNEST_PRIVILEGED
#define BIT(n) ((uint64_t)1 << (n))

#define TABLE 3u
#define BLOCK 1u
#define PAGE 3u /* type of a leaf in the last level */
#define AF BIT(10)
#define USER BIT(6) /* AP[1] */
#define RO BIT(7)   /* AP[2] */
#define S2R BIT(6)  /* S2AP[0] */
#define S2W BIT(7)  /* S2AP[1] */
#define DBM BIT(51)
#define PXN BIT(53)
#define UXN BIT(54)

/* 4K: index 1, 1, 2, 3 at the levels from 0 down, then the offset. */
#define VA 0x8040403abcu

static const struct snest_stage s1 = {
	.size = sizeof(struct snest_stage),
	.format = SNEST_FORMAT_ARM_S1,
	.ia_bits = 48,
	.granule_lg2 = 12,
	.root = 0x1000,
};

static const struct snest_stage s2 = {
	.size = sizeof(struct snest_stage),
	.format = SNEST_FORMAT_ARM_S2,
	.ia_bits = 48,
	.granule_lg2 = 12,
	.root = 0x1000,
};

/* Tables 0x1000, 0x2000, 0x3000, 0x4000 lead VA to 0x98765000 with `leaf`'s bits. */
static void tables(struct tablebuf *b, uint64_t leaf)
{
	tablebuf_init(b, 0xfffff);
	tablebuf_put(b, 0x1008, 0x2000 | TABLE);
	tablebuf_put(b, 0x2008, 0x3000 | TABLE);
	tablebuf_put(b, 0x3010, 0x4000 | TABLE);
	tablebuf_put(b, 0x4018, 0x98765000 | PAGE | leaf);
}

static struct snest_stage with(struct snest_stage stage, uint32_t flags)
{
	stage.flags = flags;
	return stage;
}

static void s1_4k(void **state)
{
	struct tablebuf b;

	(void)state;
	tables(&b, AF | USER | 5 << 2 | BIT(5)); /* NS is not part of AttrIndx */
	expect_ok(&b, &s1, VA, R | W | X, 0x98765abc, 12, R | W | X);
	struct ref_result r = tablebuf_walk(&b, &s1, VA, R);
	assert_int_equal(r.steps, 4);
	assert_int_equal(r.step[0].level, 3);
	assert_int_equal(r.attr, 5 | SNEST_ATTR_USER | SNEST_ATTR_GLOBAL | SNEST_ATTR_ACCESSED);
}

static void types(void **state)
{
	struct snest_stage ds = with(s1, SNEST_STAGE_ARM_DS);
	struct tablebuf b;

	(void)state;
	tables(&b, AF | USER);
	tablebuf_put(&b, 0x4018, 0x98765000 | BLOCK | AF | USER);
	expect_fault(&b, &s1, VA, R, SNEST_FAULT_NOT_PRESENT, 0);
	tablebuf_put(&b, 0x4018, 0x98765000 | 2 | AF | USER);
	expect_fault(&b, &s1, VA, R, SNEST_FAULT_NOT_PRESENT, 0);
	/* Block address bits below the size are masked, not checked. */
	tablebuf_put(&b, 0x3010, 0x40212000 | BLOCK | AF | USER);
	expect_ok(&b, &s1, VA, R, 0x40203abc, 21, R | W | X);
	tablebuf_put(&b, 0x2008, 0x40000000 | BLOCK | AF | USER);
	expect_ok(&b, &s1, VA, R, 0x40403abc, 30, R | W | X);
	/* A block in level 0 exists with DS only. */
	tablebuf_put(&b, 0x1008, 0x8000000000 | BLOCK | AF | USER);
	expect_fault(&b, &s1, VA, R, SNEST_FAULT_NOT_PRESENT, 3);
	expect_ok(&b, &ds, VA, R, VA, 39, R | W | X);
}

static void block_levels_of_other_granules(void **state)
{
	struct snest_stage stage = s1;
	struct tablebuf b;

	(void)state;
	tablebuf_init(&b, 0xfffff);
	stage.granule_lg2 = 14;
	stage.ia_bits = 47;
	stage.root = 0x10000;
	/* 16K: level 1 has 11 bits from 36 on, level 2 from 25 on. */
	tablebuf_put(&b, 0x10008, 0x1000000000 | BLOCK | AF | USER);
	expect_fault(&b, &stage, BIT(36), R, SNEST_FAULT_NOT_PRESENT, 2);
	stage.flags = SNEST_STAGE_ARM_DS;
	expect_ok(&b, &stage, BIT(36) | 0xabc, R, 0x1000000abc, 36, R | W | X);
	tablebuf_put(&b, 0x10008, 0x20000 | TABLE);
	tablebuf_put(&b, 0x20010, 0x2000000 | BLOCK | AF | USER);
	expect_ok(&b, &stage, BIT(36) | 0x4001abc, R, 0x2001abc, 25, R | W | X);

	/* 64K: level 1 from 42 on, level 2 from 29 on. */
	stage.granule_lg2 = 16;
	stage.ia_bits = 48;
	stage.flags = 0;
	tablebuf_put(&b, 0x10008, 0x40000000000 | BLOCK | AF | USER);
	expect_fault(&b, &stage, BIT(42), R, SNEST_FAULT_NOT_PRESENT, 2);
	stage.flags = SNEST_STAGE_ARM_LPA;
	expect_ok(&b, &stage, BIT(42) | 0xabc, R, 0x40000000abc, 42, R | W | X);
	stage.flags = SNEST_STAGE_ARM_DS; /* means nothing here */
	expect_fault(&b, &stage, BIT(42), R, SNEST_FAULT_NOT_PRESENT, 2);
	tablebuf_put(&b, 0x10008, 0x20000 | TABLE);
	tablebuf_put(&b, 0x20010, 0x20000000 | BLOCK | AF | USER);
	expect_ok(&b, &stage, BIT(42) | 0x4001abcd, R, 0x2001abcd, 29, R | W | X);
}

static void s1_start_levels(void **state)
{
	static const struct {
		unsigned granule, narrow, wide, top;
	} range[] = {
		/* Widths that start at one level: 64 - TSZ. */
		{12, 16, 21, 0}, {12, 22, 30, 1}, {12, 31, 39, 2}, {12, 40, 48, 3},
		{12, 49, 52, 4}, {14, 16, 25, 0}, {14, 26, 36, 1}, {14, 37, 47, 2},
		{14, 48, 52, 3}, {16, 17, 29, 0}, {16, 30, 42, 1}, {16, 43, 52, 2},
	};
	struct tablebuf b;

	(void)state;
	tablebuf_init(&b, 0xfffff);
	for (unsigned i = 0; i < sizeof(range) / sizeof(range[0]); i++) {
		for (unsigned width = range[i].narrow; width <= range[i].wide; width++) {
			struct snest_stage stage =
				with(s1, SNEST_STAGE_ARM_DS | SNEST_STAGE_ARM_LPA);
			unsigned low = range[i].granule + range[i].top * (range[i].granule - 3);
			uint64_t all = BIT(width) - 1;

			stage.granule_lg2 = (uint8_t)range[i].granule;
			stage.ia_bits = (uint8_t)width;
			stage.root = 0x80000;
			expect_fault(&b, &stage, all, R, SNEST_FAULT_NOT_PRESENT, range[i].top);
			assert_int_equal(tablebuf_walk(&b, &stage, all, R).entry_addr,
			                 0x80000 + 8 * (all >> low));
			expect_fault(&b, &stage, all + 1, R, SNEST_FAULT_INPUT_RANGE, range[i].top);
		}
	}
}

static void s1_two_halves(void **state)
{
	struct snest_stage stage = s1;
	struct tablebuf b;

	(void)state;
	stage.ia_bits = 39;
	stage.ia_bits_high = 42;
	stage.granule_high_lg2 = 16;
	stage.root = 0x2000;
	stage.root_high = 0x10000;
	tables(&b, AF | USER);
	tablebuf_put(&b, 0x1fff8, 0x20000 | TABLE);
	tablebuf_put(&b, 0x2fff8, 0x12340000 | PAGE | AF | USER);
	expect_ok(&b, &stage, 0x40403abc, R, 0x98765abc, 12, R | W | X);
	expect_ok(&b, &stage, UINT64_MAX, R, 0x1234ffff, 16, R | W | X);
	expect_fault(&b, &stage, BIT(39), R, SNEST_FAULT_INPUT_RANGE, 2);
	expect_fault(&b, &stage, BIT(63), R, SNEST_FAULT_INPUT_RANGE, 2);
	expect_fault(&b, &stage, ~BIT(42), R, SNEST_FAULT_INPUT_RANGE, 2);
	expect_fault(&b, &stage, UINT64_MAX >> 8, R, SNEST_FAULT_INPUT_RANGE, 2);

	/* Bit 55 selects the half whose top byte may be ignored. */
	stage.flags = SNEST_STAGE_ARM_TBI0;
	expect_ok(&b, &stage, 0xab00000040403abc, R, 0x98765abc, 12, R | W | X);
	expect_fault(&b, &stage, BIT(55), R, SNEST_FAULT_INPUT_RANGE, 2);
	expect_fault(&b, &stage, UINT64_MAX >> 8, R, SNEST_FAULT_INPUT_RANGE, 2);
	stage.flags = SNEST_STAGE_ARM_TBI1;
	expect_fault(&b, &stage, 0xab00000040403abc, R, SNEST_FAULT_INPUT_RANGE, 2);
	expect_ok(&b, &stage, UINT64_MAX >> 8, R, 0x1234ffff, 16, R | W | X);

	stage.flags = SNEST_STAGE_ARM_EPD0;
	expect_fault(&b, &stage, 0x40403abc, R, SNEST_FAULT_DISABLED, 2);
	expect_ok(&b, &stage, UINT64_MAX, R, 0x1234ffff, 16, R | W | X);
	stage.flags = SNEST_STAGE_ARM_EPD1;
	expect_ok(&b, &stage, 0x40403abc, R, 0x98765abc, 12, R | W | X);
	expect_fault(&b, &stage, UINT64_MAX, R, SNEST_FAULT_DISABLED, 1);
	stage.flags = 0;
	stage.ia_bits_high = 0;
	expect_fault(&b, &stage, UINT64_MAX, R, SNEST_FAULT_INPUT_RANGE, 2);
}

static void output_widths(void **state)
{
	struct snest_stage stage = s1;
	struct tablebuf b;

	(void)state;
	stage.oa_bits = 40;
	for (unsigned bit = 40; bit <= 47; bit++) {
		tables(&b, AF | USER | BIT(bit));
		expect_fault(&b, &stage, VA, R, SNEST_FAULT_ADDRESS_SIZE, 0);
		tables(&b, BIT(bit)); /* before the access flag */
		expect_fault(&b, &stage, VA, R, SNEST_FAULT_ADDRESS_SIZE, 0);
		tables(&b, AF | USER);
		tablebuf_put(&b, 0x2008, 0x3000 | TABLE | BIT(bit));
		expect_fault(&b, &stage, VA, R, SNEST_FAULT_ADDRESS_SIZE, 2);
	}
	/* 51:48 and 9:8 are no address bits without DS. */
	tables(&b, AF | USER | BIT(48) | BIT(49) | BIT(50) | BIT(8) | BIT(9));
	expect_ok(&b, &stage, VA, R, 0x98765abc, 12, R | W | X);
}

static void wide_addresses(void **state)
{
	struct snest_stage stage = with(s1, SNEST_STAGE_ARM_DS);
	struct tablebuf b;

	(void)state;
	/* DS: OA[49:48] from 49:48, OA[51:50] from 9:8. */
	tables(&b, AF | USER | BIT(48) | BIT(9));
	expect_ok(&b, &stage, VA, R, 0x9000098765abc, 12, R | W | X);
	stage.oa_bits = 51;
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_ADDRESS_SIZE, 0);
	tables(&b, AF | USER);
	tablebuf_put(&b, 0x3010, 0x4000 | TABLE | BIT(8)); /* a table at 2^50 */
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_TABLE_ACCESS, 0);
	assert_int_equal(tablebuf_walk(&b, &stage, VA, R).entry_addr, BIT(50) | 0x4018);

	/* Level -1. */
	stage.oa_bits = 0;
	stage.ia_bits = 52;
	stage.root = 0x5000;
	tables(&b, AF | USER);
	tablebuf_put(&b, 0x5078, 0x1000 | TABLE);
	expect_ok(&b, &stage, 0xf000000000000 | VA, R, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_walk(&b, &stage, 0xf000000000000 | VA, R).step[0].level, 4);
	tablebuf_put(&b, 0x5078, 0x1000 | BLOCK | AF | USER);
	expect_fault(&b, &stage, 0xf000000000000 | VA, R, SNEST_FAULT_NOT_PRESENT, 4);

	/* 64K and LPA: OA[51:48] from 15:12. */
	stage = with(s1, SNEST_STAGE_ARM_LPA);
	stage.granule_lg2 = 16;
	stage.ia_bits = 42;
	stage.root = 0x10000;
	tablebuf_put(&b, 0x10010, 0x20005000 | BLOCK | AF | USER);
	expect_ok(&b, &stage, 0x4001abcd, R, 0x500002001abcd, 29, R | W | X);
	stage.flags = 0;
	expect_ok(&b, &stage, 0x4001abcd, R, 0x2001abcd, 29, R | W | X);
}

static void s1_permissions(void **state)
{
	/*
	 * AP[2:1] as in bits 7:6, and what user and privileged code may then do.
	 * What users can write is never executed by privileged code.
	 */
	static const struct rule {
		uint64_t leaf;
		unsigned user, priv;
	} rule[] = {
		{0, X, R | W | X},           {USER, R | W | X, R | W},    {RO, X, R | X},
		{RO | USER, R | X, R | X},   {UXN, 0, R | W | X},         {PXN, X, R | W},
		{RO | USER | UXN, R, R | X}, {RO | USER | PXN, R | X, R},
	};
	struct tablebuf b;

	(void)state;
	for (unsigned i = 0; i < sizeof(rule) / sizeof(rule[0]); i++) {
		tables(&b, AF | rule[i].leaf);
		expect_ok(&b, &s1, VA, 0, 0x98765abc, 12, rule[i].user);
		expect_ok(&b, &s1, VA, PRIV, 0x98765abc, 12, rule[i].priv);
		expect_ok(&b, &s1, VA, rule[i].user, 0x98765abc, 12, rule[i].user);
		expect_ok(&b, &s1, VA, rule[i].priv | PRIV, 0x98765abc, 12, rule[i].priv);
	}
	tables(&b, AF | UXN);
	expect_fault(&b, &s1, VA, R, SNEST_FAULT_PRIVILEGE, 0);
	expect_fault(&b, &s1, VA, W, SNEST_FAULT_PRIVILEGE, 0);
	expect_fault(&b, &s1, VA, X, SNEST_FAULT_EXECUTE, 0);
	tables(&b, AF | RO | USER);
	expect_fault(&b, &s1, VA, W, SNEST_FAULT_WRITE, 0);
	expect_fault(&b, &s1, VA, W | PRIV, SNEST_FAULT_WRITE, 0);
}

static void s1_wxn_pan_el2(void **state)
{
	struct snest_stage wxn = with(s1, SNEST_STAGE_ARM_WXN);
	struct snest_stage pan = with(s1, SNEST_STAGE_ARM_PAN);
	struct snest_stage el2 = with(s1, SNEST_STAGE_ARM_EL2 | SNEST_STAGE_ARM_PAN);
	struct tablebuf b;

	(void)state;
	tables(&b, AF | USER);
	expect_ok(&b, &wxn, VA, R | W, 0x98765abc, 12, R | W);
	expect_fault(&b, &wxn, VA, X, SNEST_FAULT_EXECUTE, 0);
	tables(&b, AF);
	expect_ok(&b, &wxn, VA, PRIV, 0x98765abc, 12, R | W);
	expect_ok(&b, &wxn, VA, X, 0x98765abc, 12, X); /* not writable by users */

	tables(&b, AF | USER | RO);
	expect_fault(&b, &pan, VA, R | PRIV, SNEST_FAULT_PRIVILEGE, 0);
	expect_ok(&b, &pan, VA, X | PRIV, 0x98765abc, 12, X);
	expect_ok(&b, &pan, VA, R, 0x98765abc, 12, R | X);

	/* One privilege level: AP[1], PXN and PAN mean nothing, bit 54 is XN. */
	tables(&b, AF | USER | PXN);
	expect_ok(&b, &el2, VA, R | W | X, 0x98765abc, 12, R | W | X);
	tables(&b, AF | UXN);
	expect_ok(&b, &el2, VA, R | W, 0x98765abc, 12, R | W);
	expect_fault(&b, &el2, VA, X | PRIV, SNEST_FAULT_EXECUTE, 0);
}

static void s1_hierarchical(void **state)
{
	struct snest_stage off = with(s1, SNEST_STAGE_ARM_HAD0);
	struct snest_stage hd = with(s1, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	static const struct {
		unsigned bit, user, priv;
	} rule[] = {
		{59, R | W | X, R | W}, /* PXNTable; the page is user-writable anyway */
		{60, R | W, R | W},     /* UXNTable */
		{61, X, R | W | X},     /* APTable[0]: not for users, so privileged may execute */
		{62, R | X, R | X},     /* APTable[1]: read-only */
		{63, R | W | X, R | W}, /* NSTable */
	};
	struct tablebuf b;

	(void)state;
	for (unsigned i = 0; i < sizeof(rule) / sizeof(rule[0]); i++) {
		tables(&b, AF | USER);
		tablebuf_put(&b, 0x2008, 0x3000 | TABLE | BIT(rule[i].bit));
		expect_ok(&b, &s1, VA, 0, 0x98765abc, 12, rule[i].user);
		expect_ok(&b, &s1, VA, PRIV, 0x98765abc, 12, rule[i].priv);
		expect_ok(&b, &off, VA, R | W | X, 0x98765abc, 12, R | W | X);
	}
	tables(&b, AF | USER | RO);
	tablebuf_put(&b, 0x1008, 0x2000 | TABLE | BIT(59));
	expect_ok(&b, &s1, VA, PRIV, 0x98765abc, 12, R);
	tables(&b, AF | USER);
	tablebuf_put(&b, 0x1008, 0x2000 | TABLE | BIT(61));
	expect_fault(&b, &s1, VA, R, SNEST_FAULT_PRIVILEGE, 0);
	/* DBM does not give back what APTable took. */
	tables(&b, AF | USER | RO | DBM);
	tablebuf_put(&b, 0x1008, 0x2000 | TABLE | BIT(62));
	expect_fault(&b, &hd, VA, W, SNEST_FAULT_WRITE, 0);
}

static void access_flag(void **state)
{
	struct snest_stage affd = with(s1, SNEST_STAGE_ARM_AFFD);
	struct snest_stage ha = with(s1, SNEST_STAGE_HW_A);
	struct tablebuf b;

	(void)state;
	tables(&b, USER | RO);
	expect_fault(&b, &s1, VA, W, SNEST_FAULT_ACCESS_FLAG, 0); /* before permission */
	expect_ok(&b, &affd, VA, R, 0x98765abc, 12, R | X);
	assert_int_equal(b.writes, 0);
	b.read_only = true;
	expect_fault(&b, &ha, VA, R, SNEST_FAULT_UPDATE, 0);
	b.read_only = false;
	expect_ok(&b, &ha, VA, R, 0x98765abc, 12, R | X);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765000 | PAGE | AF | USER | RO);
	assert_int_equal(tablebuf_get(&b, 0x3010), 0x4000 | TABLE);

	ha = with(s2, SNEST_STAGE_HW_A);
	tables(&b, S2R | BIT(55)); /* bit 55 is software's */
	expect_ok(&b, &ha, VA, 0, 0x98765abc, 12, R | X);
	assert_int_equal(b.writes, 0);
	expect_ok(&b, &ha, VA, R, 0x98765abc, 12, R | X);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765000 | PAGE | AF | S2R | BIT(55));
}

static void dirty_state(void **state)
{
	struct snest_stage hd1 = with(s1, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	struct snest_stage hd2 = with(s2, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	struct tablebuf b;

	(void)state;
	/* Stage 1: AP[2] = 1 is clean, and cleared by a write. */
	tables(&b, AF | USER | RO | DBM);
	expect_fault(&b, &s1, VA, W, SNEST_FAULT_WRITE, 0);
	expect_ok(&b, &hd1, VA, R, 0x98765abc, 12, R | W | X);
	assert_true(tablebuf_walk(&b, &hd1, VA, R).attr & SNEST_ATTR_DIRTIABLE);
	assert_int_equal(b.writes, 0);
	assert_true(tablebuf_walk(&b, &hd1, VA, W).attr & SNEST_ATTR_DIRTY);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765000 | PAGE | AF | USER | DBM);
	tables(&b, AF | USER | RO); /* DBM = 0: plainly read-only */
	expect_fault(&b, &hd1, VA, W, SNEST_FAULT_WRITE, 0);

	/* Stage 2: S2AP[1] = 0 is clean, and set by a write. */
	tables(&b, AF | S2R | DBM);
	expect_fault(&b, &s2, VA, W, SNEST_FAULT_WRITE, 0);
	assert_int_equal(tablebuf_walk(&b, &hd2, VA, 0).attr,
	                 SNEST_ATTR_DIRTIABLE | SNEST_ATTR_ACCESSED);
	expect_ok(&b, &hd2, VA, W, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_walk(&b, &hd2, VA, 0).attr,
	                 SNEST_ATTR_DIRTY | SNEST_ATTR_ACCESSED);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765000 | PAGE | AF | S2R | S2W | DBM);
}

static void s2_permissions(void **state)
{
	static const struct {
		uint64_t leaf;
		unsigned user, priv;
	} rule[] = {
		{S2R | S2W, R | W | X, R | W | X},
		{S2R, R | X, R | X},
		{S2W, W | X, W | X}, /* write-only exists */
		{0, X, X},
		{S2R | BIT(53), R | X, R},
		{S2R | BIT(54), R, R},
		{S2R | BIT(54) | BIT(53), R, R | X},
	};
	struct tablebuf b;

	(void)state;
	for (unsigned i = 0; i < sizeof(rule) / sizeof(rule[0]); i++) {
		tables(&b, AF | rule[i].leaf | 9 << 2);
		/* Table attributes are a matter of stage 1. */
		tablebuf_put(&b, 0x2008, 0x3000 | TABLE | BIT(59) | BIT(60) | BIT(61) | BIT(62));
		expect_ok(&b, &s2, VA, rule[i].user, 0x98765abc, 12, rule[i].user);
		expect_ok(&b, &s2, VA, rule[i].priv | PRIV, 0x98765abc, 12, rule[i].priv);
		assert_int_equal(tablebuf_walk(&b, &s2, VA, 0).attr, 9 | SNEST_ATTR_ACCESSED);
	}
	tables(&b, AF | S2W | BIT(54));
	expect_fault(&b, &s2, VA, R | W | X, SNEST_FAULT_READ, 0);
	expect_fault(&b, &s2, VA, X, SNEST_FAULT_EXECUTE, 0);
	expect_fault(&b, &s2, BIT(48), R, SNEST_FAULT_INPUT_RANGE, 3);
	tables(&b, S2R);
	expect_fault(&b, &s2, VA, R, SNEST_FAULT_ACCESS_FLAG, 0);
}

static void s2_concatenation(void **state)
{
	struct snest_stage stage = s2;
	struct tablebuf b;

	(void)state;
	/* 43 bits from level 1: 16 tables of 4K in a row. */
	tablebuf_init(&b, 0xfffff);
	stage.levels = 3;
	stage.ia_bits = 43;
	stage.root = 0x10000;
	tablebuf_put(&b, 0x1fff8, 0x40000000 | BLOCK | AF | S2R);
	expect_ok(&b, &stage, BIT(43) - 1, R, 0x7fffffff, 30, R | X);
	expect_fault(&b, &stage, BIT(43), R, SNEST_FAULT_INPUT_RANGE, 2);

	/* 16K, 48 bits: level 1 with two tables. */
	stage.granule_lg2 = 14;
	stage.ia_bits = 48;
	stage.root = 0x18000;
	tablebuf_put(&b, 0x1fff8, 0x20000 | TABLE);
	tablebuf_put(&b, 0x20000, 0x2000000 | BLOCK | AF | S2R);
	expect_ok(&b, &stage, 0xfff000000abc, R, 0x2000abc, 25, R | X);

	/* The same width from level 0 has two entries there. */
	stage.levels = 4;
	stage.root = 0x30000;
	tablebuf_put(&b, 0x30008, 0x1c000 | TABLE);
	expect_ok(&b, &stage, 0xfff000000abc, R, 0x2000abc, 25, R | X);
}

static void widths_by_default(void **state)
{
	struct snest_stage stage = s2;
	struct tablebuf b;

	(void)state;
	tables(&b, AF | S2R);
	stage.ia_bits = 0;
	stage.levels = 4;
	expect_ok(&b, &stage, VA, R, 0x98765abc, 12, R | X);
	expect_fault(&b, &stage, BIT(48), R, SNEST_FAULT_INPUT_RANGE, 3);
	stage.levels = 3;
	stage.root = 0x2000;
	expect_ok(&b, &stage, 0x40403abc, R, 0x98765abc, 12, R | X);
	expect_fault(&b, &stage, BIT(39), R, SNEST_FAULT_INPUT_RANGE, 2);
	/* What leads to the table may grant less; that is checked before it is read. */
	stage.rights = R;
	expect_ok(&b, &stage, 0x40403abc, R, 0x98765abc, 12, R);
	expect_fault(&b, &stage, 0x40403abc, X, SNEST_FAULT_EXECUTE, 2);
	stage = s1;
	stage.rights = R;
	expect_fault(&b, &stage, VA, W, SNEST_FAULT_WRITE, 3);
}

static void contiguous_is_a_hint(void **state)
{
	struct tablebuf b;

	(void)state;
	tables(&b, AF | USER | BIT(52));
	expect_ok(&b, &s1, VA, R, 0x98765abc, 12, R | W | X);
	assert_true(tablebuf_walk(&b, &s1, VA, R).attr & SNEST_ATTR_CONTIGUOUS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(s1_4k),
		cmocka_unit_test(types),
		cmocka_unit_test(block_levels_of_other_granules),
		cmocka_unit_test(s1_start_levels),
		cmocka_unit_test(s1_two_halves),
		cmocka_unit_test(output_widths),
		cmocka_unit_test(wide_addresses),
		cmocka_unit_test(s1_permissions),
		cmocka_unit_test(s1_wxn_pan_el2),
		cmocka_unit_test(s1_hierarchical),
		cmocka_unit_test(access_flag),
		cmocka_unit_test(dirty_state),
		cmocka_unit_test(s2_permissions),
		cmocka_unit_test(s2_concatenation),
		cmocka_unit_test(widths_by_default),
		cmocka_unit_test(contiguous_is_a_hint),
	};

	return cmocka_run_group_tests_name("ref_arm", tests, NULL, NULL);
}
