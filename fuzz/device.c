/* SPDX-License-Identifier: MIT */
/*
 * The device and context structures of one IOMMU over arbitrary memory.
 * Compiled once per IOMMU (FUZZ_IOMMU).
 *
 * Input: a header of 128 bytes, then memory as records (image.h). The header
 * bends the registers of a capable unit, bit by bit, and says what is asked.
 * Properties: a context is blocked, a fault with a known code, or stages that
 * snest_stage_check accepts; what is read is bounded and in the memory map; the
 * direct and the counting memory give the same context and the same
 * translation; a fault has a code where the unit would report one.
 */
#include <errno.h>
#include <snest/device.h>
#include "records.h"

#define WORDS 16
#define H_BYTES (WORDS * 8)
#define HIGH (1ull << 46)
/* Words of the header behind the registers. */
enum {
	W_REQUEST = 12,
	W_KIND = 13,
	W_IOVA = 14
};

/*
 * Structures of three levels, each of up to 8 words, read twice or more, each
 * word behind a second stage; then a walk of two stages.
 */
#define READS_MAX 2000

static struct fuzz_image image;

union registers {
	struct snest_vtd_registers vtd;
	struct snest_amd_registers amd;
	struct snest_smmu_registers smmu;
	struct snest_riscv_registers riscv;
};

/* A unit with all features, its first table at 4 KiB; the header's bits are flipped. */
static void make_registers(union registers *reg, const uint64_t *w)
{
	memset(reg, 0, sizeof(*reg));
	switch (FUZZ_IOMMU) {
	case SNEST_IOMMU_VTD:
		reg->vtd = (struct snest_vtd_registers){
			.size = sizeof(reg->vtd),
			.haw = 48 ^ ((uint32_t)w[3] & 0xff),
			.rtaddr = 0x1000 ^ w[0],
			.cap = 0x1100000c002f0e06 ^ w[1],
			.ecap = 0x0022e905c40000c4 ^ w[2],
		};
		break;
	case SNEST_IOMMU_AMD:
		reg->amd = (struct snest_amd_registers){
			.size = sizeof(reg->amd),
			.control = 0x10001 ^ w[8],
			.efr = 0x001200d300009818 ^ w[9],
		};
		for (unsigned i = 0; i < 8; i++)
			reg->amd.device_table[i] = 0x1000 ^ w[i];
		break;
	case SNEST_IOMMU_SMMU:
		reg->smmu = (struct snest_smmu_registers){
			.size = sizeof(reg->smmu),
			.idr = {0x080d168bu ^ (uint32_t)w[0], 0x04000510u ^ (uint32_t)w[1],
		                (uint32_t)w[2], 4u ^ (uint32_t)w[3], (uint32_t)w[4],
		                0x75u ^ (uint32_t)w[5]},
			.cr0 = 0x11u ^ (uint32_t)w[6],
			.cr2 = (uint32_t)w[7],
			.gbpa = (uint32_t)w[8],
			.strtab_base_cfg = 8u ^ (uint32_t)w[9],
			.strtab_base = 0x1000 ^ w[10],
		};
		break;
	default:
		reg->riscv = (struct snest_riscv_registers){
			.size = sizeof(reg->riscv),
			.fctl = (uint32_t)w[2],
			.capabilities = 0x000001f80f0f8f10 ^ w[1],
			.ddtp = 0x402 ^ w[0],
		};
	}
}

static int resolve(struct snest_vm *vm, const union registers *reg,
                   const struct snest_request *request, struct snest_context *context)
{
	memset(context, 0xa5, sizeof(*context));
	switch (FUZZ_IOMMU) {
	case SNEST_IOMMU_VTD:
		return snest_vtd_context(vm, &reg->vtd, request, context);
	case SNEST_IOMMU_AMD:
		return snest_amd_context(vm, &reg->amd, request, context);
	case SNEST_IOMMU_SMMU:
		return snest_smmu_context(vm, &reg->smmu, request, context);
	default:
		return snest_riscv_context(vm, &reg->riscv, request, context);
	}
}

static const char *name(void)
{
	switch (FUZZ_IOMMU) {
	case SNEST_IOMMU_VTD:
		return "vtd";
	case SNEST_IOMMU_AMD:
		return "amd";
	case SNEST_IOMMU_SMMU:
		return "smmu";
	default:
		return "riscv";
	}
}

static void check_context(const struct snest_context *context)
{
	fuzz_check(context->outcome <= SNEST_CONTEXT_FAULT, "outcome %u", context->outcome);
	fuzz_check(context->iommu == FUZZ_IOMMU, "iommu %u", context->iommu);
	if (context->outcome == SNEST_CONTEXT_FAULT) {
		fuzz_check(context->fault.code || context->fault.reason != SNEST_FAULT_CONFIG,
		           "a fault without a code");
		fuzz_check(!context->fault.code ||
		                   snest_fault_code_name(name(), context->fault.code),
		           "unknown code 0x%x", context->fault.code);
		return;
	}
	fuzz_check(context->count <= 3 && (!context->count || !context->outcome), "%u stages",
	           context->count);
	for (unsigned i = 0; i < context->count; i++) {
		const char *why = "";
		int ret = snest_stage_check(&context->stage[i], &why);

		fuzz_check(!ret, "stage %u: %s", i, why);
	}
}

static void check_walk(const struct snest_context *context, const struct snest_request *request)
{
	struct snest_walk counted, direct;
	int ret, ret2;

	image.reads = 0;
	ret = snest_context_walk(image.counted, context, request, &counted);
	ret2 = snest_context_walk(image.direct, context, request, &direct);
	fuzz_check(ret == ret2, "walk returns %d and %d", ret, ret2);
	fuzz_check(ret == 0 || ret == -EOPNOTSUPP, "walk returns %d", ret);
	fuzz_check(image.reads < READS_MAX, "%llu reads", (unsigned long long)image.reads);
	if (ret)
		return;
	fuzz_check(counted.outcome == direct.outcome &&
	                   counted.fault.reason == direct.fault.reason &&
	                   counted.fault.code == direct.fault.code &&
	                   counted.rights == direct.rights && counted.lg2 == direct.lg2,
	           "the walks differ");
	if (direct.outcome != SNEST_WALK_FAULT) {
		fuzz_check(direct.gpa == counted.gpa && direct.host == counted.host,
		           "the walks differ");
		uint32_t need = request->access & SNEST_RIGHTS;

		/* SMMUv3 may turn reads into fetches, or the reverse. */
		if (context->flags & (SNEST_CONTEXT_FETCH | SNEST_CONTEXT_DATA))
			need &= SNEST_WRITE;
		fuzz_check(!(need & ~(uint32_t)direct.rights), "granted without the right");
		return;
	}
	fuzz_check(direct.fault.reason || context->outcome == SNEST_CONTEXT_BLOCKED,
	           "a fault without a reason");
	if (direct.fault.code)
		fuzz_check(snest_fault_code_name(name(), direct.fault.code) ||
		                   FUZZ_IOMMU == SNEST_IOMMU_AMD,
		           "unknown code 0x%x", direct.fault.code);
	snest_fault_recorded(context, request, &direct.fault);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snest_context context, again;
	struct snest_request request;
	uint64_t w[WORDS];
	union registers reg;
	struct fuzz_input in = {data, size};
	int ret, ret2;

	if (!image.direct)
		fuzz_image_create(&image, HIGH);
	for (unsigned i = 0; i < WORDS; i++)
		w[i] = fuzz_take(&in, 8);
	fuzz_image_load(in.at, in.left);
	make_registers(&reg, w);
	request = (struct snest_request){
		.size = sizeof(request),
		.rid = (uint32_t)w[W_REQUEST],
		.pasid = ~(uint32_t)(w[W_REQUEST] >> 32),
		.access = (uint32_t)w[W_KIND] & (SNEST_RIGHTS | SNEST_PRIVILEGED),
		.kind = (uint32_t)(w[W_KIND] >> 8) & 3,
		.flags = SNEST_REQUEST_NO_UPDATE,
		.iova = w[W_IOVA],
	};

	image.reads = 0;
	ret = resolve(image.counted, &reg, &request, &context);
	fuzz_check(image.reads < READS_MAX, "%llu reads", (unsigned long long)image.reads);
	ret2 = resolve(image.direct, &reg, &request, &again);
	fuzz_check(ret == ret2, "returned %d and %d", ret, ret2);
	fuzz_check(!ret || ret == -EINVAL, "returned %d", ret);
	if (ret)
		return 0;
	check_context(&context);
	check_context(&again);
	fuzz_check(context.outcome == again.outcome && context.count == again.count &&
	                   context.flags == again.flags && context.domain == again.domain &&
	                   context.space == again.space && context.fault.code == again.fault.code,
	           "the contexts differ");
	check_walk(&context, &request);
	/* Once more with accessed and dirty flags. */
	request.flags = 0;
	if (resolve(image.direct, &reg, &request, &again) == 0) {
		struct snest_walk walk;

		check_context(&again);
		ret = snest_context_walk(image.direct, &again, &request, &walk);
		fuzz_check(ret == 0 || ret == -EOPNOTSUPP, "walk returns %d", ret);
	}
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

struct words {
	uint8_t *data;
	size_t size, max;
};

static void put(struct words *to, uint64_t addr, uint64_t value)
{
	to->size = fuzz_record_add(to->data, to->size, to->max, addr / 8, value);
}

/* A table of four levels at `at`, which maps IOVA 0 to `gpa`. */
static void four_levels(struct words *to, uint64_t at, uint64_t gpa, uint64_t link, uint64_t leaf)
{
	for (unsigned i = 0; i < 3; i++)
		put(to, at + i * 4096, (at + (i + 1) * 4096) | link);
	put(to, at + 3 * 4096, gpa | leaf);
}

static void seed_vtd(struct words *to, unsigned n)
{
	bool scalable = n & 1;

	if (!scalable) {
		put(to, 0x1000, 0x2001);
		put(to, 0x2000, 0x10000 | 1 | (n & 2 ? 8 : 0));
		put(to, 0x2008, 0x502);
	} else {
		fuzz_put(to->data, 8, 0x400);
		put(to, 0x1000, 0x2001);
		put(to, 0x2000, 0x3001 | 8);
		put(to, 0x3000, 0x4001);
		put(to, 0x4000, 0x10001 | 2 << 2 | (uint64_t)(1 + n / 2 % 4) << 6);
		put(to, 0x4008, 5);
		put(to, 0x4010, 0x20001);
	}
	four_levels(to, 0x10000, 0x8000, 3, 3);
	/* The tables of the first stage, and what it maps, through the second. */
	for (uint64_t page = 0x20; page < 0x24; page++)
		put(to, 0x13000 + page * 8, page << 12 | 3);
	four_levels(to, 0x20000, 0, 0x27, 0x67);
}

static void seed_amd(struct words *to, unsigned n)
{
	uint64_t gcr3 = 0x5000;
	uint64_t word = 3 | 4ull << 9 | 0x10000 | 3ull << 61;

	if (n & 1)
		word |= 1ull << 55 | (gcr3 >> 12 & 7) << 58 | (uint64_t)(n / 2 % 3) << 56;
	put(to, 0x1000, word);
	put(to, 0x1008, 7 | (gcr3 >> 15 & 0xffff) << 16);
	for (unsigned i = 0; i < 3; i++)
		put(to, 0x10000 + i * 4096,
		    (0x10000 + (i + 1) * 4096) | 1 | (uint64_t)(3 - i) << 9 | 3ull << 61);
	for (uint64_t page = 0; page < 0x28; page++)
		put(to, 0x13000 + page * 8, page << 12 | 1 | 3ull << 61);
	put(to, 0x5000, (n / 2 % 3 ? 0x6000 : 0x20000) | 1);
	put(to, 0x6000, (n / 2 % 3 == 2 ? 0x7000 : 0x20000) | 1);
	put(to, 0x7000, 0x20000 | 1);
	four_levels(to, 0x20000, 0x8000, 0x27, 0x67);
}

static void seed_smmu(struct words *to, unsigned n)
{
	uint64_t config = 4 + n % 4;

	put(to, 0x1000, 1 | config << 1 | 0x2000);
	put(to, 0x1008, 0x20000000);
	/* S2T0SZ 16, S2SL0 2, 4K, 48 bits, S2AA64. */
	put(to, 0x1010,
	    0x000d00000000ull << 3 | (0x10ull << 32) | (2ull << 38) | 5ull << 48 | 1ull << 51 | 5);
	put(to, 0x1018, 0x10000);
	put(to, 0x2000, 0x10 | 1ull << 30 | 1ull << 31 | 5ull << 32 | 1ull << 41 | 7ull << 45);
	put(to, 0x2008, 0x20000);
	put(to, 0x2018, 0xff44);
	four_levels(to, 0x10000, 0x8000, 3, 0x4c3 | 0x3c);
	for (uint64_t page = 1; page < 0x24; page++)
		put(to, 0x13000 + page * 8, page << 12 | 0x4ff);
	four_levels(to, 0x20000, 0x8000, 3, 0x443);
}

static void seed_riscv(struct words *to, unsigned n)
{
	/* Sv48 over Sv48x4, or one of them; directories of one level. */
	uint64_t first = n & 1 ? 9ull << 60 | 0x20 : 0, second = n & 2 ? 9ull << 60 | 0x10 : 0;

	put(to, 0x1000, 1 | (n & 4 ? 0x20 : 0));
	put(to, 0x1008, second);
	put(to, 0x1010, 0x5000);
	put(to, 0x1018, n & 4 ? 1ull << 60 | 0x3 : first);
	put(to, 0x3000, 1 | 5 << 12);
	put(to, 0x3008, 9ull << 60 | 0x20);
	put(to, 0x10000, 0x14000 >> 2 | 1);
	put(to, 0x14000, 0x15000 >> 2 | 1);
	put(to, 0x15000, 0x16000 >> 2 | 1);
	for (uint64_t page = 0; page < 0x24; page++)
		put(to, 0x16000 + page * 8, page << 10 | 0xdf);
	for (unsigned i = 0; i < 3; i++)
		put(to, 0x20000 + i * 4096, (0x20000ull + (i + 1) * 4096) >> 2 | 1);
	put(to, 0x23000, 0x8000 >> 2 | 0xdf);
}

static size_t make(uint8_t *data, size_t max_size, unsigned n)
{
	struct words to = {data, H_BYTES, max_size};

	memset(data, 0, H_BYTES);
	/* Read, write; or with a PASID of 0. */
	data[W_KIND * 8] = 1 + n / 8 % 3;
	if (n & 8)
		fuzz_put(data + W_REQUEST * 8 + 4, 4, UINT32_MAX);
	switch (FUZZ_IOMMU) {
	case SNEST_IOMMU_VTD:
		seed_vtd(&to, n);
		break;
	case SNEST_IOMMU_AMD:
		seed_amd(&to, n);
		break;
	case SNEST_IOMMU_SMMU:
		seed_smmu(&to, n);
		break;
	default:
		seed_riscv(&to, n);
	}
	return to.size;
}

static uint64_t point(uint64_t word, uint64_t addr)
{
	return (word & ~0x000ffffffffff000ull) | (addr & 0x000ffffffffff000ull);
}

static size_t plant(uint8_t *data, size_t max_size, struct fuzz_random *r)
{
	return make(data, max_size, (unsigned)fuzz_below(r, 32));
}

static const struct fuzz_shape shape = {.header = H_BYTES, .point = point, .plant = plant};

/* One bit of the registers, mostly, rather than a random word. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	struct fuzz_random r = {seed};

	if (size >= H_BYTES && fuzz_below(&r, 6) == 0) {
		data[fuzz_below(&r, H_BYTES)] ^= (uint8_t)(1u << fuzz_below(&r, 8));
		return size;
	}
	return fuzz_records_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_records_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	return n < 32 ? make(data, max_size, n) : 0;
}
