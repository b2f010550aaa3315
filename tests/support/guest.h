/* SPDX-License-Identifier: MIT */
/*
 * A guest for tests of the shadow: it owns memory and page tables in it, maps,
 * unmaps and remaps at random, and knows, page by page and without reading an
 * entry, what its tables say.
 *
 * Its tables are written with the writer into memory of the guest: found at
 * GPA 0 on by the last stage, and through all stages behind it by an earlier
 * one. What they say is kept in plain arrays of cells, one a page, over a few
 * windows of each stage's input. For tests only; failures end the test.
 */
#ifndef SN_TESTS_GUEST_H
#define SN_TESTS_GUEST_H

#include <snest/space.h>
#include <snest/table.h>
#include "support/configs.h"
#include "support/tables.h"

#define GUEST_STAGES 3
#define GUEST_WINDOWS 4
#define GUEST_REGIONS 32
#define GUEST_TABLES_LG2 26 /* bytes for tables, from GPA 0 */

/* Where a guest's data lies: GPAs for the last stage, inputs of the next for the others. */
#define GUEST_DATA 0x40000000ull     /* 1 GiB of memory */
#define GUEST_READONLY 0x80000000ull /* 512 MiB of read-only memory */
#define GUEST_HOLE 0xa0000000ull     /* 512 MiB without memory */
#define GUEST_HOST 0x4000000000ull   /* host address of GUEST_DATA */
/* Earlier stages find their tables here, in the input of the stage behind them. */
#define GUEST_TABLES_AT 0x10000000ull

struct guest_cell {
	bool present;
	bool vague; /* the size of the leaf is not known any more */
	uint8_t lg2;
	uint8_t rights[2]; /* by privilege */
	uint32_t id;       /* of the leaf; unique over time */
	uint64_t out;
};

struct guest_window {
	uint64_t first, last;
	uint64_t sizes; /* of leaves, bit n for 2^n */
	size_t at;      /* cell of first */
};

struct guest_table {
	struct guest *guest;
	struct snest_table *table;
	struct snest_stage stage; /* with its root */
	unsigned unit_lg2;        /* bytes of a cell */
	unsigned windows;
	struct guest_window window[GUEST_WINDOWS];
	size_t cells;
	struct guest_cell *cell;
};

struct guest_region {
	uint64_t first, last, host;
	uint32_t flags;
	void *mapping;
};

struct guest_options {
	const struct test_config *config[GUEST_STAGES]; /* NULL behind the last */
	const struct snest_hooks *hooks;
	uint64_t vm_table_bytes_max;
	uint64_t host_skew; /* added to GUEST_HOST: host pages smaller than the guest's */
	bool one_region;    /* tables and data are in one, as in most machines */
	uint64_t seed;
};

struct guest {
	struct snest_vm *vm;
	struct test_random random;
	char *ram; /* of the tables */
	uint64_t ram_bytes;
	uint64_t cut;
	void *free[24];
	unsigned stages;
	struct guest_table table[GUEST_STAGES];
	struct snest_stage list[GUEST_STAGES];
	uint32_t id;
	unsigned regions;
	struct guest_region region[GUEST_REGIONS]; /* ascending */
};

/* What the tables and the memory map say of one address. */
struct guest_answer {
	bool present; /* else a walk faults */
	bool memory;  /* leads to host memory */
	uint8_t rights;
	uint8_t table_rights; /* without the memory map's say */
	uint32_t id;          /* of the first stage's leaf */
	uint64_t gpa;
	uint64_t host; /* if memory */
};

/* What one random step touched. */
struct guest_change {
	unsigned stage;
	uint64_t first, last; /* that stage's input */
};

void guest_init(struct guest *guest, const struct guest_options *options);
void guest_fini(struct guest *guest);

/* The space of all its stages. The caller puts it. */
struct snest_space *guest_space(struct guest *guest, struct snest_tag tag, uint32_t flags,
                                uint64_t table_bytes_max);

/* Whether an input of stage k lies in a window, and its cell. */
struct guest_cell *guest_cell(const struct guest *guest, unsigned k, uint64_t input);

void guest_answer(const struct guest *guest, uint64_t iova, bool privileged,
                  struct guest_answer *answer);
/* Finishes an answer from its GPA, with the memory map as it is now. */
void guest_answer_memory(const struct guest *guest, struct guest_answer *answer);

/*
 * Maps with leaves of 2^lg2 bytes; the same as snest_table_map, and returns
 * what it returned, which has to be what the cells predict.
 */
int guest_map(struct guest *guest, unsigned k, uint64_t first, uint64_t last, uint64_t out,
              uint32_t rights, uint32_t attr, unsigned lg2, bool replace);
void guest_unmap(struct guest *guest, unsigned k, uint64_t first, uint64_t last, bool whole);

/* One random change of one table. */
struct guest_change guest_step(struct guest *guest);
/* One random change of the data's memory map: removed, added, replaced, protected. */
void guest_memory_step(struct guest *guest);
void guest_memory_remove(struct guest *guest, uint64_t first, uint64_t last);
void guest_memory_add(struct guest *guest, uint64_t first, uint64_t last, uint64_t host,
                      uint32_t flags);
void guest_memory_protect(struct guest *guest, uint64_t first, uint64_t last, bool readonly);

/* A random IOVA in a window of stage 0. */
uint64_t guest_iova(struct guest *guest);

/* The configuration of that name. */
const struct test_config *guest_config(const char *name);

#endif
