/* SPDX-License-Identifier: MIT */
/* Tables from the manuals. See facts.h. */
#include "support/facts.h"

#include "support/configs.h"
#include "walkers/pt.h"

#define BIT(n) ((uint64_t)1 << (n))

/* Bits high..low. */
static uint64_t bits(unsigned high, unsigned low)
{
	return (UINT64_MAX >> (63 - (high - low))) << low;
}

static uint64_t bits_from(unsigned low, unsigned high)
{
	return low > high ? 0 : bits(high, low);
}

/* ---- Arm: TxSZ by granule and start level ----------------------------------- */

struct arm_row {
	uint8_t granule_lg2;
	int8_t start;
	uint8_t tsz_first, tsz_last;
};

/* Stage 1. T0SZ below 16 needs DS (4K, 16K), or 64K pages. */
static const struct arm_row arm_stage1[] = {
	{12, -1, 12, 15}, {12, 0, 16, 24}, {12, 1, 25, 33}, {12, 2, 34, 42},
	{12, 3, 43, 48},  {14, 0, 12, 16}, {14, 1, 17, 27}, {14, 2, 28, 38},
	{14, 3, 39, 48},  {16, 1, 12, 21}, {16, 2, 22, 34}, {16, 3, 35, 47},
};

/* Stage 2, with up to 16 concatenated tables. Below 16 needs DS, or LPA with 64K pages. */
static const struct arm_row arm_stage2[] = {
	{12, -1, 12, 15}, {12, 0, 12, 24}, {12, 1, 21, 33}, {12, 2, 30, 42},
	{12, 3, 39, 48},  {14, 0, 12, 16}, {14, 1, 13, 27}, {14, 2, 24, 38},
	{14, 3, 35, 48},  {16, 1, 12, 21}, {16, 2, 18, 34}, {16, 3, 31, 47},
};

bool fact_arm_start(bool stage2, unsigned granule_lg2, unsigned width, int start, bool ds, bool lpa)
{
	const struct arm_row *row = stage2 ? arm_stage2 : arm_stage1;
	unsigned tsz = 64 - width;

	if (tsz < 16 && !(granule_lg2 == 16 ? lpa || !stage2 : ds))
		return false;
	/* Without DS a stage 2 of 48 bits and 16K pages starts at level 1, with 2 tables. */
	if (stage2 && granule_lg2 == 14 && start == 0 && !ds)
		return false;
	/* Level -1 exists with DS only. */
	if (start == -1 && !ds)
		return false;
	for (size_t i = 0; i < sizeof(arm_stage1) / sizeof(arm_stage1[0]); i++) {
		if (row[i].granule_lg2 == granule_lg2 && row[i].start == start &&
		    tsz >= row[i].tsz_first && tsz <= row[i].tsz_last)
			return true;
	}
	return false;
}

/* Block and page sizes by the manual's level. */
static uint64_t arm_sizes(const struct snest_stage *s, unsigned half, int level)
{
	switch (test_config_granule_lg2(s, half)) {
	case 12:
		return level == 3                                      ? BIT(12)
		       : level == 2                                    ? BIT(21)
		       : level == 1                                    ? BIT(30)
		       : level == 0 && (s->flags & SNEST_STAGE_ARM_DS) ? BIT(39)
		                                                       : 0;
	case 14:
		return level == 3                                      ? BIT(14)
		       : level == 2                                    ? BIT(25)
		       : level == 1 && (s->flags & SNEST_STAGE_ARM_DS) ? BIT(36)
		                                                       : 0;
	default:
		return level == 3                                       ? BIT(16)
		       : level == 2                                     ? BIT(29)
		       : level == 1 && (s->flags & SNEST_STAGE_ARM_LPA) ? BIT(42)
		                                                        : 0;
	}
}

/* ---- All formats -------------------------------------------------------------- */

static bool is_arm(const struct snest_stage *s)
{
	return s->format == SNEST_FORMAT_ARM_S1 || s->format == SNEST_FORMAT_ARM_S2;
}

unsigned fact_input_bits(const struct snest_stage *s, unsigned half)
{
	unsigned x4 = s->flags & SNEST_STAGE_RISCV_X4 ? 2 : 0;

	switch (s->format) {
	case SNEST_FORMAT_ARM_S1:
	case SNEST_FORMAT_ARM_S2:
		return half ? s->ia_bits_high : s->ia_bits;
	case SNEST_FORMAT_RISCV32:
		return 32 + x4;
	case SNEST_FORMAT_RISCV64:
		return (s->levels == 3 ? 39 : s->levels == 4 ? 48 : 57) + x4;
	case SNEST_FORMAT_AMD_V1:
		return s->levels == 6 ? 64 : 12 + 9 * s->levels;
	case SN_FORMAT_MOCK:
		return 43;
	default:
		return s->ia_bits ? s->ia_bits : s->levels == 3 ? 39 : s->levels == 4 ? 48 : 57;
	}
}

bool fact_signed(const struct snest_stage *s)
{
	return s->format == SNEST_FORMAT_X86_64 || s->format == SNEST_FORMAT_AMD_V2 ||
	       (s->format == SNEST_FORMAT_RISCV64 && !(s->flags & SNEST_STAGE_RISCV_X4));
}

unsigned fact_levels(const struct snest_stage *s, unsigned half)
{
	if (!is_arm(s) || (s->levels && !half))
		return s->levels;
	for (int start = 3; start >= -1; start--) {
		if (fact_arm_start(false, test_config_granule_lg2(s, half),
		                   fact_input_bits(s, half), start, s->flags & SNEST_STAGE_ARM_DS,
		                   s->flags & SNEST_STAGE_ARM_LPA))
			return 4 - (unsigned)start;
	}
	return 0;
}

uint64_t fact_leaf_sizes(const struct snest_stage *s, unsigned half, unsigned level)
{
	switch (s->format) {
	case SNEST_FORMAT_X86_64:
	case SNEST_FORMAT_AMD_V2:
	case SNEST_FORMAT_VTD_SS:
		return level == 0   ? BIT(12)
		       : level == 1 ? (s->flags & SNEST_STAGE_NO_2M ? 0 : BIT(21))
		       : level == 2 ? (s->flags & SNEST_STAGE_NO_1G ? 0 : BIT(30))
		                    : 0;
	case SNEST_FORMAT_AMD_V1: {
		/* Every power of two from 4K on; the manual's level 6 has no leaves. */
		static const uint64_t sizes[] = {
			0x00000000001ff000, 0x000000003fe00000, 0x0000007fc0000000,
			0x0000ff8000000000, 0x01ff000000000000, 0,
		};

		return sizes[level] & (BIT((s->oa_bits ? s->oa_bits : 52) + 1) - 1);
	}
	case SNEST_FORMAT_ARM_S1:
	case SNEST_FORMAT_ARM_S2:
		return arm_sizes(s, half, 3 - (int)level);
	case SNEST_FORMAT_RISCV32:
		return level == 0 ? BIT(12) : BIT(22);
	case SNEST_FORMAT_RISCV64: {
		static const uint64_t sizes[] = {BIT(12), BIT(21), BIT(30), BIT(39), BIT(48)};

		return sizes[level] |
		       (level == 0 && (s->flags & SNEST_STAGE_RISCV_SVNAPOT) ? BIT(16) : 0);
	}
	default:
		return level == 0 ? BIT(11) : level == 1 ? BIT(19) : level == 3 ? BIT(35) : 0;
	}
}

static uint64_t vtd_x86_reserved(const struct snest_stage *s, unsigned level, bool leaf)
{
	unsigned oa_bits = s->oa_bits ? s->oa_bits : 52;
	uint64_t reserved = bits_from(oa_bits, 51);
	bool vtd = s->format == SNEST_FORMAT_VTD_SS;

	/* PS, where no large page is. */
	if (level >= 3 || (level == 2 && (s->flags & SNEST_STAGE_NO_1G)) ||
	    (level == 1 && (s->flags & SNEST_STAGE_NO_2M)))
		reserved |= BIT(7);
	/* The address below a large page's size; x86-64 keeps PAT in bit 12. */
	if (leaf && level)
		reserved |= bits(level == 1 ? 20 : 29, vtd ? 12 : 13);
	if (vtd && (!leaf || !(s->flags & SNEST_STAGE_VTD_SNOOP)))
		reserved |= BIT(11);
	if (vtd && (!leaf || !(s->flags & SNEST_STAGE_VTD_TM)))
		reserved |= BIT(62);
	return reserved;
}

uint64_t fact_reserved(const struct snest_stage *s, unsigned level, bool leaf)
{
	uint64_t reserved = 0;

	switch (s->format) {
	case SNEST_FORMAT_X86_64:
	case SNEST_FORMAT_AMD_V2:
	case SNEST_FORMAT_VTD_SS:
		return vtd_x86_reserved(s, level, leaf);
	case SNEST_FORMAT_AMD_V1:
		return leaf ? bits(58, 52) : bits(60, 52);
	case SNEST_FORMAT_RISCV32:
		return leaf ? 0 : BIT(4) | BIT(6) | BIT(7);
	case SNEST_FORMAT_RISCV64:
		reserved = bits(58, 54);
		if (!(s->flags & SNEST_STAGE_RISCV_SVRSW60T59B))
			reserved |= bits(60, 59);
		if (!leaf || !(s->flags & SNEST_STAGE_RISCV_SVPBMT))
			reserved |= bits(62, 61);
		/* N goes with PPN[3:0] = 8 only, and with 4K slots only. */
		reserved |= BIT(63);
		return reserved | (leaf ? 0 : BIT(4) | BIT(6) | BIT(7));
	case SN_FORMAT_MOCK:
		return bits(22, 8);
	default:
		/* Arm ignores what it does not define. */
		return 0;
	}
}

/* ---- What leaves say ------------------------------------------------------------ */

bool fact_refuses(const struct snest_stage *s, uint32_t rights, uint32_t attr)
{
	bool r = rights & SNEST_READ, w = rights & SNEST_WRITE, x = rights & SNEST_EXEC;

	switch (s->format) {
	case SNEST_FORMAT_X86_64:
	case SNEST_FORMAT_AMD_V2:
		return !r;
	case SNEST_FORMAT_VTD_SS:
		return (!r && !w) || (x && !r) ||
		       ((attr & SNEST_ATTR_SNOOP) && !(s->flags & SNEST_STAGE_VTD_SNOOP));
	case SNEST_FORMAT_AMD_V1:
		return (!r && !w) || (x && !r);
	case SNEST_FORMAT_ARM_S1:
		return !r || (w && x && (s->flags & SNEST_STAGE_ARM_WXN));
	case SNEST_FORMAT_RISCV32:
		return (!r && !x) || (w && !r);
	case SNEST_FORMAT_RISCV64:
		return (!r && !x) || (w && !r) ||
		       ((s->flags & SNEST_STAGE_RISCV_SVPBMT) && (attr & 3) == 3);
	default:
		return !rights;
	}
}

static uint32_t x86_granted(const struct snest_stage *s, uint32_t rights, bool user_page,
                            bool privileged)
{
	uint32_t granted = rights;

	if (!privileged && !user_page)
		return 0;
	if (!(s->flags & SNEST_STAGE_X86_NX))
		granted |= SNEST_EXEC;
	if (privileged && !(s->flags & SNEST_STAGE_X86_WP))
		granted |= SNEST_WRITE;
	if (privileged && user_page && (s->flags & SNEST_STAGE_X86_SMEP))
		granted &= ~SNEST_EXEC;
	return granted;
}

static uint32_t arm_s1_granted(const struct snest_stage *s, uint32_t rights, bool user_page,
                               bool privileged)
{
	if (s->flags & SNEST_STAGE_ARM_EL2)
		return rights;
	if (!privileged)
		return user_page ? rights : 0;
	if (!user_page)
		return rights;
	return s->flags & SNEST_STAGE_ARM_PAN ? 0 : rights & ~SNEST_EXEC;
}

uint32_t fact_granted(const struct snest_stage *s, uint32_t rights, uint32_t attr, bool privileged)
{
	bool user_page = attr & SNEST_ATTR_USER;

	switch (s->format) {
	case SNEST_FORMAT_X86_64:
	case SNEST_FORMAT_AMD_V2:
		return x86_granted(s, rights, user_page, privileged);
	case SNEST_FORMAT_VTD_SS:
	case SNEST_FORMAT_AMD_V1:
		return rights & SNEST_READ ? rights | SNEST_EXEC : rights;
	case SNEST_FORMAT_ARM_S1:
		return arm_s1_granted(s, rights, user_page, privileged);
	case SNEST_FORMAT_RISCV32:
	case SNEST_FORMAT_RISCV64:
		if (s->flags & SNEST_STAGE_RISCV_X4)
			return rights;
		if (privileged != user_page)
			return rights;
		if (!privileged || !(s->flags & SNEST_STAGE_RISCV_SUM))
			return 0;
		return rights & (SNEST_READ | SNEST_WRITE);
	default:
		return rights;
	}
}

uint32_t fact_attr_kept(const struct snest_stage *s, uint32_t rights)
{
	const uint32_t flags = SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY;
	uint32_t arm =
		s->flags & (SNEST_STAGE_HW_A | SNEST_STAGE_ARM_AFFD) ? SNEST_ATTR_ACCESSED : 0;
	uint32_t riscv = s->flags & SNEST_STAGE_HW_A ? flags : 0;

	if ((s->flags & SNEST_STAGE_HW_D) && (rights & SNEST_WRITE))
		arm |= SNEST_ATTR_DIRTY;
	riscv |= SNEST_ATTR_USER | SNEST_ATTR_GLOBAL;
	if (s->flags & SNEST_STAGE_RISCV_X4)
		riscv &= ~(SNEST_ATTR_USER | SNEST_ATTR_GLOBAL);
	switch (s->format) {
	case SNEST_FORMAT_X86_64:
	case SNEST_FORMAT_AMD_V2:
		return flags | SNEST_ATTR_GLOBAL | SNEST_ATTR_USER | 7;
	case SNEST_FORMAT_VTD_SS:
		return flags | SNEST_ATTR_SNOOP | 7;
	case SNEST_FORMAT_AMD_V1:
		return flags | SNEST_ATTR_SNOOP;
	case SNEST_FORMAT_ARM_S1:
		arm |= SNEST_ATTR_GLOBAL | 7;
		return s->flags & SNEST_STAGE_ARM_EL2 ? arm : arm | SNEST_ATTR_USER;
	case SNEST_FORMAT_ARM_S2:
		return arm | 0xf;
	case SNEST_FORMAT_RISCV32:
		return riscv;
	case SNEST_FORMAT_RISCV64:
		return s->flags & SNEST_STAGE_RISCV_SVPBMT ? riscv | 3 : riscv;
	default:
		return flags;
	}
}
