/* SPDX-License-Identifier: MIT */
/*
 * How target `shadow` uses a space: write tracking, lookups and DMA, pins and
 * drains, the dirty log, mirrors and observers.
 */
#ifndef FUZZ_SHADOW_USE_H
#define FUZZ_SHADOW_USE_H

#include "shadow_check.h"

/* ---- Write tracking ----------------------------------------------------- */

static int hook_protect(void *opaque, uint64_t gpa, uint64_t length)
{
	(void)opaque;
	fuzz_check(length == 4096 && !(gpa & 4095), "protect 0x%llx", ull(gpa));
	if (f.deny || gpa < TABLES)
		return -EFAULT;
	gpa -= TABLES;
	fuzz_check(!(f.protected >> gpa / 4096 & 1), "protected twice");
	f.protected |= 1ull << gpa / 4096;
	memcpy(seen + gpa, tables + gpa, 4096);
	return 0;
}

static void hook_unprotect(void *opaque, uint64_t gpa, uint64_t length)
{
	(void)opaque;
	(void)length;
	gpa -= TABLES;
	fuzz_check(gpa < TABLES_BYTES && (f.protected >> gpa / 4096 & 1), "was not protected");
	f.protected &= ~(1ull << gpa / 4096);
}

FUZZ_FAST static bool find_change(unsigned page, uint64_t *first, uint64_t *last)
{
	const uint64_t *a = (const uint64_t *)(const void *)(tables + page * 4096ull);
	uint64_t *b = (uint64_t *)(void *)(seen + page * 4096ull);
	bool found = false;

	for (unsigned i = 0; i < 512; i++) {
		if (a[i] == b[i])
			continue;
		b[i] = a[i];
		*last = page * 4096ull + i * 8 + 7;
		if (!found)
			*first = *last - 7;
		found = true;
	}
	return found;
}

/* Tells of every write to a page that is protected: the mirror then follows. */
static void notice(unsigned i, unsigned n)
{
	uint64_t first = 0, last = 0;
	bool again = true;

	if (!f.tracking || f.announced || !f.mirrored)
		return;
	/* A notice may protect pages, which are seen as they are. */
	for (unsigned round = 0; again && round < 8; round++) {
		again = false;
		for (unsigned page = 0; page < TABLES_PAGES; page++) {
			if (!(f.protected >> page & 1) || !find_change(page, &first, &last))
				continue;
			snest_table_written(f.fuzz.vm, TABLES + first, last - first + 1);
			again = true;
		}
	}
	settled(i, n);
}

/* ---- Lookups ------------------------------------------------------------ */
/* A device may write to this page from now on: the log has it, or has it for nothing. */
static void mark(uint64_t *log, uint64_t iova)
{
	if (f.dirty && iova / 4096 < LOGGED_PAGES)
		log[iova / 4096 / 64] |= 1ull << iova / 4096 % 64;
}

static void mark_written(uint64_t iova)
{
	mark(f.written, iova);
	mark(f.asked, iova);
}

/* Somebody asked to write, in vain perhaps. */
static void mark_asked(uint64_t iova, uint32_t access)
{
	if (access & SNEST_WRITE)
		mark(f.asked, iova);
}

static void lookup(struct segment *s, uint64_t iova, uint32_t access)
{
	struct snest_translation t;
	struct snest_fault fault;
	int ret;

	snest_read_begin();
	ret = snest_translate(f.device, iova, access, &t, &fault);
	snest_read_end();
	judge(s, iova, access, ret, &t);
	mark_asked(iova, access);
	if (ret)
		return;
	if ((access & SNEST_WRITE) && t.outcome == SNEST_WALK_HOST)
		mark_written(iova);
	/* A cache remembers one page, with what is asked for least. */
	if (f.observed && t.outcome == SNEST_WALK_HOST && iova - s->first < 4096 &&
	    (t.rights & SNEST_READ)) {
		s->cached = true;
		s->cached_host = t.host - (iova & 4095);
	}
}

static void batch(unsigned i)
{
	struct snest_translation t[8];
	uint64_t iova[8];
	size_t good = 0, n;

	for (unsigned j = 0; j < 8; j++)
		iova[j] = segments[(i + j) % SEGMENTS].first + j;
	snest_read_begin();
	n = snest_translate_batch(f.device, iova, 8, SNEST_READ, t);
	snest_read_end();
	for (unsigned j = 0; j < 8; j++) {
		bool ok = t[j].outcome != SNEST_WALK_FAULT;

		good += ok;
		judge(&segments[(i + j) % SEGMENTS], iova[j], SNEST_READ, ok ? 0 : -EACCES, &t[j]);
	}
	fuzz_check(n == good, "%zu of a batch, it says %zu", good, n);
}

static void scatter(unsigned i, uint64_t length)
{
	struct snest_host_range range[6];
	struct snest_fault fault;
	uint64_t at = segments[i].first, done, sum = 0;
	size_t n;

	snest_read_begin();
	n = snest_scatter(f.device, at, length, SNEST_READ, range, 6, &done, &fault);
	snest_read_end();
	fuzz_check(n <= 6 && done <= length, "%zu ranges, %llu bytes", n, ull(done));
	for (size_t j = 0; j < n; j++) {
		for (uint64_t byte = 0; byte < range[j].length; byte += 4096) {
			struct segment *s = segment_of(at + byte);
			struct snest_translation t = {
				.host = range[j].host + byte, .length = 1, .rights = SNEST_READ};

			if (byte > 65536 || !s)
				break;
			judge(s, (at + byte), SNEST_READ, 0, &t);
		}
		at += range[j].length;
		sum += range[j].length;
	}
	fuzz_check(sum == done, "%llu bytes in ranges, it says %llu", ull(sum), ull(done));
}

/* DMA: what is written can be read, and lies where the tables say. */
static void copy(unsigned i, unsigned offset, unsigned length, bool write)
{
	char out[300], in[300];
	uint64_t iova = segments[i].first + offset;
	struct snest_fault fault;
	size_t done = 0;
	int ret;

	memset(out, (int)(i + offset), sizeof(out));
	length = 1 + length % sizeof(out);
	if (!write) {
		snest_dma_read(f.device, SNEST_NO_PASID, iova, in, length, &done, &fault);
		fuzz_check(done <= length, "more than asked for");
		return;
	}
	ret = snest_dma_write(f.device, SNEST_NO_PASID, iova, out, length, &done, &fault);
	f.wrote |= done != 0;
	mark_asked(iova, SNEST_WRITE);
	mark_asked(iova + length - 1, SNEST_WRITE);
	fuzz_check(done <= length && (ret || done == length), "%zu of %u bytes: %d", done, length,
	           ret);
	for (uint64_t at = iova & ~4095ull; done && at < iova + done; at += 4096)
		mark_written(at);
	if (f.bent) {
		/* That may have been a table. */
		f.blurred |= f.format != SNEST_FORMAT_VTD_SS && f.format != SNEST_FORMAT_X86_64;
		refresh(0, SEGMENTS);
		notice(0, SEGMENTS);
	}
	if (ret || f.bent || segments[i].count || segments[i].wild)
		return;
	if (!snest_dma_read(f.device, SNEST_NO_PASID, iova, in, length, NULL, NULL))
		fuzz_check(!memcmp(in, out, length), "what was written is not there");
}

/* ---- Pins and drains ---------------------------------------------------- */

static void drained(void *opaque)
{
	*(int *)opaque = 2;
}

static void nothing(void *opaque)
{
	(void)opaque;
}

static void pin(unsigned n, struct segment *s, uint32_t access)
{
	int ret;

	if (f.pinned[n])
		return;
	ret = snest_pin(f.device, SNEST_NO_PASID, s->first, 1, access, &f.pin[n], NULL);
	judge(s, s->first, access, ret, &f.pin[n].translation);
	mark_asked(s->first, access);
	f.pinned[n] = !ret;
	f.pin_writes[n].page = LOGGED_PAGES;
	if (!ret && (access & SNEST_WRITE) && s->first / 4096 < LOGGED_PAGES)
		f.pin_writes[n].page = (unsigned)(s->first / 4096);
	/* A first write through the log is one. */
	if (!ret && (access & SNEST_WRITE) && f.pin[n].translation.outcome == SNEST_WALK_HOST)
		mark_written(s->first);
}

static void unpin(unsigned n)
{
	if (!f.pinned[n])
		return;
	for (unsigned j = 0; j < DRAINS; j++)
		f.blocked[j] &= ~(1u << n);
	snest_unpin(&f.pin[n]);
	f.pinned[n] = false;
	if (f.pin_writes[n].page < LOGGED_PAGES)
		mark_written(f.pin_writes[n].page * 4096ull);
}

static void drain(unsigned i)
{
	if (f.done[i] == 1)
		return;
	f.blocked[i] = 0;
	for (unsigned j = 0; j < PINS; j++)
		f.blocked[i] |= (unsigned)f.pinned[j] << j;
	f.done[i] = 1;
	snest_drain_async(f.fuzz.vm, &f.node[i], drained, &f.done[i]);
}

/* ---- The dirty log ------------------------------------------------------ */

/*
 * What the log has no memory for it keeps as one range, which may go on beyond
 * the pages that are looked at: all from the first on may be dirty.
 */
static void allow_spill(void)
{
	bool any = false;

	for (unsigned i = 0; i < LOGGED_PAGES / 64; i++) {
		uint64_t lowest = f.asked[i] & -f.asked[i];

		f.asked[i] |= any ? UINT64_MAX : lowest ? -lowest : 0;
		any |= lowest != 0;
	}
}

static void fetch_dirty(unsigned kind)
{
	uint64_t bitmap[LOGGED_PAGES / 64] = {0}, pages = 0, set = 0;
	int ret;

	if (kind % 4 == 0) {
		ret = f.dirty ? snest_dirty_stop(f.fuzz.vm) : snest_dirty_start(f.fuzz.vm);
		fuzz_check(!ret || ret == -ENOMEM, "dirty log: %d", ret);
		if (!ret)
			f.dirty = !f.dirty;
		memset(f.written, 0, sizeof(f.written));
		memset(f.asked, 0, sizeof(f.asked));
		return;
	}
	if (kind % 4 == 1) {
		ret = snest_vm_dirty(f.fuzz.vm, 0, LOOSE * 4096 - 1,
		                     kind & 16 ? SNEST_DIRTY_PEEK : 0, bitmap, NULL);
		fuzz_check(ret == (f.dirty ? 0 : -ENOENT), "snest_vm_dirty: %d", ret);
		return;
	}
	ret = snest_space_dirty(f.space, 0, LOGGED_PAGES * 4096ull - 1,
	                        kind & 16 ? SNEST_DIRTY_PEEK : 0, bitmap, &pages);
	fuzz_check(ret == (f.dirty ? 0 : -ENOENT), "snest_space_dirty: %d", ret);
	if (ret)
		return;
	for (unsigned i = 0; i < PINS; i++) {
		if (f.pinned[i] && f.pin_writes[i].page < LOGGED_PAGES)
			mark_written(f.pin_writes[i].page * 4096ull);
	}
	if (f.failed || f.fuzz.failed)
		allow_spill();
	for (unsigned i = 0; i < LOGGED_PAGES / 64; i++) {
		set += (unsigned)__builtin_popcountll(bitmap[i]);
		fuzz_check(!(f.written[i] & ~bitmap[i]),
		           "pages 0x%llx from page %u on are not dirty",
		           ull(f.written[i] & ~bitmap[i]), i * 64);
		fuzz_check(!(bitmap[i] & ~f.asked[i]),
		           "pages 0x%llx from page %u on are dirty, and nobody writes there",
		           ull(bitmap[i] & ~f.asked[i]), i * 64);
	}
	fuzz_check(pages == set, "%llu pages are dirty, it says %llu", ull(set), ull(pages));
	if (!(kind & 16)) {
		memset(f.written, 0, sizeof(f.written));
		memset(f.asked, 0, sizeof(f.asked));
	}
}

/* ---- Mirrors and observers ---------------------------------------------- */

static int observe(void *opaque, const struct snest_sink_op *ops, size_t n, size_t *done)
{
	(void)opaque;
	for (*done = 0; *done < n; ++*done) {
		fuzz_check(!ops[*done].map, "an observer is told of a map");
		for (unsigned i = 0; i < SEGMENTS; i++) {
			if (segments[i].first <= ops[*done].last &&
			    (segments[i].first | 4095) >= ops[*done].first)
				segments[i].cached = false;
		}
	}
	return 0;
}

static void mirror(bool observer)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};
	struct snest_sink sink = {
		.size = sizeof(sink),
		.flags = observer  ? SNEST_SINK_UNMAP_ONLY
	                 : f.split ? SNEST_SINK_CAN_SPLIT
	                           : 0,
		.opaque = &f.sink,
		.apply = observer ? observe : sink_apply,
		.failed = sink_failed,
	};
	bool used = f.mirrored || f.observed;
	int ret;

	if (!used) {
		f.sink.lacks = f.sink.refused = false;
		f.sink.can_split = f.split;
		f.sink.ops = 0;
		fuzz_check(!snest_space_stats(f.space, &stats), "no statistics");
		f.ops_before = stats.sink_maps + stats.sink_unmaps;
	}
	ret = snest_space_mirror(f.space, &sink);
	if (used || ret) {
		fuzz_check(ret == -EBUSY || ret == -ENOMEM || ret == -ENOSPC || ret == -EFAULT ||
		                   (ret == -EOPNOTSUPP && !f.announced),
		           "snest_space_mirror: %d", ret);
		/* What refuses an unmap keeps it. */
		if (!used)
			fuzz_check(!f.sink.count || f.sink.refused,
			           "a mirror that failed leaves a map");
		if (!used)
			f.sink.count = 0;
		return;
	}
	f.observed = observer;
	f.mirrored = !observer;
	/* Populated from the tables as they are. */
	if (f.mirrored)
		settled(0, SEGMENTS);
}

static void unmirror(void)
{
	int ret = snest_space_unmirror(f.space);

	fuzz_check(f.mirrored || f.observed ? ret != -ENOENT : ret == -ENOENT, "unmirror: %d", ret);
	if (f.mirrored) {
		fuzz_check(!f.sink.count || f.sink.refused, "a map is left in the sink");
		/* It was emptied: lookups find everything anew. */
		settled(0, SEGMENTS);
	}
	f.mirrored = f.observed = false;
	f.sink.count = 0;
	for (unsigned i = 0; i < SEGMENTS; i++)
		segments[i].cached = false;
}

#endif
