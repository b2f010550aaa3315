/* SPDX-License-Identifier: MIT */
/*
 * The actions of target `shadow`.
 */
#ifndef FUZZ_SHADOW_ACT_H
#define FUZZ_SHADOW_ACT_H

#include "shadow_use.h"

enum action {
	A_MAP,
	A_UNMAP,
	A_INVALIDATE,
	A_INVALIDATE_ALL,
	A_LOOKUP,
	A_MEMORY,
	A_PIN,
	A_UNPIN,
	A_DRAIN,
	A_MIRROR,
	A_UNMIRROR,
	A_FAIL,
	A_SINK_FAIL,
	A_DIRTY,
	A_BEND,
	A_SHAPE,
	A_COPY,
	A_BIND,
	A_WRONG,
	A_COUNT
};

/* ---- Actions ------------------------------------------------------------ */

static void change_memory(unsigned kind, unsigned page, unsigned n, unsigned host)
{
	struct snest_memory_op op = {.first = page % LOOSE * 4096ull};
	size_t bad;
	int ret;

	page %= LOOSE;
	n = 1 + n % 16;
	if (page + n > LOOSE)
		n = LOOSE - page;
	op.last = op.first + n * 4096ull - 1;
	switch (kind % 3) {
	case 0:
		op.kind = SNEST_MEMORY_REMOVE;
		break;
	case 1:
		op.kind = SNEST_MEMORY_PROTECT;
		op.flags = host & 1 ? SNEST_REGION_READONLY : 0;
		break;
	default:
		op.kind = SNEST_MEMORY_REPLACE;
		op.region = (struct snest_region){
			.size = sizeof(op.region),
			.first = op.first,
			.last = op.last,
			.host = MOVED_HOST + (uint64_t)host * 4096,
		};
	}
	f.loosened = true;
	ret = snest_memory_update(f.fuzz.vm, &op, 1, &bad, nothing, NULL);
	fuzz_check(!ret || ret == -ENOENT || ret == -ENOMEM, "snest_memory_update: %d", ret);
	for (unsigned i = page; i < page + n && !ret; i++) {
		f.loose[i].gone = kind % 3 == 0 || (kind % 3 == 1 && f.loose[i].gone);
		if (kind % 3 == 1) {
			f.loose[i].readonly = host & 1;
		} else {
			f.loose[i].readonly = false;
			f.loose[i].moved = true;
			f.loose[i].host = op.region.host + (i - page) * 4096ull;
		}
	}
	/* That may have been a table. */
	if (f.bent)
		refresh(0, SEGMENTS);
	/* Mirrors read everything again. */
	if (f.mirrored && !ret)
		settled(0, SEGMENTS);
}

static void invalidate_all(unsigned kind)
{
	struct snest_tag tag = {7, 3};

	switch (kind % 4) {
	case 0:
		snest_space_invalidate(f.space, kind & 4, 0, 0);
		if (!(kind & 4))
			snest_space_invalidate(f.space, 0, UINT64_MAX, 0);
		break;
	case 1:
		snest_tag_invalidate(f.fuzz.vm, tag, 1, 0, 0);
		break;
	case 2:
		snest_device_invalidate(f.device, kind & 4 ? SNEST_NO_PASID : SNEST_ANY_PASID, 0,
		                        UINT64_MAX, 0);
		break;
	default:
		snest_vm_invalidate(f.fuzz.vm, 0, UINT64_MAX, SNEST_INVALIDATE_LEAF);
	}
	settled(0, SEGMENTS);
}

static void map(unsigned i, unsigned n, const uint8_t *a)
{
	uint64_t first = segments[i].first, last = segments[i + n - 1].last,
		 bytes = last - first + 1;
	uint64_t gpa = a[4] & 0x80 ? (a[4] & 0x3f) * 4096ull
	                           : (a[4] & 7) * 0x200000ull + (first & 0x3fffffff);
	uint32_t access = a[6] & (SNEST_READ | SNEST_WRITE);
	uint32_t attr = SNEST_ATTR_USER | SNEST_ATTR_ACCESSED | (a[7] & 2 ? 0 : SNEST_ATTR_DIRTY);

	/* Wide and unaligned would be a million entries. */
	if (bytes > 4 << 20 && (a[4] & 0x80))
		gpa = first & 0x3fffffff;
	/* Some lead to where there is no memory. */
	if (a[5] & 0x80)
		gpa += MEMORY_BYTES - 0x100000;
	snest_table_map(f.table, first, last, gpa, access ? access : SNEST_READ, attr,
	                (a[7] & 1 ? SNEST_TABLE_REPLACE : 0) |
	                        (a[7] & 4 && bytes <= 4 << 20 ? SNEST_TABLE_PAGE(12) : 0));
}

/* Requests with a PASID, and without a binding at times. */
static void bind(unsigned pasid, unsigned kind, struct segment *s, uint32_t access)
{
	struct snest_device_stats stats = {.size = sizeof(stats)};
	struct snest_translation t;
	struct snest_fault fault;
	int ret = 0;

	pasid *= 700;
	if (kind % 4 == 0)
		ret = snest_device_bind(f.device, pasid, f.space);
	else if (kind % 4 == 1)
		ret = snest_device_bind(f.device, pasid, NULL);
	else if (kind % 4 == 2)
		snest_device_unbind_all(f.device, false);
	fuzz_check(!ret || ret == -ENOMEM, "bind: %d", ret);
	snest_read_begin();
	ret = snest_translate_pasid(f.device, pasid, s->first, access, &t, &fault);
	snest_read_end();
	mark_asked(s->first, access);
	if (!ret || fault.reason != SNEST_FAULT_BLOCKED)
		judge(s, s->first, access, ret, &t);
	if (!ret && (access & SNEST_WRITE) && t.outcome == SNEST_WALK_HOST)
		mark_written(s->first);
	fuzz_check(!snest_device_stats(f.device, &stats) && stats.bound <= 5, "%llu are bound",
	           ull(stats.bound));
}

/* What an embedder must not do is refused, and changes nothing. */
static void wrong(struct segment *s)
{
	struct snest_space_config config = {.size = sizeof(config), .flags = 0x80};
	struct snest_sink sink = {.size = sizeof(sink)};
	struct snest_tracker half = {.size = sizeof(half), .protect = hook_protect};
	struct snest_shadow_stats stats = {.size = sizeof(stats)};
	struct snest_device *device;
	struct snest_space *space;
	bool held = false;
	uint64_t bitmap[1];
	struct snest_pin none;

	fuzz_check(snest_device_bind(f.device, 1u << 20, f.space) == -EINVAL, "bind");
	fuzz_check(snest_device_create(f.fuzz.vm, RID, NULL, NULL, &device) != 0, "create");
	fuzz_check(snest_space_get(f.fuzz.vm, &config, &space) != 0, "get");
	config.flags = 0;
	config.count = SNEST_MAX_STAGES + 1;
	fuzz_check(snest_space_get(f.fuzz.vm, &config, &space) == -EINVAL, "get");
	fuzz_check(snest_space_mirror(f.space, &sink) == -EINVAL, "mirror");
	fuzz_check(snest_vm_track(f.fuzz.vm, &half) == -EINVAL, "track");
	fuzz_check(!(f.mirrored && f.tracking && !f.announced) ||
	                   snest_vm_track(f.fuzz.vm, NULL) == -EBUSY,
	           "tracking can be taken away");
	fuzz_check(snest_table_written(f.fuzz.vm, 0, 0) == -EINVAL, "written");
	/* More pages than are looked up one by one. */
	snest_table_written(f.fuzz.vm, 0, MEMORY_BYTES);
	if (f.mirrored && f.tracking && !f.announced)
		settled(0, SEGMENTS);
	for (unsigned i = 0; i < PINS; i++)
		held |= f.pinned[i];
	fuzz_check(snest_drain(f.fuzz.vm, 1) == (held ? -ETIME : 0), "a drain with a timeout");
	fuzz_check(!snest_shadow_stats(f.fuzz.vm, &stats) && stats.spaces == 1 &&
	                   stats.mirrors == (f.mirrored || f.observed) && !stats.pins_held == !held,
	           "statistics of the shadow");
	fuzz_check(snest_space_dirty(f.space, 1, 4095, 0, bitmap, NULL) == -EINVAL, "dirty");
	fuzz_check(snest_pin(f.device, SNEST_NO_PASID, s->first, 0, 0, &none, NULL) == -EINVAL,
	           "pin");
	fuzz_check(snest_space_enumerate(f.space, 1, 0, NULL, NULL) == -EINVAL, "enumerate");
	/* qsbr cannot tell that a section is open. */
	if (strcmp(snest_rcu_flavour(), "qsbr")) {
		snest_read_begin();
		fuzz_check(snest_drain(f.fuzz.vm, 0) == -EDEADLK, "drain");
		fuzz_check(snest_dirty_start(f.fuzz.vm) != 0, "dirty");
		snest_read_end();
	}
	fuzz_check(f.dirty ? snest_dirty_start(f.fuzz.vm) != 0
	                   : snest_dirty_stop(f.fuzz.vm) == -ENOENT,
	           "dirty");
}

static void act(const uint8_t *a)
{
	unsigned i = a[1] % SEGMENTS, n = 1 + a[2] % 24u;
	struct segment *s = &segments[i];
	uint64_t unmapped, word, first, last, mask;
	uint32_t access = a[6] & (SNEST_READ | SNEST_WRITE);
	bool writes = a[0] % A_COUNT <= A_UNMAP || a[0] % A_COUNT == A_SHAPE;

	/* Segments that follow each other without a gap. */
	while (n > 1 && (i + n > SEGMENTS ||
	                 segments[i + n - 1].last - s->first + 1 !=
	                         (segments[i + n - 1].last / 4096 - s->first / 4096 + 1) * 4096 ||
	                 segments[i + n - 1].first / 4096 - s->first / 4096 > 2048))
		n--;
	/* The writer trusts its tables: it changes none that somebody else has written to. */
	if (f.bent && writes)
		return;
	first = s->first;
	last = segments[i + n - 1].last;
	if (writes)
		reach(&first, &last);
	switch (a[0] % A_COUNT) {
	case A_MAP:
		map(i, n, a);
		break;
	case A_UNMAP:
		snest_table_unmap(f.table, s->first, segments[i + n - 1].last,
		                  a[7] & 1 ? SNEST_TABLE_WHOLE : 0, &unmapped);
		break;
	case A_SHAPE:
		mask = a[7] & 6 ? 0x1fffff : 0x3fffffff;
		if (a[7] & 1)
			snest_table_cut(f.table, s->first);
		else
			snest_table_merge(f.table, s->first & ~mask, s->first | mask);
		break;
	case A_INVALIDATE:
		snest_space_invalidate(f.space, s->first, segments[i + n - 1].last, a[7] & 1);
		settled(i, n);
		settled_pages(s->first, segments[i + n - 1].last);
		break;
	case A_INVALIDATE_ALL:
		invalidate_all(a[7]);
		break;
	case A_LOOKUP:
		if (a[7] % 8 == 1)
			batch(i);
		else if (a[7] % 8 == 2)
			scatter(i, (uint64_t)a[5] << (a[4] & 7) << 8);
		else if (a[7] % 8 == 3)
			lookup(s, s->last, access);
		else
			lookup(s, s->first + a[4], access);
		break;
	case A_COPY:
		copy(i, a[4] * 16u, a[5] * 2u, a[7] & 1);
		break;
	case A_BIND:
		bind(a[4] & 3, a[7], s, access);
		break;
	case A_WRONG:
		wrong(s);
		break;
	case A_MEMORY:
		change_memory(a[7], a[1], a[2], a[6]);
		break;
	case A_PIN:
		pin(a[7] % PINS, s, access);
		break;
	case A_UNPIN:
		unpin(a[7] % PINS);
		break;
	case A_DRAIN:
		if (a[7] & 0x10)
			sn_reclaim_help(&f.fuzz.vm->reclaim);
		else
			drain(a[7] % DRAINS);
		break;
	case A_MIRROR:
		mirror(a[7] & 1);
		break;
	case A_UNMIRROR:
		unmirror();
		break;
	case A_FAIL:
		f.fuzz.fail = 1 + a[7] % 16;
		break;
	case A_SINK_FAIL:
		f.deny = a[7] & 0x40;
		if (a[7] & 0x80)
			f.sink.fail_unmap = a[7] % 16;
		else
			f.sink.fail_map = a[7] % 16;
		break;
	case A_DIRTY:
		fetch_dirty(a[7]);
		break;
	default:
		/* A bit of an entry. What it maps then is anybody's guess. */
		if (!f.cut)
			break;
		f.bent = true;
		memcpy(&word, tables + fuzz_get(a + 2, 2) % (f.cut / 8) * 8, 8);
		f.blurred |= is_replica(word);
		word ^= 1ull << a[7] % 64;
		f.blurred |= is_replica(word);
		memcpy(tables + fuzz_get(a + 2, 2) % (f.cut / 8) * 8, &word, 8);
		refresh(0, SEGMENTS);
		notice(0, SEGMENTS);
		return;
	}
	if (!writes)
		return;
	refresh_range(first, last);
	notice(0, SEGMENTS);
}

#endif
