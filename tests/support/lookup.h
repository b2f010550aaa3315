/* SPDX-License-Identifier: MIT */
/*
 * A guest with one space and one device, and lookups through it that say what
 * they expect. For tests only; include after cmocka.h.
 */
#ifndef SN_TESTS_LOOKUP_H
#define SN_TESTS_LOOKUP_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "support/fail.h"
#include "support/guest.h"

#define RW (SNEST_READ | SNEST_WRITE)
#define USER SNEST_ATTR_USER

struct fixture {
	struct test_fail fail;
	struct guest guest;
	struct snest_space *space;
	struct snest_device *device;
};

static inline struct fixture *begin(const char *config, uint64_t host_skew)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct guest_options o = {.config = {config ? guest_config(config) : NULL},
	                          .host_skew = host_skew};

	test_fail_init(&f->fail);
	f->fail.hooks.now_ns = NULL;
	o.hooks = &f->fail.hooks;
	guest_init(&f->guest, &o);
	f->space = guest_space(&f->guest, (struct snest_tag){1, 2}, 0, 0);
	assert_int_equal(snest_device_create(f->guest.vm, 0x100, NULL, NULL, &f->device), 0);
	assert_int_equal(snest_device_bind(f->device, SNEST_NO_PASID, f->space), 0);
	return f;
}

static inline void end(struct fixture *f)
{
	snest_device_destroy(f->device);
	snest_space_put(f->space);
	guest_fini(&f->guest);
	assert_int_equal(f->fail.live_objects, 0);
	free(f);
}

static inline uint64_t misses(struct fixture *f)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	assert_int_equal(snest_space_stats(f->space, &stats), 0);
	return stats.misses;
}

static inline uint64_t leaves(struct fixture *f)
{
	struct snest_space_stats stats = {.size = sizeof(stats)};

	assert_int_equal(snest_space_stats(f->space, &stats), 0);
	return stats.leaves_published;
}

static inline void expect_host(struct fixture *f, uint64_t iova, uint32_t access, uint64_t host,
                               uint64_t length, uint32_t rights)
{
	struct snest_translation t;

	for (unsigned again = 0; again < 2; again++) {
		uint64_t before = misses(f);

		snest_read_begin();
		assert_int_equal(snest_translate(f->device, iova, access, &t, NULL), 0);
		snest_read_end();
		assert_int_equal(t.outcome, SNEST_WALK_HOST);
		assert_true(t.host == host);
		/* The shadow may keep a leaf in pieces. */
		assert_true(t.length == length ||
		            (again && t.length < length && t.length >= 0x1000 - (iova & 0xfff)));
		assert_int_equal(t.rights, rights);
		/* The second one finds what the first one filled. */
		if (again)
			assert_int_equal(misses(f), before);
	}
}

static inline void expect_fault(struct fixture *f, uint64_t iova, uint32_t access, unsigned reason)
{
	struct snest_translation t;
	struct snest_fault fault;

	for (unsigned again = 0; again < 2; again++) {
		memset(&fault, 0, sizeof(fault));
		snest_read_begin();
		assert_int_equal(snest_translate(f->device, iova, access, &t, &fault), -EACCES);
		assert_int_equal(snest_translate(f->device, iova, access, &t, NULL), -EACCES);
		snest_read_end();
		assert_int_equal(t.outcome, SNEST_WALK_FAULT);
		assert_int_equal(fault.reason, reason);
		assert_true(fault.iova == iova);
	}
}

#endif
