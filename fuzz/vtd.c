/* SPDX-License-Identifier: MIT */
/*
 * The VT-d unit: bytes become register accesses of all sizes, writes to guest
 * memory, descriptors, requests, and saves that are restored, whole or damaged.
 *
 * Input: one byte that chooses the capabilities, then actions of 16 bytes.
 * Properties: a register access never fails; a call ends (work is bounded); a
 * blob that was saved is taken back; and after a global invalidation nothing
 * stale is left: every request then gives what a fresh reading of the
 * structures and tables gives.
 */
#include <errno.h>
#include <snest/device.h>
#include <snest/vtd.h>
#include "actions.h"
#include "support/fail.h"

#define RAM_BYTES (1u << 16)
#define HOST 0x100000000000ull
#define ACTIONS_MAX 48
#define BLOB_MAX 65536

enum action {
	A_WRITE,
	A_READ,
	A_MEMORY,
	A_DESCRIPTOR,
	A_REQUEST,
	A_SAVE,
	A_FLUSH,
	A_RUN,
	A_COUNT
};

static struct test_fail hooks;
static struct snest_vm *vm;
static struct snest_vtd *vtd;
static _Alignas(4096) uint64_t ram[RAM_BYTES / 8];

/* Registers that do something. */
static const uint16_t registers[] = {0x18, 0x20,  0x28,  0x34,  0x38,  0x3c,  0x40, 0x64, 0x80,
                                     0x88, 0x90,  0x9c,  0xa0,  0xb8,  0xc0,  0xc8, 0xd0, 0xdc,
                                     0xe0, 0x100, 0x108, 0x220, 0x228, 0xe00, 0xe08};

static uint64_t read_register(uint64_t offset, unsigned size)
{
	uint64_t value;
	int ret = snest_vtd_read(vtd, offset, size, &value);

	fuzz_check(!ret, "read of %u bytes at 0x%llx: %d", size, (unsigned long long)offset, ret);
	fuzz_check(size == 8 || !(value >> size * 8), "too many bits");
	return value;
}

static void write_register(uint64_t offset, unsigned size, uint64_t value)
{
	int ret = snest_vtd_write(vtd, offset, size, value);

	fuzz_check(!ret, "write of %u bytes at 0x%llx: %d", size, (unsigned long long)offset, ret);
}

static int request(uint32_t rid, uint32_t pasid, uint64_t iova, uint32_t access,
                   struct snest_translation *t)
{
	struct snest_fault fault;
	int ret;

	snest_read_begin();
	ret = snest_vtd_translate(vtd, rid, pasid, iova, access, t, &fault);
	snest_read_end();
	fuzz_check(!ret || ret == -EACCES, "translate: %d", ret);
	return ret;
}

static void flush(uint64_t root, uint32_t rid, uint32_t pasid, uint64_t iova, uint32_t access)
{
	static const uint64_t all[][2] = {{0x11, 0}, {0x37, 0}, {0x12, 0}};
	struct snest_vtd_registers reg = {.size = sizeof(reg), .haw = 48, .rtaddr = root};
	struct snest_request fresh = {
		.size = sizeof(fresh),
		.rid = rid,
		.pasid = pasid,
		.access = access,
		.flags = SNEST_REQUEST_NO_UPDATE,
		.iova = iova,
	};
	enum snest_vtd_queue_error error;
	struct snest_context context;
	struct snest_translation t;
	struct snest_walk walk;
	int ret, ret2;

	snest_vtd_set_root(vtd, root);
	snest_vtd_enable(vtd, true);
	for (unsigned i = 0; i < 3; i++) {
		size_t count = 1;

		ret = snest_vtd_invalidate(vtd, all[i], 16, &count, &error);
		fuzz_check(!ret || i == 1 || ret == -EINVAL, "invalidate: %d", ret);
		if (ret && i != 1)
			return;
	}
	/* The interrupt range is the unit's. */
	if (iova >> 20 == 0xfee)
		return;
	reg.cap = read_register(8, 8);
	reg.ecap = read_register(16, 8);
	ret2 = request(rid, pasid, iova, access, &t);
	ret = snest_vtd_context(vm, &reg, &fresh, &context);
	if (ret || snest_context_walk(vm, &context, &fresh, &walk))
		return;
	fuzz_check(!ret2 == (walk.outcome != SNEST_WALK_FAULT),
	           "0x%llx: %d; fresh: outcome %u, reason %u, code 0x%x", (unsigned long long)iova,
	           ret2, walk.outcome, walk.fault.reason, walk.fault.code);
	if (!ret2)
		fuzz_check(t.outcome == walk.outcome &&
		                   t.host ==
		                           (walk.outcome == SNEST_WALK_HOST ? walk.host : walk.gpa),
		           "0x%llx is stale: 0x%llx, fresh 0x%llx", (unsigned long long)iova,
		           (unsigned long long)t.host, (unsigned long long)walk.host);
}

static void save(uint64_t damage)
{
	static uint8_t blob[BLOB_MAX];
	size_t length = sizeof(blob);
	int ret = snest_vtd_save(vtd, blob, &length);

	fuzz_check(!ret, "save: %d", ret);
	if (damage & 1) {
		size_t at = (size_t)(damage >> 8) % length;

		blob[at] ^= (uint8_t)(damage >> 1 & 0x7f);
		ret = snest_vtd_restore(vtd, blob, damage & 0x80 ? at : length);
		fuzz_check(!ret || ret == -EINVAL, "restore: %d", ret);
	} else {
		ret = snest_vtd_restore(vtd, blob, length);
		fuzz_check(!ret, "restore of what was saved: %d", ret);
	}
}

static void act(const uint8_t *a)
{
	unsigned size = 1 + a[1] % 8u;
	uint64_t where = fuzz_get(a + 2, 2), value = fuzz_get(a + 8, 8), iqa;
	uint64_t offset = a[4] & 0x80 ? where : registers[where % (sizeof(registers) / 2)];
	uint32_t rid = a[5] & 0x83, access = 1 + a[1] % 3u;
	uint32_t pasid = a[6] & 1 ? a[6] / 2u : SNEST_NO_PASID;
	struct snest_translation t;

	switch (a[0] % A_COUNT) {
	case A_WRITE:
		write_register(offset, a[4] & 1 ? size : 8, value);
		break;
	case A_READ:
		read_register(offset, size);
		break;
	case A_MEMORY:
		__atomic_store_n(&ram[where % (RAM_BYTES / 8)], value, __ATOMIC_RELAXED);
		break;
	case A_DESCRIPTOR:
		/* At the tail, which then moves. */
		iqa = read_register(0x90, 8);
		offset = read_register(0x88, 8) & 0x7fff0;
		if ((iqa & ~0xfffull) + offset + 16 <= RAM_BYTES) {
			memcpy((char *)ram + (iqa & ~0xfffull) + offset, &value, 8);
			memcpy((char *)ram + (iqa & ~0xfffull) + offset + 8, &where, 8);
		}
		offset += iqa & 0x800 ? 32 : 16;
		write_register(0x88, 8, offset & ((4096ull << (iqa & 7)) - 1));
		break;
	case A_REQUEST:
		request(rid, pasid, value, access, &t);
		break;
	case A_SAVE:
		save(value);
		break;
	case A_FLUSH:
		flush((where & 0xf) << 12 | (where & 0x10 ? 0x400 : 0), rid, pasid, value, access);
		break;
	default:
		snest_vtd_run(vtd);
	}
}

static void create(void)
{
	struct snest_vm_config config = {.size = sizeof(config)};
	struct snest_region region = {
		.size = sizeof(region),
		.last = RAM_BYTES - 1,
		.host = HOST,
		.mapping = ram,
	};

	test_fail_init(&hooks);
	config.hooks = &hooks.hooks;
	if (snest_vm_create(&config, &vm) || snest_memory_add(vm, &region))
		fuzz_check(0, "no VM");
}

static const uint32_t features[] = {
	SNEST_VTD_QUEUE | SNEST_VTD_CACHING_MODE | SNEST_VTD_PASS_THROUGH | SNEST_VTD_PAGE_2M,
	SNEST_VTD_QUEUE | SNEST_VTD_SCALABLE | SNEST_VTD_FIRST_STAGE | SNEST_VTD_SECOND_STAGE |
		SNEST_VTD_NESTED | SNEST_VTD_PASS_THROUGH,
	SNEST_VTD_QUEUE | SNEST_VTD_SCALABLE | SNEST_VTD_FIRST_STAGE | SNEST_VTD_FIRST_1G,
	SNEST_VTD_QUEUE | SNEST_VTD_SCALABLE | SNEST_VTD_SECOND_STAGE | SNEST_VTD_INTERRUPTS |
		SNEST_VTD_DEVICE_TLB | SNEST_VTD_PAGE_REQUESTS,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_SYNC,
		.haw_bits = 48,
		.budget = 8,
	};
	unsigned kind = size ? data[0] : 0;
	const char *why = "";

	if (!vm)
		create();
	memset(ram, 0, sizeof(ram));
	config.features = features[kind % 4];
	config.pasid_bits = config.features & SNEST_VTD_SCALABLE ? 8 : 0;
	if (snest_vtd_create(vm, &config, &vtd, &why))
		fuzz_check(0, "snest_vtd_create: %s", why);
	for (size_t at = 1, n = 0; at + 16 <= size && n < ACTIONS_MAX; at += 16, n++)
		act(data + at);
	snest_vtd_destroy(vtd);
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

static const struct fuzz_actions shape = {
	.header = 1, .length = 16, .kinds = A_COUNT, .max = ACTIONS_MAX};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	return fuzz_actions_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_actions_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}

static size_t add(uint8_t *data, size_t size, unsigned kind, unsigned where, uint64_t value)
{
	memset(data + size, 0, 16);
	data[size] = (uint8_t)kind;
	fuzz_put(data + size + 2, 2, where);
	fuzz_put(data + size + 8, 8, value);
	return size + 16;
}

/* Tables for device 0 in both modes, a queue, translation on, a request, a flush. */
size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	bool scalable = n & 1;
	size_t size = 1;

	if (n >= 8 || max_size < 1 + 24 * 16)
		return 0;
	data[0] = (uint8_t)(n / 2 % 4);
	size = add(data, size, A_MEMORY, 0x1000 / 8, 0x2001);
	size = add(data, size, A_MEMORY, 0x2000 / 8, scalable ? 0x3001 : 0x5001);
	size = add(data, size, A_MEMORY, 0x2008 / 8, scalable ? 0 : 0x102);
	size = add(data, size, A_MEMORY, 0x3000 / 8, 0x4001);
	size = add(data, size, A_MEMORY, 0x4000 / 8, 0x5000 | 2 << 2 | 2 << 6 | 1);
	size = add(data, size, A_MEMORY, 0x4008 / 8, 1);
	size = add(data, size, A_MEMORY, 0x4010 / 8, 0x5001);
	for (unsigned i = 5; i < 8; i++)
		size = add(data, size, A_MEMORY, i * 512, (i + 1) * 4096 | 3);
	size = add(data, size, A_MEMORY, 8 * 512, 0x9003);
	size = add(data, size, A_WRITE, 1, scalable ? 0x1400 : 0x1000);
	size = add(data, size, A_WRITE, 0, 0x40000000);
	size = add(data, size, A_WRITE, 10, 0xa000);
	size = add(data, size, A_WRITE, 0, 0x84000000);
	size = add(data, size, A_REQUEST, 0, 0x123);
	size = add(data, size, A_DESCRIPTOR, 0xb000, 0x200000025);
	size = add(data, size, A_DESCRIPTOR, 0, 0x12);
	size = add(data, size, A_MEMORY, 8 * 512, 0xc003);
	size = add(data, size, A_FLUSH, scalable ? 0x11 : 1, 0x123);
	size = add(data, size, A_SAVE, 0, 0);
	return add(data, size, A_SAVE, 0, 0x1234503);
}
