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

/*
 * Of an entry above level 0: does it point to a lower table? A table entry is
 * the table's address and SN_SH_TABLE, and no leaf up there is without PS.
 */
static inline bool leads_on(uint64_t entry)
{
	return (uint8_t)entry == SN_SH_TABLE;
}

/* Taken off by the load's own displacement, where a mask would be an instruction. */
static inline const uint64_t *lower_table(uint64_t entry)
{
	return (const uint64_t *)(uintptr_t)(entry - SN_SH_TABLE);
}

/* The next entry on the way to iova. */
static inline uint64_t next_entry(uint64_t entry, uint64_t iova, unsigned shift)
{
	return sn_sh_load(&lower_table(entry)[sn_sh_index(iova, shift)]);
}

/* The top entry for iova; false: it is beyond the top level, or below another one. */
static inline bool top_entry(uint64_t root, uint64_t iova, unsigned top, uint64_t *entry)
{
	const uint64_t *table = (const uint64_t *)(uintptr_t)(root - top);

	if (__builtin_expect(iova >> top >= SN_SH_SLOTS, 0))
		return false;
	*entry = sn_sh_load(&table[iova >> top]);
	return true;
}

/*
 * The entry above level 0 that leads to iova's lowest table, or the leaf or
 * nothing that is found before; 0 also where only sn_tree_find can tell: top
 * levels of 2 MiB and of all 64 bits. The levels are written out: which one the
 * root has is a branch that always goes the same way, and then all shifts are
 * constants. The first question is for 512 GiB, which all IOVAs below that get.
 */
static inline __attribute__((always_inline)) uint64_t upper(const struct sn_tree *tree,
                                                            uint64_t iova, unsigned *shift)
{
	uint64_t root = sn_sh_load(&tree->root), entry;
	uint8_t top = (uint8_t)root;

	*shift = SN_SH_SHIFT0;
	if (__builtin_expect(top == 30, 1)) {
		if (!top_entry(root, iova, 30, &entry))
			return 0;
	} else if (top == 21) {
		if (!top_entry(root, iova, 21, &entry))
			return 0;
		*shift = 21;
		return entry;
	} else if (top == 39) {
		if (!top_entry(root, iova, 39, &entry))
			return 0;
		*shift = 39;
		if (!leads_on(entry))
			return entry;
		entry = next_entry(entry, iova, 30);
	} else {
		if (top != 48 || !top_entry(root, iova, 48, &entry))
			return 0;
		*shift = 48;
		if (!leads_on(entry))
			return entry;
		entry = next_entry(entry, iova, 39);
		*shift = 39;
		if (!leads_on(entry))
			return entry;
		entry = next_entry(entry, iova, 30);
	}
	*shift = 30;
	if (__builtin_expect(!leads_on(entry), 0))
		return entry;
	*shift = 21;
	return next_entry(entry, iova, 21);
}

/*
 * Is this a leaf that grants the access? No entry has the bit of SNEST_PRIVILEGED,
 * so requests with privilege are left to the slow way; and a leaf that lookups may
 * use has at least one right, so a request for none finds whether there is one.
 */
static inline bool grants(uint64_t entry, uint32_t access)
{
	return !(access & ~(uint32_t)entry) && ((uint32_t)entry & SNEST_RIGHTS);
}

/* What a leaf says of iova. */
static inline void fill_in(struct snest_translation *t, uint64_t entry, uint64_t iova,
                           unsigned shift)
{
	uint64_t offset = iova & (((uint64_t)1 << shift) - 1);

	t->host = (entry & SN_SH_ADDR) + offset;
	t->length = ((uint64_t)1 << shift) - offset;
	t->rights = (uint32_t)entry & SNEST_RIGHTS;
	t->outcome = SNEST_WALK_HOST;
}

static inline __attribute__((always_inline)) bool leaf(uint64_t entry, uint64_t iova,
                                                       unsigned shift, uint32_t access,
                                                       struct snest_translation *t)
{
	if (__builtin_expect(!grants(entry, access), 0))
		return false;
	fill_in(t, entry, iova, shift);
	return true;
}

static inline __attribute__((always_inline)) bool hit(const struct sn_tree *tree, uint64_t iova,
                                                      uint32_t access, struct snest_translation *t)
{
	unsigned shift;
	uint64_t entry = upper(tree, iova, &shift);

	/* Said three times, so that each is made of constants. Larger leaves are left to others. */
	if (__builtin_expect(leads_on(entry), 1))
		return leaf(next_entry(entry, iova, SN_SH_SHIFT0), iova, SN_SH_SHIFT0, access, t);
	if (__builtin_expect(shift == 21, 1))
		return leaf(entry, iova, 21, access, t);
	return shift == 30 && leaf(entry, iova, 30, access, t);
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
	if (__builtin_expect(hit(&space->tree[0], iova, access, t), 1))
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

		if (__builtin_expect(!grants(entry, access), 0)) {
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

		if (space) {
			good += translate_some(device, space, iovas + at, n, access, t);
			continue;
		}
		for (size_t i = 0; i < n; i++)
			t[i] = (struct snest_translation){.outcome = SNEST_WALK_FAULT};
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
		if (!grants(entry, access) || !append(list, entry & SN_SH_ADDR, 4096))
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
		if (!((iova + covered) & 4095))
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
