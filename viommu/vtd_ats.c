/* SPDX-License-Identifier: MIT */
/*
 * Address translation services: translation requests of devices that have a
 * TLB of their own, and the translated requests that follow.
 *
 * A translation request walks the guest's tables anew and takes nothing from the
 * shadow, so a device's TLB is never filled through a stale entry, in whatever
 * order the guest invalidates. Context and walk are one read section: a drain
 * that begins after an invalidation waits for both, so flags are not set in a
 * table that the guest has taken back.
 *
 * A translated request carries a GPA. All of them are looked up in one space
 * without stages, which makes them as fast as any lookup and visible to the
 * dirty log; whether the guest lets this device send them is remembered per
 * device until the next change of root or context entries.
 */
#include <errno.h>
#include <string.h>
#include "viommu/vtd.h"
#include "walkers/device.h"

/* Bits of a 256-bit set of fault reasons. */
#define C(code) (1ull << ((code) % 64))

/*
 * The PCIe completion that goes with a fault reason. Missing rights are a
 * success without rights. What the guest has not allowed is unsupported; what it
 * allowed and got wrong is an abort. The public sources do not have the manual's
 * table: this follows PCIe's meaning of the two.
 */
static enum snest_vtd_completion completion_of(unsigned code)
{
	static const uint64_t none[4] = {
		C(0x04) | C(0x05) | C(0x06),
		C(0x71) | C(0x74) | C(0x75) | C(0x76) | C(0x79),
		C(0x80) | C(0x81) | C(0x82) | C(0x83) | C(0x84) | C(0x85) | C(0x86),
		0,
	};
	static const uint64_t unsupported[4] = {
		C(0x01) | C(0x02) | C(0x0d) | C(0x0e) | C(0x31) | C(0x39),
		C(0x41) | C(0x44) | C(0x45) | C(0x46) | C(0x48) | C(0x51) | C(0x59) | C(0x5c) |
			C(0x5d),
		C(0x87),
		0,
	};

	if (code > 0xff)
		return SNEST_VTD_COMPLETION_ABORT;
	if (none[code / 64] & C(code))
		return SNEST_VTD_COMPLETION_SUCCESS;
	return unsupported[code / 64] & C(code) ? SNEST_VTD_COMPLETION_UNSUPPORTED
	                                        : SNEST_VTD_COMPLETION_ABORT;
}

/* ---- Translation requests ---------------------------------------------------------- */

/* A translation request under way. */
struct ats {
	struct snest_vtd *vtd;
	struct snest_request request;
	struct snest_context context;
};

static bool in_interrupt_range(uint64_t first, uint64_t last)
{
	return first <= VTD_INTERRUPT_LAST && last >= VTD_INTERRUPT_FIRST;
}

/* Records a fault as the configuration has it, and says how the request completes. */
static enum snest_vtd_completion refused(struct ats *a, const struct snest_fault *fault)
{
	enum snest_vtd_completion completion = completion_of(fault->code);

	/* Without a code the guest's tables are not to blame. */
	if (!fault->code)
		return SNEST_VTD_COMPLETION_UNSUPPORTED;
	if (completion != SNEST_VTD_COMPLETION_SUCCESS) {
		sn_vtd_lock(a->vtd);
		sn_vtd_record(a->vtd, &a->context, &a->request, fault);
		sn_vtd_unlock(a->vtd);
	}
	return completion;
}

/* Resolves the context; rights that it refuses altogether are not asked for any more. */
static enum snest_vtd_completion resolve(struct ats *a)
{
	struct snest_vtd *vtd = a->vtd;
	struct snest_request fetch = a->request;
	struct snest_context context;
	bool te;

	a->request.access &= ~SNEST_EXEC;
	sn_vtd_lock(vtd);
	te = vtd->te;
	sn_vtd_context(vtd, &a->request, &a->context);
	if (fetch.access & SNEST_EXEC)
		sn_vtd_context(vtd, &fetch, &context);
	sn_vtd_unlock(vtd);
	if (!te || a->context.outcome == SNEST_CONTEXT_BLOCKED)
		return SNEST_VTD_COMPLETION_UNSUPPORTED;
	if (a->context.outcome == SNEST_CONTEXT_FAULT)
		return refused(a, &a->context.fault);
	if ((fetch.access & SNEST_EXEC) && (vtd->ecap & VTD_ECAP_ERS) &&
	    context.outcome == SNEST_CONTEXT_STAGES)
		a->request.access |= SNEST_EXEC;
	return SNEST_VTD_COMPLETION_SUCCESS;
}

static void walk(struct ats *a, uint32_t access, bool update, struct snest_walk *w)
{
	struct snest_request request = a->request;

	request.access = access | (a->request.access & SNEST_PRIVILEGED);
	request.flags = update ? 0 : SNEST_REQUEST_NO_UPDATE;
	if (snest_context_walk(a->vtd->vm, &a->context, &request, w)) {
		memset(w, 0, sizeof(*w));
		w->outcome = SNEST_WALK_FAULT;
	}
}

static bool snoops(const struct snest_walk *w)
{
	for (unsigned i = 0; i < w->stages; i++) {
		if (w->stage[i].attr & SNEST_ATTR_SNOOP)
			return true;
	}
	return false;
}

static void fill_in(const struct ats *a, const struct snest_walk *w, uint32_t rights,
                    struct snest_vtd_ats_entry *entry)
{
	uint64_t iova = a->request.iova, mask = w->lg2 > 63 ? UINT64_MAX : (1ull << w->lg2) - 1;
	uint64_t gpa = a->context.count ? w->stage[a->context.count - 1].output : iova;

	/* A device's TLB holds whole pages, and so the host map's odd ends are not for it. */
	mask |= 0xfff;
	*entry = (struct snest_vtd_ats_entry){
		.first = iova & ~mask,
		.last = iova | mask,
		.gpa = gpa & ~mask,
		.rights = rights,
	};
	if (w->outcome == SNEST_WALK_GPA || w->lg2 < 12)
		entry->flags |= SNEST_VTD_ATS_UNTRANSLATED;
	if (snoops(w))
		entry->flags |= SNEST_VTD_ATS_SNOOP;
	if (a->request.access & SNEST_PRIVILEGED)
		entry->flags |= SNEST_VTD_ATS_PRIVILEGED;
}

static void nothing(const struct ats *a, struct snest_vtd_ats_entry *entry)
{
	*entry = (struct snest_vtd_ats_entry){
		.first = a->request.iova & ~0xfffull,
		.last = a->request.iova | 0xfff,
	};
}

/*
 * Translates the page at request.iova. First without touching anything, to know
 * what may be asked for; then for exactly that, so that accessed and dirty flags
 * are set as for a request of the device: it will not tell when it writes.
 */
static enum snest_vtd_completion translate(struct ats *a, struct snest_vtd_ats_entry *entry)
{
	uint32_t rights;
	struct snest_walk w;

	nothing(a, entry);
	if (a->request.pasid == SNEST_NO_PASID &&
	    in_interrupt_range(a->request.iova, a->request.iova))
		return SNEST_VTD_COMPLETION_SUCCESS;
	walk(a, 0, false, &w);
	rights = w.rights & a->request.access & SNEST_RIGHTS;
	if (w.outcome != SNEST_WALK_FAULT && rights)
		walk(a, rights, true, &w);
	/* The dirty flag may be where the guest may not write: reading is still allowed. */
	if (w.outcome == SNEST_WALK_FAULT && (rights & SNEST_WRITE) && (rights & ~SNEST_WRITE)) {
		rights &= ~SNEST_WRITE;
		walk(a, rights, true, &w);
	}
	if (w.outcome == SNEST_WALK_FAULT)
		return refused(a, &w.fault);
	if (!rights)
		return SNEST_VTD_COMPLETION_SUCCESS;
	fill_in(a, &w, rights, entry);
	if (in_interrupt_range(entry->gpa, entry->gpa + (entry->last - entry->first))) {
		struct snest_fault fault = {
			.reason = SNEST_FAULT_BLOCKED,
			.stage = SNEST_NO_STAGE,
			.for_stage = SNEST_NO_STAGE,
			.access = (uint8_t)rights,
			.code = a->context.flags & SNEST_CONTEXT_SCALABLE ? 0x87 : 0xe,
			.iova = a->request.iova,
			.input = a->request.iova,
		};

		/* Of a large page only this part of it is meant, if that is outside. */
		if (!in_interrupt_range(w.gpa & ~0xfffull, w.gpa | 0xfff)) {
			entry->first = a->request.iova & ~0xfffull;
			entry->last = a->request.iova | 0xfff;
			entry->gpa = w.gpa & ~0xfffull;
			return SNEST_VTD_COMPLETION_SUCCESS;
		}
		nothing(a, entry);
		return refused(a, &fault);
	}
	return SNEST_VTD_COMPLETION_SUCCESS;
}

int snest_vtd_ats_request(struct snest_vtd *vtd, const struct snest_vtd_ats_request *r,
                          struct snest_vtd_ats_entry *entries, size_t *count,
                          enum snest_vtd_completion *completion)
{
	struct ats a = {
		.vtd = vtd,
		.request =
			{
				.size = sizeof(a.request),
				.rid = r->rid,
				.pasid = r->pasid,
				.access = r->access,
				.kind = SNEST_REQUEST_TRANSLATION,
				.iova = r->iova,
			},
	};
	size_t room = *count, n = 0;

	*count = 0;
	*completion = SNEST_VTD_COMPLETION_UNSUPPORTED;
	if (r->rid > 0xffff || (r->pasid != SNEST_NO_PASID && r->pasid >> 20) || !r->pages ||
	    !room || !(r->access & SNEST_RIGHTS) ||
	    (r->access & ~(SNEST_RIGHTS | SNEST_PRIVILEGED)))
		return -EINVAL;
	if (!(vtd->ecap & VTD_ECAP_DT))
		return -EOPNOTSUPP;

	uint64_t first = r->iova & ~0xfffull, size = (uint64_t)r->pages << 12;
	uint64_t last = size - 1 > UINT64_MAX - first ? UINT64_MAX : first + size - 1;

	sn_read_begin();
	*completion = resolve(&a);
	/* Units that do not know privileged requests grant them nothing. */
	if (!*completion && (r->access & SNEST_PRIVILEGED) && !(vtd->ecap & VTD_ECAP_SRS)) {
		nothing(&a, &entries[n++]);
	} else if (!*completion) {
		for (a.request.iova = first; n < room; a.request.iova = entries[n - 1].last + 1) {
			enum snest_vtd_completion one = translate(&a, &entries[n]);

			/* What comes after something good is left to the next request. */
			if (n && (one || !entries[n].rights))
				break;
			*completion = one;
			if (one)
				break;
			n++;
			if (entries[n - 1].last >= last || !entries[n - 1].rights)
				break;
		}
	}
	sn_read_end();
	*count = n;
	return 0;
}

/* ---- Translated requests ----------------------------------------------------------- */

/* Asks the guest's tables whether the device may send translated requests. 0 or -EACCES. */
static int may_send(struct snest_vtd *vtd, struct sn_vtd_device *device,
                    const struct snest_request *request, struct snest_fault *fault)
{
	struct snest_context context;
	int ret = 0;

	sn_vtd_lock(vtd);
	sn_vtd_context(vtd, request, &context);
	if (vtd->te && context.outcome == SNEST_CONTEXT_STAGES) {
		__atomic_store_n(&device->translated, vtd->generation, __ATOMIC_RELAXED);
	} else {
		if (vtd->te && context.outcome == SNEST_CONTEXT_FAULT) {
			*fault = context.fault;
			sn_vtd_record(vtd, &context, request, fault);
		}
		ret = -EACCES;
	}
	sn_vtd_unlock(vtd);
	return ret;
}

int snest_vtd_translated(struct snest_vtd *vtd, uint32_t rid, uint64_t gpa, uint32_t access,
                         struct snest_translation *t, struct snest_fault *fault)
{
	struct snest_device *handle = snest_device_find(vtd->vm, rid);
	struct sn_vtd_device *device = sn_vtd_device_of(vtd, handle);
	struct snest_request request = {
		.size = sizeof(request),
		.rid = rid,
		.pasid = SNEST_NO_PASID,
		.access = access,
		.kind = SNEST_REQUEST_TRANSLATED,
		.iova = gpa,
	};
	struct snest_fault ignored;
	int ret = 0;

	if (!vtd->pass)
		return -EOPNOTSUPP;
	if (!device) {
		ret = snest_vtd_device(vtd, rid, &handle);
		if (ret)
			return ret;
		device = sn_vtd_device_of(vtd, handle);
	}
	fault = fault ? fault : &ignored;
	*fault = (struct snest_fault){
		.reason = SNEST_FAULT_BLOCKED,
		.stage = SNEST_NO_STAGE,
		.for_stage = SNEST_NO_STAGE,
		.access = (uint8_t)access,
		.iova = gpa,
		.input = gpa,
	};
	/*
	 * The generation first: it changes under the lock, before a command that
	 * takes the permission away returns, and `translated` is older or equal.
	 */
	if (__atomic_load_n(&vtd->generation, __ATOMIC_ACQUIRE) !=
	    __atomic_load_n(&device->translated, __ATOMIC_RELAXED))
		ret = may_send(vtd, device, &request, fault);
	if (!ret && in_interrupt_range(gpa, gpa))
		ret = -EACCES;
	if (!ret)
		return snest_space_translate(vtd->pass, gpa, access & ~SNEST_PRIVILEGED, t, fault);
	memset(t, 0, sizeof(*t));
	t->outcome = SNEST_WALK_FAULT;
	return ret;
}
