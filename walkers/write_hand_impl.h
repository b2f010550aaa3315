/* SPDX-License-Identifier: MIT */
/*
 * The writer's table at hand, compiled once per format: the table in which the
 * last change was, and changes that stay inside it. Included by write_impl.h,
 * which says the words.
 *
 * Most changes are like the one before: the same rights, the same size, the
 * same table. So the table is remembered with all that follows from its place
 * (struct sn_hand), and the last leaf with what it was asked for: the next leaf
 * differs in the address alone. A change that is no such thing is left to the
 * functions that look for its place and decide anew.
 *
 * Whether a table that is remembered still says the truth needs no check: it
 * is forgotten when a table goes (sn_table_retire), and its entries are looked
 * at each time.
 */

/* The bits of a leaf that hold an address, if sn_hand.beyond has none of it. */
static inline uint64_t F(placed)(uint64_t addr)
{
	return addr << (F(ADDR_UP) > 0 ? F(ADDR_UP) : 0) >> (F(ADDR_UP) < 0 ? -F(ADDR_UP) : 0);
}

/* Takes the table of `level` that translates `in`, an input in x's span, at hand. */
static inline void F(keep)(const struct sn_edit *x, void *table, unsigned level, uint64_t in)
{
	static const uint64_t never_empty = 1;
	unsigned shift = F(shift)(x->pt, x->half, level);
	uint64_t mask = sn_mask(shift + F(index_bits)(x->pt, x->half, level));
	uint64_t first = in & ~mask, last = in | mask;
	bool root = level == x->pt->top[x->half];
	struct sn_hand *h = &x->t->hand;

	if (h->level != level || h->half != x->half)
		sn_hand_no_leaf(h);
	h->flags &= ~SN_HAND_AWAY;
	h->level = (uint8_t)level;
	h->half = (uint8_t)x->half;
	h->shift = (uint8_t)shift;
	h->table = table;
	h->first = first < x->span_first ? x->span_first : first;
	h->span = (last > x->span_last ? x->span_last : last) - h->first;
	h->grain = sn_mask(shift);
	h->entries = (char *)table + (F(index)(x, level, h->first) << F(ENTRY_LG2));
	h->plain = level == 0 && !F(has_groups)(x, 0);
	h->used = x->t->pooled && !root ? &sn_pool_page(table)->used : NULL;
	h->witness = root ? (const char *)&never_empty
	                  : (const char *)table + (F(index)(x, level, in) << F(ENTRY_LG2));
}

/* Whether first..last is a part of the table at hand, and not all of it. */
static inline bool F(at_hand)(const struct snest_table *t, uint64_t first, uint64_t last)
{
	uint64_t in = first - t->hand.first, bytes = last - first;

	return in <= t->hand.span && bytes <= t->hand.span - in && bytes < t->hand.span;
}

/* ---- Mapping --------------------------------------------------------------- */

/* Remembers a leaf like those that map was asked for. */
static inline void F(remember)(struct snest_table *t, const struct sn_piece *p, uint64_t sizes)
{
	struct sn_hand *h = &t->hand;
	uint64_t raw;

	/* Entries of the other byte order are not sums of leaf and address. */
	if ((t->pt.flags & SNEST_STAGE_BIG_ENDIAN) || !(sizes >> h->shift & 1) ||
	    F(make_leaf)(&t->pt, h->half, h->level, h->shift, 0, p->rights, p->attr, &raw))
		return;
	h->leaf = raw;
	h->fixed = ~F(placed)(t->leaf_mask[h->half] & ~h->grain);
	h->beyond = ~t->leaf_mask[h->half] | h->grain;
	h->many = !(sizes & ~sn_mask(h->shift + 1));
	h->asked = sn_asked(p->rights, p->asked_attr);
	h->flags = p->asked_flags;
}

/*
 * Maps a piece in the table at hand with leaves of `sizes`, all of them sizes
 * of its level, the smallest of which makes the piece. 0 or -EEXIST.
 */
static int F(map_at_hand)(struct snest_table *t, const struct sn_piece *p, uint64_t sizes)
{
	struct sn_hand *h = &t->hand;
	struct sn_edit x = {.t = t, .pt = &t->pt, .half = h->half};
	uint64_t n = ((p->last - p->first) >> h->shift) + 1;
	struct sn_piece part = *p;

	if (F(any)(h->table, F(index)(&x, h->level, p->first), n))
		return -EEXIST;
	part.sizes = sizes;
	F(put_piece)(&x, h->level, h->table, &part);
	if (h->used)
		*h->used += (uint16_t)n;
	if (h->asked != sn_asked(p->rights, p->asked_attr) || h->flags != p->asked_flags)
		F(remember)(t, p, sizes);
	return 0;
}

/* Maps several leaves like the one remembered. False: it is not as simple. */
static inline bool F(map_alike)(struct snest_table *t, uint64_t first, uint64_t last, uint64_t addr,
                                int *ret)
{
	const struct sn_hand *h = &t->hand;
	uint64_t in = first - h->first, bytes = last - first, end = addr + (bytes & ~h->grain), i;

	if (!h->many || !F(at_hand)(t, first, last) || ((in | (bytes + 1)) & h->grain) ||
	    ((addr | end) & h->beyond) || end < addr)
		return false;
	i = in >> h->shift;
	bytes = (bytes >> h->shift) + 1;
	*ret = -EEXIST;
	if (F(any)(h->entries, i, bytes))
		return true;
	F(put_native)(h->entries, i, bytes, h->leaf | F(placed)(addr), F(placed)(h->grain + 1));
	if (h->used)
		*h->used += (uint16_t)bytes;
	*ret = 0;
	return true;
}

/* ---- Unmapping ------------------------------------------------------------- */

/* Whether an entry of the table at hand, as it lies there, is a leaf of its slot alone. */
static inline bool F(one_slot)(const struct snest_table *t, uint64_t raw)
{
	const struct sn_hand *h = &t->hand;
	struct sn_entry e;

	if (h->plain || !((raw ^ h->leaf) & h->fixed))
		return raw;
	if (t->pt.flags & SNEST_STAGE_BIG_ENDIAN)
		raw = sn_entry_swap(raw, F(ENTRY_LG2));
	e = F(decode)(&t->pt, h->half, h->level, raw);
	return e.kind == SN_ENTRY_LEAF && e.lg2 == h->shift;
}

/* Entries of the table at hand were cleared, and perhaps it is empty: then it goes. */
static void F(emptied)(struct snest_table *t, uint64_t in)
{
	struct sn_hand *h = &t->hand;
	struct sn_edit x = {.t = t, .pt = &t->pt, .half = h->half};

	if (!h->used) {
		uint64_t i = (uint64_t)(h->witness - (char *)h->table) >> F(ENTRY_LG2);

		if (!F(unused)(&x, h->level, h->table, &i)) {
			h->witness = (char *)h->table + (i << F(ENTRY_LG2));
			return;
		}
	}
	F(prune)(&x, x.pt->top[x.half], t->root[x.half], in, h->level);
	sn_table_settle(t);
}

/* Whether the table at hand is still in use, as far as one look tells. */
static inline bool F(still_used)(const struct sn_hand *h)
{
	return h->used ? *h->used != 0 : F(peek)(h->witness) != 0;
}

/* Unmaps a part of the table at hand. False: it is not as simple. */
static bool F(unmap_at_hand)(struct snest_table *t, uint64_t first, uint64_t last, bool whole,
                             uint64_t *bytes)
{
	const struct sn_hand *h = &t->hand;
	struct sn_edit x = {.t = t, .pt = &t->pt, .half = h->half, .whole = whole};

	if ((first | (last + 1)) & h->grain)
		return false;
	if (h->level) {
		uint64_t i = F(index)(&x, h->level, first), to = F(index)(&x, h->level, last);

		if (!(F(differ)(h->table, i, to - i + 1, h->leaf) & h->fixed))
			i = to + 1;
		for (; i <= to; i++) {
			uint64_t raw = F(get)(x.pt, h->table, i);

			if (raw && F(decode)(x.pt, x.half, h->level, raw).kind == SN_ENTRY_TABLE)
				return false;
		}
	}
	F(unmap_leaves)(&x, h->level, h->table, first, last);
	if (bytes)
		*bytes = x.bytes;
	if (!F(still_used)(h))
		F(emptied)(t, first);
	return true;
}
