/* SPDX-License-Identifier: MIT */
/*
 * The page pool against a model: the list of pages that are out. Every page
 * handed out is zero, aligned, inside its chunk and overlaps no other one.
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

#define SIZES (SN_POOL_MAX_LG2 - SN_POOL_MIN_LG2 + 1)

struct out {
	char *page;
	unsigned lg2;
	unsigned char mark;
};

struct fixture {
	struct test_fail fail;
	struct snest_vm *vm;
	struct sn_pool *pool;
};

static struct fixture *make(uint64_t bytes_max)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct snest_vm_config config = {.size = sizeof(config), .table_bytes_max = bytes_max};

	assert_non_null(f);
	test_fail_init(&f->fail);
	config.hooks = &f->fail.hooks;
	assert_int_equal(snest_vm_create(&config, &f->vm), 0);
	f->pool = &f->vm->pool;
	return f;
}

static void unmake(struct fixture *f)
{
	snest_vm_destroy(f->vm);
	assert_int_equal(f->fail.live_objects, 0);
	assert_int_equal(f->fail.live_bytes, 0);
	free(f);
}

static bool all_bytes(const char *page, size_t size, unsigned char value)
{
	for (size_t i = 0; i < size; i++) {
		if ((unsigned char)page[i] != value)
			return false;
	}
	return true;
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

static void random_against_model(void **state)
{
	enum {
		MOST = 1500,
		STEPS = 20000
	};
	struct fixture *f = make(0);
	struct out *out = calloc(MOST, sizeof(*out));
	uint64_t seed = 1, bytes = 0;
	unsigned count = 0;

	(void)state;
	for (unsigned step = 0; step < STEPS; step++) {
		/* Phases of growing and shrinking, so that the lists are emptied too. */
		bool grow = next_random(&seed) % 100 < (step / 2500 % 2 ? 35 : 65);

		if (grow && count < MOST) {
			struct out o = {.mark = (unsigned char)(1 + step % 255)};

			o.lg2 = SN_POOL_MIN_LG2 + next_random(&seed) % SIZES;
			o.page = sn_pool_alloc(f->pool, o.lg2, NULL);
			assert_non_null(o.page);
			assert_int_equal((uintptr_t)o.page & (((uintptr_t)1 << o.lg2) - 1), 0);
			assert_true(all_bytes(o.page, (size_t)1 << o.lg2, 0));
			/* A page that overlaps another one will spoil its mark. */
			memset(o.page, o.mark, (size_t)1 << o.lg2);
			bytes += (uint64_t)1 << o.lg2;
			out[count++] = o;
		} else if (!grow && count) {
			unsigned i = (unsigned)(next_random(&seed) % count);

			assert_true(all_bytes(out[i].page, (size_t)1 << out[i].lg2, out[i].mark));
			memset(out[i].page, 0, (size_t)1 << out[i].lg2);
			sn_pool_free(f->pool, out[i].page, out[i].lg2);
			bytes -= (uint64_t)1 << out[i].lg2;
			out[i] = out[--count];
		}
		assert_int_equal(f->pool->bytes_used, bytes);
		assert_true(f->pool->bytes_held >= bytes);
	}
	free(out);
	unmake(f);
}

static void records_match_pages(void **state)
{
	struct fixture *f = make(0);
	uint64_t chunks = 0;

	(void)state;
	for (unsigned i = 0; i < 1200; i++) {
		char *page = sn_pool_alloc(f->pool, 12 + i % 5, NULL);
		struct sn_page *record = sn_pool_page(page);

		assert_ptr_equal(sn_pool_ptr(record), page);
		assert_int_equal(record->lg2, 12 + i % 5);
		assert_int_equal(record->used, 0);
		assert_null(record->next);
		/* The fields are the owner's now, and every record is its page's own. */
		record->used = 512;
		record->aux = i;
	}
	for (struct sn_chunk *chunk = f->pool->chunks; chunk; chunk = chunk->next) {
		assert_ptr_equal(chunk->pool, f->pool);
		assert_int_equal((uintptr_t)chunk & (SN_POOL_CHUNK - 1), 0);
		chunks++;
	}
	assert_int_equal(chunks * SN_POOL_CHUNK, f->pool->bytes_held);
	unmake(f);
}

static void freed_memory_is_used_again(void **state)
{
	struct fixture *f = make(0);
	void *page[400];

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 400; i++)
			page[i] = sn_pool_alloc(f->pool, 12, NULL);
		for (unsigned i = 0; i < 400; i++)
			sn_pool_free(f->pool, page[i], 12);
		assert_int_equal(f->pool->bytes_held, SN_POOL_CHUNK);
	}
	assert_int_equal(f->pool->bytes_used, 0);
	unmake(f);
}

/* Free memory of a larger size serves a smaller one before a new chunk does. */
static void large_serves_small(void **state)
{
	struct fixture *f = make(0);
	void *large[31];
	unsigned small = 0;

	(void)state;
	for (unsigned i = 0; i < 31; i++)
		large[i] = sn_pool_alloc(f->pool, 16, NULL);
	for (unsigned i = 0; i < 31; i++)
		sn_pool_free(f->pool, large[i], 16);
	while (f->pool->bytes_held == SN_POOL_CHUNK) {
		assert_non_null(sn_pool_alloc(f->pool, 11 + small % 2, NULL));
		small++;
	}
	assert_true(small > 31 * 16);
	unmake(f);
}

static void budget(void **state)
{
	struct fixture *f = make(5 * 4096 + 2048);
	void *page[5], *small;
	int error = 0;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		page[i] = sn_pool_alloc(f->pool, 12, &error);
	assert_int_equal(error, 0);
	assert_null(sn_pool_alloc(f->pool, 12, &error));
	assert_int_equal(error, -ENOSPC);
	small = sn_pool_alloc(f->pool, 11, NULL);
	assert_non_null(small);
	error = 0;
	assert_null(sn_pool_alloc(f->pool, 11, &error));
	assert_int_equal(error, -ENOSPC);
	sn_pool_free(f->pool, page[3], 12);
	assert_non_null(sn_pool_alloc(f->pool, 12, NULL));
	assert_null(sn_pool_alloc(f->pool, 16, NULL));
	unmake(f);
}

/* A chain is all or nothing, and counts as its pages do. */
static void chain_from_the_pool(void **state)
{
	struct fixture *f = make(6 * 4096);
	struct sn_page *chain, *more;
	int error = 0;
	unsigned n = 0;

	(void)state;
	assert_null(sn_pool_alloc_chain(f->pool, 12, 7, &error));
	assert_int_equal(error, -ENOSPC);
	assert_null(sn_pool_alloc_chain(f->pool, 12, UINT64_MAX, &error));
	assert_int_equal(error, -ENOSPC);
	chain = sn_pool_alloc_chain(f->pool, 12, 6, &error);
	for (struct sn_page *page = chain; page; page = page->next) {
		const uint64_t *word = sn_pool_ptr(page);

		for (unsigned i = 0; i < 512; i++)
			assert_int_equal(word[i], 0);
		n++;
	}
	assert_int_equal(n, 6);
	assert_null(sn_pool_alloc(f->pool, 12, &error));
	sn_pool_free_chain(f->pool, chain);
	more = sn_pool_alloc_chain(f->pool, 12, 6, &error);
	assert_non_null(more);
	sn_pool_free_chain(f->pool, more);
	unmake(f);
}

static void sizes_of_others(void **state)
{
	static const unsigned bad[] = {0, 10, 17, 20, 64, UINT32_MAX};
	struct fixture *f = make(0);

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int error = 0;

		assert_null(sn_pool_alloc(f->pool, bad[i], &error));
		assert_int_equal(error, -EOPNOTSUPP);
	}
	assert_int_equal(f->pool->bytes_held, 0);
	unmake(f);
}

static void chain(void **state)
{
	struct fixture *f = make(0);
	struct sn_page *first = NULL;

	(void)state;
	sn_pool_free_chain(f->pool, NULL);
	for (unsigned i = 0; i < 100; i++) {
		struct sn_page *page = sn_pool_page(sn_pool_alloc(f->pool, 12, NULL));

		page->next = first;
		page->used = 7;
		first = page;
	}
	assert_int_equal(f->pool->bytes_used, 100 * 4096);
	sn_pool_free_chain(f->pool, first);
	assert_int_equal(f->pool->bytes_used, 0);
	for (unsigned i = 0; i < 100; i++) {
		char *page = sn_pool_alloc(f->pool, 12, NULL);

		assert_true(all_bytes(page, 4096, 0));
		assert_int_equal(sn_pool_page(page)->used, 0);
		memset(page, 1, 4096);
	}
	assert_int_equal(f->pool->bytes_held, SN_POOL_CHUNK);
	unmake(f);
}

static void every_allocation_fails(void **state)
{
	struct fixture *f = make(0);
	uint64_t n, live = f->fail.live_bytes;

	(void)state;
	for (n = 1;; n++) {
		unsigned got = 0;
		int error = 0;

		test_fail_arm(&f->fail, n);
		while (got < 1100 && sn_pool_alloc(f->pool, 12, &error))
			got++;
		if (!test_fail_disarm(&f->fail))
			break;
		assert_int_equal(error, -ENOMEM);
		assert_int_equal(f->pool->bytes_used, got * 4096);
		assert_int_equal(f->fail.live_bytes, live + f->pool->bytes_held);
		/* The pool goes on where it was, once there is memory again. */
		assert_non_null(sn_pool_alloc(f->pool, 16, NULL));
		unmake(f);
		f = make(0);
	}
	assert_true(n > 2);
	unmake(f);
}

struct worker {
	pthread_t thread;
	struct sn_pool *pool;
	unsigned number;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	uint64_t seed = worker->number;
	char *page[32] = {NULL};
	unsigned lg2[32] = {0};

	for (unsigned step = 0; step < 4000; step++) {
		unsigned i = (unsigned)(next_random(&seed) % 32);

		if (!page[i]) {
			lg2[i] = SN_POOL_MIN_LG2 + next_random(&seed) % SIZES;
			page[i] = sn_pool_alloc(worker->pool, lg2[i], NULL);
			if (!page[i] || page[i][0] || page[i][((size_t)1 << lg2[i]) - 1])
				abort();
			page[i][0] = (char)(worker->number + 1);
		} else {
			if (page[i][0] != (char)(worker->number + 1))
				abort();
			page[i][0] = 0;
			sn_pool_free(worker->pool, page[i], lg2[i]);
			page[i] = NULL;
		}
	}
	for (unsigned i = 0; i < 32; i++) {
		if (page[i]) {
			page[i][0] = 0;
			sn_pool_free(worker->pool, page[i], lg2[i]);
		}
	}
	return NULL;
}

static void threads(void **state)
{
	struct fixture *f = make(0);
	struct worker worker[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		worker[i] = (struct worker){.pool = f->pool, .number = i};
		assert_int_equal(pthread_create(&worker[i].thread, NULL, work, &worker[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(worker[i].thread, NULL);
	assert_int_equal(f->pool->bytes_used, 0);
	unmake(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_against_model),
		cmocka_unit_test(records_match_pages),
		cmocka_unit_test(freed_memory_is_used_again),
		cmocka_unit_test(large_serves_small),
		cmocka_unit_test(budget),
		cmocka_unit_test(sizes_of_others),
		cmocka_unit_test(chain),
		cmocka_unit_test(chain_from_the_pool),
		cmocka_unit_test(every_allocation_fails),
		cmocka_unit_test(threads),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
