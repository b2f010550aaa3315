/* SPDX-License-Identifier: MIT */
/*
 * Reference: AMD-Vi v1 (host) tables. (v2 tables are x86-64 ones.)
 *
 *   PTE: 0 PR   5 A   6 D   11:9 NextLevel 0, 7   51:12 address   59 U   60 FC
 *        61 IR   62 IW   58:52 reserved
 *   PDE: 0 PR   5 A   11:9 NextLevel 1-6   51:12 address   61 IR   62 IW
 *        60:52 reserved
 *
 * The manual counts levels 1 to 6; results count from 0.
 */
#include "ref_arch.h"

void ref_walk_amd_v1(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                     uint32_t access, bool update, struct ref_result *out)
{
	unsigned top = stage->levels;
	unsigned ia_bits = stage->ia_bits ? stage->ia_bits : 12 + 9 * top;
	unsigned oa_bits = stage->oa_bits ? stage->oa_bits : 52;
	unsigned granted = stage->rights ? stage->rights : SNEST_RIGHTS;
	bool asked = access & SNEST_RIGHTS;
	bool set_a = update && asked && (stage->flags & SNEST_STAGE_HW_A);
	bool set_d = set_a && (stage->flags & SNEST_STAGE_HW_D) && (access & SNEST_WRITE);
	/* Execution is a read here, in the device table entry as in every level. */
	if (granted & SNEST_READ)
		granted |= SNEST_EXEC;
	unsigned rights = granted;
	uint64_t table = stage->root & ~(uint64_t)0xfff;
	unsigned level = top;

	if (ia_bits < 64 && input >> ia_bits) {
		ref_refuse(out, SNEST_FAULT_INPUT_RANGE, top - 1);
		return;
	}
	unsigned denied = ref_denied(granted, access);
	if (denied) {
		ref_refuse(out, denied, top - 1);
		return;
	}

	for (;;) {
		unsigned low = 12 + 9 * (level - 1);
		unsigned high = level == 6 ? 63 : low + 8;
		uint64_t entry;

		if (!ref_fetch(stage, mem, table + 8 * ref_bits(input, high, low), 8, level - 1,
		               &entry, out))
			return;

		if (!ref_bit(entry, 0)) {
			ref_refuse(out, SNEST_FAULT_NOT_PRESENT, level - 1);
			return;
		}
		unsigned next = (unsigned)ref_bits(entry, 11, 9);
		bool leaf = next == 0 || next == 7;
		if (entry & (leaf ? ref_mask(58, 52) : ref_mask(60, 52))) {
			ref_refuse(out, SNEST_FAULT_RESERVED, level - 1);
			return;
		}
		if (!ref_bit(entry, 61))
			rights &= ~(SNEST_READ | SNEST_EXEC);
		if (!ref_bit(entry, 62))
			rights &= ~SNEST_WRITE;
		denied = ref_denied(rights, access & SNEST_EXEC ? access | SNEST_READ : access);
		if (denied) {
			ref_refuse(out, denied, level - 1);
			return;
		}

		if (!leaf) {
			/* Down, perhaps past some levels. */
			unsigned next_low = 12 + 9 * (next - 1);

			if (next >= level) {
				ref_refuse(out, SNEST_FAULT_LEVEL, level - 1);
				return;
			}
			table = entry & ref_mask(51, 12);
			if (table & ref_mask(51, (int)oa_bits)) {
				ref_refuse(out, SNEST_FAULT_ADDRESS_SIZE, level - 1);
				return;
			}
			if (input & ref_mask((int)low - 1, (int)next_low + 9)) {
				ref_refuse(out, SNEST_FAULT_LEVEL, level - 1);
				return;
			}
			if (!ref_store(stage, mem, out->steps - 1, 8,
			               set_a ? entry | ref_mask(5, 5) : entry, out))
				return;
			level = next;
			continue;
		}

		/* A leaf: of the level's size, or of a size coded in the address. */
		unsigned lg2 = low;
		if (level == 6) {
			ref_refuse(out, SNEST_FAULT_LEVEL, level - 1);
			return;
		}
		if (next == 7) {
			unsigned n = 12;

			while (n < 52 && ref_bit(entry, n))
				n++;
			lg2 = n + 1;
			if (n == 52 || lg2 <= low || lg2 >= low + 9) {
				ref_refuse(out, SNEST_FAULT_LEVEL, level - 1);
				return;
			}
		}
		uint64_t page = entry & ref_mask(51, (int)lg2);
		if (page & ref_mask(51, (int)oa_bits)) {
			ref_refuse(out, SNEST_FAULT_ADDRESS_SIZE, level - 1);
			return;
		}

		uint64_t want = entry;
		if (set_a)
			want |= ref_mask(5, 5);
		if (set_d)
			want |= ref_mask(6, 6);
		if (!ref_store(stage, mem, out->steps - 1, 8, want, out))
			return;
		out->leaf = want;

		uint32_t attr = 0;
		if (ref_bit(out->leaf, 5))
			attr |= SNEST_ATTR_ACCESSED;
		if (ref_bit(out->leaf, 6))
			attr |= SNEST_ATTR_DIRTY;
		else if ((stage->flags & SNEST_STAGE_HW_D) && (rights & SNEST_WRITE))
			attr |= SNEST_ATTR_DIRTIABLE;
		if (ref_bit(entry, 60))
			attr |= SNEST_ATTR_SNOOP;
		if (next == 7)
			attr |= SNEST_ATTR_CONTIGUOUS;

		out->ok = true;
		out->level = (uint8_t)(level - 1);
		out->entry_addr = out->step[out->steps - 1].entry_addr;
		out->entry = entry;
		out->lg2 = (uint8_t)lg2;
		out->out = page | (input & ref_mask((int)lg2 - 1, 0));
		out->rights = (uint8_t)rights;
		out->attr = attr;
		return;
	}
}
