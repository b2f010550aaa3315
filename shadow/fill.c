/* SPDX-License-Identifier: MIT */
/*
 * Filling: a miss walks the guest's tables and publishes the leaf.
 *
 * Runs in the reader's own read section. The walk takes no lock; the publish
 * takes the space's for a few stores. Over budget, or out of memory, the
 * result is still right: it is only not remembered.
 */
#include <errno.h>
#include "core/probe.h"
#include "shadow/dirty.h"
#include "shadow/space.h"

/* The leaf sizes of the shadow; a smaller page is stored as several of the next size down. */
static unsigned leaf_shift(unsigned lg2)
{
	unsigned shift = SN_SH_SHIFT0;

	while (shift + SN_SH_BITS <= lg2 && shift + SN_SH_BITS <= SN_SH_LEAF_MAX)
		shift += SN_SH_BITS;
	return shift;
}

/* Forgets the whole shadow to stay in the budget; what is needed comes back by misses. */
static void evict(struct snest_space *space)
{
	SN_PROBE2(evict, space, space->graveyard.linked * 4096);
	sn_space_note(space, 0, UINT64_MAX);
	sn_tree_detach(&space->tree[0], &space->graveyard);
	sn_tree_detach(&space->tree[1], &space->graveyard);
	space->unremembered = 64;
	space->stats.evictions++;
}

/*
 * Stores 2^lg2 bytes around iova as leaves. `origin` is the size of the
 * guest's page when an invalidation of any of it must reach all of it.
 */
static int publish(struct snest_space *space, struct sn_tree *tree, uint64_t iova, uint64_t host,
                   unsigned lg2, unsigned rights, unsigned origin)
{
	unsigned shift = leaf_shift(lg2);
	uint64_t n = 1ull << (lg2 - shift > SN_SH_BITS ? 0 : lg2 - shift);
	uint64_t *slot;
	int error;

	if (lg2 - shift > SN_SH_BITS)
		lg2 = shift;
	iova &= ~sn_mask(lg2);
	host &= ~sn_mask(lg2);
	if (origin <= shift)
		origin = 0;
	slot = sn_tree_slot(tree, &space->graveyard, iova, shift, origin, &error);
	if (!slot)
		return error;
	for (uint64_t i = 0; i < n; i++)
		sn_tree_store(tree, &space->graveyard, &slot[i], shift,
		              (host + (i << shift)) | rights |
		                      (uint64_t)origin << SN_SH_ORIGIN_SHIFT);
	space->stats.leaves_published += n;
	return 0;
}

/* Publishes a walk's result, if it may be remembered and was not overtaken. */
static void fill_publish(struct snest_space *space, uint64_t iova, uint32_t access,
                         const struct sn_target *t, unsigned rights, unsigned guest_lg2,
                         uint64_t seq, uint64_t memory_seq, bool remember)
{
	struct sn_tree *tree = sn_space_tree(space, access);
	unsigned lg2 = t->lg2 > 63 ? 63 : t->lg2, widest = guest_lg2 > lg2 ? guest_lg2 : lg2;
	uint64_t first = iova & ~sn_mask(widest), last = iova | sn_mask(widest);
	int ret = -EAGAIN;

	/* Its lock may be held for as long as a sink takes, and nothing would be published. */
	if (__atomic_load_n(&space->mirror, __ATOMIC_RELAXED)) {
		__atomic_fetch_add(&space->fills_dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	pthread_mutex_lock(&space->lock);
	/* While writes are logged a large leaf must not push out a page that may be written. */
	if (space->log_dirty && lg2 > SN_SH_SHIFT0 && sn_tree_is_split(tree, iova, leaf_shift(lg2)))
		lg2 = SN_SH_SHIFT0;
	/*
	 * memory.seq: the changer makes it odd before it publishes the new map,
	 * and comes through this lock afterwards (core/memory.h).
	 */
	if (remember && !space->mirror && !sn_graveyard_is_full(&space->graveyard) &&
	    !(memory_seq & 1) &&
	    __atomic_load_n(&space->vm->memory.seq, __ATOMIC_ACQUIRE) == memory_seq &&
	    !sn_space_overtaken(space, seq, first, last)) {
		ret = publish(space, tree, iova, t->host, lg2, rights, guest_lg2);
		if (ret) {
			/* Not enough for this one alone: then nothing is kept. */
			evict(space);
			ret = publish(space, tree, iova, t->host, lg2, rights, guest_lg2);
			if (ret)
				evict(space);
		}
	}
	if (ret && space->unremembered < widest)
		space->unremembered = (uint8_t)widest;
	pthread_mutex_unlock(&space->lock);
	__atomic_fetch_add(ret ? &space->fills_dropped : &space->fills, 1, __ATOMIC_RELAXED);
}

/*
 * Would an invalidation reach this address? Arm may ignore the top byte: a
 * request then carries a tag there, an invalidation does not.
 */
static bool is_named(const struct snest_space *space, uint64_t iova)
{
	const struct sn_pt *pt = &space->stages.pt[0];

	return !space->stages.count || pt->format != SNEST_FORMAT_ARM_S1 ||
	       !(pt->flags & (SNEST_STAGE_ARM_TBI0 | SNEST_STAGE_ARM_TBI1)) || iova >> 55 == 0 ||
	       iova >> 55 == 0x1ff;
}

/*
 * Does a walk for this access leave what hardware would leave? One that asks for
 * no right sets no accessed flag, and the leaf would keep a later one from it.
 */
static bool leaves_flags(const struct snest_space *space, uint32_t access)
{
	for (unsigned i = 0; i < space->stages.count && !(access & SNEST_RIGHTS); i++) {
		if (space->stages.pt[i].flags & SNEST_STAGE_HW_A)
			return false;
	}
	return true;
}

int sn_space_fill(struct snest_space *space, uint64_t iova, uint32_t access, struct sn_fill *fill,
                  struct snest_fault *fault)
{
	/* Acquire: before the first table entry is read. Pairs with sn_space_note. */
	uint64_t seq = __atomic_load_n(&space->seq, __ATOMIC_ACQUIRE);
	uint64_t memory_seq = __atomic_load_n(&space->vm->memory.seq, __ATOMIC_ACQUIRE);
	struct snest_walk_stage stage[SNEST_MAX_STAGES];
	struct sn_target t;
	struct sn_env env;
	unsigned rights, guest_lg2 = 0;

	__atomic_fetch_add(&space->misses, 1, __ATOMIC_RELAXED);
	sn_env_init(&env, space->vm, space->stages.pt, space->stages.count);
	env.iova = iova;
	if (sn_collapse(&env, 0, iova, access, &t, stage)) {
		__atomic_fetch_add(&space->faults, 1, __ATOMIC_RELAXED);
		SN_PROBE4(fault, space, iova, access, env.fault.reason);
		if (fault)
			*fault = env.fault;
		return -EACCES;
	}
	fill->outcome = t.region ? SNEST_WALK_HOST : SNEST_WALK_GPA;
	fill->host = t.region ? t.host : t.gpa;
	fill->gpa = t.gpa;
	fill->lg2 = t.lg2;
	rights = t.rights;
	/* The first write has to set the dirty flag: let it miss. */
	if ((t.attr & SNEST_ATTR_DIRTIABLE) && !(access & SNEST_WRITE))
		rights &= ~SNEST_WRITE;
	fill->rights = rights;
	if (!t.region) {
		/* Memory may lie anywhere else in the guest's page. */
		if (fill->lg2 > SN_SH_SHIFT0)
			fill->lg2 = SN_SH_SHIFT0;
		return 0;
	}
	if (space->stages.count)
		guest_lg2 = stage[0].lg2;
	if (__atomic_load_n(&space->log_dirty, __ATOMIC_ACQUIRE)) {
		/* Logged page by page: a writable leaf must not cover more than is marked. */
		if (access & SNEST_WRITE) {
			sn_dirty_mark(space, iova, t.gpa, 1);
			if (t.lg2 > SN_SH_SHIFT0)
				fill->lg2 = t.lg2 = SN_SH_SHIFT0;
		} else {
			rights &= ~SNEST_WRITE;
			fill->rights = rights;
		}
	}
	fill_publish(space, iova, access, &t, rights, guest_lg2, seq, memory_seq,
	             t.lg2 >= SN_SH_SHIFT0 && is_named(space, iova) && leaves_flags(space, access));
	SN_PROBE4(fill, space, iova, t.host, t.lg2);
	return 0;
}
