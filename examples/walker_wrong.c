/* SPDX-License-Identifier: MIT */
/*
 * A plug-in for `snest difffuzz`: a small walker of x86-64 tables that is wrong
 * on purpose, in one way. It shows what a plug-in has to have, and what such a
 * mistake looks like when it is found:
 *
 *   cc -shared -fPIC -o wrong.so walker_wrong.c
 *   snest difffuzz --walker ./wrong.so --format x86-64
 *
 * -DWRONG=n chooses the mistake:
 *   0  none: this one agrees with snest
 *   1  the right to write is taken from the last entry alone (the default)
 *   2  a large page may begin anywhere: its reserved low bits are not checked
 *   3  the page-size bit counts at the top level too
 */
#include <errno.h>
#include <snest/walker.h>
#include <stdlib.h>

#ifndef WRONG
#define WRONG 1
#endif

#define P 0x1u
#define RW 0x2u
#define US 0x4u
#define PS 0x80u
#define PAT_LARGE 0x1000u
#define NX (UINT64_C(1) << 63)
#define ADDR UINT64_C(0x000ffffffffff000)

/* What this walker knows. The other flags are taken off the stage. */
#define FLAGS (SNEST_STAGE_X86_WP | SNEST_STAGE_X86_NX | SNEST_STAGE_NO_2M | SNEST_STAGE_NO_1G)

struct walker {
	const struct snest_walker_memory *memory;
	const struct snest_stage *stage;
	uint64_t root;
	uint64_t too_wide; /* address bits that must be 0 */
};

static int walker_open(const struct snest_walker_memory *memory, struct snest_stage *stage,
                       void **state, const char **why)
{
	struct walker *w = calloc(1, sizeof(*w));
	unsigned bits = stage->oa_bits ? stage->oa_bits : 52;

	if (!w) {
		*why = "out of memory";
		return -ENOMEM;
	}
	stage->flags &= FLAGS;
	w->memory = memory;
	w->stage = stage;
	w->too_wide = ADDR & ~((UINT64_C(1) << bits) - 1);
	*state = w;
	return 0;
}

static void walker_close(void *state)
{
	free(state);
}

static int walker_begin(void *state, uint64_t root, uint64_t root_high)
{
	struct walker *w = state;

	(void)root_high;
	w->root = root & ADDR;
	return 0;
}

static uint64_t page_mask(unsigned level)
{
	return (UINT64_C(1) << (12 + 9 * level)) - 1;
}

/* Whether a present entry maps a page; level 0 is the last. *bad: reserved bits are set. */
static bool is_page(const struct walker *w, unsigned level, uint64_t entry, bool *bad)
{
	bool possible = level == 0 || (level == 1 && !(w->stage->flags & SNEST_STAGE_NO_2M)) ||
	                (level == 2 && !(w->stage->flags & SNEST_STAGE_NO_1G));

	*bad = entry & w->too_wide;
	if (level == 0 || !(entry & PS))
		return level == 0;
	if (WRONG == 3 && level == 3)
		return true;
	*bad |= !possible ||
	        (WRONG != 2 && (entry & ADDR & page_mask(level) & ~(uint64_t)PAT_LARGE));
	return true;
}

static uint32_t rights_of(const struct walker *w, uint64_t all, uint32_t access)
{
	bool user = !(access & SNEST_PRIVILEGED);
	uint32_t rights = SNEST_READ;

	if (user && !(all & US))
		return 0;
	if ((all & RW) || (!user && !(w->stage->flags & SNEST_STAGE_X86_WP)))
		rights |= SNEST_WRITE;
	if (!(all & NX) || !(w->stage->flags & SNEST_STAGE_X86_NX))
		rights |= SNEST_EXEC;
	return rights & (w->stage->rights ? w->stage->rights : SNEST_RIGHTS);
}

static int walker_translate(void *state, uint64_t input, uint32_t access,
                            struct snest_walker_answer *answer)
{
	const struct walker *w = state;
	unsigned level = w->stage->levels, unused = 64 - 12 - 9 * level;
	uint64_t table = w->root, all = RW | US, entry, low;
	bool bad;

	answer->outcome = SNEST_WALKER_FAULT;
	if ((uint64_t)((int64_t)(input << unused) >> unused) != input)
		return 0;
	for (;;) {
		level--;
		if (w->memory->read(w->memory, table + (input >> (12 + 9 * level) & 511) * 8,
		                    &entry, 8) ||
		    !(entry & P))
			return 0;
		/* RW and US count where all have them, NX where one has it. */
		all = (all & entry & (RW | US)) | ((all | entry) & NX);
		if (WRONG == 1)
			all = (all & ~(uint64_t)RW) | (entry & RW);
		if (is_page(w, level, entry, &bad))
			break;
		if (bad)
			return 0;
		table = entry & ADDR;
	}
	answer->rights = (uint8_t)rights_of(w, all, access);
	if (bad || (access & SNEST_RIGHTS & ~answer->rights))
		return 0;
	low = page_mask(level);
	answer->outcome = SNEST_WALKER_TRANSLATED;
	answer->gpa = (entry & ADDR & ~low) | (input & low);
	answer->lg2 = (uint8_t)(12 + 9 * level);
	return 0;
}

const struct snest_walker *snest_walker_get(void)
{
	static const struct snest_walker walker = {
		.size = sizeof(walker),
		.version = SNEST_WALKER_VERSION,
		.formats = SNEST_WALKER_FORMAT(SNEST_FORMAT_X86_64) |
	                   SNEST_WALKER_FORMAT(SNEST_FORMAT_AMD_V2),
		.accesses = SNEST_WALKER_ALL_ACCESSES,
		.reports = SNEST_WALKER_SIZE | SNEST_WALKER_RIGHTS,
		.name = "wrong",
		.open = walker_open,
		.close = walker_close,
		.begin = walker_begin,
		.translate = walker_translate,
	};

	return &walker;
}
