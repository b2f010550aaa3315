/* SPDX-License-Identifier: MIT */
/*
 * Sync, the direct way: the guest's tables and the shadow's in step.
 *
 * For one stage whose tables have the shadow's shape (512 entries of 8 bytes,
 * 4 KiB at the bottom). What the shadow should hold for a guest's entry is
 * computed in registers and compared; nothing is stored where nothing changed.
 * Single pages that came or went are handled here, coalesced into operations.
 * Anything else (a leaf against a table, part of a unit, memory that is not
 * directly readable) goes to the general way.
 *
 * Include with FMT defined, behind the format's header. The includer defines
 *
 *   <FMT>_expect(x, grant, raw)  the shadow entry for a level-0 guest entry that
 *                                leads into the largest region, else 0;
 *                                branch-free if it can be
 *   <FMT>_keep(grant)            the same in pieces: which bits of such an entry are
 *                                the shadow's rights,
 *   <FMT>_always(grant)          what the shadow has besides; SN_SH_HELD: no entry is
 *                                good with this grant,
 *   <FMT>_MUST                   and which bits have to be set (those of
 *                                pt->reserved_leaf must not)
 *   <FMT>_reach(pt)              last input that the direct way handles, from 0
 *
 * Guest entries are compared in bulk first. A chunk that compares equal is
 * left alone; one that does not is read again, entry by entry, and each
 * decision rests on one load.
 *
 * No read section is open, so that a sink may take its time. The memory map
 * cannot go meanwhile: a change publishes the new map, then tells its
 * listeners, which need the space's lock that is held here, and lets go of the
 * old map and its memory only after that.
 *
 * The general way may replace tables that are in use here. So where something
 * is left to it, this unwinds first, and goes on behind it afterwards.
 */

#define SN_CAT_(a, b) a##_##b
#define SN_CAT(a, b) SN_CAT_(a, b)
#define F(name) SN_CAT(FMT, name)

/*
 * The run of new pages that the newest operation of the batch maps, as long as it
 * may grow, and what its next page has to be. `entry` is 0 when there is none.
 */
struct run {
	struct snest_sink_op *op;
	uint64_t iova, entry;
};

struct step {
	struct sn_sync *s;
	const struct sn_pt *pt;
	const struct sn_memory_map *map;
	/* the largest region, where nearly all pages are */
	uint64_t hot_first, hot_size, hot_host;
	struct run run;
	/* what the general way has to do before this goes on */
	bool rest;
	uint64_t rest_first, rest_last;
	uint64_t last; /* of all that is gone through */
};

/* ThreadSanitizer is right that C does not know what the machine does. */
#ifdef SN_TSAN
#define STEP_LOAD(ptr) sn_sh_load(ptr)
#else
#define STEP_LOAD(ptr) (*(ptr))
#endif

/* For the machine at hand. Clang has no such thing, and sanitizers run before it can choose. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
	!defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VECTORS                                                                      \
	__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), \
	               optimize("O3")))
#else
#define VECTORS
#endif

/* Fewer entries than this are not worth a call of the bulk comparison. */
#define BULK 8u

/* Entries of which it is first found out, in bulk, what they should be. */
#define CHUNK 64u

/* What counts when an entry of the shadow is compared. */
#define STEP_SAME (SN_SH_ADDR | SN_SH_RIGHTS | SN_SH_HELD)

static inline uint64_t F(expect)(const struct step *x, unsigned grant, uint64_t raw);
static inline uint64_t F(keep)(unsigned grant);
static inline uint64_t F(always)(unsigned grant);
static inline uint64_t F(reach)(const struct sn_pt *pt);

/* Does this leaf go on with the run? */
static inline bool F(goes_on)(const struct run *run, uint64_t iova, uint64_t entry)
{
	return iova == run->iova && entry == run->entry;
}

/* Has a leaf, which is about to be stored, begin a run. Returns how to store it. */
static inline uint64_t F(begin_run)(struct run *run, struct snest_sink_op *op, uint64_t iova,
                                    uint64_t entry, uint64_t bytes)
{
	op->map = 1;
	op->rights = (uint32_t)(entry & SN_SYNC_RIGHTS);
	op->first = iova;
	op->last = iova + (bytes - 1);
	op->host = entry & SN_SH_ADDR;
	run->op = op;
	run->iova = iova + bytes;
	run->entry = entry + bytes;
	return entry | SN_SH_START;
}

static inline void F(extend_run)(struct run *run, uint64_t bytes)
{
	run->op->last += bytes;
	run->iova += bytes;
	run->entry += bytes;
}

/* Makes room in the batch. False: the sink refused something, and the caller unwinds. */
static bool F(flush)(struct step *x)
{
	x->run.entry = 0;
	sn_sync_flush(x->s);
	return !x->s->disturbed;
}

/* Leaves first..last to the general way. The caller unwinds. */
static void F(put_off)(struct step *x, uint64_t first, uint64_t last)
{
	x->rest = true;
	x->rest_first = first;
	x->rest_last = last;
}

/*
 * Takes n entries off the budget. Where it does not suffice, everything from
 * `first` on is left to the general way, which gives up, and the caller unwinds.
 */
static inline bool F(charge)(struct step *x, unsigned n, uint64_t first)
{
	if (__builtin_expect(x->s->budget >= n, 1)) {
		x->s->budget -= n;
		return true;
	}
	x->s->budget = 0;
	F(put_off)(x, first, x->last);
	return false;
}

/*
 * Does this entry lead anywhere? The fields are taken out one by one: compared
 * together they are read back from memory as one word, which has to wait for the
 * byte stores before it, and that is longer than all the rest takes.
 */
static inline bool F(good)(struct sn_entry e)
{
	unsigned fault = e.early;

	fault |= e.late;
	return !fault;
}

/* The shadow entry for a level-0 guest entry, wherever it leads. */
static uint64_t F(exact)(const struct step *x, unsigned grant, uint64_t raw)
{
	struct sn_entry e = F(decode)(x->pt, 0, 0, raw);
	const struct sn_region *region;
	uint64_t rights;

	if (!F(good)(e))
		return 0;
	rights = F(rights)(x->pt, grant & e.grant, 0) & x->pt->rights;
	region = sn_memory_find(x->map, e.addr);
	if (!region)
		return 0;
	rights &= SN_SYNC_RIGHTS;
	if (region->flags & SNEST_REGION_READONLY)
		rights &= ~(uint64_t)SNEST_WRITE;
	return rights ? (e.addr + region->host) | rights : 0;
}

/* The memory of a guest's table, NULL if it cannot be read directly. */
static const uint64_t *F(table)(const struct step *x, uint64_t addr)
{
	const struct sn_region *region = sn_memory_find(x->map, addr);

	return region && region->direct && !(region->flags & SNEST_REGION_NO_TABLES)
	               ? (const uint64_t *)(region->mapping + addr)
	               : NULL;
}

/*
 * Is the shadow as it should be for n entries? Non-zero: not, or it is not
 * simple to say. The loads of guest memory are plain so that the compiler may
 * use vectors; an element is 8 aligned bytes, which the machine loads in one
 * piece.
 *
 * This says what F(expect) says, in a form without decisions, since a whole
 * space is only as fast as this loop: an entry that is not 0 is taken to be a
 * good one, and everything that it would not be is collected on the side.
 */
VECTORS static uint64_t F(differ)(const struct step *x, unsigned grant, const uint64_t *guest,
                                  const uint64_t *shadow, unsigned n)
{
	const uint64_t host = x->hot_host, first = x->hot_first, never = x->pt->reserved_leaf;
	const uint64_t keep = F(keep)(grant), always = F(always)(grant), must = F(MUST);
	uint64_t different = 0, far = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t raw = STEP_LOAD(&guest[i]), have = raw ? UINT64_MAX : 0;
		uint64_t addr = raw & SN_SH_ADDR, distance = (addr - first) & have;
		uint64_t want = (((addr + host) | always) & have) | (raw & keep);

		different |= ((want ^ STEP_LOAD(&shadow[i])) & STEP_SAME) | (raw & never) |
		             (~raw & must & have);
		far = far > distance ? far : distance;
	}
	return different | (far >= x->hot_size);
}

/*
 * F(expect) of n entries, in the form of F(differ). Non-zero: some that are not 0
 * lead elsewhere, or nowhere; they are 0 in `want`.
 */
VECTORS static uint64_t F(expect_all)(const struct step *x, unsigned grant, const uint64_t *guest,
                                      uint64_t *restrict want, unsigned n)
{
	const uint64_t host = x->hot_host, first = x->hot_first, never = x->pt->reserved_leaf;
	const uint64_t keep = F(keep)(grant), always = F(always)(grant), must = F(MUST);
	const uint64_t size = always & SN_SH_HELD ? 0 : x->hot_size;
	uint64_t elsewhere = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t raw = STEP_LOAD(&guest[i]), addr = raw & SN_SH_ADDR;
		uint64_t rights = (raw & keep) | always, wrong = (raw & never) | (~raw & must);
		uint64_t good = -(uint64_t)(addr - first < size);

		good &= -(uint64_t)!wrong & -(uint64_t)(rights != 0);
		want[i] = ((addr + host) | rights) & good;
		elsewhere |= raw & ~good;
	}
	return elsewhere;
}

/* What the shadow should hold for n entries, wherever they lead. */
static void F(find_out)(const struct step *x, unsigned grant, const uint64_t *guest, uint64_t *want,
                        unsigned n)
{
	if (n >= BULK && !F(expect_all)(x, grant, guest, want, n))
		return;
	for (unsigned i = 0; i < n; i++) {
		uint64_t raw = sn_sh_load(&guest[i]);

		want[i] = F(expect)(x, grant, raw);
		if (!want[i] && raw)
			want[i] = F(exact)(x, grant, raw);
	}
}

/* Is a 2 MiB leaf of the shadow what a whole table of the guest says? */
static bool F(contiguous)(const struct step *x, unsigned grant, const uint64_t *guest,
                          uint64_t leaf)
{
	uint64_t shadow[64];

	leaf &= ~SN_SH_PS;
	for (unsigned i = 0; i < SN_SH_SLOTS; i += 64) {
		for (unsigned k = 0; k < 64; k++)
			shadow[k] = leaf + (i + k) * 4096ull;
		if (F(differ)(x, grant, guest + i, shadow, 64))
			return false;
	}
	return true;
}

/* What F(expect) needs to know of a memory map. */
static inline void F(look_at)(struct step *x, const struct sn_memory_map *map)
{
	x->map = map;
	x->hot_first = map->hot.first;
	x->hot_host = map->hot.host;
	x->hot_size = map->hot.flags & SNEST_REGION_READONLY ? 0 : map->hot_size;
}

/* The entries of a range in the two lowest tables that hold it. */
struct F(place) {
	const uint64_t *guest;
	uint64_t *shadow;
	unsigned grant, n;
};

/*
 * Finds the two lowest tables in step. False where it is not that simple: a range
 * of more than one table, tables outside the largest region, another depth, a
 * leaf on the way. Inside a read section or under the lock.
 */
static inline bool F(find)(struct step *x, const struct sn_tree *tree, uint64_t first,
                           uint64_t last, struct F(place) * place)
{
	const struct sn_pt *pt = x->pt;
	uint64_t root = sn_sh_load(&tree->root), at = pt->root[0], *shadow = sn_sh_table(root);
	unsigned shift = SN_SH_SHIFT0 + SN_SH_BITS * pt->top[0], grant = SN_GRANT_ALL;

	if (((first ^ last) >> (SN_SH_SHIFT0 + SN_SH_BITS)) || last > F(reach)(pt) ||
	    (root & SN_SH_ROOT_SHIFT) != shift || !x->map->hot.direct ||
	    (x->map->hot.flags & SNEST_REGION_NO_TABLES))
		return false;
	for (unsigned level = pt->top[0];; level--, shift -= SN_SH_BITS) {
		const uint64_t *guest = (const uint64_t *)(x->map->hot.mapping + at);
		unsigned index = sn_sh_index(first, shift);
		struct sn_entry e;
		uint64_t mine;

		if (at - x->hot_first >= x->hot_size)
			return false;
		if (!level) {
			place->guest = guest + index;
			place->shadow = shadow + index;
			place->grant = grant;
			place->n = (unsigned)((last >> 12) - (first >> 12)) + 1;
			return true;
		}
		e = F(decode)(pt, 0, level, sn_sh_load(&guest[index]));
		mine = sn_sh_load(&shadow[index]);
		if (!F(good)(e) || e.kind != SN_ENTRY_TABLE || !sn_sh_is_table(mine, shift))
			return false;
		grant &= e.grant;
		at = e.addr;
		shadow = sn_sh_table(mine);
	}
}

bool SN_CAT(SN_CAT(sn_sync, FMT), same)(const struct snest_space *space, uint64_t first,
                                        uint64_t last)
{
	struct F(place) p;
	struct step x;

	x.pt = &space->stages.pt[0];
	F(look_at)(&x, sn_deref(&space->vm->memory.map));
	if (!F(find)(&x, &space->tree[0], first, last, &p))
		return false;
	if (p.n >= BULK)
		return !F(differ)(&x, p.grant, p.guest, p.shadow, p.n);
	for (unsigned i = 0; i < p.n; i++) {
		uint64_t raw = sn_sh_load(&p.guest[i]), want = F(expect)(&x, p.grant, raw);

		if (((want ^ sn_sh_load(&p.shadow[i])) & STEP_SAME) || (!want && raw))
			return false;
	}
	return true;
}

/* Is the unit of this leaf just this page? */
static bool F(single)(struct step *x, const uint64_t *slot, uint64_t iova)
{
	unsigned shift;
	uint64_t next;

	if (!(*slot & SN_SH_START) || (*slot & SN_SH_HELD))
		return false;
	if (iova + 4096 == 0)
		return true;
	next = ((uintptr_t)(slot + 1) & 4095) ? slot[1]
	                                      : sn_tree_find(x->s->tree, iova + 4096, &shift);
	return !next || (next & SN_SH_START);
}

/* Unmaps one page; false: the caller unwinds. */
static bool F(remove)(struct step *x, uint64_t *slot, uint64_t iova)
{
	uint64_t old = *slot;

	if (!F(single)(x, slot, iova))
		return false;
	x->run.entry = 0;
	sn_pool_page(slot)->used--;
	sn_sh_store(slot, 0);
	sn_sync_queue(x->s, false, iova, iova + 4095, old & SN_SH_ADDR, old & SN_SH_RIGHTS);
	return !x->s->disturbed;
}

/*
 * Maps new pages, up to an entry that is not new or to the end of the batch.
 * Returns how many entries are as they should be. What it counts is in registers
 * until then: a counter in memory takes longer than all the rest of a page.
 */
static unsigned F(add)(struct step *x, uint64_t *shadow, uint64_t iova, const uint64_t *want,
                       unsigned n)
{
	struct sn_mirror *m = x->s->mirror;
	struct snest_sink_op *op = &m->op[m->count], *end = &m->op[SN_MIRROR_BATCH];
	struct run run = x->run;
	unsigned added = 0, i;

	for (i = 0; i < n; i++, iova += 4096) {
		uint64_t old = shadow[i], entry = want[i];

		if (!((entry ^ old) & STEP_SAME))
			continue;
		if (old)
			break;
		if (F(goes_on)(&run, iova, entry)) {
			F(extend_run)(&run, 4096);
		} else {
			if (op == end)
				break;
			entry = F(begin_run)(&run, op++, iova, entry, 4096);
		}
		sn_sh_store(&shadow[i], entry);
		added++;
	}
	if (!added)
		return i;
	x->run = run;
	m->count = (unsigned)(op - m->op);
	sn_pool_page(shadow)->used += (uint16_t)added;
	x->s->space->stats.leaves_published += added;
	return i;
}

/* Makes n entries what they should be. Returns how many are: the rest is put off. */
static unsigned F(change)(struct step *x, uint64_t *shadow, uint64_t iova, const uint64_t *want,
                          unsigned n)
{
	unsigned i = 0;

	for (;;) {
		i += F(add)(x, shadow + i, iova + i * 4096ull, want + i, n - i);
		if (i == n)
			return n;
		if (!shadow[i]) {
			if (!F(flush)(x))
				return i;
			continue;
		}
		if (!F(remove)(x, &shadow[i], iova + i * 4096ull))
			return i;
		/* What takes its place waits until the sink has let go of it. */
		if (want[i] && !F(flush)(x))
			return i;
	}
}

/* A whole table of contiguous pages becomes one 2 MiB leaf. */
static bool F(large)(struct step *x, unsigned grant, const uint64_t *guest, uint64_t iova)
{
	uint64_t want = F(expect)(x, grant, sn_sh_load(guest)), bytes = sn_mask(21) + 1, *slot;
	int error;

	if (!want || (want & SN_SH_ADDR & sn_mask(21)))
		return false;
	for (unsigned i = 1; i < SN_SH_SLOTS; i++) {
		if (F(expect)(x, grant, sn_sh_load(&guest[i])) != want + i * 4096)
			return false;
	}
	slot = sn_sync_slot(x->s, iova, 21, 0, &error);
	if (!slot || *slot)
		return false;
	if (F(goes_on)(&x->run, iova, want)) {
		F(extend_run)(&x->run, bytes);
	} else {
		if (x->s->mirror->count == SN_MIRROR_BATCH && !F(flush)(x))
			return false;
		want = F(begin_run)(&x->run, &x->s->mirror->op[x->s->mirror->count++], iova, want,
		                    bytes);
	}
	x->s->space->stats.leaves_published++;
	sn_tree_store(x->s->tree, &x->s->space->graveyard, slot, 21, want);
	return true;
}

/* The lowest level: n entries from iova on; shadow is NULL where there is no table yet. */
static void F(pages)(struct step *x, unsigned grant, const uint64_t *guest, uint64_t *shadow,
                     uint64_t iova, unsigned n)
{
	if (shadow) {
		if (n >= BULK && !F(differ)(x, grant, guest, shadow, n))
			return;
	} else {
		unsigned i = 0;
		int error;

		while (i < n && !F(exact)(x, grant, sn_sh_load(&guest[i])))
			i++;
		if (i == n)
			return;
		if (n == SN_SH_SLOTS && F(large)(x, grant, guest, iova))
			return;
		if (x->s->disturbed) {
			F(put_off)(x, iova, iova + n * 4096ull - 1);
			return;
		}
		shadow = sn_sync_slot(x->s, iova, SN_SH_SHIFT0, 0, &error);
		if (!shadow) {
			sn_sync_failed(x->s, iova, iova + (uint64_t)n * 4096 - 1, error);
			return;
		}
	}
	for (unsigned i = 0; i < n; i += CHUNK) {
		unsigned here = n - i < CHUNK ? n - i : CHUNK, done;
		uint64_t want[CHUNK];

		F(find_out)(x, grant, guest + i, want, here);
		done = F(change)(x, shadow + i, iova + i * 4096ull, want, here);
		if (done < here) {
			F(put_off)(x, iova + (i + done) * 4096ull, iova + n * 4096ull - 1);
			return;
		}
	}
}

/*
 * The next pair of lowest tables, while this one is compared. The machine notices
 * by itself how it goes on, but not across pages.
 */
static inline void F(prefetch)(const struct step *x, uint64_t guest, uint64_t shadow)
{
	/* Numbers, because neither need be the address of anything. */
	uintptr_t a = (uintptr_t)(x->map->hot.mapping + (guest & x->pt->out_mask));
	uintptr_t b = (uintptr_t)(shadow & SN_SH_ADDR);

	for (unsigned line = 0; line < 8; line++) {
		__builtin_prefetch((const void *)(a + line * 64));
		__builtin_prefetch((const void *)(b + line * 64));
	}
}

/* first..last below one pair of tables; `shadow` is NULL where there is none. */
static void F(tables)(struct step *x, unsigned level, unsigned grant, const uint64_t *guest,
                      uint64_t *shadow, uint64_t base, uint64_t first, uint64_t last)
{
	unsigned shift = SN_SH_SHIFT0 + SN_SH_BITS * level;
	unsigned i = (unsigned)((first - base) >> shift);
	unsigned i_last = (unsigned)((last - base) >> shift);

	if (!F(charge)(x, i_last - i + 1, first))
		return;
	if (level == 0) {
		F(pages)
		(x, grant, guest + i, shadow ? shadow + i : NULL, base + ((uint64_t)i << shift),
		 i_last - i + 1);
		return;
	}
	for (; i <= i_last && !x->rest; i++) {
		uint64_t raw = sn_sh_load(&guest[i]), mine = shadow ? shadow[i] : 0;
		uint64_t slot = base + ((uint64_t)i << shift), slot_last = slot + sn_mask(shift);
		uint64_t from = first > slot ? first : slot,
			 to = last < slot_last ? last : slot_last;
		const uint64_t *lower = NULL;
		struct sn_entry e;

		if (!raw && !mine)
			continue;
		e = F(decode)(x->pt, 0, level, raw);
		if (!F(good)(e)) {
			if (mine)
				F(put_off)(x, from, to);
			continue;
		}
		if (e.kind == SN_ENTRY_TABLE)
			lower = F(table)(x, e.addr);
		if (level == 1 && i < i_last)
			F(prefetch)(x, sn_sh_load(&guest[i + 1]), shadow ? shadow[i + 1] : 0);
		/* The usual: a whole table in which nothing changed. */
		if (level == 1 && lower && sn_sh_is_table(mine, shift) &&
		    to - from == sn_mask(21) && x->s->budget >= SN_SH_SLOTS &&
		    !F(differ)(x, grant & e.grant, lower, sn_sh_table(mine), SN_SH_SLOTS)) {
			x->s->budget -= SN_SH_SLOTS;
			continue;
		}
		if (level == 1 && lower && (mine & SN_SH_PS) && x->s->budget >= SN_SH_SLOTS &&
		    F(contiguous)(x, grant & e.grant, lower, mine)) {
			x->s->budget -= SN_SH_SLOTS;
			continue;
		}
		if (lower && (!mine || sn_sh_is_table(mine, shift)))
			F(tables)
		(x, level - 1, grant & e.grant, lower, mine ? sn_sh_table(mine) : NULL, slot, from,
		 to);
		else F(put_off)(x, from, to);
	}
}

/*
 * The shadow's table at the level of the guest's root; NULL if there is none
 * yet. False: the two do not fit together.
 */
static bool F(align)(struct sn_sync *s, unsigned top, uint64_t **shadow)
{
	unsigned want = SN_SH_SHIFT0 + SN_SH_BITS * top;
	unsigned shift = s->tree->root & SN_SH_ROOT_SHIFT;
	int error;

	*shadow = NULL;
	if (sn_tree_is_empty(s->tree))
		return true;
	if (shift > want || (shift < want && !sn_sync_slot(s, 0, want, 0, &error)))
		return false;
	*shadow = sn_sh_table(s->tree->root);
	return true;
}

void SN_CAT(sn_sync, FMT)(struct sn_sync *s, uint64_t first, uint64_t last)
{
	const struct sn_pt *pt = &s->space->stages.pt[0];
	uint64_t reach = F(reach)(pt), at = first;
	unsigned grant = SN_GRANT_ALL;
	struct F(place) place;
	struct step x;

	x.s = s;
	x.pt = pt;
	x.last = last;
	F(look_at)(&x, sn_deref(&s->space->vm->memory.map));
	if (F(find)(&x, s->tree, first, last, &place) && F(charge)(&x, place.n, first)) {
		x.run = (struct run){NULL, 0, 0};
		x.rest = s->disturbed = false;
		F(pages)(&x, place.grant, place.guest, place.shadow, first, place.n);
		if (x.rest)
			sn_sync_general(s, x.rest_first, x.rest_last);
		return;
	}
	while (at <= last && at <= reach) {
		uint64_t to = last < reach ? last : reach, *shadow;
		const uint64_t *guest = F(table)(&x, pt->root[0]);

		if (!guest || !F(align)(s, pt->top[0], &shadow))
			break;
		x.run = (struct run){NULL, 0, 0};
		x.rest = s->disturbed = false;
		x.last = to;
		F(tables)(&x, pt->top[0], grant, guest, shadow, 0, at, to);
		at = to + 1;
		if (x.rest) {
			sn_sync_general(s, x.rest_first, x.rest_last);
			at = x.rest_last + 1;
		}
		if (!at)
			return;
	}
	if (at <= last)
		sn_sync_general(s, at, last);
}
