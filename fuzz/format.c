/* SPDX-License-Identifier: MIT */
/*
 * One page-table format: walk and walk_range over arbitrary memory, against the
 * reference walker. Compiled once per format (FUZZ_FORMAT).
 *
 * Input: a header of 64 bytes that chooses the stage, its roots and what is
 * asked, then memory as records. Properties: both walkers give the same
 * translation or the same fault, read the same entries in the same order and
 * leave the same bytes; each entry is read once and within the memory map; a
 * walk reads at most one entry a level, an enumeration what its budget allows;
 * every run of the enumeration is what walks say, and the reverse.
 */
#include <errno.h>
#include "plant.h"
#include "records.h"
#include "support/configs.h"
#include "walkers/pt.h"

#ifndef FUZZ_FORMAT
#error "FUZZ_FORMAT chooses the format"
#endif

#define CONFIGS_MAX 32
#define QUERIES 4
#define RUNS_MAX 64
/* Entries that an enumeration may read: the smallest budget there is, and a larger one. */
#define BUDGET 256
#define BUDGET_LONG 1200
/* What one stage needs to get further: an entry of each level, and the next one. */
#define RANGE_PATH (SN_LEVELS_MAX + 1)
/* Pages of an enumeration, unless it is a long one: most of the time is spent here. */
#define PAGES 16

/* Offsets in the header. */
enum {
	H_CONFIG = 0,
	H_FLAGS = 1,
	H_ROOT = 2,
	H_ROOT_HIGH = 4,
	H_PAGES = 6,
	H_BUDGET = 44, /* 0: the usual one */
	H_ACCESS = 8,
	H_IOVA = 12,
	H_BYTES = 64
};

#define FLAG_HIGH 0x1 /* root at the high address */
#define FLAG_PRIVILEGED 0x2
#define FLAG_COUNTED 0x4 /* a short enumeration once more, through accessors */
#define FLAG_SWAP 0x8    /* flags are set through an accessor, the second time it is asked */
#define FLAG_LONG 0xf0   /* all of them: an enumeration of any length */

struct world {
	const struct test_config *config;
	struct fuzz_image image;
	bool ready;
	bool swap; /* updates go through the accessors */
};

static struct world worlds[CONFIGS_MAX];

static unsigned configs(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < test_configs_count && n < CONFIGS_MAX; i++) {
		if (test_configs[i].stage.format == FUZZ_FORMAT)
			worlds[n++].config = &test_configs[i];
	}
	return n;
}

static struct world *world_of(unsigned n)
{
	static unsigned count;
	struct world *w;

	if (!count)
		count = configs();
	w = &worlds[n % count];
	if (!w->ready) {
		unsigned bits = test_config_output_bits(&w->config->stage);

		fuzz_image_create(&w->image, 1ull << (bits - 1));
		w->ready = true;
	}
	return w;
}

/* ---- Walks ------------------------------------------------------------------ */

#define same(a, b, what)                                                                       \
	fuzz_check((a) == (b), "%s, IOVA 0x%llx access %u: " what " 0x%llx, reference 0x%llx", \
	           w->config->name, (unsigned long long)iova, access, (unsigned long long)(a), \
	           (unsigned long long)(b))

static void compare(const struct world *w, uint64_t iova, uint32_t access,
                    const struct snest_walk *r, const struct ref_result *ref, bool update)
{
	uint64_t offset;

	if (r->outcome == SNEST_WALK_FAULT && r->fault.stage == 1) {
		/* Translated, to memory that is read-only. */
		fuzz_check(ref->ok && fuzz_image_offset(&w->image, ref->out, &offset) &&
		                   offset >= IMAGE_WRITABLE && (access & SNEST_WRITE) &&
		                   r->fault.reason == SNEST_FAULT_WRITE,
		           "%s: the memory map refuses", w->config->name);
	} else if (r->outcome == SNEST_WALK_FAULT) {
		same(r->fault.reason, ref->reason, "reason");
		same(r->fault.level, ref->level, "level");
		same(r->fault.entry_addr, ref->entry_addr, "entry address");
		same(r->fault.entry, ref->entry, "entry");
		same(r->fault.iova, iova, "iova");
		return;
	}
	same(true, ref->ok, "translated");
	same(r->stage[0].output, ref->out, "output");
	same(r->stage[0].lg2, ref->lg2, "lg2");
	same(r->stage[0].rights, ref->rights, "rights");
	same(r->stage[0].level, ref->level, "level");
	same(r->stage[0].entry_addr, ref->entry_addr, "entry address");
	same(r->stage[0].attr, ref->attr, "attributes");
	same(r->stage[0].entry, update ? ref->leaf : r->stage[0].entry, "leaf");
	if (r->outcome == SNEST_WALK_HOST) {
		bool inside = fuzz_image_offset(&w->image, ref->out, &offset);

		same(true, inside, "host memory");
		same(r->host, (ref->out < IMAGE_BYTES ? IMAGE_HOST_LOW : IMAGE_HOST_HIGH) + offset,
		     "host");
	} else if (r->outcome == SNEST_WALK_GPA) {
		same(false, fuzz_image_offset(&w->image, ref->out, &offset), "host memory");
		same(r->gpa, ref->out, "gpa");
	}
}

static void ask(struct world *w, const struct snest_stage *stage, uint64_t iova, uint32_t access,
                bool update)
{
	struct snest_walk_step step[SN_LEVELS_MAX];
	size_t steps = SN_LEVELS_MAX;
	struct ref_memory memory = fuzz_ref_memory;
	struct ref_result ref;
	struct snest_walk r;
	int ret;

	memory.opaque = &w->image;
	w->image.reads = 0;
	w->image.busy = 1;
	ret = snest_walk(update && !w->swap ? w->image.direct : w->image.counted, stage, 1, iova,
	                 access, update ? 0 : SNEST_WALK_NO_UPDATE, &r, step, &steps);
	fuzz_check(!ret, "snest_walk: %d", ret);
	ref_walk(stage, &memory, iova, access, update, &ref);
	same(steps, ref.steps, "entries");
	for (size_t i = 0; i < steps; i++) {
		same(step[i].entry_addr, ref.step[i].entry_addr, "step address");
		same(step[i].level, ref.step[i].level, "step level");
	}
	if (!update)
		same(w->image.reads, steps, "reads");
	compare(w, iova, access, &r, &ref, update);
}

/* ---- Enumeration -------------------------------------------------------------- */

struct runs {
	unsigned count;
	struct snest_run at[RUNS_MAX];
};

static int collect(void *opaque, const struct snest_run *run)
{
	struct runs *runs = opaque;
	const struct snest_run *before = runs->count ? &runs->at[runs->count - 1] : NULL;

	fuzz_check(run->first <= run->last && run->rights, "an empty run");
	if (before) {
		fuzz_check(before->last < run->first, "runs are not in order");
		fuzz_check(before->last + 1 != run->first || before->outcome != run->outcome ||
		                   before->rights != run->rights ||
		                   before->addr + (run->first - before->first) != run->addr,
		           "runs are not maximal");
	}
	if (runs->count == RUNS_MAX)
		return 1;
	runs->at[runs->count++] = *run;
	return 0;
}

static void look(struct world *w, const struct snest_stage *stage, uint64_t iova,
                 uint32_t privilege, struct snest_walk *r)
{
	int ret = snest_walk(w->image.direct, stage, 1, iova, privilege, SNEST_WALK_NO_UPDATE, r,
	                     NULL, NULL);

	fuzz_check(!ret, "snest_walk: %d", ret);
}

static void check_run_at(struct world *w, const struct snest_stage *stage, uint64_t iova,
                         uint32_t privilege, const struct snest_run *run)
{
	struct snest_walk r;

	look(w, stage, iova, privilege, &r);
	fuzz_check(r.outcome == run->outcome && r.rights == run->rights &&
	                   (r.outcome == SNEST_WALK_HOST ? r.host : r.gpa) ==
	                           run->addr + (iova - run->first),
	           "%s: run and walk differ at 0x%llx: outcome %u %u, rights %u %u",
	           w->config->name, (unsigned long long)iova, r.outcome, run->outcome, r.rights,
	           run->rights);
	fuzz_check(r.lg2 <= run->lg2 || r.lg2 <= 12, "a walk finds a larger leaf than its run");
}

static void enumerate_counted(struct world *w, const struct snest_stage *stage,
                              struct snest_walk_range *range, int ended, const struct runs *direct)
{
	uint64_t budget = range->budget;
	static struct runs runs;
	int ret;

	runs.count = 0;
	range->entries = 0;
	w->image.reads = 0;
	ret = snest_walk_range(w->image.counted, stage, 1, range, collect, &runs);
	fuzz_check(ret == ended, "ends with %d, through accessors with %d", ended, ret);
	fuzz_check(w->image.reads <= budget, "%llu reads", (unsigned long long)w->image.reads);
	fuzz_check(runs.count == direct->count, "%u runs, %u through accessors", direct->count,
	           runs.count);
}

static void enumerate(struct world *w, const struct snest_stage *stage, uint64_t first,
                      uint64_t pages, unsigned flags, unsigned small, const uint8_t *iovas)
{
	bool is_long = (flags & FLAG_LONG) == FLAG_LONG;
	uint32_t privilege = flags & FLAG_PRIVILEGED ? SNEST_PRIVILEGED : 0;
	uint64_t budget = small ? small : is_long ? BUDGET_LONG : BUDGET;
	struct snest_walk_range range = {
		.size = sizeof(range),
		.first = first,
		.last = first + ((is_long ? pages : pages % PAGES) << 12 | 0xfff),
		.access = privilege,
		.budget = budget,
	};
	bool ignores_top = stage->flags & (SNEST_STAGE_ARM_TBI0 | SNEST_STAGE_ARM_TBI1) &&
	                   stage->format == SNEST_FORMAT_ARM_S1;
	static struct runs runs;
	struct snest_walk_range again;
	int ret;

	if (range.last < first || (is_long && pages == 0xffff))
		range.last = UINT64_MAX;
	again = range;
	runs.count = 0;
	ret = snest_walk_range(w->image.direct, stage, 1, &range, collect, &runs);
	fuzz_check(ret == 0 || ret == -EAGAIN || ret == 1 ||
	                   (ret == -ENOSPC && small && small < RANGE_PATH && !runs.count),
	           "snest_walk_range: %d", ret);
	fuzz_check(range.budget == budget && range.entries <= budget, "%llu entries of %llu",
	           (unsigned long long)range.entries, (unsigned long long)budget);
	fuzz_check(range.first > first || ret != -EAGAIN, "no progress");
	if ((flags & FLAG_COUNTED) && !is_long)
		enumerate_counted(w, stage, &again, ret, &runs);
	for (unsigned i = 0; i < runs.count; i++) {
		const struct snest_run *run = &runs.at[i];

		fuzz_check(run->first >= first && run->last <= range.last,
		           "a run outside the range");
		check_run_at(w, stage, run->first, privilege, run);
		if (run->last - run->first > 0xfff)
			check_run_at(w, stage, run->last, privilege, run);
	}
	if (ret == 1 || ignores_top)
		return;
	for (unsigned i = 0; i < QUERIES; i++) {
		uint64_t iova = fuzz_get(iovas + i * 8, 8);
		struct snest_walk r;
		bool found = false;

		if (iova < first || iova > (ret ? range.first - 1 : range.last) || ret == -ENOSPC)
			continue;
		look(w, stage, iova, privilege, &r);
		for (unsigned j = 0; j < runs.count; j++)
			found |= runs.at[j].first <= iova && iova <= runs.at[j].last;
		fuzz_check(found == (r.outcome != SNEST_WALK_FAULT && r.rights),
		           "%s: 0x%llx is %s the enumeration", w->config->name,
		           (unsigned long long)iova, found ? "only in" : "not in");
	}
}

/* ---- One input ---------------------------------------------------------------- */

static void place_root(const struct world *w, const uint8_t *header, struct snest_stage *stage)
{
	uint64_t base = header[H_FLAGS] & FLAG_HIGH ? w->image.high : 0;

	stage->root = base + (fuzz_get(header + H_ROOT, 2) << 2);
	if (stage->ia_bits_high)
		stage->root_high = base + (fuzz_get(header + H_ROOT_HIGH, 2) << 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t header[H_BYTES] = {0};
	struct snest_stage stage;
	struct world *w;

	memcpy(header, data, size < H_BYTES ? size : H_BYTES);
	w = world_of(header[H_CONFIG]);
	stage = w->config->stage;
	place_root(w, header, &stage);
	w->swap = (header[H_FLAGS] & FLAG_SWAP) && test_config_entry_lg2(&stage) == 3;
	fuzz_image_load(data + (size < H_BYTES ? size : H_BYTES),
	                size < H_BYTES ? 0 : size - H_BYTES);

	enumerate(w, &stage, fuzz_get(header + H_IOVA, 8) & ~0xfffull,
	          fuzz_get(header + H_PAGES, 2), header[H_FLAGS], header[H_BUDGET],
	          header + H_IOVA);
	for (unsigned i = 0; i < QUERIES; i++) {
		uint64_t iova = fuzz_get(header + H_IOVA + i * 8, 8);
		uint32_t access = header[H_ACCESS + i] & (SNEST_RIGHTS | SNEST_PRIVILEGED);

		ask(w, &stage, iova, access, false);
		ask(w, &stage, iova, access, true);
	}
	fuzz_check(fuzz_image_same(), "%s: the walkers leave different memory", w->config->name);
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

static size_t plant(uint8_t *data, size_t max_size, struct fuzz_random *r)
{
	struct world *w = world_of((unsigned)fuzz_below(r, 256));
	struct fuzz_planted planted;
	size_t size;

	memset(data, 0, H_BYTES);
	data[H_CONFIG] = (uint8_t)(w - worlds);
	data[H_FLAGS] = (uint8_t)fuzz_below(r, 16);
	size = fuzz_plant(w->image.direct, &w->config->stage,
	                  data[H_FLAGS] & FLAG_HIGH ? w->image.high : 0, r, data + H_BYTES,
	                  max_size - H_BYTES, &planted);
	fuzz_put(data + H_ROOT, 2, (planted.root & (IMAGE_BYTES - 1)) >> 2);
	fuzz_put(data + H_ROOT_HIGH, 2, (planted.root_high & (IMAGE_BYTES - 1)) >> 2);
	fuzz_put(data + H_PAGES, 2, fuzz_random(r));
	fuzz_put(data + H_ACCESS, 4, fuzz_random(r));
	for (unsigned i = 0; i < QUERIES && i < planted.count; i++) {
		uint64_t length = planted.range[i].last - planted.range[i].first + 1;

		fuzz_put(data + H_IOVA + i * 8, 8, planted.range[i].first + fuzz_below(r, length));
	}
	return H_BYTES + size;
}

static const struct fuzz_shape shape = {
	.header = H_BYTES,
	.point = FUZZ_FORMAT == SNEST_FORMAT_RISCV32 || FUZZ_FORMAT == SNEST_FORMAT_RISCV64
                         ? fuzz_point_riscv
                         : fuzz_point,
	.plant = plant,
};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	return fuzz_records_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_records_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	struct fuzz_random r = {n};

	/* Small ones: what one input needs to reach, another may add. */
	return n < 24 ? plant(data, max_size < 4096 ? max_size : 4096, &r) : 0;
}
