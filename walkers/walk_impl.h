/* SPDX-License-Identifier: MIT */
/*
 * The walker, compiled once per format. Include with FMT defined, after the
 * format's header; yields static functions <FMT>_walk and, through
 * range_impl.h, <FMT>_range.
 *
 * The guest changes tables while they are read. Each entry is loaded once; all
 * decisions are made on that value. The number of steps is bounded by the
 * levels: a table entry always leads to a lower level.
 */

#define SN_CAT_(a, b) a##_##b
#define SN_CAT(a, b) SN_CAT_(a, b)
#define F(name) SN_CAT(FMT, name)

/* How often an entry may change under an accessed/dirty update before the walk gives up. */
#define SN_UPDATE_TRIES 16

/*
 * Sets the accessed (dirty) flag of *raw as the stage demands. 0 if *raw may be
 * used as it is now; UINT_MAX if the entry changed and *raw must be decoded
 * again; or a fault reason.
 */
static inline unsigned F(touch_entry)(struct sn_env *env, unsigned k, unsigned level, uint64_t at,
                                      bool leaf, bool write, bool update, uint64_t *raw,
                                      bool *can_update)
{
	const struct sn_pt *pt = &env->pt[k];
	unsigned mode = F(touch_mode)(pt);
	uint64_t want;

	*can_update = true;
	if (mode == SN_TOUCH_NONE || (!leaf && !F(TABLE_A)))
		return 0;
	want = F(touch)(pt, *raw, leaf, write);
	if (__builtin_expect(want == *raw, 1))
		return 0;
	if (mode == SN_TOUCH_FAULT) {
		*can_update = false;
		return F(touch)(pt, *raw, leaf, false) != *raw ? SNEST_FAULT_ACCESS_FLAG
		                                               : SNEST_FAULT_DIRTY_FLAG;
	}
	return update ? sn_env_update(env, k, level, at, F(ENTRY_LG2), raw, want) : 0;
}

/*
 * Flattened, because the compiler else keeps the larger formats' decoders out
 * of line, for the sake of the writer's calls, and a walk takes half as long again.
 */
__attribute__((flatten)) static unsigned F(walk)(struct sn_env *env, unsigned k, uint64_t in,
                                                 uint32_t access, struct sn_leaf *leaf)
{
	const struct sn_pt *pt = &env->pt[k];
	bool write = access & SNEST_WRITE;
	/* A request that asks for nothing leaves no trace. */
	bool update = env->update && (access & SNEST_RIGHTS);
	unsigned half = 0, reason = F(start)(pt, in, &half);
	unsigned level = pt->top[half], grant = SN_GRANT_ALL, tries = 0;
	uint64_t table = pt->root[half], at = 0, raw = 0;
	struct sn_entry e;

	if (__builtin_expect(reason != 0, 0))
		goto fault;
	if (__builtin_expect(access & SNEST_RIGHTS & ~(uint32_t)pt->rights, 0)) {
		reason = access & SNEST_READ & ~(uint32_t)pt->rights    ? SNEST_FAULT_READ
		         : access & SNEST_WRITE & ~(uint32_t)pt->rights ? SNEST_FAULT_WRITE
		                                                        : SNEST_FAULT_EXECUTE;
		goto fault;
	}
	for (;;) {
		unsigned shift = F(shift)(pt, half, level);
		uint64_t index = in >> shift & sn_mask(F(index_bits)(pt, half, level));
		unsigned granted;
		bool is_leaf, can_update;

		at = table + (index << F(ENTRY_LG2));
		raw = 0;
		reason = sn_env_load(env, k, level, at, F(ENTRY_LG2), &raw);
		if (__builtin_expect(reason != 0, 0))
			return reason;
		if (__builtin_expect(env->steps != NULL, 0))
			sn_env_step(env, k, level, at, raw);
again:
		e = F(decode)(pt, half, level, raw);
		is_leaf = e.kind == SN_ENTRY_LEAF;
		granted = grant & e.grant;
		reason = e.early;
		if (__builtin_expect(reason != 0, 0))
			goto fault;
		if (F(TOUCH_FIRST) && is_leaf) {
			/* A denied write must not mark the page dirty: only the access flag. */
			bool dirty = write && !F(deny)(pt, granted, access) &&
			             !F(deny_late)(pt, granted, access, true);

			reason = F(touch_entry)(env, k, level, at, true, dirty, update, &raw,
			                        &can_update);
			if (reason)
				goto touched;
		}
		if (is_leaf || !F(DENY_AT_LEAF)) {
			reason = F(deny)(pt, granted, access);
			if (!reason)
				reason = e.late;
			if (!reason)
				reason = F(deny_late)(pt, granted, access, is_leaf);
		} else {
			reason = e.late;
		}
		if (__builtin_expect(reason != 0, 0))
			goto fault;
		if (!is_leaf && (in & e.skip)) {
			reason = SNEST_FAULT_LEVEL;
			goto fault;
		}
		if (!F(TOUCH_FIRST)) {
			reason = F(touch_entry)(env, k, level, at, is_leaf, write, update, &raw,
			                        &can_update);
			if (reason)
				goto touched;
		}
		if (is_leaf)
			break;
		grant = granted;
		table = e.addr;
		level = e.next;
		continue;
touched:
		if (reason == UINT_MAX) {
			if (++tries < SN_UPDATE_TRIES)
				goto again;
			reason = SNEST_FAULT_UPDATE;
		} else if (can_update) {
			/* sn_env_update has said why in env->fault */
			return reason;
		}
		goto fault;
	}
	leaf->addr = e.addr + (in & sn_mask(e.lg2));
	leaf->entry = raw;
	leaf->entry_addr = at;
	leaf->level = (uint8_t)level;
	leaf->lg2 = e.lg2;
	leaf->attr = F(attr)(pt, level, raw);
	if (!(grant & SN_GRANT_USER))
		leaf->attr &= ~SNEST_ATTR_USER;
	leaf->rights = (uint8_t)(F(rights)(pt, grant & e.grant, access) & pt->rights);
	if ((leaf->rights & SNEST_WRITE) && F(touch_mode)(pt) != SN_TOUCH_NONE &&
	    F(touch)(pt, raw, true, true) != F(touch)(pt, raw, true, false)) {
		if (F(touch_mode)(pt) == SN_TOUCH_FAULT)
			leaf->rights &= (uint8_t)~SNEST_WRITE;
		else
			leaf->attr |= SNEST_ATTR_DIRTIABLE;
	}
	return 0;
fault:
	return sn_env_fault(env, reason, k, level, in, access, at, raw);
}
