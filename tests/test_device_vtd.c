/* SPDX-License-Identifier: MIT */
/*
 * VT-d device structures: legacy mode, the root register, what recorded guests
 * write; torn and hostile entries in all modes. Expected codes are the
 * manual's numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/device_vtd.h"
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
		cmocka_unit_test(recorded_guests),
		cmocka_unit_test(torn_entry_is_read_again),
		cmocka_unit_test(entry_without_rest_is_unreadable),
		cmocka_unit_test(memory_without_tables_is_unreadable),
		cmocka_unit_test(hostile_structures),
	};

	return cmocka_run_group_tests_name("device_vtd", tests, NULL, NULL);
}
