/* SPDX-License-Identifier: MIT */
/*
 * The VM that action targets work on: made once, given back as it was after
 * each input. It has no background thread (core/reclaim.h), so an input means
 * the same every time, and deferred work runs when the input says so. Its
 * allocator counts, and fails where it is told to.
 */
#ifndef FUZZ_VM_H
#define FUZZ_VM_H

#include <snest/space.h>
#include <snest/vm.h>
#include "core/vm.h"
#include "fuzz.h"

struct fuzz_vm {
	struct snest_vm *vm;
	uint64_t fail;                       /* the n-th allocation from now fails; 0: none */
	bool failed;                         /* one did, since it was last cleared */
	uint64_t objects, bytes;             /* live */
	uint64_t clean_objects, clean_bytes; /* the same when nothing is in use */
};

static void *fuzz_vm_alloc(void *opaque, size_t size, size_t align)
{
	struct fuzz_vm *f = opaque;
	void *ptr;

	if (f->fail && --f->fail == 0) {
		f->failed = true;
		return NULL;
	}
	if (align <= 16)
		ptr = malloc(size);
	else if (posix_memalign(&ptr, align, size))
		ptr = NULL;
	if (!ptr)
		return NULL;
	/* Not zero, as far as a forgotten clear would show. */
	memset(ptr, 0xa5, size < 256 ? size : 256);
	f->objects++;
	f->bytes += size;
	return ptr;
}

static void fuzz_vm_free(void *opaque, void *ptr, size_t size)
{
	struct fuzz_vm *f = opaque;

	f->objects--;
	f->bytes -= size;
	free(ptr);
}

static void fuzz_vm_log(void *opaque, enum snest_log_level level, const char *line)
{
	(void)opaque;
	(void)level;
	(void)line;
}

static uint64_t fuzz_vm_now(void *opaque)
{
	(void)opaque;
	return 0;
}

/* The chunks of the page pool stay with the VM. */
static void fuzz_vm_count(struct fuzz_vm *f, uint64_t *objects, uint64_t *bytes)
{
	uint64_t pool = f->vm->pool.bytes_held;

	*objects = f->objects - pool / SN_POOL_CHUNK;
	*bytes = f->bytes - pool;
}

/* What is there now is what has to be there when an input has ended. */
static void fuzz_vm_mark(struct fuzz_vm *f)
{
	sn_reclaim_help(&f->vm->reclaim);
	fuzz_vm_count(f, &f->clean_objects, &f->clean_bytes);
}

static void fuzz_vm_create(struct fuzz_vm *f)
{
	struct snest_hooks hooks = {
		.size = sizeof(hooks),
		.opaque = f,
		.alloc = fuzz_vm_alloc,
		.free = fuzz_vm_free,
		.log = fuzz_vm_log,
		.now_ns = fuzz_vm_now,
	};
	struct snest_vm_config config = {.size = sizeof(config), .hooks = &hooks};

	memset(f, 0, sizeof(*f));
	sn_reclaim_threadless = true;
	if (snest_vm_create(&config, &f->vm) || snest_drain(f->vm, 0))
		fuzz_check(0, "no VM");
	fuzz_vm_mark(f);
}

/* Nothing that an input made is left. */
static void fuzz_vm_check_clean(struct fuzz_vm *f)
{
	struct snest_shadow_stats now = {.size = sizeof(now)};
	uint64_t objects, bytes;

	sn_reclaim_help(&f->vm->reclaim);
	fuzz_check(!sn_reclaim_pending(&f->vm->reclaim), "deferred work is left");
	fuzz_check(!snest_shadow_stats(f->vm, &now), "no statistics");
	fuzz_check(!now.spaces && !now.mirrors && !now.tracked_pages && !now.drains_waiting &&
	                   !now.pins_held,
	           "%llu spaces, %llu mirrors, %llu tracked pages, %llu drains, %llu pins are left",
	           (unsigned long long)now.spaces, (unsigned long long)now.mirrors,
	           (unsigned long long)now.tracked_pages, (unsigned long long)now.drains_waiting,
	           (unsigned long long)now.pins_held);
	fuzz_check(!f->vm->pool.bytes_used, "%llu bytes of tables are left",
	           (unsigned long long)f->vm->pool.bytes_used);
	fuzz_vm_count(f, &objects, &bytes);
	fuzz_check(objects == f->clean_objects && bytes == f->clean_bytes,
	           "%llu objects, %llu bytes; before: %llu, %llu", (unsigned long long)objects,
	           (unsigned long long)bytes, (unsigned long long)f->clean_objects,
	           (unsigned long long)f->clean_bytes);
}

#endif
