/* SPDX-License-Identifier: MIT */
/*
 * Enumeration of one stage's tables, compiled once per format. Include behind
 * walk_impl.h with FMT defined; yields the static function <FMT>_range.
 */

static int F(range_table)(struct sn_ranger *r, unsigned k, unsigned half, unsigned level,
                          uint64_t table, uint64_t base, uint64_t first, uint64_t last,
                          uint64_t delta, unsigned grant);

/* One leaf entry: the part of it inside first..last goes to the open run. */
static inline int F(range_leaf)(struct sn_ranger *r, unsigned k, const struct sn_entry *e,
                                uint64_t raw, uint64_t first, uint64_t last, uint64_t delta,
                                unsigned grant)
{
	const struct sn_pt *pt = &r->env.pt[k];
	uint32_t rights = F(rights)(pt, grant & e->grant, r->privilege) & pt->rights;

	if (F(touch_mode)(pt) == SN_TOUCH_FAULT) {
		uint64_t touched = F(touch)(pt, raw, true, false);

		if (touched != raw)
			return 0;
		if (F(touch)(pt, raw, true, true) != touched)
			rights &= ~SNEST_WRITE;
	}
	if (!rights)
		return 0;
	return sn_ranger_piece(r, k, first, last, e->addr + (first & sn_mask(e->lg2)),
	                       first + delta, (uint8_t)rights, e->lg2);
}

/* One entry that is not 0, for the part first..last of the input below it. */
static inline int F(range_entry)(struct sn_ranger *r, unsigned k, unsigned half, unsigned level,
                                 uint64_t raw, uint64_t slot, uint64_t first, uint64_t last,
                                 uint64_t delta, unsigned grant)
{
	const struct sn_pt *pt = &r->env.pt[k];
	struct sn_entry e = F(decode)(pt, half, level, raw);
	unsigned fault = e.early;
	uint64_t below;

	fault |= e.late;
	if (fault)
		return 0;
	if (e.kind == SN_ENTRY_LEAF)
		return F(range_leaf)(r, k, &e, raw, first, last, delta, grant);
	/* Of skipped levels only index 0 is legal, so the table may cover less than the slot. */
	below = slot + sn_mask(F(shift)(pt, half, e.next) + F(index_bits)(pt, half, e.next));
	if (last > below)
		last = below;
	if (first > last)
		return 0;
	return F(range_table)(r, k, half, e.next, e.addr, slot, first, last, delta,
	                      grant & e.grant);
}

/*
 * How leaves of level 0 count up: returns the difference of the entries of two
 * neighbouring pages, and in *field the bits that hold a page's number within
 * its table. 0 if those bits are not in one piece.
 */
static inline uint64_t F(stride)(const struct sn_pt *pt, unsigned half, uint64_t *field)
{
	unsigned lg2 = F(shift)(pt, half, 0), bits = F(index_bits)(pt, half, 0);
	uint64_t first = 0, next = 0, last = 0;

	if (F(make_leaf)(pt, half, 0, lg2, 0, SNEST_READ, 0, &first) ||
	    F(make_leaf)(pt, half, 0, lg2, (uint64_t)1 << lg2, SNEST_READ, 0, &next) ||
	    F(make_leaf)(pt, half, 0, lg2, sn_mask(bits) << lg2, SNEST_READ, 0, &last))
		return 0;
	*field = first ^ last;
	return *field == (next - first) * sn_mask(bits) ? next - first : 0;
}

/*
 * Leaves of level 0 at `ptr`, at most n, that continue the leaf `raw`: equal to
 * the entry before them but for the next page's number. What raw decodes to,
 * they do. Tables hold long runs of them, which this makes cheap.
 */
static inline uint64_t F(strides)(const struct sn_pt *pt, unsigned half, const void *ptr,
                                  uint64_t n, uint64_t raw)
{
	bool swap = pt->flags & SNEST_STAGE_BIG_ENDIAN;
	uint64_t field, step = F(stride)(pt, half, &field), i;

	for (i = 0; i < n && step; i++) {
		uint64_t next =
			sn_entry_load((const char *)ptr + (i << F(ENTRY_LG2)), F(ENTRY_LG2));

		if (swap)
			next = sn_entry_swap(next, F(ENTRY_LG2));
		if (next != raw + step || ((next ^ raw) & ~field))
			break;
		/* A group's entries are equal, and its address is not a page's. */
		if (i == 0 && F(decode)(pt, half, 0, raw).lg2 != F(shift)(pt, half, 0))
			break;
		raw = next;
	}
	return i;
}

/*
 * Tells the watch which IOVAs depend on the entries of one page of a table, from
 * entry i at `at` on. `slot` is what that entry translates.
 */
static inline void F(place)(struct sn_ranger *r, uint64_t at, uint64_t entries, uint64_t slot,
                            unsigned shift, uint64_t first, uint64_t last, uint64_t delta)
{
	uint64_t n = (4096 - (at & 4095)) >> F(ENTRY_LG2);
	struct sn_watch *watch = r->env.watch;

	watch->base = slot + delta;
	watch->first = (slot > first ? slot : first) + delta;
	watch->last = (n < entries ? slot + (n << shift) - 1 : last) + delta;
	watch->shift = (uint8_t)shift;
	watch->entry_lg2 = F(ENTRY_LG2);
}

/*
 * Enumerates first..last below one table whose first entry translates `base`.
 * Flattened for the reason that the walk is.
 */
__attribute__((flatten)) static int F(range_table)(struct sn_ranger *r, unsigned k, unsigned half,
                                                   unsigned level, uint64_t table, uint64_t base,
                                                   uint64_t first, uint64_t last, uint64_t delta,
                                                   unsigned grant)
{
	const struct sn_pt *pt = &r->env.pt[k];
	unsigned shift = F(shift)(pt, half, level);
	uint64_t span = sn_mask(shift);
	uint64_t i = (first - base) >> shift, i_last = (last - base) >> shift;
	bool swap = pt->flags & SNEST_STAGE_BIG_ENDIAN;

	r->tables++;
	while (i <= i_last) {
		uint64_t at = table + (i << F(ENTRY_LG2));
		const void *ptr;
		bool readable;
		size_t n;

		if (__builtin_expect(r->env.watch != NULL, 0))
			F(place)
		(r, at, i_last - i + 1, base + (i << shift), shift, first, last, delta);
		n = sn_ranger_table(r, k, level, at, (i_last - i + 1) << F(ENTRY_LG2), &ptr,
		                    &readable) >>
		    F(ENTRY_LG2);

		for (; n; n--, i++, at += 1u << F(ENTRY_LG2)) {
			uint64_t slot = base + (i << shift), raw;
			int ret;

			if (__builtin_expect(r->budget == 0, 0)) {
				r->resume = (slot > first ? slot : first) + delta;
				return -EAGAIN;
			}
			r->budget--;
			if (ptr) {
				raw = sn_entry_load(ptr, F(ENTRY_LG2));
				ptr = (const char *)ptr + (1u << F(ENTRY_LG2));
				if (swap)
					raw = sn_entry_swap(raw, F(ENTRY_LG2));
			} else if (!readable ||
			           sn_env_load(&r->env, k, level, at, F(ENTRY_LG2), &raw)) {
				continue;
			}
			if (!raw)
				continue;
			ret = F(range_entry)(r, k, half, level, raw, slot,
			                     slot > first ? slot : first,
			                     slot + span < last ? slot + span : last, delta, grant);
			if (ret)
				return ret;
			if (level == 0 && ptr && r->pending[k].valid &&
			    r->pending[k].last == slot + span) {
				uint64_t more = (last - (slot + span)) >> shift;

				more = more < n - 1 ? more : n - 1;
				more = more < r->budget ? more : r->budget;
				more = F(strides)(pt, half, ptr, more, raw);
				r->pending[k].last += more << shift;
				r->budget -= more;
				ptr = (const char *)ptr + (more << F(ENTRY_LG2));
				at += more << F(ENTRY_LG2);
				i += more;
				n -= more;
			}
		}
	}
	return 0;
}

static int F(range)(struct sn_ranger *r, unsigned k, uint64_t first, uint64_t last, uint64_t iova)
{
	const struct sn_pt *pt = &r->env.pt[k];
	uint64_t span_first, span_last;
	unsigned half;

	for (unsigned i = 0; F(span)(pt, i, &span_first, &span_last, &half); i++) {
		uint64_t from = first > span_first ? first : span_first;
		uint64_t to = last < span_last ? last : span_last;
		unsigned top = pt->top[half];
		unsigned width = F(shift)(pt, half, top) + F(index_bits)(pt, half, top);
		int ret;

		if (from > to)
			continue;
		ret = F(range_table)(r, k, half, top, pt->root[half], from & ~sn_mask(width), from,
		                     to, iova - first, SN_GRANT_ALL);
		if (ret)
			return ret;
	}
	return 0;
}
