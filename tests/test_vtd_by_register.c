/* SPDX-License-Identifier: MIT */
/*
 * VT-d invalidation by registers, as FreeBSD does it under caching mode: CCMD and
 * IOTLB with their granularities, handshakes, and what makes them do nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_guest.h"

#define RID 0x18u
#define DID 7u

/* Without a queue, as FreeBSD runs under caching mode. */
static void start_without_queue(struct vtd_guest *g, uint32_t flags, uint64_t *root)
{
	g_create(g, G_CAP_CM & ~(1ull << 63), G_ECAP, flags);
	*root = g_table(g);
	g_context(g, RID, DID, *root);
	g_set_root(g, G_ROOT);
	g_command(g, TE, true);
}

static unsigned iotlb(struct vtd_guest *g, unsigned granularity, uint32_t did, uint64_t iva)
{
	uint64_t value;

	g_write(g, R_IVA, 8, iva);
	g_write(g, R_IOTLB, 8, 1ull << 63 | (uint64_t)granularity << 60 | (uint64_t)did << 32);
	g_poll(g, R_IOTLB, 8, 1ull << 63, 0);
	value = g_read(g, R_IOTLB, 8);
	return (unsigned)(value >> 57 & 3);
}

static unsigned ccmd(struct vtd_guest *g, unsigned granularity, uint32_t did, uint32_t sid,
                     unsigned fm)
{
	g_write(g, R_CCMD, 8,
	        1ull << 63 | (uint64_t)granularity << 61 | (uint64_t)fm << 32 |
	                (uint64_t)sid << 16 | did);
	g_poll(g, R_CCMD, 8, 1ull << 63, 0);
	return (unsigned)(g_read(g, R_CCMD, 8) >> 59 & 3);
}

static void iotlb_register_granularities(void **state)
{
	struct vtd_guest g;
	uint64_t root, leaf;

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		start_without_queue(&g, round ? SNEST_VTD_SYNC : 0, &root);
		g_map(&g, root, 0x5000, G_DATA, 12, 3);
		leaf = g_leaf_at(&g, root, 0x5000, 12);
		for (unsigned granularity = 1; granularity <= 3; granularity++) {
			uint64_t to = G_DATA + granularity * 0x1000;
			uint64_t before = g_dma(&g, RID, 0x5000, SNEST_READ);

			image_put(&g.image, leaf, to | 3);
			/* Another domain, another page: nothing that is ours has to go. */
			if (granularity > 1)
				iotlb(&g, granularity, DID + 1, 0x5000);
			assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), before);
			assert_int_equal(iotlb(&g, granularity, DID, 0x5000), granularity);
			assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), to);
		}
		/* Nothing is done for a reserved granularity and for AM beyond MAMV. */
		image_put(&g.image, leaf, G_DATA | 3);
		assert_int_equal(iotlb(&g, 0, DID, 0x5000), 0);
		assert_int_equal(iotlb(&g, 3, DID, 0x5000 | 19), 0);
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA + 0x3000);
		assert_int_equal(iotlb(&g, 3, DID, 18), 3);
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
		g_destroy(&g);
	}
}

static void ccmd_register_granularities(void **state)
{
	struct vtd_guest g;
	uint64_t root, other, roots[2];

	(void)state;
	start_without_queue(&g, 0, &root);
	other = g_table(&g);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	g_map(&g, other, 0x5000, G_DATA + 0x1000, 12, 3);
	roots[0] = root;
	roots[1] = other;
	for (unsigned i = 0; i < 4; i++) {
		unsigned granularity = i < 3 ? i + 1 : 3;
		uint64_t before = G_DATA + (i & 1) * 0x1000, after = G_DATA + (~i & 1) * 0x1000;

		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), before);
		g_context(&g, RID, DID + ((i + 1) & 1), roots[~i & 1]);
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), before);
		/* A device-selective command ignores the DID; the last one masks functions. */
		assert_int_equal(ccmd(&g, granularity, granularity == 3 ? 0 : DID + (i & 1),
		                      i == 3 ? RID | 7 : RID, i == 3 ? 3 : 0),
		                 granularity);
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), after);
	}
	assert_int_equal(ccmd(&g, 0, DID, RID, 0), 0);
	g_destroy(&g);
}

static void register_invalidation_is_ignored_while_the_queue_is_on(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	start_without_queue(&g, 0, &root);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
	g_queue_on(&g, 0, false);
	image_put(&g.image, g_leaf_at(&g, root, 0x5000, 12), 0);
	assert_int_equal(iotlb(&g, 1, 0, 0), 0);
	assert_int_equal(ccmd(&g, 1, 0, 0, 0), 0);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
	g_command(&g, QIE, false);
	assert_int_equal(iotlb(&g, 1, 0, 0), 1);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), UINT64_MAX);
	g_destroy(&g);
}

static void busy_register_ignores_writes(void **state)
{
	struct vtd_guest g;
	uint64_t root, value;

	(void)state;
	start_without_queue(&g, 0, &root);
	snest_read_begin();
	g_write(&g, R_IOTLB, 8, 1ull << 63 | 1ull << 60);
	value = g_read(&g, R_IOTLB, 8);
	assert_int_equal(value >> 63, 1);
	g_write(&g, R_IOTLB, 8, 0);
	g_write(&g, R_IOTLB + 4, 4, 0x12345678);
	assert_int_equal(g_read(&g, R_IOTLB, 8), value);
	snest_read_end();
	g_poll(&g, R_IOTLB, 8, 1ull << 63, 0);
	g_destroy(&g);
}

/* What IVT began stays what it was, however the address register changes meanwhile. */
static void address_is_taken_when_the_command_is_given(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	start_without_queue(&g, 0, &root);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	g_dma(&g, RID, 0x5000, SNEST_READ);
	image_put(&g.image, g_leaf_at(&g, root, 0x5000, 12), 0);
	snest_read_begin();
	g_write(&g, R_IVA, 8, 0x5000);
	g_write(&g, R_IOTLB, 8, 1ull << 63 | 3ull << 60 | (uint64_t)DID << 32);
	/* A mask beyond MAMV would do nothing, and say so. */
	g_write(&g, R_IVA, 8, 0x9000 | 63);
	snest_read_end();
	g_poll(&g, R_IOTLB, 8, 1ull << 63, 0);
	assert_int_equal(g_read(&g, R_IOTLB, 8) >> 57 & 3, 3);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), UINT64_MAX);
	g_destroy(&g);
}

/* CAIG and IAIG come with the busy bit, and that after readers have gone. */
static void commands_complete_only_after_readers_have_gone(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	start_without_queue(&g, 0, &root);
	snest_read_begin();
	g_write(&g, R_CCMD, 8, 1ull << 63 | 1ull << 61);
	g_write(&g, R_IOTLB, 8, 1ull << 63 | 1ull << 60);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	assert_int_equal(g_read(&g, R_CCMD, 8), 1ull << 63 | 1ull << 61);
	assert_int_equal(g_read(&g, R_IOTLB, 8), 1ull << 63 | 1ull << 60);
	snest_read_end();
	g_poll(&g, R_CCMD, 8, UINT64_MAX, 1ull << 61 | 1ull << 59);
	g_poll(&g, R_IOTLB, 8, UINT64_MAX, 1ull << 60 | 1ull << 57);
	g_destroy(&g);
}

static void iotlb_register_in_two_halves(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	start_without_queue(&g, SNEST_VTD_SYNC, &root);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	g_dma(&g, RID, 0x5000, SNEST_READ);
	image_put(&g.image, g_leaf_at(&g, root, 0x5000, 12), 0);
	g_write(&g, R_IOTLB, 4, 0);
	g_write(&g, R_IOTLB + 4, 4, 1u << 31 | 2u << 28 | DID);
	assert_int_equal(g_read(&g, R_IOTLB, 8) >> 57 & 3, 2);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), UINT64_MAX);
	g_destroy(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(iotlb_register_granularities),
		cmocka_unit_test(ccmd_register_granularities),
		cmocka_unit_test(register_invalidation_is_ignored_while_the_queue_is_on),
		cmocka_unit_test(busy_register_ignores_writes),
		cmocka_unit_test(address_is_taken_when_the_command_is_given),
		cmocka_unit_test(commands_complete_only_after_readers_have_gone),
		cmocka_unit_test(iotlb_register_in_two_halves),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
