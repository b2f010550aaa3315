/* SPDX-License-Identifier: MIT */
/*
 * What the guest commands through registers: GCMD handshakes, and context and
 * IOTLB invalidation without a queue; and the same through function calls.
 *
 * A handshake that makes something unreachable (root pointer, translation,
 * queue off) takes effect for lookups at once; the status bit that the guest
 * polls follows after a drain. A second command meanwhile changes what is
 * wanted, and gets a drain of its own.
 */
#include "viommu/vtd.h"

/* GSTS when everything under way has completed. */
static uint32_t target(const struct snest_vtd *vtd)
{
	uint32_t gsts = (uint32_t)vtd->reg[REG_GSTS];

	gsts = (gsts & ~vtd->gsts_clear_now) | vtd->gsts_set_now;
	return (gsts & ~vtd->gsts_clear) | vtd->gsts_set;
}

static void want(struct snest_vtd *vtd, uint32_t bit, bool on)
{
	vtd->gsts_set &= ~bit;
	vtd->gsts_clear &= ~bit;
	if (on)
		vtd->gsts_set |= bit;
	else
		vtd->gsts_clear |= bit;
}

static void gcmd_done(struct sn_vtd_completion *c)
{
	struct snest_vtd *vtd = c->vtd;

	vtd->reg[REG_GSTS] =
		(vtd->reg[REG_GSTS] & ~(uint64_t)vtd->gsts_clear_now) | vtd->gsts_set_now;
	if (vtd->gsts_clear_now & VTD_QIE)
		vtd->reg[REG_IQH] = 0;
	vtd->gsts_set_now = vtd->gsts_clear_now = 0;
	sn_vtd_settle(vtd);
}

void sn_vtd_settle(struct snest_vtd *vtd)
{
	if (!(vtd->gsts_set | vtd->gsts_clear) || vtd->gcmd.armed || vtd->config_busy ||
	    vtd->queue.running)
		return;
	vtd->gsts_set_now = vtd->gsts_set;
	vtd->gsts_clear_now = vtd->gsts_clear;
	vtd->gsts_set = vtd->gsts_clear = 0;
	sn_vtd_arm(vtd, &vtd->gcmd, gcmd_done);
}

uint32_t sn_vtd_latch_root(struct snest_vtd *vtd, uint64_t rtaddr)
{
	vtd->root = rtaddr & (VTD_ADDR | 0xc00);
	if (VTD_TTM(vtd->root) == VTD_TTM_SCALABLE && (vtd->ecap & VTD_ECAP_FSTS))
		__atomic_store_n(&vtd->first_stage, true, __ATOMIC_RELAXED);
	sn_vtd_unbind_all(vtd);
	sn_vtd_contexts_changed(vtd);
	return TODO_CONFIG | (vtd->cap & VTD_CAP_ESRTPS ? TODO_FORGET : 0);
}

uint32_t sn_vtd_set_te(struct snest_vtd *vtd, bool te)
{
	bool forget = !te && (vtd->ecap & VTD_ECAP_SMTS);

	vtd->te = te;
	sn_vtd_unbind_all(vtd);
	sn_vtd_contexts_changed(vtd);
	return TODO_CONFIG | (forget ? TODO_FORGET : 0);
}

static void queue_on(struct snest_vtd *vtd)
{
	vtd->reg[REG_GSTS] |= VTD_QIE;
	vtd->reg[REG_IQH] = 0;
	vtd->queue.iqa = vtd->reg[REG_IQA];
}

uint32_t sn_vtd_write_gcmd(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	uint32_t before = target(vtd), todo = 0;
	uint32_t change = (uint32_t)(written ^ before) & (uint32_t)lanes;
	bool queue_stopping = (vtd->gsts_clear | vtd->gsts_clear_now) & VTD_QIE;

	(void)old;
	if (written & VTD_SRTP) {
		todo |= sn_vtd_latch_root(vtd, vtd->reg[REG_RTADDR]);
		vtd->reg[REG_GSTS] &= ~VTD_SRTP;
		want(vtd, VTD_SRTP, true);
	}
	if (change & VTD_TE) {
		todo |= sn_vtd_set_te(vtd, written & VTD_TE);
		want(vtd, VTD_TE, written & VTD_TE);
	}
	if ((change & VTD_QIE) && (vtd->ecap & VTD_ECAP_QI) && !queue_stopping) {
		if (written & VTD_QIE) {
			queue_on(vtd);
			todo |= TODO_QUEUE;
		} else {
			want(vtd, VTD_QIE, false);
		}
	}
	if (vtd->ecap & VTD_ECAP_IR) {
		vtd->reg[REG_GSTS] ^= change & (VTD_IRE | VTD_CFI);
		if (written & VTD_SIRTP) {
			vtd->reg[REG_GSTS] |= VTD_SIRTP;
			todo |= TODO_INTERRUPTS;
		}
	}
	/* WBF and SFL are done as soon as they are written; EAFL does not exist. */
	if (todo & TODO_CONFIG)
		vtd->config_busy++;
	sn_vtd_settle(vtd);
	return todo;
}

/* ---- Protected memory ------------------------------------------------------------- */

static void pmen_done(struct sn_vtd_completion *c)
{
	struct snest_vtd *vtd = c->vtd;

	if (vtd->pmen_again) {
		vtd->pmen_again = false;
		sn_vtd_arm(vtd, c, pmen_done);
		return;
	}
	vtd->reg[REG_PMEN] |= vtd->reg[REG_PMEN] >> 31;
}

void sn_vtd_pmen_written(struct snest_vtd *vtd)
{
	bool on = vtd->reg[REG_PMEN] & VTD_EPM;

	/* Lookups refuse at once; PRS says that no earlier one is in use any more. */
	__atomic_store_n(&vtd->guarded, on, __ATOMIC_RELAXED);
	if (!on)
		vtd->reg[REG_PMEN] &= ~VTD_PRS;
	else if (vtd->pmen.armed)
		vtd->pmen_again = true;
	else if (!(vtd->reg[REG_PMEN] & VTD_PRS))
		sn_vtd_arm(vtd, &vtd->pmen, pmen_done);
}

/* ---- Invalidation without a queue ---------------------------------------------- */

static bool by_register(const struct snest_vtd *vtd)
{
	return !(target(vtd) & VTD_QIE) && VTD_TTM(vtd->root) == VTD_TTM_LEGACY &&
	       vtd->reg[REG_VER] >> 4 < 6;
}

/* Completes a register command: clears its busy bit and says what was done. */
static void answer(struct snest_vtd *vtd, enum sn_vtd_reg reg, unsigned shift, uint64_t done)
{
	vtd->reg[reg] = (vtd->reg[reg] & ~(VTD_ICC | 3ull << shift)) | done << shift;
}

static void ccmd_done(struct sn_vtd_completion *c)
{
	answer(c->vtd, REG_CCMD, VTD_CAIG_SHIFT, VTD_CIRG(c->vtd->reg[REG_CCMD]));
}

uint32_t sn_vtd_write_ccmd(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	(void)old;
	(void)lanes;
	if (!(written & VTD_ICC))
		return 0;
	if (!by_register(vtd) || !VTD_CIRG(vtd->reg[REG_CCMD])) {
		answer(vtd, REG_CCMD, VTD_CAIG_SHIFT, 0);
		return 0;
	}
	return TODO_CCMD;
}

static void do_ccmd(struct snest_vtd *vtd)
{
	struct sn_vtd_command command = {.type = VTD_DESC_CONTEXT};
	uint64_t ccmd;

	/* Nobody changes CCMD while its ICC is set. */
	sn_vtd_lock(vtd);
	ccmd = vtd->reg[REG_CCMD];
	sn_vtd_unlock(vtd);
	command.granularity = (uint8_t)VTD_CIRG(ccmd);
	command.did = (uint32_t)(ccmd & 0xffff) & vtd->domain_mask;
	command.rid = (uint32_t)(ccmd >> 16 & 0xffff);
	command.function_mask = (uint8_t)(ccmd >> 32 & 3);
	sn_vtd_execute(vtd, &command);
	sn_vtd_lock(vtd);
	sn_vtd_arm(vtd, &vtd->ccmd, ccmd_done);
	sn_vtd_unlock(vtd);
}

static unsigned iotlb_granularity(const struct snest_vtd *vtd)
{
	unsigned asked = VTD_IIRG(vtd->reg[REG_IOTLB]);

	if (asked != VTD_SELECTIVE)
		return asked;
	if (!(vtd->cap & VTD_CAP_PSI))
		return VTD_DOMAIN;
	return (vtd->reg[REG_IVA] & 0x3f) > VTD_CAP_MAMV(vtd->cap) ? 0 : asked;
}

static void iotlb_done(struct sn_vtd_completion *c)
{
	answer(c->vtd, REG_IOTLB, VTD_IAIG_SHIFT, c->vtd->by_register.granularity);
}

uint32_t sn_vtd_write_iotlb(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes)
{
	unsigned granularity = by_register(vtd) ? iotlb_granularity(vtd) : 0;

	(void)old;
	(void)lanes;
	if (!(written & VTD_IVT))
		return 0;
	if (!granularity) {
		answer(vtd, REG_IOTLB, VTD_IAIG_SHIFT, 0);
		return 0;
	}
	/* Draining flags are implied. */
	vtd->by_register.granularity = granularity;
	vtd->by_register.q[0] =
		VTD_DESC_IOTLB | granularity << 4 | (vtd->reg[REG_IOTLB] >> 32 & 0xffff) << 16;
	vtd->by_register.q[1] = granularity == VTD_SELECTIVE ? vtd->reg[REG_IVA] : 0;
	return TODO_IOTLB;
}

static void do_iotlb(struct snest_vtd *vtd)
{
	struct sn_vtd_command command;

	/* Nobody changes it while IVT is set. */
	if (!sn_vtd_decode(vtd, vtd->by_register.q, 2, &command))
		sn_vtd_execute(vtd, &command);
	sn_vtd_lock(vtd);
	sn_vtd_arm(vtd, &vtd->iotlb, iotlb_done);
	sn_vtd_unlock(vtd);
}

/* ---- Without the lock ------------------------------------------------------------- */

int sn_vtd_todo(struct snest_vtd *vtd, uint32_t todo)
{
	int ret = 0;

	if (todo & TODO_CONFIG) {
		if (todo & TODO_FORGET)
			ret = snest_vm_invalidate(vtd->vm, 0, UINT64_MAX, 0);
		int one = sn_vtd_mirrors_refresh(vtd);

		ret = ret ? ret : one;
		sn_vtd_lock(vtd);
		vtd->config_busy--;
		sn_vtd_settle(vtd);
		pthread_cond_broadcast(&vtd->changed);
		sn_vtd_unlock(vtd);
	}
	if ((todo & TODO_INTERRUPTS) && vtd->hooks.interrupt_entries)
		vtd->hooks.interrupt_entries(vtd->hooks.opaque, 0, 0xffff);
	if (todo & TODO_CCMD)
		do_ccmd(vtd);
	if (todo & TODO_IOTLB)
		do_iotlb(vtd);
	if (todo & TODO_QUEUE)
		sn_vtd_queue_run(vtd, vtd->budget);
	sn_vtd_finish(vtd);
	return ret;
}

int snest_vtd_set_root(struct snest_vtd *vtd, uint64_t rtaddr)
{
	uint32_t todo;

	sn_vtd_lock(vtd);
	todo = sn_vtd_latch_root(vtd, rtaddr);
	vtd->reg[REG_RTADDR] = vtd->root;
	vtd->reg[REG_GSTS] |= VTD_SRTP;
	vtd->config_busy++;
	sn_vtd_unlock(vtd);
	return sn_vtd_todo(vtd, todo);
}

int snest_vtd_enable(struct snest_vtd *vtd, bool enable)
{
	uint32_t todo = 0;

	sn_vtd_lock(vtd);
	if (enable != vtd->te) {
		todo = sn_vtd_set_te(vtd, enable);
		vtd->reg[REG_GSTS] ^= VTD_TE;
		vtd->config_busy++;
	}
	sn_vtd_unlock(vtd);
	return sn_vtd_todo(vtd, todo);
}
