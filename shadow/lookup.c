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
#include "shadow/device.h"
#include "shadow/space.h"

#define BATCH 16u

/* How often a binding may vanish under a request before it is refused. */
#define RESOLVE_TRIES 8u

static inline bool hit(struct snest_space *space, uint64_t iova, uint32_t access,
                       struct snest_translation *t)
{
	uint32_t need = access & SNEST_RIGHTS;
	unsigned shift;
	uint64_t entry = sn_tree_find(sn_space_tree(space, access), iova, &shift);
	uint64_t offset;

	if (__builtin_expect((entry & need) != need || !(entry & SN_SH_RIGHTS), 0))
		return false;
	offset = iova & sn_mask(shift);
	t->host = (entry & SN_SH_ADDR) + offset;
	t->length = sn_mask(shift) - offset + 1;
	t->rights = entry & SN_SH_RIGHTS;
	t->outcome = SNEST_WALK_HOST;
	return true;
}

static __attribute__((noinline)) int miss(struct snest_space *space, uint64_t iova, uint32_t access,
                                          struct snest_translation *t, struct snest_fault *fault)
{
	struct sn_fill fill;
	int ret = sn_space_fill(space, iova, access, &fill, fault);

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

static inline int translate(struct snest_space *space, uint64_t iova, uint32_t access,
                            struct snest_translation *t, struct snest_fault *fault)
{
	return __builtin_expect(hit(space, iova, access, t), 1)
	               ? 0
	               : miss(space, iova, access, t, fault);
}

/* The space of a request that is bound to none: the front end finds it, or refuses. */
static __attribute__((noinline)) struct snest_space *
resolve(struct snest_device *device, uint32_t pasid, uint64_t iova, uint32_t access,
        struct snest_translation *t, struct snest_fault *fault)
{
	struct snest_fault ignored, *f = fault ? fault : &ignored;
	struct snest_space *space;

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
			return NULL;
		/* An invalidation that comes between may have unbound it again. */
		space = sn_device_space(device, pasid);
		if (space)
			return space;
	}
	return NULL;
}

static inline struct snest_space *device_space(struct snest_device *device, uint32_t pasid,
                                               uint64_t iova, uint32_t access,
                                               struct snest_translation *t,
                                               struct snest_fault *fault)
{
	struct snest_space *space = sn_device_space(device, pasid);

	return __builtin_expect(space != NULL, 1)
	               ? space
	               : resolve(device, pasid, iova, access, t, fault);
}

struct snest_space *sn_device_lookup_space(struct snest_device *device, uint32_t pasid,
                                           uint64_t iova, uint32_t access,
                                           struct snest_translation *t, struct snest_fault *fault)
{
	return device_space(device, pasid, iova, access, t, fault);
}

int snest_space_translate(struct snest_space *space, uint64_t iova, uint32_t access,
                          struct snest_translation *translation, struct snest_fault *fault)
{
	return translate(space, iova, access, translation, fault);
}

int snest_translate_pasid(struct snest_device *device, uint32_t pasid, uint64_t iova,
                          uint32_t access, struct snest_translation *translation,
                          struct snest_fault *fault)
{
	struct snest_space *space = device_space(device, pasid, iova, access, translation, fault);

	return space ? translate(space, iova, access, translation, fault) : -EACCES;
}

int snest_translate(struct snest_device *device, uint64_t iova, uint32_t access,
                    struct snest_translation *translation, struct snest_fault *fault)
{
	return snest_translate_pasid(device, SNEST_NO_PASID, iova, access, translation, fault);
}

/* ---- Batches --------------------------------------------------------------- */

/*
 * One level for all, then the next: the loads of a batch overlap in the memory
 * system instead of waiting for each other.
 */
static void find_batch(const struct sn_tree *tree, const uint64_t *iovas, size_t n,
                       uint64_t *entries, unsigned *shifts)
{
	uint64_t root = sn_sh_load(&tree->root);
	unsigned top = root & SN_SH_ROOT_SHIFT;
	const uint64_t *slot[BATCH];
	unsigned active = 0;

	for (size_t i = 0; i < n; i++) {
		shifts[i] = top;
		slot[i] = &sn_sh_table(root)[sn_sh_index(iovas[i], top)];
		if (iovas[i] >> top >= SN_SH_SLOTS) {
			slot[i] = sn_tree_nothing;
			shifts[i] = SN_SH_SHIFT0;
		}
		active |= 1u << i;
	}
	while (active) {
		for (unsigned left = active; left; left &= left - 1) {
			unsigned i = (unsigned)__builtin_ctz(left);
			uint64_t entry = sn_sh_load(slot[i]);

			entries[i] = entry;
			if (shifts[i] == SN_SH_SHIFT0 ||
			    (entry & (SN_SH_PS | SNEST_READ)) != SNEST_READ) {
				active &= ~(1u << i);
				continue;
			}
			shifts[i] -= SN_SH_BITS;
			slot[i] = &sn_sh_table(entry)[sn_sh_index(iovas[i], shifts[i])];
			__builtin_prefetch(slot[i]);
		}
	}
}

size_t snest_translate_batch(struct snest_device *device, const uint64_t *iovas, size_t count,
                             uint32_t access, struct snest_translation *translations)
{
	uint32_t need = access & SNEST_RIGHTS;
	size_t good = 0;

	for (size_t at = 0; at < count; at += BATCH) {
		size_t n = count - at < BATCH ? count - at : BATCH;
		struct snest_translation *t = translations + at;
		uint64_t entries[BATCH];
		unsigned shifts[BATCH];
		struct snest_space *space = device_space(device, SNEST_NO_PASID, iovas[at], access,
		                                         t, NULL);

		if (!space) {
			for (size_t i = 0; i < n; i++)
				t[i] = (struct snest_translation){ .outcome = SNEST_WALK_FAULT };
			continue;
		}
		find_batch(sn_space_tree(space, access), iovas + at, n, entries, shifts);
		for (size_t i = 0; i < n; i++) {
			uint64_t offset = iovas[at + i] & sn_mask(shifts[i]);

			if ((entries[i] & need) != need || !(entries[i] & SN_SH_RIGHTS)) {
				good += !miss(space, iovas[at + i], access, &t[i], NULL);
				continue;
			}
			t[i].host = (entries[i] & SN_SH_ADDR) + offset;
			t[i].length = sn_mask(shifts[i]) - offset + 1;
			t[i].rights = entries[i] & SN_SH_RIGHTS;
			t[i].outcome = SNEST_WALK_HOST;
			good++;
		}
	}
	return good;
}

/* ---- Ranges ------------------------------------------------------------------ */

static size_t scatter(struct snest_space *space, uint64_t iova, uint64_t length, uint32_t access,
                      struct snest_host_range *ranges, size_t max, uint64_t *done,
                      struct snest_fault *fault)
{
	uint64_t covered = 0;
	size_t n = 0;

	while (covered < length) {
		struct snest_translation t;
		uint64_t take;

		if (translate(space, iova + covered, access, &t, fault))
			break;
		if (t.outcome != SNEST_WALK_HOST) {
			if (fault) {
				fault->reason = SNEST_FAULT_NO_HOST;
				fault->stage = SNEST_NO_STAGE;
				fault->iova = iova + covered;
				fault->input = t.host;
			}
			break;
		}
		take = t.length < length - covered ? t.length : length - covered;
		if (n && ranges[n - 1].host + ranges[n - 1].length == t.host) {
			ranges[n - 1].length += take;
		} else {
			if (n == max)
				break;
			ranges[n].host = t.host;
			ranges[n].length = take;
			n++;
		}
		covered += take;
	}
	*done = covered;
	return n;
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
	space = device_space(device, SNEST_NO_PASID, iova, access, &t, fault);
	if (!space)
		return 0;
	/* A range that runs past 2^64 is cut there: the bus has no addresses beyond. */
	if (length && length - 1 > UINT64_MAX - iova)
		length = UINT64_MAX - iova + 1;
	return scatter(space, iova, length, access, ranges, max, done, fault);
}

/* Copies at most to the end of one leaf. */
static int dma_piece(struct snest_space *space, uint64_t iova, void *buf, size_t length,
                     uint32_t access, size_t *copied, struct snest_fault *fault)
{
	struct snest_translation t;
	struct sn_target target;
	struct sn_env env;
	size_t n;
	int ret = translate(space, iova, access, &t, fault);

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
		size_t n = 0;
		struct snest_space *space =
			device_space(device, pasid, iova + total, access, &t, fault);

		ret = space ? dma_piece(space, iova + total, (char *)buf + total, length - total,
		                        access, &n, fault)
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
