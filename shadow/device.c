/* SPDX-License-Identifier: MIT */
/* Devices and their bindings; see device.h. */
#include <errno.h>
#include "core/extensible.h"
#include "shadow/device.h"
#include "shadow/shadow.h"
#include "shadow/space.h"

static struct snest_device **bucket(struct sn_shadow *shadow, uint32_t rid)
{
	return &shadow->device[(rid ^ rid >> 10) & (SN_DEVICE_BUCKETS - 1)];
}

int snest_device_create(struct snest_vm *vm, uint32_t rid, snest_resolve_fn resolve, void *opaque,
                        struct snest_device **out)
{
	struct sn_shadow *shadow = sn_shadow(vm);
	struct snest_device *device, **head;

	if (!shadow)
		return -ENOMEM;
	device = sn_vm_alloc(vm, sizeof(*device));
	if (!device)
		return -ENOMEM;
	device->vm = vm;
	device->rid = rid;
	device->resolve = resolve;
	device->opaque = opaque;
	pthread_mutex_init(&device->lock, NULL);

	pthread_mutex_lock(&shadow->lock);
	head = bucket(shadow, rid);
	for (struct snest_device *d = *head; d; d = d->next) {
		if (d->rid == rid) {
			pthread_mutex_unlock(&shadow->lock);
			pthread_mutex_destroy(&device->lock);
			sn_vm_free(vm, device, sizeof(*device));
			return -EEXIST;
		}
	}
	device->next = *head;
	sn_publish(head, device);
	pthread_mutex_unlock(&shadow->lock);
	*out = device;
	return 0;
}

static void device_freed(struct sn_reclaim_node *node)
{
	struct snest_device *device = (void *)((char *)node - offsetof(struct snest_device, node));
	struct snest_vm *vm = device->vm;

	if (device->pasids) {
		for (unsigned i = 0; i < SN_PASID_DIR; i++)
			sn_vm_free(vm, device->pasids->leaf[i], sizeof(struct sn_pasid_leaf));
		sn_vm_free(vm, device->pasids, sizeof(*device->pasids));
	}
	pthread_mutex_destroy(&device->lock);
	sn_vm_free(vm, device, sizeof(*device));
}

void snest_device_destroy(struct snest_device *device)
{
	struct sn_shadow *shadow = device->vm->shadow;
	struct snest_device **at;

	snest_device_unbind_all(device, true);
	pthread_mutex_lock(&shadow->lock);
	at = bucket(shadow, device->rid);
	while (*at != device)
		at = &(*at)->next;
	sn_publish(at, device->next);
	pthread_mutex_unlock(&shadow->lock);
	sn_reclaim_defer(&device->vm->reclaim, &device->node, device_freed);
}

uint32_t snest_device_rid(const struct snest_device *device)
{
	return device->rid;
}

struct snest_device *snest_device_find(struct snest_vm *vm, uint32_t rid)
{
	struct sn_shadow *shadow = __atomic_load_n(&vm->shadow, __ATOMIC_ACQUIRE);
	struct snest_device *device = shadow ? sn_deref(bucket(shadow, rid)) : NULL;

	while (device && device->rid != rid)
		device = sn_deref(&device->next);
	return device;
}

struct snest_space *snest_device_space(struct snest_device *device, uint32_t pasid)
{
	return sn_device_space(device, pasid);
}

/*
 * The place that holds a PASID's space; made if `make`. NULL: not there (or
 * out of memory). Under device->lock.
 */
static struct snest_space **place(struct snest_device *device, uint32_t pasid, bool make)
{
	struct snest_vm *vm = device->vm;
	struct sn_pasid_leaf **leaf;

	if (pasid == SNEST_NO_PASID)
		return &device->space;
	if (!device->pasids) {
		struct sn_pasid_dir *dir = make ? sn_vm_alloc(vm, sizeof(*dir)) : NULL;

		if (!dir)
			return NULL;
		sn_publish(&device->pasids, dir);
	}
	leaf = &device->pasids->leaf[pasid >> SN_PASID_LEAF_BITS];
	if (!*leaf) {
		struct sn_pasid_leaf *made = make ? sn_vm_alloc(vm, sizeof(*made)) : NULL;

		if (!made)
			return NULL;
		sn_publish(leaf, made);
	}
	return &(*leaf)->space[pasid & (SN_PASID_LEAF - 1)];
}

int snest_device_bind(struct snest_device *device, uint32_t pasid, struct snest_space *space)
{
	struct snest_space **at, *old;

	if ((pasid != SNEST_NO_PASID && pasid >> SN_PASID_BITS) ||
	    (space && space->vm != device->vm))
		return -EINVAL;
	pthread_mutex_lock(&device->lock);
	at = place(device, pasid, space != NULL);
	if (!at) {
		pthread_mutex_unlock(&device->lock);
		return space ? -ENOMEM : 0;
	}
	old = *at;
	if (old != space) {
		if (space && !sn_space_ref(space)) {
			pthread_mutex_unlock(&device->lock);
			return -EINVAL;
		}
		sn_publish(at, space);
		device->stats.binds += space != NULL;
		device->stats.unbinds += old != NULL;
		if (pasid != SNEST_NO_PASID)
			device->bound += (space != NULL) - (old != NULL);
	}
	pthread_mutex_unlock(&device->lock);
	/* Readers may still be in it; the space is freed a grace period after its last reference. */
	if (old && old != space)
		snest_space_put(old);
	return 0;
}

void snest_device_unbind_all(struct snest_device *device, bool all)
{
	struct sn_pasid_dir *dir;

	if (all)
		snest_device_bind(device, SNEST_NO_PASID, NULL);
	pthread_mutex_lock(&device->lock);
	dir = device->pasids;
	for (unsigned i = 0; dir && i < SN_PASID_DIR && device->bound; i++) {
		struct sn_pasid_leaf *leaf = dir->leaf[i];

		for (unsigned j = 0; leaf && j < SN_PASID_LEAF && device->bound; j++) {
			struct snest_space *old = leaf->space[j];

			if (!old)
				continue;
			sn_publish(&leaf->space[j], NULL);
			device->bound--;
			device->stats.unbinds++;
			snest_space_put(old);
		}
	}
	pthread_mutex_unlock(&device->lock);
}

int snest_device_stats(struct snest_device *device, struct snest_device_stats *stats)
{
	struct snest_device_stats now = {.size = 0};

	pthread_mutex_lock(&device->lock);
	now.binds = device->stats.binds;
	now.unbinds = device->stats.unbinds;
	now.bound = device->bound + (device->space != NULL);
	pthread_mutex_unlock(&device->lock);
	now.misses = __atomic_load_n(&device->stats.misses, __ATOMIC_RELAXED);
	now.faults = __atomic_load_n(&device->stats.faults, __ATOMIC_RELAXED);
	now.unbound = __atomic_load_n(&device->stats.unbound, __ATOMIC_RELAXED);
	now.pins = __atomic_load_n(&device->stats.pins, __ATOMIC_RELAXED);
	return SN_STRUCT_OUT(stats, &now);
}
