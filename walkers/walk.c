/* SPDX-License-Identifier: MIT */
/*
 * The public walks over lists of stages (include/snest/walk.h). Each call
 * prepares its list, opens a read section, and works on its own stack.
 */
#include <errno.h>
#include <string.h>
#include "core/extensible.h"
#include "walkers/range.h"
#include "walkers/walk.h"

int sn_stages_prepare(struct sn_stages *list, struct snest_vm *vm, const struct snest_stage *stages,
                      unsigned count)
{
	bool host = vm->host_stage.format != SNEST_FORMAT_NONE;

	if (count + host > SNEST_MAX_STAGES || count > SNEST_MAX_STAGES)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		int ret = sn_pt_prepare(&list->pt[i], &stages[i], NULL);

		if (ret)
			return ret;
	}
	list->count = count + host;
	return host ? sn_pt_prepare(&list->pt[count], &vm->host_stage, NULL) : 0;
}

int snest_walk(struct snest_vm *vm, const struct snest_stage *stages, unsigned count, uint64_t iova,
               uint32_t access, uint32_t flags, struct snest_walk *result,
               struct snest_walk_step *steps, size_t *nsteps)
{
	struct sn_stages list;
	struct sn_target target;
	struct sn_env env;
	int ret = sn_stages_prepare(&list, vm, stages, count);

	if (ret)
		return ret;
	if ((access & ~(SNEST_RIGHTS | SNEST_PRIVILEGED)) || (flags & ~SNEST_WALK_NO_UPDATE) ||
	    (steps && !nsteps))
		return -EINVAL;
	memset(result, 0, sizeof(*result));

	sn_read_begin();
	sn_env_init(&env, vm, list.pt, list.count);
	env.update = !(flags & SNEST_WALK_NO_UPDATE);
	env.iova = iova;
	env.steps = steps;
	env.steps_max = steps ? *nsteps : 0;
	if (sn_collapse(&env, 0, iova, access, &target, result->stage)) {
		result->outcome = SNEST_WALK_FAULT;
		result->fault = env.fault;
	} else {
		result->outcome = target.region ? SNEST_WALK_HOST : SNEST_WALK_GPA;
		result->stages = (uint8_t)list.count;
		result->lg2 = target.lg2;
		result->rights = target.rights;
		result->attr = target.attr;
		result->host = target.host;
		result->gpa = target.gpa;
	}
	sn_read_end();
	if (nsteps)
		*nsteps = env.steps_count;
	return 0;
}

int snest_walk_range(struct snest_vm *vm, const struct snest_stage *stages, unsigned count,
                     struct snest_walk_range *range, snest_run_fn visit, void *opaque)
{
	struct snest_walk_range in;
	struct sn_stages list;
	struct sn_ranger r;
	int ret = sn_struct_in(&in, sizeof(in), range, range->size);

	if (ret)
		return ret;
	if (in.first > in.last || (in.access & ~SNEST_PRIVILEGED) || in.flags)
		return -EINVAL;
	ret = sn_stages_prepare(&list, vm, stages, count);
	if (ret)
		return ret;
	r.privilege = in.access;
	r.budget = in.budget ? in.budget : UINT64_MAX;
	r.tables = 0;
	r.resume = in.first;
	r.visit = visit;
	r.opaque = opaque;

	sn_read_begin();
	sn_env_init(&r.env, vm, list.pt, list.count);
	r.env.update = false;
	ret = sn_ranger_run(&r, in.first, in.last);
	sn_read_end();

	range->tables += r.tables;
	if (range->size >= offsetof(struct snest_walk_range, entries) + sizeof(range->entries))
		range->entries += (in.budget ? in.budget : UINT64_MAX) - r.budget;
	if (ret != -EAGAIN)
		return ret;
	/* Who calls again with the same budget would do so for ever. */
	if (r.resume == in.first)
		return -ENOSPC;
	range->first = r.resume;
	return ret;
}

/* Declared by core (core/vm.h), which copies guest memory through the host stage with it. */
int sn_collapse_copy(struct snest_vm *vm, uint64_t addr, void *buf, size_t length, bool write)
{
	struct sn_stages list;
	struct sn_env env;
	int ret = sn_stages_prepare(&list, vm, NULL, 0);

	if (ret)
		return ret;
	sn_env_init(&env, vm, list.pt, list.count);
	return sn_env_copy(&env, 0, addr, buf, length, write) ? -EFAULT : 0;
}
