/* SPDX-License-Identifier: MIT */
/*
 * AddressSanitizer's defaults for all targets; ASAN_OPTIONS comes on top.
 *
 * What was freed is kept out of use for a while. An input lives short: less of it
 * finds the same, and stays in the processor's caches. Stacks of allocations are
 * cut short: a find is run again with a larger malloc_context_size.
 */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "quarantine_size_mb=2:thread_local_quarantine_size_kb=64:malloc_context_size=2";
}
