/* SPDX-License-Identifier: MIT */
/*
 * The register page: one table that says what each register is, and accesses
 * of any size and alignment on top of it.
 *
 * An access is cut along 4-byte words. A write first stores all its bytes,
 * under the masks of the registers they fall into, then runs the side effects,
 * lowest register first. So an 8-byte write over FECTL and FEDATA has the new
 * data in place when clearing the mask sends the interrupt.
 */
#include <errno.h>
#include <string.h>
#include "viommu/vtd.h"

#define ALL UINT64_MAX
#define LOW32 0xffffffffull

#define UNUSED3(a, b, c) ((void)(a), (void)(b), (void)(c))

struct reg {
	uint16_t offset;
	uint8_t bytes;
	uint64_t write;     /* bits that a write sets */
	uint64_t clear;     /* bits that writing 1 clears */
	uint64_t cap, ecap; /* there is no such register without one of these */
	uint32_t (*written)(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes);
	uint64_t busy; /* while this bit is set, writes are ignored */
	bool hidden;   /* reads as 0 */
};

static uint32_t write_fsts(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	(void)written;
	(void)lanes;
	sn_vtd_status_cleared(vtd);
	/* The queue tries the same descriptor again when its error is cleared. */
	return (old & ~vtd->reg[REG_FSTS]) & (VTD_IQE | VTD_ITE) ? TODO_QUEUE : 0;
}

static uint32_t write_fectl(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	UNUSED3(old, written, lanes);
	sn_vtd_event_control(vtd, EVENT_FAULT);
	return 0;
}

static uint32_t write_iectl(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	UNUSED3(old, written, lanes);
	sn_vtd_event_control(vtd, EVENT_QUEUE);
	return 0;
}

static uint32_t write_pectl(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	UNUSED3(old, written, lanes);
	sn_vtd_event_control(vtd, EVENT_PAGE);
	return 0;
}

static uint32_t write_ics(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	UNUSED3(old, written, lanes);
	if (!vtd->reg[REG_ICS])
		sn_vtd_event_clear(vtd, EVENT_QUEUE);
	return 0;
}

static uint32_t write_prs(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	UNUSED3(old, written, lanes);
	sn_vtd_prs_written(vtd);
	return 0;
}

static uint32_t write_pmen(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	UNUSED3(old, written, lanes);
	sn_vtd_pmen_written(vtd);
	return 0;
}

static uint32_t write_iqt(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	UNUSED3(old, written, lanes);
	return vtd->reg[REG_GSTS] & VTD_QIE ? TODO_QUEUE : 0;
}

/* clang-format off */
#define REG(name, at, size, set, w1c, fn, ...)                                                 \
	[REG_##name] = { .offset = at, .bytes = size, .write = set, .clear = w1c,              \
			 .written = fn, __VA_ARGS__ }
#define EVENT(name, at, fn, ...)                                                               \
	REG(name##CTL, at, 4, VTD_IM, 0, fn, __VA_ARGS__),                                     \
	REG(name##DATA, at + 4, 4, LOW32, 0, NULL, __VA_ARGS__),                               \
	REG(name##ADDR, at + 8, 4, 0xfffffffc, 0, NULL, __VA_ARGS__),                          \
	REG(name##UADDR, at + 12, 4, LOW32, 0, NULL, __VA_ARGS__)

#define FSTS_CLEAR (VTD_PFO | VTD_IQE | VTD_ICE | VTD_ITE)
#define BLOCKS 0xfffffffffff00000ull /* protected memory comes in blocks of 1 MiB */

static const struct reg regs[REG_COUNT] = {
	/*  name      offset bytes writable            cleared by 1  side effect */
	REG(VER,      0x00, 4, 0,                         0,          NULL),
	REG(CAP,      0x08, 8, 0,                         0,          NULL),
	REG(ECAP,     0x10, 8, 0,                         0,          NULL),
	REG(GCMD,     0x18, 4, 0,                         0,          sn_vtd_write_gcmd,
	    .hidden = true),
	REG(GSTS,     0x1c, 4, 0,                         0,          NULL),
	REG(RTADDR,   0x20, 8, VTD_ADDR | 0xc00,          0,          NULL),
	REG(CCMD,     0x28, 8, 0xe0000003ffffffff,        0,          sn_vtd_write_ccmd,
	    .busy = VTD_ICC),
	REG(FSTS,     0x34, 4, 0,                         FSTS_CLEAR, write_fsts),
	EVENT(FE,     0x38, write_fectl, .ecap = 0),
	REG(PMEN,     0x64, 4, 0x80000000,                0,          write_pmen,
	    .cap = VTD_CAP_PLMR | VTD_CAP_PHMR),
	REG(PLMBASE,  0x68, 4, LOW32 & BLOCKS,            0,          NULL, .cap = VTD_CAP_PLMR),
	REG(PLMLIMIT, 0x6c, 4, LOW32 & BLOCKS,            0,          NULL, .cap = VTD_CAP_PLMR),
	REG(PHMBASE,  0x70, 8, BLOCKS,                    0,          NULL, .cap = VTD_CAP_PHMR),
	REG(PHMLIMIT, 0x78, 8, BLOCKS,                    0,          NULL, .cap = VTD_CAP_PHMR),
	REG(IQH,      0x80, 8, 0,                         0,          NULL, .ecap = VTD_ECAP_QI),
	REG(IQT,      0x88, 8, VTD_QUEUE_OFFSET,          0,          write_iqt,
	    .ecap = VTD_ECAP_QI),
	REG(IQA,      0x90, 8, VTD_ADDR | VTD_IQA_DW | 7, 0,          NULL, .ecap = VTD_ECAP_QI),
	REG(ICS,      0x9c, 4, 0,                         1,          write_ics,
	    .ecap = VTD_ECAP_QI),
	EVENT(IE,     0xa0, write_iectl, .ecap = VTD_ECAP_QI),
	REG(IQERCD,   0xb0, 8, 0,                         0,          NULL, .ecap = VTD_ECAP_QI),
	REG(IRTA,     0xb8, 8, VTD_ADDR | 0x80f,          0,          NULL, .ecap = VTD_ECAP_IR),
	REG(PQH,      0xc0, 8, VTD_PQ_OFFSET,             0,          NULL, .ecap = VTD_ECAP_PRS),
	REG(PQT,      0xc8, 8, VTD_PQ_OFFSET,             0,          NULL, .ecap = VTD_ECAP_PRS),
	REG(PQA,      0xd0, 8, VTD_ADDR | 7,              0,          NULL, .ecap = VTD_ECAP_PRS),
	REG(PRS,      0xdc, 4, 0,                  VTD_PPR | VTD_PRO, write_prs,
	    .ecap = VTD_ECAP_PRS),
	EVENT(PE,     0xe0, write_pectl, .ecap = VTD_ECAP_PRS),
	/* From ECAP.IRO. */
	REG(IVA,      0x00, 8, VTD_ADDR | 0x7f,           0,          NULL, .hidden = true),
	REG(IOTLB,    0x08, 8, 0xb003ffff00000000,        0,          sn_vtd_write_iotlb,
	    .busy = VTD_IVT),
};
/* clang-format on */

static unsigned reg_offset(const struct snest_vtd *vtd, enum sn_vtd_reg reg)
{
	unsigned base = reg == REG_IVA || reg == REG_IOTLB ? VTD_ECAP_IRO(vtd->ecap) : 0;

	return base + regs[reg].offset;
}

static bool is_there(const struct snest_vtd *vtd, const struct reg *r)
{
	return !(r->cap | r->ecap) || (r->cap & vtd->cap) || (r->ecap & vtd->ecap);
}

void sn_vtd_regs_init(struct snest_vtd *vtd, uint32_t version)
{
	unsigned fro = VTD_CAP_FRO(vtd->cap);

	for (unsigned i = REG_NONE + 1; i < REG_COUNT; i++) {
		const struct reg *r = &regs[i];
		unsigned at = reg_offset(vtd, i);

		if (!is_there(vtd, r))
			continue;
		for (unsigned byte = 0; byte < r->bytes; byte += 4)
			vtd->reg_at[(at + byte) / 4] = (uint8_t)i;
	}
	for (unsigned at = fro; at < fro + VTD_CAP_NFR(vtd->cap) * 16; at += 4)
		vtd->reg_at[at / 4] = REG_FRCD;
	vtd->reg[REG_VER] = version;
	vtd->reg[REG_CAP] = vtd->cap;
	vtd->reg[REG_ECAP] = vtd->ecap;
	/* Every event interrupt that exists is masked out of reset. */
	vtd->reg[REG_FECTL] = sn_vtd_reg_possible(vtd, REG_FECTL) & VTD_IM;
	vtd->reg[REG_IECTL] = sn_vtd_reg_possible(vtd, REG_IECTL) & VTD_IM;
	vtd->reg[REG_PECTL] = sn_vtd_reg_possible(vtd, REG_PECTL) & VTD_IM;
}

uint64_t sn_vtd_reg_possible(const struct snest_vtd *vtd, enum sn_vtd_reg reg)
{
	const struct reg *r = &regs[reg];

	if (!is_there(vtd, r))
		return 0;
	switch (reg) {
	case REG_GSTS:
		return VTD_TE | VTD_SRTP | VTD_QIE | VTD_IRE | VTD_SIRTP | VTD_CFI;
	case REG_FSTS:
		return VTD_FSTS_EVENTS | VTD_FRI_MASK;
	case REG_FECTL:
	case REG_IECTL:
	case REG_PECTL:
		return VTD_IM | VTD_IP;
	case REG_IQH:
		return VTD_QUEUE_OFFSET;
	case REG_IQERCD:
		return 0xffffffff0000000f;
	case REG_PMEN:
		return r->write | 1;
	case REG_CCMD:
		return (r->write & ~VTD_ICC) | 3ull << VTD_CAIG_SHIFT;
	case REG_IOTLB:
		return (r->write & ~VTD_IVT) | 3ull << VTD_IAIG_SHIFT;
	case REG_GCMD:
		return 0;
	default:
		return r->write | r->clear;
	}
}

/* ---- Accesses ------------------------------------------------------------------- */

static uint32_t read_word(const struct snest_vtd *vtd, unsigned at)
{
	unsigned reg = vtd->reg_at[at / 4];

	if (reg == REG_FRCD)
		return sn_vtd_frcd_read(vtd, at - VTD_CAP_FRO(vtd->cap));
	if (reg == REG_NONE || regs[reg].hidden)
		return 0;
	return (uint32_t)(vtd->reg[reg] >> 8 * (at - reg_offset(vtd, reg)));
}

int snest_vtd_read(struct snest_vtd *vtd, uint64_t offset, unsigned size, uint64_t *value)
{
	unsigned at, shift;
	uint64_t v = 0;

	*value = 0;
	if (size < 1 || size > 8)
		return -EINVAL;
	if (offset >= VTD_PAGE_SIZE)
		return 0;
	at = (unsigned)offset & ~3u;
	shift = ((unsigned)offset & 3) * 8;
	sn_vtd_lock(vtd);
	v = (uint64_t)read_word(vtd, at) >> shift;
	if (at + 4 < VTD_PAGE_SIZE)
		v |= (uint64_t)read_word(vtd, at + 4) << (32 - shift);
	if (shift && at + 8 < VTD_PAGE_SIZE)
		v |= (uint64_t)read_word(vtd, at + 8) << (64 - shift);
	sn_vtd_unlock(vtd);
	*value = size == 8 ? v : v & ((1ull << 8 * size) - 1);
	return 0;
}

/* A register that a write touched: what it held, and the bits that were written. */
struct touched {
	unsigned reg;
	uint64_t old, lanes, written;
};

static void collect(const struct snest_vtd *vtd, unsigned at, uint32_t lanes, uint32_t value,
                    struct touched *t, unsigned *count)
{
	unsigned reg = vtd->reg_at[at / 4], shift;

	if (reg == REG_NONE || !lanes)
		return;
	shift = 8 * (at - reg_offset(vtd, reg));
	if (!*count || t[*count - 1].reg != reg)
		t[(*count)++] = (struct touched){.reg = reg, .old = vtd->reg[reg]};
	t[*count - 1].lanes |= (uint64_t)lanes << shift;
	t[*count - 1].written |= (uint64_t)(value & lanes) << shift;
}

static void store(struct snest_vtd *vtd, struct touched *t)
{
	const struct reg *r = &regs[t->reg];
	uint64_t mask = t->lanes & r->write;

	if (t->old & r->busy) {
		t->written = 0;
		return;
	}
	vtd->reg[t->reg] = ((t->old & ~mask) | (t->written & mask)) & ~(t->written & r->clear);
}

int snest_vtd_write(struct snest_vtd *vtd, uint64_t offset, unsigned size, uint64_t value)
{
	struct touched t[3];
	unsigned count = 0, at, shift;
	uint64_t lanes;
	uint32_t todo = 0;

	if (size < 1 || size > 8)
		return -EINVAL;
	if (offset >= VTD_PAGE_SIZE)
		return 0;
	lanes = size == 8 ? ALL : (1ull << 8 * size) - 1;
	value &= lanes;
	at = (unsigned)offset & ~3u;
	shift = ((unsigned)offset & 3) * 8;

	sn_vtd_lock(vtd);
	for (unsigned i = 0; i < 3 && at + 4 * i < VTD_PAGE_SIZE; i++) {
		uint32_t word = (uint32_t)(i == 0   ? value << shift
		                           : i == 1 ? value >> (32 - shift)
		                           : shift  ? value >> (64 - shift)
		                                    : 0);
		uint32_t word_lanes = (uint32_t)(i == 0   ? lanes << shift
		                                 : i == 1 ? lanes >> (32 - shift)
		                                 : shift  ? lanes >> (64 - shift)
		                                          : 0);

		if (vtd->reg_at[at / 4 + i] == REG_FRCD)
			sn_vtd_frcd_write(vtd, at + 4 * i - VTD_CAP_FRO(vtd->cap), word);
		else
			collect(vtd, at + 4 * i, word_lanes, word, t, &count);
	}
	for (unsigned i = 0; i < count; i++)
		store(vtd, &t[i]);
	for (unsigned i = 0; i < count; i++) {
		if (regs[t[i].reg].written)
			todo |= regs[t[i].reg].written(vtd, t[i].old, t[i].written, t[i].lanes);
	}
	sn_vtd_unlock(vtd);
	sn_vtd_todo(vtd, todo);
	return 0;
}
