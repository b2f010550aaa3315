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

static struct sn_pin_link *pin_link(struct snest_pin *pin)
{
	return (struct sn_pin_link *)(void *)pin->private_;
}

void sn_pins_init(struct sn_pins *pins)
{
	memset(pins, 0, sizeof(*pins));
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

		SN_PROBE1(drain, drain->number);
		/* The node is the caller's again from here on. */
		drain->done(drain->opaque);
		drain = next;
	}
}

/* On the reclaim thread, a grace period after the drain began. */
static void drain_readers_gone(struct sn_reclaim_node *node)
{
	struct sn_drain_link *drain = (struct sn_drain_link *)(void *)node;
	struct sn_shadow *shadow = drain->vm->shadow;
	struct sn_pins *pins = &shadow->pins;
	struct sn_drain_link *ready;

	pthread_mutex_lock(&pins->lock);
	drain->number = pins->number;
	drain->next = NULL;
	*pins->drains_tail = drain;
	pins->drains_tail = &drain->next;
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
	sn_reclaim_defer(&vm->reclaim, &drain->node, drain_readers_gone);
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

/* Takes a drain off the list of those that wait for pins. False: it is being finished. */
static bool withdraw(struct sn_pins *pins, const struct sn_drain_link *drain)
{
	struct sn_drain_link **at = &pins->drains;

	while (*at && *at != drain)
		at = &(*at)->next;
	if (!*at)
		return false;
	*at = drain->next;
	if (!*at)
		pins->drains_tail = at;
	return true;
}

static void report_pin(struct snest_vm *vm, const struct sn_pin_link *pin)
{
	sn_log(vm, SNEST_LOG_WARNING,
	       "a pin of rid %" PRIx32 " at IOVA 0x%" PRIx64 ", held for %" PRIu64
	       " ms, keeps a drain from completing",
	       pin->rid, pin->iova, (sn_vm_now(vm) - pin->born_ns) / 1000000);
}

int snest_drain(struct snest_vm *vm, uint64_t timeout_ns)
{
	struct waiter w = { .done = false };
	struct sn_shadow *shadow = sn_shadow(vm);
	pthread_condattr_t attr;
	struct snest_drain node;
	struct timespec until;
	bool was_online;
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
	until.tv_sec += (time_t)(timeout_ns / 1000000000);
	until.tv_nsec += (long)(timeout_ns % 1000000000);
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}

	snest_drain_async(vm, &node, waiter_done, &w);
	was_online = sn_rcu_sleep_begin();
	pthread_mutex_lock(&w.lock);
	while (!w.done) {
		if (!timeout_ns || ret) {
			pthread_cond_wait(&w.cond, &w.lock);
		} else if (pthread_cond_timedwait(&w.cond, &w.lock, &until) == ETIMEDOUT &&
		           !w.done) {
			struct sn_pins *pins = &shadow->pins;

			pthread_mutex_lock(&pins->lock);
			if (withdraw(pins, (struct sn_drain_link *)(void *)node.private_)) {
				ret = -ETIME;
				w.done = true;
				if (pins->oldest)
					report_pin(vm, pins->oldest);
			}
			pthread_mutex_unlock(&pins->lock);
			/* Not there: readers are still going, or it is just completing. Wait on. */
			timeout_ns = ret ? timeout_ns : 0;
		}
	}
	pthread_mutex_unlock(&w.lock);
	sn_rcu_sleep_end(was_online);
	pthread_cond_destroy(&w.cond);
	pthread_mutex_destroy(&w.lock);
	return ret;
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
	ret = space ? sn_space_fill(space, iova, access, &fill, fault) : -EACCES;
	if (!ret && !sn_space_ref(space)) {
		/* Its last device let go of it a moment ago. */
		if (fault)
			*fault = (struct snest_fault){ .reason = SNEST_FAULT_BLOCKED,
			                               .iova = iova };
		ret = -EACCES;
	}
	if (ret) {
		sn_read_end();
		pin->translation = (struct snest_translation){ .outcome = SNEST_WALK_FAULT };
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
	pthread_mutex_unlock(&pins->lock);
	/* Only now: a drain that began before the pin was listed still waits for this section. */
	sn_read_end();
	return 0;
}

void snest_unpin(struct snest_pin *pin)
{
	struct sn_pin_link *link = pin_link(pin);
	struct snest_space *space = link->space;
	struct sn_pins *pins = &space->vm->shadow->pins;
	struct sn_drain_link *ready;

	if (link->access & SNEST_WRITE)
		sn_dirty_mark(space, link->iova, link->gpa, link->length);
	pthread_mutex_lock(&pins->lock);
	*link->prev = link->next;
	if (link->next)
		link->next->prev = link->prev;
	else
		pins->newest = link->prev;
	ready = completed(pins);
	pthread_mutex_unlock(&pins->lock);
	finish(ready);
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
