/* SPDX-License-Identifier: MIT */
/*
 * SMMUv3 device structures: each test writes a stream table and context
 * descriptors into a plain memory image and changes one thing at a time. Bits
 * are numbered over the whole structure, as the manual does; expected codes
 * are event numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/image.h"
#include "walkers/device.h"

/* Where the tables lie. */
#define STRTAB 0x100000ull
#define STRTAB_L2 0x80000ull
#define CDS 0x40000ull
#define CDS_L2 0x50000ull
#define TTB_0 0x20000ull
#define TTB_1 0x24000ull
#define TTB_S2 0x30000ull

#define SID 0x123u
#define SSID 0x2a5u

#define VMID 0x5aull
#define ASID 0x77ull

/* Numbers of events. */
enum {
	C_BAD_STREAMID = 0x02,
	F_STE_FETCH = 0x03,
	C_BAD_STE = 0x04,
	F_BAD_ATS_TREQ = 0x05,
	F_STREAM_DISABLED = 0x06,
	F_TRANSL_FORBIDDEN = 0x07,
	C_BAD_SUBSTREAMID = 0x08,
	F_CD_FETCH = 0x09,
	C_BAD_CD = 0x0a,
	F_TRANSLATION = 0x10,
};

/* IDR0: S2P, S1P, TTF 64, COHACC, HTTU 2, Hyp, ATS, ASID16, PRI, VMID16, CD2L, ST_LEVEL. */
#define IDR0                                                                                  \
	(1u | 2 | 2 << 2 | 1 << 4 | 2 << 6 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 16 | 1 << 18 | \
	 1 << 19 | 1 << 27)
/* IDR1: 16 bits of stream, 20 of substream, ATTR_PERMS_OVR. */
#define IDR1 (16u | 20 << 6 | 1 << 26)
/* IDR3: HAD. IDR5: 48 bits, all granules. */
#define IDR3 (1u << 2)
#define IDR3_STT (1u << 9)
#define IDR5 (5u | 7 << 4)
/* IDR5 with 52 bits everywhere. */
#define IDR5_52 (6u | 7 << 4 | 1 << 7 | 1 << 10)

enum {
	BYPASS = 4,
	S1 = 5,
	S2 = 6,
	NESTED = 7,
};

struct smmu {
	struct image image;
	struct snest_smmu_registers reg;
	struct snest_request request;
	struct snest_context context;
	uint64_t ste, cd; /* where they are */
};

/* Writes bits first..last of the structure at `addr`. */
static void field(struct smmu *s, uint64_t addr, unsigned last, unsigned first, uint64_t value)
{
	for (unsigned bit = first; bit <= last; bit++) {
		uint64_t at = addr + bit / 64 * 8, mask = 1ull << bit % 64;
		uint64_t word = image_get(&s->image, at) & ~mask;

		image_put(&s->image, at, value >> (bit - first) & 1 ? word | mask : word);
	}
}

static void ste(struct smmu *s, unsigned last, unsigned first, uint64_t value)
{
	field(s, s->ste, last, first, value);
}

static void cd(struct smmu *s, unsigned last, unsigned first, uint64_t value)
{
	field(s, s->cd, last, first, value);
}

/* A stream with one descriptor, all of it plain: 48 bits, 4K. */
static void stream(struct smmu *s, bool direct, unsigned config)
{
	image_create(&s->image, direct);
	s->reg = (struct snest_smmu_registers){
		.size = sizeof(s->reg),
		.idr = {IDR0, IDR1, 0, IDR3, 0, IDR5},
		.cr0 = 1 | 1 << 4, /* SMMUEN, ATSCHK */
		.strtab_base_cfg = 16,
		.strtab_base = STRTAB,
	};
	s->request = (struct snest_request){
		.size = sizeof(s->request),
		.rid = SID,
		.pasid = SNEST_NO_PASID,
		.access = SNEST_READ,
		.iova = 0x123456000,
	};
	s->reg.strtab_base_cfg = 12;
	s->ste = STRTAB + SID * 64;
	s->cd = CDS;
	ste(s, 0, 0, 1);
	ste(s, 3, 1, config);
	ste(s, 51, 6, CDS >> 6);
	ste(s, 143, 128, VMID);
	ste(s, 165, 160, 24); /* 40 bits, from level 1 on: two tables */
	ste(s, 167, 166, 1);
	ste(s, 178, 176, 5);
	ste(s, 179, 179, 1);
	ste(s, 186, 186, 1); /* S2R */
	ste(s, 243, 196, TTB_S2 >> 4);
	cd(s, 5, 0, 16);
	cd(s, 21, 16, 25);
	cd(s, 23, 22, 2);
	cd(s, 31, 31, 1);
	cd(s, 34, 32, 5);
	cd(s, 41, 41, 1);
	cd(s, 46, 45, 3); /* R, A */
	cd(s, 63, 48, ASID);
	cd(s, 115, 68, TTB_0 >> 4);
	cd(s, 179, 132, TTB_1 >> 4);
}

/* A stage 2 that maps the first GiB of IPAs to `to` by one block. */
static void map_s2(struct smmu *s, uint64_t to)
{
	image_put(&s->image, TTB_S2, to | 1 << 10 | 3 << 6 | 1);
}

static void resolve(struct smmu *s)
{
	memset(&s->context, 0xa5, sizeof(s->context));
	assert_int_equal(snest_smmu_context(s->image.vm, &s->reg, &s->request, &s->context), 0);
	image_check("smmu", &s->context);
}

static void expect_fault(struct smmu *s, unsigned code)
{
	resolve(s);
	assert_int_equal(s->context.outcome, SNEST_CONTEXT_FAULT);
	assert_int_equal(s->context.fault.code, code);
}

static void expect_stages(struct smmu *s, unsigned count)
{
	resolve(s);
	assert_int_equal(s->context.outcome, SNEST_CONTEXT_STAGES);
	assert_int_equal(s->context.count, count);
}

static void expect_blocked(struct smmu *s)
{
	resolve(s);
	assert_int_equal(s->context.outcome, SNEST_CONTEXT_BLOCKED);
}

/* A field of the entry or descriptor, changed for one look. */
static void fault_with(struct smmu *s, uint64_t addr, unsigned last, unsigned first, uint64_t value,
                       unsigned code)
{
	uint64_t old[8];

	memcpy(old, (char *)s->image.words + addr, sizeof(old));
	field(s, addr, last, first, value);
	expect_fault(s, code);
	memcpy((char *)s->image.words + addr, old, sizeof(old));
}

static void bad_ste(struct smmu *s, unsigned last, unsigned first, uint64_t value)
{
	fault_with(s, s->ste, last, first, value, C_BAD_STE);
}

static void bad_cd(struct smmu *s, unsigned last, unsigned first, uint64_t value)
{
	fault_with(s, s->cd, last, first, value, C_BAD_CD);
}

/* ---- The SMMU as a whole, and the stream table -------------------------- */

static void disabled(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	s.reg.cr0 = 0;
	s.reg.strtab_base = IMAGE_OUTSIDE;
	expect_stages(&s, 0);
	assert_int_equal(s.context.ia_bits, 48);
	s.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_blocked(&s);
	s.request.kind = SNEST_REQUEST_UNTRANSLATED;
	s.reg.gbpa = 1 << 20;
	expect_blocked(&s);
	image_destroy(&s.image);
}

static void linear_stream_table(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, BYPASS);
	expect_stages(&s, 0);
	/* Aligned to its size: low bits of the base are ignored. */
	s.reg.strtab_base = STRTAB | 0x3ffc0;
	expect_stages(&s, 0);
	/* Formats that do not exist are linear, as is all without two levels. */
	s.reg.strtab_base_cfg |= 2 << 16;
	expect_stages(&s, 0);
	s.reg.idr[0] &= ~(3u << 27);
	s.reg.strtab_base_cfg = 12 | 1 << 16;
	expect_stages(&s, 0);
	/* Streams beyond the table; recorded only on demand. */
	s.request.rid = 0x1000;
	expect_fault(&s, C_BAD_STREAMID);
	assert_false(snest_fault_recorded(&s.context, &s.request, &s.context.fault));
	s.reg.cr2 = 2;
	expect_fault(&s, C_BAD_STREAMID);
	assert_true(snest_fault_recorded(&s.context, &s.request, &s.context.fault));
	/* No table is larger than the stream ids are wide. */
	s.reg.strtab_base_cfg = 63;
	s.request.rid = 0x10000;
	expect_fault(&s, C_BAD_STREAMID);
	s.request.rid = UINT32_MAX;
	expect_fault(&s, C_BAD_STREAMID);
	s.reg.strtab_base_cfg = 16;
	s.reg.strtab_base = IMAGE_OUTSIDE;
	s.request.rid = SID;
	expect_fault(&s, F_STE_FETCH);
	assert_int_equal(s.context.fault.entry_addr, IMAGE_OUTSIDE + SID * 64);
	image_destroy(&s.image);
}

static void two_level_stream_table(void **state)
{
	static const unsigned splits[] = {6, 8, 10, 0, 31};
	struct smmu s;

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		unsigned split = i < 3 ? splits[i] : 6;
		uint64_t low = SID & ((1u << split) - 1), l1;

		stream(&s, i & 1, BYPASS);
		s.reg.strtab_base_cfg = 16 | splits[i] << 6 | 1 << 16;
		l1 = STRTAB + (SID >> split) * 8;
		memcpy((char *)s.image.words + STRTAB_L2 + low * 64, (char *)s.image.words + s.ste,
		       64);
		memset((char *)s.image.words + STRTAB, 0, 0x40000);
		image_put(&s.image, l1, STRTAB_L2 | (split + 1));
		expect_stages(&s, 0);
		/* Low bits of the pointer are ignored. */
		image_put(&s.image, l1, STRTAB_L2 | 1 << 6 | (split + 1));
		expect_stages(&s, 0);
		/* Just enough entries, then half of that. */
		for (unsigned span = 1; span <= split + 1; span++) {
			image_put(&s.image, l1, STRTAB_L2 | span);
			if (low < 1u << (span - 1))
				expect_stages(&s, 0);
			else
				expect_fault(&s, C_BAD_STREAMID);
		}
		/* 0, wider than the split, reserved. */
		image_put(&s.image, l1, STRTAB_L2);
		expect_fault(&s, C_BAD_STREAMID);
		for (unsigned span = split + 2; span < 32; span++) {
			image_put(&s.image, l1, STRTAB_L2 | span);
			expect_fault(&s, C_BAD_STREAMID);
		}
		image_put(&s.image, l1, IMAGE_OUTSIDE | (split + 1));
		expect_fault(&s, F_STE_FETCH);
		s.reg.strtab_base = IMAGE_OUTSIDE;
		expect_fault(&s, F_STE_FETCH);
		assert_int_equal(s.context.fault.entry_addr, IMAGE_OUTSIDE + (SID >> split) * 8);
		image_destroy(&s.image);
	}
}

static void configurations(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	for (unsigned config = 0; config < 4; config++) {
		ste(&s, 3, 1, config);
		expect_blocked(&s);
	}
	bad_ste(&s, 0, 0, 0);
	ste(&s, 3, 1, BYPASS);
	expect_stages(&s, 0);
	assert_int_equal(s.context.domain, 0);
	assert_int_equal(s.context.ia_bits, 48);
	/* Bypass looks at nothing else. */
	for (unsigned bit = 4; bit < 64; bit++)
		ste(&s, bit, bit, 1);
	for (unsigned bit = 128; bit < 512; bit++)
		ste(&s, bit, bit, 1);
	expect_stages(&s, 0);
	image_destroy(&s.image);
	/* Stages that are not there. */
	for (unsigned config = S1; config <= NESTED; config++) {
		stream(&s, true, config);
		map_s2(&s, 0);
		expect_stages(&s, config == NESTED ? 2 : 1);
		s.reg.idr[0] &= ~(config == S2 ? 1u : 2u);
		expect_fault(&s, C_BAD_STE);
		image_destroy(&s.image);
	}
}

static void impossible_values(void **state)
{
	struct smmu s;
	struct snest_smmu_registers reg;

	(void)state;
	stream(&s, true, S1);
#define REFUSED(change)                                                                        \
	do {                                                                                   \
		reg = s.reg;                                                                   \
		change;                                                                        \
		assert_int_equal(snest_smmu_context(s.image.vm, &reg, &s.request, &s.context), \
		                 -EINVAL);                                                     \
	} while (0)
	REFUSED(reg.size = 3);
	REFUSED(reg.reserved = 1);
	REFUSED(reg.idr[1] |= 63);
	REFUSED(reg.idr[1] |= 31 << 6);
#undef REFUSED
	image_destroy(&s.image);
}

/* ---- Stage 1 ------------------------------------------------------------ */

static void stage_1(void **state)
{
	struct smmu s;
	const struct snest_stage *stage = &s.context.stage[0];

	(void)state;
	for (unsigned direct = 0; direct < 2; direct++) {
		stream(&s, direct, S1);
		expect_stages(&s, 1);
		assert_int_equal(s.context.iommu, SNEST_IOMMU_SMMU);
		assert_int_equal(s.context.flags, 0);
		assert_int_equal(s.context.domain, VMID);
		assert_int_equal(s.context.space, ASID);
		assert_int_equal(s.context.ia_bits, 64);
		assert_int_equal(stage->format, SNEST_FORMAT_ARM_S1);
		assert_int_equal(stage->ia_bits, 48);
		assert_int_equal(stage->granule_lg2, 12);
		assert_int_equal(stage->root, TTB_0);
		assert_int_equal(stage->ia_bits_high, 39);
		assert_int_equal(stage->granule_high_lg2, 12);
		assert_int_equal(stage->root_high, TTB_1);
		assert_int_equal(stage->oa_bits, 48);
		assert_int_equal(stage->flags, 0);
		image_destroy(&s.image);
	}
}

static void granules_of_both_halves(void **state)
{
	/* The two fields have different codes. 0: reserved. */
	static const uint8_t tg0[] = {12, 16, 14, 0}, tg1[] = {0, 14, 12, 16};
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	for (unsigned i = 0; i < 16; i++) {
		unsigned g0 = tg0[i & 3], g1 = tg1[i >> 2];

		cd(&s, 7, 6, i & 3);
		cd(&s, 23, 22, i >> 2);
		if (!g0 || !g1) {
			expect_fault(&s, C_BAD_CD);
			continue;
		}
		expect_stages(&s, 1);
		assert_int_equal(s.context.stage[0].granule_lg2, g0);
		assert_int_equal(s.context.stage[0].granule_high_lg2, g1);
		/* Not implemented: as bad as reserved. */
		for (unsigned g = 12; g <= 16; g += 2) {
			s.reg.idr[5] = IDR5 & ~(1u << (g == 12 ? 4 : g == 14 ? 5 : 6));
			if (g == g0 || g == g1)
				expect_fault(&s, C_BAD_CD);
			else
				expect_stages(&s, 1);
		}
		s.reg.idr[5] = IDR5;
	}
	image_destroy(&s.image);
}

static void input_sizes(void **state)
{
	static const uint8_t tg0[] = {12, 16, 14};
	struct smmu s;

	(void)state;
	for (unsigned i = 0; i < 24; i++) {
		unsigned granule = tg0[i % 3];
		bool stt = i / 3 & 1, wide = i / 6 & 1, ds = i / 12;
		unsigned most = !stt ? 39 : granule == 16 ? 47 : 48;
		unsigned least = wide && (granule == 16 || ds) ? 12 : 16;

		stream(&s, true, S1);
		s.reg.idr[3] |= stt ? IDR3_STT : 0;
		s.reg.idr[5] = wide ? IDR5_52 : IDR5;
		cd(&s, 7, 6, i % 3);
		cd(&s, 186, 186, ds);
		for (unsigned tsz = 0; tsz < 64; tsz++) {
			cd(&s, 5, 0, tsz);
			if (tsz < least || tsz > most) {
				expect_fault(&s, C_BAD_CD);
				continue;
			}
			expect_stages(&s, 1);
			assert_int_equal(s.context.stage[0].ia_bits, 64 - tsz);
		}
		image_destroy(&s.image);
	}
}

static void table_addresses_within_their_size(void **state)
{
	static const uint8_t bits[] = {32, 36, 40, 42, 44, 48, 52, 56};
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	s.reg.idr[5] = IDR5_52;
	for (unsigned ips = 0; ips < 8; ips++) {
		cd(&s, 34, 32, ips);
		for (unsigned wide = 0; wide < 2; wide++) {
			unsigned most = wide && bits[ips] > 48 ? 52
			                : bits[ips] > 48       ? 48
			                                       : bits[ips];

			cd(&s, 186, 186, wide);
			for (unsigned bit = 5; bit < 52; bit++) {
				cd(&s, 115, 68, 1ull << (bit - 4));
				if (bit < most)
					expect_stages(&s, 1);
				else
					expect_fault(&s, C_BAD_CD);
				cd(&s, 115, 68, 0);
				cd(&s, 179, 132, 1ull << (bit - 4));
				if (bit < most)
					expect_stages(&s, 1);
				else
					expect_fault(&s, C_BAD_CD);
				cd(&s, 179, 132, 0);
			}
		}
	}
	/* What the SMMU cannot put out, no descriptor can. */
	s.reg.idr[5] = 2 | 7 << 4;
	cd(&s, 34, 32, 7);
	cd(&s, 115, 68, 1ull << (39 - 4));
	expect_stages(&s, 1);
	assert_int_equal(s.context.stage[0].oa_bits, 40);
	cd(&s, 115, 68, 1ull << (40 - 4));
	expect_fault(&s, C_BAD_CD);
	image_destroy(&s.image);
}

static void disabled_halves(void **state)
{
	struct smmu s;

	(void)state;
	/* Everything about a disabled half may be wrong. */
	stream(&s, true, S1);
	cd(&s, 14, 14, 1);
	cd(&s, 5, 0, 63);
	cd(&s, 7, 6, 3);
	cd(&s, 115, 68, ~0ull);
	expect_stages(&s, 1);
	assert_true(s.context.stage[0].flags & SNEST_STAGE_ARM_EPD0);
	assert_int_equal(s.context.stage[0].root_high, TTB_1);
	cd(&s, 30, 30, 1);
	cd(&s, 21, 16, 0);
	cd(&s, 23, 22, 0);
	cd(&s, 179, 132, ~0ull);
	expect_stages(&s, 1);
	/* Endianness too, with both disabled. */
	s.reg.idr[0] |= 2 << 21;
	cd(&s, 15, 15, 1);
	expect_stages(&s, 1);
	image_destroy(&s.image);
}

static void descriptor_flags(void **state)
{
	static const struct {
		uint16_t bit;
		uint32_t flag;
	} bits[] = {
		{15, SNEST_STAGE_BIG_ENDIAN}, {35, SNEST_STAGE_ARM_AFFD},
		{36, SNEST_STAGE_ARM_WXN},    {37, SNEST_STAGE_ARM_UWXN},
		{38, SNEST_STAGE_ARM_TBI0},   {39, SNEST_STAGE_ARM_TBI1},
		{40, SNEST_STAGE_ARM_PAN},    {43, SNEST_STAGE_HW_A},
		{65, SNEST_STAGE_ARM_HAD0},   {129, SNEST_STAGE_ARM_HAD1},
		{42, 0} /* HD alone */,
	};
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		cd(&s, bits[i].bit, bits[i].bit, 1);
		expect_stages(&s, 1);
		assert_int_equal(s.context.stage[0].flags, bits[i].flag);
		cd(&s, bits[i].bit, bits[i].bit, 0);
	}
	/* HA silences AFFD; with HD the dirty state is kept too. */
	cd(&s, 35, 35, 1);
	cd(&s, 43, 42, 3);
	expect_stages(&s, 1);
	assert_int_equal(s.context.stage[0].flags, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	cd(&s, 35, 35, 0);
	cd(&s, 43, 42, 0);
	s.reg.idr[3] = 0;
	cd(&s, 65, 65, 1);
	expect_stages(&s, 1);
	assert_int_equal(s.context.stage[0].flags, 0);
	/* S, R and A. */
	cd(&s, 46, 44, 0);
	expect_stages(&s, 1);
	assert_int_equal(s.context.flags, SNEST_CONTEXT_QUIET | SNEST_CONTEXT_RAZ_WI);
	cd(&s, 46, 44, 1);
	expect_stages(&s, 1);
	assert_int_equal(s.context.flags, SNEST_CONTEXT_STALL | SNEST_CONTEXT_RAZ_WI);
	image_destroy(&s.image);
}

static void illegal_descriptors(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	bad_cd(&s, 31, 31, 0);
	bad_cd(&s, 41, 41, 0);
	/* Stalls disallowed by the stream, by the SMMU; or forced. */
	ste(&s, 91, 91, 1);
	bad_cd(&s, 44, 44, 1);
	ste(&s, 91, 91, 0);
	s.reg.idr[0] = IDR0 | 1 << 24;
	bad_cd(&s, 44, 44, 1);
	s.reg.idr[0] = IDR0 | 2 << 24;
	bad_cd(&s, 44, 44, 0);
	s.reg.idr[0] = IDR0 | 1 << 26;
	bad_cd(&s, 46, 46, 0);
	s.reg.idr[0] = IDR0 | 2 << 21;
	bad_cd(&s, 15, 15, 1);
	s.reg.idr[0] = IDR0 | 3 << 21;
	bad_cd(&s, 15, 15, 0);
	s.reg.idr[0] = IDR0 & ~(3u << 6);
	bad_cd(&s, 43, 43, 1);
	bad_cd(&s, 42, 42, 1);
	s.reg.idr[0] = (IDR0 & ~(3u << 6)) | 1 << 6;
	bad_cd(&s, 43, 42, 3);
	s.reg.idr[0] = IDR0 | 3 << 6;
	bad_cd(&s, 67, 67, 1);
	s.reg.idr[0] = IDR0 & ~(1u << 12);
	bad_cd(&s, 56, 56, 1);
	s.reg.idr[0] = IDR0 & ~(1u << 3);
	expect_fault(&s, C_BAD_CD);
	image_destroy(&s.image);
}

static void worlds(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	/* EL2: one half, no ASID, no VMID; what the other half holds is no matter. */
	ste(&s, 95, 94, 2);
	cd(&s, 14, 14, 1);
	cd(&s, 21, 16, 0);
	cd(&s, 37, 37, 1);
	cd(&s, 40, 39, 3);
	expect_stages(&s, 1);
	assert_int_equal(s.context.domain, 0);
	assert_int_equal(s.context.space, 0);
	assert_int_equal(s.context.stage[0].flags, SNEST_STAGE_ARM_EL2);
	assert_int_equal(s.context.stage[0].ia_bits_high, 0);
	/* With E2H it is as EL1, but without a VMID. */
	s.reg.cr2 = 1;
	cd(&s, 14, 14, 0);
	expect_fault(&s, C_BAD_CD);
	cd(&s, 21, 16, 25);
	expect_stages(&s, 1);
	assert_int_equal(s.context.domain, 0);
	assert_int_equal(s.context.space, ASID);
	/* Reserved, where the field counts. */
	bad_ste(&s, 95, 94, 1);
	bad_ste(&s, 95, 94, 3);
	ste(&s, 95, 94, 3);
	s.reg.idr[0] &= ~(1u << 9);
	expect_stages(&s, 1);
	assert_int_equal(s.context.domain, VMID);
	image_destroy(&s.image);
	stream(&s, true, S2);
	ste(&s, 95, 94, 3);
	expect_stages(&s, 1);
	image_destroy(&s.image);
}

static void overrides(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	ste(&s, 113, 112, 3);
	expect_stages(&s, 1);
	assert_int_equal(s.context.flags, SNEST_CONTEXT_PRIVILEGED);
	assert_int_equal(sn_context_access(&s.context, SNEST_READ), SNEST_READ | SNEST_PRIVILEGED);
	ste(&s, 113, 112, 2);
	expect_stages(&s, 1);
	assert_int_equal(sn_context_access(&s.context, SNEST_READ | SNEST_PRIVILEGED), SNEST_READ);
	ste(&s, 113, 112, 0);
	ste(&s, 115, 114, 2);
	expect_stages(&s, 1);
	assert_int_equal(sn_context_access(&s.context, SNEST_EXEC), SNEST_READ);
	ste(&s, 115, 114, 3);
	expect_stages(&s, 1);
	assert_int_equal(sn_context_access(&s.context, SNEST_READ), SNEST_EXEC);
	assert_int_equal(sn_context_access(&s.context, SNEST_WRITE), SNEST_WRITE);
	s.reg.idr[1] &= ~(1u << 26);
	expect_stages(&s, 1);
	assert_int_equal(s.context.flags, 0);
	image_destroy(&s.image);
}

/* ---- Substreams --------------------------------------------------------- */

static void substreams(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	/* None. */
	s.request.pasid = 0;
	expect_fault(&s, C_BAD_SUBSTREAMID);
	for (unsigned config = BYPASS; config <= S2; config += 2) {
		ste(&s, 3, 1, config);
		expect_fault(&s, C_BAD_SUBSTREAMID);
	}
	ste(&s, 3, 1, S1);
	/* 2^10, in a linear table. */
	ste(&s, 63, 59, 10);
	memcpy((char *)s.image.words + CDS + SSID * 64, (char *)s.image.words + CDS, 64);
	s.request.pasid = SSID;
	expect_stages(&s, 1);
	assert_int_equal(s.context.pasid, SSID);
	assert_true(s.context.flags & SNEST_CONTEXT_PASID);
	s.request.pasid = SSID + 1;
	expect_fault(&s, C_BAD_CD);
	assert_int_equal(s.context.fault.entry_addr, CDS + (SSID + 1) * 64);
	s.request.pasid = 0x3ff;
	expect_fault(&s, C_BAD_CD);
	s.request.pasid = 0x400;
	expect_fault(&s, C_BAD_SUBSTREAMID);
	/* More than the SMMU has. */
	s.reg.idr[1] = (IDR1 & ~(31u << 6)) | 9 << 6;
	expect_fault(&s, C_BAD_STE);
	/* None at all: the field is ignored. */
	s.reg.idr[1] = IDR1 & ~(31u << 6);
	expect_fault(&s, C_BAD_SUBSTREAMID);
	s.request.pasid = SNEST_NO_PASID;
	expect_stages(&s, 1);
	image_destroy(&s.image);
}

static void default_substream(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	ste(&s, 63, 59, 4);
	for (unsigned s1dss = 0; s1dss < 4; s1dss++) {
		ste(&s, 65, 64, s1dss);
		s.request.pasid = SNEST_NO_PASID;
		if (s1dss == 1) {
			expect_stages(&s, 0);
			assert_int_equal(s.context.ia_bits, 48);
		} else if (s1dss == 2) {
			expect_stages(&s, 1);
			assert_int_equal(s.context.pasid, SNEST_NO_PASID);
		} else {
			expect_fault(&s, F_STREAM_DISABLED);
		}
		s.request.pasid = 0;
		if (s1dss == 2)
			expect_fault(&s, F_STREAM_DISABLED);
		else
			expect_stages(&s, 1);
	}
	/* Stage 1 bypassed in front of stage 2. */
	s.request.pasid = SNEST_NO_PASID;
	ste(&s, 65, 64, 1);
	ste(&s, 3, 1, NESTED);
	expect_stages(&s, 1);
	assert_int_equal(s.context.stage[0].format, SNEST_FORMAT_ARM_S2);
	image_destroy(&s.image);
}

static void two_level_descriptors(void **state)
{
	struct smmu s;

	(void)state;
	for (unsigned format = 1; format <= 2; format++) {
		unsigned split = format == 1 ? 6 : 10;
		uint32_t ssid = format == 1 ? SSID : SSID + 0x1400;
		uint64_t l1 = CDS + (ssid >> split) * 8;
		uint64_t at = CDS_L2 + (ssid & ((1u << split) - 1)) * 64;

		stream(&s, format & 1, S1);
		ste(&s, 63, 59, 16);
		ste(&s, 5, 4, format);
		memcpy((char *)s.image.words + at, (char *)s.image.words + CDS, 64);
		memset((char *)s.image.words + CDS, 0, 64);
		s.request.pasid = ssid;
		expect_fault(&s, C_BAD_SUBSTREAMID);
		assert_int_equal(s.context.fault.entry_addr, l1);
		image_put(&s.image, l1, CDS_L2 | 1);
		expect_stages(&s, 1);
		assert_int_equal(s.context.stage[0].root, TTB_0);
		image_put(&s.image, l1, CDS_L2 | 0xfff);
		expect_stages(&s, 1);
		image_put(&s.image, l1, IMAGE_OUTSIDE | 1);
		expect_fault(&s, F_CD_FETCH);
		/* Tables of two levels, where there are none. */
		s.reg.idr[0] &= ~(1u << 19);
		expect_fault(&s, C_BAD_STE);
		s.reg.idr[0] = IDR0;
		ste(&s, 51, 6, IMAGE_OUTSIDE >> 6);
		expect_fault(&s, F_CD_FETCH);
		assert_int_equal(s.context.fault.entry_addr, IMAGE_OUTSIDE + (ssid >> split) * 8);
		image_destroy(&s.image);
	}
	/* The reserved format is linear, also without CD2L. */
	stream(&s, true, S1);
	s.reg.idr[0] &= ~(1u << 19);
	ste(&s, 63, 59, 1);
	ste(&s, 5, 4, 3);
	s.request.pasid = 0;
	expect_stages(&s, 1);
	/* The format does not matter where there is one descriptor. */
	ste(&s, 63, 59, 0);
	ste(&s, 5, 4, 1);
	s.request.pasid = SNEST_NO_PASID;
	expect_stages(&s, 1);
	image_destroy(&s.image);
}

/* ---- Stage 2 ------------------------------------------------------------ */

static void stage_2(void **state)
{
	struct smmu s;
	const struct snest_stage *stage = &s.context.stage[0];

	(void)state;
	stream(&s, true, S2);
	expect_stages(&s, 1);
	assert_int_equal(s.context.domain, VMID);
	assert_int_equal(s.context.space, 0);
	/* Wider than the SMMU's addresses is stage 1's fault, although there is none. */
	assert_int_equal(s.context.ia_bits, 48);
	assert_int_equal(s.context.flags, 0);
	assert_int_equal(stage->format, SNEST_FORMAT_ARM_S2);
	assert_int_equal(stage->levels, 3);
	assert_int_equal(stage->ia_bits, 40);
	assert_int_equal(stage->oa_bits, 48);
	assert_int_equal(stage->granule_lg2, 12);
	assert_int_equal(stage->root, TTB_S2);
	assert_int_equal(stage->flags, 0);
	ste(&s, 181, 180, 3);
	expect_stages(&s, 1);
	assert_int_equal(stage->flags, SNEST_STAGE_BIG_ENDIAN | SNEST_STAGE_ARM_AFFD);
	ste(&s, 184, 183, 3);
	ste(&s, 181, 180, 0);
	expect_stages(&s, 1);
	assert_int_equal(stage->flags, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	ste(&s, 184, 183, 1);
	expect_stages(&s, 1);
	assert_int_equal(stage->flags, 0);
	ste(&s, 186, 185, 0);
	expect_stages(&s, 1);
	assert_int_equal(s.context.flags, SNEST_CONTEXT_QUIET_2);
	ste(&s, 186, 185, 1);
	expect_stages(&s, 1);
	assert_int_equal(s.context.flags, SNEST_CONTEXT_STALL_2);
	image_destroy(&s.image);
}

/*
 * Start levels as a table: for each granule and SL0 the start level, and for
 * each start level the range of T0SZ that it serves, concatenation included.
 */
struct start {
	int8_t level; /* -2: reserved */
	uint8_t least, most;
};

static struct start start_of(unsigned granule, unsigned sl0, bool sl0_2, bool ds, bool stt)
{
	static const struct start table[3][4] = {
		{{2, 30, 42}, {1, 21, 33}, {0, 12, 24}, {3, 39, 48}},
		{{3, 35, 48}, {2, 24, 38}, {1, 13, 27}, {0, 12, 16}},
		{{3, 31, 47}, {2, 18, 34}, {1, 12, 21}, {-2, 0, 0}},
	};
	struct start start = table[(granule - 12) / 2][sl0];

	if (granule != 16 && ds && sl0_2)
		return granule == 12 && sl0 == 0 ? (struct start){-1, 12, 15}
		                                 : (struct start){-2, 0, 0};
	if ((granule == 12 && sl0 == 3 && !stt) || (granule == 14 && sl0 == 3 && !ds))
		start.level = -2;
	return start;
}

static void stage_2_start_levels(void **state)
{
	static const uint8_t tg[] = {12, 16, 14};
	struct smmu s;

	(void)state;
	for (unsigned i = 0; i < 3 * 8 * 4; i++) {
		unsigned granule = tg[i % 3], sl0 = i / 3 & 3;
		bool sl0_2 = i / 12 & 1, wide = i / 24 & 1, stt = i / 48;
		struct start start = start_of(granule, sl0, sl0_2, wide, stt);
		unsigned least = wide ? 12 : 16, most = !stt ? 39 : granule == 16 ? 47 : 48;

		stream(&s, true, S2);
		s.reg.idr[3] |= stt ? IDR3_STT : 0;
		s.reg.idr[5] = wide ? IDR5_52 : IDR5;
		ste(&s, 175, 174, i % 3);
		ste(&s, 167, 166, sl0);
		ste(&s, 194, 194, sl0_2);
		ste(&s, 195, 195, wide);
		for (unsigned t0sz = 0; t0sz < 64; t0sz++) {
			ste(&s, 165, 160, t0sz);
			if (start.level == -2 || t0sz < least || t0sz > most ||
			    t0sz < start.least || t0sz > start.most) {
				expect_fault(&s, C_BAD_STE);
				continue;
			}
			expect_stages(&s, 1);
			assert_int_equal(s.context.stage[0].levels, 4 - start.level);
			assert_int_equal(s.context.stage[0].ia_bits, 64 - t0sz);
		}
		image_destroy(&s.image);
	}
}

static void illegal_stage_2(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, S2);
	bad_ste(&s, 179, 179, 0);
	bad_ste(&s, 175, 174, 3);
	s.reg.idr[5] = 5 | 1 << 5;
	expect_fault(&s, C_BAD_STE);
	s.reg.idr[5] = IDR5;
	/* The input cannot be wider than addresses are. */
	s.reg.idr[5] = 1 | 7 << 4;
	expect_fault(&s, C_BAD_STE);
	s.reg.idr[5] = 2 | 7 << 4;
	expect_stages(&s, 1);
	assert_int_equal(s.context.stage[0].oa_bits, 40);
	bad_ste(&s, 243, 196, 1ull << (40 - 4));
	s.reg.idr[5] = IDR5;
	ste(&s, 178, 176, 0);
	bad_ste(&s, 243, 196, 1ull << (32 - 4));
	ste(&s, 178, 176, 5);
	s.reg.idr[0] = IDR0 & ~(3u << 6);
	bad_ste(&s, 184, 184, 1);
	bad_ste(&s, 183, 183, 1);
	s.reg.idr[0] = (IDR0 & ~(3u << 6)) | 1 << 6;
	bad_ste(&s, 183, 183, 1);
	s.reg.idr[0] = IDR0 | 3 << 6;
	bad_ste(&s, 187, 187, 1);
	s.reg.idr[0] = IDR0 | 1 << 24;
	bad_ste(&s, 185, 185, 1);
	s.reg.idr[0] = IDR0 | 2 << 24;
	bad_ste(&s, 185, 185, 0);
	s.reg.idr[0] = IDR0 | 2 << 21;
	bad_ste(&s, 180, 180, 1);
	s.reg.idr[0] = IDR0 | 3 << 21;
	bad_ste(&s, 180, 180, 0);
	s.reg.idr[0] = IDR0 & ~(1u << 18);
	bad_ste(&s, 136, 136, 1);
	s.reg.idr[0] = IDR0;
	image_destroy(&s.image);
	/* The VMID tags EL1's stage 1 as well. */
	stream(&s, true, S1);
	s.reg.idr[0] = IDR0 & ~(1u << 18);
	bad_ste(&s, 136, 136, 1);
	s.reg.idr[0] = IDR0 | 1 << 24;
	bad_ste(&s, 91, 91, 1);
	image_destroy(&s.image);
}

static void descriptors_behind_stage_2(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, NESTED);
	expect_fault(&s, F_TRANSLATION);
	assert_int_equal(s.context.fault.reason, SNEST_FAULT_NOT_PRESENT);
	assert_int_equal(s.context.fault.stage, 1);
	assert_int_equal(s.context.fault.for_stage, 0);
	assert_int_equal(s.context.fault.for_level, SNEST_LEVEL_STRUCTURE);
	assert_int_equal(s.context.fault.input, CDS);
	assert_int_equal(sn_smmu_fault_class(&s.context, &s.context.fault),
	                 SN_SMMU_S2 | SN_SMMU_CLASS_CD);
	map_s2(&s, 0);
	expect_stages(&s, 2);
	assert_int_equal(s.context.stage[0].format, SNEST_FORMAT_ARM_S1);
	assert_int_equal(s.context.stage[1].format, SNEST_FORMAT_ARM_S2);
	assert_int_equal(s.context.domain, VMID);
	assert_int_equal(s.context.space, ASID);
	/* The IPA leads elsewhere. */
	map_s2(&s, 0x40000000);
	expect_fault(&s, F_CD_FETCH);
	/* An IPA beyond stage 2. */
	ste(&s, 51, 6, 1ull << (45 - 6));
	expect_fault(&s, F_TRANSLATION);
	assert_int_equal(s.context.fault.reason, SNEST_FAULT_INPUT_RANGE);
	/* Stage 2's own table is gone. */
	ste(&s, 243, 196, IMAGE_OUTSIDE >> 4);
	ste(&s, 51, 6, CDS >> 6);
	expect_fault(&s, 0x0b);
	image_destroy(&s.image);
}

/* ---- ATS ---------------------------------------------------------------- */

static void ats(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, true, S1);
	s.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_fault(&s, F_BAD_ATS_TREQ);
	s.request.kind = SNEST_REQUEST_TRANSLATED;
	expect_fault(&s, F_TRANSL_FORBIDDEN);
	ste(&s, 93, 92, 1);
	expect_stages(&s, 0);
	s.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_stages(&s, 1);
	assert_int_equal(s.context.flags, SNEST_CONTEXT_ATS | SNEST_CONTEXT_PRI);
	/* Bypass: as if it were 0. */
	ste(&s, 3, 1, BYPASS);
	expect_fault(&s, F_BAD_ATS_TREQ);
	/* Unchecked, translated requests do not even need a stream. */
	s.request.kind = SNEST_REQUEST_TRANSLATED;
	s.reg.cr0 = 1;
	s.reg.strtab_base = IMAGE_OUTSIDE;
	expect_stages(&s, 0);
	image_destroy(&s.image);

	/* Split: illegal but for both stages, without stalls, where it exists. */
	stream(&s, true, S1);
	bad_ste(&s, 93, 92, 2);
	image_destroy(&s.image);
	stream(&s, true, NESTED);
	map_s2(&s, 0);
	ste(&s, 93, 92, 2);
	s.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_stages(&s, 2);
	assert_true(s.context.flags & SNEST_CONTEXT_SPLIT_ATS);
	s.request.kind = SNEST_REQUEST_TRANSLATED;
	expect_stages(&s, 1);
	assert_int_equal(s.context.stage[0].format, SNEST_FORMAT_ARM_S2);
	bad_ste(&s, 185, 185, 1);
	s.reg.idr[0] |= 1 << 11;
	expect_fault(&s, C_BAD_STE);
	s.reg.idr[0] = IDR0;
	s.reg.cr0 = 1;
	s.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_fault(&s, F_BAD_ATS_TREQ);
	/* Full ATS with stalls of stage 2. */
	ste(&s, 93, 92, 1);
	bad_ste(&s, 185, 185, 1);
	/* Without ATS the field is not looked at. */
	s.reg.idr[0] &= ~(1u << 10);
	ste(&s, 185, 185, 1);
	s.request.kind = SNEST_REQUEST_UNTRANSLATED;
	expect_stages(&s, 2);
	image_destroy(&s.image);
}

/* ---- Torn and hostile --------------------------------------------------- */

static void writer(struct image *image, uint64_t addr, size_t length)
{
	if (length == 64 && image->state < 3 && ++image->state == 2)
		image_put(image, addr + 24, (TTB_S2 + 0x4000) & ~0xfull);
}

static void restless(struct image *image, uint64_t addr, size_t length)
{
	if (length == 64 && addr == CDS)
		image_put(image, addr + 8, image_get(image, addr + 8) ^ 0x10000);
}

static void torn_entries(void **state)
{
	struct smmu s;

	(void)state;
	stream(&s, false, S2);
	s.image.before = writer;
	s.image.state = 0;
	expect_stages(&s, 1);
	assert_int_equal(s.context.stage[0].root, TTB_S2 + 0x4000);
	image_destroy(&s.image);
	stream(&s, false, S1);
	s.image.before = restless;
	expect_fault(&s, F_CD_FETCH);
	assert_in_range(s.image.reads, 2, 2 + SN_DEVICE_TRIES);
	image_destroy(&s.image);
}

static void hostile_structures(void **state)
{
	struct smmu s;
	struct image *image = &s.image;
	unsigned outcomes[3] = {0};

	(void)state;
	for (unsigned config = S1; config <= NESTED; config++) {
		uint64_t old_ste[8], old_cd[8];

		stream(&s, false, config);
		map_s2(&s, 0);
		ste(&s, 63, 59, 1);
		ste(&s, 65, 64, 2);
		memcpy(old_ste, (char *)image->words + s.ste, 64);
		memcpy(old_cd, (char *)image->words + s.cd, 64);
		for (unsigned n = 0; n < 40000; n++) {
			for (unsigned i = 0; i < 8; i++) {
				image_put(image, s.ste + i * 8,
				          n % 3 ? image_spoil(image, old_ste[i]) : old_ste[i]);
				image_put(image, s.cd + i * 8,
				          n % 2 ? image_spoil(image, old_cd[i]) : old_cd[i]);
			}
			s.reg.idr[3] = n & 4 ? IDR3 | IDR3_STT : IDR3;
			s.reg.idr[5] = n & 8 ? IDR5_52 : IDR5;
			s.reg.strtab_base_cfg = n % 64 ? 12 : (uint32_t)image_random(image);
			s.reg.strtab_base = n % 65 ? STRTAB : image_spoil(image, STRTAB);
			s.request.pasid = n & 16 ? SNEST_NO_PASID : n >> 5 & 3;
			s.request.kind = n >> 6 & 3;
			s.request.access = image_random(image) & 0xf;
			image->reads = 0;
			resolve(&s);
			outcomes[s.context.outcome]++;
			/* Four structures, two of them twice; two behind four levels. */
			assert_in_range(image->reads, 0, 6 + 2 * 5);
		}
		image_destroy(image);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_true(outcomes[i] > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disabled),
		cmocka_unit_test(linear_stream_table),
		cmocka_unit_test(two_level_stream_table),
		cmocka_unit_test(configurations),
		cmocka_unit_test(impossible_values),
		cmocka_unit_test(stage_1),
		cmocka_unit_test(granules_of_both_halves),
		cmocka_unit_test(input_sizes),
		cmocka_unit_test(table_addresses_within_their_size),
		cmocka_unit_test(disabled_halves),
		cmocka_unit_test(descriptor_flags),
		cmocka_unit_test(illegal_descriptors),
		cmocka_unit_test(worlds),
		cmocka_unit_test(overrides),
		cmocka_unit_test(substreams),
		cmocka_unit_test(default_substream),
		cmocka_unit_test(two_level_descriptors),
		cmocka_unit_test(stage_2),
		cmocka_unit_test(stage_2_start_levels),
		cmocka_unit_test(illegal_stage_2),
		cmocka_unit_test(descriptors_behind_stage_2),
		cmocka_unit_test(ats),
		cmocka_unit_test(torn_entries),
		cmocka_unit_test(hostile_structures),
	};

	return cmocka_run_group_tests_name("device_smmu", tests, NULL, NULL);
}
