/* SPDX-License-Identifier: MIT */
/* Drains and pins; see pins.h. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include "core/probe.h"
#include "shadow/dirty.h"
#include "shadow/device.h"
#include "shadow/shadow.h"
#include "shadow/space.h"

_Static_assert(sizeof(struct sn_pin_link) <= sizeof(((struct snest_pin *)0)->private_),
               "a pin's private part holds its link");
_Static_assert(sizeof(struct sn_drain_link) <= sizeof(((struct snest_drain *)0)->private_),
               "a drain's private part holds its link");

/* A drain that is late but waits for readers, not for a pin, is looked at again after this. */
#define RETRY_NS 5000000
/* A drain without a timeout reports the pin that it waits for after this. */
#define REPORT_NS 1000000000

static struct sn_pin_link *pin_link(struct snest_pin *pin)
{
	return (struct sn_pin_link *)(void *)pin->private_;
}

void sn_pins_init(struct sn_pins *pins, struct snest_vm *vm)
{
	memset(pins, 0, sizeof(*pins));
	pins->vm = vm;
	pthread_mutex_init(&pins->lock, NULL);
	pins->newest = &pins->oldest;
	pins->drains_tail = &pins->drains;
}

void sn_pins_fini(struct sn_pins *pins)
{
	pthread_mutex_destroy(&pins->lock);
}

/* Takes the drains off that wait for no pin any more. Under pins->lock. */
static struct sn_drain_link *completed(struct sn_pins *pins)
{
	struct sn_drain_link *first = pins->drains, **at = &first;

	while (*at && (!pins->oldest || pins->oldest->number > (*at)->number))
		at = &(*at)->next;
	pins->drains = *at;
	if (!*at)
		pins->drains_tail = &pins->drains;
	*at = NULL;
	return first;
}

static void finish(struct sn_drain_link *drain)
{
	while (drain) {
		struct sn_drain_link *next = drain->next;

		SN_PROBE2(drain_done, drain->vm, drain);
		/* The node is the caller's again from here on. */
		drain->done(drain->opaque);
		drain = next;
	}
}

/* On the reclaim thread, a grace period after the drain began. */
static void drain_readers_gone(struct sn_reclaim_node *node)
{
	struct sn_drain_link *drain = (struct sn_drain_link *)(void *)node;
	struct sn_shadow *shadow = __atomic_load_n(&drain->vm->shadow, __ATOMIC_ACQUIRE);
	struct sn_drain_link *ready;
	struct sn_pins *pins;

	drain->next = NULL;
	if (!shadow) {
		/* Without one there are no pins. */
		finish(drain);
		return;
	}
	pins = &shadow->pins;
	pthread_mutex_lock(&pins->lock);
	drain->number = pins->number;
	*pins->drains_tail = drain;
	pins->drains_tail = &drain->next;
	ready = completed(pins);
	pthread_mutex_unlock(&pins->lock);
	finish(ready);
}

/* On the reclaim thread, after the last pin of some drain went. */
static void drain_pins_gone(struct sn_reclaim_node *node)
{
	struct sn_pins *pins = (void *)((char *)node - offsetof(struct sn_pins, node));
	struct sn_drain_link *ready;

	pthread_mutex_lock(&pins->lock);
	pins->queued = false;
	ready = completed(pins);
	pthread_mutex_unlock(&pins->lock);
	finish(ready);
}

void snest_drain_async(struct snest_vm *vm, struct snest_drain *node, snest_done_fn done,
                       void *opaque)
{
	struct sn_drain_link *drain = (struct sn_drain_link *)(void *)node->private_;
	struct sn_shadow *shadow = sn_shadow(vm);

	drain->vm = vm;
	drain->done = done;
	drain->opaque = opaque;
	if (shadow)
		__atomic_fetch_add(&shadow->drains, 1, __ATOMIC_RELAXED);
	SN_PROBE2(drain_begin, vm, drain);
	sn_reclaim_defer(&vm->reclaim, &drain->node, drain_readers_gone);
}

/* At most so many attempts are left out after some that failed. */
#define SKIP_MAX 15u

/* As many as failed before, doubled: readers that are slow once are slow again. */
static void leave_out(struct sn_pins *pins, unsigned failed)
{
	unsigned skip = failed < 4 ? (1u << failed) - 1 : SKIP_MAX;

	__atomic_store_n(&pins->failed, failed + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&pins->skip, skip, __ATOMIC_RELAXED);
}

/* Is there anything but readers that a drain would wait for? */
static bool is_held(struct sn_pins *pins)
{
	bool held;

	pthread_mutex_lock(&pins->lock);
	held = pins->oldest || pins->drains;
	pthread_mutex_unlock(&pins->lock);
	return held;
}

bool sn_drain_now(struct snest_vm *vm)
{
	struct sn_shadow *shadow = __atomic_load_n(&vm->shadow, __ATOMIC_ACQUIRE);
	struct sn_pins *pins;
	unsigned skip;

	if (!shadow)
		return false;
	pins = &shadow->pins;
	/* Callers of this do not exclude each other; it is no matter if a count is lost. */
	skip = __atomic_load_n(&pins->skip, __ATOMIC_RELAXED);
	if (skip) {
		__atomic_store_n(&pins->skip, skip - 1, __ATOMIC_RELAXED);
		return false;
	}
	if (is_held(pins))
		return false;
	if (!sn_rcu_poll()) {
		leave_out(pins, __atomic_load_n(&pins->failed, __ATOMIC_RELAXED));
		return false;
	}
	__atomic_store_n(&pins->failed, 0, __ATOMIC_RELAXED);
	/* Behind the grace period: who wanted to hold on to something has listed it by now. */
	if (is_held(pins))
		return false;
	__atomic_fetch_add(&shadow->drains, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&vm->reclaim.grace_periods, 1, __ATOMIC_RELAXED);
	/* What waits for somebody to wait has its chance too. */
	sn_reclaim_wake(&vm->reclaim);
	return true;
}

/* ---- Blocking ----------------------------------------------------------------- */

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void waiter_done(void *opaque)
{
	struct waiter *w = opaque;

	pthread_mutex_lock(&w->lock);
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

/* Where a drain is linked that waits for pins. NULL: for readers, or it is being finished. */
static struct sn_drain_link **waiting(struct sn_pins *pins, const struct sn_drain_link *drain)
{
	struct sn_drain_link **at = &pins->drains;

	while (*at && *at != drain)
		at = &(*at)->next;
	return *at ? at : NULL;
}

static void report_pin(struct snest_vm *vm, const struct sn_pin_link *pin)
{
	sn_log(vm, SNEST_LOG_WARNING,
	       "a pin of rid %" PRIx32 " at IOVA 0x%" PRIx64 ", held for %" PRIu64
	       " ms, keeps a drain from completing",
	       pin->rid, pin->iova, (sn_vm_now(vm) - pin->born_ns) / 1000000);
}

static void later(struct timespec *at, uint64_t ns)
{
	at->tv_sec += (time_t)(ns / 1000000000);
	at->tv_nsec += (long)(ns % 1000000000);
	if (at->tv_nsec >= 1000000000) {
		at->tv_nsec -= 1000000000;
		at->tv_sec++;
	}
}

/*
 * A drain has taken long. True if it waits for a pin, which is logged if
 * `report`, and then no more if `withdraw`.
 */
static bool late(struct sn_shadow *shadow, const struct sn_drain_link *drain, bool report,
                 bool withdraw)
{
	struct sn_pins *pins = &shadow->pins;
	struct sn_drain_link **at;

	pthread_mutex_lock(&pins->lock);
	at = waiting(pins, drain);
	if (at && report && pins->oldest)
		report_pin(shadow->vm, pins->oldest);
	if (at && withdraw) {
		*at = drain->next;
		if (!*at)
			pins->drains_tail = at;
	}
	pthread_mutex_unlock(&pins->lock);
	return at != NULL;
}

int snest_drain(struct snest_vm *vm, uint64_t timeout_ns)
{
	struct waiter w = {.done = false};
	struct sn_shadow *shadow = sn_shadow(vm);
	pthread_condattr_t attr;
	struct snest_drain node;
	struct timespec until;
	bool was_online, reported = false;
	int ret = 0;

	if (!shadow)
		return -ENOMEM;
	if (sn_reclaim_would_deadlock(&vm->reclaim))
		return -EDEADLK;
	pthread_mutex_init(&w.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w.cond, &attr);
	pthread_condattr_destroy(&attr);
	clock_gettime(CLOCK_MONOTONIC, &until);
	later(&until, timeout_ns ? timeout_ns : REPORT_NS);

	snest_drain_async(vm, &node, waiter_done, &w);
	sn_reclaim_help(&vm->reclaim);
	was_online = sn_rcu_sleep_begin();
	pthread_mutex_lock(&w.lock);
	while (!w.done) {
		if (pthread_cond_timedwait(&w.cond, &w.lock, &until) != ETIMEDOUT || w.done)
			continue;
		if (late(shadow, (struct sn_drain_link *)(void *)node.private_, !reported,
		         timeout_ns != 0)) {
			reported = true;
			if (timeout_ns) {
				ret = -ETIME;
				break;
			}
		}
		later(&until, RETRY_NS);
	}
	pthread_mutex_unlock(&w.lock);
	sn_rcu_sleep_end(was_online);
	pthread_cond_destroy(&w.cond);
	pthread_mutex_destroy(&w.lock);
	return ret;
}

void sn_shadow_wait(struct snest_vm *vm)
{
	if (__atomic_load_n(&vm->shadow, __ATOMIC_ACQUIRE))
		snest_drain(vm, 0);
	else
		sn_reclaim_barrier(&vm->reclaim);
}

void sn_shadow_after_pins(struct snest_vm *vm, struct snest_drain *node, snest_done_fn done,
                          void *opaque)
{
	struct sn_drain_link *drain = (struct sn_drain_link *)(void *)node->private_;

	drain->vm = vm;
	drain->done = done;
	drain->opaque = opaque;
	drain_readers_gone(&drain->node);
}

/* ---- Pins ------------------------------------------------------------------------ */

int snest_pin(struct snest_device *device, uint32_t pasid, uint64_t iova, uint64_t length,
              uint32_t access, struct snest_pin *pin, struct snest_fault *fault)
{
	struct sn_pin_link *link = pin_link(pin);
	struct snest_space *space;
	struct sn_fill fill;
	struct sn_pins *pins;
	uint64_t leaf;
	int ret;

	if (!length)
		return -EINVAL;
	sn_read_begin();
	space = sn_device_lookup_space(device, pasid, iova, access, &pin->translation, fault);
	ret = -EACCES;
	if (space) {
		ret = sn_space_fill(space, iova, access, &fill, fault);
		sn_device_missed(device, ret != 0);
	}
	if (!ret && !sn_space_ref(space)) {
		/* Its last device let go of it a moment ago. */
		if (fault)
			*fault = (struct snest_fault){.reason = SNEST_FAULT_BLOCKED, .iova = iova};
		ret = -EACCES;
	}
	if (ret) {
		sn_read_end();
		pin->translation = (struct snest_translation){.outcome = SNEST_WALK_FAULT};
		return ret;
	}
	leaf = fill.lg2 > 63 ? UINT64_MAX : sn_mask(fill.lg2) - (iova & sn_mask(fill.lg2)) + 1;
	pin->translation = (struct snest_translation){
		.host = fill.host,
		.length = leaf < length ? leaf : length,
		.rights = fill.rights,
		.outcome = fill.outcome,
	};
	pins = &space->vm->shadow->pins;
	*link = (struct sn_pin_link){
		.space = space,
		.iova = iova,
		.gpa = fill.gpa,
		.length = pin->translation.length,
		.born_ns = sn_vm_now(space->vm),
		.access = access,
		.rid = snest_device_rid(device),
	};
	pthread_mutex_lock(&pins->lock);
	link->number = ++pins->number;
	link->prev = pins->newest;
	*pins->newest = link;
	pins->newest = &link->next;
	pins->held++;
	pthread_mutex_unlock(&pins->lock);
	__atomic_fetch_add(&device->stats.pins, 1, __ATOMIC_RELAXED);
	/* Only now: a drain that began before the pin was listed still waits for this section. */
	sn_read_end();
	return 0;
}

void snest_unpin(struct snest_pin *pin)
{
	struct sn_pin_link *link = pin_link(pin);
	struct snest_space *space = link->space;
	struct sn_pins *pins = &space->vm->shadow->pins;

	if (link->access & SNEST_WRITE)
		sn_dirty_mark(space, link->iova, link->gpa, link->length);
	pthread_mutex_lock(&pins->lock);
	*link->prev = link->next;
	if (link->next)
		link->next->prev = link->prev;
	else
		pins->newest = link->prev;
	pins->held--;
	if (pins->drains && !pins->queued &&
	    (!pins->oldest || pins->oldest->number > pins->drains->number)) {
		pins->queued = true;
		sn_reclaim_defer(&pins->vm->reclaim, &pins->node, drain_pins_gone);
	}
	pthread_mutex_unlock(&pins->lock);
	snest_space_put(space);
}

void sn_pins_mark_written(struct sn_pins *pins,
                          void (*mark)(struct snest_space *space, uint64_t iova, uint64_t gpa,
                                       uint64_t length))
{
	pthread_mutex_lock(&pins->lock);
	for (struct sn_pin_link *link = pins->oldest; link; link = link->next) {
		if (link->access & SNEST_WRITE)
			mark(link->space, link->iova, link->gpa, link->length);
	}
	pthread_mutex_unlock(&pins->lock);
}
