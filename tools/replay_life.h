/* SPDX-License-Identifier: MIT */
/*
 * A guest's life as it is drawn: replay_life.c gathers it during the replay,
 * replay_axis.c divides the addresses into bands, replay_raster.c turns them
 * into pixels and pixels into paths, replay_svg.c draws.
 */
#ifndef SN_TOOLS_REPLAY_LIFE_H
#define SN_TOOLS_REPLAY_LIFE_H

#include <stdio.h>
#include "tools/replay.h"

/* Time is cut into columns of one pixel. */
#define SN_LIFE_COLUMNS 1320u

/* What a stretch of addresses was, for some columns. Also the bits of a pixel. */
#define SN_LIFE_READ 0x01u
#define SN_LIFE_WRITE 0x02u
#define SN_LIFE_LARGE 0x04u /* mapped by pages larger than 4 KiB */
#define SN_LIFE_COMMAND 0x08u
#define SN_LIFE_DMA 0x10u
#define SN_LIFE_MAPPED (SN_LIFE_READ | SN_LIFE_WRITE | SN_LIFE_LARGE)

struct sn_life_stretch {
	uint64_t first, last;
	uint16_t column_first, column_last;
	uint32_t bits;
};

/* What a device's requests met in a column. */
#define SN_LIFE_OPEN 0x1u  /* no translation: off, or pass-through */
#define SN_LIFE_FLUSH 0x2u /* a whole domain, or everything, was invalidated */

/* One device. */
struct sn_life_panel {
	uint32_t rid;
	char name[48];
	uint64_t dma;
	struct sn_life_stretch *stretch;
	size_t count, size;
	uint8_t column[SN_LIFE_COLUMNS]; /* SN_LIFE_OPEN, SN_LIFE_FLUSH */
};

struct sn_life_phase {
	char name[40];
	uint64_t line;        /* first */
	unsigned column, end; /* first column, and the one behind the last */
};

#define SN_LIFE_PANELS 16u
#define SN_LIFE_PHASES 64u

struct sn_life {
	uint64_t lines;
	char kernel[80], cmdline[160];
	struct sn_life_phase phase[SN_LIFE_PHASES];
	unsigned phases;
	struct sn_life_panel panel[SN_LIFE_PANELS];
	unsigned panels;
	unsigned column; /* at hand */
	unsigned at;     /* phase at hand */
	size_t stretches;
	bool full; /* too much happened to draw all of it */
	uint32_t events[SN_LIFE_COLUMNS][SN_TRACE_ANSWER + 1];
};

/* A part of a panel's addresses that is drawn to one scale. */
struct sn_life_band {
	uint64_t first, last;
	unsigned rows;
};
#define SN_LIFE_BANDS 12u

/* Finds the bands of a panel, ascending. Returns how many. */
unsigned sn_life_bands(const struct sn_life_panel *panel, struct sn_life_band band[SN_LIFE_BANDS]);

/* Writes the picture. 0 or -errno after a message. */
int sn_life_draw(struct sn_replay *r);

/* ---- replay_raster.c ---- */

struct sn_raster {
	unsigned columns, rows;
	uint8_t *pixel; /* row by row, the lowest address in the last row */
};

/* One band of a panel as pixels. 0 or -ENOMEM. */
int sn_raster_draw(struct sn_raster *raster, const struct sn_life_panel *panel,
                   const struct sn_life_band *band);
void sn_raster_free(struct sn_raster *raster);

/*
 * Writes path data that covers all pixels for which (pixel & mask) == value,
 * in rectangles as large as they come; x, y is the upper left corner. Returns
 * the number of rectangles.
 */
unsigned sn_raster_path(const struct sn_raster *raster, FILE *out, unsigned mask, unsigned value,
                        unsigned x, unsigned y);

#endif
