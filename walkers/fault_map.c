/* SPDX-License-Identifier: MIT */
/*
 * What each architecture calls a fault of its page tables, and which of these
 * its IOMMU records. Pure functions; any thread. See walkers/device.h, and
 * walkers/fault_codes.c for the names.
 */
#include "walkers/device.h"

/* The entry that refused was one of the stage's top table. */
static bool at_top(const struct snest_context *context, unsigned stage, unsigned level)
{
	return level + 1u == context->stage[stage].levels;
}

/* ---- VT-d ------------------------------------------------------------------ */

static unsigned vtd_legacy(const struct snest_context *context, const struct snest_fault *fault,
                           uint32_t access)
{
	switch (fault->reason) {
	case SNEST_FAULT_INPUT_RANGE:
		return 0x4;
	case SNEST_FAULT_TABLE_ACCESS:
		return at_top(context, fault->stage, fault->level) ? 0x3 : 0x7;
	case SNEST_FAULT_WRITE:
		return 0x5;
	case SNEST_FAULT_NOT_PRESENT:
		return access & SNEST_WRITE ? 0x5 : 0x6;
	case SNEST_FAULT_READ:
	case SNEST_FAULT_EXECUTE:
		return 0x6;
	default:
		return 0xc;
	}
}

static unsigned vtd_first(const struct snest_context *context, const struct snest_fault *fault)
{
	switch (fault->reason) {
	case SNEST_FAULT_NON_CANONICAL:
		return 0x80;
	case SNEST_FAULT_TABLE_ACCESS:
		return at_top(context, fault->stage, fault->level) ? 0x73 : 0x70;
	case SNEST_FAULT_NOT_PRESENT:
		return 0x71;
	case SNEST_FAULT_PRIVILEGE:
		return 0x81;
	case SNEST_FAULT_EXECUTE:
		return 0x82;
	case SNEST_FAULT_WRITE:
		return 0x85;
	case SNEST_FAULT_READ:
		return 0x86;
	case SNEST_FAULT_UPDATE:
		return 0x91;
	default:
		return 0x72;
	}
}

/* The second stage in scalable mode, alone or behind a first. */
static unsigned vtd_second(const struct snest_context *context, const struct snest_fault *fault,
                           uint32_t access)
{
	const struct snest_stage *stage = &context->stage[fault->stage];
	bool for_first = fault->stage && fault->for_stage == 0;

	switch (fault->reason) {
	case SNEST_FAULT_INPUT_RANGE:
		if (fault->stage)
			return 0x74;
		/* Which of the two limits was met: unverified, told by their names. */
		return stage->ia_bits < 12 + 9 * stage->levels ? 0x83 : 0x84;
	case SNEST_FAULT_TABLE_ACCESS:
		return at_top(context, fault->stage, fault->level) ? 0x7b : 0x78;
	case SNEST_FAULT_NOT_PRESENT:
	case SNEST_FAULT_READ:
	case SNEST_FAULT_WRITE:
	case SNEST_FAULT_EXECUTE:
		if (!for_first)
			return 0x79;
		if (fault->access & SNEST_WRITE)
			return 0x77;
		return at_top(context, 0, fault->for_level) ? 0x75 : 0x76;
	case SNEST_FAULT_UPDATE:
		/* Which is the accessed and which the dirty flag: unverified. */
		return access & SNEST_WRITE ? 0x7d : 0x7c;
	default:
		return 0x7a;
	}
}

unsigned sn_vtd_fault_code(const struct snest_context *context, const struct snest_fault *fault,
                           uint32_t access)
{
	bool scalable = context->flags & SNEST_CONTEXT_SCALABLE;

	if (fault->stage == SNEST_NO_STAGE)
		return fault->reason == SNEST_FAULT_INPUT_RANGE ? scalable ? 0x83 : 0x4 : 0;
	if (context->stage[fault->stage].format == SNEST_FORMAT_X86_64)
		return vtd_first(context, fault);
	return scalable ? vtd_second(context, fault, access) : vtd_legacy(context, fault, access);
}

/* Codes as bits of a 256-bit set. */
struct code_set {
	uint64_t word[4];
};

static bool in_set(const struct code_set *set, unsigned code)
{
	return code < 256 && (set->word[code / 64] >> code % 64 & 1);
}

#define C(code) (1ull << ((code) % 64))

bool sn_vtd_fault_qualified(unsigned code)
{
	static const struct code_set confirmed = {{
		C(0x2) | C(0x3) | C(0x4) | C(0x5) | C(0x6) | C(0x7) | C(0xc) | C(0xd) | C(0xe) |
			C(0x22) | C(0x24) | C(0x26) | C(0x27) | C(0x28),
		C(0x51) | C(0x59) | C(0x5b) | C(0x70) | C(0x71) | C(0x72) | C(0x73),
		C(0x80) | C(0x81) | C(0x85) | C(0x87) | C(0x91),
		0,
	}};
	/* Not in any list at hand; like their counterparts above. 0Bh has none and stays out. */
	static const struct code_set by_analogy = {{
		0,
		C(0x41) | C(0x43) | C(0x44) | C(0x45) | C(0x46) | C(0x47) | C(0x48) | C(0x5c) |
			C(0x5d) | C(0x74) | C(0x75) | C(0x76) | C(0x77) | C(0x78) | C(0x79) |
			C(0x7a) | C(0x7b) | C(0x7c) | C(0x7d),
		C(0x82) | C(0x83) | C(0x84) | C(0x86) | C(0x90),
		0,
	}};

	return in_set(&confirmed, code) || in_set(&by_analogy, code);
}

static bool vtd_recorded(const struct snest_context *context, const struct snest_request *request,
                         unsigned code)
{
	/* A translation request that merely lacks rights is answered "none". */
	static const struct code_set rights = {{
		C(0x5) | C(0x6),
		C(0x71) | C(0x75) | C(0x76) | C(0x79),
		C(0x81) | C(0x82) | C(0x85) | C(0x86),
		0,
	}};

	if (request->kind == SNEST_REQUEST_TRANSLATION && in_set(&rights, code))
		return false;
	return !(context->flags & SNEST_CONTEXT_QUIET) || !sn_vtd_fault_qualified(code);
}

/* ---- AMD-Vi ---------------------------------------------------------------- */

#define AMD_PAGE_FAULT 2
#define AMD_PAGE_TAB_ERROR 4

unsigned sn_amd_fault_code(const struct snest_context *context, const struct snest_fault *fault,
                           uint32_t access, unsigned kind)
{
	bool guest = fault->stage != SNEST_NO_STAGE &&
	             context->stage[fault->stage].format == SNEST_FORMAT_AMD_V2;
	unsigned flags = access & SNEST_WRITE ? SN_AMD_RW : 0;

	if (kind == SNEST_REQUEST_TRANSLATION)
		flags |= SN_AMD_TR;
	if (guest) {
		flags |= SN_AMD_GN;
		if (!(access & SNEST_PRIVILEGED))
			flags |= SN_AMD_US;
		if (access & SNEST_EXEC)
			flags |= SN_AMD_NX;
	}
	switch (fault->reason) {
	case SNEST_FAULT_TABLE_ACCESS:
	case SNEST_FAULT_UPDATE:
		return SN_AMD_EVENT(AMD_PAGE_TAB_ERROR, flags | SN_AMD_TYPE(1));
	case SNEST_FAULT_NOT_PRESENT:
	case SNEST_FAULT_INPUT_RANGE:
	case SNEST_FAULT_NON_CANONICAL:
		break;
	case SNEST_FAULT_RESERVED:
	case SNEST_FAULT_ADDRESS_SIZE:
		flags |= SN_AMD_PR | SN_AMD_RZ;
		break;
	case SNEST_FAULT_LEVEL:
		flags |= SN_AMD_PR;
		break;
	default:
		flags |= SN_AMD_PR | SN_AMD_PE;
	}
	return SN_AMD_EVENT(AMD_PAGE_FAULT, flags);
}

static bool amd_recorded(const struct snest_context *context, const struct snest_request *request,
                         unsigned code)
{
	if (code >> 12 != AMD_PAGE_FAULT)
		return true;
	return request->kind != SNEST_REQUEST_TRANSLATION &&
	       !(context->flags & SNEST_CONTEXT_QUIET);
}

/* ---- SMMUv3 ---------------------------------------------------------------- */

#define SMMU_F_TRANSLATION 0x10
#define SMMU_F_PERMISSION 0x13

unsigned sn_smmu_fault_code(const struct snest_context *context, const struct snest_fault *fault)
{
	(void)context;
	switch (fault->reason) {
	case SNEST_FAULT_INPUT_RANGE:
		/* Without a stage: the width that is checked although stage 1 is bypassed. */
		return fault->stage == SNEST_NO_STAGE ? 0x11 : SMMU_F_TRANSLATION;
	case SNEST_FAULT_TABLE_ACCESS:
	case SNEST_FAULT_UPDATE:
		return 0x0b;
	case SNEST_FAULT_ADDRESS_SIZE:
		return 0x11;
	case SNEST_FAULT_ACCESS_FLAG:
		return 0x12;
	case SNEST_FAULT_READ:
	case SNEST_FAULT_WRITE:
	case SNEST_FAULT_EXECUTE:
	case SNEST_FAULT_PRIVILEGE:
	case SNEST_FAULT_DIRTY_FLAG:
		return SMMU_F_PERMISSION;
	default:
		return SMMU_F_TRANSLATION;
	}
}

unsigned sn_smmu_fault_class(const struct snest_context *context, const struct snest_fault *fault)
{
	unsigned s2 = 0;

	if (fault->stage >= context->count)
		return fault->for_stage < context->count ? SN_SMMU_CLASS_TT : SN_SMMU_CLASS_IN;
	if (context->stage[fault->stage].format == SNEST_FORMAT_ARM_S2)
		s2 = SN_SMMU_S2;
	if (fault->for_stage == 0 && fault->stage)
		return s2 | (fault->for_level == SNEST_LEVEL_STRUCTURE ? SN_SMMU_CLASS_CD
		                                                       : SN_SMMU_CLASS_TT);
	return s2 |
	       (fault->reason == SNEST_FAULT_TABLE_ACCESS ? SN_SMMU_CLASS_TT : SN_SMMU_CLASS_IN);
}

static bool smmu_recorded(const struct snest_context *context, const struct snest_request *request,
                          const struct snest_fault *fault)
{
	unsigned code = fault->code;
	uint32_t quiet = sn_smmu_fault_class(context, fault) & SN_SMMU_S2 ? SNEST_CONTEXT_QUIET_2
	                                                                  : SNEST_CONTEXT_QUIET;

	/* C_BAD_STREAMID: QUIET says that CR2.RECINVSID is 0. */
	if (code == 0x02)
		return !(context->flags & SNEST_CONTEXT_QUIET);
	if (code < SMMU_F_TRANSLATION || code > SMMU_F_PERMISSION)
		return request->kind != SNEST_REQUEST_TRANSLATION || code != 0x06;
	return request->kind != SNEST_REQUEST_TRANSLATION && !(context->flags & quiet);
}

/* ---- RISC-V ---------------------------------------------------------------- */

unsigned sn_riscv_fault_code(const struct snest_context *context, const struct snest_fault *fault,
                             uint32_t access)
{
	/* Instruction, write, read. */
	static const uint8_t memory[] = {1, 7, 5}, page[] = {12, 15, 13},
			     guest_page[] = {20, 23, 21};
	unsigned type = access & SNEST_WRITE ? 1 : access & SNEST_EXEC ? 0 : 2;

	if (fault->stage == SNEST_NO_STAGE)
		return 0;
	/* An update that did not reach memory, or a table that is not there. */
	if (fault->reason == SNEST_FAULT_TABLE_ACCESS || fault->reason == SNEST_FAULT_UPDATE)
		return memory[type];
	return context->stage[fault->stage].flags & SNEST_STAGE_RISCV_X4 ? guest_page[type]
	                                                                 : page[type];
}

unsigned sn_riscv_fault_implicit(const struct snest_context *context,
                                 const struct snest_fault *fault)
{
	if (fault->stage == 0 || fault->stage >= context->count || fault->for_stage != 0)
		return 0;
	return 1 | (fault->access & SNEST_WRITE ? 2 : 0);
}

static bool riscv_recorded(const struct snest_context *context, const struct snest_request *request,
                           unsigned code)
{
	if (request->kind == SNEST_REQUEST_TRANSLATION) {
		switch (code) {
		case 12:
		case 13:
		case 15:
		case 20:
		case 21:
		case 23:
		case 262:
		case 266:
			return false;
		}
	}
	if (!(context->flags & SNEST_CONTEXT_QUIET))
		return true;
	return (code >= 256 && code <= 259) || code == 268 || code == 272 || code == 273;
}

/* ---- All ------------------------------------------------------------------- */

bool snest_fault_recorded(const struct snest_context *context, const struct snest_request *request,
                          const struct snest_fault *fault)
{
	if (!fault->code)
		return false;
	switch (context->iommu) {
	case SNEST_IOMMU_VTD:
		return vtd_recorded(context, request, fault->code);
	case SNEST_IOMMU_AMD:
		return amd_recorded(context, request, fault->code);
	case SNEST_IOMMU_SMMU:
		return smmu_recorded(context, request, fault);
	case SNEST_IOMMU_RISCV:
		return riscv_recorded(context, request, fault->code);
	default:
		return false;
	}
}
