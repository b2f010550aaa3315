/* SPDX-License-Identifier: MIT */
/*
 * Structures that start with their size: every combination of an older and a
 * newer caller with this library.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/extensible.h"

struct shape {
	uint32_t size;
	uint32_t a;
	uint64_t b;
};

struct newer {
	struct shape shape;
	uint64_t c;
};

static void in_same(void **state)
{
	struct shape src = {sizeof(src), 1, 2}, dst;

	(void)state;
	assert_int_equal(SN_STRUCT_IN(&dst, &src), 0);
	assert_memory_equal(&dst, &src, sizeof(src));
}

static void in_older(void **state)
{
	struct shape src = {8, 1, 2}, dst;

	(void)state;
	memset(&dst, 0xff, sizeof(dst));
	assert_int_equal(SN_STRUCT_IN(&dst, &src), 0);
	assert_int_equal(dst.a, 1);
	assert_int_equal(dst.b, 0);
	assert_int_equal(dst.size, sizeof(dst));
}

static void in_newer(void **state)
{
	struct newer src = {{sizeof(src), 1, 2}, 0};
	struct shape dst;

	(void)state;
	assert_int_equal(SN_STRUCT_IN(&dst, &src.shape), 0);
	/* The copy must not claim the tail that it does not have. */
	assert_int_equal(dst.size, sizeof(dst));
	assert_int_equal(dst.b, 2);
}

static void in_newer_every_tail_byte(void **state)
{
	struct newer src = {{sizeof(src), 1, 2}, 0};
	struct shape dst = {0, 7, 7};

	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		src.c = (uint64_t)1 << bit;
		assert_int_equal(SN_STRUCT_IN(&dst, &src.shape), -E2BIG);
		assert_int_equal(dst.a, 7);
	}
}

static void in_garbage_size(void **state)
{
	struct shape src = {0, 1, 2}, dst = {0, 7, 7};

	(void)state;
	for (uint32_t size = 0; size < sizeof(src.size); size++) {
		src.size = size;
		assert_int_equal(SN_STRUCT_IN(&dst, &src), -EINVAL);
	}
	src.size = UINT32_MAX;
	assert_int_equal(SN_STRUCT_IN(&dst, &src), -E2BIG);
	assert_int_equal(dst.a, 7);
	assert_int_equal(sn_struct_in(&dst, sizeof(dst), &src, 0), -EINVAL);
}

static void out_older(void **state)
{
	struct shape dst = {8, 0, 7}, src = {0, 1, 2};

	(void)state;
	assert_int_equal(SN_STRUCT_OUT(&dst, &src), 0);
	assert_int_equal(dst.size, 8);
	assert_int_equal(dst.a, 1);
	assert_int_equal(dst.b, 7);
}

static void out_newer(void **state)
{
	struct newer dst = {{sizeof(dst), 0, 0}, 0};
	struct shape src = {0, 1, 2};

	(void)state;
	assert_int_equal(SN_STRUCT_OUT(&dst.shape, &src), 0);
	assert_int_equal(dst.shape.size, sizeof(dst));
	assert_int_equal(dst.shape.b, 2);
	dst.c = 1;
	assert_int_equal(SN_STRUCT_OUT(&dst.shape, &src), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_same),         cmocka_unit_test(in_older),
		cmocka_unit_test(in_newer),        cmocka_unit_test(in_newer_every_tail_byte),
		cmocka_unit_test(in_garbage_size), cmocka_unit_test(out_older),
		cmocka_unit_test(out_newer),
	};

	return cmocka_run_group_tests_name("extensible", tests, NULL, NULL);
}
