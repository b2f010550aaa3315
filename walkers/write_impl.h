/* SPDX-License-Identifier: MIT */
/*
 * The writer, compiled once per format: mapping and unmapping. Include behind
 * walk_impl.h with FMT defined; yields `static const struct sn_writer
 * <FMT>_writer`. Rules and callers: walkers/write.h.
 *
 * Words: a slot is what one entry translates, 2^shift bytes. A leaf larger
 * than its slot is a group: 2^(lg2 - shift) equal entries. A piece is a range
 * that is, or is to be, mapped contiguously.
 *
 * A change first runs dry: the same code checks and counts the pages that it
 * will need and stores nothing. Then the pages are reserved; then it runs
 * again, stores, and cannot fail. Recursion goes one level down each time.
 */
#include "walkers/write_leaf_impl.h"

/* Finds the root that translates first..last. False: not one interval of valid inputs. */
static inline bool F(locate)(struct sn_edit *x, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; F(span)(x->pt, i, &x->span_first, &x->span_last, &x->half); i++) {
		if (first >= x->span_first && first <= x->span_last)
			return last >= first && last <= x->span_last;
	}
	return false;
}

static inline bool F(misaligned)(const struct sn_edit *x, uint64_t first, uint64_t last)
{
	uint64_t sizes = x->t->sizes[x->half];

	return (first | (last + 1)) & ((sizes & -sizes) - 1);
}

#include "walkers/write_unmap_impl.h"

#include "walkers/write_hand_impl.h"

/* ---- Mapping --------------------------------------------------------------- */

/* Stores n leaves over what is there, one slot after the other. */
static void F(overwrite)(struct sn_edit *x, unsigned level, void *table, uint64_t in, unsigned lg2,
                         uint64_t n, uint64_t addr)
{
	unsigned shift = F(shift)(x->pt, x->half, level);
	uint64_t i = F(index)(x, level, in), slots = n << (lg2 - shift);

	for (uint64_t k = 0; k < slots; k++) {
		uint64_t raw = 0, before = F(get)(x->pt, table, i + k);
		struct sn_entry e;

		(void)F(make_leaf)(x->pt, x->half, level, lg2,
		                   addr + ((k << shift) & ~sn_mask(lg2)), x->piece->rights,
		                   x->piece->attr, &raw);
		F(put)(x->pt, table, i + k, raw);
		if (!before) {
			F(count)(x, level, table, 1);
			continue;
		}
		e = F(decode)(x->pt, x->half, level, before);
		if (e.kind == SN_ENTRY_TABLE)
			F(retire_tree)(x, level - 1, F(child)(x, &e));
	}
}

/* Maps first..last of x->piece below one table. 0, or (dry only) -EEXIST, -EINVAL. */
static int F(map_table)(struct sn_edit *x, unsigned level, void *table, uint64_t first,
                        uint64_t last)
{
	unsigned shift = F(shift)(x->pt, x->half, level);
	uint64_t end;

	if (!x->dry && x->replace)
		F(detach)(x, level, table, first, last);
	for (uint64_t in = first;; in = end + 1) {
		uint64_t addr = x->piece->addr + (in - x->piece->first), n;
		unsigned lg2 = F(pick)(x, level, x->piece->sizes, in, last, addr, &n);
		struct sn_slot s = {.table = table, .level = level};
		struct sn_entry e;
		int ret;

		s.index = F(index)(x, level, in);
		if (lg2) {
			uint64_t slots = n << (lg2 - shift);

			end = in + (n << lg2) - 1;
			if (x->dry) {
				if (F(make_leaf)(x->pt, x->half, level, lg2, addr, x->piece->rights,
				                 x->piece->attr, &s.raw))
					return -EINVAL;
				if (!x->replace && F(any)(table, s.index, slots))
					return -EEXIST;
			} else if (x->replace) {
				F(overwrite)(x, level, table, in, lg2, n, addr);
			} else {
				F(put_leaves)(x, level, table, x->piece, in, lg2, n);
				F(count)(x, level, table, slots);
			}
		} else {
			s.first = in & ~sn_mask(shift);
			s.raw = F(get)(x->pt, table, s.index);
			end = (in | sn_mask(shift)) < last ? in | sn_mask(shift) : last;
			e = F(decode)(x->pt, x->half, level, s.raw);
			if (e.kind == SN_ENTRY_TABLE) {
				ret = F(map_table)(x, level - 1, F(child)(x, &e), in, end);
				if (ret)
					return ret;
			} else if (s.raw && !x->replace) {
				return -EEXIST;
			} else {
				F(lower)(x, &s, in, end, x->piece);
			}
		}
		if (end == last)
			return 0;
	}
}

/* Whether leaves of 2^lg2 bytes of `level` can be made of a whole piece. */
static inline bool F(makes)(const struct sn_pt *pt, unsigned half, unsigned level, unsigned lg2,
                            const struct sn_piece *p)
{
	uint64_t size = sn_mask(lg2), bytes = p->last - p->first, raw;

	return !((p->first | p->addr | (p->last + 1)) & size) && p->addr + bytes >= p->addr &&
	       !F(make_leaf)(pt, half, level, lg2, p->addr, p->rights, p->attr, &raw) &&
	       !F(make_leaf)(pt, half, level, lg2, p->addr + (bytes - size), p->rights, p->attr,
	                     &raw);
}

/* The lowest level at which one table holds a piece and more; above the root: none. */
static inline unsigned F(level_around)(const struct sn_edit *x, const struct sn_piece *p)
{
	unsigned level = 0;

	for (; level <= x->pt->top[x->half]; level++) {
		uint64_t mask = sn_mask(F(shift)(x->pt, x->half, level) +
		                        F(index_bits)(x->pt, x->half, level));

		if (!((p->first ^ p->last) & ~mask) && p->last - p->first < mask)
			break;
	}
	return level;
}

/* Makes a new table of `level` reachable from an entry that is empty, with tables between. */
static inline void F(link_up)(struct sn_edit *x, const struct sn_slot *s, unsigned level,
                              void *table, uint64_t in)
{
	while (++level < s->level) {
		void *upper = sn_table_take(x->t);

		F(put)(x->pt, upper, F(index)(x, level, in), F(link)(x, level, table));
		F(count)(x, level, upper, 1);
		table = upper;
	}
	F(put)(x->pt, s->table, s->index, F(link)(x, level, table));
	F(count)(x, level, s->table, 1);
}

/*
 * Maps x->piece in one table of `level`, which is there or needs to be made.
 * `sizes` are as map_at_hand takes them.
 */
static int F(map_near)(struct sn_edit *x, unsigned level, uint64_t sizes)
{
	const struct sn_piece *p = x->piece;
	struct sn_slot s = F(find)(x, p->first, level);
	void *table;
	int ret;

	if (s.level == level) {
		F(keep)(x, s.table, level, p->first);
		return F(map_at_hand)(x->t, p, sizes);
	}
	if (s.raw)
		return -EEXIST;
	ret = sn_table_reserve(x->t, x->half, s.level - level);
	if (ret)
		return ret;
	table = sn_table_take(x->t);
	F(keep)(x, table, level, p->first);
	(void)F(map_at_hand)(x->t, p, sizes);
	F(link_up)(x, &s, level, table, p->first);
	return 0;
}

/*
 * Maps one leaf like the one remembered, where the table at hand is not. That
 * it fits was checked; 1: it is not of the same half.
 */
static int F(map_far)(struct snest_table *t, uint64_t first, uint64_t addr)
{
	struct sn_hand *h = &t->hand;
	struct sn_edit x = {.t = t, .pt = &t->pt};
	uint64_t raw = h->leaf | F(placed)(addr);
	unsigned level = h->level;
	struct sn_slot s;
	int ret;

	if (!F(locate)(&x, first, first | sn_mask(h->shift)))
		return -EINVAL;
	if (x.half != h->half)
		return 1;
	s = F(find)(&x, first, level);
	if (s.raw)
		return -EEXIST;
	if (s.level != level) {
		void *table;

		ret = sn_table_reserve(t, x.half, s.level - level);
		if (ret)
			return ret;
		table = sn_table_take(t);
		F(put_native)(table, F(index)(&x, level, first), 1, raw, 0);
		F(count)(&x, level, table, 1);
		F(link_up)(&x, &s, level, table, first);
		F(keep)(&x, table, level, first);
		return 0;
	}
	F(put_native)(s.table, s.index, 1, raw, 0);
	F(count)(&x, level, s.table, 1);
	F(keep)(&x, s.table, level, first);
	return 0;
}

static int F(map_anywhere)(struct snest_table *t, struct sn_piece *p, bool replace)
{
	struct sn_edit x = {.t = t, .pt = &t->pt, .replace = replace, .piece = p};
	unsigned level = 0, top, lg2;
	struct sn_slot s;
	int ret;

	if (!F(locate)(&x, p->first, p->last))
		return -EINVAL;
	p->sizes &= t->sizes[x.half];
	if (!p->sizes)
		return -EINVAL;
	lg2 = (unsigned)__builtin_ctzll(p->sizes);
	while (!(F(leaf_sizes)(x.pt, x.half, level) >> lg2 & 1))
		level++;
	if (!F(makes)(x.pt, x.half, level, lg2, p))
		return -EINVAL;
	top = x.pt->top[x.half];
	level = F(level_around)(&x, p);
	if (!replace && level <= top) {
		uint64_t sizes = p->sizes & F(leaf_sizes)(x.pt, x.half, level);
		unsigned least = sizes ? (unsigned)__builtin_ctzll(sizes) : 0;

		if (sizes && (least == lg2 || F(makes)(x.pt, x.half, level, least, p)))
			return F(map_near)(&x, level, sizes);
	}
	x.dry = true;
	ret = F(map_table)(&x, top, t->root[x.half], p->first, p->last);
	if (!ret)
		ret = sn_table_reserve(t, x.half, x.need);
	if (ret)
		return ret;
	x.dry = false;
	(void)F(map_table)(&x, top, t->root[x.half], p->first, p->last);
	sn_table_settle(t);
	s = F(find)(&x, p->last, 0);
	F(keep)(&x, s.table, s.level, p->last);
	return 0;
}

/* Any call of map: several leaves like those before, or not at all like them. */
static __attribute__((noinline)) int F(map_any)(struct snest_table *t, uint64_t first,
                                                uint64_t last, uint64_t addr, uint32_t rights,
                                                uint32_t attr, uint32_t flags)
{
	const struct sn_hand *h = &t->hand;
	struct sn_piece p;
	int ret;

	if (sn_asked(rights, attr) == h->asked && flags == (h->flags & ~SN_HAND_AWAY)) {
		uint64_t grain = sn_mask(h->shift);

		if (last - first == grain && !(first & grain) && !(addr & h->beyond)) {
			ret = F(map_far)(t, first, addr);
			if (ret <= 0)
				return ret;
		} else if (F(map_alike)(t, first, last, addr, &ret)) {
			return ret;
		}
	}
	if (!sn_piece_init(&p, first, last, addr, rights, attr, flags))
		return -EINVAL;
	if (!(flags & SNEST_TABLE_REPLACE) && F(at_hand)(t, first, last)) {
		uint64_t sizes = p.sizes & F(leaf_sizes)(&t->pt, h->half, h->level);

		if (sizes &&
		    F(makes)(&t->pt, h->half, h->level, (unsigned)__builtin_ctzll(sizes), &p))
			return F(map_at_hand)(t, &p, sizes);
	}
	return F(map_anywhere)(t, &p, flags & SNEST_TABLE_REPLACE);
}

/* Any call of unmap. */
static __attribute__((noinline)) int F(unmap_any)(struct snest_table *t, uint64_t first,
                                                  uint64_t last, uint32_t flags, uint64_t *bytes)
{
	struct sn_edit x = {.t = t, .pt = &t->pt, .whole = flags & SNEST_TABLE_WHOLE};

	if (flags & ~SNEST_TABLE_WHOLE)
		return -EINVAL;
	if (F(at_hand)(t, first, last) && F(unmap_at_hand)(t, first, last, x.whole, bytes))
		return 0;
	if (!F(locate)(&x, first, last) || F(misaligned)(&x, first, last))
		return -EINVAL;
	if (!F(at_hand)(t, first, last)) {
		struct sn_slot s = F(find)(&x, first, 0);

		if (s.raw) {
			F(keep)(&x, s.table, s.level, first);
			if (F(at_hand)(t, first, last) &&
			    F(unmap_at_hand)(t, first, last, x.whole, bytes))
				return 0;
		}
	}
	return F(unmap_anywhere)(&x, first, last, bytes);
}

/* ---- One leaf, like the one before -------------------------------------------- */

static int F(map)(struct snest_table *t, uint64_t first, uint64_t last, uint64_t addr,
                  uint32_t rights, uint32_t attr, uint32_t flags)
{
	const struct sn_hand *h = &t->hand;
	uint64_t in = first - h->first;

	if (__builtin_expect(last - first == h->grain && in <= h->span && !(in & h->grain) &&
	                             !(addr & h->beyond) && sn_asked(rights, attr) == h->asked &&
	                             flags == h->flags,
	                     1)) {
		char *entry = h->entries + (in >> h->shift << F(ENTRY_LG2));

		if (F(peek)(entry))
			return -EEXIST;
		F(store)(entry, h->leaf | F(placed)(addr));
		if (h->used)
			++*h->used;
		return 0;
	}
	return F(map_any)(t, first, last, addr, rights, attr, flags);
}

static int F(unmap)(struct snest_table *t, uint64_t first, uint64_t last, uint32_t flags,
                    uint64_t *bytes)
{
	const struct sn_hand *h = &t->hand;
	uint64_t in = first - h->first;

	if (__builtin_expect(last - first == h->grain && in <= h->span && !(in & h->grain) &&
	                             !(flags & ~SNEST_TABLE_WHOLE),
	                     1)) {
		char *entry = h->entries + (in >> h->shift << F(ENTRY_LG2));

		if (F(one_slot)(t, F(peek)(entry))) {
			F(store)(entry, 0);
			if (bytes)
				*bytes = h->grain + 1;
			if (h->used)
				--*h->used;
			if (!F(still_used)(h))
				F(emptied)(t, first);
			return 0;
		}
	}
	return F(unmap_any)(t, first, last, flags, bytes);
}

#include "walkers/write_cut_impl.h"

/* ---- The table as a whole --------------------------------------------------- */

static void F(empty)(struct snest_table *t)
{
	struct sn_edit x = {.t = t, .pt = &t->pt};
	const uint64_t step = 64;

	for (x.half = 0; x.half < 2 && t->root[x.half]; x.half++) {
		unsigned top = x.pt->top[x.half];
		uint64_t n = F(entries)(&x, top);
		void *root = t->root[x.half];

		for (uint64_t i = 0; i < n; i++) {
			uint64_t raw;
			struct sn_entry e;

			/* A root can be 1 MiB, most of it unused. */
			if (!(i % step) && n - i >= step && !F(any)(root, i, step)) {
				i += step - 1;
				continue;
			}
			raw = F(get)(x.pt, root, i);
			if (!raw)
				continue;
			e = F(decode)(x.pt, x.half, top, raw);
			F(put)(x.pt, root, i, 0);
			if (e.kind == SN_ENTRY_TABLE)
				F(retire_tree)(&x, top - 1, F(child)(&x, &e));
		}
	}
	sn_table_settle(t);
}

static unsigned F(table_lg2)(const struct sn_pt *pt, unsigned half, unsigned level)
{
	unsigned lg2 = F(index_bits)(pt, half, level) + F(ENTRY_LG2);

	return lg2 < pt->granule_lg2[half] ? pt->granule_lg2[half] : lg2;
}

static uint64_t F(sizes)(const struct sn_pt *pt, unsigned half)
{
	uint64_t sizes = 0;

	for (unsigned level = 0; level <= pt->top[half]; level++)
		sizes |= F(leaf_sizes)(pt, half, level);
	return sizes;
}

static uint64_t F(table_mask)(const struct sn_pt *pt, unsigned half)
{
	uint64_t mask = 0;

	for (unsigned bit = 0; bit < 64 && pt->top[half]; bit++) {
		uint64_t addr = (uint64_t)1 << bit, raw;

		if (bit < F(table_lg2)(pt, half, 0))
			continue;
		raw = F(make_table)(pt, half, 1, 0, addr);

		struct sn_entry e = F(decode)(pt, half, 1, raw);

		if (e.kind == SN_ENTRY_TABLE && !e.early && !e.late && e.addr == addr)
			mask |= addr;
	}
	return mask;
}

static uint64_t F(leaf_mask)(const struct sn_pt *pt, unsigned half)
{
	unsigned shift = F(shift)(pt, half, 0);
	uint64_t mask = 0, base, raw;
	uint32_t rights = 1;

	while (rights < SNEST_RIGHTS && F(make_leaf)(pt, half, 0, shift, 0, rights, 0, &base))
		rights++;
	if (F(make_leaf)(pt, half, 0, shift, 0, rights, 0, &base))
		return 0;
	/* Without gaps, so that all addresses between two that fit do. */
	for (unsigned bit = shift; bit < 64; bit++) {
		uint64_t addr = (uint64_t)1 << bit;

		if (F(make_leaf)(pt, half, 0, shift, addr, rights, 0, &raw) || !F(placed)(addr) ||
		    raw != (base | F(placed)(addr)))
			break;
		mask |= addr;
	}
	return mask;
}

static const struct sn_writer F(writer) = {
	.map = F(map),
	.unmap = F(unmap),
	.cut = F(cut),
	.merge = F(merge),
	.empty = F(empty),
	.table_lg2 = F(table_lg2),
	.sizes = F(sizes),
	.table_mask = F(table_mask),
	.leaf_mask = F(leaf_mask),
};
