/* SPDX-License-Identifier: MIT */
/*
 * Time, and how it is distributed: histograms with an error of at most an
 * eighth, in constant memory.
 */
#include <time.h>
#include "tools/replay.h"

uint64_t sn_replay_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void sn_histogram_add(struct sn_histogram *h, uint64_t ns)
{
	unsigned lg2 = ns ? 63 - (unsigned)__builtin_clzll(ns) : 0;
	unsigned part = lg2 >= 3 ? (unsigned)(ns >> (lg2 - 3)) & 7 : 0;

	h->count++;
	h->total += ns;
	if (h->max < ns)
		h->max = ns;
	h->bucket[lg2 * 8 + part]++;
}

uint64_t sn_histogram_at(const struct sn_histogram *h, double percent)
{
	uint64_t seen = 0, want = (uint64_t)((double)h->count * percent / 100);

	for (unsigned i = 0; i < sizeof(h->bucket) / sizeof(h->bucket[0]); i++) {
		unsigned lg2 = i / 8;

		seen += h->bucket[i];
		if (seen > want)
			return ((uint64_t)1 << lg2) + (((uint64_t)(i % 8) << lg2) >> 3);
	}
	return h->max;
}
