/* SPDX-License-Identifier: MIT */
/*
 * One to four stages of mixed formats over arbitrary memory, against a naive
 * composition: the reference walker, whose table reads go through the reference
 * walker of the stage behind.
 *
 * Input: a header of 48 bytes (the number of stages, for each its configuration
 * and root, IOVA and access), then memory as records. Properties: the two give
 * the same translation or refuse both; the size is the smallest and the rights
 * are the intersection; what is read is in the memory map and bounded; an
 * enumeration around the IOVA says the same.
 */
#include <errno.h>
#include <snest/table.h>
#include "core/vm.h"
#include "records.h"
#include "support/configs.h"
#include "walkers/pt.h"

#define STAGES_MAX 4
#define HIGH (1ull << 31)
/* The deepest formats, four stages behind each other: 7^4 entries. */
#define READS_MAX 4096
#define RANGE_BUDGET 300
#define COPY_BYTES 16
#define FLAG_COPY 0x1
#define FLAG_WRITE 0x2

enum {
	H_COUNT = 0,
	H_ACCESS = 1,
	H_FLAGS = 2,
	H_IOVA = 8,
	H_STAGE = 16,
	H_STAGE_BYTES = 8,
	H_BYTES = 48
};

static struct fuzz_image image;

/* ---- The naive composition ------------------------------------------------------ */

struct composition {
	const struct snest_stage *stage;
	unsigned count;
};

struct behind {
	const struct composition *all;
	unsigned k;
};

static bool read_behind(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	const struct behind *from = opaque;
	struct behind next = {from->all, from->k + 1};
	struct ref_memory memory = {.read = read_behind, .opaque = &next};
	struct ref_result r;

	if (from->k == from->all->count) {
		memory = fuzz_ref_memory;
		return memory.read(&image, addr, bytes, value);
	}
	ref_walk(&from->all->stage[from->k], &memory, addr, SNEST_READ, false, &r);
	return r.ok && read_behind(&next, r.out, bytes, value);
}

struct answer {
	bool ok;
	uint64_t gpa;
	unsigned lg2;
	uint32_t rights;
};

static void compose(const struct composition *all, uint64_t iova, uint32_t access,
                    struct answer *answer)
{
	uint64_t offset;

	*answer = (struct answer){.gpa = iova, .lg2 = 64, .rights = SNEST_RIGHTS};
	for (unsigned k = 0; k < all->count; k++) {
		struct behind next = {all, k + 1};
		struct ref_memory memory = {.read = read_behind, .opaque = &next};
		struct ref_result r;

		ref_walk(&all->stage[k], &memory, answer->gpa, access, false, &r);
		if (!r.ok)
			return;
		answer->gpa = r.out;
		answer->rights &= r.rights;
		answer->lg2 = r.lg2 < answer->lg2 ? r.lg2 : answer->lg2;
	}
	if (fuzz_image_offset(&image, answer->gpa, &offset) && offset >= IMAGE_WRITABLE) {
		answer->rights &= ~SNEST_WRITE;
		if (access & SNEST_WRITE)
			return;
	}
	answer->ok = true;
}

/* ---- One input ---------------------------------------------------------------- */

struct seen {
	uint64_t iova;
	bool found;
	struct snest_run run;
};

static int visit(void *opaque, const struct snest_run *run)
{
	struct seen *seen = opaque;

	if (run->first <= seen->iova && seen->iova <= run->last) {
		seen->found = true;
		seen->run = *run;
	}
	return 0;
}

static void check_range(const struct composition *all, uint64_t iova)
{
	struct snest_walk_range range = {
		.size = sizeof(range),
		.first = iova & ~0xfffull,
		.last = iova | 0xfff,
		.budget = RANGE_BUDGET,
	};
	struct seen seen = {.iova = iova};
	struct answer answer;
	int ret = snest_walk_range(image.direct, all->stage, all->count, &range, visit, &seen);

	fuzz_check(!ret || ret == -EAGAIN, "snest_walk_range: %d", ret);
	for (unsigned k = 0; k < all->count; k++) {
		/* A top byte that is ignored is not enumerated. */
		if (all->stage[k].format == SNEST_FORMAT_ARM_S1)
			return;
	}
	if (ret)
		return;
	compose(all, iova, 0, &answer);
	fuzz_check(seen.found == (answer.ok && answer.rights), "0x%llx is %s the enumeration",
	           (unsigned long long)iova, seen.found ? "only in" : "not in");
	if (seen.found)
		fuzz_check(seen.run.rights == answer.rights, "rights %u, enumerated %u",
		           answer.rights, seen.run.rights);
}

/*
 * What the last stage says of an address that is copied: page[0] asked now,
 * page[1] as a part of the page that the copy came through. They differ where
 * entries that should be equal are one page (AMD v1, NAPOT) and are not: then
 * hardware may use either.
 */
struct copied {
	uint64_t addr, first; /* of page[1] */
	struct answer page[2];
};

static void copy_at(const struct composition *last, struct copied *c, uint64_t addr,
                    uint32_t access)
{
	compose(last, addr, access, &c->page[0]);
	c->addr = addr;
	if (!c->page[1].ok ||
	    (addr & ~sn_mask(c->page[1].lg2)) != (c->first & ~sn_mask(c->page[1].lg2))) {
		c->page[1] = c->page[0];
		c->first = addr;
	}
}

/* The byte of the n-th. It may have been before what a flag that was set made of it. */
static bool copy_is(const struct copied *c, unsigned n, uint8_t byte)
{
	uint64_t gpa = c->page[n].gpa + (n ? c->addr - c->first : 0), offset = 0;

	return c->page[n].ok && fuzz_image_offset(&image, gpa, &offset) &&
	       (byte == ((uint8_t *)fuzz_words)[offset] ||
	        byte == ((uint8_t *)fuzz_ref_words)[offset]);
}

/* Guest memory through the last stage, as if that were the host's. */
static void check_copy(const struct composition *all, uint64_t addr, bool write)
{
	struct composition last = {all->stage + all->count - 1, 1};
	uint8_t bytes[COPY_BYTES] = {0};
	struct copied reads = {.page[1].ok = false}, writes = reads;
	int ret;

	image.direct->host_stage = *last.stage;
	ret = snest_guest_read(image.direct, addr, bytes, sizeof(bytes));
	fuzz_check(!ret || ret == -EFAULT, "snest_guest_read: %d", ret);
	for (unsigned i = 0; i < sizeof(bytes) && !ret; i++) {
		copy_at(&last, &reads, addr + i, SNEST_READ);
		fuzz_check(copy_is(&reads, 0, bytes[i]) || copy_is(&reads, 1, bytes[i]),
		           "0x%llx: another byte", (unsigned long long)addr + i);
	}
	/* The same again: what it leads to stays. */
	if (!ret && write && !snest_guest_write(image.direct, addr, bytes, sizeof(bytes))) {
		for (unsigned i = 0; i < sizeof(bytes); i++) {
			copy_at(&last, &writes, addr + i, SNEST_WRITE);
			fuzz_check(writes.page[0].ok || writes.page[1].ok, "0x%llx is written",
			           (unsigned long long)addr + i);
		}
	}
	image.direct->host_stage.format = SNEST_FORMAT_NONE;
}

static const struct test_config *config_of(unsigned n)
{
	return &test_configs[n % test_configs_count];
}

static unsigned take_stages(const uint8_t *header, struct snest_stage *stage)
{
	unsigned count = 1 + header[H_COUNT] % STAGES_MAX, n = 0;

	for (unsigned k = 0; k < count; k++) {
		const uint8_t *at = header + H_STAGE + k * H_STAGE_BYTES;
		const struct test_config *config = config_of(at[0]);

		/* The mock format has no reference. */
		if (config->stage.format >= SNEST_FORMAT_COUNT)
			config = &test_configs[0];
		stage[n] = config->stage;
		stage[n].root = (fuzz_get(at + 1, 3) << 2) + (at[7] & 1 ? HIGH : 0);
		if (stage[n].ia_bits_high)
			stage[n].root_high = fuzz_get(at + 4, 3) << 2;
		n++;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snest_stage stage[STAGES_MAX];
	struct composition all = {.stage = stage};
	uint8_t header[H_BYTES] = {0};
	struct answer answer;
	struct snest_walk r;
	uint32_t access;
	uint64_t iova;
	int ret;

	if (!image.direct)
		fuzz_image_create(&image, HIGH);
	memcpy(header, data, size < H_BYTES ? size : H_BYTES);
	all.count = take_stages(header, stage);
	fuzz_image_load(data + (size < H_BYTES ? size : H_BYTES),
	                size < H_BYTES ? 0 : size - H_BYTES);
	iova = fuzz_get(header + H_IOVA, 8);
	access = header[H_ACCESS] & (SNEST_RIGHTS | SNEST_PRIVILEGED);

	image.reads = 0;
	ret = snest_walk(image.counted, stage, all.count, iova, access, SNEST_WALK_NO_UPDATE, &r,
	                 NULL, NULL);
	fuzz_check(!ret, "snest_walk: %d", ret);
	fuzz_check(image.reads <= READS_MAX, "%llu reads", (unsigned long long)image.reads);
	compose(&all, iova, access, &answer);
	fuzz_check(answer.ok == (r.outcome != SNEST_WALK_FAULT),
	           "%u stages, 0x%llx access %u: outcome %u, reason %u of stage %u (for %u)",
	           all.count, (unsigned long long)iova, access, r.outcome, r.fault.reason,
	           r.fault.stage, r.fault.for_stage);
	if (answer.ok) {
		fuzz_check(r.gpa == answer.gpa && r.rights == answer.rights,
		           "gpa 0x%llx 0x%llx, rights %u %u", (unsigned long long)r.gpa,
		           (unsigned long long)answer.gpa, r.rights, answer.rights);
		fuzz_check(r.lg2 <= answer.lg2, "lg2 %u, %u", r.lg2, answer.lg2);
	}
	check_range(&all, iova);
	if (header[H_FLAGS] & FLAG_COPY)
		check_copy(&all, iova, header[H_FLAGS] & FLAG_WRITE);
	/* With updates: no reference, only what must hold always. */
	ret = snest_walk(image.direct, stage, all.count, iova, access, 0, &r, NULL, NULL);
	fuzz_check(!ret, "snest_walk: %d", ret);
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

static uint64_t page_cut;
static _Alignas(65536) char scratch[IMAGE_BYTES];

static void *page_alloc(void *opaque, unsigned lg2)
{
	uint64_t bytes = 1ull << lg2, at = (page_cut + bytes - 1) & ~(bytes - 1);

	(void)opaque;
	if (at + bytes > IMAGE_WRITABLE)
		return NULL;
	page_cut = at + bytes;
	return scratch + at;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque;
	(void)page;
	(void)lg2;
}

/*
 * Tables that map low addresses to themselves, so that every stage finds the
 * tables of the one before it, and the first stage maps one page somewhere.
 */
static size_t plant(uint8_t *data, size_t max_size, struct fuzz_random *r)
{
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.delta = 0 - (uint64_t)(uintptr_t)scratch,
	};
	uint32_t attr = SNEST_ATTR_USER | SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY;
	struct snest_table *tables[STAGES_MAX] = {NULL};
	unsigned count = 1 + (unsigned)fuzz_below(r, STAGES_MAX);
	size_t size = H_BYTES;

	if (!image.direct)
		fuzz_image_create(&image, HIGH);
	memset(data, 0, H_BYTES);
	memset(scratch, 0, sizeof(scratch));
	page_cut = 4096;
	data[H_COUNT] = (uint8_t)(count - 1);
	data[H_ACCESS] = (uint8_t)fuzz_below(r, 16);
	data[H_FLAGS] = (uint8_t)fuzz_below(r, 4);
	fuzz_put(data + H_IOVA, 8, fuzz_below(r, 0x10000));
	for (unsigned k = 0; k < count; k++) {
		uint8_t *at = data + H_STAGE + k * H_STAGE_BYTES;

		at[0] = (uint8_t)fuzz_below(r, test_configs_count);
		if (config_of(at[0])->stage.format >= SNEST_FORMAT_COUNT)
			at[0] = 0;
		if (snest_table_create(image.direct, &config_of(at[0])->stage, &memory, &tables[k]))
			break;
		if (snest_table_map(tables[k], 0, IMAGE_BYTES - 1, 0, SNEST_RIGHTS, attr,
		                    SNEST_TABLE_PAGE(fuzz_below(r, 2) ? 16 : 0)) &&
		    snest_table_map(tables[k], 0, IMAGE_BYTES - 1, 0, SNEST_READ | SNEST_WRITE,
		                    attr, 0))
			snest_table_map(tables[k], 0, IMAGE_BYTES - 1, 0, SNEST_READ, attr, 0);
		fuzz_put(at + 1, 3, snest_table_stage(tables[k])->root >> 2);
		fuzz_put(at + 4, 3, snest_table_stage(tables[k])->root_high >> 2);
	}
	for (size_t i = 0; i < page_cut / 8; i++) {
		uint64_t word;

		memcpy(&word, scratch + i * 8, 8);
		if (word)
			size = fuzz_record_add(data, size, max_size, i, word);
	}
	for (unsigned k = 0; k < count; k++)
		snest_table_destroy(tables[k]);
	return size;
}

static uint64_t point(uint64_t word, uint64_t addr)
{
	return (word & ~0x000ffffffffff000ull) | (addr & 0x000ffffffffff000ull);
}

static const struct fuzz_shape shape = {.header = H_BYTES, .point = point, .plant = plant};

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

	return n < 40 ? plant(data, max_size < 6144 ? max_size : 6144, &r) : 0;
}
