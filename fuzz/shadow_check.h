/* SPDX-License-Identifier: MIT */
/*
 * What must hold after every action of target `shadow`, and for every reply.
 */
#ifndef FUZZ_SHADOW_CHECK_H
#define FUZZ_SHADOW_CHECK_H

#include "shadow_guest.h"

/* ---- Checks ------------------------------------------------------------- */

static void check_piece(const struct segment *s, const struct leaf *l, uint64_t iova)
{
	uint64_t host = (l->entry & SN_SH_ADDR) + (iova - l->first);
	uint32_t rights = l->entry & SN_SH_RIGHTS;

	if (l->entry & SN_SH_LOGGED)
		rights |= SNEST_WRITE;
	/* A mirror's leaf has no right to execute, another may leave rights out, even all. */
	fuzz_check(rights || !f.mirrored, "0x%llx: a mirror's leaf without rights", ull(iova));
	fuzz_check(is_legal(s, iova, host, rights, f.mirrored),
	           "0x%llx: the shadow says 0x%llx rights %u; the tables 0x%llx rights %u",
	           ull(iova), ull(host), rights, ull(s->now[0].gpa + (iova - s->first)),
	           s->now[0].rights);
}

/*
 * Pages of a leaf that can differ: the ends, and those whose memory changes.
 * Called with ascending leaves; *at is where the segments before it end.
 */
static void check_leaf(const struct leaf *l, unsigned *at)
{
	bool known = false;

	if (l->entry & SN_SH_HELD)
		return;
	while (*at < SEGMENTS && segments[*at].last < l->first)
		++*at;
	for (unsigned i = *at; i < SEGMENTS && segments[i].first <= l->last; i++) {
		const struct segment *s = &segments[i];
		uint64_t from = l->first > s->first ? l->first : s->first;
		uint64_t to = l->last < s->last ? l->last : s->last;
		uint64_t loose;

		known = true;
		check_piece(s, l, from);
		if (to - from < 4096)
			continue;
		check_piece(s, l, to & ~4095ull);
		loose = 0 - s->now[0].gpa + s->first;
		for (unsigned p = 0; p < LOOSE && f.loosened; p++) {
			uint64_t page = loose + p * 4096ull;

			if (page >= from && page <= to)
				check_piece(s, l, page);
		}
	}
	fuzz_check(known || f.bent, "the shadow holds 0x%llx, which nobody has mapped",
	           ull(l->first));
}

/* A mirror lacks nothing that is mapped. */
static void check_complete(const struct segment *s)
{
	uint64_t host;
	uint32_t may;

	if (s->count || s->wild || s->part || !is_known(s, s->last & ~4095ull))
		return;
	for (unsigned end = 0; end < 2; end++) {
		uint64_t iova = end ? s->last & ~4095ull : s->first;

		resolve(s, &s->now[0], iova, &host, &may);
		fuzz_check(!(may & (SNEST_READ | SNEST_WRITE)) || count_find(iova),
		           "0x%llx is not mirrored", ull(iova));
	}
}

static void check(void)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	count_space(f.space);
	for (unsigned i = 0, at = 0; i < count.leaves; i++)
		check_leaf(&count.leaf[i], &at);
	if (f.mirrored) {
		sink_compare(&f.sink);
		for (unsigned i = 0; i < SEGMENTS && !f.sink.lacks && !f.sink.refused; i++)
			check_complete(&segments[i]);
	}
	for (unsigned i = 0; i < SEGMENTS && f.observed; i++) {
		const struct segment *s = &segments[i];

		fuzz_check(!s->cached || is_legal(s, s->first, s->cached_host, SNEST_READ, false),
		           "an observer was not told of 0x%llx", ull(s->first));
	}
	for (unsigned i = 0; i < DRAINS; i++)
		fuzz_check(f.done[i] != 2 || !f.blocked[i], "a drain ended before a pin");
	fuzz_check(!snest_space_stats(f.space, &stats), "no statistics");
	fuzz_check(stats.table_bytes == count.tables * 4096, "table_bytes is wrong");
	if (f.mirrored)
		fuzz_check(stats.sink_maps + stats.sink_unmaps - f.ops_before == f.sink.ops,
		           "the sink has had %llu operations, the space counts %llu",
		           ull(f.sink.ops),
		           ull(stats.sink_maps + stats.sink_unmaps - f.ops_before));
	f.failed |= f.fuzz.failed;
}

static int see_run(void *opaque, const struct snest_run *run)
{
	uint64_t *bytes = opaque;
	const struct leaf *l = count_find(run->first);

	fuzz_check(l && run->last >= run->first && run->outcome == SNEST_WALK_HOST &&
	                   run->addr == (l->entry & SN_SH_ADDR) + (run->first - l->first),
	           "a run that the shadow does not hold: 0x%llx", ull(run->first));
	*bytes += run->last - run->first + 1;
	return 0;
}

/* The enumeration shows what the recount found, but for what a sink keeps. */
static void check_enumeration(void)
{
	uint64_t seen_bytes = 0, bytes = 0;
	int ret = snest_space_enumerate(f.space, 0, UINT64_MAX, see_run, &seen_bytes);

	for (unsigned i = 0; i < count.leaves; i++) {
		uint64_t entry = count.leaf[i].entry;

		if (!(entry & SN_SH_HELD) && (entry & (SN_SH_RIGHTS | SN_SH_LOGGED)))
			bytes += count.leaf[i].last - count.leaf[i].first + 1;
	}
	fuzz_check(!ret && (seen_bytes == bytes || count.leaves == LEAVES_MAX),
	           "enumerated 0x%llx bytes of 0x%llx: %d", ull(seen_bytes), ull(bytes), ret);
}

/* A reply for a page. Refusals are never remembered. */
static void judge(const struct segment *s, uint64_t iova, uint32_t access, int ret,
                  const struct snest_translation *t)
{
	uint64_t page = iova & ~4095ull, host;
	bool readonly;

	if (s->wild || !is_known(s, page))
		return;
	if (ret) {
		uint32_t may = s->now[0].ok ? s->now[0].rights : 0;

		if (may && host_of(s->now[0].gpa + (page - s->first), &host, &readonly) && readonly)
			may &= ~(uint32_t)SNEST_WRITE;
		fuzz_check(ret == -EACCES && (!may || (access & ~may) || f.failed || f.fuzz.failed),
		           "0x%llx access %u: %d; the tables give rights %u", ull(iova), access,
		           ret, may);
		return;
	}
	fuzz_check(!(access & ~t->rights) && t->length, "rights %u for access %u", t->rights,
	           access);
	if (t->outcome == SNEST_WALK_GPA) {
		fuzz_check(!s->now[0].ok ||
		                   !host_of(s->now[0].gpa + (page - s->first), &host, &readonly),
		           "0x%llx has memory", ull(iova));
		return;
	}
	fuzz_check(is_legal(s, page, t->host - (iova & 4095),
	                    t->rights & (SNEST_READ | SNEST_WRITE), false),
	           "0x%llx access %u: 0x%llx rights %u; the tables 0x%llx rights %u", ull(iova),
	           access, ull(t->host), t->rights, ull(s->now[0].gpa + (page - s->first)),
	           s->now[0].rights);
}

#endif
