/* SPDX-License-Identifier: MIT */
/*
 * The VT-d invalidation queue: every descriptor and granularity, waits and
 * their order, queue errors and repair, ring geometry, bounded work; and the
 * same descriptors given raw.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include "support/vtd_guest.h"

#define RID 0x18u
#define DID 7u
#define IOVA 0x5000ull
#define NO SNEST_NO_PASID

static uint64_t fsts(struct vtd_guest *g)
{
	return g_read(g, R_FSTS, 4);
}

static uint64_t iqei(struct vtd_guest *g)
{
	return g_read(g, R_IQERCD, 8) & 0xf;
}

/* ---- What descriptors reach -------------------------------------------------- */

/* One page mapped; a command; does the lookup still give the old page? */
struct legacy {
	struct vtd_guest g;
	uint64_t root, leaf;
	unsigned turn;
};

static void legacy_start(struct legacy *l, uint64_t cap, uint64_t ecap)
{
	memset(l, 0, sizeof(*l));
	g_create(&l->g, cap, ecap, 0);
	g_start_legacy(&l->g, RID, DID, &l->root);
	g_map(&l->g, l->root, IOVA, G_DATA, 12, 3);
	l->leaf = g_leaf_at(&l->g, l->root, IOVA, 12);
}

/* Whether a command makes the lookup see a changed leaf. */
static bool reaches(struct legacy *l, uint64_t q0, uint64_t q1)
{
	uint64_t old = G_DATA + l->turn * 0x1000, new = G_DATA + ++l->turn * 0x1000, got;

	image_put(&l->g.image, l->leaf, old | 3);
	g_submit(&l->g, D_IOTLB(1, 0), 0);
	assert_int_equal(g_dma(&l->g, RID, IOVA, SNEST_READ), old);
	image_put(&l->g.image, l->leaf, new | 3);
	assert_int_equal(g_dma(&l->g, RID, IOVA, SNEST_READ), old);
	g_submit(&l->g, q0, q1);
	got = g_dma(&l->g, RID, IOVA, SNEST_READ);
	assert_true(got == old || got == new);
	return got == new;
}

static void iotlb_granularities(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	assert_true(reaches(&l, D_IOTLB(1, 0), 0));
	assert_true(reaches(&l, D_IOTLB(2, DID), 0));
	assert_false(reaches(&l, D_IOTLB(2, DID + 1), 0));
	assert_true(reaches(&l, D_IOTLB(3, DID), IOVA));
	assert_false(reaches(&l, D_IOTLB(3, DID + 1), IOVA));
	assert_false(reaches(&l, D_IOTLB(3, DID), IOVA + 0x1000));
	/* With IH, with the drain flags. */
	assert_true(reaches(&l, D_IOTLB(3, DID) | 0xc0, IOVA | 0x40));
	/* AM: the range is aligned downwards; 18 is MAMV. */
	assert_true(reaches(&l, D_IOTLB(3, DID), 0x7000 | 2));
	assert_false(reaches(&l, D_IOTLB(3, DID), 0x8000 | 2));
	assert_true(reaches(&l, D_IOTLB(3, DID), 0x3ffff000 | 18));
	assert_false(reaches(&l, D_IOTLB(3, DID), 0x40000000 | 18));
	g_destroy(&l.g);
}

static void iotlb_page_in_a_large_page_drops_it_whole(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, RID, DID, &root);
	g_map(&g, root, 0x40000000, G_DATA, 21, 3);
	assert_int_equal(g_dma(&g, RID, 0x40000000, SNEST_READ), G_DATA);
	assert_int_equal(g_dma(&g, RID, 0x401ff000, SNEST_READ), G_DATA + 0x1ff000);
	image_put(&g.image, g_leaf_at(&g, root, 0x40000000, 21), 0);
	g_submit(&g, D_IOTLB(3, DID), 0x40123000);
	assert_int_equal(g_dma(&g, RID, 0x40000000, SNEST_READ), UINT64_MAX);
	assert_int_equal(g_dma(&g, RID, 0x401ff000, SNEST_READ), UINT64_MAX);
	g_destroy(&g);
}

static void context_cache_granularities(void **state)
{
	struct vtd_guest g;
	uint64_t root, other;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, RID, DID, &root);
	other = g_table(&g);
	g_map(&g, root, IOVA, G_DATA, 12, 3);
	g_map(&g, other, IOVA, G_DATA + 0x1000, 12, 3);
	static const struct {
		uint64_t q0;
		bool reaches;
	} commands[] = {
		{ D_CC(1, 0, 0, 0), true },
		{ D_CC(2, DID, 0, 0), true },
		{ D_CC(2, DID + 1, 0, 0), false },
		{ D_CC(3, 0, RID, 0), true },
		{ D_CC(3, DID, RID + 1, 0), false },
		{ D_CC(3, DID, RID + 4, 1), true },
		{ D_CC(3, DID, RID + 1, 1), false },
		{ D_CC(3, DID, RID + 6, 2), true },
		{ D_CC(3, DID, RID + 7, 3), true },
		{ D_CC(3, DID, RID + 8, 3), false },
	};

	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		g_context(&g, RID, DID, root);
		g_submit(&g, D_CC(1, 0, 0, 0), 0);
		assert_int_equal(g_dma(&g, RID, IOVA, SNEST_READ), G_DATA);
		/* The DID that was cached decides, not the one in the table now. */
		g_context(&g, RID, DID + 9, other);
		g_submit(&g, commands[i].q0, 0);
		assert_int_equal(g_dma(&g, RID, IOVA, SNEST_READ),
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
	g_start_legacy(&g, RID, DID, &root);
	other = g_table(&g);
	g_map(&g, root, IOVA, G_DATA, 12, 3);
	g_context(&g, RID + 8, DID, root);
	assert_int_equal(g_dma(&g, RID, IOVA, SNEST_READ), G_DATA);
	assert_int_equal(g_dma(&g, RID + 8, IOVA, SNEST_READ), G_DATA);
	g_context(&g, RID, DID, other);
	g_submit(&g, D_CC(3, DID, RID, 0), 0);
	assert_int_equal(g_dma(&g, RID, IOVA, SNEST_READ), UINT64_MAX);
	assert_int_equal(g_dma(&g, RID + 8, IOVA, SNEST_READ), G_DATA);
	g_destroy(&g);
}

static void absent_entry_is_found_after_its_command_with_did_0(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, RID, DID, &root);
	g_map(&g, root, IOVA, G_DATA, 12, 3);
	assert_int_equal(g_dma(&g, 0x100, IOVA, SNEST_READ), UINT64_MAX);
	/* Linux, caching mode: device-selective with DID 0, then the domain. */
	g_context(&g, 0x100, DID, root);
	g_submit(&g, D_CC(3, 0, 0x100, 0), 0);
	g_submit(&g, D_IOTLB(2, DID), 0);
	assert_int_equal(g_dma(&g, 0x100, IOVA, SNEST_READ), G_DATA);
	g_destroy(&g);
}

static void device_tlb_ranges(void **state)
{
	static const struct {
		uint64_t q1, first, last;
	} ranges[] = {
		{ 0x5000, 0x5000, 0x5fff },
		{ 0x5000 | 1, 0x4000, 0x7fff },         /* bit 12 set, 13 clear: 4 pages */
		{ 0x4000 | 1, 0x4000, 0x5fff },         /* bit 12 clear: 2 pages */
		{ 0x7ffff000 | 1, 0, 0xffffffff },
		{ 0x7ffffffffffff000 | 1, 0, UINT64_MAX },
		{ 0xfffffffffffff000 | 1, 0, UINT64_MAX },
		{ 0xfffffffffffff000, 0xfffffffffffff000, UINT64_MAX },
	};
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP_ATS, 0);
	g_start_legacy(&g, RID, DID, &root);
	for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		g_submit(&g, 3ull | 0x1full << 16 | (uint64_t)RID << 32, ranges[i].q1);
		assert_int_equal(g.device_tlbs, i + 1);
		assert_int_equal(g.device_tlb.rid, RID);
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
	g_start_legacy(&g, RID, DID, &root);
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

#define PASID 0x45u

struct scalable {
	struct vtd_guest g;
	uint64_t first, second;
};

static void scalable_start(struct scalable *s)
{
	memset(s, 0, sizeof(*s));
	g_create(&s->g, G_CAP_ALL, G_ECAP_ALL, 0);
	s->first = g_table(&s->g);
	s->second = g_table(&s->g);
	g_scalable_context(&s->g, RID, 0);
	g_start_scalable(&s->g);
}

static uint64_t dma(struct scalable *s, uint32_t pasid, uint64_t iova)
{
	return g_request(&s->g, RID, pasid, iova, SNEST_READ, NULL);
}

static void pasid_iotlb_reaches_first_stage_spaces(void **state)
{
	struct scalable s;
	uint64_t leaf;

	(void)state;
	scalable_start(&s);
	g_pasid(&s.g, RID, PASID, PGTT_FIRST, DID, s.first, 0);
	g_map_first(&s.g, s.first, IOVA, G_DATA, 12, true);
	leaf = g_leaf_at(&s.g, s.first, IOVA, 12);
	static const struct {
		uint64_t q0, q1;
		bool reaches;
	} commands[] = {
		{ D_PIOTLB(2, DID, PASID), 0, true },
		{ D_PIOTLB(3, DID, PASID), IOVA, true },
		{ D_PIOTLB(3, DID, PASID), IOVA | 0x40, true },
		{ D_PIOTLB(3, DID, PASID), IOVA + 0x1000, false },
		{ D_PIOTLB(3, DID, PASID), 19, true },  /* AM beyond MAMV, as Linux sends */
		{ D_PIOTLB(3, DID, PASID), 63, true },
		{ D_PIOTLB(2, DID + 1, PASID), 0, false },
		{ D_PIOTLB(2, DID, PASID + 1), 0, false },
		{ D_IOTLB(1, 0), 0, true },
		{ D_IOTLB(2, DID), 0, true },
		{ D_IOTLB(2, DID + 1), 0, false },
		{ D_IOTLB(3, DID), 0x123000, true }, /* not this space's input: all of it */
	};

	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		image_put(&s.g.image, leaf, G_DATA | 0x67);
		g_submit(&s.g, D_IOTLB(1, 0), 0);
		assert_int_equal(dma(&s, PASID, IOVA), G_DATA);
		image_put(&s.g.image, leaf, (G_DATA + 0x1000) | 0x67);
		g_submit(&s.g, commands[i].q0, commands[i].q1);
		assert_int_equal(dma(&s, PASID, IOVA),
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
	g_map_first(&s.g, s.first, IOVA, ipa, 12, true);
	g_pasid(&s.g, RID, PASID, PGTT_NESTED, DID, s.first, s.second);
	assert_int_equal(dma(&s, PASID, IOVA), G_DATA);
	/* Second stage: the command's address is not an IOVA of this space. */
	second_leaf = g_leaf_at(&s.g, s.second, ipa, 12);
	image_put(&s.g.image, second_leaf, (G_DATA + 0x1000) | 3);
	assert_int_equal(dma(&s, PASID, IOVA), G_DATA);
	g_submit(&s.g, D_IOTLB(3, DID), ipa);
	assert_int_equal(dma(&s, PASID, IOVA), G_DATA + 0x1000);
	/* First stage. */
	first_leaf = g_leaf_at(&s.g, s.first, IOVA, 12);
	g_map(&s.g, s.second, ipa + 0x1000, G_DATA + 0x5000, 12, 3);
	image_put(&s.g.image, first_leaf, (ipa + 0x1000) | 0x67);
	g_submit(&s.g, D_PIOTLB(3, DID, PASID), IOVA);
	assert_int_equal(dma(&s, PASID, IOVA), G_DATA + 0x5000);
	g_destroy(&s.g);
}

static void pasid_cache_granularities(void **state)
{
	struct scalable s;
	uint64_t other;

	(void)state;
	scalable_start(&s);
	other = g_table(&s.g);
	g_map(&s.g, s.second, IOVA, G_DATA, 12, 3);
	g_map(&s.g, other, IOVA, G_DATA + 0x1000, 12, 3);
	static const struct {
		uint64_t q0;
		bool reaches;
	} commands[] = {
		{ D_PC(3, 0, 0), true },
		{ D_PC(0, DID, 0), true },
		{ D_PC(0, DID + 1, 0), false },
		{ D_PC(1, DID, PASID), true },
		{ D_PC(1, DID, PASID + 1), false },
		{ D_PC(1, DID + 1, PASID), false },
		{ D_CC(3, 0, RID, 0), true },
		{ D_CC(1, 0, 0, 0), true },
		{ D_CC(2, 0, 0, 0), true },
	};

	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		g_pasid(&s.g, RID, PASID, PGTT_SECOND, DID, 0, s.second);
		g_submit(&s.g, D_PC(3, 0, 0), 0);
		assert_int_equal(dma(&s, PASID, IOVA), G_DATA);
		g_pasid(&s.g, RID, PASID, PGTT_SECOND, DID + 5, 0, other);
		g_submit(&s.g, commands[i].q0, 0);
		assert_int_equal(dma(&s, PASID, IOVA),
		                 commands[i].reaches ? G_DATA + 0x1000 : G_DATA);
	}
	g_destroy(&s.g);
}

static void requests_without_pasid_use_rid_pasid(void **state)
{
	struct scalable s;

	(void)state;
	scalable_start(&s);
	g_scalable_context(&s.g, RID, PASID);
	g_pasid(&s.g, RID, PASID, PGTT_SECOND, DID, 0, s.second);
	g_map(&s.g, s.second, IOVA, G_DATA, 12, 3);
	assert_int_equal(dma(&s, NO, IOVA), G_DATA);
	assert_int_equal(dma(&s, PASID, IOVA), G_DATA);
	/* The PASID command names RID_PASID. */
	image_put(&s.g.image, g_pasid_at(&s.g, RID, PASID), 0);
	g_submit(&s.g, D_PC(1, DID, PASID), 0);
	assert_int_equal(dma(&s, NO, IOVA), UINT64_MAX);
	assert_int_equal(dma(&s, PASID, IOVA), UINT64_MAX);
	g_destroy(&s.g);
}

static void pasid_device_tlb_and_page_response_reach_their_hooks(void **state)
{
	struct scalable s;

	(void)state;
	scalable_start(&s);
	g_submit(&s.g, 8ull | (uint64_t)RID << 16 | (uint64_t)PASID << 32, 0x5000);
	assert_int_equal(s.g.device_tlb.rid, RID);
	assert_int_equal(s.g.device_tlb.pasid, PASID);
	assert_int_equal(s.g.device_tlb.first, 0x5000);
	assert_int_equal(s.g.device_tlb.last, 0x5fff);
	assert_int_equal(s.g.device_tlb.global, 0);
	g_submit(&s.g, 8ull | (uint64_t)RID << 16, 0x3ff000 | 0x800 | 1);
	assert_int_equal(s.g.device_tlb.global, 1);
	assert_int_equal(s.g.device_tlb.first, 0);
	assert_int_equal(s.g.device_tlb.last, 0x7fffff);

	g_put4(&s.g, 9ull | 1 << 4 | 1 << 5 | 0xfull << 12 | (uint64_t)RID << 16 |
	                     (uint64_t)PASID << 32,
	       4 | 0x155ull << 3, 0xaaaa, 0xbbbb);
	g_ring(&s.g);
	g_poll(&s.g, R_IQH, 8, UINT64_MAX, s.g.tail);
	assert_int_equal(s.g.responses, 1);
	assert_int_equal(s.g.response.rid, RID);
	assert_int_equal(s.g.response.pasid, PASID);
	assert_int_equal(s.g.response.group, 0x155);
	assert_int_equal(s.g.response.code, SNEST_VTD_RESPONSE_FAILURE);
	assert_int_equal(s.g.response.last, 1);
	assert_int_equal(s.g.response.private_data[1], 0xbbbb);
	g_destroy(&s.g);
}

/* ---- Waits --------------------------------------------------------------------------- */

static void wait_completes_only_after_readers_have_gone(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	g_dma(&l.g, RID, IOVA, SNEST_READ);
	snest_read_begin();
	g_put(&l.g, D_IOTLB(3, DID), IOVA);
	g_put_wait(&l.g, 1, 0x1111, 0);
	g_ring(&l.g);
	/* Fetched, but a reader could still use the old page. */
	assert_int_equal(g_read(&l.g, R_IQH, 8), l.g.tail);
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	assert_int_equal(g_status(&l.g, 1), 0);
	snest_read_end();
	g_poll_status(&l.g, 1, 0x1111);
	g_destroy(&l.g);
}

static void waits_complete_in_order(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	snest_read_begin();
	/* All to one slot: what stays there is the last. */
	for (unsigned i = 1; i <= 20; i++) {
		g_put(&l.g, D_IOTLB(3, DID), IOVA);
		g_put_wait(&l.g, 0, i, 0);
		g_put_wait(&l.g, i, i, 0);
		g_ring(&l.g);
	}
	for (unsigned i = 0; i <= 20; i++)
		assert_int_equal(g_status(&l.g, i), 0);
	snest_read_end();
	g_poll_status(&l.g, 20, 20);
	for (unsigned i = 1; i <= 20; i++)
		assert_int_equal(g_status(&l.g, i), i);
	assert_int_equal(g_status(&l.g, 0), 20);
	g_destroy(&l.g);
}

static void more_waits_than_fit_pause_the_queue(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	snest_read_begin();
	for (unsigned i = 1; i <= 100; i++) {
		g_put(&l.g, D_IOTLB(3, DID), IOVA);
		g_put_wait(&l.g, i, i, 0);
	}
	g_ring(&l.g);
	assert_int_not_equal(g_read(&l.g, R_IQH, 8), l.g.tail);
	snest_read_end();
	for (unsigned i = 1; i <= 100; i++)
		g_poll_status(&l.g, i, i);
	assert_int_equal(g_read(&l.g, R_IQH, 8), l.g.tail);
	g_destroy(&l.g);
}

static void fence_holds_later_descriptors(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP_ATS);
	g_dma(&l.g, RID, IOVA, SNEST_READ);
	snest_read_begin();
	g_put(&l.g, D_IOTLB(3, DID), IOVA);
	g_put_wait(&l.g, 1, 1, WAIT_FN);
	g_put(&l.g, 3ull | (uint64_t)RID << 32, IOVA);
	g_put_wait(&l.g, 2, 2, 0);
	g_ring(&l.g);
	assert_int_equal(l.g.device_tlbs, 0);
	assert_int_equal(g_read(&l.g, R_IQH, 8), l.g.tail - 32);
	snest_read_end();
	g_poll_status(&l.g, 2, 2);
	assert_int_equal(g_status(&l.g, 1), 1);
	assert_int_equal(l.g.device_tlbs, 1);
	g_destroy(&l.g);
}

static void wait_interrupt_is_masked_pending_and_sent(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	g_write(&l.g, R_IEDATA, 4, 0x4321);
	g_write(&l.g, R_IEADDR, 4, 0xfee00000);
	g_write(&l.g, R_IEUADDR, 4, 0x12);
	assert_int_equal(g_read(&l.g, R_IECTL, 4), IM);
	/* Status and interrupt together; masked. */
	g_put(&l.g, D_IOTLB(1, 0), 0);
	g_put_wait(&l.g, 0, 7, 1 << 4);
	g_ring(&l.g);
	g_poll(&l.g, R_ICS, 4, 1, 1);
	assert_int_equal(g_status(&l.g, 0), 7);
	g_poll(&l.g, R_IECTL, 4, IP, IP);
	assert_int_equal(l.g.msis, 0);
	/* Unmasked: sent. */
	g_write(&l.g, R_IECTL, 4, 0);
	assert_int_equal(l.g.msis, 1);
	assert_int_equal(l.g.msi_address, 0x12fee00000);
	assert_int_equal(l.g.msi_data, 0x4321);
	assert_int_equal(g_read(&l.g, R_IECTL, 4), 0);
	/* While IWC stays set there is no other. */
	g_put(&l.g, WAIT_IF, 0);
	g_ring(&l.g);
	assert_int_equal(l.g.msis, 1);
	g_write(&l.g, R_ICS, 4, 1);
	assert_int_equal(g_read(&l.g, R_ICS, 4), 0);
	g_put(&l.g, WAIT_IF, 0);
	g_ring(&l.g);
	assert_int_equal(l.g.msis, 2);
	/* Masked again, and cleared before it is unmasked: no interrupt. */
	g_write(&l.g, R_ICS, 4, 1);
	g_write(&l.g, R_IECTL, 4, IM);
	g_put(&l.g, WAIT_IF, 0);
	g_ring(&l.g);
	assert_int_equal(g_read(&l.g, R_IECTL, 4), IM | IP);
	g_write(&l.g, R_ICS, 4, 1);
	assert_int_equal(g_read(&l.g, R_IECTL, 4), IM);
	g_write(&l.g, R_IECTL, 4, 0);
	assert_int_equal(l.g.msis, 2);
	g_destroy(&l.g);
}

static void wait_with_nothing_to_do_is_legal(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	g_put(&l.g, 5, 0);
	g_put(&l.g, 5 | WAIT_FN | 1 << 7, 0);
	/* The status goes where no memory is. */
	g_put(&l.g, WAIT_SW, IMAGE_OUTSIDE);
	g_put_wait(&l.g, 3, 3, 0);
	g_ring(&l.g);
	g_poll_status(&l.g, 3, 3);
	assert_int_equal(fsts(&l.g), 0);
	g_destroy(&l.g);
}

static void pin_holds_a_wait(void **state)
{
	struct legacy l;
	struct snest_device *device;
	struct snest_pin pin;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	assert_int_equal(snest_vtd_device(l.g.vtd, RID, &device), 0);
	assert_int_equal(snest_pin(device, NO, IOVA, 16, SNEST_READ, &pin, NULL), 0);
	g_put(&l.g, D_IOTLB(3, DID), IOVA);
	g_put_wait(&l.g, 1, 1, 0);
	g_ring(&l.g);
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	assert_int_equal(g_status(&l.g, 1), 0);
	snest_unpin(&pin);
	g_poll_status(&l.g, 1, 1);
	g_destroy(&l.g);
}

static void sync_mode_completes_before_the_write_returns(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	g_start_legacy(&g, RID, DID, &root);
	for (unsigned i = 1; i < 300; i++) {
		g_put(&g, D_IOTLB(3, DID), IOVA);
		g_put_wait(&g, 0, i, i % 3 ? 0 : WAIT_FN);
		g_ring(&g);
		assert_int_equal(g_status(&g, 0), i);
	}
	g_destroy(&g);
}

/* ---- Errors ---------------------------------------------------------------------------- */

static void bad_descriptors_stop_the_queue_with_their_code(void **state)
{
	static const struct {
		uint64_t q0, q1;
		unsigned code;
	} bad[] = {
		{ 0, 0, 3 },
		{ 10, 0, 3 },
		{ 15, 0, 3 },
		{ D_IOTLB(1, 0) | 1 << 9, 0, 3 },  /* upper type bits */
		{ D_PIOTLB(2, DID, 1), 0, 3 },     /* 256 bits only */
		{ D_PC(3, 0, 0), 0, 3 },
		{ 3, 0, 3 },                       /* no device TLBs announced */
		{ 9, 0, 3 },
		{ D_CC(0, 0, 0, 0), 0, 4 },
		{ D_CC(1, 0, 0, 0) | 1 << 6, 0, 4 },
		{ D_CC(1, 0, 0, 0) | 1ull << 50, 0, 4 },
		{ D_CC(1, 0, 0, 0), 1, 4 },
		{ D_IOTLB(0, 0), 0, 4 },
		{ D_IOTLB(1, 0) | 1 << 8, 0, 4 },
		{ D_IOTLB(1, 0) | 1ull << 32, 0, 4 },
		{ D_IOTLB(1, 0), 1 << 7, 4 },
		{ D_IOTLB(3, DID), 0x80 | IOVA, 4 },
		{ D_IOTLB(3, DID), 19, 4 },        /* AM > MAMV */
		{ D_IOTLB(3, DID), 63, 4 },
		{ 4 | 1 << 5, 0, 4 },
		{ 4 | 1ull << 48, 0, 4 },
		{ 4, 1, 4 },
		{ WAIT_SW | 1 << 8, 0, 4 },
		{ WAIT_SW | 1u << 31, 0, 4 },
		{ WAIT_SW, 1, 4 },
		{ WAIT_SW, 2, 4 },
	};
	struct legacy l;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t at;

		legacy_start(&l, G_CAP_CM, G_ECAP);
		g_put_wait(&l.g, 0, 1, 0);
		at = l.g.tail;
		g_put(&l.g, bad[i].q0, bad[i].q1);
		g_put_wait(&l.g, 0, 2, 0);
		g_ring(&l.g);
		assert_int_equal(fsts(&l.g), 1 << 4);
		if (iqei(&l.g) != bad[i].code)
			fail_msg("%u: code %u", i, (unsigned)iqei(&l.g));
		assert_int_equal(g_read(&l.g, R_IQH, 8), at);
		assert_int_equal(g_status(&l.g, 0), 1);
		/* Halted: another tail changes nothing. */
		g_put_wait(&l.g, 1, 3, 0);
		g_ring(&l.g);
		assert_int_equal(g_read(&l.g, R_IQH, 8), at);
		/* Cleared without repair: the same again. */
		g_write(&l.g, R_FSTS, 4, 1 << 4);
		assert_int_equal(fsts(&l.g), 1 << 4);
		/* Linux overwrites the slot with its wait, then clears. */
		image_put(&l.g.image, G_QUEUE + at, WAIT_SW | 4ull << 32);
		image_put(&l.g.image, G_QUEUE + at + 8, G_STATUS + 8);
		g_write(&l.g, R_FSTS, 4, 1 << 4);
		g_poll_status(&l.g, 1, 3);
		assert_int_equal(g_status(&l.g, 2), 4);
		assert_int_equal(fsts(&l.g), 0);
		g_destroy(&l.g);
	}
}

static void bad_wide_descriptors_stop_the_queue(void **state)
{
	static const struct {
		uint64_t q[4];
		unsigned code;
	} bad[] = {
		{ { D_PIOTLB(0, DID, 1) }, 4 },
		{ { D_PIOTLB(1, DID, 1) }, 4 },
		{ { D_PIOTLB(2, DID, 1) | 1 << 6 }, 4 },
		{ { D_PIOTLB(2, DID, 1) | 1ull << 52 }, 4 },
		{ { D_PIOTLB(2, DID, 1), 1 << 7 }, 4 },
		{ { D_PC(2, DID, 1) }, 4 },
		{ { D_PC(3, DID, 1) | 1 << 6 }, 4 },
		{ { D_PC(3, DID, 1), 1 }, 4 },
		{ { D_IOTLB(1, 0), 0, 1 }, 4 },
		{ { D_IOTLB(1, 0), 0, 0, 1 }, 4 },
		{ { 3 | 1 << 21 }, 4 },
		{ { 3, 2 }, 4 },
		{ { 8, 2 }, 4 },
		{ { 9, 1 }, 4 },
		{ { 9, 0x1000 }, 4 },
		{ { 9, 0, 1 }, 4 }, /* private data without its flag */
		{ { 9 | 1ull << 52 }, 4 },
	};
	struct scalable s;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		scalable_start(&s);
		g_put4(&s.g, bad[i].q[0], bad[i].q[1], bad[i].q[2], bad[i].q[3]);
		g_ring(&s.g);
		assert_int_equal(fsts(&s.g), 1 << 4);
		if (iqei(&s.g) != bad[i].code)
			fail_msg("%u: code %u", i, (unsigned)iqei(&s.g));
		g_destroy(&s.g);
	}
}

static void tail_beyond_the_ring_is_an_error(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	g_put_wait(&l.g, 0, 1, 0);
	g_write(&l.g, R_IQT, 8, 0x1000);
	assert_int_equal(fsts(&l.g), 1 << 4);
	assert_int_equal(iqei(&l.g), 1);
	assert_int_equal(g_read(&l.g, R_IQH, 8), 0);
	g_write(&l.g, R_IQT, 8, 0x10);
	g_write(&l.g, R_FSTS, 4, 1 << 4);
	g_poll_status(&l.g, 0, 1);
	g_destroy(&l.g);
}

static void descriptor_outside_memory_is_a_fetch_error(void **state)
{
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_write(&g, R_IQA, 8, IMAGE_OUTSIDE);
	g_command(&g, QIE, true);
	g_write(&g, R_IQT, 4, 0x40);
	assert_int_equal(fsts(&g), 1 << 4);
	assert_int_equal(iqei(&g), 2);
	assert_int_equal(g_read(&g, R_IQH, 8), 0);
	g_command(&g, QIE, false);
	/* A ring whose second page is not memory: what can be fetched is executed. */
	g_write(&g, R_FSTS, 4, 1 << 4);
	g_write(&g, R_IQA, 8, (IMAGE_SIZE - 4096) | 1);
	g_write(&g, R_IQT, 8, 0);
	for (unsigned i = 0; i < 256; i++)
		image_put(&g.image, IMAGE_SIZE - 4096 + i * 16, 4);
	g_command(&g, QIE, true);
	g_write(&g, R_IQT, 4, 0x1800);
	assert_int_equal(iqei(&g), 2);
	assert_int_equal(g_read(&g, R_IQH, 8), 0x1000);
	assert_int_equal(g.interrupts, 256);
	g_destroy(&g);
}

static void width_and_mode_are_checked_when_the_queue_runs(void **state)
{
	static const struct {
		uint64_t ecap, iqa, rtaddr, tail;
		unsigned code;
	} cases[] = {
		{ G_ECAP, 1 << 11, 0, 0x20, 5 },          /* 256 bits without scalable mode */
		{ G_ECAP_SS, 0, 1 << 10, 0x10, 5 },       /* 128 bits in scalable mode */
		{ G_ECAP_SS, 1 << 11, 1 << 10, 0x30, 6 }, /* tail in the middle of one */
		{ G_ECAP_SS, 1 << 11, 2 << 10, 0x20, 7 },
		{ G_ECAP, 0, 3 << 10, 0x10, 7 },
		{ G_ECAP, 0, 1 << 10, 0x10, 7 },
		{ G_ECAP_SS, 1 << 11, 3 << 10, 0x20, 0 }, /* abort mode: the queue works */
		{ G_ECAP_SS, 1 << 11, 0, 0x20, 0 },       /* legacy mode with wide descriptors */
		{ G_ECAP_SS, 0, 0, 0x10, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vtd_guest g;

		g_create(&g, G_CAP_CM, cases[i].ecap, 0);
		g_set_root(&g, G_ROOT | cases[i].rtaddr);
		image_put(&g.image, G_QUEUE, 5);
		g_write(&g, R_IQA, 8, G_QUEUE | cases[i].iqa);
		g_command(&g, QIE, true);
		assert_int_equal(fsts(&g), 0);
		g_write(&g, R_IQT, 4, cases[i].tail);
		if (iqei(&g) != cases[i].code)
			fail_msg("%u: code %u", i, (unsigned)iqei(&g));
		assert_int_equal(fsts(&g), cases[i].code ? 1 << 4 : 0);
		g_destroy(&g);
	}
}

static void device_tlb_timeout_aborts_waits(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP_ATS);
	l.g.device_tlb_result = -ETIMEDOUT;
	snest_read_begin();
	g_put(&l.g, D_IOTLB(3, DID), IOVA);
	g_put_wait(&l.g, 1, 1, 0);
	g_put(&l.g, 3ull | (uint64_t)RID << 32, IOVA);
	g_put_wait(&l.g, 2, 2, 0);
	g_ring(&l.g);
	snest_read_end();
	assert_int_equal(fsts(&l.g), 1 << 6);
	assert_int_equal(g_read(&l.g, R_IQERCD, 8) >> 32, RID);
	assert_int_equal(g_read(&l.g, R_IQH, 8), l.g.tail - 16);
	/* What was pending never completes; what was not fetched does after the clear. */
	l.g.device_tlb_result = 0;
	g_write(&l.g, R_FSTS, 4, 1 << 6);
	g_poll_status(&l.g, 2, 2);
	assert_int_equal(g_status(&l.g, 1), 0);
	g_destroy(&l.g);
}

static void queue_error_raises_the_fault_event(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	g_write(&l.g, R_FEDATA, 4, 0x77);
	g_write(&l.g, R_FEADDR, 4, 0xfee01000);
	g_write(&l.g, R_FECTL, 4, 0);
	g_put(&l.g, 0, 0);
	g_ring(&l.g);
	assert_int_equal(l.g.msis, 1);
	assert_int_equal(l.g.msi_data, 0x77);
	g_destroy(&l.g);
}

/* ---- Geometry and bounds ---------------------------------------------------------------- */

static void every_ring_size_wraps(void **state)
{
	(void)state;
	for (unsigned wide = 0; wide < 2; wide++) {
		for (unsigned qs = 0; qs < 4; qs++) {
			struct vtd_guest g;

			g_create(&g, G_CAP_CM, wide ? G_ECAP_SS : G_ECAP, SNEST_VTD_SYNC);
			if (wide)
				g_set_root(&g, G_ROOT | 1 << 10);
			g_queue_on(&g, qs, wide);
			for (unsigned i = 1; i < 40; i++) {
				unsigned room = (unsigned)(g.queue_size / g.entry) - 1;

				for (unsigned n = 1; n < (i % 3 ? i : room); n++)
					g_put(&g, 4, 0);
				g_put_wait(&g, 0, i, 0);
				g_ring(&g);
				assert_int_equal(g_status(&g, 0), i);
				assert_int_equal(g_read(&g, R_IQH, 8), g.tail);
			}
			g_destroy(&g);
		}
	}
}

static void largest_ring_is_used_to_its_last_slot(void **state)
{
	struct vtd_guest g;
	const uint64_t base = 0x300000;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	for (unsigned i = 0; i < 32768; i++)
		image_put(&g.image, base + i * 16, 4);
	g_write(&g, R_IQA, 8, base | 7);
	g_command(&g, QIE, true);
	g_write(&g, R_IQT, 4, 0x7fff0);
	assert_int_equal(g_read(&g, R_IQH, 8), 0x7fff0);
	assert_int_equal(g.interrupts, 32767);
	g_write(&g, R_IQT, 4, 0);
	assert_int_equal(g_read(&g, R_IQH, 8), 0);
	assert_int_equal(g.interrupts, 32768);
	g_destroy(&g);
}

static void kick(void *opaque)
{
	__atomic_fetch_add(&((struct vtd_guest *)opaque)->kicks, 1, __ATOMIC_RELAXED);
}

static void work_per_trap_is_bounded_and_resumes(void **state)
{
	struct vtd_guest g;
	struct snest_vtd_hooks hooks = {
		.size = sizeof(hooks), .opaque = &g, .kick = kick, .interrupt_entries = g_interrupts,
	};
	struct snest_vtd_config config = {
		.size = sizeof(config), .flags = SNEST_VTD_RAW, .cap = G_CAP_CM, .ecap = G_ECAP,
		.budget = 10, .hooks = &hooks,
	};

	(void)state;
	g_create_config(&g, &config);
	g_queue_on(&g, 0, false);
	for (unsigned i = 0; i < 25; i++)
		g_put(&g, 4, 0);
	g_ring(&g);
	assert_int_equal(g.interrupts, 10);
	assert_int_equal(g.kicks, 1);
	assert_int_equal(g_read(&g, R_IQH, 8), 160);
	assert_int_equal(snest_vtd_run(g.vtd), -EAGAIN);
	assert_int_equal(g.interrupts, 20);
	assert_int_equal(snest_vtd_run(g.vtd), 0);
	assert_int_equal(g.interrupts, 25);
	assert_int_equal(snest_vtd_run(g.vtd), 0);
	g_destroy(&g);
}

static void queue_goes_on_in_the_background_without_a_kick(void **state)
{
	struct vtd_guest g;
	struct snest_vtd_config config = {
		.size = sizeof(config), .flags = SNEST_VTD_RAW, .cap = G_CAP_CM, .ecap = G_ECAP,
		.budget = 3,
	};

	(void)state;
	g_create_config(&g, &config);
	g_queue_on(&g, 0, false);
	for (unsigned i = 0; i < 200; i++)
		g_put(&g, 4, 0);
	g_put_wait(&g, 0, 5, 0);
	g_ring(&g);
	g_poll_status(&g, 0, 5);
	g_destroy(&g);
}

static void queue_off_waits_for_what_is_pending_and_resets_the_head(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	snest_read_begin();
	g_put(&l.g, D_IOTLB(1, 0), 0);
	g_put_wait(&l.g, 1, 1, 0);
	g_ring(&l.g);
	g_write(&l.g, R_GCMD, 4, TE);
	assert_true(g_read(&l.g, R_GSTS, 4) & QIE);
	assert_int_equal(g_status(&l.g, 1), 0);
	/* Off as it is: nothing more is fetched. */
	g_put_wait(&l.g, 2, 2, 0);
	g_ring(&l.g);
	snest_read_end();
	g_poll(&l.g, R_GSTS, 4, QIE, 0);
	assert_int_equal(g_status(&l.g, 1), 1);
	assert_int_equal(g_status(&l.g, 2), 0);
	assert_int_equal(g_read(&l.g, R_IQH, 8), 0);
	g_destroy(&l.g);
}

static void random_descriptors_do_no_harm(void **state)
{
	struct scalable s;

	(void)state;
	scalable_start(&s);
	g_pasid(&s.g, RID, PASID, PGTT_FIRST, DID, s.first, 0);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t q[4];

		for (unsigned j = 0; j < 4; j++)
			q[j] = j < 2 || !(image_random(&s.g.image) & 7) ? image_random(&s.g.image)
			                                                 : 0;
		if (image_random(&s.g.image) & 3) {
			q[0] = (q[0] & image_random(&s.g.image) & ~0xfffull) |
			       (image_random(&s.g.image) & 0x3f);
			q[1] &= image_random(&s.g.image) & image_random(&s.g.image);
		}
		/* No status into our own tables. */
		if ((q[0] & 0xf) == 5)
			q[1] = IMAGE_OUTSIDE | (q[1] & 0xf);
		g_put4(&s.g, q[0], q[1], q[2], q[3]);
		g_ring(&s.g);
		if (fsts(&s.g)) {
			s.g.tail = g_read(&s.g, R_IQH, 8);
			g_write(&s.g, R_IQT, 4, s.g.tail);
			g_write(&s.g, R_FSTS, 4, UINT32_MAX);
		}
		if (!(i & 15))
			dma(&s, PASID, IOVA);
	}
	g_poll(&s.g, R_IQH, 8, UINT64_MAX, s.g.tail);
	g_destroy(&s.g);
}

/* ---- Two vCPUs -------------------------------------------------------------------------- */

struct submitter {
	struct vtd_guest *g;
	pthread_mutex_t *lock; /* the driver's own, around slot and tail */
	unsigned slot;
};

static void *submit_many(void *opaque)
{
	struct submitter *s = opaque;

	for (uint32_t i = 1; i <= 500; i++) {
		pthread_mutex_lock(s->lock);
		g_put(s->g, D_IOTLB(3, DID), IOVA);
		g_put_wait(s->g, s->slot, i, 0);
		g_ring(s->g);
		pthread_mutex_unlock(s->lock);
		g_poll_status(s->g, s->slot, i);
	}
	return NULL;
}

static void two_vcpus_share_the_queue(void **state)
{
	struct legacy l;
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct submitter s[2];
	pthread_t thread;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	for (unsigned i = 0; i < 2; i++)
		s[i] = (struct submitter){ &l.g, &lock, i };
	assert_int_equal(pthread_create(&thread, NULL, submit_many, &s[1]), 0);
	submit_many(&s[0]);
	pthread_join(thread, NULL);
	g_poll(&l.g, R_IQH, 8, UINT64_MAX, l.g.tail);
	g_destroy(&l.g);
}

/* ---- Raw descriptors ---------------------------------------------------------------------- */

static void raw_descriptors_are_handled_on_return(void **state)
{
	struct vtd_guest g;
	uint64_t root, q[4][2] = { { D_IOTLB(3, DID), IOVA } };
	enum snest_vtd_queue_error error;
	size_t count = 1;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	root = g_table(&g);
	g_context(&g, RID, DID, root);
	g_map(&g, root, IOVA, G_DATA, 12, 3);
	assert_int_equal(snest_vtd_set_root(g.vtd, G_ROOT), 0);
	assert_int_equal(snest_vtd_enable(g.vtd, true), 0);
	assert_int_equal(g_dma(&g, RID, IOVA, SNEST_READ), G_DATA);
	image_put(&g.image, g_leaf_at(&g, root, IOVA, 12), (G_DATA + 0x1000) | 3);
	assert_int_equal(snest_vtd_invalidate(g.vtd, q, 16, &count, &error), 0);
	assert_int_equal(count, 1);
	assert_int_equal(g_dma(&g, RID, IOVA, SNEST_READ), G_DATA + 0x1000);

	/* Stops at the first bad one, and says how far it got and why. */
	q[1][0] = WAIT_SW;
	q[1][1] = G_STATUS;
	q[2][0] = D_IOTLB(3, DID);
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
	assert_int_equal(g_dma(&g, RID, G_DATA, SNEST_READ), G_DATA);
	g_destroy(&g);
}

static void raw_descriptors_may_be_longer_with_zeros(void **state)
{
	struct vtd_guest g;
	uint64_t q[2][6] = { { D_IOTLB(1, 0) }, { D_IOTLB(1, 0), 0, 0, 0, 0, 1 } };
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
		cmocka_unit_test(wait_completes_only_after_readers_have_gone),
		cmocka_unit_test(waits_complete_in_order),
		cmocka_unit_test(more_waits_than_fit_pause_the_queue),
		cmocka_unit_test(fence_holds_later_descriptors),
		cmocka_unit_test(wait_interrupt_is_masked_pending_and_sent),
		cmocka_unit_test(wait_with_nothing_to_do_is_legal),
		cmocka_unit_test(pin_holds_a_wait),
		cmocka_unit_test(sync_mode_completes_before_the_write_returns),
		cmocka_unit_test(bad_descriptors_stop_the_queue_with_their_code),
		cmocka_unit_test(bad_wide_descriptors_stop_the_queue),
		cmocka_unit_test(tail_beyond_the_ring_is_an_error),
		cmocka_unit_test(descriptor_outside_memory_is_a_fetch_error),
		cmocka_unit_test(width_and_mode_are_checked_when_the_queue_runs),
		cmocka_unit_test(device_tlb_timeout_aborts_waits),
		cmocka_unit_test(queue_error_raises_the_fault_event),
		cmocka_unit_test(every_ring_size_wraps),
		cmocka_unit_test(largest_ring_is_used_to_its_last_slot),
		cmocka_unit_test(work_per_trap_is_bounded_and_resumes),
		cmocka_unit_test(queue_goes_on_in_the_background_without_a_kick),
		cmocka_unit_test(queue_off_waits_for_what_is_pending_and_resets_the_head),
		cmocka_unit_test(random_descriptors_do_no_harm),
		cmocka_unit_test(two_vcpus_share_the_queue),
		cmocka_unit_test(raw_descriptors_are_handled_on_return),
		cmocka_unit_test(raw_descriptors_may_be_longer_with_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
