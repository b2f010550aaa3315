/* SPDX-License-Identifier: MIT */
/*
 * VT-d mirrors: a sink is what the device may reach after every completed
 * command, through changes of maps and of configuration; it is empty when the
 * configuration is absent or wrong, and not touched when nothing changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_guest.h"

#define RID 0x118u
#define OTHER 0x120u
#define DID 7u
#define NO SNEST_NO_PASID
#define PAGES 64u

/* A sink as a plain array: IOVA pages 0..PAGES-1, all else counted only. */
struct sink {
	uint64_t gpa[PAGES]; /* + 1; 0: not mapped */
	uint32_t rights[PAGES];
	unsigned calls, failures;
	unsigned elsewhere; /* ops outside of the array */
	int error;          /* what apply returns */
};

static int apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct sink *s = opaque;

	s->calls++;
	*done = 0;
	for (size_t i = 0; i < count; i++) {
		if (s->error && ops[i].map)
			return s->error;
		for (uint64_t at = ops[i].first; at <= ops[i].last; at += 4096) {
			uint64_t page = at >> 12;

			if (page >= PAGES) {
				s->elsewhere++;
				break;
			}
			/* Every map is new, every unmap takes something away. */
			assert_int_equal(!!s->gpa[page], !ops[i].map);
			s->gpa[page] =
				ops[i].map ? ops[i].host - G_HOST + (at - ops[i].first) + 1 : 0;
			s->rights[page] = ops[i].rights;
		}
		++*done;
	}
	return 0;
}

static void failed(void *opaque, uint64_t first, uint64_t last, int error)
{
	(void)first;
	(void)last;
	(void)error;
	((struct sink *)opaque)->failures++;
}

static struct snest_sink sink_of(struct sink *s)
{
	return (struct snest_sink){
		.size = sizeof(struct snest_sink),
		.flags = SNEST_SINK_CAN_SPLIT,
		.opaque = s,
		.apply = apply,
		.failed = failed,
	};
}

static int mirror(struct vtd_guest *g, uint32_t rid, uint32_t pasid, struct sink *s)
{
	struct snest_sink sink = sink_of(s);

	memset(s, 0, sizeof(*s));
	return snest_vtd_mirror(g->vtd, rid, pasid, &sink);
}

static unsigned mapped(const struct sink *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PAGES; i++)
		n += !!s->gpa[i];
	return n;
}

/* The sink holds exactly what the tables of `root` say. */
static void expect_equal(struct vtd_guest *g, const struct sink *s, uint64_t root)
{
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = SNEST_FORMAT_VTD_SS,
		.levels = 4,
		.ia_bits = 48,
		.oa_bits = 48,
		.root = root,
	};

	for (unsigned i = 0; i < PAGES; i++) {
		struct snest_walk walk;

		assert_int_equal(snest_walk(g->image.vm, &stage, 1, i * 4096ull, 0,
		                            SNEST_WALK_NO_UPDATE, &walk, NULL, NULL),
		                 0);
		if (walk.outcome == SNEST_WALK_HOST && walk.rights) {
			assert_int_equal(s->gpa[i], walk.gpa + 1);
			assert_int_equal(s->rights[i], walk.rights & 3);
		} else {
			assert_int_equal(s->gpa[i], 0);
		}
	}
	assert_int_equal(s->elsewhere, 0);
}

static void start(struct vtd_guest *g, uint64_t *root)
{
	g_create(g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	g_start_legacy(g, RID, DID, root);
	for (unsigned i = 1; i < 8; i++)
		g_map(g, *root, i * 4096, G_DATA + i * 4096, 12, 3);
}

static void sink_is_populated_and_follows_maps(void **state)
{
	struct vtd_guest g;
	struct sink s;
	uint64_t root;

	(void)state;
	start(&g, &root);
	assert_int_equal(mirror(&g, RID, NO, &s), 0);
	expect_equal(&g, &s, root);
	assert_int_equal(mapped(&s), 7);
	g_map(&g, root, 0x20000, G_DATA + 0x20000, 12, 1);
	g_submit(&g, D_IOTLB(3, DID), 0x20000);
	expect_equal(&g, &s, root);
	image_put(&g.image, g_leaf_at(&g, root, 0x3000, 12), 0);
	g_submit(&g, D_IOTLB(3, DID), 0x3000);
	expect_equal(&g, &s, root);
	image_put(&g.image, g_leaf_at(&g, root, 0x4000, 12), (G_DATA + 0x99000) | 3);
	g_submit(&g, D_IOTLB(2, DID), 0);
	expect_equal(&g, &s, root);
	assert_int_equal(snest_vtd_unmirror(g.vtd, RID, NO), 0);
	assert_int_equal(mapped(&s), 0);
	assert_int_equal(snest_vtd_unmirror(g.vtd, RID, NO), -ENOENT);
	g_destroy(&g);
}

/* A table that leads to itself maps 2^36 pages; one command reads as much as the embedder said. */
static void sync_of_a_bomb_stops_at_the_limit(void **state)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW | SNEST_VTD_SYNC,
		.cap = G_CAP_CM,
		.ecap = G_ECAP,
		.sync_entries_max = 4096,
	};
	struct vtd_guest g;
	struct sink s;
	uint64_t root;
	int ret;

	(void)state;
	g_create_config(&g, &config);
	g_start_legacy(&g, RID, DID, &root);
	for (unsigned i = 0; i < 512; i++)
		image_put(&g.image, root + i * 8, root | 3);
	ret = mirror(&g, RID, NO, &s);
	assert_true(ret || s.failures);
	/* What was mapped of it is unmapped again. */
	assert_int_equal(mapped(&s), 0);
	assert_in_range(s.elsewhere, 1, 2 * 4096);
	g_destroy(&g);
}

static void command_that_changes_nothing_leaves_the_sink_alone(void **state)
{
	struct vtd_guest g;
	struct sink s;
	uint64_t root;
	unsigned calls;

	(void)state;
	start(&g, &root);
	assert_int_equal(mirror(&g, RID, NO, &s), 0);
	calls = s.calls;
	g_submit(&g, D_CC(3, DID, RID, 0), 0);
	g_submit(&g, D_CC(1, 0, 0, 0), 0);
	g_submit(&g, D_IOTLB(1, 0), 0);
	g_set_root(&g, G_ROOT);
	assert_int_equal(s.calls, calls);
	expect_equal(&g, &s, root);
	g_destroy(&g);
}

static void sink_switches_to_the_new_domain(void **state)
{
	struct vtd_guest g;
	struct sink s;
	uint64_t root, other;

	(void)state;
	start(&g, &root);
	other = g_table(&g);
	g_map(&g, other, 0x2000, G_DATA + 0x42000, 12, 3);
	g_map(&g, other, 0x30000, G_DATA + 0x43000, 12, 3);
	assert_int_equal(mirror(&g, RID, NO, &s), 0);
	g_context(&g, RID, DID + 1, other);
	expect_equal(&g, &s, root);
	g_submit(&g, D_CC(3, DID, RID, 0), 0);
	expect_equal(&g, &s, other);
	/* Commands for the old domain do not concern it any more. */
	g_map(&g, other, 0x6000, G_DATA, 12, 3);
	g_submit(&g, D_IOTLB(3, DID), 0x6000);
	assert_int_equal(s.gpa[6], 0);
	g_submit(&g, D_IOTLB(3, DID + 1), 0x6000);
	expect_equal(&g, &s, other);
	g_destroy(&g);
}

static void broken_configuration_empties_the_sink(void **state)
{
	struct vtd_guest g;
	struct sink s;
	uint64_t root, entry;

	(void)state;
	start(&g, &root);
	assert_int_equal(mirror(&g, RID, NO, &s), 0);
	entry = image_get(&g.image, g_context_at(&g, RID));
	static const struct {
		uint64_t clear, set;
		bool root;
	} breaks[] = {
		{1, 0, false},         /* context entry gone */
		{0, 1 << 4, false},    /* reserved bit */
		{0, 3 << 2, false},    /* reserved type */
		{1, 0, true},          /* root entry gone */
		{0, 1 << 1, true},     /* reserved bit */
		{0, 1ull << 47, true}, /* context table outside memory */
	};

	for (unsigned i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++) {
		uint64_t at = breaks[i].root ? G_ROOT + (RID >> 8) * 16 : g_context_at(&g, RID);
		uint64_t good = image_get(&g.image, at);

		expect_equal(&g, &s, root);
		image_put(&g.image, at, (good & ~breaks[i].clear) | breaks[i].set);
		g_submit(&g, D_CC(i & 1 ? 1 : 3, DID, RID, 0), 0);
		assert_int_equal(mapped(&s), 0);
		image_put(&g.image, at, good);
		/* Absent entries have DID 0 under caching mode. */
		g_submit(&g, D_CC(3, 0, RID, 0), 0);
		assert_int_equal(mapped(&s), 7);
	}
	assert_int_equal(image_get(&g.image, g_context_at(&g, RID)), entry);
	/* A second-stage root outside memory: a space that maps nothing. */
	g_context(&g, RID, DID, IMAGE_OUTSIDE);
	g_submit(&g, D_CC(3, DID, RID, 0), 0);
	assert_int_equal(mapped(&s), 0);
	g_destroy(&g);
}

static void device_without_configuration_can_be_mirrored(void **state)
{
	struct vtd_guest g;
	struct sink s;
	uint64_t root;

	(void)state;
	start(&g, &root);
	assert_int_equal(mirror(&g, OTHER, NO, &s), 0);
	assert_int_equal(mapped(&s), 0);
	g_context(&g, OTHER, DID, root);
	g_submit(&g, D_CC(3, 0, OTHER, 0), 0);
	expect_equal(&g, &s, root);
	g_destroy(&g);
}

static void devices_of_one_domain_have_a_sink_each(void **state)
{
	struct vtd_guest g;
	struct sink s[3];
	uint64_t root;

	(void)state;
	start(&g, &root);
	g_context(&g, OTHER, DID, root);
	/* One was used before it was mirrored. */
	assert_int_equal(g_dma(&g, OTHER, 0x1000, SNEST_READ), G_DATA + 0x1000);
	assert_int_equal(mirror(&g, RID, NO, &s[0]), 0);
	assert_int_equal(mirror(&g, OTHER, NO, &s[1]), 0);
	assert_int_equal(mirror(&g, OTHER, NO, &s[2]), -EBUSY);
	g_submit(&g, D_CC(1, 0, 0, 0), 0);
	g_map(&g, root, 0x20000, G_DATA + 0x20000, 12, 3);
	g_submit(&g, D_IOTLB(3, DID), 0x20000);
	expect_equal(&g, &s[0], root);
	expect_equal(&g, &s[1], root);
	assert_int_equal(g_dma(&g, OTHER, 0x20000, SNEST_READ), G_DATA + 0x20000);
	assert_int_equal(snest_vtd_unmirror(g.vtd, RID, NO), 0);
	image_put(&g.image, g_leaf_at(&g, root, 0x20000, 12), 0);
	g_submit(&g, D_IOTLB(3, DID), 0x20000);
	assert_int_equal(s[1].gpa[0x20], 0);
	assert_int_equal(mapped(&s[0]), 0);
	assert_int_equal(g_dma(&g, RID, 0x20000, SNEST_READ), UINT64_MAX);
	g_destroy(&g);
}

static void translation_off_and_pass_through_map_memory(void **state)
{
	struct vtd_guest g;
	struct sink s;
	uint64_t root;

	(void)state;
	start(&g, &root);
	assert_int_equal(mirror(&g, RID, NO, &s), 0);
	g_command(&g, TE, false);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(s.gpa[i], i * 4096 + 1);
	s.elsewhere = 0;
	g_command(&g, TE, true);
	s.elsewhere = 0;
	expect_equal(&g, &s, root);
	/* Identity domain. */
	image_put(&g.image, g_context_at(&g, RID), 1 | 2 << 2);
	g_submit(&g, D_CC(3, DID, RID, 0), 0);
	assert_int_equal(mapped(&s), PAGES);
	g_destroy(&g);
}

static void first_stage_and_lazy_guests_cannot_be_mirrored(void **state)
{
	struct vtd_guest g;
	struct sink s;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_LAZY, G_ECAP, SNEST_VTD_SYNC);
	g_start_legacy(&g, RID, DID, &root);
	assert_int_equal(mirror(&g, RID, NO, &s), -EOPNOTSUPP);
	g_destroy(&g);
	g_create(&g, G_CAP_FS, G_ECAP_FS, SNEST_VTD_SYNC);
	g_scalable_context(&g, RID, 0);
	g_start_scalable(&g);
	/* Nothing there yet, so nothing is known to be wrong; the guest's choice is told later. */
	assert_int_equal(mirror(&g, RID, NO, &s), 0);
	g_pasid(&g, RID, 0, PGTT_FIRST, DID, g_table(&g), 0);
	g_submit(&g, D_PC(1, DID, 0), 0);
	assert_int_equal(s.failures, 1);
	assert_int_equal(mapped(&s), 0);
	g_destroy(&g);
}

static void pasid_can_be_mirrored(void **state)
{
	struct vtd_guest g;
	struct sink s;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_ALL, G_ECAP_ALL, SNEST_VTD_SYNC);
	root = g_table(&g);
	g_scalable_context(&g, RID, 0);
	g_pasid(&g, RID, 0x45, PGTT_SECOND, DID, 0, root);
	g_map(&g, root, 0x3000, G_DATA, 12, 3);
	g_start_scalable(&g);
	assert_int_equal(mirror(&g, RID, 0x45, &s), 0);
	expect_equal(&g, &s, root);
	image_put(&g.image, g_pasid_at(&g, RID, 0x45), 0);
	g_submit(&g, D_PC(1, DID, 0x45), 0);
	assert_int_equal(mapped(&s), 0);
	/* The new entry has another DID, which is what the command names. */
	g_pasid(&g, RID, 0x45, PGTT_SECOND, DID + 3, 0, root);
	g_submit(&g, D_PC(1, DID + 3, 0x45), 0);
	expect_equal(&g, &s, root);
	assert_int_equal(snest_vtd_remove(g.vtd, RID), 0);
	assert_int_equal(mapped(&s), 0);
	assert_int_equal(snest_vtd_remove(g.vtd, RID), -ENOENT);
	g_destroy(&g);
}

static void sink_that_fails_is_told_and_tried_again(void **state)
{
	struct vtd_guest g;
	struct sink s;
	uint64_t root, other;

	(void)state;
	start(&g, &root);
	other = g_table(&g);
	g_map(&g, other, 0x2000, G_DATA, 12, 3);
	assert_int_equal(mirror(&g, RID, NO, &s), 0);
	s.error = -ENOSPC;
	g_context(&g, RID, DID + 1, other);
	g_submit(&g, D_CC(3, DID, RID, 0), 0);
	assert_int_equal(mapped(&s), 0);
	assert_true(s.failures > 0);
	s.error = 0;
	g_submit(&g, D_CC(3, DID, RID, 0), 0);
	expect_equal(&g, &s, other);
	g_destroy(&g);
}

static void restore_populates_mirrors(void **state)
{
	unsigned char blob[8192];
	size_t length = sizeof(blob);
	struct vtd_guest g;
	struct sink s;
	uint64_t root;

	(void)state;
	start(&g, &root);
	assert_int_equal(snest_vtd_save(g.vtd, blob, &length), 0);
	g_command(&g, TE, false);
	g_set_root(&g, 0x7000);
	g_command(&g, TE, true);
	assert_int_equal(mirror(&g, RID, NO, &s), 0);
	assert_int_equal(mapped(&s), 0);
	assert_int_equal(snest_vtd_restore(g.vtd, blob, length), 0);
	expect_equal(&g, &s, root);
	g_destroy(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sink_is_populated_and_follows_maps),
		cmocka_unit_test(sync_of_a_bomb_stops_at_the_limit),
		cmocka_unit_test(command_that_changes_nothing_leaves_the_sink_alone),
		cmocka_unit_test(sink_switches_to_the_new_domain),
		cmocka_unit_test(broken_configuration_empties_the_sink),
		cmocka_unit_test(device_without_configuration_can_be_mirrored),
		cmocka_unit_test(devices_of_one_domain_have_a_sink_each),
		cmocka_unit_test(translation_off_and_pass_through_map_memory),
		cmocka_unit_test(first_stage_and_lazy_guests_cannot_be_mirrored),
		cmocka_unit_test(pasid_can_be_mirrored),
		cmocka_unit_test(sink_that_fails_is_told_and_tried_again),
		cmocka_unit_test(restore_populates_mirrors),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
