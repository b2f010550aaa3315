/* SPDX-License-Identifier: MIT */
/* A random guest. See guest.h. */
#include "support/guest.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>
#include "support/facts.h"

#define TABLE_BYTES ((uint64_t)1 << GUEST_TABLES_LG2)
#define TABLES_HOST 0x2000000000ull
#define READONLY_HOST 0x6000000000ull
#define ATTR (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY)
#define STEP_PAGES 16

static uint64_t ones(unsigned lg2)
{
	return lg2 >= 64 ? UINT64_MAX : ((uint64_t)1 << lg2) - 1;
}

/* ---- Memory of tables -------------------------------------------------- */

static void *page_alloc(void *opaque, unsigned lg2)
{
	struct guest *g = opaque;
	uint64_t size = (uint64_t)1 << lg2;
	void **page = g->free[lg2];

	if (page) {
		g->free[lg2] = *page;
	} else {
		g->cut = (g->cut + size - 1) & ~(size - 1);
		assert_true(g->cut + size <= TABLE_BYTES);
		page = (void **)(g->ram + g->cut);
		g->cut += size;
	}
	memset(page, 0, size);
	return page;
}

/* A page that is no table any more holds whatever its new owner writes. */
static void page_free(void *opaque, void *page, unsigned lg2)
{
	struct guest *g = opaque;
	uint64_t *word = page;

	for (size_t i = 0; i < ((size_t)1 << lg2) / 8; i++)
		word[i] = test_random(&g->random);
	*(void **)page = g->free[lg2];
	g->free[lg2] = page;
}

/* ---- The memory map ------------------------------------------------------- */

static const struct guest_region *region_of(const struct guest *g, uint64_t gpa)
{
	for (unsigned i = 0; i < g->regions; i++) {
		if (g->region[i].first <= gpa && gpa <= g->region[i].last)
			return &g->region[i];
	}
	return NULL;
}

static void model_remove(struct guest *g, uint64_t first, uint64_t last)
{
	struct guest_region out[GUEST_REGIONS];
	unsigned n = 0;

	for (unsigned i = 0; i < g->regions; i++) {
		struct guest_region r = g->region[i];

		assert_true(n + 2 <= GUEST_REGIONS);
		if (r.last < first || r.first > last) {
			out[n++] = r;
			continue;
		}
		if (r.first < first) {
			out[n] = r;
			out[n++].last = first - 1;
		}
		if (r.last > last) {
			out[n] = r;
			out[n].first = last + 1;
			out[n++].host = r.host + (last + 1 - r.first);
		}
	}
	memcpy(g->region, out, n * sizeof(*out));
	g->regions = n;
}

static void model_add(struct guest *g, uint64_t first, uint64_t last, uint64_t host, uint32_t flags)
{
	unsigned i = 0;

	assert_true(g->regions < GUEST_REGIONS);
	while (i < g->regions && g->region[i].first < first)
		i++;
	memmove(&g->region[i + 1], &g->region[i], (g->regions - i) * sizeof(g->region[0]));
	g->region[i] = (struct guest_region){first, last, host, flags, NULL};
	g->regions++;
}

static struct snest_region as_region(uint64_t first, uint64_t last, uint64_t host, uint32_t flags)
{
	return (struct snest_region){.size = sizeof(struct snest_region),
	                             .first = first,
	                             .last = last,
	                             .host = host,
	                             .flags = flags};
}

void guest_memory_remove(struct guest *g, uint64_t first, uint64_t last)
{
	assert_int_equal(snest_memory_remove(g->vm, first, last), 0);
	model_remove(g, first, last);
}

void guest_memory_add(struct guest *g, uint64_t first, uint64_t last, uint64_t host, uint32_t flags)
{
	struct snest_region region = as_region(first, last, host, flags);

	assert_int_equal(snest_memory_replace(g->vm, &region), 0);
	model_remove(g, first, last);
	model_add(g, first, last, host, flags);
}

void guest_memory_protect(struct guest *g, uint64_t first, uint64_t last, bool readonly)
{
	uint32_t flag = readonly ? SNEST_REGION_READONLY : 0;
	struct guest_region old[GUEST_REGIONS];
	unsigned n = g->regions;

	assert_int_equal(snest_memory_protect(g->vm, first, last, flag), 0);
	memcpy(old, g->region, sizeof(old));
	for (unsigned i = 0; i < n; i++) {
		uint64_t from = old[i].first > first ? old[i].first : first;
		uint64_t to = old[i].last < last ? old[i].last : last;

		if (from > to)
			continue;
		model_remove(g, from, to);
		model_add(g, from, to, old[i].host + (from - old[i].first), flag);
	}
}

void guest_memory_step(struct guest *g)
{
	unsigned lg2 = 12 + (unsigned)test_below(&g->random, 12);
	uint64_t first = GUEST_DATA + (test_below(&g->random, 0x1000000) & ~ones(lg2));
	uint64_t last = first + ones(lg2);
	uint64_t host = GUEST_HOST + (test_below(&g->random, 0x1000000) & ~ones(lg2));
	const struct guest_region *region = region_of(g, first);

	/* Where the map is cut up too much, put the plain memory back. */
	if (g->regions + 4 > GUEST_REGIONS) {
		guest_memory_add(g, GUEST_DATA, GUEST_READONLY - 1, GUEST_HOST, 0);
		return;
	}
	switch (test_below(&g->random, 4)) {
	case 0:
		if (region)
			guest_memory_remove(g, first, last);
		else
			guest_memory_add(g, first, last, host, 0);
		break;
	case 1:
		guest_memory_add(g, first, last, host, 0);
		break;
	case 2:
		guest_memory_add(g, first, last, GUEST_HOST + (first - GUEST_DATA), 0);
		break;
	default:
		if (region)
			guest_memory_protect(g, first, last, test_below(&g->random, 2));
	}
}

/* ---- Windows ------------------------------------------------------------------ */

static void window_add(struct guest_table *t, unsigned half, uint64_t first, uint64_t last)
{
	struct guest_window *w = &t->window[t->windows++];

	assert_true(t->windows <= GUEST_WINDOWS);
	w->first = first;
	w->last = last;
	w->sizes = 0;
	for (unsigned level = 0; level < fact_levels(&t->stage, half); level++)
		w->sizes |= fact_leaf_sizes(&t->stage, half, level);
	for (unsigned lg2 = 0; lg2 < 64; lg2++) {
		if (ones(lg2) > last - first || (first & ones(lg2)))
			w->sizes &= ~((uint64_t)1 << lg2);
	}
	/* Which powers of two an AMD leaf may have depends on nothing; a few are enough. */
	if (__builtin_popcountll(w->sizes) > 4)
		w->sizes &= 1ull << 12 | 1ull << 14 | 1ull << 21 | 1ull << 22;
	w->at = t->cells;
	t->cells += ((last - first) >> t->unit_lg2) + 1;
}

static void windows_of_half(struct guest_table *t, unsigned half, unsigned bits, bool up)
{
	unsigned granule = test_config_granule_lg2(&t->stage, half);
	/* Two pages of the second size. */
	unsigned want = granule == 12 ? 22 : granule == 14 ? 26 : granule == 16 ? 30 : 20;
	uint64_t base = up ? ~ones(bits) : 0, span;

	if (want > bits)
		want = bits;
	span = ones(want);
	window_add(t, half, base, base + span);
	if (bits > want + 2 && granule == 12 && bits > 31)
		window_add(t, half, base + 0x40000000 - span / 2 - 1, base + 0x40000000 + span / 2);
	if (bits > want)
		window_add(t, half, base + ones(bits) - span, base + ones(bits));
}

static void find_windows(struct guest_table *t, unsigned k)
{
	bool sign = fact_signed(&t->stage);
	unsigned bits = fact_input_bits(&t->stage, 0) - sign;

	if (k) {
		/* What earlier stages lead to. */
		window_add(t, 0, GUEST_DATA, GUEST_DATA + ones(23));
		return;
	}
	if (!(t->stage.flags & SNEST_STAGE_ARM_EPD0) || t->stage.format != SNEST_FORMAT_ARM_S1)
		windows_of_half(t, 0, bits, false);
	if (sign) {
		window_add(t, 0, ~ones(bits), ~ones(bits) + t->window[0].last);
	} else if (t->stage.format == SNEST_FORMAT_ARM_S1 && t->stage.ia_bits_high &&
	           !(t->stage.flags & SNEST_STAGE_ARM_EPD1)) {
		unsigned granule = t->stage.granule_high_lg2;
		unsigned want = granule == 12 ? 22 : granule == 14 ? 26 : 30;

		bits = t->stage.ia_bits_high;
		window_add(t, 1, want < bits ? ~ones(want) : ~ones(bits), UINT64_MAX);
	}
}

struct guest_cell *guest_cell(const struct guest *g, unsigned k, uint64_t input)
{
	const struct guest_table *t = &g->table[k];

	for (unsigned i = 0; i < t->windows; i++) {
		const struct guest_window *w = &t->window[i];

		if (w->first <= input && input <= w->last)
			return &t->cell[w->at + ((input - w->first) >> t->unit_lg2)];
	}
	return NULL;
}

uint64_t guest_iova(struct guest *g)
{
	const struct guest_table *t = &g->table[0];
	const struct guest_window *w = &t->window[test_below(&g->random, t->windows)];

	return w->first + (test_random(&g->random) & (w->last - w->first));
}

/* ---- Begin and end --------------------------------------------------------------- */

static void table_init(struct guest *g, unsigned k, const struct test_config *config)
{
	struct guest_table *t = &g->table[k];
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.opaque = g,
		.delta = 0 - (uint64_t)(uintptr_t)g->ram,
	};
	bool last = k + 1 == g->stages;

	if (!last)
		memory.delta += GUEST_TABLES_AT;
	t->guest = g;
	t->stage = config->stage;
	t->unit_lg2 = test_config_granule_lg2(&t->stage, 0);
	if (t->stage.granule_high_lg2 && t->stage.granule_high_lg2 < t->unit_lg2)
		t->unit_lg2 = t->stage.granule_high_lg2;
	if (t->unit_lg2 > 12 && g->stages > 1)
		t->unit_lg2 = 12;
	assert_int_equal(snest_table_create(g->vm, &t->stage, &memory, &t->table), 0);
	t->stage = *snest_table_stage(t->table);
	g->list[k] = t->stage;
	find_windows(t, k);
	t->cell = calloc(t->cells, sizeof(*t->cell));
	assert_non_null(t->cell);
	/* The way to the tables of the stages in front. */
	if (k)
		assert_int_equal(snest_table_map(t->table, GUEST_TABLES_AT,
		                                 GUEST_TABLES_AT + TABLE_BYTES - 1,
		                                 last ? 0 : GUEST_TABLES_AT,
		                                 SNEST_READ | SNEST_WRITE, ATTR | SNEST_ATTR_USER,
		                                 0),
		                 0);
}

/* Naturally aligned, so that tables of every size are. */
static char *ram_map(uint64_t bytes)
{
	char *ram = mmap(NULL, bytes + TABLE_BYTES, PROT_READ | PROT_WRITE,
	                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t skip = (size_t)(-(uintptr_t)ram & (TABLE_BYTES - 1));

	assert_true(ram != MAP_FAILED);
	if (skip)
		munmap(ram, skip);
	munmap(ram + skip + bytes, TABLE_BYTES - skip);
	return ram + skip;
}

void guest_init(struct guest *g, const struct guest_options *o)
{
	struct snest_vm_config config = {.size = sizeof(config),
	                                 .hooks = o->hooks,
	                                 .table_bytes_max = o->vm_table_bytes_max};
	struct snest_region tables = as_region(0, TABLE_BYTES - 1, TABLES_HOST, 0);
	unsigned stages = 0;

	memset(g, 0, sizeof(*g));
	g->random.state = o->seed + test_seed();
	g->ram_bytes = o->one_region ? GUEST_READONLY : TABLE_BYTES;
	g->ram = ram_map(g->ram_bytes);
	g->cut = 65536;
	tables.mapping = g->ram;
	assert_int_equal(snest_vm_create(&config, &g->vm), 0);
	if (o->one_region) {
		tables.last = GUEST_READONLY - 1;
		tables.host = GUEST_HOST + o->host_skew - GUEST_DATA;
		model_add(g, GUEST_DATA, GUEST_READONLY - 1, GUEST_HOST + o->host_skew, 0);
	}
	assert_int_equal(snest_memory_add(g->vm, &tables), 0);
	if (!o->one_region)
		guest_memory_add(g, GUEST_DATA, GUEST_READONLY - 1, GUEST_HOST + o->host_skew, 0);
	guest_memory_add(g, GUEST_READONLY, GUEST_HOLE - 1, READONLY_HOST, SNEST_REGION_READONLY);
	while (stages < GUEST_STAGES && o->config[stages])
		stages++;
	g->stages = stages;
	for (unsigned k = 0; k < stages; k++)
		table_init(g, k, o->config[k]);
}

void guest_fini(struct guest *g)
{
	for (unsigned k = 0; k < g->stages; k++) {
		snest_table_destroy(g->table[k].table);
		free(g->table[k].cell);
	}
	snest_vm_destroy(g->vm);
	munmap(g->ram, g->ram_bytes);
}

struct snest_space *guest_space(struct guest *g, struct snest_tag tag, uint32_t flags,
                                uint64_t table_bytes_max)
{
	struct snest_space_config config = {
		.size = sizeof(config),
		.stages = g->list,
		.count = g->stages,
		.flags = flags,
		.tag = tag,
		.table_bytes_max = table_bytes_max,
	};
	struct snest_space *space = NULL;

	assert_int_equal(snest_space_get(g->vm, &config, &space), 0);
	return space;
}

const struct test_config *guest_config(const char *name)
{
	for (size_t i = 0; i < test_configs_count; i++) {
		if (!strcmp(test_configs[i].name, name))
			return &test_configs[i];
	}
	fail_msg("no configuration %s", name);
	return NULL;
}

/* ---- What is true ---------------------------------------------------------------------- */

void guest_answer_memory(const struct guest *g, struct guest_answer *a)
{
	const struct guest_region *region = region_of(g, a->gpa);

	a->rights = a->table_rights;
	a->memory = a->present && region;
	a->host = 0;
	if (a->memory) {
		a->host = region->host + (a->gpa - region->first);
		if (region->flags & SNEST_REGION_READONLY)
			a->rights &= (uint8_t)~SNEST_WRITE;
	}
}

void guest_answer(const struct guest *g, uint64_t iova, bool privileged, struct guest_answer *a)
{
	uint64_t at = iova;

	memset(a, 0, sizeof(*a));
	a->present = true;
	a->table_rights = SNEST_RIGHTS;
	for (unsigned k = 0; k < g->stages && a->present; k++) {
		const struct guest_cell *cell = guest_cell(g, k, at);

		a->present = cell && cell->present;
		if (!a->present)
			break;
		a->table_rights &= cell->rights[privileged];
		if (!k)
			a->id = cell->id;
		at = cell->out + (at & ones(g->table[k].unit_lg2));
	}
	a->gpa = at;
	guest_answer_memory(g, a);
	if (!a->present)
		a->rights = a->table_rights = 0;
}

/* ---- Changes ------------------------------------------------------------------------------ */

/* Cells of a leaf of which a part goes: the rest stands for smaller leaves of unknown sizes. */
static void cut_leaf(struct guest *g, struct guest_table *t, uint32_t id)
{
	for (size_t i = 0; i < t->cells; i++) {
		if (!t->cell[i].present || t->cell[i].id != id)
			continue;
		t->cell[i].id = ++g->id;
		t->cell[i].vague = true;
	}
}

/* Calls nothing and asserts nothing about first..last but that it lies in one window. */
static void range_of(const struct guest *g, unsigned k, uint64_t first, uint64_t last, size_t *from,
                     size_t *to)
{
	struct guest_cell *a = guest_cell(g, k, first), *b = guest_cell(g, k, last);

	assert_true(a && b);
	*from = (size_t)(a - g->table[k].cell);
	*to = (size_t)(b - g->table[k].cell);
	assert_true((last - first) >> g->table[k].unit_lg2 == *to - *from);
}

/* Cuts what sticks out of the range. */
static void cut_edges(struct guest *g, struct guest_table *t, size_t from, size_t to)
{
	if (from && t->cell[from].present && t->cell[from - 1].present &&
	    t->cell[from - 1].id == t->cell[from].id)
		cut_leaf(g, t, t->cell[from].id);
	if (to + 1 < t->cells && t->cell[to].present && t->cell[to + 1].present &&
	    t->cell[to + 1].id == t->cell[to].id)
		cut_leaf(g, t, t->cell[to].id);
}

int guest_map(struct guest *g, unsigned k, uint64_t first, uint64_t last, uint64_t out,
              uint32_t rights, uint32_t attr, unsigned lg2, bool replace)
{
	struct guest_table *t = &g->table[k];
	uint32_t mask = t->stage.rights ? t->stage.rights : SNEST_RIGHTS;
	bool taken = false;
	size_t from, to;
	int ret;

	range_of(g, k, first, last, &from, &to);
	for (size_t i = from; i <= to; i++)
		taken |= t->cell[i].present;
	attr |= ATTR;
	ret = snest_table_map(t->table, first, last, out, rights, attr,
	                      SNEST_TABLE_PAGE(lg2) | (replace ? SNEST_TABLE_REPLACE : 0));
	assert_int_equal(ret, taken && !replace ? -EEXIST : 0);
	/* AMD: what leads to the table says read and write only; execution goes with reading. */
	if (t->stage.format == SNEST_FORMAT_AMD_V1)
		mask = (mask & 3) | (mask & SNEST_READ ? SNEST_EXEC : 0);
	if (ret)
		return ret;
	cut_edges(g, t, from, to);
	for (size_t i = from; i <= to; i++) {
		uint64_t offset = (uint64_t)(i - from) << t->unit_lg2;

		if (!(offset & ones(lg2)))
			g->id++;
		t->cell[i] = (struct guest_cell){
			.present = true,
			.lg2 = (uint8_t)lg2,
			.id = g->id,
			.out = out + offset,
		};
		for (unsigned p = 0; p < 2; p++)
			t->cell[i].rights[p] =
				(uint8_t)(fact_granted(&t->stage, rights, attr, p) & mask);
	}
	return 0;
}

void guest_unmap(struct guest *g, unsigned k, uint64_t first, uint64_t last, bool whole)
{
	struct guest_table *t = &g->table[k];
	size_t from, to;

	range_of(g, k, first, last, &from, &to);
	for (size_t i = from; i <= to; i++)
		whole &= !t->cell[i].vague;
	assert_int_equal(
		snest_table_unmap(t->table, first, last, whole ? SNEST_TABLE_WHOLE : 0, NULL), 0);
	if (whole) {
		while (from && t->cell[from].present && t->cell[from - 1].present &&
		       t->cell[from - 1].id == t->cell[from].id)
			from--;
		while (to + 1 < t->cells && t->cell[to].present && t->cell[to + 1].present &&
		       t->cell[to + 1].id == t->cell[to].id)
			to++;
	}
	cut_edges(g, t, from, to);
	for (size_t i = from; i <= to; i++)
		memset(&t->cell[i], 0, sizeof(t->cell[i]));
}

/* A size of the window's, small ones more often. */
static unsigned some_size(struct guest *g, const struct guest_window *w)
{
	uint64_t sizes = w->sizes;

	while (sizes & (sizes - 1) && test_below(&g->random, 3))
		sizes &= ~(1ull << (63 - __builtin_clzll(sizes)));
	return 63 - (unsigned)__builtin_clzll(sizes);
}

static uint64_t some_output(struct guest *g, unsigned k, unsigned lg2)
{
	static const uint64_t place[] = {GUEST_DATA, GUEST_DATA, GUEST_DATA, GUEST_READONLY,
	                                 GUEST_HOLE};
	uint64_t at = place[k + 1 < g->stages ? 0 : test_below(&g->random, 5)];

	/* A few pages only, so that what was mapped comes back (and neighbours meet). */
	return at + ((test_below(&g->random, 64) << (lg2 < 20 ? lg2 : 17)) & 0x7fffff & ~ones(lg2));
}

static uint32_t some_rights(struct guest *g, const struct guest_table *t, uint32_t attr)
{
	uint32_t rights;

	do {
		rights = test_below(&g->random, 3) ? SNEST_READ | SNEST_WRITE
		                                   : 1 + (uint32_t)test_below(&g->random, 7);
		if (t->stage.format == SNEST_FORMAT_ARM_S1 &&
		    (t->stage.flags & SNEST_STAGE_ARM_WXN))
			rights &= ~SNEST_EXEC;
	} while (!rights || fact_refuses(&t->stage, rights, attr));
	return rights;
}

struct guest_change guest_step(struct guest *g)
{
	unsigned k = (unsigned)test_below(&g->random, g->stages);
	struct guest_table *t = &g->table[k];
	const struct guest_window *w = &t->window[test_below(&g->random, t->windows)];
	uint32_t attr = test_below(&g->random, 4) ? SNEST_ATTR_USER : 0;
	unsigned lg2 = some_size(g, w);
	uint64_t first = w->first + (test_random(&g->random) & (w->last - w->first) & ~ones(lg2));
	uint64_t room = (w->last - first) >> lg2;
	uint64_t pages = test_below(&g->random, room < STEP_PAGES ? room + 1 : STEP_PAGES);
	uint64_t last = first + (pages << lg2) + ones(lg2), out = some_output(g, k, lg2);
	struct guest_cell *cell = guest_cell(g, k, first);
	struct guest_change change = {k, first, last};

	switch (test_below(&g->random, 8)) {
	case 0:
	case 1:
	case 2:
		guest_map(g, k, first, last, out, some_rights(g, t, attr), attr, lg2,
		          test_below(&g->random, 2));
		break;
	case 3:
		/* The same place with other rights, or with leaves of another size. */
		if (!cell->present || (cell->out & ones(lg2)))
			break;
		guest_map(g, k, first, last, cell->out, some_rights(g, t, attr), attr, lg2, true);
		break;
	case 4:
		/* No translation changes. */
		assert_int_equal(snest_table_merge(t->table, w->first, w->last), 0);
		for (size_t i = 0; i <= (w->last - w->first) >> t->unit_lg2; i++)
			t->cell[w->at + i].vague = true;
		break;
	case 5:
		change.first = w->first;
		change.last = w->last;
		if (test_below(&g->random, 4) == 0)
			guest_unmap(g, k, w->first, w->last, true);
		break;
	default:
		guest_unmap(g, k, first, last, test_below(&g->random, 2));
	}
	return change;
}
