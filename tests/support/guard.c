/* SPDX-License-Identifier: MIT */
/* The embedder of a tracked guest. See guard.h. */
#include "support/guard.h"
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static int protect(void *opaque, uint64_t gpa, uint64_t length)
{
	struct guard *g = opaque;
	uint64_t page = gpa >> 12;

	assert_true(length == 4096 && !(gpa & 4095) && page < GUARD_PAGES);
	assert_false(g->on[page]);
	assert_int_equal(snest_table_written(g->guest->vm, gpa, 8), -EDEADLK);
	if (g->fail_in && --g->fail_in == 0)
		return -EIO;
	memcpy(g->copy[page], g->guest->ram + gpa, 4096);
	g->on[page] = true;
	g->count++;
	g->protects++;
	return 0;
}

static void unprotect(void *opaque, uint64_t gpa, uint64_t length)
{
	struct guard *g = opaque;
	uint64_t page = gpa >> 12;

	assert_true(length == 4096 && !(gpa & 4095) && page < GUARD_PAGES);
	assert_true(g->on[page]);
	assert_int_equal(snest_table_written(g->guest->vm, gpa, 8), -EDEADLK);
	g->on[page] = false;
	g->count--;
	g->unprotects++;
}

void guard_init(struct guard *g, struct guest *guest)
{
	memset(g, 0, sizeof(*g));
	g->guest = guest;
	g->tracker = (struct snest_tracker){
		.size = sizeof(g->tracker),
		.opaque = g,
		.protect = protect,
		.unprotect = unprotect,
	};
	assert_int_equal(snest_vm_track(guest->vm, &g->tracker), 0);
}

void guard_fini(struct guard *g)
{
	assert_int_equal(g->count, 0);
	assert_true(g->protects == g->unprotects);
	assert_int_equal(snest_vm_track(g->guest->vm, NULL), 0);
}

static int notice(struct guard *g, uint64_t gpa, uint64_t length)
{
	return g->deaf ? 0 : snest_table_written(g->guest->vm, gpa, length);
}

/* Tells of the writes to one page: word by word as they were made, or the page. */
static int page_written(struct guard *g, uint64_t page)
{
	const char *now = g->guest->ram + (page << 12);
	bool words = test_below(&g->guest->random, 2);
	char old[4096];
	int ret = 0, one;

	memcpy(old, g->copy[page], 4096);
	memcpy(g->copy[page], now, 4096);
	for (unsigned i = 0; i < 4096 && words; i += 8) {
		if (!memcmp(old + i, now + i, 8))
			continue;
		one = notice(g, (page << 12) + i, 8);
		ret = ret ? ret : one;
	}
	return words ? ret : notice(g, page << 12, 4096);
}

int guard_notices(struct guard *g)
{
	bool again = true;
	int ret = 0;

	while (again) {
		again = false;
		for (uint64_t page = 0; page < GUARD_PAGES; page++) {
			int one;

			if (!g->on[page] ||
			    !memcmp(g->copy[page], g->guest->ram + (page << 12), 4096))
				continue;
			again = true;
			one = page_written(g, page);
			ret = ret ? ret : one;
		}
	}
	return ret;
}

/* ---- What should be there ----------------------------------------------------- */

struct compare {
	const struct sink *sink;
	uint64_t bytes;  /* that a walk finds */
	uint64_t wrong;  /* pages that the sink has otherwise */
	uint64_t absent; /* pages that it does not have */
};

static int compare_run(void *opaque, const struct snest_run *r)
{
	struct compare *c = opaque;

	if (r->outcome != SNEST_WALK_HOST || !(r->rights & 3))
		return 0;
	c->bytes += r->last - r->first + 1;
	for (uint64_t at = r->first;; at += 4096) {
		const struct sink_map *map = sink_find(c->sink, at);

		if (!map)
			c->absent++;
		else if (map->host + (at - map->first) != r->addr + (at - r->first) ||
		         map->rights != (r->rights & 3u))
			c->wrong++;
		if (r->last - at < 4096)
			return 0;
	}
}

/* Holds a sink against a fresh walk. */
static struct compare compare(const struct guest *g, const struct sink *s)
{
	struct snest_walk_range range = {.size = sizeof(range), .last = UINT64_MAX};
	struct compare c = {.sink = s};

	assert_int_equal(snest_walk_range(g->vm, g->list, g->stages, &range, compare_run, &c), 0);
	return c;
}

bool guard_equal(const struct guest *g, const struct sink *s)
{
	struct compare c = compare(g, s);

	return !c.wrong && !c.absent && c.bytes == sink_bytes(s);
}

bool guard_nothing_stale(const struct guest *g, const struct sink *s)
{
	struct compare c = compare(g, s);

	return !c.wrong && c.bytes == sink_bytes(s) + c.absent * 4096;
}

void guard_check(const struct guest *g, const struct sink *s, const char *what)
{
	struct compare c = compare(g, s);

	if (c.wrong || c.absent || c.bytes != sink_bytes(s))
		fail_msg("%s: the sink has 0x%" PRIx64 " bytes, a walk finds 0x%" PRIx64
		         "; %" PRIu64 " pages differ, %" PRIu64 " are absent",
		         what, sink_bytes(s), c.bytes, c.wrong, c.absent);
}
