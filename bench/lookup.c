/* SPDX-License-Identifier: MIT */
/*
 * Lookups by one thread: how long from an IOVA to a host address.
 *
 * What snest is timed for is what a device model does for one DMA: begin a
 * read section, translate through the device's handle with a right to check,
 * end the section. The section is inlined (snest/read_inline.h), which a member
 * of its own does without. The flat array is called the same way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <snest/read_inline.h>
#include "bench/families.h"
#include "bench/limits.h"
#include "bench/peers.h"

#define BLOCK 1024u
#define BATCH 16u
#define HOT 512u /* leaves that nine of ten accesses go to */

enum pattern {
	RANDOM,
	SEQUENTIAL,
	HOT_SET,
	DEPENDENT
};

enum {
	ARG_LEAVES,
	ARG_LG2,
	ARG_PATTERN,
	ARG_EXTRA,
};

struct lookup {
	struct guest *guest;
	struct flat flat;
	uint64_t *next; /* the permutation, for the chase */
	enum pattern pattern;
	struct peer *peer[4];
	struct snest_device **devices;
	uint64_t device_count; /* a power of two */
	uint32_t pasid;
	bool dirty_log;
};

/* ---- What is called ----------------------------------------------------------------- */

typedef void (*look_fn)(struct lookup *l, uint64_t iova, struct snest_translation *t);

static inline void look_flat(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	flat_4k(&l->flat, iova, SNEST_READ, t);
}

static inline void look_flat_2m(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	flat_2m(&l->flat, iova, SNEST_READ, t);
}

static inline void look_flat_1g(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	flat_1g(&l->flat, iova, SNEST_READ, t);
}

/* What the read section itself costs, in whatever it stands. */
static inline void look_flat_section(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	snest_read_begin_inline();
	flat_4k(&l->flat, iova, SNEST_READ, t);
	snest_read_end_inline();
}

static inline void look_flat_2m_section(struct lookup *l, uint64_t iova,
                                        struct snest_translation *t)
{
	snest_read_begin_inline();
	flat_2m(&l->flat, iova, SNEST_READ, t);
	snest_read_end_inline();
}

static inline void look_flat_1g_section(struct lookup *l, uint64_t iova,
                                        struct snest_translation *t)
{
	snest_read_begin_inline();
	flat_1g(&l->flat, iova, SNEST_READ, t);
	snest_read_end_inline();
}

/* Through the functions, which need no liburcu in the embedder. */
static inline void look_called(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	snest_read_begin();
	snest_translate(l->guest->device, iova, SNEST_READ, t, NULL);
	snest_read_end();
}

static inline void look_snest(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	snest_read_begin_inline();
	snest_translate(l->guest->device, iova, SNEST_READ, t, NULL);
	snest_read_end_inline();
}

/* One read section around many lookups: a queue of requests, a scatter list. */
static inline void look_open(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	snest_translate(l->guest->device, iova, SNEST_READ, t, NULL);
}

static inline void look_write(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	snest_read_begin_inline();
	snest_translate(l->guest->device, iova, SNEST_WRITE, t, NULL);
	snest_read_end_inline();
}

static inline void look_pasid(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	snest_read_begin_inline();
	snest_translate_pasid(l->guest->device, l->pasid, iova, SNEST_READ, t, NULL);
	snest_read_end_inline();
}

static inline void look_devices(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	snest_read_begin_inline();
	snest_translate(l->devices[(iova >> 12) & (l->device_count - 1)], iova, SNEST_READ, t,
	                NULL);
	snest_read_end_inline();
}

/* What a cache that missed has to do. */
static __attribute__((noinline)) void refill(struct lookup *l, uint64_t iova,
                                             struct snest_translation *t)
{
	uint64_t mask = ((uint64_t)1 << l->guest->shape.lg2) - 1;
	struct snest_walk walk;

	snest_walk(l->guest->vm, snest_table_stage(l->guest->table), 1, iova, SNEST_READ, 0, &walk,
	           NULL, NULL);
	peer_insert(l->peer[PEER_HASH], iova & ~mask, l->guest->shape.lg2, walk.host & ~mask,
	            walk.rights);
	t->host = walk.host;
}

static inline void look_hash(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	if (peer_hash_translate(l->peer[PEER_HASH], iova, SNEST_READ, t))
		refill(l, iova, t);
}

static inline void look_tree(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	peer_tree_translate(l->peer[PEER_TREE], iova, SNEST_READ, t);
}

static inline void look_map(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	peer_map_translate(l->peer[PEER_MAP], iova, SNEST_READ, t);
}

static inline void look_list(struct lookup *l, uint64_t iova, struct snest_translation *t)
{
	peer_list_translate(l->peer[PEER_LIST], iova, SNEST_READ, t);
}

/* ---- In which order ------------------------------------------------------------------ */

static inline __attribute__((always_inline)) uint64_t pick(enum pattern pattern, uint64_t *seed,
                                                           uint64_t *at, uint64_t leaves,
                                                           const struct snest_translation *t,
                                                           const struct guest *g)
{
	switch (pattern) {
	case SEQUENTIAL:
		*at = *at + 1 == leaves ? 0 : *at + 1;
		return *at;
	case HOT_SET:
		*at = random_next(seed);
		return (*at & 0xffff) < 58982 ? *at * 2654435761u % HOT : (*at * leaves) >> 32;
	case DEPENDENT:
		return (t->host - (uint64_t)(uintptr_t)g->ram.base) >> g->shape.lg2;
	default:
		return random_below(seed, leaves);
	}
}

static inline __attribute__((always_inline)) void loop(struct gb_run *run, struct lookup *l,
                                                       enum pattern pattern, look_fn look,
                                                       unsigned block)
{
	struct snest_translation t = {.host = (uint64_t)(uintptr_t)l->guest->ram.base};
	const struct guest *g = l->guest;
	uint64_t seed = 1, at = 0, leaves = g->shape.leaves, sum = 0;
	unsigned lg2 = g->shape.lg2;

	while (gb_next(run, block)) {
		for (unsigned i = 0; i < block; i++) {
			look(l, pick(pattern, &seed, &at, leaves, &t, g) << lg2, &t);
			sum += t.host;
		}
	}
	gb_keep(sum);
}

static inline __attribute__((always_inline)) void drive(struct gb_run *run, struct lookup *l,
                                                        look_fn look, unsigned block)
{
	switch (l->pattern) {
	case SEQUENTIAL:
		loop(run, l, SEQUENTIAL, look, block);
		break;
	case HOT_SET:
		loop(run, l, HOT_SET, look, block);
		break;
	case DEPENDENT:
		loop(run, l, DEPENDENT, look, block);
		break;
	default:
		loop(run, l, RANDOM, look, block);
		break;
	}
}

#define MEMBER(name, block)                                                   \
	static void run_##name(struct gb_run *run, void *group, uint64_t arg) \
	{                                                                     \
		(void)arg;                                                    \
		drive(run, group, look_##name, block);                        \
	}

MEMBER(flat, BLOCK)
MEMBER(flat_2m, BLOCK)
MEMBER(flat_1g, BLOCK)
MEMBER(flat_section, BLOCK)
MEMBER(flat_2m_section, BLOCK)
MEMBER(flat_1g_section, BLOCK)
MEMBER(snest, BLOCK)
MEMBER(called, BLOCK)
MEMBER(write, BLOCK)
MEMBER(pasid, BLOCK)
MEMBER(devices, BLOCK)
MEMBER(hash, BLOCK)
MEMBER(tree, BLOCK)
MEMBER(map, BLOCK)
MEMBER(list, 16)

static void run_open(struct gb_run *run, void *group, uint64_t arg)
{
	(void)arg;
	snest_read_begin_inline();
	drive(run, group, look_open, BLOCK);
	snest_read_end_inline();
}

/* The peers are only built when they are measured, and stay for the next repetition. */
static void run_peer(struct gb_run *run, void *group, uint64_t kind)
{
	struct lookup *l = group;
	const struct guest *g = l->guest;

	if (!l->peer[kind]) {
		uint64_t most = kind == PEER_HASH ? PEER_HASH_MAX : UINT64_MAX;

		l->peer[kind] = peer_create(kind);
		/* Backwards, so that each goes to the head of the list. */
		for (uint64_t i = g->shape.leaves < most ? g->shape.leaves : most; i-- > 0;)
			peer_insert(l->peer[kind], guest_iova(g, i), g->shape.lg2, guest_host(g, i),
			            RW);
	}
	if (kind == PEER_HASH)
		run_hash(run, group, 0);
	else if (kind == PEER_TREE)
		run_tree(run, group, 0);
	else if (kind == PEER_MAP)
		run_map(run, group, 0);
	else
		run_list(run, group, 0);
}

static void run_chase(struct gb_run *run, void *group, uint64_t arg)
{
	struct lookup *l = group;
	uint64_t at = 0;

	(void)arg;
	while (gb_next(run, BLOCK))
		at = chase(l->next, at, BLOCK);
	gb_keep(at);
}

/* ---- Several at once ------------------------------------------------------------------ */

static inline void iovas_next(const struct guest *g, uint64_t *seed, uint64_t *iova)
{
	for (unsigned i = 0; i < BATCH; i++)
		iova[i] = random_below(seed, g->shape.leaves) << g->shape.lg2;
}

static void run_batch(struct gb_run *run, void *group, uint64_t arg)
{
	struct lookup *l = group;
	struct snest_translation t[BATCH];
	uint64_t seed = 1, sum = 0, iova[BATCH];

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK / BATCH; i++) {
			iovas_next(l->guest, &seed, iova);
			snest_read_begin_inline();
			sum += snest_translate_batch(l->guest->device, iova, BATCH, SNEST_READ, t);
			snest_read_end_inline();
			sum += t[i % BATCH].host;
		}
	}
	gb_keep(sum);
}

static void run_flat_batch(struct gb_run *run, void *group, uint64_t arg)
{
	struct lookup *l = group;
	struct snest_translation t[BATCH];
	uint64_t seed = 1, sum = 0, iova[BATCH];

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK / BATCH; i++) {
			iovas_next(l->guest, &seed, iova);
			sum += flat_batch(&l->flat, iova, BATCH, SNEST_READ, t);
			sum += t[i % BATCH].host;
		}
	}
	gb_keep(sum);
}

/* A buffer of 64 KiB at a random place: 16 leaves in a row, nothing to merge. */
static void run_scatter(struct gb_run *run, void *group, uint64_t arg)
{
	struct lookup *l = group;
	struct snest_host_range range[BATCH];
	uint64_t seed = 1, sum = 0, done;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK / BATCH; i++) {
			uint64_t leaf = random_below(&seed, l->guest->shape.leaves - BATCH);

			snest_read_begin_inline();
			sum += snest_scatter(l->guest->device, leaf * PAGE, BATCH * PAGE,
			                     SNEST_READ, range, BATCH, &done, NULL);
			snest_read_end_inline();
			sum += range[i % BATCH].host + done;
		}
	}
	gb_keep(sum);
}

static void run_flat_scatter(struct gb_run *run, void *group, uint64_t arg)
{
	struct lookup *l = group;
	struct snest_translation t[BATCH];
	uint64_t seed = 1, sum = 0, iova[BATCH];

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK / BATCH; i++) {
			uint64_t leaf = random_below(&seed, l->guest->shape.leaves - BATCH);

			for (unsigned k = 0; k < BATCH; k++)
				iova[k] = (leaf + k) * PAGE;
			sum += flat_batch(&l->flat, iova, BATCH, SNEST_READ, t);
			sum += t[i % BATCH].host;
		}
	}
	gb_keep(sum);
}

/* ---- Groups ----------------------------------------------------------------------------- */

static void *setup(const uint64_t *arg)
{
	struct guest_shape shape = {.leaves = arg[ARG_LEAVES], .lg2 = (unsigned)arg[ARG_LG2]};
	struct lookup *l = must_alloc(sizeof(*l), 64);
	struct guest *g = guest_get(&shape);

	memset(l, 0, sizeof(*l));
	l->guest = g;
	l->pattern = (enum pattern)arg[ARG_PATTERN];
	/* The same tables either way; mirroring makes many of them sooner. */
	if (shape.leaves > MIB)
		guest_mirror(g);
	else
		guest_fill(g);
	flat_create(&l->flat, g);
	if (l->pattern == DEPENDENT) {
		l->next = must_map(shape.leaves * sizeof(*l->next));
		for (uint64_t i = 0; i < shape.leaves; i++)
			l->next[i] = g->frame[i];
	}
	return l;
}

static void *setup_devices(const uint64_t *arg)
{
	struct lookup *l = setup(arg);

	l->device_count = arg[ARG_EXTRA];
	l->devices = must_alloc(l->device_count * sizeof(struct snest_device *), 64);
	for (uint32_t i = 0; i < l->device_count; i++) {
		must(snest_device_create(l->guest->vm, 0x100 + i, NULL, NULL, &l->devices[i]),
		     "device");
		must(snest_device_bind(l->devices[i], SNEST_NO_PASID, l->guest->space), "bind");
	}
	return l;
}

static void *setup_paths(const uint64_t *arg)
{
	struct lookup *l = setup(arg);

	l->pasid = 4711;
	must(snest_device_bind(l->guest->device, l->pasid, l->guest->space), "bind");
	return l;
}

static void *setup_dirty(const uint64_t *arg)
{
	struct lookup *l = setup(arg);
	struct snest_translation t;

	if (!arg[ARG_EXTRA])
		return l;
	must(snest_dirty_start(l->guest->vm), "dirty log");
	l->dirty_log = true;
	for (uint64_t i = 0; i < l->guest->shape.leaves; i++) {
		snest_read_begin_inline();
		snest_translate(l->guest->device, guest_iova(l->guest, i), SNEST_WRITE, &t, NULL);
		snest_read_end_inline();
	}
	return l;
}

static void teardown(void *group)
{
	struct lookup *l = group;

	for (unsigned i = 0; i < 4; i++) {
		if (l->peer[i])
			peer_destroy(l->peer[i]);
	}
	for (uint64_t i = 0; i < l->device_count; i++)
		snest_device_destroy(l->devices[i]);
	free(l->devices);
	if (l->next)
		unmap(l->next, l->guest->shape.leaves * sizeof(*l->next));
	flat_destroy(&l->flat);
	if (l->pasid)
		must(snest_device_bind(l->guest->device, l->pasid, NULL), "unbind");
	if (l->dirty_log)
		guest_destroy(l->guest);
	else
		guest_put(l->guest);
	free(l);
}

static const struct gb_member random_members[] = {
	{"flat", GB_LIMIT, .run = run_flat},
	{"flat in a section", GB_LIMIT, .run = run_flat_section},
	{"snest", .run = run_snest},
	{"snest, section called", .run = run_called},
	{"snest, section held", .run = run_open},
	{"hash", GB_PEER, .run = run_peer, .arg = PEER_HASH},
	{"map", GB_PEER, .run = run_peer, .arg = PEER_MAP},
	{"tree", GB_PEER, .run = run_peer, .arg = PEER_TREE},
	{"list", GB_PEER, .run = run_peer, .arg = PEER_LIST},
};
/* How many of them: without peers; with the one of fixed size; with trees; with lists. */
#define NO_PEERS 5u
#define SMALL_PEERS 6u
#define TREE_PEERS 8u
#define ALL_PEERS 9u

static const struct gb_member plain_members[] = {
	{"flat", GB_LIMIT, .run = run_flat},
	{"snest", .run = run_snest},
};

static const struct gb_member plain_2m_members[] = {
	{"flat", GB_LIMIT, .run = run_flat_2m},
	{"flat in a section", GB_LIMIT, .run = run_flat_2m_section},
	{"snest", .run = run_snest},
	{"snest, section held", .run = run_open},
	{"hash", GB_PEER, .run = run_peer, .arg = PEER_HASH},
};

static const struct gb_member plain_1g_members[] = {
	{"flat", GB_LIMIT, .run = run_flat_1g},
	{"flat in a section", GB_LIMIT, .run = run_flat_1g_section},
	{"snest", .run = run_snest},
	{"snest, section held", .run = run_open},
	{"hash", GB_PEER, .run = run_peer, .arg = PEER_HASH},
};

static const struct gb_member dependent_members[] = {
	{"chase", GB_LIMIT, .run = run_chase},
	{"flat", GB_LIMIT, .run = run_flat},
	{"snest", .run = run_snest},
};

static const struct gb_member batch_members[] = {
	{"flat", GB_LIMIT, .run = run_flat}, {"flat batch", GB_LIMIT, .run = run_flat_batch},
	{"batch", .run = run_batch},         {"flat scatter", GB_LIMIT, .run = run_flat_scatter},
	{"scatter", .run = run_scatter},
};

static const struct gb_member path_members[] = {
	{"flat", GB_LIMIT, .run = run_flat},
	{"device", .run = run_snest},
	{"pasid", .run = run_pasid},
};

static const struct gb_member device_members[] = {
	{"flat", GB_LIMIT, .run = run_flat},
	{"snest", .run = run_devices},
};

static const struct gb_member dirty_members[] = {
	{"flat", GB_LIMIT, .run = run_flat},
	{"read", .run = run_snest},
	{"write", .run = run_write},
};

static void add(struct gb_suite *suite, const char *name, uint64_t leaves, unsigned lg2,
                enum pattern pattern, const struct gb_member *members, unsigned count)
{
	struct gb_group group = {
		.setup = setup,
		.teardown = teardown,
		.arg = {leaves, lg2, pattern, 0},
		.members = members,
		.count = count,
	};
	char size[16];

	group_name(&group, "lookup/%s/%s", name, size_name(size, leaves));
	gb_add(suite, &group);
}

static void add_special(struct gb_suite *suite, const char *name, void *(*own)(const uint64_t *),
                        uint64_t extra, const struct gb_member *members, unsigned count)
{
	struct gb_group group = {
		.setup = own,
		.teardown = teardown,
		.arg = {64 * KIB, 12, RANDOM, extra},
		.members = members,
		.count = count,
	};

	group_name(&group, "lookup/%s", name);
	gb_add(suite, &group);
}

void lookup_add(struct gb_suite *suite)
{
	static const uint64_t sizes[] = {KIB, 64 * KIB, MIB, 16 * MIB};
	struct gb_group flavour = {
		.setup = setup,
		.teardown = teardown,
		.arg = {64 * KIB, 12, RANDOM, 0},
		.members = random_members,
		.count = NO_PEERS,
		.by_flavour = true,
	};
	bool quick = gb_quick(suite);

	for (unsigned i = 0; i < 4; i++) {
		uint64_t n = sizes[i];
		/* Trees of millions take long to build, lists of more than thousands for ever. */
		unsigned members = n <= KIB || (n <= 64 * KIB && !quick)   ? ALL_PEERS
		                   : n <= 64 * KIB || (n <= MIB && !quick) ? TREE_PEERS
		                   : n <= MIB || !quick                    ? SMALL_PEERS
		                                                           : NO_PEERS;

		add(suite, "random", n, 12, RANDOM, random_members, members);
		add(suite, "dependent", n, 12, DEPENDENT, dependent_members, 3);
		add(suite, "batch", n, 12, RANDOM, batch_members, 5);
		if (quick && n != 64 * KIB)
			continue;
		add(suite, "sequential", n, 12, SEQUENTIAL, plain_members, 2);
		add(suite, "hot", n, 12, HOT_SET, plain_members, 2);
	}
	add(suite, "2M", 128, 21, RANDOM, plain_2m_members, 5);
	add(suite, "2M", 2 * KIB, 21, RANDOM, plain_2m_members, 5);
	add(suite, "2M", 32 * KIB, 21, RANDOM, plain_2m_members, 4);
	add(suite, "1G", 64, 30, RANDOM, plain_1g_members, quick ? 4 : 5);

	group_name(&flavour, "lookup/flavour %s", snest_rcu_flavour());
	gb_add(suite, &flavour);
	add_special(suite, "paths", setup_paths, 0, path_members, 3);
	for (uint64_t n = 1; n <= 4096; n *= quick ? 64 : 8) {
		char name[32];

		add_special(suite, numbered(name, "devices/%u", (unsigned)n), setup_devices, n,
		            device_members, 2);
	}
	add_special(suite, "dirty log off", setup_dirty, 0, dirty_members, 3);
	add_special(suite, "dirty log on", setup_dirty, 1, dirty_members, 3);
}
