/* SPDX-License-Identifier: MIT */
/*
 * The reference walker's entry, and reading and writing one table entry. Tests
 * call ref_walk(); the rest is for the files per architecture.
 */
#include "ref_arch.h"

#include <string.h>

static uint64_t swap_bytes(uint64_t value, unsigned bytes)
{
	uint64_t swapped = 0;

	for (unsigned i = 0; i < bytes; i++)
		swapped |= ((value >> (8 * i)) & 0xff) << (8 * (bytes - 1 - i));
	return swapped;
}

void ref_refuse(struct ref_result *out, unsigned reason, unsigned level)
{
	out->ok = false;
	out->reason = (uint8_t)reason;
	out->level = (uint8_t)level;
	if (out->steps) {
		out->entry_addr = out->step[out->steps - 1].entry_addr;
		out->entry = out->step[out->steps - 1].entry;
	}
}

bool ref_fetch(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t addr,
               unsigned bytes, unsigned level, uint64_t *entry, struct ref_result *out)
{
	uint64_t value;

	if (!mem->read(mem->opaque, addr, bytes, &value)) {
		ref_refuse(out, SNEST_FAULT_TABLE_ACCESS, level);
		out->entry_addr = addr;
		out->entry = 0;
		return false;
	}
	if (stage->flags & SNEST_STAGE_BIG_ENDIAN)
		value = swap_bytes(value, bytes);
	out->step[out->steps].entry_addr = addr;
	out->step[out->steps].entry = value;
	out->step[out->steps].level = (uint8_t)level;
	out->steps++;
	*entry = value;
	return true;
}

bool ref_store(const struct snest_stage *stage, const struct ref_memory *mem, unsigned i,
               unsigned bytes, uint64_t entry, struct ref_result *out)
{
	uint64_t value = entry;

	if (entry == out->step[i].entry)
		return true;
	if (stage->flags & SNEST_STAGE_BIG_ENDIAN)
		value = swap_bytes(value, bytes);
	if (mem->write && mem->write(mem->opaque, out->step[i].entry_addr, bytes, value))
		return true;
	ref_refuse(out, SNEST_FAULT_UPDATE, out->step[i].level);
	out->entry_addr = out->step[i].entry_addr;
	out->entry = out->step[i].entry;
	return false;
}

unsigned ref_denied(unsigned rights, uint32_t access)
{
	if ((access & SNEST_READ) && !(rights & SNEST_READ))
		return SNEST_FAULT_READ;
	if ((access & SNEST_WRITE) && !(rights & SNEST_WRITE))
		return SNEST_FAULT_WRITE;
	if ((access & SNEST_EXEC) && !(rights & SNEST_EXEC))
		return SNEST_FAULT_EXECUTE;
	return SNEST_FAULT_NONE;
}

void ref_walk(const struct snest_stage *stage, const struct ref_memory *mem, uint64_t input,
              uint32_t access, bool update, struct ref_result *out)
{
	memset(out, 0, sizeof(*out));
	switch (stage->format) {
	case SNEST_FORMAT_X86_64:
	case SNEST_FORMAT_AMD_V2:
		ref_walk_x86(stage, mem, input, access, update, out);
		break;
	case SNEST_FORMAT_VTD_SS:
		ref_walk_vtd_ss(stage, mem, input, access, update, out);
		break;
	case SNEST_FORMAT_AMD_V1:
		ref_walk_amd_v1(stage, mem, input, access, update, out);
		break;
	case SNEST_FORMAT_ARM_S1:
		ref_walk_arm_s1(stage, mem, input, access, update, out);
		break;
	case SNEST_FORMAT_ARM_S2:
		ref_walk_arm_s2(stage, mem, input, access, update, out);
		break;
	case SNEST_FORMAT_RISCV32:
	case SNEST_FORMAT_RISCV64:
		ref_walk_riscv(stage, mem, input, access, update, out);
		break;
	default:
		ref_refuse(out, SNEST_FAULT_CONFIG, 0);
		break;
	}
}
