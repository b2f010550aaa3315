/* SPDX-License-Identifier: MIT */
/*
 * Saved states of a VT-d unit: bytes are a blob, or changes to a good one.
 *
 * Input: two bytes that choose the unit and how the rest is read: as a blob, or
 * as actions of 12 bytes that write registers and memory before the state is
 * saved, and then bend what was saved. A bent blob gets its checksum right where
 * the input says so, as a hostile one would have it. Properties: a restore
 * refuses and changes nothing, or gives a unit whose state is taken back by any
 * unit like it and is then saved the same; a good blob is never refused.
 */
#include <errno.h>
#include <snest/vtd.h>
#include "actions.h"
#include "vm.h"

#define RAM_BYTES (1u << 14)
#define BLOB_MAX 8192
#define ACTIONS_MAX 24

enum action {
	A_REGISTER,
	A_MEMORY,
	A_WORD, /* of the blob: replaced, */
	A_BIT,  /* bent, */
	A_ADD,  /* added to, */
	A_CUT,  /* or not there */
	A_COUNT
};

static _Alignas(4096) uint64_t ram[RAM_BYTES / 8];
static struct fuzz_vm f;

#define SCALABLE (SNEST_VTD_QUEUE | SNEST_VTD_SCALABLE)

static const uint32_t features[] = {
	SNEST_VTD_QUEUE | SNEST_VTD_CACHING_MODE | SNEST_VTD_PASS_THROUGH,
	SCALABLE | SNEST_VTD_FIRST_STAGE | SNEST_VTD_SECOND_STAGE | SNEST_VTD_NESTED |
		SNEST_VTD_DEVICE_TLB | SNEST_VTD_PAGE_REQUESTS,
	SNEST_VTD_PROTECTED_MEMORY | SNEST_VTD_PASS_THROUGH,
	SNEST_VTD_QUEUE | SNEST_VTD_INTERRUPTS | SNEST_VTD_PROTECTED_MEMORY,
};

static void create(void)
{
	struct snest_region region = {
		.size = sizeof(region),
		.last = RAM_BYTES - 1,
		.host = 0x100000000000ull,
		.mapping = ram,
	};

	fuzz_vm_create(&f);
	if (snest_memory_add(f.vm, &region))
		fuzz_check(0, "no memory");
	fuzz_vm_mark(&f);
}

static struct snest_vtd *unit(unsigned kind)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.features = features[kind % 4],
		.flags = kind & 4 ? SNEST_VTD_SYNC : 0,
		.haw_bits = 48,
		.fault_records = 1 + kind / 8 % 4,
		.pasid_bits = features[kind % 4] & SNEST_VTD_SCALABLE ? 8 : 0,
	};
	struct snest_vtd *vtd;
	const char *why = "";

	if (snest_vtd_create(f.vm, &config, &vtd, &why))
		fuzz_check(0, "snest_vtd_create: %s", why);
	return vtd;
}

/* A queue goes on after a restore, a fence or a wait without room at a time. */
static void rest(struct snest_vtd *vtd)
{
	unsigned rounds = 0;

	do {
		sn_reclaim_help(&f.vm->reclaim);
		fuzz_check(rounds++ < RAM_BYTES / 16, "a queue does not come to rest");
	} while (snest_vtd_run(vtd) == -EAGAIN || sn_reclaim_pending(&f.vm->reclaim));
}

static size_t save(struct snest_vtd *vtd, uint8_t *blob)
{
	size_t length = 0;
	int ret = snest_vtd_save(vtd, NULL, &length);

	fuzz_check(ret == -ENOSPC && length && length <= BLOB_MAX, "the size of a blob: %d", ret);
	rest(vtd);
	ret = snest_vtd_save(vtd, blob, &length);
	fuzz_check(!ret, "save: %d", ret);
	return length;
}

/* The last word: FNV-1a of all before. */
static void put_checksum(uint8_t *blob, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i + 8 < length; i++)
		hash = (hash ^ blob[i]) * 0x100000001b3ull;
	if (length >= 8)
		fuzz_put(blob + length - 8, 8, hash);
}

static void before(struct snest_vtd *vtd, const uint8_t *a)
{
	uint64_t where = fuzz_get(a + 1, 2), value = fuzz_get(a + 4, 8);

	if (a[0] % A_COUNT == A_REGISTER)
		snest_vtd_write(vtd, where % 4096, a[3] ? 1 + a[3] % 8u : 8, value);
	else if (a[0] % A_COUNT == A_MEMORY)
		ram[where % (RAM_BYTES / 8)] = value;
}

static size_t bend(uint8_t *blob, size_t length, const uint8_t *a)
{
	size_t at = fuzz_get(a + 1, 2) % (length / 8 ? length / 8 : 1) * 8;
	uint64_t value = fuzz_get(a + 4, 8), word;

	if (length < 8)
		return length;
	word = fuzz_get(blob + at, 8);
	switch (a[0] % A_COUNT) {
	case A_WORD:
		word = value;
		break;
	case A_BIT:
		word ^= 1ull << a[3] % 64;
		break;
	case A_ADD:
		word += value;
		break;
	case A_CUT:
		return a[3] ? at : length + 8 <= BLOB_MAX ? length + 8 : length;
	default:
		return length;
	}
	fuzz_put(blob + at, 8, word);
	return length;
}

/* Restores, and looks at what came of it. */
static void restore(struct snest_vtd *vtd, unsigned kind, const uint8_t *blob, size_t length,
                    const uint8_t *good, size_t good_length)
{
	static uint8_t now[BLOB_MAX], again[BLOB_MAX];
	bool same = length == good_length && !memcmp(blob, good, length);
	struct snest_vtd *other;
	size_t now_length;
	int ret = snest_vtd_restore(vtd, blob, length);

	fuzz_check(!ret || (ret == -EINVAL && !same), "restore: %d", ret);
	now_length = save(vtd, now);
	fuzz_check(now_length == good_length, "a blob of another length");
	if (ret) {
		fuzz_check(!memcmp(now, good, good_length), "a restore that failed left a trace");
		return;
	}
	fuzz_check(!same || !memcmp(now, good, good_length), "a state comes back as another");
	ret = snest_vtd_restore(vtd, now, now_length);
	fuzz_check(!ret, "restore of what was saved: %d", ret);
	save(vtd, again);
	fuzz_check(!memcmp(now, again, now_length), "a state does not stay the same");
	other = unit(kind);
	ret = snest_vtd_restore(other, now, now_length);
	fuzz_check(!ret, "restore into another unit: %d", ret);
	save(other, again);
	fuzz_check(!memcmp(now, again, now_length), "a state is another one in another unit");
	snest_vtd_destroy(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t good[BLOB_MAX], blob[BLOB_MAX + 8];
	unsigned kind = size ? data[0] : 0, how = size > 1 ? data[1] : 0;
	size_t good_length, length;
	struct snest_vtd *vtd;

	if (!f.vm)
		create();
	vtd = unit(kind);
	if (!(how & 1)) {
		for (size_t at = 2, n = 0; at + 12 <= size && n < ACTIONS_MAX; at += 12, n++)
			before(vtd, data + at);
	}
	good_length = length = save(vtd, good);
	memcpy(blob, good, length);
	if (how & 1) {
		length = size > 2 ? size - 2 : 0;
		length = length < BLOB_MAX ? length : BLOB_MAX;
		memcpy(blob, data + 2, length);
	} else {
		for (size_t at = 2, n = 0; at + 12 <= size && n < ACTIONS_MAX; at += 12, n++)
			length = bend(blob, length, data + at);
	}
	if (how & 2)
		put_checksum(blob, length);
	restore(vtd, kind, blob, length, good, good_length);
	snest_vtd_destroy(vtd);
	fuzz_vm_check_clean(&f);
	memset(ram, 0, sizeof(ram));
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

static const struct fuzz_actions shape = {
	.header = 2, .length = 12, .kinds = A_COUNT, .max = ACTIONS_MAX};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	/* Whole blobs are bytes. */
	if (size > 2 && (data[1] & 1))
		return 2 + LLVMFuzzerMutate(data + 2, size - 2, max_size - 2);
	return fuzz_actions_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_actions_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}

static size_t add(uint8_t *data, size_t size, unsigned kind, unsigned where, unsigned more,
                  uint64_t value)
{
	data[size] = (uint8_t)kind;
	fuzz_put(data + size + 1, 2, where);
	data[size + 3] = (uint8_t)more;
	fuzz_put(data + size + 4, 8, value);
	return size + 12;
}

/* Each word of the blob bent, of a unit that is in use; then whole blobs. */
size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	size_t size = 2;

	if (n >= 72 || max_size < BLOB_MAX + 2)
		return 0;
	data[0] = (uint8_t)(n * 5);
	data[1] = n % 9 ? 2 : 0;
	if (n >= 64) {
		struct snest_vtd *vtd;

		data[0] = (uint8_t)(n * 4 + n % 4);
		data[1] = n & 1 ? 3 : 1;
		if (!f.vm)
			create();
		vtd = unit(data[0]);
		size += save(vtd, data + 2);
		snest_vtd_destroy(vtd);
		return size;
	}
	size = add(data, size, A_MEMORY, 0x2000 / 8, 0, 0x11);
	size = add(data, size, A_MEMORY, 0x2010 / 8, 0, 0x700000025);
	size = add(data, size, A_MEMORY, 0x2018 / 8, 0, 0x100);
	size = add(data, size, A_REGISTER, 0x20, 0, 0x1000 | (n & 1 ? 0x400 : 0));
	size = add(data, size, A_REGISTER, 0x18, 4, 0x40000000);
	size = add(data, size, A_REGISTER, 0x90, 0, 0x2000);
	size = add(data, size, A_REGISTER, 0x18, 4, 0x84000000);
	size = add(data, size, A_REGISTER, 0x88, 0, n % 3 ? 0x20 : 0x40);
	return add(data, size, n % 4 == 0 ? A_CUT : A_WORD + n % 3, n, n / 4, 1ull << n);
}
