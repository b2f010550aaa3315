/* SPDX-License-Identifier: MIT */
/*
 * The three event interrupts (fault, invalidation, page request) and the fault
 * status that drives the first. All under the front end's lock; what is to be
 * sent waits in vtd->msi until the lock is let go.
 */
#include "viommu/vtd.h"

static const enum sn_vtd_reg control[EVENT_COUNT] = {
	[EVENT_FAULT] = REG_FECTL,
	[EVENT_QUEUE] = REG_IECTL,
	[EVENT_PAGE] = REG_PECTL,
};

static void send(struct snest_vtd *vtd, enum sn_vtd_event event)
{
	const uint64_t *reg = &vtd->reg[control[event]];

	/* Two of one kind before the lock is let go are one: the vector is the same. */
	vtd->msi[event].pending = true;
	vtd->msi[event].data = (uint32_t)reg[1];
	vtd->msi[event].address = reg[3] << 32 | reg[2];
}

void sn_vtd_event_raise(struct snest_vtd *vtd, enum sn_vtd_event event)
{
	uint64_t *ctl = &vtd->reg[control[event]];

	if (*ctl & VTD_IM)
		*ctl |= VTD_IP;
	else
		send(vtd, event);
}

void sn_vtd_event_clear(struct snest_vtd *vtd, enum sn_vtd_event event)
{
	vtd->reg[control[event]] &= ~VTD_IP;
}

void sn_vtd_event_control(struct snest_vtd *vtd, enum sn_vtd_event event)
{
	uint64_t *ctl = &vtd->reg[control[event]];

	if ((*ctl & (VTD_IM | VTD_IP)) == VTD_IP) {
		*ctl &= ~VTD_IP;
		send(vtd, event);
	}
}

void sn_vtd_status_set(struct snest_vtd *vtd, uint64_t bits)
{
	uint64_t *fsts = &vtd->reg[REG_FSTS];
	bool quiet = !(*fsts & VTD_FSTS_EVENTS);

	*fsts |= bits;
	if (quiet && (bits & VTD_FSTS_EVENTS))
		sn_vtd_event_raise(vtd, EVENT_FAULT);
}

void sn_vtd_status_cleared(struct snest_vtd *vtd)
{
	if (!(vtd->reg[REG_FSTS] & VTD_FSTS_EVENTS))
		sn_vtd_event_clear(vtd, EVENT_FAULT);
}
