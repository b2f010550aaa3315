/* SPDX-License-Identifier: MIT */
/*
 * Reference: RISC-V Sv32, Sv39, Sv48, Sv57 and their x4 second-stage forms.
 *
 *   0 V   1 R   2 W   3 X   4 U   5 G   6 A   7 D   9:8 RSW   53:10 PPN
 *   58:54 reserved   60:59 reserved (Svrsw60t59b: software)   62:61 PBMT   63 N
 *   Sv32: 4 bytes, 31:10 PPN
 *
 * Levels count from 0 in the manual too.
 */
#include "ref_arch.h"

void ref_walk_riscv(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
                    uint32_t access, bool update, struct ref_result *out)
{
	bool sv32 = stage->format == SNEST_FORMAT_RISCV32;
	bool x4 = stage->flags & SNEST_STAGE_RISCV_X4;
	bool sum = stage->flags & SNEST_STAGE_RISCV_SUM;
	unsigned bytes = sv32 ? 4 : 8;
	unsigned vpn_bits = sv32 ? 10 : 9;
	unsigned top = stage->levels - 1;
	unsigned width = sv32 ? 32 : 12 + 9 * stage->levels; /* without the two bits of x4 */
	unsigned oa_bits = stage->oa_bits ? stage->oa_bits : (sv32 ? 34 : 56);
	unsigned granted = stage->rights ? stage->rights : SNEST_RIGHTS;
	/* A second stage sees every access as a user's. */
	bool priv = !x4 && (access & SNEST_PRIVILEGED);
	bool asked = access & SNEST_RIGHTS;
	bool hw_a = stage->flags & SNEST_STAGE_HW_A;
	bool hw_d = hw_a && (stage->flags & SNEST_STAGE_HW_D);
	uint64_t table = stage->root & ~(uint64_t)(x4 ? 0x3fff : 0xfff);

	if (x4) {
		unsigned limit = stage->ia_bits ? stage->ia_bits : width + 2;

		if (input >> limit) {
			ref_refuse(out, SNEST_FAULT_INPUT_RANGE, top);
			return;
		}
	} else if (sv32) {
		if (input >> 32) {
			ref_refuse(out, SNEST_FAULT_INPUT_RANGE, top);
			return;
		}
	} else {
		uint64_t upper = input >> (width - 1);

		if (upper != 0 && upper != UINT64_MAX >> (width - 1)) {
			ref_refuse(out, SNEST_FAULT_NON_CANONICAL, top);
			return;
		}
	}
	unsigned denied = ref_denied(granted, access);
	if (denied) {
		ref_refuse(out, denied, top);
		return;
	}

	for (unsigned level = top;; level--) {
		unsigned low = 12 + vpn_bits * level;
		unsigned high = low + vpn_bits - 1;
		uint64_t entry;

		if (x4 && level == top)
			high += 2;
		if (!ref_fetch(stage, mem, table + bytes * ref_bits(input, high, low), bytes, level,
		               &entry, out))
			return;

		bool r = ref_bit(entry, 1);
		bool w = ref_bit(entry, 2);
		bool x = ref_bit(entry, 3);
		bool u = ref_bit(entry, 4);
		bool a = ref_bit(entry, 6);
		bool d = ref_bit(entry, 7);
		unsigned pbmt = sv32 ? 0 : (unsigned)ref_bits(entry, 62, 61);
		bool n = !sv32 && ref_bit(entry, 63);
		bool pointer = !r && !x;
		uint64_t ppn = sv32 ? ref_bits(entry, 31, 10) : ref_bits(entry, 53, 10);

		if (!ref_bit(entry, 0) || (!r && w)) {
			ref_refuse(out, SNEST_FAULT_NOT_PRESENT, level);
			return;
		}

		bool reserved = false;
		if (!sv32) {
			reserved |= ref_bits(entry, 58, 54) != 0;
			if (!(stage->flags & SNEST_STAGE_RISCV_SVRSW60T59B))
				reserved |= ref_bits(entry, 60, 59) != 0;
			if (!(stage->flags & SNEST_STAGE_RISCV_SVPBMT))
				reserved |= pbmt != 0;
			reserved |= pbmt == 3;
			if (!(stage->flags & SNEST_STAGE_RISCV_SVNAPOT))
				reserved |= n;
		}
		if (pointer)
			reserved |= pbmt != 0 || n || d || a || u;
		if (reserved) {
			ref_refuse(out, SNEST_FAULT_RESERVED, level);
			return;
		}

		if (pointer) {
			if (level == 0) {
				ref_refuse(out, SNEST_FAULT_LEVEL, level);
				return;
			}
			table = ppn << 12;
			if (table >> oa_bits) {
				ref_refuse(out, SNEST_FAULT_ADDRESS_SIZE, level);
				return;
			}
			continue;
		}

		/* A leaf. */
		if (ppn & ref_mask((int)(vpn_bits * level) - 1, 0)) {
			ref_refuse(out, SNEST_FAULT_LEVEL, level);
			return;
		}
		unsigned lg2 = low;
		if (n) {
			if (level != 0 || ref_bits(entry, 13, 10) != 8) {
				ref_refuse(out, SNEST_FAULT_RESERVED, level);
				return;
			}
			lg2 = 16;
		}
		uint64_t page = (ppn << 12) & ~ref_mask((int)lg2 - 1, 0);
		if (page >> oa_bits) {
			ref_refuse(out, SNEST_FAULT_ADDRESS_SIZE, level);
			return;
		}

		bool bad_user = !priv && !u;
		bool bad_data = priv && u && !sum && (access & (SNEST_READ | SNEST_WRITE));
		bool bad_exec = priv && u && (access & SNEST_EXEC);
		if (asked && (bad_user || bad_data || bad_exec)) {
			ref_refuse(out, SNEST_FAULT_PRIVILEGE, level);
			return;
		}
		unsigned rights = 0;
		if (r)
			rights |= SNEST_READ;
		if (w)
			rights |= SNEST_WRITE;
		if (x)
			rights |= SNEST_EXEC;
		denied = ref_denied(rights, access);
		if (denied) {
			ref_refuse(out, denied, level);
			return;
		}
		if (!a && !hw_a) {
			ref_refuse(out, SNEST_FAULT_ACCESS_FLAG, level);
			return;
		}
		if (!d && (access & SNEST_WRITE) && !hw_d) {
			ref_refuse(out, SNEST_FAULT_DIRTY_FLAG, level);
			return;
		}
		uint64_t want = entry;
		if (update && asked)
			want |= ref_mask(6, 6);
		if (update && (access & SNEST_WRITE))
			want |= ref_mask(7, 7);
		if (!ref_store(stage, mem, out->steps - 1, bytes, want, out))
			return;
		out->leaf = want;

		if (!priv && !u)
			rights = 0;
		if (priv && u)
			rights &= sum ? (SNEST_READ | SNEST_WRITE) : 0;
		if (!d && !hw_d)
			rights &= ~SNEST_WRITE;
		rights &= granted;

		uint32_t attr = pbmt;
		if (ref_bit(want, 6))
			attr |= SNEST_ATTR_ACCESSED;
		if (ref_bit(want, 7))
			attr |= SNEST_ATTR_DIRTY;
		else if (rights & SNEST_WRITE)
			attr |= SNEST_ATTR_DIRTIABLE;
		if (!x4 && ref_bit(entry, 5))
			attr |= SNEST_ATTR_GLOBAL;
		if (u)
			attr |= SNEST_ATTR_USER;
		if (n)
			attr |= SNEST_ATTR_CONTIGUOUS;

		out->ok = true;
		out->level = (uint8_t)level;
		out->entry_addr = out->step[out->steps - 1].entry_addr;
		out->entry = entry;
		out->lg2 = (uint8_t)lg2;
		out->out = page | (input & ref_mask((int)lg2 - 1, 0));
		out->rights = (uint8_t)rights;
		out->attr = attr;
		return;
	}
}
