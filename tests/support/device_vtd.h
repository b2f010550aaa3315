/* SPDX-License-Identifier: MIT */
/*
 * VT-d device structures in a plain memory image: a legacy device and a
 * scalable-mode device, both valid, for tests that then change one thing at a
 * time. For tests only; include after cmocka.h.
 */
#ifndef DEVICE_VTD_H
#define DEVICE_VTD_H

#include "support/image.h"
#include "walkers/device.h"

/* Where the tables lie. */
#define ROOT 0x1000ull
#define CONTEXT 0x2000ull
#define CONTEXT_HIGH 0x3000ull /* scalable mode, devfn 128-255 */
#define DIRECTORY 0x4000ull    /* up to 128 KiB */
#define PASIDS 0x40000ull
#define SECOND 0x50000ull
#define FIRST 0x60000ull

#define BUS 3u
#define DEVFN 0x28u
#define RID (BUS << 8 | DEVFN)
#define PASID 0x1234u

/* CAP: ND 6, 39 and 48 bits, MGAW 48, 2M and 1G, FS1GP. */
#define CAP 0x0100000c002f0606ull
#define CAP_FS5LP (1ull << 60)
#define CAP_SAGAW_57 (1ull << 11)

#define DT (1ull << 2)
#define PT (1ull << 6)
#define SC (1ull << 7)
#define NEST (1ull << 26)
#define PRS (1ull << 29)
#define ERS (1ull << 30)
#define SRS (1ull << 31)
#define EAFS (1ull << 34)
#define PASID_CAP (1ull << 40)
#define SMTS (1ull << 43)
#define SSADS (1ull << 45)
#define SSTS (1ull << 46)
#define FSTS (1ull << 47)
#define RPS (1ull << 49)
#define RPRIVS (1ull << 53)
#define ECAP                                                                                     \
	(DT | PT | SC | NEST | PRS | SRS | EAFS | PASID_CAP | SMTS | SSADS | SSTS | FSTS | RPS | \
	 RPRIVS)

#define SCALABLE_MODE (1ull << 10)

#define DID 0xbeefull

struct vtd {
	struct image image;
	struct snest_vtd_registers reg;
	struct snest_request request;
	struct snest_context context;
};

static inline uint64_t legacy_entry(void)
{
	return CONTEXT + DEVFN * 16;
}

static inline uint64_t scalable_entry(void)
{
	return CONTEXT + DEVFN * 32;
}

static inline uint64_t pasid_entry(uint32_t pasid)
{
	return PASIDS + (pasid & 63) * 64;
}

static inline void common(struct vtd *v, bool direct)
{
	image_create(&v->image, direct);
	v->reg = (struct snest_vtd_registers){
		.size = sizeof(v->reg),
		.haw = 46,
		.rtaddr = ROOT,
		.cap = CAP,
		.ecap = ECAP,
	};
	v->request = (struct snest_request){
		.size = sizeof(v->request),
		.rid = RID,
		.pasid = SNEST_NO_PASID,
		.access = SNEST_READ,
		.iova = 0x123456000,
	};
}

/* A legacy device with a 48-bit second stage. */
static inline void legacy(struct vtd *v, bool direct)
{
	common(v, direct);
	image_put(&v->image, ROOT + BUS * 16, CONTEXT | 1);
	image_put(&v->image, legacy_entry(), SECOND | 1);
	image_put(&v->image, legacy_entry() + 8, DID << 8 | 2);
}

/* A scalable-mode device; RID_PASID and PASID both lead to entries of `pgtt`. */
static inline void scalable(struct vtd *v, bool direct, unsigned pgtt)
{
	common(v, direct);
	v->reg.rtaddr |= SCALABLE_MODE;
	image_put(&v->image, ROOT + BUS * 16, CONTEXT | 1);
	image_put(&v->image, ROOT + BUS * 16 + 8, CONTEXT_HIGH | 1);
	/* DTE, PASIDE, PRE; PDTS 7: all PASIDs. */
	image_put(&v->image, scalable_entry(), DIRECTORY | 7 << 9 | 0x1d);
	image_put(&v->image, DIRECTORY, PASIDS | 1);
	image_put(&v->image, DIRECTORY + (PASID >> 6) * 8, PASIDS | 1);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = pasid_entry(i ? PASID : 0);

		image_put(&v->image, at, SECOND | pgtt << 6 | 2 << 2 | 1);
		image_put(&v->image, at + 8, DID);
		image_put(&v->image, at + 16, FIRST);
	}
}

static inline void resolve(struct vtd *v)
{
	memset(&v->context, 0xa5, sizeof(v->context));
	assert_int_equal(snest_vtd_context(v->image.vm, &v->reg, &v->request, &v->context), 0);
	image_check("vtd", &v->context);
}

static inline void expect_fault(struct vtd *v, unsigned code)
{
	resolve(v);
	assert_int_equal(v->context.outcome, SNEST_CONTEXT_FAULT);
	assert_int_equal(v->context.fault.reason, SNEST_FAULT_CONFIG);
	assert_int_equal(v->context.fault.code, code);
	assert_int_equal(v->context.fault.iova, v->request.iova);
}

static inline void expect_stages(struct vtd *v, unsigned count)
{
	resolve(v);
	assert_int_equal(v->context.outcome, SNEST_CONTEXT_STAGES);
	assert_int_equal(v->context.count, count);
	assert_int_equal(v->context.rights, SNEST_RIGHTS);
}

/* Changes a word, resolves, expects a fault, and restores the word. */
static inline void fault_with(struct vtd *v, uint64_t addr, uint64_t word, unsigned code)
{
	uint64_t old = image_get(&v->image, addr);

	image_put(&v->image, addr, word);
	expect_fault(v, code);
	image_put(&v->image, addr, old);
}

/* Each bit of first..last, set alone, is reserved and gives `code`. */
static inline void reserved_bits(struct vtd *v, uint64_t addr, unsigned first, unsigned last,
                                 unsigned code)
{
	for (unsigned bit = first; bit <= last; bit++)
		fault_with(v, addr, image_get(&v->image, addr) | 1ull << bit, code);
}

static inline void quiet_is(struct vtd *v, bool quiet)
{
	assert_int_equal(!!(v->context.flags & SNEST_CONTEXT_QUIET), quiet);
	assert_int_equal(snest_fault_recorded(&v->context, &v->request, &v->context.fault),
	                 !quiet || !sn_vtd_fault_qualified(v->context.fault.code));
}

#endif
