/* SPDX-License-Identifier: MIT */
/*
 * Invalidations of spaces without mirror: leaves go, one command at a time or all
 * at once, and are filled again without being timed.
 */
#include "bench/sync.h"

/*
 * What the shadow holds is dropped, command after command; filled again without
 * being timed.
 */
static void run_drop(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t n = s->span == 1 ? SYNC_BLOCK : 4, seed = 1, start;
	uint64_t slots = s->guest->shape.leaves / s->span;

	(void)arg;
	while (gb_next(run, n)) {
		uint64_t first = slots > n ? random_below(&seed, slots - n) * s->span : 0;

		for (uint64_t i = first; i < first + n * s->span; i++) {
			struct snest_translation t;

			snest_read_begin();
			snest_translate(s->guest->device, guest_iova(s->guest, i), RW, &t, NULL);
			snest_read_end();
		}
		start = now_ns();
		for (uint64_t i = 0; i < n; i++)
			command(s, first + i * s->span);
		gb_manual(run, now_ns() - start);
	}
}

/* Pages that no device used since they were mapped: there is nothing to drop. */
static void run_absent(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;

	snest_space_invalidate(s->guest->space, 0, UINT64_MAX, 0);
	sync_run_unchanged(run, group, arg);
}

/*
 * The whole shadow goes. One page of each table is filled before: as many tables
 * as if all were. Nothing is being freed when it goes, which is the worst case:
 * the thread that frees sleeps.
 */
static void run_drop_space(struct gb_run *run, void *group, uint64_t arg)
{
	struct sync *s = group;
	uint64_t start;

	(void)arg;
	while (gb_next(run, 1)) {
		for (uint64_t i = 0; i < s->guest->shape.leaves; i += 512) {
			struct snest_translation t;

			snest_read_begin();
			snest_translate(s->guest->device, i * PAGE, RW, &t, NULL);
			snest_read_end();
		}
		start = now_ns();
		snest_space_invalidate(s->guest->space, 0, UINT64_MAX, 0);
		gb_manual(run, now_ns() - start);
		guest_settle(s->guest);
	}
}

/* ---- Groups ------------------------------------------------------------------------- */

static const struct gb_member drop_members[] = {
	{"compare", GB_LIMIT, .run = sync_run_compare},
	{"drop", .flags = GB_MANUAL, .run = run_drop},
	{"nothing there", .run = run_absent},
};

/* Filling them again takes long. */
static const struct gb_member drop_many_members[] = {
	{"compare", GB_LIMIT, .run = sync_run_compare},
	{"drop", .flags = GB_MANUAL, .iterations = 64, .run = run_drop},
	{"nothing there", .run = run_absent},
};

static const struct gb_member drop_most_members[] = {
	{"compare", GB_LIMIT, .run = sync_run_compare},
	{"drop", .flags = GB_MANUAL, .iterations = 4, .run = run_drop},
	{"nothing there", .run = run_absent},
};

static const struct gb_member drop_space_members[] = {
	/* What is timed is a small part of it all. */
	{"drop", .flags = GB_MANUAL, .iterations = 50, .run = run_drop_space},
};

static const struct gb_member drop_large_members[] = {
	{"drop", .flags = GB_MANUAL, .iterations = 8, .run = run_drop_space},
};

static void add_drop(struct gb_suite *suite, const char *name, uint64_t span)
{
	sync_add_group(suite, name, (uint64_t[4]){MIB, span, SCATTERED, 0}, sync_setup_unmirrored,
	               span > 512 ? drop_most_members
	               : span > 1 ? drop_many_members
	                          : drop_members,
	               3);
}

void sync_drop_add(struct gb_suite *suite)
{
	static const uint64_t sizes[] = {KIB, 64 * KIB, MIB, 16 * MIB};

	for (unsigned i = 0; i < 4; i++)
		sync_add_group(suite, "unmirrored space", (uint64_t[4]){sizes[i], 1, SCATTERED, 0},
		               sync_setup_unmirrored,
		               sizes[i] > MIB ? drop_large_members : drop_space_members, 1);
	add_drop(suite, "drop 1 page", 1);
	add_drop(suite, "drop 256 pages", 256);
	add_drop(suite, "drop 2M", 512);
	if (!gb_quick(suite))
		add_drop(suite, "drop 1G", 262144);
}
