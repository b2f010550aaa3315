/* SPDX-License-Identifier: MIT */
/*
 * The guest memory map against brute force: the model is an array with one
 * element a page, and operations on it are loops over pages. Also: errors that
 * change nothing, and listeners.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/vm.h"
#include "support/fail.h"

#define PAGE 4096ull

/* ---- The model -------------------------------------------------------- */

enum {
	PAGES = 96
};

struct model_page {
	bool present;
	uint32_t flags;
	uint64_t host;      /* of this page */
	char *mapping;      /* of this page, or NULL */
	const void *opaque; /* of the accessors, or NULL */
	uint64_t accessors; /* which import of accessors, 0: none */
};

struct model {
	struct model_page page[PAGES];
	uint64_t imports;
};

static int model_apply(struct model *model, const struct snest_memory_op *op)
{
	bool is_region = op->kind == SNEST_MEMORY_ADD || op->kind == SNEST_MEMORY_REPLACE;
	const struct snest_region *region = &op->region;
	uint64_t first = (is_region ? region->first : op->first) / PAGE;
	uint64_t last = (is_region ? region->last : op->last) / PAGE;
	bool any = false;
	uint64_t import = 0;

	for (uint64_t i = first; i <= last; i++)
		any |= model->page[i].present;
	if (op->kind == SNEST_MEMORY_ADD && any)
		return -EEXIST;
	if (!is_region && !any)
		return -ENOENT;
	if (is_region && region->accessors)
		import = ++model->imports;
	for (uint64_t i = first; i <= last; i++) {
		struct model_page *page = &model->page[i];

		switch (op->kind) {
		case SNEST_MEMORY_REMOVE:
			memset(page, 0, sizeof(*page));
			break;
		case SNEST_MEMORY_PROTECT:
			page->flags = (page->flags & ~SNEST_REGION_READONLY) | op->flags;
			break;
		default:
			*page = (struct model_page){
				.present = true,
				.flags = region->flags,
				.host = region->host + (i - first) * PAGE,
			};
			if (region->mapping) {
				page->mapping = (char *)region->mapping + (i - first) * PAGE;
			} else if (region->accessors) {
				page->opaque = region->accessors->opaque;
				page->accessors = import;
			}
		}
	}
	return 0;
}

/* What a listener has to hear of: the page is gone, leads elsewhere, or lost rights. */
static bool model_taken(const struct model_page *old, const struct model_page *new)
{
	if (!old->present)
		return false;
	return !new->present || new->host != old->host || new->mapping != old->mapping ||
	       new->accessors != old->accessors || (new->flags & ~old->flags);
}

static void check_page(struct snest_vm *vm, const struct model_page *page, uint64_t addr)
{
	const struct sn_region *found;
	struct sn_region region = {.first = 0};

	/* A failed assertion must not leave the section open. */
	snest_read_begin();
	found = sn_memory_find(sn_deref(&vm->memory.map), addr);
	if (found)
		region = *found;
	snest_read_end();

	assert_int_equal(found != NULL, page->present);
	if (found) {
		uint64_t offset = addr % PAGE;

		assert_in_range(addr, region.first, region.last);
		assert_true(region.host + addr == page->host + offset);
		assert_int_equal(region.flags, page->flags);
		assert_int_equal(region.direct, page->mapping != NULL);
		if (region.direct)
			assert_true(region.mapping + addr == (uintptr_t)page->mapping + offset);
		assert_int_equal(region.accessors != NULL, page->accessors != 0);
		if (region.accessors)
			assert_ptr_equal(region.accessors->opaque, page->opaque);
	}
}

static void check_all(struct snest_vm *vm, const struct model *model)
{
	struct sn_memory_map *map = vm->memory.map;
	struct model_page none = {.present = false};

	for (uint64_t i = 0; i < PAGES; i++) {
		check_page(vm, &model->page[i], i * PAGE);
		check_page(vm, &model->page[i], i * PAGE + 1234);
		check_page(vm, &model->page[i], i * PAGE + PAGE - 1);
	}
	check_page(vm, &none, PAGES * PAGE);
	check_page(vm, &none, UINT64_MAX);
	for (size_t i = 0; i < map->count; i++) {
		assert_true(map->region[i].first <= map->region[i].last);
		assert_true(!i || map->region[i - 1].last < map->region[i].first);
	}
}

/* ---- A VM with a listener that keeps what it hears --------------------- */

struct heard {
	uint64_t first, last;
};

struct fixture {
	struct test_fail fail;
	struct snest_vm *vm;
	struct sn_memory_listener listener;
	struct heard heard[PAGES];
	unsigned heard_count;
	bool sequence_was_odd, map_was_new;
	const struct sn_memory_map *map_before;
};

static void hear(struct sn_memory_listener *listener, uint64_t first, uint64_t last,
                 const struct sn_memory_map *old)
{
	struct fixture *f =
		(struct fixture *)((char *)listener - offsetof(struct fixture, listener));

	/* A failed assertion would leave by longjmp, with the map's lock held. */
	if (f->heard_count < PAGES)
		f->heard[f->heard_count] = (struct heard){first, last};
	f->heard_count++;
	f->sequence_was_odd &= sn_memory_seq(&f->vm->memory) & 1;
	f->map_was_new &= f->vm->memory.map != f->map_before && old == f->map_before;
}

static void deafen(struct fixture *f)
{
	f->heard_count = 0;
	f->sequence_was_odd = f->map_was_new = true;
	f->map_before = f->vm->memory.map;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct snest_vm_config config = {.size = sizeof(config)};

	if (!f)
		return -1;
	test_fail_init(&f->fail);
	config.hooks = &f->fail.hooks;
	if (snest_vm_create(&config, &f->vm))
		return -1;
	f->listener.changed = hear;
	sn_memory_listen(&f->vm->memory, &f->listener);
	deafen(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sn_memory_unlisten(&f->vm->memory, &f->listener);
	snest_vm_destroy(f->vm);
	assert_int_equal(f->fail.live_objects, 0);
	assert_int_equal(f->fail.live_bytes, 0);
	free(f);
	return 0;
}

static void check_heard(const struct fixture *f, const struct model *old, const struct model *new)
{
	unsigned count = 0;

	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t first = i;

		while (i < PAGES && model_taken(&old->page[i], &new->page[i]))
			i++;
		if (i == first)
			continue;
		assert_true(count < f->heard_count);
		assert_int_equal(f->heard[count].first, first * PAGE);
		assert_int_equal(f->heard[count].last, i * PAGE - 1);
		count++;
	}
	assert_int_equal(count, f->heard_count);
	assert_true(f->sequence_was_odd);
	assert_true(f->map_was_new);
}

/* ---- Random changes --------------------------------------------------- */

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

static struct snest_accessors some_accessors[4];

static struct snest_memory_op random_op(uint64_t *seed)
{
	uint64_t length = 1 + next_random(seed) % (next_random(seed) % 4 ? 8 : PAGES);
	uint64_t first = next_random(seed) % PAGES;
	uint64_t last = first + length - 1 < PAGES ? first + length - 1 : PAGES - 1;
	struct snest_memory_op op = {
		.kind = (enum snest_memory_op_kind)(next_random(seed) % 4),
		.first = first * PAGE,
		.last = last * PAGE + PAGE - 1,
	};

	if (op.kind == SNEST_MEMORY_PROTECT)
		op.flags = next_random(seed) % 2;
	if (op.kind == SNEST_MEMORY_ADD || op.kind == SNEST_MEMORY_REPLACE) {
		/* Two offsets, so that the new often leads where the old one led. */
		uint64_t host = ((1 + next_random(seed) % 2) << 30) + first * PAGE;

		op.region = (struct snest_region){
			.size = sizeof(op.region),
			.first = op.first,
			.last = op.last,
			.host = host,
			.flags = (uint32_t)(next_random(seed) % 4),
		};
		op.first = op.last = 0;
		switch (next_random(seed) % 4) {
		case 0:
			break;
		case 1:
			op.region.accessors = &some_accessors[next_random(seed) % 4];
			break;
		default:
			/* Never read here, so any address will do. */
			op.region.mapping = (void *)(uintptr_t)host;
		}
	}
	return op;
}

static void random_changes(void **state)
{
	enum {
		ROUNDS = 3000,
		MOST = 6
	};
	struct fixture *f = *state;
	struct model model = {.imports = 0}, next, before;
	struct snest_memory_op ops[MOST];
	uint64_t seed = 7;
	unsigned good = 0;

	for (unsigned i = 0; i < 4; i++)
		some_accessors[i].opaque = &some_accessors[i];
	for (unsigned round = 0; round < ROUNDS; round++) {
		size_t count = 1 + next_random(&seed) % MOST, failed = 99, i;
		int ret, expected = 0;

		next = before = model;
		for (i = 0; i < count; i++)
			ops[i] = random_op(&seed);
		for (i = 0; i < count && !expected; i++)
			expected = model_apply(&next, &ops[i]);
		deafen(f);
		ret = snest_memory_update(f->vm, ops, count, &failed, NULL, NULL);
		assert_int_equal(ret, expected);
		if (ret) {
			assert_int_equal(failed, i - 1);
			assert_int_equal(f->heard_count, 0);
		} else {
			model = next;
			check_heard(f, &before, &model);
			good++;
		}
		check_all(f->vm, &model);
		assert_int_equal(sn_memory_seq(&f->vm->memory) % 2, 0);
	}
	assert_int_equal(f->vm->memory.changes, good);
	assert_true(good > ROUNDS / 10);
}

/* ---- Single cases ----------------------------------------------------- */

static struct snest_region plain(uint64_t first, uint64_t last, uint64_t host)
{
	return (struct snest_region){
		.size = sizeof(struct snest_region),
		.first = first,
		.last = last,
		.host = host,
	};
}

static const struct sn_region *find(struct fixture *f, uint64_t addr)
{
	return sn_memory_find(f->vm->memory.map, addr);
}

static void empty_map(void **state)
{
	struct fixture *f = *state;
	char byte;

	assert_null(find(f, 0));
	assert_null(find(f, UINT64_MAX));
	assert_int_equal(snest_memory_remove(f->vm, 0, UINT64_MAX), -ENOENT);
	assert_int_equal(snest_memory_protect(f->vm, 0, 4095, 0), -ENOENT);
	assert_int_equal(snest_guest_read(f->vm, 0, &byte, 1), -EFAULT);
	assert_int_equal(snest_guest_read(f->vm, 0, &byte, 0), 0);
	assert_int_equal(snest_memory_update(f->vm, NULL, 0, NULL, NULL, NULL), 0);
}

static void bad_regions(void **state)
{
	struct fixture *f = *state;
	const uint64_t gpa_limit = 1ull << 57, host_limit = 1ull << 52;
	const struct {
		struct snest_region region;
		int ret;
	} cases[] = {
		{plain(4096, 4095, 0), -EINVAL},           /* empty */
		{plain(8192, 4095, 0), -EINVAL},           /* wrapping */
		{plain(UINT64_MAX - 4095, 0, 0), -EINVAL}, /* wrapping */
		{plain(0, 0, 0), -EINVAL},
		{plain(0, 4094, 0), -EINVAL},
		{plain(1, 4095, 0), -EINVAL},
		{plain(2048, 4095, 0), -EINVAL},
		{plain(0, 4095, 1), -EINVAL},
		{plain(0, 4095, 2048), -EINVAL},
		{plain(0, UINT64_MAX, 0), -EINVAL},
		{plain(gpa_limit, gpa_limit + 4095, 0), -EINVAL},
		{plain(gpa_limit - 4096, gpa_limit + 4095, 0), -EINVAL},
		{plain(0, 4095, host_limit), -EINVAL},
		{plain(0, 8191, host_limit - 4096), -EINVAL},
		{plain(0, 4095, UINT64_MAX - 4095), -EINVAL},
		{plain(0, gpa_limit - 1, 0), -EINVAL}, /* more than hosts have */
		{plain(gpa_limit - 4096, gpa_limit - 1, host_limit - 4096), 0},
		{plain(0, host_limit - 1, 0), 0},
	};
	struct {
		struct snest_region region;
		uint64_t tail;
	} newer = {plain(gpa_limit / 2, gpa_limit / 2 + 4095, 0), 1};
	struct snest_memory_op op = {.kind = (enum snest_memory_op_kind)99};
	struct snest_region region = newer.region;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(snest_memory_add(f->vm, &cases[i].region), cases[i].ret);
	assert_int_equal(f->vm->memory.changes, 2);

	region.flags = 4;
	assert_int_equal(snest_memory_add(f->vm, &region), -EINVAL);
	region.flags = 0;
	region.reserved = 1;
	assert_int_equal(snest_memory_add(f->vm, &region), -EINVAL);
	region.reserved = 0;
	region.mapping = (void *)4;
	assert_int_equal(snest_memory_add(f->vm, &region), -EINVAL);
	region.mapping = (void *)(UINTPTR_MAX - 7);
	assert_int_equal(snest_memory_replace(f->vm, &region), -EINVAL);
	region.mapping = NULL;
	region.size = 0;
	assert_int_equal(snest_memory_add(f->vm, &region), -EINVAL);
	newer.region.size = sizeof(newer);
	assert_int_equal(snest_memory_add(f->vm, &newer.region), -E2BIG);
	assert_int_equal(snest_memory_update(f->vm, &op, 1, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(snest_memory_update(f->vm, NULL, 1, NULL, NULL, NULL), -EINVAL);
	op.kind = SNEST_MEMORY_REMOVE;
	op.last = 4095;
	op.flags = 1;
	assert_int_equal(snest_memory_update(f->vm, &op, 1, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(snest_memory_remove(f->vm, 4096, 4095), -EINVAL);
	assert_int_equal(snest_memory_remove(f->vm, 1, 4095), -EINVAL);
	assert_int_equal(snest_memory_protect(f->vm, 0, 4095, 2), -EINVAL);
	assert_int_equal(f->vm->memory.changes, 2);

	newer.tail = 0;
	assert_int_equal(snest_memory_add(f->vm, &newer.region), 0);
	/* All of it, in one go. */
	assert_int_equal(snest_memory_remove(f->vm, 0, UINT64_MAX), 0);
	assert_int_equal(f->vm->memory.map->count, 0);
}

static void overlap_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct snest_region middle = plain(16 * PAGE, 32 * PAGE - 1, 0);
	const struct sn_memory_map *map;

	assert_int_equal(snest_memory_add(f->vm, &middle), 0);
	map = f->vm->memory.map;
	for (uint64_t first = 10; first < 38; first++) {
		for (uint64_t last = first; last < 38; last++) {
			struct snest_region r = plain(first * PAGE, last * PAGE + PAGE - 1, 0);

			if (first >= 32 || last < 16)
				continue;
			assert_int_equal(snest_memory_add(f->vm, &r), -EEXIST);
			assert_ptr_equal(f->vm->memory.map, map);
		}
	}
}

static void failed_names_the_operation(void **state)
{
	struct fixture *f = *state;
	struct snest_memory_op ops[3] = {
		{.kind = SNEST_MEMORY_ADD, .region = plain(0, 4095, 0)},
		{.kind = SNEST_MEMORY_ADD, .region = plain(8192, 12287, 0)},
		{.kind = SNEST_MEMORY_ADD, .region = plain(4096, 12287, 0)},
	};
	size_t failed = 99;

	assert_int_equal(snest_memory_update(f->vm, ops, 3, &failed, NULL, NULL), -EEXIST);
	assert_int_equal(failed, 2);
	assert_null(find(f, 0));
	test_fail_arm(&f->fail, 1);
	assert_int_equal(snest_memory_update(f->vm, ops, 2, &failed, NULL, NULL), -ENOMEM);
	test_fail_disarm(&f->fail);
	assert_int_equal(failed, 2);
	assert_int_equal(snest_memory_update(f->vm, ops, 2, &failed, NULL, NULL), 0);
}

static void hot_region_is_the_largest(void **state)
{
	struct fixture *f = *state;
	struct snest_region small = plain(0, 4095, 0);
	struct snest_region large = plain(1 << 20, (1 << 21) - 1, 1 << 20);

	assert_int_equal(snest_memory_add(f->vm, &small), 0);
	assert_ptr_equal(find(f, 0), &f->vm->memory.map->hot);
	assert_int_equal(snest_memory_add(f->vm, &large), 0);
	assert_ptr_equal(find(f, 1 << 20), &f->vm->memory.map->hot);
	assert_ptr_equal(find(f, 0), &f->vm->memory.map->region[0]);
}

static void batch_that_changes_nothing_tells_nobody(void **state)
{
	struct fixture *f = *state;
	struct snest_memory_op ops[2] = {
		{.kind = SNEST_MEMORY_REMOVE, .first = 0, .last = 65535},
		{.kind = SNEST_MEMORY_ADD, .region = plain(0, 65535, 1 << 20)},
	};

	assert_int_equal(snest_memory_add(f->vm, &ops[1].region), 0);
	deafen(f);
	assert_int_equal(snest_memory_update(f->vm, ops, 2, NULL, NULL, NULL), 0);
	assert_int_equal(f->heard_count, 0);
	/* Rights that come back take nothing away either. */
	assert_int_equal(snest_memory_protect(f->vm, 0, 4095, SNEST_REGION_READONLY), 0);
	assert_int_equal(f->heard_count, 1);
	assert_int_equal(snest_memory_protect(f->vm, 0, 65535, 0), 0);
	assert_int_equal(f->heard_count, 1);
}

static void protect_cuts_only_where_needed(void **state)
{
	struct fixture *f = *state;
	struct snest_region region = plain(0, 16 * PAGE - 1, 0);

	assert_int_equal(snest_memory_add(f->vm, &region), 0);
	assert_int_equal(snest_memory_protect(f->vm, 4 * PAGE, 5 * PAGE - 1, 0), 0);
	assert_int_equal(f->vm->memory.map->count, 1);
	assert_int_equal(snest_memory_protect(f->vm, 4 * PAGE, 5 * PAGE - 1, SNEST_REGION_READONLY),
	                 0);
	assert_int_equal(f->vm->memory.map->count, 3);
}

/* ---- Size ------------------------------------------------------------- */

static void most_regions(void **state)
{
	enum {
		MOST = SNEST_MEMORY_REGIONS_MAX
	};
	struct fixture *f = *state;
	struct snest_memory_op *ops = calloc(MOST, sizeof(*ops));
	struct snest_region more = plain(1ull << 40, (1ull << 40) + 4095, 0);

	assert_non_null(ops);
	for (uint64_t i = 0; i < MOST; i++) {
		ops[i].kind = SNEST_MEMORY_ADD;
		/* Three pages and a hole, so that hits and misses are next to each other. */
		ops[i].region = plain(i * 4 * PAGE, i * 4 * PAGE + 3 * PAGE - 1, i * PAGE);
	}
	assert_int_equal(snest_memory_update(f->vm, ops, MOST, NULL, NULL, NULL), 0);
	for (uint64_t i = 0; i < MOST; i++) {
		const struct sn_region *region = find(f, i * 4 * PAGE + 2 * PAGE + 17);

		assert_non_null(region);
		assert_int_equal(region->first, i * 4 * PAGE);
		assert_int_equal(region->host + region->first, i * PAGE);
		assert_null(find(f, i * 4 * PAGE + 3 * PAGE));
		assert_null(find(f, i * 4 * PAGE + 4 * PAGE - 1));
	}
	assert_int_equal(snest_memory_add(f->vm, &more), -ENOSPC);
	/* A hole in a region makes two of it. */
	assert_int_equal(snest_memory_remove(f->vm, PAGE, 2 * PAGE - 1), -ENOSPC);
	assert_int_equal(f->vm->memory.map->count, MOST);
	assert_int_equal(snest_memory_remove(f->vm, 0, PAGE - 1), 0);
	assert_int_equal(snest_memory_remove(f->vm, PAGE, 3 * PAGE - 1), 0);
	assert_int_equal(snest_memory_add(f->vm, &more), 0);
	assert_int_equal(snest_memory_replace(f->vm, &more), 0);

	/* The same in descending order. */
	assert_int_equal(snest_memory_remove(f->vm, 0, UINT64_MAX), 0);
	for (uint64_t i = 0; i < MOST / 2; i++) {
		struct snest_memory_op op = ops[i];

		ops[i] = ops[MOST - 1 - i];
		ops[MOST - 1 - i] = op;
	}
	assert_int_equal(snest_memory_update(f->vm, ops, MOST, NULL, NULL, NULL), 0);
	assert_int_equal(f->vm->memory.map->count, MOST);
	free(ops);
}

/* ---- Failing allocations ---------------------------------------------- */

static void every_allocation_fails(void **state)
{
	struct fixture *f = *state;
	struct snest_accessors accessors = {.opaque = f};
	struct model model = {.imports = 0}, next;
	struct snest_memory_op ops[6] = {
		{.kind = SNEST_MEMORY_REMOVE, .first = 2 * PAGE, .last = 3 * PAGE - 1},
		{.kind = SNEST_MEMORY_ADD, .region = plain(2 * PAGE, 3 * PAGE - 1, 0)},
		{.kind = SNEST_MEMORY_REPLACE, .region = plain(5 * PAGE, 9 * PAGE - 1, 0)},
		{.kind = SNEST_MEMORY_REPLACE, .region = plain(5 * PAGE, 9 * PAGE - 1, 0)},
		{.kind = SNEST_MEMORY_ADD, .region = plain(20 * PAGE, 30 * PAGE - 1, 0)},
		{.kind = SNEST_MEMORY_PROTECT, .first = PAGE, .last = 25 * PAGE - 1, .flags = 1},
	};
	struct snest_memory_op start = {
		.kind = SNEST_MEMORY_ADD,
		.region = plain(0, 16 * PAGE - 1, 1 << 20),
	};
	uint64_t n;

	start.region.accessors = &accessors;
	for (unsigned i = 1; i < 5; i++)
		ops[i].region.accessors = &accessors;
	assert_int_equal(model_apply(&model, &start), 0);
	assert_int_equal(snest_memory_add(f->vm, &start.region), 0);
	for (n = 1;; n++) {
		uint64_t bytes = f->fail.live_bytes;
		int ret;

		deafen(f);
		test_fail_arm(&f->fail, n);
		ret = snest_memory_update(f->vm, ops, 6, NULL, NULL, NULL);
		if (!test_fail_disarm(&f->fail)) {
			assert_int_equal(ret, 0);
			break;
		}
		assert_int_equal(ret, -ENOMEM);
		assert_int_equal(f->fail.live_bytes, bytes);
		assert_int_equal(f->heard_count, 0);
		check_all(f->vm, &model);
	}
	assert_int_equal(n, 6); /* the map and four accessors */
	next = model;
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(model_apply(&next, &ops[i]), 0);
	check_all(f->vm, &next);
	check_heard(f, &model, &next);
}

static void accessors_go_with_their_last_region(void **state)
{
	struct fixture *f = *state;
	struct snest_accessors accessors = {.opaque = f};
	struct snest_region region = plain(0, 16 * PAGE - 1, 0);
	uint64_t objects = f->fail.live_objects;

	region.accessors = &accessors;
	assert_int_equal(snest_memory_add(f->vm, &region), 0);
	assert_int_equal(f->fail.live_objects, objects + 1);
	assert_int_equal(snest_memory_remove(f->vm, 4 * PAGE, 5 * PAGE - 1), 0);
	assert_int_equal(snest_memory_remove(f->vm, 0, 4 * PAGE - 1), 0);
	assert_int_equal(f->fail.live_objects, objects + 1);
	assert_int_equal(snest_memory_remove(f->vm, 5 * PAGE, 16 * PAGE - 1), 0);
	assert_int_equal(f->fail.live_objects, objects);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(empty_map),
		TEST(bad_regions),
		TEST(overlap_changes_nothing),
		TEST(failed_names_the_operation),
		TEST(hot_region_is_the_largest),
		TEST(batch_that_changes_nothing_tells_nobody),
		TEST(protect_cuts_only_where_needed),
		TEST(most_regions),
		TEST(every_allocation_fails),
		TEST(accessors_go_with_their_last_region),
		TEST(random_changes),
	};
	int ret;

	/* Registered, so that every blocking call also shows that it is safe then. */
	snest_thread_register();
	ret = cmocka_run_group_tests_name("memory", tests, NULL, NULL);
	snest_thread_unregister();
	return ret;
}
