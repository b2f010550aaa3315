/* SPDX-License-Identifier: MIT */
/*
 * VT-d fault reasons: every one made on purpose in real tables and read back from
 * the recording registers, and suppressed by FPD where it may be. Those of page
 * requests are in test_vtd_prq.c, those of translation and translated requests
 * in test_vtd_ats.c and test_vtd_ats_device.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_modes.h"

/* ---- Legacy mode ----------------------------------------------------------------- */

static void none(struct guest *t)
{
	(void)t;
}
static void no_root(struct guest *t)
{
	change(t, root_at(), 1, 0);
}
static void root_reserved(struct guest *t)
{
	change(t, root_at(), 0, 2);
}
static void root_reserved_high(struct guest *t)
{
	change(t, root_at() + 8, 0, 1);
}
static void root_too_wide(struct guest *t)
{
	change(t, root_at(), 0, 1ull << 48);
}
static void root_outside(struct guest *t)
{
	t->rtaddr = IMAGE_OUTSIDE;
}
static void context_outside(struct guest *t)
{
	change(t, root_at(), UINT64_MAX, IMAGE_OUTSIDE | 1);
}
static void no_context(struct guest *t)
{
	change(t, legacy_at(t), 1, 0);
}
static void context_aw(struct guest *t)
{
	change(t, legacy_at(t) + 8, 7, 3); /* 57 bits are not announced */
}
static void context_tt(struct guest *t)
{
	change(t, legacy_at(t), 0, 3 << 2);
}
static void context_reserved(struct guest *t)
{
	change(t, legacy_at(t), 0, 1 << 4);
}
static void second_root_outside(struct guest *t)
{
	change(t, legacy_at(t), ~0xfffull, IMAGE_OUTSIDE);
}
static void second_absent(struct guest *t)
{
	change(t, t->second_leaf, UINT64_MAX, 0);
}
static void second_read_only(struct guest *t)
{
	change(t, t->second_leaf, 2, 0);
}
static void second_write_only(struct guest *t)
{
	change(t, t->second_leaf, 1, 0);
}
static void second_table_outside(struct guest *t)
{
	change(t, t->second, ~0xfffull, IMAGE_OUTSIDE);
}
static void second_reserved(struct guest *t)
{
	change(t, t->second, 0, 1 << 7); /* PS in the top level */
}
static void second_reserved_and_absent(struct guest *t)
{
	change(t, t->second_leaf, 3, 1ull << 48);
}
static void second_to_interrupts(struct guest *t)
{
	change(t, t->second_leaf, ~0xfffull, 0xfee01000);
}

/* ---- Scalable mode ------------------------------------------------------------------ */

static void bad_mode(struct guest *t)
{
	t->rtaddr = G_ROOT | 2 << 10;
}
static void scalable_root_outside(struct guest *t)
{
	t->rtaddr = IMAGE_OUTSIDE | 1 << 10;
}
static void no_scalable(struct guest *t)
{
	change(t, scalable_at(t), 1, 0);
}
static void scalable_reserved(struct guest *t)
{
	change(t, scalable_at(t) + 16, 0, 1);
}
static void pre_without_dte(struct guest *t)
{
	change(t, scalable_at(t), 4, 0);
}
static void no_paside(struct guest *t)
{
	change(t, scalable_at(t), 8, 0);
}
static void rid_pasid_too_large(struct guest *t)
{
	change(t, scalable_at(t) + 8, UINT64_MAX, 0x8000);
}
static void directory_outside(struct guest *t)
{
	change(t, scalable_at(t), ~0xfffull, IMAGE_OUTSIDE);
}
static void no_directory(struct guest *t)
{
	change(t, directory_at(t, PASID), 1, 0);
}
static void directory_reserved(struct guest *t)
{
	change(t, directory_at(t, PASID), 0, 4);
}
static void pasids_outside(struct guest *t)
{
	change(t, directory_at(t, PASID), ~0xfffull, IMAGE_OUTSIDE);
}
static void no_pasid_entry(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID), 1, 0);
}
static void pasid_reserved(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID) + 24, 0, 1);
}
static void pgtt_reserved(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID), 7 << 6, 5 << 6);
}
static void no_supervisor(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID) + 16, 1, 0);
}
static void first_root_outside(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID) + 16, ~0xfffull, IMAGE_OUTSIDE);
}
static void first_table_outside(struct guest *t)
{
	change(t, t->first, ~0xfffull, IMAGE_OUTSIDE);
}
static void first_absent(struct guest *t)
{
	change(t, t->first_leaf, 1, 0);
}
static void first_reserved(struct guest *t)
{
	change(t, t->first, 0, 1 << 7);
}
static void first_supervisor(struct guest *t)
{
	change(t, t->first_leaf, 4, 0);
}
static void first_read_only(struct guest *t)
{
	change(t, t->first_leaf, 2, 0);
}
static void first_to_interrupts(struct guest *t)
{
	change(t, t->first_leaf, ~0xfffull, 0xfee01000);
}
static void pasid_second_root_outside(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID), ~0xfffull, IMAGE_OUTSIDE);
}

/* The second-stage leaf of the page that holds the first stage's root, or leaf table. */
static uint64_t table_leaf(struct guest *t, uint64_t table)
{
	return g_leaf_at(&t->g, t->second, table & ~0xfffull, 12);
}
static void nested_root_unreadable(struct guest *t)
{
	change(t, table_leaf(t, t->first), 3, 0);
}
static void nested_entry_unreadable(struct guest *t)
{
	change(t, table_leaf(t, t->first_leaf), 3, 0);
}
static void nested_entry_read_only(struct guest *t)
{
	change(t, table_leaf(t, t->first_leaf), 2, 0);
	change(t, t->first_leaf, 0x60, 0); /* A and D would have to be set */
}

static const struct {
	unsigned code;
	enum mode mode;
	void (*change)(struct guest *t);
	uint32_t pasid;
	uint64_t iova;
	uint32_t access;
	enum {
		NO_FPD,
		YES,
		OPEN
	} qualified; /* OPEN: the public sources do not say */
} reasons[] = {
	{0x01, LEGACY, no_root, NO, IOVA, R, NO_FPD},
	{0x02, LEGACY, no_context, NO, IOVA, R, YES},
	{0x03, LEGACY, context_aw, NO, IOVA, R, YES},
	{0x03, LEGACY, context_tt, NO, IOVA, R, YES},
	{0x03, LEGACY, second_root_outside, NO, IOVA, R, YES},
	{0x04, LEGACY, none, NO, 1ull << 48, R, YES},
	{0x05, LEGACY, second_read_only, NO, IOVA, W, YES},
	{0x05, LEGACY, second_absent, NO, IOVA, W, YES},
	{0x06, LEGACY, second_write_only, NO, IOVA, R, YES},
	{0x06, LEGACY, second_absent, NO, IOVA, R, YES},
	{0x06, LEGACY, none, NO, IOVA + 0x1000, R, YES},
	/* The permission comes before reserved bits. */
	{0x06, LEGACY, second_reserved_and_absent, NO, IOVA, R, YES},
	{0x07, LEGACY, second_table_outside, NO, IOVA, R, YES},
	{0x08, LEGACY, root_outside, NO, IOVA, R, NO_FPD},
	{0x09, LEGACY, context_outside, NO, IOVA, R, NO_FPD},
	{0x0a, LEGACY, root_reserved, NO, IOVA, R, NO_FPD},
	{0x0a, LEGACY, root_reserved_high, NO, IOVA, R, NO_FPD},
	{0x0a, LEGACY, root_too_wide, NO, IOVA, R, NO_FPD},
	{0x0b, LEGACY, context_reserved, NO, IOVA, R, OPEN},
	{0x0c, LEGACY, second_reserved, NO, IOVA, R, YES},
	{0x0e, LEGACY, second_to_interrupts, NO, IOVA, W, YES},
	{0x30, FIRST, bad_mode, NO, IOVA, R, OPEN},
	{0x31, LEGACY, none, PASID, IOVA, R, OPEN},
	{0x38, FIRST, scalable_root_outside, PASID, IOVA, R, OPEN},
	{0x39, FIRST, no_root, PASID, IOVA, R, OPEN},
	{0x3a, FIRST, root_reserved, PASID, IOVA, R, OPEN},
	{0x40, FIRST, context_outside, PASID, IOVA, R, OPEN},
	{0x41, FIRST, no_scalable, PASID, IOVA, R, OPEN},
	{0x42, FIRST, scalable_reserved, PASID, IOVA, R, OPEN},
	{0x43, FIRST, pre_without_dte, PASID, IOVA, R, OPEN},
	{0x45, FIRST, no_paside, PASID, IOVA, R, OPEN},
	{0x46, FIRST, none, 0x8000, IOVA, R, OPEN},
	{0x48, FIRST, rid_pasid_too_large, NO, IOVA, R, OPEN},
	{0x50, FIRST, directory_outside, PASID, IOVA, R, NO_FPD},
	{0x51, FIRST, no_directory, PASID, IOVA, R, YES},
	{0x52, FIRST, directory_reserved, PASID, IOVA, R, OPEN},
	{0x58, FIRST, pasids_outside, PASID, IOVA, R, NO_FPD},
	{0x59, FIRST, no_pasid_entry, PASID, IOVA, R, YES},
	{0x5a, FIRST, pasid_reserved, PASID, IOVA, R, OPEN},
	{0x5b, FIRST, pgtt_reserved, PASID, IOVA, R, YES},
	{0x5d, FIRST, no_supervisor, PASID, IOVA, R | P, OPEN},
	{0x70, FIRST, first_table_outside, PASID, IOVA, R, YES},
	{0x71, FIRST, first_absent, PASID, IOVA, R, YES},
	{0x71, FIRST, first_absent, PASID, IOVA, W, YES},
	{0x72, FIRST, first_reserved, PASID, IOVA, R, YES},
	{0x73, FIRST, first_root_outside, PASID, IOVA, R, YES},
	{0x75, NESTED, nested_root_unreadable, PASID, IOVA, R, OPEN},
	{0x76, NESTED, nested_entry_unreadable, PASID, IOVA, R, OPEN},
	{0x77, NESTED, nested_entry_read_only, PASID, IOVA, W, OPEN},
	{0x78, SECOND, second_table_outside, PASID, IOVA, R, OPEN},
	{0x79, SECOND, second_absent, PASID, IOVA, R, OPEN},
	{0x79, SECOND, second_read_only, PASID, IOVA, W, OPEN},
	{0x79, NESTED, second_absent, PASID, IOVA, R, OPEN},
	{0x7a, SECOND, second_reserved, PASID, IOVA, R, OPEN},
	{0x7b, SECOND, pasid_second_root_outside, PASID, IOVA, R, OPEN},
	{0x80, FIRST, none, PASID, 1ull << 47, R, YES},
	{0x81, FIRST, first_supervisor, PASID, IOVA, R, YES},
	{0x85, FIRST, first_read_only, PASID, IOVA, W, YES},
	{0x87, FIRST, first_to_interrupts, PASID, IOVA, W, YES},
	{0x87, SECOND, second_to_interrupts, PASID, IOVA, W, YES},
	{0x87, PASS, none, PASID, 0xfee01000, W, YES},
};

#define REASONS (sizeof(reasons) / sizeof(reasons[0]))

/* Before anything is broken, the request succeeds: the change is the cause. */
static void the_tables_work_before_they_are_broken(void **state)
{
	(void)state;
	for (enum mode mode = LEGACY; mode <= NESTED; mode++) {
		struct guest t;
		uint32_t pasid = mode == LEGACY ? NO : PASID;

		start(&t, mode);
		go(&t);
		assert_int_equal(g_request(&t.g, RID, pasid, IOVA + 4, R, NULL), G_DATA + 4);
		assert_int_equal(g_request(&t.g, RID, pasid, IOVA + 4, W, NULL), G_DATA + 4);
		assert_int_equal(g_read(&t.g, R_FSTS, 4), 0);
		g_destroy(&t.g);
	}
}

static void every_reason_is_recorded(void **state)
{
	(void)state;
	for (unsigned i = 0; i < REASONS; i++) {
		struct snest_fault fault;
		struct guest t;
		uint64_t high;

		start(&t, reasons[i].mode);
		reasons[i].change(&t);
		go(&t);
		assert_int_equal(g_request(&t.g, RID, reasons[i].pasid, reasons[i].iova | 0x123,
		                           reasons[i].access, &fault),
		                 UINT64_MAX);
		high = frcd(&t, 0, 1);
		if ((high >> 32 & 0xff) != reasons[i].code || !(high >> 63))
			fail_msg("%u: reason %xh is recorded as %llx", i, reasons[i].code,
			         (unsigned long long)high);
		assert_int_equal(fault.code, reasons[i].code);
		assert_int_equal(frcd(&t, 0, 0), reasons[i].iova);
		assert_int_equal(high & 0xffff, RID);
		assert_int_equal(high >> 62 & 1, !(reasons[i].access & W));
		assert_int_equal(high >> 28 & 1, 0);
		assert_int_equal(high >> 29 & 1, !!(reasons[i].access & P));
		assert_int_equal(high >> 31 & 1, reasons[i].pasid != NO);
		assert_int_equal(high >> 40 & 0xfffff,
		                 reasons[i].pasid == NO ? 0 : reasons[i].pasid);
		assert_int_equal(g_read(&t.g, R_FSTS, 4), 2);
		g_destroy(&t.g);
	}
}

/* FPD at every level that was read before the fault. */
static void fpd_suppresses_qualified_faults_only(void **state)
{
	(void)state;
	for (unsigned i = 0; i < REASONS; i++) {
		unsigned levels = reasons[i].mode == LEGACY ? 1 : 3;

		for (unsigned level = 0; level < levels; level++) {
			struct snest_fault fault;
			struct guest t;
			uint64_t at;

			/* The PASID entry is not read when the fault comes before it. */
			if ((level == 2 && reasons[i].code < 0x59) ||
			    (level == 1 && reasons[i].code < 0x51) || reasons[i].qualified == OPEN)
				continue;
			start(&t, reasons[i].mode);
			at = reasons[i].mode == LEGACY ? legacy_at(&t)
			     : level == 0              ? scalable_at(&t)
			     : level == 1              ? directory_at(&t, PASID)
			                               : g_pasid_at(&t.g, RID, PASID);
			change(&t, at, 0, 2);
			reasons[i].change(&t);
			go(&t);
			g_request(&t.g, RID, reasons[i].pasid, reasons[i].iova, reasons[i].access,
			          &fault);
			if (g_read(&t.g, R_FSTS, 4) != (reasons[i].qualified == YES ? 0 : 2))
				fail_msg("%u: reason %xh, FPD at level %u", i, reasons[i].code,
				         level);
			assert_int_equal(fault.code, reasons[i].code);
			g_destroy(&t.g);
		}
	}
}

/* ---- Those that need more than one change --------------------------------------- */

#define ERS (1ull << 30)

static uint64_t pasid_entry(struct guest *t)
{
	return g_pasid_at(&t->g, RID, PASID);
}
static void no_execution(struct guest *t)
{
	change(t, pasid_entry(t) + 16, 2, 0);
}
static void not_executable(struct guest *t)
{
	change(t, pasid_entry(t) + 16, 0, 1 << 1 | 1 << 5); /* ERE, NXE */
	change(t, t->first_leaf, 0, 1ull << 63);
}
/* The second stage gets three levels; the first leads beyond their 39 bits. */
static void beyond_second_stage(struct guest *t)
{
	uint64_t third = image_get(&t->g.image, t->second) & ~0xfffull;

	change(t, pasid_entry(t), ~0xfffull | 7 << 2, third | 1 << 2);
	change(t, t->first_leaf, ~0xfffull, 1ull << 40);
}
static void read_only_table(struct guest *t, uint64_t leaf)
{
	uint64_t page = leaf & ~0xfffull;

	assert_int_equal(
		snest_memory_protect(t->g.image.vm, page, page + 0xfff, SNEST_REGION_READONLY), 0);
}
static void first_flags_unwritable(struct guest *t)
{
	change(t, t->first_leaf, 0x60, 0);
	read_only_table(t, t->first_leaf);
}
static void second_flags_unwritable(struct guest *t)
{
	change(t, pasid_entry(t), 0, 1 << 9); /* SSADE */
	read_only_table(t, t->second_leaf);
}

static void rarer_reasons_are_recorded(void **state)
{
	static const struct {
		unsigned code;
		enum mode mode;
		void (*change)(struct guest *t);
		uint64_t iova;
		uint32_t access;
	} rare[] = {
		{0x5c, FIRST, no_execution, IOVA, X},
		{0x74, NESTED, beyond_second_stage, IOVA, R},
		{0x7c, SECOND, second_flags_unwritable, IOVA, R},
		{0x7d, SECOND, second_flags_unwritable, IOVA, W},
		{0x82, FIRST, not_executable, IOVA, X},
		{0x83, PASS, none, 1ull << 48, R},
		{0x84, SECOND, none, 1ull << 48, R},
		{0x91, FIRST, first_flags_unwritable, IOVA, R},
		{0x91, FIRST, first_flags_unwritable, IOVA, W},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rare) / sizeof(rare[0]); i++) {
		struct guest t;
		uint64_t high;

		start_with(&t, rare[i].mode, G_ECAP_ALL | ERS);
		rare[i].change(&t);
		go(&t);
		assert_int_equal(g_request(&t.g, RID, PASID, rare[i].iova, rare[i].access, NULL),
		                 UINT64_MAX);
		high = frcd(&t, 0, 1);
		if ((high >> 32 & 0xff) != rare[i].code || !(high >> 63))
			fail_msg("%u: reason %xh is recorded as %llx", i, rare[i].code,
			         (unsigned long long)high);
		assert_int_equal(high >> 30 & 1, !!(rare[i].access & X));
		assert_int_equal(frcd(&t, 0, 0), rare[i].iova);
		g_destroy(&t.g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tables_work_before_they_are_broken),
		cmocka_unit_test(every_reason_is_recorded),
		cmocka_unit_test(fpd_suppresses_qualified_faults_only),
		cmocka_unit_test(rarer_reasons_are_recorded),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
