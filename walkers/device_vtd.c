/* SPDX-License-Identifier: MIT */
/*
 * VT-d: root and context tables of legacy and scalable mode, PASID directory
 * and PASID table (snest_vtd_context). All tables lie at GPAs of the memory
 * map. No state; any thread; reads at most five structures.
 */
#include <errno.h>
#include "core/extensible.h"
#include "walkers/device.h"

/* Where the public sources are silent or disagree. Everything else is as two of them agree. */
static const struct {
	bool pass_largest_aw;    /* TT = 2 demands the largest AW: memory of the manual only */
	bool pass_pointer;       /* reserved bits of SSPTPTR count under pass-through: unverified */
	bool deprecated_ignored; /* SLEE, ERE, NXE, SMEP may be set: newer revisions dropped them */
	bool pre_needs_dte;      /* PRE without DTE is "invalid combination" (43h): by its name */
	bool snoop_reserved;     /* PWSNP, PGSNP without SMPWCS, SC are reserved: unverified */
	bool sre_reserved;       /* SRE without SRS is reserved: unverified */
} policy = {
	.pass_largest_aw = false,
	.pass_pointer = false,
	.deprecated_ignored = true,
	.pre_needs_dte = true,
	.snoop_reserved = false,
	.sre_reserved = false,
};

#define TTM_LEGACY 0u
#define TTM_SCALABLE 1u
#define TTM_ABORT 3u

#define CAP_ND(cap) ((unsigned)sn_bits(cap, 2, 0))
#define CAP_SAGAW(cap) ((unsigned)sn_bits(cap, 12, 8))
#define CAP_MGAW(cap) ((unsigned)sn_bits(cap, 21, 16) + 1)
#define CAP_SLLPS(cap) ((unsigned)sn_bits(cap, 37, 34))
#define CAP_FS1GP 56
#define CAP_FS5LP 60

#define ECAP_DT 2
#define ECAP_PT 6
#define ECAP_SC 7
#define ECAP_NEST 26
#define ECAP_PRS 29
#define ECAP_ERS 30
#define ECAP_SRS 31
#define ECAP_EAFS 34
#define ECAP_PASID 40
#define ECAP_SMTS 43
#define ECAP_SSADS 45
#define ECAP_SSTS 46
#define ECAP_FSTS 47
#define ECAP_SMPWCS 48
#define ECAP_RPS 49
#define ECAP_RPRIVS 53

#define ADDR 0xfffffffffffff000ull

/* Bits of all entries, of scalable-mode context entries, of PASID entries. */
#define P 0
#define FPD 1
#define SCE_DTE 2
#define SCE_PASIDE 3
#define SCE_PRE 4
#define SCE_PDTS(q0) ((unsigned)sn_bits(q0, 11, 9))
#define SCE_RID_PASID(q1) ((uint32_t)sn_bits(q1, 19, 0))
#define SCE_RID_PRIV 20
#define PE_AW(q0) ((unsigned)sn_bits(q0, 4, 2))
#define PE_SLEE 5
#define PE_PGTT(q0) ((unsigned)sn_bits(q0, 8, 6))
#define PE_SSADE 9
#define PE_DID(q1) ((uint32_t)sn_bits(q1, 15, 0))
#define PE_PWSNP 23
#define PE_PGSNP 24
#define PE_SRE 0
#define PE_ERE 1
#define PE_FSPM(q2) ((unsigned)sn_bits(q2, 3, 2))
#define PE_WPE 4
#define PE_NXE 5
#define PE_SMEP 6
#define PE_EAFE 7

enum {
	TT_UNTRANSLATED = 0,
	TT_ATS = 1,
	TT_PASS = 2,
};

enum {
	PGTT_FIRST = 1,
	PGTT_SECOND = 2,
	PGTT_NESTED = 3,
	PGTT_PASS = 4,
};

struct vtd {
	struct sn_device d;
	struct snest_vtd_registers reg;
	uint64_t wide; /* address bits beyond the host address width */
	unsigned did_bits;
};

/* Reads an entry and says whether it could; else the outcome is `code`. */
static bool entry(struct vtd *v, uint64_t addr, uint64_t *words, unsigned count, unsigned code)
{
	if (sn_device_read(&v->d, addr, words, count) == SN_DEVICE_OK)
		return true;
	sn_device_fault(&v->d, code, addr, 0);
	return false;
}

static bool aw_supported(const struct vtd *v, unsigned aw)
{
	return aw >= 1 && aw <= 3 && (CAP_SAGAW(v->reg.cap) >> aw & 1);
}

static uint8_t ia_bits(const struct vtd *v, unsigned aw)
{
	unsigned width = 30 + 9 * aw, mgaw = CAP_MGAW(v->reg.cap);

	return (uint8_t)(mgaw < width ? mgaw : width);
}

static bool second_stage(struct vtd *v, unsigned aw, uint64_t pointer, bool dirty)
{
	unsigned large = CAP_SLLPS(v->reg.cap);
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = SNEST_FORMAT_VTD_SS,
		.levels = (uint8_t)(aw + 2),
		.ia_bits = ia_bits(v, aw),
		.oa_bits = (uint8_t)v->reg.haw,
		.root = pointer & ADDR,
	};

	if (!(large & 1))
		stage.flags |= SNEST_STAGE_NO_2M;
	if (!(large & 2))
		stage.flags |= SNEST_STAGE_NO_1G;
	if (sn_bit(v->reg.ecap, ECAP_SC))
		stage.flags |= SNEST_STAGE_VTD_SNOOP;
	if (dirty)
		stage.flags |= SNEST_STAGE_HW_A | SNEST_STAGE_HW_D;
	return sn_device_stage(&v->d, &stage);
}

static bool first_stage(struct vtd *v, const uint64_t *pe)
{
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = SNEST_FORMAT_X86_64,
		.levels = PE_FSPM(pe[2]) ? 5 : 4,
		.oa_bits = (uint8_t)v->reg.haw,
		.flags = SNEST_STAGE_HW_A | SNEST_STAGE_HW_D,
		.root = pe[2] & ADDR,
	};
	bool executes = sn_bit(v->reg.ecap, ECAP_ERS);

	if (!sn_bit(v->reg.cap, CAP_FS1GP))
		stage.flags |= SNEST_STAGE_NO_1G;
	if (sn_bit(pe[2], PE_WPE))
		stage.flags |= SNEST_STAGE_X86_WP;
	if (sn_bit(pe[2], PE_EAFE))
		stage.flags |= SNEST_STAGE_X86_EAF;
	if (executes && sn_bit(pe[2], PE_NXE))
		stage.flags |= SNEST_STAGE_X86_NX;
	if (executes && sn_bit(pe[2], PE_SMEP))
		stage.flags |= SNEST_STAGE_X86_SMEP;
	return sn_device_stage(&v->d, &stage);
}

/* The request goes on untranslated. */
static void pass(struct vtd *v, unsigned bits)
{
	v->d.context->ia_bits = (uint8_t)bits;
}

static void legacy(struct vtd *v)
{
	struct snest_context *c = v->d.context;
	uint32_t rid = v->d.request.rid, kind = v->d.request.kind;
	uint64_t at = (v->reg.rtaddr & ADDR) + (rid >> 8) * 16, ce[2];

	if (v->d.request.pasid != SNEST_NO_PASID) {
		sn_device_fault(&v->d, 0x31, 0, 0);
		return;
	}
	if (kind == SNEST_REQUEST_PAGE) {
		sn_device_fault(&v->d, 0x32, 0, 0);
		return;
	}
	if (!entry(v, at, ce, 2, 0x8))
		return;
	if (!sn_bit(ce[0], P)) {
		sn_device_fault(&v->d, 0x1, at, ce[0]);
		return;
	}
	if (sn_bits(ce[0], 11, 1) || ce[1] || (ce[0] & v->wide)) {
		sn_device_fault(&v->d, 0xa, at, ce[0]);
		return;
	}
	at = (ce[0] & ADDR) + (rid & 0xff) * 16;
	if (!entry(v, at, ce, 2, 0x9))
		return;
	if (sn_bit(ce[0], FPD))
		c->flags |= SNEST_CONTEXT_QUIET;
	if (!sn_bit(ce[0], P)) {
		sn_device_fault(&v->d, 0x2, at, ce[0]);
		return;
	}

	unsigned tt = (unsigned)sn_bits(ce[0], 3, 2), aw = (unsigned)sn_bits(ce[1], 2, 0);
	uint64_t did = sn_bits(ce[1], 23, 8);

	if (sn_bits(ce[0], 11, 4) || sn_bit(ce[1], 7) || sn_bits(ce[1], 63, 24) ||
	    did >> v->did_bits || ((tt != TT_PASS || policy.pass_pointer) && (ce[0] & v->wide))) {
		sn_device_fault(&v->d, 0xb, at, ce[0]);
		return;
	}
	c->domain = (uint32_t)did;
	if (!aw_supported(v, aw) || tt > TT_PASS ||
	    (tt == TT_ATS && !sn_bit(v->reg.ecap, ECAP_DT)) ||
	    (tt == TT_PASS && !sn_bit(v->reg.ecap, ECAP_PT)) ||
	    (tt == TT_PASS && policy.pass_largest_aw && CAP_SAGAW(v->reg.cap) >> (aw + 1))) {
		sn_device_fault(&v->d, 0x3, at, ce[0]);
		return;
	}
	if (kind != SNEST_REQUEST_UNTRANSLATED && tt != TT_ATS) {
		sn_device_fault(&v->d, 0xd, at, ce[0]);
		return;
	}
	if (tt == TT_ATS)
		c->flags |= SNEST_CONTEXT_ATS;
	if (tt == TT_PASS)
		pass(v, ia_bits(v, aw));
	else if (kind == SNEST_REQUEST_TRANSLATED)
		pass(v, 64);
	else if (!second_stage(v, aw, ce[0], false))
		sn_device_fault(&v->d, 0x3, at, ce[0]);
}

static bool pasid_entry_reserved(const struct vtd *v, const uint64_t *pe, unsigned pgtt)
{
	bool first = pgtt == PGTT_FIRST || pgtt == PGTT_NESTED;
	bool second = pgtt == PGTT_SECOND || pgtt == PGTT_NESTED;
	uint64_t ecap = v->reg.ecap;

	if (pe[3] || pe[4] || pe[5] || pe[6] || pe[7])
		return true;
	if (sn_bits(pe[0], 11, 10) || (!policy.deprecated_ignored && sn_bit(pe[0], PE_SLEE)) ||
	    (sn_bit(pe[0], PE_SSADE) && !sn_bit(ecap, ECAP_SSADS)) || (second && (pe[0] & v->wide)))
		return true;
	if (PE_DID(pe[1]) >> v->did_bits || sn_bits(pe[1], 22, 16))
		return true;
	if (policy.snoop_reserved && ((sn_bit(pe[1], PE_PWSNP) && !sn_bit(ecap, ECAP_SMPWCS)) ||
	                              (sn_bit(pe[1], PE_PGSNP) && !sn_bit(ecap, ECAP_SC))))
		return true;
	if (!first)
		return false;
	if (sn_bits(pe[2], 11, 8) || (sn_bit(pe[2], PE_EAFE) && !sn_bit(ecap, ECAP_EAFS)) ||
	    (policy.sre_reserved && sn_bit(pe[2], PE_SRE) && !sn_bit(ecap, ECAP_SRS)) ||
	    (!policy.deprecated_ignored && (sn_bit(pe[2], PE_ERE) || sn_bits(pe[2], 6, 5))))
		return true;
	/* Nested: a GPA, whose width the second stage judges. */
	return pe[2] & (pgtt == PGTT_NESTED ? v->wide & ~sn_mask(52) : v->wide);
}

static bool pasid_entry_valid(const struct vtd *v, const uint64_t *pe, unsigned pgtt)
{
	static const uint8_t needs[] = {
		[PGTT_FIRST] = ECAP_FSTS,
		[PGTT_SECOND] = ECAP_SSTS,
		[PGTT_NESTED] = ECAP_NEST,
		[PGTT_PASS] = ECAP_PT,
	};
	unsigned fspm = PE_FSPM(pe[2]);

	if (pgtt < PGTT_FIRST || pgtt > PGTT_PASS || !sn_bit(v->reg.ecap, needs[pgtt]))
		return false;
	if ((pgtt == PGTT_SECOND || pgtt == PGTT_NESTED) && !aw_supported(v, PE_AW(pe[0])))
		return false;
	if ((pgtt == PGTT_FIRST || pgtt == PGTT_NESTED) &&
	    (fspm > 1 || (fspm == 1 && !sn_bit(v->reg.cap, CAP_FS5LP))))
		return false;
	return true;
}

static void pasid_entry(struct vtd *v, uint64_t at)
{
	struct snest_context *c = v->d.context;
	uint64_t pe[8];

	if (!entry(v, at, pe, 8, 0x58))
		return;
	if (sn_bit(pe[0], FPD))
		c->flags |= SNEST_CONTEXT_QUIET;
	if (!sn_bit(pe[0], P)) {
		sn_device_fault(&v->d, 0x59, at, pe[0]);
		return;
	}

	unsigned pgtt = PE_PGTT(pe[0]);

	if (pasid_entry_reserved(v, pe, pgtt)) {
		sn_device_fault(&v->d, 0x5a, at, pe[0]);
		return;
	}
	c->domain = PE_DID(pe[1]);
	if (!pasid_entry_valid(v, pe, pgtt)) {
		sn_device_fault(&v->d, 0x5b, at, pe[0]);
		return;
	}
	if (pgtt == PGTT_PASS) {
		pass(v, CAP_MGAW(v->reg.cap));
		return;
	}
	if (pgtt != PGTT_SECOND) {
		uint32_t access = sn_context_access(c, v->d.request.access);

		/* Where ERS exists a fetch needs ERE; later revisions dropped both. */
		if ((access & SNEST_EXEC) && sn_bit(v->reg.ecap, ECAP_ERS) &&
		    !sn_bit(pe[2], PE_ERE)) {
			sn_device_fault(&v->d, 0x5c, at, pe[0]);
			return;
		}
		if ((access & SNEST_PRIVILEGED) && !sn_bit(pe[2], PE_SRE)) {
			sn_device_fault(&v->d, 0x5d, at, pe[0]);
			return;
		}
		c->space = c->pasid;
	}
	if ((pgtt != PGTT_SECOND && !first_stage(v, pe)) ||
	    (pgtt != PGTT_FIRST && !second_stage(v, PE_AW(pe[0]), pe[0], sn_bit(pe[0], PE_SSADE))))
		sn_device_fault(&v->d, 0x5b, at, pe[0]);
}

/* What the scalable-mode context entry says against the request. 0: nothing. */
static unsigned scalable_refuses(const struct vtd *v, const uint64_t *ce)
{
	const struct snest_request *r = &v->d.request;
	uint64_t capacity = 1ull << (SCE_PDTS(ce[0]) + 7 + 6);

	if ((r->kind == SNEST_REQUEST_TRANSLATION || r->kind == SNEST_REQUEST_TRANSLATED) &&
	    !sn_bit(ce[0], SCE_DTE))
		return 0x44;
	if (r->kind == SNEST_REQUEST_PAGE && !sn_bit(ce[0], SCE_PRE))
		return 0x47;
	if (r->pasid != SNEST_NO_PASID && !sn_bit(ce[0], SCE_PASIDE))
		return 0x45;
	if (v->d.context->pasid >= capacity)
		return r->pasid == SNEST_NO_PASID ? 0x48 : 0x46;
	return 0;
}

static void scalable(struct vtd *v)
{
	struct snest_context *c = v->d.context;
	uint64_t ecap = v->reg.ecap, ce[4], pde;
	uint32_t rid = v->d.request.rid;
	unsigned code;
	/* The two halves of a root entry lead to the tables of devfn 0-127 and 128-255. */
	uint64_t at = (v->reg.rtaddr & ADDR) + (rid >> 8) * 16 + (rid & 0x80 ? 8 : 0);

	c->flags |= SNEST_CONTEXT_SCALABLE;
	if (!entry(v, at, ce, 1, 0x38))
		return;
	if (!sn_bit(ce[0], P)) {
		sn_device_fault(&v->d, 0x39, at, ce[0]);
		return;
	}
	if (sn_bits(ce[0], 11, 1) || (ce[0] & v->wide)) {
		sn_device_fault(&v->d, 0x3a, at, ce[0]);
		return;
	}
	at = (ce[0] & ADDR) + (rid & 0x7f) * 32;
	if (!entry(v, at, ce, 4, 0x40))
		return;
	if (sn_bit(ce[0], FPD))
		c->flags |= SNEST_CONTEXT_QUIET;
	if (!sn_bit(ce[0], P)) {
		sn_device_fault(&v->d, 0x41, at, ce[0]);
		return;
	}
	if (sn_bits(ce[0], 8, 5) || (ce[0] & v->wide) || sn_bits(ce[1], 63, 21) || ce[2] || ce[3] ||
	    (sn_bit(ce[0], SCE_DTE) && !sn_bit(ecap, ECAP_DT)) ||
	    (sn_bit(ce[0], SCE_PASIDE) && !sn_bit(ecap, ECAP_PASID)) ||
	    (sn_bit(ce[0], SCE_PRE) && !sn_bit(ecap, ECAP_PRS))) {
		sn_device_fault(&v->d, 0x42, at, ce[0]);
		return;
	}
	if (policy.pre_needs_dte && sn_bit(ce[0], SCE_PRE) && !sn_bit(ce[0], SCE_DTE)) {
		sn_device_fault(&v->d, 0x43, at, ce[0]);
		return;
	}
	c->flags |= (sn_bit(ce[0], SCE_DTE) ? SNEST_CONTEXT_ATS : 0) |
	            (sn_bit(ce[0], SCE_PASIDE) ? SNEST_CONTEXT_PASID : 0) |
	            (sn_bit(ce[0], SCE_PRE) ? SNEST_CONTEXT_PRI : 0);
	if (c->pasid == SNEST_NO_PASID) {
		c->pasid = sn_bit(ecap, ECAP_RPS) ? SCE_RID_PASID(ce[1]) : 0;
		c->flags |= sn_bit(ecap, ECAP_RPRIVS) && sn_bit(ce[1], SCE_RID_PRIV)
		                    ? SNEST_CONTEXT_PRIVILEGED
		                    : SNEST_CONTEXT_UNPRIVILEGED;
	}
	code = scalable_refuses(v, ce);
	if (code) {
		sn_device_fault(&v->d, code, at, ce[0]);
		return;
	}
	if (v->d.request.kind == SNEST_REQUEST_TRANSLATED) {
		pass(v, 64);
		return;
	}
	at = (ce[0] & ADDR) + (c->pasid >> 6) * 8;
	if (!entry(v, at, &pde, 1, 0x50))
		return;
	if (sn_bit(pde, FPD))
		c->flags |= SNEST_CONTEXT_QUIET;
	if (!sn_bit(pde, P)) {
		sn_device_fault(&v->d, 0x51, at, pde);
		return;
	}
	if (sn_bits(pde, 11, 2) || (pde & v->wide)) {
		sn_device_fault(&v->d, 0x52, at, pde);
		return;
	}
	pasid_entry(v, (pde & ADDR) + (c->pasid & 0x3f) * 64);
}

int snest_vtd_context(struct snest_vm *vm, const struct snest_vtd_registers *registers,
                      const struct snest_request *request, struct snest_context *context)
{
	struct vtd v;
	int ret = SN_STRUCT_IN(&v.reg, registers);

	if (ret)
		return ret;
	if (v.reg.haw < 32 || v.reg.haw > 52 || CAP_ND(v.reg.cap) == 7 || CAP_MGAW(v.reg.cap) < 30)
		return -EINVAL;
	ret = sn_device_begin(&v.d, vm, request, context, SNEST_IOMMU_VTD, 0xffff);
	if (ret)
		return ret;
	v.wide = ADDR & ~sn_mask(v.reg.haw);
	v.did_bits = 4 + 2 * CAP_ND(v.reg.cap);

	unsigned ttm = (unsigned)sn_bits(v.reg.rtaddr, 11, 10);

	if (ttm == TTM_LEGACY)
		legacy(&v);
	else if (ttm == TTM_SCALABLE && sn_bit(v.reg.ecap, ECAP_SMTS))
		scalable(&v);
	else if (ttm == TTM_ABORT && sn_bit(v.reg.ecap, ECAP_SMTS))
		sn_device_blocked(&v.d);
	else
		sn_device_fault(&v.d, 0x30, v.reg.rtaddr, 0);
	return sn_device_end(&v.d);
}
