/* SPDX-License-Identifier: MIT */
/*
 * VT-d and devices with a TLB of their own: translated requests, page requests
 * and their responses, completion errors, and that a device's TLB holds nothing
 * stale when a wait has completed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include "support/vtd_ats.h"

/* ---- Translated requests ---------------------------------------------------------------- */

static uint64_t translated(struct vtd_guest *g, uint64_t gpa, uint32_t access)
{
	struct snest_translation t;
	uint64_t to = UINT64_MAX;

	snest_read_begin();
	if (!snest_vtd_translated(g->vtd, G_RID, gpa, access, &t, NULL))
		to = t.outcome == SNEST_WALK_HOST ? t.host - G_HOST : t.host;
	snest_read_end();
	return to;
}

/* Also the space that translated requests are looked up in. */
static void budget_is_that_of_each_space(void **state)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_CM,
		.ecap = G_ECAP_ATS,
		.table_bytes_max = 1,
	};
	struct snest_shadow_stats stats = {.size = sizeof(stats)};
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create_config(&g, &config);
	g_start_legacy(&g, G_RID, G_DID, &root);
	g_map(&g, root, G_IOVA, G_DATA, 12, 3);
	image_put(&g.image, g_context_at(&g, G_RID), root | 1 | 1 << 2);
	g_submit(&g, D_CC(1, 0, 0, 0), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(g_dma(&g, G_RID, G_IOVA, R), G_DATA);
		assert_int_equal(translated(&g, G_DATA, R), G_DATA);
	}
	assert_int_equal(snest_shadow_stats(g.image.vm, &stats), 0);
	assert_int_equal(stats.sum.table_bytes, 0);
	assert_int_equal(stats.sum.leaves, 0);
	g_destroy(&g);
}

static void translated_requests_need_permission(void **state)
{
	struct legacy l;

	(void)state;
	ats_start(&l);
	assert_int_equal(translated(&l.g, G_DATA + 7, W), G_DATA + 7);
	assert_int_equal(translated(&l.g, IMAGE_OUTSIDE, W), IMAGE_OUTSIDE);
	assert_int_equal(translated(&l.g, 0xfee00000, W), UINT64_MAX);
	assert_int_equal(recorded(&l.g), 0);
	/* Taken away: legal until the command completes, refused afterwards. */
	image_put(&l.g.image, g_context_at(&l.g, G_RID), l.root | 1);
	assert_int_equal(translated(&l.g, G_DATA, R), G_DATA);
	g_submit(&l.g, D_CC(3, 0, G_RID, 0), 0);
	assert_int_equal(translated(&l.g, G_DATA, R), UINT64_MAX);
	assert_int_equal(recorded(&l.g), 0xd);
	assert_int_equal(g_read(&l.g, R_FRCD + 8, 8) >> 60 & 3, 2);
	/* And given back. */
	image_put(&l.g.image, g_context_at(&l.g, G_RID), l.root | 1 | 1 << 2);
	assert_int_equal(translated(&l.g, G_DATA, R), G_DATA);
	g_set_root(&l.g, 0x6000);
	assert_int_equal(translated(&l.g, G_DATA, R), UINT64_MAX);
	g_set_root(&l.g, G_ROOT);
	assert_int_equal(translated(&l.g, G_DATA, R), G_DATA);
	g_command(&l.g, TE, false);
	assert_int_equal(translated(&l.g, G_DATA, R), UINT64_MAX);
	g_destroy(&l.g);
}

static void translated_writes_are_in_the_dirty_log(void **state)
{
	struct legacy l;
	uint64_t bitmap[IMAGE_SIZE / 4096 / 64] = {0}, pages;

	(void)state;
	ats_start(&l);
	assert_int_equal(translated(&l.g, G_DATA, W), G_DATA);
	assert_int_equal(snest_dirty_start(l.g.image.vm), 0);
	assert_int_equal(translated(&l.g, G_DATA + 0x5000, W), G_DATA + 0x5000);
	assert_int_equal(translated(&l.g, G_DATA + 0x9000, R), G_DATA + 0x9000);
	assert_int_equal(snest_vm_dirty(l.g.image.vm, 0, IMAGE_SIZE - 1, 0, bitmap, &pages), 0);
	assert_int_equal(pages, 1);
	assert_int_equal(bitmap[(G_DATA >> 12) / 64] >> 5 & 1, 1);
	assert_int_equal(snest_dirty_stop(l.g.image.vm), 0);
	g_destroy(&l.g);
}

/* ---- Together ------------------------------------------------------------------------------ */

static void missing_page_is_asked_for_and_granted(void **state)
{
	struct scalable s;
	struct snest_vtd_page_request pr = {
		.rid = G_RID,
		.pasid = G_PASID,
		.access = R | W,
		.group = 0x155,
		.last = 1,
		.iova = G_IOVA,
	};

	(void)state;
	scalable_start(&s);
	g_write(&s.g, R_PQA, 8, G_PRQ);
	g_pasid(&s.g, G_RID, G_PASID, PGTT_FIRST, G_DID, s.first, 0);
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R | W, 1), SUCCESS);
	expect_nothing(G_IOVA);
	assert_int_equal(snest_vtd_page_request(s.g.vtd, &pr), 0);
	g_map_first(&s.g, s.first, G_IOVA, G_DATA, 12, true);
	/* Another group's response, then the one that is waited for, then the same again. */
	for (unsigned i = 0; i < 3; i++) {
		uint64_t group = i ? 0x155 : 0x154;

		g_submit(&s.g, 9ull | 1 << 4 | G_RID << 16 | (uint64_t)G_PASID << 32,
		         4 | group << 3);
		assert_int_equal(s.g.responses, i + 1);
		assert_int_equal(s.g.response.group, group);
		assert_int_equal(s.g.response.expected, i == 1);
	}
	assert_int_equal(ask(&s.g, G_PASID, G_IOVA, R | W, 1), SUCCESS);
	expect_entry(0, G_IOVA, G_IOVA + 0xfff, G_DATA, R | W, 0);

	struct snest_vtd_stats stats = {.size = sizeof(stats)};

	assert_int_equal(snest_vtd_stats(s.g.vtd, &stats), 0);
	assert_int_equal(stats.page_responses, 3);
	assert_int_equal(stats.page_responses_unexpected, 2);
	g_destroy(&s.g);
}

static void unexpected_completion_is_reported_and_the_queue_goes_on(void **state)
{
	struct legacy l;

	(void)state;
	ats_start(&l);
	g_write(&l.g, R_FECTL, 4, 0);
	assert_int_equal(snest_vtd_completion_error(l.g.vtd, G_RID), 0);
	assert_int_equal(g_read(&l.g, R_FSTS, 4), 1 << 5);
	assert_int_equal(g_read(&l.g, R_IQERCD, 8), (uint64_t)G_RID << 48);
	assert_int_equal(l.g.msis, 1);
	/* A second one neither interrupts nor hides the first. */
	assert_int_equal(snest_vtd_completion_error(l.g.vtd, 0x99), 0);
	assert_int_equal(g_read(&l.g, R_IQERCD, 8), (uint64_t)G_RID << 48);
	assert_int_equal(l.g.msis, 1);
	g_submit(&l.g, D_IOTLB(1, 0), 0);
	g_write(&l.g, R_FSTS, 4, 1 << 5);
	assert_int_equal(g_read(&l.g, R_FSTS, 4), 0);
	assert_int_equal(snest_vtd_completion_error(l.g.vtd, 0x99), 0);
	assert_int_equal(g_read(&l.g, R_IQERCD, 8), 0x99ull << 48);
	assert_int_equal(l.g.msis, 2);
	g_destroy(&l.g);
}

/*
 * A device with a TLB of one entry, filled by one thread as fast as it can, while
 * the guest unmaps and maps. After each wait the entry does not lead to the old
 * page.
 */
struct tlb {
	struct vtd_guest g;
	pthread_mutex_t lock; /* taken around request and fill, and by the hook */
	uint64_t gpa;         /* under lock; 0: empty */
	unsigned fills;
	bool stop; /* atomic */
};

static int forget(void *opaque, const struct snest_vtd_device_tlb *range)
{
	struct tlb *t = opaque;

	assert_true(range->first <= G_IOVA && range->last >= G_IOVA);
	pthread_mutex_lock(&t->lock);
	t->gpa = 0;
	pthread_mutex_unlock(&t->lock);
	return 0;
}

static void *fill(void *opaque)
{
	struct tlb *t = opaque;

	snest_thread_register();
	while (!__atomic_load_n(&t->stop, __ATOMIC_RELAXED)) {
		struct snest_vtd_ats_request r = {G_RID, NO, R, 1, G_IOVA};
		enum snest_vtd_completion completion;
		struct snest_vtd_ats_entry entry;
		size_t n = 1;

		pthread_mutex_lock(&t->lock);
		if (!snest_vtd_ats_request(t->g.vtd, &r, &entry, &n, &completion) && n &&
		    entry.rights) {
			t->gpa = entry.gpa;
			__atomic_add_fetch(&t->fills, 1, __ATOMIC_RELAXED);
		}
		pthread_mutex_unlock(&t->lock);
		snest_thread_quiescent();
		sched_yield();
	}
	snest_thread_unregister();
	return NULL;
}

static void device_tlb_is_never_stale_after_a_wait(void **state)
{
	struct tlb t = {.gpa = 0};
	struct snest_vtd_hooks hooks = {
		.size = sizeof(hooks),
		.opaque = &t,
		.device_tlb = forget,
	};
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_CM,
		.ecap = G_ECAP_ATS,
		.hooks = &hooks,
	};
	uint64_t root, *leaf;
	pthread_t thread;

	(void)state;
	pthread_mutex_init(&t.lock, NULL);
	g_create_config(&t.g, &config);
	g_start_legacy(&t.g, G_RID, G_DID, &root);
	image_put(&t.g.image, g_context_at(&t.g, G_RID), root | 1 | 1 << 2);
	g_map(&t.g, root, G_IOVA, G_DATA, 12, 3);
	leaf = &t.g.image.words[g_leaf_at(&t.g, root, G_IOVA, 12) / 8];
	assert_int_equal(pthread_create(&thread, NULL, fill, &t), 0);
	for (unsigned i = 1; i <= 300 || __atomic_load_n(&t.fills, __ATOMIC_RELAXED) < 100; i++) {
		uint64_t next = G_DATA + (i & 0xff) * 0x1000;

		/* Moved; every tenth time unmapped. */
		__atomic_store_n(leaf, i % 10 ? next | 3 : 0, __ATOMIC_RELEASE);
		g_put(&t.g, D_IOTLB(3, G_DID), G_IOVA);
		g_put(&t.g, 3ull | (uint64_t)G_RID << 32, G_IOVA);
		g_put_wait(&t.g, 0, i, 0);
		g_ring(&t.g);
		g_poll_status(&t.g, 0, i);
		snest_thread_offline();
		pthread_mutex_lock(&t.lock);
		assert_true(!t.gpa || (i % 10 && t.gpa == next));
		pthread_mutex_unlock(&t.lock);
		snest_thread_online();
	}
	__atomic_store_n(&t.stop, true, __ATOMIC_RELAXED);
	snest_thread_offline();
	pthread_join(thread, NULL);
	snest_thread_online();
	g_destroy(&t.g);
}

static void random_requests_do_no_harm(void **state)
{
	struct scalable s;

	(void)state;
	scalable_start(&s);
	g_pasid(&s.g, G_RID, G_PASID, PGTT_NESTED, G_DID, s.first, s.second);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t r = image_random(&s.g.image), at = G_ROOT + (r >> 8 & 0x7f) * 8;

		if (r & 1)
			at = G_TABLES + (r >> 8 & 0x7fff) * 8;
		image_put(&s.g.image, at, image_spoil(&s.g.image, image_get(&s.g.image, at)));
		ask(&s.g, r >> 30 & 1 ? G_PASID : NO, image_random(&s.g.image) >> (r >> 40 & 63),
		    (1 + (r >> 32) % 7) | (r >> 36 & 8), 1 + (uint32_t)(r >> 50));
		translated(&s.g, image_random(&s.g.image) >> (r >> 40 & 63), R);
		if (!(i & 15))
			g_write(&s.g, R_FRCD + 12, 4, 1u << 31);
		/* Spoiled to the root by now: from the start. */
		if (!(i & 1023)) {
			image_put(&s.g.image, G_ROOT, 0);
			s.g.next_table = G_TABLES + 0x10000;
			g_scalable_context(&s.g, G_RID, 0);
		}
	}
	g_destroy(&s.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(budget_is_that_of_each_space),
		cmocka_unit_test(translated_requests_need_permission),
		cmocka_unit_test(translated_writes_are_in_the_dirty_log),
		cmocka_unit_test(missing_page_is_asked_for_and_granted),
		cmocka_unit_test(unexpected_completion_is_reported_and_the_queue_goes_on),
		cmocka_unit_test(device_tlb_is_never_stale_after_a_wait),
		cmocka_unit_test(random_requests_do_no_harm),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
