/* SPDX-License-Identifier: MIT */
/*
 * The reference walker against hand-made RISC-V tables: Sv32 to Sv57, their x4
 * forms, Svnapot, Svpbmt, and the accessed and dirty rules. Every expected
 * value was worked out from the manual's rules by hand. Nothing of the library
 * is involved.
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

/* V R W X U A D of an entry, and its PPN from an address. */
#define V 0x01u
#define RWX 0x0eu
#define U 0x10u
#define G 0x20u
#define A 0x40u
#define D 0x80u
#define LEAF (V | RWX | U | A | D)
#define TO(addr) ((uint64_t)(addr) >> 2)

/* Index 1, 2, 3 at the levels from 2 down, then the offset. */
#define VA 0x40403abcu

static const struct snest_stage sv39 = {
	.size = sizeof(struct snest_stage),
	.format = SNEST_FORMAT_RISCV64,
	.levels = 3,
	.root = 0x4000,
};

/* Tables 0x4000, 0x2000, 0x3000 lead VA to 0x98765000. */
static void tables(struct tablebuf *b)
{
	tablebuf_init(b, 0x1ffff);
	tablebuf_put(b, 0x4008, TO(0x2000) | V);
	tablebuf_put(b, 0x2010, TO(0x3000) | V);
	tablebuf_put(b, 0x3018, TO(0x98765000) | LEAF);
}

static struct snest_stage with(struct snest_stage stage, uint32_t flags)
{
	stage.flags = flags;
	return stage;
}

static void sv39_4k(void **state)
{
	struct tablebuf b;

	(void)state;
	tables(&b);
	expect_ok(&b, &sv39, VA, R | W | X, 0x98765abc, 12, R | W | X);
	struct ref_result r = tablebuf_walk(&b, &sv39, VA, R);
	assert_int_equal(r.steps, 3);
	assert_int_equal(r.level, 0);
	assert_int_equal(r.entry_addr, 0x3018);
	assert_int_equal(r.attr, SNEST_ATTR_USER | SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY);
}

static void every_width_is_sign_extended(void **state)
{
	struct snest_stage stage = sv39;
	struct tablebuf b;

	(void)state;
	tablebuf_init(&b, 0);
	for (unsigned levels = 3; levels <= 5; levels++) {
		unsigned width = 12 + 9 * levels;

		stage.levels = (uint8_t)levels;
		expect_fault(&b, &stage, BIT(width - 1), R, SNEST_FAULT_NON_CANONICAL, levels - 1);
		expect_fault(&b, &stage, BIT(63), R, SNEST_FAULT_NON_CANONICAL, levels - 1);
		expect_fault(&b, &stage, -BIT(width - 1), R, SNEST_FAULT_TABLE_ACCESS, levels - 1);
		assert_int_equal(tablebuf_walk(&b, &stage, -BIT(width - 1), R).entry_addr, 0x4800);
	}
}

static void leaves_at_every_level(void **state)
{
	struct snest_stage stage = sv39;
	struct tablebuf b;

	(void)state;
	tables(&b);
	tablebuf_put(&b, 0x2010, TO(0x80200000) | LEAF);
	expect_ok(&b, &stage, VA, R, 0x80203abc, 21, R | W | X);
	tablebuf_put(&b, 0x2010, TO(0x80201000) | LEAF);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_LEVEL, 1);
	tablebuf_put(&b, 0x4008, TO(0x80000000) | LEAF);
	expect_ok(&b, &stage, VA, R, 0x80403abc, 30, R | W | X);
	tablebuf_put(&b, 0x4008, TO(0xa0000000) | LEAF);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_LEVEL, 2);
	stage.levels = 5;
	tablebuf_put(&b, 0x4000, TO(0) | LEAF);
	expect_ok(&b, &stage, VA, R, VA, 48, R | W | X);
	tablebuf_put(&b, 0x4000, TO(BIT(47)) | LEAF);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_LEVEL, 4);
}

static void invalid_encodings(void **state)
{
	struct tablebuf b;

	(void)state;
	tables(&b);
	tablebuf_put(&b, 0x3018, ~BIT(0));
	expect_fault(&b, &sv39, VA, R, SNEST_FAULT_NOT_PRESENT, 0);
	/* W without R is reserved, with X too. */
	tablebuf_put(&b, 0x3018, TO(0x98765000) | V | 0x4 | U | A | D);
	expect_fault(&b, &sv39, VA, W, SNEST_FAULT_NOT_PRESENT, 0);
	tablebuf_put(&b, 0x3018, TO(0x98765000) | V | 0xc | U | A | D);
	expect_fault(&b, &sv39, VA, W, SNEST_FAULT_NOT_PRESENT, 0);
	/* A pointer where no level follows. */
	tablebuf_put(&b, 0x3018, TO(0x3000) | V);
	expect_fault(&b, &sv39, VA, R, SNEST_FAULT_LEVEL, 0);
}

static void reserved_bits_of_a_leaf(void **state)
{
	struct snest_stage rsw = with(sv39, SNEST_STAGE_RISCV_SVRSW60T59B);
	struct snest_stage pbmt = with(sv39, SNEST_STAGE_RISCV_SVPBMT);
	struct tablebuf b;

	(void)state;
	tables(&b);
	for (unsigned bit = 54; bit <= 63; bit++) {
		tablebuf_put(&b, 0x3018, TO(0x98765000) | LEAF | BIT(bit));
		expect_fault(&b, &sv39, VA, R, SNEST_FAULT_RESERVED, 0);
		if (bit == 59 || bit == 60)
			expect_ok(&b, &rsw, VA, R, 0x98765abc, 12, R | W | X);
		else
			expect_fault(&b, &rsw, VA, R, SNEST_FAULT_RESERVED, 0);
		if (bit == 61 || bit == 62) {
			expect_ok(&b, &pbmt, VA, R, 0x98765abc, 12, R | W | X);
			assert_int_equal(tablebuf_walk(&b, &pbmt, VA, R).attr &
			                         SNEST_ATTR_MEMORY_TYPE,
			                 bit - 60);
		} else {
			expect_fault(&b, &pbmt, VA, R, SNEST_FAULT_RESERVED, 0);
		}
	}
	tablebuf_put(&b, 0x3018, TO(0x98765000) | LEAF | BIT(61) | BIT(62));
	expect_fault(&b, &pbmt, VA, R, SNEST_FAULT_RESERVED, 0);
}

static void reserved_bits_of_a_pointer(void **state)
{
	struct snest_stage all = with(sv39, SNEST_STAGE_RISCV_SVPBMT | SNEST_STAGE_RISCV_SVNAPOT |
	                                            SNEST_STAGE_RISCV_SVRSW60T59B);
	static const unsigned bad[] = {4, 6, 7, 54, 58, 61, 62, 63};
	static const unsigned good[] = {5, 8, 9, 59, 60};
	struct tablebuf b;

	(void)state;
	tables(&b);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		tablebuf_put(&b, 0x2010, TO(0x3000) | V | BIT(bad[i]));
		expect_fault(&b, &all, VA, R, SNEST_FAULT_RESERVED, 1);
	}
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		tablebuf_put(&b, 0x2010, TO(0x3000) | V | BIT(good[i]));
		expect_ok(&b, &all, VA, R, 0x98765abc, 12, R | W | X);
	}
}

static void napot(void **state)
{
	struct snest_stage stage = with(sv39, SNEST_STAGE_RISCV_SVNAPOT);
	struct tablebuf b;

	(void)state;
	tables(&b);
	/* PPN[3:0] = 8 is the code, not part of the address. */
	tablebuf_put(&b, 0x3018, TO(0x98768000) | LEAF | BIT(63));
	expect_ok(&b, &stage, VA, R, 0x98763abc, 16, R | W | X);
	assert_true(tablebuf_walk(&b, &stage, VA, R).attr & SNEST_ATTR_CONTIGUOUS);
	for (unsigned low = 0; low < 16; low++) {
		if (low == 8)
			continue;
		tablebuf_put(&b, 0x3018, TO(0x98760000 | low << 12) | LEAF | BIT(63));
		expect_fault(&b, &stage, VA, R, SNEST_FAULT_RESERVED, 0);
	}
	tablebuf_put(&b, 0x2010, TO(0x80200000) | LEAF | BIT(63));
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_RESERVED, 1);
	/* Misaligned and N: misalignment first. */
	tablebuf_put(&b, 0x2010, TO(0x80208000) | LEAF | BIT(63));
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_LEVEL, 1);
}

static void user_and_supervisor(void **state)
{
	struct snest_stage sum = with(sv39, SNEST_STAGE_RISCV_SUM);
	struct tablebuf b;

	(void)state;
	tables(&b);
	expect_fault(&b, &sv39, VA, R | PRIV, SNEST_FAULT_PRIVILEGE, 0);
	expect_ok(&b, &sum, VA, R | W | PRIV, 0x98765abc, 12, R | W);
	expect_fault(&b, &sum, VA, X | PRIV, SNEST_FAULT_PRIVILEGE, 0);
	tablebuf_put(&b, 0x3018, TO(0x98765000) | (LEAF & ~U));
	expect_fault(&b, &sv39, VA, R, SNEST_FAULT_PRIVILEGE, 0);
	expect_ok(&b, &sv39, VA, 0, 0x98765abc, 12, 0);
	expect_ok(&b, &sv39, VA, R | W | X | PRIV, 0x98765abc, 12, R | W | X);
}

static void rights(void **state)
{
	struct tablebuf b;

	(void)state;
	tables(&b);
	tablebuf_put(&b, 0x3018, TO(0x98765000) | V | 0x8 | U | A | D);
	expect_ok(&b, &sv39, VA, X, 0x98765abc, 12, X);
	expect_fault(&b, &sv39, VA, R | W | X, SNEST_FAULT_READ, 0); /* no MXR */
	tablebuf_put(&b, 0x3018, TO(0x98765000) | V | 0x2 | U | A | D);
	expect_fault(&b, &sv39, VA, W | X, SNEST_FAULT_WRITE, 0);
	expect_fault(&b, &sv39, VA, X, SNEST_FAULT_EXECUTE, 0);
	/* Rights come before the accessed flag. */
	tablebuf_put(&b, 0x3018, TO(0x98765000) | V | 0x2 | U);
	expect_fault(&b, &sv39, VA, W, SNEST_FAULT_WRITE, 0);
	expect_fault(&b, &sv39, VA, R, SNEST_FAULT_ACCESS_FLAG, 0);
}

static void accessed_and_dirty(void **state)
{
	struct snest_stage hw = with(sv39, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	struct tablebuf b;

	(void)state;
	tables(&b);
	tablebuf_put(&b, 0x3018, TO(0x98765000) | V | RWX | U | A);
	/* Not writable before somebody sets the dirty flag. */
	expect_ok(&b, &sv39, VA, R, 0x98765abc, 12, R | X);
	expect_fault(&b, &sv39, VA, W, SNEST_FAULT_DIRTY_FLAG, 0);
	tablebuf_put(&b, 0x3018, TO(0x98765000) | V | RWX | U | D);
	expect_fault(&b, &sv39, VA, R, SNEST_FAULT_ACCESS_FLAG, 0);

	tablebuf_put(&b, 0x3018, TO(0x98765000) | V | RWX | U);
	b.read_only = true;
	expect_fault(&b, &hw, VA, R, SNEST_FAULT_UPDATE, 0);
	expect_ok(&b, &hw, VA, 0, 0x98765abc, 12, R | W | X);
	b.read_only = false;
	expect_ok(&b, &hw, VA, R, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_get(&b, 0x3018), TO(0x98765000) | V | RWX | U | A);
	assert_true(tablebuf_walk(&b, &hw, VA, R).attr & SNEST_ATTR_DIRTIABLE);
	expect_ok(&b, &hw, VA, W, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_get(&b, 0x3018), TO(0x98765000) | LEAF);
	assert_int_equal(b.writes, 2);
	/* Only the leaf has flags. */
	assert_int_equal(tablebuf_get(&b, 0x4008), TO(0x2000) | V);
}

static void second_stage(void **state)
{
	struct snest_stage stage = with(sv39, SNEST_STAGE_RISCV_X4);
	struct tablebuf b;

	(void)state;
	tables(&b);
	/* Upper bits are 0, the root index has 11 bits. */
	expect_fault(&b, &stage, BIT(41), R, SNEST_FAULT_INPUT_RANGE, 2);
	expect_fault(&b, &stage, UINT64_MAX, R, SNEST_FAULT_INPUT_RANGE, 2);
	tablebuf_put(&b, 0x7ff8, TO(0x2000) | V);
	expect_ok(&b, &stage, 0x1ffc0403abc, R, 0x98765abc, 12, R | W | X);
	/* U must be 1, whoever asks; privilege and G mean nothing. */
	tablebuf_put(&b, 0x3018, TO(0x98765000) | LEAF | G);
	expect_ok(&b, &stage, VA, R | X | PRIV, 0x98765abc, 12, R | W | X);
	assert_false(tablebuf_walk(&b, &stage, VA, R).attr & SNEST_ATTR_GLOBAL);
	assert_true(tablebuf_walk(&b, &sv39, VA, R).attr & SNEST_ATTR_GLOBAL);
	tablebuf_put(&b, 0x3018, TO(0x98765000) | (LEAF & ~U));
	expect_fault(&b, &stage, VA, R | PRIV, SNEST_FAULT_PRIVILEGE, 0);
}

static void output_width(void **state)
{
	struct snest_stage stage = sv39;
	struct tablebuf b;

	(void)state;
	tables(&b);
	tablebuf_put(&b, 0x3018, TO(0x00fffffffffff000) | LEAF);
	expect_ok(&b, &stage, VA, R, 0x00fffffffffffabc, 12, R | W | X);
	stage.oa_bits = 46;
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_ADDRESS_SIZE, 0);
	tablebuf_put(&b, 0x2010, TO(0x3000 | BIT(46)) | V);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_ADDRESS_SIZE, 1);
	tablebuf_put(&b, 0x2010, TO(0x3000 | BIT(45)) | V);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_TABLE_ACCESS, 0);
	/* The accessed flag alone: a write still needs D, which nobody sets. */
	stage = with(sv39, SNEST_STAGE_HW_A);
	tables(&b);
	tablebuf_put(&b, 0x3018, TO(0x98765000) | V | RWX | U);
	expect_fault(&b, &stage, VA, W, SNEST_FAULT_DIRTY_FLAG, 0);
	assert_int_equal(b.writes, 0);
}

static void sv32(void **state)
{
	struct snest_stage stage = sv39;
	struct tablebuf b;

	(void)state;
	stage.format = SNEST_FORMAT_RISCV32;
	stage.levels = 2;
	tablebuf_init(&b, 0x1ffff);
	/* 4-byte entries: index 0x101 and 3. */
	tablebuf_put32(&b, 0x4404, TO(0x3000) | V);
	tablebuf_put32(&b, 0x300c, 0xfffffc00 | LEAF);
	expect_ok(&b, &stage, VA, R | W, 0x3fffffabc, 12, R | W | X);
	expect_fault(&b, &stage, BIT(32) | VA, R, SNEST_FAULT_INPUT_RANGE, 1);
	expect_fault(&b, &stage, 0xffffffff00000000, R, SNEST_FAULT_INPUT_RANGE, 1);
	expect_fault(&b, &stage, 0xfffff000, R, SNEST_FAULT_NOT_PRESENT, 1);
	tablebuf_put32(&b, 0x4404, TO(0x80400000) | LEAF);
	expect_ok(&b, &stage, VA, R, 0x80403abc, 22, R | W | X);
	tablebuf_put32(&b, 0x4404, TO(0x80401000) | LEAF);
	expect_fault(&b, &stage, VA, R, SNEST_FAULT_LEVEL, 1);
	/* x4: 34 bits, 12 of them index the root. */
	stage.flags = SNEST_STAGE_RISCV_X4;
	tablebuf_put32(&b, 0x7ffc, TO(0x80400000) | LEAF);
	expect_ok(&b, &stage, 0x3ffc03abc, R, 0x80403abc, 22, R | W | X);
	expect_fault(&b, &stage, BIT(34), R, SNEST_FAULT_INPUT_RANGE, 1);
	/* Only half of an 8-byte word belongs to the entry that is updated. */
	stage.flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	tablebuf_put32(&b, 0x4404, TO(0x80400000) | V | RWX | U);
	tablebuf_put32(&b, 0x4400, 0x12345678);
	expect_ok(&b, &stage, VA, W, 0x80403abc, 22, R | W | X);
	assert_int_equal(tablebuf_get(&b, 0x4400), (TO(0x80400000) | LEAF) << 32 | 0x12345678);
}

static void big_endian(void **state)
{
	struct snest_stage stage =
		with(sv39, SNEST_STAGE_BIG_ENDIAN | SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	struct tablebuf b;

	(void)state;
	tablebuf_init(&b, 0x1ffff);
	tablebuf_put(&b, 0x4008, __builtin_bswap64(TO(0x2000) | V));
	tablebuf_put(&b, 0x2010, __builtin_bswap64(TO(0x3000) | V));
	tablebuf_put(&b, 0x3018, __builtin_bswap64(TO(0x98765000) | V | RWX | U));
	expect_ok(&b, &stage, VA, R, 0x98765abc, 12, R | W | X);
	assert_int_equal(tablebuf_get(&b, 0x3018),
	                 __builtin_bswap64(TO(0x98765000) | V | RWX | U | A));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sv39_4k),
		cmocka_unit_test(every_width_is_sign_extended),
		cmocka_unit_test(leaves_at_every_level),
		cmocka_unit_test(invalid_encodings),
		cmocka_unit_test(reserved_bits_of_a_leaf),
		cmocka_unit_test(reserved_bits_of_a_pointer),
		cmocka_unit_test(napot),
		cmocka_unit_test(user_and_supervisor),
		cmocka_unit_test(rights),
		cmocka_unit_test(accessed_and_dirty),
		cmocka_unit_test(second_stage),
		cmocka_unit_test(output_width),
		cmocka_unit_test(sv32),
		cmocka_unit_test(big_endian),
	};

	return cmocka_run_group_tests_name("ref_riscv", tests, NULL, NULL);
}
