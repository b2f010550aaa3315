/* SPDX-License-Identifier: MIT */
/*
 * Reference: VT-d second-stage tables.
 *
 *   0 R   1 W   2 X (ignored)   5:3 EMT, 6 IPAT (leaf)   7 PS   8 A   9 D (leaf)
 *   11 SNP (leaf)   51:12 address   62 TM (leaf)   61:52, 63, 10 ignored
 *
 * Present is R or W. The manual counts levels 1 to 5; results count from 0.
 */
#include "ref_arch.h"

void ref_walk_vtd_ss(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                     uint32_t access, bool update, struct ref_result *out)
{
	unsigned top = stage->levels;
	unsigned ia_bits = stage->ia_bits ? stage->ia_bits : 12 + 9 * top;
	unsigned oa_bits = stage->oa_bits ? stage->oa_bits : 52;
	unsigned granted = stage->rights ? stage->rights : SNEST_RIGHTS;
	bool asked = access & SNEST_RIGHTS;
	bool set_a = update && asked && (stage->flags & SNEST_STAGE_HW_A);
	bool set_d = set_a && (stage->flags & SNEST_STAGE_HW_D) && (access & SNEST_WRITE);
	unsigned rights = granted;
	uint64_t table = stage->root & ~(uint64_t)0xfff;

	if (input >> ia_bits) {
		ref_refuse(out, SNEST_FAULT_INPUT_RANGE, top - 1);
		return;
	}
	unsigned denied = ref_denied(granted, access);
	if (denied) {
		ref_refuse(out, denied, top - 1);
		return;
	}

	for (unsigned level = top;; level--) {
		unsigned low = 12 + 9 * (level - 1);
		uint64_t entry;

		if (!ref_fetch(stage, mem, table + 8 * ref_bits(input, low + 8, low), 8, level - 1,
		               &entry, out))
			return;

		bool r = ref_bit(entry, 0);
		bool w = ref_bit(entry, 1);
		if (!r && !w) {
			ref_refuse(out, SNEST_FAULT_NOT_PRESENT, level - 1);
			return;
		}
		if (!r)
			rights &= ~(SNEST_READ | SNEST_EXEC);
		if (!w)
			rights &= ~SNEST_WRITE;
		denied = ref_denied(rights, access & SNEST_EXEC ? access | SNEST_READ : access);
		if (denied) {
			ref_refuse(out, denied, level - 1);
			return;
		}

		/* Reserved bits. */
		bool large = (level == 3 || level == 2) && ref_bit(entry, 7);
		bool leaf = large || level == 1;
		uint64_t reserved = ref_mask(51, (int)oa_bits);
		if (level == 5 || level == 4)
			reserved |= ref_mask(7, 7);
		if (level == 3 && (stage->flags & SNEST_STAGE_NO_1G))
			reserved |= ref_mask(7, 7);
		if (level == 2 && (stage->flags & SNEST_STAGE_NO_2M))
			reserved |= ref_mask(7, 7);
		if (level == 3 && large)
			reserved |= ref_mask(29, 12);
		if (level == 2 && large)
			reserved |= ref_mask(20, 12);
		if (!leaf || !(stage->flags & SNEST_STAGE_VTD_SNOOP))
			reserved |= ref_mask(11, 11);
		if (!leaf || !(stage->flags & SNEST_STAGE_VTD_TM))
			reserved |= ref_mask(62, 62);
		if (entry & reserved) {
			ref_refuse(out, SNEST_FAULT_RESERVED, level - 1);
			return;
		}

		uint64_t want = entry;
		if (set_a)
			want |= ref_mask(8, 8);
		if (set_d && leaf)
			want |= ref_mask(9, 9);
		if (!ref_store(stage, mem, out->steps - 1, 8, want, out))
			return;
		if (!leaf) {
			table = entry & ref_mask(51, 12);
			continue;
		}
		out->leaf = want;

		uint32_t attr = (uint32_t)ref_bits(entry, 5, 3);
		if (ref_bit(out->leaf, 8))
			attr |= SNEST_ATTR_ACCESSED;
		if (ref_bit(out->leaf, 9))
			attr |= SNEST_ATTR_DIRTY;
		else if ((stage->flags & SNEST_STAGE_HW_D) && (rights & SNEST_WRITE))
			attr |= SNEST_ATTR_DIRTIABLE;
		if (ref_bit(entry, 11))
			attr |= SNEST_ATTR_SNOOP;

		out->ok = true;
		out->level = (uint8_t)(level - 1);
		out->entry_addr = out->step[out->steps - 1].entry_addr;
		out->entry = entry;
		out->lg2 = (uint8_t)low;
		out->out = (entry & ref_mask(51, (int)low)) | (input & ref_mask((int)low - 1, 0));
		out->rights = (uint8_t)rights;
		out->attr = attr;
		return;
	}
}
