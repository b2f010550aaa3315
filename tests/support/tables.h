/* SPDX-License-Identifier: MIT */
/*
 * For tests that build tables with the writer and walk them: a VM with one
 * region of RAM that tables come from, at GPA 0, and a model of what a table
 * should map. The model is a plain list of intervals; it knows nothing about
 * entries, levels or formats.
 */
#ifndef SN_TESTS_TABLES_H
#define SN_TESTS_TABLES_H

#include <snest/table.h>
#include <stdlib.h>
#include <snest/vm.h>
#include <snest/walk.h>

#define TEST_RAM_LG2 28

struct test_tables {
	struct snest_vm *vm;
	char *ram;      /* GPA 0 */
	uint64_t cut;   /* what was never handed out begins here */
	void *free[24]; /* by lg2, chained through the first word */
	uint64_t live_pages, live_bytes;
	uint64_t fail_in; /* the n-th allocation from now fails; 0: none */
	uint64_t failed;  /* allocations that did */
	uint64_t unclean; /* pages that came back not zero */
	uint64_t settled; /* calls of settle */
	struct snest_table_memory memory;
};

void test_tables_init(struct test_tables *tt, const struct snest_hooks *hooks);
void test_tables_fini(struct test_tables *tt);

struct test_interval {
	uint64_t first, last, addr;
	uint32_t rights; /* as a walk reports them */
};

#define TEST_INTERVALS_MAX 16384

struct test_model {
	unsigned count;
	struct test_interval at[TEST_INTERVALS_MAX]; /* ascending */
};

void test_model_clear(struct test_model *model, uint64_t first, uint64_t last);
void test_model_set(struct test_model *model, uint64_t first, uint64_t last, uint64_t addr,
                    uint32_t rights);
/* The interval of `in`, NULL if nothing is mapped there. */
const struct test_interval *test_model_find(const struct test_model *model, uint64_t in);
bool test_model_overlaps(const struct test_model *model, uint64_t first, uint64_t last);
uint64_t test_model_bytes(const struct test_model *model, uint64_t first, uint64_t last);
/* Joins intervals that one run may report. */
void test_model_merge(struct test_model *model);

/* Random numbers that are the same in every run with the same seed. */
struct test_random {
	uint64_t state;
};

/* SNEST_TEST_SEED: added to every seed, so that ./dev soak sees others each time. 0 if unset. */
static inline uint64_t test_seed(void)
{
	const char *text = getenv("SNEST_TEST_SEED");

	return text ? strtoull(text, NULL, 0) << 16 : 0;
}

/* SNEST_TEST_SECONDS: how long a test with threads may take; `usual` if unset. */
static inline double test_seconds(double usual)
{
	const char *text = getenv("SNEST_TEST_SECONDS");

	return text ? strtod(text, NULL) : usual;
}

static inline uint64_t test_random(struct test_random *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline uint64_t test_below(struct test_random *r, uint64_t n)
{
	return test_random(r) % n;
}

#endif
