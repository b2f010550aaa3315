/* SPDX-License-Identifier: MIT */
/*
 * The guest memory map: which address is which memory.
 *
 * Readers hold an immutable snapshot, a sorted array of regions, taken inside
 * a read section. The largest region is copied into the snapshot's head, so
 * that the usual lookup is one comparison; others are found by binary search.
 * A change copies the array, publishes the copy, tells the listeners, and
 * frees the old one after a grace period.
 *
 * Sequence: `seq` is odd while a change is on its way through the listeners.
 * A fill that began at an even value and finds the same value under its
 * space's lock has seen neither an old region nor a half-made change:
 *
 *     changer: seq++ (odd) ; publish map ; listeners drop leaves under each
 *              space's lock ; seq++ (even)
 *     filler:  s = seq (even, else wait or retry) ; deref map ; walk ;
 *              lock space ; seq == s ? publish leaf : throw away
 *
 * If the filler's check under the lock comes before the listener takes that
 * lock, the listener drops the leaf; if after, the filler sees the new value.
 */
#ifndef SN_CORE_MEMORY_H
#define SN_CORE_MEMORY_H

#include <pthread.h>
#include <stdbool.h>
#include <snest/space.h>
#include <snest/vm.h>
#include "core/reclaim.h"

struct sn_region {
	uint64_t first;
	uint64_t last;
	uint64_t host;     /* host address minus first, modulo 2^64: host = gpa + host */
	uintptr_t mapping; /* mapping minus first, valid if direct */
	const struct snest_accessors *accessors; /* owned by the map; NULL if none */
	uint32_t flags;                          /* SNEST_REGION_* */
	bool direct;                             /* mapping is valid */
};

/*
 * The map's copy of an embedder's accessors, shared by the parts of a region
 * that was cut. Goes when no region of the newest map has it and readers of
 * the last map that did have left.
 */
struct sn_accessors {
	struct snest_accessors fn;
	uint64_t mark;             /* number of a change that still had it; sn_memory.lock */
	struct sn_accessors *next; /* in a list of those that are new, or that go */
};

/* An immutable snapshot, but for the part that its release needs. */
struct sn_memory_map {
	uint64_t hot_size;    /* bytes of the largest region; 0 in an empty map */
	struct sn_region hot; /* copy of that region */
	size_t count;
	/* Release, written by the change that replaces this map. */
	struct sn_reclaim_node node;
	struct snest_vm *vm;
	struct sn_accessors *retired; /* go with this map */
	snest_done_fn done;           /* NULL, or called when readers and pins have left */
	void *done_opaque;
	struct snest_drain pins;   /* waits for the pins */
	size_t capacity;           /* of region[] */
	struct sn_region region[]; /* ascending, disjoint */
};

struct sn_memory_listener {
	struct sn_memory_listener *next;
	/*
	 * first..last no longer lead where they led, or no longer with the
	 * rights they had. Called once per changed range (ascending, maximal,
	 * what a batch takes away and gives back the same is left out), with
	 * the new map published, under sn_memory.lock, outside read sections.
	 * `old` is the map as it was: where the range led. Must not allocate.
	 */
	void (*changed)(struct sn_memory_listener *listener, uint64_t first, uint64_t last,
	                const struct sn_memory_map *old);
	/*
	 * Once per change, behind all calls of changed, also when the change
	 * took nothing away. May be NULL.
	 */
	void (*settled)(struct sn_memory_listener *listener);
};

struct sn_memory {
	struct sn_memory_map *map; /* RCU */
	uint64_t seq;              /* atomic; odd during a change */
	pthread_mutex_t lock;      /* serialises changes; guards listeners */
	struct sn_memory_listener *listeners;
	struct snest_vm *vm;
	uint64_t changes; /* atomic, relaxed: number of the last change */
};

int sn_memory_init(struct sn_memory *memory, struct snest_vm *vm);
void sn_memory_fini(struct sn_memory *memory);
void sn_memory_listen(struct sn_memory *memory, struct sn_memory_listener *listener);
void sn_memory_unlisten(struct sn_memory *memory, struct sn_memory_listener *listener);

/* The sequence, for fills: see the top of this file. */
static inline uint64_t sn_memory_seq(const struct sn_memory *memory)
{
	return __atomic_load_n(&memory->seq, __ATOMIC_ACQUIRE);
}

/* Binary search; NULL if addr is in no region. Inside a read section. */
const struct sn_region *sn_memory_search(const struct sn_memory_map *map, uint64_t addr);

/* The region of addr, NULL if none. Inside a read section, as long as the result is used. */
static inline const struct sn_region *sn_memory_find(const struct sn_memory_map *map, uint64_t addr)
{
	if (__builtin_expect(addr - map->hot.first < map->hot_size, 1))
		return &map->hot;
	return sn_memory_search(map, addr);
}

/*
 * Copies `length` bytes at addr of the memory map itself (the host stage is
 * not applied). Naturally aligned words of 2, 4 and 8 bytes are copied with one
 * access each where the region is mapped. Inside a read section. 0 or -EFAULT.
 */
int sn_memory_read(const struct sn_memory_map *map, uint64_t addr, void *buf, size_t length);
int sn_memory_write(const struct sn_memory_map *map, uint64_t addr, const void *buf, size_t length);

#endif
