/* SPDX-License-Identifier: MIT */
/*
 * The address axis of a picture. Guests use a few regions that lie far apart
 * (the top of 32 bits, a low identity map, an address that a program chose), so
 * the axis is broken: each region that is used densely enough is a band of its
 * own, and a band is the higher the more pages it spans.
 */
#include <stdlib.h>
#include <string.h>
#include "tools/replay_life.h"

/* The highest band, in pixels. */
#define ROWS_MAX 140u

/* What is worth a break: so many bytes, and this share of what it is in. */
#define GAP_MIN (UINT64_C(64) << 12)
#define GAP_SHARE 0.4

struct interval {
	uint64_t first, last;
};

static int by_first(const void *a, const void *b)
{
	const struct interval *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* What was ever mapped or used: ascending, disjoint. NULL with *count 0 when there is nothing. */
static struct interval *used(const struct sn_life_panel *panel, size_t *count)
{
	struct interval *all = calloc(panel->count + 1, sizeof(*all));
	size_t n = 0, merged = 0;

	*count = 0;
	for (size_t i = 0; all && i < panel->count; i++) {
		const struct sn_life_stretch *s = &panel->stretch[i];

		if (s->bits & (SN_LIFE_MAPPED | SN_LIFE_DMA))
			all[n++] = (struct interval){s->first, s->last};
	}
	if (!n) {
		free(all);
		return NULL;
	}
	qsort(all, n, sizeof(*all), by_first);
	for (size_t i = 1; i < n; i++) {
		if (all[i].first <= all[merged].last) {
			if (all[merged].last < all[i].last)
				all[merged].last = all[i].last;
		} else {
			all[++merged] = all[i];
		}
	}
	*count = merged + 1;
	return all;
}

/* A page has 9 rows, 4096 pages 129: each doubling adds the same. */
static struct sn_life_band band_of(const struct interval *in, size_t from, size_t to)
{
	uint64_t pages = ((in[to - 1].last - in[from].first) >> 12) + 1;
	unsigned lg2 = 63 - (unsigned)__builtin_clzll(pages), rows = 9 + lg2 * 10;

	return (struct sn_life_band){
		.first = in[from].first,
		.last = in[to - 1].last,
		.rows = rows < ROWS_MAX ? rows : ROWS_MAX,
	};
}

/* Intervals from..to-1, and the widest gap between two of them, in front of `cut`. */
struct cluster {
	size_t from, to, cut;
	double share; /* of the gap in the whole */
};

static struct cluster cluster(const struct interval *in, size_t from, size_t to)
{
	struct cluster c = {from, to, from, 0};
	uint64_t span = in[to - 1].last - in[from].first, widest = 0;

	for (size_t i = from + 1; i < to; i++) {
		uint64_t gap = in[i].first - in[i - 1].last;

		if (gap > widest) {
			widest = gap;
			c.cut = i;
		}
	}
	if (widest > GAP_MIN)
		c.share = (double)widest / (double)span;
	return c;
}

unsigned sn_life_bands(const struct sn_life_panel *panel, struct sn_life_band band[SN_LIFE_BANDS])
{
	struct cluster all[SN_LIFE_BANDS];
	unsigned bands = 1;
	size_t count;
	struct interval *in = used(panel, &count);

	if (!count)
		return 0;
	all[0] = cluster(in, 0, count);
	while (bands < SN_LIFE_BANDS) {
		unsigned at = 0;
		struct cluster old;

		for (unsigned i = 1; i < bands; i++) {
			if (all[i].share > all[at].share)
				at = i;
		}
		old = all[at];
		if (old.share < GAP_SHARE)
			break;
		memmove(&all[at + 2], &all[at + 1], (bands - at - 1) * sizeof(all[0]));
		all[at] = cluster(in, old.from, old.cut);
		all[at + 1] = cluster(in, old.cut, old.to);
		bands++;
	}
	for (unsigned i = 0; i < bands; i++)
		band[i] = band_of(in, all[i].from, all[i].to);
	free(in);
	return bands;
}
