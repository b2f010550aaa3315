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

/* Fault reasons. */
enum {
	ROOT_ABSENT = 0x01,
	CONTEXT_ABSENT = 0x02,
	CONTEXT_INVALID = 0x03,
	ROOT_ACCESS = 0x08,
	CONTEXT_ACCESS = 0x09,
	ROOT_RESERVED = 0x0a,
	CONTEXT_RESERVED = 0x0b,
	TYPE_BLOCKED = 0x0d,
	MODE_INVALID = 0x30,
	LEGACY_PASID = 0x31,
	LEGACY_PAGE_REQUEST = 0x32,
	SM_ROOT_ACCESS = 0x38,
	SM_ROOT_ABSENT = 0x39,
	SM_ROOT_RESERVED = 0x3a,
	SM_CONTEXT_ACCESS = 0x40,
	SM_CONTEXT_ABSENT = 0x41,
	SM_CONTEXT_RESERVED = 0x42,
	SM_CONTEXT_INVALID = 0x43,
	ATS_DISABLED = 0x44,
	PASID_DISABLED = 0x45,
	PASID_TOO_LARGE = 0x46,
	PAGE_REQUEST_DISABLED = 0x47,
	RID_PASID_TOO_LARGE = 0x48,
	DIRECTORY_ACCESS = 0x50,
	DIRECTORY_ABSENT = 0x51,
	DIRECTORY_RESERVED = 0x52,
	PASID_ACCESS = 0x58,
	PASID_ABSENT = 0x59,
	PASID_RESERVED = 0x5a,
	PASID_INVALID = 0x5b,
	EXECUTE_DISABLED = 0x5c,
	SUPERVISOR_DISABLED = 0x5d,
};

/* Bits of all entries; of context entries in both modes; of PASID entries. */
#define ENTRY_P 0
#define ENTRY_FPD 1
#define CE_TT(q0) ((unsigned)sn_bits(q0, 3, 2))
#define CE_AW(q1) ((unsigned)sn_bits(q1, 2, 0))
#define CE_DID(q1) ((uint32_t)sn_bits(q1, 23, 8))
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

/* Says `ok`; if that is false, the outcome is `code` of the entry at `at`. */
static bool check(struct vtd *v, bool ok, unsigned code, uint64_t at, uint64_t word)
{
	if (!ok)
		sn_device_fault(&v->d, code, at, word);
	return ok;
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

/* Fault processing disable counts at every level, in entries that are not present too. */
static void quiet(struct vtd *v, uint64_t word)
{
	if (sn_bit(word, ENTRY_FPD))
		v->d.context->flags |= SNEST_CONTEXT_QUIET;
}

/* Reads the root entry of legacy mode. False: the context has its fault. */
static bool legacy_root(struct vtd *v, uint64_t *table)
{
	uint64_t at = (v->reg.rtaddr & ADDR) + (v->d.request.rid >> 8) * 16, re[2];

	*table = 0;
	if (!entry(v, at, re, 2, ROOT_ACCESS) ||
	    !check(v, sn_bit(re[0], ENTRY_P), ROOT_ABSENT, at, re[0]) ||
	    !check(v, !sn_bits(re[0], 11, 1) && !(re[0] & v->wide) && !re[1], ROOT_RESERVED, at,
	           re[0]))
		return false;
	*table = re[0] & ADDR;
	return true;
}

static bool legacy_reserved(const struct vtd *v, const uint64_t *ce)
{
	bool pointer = CE_TT(ce[0]) != TT_PASS || policy.pass_pointer;

	return sn_bits(ce[0], 11, 4) || sn_bit(ce[1], 7) || sn_bits(ce[1], 63, 24) ||
	       CE_DID(ce[1]) >> v->did_bits || (pointer && (ce[0] & v->wide));
}

static bool legacy_valid(const struct vtd *v, const uint64_t *ce)
{
	unsigned aw = CE_AW(ce[1]);

	if (!aw_supported(v, aw))
		return false;
	switch (CE_TT(ce[0])) {
	case TT_UNTRANSLATED:
		return true;
	case TT_ATS:
		return sn_bit(v->reg.ecap, ECAP_DT);
	case TT_PASS:
		return sn_bit(v->reg.ecap, ECAP_PT) &&
		       !(policy.pass_largest_aw && CAP_SAGAW(v->reg.cap) >> (aw + 1));
	default:
		return false;
	}
}

static void legacy(struct vtd *v)
{
	struct snest_context *c = v->d.context;
	uint32_t kind = v->d.request.kind;
	uint64_t at, ce[2];
	unsigned tt;

	if (!check(v, v->d.request.pasid == SNEST_NO_PASID, LEGACY_PASID, 0, 0) ||
	    !check(v, kind != SNEST_REQUEST_PAGE, LEGACY_PAGE_REQUEST, 0, 0) ||
	    !legacy_root(v, &at))
		return;
	at += (v->d.request.rid & 0xff) * 16;
	if (!entry(v, at, ce, 2, CONTEXT_ACCESS))
		return;
	quiet(v, ce[0]);
	if (!check(v, sn_bit(ce[0], ENTRY_P), CONTEXT_ABSENT, at, ce[0]) ||
	    !check(v, !legacy_reserved(v, ce), CONTEXT_RESERVED, at, ce[0]))
		return;
	c->domain = CE_DID(ce[1]);
	tt = CE_TT(ce[0]);
	if (!check(v, legacy_valid(v, ce), CONTEXT_INVALID, at, ce[0]) ||
	    !check(v, kind == SNEST_REQUEST_UNTRANSLATED || tt == TT_ATS, TYPE_BLOCKED, at, ce[0]))
		return;
	if (tt == TT_ATS)
		c->flags |= SNEST_CONTEXT_ATS;
	if (tt == TT_PASS)
		c->ia_bits = ia_bits(v, CE_AW(ce[1]));
	else if (kind != SNEST_REQUEST_TRANSLATED)
		check(v, second_stage(v, CE_AW(ce[1]), ce[0], false), CONTEXT_INVALID, at, ce[0]);
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

/* First-stage entries say who may use them. False: the context has its fault. */
static bool first_stage_allows(struct vtd *v, uint64_t at, const uint64_t *pe)
{
	uint32_t access = sn_context_access(v->d.context, v->d.request.access);
	/* Where ERS exists a fetch needs ERE; later revisions dropped both. */
	bool execute = !sn_bit(v->reg.ecap, ECAP_ERS) || sn_bit(pe[2], PE_ERE);

	return check(v, !(access & SNEST_EXEC) || execute, EXECUTE_DISABLED, at, pe[0]) &&
	       check(v, !(access & SNEST_PRIVILEGED) || sn_bit(pe[2], PE_SRE), SUPERVISOR_DISABLED,
	             at, pe[0]);
}

static void pasid_entry(struct vtd *v, uint64_t at)
{
	struct snest_context *c = v->d.context;
	uint64_t pe[8];
	unsigned pgtt;
	bool ok = true;

	if (!entry(v, at, pe, 8, PASID_ACCESS))
		return;
	pgtt = PE_PGTT(pe[0]);
	quiet(v, pe[0]);
	if (!check(v, sn_bit(pe[0], ENTRY_P), PASID_ABSENT, at, pe[0]) ||
	    !check(v, !pasid_entry_reserved(v, pe, pgtt), PASID_RESERVED, at, pe[0]))
		return;
	c->domain = PE_DID(pe[1]);
	if (!check(v, pasid_entry_valid(v, pe, pgtt), PASID_INVALID, at, pe[0]))
		return;
	if (pgtt == PGTT_PASS) {
		c->ia_bits = (uint8_t)CAP_MGAW(v->reg.cap);
		return;
	}
	if (pgtt != PGTT_SECOND) {
		if (!first_stage_allows(v, at, pe))
			return;
		c->space = c->pasid;
		ok = first_stage(v, pe);
	}
	if (ok && pgtt != PGTT_FIRST)
		ok = second_stage(v, PE_AW(pe[0]), pe[0], sn_bit(pe[0], PE_SSADE));
	check(v, ok, PASID_INVALID, at, pe[0]);
}

/* Reads this device's half of the root entry. False: the context has its fault. */
static bool scalable_root(struct vtd *v, uint64_t *table)
{
	/* The halves lead to the tables of devfn 0-127 and 128-255. */
	uint64_t at = (v->reg.rtaddr & ADDR) + (v->d.request.rid >> 7) * 8, re;

	*table = 0;
	if (!entry(v, at, &re, 1, SM_ROOT_ACCESS) ||
	    !check(v, sn_bit(re, ENTRY_P), SM_ROOT_ABSENT, at, re) ||
	    !check(v, !sn_bits(re, 11, 1) && !(re & v->wide), SM_ROOT_RESERVED, at, re))
		return false;
	*table = re & ADDR;
	return true;
}

/* Enables of what ECAP does not have are reserved. */
static bool scalable_reserved(const struct vtd *v, const uint64_t *ce)
{
	uint64_t ecap = v->reg.ecap;

	return sn_bits(ce[0], 8, 5) || (ce[0] & v->wide) || sn_bits(ce[1], 63, 21) || ce[2] ||
	       ce[3] || (sn_bit(ce[0], SCE_DTE) && !sn_bit(ecap, ECAP_DT)) ||
	       (sn_bit(ce[0], SCE_PASIDE) && !sn_bit(ecap, ECAP_PASID)) ||
	       (sn_bit(ce[0], SCE_PRE) && !sn_bit(ecap, ECAP_PRS));
}

/* What the context entry says against the request. 0: nothing. */
static unsigned scalable_refuses(const struct vtd *v, const uint64_t *ce)
{
	const struct snest_request *r = &v->d.request;
	uint64_t capacity = 1ull << (SCE_PDTS(ce[0]) + 7 + 6);

	if ((r->kind == SNEST_REQUEST_TRANSLATION || r->kind == SNEST_REQUEST_TRANSLATED) &&
	    !sn_bit(ce[0], SCE_DTE))
		return ATS_DISABLED;
	if (r->kind == SNEST_REQUEST_PAGE && !sn_bit(ce[0], SCE_PRE))
		return PAGE_REQUEST_DISABLED;
	if (r->pasid != SNEST_NO_PASID && !sn_bit(ce[0], SCE_PASIDE))
		return PASID_DISABLED;
	if (v->d.context->pasid >= capacity)
		return r->pasid == SNEST_NO_PASID ? RID_PASID_TOO_LARGE : PASID_TOO_LARGE;
	return 0;
}

/* Reads and judges the context entry. False: the context has its fault. */
static bool scalable_context(struct vtd *v, uint64_t *directory)
{
	struct snest_context *c = v->d.context;
	uint64_t at, ce[4], ecap = v->reg.ecap;
	unsigned code;

	if (!scalable_root(v, &at))
		return false;
	at += (v->d.request.rid & 0x7f) * 32;
	if (!entry(v, at, ce, 4, SM_CONTEXT_ACCESS))
		return false;
	quiet(v, ce[0]);
	if (!check(v, sn_bit(ce[0], ENTRY_P), SM_CONTEXT_ABSENT, at, ce[0]) ||
	    !check(v, !scalable_reserved(v, ce), SM_CONTEXT_RESERVED, at, ce[0]) ||
	    !check(v, !policy.pre_needs_dte || !sn_bit(ce[0], SCE_PRE) || sn_bit(ce[0], SCE_DTE),
	           SM_CONTEXT_INVALID, at, ce[0]))
		return false;
	c->flags |= (sn_bit(ce[0], SCE_DTE) ? SNEST_CONTEXT_ATS : 0) |
	            (sn_bit(ce[0], SCE_PASIDE) ? SNEST_CONTEXT_PASID : 0) |
	            (sn_bit(ce[0], SCE_PRE) ? SNEST_CONTEXT_PRI : 0);
	if (c->pasid == SNEST_NO_PASID) {
		c->pasid = sn_bit(ecap, ECAP_RPS) ? SCE_RID_PASID(ce[1]) : 0;
		c->flags |= sn_bit(ecap, ECAP_RPRIVS) && sn_bit(ce[1], SCE_RID_PRIV)
		                    ? SNEST_CONTEXT_PRIVILEGED
		                    : SNEST_CONTEXT_UNPRIVILEGED;
	}
	*directory = ce[0] & ADDR;
	code = scalable_refuses(v, ce);
	return check(v, !code, code, at, ce[0]);
}

static void scalable(struct vtd *v)
{
	struct snest_context *c = v->d.context;
	uint64_t at, de;

	c->flags |= SNEST_CONTEXT_SCALABLE;
	if (!scalable_context(v, &at) || v->d.request.kind == SNEST_REQUEST_TRANSLATED)
		return;
	at += (c->pasid >> 6) * 8;
	if (!entry(v, at, &de, 1, DIRECTORY_ACCESS))
		return;
	quiet(v, de);
	if (!check(v, sn_bit(de, ENTRY_P), DIRECTORY_ABSENT, at, de) ||
	    !check(v, !sn_bits(de, 11, 2) && !(de & v->wide), DIRECTORY_RESERVED, at, de))
		return;
	pasid_entry(v, (de & ADDR) + (c->pasid & 0x3f) * 64);
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
		sn_device_fault(&v.d, MODE_INVALID, v.reg.rtaddr, 0);
	return sn_device_end(&v.d);
}
