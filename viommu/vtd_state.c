/* SPDX-License-Identifier: MIT */
/*
 * Save and restore: what the guest can see of the front end, as a blob.
 *
 * The blob is an array of little-endian 64-bit words: header, registers,
 * latched values, fault records, checksum. A reader takes nothing on trust: it
 * checks all of it against the capabilities of this front end before it changes
 * anything. Bindings and shadows are caches and are not part of it.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include "viommu/vtd.h"

#define MAGIC 0x6474762d74736e73ull /* "snst-vtd" */
#define VERSION 1u

/* Registers in the order of the blob. Never reorder; a new one needs a new version. */
static const uint8_t saved[] = {
	REG_GSTS,    REG_RTADDR, REG_CCMD,    REG_FSTS,     REG_FECTL,   REG_FEDATA,   REG_FEADDR,
	REG_FEUADDR, REG_PMEN,   REG_PLMBASE, REG_PLMLIMIT, REG_PHMBASE, REG_PHMLIMIT, REG_IQH,
	REG_IQT,     REG_IQA,    REG_ICS,     REG_IECTL,    REG_IEDATA,  REG_IEADDR,   REG_IEUADDR,
	REG_IQERCD,  REG_IRTA,   REG_PQH,     REG_PQT,      REG_PQA,     REG_PRS,      REG_PECTL,
	REG_PEDATA,  REG_PEADDR, REG_PEUADDR, REG_IVA,      REG_IOTLB,
};
#define SAVED (sizeof(saved) / sizeof(saved[0]))

/* Words before the registers and between them and the records. */
enum {
	HEAD_MAGIC,
	HEAD_VERSION, /* low half; high half: words of the blob */
	HEAD_CAP,
	HEAD_ECAP,
	HEAD_WIDTH, /* haw; high half: VER */
	HEAD_WORDS,
};
enum {
	LATCH_ROOT,
	LATCH_IQA,
	LATCH_FRCD_NEXT,
	LATCH_WORDS,
};

static size_t words_of(const struct snest_vtd *vtd)
{
	return HEAD_WORDS + SAVED + LATCH_WORDS + 2 * VTD_CAP_NFR(vtd->cap) + 1;
}

/* Finds damage, not malice: everything is checked besides. */
static uint64_t checksum(const unsigned char *bytes, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull;
	return hash;
}

static unsigned char *put(unsigned char *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint64_t get(const unsigned char *blob, size_t word)
{
	uint64_t value;

	memcpy(&value, blob + word * sizeof(value), sizeof(value));
	return le64toh(value);
}

/*
 * Until nothing is in flight. A guest that goes on submitting cannot hold this up:
 * nothing more is fetched. Returns under the lock.
 */
static void freeze(struct snest_vtd *vtd)
{
	sn_vtd_finish(vtd);
	sn_vtd_lock(vtd);
	vtd->frozen++;
	sn_vtd_quiesce(vtd);
}

int snest_vtd_save(struct snest_vtd *vtd, void *buf, size_t *length)
{
	size_t have = *length, words = words_of(vtd);
	unsigned char *at = buf;

	*length = words * 8;
	if (!buf || have < *length)
		return -ENOSPC;
	freeze(vtd);
	at = put(at, MAGIC);
	at = put(at, VERSION | (uint64_t)words << 32);
	at = put(at, vtd->cap);
	at = put(at, vtd->ecap);
	at = put(at, vtd->haw | vtd->reg[REG_VER] << 32);
	for (size_t i = 0; i < SAVED; i++)
		at = put(at, vtd->reg[saved[i]]);
	at = put(at, vtd->root);
	at = put(at, vtd->queue.iqa);
	at = put(at, vtd->frcd_next);
	for (unsigned i = 0; i < VTD_CAP_NFR(vtd->cap); i++) {
		at = put(at, vtd->frcd[i].low);
		at = put(at, vtd->frcd[i].high);
	}
	vtd->frozen--;
	sn_vtd_unlock(vtd);
	put(at, checksum(buf, (words - 1) * 8));
	return 0;
}

/* Whether a blob could have been saved by a front end like this one. */
static bool is_valid(const struct snest_vtd *vtd, const unsigned char *blob, size_t length)
{
	size_t words = words_of(vtd), latch = HEAD_WORDS + SAVED, frcd = latch + LATCH_WORDS;
	uint64_t reg[REG_COUNT] = {0}, size, iqa;
	unsigned records = VTD_CAP_NFR(vtd->cap), pending = 0;

	if (length != words * 8 || get(blob, HEAD_MAGIC) != MAGIC ||
	    get(blob, HEAD_VERSION) != (VERSION | (uint64_t)words << 32) ||
	    get(blob, HEAD_CAP) != vtd->cap || get(blob, HEAD_ECAP) != vtd->ecap ||
	    get(blob, HEAD_WIDTH) != (vtd->haw | vtd->reg[REG_VER] << 32) ||
	    get(blob, words - 1) != checksum(blob, length - 8))
		return false;
	for (size_t i = 0; i < SAVED; i++) {
		reg[saved[i]] = get(blob, HEAD_WORDS + i);
		if (reg[saved[i]] & ~sn_vtd_reg_possible(vtd, saved[i]))
			return false;
	}
	if ((get(blob, latch + LATCH_ROOT) & ~(VTD_ADDR | 0xc00)) ||
	    (get(blob, latch + LATCH_IQA) & ~sn_vtd_reg_possible(vtd, REG_IQA)) ||
	    get(blob, latch + LATCH_FRCD_NEXT) >= records)
		return false;
	for (unsigned i = 0; i < records; i++) {
		if (get(blob, frcd + 2 * i) & ~VTD_ADDR)
			return false;
		pending += get(blob, frcd + 2 * i + 1) >> 63;
	}
	if (!!pending != !!(reg[REG_FSTS] & VTD_PPF) || reg[REG_FSTS] >> VTD_FRI_SHIFT >= records ||
	    reg[REG_PMEN] >> 31 != (reg[REG_PMEN] & 1))
		return false;
	/* The head is the only offset that the front end itself has set. */
	iqa = get(blob, latch + LATCH_IQA);
	size = (uint64_t)VTD_PAGE_SIZE << VTD_IQA_QS(iqa);
	if (reg[REG_GSTS] & VTD_QIE)
		return (vtd->ecap & VTD_ECAP_QI) && reg[REG_IQH] < size &&
		       !((iqa & VTD_IQA_DW) && (reg[REG_IQH] & 0x10));
	return !reg[REG_IQH];
}

/* Under the lock. */
static void take_over(struct snest_vtd *vtd, const unsigned char *blob)
{
	size_t latch = HEAD_WORDS + SAVED, frcd = latch + LATCH_WORDS;

	for (size_t i = 0; i < SAVED; i++)
		vtd->reg[saved[i]] = get(blob, HEAD_WORDS + i);
	sn_vtd_latch_root(vtd, get(blob, latch + LATCH_ROOT));
	vtd->te = vtd->reg[REG_GSTS] & VTD_TE;
	vtd->queue.iqa = get(blob, latch + LATCH_IQA);
	vtd->queue.unsettled = true;
	vtd->frcd_next = (unsigned)get(blob, latch + LATCH_FRCD_NEXT);
	vtd->frcd_pending = 0;
	for (unsigned i = 0; i < VTD_CAP_NFR(vtd->cap); i++) {
		vtd->frcd[i].low = get(blob, frcd + 2 * i);
		vtd->frcd[i].high = get(blob, frcd + 2 * i + 1);
		vtd->frcd_pending += vtd->frcd[i].high >> 63;
	}
	__atomic_store_n(&vtd->guarded, vtd->reg[REG_PMEN] & 1, __ATOMIC_RELAXED);
	sn_vtd_unbind_all(vtd);
	sn_vtd_contexts_changed(vtd);
	sn_vtd_forget_groups(vtd);
	vtd->config_busy++;
}

int snest_vtd_restore(struct snest_vtd *vtd, const void *buf, size_t length)
{
	if (!buf || !is_valid(vtd, buf, length))
		return -EINVAL;
	freeze(vtd);
	take_over(vtd, buf);
	vtd->frozen--;
	sn_vtd_unlock(vtd);
	/* A mirror that fails is told through its sink; the state is taken over all the same. */
	sn_vtd_todo(vtd, TODO_CONFIG | TODO_FORGET | TODO_QUEUE);
	return 0;
}
