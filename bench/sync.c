/* SPDX-License-Identifier: MIT */
/*
 * Sync: what an invalidation costs, from one page to everything.
 *
 * Mirrored spaces: the range is read again and compared; usually nothing has
 * changed. What changes, changes in the guest's own table, by a store that is
 * part of the time. The sink only counts. Spaces without mirror: sync_drop.c.
 */
#include <stdlib.h>
#include <string.h>
#include "bench/limits.h"
#include "bench/sync.h"
#include "shadow/space.h"

/* ---- Limits and peers ------------------------------------------------------------------ */

void sync_run_compare(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t seed = 1, sum = 0;

	(void)arg;
	while (gb_next(run, SYNC_BLOCK)) {
		for (unsigned i = 0; i < SYNC_BLOCK; i++) {
			uint64_t at = pick(s, &seed) * s->guest->shape.spread;

			sum |= read_two(s->stream[0] + at, s->stream[1] + at, s->span);
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

/* The same by the C library. The streams are equal, so that it reads all of them. */
static void run_memcmp(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	int different = 0;

	(void)arg;
	while (gb_next(run, 1))
		different |= memcmp(s->stream[0], s->stream[1], s->words * 8);
	if (different)
		gb_fail(run, "the streams differ");
}

static void run_copy(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;

	(void)arg;
	while (gb_next(run, s->guest->shape.leaves)) {
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
	while (gb_next(run, SYNC_BLOCK)) {
		for (unsigned i = 0; i < SYNC_BLOCK; i++) {
			uint64_t leaf = pick(s, &seed);

			for (uint64_t k = leaf; k < leaf + s->span; k++) {
				struct snest_translation t;
				struct snest_walk walk;

				snest_walk(g->vm, stage, 1, guest_iova(g, k), SNEST_READ, 0, &walk,
				           NULL, NULL);
				peer_tree_translate(s->tree, guest_iova(g, k), SNEST_READ, &t);
				different += walk.host != t.host;
			}
		}
	}
	if (different)
		gb_fail(run, "the tree differs");
}

/* ---- Mirrored ----------------------------------------------------------------------------- */

void sync_run_unchanged(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t seed = 1, ops = s->guest->sink_ops;

	(void)arg;
	while (gb_next(run, SYNC_BLOCK)) {
		for (unsigned i = 0; i < SYNC_BLOCK; i++)
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
	while (gb_next(run, SYNC_BLOCK)) {
		for (unsigned i = 0; i < SYNC_BLOCK; i++) {
			command(s, leaf);
			leaf = leaf + s->span == s->guest->shape.leaves ? 0 : leaf + s->span;
		}
	}
}

/* ---- Mirrored, changed -------------------------------------------------------------------- */

/* Commands that touch different pages, in no order, and where the entries of each are. */
struct changes {
	uint64_t count, per; /* commands; tables of one command */
	uint64_t *leaf;      /* the first of each */
	uint64_t **entry;
	uint64_t *saved;
};

static void changes_create(struct changes *c, const struct sync *s)
{
	uint64_t slots = s->guest->shape.leaves / s->span;

	c->count = slots < SYNC_BLOCK ? slots : SYNC_BLOCK;
	c->per = (s->span + 511) / 512;
	c->leaf = must_alloc(c->count * sizeof(*c->leaf), 64);
	c->entry = must_alloc(c->count * c->per * sizeof(*c->entry), 64);
	c->saved = must_alloc(c->count * s->span * 8, 64);
}

static void changes_draw(struct changes *c, const struct sync *s, uint64_t *seed)
{
	uint64_t step = s->guest->shape.leaves / s->span / c->count;

	for (uint64_t i = 0; i < c->count; i++) {
		/* An odd factor and a power of two: every part once. */
		uint64_t part = i * 167 & (c->count - 1);

		c->leaf[i] = (part * step + random_below(seed, step)) * s->span;
		for (uint64_t k = 0; k < c->per; k++)
			c->entry[i * c->per + k] = guest_entry(s->guest, c->leaf[i] + k * 512);
	}
}

static void changes_destroy(struct changes *c)
{
	free(c->leaf);
	free(c->entry);
	free(c->saved);
}

/* What the guest does to its table for command i: the entries go, or come back. */
static inline void change(const struct changes *c, const struct sync *s, uint64_t i, bool map)
{
	uint64_t *saved = c->saved + i * s->span;
	uint64_t n = s->span < 512 ? s->span : 512;

	for (uint64_t k = 0; k < c->per; k++, saved += n) {
		uint64_t *entry = c->entry[i * c->per + k];

		if (map) {
			memcpy(entry, saved, n * 8);
		} else {
			memcpy(saved, entry, n * 8);
			memset(entry, 0, n * 8);
		}
	}
}

/* Unmaps what each command names, then maps it again; `mapping` says which is timed. */
static void run_change(struct gb_run *run, void *group, uint64_t mapping)
{
	struct sync *s = group;
	uint64_t seed = 1, ops = s->guest->sink_ops, commands = 0;
	struct changes c;

	changes_create(&c, s);
	while (gb_next(run, c.count)) {
		uint64_t start, middle, end;

		changes_draw(&c, s, &seed);
		start = now_ns();
		for (uint64_t i = 0; i < c.count; i++) {
			change(&c, s, i, false);
			command(s, c.leaf[i]);
		}
		middle = now_ns();
		for (uint64_t i = 0; i < c.count; i++) {
			change(&c, s, i, true);
			command(s, c.leaf[i]);
		}
		end = now_ns();
		gb_manual(run, mapping ? end - middle : middle - start);
		commands += 2 * c.count;
	}
	changes_destroy(&c);
	if (s->guest->sink_ops - ops != commands * s->span)
		gb_fail(run, "the sink was told something else");
}

/* ---- Mirrored, everything --------------------------------------------------------------------- */

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

/* By the guest's name for it, whole. */
static void run_tag_whole(struct gb_run *run, void *group, uint64_t arg)
{
	const struct snest_tag tag = {.domain = 1};
	struct sync *s = group;

	(void)arg;
	while (gb_next(run, 1))
		snest_tag_invalidate(s->guest->vm, tag, 0, UINT64_MAX, 0);
}

/* Every space there is: here one. */
static void run_everything(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;

	(void)arg;
	while (gb_next(run, 1))
		snest_vm_invalidate(s->guest->vm, 0, UINT64_MAX, 0);
}

static void run_tag(struct gb_run *run, void *group, uint64_t arg)
{
	const struct snest_tag tag = {.domain = 1};
	struct sync *s = group;
	uint64_t seed = 1;

	(void)arg;
	while (gb_next(run, SYNC_BLOCK)) {
		for (unsigned i = 0; i < SYNC_BLOCK; i++) {
			uint64_t leaf = pick(s, &seed);

			snest_tag_invalidate(s->guest->vm, tag, first_of(s, leaf), last_of(s, leaf),
			                     0);
		}
	}
}

static void run_device(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t seed = 1;

	(void)arg;
	while (gb_next(run, SYNC_BLOCK)) {
		for (unsigned i = 0; i < SYNC_BLOCK; i++) {
			uint64_t leaf = pick(s, &seed);

			snest_device_invalidate(s->guest->device, SNEST_NO_PASID, first_of(s, leaf),
			                        last_of(s, leaf), 0);
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

/* ---- Groups -------------------------------------------------------------------------------------- */

void *sync_setup_unmirrored(const uint64_t *arg)
{
	struct guest_shape shape = {.leaves = arg[ARG_LEAVES], .lg2 = 12};
	struct sync *s = must_alloc(sizeof(*s), 64);

	shape.spread = arg[ARG_SHAPE] == SPARSE ? 512 : 1;
	shape.contiguous = arg[ARG_SHAPE] == CONTIGUOUS;
	memset(s, 0, sizeof(*s));
	s->guest = guest_get(&shape);
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
	struct sync *s = sync_setup_unmirrored(arg);

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

void sync_teardown(void *group)
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
	guest_put(s->guest);
	free(s);
}

static const struct gb_member range_members[] = {
	{"compare", GB_LIMIT, .run = sync_run_compare},
	{"unchanged", .run = sync_run_unchanged},
	{"ascending", .run = run_ascending},
	{"unmap", .flags = GB_MANUAL, .run = run_change, .arg = 0},
	{"map", .flags = GB_MANUAL, .run = run_change, .arg = 1},
	{"walk and tree", GB_PEER, .run = run_tree},
};

static const struct gb_member space_members[] = {
	{"read", GB_LIMIT, .run = run_read},     {"stream", GB_LIMIT, .run = run_stream},
	{"memcmp", GB_LIMIT, .run = run_memcmp}, {"unchanged", .run = run_space},
	{"tag", .run = run_tag_whole},           {"everything", .run = run_everything},
};

static const struct gb_member device_members[] = {
	{"compare", GB_LIMIT, .run = sync_run_compare},
	{"space", .run = sync_run_unchanged},
	{"tag", .run = run_tag},
	{"device", .run = run_device},
};

static const struct gb_member populate_members[] = {
	{"copy", GB_LIMIT, .run = run_copy},
	{"mirror", .flags = GB_MANUAL, .run = run_populate},
};

void sync_add_group(struct gb_suite *suite, const char *name, const uint64_t arg[4],
                    void *(*own)(const uint64_t *), const struct gb_member *members, unsigned count)
{
	struct gb_group group = {
		.setup = own,
		.teardown = sync_teardown,
		.members = members,
		.count = count,
	};
	char size[16];

	memcpy(group.arg, arg, sizeof(group.arg));
	group_name(&group, "sync/%s/%s", name, size_name(size, arg[ARG_LEAVES]));
	gb_add(suite, &group);
}

static void add_ranges(struct gb_suite *suite, const char *name, uint64_t leaves, uint64_t span,
                       enum shape shape, unsigned count)
{
	sync_add_group(suite, name, (uint64_t[4]){leaves, span, shape, 0}, setup, range_members,
	               count);
}

static void add_space(struct gb_suite *suite, const char *name, uint64_t leaves, enum shape shape,
                      void *(*own)(const uint64_t *), const struct gb_member *members,
                      unsigned count)
{
	sync_add_group(suite, name, (uint64_t[4]){leaves, 1, shape, 0}, own, members, count);
}

void sync_add(struct gb_suite *suite)
{
	static const uint64_t sizes[] = {KIB, 64 * KIB, MIB, 16 * MIB};
	bool quick = gb_quick(suite);

	for (unsigned i = 0; i < 4; i++) {
		uint64_t n = sizes[i];

		/* The tree of the peer takes long to build. */
		add_ranges(suite, "1 page", n, 1, SCATTERED,
		           n > MIB || (quick && n == MIB) ? 5 : 6);
		if (!quick || n <= MIB)
			add_space(suite, "space", n, SCATTERED, setup, space_members,
			          n == MIB ? 6 : 4);
	}
	add_ranges(suite, "256 pages", MIB, 256, SCATTERED, quick ? 5 : 6);
	add_ranges(suite, "2M", MIB, 512, SCATTERED, 5);
	add_ranges(suite, "1G", MIB, 262144, SCATTERED, quick ? 3 : 5);
	add_space(suite, "populate", MIB, SCATTERED, setup, populate_members, 2);
	sync_drop_add(suite);
	add_ranges(suite, "1 page sparse", 2 * KIB, 1, SPARSE, 6);
	add_space(suite, "space sparse", 2 * KIB, SPARSE, setup, space_members, 4);
	add_space(suite, "populate sparse", 2 * KIB, SPARSE, setup, populate_members, 2);
	add_space(suite, "space contiguous", MIB, CONTIGUOUS, setup, space_members, 4);
	add_space(suite, "populate contiguous", MIB, CONTIGUOUS, setup, populate_members, 2);
	for (uint64_t n = 1; n <= 1024; n *= quick ? 32 : 4) {
		struct gb_group group = {
			.setup = setup_devices,
			.teardown = sync_teardown,
			.arg = {64 * KIB, 1, SCATTERED, n},
			.members = device_members,
			.count = 4,
		};

		group_name(&group, "sync/devices/%u", (unsigned)n);
		gb_add(suite, &group);
	}
}
