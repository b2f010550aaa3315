/* SPDX-License-Identifier: MIT */
/*
 * Judging mirrors.
 *
 * A guest has more than one processor: at a tail write its tables may hold
 * changes that another one has yet to announce. So what a sink must equal is
 * not simply the tables as they are now. After every tail write, when its
 * commands are complete,
 *
 *   - what these commands cover, and
 *   - what snest changed in the sink, announced or not,
 *
 * must equal a fresh walk. That is complete, by induction: every address was
 * right when it was last covered or changed. To guard the induction itself
 * (a command that nobody understood as covering what it covers), everything is
 * compared now and then, and at the end: a difference that no command covers
 * from one such comparison to the next is wrong too.
 */
#include <errno.h>
#include <stdlib.h>
#include "tools/replay_mirror.h"

/* Tail writes from one comparison of everything to the next. */
#define FULL_EVERY 256u

/* Table entries that one comparison may examine; the tables are hostile. */
#define BUDGET ((uint64_t)1 << 24)

static int collect(void *opaque, const struct snest_run *run)
{
	uint32_t rights = run->rights & (SNEST_READ | SNEST_WRITE);
	struct sn_mapping mapping = {run->first, run->last, run->addr, rights};
	struct sn_mappings *list = opaque;

	if (run->outcome != SNEST_WALK_HOST || !rights)
		return 0;
	return sn_mappings_insert(list, list->count, &mapping);
}

/* Reads first..last of the tables into m->fresh. */
static int read_tables(struct sn_replay *r, struct sn_mirror *m,
                       const struct snest_context *context, uint64_t first, uint64_t last)
{
	struct snest_walk_range range = {
		.size = sizeof(range),
		.first = first,
		.last = last,
		.budget = BUDGET,
	};
	int ret;

	m->fresh.count = 0;
	if (context->outcome != SNEST_CONTEXT_STAGES)
		return 0;
	ret = snest_walk_range(r->vm, context->stage, context->count, &range, collect, &m->fresh);
	if (ret == -EAGAIN) {
		sn_tool_error(r->tool,
		              "%s:%llu: the tables of %02x:%02x.%x are too large to "
		              "compare",
		              r->file, (unsigned long long)r->line, m->rid >> 8, m->rid >> 3 & 31,
		              m->rid & 7);
		return -E2BIG;
	}
	return ret;
}

/* What one of the two lists says at an address, and until where. */
struct piece {
	bool mapped;
	uint64_t addr, last;
	uint32_t rights;
};

static struct piece piece_at(const struct sn_mappings *list, size_t *at, uint64_t addr)
{
	const struct sn_mapping *map;

	while (*at < list->count && list->map[*at].last < addr)
		++*at;
	map = *at < list->count ? &list->map[*at] : NULL;
	if (!map)
		return (struct piece){.last = UINT64_MAX};
	if (map->first > addr)
		return (struct piece){.last = map->first - 1};
	return (struct piece){true, map->addr + (addr - map->first), map->last, map->rights};
}

static struct sn_answer answer(const struct piece *p)
{
	return (struct sn_answer){.ok = p->mapped, .rights = (uint8_t)p->rights, .gpa = p->addr};
}

static void wrong(struct sn_replay *r, const struct sn_mirror *m, const char *judge, uint64_t first,
                  uint64_t last, const struct piece *tables, const struct piece *sink)
{
	if (r->counts.mirror_wrong < SN_WRONG_MAX)
		r->mirror_wrong[r->counts.mirror_wrong] = (struct sn_mirror_wrong){
			.line = r->line,
			.judge = judge,
			.rid = m->rid,
			.first = first,
			.last = last,
			.tables = answer(tables),
			.sink = answer(sink),
		};
	r->counts.mirror_wrong++;
}

/*
 * Compares first..last, where all must be right; or, with `pending`, what is in `strict` must be,
 * and other differences are noted there.
 */
static int compare(struct sn_replay *r, struct sn_mirror *m, const struct snest_context *context,
                   uint64_t first, uint64_t last, const struct sn_ranges *strict,
                   struct sn_ranges *pending)
{
	size_t in_tables = 0, in_sink = sn_mappings_find(&m->sink, first);
	uint64_t at = first;
	int ret = read_tables(r, m, context, first, last);

	if (ret)
		return ret;
	for (;;) {
		struct piece tables = piece_at(&m->fresh, &in_tables, at);
		struct piece sink = piece_at(&m->sink, &in_sink, at);
		uint64_t to = tables.last < sink.last ? tables.last : sink.last, same;
		bool now = true, before = false;

		to = to < last ? to : last;
		r->counts.mirror_pieces++;
		if (tables.mapped != sink.mapped ||
		    (tables.mapped && (tables.addr != sink.addr || tables.rights != sink.rights))) {
			if (pending) {
				now = sn_ranges_hold(strict, at, &same);
				to = to < same ? to : same;
				before = sn_ranges_hold(&m->pending, at, &same);
				to = to < same ? to : same;
			}
			if (now)
				wrong(r, m, "mirror after the commands that cover it", at, to,
				      &tables, &sink);
			else if (before)
				wrong(r, m, "mirror, long after the change", at, to, &tables,
				      &sink);
			else
				sn_ranges_add(pending, at, to);
		}
		if (to == last)
			return 0;
		at = to + 1;
	}
}

/* Takes `covered` out of what is pending. Both are sorted. */
static void announce(struct sn_ranges *pending, const struct sn_ranges *covered)
{
	struct sn_ranges left = {.count = 0};

	for (size_t i = 0; i < pending->count; i++) {
		uint64_t at = pending->range[i].first, last = pending->range[i].last, to;

		for (;;) {
			bool gone = sn_ranges_hold(covered, at, &to);

			to = to < last ? to : last;
			if (!gone)
				sn_ranges_add(&left, at, to);
			if (to == last)
				break;
			at = to + 1;
		}
	}
	free(pending->range);
	*pending = left;
	if (left.all)
		sn_ranges_clear(pending);
}

static int check(struct sn_replay *r, struct sn_mirror *m, bool full)
{
	struct sn_ranges *strict = &r->mirrors->ranges, pending = {.count = 0};
	const struct sn_cover *cover;
	struct snest_context context;
	int ret = sn_replay_context(r, m->rid, SNEST_NO_PASID, 0, 0, &context);

	if (ret)
		return ret;
	sn_ranges_clear(strict);
	strict->all = m->touched.all;
	for (size_t i = 0; i < m->touched.count; i++)
		sn_ranges_add(strict, m->touched.range[i].first, m->touched.range[i].last);
	for (size_t i = 0; (cover = sn_history_recent(r->history, i)); i++) {
		if (sn_cover_hits(cover, context.domain, 0, UINT64_MAX))
			sn_ranges_add(strict, cover->first, cover->last);
	}
	sn_ranges_clear(&m->touched);
	sn_ranges_sort(strict);
	if (m->error) {
		struct piece none = {.mapped = false};

		wrong(r, m, "an operation that the sink refused", 0, UINT64_MAX, &none, &none);
		m->error = 0;
	}
	if (!full && !strict->count && !strict->all)
		return 0;

	r->counts.mirror_checks++;
	announce(&m->pending, strict);
	if (full) {
		r->counts.mirror_full++;
		ret = compare(r, m, &context, 0, UINT64_MAX, strict, &pending);
		/* Too many to remember: the next comparison of everything starts anew. */
		if (pending.all)
			sn_ranges_clear(&pending);
		sn_ranges_sort(&pending);
		free(m->pending.range);
		m->pending = pending;
		return ret;
	}
	if (strict->all)
		return compare(r, m, &context, 0, UINT64_MAX, strict, NULL);
	for (size_t i = 0; i < strict->count && !ret; i++)
		ret = compare(r, m, &context, strict->range[i].first, strict->range[i].last, strict,
		              NULL);
	return ret;
}

static int check_all(struct sn_replay *r, bool full)
{
	int ret = 0;

	for (unsigned i = 0; i < r->mirrors->count && !ret; i++)
		ret = check(r, &r->mirrors->mirror[i], full);
	/* What was judged is not judged again: the tables go on. */
	sn_history_doorbell(r->history);
	return ret;
}

int sn_replay_mirror_check(struct sn_replay *r)
{
	bool full = ++r->mirrors->doorbells == FULL_EVERY;

	if (full)
		r->mirrors->doorbells = 0;
	return check_all(r, full);
}

int sn_replay_mirror_finish(struct sn_replay *r)
{
	return check_all(r, true);
}
