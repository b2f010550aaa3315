/* SPDX-License-Identifier: MIT */
/*
 * Lookups by several threads, and while somebody else invalidates all the time.
 *
 * Each thread looks up random leaves of one space through one device. Time is
 * the wall's for one lookup of all threads together: twice as fast is half the
 * time.
 *
 * Beside an invalidator, which never rests:
 *
 *   unchanged  a mirrored space; pages that the reader uses are read again
 *   remap      the same; two pages swap what they lead to, each is announced
 *   others     a space without mirror; pages that the reader does not use come
 *              by a miss and go again, as buffers of another queue do
 *   drop       the same; the pages that the reader uses are dropped, faster
 *              than it can fill them: nearly each lookup is a miss
 *
 * The peers have entries removed and put back ("drop": removed, and put back by
 * the reader's misses). The hash table has them among the 1024 that it can hold
 * ("hot"), and among 64K.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <snest/read_inline.h>
#include "bench/families.h"
#include "bench/limits.h"
#include "bench/peers.h"

#define BLOCK 256u
#define LEAVES (64 * KIB)
#define HOT_LEAVES KIB

enum {
	SPACE_MIRRORED,
	SPACE_PLAIN,
	SPACES
};

/* What the thread beside the readers does. */
enum invalidator {
	NONE,
	UNCHANGED,
	REMAP,
	OTHERS,
	DROP,
	PEER_CHANGE,
	PEER_DROP,
};

struct threads {
	struct guest *guest[SPACES];
	struct flat flat;
	struct peer *peer[4];
};

/* ---- The invalidator ------------------------------------------------------------------- */

struct disturbance {
	struct threads *t;
	enum invalidator kind;
	enum peer_kind peer;
	uint64_t leaves; /* among how many, from the first one that is used */
	bool begun;      /* atomic: its first command is done */
	bool stop;       /* atomic */
	uint64_t done;   /* commands, written at the end */
	uint64_t start;
	pthread_t thread;
};

/* Returns how many commands that were. */
static unsigned disturb(const struct disturbance *d, uint64_t leaf)
{
	struct guest *g =
		d->t->guest[d->kind == DROP || d->kind == OTHERS ? SPACE_PLAIN : SPACE_MIRRORED];
	uint64_t first = leaf * PAGE, last = first + PAGE - 1;

	switch (d->kind) {
	case REMAP: {
		/* Two pages of the guest swap places; each command announces one of them. */
		uint64_t other = leaf ^ 1, *a = guest_entry(g, leaf), *b = guest_entry(g, other);
		uint64_t swap = *a;

		__atomic_store_n(a, *b, __ATOMIC_RELAXED);
		__atomic_store_n(b, swap, __ATOMIC_RELAXED);
		snest_space_invalidate(g->space, first, last, 0);
		snest_space_invalidate(g->space, other * PAGE, other * PAGE + PAGE - 1, 0);
		return 2;
	}
	case OTHERS: {
		struct snest_translation t;

		first += LEAVES * PAGE;
		snest_read_begin_inline();
		snest_translate(g->device, first, SNEST_READ, &t, NULL);
		snest_read_end_inline();
		snest_space_invalidate(g->space, first, first + PAGE - 1, 0);
		break;
	}
	case PEER_CHANGE:
		peer_remove(d->t->peer[d->peer], first, 12);
		peer_insert(d->t->peer[d->peer], first, 12, guest_host(g, leaf), RW);
		break;
	case PEER_DROP:
		peer_remove(d->t->peer[d->peer], first, 12);
		break;
	default:
		snest_space_invalidate(g->space, first, last, 0);
		break;
	}
	return 1;
}

static void *disturb_thread(void *opaque)
{
	struct disturbance *d = opaque;
	uint64_t seed = 99, done = 0;

	snest_thread_register();
	/* Stores nothing to *d while it runs: that lies on the reader's stack. */
	while (!__atomic_load_n(&d->stop, __ATOMIC_RELAXED)) {
		done += disturb(d, random_below(&seed, d->leaves));
		if (done <= 2)
			__atomic_store_n(&d->begun, true, __ATOMIC_RELEASE);
		snest_thread_quiescent();
	}
	d->done = done;
	snest_thread_unregister();
	return NULL;
}

static void disturb_begin(struct disturbance *d)
{
	if (d->kind == NONE)
		return;
	must(-pthread_create(&d->thread, NULL, disturb_thread, d), "thread");
	while (!__atomic_load_n(&d->begun, __ATOMIC_ACQUIRE))
		snest_thread_quiescent();
	d->start = now_ns();
}

static void disturb_end(struct disturbance *d, struct gb_run *run)
{
	if (d->kind == NONE)
		return;
	__atomic_store_n(&d->stop, true, __ATOMIC_RELAXED);
	pthread_join(d->thread, NULL);
	gb_counter(run, "ns_per_command",
	           (double)(now_ns() - d->start) / (double)(d->done ? d->done : 1));
}

/* ---- Readers ----------------------------------------------------------------------------- */

static void run_flat(struct gb_run *run, void *group, uint64_t arg)
{
	struct threads *t = group;
	uint64_t seed = gb_thread(run) + 1, sum = 0;
	struct snest_translation tr;

	(void)arg;
	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			flat_4k(&t->flat, random_below(&seed, LEAVES) * PAGE, SNEST_READ, &tr);
			sum += tr.host;
		}
	}
	gb_keep(sum);
}

static void read_snest(struct gb_run *run, struct threads *t, unsigned space)
{
	struct snest_device *device = t->guest[space]->device;
	uint64_t seed = gb_thread(run) + 1, sum = 0;
	struct snest_translation tr;

	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			snest_read_begin_inline();
			snest_translate(device, random_below(&seed, LEAVES) * PAGE, SNEST_READ, &tr,
			                NULL);
			snest_read_end_inline();
			sum += tr.host;
		}
		snest_thread_quiescent();
	}
	gb_keep(sum);
}

static void run_snest(struct gb_run *run, void *group, uint64_t kind)
{
	struct disturbance d = {
		.t = group,
		.kind = (enum invalidator)kind,
		.leaves = LEAVES,
	};

	if (gb_thread(run))
		snest_thread_register();
	disturb_begin(&d);
	read_snest(run, group, kind == DROP || kind == OTHERS ? SPACE_PLAIN : SPACE_MIRRORED);
	/* Waiting for the other thread must not keep it from its own waits. */
	snest_thread_offline();
	disturb_end(&d, run);
	snest_thread_online();
	if (gb_thread(run))
		snest_thread_unregister();
}

/* A miss of the hash table: the guest's table is walked. */
static __attribute__((noinline)) void refill(const struct guest *g, struct peer *peer,
                                             uint64_t iova, struct snest_translation *tr)
{
	struct snest_walk walk;

	snest_walk(g->vm, snest_table_stage(g->table), 1, iova, SNEST_READ, 0, &walk, NULL, NULL);
	peer_insert(peer, iova & ~(PAGE - 1), 12, walk.host & ~(PAGE - 1), walk.rights);
	tr->host = walk.host;
}

static void read_peer(struct gb_run *run, struct threads *t, enum peer_kind kind, uint64_t leaves)
{
	const struct guest *g = t->guest[SPACE_MIRRORED];
	uint64_t seed = gb_thread(run) + 1, sum = 0;
	struct peer *peer = t->peer[kind];
	struct snest_translation tr = {.host = 0};

	while (gb_next(run, BLOCK)) {
		for (unsigned i = 0; i < BLOCK; i++) {
			uint64_t iova = random_below(&seed, leaves) * PAGE;

			if (kind == PEER_MAP)
				peer_map_translate(peer, iova, SNEST_READ, &tr);
			else if (kind == PEER_LIST)
				peer_list_translate(peer, iova, SNEST_READ, &tr);
			else if (peer_hash_translate(peer, iova, SNEST_READ, &tr))
				refill(g, peer, iova, &tr);
			sum += tr.host;
		}
	}
	gb_keep(sum);
}

/* arg of a peer's member: its kind, what happens beside it, and among which pages. */
#define BESIDE(invalidator) ((uint64_t)(invalidator) << 8)
#define HOT 0x10000u /* as many as the capped table can hold */

static void run_peer(struct gb_run *run, void *group, uint64_t arg)
{
	struct disturbance d = {
		.t = group,
		.kind = (enum invalidator)(arg >> 8 & 0xff),
		.peer = (enum peer_kind)(arg & 0xff),
		.leaves = arg & HOT ? HOT_LEAVES : LEAVES,
	};

	snest_thread_offline();
	disturb_begin(&d);
	read_peer(run, group, d.peer, d.leaves);
	disturb_end(&d, run);
	snest_thread_online();
}

/* ---- Groups ------------------------------------------------------------------------------- */

static void *setup(const uint64_t *arg)
{
	/* Those behind LEAVES are the invalidator's own. */
	const struct guest_shape shape = {.leaves = 2 * LEAVES, .lg2 = 12};
	struct threads *t = must_alloc(sizeof(*t), 64);

	(void)arg;
	memset(t, 0, sizeof(*t));
	for (unsigned i = 0; i < SPACES; i++)
		t->guest[i] = guest_create(&shape);
	guest_mirror(t->guest[SPACE_MIRRORED]);
	guest_fill(t->guest[SPACE_PLAIN]);
	flat_create(&t->flat, t->guest[SPACE_MIRRORED]);
	for (unsigned kind = 0; kind < 4; kind++) {
		if (kind == PEER_TREE)
			continue;
		t->peer[kind] = peer_create((enum peer_kind)kind);
		for (uint64_t i = kind == PEER_MAP ? LEAVES : HOT_LEAVES; i-- > 0;)
			peer_insert(t->peer[kind], i * PAGE, 12,
			            guest_host(t->guest[SPACE_MIRRORED], i), RW);
	}
	return t;
}

static void teardown(void *group)
{
	struct threads *t = group;

	for (unsigned i = 0; i < 4; i++) {
		if (t->peer[i])
			peer_destroy(t->peer[i]);
	}
	flat_destroy(&t->flat);
	for (unsigned i = 0; i < SPACES; i++)
		guest_destroy(t->guest[i]);
	free(t);
}

#define READERS(n)                                                                     \
	{"flat x" #n, GB_LIMIT, GB_REAL_TIME, n, 0, run_flat, 0},                      \
		{"snest x" #n, GB_SNEST, GB_REAL_TIME, n, 0, run_snest, NONE},         \
		{"hash x" #n, GB_PEER, GB_REAL_TIME, n, 0, run_peer, PEER_HASH | HOT}, \
		{"list x" #n, GB_PEER, GB_REAL_TIME, n, 0, run_peer, PEER_LIST | HOT}, \
	{                                                                              \
		"map x" #n, GB_PEER, GB_REAL_TIME, n, 0, run_peer, PEER_MAP            \
	}
#define READER_MEMBERS 5u

static const struct gb_member reader_members[] = {
	READERS(1), READERS(2), READERS(4), READERS(8), READERS(16), READERS(32), READERS(64),
};

#define BESIDE_SNEST(name, invalidator)                                    \
	{                                                                  \
		name, GB_SNEST, GB_REAL_TIME, 1, 0, run_snest, invalidator \
	}
#define BESIDE_PEER(name, arg)                                   \
	{                                                        \
		name, GB_PEER, GB_REAL_TIME, 1, 0, run_peer, arg \
	}

static const struct gb_member invalidated_members[] = {
	BESIDE_SNEST("snest idle", NONE),
	BESIDE_SNEST("snest unchanged", UNCHANGED),
	BESIDE_SNEST("snest remap", REMAP),
	BESIDE_SNEST("snest others", OTHERS),
	BESIDE_SNEST("snest drop", DROP),
	BESIDE_PEER("hash hot idle", PEER_HASH | HOT),
	BESIDE_PEER("hash hot", PEER_HASH | HOT | BESIDE(PEER_CHANGE)),
	BESIDE_PEER("hash idle", PEER_HASH),
	BESIDE_PEER("hash", PEER_HASH | BESIDE(PEER_CHANGE)),
	BESIDE_PEER("hash drop", PEER_HASH | BESIDE(PEER_DROP)),
	BESIDE_PEER("list hot idle", PEER_LIST | HOT),
	BESIDE_PEER("list hot", PEER_LIST | HOT | BESIDE(PEER_CHANGE)),
	BESIDE_PEER("map idle", PEER_MAP),
	BESIDE_PEER("map", PEER_MAP | BESIDE(PEER_CHANGE)),
};

void threads_add(struct gb_suite *suite)
{
	struct gb_group group = {.setup = setup, .teardown = teardown};
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	group_name(&group, "threads/readers");
	group.members = reader_members;
	/* As many as there are cores; more would wait for each other. */
	for (long n = 1; n <= cores && group.count < 7 * READER_MEMBERS; n *= 2)
		group.count += READER_MEMBERS;
	gb_add(suite, &group);

	group_name(&group, "threads/invalidator");
	group.members = invalidated_members;
	group.count = sizeof(invalidated_members) / sizeof(invalidated_members[0]);
	gb_add(suite, &group);
}
