/* SPDX-License-Identifier: MIT */
/*
 * RISC-V device structures: each test writes device and process directories
 * into a plain memory image and changes one thing at a time. Expected codes are
 * the manual's causes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/image.h"
#include "walkers/device.h"

/* Where the tables lie. */
#define DDT 0x10000ull /* the top, the levels below behind it */
#define PDT 0x20000ull
#define FIRST 0x30000ull
#define SECOND 0x34000ull
#define MSI 0x38000ull

/* An index at each level in both formats. */
#define DID 0xabcdefu
#define PID 0xcb5a5u /* 6, 0xb5, 0xa5 */

#define PSCID 0x12345ull
#define GSCID 0xbeefull

#define CAPS_MODES (0xfull << 8) /* Sv32, 39, 48, 57 */
#define CAPS_MODES_X4 (0xfull << 16)
#define SVRSW60T59B (1ull << 14)
#define SVPBMT (1ull << 15)
#define MSI_FLAT (1ull << 22)
#define AMO_HWAD (1ull << 24)
#define ATS (1ull << 25)
#define T2GPA (1ull << 26)
#define END (1ull << 27)
#define PAS(n) ((uint64_t)(n) << 32)
#define PD (7ull << 38)
#define QOSID (1ull << 41)
#define CAPS \
	(0x10 | CAPS_MODES | CAPS_MODES_X4 | SVPBMT | AMO_HWAD | ATS | T2GPA | END | PAS(56) | PD)

#define BE 1u
#define GXL 4u

/* tc */
#define V 0x1ull
#define EN_ATS 0x2ull
#define EN_PRI 0x4ull
#define TC_T2GPA 0x8ull
#define DTF 0x10ull
#define PDTV 0x20ull
#define PRPR 0x40ull
#define GADE 0x80ull
#define SADE 0x100ull
#define DPE 0x200ull
#define SBE 0x400ull
#define SXL 0x800ull

#define MODE(n) ((uint64_t)(n) << 60)
#define SV39 MODE(8)
#define SV48 MODE(9)
#define SV57 MODE(10)

enum {
	TC,
	IOHGATP,
	TA,
	FSC,
	MSIPTP,
	MSI_MASK,
	MSI_PATTERN,
	LAST
};

struct riscv {
	struct image image;
	struct snest_riscv_registers reg;
	struct snest_request request;
	struct snest_context context;
	uint64_t dc, pc; /* where they are */
};

/* Little-endian or big-endian, as the test has it. */
static uint64_t end(uint64_t word, bool big)
{
	return big ? __builtin_bswap64(word) : word;
}

static void set(struct riscv *r, unsigned word, uint64_t value)
{
	image_put(&r->image, r->dc + word * 8, end(value, r->reg.fctl & BE));
}

static uint64_t get(struct riscv *r, unsigned word)
{
	return end(image_get(&r->image, r->dc + word * 8), r->reg.fctl & BE);
}

static uint64_t pointer(uint64_t addr)
{
	return addr >> 12 << 10 | 1;
}

/* A directory of `levels` for DID; the first stage is Sv48, the second Bare. */
static void device(struct riscv *r, bool direct, unsigned levels, bool extended)
{
	unsigned shift[] = {0, extended ? 6 : 7, extended ? 15 : 16, 24};
	uint64_t table = DDT;
	uint32_t did = DID & ((1u << shift[levels]) - 1);

	image_create(&r->image, direct);
	r->reg = (struct snest_riscv_registers){
		.size = sizeof(r->reg),
		.capabilities = CAPS | (extended ? MSI_FLAT : 0),
		.ddtp = DDT >> 12 << 10 | (levels + 1),
	};
	r->request = (struct snest_request){
		.size = sizeof(r->request),
		.rid = did,
		.pasid = SNEST_NO_PASID,
		.access = SNEST_READ,
		.iova = 0x123456000,
	};
	for (unsigned level = levels - 1; level; level--) {
		uint64_t index =
			did >> shift[level] & ((1u << (shift[level + 1] - shift[level])) - 1);

		image_put(&r->image, table + index * 8, pointer(table + 0x1000));
		table += 0x1000;
	}
	r->dc = table + (did & ((1u << shift[1]) - 1)) * (extended ? 64 : 32);
	set(r, TC, V);
	set(r, TA, PSCID << 12);
	set(r, FSC, SV48 | FIRST >> 12);
}

/* The same with a process directory of `levels` for PID. */
static void process(struct riscv *r, bool direct, unsigned levels)
{
	static const unsigned shift[] = {0, 8, 17, 20};
	uint64_t table = PDT;
	uint32_t pid = PID & ((1u << shift[levels]) - 1);

	device(r, direct, 3, false);
	set(r, TC, V | PDTV);
	set(r, FSC, MODE(levels) | PDT >> 12);
	r->request.pasid = pid;
	for (unsigned level = levels - 1; level; level--) {
		uint64_t index =
			pid >> shift[level] & ((1u << (shift[level + 1] - shift[level])) - 1);

		image_put(&r->image, table + index * 8, pointer(table + 0x1000));
		table += 0x1000;
	}
	r->pc = table + (pid & 0xff) * 16;
	image_put(&r->image, r->pc, V | PSCID << 12);
	image_put(&r->image, r->pc + 8, SV39 | FIRST >> 12);
}

static void resolve(struct riscv *r)
{
	memset(&r->context, 0xa5, sizeof(r->context));
	assert_int_equal(snest_riscv_context(r->image.vm, &r->reg, &r->request, &r->context), 0);
	image_check("riscv", &r->context);
}

static void expect_fault(struct riscv *r, unsigned code)
{
	resolve(r);
	assert_int_equal(r->context.outcome, SNEST_CONTEXT_FAULT);
	assert_int_equal(r->context.fault.code, code);
}

static void expect_stages(struct riscv *r, unsigned count)
{
	resolve(r);
	assert_int_equal(r->context.outcome, SNEST_CONTEXT_STAGES);
	assert_int_equal(r->context.count, count);
}

static void fault_with(struct riscv *r, unsigned word, uint64_t value, unsigned code)
{
	uint64_t old = get(r, word);

	set(r, word, value);
	expect_fault(r, code);
	set(r, word, old);
}

static void fault_at(struct riscv *r, uint64_t addr, uint64_t value, unsigned code)
{
	uint64_t old = image_get(&r->image, addr);

	image_put(&r->image, addr, value);
	expect_fault(r, code);
	image_put(&r->image, addr, old);
}

/* ---- Directory ---------------------------------------------------------- */

static void directory_levels(void **state)
{
	struct riscv r;

	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		unsigned levels = i % 3 + 1;
		bool extended = i / 3 & 1, direct = i / 6;
		unsigned width = levels == 3 ? 24 : levels == 2 ? 16 - extended : 7 - extended;

		device(&r, direct, levels, extended);
		expect_stages(&r, 1);
		assert_int_equal(r.context.iommu, SNEST_IOMMU_RISCV);
		assert_int_equal(r.context.flags, SNEST_CONTEXT_UNPRIVILEGED);
		assert_int_equal(r.context.domain, 0);
		assert_int_equal(r.context.space, PSCID);
		assert_int_equal(r.context.stage[0].format, SNEST_FORMAT_RISCV64);
		assert_int_equal(r.context.stage[0].levels, 4);
		assert_int_equal(r.context.stage[0].root, FIRST);
		assert_int_equal(r.context.stage[0].flags,
		                 SNEST_STAGE_RISCV_SVNAPOT | SNEST_STAGE_RISCV_SVPBMT);
		if (levels < 3) {
			r.request.rid |= 1u << width;
			expect_fault(&r, 260);
		}
		image_destroy(&r.image);
	}
}

static void directory_modes(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 1, false);
	r.reg.ddtp = 0;
	expect_fault(&r, 256);
	r.reg.ddtp = 1;
	expect_stages(&r, 0);
	for (unsigned kind = 1; kind < 4; kind++) {
		r.request.kind = kind;
		expect_fault(&r, 260);
	}
	for (unsigned mode = 5; mode < 16; mode++) {
		r.reg.ddtp = DDT >> 12 << 10 | mode;
		expect_fault(&r, 256);
	}
	image_destroy(&r.image);
}

static void directory_faults(void **state)
{
	struct riscv r;
	uint64_t at = DDT + (DID >> 16) * 8;

	(void)state;
	device(&r, true, 3, false);
	fault_at(&r, at, 0, 258);
	assert_int_equal(r.context.fault.entry_addr, at);
	fault_at(&r, at, ~1ull, 258);
	for (unsigned bit = 1; bit < 10; bit++)
		fault_at(&r, at, image_get(&r.image, at) | 1ull << bit, 259);
	for (unsigned bit = 54; bit < 64; bit++)
		fault_at(&r, at, image_get(&r.image, at) | 1ull << bit, 259);
	fault_at(&r, at, pointer(IMAGE_OUTSIDE), 257);
	r.reg.ddtp = (r.reg.ddtp & 0xf) | IMAGE_OUTSIDE >> 12 << 10;
	expect_fault(&r, 257);
	image_destroy(&r.image);
	device(&r, true, 1, false);
	r.reg.ddtp = (r.reg.ddtp & 0xf) | IMAGE_OUTSIDE >> 12 << 10;
	expect_fault(&r, 257);
	image_destroy(&r.image);
}

static void impossible_values(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 1, false);
	r.reg.capabilities = CAPS & ~PAS(63);
	assert_int_equal(snest_riscv_context(r.image.vm, &r.reg, &r.request, &r.context), -EINVAL);
	r.reg.capabilities = CAPS | PAS(63);
	assert_int_equal(snest_riscv_context(r.image.vm, &r.reg, &r.request, &r.context), -EINVAL);
	r.reg.capabilities = CAPS;
	r.request.rid = 1 << 24;
	assert_int_equal(snest_riscv_context(r.image.vm, &r.reg, &r.request, &r.context), -EINVAL);
	image_destroy(&r.image);
}

/* ---- Device context ----------------------------------------------------- */

static void not_valid(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 1, false);
	fault_with(&r, TC, ~V, 258);
	fault_with(&r, TC, 0, 258);
	image_destroy(&r.image);
}

static void first_stage_modes(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 1, false);
	for (unsigned mode = 0; mode < 16; mode++) {
		set(&r, TC, V);
		set(&r, FSC, MODE(mode) | FIRST >> 12);
		if (mode == 0) {
			expect_stages(&r, 0);
			assert_int_equal(r.context.space, 0);
		} else if (mode >= 8 && mode <= 10) {
			expect_stages(&r, 1);
			assert_int_equal(r.context.stage[0].levels, mode - 5);
			r.reg.capabilities = CAPS & ~(1ull << (mode + 1));
			expect_fault(&r, 259);
			r.reg.capabilities = CAPS;
		} else {
			expect_fault(&r, 259);
		}
		/* With SXL there is Sv32 alone. */
		set(&r, TC, V | SXL);
		if (mode == 0) {
			expect_stages(&r, 0);
		} else if (mode == 8) {
			expect_stages(&r, 1);
			assert_int_equal(r.context.stage[0].format, SNEST_FORMAT_RISCV32);
			assert_int_equal(r.context.stage[0].levels, 2);
			assert_int_equal(r.context.stage[0].flags, 0);
			r.reg.capabilities = CAPS & ~(1ull << 8);
			expect_fault(&r, 259);
			r.reg.capabilities = CAPS;
		} else {
			expect_fault(&r, 259);
		}
	}
	/* With GXL, SXL is not a choice. */
	r.reg.fctl = GXL;
	set(&r, TC, V);
	set(&r, FSC, 0);
	expect_fault(&r, 259);
	set(&r, TC, V | SXL);
	expect_stages(&r, 0);
	image_destroy(&r.image);
}

static void second_stage_modes(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 1, false);
	set(&r, FSC, 0);
	for (unsigned mode = 0; mode < 16; mode++) {
		set(&r, IOHGATP, MODE(mode) | GSCID << 44 | SECOND >> 12);
		if (mode == 0) {
			expect_stages(&r, 0);
			assert_int_equal(r.context.domain, 0);
		} else if (mode >= 8 && mode <= 10) {
			expect_stages(&r, 1);
			assert_int_equal(r.context.domain, GSCID);
			assert_int_equal(r.context.stage[0].levels, mode - 5);
			assert_int_equal(r.context.stage[0].root, SECOND);
			assert_int_equal(r.context.stage[0].flags,
			                 SNEST_STAGE_RISCV_X4 | SNEST_STAGE_RISCV_SVNAPOT |
			                         SNEST_STAGE_RISCV_SVPBMT);
			r.reg.capabilities = CAPS & ~(1ull << (mode + 9));
			expect_fault(&r, 259);
			r.reg.capabilities = CAPS;
			/* The root is aligned to 16 KiB. */
			fault_with(&r, IOHGATP, get(&r, IOHGATP) | 1, 259);
			fault_with(&r, IOHGATP, get(&r, IOHGATP) | 2, 259);
		} else {
			expect_fault(&r, 259);
		}
	}
	r.reg.fctl = GXL;
	set(&r, TC, V | SXL);
	for (unsigned mode = 1; mode < 16; mode++) {
		set(&r, IOHGATP, MODE(mode) | SECOND >> 12);
		if (mode == 8) {
			expect_stages(&r, 1);
			assert_int_equal(r.context.stage[0].format, SNEST_FORMAT_RISCV32);
			assert_int_equal(r.context.stage[0].flags, SNEST_STAGE_RISCV_X4);
		} else {
			expect_fault(&r, 259);
		}
	}
	image_destroy(&r.image);
}

static void both_stages(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 1, false);
	r.reg.capabilities |= SVRSW60T59B;
	set(&r, TC, V | SADE | GADE | DTF);
	set(&r, IOHGATP, SV57 | GSCID << 44 | SECOND >> 12);
	expect_stages(&r, 2);
	assert_int_equal(r.context.domain, GSCID);
	assert_int_equal(r.context.space, PSCID);
	assert_int_equal(r.context.flags, SNEST_CONTEXT_QUIET | SNEST_CONTEXT_UNPRIVILEGED);
	assert_int_equal(r.context.stage[0].flags,
	                 SNEST_STAGE_HW_A | SNEST_STAGE_HW_D | SNEST_STAGE_RISCV_SVNAPOT |
	                         SNEST_STAGE_RISCV_SVPBMT | SNEST_STAGE_RISCV_SVRSW60T59B);
	assert_int_equal(r.context.stage[1].flags,
	                 SNEST_STAGE_HW_A | SNEST_STAGE_HW_D | SNEST_STAGE_RISCV_X4 |
	                         SNEST_STAGE_RISCV_SVNAPOT | SNEST_STAGE_RISCV_SVPBMT |
	                         SNEST_STAGE_RISCV_SVRSW60T59B);
	assert_int_equal(r.context.stage[1].levels, 5);
	/* One of them updates, the other does not. */
	set(&r, TC, V | GADE);
	expect_stages(&r, 2);
	assert_false(r.context.stage[0].flags & SNEST_STAGE_HW_A);
	assert_true(r.context.stage[1].flags & SNEST_STAGE_HW_A);
	image_destroy(&r.image);
}

static void misconfigured(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 1, false);
	set(&r, IOHGATP, SV39 | SECOND >> 12);
	expect_stages(&r, 2);
	for (unsigned bit = 12; bit < 64; bit++) {
		/* Custom bits are nobody's. */
		if (bit < 24 || bit > 31)
			fault_with(&r, TC, V | 1ull << bit, 259);
	}
	for (unsigned bit = 0; bit < 64; bit++) {
		if (bit < 12 || bit > 31)
			fault_with(&r, TA, 1ull << bit, 259);
	}
	for (unsigned bit = 44; bit < 60; bit++)
		fault_with(&r, FSC, SV39 | 1ull << bit, 259);
	/* What depends on something else. */
	fault_with(&r, TC, V | EN_PRI, 259);
	fault_with(&r, TC, V | TC_T2GPA, 259);
	fault_with(&r, TC, V | EN_ATS | PRPR, 259);
	fault_with(&r, TC, V | DPE, 259);
	set(&r, TC, V | EN_ATS | EN_PRI | PRPR | TC_T2GPA);
	expect_stages(&r, 2);
	assert_int_equal(r.context.flags, SNEST_CONTEXT_ATS | SNEST_CONTEXT_PRI |
	                                          SNEST_CONTEXT_T2GPA | SNEST_CONTEXT_UNPRIVILEGED);
	fault_with(&r, IOHGATP, 0, 259);
	/* What the capabilities lack. */
	r.reg.capabilities = CAPS & ~T2GPA;
	expect_fault(&r, 259);
	r.reg.capabilities = CAPS & ~ATS;
	fault_with(&r, TC, V | EN_ATS, 259);
	fault_with(&r, TC, V | EN_PRI, 259);
	fault_with(&r, TC, V | PRPR, 259);
	r.reg.capabilities = CAPS & ~AMO_HWAD;
	fault_with(&r, TC, V | SADE, 259);
	fault_with(&r, TC, V | GADE, 259);
	r.reg.capabilities = CAPS & ~END;
	fault_with(&r, TC, V | SBE, 259);
	r.reg.capabilities = CAPS | QOSID;
	set(&r, TA, ~0ull << 40 | PSCID << 12);
	expect_stages(&r, 2);
	image_destroy(&r.image);
}

static void flat_msi_tables(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 2, true);
	set(&r, IOHGATP, SV39 | SECOND >> 12);
	expect_stages(&r, 2);
	assert_false(r.context.flags & SNEST_CONTEXT_MSI_FLAT);
	set(&r, MSIPTP, MODE(1) | MSI >> 12);
	set(&r, MSI_MASK, 0xf0f);
	set(&r, MSI_PATTERN, 0x28000);
	expect_stages(&r, 2);
	assert_true(r.context.flags & SNEST_CONTEXT_MSI_FLAT);
	assert_int_equal(r.context.msi_table, MSI);
	assert_int_equal(r.context.msi_mask, 0xf0f);
	assert_int_equal(r.context.msi_pattern, 0x28000);
	for (unsigned mode = 2; mode < 16; mode++)
		fault_with(&r, MSIPTP, MODE(mode), 259);
	for (unsigned bit = 44; bit < 60; bit++)
		fault_with(&r, MSIPTP, MODE(1) | 1ull << bit, 259);
	for (unsigned bit = 0; bit < 64; bit++)
		fault_with(&r, LAST, 1ull << bit, 259);
	/* Wide without a second stage is misconfigured too. */
	fault_with(&r, IOHGATP, 0, 259);
	/* Masks and patterns are as wide as the widest second stage. */
	for (unsigned i = 0; i < 5; i++) {
		static const uint64_t lacks[] = {0, 1ull << 19, 3ull << 18, 7ull << 17,
		                                 15ull << 16};
		static const unsigned width[] = {59, 50, 41, 34, 56};

		r.reg.capabilities = (CAPS | MSI_FLAT) & ~lacks[i];
		set(&r, IOHGATP, 0);
		set(&r, MSIPTP, 0);
		for (unsigned bit = 0; bit < 64; bit++) {
			set(&r, MSI_MASK, 1ull << bit);
			if (bit < width[i] - 12)
				expect_stages(&r, 1);
			else
				expect_fault(&r, 259);
			set(&r, MSI_MASK, 0);
			set(&r, MSI_PATTERN, 1ull << bit);
			if (bit < width[i] - 12)
				expect_stages(&r, 1);
			else
				expect_fault(&r, 259);
			set(&r, MSI_PATTERN, 0);
		}
	}
	image_destroy(&r.image);
}

static void endianness(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 1, false);
	memset((char *)r.image.words + DDT, 0, 0x1000);
	r.reg.fctl = BE;
	set(&r, TC, V);
	set(&r, FSC, SV39 | FIRST >> 12);
	set(&r, IOHGATP, SV39 | SECOND >> 12);
	expect_stages(&r, 2);
	/* The second stage goes with the directory, the first with SBE. */
	assert_false(r.context.stage[0].flags & SNEST_STAGE_BIG_ENDIAN);
	assert_true(r.context.stage[1].flags & SNEST_STAGE_BIG_ENDIAN);
	r.reg.capabilities &= ~END;
	expect_fault(&r, 259);
	set(&r, TC, V | SBE);
	expect_stages(&r, 2);
	assert_true(r.context.stage[0].flags & SNEST_STAGE_BIG_ENDIAN);
	image_destroy(&r.image);

	/* A big-endian process directory behind a little-endian device directory. */
	process(&r, true, 2);
	set(&r, TC, V | PDTV | SBE);
	expect_fault(&r, 266);
	for (uint64_t at = PDT; at < PDT + 0x2000; at += 8)
		image_put(&r.image, at, end(image_get(&r.image, at), true));
	expect_stages(&r, 1);
	assert_int_equal(r.context.space, PSCID);
	assert_true(r.context.stage[0].flags & SNEST_STAGE_BIG_ENDIAN);
	image_destroy(&r.image);
}

/* ---- Kinds of request --------------------------------------------------- */

static void kinds_of_request(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, true, 1, false);
	set(&r, IOHGATP, SV39 | SECOND >> 12);
	for (unsigned kind = 1; kind < 4; kind++) {
		r.request.kind = kind;
		expect_fault(&r, 260);
		assert_true(snest_fault_recorded(&r.context, &r.request, &r.context.fault));
	}
	set(&r, TC, V | EN_ATS);
	r.request.kind = SNEST_REQUEST_PAGE;
	expect_fault(&r, 260);
	r.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_stages(&r, 2);
	/* Translated requests carry what the answer held. */
	r.request.kind = SNEST_REQUEST_TRANSLATED;
	expect_stages(&r, 0);
	set(&r, TC, V | EN_ATS | TC_T2GPA | EN_PRI);
	expect_stages(&r, 1);
	assert_true(r.context.stage[0].flags & SNEST_STAGE_RISCV_X4);
	r.request.kind = SNEST_REQUEST_PAGE;
	expect_stages(&r, 2);
	/* A process id where there is no directory for it. */
	r.request.kind = SNEST_REQUEST_UNTRANSLATED;
	r.request.pasid = 0;
	expect_fault(&r, 260);
	image_destroy(&r.image);
}

static void quiet_faults(void **state)
{
	struct riscv r;

	(void)state;
	process(&r, true, 1);
	set(&r, TC, V | PDTV | DTF);
	image_put(&r.image, r.pc, 0);
	expect_fault(&r, 266);
	assert_false(snest_fault_recorded(&r.context, &r.request, &r.context.fault));
	/* DTF of a context that is not valid does not count. */
	set(&r, TC, V | PDTV | DTF | 1ull << 63);
	expect_fault(&r, 259);
	assert_true(snest_fault_recorded(&r.context, &r.request, &r.context.fault));
	image_destroy(&r.image);
}

/* ---- Process directory -------------------------------------------------- */

static void process_levels(void **state)
{
	struct riscv r;

	(void)state;
	for (unsigned levels = 1; levels <= 3; levels++) {
		static const unsigned width[] = {0, 8, 17, 20};

		process(&r, levels & 1, levels);
		expect_stages(&r, 1);
		assert_int_equal(r.context.flags, SNEST_CONTEXT_PASID);
		assert_int_equal(r.context.pasid, r.request.pasid);
		assert_int_equal(r.context.space, PSCID);
		assert_int_equal(r.context.stage[0].levels, 3);
		assert_int_equal(r.context.stage[0].root, FIRST);
		if (levels < 3) {
			r.request.pasid |= 1u << width[levels];
			expect_fault(&r, 260);
		}
		r.reg.capabilities &= ~(1ull << (37 + levels));
		expect_fault(&r, 259);
		image_destroy(&r.image);
	}
	process(&r, true, 1);
	for (unsigned mode = 4; mode < 16; mode++)
		fault_with(&r, FSC, MODE(mode) | PDT >> 12, 259);
	image_destroy(&r.image);
}

static void requests_without_process(void **state)
{
	struct riscv r;

	(void)state;
	process(&r, true, 1);
	image_put(&r.image, PDT, V | 0x777ull << 12);
	image_put(&r.image, PDT + 8, SV57 | (FIRST + 0x1000) >> 12);
	r.request.pasid = SNEST_NO_PASID;
	expect_stages(&r, 0);
	assert_int_equal(r.context.pasid, SNEST_NO_PASID);
	set(&r, TC, V | PDTV | DPE);
	expect_stages(&r, 1);
	assert_int_equal(r.context.pasid, 0);
	assert_int_equal(r.context.space, 0x777);
	assert_int_equal(r.context.stage[0].levels, 5);
	/* Without a directory, Bare; any id is narrow enough. */
	set(&r, FSC, 0);
	expect_stages(&r, 0);
	r.request.pasid = 0xfffff;
	expect_stages(&r, 0);
	image_destroy(&r.image);
}

static void process_faults(void **state)
{
	struct riscv r;
	uint64_t top = PDT + (PID >> 17) * 8;

	(void)state;
	process(&r, true, 3);
	fault_at(&r, top, 0, 266);
	for (unsigned bit = 1; bit < 10; bit++)
		fault_at(&r, top, image_get(&r.image, top) | 1ull << bit, 267);
	for (unsigned bit = 54; bit < 64; bit++)
		fault_at(&r, top, image_get(&r.image, top) | 1ull << bit, 267);
	fault_at(&r, top, pointer(IMAGE_OUTSIDE), 265);
	fault_at(&r, r.pc, 0, 266);
	for (unsigned bit = 3; bit < 64; bit++) {
		if (bit < 12 || bit > 31)
			fault_at(&r, r.pc, V | 1ull << bit, 267);
	}
	for (unsigned bit = 44; bit < 60; bit++)
		fault_at(&r, r.pc + 8, SV39 | 1ull << bit, 267);
	for (unsigned mode = 1; mode < 16; mode++) {
		if (mode < 8 || mode > 10)
			fault_at(&r, r.pc + 8, MODE(mode), 267);
	}
	image_put(&r.image, r.pc + 8, 0);
	expect_stages(&r, 0);
	assert_int_equal(r.context.space, 0);
	fault_with(&r, FSC, MODE(3) | IMAGE_OUTSIDE >> 12, 265);
	image_destroy(&r.image);
}

static void supervisor_requests(void **state)
{
	struct riscv r;

	(void)state;
	process(&r, true, 1);
	r.request.access = SNEST_READ | SNEST_PRIVILEGED;
	expect_fault(&r, 260);
	image_put(&r.image, r.pc, V | 2 | PSCID << 12);
	expect_stages(&r, 1);
	assert_false(r.context.stage[0].flags & SNEST_STAGE_RISCV_SUM);
	image_put(&r.image, r.pc, V | 6 | PSCID << 12);
	expect_stages(&r, 1);
	assert_true(r.context.stage[0].flags & SNEST_STAGE_RISCV_SUM);
	/* Without a process id nobody is a supervisor. */
	set(&r, TC, V | PDTV | DPE);
	image_put(&r.image, PDT, V);
	image_put(&r.image, PDT + 8, SV39 | FIRST >> 12);
	r.request.pasid = SNEST_NO_PASID;
	expect_stages(&r, 1);
	assert_true(r.context.flags & SNEST_CONTEXT_UNPRIVILEGED);
	image_destroy(&r.image);
}

/* A second stage of three levels that maps the first GiB of GPAs to `to`. */
static void map_second(struct riscv *r, uint64_t to, uint64_t rights)
{
	image_put(&r->image, SECOND, to >> 12 << 10 | 0xd1 | rights);
}

static void process_directory_behind_the_second_stage(void **state)
{
	static const struct {
		uint32_t access;
		unsigned cause;
	} kinds[] = {
		{SNEST_READ, 21},
		{SNEST_WRITE, 23},
		{SNEST_EXEC, 20},
	};
	struct riscv r;

	(void)state;
	process(&r, true, 2);
	set(&r, IOHGATP, SV39 | GSCID << 44 | SECOND >> 12);
	/* The cause is that of the request, although the directory is only read. */
	for (unsigned i = 0; i < 3; i++) {
		r.request.access = kinds[i].access;
		image_put(&r.image, SECOND, 0);
		expect_fault(&r, kinds[i].cause);
		assert_int_equal(r.context.fault.stage, 1);
		assert_int_equal(r.context.fault.for_level, SNEST_LEVEL_STRUCTURE);
		assert_int_equal(sn_riscv_fault_implicit(&r.context, &r.context.fault), 1);
		map_second(&r, 0, 8);
		expect_fault(&r, kinds[i].cause);
		map_second(&r, 0, 2);
		expect_stages(&r, 2);
		assert_int_equal(r.context.domain, GSCID);
		assert_int_equal(r.context.space, PSCID);
	}
	/* Memory that is not there is the directory's fault. */
	map_second(&r, 0x40000000, 2);
	expect_fault(&r, 265);
	set(&r, IOHGATP, SV39 | IMAGE_OUTSIDE >> 12);
	expect_fault(&r, 265);
	image_destroy(&r.image);
}

/* ---- Torn and hostile --------------------------------------------------- */

static void writer(struct image *image, uint64_t addr, size_t length)
{
	if (length == 32 && image->state < 3 && ++image->state == 2)
		image_put(image, addr + TA * 8, 0x99ull << 12);
}

static void restless(struct image *image, uint64_t addr, size_t length)
{
	if (length == 16)
		image_put(image, addr, image_get(image, addr) ^ 0x1000);
}

static void torn_entries(void **state)
{
	struct riscv r;

	(void)state;
	device(&r, false, 1, false);
	r.image.before = writer;
	r.image.state = 0;
	expect_stages(&r, 1);
	assert_int_equal(r.context.space, 0x99);
	image_destroy(&r.image);
	process(&r, false, 1);
	r.image.before = restless;
	expect_fault(&r, 265);
	assert_in_range(r.image.reads, 4 + SN_DEVICE_TRIES, 4 + SN_DEVICE_TRIES);
	image_destroy(&r.image);
}

static void hostile_structures(void **state)
{
	struct riscv r;
	struct image *image = &r.image;
	unsigned outcomes[3] = {0};

	(void)state;
	for (unsigned variant = 0; variant < 4; variant++) {
		uint64_t dc[8], pc[2] = {0}, top[2];

		if (variant < 2) {
			device(&r, false, 3, variant);
			r.pc = PDT;
		} else {
			process(&r, false, 3);
		}
		if (variant & 1)
			set(&r, IOHGATP, SV39 | SECOND >> 12);
		map_second(&r, 0, 6);
		memcpy(dc, (char *)image->words + r.dc, 64);
		memcpy(pc, (char *)image->words + r.pc, 16);
		top[0] = image_get(image, DDT + (DID >> 16) * 8);
		top[1] = image_get(image, PDT + (PID >> 17) * 8);
		for (unsigned n = 0; n < 25000; n++) {
			for (unsigned i = 0; i < (variant == 1 ? 8 : 4); i++)
				image_put(image, r.dc + i * 8,
				          n % 3 ? image_spoil(image, dc[i]) : dc[i]);
			for (unsigned i = 0; i < 2; i++)
				image_put(image, r.pc + i * 8,
				          n % 2 ? image_spoil(image, pc[i]) : pc[i]);
			if (variant != 1)
				image_put(image, DDT + (DID >> 16) * 8,
				          n % 8 ? top[0] : image_spoil(image, top[0]));
			image_put(image, PDT + (PID >> 17) * 8,
			          n % 8 ? top[1] : image_spoil(image, top[1]));
			r.reg.fctl = n % 32 ? 0 : (uint32_t)image_random(image);
			r.request.pasid = n & 4 || variant < 2 ? SNEST_NO_PASID : PID;
			if (variant > 1 && !(n & 4))
				r.request.pasid = PID;
			r.request.kind = n % 7 ? 0 : n & 3;
			r.request.access = image_random(image) & 0xf;
			image->reads = 0;
			resolve(&r);
			outcomes[r.context.outcome]++;
			/* Two entries and a context twice, once more behind five levels. */
			assert_in_range(image->reads, 0, 4 + 4 + 3 * 5);
		}
		image_destroy(image);
	}
	assert_true(outcomes[SNEST_CONTEXT_STAGES] > 10000);
	assert_true(outcomes[SNEST_CONTEXT_FAULT] > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(directory_levels),
		cmocka_unit_test(directory_modes),
		cmocka_unit_test(directory_faults),
		cmocka_unit_test(impossible_values),
		cmocka_unit_test(not_valid),
		cmocka_unit_test(first_stage_modes),
		cmocka_unit_test(second_stage_modes),
		cmocka_unit_test(both_stages),
		cmocka_unit_test(misconfigured),
		cmocka_unit_test(flat_msi_tables),
		cmocka_unit_test(endianness),
		cmocka_unit_test(kinds_of_request),
		cmocka_unit_test(quiet_faults),
		cmocka_unit_test(process_levels),
		cmocka_unit_test(requests_without_process),
		cmocka_unit_test(process_faults),
		cmocka_unit_test(supervisor_requests),
		cmocka_unit_test(process_directory_behind_the_second_stage),
		cmocka_unit_test(torn_entries),
		cmocka_unit_test(hostile_structures),
	};

	return cmocka_run_group_tests_name("device_riscv", tests, NULL, NULL);
}
