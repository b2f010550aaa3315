/* SPDX-License-Identifier: MIT */
/*
 * The unit of target `vtd`: its memory and hooks, the sinks of its mirrors, its
 * registers and its queue, followed by the model. `f` is the state of an input.
 */
#ifndef FUZZ_VTD_UNIT_H
#define FUZZ_VTD_UNIT_H

#include <errno.h>
#include <snest/track.h>
#include <snest/vtd.h>
#include "viommu/vtd.h"
#include "vtd_judge.h"

#define BLOB_MAX 8192
#define SINK_MAX 48
#define PINS 2
#define ASKED 4u

/* Pages of guest memory by use; an input may use any for anything. */
enum page {
	P_STATUS,
	P_ROOT,
	P_CONTEXT,
	P_DIRECTORY,
	P_PASIDS,
	P_SECOND, /* four levels */
	P_FIRST = P_SECOND + 4,
	P_QUEUE = P_FIRST + 4,
	P_REQUESTS,
	P_OTHER,
};

struct mapping {
	uint64_t first, last, host;
	uint32_t rights;
};

struct sink {
	bool used, lacks;
	unsigned count;
	struct mapping map[SINK_MAX];
};

static _Alignas(4096) uint64_t ram[RAM_WORDS];
static uint64_t seen[RAM_WORDS]; /* pages that are protected, when that was last told */

static struct {
	struct fuzz_vm fuzz;
	bool mapped; /* the front end's VM reads memory directly, not through accessors */
	/* One input. */
	struct snest_vtd *vtd;
	uint64_t cap, ecap;
	bool sync, tracking;
	bool broken; /* an allocation failed: requests may be refused for it */
	struct sink sink[MODEL_PAIRS];
	unsigned sink_fail; /* the n-th map from now */
	struct snest_pin pin[PINS];
	bool pinned[PINS];
	uint64_t pin_at[PINS]; /* of `invalidated`, when it was made */
	uint64_t invalidated;  /* descriptors that took translations away */
	uint32_t protected;    /* pages */
	bool whole;            /* notices name whole pages, not what was written */
	int device_tlb;        /* what the hook returns */
	/* The newest requests: what was cached for them may be stale after an invalidation. */
	struct {
		uint8_t pair, iova;
	} asked[ASKED];
	unsigned requests;
	uint64_t touched; /* a bit for each pair and IOVA that was asked for */
} f;

/* Registers that do something. */
static const uint16_t registers[] = {0x18, 0x20, 0x28, 0x34, 0x38, 0x3c,  0x40,  0x64,  0x68, 0x70,
                                     0x80, 0x88, 0x90, 0x9c, 0xa0, 0xb0,  0xb8,  0xc0,  0xc8, 0xd0,
                                     0xdc, 0xe0, 0xe4, 0xf0, 0xf8, 0x220, 0x22c, 0x23c, 0xffc};

/* ---- Hooks -------------------------------------------------------------- */

static void hook_msi(void *opaque, uint64_t address, uint32_t data)
{
	(void)opaque;
	(void)data;
	fuzz_check(!(address & 3), "an interrupt to 0x%llx", (unsigned long long)address);
}

static void hook_kick(void *opaque)
{
	(void)opaque;
}

static int hook_device_tlb(void *opaque, const struct snest_vtd_device_tlb *range)
{
	(void)opaque;
	fuzz_check(range->first <= range->last && range->rid <= 0xffff, "a range of no device");
	return f.device_tlb;
}

static void hook_interrupts(void *opaque, uint32_t first, uint32_t last)
{
	(void)opaque;
	fuzz_check(first <= last && last <= 0xffff, "interrupt entries %u to %u", first, last);
}

static void hook_response(void *opaque, const struct snest_vtd_page_response *r)
{
	(void)opaque;
	fuzz_check(r->rid <= 0xffff && r->group <= 0x1ff && r->code <= 0xf, "a response to nobody");
}

static int hook_protect(void *opaque, uint64_t gpa, uint64_t length)
{
	(void)opaque;
	fuzz_check(length == 4096 && !(gpa & 4095), "protect 0x%llx", (unsigned long long)gpa);
	/* Where there is no memory to protect. */
	if (gpa >= RAM_BYTES)
		return -EFAULT;
	fuzz_check(!(f.protected >> gpa / 4096 & 1), "protected twice");
	f.protected |= 1u << gpa / 4096;
	memcpy((char *)seen + gpa, (const char *)ram + gpa, 4096);
	return 0;
}

static void hook_unprotect(void *opaque, uint64_t gpa, uint64_t length)
{
	(void)opaque;
	(void)length;
	fuzz_check(gpa < RAM_BYTES && (f.protected >> gpa / 4096 & 1), "was not protected");
	f.protected &= ~(1u << gpa / 4096);
}

static const struct snest_vtd_hooks all_hooks = {
	.size = sizeof(all_hooks),
	.msi = hook_msi,
	.kick = hook_kick,
	.device_tlb = hook_device_tlb,
	.interrupt_entries = hook_interrupts,
	.page_response = hook_response,
};

static const struct snest_tracker tracker = {
	.size = sizeof(tracker),
	.protect = hook_protect,
	.unprotect = hook_unprotect,
};

/* ---- Sinks -------------------------------------------------------------- */

static int sink_apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct sink *s = opaque;

	for (*done = 0; *done < count; ++*done) {
		const struct snest_sink_op *op = &ops[*done];
		unsigned kept = 0;

		fuzz_check(op->first <= op->last && !(op->first & 4095) &&
		                   (op->last & 4095) == 4095,
		           "a range 0x%llx-0x%llx", (unsigned long long)op->first,
		           (unsigned long long)op->last);
		if (op->map && ((f.sink_fail && --f.sink_fail == 0) || s->count == SINK_MAX))
			return -ENOSPC;
		for (unsigned i = 0; i < s->count; i++) {
			const struct mapping *m = &s->map[i];

			if (m->first > op->last || m->last < op->first) {
				s->map[kept++] = *m;
				continue;
			}
			fuzz_check(!op->map, "a map over a map");
			fuzz_check(m->first >= op->first && m->last <= op->last,
			           "an unmap cuts a map");
		}
		s->count = kept;
		if (op->map)
			s->map[s->count++] =
				(struct mapping){op->first, op->last, op->host, op->rights};
	}
	return 0;
}

static void sink_failed(void *opaque, uint64_t first, uint64_t last, int error)
{
	struct sink *s = opaque;

	fuzz_check(error < 0 && first <= last, "failed with %d", error);
	s->lacks = true;
}

static void check_sinks(void)
{
	for (unsigned n = 0; n < MODEL_PAIRS; n++) {
		const struct sink *s = &f.sink[n];

		if (!s->used) {
			fuzz_check(!s->count, "a sink that was let go is not empty");
			continue;
		}
		for (unsigned i = 0; i < MODEL_IOVAS; i++) {
			const struct mapping *m = NULL;

			for (unsigned j = 0; j < s->count && !m; j++) {
				if (s->map[j].first <= model_iovas[i] &&
				    model_iovas[i] <= s->map[j].last)
					m = &s->map[j];
			}
			model_judge_mirror(n, i, m ? m->host + (model_iovas[i] - m->first) : 0,
			                   m ? m->rights : 0, s->lacks);
		}
	}
}

/* ---- Registers ---------------------------------------------------------- */

static uint64_t read_register(uint64_t offset, unsigned size)
{
	uint64_t value;
	int ret = snest_vtd_read(f.vtd, offset, size, &value);

	fuzz_check(!ret, "read of %u bytes at 0x%llx: %d", size, (unsigned long long)offset, ret);
	fuzz_check(size == 8 || !(value >> size * 8), "too many bits");
	return value;
}

static void write_memory(uint64_t addr, const void *bytes, size_t length)
{
	if (addr >= RAM_BYTES || length > RAM_BYTES - addr)
		return;
	memcpy((char *)ram + addr, bytes, length);
}

/* Nobody writes to a protected page without being seen, the front end neither: its notices. */
static void notice(void)
{
	for (uint32_t left = f.protected; left; left &= left - 1) {
		unsigned page = (unsigned)__builtin_ctz(left), first = 0, last = 511;
		uint64_t *now = ram + page * 512, *then = seen + page * 512;

		if (!(f.protected >> page & 1) || !memcmp(now, then, 4096))
			continue;
		while (!f.whole && now[first] == then[first])
			first++;
		while (!f.whole && now[last] == then[last])
			last--;
		memcpy(then, now, 4096);
		snest_table_written(f.fuzz.vm, page * 4096ull + first * 8, (last - first + 1) * 8);
	}
}

static void write_word(uint64_t word, uint64_t value)
{
	write_memory(word * 8, &value, 8);
}

/* ---- The queue and the model -------------------------------------------- */

/* What is in the queue between two moments is what was executed. */
struct moment {
	bool on;
	uint64_t base, head, size;
	unsigned entry;
	uint64_t descriptors;
	uint64_t q[64][2]; /* from the head on */
	unsigned count;
};

static void look_at_registers(struct moment *m)
{
	const uint64_t *reg = f.vtd->reg;
	uint64_t iqa = f.vtd->queue.iqa;

	m->on = (reg[REG_GSTS] & VTD_QIE) && (f.vtd->ecap & VTD_ECAP_QI);
	m->base = iqa & VTD_ADDR;
	m->size = 4096ull << (iqa & 7);
	m->entry = iqa & 0x800 ? 32 : 16;
	m->head = reg[REG_IQH];
	m->descriptors = f.vtd->stats.descriptors;
	m->count = 0;
}

static void look(struct moment *m)
{
	uint64_t at;

	look_at_registers(m);
	at = m->head;
	/* Beyond the tail too: it may be about to move. */
	while (m->on && m->count < 64) {
		if (m->base >= RAM_BYTES || m->base + at + 16 > RAM_BYTES)
			break;
		memcpy(m->q[m->count++], (const char *)ram + m->base + at, 16);
		at = at + m->entry == m->size ? 0 : at + m->entry;
	}
}

/* Whether a descriptor takes translations away, as a wait that follows it must know. */
static bool takes_away(const uint64_t *q)
{
	unsigned type = q[0] & 0xf;

	return type == 1 || type == 2 || type == 6 || type == 7;
}

static void executed(const uint64_t *q, bool certain)
{
	bool scalable = (model.reg.rtaddr >> 10 & 3) != 0;

	if (certain)
		model_execute(q, f.vtd->domain_mask, scalable);
}

/* Whether an earlier wait has yet to store the same status: then it says nothing of this one. */
static bool is_owed(const uint64_t *q)
{
	uint64_t ahead;
	struct moment m;

	for (unsigned i = 0; i < f.vtd->queue.waits; i++) {
		const struct sn_vtd_wait *w =
			&f.vtd->queue.wait[(f.vtd->queue.wait_first + i) % SN_VTD_WAITS];

		if (w->address == q[1] && w->status == q[0] >> 32)
			return true;
	}
	look(&m);
	ahead = f.vtd->reg[REG_IQT] - m.head;
	ahead = (f.vtd->reg[REG_IQT] < m.head ? ahead + m.size : ahead) / m.entry;
	for (uint64_t i = 0; i < ahead && i < m.count; i++) {
		if ((m.q[i][0] & 0xf) == 5 && m.q[i][1] == q[1] && m.q[i][0] >> 32 == q[0] >> 32)
			return true;
	}
	return ahead > m.count;
}

static void check_wait(const uint64_t *q, uint64_t status_before)
{
	uint32_t status;

	if ((q[0] & 0xf) != 5 || !(q[0] & 0x20) || q[1] >= RAM_BYTES - 4)
		return;
	memcpy(&status, (const char *)ram + (q[1] & ~3ull), 4);
	if (status == (uint32_t)status_before || status != (uint32_t)(q[0] >> 32))
		return;
	for (unsigned i = 0; i < PINS; i++)
		fuzz_check(!f.pinned[i] || f.pin_at[i] >= f.invalidated,
		           "a wait has completed before a pin");
}

/* An action may have run the queue. */
static void settle(const struct moment *m, uint64_t budget)
{
	bool changed = model_refresh(), same;
	struct moment now;
	uint64_t passed;

	look_at_registers(&now);
	fuzz_check(now.descriptors - m->descriptors <= budget,
	           "%llu descriptors were executed at once",
	           (unsigned long long)(now.descriptors - m->descriptors));
	same = m->on && now.on && now.base == m->base && now.size == m->size &&
	       now.entry == m->entry;
	if (!same)
		return;
	passed = (now.head >= m->head ? now.head - m->head : m->size - m->head + now.head) /
	         m->entry;
	/* What the queue itself wrote meanwhile may have been cached in between. */
	for (uint64_t i = 0; i < passed && i < m->count; i++) {
		/* Who hands over commands directly sees to their completion. */
		f.invalidated += takes_away(m->q[i]);
		executed(m->q[i], !changed);
	}
	if (!changed)
		return;
	for (unsigned i = 0; passed && i < model.table_count; i++) {
		for (unsigned j = 0; j < MODEL_IOVAS; j++)
			model.tables[i].set[j].wild = true;
	}
	for (unsigned n = 0; passed && n < MODEL_PAIRS; n++)
		model.pair[n].wild = true;
}

static void follow_configuration(void)
{
	if (f.vtd->root != model.reg.rtaddr || f.vtd->te != model.te)
		model_configure(f.vtd->root, f.vtd->te);
}

static void write_register(uint64_t offset, unsigned size, uint64_t value)
{
	bool was_on = model.te, latches;
	struct moment m;
	int ret;

	/* GCMD's upper byte holds SRTP and TE. */
	latches = offset <= 0x1b && offset + size > 0x1b && (value >> (0x1b - offset) * 8 & 0x40);
	model_refresh();
	look(&m);
	ret = snest_vtd_write(f.vtd, offset, size, value);
	fuzz_check(!ret, "write of %u bytes at 0x%llx: %d", size, (unsigned long long)offset, ret);
	if (latches || f.vtd->te != was_on) {
		model_configure(f.vtd->root, f.vtd->te);
		if ((was_on && !model.te && (f.ecap & VTD_ECAP_SMTS)) ||
		    (latches && (f.cap & VTD_CAP_ESRTPS)))
			model_forget_everything();
	}
	settle(&m, f.sync ? 32768 : f.vtd->budget);
	fuzz_check(f.vtd->root == model.reg.rtaddr, "the root changes without a command");
}

#endif
