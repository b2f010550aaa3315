/* SPDX-License-Identifier: MIT */
/*
 * The reference walker: a second, deliberately plain and slow reading of every
 * page-table format, against which tests hold the library's walker.
 *
 * It shares nothing with the library but the public headers, and its files
 * little with each other: one file and one function per architecture, written
 * from the manuals' bit positions, in the order of the manuals' checks. Speed,
 * concurrency and memory order are none of its business. Only tests use it.
 *
 * What it promises where the public headers leave room:
 *
 *  - Checks before the first table is read report the top level and no entry:
 *    the input address first, then stage->rights.
 *  - Several kinds of access at once: READ is judged first, then WRITE, then
 *    EXECUTE. No access at all is never refused for lack of permission or
 *    privilege; what is granted shows in `rights`.
 *  - Accessed and dirty flags are written level by level, where the manuals put
 *    it: when an entry has passed its checks, before the next is read. (Arm: the
 *    access flag before the rights are judged, the dirty state after.) Only
 *    those that are clear. A write that fails is SNEST_FAULT_UPDATE at its
 *    level. No access: no write.
 *  - Where execution is not a right of its own (VT-d second stage, AMD v1) it
 *    is a read: what it lacks is the right to read.
 *  - A page that no write can succeed on, for its dirty flag is clear and
 *    nobody sets it, does not grant writing.
 *  - `attr` describes the leaf as the walk leaves it. DIRTY is the dirty flag;
 *    for Arm it is DBM = 1 in the writable state.
 */
#ifndef REF_WALK_H
#define REF_WALK_H

#include <snest/stage.h>
#include <snest/types.h>
#include <snest/walk.h>

#define REF_STEPS_MAX 6

/*
 * The memory that holds the tables. Values are as a little-endian load of
 * `bytes` (4 or 8) bytes yields them. Both return false where that is not
 * possible. `write` may be NULL: nothing can be written.
 */
struct ref_memory {
	bool (*read)(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value);
	bool (*write)(void *opaque, uint64_t addr, unsigned bytes, uint64_t value);
	void *opaque;
};

struct ref_step {
	uint64_t entry_addr;
	uint64_t entry; /* as read */
	uint8_t level;
};

struct ref_result {
	bool ok;
	/* The entry that refused, or the leaf. Level 0 is the last level. */
	uint8_t reason; /* enum snest_fault_reason */
	uint8_t level;
	uint64_t entry_addr;
	uint64_t entry; /* as read; Arm: with the access flag that the walk set */
	/* Valid if ok. */
	uint64_t leaf; /* the leaf entry as the walk leaves it */
	uint64_t out;  /* output address of exactly this input address */
	uint32_t attr; /* SNEST_ATTR_* */
	uint8_t lg2;   /* size of the page */
	uint8_t rights;
	/* Every entry that was read, in order. */
	unsigned steps;
	struct ref_step step[REF_STEPS_MAX];
};

/*
 * Translates `input` for `access` (SNEST_READ ... SNEST_PRIVILEGED) through one
 * stage. `update`: write accessed and dirty flags where stage->flags say that
 * the IOMMU does. The stage must be one that snest_stage_check accepts.
 */
void ref_walk(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
              uint32_t access, bool update, struct ref_result *out);

#endif
