/* SPDX-License-Identifier: MIT */
/*
 * VT-d device structures: each test writes tables into a plain memory image and
 * changes one thing at a time. Expected codes are the manual's numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/image.h"
#include "walkers/device.h"

/* Where the tables lie. */
#define ROOT 0x1000ull
#define CONTEXT 0x2000ull
#define CONTEXT_HIGH 0x3000ull /* scalable mode, devfn 128-255 */
#define DIRECTORY 0x4000ull    /* up to 128 KiB */
#define PASIDS 0x40000ull
#define SECOND 0x50000ull
#define FIRST 0x60000ull

#define BUS 3u
#define DEVFN 0x28u
#define RID (BUS << 8 | DEVFN)
#define PASID 0x1234u

/* CAP: ND 6, 39 and 48 bits, MGAW 48, 2M and 1G, FS1GP. */
#define CAP 0x0100000c002f0606ull
#define CAP_FS5LP (1ull << 60)
#define CAP_SAGAW_57 (1ull << 11)

#define DT (1ull << 2)
#define PT (1ull << 6)
#define SC (1ull << 7)
#define NEST (1ull << 26)
#define PRS (1ull << 29)
#define ERS (1ull << 30)
#define SRS (1ull << 31)
#define EAFS (1ull << 34)
#define PASID_CAP (1ull << 40)
#define SMTS (1ull << 43)
#define SSADS (1ull << 45)
#define SSTS (1ull << 46)
#define FSTS (1ull << 47)
#define RPS (1ull << 49)
#define RPRIVS (1ull << 53)
#define ECAP                                                                                     \
	(DT | PT | SC | NEST | PRS | SRS | EAFS | PASID_CAP | SMTS | SSADS | SSTS | FSTS | RPS | \
	 RPRIVS)

#define SCALABLE_MODE (1ull << 10)

#define DID 0xbeefull

struct vtd {
	struct image image;
	struct snest_vtd_registers reg;
	struct snest_request request;
	struct snest_context context;
};

static uint64_t legacy_entry(void)
{
	return CONTEXT + DEVFN * 16;
}

static uint64_t scalable_entry(void)
{
	return CONTEXT + DEVFN * 32;
}

static uint64_t pasid_entry(uint32_t pasid)
{
	return PASIDS + (pasid & 63) * 64;
}

static void common(struct vtd *v, bool direct)
{
	image_create(&v->image, direct);
	v->reg = (struct snest_vtd_registers){
		.size = sizeof(v->reg),
		.haw = 46,
		.rtaddr = ROOT,
		.cap = CAP,
		.ecap = ECAP,
	};
	v->request = (struct snest_request){
		.size = sizeof(v->request),
		.rid = RID,
		.pasid = SNEST_NO_PASID,
		.access = SNEST_READ,
		.iova = 0x123456000,
	};
}

/* A legacy device with a 48-bit second stage. */
static void legacy(struct vtd *v, bool direct)
{
	common(v, direct);
	image_put(&v->image, ROOT + BUS * 16, CONTEXT | 1);
	image_put(&v->image, legacy_entry(), SECOND | 1);
	image_put(&v->image, legacy_entry() + 8, DID << 8 | 2);
}

/* A scalable-mode device; RID_PASID and PASID both lead to entries of `pgtt`. */
static void scalable(struct vtd *v, bool direct, unsigned pgtt)
{
	common(v, direct);
	v->reg.rtaddr |= SCALABLE_MODE;
	image_put(&v->image, ROOT + BUS * 16, CONTEXT | 1);
	image_put(&v->image, ROOT + BUS * 16 + 8, CONTEXT_HIGH | 1);
	/* DTE, PASIDE, PRE; PDTS 7: all PASIDs. */
	image_put(&v->image, scalable_entry(), DIRECTORY | 7 << 9 | 0x1d);
	image_put(&v->image, DIRECTORY, PASIDS | 1);
	image_put(&v->image, DIRECTORY + (PASID >> 6) * 8, PASIDS | 1);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = pasid_entry(i ? PASID : 0);

		image_put(&v->image, at, SECOND | pgtt << 6 | 2 << 2 | 1);
		image_put(&v->image, at + 8, DID);
		image_put(&v->image, at + 16, FIRST);
	}
}

static void resolve(struct vtd *v)
{
	memset(&v->context, 0xa5, sizeof(v->context));
	assert_int_equal(snest_vtd_context(v->image.vm, &v->reg, &v->request, &v->context), 0);
	image_check("vtd", &v->context);
}

static void expect_fault(struct vtd *v, unsigned code)
{
	resolve(v);
	assert_int_equal(v->context.outcome, SNEST_CONTEXT_FAULT);
	assert_int_equal(v->context.fault.reason, SNEST_FAULT_CONFIG);
	assert_int_equal(v->context.fault.code, code);
	assert_int_equal(v->context.fault.iova, v->request.iova);
}

static void expect_stages(struct vtd *v, unsigned count)
{
	resolve(v);
	assert_int_equal(v->context.outcome, SNEST_CONTEXT_STAGES);
	assert_int_equal(v->context.count, count);
	assert_int_equal(v->context.rights, SNEST_RIGHTS);
}

/* Changes a word, resolves, expects a fault, and restores the word. */
static void fault_with(struct vtd *v, uint64_t addr, uint64_t word, unsigned code)
{
	uint64_t old = image_get(&v->image, addr);

	image_put(&v->image, addr, word);
	expect_fault(v, code);
	image_put(&v->image, addr, old);
}

/* Each bit of first..last, set alone, is reserved and gives `code`. */
static void reserved_bits(struct vtd *v, uint64_t addr, unsigned first, unsigned last,
                          unsigned code)
{
	for (unsigned bit = first; bit <= last; bit++)
		fault_with(v, addr, image_get(&v->image, addr) | 1ull << bit, code);
}

static void quiet_is(struct vtd *v, bool quiet)
{
	assert_int_equal(!!(v->context.flags & SNEST_CONTEXT_QUIET), quiet);
	assert_int_equal(snest_fault_recorded(&v->context, &v->request, &v->context.fault),
	                 !quiet || !sn_vtd_fault_qualified(v->context.fault.code));
}

/* ---- Legacy mode ------------------------------------------------------- */

static void legacy_second_stage(void **state)
{
	struct vtd v;
	const struct snest_stage *stage = &v.context.stage[0];

	(void)state;
	for (unsigned direct = 0; direct < 2; direct++) {
		legacy(&v, direct);
		expect_stages(&v, 1);
		assert_int_equal(v.context.iommu, SNEST_IOMMU_VTD);
		assert_int_equal(v.context.flags, 0);
		assert_int_equal(v.context.domain, DID);
		assert_int_equal(v.context.space, 0);
		assert_int_equal(v.context.pasid, SNEST_NO_PASID);
		assert_int_equal(stage->format, SNEST_FORMAT_VTD_SS);
		assert_int_equal(stage->levels, 4);
		assert_int_equal(stage->ia_bits, 48);
		assert_int_equal(stage->oa_bits, 46);
		assert_int_equal(stage->root, SECOND);
		/* SC allows SNP; CAP has both large sizes; no flag updates in legacy mode. */
		assert_int_equal(stage->flags, SNEST_STAGE_VTD_SNOOP);
		image_destroy(&v.image);
	}
}

static void legacy_stage_follows_capabilities(void **state)
{
	struct vtd v;

	(void)state;
	legacy(&v, true);
	v.reg.cap &= ~(3ull << 34);
	v.reg.ecap &= ~SC;
	expect_stages(&v, 1);
	assert_int_equal(v.context.stage[0].flags, SNEST_STAGE_NO_2M | SNEST_STAGE_NO_1G);
	v.reg.cap |= 1ull << 34;
	expect_stages(&v, 1);
	assert_int_equal(v.context.stage[0].flags, SNEST_STAGE_NO_1G);

	/* AW gives the levels, MGAW limits the input. */
	image_put(&v.image, legacy_entry() + 8, DID << 8 | 1);
	expect_stages(&v, 1);
	assert_int_equal(v.context.stage[0].levels, 3);
	assert_int_equal(v.context.stage[0].ia_bits, 39);
	v.reg.cap |= CAP_SAGAW_57;
	image_put(&v.image, legacy_entry() + 8, DID << 8 | 3);
	expect_stages(&v, 1);
	assert_int_equal(v.context.stage[0].levels, 5);
	assert_int_equal(v.context.stage[0].ia_bits, 48);
	image_destroy(&v.image);
}

static void legacy_root_faults(void **state)
{
	struct vtd v;
	uint64_t at = ROOT + BUS * 16;

	(void)state;
	legacy(&v, true);
	v.reg.rtaddr = IMAGE_OUTSIDE;
	expect_fault(&v, 0x8);
	assert_int_equal(v.context.fault.entry_addr, IMAGE_OUTSIDE + BUS * 16);
	v.reg.rtaddr = ROOT;
	fault_with(&v, at, CONTEXT, 0x1);
	fault_with(&v, at, 0, 0x1);
	reserved_bits(&v, at, 1, 11, 0xa);
	reserved_bits(&v, at, 46, 63, 0xa);
	reserved_bits(&v, at + 8, 0, 63, 0xa);
	/* Present comes before reserved. */
	fault_with(&v, at, ~1ull, 0x1);
	fault_with(&v, at, IMAGE_OUTSIDE | 1, 0x9);
	image_destroy(&v.image);
}

static void legacy_context_faults(void **state)
{
	struct vtd v;
	uint64_t at = legacy_entry();

	(void)state;
	legacy(&v, true);
	fault_with(&v, at, 0, 0x2);
	assert_int_equal(v.context.fault.entry_addr, at);
	fault_with(&v, at, ~3ull, 0x2);
	reserved_bits(&v, at, 4, 11, 0xb);
	reserved_bits(&v, at, 46, 63, 0xb);
	reserved_bits(&v, at + 8, 7, 7, 0xb);
	reserved_bits(&v, at + 8, 24, 63, 0xb);
	/* Bits 6:3 of the second word are ignored. */
	image_put(&v.image, at + 8, DID << 8 | 0x78 | 2);
	expect_stages(&v, 1);
	/* Widths that CAP does not have: 0, 57 bits, and the codes above. */
	for (unsigned aw = 0; aw < 8; aw++) {
		if (aw != 1 && aw != 2)
			fault_with(&v, at + 8, DID << 8 | aw, 0x3);
	}
	/* TT: reserved; ATS without DT; pass-through without PT. */
	fault_with(&v, at, SECOND | 3 << 2 | 1, 0x3);
	v.reg.ecap &= ~(DT | PT);
	fault_with(&v, at, SECOND | 1 << 2 | 1, 0x3);
	fault_with(&v, at, SECOND | 2 << 2 | 1, 0x3);
	image_destroy(&v.image);
}

static void domain_id_width(void **state)
{
	struct vtd v;

	(void)state;
	legacy(&v, true);
	/* ND 0: 4 bits. */
	v.reg.cap &= ~7ull;
	for (unsigned bit = 0; bit < 16; bit++) {
		image_put(&v.image, legacy_entry() + 8, 1ull << (8 + bit) | 2);
		if (bit < 4)
			expect_stages(&v, 1);
		else
			expect_fault(&v, 0xb);
	}
	image_destroy(&v.image);
	scalable(&v, true, 2);
	v.reg.cap &= ~7ull;
	for (unsigned bit = 0; bit < 16; bit++) {
		image_put(&v.image, pasid_entry(0) + 8, 1ull << bit);
		if (bit < 4)
			expect_stages(&v, 1);
		else
			expect_fault(&v, 0x5a);
	}
	image_destroy(&v.image);
}

static void legacy_pass_through(void **state)
{
	struct vtd v;

	(void)state;
	legacy(&v, true);
	/* The pointer is ignored, whatever it is. */
	image_put(&v.image, legacy_entry(), 0xfffffffffffff000ull | 2 << 2 | 1);
	expect_stages(&v, 0);
	assert_int_equal(v.context.domain, DID);
	assert_int_equal(v.context.ia_bits, 48);
	v.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_fault(&v, 0xd);
	image_destroy(&v.image);
}

static void legacy_kinds_of_request(void **state)
{
	struct vtd v;

	(void)state;
	legacy(&v, true);
	v.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_fault(&v, 0xd);
	v.request.kind = SNEST_REQUEST_TRANSLATED;
	expect_fault(&v, 0xd);
	image_put(&v.image, legacy_entry(), SECOND | 1 << 2 | 1);
	v.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_stages(&v, 1);
	assert_int_equal(v.context.flags, SNEST_CONTEXT_ATS);
	v.request.kind = SNEST_REQUEST_TRANSLATED;
	expect_stages(&v, 0);
	v.request.kind = SNEST_REQUEST_PAGE;
	expect_fault(&v, 0x32);
	v.request.kind = SNEST_REQUEST_UNTRANSLATED;
	v.request.pasid = 0;
	expect_fault(&v, 0x31);
	image_destroy(&v.image);
}

static void legacy_fault_processing_disable(void **state)
{
	struct vtd v;
	uint64_t at = legacy_entry();

	(void)state;
	legacy(&v, true);
	/* Not present: FPD counts all the same. */
	fault_with(&v, at, 2, 0x2);
	quiet_is(&v, true);
	fault_with(&v, at, 0, 0x2);
	quiet_is(&v, false);
	/* A reserved bit is reported in spite of FPD. */
	fault_with(&v, at, SECOND | 1 << 4 | 3, 0xb);
	assert_true(snest_fault_recorded(&v.context, &v.request, &v.context.fault));
	image_put(&v.image, at, SECOND | 3);
	expect_stages(&v, 1);
	assert_int_equal(v.context.flags, SNEST_CONTEXT_QUIET);
	image_destroy(&v.image);
}

/* ---- The register ------------------------------------------------------ */

static void translation_table_mode(void **state)
{
	struct vtd v;

	(void)state;
	scalable(&v, true, 2);
	v.reg.rtaddr = ROOT | 2 << 10;
	expect_fault(&v, 0x30);
	v.reg.rtaddr = ROOT | 3 << 10;
	resolve(&v);
	assert_int_equal(v.context.outcome, SNEST_CONTEXT_BLOCKED);
	v.reg.ecap &= ~SMTS;
	for (unsigned ttm = 1; ttm < 4; ttm++) {
		v.reg.rtaddr = ROOT | ttm << 10;
		expect_fault(&v, 0x30);
	}
	image_destroy(&v.image);
}

static void impossible_values(void **state)
{
	struct vtd v;
	struct snest_vtd_registers reg;
	struct snest_request request;

	(void)state;
	legacy(&v, true);
#define REFUSED(change)                                                                     \
	do {                                                                                \
		reg = v.reg;                                                                \
		request = v.request;                                                        \
		change;                                                                     \
		assert_int_equal(snest_vtd_context(v.image.vm, &reg, &request, &v.context), \
		                 -EINVAL);                                                  \
	} while (0)
	REFUSED(reg.size = 2);
	REFUSED(reg.haw = 31);
	REFUSED(reg.haw = 53);
	REFUSED(reg.cap |= 7);
	REFUSED(reg.cap &= ~(0x3full << 16));
	REFUSED(request.rid = 0x10000);
	REFUSED(request.pasid = 0x100000);
	REFUSED(request.kind = 4);
	REFUSED(request.access = 0x10);
	REFUSED(request.flags = 2);
	REFUSED(request.size = 0);
#undef REFUSED
	image_destroy(&v.image);
}

/* ---- Scalable mode ----------------------------------------------------- */

static void scalable_second_stage(void **state)
{
	struct vtd v;

	(void)state;
	for (unsigned direct = 0; direct < 2; direct++) {
		scalable(&v, direct, 2);
		expect_stages(&v, 1);
		assert_int_equal(v.context.flags, SNEST_CONTEXT_SCALABLE | SNEST_CONTEXT_ATS |
		                                          SNEST_CONTEXT_PRI | SNEST_CONTEXT_PASID |
		                                          SNEST_CONTEXT_UNPRIVILEGED);
		assert_int_equal(v.context.domain, DID);
		assert_int_equal(v.context.space, 0);
		assert_int_equal(v.context.pasid, 0);
		assert_int_equal(v.context.stage[0].format, SNEST_FORMAT_VTD_SS);
		assert_int_equal(v.context.stage[0].levels, 4);
		assert_int_equal(v.context.stage[0].root, SECOND);
		assert_int_equal(v.context.stage[0].flags, SNEST_STAGE_VTD_SNOOP);
		/* SSADE */
		image_put(&v.image, pasid_entry(0), image_get(&v.image, pasid_entry(0)) | 1 << 9);
		expect_stages(&v, 1);
		assert_int_equal(v.context.stage[0].flags,
		                 SNEST_STAGE_VTD_SNOOP | SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
		image_destroy(&v.image);
	}
}

static void scalable_first_stage(void **state)
{
	struct vtd v;
	uint64_t at = pasid_entry(PASID);

	(void)state;
	scalable(&v, true, 1);
	v.request.pasid = PASID;
	expect_stages(&v, 1);
	assert_int_equal(v.context.flags, SNEST_CONTEXT_SCALABLE | SNEST_CONTEXT_ATS |
	                                          SNEST_CONTEXT_PRI | SNEST_CONTEXT_PASID);
	assert_int_equal(v.context.pasid, PASID);
	assert_int_equal(v.context.space, PASID);
	assert_int_equal(v.context.stage[0].format, SNEST_FORMAT_X86_64);
	assert_int_equal(v.context.stage[0].levels, 4);
	assert_int_equal(v.context.stage[0].root, FIRST);
	assert_int_equal(v.context.stage[0].oa_bits, 46);
	assert_int_equal(v.context.stage[0].flags, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	v.reg.cap &= ~(1ull << 56);
	/* WPE, EAFE */
	image_put(&v.image, at + 16, FIRST | 1 << 4 | 1 << 7);
	expect_stages(&v, 1);
	assert_int_equal(v.context.stage[0].flags, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D |
	                                                   SNEST_STAGE_NO_1G | SNEST_STAGE_X86_WP |
	                                                   SNEST_STAGE_X86_EAF);
	/* Five levels need FS5LP. */
	image_put(&v.image, at + 16, FIRST | 1 << 2);
	expect_fault(&v, 0x5b);
	v.reg.cap |= CAP_FS5LP;
	expect_stages(&v, 1);
	assert_int_equal(v.context.stage[0].levels, 5);
	image_destroy(&v.image);
}

static void scalable_nested(void **state)
{
	struct vtd v;

	(void)state;
	scalable(&v, true, 3);
	v.request.pasid = PASID;
	/* A GPA as wide as the second stage's input is fine, although wider than HAW. */
	image_put(&v.image, pasid_entry(PASID) + 16, 1ull << 47);
	expect_stages(&v, 2);
	assert_int_equal(v.context.stage[0].format, SNEST_FORMAT_X86_64);
	assert_int_equal(v.context.stage[0].root, 1ull << 47);
	assert_int_equal(v.context.stage[1].format, SNEST_FORMAT_VTD_SS);
	assert_int_equal(v.context.stage[1].root, SECOND);
	assert_int_equal(v.context.space, PASID);
	image_destroy(&v.image);
}

static void scalable_pass_through(void **state)
{
	struct vtd v;

	(void)state;
	scalable(&v, true, 4);
	/* Neither pointer is looked at; the domain id is. */
	image_put(&v.image, pasid_entry(0), 0xfffffffffffff000ull | 4 << 6 | 1);
	image_put(&v.image, pasid_entry(0) + 16, ~0ull);
	expect_stages(&v, 0);
	assert_int_equal(v.context.domain, DID);
	assert_int_equal(v.context.ia_bits, 48);
	image_destroy(&v.image);
}

static void rid_pasid(void **state)
{
	struct vtd v;

	(void)state;
	scalable(&v, true, 1);
	image_put(&v.image, scalable_entry() + 8, 1ull << 20 | PASID);
	image_put(&v.image, pasid_entry(PASID) + 16, FIRST | 1); /* SRE */
	expect_stages(&v, 1);
	assert_int_equal(v.context.pasid, PASID);
	assert_int_equal(v.context.space, PASID);
	assert_true(v.context.flags & SNEST_CONTEXT_PRIVILEGED);
	assert_false(v.context.flags & SNEST_CONTEXT_UNPRIVILEGED);
	/* Without RPRIVS the request is a user's; without RPS the PASID is 0. */
	v.reg.ecap &= ~(RPRIVS | RPS);
	image_put(&v.image, pasid_entry(0) + 16, FIRST + 0x1000);
	expect_stages(&v, 1);
	assert_int_equal(v.context.pasid, 0);
	assert_int_equal(v.context.stage[0].root, FIRST + 0x1000);
	assert_true(v.context.flags & SNEST_CONTEXT_UNPRIVILEGED);
	/* The smallest directory holds 2^13 PASIDs. */
	v.reg.ecap |= RPS;
	image_put(&v.image, scalable_entry(), DIRECTORY | 0x1d);
	image_put(&v.image, scalable_entry() + 8, 1 << 13);
	expect_fault(&v, 0x48);
	image_destroy(&v.image);
}

static void scalable_root_halves(void **state)
{
	struct vtd v;

	(void)state;
	scalable(&v, true, 2);
	v.request.rid = BUS << 8 | 0x80 | DEVFN;
	expect_fault(&v, 0x41);
	assert_int_equal(v.context.fault.entry_addr, CONTEXT_HIGH + DEVFN * 32);
	image_put(&v.image, CONTEXT_HIGH + DEVFN * 32, DIRECTORY | 1);
	expect_stages(&v, 1);
	image_put(&v.image, ROOT + BUS * 16 + 8, 0);
	expect_fault(&v, 0x39);
	/* The other half does not care. */
	v.request.rid = RID;
	expect_stages(&v, 1);
	image_destroy(&v.image);
}

static void scalable_root_faults(void **state)
{
	struct vtd v;
	uint64_t at = ROOT + BUS * 16;

	(void)state;
	scalable(&v, true, 2);
	v.reg.rtaddr = IMAGE_OUTSIDE | SCALABLE_MODE;
	expect_fault(&v, 0x38);
	v.reg.rtaddr = ROOT | SCALABLE_MODE;
	fault_with(&v, at, ~1ull, 0x39);
	reserved_bits(&v, at, 1, 11, 0x3a);
	reserved_bits(&v, at, 46, 63, 0x3a);
	fault_with(&v, at, IMAGE_OUTSIDE | 1, 0x40);
	assert_true(v.context.flags & SNEST_CONTEXT_SCALABLE);
	image_destroy(&v.image);
}

static void scalable_context_faults(void **state)
{
	struct vtd v;
	uint64_t at = scalable_entry(), word;

	(void)state;
	scalable(&v, true, 2);
	word = image_get(&v.image, at);
	fault_with(&v, at, ~3ull, 0x41);
	quiet_is(&v, false);
	fault_with(&v, at, 2, 0x41);
	quiet_is(&v, true);
	reserved_bits(&v, at, 5, 8, 0x42);
	reserved_bits(&v, at, 46, 63, 0x42);
	reserved_bits(&v, at + 8, 21, 63, 0x42);
	reserved_bits(&v, at + 16, 0, 63, 0x42);
	reserved_bits(&v, at + 24, 0, 63, 0x42);
	/* Enables of what ECAP does not have are reserved. */
	v.reg.ecap = ECAP & ~DT;
	expect_fault(&v, 0x42);
	v.reg.ecap = ECAP & ~PASID_CAP;
	expect_fault(&v, 0x42);
	v.reg.ecap = ECAP & ~PRS;
	expect_fault(&v, 0x42);
	v.reg.ecap = ECAP;
	/* PRE without DTE */
	fault_with(&v, at, word & ~4ull, 0x43);
	fault_with(&v, at, (word & 0xfff) | IMAGE_OUTSIDE, 0x50);
	image_destroy(&v.image);
}

static void scalable_kinds_of_request(void **state)
{
	struct vtd v;
	uint64_t at = scalable_entry();

	(void)state;
	scalable(&v, true, 2);
	v.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_stages(&v, 1);
	v.request.kind = SNEST_REQUEST_TRANSLATED;
	expect_stages(&v, 0);
	v.request.kind = SNEST_REQUEST_PAGE;
	expect_stages(&v, 1);
	/* Neither DTE, PRE nor PASIDE. */
	image_put(&v.image, at, DIRECTORY | 1);
	expect_fault(&v, 0x47);
	v.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_fault(&v, 0x44);
	v.request.kind = SNEST_REQUEST_TRANSLATED;
	expect_fault(&v, 0x44);
	v.request.kind = SNEST_REQUEST_UNTRANSLATED;
	v.request.pasid = PASID;
	expect_fault(&v, 0x45);
	v.request.pasid = SNEST_NO_PASID;
	expect_stages(&v, 1);
	image_destroy(&v.image);
}

static void pasid_beyond_directory(void **state)
{
	struct vtd v;

	(void)state;
	scalable(&v, true, 2);
	/* PDTS holds 2^(PDTS + 13) PASIDs; the check comes before the directory is read. */
	for (unsigned pdts = 0; pdts < 7; pdts++) {
		image_put(&v.image, scalable_entry(), IMAGE_OUTSIDE | pdts << 9 | 0x1d);
		v.request.pasid = 1u << (pdts + 13);
		expect_fault(&v, 0x46);
		v.request.pasid--;
		expect_fault(&v, 0x50);
	}
	image_put(&v.image, scalable_entry(), DIRECTORY | 7 << 9 | 0x1d);
	v.request.pasid = 0xfffff;
	expect_fault(&v, 0x51);
	image_destroy(&v.image);
}

static void pasid_directory_faults(void **state)
{
	struct vtd v;
	uint64_t at = DIRECTORY + (PASID >> 6) * 8;

	(void)state;
	scalable(&v, true, 2);
	v.request.pasid = PASID;
	fault_with(&v, at, ~3ull, 0x51);
	quiet_is(&v, false);
	fault_with(&v, at, 2, 0x51);
	quiet_is(&v, true);
	reserved_bits(&v, at, 2, 11, 0x52);
	reserved_bits(&v, at, 46, 63, 0x52);
	fault_with(&v, at, IMAGE_OUTSIDE | 1, 0x58);
	image_destroy(&v.image);
}

static void pasid_entry_reserved_bits(void **state)
{
	struct vtd v;
	uint64_t at = pasid_entry(0);

	(void)state;
	for (unsigned pgtt = 1; pgtt <= 4; pgtt++) {
		scalable(&v, true, pgtt);
		reserved_bits(&v, at, 10, 11, 0x5a);
		if (pgtt == 2 || pgtt == 3)
			reserved_bits(&v, at, 46, 63, 0x5a);
		reserved_bits(&v, at + 8, 16, 22, 0x5a);
		if (pgtt == 1 || pgtt == 3) {
			reserved_bits(&v, at + 16, 8, 11, 0x5a);
			reserved_bits(&v, at + 16, pgtt == 3 ? 52 : 46, 63, 0x5a);
		}
		for (unsigned word = 3; word < 8; word++)
			reserved_bits(&v, at + word * 8, 0, 63, 0x5a);
		v.reg.ecap &= ~(SSADS | EAFS);
		fault_with(&v, at, image_get(&v.image, at) | 1 << 9, 0x5a);
		if (pgtt == 1 || pgtt == 3)
			fault_with(&v, at + 16, FIRST | 1 << 7, 0x5a);
		image_destroy(&v.image);
	}
}

static void pasid_entry_ignored_bits(void **state)
{
	struct vtd v;
	uint64_t at = pasid_entry(0);

	(void)state;
	scalable(&v, true, 3);
	/* SLEE; memory types and snooping; SRE, ERE, WPE, NXE, SMEP. */
	image_put(&v.image, at, image_get(&v.image, at) | 1 << 5);
	image_put(&v.image, at + 8, 0xffffffffff800000ull | DID);
	image_put(&v.image, at + 16, FIRST | 0x73);
	expect_stages(&v, 2);
	assert_int_equal(v.context.stage[0].flags,
	                 SNEST_STAGE_HW_A | SNEST_STAGE_HW_D | SNEST_STAGE_X86_WP);
	/* They mean something where ECAP has execute requests. */
	v.reg.ecap |= ERS;
	expect_stages(&v, 2);
	assert_int_equal(v.context.stage[0].flags, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D |
	                                                   SNEST_STAGE_X86_WP | SNEST_STAGE_X86_NX |
	                                                   SNEST_STAGE_X86_SMEP);
	image_destroy(&v.image);
}

static void pasid_entry_faults(void **state)
{
	struct vtd v;
	uint64_t at = pasid_entry(0), word;

	(void)state;
	scalable(&v, true, 3);
	word = image_get(&v.image, at);
	fault_with(&v, at, ~3ull, 0x59);
	quiet_is(&v, false);
	fault_with(&v, at, 2, 0x59);
	quiet_is(&v, true);
	/* Reserved types of translation. */
	for (unsigned pgtt = 0; pgtt < 8; pgtt++) {
		if (pgtt < 1 || pgtt > 4)
			fault_with(&v, at, (word & ~(7ull << 6)) | pgtt << 6, 0x5b);
	}
	/* Widths, for the second stage only. */
	for (unsigned aw = 0; aw < 8; aw++) {
		if (aw != 1 && aw != 2)
			fault_with(&v, at, (word & ~(7ull << 2)) | aw << 2, 0x5b);
	}
	fault_with(&v, at + 16, FIRST | 1 << 2, 0x5b);
	fault_with(&v, at + 16, FIRST | 2 << 2, 0x5b);
	fault_with(&v, at + 16, FIRST | 3 << 2, 0x5b);
	image_put(&v.image, at, (word & ~(0x7full << 2)) | 1 << 6);
	expect_stages(&v, 1);
	image_destroy(&v.image);
}

static void pasid_entry_types_need_capabilities(void **state)
{
	static const uint64_t needs[] = {0, FSTS, SSTS, NEST, PT};
	struct vtd v;

	(void)state;
	for (unsigned pgtt = 1; pgtt <= 4; pgtt++) {
		scalable(&v, true, pgtt);
		v.reg.ecap &= ~needs[pgtt];
		expect_fault(&v, 0x5b);
		image_destroy(&v.image);
	}
}

static void privilege_and_execution(void **state)
{
	struct vtd v;
	uint64_t at = pasid_entry(PASID) + 16;

	(void)state;
	scalable(&v, true, 1);
	v.request.pasid = PASID;
	v.request.access = SNEST_READ | SNEST_PRIVILEGED;
	expect_fault(&v, 0x5d);
	image_put(&v.image, at, FIRST | 1);
	expect_stages(&v, 1);
	v.request.access = SNEST_READ | SNEST_EXEC;
	expect_stages(&v, 1);
	v.reg.ecap |= ERS;
	expect_fault(&v, 0x5c);
	image_put(&v.image, at, FIRST | 2);
	expect_stages(&v, 1);
	image_destroy(&v.image);
}

static void disable_at_any_level_is_quiet(void **state)
{
	struct vtd v;
	const uint64_t at[] = {scalable_entry(), DIRECTORY, pasid_entry(0)};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		scalable(&v, true, 2);
		expect_stages(&v, 1);
		assert_false(v.context.flags & SNEST_CONTEXT_QUIET);
		image_put(&v.image, at[i], image_get(&v.image, at[i]) | 2);
		expect_stages(&v, 1);
		assert_true(v.context.flags & SNEST_CONTEXT_QUIET);
		image_destroy(&v.image);
	}
}

/* ---- What recorded guests write ---------------------------------------- */

static void recorded_guests(void **state)
{
	struct vtd v;

	(void)state;
	/* Legacy: 39 bits, the pointer, a domain. */
	legacy(&v, true);
	v.reg.cap = 0x80d2008c222f0686ull;
	v.reg.ecap = 0xf00f4e;
	v.reg.haw = 48;
	image_put(&v.image, legacy_entry(), SECOND | 5);
	image_put(&v.image, legacy_entry() + 8, 0x302);
	expect_stages(&v, 1);
	assert_int_equal(v.context.stage[0].ia_bits, 48);
	assert_int_equal(v.context.domain, 3);
	image_destroy(&v.image);

	scalable(&v, true, 2);
	v.reg.cap = 0x80d2008c222f0686ull;
	v.reg.ecap = 0x480080f00f4aull;
	v.reg.haw = 48;
	image_put(&v.image, scalable_entry(), DIRECTORY | 7 << 9 | 1);
	expect_stages(&v, 1);
	image_destroy(&v.image);

	scalable(&v, true, 1);
	v.reg.cap = 0x81d2008c222f0606ull;
	v.reg.ecap = 0x880000f00f4aull;
	v.reg.haw = 48;
	image_put(&v.image, scalable_entry(), DIRECTORY | 7 << 9 | 1);
	expect_stages(&v, 1);
	assert_int_equal(v.context.stage[0].format, SNEST_FORMAT_X86_64);
	image_destroy(&v.image);
}

/* ---- Torn entries ------------------------------------------------------ */

/* Writes a new entry word by word, one word before each read, then rests. */
static void writer(struct image *image, uint64_t addr, size_t length)
{
	(void)length;
	if (addr != legacy_entry() || image->state > 3)
		return;
	switch (image->state++) {
	case 1:
		image_put(image, addr, (SECOND + 0x1000) | 1);
		break;
	case 2:
		image_put(image, addr + 8, 7 << 8 | 1);
		break;
	}
}

static void torn_entry_is_read_again(void **state)
{
	struct vtd v;

	(void)state;
	legacy(&v, false);
	v.image.before = writer;
	v.image.state = 0;
	expect_stages(&v, 1);
	/* All new, not the new pointer with the old domain. */
	assert_int_equal(v.context.stage[0].root, SECOND + 0x1000);
	assert_int_equal(v.context.domain, 7);
	assert_int_equal(v.context.stage[0].levels, 3);
	image_destroy(&v.image);
}

static void restless(struct image *image, uint64_t addr, size_t length)
{
	if (length > 8)
		image_put(image, addr + 8, image_get(image, addr + 8) ^ 0x100);
}

static void entry_without_rest_is_unreadable(void **state)
{
	struct vtd v;

	(void)state;
	legacy(&v, false);
	v.image.before = restless;
	expect_fault(&v, 0x8);
	assert_in_range(v.image.reads, 2, SN_DEVICE_TRIES);
	image_destroy(&v.image);
}

static void memory_without_tables_is_unreadable(void **state)
{
	struct vtd v;
	struct snest_region region = {
		.size = sizeof(region),
		.first = IMAGE_OUTSIDE,
		.last = IMAGE_OUTSIDE + 0xfff,
		.flags = SNEST_REGION_NO_TABLES,
	};

	(void)state;
	legacy(&v, true);
	region.mapping = v.image.words;
	assert_int_equal(snest_memory_add(v.image.vm, &region), 0);
	fault_with(&v, ROOT + BUS * 16, IMAGE_OUTSIDE | 1, 0x9);
	image_destroy(&v.image);
}

/* ---- Hostile bytes ----------------------------------------------------- */

static void hostile_structures(void **state)
{
	struct vtd v;
	struct image *image = &v.image;
	unsigned outcomes[3] = {0};

	(void)state;
	for (unsigned mode = 0; mode < 5; mode++) {
		uint64_t saved[5][8];
		const uint64_t at[] = {ROOT + BUS * 16, mode ? scalable_entry() : legacy_entry(),
		                       DIRECTORY + (PASID >> 6) * 8, pasid_entry(PASID),
		                       pasid_entry(0)};

		if (mode)
			scalable(&v, false, mode);
		else
			legacy(&v, false);
		for (unsigned i = 0; i < 5; i++)
			memcpy(saved[i], (char *)image->words + at[i], 64);
		for (unsigned n = 0; n < 20000; n++) {
			for (unsigned i = 0; i < 5; i++) {
				for (unsigned w = 0; w < (i ? 8 : 2); w++)
					image_put(image, at[i] + w * 8,
					          n % 5 == i || n % 7 == 0
					                  ? image_spoil(image, saved[i][w])
					                  : saved[i][w]);
			}
			v.reg.rtaddr = n % 64 ? ROOT | (mode ? SCALABLE_MODE : 0)
			                      : image_spoil(image, ROOT);
			v.request.pasid = n & 1 ? PASID : SNEST_NO_PASID;
			v.request.kind = n >> 1 & 3;
			v.request.access = image_random(image) & 0xf;
			image->reads = 0;
			resolve(&v);
			/* Two structures of several words are read twice, three of one word. */
			assert_in_range(image->reads, 0, 8);
			outcomes[v.context.outcome]++;
		}
		image_destroy(image);
	}
	assert_true(outcomes[SNEST_CONTEXT_STAGES] > 10000);
	assert_true(outcomes[SNEST_CONTEXT_FAULT] > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(legacy_second_stage),
		cmocka_unit_test(legacy_stage_follows_capabilities),
		cmocka_unit_test(legacy_root_faults),
		cmocka_unit_test(legacy_context_faults),
		cmocka_unit_test(domain_id_width),
		cmocka_unit_test(legacy_pass_through),
		cmocka_unit_test(legacy_kinds_of_request),
		cmocka_unit_test(legacy_fault_processing_disable),
		cmocka_unit_test(translation_table_mode),
		cmocka_unit_test(impossible_values),
		cmocka_unit_test(scalable_second_stage),
		cmocka_unit_test(scalable_first_stage),
		cmocka_unit_test(scalable_nested),
		cmocka_unit_test(scalable_pass_through),
		cmocka_unit_test(rid_pasid),
		cmocka_unit_test(scalable_root_halves),
		cmocka_unit_test(scalable_root_faults),
		cmocka_unit_test(scalable_context_faults),
		cmocka_unit_test(scalable_kinds_of_request),
		cmocka_unit_test(pasid_beyond_directory),
		cmocka_unit_test(pasid_directory_faults),
		cmocka_unit_test(pasid_entry_reserved_bits),
		cmocka_unit_test(pasid_entry_ignored_bits),
		cmocka_unit_test(pasid_entry_faults),
		cmocka_unit_test(pasid_entry_types_need_capabilities),
		cmocka_unit_test(privilege_and_execution),
		cmocka_unit_test(disable_at_any_level_is_quiet),
		cmocka_unit_test(recorded_guests),
		cmocka_unit_test(torn_entry_is_read_again),
		cmocka_unit_test(entry_without_rest_is_unreadable),
		cmocka_unit_test(memory_without_tables_is_unreadable),
		cmocka_unit_test(hostile_structures),
	};

	return cmocka_run_group_tests_name("device_vtd", tests, NULL, NULL);
}
