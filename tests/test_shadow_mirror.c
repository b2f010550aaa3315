/* SPDX-License-Identifier: MIT */
/*
 * Mirrors: after each completed invalidation the sink equals the guest's
 * tables, page by page; nothing that did not change was unmapped on the way;
 * and when a sink refuses, the shadow still says what the sink holds.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/guest.h"
#include "support/model.h"
#include "support/sink.h"

#define STEPS 150
#define ALL UINT64_MAX

struct run {
	struct guest guest;
	struct sink sink;
	struct snest_space *space;
	const char *what;
};

static struct run run;
static struct sink before;

static void run_init(const struct guest_options *o, uint32_t sink_flags, uint64_t table_bytes_max,
                     const char *what)
{
	guest_init(&run.guest, o);
	sink_init(&run.sink, sink_flags);
	run.what = what;
	run.space = guest_space(&run.guest, (struct snest_tag){7, 1}, SNEST_SPACE_ANNOUNCED,
	                        table_bytes_max);
}

static void run_fini(void)
{
	snest_space_put(run.space);
	assert_int_equal(run.sink.count, 0);
	guest_fini(&run.guest);
}

/* ---- What should be there ----------------------------------------------------- */

/* What the sink should hold for one page; rights 0: nothing. */
static struct sink_map wanted(uint64_t iova)
{
	struct sink_map want = {iova, iova | 4095, 0, 0};
	struct guest_answer a;

	guest_answer(&run.guest, iova, false, &a);
	if (a.memory) {
		want.host = a.host;
		want.rights = a.rights & (SNEST_READ | SNEST_WRITE);
	}
	return want;
}

static struct sink_map held(const struct sink *s, uint64_t iova)
{
	struct sink_map page = {iova, iova | 4095, 0, 0};
	const struct sink_map *map = sink_find(s, iova);

	if (map) {
		page.host = map->host + (iova - map->first);
		page.rights = map->rights;
	}
	return page;
}

static bool same(struct sink_map a, struct sink_map b)
{
	return a.rights == b.rights && (!a.rights || a.host == b.host);
}

/* Calls fn for every page of every window. */
static void each_page(void (*fn)(uint64_t iova))
{
	const struct guest_table *t = &run.guest.table[0];

	for (unsigned i = 0; i < t->windows; i++) {
		for (uint64_t at = t->window[i].first;; at += 4096) {
			fn(at);
			if (t->window[i].last - at < 4096)
				break;
		}
	}
}

static uint64_t wanted_bytes;

static void check_page(uint64_t iova)
{
	struct sink_map want = wanted(iova), have = held(&run.sink, iova);

	wanted_bytes += want.rights ? 4096 : 0;
	if (!same(want, have))
		fail_msg("%s: at 0x%" PRIx64 " the sink has 0x%" PRIx64
		         " rights %u, should have 0x%" PRIx64 " rights %u",
		         run.what, iova, have.host, have.rights, want.host, want.rights);
}

static int check_run(void *opaque, const struct snest_run *r)
{
	uint64_t *bytes = opaque;

	if (r->outcome != SNEST_WALK_HOST || !(r->rights & 3))
		return 0;
	*bytes += r->last - r->first + 1;
	for (uint64_t at = r->first;; at += 4096) {
		struct sink_map page = {at, at | 4095, r->addr + (at - r->first), r->rights & 3};

		if (!same(page, held(&run.sink, at)))
			fail_msg("%s: a fresh walk and the sink differ at 0x%" PRIx64, run.what,
			         at);
		if (r->last - at < 4096)
			return 0;
	}
}

/* The shadow says what the sink holds; it may leave out what the sink refuses to let go. */
static int check_shadow_run(void *opaque, const struct snest_run *r)
{
	uint64_t *bytes = opaque;

	*bytes += r->last - r->first + 1;
	for (uint64_t at = r->first;; at += 4096) {
		struct sink_map page = {at, at | 4095, r->addr + (at - r->first), r->rights & 3};

		if (!same(page, held(&run.sink, at)))
			fail_msg("%s: the shadow and the sink differ at 0x%" PRIx64, run.what, at);
		if (r->last - at < 4096)
			return 0;
	}
}

static void check_shadow(void)
{
	uint64_t bytes = 0;

	assert_int_equal(snest_space_enumerate(run.space, 0, ALL, check_shadow_run, &bytes), 0);
	if (bytes != sink_bytes(&run.sink)) {
		for (unsigned i = 0; i < run.sink.refused_count; i++)
			bytes += run.sink.refused[i].last - run.sink.refused[i].first + 1;
		if (bytes < sink_bytes(&run.sink))
			fail_msg("%s: the sink holds more than the shadow knows", run.what);
	}
}

/* The sink equals what the cells say and what a fresh walk finds, everywhere. */
static void check_all(void)
{
	struct snest_walk_range range = {.size = sizeof(range), .last = ALL};
	uint64_t bytes = 0;

	wanted_bytes = 0;
	each_page(check_page);
	if (wanted_bytes != sink_bytes(&run.sink))
		fail_msg("%s: the sink has 0x%" PRIx64 " bytes, should have 0x%" PRIx64, run.what,
		         sink_bytes(&run.sink), wanted_bytes);
	assert_int_equal(snest_walk_range(run.guest.vm, run.guest.list, run.guest.stages, &range,
	                                  check_run, &bytes),
	                 0);
	assert_true(bytes == wanted_bytes);
	check_shadow();
}

/* ---- What may be touched -------------------------------------------------------- */

static uint64_t changed_bytes;

static void count_changed(uint64_t iova)
{
	struct sink_map old = held(&before, iova);

	if (old.rights && !same(old, wanted(iova)))
		changed_bytes += 4096;
}

/*
 * Against the copy from before: a sink that can split had exactly the
 * difference unmapped, any other only maps of which some part changed.
 */
static void check_touched(void)
{
	changed_bytes = 0;
	each_page(count_changed);
	if (run.sink.sink.flags & SNEST_SINK_CAN_SPLIT) {
		if (run.sink.unmapped_bytes != changed_bytes)
			fail_msg("%s: %" PRIu64 " bytes unmapped, %" PRIu64 " changed", run.what,
			         run.sink.unmapped_bytes, changed_bytes);
		return;
	}
	for (unsigned i = 0; i < run.sink.unmapped_count; i++) {
		const struct sink_map *map = &run.sink.unmapped[i];
		bool changed = false;

		for (uint64_t at = map->first; !changed; at += 4096) {
			changed = !same(held(&before, at), wanted(at));
			if (map->last - at < 4096)
				break;
		}
		if (!changed)
			fail_msg("%s: 0x%" PRIx64 " - 0x%" PRIx64
			         " was unmapped and had not changed",
			         run.what, map->first, map->last);
	}
}

static void remember(void)
{
	sink_copy(&before, &run.sink);
	sink_reset(&run.sink);
}

/* ---- Random guests ----------------------------------------------------------------- */

static int invalidate(struct guest_change change)
{
	if (change.stage)
		return snest_space_invalidate(run.space, 0, ALL, 0);
	if (test_below(&run.guest.random, 8) == 0)
		return snest_space_invalidate(run.space, 1, 0, 0);
	return snest_space_invalidate(run.space, change.first, change.last, 0);
}

static void drive(const struct guest_options *o, uint32_t sink_flags, bool memory, const char *what)
{
	bool logging = false;
	unsigned steps = STEPS;

	run_init(o, sink_flags, 0, what);
	for (unsigned i = 0; i < 20; i++)
		guest_step(&run.guest);
	assert_int_equal(snest_space_mirror(run.space, &run.sink.sink), 0);
	check_all();
	while (steps--) {
		struct guest_change change;

		remember();
		if (memory && test_below(&run.guest.random, 8) == 0) {
			guest_memory_step(&run.guest);
			check_all();
			continue;
		}
		/* Withholds rights from lookups, which is not the sink's business. */
		if (test_below(&run.guest.random, 16) == 0) {
			assert_int_equal(logging ? snest_dirty_stop(run.guest.vm)
			                         : snest_dirty_start(run.guest.vm),
			                 0);
			logging = !logging;
		}
		change = guest_step(&run.guest);
		assert_int_equal(invalidate(change), 0);
		/* An unmap of whole leaves may reach beyond what it names. */
		if (change.stage == 0)
			assert_int_equal(snest_space_invalidate(run.space,
			                                        change.first & ~0x3fffffffull,
			                                        change.last | 0x3fffffff, 0),
			                 0);
		check_all();
		check_touched();
	}
	assert_int_equal(snest_space_unmirror(run.space), 0);
	assert_int_equal(run.sink.count, 0);
	run_fini();
}

static const uint32_t sink_kinds[] = {0, SNEST_SINK_CAN_SPLIT};

static void test_every_format(void **state)
{
	(void)state;
	for (size_t i = 0; i < test_configs_count; i++) {
		const struct snest_stage *stage = &test_configs[i].stage;
		struct guest_options o = {.config = {&test_configs[i]}, .seed = i};

		/* Big pages make big models; ignored top bytes make 256 copies of everything. */
		if (stage->format >= SNEST_FORMAT_COUNT || stage->granule_lg2 > 14 ||
		    stage->granule_high_lg2 > 14 ||
		    (stage->format == SNEST_FORMAT_ARM_S1 &&
		     (stage->flags & (SNEST_STAGE_ARM_TBI0 | SNEST_STAGE_ARM_TBI1))))
			continue;
		drive(&o, sink_kinds[i % 2], i % 4 < 2, test_configs[i].name);
	}
}

static void test_announcing_formats(void **state)
{
	static const char *const names[] = {"vtd-ss 3 levels", "vtd-ss 4 levels", "vtd-ss no 2M",
	                                    "x86-64 4 levels", "amd-v1 mode 4",   "amd-v1 mode 6"};

	(void)state;
	for (size_t i = 0; i < 16 * sizeof(names) / sizeof(names[0]); i++) {
		struct guest_options o = {.config = {guest_config(names[i / 16])},
		                          .host_skew = i & 4 ? 0x3000 : 0,
		                          .one_region = i & 8,
		                          .seed = 1000 + i};

		drive(&o, sink_kinds[i % 2], i & 2, names[i / 16]);
	}
}

static void test_two_stages(void **state)
{
	static const char *const names[][3] = {
		{"x86-64 4 levels", "vtd-ss 4 levels"},
		{"amd-v2 4 levels", "amd-v1 mode 4"},
		{"x86-64 4 levels", "arm-s2 4K 48", "vtd-ss 4 levels"},
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
		struct guest_options o = {.seed = 2000 + i};

		for (unsigned k = 0; k < 3; k++)
			o.config[k] = names[i / 2][k] ? guest_config(names[i / 2][k]) : NULL;
		drive(&o, sink_kinds[i % 2], true, names[i / 2][0]);
	}
}

/* ---- Parts of what changed ------------------------------------------------------------- */

static struct model model;

static void check_allowed(uint64_t iova)
{
	struct sink_map have = held(&run.sink, iova);

	if (!model_allows_mirror(&model, iova, have.host, have.rights))
		fail_msg("%s: at 0x%" PRIx64 " the sink has 0x%" PRIx64
		         " rights %u, which is stale",
		         run.what, iova, have.host, have.rights);
}

/* The guest names a part of what it changed, or some other place. */
static void invalidate_part(struct guest_change change)
{
	struct test_random *random = &run.guest.random;
	uint64_t first = change.first, last = change.last;

	if (change.stage || test_below(random, 16) == 0) {
		first = 0;
		last = ALL;
	} else if (test_below(random, 4) == 0) {
		first = last = guest_iova(&run.guest);
	} else if (test_below(random, 2)) {
		first += test_below(random, last - first + 1);
		last = first + test_below(random, last - first + 1);
	}
	assert_int_equal(snest_space_invalidate(run.space, first, last, 0), 0);
	model_invalidate(&model, first, last);
}

static void drive_parts(const struct guest_options *o, uint32_t sink_flags, const char *what)
{
	run_init(o, sink_flags, 0, what);
	assert_int_equal(snest_space_mirror(run.space, &run.sink.sink), 0);
	model_init(&model, &run.guest, what);
	for (unsigned i = 0; i < STEPS; i++) {
		struct guest_change change = guest_step(&run.guest);

		model_refresh(&model);
		if (test_below(&run.guest.random, 2))
			invalidate_part(change);
		each_page(check_allowed);
		check_shadow();
	}
	assert_int_equal(snest_space_invalidate(run.space, 0, ALL, 0), 0);
	check_all();
	model_fini(&model);
	run_fini();
}

static void test_parts_of_what_changed(void **state)
{
	static const char *const names[][2] = {
		{"vtd-ss 3 levels"}, {"x86-64 4 levels"},
		{"amd-v1 mode 4"},   {"arm-s1 16K 48 and 47"},
		{"vtd-ss 4 levels"}, {"x86-64 4 levels", "vtd-ss 4 levels"},
		{"riscv64 Sv39"},    {"amd-v2 4 levels", "amd-v1 mode 4"},
	};

	(void)state;
	for (size_t i = 0; i < 8 * sizeof(names) / sizeof(names[0]); i++) {
		struct guest_options o = {
			.host_skew = i & 2 ? 0x3000 : 0, .one_region = i & 4, .seed = 4000 + i};

		for (unsigned k = 0; k < 2 && names[i / 8][k]; k++)
			o.config[k] = guest_config(names[i / 8][k]);
		drive_parts(&o, sink_kinds[i % 2], names[i / 8][0]);
	}
}

/* Operations fail at random; the shadow knows what the sink holds, and recovers. */
static void fail_at_random(const char *name, uint32_t sink_flags, uint64_t seed)
{
	struct guest_options o = {.config = {guest_config(name)}, .seed = seed};
	struct test_random *random = &run.guest.random;

	run_init(&o, sink_flags, 0, name);
	assert_int_equal(snest_space_mirror(run.space, &run.sink.sink), 0);
	for (unsigned i = 0; i < STEPS; i++) {
		struct guest_change change = guest_step(&run.guest);
		uint64_t failures = run.sink.failures;
		int ret;

		run.sink.fail_in = test_below(random, 2) ? 1 + test_below(random, 8) : 0;
		run.sink.fail_every = test_below(random, 4) ? 0 : 1 + test_below(random, 8);
		ret = snest_space_invalidate(run.space, change.first & ~0x3fffffffull,
		                             change.last | 0x3fffffff, 0);
		assert_true((ret != 0) == (run.sink.failures != failures));
		assert_true(ret == 0 || ret == -EIO);
		check_shadow();
		if (test_below(random, 4) == 0) {
			run.sink.fail_in = run.sink.fail_every = 0;
			assert_int_equal(snest_space_invalidate(run.space, 0, ALL, 0), 0);
			assert_int_equal(run.sink.refused_count, 0);
			check_all();
		}
	}
	run.sink.fail_in = run.sink.fail_every = 0;
	assert_int_equal(snest_space_unmirror(run.space), 0);
	assert_int_equal(run.sink.count, 0);
	run_fini();
}

static void test_hazard_24_partial_failure(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		static const char *const names[] = {"vtd-ss 3 levels", "x86-64 4 levels",
		                                    "amd-v1 mode 4", "vtd-ss 4 levels"};

		fail_at_random(names[i % 4], sink_kinds[i / 4 % 2], 3000 + i);
	}
}

static void wanted_or_absent(uint64_t iova)
{
	struct sink_map have = held(&run.sink, iova);

	if (have.rights && !same(wanted(iova), have))
		fail_msg("%s: at 0x%" PRIx64 " the sink has 0x%" PRIx64
		         " rights %u, which is stale",
		         run.what, iova, have.host, have.rights);
}

/*
 * The sink refuses, and there are too few tables for all that is mapped: what is
 * there is known and right, and what is missing is said to be.
 */
static void too_few_tables(const char *name, uint32_t sink_flags, uint64_t tables, uint64_t seed)
{
	struct guest_options o = {
		.config = {guest_config(name)}, .host_skew = seed & 1 ? 0x1000 : 0, .seed = seed};
	struct test_random *random = &run.guest.random;
	int ret;

	run_init(&o, sink_flags, tables * 4096, name);
	assert_int_equal(snest_space_mirror(run.space, &run.sink.sink), 0);
	for (unsigned i = 0; i < STEPS; i++) {
		struct guest_change change = guest_step(&run.guest);

		run.sink.fail_in = test_below(random, 2) ? 1 + test_below(random, 8) : 0;
		run.sink.fail_every = test_below(random, 4) ? 0 : 1 + test_below(random, 8);
		ret = snest_space_invalidate(run.space, change.first, change.last, 0);
		assert_true(ret == 0 || ret == -EIO || ret == -ENOSPC);
		check_shadow();
		if (test_below(random, 4) == 0)
			guest_memory_step(&run.guest);
		check_shadow();
		if (test_below(random, 4))
			continue;
		run.sink.fail_in = run.sink.fail_every = run.sink.told = 0;
		ret = snest_space_invalidate(run.space, 0, ALL, 0);
		assert_true(ret == 0 || (ret == -ENOSPC && run.sink.told));
		assert_int_equal(run.sink.refused_count, 0);
		if (ret) {
			each_page(wanted_or_absent);
			check_shadow();
		} else {
			check_all();
		}
	}
	run.sink.fail_in = run.sink.fail_every = 0;
	assert_int_equal(snest_space_unmirror(run.space), 0);
	assert_int_equal(run.sink.count, 0);
	run_fini();
}

static void test_hazard_24_and_too_few_tables(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 24; i++) {
		static const char *const names[] = {"vtd-ss 3 levels", "x86-64 4 levels",
		                                    "amd-v1 mode 4"};

		too_few_tables(names[i % 3], sink_kinds[i / 3 % 2], 5 + i / 6 * 2, 5000 + i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_format),
		cmocka_unit_test(test_announcing_formats),
		cmocka_unit_test(test_two_stages),
		cmocka_unit_test(test_parts_of_what_changed),
		cmocka_unit_test(test_hazard_24_partial_failure),
		cmocka_unit_test(test_hazard_24_and_too_few_tables),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
