/* SPDX-License-Identifier: MIT */
/*
 * Reference: Armv8 (VMSAv8-64) stage 1 and stage 2 tables.
 *
 *   all      1:0 type (x0 invalid, 01 block, 11 table; last level: 11 page)
 *   address  47:granule; 64K + LPA: 15:12 hold OA[51:48];
 *            4K/16K + DS: 49:48 and, in 9:8, OA[51:50]
 *   leaf     10 AF   51 DBM   52 Contiguous
 *   stage 1  4:2 AttrIndx   6 AP[1]   7 AP[2]   11 nG   53 PXN   54 UXN/XN
 *            table: 59 PXNTable   60 UXNTable/XNTable   62:61 APTable
 *   stage 2  5:2 MemAttr   7:6 S2AP   54:53 XN
 *
 * The manual counts levels up to 3, results down to 0: level 3 there is 0 here
 * and level -1 is 4.
 */
#include "ref_arch.h"

/* The parameters of one half of the address space, or of a stage 2. */
struct arm_half {
	unsigned granule; /* lg2 */
	unsigned width;   /* of the input address */
	unsigned levels;
	unsigned oa_bits;
	uint64_t root;
	bool ds;  /* 52-bit addresses in 4K and 16K entries */
	bool lpa; /* 52-bit addresses in 64K entries */
};

/* The leaf, and what the table entries above it took away. */
struct arm_leaf {
	uint64_t entry;
	uint64_t page;
	unsigned level;
	unsigned lg2;
	unsigned ap_table;
	bool uxn_table;
	bool pxn_table;
};

static struct arm_half arm_half(const struct snest_stage *stage, bool upper)
{
	struct arm_half half;

	half.granule = upper ? stage->granule_high_lg2 : stage->granule_lg2;
	half.width = upper ? stage->ia_bits_high : stage->ia_bits;
	half.root = upper ? stage->root_high : stage->root;
	half.ds = (stage->flags & SNEST_STAGE_ARM_DS) && half.granule != 16;
	half.lpa = (stage->flags & SNEST_STAGE_ARM_LPA) && half.granule == 16;
	half.oa_bits = stage->oa_bits ? stage->oa_bits : (half.ds || half.lpa ? 52 : 48);

	unsigned stride = half.granule - 3;
	if (half.width == 0) {
		unsigned widest = half.ds || half.lpa ? 52 : 48;

		half.width = half.granule + stride * stage->levels;
		if (half.width > widest)
			half.width = widest;
	}
	/* As few levels as resolve the address; a stage 2 may concatenate and have one less. */
	half.levels = (half.width - half.granule + stride - 1) / stride;
	if (stage->format == SNEST_FORMAT_ARM_S2 && stage->levels)
		half.levels = stage->levels;
	return half;
}

/* Where an entry points to, at a granularity of 2^low. */
static uint64_t arm_address(const struct arm_half *half, uint64_t entry, unsigned low)
{
	uint64_t addr = entry & ref_mask(47, (int)low);

	if (half->lpa)
		addr |= ref_bits(entry, 15, 12) << 48;
	if (half->ds)
		addr |= ref_bits(entry, 49, 48) << 48 | ref_bits(entry, 9, 8) << 50;
	return addr;
}

static bool arm_block_allowed(const struct arm_half *half, unsigned level)
{
	switch (half->granule) {
	case 12:
		return level == 1 || level == 2 || (level == 3 && half->ds);
	case 14:
		return level == 1 || (level == 2 && half->ds);
	default:
		return level == 1 || (level == 2 && half->lpa);
	}
}

static bool arm_descend(const struct snest_stage *stage, const struct ref_memory *mem,
                        const struct arm_half *half, uint64_t input, struct arm_leaf *leaf,
                        struct ref_result *out)
{
	unsigned stride = half->granule - 3;
	unsigned top = half->levels - 1;
	uint64_t table = half->root;

	for (unsigned level = top;; level--) {
		unsigned low = half->granule + stride * level;
		unsigned high = level == top ? half->width - 1 : low + stride - 1;
		uint64_t entry;

		/* The first table is as large as the address needs, and aligned to its size. */
		table &= ~ref_mask((int)(high - low) + 3, 0);
		if (!ref_fetch(stage, mem, table + 8 * ref_bits(input, high, low), 8, level, &entry,
		               out))
			return false;

		unsigned type = (unsigned)ref_bits(entry, 1, 0);
		bool is_leaf = level == 0 ? type == 3 : type == 1;
		if (type == 0 || type == 2 || (level == 0 && type == 1) ||
		    (level > 0 && type == 1 && !arm_block_allowed(half, level))) {
			ref_refuse(out, SNEST_FAULT_NOT_PRESENT, level);
			return false;
		}

		uint64_t addr = arm_address(half, entry, is_leaf ? low : half->granule);
		if (addr >> half->oa_bits) {
			ref_refuse(out, SNEST_FAULT_ADDRESS_SIZE, level);
			return false;
		}

		if (!is_leaf) {
			leaf->pxn_table |= ref_bit(entry, 59);
			leaf->uxn_table |= ref_bit(entry, 60);
			leaf->ap_table |= (unsigned)ref_bits(entry, 62, 61);
			table = addr;
			continue;
		}
		leaf->entry = entry;
		leaf->page = addr;
		leaf->level = level;
		leaf->lg2 = low;
		return true;
	}
}

static void arm_finish(const struct arm_leaf *leaf, uint64_t input, unsigned rights, uint32_t attr,
                       struct ref_result *out)
{
	if (ref_bit(out->leaf, 10))
		attr |= SNEST_ATTR_ACCESSED;
	if (ref_bit(out->leaf, 52))
		attr |= SNEST_ATTR_CONTIGUOUS;
	out->ok = true;
	out->level = (uint8_t)leaf->level;
	out->entry_addr = out->step[out->steps - 1].entry_addr;
	out->entry = leaf->entry;
	out->lg2 = (uint8_t)leaf->lg2;
	out->out = leaf->page | (input & ref_mask((int)leaf->lg2 - 1, 0));
	out->rights = (uint8_t)rights;
	out->attr = attr;
}

/* Bits 63 (or 55, when the top byte is ignored) down to `width` are all `value`. */
static bool arm_top_bits_are(uint64_t input, bool top_byte_ignored, unsigned width, bool value)
{
	for (unsigned n = width; n <= (top_byte_ignored ? 55 : 63); n++) {
		if (ref_bit(input, n) != value)
			return false;
	}
	return true;
}

void ref_walk_arm_s1(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                     uint32_t access, bool update, struct ref_result *out)
{
	uint32_t flags = stage->flags;
	bool el2 = flags & SNEST_STAGE_ARM_EL2;
	bool priv = el2 || (access & SNEST_PRIVILEGED);
	bool asked = access & SNEST_RIGHTS;
	bool hw_a = flags & SNEST_STAGE_HW_A;
	bool hw_d = hw_a && (flags & SNEST_STAGE_HW_D);
	unsigned granted = stage->rights ? stage->rights : SNEST_RIGHTS;
	struct arm_half half = arm_half(stage, false);
	struct arm_leaf leaf = {0};
	bool upper = false;

	if (!arm_top_bits_are(input, flags & SNEST_STAGE_ARM_TBI0, half.width, 0)) {
		if (stage->ia_bits_high == 0 ||
		    !arm_top_bits_are(input, flags & SNEST_STAGE_ARM_TBI1, stage->ia_bits_high,
		                      1)) {
			ref_refuse(out, SNEST_FAULT_INPUT_RANGE, half.levels - 1);
			return;
		}
		upper = true;
		half = arm_half(stage, true);
	}
	if (flags & (upper ? SNEST_STAGE_ARM_EPD1 : SNEST_STAGE_ARM_EPD0)) {
		ref_refuse(out, SNEST_FAULT_DISABLED, half.levels - 1);
		return;
	}
	unsigned denied = ref_denied(granted, access);
	if (denied) {
		ref_refuse(out, denied, half.levels - 1);
		return;
	}

	if (!arm_descend(stage, mem, &half, input, &leaf, out))
		return;
	if (flags & (upper ? SNEST_STAGE_ARM_HAD1 : SNEST_STAGE_ARM_HAD0)) {
		leaf.ap_table = 0;
		leaf.uxn_table = false;
		leaf.pxn_table = false;
	}

	if (!ref_bit(leaf.entry, 10) && !hw_a && !(flags & SNEST_STAGE_ARM_AFFD)) {
		ref_refuse(out, SNEST_FAULT_ACCESS_FLAG, leaf.level);
		return;
	}
	/* The access flag is set even if the rights are then found wanting. */
	uint64_t want = leaf.entry;
	if (update && asked && hw_a)
		want |= ref_mask(10, 10);
	if (!ref_store(stage, mem, out->steps - 1, 8, want, out))
		return;
	out->step[out->steps - 1].entry = want;

	bool dbm = ref_bit(leaf.entry, 51);
	bool user = !el2 && ref_bit(leaf.entry, 6) && !(leaf.ap_table & 1);
	bool writable = (!ref_bit(leaf.entry, 7) || (hw_d && dbm)) && !(leaf.ap_table & 2);
	bool user_write = user && writable;
	bool user_exec = !ref_bit(leaf.entry, 54) && !leaf.uxn_table;
	bool priv_exec = !ref_bit(leaf.entry, 53) && !leaf.pxn_table;
	if (el2)
		priv_exec = user_exec;
	/* What unprivileged code can write is never executed by privileged code (UWXN or not). */
	if (user_write)
		priv_exec = false;
	if (flags & SNEST_STAGE_ARM_WXN) {
		priv_exec = priv_exec && !writable;
		user_exec = user_exec && !user_write;
	}
	bool pan = !el2 && priv && user && (flags & SNEST_STAGE_ARM_PAN);

	if (access & (SNEST_READ | SNEST_WRITE)) {
		if ((!priv && !user) || pan) {
			ref_refuse(out, SNEST_FAULT_PRIVILEGE, leaf.level);
			return;
		}
		if ((access & SNEST_WRITE) && !writable) {
			ref_refuse(out, SNEST_FAULT_WRITE, leaf.level);
			return;
		}
	}
	if ((access & SNEST_EXEC) && !(priv ? priv_exec : user_exec)) {
		ref_refuse(out, SNEST_FAULT_EXECUTE, leaf.level);
		return;
	}

	if (update && (access & SNEST_WRITE) && hw_d && dbm)
		want &= ~ref_mask(7, 7);
	if (!ref_store(stage, mem, out->steps - 1, 8, want, out))
		return;
	out->leaf = want;

	unsigned rights = 0;
	if ((priv || user) && !pan) {
		rights |= SNEST_READ;
		if (writable)
			rights |= SNEST_WRITE;
	}
	if (priv ? priv_exec : user_exec)
		rights |= SNEST_EXEC;
	rights &= granted;

	uint32_t attr = (uint32_t)ref_bits(leaf.entry, 4, 2);
	if (user)
		attr |= SNEST_ATTR_USER;
	if (!ref_bit(leaf.entry, 11))
		attr |= SNEST_ATTR_GLOBAL;
	if (dbm && !ref_bit(want, 7))
		attr |= SNEST_ATTR_DIRTY;
	if (dbm && ref_bit(want, 7) && hw_d && (rights & SNEST_WRITE))
		attr |= SNEST_ATTR_DIRTIABLE;
	arm_finish(&leaf, input, rights, attr, out);
}

void ref_walk_arm_s2(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                     uint32_t access, bool update, struct ref_result *out)
{
	uint32_t flags = stage->flags;
	bool asked = access & SNEST_RIGHTS;
	bool priv = access & SNEST_PRIVILEGED;
	bool hw_a = flags & SNEST_STAGE_HW_A;
	bool hw_d = hw_a && (flags & SNEST_STAGE_HW_D);
	unsigned granted = stage->rights ? stage->rights : SNEST_RIGHTS;
	struct arm_half half = arm_half(stage, false);
	struct arm_leaf leaf = {0};

	if (input >> half.width) {
		ref_refuse(out, SNEST_FAULT_INPUT_RANGE, half.levels - 1);
		return;
	}
	unsigned denied = ref_denied(granted, access);
	if (denied) {
		ref_refuse(out, denied, half.levels - 1);
		return;
	}

	if (!arm_descend(stage, mem, &half, input, &leaf, out))
		return;

	if (!ref_bit(leaf.entry, 10) && !hw_a && !(flags & SNEST_STAGE_ARM_AFFD)) {
		ref_refuse(out, SNEST_FAULT_ACCESS_FLAG, leaf.level);
		return;
	}
	/* The access flag is set even if the rights are then found wanting. */
	uint64_t want = leaf.entry;
	if (update && asked && hw_a)
		want |= ref_mask(10, 10);
	if (!ref_store(stage, mem, out->steps - 1, 8, want, out))
		return;
	out->step[out->steps - 1].entry = want;

	bool dbm = ref_bit(leaf.entry, 51);
	unsigned rights = 0;
	if (ref_bit(leaf.entry, 6))
		rights |= SNEST_READ;
	if (ref_bit(leaf.entry, 7) || (hw_d && dbm))
		rights |= SNEST_WRITE;
	/* Execution does not need the right to read. */
	switch (ref_bits(leaf.entry, 54, 53)) {
	case 0:
		rights |= SNEST_EXEC;
		break;
	case 1:
		rights |= priv ? 0 : SNEST_EXEC;
		break;
	case 2:
		break;
	case 3:
		rights |= priv ? SNEST_EXEC : 0;
		break;
	}
	denied = ref_denied(rights, access);
	if (denied) {
		ref_refuse(out, denied, leaf.level);
		return;
	}

	if (update && (access & SNEST_WRITE) && hw_d && dbm)
		want |= ref_mask(7, 7);
	if (!ref_store(stage, mem, out->steps - 1, 8, want, out))
		return;
	out->leaf = want;
	rights &= granted;

	uint32_t attr = (uint32_t)ref_bits(leaf.entry, 5, 2);
	if (dbm && ref_bit(want, 7))
		attr |= SNEST_ATTR_DIRTY;
	if (dbm && !ref_bit(want, 7) && hw_d && (rights & SNEST_WRITE))
		attr |= SNEST_ATTR_DIRTIABLE;
	arm_finish(&leaf, input, rights, attr, out);
}
