/* SPDX-License-Identifier: MIT */
/* What the command line of `snest difffuzz` asks for, and the stages that follow from it. */
#ifndef SN_TOOLS_DIFFFUZZ_QUERY_H
#define SN_TOOLS_DIFFFUZZ_QUERY_H

#include "tools/difffuzz.h"
#include "tools/stages.h"

/* The command line, understood. */
struct sn_diff_query {
	const char *walker, *save;
	const char *keys[SN_STAGE_KEYS_MAX]; /* of sn_stage_key(); [0] is the format */
	uint64_t seed, seconds, count, first, differences, timeout_ms;
	bool seconds_given, count_given;
	bool json, verbose, quiet, help;
};

void sn_diff_help(void);

/* Reads the options into *q, and those about differences into *d. 0, or an exit status. */
int sn_diff_parse(struct sn_tool *tool, struct sn_diff_query *q, struct sn_diff *d, int argc,
                  char **argv);

/* Is it a root? Those are the generator's. */
bool sn_diff_key_is_root(const char *key);

/*
 * Opens the stage that the options describe, or all of the format, in d->walker,
 * which was started. Names the format in q->keys. 0, or an exit status.
 */
int sn_diff_stages_open(struct sn_diff *d, struct sn_diff_query *q);

#endif
