/* SPDX-License-Identifier: MIT */
/*
 * From requests to spaces: device handles, and the bindings that lookups use.
 *
 * A binding is what the guest's context and PASID caches are in hardware: made
 * on the first request, taken away by the guest's commands, found by device
 * and by DID. Absence and errors are never remembered. The number of bindings
 * is bounded; the oldest makes room, and comes back when it is used again.
 *
 * The index by request is read without the lock by lookups that have to know
 * more than the space (vtd_translate.c): its chains are followed forwards only,
 * and what was unchained keeps its way on until its readers have gone.
 */
#include <errno.h>
#include <string.h>
#include "viommu/vtd.h"

static struct cds_list_head *device_bucket(const struct snest_vtd *vtd, uint32_t rid)
{
	return (struct cds_list_head *)&vtd->device[(rid ^ rid >> 8) % SN_VTD_HASH];
}

static struct cds_list_head *domain_bucket(struct snest_vtd *vtd, uint32_t did)
{
	return &vtd->domain[(did ^ did >> 8) % SN_VTD_HASH];
}

static struct sn_vtd_binding **request_bucket(const struct sn_vtd_device *device, uint32_t pasid)
{
	uint32_t hash = (pasid + snest_device_rid(device->handle)) * 0x9e3779b1u;

	return &device->vtd->request[(hash >> 16) % SN_VTD_REQUEST_HASH];
}

void sn_vtd_bind_init(struct snest_vtd *vtd)
{
	for (unsigned i = 0; i < SN_VTD_HASH; i++) {
		CDS_INIT_LIST_HEAD(&vtd->device[i]);
		CDS_INIT_LIST_HEAD(&vtd->domain[i]);
	}
	CDS_INIT_LIST_HEAD(&vtd->bindings);
	CDS_INIT_LIST_HEAD(&vtd->mirrors);
}

struct sn_vtd_device *sn_vtd_device_find(const struct snest_vtd *vtd, uint32_t rid)
{
	struct sn_vtd_device *device;

	cds_list_for_each_entry (device, device_bucket(vtd, rid), hash) {
		if (snest_device_rid(device->handle) == rid)
			return device;
	}
	return NULL;
}

/* Pairs with the publications in chain() and unchain(). */
static struct sn_vtd_binding *find_binding(const struct sn_vtd_device *device, uint32_t pasid)
{
	struct sn_vtd_binding *b = sn_deref(request_bucket(device, pasid));

	while (b && (b->device != device || b->pasid != pasid))
		b = sn_deref(&b->next_request);
	return b;
}

const struct sn_vtd_binding *sn_vtd_binding_find(const struct sn_vtd_device *device, uint32_t pasid)
{
	return find_binding(device, pasid);
}

/* Under the lock. */
static void chain(struct sn_vtd_binding *b)
{
	struct sn_vtd_binding **head = request_bucket(b->device, b->pasid);

	b->next_request = *head;
	b->prev_request = head;
	if (b->next_request)
		b->next_request->prev_request = &b->next_request;
	sn_publish(head, b);
}

/* Under the lock. */
static void unchain(struct sn_vtd_binding *b)
{
	if (b->next_request)
		b->next_request->prev_request = b->prev_request;
	sn_publish(b->prev_request, b->next_request);
}

/* ---- Unbinding -------------------------------------------------------------------- */

static void binding_freed(struct sn_reclaim_node *node)
{
	struct sn_vtd_binding *b = (void *)((char *)node - offsetof(struct sn_vtd_binding, node));

	sn_vm_free(b->vm, b, sizeof(*b));
}

/* Bindings that wait for somebody to wait: a guest need not ever do that. */
#define IDLE_BINDINGS 64u

/* Gives back what readers may still look at. Under the lock. */
static void retire(struct snest_vtd *vtd, struct sn_vtd_binding *b)
{
	sn_reclaim_defer_idly(&vtd->vm->reclaim, &b->node, binding_freed);
	if (++vtd->idle_bindings == IDLE_BINDINGS) {
		vtd->idle_bindings = 0;
		sn_reclaim_wake(&vtd->vm->reclaim);
	}
}

static void unbind(struct snest_vtd *vtd, struct sn_vtd_binding *b)
{
	snest_device_bind(b->device->handle, b->pasid, NULL);
	unchain(b);
	cds_list_del(&b->of_device);
	cds_list_del(&b->of_domain);
	cds_list_del(&b->age);
	vtd->stats.bindings--;
	retire(vtd, b);
}

void sn_vtd_unbind_request(struct sn_vtd_device *device, uint32_t pasid)
{
	struct sn_vtd_binding *b = find_binding(device, pasid);

	if (b)
		unbind(device->vtd, b);
}

void sn_vtd_unbind_all(struct snest_vtd *vtd)
{
	struct sn_vtd_binding *b, *next;

	cds_list_for_each_entry_safe (b, next, &vtd->bindings, age)
		unbind(vtd, b);
}

static void unbind_bindings_of(struct snest_vtd *vtd, struct sn_vtd_device *device)
{
	struct sn_vtd_binding *b, *next;

	cds_list_for_each_entry_safe (b, next, &device->bindings, of_device)
		unbind(vtd, b);
}

void sn_vtd_unbind_device(struct snest_vtd *vtd, uint32_t rid, unsigned function_mask)
{
	/* The bits of the function number that do not count. */
	static const uint8_t ignored[4] = {0, 4, 6, 7};
	uint32_t mask = ignored[function_mask & 3];

	for (uint32_t f = mask;; f = (f - 1) & mask) {
		struct sn_vtd_device *device = sn_vtd_device_find(vtd, (rid & ~mask) | f);

		if (device)
			unbind_bindings_of(vtd, device);
		if (!f)
			break;
	}
}

uint32_t sn_vtd_unbind_domain(struct snest_vtd *vtd, uint32_t did, uint32_t pasid)
{
	struct sn_vtd_binding *b, *next;
	uint32_t seen = 0;

	cds_list_for_each_entry_safe (b, next, domain_bucket(vtd, did), of_domain) {
		seen++;
		if (b->context.domain == did &&
		    (pasid == SNEST_ANY_PASID || b->context.pasid == pasid))
			unbind(vtd, b);
	}
	return seen;
}

/* ---- Binding ------------------------------------------------------------------------ */

void sn_vtd_context(struct snest_vtd *vtd, const struct snest_request *request,
                    struct snest_context *context)
{
	struct snest_vtd_registers registers = {
		.size = sizeof(registers),
		.haw = vtd->haw,
		.rtaddr = vtd->root,
		.cap = vtd->cap,
		.ecap = vtd->ecap,
	};

	if (vtd->te && !snest_vtd_context(vtd->vm, &registers, request, context))
		return;
	/* Translation off: everything passes. Also what the resolver takes for impossible. */
	memset(context, 0, sizeof(*context));
	context->iommu = SNEST_IOMMU_VTD;
	context->outcome = vtd->te ? SNEST_CONTEXT_BLOCKED : SNEST_CONTEXT_STAGES;
	context->rights = SNEST_RIGHTS;
	context->ia_bits = 64;
	context->pasid = request->pasid;
}

/* Kinds of access that this context refuses before any table is read. */
static uint32_t refused_kinds(struct snest_vtd *vtd, const struct snest_request *request)
{
	static const uint32_t kinds[] = {SNEST_EXEC, SNEST_PRIVILEGED};
	uint32_t refused = 0;

	for (unsigned i = 0; i < 2; i++) {
		struct snest_request probe = *request;
		struct snest_context context;

		probe.access = kinds[i];
		sn_vtd_context(vtd, &probe, &context);
		if (context.outcome != SNEST_CONTEXT_STAGES)
			refused |= kinds[i];
	}
	return refused;
}

/*
 * A space feeds one sink, so each mirrored request has a space of its own: it
 * carries the mirror's number where second stages have no PASID, and commands
 * by DID reach it as they do any other. 0: not mirrored.
 */
static uint32_t mirror_number(const struct sn_vtd_device *device, uint32_t pasid)
{
	struct sn_vtd_mirror *m;

	cds_list_for_each_entry (m, &device->mirrors, of_device) {
		if (m->pasid == pasid)
			return m->number;
	}
	return 0;
}

/* The space of a context: shared by all requests with the same stages and tag. */
static int space_of(struct sn_vtd_device *device, uint32_t pasid,
                    const struct snest_context *context, struct snest_space **space)
{
	struct snest_vtd *vtd = device->vtd;
	struct snest_space_config config = {
		.size = sizeof(config),
		.stages = context->stage,
		.count = context->count,
		.tag = {.domain = context->domain, .space = context->space},
		.table_bytes_max = vtd->table_bytes_max,
		.sync_entries_max = vtd->sync_entries_max,
	};
	bool first = context->count && context->stage[0].format != SNEST_FORMAT_VTD_SS;

	if (first)
		config.tag.domain |= SN_VTD_FIRST_STAGE_DOMAIN;
	else
		config.tag.space = mirror_number(device, pasid);
	/* Caching mode is about second stages; without a stage nothing changes unannounced. */
	if (!context->count || (!first && (vtd->cap & VTD_CAP_CM)))
		config.flags |= SNEST_SPACE_ANNOUNCED;
	return snest_space_get(vtd->vm, &config, space);
}

static void refuse(struct snest_fault *fault, unsigned reason, uint64_t iova, uint32_t access)
{
	*fault = (struct snest_fault){
		.reason = (uint8_t)reason,
		.stage = SNEST_NO_STAGE,
		.for_stage = SNEST_NO_STAGE,
		.access = (uint8_t)access,
		.iova = iova,
		.input = iova,
	};
}

/* What lookups check without looking at the binding. */
static void set_limits(struct sn_vtd_device *device, const struct snest_context *context)
{
	bool narrow = !context->count && context->ia_bits < 64;
	uint64_t last = narrow ? (1ull << context->ia_bits) - 1 : UINT64_MAX;
	uint32_t set = context->flags & SNEST_CONTEXT_PRIVILEGED ? SNEST_PRIVILEGED : 0;
	uint32_t keep = context->flags & (SNEST_CONTEXT_PRIVILEGED | SNEST_CONTEXT_UNPRIVILEGED)
	                        ? ~SNEST_PRIVILEGED
	                        : UINT32_MAX;

	__atomic_store_n(&device->privilege_keep, keep, __ATOMIC_RELAXED);
	__atomic_store_n(&device->privilege_set, set, __ATOMIC_RELAXED);
	__atomic_store_n(&device->pass_last, last, __ATOMIC_RELAXED);
}

static int no_space(struct snest_vtd *vtd, uint32_t rid, int error)
{
	sn_log_guest(vtd->vm, SNEST_LOG_WARNING, "vtd: rid %x: no space for its requests (%d)", rid,
	             error);
	return error;
}

int sn_vtd_bind(struct sn_vtd_device *device, uint32_t pasid, uint64_t iova, uint32_t access,
                struct snest_space **space_out, struct snest_fault *fault)
{
	struct snest_vtd *vtd = device->vtd;
	struct snest_request request = {
		.size = sizeof(request),
		.rid = snest_device_rid(device->handle),
		.pasid = pasid,
		.access = access,
		.kind = SNEST_REQUEST_UNTRANSLATED,
		.iova = iova,
	};
	struct sn_vtd_binding *b;
	struct snest_context context;
	struct snest_space *space;
	int ret;

	sn_vtd_context(vtd, &request, &context);
	if (context.outcome == SNEST_CONTEXT_FAULT) {
		*fault = context.fault;
		return -EACCES;
	}
	refuse(fault, SNEST_FAULT_BLOCKED, iova, access);
	if (context.outcome != SNEST_CONTEXT_STAGES)
		return -EACCES;
	if (vtd->stats.bindings >= vtd->bindings_max)
		unbind(vtd, cds_list_entry(vtd->bindings.next, struct sn_vtd_binding, age));
	b = sn_vm_alloc(vtd->vm, sizeof(*b));
	if (!b)
		return -ENOMEM;
	ret = space_of(device, pasid, &context, &space);
	if (ret) {
		sn_vm_free(vtd->vm, b, sizeof(*b));
		return no_space(vtd, request.rid, ret);
	}
	b->vm = vtd->vm;
	b->device = device;
	b->space = space;
	b->pasid = pasid;
	b->context = context;
	b->refused = vtd->te ? refused_kinds(vtd, &request) : 0;
	if (pasid == SNEST_NO_PASID)
		set_limits(device, &context);
	/* Before the space, so that a lookup that found this one finds the binding too. */
	chain(b);
	ret = snest_device_bind(device->handle, pasid, space);
	if (ret || !space_out)
		snest_space_put(space);
	else
		*space_out = space;
	if (ret) {
		unchain(b);
		retire(vtd, b);
		return no_space(vtd, request.rid, ret);
	}
	cds_list_add_tail(&b->of_device, &device->bindings);
	cds_list_add_tail(&b->of_domain, domain_bucket(vtd, context.domain));
	cds_list_add_tail(&b->age, &vtd->bindings);
	vtd->stats.bindings++;
	vtd->stats.binds++;
	return 0;
}

/* A lookup that found no binding. Inside its read section. */
int sn_vtd_resolve(void *opaque, struct snest_device *handle, uint32_t pasid, uint64_t iova,
                   uint32_t access, struct snest_fault *fault)
{
	struct sn_vtd_device *device = opaque;
	struct snest_vtd *vtd = device->vtd;
	int ret = 0;

	if (pasid != SNEST_NO_PASID && pasid >> 20) {
		refuse(fault, SNEST_FAULT_BLOCKED, iova, access);
		return -EACCES;
	}
	(void)handle;
	sn_vtd_lock(vtd);
	/* Another lookup may have been faster. */
	if (!find_binding(device, pasid))
		ret = sn_vtd_bind(device, pasid, iova, access, NULL, fault);
	sn_vtd_unlock(vtd);
	/* Without memory a request is refused, too; it is asked again the next time. */
	return ret ? -EACCES : 0;
}

/* ---- Devices ------------------------------------------------------------------------- */

int snest_vtd_device(struct snest_vtd *vtd, uint32_t rid, struct snest_device **out)
{
	struct sn_vtd_device *device;
	int ret = 0;

	if (rid > 0xffff)
		return -EINVAL;
	sn_vtd_lock(vtd);
	device = sn_vtd_device_find(vtd, rid);
	if (!device) {
		device = sn_vm_alloc(vtd->vm, sizeof(*device));
		ret = device ? 0 : -ENOMEM;
		if (!ret) {
			device->vtd = vtd;
			device->privilege_keep = UINT32_MAX;
			device->pass_last = UINT64_MAX;
			CDS_INIT_LIST_HEAD(&device->bindings);
			CDS_INIT_LIST_HEAD(&device->mirrors);
			ret = snest_device_create(vtd->vm, rid, sn_vtd_resolve, device,
			                          &device->handle);
		}
		if (ret)
			sn_vm_free(vtd->vm, device, sizeof(*device));
		else
			cds_list_add(&device->hash, device_bucket(vtd, rid));
	}
	if (!ret)
		*out = device->handle;
	sn_vtd_unlock(vtd);
	return ret;
}

/* Under the lock. */
static void device_free(struct snest_vtd *vtd, struct sn_vtd_device *device)
{
	unbind_bindings_of(vtd, device);
	cds_list_del(&device->hash);
	snest_device_destroy(device->handle);
	sn_vm_free(vtd->vm, device, sizeof(*device));
}

int snest_vtd_remove(struct snest_vtd *vtd, uint32_t rid)
{
	struct sn_vtd_device *device;

	sn_vtd_lock(vtd);
	device = rid <= 0xffff ? sn_vtd_device_find(vtd, rid) : NULL;
	sn_vtd_unlock(vtd);
	if (!device)
		return -ENOENT;
	sn_vtd_mirrors_drop(vtd, device);
	sn_vtd_lock(vtd);
	device_free(vtd, device);
	sn_vtd_unlock(vtd);
	return 0;
}

void sn_vtd_bind_fini(struct snest_vtd *vtd)
{
	for (unsigned i = 0; i < SN_VTD_HASH; i++) {
		struct sn_vtd_device *device, *next;

		cds_list_for_each_entry_safe (device, next, &vtd->device[i], hash)
			device_free(vtd, device);
	}
}
