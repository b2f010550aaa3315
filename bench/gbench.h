/* SPDX-License-Identifier: MIT */
/*
 * Google Benchmark for C: groups of members that are compared with each other.
 *
 * A group is measured as a whole. It is set up once, then the repetitions of
 * all its members run in random order, so that whatever disturbs the machine
 * disturbs them alike; then it is taken down. The first member that is a limit
 * (else the first of all) is what the others are printed as a ratio to. Names
 * are family/case/member. One thread calls everything here, but for members
 * with several threads, which run in threads of their own.
 */
#ifndef BENCH_GBENCH_H
#define BENCH_GBENCH_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gb_suite;
struct gb_run; /* one measurement of one member by one thread */

enum gb_role {
	GB_SNEST,
	GB_LIMIT, /* what cannot be beaten */
	GB_PEER,  /* what others do */
};

/* Judged by the time on the wall, not by the thread's: where it sleeps, or others work for it. */
#define GB_REAL_TIME 0x1u
/* The member times itself and says so with gb_manual: parts shorter than a pause. */
#define GB_MANUAL 0x2u

struct gb_member {
	const char *name;
	enum gb_role role;
	uint32_t flags;      /* GB_* */
	uint32_t threads;    /* 0: 1 */
	uint32_t iterations; /* operations of a repetition; 0: as many as the time allows */
	void (*run)(struct gb_run *run, void *group, uint64_t arg);
	uint64_t arg;
};

struct gb_group {
	char name[64]; /* family/case */
	/* Returns what the members get as `group`. */
	void *(*setup)(const uint64_t *arg);
	void (*teardown)(void *group);
	uint64_t arg[4];
	const struct gb_member *members; /* not copied */
	uint32_t count;
	uint32_t repetitions; /* at most; 0: as many as of the others */
	bool by_flavour;      /* its figures depend on the RCU flavour */
};

struct gb_options {
	bool quick;
	unsigned repetitions;    /* 0: the default, by `quick` */
	double seconds;          /* of one repetition; 0: the default */
	const char *json;        /* file for Google Benchmark's format, or NULL */
	const char *const *only; /* prefixes of names; all if there are none */
	unsigned only_count;
	bool by_flavour;     /* only groups that depend on the RCU flavour */
	const char *flavour; /* what the context of the results says */
};

struct gb_suite *gb_create(const struct gb_options *options);
bool gb_quick(const struct gb_suite *suite);
void gb_add(struct gb_suite *suite, const struct gb_group *group);
/* How many groups were added that were asked for. */
unsigned gb_groups(const struct gb_suite *suite);
/* Prints the names of all members that were asked for. */
void gb_list(const struct gb_suite *suite);
/*
 * Runs what was asked for. On a terminal, stderr says how far it is. Returns the
 * number of measurements that failed, or -1: the file of results cannot be written.
 */
int gb_finish(struct gb_suite *suite);
void gb_destroy(struct gb_suite *suite);

/*
 * True while there is more to do: `n` operations, which the caller then does.
 * The first call ends the part that is not timed.
 */
bool gb_next(struct gb_run *run, uint64_t n);
/* Around work between operations that is not part of them. Costs about a microsecond. */
void gb_pause(struct gb_run *run);
void gb_resume(struct gb_run *run);
/* GB_MANUAL: the operations since gb_next took so long. */
void gb_manual(struct gb_run *run, uint64_t ns);
/* 0 .. threads - 1 */
unsigned gb_thread(const struct gb_run *run);
/* A figure beside the time, in the results. */
void gb_counter(struct gb_run *run, const char *name, double value);
/* Ends the measurement as failed. */
void gb_fail(struct gb_run *run, const char *why);

/* The compiler must assume that this value is used. */
#define gb_keep(value) __asm__ volatile("" : : "r"(value) : "memory")

#ifdef __cplusplus
}
#endif

#endif
