/* SPDX-License-Identifier: MIT */
/*
 * Gathering a guest's life for its picture (tools/replay_life.h).
 *
 * The trace is read once in advance: how long it is, what its phases are called,
 * which devices there are. Then, during the replay, at the end of each column
 * of the picture the tables of every device are listed; and so that what lived
 * for less than a column is seen too, each page-selective command lists the
 * range that it covers. Bounded: past a few million stretches no more are kept.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "tools/replay_life.h"

#define STRETCHES_MAX ((size_t)1 << 21)

/* Table entries that one look may examine. */
#define BUDGET_COLUMN ((uint64_t)1 << 22)
#define BUDGET_COMMAND ((uint64_t)1 << 14)

/* A phase gets at least this many columns, so that its name has room. */
#define PHASE_COLUMNS 17u

/* ---- Reading in advance ----------------------------------------------------- */

struct device_name {
	unsigned vendor, device;
	const char *name;
};

static const struct device_name names[] = {
	{0x1b36, 0x0010, "NVMe"},       {0x8086, 0x10d3, "e1000e"}, {0x1af4, 0x1042, "virtio-blk"},
	{0x1af4, 0x1041, "virtio-net"}, {0x1234, 0x11e8, "edu"},    {0x8086, 0x2922, "AHCI"},
};

/* "device 0000:00:03.0 vendor 0x1b36 device 0x0010 class 0x010802 ...". */
static void name_panel(struct sn_life_panel *panels, unsigned count, const char *comment)
{
	unsigned bus, slot, function, vendor, device, class;
	const char *name = "device";

	if (sscanf(comment, "device %*x:%x:%x.%x vendor 0x%x device 0x%x class 0x%x", &bus, &slot,
	           &function, &vendor, &device, &class) != 6)
		return;
	if (class >> 16 == 1)
		name = "storage";
	else if (class >> 16 == 2)
		name = "network";
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].vendor == vendor && names[i].device == device)
			name = names[i].name;
	}
	for (unsigned i = 0; i < count; i++) {
		if (panels[i].rid == (bus << 8 | slot << 3 | function))
			snprintf(panels[i].name, sizeof(panels[i].name), "%s", name);
	}
}

/* Panels are in the order of their requester ids, and found before their names are known. */
static void note_device(struct sn_life *life, uint32_t rid)
{
	unsigned at = 0;

	while (at < life->panels && life->panel[at].rid < rid)
		at++;
	if ((at < life->panels && life->panel[at].rid == rid) || life->panels == SN_LIFE_PANELS)
		return;
	memmove(&life->panel[at + 1], &life->panel[at],
	        (life->panels - at) * sizeof(life->panel[0]));
	memset(&life->panel[at], 0, sizeof(life->panel[0]));
	life->panel[at].rid = rid;
	life->panels++;
}

static void note_phase(struct sn_life *life, uint64_t line, const char *name)
{
	struct sn_life_phase *phase = &life->phase[life->phases];

	if (life->phases == SN_LIFE_PHASES)
		return;
	phase->line = line;
	snprintf(phase->name, sizeof(phase->name), "%s", name);
	life->phases++;
}

static void note_comment(struct sn_life *life, uint64_t line, const char *comment)
{
	if (!strncmp(comment, "phase ", 6))
		note_phase(life, line, comment + 6);
	else if (!strncmp(comment, "guest kernel ", 13))
		snprintf(life->kernel, sizeof(life->kernel), "%s", comment + 13);
	else if (!strncmp(comment, "guest cmdline ", 14))
		snprintf(life->cmdline, sizeof(life->cmdline), "%s", comment + 14);
}

static int read_ahead(struct sn_replay *r, bool devices)
{
	struct sn_life *life = r->life;
	struct sn_trace *trace;
	struct sn_trace_event e;
	int ret = sn_trace_open(r->file, &trace);

	while (!ret && (ret = sn_trace_next(trace, &e)) == 1) {
		ret = 0;
		life->lines = e.line;
		if (e.kind == SN_TRACE_ANSWER)
			note_device(life, e.answer.rid);
		else if (e.kind == SN_TRACE_COMMENT && devices)
			name_panel(life->panel, life->panels, e.comment);
		else if (e.kind == SN_TRACE_COMMENT)
			note_comment(life, e.line, e.comment);
	}
	if (ret)
		sn_tool_error(r->tool, "%s", trace ? sn_trace_error(trace) : strerror(-ret));
	sn_trace_close(trace);
	return ret;
}

static uint64_t root(uint64_t value)
{
	uint64_t low = 0, high = UINT32_MAX;

	while (low < high) {
		uint64_t middle = (low + high + 1) / 2;

		if (middle * middle <= value)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

static uint64_t phase_lines(const struct sn_life *life, unsigned i)
{
	return (i + 1 < life->phases ? life->phase[i + 1].line : life->lines + 1) -
	       life->phase[i].line;
}

/*
 * Columns go by the square root of a phase's length, so that the short ones,
 * where devices come and go, are seen beside those that move the data.
 */
static void divide_time(struct sn_life *life)
{
	uint64_t least = PHASE_COLUMNS, sum = 0, rest, column = 0;

	if (!life->phases || life->phase[0].line > 1) {
		if (life->phases == SN_LIFE_PHASES)
			life->phases--;
		memmove(&life->phase[1], &life->phase[0], life->phases * sizeof(life->phase[0]));
		life->phases++;
		life->phase[0] = (struct sn_life_phase){.name = "boot", .line = 1};
	}
	if (life->phases * least > SN_LIFE_COLUMNS / 2)
		least = SN_LIFE_COLUMNS / 2 / life->phases;
	rest = SN_LIFE_COLUMNS - life->phases * least;
	for (unsigned i = 0; i < life->phases; i++)
		sum += root(phase_lines(life, i));
	for (unsigned i = 0, share = 0; i < life->phases; i++) {
		struct sn_life_phase *phase = &life->phase[i];

		share += (unsigned)root(phase_lines(life, i));
		phase->column = (unsigned)column;
		column = (i + 1) * least + (sum ? rest * share / sum : 0);
		phase->end = i + 1 == life->phases ? SN_LIFE_COLUMNS : (unsigned)column;
	}
}

int sn_life_create(struct sn_replay *r)
{
	int ret;

	r->life = calloc(1, sizeof(*r->life));
	if (!r->life) {
		sn_tool_error(r->tool, "out of memory");
		return -ENOMEM;
	}
	/* Devices are named before they are seen to be used; hence twice. */
	ret = read_ahead(r, false);
	if (!ret)
		ret = read_ahead(r, true);
	if (!ret)
		divide_time(r->life);
	return ret;
}

void sn_life_destroy(struct sn_life *life)
{
	for (unsigned i = 0; life && i < life->panels; i++)
		free(life->panel[i].stretch);
	free(life);
}

/* ---- Gathering -------------------------------------------------------------- */

static void note(struct sn_life *life, struct sn_life_panel *panel, unsigned from, unsigned to,
                 uint64_t first, uint64_t last, unsigned bits)
{
	struct sn_life_stretch *prev = panel->count ? &panel->stretch[panel->count - 1] : NULL;

	/* Neighbours in one list, and the same page used again. */
	if (prev && prev->bits == bits && prev->column_first == from && prev->column_last == to &&
	    first >= prev->first && first <= prev->last + 1 && prev->last != UINT64_MAX) {
		if (prev->last < last)
			prev->last = last;
		return;
	}
	if (life->stretches == STRETCHES_MAX) {
		life->full = true;
		return;
	}
	if (!panel->stretch || panel->count == panel->size) {
		size_t size = panel->size ? 2 * panel->size : 1024;
		struct sn_life_stretch *more = realloc(panel->stretch, size * sizeof(*more));

		if (!more) {
			life->full = true;
			return;
		}
		panel->stretch = more;
		panel->size = size;
	}
	life->stretches++;
	panel->stretch[panel->count++] = (struct sn_life_stretch){
		.first = first,
		.last = last,
		.column_first = (uint16_t)from,
		.column_last = (uint16_t)to,
		.bits = bits,
	};
}

struct look {
	struct sn_life *life;
	struct sn_life_panel *panel;
	unsigned from, to;
};

static int note_run(void *opaque, const struct snest_run *run)
{
	const struct look *look = opaque;
	unsigned bits = 0;

	if (run->rights & SNEST_READ)
		bits |= SN_LIFE_READ;
	if (run->rights & SNEST_WRITE)
		bits |= SN_LIFE_WRITE;
	if (bits && run->lg2 > 12)
		bits |= SN_LIFE_LARGE;
	if (bits)
		note(look->life, look->panel, look->from, look->to, run->first, run->last, bits);
	return 0;
}

/* Lists first..last of a device's tables, for the columns from..to. */
static void list(struct sn_replay *r, struct sn_life_panel *panel,
                 const struct snest_context *context, unsigned from, unsigned to, uint64_t first,
                 uint64_t last, uint64_t budget)
{
	struct look look = {r->life, panel, from, to};
	struct snest_walk_range range = {
		.size = sizeof(range),
		.first = first,
		.last = last,
		.budget = budget,
	};

	if (context->outcome != SNEST_CONTEXT_STAGES)
		return;
	if (!context->count) {
		for (unsigned i = from; i <= to; i++)
			panel->column[i] |= SN_LIFE_OPEN;
		return;
	}
	if (snest_walk_range(r->vm, context->stage, context->count, &range, note_run, &look))
		r->life->full = true;
}

static unsigned column_of(struct sn_life *life, uint64_t line)
{
	const struct sn_life_phase *phase;

	while (life->at + 1 < life->phases && line >= life->phase[life->at + 1].line)
		life->at++;
	phase = &life->phase[life->at];
	return phase->column + (unsigned)((line - phase->line) * (phase->end - phase->column) /
	                                  phase_lines(life, life->at));
}

/* How things stand at the end of the column at hand, and up to `to`. */
static void close_column(struct sn_replay *r, unsigned to)
{
	struct sn_life *life = r->life;

	for (unsigned i = 0; r->vm && i < life->panels; i++) {
		struct sn_life_panel *panel = &life->panel[i];
		struct snest_context context;

		if (!sn_replay_context(r, panel->rid, SNEST_NO_PASID, 0, 0, &context))
			list(r, panel, &context, life->column, to, 0, UINT64_MAX, BUDGET_COLUMN);
	}
}

void sn_life_event(struct sn_replay *r, const struct sn_trace_event *e)
{
	struct sn_life *life = r->life;
	unsigned column = column_of(life, e->line);

	if (column != life->column) {
		close_column(r, column - 1);
		life->column = column;
	}
	life->events[column][e->kind]++;
	for (unsigned i = 0; e->kind == SN_TRACE_ANSWER && i < life->panels; i++) {
		uint64_t page = e->answer.iova & ~(uint64_t)4095;

		if (life->panel[i].rid != e->answer.rid)
			continue;
		life->panel[i].dma++;
		note(life, &life->panel[i], column, column, page, page | 4095, SN_LIFE_DMA);
	}
}

void sn_life_command(struct sn_replay *r, const struct sn_cover *cover)
{
	struct sn_life *life = r->life;

	for (unsigned i = 0; cover->kind == SN_COVER_IOTLB && i < life->panels; i++) {
		struct sn_life_panel *panel = &life->panel[i];
		struct snest_context context;

		if (sn_replay_context(r, panel->rid, SNEST_NO_PASID, 0, 0, &context) ||
		    !sn_cover_hits(cover, context.domain, 0, UINT64_MAX))
			continue;
		if (!cover->page) {
			panel->column[life->column] |= SN_LIFE_FLUSH;
			continue;
		}
		note(life, panel, life->column, life->column, cover->first, cover->last,
		     SN_LIFE_COMMAND);
		list(r, panel, &context, life->column, life->column, cover->first, cover->last,
		     BUDGET_COMMAND);
	}
}

int sn_life_finish(struct sn_replay *r)
{
	close_column(r, SN_LIFE_COLUMNS - 1);
	return sn_life_draw(r);
}
