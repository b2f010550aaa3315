/* SPDX-License-Identifier: MIT */
/*
 * Pixels of a picture, and back to few large rectangles: neighbouring pages and
 * moments that look the same become one shape, so that a life of a hundred
 * thousand mappings is a file of a few hundred kilobytes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/replay_life.h"

static unsigned row_of(const struct sn_life_band *band, uint64_t addr)
{
	__extension__ typedef unsigned __int128 wide;
	wide span = (wide)(band->last - band->first) + 1;

	return (unsigned)((wide)(addr - band->first) * band->rows / span);
}

int sn_raster_draw(struct sn_raster *raster, const struct sn_life_panel *panel,
                   const struct sn_life_band *band)
{
	raster->columns = SN_LIFE_COLUMNS;
	raster->rows = band->rows;
	raster->pixel = calloc(band->rows, SN_LIFE_COLUMNS);
	if (!raster->pixel)
		return -ENOMEM;
	for (size_t i = 0; i < panel->count; i++) {
		const struct sn_life_stretch *s = &panel->stretch[i];
		uint64_t first = s->first > band->first ? s->first : band->first;
		uint64_t last = s->last < band->last ? s->last : band->last;
		unsigned low, high;

		if (first > last)
			continue;
		low = row_of(band, first);
		high = row_of(band, last);
		for (unsigned row = low; row <= high; row++) {
			uint8_t *line =
				raster->pixel + (size_t)(band->rows - 1 - row) * raster->columns;

			for (unsigned x = s->column_first; x <= s->column_last; x++)
				line[x] |= (uint8_t)s->bits;
		}
	}
	return 0;
}

void sn_raster_free(struct sn_raster *raster)
{
	free(raster->pixel);
	raster->pixel = NULL;
}

/* A rectangle that may still grow downwards. */
struct open {
	unsigned from, to, top;
};

static unsigned close_open(FILE *out, const struct open *o, unsigned bottom, unsigned x, unsigned y)
{
	fprintf(out, "M%u %uh%uv%uh-%uz", x + o->from, y + o->top, o->to - o->from, bottom - o->top,
	        o->to - o->from);
	return 1;
}

/* The next run of pixels at or behind `from`. */
static bool next_run(const struct sn_raster *raster, unsigned row, unsigned mask, unsigned value,
                     unsigned from, struct open *run)
{
	const uint8_t *line;

	if (row >= raster->rows)
		return false;
	line = raster->pixel + (size_t)row * raster->columns;
	while (from < raster->columns && (line[from] & mask) != value)
		from++;
	if (from == raster->columns)
		return false;
	run->from = from;
	while (from < raster->columns && (line[from] & mask) == value)
		from++;
	run->to = from;
	run->top = row;
	return true;
}

unsigned sn_raster_path(const struct sn_raster *raster, FILE *out, unsigned mask, unsigned value,
                        unsigned x, unsigned y)
{
	struct open open[SN_LIFE_COLUMNS / 2 + 1], next[SN_LIFE_COLUMNS / 2 + 1];
	unsigned opens = 0, paths = 0;

	for (unsigned row = 0; row <= raster->rows; row++) {
		unsigned at = 0, nexts = 0, from = 0;
		struct open run;

		while (next_run(raster, row, mask, value, from, &run)) {
			from = run.to;
			while (at < opens && open[at].from < run.from)
				paths += close_open(out, &open[at++], row, x, y);
			if (at < opens && open[at].from == run.from && open[at].to == run.to)
				run.top = open[at++].top;
			next[nexts++] = run;
		}
		while (at < opens)
			paths += close_open(out, &open[at++], row, x, y);
		memcpy(open, next, nexts * sizeof(next[0]));
		opens = nexts;
	}
	return paths;
}
