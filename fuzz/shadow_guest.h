/* SPDX-License-Identifier: MIT */
/*
 * The guest of target `shadow`: its memory, the address space in segments, what
 * its tables say of them now, and what they said since an invalidation last
 * covered them. `f` is the state of an input.
 */
#ifndef FUZZ_SHADOW_GUEST_H
#define FUZZ_SHADOW_GUEST_H

#include <errno.h>
#include <snest/table.h>
#include <snest/track.h>
#include "ref/ref_walk.h"
#include "shadow_count.h"

/*
 * Guest memory is one mapping, of which little is ever touched. Its first pages
 * change; what the guest maps lies behind them; its tables are at the end.
 */
#define LOOSE 64u
#define TABLES 0x100000000ull /* GPA */
#define TABLES_BYTES (256u << 10)
#define TABLES_PAGES (TABLES_BYTES / 4096)
#define MEMORY_BYTES (TABLES + TABLES_BYTES)
#define MEMORY_HOST 0x500000000000ull
#define MOVED_HOST 0x580000000000ull /* where pages of it may move */
#define LOGGED_PAGES 1536u
#define PINS 3
#define DRAINS 4
#define OLD 4
#define RID 0x0010
#define ACTIONS_MAX 16
/* Entries of the shadow that an input may lead the checks through: tables that were bent can
   make each action cost thousands, and the engine would stay with them. */
#define WORK_MAX 8192
#define HEADER 2

/* ---- Segments ----------------------------------------------------------- */

static const struct {
	uint64_t page, step;
	unsigned count;
} layout[] = {
	{0, 1, 16},       {16, 480, 1},    {496, 1, 32},     {528, 496, 1},       {1024, 512, 1},
	{261632, 496, 1}, {262128, 1, 32}, {262160, 496, 1}, {524288, 262144, 1}, {67108863, 1, 1},
};
#define SEGMENTS 87u

struct answer {
	uint64_t gpa;        /* of the page asked for */
	uint8_t rights, lg2; /* lg2: of the page that says so, the smallest since it does */
	bool ok;
};

struct segment {
	uint64_t first, last; /* IOVA */
	/* One input. */
	struct answer now[2]; /* of its first and last page */
	struct answer old[OLD];
	uint8_t count;
	bool wild;   /* more than that */
	bool torn;   /* a part was unmapped: its ends do not speak for the middle */
	bool part;   /* invalidated as a part of an old page: its new one may be unknown */
	bool cached; /* an observer's cache has its first page, */
	uint64_t cached_host;
};

static struct segment segments[SEGMENTS];

static struct {
	struct fuzz_vm fuzz;
	/* One input. */
	struct snest_device *device;
	struct snest_space *space;
	struct snest_table *table;
	uint64_t cut; /* of the table memory */
	bool announced, tracking, split, clear;
	bool wrote; /* to memory, by DMA */
	bool bent, failed;
	/* An entry was bent that is, or says that it is, one of several that are one page. */
	bool blurred;
	unsigned format;
	struct {
		bool moved, gone, readonly;
		uint64_t host;
	} loose[LOOSE];
	bool loosened;
	struct snest_pin pin[PINS];
	bool pinned[PINS];
	struct {
		unsigned page; /* of the dirty log; LOGGED_PAGES: none */
	} pin_writes[PINS];
	struct snest_drain node[DRAINS];
	int done[DRAINS];         /* 0 not begun, 1 begun, 2 done */
	unsigned blocked[DRAINS]; /* bit n: pin n was held when it began */
	bool mirrored, observed;
	struct sink sink;
	uint64_t ops_before; /* of the space's own count */
	bool dirty;
	uint64_t written[LOGGED_PAGES / 64], asked[LOGGED_PAGES / 64];
	uint64_t protected; /* table pages */
	bool deny;          /* protect fails */
} f;

static char *memory, *tables;
static _Alignas(4096) char seen[TABLES_BYTES];

static unsigned long long ull(uint64_t value)
{
	return value;
}

static void make_segments(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < sizeof(layout) / sizeof(layout[0]); i++) {
		for (unsigned j = 0; j < layout[i].count; j++, n++) {
			segments[n].first = (layout[i].page + j * layout[i].step) * 4096;
			segments[n].last = segments[n].first + layout[i].step * 4096 - 1;
		}
	}
	fuzz_check(n == SEGMENTS, "%u segments", n);
}

/* ---- What the guest's tables say ---------------------------------------- */

static bool ref_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	(void)opaque;
	if (addr >= MEMORY_BYTES ||
	    (addr < LOOSE * 4096 && (f.loose[addr / 4096].moved || f.loose[addr / 4096].gone)))
		return false;
	*value = 0;
	memcpy(value, memory + addr, bytes);
	return true;
}

static struct answer ask(uint64_t iova)
{
	static const struct ref_memory read = {.read = ref_read};
	struct ref_result r;

	ref_walk(snest_table_stage(f.table), &read, iova, 0, false, &r);
	if (!r.ok)
		return (struct answer){.ok = false};
	return (struct answer){r.out, r.rights, r.lg2, true};
}

static bool same(const struct answer *a, const struct answer *b)
{
	return a->ok == b->ok && a->gpa == b->gpa && a->rights == b->rights;
}

/* Do both ends of a segment say the same? */
static bool is_whole(const struct segment *s)
{
	return s->now[0].ok == s->now[1].ok && s->now[0].rights == s->now[1].rights &&
	       (!s->now[0].ok || s->now[1].gpa - s->now[0].gpa == (s->last & ~4095ull) - s->first);
}

/* The tables may have changed what they say of segments i .. i + n - 1. */
static void refresh(unsigned i, unsigned n)
{
	for (; n-- && i < SEGMENTS; i++) {
		struct segment *s = &segments[i];
		struct answer first = ask(s->first), last = first;

		if (s->last - s->first > 4095)
			last = ask(s->last & ~4095ull);
		if (same(&first, &s->now[0]) && same(&last, &s->now[1])) {
			if (first.lg2 < s->now[0].lg2)
				s->now[0].lg2 = first.lg2;
			continue;
		}
		if (s->count == OLD || (f.bent && s->last - s->first > 4095))
			s->wild = true;
		else
			s->old[s->count++] = s->now[0];
		s->now[0] = first;
		s->now[1] = last;
		/* What is mapped over all of it mends it. */
		s->torn = !is_whole(s) || (s->torn && !first.ok);
	}
}

/* A range that is changed, and the pages that reach into it: they are cut, or go whole. */
static void reach(uint64_t *first, uint64_t *last)
{
	struct answer a = ask(*first), b = ask(*last & ~4095ull);

	if (a.ok)
		*first &= ~(((uint64_t)1 << a.lg2) - 1);
	if (b.ok)
		*last |= ((uint64_t)1 << b.lg2) - 1;
}

static void refresh_range(uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < SEGMENTS && segments[i].first <= last; i++) {
		if (segments[i].last >= first)
			refresh(i, 1);
	}
}

/*
 * first..last was invalidated: what pages that reach in there said is not legal
 * any more, outside of the range either.
 */
static void settled_pages(uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < SEGMENTS && !f.blurred; i++) {
		struct segment *s = &segments[i];
		unsigned kept = 0;

		for (unsigned j = 0; j < s->count; j++) {
			uint64_t mask = ((uint64_t)1 << s->old[j].lg2) - 1;

			/* What was in between may have been another page. */
			if (!s->old[j].ok || (s->first & ~mask) > last ||
			    (s->first | mask) < first || (s->first | mask) < s->last)
				s->old[kept++] = s->old[j];
		}
		s->part |= kept != s->count;
		s->count = (uint8_t)kept;
	}
}

static void settled(unsigned i, unsigned n)
{
	for (; n-- && i < SEGMENTS; i++) {
		segments[i].count = 0;
		segments[i].wild = segments[i].part = false;
	}
}

/* Where a guest address leads now. False: no memory. */
static bool host_of(uint64_t gpa, uint64_t *host, bool *readonly)
{
	uint64_t page = gpa / 4096;

	*readonly = false;
	*host = MEMORY_HOST + gpa;
	if (page >= LOOSE)
		return gpa < MEMORY_BYTES;
	if (f.loose[page].moved)
		*host = f.loose[page].host + (gpa & 4095);
	*readonly = f.loose[page].readonly;
	return !f.loose[page].gone;
}

/* What an answer for a segment's first page says of an address in it. False: no memory there. */
static bool resolve(const struct segment *s, const struct answer *a, uint64_t iova, uint64_t *host,
                    uint32_t *rights)
{
	bool readonly;

	*rights = 0;
	if (!a->ok || !host_of(a->gpa + (iova - s->first), host, &readonly))
		return false;
	*rights = readonly ? a->rights & ~(uint32_t)SNEST_WRITE : a->rights;
	return true;
}

/*
 * Does what is known of a segment hold for this page? Not in the middle of one of
 * which a part went, or in which an entry was bent. A page that is several equal
 * entries may be read from any of them: once they differ, from none for certain.
 */
static bool is_known(const struct segment *s, uint64_t iova)
{
	return !f.blurred && (iova < s->first + 4096 || (!f.bent && !s->torn && is_whole(s)));
}

/* Is this entry one of several that are one page? AMD v1: next level 7; RISC-V: NAPOT. */
static bool is_replica(uint64_t entry)
{
	if (f.format == SNEST_FORMAT_AMD_V1)
		return (entry & 1) && (entry >> 9 & 7) == 7;
	return f.format == SNEST_FORMAT_RISCV64 && (entry & 1) && (entry >> 63);
}

/* May the shadow say this of a page? Legal: what is so, or was and has not been invalidated. */
static bool is_legal(const struct segment *s, uint64_t iova, uint64_t host, uint32_t rights,
                     bool exact)
{
	uint64_t want;
	uint32_t may;

	if (s->wild || !is_known(s, iova))
		return true;
	for (unsigned i = 0; i <= s->count; i++) {
		if (!resolve(s, i ? &s->old[i - 1] : &s->now[0], iova, &want, &may) || want != host)
			continue;
		may &= exact ? SNEST_READ | SNEST_WRITE : SNEST_RIGHTS;
		if (exact ? may == rights : !(rights & ~may))
			return true;
	}
	return false;
}

static struct segment *segment_of(uint64_t iova)
{
	for (unsigned i = 0; i < SEGMENTS; i++) {
		if (segments[i].first <= iova && iova <= segments[i].last)
			return &segments[i];
	}
	return NULL;
}

#endif
