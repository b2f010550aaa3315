/* SPDX-License-Identifier: MIT */
/*
 * A plug-in for `snest difffuzz` that misbehaves as a whole, in the way that the
 * environment variable BROKEN names. It knows one thing of x86-64 tables: the
 * entry of the top table. Where bits 0 and 9 of it are set it does what it is
 * told to; otherwise it cannot be asked.
 */
#include <errno.h>
#include <snest/walker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct snest_walker_memory *memory;
static struct snest_stage shape;
static uint64_t top;
static uint64_t remembered; /* "stale": what it read first since it was loaded */

static bool broken(const char *how)
{
	const char *chosen = getenv("BROKEN");

	return chosen && !strcmp(chosen, how);
}

__attribute__((constructor)) static void loaded(void)
{
	if (broken("load"))
		abort();
}

static int walker_open(const struct snest_walker_memory *given, struct snest_stage *stage,
                       void **state, const char **why)
{
	(void)state;
	if (broken("open-crash"))
		abort();
	if (broken("open")) {
		*why = "no key for the engine";
		return -EACCES;
	}
	if (broken("nothing")) {
		*why = "it has no such tables";
		return -EOPNOTSUPP;
	}
	if (broken("flags"))
		stage->flags = SNEST_STAGE_HW_D;
	if (broken("print"))
		puts("hello from the plug-in");
	memory = given;
	shape = *stage;
	return 0;
}

static int walker_begin(void *state, uint64_t root, uint64_t root_high)
{
	(void)state, (void)root_high;
	top = root;
	return broken("begin") ? -EIO : 0;
}

static int walker_translate(void *state, uint64_t input, uint32_t access,
                            struct snest_walker_answer *answer)
{
	unsigned shift = 3u + 9u * shape.levels;
	uint64_t entry = 0;

	(void)state, (void)access;
	answer->outcome = SNEST_WALKER_UNKNOWN;
	if (memory->read(memory, top + (input >> shift & 511) * 8, &entry, 8))
		return 0;
	if (broken("stale")) {
		answer->outcome = remembered == 1000 ? SNEST_WALKER_TRANSLATED : answer->outcome;
		remembered++;
		return 0;
	}
	if ((entry & 0x201) != 0x201)
		return 0;
	if (broken("crash"))
		abort();
	if (broken("exit"))
		exit(7);
	if (broken("error"))
		return -EIO;
	if (broken("outcome"))
		answer->outcome = 9;
	while (broken("hang"))
		sleep(1);
	return 0;
}

const struct snest_walker *snest_walker_get(void)
{
	static struct snest_walker walker = {
		.size = sizeof(walker),
		.version = SNEST_WALKER_VERSION,
		.formats = SNEST_WALKER_FORMAT(SNEST_FORMAT_X86_64),
		.accesses = SNEST_WALKER_ACCESS(SNEST_READ),
		.name = "broken",
		.open = walker_open,
		.begin = walker_begin,
		.translate = walker_translate,
	};

	if (broken("null"))
		return NULL;
	if (broken("version"))
		walker.version = SNEST_WALKER_VERSION + 1;
	if (broken("size"))
		walker.size = 8;
	if (broken("function"))
		walker.begin = NULL;
	if (broken("formats"))
		walker.formats = 0;
	if (broken("two-formats"))
		walker.formats |= SNEST_WALKER_FORMAT(SNEST_FORMAT_AMD_V1);
	if (broken("accesses"))
		walker.accesses = 0;
	if (broken("updates"))
		walker.reports = SNEST_WALKER_UPDATES;
	if (broken("memory"))
		walker.memory_bits = 19;
	return &walker;
}
