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

/* Whether first..last is in the leaf table used last, and needs no other. */
static inline bool F(at_hand)(const struct snest_table *t, uint64_t first, uint64_t last)
{
	return first >= t->leaf_first && last <= t->leaf_last && first <= last &&
	       (first != t->leaf_first || last != t->leaf_last);
}

#include "walkers/write_unmap_impl.h"

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

/* Remembers a leaf table, so that the next change near it need not look for it. */
static inline void F(keep)(const struct sn_edit *x, void *table, uint64_t in)
{
	unsigned width = F(shift)(x->pt, x->half, 0) + F(index_bits)(x->pt, x->half, 0);
	uint64_t first = in & ~sn_mask(width), last = in | sn_mask(width);
	struct snest_table *t = x->t;

	t->leaf = table;
	t->leaf_half = x->half;
	t->leaf_witness = F(index)(x, 0, in);
	t->leaf_first = first < x->span_first ? x->span_first : first;
	t->leaf_last = last > x->span_last ? x->span_last : last;
}

/* Whether leaves of the piece can be made at all: first and last of the smallest size. */
static bool F(makes)(const struct sn_edit *x)
{
	const struct sn_piece *p = x->piece;
	uint64_t size, raw;
	unsigned level = 0, lg2;

	if (!p->sizes || p->addr + (p->last - p->first) < p->addr)
		return false;
	lg2 = (unsigned)__builtin_ctzll(p->sizes);
	size = sn_mask(lg2);
	if ((p->first | p->addr | (p->last + 1)) & size)
		return false;
	while (!(F(leaf_sizes)(x->pt, x->half, level) >> lg2 & 1))
		level++;
	return !F(make_leaf)(x->pt, x->half, level, lg2, p->addr, p->rights, p->attr, &raw) &&
	       !F(make_leaf)(x->pt, x->half, level, lg2, p->addr + (p->last - p->first - size),
	                     p->rights, p->attr, &raw);
}

/* Maps a piece in the leaf table used last: the way of every small mapping. */
static inline int F(map_at_hand)(struct snest_table *t, const struct sn_piece *p, uint64_t sizes)
{
	struct sn_edit x = {.t = t, .pt = &t->pt, .half = t->leaf_half};
	unsigned shift = F(shift)(x.pt, x.half, 0), lg2 = (unsigned)__builtin_ctzll(sizes);
	uint64_t raw, i = F(index)(&x, 0, p->first);
	uint64_t bytes = p->last - p->first, n = (bytes >> shift) + 1;

	if (((p->first | p->addr | (p->last + 1)) & sn_mask(lg2)) || p->addr + bytes < p->addr ||
	    F(make_leaf)(x.pt, x.half, 0, lg2, p->addr, p->rights, p->attr, &raw) ||
	    F(make_leaf)(x.pt, x.half, 0, lg2, p->addr + (bytes - sn_mask(lg2)), p->rights, p->attr,
	                 &raw))
		return -EINVAL;
	if (F(any)(t->leaf, i, n))
		return -EEXIST;
	if (sizes == (uint64_t)1 << shift) {
		F(put_leaves)(&x, 0, t->leaf, p, p->first, shift, n);
	} else {
		struct sn_piece part = *p;

		part.sizes = sizes;
		F(put_piece)(&x, 0, t->leaf, &part);
	}
	F(count)(&x, 0, t->leaf, n);
	return 0;
}

/* Maps x->piece, less than a leaf table, where no leaf table is at hand. */
static int F(map_near)(struct sn_edit *x, uint64_t sizes)
{
	const struct sn_piece *p = x->piece;
	struct sn_slot s = F(find)(x, p->first);
	struct sn_piece part = *p;
	void *leaf, *table;
	int ret;

	if (s.level == 0) {
		F(keep)(x, s.table, p->first);
		return F(map_at_hand)(x->t, p, sizes);
	}
	if (s.raw)
		return -EEXIST;
	ret = sn_table_reserve(x->t, x->half, s.level);
	if (ret)
		return ret;
	part.sizes = sizes;
	leaf = table = sn_table_take(x->t);
	F(put_piece)(x, 0, leaf, &part);
	F(count)(x, 0, leaf, ((p->last - p->first) >> F(shift)(x->pt, x->half, 0)) + 1);
	for (unsigned level = 1; level <= s.level; level++) {
		void *upper = level == s.level ? s.table : sn_table_take(x->t);

		F(put)(x->pt, upper, F(index)(x, level, p->first), F(link)(x, level, table));
		F(count)(x, level, upper, 1);
		table = upper;
	}
	F(keep)(x, leaf, p->first);
	return 0;
}

static int F(map_anywhere)(struct snest_table *t, const struct sn_piece *piece, bool replace)
{
	struct sn_piece p = *piece;
	struct sn_edit x = {.t = t, .pt = &t->pt, .replace = replace, .piece = &p};
	unsigned width, top;
	struct sn_slot s;
	uint64_t small;
	int ret;

	if (!F(locate)(&x, p.first, p.last))
		return -EINVAL;
	p.sizes &= t->sizes[x.half];
	if (!F(makes)(&x))
		return -EINVAL;
	width = F(shift)(x.pt, x.half, 0) + F(index_bits)(x.pt, x.half, 0);
	small = p.sizes & F(leaf_sizes)(x.pt, x.half, 0);
	if (!replace && small && !((p.first ^ p.last) & ~sn_mask(width)) &&
	    p.last - p.first < sn_mask(width))
		return F(map_near)(&x, small);
	top = x.pt->top[x.half];
	x.dry = true;
	ret = F(map_table)(&x, top, t->root[x.half], p.first, p.last);
	if (!ret)
		ret = sn_table_reserve(t, x.half, x.need);
	if (ret)
		return ret;
	x.dry = false;
	(void)F(map_table)(&x, top, t->root[x.half], p.first, p.last);
	sn_table_settle(t);
	s = F(find)(&x, p.last);
	if (s.level == 0)
		F(keep)(&x, s.table, p.last);
	return 0;
}

static int F(map)(struct snest_table *t, const struct sn_piece *piece, bool replace)
{
	if (F(at_hand)(t, piece->first, piece->last) && !replace) {
		uint64_t sizes = F(leaf_sizes)(&t->pt, t->leaf_half, 0) & piece->sizes;

		if (sizes)
			return F(map_at_hand)(t, piece, sizes);
	}
	return F(map_anywhere)(t, piece, replace);
}

#include "walkers/write_cut_impl.h"

/* ---- The table as a whole --------------------------------------------------- */

static void F(empty)(struct snest_table *t)
{
	struct sn_edit x = {.t = t, .pt = &t->pt};

	for (x.half = 0; x.half < 2 && t->root[x.half]; x.half++) {
		unsigned top = x.pt->top[x.half];

		for (uint64_t i = 0; i < F(entries)(&x, top); i++) {
			uint64_t raw = F(get)(x.pt, t->root[x.half], i);
			struct sn_entry e = F(decode)(x.pt, x.half, top, raw);

			if (raw)
				F(put)(x.pt, t->root[x.half], i, 0);
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

static const struct sn_writer F(writer) = {
	.map = F(map),
	.unmap = F(unmap),
	.cut = F(cut),
	.merge = F(merge),
	.empty = F(empty),
	.table_lg2 = F(table_lg2),
	.sizes = F(sizes),
	.table_mask = F(table_mask),
};
