/* SPDX-License-Identifier: MIT */
/*
 * Reference: x86-64 tables as VT-d first-stage and AMD v2 (guest) tables.
 *
 *   0 P   1 R/W   2 U/S   3 PWT   4 PCD   5 A   6 D (leaf)   7 PS; PAT in a PTE
 *   8 G (leaf)   10 EA   12 PAT in large leaves   51:12 address   63 XD
 *
 * The manual counts levels 1 (PT) to 5 (PML5); results count from 0.
 */
#include "ref_arch.h"

void ref_walk_x86(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                  uint32_t access, bool update, struct ref_result *out)
{
	unsigned top = stage->levels;
	unsigned sign = top == 5 ? 56 : 47;
	unsigned oa_bits = stage->oa_bits ? stage->oa_bits : 52;
	unsigned granted = stage->rights ? stage->rights : SNEST_RIGHTS;
	bool priv = access & SNEST_PRIVILEGED;
	bool asked = access & SNEST_RIGHTS;
	bool wp = stage->flags & SNEST_STAGE_X86_WP;
	bool nx = stage->flags & SNEST_STAGE_X86_NX;
	bool smep = stage->flags & SNEST_STAGE_X86_SMEP;
	bool set_a = update && asked && (stage->flags & SNEST_STAGE_HW_A);
	bool set_d = set_a && (stage->flags & SNEST_STAGE_HW_D) && (access & SNEST_WRITE);
	bool set_ea = set_a && (stage->flags & SNEST_STAGE_X86_EAF);
	bool writable = true, user = true, executable = true;
	uint64_t table = stage->root & ~(uint64_t)0xfff;

	uint64_t upper = input >> sign;
	if (upper != 0 && upper != UINT64_MAX >> sign) {
		ref_refuse(out, SNEST_FAULT_NON_CANONICAL, top - 1);
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

		if (!ref_bit(entry, 0)) {
			ref_refuse(out, SNEST_FAULT_NOT_PRESENT, level - 1);
			return;
		}
		user = user && ref_bit(entry, 2);
		if (asked && !priv && !user) {
			ref_refuse(out, SNEST_FAULT_PRIVILEGE, level - 1);
			return;
		}
		writable = writable && ref_bit(entry, 1);
		if ((access & SNEST_WRITE) && !writable && (!priv || wp)) {
			ref_refuse(out, SNEST_FAULT_WRITE, level - 1);
			return;
		}

		/* Reserved bits. */
		bool large = level > 1 && ref_bit(entry, 7);
		uint64_t reserved = ref_mask(51, (int)oa_bits);
		if (level == 5 || level == 4)
			reserved |= ref_mask(7, 7);
		if (level == 3 && (stage->flags & SNEST_STAGE_NO_1G))
			reserved |= ref_mask(7, 7);
		if (level == 2 && (stage->flags & SNEST_STAGE_NO_2M))
			reserved |= ref_mask(7, 7);
		if (level == 3 && large)
			reserved |= ref_mask(29, 13);
		if (level == 2 && large)
			reserved |= ref_mask(20, 13);
		if (entry & reserved) {
			ref_refuse(out, SNEST_FAULT_RESERVED, level - 1);
			return;
		}

		if (nx)
			executable = executable && !ref_bit(entry, 63);
		if ((access & SNEST_EXEC) && !executable) {
			ref_refuse(out, SNEST_FAULT_EXECUTE, level - 1);
			return;
		}

		bool leaf = level == 1 || large;
		if (leaf && (access & SNEST_EXEC) && priv && smep && user) {
			ref_refuse(out, SNEST_FAULT_PRIVILEGE, level - 1);
			return;
		}
		uint64_t want = entry;
		if (set_a)
			want |= ref_mask(5, 5);
		if (set_ea)
			want |= ref_mask(10, 10);
		if (set_d && leaf)
			want |= ref_mask(6, 6);
		if (!ref_store(stage, mem, out->steps - 1, 8, want, out))
			return;
		if (!leaf) {
			table = entry & ref_mask(51, 12);
			continue;
		}

		/* The leaf. */
		out->leaf = want;

		unsigned rights = 0;
		if (priv || user) {
			rights |= SNEST_READ;
			if (writable || (priv && !wp))
				rights |= SNEST_WRITE;
			if (executable && !(priv && smep && user))
				rights |= SNEST_EXEC;
		}
		rights &= granted;

		uint32_t attr = 0;
		attr |= ref_bit(entry, 3) << 0;              /* PWT */
		attr |= ref_bit(entry, 4) << 1;              /* PCD */
		attr |= ref_bit(entry, large ? 12 : 7) << 2; /* PAT */
		if (ref_bit(out->leaf, 5))
			attr |= SNEST_ATTR_ACCESSED;
		if (ref_bit(out->leaf, 6))
			attr |= SNEST_ATTR_DIRTY;
		else if ((stage->flags & SNEST_STAGE_HW_D) && (rights & SNEST_WRITE))
			attr |= SNEST_ATTR_DIRTIABLE;
		if (ref_bit(entry, 8))
			attr |= SNEST_ATTR_GLOBAL;
		if (user)
			attr |= SNEST_ATTR_USER;

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
