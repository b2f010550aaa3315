/* SPDX-License-Identifier: MIT */
/*
 * The world of the test that runs everything at once: memory whose every page
 * says what it is, and a guest that remaps it.
 *
 * The guest stamps a page with the IOVA it is for and a version before it maps
 * it. `fresh` of an IOVA is the version whose invalidation has returned, `now`
 * the one that the guest began to write. A lookup that began after `fresh` was
 * read must not find an older stamp, and none ever finds a newer one than
 * `now`. A page that was unmapped loses its memory rights (mprotect) once a
 * drain completed, so whoever still touches it gets a signal. Besides single
 * pages there is one area of 2 MiB, mapped as a large page or as small ones.
 * For tests only.
 */
#ifndef SN_TESTS_WORLD_H
#define SN_TESTS_WORLD_H

#include <snest/space.h>
#include <snest/table.h>
#include "support/sink.h"
#include "support/tables.h"

#define PAGE 4096ull
#define PAGES 256u     /* IOVAs that the guest remaps */
#define POOL 1024u     /* pages of memory for them */
#define QUARANTINE 64u /* without rights */
#define BASE 0x40000000ull
#define PLUG_BASE 0x60000000ull /* IOVAs of memory that comes and goes */
#define PLUG 64u
#define RAM_TABLES (16ull << 20)
#define GPA_POOL 0x10000000ull
#define GPA_PLUG 0x20000000ull
#define BIG_BASE 0x80000000ull /* IOVA of the area */
#define BIG_BYTES 0x200000ull
#define GPA_BIG 0x30000000ull /* two of it */
#define SCRATCH 1024u         /* where readers write in a page */

struct stamp {
	uint64_t page, version;
};

struct world {
	struct snest_vm *vm;
	struct snest_table *table[2];
	struct snest_stage list[2];
	unsigned stages;
	char *tables, *pool, *plug, *big;
	uint64_t cut;
	/* Table pages that were freed: reused only after a drain, and full of data meanwhile. */
	void *free[64], *pending[64];
	unsigned frees, pendings;
	struct snest_space *space, *mirrored;
	struct snest_device *device, *pasids; /* the latter's bindings come and go */
	uint64_t fresh[PAGES], now[PAGES];    /* version * 2 + present */
	unsigned at[PAGES];                   /* page of the pool */
	unsigned spare[POOL], spares, quarantine[POOL], quarantined;
	uint64_t big_fresh, big_now; /* version * 2 + 1; even versions are in the first half */
	bool big_large;              /* mapped as one page */
	int stop, wrong;
	uint64_t lookups, faults, invalidations, plugs, fetches, pins;
	struct sink sink;
};

/* Tables in the formats named, the second stage NULL or mapping everything to itself. */
void world_init(struct world *world, const char *const names[2]);
void world_fini(struct world *world);

/* Time to end? Says on the way that the thread is in no read section. */
bool world_stopped(struct world *world);
/* Something is wrong: prints it, and ends everything. */
void world_wrong(struct world *world, const char *what, uint64_t iova, uint64_t a, uint64_t b);
/* Sleeps, and holds nobody up meanwhile. */
void world_pause(long ns);
struct snest_region world_region(uint64_t gpa, void *ptr, size_t bytes);
/* mprotect */
void world_rights(char *page, size_t bytes, int prot);

/* The guest's thread. */
void *world_guest(void *world);

#endif
