/* SPDX-License-Identifier: MIT */
/*
 * The writer's changes of shape, compiled once per format: cutting leaves and
 * merging them. No translation changes. Included by write_impl.h.
 */

static int F(cut)(struct snest_table *t, uint64_t at)
{
	struct sn_edit x = {.t = t, .pt = &t->pt};
	struct sn_piece group, part;
	struct sn_slot s;
	struct sn_entry e;
	int ret;

	if (!F(locate)(&x, at, at) || F(misaligned)(&x, at, UINT64_MAX))
		return -EINVAL;
	s = F(find)(&x, at, 0);
	e = F(decode)(x.pt, x.half, s.level, s.raw);
	if (e.kind != SN_ENTRY_LEAF || !(at & sn_mask(e.lg2)))
		return 0;
	if (at == s.first) {
		group = F(piece_of)(&x, s.level, s.first, s.raw);
		group.first = at & ~sn_mask(e.lg2);
		group.last = at | sn_mask(e.lg2);
		group.addr = e.addr;
		part = F(part)(&group, group.first, at - 1);
		F(put_piece)(&x, s.level, s.table, &part);
		part = F(part)(&group, at, group.last);
		F(put_piece)(&x, s.level, s.table, &part);
		return 0;
	}
	x.dry = true;
	F(lower)(&x, &s, at, at - 1, NULL);
	ret = sn_table_reserve(t, x.half, x.need);
	if (ret)
		return ret;
	x.dry = false;
	F(detach)(&x, s.level, s.table, at, at);
	F(lower)(&x, &s, at, at - 1, NULL);
	return 0;
}

/*
 * The longest run of leaves in entries i..i_last that one leaf might replace:
 * contiguous, with the same rights and attributes. Returns its number of
 * entries, 0 if entry i is no leaf. If it is more than one leaf, run->rights
 * becomes other than 0 and *run is filled.
 */
static uint64_t F(uniform)(const struct sn_edit *x, unsigned level, const void *table,
                           uint64_t slot, uint64_t i, uint64_t i_last, struct sn_piece *run)
{
	unsigned shift = F(shift)(x->pt, x->half, level);
	uint64_t first = F(get)(x->pt, table, i), n, copies;
	struct sn_entry e = F(decode)(x->pt, x->half, level, first), next;
	uint64_t addr = e.addr;

	if (e.kind != SN_ENTRY_LEAF)
		return 0;
	run->rights = 0;
	for (n = (uint64_t)1 << (e.lg2 - shift); i + n <= i_last; n += copies) {
		uint64_t raw = F(get)(x->pt, table, i + n), made;

		next = F(decode)(x->pt, x->half, level, raw);
		if (next.kind != SN_ENTRY_LEAF || next.addr != addr + (n << shift))
			break;
		copies = (uint64_t)1 << (next.lg2 - shift);
		if (copies > i_last - (i + n) + 1)
			break;
		if (!run->rights)
			*run = F(piece_of)(x, level, slot, first);
		if (F(make_leaf)(x->pt, x->half, level, next.lg2, next.addr, run->rights, run->attr,
		                 &made) ||
		    F(stable)(x->pt, made) != F(stable)(x->pt, raw))
			break;
	}
	if (run->rights) {
		run->last = slot + (n << shift) - 1;
		run->attr = F(unsure)(x->pt, run->rights, run->attr);
	}
	return n;
}

/* Stores a run of leaves of one table as the largest leaves that fit. */
static void F(regroup)(const struct sn_edit *x, unsigned level, void *table,
                       const struct sn_piece *run)
{
	for (uint64_t in = run->first, end, many;; in = end + 1) {
		uint64_t i = F(index)(x, level, in), addr = run->addr + (in - run->first);
		unsigned lg2 = F(pick)(x, level, run->sizes, in, run->last, addr, &many);
		struct sn_entry e = F(decode)(x->pt, x->half, level, F(get)(x->pt, table, i));

		if (lg2 > e.lg2)
			F(put_leaves)(x, level, table, run, in, lg2, 1);
		end = in + sn_mask(lg2 > e.lg2 ? lg2 : e.lg2);
		if (end >= run->last)
			return;
	}
}

/* Makes the largest groups of the leaves in entries i..i_last; `slot` is the input of entry i. */
static void F(merge_groups)(const struct sn_edit *x, unsigned level, void *table, uint64_t slot,
                            uint64_t i, uint64_t i_last)
{
	unsigned shift = F(shift)(x->pt, x->half, level);
	uint64_t n;

	for (; i <= i_last; i += n, slot += n << shift) {
		struct sn_entry e = F(decode)(x->pt, x->half, level, F(get)(x->pt, table, i));
		struct sn_piece run = {.rights = 0};
		uint64_t copies, skip;

		n = 1;
		if (e.kind != SN_ENTRY_LEAF)
			continue;
		copies = (uint64_t)1 << (e.lg2 - shift);
		skip = i & (copies - 1);
		n = copies - skip;
		if (skip || n > i_last - i + 1)
			continue;
		n = F(uniform)(x, level, table, slot, i, i_last, &run);
		if (run.rights)
			F(regroup)(x, level, table, &run);
	}
}

/*
 * If a table of `level`, merged itself, maps what one leaf in its place would
 * map, fills *run. A level without leaves is looked through.
 */
static bool F(is_one)(const struct sn_edit *x, unsigned level, const void *table, uint64_t slot,
                      struct sn_piece *run)
{
	unsigned shift = F(shift)(x->pt, x->half, level);
	uint64_t n = F(entries)(x, level);

	if (F(leaf_sizes)(x->pt, x->half, level)) {
		if (F(uniform)(x, level, table, slot, 0, n - 1, run) != n || !run->rights)
			return false;
	} else {
		for (uint64_t i = 0; i < n; i++) {
			uint64_t raw = F(get)(x->pt, table, i);
			struct sn_entry e = F(decode)(x->pt, x->half, level, raw);
			struct sn_piece p;

			if (e.kind != SN_ENTRY_TABLE ||
			    !F(is_one)(x, level - 1, F(child)(x, &e), slot + (i << shift), &p))
				return false;
			if (i == 0)
				*run = p;
			else if (p.addr != run->addr + (i << shift) || p.rights != run->rights ||
			         p.attr != run->attr)
				return false;
		}
		run->last = slot + (n << shift) - 1;
	}
	return !(run->addr & sn_mask(F(shift)(x->pt, x->half, level + 1)));
}

static void F(merge_table)(struct sn_edit *x, unsigned level, void *table, uint64_t first,
                           uint64_t last)
{
	unsigned shift = F(shift)(x->pt, x->half, level);
	uint64_t here = F(leaf_sizes)(x->pt, x->half, level), slot_mask = sn_mask(shift), end;
	uint64_t i = F(index)(x, level, first), i_last = F(index)(x, level, last);

	for (uint64_t in = first; level; in = end + 1) {
		uint64_t k = F(index)(x, level, in), raw = F(get)(x->pt, table, k);
		struct sn_entry e = F(decode)(x->pt, x->half, level, raw);
		struct sn_piece run;
		bool covered = !(in & slot_mask) && (in | slot_mask) <= last;

		end = (in | slot_mask) < last ? in | slot_mask : last;
		if (e.kind == SN_ENTRY_TABLE) {
			void *child = F(child)(x, &e);

			F(merge_table)(x, level - 1, child, in, end);
			if (covered && (here >> shift & 1) &&
			    F(is_one)(x, level - 1, child, in, &run) &&
			    !F(make_leaf)(x->pt, x->half, level, shift, run.addr, run.rights,
			                  run.attr, &raw)) {
				F(put)(x->pt, table, k, raw);
				F(retire_tree)(x, level - 1, child);
			}
		}
		if (end == last)
			break;
	}
	if (!F(has_groups)(x, level))
		return;
	if (first & slot_mask) {
		i++;
		first = (first | slot_mask) + 1;
	}
	if (~last & slot_mask) {
		if (!i_last)
			return;
		i_last--;
	}
	F(merge_groups)(x, level, table, first, i, i_last);
}

static int F(merge)(struct snest_table *t, uint64_t first, uint64_t last)
{
	struct sn_edit x = {.t = t, .pt = &t->pt};

	if (!F(locate)(&x, first, last) || F(misaligned)(&x, first, last))
		return -EINVAL;
	F(merge_table)(&x, x.pt->top[x.half], t->root[x.half], first, last);
	sn_table_settle(t);
	return 0;
}
