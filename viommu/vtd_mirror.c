/* SPDX-License-Identifier: MIT */
/*
 * Mirrored requests: a sink follows the space that a device is bound to.
 *
 * The sink is switched only when the space is another one: a configuration
 * command that changes nothing leaves it untouched, so a running device sees
 * no hole. An absent or broken configuration is no space, and an empty sink.
 *
 * Everything here runs under mirror_lock, outside read sections; sinks are
 * called without vtd->lock.
 */
#include <errno.h>
#include "core/extensible.h"
#include "shadow/space.h"
#include "viommu/vtd.h"

/*
 * The space that the mirrored requests are bound to now, with a reference; NULL:
 * the configuration gives none. 0, or -errno: it could not be bound.
 */
static int space_now(struct sn_vtd_mirror *m, struct snest_space **out)
{
	struct snest_vtd *vtd = m->device->vtd;
	struct snest_space *space = NULL;
	struct snest_fault fault;
	int ret = 0;

	sn_vtd_lock(vtd);
	if (sn_vtd_binding_find(m->device, m->pasid)) {
		/* The binding, and so the lock, keeps the space alive until it is referenced. */
		sn_read_begin();
		space = snest_device_space(m->device->handle, m->pasid);
		sn_read_end();
		sn_space_ref(space);
	} else {
		ret = sn_vtd_bind(m->device, m->pasid, 0, 0, &space, &fault);
		if (ret)
			space = NULL;
	}
	sn_vtd_unlock(vtd);
	*out = space;
	return ret == -EACCES ? 0 : ret;
}

static int empty(struct sn_vtd_mirror *m)
{
	int ret = 0;

	if (m->space) {
		ret = snest_space_unmirror(m->space);
		snest_space_put(m->space);
		m->space = NULL;
	}
	return ret;
}

/* Makes the sink follow the binding. */
static int follow(struct sn_vtd_mirror *m)
{
	struct snest_space *space;
	int ret = space_now(m, &space);

	if (!ret && space == m->space) {
		snest_space_put(space);
		return 0;
	}
	/* What could not be bound is unknown, and the old one may be wrong. */
	empty(m);
	if (!space)
		return ret;
	ret = snest_space_mirror(space, &m->sink);
	if (ret)
		snest_space_put(space);
	else
		m->space = space;
	return ret;
}

int sn_vtd_mirrors_refresh(struct snest_vtd *vtd)
{
	struct sn_vtd_mirror *m;
	int ret = 0;

	pthread_mutex_lock(&vtd->mirror_lock);
	cds_list_for_each_entry (m, &vtd->mirrors, all) {
		int one = follow(m);

		if (one && m->sink.failed)
			m->sink.failed(m->sink.opaque, 0, UINT64_MAX, one);
		ret = ret ? ret : one;
	}
	pthread_mutex_unlock(&vtd->mirror_lock);
	return ret;
}

/* Lists a mirror: what its requests were bound to may have been shared, so it goes. */
static void list(struct snest_vtd *vtd, struct sn_vtd_mirror *m)
{
	cds_list_add_tail(&m->all, &vtd->mirrors);
	__atomic_store_n(&vtd->mirror_count, vtd->mirror_count + 1, __ATOMIC_RELAXED);
	sn_vtd_lock(vtd);
	cds_list_add_tail(&m->of_device, &m->device->mirrors);
	sn_vtd_unbind_request(m->device, m->pasid);
	sn_vtd_unlock(vtd);
}

static void unlist(struct snest_vtd *vtd, struct sn_vtd_mirror *m)
{
	sn_vtd_lock(vtd);
	cds_list_del(&m->of_device);
	sn_vtd_unbind_request(m->device, m->pasid);
	sn_vtd_unlock(vtd);
	cds_list_del(&m->all);
	__atomic_store_n(&vtd->mirror_count, vtd->mirror_count - 1, __ATOMIC_RELAXED);
}

static int drop(struct snest_vtd *vtd, struct sn_vtd_mirror *m)
{
	int ret;

	unlist(vtd, m);
	ret = empty(m);
	sn_vm_free(vtd->vm, m, sizeof(*m));
	return ret;
}

void sn_vtd_mirrors_drop(struct snest_vtd *vtd, struct sn_vtd_device *device)
{
	struct sn_vtd_mirror *m, *next;

	pthread_mutex_lock(&vtd->mirror_lock);
	cds_list_for_each_entry_safe (m, next, &vtd->mirrors, all) {
		if (!device || m->device == device)
			drop(vtd, m);
	}
	pthread_mutex_unlock(&vtd->mirror_lock);
}

static struct sn_vtd_mirror *find(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid)
{
	struct sn_vtd_mirror *m;

	cds_list_for_each_entry (m, &vtd->mirrors, all) {
		if (m->pasid == pasid && snest_device_rid(m->device->handle) == rid)
			return m;
	}
	return NULL;
}

/*
 * The number of a new mirror. Front ends of one VM share its spaces, and their
 * guests' domains may have the same id and tables, so numbers are the process's.
 */
static uint32_t next_number(void)
{
	static uint32_t newest; /* atomic */
	uint32_t number;

	do
		number = __atomic_add_fetch(&newest, 1, __ATOMIC_RELAXED);
	while (!number);
	return number;
}

int snest_vtd_mirror(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid,
                     const struct snest_sink *user)
{
	struct snest_device *handle;
	struct sn_vtd_mirror *m;
	struct snest_sink sink;
	int ret = SN_STRUCT_IN(&sink, user);

	if (!ret && (!sink.apply || (pasid != SNEST_NO_PASID && pasid >> 20)))
		ret = -EINVAL;
	if (!ret)
		ret = snest_vtd_device(vtd, rid, &handle);
	if (ret)
		return ret;
	m = sn_vm_alloc(vtd->vm, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->sink = sink;
	m->pasid = pasid;

	pthread_mutex_lock(&vtd->mirror_lock);
	sn_vtd_lock(vtd);
	m->device = sn_vtd_device_find(vtd, rid);
	sn_vtd_unlock(vtd);
	ret = find(vtd, rid, pasid) ? -EBUSY : 0;
	/* Listed before it follows: a command that comes between finds it, and waits here. */
	if (!ret) {
		m->number = next_number();
		list(vtd, m);
		ret = follow(m);
		if (ret)
			unlist(vtd, m);
	}
	if (ret)
		sn_vm_free(vtd->vm, m, sizeof(*m));
	pthread_mutex_unlock(&vtd->mirror_lock);
	return ret;
}

int snest_vtd_unmirror(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid)
{
	struct sn_vtd_mirror *m;
	int ret;

	pthread_mutex_lock(&vtd->mirror_lock);
	m = find(vtd, rid, pasid);
	ret = m ? drop(vtd, m) : -ENOENT;
	pthread_mutex_unlock(&vtd->mirror_lock);
	return ret;
}
