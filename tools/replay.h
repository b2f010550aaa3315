/* SPDX-License-Identifier: MIT */
/*
 * `snest replay`: the recorded life of a guest, lived again.
 *
 * One trace is applied event by event: guest memory, register writes, and at
 * each recorded answer the same DMA is translated through snest's front end and
 * compared. Two judges look at each answer: a fresh walk of the tables as they
 * are now must agree with every answer that the recording VMM did not take from
 * its own cache, and what snest answers from its shadow must be that, or an
 * older answer that no invalidation has covered since.
 *
 * replay_run.c applies events, replay_check.c judges, replay_mirror.c keeps and
 * verifies sinks, replay_report.c prints. Single-threaded but for what the
 * files say.
 */
#ifndef SN_TOOLS_REPLAY_H
#define SN_TOOLS_REPLAY_H

#include <snest/device.h>
#include <snest/space.h>
#include <snest/vtd.h>
#include "tools/sparse.h"
#include "tools/tool.h"
#include "tools/trace.h"

/* What a translation came to. */
struct sn_answer {
	bool ok;
	uint8_t rights; /* SNEST_READ, SNEST_WRITE */
	uint8_t lg2;    /* size of the translation */
	uint32_t code;  /* fault code, 0: none reported */
	uint64_t gpa;
};

/* Times in nanoseconds, in buckets of an eighth of a power of two. */
struct sn_histogram {
	uint64_t count, total, max;
	uint64_t bucket[64 * 8];
};

void sn_histogram_add(struct sn_histogram *histogram, uint64_t ns);
/* The time that `percent` of the entries do not exceed; 0 if there are none. */
uint64_t sn_histogram_at(const struct sn_histogram *histogram, double percent);

/* A wrong answer, for the report. */
struct sn_wrong {
	uint64_t line;
	const char *judge; /* which comparison failed */
	uint32_t rid, pasid;
	uint64_t iova;
	bool write;
	struct sn_answer expected, got;
	struct snest_context context;
	struct snest_walk_step step[16];
	size_t steps;
};
#define SN_WRONG_MAX 8

struct sn_replay_counts {
	uint64_t events[SN_TRACE_ANSWER + 1];
	uint64_t checked, agreed, stale, wrong, cached;
	uint64_t lookup_ns;
	uint64_t mirror_checks, mirror_wrong, mirror_entries;
};

struct sn_replay_options {
	bool mirror;
	bool quiet;    /* no progress */
	unsigned threads;
};

struct sn_history;
struct sn_mirrors;

struct sn_replay {
	const struct sn_replay_options *options;
	struct sn_tool *tool;
	const char *file;
	struct sn_trace *trace;
	struct sn_sparse *memory;
	struct snest_vm *vm;
	struct snest_vtd *vtd;
	struct snest_vtd_registers registers; /* rtaddr as latched, for the fresh walk */
	uint64_t rtaddr_written;
	bool enabled; /* GSTS.TE */
	bool check_due; /* the mirrors are to be compared behind the commands that follow */
	uint64_t line;
	struct sn_history *history;
	struct sn_mirrors *mirrors;
	struct sn_replay_counts counts;
	struct sn_histogram doorbell; /* one tail write, its drain included */
	struct sn_wrong wrong[SN_WRONG_MAX];
	struct snest_vm_stats vm_stats;   /* at the end */
	struct snest_vtd_stats vtd_stats; /* at the end */
	uint64_t elapsed_ns;
};

/* Replays one file. 0, or a negative errno after a message. r->counts says how it went. */
int sn_replay_run(struct sn_replay *r);

/* ---- replay_check.c ---- */

int sn_history_create(struct sn_history **history);
void sn_history_destroy(struct sn_history *history);
/* Judges one recorded answer. 0 or -ENOMEM. */
int sn_replay_check(struct sn_replay *r, const struct sn_trace_event *event);
/* Takes note of a command, for what is legal afterwards. */
int sn_replay_command(struct sn_replay *r, const uint8_t *bytes, unsigned length);
/* A tail write: the commands that follow belong to it. */
void sn_replay_doorbell(struct sn_replay *r);
/* Did a command of the latest tail write cover any of first..last of the domain? */
bool sn_replay_covered_now(const struct sn_replay *r, uint32_t domain, uint64_t first,
                           uint64_t last);
/* Everything was invalidated. */
int sn_replay_invalidated(struct sn_replay *r);

/* ---- replay_mirror.c ---- */

int sn_mirrors_create(struct sn_mirrors **mirrors);
void sn_mirrors_destroy(struct sn_mirrors *mirrors);
/* Attaches a sink to the device if it has none. 0 or -errno. */
int sn_replay_mirror(struct sn_replay *r, uint32_t rid);
/* Compares every sink with a fresh walk. */
void sn_replay_mirror_check(struct sn_replay *r);
/* Operations and pages mapped so far, over all sinks. */
void sn_mirrors_totals(const struct sn_mirrors *mirrors, uint64_t *maps, uint64_t *unmaps,
                       uint64_t *batches, uint64_t *pages);

/* ---- replay_report.c ---- */

void sn_replay_report(const struct sn_replay *r);
void sn_replay_json(const struct sn_replay *r);

#endif
