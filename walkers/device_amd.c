/* SPDX-License-Identifier: MIT */
/*
 * AMD-Vi: device table entries and GCR3 tables (snest_amd_context). The device
 * table lies at GPAs of the memory map; GCR3 tables and guest tables lie behind
 * the entry's host stage if it has one. No state; any thread; reads at most
 * four structures.
 *
 * Codes are bits 63:48 of the event that the IOMMU would log, SN_AMD_EVENT().
 */
#include <errno.h>
#include "core/extensible.h"
#include "walkers/device.h"

#define EVENT_ILLEGAL_DTE 0x1
#define EVENT_PAGE_FAULT 0x2
#define EVENT_DEV_TAB_ERROR 0x3
#define EVENT_PAGE_TAB_ERROR 0x4
#define EVENT_INVALID_REQUEST 0x8
#define EVENT_INVALID_PPR 0x9

#define TYPE_MASTER_ABORT SN_AMD_TYPE(1)

/*
 * Where the manual was not at hand and implementations are silent or differ.
 * Events are those that an implementation logs, or the nearest by its name.
 */
static const struct {
	bool bad_mode_illegal; /* Mode 7 or too deep: illegal entry (else page fault): unclear */
	bool interrupt_fields; /* reserved IntTabLen, IntCtl with IV = 1 are illegal for DMA too */
	bool gv_needs_gten;    /* GV = 1 with guest translation off is illegal (else ignored) */
	bool guest_write_protect;    /* supervisor writes honour R/W = 0: memory only */
	uint64_t gcr3_reserved;      /* bits of a GCR3 table entry that must be 0: none confirmed */
	unsigned pasid_without_gv;   /* event for a PASID where there are no guest tables */
	unsigned translated_denied;  /* pre-translated request with I = 0: type 1 of its list */
	unsigned translation_denied; /* translation request with I = 0: numbering unverified */
} policy = {
	.bad_mode_illegal = false,
	.interrupt_fields = true,
	.gv_needs_gten = true,
	.guest_write_protect = true,
	.gcr3_reserved = 0,
	.pasid_without_gv = SN_AMD_EVENT(EVENT_PAGE_FAULT, SN_AMD_GN),
	.translated_denied = SN_AMD_EVENT(EVENT_INVALID_REQUEST, SN_AMD_TYPE(1)),
	.translation_denied = SN_AMD_EVENT(EVENT_INVALID_REQUEST, SN_AMD_TYPE(1)),
};

#define CONTROL_IOMMU_EN 0
#define CONTROL_GT_EN 16
#define CONTROL_SEGMENTS(control) ((unsigned)sn_bits(control, 36, 34))
#define CONTROL_GD_UPDATE_DIS 48

#define EFR_NX 3
#define EFR_GT 4
#define EFR_HATS(efr) ((unsigned)sn_bits(efr, 11, 10))
#define EFR_GATS(efr) ((unsigned)sn_bits(efr, 13, 12))
#define EFR_GLX(efr) ((unsigned)sn_bits(efr, 15, 14))
#define EFR_PASMAX(efr) ((unsigned)sn_bits(efr, 36, 32))
#define EFR_SEGMENTS(efr) ((unsigned)sn_bits(efr, 39, 38))
#define EFR_GIO 48
#define EFR_HA 49
#define EFR_HD 52

/* The device table entry, word by word. */
#define DTE_V 0
#define DTE_TV 1
#define DTE_HA 7
#define DTE_HD 8
#define DTE_MODE(q0) ((unsigned)sn_bits(q0, 11, 9))
#define DTE_PPR 52
#define DTE_GIOV 54
#define DTE_GV 55
#define DTE_GLX(q0) ((unsigned)sn_bits(q0, 57, 56))
#define DTE_IR 61
#define DTE_IW 62
#define DTE_DOMAIN(q1) ((uint32_t)sn_bits(q1, 15, 0))
#define DTE_ATS 32
#define DTE_SE 33
#define DTE_SA 34
#define DTE_IO_CTL(q1) ((unsigned)sn_bits(q1, 36, 35))
#define DTE_IV 0
#define DTE_INT_LEN(q2) ((unsigned)sn_bits(q2, 4, 1))
#define DTE_GUEST_PAGING(q2) ((unsigned)sn_bits(q2, 55, 54))
#define DTE_INT_CTL(q2) ((unsigned)sn_bits(q2, 61, 60))

#define ADDR 0x000ffffffffff000ull

struct amd {
	struct sn_device d;
	struct snest_amd_registers reg;
	uint64_t at; /* of the device table entry */
	uint64_t dte[4];
	uint8_t rights; /* of the entry: IR, IW */
};

/* The flags that every event about this request carries. */
static unsigned request_flags(const struct amd *a)
{
	return (a->d.request.access & SNEST_WRITE ? SN_AMD_RW : 0) |
	       (a->d.request.kind == SNEST_REQUEST_TRANSLATION ? SN_AMD_TR : 0);
}

static void fault(struct amd *a, unsigned event, unsigned flags)
{
	sn_device_fault(&a->d, SN_AMD_EVENT(event, flags | request_flags(a)), a->at, a->dte[0]);
}

static void illegal(struct amd *a)
{
	fault(a, EVENT_ILLEGAL_DTE, SN_AMD_RZ);
}

/* Finds the entry's address. False: the device lies beyond its table. */
static bool locate(struct amd *a)
{
	unsigned lg2 = CONTROL_SEGMENTS(a->reg.control), supported = EFR_SEGMENTS(a->reg.efr);
	unsigned segment;
	uint64_t base, index, bytes;

	if (lg2 > supported)
		lg2 = supported;
	index = a->d.request.rid & sn_mask(16 - lg2);
	segment = a->d.request.rid >> (16 - lg2);
	base = a->reg.device_table[segment];
	bytes = (sn_bits(base, segment ? 7 : 8, 0) + 1) << 12;
	a->at = (base & ADDR) + index * 32;
	return index * 32 < bytes;
}

static unsigned guest_levels(const struct amd *a)
{
	return DTE_GLX(a->dte[0]) + 1;
}

static uint64_t gcr3_root(const struct amd *a)
{
	return sn_bits(a->dte[0], 60, 58) << 12 | sn_bits(a->dte[1], 31, 16) << 15 |
	       sn_bits(a->dte[1], 63, 43) << 31;
}

/* Reserved bits and encodings that make the entry illegal. */
static bool reserved(const struct amd *a)
{
	uint64_t q0 = a->dte[0], q1 = a->dte[1], q2 = a->dte[2], efr = a->reg.efr;

	if (sn_bits(q0, 6, 2) || sn_bit(q0, 63) || sn_bit(q1, 42) ||
	    (sn_bit(q0, DTE_HA) && !sn_bit(efr, EFR_HA)) ||
	    (sn_bit(q0, DTE_HD) && !sn_bit(efr, EFR_HD)))
		return true;
	if (DTE_IO_CTL(q1) == 3)
		return true;
	return policy.interrupt_fields && sn_bit(q2, DTE_IV) &&
	       (DTE_INT_LEN(q2) > 11 || DTE_INT_CTL(q2) == 3);
}

/* The same for the fields of guest translation, with GV = 1. */
static bool guest_reserved(const struct amd *a)
{
	uint64_t efr = a->reg.efr;
	unsigned glx = guest_levels(a) - 1, paging = DTE_GUEST_PAGING(a->dte[2]);

	return !sn_bit(efr, EFR_GT) || glx == 3 || glx > EFR_GLX(efr) || paging > 1 ||
	       paging > EFR_GATS(efr) || (sn_bit(a->dte[0], DTE_GIOV) && !sn_bit(efr, EFR_GIO));
}

static struct snest_stage host_stage(const struct amd *a)
{
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = SNEST_FORMAT_AMD_V1,
		.levels = (uint8_t)DTE_MODE(a->dte[0]),
		.root = a->dte[0] & ADDR,
	};

	if (sn_bit(a->dte[0], DTE_HA))
		stage.flags |=
			SNEST_STAGE_HW_A | (sn_bit(a->dte[0], DTE_HD) ? SNEST_STAGE_HW_D : 0);
	return stage;
}

static struct snest_stage guest_stage(const struct amd *a, uint64_t cr3)
{
	struct snest_stage stage = {
		.size = sizeof(stage),
		.format = SNEST_FORMAT_AMD_V2,
		.levels = DTE_GUEST_PAGING(a->dte[2]) ? 5 : 4,
		.flags = SNEST_STAGE_HW_A,
		.root = cr3 & ADDR,
	};

	if (!sn_bit(a->reg.control, CONTROL_GD_UPDATE_DIS))
		stage.flags |= SNEST_STAGE_HW_D;
	if (policy.guest_write_protect)
		stage.flags |= SNEST_STAGE_X86_WP;
	if (sn_bit(a->reg.efr, EFR_NX))
		stage.flags |= SNEST_STAGE_X86_NX;
	return stage;
}

/* From a PASID to its CR3. False: the context has its fault. */
static bool gcr3_walk(struct amd *a, uint32_t pasid, uint64_t *cr3)
{
	unsigned levels = guest_levels(a);
	uint64_t table = gcr3_root(a), e = 0;

	/* PASMax holds the width less one. */
	if (pasid >> (9 * levels) || pasid >> (EFR_PASMAX(a->reg.efr) + 1)) {
		fault(a, EVENT_PAGE_FAULT, SN_AMD_GN);
		return false;
	}
	for (unsigned level = levels; level--;) {
		uint64_t at = table + (pasid >> (9 * level) & 0x1ff) * 8;

		switch (sn_device_read(&a->d, at, &e, 1)) {
		case SN_DEVICE_OK:
			break;
		case SN_DEVICE_FAULT:
			sn_device_stage_fault(&a->d);
			return false;
		default:
			sn_device_fault(
				&a->d,
				SN_AMD_EVENT(EVENT_PAGE_TAB_ERROR,
			                     SN_AMD_GN | TYPE_MASTER_ABORT | request_flags(a)),
				at, 0);
			return false;
		}
		if (!sn_bit(e, 0) || (e & policy.gcr3_reserved)) {
			unsigned flags = sn_bit(e, 0) ? SN_AMD_PR | SN_AMD_RZ : 0;

			sn_device_fault(&a->d,
			                SN_AMD_EVENT(EVENT_PAGE_FAULT,
			                             SN_AMD_GN | flags | request_flags(a)),
			                at, e);
			return false;
		}
		table = e & ADDR;
	}
	*cr3 = table;
	return true;
}

/* Stages of a valid entry whose guest translation applies to the PASID. */
static void guest_stages(struct amd *a, uint32_t pasid)
{
	struct snest_stage host = host_stage(a), guest;
	uint64_t cr3;

	if (host.levels && !sn_device_behind(&a->d, &host)) {
		illegal(a);
		return;
	}
	if (!gcr3_walk(a, pasid, &cr3))
		return;
	guest = guest_stage(a, cr3);
	guest.rights = a->rights;
	a->d.context->space = pasid;
	a->d.context->pasid = pasid;
	if (!sn_device_stage(&a->d, &guest) || (host.levels && !sn_device_stage(&a->d, &host)))
		illegal(a);
}

/* What the kind of request needs of a valid entry. 0: nothing against it. */
static unsigned kind_refused(const struct amd *a)
{
	switch (a->d.request.kind) {
	case SNEST_REQUEST_TRANSLATION:
		return sn_bit(a->dte[1], DTE_ATS) ? 0 : policy.translation_denied;
	case SNEST_REQUEST_TRANSLATED:
		return sn_bit(a->dte[1], DTE_ATS) ? 0 : policy.translated_denied;
	case SNEST_REQUEST_PAGE:
		return sn_bit(a->dte[0], DTE_PPR) ? 0 : SN_AMD_EVENT(EVENT_INVALID_PPR, 0);
	default:
		return 0;
	}
}

/* Denied by the entry's own IR and IW, which come before all tables. */
static bool denied(const struct amd *a)
{
	uint32_t access = a->d.request.access & SNEST_RIGHTS;

	return !a->rights || (access & ~(uint32_t)a->rights);
}

static void resolve(struct amd *a)
{
	struct snest_context *c = a->d.context;
	uint32_t pasid = a->d.request.pasid;
	unsigned mode, refused;
	bool guest;

	if (sn_device_read(&a->d, a->at, a->dte, 4) != SN_DEVICE_OK) {
		a->dte[0] = 0;
		fault(a, EVENT_DEV_TAB_ERROR, TYPE_MASTER_ABORT);
		return;
	}
	/* An entry that is not valid checks nothing and lets everything through. */
	if (!sn_bit(a->dte[0], DTE_V))
		return;

	guest = sn_bit(a->dte[0], DTE_GV);
	if (guest && !policy.gv_needs_gten && !sn_bit(a->reg.control, CONTROL_GT_EN))
		guest = false;
	if (reserved(a) ||
	    (guest && (guest_reserved(a) || !sn_bit(a->reg.control, CONTROL_GT_EN)))) {
		illegal(a);
		return;
	}
	c->domain = DTE_DOMAIN(a->dte[1]);
	c->flags |= (sn_bit(a->dte[1], DTE_SA) ? SNEST_CONTEXT_QUIET : 0) |
	            (sn_bit(a->dte[1], DTE_SE) ? SNEST_CONTEXT_SUPPRESS : 0) |
	            (sn_bit(a->dte[1], DTE_ATS) ? SNEST_CONTEXT_ATS : 0) |
	            (sn_bit(a->dte[0], DTE_PPR) ? SNEST_CONTEXT_PRI : 0) |
	            (guest ? SNEST_CONTEXT_PASID : 0);
	refused = kind_refused(a);
	if (refused) {
		sn_device_fault(&a->d, refused | request_flags(a), a->at, a->dte[0]);
		return;
	}
	if (a->d.request.kind == SNEST_REQUEST_TRANSLATED)
		return;
	if (!sn_bit(a->dte[0], DTE_TV)) {
		fault(a, EVENT_PAGE_FAULT, 0);
		return;
	}
	a->rights = (uint8_t)((sn_bit(a->dte[0], DTE_IR) ? SNEST_READ | SNEST_EXEC : 0) |
	                      (sn_bit(a->dte[0], DTE_IW) ? SNEST_WRITE : 0));
	c->rights = a->rights;
	if (denied(a)) {
		fault(a, EVENT_PAGE_FAULT, SN_AMD_PR | SN_AMD_PE);
		return;
	}
	mode = DTE_MODE(a->dte[0]);
	if (mode > 4 + EFR_HATS(a->reg.efr) || mode == 7) {
		if (policy.bad_mode_illegal)
			illegal(a);
		else
			fault(a, EVENT_PAGE_FAULT, 0);
		return;
	}
	if (pasid == SNEST_NO_PASID && guest && sn_bit(a->dte[0], DTE_GIOV))
		pasid = 0;
	if (pasid != SNEST_NO_PASID && !guest) {
		sn_device_fault(&a->d, policy.pasid_without_gv | request_flags(a), a->at,
		                a->dte[0]);
	} else if (pasid != SNEST_NO_PASID) {
		guest_stages(a, pasid);
	} else if (mode) {
		struct snest_stage host = host_stage(a);

		host.rights = a->rights;
		if (!sn_device_stage(&a->d, &host))
			illegal(a);
	}
}

int snest_amd_context(struct snest_vm *vm, const struct snest_amd_registers *registers,
                      const struct snest_request *request, struct snest_context *context)
{
	struct amd a = {.at = 0};
	int ret = SN_STRUCT_IN(&a.reg, registers);

	if (ret)
		return ret;
	if (a.reg.reserved || EFR_HATS(a.reg.efr) > 2 || EFR_GATS(a.reg.efr) > 1 ||
	    EFR_GLX(a.reg.efr) > 2 || EFR_PASMAX(a.reg.efr) > 19)
		return -EINVAL;
	ret = sn_device_begin(&a.d, vm, request, context, SNEST_IOMMU_AMD, 0xffff);
	if (ret)
		return ret;
	if (sn_bit(a.reg.control, CONTROL_IOMMU_EN)) {
		if (locate(&a))
			resolve(&a);
		else
			fault(&a, EVENT_PAGE_FAULT, 0);
	}
	return sn_device_end(&a.d);
}
