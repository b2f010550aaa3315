/* SPDX-License-Identifier: MIT */
/*
 * The picture of a guest's life: IOVA space against time, a panel for each
 * device. Self-contained SVG 1.1, no scripts, no references.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "tools/replay_life.h"

#define LEFT 204u
#define RIGHT 124u
#define WIDTH (LEFT + SN_LIFE_COLUMNS + RIGHT)
#define TOP 190u /* title and the names of phases */
#define PANEL_GAP 22u
#define BAND_GAP 7u
#define SHARES_HEIGHT 70u
#define BOTTOM 118u

struct colour {
	unsigned mask, value;
	const char *fill;
	const char *label;
};

/* Drawn in this order. */
static const struct colour colours[] = {
	{SN_LIFE_COMMAND | SN_LIFE_READ | SN_LIFE_WRITE, SN_LIFE_COMMAND, "#f3cdd6",
         "invalidated, nothing mapped"},
	{SN_LIFE_MAPPED, SN_LIFE_READ, "#6aa9ec", "mapped, device may read"},
	{SN_LIFE_MAPPED, SN_LIFE_WRITE, "#f2ab4e", "may write"},
	{SN_LIFE_MAPPED, SN_LIFE_READ | SN_LIFE_WRITE, "#4fb694", "may read and write"},
	{SN_LIFE_MAPPED, SN_LIFE_READ | SN_LIFE_LARGE, "#2a62ad", NULL},
	{SN_LIFE_MAPPED, SN_LIFE_WRITE | SN_LIFE_LARGE, "#b96f0a", NULL},
	{SN_LIFE_MAPPED, SN_LIFE_MAPPED, "#146b4f", "by large pages"},
	{SN_LIFE_DMA, SN_LIFE_DMA, "#1d2433", "DMA"},
};
#define COLOURS (sizeof(colours) / sizeof(colours[0]))

#define OPEN_FILL "#dfe3ea"
#define FLUSH_FILL "#cf3b5c"

static const struct {
	enum sn_trace_kind kind;
	const char *fill, *label;
} shares[] = {
	{SN_TRACE_WORDS, "#9fb3c8", "table writes"},
	{SN_TRACE_REGISTER, "#c9ced6", "register writes"},
	{SN_TRACE_STORE, "#e4e7ec", "completions"},
	{SN_TRACE_COMMAND, "#e08a9e", "commands"},
	{SN_TRACE_ANSWER, "#1d2433", "DMA translations"},
};
#define SHARES (sizeof(shares) / sizeof(shares[0]))

/* Comments come from a guest: no markup gets through. */
static void text(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '<')
			fputs("&lt;", out);
		else if (*s == '>')
			fputs("&gt;", out);
		else if (*s == '&')
			fputs("&amp;", out);
		else
			fputc(*s >= 0x20 && *s < 0x7f ? *s : '?', out);
	}
}

/* 123456 with a narrow space in the middle. */
static const char *grouped(uint64_t value, char buf[48])
{
	char digits[24];
	int n = snprintf(digits, sizeof(digits), "%" PRIu64, value), at = 0;

	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0)
			at += sprintf(buf + at, "\xe2\x80\xaf");
		buf[at++] = digits[i];
	}
	buf[at] = '\0';
	return buf;
}

static const char *base_name(const char *file)
{
	const char *slash = strrchr(file, '/');

	return slash ? slash + 1 : file;
}

static void header(FILE *out, const struct sn_replay *r, unsigned height)
{
	const struct sn_life *life = r->life;
	char a[48], b[48], c[48];

	fprintf(out,
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" viewBox=\"0 0 "
	        "%u %u\" font-family=\"'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif\" "
	        "fill=\"#1d2433\">\n<title>",
	        WIDTH, height, WIDTH, height);
	text(out, base_name(r->file));
	fprintf(out,
	        "</title>\n<style>.m{font-family:'DejaVu Sans Mono',Consolas,monospace;"
	        "font-size:10.5px;fill:#4a5468}.s{font-size:12px;fill:#4a5468}"
	        ".p{font-size:12px;fill:#39445a}.n{font-size:14px;font-weight:bold}</style>\n"
	        "<rect width=\"%u\" height=\"%u\" fill=\"#fff\"/>\n"
	        "<text x=\"28\" y=\"38\" font-size=\"23\" font-weight=\"bold\">The life of a guest "
	        "behind its IOMMU</text>\n<text x=\"28\" y=\"62\" class=\"s\">",
	        WIDTH, height);
	text(out, base_name(r->file));
	if (*life->kernel) {
		fputs(" \xc2\xb7 Linux ", out);
		text(out, life->kernel);
	}
	fprintf(out,
	        " \xc2\xb7 VT-d, %s mode%s \xc2\xb7 %s events: %s commands, %s translations</text>\n",
	        r->registers.rtaddr >> 10 & 3 ? "scalable" : "legacy",
	        r->registers.cap >> 7 & 1 ? ", caching mode" : "", grouped(life->lines, a),
	        grouped(r->counts.events[SN_TRACE_COMMAND], b), grouped(r->counts.checked, c));
}

/* Vertical stripes behind everything, and their names above. */
static void phases(FILE *out, const struct sn_life *life, unsigned height)
{
	for (unsigned i = 0; i < life->phases; i++) {
		const struct sn_life_phase *p = &life->phase[i];
		unsigned x = LEFT + p->column, middle = x + (p->end - p->column) / 2;

		fprintf(out, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"/>", x,
		        TOP - 6, p->end - p->column, height - TOP + 6 - BOTTOM + 34,
		        i % 2 ? "#eceff4" : "#f8f9fb");
		fprintf(out, "<text class=\"p\" transform=\"translate(%u %u) rotate(-42)\">",
		        middle + 2, TOP - 13);
		text(out, p->name);
		fputs("</text>\n", out);
	}
}

static void band_frame(FILE *out, const struct sn_life_band *band, unsigned y)
{
	fprintf(out,
	        "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"#fff\" "
	        "fill-opacity=\".6\" stroke=\"#c3cad6\"/>\n",
	        LEFT, y, SN_LIFE_COLUMNS, band->rows);
	if (band->rows >= 22)
		fprintf(out,
		        "<text class=\"m\" x=\"%u\" y=\"%u\" text-anchor=\"end\">%" PRIx64
		        "</text><text class=\"m\" x=\"%u\" y=\"%u\" text-anchor=\"end\">%" PRIx64
		        "</text>\n",
		        LEFT - 6, y + 9, band->last, LEFT - 6, y + band->rows, band->first);
	else
		fprintf(out,
		        "<text class=\"m\" x=\"%u\" y=\"%u\" text-anchor=\"end\">%" PRIx64
		        "</text>\n",
		        LEFT - 6, y + band->rows / 2 + 4, band->first);
}

/* Times without translation, and invalidations of everything, over a whole panel. */
static void columns(FILE *out, const struct sn_life_panel *panel, unsigned bit, const char *style,
                    unsigned y, unsigned height)
{
	bool any = false;

	for (unsigned x = 0; x < SN_LIFE_COLUMNS; x++) {
		unsigned from = x;

		while (x < SN_LIFE_COLUMNS && (panel->column[x] & bit))
			x++;
		if (x == from)
			continue;
		fprintf(out, "%sM%u %uh%uv%uh-%uz", any ? "" : "<path d=\"", LEFT + from, y,
		        x - from, height, x - from);
		any = true;
	}
	if (any)
		fprintf(out, "\" %s/>\n", style);
}

static int band_pixels(FILE *out, const struct sn_life_panel *panel,
                       const struct sn_life_band *band, unsigned y)
{
	struct sn_raster raster;
	int ret = sn_raster_draw(&raster, panel, band);

	for (size_t i = 0; !ret && i < COLOURS; i++) {
		fputs("<path d=\"", out);
		sn_raster_path(&raster, out, colours[i].mask, colours[i].value, LEFT, y);
		fprintf(out, "\" fill=\"%s\"%s/>\n", colours[i].fill,
		        colours[i].value == SN_LIFE_DMA ? " fill-opacity=\".62\"" : "");
	}
	sn_raster_free(&raster);
	return ret;
}

static unsigned panel_height(const struct sn_life_band *band, unsigned bands)
{
	unsigned height = 0;

	for (unsigned i = 0; i < bands; i++)
		height += band[i].rows + (i ? BAND_GAP : 0);
	/* Room for the name and the count beside it. */
	return height < 36 ? 36 : height;
}

static int panel(FILE *out, const struct sn_life_panel *p, unsigned y, unsigned *height)
{
	struct sn_life_band band[SN_LIFE_BANDS];
	unsigned bands = sn_life_bands(p, band), at = y;
	char count[48];
	int ret = 0;

	*height = panel_height(band, bands);
	fprintf(out,
	        "<text class=\"n\" x=\"16\" y=\"%u\">%s</text><text class=\"s\" x=\"16\" "
	        "y=\"%u\">%02x:%02x.%x</text><text class=\"s\" x=\"16\" y=\"%u\">%s DMA</text>\n",
	        y + 13, p->name, y + 29, p->rid >> 8, p->rid >> 3 & 31, p->rid & 7, y + 44,
	        grouped(p->dma, count));
	for (unsigned i = bands; i--;) {
		band_frame(out, &band[i], at);
		at += band[i].rows + BAND_GAP;
	}
	columns(out, p, SN_LIFE_OPEN, "fill=\"" OPEN_FILL "\"", y, *height);
	columns(out, p, SN_LIFE_FLUSH, "fill=\"" FLUSH_FILL "\" fill-opacity=\".3\"", y, *height);
	at = y;
	for (unsigned i = bands; i-- && !ret;) {
		ret = band_pixels(out, p, &band[i], at);
		at += band[i].rows + BAND_GAP;
	}
	return ret;
}

/* Sums of a few columns around x, so that single events do not flicker. */
static uint64_t events_near(const struct sn_life *life, unsigned x, unsigned kind)
{
	unsigned from = x > 2 ? x - 2 : 0, to = x + 2 < SN_LIFE_COLUMNS ? x + 2 : x;
	uint64_t sum = 0;

	for (unsigned i = from; i <= to; i++)
		sum += life->events[i][kind];
	return sum;
}

/* What the events of each moment are, as shares of all. */
static void shares_of_events(FILE *out, const struct sn_life *life, unsigned y)
{
	fprintf(out,
	        "<text class=\"n\" x=\"16\" y=\"%u\">Events</text><text class=\"s\" x=\"16\" "
	        "y=\"%u\">share of each kind</text>\n",
	        y + 13, y + 29);
	for (size_t k = 0; k < SHARES; k++) {
		fputs("<path d=\"", out);
		for (unsigned x = 0; x < SN_LIFE_COLUMNS; x += 2) {
			uint64_t below = 0, own = events_near(life, x, shares[k].kind), all = 0;
			unsigned from, to;

			for (size_t i = 0; i < SHARES; i++) {
				uint64_t n = events_near(life, x, shares[i].kind);

				all += n;
				below += i < k ? n : 0;
			}
			if (!all || !own)
				continue;
			from = (unsigned)(below * SHARES_HEIGHT / all);
			to = (unsigned)((below + own) * SHARES_HEIGHT / all);
			if (to > from)
				fprintf(out, "M%u %uh2v%uh-2z", LEFT + x, y + SHARES_HEIGHT - to,
				        to - from);
		}
		fprintf(out, "\" fill=\"%s\"/>\n", shares[k].fill);
	}
	fprintf(out,
	        "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"none\" "
	        "stroke=\"#c3cad6\"/>\n",
	        LEFT, y, SN_LIFE_COLUMNS, SHARES_HEIGHT);
}

/* Line numbers of the trace where phases begin, where there is room. */
static void time_axis(FILE *out, const struct sn_life *life, unsigned y)
{
	unsigned free_from = 0;
	char number[48];

	for (unsigned i = 0; i < life->phases; i++) {
		unsigned x = life->phase[i].column;

		fprintf(out, "<path d=\"M%u %uv5\" stroke=\"#8a94a6\"/>", LEFT + x, y);
		if (x < free_from || x + 70 > SN_LIFE_COLUMNS)
			continue;
		fprintf(out,
		        "<text class=\"m\" x=\"%u\" y=\"%u\" text-anchor=\"middle\">%s</text>\n",
		        LEFT + x, y + 17, grouped(life->phase[i].line, number));
		free_from = x + 62;
	}
	fprintf(out,
	        "<text class=\"m\" x=\"%u\" y=\"%u\" text-anchor=\"end\">%s</text>\n"
	        "<text class=\"s\" x=\"16\" y=\"%u\">line of the trace</text>\n",
	        LEFT + SN_LIFE_COLUMNS, y + 17, grouped(life->lines, number), y + 17);
}

static unsigned swatch(FILE *out, unsigned x, unsigned y, const char *fill, const char *label)
{
	fprintf(out,
	        "<rect x=\"%u\" y=\"%u\" width=\"14\" height=\"14\" rx=\"2\" fill=\"%s\"/>"
	        "<text class=\"s\" x=\"%u\" y=\"%u\">%s</text>\n",
	        x, y, fill, x + 20, y + 12, label);
	return x + 44 + (unsigned)(strlen(label) * 7);
}

static void legend(FILE *out, const struct sn_life *life, unsigned y)
{
	unsigned x = LEFT;

	for (size_t i = 1; i < COLOURS; i++) {
		if (colours[i].label)
			x = swatch(out, x, y, colours[i].fill, colours[i].label);
	}
	x = swatch(out, x, y, colours[0].fill, colours[0].label);
	x = swatch(out, x, y, "#ecb1be", "whole domain invalidated");
	swatch(out, x, y, OPEN_FILL, "no translation");
	x = LEFT;
	for (size_t i = 0; i < SHARES; i++)
		x = swatch(out, x, y + 24, shares[i].fill, shares[i].label);
	fprintf(out,
	        "<text class=\"s\" x=\"%u\" y=\"%u\">Addresses grow upwards, in bands; a phase is as "
	        "wide as the root of its length.%s</text>\n",
	        x + 8, y + 36, life->full ? " Not all of it is drawn." : "");
}

static int draw(FILE *out, struct sn_replay *r)
{
	const struct sn_life *life = r->life;
	unsigned height = TOP, y = TOP;
	int ret = 0;

	for (unsigned i = 0; i < life->panels; i++) {
		struct sn_life_band band[SN_LIFE_BANDS];

		height += panel_height(band, sn_life_bands(&life->panel[i], band)) + PANEL_GAP;
	}
	height += SHARES_HEIGHT + BOTTOM;
	header(out, r, height);
	phases(out, life, height);
	for (unsigned i = 0; i < life->panels && !ret; i++) {
		unsigned used;

		ret = panel(out, &life->panel[i], y, &used);
		y += used + PANEL_GAP;
	}
	shares_of_events(out, life, y);
	time_axis(out, life, y + SHARES_HEIGHT + 4);
	legend(out, life, y + SHARES_HEIGHT + 40);
	fputs("</svg>\n", out);
	return ret;
}

int sn_life_draw(struct sn_replay *r)
{
	FILE *out = fopen(r->options->svg, "w");
	int ret = out ? draw(out, r) : -errno;

	if (out && (ferror(out) | fclose(out)) && !ret)
		ret = -EIO;
	if (ret)
		sn_tool_error(r->tool, "%s: cannot draw: %s", r->options->svg, strerror(-ret));
	return ret;
}
