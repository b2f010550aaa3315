/* SPDX-License-Identifier: MIT */
/*
 * What guests and embedders do with the unit of target `vtd`: requests, pins,
 * mirrors, saves, set-up, commands, and what must be refused.
 */
#ifndef FUZZ_VTD_USE_H
#define FUZZ_VTD_USE_H

#include "vtd_unit.h"

/* ---- Requests ----------------------------------------------------------- */

static void request(unsigned pair, unsigned iova, unsigned offset, uint32_t access)
{
	uint64_t at = model_iovas[iova] + offset;
	struct snest_translation t = {.outcome = SNEST_WALK_FAULT};
	struct snest_fault fault;
	struct model_reply r;
	int ret;

	model_use(pair);
	f.touched |= 1ull << (pair * MODEL_IOVAS + iova);
	snest_read_begin();
	ret = snest_vtd_translate(f.vtd, model_rids[pair / MODEL_PASIDS],
	                          model_pasids[pair % MODEL_PASIDS], at, access, &t, &fault);
	snest_read_end();
	fuzz_check(!ret || ret == -EACCES || (ret == -ENOMEM && f.fuzz.failed), "translate: %d",
	           ret);
	model_refresh();
	if (ret && (f.broken || f.fuzz.failed || (f.vtd->reg[REG_PMEN] & (VTD_EPM | VTD_PRS))))
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

/* What was asked lately is asked again. */
static void ask_again(void)
{
	for (unsigned i = 0; i < ASKED && i < f.requests; i++)
		request(f.asked[i].pair, f.asked[i].iova, 0, SNEST_READ);
}

/* Everything is invalidated; what was asked before is asked again, and one more. */
static void flush(unsigned more)
{
	uint64_t again = f.touched | 1ull << more % (MODEL_PAIRS * MODEL_IOVAS);

	bool scalable = f.ecap & VTD_ECAP_SMTS;
	/* Either of the commands for what was read of structures; then the IOTLB. */
	uint64_t all[2][4] = {{scalable && more & 1 ? 0x37 : 0x11}, {0x12}};
	enum snest_vtd_queue_error error;

	model_refresh();
	for (unsigned i = 0; i < 2; i++) {
		size_t count = 1;

		snest_vtd_invalidate(f.vtd, all[i], scalable ? 32 : 16, &count, &error);
		if (count)
			executed(all[i], true);
	}
	for (; again; again &= again - 1) {
		unsigned i = (unsigned)__builtin_ctzll(again);

		request(i / MODEL_IOVAS, i % MODEL_IOVAS, 0x123, SNEST_READ);
	}
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
	model_use(pair);
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

/* ---- Mirrors ------------------------------------------------------------ */

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
	model_use(pair);
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
	for (unsigned i = 0; i < MODEL_PASIDS; i++) {
		f.sink[rid * MODEL_PASIDS + i].used = false;
		model_disuse(rid * MODEL_PASIDS + i);
	}
}

/* ---- Saving ------------------------------------------------------------- */

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

/* ---- Guests ------------------------------------------------------------- */

/* The background, which goes on as long as there is something. */
static void background(void)
{
	struct moment m;

	model_refresh();
	look(&m);
	sn_reclaim_help(&f.fuzz.vm->reclaim);
	settle(&m, UINT64_MAX);
}

/* Tables as a driver sets them up, the root and the queue on. */
static void guest(unsigned kind, uint32_t did, unsigned pgtt)
{
	bool scalable = kind & 1, wide = kind & 2;
	uint64_t page = 4096;

	write_word(P_ROOT * 512, P_CONTEXT * page | 1);
	/* The upper half of a bus has a table in scalable mode only; the word is reserved else. */
	write_word(P_ROOT * 512 + 1, scalable ? P_CONTEXT * page | 1 : 0);
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
	/* A driver polls the status until that is done. */
	if (!(kind & 0x20))
		background();
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
	bool owed = is_owed(q);

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
	if (!owed)
		check_wait(q, status);
}

static void command(const uint64_t *q, unsigned count, unsigned length)
{
	static const uint8_t lengths[] = {16, 32, 32, 32, 0, 15, 24, 40};
	uint8_t entries[4 * 40] = {0};
	enum snest_vtd_queue_error error;
	size_t wanted = count % 4 + 1, n = wanted;
	int ret;

	length = lengths[length % 8];
	for (unsigned i = 0; i < wanted && length >= 16; i++)
		memcpy(entries + i * length, q, length < 32 ? 16 : 32);
	model_refresh();
	ret = snest_vtd_invalidate(f.vtd, entries, length, &n, &error);
	fuzz_check(n <= wanted && (ret || n == wanted), "%zu of %zu handled: %d", n, wanted, ret);
	fuzz_check(ret != -EINVAL || !n || error, "a bad descriptor without a reason");
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

/* ---- What an embedder may do -------------------------------------------- */

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

	model_use(pair);
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

#endif
