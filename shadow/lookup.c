/* SPDX-License-Identifier: MIT */
/*
 * Lookups: one IOVA, a batch, a range, and the DMA helpers on top.
 *
 * Guarantees:
 *   1. A hit is wait-free: loads only, no store to shared memory, no lock.
 *   2. A miss is lock-free but for the publish of its leaf.
 *   3. What is returned was true at some time after the caller's read section
 *      began, or after the last invalidation that had returned before.
 */
#include <errno.h>
#include <string.h>
#include "core/probe.h"
#include "shadow/device.h"
#include "shadow/space.h"

#define BATCH 16u

/* How often a binding may vanish under a request before it is refused. */
#define RESOLVE_TRIES 8u

/* Of an entry above level 0: does it point to a lower table? */
static inline bool leads_on(uint64_t entry)
{
	return ((uint32_t)entry & (SN_SH_PS | SNEST_READ)) == SNEST_READ;
}

/* A table entry has nothing above its address, which makes this a shorter mask. */
static inline const uint64_t *lower_table(uint64_t entry)
{
	return (const uint64_t *)(uintptr_t)(entry & ~0xfffull);
}

/*
 * The entry above level 0 that leads to iova's lowest table, or the leaf or
 * nothing that is found before; 0 also where only sn_tree_find can tell. The
 * levels are written out: which one the root has is a branch that always goes
 * the same way, and all shifts behind it are constants.
 */
static inline __attribute__((always_inline)) uint64_t upper(const struct sn_tree *tree,
                                                            uint64_t iova, unsigned *shift)
{
	uint64_t root = sn_sh_load(&tree->root), entry;
	uint64_t index = iova >> (root & SN_SH_ROOT_SHIFT & 63);

	*shift = SN_SH_SHIFT0;
	if (__builtin_expect(index >= SN_SH_SLOTS, 0))
		return 0;
	entry = sn_sh_load(&lower_table(root)[index]);
	switch (root & SN_SH_ROOT_SHIFT) {
	case 48:
		*shift = 48;
		if (!leads_on(entry))
			return entry;
		entry = sn_sh_load(&lower_table(entry)[sn_sh_index(iova, 39)]);
		/* fallthrough */
	case 39:
		*shift = 39;
		if (!leads_on(entry))
			return entry;
		entry = sn_sh_load(&lower_table(entry)[sn_sh_index(iova, 30)]);
		/* fallthrough */
	case 30:
		*shift = 30;
		if (!leads_on(entry))
			return entry;
		entry = sn_sh_load(&lower_table(entry)[sn_sh_index(iova, 21)]);
		/* fallthrough */
	case 21:
		*shift = 21;
		return entry;
	case 12:
		return (root & ~SN_SH_ROOT_SHIFT) | SN_SH_TABLE;
	default:
		/* IOVAs of more than 57 bits, and the empty tree: the slow way. */
		return 0;
	}
}

/*
 * The usual request: without privilege, for at least one right. With a right
 * asked for, an entry that has it is a leaf that a lookup may use.
 */
static inline bool usual(uint32_t access)
{
	return __builtin_expect(access - 1u < SNEST_RIGHTS, 1);
}

/* What a leaf says of iova. */
static inline void fill_in(struct snest_translation *t, uint64_t entry, uint64_t iova,
                           unsigned shift)
{
	uint64_t offset = iova & (((uint64_t)1 << shift) - 1);

	t->host = (entry & SN_SH_ADDR) + offset;
	t->length = ((uint64_t)1 << shift) - offset;
	t->rights = entry & SN_SH_RIGHTS;
	t->outcome = SNEST_WALK_HOST;
}

static inline __attribute__((always_inline)) bool hit(const struct sn_tree *tree, uint64_t iova,
                                                      uint32_t access, struct snest_translation *t)
{
	unsigned shift;
	uint64_t entry = upper(tree, iova, &shift);

	if (leads_on(entry)) {
		entry = sn_sh_load(&lower_table(entry)[sn_sh_index(iova, SN_SH_SHIFT0)]);
		shift = SN_SH_SHIFT0;
	}
	if (__builtin_expect(access & ~(uint32_t)entry, 0))
		return false;
	/* Said three times, so that the first two are made of constants. */
	if (__builtin_expect(shift == SN_SH_SHIFT0, 1))
		fill_in(t, entry, iova, SN_SH_SHIFT0);
	else if (__builtin_expect(shift == 21, 1))
		fill_in(t, entry, iova, 21);
	else
		fill_in(t, entry, iova, shift);
	return true;
}

/* `device` is whose request it is, NULL if nobody's: it only counts. */
static __attribute__((noinline)) int miss(struct snest_device *device, uint64_t iova,
                                          uint32_t access, struct snest_translation *t,
                                          struct snest_fault *fault, struct snest_space *space)
{
	struct sn_fill fill;
	int ret = sn_space_fill(space, iova, access, &fill, fault);

	if (device)
		sn_device_missed(device, ret != 0);
	if (ret) {
		memset(t, 0, sizeof(*t));
		t->outcome = SNEST_WALK_FAULT;
		return ret;
	}
	t->host = fill.host;
	t->length = fill.lg2 > 63 ? UINT64_MAX : sn_mask(fill.lg2) - (iova & sn_mask(fill.lg2)) + 1;
	t->rights = fill.rights;
	t->outcome = fill.outcome;
	return 0;
}

/*
 * Any request: with privilege, for no right at all, or one that the shadow could
 * not answer. The order of the arguments is that of the public functions, so
 * that these need not move any to get here.
 */
static __attribute__((noinline)) int translate_slow(struct snest_device *device, uint64_t iova,
                                                    uint32_t access, struct snest_translation *t,
                                                    struct snest_fault *fault,
                                                    struct snest_space *space)
{
	uint32_t need = access & SNEST_RIGHTS;
	unsigned shift;
	uint64_t entry = sn_tree_find(sn_space_tree(space, access), iova, &shift);

	if ((entry & need) != need || !(entry & SN_SH_RIGHTS) || shift > 63)
		return miss(device, iova, access, t, fault, space);
	fill_in(t, entry, iova, shift);
	return 0;
}

static inline __attribute__((always_inline)) int translate(struct snest_device *device,
                                                           uint64_t iova, uint32_t access,
                                                           struct snest_translation *t,
                                                           struct snest_fault *fault,
                                                           struct snest_space *space)
{
	if (usual(access) && __builtin_expect(hit(&space->tree[0], iova, access, t), 1))
		return 0;
	return translate_slow(device, iova, access, t, fault, space);
}

/* The space of a request that is bound to none: the front end finds it, or refuses. */
static __attribute__((noinline)) struct snest_space *resolve(struct snest_device *device,
                                                             uint32_t pasid, uint64_t iova,
                                                             uint32_t access,
                                                             struct snest_translation *t,
                                                             struct snest_fault *fault)
{
	struct snest_fault ignored, *f = fault ? fault : &ignored;
	struct snest_space *space;

	__atomic_fetch_add(&device->stats.unbound, 1, __ATOMIC_RELAXED);
	memset(t, 0, sizeof(*t));
	t->outcome = SNEST_WALK_FAULT;
	*f = (struct snest_fault){
		.reason = SNEST_FAULT_BLOCKED,
		.stage = SNEST_NO_STAGE,
		.for_stage = SNEST_NO_STAGE,
		.access = (uint8_t)access,
		.iova = iova,
		.input = iova,
	};
	for (unsigned tries = 0; device->resolve && tries < RESOLVE_TRIES; tries++) {
		if (device->resolve(device->opaque, device, pasid, iova, access, f))
			break;
		/* An invalidation that comes between may have unbound it again. */
		space = sn_device_space(device, pasid);
		if (space)
			return space;
	}
	__atomic_fetch_add(&device->stats.faults, 1, __ATOMIC_RELAXED);
	SN_PROBE4(fault, NULL, iova, access, f->reason);
	return NULL;
}

struct snest_space *sn_device_lookup_space(struct snest_device *device, uint32_t pasid,
                                           uint64_t iova, uint32_t access,
                                           struct snest_translation *t, struct snest_fault *fault)
{
	struct snest_space *space = sn_device_space(device, pasid);

	return __builtin_expect(space != NULL, 1) ? space
	                                          : resolve(device, pasid, iova, access, t, fault);
}

int snest_space_translate(struct snest_space *space, uint64_t iova, uint32_t access,
                          struct snest_translation *translation, struct snest_fault *fault)
{
	return translate(NULL, iova, access, translation, fault, space);
}

/* Out of line, so that the way of a hit keeps nothing across a call. */
static __attribute__((noinline)) int translate_unbound(struct snest_device *device, uint32_t pasid,
                                                       uint64_t iova, uint32_t access,
                                                       struct snest_translation *t,
                                                       struct snest_fault *fault)
{
	struct snest_space *space = resolve(device, pasid, iova, access, t, fault);

	return space ? translate_slow(device, iova, access, t, fault, space) : -EACCES;
}

int snest_translate_pasid(struct snest_device *device, uint32_t pasid, uint64_t iova,
                          uint32_t access, struct snest_translation *translation,
                          struct snest_fault *fault)
{
	struct snest_space *space = sn_device_space(device, pasid);

	if (__builtin_expect(!space, 0))
		return translate_unbound(device, pasid, iova, access, translation, fault);
	return translate(device, iova, access, translation, fault, space);
}

int snest_translate(struct snest_device *device, uint64_t iova, uint32_t access,
                    struct snest_translation *translation, struct snest_fault *fault)
{
	struct snest_space *space = sn_deref(&device->space);

	if (__builtin_expect(!space, 0))
		return translate_unbound(device, SNEST_NO_PASID, iova, access, translation, fault);
	return translate(device, iova, access, translation, fault, space);
}

/* ---- Batches --------------------------------------------------------------- */

/*
 * First where each leaf is, then what it says: the loads of the leaves, which
 * are what misses the caches, overlap instead of waiting for each other. Each
 * entry is loaded once; one that was found above level 0 is kept in `large`.
 */
static inline size_t translate_some(struct snest_device *device, struct snest_space *space,
                                    const uint64_t *iovas, size_t n, uint32_t access,
                                    struct snest_translation *t)
{
	const uint64_t *slot[BATCH];
	uint64_t large[BATCH];
	uint8_t shift[BATCH];
	size_t good = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned at;

		large[i] = upper(&space->tree[0], iovas[i], &at);
		slot[i] = &large[i];
		shift[i] = (uint8_t)at;
		if (__builtin_expect(leads_on(large[i]), 1)) {
			slot[i] = &lower_table(large[i])[sn_sh_index(iovas[i], SN_SH_SHIFT0)];
			shift[i] = SN_SH_SHIFT0;
			__builtin_prefetch(slot[i]);
		}
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t entry = sn_sh_load(slot[i]);

		if (__builtin_expect(access & ~(uint32_t)entry, 0)) {
			good += !translate_slow(device, iovas[i], access, &t[i], NULL, space);
			continue;
		}
		fill_in(&t[i], entry, iovas[i], shift[i]);
		good++;
	}
	return good;
}

size_t snest_translate_batch(struct snest_device *device, const uint64_t *iovas, size_t count,
                             uint32_t access, struct snest_translation *translations)
{
	size_t good = 0;

	for (size_t at = 0; at < count; at += BATCH) {
		size_t n = count - at < BATCH ? count - at : BATCH;
		struct snest_translation *t = translations + at;
		struct snest_space *space =
			sn_device_lookup_space(device, SNEST_NO_PASID, iovas[at], access, t, NULL);

		if (space && usual(access)) {
			good += translate_some(device, space, iovas + at, n, access, t);
			continue;
		}
		for (size_t i = 0; i < n; i++) {
			if (space)
				good += !translate_slow(device, iovas[at + i], access, &t[i], NULL,
				                        space);
			else
				t[i] = (struct snest_translation){.outcome = SNEST_WALK_FAULT};
		}
	}
	return good;
}

/* ---- Ranges ------------------------------------------------------------------ */

/* A list of host ranges that grows; what is contiguous becomes one. */
struct list {
	struct snest_host_range *range;
	size_t n, max;
	uint64_t end; /* host address behind the last one */
};

/* False: the list is full. */
static inline bool append(struct list *list, uint64_t host, uint64_t length)
{
	if (list->n && list->end == host) {
		list->range[list->n - 1].length += length;
	} else {
		if (list->n == list->max)
			return false;
		list->range[list->n].host = host;
		list->range[list->n].length = length;
		list->n++;
	}
	list->end = host + length;
	return true;
}

/*
 * Whole pages from one lowest table, as many as there are hits; needs no other
 * descent. Returns how many bytes.
 */
static inline uint64_t scatter_table(const struct snest_space *space, uint64_t iova,
                                     uint64_t length, uint32_t access, struct list *list)
{
	unsigned shift, index = sn_sh_index(iova, SN_SH_SHIFT0);
	uint64_t entry = upper(&space->tree[0], iova, &shift), covered = 0;
	const uint64_t *table = lower_table(entry);

	if (!leads_on(entry))
		return 0;
	for (; index < SN_SH_SLOTS && length - covered >= 4096; index++, covered += 4096) {
		entry = sn_sh_load(&table[index]);
		if ((access & ~(uint32_t)entry) || !append(list, entry & SN_SH_ADDR, 4096))
			break;
	}
	return covered;
}

/* One translation, up to the end of its leaf. Returns how many bytes; 0: stop. */
static uint64_t scatter_leaf(struct snest_device *device, struct snest_space *space, uint64_t iova,
                             uint64_t length, uint32_t access, struct list *list,
                             struct snest_fault *fault)
{
	struct snest_translation t;

	if (translate(device, iova, access, &t, fault, space))
		return 0;
	if (t.outcome != SNEST_WALK_HOST) {
		if (fault) {
			fault->reason = SNEST_FAULT_NO_HOST;
			fault->stage = SNEST_NO_STAGE;
			fault->iova = iova;
			fault->input = t.host;
		}
		return 0;
	}
	if (length > t.length)
		length = t.length;
	return append(list, t.host, length) ? length : 0;
}

static size_t scatter(struct snest_device *device, struct snest_space *space, uint64_t iova,
                      uint64_t length, uint32_t access, struct snest_host_range *ranges, size_t max,
                      uint64_t *done, struct snest_fault *fault)
{
	struct list list = {.range = ranges, .max = max};
	uint64_t covered = 0, more;

	while (covered < length) {
		more = 0;
		if (!((iova + covered) & 4095) && usual(access))
			more = scatter_table(space, iova + covered, length - covered, access,
			                     &list);
		if (!more)
			more = scatter_leaf(device, space, iova + covered, length - covered, access,
			                    &list, fault);
		if (!more)
			break;
		covered += more;
	}
	*done = covered;
	return list.n;
}

size_t snest_scatter(struct snest_device *device, uint64_t iova, uint64_t length, uint32_t access,
                     struct snest_host_range *ranges, size_t max, uint64_t *done,
                     struct snest_fault *fault)
{
	struct snest_translation t;
	struct snest_space *space;

	*done = 0;
	if (fault)
		memset(fault, 0, sizeof(*fault));
	space = sn_device_lookup_space(device, SNEST_NO_PASID, iova, access, &t, fault);
	if (!space)
		return 0;
	/* A range that runs past 2^64 is cut there: the bus has no addresses beyond. */
	if (length && length - 1 > UINT64_MAX - iova)
		length = UINT64_MAX - iova + 1;
	return scatter(device, space, iova, length, access, ranges, max, done, fault);
}

/* Copies at most to the end of one leaf. */
static int dma_piece(struct snest_device *device, struct snest_space *space, uint64_t iova,
                     void *buf, size_t length, uint32_t access, size_t *copied,
                     struct snest_fault *fault)
{
	struct snest_translation t;
	struct sn_target target;
	struct sn_env env;
	size_t n;
	int ret = translate(device, iova, access, &t, fault, space);

	if (ret)
		return ret;
	n = t.length < length ? (size_t)t.length : length;
	*copied = n;
	/*
	 * The shadow holds host addresses, which are opaque; a region's mapping
	 * is found by its GPA. The usual embedder's host address is the mapping.
	 */
	if (t.outcome == SNEST_WALK_HOST) {
		const struct sn_memory_map *map = sn_deref(&space->vm->memory.map);
		const struct sn_region *hot = &map->hot;

		if (hot->direct && (uint64_t)hot->mapping == hot->host &&
		    t.host - hot->host - hot->first < map->hot_size &&
		    t.host - hot->host - hot->first + n <= map->hot_size) {
			if (access & SNEST_WRITE)
				memcpy((void *)(uintptr_t)t.host, buf, n);
			else
				memcpy(buf, (const void *)(uintptr_t)t.host, n);
			return 0;
		}
	}
	sn_env_init(&env, space->vm, space->stages.pt, space->stages.count);
	env.iova = iova;
	if (sn_collapse(&env, 0, iova, access, &target, NULL)) {
		if (fault)
			*fault = env.fault;
		return -EACCES;
	}
	if (n > sn_mask(target.lg2) - (iova & sn_mask(target.lg2)))
		n = (size_t)(sn_mask(target.lg2) - (iova & sn_mask(target.lg2))) + 1;
	if (n > length)
		n = length;
	*copied = n;
	if (!target.region) {
		sn_env_fault(&env, SNEST_FAULT_NO_HOST, space->stages.count, 0, target.gpa, access,
		             0, 0);
		if (fault)
			*fault = env.fault;
		return -EACCES;
	}
	return access & SNEST_WRITE ? sn_memory_write(env.map, target.gpa, buf, n)
	                            : sn_memory_read(env.map, target.gpa, buf, n);
}

static int dma(struct snest_device *device, uint32_t pasid, uint64_t iova, void *buf, size_t length,
               uint32_t access, size_t *done, struct snest_fault *fault)
{
	size_t total = 0;
	int ret = 0;

	sn_read_begin();
	while (total < length) {
		struct snest_translation t;
		struct snest_space *space;
		size_t n = 0;

		/* The bus has no addresses beyond 2^64, and does not begin again. */
		if (total && iova + total == 0) {
			ret = -EACCES;
			if (fault)
				*fault = (struct snest_fault){.reason = SNEST_FAULT_INPUT_RANGE,
				                              .stage = SNEST_NO_STAGE,
				                              .for_stage = SNEST_NO_STAGE,
				                              .access = (uint8_t)access};
			break;
		}
		space = sn_device_lookup_space(device, pasid, iova + total, access, &t, fault);
		ret = space ? dma_piece(device, space, iova + total, (char *)buf + total,
		                        length - total, access, &n, fault)
		            : -EACCES;
		if (ret)
			break;
		total += n;
	}
	sn_read_end();
	if (done)
		*done = total;
	return ret;
}

int snest_dma_read(struct snest_device *device, uint32_t pasid, uint64_t iova, void *buf,
                   size_t length, size_t *done, struct snest_fault *fault)
{
	return dma(device, pasid, iova, buf, length, SNEST_READ, done, fault);
}

int snest_dma_write(struct snest_device *device, uint32_t pasid, uint64_t iova, const void *buf,
                    size_t length, size_t *done, struct snest_fault *fault)
{
	return dma(device, pasid, iova, (void *)(uintptr_t)buf, length, SNEST_WRITE, done, fault);
}
