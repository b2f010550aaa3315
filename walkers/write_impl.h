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

/* ---- Removing -------------------------------------------------------------- */

/* Retires a table that was just unlinked, and all below it; adds up what they mapped. */
static void F(retire_tree)(struct sn_edit *x, unsigned level, void *table)
{
	unsigned shift = F(shift)(x->pt, x->half, level);

	if (level == 0 && x->t->pooled) {
		x->bytes += (uint64_t)sn_pool_page(table)->used << shift;
	} else {
		for (uint64_t i = 0; i < F(entries)(x, level); i++) {
			uint64_t raw = F(get)(x->pt, table, i);
			struct sn_entry e;

			if (!raw)
				continue;
			e = F(decode)(x->pt, x->half, level, raw);
			if (e.kind == SN_ENTRY_TABLE)
				F(retire_tree)(x, level - 1, F(child)(x, &e));
			else
				x->bytes += (uint64_t)1 << shift;
		}
	}
	sn_table_retire(x->t, x->half, table, true);
}

/*
 * Makes groups that reach out of the slots of first..last end there: the parts
 * outside become smaller leaves. The entries inside stay as they are, and are
 * to be overwritten, slot by slot.
 */
static void F(detach)(const struct sn_edit *x, unsigned level, void *table, uint64_t first,
                      uint64_t last)
{
	unsigned shift = F(shift)(x->pt, x->half, level);
	uint64_t at[2] = {first & ~sn_mask(shift), last & ~sn_mask(shift)};

	if (!(F(leaf_sizes)(x->pt, x->half, level) & ~sn_mask(shift + 1)))
		return;
	last = at[1] | sn_mask(shift);
	first = at[0];
	for (unsigned i = 0; i < 2; i++) {
		uint64_t raw = F(get)(x->pt, table, F(index)(x, level, at[i]));
		struct sn_entry e = F(decode)(x->pt, x->half, level, raw);
		struct sn_piece group, p;

		if (e.kind != SN_ENTRY_LEAF || e.lg2 <= shift)
			continue;
		group = F(piece_of)(x, level, at[i], raw);
		group.first = at[i] & ~sn_mask(e.lg2);
		group.last = at[i] | sn_mask(e.lg2);
		group.addr = e.addr;
		if (group.first < first) {
			p = F(part)(&group, group.first, first - 1);
			F(put_piece)(x, level, table, &p);
		}
		if (group.last > last) {
			p = F(part)(&group, last + 1, group.last);
			F(put_piece)(x, level, table, &p);
		}
		if (group.last >= last)
			return;
	}
}

/* Widens *first..*last to the whole of the leaves at its two ends. */
static void F(widen)(const struct sn_edit *x, unsigned level, const void *table, uint64_t *first,
                     uint64_t *last)
{
	uint64_t raw = F(get)(x->pt, table, F(index)(x, level, *first));
	struct sn_entry e = F(decode)(x->pt, x->half, level, raw);

	if (e.kind == SN_ENTRY_LEAF)
		*first &= ~sn_mask(e.lg2);
	raw = F(get)(x->pt, table, F(index)(x, level, *last));
	e = F(decode)(x->pt, x->half, level, raw);
	if (e.kind == SN_ENTRY_LEAF)
		*last |= sn_mask(e.lg2);
}

/* Unmaps entries i..i+n-1 of a table that holds no tables. */
static inline uint64_t F(clear)(struct sn_edit *x, unsigned level, void *table, uint64_t i,
                                uint64_t n)
{
	uint64_t used = F(wipe)(table, i, n);

	F(count)(x, level, table, 0 - used);
	x->bytes += used << F(shift)(x->pt, x->half, level);
	return used;
}

/* Whether a table of `level` can hold leaves larger than its slots. */
static inline bool F(has_groups)(const struct sn_edit *x, unsigned level)
{
	return F(leaf_sizes)(x->pt, x->half, level) & ~sn_mask(F(shift)(x->pt, x->half, level) + 1);
}

/* Unmaps first..last in a table of level 0. */
static inline void F(unmap_leaves)(struct sn_edit *x, void *table, uint64_t first, uint64_t last)
{
	uint64_t i;

	if (F(has_groups)(x, 0)) {
		if (x->whole)
			F(widen)(x, 0, table, &first, &last);
		else
			F(detach)(x, 0, table, first, last);
	}
	i = F(index)(x, 0, first);
	F(clear)(x, 0, table, i, F(index)(x, 0, last) - i + 1);
}

/* Unmaps first..last below one table. Not dry: where it cuts, pages are reserved. */
static void F(unmap_table)(struct sn_edit *x, unsigned level, void *table, uint64_t first,
                           uint64_t last)
{
	uint64_t slot_mask = sn_mask(F(shift)(x->pt, x->half, level)), end;

	if (level == 0) {
		F(unmap_leaves)(x, table, first, last);
		return;
	}
	if (x->whole)
		F(widen)(x, level, table, &first, &last);
	else
		F(detach)(x, level, table, first, last);
	for (uint64_t in = first;; in = end + 1) {
		struct sn_slot s = {.table = table, .level = level, .first = in & ~slot_mask};
		bool covered = in == s.first && (in | slot_mask) <= last;
		uint64_t witness;
		struct sn_entry e;

		end = (in | slot_mask) < last ? in | slot_mask : last;
		s.index = F(index)(x, level, in);
		s.raw = F(get)(x->pt, table, s.index);
		if (s.raw) {
			e = F(decode)(x->pt, x->half, level, s.raw);
			if (e.kind == SN_ENTRY_LEAF && covered) {
				F(clear)(x, level, table, s.index, 1);
			} else if (e.kind == SN_ENTRY_LEAF) {
				F(lower)(x, &s, in, end, NULL);
				x->bytes += end - in + 1;
			} else {
				void *child = F(child)(x, &e);

				if (!covered)
					F(unmap_table)(x, level - 1, child, in, end);
				witness = F(index)(x, level - 1, end);
				if (covered || F(unused)(x, level - 1, child, &witness)) {
					F(put)(x->pt, table, s.index, 0);
					F(count)(x, level, table, 0 - (uint64_t)1);
					if (covered)
						F(retire_tree)(x, level - 1, child);
					else
						sn_table_retire(x->t, x->half, child, false);
				}
			}
		}
		if (end == last)
			return;
	}
}

/* Dry: counts the pages that cutting the leaf at `in` along first..last needs. */
static void F(count_cut)(struct sn_edit *x, uint64_t in, uint64_t first, uint64_t last,
                         const struct sn_slot *not_this, struct sn_slot *s)
{
	uint64_t slot_last;

	*s = F(find)(x, in);
	if (!s->raw || (not_this && not_this->first == s->first && not_this->level == s->level))
		return;
	slot_last = s->first | sn_mask(F(shift)(x->pt, x->half, s->level));
	if (s->first < first || slot_last > last)
		F(lower)(x, s, first, last, NULL);
}

/* Removes the tables on the way to `in` that became empty. */
static void F(prune)(struct sn_edit *x, unsigned level, void *table, uint64_t in)
{
	uint64_t i = F(index)(x, level, in), raw = F(get)(x->pt, table, i);
	struct sn_entry e = F(decode)(x->pt, x->half, level, raw);
	uint64_t witness = 0;
	void *child;

	if (e.kind != SN_ENTRY_TABLE)
		return;
	child = F(child)(x, &e);
	if (level > 1)
		F(prune)(x, level - 1, child, in);
	if (F(unused)(x, level - 1, child, &witness)) {
		F(put)(x->pt, table, i, 0);
		F(count)(x, level, table, 0 - (uint64_t)1);
		sn_table_retire(x->t, x->half, child, false);
	}
}

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
		                   addr + ((k << shift) & ~sn_mask(lg2)), x->piece.rights,
		                   x->piece.attr, &raw);
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
		uint64_t addr = x->piece.addr + (in - x->piece.first), n;
		unsigned lg2 = F(pick)(x, level, x->piece.sizes, in, last, addr, &n);
		struct sn_slot s = {.table = table, .level = level};
		struct sn_entry e;
		int ret;

		s.index = F(index)(x, level, in);
		if (lg2) {
			uint64_t slots = n << (lg2 - shift);

			end = in + (n << lg2) - 1;
			if (x->dry) {
				if (F(make_leaf)(x->pt, x->half, level, lg2, addr, x->piece.rights,
				                 x->piece.attr, &s.raw))
					return -EINVAL;
				if (!x->replace && F(any)(table, s.index, slots))
					return -EEXIST;
			} else if (x->replace) {
				F(overwrite)(x, level, table, in, lg2, n, addr);
			} else {
				F(put_leaves)(x, level, table, &x->piece, in, lg2, n);
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
				F(lower)(x, &s, in, end, &x->piece);
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

/* Whether leaves of the piece can be made at all: first and last of the smallest size. */
static bool F(makes)(const struct sn_edit *x)
{
	const struct sn_piece *p = &x->piece;
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

/* Whether first..last is in the leaf table used last, and needs no other. */
static inline bool F(at_hand)(const struct snest_table *t, uint64_t first, uint64_t last)
{
	return first >= t->leaf_first && last <= t->leaf_last && first <= last &&
	       (first != t->leaf_first || last != t->leaf_last);
}

/*
 * Maps a piece in the leaf table used last. Of the edit, only what entries and
 * leaves need is filled, and the piece is not copied: this is the way of every
 * small mapping.
 */
static inline int F(map_at_hand)(struct snest_table *t, const struct sn_piece *p, uint64_t sizes)
{
	struct sn_edit x;
	unsigned shift, lg2 = (unsigned)__builtin_ctzll(sizes);
	uint64_t n, i, raw, bytes = p->last - p->first;

	x.t = t;
	x.pt = &t->pt;
	x.half = t->leaf_half;
	shift = F(shift)(x.pt, x.half, 0);
	n = (bytes >> shift) + 1;
	i = F(index)(&x, 0, p->first);
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
	const struct sn_piece *p = &x->piece;
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
	struct sn_edit x = {.t = t, .pt = &t->pt, .replace = replace, .piece = *piece};
	unsigned width, top;
	struct sn_slot s;
	uint64_t small;
	int ret;

	if (!F(locate)(&x, piece->first, piece->last))
		return -EINVAL;
	x.piece.sizes &= t->sizes[x.half];
	if (!F(makes)(&x))
		return -EINVAL;
	width = F(shift)(x.pt, x.half, 0) + F(index_bits)(x.pt, x.half, 0);
	small = x.piece.sizes & F(leaf_sizes)(x.pt, x.half, 0);
	if (!replace && small && !((piece->first ^ piece->last) & ~sn_mask(width)) &&
	    piece->last - piece->first < sn_mask(width))
		return F(map_near)(&x, small);
	top = x.pt->top[x.half];
	x.dry = true;
	ret = F(map_table)(&x, top, t->root[x.half], piece->first, piece->last);
	if (!ret)
		ret = sn_table_reserve(t, x.half, x.need);
	if (ret)
		return ret;
	x.dry = false;
	(void)F(map_table)(&x, top, t->root[x.half], piece->first, piece->last);
	sn_table_settle(t);
	s = F(find)(&x, piece->last);
	if (s.level == 0)
		F(keep)(&x, s.table, piece->last);
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

/* ---- Unmapping -------------------------------------------------------------- */

static int F(unmap_anywhere)(struct snest_table *t, uint64_t first, uint64_t last, bool whole,
                             uint64_t *bytes)
{
	struct sn_edit x = {.t = t, .pt = &t->pt, .whole = whole};
	int ret;

	if (!F(locate)(&x, first, last) || F(misaligned)(&x, first, last))
		return -EINVAL;
	if (!whole) {
		struct sn_slot a, b;

		x.dry = true;
		F(count_cut)(&x, first, first, last, NULL, &a);
		F(count_cut)(&x, last, first, last, &a, &b);
		ret = sn_table_reserve(t, x.half, x.need);
		if (ret)
			return ret;
		x.dry = false;
	}
	F(unmap_table)(&x, x.pt->top[x.half], t->root[x.half], first, last);
	sn_table_settle(t);
	*bytes = x.bytes;
	return 0;
}

/* The leaf table used last has become empty: removes it. */
static void F(drop_leaf)(struct snest_table *t, uint64_t in)
{
	struct sn_edit x = {.t = t, .pt = &t->pt, .half = t->leaf_half};

	F(prune)(&x, x.pt->top[x.half], t->root[x.half], in);
	sn_table_settle(t);
}

/* Unmaps in the leaf table used last. Cutting needs no pages there. */
static inline int F(unmap_at_hand)(struct snest_table *t, uint64_t first, uint64_t last, bool whole,
                                   uint64_t *bytes)
{
	struct sn_edit x;

	x.t = t;
	x.pt = &t->pt;
	x.half = t->leaf_half;
	x.whole = whole;
	x.bytes = 0;
	if (F(misaligned)(&x, first, last))
		return -EINVAL;
	F(unmap_leaves)(&x, t->leaf, first, last);
	*bytes = x.bytes;
	if (x.pt->top[x.half] && F(unused)(&x, 0, t->leaf, &t->leaf_witness))
		F(drop_leaf)(t, last);
	return 0;
}

static int F(unmap)(struct snest_table *t, uint64_t first, uint64_t last, bool whole,
                    uint64_t *bytes)
{
	return F(at_hand)(t, first, last) ? F(unmap_at_hand)(t, first, last, whole, bytes)
	                                  : F(unmap_anywhere)(t, first, last, whole, bytes);
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
