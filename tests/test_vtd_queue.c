/* SPDX-License-Identifier: MIT */
/*
 * The VT-d invalidation queue itself: errors and repair, ring geometry, bounded
 * work, hostile descriptors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_guest.h"

static uint64_t fsts(struct vtd_guest *g)
{
	return g_read(g, R_FSTS, 4);
}

static uint64_t iqei(struct vtd_guest *g)
{
	return g_read(g, R_IQERCD, 8) & 0xf;
}

/* ---- Errors ---------------------------------------------------------------------------- */

static void bad_descriptors_stop_the_queue_with_their_code(void **state)
{
	static const struct {
		uint64_t q0, q1;
		unsigned code;
	} bad[] = {
		{0, 0, 3},
		{10, 0, 3},
		{15, 0, 3},
		{D_IOTLB(1, 0) | 1 << 9, 0, 3}, /* upper type bits */
		{D_PIOTLB(2, G_DID, 1), 0, 3},  /* 256 bits only */
		{D_PC(3, 0, 0), 0, 3},
		{3, 0, 3}, /* no device TLBs announced */
		{9, 0, 3},
		{D_CC(0, 0, 0, 0), 0, 4},
		{D_CC(1, 0, 0, 0) | 1 << 6, 0, 4},
		{D_CC(1, 0, 0, 0) | 1ull << 50, 0, 4},
		{D_CC(1, 0, 0, 0), 1, 4},
		{D_IOTLB(0, 0), 0, 4},
		{D_IOTLB(1, 0) | 1 << 8, 0, 4},
		{D_IOTLB(1, 0) | 1ull << 32, 0, 4},
		{D_IOTLB(1, 0), 1 << 7, 4},
		{D_IOTLB(3, G_DID), 0x80 | G_IOVA, 4},
		{D_IOTLB(3, G_DID), 19, 4}, /* AM > MAMV */
		{D_IOTLB(3, G_DID), 63, 4},
		{4 | 1 << 5, 0, 4},
		{4 | 1ull << 48, 0, 4},
		{4, 1, 4},
		{WAIT_SW | 1 << 8, 0, 4},
		{WAIT_SW | 1u << 31, 0, 4},
		{WAIT_SW, 1, 4},
		{WAIT_SW, 2, 4},
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
		{{D_PIOTLB(0, G_DID, 1)}, 4},
		{{D_PIOTLB(1, G_DID, 1)}, 4},
		{{D_PIOTLB(2, G_DID, 1) | 1 << 6}, 4},
		{{D_PIOTLB(2, G_DID, 1) | 1ull << 52}, 4},
		{{D_PIOTLB(2, G_DID, 1), 1 << 7}, 4},
		{{D_PC(2, G_DID, 1)}, 4},
		{{D_PC(3, G_DID, 1) | 1 << 6}, 4},
		{{D_PC(3, G_DID, 1), 1}, 4},
		{{D_IOTLB(1, 0), 0, 1}, 4},
		{{D_IOTLB(1, 0), 0, 0, 1}, 4},
		{{3 | 1 << 21}, 4},
		{{3, 2}, 4},
		{{8, 2}, 4},
		{{9, 1}, 4},
		{{9, 0x1000}, 4},
		{{9, 0, 1}, 4}, /* private data without its flag */
		{{9 | 1ull << 52}, 4},
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
		{G_ECAP, 1 << 11, 0, 0x20, 5},          /* 256 bits without scalable mode */
		{G_ECAP_SS, 0, 1 << 10, 0x10, 5},       /* 128 bits in scalable mode */
		{G_ECAP_SS, 1 << 11, 1 << 10, 0x30, 6}, /* tail in the middle of one */
		{G_ECAP_SS, 1 << 11, 2 << 10, 0x20, 7},
		{G_ECAP, 0, 3 << 10, 0x10, 7},
		{G_ECAP, 0, 1 << 10, 0x10, 7},
		{G_ECAP_SS, 1 << 11, 3 << 10, 0x20, 0}, /* abort mode: the queue works */
		{G_ECAP_SS, 1 << 11, 0, 0x20, 0},       /* legacy mode with wide descriptors */
		{G_ECAP_SS, 0, 0, 0x10, 0},
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
	g_put(&l.g, D_IOTLB(3, G_DID), G_IOVA);
	g_put_wait(&l.g, 1, 1, 0);
	g_put(&l.g, 3ull | (uint64_t)G_RID << 32, G_IOVA);
	g_put_wait(&l.g, 2, 2, 0);
	g_ring(&l.g);
	snest_read_end();
	assert_int_equal(fsts(&l.g), 1 << 6);
	assert_int_equal(g_read(&l.g, R_IQERCD, 8) >> 32, G_RID);
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
		.size = sizeof(hooks),
		.opaque = &g,
		.kick = kick,
		.interrupt_entries = g_interrupts,
	};
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_CM,
		.ecap = G_ECAP,
		.budget = 10,
		.hooks = &hooks,
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
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_CM,
		.ecap = G_ECAP,
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
	g_pasid(&s.g, G_RID, G_PASID, PGTT_FIRST, G_DID, s.first, 0);
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
			scalable_dma(&s, G_PASID, G_IOVA);
	}
	g_poll(&s.g, R_IQH, 8, UINT64_MAX, s.g.tail);
	g_destroy(&s.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
