/* SPDX-License-Identifier: MIT */
/*
 * SMMUv3: which stream table entries are ILLEGAL, and stage 2. The conditions
 * follow the manual's own list; all of them give the same event, so that their
 * order shows nowhere. See device_smmu.h.
 */
#include "walkers/device_smmu.h"

/* What the manual leaves to the implementation. */
static const struct {
	bool wide_pointer_illegal; /* S1ContextPtr beyond its address size (else its fetch fails) */
	bool full_ats_stall;       /* EATS = 1 with S2S = 1 but no stage 2 is ILLEGAL: v3.0 only */
} policy = {
	.wide_pointer_illegal = false,
	.full_ats_stall = false,
};

/* The start level of stage 2, -1 to 3; less than -1: inconsistent with the granule. */
static int start_level(const struct sn_smmu *s, unsigned granule_lg2, bool ds)
{
	unsigned sl0 = (unsigned)sn_field(s->ste, STE_S2SL0);

	if (ds && granule_lg2 != 16 && sn_field(s->ste, STE_S2SL0_2))
		return granule_lg2 == 12 && sl0 == 0 ? -1 : -2;
	switch (granule_lg2) {
	case 12:
		if (sl0 == 3)
			return sn_bit(s->reg.idr[3], IDR3_STT) ? 3 : -2;
		return 2 - (int)sl0;
	case 14:
		return sl0 == 3 && !ds ? -2 : 3 - (int)sl0;
	default:
		return sl0 == 3 ? -2 : 3 - (int)sl0;
	}
}

/* Whether a walk of `bits` input bits may start there, with at most 16 concatenated tables. */
static bool start_fits(unsigned granule_lg2, int start, unsigned bits)
{
	unsigned stride = granule_lg2 - 3;
	/* Bits that one entry of the start level covers. */
	unsigned below = granule_lg2 + (unsigned)(3 - start) * stride;
	unsigned most = below + stride + 4;

	/* No level above 0 to concatenate into; and 52 bits are the end. */
	if (start < 0)
		most = 52;
	return bits > below && bits <= most;
}

static bool stage_2(struct sn_smmu *s)
{
	const uint64_t *ste = s->ste;
	uint64_t ttb = sn_field(ste, STE_S2TTB) << 4;
	const uint32_t *idr = s->reg.idr;
	unsigned granule = sn_smmu_granule(s, (unsigned)sn_field(ste, STE_S2TG));
	unsigned t0sz = (unsigned)sn_field(ste, STE_S2T0SZ), ias = sn_smmu_size(s, 7);
	unsigned oa = sn_smmu_size(s, (unsigned)sn_field(ste, STE_S2PS)), tsz_min, bits;
	unsigned stall = IDR0_STALL_MODEL(idr), httu = IDR0_HTTU(idr), endian = IDR0_TTENDIAN(idr);
	bool ds, wide, big = sn_field(ste, STE_S2ENDI), ha = sn_field(ste, STE_S2HA),
		       hd = sn_field(ste, STE_S2HD);
	int start;

	if ((sn_field(ste, STE_S2S) && stall == 1) || (!sn_field(ste, STE_S2S) && stall == 2))
		return false;
	if (!sn_field(ste, STE_S2AA64) || !sn_bit(idr[0], IDR0_TTF_64))
		return false;
	if (((ha || hd) && httu == 0) || (hd && httu == 1) ||
	    (sn_field(ste, STE_S2HAFT) && !ha && httu == 3))
		return false;
	if (!granule)
		return false;
	ds = granule != 16 && sn_bit(idr[5], IDR5_DS) && sn_field(ste, STE_S2DS);
	wide = granule == 16 || ds;
	if (!wide && oa > 48)
		oa = 48;
	if (oa > 52)
		oa = 52;
	if (ttb & ~sn_mask(oa))
		return false;
	tsz_min = wide ? 12 : 16;
	if (tsz_min < 64 - ias)
		tsz_min = 64 - ias;
	if (t0sz < tsz_min || t0sz > sn_smmu_tsz_max(s, granule))
		return false;
	bits = 64 - t0sz;
	start = start_level(s, granule, ds);
	if (start < -1 || !start_fits(granule, start, bits))
		return false;
	if ((endian == 2 && big) || (endian == 3 && !big))
		return false;

	s->stage_2 = (struct snest_stage){
		.size = sizeof(s->stage_2),
		.format = SNEST_FORMAT_ARM_S2,
		.levels = (uint8_t)(4 - start),
		.ia_bits = (uint8_t)bits,
		.oa_bits = (uint8_t)oa,
		.granule_lg2 = (uint8_t)granule,
		.flags = (big ? SNEST_STAGE_BIG_ENDIAN : 0) | (ds ? SNEST_STAGE_ARM_DS : 0) |
	                 (granule == 16 && ias > 48 ? SNEST_STAGE_ARM_LPA : 0) |
	                 (ha ? SNEST_STAGE_HW_A : 0) | (ha && hd ? SNEST_STAGE_HW_D : 0) |
	                 (!ha && sn_field(ste, STE_S2AFFD) ? SNEST_STAGE_ARM_AFFD : 0),
		.root = ttb,
	};
	return !snest_stage_check(&s->stage_2, NULL);
}

static bool ats(struct sn_smmu *s)
{
	unsigned config = (unsigned)sn_field(s->ste, STE_CONFIG);
	unsigned eats = (unsigned)sn_field(s->ste, STE_EATS);
	bool stalls = sn_field(s->ste, STE_S2S), checked = sn_bit(s->reg.cr0, CR0_ATSCHK);

	s->eats = 0;
	if (!sn_bit(s->reg.idr[0], IDR0_ATS) || config == 4)
		return true;
	if (eats == 2 && (config != 7 || stalls || sn_bit(s->reg.idr[0], IDR0_NS1ATS)))
		return false;
	if (eats == 1 && stalls && (s->s2 || policy.full_ats_stall))
		return false;
	/* EATS = 3 needs DPT checks, which are not implemented: as without DPT, no ATS. */
	if (eats == 1 || (eats == 2 && checked))
		s->eats = eats;
	return true;
}

static bool stage_1(struct sn_smmu *s)
{
	const uint32_t *idr = s->reg.idr;
	unsigned format = (unsigned)sn_field(s->ste, STE_S1FMT);
	unsigned max = (unsigned)sn_field(s->ste, STE_S1CDMAX), ssid_bits = IDR1_SSIDSIZE(idr);

	if (sn_field(s->ste, STE_S1STALLD) && IDR0_STALL_MODEL(idr))
		return false;
	if (ssid_bits && max > ssid_bits)
		return false;
	s->cd_lg2 = ssid_bits ? max : 0;
	if (s->cd_lg2 && !sn_bit(idr[0], IDR0_CD2L) && (format == 1 || format == 2))
		return false;
	return !policy.wide_pointer_illegal ||
	       !(s->ste[0] & sn_mask(56) & ~sn_mask(sn_smmu_size(s, 7)));
}

bool sn_smmu_ste(struct sn_smmu *s)
{
	const uint32_t *idr = s->reg.idr;
	unsigned config = (unsigned)sn_field(s->ste, STE_CONFIG);
	unsigned strw = (unsigned)sn_field(s->ste, STE_STRW);
	uint64_t vmid = sn_field(s->ste, STE_S2VMID);
	bool strw_ignored;

	s->s1 = config & 1;
	s->s2 = config & 2;
	if ((s->s1 && !sn_bit(idr[0], IDR0_S1P)) || (s->s2 && !sn_bit(idr[0], IDR0_S2P)))
		return false;
	if (!ats(s))
		return false;
	strw_ignored = !sn_bit(idr[0], IDR0_S1P) || !sn_bit(idr[0], IDR0_HYP) || config != 5;
	if (strw_ignored)
		strw = 0;
	if (strw & 1)
		return false;
	s->world = strw == 0                     ? SN_SMMU_EL1
	           : sn_bit(s->reg.cr2, CR2_E2H) ? SN_SMMU_EL2_E2H
	                                         : SN_SMMU_EL2;
	if ((s->s1 && !stage_1(s)) || (s->s2 && !stage_2(s)))
		return false;
	/* The VMID also tags stage 1 of EL1, with or without stage 2. */
	if (sn_bit(idr[0], IDR0_S2P) && config != 4 && s->world == SN_SMMU_EL1) {
		if (!sn_bit(idr[0], IDR0_VMID16) && vmid >> 8)
			return false;
		s->d.context->domain = (uint32_t)vmid;
	}
	return true;
}
