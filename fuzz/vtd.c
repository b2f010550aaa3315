/* SPDX-License-Identifier: MIT */
/*
 * The VT-d unit: bytes become register accesses of all sizes, guest memory,
 * descriptors, requests, pins, mirrors, page requests, saves that are restored
 * (whole or damaged), and allocations that fail.
 *
 * Input: three bytes that choose the unit, then actions of 16 bytes.
 * Properties, after every action:
 *   - a request gets one of the answers that the model IOTLB holds legal
 *     (vtd_model.h), and so does every page of every mirror's sink;
 *   - a register access never fails, constant registers stay what they are;
 *   - work is bounded: no call executes more descriptors than its budget;
 *   - a wait is not completed while a pin holds what it waits for;
 *   - a blob that was saved is taken back, and then saved the same;
 *   - nothing is left in a sink that was let go, or in the VM at the end.
 */
#include <errno.h>
#include <snest/track.h>
#include <snest/vtd.h>
#include "actions.h"
#include "viommu/vtd.h"
#include "vtd_model.h"

#define ACTIONS_MAX 32
#define HEADER 3
#define BLOB_MAX 8192
#define SINK_MAX 48
#define PINS 2

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

enum action {
	A_WRITE,
	A_READ,
	A_MEMORY,
	A_POINT,
	A_GUEST,
	A_DESCRIPTOR,
	A_INVALIDATE,
	A_COMMAND,
	A_BY_REGISTER,
	A_REQUEST,
	A_SAVE,
	A_ROOT,
	A_RUN,
	A_MIRROR,
	A_UNMIRROR,
	A_PAGE_REQUEST,
	A_PIN,
	A_FAIL,
	A_UNIT,
	A_WRONG,
	A_COUNT
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
	uint64_t pin_at[PINS];       /* of `invalidated`, when it was made */
	uint64_t invalidated;        /* descriptors that took translations away */
	uint32_t protected, written; /* pages */
	int device_tlb;              /* what the hook returns */
} f;

/* Registers that do something. */
static const uint16_t registers[] = {0x18, 0x20, 0x28, 0x34, 0x38, 0x3c,  0x40,  0x64,  0x68, 0x70,
                                     0x80, 0x88, 0x90, 0x9c, 0xa0, 0xb0,  0xb8,  0xc0,  0xc8, 0xd0,
                                     0xdc, 0xe0, 0xe4, 0xf0, 0xf8, 0x220, 0x22c, 0x23c, 0xffc};

/* ---- Hooks ------------------------------------------------------------------------ */

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

/* ---- Sinks ------------------------------------------------------------------------- */

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

/* ---- Registers ----------------------------------------------------------------------- */

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
	f.written |= 1u << addr / 4096;
}

/* The notices of an action's writes, as an embedder may send them. */
static void notice(void)
{
	for (; f.written; f.written &= f.written - 1) {
		unsigned page = (unsigned)__builtin_ctz(f.written);

		if (f.protected >> page & 1)
			snest_table_written(f.fuzz.vm, page * 4096ull, 4096);
	}
}

static void write_word(uint64_t word, uint64_t value)
{
	write_memory(word * 8, &value, 8);
}

/* ---- The queue and the model -------------------------------------------------------------- */

/* What is in the queue between two moments is what was executed. */
struct moment {
	bool on;
	uint64_t base, head, size;
	unsigned entry;
	uint64_t descriptors;
	uint64_t q[64][2]; /* from the head on */
	unsigned count;
};

static void look(struct moment *m)
{
	const uint64_t *reg = f.vtd->reg;
	uint64_t iqa = f.vtd->queue.iqa, at;

	m->on = (reg[REG_GSTS] & VTD_QIE) && (f.vtd->ecap & VTD_ECAP_QI);
	m->base = iqa & VTD_ADDR;
	m->size = 4096ull << (iqa & 7);
	m->entry = iqa & 0x800 ? 32 : 16;
	m->head = at = reg[REG_IQH];
	m->descriptors = f.vtd->stats.descriptors;
	m->count = 0;
	while (m->on && m->count < 64 && at != reg[REG_IQT]) {
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

	look(&now);
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
	for (unsigned i = 0; passed && i < model.contexts; i++) {
		for (unsigned j = 0; j < MODEL_IOVAS; j++)
			model.context[i].set[j].wild = true;
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

/* ---- Requests ------------------------------------------------------------------------------ */

static void request(unsigned pair, unsigned iova, unsigned offset, uint32_t access)
{
	uint64_t at = model_iovas[iova] + offset;
	struct snest_translation t = {.outcome = SNEST_WALK_FAULT};
	struct snest_fault fault;
	struct model_reply r;
	int ret;

	snest_read_begin();
	ret = snest_vtd_translate(f.vtd, model_rids[pair / MODEL_PASIDS],
	                          model_pasids[pair % MODEL_PASIDS], at, access, &t, &fault);
	snest_read_end();
	fuzz_check(!ret || ret == -EACCES || (ret == -ENOMEM && f.fuzz.failed), "translate: %d",
	           ret);
	model_refresh();
	if (ret && (f.broken || f.fuzz.failed || (f.vtd->reg[REG_PMEN] & 1)))
		return;
	/* Privilege and execution have rules of their own; others are judged. */
	if (access & ~(SNEST_READ | SNEST_WRITE))
		return;
	if (!ret) {
		/* The D flag that a first write sets may have changed nothing here. */
		fuzz_check(t.length && !(access & ~t.rights), "rights %u for access %u", t.rights,
		           access);
	}
	r = (struct model_reply){t.host - offset, t.outcome, t.rights, access};
	model_judge(pair, iova, ret, &r);
}

/* Everything is invalidated, and some asked for. */
static void flush(unsigned from)
{
	static const uint64_t all[][4] = {{0x11}, {0x37}, {0x12}};
	enum snest_vtd_queue_error error;

	model_refresh();
	for (unsigned i = 0; i < 3; i++) {
		size_t count = 1, length = f.ecap & VTD_ECAP_SMTS ? 32 : 16;

		snest_vtd_invalidate(f.vtd, all[i], length, &count, &error);
		if (count)
			executed(all[i], true);
	}
	for (unsigned i = from % 5; i < MODEL_PAIRS * MODEL_IOVAS; i += 5)
		request(i / MODEL_IOVAS, i % MODEL_IOVAS, 0x123, SNEST_READ);
}

static void page_request(const uint8_t *a)
{
	struct snest_vtd_page_request r = {
		.rid = model_rids[a[1] % MODEL_RIDS],
		.pasid = model_pasids[a[2] % MODEL_PASIDS],
		.access = a[3] & (SNEST_RIGHTS | SNEST_PRIVILEGED),
		.group = a[4] * 2u,
		.last = a[5] & 1,
		.private_valid = a[5] & 2,
		.iova = fuzz_get(a + 8, 8),
		.private_data = {1, 2},
	};
	uint64_t tail = read_register(0xc8, 8), base = read_register(0xd0, 8), q[4];
	int ret = snest_vtd_page_request(f.vtd, &r);
	uint64_t mask = (4096ull << (base & 7)) - 1;

	fuzz_check(ret <= 0, "page request: %d", ret);
	base &= VTD_ADDR;
	if (ret) {
		fuzz_check(read_register(0xc8, 8) == tail, "a page request that failed is queued");
		return;
	}
	tail &= mask;
	fuzz_check((read_register(0xc8, 8) & mask) == ((tail + 32) & mask), "the tail is wrong");
	if (base + tail + 32 > RAM_BYTES)
		return;
	memcpy(q, (const char *)ram + base + tail, 32);
	fuzz_check((q[0] & 0xff) == 1 && (q[0] >> 16 & 0xffff) == r.rid &&
	                   (q[0] >> 8 & 1) == (r.pasid != SNEST_NO_PASID) &&
	                   q[1] >> 12 == r.iova >> 12 && (q[1] >> 3 & 0x1ff) == r.group &&
	                   (q[1] >> 2 & 1) == r.last,
	           "a page request is garbled: 0x%llx 0x%llx", (unsigned long long)q[0],
	           (unsigned long long)q[1]);
}

static void pin(unsigned i, unsigned pair, unsigned iova, uint32_t access)
{
	struct snest_device *device;

	/* A drain that blocks would wait for it for ever. */
	if (f.sync || f.pinned[i] ||
	    snest_vtd_device(f.vtd, model_rids[pair / MODEL_PASIDS], &device))
		return;
	f.pin_at[i] = f.invalidated;
	f.pinned[i] = !snest_pin(device, model_pasids[pair % MODEL_PASIDS], model_iovas[iova], 4096,
	                         access, &f.pin[i], NULL);
}

static void unpin(unsigned i)
{
	if (f.pinned[i])
		snest_unpin(&f.pin[i]);
	f.pinned[i] = false;
}

static void unpin_all(void)
{
	for (unsigned i = 0; i < PINS; i++)
		unpin(i);
}

/* ---- Mirrors --------------------------------------------------------------------------------- */

static void mirror(unsigned pair)
{
	struct sink *s = &f.sink[pair];
	struct snest_sink sink = {
		.size = sizeof(sink),
		.opaque = s,
		.apply = sink_apply,
		.failed = sink_failed,
	};
	int ret;

	s->lacks = s->used && s->lacks;
	ret = snest_vtd_mirror(f.vtd, model_rids[pair / MODEL_PASIDS],
	                       model_pasids[pair % MODEL_PASIDS], &sink);
	/* First-stage spaces are shared by all that have their DID and PASID, and feed one sink. */
	if (ret != -EBUSY)
		fuzz_check(!ret || ret == -EOPNOTSUPP || ret == -ENOMEM || ret == -ENOSPC ||
		                   ret == -EFAULT,
		           "mirror: %d", ret);
	if (!ret)
		s->used = true;
}

static void unmirror(unsigned pair)
{
	struct sink *s = &f.sink[pair];
	int ret = snest_vtd_unmirror(f.vtd, model_rids[pair / MODEL_PASIDS],
	                             model_pasids[pair % MODEL_PASIDS]);

	fuzz_check(ret == (s->used ? 0 : -ENOENT), "unmirror: %d", ret);
	s->used = false;
}

static void remove_device(unsigned pair)
{
	unsigned rid = pair / MODEL_PASIDS;
	int ret;

	unpin_all();
	ret = snest_vtd_remove(f.vtd, model_rids[rid]);
	fuzz_check(!ret || ret == -ENOENT, "remove: %d", ret);
	for (unsigned i = 0; i < MODEL_PASIDS; i++)
		f.sink[rid * MODEL_PASIDS + i].used = false;
}

/* ---- Saving ------------------------------------------------------------------------------------ */

static void save(uint64_t damage)
{
	static uint8_t blob[BLOB_MAX], again[BLOB_MAX];
	size_t length = sizeof(blob), length_again = sizeof(again);
	bool refused = damage & 1;
	int ret;

	unpin_all();
	ret = snest_vtd_save(f.vtd, blob, &length);
	fuzz_check(!ret, "save: %d", ret);
	if (refused) {
		size_t at = (size_t)(damage >> 8) % length;

		blob[at] ^= (uint8_t)(1 | damage >> 1);
		ret = snest_vtd_restore(f.vtd, blob, damage & 0x80 ? at : length);
		fuzz_check(ret == -EINVAL, "restore of a damaged blob: %d", ret);
		blob[at] ^= (uint8_t)(1 | damage >> 1);
		ret = snest_vtd_save(f.vtd, again, &length_again);
		fuzz_check(!ret && length == length_again && !memcmp(blob, again, length),
		           "a refused restore changed something");
		return;
	}
	model_refresh();
	ret = snest_vtd_restore(f.vtd, blob, length);
	fuzz_check(!ret, "restore of what was saved: %d", ret);
	model_configure(f.vtd->root, f.vtd->te);
	model_forget_everything();
}

/* ---- Guests ---------------------------------------------------------------------------------------- */

/* Tables as a driver sets them up, the root and the queue on. */
static void guest(unsigned kind, uint32_t did, unsigned pgtt)
{
	bool scalable = kind & 1, wide = kind & 2;
	uint64_t page = 4096;

	write_word(P_ROOT * 512, P_CONTEXT * page | 1);
	write_word(P_ROOT * 512 + 1, P_CONTEXT * page | 1);
	if (scalable) {
		for (unsigned i = 0; i < 2; i++)
			write_word(P_CONTEXT * 512 + i * 4,
			           P_DIRECTORY * page | (kind & 0x10 ? 0x1d : 1));
		write_word(P_DIRECTORY * 512, P_PASIDS * page | 1);
		for (unsigned i = 0; i < 2; i++) {
			uint64_t at = P_PASIDS * 512 + i * 8;

			write_word(at, P_SECOND * page | 2 << 2 | (uint64_t)pgtt << 6 | 1);
			write_word(at + 1, did);
			write_word(at + 2, P_FIRST * page | 1);
		}
	} else {
		write_word(P_CONTEXT * 512, P_SECOND * page | 1);
		write_word(P_CONTEXT * 512 + 1, did << 8 | 2);
		write_word(P_CONTEXT * 512 + 2, P_SECOND * page | 1);
		write_word(P_CONTEXT * 512 + 3, did << 8 | 2);
	}
	for (unsigned level = 0; level < 3; level++) {
		write_word((P_SECOND + level) * 512, (P_SECOND + level + 1) * page | 3);
		write_word((P_FIRST + level) * 512, (P_FIRST + level + 1) * page | 7);
	}
	for (unsigned i = 0; i < 16; i++)
		write_word((P_SECOND + 3) * 512 + i, i * page | 3);
	for (unsigned i = 0; i < 3; i++)
		write_word((P_FIRST + 3) * 512 + i, (i + 1) * page | 7);
	write_register(0x20, 8, P_ROOT * page | (scalable ? 0x400 : 0));
	write_register(0x18, 4, read_register(0x1c, 4) | VTD_SRTP);
	write_register(0x88, 8, 0);
	write_register(0x90, 8, P_QUEUE * page | (wide ? 0x800 : 0));
	if (kind & 4)
		write_register(0xd0, 8, P_REQUESTS * page);
	write_register(0x18, 4, VTD_TE | (kind & 8 ? 0 : VTD_QIE));
}

/* An entry of some table: small numbers mean addresses that exist. */
static void point(const uint8_t *a)
{
	static const uint16_t flags[] = {0, 1, 3, 7, 0x83, 0x87, 2, 0x101};
	static const uint16_t index[] = {0, 1, 2, 3, 8, 9, 10, 511};
	uint64_t addr =
		a[4] & 0x20 ? DATA + (uint64_t)(a[4] & 0x1f) * 0x200000 : (a[4] & 15) * 4096ull;

	write_word((a[2] & 15) * 512 + index[a[3] & 7], addr | flags[a[5] & 7]);
}

/* A descriptor that says something. */
static void describe(const uint8_t *a, uint64_t *q)
{
	uint64_t did = a[2] & 3, pasid = a[3] & 1, rid = model_rids[a[3] / 2 % MODEL_RIDS];
	uint64_t g = a[4] & 3, addr = model_iovas[a[5] % MODEL_IOVAS] | (a[6] & 0x7f);

	q[0] = a[1] % 10;
	q[1] = q[2] = q[3] = 0;
	switch (q[0]) {
	case 1:
		q[0] |= g << 4 | did << 16 | rid << 32 | (uint64_t)(a[7] & 3) << 48;
		break;
	case 2:
		q[0] |= g << 4 | did << 16;
		q[1] = g == 3 ? addr : 0;
		break;
	case 3:
		q[0] |= rid << 32;
		q[1] = addr & ~0xffeull;
		break;
	case 4:
		q[0] |= (g & 1) << 4 | (uint64_t)(a[5] & 31) << 27 | (uint64_t)a[6] << 32;
		break;
	case 5:
		q[0] |= (uint64_t)(a[4] & 7) << 4 | (uint64_t)a[5] << 32;
		q[1] = (a[6] & 0xfu) * 4;
		break;
	case 6:
	case 7:
		q[0] |= g << 4 | did << 16 | pasid << 32;
		q[1] = g == 3 && q[0] % 16 == 6 ? addr : 0;
		break;
	case 8:
		q[0] |= rid << 16 | pasid << 32;
		q[1] = (addr & ~0xfffull) | (a[4] & 1) | (a[4] & 2 ? 0x800 : 0);
		break;
	case 9:
		q[0] |= rid << 16 | pasid << 32 | (uint64_t)(a[4] & 3) << 4;
		q[1] = (uint64_t)a[5] << 3 | (a[6] & 4);
		break;
	default:
		break;
	}
}

/* Puts descriptors at the tail, which then moves. */
static void submit(const uint64_t *q, unsigned copies)
{
	uint64_t iqa = f.vtd->queue.iqa, size = 4096ull << (iqa & 7);
	uint64_t base = iqa & VTD_ADDR, tail = read_register(0x88, 8), status = 0;
	unsigned entry = iqa & 0x800 ? 32 : 16;

	if (tail >= size)
		tail = 0;
	for (unsigned i = 0; i < copies; i++) {
		if (base < RAM_BYTES)
			write_memory(base + tail, q, entry);
		tail = tail + entry >= size ? 0 : tail + entry;
	}
	if (q[1] < RAM_BYTES - 4)
		memcpy(&status, (const char *)ram + (q[1] & ~3ull), 4);
	write_register(0x88, 8, tail);
	check_wait(q, status);
}

static void command(const uint64_t *q, unsigned count, unsigned length)
{
	static const uint8_t lengths[] = {16, 32, 32, 32, 0, 15, 24, 40};
	uint8_t entries[4 * 40] = {0};
	enum snest_vtd_queue_error error;
	size_t wanted = count % 4 + 1, n = wanted;
	bool was_flagged = f.fuzz.failed;
	int ret;

	length = lengths[length % 8];
	for (unsigned i = 0; i < wanted && length >= 16; i++)
		memcpy(entries + i * length, q, length < 32 ? 16 : 32);
	model_refresh();
	ret = snest_vtd_invalidate(f.vtd, entries, length, &n, &error);
	fuzz_check(n <= wanted && (ret || n == wanted), "%zu of %zu handled: %d", n, wanted, ret);
	fuzz_check(ret != -EINVAL || !n || error, "a bad descriptor without a reason");
	(void)was_flagged;
	if (n)
		executed(q, !model_refresh());
}

/* Invalidation through CCMD or IOTLB. */
static void by_register(const uint8_t *a)
{
	uint64_t did = a[2] & 3, g = a[4] & 3, q[2] = {0, 0};
	uint64_t rid = model_rids[a[3] % MODEL_RIDS],
		 addr = model_iovas[a[5] % MODEL_IOVAS] | (a[6] & 0x7f);
	bool context = a[1] & 1, ready;
	unsigned offset = context ? 0x28 : 0xf8;
	uint64_t value;

	value = read_register(offset, 8);
	/* Version, mode and queue decide whether it does anything; it then says so. */
	ready = !(value >> 63) && !(f.vtd->reg[REG_GSTS] & VTD_QIE) &&
	        (model.reg.rtaddr & 0xc00) == 0;
	if (context) {
		q[0] = 1 | g << 4 | did << 16 | rid << 32;
		write_register(offset, 8, 1ull << 63 | g << 61 | did | rid << 16);
	} else {
		q[0] = 2 | g << 4 | did << 16;
		q[1] = addr;
		write_register(0xf0, 8, addr);
		write_register(offset, 8, 1ull << 63 | g << 60 | did << 32);
	}
	value = read_register(offset, 8);
	/* Still busy, or done with the granularity that was asked for. */
	if (ready && g && ((value >> 63) || (value >> (context ? 59 : 57) & 3) == g))
		executed(q, true);
}

/* ---- What an embedder may do ---------------------------------------------------------------------- */

/* Another unit, of capabilities that may contradict each other. */
static void another_unit(const uint8_t *a)
{
	struct snest_vtd_config config = {.size = sizeof(config), .flags = a[1] & 3};
	struct snest_vtd *vtd = NULL;
	const char *why = NULL;
	int ret;

	if (config.flags & SNEST_VTD_RAW) {
		config.cap = f.cap ^ (a[2] ? 1ull << a[3] % 64 : 0) ^ (uint64_t)a[8] << a[9] % 56;
		config.ecap =
			f.ecap ^ (a[4] ? 1ull << a[5] % 64 : 0) ^ (uint64_t)a[10] << a[11] % 56;
		config.features = a[6] == 0xff;
	} else {
		config.features = (uint32_t)fuzz_get(a + 8, 4) & 0x3fffff;
		config.address_bits = a[2] & 1 ? 0 : 39 + a[2] % 19u;
		config.domain_bits = a[3] % 20u;
		config.pasid_bits = a[4] % 24u;
		config.fault_records = a[5];
		config.page_mask_bits = a[6] % 70u;
		config.cap = a[7] == 1;
		config.haw_bits = a[12];
	}
	if (a[13] & 1)
		config.version = 0x100;
	if (a[13] & 2)
		config.flags |= 0x80;
	if (a[13] & 4)
		config.features |= 1u << 31;
	ret = snest_vtd_create(f.fuzz.vm, a[14] == 0xff ? NULL : &config, &vtd, &why);
	fuzz_check(!ret || ret == -EINVAL || ret == -EOPNOTSUPP ||
	                   (ret == -ENOMEM && f.fuzz.failed),
	           "create: %d", ret);
	fuzz_check(why && (!*why == (ret != -EINVAL && ret != -EOPNOTSUPP)), "%d without a reason",
	           ret);
	if (!ret)
		snest_vtd_destroy(vtd);
}

/* What an embedder must not do is refused. */
static void wrong(void)
{
	struct snest_sink sink = {.size = sizeof(sink)};
	struct snest_vtd_page_request request = {.rid = 0x10000};
	uint8_t entry[40] = {0x12};
	enum snest_vtd_queue_error error;
	struct snest_translation t;
	struct snest_device *device;
	struct snest_fault fault;
	size_t count = 0;
	uint64_t value;

	fuzz_check(snest_vtd_read(f.vtd, 0, 9, &value) == -EINVAL && !value, "read of 9 bytes");
	fuzz_check(snest_vtd_write(f.vtd, 0, 0, 0) == -EINVAL, "write of nothing");
	fuzz_check(snest_vtd_mirror(f.vtd, 0, SNEST_NO_PASID, &sink) == -EINVAL, "mirror");
	fuzz_check(snest_vtd_device(f.vtd, 0x10000, &device) == -EINVAL, "device");
	fuzz_check(snest_vtd_remove(f.vtd, 0x10000) == -ENOENT, "remove");
	fuzz_check(snest_vtd_page_request(f.vtd, &request) < 0, "page request");
	fuzz_check(!snest_vtd_invalidate(f.vtd, NULL, 16, &count, NULL), "a probe");
	count = 1;
	entry[36] = 1;
	fuzz_check(snest_vtd_invalidate(f.vtd, entry, 40, &count, &error) == -E2BIG && !count,
	           "what is beyond 32 bytes");
	fuzz_check(snest_vtd_restore(f.vtd, NULL, 0) == -EINVAL, "restore");
	snest_vtd_destroy(NULL);
	if (snest_vtd_device(f.vtd, model_rids[0], &device))
		return;
	snest_read_begin();
	fuzz_check(snest_translate_pasid(device, 1u << 20, 0, SNEST_READ, &t, &fault) == -EACCES,
	           "a PASID of 21 bits");
	snest_read_end();
}

/* Interrupts pass where they are written to, and are no memory. */
static void interrupt(unsigned pair, uint32_t access, uint32_t low)
{
	uint64_t iova = 0xfee00000 | (low & 0xfffff);
	struct snest_translation t;
	struct snest_fault fault;
	int ret;

	snest_read_begin();
	ret = snest_vtd_translate(f.vtd, model_rids[pair / MODEL_PASIDS],
	                          model_pasids[pair % MODEL_PASIDS], iova, access, &t, &fault);
	snest_read_end();
	if (pair % MODEL_PASIDS)
		return;
	fuzz_check(f.broken || f.fuzz.failed ||
	                   (access == SNEST_WRITE
	                            ? !ret && t.outcome == SNEST_WALK_GPA && t.host == iova
	                            : ret == -EACCES),
	           "an interrupt: %d", ret);
}

/* ---- Actions ------------------------------------------------------------------------------------------- */

static void act(const uint8_t *a)
{
	unsigned size = 1 + a[1] % 8u, pair = a[5] % MODEL_PAIRS, iova = a[6] % MODEL_IOVAS;
	uint64_t where = fuzz_get(a + 2, 2), value = fuzz_get(a + 8, 8), q[4];
	uint64_t offset = a[4] & 0x80 ? where : registers[where % (sizeof(registers) / 2)];
	uint32_t access = 1 + a[1] % 3u;

	switch (a[0] % A_COUNT) {
	case A_WRITE:
		write_register(offset, a[4] & 1 ? size : 8, value);
		break;
	case A_READ:
		read_register(offset, size);
		break;
	case A_MEMORY:
		write_word(where % RAM_WORDS, value);
		break;
	case A_POINT:
		point(a);
		break;
	case A_GUEST:
		guest(a[1], a[2] & 3, 1 + a[3] % 4u);
		break;
	case A_DESCRIPTOR:
		q[0] = value;
		q[1] = where;
		q[2] = a[4];
		q[3] = 0;
		submit(q, 1);
		break;
	case A_INVALIDATE:
		describe(a, q);
		submit(q, 1 + (a[7] >> 4));
		break;
	case A_COMMAND:
		describe(a, q);
		command(q, a[8], a[9]);
		break;
	case A_BY_REGISTER:
		by_register(a);
		break;
	case A_REQUEST:
		if (a[7] & 0x20) {
			interrupt(pair, access, a[8] * 16u);
			break;
		}
		if (a[7] & 0x40)
			access |= SNEST_EXEC;
		if (a[7] & 0x80)
			access |= SNEST_PRIVILEGED;
		request(pair, iova, a[8], access);
		break;
	case A_SAVE:
		save(value);
		break;
	case A_ROOT:
		if (a[1] & 1) {
			snest_vtd_set_root(f.vtd, (where & 0xf) << 12 | (where & 0x30) << 6);
			model_configure(f.vtd->root, f.vtd->te);
			if (f.cap & VTD_CAP_ESRTPS)
				model_forget_everything();
		} else if (f.vtd->te != (a[2] & 1)) {
			snest_vtd_enable(f.vtd, a[2] & 1);
			model_configure(f.vtd->root, f.vtd->te);
			if (!model.te && (f.ecap & VTD_ECAP_SMTS))
				model_forget_everything();
		}
		break;
	case A_RUN: {
		struct moment m;

		model_refresh();
		look(&m);
		if (a[1] & 1) {
			snest_vtd_run(f.vtd);
			settle(&m, f.sync ? 32768 : f.vtd->budget);
		} else {
			/* The background, which goes on as long as there is something. */
			sn_reclaim_help(&f.fuzz.vm->reclaim);
			settle(&m, UINT64_MAX);
		}
		break;
	}
	case A_MIRROR:
		mirror(pair);
		break;
	case A_UNMIRROR:
		if (a[1] & 1)
			remove_device(pair);
		else
			unmirror(pair);
		break;
	case A_PAGE_REQUEST:
		page_request(a);
		break;
	case A_UNIT:
		another_unit(a);
		break;
	case A_WRONG:
		wrong();
		break;
	case A_PIN:
		if (a[1] & 4)
			unpin(a[2] % PINS);
		else
			pin(a[2] % PINS, pair, iova, access);
		break;
	default:
		if (a[1] & 1)
			f.fuzz.fail = 1 + a[2] % 16;
		else if (a[1] & 2)
			f.sink_fail = a[2] % 8;
		else if (a[1] & 4)
			f.device_tlb = a[2] & 1 ? -ETIMEDOUT : a[2] & 2 ? -EIO : 0;
		else
			flush(a[2]);
	}
}

static void check(void)
{
	struct snest_vtd_stats stats = {.size = sizeof(stats)};

	notice();
	model_refresh();
	follow_configuration();
	check_sinks();
	f.broken |= f.fuzz.failed;
	fuzz_check(!snest_vtd_stats(f.vtd, &stats) && stats.descriptors == f.vtd->stats.descriptors,
	           "no statistics");
	fuzz_check(f.vtd->reg[REG_CAP] == f.cap && f.vtd->reg[REG_ECAP] == f.ecap,
	           "a constant register has changed");
}

/* ---- One input ------------------------------------------------------------------------------------------- */

static int ram_read(void *opaque, uint64_t addr, void *buf, size_t length)
{
	(void)opaque;
	memcpy(buf, (const char *)ram + addr, length);
	return 0;
}

static int ram_write(void *opaque, uint64_t addr, const void *buf, size_t length)
{
	(void)opaque;
	memcpy((char *)ram + addr, buf, length);
	return 0;
}

static int ram_exchange(void *opaque, uint64_t addr, uint64_t *expected, uint64_t desired)
{
	uint64_t *word = &ram[addr / 8];

	(void)opaque;
	if (*word != *expected) {
		*expected = *word;
		return -EAGAIN;
	}
	*word = desired;
	return 0;
}

static void map_ram(bool mapped)
{
	static const struct snest_accessors accessors = {
		.read = ram_read, .write = ram_write, .cmpxchg64 = ram_exchange};
	struct snest_region region = {
		.size = sizeof(region),
		.last = RAM_BYTES - 1,
		.host = HOST,
		.mapping = mapped ? ram : NULL,
		.accessors = mapped ? NULL : &accessors,
	};

	if (snest_memory_replace(f.fuzz.vm, &region))
		fuzz_check(0, "no memory");
	f.mapped = mapped;
	fuzz_vm_mark(&f.fuzz);
}

static void create(void)
{
	struct snest_region data = {
		.size = sizeof(data),
		.first = DATA,
		.last = DATA + DATA_BYTES - 1,
		.host = HOST + DATA,
	};
	struct snest_vtd *vtd;

	fuzz_vm_create(&f.fuzz);
	model_create(ram);
	/* What a VM keeps once it has been needed is made before anything is counted. */
	if (snest_memory_add(f.fuzz.vm, &data) || snest_memory_add(model.vm, &data) ||
	    snest_vm_track(f.fuzz.vm, &tracker) || snest_vm_track(f.fuzz.vm, NULL) ||
	    snest_vtd_create(f.fuzz.vm, NULL, &vtd, NULL))
		fuzz_check(0, "no memory");
	snest_vtd_destroy(vtd);
	map_ram(true);
}

#define SCALABLE (SNEST_VTD_QUEUE | SNEST_VTD_SCALABLE)
#define BOTH (SCALABLE | SNEST_VTD_FIRST_STAGE | SNEST_VTD_SECOND_STAGE)

static const uint32_t features[] = {
	SNEST_VTD_QUEUE | SNEST_VTD_CACHING_MODE | SNEST_VTD_PASS_THROUGH | SNEST_VTD_PAGE_2M,
	BOTH | SNEST_VTD_CACHING_MODE | SNEST_VTD_NESTED | SNEST_VTD_PASS_THROUGH |
		SNEST_VTD_PAGE_2M | SNEST_VTD_PAGE_1G | SNEST_VTD_SUPERVISOR | SNEST_VTD_RID_PASID,
	SCALABLE | SNEST_VTD_FIRST_STAGE | SNEST_VTD_FIRST_1G | SNEST_VTD_FIRST_5LEVEL |
		SNEST_VTD_EXTENDED_A | SNEST_VTD_SRTP_INVALIDATES,
	SCALABLE | SNEST_VTD_SECOND_STAGE | SNEST_VTD_INTERRUPTS | SNEST_VTD_DEVICE_TLB |
		SNEST_VTD_PAGE_REQUESTS | SNEST_VTD_SECOND_AD | SNEST_VTD_CACHING_MODE,
	SNEST_VTD_CACHING_MODE | SNEST_VTD_PROTECTED_MEMORY | SNEST_VTD_PASS_THROUGH |
		SNEST_VTD_SRTP_INVALIDATES,
	BOTH | SNEST_VTD_NESTED | SNEST_VTD_DEVICE_TLB | SNEST_VTD_PAGE_REQUESTS |
		SNEST_VTD_SECOND_AD | SNEST_VTD_COHERENT | SNEST_VTD_SNOOP,
	SNEST_VTD_QUEUE | SNEST_VTD_DEVICE_TLB | SNEST_VTD_INTERRUPTS | SNEST_VTD_PROTECTED_MEMORY |
		SNEST_VTD_PASS_THROUGH,
	BOTH | SNEST_VTD_NESTED | SNEST_VTD_PASS_THROUGH | SNEST_VTD_PAGE_2M,
};

static void begin(unsigned kind, unsigned mode, unsigned more)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.features = features[kind % 8],
		.flags = mode & 1 ? SNEST_VTD_SYNC : 0,
		.haw_bits = 48,
		.budget = mode & 2 ? 2 : 0,
		.bindings_max = mode & 4 ? 2 : 0,
		.fault_records = 1 + more % 4,
		.address_bits = more & 0x10   ? 39
	                        : more & 0x20 ? 57
	                                      : 48,
		.version = more & 0x40 ? 0x60 : 0,
		.sync_entries_max = 1024,
		.table_bytes_max = more & 0x80 ? 6 * 4096 : 64 * 4096,
	};
	struct snest_vtd_hooks hooks = all_hooks;
	const char *why = "";

	if (!f.fuzz.vm)
		create();
	if (!(mode & 8) != f.mapped)
		map_ram(!(mode & 8));
	config.pasid_bits = config.features & SNEST_VTD_SCALABLE ? 8 : 0;
	if (mode & 0x10)
		hooks.kick = NULL;
	if (!(mode & 0x20))
		config.hooks = &hooks;
	f.tracking = mode & 0x40;
	if (f.tracking && snest_vm_track(f.fuzz.vm, &tracker))
		fuzz_check(0, "no tracking");
	if (snest_vtd_create(f.fuzz.vm, &config, &f.vtd, &why))
		fuzz_check(0, "snest_vtd_create: %s", why);
	f.sync = config.flags;
	f.cap = read_register(8, 8);
	f.ecap = read_register(16, 8);
	model_begin(48, f.cap, f.ecap);
}

static void finish(void)
{
	f.fuzz.fail = 0;
	unpin_all();
	snest_vtd_destroy(f.vtd);
	for (unsigned n = 0; n < MODEL_PAIRS; n++)
		fuzz_check(!f.sink[n].count, "a map is left in a sink");
	fuzz_check(!f.protected, "a page is left protected");
	if (f.tracking && snest_vm_track(f.fuzz.vm, NULL))
		fuzz_check(0, "tracking is left on");
	fuzz_vm_check_clean(&f.fuzz);
	memset(ram, 0, sizeof(ram));
	f.fuzz.failed = false;
	f.fuzz.fail = 0;
	memset(&f.vtd, 0, sizeof(f) - offsetof(__typeof__(f), vtd));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	begin(size ? data[0] : 0, size > 1 ? data[1] : 0, size > 2 ? data[2] : 0);
	for (size_t at = HEADER, n = 0; at + 16 <= size && n < ACTIONS_MAX; at += 16, n++) {
		act(data + at);
		check();
	}
	f.fuzz.fail = 0;
	f.sink_fail = 0;
	flush((unsigned)size / 16);
	check();
	finish();
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

static const struct fuzz_actions shape = {
	.header = HEADER, .length = 16, .kinds = A_COUNT, .max = ACTIONS_MAX};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	return fuzz_actions_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_actions_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}

static uint8_t *seed_data;
static size_t seed_size;

/* One more action: its first eight bytes, and a value. */
static void add(unsigned kind, uint64_t rest, uint64_t value)
{
	fuzz_put(seed_data + seed_size, 8, kind | rest << 8);
	fuzz_put(seed_data + seed_size + 8, 8, value);
	seed_size += 16;
}

#define MORE_SEEDS 24u

/* What random actions seldom meet. */
static size_t more_seeds(unsigned n)
{
	static const uint8_t kinds[] = {1, 3, 4, 5, 6, 7};
	uint64_t pass = 0xf03; /* legacy: pass-through */

	memset(seed_data, 0, HEADER);
	if (n < 8) {
		/* Units: every bit of the capabilities bent, every field out of range. */
		seed_data[0] = (uint8_t)(n * 3);
		for (unsigned i = 0; i < 16; i++) {
			uint64_t bit = n % 4 * 16 + i;

			add(A_UNIT,
			    1 | (n < 4 ? 1 << 8 : 0) | bit << 16 | (uint64_t)(n >= 4) << 24 |
			            bit << 32,
			    0);
		}
		for (unsigned i = 0; i < 14; i++)
			add(A_UNIT, i < 7 ? 0xffull << 8 * i : 0,
			    i < 7 ? 2 : 1ull << (i * 4 + n % 4) | (uint64_t)(1 + n) << 40);
		add(A_WRONG, 0, 0);
		add(A_UNIT, 0, 0xffull << 48);
		return seed_size;
	}
	seed_data[0] = kinds[n % 6];
	if (features[kinds[n % 6]] & SNEST_VTD_SCALABLE) {
		/* Page requests until the queue is full; kinds of access that are refused. */
		add(A_GUEST, 3 | 4 | 0x10 | 1 << 8 | (uint64_t)(n / 6 % 4) << 16, 0);
		for (unsigned i = 0; i < 6; i++)
			add(A_PAGE_REQUEST,
			    (uint64_t)(n & 1) << 8 | (uint64_t)(i & 7) << 16 |
			            (uint64_t)(i & 3) << 32,
			    0x1000 * i);
		/* The head follows the tail: full. */
		add(A_WRITE, 17 << 8, 0xe0);
		add(A_WRITE, 18 << 8, 0xc0);
		add(A_PAGE_REQUEST, (uint64_t)(n & 1) << 8 | 1ull << 32, 0x1000);
		add(A_PAGE_REQUEST, (uint64_t)(n & 1) << 8 | 1ull << 32, 0x1000);
		add(A_WRITE, 20 << 8, 3);
		add(A_WRITE, 19 << 8, 0x7fff000);
		add(A_PAGE_REQUEST, (uint64_t)(n & 1) << 8 | 1ull << 32, 0x1000);
	} else {
		add(A_GUEST, 4, 0);
		add(A_MEMORY, P_CONTEXT * 512 << 8, P_SECOND * 4096 | 9);
		add(A_MEMORY, (P_CONTEXT * 512 + 1) << 8, (pass & 0xff00) | 2);
		add(A_WRITE, 8 << 8, 0xfffff00000000000ull);
		add(A_WRITE, 9 << 8, 0);
		add(A_WRITE, 7 << 8, 1ull << 31);
	}
	/* A leaf that leads to the interrupt range; requests of all kinds. */
	add(A_MEMORY, ((P_SECOND + 3) * 512 + 1) << 8, 0xfee00003);
	add(A_MEMORY, ((P_FIRST + 3) * 512 + 1) << 8, 0xfee00007);
	for (unsigned i = 0; i < 8; i++)
		add(A_REQUEST,
		    (i & 2) | (uint64_t)(n & 1) << 32 | (uint64_t)(i & 1) << 40 |
		            (uint64_t)(i << 5 & 0xe0) << 48,
		    0x12);
	return seed_size;
}

/* A guest of each kind that looks, changes, invalidates and looks again; then random actions. */
size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	struct fuzz_random r = {n};
	unsigned kind = n % 8, random = n < 32 ? 0 : 8;
	bool scalable = features[kind] & SNEST_VTD_SCALABLE;
	unsigned set_up = (scalable ? 3 : 0) | 4 | (features[kind] & SNEST_VTD_QUEUE ? 0 : 8);
	unsigned pgtt = features[kind] & SNEST_VTD_NESTED        ? 1 + n / 8 % 3
	                : features[kind] & SNEST_VTD_FIRST_STAGE ? 1
	                                                         : 2;

	if (n >= 96 + MORE_SEEDS || max_size < HEADER + ACTIONS_MAX * 16)
		return 0;
	seed_data = data;
	seed_size = HEADER;
	if (n >= 96)
		return more_seeds(n - 96);
	data[0] = (uint8_t)kind;
	data[1] = (uint8_t)(n < 32 ? n / 8 : fuzz_random(&r));
	data[2] = (uint8_t)(n / 3);
	add(A_GUEST, set_up | 1 << 8 | (uint64_t)(pgtt - 1) << 16, 0);
	for (unsigned i = 0; i < 3; i++)
		add(A_REQUEST, (uint64_t)(scalable ? i : 0) << 32 | (uint64_t)i << 40, 0x12);
	if (n & 8)
		add(A_MIRROR, 0, 0);
	/* The leaf of IOVA 0, in both stages. */
	add(A_POINT, (P_SECOND + 3) << 8 | 4ull << 24 | 2ull << 32, 0);
	add(A_POINT, (P_FIRST + 3) << 8 | 5ull << 24 | 3ull << 32, 0);
	add(A_REQUEST, 0, 0x12);
	/* Page-selective of both types, and a wait. */
	add(set_up & 8 ? A_BY_REGISTER : A_INVALIDATE, 2 | 1 << 8 | 3 << 24, 0);
	add(A_INVALIDATE, 6 | 1 << 8 | 3 << 24, 0);
	add(A_INVALIDATE, 5 | 2 << 24 | 7ull << 32, 0);
	add(A_REQUEST, 0, 0x12);
	if (n & 16)
		add(A_PIN, 0, 0);
	add(A_INVALIDATE, (1 + n % 9) | 1 << 8 | (uint64_t)(1 + n % 3) << 24, 0);
	add(A_RUN, n % 2, 0);
	add(A_PAGE_REQUEST, n % 3 << 8 | 1ull << 32, 0x1000);
	add(A_SAVE, 0, n % 2 ? 0 : 0x1234503);
	for (unsigned i = 0; i < random; i++) {
		fuzz_action_random(&shape, data + seed_size, &r);
		seed_size += 16;
	}
	return seed_size;
}
