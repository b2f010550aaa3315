/* SPDX-License-Identifier: MIT */
/*
 * Sparse guest memory against a plain array of bytes, and its limits.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tools/sparse.h"

#define KIB 1024ull
#define GIB (1ull << 30)

static struct sn_sparse *make(uint64_t ram_bytes, uint64_t words)
{
	struct sn_sparse_limits limits = {ram_bytes, words};
	struct sn_sparse *s;

	assert_int_equal(sn_sparse_create(ram_bytes ? &limits : NULL, &s), 0);
	return s;
}

static void everything_is_zero_at_first(void **state)
{
	struct sn_sparse *s = make(0, 0);

	(void)state;
	assert_int_equal(sn_sparse_load(s, 0), 0);
	assert_int_equal(sn_sparse_add(s, 0x1000, 0x1000), 0);
	assert_int_equal(sn_sparse_load(s, 0x1008), 0);
	assert_int_equal(sn_sparse_load(s, UINT64_MAX), 0);
	sn_sparse_destroy(s);
	sn_sparse_destroy(NULL);
}

static void words_inside_and_outside(void **state)
{
	static const uint64_t words[] = {1, 0, UINT64_MAX, 0x0123456789abcdef};
	struct sn_sparse *s = make(0, 0);
	const struct sn_sparse_region *region;
	static const unsigned char bytes[] = {0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};

	(void)state;
	assert_int_equal(sn_sparse_add(s, 0x10000, 0x2000), 0);
	/* Two words in front of the region, two inside. */
	assert_int_equal(sn_sparse_words(s, 0xfff0, words, 4), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(sn_sparse_load(s, 0xfff0 + 8 * i), words[i]);
	assert_int_equal(sn_sparse_regions(s, &region), 1);
	assert_int_equal(region->first, 0x10000);
	assert_int_equal(region->last, 0x11fff);
	assert_memory_equal((char *)region->mapping + 8, bytes, 8);
	/* Back to zero. */
	assert_int_equal(sn_sparse_words(s, 0xfff0, &words[1], 1), 0);
	assert_int_equal(sn_sparse_load(s, 0xfff0), 0);
	sn_sparse_destroy(s);
}

static void top_of_the_address_space(void **state)
{
	uint64_t words[] = {5, 6};
	struct sn_sparse *s = make(0, 0);

	(void)state;
	assert_int_equal(sn_sparse_words(s, UINT64_MAX - 15, words, 2), 0);
	assert_int_equal(sn_sparse_load(s, UINT64_MAX - 7), 6);
	assert_int_equal(sn_sparse_words(s, UINT64_MAX - 7, words, 2), -EINVAL);
	assert_int_equal(sn_sparse_words(s, 4, words, 1), -EINVAL);
	assert_int_equal(sn_sparse_store(s, UINT64_MAX, 1, 7), 0);
	assert_int_equal(sn_sparse_load(s, UINT64_MAX - 7), 7ull << 56 | 6);
	assert_int_equal(sn_sparse_store(s, UINT64_MAX, 2, 7), -EINVAL);
	assert_int_equal(sn_sparse_store(s, 0, 0, 7), -EINVAL);
	assert_int_equal(sn_sparse_store(s, 0, 9, 7), -EINVAL);
	assert_int_equal(sn_sparse_add(s, ~0xfffull, 0x1000), -EEXIST);
	sn_sparse_destroy(s);

	s = make(0, 0);
	assert_int_equal(sn_sparse_add(s, ~0xfffull, 0x1000), 0);
	assert_int_equal(sn_sparse_store(s, UINT64_MAX - 3, 4, 0x11223344), 0);
	assert_int_equal(sn_sparse_load(s, UINT64_MAX), 0x1122334400000000);
	sn_sparse_destroy(s);
}

static void regions_that_cannot_be(void **state)
{
	struct sn_sparse *s = make(0, 0);
	uint64_t one = 1;

	(void)state;
	assert_int_equal(sn_sparse_add(s, 0, 0), -EINVAL);
	assert_int_equal(sn_sparse_add(s, 0x800, 0x1000), -EINVAL);
	assert_int_equal(sn_sparse_add(s, 0, 0x1800), -EINVAL);
	assert_int_equal(sn_sparse_add(s, ~0xfffull, 0x2000), -EINVAL);
	assert_int_equal(sn_sparse_add(s, 0x10000, 0x10000), 0);
	assert_int_equal(sn_sparse_add(s, 0x1f000, 0x1000), -EEXIST);
	assert_int_equal(sn_sparse_add(s, 0x0, 0x11000), -EEXIST);
	assert_int_equal(sn_sparse_add(s, 0x0, 1 * GIB), -EEXIST);
	assert_int_equal(sn_sparse_add(s, 0x12000, 0x1000), -EEXIST);
	/* A word that is there already would change its place. */
	assert_int_equal(sn_sparse_words(s, 0x40010, &one, 1), 0);
	assert_int_equal(sn_sparse_add(s, 0x40000, 0x1000), -EEXIST);
	/* Larger than any address space. */
	assert_int_equal(sn_sparse_add(s, 1ull << 62, 1ull << 62), -ENOMEM);
	for (unsigned i = 1; i < SN_SPARSE_REGIONS_MAX; i++)
		assert_int_equal(sn_sparse_add(s, i * GIB, 0x1000), 0);
	assert_int_equal(sn_sparse_add(s, 100 * GIB, 0x1000), -ENOSPC);
	sn_sparse_destroy(s);
}

static void large_regions_cost_nothing(void **state)
{
	struct sn_sparse *s = make(0, 0);
	uint64_t word = 42;

	(void)state;
	assert_int_equal(sn_sparse_add(s, 0, 1024 * GIB), 0);
	assert_int_equal(sn_sparse_words(s, 1024 * GIB - 8, &word, 1), 0);
	assert_int_equal(sn_sparse_load(s, 1024 * GIB - 8), 42);
	sn_sparse_destroy(s);
}

static void limit_of_pages(void **state)
{
	struct sn_sparse *s = make(3 * 4096, 5);
	uint64_t word = 1;

	(void)state;
	assert_int_equal(sn_sparse_add(s, 0, 64 * KIB), 0);
	assert_int_equal(sn_sparse_add(s, GIB, 64 * KIB), 0);
	assert_int_equal(sn_sparse_words(s, 0x0, &word, 1), 0);
	assert_int_equal(sn_sparse_words(s, 0x1ff8, &word, 1), 0);
	assert_int_equal(sn_sparse_words(s, GIB, &word, 1), 0);
	assert_int_equal(sn_sparse_words(s, 0x2000, &word, 1), -ENOSPC);
	assert_int_equal(sn_sparse_load(s, 0x2000), 0);
	/* Pages that count already may be written again. */
	assert_int_equal(sn_sparse_words(s, 0x1000, &word, 1), 0);
	assert_int_equal(sn_sparse_store(s, 0x2000, 4, 1), -ENOSPC);
	sn_sparse_destroy(s);
}

static void limit_of_words(void **state)
{
	struct sn_sparse *s = make(4096, 1000);
	uint64_t word = 1, zero = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(sn_sparse_words(s, (uint64_t)i << 40, &word, 1), 0);
	assert_int_equal(sn_sparse_words(s, 8, &word, 1), -ENOSPC);
	assert_int_equal(sn_sparse_words(s, 8, &zero, 1), 0);
	assert_int_equal(sn_sparse_words(s, 1ull << 40, &word, 1), 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(sn_sparse_load(s, (uint64_t)i << 40), 1);
	sn_sparse_destroy(s);
}

/* Random stores of any size at any place, against an array of bytes. */
static void stores_against_a_model(void **state)
{
	static unsigned char model[4 * 4096];
	struct sn_sparse *s = make(0, 0);
	uint64_t x = 0x2545f4914f6cdd1d;

	(void)state;
	memset(model, 0, sizeof(model));
	/* The second and third of four pages are RAM. */
	assert_int_equal(sn_sparse_add(s, GIB + 4096, 8192), 0);
	for (unsigned i = 0; i < 50000; i++) {
		unsigned at, n;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		n = 1 + (unsigned)(x & 7);
		at = (unsigned)(x >> 8) % (unsigned)(sizeof(model) - n);
		/* Often at the borders of the region. */
		if ((x >> 32 & 3) == 0)
			at = (x >> 40 & 1 ? 4096 : 3 * 4096) - 8 + (unsigned)(x >> 50) % 9;
		assert_int_equal(sn_sparse_store(s, GIB + at, n, x * 77), 0);
		for (unsigned b = 0; b < n; b++)
			model[at + b] = (unsigned char)(x * 77 >> 8 * b);
	}
	for (unsigned at = 0; at < sizeof(model); at += 8) {
		uint64_t word = 0;

		for (unsigned b = 8; b--;)
			word = word << 8 | model[at + b];
		assert_int_equal(sn_sparse_load(s, GIB + at), word);
	}
	sn_sparse_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_zero_at_first),
		cmocka_unit_test(words_inside_and_outside),
		cmocka_unit_test(top_of_the_address_space),
		cmocka_unit_test(regions_that_cannot_be),
		cmocka_unit_test(large_regions_cost_nothing),
		cmocka_unit_test(limit_of_pages),
		cmocka_unit_test(limit_of_words),
		cmocka_unit_test(stores_against_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
