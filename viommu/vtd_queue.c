/* SPDX-License-Identifier: MIT */
/*
 * The invalidation queue: fetching, waits, queue errors, bounded work.
 *
 * Descriptors are copied in batches and decoded from the copy, so the guest
 * cannot change one between the check and the use. The copy is thrown away
 * when the queue stops: after an error the slot is fetched again, since
 * drivers repair it in place.
 *
 * Waits complete in order. Each begins a drain; the one at the front of the
 * ring that has drained writes its status. A wait with nothing to wait for
 * (nothing invalidated since the last drain, none pending) completes at once; so
 * does one that only has to wait for readers which turn out to be gone.
 *
 * A descriptor costs one of the budget, and more if it had to look at many
 * bindings: a guest with 65536 of them cannot hold a vCPU up with commands that
 * search for one that is not there.
 */
#include <errno.h>
#include "shadow/pins.h"
#include "viommu/vtd.h"

#define BATCH 64u

/* Bindings looked at, for the price of one descriptor. */
#define WORK_SHARE 64u

/* One entry into the queue in SYNC mode: a whole ring of the largest size. */
#define SYNC_BUDGET 32768u

static unsigned entry_size(const struct snest_vtd *vtd)
{
	return vtd->queue.iqa & VTD_IQA_DW ? 32 : 16;
}

bool sn_vtd_queue_ready(const struct snest_vtd *vtd)
{
	return (vtd->reg[REG_GSTS] & VTD_QIE) && !vtd->frozen &&
	       !((vtd->gsts_clear | vtd->gsts_clear_now) & VTD_QIE) &&
	       !(vtd->reg[REG_FSTS] & (VTD_IQE | VTD_ITE)) && !vtd->queue.fence &&
	       vtd->queue.waits < SN_VTD_WAITS && vtd->reg[REG_IQH] != vtd->reg[REG_IQT];
}

/* The queue stops at its head until the guest clears IQE. Under the lock. */
static void queue_error(struct snest_vtd *vtd, enum snest_vtd_queue_error error)
{
	vtd->stats.queue_errors++;
	vtd->reg[REG_IQERCD] = (vtd->reg[REG_IQERCD] & ~0xfull) | error;
	sn_vtd_status_set(vtd, VTD_IQE);
	sn_log_guest(vtd->vm, SNEST_LOG_WARNING, "vtd: invalidation queue error %u at offset 0x%x",
	             (unsigned)error, (unsigned)vtd->reg[REG_IQH]);
}

/* What is wrong with the queue as a whole. Under the lock. */
static enum snest_vtd_queue_error check(const struct snest_vtd *vtd)
{
	unsigned ttm = VTD_TTM(vtd->root);
	bool wide = vtd->queue.iqa & VTD_IQA_DW;

	if (vtd->reg[REG_IQT] >= (uint64_t)VTD_PAGE_SIZE << VTD_IQA_QS(vtd->queue.iqa))
		return SNEST_VTD_QUEUE_TAIL;
	if (wide && (vtd->reg[REG_IQT] & 0x10))
		return SNEST_VTD_QUEUE_ALIGN;
	if (ttm == 2 || (ttm != VTD_TTM_LEGACY && !(vtd->ecap & (VTD_ECAP_SMTS | VTD_ECAP_ADMS))))
		return SNEST_VTD_QUEUE_MODE;
	if ((!wide && ttm == VTD_TTM_SCALABLE) ||
	    (wide && !(vtd->ecap & (VTD_ECAP_SMTS | VTD_ECAP_ADMS))))
		return SNEST_VTD_QUEUE_WIDTH;
	return SNEST_VTD_QUEUE_OK;
}

/* ---- Waits ------------------------------------------------------------------------ */

/* A 4-byte store to guest memory; nobody is told when there is none. */
static void write_status(struct snest_vtd *vtd, uint64_t address, uint32_t status)
{
	if (snest_guest_write(vtd->vm, address, &status, sizeof(status)))
		sn_log_guest(vtd->vm, SNEST_LOG_WARNING,
		             "vtd: status address 0x%llx of a wait is not memory",
		             (unsigned long long)address);
}

static void wait_interrupt(struct snest_vtd *vtd)
{
	if (vtd->reg[REG_ICS] & 1)
		return;
	vtd->reg[REG_ICS] |= 1;
	sn_vtd_event_raise(vtd, EVENT_QUEUE);
}

/*
 * The drain of a wait is over: complete what is at the front of the ring. Under
 * the lock, which it lets go in between.
 */
static void wait_done(struct sn_vtd_completion *c)
{
	struct sn_vtd_wait *w = (struct sn_vtd_wait *)(void *)c;
	struct snest_vtd *vtd = c->vtd;

	w->drained = true;
	if (vtd->queue.completing)
		return;
	vtd->queue.completing = true;
	while (vtd->queue.waits && vtd->queue.wait[vtd->queue.wait_first].drained) {
		w = &vtd->queue.wait[vtd->queue.wait_first];
		if (!w->aborted && (w->flags & VTD_WAIT_SW)) {
			sn_vtd_unlock(vtd);
			write_status(vtd, w->address, w->status);
			sn_vtd_lock(vtd);
		}
		if (!w->aborted && (w->flags & VTD_WAIT_IF))
			wait_interrupt(vtd);
		if (w->flags & VTD_WAIT_FN)
			vtd->queue.fence = false;
		vtd->queue.wait_first = (vtd->queue.wait_first + 1) % SN_VTD_WAITS;
		vtd->queue.waits--;
	}
	vtd->queue.completing = false;
	if (!vtd->queue.running && sn_vtd_queue_ready(vtd))
		sn_vtd_resume_later(vtd);
}

/* Under the lock. */
static void wait_begin(struct snest_vtd *vtd, const struct sn_vtd_command *command)
{
	unsigned i = (vtd->queue.wait_first + vtd->queue.waits++) % SN_VTD_WAITS;
	struct sn_vtd_wait *w = &vtd->queue.wait[i];

	w->address = command->address;
	w->status = command->status;
	w->flags = (uint8_t)command->flags;
	w->drained = w->aborted = false;
	if (w->flags & VTD_WAIT_FN)
		vtd->queue.fence = true;
	vtd->queue.unsettled = false;
	sn_vtd_arm(vtd, &w->completion, wait_done);
}

/* Completes a wait on the spot. Without the lock. */
static void wait_now(struct snest_vtd *vtd, const struct sn_vtd_command *command)
{
	if (command->flags & VTD_WAIT_SW)
		write_status(vtd, command->address, command->status);
	if (command->flags & VTD_WAIT_IF) {
		sn_vtd_lock(vtd);
		wait_interrupt(vtd);
		sn_vtd_unlock(vtd);
	}
}

/* A device TLB did not answer: waits that are pending never complete. Under the lock. */
static void timed_out(struct snest_vtd *vtd, uint32_t rid)
{
	for (unsigned i = 0; i < vtd->queue.waits; i++)
		vtd->queue.wait[(vtd->queue.wait_first + i) % SN_VTD_WAITS].aborted = true;
	vtd->reg[REG_IQERCD] &= ~(0xffffull << VTD_ITESID_SHIFT);
	vtd->reg[REG_IQERCD] |= (uint64_t)rid << VTD_ITESID_SHIFT;
	sn_vtd_status_set(vtd, VTD_ITE);
}

int snest_vtd_completion_error(struct snest_vtd *vtd, uint32_t rid)
{
	if (rid > 0xffff)
		return -EINVAL;
	if (!(vtd->ecap & VTD_ECAP_DT))
		return -EOPNOTSUPP;
	sn_vtd_lock(vtd);
	/* The first error keeps its source until the guest clears it. */
	if (!(vtd->reg[REG_FSTS] & VTD_ICE)) {
		vtd->reg[REG_IQERCD] &= ~(0xffffull << VTD_ICESID_SHIFT);
		vtd->reg[REG_IQERCD] |= (uint64_t)rid << VTD_ICESID_SHIFT;
	}
	sn_vtd_status_set(vtd, VTD_ICE);
	sn_vtd_unlock(vtd);
	return 0;
}

/* ---- Batches ---------------------------------------------------------------------- */

struct batch {
	uint64_t q[BATCH * 4];
	unsigned words; /* of an entry */
	unsigned count, done;
	uint32_t work; /* beyond the descriptors themselves, in descriptors */
	enum snest_vtd_queue_error error;
	uint32_t timed_out; /* RID, UINT32_MAX: none */
	bool waits_pending; /* seen under the lock; only the owner adds any */
	unsigned drains;    /* that took no time */
};

static void fetch(struct snest_vtd *vtd, struct batch *b, uint64_t address)
{
	while (snest_guest_read(vtd->vm, address, b->q, b->count * b->words * 8)) {
		if (b->count == 1) {
			b->count = 0;
			b->error = SNEST_VTD_QUEUE_FETCH;
			return;
		}
		b->count /= 2;
	}
}

/* A wait in a batch. False: no room for it now. */
static bool take_wait(struct snest_vtd *vtd, struct batch *b, const struct sn_vtd_command *command)
{
	bool room;

	if (vtd->queue.unsettled && (vtd->sync || !b->waits_pending)) {
		if (sn_drain_now(vtd->vm)) {
			vtd->queue.unsettled = false;
			b->drains++;
		} else if (vtd->sync) {
			vtd->queue.unsettled = false;
			snest_drain(vtd->vm, 0);
		}
	}
	if (!vtd->queue.unsettled && !b->waits_pending) {
		wait_now(vtd, command);
		return true;
	}
	sn_vtd_lock(vtd);
	room = vtd->queue.waits < SN_VTD_WAITS;
	if (room) {
		wait_begin(vtd, command);
		b->waits_pending = true;
	}
	sn_vtd_unlock(vtd);
	return room;
}

/* Executes a batch until something stops it. Without the lock. */
static void execute(struct snest_vtd *vtd, struct batch *b)
{
	struct sn_vtd_command command;

	for (b->done = 0; b->done < b->count; b->done++) {
		b->error = sn_vtd_decode(vtd, b->q + b->done * b->words, b->words, &command);
		if (b->error)
			return;
		if (command.type == VTD_DESC_WAIT) {
			if (!take_wait(vtd, b, &command))
				return;
			if ((command.flags & VTD_WAIT_FN) && b->waits_pending) {
				b->done++;
				return;
			}
			continue;
		}
		vtd->queue.unsettled = true;
		if (sn_vtd_execute(vtd, &command) == -ETIMEDOUT) {
			b->timed_out = command.rid;
			b->done++;
			return;
		}
		b->work += command.work / WORK_SHARE;
		if (b->work >= BATCH) {
			b->done++;
			return;
		}
	}
}

/* One batch of at most `budget` descriptors. Under the lock, which it lets go. Returns its cost. */
static unsigned run_batch(struct snest_vtd *vtd, uint32_t budget)
{
	struct batch b;
	uint64_t head = vtd->reg[REG_IQH], tail = vtd->reg[REG_IQT];
	uint64_t size = (uint64_t)VTD_PAGE_SIZE << VTD_IQA_QS(vtd->queue.iqa);
	uint64_t base = vtd->queue.iqa & VTD_ADDR;
	unsigned entry = entry_size(vtd);

	b.error = check(vtd);
	if (b.error) {
		queue_error(vtd, b.error);
		return 0;
	}
	b.words = entry / 8;
	b.count = (unsigned)((tail > head ? tail : size) - head) / entry;
	b.count = b.count < BATCH ? b.count : BATCH;
	b.count = b.count < budget ? b.count : budget;
	b.work = 0;
	b.timed_out = UINT32_MAX;
	b.waits_pending = vtd->queue.waits;
	b.drains = 0;
	sn_vtd_unlock(vtd);

	b.done = 0;
	fetch(vtd, &b, base + head);
	if (b.count)
		execute(vtd, &b);

	sn_vtd_lock(vtd);
	head += (uint64_t)b.done * entry;
	vtd->reg[REG_IQH] = head == size ? 0 : head;
	vtd->stats.descriptors += b.done;
	vtd->stats.drains += b.drains;
	if (b.error)
		queue_error(vtd, b.error);
	if (b.timed_out != UINT32_MAX)
		timed_out(vtd, b.timed_out);
	/* SYNC promises a whole ring. */
	return vtd->sync ? b.done : b.done + b.work;
}

void sn_vtd_queue_run(struct snest_vtd *vtd, uint32_t budget)
{
	bool kick = false;

	if (vtd->sync)
		budget = SYNC_BUDGET;
	sn_vtd_lock(vtd);
	/* SYNC promises completion on return, so the work of others counts too. */
	while (vtd->sync && vtd->queue.running)
		sn_vtd_sleep(vtd);
	if (vtd->queue.running) {
		sn_vtd_unlock(vtd);
		return;
	}
	vtd->queue.running = true;
	while (budget && sn_vtd_queue_ready(vtd)) {
		unsigned cost = run_batch(vtd, budget);

		/* A queue that cannot go on was stopped; this bounds a wait without room. */
		cost = cost ? cost : 1;
		budget -= cost < budget ? cost : budget;
	}
	vtd->queue.running = false;
	sn_vtd_settle(vtd);
	if (sn_vtd_queue_ready(vtd)) {
		kick = vtd->hooks.kick;
		if (!kick)
			sn_vtd_resume_later(vtd);
	}
	pthread_cond_broadcast(&vtd->changed);
	sn_vtd_unlock(vtd);
	if (kick)
		vtd->hooks.kick(vtd->hooks.opaque);
}

int snest_vtd_run(struct snest_vtd *vtd)
{
	bool more;

	sn_vtd_queue_run(vtd, vtd->budget);
	sn_vtd_finish(vtd);
	sn_vtd_lock(vtd);
	more = sn_vtd_queue_ready(vtd);
	sn_vtd_unlock(vtd);
	return more ? -EAGAIN : 0;
}
