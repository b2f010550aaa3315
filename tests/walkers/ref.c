/* SPDX-License-Identifier: MIT */
/*
 * The reference walker of tests/ref as a plug-in for `snest difffuzz`: all
 * formats, all accesses, everything reported. Nothing may differ.
 */
#include <errno.h>
#include <snest/walker.h>
#include <stdlib.h>
#include "ref/ref_walk.h"

struct walker {
	const struct snest_walker_memory *memory;
	struct snest_stage stage;
};

static bool ref_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	const struct walker *w = opaque;

	*value = 0;
	return !w->memory->read(w->memory, addr, value, bytes);
}

static bool ref_write(void *opaque, uint64_t addr, unsigned bytes, uint64_t value)
{
	const struct walker *w = opaque;

	return !w->memory->write(w->memory, addr, &value, bytes);
}

static int walker_open(const struct snest_walker_memory *memory, struct snest_stage *stage,
                       void **state, const char **why)
{
	struct walker *w = calloc(1, sizeof(*w));

	*why = "out of memory";
	if (!w)
		return -ENOMEM;
	w->memory = memory;
	w->stage = *stage;
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

	w->stage.root = root;
	w->stage.root_high = root_high;
	return 0;
}

static int walker_translate(void *state, uint64_t input, uint32_t access,
                            struct snest_walker_answer *answer)
{
	struct walker *w = state;
	struct ref_memory memory = {ref_read, ref_write, w};
	struct ref_result result;

	ref_walk(&w->stage, &memory, input, access, true, &result);
	answer->outcome = result.ok ? SNEST_WALKER_TRANSLATED : SNEST_WALKER_FAULT;
	answer->gpa = result.out;
	answer->lg2 = result.lg2;
	answer->rights = result.rights;
	answer->reason = result.reason;
	answer->level = result.level;
	return 0;
}

const struct snest_walker *snest_walker_get(void)
{
	static const struct snest_walker walker = {
		.size = sizeof(walker),
		.version = SNEST_WALKER_VERSION,
		.formats = 0x1fe, /* 1 to 8 */
		.accesses = SNEST_WALKER_ALL_ACCESSES,
		.reports = SNEST_WALKER_SIZE | SNEST_WALKER_RIGHTS | SNEST_WALKER_REASON |
	                   SNEST_WALKER_LEVEL | SNEST_WALKER_UPDATES,
		.name = "reference",
		.open = walker_open,
		.close = walker_close,
		.begin = walker_begin,
		.translate = walker_translate,
	};

	return &walker;
}
