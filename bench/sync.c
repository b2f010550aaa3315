/* SPDX-License-Identifier: MIT */
/*
 * Sync: what an invalidation costs, from one page to everything.
 *
 * Mirrored spaces: the range is read again and compared; usually nothing has
 * changed. What changes, changes in the guest's own table, by a store that is
 * part of the time. The sink only counts. Unmirrored spaces: leaves go.
 */
#include <stdlib.h>
#include <string.h>
#include "bench/families.h"
#include "bench/limits.h"
#include "bench/peers.h"
#include "shadow/space.h"

#define BLOCK 256u

enum {
	ARG_LEAVES,
	ARG_SPAN,  /* leaves that one command names */
	ARG_SHAPE, /* enum shape */
	ARG_EXTRA,
};

enum shape {
	SCATTERED,
	SPARSE,
	CONTIGUOUS
};

struct sync {
	struct guest *guest;
	uint64_t span;
	uint64_t words;      /* entries in the lowest tables */
	uint64_t *stream[2]; /* flat copies of the guest's and the shadow's entries */
	struct pair {
		const uint64_t *guest, *shadow;
	} * pair; /* the lowest tables themselves */
	uint64_t pairs;
	struct peer *tree;
	struct snest_device **devices;
	uint64_t device_count;
};

/* The first leaf of a random command: aligned to its span, as commands are. */
static inline uint64_t pick(const struct sync *s, uint64_t *seed)
{
	return random_below(seed, s->guest->shape.leaves / s->span) * s->span;
}

static inline void command(const struct sync *s, uint64_t leaf)
{
	snest_space_invalidate(s->guest->space, leaf * PAGE, (leaf + s->span) * PAGE - 1, 0);
}

/* ---- Limits and peers ------------------------------------------------------------------ */

/* The entries of the range in two flat tables, read and compared. */
static void run_compare(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t seed = 1, sum = 0;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			uint64_t leaf = pick(s, &seed);

			sum |= read_two(s->stream[0] + leaf, s->stream[1] + leaf, s->span);
		}
	}
	gb_keep(sum);
}

/* Every lowest table of both sides, in order, read once. */
static void run_read(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t sum = 0;

	(void)arg;
	while (gb_next(run, 1)) {
		for (uint64_t i = 0; i < s->pairs; i++)
			sum |= read_two(s->pair[i].guest, s->pair[i].shadow, 512);
	}
	gb_keep(sum);
}

/* As much, as two streams in huge pages. */
static void run_stream(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t sum = 0;

	(void)arg;
	while (gb_next(run, 1))
		sum |= read_two(s->stream[0], s->stream[1], s->words);
	gb_keep(sum);
}

static void run_copy(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;

	(void)arg;
	while (gb_next(run, s->words)) {
		memcpy(s->stream[1], s->stream[0], s->words * 8);
		gb_keep(s->stream[1]);
	}
}

/* As emulators do it for each page: walk the guest's table, look in a tree of what is mapped. */
static void run_tree(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	const struct guest *g = s->guest;
	const struct snest_stage *stage = snest_table_stage(g->table);
	uint64_t seed = 1, different = 0;

	(void)arg;
	if (!s->tree) {
		s->tree = peer_create(PEER_TREE);
		for (uint64_t i = 0; i < g->shape.leaves; i++)
			peer_insert(s->tree, guest_iova(g, i), 12, guest_host(g, i), RW);
	}
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			uint64_t leaf = pick(s, &seed);

			for (uint64_t k = leaf; k < leaf + s->span; k++) {
				struct snest_translation t;
				struct snest_walk walk;

				snest_walk(g->vm, stage, 1, k * PAGE, SNEST_READ, 0, &walk, NULL,
				           NULL);
				peer_tree_translate(s->tree, k * PAGE, SNEST_READ, &t);
				different += walk.host != t.host;
			}
		}
	}
	if (different)
		gb_fail(run, "the tree differs");
}

/* ---- Mirrored ----------------------------------------------------------------------------- */

static void run_unchanged(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t seed = 1, ops = s->guest->sink_ops;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++)
			command(s, pick(s, &seed));
	}
	if (s->guest->sink_ops != ops)
		gb_fail(run, "the sink was told of changes that are none");
}

/* Ascending commands, as the unmapping of a large buffer gives. */
static void run_ascending(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t leaf = 0;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			command(s, leaf);
			leaf = leaf + s->span == s->guest->shape.leaves ? 0 : leaf + s->span;
		}
	}
}

/* Unmaps the whole range of a command, then maps it again; the time of one command. */
static void run_change(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t seed = 1, ops = s->guest->sink_ops, commands = 0, *keep;

	(void)arg;
	keep = must_alloc(s->span * 8, 64);
	while (gb_next(run, 2)) {
		uint64_t leaf = pick(s, &seed);

		for (uint64_t done = 0; done < s->span; done += 512) {
			uint64_t n = s->span - done < 512 ? s->span - done : 512;
			uint64_t *entry = guest_entry(s->guest, leaf + done);

			memcpy(keep + done, entry, n * 8);
			memset(entry, 0, n * 8);
		}
		command(s, leaf);
		for (uint64_t done = 0; done < s->span; done += 512) {
			uint64_t n = s->span - done < 512 ? s->span - done : 512;

			memcpy(guest_entry(s->guest, leaf + done), keep + done, n * 8);
		}
		command(s, leaf);
		commands += 2;
	}
	free(keep);
	if (s->guest->sink_ops - ops != commands * s->span)
		gb_fail(run, "the sink was told something else");
}

static void run_space(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t ops = s->guest->sink_ops;

	(void)arg;
	while (gb_next(run, 1))
		snest_space_invalidate(s->guest->space, 0, UINT64_MAX, 0);
	if (s->guest->sink_ops != ops)
		gb_fail(run, "the sink was told of changes that are none");
}

static void run_tag(struct gb_run *run, void *group, uint64_t arg)
{
	const struct snest_tag tag = {.domain = 1};
	struct sync *s = group;
	uint64_t seed = 1;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			uint64_t leaf = pick(s, &seed);

			snest_tag_invalidate(s->guest->vm, tag, leaf * PAGE,
			                     (leaf + s->span) * PAGE - 1, 0);
		}
	}
}

static void run_device(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t seed = 1;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			uint64_t leaf = pick(s, &seed);

			snest_device_invalidate(s->guest->device, SNEST_NO_PASID, leaf * PAGE,
			                        (leaf + s->span) * PAGE - 1, 0);
		}
	}
}

/* The first sync of all: from an empty sink to everything. Time a page. */
static void run_populate(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t start;

	(void)arg;
	while (gb_next(run, s->guest->shape.leaves)) {
		snest_space_unmirror(s->guest->space);
		guest_settle(s->guest);
		start = now_ns();
		guest_mirror(s->guest);
		gb_manual(run, now_ns() - start);
	}
}

/* ---- Not mirrored ---------------------------------------------------------------------------- */

/* Pages that the shadow holds are dropped, one command each; filled again without being timed. */
static void run_drop(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t seed = 1, start;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		uint64_t first = random_below(&seed, s->guest->shape.leaves - BLOCK);

		for (uint64_t i = first; i < first + BLOCK; i++) {
			struct snest_translation t;

			snest_read_begin();
			snest_translate(s->guest->device, i * PAGE, RW, &t, NULL);
			snest_read_end();
		}
		start = now_ns();
		for (uint64_t i = first; i < first + BLOCK; i++)
			snest_space_invalidate(s->guest->space, i * PAGE, (i + 1) * PAGE - 1, 0);
		gb_manual(run, now_ns() - start);
	}
}

/*
 * The whole shadow goes. One page of each table is filled before: as many tables
 * as if all were. Nothing is being freed when it goes, which is the worst case:
 * the thread that frees sleeps.
 */
static void run_drop_space(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t start;

	(void)arg;
	while (gb_next(run, 1)) {
		for (uint64_t i = 0; i < s->guest->shape.leaves; i += 512) {
			struct snest_translation t;

			snest_read_begin();
			snest_translate(s->guest->device, i * PAGE, RW, &t, NULL);
			snest_read_end();
		}
		start = now_ns();
		snest_space_invalidate(s->guest->space, 0, UINT64_MAX, 0);
		gb_manual(run, now_ns() - start);
		guest_settle(s->guest);
	}
}

/* ---- Groups -------------------------------------------------------------------------------------- */

static void *setup_unmirrored(const uint64_t *arg)
{
	struct guest_shape shape = {.leaves = arg[ARG_LEAVES], .lg2 = 12};
	struct sync *s = must_alloc(sizeof(*s), 64);

	shape.spread = arg[ARG_SHAPE] == SPARSE ? 512 : 1;
	shape.contiguous = arg[ARG_SHAPE] == CONTIGUOUS;
	memset(s, 0, sizeof(*s));
	s->guest = guest_create(&shape);
	s->span = arg[ARG_SPAN];
	s->words = shape.leaves * shape.spread;
	for (unsigned i = 0; i < 2; i++)
		s->stream[i] = must_map(s->words * 8);
	return s;
}

/* Where the lowest tables are. Contiguous pages have none in the shadow: the guest's stands in. */
static void find_pairs(struct sync *s)
{
	const struct guest *g = s->guest;

	s->pairs = (s->words + 511) / 512;
	s->pair = must_alloc(s->pairs * sizeof(*s->pair), 64);
	for (uint64_t i = 0; i < s->pairs; i++) {
		uint64_t iova = i * 512 * PAGE, entry = g->space->tree[0].root;
		unsigned shift = entry & SN_SH_ROOT_SHIFT;

		s->pair[i].guest = guest_entry(g, i * 512 / g->shape.spread);
		while (shift > SN_SH_SHIFT0) {
			entry = sn_sh_table(entry)[sn_sh_index(iova, shift)];
			if (!sn_sh_is_table(entry, shift))
				break;
			shift -= SN_SH_BITS;
		}
		s->pair[i].shadow = shift == SN_SH_SHIFT0 ? sn_sh_table(entry) : s->pair[i].guest;
	}
}

static void *setup(const uint64_t *arg)
{
	struct sync *s = setup_unmirrored(arg);

	guest_mirror(s->guest);
	find_pairs(s);
	return s;
}

static void *setup_devices(const uint64_t *arg)
{
	struct sync *s = setup(arg);

	s->device_count = arg[ARG_EXTRA];
	s->devices = must_alloc(s->device_count * sizeof(struct snest_device *), 64);
	for (uint32_t i = 0; i < s->device_count; i++) {
		must(snest_device_create(s->guest->vm, 0x100 + i, NULL, NULL, &s->devices[i]),
		     "device");
		must(snest_device_bind(s->devices[i], SNEST_NO_PASID, s->guest->space), "bind");
	}
	return s;
}

static void teardown(void *group)
{
	struct sync *s = group;

	for (uint64_t i = 0; i < s->device_count; i++)
		snest_device_destroy(s->devices[i]);
	free(s->devices);
	free(s->pair);
	if (s->tree)
		peer_destroy(s->tree);
	for (unsigned i = 0; i < 2; i++)
		unmap(s->stream[i], s->words * 8);
	guest_destroy(s->guest);
	free(s);
}

static const struct gb_member range_members[] = {
	{"compare", GB_LIMIT, .run = run_compare},   {"unchanged", .run = run_unchanged},
	{"ascending", .run = run_ascending},         {"change", .run = run_change},
	{"walk and tree", GB_PEER, .run = run_tree},
};

static const struct gb_member space_members[] = {
	{"read", GB_LIMIT, .run = run_read},
	{"stream", GB_LIMIT, .run = run_stream},
	{"unchanged", .run = run_space},
};

static const struct gb_member device_members[] = {
	{"compare", GB_LIMIT, .run = run_compare},
	{"space", .run = run_unchanged},
	{"tag", .run = run_tag},
	{"device", .run = run_device},
};

static const struct gb_member populate_members[] = {
	{"copy", GB_LIMIT, .run = run_copy},
	{"mirror", .flags = GB_MANUAL, .run = run_populate},
};

static const struct gb_member drop_members[] = {
	{"compare", GB_LIMIT, .run = run_compare},
	{"drop", .flags = GB_MANUAL, .run = run_drop},
};

static const struct gb_member drop_space_members[] = {
	/* What is timed is a small part of it all. */
	{"drop", .flags = GB_MANUAL, .iterations = 50, .run = run_drop_space},
};

static void add_ranges(struct gb_suite *suite, const char *name, uint64_t leaves, uint64_t span,
                       unsigned count)
{
	struct gb_group group = {
		.setup = setup,
		.teardown = teardown,
		.arg = {leaves, span, SCATTERED},
		.members = range_members,
		.count = count,
	};
	char size[16];

	group_name(&group, "sync/%s/%s", name, size_name(size, leaves));
	gb_add(suite, &group);
}

static void add_space(struct gb_suite *suite, const char *name, uint64_t leaves, enum shape shape,
                      void *(*own)(const uint64_t *), const struct gb_member *members,
                      unsigned count)
{
	struct gb_group group = {
		.setup = own,
		.teardown = teardown,
		.arg = {leaves, 1, shape},
		.members = members,
		.count = count,
	};
	char size[16];

	group_name(&group, "sync/%s/%s", name, size_name(size, leaves));
	gb_add(suite, &group);
}

void sync_add(struct gb_suite *suite)
{
	static const uint64_t sizes[] = {KIB, 64 * KIB, MIB, 16 * MIB};
	bool quick = gb_quick(suite);

	for (unsigned i = 0; i < 4; i++) {
		uint64_t n = sizes[i];

		add_ranges(suite, "1 page", n, 1, n > MIB || (quick && n == MIB) ? 4 : 5);
		if (quick && n > MIB)
			continue;
		add_space(suite, "space", n, SCATTERED, setup, space_members, 3);
		add_space(suite, "unmirrored space", n, SCATTERED, setup_unmirrored,
		          drop_space_members, 1);
	}
	add_ranges(suite, "256 pages", MIB, 256, quick ? 4 : 5);
	add_ranges(suite, "2M", MIB, 512, 4);
	add_ranges(suite, "1G", MIB, 262144, 3);
	add_space(suite, "space sparse", 2 * KIB, SPARSE, setup, space_members, 3);
	add_space(suite, "space contiguous", MIB, CONTIGUOUS, setup, space_members, 3);
	add_space(suite, "populate", MIB, SCATTERED, setup, populate_members, 2);
	add_space(suite, "populate contiguous", MIB, CONTIGUOUS, setup, populate_members, 2);
	add_space(suite, "drop 1 page", MIB, SCATTERED, setup_unmirrored, drop_members, 2);
	for (uint64_t n = 1; n <= 1024; n *= quick ? 32 : 4) {
		struct gb_group group = {
			.setup = setup_devices,
			.teardown = teardown,
			.arg = {64 * KIB, 1, SCATTERED, n},
			.members = device_members,
			.count = 4,
		};

		group_name(&group, "sync/devices/%u", (unsigned)n);
		gb_add(suite, &group);
	}
}
