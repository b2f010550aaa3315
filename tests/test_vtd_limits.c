/* SPDX-License-Identifier: MIT */
/*
 * VT-d front ends at their limits: the number of bindings, many devices and
 * PASIDs, memory that runs out at every allocation, hot unplug, and two front
 * ends in one VM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "support/fail.h"
#include "support/vtd_guest.h"

#define RID 0x118u
#define DID 7u

static int apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	(void)ops;
	*(unsigned *)opaque += (unsigned)count;
	*done = count;
	return 0;
}

static uint64_t bindings(struct vtd_guest *g)
{
	struct snest_vtd_stats stats = {.size = sizeof(stats)};

	assert_int_equal(snest_vtd_stats(g->vtd, &stats), 0);
	return stats.bindings;
}

/* A unit of ten bindings at most, and a device whose PASIDs share one second stage: 0x5000. */
static void start_with_pasids(struct vtd_guest *g, unsigned pasids)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_ALL,
		.ecap = G_ECAP_ALL,
		.bindings_max = 10,
	};
	uint64_t root;

	g_create_config(g, &config);
	root = g_table(g);
	g_map(g, root, 0x5000, G_DATA, 12, 3);
	g_scalable_context(g, RID, 0);
	for (unsigned pasid = 0; pasid < pasids; pasid++)
		g_pasid(g, RID, pasid, PGTT_SECOND, DID, 0, root);
	g_start_scalable(g);
}

static void oldest_binding_makes_room(void **state)
{
	struct vtd_guest g;

	(void)state;
	start_with_pasids(&g, 200);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned pasid = 0; pasid < 200; pasid++) {
			assert_int_equal(g_request(&g, RID, pasid, 0x5000, SNEST_READ, NULL),
			                 G_DATA);
			assert_true(bindings(&g) <= 10);
		}
	}
	assert_int_equal(bindings(&g), 10);
	g_submit(&g, D_PC(3, 0, 0), 0);
	assert_int_equal(bindings(&g), 0);
	g_destroy(&g);
}

/* A guest that takes bindings away again and again, and never waits, holds no memory. */
static void bindings_that_went_do_not_pile_up(void **state)
{
	struct snest_vm_stats stats = {.size = sizeof(stats)};
	uint64_t most = 0;
	struct vtd_guest g;

	(void)state;
	start_with_pasids(&g, 20);
	/* Each request takes the place of an older one in the same space, which so remains. */
	for (unsigned i = 0; i < 50000; i++) {
		assert_int_equal(g_request(&g, RID, i % 20, 0x5000, SNEST_READ, NULL), G_DATA);
		if (i % 100)
			continue;
		snest_thread_quiescent();
		/* The background thread has its turn. */
		usleep(i % 1000 ? 0 : 1000);
		assert_int_equal(snest_vm_stats(g.image.vm, &stats), 0);
		if (most < stats.deferred)
			most = stats.deferred;
	}
	assert_true(most < 20000);
	g_destroy(&g);
}

static void every_device_of_a_segment(void **state)
{
	struct vtd_guest g;
	uint64_t root, context;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	root = g_table(&g);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	/* One context table for all buses. */
	context = g_table(&g);
	for (unsigned bus = 0; bus < 256; bus++)
		image_put(&g.image, G_ROOT + bus * 16, context | 1);
	for (unsigned devfn = 0; devfn < 256; devfn++) {
		image_put(&g.image, context + devfn * 16 + 8, 2 | (uint64_t)(devfn + 1) << 8);
		image_put(&g.image, context + devfn * 16, root | 1);
	}
	g_set_root(&g, G_ROOT);
	g_queue_on(&g, 0, false);
	g_command(&g, TE, true);
	for (uint32_t rid = 0; rid < 0x10000; rid += 7)
		assert_int_equal(g_dma(&g, rid, 0x5000, SNEST_WRITE), G_DATA);
	assert_int_equal(bindings(&g), (0x10000 + 6) / 7);
	/* Domain-selective: one of 256. */
	g_submit(&g, D_CC(2, 1, 0, 0), 0);
	assert_true(bindings(&g) < (0x10000 + 6) / 7 - 30);
	g_submit(&g, D_CC(1, 0, 0, 0), 0);
	assert_int_equal(bindings(&g), 0);
	g_destroy(&g);
}

static void handles_are_found_again_and_removed(void **state)
{
	struct snest_device *a, *b, *other;
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	assert_int_equal(snest_vtd_device(g.vtd, RID, &a), 0);
	assert_int_equal(snest_vtd_device(g.vtd, RID, &b), 0);
	assert_ptr_equal(a, b);
	assert_int_equal(snest_device_rid(a), RID);
	assert_int_equal(snest_vtd_device(g.vtd, 0x10000, &b), -EINVAL);
	/* A rid that is somebody else's in this VM. */
	assert_int_equal(snest_device_create(g.image.vm, 5, NULL, NULL, &other), 0);
	assert_int_equal(snest_vtd_device(g.vtd, 5, &b), -EEXIST);
	snest_device_destroy(other);
	assert_int_equal(snest_vtd_device(g.vtd, 5, &b), 0);
	assert_int_equal(snest_vtd_remove(g.vtd, RID), 0);
	assert_int_equal(snest_vtd_remove(g.vtd, RID), -ENOENT);
	assert_int_equal(snest_vtd_device(g.vtd, RID, &a), 0);
	g_destroy(&g);
}

static void pasid_wider_than_20_bits_is_refused(void **state)
{
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_ALL, G_ECAP_ALL, 0);
	assert_int_equal(g_request(&g, RID, 1 << 20, 0x5000, SNEST_READ, NULL), UINT64_MAX);
	assert_int_equal(g_request(&g, RID, SNEST_ANY_PASID, 0x5000, SNEST_READ, NULL), UINT64_MAX);
	assert_int_equal(bindings(&g), 0);
	g_destroy(&g);
}

/* Another unit over the same memory, with translation on. */
static struct vtd_guest second_unit(const struct vtd_guest *g, uint64_t ecap, uint64_t root)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW | SNEST_VTD_SYNC,
		.cap = G_CAP_CM,
		.ecap = ecap,
	};
	struct vtd_guest second = *g;

	assert_int_equal(snest_vtd_create(g->image.vm, &config, &second.vtd, NULL), 0);
	g_set_root(&second, root);
	g_command(&second, TE, true);
	return second;
}

static void two_front_ends_share_a_vm(void **state)
{
	struct vtd_guest g, second;
	uint64_t root, other;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	g_start_legacy(&g, RID, DID, &root);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	/* The same DID, other tables. */
	other = g_table(&g);
	g_map(&g, other, 0x5000, G_DATA + 0x1000, 12, 3);
	image_put(&g.image, 0x3000 + (RID >> 8) * 16, 0x4000 | 1);
	image_put(&g.image, 0x4000 + 0x20 * 16 + 8, 2 | DID << 8);
	image_put(&g.image, 0x4000 + 0x20 * 16, other | 1);
	second = second_unit(&g, G_ECAP, 0x3000);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
	assert_int_equal(g_dma(&second, 0x120, 0x5000, SNEST_READ), G_DATA + 0x1000);
	g_submit(&g, D_CC(1, 0, 0, 0), 0);
	g_submit(&g, D_IOTLB(1, 0), 0);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
	assert_int_equal(g_dma(&second, 0x120, 0x5000, SNEST_READ), G_DATA + 0x1000);
	snest_vtd_destroy(second.vtd);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
	g_destroy(&g);
}

/* Guests number the domains of each unit anew, and use one table for both. */
static void front_ends_mirror_the_same_domain(void **state)
{
	unsigned ops[2] = {0, 0};
	struct snest_sink sink = {.size = sizeof(sink), .apply = apply};
	struct vtd_guest g, second;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	g_start_legacy(&g, RID, DID, &root);
	g_context(&g, 0x120, DID, root);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	second = second_unit(&g, G_ECAP, G_ROOT);
	sink.opaque = &ops[0];
	assert_int_equal(snest_vtd_mirror(g.vtd, RID, SNEST_NO_PASID, &sink), 0);
	sink.opaque = &ops[1];
	assert_int_equal(snest_vtd_mirror(second.vtd, 0x120, SNEST_NO_PASID, &sink), 0);
	assert_int_equal(ops[0], 1);
	assert_int_equal(ops[1], 1);
	g_map(&g, root, 0x6000, G_DATA, 12, 3);
	g_submit(&g, D_IOTLB(3, DID), 0x6000);
	assert_int_equal(ops[0], 2);
	snest_vtd_destroy(second.vtd);
	g_destroy(&g);
}

/*
 * What a handshake makes a unit forget is forgotten even where another unit, with
 * the same tables, keeps the space alive.
 */
static void handshakes_forget_what_others_keep(void **state)
{
	struct vtd_guest g, second;
	uint64_t root, leaf;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP_SS, SNEST_VTD_SYNC);
	root = g_table(&g);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	leaf = g_leaf_at(&g, root, 0x5000, 12);
	g_scalable_context(&g, RID, 0);
	g_pasid(&g, RID, 0, PGTT_SECOND, DID, 0, root);
	g_scalable_context(&g, 0x120, 0);
	g_pasid(&g, 0x120, 0, PGTT_SECOND, DID, 0, root);
	g_start_scalable(&g);
	second = second_unit(&g, G_ECAP_SS, G_ROOT | 1 << 10);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t was = G_DATA + i * 0x1000;

		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), was);
		assert_int_equal(g_dma(&second, 0x120, 0x5000, SNEST_READ), was);
		image_put(&g.image, leaf, (was + 0x1000) | 3);
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), was);
		if (i) {
			g_command(&g, TE, false);
			g_command(&g, TE, true);
		} else {
			g_set_root(&g, G_ROOT | 1 << 10);
		}
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), was + 0x1000);
	}
	snest_vtd_destroy(second.vtd);
	g_destroy(&g);
}

static void requests_of_others_are_refused(void **state)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_CM,
		.ecap = G_ECAP_ATS,
	};
	struct snest_device *own, *found;
	struct snest_translation t;
	struct snest_vtd *second;
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP_ATS, 0);
	assert_int_equal(snest_vtd_create(g.image.vm, &config, &second, NULL), 0);
	assert_int_equal(snest_vtd_device(second, RID, &found), 0);
	assert_int_equal(snest_device_create(g.image.vm, 5, NULL, NULL, &own), 0);
	snest_read_begin();
	for (unsigned i = 0; i < 2; i++) {
		uint32_t rid = i ? RID : 5;

		assert_int_equal(
			snest_vtd_translate(g.vtd, rid, SNEST_NO_PASID, 0, SNEST_READ, &t, NULL),
			-EEXIST);
		assert_int_equal(snest_vtd_translate(g.vtd, rid, 1, 0, SNEST_READ, &t, NULL),
		                 -EEXIST);
		assert_int_equal(snest_vtd_translated(g.vtd, rid, 0, SNEST_READ, &t, NULL),
		                 -EEXIST);
	}
	snest_read_end();
	snest_device_destroy(own);
	snest_vtd_destroy(second);
	g_destroy(&g);
}

static void kick(void *opaque)
{
	(void)opaque;
}

/* A command that looks for one of thousands of bindings costs more than one that need not. */
static void searching_commands_are_bounded_too(void **state)
{
	enum {
		COUNT = 8000
	};
	struct snest_vtd_hooks hooks = {.size = sizeof(hooks), .kick = kick};
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = G_CAP_ALL,
		.ecap = G_ECAP_ALL,
		.hooks = &hooks,
	};
	unsigned traps = 1;
	struct vtd_guest g;
	uint64_t root, table;

	(void)state;
	g_create_config(&g, &config);
	root = g_table(&g);
	g_scalable_context(&g, RID, 0);
	g_pasid(&g, RID, 0, PGTT_SECOND, DID, 0, root);
	/* One table for all of the directory. */
	table = g_pasid_at(&g, RID, 0);
	for (unsigned i = 0; i < 64; i++)
		memcpy(&g.image.words[table / 8 + i * 8], &g.image.words[table / 8], 64);
	table = image_get(&g.image, g_context_table(&g, RID, true) + (RID & 0x7f) * 32) & ~0xfffull;
	for (unsigned i = 1; i < 128; i++)
		image_put(&g.image, table + i * 8, image_get(&g.image, table));
	g_start_scalable(&g);
	for (unsigned pasid = 0; pasid < COUNT; pasid++)
		g_request(&g, RID, pasid, 0x5000, SNEST_READ, NULL);
	assert_int_equal(bindings(&g), COUNT);
	for (unsigned i = 0; i < 100; i++)
		g_put(&g, D_PC(1, DID, 0xfffff), 0);
	g_ring(&g);
	/* 256 descriptors are the budget; each of these costs 1 + 8000 / 64. */
	assert_true(g_read(&g, R_IQH, 8) < 10 * 32);
	while (snest_vtd_run(g.vtd) == -EAGAIN)
		traps++;
	assert_true(traps > 20 && traps <= 100);
	assert_int_equal(g_read(&g, R_IQH, 8), g.tail);
	assert_int_equal(bindings(&g), COUNT);
	g_destroy(&g);
}

/* ---- Memory that runs out ----------------------------------------------------------- */

/*
 * A short life. Creating, and attaching a sink, may fail cleanly; requests may
 * be refused; commands always complete, and no answer is ever wrong.
 */
static bool live(struct vtd_guest *g, uint64_t root, uint64_t leaf)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW | SNEST_VTD_SYNC,
		.cap = G_CAP_CM,
		.ecap = G_ECAP,
	};
	struct snest_translation t;
	unsigned ops = 0;
	struct snest_sink sink = {.size = sizeof(sink), .opaque = &ops, .apply = apply};
	bool whole = true;
	int ret;

	ret = snest_vtd_create(g->image.vm, &config, &g->vtd, NULL);
	if (ret) {
		assert_int_equal(ret, -ENOMEM);
		return false;
	}
	g_set_root(g, G_ROOT);
	g_queue_on(g, 0, false);
	g_command(g, TE, true);
	ret = snest_vtd_mirror(g->vtd, 0x120, SNEST_NO_PASID, &sink);
	assert_true(!ret || ret == -ENOMEM);
	whole &= !ret;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t gpa = G_DATA + i * 0x1000;

		image_put(&g->image, leaf, gpa | 3);
		g_submit(g, D_IOTLB(3, DID), 0x5000);
		if (i == 2)
			g_submit(g, D_CC(1, 0, 0, 0), 0);
		snest_read_begin();
		ret = snest_vtd_translate(g->vtd, RID, SNEST_NO_PASID, 0x5000, SNEST_READ, &t,
		                          NULL);
		if (!ret)
			assert_int_equal(t.host, G_HOST + gpa);
		else
			assert_true(ret == -ENOMEM || ret == -EACCES);
		snest_read_end();
		whole &= !ret;
	}
	(void)root;
	snest_vtd_destroy(g->vtd);
	return whole;
}

static void every_allocation_may_fail(void **state)
{
	unsigned failures = 0;

	(void)state;
	for (uint64_t n = 1;; n++) {
		struct snest_vm_config config = {.size = sizeof(config)};
		struct snest_region region = {
			.size = sizeof(region),
			.last = IMAGE_SIZE - 1,
			.host = G_HOST,
		};
		struct test_fail fail;
		struct vtd_guest g;
		uint64_t root;
		bool fired, whole;

		test_fail_init(&fail);
		memset(&g, 0, sizeof(g));
		g.next_table = G_TABLES;
		g.image.words = aligned_alloc(4096, IMAGE_SIZE);
		assert_non_null(g.image.words);
		memset(g.image.words, 0, IMAGE_SIZE);
		region.mapping = g.image.words;
		config.hooks = &fail.hooks;
		assert_int_equal(snest_vm_create(&config, &g.image.vm), 0);
		assert_int_equal(snest_memory_add(g.image.vm, &region), 0);
		root = g_table(&g);
		g_context(&g, RID, DID, root);
		g_context(&g, 0x120, DID, root);
		g_map(&g, root, 0x5000, G_DATA, 12, 3);

		test_fail_arm(&fail, n);
		whole = live(&g, root, g_leaf_at(&g, root, 0x5000, 12));
		fired = test_fail_disarm(&fail);
		/* And afterwards nothing of it is left. */
		assert_true(live(&g, root, g_leaf_at(&g, root, 0x5000, 12)));
		image_destroy(&g.image);
		assert_int_equal(__atomic_load_n(&fail.live_objects, __ATOMIC_RELAXED), 0);
		if (!fired) {
			assert_true(whole);
			break;
		}
		failures++;
	}
	assert_true(failures > 10);
}

/* ---- A mirror that follows without memory ------------------------------------------- */

struct follower {
	unsigned mapped; /* pages */
	int error;       /* the last that `failed` was told */
};

static int follow(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct follower *f = opaque;

	for (size_t i = 0; i < count; i++) {
		unsigned pages = (unsigned)((ops[i].last - ops[i].first + 1) / 4096);

		f->mapped += ops[i].map ? pages : -pages;
	}
	*done = count;
	return 0;
}

static void failed(void *opaque, uint64_t first, uint64_t last, int error)
{
	(void)first;
	(void)last;
	((struct follower *)opaque)->error = error;
}

/* A sink that lacks something was told so, and lacks nothing after the next command. */
static void mirror_says_when_it_cannot_follow(void **state)
{
	unsigned failures = 0;

	(void)state;
	for (uint64_t n = 1;; n++) {
		struct snest_vm_config config = {.size = sizeof(config)};
		struct snest_vtd_config front_end = {
			.size = sizeof(front_end),
			.flags = SNEST_VTD_RAW | SNEST_VTD_SYNC,
			.cap = G_CAP_CM,
			.ecap = G_ECAP,
		};
		struct snest_region region = {
			.size = sizeof(region),
			.last = IMAGE_SIZE - 1,
			.host = G_HOST,
		};
		struct follower f = {.mapped = 0};
		struct snest_sink sink = {
			.size = sizeof(sink),
			.opaque = &f,
			.apply = follow,
			.failed = failed,
		};
		struct test_fail fail;
		struct vtd_guest g;
		uint64_t root, other;
		bool fired;

		test_fail_init(&fail);
		memset(&g, 0, sizeof(g));
		g.next_table = G_TABLES;
		g.image.words = aligned_alloc(4096, IMAGE_SIZE);
		assert_non_null(g.image.words);
		memset(g.image.words, 0, IMAGE_SIZE);
		region.mapping = g.image.words;
		config.hooks = &fail.hooks;
		assert_int_equal(snest_vm_create(&config, &g.image.vm), 0);
		assert_int_equal(snest_memory_add(g.image.vm, &region), 0);
		assert_int_equal(snest_vtd_create(g.image.vm, &front_end, &g.vtd, NULL), 0);
		g_start_legacy(&g, RID, DID, &root);
		g_map(&g, root, 0x5000, G_DATA, 12, 3);
		other = g_table(&g);
		g_map(&g, other, 0x7000, G_DATA, 12, 3);
		g_map(&g, other, 0x40008000, G_DATA, 12, 3);
		assert_int_equal(snest_vtd_mirror(g.vtd, RID, SNEST_NO_PASID, &sink), 0);
		assert_int_equal(f.mapped, 1);

		g_context(&g, RID, DID + 1, other);
		test_fail_arm(&fail, n);
		g_submit(&g, D_CC(3, 0, RID, 0), 0);
		fired = test_fail_disarm(&fail);
		assert_true(f.mapped == 2 || f.error);
		g_submit(&g, D_CC(3, 0, RID, 0), 0);
		assert_int_equal(f.mapped, 2);
		g_destroy(&g);
		assert_int_equal(__atomic_load_n(&fail.live_objects, __ATOMIC_RELAXED), 0);
		if (!fired)
			break;
		failures += f.error != 0;
	}
	assert_true(failures > 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oldest_binding_makes_room),
		cmocka_unit_test(bindings_that_went_do_not_pile_up),
		cmocka_unit_test(every_device_of_a_segment),
		cmocka_unit_test(handles_are_found_again_and_removed),
		cmocka_unit_test(pasid_wider_than_20_bits_is_refused),
		cmocka_unit_test(two_front_ends_share_a_vm),
		cmocka_unit_test(front_ends_mirror_the_same_domain),
		cmocka_unit_test(handshakes_forget_what_others_keep),
		cmocka_unit_test(requests_of_others_are_refused),
		cmocka_unit_test(searching_commands_are_bounded_too),
		cmocka_unit_test(every_allocation_may_fail),
		cmocka_unit_test(mirror_says_when_it_cannot_follow),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
