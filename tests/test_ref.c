/* SPDX-License-Identifier: MIT */
/*
 * The reference walker against hand-made tables: x86-64 (VT-d first stage, AMD
 * v2) and VT-d second stage. Every expected value was worked out from the
 * manuals' rules by hand. Nothing of the library is involved.
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

/* Index 1, 1, 2, 3 at the levels from 4 down, then the offset. */
#define VA 0x8040403abcu

static const struct snest_stage x86 = {
	.size = sizeof(struct snest_stage),
	.format = SNEST_FORMAT_X86_64,
	.levels = 4,
	.root = 0x1000,
};

/* Tables 0x1000, 0x2000, 0x3000, 0x4000 lead VA to 0x98765000; all rights. */
static void x86_tables(struct tablebuf *b)
{
	tablebuf_init(b, 0xffff);
	tablebuf_put(b, 0x1008, 0x2007);
	tablebuf_put(b, 0x2008, 0x3007);
	tablebuf_put(b, 0x3010, 0x4007);
	tablebuf_put(b, 0x4018, 0x98765007);
}

static void x86_4k(void **state)
{
	struct tablebuf b;

	(void)state;
	x86_tables(&b);
	expect_ok(&b, &x86, VA, R | W | X, 0x98765abc, 12, R | W | X);
	expect_ok(&b, &x86, VA, R | W | X | PRIV, 0x98765abc, 12, R | W | X);

	struct ref_result r = tablebuf_walk(&b, &x86, VA, R);
	assert_int_equal(r.steps, 4);
	assert_int_equal(r.step[0].entry_addr, 0x1008);
	assert_int_equal(r.step[0].level, 3);
	assert_int_equal(r.entry_addr, 0x4018);
	assert_int_equal(r.entry, 0x98765007);
	assert_int_equal(r.attr, SNEST_ATTR_USER);
	assert_int_equal(b.writes, 0);
}

static void x86_large_leaves(void **state)
{
	struct snest_stage none = x86;
	struct tablebuf b;

	(void)state;
	none.flags = SNEST_STAGE_NO_1G | SNEST_STAGE_NO_2M;
	x86_tables(&b);
	tablebuf_put(&b, 0x3010, 0x40201087); /* PAT in bit 12 is no address bit */
	expect_ok(&b, &x86, VA, R, 0x40203abc, 21, R | W | X);
	assert_int_equal(tablebuf_walk(&b, &x86, VA, R).attr, SNEST_ATTR_USER | 4);
	expect_fault(&b, &none, VA, R, SNEST_FAULT_RESERVED, 1);
	tablebuf_put(&b, 0x2008, 0x240000087);
	expect_ok(&b, &x86, VA, R, 0x240403abc, 30, R | W | X);
	expect_fault(&b, &none, VA, R, SNEST_FAULT_RESERVED, 2);
	/* PS in a PTE is PAT. */
	x86_tables(&b);
	tablebuf_put(&b, 0x4018, 0x98765087);
	expect_ok(&b, &x86, VA, R, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_walk(&b, &x86, VA, R).attr, SNEST_ATTR_USER | 4);
}

static void x86_every_reserved_bit(void **state)
{
	struct snest_stage stage = x86;
	struct tablebuf b;

	(void)state;
	stage.oa_bits = 46;
	for (unsigned bit = 46; bit <= 51; bit++) {
		for (unsigned level = 0; level < 4; level++) {
			static const uint64_t at[] = {0x4018, 0x3010, 0x2008, 0x1008};

			x86_tables(&b);
			tablebuf_put(&b, at[level], tablebuf_get(&b, at[level]) | BIT(bit));
			expect_fault(&b, &stage, VA, R, SNEST_FAULT_RESERVED, level);
		}
	}
	for (unsigned bit = 13; bit <= 20; bit++) {
		x86_tables(&b);
		tablebuf_put(&b, 0x3010, 0x87 | BIT(bit));
		expect_fault(&b, &stage, VA, R, SNEST_FAULT_RESERVED, 1);
	}
	for (unsigned bit = 13; bit <= 29; bit++) {
		x86_tables(&b);
		tablebuf_put(&b, 0x2008, 0x87 | BIT(bit));
		expect_fault(&b, &stage, VA, R, SNEST_FAULT_RESERVED, 2);
	}
	x86_tables(&b);
	tablebuf_put(&b, 0x1008, 0x2087); /* PS in a PML4E */
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_RESERVED, 3);
	stage.levels = 5;
	stage.root = 0x5000;
	tablebuf_put(&b, 0x5000, 0x1087); /* PS in a PML5E */
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_RESERVED, 4);
	stage = x86;
	stage.oa_bits = 46;
	x86_tables(&b);
	for (unsigned bit = 52; bit <= 63; bit++)
		tablebuf_put(&b, 0x4018, tablebuf_get(&b, 0x4018) | BIT(bit));
	expect_ok(&b, &stage, VA, R | X, 0x98765abc, 12, R | W | X);
}

static void x86_canonical_comes_first(void **state)
{
	struct snest_stage five = x86;
	struct tablebuf b;

	(void)state;
	five.levels = 5;
	tablebuf_init(&b, 0); /* not even a root table */
	expect_fault(&b, &x86, BIT(47), R, SNEST_FAULT_NON_CANONICAL, 3);
	expect_fault(&b, &x86, BIT(63), R, SNEST_FAULT_NON_CANONICAL, 3);
	expect_fault(&b, &x86, ~BIT(47), R, SNEST_FAULT_NON_CANONICAL, 3);
	expect_fault(&b, &x86, BIT(47) - 1, R, SNEST_FAULT_TABLE_ACCESS, 3);
	expect_fault(&b, &x86, -BIT(47), R, SNEST_FAULT_TABLE_ACCESS, 3);
	expect_fault(&b, &five, BIT(47), R, SNEST_FAULT_TABLE_ACCESS, 4);
	expect_fault(&b, &five, BIT(56), R, SNEST_FAULT_NON_CANONICAL, 4);
	expect_fault(&b, &five, -BIT(56), R, SNEST_FAULT_TABLE_ACCESS, 4);
	assert_int_equal(tablebuf_walk(&b, &x86, -BIT(47), R).entry_addr, 0x1800);
	assert_int_equal(tablebuf_walk(&b, &five, -BIT(56), R).entry_addr, 0x1800);
}

static void x86_order_of_checks(void **state)
{
	struct snest_stage stage = x86;
	struct tablebuf b;

	(void)state;
	stage.flags = SNEST_STAGE_X86_NX;
	x86_tables(&b);
	/* U/S = R/W = 0, reserved, XD: one after the other, and P = 0 before all. */
	tablebuf_put(&b, 0x2008, 0x3080 | BIT(63) | BIT(51));
	stage.oa_bits = 46;
	expect_fault(&b, &stage, VA, W | X, SNEST_FAULT_NOT_PRESENT, 2);
	tablebuf_put(&b, 0x2008, 0x3081 | BIT(63) | BIT(51));
	expect_fault(&b, &stage, VA, W | X, SNEST_FAULT_PRIVILEGE, 2);
	tablebuf_put(&b, 0x2008, 0x3085 | BIT(63) | BIT(51));
	expect_fault(&b, &stage, VA, W | X, SNEST_FAULT_WRITE, 2);
	expect_fault(&b, &stage, VA, X, SNEST_FAULT_RESERVED, 2);
	expect_fault(&b, &stage, VA, W | PRIV, SNEST_FAULT_RESERVED, 2); /* WPE = 0 */
	tablebuf_put(&b, 0x2008, 0x3005 | BIT(63));
	expect_fault(&b, &stage, VA, X, SNEST_FAULT_EXECUTE, 2);
	expect_ok(&b, &stage, VA, R, 0x98765abc, 12, R);
}

static void x86_rights_by_privilege(void **state)
{
	struct snest_stage stage = x86;
	struct tablebuf b;

	(void)state;
	x86_tables(&b);
	tablebuf_put(&b, 0x3010, 0x4003 | BIT(63)); /* supervisor, writable, XD */
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_PRIVILEGE, 1);
	expect_ok(&b, &stage, VA, 0, 0x98765abc, 12, 0);
	expect_ok(&b, &stage, VA, X | PRIV, 0x98765abc, 12, R | W | X); /* bit 63 ignored */
	stage.flags = SNEST_STAGE_X86_NX;
	expect_fault(&b, &stage, VA, X | PRIV, SNEST_FAULT_EXECUTE, 1);

	tablebuf_put(&b, 0x3010, 0x4005); /* user, read-only */
	expect_ok(&b, &stage, VA, W | PRIV, 0x98765abc, 12, R | W | X);
	stage.flags = SNEST_STAGE_X86_WP | SNEST_STAGE_X86_SMEP;
	expect_fault(&b, &stage, VA, W | PRIV, SNEST_FAULT_WRITE, 1);
	expect_fault(&b, &stage, VA, X | PRIV, SNEST_FAULT_PRIVILEGE, 0);
	expect_ok(&b, &stage, VA, R | PRIV, 0x98765abc, 12, R);
	expect_ok(&b, &stage, VA, X, 0x98765abc, 12, R | X);
	stage.rights = R;
	expect_fault(&b, &stage, VA, X, SNEST_FAULT_EXECUTE, 3);
	expect_ok(&b, &stage, VA, R, 0x98765abc, 12, R);
}

static void x86_accessed_and_dirty(void **state)
{
	struct snest_stage stage = x86;
	struct tablebuf b;

	(void)state;
	x86_tables(&b);
	stage.flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	expect_ok(&b, &stage, VA, 0, 0x98765abc, 12, R | W | X);
	assert_int_equal(b.writes, 0);
	assert_true(tablebuf_walk(&b, &stage, VA, R).attr & SNEST_ATTR_DIRTIABLE);
	assert_int_equal(b.writes, 4);
	assert_int_equal(tablebuf_get(&b, 0x1008), 0x2027);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765027);
	/* A write after a read still has to set D, in the leaf only. */
	b.read_only = true;
	expect_ok(&b, &stage, VA, R, 0x98765abc, 12, R | W | X);
	expect_fault(&b, &stage, VA, W, SNEST_FAULT_UPDATE, 0);
	b.read_only = false;
	assert_int_equal(tablebuf_walk(&b, &stage, VA, W).leaf, 0x98765067);
	assert_int_equal(tablebuf_get(&b, 0x3010), 0x4027);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765067);
	assert_int_equal(b.writes, 5);

	stage.flags |= SNEST_STAGE_X86_EAF;
	expect_ok(&b, &stage, VA, R, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_get(&b, 0x2008), 0x3427);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765467);
}

static void x86_self_reference(void **state)
{
	struct snest_stage stage = x86;
	struct tablebuf b;

	(void)state;
	stage.levels = 5;
	tablebuf_init(&b, 0xffff);
	tablebuf_put(&b, 0x1ff8, 0x1007);
	expect_ok(&b, &stage, UINT64_MAX, R, 0x1fff, 12, R | W | X);
	expect_fault(&b, &stage, UINT64_MAX - 0x1000, R, SNEST_FAULT_NOT_PRESENT, 0);
	assert_int_equal(tablebuf_walk(&b, &stage, UINT64_MAX, R).steps, 5);
}

static void x86_tables_outside_memory(void **state)
{
	struct tablebuf b;

	(void)state;
	x86_tables(&b);
	tablebuf_put(&b, 0x2008, 0x000ffffffffff007);
	expect_fault(&b, &x86, VA, R, SNEST_FAULT_TABLE_ACCESS, 1);
	struct ref_result r = tablebuf_walk(&b, &x86, VA, R);
	assert_int_equal(r.entry_addr, 0x000ffffffffff010);
	assert_int_equal(r.entry, 0);
}

static void x86_attributes(void **state)
{
	struct tablebuf b;

	(void)state;
	x86_tables(&b);
	tablebuf_put(&b, 0x4018, 0x9876500f);
	assert_int_equal(tablebuf_walk(&b, &x86, VA, R).attr, SNEST_ATTR_USER | 1); /* PWT */
	tablebuf_put(&b, 0x4018, 0x98765017);
	assert_int_equal(tablebuf_walk(&b, &x86, VA, R).attr, SNEST_ATTR_USER | 2); /* PCD */
	tablebuf_put(&b, 0x4018, 0x98765027);
	assert_int_equal(tablebuf_walk(&b, &x86, VA, R).attr,
	                 SNEST_ATTR_USER | SNEST_ATTR_ACCESSED);
	tablebuf_put(&b, 0x4018, 0x98765047);
	assert_int_equal(tablebuf_walk(&b, &x86, VA, R).attr, SNEST_ATTR_USER | SNEST_ATTR_DIRTY);
	tablebuf_put(&b, 0x4018, 0x98765107);
	assert_int_equal(tablebuf_walk(&b, &x86, VA, R).attr, SNEST_ATTR_USER | SNEST_ATTR_GLOBAL);
	assert_int_equal(tablebuf_walk(&b, &x86, VA, R).level, 0);
	/* Upper entries contribute none, and ignore what is not reserved. */
	for (unsigned bit = 52; bit <= 63; bit++) {
		tablebuf_put(&b, 0x1008, 0x2f7f | BIT(bit));
		expect_ok(&b, &x86, VA, R, 0x98765abc, 12, R | W | X);
	}
}

static void amd_v2_is_x86(void **state)
{
	struct snest_stage stage = x86;
	struct tablebuf b;

	(void)state;
	stage.format = SNEST_FORMAT_AMD_V2;
	stage.flags = SNEST_STAGE_X86_NX;
	x86_tables(&b);
	tablebuf_put(&b, 0x4018, 0x98765005 | BIT(63));
	expect_ok(&b, &stage, VA, R, 0x98765abc, 12, R);
	expect_fault(&b, &stage, VA, X, SNEST_FAULT_EXECUTE, 0);
	expect_fault(&b, &stage, VA, W, SNEST_FAULT_WRITE, 0);
}

/* ---- VT-d second stage ------------------------------------------------ */

static const struct snest_stage vtd = {
	.size = sizeof(struct snest_stage),
	.format = SNEST_FORMAT_VTD_SS,
	.levels = 4,
	.root = 0x1000,
};

static void vtd_tables(struct tablebuf *b)
{
	tablebuf_init(b, 0xffff);
	tablebuf_put(b, 0x1008, 0x2003);
	tablebuf_put(b, 0x2008, 0x3003);
	tablebuf_put(b, 0x3010, 0x4003);
	tablebuf_put(b, 0x4018, 0x98765003);
}

static void vtd_levels_and_widths(void **state)
{
	struct snest_stage stage = vtd;
	struct tablebuf b;

	(void)state;
	vtd_tables(&b);
	expect_ok(&b, &stage, VA, R | W | X, 0x98765abc, 12, R | W | X);
	expect_fault(&b, &stage, BIT(48), R, SNEST_FAULT_INPUT_RANGE, 3);
	stage.ia_bits = 39; /* MGAW below what the levels give */
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_INPUT_RANGE, 3);
	stage = vtd;
	stage.levels = 3;
	stage.root = 0x2000;
	expect_ok(&b, &stage, 0x40403abc, R, 0x98765abc, 12, R | W | X);
	expect_fault(&b, &stage, BIT(39), R, SNEST_FAULT_INPUT_RANGE, 2);
	stage.levels = 5;
	stage.root = 0x5000;
	tablebuf_put(&b, 0x5ff8, 0x1003);
	expect_ok(&b, &stage, 0x1ff000000000000 | VA, R, 0x98765abc, 12, R | W | X);
	expect_fault(&b, &stage, BIT(57), R, SNEST_FAULT_INPUT_RANGE, 4);
}

static void vtd_present_is_r_or_w(void **state)
{
	struct tablebuf b;

	(void)state;
	vtd_tables(&b);
	tablebuf_put(&b, 0x4018, 0x98765002); /* write-only is legal */
	expect_ok(&b, &vtd, VA, W, 0x98765abc, 12, W);
	expect_fault(&b, &vtd, VA, R, SNEST_FAULT_READ, 0);
	expect_fault(&b, &vtd, VA, R | W, SNEST_FAULT_READ, 0);
	expect_fault(&b, &vtd, VA, X, SNEST_FAULT_READ, 0); /* execution is a read */
	/* Without R and W nothing else counts, not even reserved bits. */
	tablebuf_put(&b, 0x4018, 0x98765004 | BIT(62) | BIT(11));
	expect_fault(&b, &vtd, VA, R, SNEST_FAULT_NOT_PRESENT, 0);
}

static void vtd_rights_before_reserved(void **state)
{
	struct tablebuf b;

	(void)state;
	vtd_tables(&b);
	tablebuf_put(&b, 0x2008, 0x3001 | BIT(11));
	expect_fault(&b, &vtd, VA, W, SNEST_FAULT_WRITE, 2);
	expect_fault(&b, &vtd, VA, R, SNEST_FAULT_RESERVED, 2);
	tablebuf_put(&b, 0x2008, 0x3001);
	expect_ok(&b, &vtd, VA, R, 0x98765abc, 12, R | X);
	/* A right that an upper entry took away does not come back. */
	tablebuf_put(&b, 0x3010, 0x4002);
	expect_fault(&b, &vtd, VA, W, SNEST_FAULT_WRITE, 2);
	expect_fault(&b, &vtd, VA, R, SNEST_FAULT_READ, 1);
	expect_ok(&b, &vtd, VA, 0, 0x98765abc, 12, 0);
}

static void vtd_reserved_bits(void **state)
{
	static const uint64_t at[] = {0x4018, 0x3010, 0x2008, 0x1008};
	struct snest_stage legal = vtd;
	struct snest_stage narrow = vtd;
	struct tablebuf b;

	(void)state;
	legal.flags = SNEST_STAGE_VTD_SNOOP | SNEST_STAGE_VTD_TM;
	narrow.oa_bits = 39;
	for (unsigned level = 0; level < 4; level++) {
		uint64_t entry;

		vtd_tables(&b);
		entry = tablebuf_get(&b, at[level]);
		tablebuf_put(&b, at[level], entry | BIT(39));
		expect_fault(&b, &narrow, VA, R, SNEST_FAULT_RESERVED, level);
		for (unsigned i = 0; i < 2; i++) {
			tablebuf_put(&b, at[level], entry | BIT(i ? 62 : 11));
			expect_fault(&b, &vtd, VA, R, SNEST_FAULT_RESERVED, level);
			if (level == 0)
				expect_ok(&b, &legal, VA, R, 0x98765abc, 12, R | W | X);
			else
				expect_fault(&b, &legal, VA, R, SNEST_FAULT_RESERVED, level);
		}
		/* Ignored everywhere. */
		tablebuf_put(&b, at[level], entry | 0xbff0000000000000 | BIT(10) | BIT(2));
		expect_ok(&b, &vtd, VA, R, 0x98765abc, 12, R | W | X);
	}
}

static void vtd_large_leaves(void **state)
{
	struct snest_stage none = vtd;
	struct tablebuf b;

	(void)state;
	none.flags = SNEST_STAGE_NO_1G | SNEST_STAGE_NO_2M;
	vtd_tables(&b);
	tablebuf_put(&b, 0x4018, 0x98765083); /* ignored in the last level */
	expect_ok(&b, &vtd, VA, R, 0x98765abc, 12, R | W | X);
	tablebuf_put(&b, 0x3010, 0x402000bb);
	expect_ok(&b, &vtd, VA, R, 0x40203abc, 21, R | W | X);
	assert_int_equal(tablebuf_walk(&b, &vtd, VA, R).attr, 7); /* EMT */
	expect_fault(&b, &none, VA, R, SNEST_FAULT_RESERVED, 1);
	tablebuf_put(&b, 0x3010, 0x40201083); /* bit 12 is no PAT here */
	expect_fault(&b, &vtd, VA, R, SNEST_FAULT_RESERVED, 1);
	tablebuf_put(&b, 0x2008, 0x40000083);
	expect_ok(&b, &vtd, VA, R, 0x40403abc, 30, R | W | X);
	expect_fault(&b, &none, VA, R, SNEST_FAULT_RESERVED, 2);
	tablebuf_put(&b, 0x2008, 0x60000083);
	expect_fault(&b, &vtd, VA, R, SNEST_FAULT_RESERVED, 2);
	tablebuf_put(&b, 0x1008, 0x2083);
	expect_fault(&b, &vtd, VA, R, SNEST_FAULT_RESERVED, 3);
	none = vtd;
	none.levels = 5;
	none.root = 0x5000;
	tablebuf_put(&b, 0x5000, 0x1083);
	expect_fault(&b, &none, VA, R, SNEST_FAULT_RESERVED, 4);
}

static void vtd_accessed_and_dirty(void **state)
{
	struct snest_stage stage = vtd;
	struct tablebuf b;

	(void)state;
	stage.flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	vtd_tables(&b);
	expect_ok(&b, &stage, VA, W, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_get(&b, 0x1008), 0x2103);
	assert_int_equal(tablebuf_get(&b, 0x3010), 0x4103);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765303);

	stage.flags = SNEST_STAGE_HW_A;
	vtd_tables(&b);
	expect_ok(&b, &stage, VA, W, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_get(&b, 0x4018), 0x98765103);
	stage.flags = 0;
	vtd_tables(&b);
	expect_ok(&b, &stage, VA, W, 0x98765abc, 12, R | W | X);
	assert_int_equal(b.writes, 0);
}

static void vtd_attributes(void **state)
{
	struct snest_stage stage = vtd;
	struct tablebuf b;

	(void)state;
	stage.flags = SNEST_STAGE_VTD_SNOOP;
	vtd_tables(&b);
	struct ref_result r = tablebuf_walk(&b, &stage, VA, R);
	assert_int_equal(r.attr, 0);
	assert_int_equal(r.level, 0);
	assert_int_equal(r.entry_addr, 0x4018);
	tablebuf_put(&b, 0x4018, 0x98765043); /* IPAT is not part of the type */
	assert_int_equal(tablebuf_walk(&b, &stage, VA, R).attr, 0);
	tablebuf_put(&b, 0x4018, 0x98765103);
	assert_int_equal(tablebuf_walk(&b, &stage, VA, R).attr, SNEST_ATTR_ACCESSED);
	tablebuf_put(&b, 0x4018, 0x98765203);
	assert_int_equal(tablebuf_walk(&b, &stage, VA, R).attr, SNEST_ATTR_DIRTY);
	tablebuf_put(&b, 0x4018, 0x98765803);
	assert_int_equal(tablebuf_walk(&b, &stage, VA, R).attr, SNEST_ATTR_SNOOP);
	stage.flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	tablebuf_put(&b, 0x4018, 0x98765003);
	assert_int_equal(tablebuf_walk(&b, &stage, VA, 0).attr, SNEST_ATTR_DIRTIABLE);
	/* What leads to the table may grant less; that is checked before it is read. */
	stage.rights = R;
	expect_fault(&b, &stage, VA, W, SNEST_FAULT_WRITE, 3);
	tablebuf_init(&b, 0);
	expect_fault(&b, &stage, VA, W, SNEST_FAULT_WRITE, 3);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_TABLE_ACCESS, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(x86_4k),
		cmocka_unit_test(x86_large_leaves),
		cmocka_unit_test(x86_every_reserved_bit),
		cmocka_unit_test(x86_canonical_comes_first),
		cmocka_unit_test(x86_order_of_checks),
		cmocka_unit_test(x86_rights_by_privilege),
		cmocka_unit_test(x86_accessed_and_dirty),
		cmocka_unit_test(x86_attributes),
		cmocka_unit_test(x86_self_reference),
		cmocka_unit_test(x86_tables_outside_memory),
		cmocka_unit_test(amd_v2_is_x86),
		cmocka_unit_test(vtd_levels_and_widths),
		cmocka_unit_test(vtd_present_is_r_or_w),
		cmocka_unit_test(vtd_rights_before_reserved),
		cmocka_unit_test(vtd_reserved_bits),
		cmocka_unit_test(vtd_large_leaves),
		cmocka_unit_test(vtd_accessed_and_dirty),
		cmocka_unit_test(vtd_attributes),
	};

	return cmocka_run_group_tests_name("ref", tests, NULL, NULL);
}
