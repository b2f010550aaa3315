/* SPDX-License-Identifier: MIT */
/*
 * What VT-d invalidation commands reach, and what they leave alone: every
 * descriptor and granularity through the queue, and the same given raw.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_guest.h"

/* ---- What descriptors reach -------------------------------------------------- */

/* Whether a command makes the lookup see a changed leaf. */
static bool reaches(struct legacy *l, uint64_t q0, uint64_t q1)
{
	uint64_t old = G_DATA + l->turn * 0x1000, new = G_DATA + ++l->turn * 0x1000, got;

	image_put(&l->g.image, l->leaf, old | 3);
	g_submit(&l->g, D_IOTLB(1, 0), 0);
	assert_int_equal(g_dma(&l->g, G_RID, G_IOVA, SNEST_READ), old);
	image_put(&l->g.image, l->leaf, new | 3);
	assert_int_equal(g_dma(&l->g, G_RID, G_IOVA, SNEST_READ), old);
	g_submit(&l->g, q0, q1);
	got = g_dma(&l->g, G_RID, G_IOVA, SNEST_READ);
	assert_true(got == old || got == new);
	return got == new;
}

static void iotlb_granularities(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	assert_true(reaches(&l, D_IOTLB(1, 0), 0));
	assert_true(reaches(&l, D_IOTLB(2, G_DID), 0));
	assert_false(reaches(&l, D_IOTLB(2, G_DID + 1), 0));
	assert_true(reaches(&l, D_IOTLB(3, G_DID), G_IOVA));
	assert_false(reaches(&l, D_IOTLB(3, G_DID + 1), G_IOVA));
	assert_false(reaches(&l, D_IOTLB(3, G_DID), G_IOVA + 0x1000));
	/* With IH, with the drain flags. */
	assert_true(reaches(&l, D_IOTLB(3, G_DID) | 0xc0, G_IOVA | 0x40));
	/* AM: the range is aligned downwards; 18 is MAMV. */
	assert_true(reaches(&l, D_IOTLB(3, G_DID), 0x7000 | 2));
	assert_false(reaches(&l, D_IOTLB(3, G_DID), 0x8000 | 2));
	assert_true(reaches(&l, D_IOTLB(3, G_DID), 0x3ffff000 | 18));
	assert_false(reaches(&l, D_IOTLB(3, G_DID), 0x40000000 | 18));
	g_destroy(&l.g);
}

/* Bits of a DID beyond those announced do not count. */
static void domain_ids_are_as_wide_as_announced(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, (G_CAP_CM & ~7ull) | 2, G_ECAP);
	assert_int_equal(g_dma(&l.g, G_RID, G_IOVA, SNEST_READ), G_DATA);
	image_put(&l.g.image, l.leaf, 0);
	g_submit(&l.g, D_IOTLB(3, 0xab00 | (G_DID + 1)), G_IOVA);
	assert_int_equal(g_dma(&l.g, G_RID, G_IOVA, SNEST_READ), G_DATA);
	g_submit(&l.g, D_IOTLB(3, 0xab00 | G_DID), G_IOVA);
	assert_int_equal(g_dma(&l.g, G_RID, G_IOVA, SNEST_READ), UINT64_MAX);
	g_destroy(&l.g);
}

static void iotlb_page_in_a_large_page_drops_it_whole(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, G_RID, G_DID, &root);
	g_map(&g, root, 0x40000000, G_DATA, 21, 3);
	assert_int_equal(g_dma(&g, G_RID, 0x40000000, SNEST_READ), G_DATA);
	assert_int_equal(g_dma(&g, G_RID, 0x401ff000, SNEST_READ), G_DATA + 0x1ff000);
	image_put(&g.image, g_leaf_at(&g, root, 0x40000000, 21), 0);
	g_submit(&g, D_IOTLB(3, G_DID), 0x40123000);
	assert_int_equal(g_dma(&g, G_RID, 0x40000000, SNEST_READ), UINT64_MAX);
	assert_int_equal(g_dma(&g, G_RID, 0x401ff000, SNEST_READ), UINT64_MAX);
	g_destroy(&g);
}

static void context_cache_granularities(void **state)
{
	struct vtd_guest g;
	uint64_t root, other;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, G_RID, G_DID, &root);
	other = g_table(&g);
	g_map(&g, root, G_IOVA, G_DATA, 12, 3);
	g_map(&g, other, G_IOVA, G_DATA + 0x1000, 12, 3);
	static const struct {
		uint64_t q0;
		bool reaches;
	} commands[] = {
		{D_CC(1, 0, 0, 0), true},
		{D_CC(2, G_DID, 0, 0), true},
		{D_CC(2, G_DID + 1, 0, 0), false},
		{D_CC(3, 0, G_RID, 0), true},
		{D_CC(3, G_DID, G_RID + 1, 0), false},
		{D_CC(3, G_DID, G_RID + 4, 1), true},
		{D_CC(3, G_DID, G_RID + 1, 1), false},
		{D_CC(3, G_DID, G_RID + 6, 2), true},
		{D_CC(3, G_DID, G_RID + 7, 3), true},
		{D_CC(3, G_DID, G_RID + 8, 3), false},
	};

	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		g_context(&g, G_RID, G_DID, root);
		g_submit(&g, D_CC(1, 0, 0, 0), 0);
		assert_int_equal(g_dma(&g, G_RID, G_IOVA, SNEST_READ), G_DATA);
		/* The DID that was cached decides, not the one in the table now. */
		g_context(&g, G_RID, G_DID + 9, other);
		g_submit(&g, commands[i].q0, 0);
		assert_int_equal(g_dma(&g, G_RID, G_IOVA, SNEST_READ),
		                 commands[i].reaches ? G_DATA + 0x1000 : G_DATA);
	}
	g_destroy(&g);
}

static void changed_root_takes_effect_without_an_iotlb_command(void **state)
{
	struct vtd_guest g;
	uint64_t root, other;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, G_RID, G_DID, &root);
	other = g_table(&g);
	g_map(&g, root, G_IOVA, G_DATA, 12, 3);
	g_context(&g, G_RID + 8, G_DID, root);
	assert_int_equal(g_dma(&g, G_RID, G_IOVA, SNEST_READ), G_DATA);
	assert_int_equal(g_dma(&g, G_RID + 8, G_IOVA, SNEST_READ), G_DATA);
	g_context(&g, G_RID, G_DID, other);
	g_submit(&g, D_CC(3, G_DID, G_RID, 0), 0);
	assert_int_equal(g_dma(&g, G_RID, G_IOVA, SNEST_READ), UINT64_MAX);
	assert_int_equal(g_dma(&g, G_RID + 8, G_IOVA, SNEST_READ), G_DATA);
	g_destroy(&g);
}

static void absent_entry_is_found_after_its_command_with_did_0(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, G_RID, G_DID, &root);
	g_map(&g, root, G_IOVA, G_DATA, 12, 3);
	assert_int_equal(g_dma(&g, 0x100, G_IOVA, SNEST_READ), UINT64_MAX);
	/* Linux, caching mode: device-selective with DID 0, then the domain. */
	g_context(&g, 0x100, G_DID, root);
	g_submit(&g, D_CC(3, 0, 0x100, 0), 0);
	g_submit(&g, D_IOTLB(2, G_DID), 0);
	assert_int_equal(g_dma(&g, 0x100, G_IOVA, SNEST_READ), G_DATA);
	g_destroy(&g);
}

static void device_tlb_ranges(void **state)
{
	static const struct {
		uint64_t q1, first, last;
	} ranges[] = {
		{0x5000, 0x5000, 0x5fff},
		{0x5000 | 1, 0x4000, 0x7fff}, /* bit 12 set, 13 clear: 4 pages */
		{0x4000 | 1, 0x4000, 0x5fff}, /* bit 12 clear: 2 pages */
		{0x7ffff000 | 1, 0, 0xffffffff},
		{0x7ffffffffffff000 | 1, 0, UINT64_MAX},
		{0xfffffffffffff000 | 1, 0, UINT64_MAX},
		{0xfffffffffffff000, 0xfffffffffffff000, UINT64_MAX},
	};
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP_ATS, 0);
	g_start_legacy(&g, G_RID, G_DID, &root);
	for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		g_submit(&g, 3ull | 0x1full << 16 | (uint64_t)G_RID << 32, ranges[i].q1);
		assert_int_equal(g.device_tlbs, i + 1);
		assert_int_equal(g.device_tlb.rid, G_RID);
		assert_int_equal(g.device_tlb.pasid, SNEST_NO_PASID);
		assert_int_equal(g.device_tlb.first, ranges[i].first);
		assert_int_equal(g.device_tlb.last, ranges[i].last);
	}
	g_destroy(&g);
}

static void interrupt_entries_are_reported(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, G_RID, G_DID, &root);
	g_submit(&g, 4, 0);
	assert_int_equal(g.interrupt_first, 0);
	assert_int_equal(g.interrupt_last, 0xffff);
	g_submit(&g, 4 | 1 << 4 | 3ull << 27 | 0x1235ull << 32, 0);
	assert_int_equal(g.interrupt_first, 0x1230);
	assert_int_equal(g.interrupt_last, 0x1237);
	g_submit(&g, 4 | 1 << 4 | 31ull << 27 | 0x1235ull << 32, 0);
	assert_int_equal(g.interrupt_first, 0);
	assert_int_equal(g.interrupt_last, 0xffff);
	assert_int_equal(g.interrupts, 3);
	g_destroy(&g);
}

/* ---- Scalable mode ---------------------------------------------------------------- */

static void pasid_iotlb_reaches_first_stage_spaces(void **state)
{
	struct scalable s;
	uint64_t leaf;

	(void)state;
	scalable_start(&s);
	g_pasid(&s.g, G_RID, G_PASID, PGTT_FIRST, G_DID, s.first, 0);
	g_map_first(&s.g, s.first, G_IOVA, G_DATA, 12, true);
	leaf = g_leaf_at(&s.g, s.first, G_IOVA, 12);
	static const struct {
		uint64_t q0, q1;
		bool reaches;
	} commands[] = {
		{D_PIOTLB(2, G_DID, G_PASID), 0, true},
		{D_PIOTLB(3, G_DID, G_PASID), G_IOVA, true},
		{D_PIOTLB(3, G_DID, G_PASID), G_IOVA | 0x40, true},
		{D_PIOTLB(3, G_DID, G_PASID), G_IOVA + 0x1000, false},
		{D_PIOTLB(3, G_DID, G_PASID), 19, true}, /* AM beyond MAMV, as Linux sends */
		{D_PIOTLB(3, G_DID, G_PASID), 63, true},
		{D_PIOTLB(2, G_DID + 1, G_PASID), 0, false},
		{D_PIOTLB(2, G_DID, G_PASID + 1), 0, false},
		{D_IOTLB(1, 0), 0, true},
		{D_IOTLB(2, G_DID), 0, true},
		{D_IOTLB(2, G_DID + 1), 0, false},
		{D_IOTLB(3, G_DID), 0x123000, true}, /* not this space's input: all of it */
	};

	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		image_put(&s.g.image, leaf, G_DATA | 0x67);
		g_submit(&s.g, D_IOTLB(1, 0), 0);
		assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA), G_DATA);
		image_put(&s.g.image, leaf, (G_DATA + 0x1000) | 0x67);
		g_submit(&s.g, commands[i].q0, commands[i].q1);
		assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA),
		                 commands[i].reaches ? G_DATA + 0x1000 : G_DATA);
	}
	g_destroy(&s.g);
}

static void nested_space_is_reached_by_both_kinds(void **state)
{
	struct scalable s;
	uint64_t second_leaf, first_leaf;
	const uint64_t ipa = 0x10000000;

	(void)state;
	scalable_start(&s);
	/* The first-stage tables are where the second stage says: one to one here. */
	for (uint64_t gpa = G_TABLES; gpa < G_TABLES + 0x40000; gpa += 4096)
		g_map(&s.g, s.second, gpa, gpa, 12, 3);
	g_map(&s.g, s.second, ipa, G_DATA, 12, 3);
	g_map_first(&s.g, s.first, G_IOVA, ipa, 12, true);
	g_pasid(&s.g, G_RID, G_PASID, PGTT_NESTED, G_DID, s.first, s.second);
	assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA), G_DATA);
	/* Second stage: the command's address is not an IOVA of this space. */
	second_leaf = g_leaf_at(&s.g, s.second, ipa, 12);
	image_put(&s.g.image, second_leaf, (G_DATA + 0x1000) | 3);
	assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA), G_DATA);
	g_submit(&s.g, D_IOTLB(3, G_DID), ipa);
	assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA), G_DATA + 0x1000);
	/* First stage. */
	first_leaf = g_leaf_at(&s.g, s.first, G_IOVA, 12);
	g_map(&s.g, s.second, ipa + 0x1000, G_DATA + 0x5000, 12, 3);
	image_put(&s.g.image, first_leaf, (ipa + 0x1000) | 0x67);
	g_submit(&s.g, D_PIOTLB(3, G_DID, G_PASID), G_IOVA);
	assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA), G_DATA + 0x5000);
	g_destroy(&s.g);
}

static void pasid_cache_granularities(void **state)
{
	struct scalable s;
	uint64_t other;

	(void)state;
	scalable_start(&s);
	other = g_table(&s.g);
	g_map(&s.g, s.second, G_IOVA, G_DATA, 12, 3);
	g_map(&s.g, other, G_IOVA, G_DATA + 0x1000, 12, 3);
	static const struct {
		uint64_t q0;
		bool reaches;
	} commands[] = {
		{D_PC(3, 0, 0), true},
		{D_PC(0, G_DID, 0), true},
		{D_PC(0, G_DID + 1, 0), false},
		{D_PC(1, G_DID, G_PASID), true},
		{D_PC(1, G_DID, G_PASID + 1), false},
		{D_PC(1, G_DID + 1, G_PASID), false},
		{D_CC(3, 0, G_RID, 0), true},
		{D_CC(1, 0, 0, 0), true},
		{D_CC(2, 0, 0, 0), true},
	};

	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		g_pasid(&s.g, G_RID, G_PASID, PGTT_SECOND, G_DID, 0, s.second);
		g_submit(&s.g, D_PC(3, 0, 0), 0);
		assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA), G_DATA);
		g_pasid(&s.g, G_RID, G_PASID, PGTT_SECOND, G_DID + 5, 0, other);
		g_submit(&s.g, commands[i].q0, 0);
		assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA),
		                 commands[i].reaches ? G_DATA + 0x1000 : G_DATA);
	}
	g_destroy(&s.g);
}

static void requests_without_pasid_use_rid_pasid(void **state)
{
	struct scalable s;

	(void)state;
	scalable_start(&s);
	g_scalable_context(&s.g, G_RID, G_PASID);
	g_pasid(&s.g, G_RID, G_PASID, PGTT_SECOND, G_DID, 0, s.second);
	g_map(&s.g, s.second, G_IOVA, G_DATA, 12, 3);
	assert_int_equal(scalable_dma(&s, SNEST_NO_PASID, G_IOVA), G_DATA);
	assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA), G_DATA);
	/* The PASID command names RID_PASID. */
	image_put(&s.g.image, g_pasid_at(&s.g, G_RID, G_PASID), 0);
	g_submit(&s.g, D_PC(1, G_DID, G_PASID), 0);
	assert_int_equal(scalable_dma(&s, SNEST_NO_PASID, G_IOVA), UINT64_MAX);
	assert_int_equal(scalable_dma(&s, G_PASID, G_IOVA), UINT64_MAX);
	g_destroy(&s.g);
}

static void pasid_device_tlb_and_page_response_reach_their_hooks(void **state)
{
	struct scalable s;

	(void)state;
	scalable_start(&s);
	g_submit(&s.g, 8ull | (uint64_t)G_RID << 16 | (uint64_t)G_PASID << 32, 0x5000);
	assert_int_equal(s.g.device_tlb.rid, G_RID);
	assert_int_equal(s.g.device_tlb.pasid, G_PASID);
	assert_int_equal(s.g.device_tlb.first, 0x5000);
	assert_int_equal(s.g.device_tlb.last, 0x5fff);
	assert_int_equal(s.g.device_tlb.global, 0);
	g_submit(&s.g, 8ull | (uint64_t)G_RID << 16, 0x3ff000 | 0x800 | 1);
	assert_int_equal(s.g.device_tlb.global, 1);
	assert_int_equal(s.g.device_tlb.first, 0);
	assert_int_equal(s.g.device_tlb.last, 0x7fffff);

	g_put4(&s.g,
	       9ull | 1 << 4 | 1 << 5 | 0xfull << 12 | (uint64_t)G_RID << 16 |
	               (uint64_t)G_PASID << 32,
	       4 | 0x155ull << 3, 0xaaaa, 0xbbbb);
	g_ring(&s.g);
	g_poll(&s.g, R_IQH, 8, UINT64_MAX, s.g.tail);
	assert_int_equal(s.g.responses, 1);
	assert_int_equal(s.g.response.rid, G_RID);
	assert_int_equal(s.g.response.pasid, G_PASID);
	assert_int_equal(s.g.response.group, 0x155);
	assert_int_equal(s.g.response.code, SNEST_VTD_RESPONSE_FAILURE);
	assert_int_equal(s.g.response.last, 1);
	assert_int_equal(s.g.response.private_data[1], 0xbbbb);
	g_destroy(&s.g);
}

/* ---- Raw descriptors ---------------------------------------------------------------------- */

static void raw_descriptors_are_handled_on_return(void **state)
{
	struct vtd_guest g;
	uint64_t root, q[4][2] = {{D_IOTLB(3, G_DID), G_IOVA}};
	enum snest_vtd_queue_error error;
	size_t count = 1;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	root = g_table(&g);
	g_context(&g, G_RID, G_DID, root);
	g_map(&g, root, G_IOVA, G_DATA, 12, 3);
	assert_int_equal(snest_vtd_set_root(g.vtd, G_ROOT), 0);
	assert_int_equal(snest_vtd_enable(g.vtd, true), 0);
	assert_int_equal(g_dma(&g, G_RID, G_IOVA, SNEST_READ), G_DATA);
	image_put(&g.image, g_leaf_at(&g, root, G_IOVA, 12), (G_DATA + 0x1000) | 3);
	assert_int_equal(snest_vtd_invalidate(g.vtd, q, 16, &count, &error), 0);
	assert_int_equal(count, 1);
	assert_int_equal(g_dma(&g, G_RID, G_IOVA, SNEST_READ), G_DATA + 0x1000);

	/* Stops at the first bad one, and says how far it got and why. */
	q[1][0] = WAIT_SW;
	q[1][1] = G_STATUS;
	q[2][0] = D_IOTLB(3, G_DID);
	q[2][1] = 19;
	q[3][0] = D_IOTLB(1, 0);
	count = 4;
	assert_int_equal(snest_vtd_invalidate(g.vtd, q, 16, &count, &error), -EINVAL);
	assert_int_equal(count, 2);
	assert_int_equal(error, SNEST_VTD_QUEUE_RESERVED);
	assert_int_equal(g_status(&g, 0), 0);

	count = 0;
	assert_int_equal(snest_vtd_invalidate(g.vtd, NULL, 0, &count, &error), 0);
	count = 1;
	assert_int_equal(snest_vtd_invalidate(g.vtd, NULL, 16, &count, &error), -EINVAL);
	assert_int_equal(count, 0);
	count = 1;
	assert_int_equal(snest_vtd_invalidate(g.vtd, q, 8, &count, &error), -EINVAL);
	count = 1;
	assert_int_equal(snest_vtd_invalidate(g.vtd, q, 24, &count, &error), -EINVAL);
	assert_int_equal(count, 0);
	assert_int_equal(snest_vtd_enable(g.vtd, false), 0);
	assert_int_equal(g_dma(&g, G_RID, G_DATA, SNEST_READ), G_DATA);
	g_destroy(&g);
}

static void raw_descriptors_may_be_longer_with_zeros(void **state)
{
	struct vtd_guest g;
	uint64_t q[2][6] = {{D_IOTLB(1, 0)}, {D_IOTLB(1, 0), 0, 0, 0, 0, 1}};
	size_t count = 2;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP_SS, 0);
	assert_int_equal(snest_vtd_invalidate(g.vtd, q, 48, &count, NULL), -E2BIG);
	assert_int_equal(count, 1);
	g_destroy(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(iotlb_granularities),
		cmocka_unit_test(domain_ids_are_as_wide_as_announced),
		cmocka_unit_test(iotlb_page_in_a_large_page_drops_it_whole),
		cmocka_unit_test(context_cache_granularities),
		cmocka_unit_test(changed_root_takes_effect_without_an_iotlb_command),
		cmocka_unit_test(absent_entry_is_found_after_its_command_with_did_0),
		cmocka_unit_test(device_tlb_ranges),
		cmocka_unit_test(interrupt_entries_are_reported),
		cmocka_unit_test(pasid_iotlb_reaches_first_stage_spaces),
		cmocka_unit_test(nested_space_is_reached_by_both_kinds),
		cmocka_unit_test(pasid_cache_granularities),
		cmocka_unit_test(requests_without_pasid_use_rid_pasid),
		cmocka_unit_test(pasid_device_tlb_and_page_response_reach_their_hooks),
		cmocka_unit_test(raw_descriptors_are_handled_on_return),
		cmocka_unit_test(raw_descriptors_may_be_longer_with_zeros),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
