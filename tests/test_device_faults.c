/* SPDX-License-Identifier: MIT */
/*
 * What each architecture calls a fault of its page tables: walks through
 * contexts over tables in a plain memory image, one broken entry at a time, and
 * the rules on which faults are recorded. Expected codes are the manuals'
 * numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "support/image.h"
#include "walkers/device.h"

/*
 * Tables that map IOVA 0 by four levels each: stage 0 at FRONT, stage 1 at
 * BACK, one page a level, index 0 throughout. Leaf: 2 MiB.
 */
#define FRONT 0x200000ull
#define BACK 0x210000ull
#define LEAF 0x000000ull

struct setup {
	struct image image;
	struct snest_context context;
	struct snest_request request;
	struct snest_walk result;
};

static struct snest_stage *add_stage(struct setup *s, unsigned format, unsigned levels,
                                     uint64_t root, uint32_t flags)
{
	struct snest_stage *stage = &s->context.stage[s->context.count++];

	*stage = (struct snest_stage){
		.size = sizeof(*stage),
		.format = (uint16_t)format,
		.levels = (uint8_t)levels,
		.root = root,
		.flags = flags,
	};
	return stage;
}

static void setup(struct setup *s, unsigned iommu, uint32_t flags)
{
	memset(s, 0, sizeof(*s));
	image_create(&s->image, true);
	s->context.iommu = (uint8_t)iommu;
	s->context.flags = flags;
	s->context.rights = SNEST_RIGHTS;
	s->context.ia_bits = 64;
	s->request = (struct snest_request){
		.size = sizeof(s->request),
		.pasid = SNEST_NO_PASID,
		.access = SNEST_READ,
	};
}

/* The code of the walk's fault; 0 if it does not fault. */
static unsigned code_of(struct setup *s)
{
	memset(&s->result, 0xa5, sizeof(s->result));
	assert_int_equal(snest_context_walk(s->image.vm, &s->context, &s->request, &s->result), 0);
	if (s->result.outcome != SNEST_WALK_FAULT)
		return 0;
	return s->result.fault.code;
}

/* The code with `word` at `addr`, for an access. */
static unsigned code_with(struct setup *s, uint64_t addr, uint64_t word, uint32_t access)
{
	uint64_t old = image_get(&s->image, addr);
	unsigned code;

	s->request.access = access;
	image_put(&s->image, addr, word);
	code = code_of(s);
	image_put(&s->image, addr, old);
	s->request.access = SNEST_READ;
	return code;
}

#define R SNEST_READ
#define W SNEST_WRITE
#define X SNEST_EXEC
#define USER 0u
#define PRIV SNEST_PRIVILEGED

/* ---- VT-d --------------------------------------------------------------- */

/* Entries of the two VT-d formats. */
#define SS_RW 3ull
#define SS_PS 0x80ull
#define SS_A 0x100ull
#define FS_P 1ull
#define FS_TABLE 0x27ull /* P, R/W, U/S, A */
#define FS_LEAF 0xe7ull  /* and D, PS */

static void put_second(struct setup *s, uint64_t root)
{
	for (unsigned i = 0; i < 2; i++)
		image_put(&s->image, root + i * 0x1000, (root + (i + 1) * 0x1000) | SS_RW);
	/* One to one for 4 MiB. */
	image_put(&s->image, root + 0x2000, LEAF | SS_PS | SS_RW);
	image_put(&s->image, root + 0x2008, 0x200000 | SS_PS | SS_RW);
}

static void put_first(struct setup *s, uint64_t root)
{
	for (unsigned i = 0; i < 2; i++)
		image_put(&s->image, root + i * 0x1000, (root + (i + 1) * 0x1000) | FS_TABLE);
	image_put(&s->image, root + 0x2000, LEAF | FS_LEAF);
}

static void vtd_legacy(void **state)
{
	struct setup s;
	struct snest_stage *stage;

	(void)state;
	setup(&s, SNEST_IOMMU_VTD, 0);
	stage = add_stage(&s, SNEST_FORMAT_VTD_SS, 4, FRONT, 0);
	stage->ia_bits = 48;
	stage->oa_bits = 46;
	put_second(&s, FRONT);
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(s.result.outcome, SNEST_WALK_HOST);
	/* Read and write differ, not present and denied do not. */
	assert_int_equal(code_with(&s, FRONT, 0, R), 0x6);
	assert_int_equal(code_with(&s, FRONT, 0, W), 0x5);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | SS_PS | 2, R), 0x6);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | SS_PS | 1, W), 0x5);
	/* Reserved: address width, page size, SNP; after the rights. */
	assert_int_equal(code_with(&s, FRONT + 0x2000, 1ull << 46 | SS_PS | SS_RW, R), 0xc);
	assert_int_equal(code_with(&s, FRONT, SS_PS | SS_RW, R), 0xc);
	assert_int_equal(code_with(&s, FRONT + 0x2000, 0x800 | SS_PS | SS_RW, R), 0xc);
	assert_int_equal(code_with(&s, FRONT + 0x2000, 0x800 | SS_PS | 1, W), 0x5);
	/* A table that is not there; the top one is the context entry's. */
	assert_int_equal(code_with(&s, FRONT, IMAGE_OUTSIDE | SS_RW, R), 0x7);
	stage->root = IMAGE_OUTSIDE;
	assert_int_equal(code_of(&s), 0x3);
	stage->root = FRONT;
	s.request.iova = 1ull << 48;
	assert_int_equal(code_of(&s), 0x4);
	image_destroy(&s.image);
}

static void vtd_second_stage(void **state)
{
	struct setup s;
	struct snest_stage *stage;

	(void)state;
	setup(&s, SNEST_IOMMU_VTD, SNEST_CONTEXT_SCALABLE);
	stage = add_stage(&s, SNEST_FORMAT_VTD_SS, 4, FRONT, 0);
	stage->oa_bits = 46;
	stage->ia_bits = 48;
	put_second(&s, FRONT);
	assert_int_equal(code_of(&s), 0);
	for (unsigned access = R; access <= W; access++)
		assert_int_equal(code_with(&s, FRONT, 0, access), 0x79);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | SS_PS | 2, R), 0x79);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | SS_PS | 1, W), 0x79);
	assert_int_equal(code_with(&s, FRONT, SS_PS | SS_RW, R), 0x7a);
	assert_int_equal(code_with(&s, FRONT, IMAGE_OUTSIDE | SS_RW, R), 0x78);
	stage->root = IMAGE_OUTSIDE;
	assert_int_equal(code_of(&s), 0x7b);
	stage->root = FRONT;
	s.request.iova = 1ull << 48;
	assert_int_equal(code_of(&s), 0x84);
	stage->ia_bits = 40;
	assert_int_equal(code_of(&s), 0x83);
	/* Flags that cannot be written: accessed, then dirty. */
	stage->flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	s.request.iova = 0;
	assert_int_equal(
		snest_memory_protect(s.image.vm, FRONT, FRONT + 0xfff, SNEST_REGION_READONLY), 0);
	s.request.access = R;
	assert_int_equal(code_of(&s), 0x7c);
	s.request.access = W;
	assert_int_equal(code_of(&s), 0x7d);
	image_destroy(&s.image);
}

static void vtd_first_stage(void **state)
{
	struct setup s;
	struct snest_stage *stage;

	(void)state;
	setup(&s, SNEST_IOMMU_VTD, SNEST_CONTEXT_SCALABLE);
	stage = add_stage(&s, SNEST_FORMAT_X86_64, 4, FRONT,
	                  SNEST_STAGE_HW_A | SNEST_STAGE_HW_D | SNEST_STAGE_X86_NX |
	                          SNEST_STAGE_X86_WP);
	stage->oa_bits = 46;
	put_first(&s, FRONT);
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(code_with(&s, FRONT, 0, R), 0x71);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | (FS_LEAF & ~4ull), R), 0x81);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | (FS_LEAF & ~2ull), W), 0x85);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | (FS_LEAF & ~2ull), W | PRIV), 0x85);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | FS_LEAF | 1ull << 63, X), 0x82);
	assert_int_equal(code_with(&s, FRONT, FRONT | FS_LEAF, R), 0x72);
	assert_int_equal(code_with(&s, FRONT, 1ull << 46 | FS_TABLE, R), 0x72);
	assert_int_equal(code_with(&s, FRONT, IMAGE_OUTSIDE | FS_TABLE, R), 0x70);
	stage->root = IMAGE_OUTSIDE;
	assert_int_equal(code_of(&s), 0x73);
	stage->root = FRONT;
	s.request.iova = 1ull << 47;
	assert_int_equal(code_of(&s), 0x80);
	/* An accessed flag in memory that cannot be written. */
	s.request.iova = 0;
	assert_int_equal(
		snest_memory_protect(s.image.vm, FRONT, FRONT + 0xfff, SNEST_REGION_READONLY), 0);
	assert_int_equal(code_with(&s, FRONT, (FRONT + 0x1000) | 7, R), 0x91);
	image_destroy(&s.image);
}

static void vtd_nested(void **state)
{
	struct setup s;
	struct snest_stage *second;
	const uint64_t leaf = BACK + 0x2008; /* maps the first stage's tables */

	(void)state;
	setup(&s, SNEST_IOMMU_VTD, SNEST_CONTEXT_SCALABLE);
	add_stage(&s, SNEST_FORMAT_X86_64, 4, FRONT, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	second = add_stage(&s, SNEST_FORMAT_VTD_SS, 4, BACK, 0);
	second->ia_bits = 48;
	put_first(&s, FRONT);
	put_second(&s, BACK);
	assert_int_equal(code_of(&s), 0);
	/* The first stage's own. */
	assert_int_equal(code_with(&s, FRONT, 0, R), 0x71);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | (FS_LEAF & ~2ull), W), 0x85);
	/* Its root table, then a lower one, without a right to read; by not being there too. */
	assert_int_equal(code_with(&s, leaf, 0, R), 0x75);
	assert_int_equal(code_with(&s, leaf, 0x200000 | SS_PS | 2, W), 0x75);
	assert_int_equal(s.result.fault.for_stage, 0);
	assert_int_equal(code_with(&s, FRONT, 0x400000 | FS_TABLE, R), 0x76);
	/* An accessed flag to set, and no right to write. */
	image_put(&s.image, leaf, 0x200000 | SS_PS | 1);
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(code_with(&s, FRONT, (FRONT + 0x1000) | 7, R), 0x77);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | 0xa7, W), 0x77);
	image_put(&s.image, leaf, 0x200000 | SS_PS | SS_RW);
	/* The page itself. */
	assert_int_equal(code_with(&s, BACK + 0x2000, 0, R), 0x79);
	assert_int_equal(code_with(&s, BACK + 0x2000, LEAF | SS_PS | 1, W), 0x79);
	assert_int_equal(code_with(&s, BACK + 0x2000, LEAF | SS_PS | 0x803, R), 0x7a);
	assert_int_equal(code_with(&s, BACK, IMAGE_OUTSIDE | SS_RW, R), 0x78);
	second->root = IMAGE_OUTSIDE;
	assert_int_equal(code_of(&s), 0x7b);
	second->root = BACK;
	/* Tables and pages beyond the second stage. */
	assert_int_equal(code_with(&s, FRONT + 0x2000, 1ull << 48 | FS_LEAF, R), 0x74);
	assert_int_equal(code_with(&s, FRONT, 1ull << 48 | FS_TABLE, R), 0x74);
	/* A first-stage table that the second stage puts where nothing is. */
	assert_int_equal(code_with(&s, leaf, IMAGE_OUTSIDE | SS_PS | SS_RW, R), 0x73);
	image_destroy(&s.image);
}

static void vtd_pass_through_width(void **state)
{
	struct setup s;

	(void)state;
	setup(&s, SNEST_IOMMU_VTD, 0);
	s.context.ia_bits = 48;
	s.request.iova = 0x1000;
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(s.result.outcome, SNEST_WALK_HOST);
	s.request.iova = 1ull << 48;
	assert_int_equal(code_of(&s), 0x4);
	s.context.flags = SNEST_CONTEXT_SCALABLE;
	assert_int_equal(code_of(&s), 0x83);
	image_destroy(&s.image);
}

static void vtd_recorded(void **state)
{
	/* Those that the lists at hand call qualified; and those that they do not. */
	static const uint8_t qualified[] = {0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x0d, 0x0e,
	                                    0x22, 0x24, 0x26, 0x27, 0x28, 0x51, 0x59, 0x5b, 0x70,
	                                    0x71, 0x72, 0x73, 0x80, 0x81, 0x85, 0x87, 0x91};
	static const uint8_t not_qualified[] = {0x01, 0x08, 0x09, 0x0a, 0x20,
	                                        0x21, 0x23, 0x25, 0x50, 0x58};
	struct snest_context c = {.iommu = SNEST_IOMMU_VTD, .flags = SNEST_CONTEXT_QUIET};
	struct snest_request r = {.size = sizeof(r)};
	struct snest_fault f = {.code = 0};

	(void)state;
	assert_false(snest_fault_recorded(&c, &r, &f));
	for (unsigned i = 0; i < sizeof(qualified); i++) {
		f.code = qualified[i];
		c.flags = SNEST_CONTEXT_QUIET;
		assert_false(snest_fault_recorded(&c, &r, &f));
		c.flags = 0;
		assert_true(snest_fault_recorded(&c, &r, &f));
	}
	for (unsigned i = 0; i < sizeof(not_qualified); i++) {
		f.code = not_qualified[i];
		c.flags = SNEST_CONTEXT_QUIET;
		assert_true(snest_fault_recorded(&c, &r, &f));
	}
	/* A translation request without rights is answered, not recorded. */
	c.flags = 0;
	r.kind = SNEST_REQUEST_TRANSLATION;
	f.code = 0x5;
	assert_false(snest_fault_recorded(&c, &r, &f));
	f.code = 0xc;
	assert_true(snest_fault_recorded(&c, &r, &f));
	assert_false(sn_vtd_fault_qualified(0x10000));
}

/* ---- AMD-Vi ------------------------------------------------------------- */

#define EV(number) ((number) << 12)
#define GN 0x001u
#define NX 0x002u
#define US 0x004u
#define PR 0x010u
#define RW 0x020u
#define PE 0x040u
#define RZ 0x080u
#define TR 0x100u
#define ABORT 0x200u

#define V1(level) ((uint64_t)(level) << 9 | 1ull << 61 | 1ull << 62 | 1)

static void put_v1(struct setup *s, uint64_t root)
{
	for (unsigned i = 0; i < 2; i++)
		image_put(&s->image, root + i * 0x1000, (root + (i + 1) * 0x1000) | V1(3 - i));
	image_put(&s->image, root + 0x2000, LEAF | V1(0));
	image_put(&s->image, root + 0x2008, 0x200000 | V1(0));
}

static void amd_host(void **state)
{
	struct setup s;
	struct snest_stage *stage;

	(void)state;
	setup(&s, SNEST_IOMMU_AMD, 0);
	stage = add_stage(&s, SNEST_FORMAT_AMD_V1, 4, FRONT, 0);
	put_v1(&s, FRONT);
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(code_with(&s, FRONT, 0, R), EV(2));
	assert_int_equal(code_with(&s, FRONT, 0, W), EV(2) | RW);
	/* Rights. */
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | (V1(0) & ~(1ull << 61)), R),
	                 EV(2) | PR | PE);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | (V1(0) & ~(1ull << 62)), W),
	                 EV(2) | PR | PE | RW);
	/* Reserved bits; levels. */
	assert_int_equal(code_with(&s, FRONT, (FRONT + 0x1000) | V1(3) | 1ull << 52, R),
	                 EV(2) | PR | RZ);
	assert_int_equal(code_with(&s, FRONT, (FRONT + 0x1000) | V1(4), R), EV(2) | PR);
	/* Tables that are not there. */
	assert_int_equal(code_with(&s, FRONT, IMAGE_OUTSIDE | V1(3), R), EV(4) | ABORT);
	s.request.kind = SNEST_REQUEST_TRANSLATION;
	assert_int_equal(code_with(&s, FRONT, 0, R), EV(2) | TR);
	assert_false(snest_fault_recorded(&s.context, &s.request, &s.result.fault));
	s.request.kind = SNEST_REQUEST_UNTRANSLATED;
	s.request.iova = 1ull << 48;
	assert_int_equal(code_of(&s), EV(2));
	/* The entry's rights alone, without a stage. */
	s.context.count = 0;
	s.context.rights = R;
	s.request.iova = 0;
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(s.result.rights, R);
	s.request.access = W;
	assert_int_equal(code_of(&s), EV(2) | PR | PE | RW);
	s.context.rights = W;
	s.request.access = R;
	assert_int_equal(code_of(&s), EV(2) | PR | PE);
	(void)stage;
	image_destroy(&s.image);
}

static void amd_guest(void **state)
{
	struct setup s;

	(void)state;
	setup(&s, SNEST_IOMMU_AMD, 0);
	add_stage(&s, SNEST_FORMAT_AMD_V2, 4, FRONT,
	          SNEST_STAGE_HW_A | SNEST_STAGE_HW_D | SNEST_STAGE_X86_NX);
	add_stage(&s, SNEST_FORMAT_AMD_V1, 4, BACK, 0);
	put_first(&s, FRONT);
	put_v1(&s, BACK);
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(code_with(&s, FRONT, 0, R), EV(2) | GN | US);
	assert_int_equal(code_with(&s, FRONT, 0, R | PRIV), EV(2) | GN);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | (FS_LEAF & ~2ull), W),
	                 EV(2) | GN | US | PR | PE | RW);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | (FS_LEAF & ~4ull), R),
	                 EV(2) | GN | US | PR | PE);
	assert_int_equal(code_with(&s, FRONT + 0x2000, LEAF | FS_LEAF | 1ull << 63, X),
	                 EV(2) | GN | NX | US | PR | PE);
	assert_int_equal(code_with(&s, FRONT, FRONT | FS_LEAF, R), EV(2) | GN | US | PR | RZ);
	/* The host's, for the page and for a guest table. */
	assert_int_equal(code_with(&s, BACK + 0x2000, 0, R), EV(2));
	assert_int_equal(code_with(&s, BACK + 0x2008, 0, W), EV(2) | RW);
	assert_int_equal(code_with(&s, BACK + 0x2008, IMAGE_OUTSIDE | V1(0), R),
	                 EV(4) | GN | US | ABORT);
	s.request.iova = 1ull << 47;
	assert_int_equal(code_of(&s), EV(2) | GN | US);
	image_destroy(&s.image);
}

/* ---- SMMUv3 ------------------------------------------------------------- */

#define ARM_TABLE 3ull
#define ARM_BLOCK 1ull
#define S1_LEAF (ARM_BLOCK | 1ull << 6 | 1ull << 10) /* EL0, AF */
#define S2_LEAF (ARM_BLOCK | 3ull << 6 | 1ull << 10) /* read, write, AF */

static void put_arm(struct setup *s, uint64_t root, uint64_t leaf)
{
	for (unsigned i = 0; i < 2; i++)
		image_put(&s->image, root + i * 0x1000, (root + (i + 1) * 0x1000) | ARM_TABLE);
	image_put(&s->image, root + 0x2000, LEAF | leaf);
	image_put(&s->image, root + 0x2008, 0x200000 | leaf);
}

static void smmu_nested(void **state)
{
	struct setup s;
	struct snest_stage *first, *second;

	(void)state;
	setup(&s, SNEST_IOMMU_SMMU, 0);
	first = add_stage(&s, SNEST_FORMAT_ARM_S1, 4, FRONT, 0);
	second = add_stage(&s, SNEST_FORMAT_ARM_S2, 4, BACK, 0);
	first->granule_lg2 = second->granule_lg2 = 12;
	first->ia_bits = second->ia_bits = 48;
	first->oa_bits = second->oa_bits = 40;
	put_arm(&s, FRONT, S1_LEAF);
	put_arm(&s, BACK, S2_LEAF);
	assert_int_equal(code_of(&s), 0);

	struct {
		uint64_t addr, word;
		uint32_t access;
		unsigned code, class;
	} cases[] = {
		{FRONT, 0, R, 0x10, SN_SMMU_CLASS_IN},
		{FRONT, ARM_BLOCK, R, 0x10, SN_SMMU_CLASS_IN},
		{FRONT, 1ull << 40 | ARM_TABLE, R, 0x11, SN_SMMU_CLASS_IN},
		{FRONT + 0x2000, 1ull << 40 | S1_LEAF, R, 0x11, SN_SMMU_CLASS_IN},
		{FRONT + 0x2000, S1_LEAF & ~(1ull << 10), R, 0x12, SN_SMMU_CLASS_IN},
		{FRONT + 0x2000, S1_LEAF & ~(1ull << 6), R, 0x13, SN_SMMU_CLASS_IN},
		{FRONT + 0x2000, S1_LEAF | 1ull << 7, W, 0x13, SN_SMMU_CLASS_IN},
		/* Stage 2, for the page. */
		{BACK + 0x2000, 0, R, 0x10, SN_SMMU_S2 | SN_SMMU_CLASS_IN},
		{BACK + 0x2000, LEAF | (S2_LEAF & ~(1ull << 7)), W, 0x13,
	         SN_SMMU_S2 | SN_SMMU_CLASS_IN},
		{BACK + 0x2000, LEAF | (S2_LEAF & ~(1ull << 10)), W, 0x12,
	         SN_SMMU_S2 | SN_SMMU_CLASS_IN},
		/* Stage 2, for a table of stage 1. */
		{BACK + 0x2008, 0, R, 0x10, SN_SMMU_S2 | SN_SMMU_CLASS_TT},
		{BACK + 0x2008, 1ull << 40 | S2_LEAF, R, 0x11, SN_SMMU_S2 | SN_SMMU_CLASS_TT},
		{BACK + 0x2008, S2_LEAF & ~(3ull << 6), R, 0x13, SN_SMMU_S2 | SN_SMMU_CLASS_TT},
		/* Tables that are not there: stage 2's when stage 1's are sought, stage 1's. */
		{BACK, IMAGE_OUTSIDE | ARM_TABLE, R, 0x0b, SN_SMMU_S2 | SN_SMMU_CLASS_TT},
		{BACK + 0x2008, IMAGE_OUTSIDE | S2_LEAF, R, 0x0b, SN_SMMU_CLASS_TT},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(code_with(&s, cases[i].addr, cases[i].word, cases[i].access),
		                 cases[i].code);
		assert_int_equal(sn_smmu_fault_class(&s.context, &s.result.fault), cases[i].class);
		/* R of the stage that faults counts; other events are always recorded. */
		s.context.flags =
			cases[i].class & SN_SMMU_S2 ? SNEST_CONTEXT_QUIET_2 : SNEST_CONTEXT_QUIET;
		assert_int_equal(snest_fault_recorded(&s.context, &s.request, &s.result.fault),
		                 cases[i].code == 0x0b);
		s.context.flags ^= SNEST_CONTEXT_QUIET | SNEST_CONTEXT_QUIET_2;
		assert_true(snest_fault_recorded(&s.context, &s.request, &s.result.fault));
		s.context.flags = 0;
	}
	s.request.iova = 1ull << 48;
	assert_int_equal(code_of(&s), 0x10);
	/* Without stage 1 the width still is its matter. */
	s.context.stage[0] = s.context.stage[1];
	s.context.count = 1;
	s.context.ia_bits = 40;
	s.request.iova = 1ull << 40;
	assert_int_equal(code_of(&s), 0x11);
	assert_int_equal(sn_smmu_fault_class(&s.context, &s.result.fault), SN_SMMU_CLASS_IN);
	s.context.ia_bits = 64;
	s.request.iova = 1ull << 48;
	assert_int_equal(code_of(&s), 0x10);
	assert_int_equal(sn_smmu_fault_class(&s.context, &s.result.fault),
	                 SN_SMMU_S2 | SN_SMMU_CLASS_IN);
	image_destroy(&s.image);
}

/* ---- RISC-V ------------------------------------------------------------- */

#define PTE(addr, bits) ((addr) >> 12 << 10 | (bits))
#define RV_TABLE 0x1ull
#define RV_LEAF 0xdfull /* V R W X U A D */

static void put_riscv(struct setup *s, uint64_t root)
{
	for (unsigned i = 0; i < 2; i++)
		image_put(&s->image, root + (i ? 0x4000 + (i - 1) * 0x1000 : 0),
		          PTE(root + 0x4000 + i * 0x1000, RV_TABLE));
	image_put(&s->image, root + 0x5000, PTE(LEAF, RV_LEAF));
	image_put(&s->image, root + 0x5008, PTE(0x200000ull, RV_LEAF));
}

static void riscv_nested(void **state)
{
	static const struct {
		uint32_t access;
		unsigned page, guest, memory;
	} kinds[] = {{R, 13, 21, 5}, {W, 15, 23, 7}, {X, 12, 20, 1}};
	struct setup s;

	(void)state;
	setup(&s, SNEST_IOMMU_RISCV, SNEST_CONTEXT_UNPRIVILEGED);
	add_stage(&s, SNEST_FORMAT_RISCV64, 4, FRONT, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	add_stage(&s, SNEST_FORMAT_RISCV64, 4, BACK, SNEST_STAGE_RISCV_X4);
	put_riscv(&s, FRONT);
	put_riscv(&s, BACK);
	for (unsigned i = 0; i < 3; i++) {
		uint32_t access = kinds[i].access;

		s.request.access = access;
		assert_int_equal(code_of(&s), 0);
		/* Privilege is taken away before it gets anywhere. */
		s.request.access |= PRIV;
		assert_int_equal(code_of(&s), 0);
		assert_int_equal(code_with(&s, FRONT, 0, access), kinds[i].page);
		assert_int_equal(code_with(&s, FRONT + 0x5000, PTE(0x1000ull, RV_LEAF), access),
		                 kinds[i].page);
		assert_int_equal(
			code_with(&s, FRONT + 0x5000, PTE(LEAF, RV_LEAF & ~0x10ull), access),
			kinds[i].page);
		assert_int_equal(sn_riscv_fault_implicit(&s.context, &s.result.fault), 0);
		/* The second stage, for the page: explicit. */
		assert_int_equal(code_with(&s, BACK + 0x5000, 0, access), kinds[i].guest);
		assert_int_equal(sn_riscv_fault_implicit(&s.context, &s.result.fault), 0);
		/* For a table: implicit, and the cause is still the request's. */
		assert_int_equal(code_with(&s, BACK + 0x5008, 0, access), kinds[i].guest);
		assert_int_equal(sn_riscv_fault_implicit(&s.context, &s.result.fault), 1);
		/* For an accessed flag: an implicit write. */
		image_put(&s.image, BACK + 0x5008, PTE(0x200000ull, RV_LEAF & ~0x84ull));
		assert_int_equal(
			code_with(&s, FRONT + 0x5000, PTE(LEAF, RV_LEAF & ~0x40ull), access),
			kinds[i].guest);
		assert_int_equal(sn_riscv_fault_implicit(&s.context, &s.result.fault), 3);
		image_put(&s.image, BACK + 0x5008, PTE(0x200000ull, RV_LEAF));
		/* No memory. */
		assert_int_equal(code_with(&s, BACK + 0x5008, PTE(IMAGE_OUTSIDE, RV_LEAF), access),
		                 kinds[i].memory);
		assert_int_equal(code_with(&s, BACK, PTE(IMAGE_OUTSIDE, RV_TABLE), access),
		                 kinds[i].memory);
	}
	image_destroy(&s.image);
}

static void riscv_recorded(void **state)
{
	static const uint16_t always[] = {256, 257, 258, 259, 268, 272, 273};
	static const uint16_t not_for_translation[] = {12, 13, 15, 20, 21, 23, 262, 266};
	struct snest_context c = {.iommu = SNEST_IOMMU_RISCV};
	struct snest_request r = {.size = sizeof(r)};
	struct snest_fault f = {.code = 0};

	(void)state;
	for (f.code = 1; f.code < 275; f.code++) {
		bool is_always = false, answered = false;

		if (!snest_fault_code_name("riscv", f.code))
			continue;
		for (unsigned i = 0; i < sizeof(always) / sizeof(always[0]); i++)
			is_always |= f.code == always[i];
		for (unsigned i = 0; i < 8; i++)
			answered |= f.code == not_for_translation[i];
		r.kind = SNEST_REQUEST_UNTRANSLATED;
		c.flags = 0;
		assert_true(snest_fault_recorded(&c, &r, &f));
		c.flags = SNEST_CONTEXT_QUIET;
		assert_int_equal(snest_fault_recorded(&c, &r, &f), is_always);
		c.flags = 0;
		r.kind = SNEST_REQUEST_TRANSLATION;
		assert_int_equal(snest_fault_recorded(&c, &r, &f), !answered);
	}
}

/* ---- All ---------------------------------------------------------------- */

static void what_the_host_refuses_is_nobodys(void **state)
{
	struct setup s;

	(void)state;
	setup(&s, SNEST_IOMMU_VTD, 0);
	add_stage(&s, SNEST_FORMAT_VTD_SS, 4, FRONT, 0);
	put_second(&s, FRONT);
	assert_int_equal(snest_memory_protect(s.image.vm, 0, 0xfff, SNEST_REGION_READONLY), 0);
	s.request.access = W;
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(s.result.outcome, SNEST_WALK_FAULT);
	assert_int_equal(s.result.fault.reason, SNEST_FAULT_WRITE);
	assert_false(snest_fault_recorded(&s.context, &s.request, &s.result.fault));
	image_destroy(&s.image);
}

/*
 * A host with a second stage of its own: GPAs from 0 on are 2 MiB further up,
 * 2 MiB long; nothing else is there.
 */
static void host_with_a_stage(struct setup *s, unsigned iommu)
{
	struct snest_vm_config config = {.size = sizeof(config)};
	struct snest_stage host = {
		.size = sizeof(host), .format = SNEST_FORMAT_VTD_SS, .levels = 3, .root = 0x1000};
	struct snest_region region = {
		.size = sizeof(region), .last = IMAGE_SIZE - 1, .host = 0x100000000000ull};

	setup(s, iommu, 0);
	snest_vm_destroy(s->image.vm);
	config.host_stage = &host;
	assert_int_equal(snest_vm_create(&config, &s->image.vm), 0);
	region.mapping = s->image.words;
	assert_int_equal(snest_memory_add(s->image.vm, &region), 0);
	image_put(&s->image, 0x1000, 0x2000 | SS_RW);
	image_put(&s->image, 0x2000, 0x200000 | SS_PS | SS_RW);
}

static void guest_put(struct setup *s, uint64_t gpa, uint64_t word)
{
	image_put(&s->image, gpa + 0x200000, word);
}

static void structures_behind_the_hosts_stage(void **state)
{
	struct setup s;
	struct snest_vtd_registers reg = {.size = sizeof(reg),
	                                  .haw = 48,
	                                  .rtaddr = 0x1000,
	                                  .cap = 0x80d2008c222f0686ull,
	                                  .ecap = 0xf00f4e};

	(void)state;
	host_with_a_stage(&s, SNEST_IOMMU_VTD);
	guest_put(&s, 0x1000, 0x2000 | 1);
	guest_put(&s, 0x2000, 0x3000 | 1);
	guest_put(&s, 0x2008, 1);
	for (unsigned i = 0; i < 2; i++)
		guest_put(&s, 0x3000 + i * 0x1000, (0x4000 + i * 0x1000) | SS_RW);
	guest_put(&s, 0x5000, 0x6000 | SS_RW);
	guest_put(&s, 0x5008, 0x40000000 | SS_RW);
	assert_int_equal(snest_vtd_context(s.image.vm, &reg, &s.request, &s.context), 0);
	assert_int_equal(s.context.outcome, SNEST_CONTEXT_STAGES);
	assert_int_equal(s.context.count, 1);
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(s.result.outcome, SNEST_WALK_HOST);
	assert_int_equal(s.result.host, 0x100000000000ull + 0x206000);
	/* A page that the host does not have: no fault of the guest's IOMMU. */
	s.request.iova = 0x1000;
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(s.result.outcome, SNEST_WALK_FAULT);
	assert_int_equal(s.result.fault.stage, 1);
	/* A table that the host does not have: as one outside memory. */
	s.request.iova = 0;
	assert_int_equal(code_with(&s, 0x204000, 0x40000000 | SS_RW, R), 0x7);
	s.context.stage[0].root = 0x40000000;
	assert_int_equal(code_of(&s), 0x3);
	/* Structures that the host does not have. */
	reg.rtaddr = 0x40000000;
	assert_int_equal(snest_vtd_context(s.image.vm, &reg, &s.request, &s.context), 0);
	assert_int_equal(s.context.fault.code, 0x8);
	image_destroy(&s.image);
}

static void nested_structures_behind_the_hosts_stage(void **state)
{
	struct setup s;
	struct snest_amd_registers reg = {.size = sizeof(reg),
	                                  .device_table = {0x1000},
	                                  .control = 1 | 1 << 16,
	                                  .efr = 1 << 4 | 7ull << 32};

	(void)state;
	host_with_a_stage(&s, SNEST_IOMMU_AMD);
	/* Guest tables at GPA 0x3000 of a host table of one level at GPA 0x2000. */
	guest_put(&s, 0x1000, 0x2000 | 3 | 1ull << 9 | 1ull << 55 | 3ull << 61 | 3ull << 58);
	guest_put(&s, 0x2018, 0x8000 | 1 | 3ull << 61);
	guest_put(&s, 0x8028, 0x7000 | 1);
	s.request.pasid = 5;
	assert_int_equal(snest_amd_context(s.image.vm, &reg, &s.request, &s.context), 0);
	assert_int_equal(s.context.outcome, SNEST_CONTEXT_STAGES);
	assert_int_equal(s.context.count, 2);
	assert_int_equal(s.context.stage[0].root, 0x7000);
	/* The guest's host table lies where the host has nothing. */
	guest_put(&s, 0x1000, 0x40000000 | 3 | 1ull << 9 | 1ull << 55 | 3ull << 61 | 3ull << 58);
	assert_int_equal(snest_amd_context(s.image.vm, &reg, &s.request, &s.context), 0);
	assert_int_equal(s.context.outcome, SNEST_CONTEXT_FAULT);
	assert_int_equal(s.context.fault.code, EV(4) | ABORT);
	/* It maps the guest's tables there. */
	guest_put(&s, 0x1000, 0x2000 | 3 | 1ull << 9 | 1ull << 55 | 3ull << 61 | 3ull << 58);
	guest_put(&s, 0x2018, 0x40000000 | 1 | 3ull << 61);
	assert_int_equal(snest_amd_context(s.image.vm, &reg, &s.request, &s.context), 0);
	assert_int_equal(s.context.fault.code, EV(4) | GN | ABORT);
	image_destroy(&s.image);
}

static void blocked_and_faulted_contexts(void **state)
{
	struct setup s;

	(void)state;
	setup(&s, SNEST_IOMMU_VTD, 0);
	s.request.iova = 0x5000;
	s.context.outcome = SNEST_CONTEXT_BLOCKED;
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(s.result.outcome, SNEST_WALK_FAULT);
	assert_int_equal(s.result.fault.reason, SNEST_FAULT_BLOCKED);
	assert_int_equal(s.result.fault.iova, 0x5000);
	s.context.outcome = SNEST_CONTEXT_FAULT;
	s.context.fault.reason = SNEST_FAULT_CONFIG;
	s.context.fault.code = 2;
	assert_int_equal(code_of(&s), 2);
	assert_int_equal(snest_fault_code(&s.context, &s.request, &s.result.fault), 2);
	s.request.size = 1;
	assert_int_equal(snest_context_walk(s.image.vm, &s.context, &s.request, &s.result),
	                 -EINVAL);
	image_destroy(&s.image);
}

static void flags_stay_clean_on_request(void **state)
{
	struct setup s;

	(void)state;
	setup(&s, SNEST_IOMMU_VTD, SNEST_CONTEXT_SCALABLE);
	add_stage(&s, SNEST_FORMAT_X86_64, 4, FRONT, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	put_first(&s, FRONT);
	image_put(&s.image, FRONT + 0x2000, LEAF | 0x87);
	s.request.access = W;
	s.request.flags = SNEST_REQUEST_NO_UPDATE;
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(image_get(&s.image, FRONT + 0x2000), LEAF | 0x87);
	s.request.flags = 0;
	assert_int_equal(code_of(&s), 0);
	assert_int_equal(image_get(&s.image, FRONT + 0x2000), LEAF | 0xe7);
	image_destroy(&s.image);
}

static void names(void **state)
{
	unsigned vtd = 0, amd = 0, smmu = 0, riscv = 0;

	(void)state;
	for (unsigned code = 0; code < 0x1000; code++) {
		vtd += !!snest_fault_code_name("vtd", code);
		amd += !!snest_fault_code_name("amd", code);
		smmu += !!snest_fault_code_name("smmu", code);
		riscv += !!snest_fault_code_name("riscv", code);
	}
	assert_int_equal(vtd, 14 + 10 + 3 + 3 + 9 + 3 + 6 + 14 + 8 + 2);
	assert_int_equal(amd, 11);
	assert_int_equal(smmu, 19);
	assert_int_equal(riscv, 11 + 19);
	assert_string_equal(snest_fault_code_name("vtd", 2), "context entry not present");
	assert_string_equal(snest_fault_code_name("amd", 0x2012), "IO_PAGE_FAULT");
	assert_string_equal(snest_fault_code_name("amd", 2), "IO_PAGE_FAULT");
	assert_string_equal(snest_fault_code_name("smmu", 0x10), "F_TRANSLATION");
	assert_string_equal(snest_fault_code_name("riscv", 260), "transaction type disallowed");
	assert_null(snest_fault_code_name("vtd", 0));
	assert_null(snest_fault_code_name("none", 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vtd_legacy),
		cmocka_unit_test(vtd_second_stage),
		cmocka_unit_test(vtd_first_stage),
		cmocka_unit_test(vtd_nested),
		cmocka_unit_test(vtd_pass_through_width),
		cmocka_unit_test(vtd_recorded),
		cmocka_unit_test(amd_host),
		cmocka_unit_test(amd_guest),
		cmocka_unit_test(smmu_nested),
		cmocka_unit_test(riscv_nested),
		cmocka_unit_test(riscv_recorded),
		cmocka_unit_test(what_the_host_refuses_is_nobodys),
		cmocka_unit_test(structures_behind_the_hosts_stage),
		cmocka_unit_test(nested_structures_behind_the_hosts_stage),
		cmocka_unit_test(blocked_and_faulted_contexts),
		cmocka_unit_test(flags_stay_clean_on_request),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests_name("device_faults", tests, NULL, NULL);
}
