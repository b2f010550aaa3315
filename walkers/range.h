/* SPDX-License-Identifier: MIT */
/*
 * Enumeration: all mapped runs of a range, through any number of stages.
 *
 * Each stage's tables are visited in order of its input; every run found there
 * is a range of the next stage's input and is enumerated there. What comes out
 * of the last stage is cut along the regions of the memory map, merged, and
 * handed to the visitor. The recursion is as deep as stages and levels allow,
 * never as deep as the guest likes.
 */
#ifndef SN_WALKERS_RANGE_H
#define SN_WALKERS_RANGE_H

#include "walkers/env.h"

/* A run of one stage: input first..last leads to addr.. with these rights. */
struct sn_run {
	uint64_t first, last, addr;
	uint64_t iova; /* the IOVA of first */
	uint8_t rights;
	uint8_t lg2;
	bool valid;
};

struct sn_ranger {
	struct sn_env env;
	uint32_t privilege; /* SNEST_PRIVILEGED or 0 */
	uint64_t budget;    /* entries that may still be read */
	uint64_t tables;
	uint64_t resume;                         /* after -EAGAIN: IOVA to go on from */
	struct sn_run pending[SNEST_MAX_STAGES]; /* the open run of each stage */
	/* What the runs of earlier stages, being enumerated in stage k, leave over. */
	uint8_t carry_rights[SNEST_MAX_STAGES + 1];
	uint8_t carry_lg2[SNEST_MAX_STAGES + 1];
	uint8_t first_lg2; /* largest page of the first stage's run that is being enumerated */
	struct snest_run out;
	bool out_valid;
	snest_run_fn visit;
	void *opaque;
};

/*
 * A budget that always gets further: more than an entry for each level of each
 * stage, and the next one of each. With less, resume may be where the call began.
 */
#define SN_RANGE_BUDGET_MIN 256

/* Emits the open run of stage k to what comes behind it. 0, -EAGAIN, or the visitor's value. */
int sn_ranger_flush(struct sn_ranger *r, unsigned k);

/*
 * Where the bytes of a table of stage k can be read: *ptr and how many of
 * `length` bytes lie there, or NULL and how many to skip or to read one by one
 * (*readable).
 */
size_t sn_ranger_table(struct sn_ranger *r, unsigned k, unsigned level, uint64_t at, size_t length,
                       const void **ptr, bool *readable);

/* One call per piece found; merges with the open run where it continues it. */
static inline int sn_ranger_piece(struct sn_ranger *r, unsigned k, uint64_t first, uint64_t last,
                                  uint64_t addr, uint64_t iova, uint8_t rights, uint8_t lg2)
{
	struct sn_run *run = &r->pending[k];

	if (run->valid && run->rights == rights && run->last + 1 == first &&
	    run->addr + (first - run->first) == addr && run->iova + (first - run->first) == iova) {
		run->last = last;
		if (run->lg2 < lg2)
			run->lg2 = lg2;
		return 0;
	}
	if (run->valid) {
		int ret = sn_ranger_flush(r, k);

		if (ret)
			return ret;
	}
	*run = (struct sn_run){first, last, addr, iova, rights, lg2, true};
	return 0;
}

/* Enumerates first..last of stage 0's input. As snest_walk_range. Inside a read section. */
int sn_ranger_run(struct sn_ranger *r, uint64_t first, uint64_t last);

#endif
