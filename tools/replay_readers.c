/* SPDX-License-Identifier: MIT */
/*
 * Readers: threads that translate what devices have used, all the time, and
 * judge each answer by the law of replay_slots.c. They share nothing with the
 * replaying thread but the slots, the stamps, and snest.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include "tools/replay_slots.h"

/*
 * Lookups between two offers of the processor to others. A reader that loses it
 * inside a section holds up every wait of the guest until it gets it back.
 */
#define ROUND 64u

struct reader {
	pthread_t thread;
	struct sn_replay *replay;
	uint64_t random;
	uint64_t lookups, judged, wrongs;
	struct sn_reader_wrong wrong[SN_WRONG_MAX];
};

struct sn_readers {
	bool stop;
	unsigned count;
	struct reader reader[];
};

static uint64_t next_random(struct reader *reader)
{
	uint64_t x = reader->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return reader->random = x;
}

/*
 * The set of a slot, and the stamp of a page, as of one moment between now and
 * the return. The acquire loads have release stores as partners (end() and the
 * setters in replay_slots.c): whoever sees a later word of the set also sees
 * that the sequence number moved.
 */
static void snapshot(const struct sn_slots *s, const struct sn_slot *slot, const uint64_t *page,
                     struct sn_slot *copy, uint64_t *stamp)
{
	uint64_t before, after;

	do {
		before = __atomic_load_n(&s->sequence, __ATOMIC_ACQUIRE);
		for (unsigned i = 0; i < SN_LEGAL_MAX; i++)
			copy->legal[i] = __atomic_load_n(&slot->legal[i], __ATOMIC_ACQUIRE);
		copy->wild = __atomic_load_n(&slot->wild, __ATOMIC_ACQUIRE);
		*stamp = page ? __atomic_load_n(page, __ATOMIC_ACQUIRE) : 0;
		after = __atomic_load_n(&s->sequence, __ATOMIC_RELAXED);
	} while ((before & 1) || before != after);
}

/* Is it in the set? */
static bool legal(const struct sn_slot *set, const struct sn_answer *got, uint32_t access)
{
	for (unsigned i = 0; i < SN_LEGAL_MAX; i++) {
		uint64_t one = set->legal[i];

		if (one == SN_LEGAL_NONE)
			continue;
		if (got->ok ? (one & access) == access && !((one ^ got->gpa) & ~(uint64_t)4095)
		            : (one & access) != access)
			return true;
	}
	return false;
}

static void complain(struct reader *reader, const struct sn_slot *slot, uint32_t access,
                     const struct sn_slot *set, const struct sn_answer *got, uint64_t stamp)
{
	if (reader->wrongs < SN_WRONG_MAX) {
		struct sn_reader_wrong *w = &reader->wrong[reader->wrongs];

		*w = (struct sn_reader_wrong){
			.line = __atomic_load_n(&reader->replay->slots->line, __ATOMIC_RELAXED),
			.rid = slot->rid,
			.pasid = slot->pasid,
			.iova = slot->page,
			.write = access == SNEST_WRITE,
			.got = *got,
			.stamp = stamp,
		};
		for (unsigned i = 0; i < SN_LEGAL_MAX; i++)
			w->legal[i] = set->legal[i];
	}
	reader->wrongs++;
}

/* One read section: look up, use, and see that it was legal up to the end. */
static void look(struct reader *reader, const struct sn_slot *slot, uint32_t access)
{
	struct sn_replay *r = reader->replay;
	const uint64_t *page = NULL;
	struct snest_translation t;
	struct sn_answer got = {.ok = false};
	struct sn_slot set;
	uint64_t stamp;

	snest_read_begin();
	if (!snest_translate_pasid(slot->device, slot->pasid, slot->page, access, &t, NULL)) {
		got.ok = true;
		got.rights = t.rights & (SNEST_READ | SNEST_WRITE);
		got.gpa = t.outcome == SNEST_WALK_HOST ? sn_replay_gpa(r, t.host) : t.host;
		/* An address that is none of ours must not be followed. */
		if (t.outcome == SNEST_WALK_HOST && got.gpa != t.host)
			page = (const uint64_t *)(uintptr_t)t.host;
	}
	snapshot(r->slots, slot, page, &set, &stamp);
	snest_read_end();

	reader->lookups++;
	if (set.wild)
		return;
	reader->judged++;
	if (!legal(&set, &got, access) || (page && stamp != got.gpa))
		complain(reader, slot, access, &set, &got, stamp);
}

/* Half of the time something that was used lately. */
static const struct sn_slot *choose(struct reader *reader, const struct sn_slots *s)
{
	uint64_t count = __atomic_load_n(&s->count, __ATOMIC_ACQUIRE), random = next_random(reader);
	uint64_t latest = __atomic_load_n(&s->latest, __ATOMIC_RELAXED);

	if (!count)
		return NULL;
	if (random & 1)
		return s->slot[(random >> 8) % count];
	return s->slot[(latest + count - (random >> 8) % 32 % count) % count];
}

static void *run(void *opaque)
{
	struct reader *reader = opaque;
	struct sn_readers *readers = reader->replay->readers;

	snest_thread_register();
	while (!__atomic_load_n(&readers->stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < ROUND; i++) {
			const struct sn_slot *slot = choose(reader, reader->replay->slots);

			if (slot)
				look(reader, slot, reader->random & 2 ? SNEST_WRITE : SNEST_READ);
			snest_thread_quiescent();
		}
		sched_yield();
	}
	snest_thread_unregister();
	return NULL;
}

int sn_readers_start(struct sn_replay *r)
{
	unsigned count = r->options->threads;
	struct sn_readers *readers = calloc(1, sizeof(*readers) + count * sizeof(struct reader));

	if (!readers)
		return -ENOMEM;
	r->readers = readers;
	for (; readers->count < count; readers->count++) {
		struct reader *reader = &readers->reader[readers->count];
		int ret;

		reader->replay = r;
		reader->random = 0x9e3779b97f4a7c15 * (readers->count + 1);
		ret = pthread_create(&reader->thread, NULL, run, reader);
		if (ret)
			return -ret;
	}
	return 0;
}

void sn_readers_stop(struct sn_replay *r)
{
	struct sn_readers *readers = r->readers;

	if (!readers)
		return;
	__atomic_store_n(&readers->stop, true, __ATOMIC_RELAXED);
	/* With rcu=qsbr the others may wait for this thread while it waits for them. */
	snest_thread_offline();
	for (unsigned i = 0; i < readers->count; i++)
		pthread_join(readers->reader[i].thread, NULL);
	snest_thread_online();
	for (unsigned i = 0; i < readers->count; i++) {
		const struct reader *reader = &readers->reader[i];

		for (uint64_t j = 0; j < reader->wrongs && j < SN_WRONG_MAX; j++) {
			if (r->counts.reader_wrong + j < SN_WRONG_MAX)
				r->reader_wrong[r->counts.reader_wrong + j] = reader->wrong[j];
		}
		r->counts.reader_lookups += reader->lookups;
		r->counts.reader_judged += reader->judged;
		r->counts.reader_wrong += reader->wrongs;
	}
	free(readers);
	r->readers = NULL;
}
