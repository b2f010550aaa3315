/* SPDX-License-Identifier: MIT */
/*
 * Fault recording registers: the records, their overflow, and which faults get
 * one. Everything under the front end's lock.
 *
 * Each fault that the architecture reports takes a record while one is free;
 * only log lines are limited in rate.
 */
#include "viommu/vtd.h"

#define RECORD_BYTES 16u

uint32_t sn_vtd_frcd_read(const struct snest_vtd *vtd, unsigned offset)
{
	const struct sn_vtd_frcd *r = &vtd->frcd[offset / RECORD_BYTES];
	uint64_t half = offset & 8 ? r->high : r->low;

	return (uint32_t)(half >> 8 * (offset & 4));
}

void sn_vtd_frcd_write(struct snest_vtd *vtd, unsigned offset, uint32_t written)
{
	struct sn_vtd_frcd *r = &vtd->frcd[offset / RECORD_BYTES];

	/* F, the top bit of a record, is all that can be written: 1 clears it. */
	if ((offset & 12) != 12 || !(written & SN_BIT(31)) || !(r->high & VTD_F))
		return;
	r->high &= ~VTD_F;
	if (--vtd->frcd_pending)
		return;
	vtd->reg[REG_FSTS] &= ~VTD_PPF;
	sn_vtd_status_cleared(vtd);
}

static void store(struct snest_vtd *vtd, const struct snest_request *request,
                  const struct snest_fault *fault)
{
	struct sn_vtd_frcd *r = &vtd->frcd[vtd->frcd_next];
	uint64_t high = VTD_F | (request->rid & 0xffff) | (uint64_t)(fault->code & 0xff) << 32;

	/* Address type: translation requests and translated requests say so. */
	if (request->kind == SNEST_REQUEST_TRANSLATION)
		high |= 1ull << VTD_FRCD_AT_SHIFT;
	if (request->kind == SNEST_REQUEST_TRANSLATED)
		high |= 2ull << VTD_FRCD_AT_SHIFT;
	if (request->kind == SNEST_REQUEST_PAGE)
		high |= VTD_FRCD_PAGE_REQUEST;
	else if (!(request->access & SNEST_WRITE))
		high |= VTD_FRCD_READ;
	if (request->access & SNEST_PRIVILEGED)
		high |= VTD_FRCD_PRIV;
	if (request->access & SNEST_EXEC)
		high |= VTD_FRCD_EXE;
	if (request->pasid != SNEST_NO_PASID)
		high |= VTD_FRCD_PP | (uint64_t)(request->pasid & 0xfffff) << 40;
	r->low = request->iova & VTD_ADDR;
	r->high = high;
}

bool sn_vtd_record(struct snest_vtd *vtd, const struct snest_context *context,
                   const struct snest_request *request, const struct snest_fault *fault)
{
	uint64_t *fsts = &vtd->reg[REG_FSTS];

	vtd->stats.faults++;
	if (!snest_fault_recorded(context, request, fault))
		return false;
	if (*fsts & VTD_PFO) {
		vtd->stats.faults_lost++;
		return false;
	}
	if (vtd->frcd[vtd->frcd_next].high & VTD_F) {
		vtd->stats.faults_lost++;
		sn_vtd_status_set(vtd, VTD_PFO);
		return false;
	}
	store(vtd, request, fault);
	vtd->stats.faults_recorded++;
	if (!vtd->frcd_pending++) {
		*fsts &= ~VTD_FRI_MASK;
		*fsts |= (uint64_t)vtd->frcd_next << VTD_FRI_SHIFT;
		sn_vtd_status_set(vtd, VTD_PPF);
	}
	vtd->frcd_next = (vtd->frcd_next + 1) % VTD_CAP_NFR(vtd->cap);
	return true;
}

bool snest_vtd_fault(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid, uint32_t access,
                     struct snest_fault *fault)
{
	struct snest_request request = {
		.size = sizeof(request),
		.rid = rid & 0xffff,
		.pasid = pasid,
		.access = access,
		.kind = SNEST_REQUEST_UNTRANSLATED,
		.iova = fault->iova,
	};
	const struct sn_vtd_binding *b = NULL;
	struct sn_vtd_device *device;
	struct snest_context context;
	bool recorded = false;

	if (!fault->code && fault->reason == SNEST_FAULT_BLOCKED)
		return false;
	sn_vtd_lock(vtd);
	device = sn_vtd_device_find(vtd, request.rid);
	/* A fault of the stages belongs to the configuration that was used, if still known. */
	if (device && fault->reason != SNEST_FAULT_CONFIG)
		b = sn_vtd_binding_find(device, pasid);
	if (b)
		context = b->context;
	else
		sn_vtd_context(vtd, &request, &context);
	if (!fault->code)
		fault->code = (uint16_t)snest_fault_code(&context, &request, fault);
	if (fault->code)
		recorded = sn_vtd_record(vtd, &context, &request, fault);
	sn_vtd_unlock(vtd);
	if (fault->code)
		sn_log_guest(vtd->vm, SNEST_LOG_INFO,
		             "vtd: rid %x: %s of IOVA 0x%llx refused: reason %xh%s", request.rid,
		             access & SNEST_WRITE ? "write" : "read",
		             (unsigned long long)fault->iova, fault->code,
		             recorded ? "" : " (not recorded)");
	return recorded;
}
