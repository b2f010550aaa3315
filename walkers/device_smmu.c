/* SPDX-License-Identifier: MIT */
/*
 * SMMUv3: from a stream and substream id to stages (snest_smmu_context). The
 * stream table lies at GPAs of the memory map, context descriptors behind
 * stage 2 if the stream has one. No state; any thread; reads at most four
 * structures. Structures are little-endian whatever the tables are.
 */
#include <errno.h>
#include "core/extensible.h"
#include "walkers/device_smmu.h"

/* Where the manual's text is silent or leaves a choice. */
static const struct {
	bool disabled_ats_silent; /* SMMUEN = 0 refuses ATS requests without an event: unverified */
} policy = {
	.disabled_ats_silent = true,
};

#define GBPA_ABORT 20

#define ADDR 0x00ffffffffffffc0ull

unsigned sn_smmu_size(const struct sn_smmu *s, unsigned code)
{
	static const uint8_t bits[] = {32, 36, 40, 42, 44, 48, 52, 56};
	unsigned oas = bits[IDR5_OAS(s->reg.idr)];

	return bits[code & 7] < oas ? bits[code & 7] : oas;
}

unsigned sn_smmu_granule(const struct sn_smmu *s, unsigned tg)
{
	static const uint8_t lg2[] = {12, 16, 14, 0};
	static const uint8_t bit[] = {4, 6, 5, 4};

	return sn_bit(s->reg.idr[5], bit[tg & 3]) ? lg2[tg & 3] : 0;
}

unsigned sn_smmu_tsz_max(const struct sn_smmu *s, unsigned granule_lg2)
{
	if (!sn_bit(s->reg.idr[3], IDR3_STT))
		return 39;
	return granule_lg2 == 16 ? 47 : 48;
}

static void fault(struct sn_smmu *s, unsigned code, uint64_t at, uint64_t word)
{
	sn_device_fault(&s->d, code, at, word);
}

static void bad_stream(struct sn_smmu *s, uint64_t at, uint64_t word)
{
	if (!sn_bit(s->reg.cr2, CR2_RECINVSID))
		s->d.context->flags |= SNEST_CONTEXT_QUIET;
	fault(s, SMMU_C_BAD_STREAMID, at, word);
}

/* Finds the stream's entry. False: the context has its fault. */
static bool locate(struct sn_smmu *s)
{
	uint32_t sid = s->d.request.rid, config = s->reg.strtab_base_cfg;
	unsigned lg2 = (unsigned)sn_bits(config, 5, 0), split = (unsigned)sn_bits(config, 10, 6);
	unsigned bits = lg2 < IDR1_SIDSIZE(s->reg.idr) ? lg2 : IDR1_SIDSIZE(s->reg.idr);
	uint64_t base = s->reg.strtab_base & ADDR, at, l1, span;

	if (sid & ~sn_mask(bits)) {
		bad_stream(s, 0, 0);
		return false;
	}
	/* Reserved formats behave as linear. */
	if (sn_bits(config, 17, 16) != 1 || !IDR0_ST_LEVEL(s->reg.idr)) {
		s->at = (base & ~sn_mask(lg2 + 6)) + (uint64_t)sid * 64;
		return true;
	}
	/* Reserved splits behave as 6. */
	if (split != 8 && split != 10)
		split = 6;
	at = (base & ~sn_mask(lg2 > split + 3 ? lg2 - split + 3 : 6)) +
	     (uint64_t)(sid >> split) * 8;
	if (sn_device_read(&s->d, at, &l1, 1) != SN_DEVICE_OK) {
		fault(s, SMMU_F_STE_FETCH, at, 0);
		return false;
	}
	span = sn_bits(l1, 4, 0);
	if (!span || span > 11 || span > split + 1 || (sid & sn_mask(split)) >> (span - 1)) {
		bad_stream(s, at, l1);
		return false;
	}
	s->at = (l1 & ADDR & ~sn_mask((unsigned)span - 1 + 6)) + (sid & sn_mask(split)) * 64;
	return true;
}

/* Overrides of privilege and fetches, and what faults do. */
static void attributes(struct sn_smmu *s)
{
	static const uint32_t privilege[] = {0, 0, SNEST_CONTEXT_UNPRIVILEGED,
	                                     SNEST_CONTEXT_PRIVILEGED};
	static const uint32_t fetch[] = {0, 0, SNEST_CONTEXT_DATA, SNEST_CONTEXT_FETCH};
	struct snest_context *c = s->d.context;

	if (sn_bit(s->reg.idr[1], IDR1_ATTR_PERMS_OVR))
		c->flags |= privilege[sn_field(s->ste, STE_PRIVCFG)] |
		            fetch[sn_field(s->ste, STE_INSTCFG)];
	if (s->s2 && sn_field(s->ste, STE_S2S))
		c->flags |= SNEST_CONTEXT_STALL_2;
	else if (s->s2 && !sn_field(s->ste, STE_S2R))
		c->flags |= SNEST_CONTEXT_QUIET_2;
	if (s->eats) {
		c->flags |= SNEST_CONTEXT_ATS;
		if (sn_bit(s->reg.idr[0], IDR0_PRI))
			c->flags |= SNEST_CONTEXT_PRI;
		if (s->eats == 2)
			c->flags |= SNEST_CONTEXT_SPLIT_ATS;
	}
	if (s->cd_lg2)
		c->flags |= SNEST_CONTEXT_PASID;
}

/* Stage 1 does not take part: stage 2 alone, or nothing. */
static void without_stage_1(struct sn_smmu *s)
{
	/* Too wide an address is a fault of stage 1, although it is not there. */
	s->d.context->ia_bits = (uint8_t)sn_smmu_size(s, 7);
	if (s->s2 && !sn_device_stage(&s->d, &s->stage_2))
		fault(s, SMMU_C_BAD_STE, s->at, s->ste[0]);
}

static void substream(struct sn_smmu *s)
{
	uint32_t ssid = s->d.request.pasid;

	if (ssid != SNEST_NO_PASID) {
		if (!s->s1 || !s->cd_lg2 || ssid >> s->cd_lg2)
			fault(s, SMMU_C_BAD_SUBSTREAMID, s->at, s->ste[0]);
		else if (sn_field(s->ste, STE_S1DSS) == 2 && ssid == 0)
			fault(s, SMMU_F_STREAM_DISABLED, s->at, s->ste[0]);
		else
			sn_smmu_cd(s, ssid);
		return;
	}
	if (!s->s1) {
		without_stage_1(s);
		return;
	}
	if (!s->cd_lg2) {
		sn_smmu_cd(s, 0);
		return;
	}
	switch (sn_field(s->ste, STE_S1DSS)) {
	case 1:
		without_stage_1(s);
		break;
	case 2:
		sn_smmu_cd(s, 0);
		break;
	default:
		fault(s, SMMU_F_STREAM_DISABLED, s->at, s->ste[0]);
	}
}

static void resolve(struct sn_smmu *s)
{
	uint32_t kind = s->d.request.kind;

	if (kind == SNEST_REQUEST_TRANSLATED && sn_bit(s->reg.idr[0], IDR0_ATS) &&
	    !sn_bit(s->reg.cr0, CR0_ATSCHK))
		return;
	if (!locate(s))
		return;
	if (sn_device_read(&s->d, s->at, s->ste, 8) != SN_DEVICE_OK) {
		fault(s, SMMU_F_STE_FETCH, s->at, 0);
		return;
	}
	if (!sn_field(s->ste, STE_V)) {
		fault(s, SMMU_C_BAD_STE, s->at, s->ste[0]);
		return;
	}
	/* Config 0xx. */
	if (!(sn_field(s->ste, STE_CONFIG) & 4)) {
		sn_device_blocked(&s->d);
		return;
	}
	if (!sn_smmu_ste(s)) {
		fault(s, SMMU_C_BAD_STE, s->at, s->ste[0]);
		return;
	}
	attributes(s);
	if (kind == SNEST_REQUEST_TRANSLATION && !s->eats) {
		fault(s, SMMU_F_BAD_ATS_TREQ, s->at, s->ste[0]);
	} else if (kind == SNEST_REQUEST_TRANSLATED && !s->eats) {
		fault(s, SMMU_F_TRANSL_FORBIDDEN, s->at, s->ste[0]);
	} else if (kind == SNEST_REQUEST_TRANSLATED) {
		/* Split: the address is an IPA. Full: it has been through everything. */
		if (s->eats == 2)
			without_stage_1(s);
	} else {
		substream(s);
	}
}

static void disabled(struct sn_smmu *s)
{
	uint32_t kind = s->d.request.kind;

	if (kind != SNEST_REQUEST_UNTRANSLATED && policy.disabled_ats_silent)
		sn_device_blocked(&s->d);
	else if (kind == SNEST_REQUEST_TRANSLATED)
		fault(s, SMMU_F_TRANSL_FORBIDDEN, 0, 0);
	else if (kind != SNEST_REQUEST_UNTRANSLATED)
		fault(s, SMMU_F_BAD_ATS_TREQ, 0, 0);
	else if (sn_bit(s->reg.gbpa, GBPA_ABORT))
		sn_device_blocked(&s->d);
	else
		s->d.context->ia_bits = (uint8_t)sn_smmu_size(s, 7);
}

int snest_smmu_context(struct snest_vm *vm, const struct snest_smmu_registers *registers,
                       const struct snest_request *request, struct snest_context *context)
{
	struct sn_smmu s = {.at = 0};
	int ret = SN_STRUCT_IN(&s.reg, registers);

	if (ret)
		return ret;
	if (s.reg.reserved || IDR1_SIDSIZE(s.reg.idr) > 32 || IDR1_SSIDSIZE(s.reg.idr) > 20)
		return -EINVAL;
	ret = sn_device_begin(&s.d, vm, request, context, SNEST_IOMMU_SMMU, UINT32_MAX);
	if (ret)
		return ret;
	if (sn_bit(s.reg.cr0, CR0_SMMUEN))
		resolve(&s);
	else
		disabled(&s);
	return sn_device_end(&s.d);
}
