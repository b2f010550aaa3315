/* SPDX-License-Identifier: MIT */
/*
 * The shadow: bytes become a guest's maps and unmaps, invalidations, changes of
 * the memory map, lookups of every kind, pins, drains, mirrors and observers
 * whose sinks fail, write tracking, the dirty log, and allocations that fail.
 *
 * The address space of the guest is cut into segments, single pages and wide
 * ones, so that everything an action does begins and ends with one. The model
 * keeps for each what the guest's tables say (asked of the reference walker) and
 * what they said since an invalidation last covered it. After every action:
 *   - every leaf of the shadow is one of these, with the memory map of now;
 *   - a mirror has all that is mapped, but for what its sink was told it lacks;
 *   - every account is counted again, and the sink holds what the shadow does
 *     (shadow_count.h);
 *   - drains end after the pins they wait for, the dirty log is exact.
 *
 * Input: two bytes that choose the stages and the space, then actions of 8 bytes.
 */
#include <errno.h>
#include <snest/table.h>
#include <snest/track.h>
#include <sys/mman.h>
#include "actions.h"
#include "ref/ref_walk.h"
#include "shadow_count.h"

/*
 * Guest memory is one mapping, of which little is ever touched. Its first pages
 * change; what the guest maps lies behind them; its tables are at the end.
 */
#define LOOSE 64u
#define TABLES 0x100000000ull /* GPA */
#define TABLES_BYTES (256u << 10)
#define TABLES_PAGES (TABLES_BYTES / 4096)
#define MEMORY_BYTES (TABLES + TABLES_BYTES)
#define MEMORY_HOST 0x500000000000ull
#define MOVED_HOST 0x580000000000ull /* where pages of it may move */
#define LOGGED_PAGES 1536u
#define PINS 3
#define DRAINS 4
#define OLD 4
#define RID 0x0010
#define ACTIONS_MAX 32
#define HEADER 2

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

/* ---- Segments ---------------------------------------------------------------------------- */

static const struct {
	uint64_t page, step;
	unsigned count;
} layout[] = {
	{0, 1, 16},       {16, 480, 1},    {496, 1, 32},     {528, 496, 1},       {1024, 512, 1},
	{261632, 496, 1}, {262128, 1, 32}, {262160, 496, 1}, {524288, 262144, 1}, {67108863, 1, 1},
};
#define SEGMENTS 87u

struct answer {
	uint64_t gpa; /* of the page asked for */
	uint8_t rights;
	bool ok;
};

struct segment {
	uint64_t first, last; /* IOVA */
	/* One input. */
	struct answer now[2]; /* of its first and last page */
	struct answer old[OLD];
	uint8_t count;
	bool wild;   /* more than that */
	bool torn;   /* a part was unmapped: its ends do not speak for the middle */
	bool cached; /* an observer's cache has its first page, */
	uint64_t cached_host;
};

static struct segment segments[SEGMENTS];

static struct {
	struct fuzz_vm fuzz;
	/* One input. */
	struct snest_device *device;
	struct snest_space *space;
	struct snest_table *table;
	uint64_t cut; /* of the table memory */
	bool announced, tracking, split;
	bool bent, failed;
	/* An entry was bent that is, or says that it is, one of several that are one page. */
	bool blurred;
	unsigned format;
	struct {
		bool moved, gone, readonly;
		uint64_t host;
	} loose[LOOSE];
	bool loosened;
	struct snest_pin pin[PINS];
	bool pinned[PINS];
	struct {
		unsigned page; /* of the dirty log; LOGGED_PAGES: none */
	} pin_writes[PINS];
	struct snest_drain node[DRAINS];
	int done[DRAINS];         /* 0 not begun, 1 begun, 2 done */
	unsigned blocked[DRAINS]; /* bit n: pin n was held when it began */
	bool mirrored, observed;
	struct sink sink;
	uint64_t ops_before; /* of the space's own count */
	bool dirty;
	uint64_t written[LOGGED_PAGES / 64];
	uint64_t protected; /* table pages */
	bool deny;          /* protect fails */
} f;

static char *memory, *tables;
static _Alignas(4096) char seen[TABLES_BYTES];

static unsigned long long ull(uint64_t value)
{
	return value;
}

static void make_segments(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < sizeof(layout) / sizeof(layout[0]); i++) {
		for (unsigned j = 0; j < layout[i].count; j++, n++) {
			segments[n].first = (layout[i].page + j * layout[i].step) * 4096;
			segments[n].last = segments[n].first + layout[i].step * 4096 - 1;
		}
	}
	fuzz_check(n == SEGMENTS, "%u segments", n);
}

/* ---- What the guest's tables say ------------------------------------------------------------ */

static bool ref_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	(void)opaque;
	if (addr >= MEMORY_BYTES ||
	    (addr < LOOSE * 4096 && (f.loose[addr / 4096].moved || f.loose[addr / 4096].gone)))
		return false;
	*value = 0;
	memcpy(value, memory + addr, bytes);
	return true;
}

static struct answer ask(uint64_t iova)
{
	static const struct ref_memory read = {.read = ref_read};
	struct ref_result r;

	ref_walk(snest_table_stage(f.table), &read, iova, 0, false, &r);
	if (!r.ok)
		return (struct answer){.ok = false};
	return (struct answer){r.out, r.rights, true};
}

static bool same(const struct answer *a, const struct answer *b)
{
	return a->ok == b->ok && a->gpa == b->gpa && a->rights == b->rights;
}

/* Do both ends of a segment say the same? */
static bool is_whole(const struct segment *s)
{
	return s->now[0].ok == s->now[1].ok && s->now[0].rights == s->now[1].rights &&
	       (!s->now[0].ok || s->now[1].gpa - s->now[0].gpa == (s->last & ~4095ull) - s->first);
}

/* The tables may have changed what they say of segments i .. i + n - 1. */
static void refresh(unsigned i, unsigned n)
{
	for (; n-- && i < SEGMENTS; i++) {
		struct segment *s = &segments[i];
		struct answer first = ask(s->first), last = first;

		if (s->last - s->first > 4095)
			last = ask(s->last & ~4095ull);
		if (same(&first, &s->now[0]) && same(&last, &s->now[1]))
			continue;
		if (s->count == OLD || (f.bent && s->last - s->first > 4095))
			s->wild = true;
		else
			s->old[s->count++] = s->now[0];
		s->now[0] = first;
		s->now[1] = last;
		/* What is mapped over all of it mends it. */
		s->torn = !is_whole(s) || (s->torn && !first.ok);
	}
}

static void settled(unsigned i, unsigned n)
{
	for (; n-- && i < SEGMENTS; i++) {
		segments[i].count = 0;
		segments[i].wild = false;
	}
}

/* Where a guest address leads now. False: no memory. */
static bool host_of(uint64_t gpa, uint64_t *host, bool *readonly)
{
	uint64_t page = gpa / 4096;

	*readonly = false;
	*host = MEMORY_HOST + gpa;
	if (page >= LOOSE)
		return gpa < MEMORY_BYTES;
	if (f.loose[page].moved)
		*host = f.loose[page].host + (gpa & 4095);
	*readonly = f.loose[page].readonly;
	return !f.loose[page].gone;
}

/* What an answer for a segment's first page says of an address in it. False: no memory there. */
static bool resolve(const struct segment *s, const struct answer *a, uint64_t iova, uint64_t *host,
                    uint32_t *rights)
{
	bool readonly;

	*rights = 0;
	if (!a->ok || !host_of(a->gpa + (iova - s->first), host, &readonly))
		return false;
	*rights = readonly ? a->rights & ~(uint32_t)SNEST_WRITE : a->rights;
	return true;
}

/*
 * Does what is known of a segment hold for this page? Not in the middle of one of
 * which a part went, or in which an entry was bent. A page that is several equal
 * entries may be read from any of them: once they differ, from none for certain.
 */
static bool is_known(const struct segment *s, uint64_t iova)
{
	return !f.blurred && (iova < s->first + 4096 || (!f.bent && !s->torn && is_whole(s)));
}

/* Is this entry one of several that are one page? AMD v1: next level 7; RISC-V: NAPOT. */
static bool is_replica(uint64_t entry)
{
	if (f.format == SNEST_FORMAT_AMD_V1)
		return (entry & 1) && (entry >> 9 & 7) == 7;
	return f.format == SNEST_FORMAT_RISCV64 && (entry & 1) && (entry >> 63);
}

/* May the shadow say this of a page? Legal: what is so, or was and has not been invalidated. */
static bool is_legal(const struct segment *s, uint64_t iova, uint64_t host, uint32_t rights,
                     bool exact)
{
	uint64_t want;
	uint32_t may;

	if (s->wild || !is_known(s, iova))
		return true;
	for (unsigned i = 0; i <= s->count; i++) {
		if (!resolve(s, i ? &s->old[i - 1] : &s->now[0], iova, &want, &may) || want != host)
			continue;
		may &= exact ? SNEST_READ | SNEST_WRITE : SNEST_RIGHTS;
		if (exact ? may == rights : !(rights & ~may))
			return true;
	}
	return false;
}

static struct segment *segment_of(uint64_t iova)
{
	for (unsigned i = 0; i < SEGMENTS; i++) {
		if (segments[i].first <= iova && iova <= segments[i].last)
			return &segments[i];
	}
	return NULL;
}

/* ---- Checks ------------------------------------------------------------------------------------ */

static void check_piece(const struct segment *s, const struct leaf *l, uint64_t iova)
{
	uint64_t host = (l->entry & SN_SH_ADDR) + (iova - l->first);
	uint32_t rights = l->entry & SN_SH_RIGHTS;

	if (l->entry & SN_SH_LOGGED)
		rights |= SNEST_WRITE;
	fuzz_check(rights, "0x%llx: a leaf without rights", ull(iova));
	/* A mirror's leaf has no right to execute, another may leave rights out. */
	fuzz_check(is_legal(s, iova, host, rights, f.mirrored),
	           "0x%llx: the shadow says 0x%llx rights %u; the tables 0x%llx rights %u",
	           ull(iova), ull(host), rights, ull(s->now[0].gpa + (iova - s->first)),
	           s->now[0].rights);
}

/*
 * Pages of a leaf that can differ: the ends, and those whose memory changes.
 * Called with ascending leaves; *at is where the segments before it end.
 */
static void check_leaf(const struct leaf *l, unsigned *at)
{
	bool known = false;

	if (l->entry & SN_SH_HELD)
		return;
	while (*at < SEGMENTS && segments[*at].last < l->first)
		++*at;
	for (unsigned i = *at; i < SEGMENTS && segments[i].first <= l->last; i++) {
		const struct segment *s = &segments[i];
		uint64_t from = l->first > s->first ? l->first : s->first;
		uint64_t to = l->last < s->last ? l->last : s->last;
		uint64_t loose;

		known = true;
		check_piece(s, l, from);
		if (to - from < 4096)
			continue;
		check_piece(s, l, to & ~4095ull);
		loose = 0 - s->now[0].gpa + s->first;
		for (unsigned p = 0; p < LOOSE && f.loosened; p++) {
			uint64_t page = loose + p * 4096ull;

			if (page >= from && page <= to)
				check_piece(s, l, page);
		}
	}
	fuzz_check(known || f.bent, "the shadow holds 0x%llx, which nobody has mapped",
	           ull(l->first));
}

/* A mirror lacks nothing that is mapped. */
static void check_complete(const struct segment *s)
{
	uint64_t host;
	uint32_t may;

	if (s->count || s->wild || !is_known(s, s->last & ~4095ull))
		return;
	for (unsigned end = 0; end < 2; end++) {
		uint64_t iova = end ? s->last & ~4095ull : s->first;

		resolve(s, &s->now[0], iova, &host, &may);
		fuzz_check(!(may & (SNEST_READ | SNEST_WRITE)) || count_find(iova),
		           "0x%llx is not mirrored", ull(iova));
	}
}

static void check(void)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	count_space(f.space);
	for (unsigned i = 0, at = 0; i < count.leaves; i++)
		check_leaf(&count.leaf[i], &at);
	if (f.mirrored) {
		sink_compare(&f.sink);
		for (unsigned i = 0; i < SEGMENTS && !f.sink.lacks && !f.sink.refused; i++)
			check_complete(&segments[i]);
	}
	for (unsigned i = 0; i < SEGMENTS && f.observed; i++) {
		const struct segment *s = &segments[i];

		fuzz_check(!s->cached || is_legal(s, s->first, s->cached_host, SNEST_READ, false),
		           "an observer was not told of 0x%llx", ull(s->first));
	}
	for (unsigned i = 0; i < DRAINS; i++)
		fuzz_check(f.done[i] != 2 || !f.blocked[i], "a drain ended before a pin");
	fuzz_check(!snest_space_stats(f.space, &stats), "no statistics");
	fuzz_check(stats.table_bytes == count.tables * 4096, "table_bytes is wrong");
	if (f.mirrored)
		fuzz_check(stats.sink_maps + stats.sink_unmaps - f.ops_before == f.sink.ops,
		           "the sink has had %llu operations, the space counts %llu",
		           ull(f.sink.ops),
		           ull(stats.sink_maps + stats.sink_unmaps - f.ops_before));
	f.failed |= f.fuzz.failed;
}

static int see_run(void *opaque, const struct snest_run *run)
{
	uint64_t *bytes = opaque;
	const struct leaf *l = count_find(run->first);

	fuzz_check(l && run->last >= run->first && run->outcome == SNEST_WALK_HOST &&
	                   run->addr == (l->entry & SN_SH_ADDR) + (run->first - l->first),
	           "a run that the shadow does not hold: 0x%llx", ull(run->first));
	*bytes += run->last - run->first + 1;
	return 0;
}

/* The enumeration shows what the recount found, but for what a sink keeps. */
static void check_enumeration(void)
{
	uint64_t seen_bytes = 0, bytes = 0;
	int ret = snest_space_enumerate(f.space, 0, UINT64_MAX, see_run, &seen_bytes);

	for (unsigned i = 0; i < count.leaves; i++) {
		uint64_t entry = count.leaf[i].entry;

		if (!(entry & SN_SH_HELD) && (entry & (SN_SH_RIGHTS | SN_SH_LOGGED)))
			bytes += count.leaf[i].last - count.leaf[i].first + 1;
	}
	fuzz_check(!ret && (seen_bytes == bytes || count.leaves == LEAVES_MAX),
	           "enumerated 0x%llx bytes of 0x%llx: %d", ull(seen_bytes), ull(bytes), ret);
}

/* ---- Write tracking -------------------------------------------------------------------------------- */

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

/* ---- Lookups ------------------------------------------------------------------------------------------ */

/* A reply for a page. Refusals are never remembered. */
static void judge(const struct segment *s, uint64_t iova, uint32_t access, int ret,
                  const struct snest_translation *t)
{
	uint64_t page = iova & ~4095ull, host;
	bool readonly;

	if (s->wild || !is_known(s, page))
		return;
	if (ret) {
		uint32_t may = s->now[0].ok ? s->now[0].rights : 0;

		if (may && host_of(s->now[0].gpa + (page - s->first), &host, &readonly) && readonly)
			may &= ~(uint32_t)SNEST_WRITE;
		fuzz_check(ret == -EACCES && (!may || (access & ~may) || f.failed || f.fuzz.failed),
		           "0x%llx access %u: %d; the tables give rights %u", ull(iova), access,
		           ret, may);
		return;
	}
	fuzz_check(!(access & ~t->rights) && t->length, "rights %u for access %u", t->rights,
	           access);
	if (t->outcome == SNEST_WALK_GPA) {
		fuzz_check(!s->now[0].ok ||
		                   !host_of(s->now[0].gpa + (page - s->first), &host, &readonly),
		           "0x%llx has memory", ull(iova));
		return;
	}
	fuzz_check(is_legal(s, page, t->host - (iova & 4095),
	                    t->rights & (SNEST_READ | SNEST_WRITE), false),
	           "0x%llx access %u: 0x%llx rights %u; the tables 0x%llx rights %u", ull(iova),
	           access, ull(t->host), t->rights, ull(s->now[0].gpa + (page - s->first)),
	           s->now[0].rights);
}

static void mark_written(uint64_t iova)
{
	if (f.dirty && iova / 4096 < LOGGED_PAGES)
		f.written[iova / 4096 / 64] |= 1ull << iova / 4096 % 64;
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

/* ---- Pins and drains ---------------------------------------------------------------------------------------- */

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

/* ---- The dirty log ------------------------------------------------------------------------------------------------ */

static void fetch_dirty(unsigned kind)
{
	uint64_t bitmap[LOGGED_PAGES / 64] = {0}, pages = 0;
	int ret;

	if (kind % 4 == 0) {
		ret = f.dirty ? snest_dirty_stop(f.fuzz.vm) : snest_dirty_start(f.fuzz.vm);
		fuzz_check(!ret || ret == -ENOMEM, "dirty log: %d", ret);
		if (!ret)
			f.dirty = !f.dirty;
		memset(f.written, 0, sizeof(f.written));
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
	for (unsigned i = 0; i < LOGGED_PAGES / 64; i++)
		fuzz_check(!(f.written[i] & ~bitmap[i]),
		           "pages 0x%llx from page %u on are not dirty",
		           ull(f.written[i] & ~bitmap[i]), i * 64);
	if (!(kind & 16))
		memset(f.written, 0, sizeof(f.written));
}

/* ---- Mirrors and observers -------------------------------------------------------------------------------------------- */

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

/* ---- Actions -------------------------------------------------------------------------------------------------------------- */

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
	snest_read_begin();
	fuzz_check(snest_drain(f.fuzz.vm, 0) == -EDEADLK, "drain");
	fuzz_check(snest_dirty_start(f.fuzz.vm) != 0, "dirty");
	snest_read_end();
	fuzz_check(f.dirty ? snest_dirty_start(f.fuzz.vm) != 0
	                   : snest_dirty_stop(f.fuzz.vm) == -ENOENT,
	           "dirty");
}

static void act(const uint8_t *a)
{
	unsigned i = a[1] % SEGMENTS, n = 1 + a[2] % 24u;
	struct segment *s = &segments[i];
	uint64_t unmapped, word;
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
	switch (a[0] % A_COUNT) {
	case A_MAP:
		map(i, n, a);
		break;
	case A_UNMAP:
		snest_table_unmap(f.table, s->first, segments[i + n - 1].last,
		                  a[7] & 1 ? SNEST_TABLE_WHOLE : 0, &unmapped);
		break;
	case A_SHAPE:
		if (a[7] & 1)
			snest_table_cut(f.table, s->first);
		else
			snest_table_merge(f.table, s->first & ~0x3fffffffull,
			                  s->first | 0x3fffffff);
		break;
	case A_INVALIDATE:
		snest_space_invalidate(f.space, s->first, segments[i + n - 1].last, a[7] & 1);
		settled(i, n);
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
	/* A leaf that goes whole concerns more than was named. */
	if (a[0] % A_COUNT == A_UNMAP && (a[7] & 1)) {
		i = 0;
		n = SEGMENTS;
	}
	refresh(i, n);
	notice(0, SEGMENTS);
}

/* ---- One input ---------------------------------------------------------------------------------------------------------------- */

static void *page_alloc(void *opaque, unsigned lg2)
{
	uint64_t size = 1ull << lg2, at = (f.cut + size - 1) & ~(size - 1);

	(void)opaque;
	if (at + size > TABLES_BYTES)
		return NULL;
	f.cut = at + size;
	return tables + at;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque;
	(void)page;
	(void)lg2;
}

static void reset_memory(void)
{
	struct snest_memory_op op[2] = {{.kind = SNEST_MEMORY_REPLACE},
	                                {.kind = SNEST_MEMORY_REPLACE}};

	op[0].region = (struct snest_region){
		.size = sizeof(struct snest_region),
		.last = LOOSE * 4096 - 1,
		.host = MEMORY_HOST,
		.mapping = memory,
	};
	op[1].region = (struct snest_region){
		.size = sizeof(struct snest_region),
		.first = LOOSE * 4096,
		.last = MEMORY_BYTES - 1,
		.host = MEMORY_HOST + LOOSE * 4096,
		.mapping = memory + LOOSE * 4096,
	};
	/* Twice: a map's size follows that of the one before. */
	for (unsigned i = 0; i < 2; i++) {
		if (snest_memory_update(f.fuzz.vm, op, 2, NULL, NULL, NULL))
			fuzz_check(0, "no memory");
	}
}

static const struct snest_tracker tracker = {
	.size = sizeof(tracker),
	.protect = hook_protect,
	.unprotect = hook_unprotect,
};

static void create(void)
{
	make_segments();
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
	              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		fuzz_check(0, "no memory");
	tables = memory + TABLES;
	fuzz_vm_create(&f.fuzz);
	if (snest_vm_track(f.fuzz.vm, &tracker) || snest_vm_track(f.fuzz.vm, NULL))
		fuzz_check(0, "no VM");
	reset_memory();
	fuzz_vm_mark(&f.fuzz);
}

static const struct snest_stage shapes[] = {
	{.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_VTD_SS, .levels = 4},
	{.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_X86_64, .levels = 4},
	{.size = sizeof(struct snest_stage), .format = SNEST_FORMAT_AMD_V1, .levels = 4},
	{.size = sizeof(struct snest_stage),
         .format = SNEST_FORMAT_RISCV64,
         .levels = 4,
         .flags = SNEST_STAGE_RISCV_SVNAPOT},
};

static void begin(unsigned kind, unsigned more)
{
	struct snest_table_memory memory_of_tables = {
		.size = sizeof(memory_of_tables),
		.alloc = page_alloc,
		.free = page_free,
		.delta = 0,
	};
	struct snest_space_config config = {
		.size = sizeof(config),
		.count = 1,
		.flags = kind & 4 ? SNEST_SPACE_ANNOUNCED : 0,
		.tag = {7, 3},
		.table_bytes_max = kind & 8 ? 5 * 4096 : 128 * 4096,
		.sync_entries_max = kind & 0x40 ? 1200 : 6000,
	};

	if (!f.fuzz.vm)
		create();
	memory_of_tables.delta = 0 - (uint64_t)(uintptr_t)memory;
	f.format = shapes[kind % 4].format;
	f.announced = kind & 4;
	f.split = kind & 0x10;
	f.tracking = kind & 0x20;
	if (f.tracking && snest_vm_track(f.fuzz.vm, &tracker))
		fuzz_check(0, "no tracking");
	if (snest_table_create(f.fuzz.vm, &shapes[kind % 4], &memory_of_tables, &f.table))
		fuzz_check(0, "no table");
	config.stages = snest_table_stage(f.table);
	if (snest_space_get(f.fuzz.vm, &config, &f.space) ||
	    snest_device_create(f.fuzz.vm, RID, NULL, NULL, &f.device) ||
	    snest_device_bind(f.device, SNEST_NO_PASID, f.space))
		fuzz_check(0, "no space");
	(void)more;
	for (unsigned i = 0; i < SEGMENTS; i++)
		memset(&segments[i].now, 0, sizeof(segments[i]) - offsetof(struct segment, now));
}

static void finish(void)
{
	f.fuzz.fail = 0;
	f.sink.fail_map = f.sink.fail_unmap = 0;
	for (unsigned i = 0; i < PINS; i++)
		unpin(i);
	if (f.dirty)
		snest_dirty_stop(f.fuzz.vm);
	snest_device_unbind_all(f.device, true);
	snest_device_destroy(f.device);
	snest_space_put(f.space);
	sn_reclaim_help(&f.fuzz.vm->reclaim);
	for (unsigned i = 0; i < DRAINS; i++)
		fuzz_check(f.done[i] != 1, "a drain is lost");
	fuzz_check(!f.sink.count || !f.mirrored, "a map is left in the sink");
	fuzz_check(!f.protected, "a page is left protected");
	if (f.tracking && snest_vm_track(f.fuzz.vm, NULL))
		fuzz_check(0, "tracking is left on");
	/* The table's own pages are all cleared here, bent ones too. */
	if (f.bent)
		memset(tables, 0, f.cut);
	snest_table_destroy(f.table);
	memset(tables, 0, f.cut);
	if (f.loosened)
		reset_memory();
	sn_reclaim_help(&f.fuzz.vm->reclaim);
	fuzz_vm_check_clean(&f.fuzz);
	f.fuzz.failed = false;
	memset(&f.device, 0, sizeof(f) - offsetof(__typeof__(f), device));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	begin(size ? data[0] : 0, size > 1 ? data[1] : 0);
	for (size_t at = HEADER, n = 0; at + 8 <= size && n < ACTIONS_MAX; at += 8, n++) {
		act(data + at);
		check();
	}
	f.fuzz.fail = 0;
	f.sink.fail_map = f.sink.fail_unmap = 0;
	f.deny = false;
	check();
	check_enumeration();
	invalidate_all(0);
	check();
	for (unsigned i = size % 8; i < SEGMENTS; i += 9)
		lookup(&segments[i], segments[i].first, SNEST_READ);
	check();
	finish();
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

static const struct fuzz_actions shape = {
	.header = HEADER, .length = 8, .kinds = A_COUNT, .max = ACTIONS_MAX};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	return fuzz_actions_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_actions_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	static const uint8_t usual[] = {A_MAP,  A_LOOKUP, A_UNMAP, A_INVALIDATE,    A_MAP, A_LOOKUP,
	                                A_COPY, A_DIRTY,  A_SHAPE, A_INVALIDATE_ALL};
	struct fuzz_random r = {n};
	size_t actions = 6 + n % 18;

	if (n >= 192 || max_size < HEADER + actions * 8)
		return 0;
	data[0] = (uint8_t)n;
	data[1] = 0;
	for (size_t i = 0; i < actions; i++) {
		uint8_t *at = data + HEADER + i * 8;

		fuzz_action_random(&shape, at, &r);
		/* Every other one is of the usual life; a mirror comes early. */
		if (i == 1)
			at[0] = A_MIRROR;
		else if (i % 2 == 0 && n < 128)
			at[0] = usual[(i / 2 + n) % sizeof(usual)];
	}
	return HEADER + actions * 8;
}
