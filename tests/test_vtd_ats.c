/* SPDX-License-Identifier: MIT */
/*
 * VT-d translation requests: what is granted, with which flags set in the tables,
 * and how refusals complete.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_ats.h"

/* ---- What is granted -------------------------------------------------------------- */

static void page_is_granted_with_its_rights(void **state)
{
	struct legacy l;

	(void)state;
	ats_start(&l);
	assert_int_equal(ask(&l.g, NO, G_IOVA + 0x123, R | W, 1), SUCCESS);
	assert_int_equal(filled, 1);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, R | W, 0);
	/* No write asked for: none granted. */
	assert_int_equal(ask(&l.g, NO, G_IOVA, R, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, R, 0);
	image_put(&l.g.image, l.leaf, G_DATA | 1);
	assert_int_equal(ask(&l.g, NO, G_IOVA, R | W, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, R, 0);
	image_put(&l.g.image, l.leaf, G_DATA | 2);
	assert_int_equal(ask(&l.g, NO, G_IOVA, R | W, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, W, 0);
	assert_int_equal(ask(&l.g, NO, G_IOVA, R, 1), SUCCESS);
	expect_nothing(G_IOVA);
	assert_int_equal(recorded(&l.g), 0);
	g_destroy(&l.g);
}

static void range_stops_before_the_first_hole(void **state)
{
	struct legacy l;

	(void)state;
	ats_start(&l);
	for (unsigned i = 1; i < 5; i++)
		g_map(&l.g, l.root, G_IOVA + i * 0x1000, G_DATA + i * 0x3000, 12, i == 3 ? 1 : 3);
	assert_int_equal(ask(&l.g, NO, G_IOVA, R | W, 8), SUCCESS);
	assert_int_equal(filled, 5);
	for (unsigned i = 0; i < 5; i++)
		expect_entry(i, G_IOVA + i * 0x1000, G_IOVA + i * 0x1000 + 0xfff,
		             G_DATA + i * 0x3000, i == 3 ? R : R | W, 0);
	assert_int_equal(ask(&l.g, NO, G_IOVA, R | W, 3), SUCCESS);
	assert_int_equal(filled, 3);
	/* The hole itself. */
	assert_int_equal(ask(&l.g, NO, G_IOVA + 0x5000, R, 8), SUCCESS);
	expect_nothing(G_IOVA + 0x5000);
	g_destroy(&l.g);
}

static void large_pages_are_granted_whole(void **state)
{
	struct legacy l;

	(void)state;
	ats_start(&l);
	g_map(&l.g, l.root, 0x40000000, 0, 21, 3);
	assert_int_equal(ask(&l.g, NO, 0x40123456, R, 1), SUCCESS);
	expect_entry(0, 0x40000000, 0x401fffff, 0, R, 0);
	/* The last page of the address space: nothing wraps. */
	assert_int_equal(ask(&l.g, NO, UINT64_MAX, R, UINT32_MAX), SUCCESS);
	expect_nothing(UINT64_MAX & ~0xfffull);
	g_destroy(&l.g);
}

static void target_without_memory_is_untranslated_only(void **state)
{
	struct legacy l;

	(void)state;
	ats_start(&l);
	image_put(&l.g.image, l.leaf, IMAGE_OUTSIDE | 3);
	assert_int_equal(ask(&l.g, NO, G_IOVA, R | W, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, IMAGE_OUTSIDE, R | W, SNEST_VTD_ATS_UNTRANSLATED);
	g_destroy(&l.g);
}

static void snoop_bit_reaches_the_device(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP_ATS | 1 << 7);
	image_put(&l.g.image, g_context_at(&l.g, G_RID), l.root | 1 | 1 << 2);
	image_put(&l.g.image, l.leaf, G_DATA | 3 | 1 << 11);
	assert_int_equal(ask(&l.g, NO, G_IOVA, R | W, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, R | W, SNEST_VTD_ATS_SNOOP);
	g_destroy(&l.g);
}

static void interrupt_range_is_never_granted(void **state)
{
	struct legacy l;

	(void)state;
	ats_start(&l);
	g_map(&l.g, l.root, 0xfee00000, G_DATA, 12, 3);
	assert_int_equal(ask(&l.g, NO, 0xfee00000, R | W, 1), SUCCESS);
	expect_nothing(0xfee00000);
	assert_int_equal(recorded(&l.g), 0);
	/* A page that leads there is a fault of the guest's tables. */
	image_put(&l.g.image, l.leaf, 0xfee01000 | 3);
	assert_int_equal(ask(&l.g, NO, G_IOVA, R | W, 1), UNSUPPORTED);
	assert_int_equal(recorded(&l.g), 0xe);
	g_destroy(&l.g);
	/* A large page over it is granted beside it, page by page. */
	ats_start(&l);
	g_map(&l.g, l.root, 0x40000000, 0xfee00000, 21, 3);
	assert_int_equal(ask(&l.g, NO, 0x40100000, R, 1), SUCCESS);
	expect_entry(0, 0x40100000, 0x40100fff, 0xfef00000, R, SNEST_VTD_ATS_UNTRANSLATED);
	assert_int_equal(ask(&l.g, NO, 0x400ff000, R, 2), UNSUPPORTED);
	g_destroy(&l.g);
}

/* ---- First stage, nested ------------------------------------------------------------- */

static void flags_are_set_as_granted(void **state)
{
	struct scalable s;
	uint64_t leaf;

	(void)state;
	scalable_start(&s);
	g_pasid(&s.g, G_RID, G_PASID, PGTT_FIRST, G_DID, s.first, 0);
	g_map_bits(&s.g, s.first, G_IOVA, G_DATA, 12, 7, 7);
	leaf = g_leaf_at(&s.g, s.first, G_IOVA, 12);
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, R, 0);
	assert_int_equal(image_get(&s.g.image, leaf) & 0x60, 0x20);
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R | W, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, R | W, 0);
	assert_int_equal(image_get(&s.g.image, leaf) & 0x60, 0x60);
	/* Nothing granted, nothing set. */
	image_put(&s.g.image, leaf, G_DATA | 3);
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R | W, 1), SUCCESS);
	expect_nothing(G_IOVA);
	assert_int_equal(image_get(&s.g.image, leaf), G_DATA | 3);
	/* Privileged requests may have it, and say so in the entry. */
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R | P, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, R, SNEST_VTD_ATS_PRIVILEGED);
	assert_int_equal(recorded(&s.g), 0);
	g_destroy(&s.g);
}

static void nested_requests_yield_what_the_second_stage_yields(void **state)
{
	struct scalable s;

	(void)state;
	scalable_start(&s);
	for (uint64_t gpa = G_TABLES; gpa < G_TABLES + 0x30000; gpa += 4096)
		g_map(&s.g, s.second, gpa, gpa, 12, 3);
	g_map_first(&s.g, s.first, G_IOVA, 0x10000000, 12, true);
	g_map(&s.g, s.second, 0x10000000, G_DATA, 12, 1);
	g_pasid(&s.g, G_RID, G_PASID, PGTT_NESTED, G_DID, s.first, s.second);
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R | W, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, R, 0);
	assert_int_equal(recorded(&s.g), 0);
	g_destroy(&s.g);
}

static void pass_through_is_granted_one_to_one(void **state)
{
	struct scalable s;

	(void)state;
	scalable_start(&s);
	g_pasid(&s.g, G_RID, G_PASID, PGTT_PASS, G_DID, 0, 0);
	assert_int_equal(ask(&s.g, G_PASID, G_DATA + 5, R | W, 1), SUCCESS);
	assert_int_equal(entries[0].gpa, entries[0].first);
	assert_true(entries[0].first <= G_DATA && entries[0].last >= G_DATA + 0xfff);
	assert_int_equal(entries[0].rights, R | W);
	assert_int_equal(ask(&s.g, G_PASID, 1ull << 50, R | W, 1), SUCCESS);
	expect_nothing(1ull << 50);
	g_destroy(&s.g);
}

/* ---- Refusals -------------------------------------------------------------------------- */

static void legacy_refusals(void **state)
{
	static const struct {
		uint64_t context; /* low word; 0: root entry absent */
		enum snest_vtd_completion completion;
		unsigned code;
	} cases[] = {
		{0, UNSUPPORTED, 1},
		{1ull << 63, UNSUPPORTED, 2},           /* not present */
		{1, UNSUPPORTED, 0xd},                  /* TT 0 */
		{1 | 2 << 2, UNSUPPORTED, 0xd},         /* pass-through */
		{1 | 3 << 2, ABORT, 3},                 /* reserved type */
		{1 | 1 << 2 | 1 << 4, ABORT, 0xb},      /* reserved bit */
		{1 | 1 << 2 | IMAGE_OUTSIDE, ABORT, 3}, /* table not in memory */
		{1 | 2 | 2 << 2, UNSUPPORTED, 0},       /* FPD: not recorded */
		{1 | 1 << 2 | G_TABLES, SUCCESS, 0},    /* nothing mapped: no rights, no record */
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct legacy l;
		uint64_t high;

		ats_start(&l);
		image_put(&l.g.image, g_context_at(&l.g, G_RID), cases[i].context);
		if (!cases[i].context)
			image_put(&l.g.image, G_ROOT, 0);
		if (cases[i].completion == SUCCESS)
			image_put(&l.g.image, G_TABLES, 0);
		if (ask(&l.g, NO, G_IOVA, R, 1) != cases[i].completion)
			fail_msg("case %u", i);
		if (recorded(&l.g) != cases[i].code)
			fail_msg("case %u: reason %x", i, recorded(&l.g));
		/* The record says that it was a translation request. */
		high = g_read(&l.g, R_FRCD + 8, 8);
		assert_int_equal(high >> 60 & 3, cases[i].code ? 1 : 0);
		g_destroy(&l.g);
	}
}

static void scalable_refusals(void **state)
{
	struct scalable s;
	uint64_t at;

	(void)state;
	scalable_start(&s);
	g_pasid(&s.g, G_RID, G_PASID, PGTT_FIRST, G_DID, s.first, 0);
	at = g_context_table(&s.g, G_RID, true) + G_RID * 32;
	/* Neither DTE nor PRE. */
	image_put(&s.g.image, at, image_get(&s.g.image, at) & ~0x14ull);
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R, 1), UNSUPPORTED);
	assert_int_equal(recorded(&s.g), 0x44);
	image_put(&s.g.image, at, image_get(&s.g.image, at) | 0x14);
	g_write(&s.g, R_FRCD + 12, 4, 1u << 31);
	/* Reserved bits in a table: the guest's mistake. */
	image_put(&s.g.image, s.first, (G_TABLES + 0x1000) | 0x87);
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R, 1), ABORT);
	assert_int_equal(recorded(&s.g), 0x72);
	g_write(&s.g, R_FRCD + 12, 4, 1u << 31);
	assert_int_equal(ask(&s.g, 0x8000, G_IOVA, R, 1), UNSUPPORTED);
	assert_int_equal(recorded(&s.g), 0x46);
	g_write(&s.g, R_FRCD + 12, 4, 1u << 31);
	/* Non-canonical: nothing there. */
	assert_int_equal(ask(&s.g, G_PASID, 1ull << 47, R, 1), SUCCESS);
	expect_nothing(1ull << 47);
	assert_int_equal(recorded(&s.g), 0);
	/* Abort mode, and translation off. */
	g_set_root(&s.g, G_ROOT | 3 << 10);
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R, 1), UNSUPPORTED);
	g_set_root(&s.g, G_ROOT | 1 << 10);
	g_command(&s.g, TE, false);
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R, 1), UNSUPPORTED);
	assert_int_equal(recorded(&s.g), 0);
	g_destroy(&s.g);
}

static void privileged_requests_without_srs_get_nothing(void **state)
{
	struct legacy l;

	(void)state;
	ats_start(&l);
	assert_int_equal(ask(&l.g, NO, G_IOVA, R | P, 4), SUCCESS);
	expect_nothing(G_IOVA);
	g_destroy(&l.g);
}

static void errors_of_the_caller(void **state)
{
	struct snest_vtd_ats_request r = {.rid = G_RID, .pasid = NO, .access = R, .pages = 1};
	enum snest_vtd_completion completion;
	struct snest_translation t;
	struct legacy l;
	size_t n;

	(void)state;
	ats_start(&l);
#define EXPECT(error)                                                                          \
	n = 1;                                                                                 \
	assert_int_equal(snest_vtd_ats_request(l.g.vtd, &r, entries, &n, &completion), error); \
	assert_int_equal(n, 0)
	r.rid = 0x10000;
	EXPECT(-EINVAL);
	r.rid = G_RID;
	r.pasid = 1 << 20;
	EXPECT(-EINVAL);
	r.pasid = NO;
	r.pages = 0;
	EXPECT(-EINVAL);
	r.pages = 1;
	r.access = P;
	EXPECT(-EINVAL);
	r.access = R | 0x10;
	EXPECT(-EINVAL);
	r.access = R;
	n = 0;
	assert_int_equal(snest_vtd_ats_request(l.g.vtd, &r, entries, &n, &completion), -EINVAL);
	assert_int_equal(snest_vtd_completion_error(l.g.vtd, 0x10000), -EINVAL);
	g_destroy(&l.g);
	legacy_start(&l, G_CAP_CM, G_ECAP);
	EXPECT(-EOPNOTSUPP);
	assert_int_equal(snest_vtd_translated(l.g.vtd, G_RID, 0, R, &t, NULL), -EOPNOTSUPP);
	assert_int_equal(snest_vtd_completion_error(l.g.vtd, 0), -EOPNOTSUPP);
	g_destroy(&l.g);
#undef EXPECT
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_is_granted_with_its_rights),
		cmocka_unit_test(range_stops_before_the_first_hole),
		cmocka_unit_test(large_pages_are_granted_whole),
		cmocka_unit_test(target_without_memory_is_untranslated_only),
		cmocka_unit_test(snoop_bit_reaches_the_device),
		cmocka_unit_test(interrupt_range_is_never_granted),
		cmocka_unit_test(flags_are_set_as_granted),
		cmocka_unit_test(nested_requests_yield_what_the_second_stage_yields),
		cmocka_unit_test(pass_through_is_granted_one_to_one),
		cmocka_unit_test(legacy_refusals),
		cmocka_unit_test(scalable_refusals),
		cmocka_unit_test(privileged_requests_without_srs_get_nothing),
		cmocka_unit_test(errors_of_the_caller),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
