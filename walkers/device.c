/* SPDX-License-Identifier: MIT */
/*
 * What all resolvers of device structures stand on: reading structures that
 * the guest may be changing, building contexts and faults, and walking through
 * a finished context (include/snest/device.h). No state; any thread.
 */
#include <errno.h>
#include <string.h>
#include <snest/walk.h>
#include "core/extensible.h"
#include "walkers/device.h"

static int request_in(struct snest_request *request, const struct snest_request *user)
{
	int ret = SN_STRUCT_IN(request, user);

	if (ret)
		return ret;
	if ((request->access & ~(SNEST_RIGHTS | SNEST_PRIVILEGED)) ||
	    (request->flags & ~SNEST_REQUEST_NO_UPDATE) || request->kind > SNEST_REQUEST_PAGE ||
	    (request->pasid > 0xfffff && request->pasid != SNEST_NO_PASID))
		return -EINVAL;
	return 0;
}

static void env_start(struct sn_device *d)
{
	sn_env_init(&d->env, d->vm, d->behind.pt, d->behind.count);
	d->env.update = !(d->request.flags & SNEST_REQUEST_NO_UPDATE);
	d->env.iova = d->request.iova;
}

int sn_device_begin(struct sn_device *d, struct snest_vm *vm, const struct snest_request *request,
                    struct snest_context *context, enum snest_iommu iommu, uint32_t rid_max)
{
	int ret = request_in(&d->request, request);

	if (ret)
		return ret;
	if (d->request.rid > rid_max)
		return -EINVAL;
	ret = sn_stages_prepare(&d->behind, vm, NULL, 0);
	if (ret)
		return ret;
	d->vm = vm;
	d->context = context;
	d->guest_behind = 0;
	d->big_endian = false;
	memset(context, 0, sizeof(*context));
	context->iommu = (uint8_t)iommu;
	context->rights = SNEST_RIGHTS;
	context->ia_bits = 64;
	context->pasid = d->request.pasid;
	sn_read_begin();
	env_start(d);
	return 0;
}

int sn_device_end(struct sn_device *d)
{
	(void)d;
	sn_read_end();
	return 0;
}

bool sn_device_behind(struct sn_device *d, const struct snest_stage *stage)
{
	struct sn_stages list;

	if (sn_stages_prepare(&list, d->vm, stage, 1))
		return false;
	d->behind = list;
	d->guest_behind = 1;
	d->stage_behind = *stage;
	env_start(d);
	return true;
}

bool sn_device_stage(struct sn_device *d, const struct snest_stage *stage)
{
	struct snest_context *c = d->context;

	if (snest_stage_check(stage, NULL))
		return false;
	c->stage[c->count++] = *stage;
	return true;
}

/* One copy of a structure, each word with one load. */
static bool read_once(const struct sn_target *t, uint64_t *words, unsigned count)
{
	if (t->region->direct) {
		const uint64_t *from = (const uint64_t *)(t->region->mapping + t->gpa);

		for (unsigned i = 0; i < count; i++)
			words[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
		return true;
	}

	const struct snest_accessors *a = t->region->accessors;

	return a && a->read && !a->read(a->opaque, t->gpa, words, count * sizeof(*words));
}

enum sn_device_read sn_device_read(struct sn_device *d, uint64_t addr, uint64_t *words,
                                   unsigned count)
{
	uint64_t again[SN_DEVICE_WORDS_MAX];
	struct sn_target t;
	bool rest = count == 1;

	if (sn_collapse(&d->env, 0, addr, SNEST_READ, &t, NULL)) {
		struct snest_fault *f = &d->context->fault;

		*f = d->env.fault;
		/* NO_STAGE is beyond all of them. */
		if (f->stage >= d->guest_behind && f->for_stage >= d->guest_behind)
			return SN_DEVICE_ABORT;
		/* In the context, the stage in front of the structures comes second. */
		f->stage++;
		if (f->for_stage != SNEST_NO_STAGE) {
			f->for_stage++;
		} else {
			f->for_stage = 0;
			f->for_level = SNEST_LEVEL_STRUCTURE;
		}
		return SN_DEVICE_FAULT;
	}
	if (!t.region || (t.region->flags & SNEST_REGION_NO_TABLES) || !read_once(&t, words, count))
		return SN_DEVICE_ABORT;
	for (unsigned i = 1; !rest && i < SN_DEVICE_TRIES; i++) {
		if (!read_once(&t, again, count))
			return SN_DEVICE_ABORT;
		rest = !memcmp(words, again, count * sizeof(*words));
		memcpy(words, again, count * sizeof(*words));
	}
	if (!rest)
		return SN_DEVICE_ABORT;
	for (unsigned i = 0; d->big_endian && i < count; i++)
		words[i] = __builtin_bswap64(words[i]);
	return SN_DEVICE_OK;
}

void sn_device_fault(struct sn_device *d, unsigned code, uint64_t addr, uint64_t word)
{
	struct snest_context *c = d->context;

	c->outcome = SNEST_CONTEXT_FAULT;
	c->count = 0;
	memset(c->stage, 0, sizeof(c->stage));
	c->fault = (struct snest_fault){
		.reason = SNEST_FAULT_CONFIG,
		.stage = SNEST_NO_STAGE,
		.for_stage = SNEST_NO_STAGE,
		.access = (uint8_t)d->request.access,
		.code = (uint16_t)code,
		.iova = d->request.iova,
		.input = d->request.iova,
		.entry_addr = addr,
		.entry = word,
	};
}

void sn_device_stage_fault(struct sn_device *d)
{
	struct snest_context *c = d->context;

	c->outcome = SNEST_CONTEXT_FAULT;
	memset(c->stage, 0, sizeof(c->stage));
	c->stage[1] = d->stage_behind;
	c->count = 2;
	c->fault.code = (uint16_t)snest_fault_code(c, &d->request, &c->fault);
}

void sn_device_blocked(struct sn_device *d)
{
	d->context->outcome = SNEST_CONTEXT_BLOCKED;
	d->context->count = 0;
	memset(d->context->stage, 0, sizeof(d->context->stage));
}

uint32_t sn_context_access(const struct snest_context *context, uint32_t access)
{
	if (context->flags & SNEST_CONTEXT_PRIVILEGED)
		access |= SNEST_PRIVILEGED;
	if (context->flags & SNEST_CONTEXT_UNPRIVILEGED)
		access &= ~SNEST_PRIVILEGED;
	if ((context->flags & SNEST_CONTEXT_DATA) && (access & SNEST_EXEC))
		access = (access & ~SNEST_EXEC) | SNEST_READ;
	/* A write is never an instruction fetch. */
	if ((context->flags & SNEST_CONTEXT_FETCH) && (access & SNEST_READ) &&
	    !(access & SNEST_WRITE))
		access = (access & ~SNEST_READ) | SNEST_EXEC;
	return access;
}

unsigned sn_context_check(const struct snest_context *context, const struct snest_request *request,
                          struct snest_fault *fault)
{
	uint32_t access = sn_context_access(context, request->access);
	uint32_t denied = access & SNEST_RIGHTS & ~(uint32_t)context->rights;
	unsigned reason = 0;

	if (request->iova & ~sn_mask(context->ia_bits))
		reason = SNEST_FAULT_INPUT_RANGE;
	else if (denied)
		reason = denied & SNEST_READ    ? SNEST_FAULT_READ
		         : denied & SNEST_WRITE ? SNEST_FAULT_WRITE
		                                : SNEST_FAULT_EXECUTE;
	if (!reason)
		return 0;
	*fault = (struct snest_fault){
		.reason = (uint8_t)reason,
		.stage = SNEST_NO_STAGE,
		.for_stage = SNEST_NO_STAGE,
		.access = (uint8_t)access,
		.iova = request->iova,
		.input = request->iova,
	};
	fault->code = (uint16_t)snest_fault_code(context, request, fault);
	return reason;
}

int snest_context_walk(struct snest_vm *vm, const struct snest_context *context,
                       const struct snest_request *user, struct snest_walk *result)
{
	struct snest_request request = {.size = 0};
	int ret = request_in(&request, user);

	if (ret)
		return ret;
	if (context->outcome != SNEST_CONTEXT_STAGES) {
		memset(result, 0, sizeof(*result));
		result->outcome = SNEST_WALK_FAULT;
		result->fault = context->fault;
		if (context->outcome == SNEST_CONTEXT_BLOCKED) {
			result->fault.reason = SNEST_FAULT_BLOCKED;
			result->fault.stage = result->fault.for_stage = SNEST_NO_STAGE;
			result->fault.iova = result->fault.input = request.iova;
		}
		return 0;
	}

	struct snest_fault fault;

	if (sn_context_check(context, &request, &fault)) {
		memset(result, 0, sizeof(*result));
		result->outcome = SNEST_WALK_FAULT;
		result->fault = fault;
		return 0;
	}
	ret = snest_walk(vm, context->stage, context->count, request.iova,
	                 sn_context_access(context, request.access),
	                 request.flags & SNEST_REQUEST_NO_UPDATE ? SNEST_WALK_NO_UPDATE : 0, result,
	                 NULL, NULL);
	if (ret)
		return ret;
	if (result->outcome == SNEST_WALK_FAULT)
		result->fault.code = (uint16_t)snest_fault_code(context, &request, &result->fault);
	else
		result->rights &= context->rights;
	return 0;
}

unsigned snest_fault_code(const struct snest_context *context, const struct snest_request *request,
                          const struct snest_fault *fault)
{
	uint32_t access = sn_context_access(context, request->access);
	struct snest_fault f = *fault;

	if (f.reason == SNEST_FAULT_CONFIG)
		return f.code;
	if (f.reason == SNEST_FAULT_NONE || f.reason == SNEST_FAULT_BLOCKED ||
	    f.reason == SNEST_FAULT_NO_HOST)
		return 0;
	if (f.stage != SNEST_NO_STAGE && f.stage >= context->count) {
		/* The host refused. To the guest that is memory which is not there. */
		if (f.for_stage >= context->count)
			return 0;
		f.reason = SNEST_FAULT_TABLE_ACCESS;
		f.stage = f.for_stage;
		f.level = f.for_level;
		f.for_stage = SNEST_NO_STAGE;
	}
	switch (context->iommu) {
	case SNEST_IOMMU_VTD:
		return sn_vtd_fault_code(context, &f, access);
	case SNEST_IOMMU_AMD:
		return sn_amd_fault_code(context, &f, access, request->kind);
	case SNEST_IOMMU_SMMU:
		return sn_smmu_fault_code(context, &f);
	case SNEST_IOMMU_RISCV:
		return sn_riscv_fault_code(context, &f, access);
	default:
		return 0;
	}
}
