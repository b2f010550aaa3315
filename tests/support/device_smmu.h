/* SPDX-License-Identifier: MIT */
/*
 * SMMUv3 device structures in a plain memory image: one valid stream, for tests
 * that then change one thing at a time. Bits are numbered over the whole
 * structure, as the manual does. For tests only; include after cmocka.h.
 */
#ifndef DEVICE_SMMU_H
#define DEVICE_SMMU_H

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
static inline void field(struct smmu *s, uint64_t addr, unsigned last, unsigned first,
                         uint64_t value)
{
	for (unsigned bit = first; bit <= last; bit++) {
		uint64_t at = addr + bit / 64 * 8, mask = 1ull << bit % 64;
		uint64_t word = image_get(&s->image, at) & ~mask;

		image_put(&s->image, at, value >> (bit - first) & 1 ? word | mask : word);
	}
}

static inline void ste(struct smmu *s, unsigned last, unsigned first, uint64_t value)
{
	field(s, s->ste, last, first, value);
}

static inline void cd(struct smmu *s, unsigned last, unsigned first, uint64_t value)
{
	field(s, s->cd, last, first, value);
}

/* A stream with one descriptor, all of it plain: 48 bits, 4K. */
static inline void stream(struct smmu *s, bool direct, unsigned config)
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
static inline void map_s2(struct smmu *s, uint64_t to)
{
	image_put(&s->image, TTB_S2, to | 1 << 10 | 3 << 6 | 1);
}

static inline void resolve(struct smmu *s)
{
	memset(&s->context, 0xa5, sizeof(s->context));
	assert_int_equal(snest_smmu_context(s->image.vm, &s->reg, &s->request, &s->context), 0);
	image_check("smmu", &s->context);
}

static inline void expect_fault(struct smmu *s, unsigned code)
{
	resolve(s);
	assert_int_equal(s->context.outcome, SNEST_CONTEXT_FAULT);
	assert_int_equal(s->context.fault.code, code);
}

static inline void expect_stages(struct smmu *s, unsigned count)
{
	resolve(s);
	assert_int_equal(s->context.outcome, SNEST_CONTEXT_STAGES);
	assert_int_equal(s->context.count, count);
}

static inline void expect_blocked(struct smmu *s)
{
	resolve(s);
	assert_int_equal(s->context.outcome, SNEST_CONTEXT_BLOCKED);
}

/* A field of the entry or descriptor, changed for one look. */
static inline void fault_with(struct smmu *s, uint64_t addr, unsigned last, unsigned first,
                              uint64_t value, unsigned code)
{
	uint64_t old[8];

	memcpy(old, (char *)s->image.words + addr, sizeof(old));
	field(s, addr, last, first, value);
	expect_fault(s, code);
	memcpy((char *)s->image.words + addr, old, sizeof(old));
}

static inline void bad_ste(struct smmu *s, unsigned last, unsigned first, uint64_t value)
{
	fault_with(s, s->ste, last, first, value, C_BAD_STE);
}

static inline void bad_cd(struct smmu *s, unsigned last, unsigned first, uint64_t value)
{
	fault_with(s, s->cd, last, first, value, C_BAD_CD);
}

#endif
