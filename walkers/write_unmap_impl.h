/* SPDX-License-Identifier: MIT */
/*
 * The writer's removals, compiled once per format: unlinking tables, unmapping,
 * and parts of groups. Included by write_impl.h, which says the words.
 */

/* Whether a table of `level` can hold leaves larger than its slots. */
static inline bool F(has_groups)(const struct sn_edit *x, unsigned level)
{
	return F(leaf_sizes)(x->pt, x->half, level) & ~sn_mask(F(shift)(x->pt, x->half, level) + 1);
}

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

	if (!F(has_groups)(x, level))
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

/* Unmaps first..last, whole slots of a table, in none of which is a table. */
static inline void F(unmap_leaves)(struct sn_edit *x, unsigned level, void *table, uint64_t first,
                                   uint64_t last)
{
	uint64_t i;

	if (F(has_groups)(x, level)) {
		if (x->whole)
			F(widen)(x, level, table, &first, &last);
		else
			F(detach)(x, level, table, first, last);
	}
	i = F(index)(x, level, first);
	F(clear)(x, level, table, i, F(index)(x, level, last) - i + 1);
}

/* Unmaps first..last below one table. Not dry: where it cuts, pages are reserved. */
static void F(unmap_table)(struct sn_edit *x, unsigned level, void *table, uint64_t first,
                           uint64_t last)
{
	uint64_t slot_mask = sn_mask(F(shift)(x->pt, x->half, level)), end;

	if (level == 0) {
		F(unmap_leaves)(x, 0, table, first, last);
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

	*s = F(find)(x, in, 0);
	if (!s->raw || (not_this && not_this->first == s->first && not_this->level == s->level))
		return;
	slot_last = s->first | sn_mask(F(shift)(x->pt, x->half, s->level));
	if (s->first < first || slot_last > last)
		F(lower)(x, s, first, last, NULL);
}

/* Removes the tables on the way to `in` that became empty, as that of level `empty` has. */
static void F(prune)(struct sn_edit *x, unsigned level, void *table, uint64_t in, unsigned empty)
{
	uint64_t i = F(index)(x, level, in), raw = F(get)(x->pt, table, i);
	struct sn_entry e = F(decode)(x->pt, x->half, level, raw);
	uint64_t witness = 0;
	void *child;

	if (e.kind != SN_ENTRY_TABLE)
		return;
	child = F(child)(x, &e);
	if (level - 1 > empty)
		F(prune)(x, level - 1, child, in, empty);
	if (level - 1 == empty || F(unused)(x, level - 1, child, &witness)) {
		F(put)(x->pt, table, i, 0);
		F(count)(x, level, table, 0 - (uint64_t)1);
		sn_table_retire(x->t, x->half, child, false);
	}
}

/* Unmaps first..last, wherever that is. x is that of a located range. */
static int F(unmap_anywhere)(struct sn_edit *x, uint64_t first, uint64_t last, uint64_t *bytes)
{
	int ret;

	if (!x->whole) {
		struct sn_slot a, b;

		x->dry = true;
		F(count_cut)(x, first, first, last, NULL, &a);
		F(count_cut)(x, last, first, last, &a, &b);
		ret = sn_table_reserve(x->t, x->half, x->need);
		if (ret)
			return ret;
		x->dry = false;
	}
	F(unmap_table)(x, x->pt->top[x->half], x->t->root[x->half], first, last);
	sn_table_settle(x->t);
	if (bytes)
		*bytes = x->bytes;
	return 0;
}
