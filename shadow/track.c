/* SPDX-License-Identifier: MIT */
/*
 * Write tracking: what a sync tells, and what a notice does; see track.h.
 */
#include <errno.h>
#include "core/extensible.h"
#include "core/probe.h"
#include "shadow/mirror.h"
#include "shadow/shadow.h"
#include "shadow/sync.h"
#include "shadow/track.h"

#define BUCKETS_MIN 64u

/* Spaces that one notice serves without holding up the whole VM. */
#define SPACES_AT_ONCE 16u

/* Pages that a notice looks up one by one; of more, everything is re-read. */
#define PAGES_AT_ONCE 512u

/* ---- On and off ------------------------------------------------------------------ */

void sn_tracker_init(struct sn_tracker *tracker, struct snest_vm *vm)
{
	pthread_mutex_init(&tracker->lock, NULL);
	tracker->vm = vm;
	/* Where pages land in a hash is not for the guest to know. */
	tracker->seed = sn_track_hash((uintptr_t)tracker, sn_vm_now(vm));
	tracker->uses_max =
		vm->pool.bytes_max ? vm->pool.bytes_max / SN_TRACK_USE_BYTES : UINT64_MAX;
}

void sn_tracker_fini(struct sn_tracker *tracker)
{
	sn_vm_free(tracker->vm, tracker->bucket, sn_track_chains(tracker->buckets));
	pthread_mutex_destroy(&tracker->lock);
}

int snest_vm_track(struct snest_vm *vm, const struct snest_tracker *user)
{
	struct snest_tracker calls = {.protect = NULL};
	struct sn_shadow *shadow = sn_shadow(vm);
	struct sn_tracker *tracker;
	int ret = user ? SN_STRUCT_IN(&calls, user) : 0;

	if (ret)
		return ret;
	if (user && (!calls.protect || !calls.unprotect))
		return -EINVAL;
	if (!shadow)
		return -ENOMEM;
	tracker = &shadow->tracker;
	pthread_mutex_lock(&tracker->lock);
	if (tracker->spaces) {
		ret = -EBUSY;
	} else if (user && !tracker->bucket) {
		tracker->bucket = sn_vm_alloc(vm, sn_track_chains(BUCKETS_MIN));
		tracker->buckets = tracker->bucket ? BUCKETS_MIN : 0;
		ret = tracker->bucket ? 0 : -ENOMEM;
	}
	if (!ret)
		tracker->calls = calls;
	pthread_mutex_unlock(&tracker->lock);
	return ret;
}

static void free_track(struct sn_track *t)
{
	struct snest_vm *vm = t->tracker->vm;

	sn_vm_free(vm, t->by_page, sn_track_chains(t->buckets));
	sn_vm_free(vm, t->by_range, sn_track_chains(t->buckets));
	sn_vm_free(vm, t, sizeof(*t));
}

static int watch_table(struct sn_watch *watch, unsigned stage, unsigned level, uint64_t addr,
                       size_t length, unsigned shift);

int sn_track_begin(struct snest_space *space, struct sn_track **track)
{
	struct sn_tracker *tracker = &space->vm->shadow->tracker;
	uint64_t budget = space->graveyard.linked_max;
	struct sn_track *t = sn_vm_alloc(space->vm, sizeof(*t));
	bool on;

	if (!t)
		return -ENOMEM;
	t->tracker = tracker;
	t->space = space;
	t->watch.table = watch_table;
	t->count_max = budget < UINT64_MAX / 4096 ? budget * 4096 / SN_TRACK_USE_BYTES : UINT64_MAX;
	t->buckets = BUCKETS_MIN;
	t->by_page = sn_vm_alloc(space->vm, sn_track_chains(BUCKETS_MIN));
	t->by_range = sn_vm_alloc(space->vm, sn_track_chains(BUCKETS_MIN));
	if (!t->by_page || !t->by_range) {
		free_track(t);
		return -ENOMEM;
	}
	pthread_mutex_lock(&tracker->lock);
	on = tracker->calls.protect != NULL;
	tracker->spaces += on;
	pthread_mutex_unlock(&tracker->lock);
	if (!on) {
		free_track(t);
		t = NULL;
	}
	*track = t;
	return 0;
}

void sn_track_end(struct sn_track *t)
{
	struct sn_tracker *tracker;

	if (!t)
		return;
	tracker = t->tracker;
	for (uint64_t i = 0; i < t->buckets; i++) {
		while (t->by_page[i])
			sn_track_drop(t, t->by_page[i]);
	}
	free_track(t);
	pthread_mutex_lock(&tracker->lock);
	tracker->spaces--;
	pthread_mutex_unlock(&tracker->lock);
}

/* ---- Around a sync ----------------------------------------------------------------- */

void sn_track_sync_begin(struct sn_track *t, struct sn_sync *sync, uint64_t first, uint64_t last)
{
	t->sync = sync;
	t->number++;
	t->first = first;
	t->last = last;
	t->told_first = 1;
	t->told_last = 0;
}

static void drop_if_gone(struct sn_track *t, struct sn_use *use)
{
	if (use->met != t->number && sn_track_unserve(t, use, t->first, t->last))
		sn_track_drop(t, use);
}

void sn_track_sync_end(struct sn_track *t)
{
	sn_track_each(t, t->first, t->last, drop_if_gone);
	t->sync = NULL;
}

/* One report for a page that is tried again and again by one sync. */
static void tell_failure(struct sn_track *t, int error)
{
	const struct sn_watch *w = &t->watch;

	if (t->told_first <= w->first && w->last <= t->told_last)
		return;
	t->told_first = w->first;
	t->told_last = w->last;
	sn_sync_failed(t->sync, w->first, w->last, error);
}

static int watch_table(struct sn_watch *watch, unsigned stage, unsigned level, uint64_t addr,
                       size_t length, unsigned shift)
{
	struct sn_track *t = (void *)((char *)watch - offsetof(struct sn_track, watch));
	struct sn_use *use;
	int error;

	(void)level;
	(void)length;
	/* The host's own stage changes by the host's own doing. */
	if (stage >= t->space->guest_stages)
		return 0;
	use = sn_track_find(t, addr >> 12);
	if (!use) {
		use = sn_track_add(t, addr >> 12, &error);
		if (!use) {
			tell_failure(t, error);
			return error;
		}
	}
	if (use->met != t->number) {
		use->met = t->number;
		/* What it serves of the range is found anew by this sync. */
		sn_track_unserve(t, use, t->first, t->last);
	}
	sn_track_serve(t, use, addr & 4095, shift);
	return 0;
}

void sn_track_memory_changed(struct sn_track *t, uint64_t first, uint64_t last)
{
	for (uint64_t i = 0; i < t->buckets; i++) {
		struct sn_use *use, *next;

		for (use = t->by_page[i]; use; use = next) {
			next = use->next_by_page;
			if (use->page << 12 <= last && (use->page << 12 | 4095) >= first)
				sn_track_drop(t, use);
		}
	}
}

/* ---- Notices ------------------------------------------------------------------------- */

/* Re-reads what bytes first..last of memory serve in one space. */
static int space_written(struct snest_space *space, uint64_t first, uint64_t last)
{
	uint64_t page = first >> 12, page_last = last >> 12, from, to;
	struct sn_track *t;
	int ret = 0;

	pthread_mutex_lock(&space->lock);
	t = space->track;
	if (!t || !t->count)
		goto out;
	space->stats.notices++;
	if (page_last - page >= PAGES_AT_ONCE) {
		sn_space_note(space, 0, UINT64_MAX);
		ret = sn_mirror_sync(space, 0, UINT64_MAX);
		goto out;
	}
	for (; page <= page_last; page++) {
		const struct sn_use *use = sn_track_find(t, page);
		int one;

		if (!use || !sn_use_range(use, page == first >> 12 ? first & 4095 : 0,
		                          page == page_last ? last & 4095 : 4095, &from, &to))
			continue;
		sn_space_note(space, from, to);
		one = sn_mirror_sync(space, from, to);
		ret = ret ? ret : one;
	}
out:
	pthread_mutex_unlock(&space->lock);
	return ret;
}

/*
 * Lists the spaces that use pages of first..last, each with a reference taken,
 * at most SPACES_AT_ONCE. SPACES_AT_ONCE + 1: there are more, or too many pages
 * to look; none is referenced. Under shadow->lock.
 */
static unsigned find_spaces(struct sn_shadow *shadow, uint64_t first, uint64_t last,
                            struct snest_space **list)
{
	uint64_t page = first >> 12, page_last = last >> 12;
	struct sn_tracker *tracker = &shadow->tracker;
	unsigned count = 0;

	if (page_last - page >= PAGES_AT_ONCE)
		return SPACES_AT_ONCE + 1;
	pthread_mutex_lock(&tracker->lock);
	for (; page <= page_last && count <= SPACES_AT_ONCE; page++) {
		struct sn_tracked_page *p = sn_tracked_page(tracker, page);

		for (struct sn_use *use = p ? p->uses : NULL; use && count <= SPACES_AT_ONCE;
		     use = use->next_in_page) {
			struct snest_space *space = use->track->space;
			unsigned i = 0;

			while (i < count && list[i] != space)
				i++;
			/* Without references it is about to let go of its sink. */
			if (i < count || !space->references)
				continue;
			if (count < SPACES_AT_ONCE)
				list[count] = space;
			count++;
		}
	}
	pthread_mutex_unlock(&tracker->lock);
	for (unsigned i = 0; i < count && count <= SPACES_AT_ONCE; i++)
		list[i]->references++;
	return count;
}

int snest_table_written(struct snest_vm *vm, uint64_t gpa, uint64_t length)
{
	struct sn_shadow *shadow = __atomic_load_n(&vm->shadow, __ATOMIC_ACQUIRE);
	struct snest_space *list[SPACES_AT_ONCE];
	uint64_t last = gpa + (length - 1);
	unsigned count;
	int ret = 0, one;

	if (!length || last < gpa)
		return -EINVAL;
	if (!shadow)
		return 0;
	if (__atomic_load_n(&shadow->tracker.caller, __ATOMIC_RELAXED) ==
	    (uint64_t)(uintptr_t)pthread_self())
		return -EDEADLK;
	SN_PROBE3(notice, vm, gpa, length);
	pthread_mutex_lock(&shadow->lock);
	count = find_spaces(shadow, gpa, last, list);
	if (count > SPACES_AT_ONCE) {
		for (struct snest_space *space = shadow->spaces; space; space = space->next) {
			one = space_written(space, gpa, last);
			ret = ret ? ret : one;
		}
		count = 0;
	}
	pthread_mutex_unlock(&shadow->lock);
	for (unsigned i = 0; i < count; i++) {
		one = space_written(list[i], gpa, last);
		ret = ret ? ret : one;
		snest_space_put(list[i]);
	}
	return ret;
}
