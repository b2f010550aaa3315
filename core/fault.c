/* SPDX-License-Identifier: MIT */
/*
 * Names of fault reasons.
 */
#include <snest/types.h>

const char *snest_fault_reason_name(unsigned reason)
{
	static const char *const names[] = {
		[SNEST_FAULT_NONE] = "no fault",
		[SNEST_FAULT_INPUT_RANGE] = "address wider than the stage's input",
		[SNEST_FAULT_NON_CANONICAL] = "address not canonical",
		[SNEST_FAULT_DISABLED] = "translation disabled for this address",
		[SNEST_FAULT_TABLE_ACCESS] = "table entry not in memory",
		[SNEST_FAULT_NOT_PRESENT] = "entry not present",
		[SNEST_FAULT_RESERVED] = "reserved bit set",
		[SNEST_FAULT_LEVEL] = "bad level or page size",
		[SNEST_FAULT_ADDRESS_SIZE] = "output address too wide",
		[SNEST_FAULT_READ] = "no right to read",
		[SNEST_FAULT_WRITE] = "no right to write",
		[SNEST_FAULT_EXECUTE] = "no right to execute",
		[SNEST_FAULT_PRIVILEGE] = "wrong privilege",
		[SNEST_FAULT_ACCESS_FLAG] = "accessed flag clear",
		[SNEST_FAULT_DIRTY_FLAG] = "dirty flag clear",
		[SNEST_FAULT_UPDATE] = "accessed or dirty flag cannot be written",
		[SNEST_FAULT_NO_HOST] = "no host memory",
		[SNEST_FAULT_CONFIG] = "bad device or context structure",
		[SNEST_FAULT_BLOCKED] = "request blocked",
	};

	if (reason >= sizeof(names) / sizeof(names[0]) || !names[reason])
		return "unknown fault";
	return names[reason];
}
