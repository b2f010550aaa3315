/* SPDX-License-Identifier: MIT */
/*
 * The front end object: its life, its lock, and what completes later.
 */
#include <errno.h>
#include <string.h>
#include "core/extensible.h"
#include "core/rcu.h"
#include "shadow/shadow.h"
#include "viommu/vtd.h"

/* The hook is called after the lock is let go, from a copy: *vtd may be gone by then. */
void sn_vtd_unlock(struct snest_vtd *vtd)
{
	struct {
		uint64_t address;
		uint32_t data;
	} msi[EVENT_COUNT];
	void (*send)(void *, uint64_t, uint32_t) = vtd->hooks.msi;
	void *opaque = vtd->hooks.opaque;
	unsigned count = 0;

	for (unsigned i = 0; i < EVENT_COUNT; i++) {
		if (!vtd->msi[i].pending)
			continue;
		vtd->msi[i].pending = false;
		msi[count].address = vtd->msi[i].address;
		msi[count++].data = vtd->msi[i].data;
	}
	pthread_mutex_unlock(&vtd->lock);
	for (unsigned i = 0; send && i < count; i++)
		send(opaque, msi[i].address, msi[i].data);
}

/* ---- Completion ------------------------------------------------------------------- */

/* What was pending is over, hooks included: the last step that touches *vtd. */
static void settled(struct snest_vtd *vtd)
{
	pthread_mutex_lock(&vtd->lock);
	vtd->pending--;
	pthread_cond_broadcast(&vtd->changed);
	pthread_mutex_unlock(&vtd->lock);
}

static void drained(void *opaque)
{
	struct sn_vtd_completion *c = opaque;
	struct snest_vtd *vtd = c->vtd;

	sn_vtd_lock(vtd);
	c->armed = false;
	c->done(c);
	sn_vtd_unlock(vtd);
	settled(vtd);
}

void sn_vtd_arm(struct snest_vtd *vtd, struct sn_vtd_completion *c,
                void (*done)(struct sn_vtd_completion *c))
{
	c->vtd = vtd;
	c->done = done;
	c->armed = true;
	vtd->pending++;
	vtd->stats.drains++;
	if (!vtd->sync) {
		snest_drain_async(vtd->vm, &c->drain, drained, c);
		return;
	}
	c->next = NULL;
	*vtd->sync_last = c;
	vtd->sync_last = &c->next;
}

void sn_vtd_finish(struct snest_vtd *vtd)
{
	struct sn_vtd_completion *c;

	if (!vtd->sync)
		return;
	for (;;) {
		sn_vtd_lock(vtd);
		c = vtd->sync_first;
		vtd->sync_first = NULL;
		vtd->sync_last = &vtd->sync_first;
		sn_vtd_unlock(vtd);
		if (!c)
			return;
		snest_drain(vtd->vm, 0);
		while (c) {
			struct sn_vtd_completion *next = c->next;

			drained(c);
			c = next;
		}
	}
}

void sn_vtd_sleep(struct snest_vtd *vtd)
{
	bool was_online;

	if (vtd->vm->reclaim.threadless) {
		/* Whoever would signal is run here. The caller looks again. */
		sn_vtd_unlock(vtd);
		sn_reclaim_help(&vtd->vm->reclaim);
		sn_vtd_lock(vtd);
		return;
	}
	was_online = sn_rcu_sleep_begin();
	pthread_cond_wait(&vtd->changed, &vtd->lock);
	sn_rcu_sleep_end(was_online);
}

void sn_vtd_quiesce(struct snest_vtd *vtd)
{
	while (vtd->queue.running || vtd->pending || vtd->config_busy)
		sn_vtd_sleep(vtd);
}

static void resume(struct sn_reclaim_node *node)
{
	struct snest_vtd *vtd = (void *)((char *)node - offsetof(struct snest_vtd, queue.resume));

	sn_vtd_lock(vtd);
	vtd->queue.resume_armed = false;
	sn_vtd_unlock(vtd);
	if (vtd->hooks.kick)
		vtd->hooks.kick(vtd->hooks.opaque);
	else
		sn_vtd_queue_run(vtd, vtd->budget);
	settled(vtd);
}

void sn_vtd_resume_later(struct snest_vtd *vtd)
{
	/* SYNC drains, which the background thread must not wait for. */
	if (vtd->queue.resume_armed || vtd->sync)
		return;
	vtd->queue.resume_armed = true;
	vtd->pending++;
	sn_reclaim_defer(&vtd->vm->reclaim, &vtd->queue.resume, resume);
}

/* ---- Life ------------------------------------------------------------------------------ */

static void release(struct snest_vtd *vtd)
{
	pthread_cond_destroy(&vtd->changed);
	pthread_mutex_destroy(&vtd->lock);
	pthread_mutex_destroy(&vtd->mirror_lock);
	snest_space_put(vtd->pass);
	sn_vm_free(vtd->vm, vtd->frcd, VTD_CAP_NFR(vtd->cap) * sizeof(*vtd->frcd));
	sn_vm_free(vtd->vm, vtd, sizeof(*vtd));
}

int snest_vtd_create(struct snest_vm *vm, const struct snest_vtd_config *user,
                     struct snest_vtd **out, const char **why)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.features = SNEST_VTD_QUEUE | SNEST_VTD_CACHING_MODE | SNEST_VTD_PAGE_2M |
	                    SNEST_VTD_PAGE_1G | SNEST_VTD_PASS_THROUGH,
	};
	struct snest_space_config pass = {
		.size = sizeof(pass),
		.flags = SNEST_SPACE_ANNOUNCED,
	};
	struct snest_vtd *vtd;
	int ret = 0;

	if (why)
		*why = "";
	if (user)
		ret = SN_STRUCT_IN(&config, user);
	if (ret)
		return ret;
	/* A drain must never fail for want of memory, so what it needs is made now. */
	vtd = sn_shadow(vm) ? sn_vm_alloc(vm, sizeof(*vtd)) : NULL;
	if (!vtd)
		return -ENOMEM;
	vtd->vm = vm;
	vtd->hooks.size = sizeof(vtd->hooks);
	if (config.hooks)
		ret = SN_STRUCT_IN(&vtd->hooks, config.hooks);
	if (!ret)
		ret = sn_vtd_capabilities(vtd, &config, why);
	if (ret) {
		sn_vm_free(vm, vtd, sizeof(*vtd));
		return ret;
	}
	pthread_mutex_init(&vtd->lock, NULL);
	pthread_mutex_init(&vtd->mirror_lock, NULL);
	pthread_cond_init(&vtd->changed, NULL);
	vtd->sync_last = &vtd->sync_first;
	sn_vtd_bind_init(vtd);
	vtd->generation = 1;
	pass.table_bytes_max = vtd->table_bytes_max;
	pass.sync_entries_max = vtd->sync_entries_max;
	vtd->frcd = sn_vm_alloc(vm, VTD_CAP_NFR(vtd->cap) * sizeof(*vtd->frcd));
	if (!vtd->frcd || ((vtd->ecap & VTD_ECAP_DT) && snest_space_get(vm, &pass, &vtd->pass))) {
		release(vtd);
		return -ENOMEM;
	}
	sn_vtd_regs_init(vtd, config.version ? config.version : 0x10);
	*out = vtd;
	return 0;
}

void snest_vtd_destroy(struct snest_vtd *vtd)
{
	if (!vtd)
		return;
	sn_vtd_lock(vtd);
	/* Nothing more is fetched; what was begun completes. */
	vtd->reg[REG_GSTS] &= ~VTD_QIE;
	sn_vtd_quiesce(vtd);
	sn_vtd_unlock(vtd);
	sn_vtd_mirrors_drop(vtd, NULL);
	sn_vtd_lock(vtd);
	sn_vtd_bind_fini(vtd);
	sn_vtd_unlock(vtd);
	release(vtd);
}

int snest_vtd_stats(struct snest_vtd *vtd, struct snest_vtd_stats *stats)
{
	struct snest_vtd_stats now;

	sn_vtd_lock(vtd);
	now = vtd->stats;
	sn_vtd_unlock(vtd);
	return SN_STRUCT_OUT(stats, &now);
}
