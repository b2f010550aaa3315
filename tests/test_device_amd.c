/* SPDX-License-Identifier: MIT */
/*
 * AMD-Vi device structures: each test writes a device table and GCR3 tables
 * into a plain memory image and changes one thing at a time. Expected codes
 * are bits 63:48 of events, written out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/image.h"
#include "walkers/device.h"

/* Where the tables lie. */
#define DEVTAB 0x200000ull /* 2 MiB: all devices */
#define HOST 0x10000ull
#define GCR3 0x20000ull /* the top table, the two below it behind each other */
#define CR3 0x30000ull

#define RID 0x1234u
#define PASID 0x2a5c3u /* an index at each of three levels: 0, 0x152, 0x1c3 */

/* Events: number, then flags from bit 48 of the record on. */
#define EV(number) ((number) << 12)
#define GN 0x001
#define PR 0x010
#define RW 0x020
#define PE 0x040
#define RZ 0x080
#define TR 0x100
#define MASTER_ABORT 0x200

#define EFR_NX (1ull << 3)
#define EFR_GT (1ull << 4)
#define EFR_HATS (2ull << 10)
#define EFR_GATS (1ull << 12)
#define EFR_GLX (2ull << 14)
#define EFR_PASMAX (19ull << 32)
#define EFR_SEGMENTS (3ull << 38)
#define EFR_GIO (1ull << 48)
#define EFR_HA (1ull << 49)
#define EFR_HD (1ull << 52)
#define EFR                                                                                      \
	(EFR_NX | EFR_GT | EFR_HATS | EFR_GATS | EFR_GLX | EFR_PASMAX | EFR_SEGMENTS | EFR_GIO | \
	 EFR_HA | EFR_HD)

#define ENABLE 1ull
#define GTEN (1ull << 16)
#define SEGMENTS(lg2) ((uint64_t)(lg2) << 34)
#define GDUPDATEDIS (1ull << 48)

#define V 1ull
#define TV 2ull
#define HA (1ull << 7)
#define HD (1ull << 8)
#define MODE(n) ((uint64_t)(n) << 9)
#define PPR (1ull << 52)
#define GIOV (1ull << 54)
#define GV (1ull << 55)
#define GLX(n) ((uint64_t)(n) << 56)
#define IR (1ull << 61)
#define IW (1ull << 62)
#define ATS (1ull << 32) /* word 1 */
#define SE (1ull << 33)
#define SA (1ull << 34)

#define DOMAIN 0xd00dull

struct amd {
	struct image image;
	struct snest_amd_registers reg;
	struct snest_request request;
	struct snest_context context;
};

static uint64_t entry(void)
{
	return DEVTAB + RID * 32;
}

static void set(struct amd *a, unsigned word, uint64_t value)
{
	image_put(&a->image, entry() + word * 8, value);
}

static uint64_t get(struct amd *a, unsigned word)
{
	return image_get(&a->image, entry() + word * 8);
}

static void put_gcr3_root(struct amd *a, uint64_t root)
{
	set(a, 0, (get(a, 0) & ~(7ull << 58)) | (root >> 12 & 7) << 58);
	set(a, 1,
	    (get(a, 1) & ~(0xffffull << 16 | 0x1fffffull << 43)) | (root >> 15 & 0xffff) << 16 |
	            (root >> 31 & 0x1fffff) << 43);
}

/* A device with host tables of `mode` levels. */
static void host(struct amd *a, bool direct, unsigned mode)
{
	image_create(&a->image, direct);
	a->reg = (struct snest_amd_registers){
		.size = sizeof(a->reg),
		.device_table = {DEVTAB | 0x1ff},
		.control = ENABLE | GTEN,
		.efr = EFR,
	};
	a->request = (struct snest_request){
		.size = sizeof(a->request),
		.rid = RID,
		.pasid = SNEST_NO_PASID,
		.access = SNEST_READ,
		.iova = 0x123456000,
	};
	set(a, 0, HOST | V | TV | IR | IW | MODE(mode));
	set(a, 1, DOMAIN);
}

/* The same with guest tables; GCR3 tables of levels - 1 = glx. */
static void guest(struct amd *a, bool direct, unsigned mode, unsigned glx)
{
	host(a, direct, mode);
	set(a, 0, get(a, 0) | GV | GLX(glx));
	put_gcr3_root(a, GCR3);
	for (unsigned level = glx; level; level--)
		image_put(&a->image,
		          GCR3 + (glx - level) * 0x1000 + (PASID >> 9 * level & 0x1ff) * 8,
		          (GCR3 + (glx - level + 1) * 0x1000) | 1);
	image_put(&a->image, GCR3 + glx * 0x1000 + (PASID & 0x1ff) * 8, CR3 | 1);
}

static void resolve(struct amd *a)
{
	memset(&a->context, 0xa5, sizeof(a->context));
	assert_int_equal(snest_amd_context(a->image.vm, &a->reg, &a->request, &a->context), 0);
	image_check("amd", &a->context);
}

static void expect_fault(struct amd *a, unsigned code)
{
	resolve(a);
	assert_int_equal(a->context.outcome, SNEST_CONTEXT_FAULT);
	assert_int_equal(a->context.fault.code, code);
}

static void expect_stages(struct amd *a, unsigned count)
{
	resolve(a);
	assert_int_equal(a->context.outcome, SNEST_CONTEXT_STAGES);
	assert_int_equal(a->context.count, count);
}

static void fault_with(struct amd *a, unsigned word, uint64_t value, unsigned code)
{
	uint64_t old = get(a, word);

	set(a, word, value);
	expect_fault(a, code);
	set(a, word, old);
}

static void host_stage(void **state)
{
	struct amd a;

	(void)state;
	for (unsigned direct = 0; direct < 2; direct++) {
		for (unsigned mode = 1; mode <= 6; mode++) {
			host(&a, direct, mode);
			expect_stages(&a, 1);
			assert_int_equal(a.context.iommu, SNEST_IOMMU_AMD);
			assert_int_equal(a.context.flags, 0);
			assert_int_equal(a.context.domain, DOMAIN);
			assert_int_equal(a.context.pasid, SNEST_NO_PASID);
			assert_int_equal(a.context.rights, SNEST_RIGHTS);
			assert_int_equal(a.context.stage[0].format, SNEST_FORMAT_AMD_V1);
			assert_int_equal(a.context.stage[0].levels, mode);
			assert_int_equal(a.context.stage[0].root, HOST);
			assert_int_equal(a.context.stage[0].flags, 0);
			assert_int_equal(a.context.stage[0].rights, SNEST_RIGHTS);
			image_destroy(&a.image);
		}
	}
}

static void disabled_passes(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 4);
	a.reg.control = 0;
	a.reg.device_table[0] = IMAGE_OUTSIDE;
	expect_stages(&a, 0);
	assert_int_equal(a.context.rights, SNEST_RIGHTS);
	image_destroy(&a.image);
}

static void invalid_entry_passes(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 4);
	/* Whatever else it holds: not a check is made. */
	set(&a, 0, ~V);
	set(&a, 1, ~0ull);
	set(&a, 2, ~0ull);
	a.request.access = SNEST_READ | SNEST_WRITE;
	expect_stages(&a, 0);
	assert_int_equal(a.context.rights, SNEST_RIGHTS);
	image_destroy(&a.image);
}

static void valid_without_translation_blocks(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 4);
	fault_with(&a, 0, V | IR | IW, EV(2));
	a.request.access = SNEST_WRITE;
	fault_with(&a, 0, V | IR | IW, EV(2) | RW);
	/* Reserved bits are looked at before TV. */
	fault_with(&a, 0, V | IR | IW | 4, EV(1) | RZ | RW);
	image_destroy(&a.image);
}

static void reserved_bits(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 4);
	for (unsigned bit = 2; bit <= 6; bit++)
		fault_with(&a, 0, get(&a, 0) | 1ull << bit, EV(1) | RZ);
	fault_with(&a, 0, get(&a, 0) | 1ull << 63, EV(1) | RZ);
	fault_with(&a, 1, get(&a, 1) | 1ull << 42, EV(1) | RZ);
	fault_with(&a, 1, get(&a, 1) | 3ull << 35, EV(1) | RZ);
	/* Flag updates that EFR does not have. */
	a.reg.efr &= ~(EFR_HA | EFR_HD);
	fault_with(&a, 0, get(&a, 0) | HA, EV(1) | RZ);
	fault_with(&a, 0, get(&a, 0) | HD, EV(1) | RZ);
	/* Interrupt fields, with IV only. */
	fault_with(&a, 2, 1 | 12 << 1, EV(1) | RZ);
	fault_with(&a, 2, 1 | 3ull << 60, EV(1) | RZ);
	set(&a, 2, 12 << 1 | 3ull << 60);
	expect_stages(&a, 1);
	/* The fourth word is not read for DMA. */
	set(&a, 3, ~0ull);
	expect_stages(&a, 1);
	image_destroy(&a.image);
}

static void rights_of_the_entry(void **state)
{
	struct amd a;

	(void)state;
	for (unsigned mode = 0; mode <= 4; mode += 4) {
		host(&a, true, mode);
		set(&a, 0, HOST | V | TV | MODE(mode) | IR);
		expect_stages(&a, mode ? 1 : 0);
		assert_int_equal(a.context.rights, SNEST_READ | SNEST_EXEC);
		if (mode)
			assert_int_equal(a.context.stage[0].rights, SNEST_READ | SNEST_EXEC);
		a.request.access = SNEST_WRITE;
		expect_fault(&a, EV(2) | PR | PE | RW);
		set(&a, 0, HOST | V | TV | MODE(mode) | IW);
		expect_stages(&a, mode ? 1 : 0);
		assert_int_equal(a.context.rights, SNEST_WRITE);
		a.request.access = SNEST_READ;
		expect_fault(&a, EV(2) | PR | PE);
		/* Nothing allowed: not even to ask. */
		set(&a, 0, HOST | V | TV | MODE(mode));
		a.request.access = 0;
		expect_fault(&a, EV(2) | PR | PE);
		image_destroy(&a.image);
	}
	/* They come before a bad mode. */
	host(&a, true, 7);
	set(&a, 0, HOST | V | TV | MODE(7));
	expect_fault(&a, EV(2) | PR | PE);
	image_destroy(&a.image);
}

static void modes(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 7);
	expect_fault(&a, EV(2));
	for (unsigned hats = 0; hats < 3; hats++) {
		a.reg.efr = (EFR & ~EFR_HATS) | (uint64_t)hats << 10;
		for (unsigned mode = 1; mode <= 6; mode++) {
			set(&a, 0, HOST | V | TV | IR | IW | MODE(mode));
			if (mode <= hats + 4)
				expect_stages(&a, 1);
			else
				expect_fault(&a, EV(2));
		}
	}
	image_destroy(&a.image);
}

static void identity(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 0);
	expect_stages(&a, 0);
	assert_int_equal(a.context.domain, DOMAIN);
	image_destroy(&a.image);
}

static void flags_of_the_entry(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 4);
	set(&a, 0, get(&a, 0) | HA | HD | PPR);
	set(&a, 1, DOMAIN | ATS | SE | SA);
	expect_stages(&a, 1);
	assert_int_equal(a.context.flags, SNEST_CONTEXT_ATS | SNEST_CONTEXT_PRI |
	                                          SNEST_CONTEXT_QUIET | SNEST_CONTEXT_SUPPRESS);
	assert_int_equal(a.context.stage[0].flags, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D);
	/* A dirty flag without an accessed flag is not kept. */
	set(&a, 0, get(&a, 0) & ~HA);
	expect_stages(&a, 1);
	assert_int_equal(a.context.stage[0].flags, 0);
	/* Page faults are suppressed by SA, an illegal entry is not. */
	fault_with(&a, 0, get(&a, 0) & ~TV, EV(2));
	assert_false(snest_fault_recorded(&a.context, &a.request, &a.context.fault));
	fault_with(&a, 0, get(&a, 0) | 4, EV(1) | RZ);
	assert_true(snest_fault_recorded(&a.context, &a.request, &a.context.fault));
	image_destroy(&a.image);
}

static void kinds_of_request(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 4);
	a.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_fault(&a, EV(8) | 1 << 9 | TR);
	a.request.kind = SNEST_REQUEST_TRANSLATED;
	expect_fault(&a, EV(8) | 1 << 9);
	a.request.kind = SNEST_REQUEST_PAGE;
	expect_fault(&a, EV(9));
	set(&a, 0, get(&a, 0) | PPR);
	set(&a, 1, DOMAIN | ATS);
	expect_stages(&a, 1);
	a.request.kind = SNEST_REQUEST_TRANSLATED;
	expect_stages(&a, 0);
	a.request.kind = SNEST_REQUEST_TRANSLATION;
	expect_stages(&a, 1);
	/* A translation request never logs a page fault. */
	fault_with(&a, 0, get(&a, 0) & ~TV, EV(2) | TR);
	assert_false(snest_fault_recorded(&a.context, &a.request, &a.context.fault));
	image_destroy(&a.image);
}

static void device_table(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 4);
	/* One page: 128 entries. */
	a.reg.device_table[0] = DEVTAB;
	expect_fault(&a, EV(2));
	a.request.rid = 128;
	expect_fault(&a, EV(2));
	a.request.rid = 127;
	expect_stages(&a, 0);
	/* RID 0x1234 is entry 0x34 of the 37th page. */
	a.request.rid = RID;
	a.reg.device_table[0] = DEVTAB | 35;
	expect_fault(&a, EV(2));
	a.reg.device_table[0] = DEVTAB | 36;
	expect_stages(&a, 1);
	a.reg.device_table[0] = IMAGE_OUTSIDE | 0x1ff;
	expect_fault(&a, EV(3) | MASTER_ABORT);
	assert_int_equal(a.context.fault.entry_addr, IMAGE_OUTSIDE + RID * 32);
	image_destroy(&a.image);
}

static void device_table_segments(void **state)
{
	struct amd a;

	(void)state;
	host(&a, true, 4);
	for (unsigned lg2 = 0; lg2 <= 3; lg2++) {
		unsigned segment = RID >> (16 - lg2);

		a.reg.control = ENABLE | SEGMENTS(lg2);
		for (unsigned i = 0; i < 8; i++)
			a.reg.device_table[i] = IMAGE_OUTSIDE | 0xff;
		/* The index counts from the segment's first device. */
		a.reg.device_table[segment] =
			(DEVTAB + (uint64_t)segment * (0x200000u >> lg2)) | 0xff;
		expect_stages(&a, 1);
	}
	/* More segments than EFR has. */
	a.reg.efr &= ~EFR_SEGMENTS;
	a.reg.device_table[0] = DEVTAB | 0x1ff;
	expect_stages(&a, 1);
	a.reg.efr |= 1ull << 38;
	a.request.rid = 0x8000;
	a.reg.device_table[1] = IMAGE_OUTSIDE | 0xff;
	expect_fault(&a, EV(3) | MASTER_ABORT);
	image_destroy(&a.image);
}

static void impossible_values(void **state)
{
	struct amd a;
	struct snest_amd_registers reg;
	struct snest_request request;

	(void)state;
	host(&a, true, 4);
#define REFUSED(change)                                                                     \
	do {                                                                                \
		reg = a.reg;                                                                \
		request = a.request;                                                        \
		change;                                                                     \
		assert_int_equal(snest_amd_context(a.image.vm, &reg, &request, &a.context), \
		                 -EINVAL);                                                  \
	} while (0)
	REFUSED(reg.size = 0);
	REFUSED(reg.reserved = 1);
	REFUSED(reg.efr |= 3ull << 10);
	REFUSED(reg.efr |= 2ull << 12);
	REFUSED(reg.efr |= 3ull << 14);
	REFUSED(reg.efr |= 31ull << 32);
	REFUSED(request.rid = 0x10000);
#undef REFUSED
	image_destroy(&a.image);
}

/* ---- Guest translation ------------------------------------------------- */

static void guest_stage(void **state)
{
	struct amd a;

	(void)state;
	for (unsigned glx = 0; glx < 3; glx++) {
		guest(&a, glx & 1, 0, glx);
		a.request.pasid = glx == 0 ? PASID & 0x1ff : PASID;
		/* Two levels hold 18 bits, and this PASID has 18. */
		expect_stages(&a, 1);
		assert_int_equal(a.context.flags, SNEST_CONTEXT_PASID);
		assert_int_equal(a.context.domain, DOMAIN);
		assert_int_equal(a.context.space, a.request.pasid);
		assert_int_equal(a.context.pasid, a.request.pasid);
		assert_int_equal(a.context.stage[0].format, SNEST_FORMAT_AMD_V2);
		assert_int_equal(a.context.stage[0].levels, 4);
		assert_int_equal(a.context.stage[0].root, CR3);
		assert_int_equal(a.context.stage[0].rights, SNEST_RIGHTS);
		assert_int_equal(a.context.stage[0].flags, SNEST_STAGE_HW_A | SNEST_STAGE_HW_D |
		                                                   SNEST_STAGE_X86_WP |
		                                                   SNEST_STAGE_X86_NX);
		/* Without a PASID the device does not come here. */
		a.request.pasid = SNEST_NO_PASID;
		expect_stages(&a, 0);
		image_destroy(&a.image);
	}
}

static void guest_stage_follows_registers(void **state)
{
	struct amd a;

	(void)state;
	guest(&a, true, 0, 2);
	a.request.pasid = PASID;
	a.reg.control |= GDUPDATEDIS;
	a.reg.efr &= ~EFR_NX;
	set(&a, 2, 1ull << 54);
	expect_stages(&a, 1);
	assert_int_equal(a.context.stage[0].levels, 5);
	assert_int_equal(a.context.stage[0].flags, SNEST_STAGE_HW_A | SNEST_STAGE_X86_WP);
	image_destroy(&a.image);
}

static void requests_without_pasid_as_pasid_0(void **state)
{
	struct amd a;

	(void)state;
	guest(&a, true, 0, 0);
	set(&a, 0, get(&a, 0) | GIOV);
	image_put(&a.image, GCR3, (CR3 + 0x1000) | 1);
	expect_stages(&a, 1);
	assert_int_equal(a.context.stage[0].root, CR3 + 0x1000);
	assert_int_equal(a.context.pasid, 0);
	image_destroy(&a.image);
}

static void gcr3_root_is_scattered(void **state)
{
	struct amd a;

	(void)state;
	guest(&a, true, 0, 0);
	a.request.pasid = 5;
	for (unsigned bit = 12; bit < 52; bit++) {
		put_gcr3_root(&a, 1ull << bit);
		memset(a.image.words, 0, 0x200000);
		if (bit < 21) {
			image_put(&a.image, (1ull << bit) + 40, CR3 | 1);
			expect_stages(&a, 1);
		} else if (bit > 21) {
			expect_fault(&a, EV(4) | GN | MASTER_ABORT);
			assert_int_equal(a.context.fault.entry_addr, (1ull << bit) + 40);
		}
	}
	image_destroy(&a.image);
}

static void pasid_beyond_the_tables(void **state)
{
	struct amd a;

	(void)state;
	for (unsigned glx = 0; glx < 3; glx++) {
		guest(&a, true, 0, glx);
		/* The last PASID is looked up, the next is not. */
		a.request.pasid = glx < 2 ? (1u << 9 * (glx + 1)) - 1 : 0xfffff;
		expect_fault(&a, EV(2) | GN);
		assert_int_not_equal(a.context.fault.entry_addr, entry());
		if (glx < 2) {
			a.request.pasid++;
			expect_fault(&a, EV(2) | GN);
			assert_int_equal(a.context.fault.entry_addr, entry());
		}
		image_destroy(&a.image);
	}
	/* PASMax limits it too. */
	guest(&a, true, 0, 2);
	a.reg.efr = (EFR & ~EFR_PASMAX) | 7ull << 32;
	a.request.pasid = 256;
	expect_fault(&a, EV(2) | GN);
	assert_int_equal(a.context.fault.entry_addr, entry());
	image_destroy(&a.image);
}

static void gcr3_faults(void **state)
{
	struct amd a;

	(void)state;
	guest(&a, true, 0, 2);
	a.request.pasid = PASID;
	for (unsigned level = 0; level < 3; level++) {
		uint64_t at = GCR3 + (2 - level) * 0x1000 + (PASID >> 9 * level & 0x1ff) * 8;
		uint64_t old = image_get(&a.image, at);

		image_put(&a.image, at, old & ~1ull);
		expect_fault(&a, EV(2) | GN);
		assert_int_equal(a.context.fault.entry_addr, at);
		if (level) {
			image_put(&a.image, at, IMAGE_OUTSIDE | 1);
			expect_fault(&a, EV(4) | GN | MASTER_ABORT);
		}
		image_put(&a.image, at, old);
	}
	expect_stages(&a, 1);
	image_destroy(&a.image);
}

static void guest_fields(void **state)
{
	struct amd a;

	(void)state;
	guest(&a, true, 0, 0);
	fault_with(&a, 0, get(&a, 0) | GLX(3), EV(1) | RZ);
	fault_with(&a, 2, 2ull << 54, EV(1) | RZ);
	fault_with(&a, 2, 3ull << 54, EV(1) | RZ);
	a.reg.efr &= ~(EFR_GLX | EFR_GATS | EFR_GIO);
	fault_with(&a, 0, get(&a, 0) | GLX(1), EV(1) | RZ);
	fault_with(&a, 2, 1ull << 54, EV(1) | RZ);
	fault_with(&a, 0, get(&a, 0) | GIOV, EV(1) | RZ);
	a.reg.efr &= ~EFR_GT;
	expect_fault(&a, EV(1) | RZ);
	a.reg.efr |= EFR_GT;
	a.reg.control &= ~GTEN;
	expect_fault(&a, EV(1) | RZ);
	/* Without GV none of them matters, but a PASID leads nowhere. */
	set(&a, 0, (get(&a, 0) & ~GV) | GLX(3) | GIOV);
	expect_stages(&a, 0);
	a.request.pasid = 1;
	expect_fault(&a, EV(2) | GN);
	image_destroy(&a.image);
}

/* A host table of 4 levels that maps the first 2 MiB of GPAs one to one, or to `to`. */
static void map_host(struct amd *a, uint64_t rights, uint64_t to)
{
	image_put(&a->image, HOST, (HOST + 0x1000) | 3 << 9 | 1 | IR | IW);
	image_put(&a->image, HOST + 0x1000, (HOST + 0x2000) | 2 << 9 | 1 | IR | IW);
	image_put(&a->image, HOST + 0x2000, (HOST + 0x3000) | 1 << 9 | 1 | IR | IW);
	for (unsigned i = 0; i < 512; i++)
		image_put(&a->image, HOST + 0x3000 + i * 8, (to + i * 4096ull) | 1 | rights);
}

static void guest_tables_behind_the_host_stage(void **state)
{
	struct amd a;

	(void)state;
	guest(&a, true, 4, 1);
	a.request.pasid = PASID;
	/* No translation of the table's GPA: a host page fault, with its own flags. */
	expect_fault(&a, EV(2));
	assert_int_equal(a.context.fault.reason, SNEST_FAULT_NOT_PRESENT);
	assert_int_equal(a.context.fault.stage, 1);
	assert_int_equal(a.context.fault.for_stage, 0);
	assert_int_equal(a.context.fault.for_level, SNEST_LEVEL_STRUCTURE);
	map_host(&a, IW, 0);
	expect_fault(&a, EV(2) | PR | PE);
	map_host(&a, IR | IW, 0);
	expect_stages(&a, 2);
	assert_int_equal(a.context.stage[0].format, SNEST_FORMAT_AMD_V2);
	assert_int_equal(a.context.stage[1].format, SNEST_FORMAT_AMD_V1);
	assert_int_equal(a.context.stage[1].root, HOST);
	assert_int_equal(a.context.stage[0].root, CR3);
	/* Moved: the GPAs are not taken for host addresses. */
	map_host(&a, IR | IW, 0x100000);
	expect_fault(&a, EV(2) | GN);
	memcpy((char *)a.image.words + 0x100000 + GCR3, (char *)a.image.words + GCR3, 0x2000);
	image_put(&a.image, 0x100000 + GCR3 + 0x1000 + (PASID & 0x1ff) * 8, 0x77000 | 1);
	expect_stages(&a, 2);
	assert_int_equal(a.context.stage[0].root, 0x77000);
	/* A host address without memory. */
	map_host(&a, IR | IW, IMAGE_OUTSIDE);
	expect_fault(&a, EV(4) | GN | MASTER_ABORT);
	/* A host table without memory is the host stage's. */
	image_put(&a.image, HOST, IMAGE_OUTSIDE | 3 << 9 | 1 | IR | IW);
	expect_fault(&a, EV(4) | MASTER_ABORT);
	image_destroy(&a.image);
}

/* ---- Torn and hostile -------------------------------------------------- */

static void writer(struct image *image, uint64_t addr, size_t length)
{
	(void)length;
	if (addr == entry() && image->state < 3 && ++image->state == 2)
		image_put(image, addr + 8, DOMAIN + 1);
}

static void restless(struct image *image, uint64_t addr, size_t length)
{
	if (length > 8)
		image_put(image, addr + 8, image_get(image, addr + 8) ^ 1);
}

static void torn_entries(void **state)
{
	struct amd a;

	(void)state;
	host(&a, false, 4);
	a.image.before = writer;
	a.image.state = 0;
	expect_stages(&a, 1);
	assert_int_equal(a.context.domain, DOMAIN + 1);
	a.image.before = restless;
	a.image.reads = 0;
	expect_fault(&a, EV(3) | MASTER_ABORT);
	assert_in_range(a.image.reads, 2, SN_DEVICE_TRIES);
	image_destroy(&a.image);
}

static void hostile_structures(void **state)
{
	struct amd a;
	struct image *image = &a.image;
	uint64_t dte[4], gcr3[3];
	unsigned outcomes[3] = {0};

	(void)state;
	for (unsigned mode = 0; mode < 8; mode += 4) {
		guest(&a, false, mode, 2);
		map_host(&a, IR | IW, 0);
		memcpy(dte, (char *)image->words + entry(), sizeof(dte));
		for (unsigned i = 0; i < 3; i++)
			gcr3[i] = image_get(image,
			                    GCR3 + (2 - i) * 0x1000 + (PASID >> 9 * i & 0x1ff) * 8);
		for (unsigned n = 0; n < 50000; n++) {
			for (unsigned i = 0; i < 4; i++)
				set(&a, i, n & 3 ? image_spoil(image, dte[i]) : dte[i]);
			for (unsigned i = 0; i < 3; i++)
				image_put(image,
				          GCR3 + (2 - i) * 0x1000 + (PASID >> 9 * i & 0x1ff) * 8,
				          n & 4 ? image_spoil(image, gcr3[i]) : gcr3[i]);
			a.reg.control = n % 16 ? ENABLE | GTEN : image_random(image);
			a.reg.device_table[0] =
				n % 64 ? DEVTAB | 0x1ff : image_spoil(image, DEVTAB | 0x1ff);
			a.request.pasid = n & 8 ? PASID : SNEST_NO_PASID;
			a.request.kind = n >> 5 & 3;
			a.request.access = image_random(image) & 0xf;
			image->reads = 0;
			resolve(&a);
			outcomes[a.context.outcome]++;
			/* The entry twice; three tables, each behind at most six levels. */
			assert_in_range(image->reads, 0, 2 + 3 * 7);
		}
		image_destroy(image);
	}
	assert_true(outcomes[SNEST_CONTEXT_STAGES] > 10000);
	assert_true(outcomes[SNEST_CONTEXT_FAULT] > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_stage),
		cmocka_unit_test(disabled_passes),
		cmocka_unit_test(invalid_entry_passes),
		cmocka_unit_test(valid_without_translation_blocks),
		cmocka_unit_test(reserved_bits),
		cmocka_unit_test(rights_of_the_entry),
		cmocka_unit_test(modes),
		cmocka_unit_test(identity),
		cmocka_unit_test(flags_of_the_entry),
		cmocka_unit_test(kinds_of_request),
		cmocka_unit_test(device_table),
		cmocka_unit_test(device_table_segments),
		cmocka_unit_test(impossible_values),
		cmocka_unit_test(guest_stage),
		cmocka_unit_test(guest_stage_follows_registers),
		cmocka_unit_test(requests_without_pasid_as_pasid_0),
		cmocka_unit_test(gcr3_root_is_scattered),
		cmocka_unit_test(pasid_beyond_the_tables),
		cmocka_unit_test(gcr3_faults),
		cmocka_unit_test(guest_fields),
		cmocka_unit_test(guest_tables_behind_the_host_stage),
		cmocka_unit_test(torn_entries),
		cmocka_unit_test(hostile_structures),
	};

	return cmocka_run_group_tests_name("device_amd", tests, NULL, NULL);
}
