/* SPDX-License-Identifier: MIT */
/*
 * One space's uses, found by page and by the IOVAs that they serve, and the
 * VM's pages with their protection; see track.h.
 *
 * By range a use lies in the smallest aligned block that holds all it serves.
 * A range is searched size by size, in the few sizes that occur: tables of one
 * format serve blocks of as many sizes as it has levels.
 */
#include <errno.h>
#include "shadow/shadow.h"
#include "shadow/space.h"
#include "shadow/track.h"

/* ---- Places ----------------------------------------------------------------- */

static struct sn_use **page_chain(const struct sn_track *t, uint64_t page)
{
	return &t->by_page[sn_track_hash(t->tracker->seed, page) & (t->buckets - 1)];
}

static struct sn_use **block_chain(const struct sn_track *t, unsigned lg2, uint64_t block)
{
	uint64_t key = block * 67 + lg2;

	return &t->by_range[sn_track_hash(t->tracker->seed, key) & (t->buckets - 1)];
}

static uint64_t block_of(uint64_t iova, unsigned lg2)
{
	return lg2 < 64 ? iova >> lg2 : 0;
}

static void link_by_range(struct sn_track *t, struct sn_use *use)
{
	struct sn_use **head = block_chain(t, use->block_lg2, use->block);

	use->next_by_range = *head;
	use->prev_by_range = head;
	if (*head)
		(*head)->prev_by_range = &use->next_by_range;
	*head = use;
}

static void unlink_by_range(struct sn_track *t, struct sn_use *use)
{
	if (use->block_lg2 == SN_USE_NOWHERE)
		return;
	*use->prev_by_range = use->next_by_range;
	if (use->next_by_range)
		use->next_by_range->prev_by_range = use->prev_by_range;
	t->blocks[use->block_lg2]--;
	use->block_lg2 = SN_USE_NOWHERE;
}

/* Puts a use that serves something where it belongs by range. */
static void place(struct sn_track *t, struct sn_use *use)
{
	uint64_t differ = use->first ^ use->last;
	unsigned lg2 = differ >> 12 ? 64 - (unsigned)__builtin_clzll(differ) : 12;
	uint64_t block = block_of(use->first, lg2);

	if (use->block_lg2 == lg2 && use->block == block)
		return;
	unlink_by_range(t, use);
	use->block_lg2 = (uint8_t)lg2;
	use->block = block;
	t->blocks[lg2]++;
	link_by_range(t, use);
}

/* Twice as many chains, if there is memory; longer chains if not. */
static void grow(struct sn_track *t)
{
	struct snest_vm *vm = t->tracker->vm;
	uint64_t old = t->buckets, more = old * 2;
	struct sn_use **by_page = sn_vm_alloc(vm, sn_track_chains(more));
	struct sn_use **by_range = sn_vm_alloc(vm, sn_track_chains(more));
	struct sn_use **old_page = t->by_page, **old_range = t->by_range;

	if (!by_page || !by_range) {
		sn_vm_free(vm, by_page, sn_track_chains(more));
		sn_vm_free(vm, by_range, sn_track_chains(more));
		return;
	}
	t->by_page = by_page;
	t->by_range = by_range;
	t->buckets = more;
	for (uint64_t i = 0; i < old; i++) {
		struct sn_use *use, *next;

		for (use = old_page[i]; use; use = next) {
			struct sn_use **head = page_chain(t, use->page);

			next = use->next_by_page;
			use->next_by_page = *head;
			*head = use;
			if (use->block_lg2 != SN_USE_NOWHERE)
				link_by_range(t, use);
		}
	}
	sn_vm_free(vm, old_page, sn_track_chains(old));
	sn_vm_free(vm, old_range, sn_track_chains(old));
}

/* ---- Pages of the VM ------------------------------------------------------------ */

static struct sn_tracked_page **vm_chain(const struct sn_tracker *tracker, uint64_t page)
{
	return &tracker->bucket[sn_track_hash(tracker->seed, page) & (tracker->buckets - 1)];
}

struct sn_tracked_page *sn_tracked_page(const struct sn_tracker *tracker, uint64_t page)
{
	struct sn_tracked_page *p = tracker->bucket ? *vm_chain(tracker, page) : NULL;

	while (p && p->page != page)
		p = p->next;
	return p;
}

static void grow_pages(struct sn_tracker *tracker)
{
	uint64_t old = tracker->buckets, more = old * 2;
	struct sn_tracked_page **bucket = sn_vm_alloc(tracker->vm, sn_track_chains(more));
	struct sn_tracked_page **old_bucket = tracker->bucket, *p, *next;

	if (!bucket)
		return;
	tracker->bucket = bucket;
	tracker->buckets = more;
	for (uint64_t i = 0; i < old; i++) {
		for (p = old_bucket[i]; p; p = next) {
			struct sn_tracked_page **head = vm_chain(tracker, p->page);

			next = p->next;
			p->next = *head;
			*head = p;
		}
	}
	sn_vm_free(tracker->vm, old_bucket, sn_track_chains(old));
}

static uint64_t self(void)
{
	return (uint64_t)(uintptr_t)pthread_self();
}

static int protect(struct sn_tracker *tracker, uint64_t page)
{
	int ret;

	__atomic_store_n(&tracker->caller, self(), __ATOMIC_RELAXED);
	ret = tracker->calls.protect(tracker->calls.opaque, page << 12, 4096);
	__atomic_store_n(&tracker->caller, 0, __ATOMIC_RELAXED);
	return ret;
}

static void unprotect(struct sn_tracker *tracker, uint64_t page)
{
	__atomic_store_n(&tracker->caller, self(), __ATOMIC_RELAXED);
	tracker->calls.unprotect(tracker->calls.opaque, page << 12, 4096);
	__atomic_store_n(&tracker->caller, 0, __ATOMIC_RELAXED);
}

static void link_in_page(struct sn_tracked_page *p, struct sn_use *use)
{
	use->in = p;
	use->next_in_page = p->uses;
	use->prev_in_page = &p->uses;
	if (p->uses)
		p->uses->prev_in_page = &use->next_in_page;
	p->uses = use;
}

/* Removes a page without uses. */
static void remove_page(struct sn_tracker *tracker, struct sn_tracked_page *p)
{
	struct sn_tracked_page **at = vm_chain(tracker, p->page);

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	tracker->count--;
	sn_vm_free(tracker->vm, p, sizeof(*p));
}

/* Lists the use, then protects its page: in this order. Under tracker->lock. */
static int hold_page(struct sn_tracker *tracker, struct sn_use *use)
{
	struct sn_tracked_page *p = sn_tracked_page(tracker, use->page), **head;
	int ret;

	if (tracker->uses >= tracker->uses_max)
		return -ENOSPC;
	if (p) {
		link_in_page(p, use);
		tracker->uses++;
		return 0;
	}
	p = sn_vm_alloc(tracker->vm, sizeof(*p));
	if (!p)
		return -ENOMEM;
	if (tracker->count >= tracker->buckets)
		grow_pages(tracker);
	head = vm_chain(tracker, use->page);
	p->page = use->page;
	p->next = *head;
	*head = p;
	tracker->count++;
	link_in_page(p, use);
	ret = protect(tracker, use->page);
	if (ret) {
		remove_page(tracker, p);
		return ret < 0 ? ret : -EIO;
	}
	tracker->uses++;
	return 0;
}

static void release_page(struct sn_tracker *tracker, struct sn_use *use)
{
	struct sn_tracked_page *p = use->in;

	*use->prev_in_page = use->next_in_page;
	if (use->next_in_page)
		use->next_in_page->prev_in_page = use->prev_in_page;
	tracker->uses--;
	if (p->uses)
		return;
	remove_page(tracker, p);
	unprotect(tracker, use->page);
}

/* ---- Uses ------------------------------------------------------------------------- */

struct sn_use *sn_track_find(const struct sn_track *t, uint64_t page)
{
	struct sn_use *use = *page_chain(t, page);

	while (use && use->page != page)
		use = use->next_by_page;
	return use;
}

struct sn_use *sn_track_add(struct sn_track *t, uint64_t page, int *error)
{
	struct snest_vm *vm = t->tracker->vm;
	struct sn_use **head, *use;

	*error = -ENOSPC;
	if (t->count >= t->count_max)
		return NULL;
	*error = -ENOMEM;
	use = sn_vm_alloc(vm, sizeof(*use));
	if (!use)
		return NULL;
	if (t->count >= t->buckets)
		grow(t);
	use->page = page;
	use->track = t;
	use->first = 1;
	use->block_lg2 = SN_USE_NOWHERE;

	pthread_mutex_lock(&t->tracker->lock);
	*error = hold_page(t->tracker, use);
	pthread_mutex_unlock(&t->tracker->lock);
	if (*error) {
		sn_vm_free(vm, use, sizeof(*use));
		return NULL;
	}
	head = page_chain(t, page);
	use->next_by_page = *head;
	*head = use;
	t->count++;
	return use;
}

void sn_track_drop(struct sn_track *t, struct sn_use *use)
{
	struct sn_use **at = page_chain(t, use->page);

	while (*at != use)
		at = &(*at)->next_by_page;
	*at = use->next_by_page;
	unlink_by_range(t, use);
	t->count--;
	pthread_mutex_lock(&t->tracker->lock);
	release_page(t->tracker, use);
	pthread_mutex_unlock(&t->tracker->lock);
	sn_vm_free(t->tracker->vm, use, sizeof(*use));
}

bool sn_track_unserve(struct sn_track *t, struct sn_use *use, uint64_t first, uint64_t last)
{
	if (use->first > use->last)
		return true;
	if (first <= use->first && last >= use->last) {
		use->first = 1;
		use->last = 0;
		return true;
	}
	if (first <= use->first && last >= use->first)
		use->first = last + 1;
	else if (first <= use->last && last >= use->last)
		use->last = first - 1;
	else
		return false;
	place(t, use);
	return false;
}

void sn_track_serve(struct sn_track *t, struct sn_use *use, unsigned offset, unsigned shift)
{
	const struct sn_watch *watch = &t->watch;
	uint64_t base = 0;

	if (shift != SN_WATCH_SPREAD)
		base = watch->base - ((uint64_t)(offset >> watch->entry_lg2) << shift);
	if (use->first > use->last) {
		use->first = watch->first;
		use->last = watch->last;
		use->base = base;
		use->shift = (uint8_t)shift;
		use->entry_lg2 = watch->entry_lg2;
	} else {
		if (watch->first < use->first)
			use->first = watch->first;
		if (watch->last > use->last)
			use->last = watch->last;
		if (use->shift != shift || use->base != base || use->entry_lg2 != watch->entry_lg2)
			use->shift = SN_WATCH_SPREAD;
	}
	place(t, use);
}

bool sn_use_range(const struct sn_use *use, unsigned from, unsigned to, uint64_t *first,
                  uint64_t *last)
{
	/* As distances from base, which do not wrap where IOVAs may. */
	uint64_t low = use->first - use->base, high = use->last - use->base;
	uint64_t i, most;

	*first = use->first;
	*last = use->last;
	if (use->first > use->last)
		return false;
	if (use->shift == SN_WATCH_SPREAD)
		return true;
	most = UINT64_MAX >> use->shift;
	i = from >> use->entry_lg2;
	if (i > most || i << use->shift > high)
		return false;
	if (i << use->shift > low)
		low = i << use->shift;
	i = (to >> use->entry_lg2) + 1;
	if (i <= most && (i << use->shift) - 1 < high)
		high = (i << use->shift) - 1;
	*first = use->base + low;
	*last = use->base + high;
	return low <= high;
}

static void each_in_chain(struct sn_track *t, struct sn_use *use,
                          void (*fn)(struct sn_track *track, struct sn_use *use))
{
	while (use) {
		struct sn_use *next = use->next_by_range;

		fn(t, use);
		use = next;
	}
}

void sn_track_each(struct sn_track *t, uint64_t first, uint64_t last,
                   void (*fn)(struct sn_track *track, struct sn_use *use))
{
	uint64_t steps = 0;

	for (unsigned lg2 = 12; lg2 <= 64; lg2++) {
		if (t->blocks[lg2])
			steps += block_of(last, lg2) - block_of(first, lg2) + 1;
	}
	if (steps >= t->buckets) {
		for (uint64_t i = 0; i < t->buckets; i++)
			each_in_chain(t, t->by_range[i], fn);
		return;
	}
	for (unsigned lg2 = 12; lg2 <= 64; lg2++) {
		uint64_t to = block_of(last, lg2);

		if (!t->blocks[lg2])
			continue;
		for (uint64_t block = block_of(first, lg2); block <= to; block++)
			each_in_chain(t, *block_chain(t, lg2, block), fn);
	}
}
