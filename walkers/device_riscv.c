/* SPDX-License-Identifier: MIT */
/*
 * RISC-V: device directory, process directory (snest_riscv_context). The
 * device directory lies at GPAs of the memory map, process directories behind
 * the second stage if the device has one. No state; any thread; reads at most
 * eight structures. Steps are numbered as in the manual's translation process.
 */
#include <errno.h>
#include "core/extensible.h"
#include "walkers/device.h"

/* Where the manual leaves a choice or was not clear. */
static const struct {
	bool custom_reserved; /* custom bits of tc are reserved (the reference model ignores them) */
	bool msi_without_second; /* second stage Bare with MSI tables is allowed: recommended against */
	bool msi_fields_when_off; /* reserved bits of mask and pattern count with MSI off too */
} policy = {
	.custom_reserved = false,
	.msi_without_second = false,
	.msi_fields_when_off = true,
};

#define CAP_SV32 8
#define CAP_SV39 9
#define CAP_SVRSW60T59B 14
#define CAP_SVPBMT 15
#define CAP_SV32X4 16
#define CAP_SV39X4 17
#define CAP_MSI_FLAT 22
#define CAP_AMO_HWAD 24
#define CAP_ATS 25
#define CAP_T2GPA 26
#define CAP_END 27
#define CAP_PAS(cap) ((unsigned)sn_bits(cap, 37, 32))
#define CAP_PD8 38
#define CAP_QOSID 41

#define FCTL_BE 0
#define FCTL_GXL 2

enum {
	MODE_OFF = 0,
	MODE_BARE = 1,
	MODE_1LVL = 2,
	MODE_3LVL = 4,
};

/* tc */
#define TC_V 0
#define TC_EN_ATS 1
#define TC_EN_PRI 2
#define TC_T2GPA 3
#define TC_DTF 4
#define TC_PDTV 5
#define TC_PRPR 6
#define TC_GADE 7
#define TC_SADE 8
#define TC_DPE 9
#define TC_SBE 10
#define TC_SXL 11

#define PPN_ADDR(word) (((word)&sn_mask(44)) << 12)
#define ENTRY_ADDR(word) (sn_bits(word, 53, 10) << 12)
#define MODE(word) ((unsigned)((word) >> 60))

enum {
	DC_TC,
	DC_IOHGATP,
	DC_TA,
	DC_FSC,
	DC_MSIPTP,
	DC_MSI_MASK,
	DC_MSI_PATTERN,
	DC_RESERVED,
};

struct riscv {
	struct sn_device d;
	struct snest_riscv_registers reg;
	uint64_t at; /* of the device context */
	uint64_t dc[8];
	bool extended;
	struct snest_stage second; /* levels 0: Bare */
};

static bool cap(const struct riscv *r, unsigned bit)
{
	return sn_bit(r->reg.capabilities, bit);
}

/*
 * Levels that a mode of iosatp means, by its XLEN: 0 for Bare, -1 if invalid
 * or not supported.
 */
static int first_levels(const struct riscv *r, unsigned mode, bool sxl)
{
	if (mode == 0)
		return 0;
	if (sxl)
		return mode == 8 && cap(r, CAP_SV32) ? 2 : -1;
	return mode >= 8 && mode <= 10 && cap(r, CAP_SV39 + mode - 8) ? (int)mode - 5 : -1;
}

static int second_levels(const struct riscv *r, unsigned mode)
{
	if (mode == 0)
		return 0;
	if (sn_bit(r->reg.fctl, FCTL_GXL))
		return mode == 8 && cap(r, CAP_SV32X4) ? 2 : -1;
	return mode >= 8 && mode <= 10 && cap(r, CAP_SV39X4 + mode - 8) ? (int)mode - 5 : -1;
}

static bool directory_supported(const struct riscv *r, unsigned mode)
{
	return mode == 0 || (mode <= 3 && cap(r, CAP_PD8 + mode - 1));
}

/* Width of the addresses that MSI masks and patterns match. */
static unsigned msi_width(const struct riscv *r)
{
	return cap(r, CAP_SV39X4 + 2)   ? 59
	       : cap(r, CAP_SV39X4 + 1) ? 50
	       : cap(r, CAP_SV39X4)     ? 41
	       : cap(r, CAP_SV32X4)     ? 34
	                                : CAP_PAS(r->reg.capabilities);
}

static bool msi_misconfigured(const struct riscv *r)
{
	unsigned mode = MODE(r->dc[DC_MSIPTP]);
	uint64_t wide = ~sn_mask(msi_width(r) > 12 ? msi_width(r) - 12 : 0) | ~sn_mask(52);

	if (!r->extended)
		return false;
	if (mode > 1 || sn_bits(r->dc[DC_MSIPTP], 59, 44) || r->dc[DC_RESERVED])
		return true;
	if ((mode || policy.msi_fields_when_off) &&
	    ((r->dc[DC_MSI_MASK] | r->dc[DC_MSI_PATTERN]) & wide))
		return true;
	return mode && !MODE(r->dc[DC_IOHGATP]) && !policy.msi_without_second;
}

/* The list of ways to misconfigure a device context (cause 259). */
static bool misconfigured(const struct riscv *r)
{
	uint64_t tc = r->dc[DC_TC], fsc = r->dc[DC_FSC], iohgatp = r->dc[DC_IOHGATP];
	uint64_t ta = r->dc[DC_TA];
	bool ats = sn_bit(tc, TC_EN_ATS), pri = sn_bit(tc, TC_EN_PRI), prpr = sn_bit(tc, TC_PRPR);
	bool t2gpa = sn_bit(tc, TC_T2GPA), pdtv = sn_bit(tc, TC_PDTV), sxl = sn_bit(tc, TC_SXL);
	bool gxl = sn_bit(r->reg.fctl, FCTL_GXL), be = sn_bit(r->reg.fctl, FCTL_BE);

	if (sn_bits(tc, 23, 12) || sn_bits(tc, 63, 32) ||
	    (policy.custom_reserved && sn_bits(tc, 31, 24)))
		return true;
	if (sn_bits(ta, 11, 0) || sn_bits(ta, 39, 32) ||
	    (sn_bits(ta, 63, 40) && !cap(r, CAP_QOSID)) || sn_bits(fsc, 59, 44))
		return true;
	if (!cap(r, CAP_ATS) && (ats || pri || prpr))
		return true;
	if ((!ats && (t2gpa || pri)) || (!pri && prpr))
		return true;
	if (t2gpa && (!cap(r, CAP_T2GPA) || !MODE(iohgatp)))
		return true;
	if (gxl ? !sxl : sxl && !cap(r, CAP_SV32))
		return true;
	if (pdtv ? !directory_supported(r, MODE(fsc)) : first_levels(r, MODE(fsc), sxl) < 0)
		return true;
	if (!pdtv && sn_bit(tc, TC_DPE))
		return true;
	if (second_levels(r, MODE(iohgatp)) < 0 || (MODE(iohgatp) && sn_bits(iohgatp, 1, 0)))
		return true;
	if (!cap(r, CAP_AMO_HWAD) && (sn_bit(tc, TC_SADE) || sn_bit(tc, TC_GADE)))
		return true;
	if (!cap(r, CAP_END) && sn_bit(tc, TC_SBE) != be)
		return true;
	return msi_misconfigured(r);
}

/* Reads a structure. False: the context has its fault, `load` if it is not to be read. */
static bool fetch(struct riscv *r, uint64_t at, uint64_t *words, unsigned count, unsigned load)
{
	switch (sn_device_read(&r->d, at, words, count)) {
	case SN_DEVICE_OK:
		return true;
	case SN_DEVICE_FAULT:
		sn_device_stage_fault(&r->d);
		/* An access fault (1, 5, 7) of the second stage is a load fault of the directory. */
		if (r->d.context->fault.code < 12)
			r->d.context->fault.code = (uint16_t)load;
		return false;
	default:
		sn_device_fault(&r->d, load, at, 0);
		return false;
	}
}

/* Follows a non-leaf entry of either directory. */
static bool descend(struct riscv *r, uint64_t at, uint64_t *table, unsigned load)
{
	uint64_t e;

	if (!fetch(r, at, &e, 1, load))
		return false;
	/* Each directory's causes follow each other: load, not valid, misconfigured. */
	if (!sn_bit(e, 0) || sn_bits(e, 9, 1) || sn_bits(e, 63, 54)) {
		sn_device_fault(&r->d, load + (sn_bit(e, 0) ? 2 : 1), at, e);
		return false;
	}
	*table = ENTRY_ADDR(e);
	return true;
}

/* Steps 3 and 4: finds and judges the device context. */
static bool device_context(struct riscv *r, unsigned levels)
{
	/* First bit of each level's index. */
	static const uint8_t base[] = {0, 7, 16, 24}, extended[] = {0, 6, 15, 24};
	const uint8_t *split = r->extended ? extended : base;
	uint32_t id = r->d.request.rid;
	uint64_t table = PPN_ADDR(r->reg.ddtp >> 10);
	unsigned words = r->extended ? 8 : 4;

	if (id >> split[levels]) {
		sn_device_fault(&r->d, 260, 0, 0);
		return false;
	}
	for (unsigned level = levels - 1; level; level--) {
		uint64_t index = id >> split[level] & sn_mask(split[level + 1] - split[level]);

		if (!descend(r, table + index * 8, &table, 257))
			return false;
	}
	r->at = table + (id & sn_mask(split[1])) * words * 8;
	if (!fetch(r, r->at, r->dc, words, 257))
		return false;
	if (!sn_bit(r->dc[DC_TC], TC_V)) {
		sn_device_fault(&r->d, 258, r->at, r->dc[DC_TC]);
		return false;
	}
	if (misconfigured(r)) {
		sn_device_fault(&r->d, 259, r->at, r->dc[DC_TC]);
		return false;
	}
	return true;
}

static uint32_t stage_flags(const struct riscv *r, bool second)
{
	uint64_t tc = r->dc[DC_TC];
	bool be = second ? sn_bit(r->reg.fctl, FCTL_BE) : sn_bit(tc, TC_SBE);
	uint32_t flags = second ? SNEST_STAGE_RISCV_X4 : 0;

	if (be)
		flags |= SNEST_STAGE_BIG_ENDIAN;
	if (sn_bit(tc, second ? TC_GADE : TC_SADE))
		flags |= SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	return flags;
}

static struct snest_stage make_stage(const struct riscv *r, int levels, uint64_t atp,
                                     uint32_t flags)
{
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = levels == 2 ? SNEST_FORMAT_RISCV32 : SNEST_FORMAT_RISCV64,
		.levels = (uint8_t)levels,
		.flags = flags,
		.root = PPN_ADDR(atp),
	};

	if (levels > 2) {
		stage.flags |= SNEST_STAGE_RISCV_SVNAPOT;
		if (cap(r, CAP_SVPBMT))
			stage.flags |= SNEST_STAGE_RISCV_SVPBMT;
		if (cap(r, CAP_SVRSW60T59B))
			stage.flags |= SNEST_STAGE_RISCV_SVRSW60T59B;
	}
	return stage;
}

/* Adds the first stage, or none for Bare; then the second. */
static void stages(struct riscv *r, int levels, uint64_t atp, uint32_t flags, unsigned code)
{
	struct snest_stage first = make_stage(r, levels, atp, flags | stage_flags(r, false));

	if (levels && !sn_device_stage(&r->d, &first))
		sn_device_fault(&r->d, code, r->at, r->dc[DC_TC]);
	else if (r->second.levels && !sn_device_stage(&r->d, &r->second))
		sn_device_fault(&r->d, 259, r->at, r->dc[DC_TC]);
}

/* Steps 10 and 11: the process context of a PASID. */
static void process_context(struct riscv *r, uint32_t pasid)
{
	static const uint8_t split[] = {0, 8, 17, 20};
	unsigned levels = MODE(r->dc[DC_FSC]);
	uint64_t table = PPN_ADDR(r->dc[DC_FSC]), at, pc[2];
	bool sxl = sn_bit(r->dc[DC_TC], TC_SXL);
	int first;

	if (r->second.levels && !sn_device_behind(&r->d, &r->second)) {
		sn_device_fault(&r->d, 259, r->at, r->dc[DC_TC]);
		return;
	}
	r->d.big_endian = sn_bit(r->dc[DC_TC], TC_SBE);
	for (unsigned level = levels - 1; level; level--) {
		uint64_t index = pasid >> split[level] & sn_mask(split[level + 1] - split[level]);

		if (!descend(r, table + index * 8, &table, 265))
			return;
	}
	at = table + (pasid & 0xff) * 16;
	if (!fetch(r, at, pc, 2, 265))
		return;
	if (!sn_bit(pc[0], 0)) {
		sn_device_fault(&r->d, 266, at, pc[0]);
		return;
	}
	first = first_levels(r, MODE(pc[1]), sxl);
	if (sn_bits(pc[0], 11, 3) || sn_bits(pc[0], 63, 32) || sn_bits(pc[1], 59, 44) ||
	    first < 0) {
		sn_device_fault(&r->d, 267, at, pc[0]);
		return;
	}
	r->d.context->pasid = pasid;
	r->d.context->space = first ? (uint32_t)sn_bits(pc[0], 31, 12) : 0;
	if ((sn_context_access(r->d.context, r->d.request.access) & SNEST_PRIVILEGED) &&
	    !sn_bit(pc[0], 1)) {
		sn_device_fault(&r->d, 260, at, pc[0]);
		return;
	}
	stages(r, first, pc[1], sn_bit(pc[0], 2) ? SNEST_STAGE_RISCV_SUM : 0, 267);
}

/* Step 5: what the device context does not let through. */
static bool disallowed(const struct riscv *r)
{
	static const uint8_t pid_bits[] = {20, 8, 17, 20};
	uint64_t tc = r->dc[DC_TC];
	uint32_t pasid = r->d.request.pasid, kind = r->d.request.kind;

	if ((kind == SNEST_REQUEST_TRANSLATION || kind == SNEST_REQUEST_TRANSLATED) &&
	    !sn_bit(tc, TC_EN_ATS))
		return true;
	if (kind == SNEST_REQUEST_PAGE && !sn_bit(tc, TC_EN_PRI))
		return true;
	if (pasid == SNEST_NO_PASID)
		return false;
	return !sn_bit(tc, TC_PDTV) || pasid >> pid_bits[MODE(r->dc[DC_FSC])];
}

static void attributes(struct riscv *r)
{
	struct snest_context *c = r->d.context;
	uint64_t tc = r->dc[DC_TC];

	c->flags |= (sn_bit(tc, TC_DTF) ? SNEST_CONTEXT_QUIET : 0) |
	            (sn_bit(tc, TC_EN_ATS) ? SNEST_CONTEXT_ATS : 0) |
	            (sn_bit(tc, TC_EN_PRI) ? SNEST_CONTEXT_PRI : 0) |
	            (sn_bit(tc, TC_T2GPA) ? SNEST_CONTEXT_T2GPA : 0) |
	            (sn_bit(tc, TC_PDTV) ? SNEST_CONTEXT_PASID : 0);
	/* Only a process id says anything about privilege. */
	if (r->d.request.pasid == SNEST_NO_PASID)
		c->flags |= SNEST_CONTEXT_UNPRIVILEGED;
	if (r->second.levels)
		c->domain = (uint32_t)sn_bits(r->dc[DC_IOHGATP], 59, 44);
	if (r->extended && MODE(r->dc[DC_MSIPTP])) {
		c->flags |= SNEST_CONTEXT_MSI_FLAT;
		c->msi_table = PPN_ADDR(r->dc[DC_MSIPTP]);
		c->msi_mask = r->dc[DC_MSI_MASK];
		c->msi_pattern = r->dc[DC_MSI_PATTERN];
	}
}

static void resolve(struct riscv *r, unsigned levels)
{
	uint64_t tc, fsc, iohgatp;
	uint32_t pasid = r->d.request.pasid;

	r->d.big_endian = sn_bit(r->reg.fctl, FCTL_BE);
	if (!device_context(r, levels))
		return;
	tc = r->dc[DC_TC];
	fsc = r->dc[DC_FSC];
	iohgatp = r->dc[DC_IOHGATP];
	if (MODE(iohgatp))
		r->second = make_stage(r, second_levels(r, MODE(iohgatp)), iohgatp,
		                       stage_flags(r, true));
	attributes(r);
	if (disallowed(r)) {
		sn_device_fault(&r->d, 260, r->at, tc);
		return;
	}
	/* Step 6. */
	if (r->d.request.kind == SNEST_REQUEST_TRANSLATED) {
		if (sn_bit(tc, TC_T2GPA))
			stages(r, 0, 0, 0, 259);
		return;
	}
	/* Steps 7 to 9. */
	if (!sn_bit(tc, TC_PDTV)) {
		if (MODE(fsc))
			r->d.context->space = (uint32_t)sn_bits(r->dc[DC_TA], 31, 12);
		stages(r, first_levels(r, MODE(fsc), sn_bit(tc, TC_SXL)), fsc, 0, 259);
		return;
	}
	if (pasid == SNEST_NO_PASID && sn_bit(tc, TC_DPE))
		pasid = 0;
	if (pasid == SNEST_NO_PASID || !MODE(fsc))
		stages(r, 0, 0, 0, 259);
	else
		process_context(r, pasid);
}

int snest_riscv_context(struct snest_vm *vm, const struct snest_riscv_registers *registers,
                        const struct snest_request *request, struct snest_context *context)
{
	struct riscv r = {.at = 0};
	int ret = SN_STRUCT_IN(&r.reg, registers);

	if (ret)
		return ret;
	if (CAP_PAS(r.reg.capabilities) < 32 || CAP_PAS(r.reg.capabilities) > 56)
		return -EINVAL;
	ret = sn_device_begin(&r.d, vm, request, context, SNEST_IOMMU_RISCV, 0xffffff);
	if (ret)
		return ret;
	r.extended = cap(&r, CAP_MSI_FLAT);

	unsigned mode = (unsigned)sn_bits(r.reg.ddtp, 3, 0);

	if (mode >= MODE_1LVL && mode <= MODE_3LVL)
		resolve(&r, mode - MODE_1LVL + 1);
	else if (mode != MODE_BARE)
		sn_device_fault(&r.d, 256, 0, 0);
	else if (r.d.request.kind != SNEST_REQUEST_UNTRANSLATED)
		sn_device_fault(&r.d, 260, 0, 0);
	return sn_device_end(&r.d);
}
