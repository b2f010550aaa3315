/* SPDX-License-Identifier: MIT */
/*
 * VT-d requests beyond plain translation: the interrupt address range, targets
 * without memory, pass-through, privileged requests, abort mode.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>
#include "support/vtd_modes.h"
#include "viommu/vtd.h"

/* ---- The interrupt address range ----------------------------------------------------------- */

static void interrupt_range_without_pasid_is_never_translated(void **state)
{
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	g_map(&t.g, t.second, 0xfee00000, G_DATA, 12, 3);
	go(&t);
	assert_int_equal(g_dma(&t.g, RID, 0xfee00004, W), 0xfee00004);
	assert_int_equal(g_dma(&t.g, RID, 0xfeefffff, W), 0xfeefffff);
	assert_int_equal(g_dma(&t.g, RID, 0xfee00004, R), UINT64_MAX);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 0);
	g_destroy(&t.g);
}

static void interrupt_range_with_pasid_is_translated(void **state)
{
	struct guest t;

	(void)state;
	start(&t, SECOND);
	g_map(&t.g, t.second, 0xfee00000, G_DATA, 12, 3);
	go(&t);
	assert_int_equal(g_request(&t.g, RID, PASID, 0xfee00004, R, NULL), G_DATA + 4);
	assert_int_equal(g_request(&t.g, RID, PASID, 0xfee00004, W, NULL), G_DATA + 4);
	g_destroy(&t.g);
}

static void targets_without_memory_are_not_faults(void **state)
{
	struct snest_translation tr;
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	g_map(&t.g, t.second, 0x9000, IMAGE_OUTSIDE, 12, 3);
	go(&t);
	snest_read_begin();
	assert_int_equal(snest_vtd_translate(t.g.vtd, RID, NO, 0x9010, W, &tr, NULL), 0);
	assert_int_equal(tr.outcome, SNEST_WALK_GPA);
	assert_int_equal(tr.host, IMAGE_OUTSIDE + 0x10);
	snest_read_end();
	g_destroy(&t.g);
}

static void pass_through_is_as_wide_as_announced(void **state)
{
	struct snest_region beyond = {
		.size = sizeof(beyond),
		.first = 1ull << 48,
		.last = (1ull << 48) + 0xfff,
		.host = 0x200000000000,
	};
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	change(&t, legacy_at(&t), UINT64_MAX, 1 | 2 << 2);
	go(&t);
	assert_int_equal(g_dma(&t.g, RID, G_DATA + 5, W), G_DATA + 5);
	assert_int_equal(g_dma(&t.g, RID, 1ull << 48, R), UINT64_MAX);
	assert_int_equal(frcd(&t, 0, 1) >> 32 & 0xff, 4);
	/* Also where there is memory. */
	g_write(&t.g, R_FRCD + 12, 4, 1u << 31);
	assert_int_equal(snest_memory_add(t.g.image.vm, &beyond), 0);
	assert_int_equal(g_dma(&t.g, RID, 1ull << 48, R), UINT64_MAX);
	assert_int_equal(frcd(&t, 1, 1) >> 32 & 0xff, 4);
	g_destroy(&t.g);
}

static void privileged_request_on_a_shared_binding_is_checked(void **state)
{
	struct guest t;

	(void)state;
	start(&t, FIRST);
	change(&t, g_pasid_at(&t.g, RID, PASID) + 16, 1, 0);
	go(&t);
	/* The binding exists; the next request needs SRE all the same. */
	assert_int_equal(g_request(&t.g, RID, PASID, IOVA, R, NULL), G_DATA);
	assert_int_equal(g_request(&t.g, RID, PASID, IOVA, R | P, NULL), UINT64_MAX);
	assert_int_equal(frcd(&t, 0, 1) >> 32 & 0xff, 0x5d);
	g_destroy(&t.g);
}

static void abort_mode_refuses_without_a_record(void **state)
{
	struct guest t;

	(void)state;
	start(&t, FIRST);
	t.rtaddr = G_ROOT | 3 << 10;
	go(&t);
	assert_int_equal(g_dma(&t.g, RID, IOVA, R), UINT64_MAX);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 0);
	g_destroy(&t.g);
}

/*
 * Requests that find everything in the shadow take no lock: here another thread
 * holds it. One that waited for it would end by the alarm.
 */
static void usual_requests_take_no_lock(void **state)
{
	struct snest_translation tr;
	struct guest t;

	(void)state;
	start(&t, FIRST);
	g_map_first(&t.g, t.first, IOVA + 0x1000, IMAGE_OUTSIDE, 12, true);
	go(&t);
	for (unsigned round = 0; round < 2; round++) {
		if (round) {
			alarm(10);
			sn_vtd_lock(t.g.vtd);
		}
		assert_int_equal(g_request(&t.g, RID, PASID, IOVA, R, NULL), G_DATA);
		assert_int_equal(g_request(&t.g, RID, PASID, IOVA, R | P, NULL), G_DATA);
		assert_int_equal(g_request(&t.g, RID, PASID, IOVA, W | P, NULL), G_DATA);
		assert_int_equal(g_request(&t.g, RID, NO, IOVA, R | P, NULL), G_DATA);
		assert_int_equal(g_request(&t.g, RID, PASID, IOVA + 0x1000, W, NULL),
		                 IMAGE_OUTSIDE);
		snest_read_begin();
		assert_int_equal(snest_vtd_translated(t.g.vtd, RID, G_DATA, W, &tr, NULL), 0);
		snest_read_end();
	}
	sn_vtd_unlock(t.g.vtd);
	alarm(0);
	g_destroy(&t.g);
}

/* ---- Privilege against configuration ---------------------------------------------- */

/*
 * The guest takes SRE away and gives it back while privileged requests run. A
 * request that begins after the command's completion is refused; one that is
 * allowed has the right page.
 */
struct asker {
	struct guest *t;
	bool stop;         /* atomic */
	uint32_t phase;    /* atomic: number of the change * 4 + what is allowed; 2: either */
	unsigned requests; /* atomic */
	unsigned wrong;
};

static void *ask_privileged(void *opaque)
{
	struct asker *a = opaque;

	snest_thread_register();
	while (!__atomic_load_n(&a->stop, __ATOMIC_RELAXED)) {
		uint32_t before = __atomic_load_n(&a->phase, __ATOMIC_ACQUIRE), after;
		uint64_t gpa = g_request(&a->t->g, RID, PASID, IOVA, R | P, NULL);

		after = __atomic_load_n(&a->phase, __ATOMIC_ACQUIRE);
		a->wrong += gpa != G_DATA && gpa != UINT64_MAX;
		a->wrong += before == after && (before & 3) != 2 && (before & 3) != (gpa == G_DATA);
		__atomic_add_fetch(&a->requests, 1, __ATOMIC_RELAXED);
		snest_thread_quiescent();
	}
	snest_thread_unregister();
	return NULL;
}

static void privilege_follows_the_configuration(void **state)
{
	struct asker a = {.phase = 2};
	struct guest t;
	uint64_t *word;
	pthread_t thread;

	(void)state;
	start(&t, FIRST);
	t.g.entry = 32;
	go(&t);
	g_queue_on(&t.g, 0, true);
	word = &t.g.image.words[(g_pasid_at(&t.g, RID, PASID) + 16) / 8];
	a.t = &t;
	assert_int_equal(pthread_create(&thread, NULL, ask_privileged, &a), 0);
	for (unsigned i = 0; i < 200 || __atomic_load_n(&a.requests, __ATOMIC_RELAXED) < 1000;
	     i++) {
		uint64_t was = *word;

		__atomic_store_n(&a.phase, i * 4 + 2, __ATOMIC_RELEASE);
		__atomic_store_n(word, i & 1 ? was | 1 : was & ~1ull, __ATOMIC_RELEASE);
		g_submit(&t.g, D_PC(1, DID, PASID), 0);
		__atomic_store_n(&a.phase, i * 4 + (i & 1), __ATOMIC_RELEASE);
		snest_thread_quiescent();
		sched_yield();
	}
	__atomic_store_n(&a.stop, true, __ATOMIC_RELAXED);
	snest_thread_offline();
	pthread_join(thread, NULL);
	snest_thread_online();
	assert_int_equal(a.wrong, 0);
	g_destroy(&t.g);
}

/*
 * While a privileged request walks the tables of one configuration, which does
 * not allow it, the guest changes to another, which does but has another page.
 * What the walk finds belongs to neither.
 */
static struct guest *switching;

static void switch_configuration(struct image *image, uint64_t addr, size_t length)
{
	struct guest *t = switching;
	uint64_t descriptor[4] = {D_PC(1, DID, PASID)};
	size_t count = 1;

	(void)length;
	if (addr != t->first_leaf)
		return;
	image->before = NULL;
	change(t, g_pasid_at(&t->g, RID, PASID) + 16, ~0xfffull, t->second | 1);
	assert_int_equal(snest_vtd_invalidate(t->g.vtd, descriptor, 32, &count, NULL), 0);
	assert_int_equal(g_request(&t->g, RID, PASID, IOVA, R, NULL), G_DATA + 0x1000);
}

static void answers_belong_to_one_configuration(void **state)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_ALL,
		.ecap = G_ECAP_ALL,
	};
	struct guest t = {.rtaddr = G_ROOT | 1 << 10};

	(void)state;
	image_create(&t.g.image, false);
	t.g.next_table = G_TABLES;
	t.g.cap = config.cap;
	t.g.ecap = config.ecap;
	assert_int_equal(snest_vtd_create(t.g.image.vm, &config, &t.g.vtd, NULL), 0);
	t.first = g_table(&t.g);
	t.second = g_table(&t.g);
	g_map_first(&t.g, t.first, IOVA, G_DATA, 12, true);
	g_map_first(&t.g, t.second, IOVA, G_DATA + 0x1000, 12, true);
	t.first_leaf = g_leaf_at(&t.g, t.first, IOVA, 12);
	g_scalable_context(&t.g, RID, PASID);
	g_pasid(&t.g, RID, PASID, PGTT_FIRST, DID, t.first, 0);
	change(&t, g_pasid_at(&t.g, RID, PASID) + 16, 1, 0);
	go(&t);
	assert_int_equal(g_request(&t.g, RID, PASID, IOVA + 0x1000, R, NULL), UINT64_MAX);
	switching = &t;
	t.g.image.before = switch_configuration;
	assert_int_equal(g_request(&t.g, RID, PASID, IOVA, R | P, NULL), G_DATA + 0x1000);
	assert_null(t.g.image.before);
	g_destroy(&t.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(interrupt_range_without_pasid_is_never_translated),
		cmocka_unit_test(interrupt_range_with_pasid_is_translated),
		cmocka_unit_test(targets_without_memory_are_not_faults),
		cmocka_unit_test(pass_through_is_as_wide_as_announced),
		cmocka_unit_test(privileged_request_on_a_shared_binding_is_checked),
		cmocka_unit_test(abort_mode_refuses_without_a_record),
		cmocka_unit_test(usual_requests_take_no_lock),
		cmocka_unit_test(privilege_follows_the_configuration),
		cmocka_unit_test(answers_belong_to_one_configuration),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
