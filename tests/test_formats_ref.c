/* SPDX-License-Identifier: MIT */
/*
 * Every format against the reference walker (tests/ref), on tables that are
 * noise: a few pages full of plausible, odd and broken entries that point at
 * each other, walked from random and from chosen inputs with every kind of
 * access. What both return, which entries they read, and what they leave in
 * memory must be equal. A quarter of the memory is read-only, so that flags
 * sometimes cannot be updated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <snest/vm.h>
#include <snest/walk.h>
#include "ref/ref_walk.h"
#include "support/configs.h"
#include "walkers/pt.h"

#define ROUNDS 50
#define WALKS_PER_ROUND 2048
#define BIT(n) ((uint64_t)1 << (n))

struct world {
	const struct test_config *config;
	struct snest_stage stage;
	struct snest_vm *vm;
	uint64_t seed;
	uint64_t base, size; /* guest addresses of the memory; the last quarter is read-only */
	unsigned granule_lg2;
	unsigned char *ours, *theirs;               /* the same bytes, as each walker leaves them */
	unsigned outcomes[SNEST_FAULT_BLOCKED + 1]; /* by fault reason; 0: translated */
};

static uint64_t rnd(struct world *w)
{
	uint64_t x = w->seed += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* True n times out of 16. */
static bool often(struct world *w, unsigned n)
{
	return (rnd(w) & 15) < n;
}

/* ---- Noise ------------------------------------------------------------------ */

static uint64_t noise_addr(struct world *w)
{
	uint64_t addr;

	switch (rnd(w) & 15) {
	case 0:
		return rnd(w);
	case 1:
		return w->base + w->size;
	case 2:
	case 3:
		return w->base;
	default:
		addr = w->base + rnd(w) % w->size;
		return addr & ~(BIT(w->granule_lg2) - 1);
	}
}

static uint64_t noise_x86(struct world *w)
{
	uint64_t raw = (noise_addr(w) & 0x000ffffffffff000ull) | (rnd(w) & 0xf78);

	raw |= often(w, 15) ? BIT(0) : 0;
	raw |= often(w, 14) ? BIT(1) : 0;
	raw |= often(w, 14) ? BIT(2) : 0;
	raw |= often(w, 3) ? BIT(7) : 0;
	raw |= often(w, 2) ? BIT(63) : 0;
	return raw;
}

static uint64_t noise_vtd(struct world *w)
{
	uint64_t raw = (noise_addr(w) & 0x000ffffffffff000ull) | (rnd(w) & 0x77c);

	raw |= often(w, 14) ? BIT(0) : 0;
	raw |= often(w, 14) ? BIT(1) : 0;
	raw |= often(w, 3) ? BIT(7) : 0;
	raw |= often(w, 1) ? BIT(11) : 0;
	raw |= often(w, 1) ? BIT(62) : 0;
	return raw;
}

static uint64_t noise_amd(struct world *w)
{
	uint64_t addr = noise_addr(w) & 0x000ffffffffff000ull;
	uint64_t raw = rnd(w) & 0x1fe, next = rnd(w) & 7;

	if (often(w, 4))
		next = rnd(w) & 1;
	if (next == 7) {
		/* A size: ones up to somewhere. */
		unsigned n = 12 + rnd(w) % 41;

		addr = (addr | (BIT(n) - 1)) & ~BIT(n) & 0x000ffffffffff000ull;
	}
	raw |= addr | next << 9;
	raw |= often(w, 15) ? BIT(0) : 0;
	raw |= often(w, 14) ? BIT(61) : 0;
	raw |= often(w, 14) ? BIT(62) : 0;
	raw |= often(w, 2) ? BIT(63) : 0;
	if (next == 0 || next == 7)
		raw |= rnd(w) & (BIT(59) | BIT(60));
	return raw;
}

static uint64_t noise_arm(struct world *w)
{
	uint64_t addr = noise_addr(w);
	uint64_t raw = rnd(w) & 0xfff8000000000b3cull;

	raw |= addr & 0x0000fffffffff000ull;
	if (w->stage.flags & SNEST_STAGE_ARM_LPA)
		raw = (raw & ~0xf000ull) | (addr >> 36 & 0xf000);
	if (w->stage.flags & SNEST_STAGE_ARM_DS)
		raw = (raw & ~0x0003000000000300ull) | (addr & 0x0003000000000000ull) |
		      (addr >> 42 & 0x300);
	raw |= often(w, 13) ? BIT(0) : 0;
	raw |= often(w, 13) ? BIT(1) : 0;
	raw |= often(w, 12) ? BIT(6) : 0;
	raw |= often(w, 8) ? BIT(7) : 0;
	raw |= often(w, 11) ? BIT(10) : 0;
	/* So much denies execution that chance alone would never grant it. */
	if (often(w, 12))
		raw &= ~(BIT(53) | BIT(54) | BIT(59) | BIT(60) | BIT(61) | BIT(62));
	return raw;
}

static uint64_t noise_riscv(struct world *w)
{
	bool sv32 = w->stage.format == SNEST_FORMAT_RISCV32;
	uint64_t raw = noise_addr(w) >> 12 << 10 & (sv32 ? 0xfffffc00 : 0x003ffffffffffc00ull);

	raw |= often(w, 15) ? BIT(0) : 0;
	raw |= rnd(w) & 0x320;
	if (often(w, 6)) {
		raw |= often(w, 14) ? BIT(1) : 0;
		raw |= often(w, 12) ? BIT(2) : 0;
		raw |= often(w, 10) ? BIT(3) : 0;
		raw |= often(w, 11) ? BIT(4) : 0;
		raw |= often(w, 12) ? BIT(6) : 0;
		raw |= often(w, 12) ? BIT(7) : 0;
		if (!sv32 && often(w, 3))
			raw |= rnd(w) & 0xf800000000000000ull;
		if (!sv32 && often(w, 2))
			raw = (raw & ~0x3c00ull) | 0x2000 | BIT(63);
	}
	return raw;
}

static uint64_t noise(struct world *w)
{
	uint64_t raw;

	switch (w->stage.format) {
	case SNEST_FORMAT_VTD_SS:
		raw = noise_vtd(w);
		break;
	case SNEST_FORMAT_AMD_V1:
		raw = noise_amd(w);
		break;
	case SNEST_FORMAT_ARM_S1:
	case SNEST_FORMAT_ARM_S2:
		raw = noise_arm(w);
		break;
	case SNEST_FORMAT_RISCV32:
	case SNEST_FORMAT_RISCV64:
		raw = noise_riscv(w);
		break;
	default:
		raw = noise_x86(w);
		break;
	}
	if (often(w, 1))
		raw ^= BIT(rnd(w) & 63);
	if ((rnd(w) & 0xff) == 0)
		raw = rnd(w) & 1 ? UINT64_MAX : 0;
	return raw;
}

static void fill(struct world *w)
{
	bool big = w->stage.flags & SNEST_STAGE_BIG_ENDIAN;

	if (test_config_entry_lg2(&w->stage) == 3) {
		for (uint64_t *p = (uint64_t *)w->ours; p < (uint64_t *)(w->ours + w->size); p++)
			*p = big ? __builtin_bswap64(noise(w)) : noise(w);
	} else {
		for (uint32_t *p = (uint32_t *)w->ours; p < (uint32_t *)(w->ours + w->size); p++)
			*p = big ? __builtin_bswap32((uint32_t)noise(w)) : (uint32_t)noise(w);
	}
	memcpy(w->theirs, w->ours, w->size);
}

/* ---- The reference's memory ------------------------------------------------- */

static bool ref_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	struct world *w = opaque;

	if (addr - w->base >= w->size)
		return false;
	*value = 0;
	memcpy(value, w->theirs + (addr - w->base), bytes);
	return true;
}

static bool ref_write(void *opaque, uint64_t addr, unsigned bytes, uint64_t value)
{
	struct world *w = opaque;

	if (addr - w->base >= w->size / 4 * 3)
		return false;
	memcpy(w->theirs + (addr - w->base), &value, bytes);
	return true;
}

/* ---- One walk --------------------------------------------------------------- */

static uint64_t ones(unsigned n)
{
	return n >= 64 ? UINT64_MAX : BIT(n) - 1;
}

static uint64_t random_input(struct world *w)
{
	const struct snest_stage *s = &w->stage;
	uint64_t in = rnd(w), keep = 0;
	unsigned width = s->ia_bits, high = s->ia_bits_high;
	bool riscv = s->format == SNEST_FORMAT_RISCV32 || s->format == SNEST_FORMAT_RISCV64;
	bool x4 = riscv && (s->flags & SNEST_STAGE_RISCV_X4);

	if (often(w, 1))
		return in;
	/* Zero some index fields: entries near a table's start, and skipped levels. */
	if (often(w, 6)) {
		for (unsigned n = 0; n < 64; n += 9)
			keep |= (rnd(w) & 1 ? ones(9) : 0) << n;
		in &= keep | ones(14);
	}
	if (s->format == SNEST_FORMAT_RISCV32)
		width = x4 ? 34 : 32;
	else if (!width)
		width = 12 + 9 * s->levels + (x4 ? 2 : 0);
	if (often(w, 1))
		in = rnd(w) & 1 ? 0 : UINT64_MAX;
	in &= ones(width);
	switch (s->format) {
	case SNEST_FORMAT_ARM_S1:
		if (high && (rnd(w) & 1))
			in |= ~ones(high);
		if (often(w, 4))
			in ^= rnd(w) << 56;
		return in;
	case SNEST_FORMAT_X86_64:
	case SNEST_FORMAT_AMD_V2:
	case SNEST_FORMAT_RISCV64:
		if (!x4 && (in >> (width - 1) & 1))
			in |= ~ones(width);
		break;
	default:
		break;
	}
	if (often(w, 1))
		in ^= BIT(rnd(w) & 63);
	return in;
}

#define complain(w, input, access, r, ref)                                                       \
	fail_msg("%s (line %d), input 0x%llx access 0x%x:\n"                                     \
	         "  snest: outcome %u reason %u level %u at 0x%llx entry 0x%llx, out 0x%llx"     \
	         " lg2 %u rights %u attr 0x%x\n"                                                 \
	         "  ref:   ok %u reason %u level %u at 0x%llx entry 0x%llx, out 0x%llx"          \
	         " lg2 %u rights %u attr 0x%x",                                                  \
	         (w)->config->name, __LINE__, (unsigned long long)(input), access, (r)->outcome, \
	         (r)->fault.reason, (r)->fault.level, (unsigned long long)(r)->fault.entry_addr, \
	         (unsigned long long)(r)->fault.entry, (unsigned long long)(r)->stage[0].output, \
	         (r)->stage[0].lg2, (r)->stage[0].rights, (r)->stage[0].attr, (ref)->ok,         \
	         (ref)->reason, (ref)->level, (unsigned long long)(ref)->entry_addr,             \
	         (unsigned long long)(ref)->entry, (unsigned long long)(ref)->out, (ref)->lg2,   \
	         (ref)->rights, (ref)->attr)

static void walk_both(struct world *w, uint64_t input, uint32_t access, bool update)
{
	struct ref_memory memory = {ref_read, ref_write, w};
	struct snest_walk_step step[SN_LEVELS_MAX];
	size_t steps = SN_LEVELS_MAX;
	struct ref_result ref;
	struct snest_walk r;
	bool fault;

	assert_int_equal(snest_walk(w->vm, &w->stage, 1, input, access,
	                            update ? 0 : SNEST_WALK_NO_UPDATE, &r, step, &steps),
	                 0);
	ref_walk(&w->stage, &memory, input, access, update, &ref);

	fault = r.outcome == SNEST_WALK_FAULT;
	if (fault && r.fault.stage == 1) {
		/* The translation succeeded, and leads to memory that is read-only. */
		if (!ref.ok || r.fault.reason != SNEST_FAULT_WRITE || r.fault.input != ref.out ||
		    ref.out - w->base < w->size / 4 * 3 || ref.out - w->base >= w->size)
			complain(w, input, access, &r, &ref);
		fault = false;
	}
	w->outcomes[ref.reason]++;
	if (fault == ref.ok || steps != ref.steps)
		complain(w, input, access, &r, &ref);
	for (size_t i = 0; i < steps; i++) {
		if (step[i].entry_addr != ref.step[i].entry_addr ||
		    step[i].level != ref.step[i].level || step[i].stage ||
		    step[i].for_stage != SNEST_NO_STAGE)
			complain(w, input, access, &r, &ref);
	}
	if (fault) {
		if (r.fault.reason != ref.reason || r.fault.level != ref.level ||
		    r.fault.entry_addr != ref.entry_addr || r.fault.entry != ref.entry ||
		    r.fault.iova != input || r.fault.stage || r.fault.for_stage != SNEST_NO_STAGE)
			complain(w, input, access, &r, &ref);
		return;
	}
	if (r.stage[0].output != ref.out || r.stage[0].lg2 != ref.lg2 ||
	    r.stage[0].rights != ref.rights || r.stage[0].attr != ref.attr ||
	    r.stage[0].level != ref.level || r.stage[0].entry != ref.leaf ||
	    r.stage[0].entry_addr != ref.entry_addr || r.stage[0].input != input)
		complain(w, input, access, &r, &ref);
}

/* ---- One stage -------------------------------------------------------------- */

static void add_memory(struct world *w, uint64_t first, uint64_t last, uint32_t flags)
{
	struct snest_region region = {
		.size = sizeof(region),
		.first = w->base + first,
		.last = w->base + last,
		.host = 0x100000000 + first,
		.mapping = w->ours + first,
		.flags = flags,
	};

	assert_int_equal(snest_memory_add(w->vm, &region), 0);
}

static void begin(struct world *w, const struct test_config *config)
{
	memset(w, 0, sizeof(*w));
	w->config = config;
	w->stage = config->stage;
	w->seed = (uint64_t)(config - test_configs) << 32;
	w->granule_lg2 = test_config_granule_lg2(&w->stage, 0);
	if (w->stage.ia_bits_high && w->stage.granule_high_lg2 > w->granule_lg2)
		w->granule_lg2 = w->stage.granule_high_lg2;
	w->size = w->granule_lg2 == 16 ? 0x40000 : w->granule_lg2 == 14 ? 0x20000 : 0x10000;
	/* At the top, so that every bit of an address matters. */
	w->base = BIT(test_config_output_bits(&w->stage) - 1);
	w->ours = aligned_alloc(4096, w->size);
	w->theirs = malloc(w->size);
	assert_non_null(w->ours);
	assert_non_null(w->theirs);
	assert_int_equal(snest_vm_create(NULL, &w->vm), 0);
	add_memory(w, 0, w->size / 4 * 3 - 1, 0);
	add_memory(w, w->size / 4 * 3, w->size - 1, SNEST_REGION_READONLY);
}

static void finish(struct world *w)
{
	snest_vm_destroy(w->vm);
	free(w->theirs);
	free(w->ours);
}

/* Noise that never gets anywhere would prove nothing. */
static void check_variety(const struct world *w)
{
	unsigned kinds = 0;

	for (size_t i = 0; i < sizeof(w->outcomes) / sizeof(w->outcomes[0]); i++)
		kinds += w->outcomes[i] >= 50;
	if (kinds < 6 || w->outcomes[SNEST_FAULT_NONE] < ROUNDS * WALKS_PER_ROUND / 100)
		fail_msg("%s: %u walks of %u succeeded, %u kinds of outcome", w->config->name,
		         w->outcomes[SNEST_FAULT_NONE], ROUNDS * WALKS_PER_ROUND, kinds);
}

static void run_format(unsigned first, unsigned last)
{
	for (size_t i = 0; i < test_configs_count; i++) {
		struct world w;

		if (test_configs[i].stage.format < first || test_configs[i].stage.format > last)
			continue;
		begin(&w, &test_configs[i]);
		for (unsigned round = 0; round < ROUNDS; round++) {
			fill(&w);
			/* Anywhere: what lies below the table's alignment is ignored. */
			w.stage.root = w.base + rnd(&w) % w.size;
			if (w.stage.ia_bits_high)
				w.stage.root_high = w.base + rnd(&w) % w.size;
			for (unsigned n = 0; n < WALKS_PER_ROUND; n++) {
				uint64_t input = random_input(&w);
				uint32_t access = rnd(&w) & (SNEST_RIGHTS | SNEST_PRIVILEGED);

				walk_both(&w, input, access, round & 1);
				if (n % 256 == 0 && memcmp(w.ours, w.theirs, w.size))
					fail_msg("%s: memory differs", w.config->name);
			}
			if (memcmp(w.ours, w.theirs, w.size))
				fail_msg("%s: memory differs", w.config->name);
		}
		check_variety(&w);
		finish(&w);
	}
}

static void x86_64(void **state)
{
	(void)state;
	run_format(SNEST_FORMAT_X86_64, SNEST_FORMAT_X86_64);
}

static void vtd_second_stage(void **state)
{
	(void)state;
	run_format(SNEST_FORMAT_VTD_SS, SNEST_FORMAT_VTD_SS);
}

static void amd(void **state)
{
	(void)state;
	run_format(SNEST_FORMAT_AMD_V1, SNEST_FORMAT_AMD_V2);
}

static void arm_stage_1(void **state)
{
	(void)state;
	run_format(SNEST_FORMAT_ARM_S1, SNEST_FORMAT_ARM_S1);
}

static void arm_stage_2(void **state)
{
	(void)state;
	run_format(SNEST_FORMAT_ARM_S2, SNEST_FORMAT_ARM_S2);
}

static void riscv(void **state)
{
	(void)state;
	run_format(SNEST_FORMAT_RISCV32, SNEST_FORMAT_RISCV64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(x86_64),      cmocka_unit_test(vtd_second_stage),
		cmocka_unit_test(amd),         cmocka_unit_test(arm_stage_1),
		cmocka_unit_test(arm_stage_2), cmocka_unit_test(riscv),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
