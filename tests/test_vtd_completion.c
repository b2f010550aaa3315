/* SPDX-License-Identifier: MIT */
/*
 * When VT-d waits complete: after readers and pins have gone, in order, with
 * status and interrupt; and that no reader ever uses a page after its wait.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>
#include "core/rcu.h"
#include "support/vtd_guest.h"

/* ---- Waits --------------------------------------------------------------------------- */

static void wait_completes_only_after_readers_have_gone(void **state)
{
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	g_dma(&l.g, G_RID, G_IOVA, SNEST_READ);
	snest_read_begin();
	g_put(&l.g, D_IOTLB(3, G_DID), G_IOVA);
	g_put_wait(&l.g, 1, 0x1111, 0);
	g_ring(&l.g);
	/* Fetched, but a reader could still use the old page. */
	assert_int_equal(g_read(&l.g, R_IQH, 8), l.g.tail);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
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
		g_put(&l.g, D_IOTLB(3, G_DID), G_IOVA);
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
		g_put(&l.g, D_IOTLB(3, G_DID), G_IOVA);
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
	g_dma(&l.g, G_RID, G_IOVA, SNEST_READ);
	snest_read_begin();
	g_put(&l.g, D_IOTLB(3, G_DID), G_IOVA);
	g_put_wait(&l.g, 1, 1, WAIT_FN);
	g_put(&l.g, 3ull | (uint64_t)G_RID << 32, G_IOVA);
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
	assert_int_equal(g_read(&l.g, R_FSTS, 4), 0);
	g_destroy(&l.g);
}

static void pin_holds_a_wait(void **state)
{
	struct legacy l;
	struct snest_device *device;
	struct snest_pin pin;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	assert_int_equal(snest_vtd_device(l.g.vtd, G_RID, &device), 0);
	assert_int_equal(snest_pin(device, SNEST_NO_PASID, G_IOVA, 16, SNEST_READ, &pin, NULL), 0);
	g_put(&l.g, D_IOTLB(3, G_DID), G_IOVA);
	g_put_wait(&l.g, 1, 1, 0);
	g_ring(&l.g);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	assert_int_equal(g_status(&l.g, 1), 0);
	snest_unpin(&pin);
	g_poll_status(&l.g, 1, 1);
	g_destroy(&l.g);
}

/* Whether a status becomes what it should within a fifth of a second. */
static bool becomes(struct vtd_guest *g, unsigned slot, uint32_t value)
{
	for (unsigned i = 0; i < 200 && g_status(g, slot) != value; i++) {
		snest_thread_offline();
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		snest_thread_online();
	}
	return g_status(g, slot) == value;
}

static void *unpins_later(void *opaque)
{
	usleep(20000);
	snest_unpin(opaque);
	return NULL;
}

/* Has to sleep until the pin has gone, and may be no reader before or after that. */
static void *saves(void *opaque)
{
	struct legacy *l = opaque;
	unsigned char blob[16384];
	size_t length = sizeof(blob);

	assert_int_equal(snest_vtd_save(l->g.vtd, blob, &length), 0);
	assert_int_equal(g_status(&l->g, 1), 5);
#ifdef SNEST_RCU_QSBR
	assert_false(sn_rcu_may_read());
#endif
	return NULL;
}

static void *saves_and_registers(void *opaque)
{
	saves(opaque);
	/* liburcu ends the program if the thread is online already. */
	snest_thread_register();
	snest_thread_unregister();
	return NULL;
}

static void sleeping_threads_stay_offline(void **state)
{
	struct snest_device *device;
	struct legacy l;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	assert_int_equal(snest_vtd_device(l.g.vtd, G_RID, &device), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct snest_pin pin;
		pthread_t unpins, other;

		g_put_wait(&l.g, 1, 4, 0);
		g_ring(&l.g);
		assert_true(becomes(&l.g, 1, 4));
		assert_int_equal(
			snest_pin(device, SNEST_NO_PASID, G_IOVA, 16, SNEST_READ, &pin, NULL), 0);
		g_put(&l.g, D_IOTLB(1, 0), 0);
		g_put_wait(&l.g, 1, 5, 0);
		g_ring(&l.g);
		snest_thread_offline();
		assert_int_equal(pthread_create(&unpins, NULL, unpins_later, &pin), 0);
		if (i) {
			assert_int_equal(pthread_create(&other, NULL, saves_and_registers, &l), 0);
			pthread_join(other, NULL);
		} else {
			saves(&l);
		}
		pthread_join(unpins, NULL);
		snest_thread_online();
	}
	g_destroy(&l.g);
}

/* The first wait is for one pin, the second for another too: it has to stay behind. */
static void each_wait_has_a_drain_of_its_own(void **state)
{
	struct snest_device *device;
	struct legacy l;
	bool alone = false;

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	assert_int_equal(snest_vtd_device(l.g.vtd, G_RID, &device), 0);
	/* Again if the first drain was so slow that it met the second pin. */
	for (unsigned i = 1; i < 100 && !alone; i += 2) {
		struct snest_pin first, second;

		assert_int_equal(
			snest_pin(device, SNEST_NO_PASID, G_IOVA, 1, SNEST_READ, &first, NULL), 0);
		g_put(&l.g, D_IOTLB(1, 0), 0);
		g_put_wait(&l.g, 1, i, 0);
		g_ring(&l.g);
		assert_false(becomes(&l.g, 1, i));
		assert_int_equal(
			snest_pin(device, SNEST_NO_PASID, G_IOVA, 1, SNEST_READ, &second, NULL), 0);
		g_put(&l.g, D_IOTLB(1, 0), 0);
		g_put_wait(&l.g, 2, i + 1, 0);
		g_ring(&l.g);
		snest_unpin(&first);
		alone = becomes(&l.g, 1, i);
		assert_int_not_equal(g_status(&l.g, 2), i + 1);
		snest_unpin(&second);
		g_poll_status(&l.g, 2, i + 1);
		assert_int_equal(g_status(&l.g, 1), i);
	}
	assert_true(alone);
	g_destroy(&l.g);
}

static void sync_mode_completes_before_the_write_returns(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	g_start_legacy(&g, G_RID, G_DID, &root);
	for (unsigned i = 1; i < 300; i++) {
		g_put(&g, D_IOTLB(3, G_DID), G_IOVA);
		g_put_wait(&g, 0, i, i % 3 ? 0 : WAIT_FN);
		g_ring(&g);
		assert_int_equal(g_status(&g, 0), i);
	}
	g_destroy(&g);
}

/* A reader that takes a while, and says so when it has ended. */
struct slow_reader {
	uint32_t state; /* atomic: 1 inside its read section, 2 at its end */
};

static void *read_slowly(void *opaque)
{
	struct slow_reader *r = opaque;

	snest_thread_register();
	snest_read_begin();
	__atomic_store_n(&r->state, 1, __ATOMIC_RELEASE);
	nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
	__atomic_store_n(&r->state, 2, __ATOMIC_RELEASE);
	snest_read_end();
	snest_thread_unregister();
	return NULL;
}

/* Whatever completes before the write returns has waited for readers until then. */
static void sync_mode_waits_for_readers(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct slow_reader reader = {.state = 0};
		struct vtd_guest g;
		pthread_t thread;
		uint64_t root;

		g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
		g_start_legacy(&g, G_RID, G_DID, &root);
		if (i > 1)
			g_command(&g, QIE, false);
		assert_int_equal(pthread_create(&thread, NULL, read_slowly, &reader), 0);
		while (__atomic_load_n(&reader.state, __ATOMIC_ACQUIRE) == 0)
			sched_yield();
		switch (i) {
		case 0:
			g_put(&g, D_IOTLB(1, 0), 0);
			g_put_wait(&g, 0, 1, 0);
			g_ring(&g);
			assert_int_equal(g_status(&g, 0), 1);
			break;
		case 1:
			g_write(&g, R_GCMD, 4, QIE);
			assert_int_equal(g_read(&g, R_GSTS, 4) & TE, 0);
			break;
		case 2:
			g_write(&g, R_IOTLB, 8, 1ull << 63 | 1ull << 60);
			assert_int_equal(g_read(&g, R_IOTLB, 8) >> 63, 0);
			break;
		default:
			g_write(&g, R_CCMD, 8, 1ull << 63 | 1ull << 61);
			assert_int_equal(g_read(&g, R_CCMD, 8) >> 63, 0);
		}
		assert_int_equal(__atomic_load_n(&reader.state, __ATOMIC_ACQUIRE), 2);
		snest_thread_offline();
		pthread_join(thread, NULL);
		snest_thread_online();
		g_destroy(&g);
	}
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

	snest_thread_register();
	for (uint32_t i = 1; i <= 500; i++) {
		pthread_mutex_lock(s->lock);
		g_put(s->g, D_IOTLB(3, G_DID), G_IOVA);
		g_put_wait(s->g, s->slot, i, 0);
		g_ring(s->g);
		pthread_mutex_unlock(s->lock);
		g_poll_status(s->g, s->slot, i);
	}
	snest_thread_unregister();
	return NULL;
}

static void two_vcpus_share_the_queue(void **state)
{
	struct legacy l;
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct submitter s[2];
	pthread_t thread[2];

	(void)state;
	legacy_start(&l, G_CAP_CM, G_ECAP);
	for (unsigned i = 0; i < 2; i++) {
		s[i] = (struct submitter){&l.g, &lock, i};
		assert_int_equal(pthread_create(&thread[i], NULL, submit_many, &s[i]), 0);
	}
	snest_thread_offline();
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	snest_thread_online();
	g_poll(&l.g, R_IQH, 8, UINT64_MAX, l.g.tail);
	g_destroy(&l.g);
}

/* ---- Completion against readers ------------------------------------------------------------- */

#define SLOTS 16u

struct hammer {
	struct vtd_guest *g;
	uint32_t poisoned[SLOTS]; /* the page of this slot belongs to somebody else now */
	uint32_t stop;
	uint64_t hits; /* atomic */
};

/* DMA that takes a while: the page must stay ours to the end of the read section. */
static void *hammer(void *opaque)
{
	struct hammer *h = opaque;
	uint64_t n = 0;

	snest_thread_register();
	while (!__atomic_load_n(&h->stop, __ATOMIC_RELAXED)) {
		struct snest_translation t;
		uint64_t slot = n++ % SLOTS;

		snest_read_begin();
		if (!snest_vtd_translate(h->g->vtd, G_RID, SNEST_NO_PASID, 0x5000 + slot * 4096,
		                         SNEST_READ, &t, NULL)) {
			uint64_t page = (t.host - G_HOST - G_DATA) / 4096;

			for (unsigned i = 0; i < 20; i++) {
				if (__atomic_load_n(&h->poisoned[page], __ATOMIC_ACQUIRE))
					__atomic_store_n(&h->stop, 2, __ATOMIC_RELAXED);
			}
			__atomic_fetch_add(&h->hits, 1, __ATOMIC_RELAXED);
		}
		snest_read_end();
		snest_thread_quiescent();
	}
	snest_thread_unregister();
	return NULL;
}

static void no_reader_uses_a_page_after_its_wait(void **state)
{
	struct hammer h = {.hits = 0};
	struct vtd_guest g;
	uint64_t root, leaf[SLOTS];
	pthread_t thread;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, G_RID, 7, &root);
	for (unsigned i = 0; i < SLOTS; i++) {
		g_map(&g, root, 0x5000 + i * 4096, G_DATA + i * 4096, 12, 3);
		leaf[i] = g_leaf_at(&g, root, 0x5000 + i * 4096, 12);
	}
	h.g = &g;
	assert_int_equal(pthread_create(&thread, NULL, hammer, &h), 0);
	while (!__atomic_load_n(&h.hits, __ATOMIC_RELAXED))
		snest_thread_quiescent();
	sched_yield();
	for (unsigned i = 1; i <= 500 && !__atomic_load_n(&h.stop, __ATOMIC_RELAXED); i++) {
		unsigned slot = i % SLOTS;
		uint64_t *entry = &g.image.words[leaf[slot] / 8];

		__atomic_store_n(entry, 0, __ATOMIC_RELEASE);
		/* Now and then by taking the whole device away. */
		if (i % 50 == 0) {
			__atomic_store_n(&g.image.words[g_context_at(&g, G_RID) / 8], 0,
			                 __ATOMIC_RELEASE);
			g_put(&g, D_CC(3, 7, G_RID, 0), 0);
		}
		g_put(&g, D_IOTLB(3, 7), 0x5000 + slot * 4096);
		g_put_wait(&g, 0, i, 0);
		g_ring(&g);
		g_poll_status(&g, 0, i);
		__atomic_store_n(&h.poisoned[slot], 1, __ATOMIC_RELEASE);
		snest_thread_quiescent();
		sched_yield();
		__atomic_store_n(&h.poisoned[slot], 0, __ATOMIC_RELEASE);
		__atomic_store_n(entry, (G_DATA + slot * 4096) | 3, __ATOMIC_RELEASE);
		if (i % 50 == 0)
			__atomic_store_n(&g.image.words[g_context_at(&g, G_RID) / 8], root | 1,
			                 __ATOMIC_RELEASE);
		g_put(&g, D_CC(3, 0, G_RID, 0), 0);
		g_put(&g, D_IOTLB(3, 7), 0x5000 + slot * 4096);
		g_ring(&g);
	}
	assert_int_not_equal(__atomic_exchange_n(&h.stop, 1, __ATOMIC_RELAXED), 2);
	snest_thread_offline();
	pthread_join(thread, NULL);
	snest_thread_online();
	g_destroy(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wait_completes_only_after_readers_have_gone),
		cmocka_unit_test(waits_complete_in_order),
		cmocka_unit_test(more_waits_than_fit_pause_the_queue),
		cmocka_unit_test(fence_holds_later_descriptors),
		cmocka_unit_test(wait_interrupt_is_masked_pending_and_sent),
		cmocka_unit_test(wait_with_nothing_to_do_is_legal),
		cmocka_unit_test(sleeping_threads_stay_offline),
		cmocka_unit_test(pin_holds_a_wait),
		cmocka_unit_test(each_wait_has_a_drain_of_its_own),
		cmocka_unit_test(sync_mode_completes_before_the_write_returns),
		cmocka_unit_test(sync_mode_waits_for_readers),
		cmocka_unit_test(two_vcpus_share_the_queue),
		cmocka_unit_test(no_reader_uses_a_page_after_its_wait),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
