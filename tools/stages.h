/* SPDX-License-Identifier: MIT */
/*
 * Lists of stages as a user writes them: "format=vtd-ss,root=0x1000,levels=4".
 */
#ifndef SN_TOOLS_STAGES_H
#define SN_TOOLS_STAGES_H

#include <snest/stage.h>
#include "tools/tool.h"

struct sn_stage_list {
	struct snest_stage stage[SNEST_MAX_STAGES];
	unsigned count;
};

/* Parameters of a stage, at most. */
#define SN_STAGE_KEYS_MAX 16

/* Name of parameter i ("format", "root", ...), NULL behind the last. */
const char *sn_stage_key(unsigned i);

/*
 * Appends the stage whose parameter i is values[i], NULL for not given. 0, or
 * an exit status with a message printed.
 */
int sn_stages_add(const struct sn_tool *tool, struct sn_stage_list *list,
                  const char *const *values);

/* Appends the stage that "key=value,..." describes. Changes `text`. As above. */
int sn_stages_add_text(const struct sn_tool *tool, struct sn_stage_list *list, char *text);

/* Checks all stages with snest_stage_check. As above. */
int sn_stages_check(const struct sn_tool *tool, const struct sn_stage_list *list);

/*
 * Name of the next flag that is set in a stage, NULL if there is none left.
 * *next is 0 at first, and where to go on afterwards.
 */
const char *sn_stage_flag(const struct snest_stage *stage, unsigned *next);

/* Keys, formats and flags, for --help. */
void sn_stages_help(void);

#endif
