/* SPDX-License-Identifier: MIT */
/*
 * Doing one walk and keeping what it read (tools/walk_view.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/walk_view.h"

/* Six stages of six levels read about a hundred thousand entries; this is no limit in practice. */
#define STEPS_MAX ((size_t)1 << 20)
#define STEPS_FIRST 256

/* Walks with the steps listed, once more if there was no room for all of them. */
static int walk(const struct sn_walk_view *view, struct sn_walk_record *record, uint32_t access,
                struct snest_walk *result)
{
	size_t n = STEPS_FIRST;

	for (;;) {
		int ret;

		if (n > record->capacity) {
			struct snest_walk_step *steps = realloc(record->steps, n * sizeof(*steps));

			if (!steps)
				return -ENOMEM;
			record->steps = steps;
			record->capacity = n;
		}
		n = record->capacity;
		ret = snest_walk(view->vm, view->stages, view->count, view->request.iova, access,
		                 SNEST_WALK_NO_UPDATE, result, record->steps, &n);
		if (ret)
			return ret;
		record->nsteps = n < record->capacity ? n : record->capacity;
		if (n <= record->capacity || record->capacity == STEPS_MAX)
			return 0;
		n = n < STEPS_MAX ? n : STEPS_MAX;
	}
}

/* The access that the stages see once the context has had its say. */
static uint32_t stage_access(const struct snest_context *context, uint32_t access)
{
	if (context->flags & SNEST_CONTEXT_PRIVILEGED)
		access |= SNEST_PRIVILEGED;
	if (context->flags & SNEST_CONTEXT_UNPRIVILEGED)
		access &= ~SNEST_PRIVILEGED;
	if ((context->flags & SNEST_CONTEXT_DATA) && (access & SNEST_EXEC))
		access = (access & ~SNEST_EXEC) | SNEST_READ;
	if ((context->flags & SNEST_CONTEXT_FETCH) && (access & SNEST_READ))
		access = (access & ~SNEST_READ) | SNEST_EXEC;
	return access;
}

int sn_walk_record(const struct sn_walk_view *view, struct sn_walk_record *record)
{
	const struct snest_context *context = view->context;
	struct snest_walk shadowed;
	int ret;

	record->nsteps = 0;
	if (!context)
		return walk(view, record, view->request.access, &record->result);
	ret = snest_context_walk(view->vm, context, &view->request, &record->result);
	if (ret)
		return ret;
	/*
	 * The entries are read by a second walk, which tells the same as long
	 * as the request goes through all stages from the first.
	 */
	if (context->outcome != SNEST_CONTEXT_STAGES || context->count == 0 ||
	    view->request.kind != SNEST_REQUEST_UNTRANSLATED ||
	    (record->result.outcome == SNEST_WALK_FAULT &&
	     record->result.fault.stage == SNEST_NO_STAGE))
		return 0;
	return walk(view, record, stage_access(context, view->request.access), &shadowed);
}

/* Depth of the entry of `stage` at `level` that was sought and never read. */
static unsigned sought_depth(const struct sn_walk_record *record, unsigned stage, unsigned level)
{
	for (size_t i = record->nsteps; stage && i--;) {
		const struct snest_walk_step *step = &record->steps[i];

		if (step->stage != stage || step->level <= level)
			continue;
		/* The table above it was read for the same purpose, which is unfinished too. */
		return step->for_stage < stage
		               ? 1 + sought_depth(record, step->for_stage, step->for_level)
		               : 0;
	}
	/* The top table of a later stage: sought for a table of the stage in front. */
	return stage;
}

unsigned char *sn_walk_depths(const struct sn_walk_record *record)
{
	unsigned char *depths = malloc(record->nsteps + 1);
	unsigned next[SNEST_MAX_STAGES];
	bool known[SNEST_MAX_STAGES] = {false};

	if (!depths)
		return NULL;
	/*
	 * What was read on behalf of an entry comes directly in front of it: the
	 * next entry of that stage, or none if the walk ended in between.
	 */
	for (size_t i = record->nsteps; i--;) {
		const struct snest_walk_step *step = &record->steps[i];
		unsigned stage = step->stage % SNEST_MAX_STAGES;
		unsigned owner = step->for_stage % SNEST_MAX_STAGES;
		unsigned depth = 0;

		if (step->for_stage != SNEST_NO_STAGE) {
			if (!known[owner]) {
				next[owner] = sought_depth(record, owner, step->for_level);
				known[owner] = true;
			}
			depth = next[owner] + 1;
		}
		depths[i] = (unsigned char)depth;
		next[stage] = depth;
		known[stage] = true;
	}
	return depths;
}
