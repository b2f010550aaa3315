/* SPDX-License-Identifier: MIT */
/*
 * SMMUv3 context descriptors: stage 1, substreams, stream worlds, descriptors
 * behind stage 2; one thing changed at a time. Expected codes are event numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/device_smmu.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		cmocka_unit_test(descriptors_behind_stage_2),
	};

	return cmocka_run_group_tests_name("device_smmu_cd", tests, NULL, NULL);
}
