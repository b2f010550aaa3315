/* SPDX-License-Identifier: MIT */
/*
 * The writer's lower half, compiled once per format: entries, leaves, and new
 * tables filled with leaves. Included by write_impl.h, which says the words.
 */

/* ---- Entries ------------------------------------------------------------ */

static inline uint64_t F(get)(const struct sn_pt *pt, const void *table, uint64_t i)
{
	uint64_t raw = sn_entry_load((const char *)table + (i << F(ENTRY_LG2)), F(ENTRY_LG2));

	return pt->flags & SNEST_STAGE_BIG_ENDIAN ? sn_entry_swap(raw, F(ENTRY_LG2)) : raw;
}

static inline void F(store)(void *entry, uint64_t raw)
{
	if (F(ENTRY_LG2) == 3)
		__atomic_store_n((uint64_t *)entry, raw, __ATOMIC_RELEASE);
	else
		__atomic_store_n((uint32_t *)entry, (uint32_t)raw, __ATOMIC_RELEASE);
}

/* n little-endian entries from i on; each is `step` more than the one before. */
static inline void F(put_native)(void *table, uint64_t i, uint64_t n, uint64_t raw, uint64_t step)
{
	const size_t size = 1u << F(ENTRY_LG2);
	char *entry = (char *)table + i * size;

	for (; n >= 4; n -= 4, entry += 4 * size, raw += 4 * step) {
		F(store)(entry, raw);
		F(store)(entry + size, raw + step);
		F(store)(entry + 2 * size, raw + 2 * step);
		F(store)(entry + 3 * size, raw + 3 * step);
	}
	for (; n; n--, entry += size, raw += step)
		F(store)(entry, raw);
}

/* n entries from i on; each is `step` more than the one before. */
static inline void F(put_run)(const struct sn_pt *pt, void *table, uint64_t i, uint64_t n,
                              uint64_t raw, uint64_t step)
{
	char *entry = (char *)table + (i << F(ENTRY_LG2));

	if (pt->flags & SNEST_STAGE_BIG_ENDIAN) {
		for (; n; n--, entry += 1u << F(ENTRY_LG2), raw += step)
			F(store)(entry, sn_entry_swap(raw, F(ENTRY_LG2)));
	} else {
		F(put_native)(table, i, n, raw, step);
	}
}

static inline void F(put)(const struct sn_pt *pt, void *table, uint64_t i, uint64_t raw)
{
	F(put_run)(pt, table, i, 1, raw, 0);
}

/* Compare-and-swap of an entry that hardware may flag. */
static inline bool F(replace_entry)(void *entry, bool swap, uint64_t raw, uint64_t want)
{
	if (swap) {
		raw = sn_entry_swap(raw, F(ENTRY_LG2));
		want = sn_entry_swap(want, F(ENTRY_LG2));
	}
	if (F(ENTRY_LG2) == 3)
		return __atomic_compare_exchange_n((uint64_t *)entry, &raw, want, false,
		                                   __ATOMIC_RELEASE, __ATOMIC_RELAXED);

	uint32_t raw32 = (uint32_t)raw;

	return __atomic_compare_exchange_n((uint32_t *)entry, &raw32, (uint32_t)want, false,
	                                   __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

/* Stores an entry and returns what was there, with what hardware set last. */
static inline uint64_t F(exchange)(const struct sn_pt *pt, void *table, uint64_t i, uint64_t raw)
{
	uint64_t before;

	do {
		before = F(get)(pt, table, i);
	} while (!F(replace_entry)((char *)table + (i << F(ENTRY_LG2)),
	                           pt->flags & SNEST_STAGE_BIG_ENDIAN, before, raw));
	return before;
}

static inline uint64_t F(peek)(const char *entry)
{
	return F(ENTRY_LG2) == 3 ? __atomic_load_n((const uint64_t *)entry, __ATOMIC_RELAXED)
	                         : __atomic_load_n((const uint32_t *)entry, __ATOMIC_RELAXED);
}

/*
 * The bits in which any of n entries differs from `like`. Relaxed: only the
 * caller's thread makes entries used.
 */
static inline uint64_t F(differ)(const void *table, uint64_t i, uint64_t n, uint64_t like)
{
	const size_t step = 1u << F(ENTRY_LG2);
	const char *entry = (const char *)table + i * step;
	uint64_t even = 0, odd = 0;

	for (; n >= 4; n -= 4, entry += 4 * step) {
		even |= (F(peek)(entry) ^ like) | (F(peek)(entry + 2 * step) ^ like);
		odd |= (F(peek)(entry + step) ^ like) | (F(peek)(entry + 3 * step) ^ like);
	}
	for (; n; n--, entry += step)
		even |= F(peek)(entry) ^ like;
	return even | odd;
}

/* Whether any of n entries is used. */
static inline bool F(any)(const void *table, uint64_t i, uint64_t n)
{
	return F(differ)(table, i, n, 0);
}

/* Clears n entries; returns how many were used. */
static inline uint64_t F(wipe)(void *table, uint64_t i, uint64_t n)
{
	const size_t step = 1u << F(ENTRY_LG2);
	char *entry = (char *)table + i * step;
	uint64_t used = 0;

	for (; n >= 4; n -= 4, entry += 4 * step) {
		used += F(peek)(entry) != 0;
		F(store)(entry, 0);
		used += F(peek)(entry + step) != 0;
		F(store)(entry + step, 0);
		used += F(peek)(entry + 2 * step) != 0;
		F(store)(entry + 2 * step, 0);
		used += F(peek)(entry + 3 * step) != 0;
		F(store)(entry + 3 * step, 0);
	}
	for (; n; n--, entry += step) {
		used += F(peek)(entry) != 0;
		F(store)(entry, 0);
	}
	return used;
}

static inline uint64_t F(entries)(const struct sn_edit *x, unsigned level)
{
	return (uint64_t)1 << F(index_bits)(x->pt, x->half, level);
}

static inline uint64_t F(index)(const struct sn_edit *x, unsigned level, uint64_t in)
{
	return in >> F(shift)(x->pt, x->half, level) & (F(entries)(x, level) - 1);
}

/* Last input of the table of `level` that translates `in`. */
static inline uint64_t F(table_last)(const struct sn_edit *x, unsigned level, uint64_t in)
{
	return in | sn_mask(F(shift)(x->pt, x->half, level) + F(index_bits)(x->pt, x->half, level));
}

/* Counts entries that became used, or unused. Roots are never freed, so nobody counts theirs. */
static inline void F(count)(const struct sn_edit *x, unsigned level, void *table, uint64_t n)
{
	if (x->t->pooled && level != x->pt->top[x->half])
		sn_pool_page(table)->used += (uint16_t)n;
}

/*
 * Whether a table has no used entry. *witness is an entry that may be used, and
 * becomes one that is: only a caller's tables are not counted, and are searched.
 */
static inline bool F(unused)(const struct sn_edit *x, unsigned level, const void *table,
                             uint64_t *witness)
{
	uint64_t n = F(entries)(x, level);

	if (x->t->pooled)
		return sn_pool_page(table)->used == 0;
	/* From there outwards, to both sides: what is used is rarely far from its like. */
	for (uint64_t k = 0; k < n; k++) {
		uint64_t i = (k & 1 ? *witness + (k + 1) / 2 : *witness - k / 2) & (n - 1);

		if (F(get)(x->pt, table, i)) {
			*witness = i;
			return false;
		}
	}
	return true;
}

static inline void *F(child)(const struct sn_edit *x, const struct sn_entry *e)
{
	return sn_table_ptr(x->t, e->addr);
}

static inline uint64_t F(link)(const struct sn_edit *x, unsigned level, const void *child)
{
	return F(make_table)(x->pt, x->half, level, level - 1, sn_table_addr(x->t, child));
}

/* The deepest entry on the way to `in`, down to level `lowest`. */
static inline struct sn_slot F(find)(const struct sn_edit *x, uint64_t in, unsigned lowest)
{
	struct sn_slot s = {.table = x->t->root[x->half], .level = x->pt->top[x->half]};

	for (;;) {
		struct sn_entry e;

		s.index = F(index)(x, s.level, in);
		s.raw = F(get)(x->pt, s.table, s.index);
		s.first = in & ~sn_mask(F(shift)(x->pt, x->half, s.level));
		if (!s.raw || s.level == lowest)
			return s;
		e = F(decode)(x->pt, x->half, s.level, s.raw);
		if (e.kind == SN_ENTRY_LEAF)
			return s;
		s.table = F(child)(x, &e);
		s.level--;
	}
}

/* ---- Leaves --------------------------------------------------------------- */

/*
 * The largest leaf that a table of `level` can hold at `in`, and how many of
 * them follow each other before a larger one fits or `last` comes. 0: none.
 */
static inline unsigned F(pick)(const struct sn_edit *x, unsigned level, uint64_t sizes, uint64_t in,
                               uint64_t last, uint64_t addr, uint64_t *n)
{
	uint64_t here = F(leaf_sizes)(x->pt, x->half, level) & sizes, fit, larger, rest;
	unsigned aligned = in | addr ? (unsigned)__builtin_ctzll(in | addr) : 63, lg2;

	rest = last - in;
	fit = rest == UINT64_MAX ? 63 : 63 - (unsigned)__builtin_clzll(rest + 1);
	fit = here & sn_mask((fit < aligned ? (unsigned)fit : aligned) + 1);
	if (!fit)
		return 0;
	lg2 = 63 - (unsigned)__builtin_clzll(fit);
	larger = here & ~sn_mask(lg2 + 1);
	if (larger) {
		uint64_t next = sn_mask((unsigned)__builtin_ctzll(larger));

		if (((in ^ addr) & next) == 0 && (in | next) < last)
			rest = (in | next) - in;
	}
	*n = (rest >> lg2) + ((rest & sn_mask(lg2)) == sn_mask(lg2));
	return lg2;
}

/* Stores n leaves of a piece, of 2^lg2 bytes, from `in` on. They were checked: make_leaf succeeds. */
static inline void F(put_leaves)(const struct sn_edit *x, unsigned level, void *table,
                                 const struct sn_piece *p, uint64_t in, unsigned lg2, uint64_t n)
{
	uint64_t i = F(index)(x, level, in), raw = 0, next = 0, end = 0;
	uint64_t copies = (uint64_t)1 << (lg2 - F(shift)(x->pt, x->half, level));
	uint64_t addr = p->addr + (in - p->first);
	uint32_t rights = p->rights, attr = p->attr;

	(void)F(make_leaf)(x->pt, x->half, level, lg2, addr, rights, attr, &raw);
	if (n == 1) {
		F(put_run)(x->pt, table, i, copies, raw, 0);
		return;
	}
	(void)F(make_leaf)(x->pt, x->half, level, lg2, addr + ((n - 1) << lg2), rights, attr, &end);
	(void)F(make_leaf)(x->pt, x->half, level, lg2, addr + ((uint64_t)1 << lg2), rights, attr,
	                   &next);
	/* Formats that scatter the address's bits are linear unless a carry leaves the lower field. */
	if (copies == 1 && raw + (next - raw) * (n - 1) == end) {
		F(put_run)(x->pt, table, i, n, raw, next - raw);
		return;
	}
	for (; n; n--, i += copies, addr += (uint64_t)1 << lg2) {
		(void)F(make_leaf)(x->pt, x->half, level, lg2, addr, rights, attr, &raw);
		F(put_run)(x->pt, table, i, copies, raw, 0);
	}
}

/* An entry without what hardware may change in it at any time. */
static inline uint64_t F(stable)(const struct sn_pt *pt, uint64_t raw)
{
	return F(touch_mode)(pt) == SN_TOUCH_UPDATE ? F(touch)(pt, raw, true, true) : raw;
}

/* Attributes of a leaf as make_leaf takes them. */
static inline uint32_t F(plain_attr)(const struct sn_pt *pt, unsigned level, uint64_t raw)
{
	return F(attr)(pt, level, raw) & ~(SNEST_ATTR_CONTIGUOUS | SNEST_ATTR_DIRTIABLE);
}

/* Flags of leaves made from others while hardware may have set flags in them unseen. */
static inline uint32_t F(unsure)(const struct sn_pt *pt, uint32_t rights, uint32_t attr)
{
	if (F(touch_mode)(pt) != SN_TOUCH_UPDATE)
		return attr;
	return attr | SNEST_ATTR_ACCESSED |
	       ((pt->flags & SNEST_STAGE_HW_D) && (rights & SNEST_WRITE) ? SNEST_ATTR_DIRTY : 0);
}

/*
 * The piece that a slot's leaf maps, so that other leaves can be made from it:
 * the rights are those that make the entry again. Every leaf was made by
 * make_leaf, so they exist; what somebody else wrote becomes read-only.
 */
static struct sn_piece F(piece_of)(const struct sn_edit *x, unsigned level, uint64_t slot,
                                   uint64_t raw)
{
	struct sn_entry e = F(decode)(x->pt, x->half, level, raw);
	struct sn_piece p = {
		.first = slot,
		.last = slot | sn_mask(F(shift)(x->pt, x->half, level)),
		.addr = e.addr + (slot & sn_mask(e.lg2)),
		.sizes = x->t->sizes[x->half],
		.rights = SNEST_READ,
		.attr = F(plain_attr)(x->pt, level, raw),
	};

	for (uint32_t rights = 1; rights <= SNEST_RIGHTS; rights++) {
		uint64_t again;

		if (!F(make_leaf)(x->pt, x->half, level, e.lg2, e.addr, rights, p.attr, &again) &&
		    F(stable)(x->pt, again) == F(stable)(x->pt, raw)) {
			p.rights = rights;
			break;
		}
	}
	if (e.lg2 > F(shift)(x->pt, x->half, level))
		p.attr = F(unsure)(x->pt, p.rights, p.attr);
	return p;
}

/* The part first..last of a piece; empty (first > last) if they do not meet. */
static inline struct sn_piece F(part)(const struct sn_piece *piece, uint64_t first, uint64_t last)
{
	struct sn_piece p = *piece;

	if (p.first < first) {
		p.addr += first - p.first;
		p.first = first;
	}
	if (p.last > last)
		p.last = last;
	return p;
}

/* Stores leaves of one table for a piece that lies in it and fits its level. */
static void F(put_piece)(const struct sn_edit *x, unsigned level, void *table,
                         const struct sn_piece *p)
{
	for (uint64_t in = p->first, n;;) {
		uint64_t addr = p->addr + (in - p->first), end;
		unsigned lg2 = F(pick)(x, level, p->sizes, in, p->last, addr, &n);

		if (!lg2)
			return;
		F(put_leaves)(x, level, table, p, in, lg2, n);
		end = in + (n << lg2) - 1;
		if (end >= p->last)
			return;
		in = end + 1;
	}
}

/*
 * Gives the leaves of first..last, made from one leaf that hardware then
 * flagged once more, that flag. Hardware may be at them too, hence the swap;
 * it only ever sets two flags, so each loop is short.
 */
static void F(spread)(const struct sn_edit *x, unsigned level, void *table, uint64_t first,
                      uint64_t last, bool dirty)
{
	uint64_t slot_mask = sn_mask(F(shift)(x->pt, x->half, level));
	bool swap = x->pt->flags & SNEST_STAGE_BIG_ENDIAN;

	for (uint64_t in = first, i = F(index)(x, level, first);; i++) {
		uint64_t end = in | slot_mask, raw = F(get)(x->pt, table, i);
		struct sn_entry e = F(decode)(x->pt, x->half, level, raw);

		if (end > last)
			end = last;
		if (e.kind == SN_ENTRY_TABLE)
			F(spread)(x, level - 1, F(child)(x, &e), in, end, dirty);
		while (e.kind == SN_ENTRY_LEAF && F(touch)(x->pt, raw, true, dirty) != raw) {
			uint64_t want = F(touch)(x->pt, raw, true, dirty);

			if (F(replace_entry)((char *)table + (i << F(ENTRY_LG2)), swap, raw, want))
				break;
			raw = F(get)(x->pt, table, i);
		}
		if (end == last)
			return;
		in = end + 1;
	}
}

/* ---- New tables ----------------------------------------------------------- */

/*
 * Fills a new table whose first input is `base` with the parts of n ascending
 * pieces that lie in it. Dry: `table` is NULL, and it only counts.
 */
static void F(build)(struct sn_edit *x, unsigned level, void *table, uint64_t base,
                     const struct sn_piece *piece, unsigned n)
{
	unsigned shift = F(shift)(x->pt, x->half, level);
	uint64_t table_last = F(table_last)(x, level, base), in = base, end;

	for (;; in = end + 1) {
		struct sn_piece p;
		uint64_t many;
		unsigned lg2;

		while (n && piece->last < in) {
			piece++;
			n--;
		}
		if (!n || piece->first > table_last)
			return;
		p = F(part)(piece, in, table_last);
		in = p.first;
		lg2 = F(pick)(x, level, p.sizes, in, p.last, p.addr, &many);
		if (lg2) {
			end = in + (many << lg2) - 1;
			if (table) {
				F(put_leaves)(x, level, table, &p, in, lg2, many);
				F(count)(x, level, table, many << (lg2 - shift));
			}
		} else {
			void *child = table ? sn_table_take(x->t) : NULL;

			end = in | sn_mask(shift);
			F(build)(x, level - 1, child, in & ~sn_mask(shift), piece, n);
			if (table) {
				uint64_t i = F(index)(x, level, in);

				F(put)(x->pt, table, i, F(link)(x, level, child));
				F(count)(x, level, table, 1);
			} else {
				x->need++;
			}
		}
		if (end >= table_last)
			return;
	}
}

/*
 * Puts a new table in the place of an entry, empty or a leaf. What the leaf
 * mapped outside first..last stays mapped; `inside`, if not NULL, is mapped in
 * first..last, which may reach beyond the slot.
 */
static void F(lower)(struct sn_edit *x, const struct sn_slot *s, uint64_t first, uint64_t last,
                     const struct sn_piece *inside)
{
	struct sn_piece piece[3], old = {.first = 1};
	uint64_t before;
	unsigned n = 0;
	uint32_t late;
	void *child;

	if (s->raw) {
		old = F(piece_of)(x, s->level, s->first, s->raw);
		if (old.first < first)
			piece[n++] = F(part)(&old, old.first, first - 1);
	}
	if (inside)
		piece[n++] = *inside;
	if (s->raw && old.last > last)
		piece[n++] = F(part)(&old, last + 1, old.last);
	if (x->dry) {
		x->need++;
		F(build)(x, s->level - 1, NULL, s->first, piece, n);
		return;
	}
	child = sn_table_take(x->t);
	F(build)(x, s->level - 1, child, s->first, piece, n);
	if (!s->raw) {
		F(put)(x->pt, s->table, s->index, F(link)(x, s->level, child));
		F(count)(x, s->level, s->table, 1);
		return;
	}
	before = F(exchange)(x->pt, s->table, s->index, F(link)(x, s->level, child));
	late = F(attr)(x->pt, s->level, before) & ~old.attr &
	       (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY);
	if (!late)
		return;
	if (old.first < first)
		F(spread)(x, s->level - 1, child, old.first, first - 1, late & SNEST_ATTR_DIRTY);
	if (old.last > last)
		F(spread)(x, s->level - 1, child, last + 1, old.last, late & SNEST_ATTR_DIRTY);
}
