/* SPDX-License-Identifier: MIT */
/*
 * The page request queue: recoverable faults on their way to the guest.
 *
 * Entries are written under the front end's lock, each before the tail that
 * makes it visible. The guest owns PQH and may write anything there; both
 * offsets are cut to the ring before they are used.
 */
#include <errno.h>
#include <string.h>
#include "viommu/vtd.h"

#define PAGE_REQUEST_TYPE 1u

void sn_vtd_prs_written(struct snest_vtd *vtd)
{
	if (!(vtd->reg[REG_PRS] & (VTD_PPR | VTD_PRO)))
		sn_vtd_event_clear(vtd, EVENT_PAGE);
}

static void status_set(struct snest_vtd *vtd, uint64_t bit)
{
	bool quiet = !(vtd->reg[REG_PRS] & (VTD_PPR | VTD_PRO));

	vtd->reg[REG_PRS] |= bit;
	if (quiet)
		sn_vtd_event_raise(vtd, EVENT_PAGE);
}

static void encode(const struct snest_vtd_page_request *r, uint64_t *q)
{
	q[0] = PAGE_REQUEST_TYPE | (uint64_t)r->rid << 16;
	if (r->pasid != SNEST_NO_PASID)
		q[0] |= SN_BIT(8) | (uint64_t)r->pasid << 32;
	if (r->private_valid)
		q[0] |= SN_BIT(9);
	if (r->access & SNEST_EXEC)
		q[0] |= SN_BIT(52);
	if (r->access & SNEST_PRIVILEGED)
		q[0] |= SN_BIT(53);
	q[1] = (r->iova & VTD_ADDR) | (uint64_t)r->group << 3;
	q[1] |= (r->access & SNEST_READ ? 1 : 0) | (r->access & SNEST_WRITE ? 2 : 0) |
	        (r->last ? 4 : 0);
	q[2] = r->private_valid ? r->private_data[0] : 0;
	q[3] = r->private_valid ? r->private_data[1] : 0;
}

/* Only the last request of a group is answered. Under the lock. */
static void expect(struct snest_vtd *vtd, const struct snest_vtd_page_request *r)
{
	struct sn_vtd_device *device = r->last ? sn_vtd_device_find(vtd, r->rid) : NULL;

	if (device)
		device->groups[r->group / 64] |= SN_BIT(r->group % 64);
}

void sn_vtd_forget_groups(struct snest_vtd *vtd)
{
	struct sn_vtd_device *device;

	for (unsigned i = 0; i < SN_VTD_HASH; i++) {
		cds_list_for_each_entry (device, &vtd->device[i], hash)
			memset(device->groups, 0, sizeof(device->groups));
	}
}

/* 0, -ENOSPC, -EFAULT. Under the lock. */
static int enqueue(struct snest_vtd *vtd, const struct snest_vtd_page_request *r)
{
	uint64_t size = (uint64_t)VTD_PAGE_SIZE << (vtd->reg[REG_PQA] & 7);
	uint64_t head = vtd->reg[REG_PQH] & (size - 1), tail = vtd->reg[REG_PQT] & (size - 1);
	uint64_t next = (tail + VTD_PQ_ENTRY) & (size - 1), q[4];

	if (vtd->reg[REG_PRS] & VTD_PRO)
		return -ENOSPC;
	if (next == head) {
		status_set(vtd, VTD_PRO);
		return -ENOSPC;
	}
	encode(r, q);
	if (snest_guest_write(vtd->vm, (vtd->reg[REG_PQA] & VTD_ADDR) + tail, q, sizeof(q)))
		return -EFAULT;
	vtd->reg[REG_PQT] = next;
	vtd->stats.page_requests++;
	expect(vtd, r);
	status_set(vtd, VTD_PPR);
	return 0;
}

bool sn_vtd_page_response(struct snest_vtd *vtd, uint32_t rid, uint32_t group)
{
	struct sn_vtd_device *device;
	bool expected = false;

	sn_vtd_lock(vtd);
	device = sn_vtd_device_find(vtd, rid);
	if (device) {
		expected = device->groups[group / 64] >> group % 64 & 1;
		device->groups[group / 64] &= ~SN_BIT(group % 64);
	}
	vtd->stats.page_responses++;
	vtd->stats.page_responses_unexpected += !expected;
	sn_vtd_unlock(vtd);
	return expected;
}

int snest_vtd_page_request(struct snest_vtd *vtd, const struct snest_vtd_page_request *r)
{
	struct snest_request request = {
		.size = sizeof(request),
		.rid = r->rid,
		.pasid = r->pasid,
		.access = r->access,
		.kind = SNEST_REQUEST_PAGE,
		.iova = r->iova,
	};
	struct snest_context context;
	struct snest_device *handle;
	int ret;

	if (!(vtd->ecap & VTD_ECAP_PRS))
		return -EOPNOTSUPP;
	if (r->rid > 0xffff || r->group > 0x1ff || (r->pasid != SNEST_NO_PASID && r->pasid >> 20) ||
	    (r->access & ~(SNEST_RIGHTS | SNEST_PRIVILEGED)))
		return -EINVAL;
	/* The handle remembers who waits for a response. */
	ret = snest_vtd_device(vtd, r->rid, &handle);
	if (ret)
		return ret;
	sn_vtd_lock(vtd);
	sn_vtd_context(vtd, &request, &context);
	if (!vtd->te || context.outcome == SNEST_CONTEXT_BLOCKED) {
		ret = -EACCES;
	} else if (context.outcome == SNEST_CONTEXT_FAULT) {
		sn_vtd_record(vtd, &context, &request, &context.fault);
		ret = -EACCES;
	} else {
		ret = enqueue(vtd, r);
		vtd->stats.page_requests_lost += ret != 0;
	}
	sn_vtd_unlock(vtd);
	/*
	 * A response with success lets the device try again once there is room;
	 * a failure would turn its page requests off.
	 */
	if (ret == -ENOSPC && r->last && vtd->hooks.page_response) {
		struct snest_vtd_page_response response = {
			.rid = r->rid,
			.pasid = r->pasid,
			.group = r->group,
			.code = SNEST_VTD_RESPONSE_SUCCESS,
			.last = 1,
			.expected = 1,
		};

		vtd->hooks.page_response(vtd->hooks.opaque, &response);
	}
	return ret;
}
