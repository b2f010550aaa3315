/* SPDX-License-Identifier: MIT */
/*
 * Lookups: what each call yields, for addresses, rights, privileges and sizes
 * where it is easy to be wrong.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>
#include "support/lookup.h"
#define RAM_BYTES 0x40000ull

/* ---- One address ---------------------------------------------------------- */

static void test_host_address_and_length(void **state)
{
	struct fixture *f = begin("x86-64 WP NX", 0);

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x3fff, GUEST_DATA + 0x5000, RW, USER, 12, false);
	guest_map(&f->guest, 0, 0x200000, 0x3fffff, GUEST_DATA + 0x400000, RW, USER, 21, false);
	expect_host(f, 0x1000, SNEST_READ, GUEST_HOST + 0x5000, 0x1000, RW);
	expect_host(f, 0x2fff, SNEST_READ, GUEST_HOST + 0x6fff, 1, RW);
	expect_host(f, 0x200000, SNEST_WRITE, GUEST_HOST + 0x400000, 0x200000, RW);
	expect_host(f, 0x3ff234, SNEST_WRITE, GUEST_HOST + 0x5ff234, 0xdcc, RW);
	expect_fault(f, 0, SNEST_READ, SNEST_FAULT_NOT_PRESENT);
	expect_fault(f, 0x4000, SNEST_READ, SNEST_FAULT_NOT_PRESENT);
	expect_fault(f, 0x800000000000, SNEST_READ, SNEST_FAULT_NOT_PRESENT);
	expect_fault(f, 0x100000000000000, SNEST_READ, SNEST_FAULT_NON_CANONICAL);
	end(f);
}

static void test_rights(void **state)
{
	struct fixture *f = begin("x86-64 WP NX", 0);

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_DATA, SNEST_READ, USER, 12, false);
	guest_map(&f->guest, 0, 0x2000, 0x2fff, GUEST_DATA, SNEST_READ | SNEST_EXEC, USER, 12,
	          false);
	expect_host(f, 0x1000, SNEST_READ, GUEST_HOST, 0x1000, SNEST_READ);
	expect_fault(f, 0x1000, SNEST_WRITE, SNEST_FAULT_WRITE);
	expect_fault(f, 0x1000, SNEST_READ | SNEST_WRITE, SNEST_FAULT_WRITE);
	expect_fault(f, 0x1000, SNEST_EXEC, SNEST_FAULT_EXECUTE);
	expect_host(f, 0x2000, SNEST_EXEC, GUEST_HOST, 0x1000, SNEST_READ | SNEST_EXEC);
	/* Asking for nothing tells what is there. */
	expect_host(f, 0x1000, 0, GUEST_HOST, 0x1000, SNEST_READ);
	/* The refused requests left what is granted alone. */
	expect_host(f, 0x1000, SNEST_READ, GUEST_HOST, 0x1000, SNEST_READ);
	end(f);
}

/* User and supervisor pages, asked for by both kinds of requests in both orders. */
static void test_privileges_do_not_mix(void **state)
{
	struct fixture *f = begin("x86-64 WP NX", 0);

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_DATA, RW, 0, 12, false);
	guest_map(&f->guest, 0, 0x2000, 0x2fff, GUEST_DATA, SNEST_READ, USER, 12, false);
	expect_host(f, 0x1000, SNEST_READ | SNEST_PRIVILEGED, GUEST_HOST, 0x1000, RW);
	expect_fault(f, 0x1000, SNEST_READ, SNEST_FAULT_PRIVILEGE);
	expect_host(f, 0x1000, SNEST_WRITE | SNEST_PRIVILEGED, GUEST_HOST, 0x1000, RW);
	expect_host(f, 0x2000, SNEST_READ, GUEST_HOST, 0x1000, SNEST_READ);
	expect_host(f, 0x2000, SNEST_READ | SNEST_PRIVILEGED, GUEST_HOST, 0x1000, SNEST_READ);
	/* An invalidation reaches both. */
	guest_unmap(&f->guest, 0, 0x1000, 0x2fff, false);
	assert_int_equal(snest_space_invalidate(f->space, 0x1000, 0x2fff, 0), 0);
	for (uint32_t p = 0; p <= SNEST_PRIVILEGED; p += SNEST_PRIVILEGED) {
		expect_fault(f, 0x1000, SNEST_READ | p, SNEST_FAULT_NOT_PRESENT);
		expect_fault(f, 0x2000, SNEST_READ | p, SNEST_FAULT_NOT_PRESENT);
	}
	end(f);
}

/* Without WP a privileged write ignores R/W = 0: its leaf must not serve the user. */
static void test_privileged_writes_do_not_leak(void **state)
{
	struct fixture *f = begin("x86-64 4 levels", 0);

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_DATA, SNEST_READ, USER, 12, false);
	expect_host(f, 0x1000, SNEST_WRITE | SNEST_PRIVILEGED, GUEST_HOST, 0x1000, SNEST_RIGHTS);
	expect_fault(f, 0x1000, SNEST_WRITE, SNEST_FAULT_WRITE);
	end(f);
}

static void test_hazard_30_first_write_sets_dirty(void **state)
{
	struct fixture *f = begin("vtd-ss 4 levels", 0);
	struct snest_walk walk;

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_DATA, RW, 0, 12, false);
	/* As the guest left it: neither accessed nor dirty. */
	assert_int_equal(snest_table_unmap(f->guest.table[0].table, 0x1000, 0x1fff, 0, NULL), 0);
	assert_int_equal(
		snest_table_map(f->guest.table[0].table, 0x1000, 0x1fff, GUEST_DATA, RW, 0, 0), 0);
	expect_host(f, 0x1000, SNEST_READ, GUEST_HOST, 0x1000, SNEST_READ | SNEST_EXEC);
	assert_int_equal(snest_walk(f->guest.vm, f->guest.list, 1, 0x1000, 0, SNEST_WALK_NO_UPDATE,
	                            &walk, NULL, NULL),
	                 0);
	assert_true(walk.attr & SNEST_ATTR_ACCESSED);
	assert_false(walk.attr & SNEST_ATTR_DIRTY);
	expect_host(f, 0x1000, SNEST_WRITE, GUEST_HOST, 0x1000, SNEST_RIGHTS);
	assert_int_equal(snest_walk(f->guest.vm, f->guest.list, 1, 0x1000, 0, SNEST_WALK_NO_UPDATE,
	                            &walk, NULL, NULL),
	                 0);
	assert_true(walk.attr & SNEST_ATTR_DIRTY);
	end(f);
}

/* One table below two parents that grant different rights: neither way gets the other's. */
static void test_hazard_29_one_table_two_parents(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct fixture *f = begin("x86-64 WP NX", 0);
		uint64_t *root = (uint64_t *)(void *)(f->guest.ram + f->guest.list[0].root);
		uint64_t there = 0x1000000000000 + 0x1000;

		guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_DATA, RW, USER, 12, false);
		/* The second entry of the top table: the same, read-only. */
		root[1] = root[0] & ~2ull;
		if (i)
			expect_host(f, 0x1000, SNEST_WRITE, GUEST_HOST, 0x1000, RW);
		expect_host(f, there, SNEST_READ, GUEST_HOST, 0x1000, SNEST_READ);
		expect_fault(f, there, SNEST_WRITE, SNEST_FAULT_WRITE);
		expect_host(f, 0x1000, SNEST_WRITE, GUEST_HOST, 0x1000, RW);
		expect_fault(f, there, SNEST_WRITE, SNEST_FAULT_WRITE);
		root[1] = 0;
		end(f);
	}
}

static void test_no_host_memory(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_translation t;
	struct snest_fault fault;
	char byte;
	size_t done;

	(void)state;
	guest_map(&f->guest, 0, 0x1000, 0x1fff, GUEST_HOLE + 0x3000, RW, 0, 12, false);
	for (unsigned i = 0; i < 3; i++) {
		snest_read_begin();
		assert_int_equal(snest_translate(f->device, 0x1234, SNEST_READ, &t, NULL), 0);
		snest_read_end();
		assert_int_equal(t.outcome, SNEST_WALK_GPA);
		assert_true(t.host == GUEST_HOLE + 0x3234);
		assert_true(t.length == 0xdcc);
	}
	assert_int_equal(snest_dma_read(f->device, SNEST_NO_PASID, 0x1234, &byte, 1, &done, &fault),
	                 -EACCES);
	assert_int_equal(fault.reason, SNEST_FAULT_NO_HOST);
	assert_int_equal(done, 0);
	/* It is not remembered: memory that comes is found. */
	guest_memory_add(&f->guest, GUEST_HOLE, GUEST_HOLE + 0xffff, 0x123000, 0);
	expect_host(f, 0x1234, SNEST_READ, 0x126234, 0xdcc, SNEST_RIGHTS);
	end(f);
}

/* A large page of the guest that has memory in parts. */
static void test_no_host_memory_ends_where_memory_begins(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_translation t;

	(void)state;
	guest_map(&f->guest, 0, 0x200000, 0x3fffff, GUEST_HOLE, RW, 0, 21, false);
	guest_memory_add(&f->guest, GUEST_HOLE + 0x2000, GUEST_HOLE + 0x2fff, 0x500000, 0);
	snest_read_begin();
	assert_int_equal(snest_translate(f->device, 0x200010, SNEST_READ, &t, NULL), 0);
	snest_read_end();
	assert_int_equal(t.outcome, SNEST_WALK_GPA);
	assert_true(t.length <= 0x1ff0);
	expect_host(f, 0x202000, SNEST_READ, 0x500000, 0x1000, SNEST_RIGHTS);
	end(f);
}

static void test_pass_through(void **state)
{
	struct fixture *f = begin(NULL, 0);
	struct snest_translation t;

	(void)state;
	/* As large as the memory allows: 1 GiB of it. */
	expect_host(f, GUEST_DATA + 0x1234567, SNEST_WRITE, GUEST_HOST + 0x1234567,
	            0x40000000 - 0x1234567, SNEST_RIGHTS);
	expect_host(f, GUEST_READONLY + 5, SNEST_READ, 0x6000000005, 0x20000000 - 5,
	            SNEST_READ | SNEST_EXEC);
	expect_fault(f, GUEST_READONLY + 5, SNEST_WRITE, SNEST_FAULT_WRITE);
	snest_read_begin();
	assert_int_equal(snest_translate(f->device, UINT64_MAX, SNEST_READ, &t, NULL), 0);
	snest_read_end();
	assert_int_equal(t.outcome, SNEST_WALK_GPA);
	assert_true(t.host == UINT64_MAX && t.length == 1);
	end(f);
}

static void test_upper_half(void **state)
{
	static const char *const names[] = {"x86-64 WP NX", "riscv64 Sv39",
	                                    "arm-s1 4K 39, both halves", "amd-v1 mode 6"};
	static const uint64_t attr[] = {USER, USER, USER, 0};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = begin(names[i], 0);
		uint32_t rights = i == 0 || i == 1 ? RW : i == 3 ? SNEST_RIGHTS : RW;
		uint64_t top = 0 - 0x1000ull;

		guest_map(&f->guest, 0, 0, 0xfff, GUEST_DATA, RW, (uint32_t)attr[i], 12, false);
		expect_host(f, 0, SNEST_WRITE, GUEST_HOST, 0x1000, rights);
		expect_fault(f, top, SNEST_READ, SNEST_FAULT_NOT_PRESENT);
		if (guest_cell(&f->guest, 0, top)) {
			guest_map(&f->guest, 0, top, UINT64_MAX, GUEST_DATA + 0x7000, RW,
			          (uint32_t)attr[i], 12, false);
		} else {
			/* Its window is elsewhere; the lowest address of the upper half will do. */
			top = f->guest.table[0].window[f->guest.table[0].windows - 1].first;
			guest_map(&f->guest, 0, top, top + 0xfff, GUEST_DATA + 0x7000, RW,
			          (uint32_t)attr[i], 12, false);
		}
		expect_host(f, top + 0xffe, SNEST_WRITE, GUEST_HOST + 0x7ffe, 2, rights);
		expect_host(f, 0, SNEST_READ, GUEST_HOST, 0x1000, rights);
		if (top + 0x1000 == 0)
			assert_int_equal(snest_space_invalidate(f->space, top, UINT64_MAX, 0), 0);
		expect_host(f, top, SNEST_READ, GUEST_HOST + 0x7000, 0x1000, rights);
		end(f);
	}
}

/* The host's memory is aligned worse than the guest's page. */
static void test_host_pages_smaller_than_the_guests(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0x3000);

	(void)state;
	guest_map(&f->guest, 0, 0x200000, 0x3fffff, GUEST_DATA + 0x200000, RW, 0, 21, false);
	expect_host(f, 0x200000, SNEST_READ, GUEST_HOST + 0x203000, 0x1000, SNEST_RIGHTS);
	expect_host(f, 0x3ff000, SNEST_READ, GUEST_HOST + 0x402000, 0x1000, SNEST_RIGHTS);
	end(f);
}

static void test_leaf_sizes_between_levels(void **state)
{
	struct fixture *f = begin("arm-s1 16K 48 and 47", 0);
	uint64_t before;

	(void)state;
	guest_map(&f->guest, 0, 0x4000, 0x7fff, GUEST_DATA + 0x4000, RW, USER, 14, false);
	expect_host(f, 0x4000, SNEST_READ, GUEST_HOST + 0x4000, 0x4000, RW);
	/* All four leaves came with the first. */
	before = misses(f);
	expect_host(f, 0x7abc, SNEST_READ, GUEST_HOST + 0x7abc, 0x544, RW);
	assert_int_equal(misses(f), before);
	end(f);
}

/* ---- Batches and ranges -------------------------------------------------------- */

static void test_batch(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_translation t[50];
	uint64_t iova[50];

	(void)state;
	for (unsigned i = 0; i < 25; i++)
		guest_map(&f->guest, 0, 0x10000 + i * 0x2000ull, 0x10fff + i * 0x2000ull,
		          GUEST_DATA + i * 0x5000ull, RW, 0, 12, false);
	for (unsigned i = 0; i < 50; i++)
		iova[i] = i == 33 ? 0xffff000000001000 : 0x10000 + (49 - i) * 0x1000ull + i;
	for (unsigned again = 0; again < 2; again++) {
		memset(t, 0xff, sizeof(t));
		snest_read_begin();
		assert_int_equal(snest_translate_batch(f->device, iova, 50, SNEST_READ, t), 24);
		snest_read_end();
		for (unsigned i = 0; i < 50; i++) {
			bool mapped = (49 - i) % 2 == 0 && i != 33;

			assert_int_equal(t[i].outcome, mapped ? SNEST_WALK_HOST : SNEST_WALK_FAULT);
			if (!mapped)
				continue;
			assert_true(t[i].host == GUEST_HOST + (49 - i) / 2 * 0x5000ull + i);
			assert_int_equal(t[i].length, 0x1000 - i);
		}
	}
	assert_int_equal(snest_translate_batch(f->device, iova, 0, SNEST_READ, t), 0);
	assert_int_equal(snest_device_bind(f->device, SNEST_NO_PASID, NULL), 0);
	snest_read_begin();
	assert_int_equal(snest_translate_batch(f->device, iova, 50, SNEST_READ, t), 0);
	snest_read_end();
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(t[i].outcome, SNEST_WALK_FAULT);
	end(f);
}

static void test_scatter(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_host_range r[4];
	struct snest_fault fault;
	uint64_t done;

	(void)state;
	/* Pages 0 and 1 contiguous, 2 elsewhere, 3 without memory, 4 nothing. */
	guest_map(&f->guest, 0, 0x10000, 0x11fff, GUEST_DATA, RW, 0, 12, false);
	guest_map(&f->guest, 0, 0x12000, 0x12fff, GUEST_DATA + 0x9000, SNEST_READ, 0, 12, false);
	guest_map(&f->guest, 0, 0x13000, 0x13fff, GUEST_HOLE, RW, 0, 12, false);
	snest_read_begin();
	assert_int_equal(snest_scatter(f->device, 0x10010, 0x2000, SNEST_READ, r, 4, &done, &fault),
	                 2);
	assert_int_equal(done, 0x2000);
	assert_int_equal(fault.reason, SNEST_FAULT_NONE);
	assert_true(r[0].host == GUEST_HOST + 0x10 && r[0].length == 0x1ff0);
	assert_true(r[1].host == GUEST_HOST + 0x9000 && r[1].length == 0x10);
	/* The list is full: no fault. */
	assert_int_equal(snest_scatter(f->device, 0x10010, 0x2000, SNEST_READ, r, 1, &done, &fault),
	                 1);
	assert_int_equal(done, 0x1ff0);
	assert_int_equal(fault.reason, SNEST_FAULT_NONE);
	assert_int_equal(snest_scatter(f->device, 0x10000, 1, SNEST_READ, r, 0, &done, &fault), 0);
	assert_int_equal(done, 0);
	/* It stops at the first byte that may not be written, ... */
	assert_int_equal(
		snest_scatter(f->device, 0x11800, 0x1000, SNEST_WRITE, r, 4, &done, &fault), 1);
	assert_int_equal(done, 0x800);
	assert_int_equal(fault.reason, SNEST_FAULT_WRITE);
	/* ... that has no memory, ... */
	assert_int_equal(snest_scatter(f->device, 0x12800, 0x1000, SNEST_READ, r, 4, &done, &fault),
	                 1);
	assert_int_equal(done, 0x800);
	assert_int_equal(fault.reason, SNEST_FAULT_NO_HOST);
	assert_true(fault.iova == 0x13000);
	/* ... or that is not there. */
	assert_int_equal(snest_scatter(f->device, 0x14000, 1, SNEST_READ, r, 4, &done, &fault), 0);
	assert_int_equal(done, 0);
	assert_int_equal(fault.reason, SNEST_FAULT_NOT_PRESENT);
	assert_int_equal(snest_scatter(f->device, 0x10000, 0, SNEST_READ, r, 4, &done, &fault), 0);
	assert_int_equal(done, 0);
	snest_read_end();
	end(f);
}

static void test_scatter_at_the_end_of_addresses(void **state)
{
	struct fixture *f = begin("amd-v1 mode 6", 0);
	struct snest_host_range r[4];
	struct snest_fault fault;
	uint64_t done, top = 0 - 0x2000ull;

	(void)state;
	guest_map(&f->guest, 0, top, UINT64_MAX, GUEST_DATA, RW, 0, 12, false);
	guest_map(&f->guest, 0, 0, 0xfff, GUEST_DATA + 0x2000, RW, 0, 12, false);
	snest_read_begin();
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(snest_scatter(f->device, top + 0x800, i ? 0x4000 : UINT64_MAX,
		                               SNEST_READ, r, 4, &done, &fault),
		                 1);
		assert_int_equal(done, 0x1800);
		assert_true(r[0].host == GUEST_HOST + 0x800 && r[0].length == 0x1800);
	}
	snest_read_end();
	end(f);
}

/* ---- Copies ------------------------------------------------------------------------- */

static int slow_read(void *opaque, uint64_t gpa, void *buf, size_t length)
{
	memcpy(buf, (char *)opaque + (gpa - 0x5000000), length);
	return 0;
}

static int slow_write(void *opaque, uint64_t gpa, const void *buf, size_t length)
{
	memcpy((char *)opaque + (gpa - 0x5000000), buf, length);
	return 0;
}

static void test_dma(void **state)
{
	struct fixture *f = begin("vtd-ss 3 levels", 0);
	struct snest_accessors accessors = {.read = slow_read, .write = slow_write};
	struct snest_region region = {.size = sizeof(region), .first = 0x4000000};
	char out[0x5000], in[0x5000];
	struct snest_fault fault;
	size_t done;
	char *ram;

	(void)state;
	ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(ram != MAP_FAILED);
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 7 + i / 256);
	/* Plain memory, memory whose host address is no pointer, and memory behind functions. */
	region.last = region.first + 0xffff;
	region.host = (uintptr_t)ram;
	region.mapping = ram;
	assert_int_equal(snest_memory_add(f->guest.vm, &region), 0);
	region.first = 0x4800000;
	region.last = region.first + 0xffff;
	region.host = 0x9990000000;
	region.mapping = ram + 0x10000;
	assert_int_equal(snest_memory_add(f->guest.vm, &region), 0);
	region.first = 0x5000000;
	region.last = region.first + 0xffff;
	region.host = 0x9991000000;
	region.mapping = NULL;
	accessors.opaque = ram + 0x20000;
	region.accessors = &accessors;
	assert_int_equal(snest_memory_add(f->guest.vm, &region), 0);
	guest_map(&f->guest, 0, 0x10000, 0x10fff, 0x4003000, RW, 0, 12, false);
	guest_map(&f->guest, 0, 0x11000, 0x12fff, 0x4804000, RW, 0, 12, false);
	guest_map(&f->guest, 0, 0x13000, 0x13fff, 0x5007000, RW, 0, 12, false);
	guest_map(&f->guest, 0, 0x14000, 0x14fff, GUEST_DATA, RW, 0, 12, false);

	for (unsigned again = 0; again < 2; again++) {
		memset(ram, 0, RAM_BYTES);
		assert_int_equal(snest_dma_write(f->device, SNEST_NO_PASID, 0x10801, out, 0x37ff,
		                                 &done, &fault),
		                 0);
		assert_int_equal(done, 0x37ff);
		assert_memory_equal(ram + 0x3801, out, 0x7ff);
		assert_memory_equal(ram + 0x14000, out + 0x7ff, 0x2000);
		assert_memory_equal(ram + 0x27000, out + 0x27ff, 0x1000);
		memset(in, 0, sizeof(in));
		assert_int_equal(
			snest_dma_read(f->device, SNEST_NO_PASID, 0x10801, in, 0x37ff, &done, NULL),
			0);
		assert_memory_equal(in, out, 0x37ff);
	}
	/* Behind it lies memory that cannot be reached, and behind that nothing. */
	assert_int_equal(
		snest_dma_read(f->device, SNEST_NO_PASID, 0x13ff0, in, 0x20, &done, &fault),
		-EFAULT);
	assert_int_equal(done, 0x10);
	assert_int_equal(snest_dma_read(f->device, SNEST_NO_PASID, 0x15000, in, 1, &done, &fault),
	                 -EACCES);
	assert_int_equal(fault.reason, SNEST_FAULT_NOT_PRESENT);
	assert_int_equal(snest_dma_read(f->device, SNEST_NO_PASID, 0x15000, in, 0, NULL, NULL), 0);
	assert_int_equal(snest_dma_read(f->device, 9, 0x10000, in, 1, NULL, &fault), -EACCES);
	assert_int_equal(fault.reason, SNEST_FAULT_BLOCKED);
	end(f);
	munmap(ram, RAM_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_address_and_length),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_privileges_do_not_mix),
		cmocka_unit_test(test_privileged_writes_do_not_leak),
		cmocka_unit_test(test_hazard_30_first_write_sets_dirty),
		cmocka_unit_test(test_hazard_29_one_table_two_parents),
		cmocka_unit_test(test_no_host_memory),
		cmocka_unit_test(test_no_host_memory_ends_where_memory_begins),
		cmocka_unit_test(test_pass_through),
		cmocka_unit_test(test_upper_half),
		cmocka_unit_test(test_host_pages_smaller_than_the_guests),
		cmocka_unit_test(test_leaf_sizes_between_levels),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_scatter),
		cmocka_unit_test(test_scatter_at_the_end_of_addresses),
		cmocka_unit_test(test_dma),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
