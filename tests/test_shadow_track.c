/* SPDX-License-Identifier: MIT */
/*
 * Write tracking: a guest that announces nothing changes its tables at random;
 * the embedder sees writes to the pages that snest asked it to protect, and to
 * no others. After the notices the sink equals a fresh walk. The protected
 * pages are exactly those that tables lie in, each protected once.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <snest/track.h>
#include "support/fail.h"
#include "support/guest.h"
#include "support/sink.h"

#define STEPS 200
#define ALL UINT64_MAX
#define PAGES ((1u << GUEST_TABLES_LG2) >> 12)

/* The embedder: a copy of each protected page, as it was when it was protected or last noticed. */
struct guard {
	struct snest_tracker tracker;
	struct guest *guest;
	bool on[PAGES];
	unsigned count;
	uint64_t protects, unprotects;
	uint64_t fail_in; /* the n-th protect from now fails; 0: none */
	bool deaf;        /* notices are lost */
	char copy[PAGES][4096];
};

static struct guard guard;
static struct guest guest;
static struct sink sink[2];
static const char *what;

static int protect(void *opaque, uint64_t gpa, uint64_t length)
{
	struct guard *g = opaque;
	uint64_t page = gpa >> 12;

	assert_true(length == 4096 && !(gpa & 4095) && page < PAGES);
	assert_false(g->on[page]);
	assert_int_equal(snest_table_written(g->guest->vm, gpa, 8), -EDEADLK);
	if (g->fail_in && --g->fail_in == 0)
		return -EIO;
	memcpy(g->copy[page], g->guest->ram + gpa, 4096);
	g->on[page] = true;
	g->count++;
	g->protects++;
	return 0;
}

static void unprotect(void *opaque, uint64_t gpa, uint64_t length)
{
	struct guard *g = opaque;
	uint64_t page = gpa >> 12;

	assert_true(length == 4096 && !(gpa & 4095) && page < PAGES);
	assert_true(g->on[page]);
	assert_int_equal(snest_table_written(g->guest->vm, gpa, 8), -EDEADLK);
	g->on[page] = false;
	g->count--;
	g->unprotects++;
}

static void guard_init(void)
{
	memset(&guard, 0, sizeof(guard));
	guard.guest = &guest;
	guard.tracker = (struct snest_tracker){
		.size = sizeof(guard.tracker),
		.opaque = &guard,
		.protect = protect,
		.unprotect = unprotect,
	};
	assert_int_equal(snest_vm_track(guest.vm, &guard.tracker), 0);
}

static int notice(uint64_t gpa, uint64_t length)
{
	return guard.deaf ? 0 : snest_table_written(guest.vm, gpa, length);
}

/* Tells of the writes to one page: word by word as they were made, or the page. */
static int page_written(uint64_t page)
{
	const char *now = guest.ram + (page << 12);
	bool words = test_below(&guest.random, 2);
	char old[4096];
	int ret = 0, one;

	memcpy(old, guard.copy[page], 4096);
	memcpy(guard.copy[page], now, 4096);
	for (unsigned i = 0; i < 4096 && words; i += 8) {
		if (!memcmp(old + i, now + i, 8))
			continue;
		one = notice((page << 12) + i, 8);
		ret = ret ? ret : one;
	}
	return words ? ret : notice(page << 12, 4096);
}

/* Tells of all writes since the last time. What snest returned first, if not 0. */
static int notices(void)
{
	bool again = true;
	int ret = 0;

	while (again) {
		again = false;
		for (uint64_t page = 0; page < PAGES; page++) {
			int one;

			if (!guard.on[page] ||
			    !memcmp(guard.copy[page], guest.ram + (page << 12), 4096))
				continue;
			again = true;
			one = page_written(page);
			ret = ret ? ret : one;
		}
	}
	return ret;
}

/* ---- What should be there ----------------------------------------------------- */

struct compare {
	const struct sink *sink;
	uint64_t bytes;  /* that a walk finds */
	uint64_t wrong;  /* pages that the sink has otherwise */
	uint64_t absent; /* pages that it does not have */
};

static int compare_run(void *opaque, const struct snest_run *r)
{
	struct compare *c = opaque;

	if (r->outcome != SNEST_WALK_HOST || !(r->rights & 3))
		return 0;
	c->bytes += r->last - r->first + 1;
	for (uint64_t at = r->first;; at += 4096) {
		const struct sink_map *map = sink_find(c->sink, at);

		if (!map)
			c->absent++;
		else if (map->host + (at - map->first) != r->addr + (at - r->first) ||
		         map->rights != (r->rights & 3u))
			c->wrong++;
		if (r->last - at < 4096)
			return 0;
	}
}

/* Holds a sink against a fresh walk. */
static struct compare compare(const struct sink *s)
{
	struct snest_walk_range range = {.size = sizeof(range), .last = ALL};
	struct compare c = {.sink = s};

	assert_int_equal(
		snest_walk_range(guest.vm, guest.list, guest.stages, &range, compare_run, &c), 0);
	return c;
}

static bool equal(const struct sink *s)
{
	struct compare c = compare(s);

	return !c.wrong && !c.absent && c.bytes == sink_bytes(s);
}

/* Everything in the sink is true; something may be missing. */
static bool nothing_stale(const struct sink *s)
{
	struct compare c = compare(s);

	return !c.wrong && c.bytes == sink_bytes(s) + c.absent * 4096;
}

static void check(const struct sink *s)
{
	struct compare c = compare(s);

	if (c.wrong || c.absent || c.bytes != sink_bytes(s))
		fail_msg("%s: the sink has 0x%" PRIx64 " bytes, a walk finds 0x%" PRIx64
		         "; %" PRIu64 " pages differ, %" PRIu64 " are absent",
		         what, sink_bytes(s), c.bytes, c.wrong, c.absent);
}

/* Tables of 4 KiB, all of one stage: each is protected, and nothing else. */
static void check_protected(struct snest_space *space)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};
	uint64_t tables = 0;

	assert_int_equal(snest_space_stats(space, &stats), 0);
	assert_int_equal(stats.table_pages, guard.count);
	for (unsigned k = 0; k < guest.stages; k++)
		tables += snest_table_bytes(guest.table[k].table) / 4096;
	if (guest.stages == 1 && guard.count != tables)
		fail_msg("%s: %u pages are protected, there are %" PRIu64 " tables", what,
		         guard.count, tables);
}

/* ---- Random guests ------------------------------------------------------------- */

static void begin(const struct guest_options *o, const char *name)
{
	what = name;
	guest_init(&guest, o);
	guard_init();
	sink_init(&sink[0], o->seed & 1 ? SNEST_SINK_CAN_SPLIT : 0);
	sink_init(&sink[1], o->seed & 2 ? SNEST_SINK_CAN_SPLIT : 0);
}

static void end(void)
{
	assert_int_equal(guard.count, 0);
	assert_true(guard.protects == guard.unprotects);
	assert_int_equal(snest_vm_track(guest.vm, NULL), 0);
	guest_fini(&guest);
}

static void drive(const struct guest_options *o, const char *name, bool memory)
{
	struct snest_space *space;

	begin(o, name);
	space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
	for (unsigned i = 0; i < 20; i++)
		guest_step(&guest);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
	check(&sink[0]);
	check_protected(space);
	for (unsigned i = 0; i < STEPS; i++) {
		struct guest_change change = guest_step(&guest);

		assert_int_equal(notices(), 0);
		if (memory && test_below(&guest.random, 8) == 0)
			guest_memory_step(&guest);
		check(&sink[0]);
		check_protected(space);
		/* What the guest does announce, as in any mirrored space. */
		if (change.stage == 0 && test_below(&guest.random, 4) == 0) {
			assert_int_equal(
				snest_space_invalidate(space, change.first, change.last, 0), 0);
			check(&sink[0]);
			check_protected(space);
		}
	}
	assert_int_equal(snest_space_unmirror(space), 0);
	assert_int_equal(sink[0].count, 0);
	snest_space_put(space);
	end();
}

static void test_silent_formats(void **state)
{
	static const char *const names[] = {
		"x86-64 4 levels", "x86-64 5 levels", "arm-s1 4K 48", "arm-s1 4K 39, both halves",
		"riscv64 Sv39",    "riscv64 Sv48",    "riscv64 Sv57"};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
		struct guest_options o = {.config = {guest_config(names[i / 2])}, .seed = i};

		drive(&o, names[i / 2], i & 1);
	}
}

/* Tables of several pages, of parts of a page, of entries of 4 bytes. */
static void test_odd_tables(void **state)
{
	static const char *const names[] = {"arm-s1 16K 36 and 25", "arm-s1 4K 32 and 16",
	                                    "arm-s1 TBI0, EPD1", "arm-s1 big-endian",
	                                    "riscv32 Sv32"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct test_config *config = guest_config(names[i]);
		struct guest_options o = {.config = {config}, .seed = 100 + i};
		struct snest_space *space;

		begin(&o, names[i]);
		space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
		assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
		for (unsigned n = 0; n < STEPS / 2; n++) {
			guest_step(&guest);
			assert_int_equal(notices(), 0);
			check(&sink[0]);
		}
		snest_space_put(space);
		assert_int_equal(sink[0].count, 0);
		end();
	}
}

static void test_two_stages(void **state)
{
	static const char *const names[][3] = {
		{"arm-s1 4K 48", "arm-s2 4K 48"},
		{"riscv64 Sv39", "riscv64 Sv48x4"},
		{"x86-64 4 levels", "vtd-ss 4 levels"},
		{"x86-64 4 levels", "arm-s2 4K 48", "vtd-ss 4 levels"},
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
		struct guest_options o = {.seed = 200 + i};

		for (unsigned k = 0; k < 3; k++)
			o.config[k] = names[i / 2][k] ? guest_config(names[i / 2][k]) : NULL;
		drive(&o, names[i / 2][0], i & 1);
	}
}

/* Two spaces share all tables: pages are protected once, and freed with the last. */
static void test_two_spaces(void **state)
{
	struct guest_options o = {.config = {guest_config("arm-s1 4K 48")}, .seed = 300};
	struct snest_space *space[2];
	unsigned before;

	(void)state;
	begin(&o, "two spaces");
	for (unsigned i = 0; i < 2; i++) {
		space[i] = guest_space(&guest, (struct snest_tag){7, i}, 0, 0);
		assert_int_equal(snest_space_mirror(space[i], &sink[i].sink), 0);
	}
	for (unsigned i = 0; i < STEPS; i++) {
		guest_step(&guest);
		assert_int_equal(notices(), 0);
		check(&sink[0]);
		check(&sink[1]);
		check_protected(space[i & 1]);
	}
	before = guard.count;
	snest_space_put(space[0]);
	assert_int_equal(sink[0].count, 0);
	assert_int_equal(guard.count, before);
	snest_space_put(space[1]);
	assert_int_equal(sink[1].count, 0);
	end();
}

/* More spaces than one notice references at once. */
static void test_many_spaces(void **state)
{
	struct guest_options o = {.config = {guest_config("riscv64 Sv39")}, .seed = 301};
	struct snest_space *space[40];

	(void)state;
	begin(&o, "many spaces");
	for (unsigned i = 2; i < 40; i++) {
		static struct sink others;

		/* All but two are looked at by count alone. */
		space[i] = guest_space(&guest, (struct snest_tag){7, i}, 0, 0);
		sink_init(&others, 0);
		assert_int_equal(snest_space_mirror(space[i], &others.sink), 0);
		assert_int_equal(others.count, 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		space[i] = guest_space(&guest, (struct snest_tag){7, i}, 0, 0);
		assert_int_equal(snest_space_mirror(space[i], &sink[i].sink), 0);
	}
	for (unsigned i = 2; i < 40; i++)
		assert_int_equal(snest_space_unmirror(space[i]), 0);
	for (unsigned i = 0; i < 20; i++) {
		guest_step(&guest);
		assert_int_equal(notices(), 0);
		check(&sink[0]);
		check(&sink[1]);
	}
	for (unsigned i = 0; i < 40; i++)
		snest_space_put(space[i]);
	end();
}

/* ---- What must go wrong -------------------------------------------------------------- */

/* Lost notices show: else the tests above would prove nothing. */
static void test_lost_notices_show(void **state)
{
	struct guest_options o = {.config = {guest_config("riscv64 Sv48")}, .seed = 400};
	struct snest_space *space;
	unsigned shown = 0;

	(void)state;
	begin(&o, "lost notices");
	space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
	for (unsigned i = 0; i < STEPS; i++) {
		guard.deaf = i & 1;
		guest_step(&guest);
		assert_int_equal(notices(), 0);
		if (!guard.deaf) {
			check(&sink[0]);
			continue;
		}
		shown += !equal(&sink[0]);
		/* Re-reading everything repairs it. */
		assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
		check(&sink[0]);
	}
	guard.deaf = false;
	assert_true(shown > STEPS / 8);
	snest_space_put(space);
	end();
}

static void test_refusals(void **state)
{
	struct guest_options o = {.config = {guest_config("arm-s1 4K 48")}, .seed = 500};
	struct snest_tracker half = {.size = sizeof(half), .protect = protect};
	struct snest_space *space;

	(void)state;
	begin(&o, "refusals");
	space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
	assert_int_equal(snest_vm_track(guest.vm, &half), -EINVAL);
	assert_int_equal(snest_table_written(guest.vm, 0, 0), -EINVAL);
	assert_int_equal(snest_table_written(guest.vm, ALL, 2), -EINVAL);
	assert_int_equal(snest_table_written(guest.vm, ALL, 1), 0);
	assert_int_equal(snest_vm_track(guest.vm, NULL), 0);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), -EOPNOTSUPP);
	assert_int_equal(snest_vm_track(guest.vm, &guard.tracker), 0);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
	assert_int_equal(snest_space_mirror(space, &sink[1].sink), -EBUSY);
	assert_int_equal(snest_vm_track(guest.vm, NULL), -EBUSY);
	assert_int_equal(snest_vm_track(guest.vm, &guard.tracker), -EBUSY);
	/* A notice of everything. */
	assert_int_equal(snest_table_written(guest.vm, 0, ALL), 0);
	check(&sink[0]);
	snest_space_put(space);
	end();
}

/* A page that cannot be protected is not mirrored, the sink is told, and a re-read repairs. */
static void test_protect_fails(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 24; n++) {
		struct guest_options o = {
			.config = {guest_config(n & 1 ? "riscv64 Sv39" : "x86-64 4 levels")},
			.seed = 600 + n};
		struct snest_space *space;
		bool failed = false;

		if (n % 4 == 0)
			o.config[1] = guest_config("arm-s2 4K 48");
		begin(&o, "protect fails");
		for (unsigned i = 0; i < 20; i++)
			guest_step(&guest);
		space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
		guard.fail_in = n;
		if (snest_space_mirror(space, &sink[0].sink)) {
			/* Nothing is left behind. */
			assert_int_equal(sink[0].count, 0);
			assert_int_equal(guard.count, 0);
			assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
			guard.fail_in = n;
		}
		for (unsigned i = 0; i < 40; i++) {
			uint64_t told = sink[0].told;

			guest_step(&guest);
			if (notices()) {
				failed = true;
				assert_true(sink[0].told > told);
			}
			assert_true(failed ? nothing_stale(&sink[0]) : equal(&sink[0]));
		}
		guard.fail_in = 0;
		assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
		check(&sink[0]);
		check_protected(space);
		snest_space_put(space);
		end();
	}
}

/* Guests with more tables than the budget has room for. */
static void test_budget(void **state)
{
	struct guest_options o = {.config = {guest_config("riscv64 Sv39")}, .seed = 700};
	struct snest_space_stats stats = {.size = sizeof(stats)};
	struct snest_space *space;

	(void)state;
	begin(&o, "budget");
	/* One page of shadow tables is as much as 21 tables that are tracked. */
	space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 4096);
	assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
	for (unsigned i = 0; i < 100; i++) {
		guest_step(&guest);
		notices();
		assert_true(nothing_stale(&sink[0]));
		assert_int_equal(snest_space_stats(space, &stats), 0);
		assert_true(stats.table_pages <= 21);
	}
	snest_space_put(space);
	end();
}

/* Memory fails at the n-th allocation of a scenario, for every n. */
static void test_every_allocation(void **state)
{
	static struct test_fail fail;
	bool fired = true;

	(void)state;
	for (uint64_t n = 1; fired; n++) {
		struct guest_options o = {
			.config = {guest_config("arm-s1 4K 48"), guest_config("arm-s2 4K 48")},
			.seed = 800};
		struct snest_space *space;
		uint64_t told;

		test_fail_init(&fail);
		o.hooks = &fail.hooks;
		begin(&o, "failed allocation");
		for (unsigned i = 0; i < 10; i++)
			guest_step(&guest);
		space = guest_space(&guest, (struct snest_tag){7, 1}, 0, 0);
		test_fail_arm(&fail, n);
		if (snest_space_mirror(space, &sink[0].sink)) {
			assert_int_equal(sink[0].count, 0);
			assert_int_equal(guard.count, 0);
			fired = test_fail_disarm(&fail);
			assert_true(fired);
			assert_int_equal(snest_space_mirror(space, &sink[0].sink), 0);
		}
		for (unsigned i = 0; i < 10; i++) {
			guest_step(&guest);
			told = sink[0].told;
			if (notices())
				assert_true(sink[0].told > told);
			assert_true(sink[0].told ? nothing_stale(&sink[0]) : equal(&sink[0]));
		}
		fired = test_fail_disarm(&fail) || n == 1;
		assert_int_equal(snest_space_invalidate(space, 0, ALL, 0), 0);
		check(&sink[0]);
		snest_space_put(space);
		end();
		assert_int_equal(fail.live_objects, 0);
	}
}

static int register_thread(void **state)
{
	(void)state;
	snest_thread_register();
	return 0;
}

static int unregister_thread(void **state)
{
	(void)state;
	snest_thread_unregister();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent_formats), cmocka_unit_test(test_odd_tables),
		cmocka_unit_test(test_two_stages),     cmocka_unit_test(test_two_spaces),
		cmocka_unit_test(test_many_spaces),    cmocka_unit_test(test_lost_notices_show),
		cmocka_unit_test(test_refusals),       cmocka_unit_test(test_protect_fails),
		cmocka_unit_test(test_budget),         cmocka_unit_test(test_every_allocation),
	};

	return cmocka_run_group_tests(tests, register_thread, unregister_thread);
}
