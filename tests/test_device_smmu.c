/* SPDX-License-Identifier: MIT */
/*
 * SMMUv3: registers, stream table and its entries, stage 2, ATS; torn and
 * hostile structures. One thing changed at a time; expected codes are event
 * numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/device_smmu.h"
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
	/* 56 bits are VMSAv9-128's alone. */
	s.reg.idr[5] = 7 | 7 << 4;
	ste(&s, 178, 176, 7);
	ste(&s, 175, 174, 1);
	ste(&s, 165, 160, 30);
	expect_stages(&s, 1);
	assert_int_equal(s.context.stage[0].oa_bits, 52);
	ste(&s, 175, 174, 0);
	ste(&s, 165, 160, 24);
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
		cmocka_unit_test(stage_2),
		cmocka_unit_test(stage_2_start_levels),
		cmocka_unit_test(illegal_stage_2),
		cmocka_unit_test(ats),
		cmocka_unit_test(torn_entries),
		cmocka_unit_test(hostile_structures),
	};

	return cmocka_run_group_tests_name("device_smmu", tests, NULL, NULL);
}
