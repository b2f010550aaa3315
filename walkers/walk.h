/* SPDX-License-Identifier: MIT */
/*
 * Lists of stages as the rest of snest uses them: prepared once, walked often.
 *
 * A list holds the guest's stages and, behind them, the VM's host stage if it
 * has one. Immutable after sn_stages_prepare, so any thread may walk it.
 */
#ifndef SN_WALKERS_WALK_H
#define SN_WALKERS_WALK_H

#include "walkers/env.h"

struct sn_stages {
	unsigned count;
	struct sn_pt pt[SNEST_MAX_STAGES];
};

/*
 * Checks and prepares `count` stages plus the VM's host stage.
 * 0, -EINVAL (also: too many), -EOPNOTSUPP, -E2BIG.
 */
int sn_stages_prepare(struct sn_stages *list, struct snest_vm *vm, const struct snest_stage *stages,
                      unsigned count);

#endif
