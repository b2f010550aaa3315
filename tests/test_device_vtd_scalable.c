/* SPDX-License-Identifier: MIT */
/*
 * VT-d scalable mode: root, context, PASID directory and PASID entries, one
 * thing changed at a time. Expected codes are the manual's numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/device_vtd.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("device_vtd_scalable", tests, NULL, NULL);
}
