/* SPDX-License-Identifier: MIT */
/*
 * SMMUv3: context descriptor tables, which descriptors are ILLEGAL, and
 * stage 1. The conditions stand in the order of the manual's list. See
 * device_smmu.h.
 */
#include "walkers/device_smmu.h"

#define ADDR 0x00ffffffffffffc0ull

/* One of the two halves of the address space as the descriptor gives it. */
struct half {
	bool used;
	unsigned granule_lg2;
	unsigned tsz;
	uint64_t ttb;
};

static void halves(const struct sn_smmu *s, const uint64_t *cd, struct half half[2])
{
	/* TG1's codes, as TG0's. */
	static const uint8_t tg1[] = {3, 2, 0, 1};
	bool el2 = s->world == SN_SMMU_EL2;

	half[0] = (struct half){
		.used = el2 || !sn_field(cd, CD_EPD0),
		.granule_lg2 = sn_smmu_granule(s, (unsigned)sn_field(cd, CD_TG0)),
		.tsz = (unsigned)sn_field(cd, CD_T0SZ),
		.ttb = sn_field(cd, CD_TTB0) << 4,
	};
	half[1] = (struct half){
		.used = !el2 && !sn_field(cd, CD_EPD1),
		.granule_lg2 = sn_smmu_granule(s, tg1[sn_field(cd, CD_TG1)]),
		.tsz = (unsigned)sn_field(cd, CD_T1SZ),
		.ttb = sn_field(cd, CD_TTB1) << 4,
	};
}

static bool wide(const struct sn_smmu *s, const uint64_t *cd, const struct half *half)
{
	return half->granule_lg2 == 16 || (sn_bit(s->reg.idr[5], IDR5_DS) && sn_field(cd, CD_DS));
}

static bool half_legal(const struct sn_smmu *s, const uint64_t *cd, const struct half *half)
{
	unsigned range = sn_smmu_size(s, (unsigned)sn_field(cd, CD_IPS));
	unsigned tsz_min = IDR5_VAX(s->reg.idr) && wide(s, cd, half) ? 12 : 16;

	if (!half->used)
		return true;
	if (!half->granule_lg2 || half->tsz < tsz_min ||
	    half->tsz > sn_smmu_tsz_max(s, half->granule_lg2))
		return false;
	if (range > 48 && !wide(s, cd, half))
		range = 48;
	return !(half->ttb & ~sn_mask(range));
}

static bool legal(const struct sn_smmu *s, const uint64_t *cd, const struct half half[2])
{
	const uint32_t *idr = s->reg.idr;
	unsigned httu = IDR0_HTTU(idr), stall = IDR0_STALL_MODEL(idr), endian = IDR0_TTENDIAN(idr);
	bool big = sn_field(cd, CD_ENDI), ha = sn_field(cd, CD_HA), hd = sn_field(cd, CD_HD);
	bool stalls = sn_field(cd, CD_S);

	if (!sn_field(cd, CD_V))
		return false;
	if (sn_field(s->ste, STE_S1STALLD) && stalls)
		return false;
	if (sn_bit(idr[0], IDR0_TERM_MODEL) && !sn_field(cd, CD_A))
		return false;
	if ((stall == 1 && stalls) || (stall == 2 && !stalls))
		return false;
	if ((half[0].used || half[1].used) && ((endian == 2 && big) || (endian == 3 && !big)))
		return false;
	if (!sn_field(cd, CD_AA64) || !sn_bit(idr[0], IDR0_TTF_64))
		return false;
	if (((ha || hd) && httu == 0) || (hd && httu == 1) ||
	    (httu == 3 && sn_field(cd, CD_HAFT) && !ha))
		return false;
	if (s->world != SN_SMMU_EL2 && !sn_bit(idr[0], IDR0_ASID16) && sn_field(cd, CD_ASID) >> 8)
		return false;
	return half_legal(s, cd, &half[0]) && half_legal(s, cd, &half[1]);
}

static uint32_t stage_flags(const struct sn_smmu *s, const uint64_t *cd, bool high)
{
	bool ha = sn_field(cd, CD_HA), had = sn_bit(s->reg.idr[3], IDR3_HAD);
	uint32_t flags = 0;

	if (sn_field(cd, CD_ENDI))
		flags |= SNEST_STAGE_BIG_ENDIAN;
	if (ha)
		flags |= SNEST_STAGE_HW_A | (sn_field(cd, CD_HD) ? SNEST_STAGE_HW_D : 0);
	else if (sn_field(cd, CD_AFFD))
		flags |= SNEST_STAGE_ARM_AFFD;
	if (sn_field(cd, CD_WXN))
		flags |= SNEST_STAGE_ARM_WXN;
	if (sn_field(cd, CD_TBI0))
		flags |= SNEST_STAGE_ARM_TBI0;
	if (had && sn_field(cd, CD_HAD0))
		flags |= SNEST_STAGE_ARM_HAD0;
	if (high && sn_field(cd, CD_TBI1))
		flags |= SNEST_STAGE_ARM_TBI1;
	if (high && had && sn_field(cd, CD_HAD1))
		flags |= SNEST_STAGE_ARM_HAD1;
	if (s->world == SN_SMMU_EL2)
		return flags | SNEST_STAGE_ARM_EL2;
	if (sn_field(cd, CD_UWXN))
		flags |= SNEST_STAGE_ARM_UWXN;
	if (sn_field(cd, CD_PAN))
		flags |= SNEST_STAGE_ARM_PAN;
	return flags;
}

static struct snest_stage stage_1(const struct sn_smmu *s, const uint64_t *cd,
                                  const struct half half[2])
{
	unsigned oa = sn_smmu_size(s, (unsigned)sn_field(cd, CD_IPS));
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = SNEST_FORMAT_ARM_S1,
		.flags = stage_flags(s, cd, half[1].used),
	};

	/* Narrower entries cannot hold more than 48 bits in any case. */
	stage.oa_bits = (uint8_t)(oa > 52 ? 52 : oa);
	if (sn_bit(s->reg.idr[5], IDR5_DS) && sn_field(cd, CD_DS))
		stage.flags |= SNEST_STAGE_ARM_DS;
	if (sn_smmu_size(s, 7) > 48)
		stage.flags |= SNEST_STAGE_ARM_LPA;
	/* The other fields of a disabled half may hold anything and mean nothing. */
	if (half[0].used) {
		stage.ia_bits = (uint8_t)(64 - half[0].tsz);
		stage.granule_lg2 = (uint8_t)half[0].granule_lg2;
		stage.root = half[0].ttb;
	} else {
		stage.flags |= SNEST_STAGE_ARM_EPD0;
	}
	if (half[1].used) {
		stage.ia_bits_high = (uint8_t)(64 - half[1].tsz);
		stage.granule_high_lg2 = (uint8_t)half[1].granule_lg2;
		stage.root_high = half[1].ttb;
	} else if (s->world != SN_SMMU_EL2) {
		stage.flags |= SNEST_STAGE_ARM_EPD1;
	}
	return stage;
}

/* Reads for the descriptor. False: the context has its fault. */
static bool fetch(struct sn_smmu *s, uint64_t at, uint64_t *words, unsigned count)
{
	switch (sn_device_read(&s->d, at, words, count)) {
	case SN_DEVICE_OK:
		return true;
	case SN_DEVICE_FAULT:
		sn_device_stage_fault(&s->d);
		return false;
	default:
		sn_device_fault(&s->d, SMMU_F_CD_FETCH, at, 0);
		return false;
	}
}

/* Finds the descriptor. False: the context has its fault. */
static bool locate(struct sn_smmu *s, uint32_t ssid, uint64_t *at)
{
	unsigned format = s->cd_lg2 ? (unsigned)sn_field(s->ste, STE_S1FMT) : 0;
	unsigned split = format == 2 ? 10 : 6;
	uint64_t table = s->ste[0] & ADDR & sn_mask(56), l1;

	if (format != 1 && format != 2) {
		*at = table + (uint64_t)ssid * 64;
		return true;
	}
	table += (uint64_t)(ssid >> split) * 8;
	if (!fetch(s, table, &l1, 1))
		return false;
	if (!sn_bit(l1, 0)) {
		sn_device_fault(&s->d, SMMU_C_BAD_SUBSTREAMID, table, l1);
		return false;
	}
	*at = (l1 & ADDR & ~sn_mask(split + 6)) + (ssid & sn_mask(split)) * 64;
	return true;
}

void sn_smmu_cd(struct sn_smmu *s, uint32_t ssid)
{
	struct snest_context *c = s->d.context;
	struct snest_stage first;
	struct half half[2];
	uint64_t at, cd[8];

	if (s->s2 && !sn_device_behind(&s->d, &s->stage_2)) {
		sn_device_fault(&s->d, SMMU_C_BAD_STE, s->at, s->ste[0]);
		return;
	}
	if (!locate(s, ssid, &at) || !fetch(s, at, cd, 8))
		return;
	halves(s, cd, half);
	if (!legal(s, cd, half)) {
		sn_device_fault(&s->d, SMMU_C_BAD_CD, at, cd[0]);
		return;
	}
	first = stage_1(s, cd, half);
	if (!sn_device_stage(&s->d, &first)) {
		sn_device_fault(&s->d, SMMU_C_BAD_CD, at, cd[0]);
		return;
	}
	if (s->s2 && !sn_device_stage(&s->d, &s->stage_2)) {
		sn_device_fault(&s->d, SMMU_C_BAD_STE, s->at, s->ste[0]);
		return;
	}
	c->pasid = s->d.request.pasid;
	c->space = s->world == SN_SMMU_EL2 ? 0 : (uint32_t)sn_field(cd, CD_ASID);
	if (sn_field(cd, CD_S))
		c->flags |= SNEST_CONTEXT_STALL;
	else if (!sn_field(cd, CD_R))
		c->flags |= SNEST_CONTEXT_QUIET;
	if (!sn_field(cd, CD_A))
		c->flags |= SNEST_CONTEXT_RAZ_WI;
}
