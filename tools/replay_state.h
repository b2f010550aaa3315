/* SPDX-License-Identifier: MIT */
/*
 * What the history holds, for replay_history.c, which keeps it, and
 * replay_state.c, which saves it.
 */
#ifndef SN_TOOLS_REPLAY_STATE_H
#define SN_TOOLS_REPLAY_STATE_H

#include "tools/replay.h"

#define SN_HISTORY_BUCKETS 65536u
#define SN_REMEMBERED 4u

/* What was true of one page, newest first. */
struct sn_known {
	struct sn_known *next;
	uint32_t rid, pasid;
	uint64_t page;
	bool write;
	unsigned count;
	struct {
		struct sn_answer answer;
		uint64_t line; /* last line at which it was seen to be true */
	} was[SN_REMEMBERED];
};

/* A command, in the order of the trace. */
struct sn_covered {
	struct sn_cover cover;
	uint64_t line;
};

struct sn_history {
	struct sn_known *bucket[SN_HISTORY_BUCKETS];
	struct sn_covered *covered;
	size_t count, size;
	size_t doorbell; /* count at the latest tail write */
};

#endif
