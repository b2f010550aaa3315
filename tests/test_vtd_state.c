/* SPDX-License-Identifier: MIT */
/*
 * VT-d save and restore: everything the guest sees survives, a second front
 * end goes on where the first stopped, and a blob that is not exactly one of
 * ours changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_guest.h"

#define RID 0x118u
#define DID 7u
#define BLOB 16384

static size_t save(struct vtd_guest *g, unsigned char *blob)
{
	size_t length = BLOB;

	assert_int_equal(snest_vtd_save(g->vtd, blob, &length), 0);
	return length;
}

static void snapshot(struct vtd_guest *g, uint32_t *words)
{
	for (unsigned at = 0; at < 4096; at += 4)
		words[at / 4] = (uint32_t)g_read(g, at, 4);
}

/* Replaces the front end by a new one of the same capabilities, in the same memory. */
static void replace(struct vtd_guest *g, uint32_t flags)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW | flags,
		.cap = g->cap,
		.ecap = g->ecap,
	};

	snest_vtd_destroy(g->vtd);
	assert_int_equal(snest_vtd_create(g->image.vm, &config, &g->vtd, NULL), 0);
}

/* A guest with something in every corner. */
static void busy_guest(struct vtd_guest *g, uint64_t *root, uint32_t flags)
{
	g_create(g, G_CAP_ALL | 7ull << 40 | 3 << 5, G_ECAP_ALL, flags);
	*root = g_table(g);
	g_scalable_context(g, RID, 0x45);
	g_pasid(g, RID, 0x45, PGTT_SECOND, DID, 0, *root);
	g_map(g, *root, 0x5000, G_DATA, 12, 1);
	g_start_scalable(g);
	g_write(g, R_RTADDR, 8, 0x7000);  /* not latched */
	g_write(g, R_IQA, 8, 0x9000 | 3); /* not latched */
	g_write(g, R_IRTA, 8, 0x123007);
	g_command(g, SIRTP, true);
	g_command(g, IRE, true);
	g_write(g, R_FEDATA, 4, 1);
	g_write(g, R_FEADDR, 4, 0xfee00010);
	g_write(g, R_IEUADDR, 4, 0x7);
	g_write(g, R_PQA, 8, G_PRQ | 1);
	g_write(g, R_PQH, 8, 0x40);
	g_write(g, R_PLMBASE, 4, 0x300000);
	g_put(g, D_IOTLB(1, 0), 0);
	g_put_wait(g, 0, 1, 1 << 4);
	g_ring(g);
	g_poll_status(g, 0, 1);
	for (unsigned i = 0; i < 3; i++)
		g_request(g, RID, SNEST_NO_PASID, 0x5000 + i, SNEST_WRITE, NULL);
	/* Stopped at a bad descriptor, with more behind it. */
	g_put(g, 0, 0);
	g_put_wait(g, 0, 2, 0);
	g_ring(g);
	g_poll(g, R_FSTS, 4, 1 << 4, 1 << 4);
}

static void everything_visible_survives(void **state)
{
	struct vtd_guest g;
	uint64_t root;
	uint32_t before[1024], after[1024];
	unsigned char blob[BLOB];
	size_t length;

	(void)state;
	for (unsigned flags = 0; flags <= SNEST_VTD_SYNC; flags += SNEST_VTD_SYNC) {
		busy_guest(&g, &root, flags);
		snapshot(&g, before);
		length = save(&g, blob);
		replace(&g, flags);
		assert_int_equal(snest_vtd_restore(g.vtd, blob, length), 0);
		snapshot(&g, after);
		for (unsigned i = 0; i < 1024; i++) {
			if (before[i] != after[i])
				fail_msg("offset %x: %x became %x", i * 4, before[i], after[i]);
		}
		/* The latched root, not the register, is in force. */
		assert_int_equal(g_dma(&g, RID, 0x5008, SNEST_READ), G_DATA + 8);
		/* The next record goes behind the last one. */
		g_dma(&g, RID, 0x6000, SNEST_READ);
		assert_int_equal(g_read(&g, R_FRCD + 3 * 16, 8), 0x6000);
		/* The guest repairs its slot and goes on. */
		image_put(&g.image, G_QUEUE + g_read(&g, R_IQH, 8), 5);
		g_write(&g, R_FSTS, 4, 1 << 4);
		g_poll_status(&g, 0, 2);
		g_destroy(&g);
	}
}

static void saving_twice_gives_the_same(void **state)
{
	unsigned char a[BLOB], b[BLOB];
	struct vtd_guest g;
	uint64_t root;
	size_t length;

	(void)state;
	busy_guest(&g, &root, 0);
	length = save(&g, a);
	assert_int_equal(save(&g, b), length);
	assert_memory_equal(a, b, length);
	replace(&g, 0);
	assert_int_equal(snest_vtd_restore(g.vtd, a, length), 0);
	assert_int_equal(save(&g, b), length);
	assert_memory_equal(a, b, length);
	g_destroy(&g);
}

static void length_is_told(void **state)
{
	unsigned char blob[BLOB];
	size_t length = 0, need;
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	assert_int_equal(snest_vtd_save(g.vtd, NULL, &length), -ENOSPC);
	need = length;
	assert_true(need > 0 && need <= BLOB);
	length = need - 1;
	assert_int_equal(snest_vtd_save(g.vtd, blob, &length), -ENOSPC);
	assert_int_equal(length, need);
	assert_int_equal(snest_vtd_save(g.vtd, blob, &length), 0);
	g_destroy(&g);
}

static void waits_in_flight_are_finished(void **state)
{
	unsigned char blob[BLOB];
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, RID, DID, &root);
	for (unsigned i = 1; i < 20; i++) {
		g_put(&g, D_IOTLB(1, 0), 0);
		g_put_wait(&g, i, i, 0);
	}
	g_ring(&g);
	save(&g, blob);
	for (unsigned i = 1; i < 20; i++)
		assert_int_equal(g_status(&g, i), i);
	g_destroy(&g);
}

static void kick(void *opaque)
{
	(void)opaque;
}

static void descriptors_that_were_not_fetched_are_executed_after_restore(void **state)
{
	struct snest_vtd_hooks hooks = {.size = sizeof(hooks), .kick = kick};
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_CM,
		.ecap = G_ECAP,
		.budget = 4,
		.hooks = &hooks,
	};
	unsigned char blob[BLOB];
	struct vtd_guest g;
	size_t length;

	(void)state;
	g_create_config(&g, &config);
	g_queue_on(&g, 0, false);
	for (unsigned i = 0; i < 10; i++)
		g_put(&g, 5, 0);
	g_put_wait(&g, 0, 9, 0);
	g_ring(&g);
	length = save(&g, blob);
	assert_int_equal(g_status(&g, 0), 0);
	replace(&g, 0);
	assert_int_equal(snest_vtd_restore(g.vtd, blob, length), 0);
	g_poll_status(&g, 0, 9);
	g_destroy(&g);
}

/* Takes a while at first, so that a queue of these does not come to its end. */
static void take_a_while(void *opaque, uint32_t first, uint32_t last)
{
	(void)first;
	(void)last;
	if (__atomic_load_n((bool *)opaque, __ATOMIC_RELAXED))
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/*
 * Nothing is executed behind the snapshot's back: the same descriptors run after
 * a restore, and their statuses would be written twice.
 */
static void save_leaves_what_was_not_fetched(void **state)
{
	bool slow = true;
	struct snest_vtd_hooks hooks = {
		.size = sizeof(hooks),
		.opaque = &slow,
		.interrupt_entries = take_a_while,
	};
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_CM,
		.ecap = G_ECAP,
		.budget = 1,
		.hooks = &hooks,
	};
	unsigned char blob[BLOB];
	struct vtd_guest g;
	uint64_t head;
	size_t length;
	int ret;

	(void)state;
	g_create_config(&g, &config);
	g_queue_on(&g, 0, false);
	for (unsigned i = 0; i < 254; i++)
		g_put(&g, 4, 0);
	g_put_wait(&g, 0, 9, 0);
	g_ring(&g);
	/* In the background, half a second for all of them: far from finished. */
	length = save(&g, blob);
	head = g_read(&g, R_IQH, 8);
	assert_int_not_equal(head, g.tail);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	assert_int_equal(g_read(&g, R_IQH, 8), head);
	assert_int_equal(g_status(&g, 0), 0);
	__atomic_store_n(&slow, false, __ATOMIC_RELAXED);
	/* A guest that goes on here does so when it is told to. */
	do
		ret = snest_vtd_run(g.vtd);
	while (ret == -EAGAIN);
	assert_int_equal(ret, 0);
	g_poll_status(&g, 0, 9);
	g_set_status(&g, 0, 0);
	replace(&g, 0);
	assert_int_equal(snest_vtd_restore(g.vtd, blob, length), 0);
	g_poll_status(&g, 0, 9);
	g_destroy(&g);
}

static void restore_forgets_what_was_cached(void **state)
{
	unsigned char blob[BLOB];
	struct vtd_guest g;
	uint64_t root;
	size_t length;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	g_start_legacy(&g, RID, DID, &root);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	length = save(&g, blob);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
	image_put(&g.image, g_leaf_at(&g, root, 0x5000, 12), (G_DATA + 0x1000) | 3);
	assert_int_equal(snest_vtd_restore(g.vtd, blob, length), 0);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA + 0x1000);
	g_destroy(&g);
}

/* Nothing of the front end changes when a blob is refused. */
static void expect_refused(struct vtd_guest *g, const unsigned char *blob, size_t length)
{
	uint32_t before[1024], after[1024];

	snapshot(g, before);
	assert_int_equal(snest_vtd_restore(g->vtd, blob, length), -EINVAL);
	snapshot(g, after);
	assert_memory_equal(before, after, sizeof(before));
}

static void damaged_blobs_are_refused(void **state)
{
	unsigned char blob[BLOB];
	struct vtd_guest g;
	uint64_t root;
	size_t length;

	(void)state;
	busy_guest(&g, &root, 0);
	length = save(&g, blob);
	replace(&g, 0);
	for (size_t n = 0; n < length; n++)
		assert_int_equal(snest_vtd_restore(g.vtd, blob, n), -EINVAL);
	assert_int_equal(snest_vtd_restore(g.vtd, blob, length + 8), -EINVAL);
	assert_int_equal(snest_vtd_restore(g.vtd, NULL, 0), -EINVAL);
	for (size_t bit = 0; bit < length * 8; bit += 7) {
		blob[bit / 8] ^= 1 << bit % 8;
		expect_refused(&g, blob, length);
		blob[bit / 8] ^= 1 << bit % 8;
	}
	assert_int_equal(snest_vtd_restore(g.vtd, blob, length), 0);
	g_destroy(&g);
}

/* As an attacker would: the checksum fits. */
static void seal(unsigned char *blob, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < length - 8; i++)
		hash = (hash ^ blob[i]) * 0x100000001b3ull;
	for (unsigned i = 0; i < 8; i++)
		blob[length - 8 + i] = (unsigned char)(hash >> 8 * i);
}

/* Whole and undamaged, but of a version that this one does not know. */
static void other_versions_are_refused(void **state)
{
	static const uint32_t versions[] = {0, 2, 3, UINT32_MAX};
	unsigned char blob[BLOB];
	struct vtd_guest g;
	uint64_t root;
	size_t length;

	(void)state;
	busy_guest(&g, &root, 0);
	length = save(&g, blob);
	for (unsigned i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		for (unsigned byte = 0; byte < 4; byte++)
			blob[8 + byte] = (unsigned char)(versions[i] >> 8 * byte);
		seal(blob, length);
		expect_refused(&g, blob, length);
	}
	memcpy(blob + 8, (unsigned char[]){1, 0, 0, 0}, 4);
	seal(blob, length);
	assert_int_equal(snest_vtd_restore(g.vtd, blob, length), 0);
	g_destroy(&g);
}

static void hostile_blobs_do_no_harm(void **state)
{
	unsigned char blob[BLOB], bad[BLOB];
	unsigned taken = 0;
	struct vtd_guest g;
	uint64_t root, value;
	size_t length;

	(void)state;
	busy_guest(&g, &root, SNEST_VTD_SYNC);
	length = save(&g, blob);
	for (unsigned i = 0; i < 5000; i++) {
		memcpy(bad, blob, length);
		for (unsigned n = 0; n < 1 + i % 3; n++) {
			size_t word = image_random(&g.image) % (length / 8 - 1);

			value = image_spoil(&g.image, image_random(&g.image));
			memcpy(bad + word * 8, &value, 8);
		}
		seal(bad, length);
		taken += !snest_vtd_restore(g.vtd, bad, length);
		/* Whatever was taken over, the front end still works. */
		for (unsigned at = 0; at < 0x300; at += 8)
			g_read(&g, at, 8);
		g_dma(&g, RID, 0x5000, SNEST_READ);
		g_dma(&g, RID, 0x9000, SNEST_WRITE);
	}
	assert_int_equal(snest_vtd_restore(g.vtd, blob, length), 0);
	assert_int_equal(g_dma(&g, RID, 0x5008, SNEST_READ), G_DATA + 8);
	print_message("%u of 5000 hostile blobs were legal\n", taken);
	g_destroy(&g);
}

static void other_capabilities_are_refused(void **state)
{
	unsigned char blob[BLOB];
	struct vtd_guest g;
	size_t length;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	length = save(&g, blob);
	g.cap = G_CAP_LAZY;
	replace(&g, 0);
	expect_refused(&g, blob, length);
	g.cap = G_CAP_CM;
	g.ecap = G_ECAP_ATS;
	replace(&g, 0);
	expect_refused(&g, blob, length);
	g.ecap = G_ECAP;
	replace(&g, 0);
	assert_int_equal(snest_vtd_restore(g.vtd, blob, length), 0);
	g_destroy(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_visible_survives),
		cmocka_unit_test(saving_twice_gives_the_same),
		cmocka_unit_test(length_is_told),
		cmocka_unit_test(waits_in_flight_are_finished),
		cmocka_unit_test(descriptors_that_were_not_fetched_are_executed_after_restore),
		cmocka_unit_test(save_leaves_what_was_not_fetched),
		cmocka_unit_test(restore_forgets_what_was_cached),
		cmocka_unit_test(damaged_blobs_are_refused),
		cmocka_unit_test(other_versions_are_refused),
		cmocka_unit_test(hostile_blobs_do_no_harm),
		cmocka_unit_test(other_capabilities_are_refused),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
